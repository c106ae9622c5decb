//! The investigator is replaced by an adversary. It starts from what is true, so that most of what it says passes, and
//! bends a few things: the share of cases that end in a write is measured, because a property that is never reached
//! proves nothing.

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::super::testing::{GateFixture, at, bad_rollout, claim, policy, reading, undo_to};
use super::super::*;
use crate::api::v1alpha1::{Cause, ClaimKind, FactData, Mode, PodFailure, Review};

const CASES: u32 = 1024;

/// One thing that an investigator can say otherwise.
#[derive(Clone, Debug)]
enum Lie {
    Revision(i64),
    TargetName(String),
    TargetNamespace(String),
    TargetUid(String),
    TargetKind(String),
    NoProposal,
    Confidence(i32),
    Suspected(Option<i64>),
    SuspectName(String),
    NoSuspect,
    Cause(Cause),
    Prose(String),
    Diagnoser(String),
    ClaimKind(usize, ClaimKind),
    ClaimRevision(usize, Option<i64>),
    ClaimFailure(usize, Option<PodFailure>),
    ClaimCites(usize, Vec<String>),
    NoClaim(usize),
    AnotherClaim(ClaimKind, Option<i64>, Vec<String>),
    SecondOpinion(i64),
    OfModel(Mode),
    RulesSay(Option<i64>),
    Change(String),
    Review(bool),
    FactsWithoutFailure,
    FactsOfRevision(i64),
}

fn lie() -> impl Strategy<Value = Lie> {
    let number = || -2i64..5;
    let name = || "(api|api-1|api-2-a|database|\\PC{0,8})";
    let cites = || proptest::collection::vec("f[0-4]", 0..3);
    let kind = || proptest::sample::select(ClaimKind::ALL);
    let failure = proptest::sample::select(vec![
        None,
        Some(PodFailure::None),
        Some(PodFailure::CrashLoop),
        Some(PodFailure::OutOfMemory),
    ]);
    let cause = proptest::sample::select(Cause::ALL);
    prop_oneof![
        number().prop_map(Lie::Revision),
        name().prop_map(Lie::TargetName),
        "(shop|prod|)".prop_map(Lie::TargetNamespace),
        "(uid-api|uid-database|)".prop_map(Lie::TargetUid),
        "(Deployment|StatefulSet|Pod)".prop_map(Lie::TargetKind),
        Just(Lie::NoProposal),
        (-5i32..200).prop_map(Lie::Confidence),
        proptest::option::of(number()).prop_map(Lie::Suspected),
        name().prop_map(Lie::SuspectName),
        Just(Lie::NoSuspect),
        cause.prop_map(Lie::Cause),
        "\\PC{0,40}".prop_map(Lie::Prose),
        "\\PC{0,12}".prop_map(Lie::Diagnoser),
        (0usize..3, kind()).prop_map(|(index, kind)| Lie::ClaimKind(index, kind)),
        (0usize..3, proptest::option::of(number())).prop_map(|(index, number)| Lie::ClaimRevision(index, number)),
        (0usize..3, failure).prop_map(|(index, failure)| Lie::ClaimFailure(index, failure)),
        (0usize..3, cites()).prop_map(|(index, cites)| Lie::ClaimCites(index, cites)),
        (0usize..3).prop_map(Lie::NoClaim),
        (kind(), proptest::option::of(number()), cites()).prop_map(|(k, n, c)| Lie::AnotherClaim(k, n, c)),
        number().prop_map(Lie::SecondOpinion),
        proptest::sample::select(vec![Mode::Observe, Mode::Approve, Mode::Auto]).prop_map(Lie::OfModel),
        proptest::option::of(number()).prop_map(Lie::RulesSay),
        "(api:[12]|[0-9a-f]{7}|\\PC{0,8})".prop_map(Lie::Change),
        any::<bool>().prop_map(Lie::Review),
        Just(Lie::FactsWithoutFailure),
        number().prop_map(Lie::FactsOfRevision),
    ]
}

