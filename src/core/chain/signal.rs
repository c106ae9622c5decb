//! Everything that was seen of a call that gave no answer. The wire and the sender fill it in; what it means is decided in
//! `failure`, from nothing else. It holds no text of a body: codes are bounded words, and headers are those that count.

use std::{fmt, time::Duration};

use crate::api::v1alpha1::ModelApi;
use crate::core::money::Usage;

/// Most headers of a response that are kept.
pub const MAX_HEADERS: usize = 32;
/// Most characters of a header's value that are kept.
pub const MAX_HEADER_VALUE: usize = 128;
/// Most characters of a code, or of an id of a request.
pub const MAX_WORD: usize = 128;

/// A call that gave no answer, as it was seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Signal {
    /// The API that was spoken: the same word means different things in two of them.
    pub api: ModelApi,
    /// What ended the call.
    pub seen: Seen,
    /// Whether the upstream can have got the request, and so can charge for it.
    pub sent: Sent,
    /// Status of the response; `None` when no head came.
    pub status: Option<u16>,
    /// Those headers of the response that say something about trying again.
    pub headers: Headers,
    /// What the upstream says about the error, in the body, an event or a header.
    pub error: ErrorSaid,
    /// What was used, as far as the upstream said.
    pub usage: Option<Usage>,
    /// The model that the upstream says it used, if it said so before it failed.
    pub served_model: Option<String>,
    /// The upstream's id of the request.
    pub request_id: Option<String>,
    /// How far the call came, and when.
    pub timing: Timing,
    /// What came of the body.
    pub body: Option<BodySeen>,
}

/// What ended a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Seen {
    /// Its credentials could not be read from their files. Nothing was sent.
    NoCredentials,
    /// The request could not be built: a URL, a region or a header that is none. Nothing was sent.
    NotBuilt,
    /// The name of the host could not be resolved.
    Unresolved,
    /// Nothing listens there.
    Refused,
    /// TLS failed: a certificate, a version, a name.
    Tls,
    /// No connection came to be for another reason.
    NotConnected,
    /// The connection broke: reset, or closed before the head of the response was whole.
    Broken,
    /// What came is not HTTP.
    NotHttp,
    /// A limit of ours passed.
    TimerFired(Timer),
    /// A whole head whose status is not 2xx. Redirects are not followed.
    Status,
    /// A 2xx, and its body says that it is an error.
    ErrorBody,
    /// A 2xx, and an event of its stream says that it is an error.
    ErrorEvent,
    /// A 2xx whose body is HTML.
    Html,
    /// A 2xx without a body, or without a single event.
    Empty,
    /// A 2xx whose body is something else than the API says: no JSON, other fields, a key twice, an event that is none.
    NotOfTheApi,
    /// A 2xx whose body ended, or broke, before its end: no last event, or fewer bytes than announced.
    Truncated,
    /// A 2xx whose body, or one line of it, is larger than is read.
    TooLarge,
    /// A whole response of the API that holds no text.
    NoText,
    /// A whole response that did not end with the model being done. Never [`Finish::Stop`].
    Finished(Finish),
}

/// The limits on a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// Until the connection stands.
    Connect,
    /// Until the head of the response is there.
    ResponseHead,
    /// Until the first event or byte of the body.
    FirstEvent,
    /// Until the first piece of the answer itself.
    FirstContent,
    /// Between two pieces of the body.
    Idle,
    /// The call's share of the request's deadline. Of all timers the only one that says nothing about the upstream: the
    /// share may have been shorter than what the upstream may take.
    Overall,
}

/// Why the model stopped, in one spelling for all APIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Finish {
    /// It was done, or called the tool that it had to call.
    Stop,
    /// It reached the most tokens that were asked for.
    OutputLimit,
    /// Prompt and answer together are longer than the model takes.
    ContextWindow,
    /// It refused.
    Refused,
    /// A filter or guardrail stopped it.
    Filtered,
    /// The upstream says that what the model wrote is broken.
    Garbled,
    /// It called a tool that nobody offered.
    UnaskedTool,
    /// It paused, was queued, cancelled or steered away: nothing that was asked for.
    Interrupted,
    /// A reason that is not known, or none.
    Unknown,
}

/// Whether an upstream can have got a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sent {
    /// It is proven that no byte of the body left: nothing can be charged.
    Nothing,
    /// It may have arrived, or did.
    Maybe,
}

