//! Tells people what changed about the upstreams of models: an Event on the ModelChain and a line of the audit log for each
//! change that the investigator writes to its status. It may write neither itself.

use std::{collections::BTreeMap, time::Duration};

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    ResourceExt as _,
    runtime::{events::EventType, watcher},
};
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use crate::api::v1alpha1::{ModelChain, Time, UpstreamChange};
use crate::audit::Record;
use crate::clock;
use crate::core::chain::changes::{self, Pace, Told};
use crate::core::redact::clip;
use crate::notify::Note;

use super::context::Shared;

/// The kind of the record, and the reason of the Event, about changes that were left out.
const LEFT_OUT: &str = "UpstreamChangesLeftOut";
/// Changes that wait to be told. What does not fit is counted as left out.
const QUEUE: usize = 256;
/// How often is looked whether a minute of left-out changes is over.
const TICK: Duration = Duration::from_secs(5);
/// Characters of a change's message that are told.
const MAX_MESSAGE: usize = 256;

/// What people are told.
#[derive(Debug)]
struct Telling {
    chain: ObjectReference,
    what: What,
}

#[derive(Debug)]
enum What {
    /// Of one change.
    Change(Box<UpstreamChange>),
    /// How many more there were.
    LeftOut(u64),
}

/// Follows the ModelChains of the system namespace. The plans of incidents read what the same events bring, so nothing here
/// waits for the audit log or for the API server.
pub async fn run(ctx: Shared, events: impl Stream<Item = Result<ModelChain, watcher::Error>>) {
    let (tell, telling) = mpsc::channel(QUEUE);
    tokio::join!(follow(events, tell, clock::now), report(&ctx, telling));
}

/// Picks what is told of the changes; ends with the events.
async fn follow(
    events: impl Stream<Item = Result<ModelChain, watcher::Error>>,
    tell: mpsc::Sender<Telling>,
    clock: impl Fn() -> Time,
) {
    let mut events = std::pin::pin!(events);
    let (mut told, mut pace) = (Told::default(), Pace::default());
    let mut references: BTreeMap<String, ObjectReference> = BTreeMap::new();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            event = events.next() => {
                let Some(event) = event else { return };
                // The watch repairs itself, and logs what it met.
                let Ok(chain) = event else { continue };
                let (name, now, reference) = (chain.name_any(), clock(), reference(&chain));
                let changes = chain.status.as_ref().map(|status| status.changes.as_slice()).unwrap_or_default();
                for change in told.news(&name, changes, now) {
                    if !pace.admit(&name, now) {
                        continue;
                    }
                    let what = What::Change(Box::new(change));
                    if tell.try_send(Telling { chain: reference.clone(), what }).is_err() {
                        pace.leave_out(&name, 1, now);
                    }
                }
                references.insert(name, reference);
            }
            _ = tick.tick() => {
                let now = clock();
                for (name, count) in pace.due(now) {
                    let chain = references.get(&name).cloned().unwrap_or_default();
                    if tell.try_send(Telling { chain, what: What::LeftOut(count) }).is_err() {
                        pace.leave_out(&name, count, now);
                    }
                }
            }
        }
    }
}

/// Writes the lines of the audit log and the Events.
async fn report(ctx: &Shared, mut telling: mpsc::Receiver<Telling>) {
    while let Some(Telling { chain, what }) = telling.recv().await {
        let name = chain.name.clone().unwrap_or_default();
        match what {
            What::Change(change) => {
                let _ = ctx.audit.keep(record(&name, &change, clock::now())).await;
                ctx.notifier.note(note(chain, &change), &change.change).await;
            }
            What::LeftOut(count) => {
                let _ = ctx.audit.keep(left_out(&name, count, clock::now())).await;
                let text = format!("{count} more changes of its upstreams within a minute were not told");
                let note = Note { type_: EventType::Warning, regarding: chain, related: None, text };
                ctx.notifier.note(note, LEFT_OUT).await;
            }
        }
    }
}

