//! The intake over HTTP, with alerts kept in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::watch,
};
use tower::ServiceExt as _;

use super::*;
use crate::{
    api::v1alpha1::{AlertSpec, AlertState},
    core::intake::Place,
};

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

#[tokio::test]
async fn without_a_token_file_the_intake_says_that_it_is_not_configured() {
    let bench = bench_with(&[], |_| {});
    let (code, answer) = post_alerts(&bench, "", &[]).await;
    assert_eq!(code, 503);
    assert!(answer["error"].as_str().unwrap().contains("not configured"), "{answer}");
}

#[tokio::test]
async fn a_wrong_token_and_none_are_refused_before_the_body_is_read() {
    let bench = bench();
    assert_eq!(post_alerts(&bench, "wrong", &[]).await.0, 401);
    let never = Body::from_stream(stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let (code, _, answer) = send(&bench, Request::post(PATH).body(never).unwrap()).await;
    assert_eq!(code, 401);
    assert!(answer["nextStep"].as_str().unwrap().contains("authorization.credentials"), "{answer}");
}

#[tokio::test]
async fn both_tokens_of_a_rotation_hold() {
    let bench = bench_with(&[("token", "new"), ("token-previous", "old")], |_| {});
    assert_eq!(post_alerts(&bench, "new", &[]).await.0, 202);
    assert_eq!(post_alerts(&bench, "old", &[]).await.0, 202);
}

/// An intake whose deadline a busy machine does not meet by chance.
fn patient() -> Bench {
    bench_with(&[("token", "cluster")], |intake| intake.deadline = Duration::from_secs(300))
}

/// Alerts with texts as long as those of common rule files, 2 kB each.
fn storm(count: usize) -> Vec<Value> {
    let text = "The workload does not have the replicas that it should have; see the runbook for what to check first. ";
    let alert = |i| {
        let mut alert = alert("KubeDeploymentReplicasMismatch", "shop");
        alert["labels"]["deployment"] = json!(format!("app-{i}"));
        alert["fingerprint"] = json!(format!("{i:016x}"));
        alert["annotations"] = json!({"description": text.repeat(18)});
        alert
    };
    (0..count).map(alert).collect()
}

#[tokio::test]
async fn a_storm_of_five_hundred_alerts_and_more_is_taken() {
    for count in [500, 2500] {
        let bench = patient();
        let body = body(&storm(count));
        assert!(body.len() > count * 1900 && body.len() < MAX_BODY, "{}", body.len());
        let (code, _, answer) = send(&bench, request("cluster", body)).await;
        assert_eq!((code.as_u16(), &answer["accepted"]), (202, &json!(count)), "{answer}");
        assert_eq!(bench.store.places().len(), count);
    }
}

#[tokio::test]
async fn of_a_body_that_is_too_long_the_beginning_is_taken_and_the_answer_says_that_the_rest_is_not() {
    let bench = patient();
    let whole = body(&storm(5000));
    assert!(whole.len() > MAX_BODY);
    let chunks: Vec<_> = whole.as_bytes().chunks(1 << 16).map(|part| Ok::<_, std::io::Error>(part.to_vec())).collect();
    for body in [Body::from(whole), Body::from_stream(stream::iter(chunks))] {
        let (code, _, answer) = send(&bench, request("cluster", body)).await;
        assert_eq!(code, 503);
        assert!(answer["nextStep"].as_str().unwrap().contains("max_alerts"), "{answer}");
    }
    let kept = bench.store.places();
    assert!(kept.iter().filter(|place| *place == "shop").count() > 3500, "{}", kept.len());
    assert_eq!(kept.iter().filter(|place| *place == "backstop-system").count(), 1, "what was left out is on record");
    assert!(metrics(&bench).contains("backstop_intake_cut_off_requests_total 2"));
}

#[tokio::test]
async fn of_more_alerts_than_are_read_the_first_are_taken_and_the_answer_says_that_the_rest_is_not() {
    let bench = patient();
    let of = |count: usize| format!(r#"{{"version":"4","alerts":[{}{{}}]}}"#, "{},".repeat(count - 1));
    assert_eq!(send(&bench, request("cluster", of(MAX_ALERTS))).await.0, 202);
    assert_eq!(send(&bench, request("cluster", of(MAX_ALERTS + 1))).await.0, 503);
    assert!(metrics(&bench).contains("backstop_intake_cut_off_requests_total 1"));
}

#[tokio::test]
async fn what_is_no_payload_is_answered_with_field_expectation_and_next_step() {
    let bench = bench();
    let text = r#"{"version":"3","alerts":[{"labels":{"pod":"x"}}]}"#;
    let (code, _, answer) = send(&bench, request("cluster", text)).await;
    assert_eq!(code, 400);
    assert_eq!(answer["field"], "version");
    assert!(answer["expected"].as_str().unwrap().contains("Alertmanager"), "{answer}");
    assert!(!answer["nextStep"].as_str().unwrap().is_empty());
    assert_eq!(answer["requestId"].as_str().unwrap().len(), 32);
}

#[tokio::test]
async fn a_browser_gets_a_hint() {
    let bench = bench();
    let response = bench.router.clone().oneshot(Request::get(PATH).body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers()["allow"].to_str().unwrap()), (405, "POST"));
    let text = axum::body::to_bytes(response.into_body(), 4096).await.unwrap();
    assert!(String::from_utf8_lossy(&text).contains("webhook_config"));
}

/// Takes all room but that for so many requests.
fn leave_room(intake: &mut Intake, requests: usize) {
    let mut budget = intake.budget.lock().unwrap();
    let taken: Vec<usize> = std::iter::from_fn(|| budget.take(&TokenOwner::Cluster, None)).collect();
    taken.iter().take(requests).for_each(|bytes| budget.give(&TokenOwner::Cluster, *bytes));
}

#[tokio::test]
async fn overload_is_answered_with_503_and_never_with_429() {
    let bench = bench_with(&[("token", "cluster")], |intake| leave_room(intake, 1));
    let (go, wait) = watch::channel(false);
    *bench.store.fault.lock().unwrap() = Some(Fault::Waits(wait));
    let first = tokio::spawn(bench.router.clone().oneshot(request("cluster", body(&[alert("A", "shop")]))));
    while bench.store.creates.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let (code, headers, _) = send(&bench, request("cluster", body(&[alert("B", "shop")]))).await;
    assert_eq!((code.as_u16(), headers.contains_key("retry-after")), (503, true));
    go.send(true).unwrap();
    assert_eq!(first.await.unwrap().unwrap().status(), 202);
    assert_eq!(post_alerts(&bench, "cluster", &[alert("B", "shop")]).await.0, 202, "the slot is free again");
}

#[tokio::test]
async fn an_api_server_that_does_not_answer_ends_in_503_in_time() {
    let bench = bench_with(&[("token", "cluster")], |intake| intake.deadline = Duration::from_millis(50));
    let (_go, wait) = watch::channel(false);
    *bench.store.fault.lock().unwrap() = Some(Fault::Waits(wait));
    assert_eq!(post_alerts(&bench, "cluster", &[alert("A", "shop")]).await.0, 503);
}

#[tokio::test]
async fn a_body_that_never_ends_is_cut_off_at_the_deadline() {
    let bench = bench_with(&[("token", "cluster")], |intake| intake.deadline = Duration::from_millis(50));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(crate::serve::serve_on(listener, bench.router.clone(), std::future::pending()));
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let head =
        format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer cluster\r\nContent-Length: 10\r\n\r\n{{");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 503");
}

/// Serves the intake, writes a whole request of some megabytes before it reads, and returns the start of the answer.
async fn write_all_then_read(bench: &Bench, token: &str, chunked: bool) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(crate::serve::serve_on(listener, bench.router.clone(), std::future::pending()));
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    // More than the socket buffers of both sides hold.
    let body = "x".repeat(12 << 20);
    let (framing, body) = match chunked {
        true => ("Transfer-Encoding: chunked".into(), format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())),
        false => (format!("Content-Length: {}", body.len()), body),
    };
    let head = format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{framing}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.expect("the whole body is taken");
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn who_writes_its_whole_body_before_it_reads_gets_the_answer_to_what_was_refused() {
    let bench = bench();
    let crowded = bench_with(&[("token", "cluster")], |intake| leave_room(intake, 0));
    for chunked in [false, true] {
        assert_eq!(write_all_then_read(&bench, "cluster", chunked).await, "HTTP/1.1 400");
        assert_eq!(write_all_then_read(&bench, "wrong", chunked).await, "HTTP/1.1 401");
        assert_eq!(write_all_then_read(&crowded, "cluster", chunked).await, "HTTP/1.1 503");
    }
}

#[tokio::test]
async fn everything_is_counted_without_names_that_senders_choose() {
    let bench = bench();
    post_alerts(&bench, "cluster", &[alert("SecretName", "shop"), resolved("X", "shop")]).await;
    post_alerts(&bench, "wrong", &[]).await;
    let text = metrics(&bench);
    for line in [
        r#"backstop_alerts_received_total{source="alertmanager",outcome="accepted"} 1"#,
        r#"backstop_alerts_received_total{source="alertmanager",outcome="ignored"} 1"#,
        r#"backstop_intake_requests_total{code="202"} 1"#,
        r#"backstop_intake_requests_total{code="401"} 1"#,
        "backstop_intake_duration_seconds_count 2",
        "backstop_intake_truncated_alerts_total 0",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    assert!(!text.contains("SecretName"));
}

#[tokio::test]
async fn a_format_that_is_one_file_and_its_registry_lines_becomes_alerts_under_its_own_name() {
    let bench = bench();
    let post = |body: &'static str| {
        Request::post("/v1/intake/planted").header("authorization", "Bearer cluster").body(body.into()).unwrap()
    };
    let (code, _, answer) = send(&bench, post(r#"{"broken": ["cart", "checkout"]}"#)).await;
    assert_eq!((code.as_u16(), &answer["accepted"]), (202, &json!(2)));
    let sources: Vec<_> = bench.store.alerts.lock().unwrap().values().map(|spec| spec.source.as_str()).collect();
    assert_eq!(sources, ["Planted", "Planted"]);
    let (code, _, answer) = send(&bench, post(r#"{"version": "4", "alerts": []}"#)).await;
    assert_eq!((code.as_u16(), answer["nextStep"].as_str()), (400, Some(r#"send {"broken": [names]}"#)));
    let text = metrics(&bench);
    let line = r#"backstop_alerts_received_total{source="planted",outcome="accepted"} 2"#;
    assert!(text.contains(line) && !text.contains("alertmanager"), "{text}");
}

#[tokio::test]
async fn every_format_has_its_route_and_says_to_a_browser_how_its_sender_is_set_up() {
    let bench = bench();
    for format in formats::all() {
        let response =
            bench.router.clone().oneshot(Request::get(format.path).body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status().as_u16(), 405, "{}", format.path);
        let text = axum::body::to_bytes(response.into_body(), 4096).await.unwrap();
        assert!(String::from_utf8_lossy(&text).contains(format.setup), "{}", format.path);
    }
}

/// The absolute bound only catches a parser that hangs or is quadratic: a linear one needs milliseconds.
#[test]
fn a_mebibyte_of_anything_is_read_in_bounded_time() {
    let mebibyte = 1 << 20;
    let alertmanager = formats::of(crate::api::v1alpha1::AlertSource::Alertmanager).unwrap();
    let request = || formats::RequestInfo {
        received_at: START.parse().unwrap(),
        request_id: "r1",
        cluster_name: "",
        cut_off: false,
    };
    let body = |alerts: Value| json!({"version": "4", "status": "firing", "alerts": alerts}).to_string().into_bytes();
    let nested_lists = format!(r#"{{"version":"4","alerts":[],"x":{}"#, "[".repeat(mebibyte));
    let nested_objects = format!(r#"{{"version":"4","x":{}"#, r#"{"a":"#.repeat(mebibyte / 5));
    let nested_alert = format!(r#"{{"version":"4","alerts":[{}"#, r#"{"a":["#.repeat(mebibyte / 6));
    let empty_lists = format!(r#"{{"version":"4","alerts":[{}[]]}}"#, "[],".repeat(mebibyte / 3));
    let one_value = body(json!([{"labels": {"pod": "\u{1}".repeat(mebibyte)}}]));
    let labels: serde_json::Map<String, Value> = (0..mebibyte / 16).map(|i| (format!("k{i}"), json!("v"))).collect();
    let many_labels = body(json!([{ "labels": labels }]));
    let many_alerts = body(json!(vec![json!({"labels": {"alertname": "A", "pod": "p".repeat(400)}}); 2000]));
    let bodies = [
        nested_lists.into(),
        nested_objects.into(),
        nested_alert.into(),
        empty_lists.into(),
        one_value,
        many_labels,
        many_alerts,
    ];
    for (index, body) in bodies.iter().enumerate() {
        let start = Instant::now();
        let outcome = (alertmanager.parse)(body, request()).map(|batch| batch.alerts.take(MAX_ALERTS).count());
        assert!(start.elapsed().as_secs() < 10, "body {index} took {:?}", start.elapsed());
        assert_eq!(outcome.is_ok(), index >= 3, "body {index}: {outcome:.200?}");
    }
}
