//! What exactly an action would do, or why that cannot be said.

use crate::api::v1alpha1::{Action, FieldChange, ObjectRef, Undo, Write};
use crate::core::reason::Reason;

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
