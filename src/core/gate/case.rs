//! What a decision rests on, in parts.

use std::collections::BTreeMap;

use crate::api::v1alpha1::{
    ActionKind, ApprovalAnswer, ApprovalTerms, Diagnosis, Fact, KnownGood, LedgerStatus, Mode, ObjectRef,
    PolicyException, Review, Severity, TargetReading, Time, Unresolved,
};
use crate::core::approvals::{self, Standing, Voice};
use crate::core::blast::Reach;
use crate::core::budget::{Budgets, storm::FailingTargets};
use crate::core::neighbours::Storm;
use crate::core::policy::{CompiledPolicy, CompiledRunbook};
use crate::core::reason::Reason;
use crate::core::rules;
use crate::core::workload::{Presence, Workload};

/// Investigations of one incident at most.
pub const MAX_ROUNDS: i32 = 30;

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
    /// How urgent the incident is.
    pub severity: Severity,
    /// Labels of the newest one that fires, as its sender wrote them.
    pub labels: &'a BTreeMap<String, String>,
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
    /// What a write can reach, or why that could not be read; `None` where nobody looked, because nothing fails or nothing
    /// can be written.
    pub reach: Option<Result<&'a Reach, Unreadable>>,
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
    /// PolicyExceptions of this namespace and of the system namespace.
    pub exceptions: &'a [PolicyException],
    /// The system namespace.
    pub system: &'a str,
}

/// What a matching Runbook leaves.
#[derive(Clone, Debug)]
pub struct RunbookRule {
    /// `namespace/name`.
    pub name: String,
    /// The actions that it allows.
    pub allowed_actions: Vec<ActionKind>,
    /// What it says in CEL.
    pub compiled: CompiledRunbook,
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
    pub failing_targets: &'a FailingTargets,
    /// The operator's budgets.
    pub budgets: &'a Budgets,
    /// The executor has rights in the namespace of the target.
    pub enrolled: bool,
    /// The audit log can be written, and outlives the pod or need not.
    pub audit_durable: bool,
}

/// An Approval that is valid now, or somebody's no.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ValidApproval {
    /// Digest of the exact action that it answers; empty in one that cannot be read, which may be about any.
    pub digest: String,
    /// Who answered.
    pub approver: String,
    /// Groups of theirs that are to count.
    pub groups: Vec<String>,
    /// What they said.
    pub answer: ApprovalAnswer,
    /// Name of the Approval.
    pub name: String,
    /// UID of the Approval.
    pub uid: String,
}

impl ValidApproval {
    /// What stands for answers that cannot be read: a no to whatever is asked. `who` says which they are, and why.
    pub fn unread(who: String) -> ValidApproval {
        ValidApproval { approver: who, answer: ApprovalAnswer::Deny, ..ValidApproval::default() }
    }

    /// Whether it is about the action of this digest.
    pub fn answers(&self, digest: &str) -> bool {
        self.digest == digest || self.digest.is_empty()
    }
}

/// What the answers to the action of this digest come to.
pub fn standing(approvals: &[ValidApproval], digest: &str, terms: &[ApprovalTerms]) -> Standing {
    let voices = approvals.iter().filter(|approval| approval.answers(digest)).map(|approval| Voice {
        approver: &approval.approver,
        groups: &approval.groups,
        answer: approval.answer,
    });
    approvals::standing(voices, terms)
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
