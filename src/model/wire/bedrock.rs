//! AWS Bedrock Converse: `POST /model/{model}/converse`, and `/converse-stream` with an event stream of AWS. Signed with
//! SigV4, or with a bearer token.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use http::{HeaderName, HeaderValue, header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use super::shape::{
    Event, Fault, NotBuilt, Question, Read, Reader, Request, Step, TOOL_DESCRIPTION, Wire, error_said, exception,
    foreign_finish, lenient,
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
    model::credentials::{Keys, Secret},
};

/// The name of the service in signatures.
const SERVICE: &str = "bedrock";

pub struct Bedrock;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    system: [Text<'a>; 1],
    messages: [Message<'a>; 1],
    inference_config: InferenceConfig,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<OutputConfig<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<ToolConfig<'a>>,
}

#[derive(Serialize)]
struct Text<'a> {
    text: &'a str,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: [Text<'a>; 1],
}

/// Always sent: without a limit the whole window of the model counts against the quota.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InferenceConfig {
    max_tokens: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OutputConfig<'a> {
    text_format: TextFormat<'a>,
}

#[derive(Serialize)]
struct TextFormat<'a> {
    r#type: &'static str,
    structure: Structure<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Structure<'a> {
    json_schema: JsonSchema<'a>,
}

#[derive(Serialize)]
struct JsonSchema<'a> {
    name: &'a str,
    /// A string that holds JSON.
    schema: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolConfig<'a> {
    tools: [Tool<'a>; 1],
    tool_choice: ToolChoice<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tool<'a> {
    tool_spec: ToolSpec<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolSpec<'a> {
    name: &'a str,
    description: &'static str,
    input_schema: InputSchema<'a>,
    strict: bool,
}

#[derive(Serialize)]
struct InputSchema<'a> {
    json: &'a Value,
}

#[derive(Serialize)]
struct ToolChoice<'a> {
    tool: Named<'a>,
}

#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    #[serde(default)]
    error: Option<Value>,
    output: Output,
    #[serde(default)]
    stop_reason: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    usage: Option<Tokens>,
    #[serde(default, deserialize_with = "lenient")]
    trace: Option<Trace>,
}

#[derive(Deserialize)]
struct Output {
    message: Answer,
}

#[derive(Deserialize)]
struct Answer {
    content: Vec<Block>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Block {
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    tool_use: Option<ToolUse>,
}

#[derive(Deserialize)]
struct ToolUse {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    input: Option<Box<RawValue>>,
}

/// `inputTokens` excludes what the cache wrote and read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tokens {
    input_tokens: u64,
    output_tokens: u64,
    #[serde(default)]
    cache_read_input_tokens: Option<u64>,
    #[serde(default)]
    cache_write_input_tokens: Option<u64>,
}

/// Which model a prompt router chose: the only place where the API names a model.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Trace {
    #[serde(default)]
    prompt_router: Option<PromptRouter>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PromptRouter {
    #[serde(default)]
    invoked_model_id: Option<String>,
}

impl Tokens {
    fn usage(self) -> Usage {
        Usage {
            input: self.input_tokens,
            cache_write: self.cache_write_input_tokens.unwrap_or_default(),
            cache_read: self.cache_read_input_tokens.unwrap_or_default(),
            output: self.output_tokens,
            reasoning: 0,
        }
    }
}

impl Trace {
    fn model(&self) -> Option<&str> {
        self.prompt_router.as_ref()?.invoked_model_id.as_deref()
    }
}

impl Wire for Bedrock {
    fn api(&self) -> ModelApi {
        ModelApi::BedrockConverse
    }

    fn request(&self, upstream: &Upstream, question: &Question<'_>) -> Result<Request, NotBuilt> {
        let Question { system: _, user, schema, schema_name: name, max_output_tokens } = *question;
        let how = upstream.structured_output;
        let call = if upstream.stream { "converse-stream" } else { "converse" };
        let path = format!("/model/{}/{call}", segment(&upstream.model));
        Request::post(
            upstream,
            &path,
            &Body {
                system: [Text { text: &question.system_for(how) }],
                messages: [Message { role: "user", content: [Text { text: user }] }],
                inference_config: InferenceConfig { max_tokens: max_output_tokens },
                output_config: (how == StructuredOutput::Native).then(|| OutputConfig {
                    text_format: TextFormat {
                        r#type: "json_schema",
                        structure: Structure { json_schema: JsonSchema { name, schema: schema.to_string() } },
                    },
                }),
                tool_config: (how == StructuredOutput::StrictTool).then_some(ToolConfig {
                    tools: [Tool {
                        tool_spec: ToolSpec {
                            name,
                            description: TOOL_DESCRIPTION,
                            input_schema: InputSchema { json: schema },
                            strict: true,
                        },
                    }],
                    tool_choice: ToolChoice { tool: Named { name } },
                }),
            },
        )
    }

    fn authorize(&self, request: &mut Request, upstream: &Upstream, keys: &Keys, now: Time) -> Result<(), NotBuilt> {
        match keys {
            Keys::None => Ok(()),
            Keys::Token(token) => request.bearer(token.reveal()),
            Keys::Aws { id, secret, session } => {
                let region = upstream.region.as_deref().ok_or(NotBuilt)?;
                sign_request(request, region, [id, secret], session.as_ref(), now)
            }
        }
    }

