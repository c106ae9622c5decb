//! The hard evidence that a rollback needs: each check looks at one reading of the workload, and nothing else.

use jiff::SignedDuration;

use crate::core::gate::check::{Check, EvidenceCheck};
use crate::core::gate::observed::Observed;
use crate::core::gate::outcome::{Outcome, not_asked, pass, refuse, unknown};
use crate::core::reason::Reason;
use crate::core::workload::{Revision, Workload};

/// A pod that was Ready for this long shows that its template works.
const STABLE: SignedDuration = SignedDuration::from_secs(60);
/// A container that ran for this long before it ended shows that its template works.
const LONG_RUN: SignedDuration = SignedDuration::from_mins(10);
/// A rollout is not blamed for an alert that began later than this after it.
const ROLLOUT_BLAMED_FOR: SignedDuration = SignedDuration::from_hours(1);

/// The evidence, in order.
pub const CHECKS: &[EvidenceCheck] = &[
    Check {
        name: "RolloutAutomatic",
        says: "With the update strategy OnDelete a changed template reaches no pod by itself, so a rollback alone \
               would repair nothing.",
        run: rollout_automatic,
    },
    Check {
        name: "RolloutNotPaused",
        says: "A paused rollout is left to whoever paused it: a changed template would not be rolled out.",
        run: rollout_not_paused,
    },
    Check {
        name: "CurrentRevisionRecorded",
        says: "The current template is recorded as a revision, so that there is a way back and something to compare.",
        run: current_revision_recorded,
    },
    Check {
        name: "FailingPodsRunCurrentRevision",
        says: "The pods that fail run the current template; what fails on another one is not cured by replacing it.",
        run: failing_pods_run_current_revision,
    },
    Check {
        name: "EarlierRevisionExists",
        says: "There is an earlier revision to return to.",
        run: earlier_revision_exists,
    },
    Check {
        name: "RevisionRecorded",
        says: "The revision to return to is recorded and is not the current one, so no template is ever invented.",
        run: revision_recorded,
    },
    Check {
        name: "TemplateDiffers",
        says: "The two templates differ in more than a restart, or returning would change nothing.",
        run: template_differs,
    },
    Check {
        name: "CurrentTemplateNeverWorked",
        says: "Nothing shows that the current template ever worked; where it did, what broke it lies outside of it.",
        run: current_template_never_worked,
    },
    Check {
        name: "RolloutRecent",
        says: "The alert began within an hour of the rollout; a rollout of long ago is not blamed.",
        run: rollout_recent,
    },
    Check {
        name: "EarlierRevisionHealthy",
        says: "The earlier revision has ready replicas now or was seen healthy, and no pod of it fails.",
        run: earlier_revision_healthy,
    },
];

/// The revision numbered `number`, if it is recorded and is not the current one.
pub fn earlier(workload: &Workload, number: i64) -> Option<&Revision> {
    workload.earlier().find(|revision| revision.fact.number == number)
}

/// Number of the revision that is proposed.
fn proposed(observed: &Observed<'_>) -> Option<i64> {
    observed.action.as_ref().and_then(super::to_revision)
}

/// The revision that the action returns to.
fn destination<'a>(observed: &Observed<'a>) -> Option<&'a Revision> {
    earlier(observed.workload, proposed(observed)?)
}

fn rollout_automatic(observed: &Observed<'_>) -> Outcome {
    if observed.workload.strategy.rolls_out() {
        pass("a changed template is rolled out")
    } else {
        refuse(
            Reason::UpdateStrategyOnDelete,
            "its update strategy is OnDelete: a changed template reaches a pod only when somebody deletes that pod",
        )
    }
}

fn rollout_not_paused(observed: &Observed<'_>) -> Outcome {
    if observed.workload.state.paused {
        refuse(Reason::RolloutPaused, "somebody paused the rollout; a changed template would not be rolled out")
    } else {
        pass("the rollout is not paused")
    }
}

fn current_revision_recorded(observed: &Observed<'_>) -> Outcome {
    match observed.workload.current() {
        Some(current) => pass(format!("the current template is revision {}", current.fact.number)),
        None => unknown(Reason::FailingPodsNotCurrent, "the current template is not recorded as a revision yet").wait(),
    }
}

fn failing_pods_run_current_revision(observed: &Observed<'_>) -> Outcome {
    let Some(current) = observed.workload.current() else { return not_asked("the current revision is not known") };
    let number = current.fact.number;
    match observed.failing().into_iter().find(|pod| pod.fact.revision != Some(number)) {
        Some(pod) => refuse(
            Reason::FailingPodsNotCurrent,
            format!("pod {} fails and does not run revision {number}, the current one", pod.object.name),
        ),
        None => pass(format!("all failing pods run revision {number}, the current one")),
    }
}

