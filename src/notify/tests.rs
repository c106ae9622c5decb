//! The webhook against real local receivers.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
};

use super::*;

/// Answers with the given codes in turn (0: never), the last one for ever, and keeps what it got.
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
    let webhook = webhook::Webhook::with_timing(&settings, timeout, pause).unwrap();
    Notifier { events: None, webhook, sent: Family::default() }
}

fn message() -> EscalationMessage {
    EscalationMessage {
        incident: "i1".into(),
        incident_uid: "uid-1".into(),
        namespace: "shop".into(),
        reason: "OnlyOneRevision".into(),
        facts: vec!["f1: 0 of 2 replicas are ready".into()],
        request_id: "r1".into(),
        ..EscalationMessage::default()
    }
}

async fn escalate(url: &str, token_file: &str) -> Delivery {
    let notifier = notifier(url, token_file);
    let mut deliveries = notifier.escalate(&message(), &[]).await;
    assert_eq!(deliveries.len(), 1);
    deliveries.remove(0)
}

#[tokio::test]
async fn a_receiver_that_fails_once_gets_it_again_under_the_same_key() {
    let (receiver, url) = Receiver::start(&[500, 200]).await;
    let delivery = escalate(&url, "").await;
    assert_eq!((delivery.delivered, delivery.attempts, delivery.detail.as_str()), (true, 2, "200 OK"));
    let got = receiver.got.lock().unwrap();
    assert!(got.iter().all(|(headers, _)| headers["idempotency-key"] == "uid-1/OnlyOneRevision"));
    let body: EscalationMessage = serde_json::from_slice(&got[1].1).unwrap();
    assert_eq!(body, message());
}

#[tokio::test]
async fn a_channel_by_which_it_arrived_is_not_used_again() {
    let (receiver, url) = Receiver::start(&[200]).await;
    assert!(notifier(&url, "").escalate(&message(), &["webhook"]).await.is_empty());
    assert_eq!(receiver.count(), 0);
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
async fn the_token_is_read_anew_for_every_message() {
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

#[test]
fn long_text_is_cut_between_characters_and_says_so() {
    assert_eq!(bounded("short", 8), "short");
    let cut = bounded(&"ä".repeat(600), 1024);
    assert!(cut.len() <= 1024 && cut.ends_with('…'), "{}", cut.len());
}
