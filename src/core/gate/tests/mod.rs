//! One sentence for each way in which a fluent, confident and wrong answer, or an unlucky moment, must not become a
//! write. Each starts from a case that passes and bends one thing.

mod adversary;
mod conditions;
mod costs;
mod following;
mod models;
mod refused;
mod registry;
mod restarts;
mod rollouts;

use jiff::SignedDuration;
use serde_json::json;

use super::testing::{
    GateFixture, at, bad_rollout, claim, failing_everywhere, policy, reading, revision, runbook, too_few_replicas,
    undo_to,
};
use super::*;
use crate::api::v1alpha1::{Anomaly, ApprovalAnswer, Cause, ClaimKind, PodFailure, ReferenceKind, Verdict};
use crate::core::budget::storm::FailingTargets;
use crate::core::neighbours::Storm;
use crate::core::policy::CompiledPolicy;
use crate::core::workload::Presence;

fn refused(world: &GateFixture) -> (DecisionOutcome, Reason) {
    let decision = world.judge().decision;
    (decision.outcome, named(&decision.reason))
}

fn named(reason: &str) -> Reason {
    Reason::named(reason).unwrap_or_else(|| panic!("{reason} is no reason"))
}

/// The reason of the one check that refuses, but for the rules, which look at the same evidence once more.
fn only_refusal(world: &GateFixture) -> Reason {
    let decision = world.judge().decision;
    let refuses = |c: &&CheckVerdict| matches!(c.verdict, Verdict::Refused | Verdict::Unknown);
    let mut refusals: Vec<_> = decision.checks.iter().filter(refuses).collect();
    if refusals.len() == 2 {
        refusals.retain(|check| check.check != "RulesAgree");
    }
    assert_eq!(refusals.len(), 1, "{refusals:#?}");
    named(&refusals[0].reason)
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
    assert_eq!(judgement.decision.checks.len(), chains::repair(ActionKind::RolloutUndo).checks.len());
}

#[test]
fn a_hallucinated_revision_is_refused() {
    let mut world = bad_rollout();
    world.proposal().action = undo_to(7);
    assert_eq!(refused(&world).1, Reason::RevisionUnknown);
    assert!(world.judge().prediction.is_none());
}

#[test]
fn the_current_revision_is_not_a_place_to_return_to() {
    let mut world = bad_rollout();
    world.proposal().action = undo_to(2);
    assert_eq!(refused(&world).1, Reason::RevisionUnknown);
}

