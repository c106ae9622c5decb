//! The two ends of an incident: recovered, or handed to a person with everything that is known.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;
use kube::ResourceExt as _;
use serde_json::json;

use crate::api::v1alpha1::{Actor, Delivery, Escalation, Incident, IncidentPhase, IncidentStatus, Time};
use crate::audit::Record;
use crate::core::{actions, conditions, reason::Reason, timeline};
use crate::notify::{EscalationMessage, Severity};

use super::context::{Context, Error, Next, Shared};
use super::{grants, observe};

/// A delivery that failed is tried again after this, until the incident is an hour old.
const RETRY: Duration = Duration::from_secs(60);
const GIVE_UP: SignedDuration = SignedDuration::from_hours(1);

/// Ends an incident well.
pub async fn resolve(
    ctx: &Shared,
    incident: &Incident,
    status: IncidentStatus,
    word: Reason,
    message: &str,
    now: Time,
) -> Result<Next, Error> {
    end(ctx, incident, status, IncidentPhase::Resolved, word, message, now).await
}

/// Hands an incident to a person. The phase is written first, so that a crash while telling people tells them again
/// and never acts again.
pub async fn begin(
    ctx: &Shared,
    incident: &Incident,
    mut status: IncidentStatus,
    word: Reason,
    message: &str,
    now: Time,
) -> Result<Next, Error> {
    for name in [&status.remediation, &status.undo].into_iter().flatten() {
        grants::close(ctx, &incident.namespace().unwrap_or_default(), name).await?;
    }
    status.escalation = Some(Escalation {
        reason: word.as_str().into(),
        next_step: next_step(incident, &status, word),
        deliveries: vec![],
    });
    end(ctx, incident, status, IncidentPhase::Escalated, word, message, now).await
}

async fn end(
    ctx: &Shared,
    incident: &Incident,
    mut status: IncidentStatus,
    phase: IncidentPhase,
    word: Reason,
    message: &str,
    now: Time,
) -> Result<Next, Error> {
    let resolved = phase == IncidentPhase::Resolved;
    status.phase = phase;
    status.reason = word.as_str().into();
    status.message = message.chars().take(2000).collect();
    status.times.ended = Some(now);
    timeline::note(
        &mut status,
        now,
        Actor::Controller,
        if resolved { "Resolved" } else { "Escalated" },
        format!("{word}: {message}"),
    );
    let generation = incident.metadata.generation.unwrap_or(0);
    let mitigated = resolved && word == Reason::Recovered;
    let diagnosed = status.times.diagnosed.is_some();
    for (kind, holds) in
        [("Diagnosed", diagnosed), ("Mitigated", mitigated), ("Resolved", resolved), ("Escalated", !resolved)]
    {
        conditions::set(&mut status.conditions, kind, holds, word.as_str(), message, generation, now);
    }
    let record = Record {
        at: now,
        request_id: incident.spec.request_id.clone(),
        kind: format!("Incident{phase:?}"),
        incident: format!("{}/{}", incident.namespace().unwrap_or_default(), incident.name_any()),
        action_id: status.decision.as_ref().and_then(|d| d.action_id.clone()).unwrap_or_default(),
        details: json!({ "reason": word.as_str(), "message": status.message }).as_object().cloned().unwrap_or_default(),
    };
    // A broken audit log stops writes; it must not stop the call for help.
    if let Err(error) = ctx.audit.append(record).await {
        tracing::error!(%error, "the end of the incident is not in the audit log");
    }
    let stored = ctx.write_status(incident, status).await?;
    ctx.metrics.ended.get_or_create(&super::metrics::Labels { reason: word.as_str() }).inc();
    tracing::info!(incident = %incident.name_any(), ?phase, reason = word.as_str(), %message, "incident ended");
    if resolved {
        let related = incident.spec.target.as_ref();
        ctx.notifier.event(Severity::Normal, &reference(incident), related, word.as_str(), message).await;
    }
    Ok(Next::Again(Box::new(stored)))
}

