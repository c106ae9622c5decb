//! A Remediation in flight, whatever its purpose: create it, decide again and open the Grant for each claim, and take
//! in what came of it. One way for repair, undo and replacement of a stuck pod.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::json;

use crate::api::v1alpha1::{
    Actor, Decision, DecisionOutcome, Grant, IncidentPhase, IncidentStatus, LedgerState, OpenGrant, Remediation,
    RemediationPhase, RemediationSpec, RemediationStatus, Time, Write,
};
use crate::core::{
    actions,
    gate::{self, Judgement},
    names,
    reason::Reason,
    timeline::{self, Event},
    verify,
    workload::Workload,
};

use super::{
    About, Effect, Flight, JudgementInputs, Measure, Need, Next, Step, WriteAndJudgement, anomaly, ending, opening,
    outcome::{entry, fired_at, is_proven, pod_of, settle},
    question, remediation, undo, unneeded, verification,
};

/// The executor has this long to claim a Remediation, and to end it after its Grant was opened.
const EXECUTOR_PATIENCE: SignedDuration = SignedDuration::from_mins(5);
/// Until a Remediation is looked at again without being told that it changed.
const LOOK: Duration = Duration::from_secs(2);
/// Until a Grant that another write holds is looked at again.
const BUSY: Duration = Duration::from_millis(500);

/// Follows the Remediation in flight.
pub(super) fn follow(about: About<'_>, status: IncidentStatus, flight: Flight, found: Option<&Remediation>) -> Step {
    let Some(remediation) = found else { return lost(about, status, flight) };
    let state = remediation.status.clone().unwrap_or_default();
    match state.phase {
        RemediationPhase::Fired if is_proven(&state) => fired(about, status, flight, remediation, &state),
        RemediationPhase::Fired | RemediationPhase::Unproven => Step::look(Need::WriteAndJudgement(flight)),
        RemediationPhase::Aborted if unneeded::is_reading(flight, &state) => {
            Step::look(Need::WriteAndJudgement(flight))
        }
        RemediationPhase::Aborted => aborted(about, status, flight, remediation, &state),
        RemediationPhase::Claimed if Some(state.epoch) > status.grant_epoch => {
            Step::look(Need::WriteAndJudgement(flight))
        }
        RemediationPhase::Pending | RemediationPhase::Claimed => {
            if is_overdue(about, &status) {
                return silent(about, status, remediation);
            }
            Step::wait(LOOK)
        }
    }
}

/// Nothing was noted for longer than an executor may take.
fn is_overdue(about: About<'_>, status: &IncidentStatus) -> bool {
    status.timeline.last().is_some_and(|entry| about.now.duration_since(entry.at) > EXECUTOR_PATIENCE)
}

fn lost(about: About<'_>, status: IncidentStatus, flight: Flight) -> Step {
    let message = "the Remediation was deleted before it ended, and not by Backstop";
    match flight {
        Flight::Repair | Flight::Replacement => ending::escalate(about, status, Reason::RemediationAborted, message),
        Flight::Undo => {
            let why = status.message.clone();
            ending::escalate(about, status, Reason::VerifyFailed, &format!("{why}. {message}"))
        }
    }
}

/// The executor did not report an outcome in time. The write counts as made: the reservation stays.
fn silent(about: About<'_>, status: IncidentStatus, remediation: &Remediation) -> Step {
    let name = remediation::name_of(remediation);
    let message = format!(
        "the executor did not finish Remediation {name} in time, and it is unknown whether it wrote. Check annotation \
         backstop.dev/last-action of the target, and that the executor is running: `kubectl -n {} get pods`",
        about.terms.system
    );
    let undoes = status.undo.as_deref() == Some(name);
    let message = if undoes { format!("{}. {message}", status.message) } else { message };
    let effects = vec![
        Effect::CloseGrant { remediation: name.to_owned() },
        Effect::CountAnomaly(Reason::ExecutorSilent),
        Effect::AuditAfter(entry("RemediationUnknown", remediation, json!({ "reason": "ExecutorSilent" }))),
    ];
    // Whatever its severity: it may have been written.
    ending::hand_over(about, status, Reason::ExecutorSilent, &message, effects, true)
}

