//! The two ends of an incident: recovered, or handed to a person with everything that is known.

use serde_json::json;

use crate::api::v1alpha1::{Actor, Escalation, Incident, IncidentPhase, IncidentStatus, LedgerState, Time, Watch};
use crate::core::{
    actions, budget, conditions,
    reason::Reason,
    rules,
    timeline::{self, Event},
};

use super::{About, Effect, Entry, IDLE, Measure, Next, Notice, Step, Terms, held, telling, unsettled};

/// Resolves an incident. One whose target recovered, or has nothing wrong with it, is watched on.
pub(super) fn resolve(
    about: About<'_>,
    mut status: IncidentStatus,
    reason: Reason,
    message: &str,
    effects: Vec<Effect>,
) -> Step {
    let watched = matches!(reason, Reason::Recovered | Reason::NothingWrong) && about.target().is_some();
    status.watch = watched.then_some(Watch { since: about.now, over: None, failing_since: None });
    end(about, status, IncidentPhase::Resolved, reason, message, effects).telling(Notice::Resolved, about.now)
}

/// Escalates an incident to a person.
pub(super) fn escalate(about: About<'_>, status: IncidentStatus, reason: Reason, message: &str) -> Step {
    escalate_after(about, status, reason, message, vec![])
}

/// Escalates an incident after `effects`. The phase is stored before people are notified, so that after a crash they
/// are notified again, but nothing is written again.
pub(super) fn escalate_after(
    about: About<'_>,
    status: IncidentStatus,
    reason: Reason,
    message: &str,
    effects: Vec<Effect>,
) -> Step {
    let called = is_called(about, &status, &effects);
    hand_over(about, status, reason, message, effects, called)
}

/// Hands an incident over; somebody is `called`, or it is only on record.
pub(super) fn hand_over(
    about: About<'_>,
    mut status: IncidentStatus,
    reason: Reason,
    message: &str,
    effects: Vec<Effect>,
    called: bool,
) -> Step {
    let effects = closing(&status, effects);
    status.escalation = called.then(|| {
        let next_step = next_step(about.incident, &status, reason);
        Box::new(Escalation { reason: reason.as_str().into(), next_step, ..Escalation::default() })
    });
    end(about, status, IncidentPhase::Escalated, reason, message, effects)
}

/// Closes whatever Grant may be open before anybody takes over.
fn closing(status: &IncidentStatus, mut effects: Vec<Effect>) -> Vec<Effect> {
    for remediation in [&status.remediation, &status.replacement, &status.undo].into_iter().flatten() {
        let close = Effect::CloseGrant { remediation: remediation.clone() };
        if !effects.contains(&close) {
            effects.push(close);
        }
    }
    effects
}

/// Somebody is called: not for what only informs, unless something was written, or may have been.
fn is_called(about: About<'_>, status: &IncidentStatus, effects: &[Effect]) -> bool {
    !about.only_informs() || may_have_written(status, effects)
}

/// A write was seen; or it is booked by the end as made, which one is that nobody can prove; or a Grant was opened, and nobody
/// has heard what came of it. A Remediation alone writes nothing.
fn may_have_written(status: &IncidentStatus, effects: &[Effect]) -> bool {
    let booked =
        |as_what| effects.iter().any(|effect| matches!(effect, Effect::Settle { state, .. } if *state == as_what));
    status.times.fired.is_some()
        || booked(LedgerState::Spent)
        || (status.grant_epoch.is_some() && !booked(LedgerState::Refunded))
}

/// Another incident tells people of this one too: it ends without calling anybody.
fn join_storm(about: About<'_>, mut status: IncidentStatus, message: &str) -> Step {
    status.escalation = None;
    let effects = closing(&status, vec![]);
    end(about, status, IncidentPhase::Escalated, Reason::Storm, message, effects)
}

/// The incident goes on: it has not ended yet.
pub(super) fn reopen(about: About<'_>, status: &mut IncidentStatus) {
    let generation = about.incident.metadata.generation.unwrap_or(0);
    let reason = Reason::Relapsed.as_str();
    conditions::set(&mut status.conditions, "Resolved", false, reason, "it goes on", generation, about.now);
    (status.watch, status.times.ended, status.times.approval_asked) = (None, None, None);
    (status.reason, status.message) = (String::new(), String::new());
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
        status.reading = decided.reading.clone();
        if decided.undo.is_some() {
            message = format!("{}. It was not undone: {message}", decided.message);
        }
    }
    // The anomalies of the step were counted before it was refused.
    if telling::counts_anomaly(step) {
        telling::ask_of_breakers(&mut status, now);
    }
    if step.effects.iter().any(|effect| matches!(effect, Effect::ClaimStorm(_))) {
        return join_storm(about, status, &message);
    }
    // What is under way elsewhere ends within minutes, and what people approved is not lost by it.
    if refusal.reason == Reason::TooManyAtOnce && held::holds_on(about, &super::status(incident)) {
        return held::look_again(super::status(incident), refusal.reason, &message, vec![]);
    }
    escalate(about, status, refusal.reason, &message)
}

