//! The catalogue: one file an action, with its exact patch, its bounds, how success looks and how it is undone.
//! What has no file here cannot be asked for.

pub mod rollout_undo;

use serde_json::Value;

use crate::api::v1alpha1::{Action, ActionKind, FieldChange};

/// What exactly an action would do to an object, computed by the judge.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// Which action.
    pub kind: ActionKind,
    /// Its parameters.
    pub action: Action,
    /// The action that takes it back.
    pub undo: Action,
    /// JSON pointer of the one field that changes.
    pub path: &'static str,
    /// Its exact value now.
    pub before: Value,
    /// Its exact value afterwards.
    pub after: Value,
    /// The change for people.
    pub diff: Vec<FieldChange>,
}
