//! The hard evidence that a rollback needs: each check looks at one reading of the workload, and nothing else.

use jiff::SignedDuration;

use crate::api::v1alpha1::{PodFailure, Reference, ReferenceKind, Time};
use crate::core::actions::rollout;
use crate::core::gate::check::{Check, EvidenceCheck};
use crate::core::gate::observed::Observed;
use crate::core::gate::outcome::{Outcome, not_asked, pass, refuse, unknown};
use crate::core::reason::Reason;
use crate::core::redact;
use crate::core::workload::{
    Presence, Proof, Revision, TOGETHER_SECONDS, Unexplained, Workload, configuration_can_cause, is_looked_up,
    only_configuration, proof,
};

/// A rollout is not blamed for an alert that began later than this after it.
const ROLLOUT_BLAMED_FOR: SignedDuration = SignedDuration::from_hours(1);

/// The evidence, in order.
pub const CHECKS: &[EvidenceCheck] = &[
    rollout::AUTOMATIC,
    rollout::NOT_PAUSED,
    rollout::CURRENT_RECORDED,
    rollout::FAILING_RUN_CURRENT,
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
        says: "The two templates differ in more than a restart or a hash of configuration, or returning would change nothing.",
        run: template_differs,
    },
    Check {
        name: "ChangeExplainsFailure",
        says: "Fields that differ between the two templates explain how the pods fail; what no change explains is not \
               cured by taking it back.",
        run: change_explains_failure,
    },
    Check {
        name: "CurrentTemplateNeverWorked",
        says: "Nothing shows that the current template ever worked; where it did, what broke it lies outside of it.",
        run: current_template_never_worked,
    },
    Check {
        name: "RolloutRecent",
        says: "When the rollout began is known, and an alert, where one is known, began within an hour of it; an older rollout is \
               not blamed.",
        run: rollout_recent,
    },
    Check {
        name: "EarlierRevisionHealthy",
        says: "The earlier revision has ready replicas now or was seen healthy, and no pod of it fails.",
        run: earlier_revision_healthy,
    },
    Check {
        name: "EarlierTemplateCanStart",
        says: "Everything that the earlier template needs exists; what cannot be known counts if a pod that needs it runs now.",
        run: earlier_template_can_start,
    },
];

/// The evidence that the controller alone can look up, in order.
pub const LOOKED_UP: &[EvidenceCheck] = &[Check {
    name: "ConfigurationApart",
    says: "No ConfigMap that both templates name changed within ten minutes of the rollout, unless the earlier one ran with \
           it; else a person approves it.",
    run: configuration_apart,
}];

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
        .ungrounded(),
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
    if only_configuration(&diff.changes) {
        return refuse(
            Reason::TemplateUnchanged,
            format!(
                "revisions {} and {} differ in a hash of their configuration only: a rollback would bring none of it back",
                diff.from, diff.to
            ),
        );
    }
    pass(format!("{} fields differ between revisions {} and {}", diff.changes.len(), diff.from, diff.to))
}

fn change_explains_failure(observed: &Observed<'_>) -> Outcome {
    let (Some(current), Some(to)) = (observed.workload.current(), destination(observed)) else {
        return not_asked("there are no two revisions to compare");
    };
    if !observed.workload.fails() {
        return not_asked("nothing fails");
    }
    let changes = observed.workload.diff(to, current).changes;
    if changes.is_empty() || only_configuration(&changes) {
        return not_asked("the templates do not differ");
    }
    let (from, number) = (current.fact.number, to.fact.number);
    match observed.workload.explained(to, &changes) {
        Ok(found) => {
            let paths: Vec<String> = found.iter().map(|change| redact::path(&change.path)).take(3).collect();
            pass(format!("what revision {from} changed explains it: {}", paths.join(", ")))
        }
        Err((failure, why)) => unexplained(failure, &why, number),
    }
}

fn unexplained(failure: PodFailure, why: &Unexplained, to: i64) -> Outcome {
    match why {
        Unexplained::Injected(container) => refuse(
            Reason::FailureUnexplained,
            format!("container {container} fails and is not in the template: something adds it to the pods"),
        ),
        Unexplained::Shared(missing) => refuse(
            Reason::ReferenceMissing,
            format!("{} does not exist, and revision {to} needs it too", named(missing)),
        ),
        Unexplained::Outside => {
            refuse(Reason::FailureUnexplained, format!("{failure:?}: what is in the way is outside of the template"))
        }
        Unexplained::OtherFields => refuse(
            Reason::FailureUnexplained,
            format!("{failure:?}: no field that it depends on differs from revision {to}"),
        ),
    }
}

