//! Sends one question to one upstream, once: with a limit on each phase of the call, on the size of what comes back and on
//! the whole of it, and with everything that was seen when there is no answer. It decides nothing about trying again.
//!
//! A call that is dropped ends there: its connection is closed, and nothing of it goes on.

mod body;
mod dial;

use std::{
    pin::pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::Context as _;
use futures::{StreamExt as _, stream::BoxStream};
use http::{HeaderMap, HeaderValue, header};
use reqwest::{Client, Response, Url};
use tokio::time::{Instant, sleep_until, timeout};

use super::{
    credentials::{Credentials, Keys},
    wire::{
        self, Question, Wire,
        shape::{Event, Fault, Read, Reader, Step, error_said, exception, label},
    },
};
use crate::{
    api::v1alpha1::{ModelApi, StructuredOutput},
    clock,
    core::{
        chain::{
            signal::{ErrorSaid, Finish, Headers, Seen, Sent, Signal, Timer, Timing},
            spec::{Timers, Upstream},
            validate::is_internal,
        },
        money::Usage,
    },
    settings::ModelNetwork,
};
use body::{MAX_BODY, OwnedEvent, Pieces, Received};
use dial::{Departure, Dial, Resolver, State, Watch, unanswered};

/// Most bytes of the body of a response that is no 2xx.
const MAX_ERROR_BODY: usize = 64 * 1024;
/// How long the end of a body is waited for after its last event: a connection that is read to its end can be used again.
const LINGER: Duration = Duration::from_millis(10);
/// How long a connection that nobody uses is kept.
const KEPT: Duration = Duration::from_secs(30);
/// Where upstreams write their id of a request.
const REQUEST_IDS: &[&str] = &["request-id", "x-request-id", "x-amzn-requestid", "x-litellm-call-id"];

/// Stands for the name of a served model that holds a key.
const WITHHELD: &str = "withheld";

/// An answer: whole, and ended by the model itself. Whether it is of the schema is for others to say.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The answer, JSON if the model did what it was asked to.
    pub text: String,
    /// The model that answered, if the upstream says so, cleaned; `withheld` where the name holds a key. Bedrock says so for
    /// prompt routers only.
    pub served_model: Option<String>,
    /// What was used; `None` when the upstream does not say.
    pub usage: Option<Usage>,
    /// Status of the response, a 2xx.
    pub status: Option<u16>,
    /// The upstream's id of the request, cleaned; none where it holds a key.
    pub request_id: Option<String>,
    /// When what was there.
    pub timing: Timing,
}

/// Sends questions.
#[derive(Debug)]
pub struct Sender {
    client: Client,
    credentials: Credentials,
}

impl Sender {
    /// With the keys of `credentials`. Servers inside the cluster are asked directly, those outside through the proxy of
    /// `network` if there is one. A proxy of the environment is not used.
    ///
    /// # Errors
    ///
    /// The proxy is no URL or names a user, or the file with authorities cannot be read or holds none.
    pub fn new(credentials: Credentials, network: &ModelNetwork) -> anyhow::Result<Sender> {
        let ModelNetwork { proxy_url, ca_file } = network;
        let mut client = Client::builder()
            .user_agent(concat!("backstop/", env!("CARGO_PKG_VERSION")))
            // A redirect would carry the question, and maybe the key, to a place that nobody configured.
            .redirect(reqwest::redirect::Policy::none())
            // Who calls decides about trying again, and counts and pays for each try.
            .retry(reqwest::retry::never())
            // Calls of HTTP/2 would share one connection, and its end.
            .http1_only()
            .pool_idle_timeout(KEPT)
            .dns_resolver(Resolver)
            .connector_layer(Watch)
            .no_proxy();
        if !proxy_url.is_empty() {
            // The URL may hold a password, so it is not part of a message.
            let proxy = Url::parse(proxy_url).map_err(|_| anyhow::anyhow!("the proxy of models is not a URL"))?;
            if !matches!(proxy.scheme(), "http" | "https") || !proxy.username().is_empty() || proxy.password().is_some()
            {
                anyhow::bail!("the proxy of models has to be http:// or https://, without a user");
            }
            let outside = move |to: &Url| to.host_str().is_some_and(|host| !is_internal(host));
            client = client.proxy(reqwest::Proxy::custom(move |to| outside(to).then(|| proxy.clone())));
        }
        if !ca_file.is_empty() {
            let pem =
                std::fs::read(ca_file).with_context(|| format!("cannot read the authorities of models, {ca_file}"))?;
            let authorities = reqwest::Certificate::from_pem_bundle(&pem).unwrap_or_default();
            anyhow::ensure!(!authorities.is_empty(), "{ca_file} holds no certificate in PEM");
            client = client.tls_certs_merge(authorities);
        }
        let client =
            client.build().map_err(reqwest::Error::without_url).context("cannot build the HTTP client of models")?;
        Ok(Sender { client, credentials })
    }

