//! When a revision counts as known good, and how long that is remembered.

use jiff::SignedDuration;
use k8s_openapi::api::apps::v1::Deployment;

use crate::api::v1alpha1::{KnownGood, LedgerStatus, Time};

use super::{verify, workload::Workload};

const MAX_MARKS: usize = 2_000;
/// A mark is written again only when it is older than this: it is a lead for people, not a heartbeat.
const REFRESH: SignedDuration = SignedDuration::from_mins(10);

/// How healthy a Deployment is.
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

/// Whether a Deployment, as a watch showed it, is worth reading with its revisions and pods. `false` means that
/// [`health`] cannot find it healthy as it is; what would change that changes its status, which the watch shows.
pub fn may_be_healthy(deployment: &Deployment) -> bool {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    deployment.status.as_ref().is_some_and(|status| {
        wanted > 0
            && status.observed_generation == deployment.metadata.generation
            && status.updated_replicas.unwrap_or(0) >= wanted
            && status.ready_replicas.unwrap_or(0) >= wanted
    })
}

/// Judges the current revision: every replica ready for at least `after`, and no container of it ended meanwhile.
pub fn health(reading: &Workload, after: SignedDuration) -> Health {
    let Some(current) = reading.current() else { return Health::NotHealthy };
    if !verify::healthy(reading) {
        return Health::NotHealthy;
    }
    let pods = || reading.pods_of_revision(current.fact.number);
    // The time of a pod that is not ready is since when it is not.
    if pods().any(|pod| !pod.fact.ready) {
        return Health::NotHealthy;
    }
    let youngest = pods()
        .map(|pod| pod.fact.ready_since.into_iter().chain(pod.fact.last_terminated_at).max())
        .try_fold(Time::MIN, |latest, since| since.map(|since| latest.max(since)));
    let Some(youngest) = youngest.filter(|_| pods().next().is_some()) else { return Health::NotHealthy };
    let lasted = reading.read_at.duration_since(youngest);
    if lasted < after {
        return Health::Healthy { for_another: after - lasted };
    }
    Health::Good(KnownGood {
        workload_uid: reading.object.uid.clone(),
        revision_uid: current.object.uid.clone(),
        template_hash: current.template_hash.clone(),
        at: reading.read_at,
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
    use super::*;
    use crate::core::gate::testing::{at, reading};

    const AFTER: SignedDuration = SignedDuration::from_secs(30);

    #[test]
    fn a_revision_is_known_good_after_all_its_pods_were_ready_for_long_enough() {
        let mut now = reading().healthy();
        now.read_at = at(24);
        assert_eq!(health(&now, AFTER), Health::Healthy { for_another: SignedDuration::from_secs(1) });
        now.read_at = at(25);
        assert!(
            matches!(health(&now, AFTER), Health::Good(mark) if mark.template_hash == now.revisions[0].template_hash)
        );
    }

    #[test]
    fn only_a_deployment_whose_replicas_are_all_updated_and_ready_is_worth_reading() {
        let seen = |replicas: i32, updated: i32, ready: i32, observed: i64| {
            may_be_healthy(
                &serde_json::from_value(serde_json::json!({
                    "metadata": {"generation": 3},
                    "spec": {"replicas": replicas, "selector": {}, "template": {}},
                    "status": {"observedGeneration": observed, "updatedReplicas": updated, "readyReplicas": ready},
                }))
                .unwrap(),
            )
        };
        assert!(seen(2, 2, 2, 3));
        assert!(!seen(2, 1, 2, 3), "a rollout is under way");
        assert!(!seen(2, 2, 1, 3), "one is not ready");
        assert!(!seen(2, 2, 2, 2), "the controller has not seen the latest spec");
        assert!(!seen(0, 0, 0, 3), "one without replicas shows nothing");
        assert!(!may_be_healthy(&Deployment::default()));
    }

    #[test]
    fn a_container_that_ended_meanwhile_starts_the_clock_again() {
        let mut now = reading().healthy();
        now.read_at = at(40);
        now.pods[0].fact.last_terminated_at = Some(at(20));
        assert!(matches!(health(&now, AFTER), Health::Healthy { .. }));
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
