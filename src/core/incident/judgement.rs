//! Judging: evaluate the checks, charge the budgets, and create the Remediation.

use std::{collections::BTreeSet, time::Duration};

use jiff::SignedDuration;

use crate::api::v1alpha1::{
    Actor, Decision, DecisionOutcome, Incident, IncidentPhase, IncidentStatus, InvestigationStatus, RefusedAnswer,
    Severity, Time, Verdict, WorkloadFact,
};
use crate::core::{
    approvals::Standing,
    gate::{self, Judgement, ValidApproval},
    known_good::{self, Health},
    reason::Reason,
    timeline::{self, Event},
    workload::Workload,
};

use super::{
    About, Effect, JudgementInputs, Measure, Need, Next, Notice, Step, Terms,
    asking::{self, Who},
    diagnosis, ending, held, question, remediation, reroute, round,
};

/// Pause between two rounds: evidence that pods fail comes within seconds.
const PAUSE: SignedDuration = SignedDuration::from_secs(4);
/// Pause between two rounds after the first minute, while health has to last before it means something.
const LONG_PAUSE: SignedDuration = SignedDuration::from_secs(30);
const FIRST_MINUTE: SignedDuration = SignedDuration::from_mins(1);
/// Health that has to last longer than this is not waited for: a person is called.
pub(super) const LONGEST_PROOF: SignedDuration = SignedDuration::from_mins(10);

/// How long the decision to wait still holds; `None` when there is none of this round.
fn waiting(status: &IncidentStatus, now: Time) -> Option<SignedDuration> {
    let decision = status.decision.as_ref().filter(|decision| decision.outcome == DecisionOutcome::Wait)?;
    let of_this_round = status.times.diagnosed.is_some_and(|diagnosed| decision.decided_at >= diagnosed);
    let pause = pause_of(status, decision.decided_at);
    // Never longer than the pause, whatever a clock did in between.
    of_this_round.then(|| (pause - now.duration_since(decision.decided_at)).clamp(SignedDuration::ZERO, pause))
}

fn pause_of(status: &IncidentStatus, decided: Time) -> SignedDuration {
    if asking::waited(status, decided) < FIRST_MINUTE { PAUSE } else { LONG_PAUSE }
}

pub(super) fn need(status: &IncidentStatus, now: Time) -> Need {
    if waiting(status, now).is_some() { Need::Nothing } else { Need::Judgement }
}

/// It was decided to wait: pause, then look again. The same evidence would be the same question: the rules are asked alone.
pub(super) fn pause(about: About<'_>, status: IncidentStatus) -> Step {
    match waiting(&status, about.now) {
        None => Step::look(Need::Judgement),
        Some(rest) if rest.is_zero() => another_round(about, status, Who::Rules),
        Some(rest) => Step::wait(Duration::try_from(rest).unwrap_or(Duration::from_secs(1))),
    }
}

pub(super) fn another_round(about: About<'_>, mut status: IncidentStatus, who: Who) -> Step {
    let next = status.rounds.saturating_add(1);
    round::begin(about, &mut status, next, who);
    status.phase = IncidentPhase::Investigating;
    Step::write(vec![], status, Next::Again)
}

/// How healthy the target is by the controller's own reading; `None` when it could not be read.
pub(super) fn health<'a>(about: About<'_>, case: &'a JudgementInputs) -> Option<(&'a Workload, Health)> {
    let workload = case.workload.as_ref().ok()?;
    let floor = SignedDuration::from_secs(about.terms.timings.known_good_seconds.into());
    Some((workload, known_good::health(workload, floor)))
}

/// What is said of a target that nothing is wrong with.
pub(super) fn well(workload: &Workload) -> String {
    let WorkloadFact { ready, desired, .. } = &workload.state;
    format!(
        "{ready} of {desired} replicas are ready, no pod fails, and that has lasted for longer than it takes to fail again"
    )
}

