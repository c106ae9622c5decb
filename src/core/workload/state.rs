//! What a workload says of itself, in the same fields for every kind.

use serde_json::Value;

use super::{Kind, Strategy};
use crate::api::v1alpha1::WorkloadFact;
use crate::core::names;
use crate::core::object::{annotation, condition, int, int32, text};

/// Generations, counts and progress of a workload of this kind. Owners, managing tools and, where no annotation says
/// it, the revision are not in it yet.
pub fn state(kind: Kind, object: &Value) -> WorkloadFact {
    // Replicas default to 1 only where they are not printed at all; what is not a number is no replica.
    let replicas = || object.pointer("/spec/replicas").map_or(1, |_| int32(object, "/spec/replicas"));
    let count = |field: &str| int32(object, field);
    let (desired, updated, ready, available) = match kind {
        Kind::Deployment | Kind::StatefulSet => (
            replicas(),
            count("/status/updatedReplicas"),
            count("/status/readyReplicas"),
            count("/status/availableReplicas"),
        ),
        Kind::DaemonSet => (
            count("/status/desiredNumberScheduled"),
            count("/status/updatedNumberScheduled"),
            count("/status/numberReady"),
            count("/status/numberAvailable"),
        ),
    };
    let mut state = WorkloadFact {
        generation: int(object, "/metadata/generation").unwrap_or_default(),
        observed_generation: int(object, "/status/observedGeneration").unwrap_or_default(),
        desired,
        updated,
        held_back: Strategy::of(kind, object).held_back(desired),
        ready,
        available,
        ..WorkloadFact::default()
    };
    if kind == Kind::Deployment {
        state.paused = object.pointer("/spec/paused").and_then(Value::as_bool).unwrap_or_default();
        state.revision = annotation(object, names::REVISION).and_then(|number| number.parse().ok());
        state.progressing_reason =
            condition(object, "Progressing").map(|c| text(c, "/reason", 128)).unwrap_or_default();
    }
    state
}

/// Pods of any template that the workload says it has.
pub fn pods(kind: Kind, object: &Value) -> i32 {
    match kind {
        Kind::Deployment | Kind::StatefulSet => int32(object, "/status/replicas"),
        Kind::DaemonSet => int32(object, "/status/currentNumberScheduled"),
    }
}

/// Whether the workload itself says that all that was asked for is there: its controller has seen the latest spec,
/// every replica that a rollout replaces is of the current template, and all are ready and available. Pods may still
/// tell otherwise. Without replicas there is nothing that could show it.
pub fn complete(state: &WorkloadFact) -> bool {
    let WorkloadFact { generation, observed_generation, desired, updated, held_back, ready, available, .. } = state;
    *desired > 0
        && observed_generation >= generation
        && *updated >= desired - held_back
        && ready >= desired
        && available >= desired
}
