//! The step function against the model of an API server: each boundary crashed, each answer lost.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{
    MAX_EPOCHS, Memory, Next, Outcome, Probe, Surroundings, Verb, Wait, model,
    model::{Model, template},
    on_response, orphans, patch, step,
};
use crate::{
    api::v1alpha1::{FieldWrite, ReceiptStep, RemediationPhase, Write},
    core::{names, object},
};

type Step = fn(&mut Memory, &super::Observation, crate::api::v1alpha1::Time) -> Next;

/// What may go wrong at a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    /// The process dies before it is sent.
    CrashBefore,
    /// The process dies before it hears the answer.
    CrashAfter,
    /// The request never arrives; the answer is a timeout.
    LostRequest,
    /// The answer is lost.
    LostAnswer,
    /// Somebody else writes the object just before.
    Conflict,
}

struct Run {
    verbs: Vec<Verb>,
    ended: bool,
}

/// Drives one Remediation until nothing is left to do, with faults at the given requests.
fn drive(
    model: &mut Model,
    step: Step,
    mut fault: impl FnMut(usize, Verb) -> Fault,
    hook: impl Fn(&mut Model, &[Verb]),
) -> Run {
    let mut memory = Memory::default();
    let mut carried = None;
    let mut verbs = Vec::new();
    for _ in 0..2000 {
        model.judge();
        hook(model, &verbs);
        let seen = carried.take().unwrap_or_else(|| model.observe());
        match step(&mut memory, &seen, model.now) {
            Next::Nothing => return Run { verbs, ended: true },
            Next::Wait(_, pause) => {
                model.now += jiff::SignedDuration::try_from(pause).unwrap();
            }
            Next::Send(request) => {
                let at = verbs.len();
                verbs.push(request.verb);
                let outcome = match fault(at, request.verb) {
                    Fault::None => model.send(&request),
                    Fault::CrashBefore => {
                        memory = Memory::default();
                        continue;
                    }
                    Fault::CrashAfter => {
                        model.send(&request);
                        memory = Memory::default();
                        continue;
                    }
                    Fault::LostRequest => Outcome::Unknown("timeout".into()),
                    Fault::LostAnswer => {
                        model.send(&request);
                        Outcome::Unknown("reset".into())
                    }
                    Fault::Conflict => {
                        model.touch();
                        model.send(&request)
                    }
                };
                on_response(&mut memory, &seen, &request, &outcome, model.now);
                carried = seen.carried(&request, &outcome);
            }
        }
    }
    Run { verbs, ended: false }
}

fn run(model: &mut Model) -> Vec<Verb> {
    let run = drive(model, step, |_, _| Fault::None, |_, _| {});
    assert!(run.ended, "it did not end: {:?}", run.verbs);
    run.verbs
}

/// As [`run`], with something that happens once, right after the first request of this kind.
fn run_with(model: &mut Model, after: Verb, event: fn(&mut Model)) -> Vec<Verb> {
    let happened = std::cell::Cell::new(false);
    let run = drive(
        model,
        step,
        |_, _| Fault::None,
        |model, verbs| {
            if verbs.contains(&after) && !happened.replace(true) {
                event(model);
            }
        },
    );
    assert!(run.ended, "it did not end: {:?}", run.verbs);
    run.verbs
}

fn field(write: &mut Write) -> &mut FieldWrite {
    let Write::Field(field) = write else { panic!("no field is written") };
    field
}

fn assert_fired_once(model: &Model) {
    assert_eq!(model.phase(), RemediationPhase::Fired, "reason {}", model.reason());
    assert_eq!(model.spec_changes.len(), 1);
    assert_eq!(model.spec_changes[0]["template"], template("cart:1"));
    assert!(model.is_clean());
}

fn assert_aborted(model: &Model, reason: &str) {
    assert_eq!((model.phase(), model.reason().as_str()), (RemediationPhase::Aborted, reason));
    assert!(model.spec_changes.is_empty(), "something was written");
    assert!(model.is_clean(), "labels were left behind");
}

