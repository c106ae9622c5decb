//! The normal form of an alert, in which every format ends.

use std::fmt;

use serde_json::{Map, Value};

use super::sender::{BadInput, RequestInfo, Sender};
use super::texts::{self, Keep, Texts};
use crate::api::v1alpha1::{AlertSpec, AlertState, IntakeNote, IntakeReason, Time};
use crate::core::{kube_name, names};

/// Characters kept of the sentence of a note.
const MAX_NOTE: usize = 512;

/// What one request carries.
pub struct Batch<'a> {
    /// Its alerts, in order, each read when it is asked for.
    pub alerts: Box<dyn Iterator<Item = Normalised> + Send + 'a>,
    /// Alerts of the group that the sender left out of the request.
    pub truncated: u64,
}

impl fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("truncated", &self.truncated).finish_non_exhaustive()
    }
}

/// Why an alert is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Skip {
    /// `Watchdog` always fires and `InfoInhibitor` only mutes others: neither says that anything is broken.
    Meta,
    /// Its label `cluster` names this other cluster.
    ForeignCluster(String),
}

/// One alert in its normal form.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalised {
    /// What becomes the Alert's spec. `ends_at` is set if it is resolved. With a note of reason `Unreadable`, not all
    /// of it is what was sent.
    pub spec: AlertSpec,
    /// Whether it fires. Each alert has its own state: a firing group may carry resolved ones.
    pub state: AlertState,
    /// What stands for the start in the name.
    pub(super) start_key: String,
    /// Labels and annotations that were dropped, and values that were altered.
    pub altered: usize,
}

impl Normalised {
    /// Whether and why it is left out on purpose.
    pub fn skip(&self, cluster_name: &str) -> Option<Skip> {
        if matches!(self.alertname(), "Watchdog" | "InfoInhibitor") {
            return Some(Skip::Meta);
        }
        let foreign = |cluster: &&String| !cluster_name.is_empty() && *cluster != cluster_name;
        self.spec.labels.get("cluster").filter(foreign).cloned().map(Skip::ForeignCluster)
    }

    /// The namespace that the alert says it is about, if it says one: `exported_namespace` before `namespace`,
    /// because a scrape without `honorLabels` moves the real one there. It may be any text.
    pub fn named_namespace(&self) -> Option<&str> {
        self.namespaces().next()
    }

    /// [`Normalised::named_namespace`] if it could be the name of a namespace.
    pub fn valid_namespace(&self) -> Option<&str> {
        self.named_namespace().filter(|name| kube_name::is_label(name))
    }

    /// What its labels name as namespaces.
    pub(super) fn namespaces(&self) -> impl Iterator<Item = &str> {
        let label = |key: &str| self.spec.labels.get(key).map(String::as_str);
        ["exported_namespace", "namespace"].into_iter().filter_map(label).filter(|value| !value.is_empty())
    }

    /// The `alertname` label.
    pub fn alertname(&self) -> &str {
        self.spec.labels.get("alertname").map_or("", String::as_str)
    }

    /// It was not understood as it was sent.
    pub fn is_unreadable(&self) -> bool {
        self.spec.note.as_ref().is_some_and(|note| note.reason == IntakeReason::Unreadable)
    }
}

/// A note with a sentence of a bounded length.
pub(super) fn note(reason: IntakeReason, message: &str) -> IntakeNote {
    let message = message.chars().filter(|c| !c.is_control()).take(MAX_NOTE).collect();
    IntakeNote { reason, message }
}

/// One alert while a format reads it. What is wrong with a field is kept and not returned: the rest still says that
/// something fires, and what ends.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    sender: &'a Sender,
    /// Where it stands in the payload.
    at: String,
    wrong: Option<BadInput>,
}

/// One alert as a format read it, before it is bounded.
#[derive(Debug, Default)]
pub(super) struct Sent<'a> {
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
    /// What stands for the start when it cannot be read.
    pub start_text: Option<String>,
    /// When its condition ended, if it is resolved.
    pub ends_at: Option<Time>,
}

