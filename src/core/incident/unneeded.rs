//! A write that was decided, and a target that may not need it any more. Whoever reads that before the write, controller or
//! executor, it has one end: what the controller decides on its own reading.

use std::time::Duration;

use jiff::SignedDuration;

use crate::api::v1alpha1::{
    Decision, DecisionOutcome, IncidentStatus, LedgerState, Remediation, RemediationPhase, RemediationStatus,
};
use crate::core::{gate::Judgement, known_good::Health, reason::Reason};

use super::{About, Effect, Flight, JudgementInputs, Step, WriteAndJudgement, ending, judgement, write};

/// Until a target is looked at again whose health has to last.
const LOOK: Duration = Duration::from_secs(2);
/// A target that is no repair's any more is looked at for so long after the decision: what an executor takes that claims
/// again and again, and the longest health that is waited for.
const PATIENCE: SignedDuration = SignedDuration::from_mins(15);

/// Whether the executor gave it up because of a reading that the controller has to look at itself: one that a repair waits on
/// before it is written, or one that ends an undo.
pub(super) fn is_reading(flight: Flight, state: &RemediationStatus) -> bool {
    let given_up = state.phase == RemediationPhase::Aborted && write::fired_at(state).is_none();
    given_up
        && match (flight, Reason::named(&state.reason)) {
            (
                Flight::Repair,
                Some(
                    Reason::NothingFails
                    | Reason::ReplicasNotReady
                    | Reason::RolloutUnderWay
                    | Reason::FailingPodsNotCurrent
                    // It waited as long as the controller did.
                    | Reason::NoGrant,
                ),
            ) => true,
            (Flight::Undo, Some(Reason::Recovered)) => true,
            (Flight::Repair | Flight::Undo | Flight::Replacement, _) => false,
        }
}

/// The pod that was to be evicted went or healed by itself, whoever reads it: the repair is verified on.
pub(super) fn is_eviction(reason: Reason) -> bool {
    matches!(reason, Reason::TargetGone | Reason::NothingFails)
}

/// Keeps in the status which eviction the executor gave up, so that the same is not begun a second time.
pub(super) fn note_eviction(
    about: About<'_>,
    status: &mut IncidentStatus,
    remediation: &Remediation,
    reason: Reason,
    message: &str,
) {
    let id = Some(&remediation.spec.action_id);
    if status.follow_up.as_ref().and_then(|decision| decision.action_id.as_ref()) == id {
        return;
    }
    status.follow_up = Some(Box::new(Decision {
        outcome: DecisionOutcome::Wait,
        reason: reason.as_str().into(),
        message: message.to_owned(),
        action_id: id.cloned(),
        decided_at: about.now,
        ..Decision::default()
    }));
}

/// Takes in what [`is_reading`], on the controller's own reading. What that does not show is handed over as the executor said it.
pub(super) fn given_up(
    about: About<'_>,
    mut status: IncidentStatus,
    flight: Flight,
    remediation: &Remediation,
    state: &RemediationStatus,
    found: &WriteAndJudgement,
) -> Step {
    let case = &found.case;
    let unreadable = case.workload.as_ref().is_err_and(|error| error.reason == Reason::ClusterUnreadable);
    if unreadable && !write::is_overdue(about, &status) {
        return Step::wait(LOOK);
    }
    let effects = write::settle(remediation, state, LedgerState::Refunded);
    let Some(judgement) = write::decided_again(about, &status, flight, found) else {
        return write::aborted(about, status, flight, remediation, state);
    };
    if flight != Flight::Repair {
        status.follow_up = Some(Box::new(judgement.decision.clone()));
    }
    if judgement.decision.outcome == DecisionOutcome::Resolve {
        return resolve(about, status, flight, &judgement, effects);
    }
    if flight == Flight::Repair
        && let Some(step) = repair(about, &status, case, &judgement, effects)
    {
        return step;
    }
    write::aborted(about, status, flight, remediation, state)
}

/// It recovered by itself.
pub(super) fn resolve(
    about: About<'_>,
    status: IncidentStatus,
    flight: Flight,
    judgement: &Judgement,
    effects: Vec<Effect>,
) -> Step {
    let before = if flight == Flight::Undo { "the repair was undone" } else { "anything was written" };
    let message = format!("it recovered before {before}: {}", judgement.decision.message);
    ending::resolve(about, status, judgement.reason, &message, effects)
}

/// What becomes of a repair that is not written because of `judgement`, where the target is healthy: nothing is wrong with it
/// once that has lasted for longer than it takes to fail again, and until then it is waited for. `None` where it is not healthy,
/// or its health would have to last too long.
pub(super) fn repair(
    about: About<'_>,
    status: &IncidentStatus,
    case: &JudgementInputs,
    judgement: &Judgement,
    effects: Vec<Effect>,
) -> Option<Step> {
    let undecided = matches!(judgement.decision.outcome, DecisionOutcome::Wait | DecisionOutcome::Escalate);
    // Who claimed to tell of a storm tells of it.
    if !undecided || judgement.reason == Reason::Storm {
        return None;
    }
    let since = status.times.decided.unwrap_or(about.now);
    match judgement::health(about, case)? {
        (workload, Health::Good(_)) => {
            let mut status = status.clone();
            // No claim of it was written: the target would show it.
            status.grant_epoch = None;
            let message = format!("{}. Nothing was written", judgement::well(workload));
            Some(ending::resolve(about, status, Reason::NothingWrong, &message, effects))
        }
        (_, Health::Healthy { for_another })
            if for_another <= judgement::LONGEST_PROOF && about.now.duration_since(since) < PATIENCE =>
        {
            Some(Step::wait(LOOK))
        }
        (_, Health::Healthy { .. } | Health::NotHealthy) => None,
    }
}
