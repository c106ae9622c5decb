//! Whole requests: who may send, how much, and what is answered when it is too much or nothing.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

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

/// Alertmanager repeats behind the alerts what all of a group share.
#[tokio::test]
async fn a_log_in_an_annotation_that_the_whole_group_shares_costs_no_alert() {
    let bench = patient();
    let log = "x".repeat(1_200_000);
    let mut long = alert("LogInText", "shop");
    long["annotations"] = json!({"description": log});
    let common = json!({"description": log});
    let payload = json!({"receiver": "backstop", "status": "firing", "version": "4", "truncatedAlerts": 2,
        "alerts": [long, alert("Short", "shop")], "commonAnnotations": common});
    let (code, _, answer) = send(&bench, request("cluster", payload.to_string())).await;
    assert_eq!((code.as_u16(), &answer["accepted"], &answer["refused"]), (202, &json!(1), &json!(1)), "{answer}");
    let alerts = bench.store.alerts.lock().unwrap();
    let reasons: Vec<_> = alerts.values().filter_map(|spec| Some(spec.note.as_ref()?.reason)).collect();
    assert!(reasons.contains(&IntakeReason::Unreadable), "a person hears of it: {reasons:?}");
    assert!(reasons.contains(&IntakeReason::LeftOut), "what else the envelope says is read: {reasons:?}");
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
    while bench.store.creates.load(Ordering::SeqCst) + bench.store.reads.load(Ordering::SeqCst) == 0 {
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