/// The write happened and was read back.
fn fired(
    about: About<'_>,
    mut status: IncidentStatus,
    flight: Flight,
    remediation: &Remediation,
    state: &RemediationStatus,
) -> Step {
    let mut effects = settle(remediation, state, LedgerState::Spent);
    // It may have been faster than the record of its Grant.
    if Some(state.epoch) > status.grant_epoch {
        note_opened(about, &mut status, &remediation.spec, state.epoch);
    }
    // The executor's clock is shown but decides nothing: timeouts count from now.
    let at = fired_at(state).unwrap_or(about.now);
    match flight {
        Flight::Repair => {
            let took = about.seconds_since_alert(at);
            effects.push(Effect::Measure(Measure::ToFire(took)));
            let message = format!("the API server accepted the write {took:.3} s after the alert was received");
            timeline::note(&mut status, at, Actor::Executor, Event::Fired, message);
            status.times.fired = Some(about.now);
            status.rollout = None;
            status.grant_epoch = None;
            status.phase = IncidentPhase::Verifying;
            Step::write(effects, status, Next::Again)
        }
        Flight::Replacement => {
            let pod = pod_of(remediation);
            timeline::note(&mut status, at, Actor::Executor, Event::PodEvicted, format!("{pod} was evicted"));
            verification::replaced(about, status, effects)
        }
        Flight::Undo => undo::done(about, status, at, effects),
    }
}

/// The executor says that the write happened, and did not read it back: the controller looks at the object itself.
/// Anybody may set an annotation, so what does not hold the value is not reported as written. It counts as made.
fn unproven(
    about: About<'_>,
    mut status: IncidentStatus,
    flight: Flight,
    remediation: &Remediation,
    state: &RemediationStatus,
    case: &JudgementInputs,
) -> Step {
    let spec = &remediation.spec;
    if written_by_us(case, spec) {
        return fired(about, status, flight, remediation, state);
    }
    let effects = settle(remediation, state, LedgerState::Spent);
    let gone = |workload: &Workload| match &spec.write {
        Write::Evict(evict) => workload.pods.iter().all(|pod| pod.object.uid != evict.pod.uid),
        Write::Field(_) => false,
    };
    match &case.workload {
        Err(_) if !is_overdue(about, &status) => Step::wait(LOOK),
        Ok(workload) if flight == Flight::Replacement && gone(workload) => {
            let message =
                format!("{} is gone; whether it was evicted or went by itself is not known", pod_of(remediation));
            timeline::note(&mut status, about.now, Actor::Executor, Event::PodEvicted, message);
            verification::replaced(about, status, effects)
        }
        workload => {
            let why = match workload {
                Err(error) => error.message.clone(),
                Ok(_) if fired_at(state).is_some() => "it does not hold the value that was written".to_owned(),
                Ok(_) => "it does not hold the value that was granted, and anybody may set that annotation".to_owned(),
            };
            let accepted = fired_at(state).is_some();
            let (reason, what) = if accepted {
                (Reason::ChangedByOthers, "the API server accepted the write")
            } else {
                (Reason::WriteUnproven, "the annotation backstop.dev/last-action names the write")
            };
            let message = format!("{what} to {}, but {why}; Backstop leaves the target alone", spec.target);
            let message = if flight == Flight::Undo { format!("{}. {message}", status.message) } else { message };
            ending::escalate_after(about, status, reason, &message, effects)
        }
    }
}

/// Takes in what [`unneeded::is_reading`], on the controller's own reading. What that does not show is handed over as the executor said it.
fn given_up(
    about: About<'_>,
    mut status: IncidentStatus,
    flight: Flight,
    remediation: &Remediation,
    state: &RemediationStatus,
    found: &WriteAndJudgement,
) -> Step {
    let case = &found.case;
    let unreadable = case.workload.as_ref().is_err_and(|error| error.reason == Reason::ClusterUnreadable);
    if unreadable && !is_overdue(about, &status) {
        return Step::wait(LOOK);
    }
    let effects = settle(remediation, state, LedgerState::Refunded);
    let Some(judgement) = decided_again(about, &status, flight, found) else {
        return aborted(about, status, flight, remediation, state);
    };
    if flight != Flight::Repair {
        status.follow_up = Some(Box::new(judgement.decision.clone()));
    }
    if judgement.decision.outcome == DecisionOutcome::Resolve {
        return unneeded::resolve(about, status, flight, &judgement, effects);
    }
    if flight == Flight::Repair
        && let Some(step) = unneeded::repair(about, &status, case, &judgement, effects)
    {
        return step;
    }
    aborted(about, status, flight, remediation, state)
}

