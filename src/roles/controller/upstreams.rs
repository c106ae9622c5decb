//! Tells people what changed about the upstreams of models: an Event on the ModelChain and a line of the audit log for each
//! change that the investigator writes to its status. It may write neither itself.

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    ResourceExt as _,
    runtime::{events::EventType, watcher},
};
use serde_json::{Map, Value};

use crate::api::v1alpha1::{ModelChain, UpstreamChange};
use crate::audit::Record;
use crate::clock;
use crate::core::chain::changes::{self, Told};
use crate::notify::Note;

use super::context::Shared;

/// Follows the ModelChains of the system namespace.
pub async fn run(ctx: Shared, events: impl Stream<Item = Result<ModelChain, watcher::Error>>) {
    let mut events = std::pin::pin!(events);
    let mut told = Told::default();
    while let Some(event) = events.next().await {
        // The watch repairs itself, and logs what it met.
        let Ok(chain) = event else { continue };
        let name = chain.name_any();
        let changes = chain.status.as_ref().map(|status| status.changes.as_slice()).unwrap_or_default();
        for change in told.news(&name, changes, clock::now()) {
            let _ = ctx.audit.keep(record(&name, &change)).await;
            ctx.notifier.note(note(&chain, &change), &change.change).await;
        }
    }
}

fn record(chain: &str, change: &UpstreamChange) -> Record {
    let UpstreamChange { at, upstream, change, namespace, message } = change;
    let mut details = Map::new();
    let mut put = |key: &str, value: &str| details.insert(key.to_owned(), Value::from(value));
    put("modelChain", chain);
    put("upstream", upstream);
    put("change", change);
    put("message", message);
    // Tells this change from the same one at another time: of equal records one is written.
    put("changedAt", &at.to_string());
    if !namespace.is_empty() {
        put("namespace", namespace);
    }
    Record { at: *at, kind: "UpstreamChanged".into(), details, ..Record::default() }
}

fn note(chain: &ModelChain, change: &UpstreamChange) -> Note {
    let whose = match change.namespace.as_str() {
        "" => String::new(),
        namespace => format!(" (for calls of namespace {namespace})"),
    };
    Note {
        type_: if changes::is_warning(change) { EventType::Warning } else { EventType::Normal },
        regarding: ObjectReference {
            api_version: Some("backstop.dev/v1alpha1".into()),
            kind: Some("ModelChain".into()),
            name: Some(chain.name_any()),
            namespace: chain.namespace(),
            uid: chain.uid(),
            ..ObjectReference::default()
        },
        related: None,
        text: format!("upstream {}{whose}: {}", change.upstream, change.message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::Time;

    fn opened() -> UpstreamChange {
        UpstreamChange {
            at: Time::from_second(1000).unwrap(),
            upstream: "anthropic".into(),
            change: "BreakerOpened".into(),
            namespace: "shop".into(),
            message: "3 calls in a row failed: not asked for 5 s".into(),
        }
    }

    #[test]
    fn a_change_is_an_event_on_the_model_chain() {
        let mut chain = ModelChain::new("default", serde_json::from_value(serde_json::json!({"rungs": []})).unwrap());
        chain.metadata.namespace = Some("backstop-system".into());
        let note = note(&chain, &opened());
        assert!(matches!(note.type_, EventType::Warning));
        assert_eq!(note.regarding.kind.as_deref(), Some("ModelChain"));
        assert_eq!(
            note.text,
            "upstream anthropic (for calls of namespace shop): 3 calls in a row failed: not asked for 5 s"
        );
    }

    #[test]
    fn the_same_change_at_another_time_is_another_line_of_the_audit_log() {
        let later = UpstreamChange { at: Time::from_second(2000).unwrap(), ..opened() };
        let (one, other) = (record("default", &opened()), record("default", &later));
        assert_eq!(one.kind, "UpstreamChanged");
        assert_eq!(one.details["upstream"], "anthropic");
        assert_ne!(one.details, other.details);
    }
}
