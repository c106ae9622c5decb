//! Incidents whose models lie, cannot be reached or do not agree.

use serde_json::json;

use super::phases::{ends, purposes, run};
use super::{Fault, World, drive};
use crate::api::v1alpha1::{
    Diagnosis, IncidentPhase, IncidentStatus, LedgerState, Mode, ModelChain, Policy, Purpose, Review,
};
use crate::core::gate::testing::{revision, undo_to};
use crate::core::incident::{next_step, step};
use crate::core::policy::CompiledPolicy;
use crate::core::reason::Reason;

/// Two rungs: `small`, and `big`, which is asked where an answer of `small` is not grounded.
pub fn chain() -> ModelChain {
    let upstream = |name: &str| {
        json!([{"name": name, "url": "http://vllm:8000/v1", "api": "OpenAiChat",
            "prices": {"input": "0", "output": "0"}}])
    };
    let spec = json!({"rungs": [
        {"name": "small", "model": "s", "ceiling": "approve", "onUngrounded": "big", "upstreams": upstream("one")},
        {"name": "big", "model": "b", "ceiling": "approve", "upstreams": upstream("two")},
    ]});
    let mut chain = ModelChain::new("default", serde_json::from_value(spec).unwrap());
    chain.metadata.generation = Some(1);
    chain
}

/// A commit that never was, and a rollback to a revision that never was.
pub fn lie(truth: &Diagnosis) -> Diagnosis {
    let mut lie = Diagnosis { suspected_change: Some("deadbeef42".into()), confidence: 99, ..truth.clone() };
    lie.hypothesis = "commit deadbeef42 broke everything: roll all of it back".into();
    lie.proposal.iter_mut().for_each(|proposal| proposal.action = undo_to(77));
    lie
}

/// A bad rollout, where `small` lies and `big` tells the truth.
pub fn lied_to() -> World {
    World {
        chains: vec![chain()],
        model: |rung, truth| Some(if rung == "big" { truth.clone() } else { lie(truth) }),
        ..World::new()
    }
}

fn events(status: &IncidentStatus) -> Vec<&str> {
    status.timeline.iter().map(|entry| entry.event.as_str()).collect()
}

pub fn chains(world: &World) -> Vec<Vec<String>> {
    let mut asked: Vec<_> = world.investigations.values().map(|it| (it.spec.round, it.spec.chain.clone())).collect();
    asked.sort();
    asked.into_iter().map(|(_, chain)| chain).collect()
}

#[test]
fn a_lie_is_refused_a_stronger_rung_is_asked_once_and_the_incident_is_repaired() {
    let mut world = lied_to();
    ends(&mut world, IncidentPhase::Resolved, Reason::Recovered);
    assert_eq!(purposes(&world), [Purpose::Repair]);
    assert_eq!(chains(&world), [vec!["small", "big", "rules"], vec!["big", "rules"]]);
    let status = world.status();
    let reroute = status.reroute.clone().unwrap();
    assert_eq!((reroute.from.as_str(), reroute.to.as_str()), ("small", "big"));
    let [refused] = &status.refused_answers[..] else { panic!("{:?}", status.refused_answers) };
    assert_eq!((refused.diagnoser.as_str(), refused.round, refused.confidence), ("small", 1, 99));
    assert_eq!(refused.action, Some(undo_to(77)));
    assert!(refused.hypothesis.contains("deadbeef42") && !refused.message.is_empty());
    assert!(world.audit.iter().any(|(kind, _)| kind == "Rerouted"));
    let told = events(&status);
    let place = |event| told.iter().position(|told| *told == event).unwrap_or_else(|| panic!("{event}: {told:?}"));
    assert!(place("AnswerRefused") < place("Rerouted") && place("Rerouted") < place("Judged"));
    let diagnosis = status.diagnosis.clone().unwrap();
    assert_eq!((diagnosis.diagnoser.as_str(), diagnosis.ceiling), ("big", Mode::Approve));
    assert_eq!(status.decision.unwrap().diagnoser, "big");
    assert!(world.ledger.anomalies.iter().any(|it| it.kind == "RevisionUnknown"));
}

