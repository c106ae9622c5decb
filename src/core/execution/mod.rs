//! The hands, as a step function: what was read goes in, exactly one request comes out.
//!
//! [`step`] looks at the objects as they are and names the next write as data; `crate::act` sends it; [`learn`]
//! takes the answer in. Nothing in between is remembered that the cluster does not show: [`Memory`] only saves
//! repeated dry-runs and counts tries, and a process that lost it goes on from the objects:
//! `last-action` is ours = done; armed with our action = dry-run and fire, or disarm; neither = claim anew.

mod orphans;
pub mod patch;
mod refusal;
mod response;
mod selftest;
mod step;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use crate::{
    api::v1alpha1::{Grant, Receipt, Remediation, Time},
    core::{names, object, reason::Reason},
};

pub use orphans::{Surroundings, orphans};
pub use refusal::{PolicyName, classify};
pub use response::on_response;
pub use selftest::{self_tests, verdict};
pub use step::step;

/// Claims of one Remediation at most; each claim may be granted once.
pub const MAX_EPOCHS: i64 = 5;
/// Tries of each write in one epoch at most, when the object changes under it.
pub const MAX_TRIES: u8 = 5;
/// How long a refusal may be the API server not having seen our last write, or the judge's, yet.
pub const LAG: jiff::SignedDuration = jiff::SignedDuration::from_secs(2);
/// Pause between two tries while it may be lag.
pub const LAG_PAUSE: Duration = Duration::from_millis(15);
/// How long the API server may take to set its policies up after it started.
pub const SETTLING: jiff::SignedDuration = jiff::SignedDuration::from_secs(30);
/// Pause between two tries while it does, and between two tries to disarm.
pub const SETTLING_PAUSE: Duration = Duration::from_millis(500);
/// A Grant with less validity left than this is not begun with.
pub const GRANT_MARGIN: jiff::SignedDuration = jiff::SignedDuration::from_secs(2);
/// How long a claim waits for its Grant.
pub const GRANT_WAIT: jiff::SignedDuration = jiff::SignedDuration::from_secs(600);
/// How long a Remediation waits for the hands to become ready.
pub const READY_WAIT: jiff::SignedDuration = jiff::SignedDuration::from_secs(120);
/// Pause after which a waiting Remediation is looked at again without being woken.
pub const RECHECK: Duration = Duration::from_secs(5);

/// Everything that one step decides from, read from the API server just before.
#[derive(Clone, Debug)]
pub struct Observation {
    /// The Remediation.
    pub remediation: Remediation,
    /// The Grant of the namespace.
    pub grant: Option<Grant>,
    /// The target, whoever has its name now.
    pub target: Option<Value>,
    /// The ReplicaSet that the action names, whoever has its name now.
    pub revision: Option<Value>,
    /// Every ReplicaSet of the namespace with the label `backstop.dev/undo-to`.
    pub marked: Vec<Value>,
    /// Every Deployment of the namespace with the label `backstop.dev/armed`.
    pub armed: Vec<Value>,
    /// Other ReplicaSets of the target; read only when it is armed and no revision is marked.
    pub siblings: Vec<Value>,
    /// Who we are.
    pub holder: String,
    /// Why the hands must not begin; empty when they may.
    pub not_ready: String,
}

impl Observation {
    /// What would be read right after `request` was answered, as far as the answer tells. `None`: read again.
    ///
    /// The answer to a write is the object afterwards, so the next step may go on from it: each write is
    /// guarded by the resourceVersion of its object, and Grant and marks are looked at by the policies
    /// themselves. What happened is always read back from the API server, never concluded.
    pub fn carried(mut self, request: &Request, outcome: &Outcome) -> Option<Observation> {
        let object = match (outcome, request.dry_run) {
            (Outcome::Done(_) | Outcome::Refused { .. }, true) => return Some(self),
            (Outcome::Done(object), false) if request.verb != Verb::Fire => object,
            _ => return None,
        };
        let uid = object::meta(object, "uid").to_owned();
        let replace = |list: &mut Vec<Value>, label: &str| {
            list.retain(|other| object::meta(other, "uid") != uid);
            if object::label(object, label).is_some() {
                list.push(object.clone());
            }
        };
        match request.resource {
            Resource::Deployment => {
                replace(&mut self.armed, names::ARMED);
                self.target = Some(object.clone());
            }
            Resource::ReplicaSet => {
                replace(&mut self.marked, names::UNDO_TO);
                if self.revision.as_ref().is_some_and(|revision| object::meta(revision, "uid") == uid) {
                    self.revision = Some(object.clone());
                }
            }
            Resource::RemediationStatus => self.remediation = serde_json::from_value(object.clone()).ok()?,
        }
        Some(self)
    }
}

