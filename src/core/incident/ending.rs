//! The two ends of an incident: recovered, or handed to a person with everything that is known.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::json;

use crate::api::v1alpha1::{Actor, Delivery, Escalation, Incident, IncidentPhase, IncidentStatus, Time};
use crate::core::{
    actions, budget, conditions,
    reason::Reason,
    timeline::{self, Event},
};

use super::{About, Effect, Entry, IDLE, Measure, Next, Notice, Step, Terms};

/// Interval at which a failed delivery is retried, until an hour after the end of the incident.
const RETRY: Duration = Duration::from_secs(60);
/// Interval at which a delivery that waits for its turn is tried.
const TURN: Duration = Duration::from_secs(2);
/// Deliveries that a status holds.
const MAX_DELIVERIES: usize = 16;
const GIVE_UP: SignedDuration = SignedDuration::from_hours(1);

/// Resolves an incident.
pub(super) fn resolve(
    about: About<'_>,
    status: IncidentStatus,
    reason: Reason,
    message: &str,
    effects: Vec<Effect>,
) -> Step {
    end(about, status, IncidentPhase::Resolved, reason, message, effects).then(Effect::Tell(Notice::Resolved))
}

/// Escalates an incident to a person.
pub(super) fn escalate(about: About<'_>, status: IncidentStatus, reason: Reason, message: &str) -> Step {
    escalate_after(about, status, reason, message, vec![])
}

/// Escalates an incident after `effects`. The phase is stored before people are notified, so that after a crash they
/// are notified again, but nothing is written again.
pub(super) fn escalate_after(
    about: About<'_>,
    mut status: IncidentStatus,
    reason: Reason,
    message: &str,
    mut effects: Vec<Effect>,
) -> Step {
    for remediation in [&status.remediation, &status.replacement, &status.undo].into_iter().flatten() {
        let close = Effect::CloseGrant { remediation: remediation.clone() };
        if !effects.contains(&close) {
            effects.push(close);
        }
    }
    status.escalation = Some(Escalation {
        reason: reason.as_str().into(),
        next_step: next_step(about.incident, &status, reason),
        deliveries: vec![],
    });
    end(about, status, IncidentPhase::Escalated, reason, message, effects)
}

/// The Ledger refused the charge of `step`: a concurrent action was faster, or a limit is reached. What the step
/// decided stays on the Incident; what it was about to begin does not.
pub fn refused(incident: &Incident, step: &Step, refusal: &budget::Refusal, terms: &Terms, now: Time) -> Step {
    let about = About { incident, terms, now };
    let mut status = super::status(incident);
    let mut message = refusal.message.clone();
    if let Some(decided) = &step.status {
        status.decision = decided.decision.clone();
        status.follow_up = decided.follow_up.clone();
        status.times.decided = decided.times.decided;
        if decided.undo.is_some() {
            message = format!("{}. It was not undone: {message}", decided.message);
        }
    }
    escalate(about, status, refusal.reason, &message)
}

fn end(
    about: About<'_>,
    mut status: IncidentStatus,
    phase: IncidentPhase,
    reason: Reason,
    message: &str,
    mut effects: Vec<Effect>,
) -> Step {
    let now = about.now;
    let resolved = phase == IncidentPhase::Resolved;
    status.phase = phase;
    status.reason = reason.as_str().into();
    status.message = message.chars().take(2000).collect();
    status.times.ended = Some(now);
    let event = if resolved { Event::Resolved } else { Event::Escalated };
    timeline::note(&mut status, now, Actor::Controller, event, format!("{reason}: {message}"));
    let generation = about.incident.metadata.generation.unwrap_or(0);
    let diagnosed = status.times.diagnosed.is_some();
    let mitigated = resolved && reason == Reason::Recovered;
    for (kind, holds) in
        [("Diagnosed", diagnosed), ("Mitigated", mitigated), ("Resolved", resolved), ("Escalated", !resolved)]
    {
        conditions::set(&mut status.conditions, kind, holds, reason.as_str(), message, generation, now);
    }
    let details = json!({ "reason": reason.as_str(), "message": status.message });
    // A broken audit log stops writes; it must not stop the escalation.
    effects.push(Effect::AuditAfter(Entry {
        kind: if resolved { "IncidentResolved" } else { "IncidentEscalated" },
        action_id: status.decision.as_ref().and_then(|decision| decision.action_id.clone()),
        details: details.as_object().cloned().unwrap_or_default(),
    }));
    Step::write(effects, status, Next::Again).then(Effect::Measure(Measure::Ended(reason)))
}

