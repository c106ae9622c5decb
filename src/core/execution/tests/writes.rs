//! What a write that goes well looks like, and what no fault is needed for.

use super::*;
use crate::{
    api::v1alpha1::ReceiptStep,
    core::{
        actions,
        execution::{MAX_EPOCHS, Probe, Resource, Wait, model, patch},
        names, object,
    },
};

#[test]
fn a_granted_change_is_claimed_marked_tried_armed_tried_fired_and_recorded() {
    for mut model in every_change() {
        let recorded = model.remediation.spec.provenance.is_some();
        let of_a_revision = |verb: &Verb| {
            matches!(verb, Verb::MarkRevision | Verb::UnmarkRevision | Verb::DryRunWrong(Probe::Provenance))
        };
        let of_a_mark =
            |step: &ReceiptStep| matches!(step, ReceiptStep::RevisionMarked | ReceiptStep::RevisionUnmarked);
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
                Verb::DryRunWrong(Probe::OtherValue),
                Verb::DryRunRight,
                Verb::Fire,
                Verb::UnmarkRevision,
                Verb::Finish
            ]
            .into_iter()
            .filter(|verb| recorded || !of_a_revision(verb))
            .collect::<Vec<_>>()
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
            .into_iter()
            .filter(|step| recorded || !of_a_mark(step))
            .collect::<Vec<_>>()
        );
        assert_eq!((status.conditions[0].type_.as_str(), status.conditions[0].status.as_str()), ("Complete", "True"));
    }
}

#[test]
fn a_wrong_value_differs_from_the_granted_one_and_from_the_one_before_for_every_action() {
    use serde_json::json;
    for definition in actions::all() {
        let odd = [
            model::template("cart:1"),
            model::template(&format!("{}:0", actions::rollout_undo::WRONG_IMAGE)),
            model::template(&format!("{}:1", actions::rollout_undo::WRONG_IMAGE)),
            json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}}),
            json!({"spec": {}}),
            json!({}),
            json!(null),
            json!(1),
            json!(2),
        ];
        for (before, after) in
            odd.iter().flat_map(|before| odd.iter().map(move |after| (before.clone(), after.clone())))
        {
            let field = FieldWrite { path: definition.path.into(), before, after };
            let wrong = (definition.wrong_value)(&field);
            assert!(wrong != field.before && wrong != field.after && !wrong.is_null(), "{}", definition.kind);
        }
    }
}

#[test]
fn every_change_is_guarded_by_the_resource_version_that_was_read_and_an_eviction_by_the_uid() {
    for mut model in every_write() {
        let mut memory = Memory::default();
        let mut look = false;
        loop {
            model.control();
            let seen = model.observe(look);
            look = true;
            let request = match step(&mut memory, &seen, model.now) {
                Next::Send(request) => request,
                Next::Wait(..) | Next::Look => continue,
                Next::Nothing => break,
            };
            if request.resource == Resource::PodEviction {
                assert!(!object::string(&request.body, "/deleteOptions/preconditions/uid").is_empty());
                assert_eq!(object::label(&request.body, names::ARMED), Some("rollout-undo"));
            } else if !request.dry_run {
                let first = &request.body[0];
                let op = (first["op"].as_str(), first["path"].as_str());
                assert_eq!(op, (Some("replace"), Some("/metadata/resourceVersion")));
            }
            let outcome = model.send(&request);
            on_response(&mut memory, &seen, &request, &outcome, model.now);
        }
        assert_fired_once(&model);
    }
}

#[test]
fn nothing_is_written_without_a_grant() {
    for mut model in every_write() {
        model.opened = i64::MAX;
        assert_eq!(run(&mut model), [Verb::Claim, Verb::Abort]);
        assert_aborted(&model, "NoGrant");
    }
}

