//! An incident that is over, and a write whose outcome was not known when it ended. What turns out to have happened is
//! booked, recorded and told; nothing is verified or taken back any more.

use std::time::Duration;

use jiff::SignedDuration;

use crate::api::v1alpha1::{Actor, IncidentStatus, LedgerState, Remediation, RemediationPhase, RemediationStatus};
use crate::core::{
    actions,
    reason::Reason,
    timeline::{self, Event},
};

use super::{About, Effect, Flight, IDLE, Measure, Need, Next, Step, ending, outcome, telling};

/// Until it is looked at again; a watch reports a change earlier.
const LOOK: Duration = Duration::from_secs(60);
/// How long it is looked at without being told of a change.
const PATIENCE: SignedDuration = SignedDuration::from_hours(1);

/// Looks once.
pub(super) fn step(about: About<'_>, mut status: IncidentStatus, flight: Flight, found: Option<&Remediation>) -> Step {
    let Some(remediation) = found else {
        // It was deleted: nothing will tell.
        status.unsettled = None;
        return Step::write(vec![], status, Next::Again);
    };
    let state = remediation.status.clone().unwrap_or_default();
    let effects = |book| outcome::settle(remediation, &state, book);
    match state.phase {
        // What is watched is looked at meanwhile.
        RemediationPhase::Pending | RemediationPhase::Claimed if status.is_watched() => Step::look(Need::Watch),
        RemediationPhase::Pending | RemediationPhase::Claimed => {
            let ended = status.times.ended.unwrap_or(about.now);
            let look = if about.now.duration_since(ended) < PATIENCE { LOOK } else { IDLE };
            Step::wait(look.min(telling::pause(&status, about.now)))
        }
        RemediationPhase::Aborted if outcome::fired_at(&state).is_none() => {
            status.unsettled = None;
            // It counted as made until now.
            Step::write(effects(LedgerState::Refunded), status, Next::Again)
        }
        RemediationPhase::Fired | RemediationPhase::Aborted | RemediationPhase::Unproven => {
            written(about, status, flight, remediation, &state, effects(LedgerState::Spent))
        }
    }
}

fn written(
    about: About<'_>,
    mut status: IncidentStatus,
    flight: Flight,
    remediation: &Remediation,
    state: &RemediationStatus,
    effects: Vec<Effect>,
) -> Step {
    let spec = &remediation.spec;
    let what = match flight {
        Flight::Repair => format!("{} of {}", (actions::of(spec.action.kind()).describe)(&spec.action), spec.target),
        Flight::Undo => format!("the undo of the repair of {}", spec.target),
        Flight::Replacement => format!("the eviction of {}", outcome::pod_of(remediation)),
    };
    let (reason, what) = if outcome::is_proven(state) {
        (Reason::WrittenLate, format!("{what} was written after the incident had ended"))
    } else {
        (Reason::WriteUnproven, format!("{what} may have been written after the incident had ended"))
    };
    let message = format!(
        "{what}. It is neither verified nor taken back: look at it. The incident had ended with {}: {}",
        status.reason, status.message
    );
    timeline::note(&mut status, about.now, Actor::Executor, Event::Fired, what);
    if let Some(watch) = &mut status.watch {
        watch.over.get_or_insert(about.now);
    }
    let mut step = ending::escalate_after(about, status, reason, &message, effects);
    // It has ended once.
    step.after.retain(|effect| !matches!(effect, Effect::Measure(Measure::Ended(_))));
    step
}