/// What was decided last is that people are asked, and they were, on this diagnosis.
fn was_asked(status: &IncidentStatus) -> bool {
    let since = status.times.diagnosed;
    status.decision.as_ref().is_some_and(|decision| {
        decision.outcome == DecisionOutcome::AwaitApproval && since.is_none_or(|since| decision.decided_at >= since)
    })
}

/// What the answers to what was asked last come to; `None` where nothing exact was asked.
pub(super) fn standing(status: &IncidentStatus, approvals: &[ValidApproval]) -> Option<Standing> {
    let decision = status.decision.as_ref()?;
    Some(gate::standing(approvals, decision.digest.as_ref()?, &decision.approvals))
}

/// How many different names the alerts of an incident have.
pub(super) fn alertnames(incident: &Incident) -> i32 {
    let names: BTreeSet<&str> = incident.spec.alerts.iter().map(|alert| alert.alertname.as_str()).collect();
    i32::try_from(names.len()).unwrap_or(i32::MAX)
}

/// What was decided last was asked of nobody, because it only informed.
fn was_asked_of_nobody(status: &IncidentStatus) -> bool {
    status.decision.as_ref().is_some_and(|decision| decision.severity == Some(Severity::Info))
}

/// People approved exactly what was decided last.
fn is_approved(status: &IncidentStatus, case: &JudgementInputs) -> bool {
    let asked = status.decision.as_ref().is_some_and(|it| it.outcome == DecisionOutcome::AwaitApproval);
    asked && matches!(standing(status, &case.books.approvals), Some(Standing::Approved(_)))
}

/// Whether something comes of the decision that models have a say in.
fn concerns_models(outcome: DecisionOutcome) -> bool {
    matches!(outcome, DecisionOutcome::Act | DecisionOutcome::AwaitApproval | DecisionOutcome::Escalate)
}

/// The refused answer for which a stronger rung is asked, with that rung. One that was refused while the incident waited
/// is made up for before a person is called.
fn stronger(status: &IncidentStatus, outcome: DecisionOutcome, refused_now: bool) -> Option<(RefusedAnswer, String)> {
    let matters = if refused_now { concerns_models(outcome) } else { outcome == DecisionOutcome::Escalate };
    let refused = reroute::refused(status).filter(|_| matters)?;
    let to = reroute::stronger(status, &refused.diagnoser)?;
    Some((refused.clone(), to.to_owned()))
}

/// Another round in the place of what was decided.
fn begin_again(about: About<'_>, status: IncidentStatus, effects: Vec<Effect>, who: Who) -> Step {
    let Step { effects: _, status, after, next } = another_round(about, status, who);
    Step { effects, status, after, next }
}

/// Whether what stands as the diagnosis is the answer of a model to the very evidence of now, and the rules, who were asked
/// alone, have nothing to propose in its place.
fn is_kept(
    about: About<'_>,
    status: &IncidentStatus,
    found: &InvestigationStatus,
    workload: Option<&Workload>,
) -> bool {
    let nothing = found.diagnosis.as_ref().is_none_or(|diagnosis| diagnosis.proposal.is_none());
    nothing && asking::heard(about, status, workload).is_some()
}