/// The write did not happen, or its outcome is unknown: then it counts as made.
fn aborted(
    about: About<'_>,
    mut status: IncidentStatus,
    flight: Flight,
    remediation: &Remediation,
    state: &RemediationStatus,
) -> Step {
    let written = fired_at(state).is_some();
    let book = if written { LedgerState::Spent } else { LedgerState::Refunded };
    let mut effects = settle(remediation, state, book);
    let reason = Reason::named(&state.reason).unwrap_or(Reason::RemediationAborted);
    if anomaly::is_anomaly(reason) && flight == Flight::Repair {
        effects.push(Effect::CountAnomaly(reason));
    }
    if flight == Flight::Replacement && !written && unneeded::is_eviction(reason) {
        unneeded::note_eviction(about, &mut status, remediation, reason, &state.message);
        return verification::go_on(status, effects);
    }
    match flight {
        Flight::Repair => {
            let message = format!("the repair was not applied ({reason}): {}", state.message);
            ending::escalate_after(about, status, reason, &message, effects)
        }
        Flight::Replacement => {
            let message = format!("{} could not be evicted ({reason}): {}", pod_of(remediation), state.message);
            ending::escalate_after(about, status, reason, &message, effects)
        }
        Flight::Undo => {
            let why = status.message.clone();
            let message = format!("{why}. The repair could not be undone ({reason}): {}", state.message);
            ending::escalate_after(about, status, Reason::VerifyFailed, &message, effects)
        }
    }
}

