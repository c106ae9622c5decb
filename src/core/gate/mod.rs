//! The gate: an ordered chain of small named checks. Each is a pure function of the [`Case`] that returns a verdict
//! with a reason and a sentence. *All* verdicts are kept, not only the first refusal.
//!
//! `quality` asks whether the diagnosis is grounded, `evidence` whether the action fits what the judge itself reads,
//! `bounds` whether it is allowed here and now.

mod bounds;
mod evidence;
mod quality;
#[cfg(test)]
pub mod testing;

pub use bounds::MAX_ROUNDS;

use serde_json::{Value, json};

use crate::api::v1alpha1::{
    Action, ActionKind, CheckVerdict, Decision, DecisionOutcome, Diagnosis, Fact, KnownGood, LedgerStatus, Mode,
    ObjectRef, Purpose, Time, Unresolved, Verdict,
};
use crate::settings::Settings;

use super::{
    actions::{self, Prediction, Refusal, identity},
    policy::CompiledPolicy,
    reason::Reason,
    workload::{Revision, Workload},
};

/// Everything that a decision rests on. The reading is the judge's own; facts and diagnosis are leads.
pub struct Case<'a> {
    /// The time of the decision.
    pub now: Time,
    /// Name of the Incident.
    pub incident: &'a str,
    /// Its target; absent while unresolved.
    pub target: Option<&'a ObjectRef>,
    /// Reason and sentence why there is no target.
    pub unresolved: Option<&'a Unresolved>,
    /// At least one of its alerts is firing.
    pub alert_firing: bool,
    /// When its first alert began, by the sender's clock.
    pub alert_started_at: Time,
    /// Names of its alerts.
    pub alert_names: Vec<&'a str>,
    /// How often it was investigated.
    pub rounds: i32,
    /// Facts of the latest round.
    pub facts: &'a [Fact],
    /// Diagnosis of the latest round.
    pub diagnosis: Option<&'a Diagnosis>,
    /// What the rules say, when another diagnoser answered.
    pub second_opinion: Option<&'a Diagnosis>,
    /// The judge's own reading of the target, or why there is none.
    pub reading: Result<&'a Workload, Unreadable>,
    /// Value of the namespace's mode label.
    pub namespace_mode: Option<&'a str>,
    /// All Policies of this namespace and of the system namespace.
    pub policies: &'a [CompiledPolicy],
    /// Runbooks that match: name and allowed actions.
    pub runbooks: &'a [(String, Vec<ActionKind>)],
    /// Revisions that were seen healthy.
    pub known_good: &'a [KnownGood],
    /// The Ledger of actions.
    pub ledger: &'a LedgerStatus,
    /// Distinct targets with an incident inside the storm window.
    pub storm_targets: u32,
    /// A quota of the namespace that has no room for another pod, as `name: used/hard`.
    pub full_quota: Option<String>,
    /// Approver of exactly this action, given its digest.
    pub approvals: &'a [(String, String)],
    /// The audit log can be written and outlives the pod.
    pub audit_durable: bool,
    /// The operator's settings.
    pub settings: &'a Settings,
}

/// Why the judge has no reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The constant.
    pub reason: Reason,
    /// One sentence.
    pub message: String,
}

/// What is being judged: the action that was proposed, or the one that would be looked at first, so that people see
/// what stands in its way.
pub(crate) struct Subject<'a> {
    /// The proposed action, or the candidate of the rules.
    pub action: Option<Action>,
    /// The revision that a rollback would return to.
    pub to: Option<&'a Revision>,
    pub prediction: Result<Prediction, Refusal>,
}

/// The outcome of one check before its name is added.
pub(crate) struct Outcome {
    verdict: Verdict,
    reason: Reason,
    message: String,
    /// Time may turn the refusal: pods that have not failed yet, facts that are too old.
    may_pass_later: bool,
}

pub(crate) fn pass(message: impl Into<String>) -> Outcome {
    Outcome { verdict: Verdict::Passed, reason: Reason::Ok, message: message.into(), may_pass_later: false }
}

pub(crate) fn refuse(reason: Reason, message: impl Into<String>) -> Outcome {
    Outcome { verdict: Verdict::Refused, reason, message: message.into(), may_pass_later: false }
}

pub(crate) fn unknown(reason: Reason, message: impl Into<String>) -> Outcome {
    Outcome { verdict: Verdict::Unknown, reason, message: message.into(), may_pass_later: false }
}

fn not_asked(message: impl Into<String>) -> Outcome {
    Outcome { verdict: Verdict::NotAsked, reason: Reason::NotAsked, message: message.into(), may_pass_later: false }
}

impl Outcome {
    pub(crate) fn later(mut self) -> Outcome {
        self.may_pass_later = true;
        self
    }
}

type Check = fn(&Case<'_>, &Subject<'_>) -> Outcome;

