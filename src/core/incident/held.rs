//! What people were asked, or have approved, while something hinders that it is judged: it is kept, and looked at again.

use std::time::Duration;

use jiff::SignedDuration;

use crate::api::v1alpha1::{DecisionOutcome, IncidentPhase, IncidentStatus};
use crate::core::{gate, reason::Reason};

use super::{About, Effect, Next, Step};

/// Until what hinders is looked at again.
const LOOK: Duration = Duration::from_secs(10);

/// People were asked, or have approved, and there is time left: what may pass is waited for.
pub(super) fn holds_on(about: About<'_>, status: &IncidentStatus) -> bool {
    let asks = status.decision.as_ref().is_some_and(|it| it.outcome == DecisionOutcome::AwaitApproval);
    let patience = SignedDuration::from_secs(about.terms.timings.approval_timeout_seconds.into());
    let asked = status.times.approval_asked.or(status.times.decided);
    asks && asked.is_some_and(|asked| about.now.duration_since(asked) <= patience)
}

/// Keeps what people were asked, with what they answered, and says what hinders it now.
pub(super) fn look_again(mut status: IncidentStatus, reason: Reason, message: &str, effects: Vec<Effect>) -> Step {
    status.phase = IncidentPhase::AwaitingApproval;
    status.reason = reason.as_str().into();
    status.message = message.chars().take(gate::MAX_MESSAGE).collect();
    Step::write(effects, status, Next::After(LOOK))
}