#[test]
fn a_proposal_about_another_object_is_refused() {
    let mut world = bad_rollout();
    world.proposal().target.name = "database".into();
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
fn invented_facts_do_not_survive_the_controllers_own_reading() {
    let mut world = bad_rollout();
    for pod in &mut world.reading.pods {
        pod.fact.failure = PodFailure::None;
    }
    let judgement = world.judge();
    assert_ne!(judgement.decision.outcome, DecisionOutcome::Act);
    assert!(judgement.anomalies.contains(&Reason::ClaimUngrounded));
}

/// A container whose readiness probe fails is ended by its liveness probe a moment later: a slow reading finds that. It is
/// asked about again, and is no lie that would end the incident; that no pod fails is one.
#[test]
fn a_pod_that_fails_in_another_way_since_the_facts_is_looked_at_again() {
    let claimed = |world: &mut GateFixture| {
        world.diagnosis().claims.iter().find_map(|claim| claim.failure).expect("a claim about how pods fail")
    };
    let mut world = bad_rollout();
    let was = claimed(&mut world);
    let other = [PodFailure::ImagePull, PodFailure::CrashLoop].into_iter().find(|failure| *failure != was).unwrap();
    for pod in world.reading.pods.iter_mut().filter(|pod| pod.fact.failure == was) {
        pod.fact.failure = other;
    }
    let judgement = world.judge();
    assert_eq!(judgement.decision.outcome, DecisionOutcome::Wait, "{:?}", judgement.decision);
    assert!(!judgement.anomalies.contains(&Reason::ClaimUngrounded));
}

#[test]
fn an_object_that_exists_nowhere_is_refused() {
    let mut world = bad_rollout();
    world.diagnosis().suspect.as_mut().unwrap().name = "ghost".into();
    assert_eq!(only_refusal(&world), Reason::ObjectUnknown);
    let mut world = bad_rollout();
    world.diagnosis().suspected_revision = Some(41);
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
    sure.reading.state.owners = vec!["Rollout/api".into()];
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
    world.known_good = vec![world.mark(0)];
    assert_eq!(only_refusal(&world), Reason::TemplateUnchanged);
}

#[test]
fn a_ready_pod_of_the_same_revision_shows_that_the_template_can_work() {
    let mut world = bad_rollout();
    let pod = &mut world.reading.pods[0].fact;
    pod.revision = Some(2);
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
    let mark = world.mark(1);
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
        ("fleet", Reason::ManagedByGitOps),
        ("pulumi", Reason::ManagedByTool),
        ("olm", Reason::ManagedByTool),
        ("flagger", Reason::ManagedByTool),
        ("keel", Reason::ManagedByTool),
        ("somebody-else", Reason::ManagedByTool),
    ] {
        let mut world = bad_rollout();
        world.reading.state.managed_by = vec![tool.into()];
        assert_eq!(only_refusal(&world), word, "{tool}");
        let change = world.judge().decision.manifest_change.expect("people are shown what to change instead");
        assert!(change.diff.starts_with("--- Deployment"), "{}", change.diff);
    }
    let mut world = bad_rollout();
    assert_eq!(world.judge().decision.manifest_change, None, "nobody else owns it");
    world.reading.state.owners = vec!["Rollout/api".into()];
    assert_eq!(only_refusal(&world), Reason::OwnedByController);
}

#[test]
fn helm_may_be_allowed_by_a_policy_and_gitops_may_not() {
    for (tool, outcome) in [("helm", DecisionOutcome::Act), ("argocd", DecisionOutcome::Escalate)] {
        let mut world = bad_rollout();
        world.policies = vec![policy(json!({"mode": "auto", "allowHelm": true}))];
        world.reading.state.managed_by = vec![tool.into()];
        assert_eq!(refused(&world).0, outcome, "{tool}");
    }
}