/// The chain, in order. The first refusal gives the decision its reason, so what explains most comes first.
const CHECKS: &[(&str, Check)] = &[
    ("TargetResolved", evidence::target_resolved),
    ("TargetReadable", evidence::target_readable),
    ("AlertFiring", evidence::alert_firing),
    ("PodsFail", evidence::pods_fail),
    ("KindSupported", evidence::kind_supported),
    ("TopmostController", evidence::topmost_controller),
    ("NotManagedByTool", evidence::not_managed_by_tool),
    ("NotProtected", evidence::not_protected),
    ("FailingPodsRunCurrentRevision", evidence::failing_pods_run_current_revision),
    ("EarlierRevisionExists", evidence::earlier_revision_exists),
    ("RevisionRecorded", evidence::revision_recorded),
    ("TemplateDiffers", evidence::template_differs),
    ("CurrentTemplateNeverWorked", evidence::current_template_never_worked),
    ("RolloutRecent", evidence::rollout_recent),
    ("EarlierRevisionHealthy", evidence::earlier_revision_healthy),
    ("RolloutNotPaused", evidence::rollout_not_paused),
    ("ActionProposed", quality::action_proposed),
    ("ProposalNamesTarget", quality::proposal_names_target),
    ("ClaimsCiteFacts", quality::claims_cite_facts),
    ("ClaimsSupported", quality::claims_supported),
    ("ClaimsHold", quality::claims_hold),
    ("ObjectsExist", quality::objects_exist),
    ("OpinionsAgree", quality::opinions_agree),
    ("ConfidenceAboveFloor", quality::confidence_above_floor),
    ("FactsFresh", quality::facts_fresh),
    ("NamespaceEnrolled", bounds::namespace_enrolled),
    ("PolicyAllows", bounds::policy_allows),
    ("RunbookAllows", bounds::runbook_allows),
    ("BlastRadius", bounds::blast_radius),
    ("QuotaHasRoom", bounds::quota_has_room),
    ("LoopBudget", bounds::loop_budget),
    ("TargetCooldown", bounds::target_cooldown),
    ("HourlyBudget", bounds::hourly_budget),
    ("NoStorm", bounds::no_storm),
    ("CascadeBreakerClosed", bounds::cascade_breaker_closed),
    ("AuditDurable", bounds::audit_durable),
    ("ModeAllows", bounds::mode_allows),
    ("Approved", bounds::approved),
];

/// Names of the checks, for the plan.
pub fn check_names() -> Vec<String> {
    CHECKS.iter().map(|(name, _)| name.to_string()).collect()
}

/// A decision with the exact values that it is about.
pub struct Judgement {
    /// What is written to the Incident.
    pub decision: Decision,
    /// What exactly would be written to the target.
    pub prediction: Option<Prediction>,
    /// Reasons of refusals that count as anomalies: the diagnosis was not true of the cluster.
    pub anomalies: Vec<Reason>,
}

/// Judges a case.
pub fn judge(case: &Case<'_>) -> Judgement {
    let subject = subject(case);
    let identity = identity(case, &subject);
    let mut verdicts = Vec::with_capacity(CHECKS.len());
    let mut outcomes = Vec::with_capacity(CHECKS.len());
    let mut blind = false;
    for (name, check) in CHECKS {
        let outcome = if blind { not_asked("the target cannot be read") } else { check(case, &subject) };
        // Without a reading there is nothing to ask the others about.
        blind |= matches!(*name, "TargetResolved" | "TargetReadable") && outcome.verdict != Verdict::Passed;
        verdicts.push(CheckVerdict {
            check: name.to_string(),
            verdict: outcome.verdict,
            reason: outcome.reason.as_str().into(),
            message: outcome.message.chars().take(1000).collect(),
        });
        outcomes.push(outcome);
    }
    let anomalies = [
        Reason::ClaimUncited,
        Reason::ClaimUnsupported,
        Reason::ClaimUngrounded,
        Reason::ObjectUnknown,
        Reason::WrongTarget,
        Reason::RevisionUnknown,
        Reason::Storm,
    ]
    .into_iter()
    .filter(|word| outcomes.iter().any(|o| o.verdict == Verdict::Refused && o.reason == *word))
    .collect();
    let (outcome, reason, message) = conclude(case, &outcomes);
    let (id, digest) = identity.map_or((None, None), |(id, digest)| (Some(id), Some(digest)));
    let decision = Decision {
        outcome,
        reason: reason.as_str().into(),
        message,
        hypothesis: case.diagnosis.map(|d| d.hypothesis.clone()).unwrap_or_default(),
        action: subject.action.clone(),
        action_id: id,
        digest,
        diff: subject.prediction.as_ref().ok().map(|p| p.diff.clone()).unwrap_or_default(),
        checks: verdicts,
        decided_at: case.now,
    };
    Judgement { decision, prediction: subject.prediction.ok(), anomalies }
}

/// Refusals that end the wait for evidence: there is nothing left to wait for.
const NOT_WORTH_WAITING: &[Reason] = &[
    Reason::AlertResolved,
    Reason::TargetUnresolved,
    Reason::TargetNotFound,
    Reason::TargetAmbiguous,
    Reason::TargetInvalid,
    Reason::ForeignNamespace,
    Reason::TargetGone,
    Reason::ClusterUnreadable,
    Reason::KindNotSupported,
    Reason::LoopBudget,
];

