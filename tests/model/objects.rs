//! The objects that the model begins with, and what is read of a workload. What is read goes through the product's own
//! reading of raw JSON, for controller and executor alike.

use backstop::{
    api::v1alpha1::{AlertRef, Grant, GrantSpec, Incident, IncidentSpec, ObjectRef, Severity, Time},
    core::{
        budget::Budgets,
        execution::conformance,
        incident::{Terms, Timings},
        names, object,
        workload::{Kind, RawWorkload, Refusals, Workload},
    },
};
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::state::{CASES, Health, State};

/// A tick: longer than a Grant is valid, a Lease lasts, evidence is waited for and a target has to stay healthy; half
/// of the executor's patience and a quarter of the time for which it waits for a Grant.
pub const TICK: SignedDuration = SignedDuration::from_secs(151);
/// A moment: longer than the executor's pause while an admission policy lags.
pub const MOMENT: SignedDuration = SignedDuration::from_millis(20);
/// Moments of a tick at most; then the next tick begins.
pub const MOMENTS: u8 = 4;
/// What has not ended by then does not end.
pub const HORIZON: u8 = 22;

/// Repairs of one namespace within an hour: one, so that two incidents cannot both have theirs.
pub const CAP: u32 = 1;

/// The version that whoever reads an object finds on it. Whether it is still the object's own when a request arrives is
/// what the model keeps.
pub const READ: &str = "1";
/// Another version.
pub const OTHER: &str = "2";

/// Name of the namespace.
pub const NAMESPACE: &str = "shop";

const NAMES: [&str; CASES] = ["cart", "mail"];

/// Time as a number that memory tables have in their keys.
pub type Clock = u16;

/// The clock of a state.
pub fn clock(state: &State) -> Clock {
    u16::from(state.tick) * 16 + u16::from(state.moment)
}

fn start() -> Time {
    Time::from_second(1_800_000_000).expect("a time")
}

/// The time that a clock shows.
pub fn time(clock: Clock) -> Time {
    start() + TICK * i32::from(clock / 16) + MOMENT * i32::from(clock % 16)
}

/// The objects of the conformance table are about `cart`; the same about the target of `case`.
fn named(value: &Value, case: usize) -> Value {
    let text = value.to_string().replace(NAMES[0], NAMES[case]);
    serde_json::from_str(&text).expect("JSON stays JSON")
}

/// The target before anything was done: its second revision is being rolled out.
pub fn target(case: usize) -> Value {
    let mut target = conformance::target(Kind::Deployment, "uid-cart", "cart:2");
    target["spec"]["replicas"] = json!(3);
    named(&target, case)
}

/// Its revision of this number.
pub fn revision(case: usize, number: i64) -> Value {
    let image = format!("cart:{number}");
    let mut revision = conformance::revision(Kind::Deployment, &format!("cart-{number}"), "uid-cart", number, &image);
    let age = if number == 1 { 86_400 } else { 120 };
    revision["metadata"]["creationTimestamp"] = json!(start() - SignedDuration::from_secs(age));
    named(&revision, case)
}

/// A template that nobody recorded.
pub fn another_template(case: usize) -> Value {
    named(&conformance::template("cart:3"), case)
}

/// The target of an incident.
pub fn reference(case: usize) -> ObjectRef {
    object::object_ref(&target(case), Kind::API_VERSION, Kind::Deployment.as_str())
}

/// When the alert began, by its sender.
pub fn alert_began() -> Time {
    start() - SignedDuration::from_secs(60)
}

/// An incident about it.
pub fn incident(case: usize) -> Incident {
    let name = format!("{}-0123456789", NAMES[case]);
    let mut incident = Incident::new(
        &name,
        IncidentSpec {
            target: Some(reference(case)),
            unresolved: None,
            alerts: vec![AlertRef {
                namespace: NAMESPACE.into(),
                name: format!("alert-{case}"),
                uid: format!("uid-alert-{case}"),
                alertname: "KubePodCrashLooping".into(),
                starts_at: alert_began(),
            }],
            severity: Severity::Warning,
            request_id: "r".into(),
            opened_at: start() - SignedDuration::from_secs(1),
            key: format!("k{case}"),
        },
    );
    incident.metadata.namespace = Some(NAMESPACE.into());
    incident.metadata.uid = Some(format!("uid-incident-{case}"));
    incident.metadata.resource_version = Some(READ.into());
    incident
}

/// The Grant of the namespace with this spec.
pub fn grant(spec: &GrantSpec, version: &str) -> Grant {
    let mut grant = Grant::new(names::GRANT, spec.clone());
    grant.metadata.namespace = Some(NAMESPACE.into());
    grant.metadata.resource_version = Some(version.into());
    grant
}

