//! What a failed call of a model means: its class ([`classify`]). Told by status, header and code, never by the words of a
//! message, which may come from anywhere. What the class asks for is in [`decision`](super::decision).

use std::time::Duration;

use super::retry_after;
use super::signal::{ErrorSaid, Finish, Seen, Sent, Signal, Timer};
use crate::api::v1alpha1::{ModelApi, Time};
use crate::core::money::Usage;

/// Classes of failures of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// No connection, or it broke: DNS, refused, TLS, reset, GOAWAY.
    Transport,
    /// A limit of ours on one of the call's phases passed, or the upstream answered 408.
    Timeout,
    /// Too many requests for now.
    RateLimited,
    /// The account's quota or spend limit is used up: waiting a moment does not help.
    QuotaExhausted,
    /// The account has to pay first.
    Billing,
    /// The credentials were refused, or may not do this, or could not be read.
    CredentialsRefused,
    /// The upstream failed.
    Upstream,
    /// The request was refused as wrong.
    CallerError,
    /// The prompt is longer than the model takes.
    ContextTooLong,
    /// The model, or a filter before it, refused to answer.
    Refused,
    /// A 2xx whose body is not an answer: an error, HTML, nothing, or something else.
    Malformed,
    /// The answer ended before its end.
    Truncated,
    /// The answer reached the most tokens that were asked for.
    OutputLimit,
    /// The answer is whole, and not of the schema.
    NotOfSchema,
    /// The body is larger than is read.
    TooLarge,
    /// It says that more was used than the request can have used: what it costs cannot be counted.
    UsageImplausible,
}

impl Class {
    /// Every class.
    pub const ALL: [Class; 16] = [
        Class::Transport,
        Class::Timeout,
        Class::RateLimited,
        Class::QuotaExhausted,
        Class::Billing,
        Class::CredentialsRefused,
        Class::Upstream,
        Class::CallerError,
        Class::ContextTooLong,
        Class::Refused,
        Class::Malformed,
        Class::Truncated,
        Class::OutputLimit,
        Class::NotOfSchema,
        Class::TooLarge,
        Class::UsageImplausible,
    ];

    /// Its constant, as it stands in attempts, status, metrics and the audit log.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Transport => "Transport",
            Class::Timeout => "Timeout",
            Class::RateLimited => "RateLimited",
            Class::QuotaExhausted => "QuotaExhausted",
            Class::Billing => "Billing",
            Class::CredentialsRefused => "CredentialsRefused",
            Class::Upstream => "Upstream",
            Class::CallerError => "CallerError",
            Class::ContextTooLong => "ContextTooLong",
            Class::Refused => "Refused",
            Class::Malformed => "Malformed",
            Class::Truncated => "Truncated",
            Class::OutputLimit => "OutputLimit",
            Class::NotOfSchema => "NotOfSchema",
            Class::TooLarge => "TooLarge",
            Class::UsageImplausible => "UsageImplausible",
        }
    }
}

/// A failed call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure it is.
    pub class: Class,
    /// Status of the response; `None` when there was none.
    pub status: Option<u16>,
    /// How long the upstream asks to wait.
    pub retry_after: Option<Duration>,
    /// What the upstream says about trying again, in the header `x-should-retry`.
    pub should_retry: Option<bool>,
    /// The code of the upstream that decided, if one did: one of those that are known here.
    pub code: Option<&'static str>,
    /// What is wrong about an answer, narrower than its class, such as `Html` or `TooDeep`.
    pub kind: Option<&'static str>,
    /// The limit of ours that passed, if one did.
    pub timer: Option<Timer>,
    /// Whether the upstream can have got the request, and so can charge for it.
    pub sent: Sent,
    /// The upstream's id of the request, at most 128 characters.
    pub request_id: Option<String>,
    /// What was used before it failed, as far as the upstream said.
    pub usage: Option<Usage>,
    /// What happened, in words of ours, at most 256 characters: it quotes nothing of a body.
    pub message: String,
}

