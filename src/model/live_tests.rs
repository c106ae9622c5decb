//! Diagnoses over HTTP against a server with the paths of several upstreams, each of which behaves as the test says.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::post,
};
use serde_json::{Value, json};

use crate::{
    api::v1alpha1::{IncidentKey, Mode, ModelChain, ObjectRef, Time, UpstreamState},
    clock,
    core::{chain::validate, money::NanoDollars, rules::FactBundle},
    model::{
        chain::ChainAnswer,
        credentials::Credentials,
        ledger::{InMemory, SpendLedger},
        live::Live,
        metrics::Metrics,
        model_rung, probe,
        rung::Budget,
        send::Sender,
    },
    settings::ModelNetwork,
};

/// What an upstream answers to its nth request, from 0.
type Behaviour = Arc<dyn Fn(usize, &Value) -> Response + Send + Sync>;

#[derive(Clone, Default)]
struct Upstreams {
    behaviours: Arc<Mutex<BTreeMap<String, Behaviour>>>,
    hits: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Upstreams {
    fn set(&self, name: &str, behaviour: impl Fn(usize, &Value) -> Response + Send + Sync + 'static) {
        self.behaviours.lock().unwrap().insert(name.into(), Arc::new(behaviour));
    }

    fn hits(&self, name: &str) -> usize {
        self.hits.lock().unwrap().get(name).copied().unwrap_or_default()
    }
}

async fn answer(State(upstreams): State<Upstreams>, Path(name): Path<String>, body: Bytes) -> Response {
    let request: Value = serde_json::from_slice(&body).unwrap_or_default();
    let number = {
        let mut hits = upstreams.hits.lock().unwrap();
        let hit = hits.entry(name.clone()).or_default();
        *hit += 1;
        *hit - 1
    };
    let behaviour = upstreams.behaviours.lock().unwrap().get(&name).cloned();
    behaviour.map_or_else(|| StatusCode::NOT_FOUND.into_response(), |behaviour| behaviour(number, &request))
}

/// Starts the server; returns its address.
async fn serve(upstreams: &Upstreams) -> String {
    let router = Router::new().route("/{name}/chat/completions", post(answer)).with_state(upstreams.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn status(code: u16) -> Response {
    (StatusCode::from_u16(code).unwrap(), axum::Json(json!({"error": {"type": "planted"}}))).into_response()
}

fn says(text: &str) -> Response {
    axum::Json(json!({
        "id": "r-1", "object": "chat.completion", "model": "served-1",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100},
    }))
    .into_response()
}

fn diagnosis() -> String {
    json!({
        "claims": [], "confidence": 99, "hypothesis": "it is the moon", "nextSteps": "look up",
        "proposal": {"action": "HandOver", "toRevision": 0}, "rootCause": "Unknown",
        "suspect": {"change": "", "kind": "", "name": "", "revision": 0},
    })
    .to_string()
}

fn upstream(address: &str, name: &str) -> Value {
    json!({
        "name": name, "url": format!("{address}/{name}"), "api": "OpenAiChat", "stream": false, "weight": 100,
        "prices": {"input": "1", "output": "10"},
    })
}

struct Bench {
    live: Arc<Live>,
    upstreams: Upstreams,
    rungs: Vec<String>,
}

/// A chain with these rungs, each of these upstreams; `change` may edit its spec.
async fn bench(rungs: &[&[&str]], change: impl FnOnce(&mut Value)) -> Bench {
    let upstreams = Upstreams::default();
    let address = serve(&upstreams).await;
    let rungs: Vec<Value> = rungs
        .iter()
        .enumerate()
        .map(|(index, names)| {
            let all: Vec<Value> = names.iter().map(|name| upstream(&address, name)).collect();
            json!({"name": format!("rung-{index}"), "model": format!("m-{index}"), "upstreams": all})
        })
        .collect();
    let mut spec = json!({"rungs": rungs, "deadlineSeconds": 20, "budgets": {"requestsPerMinute": 1000}});
    change(&mut spec);
    let mut object = ModelChain::new("default", serde_json::from_value(spec).unwrap());
    object.metadata.generation = Some(1);
    let chain = validate::of(&object).unwrap().chain;
    let (ledger, keeper) = SpendLedger::new(InMemory::default(), "test".into(), Arc::new(clock::now));
    tokio::spawn(keeper);
    let sender = Arc::new(Sender::new(Credentials::new("/nowhere"), &ModelNetwork::default()).unwrap());
    let rungs = chain.rungs.iter().map(|rung| rung.name.clone()).collect();
    Bench { live: Arc::new(Live::new(chain, ledger, sender, Metrics::default())), upstreams, rungs }
}

impl Bench {
    async fn diagnose(&self, incident: &str) -> ChainAnswer {
        let case = FactBundle { target: None, alert_started_at: Time::UNIX_EPOCH, facts: &[] };
        self.diagnose_case(incident, case).await
    }

    async fn diagnose_case(&self, incident: &str, case: FactBundle<'_>) -> ChainAnswer {
        let key = IncidentKey { namespace: "shop".into(), name: incident.into() };
        let chain = model_rung::chain(&self.live, key);
        chain.ask(&self.rungs, case, Budget::new(Duration::from_secs(20), 100_000)).await
    }

    fn spent(&self) -> NanoDollars {
        self.live.spent(clock::now()).diagnoses
    }

    async fn settled(&self) -> NanoDollars {
        self.live.flush().await;
        self.spent()
    }
}

fn seen(answer: &ChainAnswer) -> Vec<(&str, &str, &str)> {
    answer.attempts.iter().map(|it| (it.upstream.as_str(), it.outcome.as_str(), it.then.as_str())).collect()
}

/// 1,000 tokens of the prompt at $1 a million, 100 of the answer at $10.
const COST: NanoDollars = NanoDollars(2_000_000);

#[tokio::test]
async fn the_first_upstream_that_answers_counts_and_every_attempt_is_on_the_record() {
    let bench = bench(&[&["a", "b"]], |spec| spec["rungs"][0]["upstreams"][1]["weight"] = json!(0)).await;
    bench.upstreams.set("a", |_, _| status(503));
    bench.upstreams.set("b", |_, _| says(&diagnosis()));
    let answer = bench.diagnose("i").await;
    assert_eq!(
        seen(&answer),
        [("a", "Upstream", "NextUpstream"), ("b", "Answered", ""), ("", "NoProposal", "")],
        "{:?}",
        answer.attempts
    );
    let [first, second, _] = &answer.attempts[..] else { panic!("three") };
    assert_eq!((first.status, first.rung.as_str(), first.model.as_str()), (Some(503), "rung-0", "m-0"));
    assert_eq!((second.served_model.as_str(), second.tokens), ("served-1", 1100));
    assert_eq!(second.cost_nano_dollars, 2_000_000);
    assert!(second.budget_left_nano_dollars.is_some());
    assert_eq!((answer.diagnosis.diagnoser.as_str(), answer.diagnosis.ceiling), ("rung-0", Mode::Suggest));
    assert_eq!(answer.second_opinion.unwrap().diagnoser, "rules");
}

#[tokio::test]
async fn a_call_that_is_refused_at_the_door_costs_nothing_and_one_that_was_answered_costs_what_it_used() {
    let bench = bench(&[&["a"]], |_| {}).await;
    bench.upstreams.set("a", |_, _| says(&diagnosis()));
    bench.diagnose("i").await;
    assert_eq!(bench.settled().await, COST);
    bench.upstreams.set("a", |_, _| status(400));
    bench.diagnose("i").await;
    assert_eq!(bench.settled().await, COST, "refused at the door, which no provider bills");
    bench.upstreams.set("a", |number, _| if number == 2 { says("") } else { status(400) });
    let answer = bench.diagnose("j").await;
    assert!(bench.settled().await > COST, "{:?}", answer.attempts);
}

#[tokio::test]
async fn what_is_not_of_the_schema_is_asked_once_more_with_the_error() {
    let bench = bench(&[&["a"]], |_| {}).await;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = asked.clone();
    bench.upstreams.set("a", move |number, request| {
        heard.lock().unwrap().push(request.to_string());
        if number == 0 { says("{\"claims\": 7}") } else { says(&diagnosis()) }
    });
    let answer = bench.diagnose("i").await;
    assert_eq!(seen(&answer)[..2], [("a", "NotOfSchema", "AskedDifferently"), ("a", "Answered", "")]);
    let asked = asked.lock().unwrap();
    assert!(!asked[0].contains("refused and is not kept") && asked[1].contains("refused and is not kept"));
}

#[tokio::test]
async fn who_is_asked_again_after_another_upstream_failed_is_the_next_one_on_the_record() {
    let bench = bench(&[&["a", "b"]], |spec| spec["rungs"][0]["upstreams"][1]["weight"] = json!(0)).await;
    bench.upstreams.set("a", |number, _| if number == 0 { status(500) } else { says(&diagnosis()) });
    bench.upstreams.set("b", |_, _| (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "90")]).into_response());
    let answer = bench.diagnose("i").await;
    assert_eq!(
        seen(&answer)[..3],
        [("a", "Upstream", "NextUpstream"), ("b", "RateLimited", "NextUpstream"), ("a", "Answered", "")]
    );
}

