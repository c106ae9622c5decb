//! One sentence for each way in which a fluent, confident and wrong answer, or an unlucky moment, must not become a
//! write. Each starts from a case that passes and bends one thing, so that the refusal has one cause.

use jiff::SignedDuration;
use proptest::prelude::*;
use serde_json::json;

use super::testing::{World, at, bad_rollout, reading};
use super::*;
use crate::api::v1alpha1::{
    Anomaly, Cause, Claim, ClaimKind, FactData, KnownGood, PodFailure, Policy, Proposal, RolloutUndo,
};

fn refused(world: &World) -> (DecisionOutcome, Reason) {
    let decision = world.judge().decision;
    (decision.outcome, named(&decision.reason))
}

fn named(reason: &str) -> Reason {
    Reason::named(reason).unwrap_or_else(|| panic!("{reason} is no reason"))
}

fn undo_to(to_revision: i64) -> Action {
    Action::RolloutUndo(RolloutUndo { to_revision })
}

/// The reason of the one check that refuses.
fn only_refusal(world: &World) -> Reason {
    let decision = world.judge().decision;
    let refusals: Vec<_> =
        decision.checks.iter().filter(|c| matches!(c.verdict, Verdict::Refused | Verdict::Unknown)).collect();
    assert_eq!(refusals.len(), 1, "{refusals:#?}");
    named(&refusals[0].reason)
}

fn policy(spec: serde_json::Value) -> CompiledPolicy {
    let mut policy = Policy::new("p", serde_json::from_value(spec).unwrap());
    policy.metadata.namespace = Some("shop".into());
    CompiledPolicy::of(&policy)
}

#[test]
fn a_bad_rollout_is_undone_to_the_exact_template_that_was_recorded() {
    let world = bad_rollout();
    let judgement = world.judge();
    assert_eq!(judgement.decision.outcome, DecisionOutcome::Act, "{:#?}", judgement.decision.checks);
    let prediction = judgement.prediction.unwrap();
    let field = prediction.write.field().unwrap();
    assert_eq!(field.after, world.reading.revisions[1].template);
    assert_eq!(field.before, world.reading.template);
    assert_eq!(judgement.decision.action_id.unwrap().len(), 32);
    assert_eq!(judgement.decision.checks.len(), CHECKS.len());
}

#[test]
fn a_hallucinated_revision_is_refused() {
    let mut world = bad_rollout();
    world.diagnosis().proposal.as_mut().unwrap().action = undo_to(7);
    assert_eq!(refused(&world).1, Reason::RevisionUnknown);
    assert!(world.judge().prediction.is_none());
}

#[test]
fn the_current_revision_is_not_a_place_to_return_to() {
    let mut world = bad_rollout();
    world.diagnosis().proposal.as_mut().unwrap().action = undo_to(2);
    assert_eq!(refused(&world).1, Reason::RevisionUnknown);
}

#[test]
fn a_proposal_about_another_object_is_refused() {
    let mut world = bad_rollout();
    world.diagnosis().proposal.as_mut().unwrap().target.name = "database".into();
    assert_eq!(only_refusal(&world), Reason::WrongTarget);
}

#[test]
fn a_claim_that_cites_nothing_or_what_does_not_exist_is_refused() {
    for cites in [vec![], vec!["f99".to_string()]] {
        let mut world = bad_rollout();
        world.diagnosis().claims[0].cites = cites;
        assert_eq!(refused(&world).1, Reason::ClaimUncited);
    }
}

#[test]
fn a_claim_whose_fact_says_something_else_is_refused() {
    let mut world = bad_rollout();
    world.diagnosis().claims[0].cites = vec!["f1".into()];
    assert_eq!(only_refusal(&world), Reason::ClaimUnsupported);
}

#[test]
fn an_action_without_a_single_claim_is_refused() {
    let mut world = bad_rollout();
    world.diagnosis().claims.clear();
    assert_eq!(only_refusal(&world), Reason::ClaimUncited);
}

#[test]
fn invented_facts_do_not_survive_the_judges_own_reading() {
    let mut world = bad_rollout();
    for pod in &mut world.reading.pods {
        pod.fact.failure = PodFailure::None;
    }
    let judgement = world.judge();
    assert_ne!(judgement.decision.outcome, DecisionOutcome::Act);
    assert!(judgement.anomalies.contains(&Reason::ClaimUngrounded));
}