#[test]
fn a_granted_rollback_is_claimed_marked_tried_armed_tried_fired_and_recorded() {
    let mut model = Model::new();
    let verbs = run(&mut model);
    assert_fired_once(&model);
    assert_eq!(
        verbs,
        [
            Verb::Claim,
            Verb::MarkRevision,
            Verb::DryRunWrong(Probe::Static),
            Verb::DryRunWrong(Probe::Grant),
            Verb::DryRunWrong(Probe::Provenance),
            Verb::Arm,
            Verb::DryRunWrong(Probe::OtherImage),
            Verb::DryRunRight,
            Verb::Fire,
            Verb::UnmarkRevision,
            Verb::Finish
        ]
    );
    let status = model.remediation.status.as_ref().unwrap();
    let steps: Vec<ReceiptStep> = status.receipts.iter().map(|receipt| receipt.step).collect();
    assert_eq!(
        steps,
        [
            ReceiptStep::RevisionMarked,
            ReceiptStep::Armed,
            ReceiptStep::WrongValueRefused,
            ReceiptStep::RightValueShown,
            ReceiptStep::Fired,
            ReceiptStep::RevisionUnmarked,
            ReceiptStep::ReadBack
        ]
    );
    assert_eq!(status.conditions[0].status, "True");
}

#[test]
fn a_crash_or_a_lost_message_at_any_request_still_writes_exactly_once() {
    for fault in [Fault::CrashBefore, Fault::CrashAfter, Fault::LostRequest, Fault::LostAnswer, Fault::Conflict] {
        for at in 0..16 {
            let mut model = Model::new();
            let run = drive(&mut model, step, |n, _| if n == at { fault } else { Fault::None }, |_, _| {});
            assert!(run.ended, "{fault:?} at {at}: {:?}", run.verbs);
            assert_fired_once(&model);
        }
    }
}

#[test]
fn a_second_crash_during_recovery_still_writes_exactly_once() {
    for first in 0..12 {
        for second in first + 1..20 {
            let mut model = Model::new();
            let crash = |n, _| if n == first || n == second { Fault::CrashAfter } else { Fault::None };
            let run = drive(&mut model, step, crash, |_, _| {});
            assert!(run.ended, "crashes at {first} and {second}: {:?}", run.verbs);
            assert_fired_once(&model);
        }
    }
}

#[test]
fn nothing_is_written_without_a_grant() {
    let mut model = Model::new();
    model.opened = i64::MAX;
    let verbs = run(&mut model);
    assert_eq!(verbs, [Verb::Claim, Verb::Abort]);
    assert_aborted(&model, "NoGrant");
}

#[test]
fn a_grant_that_differs_in_any_field_is_no_grant() {
    use crate::api::v1alpha1::OpenGrant;
    let changes: [fn(&mut OpenGrant); 8] = [
        |open| open.action_id = "0".repeat(32),
        |open| open.action = "restart".into(),
        |open| open.remediation = "other".into(),
        |open| open.epoch += 1,
        |open| open.uid = "other".into(),
        |open| field(&mut open.write).path = "/spec".into(),
        |open| field(&mut open.write).before = template("x"),
        |open| field(&mut open.write).after = template("x"),
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let mut model = Model::new();
        let spoil = |model: &mut Model, _: &[Verb]| {
            if let Some(open) = &mut model.grant.spec.open
                && open.not_after.as_second() < 1_000_000
            {
                change(open);
                open.not_after = "2000-01-01T00:00:00Z".parse().unwrap();
            }
        };
        let run = drive(&mut model, step, |_, _| Fault::None, spoil);
        assert_eq!(run.verbs[..2], [Verb::Claim, Verb::Abort], "change {index}");
        assert_aborted(&model, "NoGrant");
    }
}

#[test]
fn a_grant_about_to_expire_is_not_begun_with_and_claimed_anew() {
    let mut model = Model::new();
    model.grant_seconds = 1;
    let verbs = run(&mut model);
    assert_aborted(&model, "ClaimsExhausted");
    assert_eq!(verbs.iter().filter(|verb| **verb == Verb::Reclaim).count() as i64, MAX_EPOCHS - 1);
    assert!(!verbs.contains(&Verb::Arm));
}