/// What an upstream says about its error. Words are bounded and of letters, digits, `_`, `-`, `.` and `:`, or dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorSaid {
    /// Its kind: `error.type` of Anthropic and OpenAI, the exception of Bedrock (of the header `x-amzn-errortype`, the body
    /// or the event), without a namespace before it or a URL behind it.
    pub kind: Option<String>,
    /// Its code: `error.code` of OpenAI, `error.details.error_code` of Anthropic.
    pub code: Option<String>,
    /// A status that is told inside: a numeric `error.code` or `error.status`, Bedrock's `originalStatusCode`.
    pub status: Option<u16>,
    /// A wait that is told inside, as it is spelled: Google's `retryDelay`, such as `34s`.
    pub retry_delay: Option<String>,
}

/// How far a call came: each is the time since its begin, `None` while it was not reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// The connection stood; `None` also when one was there already.
    pub connected: Option<Duration>,
    /// The head of the response was there.
    pub head: Option<Duration>,
    /// The first event, or byte of the body, was there.
    pub first_event: Option<Duration>,
    /// The first piece of the answer was there.
    pub first_content: Option<Duration>,
    /// The call was over.
    pub total: Duration,
}

/// What came of a body: enough to tell two of them apart, nothing of what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodySeen {
    /// Bytes that were read.
    pub bytes: u64,
    /// The first 16 hex digits of their SHA-256.
    pub sha256: String,
}

/// Some headers of a response: names in lower case, values bounded.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// Those of `headers` that count for a failed call, in their order, names in lower case, at most [`MAX_HEADERS`].
    pub fn of<'a>(headers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Headers {
        let kept = headers.into_iter().filter_map(|(name, value)| {
            let name = name.to_ascii_lowercase();
            let value: String = value.trim().chars().filter(|c| !c.is_control()).take(MAX_HEADER_VALUE).collect();
            counts(&name).then_some((name, value))
        });
        Headers(kept.take(MAX_HEADERS).collect())
    }

    /// The first value of the header that is called `name`, in lower case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(kept, _)| *kept == name).map(|(_, value)| value)
    }

    /// All of them: name in lower case, value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Whether a header, by its name in lower case, is kept: when and whether to try again, and the clock that a date in it is
/// relative to.
fn counts(name: &str) -> bool {
    matches!(
        name,
        "retry-after"
            | "retry-after-ms"
            | "x-ms-retry-after-ms"
            | "llm_provider-retry-after"
            | "x-should-retry"
            | "date"
            | "x-amzn-errortype"
    ) || ["x-ratelimit-", "ratelimit", "anthropic-ratelimit-"].iter().any(|prefix| name.starts_with(prefix))
}

/// `word` when it can stand in a record as it is: not empty, at most [`MAX_WORD`] characters, of letters, digits, `_`, `-`,
/// `.` and `:`.
pub fn word(word: &str) -> Option<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || ['_', '-', '.', ':'].contains(&c);
    let good = !word.is_empty() && word.len() <= MAX_WORD && word.chars().all(fits);
    good.then(|| word.to_owned())
}

impl Signal {
    /// A call of which nothing more was seen than what ended it. It may have been sent.
    pub fn new(api: ModelApi, seen: Seen) -> Signal {
        Signal {
            api,
            seen,
            sent: Sent::Maybe,
            status: None,
            headers: Headers::default(),
            error: ErrorSaid::default(),
            usage: None,
            served_model: None,
            request_id: None,
            timing: Timing::default(),
            body: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_headers_about_trying_again_are_kept_and_they_are_bounded() {
        let long = "9".repeat(1000);
        let headers = Headers::of([
            ("Retry-After", " 20 "),
            ("Set-Cookie", "session=secret"),
            ("X-RateLimit-Reset-Requests", "6m0s"),
            ("anthropic-ratelimit-tokens-reset", "2026-11-27T10:00:00Z"),
            ("Authorization", "Bearer secret"),
            ("ratelimit-reset", long.as_str()),
        ]);
        assert_eq!(headers.get("retry-after"), Some("20"));
        assert_eq!(headers.get("x-ratelimit-reset-requests"), Some("6m0s"));
        assert_eq!(headers.iter().count(), 4);
        assert_eq!(headers.get("ratelimit-reset").map(str::len), Some(MAX_HEADER_VALUE));
        let many: Vec<String> = (0..500).map(|number| format!("x-ratelimit-{number}")).collect();
        assert_eq!(Headers::of(many.iter().map(|name| (name.as_str(), "1"))).iter().count(), MAX_HEADERS);
        assert!(!format!("{headers:?}").contains("secret"));
    }

    #[test]
    fn a_word_of_an_upstream_is_a_word_or_nothing() {
        assert_eq!(word("rate_limit_error").as_deref(), Some("rate_limit_error"));
        for bad in ["", "two words", "<b>", "a\nb", "ключ", "sk-1/2", &"a".repeat(129)] {
            assert_eq!(word(bad), None, "{bad:?}");
        }
    }
}
