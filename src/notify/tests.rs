//! The registry of channels, and the webhook against real local receivers.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use serde_json::{Value, json};

use super::*;
use crate::{
    api::v1alpha1::ObjectRef,
    cluster::testing::{Reply, client, failure},
    settings::EscalationWebhook,
};

/// Answers with the given codes in turn (0: never), the last one from then on, and keeps what it got.
#[derive(Clone)]
struct Receiver {
    codes: Arc<Mutex<VecDeque<u16>>>,
    got: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
}

impl Receiver {
    async fn start(codes: &[u16]) -> (Receiver, String) {
        let receiver = Receiver { codes: Arc::new(Mutex::new(codes.iter().copied().collect())), got: Arc::default() };
        let router = Router::new().fallback(answer).with_state(receiver.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/page?sig=s3cret", listener.local_addr().unwrap());
        tokio::spawn(crate::serve::serve_on(listener, router, std::future::pending()));
        (receiver, url)
    }

    fn count(&self) -> usize {
        self.got.lock().unwrap().len()
    }
}

async fn answer(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> (StatusCode, HeaderMap) {
    receiver.got.lock().unwrap().push((headers, body));
    let code = {
        let mut codes = receiver.codes.lock().unwrap();
        if codes.len() > 1 { codes.pop_front() } else { codes.front().copied() }
    };
    let mut headers = HeaderMap::new();
    match code {
        Some(0) | None => std::future::pending().await,
        Some(code) => {
            headers.insert("location", "http://127.0.0.1:1/elsewhere".parse().unwrap());
            (StatusCode::from_u16(code).unwrap(), headers)
        }
    }
}

fn notifier(url: &str, token_file: &str) -> Notifier {
    let settings = EscalationWebhook { url: url.into(), token_file: token_file.into() };
    let (timeout, pause) = (Duration::from_millis(300), Duration::from_millis(1));
    Notifier::with(vec![Box::new(webhook::Webhook::with_timing(&settings, timeout, pause).unwrap().unwrap())])
}

fn message() -> Message {
    Message {
        incident: "i1".into(),
        incident_uid: "uid-1".into(),
        namespace: "shop".into(),
        target: Some(ObjectRef { kind: "Deployment".into(), name: "checkout".into(), ..ObjectRef::default() }),
        reason: "OnlyOneRevision".into(),
        message: "there is no earlier revision".into(),
        facts: vec!["f1: 0 of 2 replicas are ready".into()],
        request_id: "r1".into(),
        ..Message::default()
    }
}

async fn escalate(url: &str, token_file: &str) -> Delivery {
    let told = notifier(url, token_file).deliver(&Notification::Escalated(message()), &[]).await;
    assert_eq!((told.deliveries.len(), told.waiting), (1, false));
    told.deliveries.into_iter().next().unwrap()
}

/// An API server that takes Events on objects of these kinds, and the bodies that it was sent.
fn events(taken: &'static [&'static str]) -> (kube::Client, impl Fn() -> Vec<Value>) {
    let (client, log) = client(move |asked| match asked.body["regarding"]["kind"].as_str() {
        Some(kind) if taken.contains(&kind) => Reply::Json(201, asked.body.clone()),
        _ => failure(403, "Forbidden"),
    });
    (client, move || log.lock().unwrap().iter().map(|asked| asked.body.clone()).collect())
}

fn whole(client: &kube::Client, url: &str) -> (Notifier, Registry) {
    let mut registry = Registry::default();
    let escalation_webhook = EscalationWebhook { url: url.into(), token_file: String::new() };
    let settings = Settings { escalation_webhook, ..Settings::default() };
    (Notifier::new(client, "pod-1", &settings, &mut registry).unwrap(), registry)
}

fn channels(told: &Told) -> Vec<(&str, bool)> {
    told.deliveries.iter().map(|delivery| (delivery.channel.as_str(), delivery.delivered)).collect()
}

#[tokio::test]
async fn every_channel_is_in_the_registry_under_its_own_name_and_the_webhook_only_with_a_url() {
    let (client, _) = events(&[]);
    let names = |url| whole(&client, url).0.channels.iter().map(|channel| channel.name()).collect::<Vec<_>>();
    assert_eq!(names("http://127.0.0.1:9/"), ChannelName::ALL);
    assert_eq!(names(""), [ChannelName::Event, ChannelName::Planted]);
}

#[tokio::test]
async fn a_channel_that_is_one_file_and_its_registry_lines_delivers_what_it_wants_and_is_counted_by_its_own_name() {
    let (client, _) = events(&["Incident", "Deployment"]);
    let (notifier, registry) = whole(&client, "");
    let told = notifier.deliver(&Notification::Escalated(message()), &[]).await;
    assert_eq!(channels(&told), [("event", true), ("planted", true)]);
    assert_eq!(told.deliveries[1].detail, "firing OnlyOneRevision");
    assert!(told.arrived());
    let told = notifier.deliver(&Notification::ApprovalAsked(message()), &[]).await;
    assert_eq!(channels(&told), [("event", true)]);
    let told = notifier.deliver(&Notification::Resolved(message()), &[]).await;
    assert_eq!(told.deliveries[1].detail, "resolved OnlyOneRevision");
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [r#"channel="planted",outcome="delivered"} 2"#, r#"channel="event",outcome="delivered"} 3"#] {
        assert!(text.contains(line), "{text}");
    }
}

#[tokio::test]
async fn an_escalation_is_an_event_on_incident_and_target_and_an_end_one_on_the_incident_alone() {
    let (client, written) = events(&["Incident", "Deployment"]);
    let (notifier, _) = whole(&client, "");
    notifier.deliver(&Notification::Escalated(message()), &[]).await;
    notifier.deliver(&Notification::Resolved(message()), &[]).await;
    let mut seen: Vec<(String, String)> = written()
        .iter()
        .map(|event| (event["type"].as_str().unwrap().into(), event["regarding"]["kind"].as_str().unwrap().into()))
        .collect();
    seen.sort();
    let expected = [("Normal", "Incident"), ("Warning", "Deployment"), ("Warning", "Incident")];
    assert_eq!(seen, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
}

#[tokio::test]
async fn one_event_of_two_is_enough_and_the_other_is_told() {
    let (client, _) = events(&["Incident"]);
    let told = whole(&client, "").0.deliver(&Notification::Escalated(message()), &[]).await;
    assert!(told.deliveries[0].delivered);
    assert!(told.deliveries[0].detail.contains("on Deployment checkout: "), "{:?}", told.deliveries[0]);
    let (client, _) = events(&[]);
    let told = whole(&client, "").0.deliver(&Notification::Escalated(message()), &[]).await;
    assert!(!told.deliveries[0].delivered && !told.arrived());
}

#[tokio::test]
async fn while_all_slow_places_are_taken_the_other_channels_deliver_and_the_slow_one_waits() {
    let (receiver, url) = Receiver::start(&[200]).await;
    let (client, _) = events(&["Incident", "Deployment"]);
    let (notifier, _) = whole(&client, &url);
    let others = ["a", "b", "c"];
    assert!(others.iter().all(|namespace| lock(&notifier.slow).take(namespace, false, clock::now()).is_some()));
    let told = notifier.deliver(&Notification::Escalated(message()), &[]).await;
    assert_eq!((channels(&told), told.waiting), (vec![("event", true), ("webhook", false), ("planted", true)], true));
    assert!(!told.arrived());
    others.iter().for_each(|namespace| lock(&notifier.slow).give(namespace, Lane::Common));
    let told = notifier.deliver(&Notification::Escalated(message()), &told.deliveries).await;
    assert_eq!((channels(&told).len(), told.arrived(), receiver.count()), (3, true, 1));
}

/// A slow channel: nobody hears of it in less than two seconds.
struct Slow;

impl Channel for Slow {
    fn name(&self) -> ChannelName {
        ChannelName::Webhook
    }

    fn is_slow(&self) -> bool {
        true
    }

    fn deliver<'a>(&'a self, _: &'a Notification) -> futures::future::BoxFuture<'a, Delivery> {
        Box::pin(async {
            tokio::time::sleep(TWO_SECONDS).await;
            Delivery { delivered: true, attempts: 1, ..Delivery::default() }
        })
    }
}

const TWO_SECONDS: Duration = Duration::from_secs(2);

/// A page of an incident of this namespace, until it has arrived, as often as it has to be tried; how long that took.
async fn paged(notifier: Arc<Notifier>, namespace: &str, severity: &str) -> Duration {
    let began = tokio::time::Instant::now();
    let message = Message { namespace: namespace.into(), severity: severity.into(), ..message() };
    let page = Notification::Escalated(message);
    loop {
        let told = notifier.deliver(&page, &[]).await;
        if told.arrived() {
            return began.elapsed();
        }
        assert!(told.waiting, "{told:?}");
        tokio::time::sleep(TWO_SECONDS).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_namespace_with_two_hundred_pages_keeps_that_of_another_one_waiting_for_no_longer_than_one_delivery() {
    let notifier = Arc::new(Notifier::with(vec![Box::new(Slow)]));
    for severity in ["warning", "critical"] {
        for _ in 0..200 {
            tokio::spawn(spawned(notifier.clone(), "loud", severity));
        }
    }
    tokio::time::sleep(Duration::from_secs(61)).await;
    for severity in ["warning", "critical"] {
        let took = paged(notifier.clone(), "shop", severity).await;
        assert!(took <= 2 * TWO_SECONDS, "{severity}: {took:?}");
    }
    let began = tokio::time::Instant::now();
    let others = ["a", "b", "c", "d", "e", "f"].map(|name| paged(notifier.clone(), name, "warning"));
    futures::future::join_all(others).await;
    assert!(began.elapsed() <= 6 * TWO_SECONDS, "{:?}", began.elapsed());
}

async fn spawned(notifier: Arc<Notifier>, namespace: &'static str, severity: &'static str) -> Duration {
    paged(notifier, namespace, severity).await
}

#[tokio::test(start_paused = true)]
async fn what_is_critical_has_a_place_that_nothing_else_takes() {
    let notifier = Arc::new(Notifier::with(vec![Box::new(Slow)]));
    for namespace in ["a", "b", "c", "d", "e", "f", "g", "h", "i"] {
        tokio::spawn(spawned(notifier.clone(), namespace, "warning"));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(paged(notifier.clone(), "shop", "critical").await, TWO_SECONDS);
    assert!(paged(notifier, "shop", "warning").await > TWO_SECONDS, "the others came first");
}

#[tokio::test]
async fn the_body_says_its_version_and_what_became_of_the_incident() {
    let (receiver, url) = Receiver::start(&[200]).await;
    let all = [Notification::Escalated, Notification::ApprovalAsked, Notification::Resolved];
    for notification in all {
        notifier(&url, "").deliver(&notification(message()), &[]).await;
    }
    let bodies: Vec<Value> =
        receiver.got.lock().unwrap().iter().map(|(_, body)| serde_json::from_slice(body).unwrap()).collect();
    let statuses: Vec<&str> = bodies.iter().map(|body| body["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["firing", "approval", "resolved"]);
    for body in &bodies {
        assert_eq!(body["version"], "backstop.dev/v1alpha1");
        assert_eq!((&body["incidentUid"], &body["reason"]), (&json!("uid-1"), &json!("OnlyOneRevision")));
    }
}

#[tokio::test]
async fn a_body_has_64_kibibytes_at_most_and_points_to_the_rest() {
    let (receiver, url) = Receiver::start(&[200]).await;
    let large = Message {
        facts: (0..200).map(|index| format!("f{index}: {}", "x".repeat(4096))).collect(),
        cited: 2,
        hypothesis: "the image cannot be pulled".into(),
        inspect: "kubectl -n shop get incident i1 -o yaml".into(),
        ..message()
    };
    notifier(&url, "").deliver(&Notification::Escalated(large), &[]).await;
    let (_, body) = receiver.got.lock().unwrap()[0].clone();
    assert!(body.len() <= webhook::MAX_BODY, "{}", body.len());
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["facts"].as_array().unwrap().len(), 2);
    assert_eq!(body["omitted"], json!(["198 facts that the diagnosis does not cite"]));
    assert!(
        body["inspect"].as_str().unwrap().contains("get incident")
            && body["hypothesis"] == "the image cannot be pulled"
    );
}

#[tokio::test]
async fn an_event_says_what_is_believed_and_what_to_do_within_its_bound() {
    let (client, written) = events(&["Incident", "Deployment"]);
    let long = Message {
        message: "m".repeat(2000),
        hypothesis: "the image cannot be pulled".into(),
        next_step: "check the name of the image".into(),
        ..message()
    };
    whole(&client, "").0.deliver(&Notification::Escalated(long), &[]).await;
    for event in written() {
        let note = event["note"].as_str().unwrap();
        assert!(note.len() <= 1024, "{}", note.len());
        assert!(note.contains("Diagnosis: the image cannot") && note.contains("Next: check the name"), "{note}");
    }
}

#[tokio::test]
async fn a_receiver_that_fails_once_gets_it_again_under_the_same_key() {
    let (receiver, url) = Receiver::start(&[500, 200]).await;
    let delivery = escalate(&url, "").await;
    assert_eq!((delivery.delivered, delivery.attempts, delivery.detail.as_str()), (true, 2, "200 OK"));
    let got = receiver.got.lock().unwrap();
    assert!(got.iter().all(|(headers, _)| headers["idempotency-key"] == "uid-1/OnlyOneRevision"));
    assert_eq!(got[0].1, got[1].1, "the same body both times");
}

#[tokio::test]
async fn a_reminder_has_a_key_of_its_own_that_is_not_in_the_body() {
    let (receiver, url) = Receiver::start(&[500, 200]).await;
    for occasion in ["first", "second"] {
        let asked = Notification::ApprovalAsked(Message { occasion: occasion.into(), ..message() });
        assert!(notifier(&url, "").deliver(&asked, &[]).await.arrived());
    }
    let got = receiver.got.lock().unwrap();
    let keys: Vec<&str> = got.iter().map(|(headers, _)| headers["idempotency-key"].to_str().unwrap()).collect();
    let [first, second] = ["uid-1/OnlyOneRevision/first", "uid-1/OnlyOneRevision/second"];
    assert_eq!(keys, [first, first, second], "an attempt that failed has the same");
    assert!(got.iter().all(|(_, body)| !String::from_utf8_lossy(body).contains("occasion")));
}

#[tokio::test]
async fn a_channel_by_which_it_arrived_is_not_used_again_and_attempts_add_up() {
    let (receiver, url) = Receiver::start(&[400, 200]).await;
    let notifier = notifier(&url, "");
    let mut told = Told::default();
    for attempts in [1, 2, 2] {
        told = notifier.deliver(&Notification::Escalated(message()), &told.deliveries).await;
        assert_eq!(told.deliveries[0].attempts, attempts);
    }
    assert_eq!((told.arrived(), receiver.count()), (true, 2));
}

#[tokio::test]
async fn a_busy_receiver_is_tried_four_times_and_the_failure_is_told() {
    let (receiver, url) = Receiver::start(&[429, 503]).await;
    let delivery = escalate(&url, "").await;
    assert_eq!((delivery.delivered, delivery.attempts), (false, 4));
    assert!(delivery.detail.contains("503"), "{}", delivery.detail);
    assert_eq!(receiver.count(), 4);
}

#[tokio::test]
async fn a_refusal_is_not_repeated() {
    let (receiver, url) = Receiver::start(&[400, 200]).await;
    let delivery = escalate(&url, "").await;
    assert_eq!((delivery.delivered, delivery.attempts), (false, 1));
    assert_eq!(receiver.count(), 1);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (receiver, url) = Receiver::start(&[307]).await;
    let delivery = escalate(&url, "").await;
    assert!(!delivery.delivered && delivery.detail.contains("307"), "{delivery:?}");
    assert_eq!(receiver.count(), 1);
}

#[tokio::test]
async fn a_receiver_that_never_answers_costs_four_timeouts_and_no_more() {
    let (receiver, url) = Receiver::start(&[0]).await;
    let delivery = escalate(&url, "").await;
    assert_eq!((delivery.delivered, delivery.attempts), (false, 4));
    assert_eq!(receiver.count(), 4);
}

#[tokio::test]
async fn a_receiver_that_is_not_there_is_told_with_its_cause_but_not_with_its_url() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/page?sig=s3cret", listener.local_addr().unwrap());
    drop(listener);
    let delivery = escalate(&url, "").await;
    assert_eq!((delivery.delivered, delivery.attempts), (false, 4));
    assert!(delivery.detail.contains("refused") && !delivery.detail.contains("s3cret"), "{}", delivery.detail);
}

#[tokio::test]
async fn the_token_is_read_again_for_every_message() {
    let (receiver, url) = Receiver::start(&[200]).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    for token in ["one", "two"] {
        std::fs::write(&file, format!("{token}\n")).unwrap();
        assert!(escalate(&url, file.path().to_str().unwrap()).await.delivered);
    }
    let got = receiver.got.lock().unwrap();
    let sent: Vec<_> = got.iter().map(|(headers, _)| headers["authorization"].to_str().unwrap()).collect();
    assert_eq!(sent, ["Bearer one", "Bearer two"]);
}

#[tokio::test]
async fn without_a_token_that_was_configured_nothing_is_sent() {
    let (receiver, url) = Receiver::start(&[200]).await;
    let delivery = escalate(&url, "/nonexistent/token").await;
    assert!(!delivery.delivered && delivery.detail.contains("/nonexistent/token"), "{delivery:?}");
    assert_eq!(receiver.count(), 0);
}

#[tokio::test]
async fn a_receiver_cannot_make_us_wait_for_long() {
    let (_receiver, url) = Receiver::start(&[503]).await;
    let start = std::time::Instant::now();
    escalate(&url, "").await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn a_url_that_cannot_work_is_refused_at_the_start_without_being_repeated() {
    for url in ["s3cret", "ftp://s3cret/", "file:///s3cret"] {
        let settings = EscalationWebhook { url: url.into(), token_file: String::new() };
        let error = format!("{:#}", webhook::Webhook::new(&settings).err().unwrap());
        assert!(error.contains("escalationWebhook.url") && !error.contains("s3cret"), "{error}");
    }
}
