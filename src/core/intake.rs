//! Reading what an alert sender posts: a bounded, normalised form of every alert, or a helpful refusal.
//!
//! Everything in a payload is untrusted text. It is cut and cleaned for people, and a value that had to be altered
//! carries U+FFFD (the replacement character), which no Kubernetes name may contain: an alteration can never turn
//! a bad value into the valid name of some other object.

use std::{collections::BTreeMap, fmt};

use serde_json::{Map, Value};

use super::kube_name;
use super::names;
use crate::api::v1alpha1::{AlertSource, AlertSpec, AlertState, Time};

/// Labels, and annotations, kept of one alert.
pub const MAX_ENTRIES: usize = 64;
/// Characters kept of a key; an entry with a longer key is dropped.
pub const MAX_KEY: usize = 128;
/// Characters kept of a value, the mark of the cut included.
pub const MAX_VALUE: usize = 1024;
/// Alerts in one request.
pub const MAX_ALERTS: usize = 2000;
/// Ends a value that was cut.
const CUT: &str = "\u{FFFD}[cut]";

/// Labels that name an object or route an alert. They are kept before all others when there are too many.
const WANTED: [&str; 24] = [
    "alertname",
    "cluster",
    "severity",
    "exported_namespace",
    "namespace",
    "container",
    "created_by_kind",
    "created_by_name",
    "cronjob",
    "daemonset",
    "deployment",
    "horizontalpodautoscaler",
    "instance",
    "job",
    "job_name",
    "node",
    "owner_kind",
    "owner_name",
    "persistentvolumeclaim",
    "pod",
    "replicaset",
    "statefulset",
    "workload",
    "workload_type",
];

/// What the request adds to its payload.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// When it arrived.
    pub received_at: Time,
    /// Its id.
    pub request_id: &'a str,
    /// Name of this cluster; empty when it has none.
    pub cluster_name: &'a str,
}

/// What one request carried.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Alerts to be made durable, in order.
    pub alerts: Vec<Normalised>,
    /// Alerts that are left out on purpose.
    pub skipped: Vec<Skipped>,
    /// Alerts of the group that the sender left out of the request.
    pub truncated: u64,
}

/// One alert in its normal form.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalised {
    /// What becomes the Alert's spec. `ends_at` is set if it is resolved.
    pub spec: AlertSpec,
    /// Whether it fires. Each alert has its own state: a firing group may carry resolved ones.
    pub state: AlertState,
    /// What stands for the start in the name.
    start_key: String,
    /// Labels and annotations that were dropped, and values that were altered.
    pub altered: usize,
}

/// An alert that is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its `alertname`.
    pub alertname: String,
    /// Why.
    pub why: Skip,
}

/// Why an alert is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// `Watchdog` fires always and `InfoInhibitor` only mutes others: neither says that anything is broken.
    Meta,
    /// Its `cluster` label names another cluster.
    ForeignCluster,
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

const SEND_V4: &str = "send Alertmanager's webhook payload as it is, without a template of your own";

impl Normalised {
    /// Name of the Alert object in `namespace`. The same alert sent again gets the same name.
    pub fn name(&self, namespace: &str) -> String {
        names::short_digest(&["alert", "Alertmanager", namespace, &self.spec.fingerprint, &self.start_key])
    }

    /// The namespace that the alert says it is about, if it says one: `exported_namespace` before `namespace`,
    /// because a scrape without `honorLabels` moves the real one there. It may be any text.
    pub fn named_namespace(&self) -> Option<&str> {
        ["exported_namespace", "namespace"]
            .into_iter()
            .filter_map(|key| self.spec.labels.get(key))
            .map(String::as_str)
            .find(|value| !value.is_empty())
    }

    /// [`Normalised::named_namespace`] if it could be the name of a namespace.
    pub fn valid_namespace(&self) -> Option<&str> {
        self.named_namespace().filter(|name| kube_name::is_label(name))
    }

    /// The `alertname` label.
    pub fn alertname(&self) -> &str {
        self.spec.labels.get("alertname").map_or("", String::as_str)
    }
}

