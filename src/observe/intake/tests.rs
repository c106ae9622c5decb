//! The intake over HTTP, with alerts kept in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::{Value, json};
use tokio::sync::watch;
use tower::ServiceExt as _;

use super::*;
use crate::{
    api::v1alpha1::{AlertSpec, AlertState},
    core::intake::Place,
};

mod requests;

const PATH: &str = "/v1/intake/alertmanager";
const START: &str = "2026-11-21T10:00:00Z";

/// Alerts by namespace and name.
#[derive(Default)]
struct Memory {
    alerts: Mutex<BTreeMap<(String, String), AlertSpec>>,
    namespaces: Mutex<BTreeSet<String>>,
    /// Looked up as existing, but gone when written to.
    ending: Mutex<BTreeSet<String>>,
    /// Take no Alert.
    refusing: Mutex<BTreeSet<String>>,
    /// Have as many as they may have.
    full: Mutex<BTreeSet<String>>,
    /// The API server does not answer for it.
    unreadable: Mutex<Option<String>>,
    fault: Mutex<Option<Fault>>,
    creates: AtomicUsize,
    reads: AtomicUsize,
}

#[derive(Clone)]
enum Fault {
    Down,
    Waits(watch::Receiver<bool>),
}

impl Memory {
    async fn answer(&self, namespace: &str) -> Result<(), StoreError> {
        let fault = self.fault.lock().unwrap().clone();
        match fault {
            Some(Fault::Down) => return Err(StoreError::Unavailable("down".into())),
            Some(Fault::Waits(mut go)) => drop(go.wait_for(|go| *go).await.unwrap()),
            None => {}
        }
        if self.unreadable.lock().unwrap().as_deref() == Some(namespace) {
            return Err(StoreError::Unavailable("timeout".into()));
        }
        match self.ending.lock().unwrap().contains(namespace) {
            true => Err(StoreError::NamespaceGone),
            false => Ok(()),
        }
    }

    fn places(&self) -> Vec<String> {
        self.alerts.lock().unwrap().keys().map(|(namespace, _)| namespace.clone()).collect()
    }

    fn ends(&self) -> Vec<Option<String>> {
        self.alerts.lock().unwrap().values().map(|spec| spec.ends_at.map(|time| time.to_string())).collect()
    }

    fn only(&self) -> AlertSpec {
        let alerts = self.alerts.lock().unwrap();
        assert_eq!(alerts.len(), 1, "{alerts:?}");
        alerts.values().next().unwrap().clone()
    }
}

fn key(place: &Place) -> (String, String) {
    (place.namespace.clone(), place.name.clone())
}

impl AlertStore for Memory {
    fn namespace_exists<'a>(&'a self, namespace: &'a str) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move { Ok(self.namespaces.lock().unwrap().contains(namespace)) })
    }

    fn create<'a>(&'a self, place: &'a Place, spec: &'a AlertSpec) -> BoxFuture<'a, Result<Created, StoreError>> {
        Box::pin(async move {
            self.creates.fetch_add(1, Ordering::SeqCst);
            self.answer(&place.namespace).await?;
            if self.refusing.lock().unwrap().contains(&place.namespace) {
                return Err(StoreError::Refused("label team is missing".into()));
            }
            let mut alerts = self.alerts.lock().unwrap();
            if alerts.contains_key(&key(place)) {
                return Ok(Created::Exists);
            }
            if self.full.lock().unwrap().contains(&place.namespace) {
                return Err(StoreError::Full(place.namespace.clone()));
            }
            alerts.insert(key(place), spec.clone());
            Ok(Created::New)
        })
    }

    fn find<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, Result<Option<AlertState>, StoreError>> {
        Box::pin(async move {
            self.reads.fetch_add(1, Ordering::SeqCst);
            self.answer(&place.namespace).await?;
            let state =
                |spec: &AlertSpec| if spec.ends_at.is_some() { AlertState::Resolved } else { AlertState::Firing };
            Ok(self.alerts.lock().unwrap().get(&key(place)).map(state))
        })
    }

    fn change<'a>(&'a self, place: &'a Place, change: Change) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            self.answer(&place.namespace).await?;
            let mut alerts = self.alerts.lock().unwrap();
            let Some(spec) = alerts.get_mut(&key(place)) else { return Ok(false) };
            match change {
                Change::End { ends_at, received_at } => {
                    (spec.ends_at, spec.end_received_at) = (Some(ends_at), Some(received_at));
                }
                Change::FireAgain { received_at } => (spec.ends_at, spec.fires_again_at) = (None, Some(received_at)),
            }
            Ok(true)
        })
    }
}

