//! Judging: evaluate the checks, charge the budgets, and create the Remediation.

use std::time::Duration;

use jiff::SignedDuration;

use crate::api::v1alpha1::{Actor, DecisionOutcome, IncidentPhase, IncidentStatus, Time, Verdict, WorkloadFact};
use crate::core::{
    gate::{self, Judgement},
    known_good::{self, Health},
    reason::Reason,
    timeline::{self, Event},
    workload::Workload,
};

use super::{
    About, Effect, JudgementInputs, Measure, Need, Next, Notice, Step, diagnosis, ending, question, remediation,
    reroute, round,
};

/// Pause between two rounds: evidence that pods fail comes within seconds.
const PAUSE: SignedDuration = SignedDuration::from_secs(4);
/// Pause between two rounds after the first minute, while health has to last before it means something.
const LONG_PAUSE: SignedDuration = SignedDuration::from_secs(30);
const FIRST_MINUTE: SignedDuration = SignedDuration::from_mins(1);
/// Health that has to last longer than this is not waited for: a person is called.
const LONGEST_PROOF: SignedDuration = SignedDuration::from_mins(10);

/// How long the decision to wait still holds; `None` when there is none of this round.
fn waiting(status: &IncidentStatus, now: Time) -> Option<SignedDuration> {
    let decision = status.decision.as_ref().filter(|decision| decision.outcome == DecisionOutcome::Wait)?;
    let of_this_round = status.times.diagnosed.is_some_and(|diagnosed| decision.decided_at >= diagnosed);
    let pause = pause_of(status, decision.decided_at);
    // Never longer than the pause, whatever a clock did in between.
    of_this_round.then(|| (pause - now.duration_since(decision.decided_at)).clamp(SignedDuration::ZERO, pause))
}

fn pause_of(status: &IncidentStatus, decided: Time) -> SignedDuration {
    let begun = status.times.planned.unwrap_or(decided);
    if decided.duration_since(begun) < FIRST_MINUTE { PAUSE } else { LONG_PAUSE }
}

pub(super) fn need(status: &IncidentStatus, now: Time) -> Need {
    if waiting(status, now).is_some() { Need::Nothing } else { Need::Judgement }
}

/// It was decided to wait: pause, then look again.
pub(super) fn pause(about: About<'_>, status: IncidentStatus) -> Step {
    match waiting(&status, about.now) {
        None => Step::look(Need::Judgement),
        Some(rest) if rest.is_zero() => another_round(about, status),
        Some(rest) => Step::wait(Duration::try_from(rest).unwrap_or(Duration::from_secs(1))),
    }
}

pub(super) fn another_round(about: About<'_>, mut status: IncidentStatus) -> Step {
    let next = status.rounds.saturating_add(1);
    round::begin(about, &mut status, next);
    status.phase = IncidentPhase::Investigating;
    Step::write(vec![], status, Next::Again)
}

/// How healthy the target is by the controller's own reading; `None` when it could not be read.
fn health<'a>(about: About<'_>, case: &'a JudgementInputs) -> Option<(&'a Workload, Health)> {
    let workload = case.workload.as_ref().ok()?;
    let floor = SignedDuration::from_secs(about.terms.timings.known_good_seconds.into());
    Some((workload, known_good::health(workload, floor)))
}

/// A person approved exactly what was decided last.
fn is_approved(status: &IncidentStatus, case: &JudgementInputs) -> bool {
    let asked = status.decision.as_ref().filter(|decision| decision.outcome == DecisionOutcome::AwaitApproval);
    let digest = asked.and_then(|decision| decision.digest.as_ref());
    digest.is_some_and(|digest| case.books.approvals.iter().any(|approval| approval.digest == *digest))
}

