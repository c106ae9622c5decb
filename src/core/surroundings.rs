//! The surroundings of an incident: valid Approvals, exhausted quotas, and other targets with an incident at the same
//! time.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::ResourceQuota;

use crate::api::v1alpha1::{Approval, ApprovalAnswer, Incident, Time};

use super::budget::storm::FailingTargets;
use super::gate::ValidApproval;

/// The Approvals, yes and no, that are valid for `incident` at `now`: not expired, and not used.
pub fn valid_approvals(approvals: &[Approval], incident: &str, now: Time) -> Vec<ValidApproval> {
    approvals
        .iter()
        .filter(|approval| approval.spec.incident == incident && approval.spec.expires_at > now)
        .filter(|approval| approval.status.as_ref().is_none_or(|status| status.used_by.is_empty()))
        .map(|approval| ValidApproval {
            digest: approval.spec.digest.clone(),
            approver: approval.spec.approver.clone(),
            groups: approval.spec.groups.clone(),
            answer: approval.spec.answer,
            name: approval.metadata.name.clone().unwrap_or_default(),
            uid: approval.metadata.uid.clone().unwrap_or_default(),
        })
        .collect()
}

/// Names of the Approvals of `digest` that a Remediation of `incident` uses up.
pub fn approvals_to_use<'a>(approvals: &'a [Approval], incident: &str, digest: &str) -> Vec<&'a Approval> {
    approvals
        .iter()
        .filter(|approval| approval.spec.digest == digest && approval.spec.incident == incident)
        .filter(|approval| approval.spec.answer == ApprovalAnswer::Approve)
        .filter(|approval| approval.status.as_ref().is_none_or(|status| status.used_by.is_empty()))
        .collect()
}

/// The first quota on pods that is exhausted, as `name (key: used/hard)`: a rollout creates at least one pod before it
/// deletes one.
pub fn full_quota(quotas: &[ResourceQuota]) -> Option<String> {
    quotas.iter().find_map(|quota| {
        let status = quota.status.as_ref()?;
        let number = |map: Option<&std::collections::BTreeMap<String, _>>, key: &str| {
            let quantity: &k8s_openapi::apimachinery::pkg::api::resource::Quantity = map?.get(key)?;
            quantity.0.parse::<i64>().ok()
        };
        let name = quota.metadata.name.as_deref().unwrap_or_default();
        ["pods", "count/pods"].iter().find_map(|key| {
            let (used, hard) = (number(status.used.as_ref(), key)?, number(status.hard.as_ref(), key)?);
            (used >= hard).then(|| format!("{name} ({key}: {used}/{hard})"))
        })
    })
}

/// Targets in enrolled namespaces that the controller read as failing, and whose incident was opened inside the window.
pub fn failing_targets<'a>(
    incidents: impl IntoIterator<Item = &'a Incident>,
    enrolled: &BTreeSet<String>,
    window: SignedDuration,
    now: Time,
) -> FailingTargets {
    let fails = |incident: &&Incident| {
        let reading = incident.status.as_ref().and_then(|status| status.reading.as_ref());
        reading.is_some_and(|reading| !reading.healthy && reading.failing > 0)
    };
    let targets = incidents
        .into_iter()
        .filter(|incident| now.duration_since(incident.spec.opened_at).abs() < window)
        .filter(fails)
        .filter_map(|incident| incident.spec.target.as_ref())
        .filter(|target| enrolled.contains(&target.namespace));
    FailingTargets::of(targets.map(|target| (target.namespace.as_str(), target.uid.as_str())))
}

