//! OpenAI Chat Completions: `POST /chat/completions` below the URL. vLLM, llama.cpp and most gateways speak it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    openai,
    shape::{
        Event, Fault, NotBuilt, Question, Read, Reader, Request, Step, TOOL_DESCRIPTION, Wire, foreign_finish, lenient,
    },
};
use crate::{
    api::v1alpha1::{ModelApi, StructuredOutput, Time},
    core::{
        chain::{
            signal::{Finish, Seen},
            spec::Upstream,
        },
        money::Usage,
    },
    model::credentials::Keys,
};

pub struct OpenAiChat;

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    max_completion_tokens: u32,
    messages: [Message<'a>; 2],
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<ResponseFormat<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tools: Option<[Tool<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<ToolChoice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel_tool_calls: Option<bool>,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
struct ResponseFormat<'a> {
    r#type: &'static str,
    json_schema: JsonSchema<'a>,
}

#[derive(Serialize)]
struct JsonSchema<'a> {
    name: &'a str,
    schema: &'a Value,
    strict: bool,
}

#[derive(Serialize)]
struct Tool<'a> {
    r#type: &'static str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    description: &'static str,
    parameters: &'a Value,
    strict: bool,
}

#[derive(Serialize)]
struct ToolChoice<'a> {
    r#type: &'static str,
    function: Named<'a>,
}

#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
}

/// A whole response, or one chunk of a stream: they differ in `message` and `delta`.
#[derive(Deserialize)]
struct Response {
    #[serde(default)]
    error: Option<Value>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    model: Option<String>,
    choices: Vec<Choice>,
    #[serde(default, deserialize_with = "lenient")]
    usage: Option<Tokens>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    error: Option<Value>,
    #[serde(default, alias = "delta")]
    message: Option<Answer>,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<ToolCall>>,
}

#[derive(Deserialize)]
struct ToolCall {
    #[serde(default)]
    index: Option<usize>,
    #[serde(default)]
    function: Option<Called>,
}

#[derive(Deserialize)]
struct Called {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    arguments: Option<String>,
}

/// `prompt_tokens` includes what the cache wrote and read.
#[derive(Deserialize)]
struct Tokens {
    prompt_tokens: u64,
    completion_tokens: u64,
    #[serde(default, deserialize_with = "lenient")]
    prompt_tokens_details: Option<openai::InputDetails>,
    #[serde(default, deserialize_with = "lenient")]
    completion_tokens_details: Option<openai::OutputDetails>,
}

impl Tokens {
    fn usage(self) -> Usage {
        let Tokens { prompt_tokens, completion_tokens, prompt_tokens_details, completion_tokens_details } = self;
        openai::usage((prompt_tokens, prompt_tokens_details), (completion_tokens, completion_tokens_details))
    }
}

impl Wire for OpenAiChat {
    fn api(&self) -> ModelApi {
        ModelApi::OpenAiChat
    }