#[test]
fn an_object_that_exists_nowhere_is_refused() {
    let mut world = bad_rollout();
    world.diagnosis().suspect.as_mut().unwrap().name = "ghost".into();
    assert_eq!(only_refusal(&world), Reason::ObjectUnknown);
    let mut world = bad_rollout();
    world.diagnosis().suspected_revision = 41;
    assert_eq!(only_refusal(&world), Reason::ObjectUnknown);
}

#[test]
fn two_opinions_that_differ_go_to_a_person() {
    let mut world = bad_rollout();
    let mut second = world.diagnosis.clone().unwrap();
    second.proposal = None;
    world.second = Some(second);
    assert_eq!(only_refusal(&world), Reason::OpinionsDiffer);
}

#[test]
fn confidence_never_helps_and_below_the_floor_it_stops() {
    let mut world = bad_rollout();
    world.diagnosis().confidence = 0;
    assert_eq!(refused(&world).0, DecisionOutcome::Act);
    world.policies = vec![policy(json!({"mode": "auto", "confidenceFloor": 50}))];
    assert_eq!(only_refusal(&world), Reason::ConfidenceTooLow);
    let mut sure = bad_rollout();
    sure.diagnosis().confidence = 100;
    sure.reading.workload.owners = vec!["Rollout/api".into()];
    assert_eq!(refused(&sure).0, DecisionOutcome::Escalate);
}

#[test]
fn only_one_revision_is_nothing_to_return_to() {
    let mut world = bad_rollout();
    world.reading.revisions.truncate(1);
    world.reading.pods.remove(0);
    world.diagnosis().proposal = None;
    world.diagnosis().cause = Cause::NeverWorked;
    assert_eq!(refused(&world), (DecisionOutcome::Escalate, Reason::OnlyOneRevision));
}

#[test]
fn a_template_that_worked_before_is_not_what_broke_it() {
    let mut world = bad_rollout();
    let current = &world.reading.revisions[0];
    world.known_good = vec![KnownGood {
        workload_uid: world.reading.object.uid.clone(),
        revision_uid: current.object.uid.clone(),
        template_hash: current.template_hash.clone(),
        at: at(-3),
    }];
    assert_eq!(only_refusal(&world), Reason::TemplateUnchanged);
}

#[test]
fn a_ready_pod_of_the_same_revision_shows_that_the_template_can_work() {
    let mut world = bad_rollout();
    let pod = &mut world.reading.pods[0].fact;
    pod.revision = 2;
    pod.ready_since = Some(at(-60));
    assert_eq!(only_refusal(&world), Reason::TemplateUnchanged);
}

#[test]
fn a_restart_alone_is_no_change_of_the_template() {
    let mut world = bad_rollout();
    let mut same = world.reading.revisions[0].template.clone();
    same["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"});
    world.reading.template = same.clone();
    world.reading.revisions[0].template = same;
    world.reading.revisions[1].template["spec"]["containers"][0]["image"] = json!("api:2");
    assert_eq!(refused(&world).1, Reason::TemplateUnchanged);
}

#[test]
fn an_earlier_revision_that_nothing_vouches_for_is_not_returned_to() {
    let mut world = bad_rollout();
    world.reading.revisions[1].fact.ready = 0;
    assert_eq!(only_refusal(&world), Reason::EarlierRevisionUnproven);
    let earlier = &world.reading.revisions[1];
    let mark = KnownGood {
        workload_uid: world.reading.object.uid.clone(),
        revision_uid: earlier.object.uid.clone(),
        template_hash: earlier.template_hash.clone(),
        at: at(-900),
    };
    // The mark only filters what exists: another template under the same name is not vouched for.
    world.known_good = vec![KnownGood { template_hash: "other".into(), ..mark.clone() }];
    assert_eq!(only_refusal(&world), Reason::EarlierRevisionUnproven);
    world.known_good = vec![mark];
    assert_eq!(refused(&world).0, DecisionOutcome::Act);
}

#[test]
fn an_earlier_revision_whose_pods_fail_too_is_not_returned_to() {
    let mut world = bad_rollout();
    world.reading.pods[0].fact.failure = PodFailure::CrashLoop;
    let reasons: Vec<_> = world.judge().decision.checks.into_iter().map(|c| c.reason).collect();
    assert!(reasons.contains(&Reason::EarlierRevisionUnproven.to_string()));
    assert!(reasons.contains(&Reason::FailingPodsNotCurrent.to_string()));
}

#[test]
fn a_rollout_of_long_ago_is_not_blamed() {
    let mut world = bad_rollout();
    world.reading.revisions[0].fact.created_at = Some(at(-2) - SignedDuration::from_hours(2));
    assert_eq!(only_refusal(&world), Reason::RolloutNotRecent);
}