struct Bench {
    router: Router,
    /// Another replica, with the same alerts.
    replica: Router,
    store: Arc<Memory>,
    registry: Registry,
    _tokens: tempfile::TempDir,
}

fn bench() -> Bench {
    bench_with(&[("token", "cluster"), ("tenant-shop", "tenant")], |_| {})
}

fn bench_with(tokens: &[(&str, &str)], change: impl FnOnce(&mut Intake)) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    for (name, token) in tokens {
        std::fs::write(dir.path().join(name), token).unwrap();
    }
    let store = Arc::new(Memory::default());
    *store.namespaces.lock().unwrap() = ["shop", "prod"].map(String::from).into();
    let settings =
        Settings { intake_tokens_dir: dir.path().into(), cluster_name: "here".into(), ..Settings::default() };
    let mut registry = Registry::default();
    let mut intake = Intake::new(&settings, "backstop-system", store.clone(), &mut registry);
    change(&mut intake);
    let replica = Intake::new(&settings, "backstop-system", store.clone(), &mut Registry::default()).router();
    Bench { router: intake.router(), replica, store, registry, _tokens: dir }
}

fn alert(alertname: &str, namespace: &str) -> Value {
    json!({"status": "firing", "labels": {"alertname": alertname, "namespace": namespace}, "startsAt": START})
}

fn resolved(alertname: &str, namespace: &str) -> Value {
    let labels = json!({"alertname": alertname, "namespace": namespace});
    json!({"status": "resolved", "labels": labels, "startsAt": START, "endsAt": "2026-11-21T11:00:00Z"})
}

fn body(alerts: &[Value]) -> String {
    json!({"version": "4", "status": "firing", "alerts": alerts}).to_string()
}

async fn send(bench: &Bench, request: Request<Body>) -> (StatusCode, HeaderMap, Value) {
    let response = bench.router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, 1 << 16).await.unwrap();
    (parts.status, parts.headers, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

fn request(token: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post(PATH).header("authorization", format!("Bearer {token}")).body(body.into()).unwrap()
}

async fn post_alerts(bench: &Bench, token: &str, alerts: &[Value]) -> (u16, Value) {
    let (code, _, answer) = send(bench, request(token, body(alerts))).await;
    (code.as_u16(), answer)
}

fn metrics(bench: &Bench) -> String {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &bench.registry).unwrap();
    text
}

#[tokio::test]
async fn an_alert_is_durable_when_the_answer_is_202() {
    let bench = bench();
    let (code, answer) = post_alerts(&bench, "cluster", &[alert("A", "shop")]).await;
    assert_eq!(code, 202);
    assert_eq!((&answer["accepted"], &answer["deduplicated"]), (&json!(1), &json!(0)));
    let alerts = bench.store.alerts.lock().unwrap();
    let ((namespace, name), spec) = alerts.iter().next().unwrap();
    assert_eq!((namespace.as_str(), name.len()), ("shop", 32));
    assert_eq!(answer["requestId"].as_str(), Some(spec.request_id.as_str()));
    assert_eq!(spec.request_id.len(), 32);
    assert!(spec.received_at.is_some());
}

