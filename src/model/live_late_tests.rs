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
        money::NanoDollars,
        prompt,
        rules::FactBundle,
    },
    model::{
        chain::ChainAnswer,
        credentials::Credentials,
        ledger::{InMemory, SpendLedger, new_holder},
        log::Log,
        metrics::Metrics,
        model_rung, probe,
        rung::Budget,
        send::Sender,
    },
    settings::ModelNetwork,
};

/// A chain of one rung whose one upstream is `a`, at that address, with prices.
pub fn live(address: &str) -> Arc<Live> {
    let upstream = json!({"name": "a", "url": address, "api": "OpenAiChat", "stream": false, "servedAs": ["served-1"],
        "prices": {"input": "1", "output": "10"}});
    let spec = json!({"rungs": [{"name": "big", "model": "m", "upstreams": [upstream]}],
        "deadlineSeconds": 20, "budgets": {"requestsPerMinute": 1000}});
    let mut object = ModelChain::new("default", serde_json::from_value(spec).unwrap());
    object.metadata.generation = Some(1);
    let chain = validate::of(&object).unwrap().chain;
    let (ledger, keeper) = SpendLedger::new(InMemory::default(), new_holder(), Arc::new(clock::now));
    tokio::spawn(keeper);
    let sender = Arc::new(Sender::new(Credentials::new("/nowhere"), &ModelNetwork::default()).unwrap());
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
    chain.ask(&["big".into()], case(), Budget::new(time, 1_000_000_000)).await
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
        let chain = live.chain();
        let job = Job {
            chain: &chain,
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
    assert_eq!(
        (answer.attempts[0].outcome.as_str(), answer.attempts[0].then.as_str()),
        ("CredentialsRefused", "Stopped")
    );
    assert!(!live.may_be_asked(0, Some(&"a".into())));
    assert!(live.may_be_asked(0, Some(&"b".into())));
    diagnose(&live, "a", Duration::from_secs(5)).await;
    assert_eq!(hits.load(Ordering::SeqCst), 1);
    diagnose(&live, "b", Duration::from_secs(5)).await;
    assert_eq!(hits.load(Ordering::SeqCst), 2);
}

/// An answer that holds, with a usage of so many tokens of the prompt.
pub fn answers(prompt_tokens: u64) -> impl Fn() -> Response + Clone + Send + Sync {
    move || {
        let text = json!({
            "claims": [], "confidence": 99, "hypothesis": "it is the moon", "nextSteps": "look up",
            "proposal": {"action": "HandOver", "toRevision": 0}, "rootCause": "Unknown",
            "suspect": {"change": "", "kind": "", "name": "", "revision": 0},
        });
        let message = json!({"role": "assistant", "content": text.to_string()});
        axum::response::IntoResponse::into_response(axum::Json(json!({
            "id": "r-1", "object": "chat.completion", "model": "served-1",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": 100, "total_tokens": prompt_tokens + 100},
        })))
    }
}

#[tokio::test]
async fn a_usage_that_cannot_be_does_not_end_the_chain_for_the_day_and_its_upstream_is_set_aside() {
    let (address, hits) = serve(answers(1_000_000_000_000_000)).await;
    let live = live(&address);
    let answer = diagnose(&live, "shop", Duration::from_secs(5)).await;
    let first = &answer.attempts[0];
    assert_eq!(first.outcome, "UsageImplausible", "{:?}", answer.attempts);
    assert_eq!(answer.diagnosis.diagnoser, "rules");
    let charged = settled(&live).await;
    // The longest answer alone, at $10 a million, is reserved with some cents.
    assert!(charged < 500_000_000 && charged == first.cost_nano_dollars, "{charged}");
    assert!(first.tokens < 1_000_000, "{}", first.tokens);
    diagnose(&live, "other", Duration::from_secs(5)).await;
    assert_eq!(hits.load(Ordering::SeqCst), 1, "it is not asked for a while");
    let changes: Vec<String> =
        live.changes().into_iter().map(|change| change.change + ": " + &change.message).collect();
    assert_eq!(changes, ["CoolingDown: UsageImplausible: not asked for 300 s"]);

    let (address, _) = serve(answers(1000)).await;
    let honest = self::live(&address);
    let answer = diagnose(&honest, "shop", Duration::from_secs(5)).await;
    assert_eq!((answer.attempts[0].outcome.as_str(), settled(&honest).await), ("Answered", 2_000_000));
}

#[tokio::test]
async fn a_probe_that_is_refused_at_the_door_costs_nothing_and_one_that_fails_is_charged_in_full() {
    for (status, free) in [(429, true), (401, true), (400, true), (500, false)] {
        let refused = move || {
            let status = axum::http::StatusCode::from_u16(status).unwrap();
            axum::response::IntoResponse::into_response((status, axum::Json(json!({"error": {"type": "planted"}}))))
        };
        let (address, hits) = serve(refused).await;
        let live = live(&address);
        assert_eq!((probe::due(&live).await, hits.load(Ordering::SeqCst)), (1, 1));
        live.flush().await;
        let spent = live.spent(clock::now()).probes;
        assert_eq!(spent == NanoDollars(0), free, "{status}: {spent}");
    }
}