/// Reads a webhook payload of Alertmanager, version 4. Unknown fields are ignored and missing ones defaulted.
pub fn normalise(payload: &[u8], request: Request<'_>) -> Result<Batch, BadInput> {
    let value: Value = serde_json::from_slice(payload).map_err(|error| BadInput {
        field: String::new(),
        found: format!("not JSON ({error})"),
        expected: "a JSON object",
        next_step: SEND_V4,
    })?;
    let Value::Object(envelope) = &value else { return Err(wrong("", &value, "a JSON object", SEND_V4)) };
    version(envelope)?;
    let alerts = match envelope.get("alerts") {
        Some(Value::Array(alerts)) => alerts,
        Some(other) => return Err(wrong("alerts", other, "a list of alerts", SEND_V4)),
        None => return Err(missing("alerts", "a list of alerts", SEND_V4)),
    };
    if alerts.len() > MAX_ALERTS {
        return Err(BadInput {
            field: "alerts".into(),
            found: format!("a list of {}", alerts.len()),
            expected: "at most 2000 alerts",
            next_step: "set max_alerts in the webhook_config, or group by more labels",
        });
    }
    let group = status(envelope, "status")?.unwrap_or_default();
    let mut batch = Batch { truncated: truncated(envelope)?, ..Batch::default() };
    for (index, alert) in alerts.iter().enumerate() {
        let at = format!("alerts[{index}]");
        let Value::Object(fields) = alert else { return Err(wrong(&at, alert, "an object", SEND_V4)) };
        let alert = read(fields, &at, group, request)?;
        match skip(&alert, request.cluster_name) {
            Some(why) => batch.skipped.push(Skipped { alertname: alert.alertname().to_owned(), why }),
            None => batch.alerts.push(alert),
        }
    }
    Ok(batch)
}

fn version(envelope: &Map<String, Value>) -> Result<(), BadInput> {
    let expected = "\"4\", the version of Alertmanager's webhook";
    match envelope.get("version") {
        Some(Value::String(version)) if version == "4" => Ok(()),
        Some(version @ Value::String(text)) if text == "1" => Err(wrong(
            "version",
            version,
            expected,
            "Grafana sends version \"1\", which is not supported yet: route its alerts through an Alertmanager",
        )),
        Some(other) => Err(wrong("version", other, expected, SEND_V4)),
        None => Err(missing("version", expected, SEND_V4)),
    }
}

fn truncated(envelope: &Map<String, Value>) -> Result<u64, BadInput> {
    match envelope.get("truncatedAlerts") {
        None | Some(Value::Null) => Ok(0),
        Some(value) => value.as_u64().ok_or_else(|| wrong("truncatedAlerts", value, "a number from 0", SEND_V4)),
    }
}

fn status(fields: &Map<String, Value>, at: &str) -> Result<Option<AlertState>, BadInput> {
    match fields.get("status") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text == "firing" => Ok(Some(AlertState::Firing)),
        Some(Value::String(text)) if text == "resolved" => Ok(Some(AlertState::Resolved)),
        Some(other) => Err(wrong(at, other, "\"firing\" or \"resolved\"", SEND_V4)),
    }
}

fn read(
    fields: &Map<String, Value>,
    at: &str,
    group: AlertState,
    request: Request<'_>,
) -> Result<Normalised, BadInput> {
    let mut altered = 0;
    let labels = texts(fields.get("labels"), &format!("{at}.labels"), Keep::Exact, &mut altered)?;
    let annotations = texts(fields.get("annotations"), &format!("{at}.annotations"), Keep::Readable, &mut altered)?;
    let state = status(fields, &format!("{at}.status"))?.unwrap_or(group);
    let sent_start = time(fields, "startsAt", at)?;
    // Without a start, repeats inside one hour still find their first; `startsAt` itself stays what is known.
    let start_key =
        sent_start.map_or_else(|| format!("hour {}", request.received_at.as_second() / 3600), |time| time.to_string());
    let starts_at = sent_start.unwrap_or(request.received_at);
    let ends_at = match state {
        // Alertmanager sends a firing alert's planned end of validity as `endsAt`: it has not ended.
        AlertState::Firing => None,
        AlertState::Resolved => Some(time(fields, "endsAt", at)?.unwrap_or(request.received_at)),
    };
    let fingerprint = match fields.get("fingerprint") {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => return Err(wrong(&format!("{at}.fingerprint"), other, "a string", SEND_V4)),
    };
    let usable = (1..=128).contains(&fingerprint.len()) && fingerprint.bytes().all(|byte| byte.is_ascii_graphic());
    let fingerprint = if usable { fingerprint } else { fingerprint_of(fields.get("labels")) };
    let spec = AlertSpec {
        source: AlertSource::Alertmanager,
        fingerprint,
        labels,
        annotations,
        starts_at,
        ends_at,
        received_at: Some(request.received_at),
        request_id: request.request_id.to_owned(),
    };
    Ok(Normalised { spec, state, start_key, altered })
}

