//! Did the write help? From live state, with a settle time; no data is never healthy.

use jiff::SignedDuration;

use crate::api::v1alpha1::{PodFailure, Time, Write};

use super::workload::{Pod, Strategy, Workload};

/// What is known about the write.
#[derive(Clone, Debug)]
pub struct Written<'a> {
    /// The write.
    pub write: &'a Write,
    /// When the API server accepted it.
    pub fired_at: Time,
    /// When the target was first seen healthy since.
    pub healthy_since: Option<Time>,
    /// How long it must stay healthy.
    pub settle: SignedDuration,
    /// When it must be healthy at the latest, counted from the write.
    pub timeout: SignedDuration,
}

/// How it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Not healthy yet, and there is time.
    Waiting,
    /// Healthy now; it has to stay so.
    Settling,
    /// Healthy for long enough.
    Recovered,
    /// Not healthy in time; what is missing.
    Failed(String),
    /// Somebody else changed the field since.
    ChangedByOthers,
}

/// How the write stands by what `workload` shows.
pub fn progress(workload: &Workload, written: &Written<'_>) -> Progress {
    if !holds(workload, written.write) {
        return Progress::ChangedByOthers;
    }
    let now = workload.read_at;
    if workload.is_healthy() {
        return match written.healthy_since {
            Some(since) if now.duration_since(since) >= written.settle => Progress::Recovered,
            _ => Progress::Settling,
        };
    }
    if now.duration_since(written.fired_at) >= written.timeout {
        return Progress::Failed(state(workload));
    }
    Progress::Waiting
}

/// Whether the workload still has what was written. An eviction leaves nothing on it that somebody could change.
pub fn holds(workload: &Workload, write: &Write) -> bool {
    match write {
        Write::Field(field) => workload.field(&field.path) == Some(&field.after),
        Write::Evict(_) => true,
    }
}

/// Pods that the workload's controller will not replace although `write` changed their template, in the order in which
/// they have to be evicted.
///
/// The controller of a StatefulSet with the pod management policy `OrderedReady` goes through the ordinals from the
/// lowest, and goes no further than the first pod that is not ready, even if only a new template would make it so. So
/// the lowest comes first: while it is stuck, a pod of a higher ordinal that is evicted is not recreated.
///
/// Empty while the controller has not seen the write, when somebody changed the template since, for pods below the
/// partition (they would be recreated as they are), and for every other kind and policy.
pub fn stuck_pods<'a>(workload: &'a Workload, write: &Write) -> Vec<&'a Pod> {
    let ordered = matches!(workload.strategy, Strategy::RollingUpdate { ordered: true, .. });
    let observed = workload.state.observed_generation >= workload.state.generation;
    if !(ordered && observed) || write.field().is_none() || !holds(workload, write) {
        return vec![];
    }
    let mut stuck: Vec<&Pod> = workload.pods.iter().filter(|pod| is_stuck(workload, pod)).collect();
    stuck.sort_by_key(|pod| workload.ordinal(pod));
    stuck
}

/// A pod that fails, is not ready, does not run the current template, and should.
pub fn is_stuck(workload: &Workload, pod: &Pod) -> bool {
    let current = workload.current().map(|current| current.fact.number);
    current.is_some_and(|number| pod.fact.revision != Some(number))
        && !pod.fact.ready
        && pod.fact.failure.is_hard()
        && workload.is_replaced(pod)
}

fn state(workload: &Workload) -> String {
    let state = &workload.state;
    let failing = workload.pods.iter().find(|pod| pod.fact.failure != PodFailure::None);
    let detail = failing.map(|pod| format!("; pod {} is {:?}", pod.object.name, pod.fact.failure)).unwrap_or_default();
    format!("{} of {} replicas are ready{detail}", state.ready, state.desired)
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
