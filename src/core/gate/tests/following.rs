//! Taking a repair back, completing it, and what the executor sees for itself.

use serde_json::json;

use super::super::testing::{GateFixture, at, bad_rollout, failing_everywhere, object, pod, policy, reading};
use super::super::*;
use crate::api::v1alpha1::{BreakerState, PodFailure, TargetReading, Undo, Verify};
use crate::core::workload::Kind;

/// The Remediation of a bad rollout.
pub fn repair_of(world: &GateFixture) -> RemediationSpec {
    let Judgement { decision, prediction, .. } = world.judge();
    let Prediction { action, write, provenance, undo, .. } = prediction.unwrap();
    RemediationSpec {
        incident: "inc".into(),
        action_id: decision.action_id.unwrap(),
        digest: decision.digest.unwrap(),
        action,
        purpose: Purpose::Repair,
        follows: None,
        target: world.reading.object.clone(),
        write,
        provenance,
        verify: Verify { settle_seconds: 10, timeout_seconds: 300 },
        undo,
        request_id: "r".into(),
    }
}

/// The repair was written: the earlier template is the current one, and the mark of our write is on the object.
fn written(world: &mut GateFixture, repair: &RemediationSpec) {
    world.reading.template = world.reading.revisions[1].template.clone();
    world.reading.revisions[0].fact.current = false;
    world.reading.revisions[1].fact.current = true;
    world.reading.annotations.insert("backstop.dev/last-action".into(), repair.action_id.clone());
    world.diagnosis = None;
}

/// A rollback that was written and did not help.
pub fn taking_back() -> (GateFixture, RemediationSpec) {
    let mut world = bad_rollout();
    let repair = repair_of(&world);
    // More pods of the value before were ready right before it was taken back than of any are now.
    world.before_write = Some(TargetReading { desired: 3, ready: 3, serving: 3, ..TargetReading::default() });
    written(&mut world, &repair);
    (world, repair)
}

/// A rollback of a StatefulSet that waits for a pod of the bad revision.
pub fn replacement() -> (GateFixture, RemediationSpec, ObjectRef) {
    let mut world = bad_rollout();
    let set = object("StatefulSet", "api");
    world.target = Ok(set.clone());
    world.reading.object = set.clone();
    world.reading.kind = Kind::StatefulSet;
    world.proposal().target = set.clone();
    world.diagnosis().suspect = None;
    world.reading.pods = vec![pod("api-0", 1, PodFailure::None), pod("api-1", 2, PodFailure::CrashLoop)];
    let repair = repair_of(&world);
    written(&mut world, &repair);
    (world, repair, object("Pod", "api-1"))
}

#[test]
fn a_repair_that_did_not_help_is_taken_back_exactly_and_counted() {
    let (world, repair) = taking_back();
    let Judgement { decision, prediction, charge, .. } = judge_undo(&world.case(), &repair);
    assert_eq!(decision.outcome, DecisionOutcome::Act, "{:#?}", decision.checks);
    let (undo, repaired) = (prediction.unwrap(), repair.write.field().unwrap());
    let field = undo.write.field().unwrap();
    assert_eq!((&field.before, &field.after), (&repaired.after, &repaired.before));
    let charge = charge.unwrap();
    assert!(charge.undo);
    assert_eq!(Some(charge.action_id), decision.action_id);
    assert_ne!(decision.action_id, Some(repair.action_id));
}

#[test]
fn what_people_forbid_after_the_repair_stops_taking_it_back() {
    type Bend = fn(&mut GateFixture);
    let bends: [(Bend, Reason); 5] = [
        (|w| w.mode = Some("suggest".into()), Reason::ModeForbids),
        (
            |w| {
                w.reading.annotations.insert("backstop.dev/protected".into(), "true".into());
            },
            Reason::Protected,
        ),
        (
            |w| {
                let always = json!([{"kind": "deny", "schedule": "* * * * *", "durationSeconds": 3600}]);
                w.policies = vec![policy(json!({"mode": "auto", "windows": always}))];
            },
            Reason::OutsideWindow,
        ),
        (|w| w.policies = vec![policy(json!({"mode": "observe"}))], Reason::ModeForbids),
        (|w| w.reading.template = json!({"spec": {}}), Reason::ChangedByOthers),
    ];
    for (bend, reason) in bends {
        let (mut world, repair) = taking_back();
        bend(&mut world);
        let judgement = judge_undo(&world.case(), &repair);
        assert_eq!((judgement.decision.outcome, judgement.reason), (DecisionOutcome::Escalate, reason));
    }
}

#[test]
fn budgets_the_breaker_a_storm_and_a_closed_allow_window_do_not_keep_a_bad_write_in_place() {
    let (mut world, repair) = taking_back();
    world.mode = Some("approve".into());
    world.budgets.actions_per_hour = 0;
    world.failing_targets = failing_everywhere();
    world.ledger.breaker.state = BreakerState::Open;
    world.ledger.breaker.opened_at = Some(at(0));
    let never = json!([{"kind": "allow", "schedule": "0 0 1 1 *", "durationSeconds": 60}]);
    world.policies = vec![policy(json!({"mode": "auto", "windows": never}))];
    assert_eq!(judge_undo(&world.case(), &repair).decision.outcome, DecisionOutcome::Act);
}

