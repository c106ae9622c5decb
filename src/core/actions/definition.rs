//! What everybody else knows about one action.

use serde_json::Value;

use crate::api::v1alpha1::{Action, ActionKind, FieldWrite, ObjectRef};
use crate::core::gate::check::EvidenceCheck;
use crate::core::managers::Field;
use crate::core::workload::{Kind, Workload};

use super::prediction::{Prediction, Refusal};

/// Everything that the others know about one action.
pub struct Definition {
    /// Which action.
    pub kind: ActionKind,
    /// Value of the label `backstop.dev/armed`, and of `Grant.spec.open.action`.
    pub armed_label: &'static str,
    /// Kinds of object that it may be done to.
    pub targets: &'static [Kind],
    /// JSON pointer of the one field that it writes. It is fixed by the kind of action, and so the API server compares
    /// there whatever a Grant says: what follows from parameters is the value.
    pub path: &'static str,
    /// The same in the words of the table of managers: a tool that writes one of these would revert it, or build on it.
    pub writes: &'static [Field],
    /// The written value is one that a revision of the target recorded: that revision is named, marked while the
    /// write is in flight, and compared by the API server.
    pub provenance: bool,
    /// Why it cannot be taken back, as a sentence for people; `None` where writing the value before back does it.
    pub no_way_back: Option<&'static str>,
    /// Kinds of target whose stuck pods may be evicted to complete it.
    pub evicts: &'static [Kind],
    /// Whether the parameters are ones that the action can have; the error is a sentence.
    pub check: fn(&Action) -> Result<(), String>,
    /// The evidence that it needs besides what every action needs: appended to the common chain, and asked again by the
    /// executor on its own reading.
    pub evidence: &'static [EvidenceCheck],
    /// Evidence that takes other objects, which only the controller may read: it is asked after the above, and the
    /// executor does not ask it.
    pub looked_up: &'static [EvidenceCheck],
    /// The exact write that it would be, computed from what was read.
    pub predict: fn(&Workload, &Action) -> Result<Prediction, Refusal>,
    /// The action that the embedded rules would look at first, whoever proposes what: so that people see what stands
    /// in its way.
    pub candidate: fn(&Workload) -> Option<Action>,
    /// A value that differs from the one before and from the granted one: what the dry-run asks for that must be
    /// refused. Nothing would be refused of a dry-run that changes nothing.
    pub wrong_value: fn(&FieldWrite) -> Value,
    /// What it does, for people.
    pub describe: fn(&Action) -> String,
    /// The command that does the same by hand.
    pub by_hand: fn(&ObjectRef, &Action) -> String,
}
