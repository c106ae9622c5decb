//! The shape of a channel, and what people are told by it.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use serde::Serialize;

use crate::api::v1alpha1::{CheckVerdict, Delivery, FieldChange, ObjectRef};

/// Names of the channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChannelName {
    /// Kubernetes Events.
    Event,
    /// The generic webhook.
    Webhook,
    /// A channel that exists in unit tests only; it shows what adding one touches.
    #[cfg(test)]
    Planted,
}

impl ChannelName {
    /// Every channel.
    pub const ALL: &'static [ChannelName] = &[
        ChannelName::Event,
        ChannelName::Webhook,
        #[cfg(test)]
        ChannelName::Planted,
    ];

    /// The name in deliveries and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            ChannelName::Event => "event",
            ChannelName::Webhook => "webhook",
            #[cfg(test)]
            ChannelName::Planted => "planted",
        }
    }
}

/// One way to tell people.
pub trait Channel: Send + Sync {
    /// Its name.
    fn name(&self) -> ChannelName;

    /// It may take more than a few seconds. Few slow deliveries go on at one time.
    fn is_slow(&self) -> bool {
        false
    }

    /// Whether it passes this on at all.
    fn wants(&self, _: &Notification) -> bool {
        true
    }

    /// Passes it on, and says how that went. `attempts` counts the attempts of this call.
    fn deliver<'a>(&'a self, notification: &'a Notification) -> BoxFuture<'a, Delivery>;
}

/// What people are told about an incident.
#[derive(Clone, Debug, PartialEq)]
pub enum Notification {
    /// A person has to take over.
    Escalated(Message),
    /// One exact action waits for an Approval.
    ApprovalAsked(Message),
    /// It is over: the target recovered, or the alert ended.
    Resolved(Message),
}

impl Notification {
    /// What it says.
    pub fn message(&self) -> &Message {
        match self {
            Notification::Escalated(message)
            | Notification::ApprovalAsked(message)
            | Notification::Resolved(message) => message,
        }
    }

    /// The constant for programs that read it.
    pub fn status(&self) -> &'static str {
        match self {
            Notification::Escalated(_) => "firing",
            Notification::ApprovalAsked(_) => "approval",
            Notification::Resolved(_) => "resolved",
        }
    }
}

/// Everything a person needs who takes over an incident. The body of the webhook is made of it: fields are only added.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// Name of this cluster; empty when it has none.
    pub cluster: String,
    /// Name of the Incident.
    pub incident: String,
    /// Its UID: the same for every notification about it.
    pub incident_uid: String,
    /// What tells this notification from others of the same incident and reason: a request for an Approval from its
    /// reminders. The same at each attempt; empty where there is one only. Not in the body.
    #[serde(skip)]
    pub occasion: String,
    /// Its namespace.
    pub namespace: String,
    /// The object it is about; absent while it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<ObjectRef>,
    /// Severity of the incident: `info`, `low`, `warning`, `error` or `critical`.
    pub severity: String,
    /// Phase of the Incident.
    pub phase: String,
    /// Why people are told: a constant such as `OnlyOneRevision`.
    pub reason: String,
    /// One sentence to `reason`.
    pub message: String,
    /// What to do next; empty when it is over.
    pub next_step: String,
    /// What is believed to be wrong.
    pub hypothesis: String,
    /// Cause of the failure: a constant such as `BadRollout`; empty without a diagnosis.
    pub cause: String,
    /// What the diagnosis advises to look at next.
    pub advice: String,
    /// Which diagnoser that is; empty without a diagnosis.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub diagnoser: String,
    /// How far its answer may go without the rules: `observe`, `suggest`, `approve` or `auto`; empty without a diagnosis.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ceiling: String,
    /// What the reviewer of the proposal objects.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub objection: String,
    /// Who was asked in the latest round, and what came of each call of a model.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<String>,
    /// Answers of models that did not hold, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refused_answers: Vec<String>,
    /// What the models cost in all rounds, such as `$0.03 for 2 calls`; empty when none was asked.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub model_cost: String,
    /// How the template of the current revision differs from that of an earlier one.
    pub changes: Vec<FieldChange>,
    /// Unified difference of the manifest, where somebody else owns the object: what to change there.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub manifest_diff: String,
    /// What was seen, as numbered sentences: those that the diagnosis cites come first.
    pub facts: Vec<String>,
    /// How many of `facts` the diagnosis cites.
    pub cited: usize,
    /// Verdict of every check, in order.
    pub checks: Vec<CheckVerdict>,
    /// Names of the alerts.
    pub alerts: Vec<String>,
    /// Follows the alert from intake to this message.
    pub request_id: String,
    /// Text for people from the Runbooks that match, by Runbook.
    pub runbook_docs: BTreeMap<String, String>,
    /// A command that shows the whole Incident.
    pub inspect: String,
    /// What was left out because a body holds 64 KiB: `inspect` shows the Incident, and that names the Investigation.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub omitted: Vec<String>,
}

/// The first `max` bytes of `text`, cut between characters.
pub(super) fn bounded(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.into();
    }
    let mark = "…";
    let cut = text.floor_char_boundary(max.saturating_sub(mark.len()));
    format!("{}{mark}", &text[..cut])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_cut_between_characters_and_says_so() {
        assert_eq!(bounded("short", 8), "short");
        let cut = bounded(&"ä".repeat(600), 1024);
        assert!(cut.len() <= 1024 && cut.ends_with('…'), "{}", cut.len());
    }
}
