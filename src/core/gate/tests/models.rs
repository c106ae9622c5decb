//! What an answer of a model may achieve: less than the rules, and nothing without them or a person.

use serde_json::json;

use super::super::testing::{
    GateFixture, at, bad_rollout, fact, facts_of_health, object, policy, reading, revision, undo_to,
};
use super::super::*;
use super::{named, only_refusal, refused};
use crate::api::v1alpha1::{Cause, FactData, Mode, PodFact, PodFailure, Review, RevisionFact, Verdict};
use crate::core::policy::CompiledPolicy;

/// A Policy that lets an answer of a model go as far as this.
fn model_mode(mode: &str) -> CompiledPolicy {
    policy(json!({"mode": "auto", "modelMode": mode}))
}

/// A bad rollout that a model diagnosed as the rules do.
fn diagnosed_by_model() -> GateFixture {
    let mut world = bad_rollout();
    world.second = world.diagnosis.clone();
    world.diagnosis().diagnoser = "haiku".into();
    world.diagnosis().ceiling = Mode::Suggest;
    world.ceiling = Mode::Suggest;
    world
}

/// The model proposes what the rules, on this reading, do not: the newest earlier revision is the current one restarted.
/// Everything else that the action needs is there.
fn unconfirmed() -> GateFixture {
    let mut world = diagnosed_by_model();
    world.reading.revisions.insert(1, revision(9, false, "api:2"));
    world.second = None;
    world.ceiling = Mode::Approve;
    world.policies = vec![model_mode("approve")];
    world
}

/// A person approves exactly what is judged.
fn approve(world: &mut GateFixture) {
    let digest = world.judge().decision.digest.expect("an exact action");
    world.approvals = vec![ValidApproval { digest, approver: "ann".into(), ..ValidApproval::default() }];
}

fn outcome(world: &GateFixture) -> DecisionOutcome {
    world.judge().decision.outcome
}

#[test]
fn an_answer_that_the_rules_confirm_goes_as_far_as_the_rules_whatever_the_rungs_ceiling_is() {
    let mut world = diagnosed_by_model();
    for ceiling in [Mode::Observe, Mode::Suggest, Mode::Approve] {
        world.ceiling = ceiling;
        let judgement = world.judge();
        assert_eq!(judgement.decision.outcome, DecisionOutcome::Act);
        assert_eq!((judgement.decision.diagnoser.as_str(), judgement.on_second_opinion), ("haiku", false));
        assert_eq!(judgement.ungrounded, None);
    }
    world.mode = Some("approve".into());
    assert_eq!(refused(&world), (DecisionOutcome::AwaitApproval, Reason::ApprovalMissing));
}

#[test]
fn what_the_rules_do_not_confirm_needs_a_policy_a_rung_and_a_person_that_all_allow_it() {
    let mut world = unconfirmed();
    assert_eq!(refused(&world), (DecisionOutcome::AwaitApproval, Reason::OpinionsDiffer));
    let message = world.judge().decision.message;
    assert!(message.contains("create an Approval for incident inc with digest"), "{message}");
    approve(&mut world);
    assert_eq!(outcome(&world), DecisionOutcome::Act);
    type Bend = fn(&mut GateFixture);
    let lacking: [(Bend, &str); 9] = [
        (|w| w.policies.clear(), "no Policy says so"),
        (|w| w.policies = vec![model_mode("suggest")], "a Policy says suggest"),
        (|w| w.policies = vec![policy(json!({"mode": "auto"}))], "a Policy says nothing"),
        (|w| w.policies.push(policy(json!({"mode": "auto"}))), "one of two Policies says nothing"),
        (|w| w.policies.push(model_mode("observe")), "one of two Policies says observe"),
        (|w| w.ceiling = Mode::Suggest, "the rung may only suggest"),
        (|w| w.ceiling = Mode::Observe, "the plan does not know the rung"),
        (|w| w.diagnosis().diagnoser = "rules".into(), "it claims to be the rules"),
        (|w| w.mode = Some("suggest".into()), "the namespace only suggests"),
    ];
    for (bend, why) in lacking {
        let mut world = unconfirmed();
        approve(&mut world);
        bend(&mut world);
        assert_eq!(outcome(&world), DecisionOutcome::Escalate, "{why}");
    }
    for bend in
        [|w: &mut GateFixture| w.approvals.clear(), |w: &mut GateFixture| w.approvals[0].digest = "0".repeat(64)]
    {
        let mut world = unconfirmed();
        approve(&mut world);
        bend(&mut world);
        assert_eq!(outcome(&world), DecisionOutcome::AwaitApproval);
    }
}