    /// The keys that it uses.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Asks once. `limit` is for the whole call, whatever the upstream's own timers allow.
    pub async fn send(
        &self,
        upstream: &Upstream,
        question: &Question<'_>,
        limit: Duration,
    ) -> Result<Reply, Box<Signal>> {
        let mut call = Call::new(upstream);
        if limit.is_zero() {
            // A timer of nothing would let the call begin.
            return Err(Box::new(call.signal(Seen::TimerFired(Timer::Overall).into())));
        }
        let outcome = timeout(limit, self.attempt(upstream, question, &mut call)).await;
        match outcome.unwrap_or_else(|_| Err(Seen::TimerFired(Timer::Overall).into())) {
            Ok(text) => Ok(call.reply(text)),
            Err(fault) => Err(Box::new(call.signal(fault))),
        }
    }

    async fn attempt(&self, upstream: &Upstream, question: &Question<'_>, call: &mut Call) -> Result<String, Fault> {
        let wire = wire::of(upstream.api);
        let keys = self.credentials.read(upstream.credentials.as_ref()).await.map_err(|unreadable| {
            tracing::warn!(upstream = upstream.name, %unreadable, "a model cannot be asked");
            Seen::NoCredentials
        })?;
        let mut request = wire.request(upstream, question).map_err(|_| Seen::NotBuilt)?;
        wire.authorize(&mut request, upstream, &keys, clock::now()).map_err(|_| Seen::NotBuilt)?;
        call.keys = keys;
        let wire::shape::Request { url, mut headers, body } = request;
        headers.insert(header::ACCEPT, HeaderValue::from_static(Framing::asked(upstream).content_type()));
        let body = reqwest::Body::wrap(call.departure.body(body));
        let request = self.client.post(url).headers(headers).body(body);
        let response = call.head(request.send(), upstream).await?;
        let read = call.body(wire, response, upstream).await?;
        let tool = (upstream.structured_output == StructuredOutput::StrictTool).then_some(question.schema_name);
        let text = read.answer(tool)?;
        Ok(match upstream.structured_output {
            StructuredOutput::Prompt => unfenced(text),
            StructuredOutput::Native | StructuredOutput::StrictTool => text,
        }
        .to_owned())
    }
}

/// How a body is cut into pieces of meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// Not at all.
    Whole,
    /// Server-sent events.
    ServerSent,
    /// An event stream of AWS.
    Messages,
}

impl Framing {
    /// What is asked for.
    fn asked(upstream: &Upstream) -> Framing {
        match (upstream.stream, upstream.api) {
            (false, _) => Framing::Whole,
            (true, ModelApi::BedrockConverse) => Framing::Messages,
            (true, ModelApi::AnthropicMessages | ModelApi::OpenAiChat | ModelApi::OpenAiResponses) => {
                Framing::ServerSent
            }
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Framing::Whole => "application/json",
            Framing::ServerSent => "text/event-stream",
            Framing::Messages => "application/vnd.amazon.eventstream",
        }
    }

    /// What came: servers that do not stream answer whole, whatever they were asked for.
    fn came(headers: &HeaderMap, upstream: &Upstream) -> Result<Framing, Seen> {
        let Some(content_type) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
            return Ok(Framing::asked(upstream));
        };
        let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match kind.as_str() {
            "text/html" | "application/xhtml+xml" => Err(Seen::Html),
            "text/event-stream" => Ok(Framing::ServerSent),
            "application/vnd.amazon.eventstream" => Ok(Framing::Messages),
            _ => Ok(Framing::Whole),
        }
    }
}