/// Settings of the installation. Durations are such that each ends between two ticks.
pub fn terms() -> Terms {
    Terms {
        timings: Timings {
            known_good_seconds: 30,
            verify_settle_seconds: 60,
            verify_timeout_seconds: 100,
            watch_seconds: 100,
            alert_goes_on_seconds: 100,
            evidence_wait_seconds: 60,
            grant_seconds: 60,
            approval_timeout_seconds: 700,
        },
        budgets: Budgets { actions_per_namespace_per_hour: CAP, ..Budgets::default() },
        system: "backstop-system".into(),
        metrics: false,
        evict_pods: false,
        chain: vec!["rules".into()],
    }
}

/// What kubelet and Deployment controller made of the target, as the API server would print it, read by the product.
pub fn read(case: usize, target: &Value, revisions: [&Value; 2], health: Health, since: Clock, now: Clock) -> Workload {
    let (since, now) = (time(since), time(now));
    let old = since - SignedDuration::from_hours(1);
    let moment_ago = now - SignedDuration::from_secs(2);
    let current = current(target, revisions);
    let other = 3 - current;
    let pods = match health {
        Health::Broken => {
            vec![ready(case, 1, "a", old), crash_loop(case, 2, "b", now), ready(case, 2, "c", moment_ago)]
        }
        Health::Well => {
            vec![ready(case, current, "d", since), ready(case, current, "e", since), ready(case, current, "f", since)]
        }
        Health::Down => ["g", "h", "i"].iter().map(|name| crash_loop(case, current, name, now)).collect(),
        Health::NoBetter => vec![
            ready(case, current, "j", since),
            crash_loop(case, current, "k", now),
            ready(case, other, "l", moment_ago),
        ],
    };
    let is_ready = |pod: &&Value| pod.pointer("/status/conditions/0/status") == Some(&json!("True"));
    let of = |pod: &&Value, number: i64| {
        object::controller_uid(pod) == Some(object::meta(revisions[usize::from(number == 2)], "uid"))
    };
    let all_ready = pods.iter().filter(is_ready).count();
    let mut object = target.clone();
    object["status"] = json!({
        "observedGeneration": object::generation(target), "replicas": pods.len(), "readyReplicas": all_ready,
        "availableReplicas": all_ready, "updatedReplicas": pods.iter().filter(|pod| of(pod, current)).count(),
        "conditions": [{"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated"}],
    });
    let revisions = [1, 2].map(|number| {
        let mut revision = revisions[number - 1].clone();
        let number = if number == 1 { 1 } else { 2 };
        let mine = || pods.iter().filter(|pod| of(pod, number));
        let ready = mine().filter(is_ready).count();
        revision["status"] = json!({"replicas": mine().count(), "readyReplicas": ready});
        revision
    });
    let raw = RawWorkload {
        object,
        owners: vec![],
        primary: None,
        rivals: vec![],
        revisions: revisions.to_vec(),
        pods,
        refusals: Refusals::Unknown,
        read_at: now,
    };
    Workload::of(&raw).expect("a Deployment")
}

/// Number of the revision whose template the target has; 2 when it has one that nobody recorded.
fn current(target: &Value, revisions: [&Value; 2]) -> i64 {
    let image = |object: &Value| object.pointer("/spec/template/spec/containers/0/image").cloned();
    if image(target) == image(revisions[0]) { 1 } else { 2 }
}

fn ready(case: usize, revision: i64, name: &str, since: Time) -> Value {
    let container = json!({"name": NAMES[case], "ready": true, "started": true, "restartCount": 0,
        "state": {"running": {"startedAt": since}}});
    pod(
        case,
        revision,
        name,
        since,
        &json!({"type": "Ready", "status": "True", "lastTransitionTime": since}),
        &container,
    )
}

fn crash_loop(case: usize, revision: i64, name: &str, now: Time) -> Value {
    let (began, ended) = (now - SignedDuration::from_secs(11), now - SignedDuration::from_secs(10));
    let container = json!({"name": NAMES[case], "ready": false, "started": false, "restartCount": 3,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}},
        "lastState": {"terminated": {"exitCode": 1, "reason": "Error", "startedAt": began, "finishedAt": ended}}});
    let condition = json!({"type": "Ready", "status": "False", "reason": "ContainersNotReady",
        "lastTransitionTime": now - SignedDuration::from_secs(100)});
    pod(case, revision, name, now - SignedDuration::from_secs(110), &condition, &container)
}

fn pod(case: usize, revision: i64, name: &str, made: Time, ready: &Value, container: &Value) -> Value {
    let set = format!("{}-{revision}", NAMES[case]);
    let template = named(&conformance::template(&format!("cart:{revision}")), case);
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("{set}-{name}"), "namespace": NAMESPACE, "uid": format!("uid-{set}-{name}"),
            "labels": {"app": NAMES[case]}, "creationTimestamp": made,
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "controller": true, "name": set,
                "uid": format!("uid-{set}")}]},
        "spec": template["spec"],
        "status": {"phase": "Running", "conditions": [ready], "containerStatuses": [container]},
    })
}
