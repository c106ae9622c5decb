//! What the three kinds have in common and where they differ, on objects as a real API server printed them and as
//! builders make them.

use proptest::{prelude::*, strategy::Strategy as Generator};
use serde_json::{Value, json};

use super::fixtures::{self, WorkloadFixture, crash_loop, ready, recorded, template};
use super::tests::any_json;
use super::{Strategy, *};
use crate::api::v1alpha1::PodFailure;

fn golden(json: &str) -> Workload {
    Workload::of(&recorded(json)).unwrap()
}

fn read(world: &WorkloadFixture) -> Workload {
    Workload::of(&world.snapshot()).unwrap()
}

/// Number, whether it is current, replicas and ready replicas of each revision, newest first.
fn numbers(workload: &Workload) -> Vec<(i64, bool, i32, i32)> {
    workload
        .revisions
        .iter()
        .map(|revision| &revision.fact)
        .map(|f| (f.number, f.current, f.replicas, f.ready))
        .collect()
}

fn counts(workload: &Workload) -> (i32, i32, i32, i32) {
    let WorkloadFact { desired, updated, ready, available, .. } = workload.state;
    (desired, updated, ready, available)
}

#[test]
fn a_recorded_stateful_set_shows_its_revisions_and_what_each_pod_runs() {
    let workload = golden(fixtures::STATEFUL_SET_BROKEN);
    assert_eq!((workload.kind, workload.object.name.as_str()), (Kind::StatefulSet, "ledger"));
    assert_eq!(numbers(&workload), [(3, true, 1, 0), (2, false, 2, 2), (1, false, 0, 0)]);
    assert_eq!((counts(&workload), workload.state.revision), ((3, 1, 2, 2), Some(3)));
    assert_eq!(workload.strategy, Strategy::RollingUpdate { partition: 0, ordered: true });
    let pods = |number: i64| workload.pods_of_revision(number).map(|pod| pod.object.name.as_str()).collect::<Vec<_>>();
    assert_eq!((pods(2), pods(3)), (vec!["ledger-0", "ledger-1"], vec!["ledger-2"]));
    let failing: Vec<_> = workload.failing_pods().map(|pod| (pod.fact.failure, workload.ordinal(pod))).collect();
    assert_eq!(failing, [(PodFailure::ImagePull, Some(2))]);
    assert_eq!(workload.undo_candidate().unwrap().fact.number, 2);
    assert_eq!(workload.current().unwrap().object.kind, "ControllerRevision");
    assert!(workload.annotations.contains_key("team") && workload.state.owners.is_empty());
}

#[test]
fn a_recorded_daemon_set_shows_its_revisions_and_what_each_pod_runs() {
    let workload = golden(fixtures::DAEMON_SET_BROKEN);
    assert_eq!(numbers(&workload), [(3, true, 1, 0), (2, false, 0, 0), (1, false, 0, 0)]);
    assert_eq!((counts(&workload), workload.state.revision), ((1, 1, 0, 0), Some(3)));
    assert_eq!(workload.strategy, Strategy::RollingUpdate { partition: 0, ordered: false });
    assert_eq!(workload.failing_pods().count(), 1);
    assert!(!workload.is_healthy());
}

#[test]
fn a_rollback_gives_the_recorded_revision_a_new_number_and_leaves_its_object() {
    for (before, after) in [
        (fixtures::STATEFUL_SET_BROKEN, fixtures::STATEFUL_SET_UNDONE),
        (fixtures::DAEMON_SET_BROKEN, fixtures::DAEMON_SET_UNDONE),
    ] {
        let (before, after) = (golden(before), golden(after));
        let (from, to) = (before.revision(1).unwrap(), after.current().unwrap());
        assert_eq!((to.fact.number, &to.object, &to.template_hash), (4, &from.object, &from.template_hash));
        assert_eq!(to.fact.created_at, from.fact.created_at);
        assert!(after.revision(1).is_none());
        // What a rollback would have written is what `kubectl rollout undo` wrote.
        assert_eq!(from.template, after.template);
    }
    assert!(golden(fixtures::DAEMON_SET_UNDONE).is_healthy());
    assert!(!golden(fixtures::STATEFUL_SET_UNDONE).is_healthy());
}

