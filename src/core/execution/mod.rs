//! The executor as a step function: what was read goes in, exactly one request comes out.
//!
//! [`step`] looks at the objects as they are and names the next write as data; `crate::act` sends it; [`on_response`]
//! takes the answer in. Nothing in between is remembered that the cluster does not show: [`Memory`] only saves
//! repeated dry-runs and counts tries, and a process that lost it goes on from the objects:
//! `last-action` is ours = done; armed with our action = dry-run and fire, or disarm; neither = claim again.
//!
//! Which action it is, which field it writes and which kinds it may be done to is the business of its
//! [`Definition`](crate::core::actions::Definition); nothing here knows one.

#[doc(hidden)]
pub mod conformance;
mod evict;
mod evidence;
mod marks;
mod orphans;
mod own_word;
pub mod patch;
mod policy_name;
mod record;
mod refusal;
mod request;
mod response;
mod selftest;
mod spec;
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

pub use evidence::{Consent, Evidence, PolicyBounds, Unborne, may_write};
pub use orphans::{Surroundings, orphans};
pub use policy_name::PolicyName;
pub use refusal::classify;
pub use request::{Probe, Request, Resource, Response, Verb};
pub use response::on_response;
pub use selftest::{SelfTest, self_tests, verdict};
pub use spec::{check_spec, target_kind};
pub use step::step;

/// Claims of one Remediation at most; each claim may be granted once.
pub const MAX_EPOCHS: i64 = 5;
/// Tries of each write in one epoch at most, when the object changes under it.
pub const MAX_TRIES: u8 = 5;
/// How long a refusal may be the API server not having seen our last write, or the controller's, yet.
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
/// How long a Remediation waits for the executor to become ready.
pub const READY_WAIT: jiff::SignedDuration = jiff::SignedDuration::from_secs(120);
/// How long the executor waits for evidence that it cannot read, or that is about an earlier generation of the object.
pub const EVIDENCE_WAIT: jiff::SignedDuration = jiff::SignedDuration::from_secs(10);
/// Pause between two tries to read it, and between two tries to evict against a disruption budget.
pub const EVIDENCE_PAUSE: Duration = Duration::from_millis(500);
/// Pause between two readings of a target that looks well, or is in motion.
pub const UNBORNE_PAUSE: Duration = Duration::from_secs(1);
/// How long a missing right to evict may be an API server that just started.
pub const EVICTION_RIGHT_WAIT: jiff::SignedDuration = jiff::SignedDuration::from_secs(10);
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
    /// The revision that the action names, whoever has its name now.
    pub revision: Option<Value>,
    /// The pod that is to be evicted, whoever has its name now.
    pub pod: Option<Value>,
    /// Every revision of the target's kind of revision in the namespace with the label `backstop.dev/undo-to`.
    pub marked: Vec<Value>,
    /// Every object of the namespace, of any kind of target, with the label `backstop.dev/armed`.
    pub armed: Vec<Value>,
    /// Revisions of the namespace; read only when something is armed and no revision is marked.
    pub siblings: Vec<Value>,
    /// Who we are.
    pub holder: String,
    /// Why the executor must not begin; empty when it may.
    pub not_ready: String,
    /// What the executor reads for itself before it writes, or why it cannot. Absent when it was not read along:
    /// the step then asks for it by [`Next::Look`].
    pub evidence: Option<Result<Evidence, String>>,
}

impl Observation {
    /// What would be read right after `request` was answered, as far as the answer tells. `None`: read again.
    ///
    /// The answer to a write is the object afterwards, so the next step may go on from it: each write is
    /// guarded by the resourceVersion of its object, and Grant and marks are looked at by the policies
    /// themselves. What happened is always read back from the API server, never concluded.
    ///
    /// Evidence is never carried on: each use of it is a reading of its own.
    pub fn carried(mut self, request: &Request, outcome: &Response) -> Option<Observation> {
        self.evidence = None;
        let object = match (outcome, request.dry_run) {
            (Response::Done(_) | Response::Refused { .. }, true) => return Some(self),
            (Response::Done(object), false) if request.verb != Verb::Fire => object,
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
            Resource::Target(_) => {
                replace(&mut self.armed, names::ARMED);
                self.target = Some(object.clone());
            }
            Resource::Revision(_) => {
                replace(&mut self.marked, names::UNDO_TO);
                if self.revision.as_ref().is_some_and(|revision| object::meta(revision, "uid") == uid) {
                    self.revision = Some(object.clone());
                }
            }
            Resource::RemediationStatus => self.remediation = serde_json::from_value(object.clone()).ok()?,
            Resource::PodEviction => return None,
        }
        Some(self)
    }

    /// The target, if it is still the same object.
    fn same_target(&self) -> Option<&Value> {
        let uid = &self.remediation.spec.target.uid;
        self.target.as_ref().filter(|target| object::meta(target, "uid") == uid)
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
    /// The executor's own reading allowed the write, at this generation of the target.
    allowed: Option<i64>,
    /// Since when that reading has failed.
    no_evidence: Option<Time>,
    /// The last reading did not allow the write, and time may turn it.
    unborne: Option<Ending>,
    /// Which dry-runs the object has passed.
    passed: Passed,
    /// The eviction was sent and may have been accepted.
    evicted: bool,
    /// The write of the field was sent and may have been accepted.
    fired: bool,
    /// What the API server said of a disruption budget that leaves no room.
    blocked: Option<String>,
    /// Tries of each write in this epoch that met a changed object or a refusal.
    tries: BTreeMap<Verb, u8>,
    /// A refusal that may be lag: since when, and when to try again.
    lag: Option<(Time, Time)>,
    /// When a revision was last marked or unmarked.
    mark_moved: Option<Time>,
    /// Since when the executor has not been ready.
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
    /// Read everything again, with the evidence.
    Look,
    /// Send this, then look again.
    Send(Request),
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The controller to open the Grant for this epoch.
    Grant,
    /// Another action of this namespace to end.
    OtherAction,
    /// The self-test to pass.
    Ready,
    /// The API server's policies to see our last write.
    Lag,
    /// Evidence that cannot be read now.
    Evidence,
}