impl<'a> Reading<'a> {
    pub fn new(sender: &'a Sender, at: String) -> Reading<'a> {
        Reading { sender, at, wrong: None }
    }

    /// The value, or `None` with the first fault kept.
    pub fn lenient<T>(&mut self, read: impl FnOnce(&Sender, &str) -> Result<T, BadInput>) -> Option<T> {
        read(self.sender, &self.at)
            .map_err(|wrong| {
                self.wrong.get_or_insert(wrong);
            })
            .ok()
    }

    fn texts(&mut self, value: Option<&Value>, key: &str, keep: Keep) -> Texts {
        let fields = match value {
            None | Some(Value::Null) => return Texts::default(),
            Some(Value::Object(fields)) => fields,
            Some(other) => {
                self.lenient(|sender, at| {
                    Err::<(), _>(sender.wrong(&format!("{at}.{key}"), other, "an object of strings"))
                });
                return Texts::default();
            }
        };
        let texts = texts::bounded(fields, keep);
        if let Some((entry, value)) = &texts.wrong {
            self.lenient(|sender, at| {
                let field = format!("{at}.{key}.{}", super::sender::excerpt(entry));
                Err::<(), _>(sender.wrong(&field, value, "a string"))
            });
        }
        texts
    }

    /// The normal form: bounded, cleaned, with what is missing filled in.
    pub fn normalise(mut self, sent: Sent<'_>, request: RequestInfo<'_>) -> Normalised {
        let Sent { labels: sent, annotations, fingerprint, state, starts_at, start_text, ends_at } = sent;
        let labels = self.texts(sent, "labels", Keep::Labels);
        let annotations = self.texts(annotations, "annotations", Keep::Annotations);
        // Without a start, repeats inside one hour still find their first; `startsAt` itself stays what is known.
        let hour = || format!("hour {}", request.received_at.as_second() / 3600);
        let unreadable = start_text.map(|text| format!("as sent {text}"));
        let start_key = starts_at.map(|time| time.to_string()).or(unreadable).unwrap_or_else(hour);
        let usable =
            |text: &String| (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        let note = self.wrong.map(|wrong| note(IntakeReason::Unreadable, &wrong.to_string()));
        let spec = AlertSpec {
            source: self.sender.source,
            fingerprint: fingerprint.filter(usable).unwrap_or_else(|| fingerprint_of(sent)),
            labels: labels.kept,
            annotations: annotations.kept,
            starts_at: starts_at.unwrap_or(request.received_at),
            ends_at: (state == AlertState::Resolved).then(|| ends_at.unwrap_or(request.received_at)),
            received_at: Some(request.received_at),
            request_id: request.request_id.to_owned(),
            note,
            ..AlertSpec::default()
        };
        Normalised { spec, state, start_key, altered: labels.altered + annotations.altered }
    }
}

/// Identity of an alert whose sender gave none: over its labels as sent, before any cut.
fn fingerprint_of(labels: Option<&Value>) -> String {
    names::short_digest(&["labels", &labels.map(names::canonical).unwrap_or_default()])
}

/// One element of a payload's list of alerts, as an object.
pub(super) fn object(sender: &Sender, at: &str, element: &[u8]) -> Result<Map<String, Value>, BadInput> {
    let unreadable =
        |found: String| BadInput { field: at.to_owned(), found, expected: "an object", next_step: sender.resend };
    if element.len() > super::split::MAX_ALERT {
        return Err(unreadable(format!("{} bytes long", element.len())));
    }
    let read = serde_json::from_slice(element).or_else(|_| serde_json::from_slice(&super::split::mend(element)));
    match read {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(other) => Err(sender.wrong(at, &other, "an object")),
        Err(error) => Err(unreadable(format!("not JSON ({error})"))),
    }
}
