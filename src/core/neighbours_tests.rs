//! Which failing neighbours make a storm.

use serde_json::json;

use super::*;
use crate::core::gate::testing::reading;

const WINDOW: SignedDuration = SignedDuration::from_secs(300);

fn at(second: i64) -> Time {
    Time::from_second(1_800_000_000 + second).unwrap()
}

/// A pod of a Deployment that was made this many seconds ago.
fn pod(deployment: &str, image: &str, age: i64, state: &Value) -> Value {
    let made = at(-age).to_string();
    json!({
        "metadata": {"name": format!("{deployment}-7c9-x"), "uid": "u", "creationTimestamp": made,
            "labels": {"pod-template-hash": "7c9"},
            "ownerReferences": [{"kind": "ReplicaSet", "name": format!("{deployment}-7c9"), "controller": true}]},
        "spec": {"containers": [{"name": "app", "image": image}]},
        "status": {"phase": "Pending",
            "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": made}],
            "containerStatuses": [{"name": "app", "state": state, "restartCount": 0, "ready": false}]},
    })
}

fn broken(deployment: &str, image: &str, age: i64) -> Value {
    pod(deployment, image, age, &json!({"waiting": {"reason": "ImagePullBackOff"}}))
}

fn fine(deployment: &str) -> Value {
    let mut pod = pod(deployment, "fine:1", 9_000, &json!({"running": {"startedAt": at(-9_000).to_string()}}));
    pod["status"]["phase"] = json!("Running");
    pod["status"]["conditions"][0]["status"] = json!("True");
    pod["status"]["containerStatuses"][0]["ready"] = json!(true);
    pod
}

/// The storm that Deployment `api` is in.
fn storm_with(pods: &[Value], written: &[&str]) -> Option<Storm> {
    let mut neighbours = Neighbours::default();
    for page in pods.chunks(2) {
        neighbours.add(page, at(0));
    }
    neighbours.storm(&reading(), written, WINDOW)
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("w{number}")).collect()
}

/// `failing` workloads that fail, each with an image of its own, and `fine` ones that do not.
fn namespace(failing: usize, quiet: usize) -> Vec<Value> {
    let mut pods = vec![broken("api", "api:2", 60)];
    pods.extend(names(failing - 1).iter().map(|name| broken(name, &format!("{name}:2"), 90)));
    pods.extend(names(quiet).iter().map(|name| fine(&format!("quiet-{name}"))));
    pods
}

#[test]
fn three_that_are_half_and_five_that_are_a_fifth_are_a_storm() {
    for (failing, quiet, many) in [
        (1, 0, false),
        (2, 0, false),
        (3, 0, true),
        (3, 3, true),
        (3, 4, false),
        (4, 5, false),
        (5, 20, true),
        (5, 21, false),
    ] {
        let storm = storm_with(&namespace(failing, quiet), &[]);
        assert_eq!(storm.is_some(), many, "{failing} of {}", failing + quiet);
        if let Some(storm) = storm {
            assert_eq!((storm.workloads.len(), storm.of), (failing, failing + quiet));
            assert!(storm.message("shop").contains("Deployment/api"), "{}", storm.message("shop"));
        }
    }
}

#[test]
fn the_same_new_image_that_fails_in_three_is_a_storm_in_a_namespace_of_any_size() {
    let mut pods = namespace(1, 40);
    pods.extend(["web", "db"].map(|name| broken(name, "api:2", 100)));
    let storm = storm_with(&pods, &[]).unwrap();
    assert_eq!(storm.workloads, ["Deployment/api", "Deployment/db", "Deployment/web"]);
    assert_eq!(storm.image.as_deref(), Some("api:2"));
    assert!(storm_with(&pods[..pods.len() - 1], &[]).is_none());
}

#[test]
fn healthy_workloads_and_those_that_failed_long_before_or_after_do_not_count() {
    let mut pods = vec![broken("api", "api:2", 60), fine("a"), fine("b"), fine("c")];
    assert!(storm_with(&pods, &[]).is_none(), "alerts about them change nothing");
    pods.extend([broken("old-a", "x", 9_000), broken("old-b", "y", 8_000)]);
    assert!(storm_with(&pods, &[]).is_none(), "they have failed for hours");
    let late: Vec<Value> = namespace(3, 0).into_iter().collect();
    assert!(storm_with(&late, &[]).is_some(), "all of them a while ago, but at the same time");
    let mut well = namespace(3, 0);
    well[0] = fine("api");
    assert!(storm_with(&well, &[]).is_none(), "the target itself is well");
}