#[test]
fn every_recorded_template_is_what_the_api_server_prints_in_the_workload() {
    for json in [
        fixtures::STATEFUL_SET_BROKEN,
        fixtures::STATEFUL_SET_UNDONE,
        fixtures::STATEFUL_SET_TWO_STUCK,
        fixtures::STATEFUL_SET_PARTITION,
        fixtures::DAEMON_SET_BROKEN,
        fixtures::DAEMON_SET_UNDONE,
    ] {
        let workload = golden(json);
        assert_eq!(workload.current().unwrap().template, workload.template);
        assert!(workload.pods.iter().all(|pod| pod.fact.revision.is_some()));
    }
}

#[test]
fn with_a_partition_only_the_ordinals_from_it_on_have_to_be_updated() {
    let workload = golden(fixtures::STATEFUL_SET_PARTITION);
    assert_eq!((counts(&workload), workload.state.held_back), ((3, 1, 3, 3), 2));
    assert!(workload.is_healthy());
    assert_eq!(workload.pods.iter().filter(|pod| workload.is_replaced(pod)).count(), 1);

    let world = || WorkloadFixture { replicas: 3, ..WorkloadFixture::two_revisions().of(Kind::StatefulSet) };
    assert!(!read(&world().pods(1, 2, &ready(60)).pods(2, 1, &ready(60))).is_healthy(), "without a partition");
    let partition = |world: WorkloadFixture| read(&world).is_healthy();
    assert!(partition(world().partition(2).pods(1, 2, &ready(60)).pods(2, 1, &ready(60))));
    assert!(partition(world().partition(9).pods(1, 3, &ready(60))), "a partition above all replicas");
    assert!(!partition(world().partition(2).pods(1, 3, &ready(60))), "the pod above it is of the earlier revision");
    assert!(!partition(world().partition(2).pods(1, 2, &ready(60)).pods(2, 1, &crash_loop())));
    // One of the current revision below the partition does not stand in for the one above it.
    let mut wrong = world().partition(2).pods(2, 1, &ready(60)).pods(1, 2, &ready(60)).snapshot();
    wrong.object["status"]["updatedReplicas"] = json!(1);
    assert!(!Workload::of(&wrong).unwrap().is_healthy());
}

#[test]
fn the_partition_counts_from_the_first_ordinal() {
    let mut world = WorkloadFixture { replicas: 2, ..WorkloadFixture::two_revisions().of(Kind::StatefulSet) };
    world.spec = json!({"ordinals": {"start": 5}, "updateStrategy": {"rollingUpdate": {"partition": 1}}});
    let mut world = world.pods(1, 1, &ready(60)).pods(2, 1, &ready(60));
    for (index, pod) in world.pods.iter_mut().enumerate() {
        pod["metadata"]["name"] = json!(format!("checkout-{}", 5 + index));
    }
    let workload = read(&world);
    assert_eq!(workload.pods.iter().map(|pod| workload.ordinal(pod)).collect::<Vec<_>>(), [Some(0), Some(1)]);
    assert!(workload.is_healthy());
}

#[test]
fn on_delete_means_that_nothing_is_rolled_out_and_what_is_not_known_means_the_same() {
    for kind in [Kind::StatefulSet, Kind::DaemonSet] {
        let world = WorkloadFixture::two_revisions().of(kind).on_delete().pods(1, 2, &ready(60));
        let workload = read(&world);
        assert_eq!((workload.strategy, workload.state.held_back), (Strategy::OnDelete, 2), "{kind}");
        assert!(workload.is_healthy() && !workload.strategy.rolls_out(), "{kind}");
        let strategy = |name: &str| Strategy::of(kind, &json!({"spec": {"updateStrategy": {"type": name}}}));
        assert_eq!(strategy("BlueGreen"), Strategy::OnDelete);
        assert!(strategy("RollingUpdate").rolls_out());
    }
    let deployment = |name: &str| Strategy::of(Kind::Deployment, &json!({"spec": {"strategy": {"type": name}}}));
    assert_eq!(deployment("Recreate"), Strategy::Recreate);
    assert_eq!(deployment("RollingUpdate"), Strategy::default());
}