#[tokio::test]
async fn the_same_alert_five_hundred_times_is_one_alert_and_few_calls() {
    let bench = bench();
    let (mut accepted, mut deduplicated) = (0, 0);
    for _ in 0..500 {
        let (code, answer) = post_alerts(&bench, "cluster", &[alert("A", "shop")]).await;
        assert_eq!(code, 202);
        accepted += answer["accepted"].as_u64().unwrap();
        deduplicated += answer["deduplicated"].as_u64().unwrap();
    }
    assert_eq!((accepted, deduplicated), (1, 499));
    assert_eq!(bench.store.places(), ["shop"]);
    let calls = bench.store.creates.load(Ordering::SeqCst) + bench.store.reads.load(Ordering::SeqCst);
    assert!(calls < 50, "{calls}");
}

#[tokio::test]
async fn an_alert_that_was_not_made_durable_is_not_remembered_as_if_it_were() {
    let bench = bench();
    *bench.store.fault.lock().unwrap() = Some(Fault::Down);
    let (code, headers, answer) = send(&bench, request("cluster", body(&[alert("A", "shop")]))).await;
    assert_eq!((code.as_u16(), headers["retry-after"].to_str().unwrap()), (503, "5"));
    assert!(answer["nextStep"].as_str().unwrap().contains("send it again"), "{answer}");
    *bench.store.fault.lock().unwrap() = None;
    let (code, answer) = post_alerts(&bench, "cluster", &[alert("A", "shop")]).await;
    assert_eq!((code, &answer["accepted"]), (202, &json!(1)));
}

#[tokio::test]
async fn alerts_go_to_the_namespace_they_name_if_it_exists() {
    let bench = bench();
    let none = json!({"labels": {"alertname": "D"}, "startsAt": START});
    let batch = [alert("A", "shop"), alert("B", "nowhere"), alert("C", "../kube-system"), none];
    assert_eq!(post_alerts(&bench, "cluster", &batch).await.0, 202);
    assert_eq!(bench.store.places(), ["backstop-system", "backstop-system", "backstop-system", "shop"]);
}

#[tokio::test]
async fn what_its_namespace_does_not_take_is_kept_in_the_system_namespace_with_a_note_and_ends_there() {
    for (token, tenant) in [("cluster", None), ("tenant", Some("shop"))] {
        for reason in [IntakeReason::NamespaceGone, IntakeReason::RefusedByNamespace] {
            let bench = bench();
            let refusing =
                if reason == IntakeReason::NamespaceGone { &bench.store.ending } else { &bench.store.refusing };
            refusing.lock().unwrap().insert("shop".into());
            for expected in [("accepted", 1), ("deduplicated", 1)] {
                let (code, answer) = post_alerts(&bench, token, &[alert("A", "shop")]).await;
                assert_eq!((code, &answer[expected.0], &answer["displaced"]), (202, &json!(expected.1), &json!(1)));
            }
            assert_eq!(bench.store.places(), ["backstop-system"]);
            let spec = bench.store.only();
            assert_eq!((spec.belongs_to.as_deref(), spec.tenant.as_deref()), (Some("shop"), tenant));
            assert_eq!(spec.note.unwrap().reason, reason);
            let (code, answer) = post_alerts(&bench, token, &[resolved("A", "shop")]).await;
            assert_eq!((code, &answer["resolved"]), (202, &json!(1)), "{answer}");
            assert_eq!(bench.store.ends(), [Some("2026-11-21T11:00:00Z".into())]);
        }
    }
}

#[tokio::test]
async fn an_alert_that_its_namespace_refused_once_stays_one_alert_and_its_end_is_heard() {
    for token in ["cluster", "tenant"] {
        for lost in [false, true] {
            let mut bench = bench();
            bench.store.refusing.lock().unwrap().insert("shop".into());
            assert_eq!(post_alerts(&bench, token, &[alert("A", "shop")]).await.1["accepted"], 1);
            bench.store.refusing.lock().unwrap().clear();
            if lost {
                // A replica that has not seen the alert, or a restart.
                bench.router = bench.replica.clone();
            }
            let (code, answer) = post_alerts(&bench, token, &[alert("A", "shop")]).await;
            assert_eq!((code, &answer["deduplicated"], &answer["displaced"]), (202, &json!(1), &json!(1)), "{answer}");
            assert_eq!(bench.store.places(), ["backstop-system"], "{token}, lost: {lost}");
            assert_eq!(post_alerts(&bench, token, &[resolved("A", "shop")]).await.1["resolved"], 1);
            assert_eq!(bench.store.ends(), [Some("2026-11-21T11:00:00Z".into())]);
            // Its sender was wrong about the end: it goes on where it is.
            assert_eq!(post_alerts(&bench, token, &[alert("A", "shop")]).await.1["accepted"], 1);
            assert_eq!((bench.store.places(), bench.store.ends()), (vec!["backstop-system".into()], vec![None]));
        }
    }
}

