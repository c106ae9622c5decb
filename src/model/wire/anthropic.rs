//! Anthropic Messages: `POST /v1/messages`.

use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use super::shape::{
    Event, Fault, NotBuilt, Question, Read, Reader, Request, Step, TOOL_DESCRIPTION, Wire, foreign_finish, lenient,
};
use crate::{
    api::v1alpha1::{ModelApi, StructuredOutput, Time},
    core::{
        chain::{
            signal::{Finish, Seen, word},
            spec::Upstream,
        },
        money::Usage,
    },
    model::credentials::Keys,
};

/// The version of the API, which every compatible server takes too.
const VERSION: &str = "2023-06-01";

pub struct Anthropic;

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    max_tokens: u32,
    #[serde(skip_serializing_if = "is_false")]
    stream: bool,
    system: [SystemBlock<'a>; 1],
    messages: [Message<'a>; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<OutputConfig<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tools: Option<[Tool<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<ToolChoice<'a>>,
}

fn is_false(value: &bool) -> bool {
    !value
}

#[derive(Serialize)]
struct SystemBlock<'a> {
    r#type: &'static str,
    text: &'a str,
    cache_control: CacheControl,
}

#[derive(Serialize)]
struct CacheControl {
    r#type: &'static str,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
}

#[derive(Serialize)]
struct OutputConfig<'a> {
    format: Format<'a>,
}

#[derive(Serialize)]
struct Format<'a> {
    r#type: &'static str,
    schema: &'a Value,
}

#[derive(Serialize)]
struct Tool<'a> {
    name: &'a str,
    description: &'static str,
    input_schema: &'a Value,
    strict: bool,
}

#[derive(Serialize)]
struct ToolChoice<'a> {
    r#type: &'static str,
    name: &'a str,
    disable_parallel_tool_use: bool,
}

#[derive(Deserialize)]
struct Response {
    #[serde(default)]
    error: Option<Value>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    content: Option<Vec<Content>>,
    #[serde(default)]
    stop_reason: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    stop_details: Option<StopDetails>,
    #[serde(default, deserialize_with = "lenient")]
    usage: Option<Tokens>,
}

#[derive(Deserialize)]
struct Content {
    r#type: String,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    input: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct StopDetails {
    #[serde(default)]
    category: Option<String>,
}

/// `input_tokens` excludes what the cache wrote and read. In a stream each is what it is up to now.
#[derive(Clone, Copy, Default, Deserialize)]
struct Tokens {
    #[serde(default)]
    input_tokens: Option<u64>,
    #[serde(default)]
    cache_creation_input_tokens: Option<u64>,
    #[serde(default)]
    cache_read_input_tokens: Option<u64>,
    #[serde(default)]
    output_tokens: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Clone, Copy, Deserialize)]
struct OutputDetails {
    #[serde(default)]
    thinking_tokens: Option<u64>,
}

impl Tokens {
    /// What is known after `later`, too.
    fn then(self, later: Tokens) -> Tokens {
        Tokens {
            input_tokens: later.input_tokens.or(self.input_tokens),
            cache_creation_input_tokens: later.cache_creation_input_tokens.or(self.cache_creation_input_tokens),
            cache_read_input_tokens: later.cache_read_input_tokens.or(self.cache_read_input_tokens),
            output_tokens: later.output_tokens.or(self.output_tokens),
            output_tokens_details: later.output_tokens_details.or(self.output_tokens_details),
        }
    }

    /// `None` while prompt and answer are not both counted: what is not said is not nothing.
    fn usage(self) -> Option<Usage> {
        let reasoning = self.output_tokens_details.and_then(|details| details.thinking_tokens);
        Some(Usage {
            input: self.input_tokens?,
            cache_write: self.cache_creation_input_tokens.unwrap_or_default(),
            cache_read: self.cache_read_input_tokens.unwrap_or_default(),
            output: self.output_tokens?,
            reasoning: reasoning.unwrap_or_default(),
        })
    }
}

impl Wire for Anthropic {
    fn api(&self) -> ModelApi {
        ModelApi::AnthropicMessages
    }