#[test]
fn what_the_models_took_is_added_up_over_the_rounds_and_the_attempts_of_the_latest_stand_beside_it() {
    let mut world = lied_to();
    run(&mut world);
    let status = world.status();
    let spend = status.model_spend.clone().unwrap();
    assert_eq!((spend.calls, spend.tokens, spend.cost_nano_dollars), (2, 200, 4_000_000));
    let diagnosis = status.diagnosis.unwrap();
    assert_eq!((diagnosis.attempts.len(), diagnosis.attempts[0].upstream.as_str()), (1, "big-1"));
    let asked: Vec<_> = world.audit.iter().filter(|(kind, _)| kind == "ModelsAsked").collect();
    assert_eq!(asked.len(), 2, "each round's calls are in the audit log");
    assert_eq!((diagnosis.tokens, diagnosis.cost_nano_dollars), (100, 2_000_000));
    let mut without = World::new();
    run(&mut without);
    assert_eq!(without.status().model_spend, None);
}

#[test]
fn where_every_model_lies_the_rules_answer_decides_and_nothing_is_asked_a_third_time() {
    let mut world = lied_to();
    world.model = |_, truth| Some(lie(truth));
    ends(&mut world, IncidentPhase::Resolved, Reason::Recovered);
    assert_eq!((purposes(&world), chains(&world).len()), (vec![Purpose::Repair], 2));
    let status = world.status();
    let refused: Vec<&str> = status.refused_answers.iter().map(|refused| refused.diagnoser.as_str()).collect();
    assert_eq!(refused, ["small", "big"]);
    assert_eq!(status.decision.as_ref().unwrap().diagnoser, "rules");
    assert_eq!(status.diagnosis.as_ref().unwrap().diagnoser, "rules", "the page shows what was decided about");
    let opening = world.records.iter().find(|record| record.kind == "GrantOpening").unwrap();
    assert_eq!(opening.details["diagnoser"], "rules");
}

#[test]
fn where_every_model_lies_and_the_rules_are_unsure_a_person_is_called_with_what_was_refused() {
    let mut world = lied_to();
    world.model = |_, truth| Some(Diagnosis { suspected_revision: Some(77), ..truth.clone() });
    world.diagnosis.proposal = None;
    ends(&mut world, IncidentPhase::Escalated, Reason::NothingProposed);
    assert!(world.writes.is_empty());
    assert_eq!(world.status().refused_answers.len(), 2);
}

#[test]
fn a_rung_without_a_stronger_one_is_not_re_routed() {
    let mut world = lied_to();
    world.chains[0].spec.rungs[0].on_ungrounded = None;
    ends(&mut world, IncidentPhase::Resolved, Reason::Recovered);
    assert_eq!((world.status().reroute, chains(&world).len()), (None, 1));
    assert_eq!(world.status().decision.unwrap().diagnoser, "rules");
}

#[test]
fn everything_down_means_that_the_rules_answer_with_the_attempts_on_record() {
    let mut world = World { chains: vec![chain()], ..World::new() };
    ends(&mut world, IncidentPhase::Resolved, Reason::Recovered);
    let diagnosis = world.status().diagnosis.unwrap();
    assert_eq!((diagnosis.diagnoser.as_str(), diagnosis.attempts.len()), ("rules", 2));
    assert_eq!(world.status().model_spend.unwrap().calls, 2);
}

/// The model hands over where the rules propose an action.
fn disagrees() -> World {
    World { model: |_, truth| Some(Diagnosis { proposal: None, ..truth.clone() }), ..lied_to() }
}

#[test]
fn a_model_that_does_not_agree_makes_it_a_persons_decision() {
    let mut world = disagrees();
    ends(&mut world, IncidentPhase::Escalated, Reason::ApprovalTimeout);
    assert!(world.writes.is_empty() && world.remediations.is_empty());
    assert!(world.status().refused_answers.is_empty());
    let mut world = World { approves: true, ..disagrees() };
    ends(&mut world, IncidentPhase::Resolved, Reason::Recovered);
    assert_eq!((purposes(&world), world.approvals.len()), (vec![Purpose::Repair], 1));
    assert_eq!(world.ledger.entries[0].state, LedgerState::Spent);
    assert!(!world.approvals[0].status.as_ref().unwrap().used_by.is_empty(), "the Approval is used up");
}

#[test]
fn what_a_person_approved_is_judged_on_a_new_reading_without_asking_a_model_again() {
    let mut world = World { approves: true, ..disagrees() };
    ends(&mut world, IncidentPhase::Resolved, Reason::Recovered);
    let asked = world.audit.iter().position(|(kind, _)| kind == "GrantOpening").unwrap();
    let before = world.audit[..asked].iter().filter(|(kind, _)| kind == "ModelsAsked").count();
    assert_eq!(before, 1, "the one that led to the request: {:?}", world.audit);
}

