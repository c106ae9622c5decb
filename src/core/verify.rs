//! Did the write help? From live state, with a settle time; no data is never healthy.

use jiff::SignedDuration;

use crate::api::v1alpha1::{PodFailure, Time};

use super::workload::Workload;

/// What is known about the write.
#[derive(Clone, Debug)]
pub struct Written<'a> {
    /// The field's exact value after the write.
    pub after: &'a serde_json::Value,
    /// When the API server accepted it.
    pub fired_at: Time,
    /// When the target was first seen healthy since.
    pub healthy_since: Option<Time>,
    /// How long it must stay healthy.
    pub settle: SignedDuration,
    /// When it must be healthy at the latest.
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
    /// Not healthy in time.
    Failed(String),
    /// Somebody else changed the field since.
    ChangedByOthers,
}

/// Judges the state that `reading` shows.
pub fn progress(reading: &Workload, written: &Written<'_>) -> Progress {
    if reading.template != *written.after {
        return Progress::ChangedByOthers;
    }
    let now = reading.read_at;
    if healthy(reading) {
        return match written.healthy_since {
            Some(since) if now.duration_since(since) >= written.settle => Progress::Recovered,
            _ => Progress::Settling,
        };
    }
    if now.duration_since(written.fired_at) >= written.timeout {
        return Progress::Failed(state(reading));
    }
    Progress::Waiting
}

/// Every replica runs the current template and is ready and available, its controller has seen the latest spec, and
/// no pod of it fails. A Deployment that asks for no replicas shows nothing.
pub fn healthy(reading: &Workload) -> bool {
    reading.workload.desired > 0 && reading.is_healthy()
}

fn state(reading: &Workload) -> String {
    let w = &reading.workload;
    let failing = reading.pods.iter().find(|pod| pod.fact.failure != PodFailure::None);
    let detail = failing.map(|pod| format!("; pod {} is {:?}", pod.object.name, pod.fact.failure)).unwrap_or_default();
    format!("{} of {} replicas are ready{detail}", w.ready, w.desired)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::core::gate::testing::{at, reading};

    fn written(after: &serde_json::Value) -> Written<'_> {
        Written {
            after,
            fired_at: at(0),
            healthy_since: None,
            settle: SignedDuration::from_secs(10),
            timeout: SignedDuration::from_secs(60),
        }
    }

    #[test]
    fn health_has_to_last_before_it_counts_as_recovery() {
        let mut now = reading().healthy();
        let after = now.template.clone();
        now.read_at = at(5);
        assert_eq!(progress(&now, &written(&after)), Progress::Settling);
        let since = Written { healthy_since: Some(at(5)), ..written(&after) };
        now.read_at = at(14);
        assert_eq!(progress(&now, &since), Progress::Settling);
        now.read_at = at(15);
        assert_eq!(progress(&now, &since), Progress::Recovered);
    }

    #[test]
    fn no_replicas_and_an_unseen_generation_are_not_healthy() {
        let mut none = reading().healthy();
        none.workload.desired = 0;
        assert!(!healthy(&none));
        let mut unseen = reading().healthy();
        unseen.workload.generation += 1;
        assert!(!healthy(&unseen));
    }

    #[test]
    fn what_is_not_healthy_in_time_has_failed() {
        let mut now = reading().crash_looping();
        let after = now.template.clone();
        now.read_at = at(59);
        assert_eq!(progress(&now, &written(&after)), Progress::Waiting);
        now.read_at = at(60);
        assert!(matches!(progress(&now, &written(&after)), Progress::Failed(_)));
    }

    #[test]
    fn a_field_that_somebody_else_changed_is_not_ours_to_judge() {
        let now = reading().healthy();
        assert_eq!(progress(&now, &written(&json!({"spec": {}}))), Progress::ChangedByOthers);
    }
}