    fn request(&self, upstream: &Upstream, question: &Question<'_>) -> Result<Request, NotBuilt> {
        let Question { system: _, user, schema, schema_name, max_output_tokens } = *question;
        let how = upstream.structured_output;
        let tool = how == StructuredOutput::StrictTool;
        let mut request = Request::post(
            upstream,
            "/v1/messages",
            &Body {
                model: &upstream.model,
                max_tokens: max_output_tokens,
                stream: upstream.stream,
                system: [SystemBlock {
                    r#type: "text",
                    text: &question.system_for(how),
                    cache_control: CacheControl { r#type: "ephemeral" },
                }],
                messages: [Message { role: "user", content: user }],
                output_config: (how == StructuredOutput::Native)
                    .then_some(OutputConfig { format: Format { r#type: "json_schema", schema } }),
                tools: tool.then_some([Tool {
                    name: schema_name,
                    description: TOOL_DESCRIPTION,
                    input_schema: schema,
                    strict: true,
                }]),
                tool_choice: tool.then_some(ToolChoice {
                    r#type: "tool",
                    name: schema_name,
                    disable_parallel_tool_use: true,
                }),
            },
        )?;
        request.headers.insert(HeaderName::from_static("anthropic-version"), HeaderValue::from_static(VERSION));
        Ok(request)
    }

    fn authorize(&self, request: &mut Request, _: &Upstream, keys: &Keys, _: Time) -> Result<(), NotBuilt> {
        match keys {
            Keys::None => Ok(()),
            Keys::Token(token) => request.secret_header(HeaderName::from_static("x-api-key"), token.reveal()),
            Keys::Aws { .. } => Err(NotBuilt),
        }
    }

    fn whole(&self, body: &[u8]) -> Result<Read, Fault> {
        let response: Response = serde_json::from_slice(body).map_err(|error| Fault::of_body(body, &error))?;
        let Response { error, id, model, content, stop_reason, stop_details, usage } = response;
        if error.is_some() {
            return Err(Fault::error_body(body));
        }
        let content = content.ok_or_else(|| Fault::unlike(body, Seen::ErrorBody))?;
        let mut read = Read::default();
        read.named(id.as_deref());
        read.served(model.as_deref());
        for Content { r#type, text, name, input } in &content {
            match r#type.as_str() {
                "text" => read.text.push_str(text.as_deref().unwrap_or_default()),
                "tool_use" => {
                    let input = input.as_ref().map_or("", |input| input.get());
                    read.call(name.as_deref().unwrap_or_default(), input);
                }
                _ => {}
            }
        }
        stopped(&mut read, stop_reason.as_deref(), stop_details);
        if let Some(usage) = usage.and_then(Tokens::usage) {
            read.used(usage);
        }
        Ok(read)
    }

    fn reader(&self) -> Box<dyn Reader> {
        Box::new(Stream::default())
    }
}

fn stopped(read: &mut Read, reason: Option<&str>, details: Option<StopDetails>) {
    let Some(reason) = reason else { return };
    read.finish = Some(match reason {
        "end_turn" | "stop_sequence" | "tool_use" => Finish::Stop,
        "max_tokens" => Finish::OutputLimit,
        "model_context_window_exceeded" => Finish::ContextWindow,
        "refusal" => Finish::Refused,
        "pause_turn" => Finish::Interrupted,
        other => foreign_finish(other),
    });
    read.refused = reason == "refusal";
    read.refusal = details.and_then(|details| details.category).as_deref().and_then(word);
}

#[derive(Default)]
struct Stream {
    read: Read,
    tokens: Tokens,
}

#[derive(Deserialize)]
struct StreamEvent {
    r#type: String,
    #[serde(default)]
    message: Option<Response>,
    #[serde(default)]
    content_block: Option<Content>,
    #[serde(default)]
    delta: Option<Delta>,
    #[serde(default, deserialize_with = "lenient")]
    usage: Option<Tokens>,
}

#[derive(Deserialize)]
struct Delta {
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    partial_json: Option<String>,
    #[serde(default)]
    stop_reason: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    stop_details: Option<StopDetails>,
}

impl Stream {
    /// The first event counts the prompt. What it counts of the answer is what there was then, a token or so.
    fn begins(&mut self, tokens: Option<Tokens>) {
        if let Some(tokens) = tokens {
            self.tokens = Tokens { output_tokens: None, output_tokens_details: None, ..tokens };
        }
    }

    /// A later event counts the answer up to its end.
    fn used(&mut self, tokens: Option<Tokens>) {
        let Some(tokens) = tokens else { return };
        self.tokens = self.tokens.then(tokens);
        if let Some(usage) = self.tokens.usage() {
            self.read.used(usage);
        }
    }
}

impl Reader for Stream {
    fn take(&mut self, event: Event<'_>) -> Result<Step, Fault> {
        if event.name == "error" {
            return Err(Fault::error_event(event.data));
        }
        let StreamEvent { r#type, message, content_block, delta, usage } =
            serde_json::from_slice(event.data).map_err(|_| Fault::of_event(event.data))?;
        match r#type.as_str() {
            "message_start" => {
                if let Some(Response { id, model, usage, .. }) = message {
                    self.read.named(id.as_deref());
                    self.read.served(model.as_deref());
                    self.begins(usage);
                }
            }
            "content_block_start" => {
                let Some(Content { r#type, text, name, input: _ }) = content_block else { return Ok(Step::Nothing) };
                if r#type == "tool_use" {
                    self.read.call(name.as_deref().unwrap_or_default(), "");
                }
                if let Some(text) = text.filter(|text| r#type == "text" && !text.is_empty()) {
                    self.read.text.push_str(&text);
                    return Ok(Step::Content);
                }
            }
            "content_block_delta" => {
                let Some(Delta { text, partial_json, .. }) = delta else { return Ok(Step::Nothing) };
                if let Some(text) = text.filter(|text| !text.is_empty()) {
                    self.read.text.push_str(&text);
                    return Ok(Step::Content);
                }
                if let (Some(more), Some(call)) = (partial_json, self.read.calls.last_mut())
                    && !more.is_empty()
                {
                    call.arguments.push_str(&more);
                    return Ok(Step::Content);
                }
            }
            "message_delta" => {
                self.used(usage);
                if let Some(Delta { stop_reason, stop_details, .. }) = delta {
                    stopped(&mut self.read, stop_reason.as_deref(), stop_details);
                }
            }
            "message_stop" => return Ok(Step::Done),
            "error" => return Err(Fault::error_event(event.data)),
            _ => {}
        }
        Ok(Step::Nothing)
    }

    fn read(&self) -> &Read {
        &self.read
    }
}