/// Tells people, and writes down whether it arrived.
pub async fn deliver(ctx: &Shared, incident: &Incident, now: Time) -> Result<Next, Error> {
    let mut status = incident.status.clone().unwrap_or_default();
    let Some(escalation) = status.escalation.clone() else { return Ok(Next::Change) };
    let done = !escalation.deliveries.is_empty() && escalation.deliveries.iter().all(|delivery| delivery.delivered);
    let old = status.times.ended.is_some_and(|ended| now.duration_since(ended) > GIVE_UP);
    if done || (old && !escalation.deliveries.is_empty()) {
        return Ok(Next::After(Duration::from_secs(3600)));
    }
    // A receiver that does not answer takes half a minute: most of the reconcilers stay with the other incidents.
    let Ok(_one_of_few) = ctx.deliveries.try_acquire() else { return Ok(Next::After(Duration::from_secs(1))) };
    let message = message(ctx, incident, &status).await?;
    let arrived: Vec<&Delivery> = escalation.deliveries.iter().filter(|delivery| delivery.delivered).collect();
    let channels: Vec<&str> = arrived.iter().map(|delivery| delivery.channel.as_str()).collect();
    let mut deliveries = ctx.notifier.escalate(&message, &channels).await;
    for delivery in &mut deliveries {
        let before = escalation.deliveries.iter().find(|old| old.channel == delivery.channel);
        delivery.attempts += before.map_or(0, |old| old.attempts);
    }
    deliveries.splice(0..0, arrived.into_iter().cloned());
    let failed = deliveries.iter().any(|delivery| !delivery.delivered);
    status.escalation = Some(Escalation { deliveries, ..escalation });
    ctx.write_status(incident, status).await?;
    Ok(Next::After(if failed { RETRY } else { Duration::from_secs(3600) }))
}

/// Asks people for an Approval, by every channel. Nothing rests on its arrival: without an Approval the incident is
/// handed over when its time is up.
pub async fn ask_for_approval(
    ctx: &Context,
    incident: &Incident,
    status: &IncidentStatus,
    what: &str,
) -> Result<(), Error> {
    let (namespace, name) = (incident.namespace().unwrap_or_default(), incident.name_any());
    let message = EscalationMessage {
        phase: format!("{:?}", IncidentPhase::AwaitingApproval),
        reason: Reason::ApprovalMissing.as_str().into(),
        message: what.into(),
        next_step: format!(
            "look at `status.decision.diff` of `kubectl -n {namespace} get incident {name} -o yaml`; to allow exactly \
             that, create an Approval with its digest"
        ),
        ..message(ctx, incident, status).await?
    };
    // With all of them busy the Event has to do.
    match ctx.deliveries.try_acquire() {
        Ok(_one_of_few) => ctx.notifier.escalate(&message, &[]).await,
        Err(_) => ctx.notifier.escalate(&message, &[crate::notify::WEBHOOK]).await,
    };
    Ok(())
}

