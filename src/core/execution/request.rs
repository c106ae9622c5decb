//! Requests as data, and what became of them.

use std::fmt;

use serde_json::Value;

use super::PolicyName;
use crate::core::workload::Kind;

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// What it is for.
    pub verb: Verb,
    /// Of which kind.
    pub resource: Resource,
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// Ask only; nothing is stored.
    pub dry_run: bool,
    /// A JSON Patch; of an eviction the Eviction object.
    pub body: Value,
}

/// What the executor writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// A target of this kind.
    Target(Kind),
    /// A revision of targets of this kind.
    Revision(Kind),
    /// `remediations/status` of `backstop.dev/v1alpha1`.
    RemediationStatus,
    /// `pods/eviction`: created, not patched.
    PodEviction,
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Resource::Target(kind) => f.write_str(kind.as_str()),
            Resource::Revision(kind) => f.write_str(kind.revision_kind()),
            Resource::RemediationStatus => f.write_str("Remediation"),
            Resource::PodEviction => f.write_str("Pod"),
        }
    }
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// Take the Remediation for the first time.
    Claim,
    /// Take it again, with the next epoch.
    Reclaim,
    /// Label the revision.
    MarkRevision,
    /// Take the label off a revision.
    UnmarkRevision,
    /// Label the target.
    Arm,
    /// Ask for something that must be refused.
    DryRunWrong(Probe),
    /// Ask for exactly what was granted.
    DryRunRight,
    /// Write it: change the field, or evict the pod.
    Fire,
    /// Take the label off the target.
    Disarm,
    /// Write down that it happened.
    Finish,
    /// Write down that it did not and will not.
    Abort,
}

impl Verb {
    /// Word for metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Claim => "claim",
            Verb::Reclaim => "reclaim",
            Verb::MarkRevision => "mark-revision",
            Verb::UnmarkRevision => "unmark-revision",
            Verb::Arm => "arm",
            Verb::DryRunWrong(_) => "dry-run-wrong",
            Verb::DryRunRight => "dry-run-right",
            Verb::Fire => "fire",
            Verb::Disarm => "disarm",
            Verb::Finish => "finish",
            Verb::Abort => "abort",
        }
    }

    /// It writes the status of the Remediation.
    pub fn is_status(self) -> bool {
        matches!(self, Verb::Claim | Verb::Reclaim | Verb::Finish | Verb::Abort)
    }
}

/// A dry-run that has to be refused.
///
/// The API server names one refusing policy only, and of several an arbitrary one. The first three are refused by
/// exactly one policy each: `backstop-static` lets the label values `self-test-<policy>` through, in dry-runs only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Probe {
    /// An annotation that is none of the writes: `backstop-static` is in force.
    Static,
    /// `backstop-grant` is in force; it tells which Grant it sees.
    Grant,
    /// The policy that compares with revisions is in force; it tells whether it sees a marked one.
    Provenance,
    /// A fire with another value, on the armed object: neither granted nor recorded.
    OtherValue,
    /// An eviction of another pod of that name: not granted.
    OtherPod,
}

impl Probe {
    /// Asked on an object that is not armed, by the self-test and on the target before it is armed. Without provenance
    /// no policy compares with revisions.
    pub fn unarmed(provenance: bool) -> &'static [Probe] {
        const ALL: [Probe; 3] = [Probe::Static, Probe::Grant, Probe::Provenance];
        if provenance { &ALL } else { &ALL[..2] }
    }

    /// The policies of which one must refuse it, on a target of this kind.
    pub fn expected(self, target: Kind) -> [&'static str; 2] {
        let provenance = PolicyName::provenance(target);
        match self {
            Probe::Static => [PolicyName::STATIC; 2],
            Probe::Grant | Probe::OtherPod => [PolicyName::GRANT; 2],
            Probe::Provenance => [provenance; 2],
            Probe::OtherValue => [PolicyName::GRANT, provenance],
        }
    }

    /// The same for sentences.
    pub fn expected_words(self, target: Kind) -> String {
        match self.expected(target) {
            [one, other] if one == other => one.to_owned(),
            [one, other] => format!("{one} or {other}"),
        }
    }

    /// For sentences.
    pub fn describe(self) -> &'static str {
        match self {
            Probe::Static => "an annotation of its own",
            Probe::Grant => "a label without a Grant for it",
            Probe::Provenance => "a label without a revision for it",
            Probe::OtherValue => "a value that is not granted",
            Probe::OtherPod => "an eviction that is not granted",
        }
    }
}

/// What the API server answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// Accepted; the object afterwards.
    Done(Value),
    /// The object changed since it was read; nothing was written.
    Conflict,
    /// There is no such object.
    NotFound,
    /// Refused by a policy, or by something else when no policy is named.
    Refused {
        /// Name of the ValidatingAdmissionPolicy.
        policy: Option<String>,
        /// What it said.
        message: String,
    },
    /// A PodDisruptionBudget leaves no room for the eviction now; nothing was written.
    BlockedByDisruptionBudget(String),
    /// Nobody knows whether it was written: read back.
    Unknown(String),
}

impl Response {
    /// Word for metrics and logs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Response::Done(_) => "done",
            Response::Conflict => "conflict",
            Response::NotFound => "not-found",
            Response::Refused { .. } => "refused",
            Response::BlockedByDisruptionBudget(_) => "blocked-by-disruption-budget",
            Response::Unknown(_) => "unknown",
        }
    }
}