/// A workload that has and wants so many pods, with a spec that was changed so many seconds ago.
fn lacking(kind: Kind, name: &str, there: i32, wanted: i32, ago: i64) -> Value {
    let (changed, long_ago) = (at(-ago).to_string(), at(-90_000).to_string());
    json!({
        "metadata": {"name": name, "generation": 2, "creationTimestamp": long_ago, "managedFields": [
            {"manager": "helm", "time": changed}, {"manager": "hpa", "subresource": "scale", "time": at(0).to_string()},
            {"manager": "kube-controller-manager", "subresource": "status", "time": at(0).to_string()},
        ]},
        "spec": if kind == Kind::DaemonSet { json!({}) } else { json!({"replicas": wanted}) },
        "status": {
            "observedGeneration": 2, "replicas": if kind == Kind::Deployment { wanted } else { there },
            "updatedReplicas": there, "currentNumberScheduled": there, "desiredNumberScheduled": wanted,
            "conditions": if kind == Kind::Deployment {
                json!([{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "lastTransitionTime": changed}])
            } else {
                json!([])
            },
        },
    })
}

/// The storm that Deployment `api` is in, among these pods and workloads.
fn storm_among(pods: &[Value], workloads: &[(Kind, Value)]) -> Option<Storm> {
    let mut neighbours = Neighbours::default();
    neighbours.add(pods, at(0));
    neighbours.add_lacking(workloads.iter().filter_map(|(kind, object)| Lacking::of(*kind, object)).collect());
    neighbours.storm(&reading(), &[], WINDOW)
}

/// One pipeline ships six releases that may not run in their namespace: the old pods serve on, and no new one is made.
#[test]
fn workloads_whose_pods_are_refused_at_once_are_one_storm_although_all_their_pods_are_well() {
    let names = ["api", "a", "b", "c", "d", "e"];
    let pods: Vec<Value> = names.iter().map(|name| fine(name)).collect();
    let refused = |name: &str, ago| (Kind::Deployment, lacking(Kind::Deployment, name, 0, 2, ago));
    let all: Vec<_> = names.iter().zip(60..).map(|(name, ago)| refused(name, ago)).collect();
    let storm = storm_among(&pods, &all).unwrap();
    assert_eq!((storm.workloads.len(), storm.of, storm.image), (6, 6, None));
    assert!(storm_among(&pods, &all[..3]).is_some(), "three of six");
    assert!(storm_among(&pods, &all[..2]).is_none(), "two are no storm");
    assert!(storm_among(&pods, &all[1..]).is_none(), "the target itself has its pods");
    let earlier: Vec<_> = names.iter().zip([60, 9_000, 9_000, 9_000, 9_000]).map(|(n, ago)| refused(n, ago)).collect();
    assert!(storm_among(&pods, &earlier).is_none(), "the others have been refused for hours");
    let mut with_pods = pods.clone();
    with_pods[1] = broken("a", "a:2", 70);
    with_pods[2] = broken("b", "b:2", 80);
    assert!(storm_among(&with_pods, &all[..1]).is_some(), "failing pods and refused ones are one storm");
}

#[test]
fn refused_pods_of_stateful_sets_and_daemon_sets_count_and_so_do_those_of_a_first_release() {
    let set = |kind, name, there| (kind, lacking(kind, name, there, 3, 90));
    let all = [
        (Kind::Deployment, lacking(Kind::Deployment, "api", 0, 2, 60)),
        set(Kind::StatefulSet, "db", 0),
        set(Kind::DaemonSet, "agent", 2),
    ];
    let storm = storm_among(&[], &all).unwrap();
    assert_eq!(storm.workloads, ["DaemonSet/agent", "Deployment/api", "StatefulSet/db"]);
    assert_eq!(storm.of, 3);
    let mut starts = fine("x");
    starts["metadata"]["ownerReferences"] = json!([{"kind": "StatefulSet", "name": "db", "controller": true}]);
    starts["status"]["conditions"][0]["status"] = json!("False");
    assert!(storm_among(&[starts.clone()], &all).is_none(), "the next pod may wait for the one that starts");
    starts["metadata"]["deletionTimestamp"] = json!(at(-1).to_string());
    assert!(storm_among(&[starts], &all).is_none(), "or for the one that ends");
}