async fn message(ctx: &Context, incident: &Incident, status: &IncidentStatus) -> Result<EscalationMessage, Error> {
    let namespace = incident.namespace().unwrap_or_default();
    let found = observe::investigation(ctx, &namespace, status.investigation.as_deref().unwrap_or_default())
        .await?
        .and_then(|i| i.status);
    let rules = observe::rules(ctx, incident, observe::Freshness::AtHand).await?;
    let mut docs = BTreeMap::new();
    for runbook in &rules.runbooks {
        let d = &runbook.spec.docs;
        for (heading, text) in
            [("meaning", &d.meaning), ("impact", &d.impact), ("diagnosis", &d.diagnosis), ("mitigation", &d.mitigation)]
        {
            if !text.is_empty() {
                docs.insert(format!("{}: {heading}", runbook.name_any()), text.clone());
            }
        }
        if !runbook.spec.escalate_to.is_empty() {
            docs.insert(format!("{}: escalateTo", runbook.name_any()), runbook.spec.escalate_to.join(", "));
        }
    }
    Ok(EscalationMessage {
        version: "1".into(),
        cluster: ctx.settings.cluster_name.clone(),
        incident: incident.name_any(),
        incident_uid: incident.uid().unwrap_or_default(),
        namespace: namespace.clone(),
        target: incident.spec.target.clone(),
        severity: format!("{:?}", incident.spec.severity).to_lowercase(),
        phase: format!("{:?}", status.phase),
        reason: status.reason.clone(),
        message: status.message.clone(),
        next_step: status.escalation.as_ref().map(|e| e.next_step.clone()).unwrap_or_default(),
        hypothesis: status.decision.as_ref().map(|d| d.hypothesis.clone()).unwrap_or_default(),
        facts: found
            .map(|f| f.facts.into_iter().map(|fact| format!("{}: {}", fact.id, fact.text)).collect())
            .unwrap_or_default(),
        checks: status.decision.as_ref().map(|d| d.checks.clone()).unwrap_or_default(),
        alerts: incident.spec.alerts.iter().map(|alert| alert.alertname.clone()).collect(),
        request_id: incident.spec.request_id.clone(),
        runbook_docs: docs,
        inspect: format!("kubectl -n {namespace} get incident {} -o yaml", incident.name_any()),
    })
}

/// What the woken person does first.
fn next_step(incident: &Incident, status: &IncidentStatus, word: Reason) -> String {
    let namespace = incident.namespace().unwrap_or_default();
    let look = format!("kubectl -n {namespace} get incident {} -o yaml", incident.name_any());
    let target = incident.spec.target.as_ref();
    let object = target.map(|t| format!("{}/{}", t.kind.to_lowercase(), t.name)).unwrap_or_default();
    let action = status.decision.as_ref().and_then(|d| d.action.as_ref());
    let by_hand = action.zip(target).map(|(action, target)| (actions::of(action.kind()).by_hand)(target, action));
    let first = match word {
        Reason::ModeForbids | Reason::NotEnrolled | Reason::AuditNotDurable | Reason::ApprovalTimeout => {
            by_hand.map(|command| format!("to do by hand what was held back: `{command}`"))
        }
        Reason::OnlyOneRevision => {
            Some(format!("fix the manifest and apply it; logs: `kubectl -n {namespace} logs {object} --previous`"))
        }
        Reason::TemplateUnchanged => Some(format!(
            "the template is not the cause: look at the ConfigMaps, Secrets and services that it uses; logs: `kubectl -n {namespace} logs {object} --previous`"
        )),
        Reason::ManagedByGitOps => Some("revert the commit in the Git repository that the tool syncs from".to_string()),
        Reason::ManagedByHelm => Some(format!("`helm -n {namespace} rollback` of the release that installed it")),
        Reason::TargetUnresolved | Reason::TargetNotFound | Reason::TargetAmbiguous | Reason::TargetInvalid => {
            Some("check the labels of the alerting rule; they have to name one existing workload".to_string())
        }
        Reason::ExecutorSilent => Some(format!(
            "`kubectl -n {namespace} get {object} -o yaml` shows backstop.dev/last-action if it was written"
        )),
        _ => None,
    };
    match first {
        Some(first) => format!("{first}. Everything that is known: `{look}`"),
        None => format!("everything that is known: `{look}`"),
    }
}

fn reference(incident: &Incident) -> crate::api::v1alpha1::ObjectRef {
    crate::api::v1alpha1::ObjectRef {
        api_version: "backstop.dev/v1alpha1".into(),
        kind: "Incident".into(),
        namespace: incident.namespace().unwrap_or_default(),
        name: incident.name_any(),
        uid: incident.uid().unwrap_or_default(),
    }
}