fn named(reference: &Reference) -> String {
    let Reference { kind, name, key } = reference;
    let key = key.as_ref().map(|key| format!("key {key} of ")).unwrap_or_default();
    format!("{key}{} {name}", kind.as_str())
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
    let pods = observed.workload.pods_of_revision(number);
    let proven = pods.filter_map(|pod| Some((&pod.object.name, proof(&pod.fact, read_at)?))).next();
    if let Some((name, proof)) = proven {
        let what = match proof {
            Proof::Ready(since) => format!("has been ready for {since} s"),
            Proof::Ran(ran) => format!("had a container that ran for {ran} s before it failed"),
            Proof::WasReady(after) => format!("was ready until {after} s after it was created"),
        };
        return refuse(
            Reason::TemplateUnchanged,
            format!("pod {name} runs revision {number} and {what}: the template can work"),
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

fn earlier_template_can_start(observed: &Observed<'_>) -> Outcome {
    let Some(to) = destination(observed) else { return not_asked("there is no revision to return to") };
    let (number, needed) = (to.fact.number, &to.fact.references);
    let runs = observed.workload.pods_of_revision(number).any(|pod| pod.fact.ready);
    for reference in needed {
        let looked = |kind| observed.presence.filter(|_| is_looked_up(kind));
        let exists = match looked(reference.kind) {
            // Whoever cannot look leaves it to the controller, which does.
            None if is_looked_up(reference.kind) => continue,
            None => None,
            Some(found) => found
                .iter()
                .find(|found| found.kind == reference.kind && found.name == reference.name)
                .and_then(|found| found.exists),
        };
        match exists {
            Some(true) => {}
            Some(false) => {
                return refuse(
                    Reason::ReferenceMissing,
                    format!("revision {number} needs {}, which does not exist", named(reference)),
                );
            }
            None if runs || is_in_use(observed.workload, reference) => {}
            None => {
                return unknown(
                    Reason::ReferenceMissing,
                    format!(
                        "revision {number} needs {}, and neither a pod of it that runs nor a reading shows that it exists",
                        named(reference)
                    ),
                );
            }
        }
    }
    match needed.len() {
        0 => pass(format!("revision {number} needs no other object")),
        count => pass(format!("revision {number} needs {count} other objects, and each exists or is in use now")),
    }
}

/// A release that changes a ConfigMap and the template at once may be broken by either. Pods of the earlier revision that run
/// since before read the old data, so that they prove nothing of the new, and a rollback brings none of it back. Which of
/// the two it was is for a person to say.
fn configuration_apart(observed: &Observed<'_>) -> Outcome {
    let (Some(current), Some(to)) = (observed.workload.current(), destination(observed)) else {
        return not_asked("there are no two revisions to compare");
    };
    let Some(created) = current.fact.created_at else { return not_asked("the age of the current revision is unknown") };
    if !observed.failing().iter().any(|pod| configuration_can_cause(pod.fact.failure)) {
        return pass("no data of a ConfigMap makes pods fail in this way");
    }
    let (number, to_number) = (current.fact.number, to.fact.number);
    let working = observed.workload.pods_of_revision(to_number).filter(|pod| pod.fact.ready);
    // Every pod of a revision is younger than it, and that it was healthy is asked before.
    let proven = working.filter_map(|pod| pod.fact.created_at).chain(to.fact.created_at).max();
    let together = |changed: Time| (changed.as_second() - created.as_second()).abs() <= TOGETHER_SECONDS;
    let maps = observed.workload.shared_maps(to);
    for name in &maps {
        let is_it = |found: &&Presence| found.kind == ReferenceKind::ConfigMap && found.name == *name;
        let found = observed.presence.into_iter().flatten().find(is_it);
        let doubt = match found.and_then(|found| Some((found.exists?, found.changed_at))) {
            None => format!("whether ConfigMap {name} changed with it could not be read"),
            Some((true, Some(changed))) if together(changed) && proven.is_none_or(|proven| proven < changed) => {
                format!(
                    "ConfigMap {name} was changed at {changed}, revision {number} was created at {created}, and no pod of \
                 revision {to_number} was started since the change"
                )
            }
            // Where no write of data is on record none was made; what is gone is asked for elsewhere.
            Some(_) => continue,
        };
        return observed.word.outcome(
            Reason::ConfigurationChangedToo,
            format!(
                "the cause may be the configuration and not the template: {doubt}. A rollback to revision {to_number} keeps \
                 the ConfigMap as it is now"
            ),
        );
    }
    pass(format!("{} ConfigMaps that both templates name did not change with the rollout", maps.len()))
}

/// Whether a pod of the current revision has containers that were made with it: image, volumes and variables are there
/// before a container starts.
fn is_in_use(workload: &Workload, reference: &Reference) -> bool {
    let Some(current) = workload.current().filter(|current| current.fact.references.contains(reference)) else {
        return false;
    };
    workload.pods_of_revision(current.fact.number).any(|pod| {
        let started = match pod.fact.failure {
            PodFailure::None
            | PodFailure::CrashLoop
            | PodFailure::OutOfMemory
            | PodFailure::ProbeFailing
            | PodFailure::LivenessFailing => true,
            PodFailure::ImagePull
            | PodFailure::ConfigError
            | PodFailure::StartError
            | PodFailure::InitNotEnding
            | PodFailure::StuckCreating
            | PodFailure::NeverReady
            | PodFailure::Unschedulable
            | PodFailure::Refused
            | PodFailure::Starting => false,
        };
        started && pod.fact.phase == "Running"
    })
}
