//! Nothing hinders that people are told: not threads that hang, and not an incident that has ended.

use std::sync::{Arc, Mutex};

use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::tests::context;
use super::{deciding, effects, incidents, notices, retention, watchdog};
use crate::api::v1alpha1::{Delivery, Incident, IncidentPhase, Severity};
use crate::clock;
use crate::cluster::testing::{Asked, Reply, failure, list};
use crate::core::{
    incident::{Effect, Notice},
    reason::Reason,
    watchdog::{HandedOver, Key, Stuck, Why},
};

fn incident(status: Value) -> Incident {
    serde_json::from_value(json!({
        "apiVersion": "backstop.dev/v1alpha1", "kind": "Incident",
        "metadata": {"name": "api-1", "namespace": "shop", "uid": "u", "resourceVersion": "7", "generation": 1},
        "spec": {"alerts": [], "requestId": "r", "openedAt": "2026-01-01T00:00:00Z",
            "target": {"apiVersion": "apps/v1", "kind": "Deployment", "namespace": "shop", "name": "api", "uid": "t"}},
        "status": status,
    }))
    .unwrap()
}

/// One that was handed over, and of which nobody has heard.
fn untold() -> Incident {
    incident(json!({"phase": "Escalated", "reason": "ChecksUnanswered", "message": "the checks gave no answer",
        "times": {"ended": clock::now()}, "escalation": {"reason": "ChecksUnanswered", "nextStep": "look"}}))
}

/// An API server that keeps one Incident and one Ledger.
fn server(kept: &Arc<Mutex<Incident>>, ledger: Value) -> impl Fn(&Asked) -> Reply + Send + Sync + use<> {
    let (kept, ledger) = (kept.clone(), Mutex::new(ledger));
    move |asked| match asked.method.as_str() {
        "GET" if asked.path.contains("/incidents/") => {
            Reply::Json(200, serde_json::to_value(&*kept.lock().unwrap()).unwrap())
        }
        "PUT" if asked.path.contains("/incidents/") => {
            *kept.lock().unwrap() = serde_json::from_value(asked.body.clone()).unwrap();
            Reply::Json(200, asked.body.clone())
        }
        "GET" if asked.path.contains("/ledgers/") => Reply::Json(200, ledger.lock().unwrap().clone()),
        "PUT" if asked.path.contains("/ledgers/") => {
            *ledger.lock().unwrap() = asked.body.clone();
            Reply::Json(200, asked.body.clone())
        }
        _ => failure(404, "NotFound"),
    }
}

/// With so many anomalies of other incidents of the namespace.
fn ledger(anomalies: usize) -> Value {
    let of =
        |number| json!({"at": clock::now(), "kind": "ClaimUngrounded", "incident": format!("shop/other-{number}")});
    json!({"apiVersion": "backstop.dev/v1alpha1", "kind": "Ledger",
        "metadata": {"name": "actions", "namespace": "backstop-system", "resourceVersion": "1"},
        "spec": {"purpose": "Actions"},
        "status": {"breaker": {"state": "Closed"}, "anomalies": (0..anomalies).map(of).collect::<Vec<_>>()}})
}

fn events(log: &Arc<Mutex<Vec<Asked>>>, reason: &str) -> Vec<Value> {
    let log = log.lock().unwrap();
    let all = log.iter().filter(|asked| asked.path.contains("/events.k8s.io/")).map(|asked| asked.body.clone());
    all.filter(|event| event["reason"] == reason).collect()
}

#[tokio::test]
async fn people_are_told_although_every_thread_that_decides_hangs() {
    let kept = Arc::new(Mutex::new(untold()));
    let (ctx, log, _folder) = context(vec![], server(&kept, ledger(0)));
    let ctx = Arc::new(ctx);
    let hanging = ctx.deciding.exhausted().await;
    incidents::reconcile(Arc::new(untold()), ctx.clone()).await.expect("nothing has to be decided");
    assert!(!events(&log, "ChecksUnanswered").is_empty());
    let status = kept.lock().unwrap().status.clone().unwrap();
    assert!(status.escalation.unwrap().deliveries.iter().all(|delivery| delivery.delivered));
    let busy = ctx.deciding.answer("shop", "api-1", || ()).await;
    assert_eq!(busy, Err(deciding::Unanswered::Busy), "they hang all the while");
    drop(hanging);
}

fn stuck() -> Stuck {
    let key = Key { kind: "Incident", namespace: "shop".into(), name: "api-1".into() };
    let why = Why::NoStepEnds { lasting: jiff::SignedDuration::from_mins(5), error: Some("no answer".into()) };
    Stuck { key, why, told: 0 }
}