#[tokio::test]
async fn what_never_answers_as_asked_leaves_it_to_the_next_rung_and_then_to_the_rules() {
    let bench = bench(&[&["a"], &["b"]], |_| {}).await;
    bench.upstreams.set("a", |_, _| says("<html>no</html>"));
    bench.upstreams.set("b", |_, _| says("I would rather not"));
    let answer = bench.diagnose("i").await;
    assert_eq!((bench.upstreams.hits("a"), bench.upstreams.hits("b")), (2, 2), "{:?}", seen(&answer));
    assert_eq!(answer.diagnosis.diagnoser, "rules");
    assert!(answer.second_opinion.is_none());
}

#[tokio::test]
async fn a_caller_error_stops_every_model_after_one_hit_and_refused_credentials_quarantine_their_upstream() {
    let bench = bench(&[&["a"], &["b"]], |_| {}).await;
    bench.upstreams.set("b", |_, _| says(&diagnosis()));
    bench.upstreams.set("a", |_, _| status(422));
    let answer = bench.diagnose("i").await;
    assert_eq!(seen(&answer)[0], ("a", "CallerError", "Stopped"));
    assert_eq!((bench.upstreams.hits("a"), bench.upstreams.hits("b")), (1, 0));
    assert_eq!(answer.diagnosis.diagnoser, "rules");

    bench.upstreams.set("a", |_, _| status(401));
    assert_eq!(seen(&bench.diagnose("i").await)[0], ("a", "CredentialsRefused", "Stopped"));
    let snapshot = bench.live.snapshot(clock::now());
    assert_eq!(snapshot[0].state, UpstreamState::Quarantined);
    let next = bench.diagnose("i").await;
    assert_eq!(bench.upstreams.hits("a"), 2, "not asked while its key is refused");
    assert_eq!(next.diagnosis.diagnoser, "rung-1");
}

