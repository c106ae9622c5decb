//! Events of the API group `events.k8s.io`.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};

use super::bounded;
use crate::core::names;

/// How much an Event asks for attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// For the record.
    Normal,
    /// Somebody should look.
    Warning,
}

/// Writes Events. Repeats inside a few minutes are counted in one series.
pub(super) struct Events {
    client: Client,
    reporter: Reporter,
    recorder: Recorder,
}

impl Events {
    pub fn new(client: Client, instance: &str) -> Events {
        let reporter = Reporter { controller: names::CONTROLLER.into(), instance: Some(instance.into()) };
        Events { recorder: Recorder::new(client.clone(), reporter.clone()), client, reporter }
    }

    pub async fn publish(
        &self,
        severity: Severity,
        regarding: &ObjectReference,
        related: Option<ObjectReference>,
        reason: &str,
        note: &str,
    ) -> Result<(), kube::Error> {
        let event = Event {
            type_: match severity {
                Severity::Normal => EventType::Normal,
                Severity::Warning => EventType::Warning,
            },
            // The API server refuses longer ones.
            reason: bounded(reason, 128),
            note: Some(bounded(note, 1024)),
            action: bounded(reason, 128),
            secondary: related,
        };
        match self.recorder.publish(&event, regarding).await {
            // The series that this repeats was deleted: start a new one.
            Err(kube::Error::Api(status)) if status.code == 404 => {
                Recorder::new(self.client.clone(), self.reporter.clone()).publish(&event, regarding).await
            }
            outcome => outcome,
        }
    }
}
