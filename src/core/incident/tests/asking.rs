//! How often models are asked, what their time costs, and how little their answers can hold up.

use std::cell::Cell;

use jiff::SignedDuration;
use serde_json::json;

use super::models::{chain, chains, lie, lied_to};
use super::phases::{ends, purposes, run};
use super::{Investigator, World};
use crate::api::v1alpha1::{
    BreakerState, Cause, Diagnosis, IncidentPhase, PodFailure, Policy, Proposal, Purpose, Review,
};
use crate::core::gate::testing::{at, undo_to};
use crate::core::incident::Notice;
use crate::core::policy::CompiledPolicy;
use crate::core::reason::Reason;

/// A bad rollout, and models that say what is true.
fn honest() -> World {
    World { model: |_, truth| Some(truth.clone()), ..lied_to() }
}

/// Nothing is wrong with the target, and models say so.
fn healthy() -> World {
    World { chains: vec![chain()], model: |_, truth| Some(truth.clone()), ..World::healthy() }
}

fn seconds(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

/// Rounds that asked models.
fn asked(world: &World) -> usize {
    world.investigations.values().filter(|it| it.spec.model_chain.is_some()).count()
}

/// Models take so long for an answer, as their chain allows.
fn slow(takes: i64, world: World) -> World {
    let mut world = World { models_take: seconds(takes), ..world };
    world.chains[0].spec.deadline_seconds = 120;
    world
}

fn a_person_was_asked(world: &World) -> bool {
    world.told.contains(&Notice::ApprovalAsked)
}

#[test]
fn a_healthy_target_is_looked_at_many_times_and_paid_for_once() {
    let mut world = World { alert_ends_after: Some(seconds(400)), ..healthy() };
    ends(&mut world, IncidentPhase::Resolved, Reason::NothingWrong);
    assert!(world.investigations.len() > 10, "{} rounds", world.investigations.len());
    let spend = world.status().model_spend.unwrap();
    assert_eq!((asked(&world), spend.calls, spend.cost_nano_dollars), (1, 1, 2_000_000));
    let models = world.status().models.unwrap();
    assert_eq!((models.latest, models.count), (1, 1));
    let told: Vec<&str> = models.evidence.iter().map(|piece| piece.split(' ').next().unwrap()).collect();
    assert_eq!(told, ["revision", "template"]);
}

#[test]
fn a_target_that_fails_late_is_what_models_are_asked_about_once_more() {
    for after in [10, 100, 320] {
        let fails_after = Some((seconds(after), World::new().diagnosis));
        let mut world = World { fails_after, ..healthy() };
        ends(&mut world, IncidentPhase::Resolved, Reason::Recovered);
        assert_eq!((purposes(&world), asked(&world)), (vec![Purpose::Repair], 2), "after {after} s");
        let evidence = world.status().models.unwrap().evidence;
        assert!(evidence.iter().any(|piece| piece == "pods of revision 2 fail: CrashLoop"), "{evidence:?}");
        assert!(evidence.iter().any(|piece| piece.starts_with("the rules say BadRollout")), "{evidence:?}");
    }
}

#[test]
fn an_approval_that_is_waited_for_asks_no_model_again() {
    let approve = || World { mode: Some("approve".into()), ..honest() };
    let mut world = approve();
    ends(&mut world, IncidentPhase::Escalated, Reason::ApprovalTimeout);
    assert_eq!(asked(&world), 1);
    let mut world = World { approves: true, ..approve() };
    ends(&mut world, IncidentPhase::Resolved, Reason::Recovered);
    assert_eq!(asked(&world), 1);
    let mut world = World { alert_ends_when_asked: true, ..approve() };
    ends(&mut world, IncidentPhase::Escalated, Reason::StillFailing);
    assert!(world.investigations.len() > 2, "{} rounds", world.investigations.len());
    assert_eq!(asked(&world), 1, "that the alert ended is no news about the target");
}

#[test]
fn after_a_re_route_the_dearer_rung_is_not_asked_in_every_round_either() {
    let mut world = World { mode: Some("approve".into()), alert_ends_when_asked: true, ..lied_to() };
    ends(&mut world, IncidentPhase::Escalated, Reason::StillFailing);
    let all = chains(&world);
    assert_eq!(all[..2], [vec!["small", "big", "rules"], vec!["big", "rules"]]);
    assert!(all.len() > 3 && all[2..].iter().all(|chain| *chain == ["rules"]), "{all:?}");
}

thread_local! {
    static TOLD: Cell<usize> = const { Cell::new(0) };
}

/// Another kind of lie each time.
fn another_lie(_: &str, truth: &Diagnosis) -> Option<Diagnosis> {
    let mut told = Diagnosis { confidence: 99, ..truth.clone() };
    match TOLD.replace(TOLD.get() + 1) % 5 {
        0 => told.suspected_revision = Some(77),
        1 => told.claims.iter_mut().for_each(|claim| claim.cites = vec!["f99".into()]),
        2 => told.claims.iter_mut().for_each(|claim| claim.cites = vec!["f1".into()]),
        3 => (told.cause, told.proposal) = (Cause::Recovered, None),
        _ => told.proposal.iter_mut().for_each(|proposal| proposal.target.name = "db".into()),
    }
    Some(told)
}

#[test]
fn a_model_that_lies_in_another_way_each_time_counts_once_for_the_breaker() {
    let fails_after = Some((seconds(20), World::new().diagnosis));
    let mut world = World { model: another_lie, fails_after, ..healthy() };
    ends(&mut world, IncidentPhase::Resolved, Reason::Recovered);
    assert_eq!(asked(&world), 3, "when it was well, when it failed, and the stronger rung once");
    let refused: Vec<String> = world.status().refused_answers.into_iter().map(|it| it.reason).collect();
    assert_eq!(refused.len(), 3, "{refused:?}");
    assert_eq!(world.ledger.anomalies.len(), 1, "{:?}", world.ledger.anomalies);
    assert!(world.ledger.breakers.is_empty());
    assert_eq!(world.ledger.breaker.state, BreakerState::Closed);
}

/// Who does not answer at all, who says the same as the rules, who lies.
type Model = fn(&str, &Diagnosis) -> Option<Diagnosis>;

#[test]
fn models_that_hang_or_are_slow_cost_the_rules_no_repair() {
    let models: [(&str, Model); 3] =
        [("hang", |_, _| None), ("agree", |_, truth| Some(truth.clone())), ("lie", |_, truth| Some(lie(truth)))];
    for takes in [5, 61, 120] {
        for (what, model) in models {
            let mut world = slow(takes, World { model, ..lied_to() });
            // Whoever grants the evidence no time at all loses no repair by it either.
            world.terms.timings.evidence_wait_seconds = 0;
            ends(&mut world, IncidentPhase::Resolved, Reason::Recovered);
            assert_eq!(purposes(&world), [Purpose::Repair], "{what} {takes} s");
            let rungs = if takes == 5 && what == "lie" { 2 } else { 1 };
            assert_eq!(asked(&world), rungs, "{what} {takes} s");
            let fired = world.fired.unwrap().duration_since(at(0)).as_secs();
            assert!(fired < takes * i64::try_from(rungs).unwrap() + 15, "{what}: {fired} s for {takes} s of models");
        }
    }
}

#[test]
fn the_time_that_models_took_is_not_taken_from_that_of_the_evidence() {
    // It begins to fail after the models have answered, and when the patience would be over if their time counted.
    let fails_after = Some((seconds(140), World::new().diagnosis));
    let mut world = slow(120, World { fails_after, ..honest() });
    world.workload.state.ready = 2;
    world.workload.pods.iter_mut().for_each(|pod| pod.fact.failure = PodFailure::Starting);
    world.diagnosis = Diagnosis { cause: Cause::Unknown, ..Diagnosis::default() };
    world.diagnosis.diagnoser = "rules".into();
    ends(&mut world, IncidentPhase::Resolved, Reason::Recovered);
    assert_eq!(purposes(&world), [Purpose::Repair]);
}

#[test]
fn a_round_that_its_models_never_end_is_followed_by_one_of_the_rules_alone() {
    let mut world = World { models_hang: true, ..honest() };
    ends(&mut world, IncidentPhase::Resolved, Reason::Recovered);
    assert_eq!((purposes(&world), chains(&world)[1].clone()), (vec![Purpose::Repair], vec!["rules".to_owned()]));
    assert!(world.status().timeline.iter().any(|entry| entry.event == "RoundGivenUp"));
    let mut world = World { investigator: Investigator::Silent, ..honest() };
    ends(&mut world, IncidentPhase::Escalated, Reason::InvestigationTimeout);
    assert_eq!(world.investigations.len(), 1, "nobody began it: no model is to blame");
}

#[test]
fn a_slow_model_that_does_not_agree_makes_it_a_persons_decision_all_the_same() {
    for takes in [61, 120] {
        let hands_over = || {
            let model: Model = |_, truth| Some(Diagnosis { proposal: None, ..truth.clone() });
            slow(takes, World { model, ..lied_to() })
        };
        let mut world = hands_over();
        ends(&mut world, IncidentPhase::Escalated, Reason::ApprovalTimeout);
        assert!(a_person_was_asked(&world) && world.writes.is_empty());
        let mut world = World { approves: true, ..hands_over() };
        ends(&mut world, IncidentPhase::Resolved, Reason::Recovered);
        assert_eq!((purposes(&world), asked(&world)), (vec![Purpose::Repair], 1));
    }
}

#[test]
fn what_a_slow_model_proposes_and_the_rules_do_not_can_still_be_approved() {
    let spec = json!({"mode": "auto", "modelMode": "approve"});
    let policy = CompiledPolicy::of(&Policy::new("p", serde_json::from_value(spec).unwrap()));
    let mut world = World { policies: vec![policy], ..slow(70, super::models::unconfirmed()) };
    run(&mut world);
    assert_eq!((purposes(&world).first(), world.approvals.len()), (Some(&Purpose::Repair), 1));
}

/// Whether other workloads fail too is not known at first: nothing is done, and the incident waits.
fn waiting(world: World) -> World {
    World { neighbours_unread: seconds(10), ..world }
}

#[test]
fn what_a_model_said_is_not_forgotten_while_the_rules_are_asked_alone() {
    let floor = || {
        let spec = json!({"mode": "auto", "confidenceFloor": 60});
        vec![CompiledPolicy::of(&Policy::new("p", serde_json::from_value(spec).unwrap()))]
    };
    let objects = Review { rung: "big".into(), objects: true, reason: "f1 shows a full node".into() };
    let reviewed = {
        let mut world = honest();
        world.review = Some(objects);
        world
    };
    let hands_over: Model = |_, truth| Some(Diagnosis { proposal: None, ..truth.clone() });
    let is_unsure: Model = |_, truth| Some(Diagnosis { confidence: 30, ..truth.clone() });
    for (what, world, says) in [
        ("hands over", World { model: hands_over, ..lied_to() }, "no action"),
        ("objects", reviewed, "a full node"),
        ("is unsure", World { model: is_unsure, policies: floor(), ..lied_to() }, "below the floor"),
    ] {
        let mut world = waiting(world);
        world.chains[0].spec.rungs[0].on_ungrounded = None;
        run(&mut world);
        assert!(world.investigations.len() > 1 && asked(&world) == 1, "{what}");
        assert!(a_person_was_asked(&world) && world.writes.is_empty(), "{what}: {}", world.status().message);
        let message = world.status().decision.unwrap().message;
        assert!(message.contains(says), "{what}: {message}");
    }
    // The stronger rung is asked, and cannot be reached.
    let is_unsure: Model = |rung, truth| (rung == "small").then(|| Diagnosis { confidence: 30, ..truth.clone() });
    let mut world = World { model: is_unsure, policies: floor(), ..lied_to() };
    run(&mut world);
    assert!(asked(&world) == 2 && a_person_was_asked(&world) && world.writes.is_empty());
    for model in [(|_, truth| Some(truth.clone())) as Model, |_, truth| Some(lie(truth)), |_, _| None] {
        let mut world = waiting(World { model, ..lied_to() });
        ends(&mut world, IncidentPhase::Resolved, Reason::Recovered);
        assert_eq!((purposes(&world), asked(&world)), (vec![Purpose::Repair], 1));
    }
}

#[test]
fn whoever_is_called_reads_what_the_model_said_and_what_became_of_the_models() {
    let mut world = waiting(World {
        model: |_, truth| Some(Diagnosis { hypothesis: "the database is down".into(), ..truth.clone() }),
        ..lied_to()
    });
    world.diagnosis.proposal = None;
    ends(&mut world, IncidentPhase::Escalated, Reason::NothingProposed);
    let diagnosis = world.status().diagnosis.unwrap();
    assert_eq!((diagnosis.diagnoser.as_str(), diagnosis.hypothesis.as_str()), ("small", "the database is down"));
    assert_ne!(Some(diagnosis.investigation), world.status().investigation, "the facts are those of its round");
    // What the rules propose stands for itself, with the attempts that were made before.
    let mut world = waiting(World { model: |_, _| None, ..lied_to() });
    ends(&mut world, IncidentPhase::Resolved, Reason::Recovered);
    let diagnosis = world.status().diagnosis.unwrap();
    let attempts: Vec<&str> = diagnosis.attempts.iter().map(|attempt| attempt.upstream.as_str()).collect();
    assert_eq!((diagnosis.diagnoser.as_str(), attempts), ("rules", vec!["small-1", "big-1"]));
}

#[test]
fn an_answer_that_was_refused_while_it_waited_is_made_up_for_before_a_person_is_called() {
    let model: Model = |rung, truth| {
        let lie = Diagnosis { suspected_revision: Some(77), ..truth.clone() };
        Some(if rung == "big" { Diagnosis { hypothesis: "a full disk".into(), ..truth.clone() } } else { lie })
    };
    let mut world = waiting(World { model, ..lied_to() });
    world.diagnosis.proposal = None;
    ends(&mut world, IncidentPhase::Escalated, Reason::NothingProposed);
    let all = chains(&world);
    assert_eq!((all.first().unwrap()[0].as_str(), all.last().unwrap()[0].as_str()), ("small", "big"));
    assert_eq!((asked(&world), world.status().diagnosis.unwrap().hypothesis.as_str()), (2, "a full disk"));
}

#[test]
fn that_all_is_well_with_a_target_that_fails_is_refused_counted_and_re_routed() {
    let says: Model = |_, truth| {
        Some(Diagnosis { cause: Cause::Recovered, proposal: None, claims: vec![], suspect: None, ..truth.clone() })
    };
    let mut world = World { model: says, ..lied_to() };
    ends(&mut world, IncidentPhase::Resolved, Reason::Recovered);
    assert_eq!((purposes(&world), chains(&world).len()), (vec![Purpose::Repair], 2));
    let status = world.status();
    let refused: Vec<&str> = status.refused_answers.iter().map(|it| it.reason.as_str()).collect();
    assert_eq!(refused, ["CauseUngrounded", "CauseUngrounded"]);
    assert_eq!(status.reroute.unwrap().to, "big");
    assert_eq!(world.ledger.anomalies.len(), 1);
    let fired = world.fired.unwrap().duration_since(at(0)).as_secs();
    assert!(fired < 10, "it held the repair up for {fired} s");
}

/// What a model can say about a bad rollout.
const ANSWERS: &[(&str, Model)] = &[
    ("nothing", |_, _| None),
    ("the same", |_, truth| Some(truth.clone())),
    ("a lie", |_, truth| Some(lie(truth))),
    ("that it recovered", |_, truth| {
        Some(Diagnosis { cause: Cause::Recovered, proposal: None, claims: vec![], ..truth.clone() })
    }),
    ("that it recovered, and an action", |_, truth| Some(Diagnosis { cause: Cause::Recovered, ..truth.clone() })),
    ("that it never worked", |_, truth| {
        Some(Diagnosis { cause: Cause::NeverWorked, proposal: None, claims: vec![], ..truth.clone() })
    }),
    ("that it is the configuration", |_, truth| {
        Some(Diagnosis { cause: Cause::ConfigurationChanged, proposal: None, ..truth.clone() })
    }),
    ("that it does not know", |_, _| Some(Diagnosis::default())),
    ("a cause without an action", |_, truth| Some(Diagnosis { proposal: None, ..truth.clone() })),
    ("no claims", |_, truth| Some(Diagnosis { claims: vec![], ..truth.clone() })),
    ("that it is not sure", |_, truth| Some(Diagnosis { confidence: 0, ..truth.clone() })),
    ("another revision", |_, truth| {
        let target = truth.proposal.as_ref().map(|proposal| proposal.target.clone()).unwrap_or_default();
        Some(Diagnosis { proposal: Some(Proposal { action: undo_to(4), target }), ..truth.clone() })
    }),
    ("another object", |_, truth| {
        let mut told = truth.clone();
        told.proposal.iter_mut().for_each(|proposal| proposal.target.namespace = "kube-system".into());
        Some(told)
    }),
];

#[test]
fn whatever_a_model_says_and_however_long_it_takes_the_rules_repair_it_as_soon_or_a_person_is_asked() {
    let mut tried = 0;
    for waits in [0, 10, 30] {
        let calm = |world: World| World { neighbours_unread: seconds(waits), ..world };
        let mut alone = calm(World::new());
        ends(&mut alone, IncidentPhase::Resolved, Reason::Recovered);
        for takes in [0, 20, 61, 120] {
            for (what, model) in ANSWERS {
                let mut world = slow(takes, calm(World { model: *model, ..lied_to() }));
                run(&mut world);
                let status = world.status();
                let repaired = purposes(&world) == [Purpose::Repair];
                assert!(
                    repaired || a_person_was_asked(&world),
                    "it says {what} after {takes} s, waiting {waits}: {} {}",
                    status.reason,
                    status.message
                );
                let rounds = alone.status().rounds + i32::try_from(asked(&world)).unwrap();
                assert!(status.rounds <= rounds, "{what}: {} rounds, and {rounds} would do", status.rounds);
                assert!(asked(&world) <= 2, "{what}: models were asked {} times", asked(&world));
                tried += 1;
            }
        }
    }
    assert!(tried > 100, "{tried}");
}
