//! AwaitingApproval: wait for a person, or for the alert to end.

use std::time::Duration;

use jiff::SignedDuration;

use crate::api::v1alpha1::{IncidentPhase, IncidentStatus};
use crate::core::{gate::ValidApproval, reason::Reason};

use super::{About, Next, Step, asking::Who, ending, judgement};

/// Interval at which Approvals are polled; a watch reports them earlier.
const LOOK: Duration = Duration::from_secs(10);

/// Once the Approval is there, the checks are evaluated again on a new reading: the cluster may have changed since it was
/// asked for. Nobody is asked for a diagnosis again: what was approved is the action that this one proposes, and a model
/// that answers differently the second time would make the Approval void.
pub(super) fn step(about: About<'_>, mut status: IncidentStatus, firing: bool, approvals: &[ValidApproval]) -> Step {
    let asked = status.times.decided.unwrap_or(about.now);
    let patience = SignedDuration::from_secs(about.terms.timings.approval_timeout_seconds.into());
    if about.now.duration_since(asked) > patience {
        let message = format!("nobody approved within {} s", patience.as_secs());
        return ending::escalate(about, status, Reason::ApprovalTimeout, &message);
    }
    if !firing {
        // Whether the target is well too is for the next round to see. That an alert ended is no news about the target: the
        // models are asked again only if that round sees some.
        return judgement::another_round(about, status, Who::Rules);
    }
    let digest = status.decision.as_ref().and_then(|decision| decision.digest.as_ref());
    if !approvals.iter().any(|approval| Some(&approval.digest) == digest) {
        return Step::wait(LOOK);
    }
    status.phase = IncidentPhase::Judging;
    Step::write(vec![], status, Next::Again)
}
