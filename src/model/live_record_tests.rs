//! What stands on the record of calls of models: what was not sent, who answered, why each was made, and what was wrong.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json,
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};
use tracing_subscriber::fmt::MakeWriter;

use super::late_tests::{answers, case, key, live, serve};
use super::{Job, Live};
use crate::{
    api::v1alpha1::{Mode, ModelChain, UpstreamState},
    clock,
    core::{
        answer::{self, parse},
        chain::{
            spec::ValidChain,
            validate::{self, Checked},
        },
        prompt,
    },
    model::{
        chain::ChainAnswer,
        credentials::Credentials,
        ledger::{InMemory, SpendLedger, new_holder},
        log::Log,
        metrics::Metrics,
        model_rung, probe,
        rung::{Budget, Why},
        send::Sender,
    },
    settings::ModelNetwork,
};

fn chain_of(rungs: &Value, budget: &str) -> ValidChain {
    let spec = json!({"rungs": rungs, "deadlineSeconds": 20,
        "budgets": {"requestsPerMinute": 1000, "perIncident": budget}});
    let mut object = ModelChain::new("default", serde_json::from_value(spec).unwrap());
    object.metadata.generation = Some(1);
    let Checked { chain, .. } = validate::of(&object).unwrap();
    chain
}

fn live_of(chain: ValidChain, metrics: Metrics) -> Arc<Live> {
    let (ledger, keeper) = SpendLedger::new(InMemory::default(), new_holder(), Arc::new(clock::now));
    tokio::spawn(keeper);
    let sender = Arc::new(Sender::new(Credentials::new("/nowhere"), &ModelNetwork::default()).unwrap());
    Arc::new(Live::new(chain, ledger, sender, metrics))
}

async fn diagnose(live: &Arc<Live>) -> ChainAnswer {
    let names: Vec<String> = live.chain().rungs.iter().map(|rung| rung.name.clone()).collect();
    let budget = Budget::new(Duration::from_secs(10), 1_000_000_000);
    model_rung::chain(live, key("shop")).ask(&names, case(), budget).await
}

fn upstream(name: &str, address: &str, more: Value) -> Value {
    let mut upstream = json!({"name": name, "url": address, "api": "OpenAiChat", "stream": false,
        "prices": {"input": "1", "output": "10"}});
    json_patch::merge(&mut upstream, &more);
    upstream
}

/// Everything that is written to it.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Written {
    type Writer = Written;

    fn make_writer(&'a self) -> Written {
        self.clone()
    }
}

#[tokio::test]
async fn what_a_budget_refused_uses_up_no_attempt_of_the_rungs_behind() {
    let (address, hits) = serve(answers(1000)).await;
    let dear: Vec<Value> = (0..6)
        .map(|number| {
            upstream(&format!("dear-{number}"), &address, json!({"prices": {"input": "900", "output": "900"}}))
        })
        .collect();
    let rungs = json!([
        {"name": "big", "model": "m", "maxOutputTokens": 64, "upstreams": dear},
        {"name": "small", "model": "m", "maxOutputTokens": 64, "upstreams": [upstream("cheap", &address, json!({}))]},
    ]);
    let live = live_of(chain_of(&rungs, "1"), Metrics::default());
    let answer = diagnose(&live).await;
    let seen: Vec<(&str, &str, bool)> = answer
        .attempts
        .iter()
        .map(|it| (it.upstream.as_str().split('-').next().unwrap_or_default(), it.outcome.as_str(), it.not_sent))
        .collect();
    let refused = ("dear", "IncidentBudget", true);
    assert_eq!(seen, [[refused; 6].as_slice(), &[("cheap", "Answered", false), ("", "NoProposal", false)]].concat());
    assert_eq!((answer.diagnosis.diagnoser.as_str(), hits.load(std::sync::atomic::Ordering::SeqCst)), ("small", 1));
    assert_eq!(answer.attempts.iter().filter(|it| it.is_call()).count(), 1);
    let because: Vec<&str> = answer.attempts.iter().map(|it| it.because.as_str()).collect();
    assert_eq!(because[..2], ["", "Unaffordable"], "each says what it follows");
    assert_eq!(because[6], "IncidentBudget", "and so does the first of the next rung");
}

#[tokio::test]
async fn a_key_that_cannot_be_read_is_no_attempt_and_nothing_was_sent() {
    let (address, _) = serve(answers(1000)).await;
    let without = |name: &str| upstream(name, &address, json!({"credentials": {"secret": "absent"}}));
    let rungs = json!([{"name": "big", "model": "m", "upstreams": [
        without("a"), without("b"), without("c"), without("d"), without("e"), upstream("own", &address, json!({"weight": 0})),
    ]}]);
    let answer = diagnose(&live_of(chain_of(&rungs, "100"), Metrics::default())).await;
    assert_eq!(answer.diagnosis.diagnoser, "big", "{:?}", answer.attempts);
    assert!(answer.attempts[..5].iter().all(|it| it.not_sent && it.outcome == "CredentialsRefused"));
    assert!(answer.attempts[5].is_call());
}

