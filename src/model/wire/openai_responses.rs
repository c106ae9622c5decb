//! OpenAI Responses: `POST /responses` below the URL.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    openai,
    shape::{Event, Fault, NotBuilt, Question, Read, Reader, Request, Step, TOOL_DESCRIPTION, Wire, lenient},
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

pub struct OpenAiResponses;

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    max_output_tokens: u32,
    instructions: &'a str,
    input: [Message<'a>; 1],
    /// The provider does not keep the response.
    store: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Text<'a>>,
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
struct Text<'a> {
    format: Format<'a>,
}

#[derive(Serialize)]
struct Format<'a> {
    r#type: &'static str,
    name: &'a str,
    schema: &'a Value,
    strict: bool,
}

#[derive(Serialize)]
struct Tool<'a> {
    r#type: &'static str,
    name: &'a str,
    description: &'static str,
    parameters: &'a Value,
    strict: bool,
}

#[derive(Serialize)]
struct ToolChoice<'a> {
    r#type: &'static str,
    name: &'a str,
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
    status: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    incomplete_details: Option<IncompleteDetails>,
    output: Vec<Item>,
    #[serde(default, deserialize_with = "lenient")]
    usage: Option<Tokens>,
}

#[derive(Deserialize)]
struct IncompleteDetails {
    #[serde(default)]
    reason: Option<String>,
}

#[derive(Deserialize)]
struct Item {
    r#type: String,
    #[serde(default)]
    content: Option<Vec<Part>>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    arguments: Option<String>,
}

#[derive(Deserialize)]
struct Part {
    r#type: String,
    #[serde(default)]
    text: Option<String>,
}

/// `input_tokens` includes what the cache wrote and read.
#[derive(Deserialize)]
struct Tokens {
    input_tokens: u64,
    output_tokens: u64,
    #[serde(default, deserialize_with = "lenient")]
    input_tokens_details: Option<openai::InputDetails>,
    #[serde(default, deserialize_with = "lenient")]
    output_tokens_details: Option<openai::OutputDetails>,
}

impl Tokens {
    fn usage(self) -> Usage {
        let Tokens { input_tokens, output_tokens, input_tokens_details, output_tokens_details } = self;
        openai::usage((input_tokens, input_tokens_details), (output_tokens, output_tokens_details))
    }
}

impl Wire for OpenAiResponses {
    fn api(&self) -> ModelApi {
        ModelApi::OpenAiResponses
    }

