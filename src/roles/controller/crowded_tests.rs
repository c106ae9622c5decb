use std::sync::atomic::{AtomicUsize, Ordering};

use kube::runtime::watcher::Event;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use super::*;
use crate::{
    api::v1alpha1::{Alert, Runbook},
    cluster::testing::{Asked, Reply, client},
    core::{policy::MAX_RUNBOOKS, target},
    roles::controller::{caches, metrics::Metrics, trimmed},
    settings::Retention,
};

fn reports() -> (Reports, Metrics) {
    let metrics = Metrics::register(&mut Registry::default());
    (Reports::new(metrics.clone()).0, metrics)
}

fn left_out(metrics: &Metrics, kind: &str) -> i64 {
    metrics.left_out.get_or_create(&super::super::metrics::OfKind { kind: kind.into() }).get()
}

/// Pages of `count` objects; a watch shows nothing, and does not end.
fn pages(count: usize, object: impl Fn(usize) -> Value + Send + Sync + 'static) -> impl Fn(&Asked) -> Reply {
    move |asked| {
        let value = |name: &str| asked.query.split('&').find_map(|term| term.strip_prefix(name)?.strip_prefix('='));
        if value("watch").is_some() {
            return Reply::Never;
        }
        let number = |name: &str| value(name).and_then(|value| value.parse::<usize>().ok());
        let from = number("continue").unwrap_or(0);
        let to = (from + number("limit").unwrap_or(count)).min(count);
        let items: Vec<Value> = (from..to).map(&object).collect();
        let next = if to < count { to.to_string() } else { String::new() };
        Reply::Json(200, json!({"metadata": {"resourceVersion": "1", "continue": next}, "items": items}))
    }
}

/// The store is filled when the list is complete, and then there is nothing more.
async fn list_ends(events: &mut (impl Stream + Unpin)) {
    assert!(tokio::time::timeout(Duration::from_millis(500), events.next()).await.is_err());
}

fn alert(namespace: &str, n: usize, status: Value) -> Value {
    let labels: serde_json::Map<String, Value> = ["deployment", "statefulset", "daemonset", "pod", "node", "workload"]
        .into_iter()
        .flat_map(|label| [label.to_owned(), format!("exported_{label}")])
        .filter(|label| target::is_asked(label))
        .map(|label| (label, json!("x".repeat(1024))))
        .chain([("alertname".to_owned(), json!("Flood"))])
        .collect();
    assert!(labels.len() > 8);
    json!({"metadata": {"name": format!("a{n}"), "namespace": namespace, "generation": 1}, "status": status,
        "spec": {"fingerprint": "f", "labels": labels, "startsAt": "2026-11-21T10:00:00Z"}})
}

fn placed() -> Value {
    json!({"state": "Firing", "observedGeneration": 1, "incident": "i", "incidentNamespace": "flood"})
}

#[tokio::test]
async fn a_namespace_with_thousands_of_firing_alerts_takes_bounded_memory_and_hinders_no_other() {
    let answer = pages(3_003, |n| match n {
        0..3_000 => alert("flood", n, if n % 2 == 0 { placed() } else { Value::Null }),
        _ => alert("shop", n, Value::Null),
    });
    let (client, _) = client(answer);
    let (reports, metrics) = reports();
    let (events, store, changed) =
        caches::alerts(&client, (&reports, &metrics), "backstop-system", &Retention::default(), Arc::default());
    tokio::spawn(changed.for_each(|_| async {}));
    let mut events = std::pin::pin!(events);
    let mut in_shop = 0;
    for _ in 0..2_503 {
        let alert = events.next().await.unwrap().unwrap();
        in_shop += usize::from(alert.namespace().as_deref() == Some("shop"));
        assert_eq!(alert.status.as_ref().is_none_or(|status| status.incident.is_empty()), caches::is_shortened(&alert));
    }
    list_ends(&mut events).await;
    assert_eq!((in_shop, store.state().len()), (3, 2_503));
    assert_eq!((left_out(&metrics, "Alert"), metrics.alerts.get()), (500, 3_003));
    let held: usize = store
        .state()
        .iter()
        .map(|alert| size_of::<Alert>() + serde_json::to_string(alert.as_ref()).unwrap().len())
        .sum();
    assert!(held < 5 << 20, "{held} bytes are held of 3,003 Alerts");
}

#[tokio::test]
async fn of_thousands_of_runbooks_of_one_namespace_no_more_are_cached_than_tell_that_they_are_too_many() {
    let text = "t".repeat(4096);
    let (client, _) = client(pages(1_500, move |n| {
        json!({"metadata": {"name": format!("r{n}"), "namespace": if n < 1_499 { "flood" } else { "shop" }},
            "spec": {"summary": "s", "match": {}, "docs": {"meaning": text, "impact": text}}})
    }));
    let (reports, metrics) = reports();
    let (events, store) = caches::declared::<Runbook>(&client, &reports, MAX_RUNBOOKS, trimmed::runbook);
    let mut events = std::pin::pin!(events);
    for _ in 0..MAX_RUNBOOKS + 2 {
        events.next().await.unwrap().unwrap();
    }
    list_ends(&mut events).await;
    assert_eq!(store.state().len(), MAX_RUNBOOKS + 2, "one more than are in force, and the one of another namespace");
    assert_eq!(left_out(&metrics, "Runbook"), 1_398);
}

#[tokio::test(start_paused = true)]
async fn what_was_left_out_is_taken_up_when_there_is_room_and_lists_do_not_follow_each_other_closely() {
    let (reports, metrics) = reports();
    let crowded = Crowded::new(&reports, 2, None);
    let lists = Arc::new(AtomicUsize::new(0));
    let object = |n| serde_json::from_value::<Alert>(alert("shop", n, Value::Null)).unwrap();
    let made = lists.clone();
    let events = crowded.renewed(move || {
        let list = made.fetch_add(1, Ordering::Relaxed);
        let rest = vec![Event::InitApply(object(1)), Event::InitApply(object(2)), Event::InitDone];
        let first = if list == 0 { vec![Event::InitApply(object(0))] } else { vec![] };
        let end = if list == 0 { vec![Event::Delete(object(0))] } else { vec![] };
        let events = [vec![Event::Init], first, rest, end].concat();
        stream::iter(events).chain(stream::pending())
    });
    let mut events = std::pin::pin!(events);
    let begun = tokio::time::Instant::now();
    let mut kept = vec![];
    while kept.len() < 4 {
        if let Some(Event::InitApply(object)) = crowded.sorted(events.next().await.unwrap()) {
            kept.push(object.name_any());
        }
    }
    assert_eq!(kept, ["a0", "a1", "a1", "a2"]);
    assert!(begun.elapsed() >= AGAIN && lists.load(Ordering::Relaxed) == 2);
    let Some(Event::InitDone) = crowded.sorted(events.next().await.unwrap()) else { panic!("the list ends") };
    assert_eq!(left_out(&metrics, "Alert"), 0);
    let quiet = tokio::time::timeout(AGAIN * 10, events.next()).await;
    assert!(quiet.is_err(), "nothing is left out, so nothing is listed again");
}
