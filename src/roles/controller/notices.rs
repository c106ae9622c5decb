//! Notifications: composes the message and passes it to the channels.

use std::collections::BTreeMap;

use kube::ResourceExt as _;

use crate::api::v1alpha1::{
    Alert, Attempt, Delivery, Incident, IncidentPhase, InvestigationStatus, ModelUse, ObjectRef, RefusedAnswer,
    Runbook, Severity,
};
use crate::core::{
    actions,
    budget::breaker,
    grouping,
    incident::{Notice, deliveries, occasion, severity_word},
    money::NanoDollars,
    reason::Reason,
    retention::Finished,
};
use crate::notify::{Message, Notification, Told};

use super::context::{Context, Error};
use super::gather::{self, Freshness};
use super::ledgers;

/// Notifies people, through every channel that has not accepted it yet. `remembered` are deliveries that could not be
/// stored yet. `None` where there is nothing to tell: no cascade breaker has opened.
///
/// # Errors
///
/// Whether a cascade breaker has opened could not be read.
pub async fn deliver(
    ctx: &Context,
    incident: &Incident,
    notice: Notice,
    remembered: Vec<Delivery>,
) -> Result<Option<Told>, Error> {
    let notification = match notice {
        Notice::ApprovalAsked => Notification::ApprovalAsked(approval_message(message(ctx, incident, notice).await)),
        Notice::Resolved => Notification::Resolved(message(ctx, incident, notice).await),
        Notice::Escalated => Notification::Escalated(message(ctx, incident, notice).await),
        Notice::BreakerOpened => match of_breakers(ctx, incident).await? {
            Some(message) => Notification::Escalated(message),
            None => return Ok(None),
        },
    };
    let earlier = if remembered.is_empty() { deliveries(incident, notice) } else { remembered };
    Ok(Some(ctx.notifier.deliver(&notification, &earlier).await))
}

/// What people are told of the cascade breakers that this incident opened, where nobody is called for the incident itself;
/// `None` where it opened none, or they are closed again.
pub async fn of_breakers(ctx: &Context, incident: &Incident) -> Result<Option<Message>, Error> {
    let opened = opened(ctx, incident).await?;
    let built = build(incident, None, &[], &ctx.settings.cluster_name);
    let Message { namespace, incident: name, reason, .. } = &built;
    let so_far = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
    let message = format!("{}. What came last is of Incident {namespace}/{name}{so_far}", opened.join(". "));
    Ok((!opened.is_empty()).then(|| Message {
        reason: Reason::BreakerOpen.as_str().into(),
        occasion: occasion(incident, Notice::BreakerOpened),
        message,
        next_step: "look at what led there; `backstop breaker show` lists it".into(),
        // That nothing is written in a namespace is news, whatever the incident was.
        severity: severity_word(incident.spec.severity.max(Severity::Warning)).into(),
        ..built
    }))
}

fn approval_message(message: Message) -> Message {
    let (namespace, name) = (&message.namespace, &message.incident);
    Message {
        reason: Reason::ApprovalMissing.as_str().into(),
        next_step: format!(
            "`backstop approve -n {namespace} {name}` shows the exact change and asks; `backstop deny -n {namespace} {name}` ends it. Or look at \
             `status.decision.diff` of `kubectl -n {namespace} get incident {name} -o yaml`, and create an Approval with its digest"
        ),
        ..message
    }
}

/// The message. What cannot be read is left out of it: people are called all the same.
async fn message(ctx: &Context, incident: &Incident, notice: Notice) -> Message {
    let (found, rules) =
        futures::future::join(gather::diagnosed(ctx, incident), gather::rules(ctx, incident, Freshness::AtHand)).await;
    let unread = |what: &str, error: &Error| {
        tracing::warn!(%error, incident = %incident.name_any(), what, "a notification goes out without this");
    };
    let found = found.unwrap_or_else(|error| {
        unread("facts", &error);
        None
    });
    let runbooks = rules.map_or_else(
        |error| {
            unread("texts of Runbooks", &error);
            vec![]
        },
        |rules| rules.runbooks,
    );
    let built = build(incident, found.and_then(|found| found.status), &runbooks, &ctx.settings.cluster_name);
    // Whoever is called for it is told once of all that led to a breaker, and that nothing new is written meanwhile.
    let escalated = incident.status.as_ref().is_some_and(|status| status.phase == IncidentPhase::Escalated);
    let opened = if escalated { opened(ctx, incident).await } else { Ok(vec![]) };
    let opened = opened.unwrap_or_else(|error| {
        unread("cascade breakers", &error);
        vec![]
    });
    let message = [vec![built.message], opened].concat().join(". ");
    Message { message, occasion: occasion(incident, notice), ..built }
}

