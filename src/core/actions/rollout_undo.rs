//! `RolloutUndo`: return a workload's pod template to that of an earlier, healthy revision.
//!
//! - Hard evidence: pods of the *current* revision fail, that template was never seen healthy, and the earlier
//!   revision was.
//! - Write: `/spec/template`, whole, to the exact JSON that the earlier revision recorded.
//! - Bounds: only a revision that exists; the API server compares the new template with it once more.
//! - Success: the workload's replicas are updated, ready and available, and stay so.
//! - Undo: the same action back to the revision that was current, if nobody touched the template since.
//! - Never: when only one revision exists, when the template is the one that worked, when somebody else owns it.

use serde_json::{Value, json};

use crate::api::v1alpha1::{Action, ActionKind, FieldWrite, ObjectRef, RolloutUndo, Undo, Write};
use crate::core::reason::Reason;
use crate::core::workload::{Kind, Revision, Workload};

use super::{Definition, Prediction, Refusal};

/// The field that changes.
pub const PATH: &str = "/spec/template";
/// An image that no registry serves: what the wrong-value dry-run asks for.
pub const WRONG_IMAGE: &str = "backstop.invalid/never-granted:0";

pub(super) static DEFINITION: Definition = Definition {
    kind: ActionKind::RolloutUndo,
    armed_label: "rollout-undo",
    targets: &[Kind::Deployment, Kind::StatefulSet, Kind::DaemonSet],
    predict,
    candidate,
    wrong_value,
    describe,
    by_hand,
};

/// The revision numbered `number`, if it is recorded and is not the current one.
pub fn revision(workload: &Workload, number: i64) -> Option<&Revision> {
    workload.revisions.iter().find(|revision| revision.fact.number == number && !revision.fact.current)
}

fn predict(workload: &Workload, action: &Action) -> Result<Prediction, Refusal> {
    let Action::RolloutUndo(RolloutUndo { to_revision }) = action;
    let to = revision(workload, *to_revision).ok_or_else(|| Refusal {
        reason: Reason::RevisionUnknown,
        message: format!("revision {to_revision} is proposed and is not a recorded earlier revision"),
    })?;
    // When the current template is not recorded as a revision there would be no way back.
    let from = workload.current().ok_or_else(|| Refusal {
        reason: Reason::FailingPodsNotCurrent,
        message: "the current template is not recorded as a revision yet".into(),
    })?;
    let back_to = |revision: &Revision| Action::RolloutUndo(RolloutUndo { to_revision: revision.fact.number });
    Ok(Prediction {
        action: back_to(to),
        write: Write::Field(FieldWrite {
            path: PATH.into(),
            before: workload.template.clone(),
            after: to.template.clone(),
        }),
        provenance: Some(to.object.clone()),
        undo: Some(Undo { action: back_to(from), provenance: Some(from.object.clone()) }),
        diff: workload.diff(from, to).changes,
    })
}

/// The newest earlier revision whose template really differs, else the newest earlier one, so that people see why it
/// does not help.
fn candidate(workload: &Workload) -> Option<Action> {
    let to = workload.undo_candidate().or_else(|| workload.earlier().next())?;
    Some(Action::RolloutUndo(RolloutUndo { to_revision: to.fact.number }))
}

/// The template with another image in its first container; one without a container gets one.
fn wrong_value(after: &Value) -> Value {
    let mut wrong = after.clone();
    match wrong.pointer_mut("/spec/containers/0/image") {
        Some(image) => *image = WRONG_IMAGE.into(),
        None => wrong = json!({"spec": {"containers": [{"name": "none", "image": WRONG_IMAGE}]}}),
    }
    wrong
}

fn describe(action: &Action) -> String {
    let Action::RolloutUndo(RolloutUndo { to_revision }) = action;
    format!("RolloutUndo to revision {to_revision}")
}

fn by_hand(target: &ObjectRef, action: &Action) -> String {
    let Action::RolloutUndo(RolloutUndo { to_revision }) = action;
    let ObjectRef { kind, namespace, name, .. } = target;
    format!("kubectl -n {namespace} rollout undo {}/{name} --to-revision={to_revision}", kind.to_lowercase())
}
