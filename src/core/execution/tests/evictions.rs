//! Evictions: one pod, once, as its disruption budget allows.

use super::*;
use crate::{
    api::v1alpha1::ReceiptStep,
    core::execution::{Probe, conformance},
};

#[test]
fn a_granted_eviction_is_claimed_tried_sent_read_back_and_recorded_and_arms_nothing() {
    let mut model = Model::stuck_pod();
    let verbs = run(&mut model);
    assert_fired_once(&model);
    let wrong = Verb::DryRunWrong(Probe::OtherPod);
    assert_eq!(verbs, [Verb::Claim, wrong, Verb::DryRunRight, Verb::Fire, Verb::Finish]);
    let status = model.remediation.status.as_ref().unwrap();
    let steps: Vec<ReceiptStep> = status.receipts.iter().map(|receipt| receipt.step).collect();
    let expected =
        [ReceiptStep::WrongValueRefused, ReceiptStep::RightValueShown, ReceiptStep::Fired, ReceiptStep::ReadBack];
    assert_eq!(steps, expected);
}

#[test]
fn a_disruption_budget_without_room_is_waited_for_while_the_grant_is_open() {
    let mut soon = Model::stuck_pod();
    soon.blocked_until = soon.now + jiff::SignedDuration::from_secs(30);
    run(&mut soon);
    assert_fired_once(&soon);
    assert_eq!(soon.remediation.status.as_ref().unwrap().epoch, 1, "it was not claimed again for it");

    let mut never = Model::stuck_pod();
    never.blocked_until = never.now + jiff::SignedDuration::from_hours(1);
    let verbs = run(&mut never);
    assert_aborted(&never, "BlockedByDisruptionBudget");
    assert!(!verbs.contains(&Verb::Fire));
    assert!(never.message().contains("disruption budget"), "{}", never.message());
}

#[test]
fn a_budget_that_fills_up_between_dry_run_and_eviction_is_waited_for_too() {
    let mut model = Model::stuck_pod();
    let verbs = run_with(&mut model, Verb::DryRunRight, |model| {
        model.blocked_until = model.now + jiff::SignedDuration::from_secs(5);
    });
    assert_fired_once(&model);
    assert!(verbs.iter().filter(|verb| **verb == Verb::Fire).count() > 1);
}

#[test]
fn without_the_right_to_evict_it_ends_so_that_a_person_can_do_it() {
    let mut model = Model::stuck_pod();
    model.missing_eviction_right = true;
    let began = model.now;
    run(&mut model);
    assert_aborted(&model, "EvictionNotAllowed");
    assert!(model.now.duration_since(began) < jiff::SignedDuration::from_secs(20));
}

#[test]
fn an_eviction_that_nobody_refuses_means_that_the_policy_is_missing() {
    let mut model = Model::stuck_pod();
    model.policies.retain(|policy| *policy != "backstop-grant");
    let verbs = run(&mut model);
    assert_aborted(&model, "PolicyMissing");
    assert!(!verbs.contains(&Verb::DryRunRight));
}

#[test]
fn a_pod_that_is_gone_before_anything_was_sent_is_not_ours() {
    for after in [Verb::Claim, Verb::DryRunWrong(Probe::OtherPod), Verb::DryRunRight] {
        let events: [fn(&mut Model); 3] = [
            |model| model.pod = None,
            // The StatefulSet made another one of the same name.
            |model| model.pod = Some(conformance::pod("uid-new", "cart:1")),
            |model| {
                let now = model.now;
                model.pod.as_mut().unwrap()["metadata"]["deletionTimestamp"] = serde_json::json!(now);
            },
        ];
        for event in events {
            let mut model = Model::stuck_pod();
            run_with(&mut model, after, event);
            assert_aborted(&model, "TargetGone");
        }
    }
    let mut never_there = Model::stuck_pod();
    never_there.pod = None;
    assert_eq!(run(&mut never_there), [Verb::Abort]);
    assert_aborted(&never_there, "TargetGone");
}

#[test]
fn after_a_lost_answer_the_pod_tells_and_its_successor_is_left_alone() {
    for fault in [Fault::LostAnswer, Fault::CrashAfter] {
        let mut model = Model::stuck_pod();
        let once = std::cell::Cell::new(false);
        let replaced = std::cell::Cell::new(false);
        let run = drive(
            &mut model,
            step,
            |_, verb| if verb == Verb::Fire && !once.replace(true) { fault } else { Fault::None },
            |model, _| {
                if !model.evictions.is_empty() && !replaced.replace(true) {
                    model.pod = Some(conformance::pod("uid-new", "cart:2"));
                }
            },
        );
        assert!(run.ended);
        assert_eq!(model.evictions, ["uid-pod"]);
        let receipts = &model.remediation.status.as_ref().unwrap().receipts;
        let proven = [ReceiptStep::Fired, ReceiptStep::ReadBack].map(|step| receipts.iter().any(|it| it.step == step));
        let (phase, expected) = match fault {
            Fault::LostAnswer => (RemediationPhase::Fired, [true; 2]),
            // What a process before it did is not known for sure.
            _ => (RemediationPhase::Unproven, [false; 2]),
        };
        assert_eq!((model.phase(), proven), (phase, expected), "{fault:?}: {}", model.message());
    }
}

#[test]
fn a_pod_that_runs_the_current_revision_or_is_not_of_the_target_is_not_evicted() {
    let bends: [fn(&mut crate::core::execution::Evidence); 5] = [
        |it| it.workload.pods[0].fact.revision = Some(1),
        |it| it.workload.pods[0].fact.ready = true,
        |it| it.workload.pods[0].fact.failure = crate::api::v1alpha1::PodFailure::Starting,
        |it| it.workload.pods[0].object.uid = "another".into(),
        |it| it.workload.pods.clear(),
    ];
    for bend in bends {
        let mut model = Model::stuck_pod();
        model.bend = bend;
        let verbs = run(&mut model);
        assert_eq!(verbs, [Verb::Claim, Verb::Abort]);
        let reason = model.reason();
        assert!(["NothingFails", "TargetGone"].contains(&reason.as_str()), "{reason}");
        assert_aborted(&model, &reason);
    }
}

#[test]
fn an_eviction_that_arrives_after_its_answer_was_given_up_counts_even_under_the_next_claim() {
    let mut model = Model::stuck_pod();
    model.grant_seconds = 20;
    let late = std::cell::Cell::new(false);
    let run = drive(
        &mut model,
        step,
        |_, verb| if verb == Verb::Fire && !late.get() { Fault::LostRequest } else { Fault::None },
        |model, verbs| {
            if verbs.contains(&Verb::Reclaim) && !late.replace(true) {
                model.evictions.push("uid-pod".into());
                model.pod = None;
            } else if verbs.contains(&Verb::Fire) && !late.get() {
                model.now += jiff::SignedDuration::from_secs(1);
            }
        },
    );
    assert!(run.ended);
    assert_fired_once(&model);
}