/// How many changes were left out.
fn left_out(chain: &str, count: u64, now: Time) -> Record {
    let details = [("modelChain", Value::from(chain)), ("leftOut", Value::from(count))];
    let details = details.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    Record { at: now, kind: LEFT_OUT.into(), details, ..Record::default() }
}

/// `now` is when it was seen: when it happened is the investigator's word, and stands among the details.
fn record(chain: &str, change: &UpstreamChange, now: Time) -> Record {
    let UpstreamChange { at, upstream, change, namespace, message } = change;
    let mut details = Map::new();
    let mut put = |key: &str, value: &str| details.insert(key.to_owned(), Value::from(value));
    put("modelChain", chain);
    put("upstream", upstream);
    put("change", change);
    put("message", &clip(message, MAX_MESSAGE));
    // Tells this change from the same one at another time: of equal records one is written.
    put("changedAt", &at.to_string());
    if !namespace.is_empty() {
        put("namespace", namespace);
    }
    Record { at: now, kind: "UpstreamChanged".into(), details, ..Record::default() }
}

fn reference(chain: &ModelChain) -> ObjectReference {
    ObjectReference {
        api_version: Some("backstop.dev/v1alpha1".into()),
        kind: Some("ModelChain".into()),
        name: Some(chain.name_any()),
        namespace: chain.namespace(),
        uid: chain.uid(),
        ..ObjectReference::default()
    }
}

fn note(regarding: ObjectReference, change: &UpstreamChange) -> Note {
    let whose = match change.namespace.as_str() {
        "" => String::new(),
        namespace => format!(" (for calls of namespace {namespace})"),
    };
    Note {
        type_: if changes::is_warning(change) { EventType::Warning } else { EventType::Normal },
        regarding,
        related: None,
        text: format!("upstream {}{whose}: {}", change.upstream, clip(&change.message, MAX_MESSAGE)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Time {
        Time::from_second(5000).unwrap()
    }

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
        let note = note(reference(&chain), &opened());
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
        let (one, other) = (record("default", &opened(), now()), record("default", &later, now()));
        assert_eq!(one.at, now(), "the investigator dates nothing");
        assert_eq!(one.kind, "UpstreamChanged");
        assert_eq!(one.details["upstream"], "anthropic");
        assert_ne!(one.details, other.details);
    }

    fn chain(changes: Vec<UpstreamChange>) -> ModelChain {
        let mut chain = ModelChain::new("default", serde_json::from_value(serde_json::json!({"rungs": []})).unwrap());
        chain.status = Some(crate::api::v1alpha1::ModelChainStatus { changes, ..Default::default() });
        chain
    }

    #[tokio::test(start_paused = true)]
    async fn a_status_that_is_written_in_a_loop_holds_up_nothing_and_fills_no_log() {
        let began = tokio::time::Instant::now();
        let clock = move || now().checked_add(jiff::SignedDuration::try_from(began.elapsed()).unwrap()).unwrap();
        // Each write has 64 changes that nobody was told of. Nobody takes what is told while they come.
        let write = |number: i64| {
            let changes = (0..64).map(|n| UpstreamChange {
                at: Time::from_millisecond(5_000_000 + number * 64 + n).unwrap(),
                ..opened()
            });
            Ok(chain(changes.collect()))
        };
        let (tell, mut telling) = mpsc::channel(QUEUE);
        let (done, read) = tokio::sync::oneshot::channel();
        let writes = futures::stream::iter((0..100).map(write)).chain(futures::stream::once(async move {
            let _ = done.send(());
            std::future::pending().await
        }));
        let following = tokio::spawn(follow(writes, tell, clock));
        tokio::time::timeout(Duration::from_secs(1), read).await.expect("all are read at once").unwrap();
        tokio::time::sleep(Duration::from_secs(70)).await;
        following.abort();
        let (mut changes, mut rests) = (0, Vec::new());
        while let Some(Telling { what, .. }) = telling.recv().await {
            match what {
                What::Change(_) => changes += 1,
                What::LeftOut(count) => rests.push(count),
            }
        }
        let most = super::changes::PER_MINUTE;
        assert_eq!((changes, rests), (most, vec![6400 - most as u64]));
    }
}