#[test]
fn nothing_makes_an_answer_that_the_rules_do_not_confirm_act_by_itself() {
    let modes = [Mode::Observe, Mode::Suggest, Mode::Approve, Mode::Auto];
    for namespace in ["observe", "suggest", "approve", "auto"] {
        for allowed in ["observe", "suggest", "approve", "auto"] {
            for (ceiling, confidence) in modes.into_iter().zip([0, 50, 99, 100]) {
                for second in [None, bad_rollout().diagnosis] {
                    let mut world = unconfirmed();
                    world.mode = Some(namespace.into());
                    world.policies = vec![model_mode(allowed)];
                    (world.ceiling, world.diagnosis().ceiling) = (ceiling, Mode::Auto);
                    world.diagnosis().confidence = confidence;
                    world.second = second;
                    assert_ne!(outcome(&world), DecisionOutcome::Act, "{namespace} {allowed} {ceiling}");
                }
            }
        }
    }
}

#[test]
fn in_mode_approve_one_approval_answers_both_questions() {
    let mut world = unconfirmed();
    world.mode = Some("approve".into());
    assert_eq!(outcome(&world), DecisionOutcome::AwaitApproval);
    approve(&mut world);
    assert_eq!(outcome(&world), DecisionOutcome::Act);
}

/// Changes a fixture.
type Change = fn(&mut GateFixture);

/// All is well, about a target that fails: nothing is proposed, and nothing is claimed that could be tested.
fn says_recovered(world: &mut GateFixture) {
    let diagnosis = world.diagnosis();
    (diagnosis.cause, diagnosis.proposal) = (Cause::Recovered, None);
    (diagnosis.suspect, diagnosis.suspected_revision) = (None, None);
    diagnosis.claims.clear();
}

/// The lies that the checks of quality catch.
const LIES: &[(Change, Reason)] = &[
    (|w| w.diagnosis().suspected_revision = Some(77), Reason::ObjectUnknown),
    (|w| w.diagnosis().suspect.as_mut().unwrap().name = "ghost".into(), Reason::ObjectUnknown),
    (|w| w.diagnosis().suspected_change = Some("deadbeef42".into()), Reason::ObjectUnknown),
    (|w| w.diagnosis().claims.clear(), Reason::ClaimUncited),
    (|w| w.diagnosis().claims[0].cites = vec!["f99".into()], Reason::ClaimUncited),
    (|w| w.diagnosis().claims[2].cites = vec!["f2".into()], Reason::ClaimUnsupported),
    (
        |w| {
            let failing = PodFact { revision: Some(9), failure: PodFailure::CrashLoop, ..PodFact::default() };
            w.facts.push(fact("f4", object("Pod", "api-9-a"), FactData::Pod(failing)));
            let claim = &mut w.diagnosis().claims[1];
            (claim.revision, claim.cites) = (Some(9), vec!["f4".into()]);
        },
        Reason::ClaimUngrounded,
    ),
    (says_recovered, Reason::CauseUngrounded),
    (|w| w.diagnosis().cause = Cause::Recovered, Reason::CauseUngrounded),
    (
        |w| {
            w.diagnosis().claims.clear();
            (w.diagnosis().cause, w.diagnosis().proposal) = (Cause::NeverWorked, None);
        },
        Reason::CauseUngrounded,
    ),
    (|w| w.proposal().target.namespace = "kube-system".into(), Reason::WrongTarget),
    (|w| w.proposal().action = undo_to(4), Reason::RevisionUnknown),
    (|w| w.proposal().action = undo_to(2), Reason::RevisionUnknown),
];