#[tokio::test]
async fn an_alert_that_is_in_both_places_ends_in_both_and_again_where_one_could_not_be_asked() {
    let bench = bench();
    post_alerts(&bench, "cluster", &[alert("A", "shop")]).await;
    // As an earlier version left it.
    let here: (String, String) = bench.store.alerts.lock().unwrap().keys().next().unwrap().clone();
    let spec = bench.store.alerts.lock().unwrap().remove(&here).unwrap();
    let lost = Bench { router: bench.replica.clone(), ..bench };
    lost.store.refusing.lock().unwrap().insert("shop".into());
    post_alerts(&lost, "cluster", &[alert("A", "shop")]).await;
    lost.store.alerts.lock().unwrap().insert(here.clone(), spec);
    assert_eq!(lost.store.places(), ["backstop-system", "shop"]);
    *lost.store.unreadable.lock().unwrap() = Some("shop".into());
    assert_eq!(post_alerts(&lost, "cluster", &[resolved("A", "shop")]).await.0, 503, "the end has to be sent again");
    assert_eq!(lost.store.ends(), [Some("2026-11-21T11:00:00Z".into()), None], "what can be asked is ended");
    *lost.store.unreadable.lock().unwrap() = None;
    assert_eq!(post_alerts(&lost, "cluster", &[resolved("A", "shop")]).await.1["resolved"], 1);
    assert_eq!(lost.store.ends(), vec![Some("2026-11-21T11:00:00Z".to_owned()); 2]);
}

#[tokio::test]
async fn what_no_namespace_takes_is_answered_503_and_the_others_are_taken() {
    let bench = bench();
    bench.store.refusing.lock().unwrap().extend(["shop", "backstop-system"].map(String::from));
    let (code, _) = post_alerts(&bench, "cluster", &[alert("A", "shop"), alert("B", "prod")]).await;
    assert_eq!((code, bench.store.places()), (503, vec!["prod".to_owned()]));
    bench.store.refusing.lock().unwrap().clear();
    let (code, answer) = post_alerts(&bench, "cluster", &[alert("A", "shop"), alert("B", "prod")]).await;
    assert_eq!((code, &answer["accepted"], &answer["deduplicated"]), (202, &json!(1), &json!(1)));
}

#[tokio::test]
async fn a_namespace_with_too_many_alerts_is_refused_alone_and_with_503() {
    let bench = bench();
    post_alerts(&bench, "tenant", &[alert("Old", "shop")]).await;
    bench.store.full.lock().unwrap().insert("shop".into());
    for token in ["tenant", "cluster"] {
        let (code, _) = post_alerts(&bench, token, &[alert("New", "shop"), alert("Old", "shop")]).await;
        assert_eq!(code, 503);
    }
    let (code, answer) = post_alerts(&bench, "cluster", &[alert("A", "prod")]).await;
    assert_eq!((code, &answer["accepted"]), (202, &json!(1)));
    assert_eq!(bench.store.places(), ["prod", "shop"], "nothing of it goes to the system namespace");
    assert_eq!(post_alerts(&bench, "tenant", &[resolved("Old", "shop")]).await.0, 202, "ends make room");
    let line = r#"backstop_intake_irregular_alerts_total{source="alertmanager",reason="namespace_full"} 2"#;
    assert!(metrics(&bench).contains(line), "{}", metrics(&bench));
}

