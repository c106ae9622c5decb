//! The rules hold for Deployments, StatefulSets and DaemonSets alike.

use super::*;

fn read(snapshot: &RawWorkload) -> Workload {
    Workload::of(snapshot).unwrap()
}

/// What the rules say of a workload alone.
fn of(workload: &Workload, alert: Time) -> Diagnosis {
    let facts = workload.facts();
    diagnose(FactBundle { target: Some(&workload.object), alert_started_at: alert, facts: &facts })
}

#[test]
fn a_bad_rollout_of_each_kind_is_proposed_to_be_undone_with_the_command_of_its_kind() {
    for kind in Kind::ALL {
        let world = WorkloadFixture::two_revisions().of(kind).pods(1, 2, &ready(3600)).pods(2, 1, &crash_loop());
        let diagnosis = of(&read(&world.snapshot()), ago(60));
        assert_eq!((diagnosis.cause, undo_to(&diagnosis)), (Cause::BadRollout, Some(1)), "{kind}");
        assert_eq!((diagnosis.suspected_revision, diagnosis.confidence), (Some(2), 95), "{kind}");
        let command = format!("rollout undo {}/checkout --to-revision=1.", kind.as_str().to_lowercase());
        assert!(diagnosis.advice.contains(&command), "{}", diagnosis.advice);
        let by_hand = diagnosis.advice.contains("does not replace pods that are not ready");
        assert_eq!(by_hand, kind == Kind::StatefulSet, "{}", diagnosis.advice);
    }
}

#[test]
fn the_other_rules_hold_for_each_kind() {
    for kind in Kind::ALL {
        let cause = |world: WorkloadFixture| of(&read(&world.snapshot()), ago(60)).cause;
        let one = || WorkloadFixture::one_revision().of(kind);
        let two = || WorkloadFixture::two_revisions().of(kind);
        let mut first = one();
        first.templates[0].1 = 120;
        assert_eq!(cause(first.pods(1, 2, &crash_loop())), Cause::NeverWorked, "{kind}");
        assert_eq!(cause(one().pods(1, 2, &crash_loop())), Cause::ConfigurationChanged, "{kind}");
        assert_eq!(cause(two().pods(2, 2, &ready(600))), Cause::Recovered, "{kind}");
        assert_eq!(cause(two().pods(1, 2, &ready(600))) == Cause::Recovered, kind == Kind::Deployment, "{kind}");
        assert_eq!(cause(two().pods(1, 1, &crash_loop()).pods(2, 1, &crash_loop())), Cause::Unknown, "{kind}");
    }
}

#[test]
fn a_stateful_set_is_well_when_all_from_its_partition_on_are_updated() {
    let world = WorkloadFixture { replicas: 3, ..WorkloadFixture::two_revisions().of(Kind::StatefulSet).partition(2) };
    let world = world.pods(1, 2, &ready(600)).pods(2, 1, &ready(600));
    assert_eq!(of(&read(&world.snapshot()), ago(60)).cause, Cause::Recovered);
}

#[test]
fn with_on_delete_the_advice_is_to_delete_the_failing_pods_too() {
    let world = WorkloadFixture::two_revisions().of(Kind::DaemonSet).on_delete();
    let diagnosis = of(&read(&world.pods(1, 1, &ready(3600)).pods(2, 1, &crash_loop()).snapshot()), ago(60));
    assert!(diagnosis.advice.contains("replaces no pods"), "{}", diagnosis.advice);
}

#[test]
fn what_a_real_cluster_shows_of_a_bad_rollout_is_one() {
    for (json, to) in [(STATEFUL_SET_BROKEN, 2), (DAEMON_SET_BROKEN, 2)] {
        let workload = read(&recorded(json));
        let diagnosis = of(&workload, workload.read_at);
        assert_eq!((diagnosis.cause, undo_to(&diagnosis)), (Cause::BadRollout, Some(to)), "{diagnosis:?}");
        assert_eq!(candidate(&workload, None), diagnosis.proposal);
    }
    for json in [STATEFUL_SET_UNDONE, STATEFUL_SET_TWO_STUCK, STATEFUL_SET_PARTITION, DAEMON_SET_UNDONE] {
        assert_eq!(candidate(&read(&recorded(json)), None), None);
    }
}

