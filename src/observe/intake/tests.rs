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
use crate::api::v1alpha1::{AlertSpec, Time};

const PATH: &str = "/v1/intake/alertmanager";
const START: &str = "2026-11-21T10:00:00Z";

/// Alerts by namespace and name.
#[derive(Default)]
struct Memory {
    alerts: Mutex<BTreeMap<(String, String), AlertSpec>>,
    namespaces: Mutex<BTreeSet<String>>,
    /// Looked up as existing, but gone when written to.
    ending: Mutex<BTreeSet<String>>,
    fault: Mutex<Option<Fault>>,
    creates: AtomicUsize,
}

#[derive(Clone)]
enum Fault {
    Down,
    Rejects(&'static str),
    Waits(watch::Receiver<bool>),
}

impl Memory {
    async fn answer(&self, alertname: &str) -> Result<(), StoreError> {
        let fault = self.fault.lock().unwrap().clone();
        match fault {
            Some(Fault::Down) => Err(StoreError::Unavailable("down".into())),
            Some(Fault::Rejects(name)) if name == alertname => Err(StoreError::Rejected("too odd".into())),
            Some(Fault::Waits(mut go)) => {
                go.wait_for(|go| *go).await.unwrap();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn places(&self) -> Vec<String> {
        self.alerts.lock().unwrap().keys().map(|(namespace, _)| namespace.clone()).collect()
    }

    fn ends(&self) -> Vec<Option<String>> {
        self.alerts.lock().unwrap().values().map(|spec| spec.ends_at.map(|time| time.to_string())).collect()
    }
}

impl AlertStore for Memory {
    fn namespace_exists<'a>(&'a self, namespace: &'a str) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move { Ok(self.namespaces.lock().unwrap().contains(namespace)) })
    }

    fn create<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
        spec: &'a AlertSpec,
    ) -> BoxFuture<'a, Result<Created, StoreError>> {
        Box::pin(async move {
            self.creates.fetch_add(1, Ordering::SeqCst);
            self.answer(spec.labels.get("alertname").map_or("", String::as_str)).await?;
            if self.ending.lock().unwrap().contains(namespace) {
                return Err(StoreError::NamespaceGone);
            }
            let mut alerts = self.alerts.lock().unwrap();
            match alerts.get(&(namespace.to_owned(), name.to_owned())) {
                None => {
                    alerts.insert((namespace.into(), name.into()), spec.clone());
                    Ok(Created::New)
                }
                Some(known) if known.ends_at.is_some() => Ok(Created::Ended),
                Some(_) => Ok(Created::Known),
            }
        })
    }

    fn set_end<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
        end: Option<Time>,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            self.answer("").await?;
            let mut alerts = self.alerts.lock().unwrap();
            let known = alerts.get_mut(&(namespace.to_owned(), name.to_owned()));
            Ok(known.map(|spec| spec.ends_at = end).is_some())
        })
    }
}

