//! Many Investigations at once, with models that do not answer.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time as Made;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::run::run;
use super::status::Written;
use super::tests::{investigate, investigation, investigator};
use crate::api::v1alpha1::{IncidentKey, Investigation, ModelChain, ModelChainRef, Time};
use crate::clock;
use crate::cluster::testing::{Asked, Reply, client, failure};
use crate::core::rules::FactBundle;
use crate::model::rung::Budget;

/// A server that takes connections and says nothing; its address, and how many it took.
async fn silent() -> (String, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let taken = Arc::new(AtomicUsize::new(0));
    let count = taken.clone();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            kept.push(stream);
        }
    });
    (address, taken)
}

/// A chain whose one upstream is at that address and costs nothing.
fn chain(address: &str, generation: i64) -> ModelChain {
    let upstream = json!({"name": "own", "url": address, "api": "OpenAiChat", "stream": false,
        "prices": {"input": "0", "output": "0"}});
    let spec = json!({"rungs": [{"name": "big", "model": "big-1", "upstreams": [upstream]}],
        "deadlineSeconds": 30, "budgets": {"requestsPerMinute": 1000}});
    let mut chain = ModelChain::new("default", serde_json::from_value(spec).unwrap());
    chain.metadata.generation = Some(generation);
    chain
}

fn of(namespace: &str, name: &str, asks: bool) -> Investigation {
    let mut one = investigation();
    one.metadata.namespace = Some(namespace.into());
    one.metadata.name = Some(name.into());
    one.metadata.uid = Some(format!("{namespace}-{name}"));
    one.spec.sources.clear();
    if asks {
        one.spec.chain = vec!["big".into(), "rules".into()];
        one.spec.model_chain = Some(ModelChainRef { name: "default".into(), generation: 1 });
    }
    one
}