#[test]
fn only_a_deployment_can_be_paused() {
    for kind in Kind::ALL {
        let mut world = WorkloadFixture::one_revision().of(kind);
        world.spec = json!({"paused": true});
        assert_eq!(read(&world).state.paused, kind == Kind::Deployment);
    }
}

#[test]
fn pods_and_revisions_of_others_are_left_out_and_a_pod_of_an_unknown_revision_says_so() {
    for kind in Kind::ALL {
        let world = WorkloadFixture::two_revisions().of(kind).pods(1, 1, &ready(60)).pods(2, 1, &ready(60));
        let mut snapshot = world.snapshot();
        snapshot.revisions[0]["metadata"]["ownerReferences"][0]["uid"] = json!("another");
        let workload = Workload::of(&snapshot).unwrap();
        assert_eq!(numbers(&workload).len(), 1, "{kind}");
        // A Deployment's pods belong to it by its ReplicaSets only.
        let unknown = workload.pods.iter().filter(|pod| pod.fact.revision.is_none()).count();
        let (pods, expected) = if kind == Kind::Deployment { (1, 0) } else { (2, 1) };
        assert_eq!((workload.pods.len(), unknown), (pods, expected), "{kind}");

        let mut snapshot = world.snapshot();
        snapshot.pods[0]["metadata"]["ownerReferences"][0]["uid"] = json!("another");
        snapshot.pods[1]["metadata"]["ownerReferences"] = json!([]);
        assert!(Workload::of(&snapshot).unwrap().pods.is_empty(), "{kind}");
    }
}

#[test]
fn every_owner_counts_whether_it_calls_itself_the_controller_or_not() {
    let owner =
        |kind: &str, controller: Value| json!({"kind": kind, "name": "x", "uid": "u", "controller": controller});
    for kind in Kind::ALL {
        let mut snapshot = WorkloadFixture::one_revision().of(kind).snapshot();
        snapshot.object["metadata"]["ownerReferences"] =
            json!([owner("Backup", Value::Null), owner("Shop", json!(true)), owner("Audit", json!(false))]);
        let shop = ObjectRef { kind: "Shop".into(), name: "x".into(), ..ObjectRef::default() };
        snapshot.owners = vec![shop];
        assert_eq!(Workload::of(&snapshot).unwrap().state.owners, ["Shop/x", "Backup/x", "Audit/x"]);
        let many = (0..100).map(|index| owner(&format!("Kind{index}"), Value::Null)).collect::<Vec<_>>();
        snapshot.object["metadata"]["ownerReferences"] = json!(many);
        assert_eq!(Workload::of(&snapshot).unwrap().state.owners.len(), 8);
    }
}

#[test]
fn a_revision_of_an_older_api_server_is_written_as_this_one_prints_it() {
    let with_null = |template: &mut Value| template["metadata"]["creationTimestamp"] = Value::Null;
    let without = |template: &mut Value| _ = template["metadata"].as_object_mut().unwrap().remove("creationTimestamp");
    for kind in [Kind::StatefulSet, Kind::DaemonSet] {
        let mut world = WorkloadFixture::one_revision().of(kind);
        // Recorded with the null, printed without it.
        world.templates = vec![(template("shop:1", with_null), 600), (template("shop:2", without), 60)];
        let workload = read(&world);
        assert_eq!(workload.revision(1).unwrap().template, template("shop:1", without), "{kind}");
        let before = workload.revision(1).unwrap().template_hash.clone();
        // The other way round: a downgrade.
        world.templates = vec![(template("shop:1", without), 600), (template("shop:2", with_null), 60)];
        let workload = read(&world);
        assert_eq!(workload.revision(1).unwrap().template, template("shop:1", with_null), "{kind}");
        assert_eq!(workload.revision(1).unwrap().template_hash, before, "{kind}: a mark as known good is lost");
    }
}