fn conclude(case: &Case<'_>, outcomes: &[Outcome]) -> (DecisionOutcome, Reason, String) {
    let refusals: Vec<&Outcome> =
        outcomes.iter().filter(|o| !matches!(o.verdict, Verdict::Passed | Verdict::NotAsked)).collect();
    let Some(first) = refusals.first() else {
        return (DecisionOutcome::Act, Reason::AllChecksPassed, "every check passed".into());
    };
    if refusals.len() == 1 && first.reason == Reason::ApprovalMissing {
        return (DecisionOutcome::AwaitApproval, first.reason, first.message.clone());
    }
    // A person who is called because the mode forbids writes wants the diagnosis too: evidence that may still come is
    // waited for, whatever else refuses.
    let waiting =
        refusals.iter().any(|o| o.may_pass_later) && !refusals.iter().any(|o| NOT_WORTH_WAITING.contains(&o.reason));
    if waiting {
        return (DecisionOutcome::Wait, first.reason, first.message.clone());
    }
    (DecisionOutcome::Escalate, first.reason, with_hypothesis(case, &first.message))
}

fn with_hypothesis(case: &Case<'_>, message: &str) -> String {
    match case.diagnosis {
        Some(diagnosis) if !diagnosis.hypothesis.is_empty() => {
            format!("{message}. Diagnosis: {}", diagnosis.hypothesis)
        }
        _ => message.to_string(),
    }
}

fn subject<'a>(case: &Case<'a>) -> Subject<'a> {
    let proposed = case.diagnosis.and_then(|d| d.proposal.as_ref()).map(|proposal| proposal.action.clone());
    let Ok(workload) = case.reading else {
        let refusal = Refusal { reason: Reason::ClusterUnreadable, message: "the target cannot be read".into() };
        return Subject { action: proposed, to: None, prediction: Err(refusal) };
    };
    let action = proposed.or_else(|| (actions::of(ActionKind::RolloutUndo).candidate)(workload));
    let Some(action) = action else {
        let refusal = Refusal { reason: Reason::OnlyOneRevision, message: "there is no earlier revision".into() };
        return Subject { action: None, to: None, prediction: Err(refusal) };
    };
    let Action::RolloutUndo(undo) = &action;
    let to = actions::rollout_undo::revision(workload, undo.to_revision);
    let prediction = (actions::of(action.kind()).predict)(workload, &action);
    Subject { action: Some(action), to, prediction }
}

impl Subject<'_> {
    /// Which action is judged; where nothing is proposed, the one that would be looked at first.
    pub(crate) fn kind(&self) -> ActionKind {
        self.action.as_ref().map_or(ActionKind::RolloutUndo, Action::kind)
    }
}

fn identity(case: &Case<'_>, subject: &Subject<'_>) -> Option<(String, String)> {
    let (Ok(workload), Ok(prediction)) = (&case.reading, &subject.prediction) else { return None };
    let Prediction { action, write, provenance, .. } = prediction;
    let digest = identity::digest(action, &workload.object, write, provenance.as_ref());
    let id = identity::action_id(case.incident, Purpose::Repair, &digest);
    Some((id, digest))
}

impl<'a> Case<'a> {
    /// The Policies that match the target; without a reading all of them.
    pub(crate) fn matching_policies(&self) -> Vec<&'a CompiledPolicy> {
        self.policies
            .iter()
            .filter(|policy| self.reading.as_ref().map_or(true, |reading| policy.matches(reading)))
            .collect()
    }

    /// The mode that namespace and Policies leave.
    pub(crate) fn mode(&self) -> Mode {
        super::policy::mode(self.namespace_mode, &self.matching_policies())
    }

    /// Variables of a Policy's validations.
    pub(crate) fn cel_variables(&self, subject: &Subject<'_>) -> Value {
        let target = self.reading.as_ref().ok().map(|reading| {
            json!({
                "kind": reading.object.kind, "namespace": reading.object.namespace, "name": reading.object.name,
                "labels": reading.labels, "annotations": reading.annotations, "replicas": reading.workload.desired,
                "revision": reading.workload.revision,
            })
        });
        let diagnosis = self.diagnosis.map(|d| {
            json!({
                "cause": d.cause, "confidence": d.confidence, "diagnoser": d.diagnoser,
                "claims": d.claims.iter().map(|c| json!({"kind": c.kind, "cites": c.cites})).collect::<Vec<_>>(),
            })
        });
        json!({
            "incident": {"name": self.incident, "rounds": self.rounds, "alerts": self.alert_names},
            "target": target,
            "diagnosis": diagnosis,
            "action": {
                "kind": subject.kind(),
                "toRevision": subject.to.map_or(0, |to| to.fact.number),
                "fields": subject.prediction.as_ref().ok().map(|p| p.diff.iter().map(|c| c.path.as_str()).collect::<Vec<_>>()).unwrap_or_default(),
            },
            "namespaceObject": {"mode": self.namespace_mode.unwrap_or_default()},
        })
    }
}

#[cfg(test)]
mod tests;