#[tokio::test]
async fn a_tenants_token_names_its_own_namespace_only_and_a_foreign_alert_costs_no_other() {
    let labels = |labels: Value| json!({"labels": labels, "startsAt": START});
    for foreign in
        [alert("A", "prod"), alert("A", "../shop"), labels(json!({"alertname": "A", "exported_namespace": "prod"}))]
    {
        let bench = bench();
        let (code, answer) = post_alerts(&bench, "tenant", &[alert("Good", "shop"), foreign]).await;
        assert_eq!((code, &answer["accepted"], &answer["refused"]), (202, &json!(1), &json!(1)), "{answer}");
        assert_eq!(bench.store.places(), ["shop", "shop"], "what is refused is on record, with its sender");
        let alerts = bench.store.alerts.lock().unwrap();
        let refused = alerts.values().find(|spec| spec.labels["alertname"] == "A").unwrap();
        assert_eq!(refused.note.as_ref().unwrap().reason, IntakeReason::ForeignNamespace);
        assert!(refused.ends_at.is_some() && alerts.values().all(|spec| spec.tenant.as_deref() == Some("shop")));
    }
    // The Prometheus operator enforces `namespace`; what an exporter says is moved to `exported_namespace`.
    let bench = bench();
    let enforced = labels(json!({"alertname": "QueueLag", "namespace": "shop", "exported_namespace": "billing"}));
    let nowhere = labels(json!({"alertname": "B"}));
    let (code, answer) = post_alerts(&bench, "tenant", &[enforced, nowhere]).await;
    assert_eq!((code, &answer["accepted"], bench.store.places()), (202, &json!(2), vec!["shop".into(), "shop".into()]));
    assert!(bench.store.ends().iter().all(Option::is_none));
}

#[tokio::test]
async fn an_alert_that_cannot_be_read_is_on_record_and_costs_no_other() {
    let bench = bench();
    let mut unreadable = alert("RelayedByAScript", "shop");
    unreadable["annotations"] = json!({"summary": null});
    let batch =
        [alert("Good", "prod"), unreadable.clone(), json!(1), json!({"labels": {"namespace": "shop", "pod": 5}})];
    for accepted in [1, 0] {
        let (code, answer) = post_alerts(&bench, "cluster", &batch).await;
        assert_eq!((code, &answer["accepted"], &answer["refused"]), (202, &json!(accepted), &json!(3)), "{answer}");
    }
    assert_eq!(bench.store.places(), ["backstop-system", "prod", "shop", "shop"]);
    let noted = |spec: &&AlertSpec| spec.note.as_ref().is_some_and(|note| note.reason == IntakeReason::Unreadable);
    assert_eq!(bench.store.alerts.lock().unwrap().values().filter(noted).count(), 3);
    unreadable["status"] = json!("resolved");
    let (code, answer) = post_alerts(&bench, "cluster", &[unreadable]).await;
    assert_eq!((code, &answer["resolved"]), (202, &json!(1)), "its end is heard");
    let line = r#"backstop_intake_irregular_alerts_total{source="alertmanager",reason="unreadable"} 6"#;
    assert!(metrics(&bench).contains(line), "{}", metrics(&bench));
}

#[tokio::test]
async fn an_end_is_written_to_the_alert_and_an_unknown_one_is_ignored() {
    let bench = bench();
    post_alerts(&bench, "cluster", &[alert("A", "shop")]).await;
    let (code, answer) = post_alerts(&bench, "cluster", &[resolved("A", "shop"), resolved("X", "shop")]).await;
    assert_eq!((code, &answer["resolved"], &answer["ignored"]), (202, &json!(1), &json!(1)));
    assert_eq!(bench.store.ends(), [Some("2026-11-21T11:00:00Z".into())]);
}

#[tokio::test]
async fn an_alert_that_fires_again_after_its_end_counts_as_firing_and_says_when_it_was_told_so() {
    let bench = bench();
    post_alerts(&bench, "cluster", &[alert("A", "shop")]).await;
    assert_eq!((bench.store.only().end_received_at, bench.store.only().fires_again_at), (None, None));
    post_alerts(&bench, "cluster", &[resolved("A", "shop")]).await;
    let (_, answer) = post_alerts(&bench, "cluster", &[alert("A", "shop")]).await;
    assert_eq!(answer["accepted"], 1);
    let spec = bench.store.only();
    assert_eq!(spec.ends_at, None);
    assert!(spec.end_received_at.unwrap() <= spec.fires_again_at.unwrap());
    assert_eq!(post_alerts(&bench, "cluster", &[resolved("A", "shop")]).await.1["resolved"], 1);
}