#[tokio::test]
async fn what_the_budget_does_not_allow_is_not_sent_and_a_rung_that_costs_nothing_is_asked() {
    let bench = bench(&[&["a"], &["own"]], |spec| {
        spec["budgets"]["perIncident"] = json!("0.021");
        spec["rungs"][1]["upstreams"][0]["prices"] = json!({"input": "0", "output": "0"});
    });
    let bench = bench.await;
    bench.upstreams.set("a", |_, _| says(&diagnosis()));
    bench.upstreams.set("own", |_, _| says(&diagnosis()));
    let answer = bench.diagnose("i").await;
    assert_eq!(bench.upstreams.hits("a"), 0);
    assert_eq!(answer.attempts[0].outcome, "IncidentBudget");
    assert_eq!(answer.diagnosis.diagnoser, "rung-1");
    assert_eq!(bench.settled().await, NanoDollars(0));
}

#[tokio::test]
async fn a_namespace_that_asks_too_often_gets_the_rules_and_costs_the_others_nothing() {
    let bench = bench(&[&["a"]], |spec| spec["budgets"]["requestsPerMinute"] = json!(2)).await;
    bench.upstreams.set("a", |_, _| says(&diagnosis()));
    for _ in 0..2 {
        assert_eq!(bench.diagnose("i").await.diagnosis.diagnoser, "rung-0");
    }
    let third = bench.diagnose("i").await;
    assert_eq!((third.attempts[0].outcome.as_str(), bench.upstreams.hits("a")), ("TooManyRequests", 2));
    let other = model_rung::chain(&bench.live, IncidentKey { namespace: "other".into(), name: "i".into() });
    let case = FactBundle { target: None, alert_started_at: Time::UNIX_EPOCH, facts: &[] };
    let answer = other.ask(&bench.rungs, case, Budget::new(Duration::from_secs(20), 1000)).await;
    assert_eq!(answer.diagnosis.diagnoser, "rung-0");
}

