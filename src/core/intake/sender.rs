//! What all formats share while they read: who sent it, and refusals that tell the sender's owner what to do.

use std::fmt;

use serde_json::{Map, Value};

use super::split::{MAX_ENVELOPE, Split, mend};
use crate::api::v1alpha1::{AlertSource, Time};

/// What the request adds to its payload.
#[derive(Clone, Copy, Debug)]
pub struct RequestInfo<'a> {
    /// When it arrived.
    pub received_at: Time,
    /// Its id.
    pub request_id: &'a str,
    /// Name of this cluster; empty when it has none.
    pub cluster_name: &'a str,
    /// The payload is the beginning of a longer one.
    pub cut_off: bool,
}

/// A payload's list of alerts.
pub(super) struct List<'a> {
    /// The payload with an empty list; of a long one, what is asked for.
    pub envelope: Map<String, Value>,
    /// The whole elements of the list, unread.
    pub elements: Box<dyn Iterator<Item = &'a [u8]> + Send + 'a>,
}

/// Who sends a format.
#[derive(Debug)]
pub struct Sender {
    /// What its alerts say about who sent them.
    pub source: AlertSource,
    /// Its name, for people.
    pub name: &'static str,
    /// What its owner can do when a payload is not understood.
    pub resend: &'static str,
    /// What its owner can do when a payload is too large.
    pub fewer: &'static str,
}

/// Why a payload cannot be read: what is wrong where, what was expected, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadInput {
    /// Path of the field, such as `alerts[3].labels.pod`; empty for the payload as a whole.
    pub field: String,
    /// What is there.
    pub found: String,
    /// What should be there.
    pub expected: &'static str,
    /// What the sender's owner can do.
    pub next_step: &'static str,
}

impl fmt::Display for BadInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = if self.field.is_empty() { "the payload" } else { &self.field };
        write!(f, "{field} is {}, expected {}; {}", self.found, self.expected, self.next_step)
    }
}

impl std::error::Error for BadInput {}

impl Sender {
    /// Finds the list of alerts in the field `key` of a payload. `asked`: fields beside it that are read.
    pub(super) fn alerts<'a>(
        &self,
        payload: &'a [u8],
        key: &str,
        asked: &[&str],
        request: RequestInfo<'_>,
    ) -> Result<List<'a>, BadInput> {
        let split = Split::of(payload, key).filter(|split| request.cut_off || !split.open);
        let Some(split) = split else { return self.no_list(payload, key) };
        let envelope = split.envelope(asked, request.cut_off);
        let envelope = self.json(&envelope)?;
        Ok(List { envelope, elements: Box::new(split.elements()) })
    }

    /// A payload without a list, or without its end.
    fn no_list<'a>(&self, payload: &'a [u8], key: &str) -> Result<List<'a>, BadInput> {
        if payload.len() > MAX_ENVELOPE {
            return Err(BadInput {
                field: key.into(),
                found: "not to be found".into(),
                expected: "a list of alerts in a JSON object",
                next_step: self.resend,
            });
        }
        let envelope = self.json(payload)?;
        match envelope.get(key) {
            // Go writes an empty list so.
            Some(Value::Null) => Ok(List { envelope, elements: Box::new(std::iter::empty()) }),
            Some(other) => Err(self.wrong(key, other, "a list of alerts")),
            None => Err(self.missing(key, "a list of alerts")),
        }
    }

    /// A JSON object.
    fn json(&self, text: &[u8]) -> Result<Map<String, Value>, BadInput> {
        match serde_json::from_slice(text).or_else(|_| serde_json::from_slice(&mend(text))) {
            Ok(Value::Object(fields)) => Ok(fields),
            Ok(other) => Err(self.wrong("", &other, "a JSON object")),
            Err(error) => Err(BadInput {
                field: String::new(),
                found: format!("not JSON ({error})"),
                expected: "a JSON object",
                next_step: self.resend,
            }),
        }
    }

    /// Optional text.
    pub fn text(&self, fields: &Map<String, Value>, key: &str, at: &str) -> Result<Option<String>, BadInput> {
        match fields.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(self.wrong(&format!("{at}.{key}"), other, "a string")),
        }
    }

    /// A time, or `None` when there is none: absent, or the zero time of Go, or outside of what can be meant.
    pub fn time(&self, fields: &Map<String, Value>, key: &str, at: &str) -> Result<Option<Time>, BadInput> {
        let expected = "a time such as 2026-01-31T12:00:00Z";
        let text = match fields.get(key) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) if text.is_empty() => return Ok(None),
            Some(Value::String(text)) => text,
            Some(other) => return Err(self.wrong(&format!("{at}.{key}"), other, expected)),
        };
        let unreadable = || self.wrong(&format!("{at}.{key}"), &Value::String(text.clone()), expected);
        let time: Time = text.parse().map_err(|_| unreadable())?;
        // Seconds of 1970-01-01 and 2200-01-01. The API server refuses years that RFC 3339 cannot write.
        Ok((0..7_258_118_400).contains(&time.as_second()).then_some(time))
    }

    /// What is there is not what is expected.
    pub fn wrong(&self, field: &str, value: &Value, expected: &'static str) -> BadInput {
        let found = match value {
            Value::Null => "null".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Number(value) => value.to_string(),
            Value::String(text) => format!("{:?}", excerpt(text)),
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) => "an object".to_owned(),
        };
        BadInput { field: field.into(), found, expected, next_step: self.resend }
    }

    /// Nothing is there.
    pub fn missing(&self, field: &str, expected: &'static str) -> BadInput {
        BadInput { field: field.into(), found: "missing".into(), expected, next_step: self.resend }
    }
}

/// Control characters, and those that make text read in another order than it is written.
pub(super) fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// The beginning of untrusted text, for an error message.
pub(super) fn excerpt(text: &str) -> String {
    text.chars().take(64).map(|c| if is_unsafe(c) { '\u{FFFD}' } else { c }).collect()
}
