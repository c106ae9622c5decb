//! What a decision rests on, in parts, and what the first checks prove of it.

use serde_json::{Map, Value, json};

use crate::api::v1alpha1::{
    Action, ActionKind, Diagnosis, Fact, FieldWrite, KnownGood, LedgerStatus, Mode, ObjectRef, Purpose,
    RemediationSpec, Review, TargetReading, Time, Unresolved,
};
use crate::core::actions::{self, Prediction, identity};
use crate::core::budget::{Budgets, Charge};
use crate::core::neighbours::Storm;
use crate::core::policy::{self, CompiledPolicy};
use crate::core::reason::Reason;
use crate::core::rules;
use crate::core::workload::{Presence, Workload};

use super::check::Check;
use super::observed::{Observed, Override};
use super::outcome::Outcome;

/// Everything that a decision rests on. The reading of the workload is the controller's own; facts and diagnosis are
/// leads.
#[derive(Clone)]
pub struct Case<'a> {
    /// The time of the decision.
    pub now: Time,
    /// Name of the Incident.
    pub incident: &'a str,
    /// How often it was investigated, this round included.
    pub rounds: i32,
    /// Its target, or why there is none.
    pub target: Result<&'a ObjectRef, Unreadable>,
    /// Its alerts.
    pub alerts: Alerts<'a>,
    /// What the investigation believes.
    pub belief: Belief<'a>,
    /// What the controller read of the cluster.
    pub cluster: Cluster<'a>,
    /// What people declared.
    pub rules: Rules<'a>,
    /// What was spent, approved and counted.
    pub books: Books<'a>,
}

/// The alerts of an incident.
#[derive(Clone)]
pub struct Alerts<'a> {
    /// At least one is firing.
    pub firing: bool,
    /// When the first began, by its sender's clock.
    pub started_at: Time,
    /// Their names.
    pub names: Vec<&'a str>,
}

/// What the latest round of the investigation says.
#[derive(Clone, Copy, Default)]
pub struct Belief<'a> {
    /// Its numbered facts.
    pub facts: &'a [Fact],
    /// Its diagnosis.
    pub diagnosis: Option<&'a Diagnosis>,
    /// What another diagnoser says of the same facts: the rules, when a model answered. Where the rules were asked alone, what
    /// a model said of the same evidence in an earlier round.
    pub second_opinion: Option<&'a Diagnosis>,
    /// Why a model's answer that proposes the same as the rules is no reason to act, where the rules' answer is judged in its
    /// place: a person decides then.
    pub doubt: Option<&'a str>,
    /// The highest mode in which this diagnoser's answer may lead to an action that the rules do not confirm, as the plan
    /// says; `observe` where the plan does not know it.
    pub ceiling: Mode,
    /// What a reviewer says of the proposal.
    pub review: Option<&'a Review>,
    /// The diagnoser whose answer was decided on; empty before that. Its claims were true then. The same pods may fail in
    /// another way by now, or not at all for a moment: that is no lie. An answer that was not decided on has no such past.
    pub decided: &'a str,
    /// The decision is asked for once more.
    pub again: bool,
}

impl Belief<'_> {
    /// Its claims were true when the action was decided.
    pub fn held(&self) -> bool {
        self.again && self.diagnosis.is_some_and(|diagnosis| diagnosis.diagnoser == self.decided)
    }

    /// A model answered, by its own word: whether the rules confirm it, the reading tells.
    pub fn is_of_model(&self) -> bool {
        self.diagnosis.is_some_and(|diagnosis| diagnosis.diagnoser != rules::NAME)
    }
}

/// What the controller read itself, by quorum.
#[derive(Clone)]
pub struct Cluster<'a> {
    /// The target, or why it could not be read.
    pub workload: Result<&'a Workload, Unreadable>,
    /// Revisions that were seen healthy.
    pub known_good: &'a [KnownGood],
    /// Which objects that the earlier template names exist.
    pub presence: &'a [Presence],
    /// What the target showed right before the repair was granted; `None` before that.
    pub before_write: Option<&'a TargetReading>,
    /// A quota of the namespace that has no room for another pod, as `name (pods: used/hard)`.
    pub full_quota: Option<&'a str>,
}

/// What people declared for the namespace.
#[derive(Clone)]
pub struct Rules<'a> {
    /// Value of the namespace's mode label.
    pub namespace_mode: Option<&'a str>,
    /// All Policies of this namespace and of the system namespace.
    pub policies: &'a [CompiledPolicy],
    /// Runbooks that match the incident.
    pub runbooks: &'a [RunbookRule],
}

