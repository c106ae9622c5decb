//! Which write is still under way when an incident ends.

use crate::api::v1alpha1::{IncidentPhase, IncidentStatus};

use super::{Effect, Entry, Flight};

/// Kind of the record of a Remediation that ended.
pub(super) const ENDED: &str = "RemediationEnded";

/// Notes in a status that is about to be final which Remediation is still under way. `effects` are those of the end.
pub(super) fn keep(status: &mut IncidentStatus, effects: &[Effect]) {
    let recorded = |effect: &Effect| matches!(effect, Effect::AuditAfter(Entry { kind, .. }) if *kind == ENDED);
    let flying = match status.phase {
        IncidentPhase::Remediating => &status.remediation,
        IncidentPhase::Verifying => &status.replacement,
        IncidentPhase::Undoing => &status.undo,
        // It is over, and something else was settled or told.
        IncidentPhase::Resolved | IncidentPhase::Escalated => &status.unsettled,
        _ => &None,
    };
    status.unsettled = if effects.iter().any(recorded) { None } else { flying.clone() };
}

/// Which write of an incident that is over has no known outcome.
pub(super) fn flight(status: &IncidentStatus) -> Option<Flight> {
    let name = status.unsettled.as_ref().filter(|_| status.phase.is_final())?;
    [(&status.undo, Flight::Undo), (&status.replacement, Flight::Replacement), (&status.remediation, Flight::Repair)]
        .into_iter()
        .find_map(|(of, flight)| (of.as_ref() == Some(name)).then_some(flight))
}