/// One call, as far as it came.
struct Call {
    api: ModelApi,
    /// What it was asked with.
    keys: Keys,
    began: Instant,
    dial: Arc<Dial>,
    departure: Departure,
    status: Option<u16>,
    headers: Headers,
    request_id: Option<String>,
    head_at: Option<Instant>,
    received: Received,
    content_at: Option<Instant>,
    reader: Option<Box<dyn Reader>>,
    read: Option<Read>,
}

impl Call {
    fn new(upstream: &Upstream) -> Call {
        Call {
            api: upstream.api,
            keys: Keys::None,
            began: Instant::now(),
            dial: Dial::new(upstream.timers.connect),
            departure: Departure::default(),
            status: None,
            headers: Headers::default(),
            request_id: None,
            head_at: None,
            received: Received::default(),
            content_at: None,
            reader: None,
            read: None,
        }
    }

    /// Sends, and waits for the head of the response.
    async fn head(
        &mut self,
        sending: impl Future<Output = reqwest::Result<Response>>,
        upstream: &Upstream,
    ) -> Result<Response, Fault> {
        let dial = Arc::clone(&self.dial);
        let sent_at = Instant::now();
        let mut sending = pin!(dial.within(sending));
        let head = upstream.timers.response_head;
        let response = loop {
            let until = dial.head_until(sent_at, head);
            tokio::select! {
                biased;
                response = &mut sending => break response,
                () = dial.stands.notified() => {}
                () = sleep_until(until) => {
                    if dial.head_until(sent_at, head) <= Instant::now() {
                        return Err(Seen::TimerFired(Timer::ResponseHead).into());
                    }
                }
            }
        };
        let response = response.map_err(|error| {
            let seen = unanswered(&error);
            let cause = error.without_url();
            tracing::debug!(upstream = upstream.name, ?seen, ?cause, "a call of a model failed");
            seen
        })?;
        self.head_at = Some(Instant::now());
        self.status = Some(response.status().as_u16());
        let headers = response.headers();
        self.headers =
            Headers::of(headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?))));
        self.request_id = REQUEST_IDS.iter().find_map(|name| label(headers.get(*name)?.to_str().ok()?));
        Ok(response)
    }

    /// Reads the body of a response.
    async fn body(&mut self, wire: &dyn Wire, response: Response, upstream: &Upstream) -> Result<&Read, Fault> {
        let timers = upstream.timers;
        if !response.status().is_success() {
            return Err(Fault { seen: Seen::Status, error: self.refusal(response, timers).await });
        }
        let framing = Framing::came(response.headers(), upstream)?;
        let pieces = Pieces::of(response, timers, MAX_BODY, &mut self.received);
        let first = pieces.first();
        let events = match framing {
            Framing::Whole => {
                let (body, cut) = pieces.whole().await;
                if let Some(seen) = cut {
                    return Err(seen.into());
                }
                let read = whole(wire, &body)?;
                return Ok(self.read.insert(read));
            }
            Framing::ServerSent => pieces.server_sent(),
            Framing::Messages => pieces.messages(),
        };
        let reader = self.reader.insert(wire.reader());
        let content = Content { first, limit: timers.first_content, at: &mut self.content_at };
        events_into(events, reader.as_mut(), content).await?;
        Ok(reader.read())
    }

    /// What a response that is no 2xx says about its error. Its status is known, so nothing else about it fails the call.
    async fn refusal(&mut self, response: Response, timers: Timers) -> ErrorSaid {
        let pieces = Pieces::of(response, timers, MAX_ERROR_BODY, &mut self.received);
        let (body, _) = timeout(timers.idle, pieces.whole()).await.unwrap_or_default();
        let said = error_said(&body).unwrap_or_default();
        // Bedrock's header is there even where its body says nothing.
        let by_header = self.headers.get("x-amzn-errortype").and_then(exception);
        ErrorSaid { kind: by_header.or(said.kind), ..said }
    }

    fn timing(&self) -> Timing {
        let since = |at: Instant| at.duration_since(self.began);
        Timing {
            connected: match self.dial.state() {
                State::Stands(at) => Some(since(at)),
                State::Untouched | State::Dialling(_) => None,
            },
            head: self.head_at.map(since),
            first_event: self.received.first.get().copied().map(since),
            first_content: self.content_at.map(since),
            total: self.began.elapsed(),
        }
    }

    /// What was read of an answer, as far as it came.
    fn read(&self) -> Option<&Read> {
        self.read.as_ref().or_else(|| self.reader.as_ref().map(|reader| reader.read()))
    }

    /// A server that sends the key back must not get it onto the record.
    fn served_model(&self) -> Option<String> {
        let served = self.read()?.served_model.clone()?;
        Some(if self.keys.are_in(&served) { WITHHELD.to_owned() } else { served })
    }

    fn request_id(&self) -> Option<String> {
        let in_body = self.read().and_then(|read| read.id.clone());
        [self.request_id.clone(), in_body].into_iter().flatten().find(|id| !self.keys.are_in(id))
    }

    fn reply(self, text: String) -> Reply {
        Reply {
            text,
            served_model: self.served_model(),
            usage: self.read().and_then(|read| read.usage),
            status: self.status,
            request_id: self.request_id(),
            timing: self.timing(),
        }
    }

    fn signal(self, Fault { seen, mut error }: Fault) -> Signal {
        // First: from here on nothing of it leaves any more.
        let sent = self.departure.revoke();
        let read = self.read();
        if seen == Seen::Finished(Finish::Refused) && error.code.is_none() {
            error.code = read.and_then(|read| read.refusal.clone());
        }
        Signal {
            api: self.api,
            seen,
            sent: if self.status.is_some() { Sent::Maybe } else { sent },
            status: self.status,
            headers: self.headers.clone(),
            error,
            usage: read.and_then(|read| read.usage),
            served_model: self.served_model(),
            request_id: self.request_id(),
            timing: self.timing(),
            body: self.status.map(|_| self.received.seen()),
        }
    }
}