/// What a matching Runbook leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunbookRule {
    /// `namespace/name`.
    pub name: String,
    /// The actions that it allows.
    pub allowed_actions: Vec<ActionKind>,
}

/// What was spent, approved and counted.
#[derive(Clone)]
pub struct Books<'a> {
    /// The Ledger of actions.
    pub ledger: &'a LedgerStatus,
    /// Approvals of this incident that are valid now and were not used.
    pub approvals: &'a [ValidApproval],
    /// Many workloads of the namespace fail at once, the target among them.
    pub storm: Option<&'a Storm>,
    /// Why the other workloads of the namespace could not be read; `None` when they were, or need not be.
    pub neighbours_unread: Option<&'a Unreadable>,
    /// Enrolled targets of the cluster that were read as failing, with incidents inside the storm window.
    pub failing_targets: u32,
    /// The operator's budgets.
    pub budgets: &'a Budgets,
    /// The executor has rights in the namespace of the target.
    pub enrolled: bool,
    /// The audit log can be written, and outlives the pod or need not.
    pub audit_durable: bool,
}

/// An Approval that is valid now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ValidApproval {
    /// Digest of the exact action that it approves.
    pub digest: String,
    /// Who approved.
    pub approver: String,
    /// Name of the Approval.
    pub name: String,
    /// UID of the Approval.
    pub uid: String,
}

/// Why there is no target, or no reading of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The constant.
    pub reason: Reason,
    /// One sentence.
    pub message: String,
}

impl Unreadable {
    /// Why an incident has no target, as its spec tells.
    pub fn unresolved(unresolved: Option<&Unresolved>) -> Unreadable {
        match unresolved {
            Some(Unresolved { reason, message }) => Unreadable {
                reason: Reason::named(reason).unwrap_or(Reason::TargetUnresolved),
                message: message.clone(),
            },
            None => Unreadable { reason: Reason::TargetUnresolved, message: "the alert names no object".into() },
        }
    }
}

/// A [`Case`] whose target was resolved and read, and is still the same object: no check after that tests it again.
pub struct Readable<'a> {
    /// The case.
    pub case: &'a Case<'a>,
    /// The target.
    pub target: &'a ObjectRef,
    /// The reading and the action.
    pub observed: Observed<'a>,
    /// The Policies that match the target.
    pub policies: Vec<&'a CompiledPolicy>,
    /// Identity of the exact action; absent when it cannot be predicted.
    pub identity: Option<Identity>,
}

/// Identity of one exact action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Action id: 32 hexadecimal characters.
    pub id: String,
    /// Digest, 64 hexadecimal characters: what an Approval names.
    pub digest: String,
}

impl<'a> Readable<'a> {
    /// Proves that the case is readable; `None` where the preconditions refuse.
    pub fn of(
        case: &'a Case<'a>,
        purpose: Purpose,
        observed: impl FnOnce(&'a Workload, &[&CompiledPolicy]) -> Observed<'a>,
    ) -> Option<Self> {
        let (Ok(target), Ok(workload)) = (&case.target, &case.cluster.workload) else { return None };
        if workload.object.uid != target.uid {
            return None;
        }
        let policies = policy::matching(case.rules.policies, Some(&workload.object.kind), Some(&workload.labels)).all();
        let mut observed = observed(workload, &policies);
        let identity = observed.prediction.as_ref().ok().map(|prediction| {
            let Prediction { action, write, provenance, .. } = prediction;
            let digest = identity::digest(action, &workload.object, write, provenance.as_ref());
            Identity { id: identity::action_id(case.incident, purpose, &digest), digest }
        });
        // What a model proposes and the rules do not, a person may approve where Policies and its rung allow that.
        let reach = policy::model_mode(&policies).min(case.belief.ceiling);
        if case.belief.is_of_model() && reach >= Mode::Approve {
            observed.unconfirmed = word_of_a_person(case, identity.as_ref());
        }
        Some(Readable { case, target, observed, policies, identity })
    }

    /// Whether a person approved exactly this action, for disagreements that a person may always decide.
    pub fn word_of_a_person(&self) -> Override {
        word_of_a_person(self.case, self.identity.as_ref())
    }

    /// The reading.
    pub fn workload(&self) -> &'a Workload {
        self.observed.workload
    }

