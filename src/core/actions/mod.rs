//! The catalogue: one file an action, with its exact write, its bounds, how success looks and how it is undone.
//! What has no file here cannot be asked for; everybody else asks [`of`].

pub mod identity;
pub mod rollout_undo;

use serde_json::Value;

use crate::api::v1alpha1::{Action, ActionKind, FieldChange, ObjectRef, Undo, Write};

use super::{
    reason::Reason,
    workload::{Kind, Workload},
};

/// Everything that the others know about one action.
pub struct Definition {
    /// Which action.
    pub kind: ActionKind,
    /// Value of the label `backstop.dev/armed`, and of `Grant.spec.open.action`.
    pub armed_label: &'static str,
    /// Kinds of object that it may be done to.
    pub targets: &'static [Kind],
    /// The exact write that it would be, computed from what was read.
    pub predict: fn(&Workload, &Action) -> Result<Prediction, Refusal>,
    /// The action that the embedded rules would look at first, whoever proposes what: so that people see what stands
    /// in its way.
    pub candidate: fn(&Workload) -> Option<Action>,
    /// A value that differs from the granted one: what the dry-run asks for that must be refused.
    pub wrong_value: fn(&Value) -> Value,
    /// What it does, for people.
    pub describe: fn(&Action) -> String,
    /// The command that does the same by hand.
    pub by_hand: fn(&ObjectRef, &Action) -> String,
}

/// The definition of an action.
pub fn of(kind: ActionKind) -> &'static Definition {
    match kind {
        ActionKind::RolloutUndo => &rollout_undo::DEFINITION,
    }
}

/// What exactly an action would do to an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// The action with its parameters.
    pub action: Action,
    /// The one write.
    pub write: Write,
    /// The object that recorded the value that is written.
    pub provenance: Option<ObjectRef>,
    /// How it is taken back.
    pub undo: Option<Undo>,
    /// The change for people.
    pub diff: Vec<FieldChange>,
}

/// Why an action cannot be predicted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The constant.
    pub reason: Reason,
    /// One sentence.
    pub message: String,
}