/// Decides what follows from the latest round.
pub(super) fn step(about: About<'_>, mut status: IncidentStatus, case: &JudgementInputs) -> Step {
    let now = about.now;
    // What a person approved is what was decided; the age of its facts was asked then.
    let judge = if is_approved(&status, case) { gate::judge_again } else { gate::judge };
    let mut judgement = question::ask(about, &status, case, judge);
    let claimed = question::hold_to_claim(about, &status, case, &mut judgement);
    let Judgement { mut decision, mut reason, prediction, anomalies, charge, ungrounded, on_second_opinion } =
        judgement;
    status.reading = case.workload.as_ref().ok().map(Workload::summary);
    let waited = now.duration_since(status.times.planned.unwrap_or(now));
    let mut patience = SignedDuration::from_secs(about.terms.timings.evidence_wait_seconds.into());
    let undecided = matches!(decision.outcome, DecisionOutcome::Wait | DecisionOutcome::Escalate);
    match health(about, case) {
        Some((workload, Health::Good(_))) if undecided && !claimed => {
            let WorkloadFact { ready, desired, .. } = &workload.state;
            reason = Reason::NothingWrong;
            decision.outcome = DecisionOutcome::Resolve;
            decision.reason = reason.as_str().into();
            decision.message = format!(
                "{ready} of {desired} replicas are ready, no pod fails, and that has lasted for longer than it takes to \
                 fail again"
            );
        }
        Some((_, Health::Healthy { for_another })) if for_another <= LONGEST_PROOF => {
            patience = patience.max(waited + for_another);
        }
        _ => {}
    }
    if decision.outcome == DecisionOutcome::Wait && waited >= patience {
        decision.outcome = DecisionOutcome::Escalate;
        let message = format!("waited {} s: {}", waited.as_secs(), decision.message);
        decision.message = message.chars().take(gate::MAX_MESSAGE).collect();
    }
    let (outcome, message) = (decision.outcome, decision.message.clone());
    let storm = question::storm_claim(about, case, reason, &anomalies);
    let mut effects: Vec<Effect> = anomalies.into_iter().map(Effect::CountAnomaly).collect();
    if let Some(ungrounded) = &ungrounded {
        reroute::note(about, &mut status, ungrounded);
        // What waits, is over or is one of many needs no other answer.
        let decides =
            matches!(outcome, DecisionOutcome::Act | DecisionOutcome::AwaitApproval | DecisionOutcome::Escalate);
        if let Some(to) = reroute::stronger(&status, ungrounded).filter(|_| decides && storm.is_none()) {
            let to = to.to_owned();
            effects.push(reroute::note_begin(about, &mut status, ungrounded, &to));
            let Step { effects: _, status, after, next } = another_round(about, status);
            return Step { effects, status, after, next };
        }
    }
    if on_second_opinion
        && let Some(found) = case.investigation.as_ref().and_then(|it| it.status.as_ref())
        && let Some(opinion) = &found.second_opinion
    {
        status.diagnosis = Some(diagnosis::opinion(found, opinion));
    }
    effects.push(Effect::Measure(Measure::Decided(outcome.as_str(), reason)));
    if outcome != DecisionOutcome::Wait {
        let passed = decision.checks.iter().filter(|check| check.verdict == Verdict::Passed).count();
        let sentence =
            format!("{passed} of {} checks passed; {}: {reason}: {message}", decision.checks.len(), outcome.as_str());
        timeline::note(&mut status, now, Actor::Controller, Event::Judged, sentence);
        status.times.decided = Some(now);
    }
    status.decision = Some(decision);
    match (outcome, prediction) {
        (DecisionOutcome::Act, Some(prediction)) => {
            effects.extend(charge.map(Effect::Reserve));
            remediation::begin_repair(about, status, prediction, effects)
        }
        (DecisionOutcome::Wait, _) => Step::write(effects, status, Next::Again),
        (DecisionOutcome::AwaitApproval, _) => {
            let digest = status.decision.as_ref().and_then(|decision| decision.digest.clone()).unwrap_or_default();
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