#[test]
fn what_somebody_else_owns_is_left_alone() {
    for (tool, word) in [
        ("argocd", Reason::ManagedByGitOps),
        ("flux", Reason::ManagedByGitOps),
        ("helm", Reason::ManagedByHelm),
        ("pulumi", Reason::ManagedByTool),
    ] {
        let mut world = bad_rollout();
        world.reading.workload.managed_by = vec![tool.into()];
        assert_eq!(only_refusal(&world), word, "{tool}");
    }
    let mut world = bad_rollout();
    world.reading.workload.owners = vec!["Rollout/api".into()];
    assert_eq!(only_refusal(&world), Reason::OwnedByController);
}

#[test]
fn helm_may_be_allowed_by_a_policy_and_gitops_may_not() {
    for (tool, outcome) in [("helm", DecisionOutcome::Act), ("argocd", DecisionOutcome::Escalate)] {
        let mut world = bad_rollout();
        world.policies = vec![policy(json!({"mode": "auto", "allowHelm": true}))];
        world.reading.workload.managed_by = vec![tool.into()];
        assert_eq!(refused(&world).0, outcome, "{tool}");
    }
}

#[test]
fn protected_objects_and_namespaces_are_left_alone() {
    let mut world = bad_rollout();
    world.reading.annotations.insert("backstop.dev/protected".into(), "true".into());
    assert_eq!(only_refusal(&world), Reason::Protected);
    let mut world = bad_rollout();
    world.reading.object.namespace = "kube-system".into();
    assert!(world.judge().decision.checks.iter().any(|c| c.reason == Reason::Protected.as_str()));
}

#[test]
fn the_label_of_the_namespace_is_the_kill_switch() {
    for label in [None, Some("observe"), Some("suggest"), Some("AUTO"), Some("")] {
        let mut world = bad_rollout();
        world.mode = label.map(String::from);
        assert_eq!(only_refusal(&world), Reason::ModeForbids, "{label:?}");
    }
}

#[test]
fn approve_mode_waits_for_a_person_who_names_exactly_this_action() {
    let mut world = bad_rollout();
    world.mode = Some("approve".into());
    let decision = world.judge().decision;
    assert_eq!(decision.outcome, DecisionOutcome::AwaitApproval);
    world.approvals = vec![("0".repeat(64), "eve".into())];
    assert_eq!(refused(&world).0, DecisionOutcome::AwaitApproval);
    world.approvals = vec![(decision.digest.unwrap(), "ann".into())];
    assert_eq!(refused(&world).0, DecisionOutcome::Act);
}

#[test]
fn policies_runbooks_quotas_and_the_blast_radius_bound_it() {
    let mut world = bad_rollout();
    world.policies = vec![policy(json!({"mode": "auto", "allowedActions": []}))];
    assert_eq!(only_refusal(&world), Reason::ActionNotAllowed);
    world.policies = vec![policy(json!({"mode": "auto", "limits": {"maxPods": 1}}))];
    assert_eq!(only_refusal(&world), Reason::BlastRadius);
    world.policies = vec![policy(
        json!({"mode": "auto", "validations": [{"expression": "action.fields.all(f, f == '/nothing')", "reason": "TooWide"}]}),
    )];
    assert_eq!(only_refusal(&world), Reason::PolicyValidationFailed);
    let mut world = bad_rollout();
    world.runbooks = vec![("shop/look-only".into(), vec![])];
    assert_eq!(only_refusal(&world), Reason::RunbookForbids);
    let mut world = bad_rollout();
    world.full_quota = Some("pods: 10/10".into());
    assert_eq!(only_refusal(&world), Reason::QuotaExhausted);
}

#[test]
fn a_policy_for_other_objects_does_not_bind_this_one() {
    let mut world = bad_rollout();
    world.policies = vec![
        policy(json!({"mode": "observe", "matchConstraints": {"kinds": ["StatefulSet"]}})),
        policy(json!({"mode": "observe", "matchConstraints": {"objectSelector": {"matchLabels": {"tier": "db"}}}})),
    ];
    assert_eq!(refused(&world).0, DecisionOutcome::Act);
}

