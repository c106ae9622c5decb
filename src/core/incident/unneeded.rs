//! A write that was decided, and a target that may not need it any more. Whoever reads that before the write, controller or
//! executor, it has one end: what the controller decides on its own reading.

use std::time::Duration;

use jiff::SignedDuration;

use crate::api::v1alpha1::{
    Decision, DecisionOutcome, IncidentStatus, Remediation, RemediationPhase, RemediationStatus,
};
use crate::core::{gate::Judgement, known_good::Health, reason::Reason};

use super::{About, Effect, Flight, JudgementInputs, Step, ending, judgement, outcome};

/// Until a target is looked at again whose health has to last.
const LOOK: Duration = Duration::from_secs(2);
/// Health is waited for so long after the decision at most: what an executor takes that claims again and again, and the
/// longest proof.
const PATIENCE: SignedDuration = SignedDuration::from_mins(15);

/// Whether the executor gave it up because of a reading that the controller has to look at itself: one that a repair waits on
/// before it is written, or one that ends an undo.
pub(super) fn is_reading(flight: Flight, state: &RemediationStatus) -> bool {
    let given_up = state.phase == RemediationPhase::Aborted && outcome::fired_at(state).is_none();
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
