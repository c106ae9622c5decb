//! Did the write help? From live state, with a settle time; no data is never healthy.

use jiff::SignedDuration;

use crate::api::v1alpha1::{PodFailure, TargetReading, Time, Write};

use super::workload::{Pod, Strategy, Workload};

/// However slowly a rollout advances: after this long a person looks at it.
const LONGEST: SignedDuration = SignedDuration::from_hours(2);

/// What is known about the write.
#[derive(Clone, Debug)]
pub struct Written<'a> {
    /// The write.
    pub write: &'a Write,
    /// What the target showed right before it; `None` when nobody noted it.
    pub before: Option<&'a TargetReading>,
    /// When it was seen to have been accepted.
    pub fired_at: Time,
    /// When the rollout was last seen to advance; the same as `fired_at` when it never was.
    pub advanced_at: Time,
    /// When the target was first seen healthy since.
    pub healthy_since: Option<Time>,
    /// How long it must stay healthy.
    pub settle: SignedDuration,
    /// How long it may stand still without being healthy; what the workload itself grants may be longer.
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
    /// Not healthy in time, and worse than before the write; what it shows.
    Worse(String),
    /// Not healthy in time, but not worse either: the value before the write would not help; what it shows.
    NotBetter(String),
    /// Somebody else changed the field, or stopped the workload since; what they did.
    ChangedByOthers(&'static str),
}

/// How the write stands by what `workload` shows.
pub fn progress(workload: &Workload, written: &Written<'_>) -> Progress {
    if !holds(workload, written.write) {
        return Progress::ChangedByOthers("somebody changed what was written");
    }
    if workload.state.desired == 0 && written.before.is_none_or(|before| before.desired > 0) {
        return Progress::ChangedByOthers("it was scaled to 0 after the write");
    }
    let now = workload.read_at;
    if workload.is_healthy() {
        return match written.healthy_since {
            Some(since) if now.duration_since(since) >= written.settle => Progress::Recovered,
            _ => Progress::Settling,
        };
    }
    if workload.state.paused {
        return Progress::ChangedByOthers("its rollout was paused after the write");
    }
    let stands_still = now.duration_since(written.advanced_at.max(written.fired_at));
    if stands_still < patience(workload, written.timeout) && now.duration_since(written.fired_at) < LONGEST {
        return Progress::Waiting;
    }
    let state = state(workload);
    if made_worse(written.before, workload) { Progress::Worse(state) } else { Progress::NotBetter(state) }
}

/// How long a rollout may stand still: what is set, or what the workload itself grants if that is longer. A rollout
/// whose own pods all fail gets no more than what is set.
pub fn patience(workload: &Workload, timeout: SignedDuration) -> SignedDuration {
    if workload.rollout_is_stuck() {
        return timeout;
    }
    timeout.max(workload.min_ready()).max(workload.progress_deadline().unwrap_or_default())
}

/// Whether the write made it worse: pods that ran the value before it were ready then, and fewer of any are now. Where
/// none was, the value before is known not to work and is not written back, whatever became of the write.
pub fn made_worse(before: Option<&TargetReading>, workload: &Workload) -> bool {
    before.is_some_and(|before| workload.state.ready < before.serving)
}

/// Whether the field has the value again that it had before the write: somebody reverted it.
pub fn is_reverted(workload: &Workload, write: &Write) -> bool {
    write.field().is_some_and(|field| workload.field(&field.path) == Some(&field.before))
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