#[test]
fn an_answer_that_is_not_grounded_decides_nothing_and_the_rules_answer_does() {
    for (lie, reason) in LIES {
        let mut world = diagnosed_by_model();
        world.diagnosis().confidence = 99;
        world.proposal().action = undo_to(1);
        lie(&mut world);
        let Judgement { decision, ungrounded, anomalies, on_second_opinion, .. } = world.judge();
        let found = ungrounded.expect("it is not grounded");
        assert_eq!((found.reason, found.diagnoser.as_str(), found.only_unsure), (*reason, "haiku", false));
        assert!(anomalies.contains(reason), "{reason}: {anomalies:?}");
        assert_eq!(
            (decision.outcome, decision.diagnoser.as_str(), on_second_opinion),
            (DecisionOutcome::Act, "rules", true)
        );
        assert!(decision.checks.iter().all(|check| check.verdict == Verdict::Passed));

        // Where the rules propose nothing either, a person is called.
        let second = world.second.as_mut().unwrap();
        (second.proposal, second.cause) = (None, Cause::Unknown);
        assert_eq!(outcome(&world), DecisionOutcome::Escalate, "{reason}");
        // Without a second opinion it is refused as before.
        world.second = None;
        let judgement = world.judge();
        assert_eq!(judgement.decision.outcome, DecisionOutcome::Escalate, "{reason}");
        assert!(judgement.ungrounded.is_some() && !judgement.on_second_opinion);
    }
}

#[test]
fn a_lie_that_decided_nothing_does_not_hold_up_the_write_either() {
    for (lie, reason) in LIES {
        let mut world = diagnosed_by_model();
        world.proposal().action = undo_to(1);
        lie(&mut world);
        let decided = world.judge().decision.diagnoser;
        let mut case = world.case();
        case.belief.decided = &decided;
        let again = judge_again(&case);
        assert_eq!(again.decision.outcome, DecisionOutcome::Act, "{reason}: {}", again.decision.message);
        assert_eq!(again.decision.diagnoser, "rules");
    }
}

#[test]
fn what_a_model_says_is_quoted_in_a_sentence_of_ours() {
    let mut world = diagnosed_by_model();
    world.mode = None;
    world.diagnosis().hypothesis = "it is fine; operators: run `kubectl delete pvc data`".into();
    let message = world.judge().decision.message;
    assert!(message.contains("haiku says (quoted: \u{ab}it is fine; operators:"), "{message}");
}

#[test]
fn the_rules_answer_is_judged_like_any_other_also_where_it_stands_in() {
    let mut world = diagnosed_by_model();
    world.diagnosis().suspected_revision = Some(77);
    world.second.as_mut().unwrap().claims[0].cites = vec!["f99".into()];
    let judgement = world.judge();
    assert_eq!(judgement.decision.outcome, DecisionOutcome::Escalate);
    assert!(
        judgement.anomalies.contains(&Reason::ObjectUnknown) && judgement.anomalies.contains(&Reason::ClaimUncited)
    );
    let mut world = diagnosed_by_model();
    world.diagnosis().suspected_revision = Some(77);
    world.second.as_mut().unwrap().proposal.as_mut().unwrap().action = undo_to(4);
    assert_eq!(
        outcome(&world),
        DecisionOutcome::Escalate,
        "what calls itself a second opinion is no better than another"
    );
}

#[test]
fn an_answer_that_is_not_sure_enough_is_no_lie_and_goes_to_a_person() {
    let mut world = diagnosed_by_model();
    world.policies = vec![policy(json!({"mode": "auto", "confidenceFloor": 95}))];
    let Judgement { decision, ungrounded, anomalies, on_second_opinion, .. } = world.judge();
    assert_eq!((decision.outcome, named(&decision.reason)), (DecisionOutcome::Escalate, Reason::ConfidenceTooLow));
    assert!(ungrounded.unwrap().only_unsure && anomalies.is_empty() && !on_second_opinion);
}

/// What the model says instead of what the rules propose, each of it true.
const OTHER_ANSWERS: &[(&str, Change)] = &[
    ("hands over", |w| w.diagnosis().proposal = None),
    ("blames configuration", |w| {
        w.diagnosis().proposal = None;
        w.diagnosis().cause = Cause::ConfigurationChanged;
    }),
    ("is for waiting, because its facts do not show the failure", |w| {
        w.facts.remove(1);
        w.second.as_mut().unwrap().claims.drain(..2);
        w.diagnosis().proposal = None;
        w.diagnosis().claims.clear();
    }),
    ("wants another revision", |w| {
        w.reading.revisions.push(revision(4, false, "api:0"));
        w.reading.revisions[2].fact.ready = 1;
        w.proposal().action = undo_to(4);
    }),
];

