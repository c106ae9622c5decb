//! `RolloutUndo`: return a workload's pod template to that of an earlier, healthy revision.
//!
//! - Hard evidence: pods of the *current* revision fail, that template was never seen healthy, and the earlier
//!   revision was.
//! - Write: `/spec/template`, whole, to the exact JSON that the earlier revision recorded.
//! - Bounds: only a revision that exists; the API server compares the new template with it once more.
//! - Success: the workload's replicas are updated, ready and available, and stay so.
//! - Undo: the same action back to the revision that was current, if nobody touched the template since.
//! - Never: when only one revision exists, when the template is the one that worked, when somebody else owns it.

mod evidence;

use serde_json::{Value, json};

use crate::api::v1alpha1::{Action, ActionKind, FieldWrite, ObjectRef, RolloutUndo, Undo, Write};
use crate::core::managers::Field;
use crate::core::reason::Reason;
use crate::core::workload::{Kind, Revision, Workload};

use super::definition::Definition;
use super::prediction::{Prediction, Refusal};

/// The field that changes.
pub const PATH: &str = "/spec/template";
/// An image that no registry serves, without its tag: what the wrong-value dry-run asks for.
pub const WRONG_IMAGE: &str = "backstop.invalid/never-granted";

pub(super) static DEFINITION: Definition = Definition {
    kind: ActionKind::RolloutUndo,
    armed_label: "rollout-undo",
    targets: &[Kind::Deployment, Kind::StatefulSet, Kind::DaemonSet],
    path: PATH,
    writes: &[Field::Template, Field::Images],
    provenance: true,
    no_way_back: None,
    // A StatefulSet waits for a pod that never becomes ready, in a rollback too; the others replace it.
    evicts: &[Kind::StatefulSet],
    check,
    evidence: evidence::CHECKS,
    looked_up: evidence::LOOKED_UP,
    predict,
    candidate,
    wrong_value,
    describe,
    by_hand,
};

/// The revision that the action returns to; `None` for another action.
fn to_revision(action: &Action) -> Option<i64> {
    match action {
        Action::RolloutUndo(RolloutUndo { to_revision }) => Some(*to_revision),
        _ => None,
    }
}

fn predict(workload: &Workload, action: &Action) -> Result<Prediction, Refusal> {
    let to = to_revision(action).and_then(|number| evidence::earlier(workload, number)).ok_or_else(|| Refusal {
        reason: Reason::RevisionUnknown,
        message: format!("{} is proposed, and that is not a recorded earlier revision", describe(action)),
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

fn check(action: &Action) -> Result<(), String> {
    match to_revision(action) {
        Some(1..) => Ok(()),
        Some(number) => Err(format!("toRevision is {number}, and revisions begin with 1")),
        None => Err(format!("{} is no RolloutUndo", action.kind())),
    }
}

/// The granted template with another image in its first container; one without a container gets one.
fn wrong_value(field: &FieldWrite) -> Value {
    let differs = |wrong: &Value| *wrong != field.after && *wrong != field.before;
    // Of three images two at most are taken.
    (0..3).map(|number| with_image(&field.after, &format!("{WRONG_IMAGE}:{number}"))).find(differs).unwrap_or_default()
}

fn with_image(template: &Value, image: &str) -> Value {
    let mut changed = template.clone();
    match changed.pointer_mut("/spec/containers/0") {
        Some(Value::Object(container)) => {
            container.insert("image".into(), image.into());
        }
        _ => {
            let containers = json!([{"name": "none", "image": image}]);
            match changed.pointer_mut("/spec") {
                Some(Value::Object(spec)) => {
                    spec.insert("containers".into(), containers);
                }
                _ => changed = json!({"spec": {"containers": containers}}),
            }
        }
    }
    changed
}

fn describe(action: &Action) -> String {
    format!("RolloutUndo to revision {}", to_revision(action).unwrap_or_default())
}

fn by_hand(target: &ObjectRef, action: &Action) -> String {
    let ObjectRef { kind, namespace, name, .. } = target;
    let to_revision = to_revision(action).unwrap_or_default();
    format!("kubectl -n {namespace} rollout undo {}/{name} --to-revision={to_revision}", kind.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::workload::fixtures::{
        DAEMON_SET_BROKEN, DAEMON_SET_UNDONE, STATEFUL_SET_BROKEN, STATEFUL_SET_UNDONE, WorkloadFixture, crash_loop,
        ready, recorded,
    };

    fn to(number: i64) -> Action {
        Action::RolloutUndo(RolloutUndo { to_revision: number })
    }

    fn broken(kind: Kind) -> WorkloadFixture {
        WorkloadFixture::two_revisions().of(kind).pods(1, 1, &ready(3600)).pods(2, 1, &crash_loop())
    }

    fn read(world: &WorkloadFixture) -> Workload {
        Workload::of(&world.snapshot()).unwrap()
    }

    #[test]
    fn the_write_is_the_recorded_template_and_the_way_back_is_named_for_every_kind() {
        for kind in Kind::ALL {
            let world = broken(kind);
            let workload = read(&world);
            assert_eq!((DEFINITION.candidate)(&workload), Some(to(1)), "{kind}");
            let Prediction { action, write, provenance, undo, diff } = predict(&workload, &to(1)).unwrap();
            let field = write.field().unwrap();
            assert_eq!((action, field.path.as_str()), (to(1), PATH));
            assert_eq!((&field.before, &field.after), (&world.templates[1].0, &world.templates[0].0), "{kind}");
            let from = provenance.unwrap();
            assert_eq!((from.kind.as_str(), from.uid), (kind.revision_kind(), world.revision_uid(1)));
            let back = undo.unwrap();
            assert_eq!((back.action, back.provenance.unwrap().uid), (to(2), world.revision_uid(2)));
            assert_eq!(diff[0].path, "/spec/containers/app/image");
            let by_hand =
                format!("kubectl -n shop rollout undo {}/checkout --to-revision=1", kind.as_str().to_lowercase());
            assert_eq!((DEFINITION.by_hand)(&workload.object, &to(1)), by_hand);
        }
    }

    #[test]
    fn the_predicted_template_is_what_a_real_rollback_left() {
        for (before, after) in [(STATEFUL_SET_BROKEN, STATEFUL_SET_UNDONE), (DAEMON_SET_BROKEN, DAEMON_SET_UNDONE)] {
            let of = |json| Workload::of(&recorded(json)).unwrap();
            let prediction = predict(&of(before), &to(1)).unwrap();
            assert_eq!(prediction.write.field().unwrap().after, of(after).template);
        }
    }

    #[test]
    fn nothing_is_predicted_to_a_revision_that_is_not_recorded_is_current_or_has_no_way_back() {
        for kind in Kind::ALL {
            let workload = read(&broken(kind));
            for number in [0, 2, 3, -1] {
                assert_eq!(predict(&workload, &to(number)).unwrap_err().reason, Reason::RevisionUnknown, "{kind}");
            }
            let mut unrecorded = broken(kind).snapshot();
            unrecorded.revisions.pop();
            let workload = Workload::of(&unrecorded).unwrap();
            assert!(predict(&workload, &to(1)).is_err(), "{kind}");
        }
    }
}
