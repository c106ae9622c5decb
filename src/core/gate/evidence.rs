//! The evidence that every action needs, whoever asks: nothing here knows an alert, a diagnosis, a Policy or a Ledger.

use crate::api::v1alpha1::{Action, ActionKind, Time, WorkloadFact, Write};
use crate::core::actions::{self, Definition};
use crate::core::managers::{Manager, Way};
use crate::core::reason::Reason;
use crate::core::workload::Workload;
use crate::core::{names, rules};

use super::check::{Check, EvidenceCheck};
use super::observed::Observed;
use super::outcome::{Outcome, pass, refuse};

/// Namespaces that are never written to, whatever their labels say.
const PROTECTED_NAMESPACES: &[&str] = &["kube-system", "kube-public", "kube-node-lease"];

/// The checks that come before the evidence of the action.
pub const COMMON: &[EvidenceCheck] = &[
    Check {
        name: "PodsFail",
        says: "Pods of the target fail in a way that its template can cause; what does not fail is not repaired.",
        run: pods_fail,
    },
    Check { name: "KindSupported", says: "The action is for this kind of object.", run: kind_supported },
    Check {
        name: "TopmostController",
        says: "Nothing owns the target, by a controlling reference or any other: an owner would revert the write, or lose \
               track of it.",
        run: topmost_controller,
    },
    Check {
        name: "NotManagedByTool",
        says: "No tool that would revert the write manages the target (see managers.md); Helm only where a Policy allows it.",
        run: not_managed_by_tool,
    },
    Check {
        name: "NotProtected",
        says: "No annotation and no system namespace protects the target.",
        run: |observed| not_protected(observed.workload),
    },
    Check {
        name: "NotBeingDeleted",
        says: "The target is not being deleted and has no finalizer: a policy in force could hold its deletion up.",
        run: not_being_deleted,
    },
];

/// The last of the evidence, after that of the action.
pub const RULES: &[EvidenceCheck] = &[Check {
    name: "RulesAgree",
    says: "The embedded rules, run on this very reading, propose the same write; else a Policy's modelMode and the rung's \
           ceiling have to let a person approve it, and one did.",
    run: rules_agree,
}];

fn pods_fail(observed: &Observed<'_>) -> Outcome {
    let workload = observed.workload;
    let all = workload.pods.len();
    match (observed.failing().as_slice(), workload.refused()) {
        ([], None) => {
            let WorkloadFact { ready, desired, .. } = workload.state;
            let message = format!(
                "{ready} of {desired} replicas are ready, and none of {all} pods fails in a way that a template can cause"
            );
            // What is not complete is not well, whatever its pods show.
            let reason = if workload.is_healthy() { Reason::NothingFails } else { Reason::ReplicasNotReady };
            refuse(reason, message).wait()
        }
        ([], Some((revision, _))) => pass(format!("pods of revision {} are refused", revision.fact.number)),
        ([pod], _) => pass(format!("1 of {all} pods fails: {} ({:?})", pod.object.name, pod.fact.failure)),
        ([pod, more @ ..], _) => {
            let (count, rest) = (more.len() + 1, more.len());
            let (name, failure) = (&pod.object.name, pod.fact.failure);
            pass(format!("{count} of {all} pods fail: {name} ({failure:?}) and {rest} more"))
        }
    }
}

fn kind_supported(observed: &Observed<'_>) -> Outcome {
    let (kind, target) = (observed.kind, observed.workload.kind);
    if observed.targets.contains(&target) {
        return pass(format!("{kind} is for a {target}"));
    }
    let targets: Vec<&str> = observed.targets.iter().map(|kind| kind.as_str()).collect();
    refuse(Reason::KindNotSupported, format!("{kind} is for {}, not for a {target}", targets.join(", "))).ends_wait()
}

fn topmost_controller(observed: &Observed<'_>) -> Outcome {
    match observed.workload.state.owners.first() {
        None => pass("nothing owns it"),
        Some(owner) => refuse(
            Reason::OwnedByController,
            format!("{owner} owns it and would revert a write; change {owner} instead"),
        ),
    }
}

