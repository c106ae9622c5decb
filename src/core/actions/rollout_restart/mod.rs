//! `RolloutRestart`: have the pods of a workload replaced by new ones of the same template, as its rollout does it.
//!
//! - Hard evidence: several pods of the current template hang, on more than one node or beside one that works; a pod of
//!   the very same template that was started after all of them works, and for longer than it took those to fail; no
//!   ConfigMap that the template names changed since.
//! - Write: the annotation `kubectl.kubernetes.io/restartedAt` of the pod template, as `kubectl rollout restart` writes it,
//!   and nothing else. Its value is the time since which new pods work: it follows from the reading, so that nobody
//!   chooses it, and investigation, controller and executor compute the same.
//! - Bounds: the API server lets nothing change but that annotation, to a time.
//! - Success: the workload's replicas are updated, ready and available, and stay so. Patience is that of every rollout.
//! - Undo: none. A process that ended does not come back, and writing the annotation back would end the new ones too.
//! - Never: in a crash loop, for one pod alone, for one node, where new pods fail too or stop after as long, with new
//!   configuration that no pod has proved, where new pods are refused, where it would end what serves.

mod evidence;

use serde_json::{Value, json};

use crate::api::v1alpha1::{Action, ActionKind, FieldChange, FieldWrite, ObjectRef, RolloutRestart, Time, Write};
use crate::core::managers::Field;
use crate::core::names;
use crate::core::reason::Reason;
use crate::core::workload::{Kind, Workload};

use super::definition::Definition;
use super::prediction::{Prediction, Refusal};

/// The field that changes, whole: the annotation inside of it may not be there yet, and a JSON pointer to what is not
/// there has no value before.
pub const PATH: &str = "/spec/template";
/// Length of a time as it is written: `2026-03-01T12:00:00Z`.
const TIME_LENGTH: usize = 20;

pub(super) static DEFINITION: Definition = Definition {
    kind: ActionKind::RolloutRestart,
    armed_label: "rollout-restart",
    targets: &[Kind::Deployment, Kind::StatefulSet, Kind::DaemonSet],
    path: PATH,
    writes: &[Field::Template],
    provenance: false,
    no_way_back: Some(
        "the processes that a restart ended do not come back, and writing the annotation back would restart it once more",
    ),
    // A StatefulSet waits for a pod that is not ready before it replaces any; the others replace it.
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

/// The time that it writes; `None` for another action.
fn restarted_at(action: &Action) -> Option<Time> {
    match action {
        Action::RolloutRestart(RolloutRestart { restarted_at }) => Some(*restarted_at),
        _ => None,
    }
}

/// A time as `kubectl rollout restart` writes it, in UTC.
fn written(at: Time) -> String {
    at.strftime("%FT%TZ").to_string()
}

/// The template with this value of the annotation.
pub fn restarted(template: &Value, at: &str) -> Value {
    let mut after = template.clone();
    let annotations = map(map(&mut after, "metadata"), "annotations");
    annotations[names::RESTARTED_AT] = json!(at);
    after
}

/// The object at `key` of an object; what is none becomes an empty one.
fn map<'a>(value: &'a mut Value, key: &str) -> &'a mut Value {
    if !value.is_object() {
        *value = json!({});
    }
    let slot = &mut value[key];
    if !slot.is_object() {
        *slot = json!({});
    }
    slot
}

fn annotation(template: &Value) -> &str {
    let annotations = template.pointer("/metadata/annotations");
    annotations.and_then(|all| all.get(names::RESTARTED_AT)).and_then(Value::as_str).unwrap_or_default()
}

fn check(action: &Action) -> Result<(), String> {
    match restarted_at(action) {
        Some(at) if at.subsec_nanosecond() == 0 && written(at).len() == TIME_LENGTH => Ok(()),
        Some(at) => Err(format!("restartedAt is {at}, and not a whole second of the years 0 to 9999")),
        None => Err(format!("{} is no RolloutRestart", action.kind())),
    }
}

fn predict(workload: &Workload, action: &Action) -> Result<Prediction, Refusal> {
    let refused = |reason| move |message: String| Refusal { reason, message };
    check(action).map_err(refused(Reason::Unsupported))?;
    let at = restarted_at(action).map(written).unwrap_or_default();
    let before = &workload.template;
    let after = restarted(before, &at);
    if after == *before {
        return Err(refused(Reason::RestartCuresNothing)(format!("it was restarted with the time {at} already")));
    }
    let path = format!("/metadata/annotations/{}", names::RESTARTED_AT.replace('/', "~1"));
    Ok(Prediction {
        action: action.clone(),
        diff: vec![FieldChange { path, before: annotation(before).to_owned(), after: at }],
        write: Write::Field(FieldWrite { path: PATH.into(), before: before.clone(), after }),
        provenance: None,
        undo: None,
    })
}

/// Where pods hang and newer ones work, or may: so that people see what stands in the way.
fn candidate(workload: &Workload) -> Option<Action> {
    let age = workload.by_age().filter(|age| age.hang().is_ok())?;
    Some(Action::RolloutRestart(RolloutRestart { restarted_at: age.perhaps_since()? }))
}