    fn whole(&self, body: &[u8]) -> Result<Read, Fault> {
        let Response { error, output, stop_reason, usage, trace } =
            serde_json::from_slice(body).map_err(|error| Fault::of_body(body, &error))?;
        if error.is_some() {
            return Err(Fault::error_body(body));
        }
        let mut read = Read::default();
        read.served(trace.as_ref().and_then(Trace::model));
        if let Some(usage) = usage {
            read.used(usage.usage());
        }
        for Block { text, tool_use } in output.message.content {
            read.text.push_str(text.as_deref().unwrap_or_default());
            if let Some(ToolUse { name, input }) = tool_use {
                let input = input.as_ref().map_or("", |input| input.get());
                read.call(name.as_deref().unwrap_or_default(), input);
            }
        }
        read.finish = stop_reason.as_deref().map(finish);
        Ok(read)
    }

    fn reader(&self) -> Box<dyn Reader> {
        Box::new(Stream::default())
    }
}

fn finish(reason: &str) -> Finish {
    match reason {
        "end_turn" | "stop_sequence" | "tool_use" => Finish::Stop,
        "max_tokens" => Finish::OutputLimit,
        "model_context_window_exceeded" => Finish::ContextWindow,
        "guardrail_intervened" | "content_filtered" => Finish::Filtered,
        "malformed_model_output" | "malformed_tool_use" => Finish::Garbled,
        other => foreign_finish(other),
    }
}

/// A model's id, which may be an ARN, as one segment of a path: all but the unreserved characters are escaped.
fn segment(model: &str) -> String {
    let mut escaped = String::with_capacity(model.len());
    for byte in model.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

fn sign_request(
    request: &mut Request,
    region: &str,
    [id, secret]: [&Secret; 2],
    session: Option<&Secret>,
    now: Time,
) -> Result<(), NotBuilt> {
    let session = session.map(|session| session.reveal().to_owned());
    let identity = Credentials::new(id.reveal(), secret.reveal(), session, None, "backstop").into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(SERVICE)
        .time(SystemTime::from(now))
        .settings(SigningSettings::default())
        .build()
        .map_err(|_| NotBuilt)?
        .into();
    let content_type = request.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let headers = content_type.map(|value| (header::CONTENT_TYPE.as_str(), value));
    let body = SignableBody::Bytes(&request.body);
    let signable =
        SignableRequest::new("POST", request.url.as_str(), headers.into_iter(), body).map_err(|_| NotBuilt)?;
    let (instructions, _) = sign(signable, &params).map_err(|_| NotBuilt)?.into_parts();
    let (headers, _) = instructions.into_parts();
    for one in headers {
        let mut value = HeaderValue::from_str(one.value()).map_err(|_| NotBuilt)?;
        value.set_sensitive(true);
        request.headers.insert(HeaderName::from_static(one.name()), value);
    }
    Ok(())
}

#[derive(Default)]
struct Stream {
    read: Read,
    stopped: bool,
}

/// Any event: each has some of these.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StreamEvent {
    #[serde(default)]
    start: Option<Start>,
    #[serde(default)]
    delta: Option<Delta>,
    #[serde(default)]
    stop_reason: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    usage: Option<Tokens>,
    #[serde(default, deserialize_with = "lenient")]
    trace: Option<Trace>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Start {
    #[serde(default)]
    tool_use: Option<ToolUse>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Delta {
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    tool_use: Option<ToolDelta>,
}

#[derive(Deserialize)]
struct ToolDelta {
    #[serde(default)]
    input: Option<String>,
}

impl Reader for Stream {
    fn take(&mut self, event: Event<'_>) -> Result<Step, Fault> {
        if event.exception {
            let mut fault = Fault::error_event(event.data);
            // The exception's own name counts, whatever its payload says.
            fault.error.kind = exception(event.name);
            return Err(fault);
        }
        let StreamEvent { start, delta, stop_reason, usage, trace } =
            serde_json::from_slice(event.data).map_err(|_| Fault::of_event(event.data))?;
        match event.name {
            "contentBlockStart" => {
                if let Some(ToolUse { name, .. }) = start.and_then(|start| start.tool_use) {
                    self.read.call(name.as_deref().unwrap_or_default(), "");
                }
            }
            "contentBlockDelta" => {
                let Some(Delta { text, tool_use }) = delta else { return Ok(Step::Nothing) };
                if let Some(text) = text.filter(|text| !text.is_empty()) {
                    self.read.text.push_str(&text);
                    return Ok(Step::Content);
                }
                if let (Some(more), Some(call)) = (tool_use.and_then(|tool| tool.input), self.read.calls.last_mut())
                    && !more.is_empty()
                {
                    call.arguments.push_str(&more);
                    return Ok(Step::Content);
                }
            }
            "messageStop" => {
                self.read.finish = stop_reason.as_deref().map(finish);
                self.stopped = true;
            }
            "metadata" => {
                self.read.served(trace.as_ref().and_then(Trace::model));
                if let Some(usage) = usage {
                    self.read.used(usage.usage());
                }
                return if self.stopped { Ok(Step::Done) } else { Err(Seen::Truncated.into()) };
            }
            // An error without an event type of its own.
            _ if error_said(event.data).is_some() => return Err(Fault::error_event(event.data)),
            _ => {}
        }
        Ok(Step::Nothing)
    }

    fn read(&self) -> &Read {
        &self.read
    }

    fn may_end(&self) -> bool {
        self.stopped
    }
}