/// A step of it is refused again and again, and trying once more cannot help: a person has it, with what was refused.
/// Whatever its severity: nobody has looked at what it is about, and what hinders Backstop hinders the next incident too.
/// One that is watched goes on, and is handed over too. One that is over stays as it is: nothing is decided.
pub fn blocked(incident: &Incident, reason: Reason, message: &str, terms: &Terms, now: Time) -> Step {
    let mut status = super::status(incident);
    let watched = status.is_watched();
    if status.phase.is_final() && !watched {
        return Step::wait(IDLE);
    }
    if let Some(watch) = status.watch.as_mut().filter(|_| watched) {
        watch.over = Some(now);
    }
    hand_over(About { incident, terms, now }, status, reason, message, vec![], true)
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
    unsettled::keep(&mut status, &effects);
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

/// Nothing is left to do until the next notification is due.
pub(super) fn idle(status: &IncidentStatus, now: Time) -> Step {
    Step::wait(telling::pause(status, now))
}

/// What the person who was paged should do first: for every reason something to do or to look at, where the target is known.
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
    let elsewhere = status.decision.as_ref().and_then(|it| it.manifest_change.as_ref()?.command.clone());
    let first = match reason {
        Reason::ModeForbids
        | Reason::NotEnrolled
        | Reason::AuditNotDurable
        | Reason::ApprovalTimeout
        | Reason::ApprovalDenied => {
            by_hand.map(|command| format!("to do by hand what Backstop did not do: `{command}`"))
        }
        Reason::EvictionNotAllowed | Reason::BlockedByDisruptionBudget => Some(format!(
            "delete the pod that is named in the message, once nothing needs it: `kubectl -n {namespace} delete pod \
             POD`; {object} replaces it"
        )),
        Reason::NothingFails => Some(format!(
            "check whether the alert still holds, and why replicas were missing: `kubectl -n {namespace} describe {object}`"
        )),
        Reason::ReplicasNotReady => Some(format!(
            "see why replicas are not ready: `kubectl -n {namespace} describe {object}` and `kubectl -n {namespace} get \
             pods`"
        )),
        Reason::OpinionsDiffer => Some(format!(
            "compare the two proposals in the message with `backstop timeline -n {namespace} {name}`{}",
            by_hand.map(|command| format!("; to do by hand what was proposed: `{command}`")).unwrap_or_default()
        )),
        Reason::ConfigurationChangedToo => Some(format!(
            "compare the ConfigMap that is named in the message with what it was before. If its data is the cause, restore \
             it, then `kubectl -n {namespace} rollout restart {object}`{}",
            by_hand.map(|command| format!("; if the template is, `{command}`")).unwrap_or_default()
        )),
        Reason::OnlyOneRevision => {
            Some(format!("fix the manifest and apply it; logs: `kubectl -n {namespace} logs {object} --previous`"))
        }
        Reason::TemplateUnchanged => Some(format!(
            "the template is not the cause: look at the ConfigMaps, Secrets and services that it uses; logs: `kubectl \
             -n {namespace} logs {object} --previous`"
        )),
        Reason::RestartUnproven => Some(format!(
            "delete one of the pods that fail: `kubectl -n {namespace} delete pod POD`; if the one in its place works, \
             `kubectl -n {namespace} rollout restart {object}`"
        )),
        Reason::ManagedByGitOps | Reason::ManagedByHelm | Reason::ManagedByTool if elsewhere.is_some() => elsewhere,
        Reason::ManagedByGitOps => Some("revert the commit in the Git repository that the tool syncs from".into()),
        Reason::ManagedByHelm => Some(format!("`helm -n {namespace} rollback` of the release that installed it")),
        Reason::TargetUnresolved | Reason::TargetNotFound | Reason::TargetAmbiguous | Reason::TargetInvalid => {
            Some("check the labels of the alerting rule; they have to name one existing workload".into())
        }
        Reason::TargetGone if target.is_some() => Some(format!(
            "look at what stands in its place, if anything: `kubectl -n {namespace} get {object} -o yaml`"
        )),
        Reason::ExecutorSilent | Reason::WrittenLate | Reason::WriteUnproven => Some(format!(
            "`kubectl -n {namespace} get {object} -o yaml` shows backstop.dev/last-action if it was written"
        )),
        // What a model advises is in the page under its name. Nobody is told to do it in our voice.
        _ => {
            let of_rules = status.diagnosis.as_ref().filter(|diagnosis| diagnosis.diagnoser == rules::NAME);
            of_rules.map(|diagnosis| &diagnosis.advice).filter(|advice| !advice.is_empty()).cloned()
        }
    };
    let look_at_target = || target.map(|_| format!("look at the target: `kubectl -n {namespace} describe {object}`"));
    match first.or_else(look_at_target) {
        Some(first) => format!("{}. Details: `{look}`", first.trim_end_matches('.')),
        None => format!("details: `{look}`"),
    }
}