/// The checks gave no answer, for this reason in words: what cannot be decided is not done. It is decided again after a
/// pause, and a person is called once nothing is waited for any more. `None` where nothing was to be decided.
pub fn unanswered(incident: &Incident, why: &str, terms: &Terms, now: Time) -> Option<Step> {
    let (about, mut status) = (About { incident, terms, now }, super::status(incident));
    if status.phase != IncidentPhase::Judging {
        return None;
    }
    let reason = Reason::ChecksUnanswered;
    if was_asked(&status) && held::holds_on(about, &status) {
        let message = format!("the checks gave no answer, and are asked again: {why}");
        let wait = Effect::Measure(Measure::Decided(DecisionOutcome::Wait.as_str(), reason));
        return Some(held::look_again(status, reason, &message, vec![wait]));
    }
    let waited = asking::waited(&status, now);
    let patience = SignedDuration::from_secs(terms.timings.evidence_wait_seconds.into());
    let outcome = if waited >= patience { DecisionOutcome::Escalate } else { DecisionOutcome::Wait };
    let message = format!("the checks gave no answer and so refuse: {why}");
    let diagnosis = status.diagnosis.as_ref();
    status.decision = Some(Box::new(Decision {
        outcome,
        reason: reason.as_str().into(),
        message: message.clone(),
        diagnoser: diagnosis.map(|diagnosis| diagnosis.diagnoser.clone()).unwrap_or_default(),
        decided_at: now,
        ..Decision::default()
    }));
    let effects = vec![Effect::Measure(Measure::Decided(outcome.as_str(), reason))];
    Some(match outcome {
        DecisionOutcome::Wait => Step::write(effects, status, Next::Again),
        _ => {
            timeline::note(&mut status, now, Actor::Controller, Event::Judged, format!("{reason}: {message}"));
            status.times.decided = Some(now);
            // Whatever its severity: nobody has looked at what it is about.
            ending::hand_over(about, status, reason, &message, effects, true)
        }
    })
}