/// A later incident of the same namespace about the same target, which has it from there.
pub fn successor<'a>(incident: &Incident, incidents: impl IntoIterator<Item = &'a Incident>) -> Option<&'a str> {
    let target = incident.spec.target.as_ref()?;
    let later = |other: &&Incident| {
        other.metadata.namespace == incident.metadata.namespace
            && other.metadata.uid != incident.metadata.uid
            && other.spec.target.as_ref().is_some_and(|it| it.uid == target.uid)
            && other.spec.opened_at > incident.spec.opened_at
    };
    incidents.into_iter().find(later).and_then(|other| other.metadata.name.as_deref())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::v1alpha1::{IncidentStatus, TargetReading};

    fn at(second: i64) -> Time {
        Time::from_second(1_800_000_000 + second).unwrap()
    }

    fn approval(incident: &str, expires: i64, used_by: &str) -> Approval {
        let mut approval = Approval::new(
            "a",
            serde_json::from_value(json!({
                "approver": "ann", "incident": incident, "digest": "d", "expiresAt": at(expires).to_string(),
            }))
            .unwrap(),
        );
        approval.status = Some(serde_json::from_value(json!({ "usedBy": used_by })).unwrap());
        approval
    }

    #[test]
    fn an_approval_counts_while_it_is_unused_and_unexpired_and_for_its_own_incident() {
        let all = [approval("i", 10, ""), approval("i", 0, ""), approval("i", 10, "rem"), approval("other", 10, "")];
        assert_eq!(
            valid_approvals(&all, "i", at(0)),
            [ValidApproval {
                digest: "d".into(),
                approver: "ann".into(),
                name: "a".into(),
                ..ValidApproval::default()
            }]
        );
        assert_eq!(approvals_to_use(&all, "i", "d").len(), 2, "an expired one was used as well");
        assert!(approvals_to_use(&all, "i", "e").is_empty());
    }

    #[test]
    fn a_quota_without_room_for_another_pod_is_named() {
        let quota = |used: &str, hard: &str| {
            serde_json::from_value(json!({
                "metadata": {"name": "q"}, "status": {"used": {"pods": used}, "hard": {"pods": hard}},
            }))
            .unwrap()
        };
        assert_eq!(full_quota(&[quota("9", "10")]), None);
        assert_eq!(full_quota(&[quota("9", "10"), quota("10", "10")]).unwrap(), "q (pods: 10/10)");
        assert_eq!(full_quota(&[ResourceQuota::default()]), None);
    }

    fn incident(namespace: &str, uid: &str, opened: i64, failing: i32) -> Incident {
        let spec = json!({
            "target": {"kind": "Deployment", "namespace": namespace, "name": "a", "uid": uid}, "alerts": [],
            "requestId": "r", "openedAt": at(opened).to_string(),
        });
        let mut incident = Incident::new("i", serde_json::from_value(spec).unwrap());
        incident.metadata.uid = Some(format!("incident-{uid}-{opened}"));
        let reading = TargetReading { failing, healthy: failing == 0, ..TargetReading::default() };
        incident.status = Some(IncidentStatus { reading: Some(reading), ..IncidentStatus::default() });
        incident
    }

    #[test]
    fn over_the_cluster_only_enrolled_targets_that_were_read_as_failing_count_and_each_once() {
        let all = [
            incident("shop", "a", 0, 1),
            incident("shop", "a", 1, 1),
            incident("shop", "b", 2, 3),
            incident("shop", "old", -400, 1),
            incident("shop", "healthy", 3, 0),
            incident("evil", "not-enrolled", 3, 9),
            // Whoever wrote that it was received in the future.
            incident("shop", "future", 99_999, 1),
        ];
        let count = failing_targets(&all, &["shop".into()].into(), SignedDuration::from_secs(300), at(10));
        assert_eq!(count, FailingTargets::of([("shop", "a"), ("shop", "b")]));
    }

    #[test]
    fn a_later_incident_about_the_target_has_it_from_there() {
        let first = incident("shop", "a", 0, 0);
        let others = [first.clone(), incident("shop", "b", 9, 0), incident("shop", "a", 9, 0)];
        assert_eq!(successor(&first, &others), Some("i"));
        assert_eq!(successor(&others[2], &others), None);
    }
}
