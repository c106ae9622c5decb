//! AwaitingApproval: wait for people, or for the alert to end.

use std::time::Duration;

use jiff::SignedDuration;

use crate::api::v1alpha1::{IncidentPhase, IncidentStatus};
use crate::core::{approvals::Standing, gate::ValidApproval, reason::Reason};

use super::{About, Next, Step, asking::Who, ending, judgement};

/// Interval at which Approvals are polled; a watch reports them earlier.
const LOOK: Duration = Duration::from_secs(10);

/// So many parts has the time to approve: after each but the last, people are asked again.
const PARTS: i32 = 3;

/// For so long the names of alerts that join are gathered before people are asked again: one seldom comes alone.
const MORE: SignedDuration = SignedDuration::from_mins(1);

/// What joined since people were asked makes another question of it: it is worse, or something else is wrong too.
fn is_news(about: About<'_>, status: &IncidentStatus, since: SignedDuration) -> bool {
    let Some(asked) = &status.decision else { return false };
    let worse = asked.severity.is_some_and(|severity| about.incident.spec.severity > severity);
    let more = asked.alertnames.is_some_and(|number| judgement::alertnames(about.incident) > number);
    worse || (more && since >= MORE)
}

/// Once the Approvals are there, the checks are evaluated again on a new reading: the cluster may have changed since they
/// were asked for. Nobody is asked for a diagnosis again: what was approved is the action that this one proposes, and a model
/// that answers differently the second time would make the Approvals void.
///
/// While they are not there, the checks are evaluated again too, before people are reminded: they are asked for what would be
/// written now. Another value before is another digest, and needs new Approvals. The same where an alert has joined that is
/// worse or new: people hear of it at once.
pub(super) fn step(about: About<'_>, mut status: IncidentStatus, firing: bool, approvals: &[ValidApproval]) -> Step {
    let now = about.now;
    let standing = judgement::standing(&status, approvals);
    if let Some(Standing::Denied(who)) = &standing {
        let message = format!("{who} denied exactly what was proposed");
        return ending::escalate(about, status, Reason::ApprovalDenied, &message);
    }
    let decided = status.times.decided.unwrap_or(now);
    let asked = status.times.approval_asked.unwrap_or(decided);
    let patience = SignedDuration::from_secs(about.terms.timings.approval_timeout_seconds.into());
    // What was approved in time, and hindered since, is judged a last time: what hinders it is why it ends.
    let hindered = matches!(standing, Some(Standing::Approved(_))) && !status.message.is_empty();
    if now.duration_since(asked) > patience && !hindered {
        let who = match standing {
            Some(Standing::Missing(who)) => who,
            _ => "nobody approved".to_owned(),
        };
        let hindered = match status.message.as_str() {
            "" => String::new(),
            message => format!(". In the end it could not be judged: {message}"),
        };
        let message = format!("not approved within {} s: {who}{hindered}", patience.as_secs());
        return ending::escalate(about, status, Reason::ApprovalTimeout, &message);
    }
    if !firing {
        // Whether the target is well too is for the next round to see. That an alert ended is no news about the target: the
        // models are asked again only if that round sees some.
        return judgement::another_round(about, status, Who::Rules);
    }
    let approved = matches!(standing, Some(Standing::Approved(_)));
    let since = now.duration_since(decided);
    if !approved && since <= patience / PARTS && !is_news(about, &status, since) {
        return Step::wait(LOOK);
    }
    status.phase = IncidentPhase::Judging;
    Step::write(vec![], status, Next::Again)
}