#[tokio::test]
async fn the_watchdog_tells_what_an_incident_that_has_ended_has_to_tell_once_and_changes_nothing_of_it() {
    let ended = untold();
    let kept = Arc::new(Mutex::new(ended.clone()));
    let (ctx, log, _folder) = context(vec![ended.clone()], server(&kept, ledger(0)));
    assert_eq!(watchdog::hand_over(&ctx, &stuck()).await, HandedOver::Told);
    let told = events(&log, "ChecksUnanswered").len();
    assert!(told > 0, "it is told why it had ended");
    assert_eq!(watchdog::hand_over(&ctx, &stuck()).await, HandedOver::Told);
    assert_eq!(events(&log, "ChecksUnanswered").len(), told, "nobody is told twice");
    assert_eq!(*kept.lock().unwrap(), ended);

    // Nothing can be read: what the cache has of it is told.
    let (ctx, log, _folder) = context(vec![untold()], |_| failure(500, "Unavailable"));
    assert_eq!(watchdog::hand_over(&ctx, &stuck()).await, HandedOver::Told);
    assert!(!events(&log, "ChecksUnanswered").is_empty());
}

#[tokio::test]
async fn the_watchdog_hands_over_a_recovered_target_that_it_cannot_watch() {
    let watched = incident(json!({"phase": "Resolved", "reason": "Recovered", "times": {"ended": clock::now()},
        "watch": {"since": "2026-01-01T00:00:00Z"}}));
    let kept = Arc::new(Mutex::new(watched.clone()));
    let (ctx, log, _folder) = context(vec![watched], server(&kept, ledger(0)));
    assert_eq!(watchdog::hand_over(&ctx, &stuck()).await, HandedOver::Stored);
    let status = kept.lock().unwrap().status.clone().unwrap();
    assert_eq!((status.phase, status.reason.as_str()), (IncidentPhase::Escalated, Reason::NoProgress.as_str()));
    assert!(status.watch.unwrap().over.is_some() && !events(&log, "NoProgress").is_empty());
}

/// Takes `count` steps, five seconds apart; how many of them ended well.
async fn steps(ctx: &super::context::Shared, cached: &Incident, count: i64) -> usize {
    let key = super::progress::key("Incident", cached);
    let mut well = 0;
    for number in 0..count {
        match incidents::reconcile(Arc::new(cached.clone()), ctx.clone()).await {
            Ok(_) => well += 1,
            Err(error) => {
                let then = clock::now() - jiff::SignedDuration::from_secs(5 * (count - number));
                ctx.progress.failed(key.clone(), error.failure(), &error.to_string(), then);
            }
        }
    }
    well
}

#[tokio::test]
async fn a_recovered_target_of_which_reads_are_refused_is_handed_over() {
    let watched = incident(json!({"phase": "Resolved", "reason": "Recovered", "times": {"ended": clock::now()},
        "remediation": "api-1-repair", "watch": {"since": clock::now()}}));
    let kept = Arc::new(Mutex::new(watched.clone()));
    let serve = server(&kept, ledger(0));
    let (ctx, log, _folder) = context(vec![], move |asked| match asked.path.contains("/remediations/") {
        true => failure(403, "Forbidden"),
        false => serve(asked),
    });
    let ctx = Arc::new(ctx);
    steps(&ctx, &watched, 8).await;
    let status = kept.lock().unwrap().status.clone().unwrap();
    assert_eq!((status.phase, status.reason.as_str()), (IncidentPhase::Escalated, Reason::RequestRefused.as_str()));
    assert!(status.watch.unwrap().over.is_some() && !events(&log, "RequestRefused").is_empty());
}

#[tokio::test]
async fn what_an_ended_incident_cannot_tell_because_reads_are_refused_is_no_step_that_ended_well() {
    let notice = json!({"notice": "BreakerOpened", "nextAttempt": "2026-01-01T00:00:00Z"});
    let ended = incident(json!({"phase": "Resolved", "reason": "NothingWrong", "observedGeneration": 1,
        "times": {"ended": clock::now()}, "notices": [notice]}));
    let kept = Arc::new(Mutex::new(ended.clone()));
    let serve = server(&kept, ledger(0));
    let (ctx, _log, _folder) = context(vec![], move |asked| match asked.path.contains("/ledgers/") {
        true => failure(403, "Forbidden"),
        false => serve(asked),
    });
    let ctx = Arc::new(ctx);
    assert_eq!(steps(&ctx, &ended, 12).await, 0);
    let key = super::progress::key("Incident", &ended);
    let seen = ctx.progress.steps(&key);
    assert!(seen.ended_well.is_none() && seen.error.is_some(), "the watchdog takes it for alive: {seen:?}");
    assert_eq!(*kept.lock().unwrap(), ended);
}