/// Decides what follows from the latest round.
pub(super) fn step(about: About<'_>, mut status: IncidentStatus, case: &JudgementInputs) -> Step {
    let now = about.now;
    // What a person approved is what was decided, whatever the age of its facts.
    let approved = is_approved(&status, case);
    // Nor is who is reminded of it asked something else because its facts have grown old.
    let is_held = approved || was_asked(&status);
    let judge = if is_held { gate::judge_again } else { gate::judge };
    // As it was when people were asked.
    let before = status.clone();
    (status.reason, status.message) = (String::new(), String::new());
    let mut judgement = question::ask(about, &status, case, judge);
    let claimed = question::hold_to_claim(about, &status, case, &mut judgement);
    let Judgement { mut decision, mut reason, prediction, anomalies, charge, ungrounded, on_second_opinion, doubt } =
        judgement;
    let workload = case.workload.as_ref().ok();
    let found = case.investigation.as_ref().and_then(|it| it.status.as_ref());
    let asked_models = asking::in_this_round(&status);
    status.reading = workload.map(Workload::summary);
    let waited = asking::waited(&status, now);
    let mut patience = SignedDuration::from_secs(about.terms.timings.evidence_wait_seconds.into());
    let undecided = matches!(decision.outcome, DecisionOutcome::Wait | DecisionOutcome::Escalate);
    match health(about, case) {
        Some((workload, Health::Good(_))) if undecided && !claimed => {
            reason = Reason::NothingWrong;
            decision.outcome = DecisionOutcome::Resolve;
            decision.reason = reason.as_str().into();
            decision.message = well(workload);
        }
        Some((_, Health::Healthy { for_another })) if for_another <= LONGEST_PROOF => {
            patience = patience.max(waited + for_another);
        }
        _ => {}
    }
    // What people were asked, or have approved, is not given up for what may pass: one reading that failed, or another write
    // that is under way.
    let passes = match decision.outcome {
        DecisionOutcome::Wait => true,
        DecisionOutcome::Escalate => reason == Reason::ClusterUnreadable,
        _ => false,
    };
    if is_held && passes && !claimed && case.firing && held::holds_on(about, &before) {
        let wait = Effect::Measure(Measure::Decided(DecisionOutcome::Wait.as_str(), reason));
        let effects = anomalies.into_iter().map(Effect::CountAnomaly).chain([wait]).collect();
        return held::look_again(before, reason, &decision.message, effects);
    }
    // Models took so long that nothing can be done on these facts any more: they are gathered again at once.
    let too_late = asked_models
        && decision.outcome == DecisionOutcome::Wait
        && found.is_some_and(|found| gate::are_stale(&found.facts, now));
    if decision.outcome == DecisionOutcome::Wait && waited >= patience && !too_late {
        decision.outcome = DecisionOutcome::Escalate;
        let message = format!("waited {} s: {}", waited.as_secs(), decision.message);
        decision.message = message.chars().take(gate::MAX_MESSAGE).collect();
    }
    let (outcome, message) = (decision.outcome, decision.message.clone());
    let storm = question::storm_claim(about, case, reason, &anomalies);
    let mut effects: Vec<Effect> = anomalies.into_iter().map(Effect::CountAnomaly).collect();
    if let Some(ungrounded) = &ungrounded {
        reroute::note(about, &mut status, ungrounded);
    }
    if let Some(found) = found {
        if asked_models {
            asking::note(about, &mut status, found, workload, ungrounded.as_ref(), doubt.as_deref());
        } else if !is_kept(about, &status, found, workload) {
            diagnosis::replace(&mut status, found);
        }
    }
    // What waits, is over or is one of many needs no other answer, and what a person approved is not asked about again.
    let decides = storm.is_none() && !claimed && !is_held;
    if let Some((refused, to)) = stronger(&status, outcome, ungrounded.is_some()).filter(|_| decides) {
        effects.push(reroute::note_begin(about, &mut status, &refused, &to));
        return begin_again(about, status, effects, Who::Stronger);
    }
    if too_late && decides {
        return begin_again(about, status, effects, Who::Rules);
    }
    let who = workload.map_or(Who::Rules, |workload| asking::who(about, &status, workload));
    if who == Who::Models && !asked_models && decides && concerns_models(outcome) {
        return begin_again(about, status, effects, who);
    }
    if on_second_opinion
        && let Some(found) = found
        && let Some(opinion) = &found.second_opinion
    {
        status.diagnosis = Some(diagnosis::opinion(&status, found, opinion).into());
    }
    effects.push(Effect::Measure(Measure::Decided(outcome.as_str(), reason)));
    if outcome != DecisionOutcome::Wait {
        let passed = decision.checks.iter().filter(|check| check.verdict == Verdict::Passed).count();
        let sentence =
            format!("{passed} of {} checks passed; {}: {reason}: {message}", decision.checks.len(), outcome.as_str());
        timeline::note(&mut status, now, Actor::Controller, Event::Judged, sentence);
        status.times.decided = Some(now);
    }
    (decision.severity, decision.alertnames) = (Some(about.incident.spec.severity), Some(alertnames(about.incident)));
    let unheard = was_asked_of_nobody(&status) && !about.only_informs();
    let earlier = status.decision.replace(decision.into()).and_then(|decision| decision.digest);
    match (outcome, prediction) {
        (DecisionOutcome::Act, Some(prediction)) => {
            status.times.approval_asked = None;
            effects.extend(charge.map(Effect::Reserve));
            remediation::begin_repair(about, status, prediction, effects)
        }
        (DecisionOutcome::Wait, _) => Step::write(effects, status, Next::Again),
        (DecisionOutcome::AwaitApproval, _) => {
            let digest = status.decision.as_ref().and_then(|decision| decision.digest.clone()).unwrap_or_default();
            // Who approved what has changed since has as much time as ever for the new one, and so has who hears of it for
            // the first time; neither a reminder gives more, nor that the same is asked again.
            let anew = unheard || (approved && earlier.as_deref() != Some(digest.as_str()));
            let asked = status.times.approval_asked.filter(|_| !anew);
            status.times.approval_asked = Some(asked.unwrap_or(now));
            let sentence = format!("waits for an Approval with digest {digest}");
            timeline::note(&mut status, now, Actor::Controller, Event::ApprovalAsked, sentence);
            status.phase = IncidentPhase::AwaitingApproval;
            let asked = Step::write(effects, status, Next::Again);
            if about.only_informs() { asked } else { asked.telling(Notice::ApprovalAsked, now) }
        }
        (DecisionOutcome::Resolve, _) => ending::resolve(about, status, reason, &message, effects),
        (DecisionOutcome::Escalate | DecisionOutcome::Act, _) => {
            effects.extend(storm);
            ending::escalate_after(about, status, reason, &message, effects)
        }
    }
}
