//! Events of the target, its revisions and its pods.

use std::{collections::BTreeSet, time::Duration};

use futures::future::BoxFuture;
use kube::{Client, api::ListParams};
use serde_json::Value;

use super::source::{Answer, Failure, Question, Source};
use crate::{
    api::v1alpha1::{EventFact, FactData, ObjectRef, SourceName, Time},
    clock,
    cluster::api::EVENTS,
    core::{
        names, object, redact,
        workload::{Draft, Workload, last_seen, obstacle},
    },
};

/// Events that are kept: the newest.
const MAX_EVENTS: usize = 30;

/// Kubernetes Events.
pub struct Events;

impl Source for Events {
    fn name(&self) -> SourceName {
        SourceName::Events
    }

    fn ask<'a>(&'a self, question: &'a Question<'_>) -> BoxFuture<'a, Answer> {
        Box::pin(async {
            let Question { client, target, .. } = question;
            // The namespace is listed while the workload is read; which Events are about it is chosen afterwards.
            let listed = question.request(|budget| list(client, &target.namespace, budget));
            let (listed, workload) = futures::future::join(listed, question.workload()).await;
            Ok(facts(&listed?, target, workload.as_deref().ok(), clock::now()))
        })
    }
}

/// Reads the Events of a namespace. The API server keeps them for an hour by default, which bounds the list; one with
/// more items than are read counts as a failed source. Backstop's own Events are left out: they are no evidence, and
/// in a storm they would be most of the list.
async fn list(client: &Client, namespace: &str, budget: Duration) -> Result<Vec<Value>, Failure> {
    let not_ours = format!("reportingController!={}", names::CONTROLLER);
    Ok(EVENTS.list(client, namespace, ListParams::default().fields(&not_ours), budget).await?)
}

/// The newest Events about the target and, when it could be read, its revisions and pods.
fn facts(events: &[Value], target: &ObjectRef, reading: Option<&Workload>, seen_at: Time) -> Vec<Draft> {
    let mut uids = BTreeSet::from([target.uid.as_str()]);
    if let Some(reading) = reading {
        uids.insert(&reading.object.uid);
        uids.extend(reading.revisions.iter().map(|revision| revision.object.uid.as_str()));
        uids.extend(reading.pods.iter().map(|pod| pod.object.uid.as_str()));
    }
    uids.remove("");
    let mut drafts: Vec<Draft> = events.iter().filter_map(|event| draft(event, &uids, seen_at)).collect();
    // Warnings first among those of the same moment; then by object, so that the order is always the same.
    drafts.sort_by_cached_key(|draft| {
        let FactData::Event(event) = &draft.data else { return Default::default() };
        let last = event.last_seen.map(|time| time.as_second()).unwrap_or_default();
        (-last, event.kind != "Warning", draft.object.name.clone(), event.reason.clone(), draft.text.clone())
    });
    drafts.truncate(MAX_EVENTS);
    drafts
}

fn draft(event: &Value, uids: &BTreeSet<&str>, seen_at: Time) -> Option<Draft> {
    let text = |pointer: &str, limit: usize| {
        let text = event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        redact::clip(&redact::clean(text), limit)
    };
    let uid = text("/regarding/uid", 128);
    if !uids.contains(uid.as_str()) {
        return None;
    }
    let count = |pointer: &str| event.pointer(pointer).and_then(Value::as_i64);
    let count = count("/series/count").or_else(|| count("/deprecatedCount")).unwrap_or(1).max(1);
    let fact = EventFact {
        kind: text("/type", 32),
        reason: text("/reason", 128),
        count: count.try_into().unwrap_or(i32::MAX),
        last_seen: last_seen(event),
        obstacle: obstacle(object::string(event, "/note")).filter(|_| text("/type", 32) == "Warning"),
    };
    let object = ObjectRef {
        api_version: text("/regarding/apiVersion", 128),
        kind: text("/regarding/kind", 63),
        namespace: text("/regarding/namespace", 63),
        name: text("/regarding/name", 253),
        uid,
    };
    let times = if fact.count > 1 { format!(" (×{})", fact.count) } else { String::new() };
    let text = format!("{} {}{times}: {}", fact.kind, fact.reason, text("/note", 1024));
    Some(Draft { source: SourceName::Events, object, seen_at, data: FactData::Event(fact), text })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::core::workload::fixtures::{WorkloadFixture, ago, crash_loop, now};

    fn event(uid: &str, reason: &str, age: i64) -> Value {
        json!({"regarding": {"kind": "Pod", "namespace": "shop", "name": "p", "uid": uid}, "type": "Warning",
            "reason": reason, "note": "token=abc123secret", "deprecatedLastTimestamp": ago(age), "deprecatedCount": 3})
    }

    #[test]
    fn only_events_of_the_target_and_of_what_it_owns_are_kept_newest_first_and_redacted() {
        let reading = Workload::of(&WorkloadFixture::two_revisions().pods(2, 1, &crash_loop()).snapshot()).unwrap();
        let events = [event("other", "BackOff", 1), event("pod-2-0", "BackOff", 20), event("deploy-1", "Scaled", 10)];
        let drafts = facts(&events, &reading.object, Some(&reading), now());
        let facts = crate::core::workload::number(drafts);
        assert_eq!(facts.len(), 2);
        assert!(facts[0].text.starts_with("Warning Scaled (×3)"), "{}", facts[0].text);
        assert!(!facts[1].text.contains("abc123secret"), "{}", facts[1].text);
    }

    #[test]
    fn at_most_thirty_are_kept() {
        let target = ObjectRef { uid: "deploy-1".into(), ..ObjectRef::default() };
        let events: Vec<Value> = (0..100).map(|age| event("deploy-1", "BackOff", age)).collect();
        assert_eq!(facts(&events, &target, None, now()).len(), 30);
    }
}