/// The limit on the time to the first piece of an answer: it counts from the first byte.
struct Content<'a> {
    first: &'a OnceLock<Instant>,
    limit: Duration,
    /// When that piece came.
    at: &'a mut Option<Instant>,
}

impl Content<'_> {
    /// Until when it has to be there; later than needed while no byte came.
    fn until(&self) -> Instant {
        self.first.get().copied().unwrap_or_else(Instant::now) + self.limit
    }

    /// The next event, if the first piece of the answer is not late.
    async fn next(&self, events: &mut BoxStream<'_, Result<OwnedEvent, Seen>>) -> Result<Option<OwnedEvent>, Seen> {
        let mut next = pin!(events.next());
        loop {
            tokio::select! {
                biased;
                event = &mut next => return event.transpose(),
                () = sleep_until(self.until()), if self.at.is_none() => {
                    if self.first.get().is_some() && self.until() <= Instant::now() {
                        return Err(Seen::TimerFired(Timer::FirstContent));
                    }
                }
            }
        }
    }
}

/// Reads events up to the last one.
async fn events_into(
    mut events: BoxStream<'_, Result<OwnedEvent, Seen>>,
    reader: &mut dyn Reader,
    content: Content<'_>,
) -> Result<(), Fault> {
    let mut some = false;
    while let Some(OwnedEvent { name, exception, data }) = content.next(&mut events).await? {
        some = true;
        match reader.take(Event { name: &name, exception, data: &data })? {
            Step::Nothing => {}
            Step::Content => {
                content.at.get_or_insert_with(Instant::now);
            }
            Step::Done => {
                // What follows does not matter; only that it ends does, and only to keep the connection.
                let _ = timeout(LINGER, events.next()).await;
                return Ok(());
            }
        }
    }
    match (some, reader.may_end()) {
        (true, true) => Ok(()),
        (true, false) => Err(Seen::Truncated.into()),
        (false, _) => Err(Seen::Empty.into()),
    }
}

/// Reads a whole body of a 2xx.
fn whole(wire: &dyn Wire, body: &[u8]) -> Result<Read, Fault> {
    let text = body.trim_ascii_start();
    if text.is_empty() {
        return Err(Seen::Empty.into());
    }
    if text.starts_with(b"<") {
        return Err(Seen::Html.into());
    }
    wire.whole(body)
}

/// The answer without the fence of Markdown that models put around JSON when nothing holds them to it.
fn unfenced(text: &str) -> &str {
    let inner = text.trim().strip_prefix("```").and_then(|rest| rest.strip_suffix("```"));
    let Some((language, inner)) = inner.and_then(|inner| inner.split_once('\n')) else { return text };
    let is_fence = language.trim().chars().all(|c| c.is_ascii_alphanumeric()) && !inner.contains("```");
    if is_fence { inner.trim() } else { text }
}

#[cfg(test)]
mod tests;
