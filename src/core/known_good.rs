//! When a revision counts as known good, and how long that is remembered.

use jiff::SignedDuration;
use serde_json::Value;

use crate::api::v1alpha1::{KnownGood, LedgerStatus, Time};

use super::workload::{self, Kind, Workload};

const MAX_MARKS: usize = 2_000;
/// A mark is written again only when it is older than this: it is a lead for people, not a heartbeat.
const REFRESH: SignedDuration = SignedDuration::from_mins(10);

/// How healthy a workload is.
#[derive(Clone, Debug, PartialEq)]
pub enum Health {
    /// Not all replicas are ready, or a rollout is under way.
    NotHealthy,
    /// All replicas are ready, but not for long enough yet.
    Healthy {
        /// What is missing.
        for_another: SignedDuration,
    },
    /// The current revision is known good.
    Good(KnownGood),
}

/// Whether a workload of this kind, as a watch showed it, is worth reading with its revisions and pods. `false` means
/// that [`health`] cannot find it healthy as it is; what would change that changes its status, which the watch shows.
pub fn may_be_healthy(kind: Kind, object: &Value) -> bool {
    workload::complete(&workload::state(kind, object))
}

/// Judges the current revision: the workload is healthy, every pod of that revision was ready for long enough, and no
/// container of one ended meanwhile. Long enough is at least `floor`, and longer than it took to fail before:
/// [`Workload::proving_time`]. Where a rollout leaves some replicas as they are, those that it replaced count.
pub fn health(workload: &Workload, floor: SignedDuration) -> Health {
    let after = workload.proving_time(floor);
    let Some(current) = workload.current() else { return Health::NotHealthy };
    if !workload.is_healthy() {
        return Health::NotHealthy;
    }
    let pods = || workload.pods_of_revision(current.fact.number);
    // The time of a pod that is not ready is since when it is not.
    if pods().any(|pod| !pod.fact.ready) {
        return Health::NotHealthy;
    }
    let youngest = pods()
        .map(|pod| pod.fact.ready_since.into_iter().chain(pod.fact.last_terminated_at).max())
        .try_fold(Time::MIN, |latest, since| since.map(|since| latest.max(since)));
    let Some(youngest) = youngest.filter(|_| pods().next().is_some()) else { return Health::NotHealthy };
    // A liveness probe that never succeeds lets a container look well until it ends it.
    let probes = pods().filter_map(|pod| pod.fact.proven_after_seconds).max().map(SignedDuration::from_secs);
    let after = probes.map_or(after, |probes| probes.max(after));
    let lasted = workload.read_at.duration_since(youngest);
    if lasted < after {
        return Health::Healthy { for_another: after - lasted };
    }
    Health::Good(KnownGood {
        workload_uid: workload.object.uid.clone(),
        revision_uid: current.object.uid.clone(),
        template_hash: current.template_hash.clone(),
        at: workload.read_at,
    })
}

