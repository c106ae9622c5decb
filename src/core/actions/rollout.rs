//! What every action asks that changes a pod template and lets the workload's controller roll it out.

use crate::core::gate::check::{Check, EvidenceCheck};
use crate::core::gate::observed::Observed;
use crate::core::gate::outcome::{Outcome, not_asked, pass, refuse, unknown};
use crate::core::reason::Reason;

/// A changed template reaches the pods without anybody's help.
pub const AUTOMATIC: EvidenceCheck = Check {
    name: "RolloutAutomatic",
    says: "With the update strategy OnDelete a changed template reaches no pod by itself, so the write alone would \
           repair nothing.",
    run: rollout_automatic,
};
/// Nobody stopped the rollout.
pub const NOT_PAUSED: EvidenceCheck = Check {
    name: "RolloutNotPaused",
    says: "A paused rollout is left to whoever paused it: a changed template would not be rolled out.",
    run: rollout_not_paused,
};
/// The template that is to be changed is one of the recorded revisions.
pub const CURRENT_RECORDED: EvidenceCheck = Check {
    name: "CurrentRevisionRecorded",
    says: "The current template is recorded as a revision, so that there is a way back and something to compare.",
    run: current_revision_recorded,
};
/// What fails runs the template that is to be changed.
pub const FAILING_RUN_CURRENT: EvidenceCheck = Check {
    name: "FailingPodsRunCurrentRevision",
    says: "The pods that fail run the current template; what fails on another one is not cured by replacing it.",
    run: failing_pods_run_current_revision,
};

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
            .ends_wait()
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
        None => match observed.workload.earlier().find(|revision| revision.fact.refused.is_some()) {
            Some(other) => refuse(
                Reason::FailingPodsNotCurrent,
                format!("pods of revision {} are refused, and {number} is the current one", other.fact.number),
            ),
            None => pass(format!("all that fails is of revision {number}, the current one")),
        },
    }
}