#[test]
fn budgets_the_breaker_and_a_storm_stop_it() {
    let mut world = bad_rollout();
    world.settings.budgets.actions_per_hour = 0;
    assert_eq!(only_refusal(&world), Reason::HourlyBudget);
    let mut world = bad_rollout();
    world.storm = 10;
    assert_eq!(only_refusal(&world), Reason::Storm);
    let mut world = bad_rollout();
    for incident in ["a", "b", "c", "d", "e"] {
        let anomaly = Anomaly { at: at(0), kind: "VerifyFailed".into(), incident: incident.into() };
        world.ledger = crate::core::budget::anomaly(&world.ledger, anomaly, &world.settings.budgets);
    }
    assert_eq!(only_refusal(&world), Reason::BreakerOpen);
    let mut world = bad_rollout();
    world.rounds = MAX_ROUNDS + 1;
    assert_eq!(only_refusal(&world), Reason::LoopBudget);
}

#[test]
fn without_a_durable_audit_log_nothing_is_written() {
    let mut world = bad_rollout();
    world.audit = false;
    assert_eq!(only_refusal(&world), Reason::AuditNotDurable);
}

#[test]
fn a_namespace_that_is_not_enrolled_is_never_written_to() {
    let mut world = bad_rollout();
    world.settings.namespaces.clear();
    assert_eq!(only_refusal(&world), Reason::NotEnrolled);
}

#[test]
fn what_cannot_be_read_is_not_healthy_and_not_written_to() {
    let world = bad_rollout();
    let mut case = world.case();
    case.reading = Err(Unreadable { reason: Reason::ClusterUnreadable, message: "timeout".into() });
    let decision = judge(&case).decision;
    assert_eq!((decision.outcome, decision.reason.as_str()), (DecisionOutcome::Escalate, "ClusterUnreadable"));
    assert!(decision.checks.iter().skip(2).all(|c| c.verdict == Verdict::NotAsked));
}

#[test]
fn an_object_that_was_made_anew_is_another_object() {
    let mut world = bad_rollout();
    world.reading.object.uid = "another".into();
    assert_eq!(refused(&world).1, Reason::TargetGone);
}

#[test]
fn old_facts_are_not_acted_upon_but_asked_for_again() {
    let mut world = bad_rollout();
    world.now = at(61);
    assert_eq!(refused(&world), (DecisionOutcome::Wait, Reason::FactsStale));
}

#[test]
fn pods_that_have_not_failed_yet_are_waited_for() {
    let mut world = bad_rollout();
    world.reading = reading().healthy();
    world.diagnosis().cause = Cause::Recovered;
    world.diagnosis().proposal = None;
    world.diagnosis().claims = vec![Claim {
        kind: ClaimKind::NothingFails,
        revision: 0,
        failure: PodFailure::None,
        cites: vec!["f1".into()],
        text: String::new(),
    }];
    world.mode = None;
    assert_eq!(refused(&world), (DecisionOutcome::Wait, Reason::NothingFails));
}

#[test]
fn an_alert_that_ended_is_not_acted_upon() {
    let mut world = bad_rollout();
    world.firing = false;
    assert_eq!(only_refusal(&world), Reason::AlertResolved);
}

#[test]
fn a_paused_rollout_is_left_to_whoever_paused_it() {
    let mut world = bad_rollout();
    world.reading.workload.paused = true;
    assert_eq!(only_refusal(&world), Reason::RolloutPaused);
}