/// Adds or refreshes a mark. When the list is full the oldest mark goes.
pub fn remember(ledger: &LedgerStatus, mark: &KnownGood, now: Time) -> LedgerStatus {
    let same = |old: &KnownGood| {
        old.workload_uid == mark.workload_uid
            && old.revision_uid == mark.revision_uid
            && old.template_hash == mark.template_hash
    };
    if ledger.known_good.iter().any(|old| same(old) && now.duration_since(old.at) < REFRESH) {
        return ledger.clone();
    }
    let mut next = ledger.clone();
    next.known_good.retain(|old| !same(old));
    if next.known_good.len() >= MAX_MARKS {
        next.known_good.sort_by_key(|old| old.at);
        next.known_good.remove(0);
    }
    next.known_good.push(mark.clone());
    next
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::core::gate::testing::{at, reading};
    use crate::core::workload::fixtures::{WorkloadFixture, ready};

    const AFTER: SignedDuration = SignedDuration::from_secs(30);

    /// Healthy, with a readiness probe.
    fn probed() -> Workload {
        let mut workload = reading().healthy();
        workload.template["spec"]["containers"][0]["readinessProbe"] = json!({"exec": {"command": ["true"]}});
        workload
    }

    #[test]
    fn a_pod_that_runs_45_s_and_dies_is_not_known_good_after_30() {
        // No probe: a pod is ready as soon as it runs, and for minutes that says nothing.
        let mut now = reading().healthy();
        now.read_at = at(200);
        assert!(matches!(health(&now, AFTER), Health::Healthy { .. }));
        now.read_at = at(295);
        assert!(matches!(health(&now, AFTER), Health::Good(_)));
        // With a probe, but one of its pods ended after 200 s.
        let mut now = probed();
        now.pods[0].fact.ran_seconds = Some(200);
        now.read_at = at(200);
        assert!(matches!(health(&now, AFTER), Health::Healthy { .. }));
        now.read_at = at(295);
        assert!(matches!(health(&now, AFTER), Health::Good(_)));
    }

    #[test]
    fn a_revision_is_known_good_after_all_its_pods_were_ready_for_long_enough() {
        let mut now = probed();
        now.read_at = at(24);
        assert_eq!(health(&now, AFTER), Health::Healthy { for_another: SignedDuration::from_secs(1) });
        now.read_at = at(25);
        assert!(
            matches!(health(&now, AFTER), Health::Good(mark) if mark.template_hash == now.revisions[0].template_hash)
        );
    }

    #[test]
    fn only_a_workload_whose_replicas_are_all_updated_and_ready_is_worth_reading() {
        for kind in Kind::ALL {
            let seen = |replicas: i32, updated: i32, ready: i32, observed: i64| {
                may_be_healthy(
                    kind,
                    &json!({
                        "metadata": {"generation": 3},
                        "spec": {"replicas": replicas},
                        "status": {"observedGeneration": observed,
                            "updatedReplicas": updated, "readyReplicas": ready, "availableReplicas": ready,
                            "desiredNumberScheduled": replicas, "updatedNumberScheduled": updated,
                            "numberReady": ready, "numberAvailable": ready},
                    }),
                )
            };
            assert!(seen(2, 2, 2, 3), "{kind}");
            assert!(!seen(2, 1, 2, 3), "{kind}: a rollout is under way");
            assert!(!seen(2, 2, 1, 3), "{kind}: one is not ready");
            assert!(!seen(2, 2, 2, 2), "{kind}: the controller has not seen the latest spec");
            assert!(!seen(0, 0, 0, 3), "{kind}: one without replicas shows nothing");
            assert!(!may_be_healthy(kind, &json!({})), "{kind}");
        }
    }

    #[test]
    fn what_may_not_be_healthy_by_its_status_is_never_marked() {
        for kind in Kind::ALL {
            for world in [WorkloadFixture::two_revisions().of(kind), WorkloadFixture::one_revision().of(kind)] {
                let last = world.templates.len();
                for world in [world.clone().pods(last, 2, &ready(600)), world.pods(last, 1, &ready(600))] {
                    let snapshot = world.snapshot();
                    let marked = matches!(health(&Workload::of(&snapshot).unwrap(), AFTER), Health::Good(_));
                    assert_eq!(marked, may_be_healthy(kind, &snapshot.object), "{kind}");
                }
            }
        }
    }

    #[test]
    fn a_mark_names_the_revision_by_its_object_and_template_whatever_the_kind() {
        for kind in Kind::ALL {
            let world = WorkloadFixture::two_revisions().of(kind).pods(2, 2, &ready(600));
            let now = Workload::of(&world.snapshot()).unwrap();
            let Health::Good(mark) = health(&now, AFTER) else { panic!("{kind} is not known good") };
            assert_eq!((mark.revision_uid, mark.workload_uid), (world.revision_uid(2), now.object.uid));
        }
    }

    #[test]
    fn the_replicas_above_a_partition_are_enough_for_a_mark() {
        let world =
            WorkloadFixture { replicas: 3, ..WorkloadFixture::two_revisions().of(Kind::StatefulSet).partition(2) };
        let world = world.pods(1, 2, &ready(600));
        assert_eq!(health(&Workload::of(&world.snapshot()).unwrap(), AFTER), Health::NotHealthy);
        let now = Workload::of(&world.pods(2, 1, &ready(600)).snapshot()).unwrap();
        assert!(matches!(health(&now, AFTER), Health::Good(_)));
    }

    #[test]
    fn a_container_that_ended_meanwhile_starts_the_clock_again() {
        let mut now = reading().healthy();
        now.read_at = at(40);
        now.pods[0].fact.last_terminated_at = Some(at(20));
        assert!(matches!(health(&now, AFTER), Health::Healthy { .. }));
    }

    #[test]
    fn what_a_liveness_probe_may_still_end_is_not_known_good_yet() {
        let mut now = probed();
        now.read_at = at(115);
        now.pods[0].fact.proven_after_seconds = Some(121);
        assert_eq!(health(&now, AFTER), Health::Healthy { for_another: SignedDuration::from_secs(1) });
        now.read_at = at(116);
        assert!(matches!(health(&now, AFTER), Health::Good(_)));
    }

    #[test]
    fn what_fails_or_has_no_pods_is_not_healthy() {
        assert_eq!(health(&reading().crash_looping(), AFTER), Health::NotHealthy);
        let mut none = reading().healthy();
        none.pods.clear();
        assert_eq!(health(&none, AFTER), Health::NotHealthy);
    }

    #[test]
    fn a_revision_whose_pods_were_never_ready_is_not_marked_while_others_serve() {
        let mut now = reading().healthy();
        now.read_at = at(1000);
        now.pods.iter_mut().for_each(|pod| pod.fact.ready = false);
        assert_eq!(health(&now, AFTER), Health::NotHealthy);
    }

    #[test]
    fn the_same_mark_is_not_written_again_and_again() {
        let mark =
            KnownGood { workload_uid: "w".into(), revision_uid: "r".into(), template_hash: "h".into(), at: at(0) };
        let one = remember(&LedgerStatus::default(), &mark, at(0));
        let later = KnownGood { at: at(60), ..mark.clone() };
        assert_eq!(remember(&one, &later, at(60)), one);
        let much_later = KnownGood { at: at(601), ..mark };
        assert_eq!(remember(&one, &much_later, at(601)).known_good, [much_later]);
    }
}
