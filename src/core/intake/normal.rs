//! The normal form of an alert, in which every format ends.

use std::collections::BTreeMap;

use serde_json::Value;

use super::sender::{BadInput, Sender, excerpt, is_unsafe};
use crate::api::v1alpha1::{AlertSpec, AlertState, Time};
use crate::core::{kube_name, names};

/// Labels, and annotations, kept of one alert.
pub const MAX_ENTRIES: usize = 64;
/// Characters kept of a key; an entry with a longer key is dropped.
pub const MAX_KEY: usize = 128;
/// Characters kept of a value, the mark of the cut included.
pub const MAX_VALUE: usize = 1024;
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
    /// `Watchdog` always fires and `InfoInhibitor` only mutes others: neither says that anything is broken.
    Meta,
    /// Its `cluster` label names another cluster.
    ForeignCluster,
}

impl Batch {
    /// Adds an alert, unless it is one that is left out.
    pub fn push(&mut self, alert: Normalised, request: Request<'_>) {
        match skip(&alert, request.cluster_name) {
            Some(why) => self.skipped.push(Skipped { alertname: alert.alertname().to_owned(), why }),
            None => self.alerts.push(alert),
        }
    }
}

fn skip(alert: &Normalised, cluster_name: &str) -> Option<Skip> {
    if matches!(alert.alertname(), "Watchdog" | "InfoInhibitor") {
        return Some(Skip::Meta);
    }
    let foreign = |cluster: &String| !cluster_name.is_empty() && cluster != cluster_name;
    alert.spec.labels.get("cluster").is_some_and(foreign).then_some(Skip::ForeignCluster)
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

impl Normalised {
    /// Name of the Alert object in `namespace`. The same alert sent again gets the same name.
    pub fn name(&self, namespace: &str) -> String {
        names::short_digest(&["alert", self.spec.source.as_str(), namespace, &self.spec.fingerprint, &self.start_key])
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

/// One alert as a format read it, before it is bounded.
#[derive(Debug)]
pub(super) struct Sent<'a> {
    /// Where it stands in the payload, for refusals.
    pub at: &'a str,
    /// An object of strings.
    pub labels: Option<&'a Value>,
    /// An object of strings.
    pub annotations: Option<&'a Value>,
    /// The sender's identity of it; one over its labels is made up when there is none that can be used.
    pub fingerprint: Option<String>,
    /// Whether it fires.
    pub state: AlertState,
    /// When its condition began.
    pub starts_at: Option<Time>,
    /// When its condition ended, if it is resolved.
    pub ends_at: Option<Time>,
}

impl Sent<'_> {
    /// The normal form: bounded, cleaned, with what is missing filled in.
    pub fn normalise(self, sender: &Sender, request: Request<'_>) -> Result<Normalised, BadInput> {
        let Sent { at, labels: sent, annotations, fingerprint, state, starts_at, ends_at } = self;
        let mut altered = 0;
        let labels = texts(sender, sent, &format!("{at}.labels"), Keep::Exact, &mut altered)?;
        let annotations = texts(sender, annotations, &format!("{at}.annotations"), Keep::Readable, &mut altered)?;
        // Without a start, repeats inside one hour still find their first; `startsAt` itself stays what is known.
        let hour = || format!("hour {}", request.received_at.as_second() / 3600);
        let start_key = starts_at.map_or_else(hour, |time| time.to_string());
        let usable =
            |text: &String| (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        let spec = AlertSpec {
            source: sender.source,
            fingerprint: fingerprint.filter(usable).unwrap_or_else(|| fingerprint_of(sent)),
            labels,
            annotations,
            starts_at: starts_at.unwrap_or(request.received_at),
            ends_at: (state == AlertState::Resolved).then(|| ends_at.unwrap_or(request.received_at)),
            received_at: Some(request.received_at),
            request_id: request.request_id.to_owned(),
        };
        Ok(Normalised { spec, state, start_key, altered })
    }
}

/// Identity of an alert whose sender gave none: over its labels as sent, before any cut.
fn fingerprint_of(labels: Option<&Value>) -> String {
    names::short_digest(&["labels", &labels.map(names::canonical).unwrap_or_default()])
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
    sender: &Sender,
    value: Option<&Value>,
    at: &str,
    keep: Keep,
    altered: &mut usize,
) -> Result<BTreeMap<String, String>, BadInput> {
    let fields = match value {
        None | Some(Value::Null) => return Ok(BTreeMap::new()),
        Some(Value::Object(fields)) => fields,
        Some(other) => return Err(sender.wrong(at, other, "an object of strings")),
    };
    let wanted = |key: &str| WANTED.contains(&key);
    let mut entries: Vec<_> = fields.iter().collect();
    entries.sort_by_key(|(key, _)| (!wanted(key), *key));
    let mut kept = BTreeMap::new();
    for (key, value) in entries {
        let Value::String(text) = value else {
            return Err(sender.wrong(&format!("{at}.{}", excerpt(key)), value, "a string"));
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
