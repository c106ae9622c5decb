//! The surroundings of an incident: valid Approvals, exhausted quotas, and other targets with an incident at the same
//! time.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::ResourceQuota;

use crate::api::v1alpha1::{Approval, ApprovalAnswer, Incident, IncidentPhase, ObjectRef, Time};

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

/// A later incident about the target of one that is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Successor {
    /// Its name.
    pub incident: String,
    /// People were called for it: they have the target. Else it is worked on, and its end is not known yet.
    pub called: bool,
}

/// A later incident of the same namespace about the same target, or what stands in its place, that has it for now, because it is open, or from there on,
/// because people were called for it. One that is less severe speaks for nobody: it may end without a word. Nor does one
/// that was resolved, whose own alert is all that it asks for.
pub fn successor<'a>(incident: &Incident, incidents: impl IntoIterator<Item = &'a Incident>) -> Option<Successor> {
    fn names(it: &ObjectRef) -> [&str; 3] {
        [&it.kind, &it.namespace, &it.name]
    }
    let target = incident.spec.target.as_ref()?;
    let later = |other: &&Incident| {
        other.metadata.namespace == incident.metadata.namespace
            && other.metadata.uid != incident.metadata.uid
            && other.spec.target.as_ref().is_some_and(|it| names(it) == names(target))
            && other.spec.opened_at > incident.spec.opened_at
            && other.spec.severity >= incident.spec.severity
    };
    let has_it = |other: &Incident| {
        let called = match other.status.as_ref().filter(|status| status.phase.is_final()) {
            None => false,
            Some(status) if status.phase == IncidentPhase::Escalated && status.escalation.is_some() => true,
            Some(_) => return None,
        };
        Some(Successor { incident: other.metadata.name.clone().unwrap_or_default(), called })
    };
    incidents.into_iter().filter(later).filter_map(has_it).max_by_key(|successor| successor.called)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::v1alpha1::{Escalation, IncidentStatus, Severity, TargetReading};

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

    /// One that was opened at this second, in this phase, and whether people were called for it.
    fn later(opened: i64, severity: Severity, phase: IncidentPhase, called: bool) -> Incident {
        let mut incident = incident("shop", "a", opened, 1);
        incident.metadata.name = Some(format!("at-{opened}"));
        incident.spec.severity = severity;
        let status = incident.status.as_mut().unwrap();
        status.phase = phase;
        status.escalation = called.then(|| Box::new(Escalation::default()));
        incident
    }

    #[test]
    fn a_later_incident_has_the_target_while_it_is_open_and_once_people_were_called_for_it() {
        use IncidentPhase::{Escalated, Judging, Resolved};
        use Severity::{Critical, Error, Info};
        let first = later(0, Error, Resolved, false);
        let of = |others: &[Incident]| successor(&first, others).map(|it| (it.incident, it.called));
        let mut other = later(9, Critical, Judging, false);
        other.spec.target.as_mut().unwrap().name = "b".into();
        assert_eq!(of(&[first.clone(), other]), None, "itself, and one about another target");
        let mut made_again = later(9, Error, Judging, false);
        made_again.spec.target.as_mut().unwrap().uid = "another".into();
        assert_eq!(of(&[made_again]), Some(("at-9".into(), false)), "it is about what stands in its place");
        for severity in [Error, Critical] {
            assert_eq!(of(&[later(9, severity, Judging, false)]), Some(("at-9".into(), false)));
            assert_eq!(of(&[later(9, severity, Escalated, true)]), Some(("at-9".into(), true)));
        }
        let new = Incident { status: None, ..later(9, Error, Judging, false) };
        assert_eq!(of(&[new]), Some(("at-9".into(), false)), "nothing was done about it yet");
        let both =
            [later(8, Error, Judging, false), later(9, Error, Escalated, true), later(10, Error, Judging, false)];
        assert_eq!(of(&both), Some(("at-9".into(), true)), "who has told people has it");
        assert_eq!(of(&[later(-1, Critical, Judging, false)]), None, "an earlier one");
        // What ends without a word speaks for nobody.
        assert_eq!(of(&[later(9, Error, Resolved, false), later(10, Error, Escalated, false)]), None);
        for phase in [Judging, Escalated] {
            assert_eq!(of(&[later(9, Info, phase, true)]), None, "less severe");
        }
    }
}
