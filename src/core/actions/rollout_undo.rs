//! `RolloutUndo`: return a Deployment's pod template to that of an earlier, healthy revision.
//!
//! - Hard evidence: pods of the *current* revision fail, that template was never seen healthy, and the earlier
//!   revision was.
//! - Patch: `/spec/template`, whole, to the exact JSON that the earlier ReplicaSet recorded.
//! - Bounds: only a revision that exists; the API server compares the new template with it once more.
//! - Success: the Deployment's replicas are updated, ready and available, and stay so.
//! - Undo: the same action back to the revision that was current, if nobody touched the template since.
//! - Never: when only one revision exists, when the template is the one that worked, when somebody else owns it.

use crate::api::v1alpha1::{Action, ActionKind, RolloutUndo};
use crate::core::reading::{Reading, Revision};

use super::Prediction;

/// The field that changes.
pub const PATH: &str = "/spec/template";

/// The revision numbered `number`, if it is recorded and is not the current one.
pub fn revision(reading: &Reading, number: i64) -> Option<&Revision> {
    reading.revisions.iter().find(|revision| revision.fact.number == number && !revision.fact.current)
}

/// Where a rollback goes when nobody names a revision: the newest earlier one whose template really differs, else the
/// newest earlier one, so that people see why it does not help.
pub fn newest_earlier(reading: &Reading) -> Option<&Revision> {
    reading.undo_candidate().or_else(|| reading.earlier().next())
}

/// What a rollback to `to` would do. `None` when the current template is not recorded as a revision: then there
/// would be no way back.
pub fn predict(reading: &Reading, to: &Revision) -> Option<Prediction> {
    let from = reading.current()?;
    let action = |revision: &Revision| Action {
        rollout_undo: Some(RolloutUndo { to_revision: revision.fact.number, revision: revision.object.clone() }),
    };
    Some(Prediction {
        kind: ActionKind::RolloutUndo,
        action: action(to),
        undo: action(from),
        path: PATH,
        before: reading.template.clone(),
        after: to.template.clone(),
        diff: reading.diff(from, to).changes,
    })
}