/// Decides again from a fresh reading, and only then opens the Grant, after its audit record.
pub(super) fn grant(about: About<'_>, mut status: IncidentStatus, flight: Flight, found: &WriteAndJudgement) -> Step {
    let WriteAndJudgement { remediation, repair: _, grant, case } = found;
    let state = remediation.as_ref().and_then(|it| it.status.clone()).unwrap_or_default();
    if let Some(remediation) = remediation
        && matches!(state.phase, RemediationPhase::Fired | RemediationPhase::Unproven)
        && !is_proven(&state)
    {
        return unproven(about, status, flight, remediation, &state, case);
    }
    if let Some(remediation) = remediation
        && unneeded::is_reading(flight, &state)
    {
        return given_up(about, status, flight, remediation, &state, found);
    }
    let Some(remediation) = remediation
        .as_ref()
        .filter(|_| state.phase == RemediationPhase::Claimed && Some(state.epoch) > status.grant_epoch)
    else {
        // Its status changed while the rest was read.
        return follow(about, status, flight, remediation.as_ref());
    };
    let spec = &remediation.spec;
    // Decided a moment ago; what has changed since, the executor and the policies ask for themselves.
    if is_open(about, grant.as_ref(), remediation, state.epoch) {
        return opened(about, status, spec, state.epoch);
    }
    let judgement = decided_again(about, &status, flight, found);
    let recovered = judgement.as_ref().is_some_and(|it| it.decision.outcome == DecisionOutcome::Resolve);
    let refusal = refusal(judgement.as_ref(), spec);
    let storm = judgement
        .as_ref()
        .filter(|_| flight == Flight::Repair && refusal.is_some())
        .and_then(|it| question::storm_claim(about, case, it.reason, &it.anomalies));
    let decision = judgement.as_ref().map(|it| it.decision.clone());
    if flight != Flight::Repair {
        status.follow_up = decision.clone().map(Box::new);
    }
    if let Some(refusal) = refusal {
        // A target that already has the value was written in an earlier epoch: the executor finds and reports that.
        if written_by_us(case, spec) {
            return if is_overdue(about, &status) {
                silent(about, status, remediation)
            } else {
                Step::wait(Duration::from_secs(1))
            };
        }
        // What was begun is not given up because of one reading that failed.
        let unreadable = case.workload.as_ref().is_err_and(|error| error.reason == Reason::ClusterUnreadable);
        if unreadable && flight != Flight::Repair && !is_overdue(about, &status) {
            return Step::wait(LOOK);
        }
        if flight == Flight::Repair && (unreadable || waits(decision.as_ref())) && has_time(about, &status) {
            return Step::wait(LOOK);
        }
        let anomalies = judgement.iter().flat_map(|it| it.anomalies.iter().copied());
        let mut effects: Vec<Effect> = anomalies.map(Effect::CountAnomaly).collect();
        // A request to open its Grant may have arrived, or arrive still, without anybody having heard of it: it stays
        // reserved until the executor has ended it. What an eviction costs no budget counts.
        if flight == Flight::Replacement && status.grant_epoch.is_none() {
            effects.push(Effect::Settle { action_id: spec.action_id.clone(), state: LedgerState::Refunded });
        }
        let close = Effect::CloseGrant { remediation: remediation::name_of(remediation).to_owned() };
        if recovered
            && flight != Flight::Replacement
            && let Some(judgement) = &judgement
        {
            effects.push(close);
            return unneeded::resolve(about, status, flight, judgement, effects);
        }
        if flight == Flight::Repair
            && let Some(judgement) = &judgement
            && let Some(step) =
                unneeded::repair(about, &status, case, judgement, [effects.clone(), vec![close.clone()]].concat())
        {
            return step;
        }
        // The pod went or healed by itself: the repair is watched on.
        if flight == Flight::Replacement && unneeded::is_eviction(refusal.0) {
            effects.push(close);
            return verification::go_on(status, effects);
        }
        effects.extend(storm);
        return refused(about, status, flight, refusal, effects);
    }
    let Some(grant) = grant else {
        // The controller's Grant loop recreates it, closed.
        return Step::wait(BUSY);
    };
    let name = remediation::name_of(remediation);
    match &grant.spec.open {
        // Only its record is missing, or it was opened and has ended before that.
        Some(open) if open.remediation == name && open.epoch == state.epoch => opened(about, status, spec, state.epoch),
        Some(open) if open.remediation != name && open.not_after > about.now => Step::wait(BUSY),
        // Somebody was about to end it, and closed its Grant, which may have been open: it opens no more, and what the
        // executor makes of its claim counts.
        _ if was_closed_for(grant, name) => {
            status.grant_epoch = Some(state.epoch);
            Step::write(vec![], status, Next::After(LOOK))
        }
        _ => {
            let details = opening::details(about, remediation, state.epoch, decision.as_ref(), case);
            if flight == Flight::Repair {
                status.before_write = case.workload.as_ref().ok().map(Workload::summary);
            }
            // The status first: whoever ends the incident from what it was before is refused, and once somebody has ended
            // it this step goes no further. It differs each time, by the time of the reading or of the decision.
            let effects = vec![Effect::Audit(entry("GrantOpening", remediation, details))];
            Step::write(effects, status, Next::Again).then(Effect::OpenGrant {
                version: grant.metadata.resource_version.clone().unwrap_or_default(),
                open: Box::new(open(about, remediation, state.epoch)),
            })
        }
    }
}

/// Whether the Grant is open for this claim of the Remediation.
fn is_open(about: About<'_>, grant: Option<&Grant>, remediation: &Remediation, epoch: i64) -> bool {
    let open = grant.and_then(|grant| grant.spec.open.as_ref());
    let of_claim = |open: &OpenGrant| open.remediation == remediation::name_of(remediation) && open.epoch == epoch;
    open.is_some_and(|open| of_claim(open) && open.not_after > about.now)
}

/// Whether the Grant was closed last for the Remediation of this name.
fn was_closed_for(grant: &Grant, name: &str) -> bool {
    let note = grant.metadata.annotations.as_ref().and_then(|all| all.get(names::CLOSED_FOR));
    note.and_then(|note| note.split(' ').next()) == Some(name)
}

/// The Grant was opened for this claim.
fn opened(about: About<'_>, mut status: IncidentStatus, spec: &RemediationSpec, epoch: i64) -> Step {
    note_opened(about, &mut status, spec, epoch);
    Step::write(vec![], status, Next::After(LOOK))
}

fn note_opened(about: About<'_>, status: &mut IncidentStatus, spec: &RemediationSpec, epoch: i64) {
    let seconds = about.terms.timings.grant_seconds;
    let sentence = format!("for action {} and {seconds} s, epoch {epoch}", spec.action_id);
    status.grant_epoch = Some(epoch);
    timeline::note(status, about.now, Actor::Controller, Event::GrantOpened, sentence);
}