#[test]
fn fields_are_found_by_their_path_in_the_object() {
    for kind in Kind::ALL {
        let snapshot = WorkloadFixture::two_revisions().of(kind).snapshot();
        let workload = Workload::of(&snapshot).unwrap();
        for path in [
            "/spec/template",
            "/spec/template/spec/containers/0/image",
            "/spec/selector",
            "/spec/selector/matchLabels/app",
        ] {
            assert_eq!(workload.field(path), snapshot.object.pointer(path), "{kind} {path}");
            assert!(workload.field(path).is_some(), "{kind} {path}");
        }
        for path in ["", "/spec", "/metadata/name", "/spec/templatex", "/specs/selector", "/spec/template/none"] {
            assert_eq!(workload.field(path), None, "{kind} {path}");
        }
    }
}

#[test]
fn the_facts_are_those_of_the_three_sources_in_their_order() {
    for kind in Kind::ALL {
        let workload =
            read(&WorkloadFixture::two_revisions().of(kind).pods(1, 1, &ready(600)).pods(2, 1, &crash_loop()));
        let drafts = [workload.workload_facts(), workload.pod_facts(), workload.history_facts()].concat();
        assert_eq!(workload.facts(), number(drafts));
        assert_eq!(workload.facts()[0].id, "f1");
    }
}

fn any_kind() -> impl Generator<Value = Kind> {
    prop::sample::select(Kind::ALL.to_vec())
}

proptest! {
    #[test]
    fn what_a_controller_adds_to_a_template_is_taken_off_and_nothing_else(kind in any_kind(), spec in any_json()) {
        let mut world = WorkloadFixture::one_revision().of(kind);
        let with = template("shop:1", |template| template["spec"]["extra"] = spec);
        world.templates = vec![(with.clone(), 600), (template("shop:2", |_| {}), 60)];
        let snapshot = world.snapshot();
        prop_assert_eq!(recorded_template(kind, &snapshot.revisions[0]), Some(with.clone()));
        prop_assert_eq!(recorded_number(kind, &snapshot.revisions[0]), Some(1));
        let workload = Workload::of(&snapshot).unwrap();
        prop_assert_eq!(&workload.revision(1).unwrap().template, &with);
        // Written back, it is the current one again.
        let mut undone = snapshot.clone();
        undone.object["spec"]["template"] = with;
        let undone = Workload::of(&undone).unwrap();
        prop_assert_eq!(undone.current().map(|current| current.fact.number), Some(1));
    }

    #[test]
    fn any_json_of_any_kind_is_read_without_a_panic(
        kind in any_kind(), object in any_json(), revision in any_json(), pod in any_json(),
    ) {
        let good = WorkloadFixture::two_revisions().of(kind).pods(1, 1, &crash_loop()).pods(2, 1, &ready(9)).snapshot();
        let mut snapshot = good.clone();
        for (part, with) in [(&mut snapshot.object, &object), (&mut snapshot.revisions[0], &revision)] {
            for field in ["spec", "status", "data", "revision"] {
                if let Some(value) = with.get(field) {
                    part[field] = value.clone();
                }
            }
        }
        // A workload without a template is refused; what else is in its spec may be anything.
        match &mut snapshot.object["spec"] {
            Value::Object(spec) => _ = spec.insert("template".into(), good.object["spec"]["template"].clone()),
            spec => *spec = good.object["spec"].clone(),
        }
        snapshot.pods[0]["metadata"]["labels"] = pod.clone();
        snapshot.pods[1]["status"] = pod;
        let workload = Workload::of(&snapshot).unwrap();
        workload.is_healthy();
        workload.facts();
        workload.undo_candidate();
    }
}