    fn request(&self, upstream: &Upstream, question: &Question<'_>) -> Result<Request, NotBuilt> {
        let Question { system: _, user, schema, schema_name: name, max_output_tokens } = *question;
        let how = upstream.structured_output;
        let tool = how == StructuredOutput::StrictTool;
        Request::post(
            upstream,
            "/responses",
            &Body {
                model: &upstream.model,
                max_output_tokens,
                instructions: &question.system_for(how),
                input: [Message { role: "user", content: user }],
                store: false,
                stream: upstream.stream.then_some(true),
                text: (how == StructuredOutput::Native)
                    .then_some(Text { format: Format { r#type: "json_schema", name, schema, strict: true } }),
                tools: tool.then_some([Tool {
                    r#type: "function",
                    name,
                    description: TOOL_DESCRIPTION,
                    parameters: schema,
                    strict: true,
                }]),
                tool_choice: tool.then_some(ToolChoice { r#type: "function", name }),
                parallel_tool_calls: tool.then_some(false),
            },
        )
    }

    fn authorize(&self, request: &mut Request, _: &Upstream, keys: &Keys, _: Time) -> Result<(), NotBuilt> {
        openai::authorize(request, keys)
    }

    fn whole(&self, body: &[u8]) -> Result<Read, Fault> {
        let response: Response = serde_json::from_slice(body).map_err(|error| Fault::of_body(body, &error))?;
        let mut read = Read::default();
        if response.into_read(&mut read) { Err(Fault::error_body(body)) } else { Ok(read) }
    }

    fn reader(&self) -> Box<dyn Reader> {
        Box::new(Stream::default())
    }
}

impl Response {
    /// Adds what it says to `read`; true when it says that it is an error.
    fn into_read(self, read: &mut Read) -> bool {
        let Response { error, id, model, status, incomplete_details, output, usage } = self;
        read.named(id.as_deref());
        read.served(model.as_deref());
        if let Some(usage) = usage {
            read.used(usage.usage());
        }
        if error.is_some() || status.as_deref() == Some("failed") {
            return true;
        }
        for Item { r#type, content, name, arguments } in output {
            match r#type.as_str() {
                "message" => {
                    for Part { r#type, text } in content.into_iter().flatten() {
                        match r#type.as_str() {
                            "output_text" => read.text.push_str(text.as_deref().unwrap_or_default()),
                            "refusal" => read.refused = true,
                            _ => {}
                        }
                    }
                }
                "reasoning" => {}
                "function_call" => {
                    read.call(name.as_deref().unwrap_or_default(), arguments.as_deref().unwrap_or_default());
                }
                // A tool of the provider that nobody offered: a search, a computer, a shell.
                other if other.ends_with("_call") => read.call(other, ""),
                _ => {}
            }
        }
        let why = incomplete_details.and_then(|details| details.reason);
        read.finish = status.as_deref().map(|status| finish(status, why.as_deref()));
        false
    }
}

fn finish(status: &str, why: Option<&str>) -> Finish {
    match (status, why) {
        ("completed", _) => Finish::Stop,
        ("incomplete", Some("max_output_tokens")) => Finish::OutputLimit,
        ("incomplete", Some("content_filter")) => Finish::Filtered,
        ("incomplete" | "cancelled" | "queued" | "in_progress", _) => Finish::Interrupted,
        _ => Finish::Unknown,
    }
}

/// The last event holds the whole response; what came before only tells that something comes.
#[derive(Default)]
struct Stream {
    read: Read,
}

#[derive(Deserialize)]
struct StreamEvent<'a> {
    r#type: String,
    #[serde(default)]
    delta: Option<Value>,
    #[serde(default, borrow)]
    response: Option<&'a serde_json::value::RawValue>,
}

/// The response of the events before the last one: not all of it has to be there.
#[derive(Deserialize)]
struct Begun {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    usage: Option<Tokens>,
}

impl Reader for Stream {
    fn take(&mut self, event: Event<'_>) -> Result<Step, Fault> {
        // Some servers end every stream so.
        if event.data.trim_ascii() == b"[DONE]" {
            return Err(Seen::Truncated.into());
        }
        let StreamEvent { r#type, delta, response } =
            serde_json::from_slice(event.data).map_err(|_| Fault::of_event(event.data))?;
        match r#type.as_str() {
            "error" => Err(Fault::error_event(event.data)),
            "response.created" | "response.in_progress" | "response.failed" => {
                let begun = response.and_then(|response| serde_json::from_str(response.get()).ok());
                if let Some(Begun { id, model, usage }) = begun {
                    self.read.named(id.as_deref());
                    self.read.served(model.as_deref());
                    // Before the end it is what was used up to then.
                    if let Some(usage) = usage.filter(|_| r#type == "response.failed") {
                        self.read.used(usage.usage());
                    }
                }
                if r#type == "response.failed" { Err(Fault::error_event(event.data)) } else { Ok(Step::Nothing) }
            }
            "response.output_text.delta" | "response.refusal.delta" | "response.function_call_arguments.delta" => {
                let some = delta.as_ref().and_then(Value::as_str).is_some_and(|delta| !delta.is_empty());
                Ok(if some { Step::Content } else { Step::Nothing })
            }
            "response.completed" | "response.incomplete" => {
                let response = response.ok_or(Seen::NotOfTheApi)?;
                let response: Response = serde_json::from_str(response.get()).map_err(|_| Seen::NotOfTheApi)?;
                if response.into_read(&mut self.read) {
                    return Err(Fault::error_event(event.data));
                }
                Ok(Step::Done)
            }
            _ => Ok(Step::Nothing),
        }
    }

    fn read(&self) -> &Read {
        &self.read
    }
}
