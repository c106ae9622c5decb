use serde_json::{Value, json};

use super::*;
use crate::api::v1alpha1::{EvictWrite, FieldWrite, ObjectRef, TargetReading};
use crate::core::workload::fixtures::{self, WorkloadFixture, ago, crash_loop, not_ready, ready, waiting};
use crate::core::workload::{Kind, RawWorkload};

fn read(world: &WorkloadFixture) -> Workload {
    Workload::of(&world.snapshot()).unwrap()
}

fn template(after: &Value) -> Write {
    Write::Field(FieldWrite { path: "/spec/template".into(), before: json!({}), after: after.clone() })
}

fn written(write: &Write, fired: i64) -> Written<'_> {
    Written {
        write,
        before: None,
        fired_at: ago(fired),
        advanced_at: ago(fired),
        healthy_since: None,
        settle: SignedDuration::from_secs(10),
        timeout: SignedDuration::from_secs(60),
    }
}

/// Healthy, of each kind.
fn healthy(kind: Kind) -> WorkloadFixture {
    WorkloadFixture::two_revisions().of(kind).pods(2, 2, &ready(30))
}

#[test]
fn health_has_to_last_before_it_counts_as_recovery() {
    for kind in Kind::ALL {
        let workload = read(&healthy(kind));
        let write = template(&workload.template);
        assert_eq!(progress(&workload, &written(&write, 40)), Progress::Settling, "{kind}");
        let since = |seconds| Written { healthy_since: Some(ago(seconds)), ..written(&write, 40) };
        assert_eq!(progress(&workload, &since(9)), Progress::Settling, "{kind}");
        assert_eq!(progress(&workload, &since(10)), Progress::Recovered, "{kind}");
    }
}

#[test]
fn no_replicas_and_an_unseen_generation_are_not_healthy() {
    for kind in Kind::ALL {
        assert!(read(&healthy(kind)).is_healthy(), "{kind}");
        let none = WorkloadFixture { replicas: 0, ..WorkloadFixture::one_revision().of(kind) };
        assert!(!read(&none).is_healthy(), "{kind}");
        let mut unseen = healthy(kind).snapshot();
        unseen.object["metadata"]["generation"] = json!(3);
        assert!(!Workload::of(&unseen).unwrap().is_healthy(), "{kind}");
    }
}

/// Pods of the current revision fail, and one of another serves.
fn failing(kind: Kind) -> Workload {
    read(&WorkloadFixture::two_revisions().of(kind).pods(1, 1, &ready(600)).pods(2, 1, &crash_loop()))
}

#[test]
fn what_is_not_healthy_in_time_and_no_worse_is_left() {
    for kind in Kind::ALL {
        let workload = failing(kind);
        let write = template(&workload.template);
        assert_eq!(progress(&workload, &written(&write, 59)), Progress::Waiting, "{kind}");
        let Progress::NotBetter(state) = progress(&workload, &written(&write, 60)) else { panic!("{kind} waits") };
        assert!(state.contains("1 of 2 replicas are ready") && state.contains("CrashLoop"), "{state}");
    }
}

#[test]
fn only_what_made_it_worse_is_taken_back() {
    let workload = failing(Kind::Deployment);
    let write = template(&workload.template);
    let before = |ready, serving| TargetReading { desired: 2, ready, serving, ..TargetReading::default() };
    for (before, worse) in [(before(1, 0), false), (before(2, 0), false), (before(1, 1), false), (before(2, 2), true)] {
        let written = Written { before: Some(&before), ..written(&write, 60) };
        assert_eq!(matches!(progress(&workload, &written), Progress::Worse(_)), worse, "{before:?}");
    }
}

#[test]
fn a_rollout_that_advances_or_may_still_come_is_waited_for() {
    // Its pod starts slowly: nothing fails, so what Kubernetes grants the rollout counts.
    let world = WorkloadFixture::two_revisions().pods(1, 1, &ready(600)).pods(2, 1, &waiting("ContainerCreating"));
    let slow = read(&world);
    let write = template(&slow.template);
    assert_eq!(progress(&slow, &written(&write, 599)), Progress::Waiting, "progressDeadlineSeconds is 600");
    assert!(matches!(progress(&slow, &written(&write, 600)), Progress::NotBetter(_)));
    let advanced = Written { advanced_at: ago(30), ..written(&write, 3_000) };
    assert_eq!(progress(&slow, &advanced), Progress::Waiting, "it advanced half a minute ago");
    let for_ever = Written { advanced_at: ago(30), ..written(&write, 7_200) };
    assert!(matches!(progress(&slow, &for_ever), Progress::NotBetter(_)), "a person looks after two hours");

    let mut own = WorkloadFixture { spec: json!({"minReadySeconds": 900}), ..world.clone() };
    assert_eq!(patience(&read(&own), SignedDuration::from_secs(60)).as_secs(), 900);
    own.spec = json!({"progressDeadlineSeconds": 45});
    assert_eq!(patience(&read(&own), SignedDuration::from_secs(60)).as_secs(), 60, "never less than what is set");
    let set = WorkloadFixture::two_revisions().of(Kind::StatefulSet).pods(2, 1, &waiting("ContainerCreating"));
    assert_eq!(patience(&read(&set), SignedDuration::from_secs(60)).as_secs(), 60, "it has no such deadline");
    assert_eq!(patience(&failing(Kind::Deployment), SignedDuration::from_secs(60)).as_secs(), 60, "all its pods fail");
}

#[test]
fn what_people_stopped_after_the_write_is_theirs() {
    let workload = failing(Kind::Deployment);
    let write = template(&workload.template);
    let mut none = workload.clone();
    none.state.desired = 0;
    let mut paused = workload;
    paused.state.paused = true;
    for stopped in [none, paused] {
        assert!(matches!(progress(&stopped, &written(&write, 1)), Progress::ChangedByOthers(_)));
    }
}