#[test]
fn where_the_model_does_not_come_to_what_the_rules_propose_a_person_decides_about_that() {
    for (what, change) in OTHER_ANSWERS {
        let mut world = diagnosed_by_model();
        change(&mut world);
        let judgement = world.judge();
        assert_eq!(
            judgement.decision.outcome,
            DecisionOutcome::AwaitApproval,
            "{what}: {}",
            judgement.decision.message
        );
        assert_eq!(judgement.decision.action, Some(undo_to(1)), "{what}: the rules' action is offered");
        assert_eq!((named(&judgement.decision.reason), judgement.on_second_opinion), (Reason::OpinionsDiffer, true));
        approve(&mut world);
        assert_eq!(outcome(&world), DecisionOutcome::Act, "{what}");
        assert_eq!(
            judge_again(&world.case()).decision.outcome,
            DecisionOutcome::Act,
            "{what}: the same right before the write"
        );
        for mode in ["observe", "suggest"] {
            world.mode = Some(mode.into());
            assert_eq!(outcome(&world), DecisionOutcome::Escalate, "{what} in {mode}");
        }
    }
}

#[test]
fn that_all_is_well_is_no_lie_where_the_facts_showed_it_or_nothing_fails() {
    let mut world = diagnosed_by_model();
    says_recovered(&mut world);
    world.facts = facts_of_health();
    world.second = None;
    let judgement = world.judge();
    assert_eq!((judgement.decision.outcome, &judgement.ungrounded), (DecisionOutcome::Wait, &None));
    assert!(judgement.anomalies.is_empty(), "it failed after the facts were gathered: {:?}", judgement.anomalies);
    world.facts.remove(1);
    assert!(world.judge().ungrounded.is_some(), "no data about the pods is no health");

    let mut world = diagnosed_by_model();
    says_recovered(&mut world);
    world.reading = reading().healthy();
    let judgement = world.judge();
    assert_eq!((judgement.ungrounded, judgement.anomalies), (None, vec![]));
}

#[test]
fn a_person_decides_about_the_same_action_where_something_speaks_against_the_models_answer_alone() {
    for policy in [
        policy(json!({"mode": "auto", "confidenceFloor": 80})),
        policy(json!({"mode": "auto", "validations": [{"expression": "diagnosis.confidence >= 80"}]})),
    ] {
        let mut world = diagnosed_by_model();
        world.policies = vec![policy];
        assert_eq!(outcome(&world), DecisionOutcome::Act);
        world.diagnosis().confidence = 40;
        assert_eq!(refused(&world), (DecisionOutcome::AwaitApproval, Reason::OpinionsDiffer));
        let Judgement { on_second_opinion, doubt, decision, .. } = world.judge();
        assert!(on_second_opinion && decision.message.contains(&doubt.unwrap()), "{}", decision.message);
        assert_eq!(decision.action, Some(undo_to(1)));
        approve(&mut world);
        assert_eq!(outcome(&world), DecisionOutcome::Act);
        // Where the rules are not sure enough either, nobody is asked.
        world.second.as_mut().unwrap().confidence = 40;
        assert_eq!(outcome(&world), DecisionOutcome::Escalate);
    }
}

#[test]
fn a_person_is_asked_about_what_the_rules_propose_and_not_about_what_the_model_would_rather_do() {
    let mut world = diagnosed_by_model();
    (world.ceiling, world.policies) = (Mode::Approve, vec![model_mode("approve")]);
    world.reading.revisions.push(revision(4, false, "api:0"));
    world.reading.revisions[2].fact.ready = 1;
    world.proposal().action = undo_to(4);
    let decision = world.judge().decision;
    assert_eq!((decision.outcome, decision.action), (DecisionOutcome::AwaitApproval, Some(undo_to(1))));
    // Where the rules propose nothing, about that.
    world.second.as_mut().unwrap().proposal = None;
    let decision = world.judge().decision;
    assert_eq!((decision.outcome, decision.action), (DecisionOutcome::AwaitApproval, Some(undo_to(4))));
}

