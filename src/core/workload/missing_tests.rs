use serde_json::{Value, json};

use super::*;
use crate::core::workload::{
    Workload,
    fixtures::{WorkloadFixture, ago, crash_loop, failed_create, ready},
};

const SAID: &str =
    r#"pods "c" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true)"#;

/// Three are wanted.
fn world(kind: Kind) -> WorkloadFixture {
    WorkloadFixture { replicas: 3, ..WorkloadFixture::two_revisions().of(kind) }
}

fn lacks(world: &WorkloadFixture, twist: fn(&mut RawWorkload)) -> bool {
    let mut raw = world.snapshot();
    twist(&mut raw);
    lacks_pods(&raw)
}

fn nothing(_: &mut RawWorkload) {}

#[test]
fn a_pod_that_has_to_be_made_now_and_is_not_there_is_missing() {
    let set = || world(Kind::StatefulSet);
    let daemon = || world(Kind::DaemonSet);
    assert!(lacks(&set().pods(1, 2, &ready(60)), nothing), "the highest ordinal of a rollout");
    assert!(lacks(&set().parallel().pods(1, 2, &crash_loop()), nothing), "nobody waits for the others");
    assert!(lacks(&set().partition(2).pods(1, 2, &ready(60)), nothing), "the one above the partition");
    assert!(lacks(&daemon().pods(1, 2, &ready(60)), nothing), "a node without its pod");
    let counted_from = |raw: &mut RawWorkload| {
        raw.object["spec"]["ordinals"] = json!({"start": 5});
        for (index, pod) in raw.pods.iter_mut().enumerate() {
            pod["metadata"]["name"] = json!(format!("checkout-{}", 5 + index));
        }
    };
    assert!(lacks(&set().pods(1, 2, &ready(60)), counted_from));
}

#[test]
fn what_is_not_due_yet_or_not_known_is_not_missing() {
    let set = || world(Kind::StatefulSet).pods(1, 2, &ready(60));
    let daemon = || world(Kind::DaemonSet).pods(1, 2, &ready(60));
    for (what, world, twist) in [
        ("all are there", world(Kind::StatefulSet).pods(1, 3, &ready(60)), nothing as fn(&mut RawWorkload)),
        ("an ordered set waits for a lower ordinal", world(Kind::StatefulSet).pods(1, 2, &crash_loop()), nothing),
        (
            "the first one missing is below the partition",
            world(Kind::StatefulSet).partition(3).pods(1, 2, &ready(60)),
            nothing,
        ),
        ("people delete the pods", set().on_delete(), nothing),
        ("people delete the pods of a DaemonSet", daemon().on_delete(), nothing),
        ("a Deployment has a condition for it", world(Kind::Deployment).pods(1, 2, &ready(60)), nothing),
        ("a pod is ending", set(), |raw| raw.pods[1]["metadata"]["deletionTimestamp"] = json!(ago(1))),
        ("its controller has not seen the template", set(), |raw| raw.object["metadata"]["generation"] = json!(9)),
        ("it was scaled down", set(), |raw| raw.object["spec"]["replicas"] = json!(2)),
        ("the pod was made since the status was counted", daemon(), |raw| {
            let mut pod = raw.pods[0].clone();
            pod["metadata"]["name"] = json!("checkout-1-9");
            raw.pods.push(pod);
        }),
        ("the status is newer than the pods that were read", daemon(), |raw| {
            raw.object["status"]["currentNumberScheduled"] = json!(3);
        }),
    ] {
        assert!(!lacks(&world, twist), "{what}");
    }
}

#[test]
fn the_newest_event_about_the_workload_since_the_template_was_made_says_why() {
    let world = || world(Kind::DaemonSet).pods(1, 2, &ready(3600));
    let said = |events: Vec<Value>| {
        let raw = RawWorkload { refusals: Refusals::Events(events), ..world().snapshot() };
        let workload = Workload::of(&raw).unwrap();
        workload.refused().map(|(_, obstacle)| obstacle.message.clone())
    };
    let event = |message: &str, age| failed_create("daemon-1", Kind::DaemonSet, message, age);
    assert_eq!(said(vec![event("older", 60), event(SAID, 20), event("oldest", 90)]).as_deref(), Some(SAID));
    assert_eq!(said(vec![]), None);
    assert_eq!(said(vec![event(SAID, 300)]), None, "said of the template before");
    assert_eq!(said(vec![failed_create("another", Kind::DaemonSet, SAID, 20)]), None);
    for (field, value) in [("reason", "FailedDaemonPod"), ("type", "Normal")] {
        let mut other = event(SAID, 20);
        other[field] = json!(value);
        assert_eq!(said(vec![other]), None, "{field}");
    }
    // Each way in which an Event tells its time; zero is unknown.
    for pointer in ["series", "eventTime", "metadata"] {
        let mut dated = event(SAID, 20);
        dated["deprecatedLastTimestamp"] = Value::Null;
        match pointer {
            "series" => dated["series"] = json!({"count": 2, "lastObservedTime": ago(20)}),
            "metadata" => dated["metadata"] = json!({"creationTimestamp": ago(20)}),
            _ => dated[pointer] = json!(ago(20)),
        }
        assert!(said(vec![dated]).is_some(), "{pointer}");
    }
    let mut zero = event(SAID, 20);
    zero["deprecatedLastTimestamp"] = json!("1970-01-01T00:00:00Z");
    assert_eq!(said(vec![zero]), None);
}

#[test]
fn a_reader_without_events_sees_that_pods_are_missing_and_no_words() {
    for (kind, there, missing) in
        [(Kind::StatefulSet, 2, true), (Kind::DaemonSet, 2, true), (Kind::DaemonSet, 3, false)]
    {
        let snapshot = world(kind).pods(1, there, &ready(3600)).snapshot();
        let raw = RawWorkload { refusals: Refusals::Unread, ..snapshot.clone() };
        let workload = Workload::of(&raw).unwrap();
        assert_eq!(workload.refused().map(|(_, obstacle)| obstacle.message.as_str()), missing.then_some(""), "{kind}");
        assert_eq!(workload.fails(), missing);
        assert!(!Workload::of(&snapshot).unwrap().fails(), "who could not ask says nothing: {kind}");
    }
}