#[test]
fn what_writes_other_fields_does_not_stop_a_rollback_and_what_writes_the_template_does_beside_helm() {
    let mut world = bad_rollout();
    world.reading.state.managed_by = ["hpa", "keda", "vpa", "reloader", "rancher"].map(String::from).into();
    assert_eq!(refused(&world).0, DecisionOutcome::Act);
    for other in ["keel", "flux", "acme"] {
        let mut world = bad_rollout();
        world.policies = vec![policy(json!({"mode": "auto", "allowHelm": true}))];
        world.reading.state.managed_by = vec!["helm".into(), other.into()];
        assert_eq!(refused(&world).0, DecisionOutcome::Escalate, "{other}");
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
    world.approvals =
        vec![ValidApproval { digest: "0".repeat(64), approver: "eve".into(), ..ValidApproval::default() }];
    assert_eq!(refused(&world).0, DecisionOutcome::AwaitApproval);
    world.approvals =
        vec![ValidApproval { digest: decision.digest.unwrap(), approver: "ann".into(), ..ValidApproval::default() }];
    assert_eq!(refused(&world).0, DecisionOutcome::Act);
}

#[test]
fn as_many_people_as_each_policy_asks_for_have_to_approve_and_one_no_ends_it() {
    let mut world = bad_rollout();
    world.mode = Some("approve".into());
    world.policies = vec![
        policy(json!({"mode": "approve", "approvals": {"required": 2, "groups": ["sre", "leads"]}})),
        policy(json!({"mode": "auto", "approvals": {}})),
        policy(json!({"mode": "auto", "approvals": {"required": 9}, "matchConstraints": {"kinds": ["DaemonSet"]}})),
    ];
    let decision = world.judge().decision;
    assert_eq!(decision.outcome, DecisionOutcome::AwaitApproval);
    assert!(decision.message.contains("0 of 2 people of leads or sre"), "{}", decision.message);
    assert_eq!(decision.approvals.iter().map(|terms| terms.required).collect::<Vec<_>>(), [2, 1]);
    let digest = decision.digest.unwrap();
    let says = |approver: &str, group: &str, answer| ValidApproval {
        digest: digest.clone(),
        approver: approver.into(),
        groups: vec![group.into()],
        answer,
        ..ValidApproval::default()
    };
    let yes = |approver, group| says(approver, group, ApprovalAnswer::Approve);
    for (approvals, outcome) in [
        (vec![yes("ann", "sre")], DecisionOutcome::AwaitApproval),
        (vec![yes("ann", "sre"), yes("ann", "leads")], DecisionOutcome::AwaitApproval),
        (vec![yes("ann", "sre"), yes("bob", "dev")], DecisionOutcome::AwaitApproval),
        (vec![yes("ann", "sre"), yes("bob", "leads")], DecisionOutcome::Act),
    ] {
        world.approvals = approvals;
        assert_eq!(world.judge().decision.outcome, outcome, "{:?}", world.approvals);
    }
    world.approvals.push(says("eve", "", ApprovalAnswer::Deny));
    let decision = world.judge().decision;
    assert_eq!((decision.outcome, decision.reason.as_str()), (DecisionOutcome::Escalate, "ApprovalDenied"));
    assert!(decision.message.contains("eve denied") && decision.approvals.is_empty(), "{}", decision.message);
    // Of another action, nobody says anything about this one.
    world.approvals.last_mut().unwrap().digest = "0".repeat(64);
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
    let bomb = format!("size(['aaaaaaaa']{}[0]) > 0", ".map(a,a+a+a+a+a+a+a+a)".repeat(9));
    world.policies = vec![policy(json!({"mode": "auto", "validations": [{"expression": bomb}]}))];
    assert_eq!(only_refusal(&world), Reason::PolicyTooExpensive);
    world.policies = vec![policy(json!({"mode": "auto", "validations": [
        {"expression": "target.annotations.all(a, target.annotations.all(b, a != b || true))"},
    ]}))];
    world.reading.annotations = (0..2000).map(|n| (format!("key-{n}"), String::new())).collect();
    assert_eq!(only_refusal(&world), Reason::PolicyTooExpensive);
    let mut world = bad_rollout();
    world.runbooks = vec![runbook("look-only", json!({"summary": "s", "match": {}, "allowedActions": []}))];
    assert_eq!(only_refusal(&world), Reason::RunbookForbids);
    let mut world = bad_rollout();
    world.full_quota = Some("pods: 10/10".into());
    assert_eq!(only_refusal(&world), Reason::QuotaExhausted);
    // Every replica is ready on the earlier revision: no pod has to be created.
    world.reading.state.ready = 2;
    assert_eq!(refused(&world).0, DecisionOutcome::Act);
}

#[test]
fn a_namespace_with_too_many_policies_is_handed_over_with_their_bound() {
    let mut world = bad_rollout();
    world.policies = vec![CompiledPolicy::too_many("shop")];
    assert_eq!(refused(&world), (DecisionOutcome::Escalate, Reason::TooManyPolicies));
    assert!(world.judge().decision.message.contains("namespace shop has more than 100 Policies"));
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
    world.budgets.actions_per_hour = 0;
    assert_eq!(only_refusal(&world), Reason::HourlyBudget);
    let mut world = bad_rollout();
    world.failing_targets = failing_everywhere();
    assert_eq!(only_refusal(&world), Reason::Storm);
    let uids: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    world.failing_targets = FailingTargets::of(uids.iter().map(|uid| ("dev", uid.as_str())));
    assert_eq!(refused(&world).0, DecisionOutcome::Act, "whatever fails in one other namespace");
    let mut world = bad_rollout();
    world.neighbours_unread = Some(Unreadable { reason: Reason::ClusterUnreadable, message: "timeout".into() });
    assert_eq!(only_refusal(&world), Reason::ClusterUnreadable);
    let mut world = bad_rollout();
    for incident in ["a", "b", "c", "d", "e"] {
        let anomaly = Anomaly { at: at(0), kind: "VerifyFailed".into(), incident: format!("shop/{incident}") };
        world.ledger = crate::core::budget::anomaly(&world.ledger, anomaly, &world.budgets);
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
    world.enrolled = false;
    assert_eq!(only_refusal(&world), Reason::NotEnrolled);
}

#[test]
fn what_cannot_be_read_is_not_healthy_and_not_written_to() {
    // One request that failed may pass; what Backstop does not know how to read does not.
    for (reason, outcome) in [
        (Reason::ClusterUnreadable, DecisionOutcome::Wait),
        (Reason::TargetGone, DecisionOutcome::Escalate),
        (Reason::KindNotSupported, DecisionOutcome::Escalate),
    ] {
        let mut world = bad_rollout();
        world.unreadable = Some(Unreadable { reason, message: "timeout".into() });
        let decision = world.judge().decision;
        assert_eq!((decision.outcome, decision.reason.as_str()), (outcome, reason.as_str()));
        let asked = decision.checks.iter().filter(|c| c.verdict != Verdict::NotAsked).count();
        assert_eq!((asked, decision.checks.len()), (2, chains::repair(ActionKind::RolloutUndo).checks.len()));
        assert!(world.judge().charge.is_none());
    }
}

#[test]
fn an_object_that_was_recreated_is_another_object() {
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
    world.diagnosis().claims = vec![claim(ClaimKind::NothingFails, None, &["f1"])];
    world.mode = None;
    assert_eq!(refused(&world), (DecisionOutcome::Wait, Reason::NothingFails));
}

#[test]
fn an_alert_that_ended_is_not_acted_upon() {
    let mut world = bad_rollout();
    world.firing = false;
    assert_eq!(only_refusal(&world), Reason::StillFailing);
    assert_eq!(refused(&world).0, DecisionOutcome::Wait, "whoever ended or deleted the alert does not end this");
    world.reading = reading().healthy();
    world.diagnosis().claims.clear();
    assert_eq!(refused(&world), (DecisionOutcome::Resolve, Reason::AlertResolved));
}

/// Whatever else would refuse, and whatever would be waited for: one of many is told as that.
#[test]
fn one_of_many_that_fail_at_once_is_told_as_that_and_not_written_to() {
    let storm = Storm { workloads: vec!["Deployment/api".into(), "Deployment/web".into()], of: 2, image: None };
    for bend in [
        |_: &mut GateFixture| {},
        |world: &mut GateFixture| world.mode = None,
        |world: &mut GateFixture| world.now = at(62),
    ] {
        let mut world = bad_rollout();
        bend(&mut world);
        world.storm = Some(storm.clone());
        assert_eq!(refused(&world), (DecisionOutcome::Escalate, Reason::Storm));
        assert!(world.judge().decision.message.contains("Deployment/web"));
        assert!(world.judge().anomalies.is_empty(), "it is nobody else's");
    }
}

#[test]
fn a_paused_rollout_is_left_to_whoever_paused_it() {
    let mut world = bad_rollout();
    world.reading.state.paused = true;
    assert_eq!(only_refusal(&world), Reason::RolloutPaused);
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

#[test]
fn what_is_charged_is_what_the_checks_saw() {
    let mut world = bad_rollout();
    world.policies = vec![policy(json!({"mode": "auto", "limits": {"actionsPerHour": 3, "cooldownSeconds": 7200}}))];
    let Judgement { decision, charge, .. } = world.judge();
    let charge = charge.unwrap();
    assert_eq!(decision.action_id, Some(charge.action_id));
    assert_eq!((charge.policy_per_hour, charge.policy_cooldown, charge.undo), (Some(3), Some(7200), false));
    assert_eq!((charge.target_uid, charge.namespace), (world.reading.object.uid.clone(), "shop".to_string()));
}

#[test]
fn right_before_the_grant_the_age_of_the_facts_is_not_asked_again() {
    let mut world = bad_rollout();
    world.now = at(61);
    assert_eq!(judge_again(&world.case()).decision.outcome, DecisionOutcome::Act);
    world.mode = None;
    assert_eq!(judge_again(&world.case()).decision.outcome, DecisionOutcome::Escalate);
}

#[test]
fn of_two_good_revisions_only_the_one_that_the_rules_pick_is_returned_to() {
    let mut world = bad_rollout();
    world.reading.revisions.push(revision(0, false, "api:0"));
    world.reading.revisions[2].fact.number = 4;
    world.reading.revisions[2].fact.ready = 1;
    world.proposal().action = undo_to(4);
    world.facts[2] = super::testing::fact("f3", world.reading.object.clone(), world.facts[2].data.clone());
    assert!(world.judge().decision.checks.iter().any(|c| c.reason == Reason::OpinionsDiffer.as_str()));
    assert_eq!(refused(&world).0, DecisionOutcome::Escalate);
}

#[test]
fn only_a_config_map_that_the_template_names_exists_for_a_diagnosis() {
    let mut world = bad_rollout();
    let map = super::testing::object("ConfigMap", "settings");
    world.facts.push(super::testing::fact("f4", map.clone(), world.facts[0].data.clone()));
    world.diagnosis().suspect = Some(map);
    assert_eq!(only_refusal(&world), Reason::ObjectUnknown);
    for index in 0..2 {
        let spec = &mut world.reading.revisions[index].template["spec"];
        spec["volumes"] = json!([{"name": "v", "projected": {"sources": [{"configMap": {"name": "settings"}}]}}]);
    }
    world.reading.template = world.reading.revisions[0].template.clone();
    let (kind, name) = (ReferenceKind::ConfigMap, "settings".into());
    world.presence = vec![Presence { kind, name, exists: Some(true), changed_at: None }];
    assert_eq!(refused(&world).0, DecisionOutcome::Act);
}

/// Another action than `RolloutUndo`: the gate knows it from its definition alone.
#[test]
fn an_action_that_is_one_file_and_its_registry_lines_is_judged_and_predicted_like_the_other() {
    let world = too_few_replicas();
    let Judgement { decision, prediction, charge, .. } = world.judge();
    assert_eq!(decision.outcome, DecisionOutcome::Act, "{:#?}", decision.checks);
    let prediction = prediction.unwrap();
    let field = prediction.write.field().unwrap();
    assert_eq!((field.path.as_str(), &field.before, &field.after), ("/spec/replicas", &json!(2), &json!(3)));
    assert!(prediction.provenance.is_none());
    assert_eq!(Some(charge.unwrap().action_id), decision.action_id);
    let (asked, foreign) = (|name: &str| decision.checks.iter().any(|check| check.check == name), "RevisionRecorded");
    assert!(asked("FewReplicas") && !asked(foreign));
}

#[test]
fn an_action_on_a_kind_that_its_definition_does_not_list_is_refused() {
    let mut world = too_few_replicas();
    let set = super::testing::object("StatefulSet", "api");
    world.target = Ok(set.clone());
    world.reading.object = set.clone();
    world.reading.kind = crate::core::workload::Kind::StatefulSet;
    world.diagnosis().suspect = None;
    world.proposal().target = set;
    assert_eq!(only_refusal(&world), Reason::KindNotSupported);
}

#[test]
fn a_rule_of_a_policy_sees_the_parameters_of_the_action_and_denies_when_it_asks_for_one_that_the_action_lacks() {
    for (expression, outcome) in [
        ("action.replicas == 3", DecisionOutcome::Act),
        ("action.replicas < 3", DecisionOutcome::Escalate),
        ("action.toRevision == 1", DecisionOutcome::Escalate),
        ("!has(action.toRevision) || action.toRevision == 1", DecisionOutcome::Act),
    ] {
        let mut world = too_few_replicas();
        let validations = json!([{"expression": expression, "reason": "No"}]);
        world.policies = vec![policy(json!({"mode": "auto", "validations": validations}))];
        let decision = world.judge().decision;
        assert_eq!(decision.outcome, outcome, "{expression}: {}", decision.message);
    }
}