#[test]
fn a_grant_that_closes_while_armed_leads_to_disarm_and_a_new_claim() {
    let mut model = Model::new();
    let verbs = run_with(&mut model, Verb::Arm, Model::close_grant);
    assert_fired_once(&model);
    let disarm = verbs.iter().position(|verb| *verb == Verb::Disarm).unwrap();
    assert!(verbs[disarm..].contains(&Verb::Reclaim));
}

#[test]
fn a_digest_that_does_not_fit_is_refused_before_the_claim() {
    for change in [
        (|model: &mut Model| model.remediation.spec.digest = "0".repeat(64)) as fn(&mut Model),
        |model| model.remediation.spec.action_id = "0".repeat(32),
        |model| field(&mut model.remediation.spec.write).after = template("evil"),
        |model| model.remediation.spec.target.uid = "uid-cart-2".into(),
    ] {
        let mut model = Model::new();
        change(&mut model);
        assert_eq!(run(&mut model), [Verb::Abort]);
        assert_aborted(&model, "DigestMismatch");
    }
}

#[test]
fn names_that_are_none_other_kinds_and_other_paths_are_refused_unread() {
    for change in [
        (|model: &mut Model| model.remediation.spec.target.name = "../secrets/x".into()) as fn(&mut Model),
        |model| model.remediation.spec.target.kind = "StatefulSet".into(),
        |model| model.remediation.spec.target.namespace = "kube-system".into(),
        |model| field(&mut model.remediation.spec.write).path = "/spec".into(),
        |model| model.remediation.spec.provenance = None,
    ] {
        let mut model = Model::new();
        change(&mut model);
        assert_eq!(run(&mut model), [Verb::Abort]);
        assert_aborted(&model, "Unsupported");
    }
}

#[test]
fn an_object_that_somebody_else_changed_is_left_alone() {
    for after in [Verb::Claim, Verb::MarkRevision, Verb::Arm, Verb::DryRunRight] {
        let mut model = Model::new();
        run_with(&mut model, after, |model| model.deploy("cart:3"));
        assert_aborted(&model, "TargetChanged");
    }
}

#[test]
fn an_object_that_was_deleted_or_made_anew_is_left_alone() {
    for after in [Verb::Claim, Verb::MarkRevision, Verb::Arm, Verb::DryRunRight] {
        let mut model = Model::new();
        run_with(&mut model, after, |model| model.target = None);
        assert_aborted(&model, "TargetGone");
        let mut model = Model::new();
        run_with(&mut model, after, |model| {
            model.touch();
            let version = model.version.to_string();
            let mut anew = model::deployment("uid-new", "cart:2");
            anew["metadata"]["resourceVersion"] = version.into();
            model.target = Some(anew);
        });
        assert_aborted(&model, "TargetGone");
    }
}

#[test]
fn the_kill_switch_stops_it_at_any_step_before_the_write() {
    for after in [Verb::Claim, Verb::MarkRevision, Verb::Arm, Verb::DryRunWrong(Probe::OtherImage), Verb::DryRunRight] {
        let mut model = Model::new();
        run_with(&mut model, after, |model| model.mode = "observe");
        assert_aborted(&model, "ModeForbids");
    }
}

#[test]
fn a_policy_that_is_missing_is_noticed_before_the_write() {
    for missing in ["backstop-static", "backstop-grant", "backstop-provenance"] {
        let mut model = Model::new();
        model.policies.retain(|policy| *policy != missing);
        let verbs = run(&mut model);
        assert_aborted(&model, "PolicyMissing");
        assert!(!verbs.contains(&Verb::Arm), "{missing}");
        assert!(model.remediation.status.as_ref().unwrap().message.contains(missing));
    }
}

#[test]
fn policies_that_vanish_while_armed_are_noticed_before_the_write() {
    let mut model = Model::new();
    run_with(&mut model, Verb::Arm, |model| model.policies.clear());
    assert_aborted(&model, "PolicyMissing");
}

#[test]
fn policies_that_lag_are_waited_for_and_are_no_refusal() {
    for lag in 1..5 {
        let mut model = Model::new();
        model.lag = lag;
        run(&mut model);
        assert_fired_once(&model);
    }
}

