//! An action of unit tests: three replicas instead of fewer. All that a new action needs is a file like this one, its
//! variants of `ActionKind` and `Action`, its line in the registry and a rule that proposes it.
//!
//! It differs from `RolloutUndo` wherever it can: it writes a number, names no revision, and is for one kind of target.

use serde_json::{Value, json};

use crate::api::v1alpha1::{Action, ActionKind, FieldChange, FieldWrite, ObjectRef, Planted, Undo, Write};
use crate::core::gate::check::{Check, EvidenceCheck};
use crate::core::gate::observed::Observed;
use crate::core::gate::outcome::{Outcome, pass, refuse, unknown};
use crate::core::managers::Field;
use crate::core::reason::Reason;
use crate::core::workload::{Kind, Workload};

use super::definition::Definition;
use super::prediction::{Prediction, Refusal};

/// The field that changes.
pub const PATH: &str = "/spec/replicas";
/// Replicas at most.
pub const MOST: i64 = 3;
/// What the reading has to say for the rules to propose it, as the reason of the condition `Progressing`.
pub const SIGN: &str = "Planted";

pub(super) static DEFINITION: Definition = Definition {
    kind: ActionKind::Planted,
    armed_label: "planted",
    targets: &[Kind::Deployment],
    path: PATH,
    writes: &[Field::Replicas],
    provenance: false,
    no_way_back: None,
    evicts: &[],
    check,
    evidence: CHECKS,
    looked_up: &[],
    predict,
    candidate,
    wrong_value,
    describe: |action| format!("Planted to {} replicas", replicas(action).unwrap_or_default()),
    by_hand,
};

const CHECKS: &[EvidenceCheck] = &[Check {
    name: "FewReplicas",
    says: "The target has fewer than three replicas, so that adding to them is a small change.",
    run: few_replicas,
}];

fn few_replicas(observed: &Observed<'_>) -> Outcome {
    match observed.workload.field(PATH).and_then(Value::as_i64) {
        Some(now) if now < MOST => pass(format!("it has {now} replicas")),
        Some(now) => refuse(Reason::BlastRadius, format!("it has {now} replicas already")),
        None => unknown(Reason::ClusterUnreadable, "it does not say how many replicas it has"),
    }
}

fn replicas(action: &Action) -> Option<i64> {
    match action {
        Action::Planted(planted) => Some(planted.replicas),
        _ => None,
    }
}

fn check(action: &Action) -> Result<(), String> {
    match replicas(action) {
        Some(1..=MOST) => Ok(()),
        other => Err(format!("replicas is {other:?}, and not 1 to {MOST}")),
    }
}

fn predict(workload: &Workload, action: &Action) -> Result<Prediction, Refusal> {
    let refused = |message: String| Refusal { reason: Reason::Unsupported, message };
    check(action).map_err(refused)?;
    let before = workload.field(PATH).and_then(Value::as_i64);
    let (Some(before), Some(after)) = (before, replicas(action)) else {
        return Err(refused("it does not say how many replicas it has".into()));
    };
    let to = |replicas| Action::Planted(Planted { replicas });
    Ok(Prediction {
        action: to(after),
        write: Write::Field(FieldWrite { path: PATH.into(), before: json!(before), after: json!(after) }),
        provenance: None,
        undo: Some(Undo { action: to(before), provenance: None }),
        diff: vec![FieldChange { path: PATH.into(), before: before.to_string(), after: after.to_string() }],
    })
}

fn candidate(workload: &Workload) -> Option<Action> {
    (workload.state.progressing_reason == SIGN).then_some(Action::Planted(Planted { replicas: MOST }))
}

fn wrong_value(field: &FieldWrite) -> Value {
    let differs = |wrong: &Value| *wrong != field.after && *wrong != field.before;
    (1..4).map(|replicas| json!(replicas)).find(differs).unwrap_or_default()
}

fn by_hand(target: &ObjectRef, action: &Action) -> String {
    let ObjectRef { kind, namespace, name, .. } = target;
    let replicas = replicas(action).unwrap_or_default();
    format!("kubectl -n {namespace} scale {}/{name} --replicas={replicas}", kind.to_lowercase())
}