impl Failure {
    /// A whole answer that is not of the schema. `kind` says what is wrong about it. The error that is sent back to the model
    /// is the caller's to keep.
    pub fn not_of_schema(kind: &'static str, request_id: Option<String>, usage: Usage) -> Failure {
        Failure {
            class: Class::NotOfSchema,
            status: Some(200),
            retry_after: None,
            should_retry: None,
            code: None,
            kind: Some(kind),
            timer: None,
            sent: Sent::Maybe,
            request_id: request_id.map(|id| clipped(&id)),
            usage: Some(usage),
            message: format!("the answer is whole and not of the schema: {kind}"),
        }
    }

    /// A response that says that it used more than it can have. `usage` is what is believed of it.
    pub fn usage_implausible(status: Option<u16>, request_id: Option<String>, usage: Usage) -> Failure {
        Failure {
            class: Class::UsageImplausible,
            status,
            kind: None,
            message: "it says that it used more tokens than request and answer can have".into(),
            ..Failure::not_of_schema("", request_id, usage)
        }
    }

    /// Whether the request did not even leave this process: its key could not be read, or it could not be built. It is none of
    /// the attempts of a diagnosis. One that found no connection is: it took its time.
    pub fn never_left(&self) -> bool {
        self.status.is_none() && matches!(self.class, Class::CredentialsRefused | Class::CallerError)
    }

    /// What is narrower than the class, as a constant: the code of the upstream, or what is wrong about the answer.
    pub fn detail(&self) -> Option<&'static str> {
        self.code.or(self.kind)
    }
}

/// What was seen of a failed call, as a failure. `now` is the time of day, for dates in headers.
pub fn classify(signal: &Signal, now: Time) -> Failure {
    let Signal { seen, sent, status, headers, usage, request_id, .. } = signal;
    let (class, code) = class(signal);
    let retry_after = retry_after::named(signal, now);
    // Responses of all kinds say when limits are lifted; it is a wait only where one was reached.
    let limited = matches!(class, Class::RateLimited | Class::QuotaExhausted);
    let until_reset = || limited.then(|| retry_after::until_reset(headers, now)).flatten();
    Failure {
        class,
        status: *status,
        retry_after: retry_after.or_else(until_reset),
        should_retry: match headers.get("x-should-retry").map(|value| value.trim().to_ascii_lowercase()).as_deref() {
            Some("true") => Some(true),
            Some("false") => Some(false),
            _ => None,
        },
        code,
        kind: kind(*seen),
        timer: match seen {
            Seen::TimerFired(timer) => Some(*timer),
            _ => None,
        },
        sent: *sent,
        request_id: request_id.as_deref().map(clipped),
        usage: *usage,
        message: message(*seen, *status, code),
    }
}

fn clipped(id: &str) -> String {
    id.chars().take(128).collect()
}

/// What a code of an upstream means where it is told inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Is(Class),
    /// Bedrock's word for a failure of the model itself, which brings the model's own status.
    AsOriginally,
}