#[test]
fn an_api_server_that_just_started_is_waited_for() {
    for after in [Verb::Claim, Verb::MarkRevision, Verb::Arm, Verb::DryRunRight] {
        let mut model = Model::new();
        run_with(&mut model, after, |model| model.settled_at = model.now + jiff::SignedDuration::from_secs(10));
        assert_fired_once(&model);
        let mut model = Model::new();
        run_with(&mut model, after, |model| model.rights_at = model.now + jiff::SignedDuration::from_secs(10));
        assert_fired_once(&model);
    }
}

#[test]
fn an_api_server_that_is_away_longer_than_the_grant_is_valid_leads_to_a_new_claim() {
    let mut model = Model::new();
    model.grant_seconds = 20;
    run_with(&mut model, Verb::Arm, |model| model.settled_at = model.now + jiff::SignedDuration::from_secs(25));
    assert_fired_once(&model);
    assert_eq!(model.remediation.status.as_ref().unwrap().epoch, 2);
}

#[test]
fn rights_that_stay_missing_end_it_with_the_answer_of_the_api_server() {
    let mut model = Model::new();
    run_with(&mut model, Verb::Claim, |model| model.missing_right = true);
    assert_aborted(&model, "Refused");
    assert!(model.remediation.status.as_ref().unwrap().message.contains("cannot patch"));
}

#[test]
fn a_provenance_policy_that_never_sees_the_mark_is_named_with_its_cure() {
    let mut model = Model::new();
    model.lag = usize::MAX / 2;
    // The Grant is seen, marks are not.
    let run = drive(
        &mut model,
        step,
        |_, _| Fault::None,
        |model, verbs| {
            model.lag = if verbs.last() == Some(&Verb::DryRunWrong(Probe::Provenance)) { usize::MAX / 2 } else { 0 };
            if verbs.last() == Some(&Verb::DryRunWrong(Probe::Grant)) {
                model.lag = usize::MAX / 2;
            }
        },
    );
    assert!(run.ended);
    assert_aborted(&model, "RefusedByPolicy");
    assert!(model.remediation.status.as_ref().unwrap().message.contains("Restart the API server"));
}

#[test]
fn an_object_that_changes_all_the_time_gets_five_tries_of_a_write() {
    let mut model = Model::new();
    let busy = |_, verb| if verb == Verb::Fire { Fault::Conflict } else { Fault::None };
    let run = drive(&mut model, step, busy, |_, _| {});
    assert!(run.ended);
    assert_eq!(run.verbs.iter().filter(|verb| **verb == Verb::Fire).count(), 5);
    assert_aborted(&model, "TooManyConflicts");

    let mut model = Model::new();
    let fires = std::cell::Cell::new(0);
    let busy = |_, verb| {
        if verb == Verb::Fire {
            fires.set(fires.get() + 1);
            if fires.get() < 5 {
                return Fault::Conflict;
            }
        }
        Fault::None
    };
    drive(&mut model, step, busy, |_, _| {});
    assert_fired_once(&model);
}

#[test]
fn a_revision_that_vanishes_while_armed_is_replaced_for_the_disarm() {
    let mut model = Model::new();
    let verbs = run_with(&mut model, Verb::Arm, |model| {
        model.revisions.remove("cart-1");
    });
    assert_aborted(&model, "RevisionGone");
    let tail = &verbs[verbs.iter().position(|verb| *verb == Verb::Arm).unwrap() + 1..];
    assert!(tail.ends_with(&[Verb::MarkRevision, Verb::Disarm, Verb::UnmarkRevision, Verb::Abort]), "{tail:?}");
}

#[test]
fn a_revision_whose_template_changed_is_not_gone_back_to() {
    let mut model = Model::new();
    model.revisions.insert("cart-1".into(), model::replica_set("cart-1", "uid-cart", "evil:1"));
    run(&mut model);
    assert_aborted(&model, "RevisionGone");
}

#[test]
fn a_stale_mark_is_taken_off_before_ours_is_made() {
    let mut model = Model::new();
    let stale = model.revisions.get_mut("cart-2").unwrap();
    stale["metadata"]["labels"][names::UNDO_TO] = "true".into();
    let verbs = run(&mut model);
    assert_eq!(verbs[1..3], [Verb::UnmarkRevision, Verb::MarkRevision]);
    assert_fired_once(&model);
}

