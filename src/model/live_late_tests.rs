//! Calls of models that are late, given up, or say of themselves what cannot be.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Bytes, response::Response, routing::any};
use serde_json::json;

use super::{Job, Live};
use crate::{
    api::v1alpha1::{IncidentKey, ModelChain, Time},
    clock,
    core::{
        answer::{self, parse},
        chain::validate,
        prompt,
        rules::FactBundle,
    },
    model::{
        chain::ChainAnswer,
        credentials::Credentials,
        ledger::{InMemory, SpendLedger, new_holder},
        log::Log,
        metrics::Metrics,
        model_rung,
        rung::Budget,
        send::Sender,
    },
};

/// A chain of one rung whose one upstream is `a`, at that address, with prices.
pub fn live(address: &str) -> Arc<Live> {
    let upstream = json!({"name": "a", "url": address, "api": "OpenAiChat", "stream": false,
        "prices": {"input": "1", "output": "10"}});
    let spec = json!({"rungs": [{"name": "big", "model": "m", "upstreams": [upstream]}],
        "deadlineSeconds": 20, "budgets": {"requestsPerMinute": 1000}});
    let mut object = ModelChain::new("default", serde_json::from_value(spec).unwrap());
    object.metadata.generation = Some(1);
    let chain = validate::of(&object).unwrap().chain;
    let (ledger, keeper) = SpendLedger::new(InMemory::default(), new_holder(), Arc::new(clock::now));
    tokio::spawn(keeper);
    let sender = Arc::new(Sender::new(Credentials::new("/nowhere"), None).unwrap());
    Arc::new(Live::new(chain, ledger, sender, Metrics::default()))
}

/// A server that answers every request with `answer`; its address, and how many requests it got.
pub async fn serve(answer: impl Fn() -> Response + Clone + Send + Sync + 'static) -> (String, Arc<AtomicUsize>) {
    let hits = Arc::new(AtomicUsize::new(0));
    let count = hits.clone();
    let handler = move |_: Bytes| {
        count.fetch_add(1, Ordering::SeqCst);
        let answer = answer();
        async move { answer }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(any(handler))).await });
    (address, hits)
}

/// A server that takes connections and says nothing.
async fn silent() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            kept.push(stream);
        }
    });
    address
}

pub fn key(namespace: &str) -> IncidentKey {
    IncidentKey { namespace: namespace.into(), name: "i".into() }
}

pub fn case() -> FactBundle<'static> {
    FactBundle { target: None, alert_started_at: Time::UNIX_EPOCH, facts: &[] }
}

pub async fn diagnose(live: &Arc<Live>, namespace: &str, time: Duration) -> ChainAnswer {
    let chain = model_rung::chain(live, key(namespace));
    chain.ask(&["big".into()], case(), Budget::new(time, 1_000_000_000), clock::now).await
}

async fn settled(live: &Live) -> i64 {
    live.flush().await;
    i64::try_from(live.spent(clock::now()).diagnoses.0).unwrap()
}

#[tokio::test]
async fn the_attempt_that_the_deadline_ends_is_on_the_record_with_what_the_ledger_holds() {
    let live = live(&silent().await);
    let began = std::time::Instant::now();
    let answer = diagnose(&live, "shop", Duration::from_millis(1500)).await;
    assert!(began.elapsed() < Duration::from_millis(1600), "{:?}", began.elapsed());
    let first = &answer.attempts[0];
    assert_eq!((first.upstream.as_str(), first.outcome.as_str()), ("a", "Timeout"), "{:?}", answer.attempts);
    assert!(first.cost_nano_dollars > 0);
    assert_eq!(first.cost_nano_dollars, answer.spent.nano_dollars);
    assert_eq!(first.cost_nano_dollars, settled(&live).await);
}

#[tokio::test]
async fn a_call_that_is_dropped_is_on_the_record_and_charged_in_full() {
    let live = live(&silent().await);
    let log = Log::default();
    let advance = live.advance(key("shop"));
    {
        let (prompt, tenant) = (prompt::diagnose(case()), "shop".into());
        let job = Job {
            rung: 0,
            tenant: Some(&tenant),
            advance: &advance,
            prompt: &prompt,
            schema: answer::schema(),
            schema_name: answer::NAME,
            log: &log,
        };
        let ask = live.ask(&job, Budget::new(Duration::from_secs(20), 1000), parse);
        assert!(tokio::time::timeout(Duration::from_millis(500), ask).await.is_err());
    }
    drop(advance);
    let took = log.take();
    let [call] = &took.calls[..] else { panic!("{took:?}") };
    assert_eq!((call.upstream.as_str(), call.outcome.as_str()), ("a", "GivenUp"));
    assert_eq!((call.cost_nano_dollars, took.spent.nano_dollars), (settled(&live).await, call.cost_nano_dollars));
    assert!(call.cost_nano_dollars > 0);
}

#[tokio::test]
async fn a_page_of_a_filter_before_the_upstream_refuses_one_tenant_and_not_the_next() {
    let html = || axum::response::IntoResponse::into_response((axum::http::StatusCode::FORBIDDEN, "<html>no</html>"));
    let (address, hits) = serve(html).await;
    let live = live(&address);
    let answer = diagnose(&live, "a", Duration::from_secs(5)).await;
    assert_eq!((answer.attempts[0].outcome.as_str(), answer.attempts[0].then.as_str()), ("CredentialsRefused", "Stopped"));
    assert!(!live.may_be_asked(0, Some(&"a".into())));
    assert!(live.may_be_asked(0, Some(&"b".into())));
    diagnose(&live, "a", Duration::from_secs(5)).await;
    assert_eq!(hits.load(Ordering::SeqCst), 1);
    diagnose(&live, "b", Duration::from_secs(5)).await;
    assert_eq!(hits.load(Ordering::SeqCst), 2);
}
