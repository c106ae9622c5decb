//! Telling people: Kubernetes Events and a generic webhook. Each channel is tried by itself, and each attempt is
//! told as a [`Delivery`]: an escalation that did not arrive must show.

mod events;
mod webhook;

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use serde::{Deserialize, Serialize};

pub use events::Severity;
pub use webhook::CHANNEL as WEBHOOK;

use crate::{
    api::v1alpha1::{CheckVerdict, Delivery, ObjectRef},
    settings::EscalationWebhook,
};

/// Everything a person needs who takes over an incident. This is the body of the webhook; fields are only added.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EscalationMessage {
    /// Version of this form: `backstop.dev/v1alpha1`.
    pub version: String,
    /// Name of this cluster; empty when it has none.
    pub cluster: String,
    /// Name of the Incident.
    pub incident: String,
    /// Its UID: the same for every attempt to tell about it.
    pub incident_uid: String,
    /// Its namespace.
    pub namespace: String,
    /// The object it is about; absent while it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<ObjectRef>,
    /// Severity word of the incident.
    pub severity: String,
    /// Phase of the Incident.
    pub phase: String,
    /// Why a person is needed: a constant such as `OnlyOneRevision`.
    pub reason: String,
    /// One sentence to `reason`.
    pub message: String,
    /// What to do next.
    pub next_step: String,
    /// What is believed to be wrong.
    pub hypothesis: String,
    /// What was seen, as numbered sentences.
    pub facts: Vec<String>,
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
}

/// The channels. Made once per process: Events of one kind are folded into a series by it.
pub struct Notifier {
    events: Option<events::Events>,
    webhook: Option<webhook::Webhook>,
    sent: Family<ChannelOutcome, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ChannelOutcome {
    channel: &'static str,
    outcome: &'static str,
}

/// Channel of Kubernetes Events.
const EVENT: &str = "event";
/// Longest wait for one Event to be written.
const EVENT_TIMEOUT: Duration = Duration::from_secs(5);

impl Notifier {
    /// Events are written in the name of `instance` (the pod); the webhook is off when its URL is empty.
    pub fn new(client: Client, instance: &str, webhook: &EscalationWebhook) -> anyhow::Result<Notifier> {
        let events = events::Events::new(client, instance);
        Ok(Notifier { events: Some(events), webhook: webhook::Webhook::new(webhook)?, sent: Family::default() })
    }

    /// Adds the metrics of the channels.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("backstop_notifications", "Notifications by channel and outcome", self.sent.clone());
    }

    /// Tells people through every channel at once but those in `arrived`, and how each went. Takes up to half a minute
    /// when the webhook does not answer: call it beside the other work, not in its way.
    pub async fn escalate(&self, message: &EscalationMessage, arrived: &[&str]) -> Vec<Delivery> {
        let (events, webhook) = tokio::join!(self.escalation_events(message, arrived), async {
            match &self.webhook {
                Some(webhook) if !arrived.contains(&webhook::CHANNEL) => Some(webhook.deliver(message).await),
                _ => None,
            }
        });
        let deliveries: Vec<Delivery> = events.into_iter().chain(webhook).collect();
        for delivery in &deliveries {
            self.count(delivery);
        }
        deliveries
    }

    /// Writes one Event about `regarding`. A failure is logged and counted: nothing may rest on an Event.
    pub async fn event(
        &self,
        severity: Severity,
        regarding: &ObjectRef,
        related: Option<&ObjectRef>,
        reason: &str,
        note: &str,
    ) -> Delivery {
        let delivery = self.publish(severity, &reference(regarding), related.map(reference), reason, note).await;
        self.count(&delivery);
        delivery
    }

    async fn escalation_events(&self, message: &EscalationMessage, arrived: &[&str]) -> Vec<Delivery> {
        if self.events.is_none() || arrived.contains(&EVENT) {
            return Vec::new();
        }
        let incident = ObjectReference {
            api_version: Some("backstop.dev/v1alpha1".into()),
            kind: Some("Incident".into()),
            name: Some(message.incident.clone()),
            namespace: Some(message.namespace.clone()),
            uid: Some(message.incident_uid.clone()),
            ..ObjectReference::default()
        };
        let note = format!("{} Next: {}", message.message, message.next_step);
        let target = message.target.as_ref().map(reference);
        let mut deliveries =
            vec![self.publish(Severity::Warning, &incident, target.clone(), &message.reason, &note).await];
        if let Some(target) = target {
            let note = format!("Incident {}/{} needs a person: {note}", message.namespace, message.incident);
            deliveries.push(self.publish(Severity::Warning, &target, Some(incident), &message.reason, &note).await);
        }
        deliveries
    }

    async fn publish(
        &self,
        severity: Severity,
        regarding: &ObjectReference,
        related: Option<ObjectReference>,
        reason: &str,
        note: &str,
    ) -> Delivery {
        let on = format!(
            "on {} {}",
            regarding.kind.as_deref().unwrap_or_default(),
            regarding.name.as_deref().unwrap_or_default()
        );
        let outcome = match &self.events {
            Some(events) => {
                let publish = events.publish(severity, regarding, related, reason, note);
                match tokio::time::timeout(EVENT_TIMEOUT, publish).await {
                    Ok(outcome) => outcome.map_err(|error| error.to_string()),
                    Err(_) => Err(format!("no answer in {} s", EVENT_TIMEOUT.as_secs())),
                }
            }
            None => Err("there is no API server to write it to".into()),
        };
        if let Err(error) = &outcome {
            tracing::warn!(%error, reason, %on, "an Event could not be written");
        }
        Delivery {
            channel: EVENT.into(),
            delivered: outcome.is_ok(),
            attempts: 1,
            detail: bounded(&outcome.map_or_else(|error| format!("{on}: {error}"), |()| on.clone()), 512),
        }
    }

    fn count(&self, delivery: &Delivery) {
        let channel = if delivery.channel == EVENT { EVENT } else { webhook::CHANNEL };
        let outcome = if delivery.delivered { "delivered" } else { "failed" };
        self.sent.get_or_create(&ChannelOutcome { channel, outcome }).inc();
    }
}

fn reference(object: &ObjectRef) -> ObjectReference {
    let some = |text: &String| (!text.is_empty()).then(|| text.clone());
    ObjectReference {
        api_version: some(&object.api_version),
        kind: some(&object.kind),
        name: some(&object.name),
        namespace: some(&object.namespace),
        uid: some(&object.uid),
        ..ObjectReference::default()
    }
}

/// The first `max` bytes of `text`, cut between characters.
fn bounded(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.into();
    }
    let mark = "…";
    let cut = (0..=max.saturating_sub(mark.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}{mark}", &text[..cut])
}

#[cfg(test)]
mod tests;