/// Whether a notification is due, for the first time or again.
pub(super) fn to_deliver(status: &IncidentStatus, now: Time) -> bool {
    let Some(escalation) = &status.escalation else { return false };
    let done = !escalation.deliveries.is_empty() && escalation.deliveries.iter().all(|delivery| delivery.delivered);
    let old = status.times.ended.is_some_and(|ended| now.duration_since(ended) > GIVE_UP);
    !done && (!old || escalation.deliveries.is_empty())
}

/// Nothing is left to do.
pub(super) fn idle(_status: &IncidentStatus, _now: Time) -> Step {
    Step::wait(IDLE)
}

/// Records the deliveries: those that failed are retried, soon if they only waited for their turn.
pub fn delivered(incident: &Incident, deliveries: Vec<Delivery>, waiting: bool) -> Step {
    let mut status = super::status(incident);
    let Some(escalation) = &mut status.escalation else { return Step::wait(IDLE) };
    escalation.deliveries = deliveries;
    escalation.deliveries.truncate(MAX_DELIVERIES);
    let pause = match escalation.deliveries.iter().all(|delivery| delivery.delivered) {
        true => IDLE,
        false if waiting => TURN,
        false => RETRY,
    };
    Step::write(vec![], status, Next::After(pause))
}

/// What the person who was paged should do first.
pub fn next_step(incident: &Incident, status: &IncidentStatus, reason: Reason) -> String {
    let namespace = incident.metadata.namespace.as_deref().unwrap_or_default();
    let name = incident.metadata.name.as_deref().unwrap_or_default();
    let look = format!("kubectl -n {namespace} get incident {name} -o yaml");
    let target = incident.spec.target.as_ref();
    let object = target.map(|t| format!("{}/{}", t.kind.to_lowercase(), t.name)).unwrap_or_default();
    // What was not done: the last write that was begun.
    let action = match (&status.undo, &status.replacement) {
        (Some(_), _) => status.follow_up.as_ref().and_then(|decision| decision.action.as_ref()),
        (None, Some(_)) => None,
        (None, None) => status.decision.as_ref().and_then(|decision| decision.action.as_ref()),
    };
    let by_hand = action.zip(target).map(|(action, target)| (actions::of(action.kind()).by_hand)(target, action));
    let first = match reason {
        Reason::ModeForbids | Reason::NotEnrolled | Reason::AuditNotDurable | Reason::ApprovalTimeout => {
            by_hand.map(|command| format!("to do by hand what Backstop did not do: `{command}`"))
        }
        Reason::EvictionNotAllowed | Reason::BlockedByDisruptionBudget => Some(format!(
            "delete the pod that is named in the message, once nothing needs it: `kubectl -n {namespace} delete pod \
             POD`; {object} replaces it"
        )),
        Reason::OnlyOneRevision => {
            Some(format!("fix the manifest and apply it; logs: `kubectl -n {namespace} logs {object} --previous`"))
        }
        Reason::TemplateUnchanged => Some(format!(
            "the template is not the cause: look at the ConfigMaps, Secrets and services that it uses; logs: `kubectl \
             -n {namespace} logs {object} --previous`"
        )),
        Reason::ManagedByGitOps => Some("revert the commit in the Git repository that the tool syncs from".into()),
        Reason::ManagedByHelm => Some(format!("`helm -n {namespace} rollback` of the release that installed it")),
        Reason::TargetUnresolved | Reason::TargetNotFound | Reason::TargetAmbiguous | Reason::TargetInvalid => {
            Some("check the labels of the alerting rule; they have to name one existing workload".into())
        }
        Reason::ExecutorSilent => Some(format!(
            "`kubectl -n {namespace} get {object} -o yaml` shows backstop.dev/last-action if it was written"
        )),
        _ => None,
    };
    match first {
        Some(first) => format!("{first}. Details: `{look}`"),
        None => format!("details: `{look}`"),
    }
}
