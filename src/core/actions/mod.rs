//! The catalogue: one file an action, with its exact write, its bounds, how success looks and how it is undone.
//! What has no file here cannot be asked for; everybody else asks [`of`].

mod definition;
pub mod identity;
#[cfg(test)]
pub mod planted;
pub mod prediction;
mod rollout;
pub mod rollout_restart;
pub mod rollout_undo;

pub use definition::Definition;
pub use prediction::{Prediction, Refusal};

use crate::api::v1alpha1::{ActionKind, FieldWrite, RemediationSpec, Undo, Write};

/// The definition of an action.
pub fn of(kind: ActionKind) -> &'static Definition {
    match kind {
        ActionKind::RolloutUndo => &rollout_undo::DEFINITION,
        ActionKind::RolloutRestart => &rollout_restart::DEFINITION,
        #[cfg(test)]
        ActionKind::Planted => &planted::DEFINITION,
    }
}

/// Every definition, in the order of the catalogue.
pub fn all() -> impl Iterator<Item = &'static Definition> {
    ActionKind::ALL.iter().map(|kind| of(*kind))
}

/// The exact write that takes `repair` back: its field from the value after to the value before. `None` when it says no
/// way back, has none, or changed no field.
pub fn undo_of(repair: &RemediationSpec) -> Option<Prediction> {
    if of(repair.action.kind()).no_way_back.is_some() {
        return None;
    }
    let (Some(back), Write::Field(FieldWrite { path, before, after })) = (&repair.undo, &repair.write) else {
        return None;
    };
    Some(Prediction {
        action: back.action.clone(),
        write: Write::Field(FieldWrite { path: path.clone(), before: after.clone(), after: before.clone() }),
        provenance: back.provenance.clone(),
        undo: Some(Undo { action: repair.action.clone(), provenance: repair.provenance.clone() }),
        diff: vec![],
    })
}