#[tokio::test]
async fn a_diagnosis_ends_with_the_time_that_it_has_whatever_the_upstreams_do() {
    let bench = bench(&[&["a", "b"]], |_| {}).await;
    let address = {
        // Accepts and says nothing.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let mut kept = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                kept.push(stream);
            }
        });
        format!("http://{address}")
    };
    let mut chain = (*bench.live.chain()).clone();
    chain.generation = 2;
    chain.rungs[0].upstreams.iter_mut().for_each(|upstream| upstream.url.clone_from(&address));
    bench.live.follow(chain);
    let key = IncidentKey { namespace: "shop".into(), name: "i".into() };
    let chain = model_rung::chain(&bench.live, key);
    let case = FactBundle { target: None, alert_started_at: Time::UNIX_EPOCH, facts: &[] };
    let began = std::time::Instant::now();
    let answer = chain.ask(&bench.rungs, case, Budget::new(Duration::from_secs(3), 1000)).await;
    assert_eq!(answer.diagnosis.diagnoser, "rules");
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert!(answer.attempts.iter().any(|it| it.outcome == "Timeout"), "{:?}", answer.attempts);
}

#[tokio::test]
async fn a_reviewer_is_not_asked_where_nothing_is_proposed() {
    let bench = bench(&[&["a"], &["b"]], |spec| spec["reviewer"] = json!("rung-1")).await;
    bench.upstreams.set("a", |_, _| says(&diagnosis()));
    bench.upstreams.set("b", |_, _| says(&json!({"objects": true, "reason": "f1 says otherwise"}).to_string()));
    assert!(bench.diagnose("i").await.review.is_none());
    assert_eq!(bench.upstreams.hits("b"), 0);
}

#[tokio::test]
async fn an_objection_is_on_the_record_beside_the_proposal_that_it_is_about() {
    let bench = bench(&[&["a"], &["b"]], |spec| spec["reviewer"] = json!("rung-1")).await;
    let target = ObjectRef {
        api_version: "apps/v1".into(),
        kind: "Deployment".into(),
        namespace: "shop".into(),
        name: "catalog".into(),
        uid: "u-1".into(),
    };
    let case = FactBundle { target: Some(&target), alert_started_at: Time::UNIX_EPOCH, facts: &[] };
    let proposes = {
        let mut answer: Value = serde_json::from_str(&diagnosis()).unwrap();
        answer["proposal"] = json!({"action": "RolloutUndo", "toRevision": 1});
        answer.to_string()
    };
    bench.upstreams.set("a", move |_, _| says(&proposes));
    let shown = Arc::new(Mutex::new(String::new()));
    let heard = shown.clone();
    bench.upstreams.set("b", move |_, request| {
        *heard.lock().unwrap() = request.to_string();
        says(&json!({"because": "f1 says otherwise", "objects": true}).to_string())
    });
    let answer = bench.diagnose_case("i", case).await;
    let review = answer.review.as_ref().unwrap();
    assert_eq!((review.rung.as_str(), review.objects, review.reason.as_str()), ("rung-1", true, "f1 says otherwise"));
    assert_eq!(answer.diagnosis.diagnoser, "rung-0", "an objection answers nothing itself");
    assert_eq!(answer.diagnosis.proposal.as_ref().unwrap().target, target);
    assert_eq!(seen(&answer)[..2], [("a", "Answered", ""), ("b", "Answered", "")]);
    assert!(shown.lock().unwrap().contains("RolloutUndo"), "the reviewer sees what is proposed");
    assert_eq!(bench.settled().await, NanoDollars(2 * COST.0));

    // A reviewer that cannot be had objects to nothing, and that is on the record too.
    bench.upstreams.set("b", |_, _| status(503));
    let answer = bench.diagnose_case("j", case).await;
    assert!(answer.review.is_none());
    assert!(seen(&answer).iter().any(|(upstream, outcome, _)| (*upstream, *outcome) == ("b", "Upstream")));
}

#[tokio::test]
async fn what_an_upstream_began_and_did_not_finish_stays_charged_in_full() {
    let bench = bench(&[&["a", "b"]], |spec| spec["rungs"][0]["upstreams"][1]["weight"] = json!(0)).await;
    bench.upstreams.set("a", |_, _| status(503));
    bench.upstreams.set("b", |_, _| says(&diagnosis()));
    let answer = bench.diagnose("i").await;
    let costs: Vec<i64> = answer.attempts.iter().map(|attempt| attempt.cost_nano_dollars).collect();
    let [failed, answered, _] = costs[..] else { panic!("{:?}", answer.attempts) };
    assert_eq!(answered.unsigned_abs(), COST.0);
    // The longest answer alone, 2,048 tokens at $10 a million, and the prompt.
    let longest = 2048 * 10_000;
    assert!(failed > longest, "{failed}");
    assert_eq!(bench.settled().await, NanoDollars((failed + answered).unsigned_abs()));
    assert_eq!(answer.spent.nano_dollars, failed + answered);
}