#[test]
fn a_repair_that_helped_after_all_is_not_taken_back() {
    let (mut world, repair) = taking_back();
    let template = world.reading.template.clone();
    let annotations = world.reading.annotations.clone();
    world.reading = Workload { template, annotations, ..reading().healthy() };
    let judgement = judge_undo(&world.case(), &repair);
    assert_eq!((judgement.decision.outcome, judgement.reason), (DecisionOutcome::Resolve, Reason::Recovered));
}

#[test]
fn a_repair_is_not_taken_back_from_what_people_stopped_or_from_pods_that_work() {
    type Bend = fn(&mut GateFixture);
    let bends: [(Bend, Reason); 3] = [
        (|w| (w.reading.state.desired, w.reading.state.ready) = (0, 0), Reason::ChangedByOthers),
        (|w| w.reading.state.paused = true, Reason::ChangedByOthers),
        (
            |w| {
                (w.reading.state.desired, w.reading.state.ready) = (3, 2);
                w.reading.pods = vec![pod("api-a", 1, PodFailure::None), pod("api-b", 1, PodFailure::None)];
            },
            Reason::NothingFails,
        ),
    ];
    for (bend, reason) in bends {
        let (mut world, repair) = taking_back();
        bend(&mut world);
        let judgement = judge_undo(&world.case(), &repair);
        assert_eq!((judgement.decision.outcome, judgement.reason), (DecisionOutcome::Escalate, reason));
    }
}

#[test]
fn a_repair_without_a_way_back_is_not_taken_back() {
    let (world, mut repair) = taking_back();
    repair.undo = None::<Undo>;
    let judgement = judge_undo(&world.case(), &repair);
    assert_eq!(judgement.decision.outcome, DecisionOutcome::Escalate);
    assert!(judgement.prediction.is_none() && judgement.charge.is_none());
}

#[test]
fn a_stuck_pod_of_a_stateful_set_is_evicted_by_uid() {
    let (world, repair, stuck) = replacement();
    let judgement = judge_replacement(&world.case(), &repair, &stuck);
    assert_eq!(judgement.decision.outcome, DecisionOutcome::Act, "{:#?}", judgement.decision.checks);
    assert_eq!(judgement.prediction.unwrap().write, Write::Evict(EvictWrite { pod: stuck }));
    assert!(judgement.charge.unwrap().undo);
}

#[test]
fn a_pod_that_works_or_runs_the_current_template_is_never_evicted() {
    for name in ["api-0", "api-2", "database-0"] {
        let (mut world, repair, _) = replacement();
        world.reading.pods.push(pod("api-2", 1, PodFailure::CrashLoop));
        let judgement = judge_replacement(&world.case(), &repair, &object("Pod", name));
        assert_eq!(judgement.decision.outcome, DecisionOutcome::Escalate, "{name}");
    }
}

#[test]
fn the_executor_sees_the_same_evidence_on_a_bad_rollout() {
    let world = bad_rollout();
    let spec = repair_of(&world);
    for marks in [None, Some(&[][..])] {
        assert_eq!(own_evidence(&spec, &world.reading, marks, false, Override::No).refusal, None);
    }
}

#[test]
fn the_executor_asks_itself_whether_a_policy_allows_what_helm_installed() {
    let mut world = bad_rollout();
    let spec = repair_of(&world);
    world.reading.state.managed_by = vec!["helm".into()];
    assert_eq!(own_evidence(&spec, &world.reading, None, true, Override::No).refusal, None);
    let refusal = own_evidence(&spec, &world.reading, None, false, Override::No).refusal.unwrap();
    assert_eq!(refusal.reason, Reason::ManagedByHelm);
}

/// A stolen controller can write any Remediation that it likes. On a healthy workload none is let through, whatever
/// purpose it claims, and on a failing one only that which the rules pick.
#[test]
fn a_stolen_controller_alone_moves_no_healthy_workload_and_chooses_no_revision() {
    let bad = bad_rollout();
    let repair = repair_of(&bad);
    let (_, _, pod) = replacement();
    for purpose in [Purpose::Repair, Purpose::Undo, Purpose::ReplacePod] {
        for follows in [None, Some(repair.action_id.clone())] {
            for write in [repair.write.clone(), Write::Evict(EvictWrite { pod: pod.clone() })] {
                let mut healthy = reading().healthy();
                healthy.annotations.insert("backstop.dev/last-action".into(), repair.action_id.clone());
                let spec = RemediationSpec { purpose, follows: follows.clone(), write, ..repair.clone() };
                assert!(
                    own_evidence(&spec, &healthy, None, true, Override::No).refusal.is_some(),
                    "{purpose:?} {follows:?}"
                );
            }
        }
    }
    let mut two_earlier = bad.reading.clone();
    two_earlier.revisions.push(super::super::testing::revision(0, false, "api:0"));
    let action = super::super::testing::undo_to(0);
    let Prediction { write, provenance, .. } =
        (actions::of(ActionKind::RolloutUndo).predict)(&two_earlier, &action).unwrap();
    let spec = RemediationSpec { action, write, provenance, ..repair };
    let refusal = own_evidence(&spec, &two_earlier, None, false, Override::No).refusal.unwrap();
    assert_eq!(refusal.reason, Reason::OpinionsDiffer);
}