/// What is to be said of the cascade breakers that this incident opened.
async fn opened(ctx: &Context, incident: &Incident) -> Result<Vec<String>, Error> {
    let name = format!("{}/{}", incident.namespace().unwrap_or_default(), incident.name_any());
    let ledger = ledgers::read(ctx, ledgers::ACTIONS).await?;
    Ok(breaker::told_by(&ledger.status.unwrap_or_default(), &name))
}

/// What people are told of an incident with nothing but what is in memory.
pub fn from_memory(ctx: &Context, incident: &Incident, notice: Notice) -> Message {
    let built = build(incident, None, &[], &ctx.settings.cluster_name);
    Message { occasion: occasion(incident, notice), ..built }
}

/// What people are told of an alert that finds no incident.
pub fn of_alert(ctx: &Context, alert: &Alert, why: &str) -> Message {
    let (namespace, name) = (alert.namespace().unwrap_or_default(), alert.name_any());
    let inspect = format!("kubectl -n {namespace} get alerts.backstop.dev {name} -o yaml");
    let alertname = grouping::reference(alert).alertname;
    Message {
        cluster: ctx.settings.cluster_name.clone(),
        incident: name.clone(),
        incident_uid: alert.uid().unwrap_or_default(),
        namespace: namespace.clone(),
        target: Some(ObjectRef {
            api_version: "backstop.dev/v1alpha1".into(),
            kind: "Alert".into(),
            namespace,
            name,
            uid: alert.uid().unwrap_or_default(),
        }),
        severity: severity_word(grouping::severity(alert)).into(),
        phase: IncidentPhase::Open.as_str().into(),
        reason: Reason::NoProgress.as_str().into(),
        message: format!("alert {alertname} has no incident: {why}"),
        next_step: format!("treat it yourself. Details: `{inspect}`"),
        alerts: vec![alertname],
        request_id: alert.spec.request_id.clone(),
        inspect,
        ..Message::default()
    }
}

/// Incidents of one namespace that were deleted before people were told of them.
#[derive(Clone, Debug)]
pub struct Untold {
    /// How many.
    pub count: usize,
    /// The severest of them.
    pub severity: Severity,
    /// The newest of them.
    pub newest: Finished,
    /// By which channels that was told so far.
    pub told: Vec<Delivery>,
}

/// What people are told of incidents that are deleted before they were told of them.
pub fn of_untold(ctx: &Context, untold: &Untold) -> Message {
    let Untold { count, severity, newest, .. } = untold;
    let namespace = newest.namespace.to_string();
    Message {
        cluster: ctx.settings.cluster_name.clone(),
        incident: newest.name.to_string(),
        incident_uid: newest.uid.to_string(),
        occasion: count.to_string(),
        severity: severity_word(*severity).into(),
        phase: IncidentPhase::Escalated.as_str().into(),
        reason: Reason::TooManyUntold.as_str().into(),
        message: format!(
            "{count} ended incidents of namespace {namespace} were deleted before anybody could be told of them; the newest \
             of these was {} of {}",
            newest.name, newest.ended
        ),
        next_step: format!("look at what still fires there: `kubectl -n {namespace} get alerts.backstop.dev`"),
        inspect: format!("kubectl -n {namespace} get incidents.backstop.dev"),
        namespace,
        ..Message::default()
    }
}

