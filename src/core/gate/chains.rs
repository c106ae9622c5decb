//! The registry: every chain with its checks, in order. The plan, the documents and the tests ask here.

use crate::api::v1alpha1::ActionKind;
use crate::core::actions;
use crate::core::reason::Reason;

use super::case::Case;
use super::check::Check;
use super::outcome::{Effect, Outcome, not_asked, pass, refuse, unknown};
use super::readable::{Precondition, Readable, ReadableCheck};
use super::{bounds, evidence, follow, quality};

/// Before the target is known to be readable: where one of these refuses, no other check is asked.
pub const PRECONDITIONS: &[Precondition] = &[
    Check { name: "TargetResolved", says: "The alert names exactly one object that exists.", run: target_resolved },
    Check {
        name: "TargetReadable",
        says: "The controller could read the target; what cannot be read is neither healthy nor written to.",
        run: target_readable,
    },
    Check {
        name: "SameTarget",
        says: "The object that was read is the one that the alert was about, by UID; a recreated one is another object.",
        run: same_target,
    },
];

/// What the alert itself still says.
pub const ALERT: &[ReadableCheck] =
    &[Check { name: "AlertFiring", says: "An alert of the incident is still firing.", run: alert_firing }];

fn target_resolved(case: &Case<'_>) -> Outcome {
    match &case.target {
        Ok(target) => pass(format!("the alert is about {target}")),
        Err(why) => refuse(why.reason, why.message.clone()).ends_wait(),
    }
}

fn target_readable(case: &Case<'_>) -> Outcome {
    match (&case.target, &case.cluster.workload) {
        (Err(_), _) => not_asked("there is no target to read"),
        (Ok(_), Ok(workload)) => pass(format!("read at {}", workload.read_at)),
        // One request that failed: the next reading may show it. What is gone or unknown does not come back.
        (Ok(_), Err(why)) if why.reason == Reason::ClusterUnreadable => unknown(why.reason, why.message.clone()).wait(),
        (Ok(_), Err(why)) => unknown(why.reason, why.message.clone()).ends_wait(),
    }
}

fn same_target(case: &Case<'_>) -> Outcome {
    match (&case.target, &case.cluster.workload) {
        (Ok(target), Ok(workload)) if target.uid == workload.object.uid => pass(format!("{target} is the same object")),
        (Ok(target), Ok(_)) => {
            refuse(Reason::TargetGone, format!("{target} was recreated since the alert")).ends_wait()
        }
        _ => not_asked("there is no reading of a target"),
    }
}

fn alert_firing(readable: &Readable<'_>) -> Outcome {
    if readable.case.alerts.firing {
        pass("an alert of the incident is firing")
    } else if readable.workload().is_broken() {
        // Whoever may change an Alert, or delete it, does not end what this reading shows.
        let failing = readable.workload().failing_pods().count();
        let message = format!("every alert of the incident has ended, but the target fails: {failing} pods fail");
        refuse(Reason::StillFailing, message).wait()
    } else {
        refuse(Reason::AlertResolved, "every alert of the incident has ended").with(Effect::Resolve)
    }
}

/// A chain, for the plan, the documents and the tests.
pub struct Chain {
    /// Its name.
    pub name: &'static str,
    /// The action that it is about; absent for those that are the same for every action.
    pub action: Option<ActionKind>,
    /// What it decides, in one sentence.
    pub says: &'static str,
    /// Names and sentences of its checks, in order.
    pub checks: Vec<(&'static str, &'static str)>,
}

/// Every chain. That of a repair is given for each action.
pub fn all() -> Vec<Chain> {
    let mut chains: Vec<Chain> = ActionKind::ALL.iter().map(|kind| repair(*kind)).collect();
    chains.push(Chain {
        name: "Undo",
        action: None,
        says: "Whether the controller lets a repair that did not help be taken back.",
        checks: [
            listed(PRECONDITIONS),
            listed(follow::UNDO),
            listed(follow::UNDO_BOUNDS),
            listed(follow::FOLLOW_BOUNDS),
        ]
        .concat(),
    });
    chains.push(Chain {
        name: "ReplacePod",
        action: None,
        says: "Whether the controller lets a pod that keeps a repair from being rolled out be evicted.",
        checks: [listed(PRECONDITIONS), listed(follow::REPLACE_POD), listed(follow::FOLLOW_BOUNDS)].concat(),
    });
    for kind in ActionKind::ALL {
        let evidence = [listed(evidence::COMMON), listed(actions::of(*kind).evidence), listed(evidence::RULES)];
        chains.push(Chain {
            name: "Executor, repair",
            action: Some(*kind),
            says: "What the executor asks of its own reading before it arms a repair.",
            checks: [listed(follow::OWN), listed(follow::OWN_REPAIR), evidence.concat()].concat(),
        });
    }
    chains.push(Chain {
        name: "Executor, undo",
        action: None,
        says: "What the executor asks of its own reading before it takes a repair back.",
        checks: [listed(follow::OWN), listed(follow::UNDO)].concat(),
    });
    chains.push(Chain {
        name: "Executor, replace pod",
        action: None,
        says: "What the executor asks of its own reading before it evicts a pod.",
        checks: [listed(follow::OWN), listed(follow::REPLACE_POD)].concat(),
    });
    chains
}

/// The chain of a repair by this action.
pub fn repair(kind: ActionKind) -> Chain {
    let checks = [
        listed(PRECONDITIONS),
        listed(ALERT),
        listed(evidence::COMMON),
        listed(actions::of(kind).evidence),
        listed(actions::of(kind).looked_up),
        listed(evidence::RULES),
        listed(quality::QUALITY),
        listed(quality::FRESHNESS),
        listed(bounds::BOUNDS),
    ];
    Chain {
        name: kind.as_str(),
        action: Some(kind),
        says: "Whether the controller lets this action repair a target.",
        checks: checks.concat(),
    }
}

/// Names of the checks before any repair, for the plan: those of every action, in order.
pub fn check_names() -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for kind in ActionKind::ALL {
        for (name, _) in repair(*kind).checks {
            if !names.iter().any(|known| known == name) {
                names.push(name.to_string());
            }
        }
    }
    names
}

fn listed<F>(checks: &[Check<F>]) -> Vec<(&'static str, &'static str)> {
    checks.iter().map(|check| (check.name, check.says)).collect()
}
