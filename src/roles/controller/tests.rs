//! The thin parts against an API server that is a function: what is asked, and what comes of its answers.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use kube::runtime::{
    reflector::{self, Store},
    watcher::Event,
};
use serde_json::{Value, json};

use super::context::{Context, Error, Grouping};
use super::{
    alerts, caches, compiled, effects, gather, incidents, known_good,
    metrics::Metrics,
    notices,
    progress::{self, Progress},
    retention, watchdog,
};
use crate::api::v1alpha1::{ActionKind, Alert, Incident, IncidentPhase, ObjectRef};
use crate::cluster::{
    Leading,
    testing::{Asked, Reply, client, failure, list},
};
use crate::core::{
    grouping,
    incident::{Effect, Notice, Terms},
    reason::Reason,
    watchdog::{HandedOver, Key, Stuck, Why},
};
use crate::notify::Notifier;
use crate::settings::Settings;
use crate::{audit, clock};

type Log = Arc<Mutex<Vec<Asked>>>;

fn store<K>(objects: Vec<K>) -> Store<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + 'static,
{
    let (reader, mut writer) = reflector::store();
    writer.apply_watcher_event(&Event::Init);
    for object in objects {
        writer.apply_watcher_event(&Event::InitApply(object));
    }
    writer.apply_watcher_event(&Event::InitDone);
    reader
}

pub(super) fn context(
    cached: Vec<Incident>,
    answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
) -> (Context, Log, tempfile::TempDir) {
    let (client, log) = client(move |asked| match asked.path.contains("/events.k8s.io/") {
        true => Reply::Json(201, asked.body.clone()),
        false => answer(asked),
    });
    let folder = tempfile::tempdir().unwrap();
    let mut registry = crate::serve::registry("controller");
    let settings = Settings::default();
    let context = Context {
        notifier: Notifier::new(&client, "pod", &settings, &mut registry).unwrap(),
        metrics: Metrics::register(&mut registry),
        terms: Terms { system: "backstop-system".into(), ..Terms::default() },
        system: "backstop-system".into(),
        audit: audit::open(folder.path(), audit::Metrics::default()),
        leading: Leading::always(),
        incidents: store(cached),
        alerts: store(vec![]),
        policies: store(vec![]),
        compiled: compiled::Compiled::default(),
        runbooks: store(vec![]),
        exceptions: store(vec![]),
        chains: store(vec![]),
        deciding: super::deciding::Deciding::default(),
        progress: Progress::default(),
        grouping: Grouping::default(),
        enrolled: tokio::sync::watch::channel(BTreeSet::new()).1,
        workloads: super::workloads::Workloads::default(),
        neighbours: super::turns::Turns::new(1, std::time::Duration::from_secs(1)),
        settings,
        client,
    };
    (context, log, folder)
}

fn incident(phase: IncidentPhase) -> Incident {
    serde_json::from_value(json!({
        "apiVersion": "backstop.dev/v1alpha1", "kind": "Incident",
        "metadata": {"name": "api-1", "namespace": "shop", "uid": "u", "resourceVersion": "7", "generation": 1},
        "spec": {"alerts": [{"namespace": "shop", "name": "a", "startsAt": "2026-01-01T00:00:00Z"}],
            "requestId": "r", "openedAt": "2026-01-01T00:00:00Z",
            "target": {"apiVersion": "apps/v1", "kind": "Deployment", "namespace": "shop", "name": "api", "uid": "t"}},
        "status": {"phase": phase, "rounds": 1, "timeline": [{"at": "2026-01-01T00:00:00Z", "actor": "controller",
            "event": "Judged", "message": "m"}]},
    }))
    .unwrap()
}

fn stuck(kind: &'static str) -> Stuck {
    let key = Key { kind, namespace: "shop".into(), name: "api-1".into() };
    let why = Why::NoStepEnds { lasting: jiff::SignedDuration::from_mins(5), error: Some("no answer".into()) };
    Stuck { key, why, told: 0 }
}

