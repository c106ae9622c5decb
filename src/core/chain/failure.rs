//! What a failed call of a model means: its class, and what the class asks for. Decided by status, header and code, never
//! by the words of a message, which may come from anywhere.

use std::time::Duration;

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
    /// The credentials were refused, or may not do this.
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
    /// The upstream's id of the request, at most 128 characters.
    pub request_id: Option<String>,
    /// What was used before it failed, as far as the upstream said.
    pub usage: Option<Usage>,
    /// What happened, in words of ours, at most 256 characters: it quotes nothing of a body.
    pub message: String,
}