#[test]
fn a_grant_that_differs_in_any_field_is_no_grant() {
    use crate::api::v1alpha1::{EvictWrite, OpenGrant};
    let common: [fn(&mut OpenGrant); 5] = [
        |open| open.action_id = "0".repeat(32),
        |open| open.action = "restart".into(),
        |open| open.remediation = "other".into(),
        |open| open.epoch += 1,
        |open| open.uid = "other".into(),
    ];
    let of_a_change: [fn(&mut OpenGrant); 4] = [
        |open| field(&mut open.write).path = "/spec".into(),
        |open| field(&mut open.write).before = model::template("x"),
        |open| field(&mut open.write).after = model::template("x"),
        |open| open.write = Write::Evict(EvictWrite { pod: Default::default() }),
    ];
    let of_an_eviction: [fn(&mut OpenGrant); 2] = [
        |open| open.write = Write::Evict(EvictWrite { pod: Default::default() }),
        |open| open.write = Write::Field(FieldWrite { path: "/spec".into(), before: 1.into(), after: 2.into() }),
    ];
    for model in every_write() {
        let own = if model.remediation.spec.write.field().is_some() { &of_a_change[..] } else { &of_an_eviction[..] };
        for (index, change) in common.iter().chain(own).enumerate() {
            let mut model = model.clone();
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
}

#[test]
fn a_grant_about_to_expire_is_not_begun_with_and_claimed_again() {
    for mut model in every_write() {
        model.grant_seconds = 1;
        let verbs = run(&mut model);
        assert_aborted(&model, "ClaimsExhausted");
        assert_eq!(verbs.iter().filter(|verb| **verb == Verb::Reclaim).count() as i64, MAX_EPOCHS - 1);
        assert!(!verbs.contains(&Verb::Arm) && !verbs.contains(&Verb::Fire));
    }
}

#[test]
fn a_grant_that_closes_while_armed_leads_to_disarm_and_a_new_claim() {
    for mut model in every_change() {
        let verbs = run_with(&mut model, Verb::Arm, Model::close_grant);
        assert_fired_once(&model);
        let disarm = verbs.iter().position(|verb| *verb == Verb::Disarm).unwrap();
        assert!(verbs[disarm..].contains(&Verb::Reclaim));
    }
}

#[test]
fn another_action_in_flight_is_waited_for() {
    for mut model in every_change() {
        let mut memory = Memory::default();
        let target = model.target.as_mut().unwrap();
        target["metadata"]["labels"] = serde_json::json!({names::ARMED: "rollout-undo"});
        target["metadata"]["annotations"][names::ACTION] = "f".repeat(32).into();
        let Next::Send(claim) = step(&mut memory, &model.observe(true), model.now) else { panic!("no claim") };
        let seen = model.observe(true);
        let outcome = model.send(&claim);
        on_response(&mut memory, &seen, &claim, &outcome, model.now);
        model.control();
        let next = step(&mut memory, &model.observe(true), model.now);
        assert!(matches!(next, Next::Wait(Wait::OtherAction, _)));
    }
}

#[test]
fn a_final_remediation_is_never_touched_again() {
    for mut model in every_write() {
        run(&mut model);
        model.change_field();
        assert!(run(&mut model).is_empty());
        assert!(wrote_once(&model));
    }
}

#[test]
fn somebody_who_takes_our_label_off_stops_the_action() {
    for mut model in every_change() {
        run_with(&mut model, Verb::Arm, |model| {
            let target = model.target.clone().unwrap();
            model.target = Some(patch::apply(&target, &patch::disarm(&target)).unwrap());
            model.touch();
        });
        assert_aborted(&model, "DisarmedByOthers");
    }
}

#[test]
fn an_action_without_provenance_marks_nothing_and_asks_no_policy_about_revisions() {
    assert_eq!(Probe::unarmed(false), [Probe::Static, Probe::Grant]);
    assert_eq!(Probe::unarmed(true).len(), 3);
    for mut model in [Model::planted(), Model::planted_to_undo()] {
        run(&mut model);
        assert_fired_once(&model);
    }
    // The policy about revisions is not even needed.
    let mut model = Model::planted();
    model.policies.retain(|policy| *policy != crate::core::execution::PolicyName::provenance(Kind::Deployment));
    run(&mut model);
    assert_fired_once(&model);
}

/// As anybody with the right to edit the target can.
fn forge(model: &mut Model) {
    let id = model.remediation.spec.action_id.clone();
    model.target.as_mut().unwrap()["metadata"]["annotations"][names::LAST_ACTION] = json!(id);
    model.touch();
}

#[test]
fn an_annotation_that_somebody_else_set_stops_the_write_and_is_not_reported_as_one() {
    for model in every_change() {
        let mut before = model.clone();
        forge(&mut before);
        assert_eq!(run(&mut before), [Verb::Abort], "nothing is claimed");
        assert_aborted(&before, "ChangedByOthers");
        for verb in [Verb::Claim, Verb::Arm, Verb::DryRunRight] {
            let mut model = model.clone();
            run_with(&mut model, verb, forge);
            assert_aborted(&model, "ChangedByOthers");
            let receipts = &model.remediation.status.as_ref().unwrap().receipts;
            assert!(receipts.iter().all(|receipt| receipt.step != ReceiptStep::Fired), "{}", about(&model));
        }
    }
}

#[test]
fn what_a_process_before_this_one_may_have_done_is_unproven_unless_the_value_is_there() {
    for model in every_change() {
        let crashed = |model: &mut Model, event: fn(&mut Model)| {
            let happened = std::cell::Cell::new(false);
            let crash = |_, verb| if verb == Verb::Claim { Fault::CrashAfter } else { Fault::None };
            let run = drive(model, step, crash, |model, verbs| {
                if verbs.contains(&Verb::Claim) && !happened.replace(true) {
                    event(model);
                }
            });
            assert!(run.ended, "{:?}", run.verbs);
        };
        let mut forged = model.clone();
        crashed(&mut forged, forge);
        assert_eq!((forged.phase(), forged.reason().as_str()), (RemediationPhase::Unproven, "WriteUnproven"));
        assert!(forged.remediation.status.as_ref().unwrap().receipts.is_empty() && wrote_nothing(&forged));
    }
}