/// Another time: what the static policy would let through, so that it has to be the Grant that refuses it.
fn wrong_value(field: &FieldWrite) -> Value {
    let differs = |wrong: &Value| *wrong != field.after && *wrong != field.before;
    (0..3)
        .map(|second| restarted(&field.after, &format!("2000-01-01T00:00:0{second}Z")))
        .find(differs)
        .unwrap_or_default()
}

fn describe(action: &Action) -> String {
    format!("RolloutRestart (restartedAt {})", restarted_at(action).map(written).unwrap_or_default())
}

fn by_hand(target: &ObjectRef, _: &Action) -> String {
    let ObjectRef { kind, namespace, name, .. } = target;
    format!("kubectl -n {namespace} rollout restart {}/{name}", kind.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::actions;
    use crate::core::workload::fixtures::{WorkloadFixture, ago, crash_loop, now, ready};
    use crate::core::workload::{diff_templates, same_template};

    fn read(world: &WorkloadFixture) -> Workload {
        Workload::of(&world.snapshot()).unwrap()
    }

    fn restart(at: Time) -> Action {
        Action::RolloutRestart(RolloutRestart { restarted_at: at })
    }

    #[test]
    fn the_write_is_the_one_annotation_that_kubectl_writes_and_there_is_no_way_back() {
        for kind in Kind::ALL {
            let workload = read(&WorkloadFixture::two_revisions().of(kind).pods(2, 2, &ready(3600)));
            let Prediction { action, write, provenance, undo, diff } = predict(&workload, &restart(ago(60))).unwrap();
            let field = write.field().unwrap();
            assert_eq!((action, field.path.as_str()), (restart(ago(60)), "/spec/template"));
            assert_eq!(field.before, workload.template);
            let change = diff_templates(&field.before, 1, &field.after, 2);
            assert!(change.restart_only && change.changes.is_empty(), "{kind}: {change:?}");
            let mut back = field.after.clone();
            back["metadata"].as_object_mut().unwrap().remove("annotations");
            assert!(same_template(&back, &field.before), "{kind}: more than the annotation changed");
            let annotations = json!({"kubectl.kubernetes.io/restartedAt": "2026-03-01T11:59:00Z"});
            assert_eq!(field.after["metadata"]["annotations"], annotations);
            assert_eq!((provenance, undo), (None, None));
            assert_eq!(
                (diff[0].path.as_str(), diff[0].before.as_str(), diff[0].after.as_str()),
                ("/metadata/annotations/kubectl.kubernetes.io~1restartedAt", "", "2026-03-01T11:59:00Z")
            );
            let by_hand = format!("kubectl -n shop rollout restart {}/checkout", kind.as_str().to_lowercase());
            assert_eq!((DEFINITION.by_hand)(&workload.object, &restart(now())), by_hand);
        }
    }

    #[test]
    fn other_annotations_stay_and_a_time_that_is_there_already_is_no_restart() {
        let mut workload = read(&WorkloadFixture::one_revision().pods(1, 1, &ready(3600)));
        workload.template["metadata"]["annotations"] = json!({"note": "kept"});
        let write = predict(&workload, &restart(ago(60))).unwrap().write;
        let after = &write.field().unwrap().after;
        assert_eq!(after["metadata"]["annotations"]["note"], json!("kept"));
        workload.template = after.clone();
        assert_eq!(predict(&workload, &restart(ago(60))).unwrap_err().reason, Reason::RestartCuresNothing);
        let again = predict(&workload, &restart(ago(30))).unwrap();
        assert_eq!(again.diff[0].before, "2026-03-01T11:59:00Z");
    }

    #[test]
    fn a_time_that_kubernetes_does_not_write_is_refused() {
        let fraction = now() + jiff::SignedDuration::from_millis(1);
        for odd in [fraction, Time::MIN] {
            assert!(check(&restart(odd)).is_err(), "{odd}");
        }
        let undo = Action::RolloutUndo(crate::api::v1alpha1::RolloutUndo { to_revision: 1 });
        assert!(check(&undo).is_err());
        assert!(check(&restart(now())).is_ok());
    }

    #[test]
    fn no_way_back_is_found_and_why_is_said() {
        let workload = read(&WorkloadFixture::one_revision().pods(1, 1, &ready(3600)));
        let Prediction { action, write, provenance, undo, .. } = predict(&workload, &restart(now())).unwrap();
        let spec = crate::api::v1alpha1::RemediationSpec {
            incident: "i".into(),
            action_id: String::new(),
            digest: String::new(),
            action,
            purpose: crate::api::v1alpha1::Purpose::Repair,
            follows: None,
            target: workload.object.clone(),
            write,
            provenance,
            verify: crate::api::v1alpha1::Verify { settle_seconds: 1, timeout_seconds: 1 },
            undo,
            request_id: "r".into(),
        };
        assert_eq!(actions::undo_of(&spec), None);
        assert!(DEFINITION.no_way_back.unwrap().contains("do not come back"));
    }

    #[test]
    fn a_crash_loop_is_no_candidate() {
        let world = WorkloadFixture::one_revision().pods(1, 2, &crash_loop());
        assert_eq!(candidate(&read(&world)), None);
    }
}