    /// Kind of the action.
    pub fn kind(&self) -> ActionKind {
        self.observed.kind
    }

    /// The mode that namespace and Policies leave.
    pub fn mode(&self) -> Mode {
        policy::mode(self.case.rules.namespace_mode, &self.policies)
    }

    /// What is charged to the Ledger; without an exact action it has no ID.
    pub fn charge(&self) -> Charge {
        let id = self.identity.as_ref().map(|identity| identity.id.as_str()).unwrap_or_default();
        // What a template changed is taken back by who writes one that was recorded, and by nobody else.
        let takes_back = actions::of(self.kind()).provenance;
        let change = self.workload().change().filter(|_| takes_back);
        Charge { change, ..Charge::of(id, self.case.incident, self.target, &self.policies) }
    }

    /// Variables of a Policy's validations.
    pub fn cel_variables(&self) -> Value {
        let Case { incident, rounds, alerts, belief, rules, .. } = self.case;
        let workload = self.workload();
        let diagnosis = belief.diagnosis.map(|d| {
            json!({
                "cause": d.cause, "confidence": d.confidence, "diagnoser": d.diagnoser,
                "claims": d.claims.iter().map(|c| json!({"kind": c.kind, "cites": c.cites})).collect::<Vec<_>>(),
            })
        });
        let prediction = self.observed.prediction.as_ref().ok();
        let fields: Vec<&str> = prediction.iter().flat_map(|p| &p.diff).map(|change| change.path.as_str()).collect();
        let mut action = self.observed.action.as_ref().map(parameters).unwrap_or_default();
        action.insert("kind".into(), self.kind().as_str().into());
        action.insert("fields".into(), fields.into());
        json!({
            "incident": {"name": incident, "rounds": rounds, "alerts": alerts.names},
            "target": {
                "kind": workload.object.kind, "namespace": workload.object.namespace, "name": workload.object.name,
                "labels": workload.labels, "annotations": workload.annotations,
                "replicas": workload.state.desired, "revision": workload.state.revision.unwrap_or_default(),
            },
            "diagnosis": diagnosis,
            "action": action,
            "namespaceObject": {"mode": rules.namespace_mode.unwrap_or_default()},
        })
    }
}

/// Whether a person approved exactly this action; without an exact one nobody can.
fn word_of_a_person(case: &Case<'_>, identity: Option<&Identity>) -> Override {
    let Some(Identity { digest, .. }) = identity else { return Override::No };
    match case.books.approvals.iter().find(|approval| approval.digest == *digest) {
        Some(approval) => Override::Given(approval.approver.clone()),
        None => Override::Asked(how_to_approve(case, digest)),
    }
}

/// What a person does to approve, in words.
pub(super) fn how_to_approve(case: &Case<'_>, digest: &str) -> String {
    format!("create an Approval for incident {} with digest {digest}", case.incident)
}

/// The parameters of an action by their names. A rule that asks for one that the action does not have fails, and so
/// denies.
fn parameters(action: &Action) -> Map<String, Value> {
    let value = serde_json::to_value(action).unwrap_or_default();
    value.as_object().and_then(|kinds| kinds.values().next()?.as_object().cloned()).unwrap_or_default()
}

/// A write that takes a write of ours back or completes it, held against a reading.
pub struct Follow<'a> {
    /// The reading.
    pub workload: &'a Workload,
    /// Action id of the repair that it follows.
    pub follows: &'a str,
    /// For an undo: the field, with `before` as the value that the repair wrote.
    pub field: Option<&'a FieldWrite>,
    /// For an eviction: the pod.
    pub pod: Option<&'a ObjectRef>,
}

/// A Remediation held against the executor's own reading.
pub struct Own<'a> {
    /// The Remediation.
    pub spec: &'a RemediationSpec,
    /// The executor's reading of its target.
    pub workload: &'a Workload,
}

/// Before the target is known to be readable.
pub type Precondition = Check<fn(&Case<'_>) -> Outcome>;
/// Everything, once the target is readable.
pub type ReadableCheck = Check<fn(&Readable<'_>) -> Outcome>;
/// A write that takes a write of ours back, or completes it.
pub type FollowCheck = Check<fn(&Follow<'_>) -> Outcome>;
/// A Remediation that the executor holds against its own reading.
pub type OwnCheck = Check<fn(&Own<'_>) -> Outcome>;
