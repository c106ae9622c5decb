//! Golden requests and answers of each API.

use serde_json::{Value, json};

use super::{
    of,
    shape::{Event, Fault, Read, Request, Step},
    testing::{APIS, question, schema, upstream},
};
use crate::{
    api::v1alpha1::{ModelApi, ModelCredentials, StructuredOutput, Time},
    core::{
        chain::signal::{Finish, Seen},
        money::Usage,
    },
    model::credentials::{Credentials, Keys},
};
use ModelApi::{AnthropicMessages, BedrockConverse, OpenAiChat, OpenAiResponses};
use StructuredOutput::{Native, Prompt, StrictTool};

fn request(api: ModelApi, structured_output: StructuredOutput, stream: bool) -> Request {
    of(api).request(&upstream(api, structured_output, stream), &question(&schema())).ok().unwrap()
}

fn body(api: ModelApi, structured_output: StructuredOutput, stream: bool) -> Value {
    serde_json::from_slice(&request(api, structured_output, stream).body).unwrap()
}

fn whole(api: ModelApi, body: &Value) -> Result<Read, Fault> {
    of(api).whole(body.to_string().as_bytes())
}

/// What a stream of `events` says; each is a type and its data, and the last one has to be the end.
fn streamed(api: ModelApi, events: &[(&str, &str)]) -> (Read, Vec<Step>) {
    let mut reader = of(api).reader();
    let steps = events.iter().map(|(name, data)| {
        let event = Event { name, exception: false, data: data.as_bytes() };
        reader.take(event).unwrap_or_else(|fault| panic!("{data}: {fault:?}"))
    });
    let steps: Vec<Step> = steps.collect();
    (reader.read().clone(), steps)
}