fn events(log: &Log) -> Vec<Value> {
    let log = log.lock().unwrap();
    log.iter().filter(|asked| asked.path.contains("/events.k8s.io/")).map(|asked| asked.body.clone()).collect()
}

fn puts(log: &Log) -> Vec<Value> {
    log.lock().unwrap().iter().filter(|asked| asked.method == "PUT").map(|asked| asked.body.clone()).collect()
}

#[tokio::test]
async fn who_has_lost_the_lease_asks_for_nothing_and_ends_no_incident() {
    let (ctx, log, _folder) = context(vec![], |asked| Reply::Json(200, asked.body.clone()));
    let ctx = Context { leading: Leading::nobody(), ..ctx };
    let mut it = incident(IncidentPhase::Remediating);
    let close = [Effect::CloseGrant { remediation: "api-1".into() }];
    let done = effects::perform(&ctx, &it, &close, crate::clock::now()).await;
    assert!(matches!(done, Err(effects::Failure::Error(Error::NotLeading))), "{done:?}");
    let status = it.status.take().unwrap();
    assert!(matches!(ctx.write_status(&it, status).await, Err(Error::NotLeading)));
    assert_eq!(log.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn people_are_called_when_nothing_can_be_read_and_nothing_can_be_stored() {
    for code in [403, 422, 500] {
        let (ctx, log, _folder) = context(vec![incident(IncidentPhase::Judging)], move |_| failure(code, "Forbidden"));
        assert_eq!(watchdog::hand_over(&ctx, &stuck("Incident")).await, HandedOver::Told, "{code}");
        let events = events(&log);
        assert!(events.iter().any(|event| event["regarding"]["kind"] == "Deployment"), "{events:?}");
        assert!(events.iter().all(|event| event["reason"] == "NoProgress"));
        assert!(events[0]["note"].as_str().unwrap().contains("no answer"), "the last error is named");
    }
}

/// While another process holds the log ours is closed, as on a full disk.
#[tokio::test]
async fn what_the_watchdog_hands_over_while_the_audit_log_is_closed_is_on_record_once_it_opens() {
    let (mut ctx, _, _folder) = context(vec![incident(IncidentPhase::Judging)], |_| failure(500, "Unavailable"));
    let folder = tempfile::tempdir().unwrap();
    let holder = audit::open(folder.path(), audit::Metrics::default());
    ctx.audit = audit::open(folder.path(), audit::Metrics::default());
    ctx.audit.is_durable().unwrap_err();
    assert_eq!(watchdog::hand_over(&ctx, &stuck("Incident")).await, HandedOver::Told);
    drop(holder);
    let recorded = || {
        let files = std::fs::read_dir(folder.path()).unwrap().flatten();
        let texts = files.filter_map(|file| std::fs::read_to_string(file.path()).ok());
        texts.into_iter().any(|text| text.contains("IncidentEscalated"))
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), async {
        while !recorded() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("the record is written once the log can be");
}

#[tokio::test]
async fn the_hand_over_is_stored_with_what_was_there_or_with_less_where_that_is_refused() {
    for refused in [false, true] {
        let (ctx, log, _folder) = context(vec![incident(IncidentPhase::Judging)], move |asked| {
            let full = asked.body.pointer("/status/timeline").is_some();
            match asked.method.as_str() {
                "GET" => Reply::Json(200, serde_json::to_value(incident(IncidentPhase::Judging)).unwrap()),
                "PUT" if refused && full => failure(422, "Invalid"),
                _ => Reply::Json(200, asked.body.clone()),
            }
        });
        assert_eq!(watchdog::hand_over(&ctx, &stuck("Incident")).await, HandedOver::Stored);
        let puts = puts(&log);
        assert_eq!(puts.len(), if refused { 2 } else { 1 });
        let stored: Incident = serde_json::from_value(puts.last().unwrap().clone()).unwrap();
        let status = stored.status.unwrap();
        assert_eq!((status.phase, status.reason.as_str()), (IncidentPhase::Escalated, "NoProgress"));
        assert_eq!(status.timeline.len(), usize::from(!refused));
        assert!(!events(&log).is_empty());
        // The ordinary way goes on from there: it asks under the name of the notification.
        let key = progress::key(Notice::Escalated.as_str(), &incident(IncidentPhase::Escalated));
        assert!(!ctx.progress.told(&key).is_empty(), "nobody is told twice");
    }
}

#[tokio::test]
async fn an_incident_that_got_on_since_is_left_alone() {
    let (ctx, log, _folder) = context(vec![incident(IncidentPhase::Judging)], |asked| match asked.method.as_str() {
        "GET" => Reply::Json(200, serde_json::to_value(incident(IncidentPhase::Verifying)).unwrap()),
        _ => Reply::Json(200, asked.body.clone()),
    });
    assert_eq!(watchdog::hand_over(&ctx, &stuck("Incident")).await, HandedOver::MovedOn);
    assert!(puts(&log).is_empty() && events(&log).is_empty());
}

#[tokio::test]
async fn a_page_goes_out_without_what_cannot_be_read() {
    let mut escalated = incident(IncidentPhase::Escalated);
    let status = escalated.status.as_mut().unwrap();
    status.investigation = Some("api-inv".into());
    status.reason = "OnlyOneRevision".into();
    let (ctx, log, _folder) = context(vec![], |_| failure(403, "Forbidden"));
    let told = notices::deliver(&ctx, &escalated, Notice::Escalated, vec![]).await.unwrap();
    assert!(told.expect("somebody is told").arrived());
    assert!(events(&log).iter().all(|event| event["reason"] == "OnlyOneRevision") && !events(&log).is_empty());
}

#[tokio::test]
async fn a_step_that_is_refused_again_and_again_ends_with_a_person_who_is_told_what_was_refused() {
    let current = Arc::new(Mutex::new(incident(IncidentPhase::Judging)));
    let stored = current.clone();
    let (ctx, log, _folder) = context(vec![], move |asked| {
        let of_incident = asked.path.contains("/incidents/");
        match asked.method.as_str() {
            "GET" if of_incident => Reply::Json(200, serde_json::to_value(&*stored.lock().unwrap()).unwrap()),
            "PUT" if of_incident => {
                *stored.lock().unwrap() = serde_json::from_value(asked.body.clone()).unwrap();
                Reply::Json(200, asked.body.clone())
            }
            "GET" if asked.path.ends_with("/resourcequotas") => failure(403, "Forbidden"),
            "GET" if asked.path.ends_with("s") => list(&[]),
            _ => failure(404, "NotFound"),
        }
    });
    let ctx = Arc::new(ctx);
    let cached = Arc::new(incident(IncidentPhase::Judging));
    let key = super::progress::key("Incident", cached.as_ref());
    let mut now = clock::now();
    for _ in 0..6 {
        let error = incidents::reconcile(cached.clone(), ctx.clone()).await.unwrap_err();
        now += jiff::SignedDuration::from_secs(5);
        ctx.progress.failed(key.clone(), error.failure(), &error.to_string(), now);
    }
    // As the clock has it, no time went by: the refusals above were spread by hand.
    assert!(ctx.progress.refused_for_good(&key, now).is_some());
    incidents::give_up(&cached, &ctx, "list ResourceQuotas: Forbidden").await.unwrap();
    let status = current.lock().unwrap().status.clone().unwrap();
    assert_eq!((status.phase, status.reason.as_str()), (IncidentPhase::Escalated, Reason::RequestRefused.as_str()));
    assert!(status.message.contains("ResourceQuotas") && status.escalation.is_some());
    drop(log);
}

#[tokio::test]
async fn what_cannot_be_decoded_denies_by_its_name_and_hides_nothing() {
    let policy = |name: &str, mode: &str| {
        json!({"apiVersion": "backstop.dev/v1alpha1", "kind": "Policy",
            "metadata": {"name": name, "namespace": "shop"}, "spec": {"mode": mode}})
    };
    let runbook = json!({"apiVersion": "backstop.dev/v1alpha1", "kind": "Runbook",
        "metadata": {"name": "late", "namespace": "shop"}, "spec": {"summary": "s", "match": {}, "gather": ["Tea"]}});
    let (ctx, _, _folder) = context(vec![], move |asked| match asked.path.as_str() {
        path if path.ends_with("/shop/policies") => list(&[policy("of-tomorrow", "freeze"), policy("fine", "auto")]),
        path if path.ends_with("/shop/runbooks") => list(std::slice::from_ref(&runbook)),
        path if path.ends_with("/namespaces/shop") => Reply::Json(200, json!({"metadata": {"name": "shop"}})),
        _ => list(&[]),
    });
    let rules = gather::rules(&ctx, &incident(IncidentPhase::Judging), gather::Freshness::Quorum).await.unwrap();
    let denials: Vec<(&str, Option<Reason>)> = rules
        .policies
        .iter()
        .map(|policy| {
            (policy.name.as_str(), policy.admits(ActionKind::RolloutUndo, clock::now()).err().map(|d| d.reason))
        })
        .collect();
    let invalid = Some(Reason::PolicyInvalid);
    assert_eq!(denials, [("shop/fine", None), ("shop/of-tomorrow", invalid), ("shop/late (a Runbook)", invalid)]);
}

#[tokio::test]
async fn an_alert_that_cannot_be_decoded_counts_as_firing_and_one_that_is_gone_does_not() {
    for (ends, there, fires) in [
        (json!("9999-12-31T23:59:59Z"), true, true),
        (json!("2026-01-02T00:00:00Z"), true, false),
        (Value::Null, true, true),
        (Value::Null, false, false),
    ] {
        let alert = json!({"apiVersion": "backstop.dev/v1alpha1", "kind": "Alert", "metadata": {"name": "a"},
            "spec": {"fingerprint": "f", "labels": {}, "startsAt": "2026-01-01T00:00:00Z", "endsAt": ends}});
        let (ctx, _, _folder) = context(vec![], move |_| match there {
            true => Reply::Json(200, alert.clone()),
            false => failure(404, "NotFound"),
        });
        assert_eq!(
            gather::firing(&ctx, &incident(IncidentPhase::Judging)).await.unwrap().is_some(),
            fires,
            "{ends} {there}"
        );
    }
}

fn bytes<K: serde::Serialize>(object: &K) -> usize {
    serde_json::to_string(object).unwrap().len()
}

/// An alert as large as the schema lets senders make it.
fn fat_alert() -> Alert {
    let mut labels: serde_json::Map<String, Value> =
        (0..62).map(|n| (format!("text_{n:02}"), json!("🐟".repeat(1000)))).collect();
    labels.insert("alertname".into(), json!("TooManyWords"));
    labels.insert("deployment".into(), json!("api"));
    serde_json::from_value(json!({
        "apiVersion": "backstop.dev/v1alpha1", "kind": "Alert",
        "metadata": {"name": "a", "namespace": "shop", "generation": 1},
        "spec": {"fingerprint": "f", "labels": labels, "annotations": labels, "startsAt": "2026-01-01T00:00:00Z"},
    }))
    .unwrap()
}

#[test]
fn a_cached_alert_holds_what_grouping_asks_for_and_none_of_its_senders_text() {
    let whole = fat_alert();
    let mut cached = whole.clone();
    caches::trim_alert(&mut cached);
    assert_eq!(cached.spec.labels.keys().collect::<Vec<_>>(), ["alertname", "deployment"]);
    assert!(bytes(&whole) > 400_000 && bytes(&cached) * 500 < bytes(&whole), "{}", bytes(&cached));
}

/// Ratio only: what one costs in memory follows the text that it holds, and its own fields, which are the same for all.
#[test]
fn an_ended_incident_in_the_cache_is_a_small_part_of_the_one_that_is_stored() {
    let mut whole = incident(IncidentPhase::Escalated);
    let status = whole.status.as_mut().unwrap();
    let verdict = crate::api::v1alpha1::CheckVerdict { message: "m".repeat(100), ..Default::default() };
    status.decision = Some(Box::new(crate::api::v1alpha1::Decision {
        checks: vec![verdict; 42],
        decided_at: clock::now(),
        ..Default::default()
    }));
    let mut cached = whole.clone();
    caches::trim(&mut cached);
    assert!(bytes(&cached) * 10 < bytes(&whole), "{} of {}", bytes(&cached), bytes(&whole));
    // The fields themselves, full or empty. 20,000 of them and 2,000 firing Alerts are a good half of 128 MiB.
    let (incident, alert) = (size_of::<Incident>(), size_of::<Alert>());
    assert!(20_000 * (incident + bytes(&cached)) + 2_000 * (alert + 1_000) < 80 << 20, "{incident} {alert}");
}

/// The label repeats the target's UID, and only then the cache does without it.
#[test]
fn an_incident_in_the_cache_is_still_about_what_its_label_said() {
    for (target, label, kept) in
        [(Some("u1"), "u1", false), (Some("u1"), "by-hand", true), (None, "digest-of-an-alert", true)]
    {
        let mut cached = incident(IncidentPhase::Escalated);
        cached.spec.target = target.map(|uid| ObjectRef { uid: uid.into(), ..ObjectRef::default() });
        cached.metadata.labels = Some([(grouping::TARGET_LABEL.to_owned(), label.to_owned())].into());
        caches::trim(&mut cached);
        assert_eq!(grouping::subject(&cached), Some(label));
        assert_eq!(cached.metadata.labels.is_some(), kept, "{label}");
    }
}

#[test]
fn alerts_that_ended_leave_the_cache_and_wake_their_incident() {
    let mut alert = fat_alert();
    alert.status = Some(
        serde_json::from_value(json!({"state": "Resolved", "observedGeneration": 1, "incident": "api-1",
            "incidentNamespace": "shop"}))
        .unwrap(),
    );
    alert.spec.ends_at = Some(clock::now());
    let (kept, woken) = caches::sorted(Event::Apply(alert.clone()));
    assert!(matches!(kept, Some(Event::Delete(_))) && woken.is_some_and(|incident| incident.name == "api-1"));
    let (kept, woken) = caches::sorted(Event::InitApply(alert.clone()));
    assert!(kept.is_none() && woken.is_none(), "50,000 of them cost nothing at the start");
    alert.metadata.generation = Some(2);
    assert!(matches!(caches::sorted(Event::InitApply(alert)).0, Some(Event::InitApply(_))), "it changed since");
}

fn alert(spec: Value) -> Alert {
    let mut whole = json!({"fingerprint": "f", "startsAt": "2026-01-01T00:00:00Z",
        "labels": {"alertname": "KubePodCrashLooping", "namespace": "shop", "deployment": "api"}});
    json_patch::merge(&mut whole, &spec);
    serde_json::from_value(json!({
        "apiVersion": "backstop.dev/v1alpha1", "kind": "Alert", "spec": whole,
        "metadata": {"name": "a", "namespace": "shop", "uid": "ua", "generation": 1, "resourceVersion": "3",
            "creationTimestamp": clock::now()},
    }))
    .unwrap()
}

fn asked(log: &Log, method: &str, path: &str) -> Vec<Value> {
    let log = log.lock().unwrap();
    log.iter().filter(|one| one.method == method && one.path.contains(path)).map(|one| one.body.clone()).collect()
}

#[tokio::test]
async fn an_alert_whose_namespace_takes_no_incident_gets_one_in_the_system_namespace() {
    let (ctx, log, _folder) = context(vec![], |asked| match asked.method.as_str() {
        "POST" if asked.path.contains("/shop/") => failure(403, "Forbidden"),
        "GET" => failure(404, "NotFound"),
        "PATCH" => Reply::Json(200, serde_json::to_value(alert(json!({}))).unwrap()),
        _ => Reply::Json(200, asked.body.clone()),
    });
    let (ctx, homeless) = (Arc::new(ctx), Arc::new(alert(json!({}))));
    let refused = alerts::reconcile(homeless.clone(), ctx.clone()).await.unwrap_err();
    assert_eq!(refused.category(), "Forbidden");
    let key = super::progress::key("Alert", homeless.as_ref());
    for seconds in (30..=60).rev().step_by(5) {
        let then = clock::now() - jiff::SignedDuration::from_secs(seconds);
        ctx.progress.failed(key.clone(), refused.failure(), "create Incident: Forbidden", then);
    }
    alerts::reconcile(homeless, ctx).await.unwrap();
    let opened = asked(&log, "POST", "/backstop-system/incidents");
    assert_eq!(opened.len(), 1);
    assert_eq!(opened[0]["spec"]["unresolved"]["reason"], Reason::RequestRefused.as_str());
    let placed = asked(&log, "PATCH", "/shop/alerts/a/status");
    assert_eq!(placed[0]["status"]["incidentNamespace"], "backstop-system");
}

#[tokio::test]
async fn an_alert_of_last_year_that_nobody_repeats_ends_and_opens_nothing() {
    let (ctx, log, _folder) = context(vec![], |asked| Reply::Json(200, asked.body.clone()));
    let old = alert(json!({"receivedAt": "2025-03-01T10:00:30Z"}));
    // The answer to a patch is not what a server would say; only what was asked counts.
    let _ = alerts::reconcile(Arc::new(old), Arc::new(ctx)).await;
    let ended = asked(&log, "PATCH", "/shop/alerts/a");
    assert_eq!(ended[0]["spec"]["endsAt"], "2025-03-04T10:00:30Z");
    assert!(asked(&log, "POST", "incidents").is_empty());
}

#[tokio::test]
async fn retention_reads_small_pages_ends_what_is_silent_and_deletes_what_is_old() {
    let old = alert(json!({"receivedAt": "2025-03-01T10:00:30Z"}));
    let silent = alert(json!({"receivedAt": clock::now() - jiff::SignedDuration::from_hours(73)}));
    let firing = alert(json!({"receivedAt": clock::now()}));
    let undecodable =
        json!({"metadata": {"name": "never", "namespace": "shop"}, "spec": {"startsAt": "9999-12-31T23:59:59Z"}});
    let mut over = incident(IncidentPhase::Resolved);
    over.metadata.name = Some("over".into());
    over.status.as_mut().unwrap().times.ended = Some("2025-03-01T00:00:00Z".parse().unwrap());
    let (ctx, log, _folder) = context(vec![over, incident(IncidentPhase::Judging)], move |asked| {
        let named = |alert: &Alert, name: &str| {
            let mut alert = alert.clone();
            alert.metadata.name = Some(name.into());
            serde_json::to_value(alert).unwrap()
        };
        match (asked.method.as_str(), asked.query.contains("continue=more")) {
            ("GET", false) => Reply::Json(
                200,
                json!({"metadata": {"continue": "more"}, "items": [named(&old, "old"), undecodable.clone()]}),
            ),
            ("GET", true) => list(&[named(&silent, "silent"), named(&firing, "firing")]),
            _ => Reply::Json(200, json!({"kind": "Status", "status": "Success"})),
        }
    });
    retention::delete_expired(&Arc::new(ctx), &mut retention::AllUntold::new()).await.unwrap();
    let log = log.lock().unwrap();
    let of = |method: &str| -> Vec<&str> {
        log.iter().filter(|one| one.method == method).map(|one| one.path.rsplit('/').next().unwrap()).collect()
    };
    assert_eq!((of("DELETE"), of("PATCH")), (vec!["over", "old"], vec!["silent"]));
    assert!(log.iter().filter(|one| one.method == "GET").all(|one| one.query.contains("limit=10")));
}

#[test]
fn an_ended_incident_in_the_cache_still_knows_which_alerts_say_nothing_new() {
    let names = |incident: &Incident| -> Vec<String> {
        incident.spec.alerts.iter().map(|alert| alert.alertname.clone()).collect()
    };
    let watch = |over: Value| json!({"since": "2026-01-01T00:00:00Z", "over": over});
    for (phase, watch, kept) in [
        ("Escalated", Value::Null, true),
        ("Resolved", watch(Value::Null), true),
        ("Resolved", watch(json!("2026-01-01T00:15:00Z")), false),
    ] {
        let mut raw = serde_json::to_value(incident(IncidentPhase::Judging)).unwrap();
        raw["spec"]["alerts"] = ["A", "B", "A"]
            .map(
                |name| json!({"namespace": "shop", "name": "a", "alertname": name, "startsAt": "2026-01-01T00:00:00Z"}),
            )
            .into_iter()
            .collect();
        raw["status"]["phase"] = json!(phase);
        raw["status"]["watch"] = watch.clone();
        raw["status"]["reading"] = json!({"at": "2026-01-01T00:00:00Z", "healthy": false, "desired": 1, "ready": 0,
            "serving": 0, "failing": 1, "templateHash": "t"});
        let mut cached: Incident = serde_json::from_value(raw).unwrap();
        caches::trim(&mut cached);
        assert_eq!(names(&cached), if kept { ["A", "B", ""] } else { ["", "", ""] }, "{phase} {watch}");
        let status = cached.status.unwrap();
        assert_eq!(status.reading.unwrap().template_hash, "t", "it is counted, and compared");
        assert_eq!(status.watch.is_some(), !watch.is_null());
    }
}

/// What the API server does not serve for a moment was not deleted: an incident that is watched would end unseen.
#[tokio::test]
async fn a_target_whose_pods_cannot_be_listed_is_not_taken_for_one_that_is_gone() {
    use crate::core::workload::fixtures::{WorkloadFixture, ready};
    let world = WorkloadFixture::two_revisions().pods(1, 2, &ready(60)).snapshot();
    for (missing, expected) in [("deployments/checkout", Reason::TargetGone), ("pods", Reason::ClusterUnreadable)] {
        let world = world.clone();
        let (ctx, _, _folder) = context(vec![], move |asked| match asked.path.rsplit("/shop/").next() {
            Some(path) if path == missing => failure(404, "NotFound"),
            Some("deployments/checkout") => Reply::Json(200, world.object.clone()),
            Some("replicasets") => list(&world.revisions),
            Some("pods") => list(&world.pods),
            _ => failure(404, "NotFound"),
        });
        let target = ObjectRef {
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            namespace: "shop".into(),
            name: "checkout".into(),
            uid: String::new(),
        };
        let error = gather::read_workload(&ctx, &target, clock::now()).await.unwrap_err();
        assert_eq!(error.reason, expected, "{missing}: {}", error.message);
    }
}

/// Of an incident that lists as many alerts as it can, those that it does not list count too.
#[tokio::test]
async fn an_alert_beyond_those_that_an_incident_lists_keeps_it_firing() {
    let mut full = incident(IncidentPhase::Judging);
    let listed = full.spec.alerts[0].clone();
    full.spec.alerts = vec![listed; crate::core::grouping::MAX_ALERTS];
    let alert = |ends: Value, namespace: &str| {
        json!({"apiVersion": "backstop.dev/v1alpha1", "kind": "Alert", "metadata": {"name": "more", "namespace": "shop"},
            "spec": {"fingerprint": "f", "labels": {}, "startsAt": "2026-01-01T00:00:00Z", "endsAt": ends},
            "status": {"incident": "api-1", "incidentNamespace": namespace}})
    };
    let ended = json!("2026-01-02T00:00:00Z");
    for (more, fires) in [
        (vec![], false),
        (vec![alert(ended.clone(), "shop")], false),
        (vec![alert(Value::Null, "shop")], true),
        (vec![alert(Value::Null, "another")], false),
        (vec![alert(json!("9999-12-31T23:59:59Z"), "shop")], true),
    ] {
        let listed = alert(ended.clone(), "shop");
        let items = more.clone();
        let (ctx, log, _folder) = context(vec![], move |asked| match asked.path.ends_with("/alerts") {
            true => list(&items),
            false => Reply::Json(200, listed.clone()),
        });
        assert_eq!(gather::firing(&ctx, &full).await.unwrap().is_some(), fires, "{more:?}");
        let log = log.lock().unwrap();
        let asked = log.iter().find(|asked| asked.path.ends_with("/alerts")).unwrap();
        assert!(asked.query.contains("status.incident%3Dapi-1"), "{}", asked.query);
    }
}

/// The cache of thousands of workloads holds of each what says whether it is worth reading, and no template.
#[test]
fn a_cached_workload_is_as_healthy_as_the_stored_one_without_its_template() {
    use crate::core::workload::{
        Kind,
        fixtures::{WorkloadFixture, crash_loop, ready},
    };
    use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
    fn cached<K: serde::de::DeserializeOwned + serde::Serialize>(object: &Value, trim: fn(&mut K)) -> Value {
        let mut typed: K = serde_json::from_value(object.clone()).unwrap();
        trim(&mut typed);
        serde_json::to_value(typed).unwrap()
    }
    for kind in Kind::ALL {
        let world = || WorkloadFixture::two_revisions().of(kind);
        let worlds = [
            world().pods(2, 2, &ready(600)),
            world().pods(2, 2, &crash_loop()),
            world(),
            world().partition(1).pods(2, 1, &ready(600)).pods(1, 1, &ready(600)),
            world().on_delete().pods(1, 2, &ready(600)),
        ];
        let mut verdicts = BTreeSet::new();
        for world in worlds {
            let object = world.snapshot().object;
            let small = match kind {
                Kind::Deployment => cached::<Deployment>(&object, known_good::trim_deployment),
                Kind::StatefulSet => cached::<StatefulSet>(&object, known_good::trim_stateful_set),
                Kind::DaemonSet => cached::<DaemonSet>(&object, known_good::trim_daemon_set),
            };
            let verdict = crate::core::known_good::may_be_healthy(kind, &object);
            assert_eq!(crate::core::known_good::may_be_healthy(kind, &small), verdict, "{kind}: {object}");
            assert!(!small.to_string().contains("shop:"), "{kind}: {small}");
            verdicts.insert(verdict);
        }
        assert_eq!(verdicts.len(), 2, "{kind}: healthy ones and others");
    }
}

#[tokio::test]
async fn an_alert_whose_long_labels_are_not_cached_is_read_and_placed_by_all_of_them() {
    let mut whole = alert(json!({"receivedAt": clock::now()}));
    whole.spec.labels.insert("exported_instance".into(), "x".repeat(1024));
    whole.spec.labels.insert("instance".into(), "x".repeat(1024));
    let mut cached = whole.clone();
    caches::trim_alert(&mut cached);
    assert!(caches::is_shortened(&cached) && !cached.spec.labels.contains_key("deployment"));
    let read = json!(whole);
    let (ctx, log, _folder) = context(vec![], move |asked| match asked.path.as_str() {
        path if path.ends_with("/alerts/a") => Reply::Json(200, read.clone()),
        _ if asked.method == "GET" => failure(404, "NotFound"),
        _ => Reply::Json(200, asked.body.clone()),
    });
    let _ = alerts::reconcile(Arc::new(cached), Arc::new(ctx)).await;
    let looked = log.lock().unwrap().iter().any(|asked| asked.path.ends_with("/deployments/api"));
    assert!(looked, "{:?}", log.lock().unwrap());
}