/// Every check earns its place: with any single one of them taken out, some bent case above would act. The list of
/// planted defects is the chain itself.
#[test]
fn each_check_is_the_only_one_that_refuses_some_case() {
    type Bend = Box<dyn Fn(&mut World)>;
    let cases: Vec<(&str, Bend)> = vec![
        ("AlertFiring", Box::new(|w| w.firing = false)),
        ("TopmostController", Box::new(|w| w.reading.workload.owners = vec!["X/y".into()])),
        ("NotManagedByTool", Box::new(|w| w.reading.workload.managed_by = vec!["argocd".into()])),
        (
            "NotProtected",
            Box::new(|w| {
                w.reading.annotations.insert("backstop.dev/protected".into(), String::new());
            }),
        ),
        ("RolloutNotPaused", Box::new(|w| w.reading.workload.paused = true)),
        ("EarlierRevisionHealthy", Box::new(|w| w.reading.revisions[1].fact.ready = 0)),
        ("RolloutRecent", Box::new(|w| w.reading.revisions[0].fact.created_at = None)),
        (
            "KindSupported",
            Box::new(|w| {
                w.reading.object.kind = "StatefulSet".into();
                w.target.as_mut().unwrap().kind = "StatefulSet".into();
                w.diagnosis().proposal.as_mut().unwrap().target.kind = "StatefulSet".into();
                w.diagnosis().suspect = None;
            }),
        ),
        (
            "ProposalNamesTarget",
            Box::new(|w| w.diagnosis().proposal.as_mut().unwrap().target.namespace = "other".into()),
        ),
        ("ClaimsCiteFacts", Box::new(|w| w.diagnosis().claims.clear())),
        ("ClaimsSupported", Box::new(|w| w.diagnosis().claims[2].cites = vec!["f2".into()])),
        (
            "ClaimsHold",
            Box::new(|w| {
                w.diagnosis().claims[2].revision = 9;
                if let FactData::RevisionDiff(d) = &mut w.facts[2].data {
                    d.from = 9;
                }
            }),
        ),
        ("ObjectsExist", Box::new(|w| w.diagnosis().suspected_revision = 77)),
        (
            "OpinionsAgree",
            Box::new(|w| {
                let mut d = w.diagnosis.clone().unwrap();
                d.proposal = Some(Proposal { action: undo_to(9), ..d.proposal.unwrap() });
                w.second = Some(d);
            }),
        ),
        ("FactsFresh", Box::new(|w| w.now = at(100))),
        ("NamespaceEnrolled", Box::new(|w| w.settings.namespaces.clear())),
        ("RunbookAllows", Box::new(|w| w.runbooks = vec![("r".into(), vec![])])),
        ("QuotaHasRoom", Box::new(|w| w.full_quota = Some("q".into()))),
        ("LoopBudget", Box::new(|w| w.rounds = 99)),
        ("HourlyBudget", Box::new(|w| w.settings.budgets.actions_per_namespace_per_hour = 0)),
        ("NoStorm", Box::new(|w| w.storm = 99)),
        ("AuditDurable", Box::new(|w| w.audit = false)),
        ("ModeAllows", Box::new(|w| w.mode = None)),
        ("Approved", Box::new(|w| w.mode = Some("approve".into()))),
    ];
    for (name, bend) in cases {
        let mut world = bad_rollout();
        bend(&mut world);
        let decision = world.judge().decision;
        let refusals: Vec<_> =
            decision.checks.iter().filter(|c| c.verdict != Verdict::Passed).map(|c| c.check.as_str()).collect();
        assert_eq!(refusals, [name]);
    }
}

proptest! {
    /// The mind is replaced by an adversary that writes any diagnosis it likes: whatever it says, the judge acts only
    /// on the incident's target, and only with the template of a recorded, healthy, earlier revision.
    #[test]
    fn no_diagnosis_makes_the_judge_write_anything_but_a_recorded_template(
        to_revision in -3i64..9,
        name in "(api|database|\\PC{0,8})",
        confidence in -5i32..200,
        suspected in -2i64..5,
        kinds in proptest::collection::vec((0usize..7, -1i64..4, proptest::collection::vec("f[0-5]", 0..3)), 0..5),
    ) {
        let all = [ClaimKind::PodsFailing, ClaimKind::FailingPodsRunRevision, ClaimKind::TemplateChanged, ClaimKind::TemplateUnchanged, ClaimKind::RevisionReady, ClaimKind::OnlyOneRevision, ClaimKind::NothingFails];
        let mut world = bad_rollout();
        let diagnosis = world.diagnosis();
        diagnosis.confidence = confidence;
        diagnosis.suspected_revision = suspected;
        diagnosis.claims = kinds.into_iter().map(|(k, revision, cites)| Claim { kind: all[k], revision, failure: PodFailure::None, cites, text: String::new() }).collect();
        let proposal = diagnosis.proposal.as_mut().unwrap();
        proposal.action = undo_to(to_revision);
        proposal.target.name = name;
        let judgement = world.judge();
        if judgement.decision.outcome == DecisionOutcome::Act {
            let prediction = judgement.prediction.unwrap();
            let field = prediction.write.field().unwrap();
            prop_assert_eq!(&field.after, &world.reading.revisions[1].template);
            prop_assert_eq!(field.path.as_str(), "/spec/template");
            prop_assert_eq!(to_revision, 1);
            prop_assert_eq!(world.diagnosis.unwrap().proposal.unwrap().target.name, "api");
        }
    }
}

#[test]
fn a_diagnosis_that_the_failure_has_overtaken_is_asked_for_again() {
    let mut world = bad_rollout();
    world.diagnosis().cause = Cause::Unknown;
    world.diagnosis().proposal = None;
    world.diagnosis().claims.clear();
    assert_eq!(world.judge().decision.outcome, DecisionOutcome::Escalate, "it saw the failure and knows no action");
    world.facts.retain(|fact| fact.id != "f2");
    assert_eq!(world.judge().decision.outcome, DecisionOutcome::Wait, "it was made before the pods failed");
}