#[tokio::test]
async fn an_incident_that_nobody_has_heard_of_is_kept_and_one_page_counts_those_that_are_too_many() {
    let ended = |number: i64, arrived: bool| {
        let mut one = untold();
        one.metadata.name = Some(format!("api-{number}"));
        let status = one.status.as_mut().unwrap();
        status.times.ended = Some(crate::api::v1alpha1::Time::from_second(1_700_000_000 + number).unwrap());
        let delivery = Delivery { channel: "event".into(), delivered: arrived, ..Delivery::default() };
        status.escalation.as_mut().unwrap().deliveries = vec![delivery];
        one
    };
    let mut all: Vec<Incident> = (1..=6).map(|number| ended(number, false)).collect();
    all.push(ended(9, true));
    all[0].spec.severity = Severity::Critical;
    let (mut ctx, log, _folder) = context(all, |asked| match asked.method.as_str() {
        "GET" => list(&[]),
        _ => Reply::Json(200, json!({"kind": "Status", "status": "Success"})),
    });
    ctx.settings.retention.per_namespace = 1;
    let ctx = Arc::new(ctx);
    let mut left = retention::AllUntold::new();
    retention::delete_expired(&ctx, &mut left).await.unwrap();
    let deleted: Vec<String> = (log.lock().unwrap().iter().filter(|asked| asked.method == "DELETE"))
        .map(|asked| asked.path.rsplit('/').next().unwrap().to_owned())
        .collect();
    assert_eq!(deleted, ["api-9", "api-2", "api-1"], "what was told is years old; of the others four times one stay");
    let pages = events(&log, "TooManyUntold");
    let note = pages[0]["note"].as_str().unwrap();
    assert!(note.contains("2 ended incidents of namespace shop") && note.contains("api-2"), "{note}");
    assert_eq!((pages.len(), ctx.metrics.deleted_untold.get(), left.len()), (1, 2, 0));
}

fn open(ctx: &super::Context, scope: &'static str) -> i64 {
    ctx.metrics.breakers.get_or_create(&super::metrics::Scope { scope }).get()
}

#[tokio::test]
async fn a_breaker_that_opens_is_an_event_a_gauge_and_a_page_for_whoever_opened_it() {
    let resolved = incident(json!({"phase": "Resolved", "reason": "NothingWrong", "message": "it is well"}));
    let kept = Arc::new(Mutex::new(resolved.clone()));
    let (ctx, log, _folder) = context(vec![], server(&kept, ledger(3)));
    let count = async |ctx: &super::Context, incident: &Incident| {
        effects::perform(ctx, incident, &[Effect::CountAnomaly(Reason::ClaimUngrounded)], clock::now()).await.unwrap();
    };
    let mut other = resolved.clone();
    other.metadata.name = Some("web-1".into());
    count(&ctx, &other).await;
    assert!(events(&log, "BreakerOpened").is_empty());
    let told = notices::deliver(&ctx, &other, Notice::BreakerOpened, vec![]).await.unwrap();
    assert_eq!((told, open(&ctx, "namespace")), (None, 0), "nothing has opened");

    count(&ctx, &resolved).await;
    let opened = events(&log, "BreakerOpened");
    assert_eq!((opened.len(), opened[0]["type"].as_str()), (1, Some("Warning")));
    assert_eq!(opened[0]["regarding"]["name"], resolved.name_any());
    assert_eq!((open(&ctx, "namespace"), open(&ctx, "cluster")), (1, 0));
    count(&ctx, &resolved).await;
    assert_eq!(events(&log, "BreakerOpened").len(), 1, "it may be counted again");

    let told = notices::deliver(&ctx, &resolved, Notice::BreakerOpened, vec![]).await.unwrap();
    assert!(told.expect("somebody is told").arrived());
    let page = events(&log, "BreakerOpen");
    assert!(page[0]["note"].as_str().unwrap().contains("ClaimUngrounded of Incident shop/other-0"), "{page:?}");
    assert!(notices::deliver(&ctx, &other, Notice::BreakerOpened, vec![]).await.unwrap().is_none(), "not by another");
}