/// Identity of an alert whose sender gave none: over its labels as sent, before any cut.
fn fingerprint_of(labels: Option<&Value>) -> String {
    names::short_digest(&["labels", &labels.map(names::canonical).unwrap_or_default()])
}

fn skip(alert: &Normalised, cluster_name: &str) -> Option<Skip> {
    let Normalised { spec, .. } = alert;
    if matches!(alert.alertname(), "Watchdog" | "InfoInhibitor") {
        return Some(Skip::Meta);
    }
    let foreign = |cluster: &String| !cluster_name.is_empty() && cluster != cluster_name;
    spec.labels.get("cluster").is_some_and(foreign).then_some(Skip::ForeignCluster)
}

/// A time, or `None` when there is none: absent, or the zero time of Go, or outside of what can be meant.
fn time(fields: &Map<String, Value>, key: &str, at: &str) -> Result<Option<Time>, BadInput> {
    let expected = "a time such as 2026-01-31T12:00:00Z";
    let text = match fields.get(key) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) if text.is_empty() => return Ok(None),
        Some(Value::String(text)) => text,
        Some(other) => return Err(wrong(&format!("{at}.{key}"), other, expected, SEND_V4)),
    };
    let time: Time =
        text.parse().map_err(|_| wrong(&format!("{at}.{key}"), &Value::String(text.clone()), expected, SEND_V4))?;
    // Seconds of 1970-01-01 and 2200-01-01. The API server refuses years that RFC 3339 cannot write.
    Ok((0..7_258_118_400).contains(&time.as_second()).then_some(time))
}

/// How values are kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    /// As they are, or marked: programs read them.
    Exact,
    /// For people: line breaks and tabs stay, other control characters go.
    Readable,
}

fn texts(
    value: Option<&Value>,
    at: &str,
    keep: Keep,
    altered: &mut usize,
) -> Result<BTreeMap<String, String>, BadInput> {
    let fields = match value {
        None | Some(Value::Null) => return Ok(BTreeMap::new()),
        Some(Value::Object(fields)) => fields,
        Some(other) => return Err(wrong(at, other, "an object of strings", SEND_V4)),
    };
    let wanted = |key: &str| WANTED.contains(&key);
    let mut entries: Vec<_> = fields.iter().collect();
    entries.sort_by_key(|(key, _)| (!wanted(key), *key));
    let mut kept = BTreeMap::new();
    for (key, value) in entries {
        let Value::String(text) = value else {
            return Err(wrong(&format!("{at}.{}", excerpt(key)), value, "a string", SEND_V4));
        };
        let usable = !key.is_empty() && key.chars().count() <= MAX_KEY && !key.chars().any(is_unsafe);
        if !usable || kept.len() == MAX_ENTRIES {
            *altered += 1;
            continue;
        }
        let clean = bounded(text, keep);
        *altered += usize::from(clean != *text);
        kept.insert(key.clone(), clean);
    }
    Ok(kept)
}

/// Control characters, and those that make text read in another order than it is written.
fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

fn bounded(text: &str, keep: Keep) -> String {
    let clean = text.chars().filter_map(|c| match (is_unsafe(c), keep) {
        (false, _) => Some(c),
        (true, Keep::Readable) if matches!(c, '\n' | '\t') => Some(c),
        (true, Keep::Readable) => None,
        (true, Keep::Exact) => Some('\u{FFFD}'),
    });
    let mut kept: String = clean.take(MAX_VALUE + 1).collect();
    if let Some((cut, _)) = kept.char_indices().nth(MAX_VALUE) {
        let keep = kept[..cut].char_indices().nth(MAX_VALUE - CUT.chars().count()).map_or(cut, |(at, _)| at);
        kept.truncate(keep);
        kept.push_str(CUT);
    }
    kept
}

fn wrong(field: &str, value: &Value, expected: &'static str, next_step: &'static str) -> BadInput {
    let found = match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(value) => value.to_string(),
        Value::String(text) => format!("{:?}", excerpt(text)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    };
    BadInput { field: field.into(), found, expected, next_step }
}

fn missing(field: &str, expected: &'static str, next_step: &'static str) -> BadInput {
    BadInput { field: field.into(), found: "missing".into(), expected, next_step }
}

/// The beginning of untrusted text, for an error message.
fn excerpt(text: &str) -> String {
    text.chars().take(64).map(|c| if is_unsafe(c) { '\u{FFFD}' } else { c }).collect()
}

#[cfg(test)]
#[path = "intake_tests.rs"]
mod tests;