struct Bench {
    router: Router,
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
    Bench { router: intake.router(), store, registry, _tokens: dir }
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
    assert!(bench.store.creates.load(Ordering::SeqCst) < 50);
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
async fn a_namespace_that_ends_meanwhile_does_not_cost_the_alert() {
    let bench = bench();
    bench.store.ending.lock().unwrap().insert("shop".into());
    let (code, answer) = post_alerts(&bench, "cluster", &[alert("A", "shop")]).await;
    assert_eq!((code, &answer["accepted"]), (202, &json!(1)));
    assert_eq!(bench.store.places(), ["backstop-system"]);
}

#[tokio::test]
async fn a_tenants_token_may_only_name_its_own_namespace() {
    let bench = bench();
    let exported = json!({"labels": {"alertname": "A", "namespace": "shop", "exported_namespace": "prod"}});
    for foreign in [alert("A", "prod"), alert("A", "../shop"), exported] {
        let (code, answer) = post_alerts(&bench, "tenant", &[alert("A", "shop"), foreign]).await;
        assert_eq!(code, 403, "{answer}");
        assert!(answer["error"].as_str().unwrap().contains("namespace shop"), "{answer}");
    }
    assert!(bench.store.places().is_empty(), "the whole batch is refused");
    assert_eq!(post_alerts(&bench, "tenant", &[alert("A", "shop")]).await.0, 202);
}

#[tokio::test]
async fn a_tenants_alert_never_lands_in_the_system_namespace() {
    let bench = bench();
    let nowhere = json!({"labels": {"alertname": "A"}, "startsAt": START});
    assert_eq!(post_alerts(&bench, "tenant", &[nowhere]).await.0, 202);
    assert_eq!(bench.store.places(), ["shop"]);
    bench.store.ending.lock().unwrap().insert("shop".into());
    let (code, answer) = post_alerts(&bench, "tenant", &[alert("B", "shop")]).await;
    assert_eq!((code, &answer["refused"]), (202, &json!(1)));
    assert_eq!(bench.store.places(), ["shop"]);
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
async fn an_alert_that_fires_again_after_its_end_counts_as_firing() {
    let bench = bench();
    post_alerts(&bench, "cluster", &[alert("A", "shop")]).await;
    post_alerts(&bench, "cluster", &[resolved("A", "shop")]).await;
    let (_, answer) = post_alerts(&bench, "cluster", &[alert("A", "shop")]).await;
    assert_eq!(answer["accepted"], 1);
    assert_eq!(bench.store.ends(), [None]);
}

#[tokio::test]
async fn what_an_alert_cannot_hold_is_refused_alone() {
    let bench = bench();
    *bench.store.fault.lock().unwrap() = Some(Fault::Rejects("Odd"));
    let mut foreign = alert("F", "shop");
    foreign["labels"]["cluster"] = json!("elsewhere");
    let batch = [alert("Odd", "shop"), foreign, alert("A", "shop"), alert("Watchdog", "shop")];
    let (code, answer) = post_alerts(&bench, "cluster", &batch).await;
    assert_eq!(
        (code, &answer["accepted"], &answer["refused"], &answer["ignored"]),
        (202, &json!(1), &json!(2), &json!(1))
    );
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

#[tokio::test]
async fn a_body_above_a_mebibyte_is_refused_with_and_without_a_length() {
    let bench = bench();
    let large = "x".repeat(BODY + 1);
    assert_eq!(send(&bench, request("cluster", large.clone())).await.0, 413);
    let chunks = stream::iter(vec![Ok::<_, std::io::Error>(large)]);
    let (code, _, answer) = send(&bench, request("cluster", Body::from_stream(chunks))).await;
    assert_eq!(code, 413);
    assert!(answer["nextStep"].as_str().unwrap().contains("max_alerts"), "{answer}");
}

#[tokio::test]
async fn bad_input_is_answered_with_field_expectation_and_next_step() {
    let bench = bench();
    let text = r#"{"version":"4","alerts":[{"labels":{"pod":5}}]}"#;
    let (code, _, answer) = send(&bench, request("cluster", text)).await;
    assert_eq!(code, 400);
    assert_eq!((&answer["field"], &answer["expected"]), (&json!("alerts[0].labels.pod"), &json!("a string")));
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

#[tokio::test]
async fn overload_is_answered_with_503_and_never_with_429() {
    let bench = bench_with(&[("token", "cluster")], |intake| intake.slots = Semaphore::new(1));
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
    let body = "x".repeat(12 * BODY);
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
    let bench = bench_with(&[("token", "cluster")], |intake| intake.slots = Semaphore::new(1));
    for chunked in [false, true] {
        assert_eq!(write_all_then_read(&bench, "cluster", chunked).await, "HTTP/1.1 413");
        assert_eq!(write_all_then_read(&bench, "wrong", chunked).await, "HTTP/1.1 401");
    }
    let (go, wait) = watch::channel(false);
    *bench.store.fault.lock().unwrap() = Some(Fault::Waits(wait));
    let first = tokio::spawn(bench.router.clone().oneshot(request("cluster", body(&[alert("A", "shop")]))));
    while bench.store.creates.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    for chunked in [false, true] {
        assert_eq!(write_all_then_read(&bench, "cluster", chunked).await, "HTTP/1.1 503");
    }
    go.send(true).unwrap();
    assert_eq!(first.await.unwrap().unwrap().status(), 202);
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
    let request = || formats::Request { received_at: START.parse().unwrap(), request_id: "r1", cluster_name: "" };
    let body = |alerts: Value| json!({"version": "4", "status": "firing", "alerts": alerts}).to_string().into_bytes();
    let nested_lists = format!(r#"{{"version":"4","alerts":[],"x":{}"#, "[".repeat(mebibyte));
    let nested_objects = format!(r#"{{"version":"4","x":{}"#, r#"{"a":"#.repeat(mebibyte / 5));
    let empty_lists = format!(r#"{{"version":"4","alerts":[{}[]]}}"#, "[],".repeat(mebibyte / 3));
    let one_value = body(json!([{"labels": {"pod": "\u{1}".repeat(mebibyte)}}]));
    let labels: serde_json::Map<String, Value> = (0..mebibyte / 16).map(|i| (format!("k{i}"), json!("v"))).collect();
    let many_labels = body(json!([{ "labels": labels }]));
    let many_alerts =
        body(json!(vec![json!({"labels": {"alertname": "A", "pod": "p".repeat(400)}}); formats::MAX_ALERTS]));
    let bodies = [nested_lists.into(), nested_objects.into(), empty_lists.into(), one_value, many_labels, many_alerts];
    for (index, body) in bodies.iter().enumerate() {
        let start = Instant::now();
        let outcome = (alertmanager.parse)(body, request());
        assert!(start.elapsed().as_secs() < 10, "body {index} took {:?}", start.elapsed());
        assert_eq!(outcome.is_ok(), index >= 3, "body {index}: {outcome:.200?}");
    }
}
