//! Events of the API group `events.k8s.io`, on the Incident and on its target.

use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};

use super::channel::{Channel, ChannelName, Message, Notification, bounded};
use crate::api::v1alpha1::{Delivery, ObjectRef};
use crate::core::{names, redact::quoted, rules};

/// Longest wait for one Event to be written.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Writes Events. Repeats inside a few minutes are counted in one series.
pub(super) struct Events {
    client: Client,
    reporter: Reporter,
    recorder: Recorder,
}

/// One Event that is to be written.
pub struct Note {
    /// Whether a person should look.
    pub type_: EventType,
    /// The object that it is about.
    pub regarding: ObjectReference,
    /// Another object that has to do with it.
    pub related: Option<ObjectReference>,
    /// The sentence; cut at 1,024 bytes.
    pub text: String,
}

impl Channel for Events {
    fn name(&self) -> ChannelName {
        ChannelName::Event
    }

    fn deliver<'a>(&'a self, notification: &'a Notification) -> BoxFuture<'a, Delivery> {
        Box::pin(async {
            let reason = &notification.message().reason;
            let written = notes(notification).into_iter().map(async |note| {
                let on = format!(
                    "on {} {}",
                    note.regarding.kind.as_deref().unwrap_or_default(),
                    note.regarding.name.as_deref().unwrap_or_default()
                );
                match self.write(note, reason).await {
                    Ok(()) => (true, on),
                    Err(error) => {
                        tracing::warn!(%error, reason, on, "an Event could not be written");
                        (false, format!("{on}: {error}"))
                    }
                }
            });
            let written: Vec<(bool, String)> = futures::future::join_all(written).await;
            let details: Vec<String> = written.iter().map(|(_, detail)| detail.clone()).collect();
            Delivery {
                channel: self.name().as_str().into(),
                // One of them is enough to be found.
                delivered: written.iter().any(|(written, _)| *written),
                attempts: 1,
                detail: bounded(&details.join("; "), 512),
            }
        })
    }
}

impl Events {
    /// Events in the name of `instance`.
    pub fn new(client: Client, instance: &str) -> Events {
        let reporter = Reporter { controller: names::CONTROLLER.into(), instance: Some(instance.into()) };
        Events { recorder: Recorder::new(client.clone(), reporter.clone()), client, reporter }
    }

    /// Writes it once; repeats inside a few minutes are counted in one series.
    pub async fn write(&self, note: Note, reason: &str) -> Result<(), String> {
        let Note { type_, regarding, related, text } = note;
        let event = Event {
            type_,
            // The API server refuses longer ones.
            reason: bounded(reason, 128),
            note: Some(bounded(&text, 1024)),
            action: bounded(reason, 128),
            secondary: related,
        };
        let publish = async {
            match self.recorder.publish(&event, &regarding).await {
                // The series that this repeats was deleted: start a new one.
                Err(kube::Error::Api(status)) if status.code == 404 => {
                    Recorder::new(self.client.clone(), self.reporter.clone()).publish(&event, &regarding).await
                }
                outcome => outcome,
            }
        };
        match tokio::time::timeout(TIMEOUT, publish).await {
            Ok(outcome) => outcome.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {} s", TIMEOUT.as_secs())),
        }
    }
}

/// The Events of a notification: on the Incident, and on the target when a person has to do something about it.
fn notes(notification: &Notification) -> Vec<Note> {
    let Message { namespace, incident: name, .. } = notification.message();
    let incident = ObjectReference {
        api_version: Some("backstop.dev/v1alpha1".into()),
        kind: Some("Incident".into()),
        name: Some(name.clone()),
        namespace: Some(namespace.clone()),
        uid: Some(notification.message().incident_uid.clone()),
        ..ObjectReference::default()
    };
    let target = notification.message().target.as_ref().map(reference);
    let (type_, on_target) = match notification {
        Notification::Escalated(_) => (EventType::Warning, Some("needs the on-call")),
        Notification::ApprovalAsked(_) => (EventType::Warning, Some("waits for an Approval")),
        Notification::Resolved(_) => (EventType::Normal, None),
    };
    let text = text(notification.message());
    let about_target = target.clone().zip(on_target).map(|(target, why)| Note {
        type_,
        regarding: target,
        related: Some(incident.clone()),
        text: format!("Incident {namespace}/{name} {why}: {text}"),
    });
    [Note { type_, regarding: incident, related: target, text }].into_iter().chain(about_target).collect()
}

/// What is wrong, what is believed and what to do, each cut so that the others stay.
fn text(message: &Message) -> String {
    let Message { message, hypothesis, next_step, diagnoser, .. } = message;
    let is_of_rules = diagnoser.is_empty() || diagnoser == rules::NAME;
    let shown = if is_of_rules { bounded(hypothesis, 300) } else { quoted(hypothesis, 280) };
    // The message may have it already, cut at another place.
    let believed = !hypothesis.is_empty() && !message.contains(bounded(hypothesis, 120).trim_end_matches('…'));
    let mut text = bounded(message, if believed { 360 } else { 520 });
    if believed {
        let by = if is_of_rules { String::new() } else { format!(" of {diagnoser}") };
        text = format!("{text} Diagnosis{by}: {shown}");
    }
    if !next_step.is_empty() {
        text = format!("{text} Next: {next_step}");
    }
    text
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