#[test]
fn facts_that_grew_old_while_a_model_thought_keep_nobody_from_asking_a_person() {
    let mut world = diagnosed_by_model();
    world.now = at(70);
    assert_eq!(refused(&world), (DecisionOutcome::Wait, Reason::FactsStale), "nothing is done on them");
    world.diagnosis().proposal = None;
    assert_eq!(refused(&world), (DecisionOutcome::AwaitApproval, Reason::OpinionsDiffer));
    let mut world = unconfirmed();
    world.now = at(70);
    assert_eq!(refused(&world), (DecisionOutcome::AwaitApproval, Reason::OpinionsDiffer));
    approve(&mut world);
    assert_eq!(outcome(&world), DecisionOutcome::Wait, "what is approved is judged without asking for their age");
    assert_eq!(judge_again(&world.case()).decision.outcome, DecisionOutcome::Act);
}

#[test]
fn a_disagreement_is_no_way_around_any_other_check() {
    for (what, change) in OTHER_ANSWERS {
        let mut world = diagnosed_by_model();
        change(&mut world);
        approve(&mut world);
        world.reading.state.owners = vec!["Rollout/api".into()];
        assert_eq!(outcome(&world), DecisionOutcome::Escalate, "{what}");
    }
}

#[test]
fn a_reviewer_can_only_object() {
    let review = |objects| Some(Review { rung: "second".into(), objects, reason: "f2 shows a full node".into() });
    for mut world in [bad_rollout(), diagnosed_by_model()] {
        world.review = review(true);
        assert_eq!(refused(&world), (DecisionOutcome::AwaitApproval, Reason::ReviewerObjects));
        approve(&mut world);
        assert_eq!(outcome(&world), DecisionOutcome::Act);
    }
    // Its consent changes nothing.
    let mut worlds = vec![bad_rollout(), unconfirmed(), diagnosed_by_model()];
    for (lie, _) in LIES {
        let mut world = diagnosed_by_model();
        world.second = None;
        lie(&mut world);
        worlds.push(world);
    }
    for mut world in worlds {
        let before = world.judge();
        world.review = review(false);
        let after = world.judge();
        assert_eq!((after.decision.outcome, after.reason), (before.decision.outcome, before.reason));
    }
}

#[test]
fn an_objection_to_a_proposal_that_was_thrown_away_counts_only_if_the_rules_propose_the_same() {
    let mut world = diagnosed_by_model();
    world.review = Some(Review { rung: "second".into(), objects: true, reason: "no".into() });
    world.diagnosis().suspected_revision = Some(77);
    assert_eq!(outcome(&world), DecisionOutcome::AwaitApproval, "the same action");
    world.proposal().action = undo_to(4);
    assert_eq!(outcome(&world), DecisionOutcome::Act, "another action");
}

#[test]
fn a_change_that_is_suspected_stands_in_the_facts_and_in_the_template_of_its_revision() {
    let commit = "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567";
    let world = |change: &str| {
        let mut world = bad_rollout();
        let image = format!("registry.example/api:{commit}");
        world.reading.revisions[0].template["spec"]["containers"][0]["image"] = json!(image);
        world.reading.template = world.reading.revisions[0].template.clone();
        let shown = RevisionFact { number: 2, current: true, images: vec![image], ..RevisionFact::default() };
        world.facts.push(fact("f4", object("ReplicaSet", "api-2"), FactData::Revision(shown)));
        world.diagnosis().suspected_change = Some(change.into());
        world
    };
    for change in [commit, &commit[..7], &commit[..12], "registry.example/api", &format!("api:{commit}")] {
        assert_eq!(outcome(&world(change)), DecisionOutcome::Act, "{change}");
    }
    for change in ["deadbeef42", &commit[..6], &commit[1..], "registry.exam", "API", "«", &format!("{commit}0")] {
        assert_eq!(only_refusal(&world(change)), Reason::ObjectUnknown, "{change}");
    }
    let mut of_another = world(commit);
    of_another.diagnosis().suspected_revision = Some(1);
    assert_eq!(only_refusal(&of_another), Reason::ObjectUnknown);
    let mut not_in_the_facts = world(commit);
    not_in_the_facts.facts.pop();
    assert_eq!(only_refusal(&not_in_the_facts), Reason::ObjectUnknown);
}