/// Codes that are known, in lower case, and what each means. Bedrock's exceptions are here without regard to case.
const CODES: &[(&str, Told)] = &[
    // Quotas. Waiting a moment does not help.
    ("insufficient_quota", Told::Is(Class::QuotaExhausted)),
    ("credit_balance_exhausted", Told::Is(Class::QuotaExhausted)),
    ("enforced_spend_limit_reached", Told::Is(Class::QuotaExhausted)),
    ("contract_spend_limit_reached", Told::Is(Class::QuotaExhausted)),
    // Limits for now.
    ("rate_limit_error", Told::Is(Class::RateLimited)),
    ("rate_limit_exceeded", Told::Is(Class::RateLimited)),
    ("ramp_limit_exceeded", Told::Is(Class::RateLimited)),
    ("slow_down", Told::Is(Class::RateLimited)),
    ("in_flight_budget_exhausted", Told::Is(Class::RateLimited)),
    ("throttlingexception", Told::Is(Class::RateLimited)),
    ("modelnotreadyexception", Told::Is(Class::RateLimited)),
    // The account.
    ("billing_error", Told::Is(Class::Billing)),
    ("weight_exceeds_budget", Told::Is(Class::Billing)),
    ("authentication_error", Told::Is(Class::CredentialsRefused)),
    ("invalid_api_key", Told::Is(Class::CredentialsRefused)),
    ("permission_error", Told::Is(Class::CredentialsRefused)),
    ("accessdeniedexception", Told::Is(Class::CredentialsRefused)),
    ("unrecognizedclientexception", Told::Is(Class::CredentialsRefused)),
    ("expiredtokenexception", Told::Is(Class::CredentialsRefused)),
    ("expiredtoken", Told::Is(Class::CredentialsRefused)),
    ("invalidsignatureexception", Told::Is(Class::CredentialsRefused)),
    // The model, or a filter, does not want to.
    ("content_filter", Told::Is(Class::Refused)),
    ("content_policy_violation", Told::Is(Class::Refused)),
    ("invalid_prompt", Told::Is(Class::Refused)),
    ("refusal", Told::Is(Class::Refused)),
    // The request.
    ("context_length_exceeded", Told::Is(Class::ContextTooLong)),
    ("invalid_request_error", Told::Is(Class::CallerError)),
    ("not_found_error", Told::Is(Class::CallerError)),
    ("model_not_found", Told::Is(Class::CallerError)),
    ("request_too_large", Told::Is(Class::CallerError)),
    ("validationexception", Told::Is(Class::CallerError)),
    ("conflictexception", Told::Is(Class::CallerError)),
    ("resourcenotfoundexception", Told::Is(Class::CallerError)),
    ("servicequotaexceededexception", Told::Is(Class::CallerError)),
    // The upstream.
    ("modeltimeoutexception", Told::Is(Class::Timeout)),
    ("timeout_error", Told::Is(Class::Upstream)),
    ("overloaded_error", Told::Is(Class::Upstream)),
    ("api_error", Told::Is(Class::Upstream)),
    ("server_error", Told::Is(Class::Upstream)),
    ("internalserverexception", Told::Is(Class::Upstream)),
    ("serviceunavailableexception", Told::Is(Class::Upstream)),
    ("modelerrorexception", Told::AsOriginally),
    ("modelstreamerrorexception", Told::AsOriginally),
];

/// Categories of a refusal that are known.
const REFUSALS: &[&str] = &["cyber", "bio", "frontier_llm", "reasoning_extraction", "general_harms"];
/// A category of a refusal that is not.
const ANOTHER_REFUSAL: &str = "another_category";

/// The category of a refusal, if the upstream says one.
fn category(error: &ErrorSaid) -> Option<&'static str> {
    let said = error.code.as_ref()?.to_ascii_lowercase();
    Some(REFUSALS.iter().copied().find(|known| *known == said).unwrap_or(ANOTHER_REFUSAL))
}

/// The codes that the upstream gives and that are known: the narrower one first. Bedrock's events name exceptions in
/// another case than its headers do.
fn known(error: &ErrorSaid) -> impl Iterator<Item = (&'static str, Told)> {
    let words = [&error.code, &error.kind].into_iter().flatten().map(|word| word.to_ascii_lowercase());
    words.filter_map(|word| CODES.iter().find(|(code, _)| *code == word).copied())
}

fn class(signal: &Signal) -> (Class, Option<&'static str>) {
    match signal.seen {
        Seen::Unresolved | Seen::Refused | Seen::Tls | Seen::NotConnected | Seen::Broken | Seen::NotHttp => {
            (Class::Transport, None)
        }
        Seen::NoCredentials => (Class::CredentialsRefused, None),
        Seen::NotBuilt => (Class::CallerError, None),
        Seen::TimerFired(_) => (Class::Timeout, None),
        Seen::Status => of_status(signal),
        Seen::ErrorBody => of_error_body(signal),
        Seen::ErrorEvent => of_error_event(signal),
        Seen::Html | Seen::Empty | Seen::NotOfTheApi | Seen::NoText => (Class::Malformed, None),
        Seen::Truncated => (Class::Truncated, None),
        Seen::TooLarge => (Class::TooLarge, None),
        Seen::Finished(Finish::Refused) => (Class::Refused, category(&signal.error)),
        Seen::Finished(finish) => (of_finish(finish), None),
    }
}