#[tokio::test]
async fn one_whose_models_hang_keeps_no_run_of_another_waiting_and_does_not_take_all_models() {
    let (address, taken) = silent().await;
    let many: Vec<Value> = (0..30).map(|n| json!(of("a", &format!("i{n}"), true))).collect();
    let later = json!({"type": "ADDED", "object": of("b", "i", false)});
    let completed: Arc<Mutex<Vec<String>>> = Arc::default();
    let (seen, told) = (completed.clone(), AtomicUsize::new(0));
    let (client, _) = client(move |asked: &Asked| match (asked.method.as_str(), asked.path.as_str()) {
        ("GET", "/apis/backstop.dev/v1alpha1/investigations") if !asked.query.contains("watch=true") => {
            Reply::Json(200, json!({"metadata": {"resourceVersion": "1"}, "items": many}))
        }
        // After the list, so that it is seen when the others have begun.
        ("GET", "/apis/backstop.dev/v1alpha1/investigations") if told.fetch_add(1, Ordering::SeqCst) == 0 => {
            Reply::Json(200, later.clone())
        }
        ("GET", "/apis/backstop.dev/v1alpha1/investigations") => Reply::Never,
        ("PATCH", path) if path.ends_with("/status") => {
            let mut written = json!(of("a", "i0", true));
            written["metadata"]["resourceVersion"] = json!("2");
            written["status"] = asked.body["status"].clone();
            if asked.body["status"]["phase"] == "Complete" {
                seen.lock().unwrap().push(path.to_owned());
            }
            Reply::Json(200, written)
        }
        _ => failure(404, "NotFound"),
    });
    let investigator = Arc::new(investigator(client));
    investigator.models.follow(chain(&address, 1));
    let (ready, _keep) = watch::channel(Ok(()));
    let running = tokio::spawn(run(investigator, ready, std::future::pending()));
    let is_done = || completed.lock().unwrap().iter().any(|path| path.contains("/namespaces/b/"));
    let began = std::time::Instant::now();
    while !is_done() && began.elapsed() < Duration::from_secs(10) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(is_done() && began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    tokio::time::sleep(Duration::from_millis(500)).await;
    let asking = taken.load(Ordering::SeqCst);
    assert!((1..=9).contains(&asking), "{asking} of 12 places are those of one namespace");
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn whoever_gets_no_place_to_ask_models_is_answered_by_the_rules_while_the_facts_can_be_acted_upon() {
    let completed: Arc<Mutex<Value>> = Arc::default();
    let seen = completed.clone();
    let (client, _) = client(move |asked: &Asked| match asked.method.as_str() {
        "PATCH" => {
            *seen.lock().unwrap() = asked.body["status"].clone();
            let mut written = json!(of("c", "i", true));
            written["status"] = asked.body["status"].clone();
            Reply::Json(200, written)
        }
        _ => failure(404, "NotFound"),
    });
    let investigator = investigator(client);
    investigator.models.follow(chain("http://127.0.0.1:1", 1));
    // Models of two other tenants hang, and theirs may take as long as a chain allows.
    let asking = &investigator.room.asking;
    let held: Vec<_> = ["a", "b"].iter().flat_map(|it| std::iter::from_fn(|| asking.take(it, false))).collect();
    assert_eq!(held.len(), 12);
    let mut waits = of("c", "i", true);
    waits.spec.deadline_seconds = 260;
    let began = tokio::time::Instant::now();
    assert_eq!(investigate(&investigator, &waits).await.unwrap(), Written::Done(()));
    assert!((9..=11).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    let status = completed.lock().unwrap().clone();
    assert_eq!(status["diagnosis"]["diagnoser"], "rules");
    assert_eq!((&status["attempts"][0]["rung"], &status["attempts"][0]["outcome"]), (&json!("big"), &json!("Busy")));
}

#[tokio::test]
async fn an_investigation_that_is_run_too_late_is_answered_by_the_rules_and_asks_no_model() {
    let (address, taken) = silent().await;
    let completed: Arc<Mutex<Value>> = Arc::default();
    let seen = completed.clone();
    let (client, _) = client(move |asked: &Asked| match asked.method.as_str() {
        "PATCH" => {
            *seen.lock().unwrap() = asked.body["status"].clone();
            let mut written = json!(of("a", "i", true));
            written["status"] = asked.body["status"].clone();
            Reply::Json(200, written)
        }
        _ => failure(404, "NotFound"),
    });
    let investigator = investigator(client);
    investigator.models.follow(chain(&address, 1));
    let mut late = of("a", "i", true);
    // Its deadline is 30 s, and what is written 5 s after it is still of use.
    let made = clock::now().checked_sub(SignedDuration::from_secs(36)).unwrap();
    late.metadata.creation_timestamp = Some(Made(made));
    assert_eq!(investigate(&investigator, &late).await.unwrap(), Written::Done(()));
    let status = completed.lock().unwrap().clone();
    assert_eq!(status["diagnosis"]["diagnoser"], "rules");
    assert_eq!((&status["attempts"][0]["rung"], &status["attempts"][0]["outcome"]), (&json!("big"), &json!("Late")));
    assert!(status["attempts"][0]["message"].as_str().unwrap().contains("older than its deadline"));
    assert_eq!(taken.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn what_is_asked_is_what_the_plan_shows() {
    let (address, taken) = silent().await;
    let (client, _) = client(|_| failure(404, "NotFound"));
    let investigator = investigator(client);
    let key = || IncidentKey { namespace: "a".into(), name: "i".into() };
    let planned = |generation| ModelChainRef { name: "default".into(), generation };
    let case = FactBundle { target: None, alert_started_at: Time::UNIX_EPOCH, facts: &[] };
    let budget = Budget::new(Duration::from_millis(600), 1000);
    investigator.models.follow(chain(&address, 2));
    // The chain changed after the plan was made, and the watch has not shown what the plan knows.
    for (generation, sentence) in [(1, "generation 1 of ModelChain default, which has"), (3, "generation 3 of")] {
        let (asked, most) = investigator.models.chain(&planned(generation), key()).await;
        let answer = asked.ask(&["big".into()], case, budget).await;
        let first = &answer.attempts[0];
        assert_eq!((first.rung.as_str(), first.outcome.as_str(), most), ("big", "NotConfigured", None));
        assert!(first.message.contains(sentence), "{}", first.message);
        assert_eq!(taken.load(Ordering::SeqCst), 0);
    }
    // The watch catches up in a moment.
    let later = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        investigator.models.follow(chain(&address, 3));
    };
    let three = planned(3);
    let ((asked, most), ()) = tokio::join!(investigator.models.chain(&three, key()), later);
    assert!(most.is_some());
    asked.ask(&["big".into()], case, budget).await;
    assert_eq!(taken.load(Ordering::SeqCst), 1);
}
