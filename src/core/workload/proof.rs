//! What shows that the template of a pod works. Rules, claims and gate ask the same question here.

use super::STABLE_SECONDS;
use crate::api::v1alpha1::{PodFact, PodFailure, Time};
use crate::core::object::seconds;

/// A condition that never changed since the pod was created may still be this much younger than the pod.
const FIRST_SECONDS: i64 = 10;

/// What shows that the template of a pod works, with how long it lasted, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// It is ready, since then.
    Ready(i64),
    /// Its container ran for so long before it ended.
    Ran(i64),
    /// It was ready until so long after it was created.
    WasReady(i64),
}

/// What a pod shows of its template, seen at `at`. That a rollout counts as complete proves nothing: a container without
/// a readiness probe is available in the instant before it crashes. What counts is time, and longer than a liveness
/// probe takes to end a container that never worked.
pub fn proof(pod: &PodFact, at: Time) -> Option<Proof> {
    let PodFact { failure, ready, ready_since, created_at, restarts, last_terminated_at, ran_seconds, .. } = pod;
    let long = pod.proven_after_seconds.unwrap_or(STABLE_SECONDS).max(STABLE_SECONDS);
    if *failure == PodFailure::None && *ready {
        let since = seconds((*ready_since)?, at);
        let settled = last_terminated_at.is_none_or(|ended| seconds(ended, at) >= long);
        return (since >= long && settled).then_some(Proof::Ready(since));
    }
    // What a probe ended again and again ran for as long as the probe took.
    if *failure == PodFailure::LivenessFailing || never_ready(pod) {
        return None;
    }
    if let Some(ran) = ran_seconds.filter(|ran| *ran >= long) {
        return Some(Proof::Ran(ran));
    }
    let was_ready = seconds((*created_at)?, (*ready_since)?);
    (*failure == PodFailure::ProbeFailing && *restarts == 0 && !*ready && was_ready >= long)
        .then_some(Proof::WasReady(was_ready))
}

/// A pod that was never ready: the condition did not change since the pod was created.
pub fn never_ready(pod: &PodFact) -> bool {
    match (pod.ready, pod.ready_since, pod.created_at) {
        (false, Some(since), Some(created)) => seconds(created, since) <= FIRST_SECONDS,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::workload::fixtures::{ago, now};

    fn pod(change: impl FnOnce(&mut PodFact)) -> PodFact {
        let mut pod = PodFact { created_at: Some(ago(600)), ready_since: Some(ago(90)), ..PodFact::default() };
        change(&mut pod);
        pod
    }

    #[test]
    fn what_lasts_longer_than_a_probe_takes_to_end_it_is_a_proof() {
        use PodFailure::{CrashLoop, LivenessFailing, ProbeFailing, StartError};
        let cases: [(&str, PodFact, Option<Proof>); 8] = [
            ("ready for 90 s", pod(|p| p.ready = true), Some(Proof::Ready(90))),
            (
                "ready for 90 s, and its liveness probe takes 151",
                pod(|p| (p.ready, p.proven_after_seconds) = (true, Some(151))),
                None,
            ),
            (
                "ready for 90 s after a container ended 20 s ago",
                pod(|p| (p.ready, p.last_terminated_at) = (true, Some(ago(20)))),
                None,
            ),
            ("ran for 70 s", pod(|p| (p.failure, p.ran_seconds) = (CrashLoop, Some(70))), Some(Proof::Ran(70))),
            (
                "ran for 70 s until its liveness probe ended it",
                pod(|p| (p.failure, p.ran_seconds) = (LivenessFailing, Some(70))),
                None,
            ),
            (
                "ran for 700 s and was never ready",
                pod(|p| (p.failure, p.ran_seconds, p.ready_since) = (CrashLoop, Some(700), Some(ago(598)))),
                None,
            ),
            ("was ready for 510 s", pod(|p| p.failure = ProbeFailing), Some(Proof::WasReady(510))),
            ("never started", pod(|p| (p.failure, p.ready_since) = (StartError, None)), None),
        ];
        for (what, pod, expected) in cases {
            assert_eq!(proof(&pod, now()), expected, "{what}");
        }
    }
}