#[test]
fn the_candidate_is_what_a_diagnosis_of_the_same_reading_proposes() {
    for kind in Kind::ALL {
        let two = || WorkloadFixture::two_revisions().of(kind);
        let mut three = two();
        three.templates.push((template("shop:3", |_| {}), 60));
        let worlds = [
            two().pods(1, 2, &ready(3600)).pods(2, 1, &crash_loop()),
            two().pods(2, 2, &waiting("ErrImagePull")),
            two().pods(1, 1, &crash_loop()).pods(2, 1, &crash_loop()),
            two().pods(2, 2, &ready(600)),
            three.pods(1, 2, &ready(3600)).pods(3, 1, &crash_loop()),
            WorkloadFixture::one_revision().of(kind).pods(1, 2, &crash_loop()),
        ];
        let mut proposed = 0;
        for world in worlds {
            let workload = read(&world.snapshot());
            for alert in [ago(600), ago(60), now()] {
                let candidate = candidate(&workload, Some(alert));
                assert_eq!(candidate, of(&workload, alert).proposal, "{kind}");
                proposed += i32::from(candidate.is_some());
            }
        }
        assert_eq!(proposed, 6, "{kind}");
    }
}

#[test]
fn without_the_alerts_begin_only_the_rule_about_it_is_left_out() {
    let workload = read(&WorkloadFixture::two_revisions().pods(2, 2, &crash_loop()).snapshot());
    assert_eq!(candidate(&workload, Some(ago(600))), None, "the alert began before the release");
    assert_eq!(candidate(&workload, None), candidate(&workload, Some(ago(60))));
    assert!(candidate(&workload, None).is_some());
    // A container that ran for a while worked, whenever the alert began.
    let mut ran = crash_loop();
    ran["containerStatuses"][0]["lastState"]["terminated"]["startedAt"] = json!(ago(80));
    assert_eq!(candidate(&read(&WorkloadFixture::two_revisions().pods(2, 2, &ran).snapshot()), None), None);
}

#[test]
fn the_workload_and_the_facts_choose_the_same_revision_to_return_to() {
    for kind in Kind::ALL {
        // More revisions than facts list, of which only the oldest serves.
        let mut world = WorkloadFixture::one_revision().of(kind);
        world.templates.extend((2..20).map(|n| (template(&format!("shop:{n}"), |_| {}), 2000 - n * 100)));
        let workload = read(&world.pods(1, 2, &ready(3600)).pods(19, 1, &crash_loop()).snapshot());
        let diagnosis = of(&workload, ago(60));
        assert_eq!(workload.undo_candidate().map(|revision| revision.fact.number), Some(1), "{kind}");
        assert_eq!(undo_to(&diagnosis), Some(1), "{kind}");
    }
}

#[test]
fn a_kind_without_revisions_is_unknown_and_the_advice_is_about_that_kind() {
    for (kind, word) in [
        ("Job", "delete it and create a corrected one"),
        ("CronJob", "suspend"),
        ("Pod", "No controller replaces it"),
        ("ReplicaSet", "No Deployment owns it"),
        ("Rollout", "describe rollout/checkout"),
    ] {
        let target = ObjectRef { kind: kind.into(), ..target() };
        let facts = number([failed(SourceName::Workload, "Unsupported")]);
        let diagnosis = diagnose(FactBundle { target: Some(&target), alert_started_at: now(), facts: &facts });
        assert_eq!((diagnosis.cause, diagnosis.proposal), (Cause::Unknown, None));
        assert!(diagnosis.advice.contains(word), "{kind}: {}", diagnosis.advice);
        assert!(diagnosis.hypothesis.contains(&format!("is a {kind}")), "{}", diagnosis.hypothesis);
        assert!(diagnosis.advice.len() < 400, "{}", diagnosis.advice.len());
    }
}