#[test]
fn a_field_that_somebody_else_changed_is_left_to_them() {
    let workload = read(&healthy(Kind::Deployment));
    let write = |path: &str, after: Value| Write::Field(FieldWrite { path: path.into(), before: json!(1), after });
    let changed = |write: &Write| matches!(progress(&workload, &written(write, 5)), Progress::ChangedByOthers(_));
    assert!(changed(&template(&json!({"spec": {}}))));
    assert!(!changed(&template(&workload.template)));
    // Whatever field it is: that one counts, and no other.
    assert!(!changed(&write("/spec/replicas", json!(2))));
    assert!(changed(&write("/spec/replicas", json!(3))));
    assert!(!changed(&write("/spec/template/spec/containers/0/image", json!("shop:2"))));
    assert!(changed(&write("/spec/template/spec/containers/0/image", json!("shop:1"))));
    assert!(changed(&write("/spec/templates", workload.template.clone())));
    assert!(changed(&write("/spec/paused", json!(true))));
    let pod = Write::Evict(EvictWrite { pod: ObjectRef::default() });
    assert!(!changed(&pod));
}

/// Two of three replicas serve, and the third is stuck at the revision that was taken back.
fn stuck(world: WorkloadFixture) -> WorkloadFixture {
    let mut world = WorkloadFixture { replicas: 3, ..world.of(Kind::StatefulSet) };
    // Returned to: the template of the newest is that which the first two run.
    world.templates.swap(0, 1);
    world.pods(2, 2, &ready(600)).pods(1, 1, &crash_loop())
}

fn names(snapshot: &RawWorkload) -> Vec<String> {
    let workload = Workload::of(snapshot).unwrap();
    let write = template(&workload.template);
    stuck_pods(&workload, &write).iter().map(|pod| pod.object.name.clone()).collect()
}

#[test]
fn a_pod_that_keeps_an_ordered_stateful_set_from_going_on_is_stuck() {
    let world = stuck(WorkloadFixture::two_revisions());
    assert_eq!(names(&world.snapshot()), ["checkout-2"]);
    for status in [waiting("ImagePullBackOff"), waiting("CreateContainerConfigError"), not_ready(100)] {
        let mut world = world.clone();
        world.pods[2]["status"] = status;
        assert_eq!(names(&world.snapshot()), ["checkout-2"]);
    }
}

#[test]
fn nothing_is_stuck_where_the_controller_replaces_pods_or_may_still_do_so() {
    let world = stuck(WorkloadFixture::two_revisions());
    assert!(names(&stuck(WorkloadFixture::two_revisions()).parallel().snapshot()).is_empty(), "policy Parallel");
    assert!(names(&stuck(WorkloadFixture::two_revisions()).on_delete().snapshot()).is_empty(), "strategy OnDelete");
    assert!(names(&stuck(WorkloadFixture::two_revisions()).partition(3).snapshot()).is_empty(), "below the partition");
    for kind in [Kind::Deployment, Kind::DaemonSet] {
        let mut other = WorkloadFixture { replicas: 3, ..WorkloadFixture::two_revisions().of(kind) };
        other.templates.swap(0, 1);
        assert!(names(&other.pods(2, 2, &ready(600)).pods(1, 1, &crash_loop()).snapshot()).is_empty(), "{kind}");
    }

    let mut unseen = world.snapshot();
    unseen.object["metadata"]["generation"] = json!(3);
    assert!(names(&unseen).is_empty(), "its controller has not seen the write");

    let mut starting = world.clone();
    starting.pods[2]["status"] = waiting("ContainerCreating");
    assert!(names(&starting.snapshot()).is_empty(), "it may still become ready");
    let mut serving = world.clone();
    serving.pods[2]["status"] = ready(600);
    assert!(names(&serving.snapshot()).is_empty(), "it is ready: the rollout replaces it");

    let current = WorkloadFixture { replicas: 3, ..WorkloadFixture::two_revisions().of(Kind::StatefulSet) };
    let current = current.pods(1, 2, &ready(600)).pods(2, 1, &crash_loop());
    assert!(names(&current.snapshot()).is_empty(), "it runs what was asked for");

    let workload = read(&world);
    assert!(stuck_pods(&workload, &template(&json!({}))).is_empty(), "somebody changed the template since");
    let evict = Write::Evict(EvictWrite { pod: workload.pods[2].object.clone() });
    assert!(stuck_pods(&workload, &evict).is_empty(), "no template was written");
}

#[test]
fn a_real_cluster_shows_stuck_pods_and_the_lowest_goes_first() {
    let read = |json| fixtures::recorded(json);
    assert_eq!(names(&read(fixtures::STATEFUL_SET_UNDONE)), ["ledger-2"]);
    assert_eq!(names(&read(fixtures::STATEFUL_SET_TWO_STUCK)), ["ledger-1", "ledger-2"]);
    assert!(names(&read(fixtures::STATEFUL_SET_BROKEN)).is_empty(), "nothing was taken back yet");
    assert!(names(&read(fixtures::DAEMON_SET_UNDONE)).is_empty());
}

#[test]
fn ordinals_sort_by_number() {
    let mut world = WorkloadFixture { replicas: 12, ..WorkloadFixture::two_revisions().of(Kind::StatefulSet) };
    world.templates.swap(0, 1);
    let world = world.pods(2, 2, &ready(600)).pods(1, 10, &crash_loop());
    let found = names(&world.snapshot());
    assert_eq!((found.len(), found[0].as_str(), found[9].as_str()), (10, "checkout-2", "checkout-11"));
}