#[test]
fn nothing_is_claimed_while_the_hands_are_not_ready_and_it_ends_with_the_cause() {
    let mut model = Model::new();
    model.not_ready = "policy backstop-static is missing".into();
    assert_eq!(run(&mut model), [Verb::Abort]);
    assert_aborted(&model, "NotReady");
    assert!(model.remediation.status.as_ref().unwrap().message.contains("backstop-static"));
}

#[test]
fn another_action_in_flight_is_waited_for() {
    let mut model = Model::new();
    let mut memory = Memory::default();
    let target = model.target.as_mut().unwrap();
    target["metadata"]["labels"] = serde_json::json!({names::ARMED: "rollout-undo"});
    target["metadata"]["annotations"][names::ACTION] = "f".repeat(32).into();
    let Next::Send(claim) = step(&mut memory, &model.observe(), model.now) else { panic!("no claim") };
    let seen = model.observe();
    let outcome = model.send(&claim);
    on_response(&mut memory, &seen, &claim, &outcome, model.now);
    model.judge();
    assert!(matches!(step(&mut memory, &model.observe(), model.now), Next::Wait(Wait::OtherAction, _)));
}

#[test]
fn somebody_who_takes_our_label_off_stops_the_action() {
    let mut model = Model::new();
    run_with(&mut model, Verb::Arm, |model| {
        let target = model.target.clone().unwrap();
        model.target = Some(patch::apply(&target, &patch::disarm(&target)).unwrap());
        model.touch();
    });
    assert_aborted(&model, "DisarmedByOthers");
}

#[test]
fn a_final_remediation_is_never_touched_again() {
    let mut model = Model::new();
    run(&mut model);
    model.deploy("cart:2");
    assert!(run(&mut model).is_empty());
    assert_eq!(model.spec_changes.len(), 1);
}

#[test]
fn every_write_is_guarded_by_the_resource_version_that_was_read() {
    let mut model = Model::new();
    let mut memory = Memory::default();
    loop {
        model.judge();
        let seen = model.observe();
        let request = match step(&mut memory, &seen, model.now) {
            Next::Send(request) => request,
            Next::Wait(..) => continue,
            Next::Nothing => break,
        };
        if !request.dry_run {
            let first = &request.patch[0];
            assert_eq!(
                (first["op"].as_str(), first["path"].as_str()),
                (Some("replace"), Some("/metadata/resourceVersion"))
            );
        }
        let outcome = model.send(&request);
        on_response(&mut memory, &seen, &request, &outcome, model.now);
    }
}

#[test]
fn leftovers_without_an_open_remediation_are_swept_and_others_are_not() {
    let mut model = Model::new();
    let stop = |n, _| if n >= 6 { Fault::LostRequest } else { Fault::None };
    drive(&mut model, step, stop, |_, _| {});
    assert!(!model.armed().is_empty() || !model.marked().is_empty());
    let around = |model: &Model, open| Surroundings {
        armed: model.armed(),
        marked: model.marked(),
        revisions: model.revisions.values().cloned().collect(),
        open,
    };
    let spec = &model.remediation.spec;
    let open = vec![(spec.action_id.clone(), spec.target.uid.clone())];
    assert_eq!(orphans(&around(&model, open)), None);
    let mut verbs = Vec::new();
    while let Some(request) = orphans(&around(&model, Vec::new())) {
        verbs.push(request.verb);
        assert!(matches!(model.send(&request), Outcome::Done(_)));
    }
    assert!(model.is_clean(), "{verbs:?}");
    assert!(model.spec_changes.is_empty());
}