#[tokio::test(start_paused = true)]
async fn what_one_replica_remembers_swallows_nothing_that_another_one_heard() {
    let bench = bench();
    let post = async |router: &Router, alert: Value| {
        tokio::time::advance(Duration::from_secs(2)).await;
        let response = router.clone().oneshot(request("cluster", body(&[alert]))).await.unwrap();
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
        serde_json::from_slice::<Value>(&bytes).unwrap()
    };
    for (here, there) in [(&bench.router, &bench.replica), (&bench.replica, &bench.router)] {
        assert_eq!(post(here, alert("A", "shop")).await["accepted"], 1);
        assert_eq!(post(there, resolved("A", "shop")).await["resolved"], 1);
        assert_eq!(post(here, alert("A", "shop")).await["accepted"], 1, "a flap is no repeat");
        assert_eq!(post(there, alert("A", "shop")).await["deduplicated"], 1);
        assert_eq!(post(here, resolved("A", "shop")).await["resolved"], 1);
        assert_eq!(post(there, alert("A", "shop")).await["accepted"], 1);
        assert_eq!(post(here, resolved("A", "shop")).await["resolved"], 1, "an end is no repeat");
    }
    bench.store.alerts.lock().unwrap().clear();
    assert_eq!(post(&bench.router, alert("A", "shop")).await["accepted"], 1, "somebody deleted it");
}

#[tokio::test]
async fn alerts_of_another_cluster_and_those_that_were_left_out_are_on_record_and_call_nobody() {
    let bench = bench();
    let mut foreign = alert("F", "shop");
    foreign["labels"]["cluster"] = json!("elsewhere");
    let batch = [foreign.clone(), foreign, alert("A", "shop"), alert("Watchdog", "shop")];
    let body = json!({"version": "4", "status": "firing", "alerts": batch, "truncatedAlerts": 7}).to_string();
    for _ in 0..2 {
        let (code, _, answer) = send(&bench, request("cluster", body.clone())).await;
        assert_eq!((code.as_u16(), &answer["refused"], &answer["ignored"]), (202, &json!(2), &json!(1)));
    }
    assert_eq!(bench.store.places(), ["backstop-system", "backstop-system", "shop"]);
    let alerts = bench.store.alerts.lock().unwrap();
    let reasons: BTreeSet<_> =
        alerts.values().filter_map(|spec| Some(format!("{:?}", spec.note.as_ref()?.reason))).collect();
    assert_eq!(reasons, ["ForeignCluster", "LeftOut"].map(String::from).into());
    assert!(alerts.values().all(|spec| spec.note.is_some() == spec.ends_at.is_some()));
    drop(alerts);
    assert!(metrics(&bench).contains("backstop_intake_truncated_alerts_total 14"));
}

#[tokio::test]
async fn the_watchdog_makes_no_alert_but_is_seen_if_the_clusters_own_sender_sends_it() {
    const SEEN: &str = "backstop_watchdog_last_seen_timestamp_seconds ";
    let bench = bench();
    let seen = || {
        let page = metrics(&bench);
        let line = page.lines().find(|line| line.starts_with(SEEN)).unwrap_or_else(|| panic!("{page}"));
        line[SEEN.len()..].parse::<i64>().unwrap()
    };
    post_alerts(&bench, "tenant", &[alert("Watchdog", "shop")]).await;
    post_alerts(&bench, "cluster", &[alert("InfoInhibitor", "shop")]).await;
    assert_eq!(seen(), 0);
    post_alerts(&bench, "cluster", &[alert("Watchdog", "shop")]).await;
    assert!(seen() >= clock::now().as_second() - 60);
}