/// What is wrong about an answer, narrower than its class.
fn kind(seen: Seen) -> Option<&'static str> {
    Some(match seen {
        Seen::ErrorBody => "ErrorBody",
        Seen::Html => "Html",
        Seen::Empty => "Empty",
        Seen::NotOfTheApi => "NotOfTheApi",
        Seen::NoText => "NoText",
        Seen::Truncated => "Truncated",
        Seen::TooLarge => "BodyTooLarge",
        Seen::Finished(Finish::Filtered) => "Filtered",
        Seen::Finished(Finish::Garbled) => "Garbled",
        Seen::Finished(Finish::UnaskedTool) => "UnaskedTool",
        Seen::Finished(Finish::Interrupted) => "Interrupted",
        Seen::Finished(Finish::Stop | Finish::Unknown) => "UnknownEnd",
        _ => return None,
    })
}

/// By the status; a code only says which of the things it is that the status may mean.
fn of_status(signal: &Signal) -> (Class, Option<&'static str>) {
    let codes: Vec<(&'static str, Told)> = known(&signal.error).collect();
    let said = |class: Class| codes.iter().find(|(_, told)| *told == Told::Is(class)).map(|(code, _)| *code);
    // A refusal stays one whatever status a gateway gives it.
    if let Some(code) = said(Class::Refused) {
        return (Class::Refused, Some(code));
    }
    let any_of = |classes: &[Class], or: Class| {
        classes.iter().find_map(|class| said(*class).map(|code| (*class, Some(code)))).unwrap_or((or, said(or)))
    };
    match signal.status.unwrap_or_default() {
        402 => match said(Class::RateLimited) {
            Some(code) if signal.headers.get("retry-after").is_some() => (Class::RateLimited, Some(code)),
            _ => (Class::Billing, said(Class::Billing)),
        },
        401 | 403 => (Class::CredentialsRefused, said(Class::CredentialsRefused)),
        408 => (Class::Timeout, said(Class::Timeout)),
        424 => {
            let bedrock = signal.api == ModelApi::BedrockConverse;
            let code = codes.iter().find(|(_, told)| *told == Told::AsOriginally).map(|(code, _)| *code);
            let class = if bedrock || code.is_some() { originally(signal.error.status) } else { Class::CallerError };
            (class, code)
        }
        429 => any_of(&[Class::QuotaExhausted], Class::RateLimited),
        400..=499 => any_of(&[Class::ContextTooLong, Class::Billing], Class::CallerError),
        500..=599 => (Class::Upstream, said(Class::Upstream)),
        // A redirect, which is not followed: the URL is wrong.
        300..=399 => (Class::CallerError, None),
        _ => (Class::Malformed, None),
    }
}

/// A 2xx with an error in it counts as 502, unless it says that it is something else that another upstream may be asked
/// after, or a refusal.
fn of_error_body(signal: &Signal) -> (Class, Option<&'static str>) {
    match told_inside(signal) {
        Some((
            class @ (Class::RateLimited | Class::QuotaExhausted | Class::Timeout | Class::Upstream | Class::Refused),
            code,
        )) => (class, code),
        _ => (Class::Malformed, None),
    }
}

/// An event that is an error counts as what it says it is, and as 502 when it says nothing that is known.
fn of_error_event(signal: &Signal) -> (Class, Option<&'static str>) {
    told_inside(signal).unwrap_or((Class::Upstream, None))
}

fn told_inside(signal: &Signal) -> Option<(Class, Option<&'static str>)> {
    let of_code = |(code, told)| match told {
        Told::Is(class) => (class, Some(code)),
        Told::AsOriginally => (originally(signal.error.status), Some(code)),
    };
    let codes = || known(&signal.error).map(of_code);
    // OpenAI's `invalid_request_error` is the kind of many a code; a refusal is one wherever it stands.
    codes()
        .find(|(class, _)| *class == Class::Refused)
        .or_else(|| codes().next())
        .or_else(|| signal.error.status.map(|status| (bare(status), None)))
}

/// The class of the status that a model gave to the one who answers for it; 502 where there is none.
fn originally(status: Option<u16>) -> Class {
    match status {
        Some(424) | None => Class::Upstream,
        Some(status) => bare(status),
    }
}

/// The class of a status of which nothing else is known.
fn bare(status: u16) -> Class {
    match status {
        402 => Class::Billing,
        401 | 403 => Class::CredentialsRefused,
        408 => Class::Timeout,
        429 => Class::RateLimited,
        400..=499 => Class::CallerError,
        _ => Class::Upstream,
    }
}

fn of_finish(finish: Finish) -> Class {
    match finish {
        Finish::OutputLimit => Class::OutputLimit,
        Finish::ContextWindow => Class::ContextTooLong,
        Finish::Refused | Finish::Filtered => Class::Refused,
        Finish::Garbled | Finish::UnaskedTool => Class::NotOfSchema,
        // Something that nobody asked for: asking again would bring it again.
        Finish::Interrupted => Class::CallerError,
        Finish::Stop | Finish::Unknown => Class::Malformed,
    }
}

fn message(seen: Seen, status: Option<u16>, code: Option<&'static str>) -> String {
    let what = match seen {
        Seen::NoCredentials => "its credentials could not be read",
        Seen::NotBuilt => "the request could not be built",
        Seen::Unresolved => "the name of the host could not be resolved",
        Seen::Refused => "the connection was refused",
        Seen::Tls => "TLS failed",
        Seen::NotConnected => "no connection could be made",
        Seen::Broken => "the connection broke before the response began",
        Seen::NotHttp => "what came is not HTTP",
        Seen::TimerFired(Timer::Connect) => "no connection within its limit",
        Seen::TimerFired(Timer::ResponseHead) => "no response within its limit",
        Seen::TimerFired(Timer::FirstEvent) => "nothing of a body within its limit",
        Seen::TimerFired(Timer::FirstContent) => "nothing of an answer within its limit",
        Seen::TimerFired(Timer::Idle) => "the body stalled for longer than its limit",
        Seen::TimerFired(Timer::Overall) => "no whole answer within its share of the deadline",
        Seen::Status => "an error",
        Seen::ErrorBody => "the body is an error",
        Seen::ErrorEvent => "an event of the stream is an error",
        Seen::Html => "the body is HTML",
        Seen::Empty => "the body is empty",
        Seen::NotOfTheApi => "the body is not of the API",
        Seen::Truncated => "the body ended before its end",
        Seen::TooLarge => "the body is larger than is read",
        Seen::NoText => "the response holds no text",
        Seen::Finished(Finish::OutputLimit) => "the answer reached the most tokens that were asked for",
        Seen::Finished(Finish::ContextWindow) => "prompt and answer are longer than the model takes",
        Seen::Finished(Finish::Refused) => "the model refused",
        Seen::Finished(Finish::Filtered) => "a filter stopped the answer",
        Seen::Finished(Finish::Garbled) => "the upstream says that the answer is broken",
        Seen::Finished(Finish::UnaskedTool) => "the model called a tool that nobody offered",
        Seen::Finished(Finish::Interrupted) => "the answer was interrupted",
        Seen::Finished(Finish::Stop | Finish::Unknown) => "the answer ended for an unknown reason",
    };
    let status = status.map_or_else(String::new, |status| format!("HTTP {status}: "));
    let code = code.map_or_else(String::new, |code| format!(" ({code})"));
    format!("{status}{what}{code}")
}

#[cfg(test)]
#[path = "failure_tests.rs"]
mod tests;