fn open(about: About<'_>, remediation: &Remediation, epoch: i64) -> OpenGrant {
    let spec = &remediation.spec;
    let end = about.now + SignedDuration::from_secs(about.terms.timings.grant_seconds.into());
    OpenGrant {
        action_id: spec.action_id.clone(),
        action: actions::of(spec.action.kind()).armed_label.into(),
        remediation: remediation::name_of(remediation).to_owned(),
        epoch,
        uid: spec.target.uid.clone(),
        write: spec.write.clone(),
        // Whole seconds, because managedFields carry whole seconds.
        not_after: Time::from_second(end.as_second()).unwrap_or(end),
    }
}

/// What refuses may pass with time: a container that is ended again and again looks well for a moment in between.
fn waits(decision: Option<&Decision>) -> bool {
    decision.is_some_and(|decision| decision.outcome == DecisionOutcome::Wait)
}

/// Whether there is time left for what may pass. Only as long as no Grant was opened; after that a refusal has to close it.
fn has_time(about: About<'_>, status: &IncidentStatus) -> bool {
    let patience = SignedDuration::from_secs(about.terms.timings.evidence_wait_seconds.into());
    let since = status.times.decided.unwrap_or(about.now);
    status.grant_epoch.is_none() && about.now.duration_since(since) < patience
}

/// Decides about the write in flight again, by the chain for its purpose.
fn decided_again(
    about: About<'_>,
    status: &IncidentStatus,
    flight: Flight,
    found: &WriteAndJudgement,
) -> Option<Judgement> {
    let repair = found.repair.as_ref().map(|repair| &repair.spec);
    match (flight, found.remediation.as_ref().map(|it| &it.spec.write)) {
        (Flight::Repair, _) => {
            let mut judgement = question::ask(about, status, &found.case, gate::judge_again);
            question::hold_to_claim(about, status, &found.case, &mut judgement);
            Some(judgement)
        }
        (Flight::Undo, _) => {
            Some(question::ask(about, status, &found.case, |case| repair.map(|repair| gate::judge_undo(case, repair)))?)
        }
        (Flight::Replacement, Some(Write::Evict(evict))) => Some(question::ask(about, status, &found.case, |case| {
            repair.map(|repair| gate::judge_replacement(case, repair, &evict.pod))
        })?),
        (Flight::Replacement, _) => None,
    }
}

/// Why the write may not proceed; `None` when every check passed and it is the one that was decided.
fn refusal(judgement: Option<&Judgement>, spec: &RemediationSpec) -> Option<(Reason, String)> {
    let Some(judgement) = judgement else {
        return Some((Reason::RemediationAborted, "the Remediation that it follows does not exist any more".into()));
    };
    let decision = &judgement.decision;
    if decision.outcome != DecisionOutcome::Act {
        return Some((judgement.reason, decision.message.clone()));
    }
    (decision.action_id.as_ref() != Some(&spec.action_id))
        .then(|| (Reason::TargetChanged, "the target changed since the decision".into()))
}

fn refused(
    about: About<'_>,
    status: IncidentStatus,
    flight: Flight,
    (reason, message): (Reason, String),
    mut effects: Vec<Effect>,
) -> Step {
    let name = match flight {
        Flight::Repair => &status.remediation,
        Flight::Undo => &status.undo,
        Flight::Replacement => &status.replacement,
    };
    effects.extend(name.clone().map(|remediation| Effect::CloseGrant { remediation }));
    let message = match flight {
        Flight::Repair => {
            format!("nothing was written, because the checks right before the write refused it: {message}")
        }
        Flight::Replacement => format!("no pod was evicted: {message}"),
        Flight::Undo => format!("{}. It was not undone: {message}", status.message),
    };
    ending::escalate_after(about, status, reason, &message, effects)
}

fn written_by_us(case: &JudgementInputs, spec: &RemediationSpec) -> bool {
    let Ok(workload) = &case.workload else { return false };
    spec.write.field().is_some()
        && verify::holds(workload, &spec.write)
        && workload.annotations.get(names::LAST_ACTION) == Some(&spec.action_id)
}
