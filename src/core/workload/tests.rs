use proptest::{prelude::*, strategy::Strategy};
use serde_json::{Value, json};

use super::fixtures::*;
use super::*;
use crate::api::v1alpha1::PodFailure;

fn read(world: &WorkloadFixture) -> Workload {
    Workload::of(&world.snapshot()).unwrap()
}

fn failure_of(status: &Value) -> PodFailure {
    read(&WorkloadFixture::one_revision().pods(1, 1, status)).pods[0].fact.failure
}

fn running(up: i64, restarts: i32, ran: i64, code: i32, reason: &str) -> Value {
    status(
        "Running",
        true,
        up,
        &json!({"ready": true, "started": true, "restartCount": restarts,
        "state": {"running": {"startedAt": ago(up)}},
        "lastState": {"terminated": {"exitCode": code, "reason": reason,
            "startedAt": ago(up + 5 + ran), "finishedAt": ago(up + 5)}}}),
    )
}

#[test]
fn the_newest_revision_comes_first_and_the_current_one_is_known_by_its_template() {
    let workload = read(&WorkloadFixture::two_revisions());
    assert_eq!(workload.revisions.iter().map(|r| r.fact.number).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(workload.current().unwrap().object.name, "checkout-2");
    assert_eq!(workload.earlier().next().unwrap().fact.images, ["shop:1"]);
    assert_eq!(workload.state.revision, Some(2));
}

#[test]
fn a_revisions_template_is_the_recorded_one_without_the_hash_label_and_otherwise_untouched() {
    let world = WorkloadFixture::two_revisions();
    let workload = read(&world);
    assert_eq!(workload.revision(1).unwrap().template, world.templates[0].0);
    assert_eq!(workload.template, world.templates[1].0);
    assert_eq!(workload.revision(1).unwrap().template_hash.len(), 64);
}

#[test]
fn revisions_and_pods_of_other_workloads_are_left_out() {
    let mut snapshot = WorkloadFixture::two_revisions().snapshot();
    snapshot.revisions[0]["metadata"]["ownerReferences"][0]["uid"] = json!("another");
    assert_eq!(Workload::of(&snapshot).unwrap().revisions.len(), 1);
}

#[test]
fn a_pod_that_is_ending_or_has_ended_is_not_counted() {
    let mut world = WorkloadFixture::one_revision().pods(1, 2, &crash_loop());
    world.pods[0]["metadata"]["deletionTimestamp"] = json!(NOW);
    world.pods[1]["status"]["phase"] = json!("Failed");
    assert!(read(&world).pods.is_empty());
}

#[test]
fn a_waiting_container_fails_as_its_reason_says() {
    for (reason, failure) in [
        ("ErrImagePull", PodFailure::ImagePull),
        ("ImagePullBackOff", PodFailure::ImagePull),
        ("InvalidImageName", PodFailure::ImagePull),
        ("ErrImageNeverPull", PodFailure::ImagePull),
        ("CreateContainerConfigError", PodFailure::ConfigError),
        ("CreateContainerError", PodFailure::StartError),
        ("RunContainerError", PodFailure::StartError),
        ("ContainerCreating", PodFailure::Starting),
        ("PodInitializing", PodFailure::Starting),
        ("SomethingNew", PodFailure::Starting),
    ] {
        assert_eq!(failure_of(&waiting(reason)), failure, "{reason}");
    }
}

#[test]
fn a_crash_loop_says_which_container_how_it_ended_and_how_long_it_ran() {
    let workload = read(&WorkloadFixture::two_revisions().pods(1, 1, &ready(3600)).pods(2, 1, &crash_loop()));
    let fact = &workload.failing_pods().next().unwrap().fact;
    assert_eq!(fact.failure, PodFailure::CrashLoop);
    assert_eq!((fact.container.as_str(), fact.exit_code, fact.ran_seconds), ("app", Some(1), Some(1)));
    assert_eq!((fact.restarts, fact.revision, fact.owner.as_str()), (3, Some(2), "checkout-2"));
    assert_eq!(workload.failing_pods().count(), 1);
    assert!(!workload.is_healthy());
}

#[test]
fn a_crash_loop_that_is_up_for_an_instant_and_counts_as_ready_is_still_one() {
    assert_eq!(failure_of(&running(3, 2, 1, 1, "Error")), PodFailure::CrashLoop);
    assert_eq!(failure_of(&running(70, 2, 90, 1, "Error")), PodFailure::CrashLoop);
    assert_eq!(failure_of(&running(3, 2, 1, 137, "OOMKilled")), PodFailure::OutOfMemory);
}

#[test]
fn a_container_that_settled_after_a_restart_does_not_fail() {
    assert_eq!(failure_of(&running(61, 2, 1, 1, "Error")), PodFailure::None);
    assert_eq!(failure_of(&running(5, 1, 90_000, 1, "Error")), PodFailure::None);
}

#[test]
fn the_first_end_of_a_container_is_not_yet_a_loop() {
    let ended = |restarts| {
        status(
            "Running",
            false,
            5,
            &json!({"ready": false, "restartCount": restarts, "state": {"terminated":
            {"exitCode": 1, "reason": "Error", "startedAt": ago(6), "finishedAt": ago(5)}}}),
        )
    };
    assert_eq!(failure_of(&ended(0)), PodFailure::Starting);
    assert_eq!(failure_of(&ended(1)), PodFailure::CrashLoop);
}

#[test]
fn a_container_that_cannot_be_started_is_a_start_error_during_back_off_too() {
    let mut pod = crash_loop();
    pod["containerStatuses"][0]["lastState"]["terminated"]["reason"] = json!("StartError");
    assert_eq!(failure_of(&pod), PodFailure::StartError);
}

/// Zero and 1970, in whatever time zone, are what the kubelet writes where it does not know.
#[test]
fn a_container_that_never_started_ran_for_no_time_at_all() {
    for zero in ["1970-01-01T00:00:00Z", "1970-01-01T01:00:00+01:00", "0001-01-01T00:00:00Z"] {
        let mut pod = never_started();
        pod["containerStatuses"][0]["lastState"]["terminated"]["startedAt"] = json!(zero);
        let workload = read(&WorkloadFixture::two_revisions().pods(2, 1, &pod));
        let fact = &workload.pods[0].fact;
        assert_eq!((fact.failure, fact.ran_seconds), (PodFailure::StartError, None), "{zero}");
        assert_eq!(proof(fact, now()), None, "{zero}");
        assert!(fact.obstacle.as_ref().unwrap().message.contains("no such file or directory"));
    }
    let mut unknown = not_ready(100);
    unknown["containerStatuses"][0]["state"]["running"]["startedAt"] = json!("0001-01-01T00:00:00Z");
    assert_eq!(failure_of(&unknown), PodFailure::Starting, "since when it runs is not known");
    let mut pod = WorkloadFixture::one_revision().pods(1, 1, &crash_loop()).pods.remove(0);
    pod["metadata"]["creationTimestamp"] = json!("1970-01-01T00:00:00Z");
    assert_eq!(pods::read(&pod, Some(1), now()).unwrap().fact.created_at, None);
}

#[test]
fn what_does_not_start_by_itself_is_told_from_what_takes_its_time() {
    for (status, failure) in [
        (unschedulable("0/1 nodes are available: 1 Insufficient cpu.", 44), PodFailure::Starting),
        (unschedulable("0/1 nodes are available: 1 Insufficient cpu.", 45), PodFailure::Unschedulable),
        (stuck_creating(44), PodFailure::Starting),
        (stuck_creating(45), PodFailure::StuckCreating),
        (in_init(60), PodFailure::Starting),
        (in_init(61), PodFailure::InitNotEnding),
    ] {
        assert_eq!(failure_of(&status), failure, "{status}");
    }
    // The sandbox is there and the image is large.
    let mut pulling = stuck_creating(300);
    pulling["conditions"][0]["status"] = json!("True");
    assert_eq!(failure_of(&pulling), PodFailure::Starting);
    // A kubelet that does not say whether it prepared the pod.
    let mut old = stuck_creating(300);
    old["conditions"].as_array_mut().unwrap().remove(0);
    assert_eq!(failure_of(&old), PodFailure::Starting);
}

#[test]
fn a_container_is_ended_by_its_probe_when_it_ran_for_as_long_as_the_probe_takes() {
    let with_probe = |ran: i64, code: i32| {
        let mut world = WorkloadFixture::one_revision();
        world.templates[0].0["spec"]["containers"][0]["livenessProbe"] =
            json!({"initialDelaySeconds": 60, "periodSeconds": 10, "failureThreshold": 3});
        let mut status = ended_by_liveness(ran);
        status["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] = json!(code);
        let fact = read(&world.pods(1, 1, &status)).pods.remove(0).fact;
        (fact.failure, fact.proven_after_seconds)
    };
    for code in [137, 143, 0] {
        assert_eq!(with_probe(92, code), (PodFailure::LivenessFailing, Some(131)), "{code}");
    }
    assert_eq!(with_probe(92, 1).0, PodFailure::CrashLoop, "it ended by itself");
    assert_eq!(with_probe(78, 0).0, PodFailure::LivenessFailing, "the first probe of a busy kubelet was late");
    assert_eq!(with_probe(77, 137).0, PodFailure::CrashLoop, "the probe cannot have failed yet");
    assert_eq!(with_probe(300, 137).0, PodFailure::CrashLoop, "the probe succeeded at first");
    assert_eq!(failure_of(&ended_by_liveness(92)), PodFailure::CrashLoop, "nothing probes it");
}

#[test]
fn a_revision_whose_pods_are_refused_says_so_as_long_as_it_lacks_some() {
    let message =
        r#"pods "checkout-2-" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2"#;
    let world =
        WorkloadFixture { refused: Some(message.into()), ..WorkloadFixture::two_revisions().pods(1, 2, &ready(3600)) };
    let workload = read(&world);
    assert_eq!(workload.refused().unwrap().1.message, message);
    assert!(workload.fails() && !workload.is_healthy());
    let mut snapshot = world.snapshot();
    snapshot.revisions[1]["status"]["replicas"] = json!(2);
    assert!(Workload::of(&snapshot).unwrap().refused().is_none());
}
#[test]
fn a_probe_fails_only_after_the_time_it_grants() {
    // Period 5 s, threshold 3, timeout 1 s.
    assert_eq!(failure_of(&not_ready(16)), PodFailure::Starting);
    assert_eq!(failure_of(&not_ready(17)), PodFailure::ProbeFailing);
}

#[test]
fn an_init_container_that_is_done_does_not_fail_and_one_that_loops_does() {
    let with_init = |init: Value| {
        let mut pod = waiting("PodInitializing");
        pod["initContainerStatuses"] = json!([init]);
        failure_of(&pod)
    };
    let done = json!({"name": "init", "ready": true, "restartCount": 1,
        "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}});
    assert_eq!(with_init(done), PodFailure::Starting);
    let looping = json!({"name": "init", "ready": false, "restartCount": 4,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 2, "reason": "Error"}}});
    assert_eq!(with_init(looping), PodFailure::CrashLoop);
}

#[test]
fn a_pod_that_no_node_takes_is_unschedulable() {
    let pod = json!({"phase": "Pending", "conditions":
        [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}]});
    assert_eq!(failure_of(&pod), PodFailure::Unschedulable);
}

/// The scheduler that the template names does not run: no condition says so.
#[test]
fn a_pod_that_no_scheduler_has_looked_at_is_unschedulable_too() {
    use crate::api::v1alpha1::TemplateField;
    for (age, scheduler, failure, field) in [
        (44, "tape", PodFailure::Starting, None),
        (45, "tape", PodFailure::Unschedulable, Some(TemplateField::NodeSelection)),
        // The cluster's own is down: no template is to blame.
        (45, "default-scheduler", PodFailure::Unschedulable, Some(TemplateField::Outside)),
    ] {
        let mut world = WorkloadFixture::one_revision();
        world.templates.push((template("shop:1", |t| t["spec"]["schedulerName"] = json!(scheduler)), age));
        let mut world = world.pods(2, 1, &json!({"phase": "Pending"}));
        let fact = |world: &WorkloadFixture| read(world).pods[0].fact.clone();
        let seen = fact(&world);
        assert_eq!(seen.failure, failure, "{age} {scheduler}");
        assert_eq!(seen.obstacle.and_then(|obstacle| obstacle.fields.first().copied()), field, "{age} {scheduler}");
        world.pods[0]["spec"]["nodeName"] = json!("worker-1");
        assert_eq!(fact(&world).failure, PodFailure::Starting, "a pod that somebody bound to a node");
    }
}

#[test]
fn a_healthy_workload_is_healthy() {
    assert!(read(&WorkloadFixture::one_revision().pods(1, 2, &ready(60))).is_healthy());
    assert!(!read(&WorkloadFixture::one_revision().pods(1, 1, &ready(60))).is_healthy());
}

#[test]
fn old_pods_that_serve_do_not_make_a_new_revision_healthy() {
    let starting = waiting("ContainerCreating");
    let world = WorkloadFixture { replicas: 1, ..WorkloadFixture::two_revisions() }
        .pods(1, 1, &ready(60))
        .pods(2, 1, &starting);
    assert!(!read(&world).is_healthy(), "nothing of revision 2 was ever ready");
}

#[test]
fn a_kind_without_revisions_is_refused_by_name_and_so_is_a_kind_of_another_group() {
    for (api_version, kind) in [
        ("apps/v1", "ReplicaSet"),
        ("batch/v1", "Job"),
        ("v1", "Pod"),
        ("argoproj.io/v1alpha1", "Rollout"),
        ("example.com/v1", "StatefulSet"),
        ("v1", "Deployment"),
    ] {
        let mut snapshot = WorkloadFixture::one_revision().snapshot();
        snapshot.object["apiVersion"] = json!(api_version);
        snapshot.object["kind"] = json!(kind);
        let error = Workload::of(&snapshot).unwrap_err().to_string();
        assert!(error.contains(&format!("{kind} checkout")), "{error}");
    }
}

fn changes(change: impl FnOnce(&mut Value)) -> RevisionDiffFact {
    let mut world = WorkloadFixture::one_revision();
    world.templates.push((template("shop:1", change), 60));
    let workload = read(&world);
    workload.diff(workload.revision(1).unwrap(), workload.revision(2).unwrap())
}

fn paths(diff: &RevisionDiffFact) -> Vec<(&str, &str, &str)> {
    diff.changes.iter().map(|c| (c.path.as_str(), c.before.as_str(), c.after.as_str())).collect()
}

#[test]
fn a_changed_image_is_one_change_at_a_path_with_the_containers_name() {
    let diff = changes(|t| t["spec"]["containers"][0]["image"] = json!("shop:2"));
    assert_eq!(paths(&diff), [("/spec/containers/app/image", "shop:1", "shop:2")]);
    assert_eq!((diff.from, diff.to, diff.restart_only), (1, 2, false));
}

#[test]
fn the_value_of_a_variable_with_a_secrets_name_is_not_shown() {
    let diff = changes(|t| t["spec"]["containers"][0]["env"][1]["value"] = json!("correct horse"));
    assert_eq!(paths(&diff), [("/spec/containers/app/env/DB_PASSWORD/value", "<redacted>", "<redacted>")]);
    let diff = changes(|t| {
        let env = t["spec"]["containers"][0]["env"].as_array_mut().unwrap();
        env.pop();
        env.push(json!({"name": "API_TOKEN", "value": "abc"}));
    });
    let shown = format!("{diff:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("abc"), "{shown}");
}

#[test]
fn a_variable_that_came_or_went_reads_as_a_change_of_its_value() {
    let diff = changes(|t| {
        let env = t["spec"]["containers"][0]["env"].as_array_mut().unwrap();
        env.remove(0);
        env.push(json!({"name": "TIMEOUT", "value": "2"}));
    });
    assert_eq!(
        paths(&diff),
        [("/spec/containers/app/env/LEVEL/value", "info", ""), ("/spec/containers/app/env/TIMEOUT/value", "", "2"),]
    );
}

#[test]
fn a_reference_to_a_secret_is_shown_by_name() {
    let diff = changes(|t| {
        t["spec"]["containers"][0]["env"][1] =
            json!({"name": "DB_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "gone", "key": "p"}}});
    });
    let added = diff.changes.iter().find(|c| c.path.ends_with("valueFrom")).unwrap();
    assert!(added.after.contains("gone"), "{added:?}");
}

#[test]
fn a_restart_alone_is_no_change_and_is_said_so() {
    let diff = changes(|t| t["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/restartedAt": NOW}));
    assert!(diff.changes.is_empty() && diff.restart_only);
}

#[test]
fn moved_containers_and_variables_are_no_change() {
    let diff = changes(|t| t["spec"]["containers"][0]["env"].as_array_mut().unwrap().reverse());
    assert!(diff.changes.is_empty() && !diff.restart_only);
}

#[test]
fn the_undo_candidate_is_the_newest_that_differs_in_more_than_a_restart() {
    let mut world = WorkloadFixture::two_revisions();
    let restarted =
        template("shop:2", |t| t["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/restartedAt": NOW}));
    world.templates.push((restarted, 30));
    assert_eq!(read(&world).undo_candidate().unwrap().fact.number, 1);
    assert!(read(&WorkloadFixture::one_revision()).undo_candidate().is_none());
}

/// Any JSON, a few levels deep, with keys that the workload looks for among others.
pub(crate) fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        Just(json!("2026-01-01T00:00:00Z")),
        Just(json!("app")),
        Just(json!("True")),
    ];
    leaf.prop_recursive(6, 96, 8, |inner| {
        let key = prop_oneof![
            prop::sample::select(vec![
                "metadata",
                "spec",
                "status",
                "name",
                "uid",
                "template",
                "labels",
                "annotations",
                "containers",
                "state",
                "containerStatuses",
                "lastState",
                "terminated",
                "running",
                "waiting",
                "reason",
                "startedAt",
                "finishedAt",
                "exitCode",
                "restartCount",
                "conditions",
                "type",
                "ownerReferences",
                "controller",
                "readinessProbe",
                "periodSeconds",
                "failureThreshold",
                "value",
                "env",
                "creationTimestamp",
                "kind",
            ])
            .prop_map(str::to_owned),
            "\\PC{0,6}",
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..8).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_is_read_without_a_panic(object in any_json(), set in any_json(), pod in any_json()) {
        let mut snapshot = RawWorkload { object, owners: vec![], primary: None, rivals: vec![], revisions: vec![set], pods: vec![pod],
            refusals: Refusals::Unread, read_at: now() };
        let _ = Workload::of(&snapshot);
        // Once more with enough identity to reach the depths.
        let good = WorkloadFixture::one_revision().pods(1, 1, &crash_loop()).snapshot();
        let mut set = good.revisions[0].clone();
        set["spec"]["template"] = snapshot.revisions[0].clone();
        let mut pod = good.pods[0].clone();
        pod["status"] = snapshot.pods[0].clone();
        pod["spec"] = snapshot.object.clone();
        let mut object = good.object.clone();
        object["status"] = snapshot.object;
        object["metadata"]["managedFields"] = snapshot.pods[0].clone();
        snapshot = RawWorkload { object, owners: vec![], primary: None, rivals: vec![], revisions: vec![good.revisions[0].clone(), set], pods: vec![pod],
            refusals: Refusals::Unread, read_at: now() };
        let workload = Workload::of(&snapshot).unwrap();
        for revision in &workload.revisions {
            workload.diff(revision, &workload.revisions[0]);
        }
    }

    #[test]
    fn two_templates_differ_exactly_when_a_change_is_found(a in any_json(), b in any_json()) {
        let diff = diff_templates(&a, 1, &b, 2);
        if diff.changes.is_empty() && !diff.restart_only {
            // Only the order of named items may differ.
            prop_assert_eq!(sorted(&a), sorted(&b));
        }
        prop_assert!(diff.changes.len() <= 64);
        prop_assert!(diff.changes.iter().all(|c| c.path.len() <= 512 && c.before.len() <= 1024 && c.after.len() <= 1024));
    }
}

/// For comparison: lists sorted, what the difference ignores left out.
fn sorted(value: &Value) -> Value {
    fn sort(value: &Value) -> Value {
        match value {
            Value::Array(list) => {
                let mut list: Vec<Value> = list.iter().map(sort).collect();
                list.sort_by_key(Value::to_string);
                Value::Array(list)
            }
            Value::Object(map) => Value::Object(map.iter().map(|(key, value)| (key.clone(), sort(value))).collect()),
            other => other.clone(),
        }
    }
    let mut value = value.clone();
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|key, value| {
            let empty = value.as_object().is_some_and(serde_json::Map::is_empty);
            !(key == "creationTimestamp" && value.is_null()) && !(empty && (key == "labels" || key == "annotations"))
        });
    }
    sort(&value)
}
