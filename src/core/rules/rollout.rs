//! A change of the pod template broke it.
//!
//! Proposed only when every one of these holds: what fails is of the current revision; an earlier one differs in fields
//! that explain each way in which it fails ([`crate::core::workload::explain`]); nothing shows that the current one ever
//! worked ([`Evidence::worked`]); no ConfigMap changed since; no pod of the earlier revision fails; and the alert did not
//! begin before the current one was created.
//!
//! Confidence: 60, + 20 when the earlier revision has ready replicas now, + 10 when no pod of the current one is
//! ready, + 5 when the alert began within an hour of the change; - 20 when it is not known whether a ConfigMap
//! changed, or a hash of configuration changed with the template.

use crate::api::v1alpha1::{
    Action, Cause, Claim, ClaimKind, Diagnosis, EventFact, FieldChange, PodFailure, Proposal, RolloutUndo, SourceName,
};
use crate::core::redact::{self, quoted};
use crate::core::workload::{FAILED_CREATE, Kind, Trouble, carries_hash, explain};

use super::evidence::{Evidence, LONG_BEFORE_SECONDS, Seen, seconds, words};
use super::{cite, claim};

/// Characters of a value of a template that are quoted.
const QUOTED_VALUE: usize = 80;
/// Characters of an Event that are quoted.
const QUOTED_EVENT: usize = 240;

pub fn diagnose(evidence: &Evidence) -> Option<Diagnosis> {
    let current = evidence.current()?;
    let (earlier, diff) = evidence.candidate()?;
    let target = evidence.target?;
    let (to, number) = (earlier.data.number, current.data.number);
    let earlier_fails = evidence.pods_of(to).any(|pod| pod.data.failure.is_hard());
    let created = current.data.created_at?;
    if evidence.troubles().is_empty() || earlier_fails || evidence.alert_began_before(created) {
        return None;
    }
    let explaining = evidence.explained(earlier, diff).ok()?;

    let current_ready = evidence.pods_of(number).any(|pod| pod.data.ready);
    let soon_after = evidence.alert_started_at.is_some_and(|began| seconds(created, began) <= LONG_BEFORE_SECONDS);
    let mut confidence = 60;
    confidence += if earlier.data.ready > 0 { 20 } else { 0 };
    confidence += if current_ready { 0 } else { 10 };
    confidence += if soon_after { 5 } else { 0 };
    let configuration_too = diff.data.changes.iter().any(carries_hash);
    let unknown = evidence.failed(SourceName::ConfigReferences).is_some();
    confidence -= if unknown || configuration_too { 20 } else { 0 };

    let fields = match diff.data.changes.len() {
        1 => "1 field".to_owned(),
        count => format!("{count} fields"),
    };
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
            "Since revision {number} of {}, {}{}; revision {to} differs in {fields}{}",
            evidence.name(),
            words(evidence.failure()),
            evidence.said(),
            explaining.first().map(|change| format!(", among them {}", shown(change))).unwrap_or_default(),
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

/// One change, with what the templates say marked as theirs: whoever wrote an argument or the name of a variable does not
/// write our sentences.
fn shown(change: &FieldChange) -> String {
    let FieldChange { path, before, after } = change;
    let path = redact::path(path);
    let value = |text: &str| match text {
        "" => "nothing".to_owned(),
        text => quoted(text, QUOTED_VALUE),
    };
    format!("{path}: {} → {}", value(before), value(after))
}

/// Events say that pods are refused, and the change explains it; what is counted does not show that pods of the current
/// template are missing, as where a surge leaves the old ones in place. The cause is named, and the rollback is a
/// person's.
pub fn refused_by_events(evidence: &Evidence) -> Option<Diagnosis> {
    let (current, (earlier, diff)) = (evidence.current()?, evidence.candidate()?);
    let workload = evidence.workload.as_ref()?.data;
    let complete = workload.ready >= workload.desired && workload.updated >= workload.desired - workload.held_back;
    if evidence.fails() || complete {
        return None;
    }
    let (event, obstacle) = evidence.events.iter().find_map(|event: &Seen<EventFact>| {
        let about_current = current.data.created_at.zip(event.data.last_seen).is_some_and(|(made, at)| at >= made);
        let refused = event.data.reason == FAILED_CREATE && about_current;
        Some((event, event.data.obstacle.as_ref().filter(|_| refused)?))
    })?;
    let trouble = Trouble { failure: PodFailure::Refused, container: "", obstacle: Some(obstacle) };
    let explaining = explain(&trouble, current.data, earlier.data, &diff.data.changes).ok()?;
    let (to, number) = (earlier.data.number, current.data.number);
    let text = format!("revision {number} differs from revision {to}");
    let (ns, name) = evidence.kubectl();
    Some(Diagnosis {
        cause: Cause::BadRollout,
        hypothesis: format!(
            "Since revision {number} of {}, {}; its events ({}) say {}; revision {to} differs{}",
            evidence.name(),
            words(PodFailure::Refused),
            event.id,
            quoted(&obstacle.message, QUOTED_EVENT),
            explaining.first().map(|change| format!(" in {}", shown(change))).unwrap_or_default(),
        ),
        suspect: evidence.target.cloned(),
        suspected_revision: Some(number),
        confidence: 70,
        claims: vec![claim(ClaimKind::TemplateChanged, to, cite([diff.id, current.id, earlier.id]), &text)],
        advice: format!(
            "Return to revision {to}: kubectl {ns} rollout undo {name} --to-revision={to}.{}",
            afterwards(evidence)
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
    if evidence.troubles().is_empty()
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
            "{} never ran: {}{}, and there is no earlier revision to return to",
            evidence.name(),
            words(evidence.failure()),
            evidence.said()
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
        PodFailure::StartError => " Check that the command is in the image, and may be run.",
        PodFailure::ProbeFailing => " Check the probe's path and port against what the container serves.",
        PodFailure::LivenessFailing => " Check what the probe asks for, and the time that it grants.",
        PodFailure::InitNotEnding => " The log of the init container says what it waits for.",
        PodFailure::StuckCreating => " kubectl describe of the pod says what cannot be mounted.",
        PodFailure::Unschedulable => " Compare what the pod asks for with kubectl describe nodes.",
        PodFailure::Refused => " Compare the pod template with the namespace's quotas, ranges and pod security.",
        PodFailure::NeverReady | PodFailure::Starting | PodFailure::None => "",
    }
}
