//! Judging: evaluate the checks, charge the budgets, and create the Remediation.

use std::time::Duration;

use jiff::SignedDuration;

use crate::api::v1alpha1::{Actor, DecisionOutcome, IncidentPhase, IncidentStatus, Time, Verdict};
use crate::core::{
    gate::{self, Judgement},
    timeline::{self, Event},
};

use super::{About, Case, Effect, Measure, Need, Next, Notice, Step, ending, question, remediation, round};

/// Pause between two rounds.
const PAUSE: SignedDuration = SignedDuration::from_secs(4);

/// How long the decision to wait still holds; `None` when there is none of this round.
fn waiting(status: &IncidentStatus, now: Time) -> Option<SignedDuration> {
    let decision = status.decision.as_ref().filter(|decision| decision.outcome == DecisionOutcome::Wait)?;
    let of_this_round = status.times.diagnosed.is_some_and(|diagnosed| decision.decided_at >= diagnosed);
    of_this_round.then(|| (PAUSE - now.duration_since(decision.decided_at)).max(SignedDuration::ZERO))
}

pub(super) fn need(status: &IncidentStatus, now: Time) -> Need {
    if waiting(status, now).is_some() { Need::Nothing } else { Need::Case }
}

/// It was decided to wait: pause, then look again.
pub(super) fn pause(about: About<'_>, status: IncidentStatus) -> Step {
    match waiting(&status, about.now) {
        None => Step::look(Need::Case),
        Some(rest) if rest.is_zero() => another_round(about, status),
        // Never longer than the pause, whatever a clock did in between.
        Some(rest) => Step::wait(Duration::try_from(rest.min(PAUSE)).unwrap_or(Duration::from_secs(1))),
    }
}

pub(super) fn another_round(about: About<'_>, mut status: IncidentStatus) -> Step {
    let next = status.rounds.saturating_add(1);
    round::begin(about, &mut status, next);
    status.phase = IncidentPhase::Investigating;
    Step::write(vec![], status, Next::Again)
}

/// Decides what follows from the latest round.
pub(super) fn step(about: About<'_>, mut status: IncidentStatus, case: &Case) -> Step {
    let now = about.now;
    let Judgement { mut decision, reason, prediction, anomalies, charge } =
        question::ask(about, &status, case, gate::judge);
    let waited = now.duration_since(status.times.planned.unwrap_or(now));
    let patience = SignedDuration::from_secs(about.terms.timings.evidence_wait_seconds.into());
    if decision.outcome == DecisionOutcome::Wait && waited >= patience {
        decision.outcome = DecisionOutcome::Escalate;
        let message = format!("waited {} s: {}", waited.as_secs(), decision.message);
        decision.message = message.chars().take(gate::MAX_MESSAGE).collect();
    }
    let (outcome, message) = (decision.outcome, decision.message.clone());
    let mut effects: Vec<Effect> = anomalies.into_iter().map(Effect::CountAnomaly).collect();
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
            Step::write(effects, status, Next::Again).then(Effect::Tell(Notice::ApprovalAsked))
        }
        (DecisionOutcome::Resolve, _) => ending::resolve(about, status, reason, &message, effects),
        (DecisionOutcome::Escalate | DecisionOutcome::Act, _) => {
            ending::escalate_after(about, status, reason, &message, effects)
        }
    }
}