#[tokio::test]
async fn an_index_that_is_another_rung_by_now_is_not_asked() {
    let (address, hits) = serve(answers(1000)).await;
    let live = live(&address);
    let planned = live.chain();
    // Between the look at the chain and the ask it is edited: the same index is another model, which may go further.
    let mut edited = (*planned).clone();
    edited.generation = 2;
    edited.rungs[0].name = "other".into();
    edited.rungs[0].ceiling = Mode::Approve;
    live.follow(edited);
    let (log, tenant, prompt) = (Log::default(), "shop".into(), prompt::diagnose(case()));
    let advance = live.advance(key("shop"));
    let job = |chain| Job {
        chain,
        rung: 0,
        tenant: Some(&tenant),
        advance: &advance,
        prompt: &prompt,
        schema: answer::schema(),
        schema_name: answer::NAME,
        log: &log,
    };
    let budget = Budget::new(Duration::from_secs(5), 1000);
    let called = live.ask(&job(&planned), budget, parse).await;
    assert_eq!((called.answer.err(), called.last), (Some(Why::NotConfigured), false));
    assert_eq!((hits.load(std::sync::atomic::Ordering::SeqCst), log.take().calls.len()), (0, 0));
    let now = live.chain();
    assert!(live.ask(&job(&now), budget, parse).await.answer.is_ok());
}

#[tokio::test]
async fn another_model_than_was_asked_for_is_told_counted_and_may_only_suggest() {
    // It says that `served-1` answered.
    let (address, _) = serve(answers(1000)).await;
    let mut registry = prometheus_client::registry::Registry::default();
    let metrics = Metrics::new(&mut registry);
    let rungs = |served_as: Value| {
        json!([{"name": "big", "model": "opus", "ceiling": "approve",
            "upstreams": [upstream("a", &address, json!({"servedAs": served_as}))]}])
    };
    let live = live_of(chain_of(&rungs(json!([])), "100"), metrics);
    let answer = diagnose(&live).await;
    let first = &answer.attempts[0];
    assert_eq!((first.model.as_str(), first.served_model.as_str(), first.swapped), ("opus", "served-1", true));
    assert_eq!((answer.diagnosis.diagnoser.as_str(), answer.diagnosis.ceiling), ("big", Mode::Suggest));
    diagnose(&live).await;
    let told: Vec<String> = live.changes().into_iter().map(|it| format!("{}: {}", it.change, it.message)).collect();
    assert_eq!(told.len(), 1, "not with each answer: {told:?}");
    assert!(told[0].starts_with("ModelSwapped: asked for opus, answered by served-1: its answers lead to"), "{told:?}");
    assert_eq!(live.snapshot(clock::now())[0].served_model, "served-1");
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(text.contains("backstop_model_swaps_total{chain=\"default\",upstream=\"a\"} 2"), "{text}");

    // Whoever knows that it is the same model says so.
    let known = live_of(chain_of(&rungs(json!(["served"])), "100"), Metrics::default());
    let answer = diagnose(&known).await;
    assert_eq!((answer.diagnosis.ceiling, answer.attempts[0].swapped), (Mode::Suggest, true), "served is not served-1");
    let known = live_of(chain_of(&rungs(json!(["served-1"])), "100"), Metrics::default());
    let answer = diagnose(&known).await;
    assert_eq!((answer.diagnosis.ceiling, answer.attempts[0].swapped), (Mode::Approve, false));
    assert!(known.changes().is_empty());
}

/// An answer that ends with its tokens, as that of a model that reasons first.
fn reasons() -> Response {
    Json(json!({
        "id": "r-1", "model": "m", "choices": [{"index": 0, "message": {"content": ""}, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 40, "completion_tokens": 64, "total_tokens": 104},
    }))
    .into_response()
}

#[tokio::test]
async fn a_probe_that_ends_with_its_tokens_was_answered() {
    let (address, _) = serve(reasons).await;
    let live = live(&address);
    assert_eq!(probe::due(&live).await, 1);
    let status = &live.snapshot(clock::now())[0];
    assert_eq!((status.state, status.success_percent), (UpstreamState::Available, Some(100)));
    assert_eq!(status.last_error, "");
    assert_eq!(probe::due(&live).await, 0, "it was just answered");
}

#[tokio::test]
async fn what_was_wrong_about_an_answer_is_on_the_record_and_in_the_log_with_why_and_what_is_left() {
    let deep = format!("{{\"claims\":{}", "[".repeat(100));
    for (text, detail) in [("no", "NotJson"), ("{\"claims\":7}", "NotOfSchema"), (&deep, "TooDeep")] {
        let said = text.to_owned();
        let (address, _) = serve(move || {
            let message = json!({"role": "assistant", "content": said});
            let body = json!({"id": "req-42", "model": "m",
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1010}});
            Json(body).into_response()
        })
        .await;
        let written = Written::default();
        let subscriber = tracing_subscriber::fmt().json().with_writer(written.clone()).finish();
        let logging = tracing::subscriber::set_default(subscriber);
        let answer = diagnose(&live(&address)).await;
        drop(logging);
        let [first, second, _] = &answer.attempts[..] else { panic!("{:?}", answer.attempts) };
        assert_eq!([&first.detail, &second.detail], [detail, detail]);
        assert_eq!([first.because.as_str(), second.because.as_str()], ["", "NotOfSchema"]);
        let lines = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let called: Vec<&Value> =
            lines.iter().map(|line| &line["fields"]).filter(|it| it["message"] == "a model was called").collect();
        let [one, two] = &called[..] else { panic!("{lines:?}") };
        assert_eq!((&one["detail"], &one["because"]), (&json!(detail), &json!("")));
        assert_eq!((&two["outcome"], &two["because"]), (&json!("NotOfSchema"), &json!("NotOfSchema")));
        assert_eq!(one["upstream_request_id"], "req-42");
        assert!(one["budget_left_nano_dollars"].as_i64() > two["budget_left_nano_dollars"].as_i64(), "{one} {two}");
    }
}