fn earlier_revision_exists(observed: &Observed<'_>) -> Outcome {
    match observed.workload.earlier().count() {
        0 => refuse(Reason::OnlyOneRevision, "only the current revision exists: there is nothing to return to"),
        1 => pass("1 earlier revision exists"),
        earlier => pass(format!("{earlier} earlier revisions exist")),
    }
}

fn revision_recorded(observed: &Observed<'_>) -> Outcome {
    if observed.workload.earlier().next().is_none() {
        return not_asked("there is no earlier revision");
    }
    match (proposed(observed), destination(observed)) {
        (_, Some(to)) => pass(format!("revision {} is recorded", to.fact.number)),
        (Some(number), None) => refuse(
            Reason::RevisionUnknown,
            format!("revision {number} is proposed and is not a recorded earlier revision"),
        )
        .anomaly(),
        (None, None) => refuse(Reason::NothingProposed, "no revision to return to is named"),
    }
}

fn template_differs(observed: &Observed<'_>) -> Outcome {
    let (Some(current), Some(to)) = (observed.workload.current(), destination(observed)) else {
        return not_asked("there are no two revisions to compare");
    };
    let diff = observed.workload.diff(to, current);
    if diff.restart_only || diff.changes.is_empty() {
        return refuse(
            Reason::TemplateUnchanged,
            format!("revisions {} and {} hold the same template: a rollback would help nothing", diff.from, diff.to),
        );
    }
    pass(format!("{} fields differ between revisions {} and {}", diff.changes.len(), diff.from, diff.to))
}

fn current_template_never_worked(observed: &Observed<'_>) -> Outcome {
    let Some(current) = observed.workload.current() else { return not_asked("the current revision is not known") };
    let number = current.fact.number;
    if let Some(mark) = observed.mark(&current.template_hash) {
        return refuse(
            Reason::TemplateUnchanged,
            format!("exactly this template was healthy at {}: what broke it is outside of it", mark.at),
        );
    }
    let read_at = observed.workload.read_at;
    let pods = || observed.workload.pods_of_revision(number);
    let ready_for_long = pods().find(|pod| {
        pod.fact.ready && pod.fact.ready_since.is_some_and(|since| read_at.duration_since(since) >= STABLE)
    });
    if let Some(pod) = ready_for_long {
        let name = &pod.object.name;
        return refuse(
            Reason::TemplateUnchanged,
            format!("pod {name} runs revision {number} and has been ready for a minute: the template can work"),
        );
    }
    if let Some(pod) = pods().find(|pod| pod.fact.ran_seconds.is_some_and(|ran| ran >= LONG_RUN.as_secs())) {
        let name = &pod.object.name;
        return refuse(
            Reason::TemplateUnchanged,
            format!("pod {name} ran revision {number} for ten minutes before it failed: the template can work"),
        );
    }
    pass(format!("revision {number} was never seen healthy"))
}

fn rollout_recent(observed: &Observed<'_>) -> Outcome {
    let Some(current) = observed.workload.current() else { return not_asked("the current revision is not known") };
    let Some(created) = current.fact.created_at else {
        return unknown(Reason::RolloutNotRecent, "the age of the current revision is unknown");
    };
    let Some(started) = observed.alert_started_at else {
        return pass(format!("the current revision was created at {created}; there is no alert to compare with"));
    };
    // Nobody vouches for the sender's clock: an alert that began "before" the rollout is measured by our own.
    let began = started.max(created);
    if began.duration_since(created) > ROLLOUT_BLAMED_FOR {
        return refuse(
            Reason::RolloutNotRecent,
            format!(
                "the current revision was created at {created}, the alert began at {began}: the rollout is too long \
                 ago to be blamed"
            ),
        );
    }
    pass(format!("the current revision was created at {created}"))
}

fn earlier_revision_healthy(observed: &Observed<'_>) -> Outcome {
    let Some(to) = destination(observed) else { return not_asked("there is no revision to return to") };
    let number = to.fact.number;
    let mut pods = observed.workload.pods_of_revision(number);
    if let Some(pod) = pods.find(|pod| pod.fact.failure.is_hard()) {
        let name = &pod.object.name;
        return refuse(Reason::EarlierRevisionUnproven, format!("pod {name} runs revision {number} and fails too"));
    }
    if to.fact.ready > 0 {
        return pass(format!("revision {number} has {} ready replicas now", to.fact.ready));
    }
    if observed.known_good.is_none() {
        return pass(format!("no pod of revision {number} fails; whether it was seen healthy the controller knows"));
    }
    match observed.mark(&to.template_hash).filter(|mark| mark.revision_uid == to.object.uid) {
        Some(mark) => pass(format!("revision {number} was seen healthy at {}", mark.at)),
        None => refuse(
            Reason::EarlierRevisionUnproven,
            format!("nothing shows that revision {number} was ever healthy: no ready replica, no mark"),
        ),
    }
}