fn tell(world: &mut GateFixture, lie: Lie) {
    let GateFixture { facts, diagnosis, second, ceiling, review, .. } = world;
    let diagnosis = diagnosis.as_mut().unwrap();
    let claims = diagnosis.claims.len();
    match lie {
        Lie::Revision(number) => diagnosis.proposal.iter_mut().for_each(|p| p.action = undo_to(number)),
        Lie::TargetName(name) => diagnosis.proposal.iter_mut().for_each(|p| p.target.name.clone_from(&name)),
        Lie::TargetNamespace(name) => diagnosis.proposal.iter_mut().for_each(|p| p.target.namespace.clone_from(&name)),
        Lie::TargetUid(uid) => diagnosis.proposal.iter_mut().for_each(|p| p.target.uid.clone_from(&uid)),
        Lie::TargetKind(kind) => diagnosis.proposal.iter_mut().for_each(|p| p.target.kind.clone_from(&kind)),
        Lie::NoProposal => diagnosis.proposal = None,
        Lie::Confidence(confidence) => diagnosis.confidence = confidence,
        Lie::Suspected(number) => diagnosis.suspected_revision = number,
        Lie::SuspectName(name) => diagnosis.suspect.iter_mut().for_each(|s| s.name.clone_from(&name)),
        Lie::NoSuspect => diagnosis.suspect = None,
        Lie::Cause(cause) => diagnosis.cause = cause,
        Lie::Prose(text) => diagnosis.hypothesis = text,
        Lie::Diagnoser(name) => diagnosis.diagnoser = name,
        Lie::ClaimKind(index, kind) if claims > index => diagnosis.claims[index].kind = kind,
        Lie::ClaimRevision(index, number) if claims > index => diagnosis.claims[index].revision = number,
        Lie::ClaimFailure(index, failure) if claims > index => diagnosis.claims[index].failure = failure,
        Lie::ClaimCites(index, cites) if claims > index => diagnosis.claims[index].cites = cites,
        Lie::NoClaim(index) if claims > index => drop(diagnosis.claims.remove(index)),
        Lie::AnotherClaim(kind, number, cites) => {
            let cites: Vec<&str> = cites.iter().map(String::as_str).collect();
            diagnosis.claims.push(claim(kind, number, &cites));
        }
        Lie::SecondOpinion(number) => {
            let mut other = diagnosis.clone();
            other.proposal.iter_mut().for_each(|p| p.action = undo_to(number));
            *second = Some(other);
        }
        Lie::OfModel(mode) => {
            (diagnosis.diagnoser, diagnosis.ceiling, *ceiling) = ("haiku".into(), mode, mode);
        }
        Lie::RulesSay(number) => {
            let mut other = bad_rollout().diagnosis.unwrap();
            match number {
                Some(number) => other.proposal.iter_mut().for_each(|p| p.action = undo_to(number)),
                None => other.proposal = None,
            }
            *second = Some(other);
        }
        Lie::Change(change) => diagnosis.suspected_change = Some(change),
        Lie::Review(objects) => *review = Some(Review { rung: "second".into(), objects, reason: "no".into() }),
        Lie::FactsWithoutFailure => facts.retain(|fact| !matches!(fact.data, FactData::Pod(_))),
        Lie::FactsOfRevision(number) => facts.iter_mut().for_each(|fact| {
            if let FactData::Pod(pod) = &mut fact.data {
                pod.revision = Some(number);
            }
        }),
        _ => {}
    }
}

fn told(lies: Vec<Lie>) -> GateFixture {
    let mut world = bad_rollout();
    lies.into_iter().for_each(|lie| tell(&mut world, lie));
    world
}

/// Whatever the investigator says, only the incident's target is written to, and only with the template of the
/// recorded, healthy, earlier revision that the rules pick.
#[test]
fn no_diagnosis_makes_the_controller_write_anything_but_the_recorded_template() {
    let acts = Cell::new(0u32);
    let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
    runner
        .run(&proptest::collection::vec(lie(), 0..=3), |lies| {
            let world = told(lies);
            let Judgement { decision, prediction, charge, on_second_opinion, .. } = world.judge();
            if decision.outcome != DecisionOutcome::Act {
                return Ok(());
            }
            acts.set(acts.get() + 1);
            let prediction = prediction.unwrap();
            let field = prediction.write.field().unwrap();
            prop_assert_eq!(&field.after, &world.reading.revisions[1].template);
            prop_assert_eq!(&field.before, &world.reading.template);
            prop_assert_eq!(field.path.as_str(), "/spec/template");
            prop_assert_eq!(&charge.unwrap().target_uid, &world.reading.object.uid);
            prop_assert_eq!(decision.action, Some(undo_to(1)));
            // Whoever was believed named the target, and nothing else.
            let believed = if on_second_opinion { world.second } else { world.diagnosis };
            let proposal = believed.unwrap().proposal.unwrap();
            prop_assert_eq!(proposal.action, undo_to(1));
            prop_assert_eq!((proposal.target.kind, proposal.target.name), ("Deployment".into(), "api".into()));
            prop_assert_eq!(proposal.target.namespace, "shop");
            Ok(())
        })
        .unwrap();
    let share = f64::from(acts.get()) / f64::from(CASES);
    println!("{} of {CASES} cases acted: {:.0} %", acts.get(), share * 100.0);
    assert!(share >= 0.25, "only {:.0} % of the cases reach a write: the property is hardly asked", share * 100.0);
}