/// Defects that this suite has to notice: a suite that misses one proves nothing.
#[test]
fn planted_defects_are_noticed() {
    // Forgets that last-action means done, as a step function would that looks at its own memory only.
    fn forgets_last_action(memory: &mut Memory, seen: &super::Observation, now: crate::api::v1alpha1::Time) -> Next {
        let mut seen = seen.clone();
        if let Some(target) = &mut seen.target {
            target["metadata"]["annotations"].as_object_mut().unwrap().remove(names::LAST_ACTION);
        }
        step(memory, &seen, now)
    }
    // Believes that a claim is a Grant.
    fn grants_itself(memory: &mut Memory, seen: &super::Observation, now: crate::api::v1alpha1::Time) -> Next {
        let mut granted = Model::new();
        granted.remediation = seen.remediation.clone();
        granted.now = now;
        granted.judge();
        let mut seen = seen.clone();
        seen.grant = Some(granted.grant);
        step(memory, &seen, now)
    }
    // Writes the change together with the label.
    fn fires_unarmed(memory: &mut Memory, seen: &super::Observation, now: crate::api::v1alpha1::Time) -> Next {
        match step(memory, seen, now) {
            Next::Send(mut request) if request.verb == Verb::Arm => {
                request.patch = patch::fire(seen.target.as_ref().unwrap(), &seen.remediation.spec);
                Next::Send(request)
            }
            next => next,
        }
    }
    // Leaves the mark behind.
    fn forgets_the_mark(memory: &mut Memory, seen: &super::Observation, now: crate::api::v1alpha1::Time) -> Next {
        let mut seen = seen.clone();
        if seen.target.as_ref().is_some_and(|target| object::annotation(target, names::LAST_ACTION).is_some()) {
            seen.marked.clear();
        }
        step(memory, &seen, now)
    }
    let right = |step: Step| {
        let mut model = Model::new();
        let run = drive(&mut model, step, |n, _| if n == 9 { Fault::CrashAfter } else { Fault::None }, |_, _| {});
        let mut closed = Model::new();
        // The policies are off: what is proven here is the step function alone.
        closed.policies.clear();
        closed.opened = i64::MAX;
        drive(&mut closed, step, |_, _| Fault::None, |_, _| {});
        run.ended
            && model.phase() == RemediationPhase::Fired
            && model.spec_changes.len() == 1
            && model.is_clean()
            && run.verbs.contains(&Verb::Fire)
            && closed.reason() == "NoGrant"
    };
    assert!(right(step));
    for (name, defect) in [
        ("forgets last-action", forgets_last_action as Step),
        ("grants itself", grants_itself),
        ("fires unarmed", fires_unarmed),
        ("forgets the mark", forgets_the_mark),
    ] {
        assert!(!right(defect), "planted defect not noticed: {name}");
    }
}

fn faults() -> impl Strategy<Value = Vec<Fault>> {
    let fault = prop_oneof![
        6 => Just(Fault::None),
        1 => Just(Fault::CrashBefore),
        1 => Just(Fault::CrashAfter),
        1 => Just(Fault::LostRequest),
        1 => Just(Fault::LostAnswer),
        1 => Just(Fault::Conflict),
    ];
    prop::collection::vec(fault, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn whatever_goes_wrong_it_ends_clean_with_at_most_one_change(
        faults in faults(), lag in 0usize..4, events in prop::collection::vec((0usize..40, 0u8..6), 0..4)
    ) {
        let mut model = Model::new();
        model.lag = lag;
        let mut changed_by_others = BTreeSet::new();
        let happened = std::cell::RefCell::new(BTreeSet::new());
        for (_, kind) in &events { changed_by_others.insert(*kind); }
        let run = drive(
            &mut model,
            step,
            |n, _| faults.get(n).copied().unwrap_or(Fault::None),
            |model, verbs| {
                for (index, (at, kind)) in events.iter().enumerate() {
                    if verbs.len() >= *at && happened.borrow_mut().insert(index) {
                        match kind {
                            0 => model.mode = "observe",
                            1 => model.deploy("cart:3"),
                            2 => { model.revisions.remove("cart-1"); }
                            3 => model.close_grant(),
                            4 => model.touch(),
                            _ => model.policies.clear(),
                        }
                    }
                }
            },
        );
        prop_assert!(run.ended, "{:?}", run.verbs);
        prop_assert!(model.spec_changes.len() <= 1);
        for spec in &model.spec_changes {
            prop_assert_eq!(&spec["template"], &template("cart:1"));
        }
        prop_assert_eq!(model.phase() == RemediationPhase::Fired, model.spec_changes.len() == 1);
        // Marking is a write: with the kill switch on, the sweep cannot replace a revision that vanished.
        let stuck = changed_by_others.contains(&0) && changed_by_others.contains(&2);
        prop_assert!(stuck || model.armed().is_empty());
    }
}