fn not_managed_by_tool(observed: &Observed<'_>) -> Outcome {
    let kind = observed.kind;
    let tools = observed.workload.state.managed_by.iter().map(|name| (name, Manager::named(name)));
    // A tool that is not known writes everything.
    let reverting: Vec<_> = tools.filter(|(_, tool)| tool.is_none_or(|tool| tool.reverts(observed.writes))).collect();
    let way = |tool: &Option<&Manager>| tool.map_or(Way::Tool, |tool| tool.way);
    // Helm waits for people, so any other says more.
    let first = reverting.iter().find(|(_, tool)| way(tool) != Way::Helm).or_else(|| reverting.first());
    let Some((name, tool)) = first else { return pass("no tool that would revert a write manages it") };
    match (way(tool), tool) {
        (Way::Helm, _) if observed.allow_helm => pass("Helm installed it, and a Policy allows that"),
        (Way::Helm, _) => refuse(
            Reason::ManagedByHelm,
            format!("Helm installed it; use `helm rollback`, or allow {kind} with allowHelm in a Policy"),
        ),
        (Way::Git, _) => refuse(
            Reason::ManagedByGitOps,
            format!("{name} manages it from Git and would revert a write; revert the commit there"),
        ),
        (Way::Tool, Some(tool)) => refuse(
            Reason::ManagedByTool,
            format!("{} writes it too and would revert {kind}; change it there", tool.title),
        ),
        (Way::Tool, None) => refuse(Reason::ManagedByTool, format!("`{name}` says that it manages it")),
    }
}

fn not_being_deleted(observed: &Observed<'_>) -> Outcome {
    if observed.workload.ending {
        refuse(Reason::TargetHasFinalizers, "it is being deleted, or has finalizers, which the executor never arms")
    } else {
        pass("it is not being deleted and has no finalizer")
    }
}

/// Whether people or its namespace protect a workload.
pub fn not_protected(workload: &Workload) -> Outcome {
    let namespace = workload.object.namespace.as_str();
    let marked = workload.annotations.get(names::PROTECTED).is_some_and(|value| value != "false");
    if PROTECTED_NAMESPACES.contains(&namespace) {
        refuse(Reason::Protected, format!("namespace {namespace} is never written to"))
    } else if marked {
        refuse(Reason::Protected, format!("annotation {} protects it", names::PROTECTED))
    } else {
        pass("nothing protects it")
    }
}

fn rules_agree(observed: &Observed<'_>) -> Outcome {
    let workload = observed.workload;
    let own = candidate(workload, observed.alert_started_at);
    let words = |action: &Action| (actions::of(action.kind()).describe)(action);
    match (&observed.action, &observed.prediction, own) {
        (Some(action), Ok(prediction), Some((own, write))) => {
            if *action == own && prediction.write == write {
                pass(format!("the rules, on this reading, propose {} too", words(action)))
            } else {
                let (theirs, ours) = (words(action), words(&own));
                let message = format!("{theirs} is proposed; the rules, on this reading, say {ours}");
                observed.unconfirmed.outcome(Reason::OpinionsDiffer, message)
            }
        }
        (Some(action), _, _) => {
            let message = format!("{} is proposed; the rules, on this reading, do not propose it", words(action));
            observed.unconfirmed.outcome(Reason::OpinionsDiffer, message)
        }
        (None, _, Some((own, _))) => refuse(
            Reason::OpinionsDiffer,
            format!("nothing is proposed; the rules, on this reading, propose {}", words(&own)),
        ),
        (None, _, None) => pass("neither the diagnosis nor the rules, on this reading, propose anything"),
    }
}

/// What the rules propose on this reading, with the exact write; only on the object that was read.
fn candidate(workload: &Workload, alert_started_at: Option<Time>) -> Option<(Action, Write)> {
    let proposal = rules::candidate(workload, alert_started_at)?;
    if proposal.target != workload.object {
        return None;
    }
    let definition: &Definition = actions::of(proposal.action.kind());
    let prediction = (definition.predict)(workload, &proposal.action).ok()?;
    Some((proposal.action, prediction.write))
}

/// The action that would be looked at first where none is proposed, so that people see what stands in its way: the
/// one that the rules propose on this reading, else the last of the catalogue that is possible at all. Those that fit
/// fewer cases come later in it.
pub fn first_candidate(
    workload: &Workload,
    alert_started_at: Option<Time>,
    definition_of: fn(ActionKind) -> &'static Definition,
) -> Option<Action> {
    let by_rules = candidate(workload, alert_started_at).map(|(action, _)| action);
    by_rules.or_else(|| ActionKind::ALL.iter().rev().find_map(|kind| (definition_of(*kind).candidate)(workload)))
}