/// Nothing that an investigator can say or show makes the controller write to a workload that works.
#[test]
fn no_diagnosis_makes_the_controller_touch_a_healthy_workload() {
    let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
    runner
        .run(&proptest::collection::vec(lie(), 0..=2), |lies| {
            let mut world = told(lies);
            world.reading = reading().healthy();
            prop_assert_ne!(world.judge().decision.outcome, DecisionOutcome::Act);
            Ok(())
        })
        .unwrap();
}

/// A model lies, with all that it can say otherwise and all of it at once.
fn answer() -> impl Strategy<Value = Vec<Lie>> {
    prop_oneof![
        3 => proptest::collection::vec(lie(), 0..=3),
        // That all is well, or nothing at all, without a claim that could be tested.
        1 => proptest::sample::select(Cause::ALL).prop_map(|cause| {
            let mut lies = vec![Lie::Cause(cause), Lie::NoProposal, Lie::NoSuspect, Lie::Suspected(None)];
            lies.extend([Lie::NoClaim(2), Lie::NoClaim(1), Lie::NoClaim(0)]);
            lies
        }),
    ]
}

/// Whatever a model answers, the action of the rules comes to no less than it would without a model, or waits for a
/// person's approval: in time or late, whatever mode, floor or validation holds.
#[test]
fn no_answer_of_a_model_keeps_the_action_of_the_rules_from_what_it_comes_to_without_one_or_from_a_person() {
    let reached: [Cell<u32>; 3] = Default::default();
    let count = |which: usize| reached[which].set(reached[which].get() + 1);
    let policies = [
        "{}",
        r#"{"confidenceFloor": 50}"#,
        r#"{"modelMode": "approve"}"#,
        r#"{"confidenceFloor": 95}"#,
        r#"{"validations": [{"expression": "diagnosis.confidence >= 50"}]}"#,
    ];
    let mut runner = TestRunner::new(Config { cases: 2 * CASES, failure_persistence: None, ..Config::default() });
    let seconds = prop_oneof![3 => Just(1i64), 1 => Just(61), 1 => Just(120)];
    let inputs = (answer(), seconds, proptest::sample::select(policies.to_vec()), any::<bool>());
    runner
        .run(&inputs, |(lies, seconds, spec, approve)| {
            let mut world = told(lies);
            let mut spec: serde_json::Value = serde_json::from_str(spec).unwrap();
            spec["mode"] = "auto".into();
            world.policies = vec![policy(spec)];
            world.mode = Some(if approve { "approve" } else { "auto" }.into());
            (world.now, world.ceiling) = (at(seconds), Mode::Approve);
            world.diagnosis().diagnoser = "haiku".into();
            let rules = bad_rollout().diagnosis;
            world.second = rules.clone();
            let answered = world.judge().decision;
            (world.diagnosis, world.second, world.review) = (rules, None, None);
            let alone = world.judge().decision.outcome;
            let asks = (answered.outcome, answered.action) == (DecisionOutcome::AwaitApproval, Some(undo_to(1)));
            match alone {
                DecisionOutcome::Act => {
                    count(0);
                    prop_assert!(asks || answered.outcome == DecisionOutcome::Act, "{:?}", answered.outcome);
                }
                DecisionOutcome::AwaitApproval => {
                    count(1);
                    prop_assert!(asks, "{:?}", answered.outcome);
                }
                DecisionOutcome::Wait => {
                    count(2);
                    prop_assert!(asks || answered.outcome == DecisionOutcome::Wait, "{:?}", answered.outcome);
                }
                DecisionOutcome::Escalate | DecisionOutcome::Resolve => {}
            }
            Ok(())
        })
        .unwrap();
    let reached = reached.map(|count| count.get());
    println!("without a model: {} acted, {} asked, {} waited", reached[0], reached[1], reached[2]);
    assert!(reached.iter().all(|count| *count > 100), "hardly asked: {reached:?}");
}