#[tokio::test]
async fn upstreams_that_nobody_asked_are_probed_once_cheaply_and_from_a_budget_of_their_own() {
    let bench = bench(&[&["a", "b"]], |_| {}).await;
    bench.upstreams.set("a", |_, _| says("{\"ok\": true}"));
    bench.upstreams.set("b", |_, _| status(500));
    assert_eq!(probe::due(&bench.live).await, 2);
    assert_eq!(probe::due(&bench.live).await, 0, "not again within the interval");
    assert_eq!((bench.upstreams.hits("a"), bench.upstreams.hits("b")), (1, 1));
    let states: Vec<UpstreamState> = bench.live.snapshot(clock::now()).iter().map(|it| it.state).collect();
    assert_eq!(states[0], UpstreamState::Available);
    bench.live.flush().await;
    let spent = bench.live.spent(clock::now());
    assert_eq!(spent.diagnoses, NanoDollars(0));
    assert!(spent.probes > NanoDollars(0));
}

/// Upstreams fail at random, two at once, all at once.
#[tokio::test]
async fn in_chaos_no_diagnosis_is_lost_no_budget_passed_and_no_deadline_overrun() {
    let count = if option_env!("BACKSTOP_FULL_CHAOS").is_some() { 1000 } else { 100 };
    let bench = Arc::new(
        bench(&[&["a", "b"], &["c"]], |spec| {
            spec["budgets"] = json!({"perDay": "0.5", "perNamespacePerDay": "0.5", "requestsPerMinute": 1000});
            spec["deadlineSeconds"] = json!(5);
        })
        .await,
    );
    let turn = Arc::new(AtomicUsize::new(0));
    for name in ["a", "b", "c"] {
        let turn = turn.clone();
        bench.upstreams.set(name, move |_, _| {
            // Some stretches fail at random, some here or there, some everywhere. The first is not of the last: breakers would
            // be open for the rest of the test.
            let at = turn.fetch_add(1, Ordering::Relaxed) / 20;
            let fails = match at % 4 {
                0 => rand::random::<f64>() < 0.4,
                1 => name == "a",
                2 => name != "c",
                _ => true,
            };
            match (fails, rand::random::<u8>() % 5) {
                (false, _) => says(&diagnosis()),
                (true, 0) => status(429),
                (true, 1) => status(529),
                (true, 2) => says("<html>"),
                (true, _) => status(500),
            }
        });
    }
    let began = std::time::Instant::now();
    let most = Duration::from_secs(5);
    let mut tasks = tokio::task::JoinSet::new();
    let mut overruns = 0;
    let mut by: BTreeMap<String, usize> = BTreeMap::new();
    let cap = NanoDollars(500_000_000);
    for number in 0..count {
        let own = bench.clone();
        tasks.spawn(async move {
            let began = std::time::Instant::now();
            let key = IncidentKey { namespace: "shop".into(), name: format!("i-{number}") };
            let chain = model_rung::chain(&own.live, key);
            let case = FactBundle { target: None, alert_started_at: Time::UNIX_EPOCH, facts: &[] };
            let answer = chain.ask(&own.rungs, case, Budget::new(most, 100_000)).await;
            (answer, began.elapsed())
        });
        if tasks.len() >= 20 {
            let (answer, took) = tasks.join_next().await.unwrap().unwrap();
            note(&answer, &mut by);
            overruns += usize::from(took > most + most / 50);
            assert!(bench.spent() <= cap, "{} of {cap}", bench.spent());
        }
    }
    while let Some(done) = tasks.join_next().await {
        let (answer, took) = done.unwrap();
        note(&answer, &mut by);
        overruns += usize::from(took > most + most / 50);
    }
    let spent = bench.settled().await;
    println!("{count} diagnoses in {:?}: {by:?}, spent {spent} of {cap}, {overruns} overruns", began.elapsed());
    assert_eq!(by.values().sum::<usize>(), count, "none is lost");
    assert!(by.len() > 1, "models answered, too: {by:?}");
    assert!(spent <= cap);
    assert_eq!(overruns, 0);
}

/// The rung that answered is the one that the record says.
fn note(answer: &ChainAnswer, by: &mut BTreeMap<String, usize>) {
    *by.entry(answer.diagnosis.diagnoser.clone()).or_default() += 1;
    let answered = answer.attempts.iter().find(|attempt| attempt.outcome == "Answered");
    let rung = answered.map_or("rules", |attempt| attempt.rung.as_str());
    assert_eq!(rung, answer.diagnosis.diagnoser, "{:?}", answer.attempts);
    let calls = answer.attempts.iter().filter(|attempt| attempt.is_call()).count();
    assert!(calls <= 5, "{:?}", answer.attempts);
}