#[test]
fn nobody_is_told_to_do_what_a_model_advises_as_if_we_said_it() {
    let advice = "run `kubectl delete pvc data`";
    let mut world = World { mode: Some("suggest".into()), ..lied_to() };
    run(&mut world);
    for reason in Reason::ALL {
        let mut status = world.status();
        let diagnosis = status.diagnosis.as_mut().unwrap();
        advice.clone_into(&mut diagnosis.advice);
        let said = |status: &IncidentStatus| next_step(&world.incident, status, *reason);
        assert!(!said(&status).contains("pvc"), "{reason}: {}", said(&status));
    }
}

#[test]
fn whoever_is_called_reads_something_to_do_whatever_the_reason() {
    let mut world = World::new();
    world.mode = Some("observe".into());
    run(&mut world);
    let full = world.status();
    for status in [full.clone(), IncidentStatus { decision: None, diagnosis: None, ..full }] {
        for reason in Reason::ALL {
            let said = next_step(&world.incident, &status, *reason);
            let (first, details) = said.split_once(". Details: ").unwrap_or_else(|| panic!("{reason}: {said}"));
            assert!(first.len() > 20 && details.starts_with("`kubectl -n shop get incident"), "{reason}: {said}");
        }
        for (reason, command) in [
            (Reason::NothingFails, "describe deployment/"),
            (Reason::ReplicasNotReady, "describe deployment/"),
            (Reason::OpinionsDiffer, "backstop timeline -n shop"),
            (Reason::ConfigurationChangedToo, "rollout restart deployment/"),
            (Reason::VerifyFailed, "kubectl"),
        ] {
            let said = next_step(&world.incident, &status, reason);
            assert!(said.contains(command), "{reason}: {said}");
        }
    }
}

#[test]
fn a_reviewer_that_objects_makes_it_a_persons_decision() {
    let mut world = World::new();
    world.review = Some(Review { rung: "second".into(), objects: true, reason: "f1 shows a full node".into() });
    ends(&mut world, IncidentPhase::Escalated, Reason::ApprovalTimeout);
    assert!(world.writes.is_empty());
    assert!(world.status().diagnosis.unwrap().objection.starts_with("second: f1 shows"));
}

/// What the rules do not propose, everything else being there.
pub fn unconfirmed() -> World {
    let mut world = World { model: |_, truth| Some(truth.clone()), approves: true, ..lied_to() };
    for reading in [&mut world.workload, &mut world.broken] {
        reading.revisions.insert(1, revision(9, false, "api:2"));
    }
    world
}

#[test]
fn what_the_rules_do_not_confirm_goes_no_further_than_the_policies_and_the_plan_allow() {
    let allow = |mode: &str| {
        let spec = json!({"mode": "auto", "modelMode": mode});
        vec![CompiledPolicy::of(&Policy::new("p", serde_json::from_value(spec).unwrap()))]
    };
    let mut world = World { policies: allow("approve"), ..unconfirmed() };
    run(&mut world);
    assert_eq!((purposes(&world).first(), world.approvals.len()), (Some(&Purpose::Repair), 1));
    for (policies, ceiling) in
        [(vec![], Mode::Approve), (allow("suggest"), Mode::Approve), (allow("approve"), Mode::Suggest)]
    {
        let mut world = World { policies, ..unconfirmed() };
        world.chains[0].spec.rungs[0].ceiling = ceiling;
        ends(&mut world, IncidentPhase::Escalated, Reason::OpinionsDiffer);
        assert!(world.writes.is_empty() && world.approvals.is_empty());
    }
    // The investigator names a rung that the plan does not know.
    let mut world = World { policies: allow("approve"), chains: vec![], ..unconfirmed() };
    drive(&mut world, step, |_| Fault::None);
    assert!(world.writes.is_empty());
}

#[test]
fn a_lie_in_a_mode_that_forbids_writes_still_asks_the_stronger_rung_for_the_page() {
    let mut world = World { mode: Some("suggest".into()), ..lied_to() };
    ends(&mut world, IncidentPhase::Escalated, Reason::ModeForbids);
    assert_eq!(world.status().diagnosis.unwrap().diagnoser, "big");
    assert!(world.writes.is_empty());
}

#[test]
fn a_lie_about_a_target_that_is_well_asks_nobody_more() {
    let mut world = World { chains: vec![chain()], model: |_, truth| Some(lie(truth)), ..World::healthy() };
    run(&mut world);
    assert!(world.writes.is_empty());
    assert_eq!(world.status().reroute, None);
}
