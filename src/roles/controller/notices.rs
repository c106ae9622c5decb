//! Notifications: composes the message and passes it to the channels.

use std::collections::BTreeMap;

use kube::ResourceExt as _;

use crate::api::v1alpha1::{Incident, IncidentPhase, InvestigationStatus, Runbook};
use crate::core::{
    incident::{Notice, severity_word},
    reason::Reason,
};
use crate::notify::{Message, Notification, Told};

use super::context::{Context, Error};
use super::gather::{self, Freshness};

/// Notifies people of an escalation, through every channel that has not accepted it yet.
pub async fn escalate(ctx: &Context, incident: &Incident) -> Result<Told, Error> {
    let notification = Notification::Escalated(message(ctx, incident).await?);
    let escalation = incident.status.as_ref().and_then(|status| status.escalation.as_ref());
    let earlier = escalation.map(|escalation| escalation.deliveries.as_slice()).unwrap_or_default();
    Ok(ctx.notifier.deliver(&notification, earlier).await)
}

/// Sends a notification that nothing depends on: a failure is logged and counted.
pub async fn tell(ctx: &Context, incident: &Incident, notice: Notice) {
    let message = match message(ctx, incident).await {
        Ok(message) => message,
        Err(error) => {
            tracing::warn!(%error, incident = %incident.name_any(), "notification could not be composed, nobody was notified");
            return;
        }
    };
    let notification = match notice {
        Notice::ApprovalAsked => Notification::ApprovalAsked(approval_message(message)),
        Notice::Resolved => Notification::Resolved(message),
        Notice::Escalated => Notification::Escalated(message),
    };
    ctx.notifier.deliver(&notification, &[]).await;
}

fn approval_message(message: Message) -> Message {
    let (namespace, name) = (&message.namespace, &message.incident);
    Message {
        reason: Reason::ApprovalMissing.as_str().into(),
        next_step: format!(
            "look at `status.decision.diff` of `kubectl -n {namespace} get incident {name} -o yaml`; to allow exactly \
             that, create an Approval with its digest"
        ),
        ..message
    }
}

async fn message(ctx: &Context, incident: &Incident) -> Result<Message, Error> {
    let found = gather::investigation(ctx, incident).await?.and_then(|investigation| investigation.status);
    let rules = gather::rules(ctx, incident, Freshness::AtHand).await?;
    Ok(build(incident, found, &rules.runbooks, &ctx.settings.cluster_name))
}

/// Everything that is known, for the person who takes over.
fn build(incident: &Incident, found: Option<InvestigationStatus>, runbooks: &[Runbook], cluster: &str) -> Message {
    let status = incident.status.clone().unwrap_or_default();
    let namespace = incident.namespace().unwrap_or_default();
    Message {
        cluster: cluster.to_owned(),
        incident: incident.name_any(),
        incident_uid: incident.uid().unwrap_or_default(),
        namespace: namespace.clone(),
        target: incident.spec.target.clone(),
        severity: severity_word(incident.spec.severity).into(),
        phase: status.phase.as_str().into(),
        reason: status.reason.clone(),
        message: match status.phase {
            IncidentPhase::AwaitingApproval => {
                status.decision.as_ref().map(|decision| decision.message.clone()).unwrap_or_default()
            }
            _ => status.message.clone(),
        },
        next_step: status.escalation.as_ref().map(|e| e.next_step.clone()).unwrap_or_default(),
        hypothesis: status.decision.as_ref().map(|d| d.hypothesis.clone()).unwrap_or_default(),
        facts: found
            .map(|f| f.facts.into_iter().map(|fact| format!("{}: {}", fact.id, fact.text)).collect())
            .unwrap_or_default(),
        checks: status.decision.as_ref().map(|d| d.checks.clone()).unwrap_or_default(),
        alerts: incident.spec.alerts.iter().map(|alert| alert.alertname.clone()).collect(),
        request_id: incident.spec.request_id.clone(),
        runbook_docs: docs(runbooks),
        inspect: format!("kubectl -n {namespace} get incident {} -o yaml", incident.name_any()),
    }
}

/// Text for people from the Runbooks, by Runbook and heading.
fn docs(runbooks: &[Runbook]) -> BTreeMap<String, String> {
    let mut docs = BTreeMap::new();
    for runbook in runbooks {
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
    docs
}
