//! What all formats share while they read: who sent it, and refusals that tell the sender's owner what to do.

use std::fmt;

use serde_json::{Map, Value};

use crate::api::v1alpha1::{AlertSource, Time};

/// Alerts in one request.
pub const MAX_ALERTS: usize = 2000;

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
    /// The payload as JSON.
    pub fn json(&self, payload: &[u8]) -> Result<Value, BadInput> {
        serde_json::from_slice(payload).map_err(|error| BadInput {
            field: String::new(),
            found: format!("not JSON ({error})"),
            expected: "a JSON object",
            next_step: self.resend,
        })
    }

    /// A JSON object.
    pub fn object<'a>(&self, value: &'a Value, at: &str) -> Result<&'a Map<String, Value>, BadInput> {
        value
            .as_object()
            .ok_or_else(|| self.wrong(at, value, if at.is_empty() { "a JSON object" } else { "an object" }))
    }

    /// The list of alerts in the field `key`, of a length that is accepted.
    pub fn alerts<'a>(&self, fields: &'a Map<String, Value>, key: &str) -> Result<&'a [Value], BadInput> {
        let alerts = match fields.get(key) {
            Some(Value::Array(alerts)) => alerts,
            Some(other) => return Err(self.wrong(key, other, "a list of alerts")),
            None => return Err(self.missing(key, "a list of alerts")),
        };
        if alerts.len() > MAX_ALERTS {
            return Err(BadInput {
                field: key.into(),
                found: format!("a list of {}", alerts.len()),
                expected: "at most 2000 alerts",
                next_step: self.fewer,
            });
        }
        Ok(alerts)
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