type Bend = fn(&mut Value);

#[test]
fn what_lacks_no_pods_or_is_not_refused_or_not_seen_yet_is_not_lacking() {
    let good = lacking(Kind::Deployment, "api", 0, 2, 60);
    assert_eq!(Lacking::of(Kind::Deployment, &good).unwrap().since, at(-60));
    let bends: [(&str, Bend); 6] = [
        ("the condition is over", |it| it["status"]["conditions"][0]["status"] = json!("False")),
        ("another condition", |it| it["status"]["conditions"][0]["reason"] = json!("FailedDelete")),
        ("none is wanted", |it| it["spec"]["replicas"] = json!(0)),
        ("all are there", |it| it["status"]["updatedReplicas"] = json!(2)),
        ("its controller has not seen it", |it| it["metadata"]["generation"] = json!(3)),
        ("it is being deleted", |it| it["metadata"]["deletionTimestamp"] = json!(at(-1).to_string())),
    ];
    for (why, bend) in bends {
        let mut bent = good.clone();
        bend(&mut bent);
        assert_eq!(Lacking::of(Kind::Deployment, &bent), None, "{why}");
    }
    assert_eq!(Lacking::of(Kind::StatefulSet, &lacking(Kind::StatefulSet, "db", 3, 3, 60)), None);
    assert_eq!(Lacking::of(Kind::StatefulSet, &lacking(Kind::StatefulSet, "db", 2, 3, 60)).unwrap().since, at(-60));
}

#[test]
fn what_has_no_pods_makes_no_namespace_larger() {
    let mut neighbours = Neighbours::default();
    neighbours.add(&[fine("api")], at(0));
    neighbours.add_lacking(
        (0..50)
            .filter_map(|n| Lacking::of(Kind::Deployment, &lacking(Kind::Deployment, &format!("x{n}"), 0, 1, 60)))
            .collect(),
    );
    assert_eq!(neighbours.count(), 1);
}

#[test]
fn a_workload_that_was_just_repaired_still_counts() {
    let pods = [broken("api", "api:2", 60), broken("web", "web:2", 60), fine("db"), fine("a"), fine("b"), fine("c")];
    assert!(storm_with(&pods, &[]).is_none());
    let storm = storm_with(&pods, &["Deployment/db"]).unwrap();
    assert_eq!(storm.workloads.len(), 3);
    assert!(storm_with(&pods, &["Deployment/web"]).is_none(), "one that still fails counts once");
}

#[test]
fn a_pod_that_crashed_all_its_life_fails_since_it_was_made_and_one_that_worked_since_it_does_not() {
    let mut crashing = broken("api", "api:2", 1_000);
    crashing["status"]["containerStatuses"][0] = json!({
        "name": "app", "restartCount": 6, "ready": false, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 1, "startedAt": at(-21).to_string(), "finishedAt": at(-20).to_string()}},
    });
    crashing["status"]["conditions"][0]["lastTransitionTime"] = json!(at(-20).to_string());
    let since = |pod: &Value| failing_since(&read_pod(pod, None, at(0)).unwrap(), at(0));
    assert_eq!(since(&crashing), at(-1_000));
    let mut worked = crashing;
    worked["metadata"]["creationTimestamp"] = json!(at(-90_000).to_string());
    assert_eq!(since(&worked), at(-20));
}

#[test]
fn a_pod_belongs_to_its_deployment_set_or_daemon_and_those_of_jobs_are_no_workload() {
    let owned = |kind: &str, name: &str| {
        let owner = json!([{"kind": kind, "name": name, "controller": true}]);
        workload_of(&json!({"metadata": {"labels": {"pod-template-hash": "7c9"}, "ownerReferences": owner}}))
    };
    assert_eq!(owned("ReplicaSet", "web-7c9").as_deref(), Some("Deployment/web"));
    assert_eq!(owned("ReplicaSet", "web-other").as_deref(), Some("ReplicaSet/web-other"));
    assert_eq!(owned("StatefulSet", "db").as_deref(), Some("StatefulSet/db"));
    assert_eq!(owned("Job", "nightly"), None);
    assert_eq!(workload_of(&json!({"metadata": {}})), None);
}