/// How a stream fails whose last event fails.
fn broken(api: ModelApi, events: &[(&str, &str)], exception: bool) -> (Fault, Read) {
    let mut reader = of(api).reader();
    let (last, before) = events.split_last().unwrap();
    for (name, data) in before {
        reader.take(Event { name, exception: false, data: data.as_bytes() }).unwrap();
    }
    let fault = reader.take(Event { name: last.0, exception, data: last.1.as_bytes() }).unwrap_err();
    (fault, reader.read().clone())
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn every_api_has_its_wire() {
    assert_eq!(APIS.map(|api| of(api).api()), APIS);
}

#[test]
fn each_api_is_asked_at_its_own_path() {
    let url = |api, stream| request(api, Native, stream).url.to_string();
    for stream in [false, true] {
        assert_eq!(url(AnthropicMessages, stream), "https://models.example/v1/messages");
        assert_eq!(url(OpenAiChat, stream), "https://models.example/chat/completions");
        assert_eq!(url(OpenAiResponses, stream), "https://models.example/responses");
    }
    assert_eq!(url(BedrockConverse, false), "https://models.example/model/vendor.model-1%3A0/converse");
    assert_eq!(url(BedrockConverse, true), "https://models.example/model/vendor.model-1%3A0/converse-stream");
}

#[test]
fn a_url_that_is_none_builds_no_request() {
    for url in ["", "models.example", "ftp://models.example", "https://", "http://[::1"] {
        for api in APIS {
            let upstream = crate::core::chain::spec::Upstream { url: url.into(), ..upstream(api, Native, false) };
            assert!(of(api).request(&upstream, &question(&schema())).is_err(), "{url} {api:?}");
        }
    }
}

#[test]
fn anthropic_is_asked_as_its_api_says() {
    let system = json!([{"type": "text", "text": "You diagnose.", "cache_control": {"type": "ephemeral"}}]);
    let messages = json!([{"role": "user", "content": "[1] a fact"}]);
    assert_eq!(
        body(AnthropicMessages, Native, true),
        json!({"model": "vendor.model-1:0", "max_tokens": 512, "stream": true, "system": system, "messages": messages,
            "output_config": {"format": {"type": "json_schema", "schema": schema()}}})
    );
    assert_eq!(
        body(AnthropicMessages, StrictTool, false),
        json!({"model": "vendor.model-1:0", "max_tokens": 512, "system": system, "messages": messages,
            "tools": [{"name": "diagnosis", "description": "Gives the answer. Call it exactly once.",
                "input_schema": schema(), "strict": true}],
            "tool_choice": {"type": "tool", "name": "diagnosis", "disable_parallel_tool_use": true}})
    );
    assert_eq!(request(AnthropicMessages, Native, true).headers.get("anthropic-version").unwrap(), "2023-06-01");
}

#[test]
fn openai_chat_is_asked_as_its_api_says() {
    let messages = json!([{"role": "system", "content": "You diagnose."}, {"role": "user", "content": "[1] a fact"}]);
    assert_eq!(
        body(OpenAiChat, Native, true),
        json!({"model": "vendor.model-1:0", "max_completion_tokens": 512, "messages": messages, "stream": true,
            "stream_options": {"include_usage": true}, "response_format": {"type": "json_schema",
                "json_schema": {"name": "diagnosis", "schema": schema(), "strict": true}}})
    );
    assert_eq!(
        body(OpenAiChat, StrictTool, false),
        json!({"model": "vendor.model-1:0", "max_completion_tokens": 512, "messages": messages,
            "tools": [{"type": "function", "function": {"name": "diagnosis",
                "description": "Gives the answer. Call it exactly once.", "parameters": schema(), "strict": true}}],
            "tool_choice": {"type": "function", "function": {"name": "diagnosis"}}, "parallel_tool_calls": false})
    );
}

#[test]
fn openai_responses_is_asked_as_its_api_says() {
    assert_eq!(
        body(OpenAiResponses, Native, true),
        json!({"model": "vendor.model-1:0", "max_output_tokens": 512, "instructions": "You diagnose.",
            "input": [{"role": "user", "content": "[1] a fact"}], "store": false, "stream": true,
            "text": {"format": {"type": "json_schema", "name": "diagnosis", "schema": schema(), "strict": true}}})
    );
    assert_eq!(
        body(OpenAiResponses, StrictTool, false),
        json!({"model": "vendor.model-1:0", "max_output_tokens": 512, "instructions": "You diagnose.",
            "input": [{"role": "user", "content": "[1] a fact"}], "store": false,
            "tools": [{"type": "function", "name": "diagnosis",
                "description": "Gives the answer. Call it exactly once.", "parameters": schema(), "strict": true}],
            "tool_choice": {"type": "function", "name": "diagnosis"}, "parallel_tool_calls": false})
    );
}

#[test]
fn bedrock_is_asked_as_its_api_says() {
    assert_eq!(
        body(BedrockConverse, Native, true),
        json!({"system": [{"text": "You diagnose."}],
            "messages": [{"role": "user", "content": [{"text": "[1] a fact"}]}],
            "inferenceConfig": {"maxTokens": 512}, "outputConfig": {"textFormat": {"type": "json_schema",
                "structure": {"jsonSchema": {"name": "diagnosis", "schema": schema().to_string()}}}}})
    );
    assert_eq!(
        body(BedrockConverse, StrictTool, false)["toolConfig"],
        json!({"tools": [{"toolSpec": {"name": "diagnosis", "description": "Gives the answer. Call it exactly once.",
                "inputSchema": {"json": schema()}, "strict": true}}],
            "toolChoice": {"tool": {"name": "diagnosis"}}})
    );
}

#[test]
fn in_the_prompt_the_schema_ends_the_system_text_and_no_field_holds_it() {
    for api in APIS {
        let native = body(api, Native, false);
        let prompt = body(api, Prompt, false);
        let text = prompt.to_string();
        assert_eq!(text.matches("additionalProperties").count(), 1, "{text}");
        assert!(text.contains("with nothing else"), "{text}");
        let fields = |body: &Value| body.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        let fewer: Vec<String> = fields(&native)
            .into_iter()
            .filter(|field| !["output_config", "response_format", "text", "outputConfig"].contains(&field.as_str()))
            .collect();
        assert_eq!(fields(&prompt), fewer);
    }
}

async fn keys(files: &[(&str, &str)], names: ModelCredentials) -> Keys {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("s")).unwrap();
    for (name, value) in files {
        std::fs::write(root.path().join("s").join(name), value).unwrap();
    }
    Credentials::new(root.path()).read(Some(&names)).await.unwrap()
}

fn names(secret_key: Option<&str>, session_key: Option<&str>) -> ModelCredentials {
    ModelCredentials {
        secret: "s".into(),
        key: "key".into(),
        secret_key: secret_key.map(str::to_owned),
        session_key: session_key.map(str::to_owned),
    }
}

#[tokio::test]
async fn a_key_goes_into_the_header_of_its_api_and_is_never_shown() {
    let token = keys(&[("key", "sk-1")], names(None, None)).await;
    for (api, header, value) in [
        (AnthropicMessages, "x-api-key", "sk-1"),
        (OpenAiChat, "authorization", "Bearer sk-1"),
        (OpenAiResponses, "authorization", "Bearer sk-1"),
        (BedrockConverse, "authorization", "Bearer sk-1"),
    ] {
        let mut request = request(api, Native, false);
        of(api).authorize(&mut request, &upstream(api, Native, false), &token, Time::UNIX_EPOCH).unwrap();
        assert_eq!(request.headers.get(header).unwrap(), value);
        assert!(!format!("{:?}", request.headers).contains("sk-1"));
    }
    let aws = keys(&[("key", "AKID"), ("secret", "s")], names(Some("secret"), None)).await;
    for api in [AnthropicMessages, OpenAiChat, OpenAiResponses] {
        let upstream = upstream(api, Native, false);
        assert!(of(api).authorize(&mut request(api, Native, false), &upstream, &aws, Time::UNIX_EPOCH).is_err());
    }
}

