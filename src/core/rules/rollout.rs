//! A change of the pod template broke it.
//!
//! Proposed only when every one of these holds: the failing pods run the current revision; an earlier one differs in
//! more than a restart; nothing shows that the current one ever worked ([`Evidence::worked`]); no ConfigMap changed
//! since; no pod of the earlier revision fails; and the alert did not begin before the current one was created.
//!
//! Confidence: 60, + 20 when the earlier revision has ready replicas now, + 10 when no pod of the current one is
//! ready, + 5 when the alert began within an hour of the change; - 20 when it is not known whether a ConfigMap
//! changed.

use crate::api::v1alpha1::{Action, Cause, Claim, ClaimKind, Diagnosis, PodFailure, Proposal, RolloutUndo, SourceName};
use crate::core::workload::Kind;

use super::evidence::{Evidence, LONG_BEFORE_SECONDS, seconds, words};
use super::{cite, claim};

pub fn diagnose(evidence: &Evidence) -> Option<Diagnosis> {
    let current = evidence.current()?;
    let (earlier, diff) = evidence.candidate()?;
    let failing = evidence.failing_current();
    let target = evidence.target?;
    let (to, number) = (earlier.data.number, current.data.number);
    let earlier_fails = evidence.pods_of(to).any(|pod| pod.data.failure.is_hard());
    let created = current.data.created_at?;
    if failing.is_empty() || earlier_fails || evidence.alert_began_before(created) {
        return None;
    }

    let current_ready = evidence.pods_of(number).any(|pod| pod.data.ready);
    let soon_after = evidence.alert_started_at.is_some_and(|began| seconds(created, began) <= LONG_BEFORE_SECONDS);
    let mut confidence = 60;
    confidence += if earlier.data.ready > 0 { 20 } else { 0 };
    confidence += if current_ready { 0 } else { 10 };
    confidence += if soon_after { 5 } else { 0 };
    confidence -= if evidence.failed(SourceName::ConfigReferences).is_some() { 20 } else { 0 };

    let fields = match diff.data.changes.len() {
        1 => "1 field".to_owned(),
        count => format!("{count} fields"),
    };
    let first = diff.data.changes.first();
    let what = first.map(|change| format!(" ({}: {:?} → {:?})", change.path, change.before, change.after));
    let mut claims = evidence.failure_claims();
    claims.push(claim(
        ClaimKind::TemplateChanged,
        to,
        cite([diff.id, current.id, earlier.id]),
        &format!("revision {number} differs from revision {to} in {fields}"),
    ));
    claims.extend(earlier_ready(evidence, to));
    let (ns, name) = evidence.kubectl();
    Some(Diagnosis {
        cause: Cause::BadRollout,
        hypothesis: format!(
            "Since revision {number} of {}, {}; revision {to} differs in {fields}{}",
            evidence.name(),
            words(evidence.failure()),
            what.unwrap_or_default(),
        ),
        suspect: Some(target.clone()),
        suspected_revision: Some(number),
        confidence,
        proposal: Some(Proposal {
            action: Action::RolloutUndo(RolloutUndo { to_revision: to }),
            target: target.clone(),
        }),
        claims,
        advice: format!(
            "Return to revision {to}: kubectl {ns} rollout undo {name} --to-revision={to}.{} Then compare: \
             kubectl {ns} rollout history {name} --revision={number}.{}",
            afterwards(evidence),
            hint(evidence.failure())
        ),
        ..Diagnosis::default()
    })
}

/// What a person has to do after `kubectl rollout undo`, for what does not replace its failing pods by itself.
fn afterwards(evidence: &Evidence) -> &'static str {
    let workload = evidence.workload.as_ref().map(|workload| workload.data);
    if workload.is_some_and(|workload| workload.held_back > 0 && workload.held_back >= workload.desired) {
        return " Its update strategy replaces no pods: delete the failing ones afterwards.";
    }
    match evidence.kind() {
        Some(Kind::StatefulSet) => " A StatefulSet does not replace pods that are not ready: delete them afterwards.",
        Some(Kind::Deployment | Kind::DaemonSet) | None => "",
    }
}

fn earlier_ready(evidence: &Evidence, number: i64) -> Option<Claim> {
    let revision = evidence.revision(number).filter(|revision| revision.data.ready > 0)?;
    let pods = evidence.pods_of(number).filter(|pod| pod.data.ready).map(|pod| pod.id);
    let text = format!("revision {number} has {} ready replicas", revision.data.ready);
    Some(claim(ClaimKind::RevisionReady, number, cite([revision.id].into_iter().chain(pods)), &text))
}

/// It fails, and there never was another template to return to.
pub fn never_worked(evidence: &Evidence) -> Option<Diagnosis> {
    let current = evidence.current()?;
    if evidence.failing_current().is_empty()
        || evidence.failed(SourceName::RolloutHistory).is_some()
        || evidence.revisions.iter().any(|revision| !revision.data.current)
    {
        return None;
    }
    let mut claims = evidence.failure_claims();
    let text = format!("revision {} is the only one", current.data.number);
    claims.push(claim(ClaimKind::OnlyOneRevision, current.data.number, cite([current.id]), &text));
    let (ns, name) = evidence.kubectl();
    Some(Diagnosis {
        cause: Cause::NeverWorked,
        hypothesis: format!(
            "{} never ran: {}, and there is no earlier revision to return to",
            evidence.name(),
            words(evidence.failure())
        ),
        suspect: evidence.target.cloned(),
        suspected_revision: Some(current.data.number),
        confidence: 80,
        claims,
        advice: format!(
            "A rollback cannot help: this is the first release. Look at kubectl {ns} describe {name}.{} \
             Correct the manifest and apply it again.",
            hint(evidence.failure())
        ),
        ..Diagnosis::default()
    })
}

/// Where a failure of this kind shows its cause.
pub fn hint(failure: PodFailure) -> &'static str {
    match failure {
        PodFailure::CrashLoop => " The last words are in kubectl logs --previous of the failing pod.",
        PodFailure::OutOfMemory => " Compare the memory limit with what the container needs.",
        PodFailure::ImagePull => " Check the image's name and tag, and the pull secret.",
        PodFailure::ConfigError => " Check that every ConfigMap, Secret and key that the template names exists.",
        PodFailure::ProbeFailing => " Check the probe's path and port against what the container serves.",
        PodFailure::Unschedulable | PodFailure::Starting | PodFailure::None => "",
    }
}