/// Everything that is known, for the person who takes over.
fn build(incident: &Incident, found: Option<InvestigationStatus>, runbooks: &[Runbook], cluster: &str) -> Message {
    let status = incident.status.clone().unwrap_or_default();
    let namespace = incident.namespace().unwrap_or_default();
    let mut believed = status.diagnosis.clone().unwrap_or_default();
    if let Some(decision) = status.decision.as_ref().filter(|_| believed.hypothesis.is_empty()) {
        believed.hypothesis.clone_from(&decision.hypothesis);
    }
    // Those that the diagnosis cites are on the Incident, so they are known whatever could be read now.
    let known = |id: &str| believed.facts.iter().any(|fact| fact.id == id);
    let others = found.into_iter().flat_map(|found| found.facts).filter(|fact| !known(&fact.id));
    let others: Vec<String> = others.map(|fact| format!("{}: {}", fact.id, fact.text)).collect();
    let cited: Vec<String> = believed.facts.iter().map(|fact| format!("{}: {}", fact.id, fact.text)).collect();
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
        hypothesis: believed.hypothesis,
        ceiling: status.diagnosis.as_ref().map(|diagnosis| diagnosis.ceiling.as_str().into()).unwrap_or_default(),
        diagnoser: believed.diagnoser,
        objection: believed.objection,
        attempts: believed.attempts.iter().map(attempt).collect(),
        refused_answers: status.refused_answers.iter().map(refused_answer).collect(),
        model_cost: status.model_spend.as_ref().map(cost).unwrap_or_default(),
        cause: status.diagnosis.as_ref().map(|diagnosis| diagnosis.cause.as_str().into()).unwrap_or_default(),
        advice: believed.advice,
        changes: believed.difference.map(|difference| difference.changes).unwrap_or_default(),
        cited: cited.len(),
        manifest_diff: status
            .decision
            .as_ref()
            .and_then(|decision| decision.manifest_change.as_ref())
            .map(|change| change.diff.clone())
            .unwrap_or_default(),
        facts: cited.into_iter().chain(others).collect(),
        checks: status.decision.as_ref().map(|d| d.checks.clone()).unwrap_or_default(),
        alerts: incident.spec.alerts.iter().map(|alert| alert.alertname.clone()).collect(),
        request_id: incident.spec.request_id.clone(),
        runbook_docs: docs(runbooks),
        inspect: format!("kubectl -n {namespace} get incident {} -o yaml", incident.name_any()),
        occasion: String::new(),
        omitted: vec![],
    }
}

/// One attempt, as a line.
fn attempt(attempt: &Attempt) -> String {
    let Attempt { rung, outcome, detail, milliseconds, upstream, model, served_model, status, .. } = attempt;
    let Attempt { swapped, not_sent, cost_nano_dollars, then, .. } = attempt;
    let mut line = rung.clone();
    if !upstream.is_empty() {
        line.push_str(&format!(" at {upstream}"));
    }
    line.push_str(&format!(": {outcome}"));
    let status = status.map(|status| status.to_string());
    let narrower: Vec<&str> =
        status.as_deref().into_iter().chain([detail.as_str()]).filter(|it| !it.is_empty()).collect();
    if !narrower.is_empty() {
        line.push_str(&format!(" ({})", narrower.join(", ")));
    }
    match not_sent {
        true => line.push_str(", not sent"),
        false => line.push_str(&format!(" after {milliseconds} ms")),
    }
    if !served_model.is_empty() {
        line.push_str(&format!(", served by {served_model}"));
    }
    if *swapped {
        line.push_str(&format!(" instead of {model}"));
    }
    if *cost_nano_dollars > 0 {
        line.push_str(&format!(", {}", dollars(*cost_nano_dollars)));
    }
    if !then.is_empty() {
        line.push_str(&format!("; then {then}"));
    }
    line
}

/// One answer that did not hold, as a line.
fn refused_answer(refused: &RefusedAnswer) -> String {
    let RefusedAnswer { diagnoser, round, reason, message, action, confidence, hypothesis: _ } = refused;
    let proposed = action.as_ref().map_or_else(|| "no action".to_owned(), |it| (actions::of(it.kind()).describe)(it));
    format!("{diagnoser} in round {round} proposed {proposed} with confidence {confidence}: {reason}: {message}")
}

fn cost(spend: &ModelUse) -> String {
    let calls = if spend.calls == 1 { "1 call".to_owned() } else { format!("{} calls", spend.calls) };
    format!("{} for {calls}, {} tokens", dollars(spend.cost_nano_dollars), spend.tokens)
}