/// The signatures are those that botocore 1.44 makes of the same request at the same time.
#[tokio::test]
async fn bedrock_is_signed_as_botocore_signs() {
    let files =
        [("key", "AKIDEXAMPLE"), ("secret", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"), ("tok", "SESSIONTOKEN")];
    for (session, signed, signature) in [
        (None, "content-type;host;x-amz-date", "407dd6b12588b41dd8a29f4cca1ee5e077b2f4122685b33fe5e5918f4240b6fb"),
        (
            Some("tok"),
            "content-type;host;x-amz-date;x-amz-security-token",
            "9278f2c3dcaf9d8d8044cb687d158351e3aa2872c627744fdadc984b53c3e0e0",
        ),
    ] {
        let keys = keys(&files, names(Some("secret"), session)).await;
        let mut upstream = upstream(BedrockConverse, Native, false);
        upstream.url = "https://bedrock-runtime.us-east-1.amazonaws.com".into();
        upstream.model = "anthropic.claude-haiku-4-5-v1:0".into();
        let mut request = of(BedrockConverse).request(&upstream, &question(&schema())).ok().unwrap();
        request.body = br#"{"a":1}"#.to_vec();
        let now: Time = "2026-11-27T10:00:00Z".parse().unwrap();
        of(BedrockConverse).authorize(&mut request, &upstream, &keys, now).unwrap();
        assert_eq!(
            request.headers.get("authorization").unwrap().to_str().unwrap(),
            format!(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261127/us-east-1/bedrock/aws4_request, \
                 SignedHeaders={signed}, Signature={signature}"
            )
        );
        assert_eq!(request.headers.get("x-amz-date").unwrap(), "20261127T100000Z");
        assert_eq!(request.headers.contains_key("x-amz-security-token"), session.is_some());
        assert!(!format!("{:?}", request.headers).contains("SESSIONTOKEN"));
        upstream.region = None;
        assert!(of(BedrockConverse).authorize(&mut request, &upstream, &keys, now).is_err());
    }
}

#[test]
fn a_whole_answer_of_anthropic_is_read() {
    let read = whole(
        AnthropicMessages,
        &json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-haiku-4-5-20251001",
            "content": [{"type": "thinking", "thinking": "hm", "signature": "x"}, {"type": "text", "text": "{\"cause\":"},
                {"type": "text", "text": "\"x\"}"}],
            "stop_reason": "end_turn", "stop_sequence": null, "usage": {"input_tokens": 10,
                "cache_creation_input_tokens": 20, "cache_read_input_tokens": 30, "output_tokens": 40,
                "output_tokens_details": {"thinking_tokens": 5}, "service_tier": "standard"}}),
    );
    assert_eq!(
        read.unwrap(),
        Read {
            text: r#"{"cause":"x"}"#.into(),
            finish: Some(Finish::Stop),
            served_model: some("claude-haiku-4-5-20251001"),
            id: some("msg_1"),
            usage: Some(Usage { input: 10, cache_write: 20, cache_read: 30, output: 40, reasoning: 5 }),
            ..Read::default()
        }
    );
    let tool = whole(
        AnthropicMessages,
        &json!({"content": [{"type": "text", "text": "Let me see."},
            {"type": "tool_use", "id": "t", "name": "diagnosis", "input": {"cause": "x"}}], "stop_reason": "tool_use"}),
    );
    assert_eq!(tool.unwrap().answer(Some("diagnosis")), Ok(r#"{"cause":"x"}"#));
}

#[test]
fn a_streamed_answer_of_anthropic_is_read() {
    let (read, steps) = streamed(
        AnthropicMessages,
        &[
            (
                "message_start",
                r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-x","content":[],"stop_reason":null,"usage":{"input_tokens":10,"cache_read_input_tokens":30,"output_tokens":1}}}"#,
            ),
            ("ping", r#"{"type":"ping"}"#),
            (
                "content_block_start",
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
            ),
            (
                "content_block_delta",
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"{\"cause\""}}"#,
            ),
            (
                "content_block_delta",
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":":\"x\"}"}}"#,
            ),
            ("content_block_stop", r#"{"type":"content_block_stop","index":0}"#),
            (
                "message_delta",
                r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":40,"output_tokens_details":{"thinking_tokens":5}}}"#,
            ),
            ("something_new", r#"{"type":"something_new"}"#),
            ("message_stop", r#"{"type":"message_stop"}"#),
        ],
    );
    use Step::{Content, Done, Nothing};
    assert_eq!(steps, [Nothing, Nothing, Nothing, Content, Content, Nothing, Nothing, Nothing, Done]);
    assert_eq!(read.answer(None), Ok(r#"{"cause":"x"}"#));
    assert_eq!((read.served_model, read.id), (some("claude-x"), some("msg_1")));
    assert_eq!(read.usage, Some(Usage { input: 10, cache_write: 0, cache_read: 30, output: 40, reasoning: 5 }));
    let (read, steps) = streamed(
        AnthropicMessages,
        &[
            (
                "",
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"diagnosis","input":{}}}"#,
            ),
            ("", r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":""}}"#),
            (
                "",
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"cause\":"}}"#,
            ),
            (
                "",
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"\"x\"}"}}"#,
            ),
            ("", r#"{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":4}}"#),
        ],
    );
    assert_eq!(steps, [Nothing, Nothing, Content, Content, Nothing]);
    assert_eq!(read.answer(Some("diagnosis")), Ok(r#"{"cause":"x"}"#));
}

#[test]
fn a_whole_answer_of_openai_chat_is_read() {
    let read = whole(
        OpenAiChat,
        &json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-5-2026", "choices": [
                {"index": 0, "message": {"role": "assistant", "content": "{\"cause\":\"x\"}", "refusal": null},
                 "logprobs": null, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 40, "total_tokens": 140,
                "prompt_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 20},
                "completion_tokens_details": {"reasoning_tokens": 5}}}),
    );
    assert_eq!(
        read.unwrap(),
        Read {
            text: r#"{"cause":"x"}"#.into(),
            finish: Some(Finish::Stop),
            served_model: some("gpt-5-2026"),
            id: some("chatcmpl-1"),
            usage: Some(Usage { input: 50, cache_write: 20, cache_read: 30, output: 40, reasoning: 5 }),
            ..Read::default()
        }
    );
    // With a forced tool some servers say `stop`, others `tool_calls`.
    for reason in ["stop", "tool_calls"] {
        let tool = whole(
            OpenAiChat,
            &json!({"choices": [{"message": {"content": null, "tool_calls": [{"id": "c", "type": "function",
                "function": {"name": "diagnosis", "arguments": "{\"cause\":\"x\"}"}}]}, "finish_reason": reason}]}),
        );
        assert_eq!(tool.unwrap().answer(Some("diagnosis")), Ok(r#"{"cause":"x"}"#));
    }
}

#[test]
fn a_streamed_answer_of_openai_chat_is_read() {
    use Step::{Content, Done, Nothing};
    let (read, steps) = streamed(
        OpenAiChat,
        &[
            (
                "",
                r#"{"id":"c1","object":"chat.completion.chunk","model":"gpt-5","choices":[],"prompt_filter_results":[]}"#,
            ),
            (
                "",
                r#"{"id":"c1","model":"gpt-5","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#,
            ),
            (
                "",
                r#"{"id":"c1","model":"gpt-5","choices":[{"index":0,"delta":{"reasoning_content":"hm"},"finish_reason":null}]}"#,
            ),
            (
                "",
                r#"{"id":"c1","model":"gpt-5","choices":[{"index":0,"delta":{"content":"{\"cause\""},"finish_reason":null}],"usage":null}"#,
            ),
            (
                "",
                r#"{"id":"c1","model":"gpt-5","choices":[{"index":0,"delta":{"content":":\"x\"}"},"finish_reason":null}]}"#,
            ),
            ("", r#"{"id":"c1","model":"gpt-5","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#),
            (
                "",
                r#"{"id":"c1","model":"gpt-5","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":4,"total_tokens":14}}"#,
            ),
            ("", "[DONE]"),
        ],
    );
    assert_eq!(steps, [Nothing, Nothing, Nothing, Content, Content, Nothing, Nothing, Done]);
    assert_eq!(read.answer(None), Ok(r#"{"cause":"x"}"#));
    assert_eq!(read.usage, Some(Usage { input: 10, output: 4, ..Usage::default() }));
    let (read, _) = streamed(
        OpenAiChat,
        &[
            (
                "",
                r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"diagnosis","arguments":""}}]}}]}"#,
            ),
            ("", r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"cause\":"}}]}}]}"#),
            ("", r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\"x\"}"}}]}}]}"#),
            ("", r#"{"choices":[{"delta":{},"finish_reason":"tool_calls"}]}"#),
            ("", "[DONE]"),
        ],
    );
    assert_eq!(read.answer(Some("diagnosis")), Ok(r#"{"cause":"x"}"#));
    let (read, _) = streamed(
        OpenAiChat,
        &[
            ("", r#"{"choices":[{"delta":{"refusal":"I cannot"}}]}"#),
            ("", r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#),
        ],
    );
    assert_eq!(read.answer(None), Err(Seen::Finished(Finish::Refused)));
}

fn response(status: &str, output: &Value) -> Value {
    json!({"id": "resp_1", "object": "response", "model": "gpt-5", "status": status, "error": null,
        "incomplete_details": null, "output": output, "usage": {"input_tokens": 100, "output_tokens": 40,
            "input_tokens_details": {"cached_tokens": 30}, "output_tokens_details": {"reasoning_tokens": 5}}})
}

fn message(part: &Value) -> Value {
    json!([{"type": "reasoning", "id": "r", "summary": []},
        {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [part]}])
}

#[test]
fn a_whole_answer_of_openai_responses_is_read() {
    let text = message(&json!({"type": "output_text", "text": "{\"cause\":\"x\"}", "annotations": []}));
    assert_eq!(
        whole(OpenAiResponses, &response("completed", &text)).unwrap(),
        Read {
            text: r#"{"cause":"x"}"#.into(),
            finish: Some(Finish::Stop),
            served_model: some("gpt-5"),
            id: some("resp_1"),
            usage: Some(Usage { input: 70, cache_write: 0, cache_read: 30, output: 40, reasoning: 5 }),
            ..Read::default()
        }
    );
    let call =
        json!([{"type": "function_call", "name": "diagnosis", "arguments": "{\"cause\":\"x\"}", "call_id": "c"}]);
    let read = whole(OpenAiResponses, &response("completed", &call)).unwrap();
    assert_eq!(read.answer(Some("diagnosis")), Ok(r#"{"cause":"x"}"#));
    let refusal = message(&json!({"type": "refusal", "refusal": "I cannot"}));
    let read = whole(OpenAiResponses, &response("completed", &refusal)).unwrap();
    assert_eq!(read.answer(None), Err(Seen::Finished(Finish::Refused)));
    let search = json!([{"type": "web_search_call", "status": "completed"}]);
    let read = whole(OpenAiResponses, &response("completed", &search)).unwrap();
    assert_eq!(read.answer(None), Err(Seen::Finished(Finish::UnaskedTool)));
}

#[test]
fn a_streamed_answer_of_openai_responses_is_read() {
    let text = message(&json!({"type": "output_text", "text": "{\"cause\":\"x\"}", "annotations": []}));
    let last = json!({"type": "response.completed", "response": response("completed", &text)}).to_string();
    let (read, steps) = streamed(
        OpenAiResponses,
        &[
            (
                "response.created",
                r#"{"type":"response.created","response":{"id":"resp_1","model":"gpt-5","status":"in_progress","output":[],"usage":null}}"#,
            ),
            (
                "response.output_item.added",
                r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"message"}}"#,
            ),
            ("response.output_text.delta", r#"{"type":"response.output_text.delta","delta":"{\"cause\":\"x\"}"}"#),
            ("response.output_text.done", r#"{"type":"response.output_text.done","text":"{\"cause\":\"x\"}"}"#),
            ("response.completed", &last),
        ],
    );
    use Step::{Content, Done, Nothing};
    assert_eq!(steps, [Nothing, Nothing, Content, Nothing, Done]);
    assert_eq!(read.answer(None), Ok(r#"{"cause":"x"}"#));
    let (fault, read) = broken(
        OpenAiResponses,
        &[
            ("", r#"{"type":"response.created","response":{"id":"resp_1","model":"gpt-5","output":[]}}"#),
            (
                "",
                r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"rate_limit_exceeded","message":"…"},"output":[],"usage":{"input_tokens":7,"output_tokens":2}}}"#,
            ),
        ],
        false,
    );
    assert_eq!((fault.seen, fault.error.code), (Seen::ErrorEvent, some("rate_limit_exceeded")));
    assert_eq!(read.usage, Some(Usage { input: 7, output: 2, ..Usage::default() }));
}

#[test]
fn a_whole_answer_of_bedrock_is_read() {
    let read = whole(
        BedrockConverse,
        &json!({"output": {"message": {"role": "assistant", "content": [
                {"reasoningContent": {"reasoningText": {"text": "hm"}}}, {"text": "{\"cause\":\"x\"}"}]}},
            "stopReason": "end_turn", "metrics": {"latencyMs": 5},
            "usage": {"inputTokens": 10, "outputTokens": 40, "totalTokens": 100, "cacheReadInputTokens": 30,
                "cacheWriteInputTokens": 20},
            "trace": {"promptRouter": {"invokedModelId": "arn:aws:bedrock:us-east-1::foundation-model/m"}}}),
    );
    assert_eq!(
        read.unwrap(),
        Read {
            text: r#"{"cause":"x"}"#.into(),
            finish: Some(Finish::Stop),
            served_model: some("arn:aws:bedrock:us-east-1::foundation-model/m"),
            usage: Some(Usage { input: 10, cache_write: 20, cache_read: 30, output: 40, reasoning: 0 }),
            ..Read::default()
        }
    );
    let tool = whole(
        BedrockConverse,
        &json!({"output": {"message": {"content": [{"toolUse": {"toolUseId": "t", "name": "diagnosis",
            "input": {"cause": "x"}}}]}}, "stopReason": "tool_use"}),
    );
    assert_eq!(tool.unwrap().answer(Some("diagnosis")), Ok(r#"{"cause":"x"}"#));
}

#[test]
fn a_streamed_answer_of_bedrock_is_read() {
    use Step::{Content, Done, Nothing};
    let (read, steps) = streamed(
        BedrockConverse,
        &[
            ("messageStart", r#"{"role":"assistant"}"#),
            ("contentBlockStart", r#"{"contentBlockIndex":0,"start":{}}"#),
            ("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"reasoningContent":{"text":"hm"}}}"#),
            ("contentBlockDelta", r#"{"contentBlockIndex":1,"delta":{"text":"{\"cause\":"}}"#),
            ("contentBlockDelta", r#"{"contentBlockIndex":1,"delta":{"text":"\"x\"}"}}"#),
            ("contentBlockStop", r#"{"contentBlockIndex":1}"#),
            ("messageStop", r#"{"stopReason":"end_turn"}"#),
            ("metadata", r#"{"usage":{"inputTokens":10,"outputTokens":4,"totalTokens":14},"metrics":{"latencyMs":3}}"#),
        ],
    );
    assert_eq!(steps, [Nothing, Nothing, Nothing, Content, Content, Nothing, Nothing, Done]);
    assert_eq!(read.answer(None), Ok(r#"{"cause":"x"}"#));
    assert_eq!(read.usage, Some(Usage { input: 10, output: 4, ..Usage::default() }));
    let (read, _) = streamed(
        BedrockConverse,
        &[
            (
                "contentBlockStart",
                r#"{"start":{"toolUse":{"toolUseId":"t","name":"diagnosis"}},"contentBlockIndex":0}"#,
            ),
            ("contentBlockDelta", r#"{"delta":{"toolUse":{"input":"{\"cause\":"}},"contentBlockIndex":0}"#),
            ("contentBlockDelta", r#"{"delta":{"toolUse":{"input":"\"x\"}"}},"contentBlockIndex":0}"#),
            ("messageStop", r#"{"stopReason":"tool_use"}"#),
        ],
    );
    assert_eq!(read.answer(Some("diagnosis")), Ok(r#"{"cause":"x"}"#));
}

#[test]
fn every_reason_to_stop_has_its_meaning() {
    let anthropic = |reason: &str| json!({"content": [{"type": "text", "text": "{}"}], "stop_reason": reason});
    let chat = |reason: &str| json!({"choices": [{"message": {"content": "{}"}, "finish_reason": reason}]});
    let bedrock = |reason: &str| json!({"output": {"message": {"content": [{"text": "{}"}]}}, "stopReason": reason});
    for (api, body, finish) in [
        (AnthropicMessages, anthropic("stop_sequence"), Finish::Stop),
        (AnthropicMessages, anthropic("max_tokens"), Finish::OutputLimit),
        (AnthropicMessages, anthropic("model_context_window_exceeded"), Finish::ContextWindow),
        (AnthropicMessages, anthropic("refusal"), Finish::Refused),
        (AnthropicMessages, anthropic("pause_turn"), Finish::Interrupted),
        (AnthropicMessages, anthropic("a_new_one"), Finish::Unknown),
        (OpenAiChat, chat("length"), Finish::OutputLimit),
        (OpenAiChat, chat("content_filter"), Finish::Filtered),
        (OpenAiChat, chat("a_new_one"), Finish::Unknown),
        (BedrockConverse, bedrock("max_tokens"), Finish::OutputLimit),
        (BedrockConverse, bedrock("guardrail_intervened"), Finish::Filtered),
        (BedrockConverse, bedrock("content_filtered"), Finish::Filtered),
        (BedrockConverse, bedrock("malformed_model_output"), Finish::Garbled),
        (BedrockConverse, bedrock("malformed_tool_use"), Finish::Garbled),
        (BedrockConverse, bedrock("model_context_window_exceeded"), Finish::ContextWindow),
        (OpenAiResponses, response("cancelled", &json!([])), Finish::Interrupted),
        (OpenAiResponses, response("queued", &json!([])), Finish::Interrupted),
    ] {
        assert_eq!(whole(api, &body).unwrap().finish, Some(finish), "{body}");
    }
    for (reason, finish) in [
        ("max_output_tokens", Finish::OutputLimit),
        ("content_filter", Finish::Filtered),
        ("max_messages", Finish::Interrupted),
        ("steered", Finish::Interrupted),
    ] {
        let mut incomplete = response("incomplete", &json!([]));
        incomplete["incomplete_details"] = json!({"reason": reason});
        assert_eq!(whole(OpenAiResponses, &incomplete).unwrap().finish, Some(finish), "{reason}");
    }
    let refused = whole(
        AnthropicMessages,
        &json!({"content": [], "stop_reason": "refusal", "stop_details": {"type": "refusal", "category": "cyber"}}),
    );
    assert_eq!(refused.unwrap().refusal, some("cyber"));
}

#[test]
fn an_error_in_a_2xx_is_seen_in_every_api_and_every_envelope() {
    for api in APIS {
        for error in [
            json!({"error": {"code": 502, "message": "…"}}),
            json!({"type": "error", "error": {"type": "overloaded_error", "message": "…"}}),
            json!({"__type": "ThrottlingException", "message": "…"}),
            json!({"id": "x", "choices": [], "content": [], "output": {"message": {"content": []}},
                "error": {"type": "server_error", "code": null}}),
        ] {
            let fault = whole(api, &error).unwrap_err();
            assert_eq!(fault.seen, Seen::ErrorBody, "{api:?} {error}");
            assert_ne!(fault.error, crate::core::chain::signal::ErrorSaid::default());
        }
    }
    let inner = whole(OpenAiChat, &json!({"choices": [{"error": {"code": 503, "message": "…"}}]})).unwrap_err();
    assert_eq!((inner.seen, inner.error.status), (Seen::ErrorBody, Some(503)));
}

#[test]
fn an_error_event_is_seen_in_every_api() {
    let overloaded = r#"{"type":"error","error":{"type":"overloaded_error","message":"…"}}"#;
    let start =
        r#"{"type":"message_start","message":{"model":"m","content":[],"usage":{"input_tokens":9,"output_tokens":1}}}"#;
    let (fault, read) = broken(AnthropicMessages, &[("message_start", start), ("error", overloaded)], false);
    assert_eq!((fault.seen, fault.error.kind), (Seen::ErrorEvent, some("overloaded_error")));
    assert_eq!(read.usage, None, "what was used up to then is less than what is billed");
    for name in ["", "error"] {
        let (fault, _) = broken(OpenAiChat, &[(name, r#"{"error":{"code":429,"message":"…","type":"x"}}"#)], false);
        assert_eq!((fault.seen, fault.error.status), (Seen::ErrorEvent, Some(429)));
    }
    let flat = r#"{"type":"error","code":"server_error","message":"…","param":null}"#;
    let (fault, _) = broken(OpenAiResponses, &[("error", flat)], false);
    assert_eq!((fault.seen, fault.error.code), (Seen::ErrorEvent, some("server_error")));
    let model = r#"{"message":"…","originalStatusCode":424,"originalMessage":"…"}"#;
    let (fault, _) = broken(BedrockConverse, &[("modelStreamErrorException", model)], true);
    assert_eq!(fault.seen, Seen::ErrorEvent);
    assert_eq!((fault.error.kind, fault.error.status), (some("modelStreamErrorException"), Some(424)));
    let (fault, _) = broken(BedrockConverse, &[("throttlingException", r#"{"message":"…"}"#)], true);
    assert_eq!((fault.seen, fault.error.kind), (Seen::ErrorEvent, some("throttlingException")));
}

#[test]
fn what_is_not_of_the_api_is_no_answer() {
    let seen = |api, body: &[u8]| of(api).whole(body).unwrap_err().seen;
    let deep = "[".repeat(100_000);
    for api in APIS {
        assert_eq!(seen(api, b"{}"), Seen::NotOfTheApi);
        assert_eq!(seen(api, br#"{"id": "x", "cho"#), Seen::Truncated);
        assert_eq!(seen(api, b"pong"), Seen::NotOfTheApi);
        assert_eq!(seen(api, deep.as_bytes()), Seen::NotOfTheApi);
    }
    let twice = br#"{"choices":[],"choices":[{"message":{"content":"{}"},"finish_reason":"stop"}]}"#;
    assert_eq!(seen(OpenAiChat, twice), Seen::NotOfTheApi, "a key that stands there twice");
    let utf8 = b"{\"choices\":[{\"message\":{\"content\":\"\xff\xfe\"},\"finish_reason\":\"stop\"}]}";
    assert_eq!(seen(OpenAiChat, utf8), Seen::NotOfTheApi, "invalid UTF-8");
    assert_eq!(seen(OpenAiChat, br#"{"choices":[]}"#), Seen::NoText);
    let (fault, _) = broken(OpenAiChat, &[("", r#"{"choices":[{"delta""#)], false);
    assert_eq!(fault.seen, Seen::NotOfTheApi);
}

#[test]
fn usage_of_another_shape_is_unknown_and_fails_no_call() {
    for usage in [
        json!(null),
        json!({}),
        json!("many"),
        json!({"prompt_tokens": -1, "completion_tokens": 1e40}),
        json!({"prompt_tokens": 0, "completion_tokens": 0}),
        json!({"prompt_tokens": 1.5, "completion_tokens": 2}),
    ] {
        let body = json!({"choices": [{"message": {"content": "{}"}, "finish_reason": "stop"}], "usage": usage});
        let read = whole(OpenAiChat, &body).unwrap();
        assert_eq!((read.answer(None), read.usage), (Ok("{}"), None), "{usage}");
    }
    // More from the cache than there was: nothing becomes negative.
    let odd = json!({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1,
        "prompt_tokens_details": {"cached_tokens": 5}}});
    let mut reader = of(OpenAiChat).reader();
    reader.take(Event { name: "", exception: false, data: odd.to_string().as_bytes() }).unwrap();
    assert_eq!(reader.read().usage.map(|usage| usage.input), Some(0));
}

#[test]
fn usage_that_does_not_count_the_answer_to_its_end_is_unknown() {
    let start =
        r#"{"type":"message_start","message":{"model":"m","content":[],"usage":{"input_tokens":9,"output_tokens":1}}}"#;
    let end = |usage: &str| format!(r#"{{"type":"message_delta","delta":{{"stop_reason":"end_turn"}}{usage}}}"#);
    for (usage, counted) in [
        ("", None),
        (r#","usage":{}"#, None),
        (r#","usage":null"#, None),
        (r#","usage":{"output_tokens":40}"#, Some(Usage { input: 9, output: 40, ..Usage::default() })),
    ] {
        let (read, _) =
            streamed(AnthropicMessages, &[("", start), ("", &end(usage)), ("", r#"{"type":"message_stop"}"#)]);
        assert_eq!((read.finish, read.usage), (Some(Finish::Stop), counted), "{usage}");
    }
    for usage in [json!({"input_tokens": 9}), json!({"output_tokens": 9}), json!({})] {
        let body = json!({"content": [{"type": "text", "text": "{}"}], "stop_reason": "end_turn", "usage": usage});
        assert_eq!(whole(AnthropicMessages, &body).unwrap().usage, None, "{usage}");
    }
    let begun = r#"{"type":"response.in_progress","response":{"usage":{"input_tokens":9,"output_tokens":1}}}"#;
    let mut reader = of(OpenAiResponses).reader();
    reader.take(Event { name: "", exception: false, data: begun.as_bytes() }).unwrap();
    assert_eq!(reader.read().usage, None);
}

#[test]
fn the_keys_of_a_tools_arguments_are_handed_on_as_they_came() {
    let body = br#"{"content":[{"type":"tool_use","name":"diagnosis","input":{"cause":"a","cause":"b"}}],"stop_reason":"tool_use"}"#;
    let read = of(AnthropicMessages).whole(body).unwrap();
    assert_eq!(read.answer(Some("diagnosis")), Ok(r#"{"cause":"a","cause":"b"}"#), "who reads it sees both");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(256))]

    #[test]
    fn a_damaged_answer_is_read_or_refused_and_nothing_else(at in 0_usize..400, byte: u8, cut in 0_usize..400) {
        let text = message(&json!({"type": "output_text", "text": "{}"}));
        for (api, whole) in [
            (AnthropicMessages, json!({"model": "m", "content": [{"type": "tool_use", "name": "diagnosis", "input": {"a": [1]}}],
                "stop_reason": "tool_use", "usage": {"input_tokens": 1, "output_tokens": 2}})),
            (OpenAiChat, json!({"choices": [{"message": {"content": "{}"}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 2}})),
            (OpenAiResponses, response("completed", &text)),
            (BedrockConverse, json!({"output": {"message": {"content": [{"text": "{}"}]}}, "stopReason": "end_turn",
                "usage": {"inputTokens": 1, "outputTokens": 2}})),
        ] {
            let mut body = whole.to_string().into_bytes();
            let length = body.len();
            body[at % length] = byte;
            body.truncate(length - cut % length);
            if let Ok(read) = of(api).whole(&body) {
                let _ = read.answer(Some("diagnosis"));
            }
            for name in ["", "error", "contentBlockDelta", "metadata"] {
                let mut reader = of(api).reader();
                for exception in [false, true] {
                    let _ = reader.take(Event { name, exception, data: &body });
                }
            }
        }
    }
}