    fn request(&self, upstream: &Upstream, question: &Question<'_>) -> Result<Request, NotBuilt> {
        let Question { system: _, user, schema, schema_name: name, max_output_tokens } = *question;
        let how = upstream.structured_output;
        let tool = how == StructuredOutput::StrictTool;
        Request::post(
            upstream,
            "/chat/completions",
            &Body {
                model: &upstream.model,
                max_completion_tokens: max_output_tokens,
                messages: [
                    Message { role: "system", content: &question.system_for(how) },
                    Message { role: "user", content: user },
                ],
                stream: upstream.stream.then_some(true),
                stream_options: upstream.stream.then_some(StreamOptions { include_usage: true }),
                response_format: (how == StructuredOutput::Native).then_some(ResponseFormat {
                    r#type: "json_schema",
                    json_schema: JsonSchema { name, schema, strict: true },
                }),
                tools: tool.then_some([Tool {
                    r#type: "function",
                    function: Function { name, description: TOOL_DESCRIPTION, parameters: schema, strict: true },
                }]),
                tool_choice: tool.then_some(ToolChoice { r#type: "function", function: Named { name } }),
                parallel_tool_calls: tool.then_some(false),
            },
        )
    }

    fn authorize(&self, request: &mut Request, _: &Upstream, keys: &Keys, _: Time) -> Result<(), NotBuilt> {
        openai::authorize(request, keys)
    }

    fn whole(&self, body: &[u8]) -> Result<Read, Fault> {
        let Response { error, id, model, choices, usage } =
            serde_json::from_slice(body).map_err(|error| Fault::of_body(body, &error))?;
        if error.is_some() || choices.iter().any(|choice| choice.error.is_some()) {
            return Err(Fault::error_body(body));
        }
        let mut read = Read::default();
        read.named(id.as_deref());
        read.served(model.as_deref());
        if let Some(usage) = usage {
            read.used(usage.usage());
        }
        let Some(Choice { message, finish_reason, .. }) = choices.into_iter().next() else {
            return Err(Seen::NoText.into());
        };
        read.finish = finish_reason.as_deref().map(finish);
        if let Some(Answer { content, refusal, tool_calls }) = message {
            read.text = content.unwrap_or_default();
            read.refused = refusal.is_some_and(|refusal| !refusal.is_empty());
            for Called { name, arguments } in tool_calls.into_iter().flatten().filter_map(|call| call.function) {
                read.call(name.as_deref().unwrap_or_default(), arguments.as_deref().unwrap_or_default());
            }
        }
        Ok(read)
    }

    fn reader(&self) -> Box<dyn Reader> {
        Box::new(Stream::default())
    }
}

fn finish(reason: &str) -> Finish {
    match reason {
        "stop" | "tool_calls" | "function_call" => Finish::Stop,
        "length" => Finish::OutputLimit,
        "content_filter" => Finish::Filtered,
        other => foreign_finish(other),
    }
}

#[derive(Default)]
struct Stream {
    read: Read,
}

impl Reader for Stream {
    fn take(&mut self, event: Event<'_>) -> Result<Step, Fault> {
        if event.data.trim_ascii() == b"[DONE]" {
            return Ok(Step::Done);
        }
        if event.name == "error" {
            return Err(Fault::error_event(event.data));
        }
        let Response { error, id, model, choices, usage } =
            serde_json::from_slice(event.data).map_err(|_| Fault::of_event(event.data))?;
        if error.is_some() || choices.iter().any(|choice| choice.error.is_some()) {
            return Err(Fault::error_event(event.data));
        }
        self.read.named(id.as_deref());
        self.read.served(model.as_deref());
        if let Some(usage) = usage {
            self.read.used(usage.usage());
        }
        let Some(Choice { message, finish_reason, .. }) = choices.into_iter().next() else { return Ok(Step::Nothing) };
        if let Some(reason) = finish_reason {
            self.read.finish = Some(finish(&reason));
        }
        let Some(Answer { content, refusal, tool_calls }) = message else { return Ok(Step::Nothing) };
        let mut step = Step::Nothing;
        if let Some(text) = content.filter(|text| !text.is_empty()) {
            self.read.text.push_str(&text);
            step = Step::Content;
        }
        if refusal.is_some_and(|refusal| !refusal.is_empty()) {
            self.read.refused = true;
            step = Step::Content;
        }
        for ToolCall { index, function } in tool_calls.into_iter().flatten() {
            let Some(Called { name, arguments }) = function else { continue };
            let arguments = arguments.unwrap_or_default();
            match self.read.calls.get_mut(index.unwrap_or_default()) {
                Some(call) => call.arguments.push_str(&arguments),
                None => self.read.call(name.as_deref().unwrap_or_default(), &arguments),
            }
            if !arguments.is_empty() {
                step = Step::Content;
            }
        }
        Ok(step)
    }

    fn read(&self) -> &Read {
        &self.read
    }
}