fn dollars(nano: i64) -> NanoDollars {
    NanoDollars(nano.max(0).unsigned_abs())
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::v1alpha1::Mode;

    fn incident() -> Incident {
        serde_json::from_value(json!({
            "apiVersion": "backstop.dev/v1alpha1", "kind": "Incident",
            "metadata": {"name": "api-1", "namespace": "shop", "uid": "u"},
            "spec": {"alerts": [], "requestId": "r", "openedAt": "2026-11-21T10:00:00Z"},
            "status": {
                "phase": "Escalated", "reason": "OnlyOneRevision", "message": "there is no earlier revision",
                "diagnosis": {
                    "diagnoser": "rules", "cause": "BadRollout", "confidence": 90,
                    "hypothesis": "the image cannot be pulled", "advice": "check the name of the image",
                    "facts": [{"id": "f3", "text": "ErrImagePull"}],
                    "difference": {"from": 1, "to": 2, "changes": [{"path": "/image", "before": "a", "after": "b"}]},
                },
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_page_holds_the_diagnosis_although_nothing_could_be_read() {
        let message = build(&incident(), None, &[], "");
        assert_eq!((message.cause.as_str(), message.hypothesis.as_str()), ("BadRollout", "the image cannot be pulled"));
        assert_eq!(message.advice, "check the name of the image");
        assert_eq!((message.facts, message.cited), (vec!["f3: ErrImagePull".to_owned()], 1));
        assert_eq!(message.changes[0].path, "/image");
    }

    #[test]
    fn a_page_tells_who_answered_what_was_refused_and_what_it_cost() {
        let mut incident = incident();
        let status = incident.status.as_mut().unwrap();
        let diagnosis = status.diagnosis.as_mut().unwrap();
        (diagnosis.diagnoser, diagnosis.ceiling) = ("big".into(), Mode::Approve);
        diagnosis.objection = "second: f2 shows a full node".into();
        let failed = Attempt {
            rung: "small".into(),
            upstream: "anthropic".into(),
            outcome: "RateLimited".into(),
            status: Some(429),
            milliseconds: 31,
            then: "NextUpstream".into(),
            ..Attempt::default()
        };
        let answered = Attempt {
            rung: "big".into(),
            upstream: "bedrock".into(),
            outcome: "Answered".into(),
            milliseconds: 900,
            served_model: "claude-x".into(),
            cost_nano_dollars: 20_000_000,
            ..Attempt::default()
        };
        let refused = Attempt {
            rung: "small".into(),
            upstream: "second".into(),
            outcome: "IncidentBudget".into(),
            not_sent: true,
            then: "NextRung".into(),
            ..Attempt::default()
        };
        let swapped = Attempt { model: "claude-y".into(), swapped: true, ..answered.clone() };
        let no = Attempt { outcome: "Refused".into(), detail: "cyber".into(), status: Some(200), ..failed.clone() };
        diagnosis.attempts = vec![failed, refused, answered, swapped, no];
        status.refused_answers = vec![RefusedAnswer {
            diagnoser: "small".into(),
            round: 1,
            reason: "ObjectUnknown".into(),
            message: "revision 77 is suspected and does not exist".into(),
            confidence: 99,
            ..RefusedAnswer::default()
        }];
        status.model_spend =
            Some(crate::api::v1alpha1::ModelUse { tokens: 4000, cost_nano_dollars: 30_000_000, calls: 3 });
        let message = build(&incident, None, &[], "");
        assert_eq!((message.diagnoser.as_str(), message.ceiling.as_str()), ("big", "approve"));
        assert_eq!(message.objection, "second: f2 shows a full node");
        assert_eq!(
            message.attempts,
            [
                "small at anthropic: RateLimited (429) after 31 ms; then NextUpstream",
                "small at second: IncidentBudget, not sent; then NextRung",
                "big at bedrock: Answered after 900 ms, served by claude-x, $0.02",
                "big at bedrock: Answered after 900 ms, served by claude-x instead of claude-y, $0.02",
                "small at anthropic: Refused (200, cyber) after 31 ms; then NextUpstream",
            ]
        );
        assert_eq!(
            message.refused_answers,
            [
                "small in round 1 proposed no action with confidence 99: ObjectUnknown: revision 77 is suspected and does not exist"
            ]
        );
        assert_eq!(message.model_cost, "$0.03 for 3 calls, 4000 tokens");
    }

    #[test]
    fn what_the_diagnosis_cites_comes_before_everything_else_that_was_seen() {
        let fact = |id: &str| {
            json!({
                "id": id, "source": "Pods", "object": {"kind": "Pod", "name": "p"}, "seenAt": "2026-11-21T10:00:00Z",
                "data": {"sourceFailed": {"reason": "Timeout"}}, "text": format!("text of {id}"),
            })
        };
        let found: InvestigationStatus =
            serde_json::from_value(json!({ "facts": [fact("f1"), fact("f3"), fact("f4")] })).unwrap();
        let message = build(&incident(), Some(found), &[], "");
        assert_eq!(message.facts, ["f3: ErrImagePull", "f1: text of f1", "f4: text of f4"]);
    }
}