/// What this process did for one Remediation. May be lost at any time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// Epoch that this process claimed, and when.
    claimed: Option<(i64, Time)>,
    /// The Grant of this epoch was seen open.
    granted: bool,
    /// This process armed the target in this epoch and has not disarmed it.
    armed: bool,
    /// Which dry-runs the object has passed.
    passed: Passed,
    /// Tries of each write in this epoch that met a changed object or a refusal.
    tries: BTreeMap<Verb, u8>,
    /// A refusal that may be lag: since when, and when to try again.
    lag: Option<(Time, Time)>,
    /// When a revision was last marked or unmarked.
    mark_moved: Option<Time>,
    /// Since when the hands have not been ready.
    not_ready: Option<Time>,
    /// It was decided to stop; what remains is to leave the target as it was found.
    ending: Option<Ending>,
    /// Steps of this process that no status names yet.
    receipts: Vec<Receipt>,
}

impl Memory {
    /// Decides to stop. The first reason stays.
    fn end(&mut self, reason: Reason, message: impl Into<String>) {
        if self.ending.is_none() {
            self.ending = Some(Ending { reason, message: message.into() });
        }
    }

    /// Why it was decided to stop, once it was.
    pub fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }

    fn tried(&mut self, verb: Verb) -> u8 {
        let tries = self.tries.entry(verb).or_default();
        *tries = tries.saturating_add(1);
        *tries
    }

    fn exhausted(&self, verb: Verb) -> bool {
        self.tries.get(&verb).is_some_and(|tries| *tries >= MAX_TRIES)
    }
}

/// Dry-runs that were answered as expected.
#[derive(Clone, Debug, Default, PartialEq)]
struct Passed {
    /// Before arming; they hold until a revision is marked or unmarked.
    unarmed: Vec<Probe>,
    /// The two below hold for this generation of the armed target.
    generation: i64,
    wrong: bool,
    right: bool,
}

/// Why it ends without a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The constant for status and metrics.
    pub reason: Reason,
    /// One sentence with the names.
    pub message: String,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Nothing will ever be left to do.
    Nothing,
    /// Look again when something changes, or after this long.
    Wait(Wait, Duration),
    /// Send this, then look again.
    Send(Request),
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The judge to open the Grant for this epoch.
    Grant,
    /// Another action of this namespace to end.
    OtherAction,
    /// The self-test to pass.
    Ready,
    /// The API server's policies to see our last write.
    Lag,
}

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
    /// JSON Patch.
    pub patch: Value,
}

/// The three things that the hands write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// `apps/v1` `deployments`.
    Deployment,
    /// `apps/v1` `replicasets`.
    ReplicaSet,
    /// `backstop.dev/v1alpha1` `remediations/status`.
    RemediationStatus,
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
    /// Write it.
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
    /// `backstop-provenance` is in force; it tells whether it sees a marked revision.
    Provenance,
    /// A fire with another image, on the armed object: neither granted nor recorded.
    OtherImage,
}

impl Probe {
    /// Asked on an object that is not armed: by the self-test, and on the target before it is armed.
    pub const UNARMED: [Probe; 3] = [Probe::Static, Probe::Grant, Probe::Provenance];

    /// The policies of which one must refuse it.
    pub fn expected(self) -> &'static [&'static str] {
        match self {
            Probe::Static => &[PolicyName::STATIC],
            Probe::Grant => &[PolicyName::GRANT],
            Probe::Provenance => &[PolicyName::PROVENANCE],
            Probe::OtherImage => &[PolicyName::GRANT, PolicyName::PROVENANCE],
        }
    }

    /// For sentences.
    pub fn describe(self) -> &'static str {
        match self {
            Probe::Static => "an annotation of its own",
            Probe::Grant => "a label without a Grant for it",
            Probe::Provenance => "a label without a revision for it",
            Probe::OtherImage => "another image",
        }
    }
}

/// What the API server answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
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
    /// Nobody knows whether it was written: read back.
    Unknown(String),
}

impl Outcome {
    /// Word for metrics and logs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Outcome::Done(_) => "done",
            Outcome::Conflict => "conflict",
            Outcome::NotFound => "not-found",
            Outcome::Refused { .. } => "refused",
            Outcome::Unknown(_) => "unknown",
        }
    }
}
