//! What holds for every source.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kube::Client;
use prometheus_client::registry::Registry;

use super::{Gatherer, sources};
use crate::{
    api::v1alpha1::{Fact, FactData, InvestigationSpec, ObjectRef, SourceName, Time},
    clock,
    cluster::testing::{Asked, Reply, client, failure, list},
    core::workload::{
        RawWorkload,
        fixtures::{WorkloadFixture, ago, crash_loop, ready},
    },
    settings::Settings,
};

fn settings() -> Settings {
    // Nothing listens there, so the store of metrics is unavailable.
    Settings { prometheus_url: "http://127.0.0.1:9/".into(), ..Settings::default() }
}

fn gatherer(client: Client) -> (Gatherer, Registry) {
    let mut registry = Registry::default();
    (Gatherer::new(client, &settings(), &mut registry).unwrap(), registry)
}

fn spec(sources: &[SourceName]) -> InvestigationSpec {
    let target = ObjectRef {
        api_version: "apps/v1".into(),
        kind: "Deployment".into(),
        namespace: "shop".into(),
        name: "checkout".into(),
        uid: "deploy-1".into(),
    };
    InvestigationSpec {
        key: String::new(),
        incident: "incident".into(),
        round: 1,
        target: Some(target),
        sources: sources.to_vec(),
        chain: vec!["rules".into()],
        model_chain: None,
        deadline_seconds: 30,
        alert_started_at: ago(60),
        request_id: "r1".into(),
    }
}

/// Answers for the target, its revisions and its pods; everything else is not found.
fn workload(snapshot: &RawWorkload, asked: &Asked) -> Option<Reply> {
    Some(match asked.path.as_str() {
        "/apis/apps/v1/namespaces/shop/deployments/checkout" => Reply::Json(200, snapshot.object.clone()),
        "/apis/apps/v1/namespaces/shop/deployments/checkout-primary" => failure(404, "NotFound"),
        "/apis/apps/v1/namespaces/shop/replicasets" => list(&snapshot.revisions),
        "/api/v1/namespaces/shop/pods" => list(&snapshot.pods),
        _ => return None,
    })
}

fn snapshot() -> RawWorkload {
    WorkloadFixture::two_revisions().pods(1, 2, &ready(3600)).pods(2, 1, &crash_loop()).snapshot()
}

fn in_seconds(seconds: u64) -> Time {
    clock::now().checked_add(Duration::from_secs(seconds)).unwrap()
}

fn reasons(facts: &[Fact]) -> Vec<&str> {
    let failed = facts.iter().map(|fact| match &fact.data {
        FactData::SourceFailed(failed) => Some(failed.reason.as_str()),
        _ => None,
    });
    failed.flatten().collect()
}

#[test]
fn the_registry_holds_every_source_under_its_own_name_in_the_order_of_the_list() {
    let names: Vec<SourceName> = sources::all(&settings()).unwrap().iter().map(|source| source.name()).collect();
    assert_eq!(names, SourceName::ALL);
}

#[tokio::test]
async fn a_source_that_is_one_file_and_its_registry_lines_gives_facts_like_any_other() {
    let snapshot = snapshot();
    let (client, _) = client(move |asked| workload(&snapshot, asked).unwrap_or_else(|| failure(404, "NotFound")));
    let (gatherer, registry) = gatherer(client);
    let sources = crate::core::sources::bundle(Default::default(), [SourceName::Planted]);
    let facts = gatherer.gather(&spec(&sources), &ObjectRef::default(), in_seconds(30)).await;
    let planted: Vec<&Fact> = facts.iter().filter(|fact| fact.source == SourceName::Planted).collect();
    assert_eq!((planted.len(), planted[0].text.as_str()), (1, "3 pods"));
    assert_eq!(planted[0].id, format!("f{}", facts.len()), "numbered in the order of the list");
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let line = r#"backstop_source_requests_total{source="Planted",outcome="Answered"} 1"#;
    assert!(text.contains(line), "{text}");
}

/// A client that answers for the workload, and for nothing else while `silent`; and what was asked.
fn silent(silent: Arc<AtomicBool>) -> (Client, Arc<std::sync::Mutex<Vec<Asked>>>) {
    let snapshot = snapshot();
    client(move |asked| match workload(&snapshot, asked) {
        Some(reply) => reply,
        None if silent.load(Ordering::SeqCst) => Reply::Never,
        None => failure(404, "NotFound"),
    })
}

#[tokio::test(start_paused = true)]
async fn no_source_waits_longer_than_its_timeout_and_five_failures_open_its_breaker_alone() {
    let mut held = BTreeSet::new();
    // The store of metrics is not the API server: it has a test of its own.
    for source in SourceName::ALL.iter().copied().filter(|source| *source != SourceName::Metrics) {
        let (client, log) = silent(Arc::new(AtomicBool::new(true)));
        let (gatherer, _) = gatherer(client);
        let ask = async |name| gatherer.gather(&spec(&[name]), &ObjectRef::default(), in_seconds(30)).await;
        let own = || log.lock().unwrap().iter().filter(|asked| workload(&snapshot(), asked).is_none()).count();
        for _ in 0..5 {
            let began = tokio::time::Instant::now();
            let facts = ask(source).await;
            assert!(began.elapsed() <= Duration::from_millis(3100), "{source:?} took {:?}", began.elapsed());
            let expected: &[&str] = if own() > 0 { &["Timeout"] } else { &[] };
            assert_eq!(reasons(&facts), expected, "{source:?}");
        }
        if own() == 0 {
            continue;
        }
        held.insert(source);
        let before = own();
        assert_eq!(reasons(&ask(source).await), ["CircuitOpen"], "{source:?}");
        assert_eq!(own(), before, "{source:?} was asked although its breaker is open");
        assert_eq!(reasons(&ask(SourceName::Pods).await), [""; 0], "the breaker of {source:?} is no other's");
    }
    assert_eq!(held, [SourceName::ConfigReferences, SourceName::Events, SourceName::Logs].into());
}

#[tokio::test]
async fn a_store_of_metrics_that_cannot_be_reached_opens_its_breaker() {
    let (client, _) = silent(Arc::default());
    let (gatherer, _) = gatherer(client);
    let mut seen = BTreeSet::new();
    for _ in 0..6 {
        let facts = gatherer.gather(&spec(&[SourceName::Metrics]), &ObjectRef::default(), in_seconds(30)).await;
        seen.extend(reasons(&facts).into_iter().map(str::to_owned));
    }
    assert_eq!(seen, ["CircuitOpen", "Unavailable"].map(String::from).into());
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_investigation_bounds_every_source() {
    let (client, _) = silent(Arc::new(AtomicBool::new(true)));
    let (gatherer, _) = gatherer(client);
    let sources = [SourceName::ConfigReferences, SourceName::Events, SourceName::Logs];
    let began = tokio::time::Instant::now();
    let facts = gatherer.gather(&spec(&sources), &ObjectRef::default(), in_seconds(1)).await;
    assert_eq!(reasons(&facts), ["Timeout"; 3]);
    assert!(began.elapsed() <= Duration::from_millis(1100), "{:?}", began.elapsed());
}
