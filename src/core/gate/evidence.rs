//! Does the action fit what the judge itself reads? Every check here is recomputed from the cluster.

use jiff::SignedDuration;

use crate::core::{names, reason::Reason};

use super::{Case, Outcome, Subject, pass, refuse, unknown};

/// A pod that was Ready for this long shows that its template works.
const STABLE: SignedDuration = SignedDuration::from_secs(60);
/// A rollout is not blamed for an alert that began later than this after it.
const ROLLOUT_BLAMED_FOR: SignedDuration = SignedDuration::from_hours(1);
/// Namespaces that are never written to, whatever their labels say.
const PROTECTED_NAMESPACES: &[&str] = &["kube-system", "kube-public", "kube-node-lease"];

pub(crate) fn target_resolved(case: &Case<'_>, _: &Subject<'_>) -> Outcome {
    match (case.target, case.unresolved) {
        (Some(target), _) => pass(format!("the alert is about {target}")),
        (None, Some(unresolved)) => {
            refuse(Reason::named(&unresolved.reason).unwrap_or(Reason::TargetUnresolved), unresolved.message.clone())
        }
        (None, None) => refuse(Reason::TargetUnresolved, "the alert names no object"),
    }
}

pub(crate) fn target_readable(case: &Case<'_>, _: &Subject<'_>) -> Outcome {
    match (&case.reading, case.target) {
        (Ok(reading), Some(target)) if reading.object.uid != target.uid => {
            refuse(Reason::TargetGone, format!("{target} was made anew since the alert"))
        }
        (Ok(reading), _) => pass(format!("read at {}", reading.read_at)),
        (Err(error), _) => unknown(error.reason, error.message.clone()),
    }
}

pub(crate) fn alert_firing(case: &Case<'_>, _: &Subject<'_>) -> Outcome {
    if case.alert_firing {
        pass("an alert of the incident is firing")
    } else {
        refuse(Reason::AlertResolved, "every alert of the incident has ended")
    }
}

pub(crate) fn pods_fail(case: &Case<'_>, _: &Subject<'_>) -> Outcome {
    let Ok(reading) = &case.reading else { return blind() };
    let failing: Vec<String> = reading
        .pods
        .iter()
        .filter(|pod| pod.fact.failure.is_hard())
        .map(|pod| format!("{} ({:?})", pod.object.name, pod.fact.failure))
        .collect();
    if failing.is_empty() {
        refuse(
            Reason::NothingFails,
            format!("none of {} pods fails in a way that a template can cause", reading.pods.len()),
        )
        .later()
    } else {
        pass(format!("{} of {} pods fail: {}", failing.len(), reading.pods.len(), first(&failing)))
    }
}

pub(crate) fn kind_supported(case: &Case<'_>, subject: &Subject<'_>) -> Outcome {
    let Ok(reading) = &case.reading else { return blind() };
    if reading.object.kind == "Deployment" {
        pass(format!("{} is for Deployments", subject.kind()))
    } else {
        refuse(
            Reason::KindNotSupported,
            format!("{} is for Deployments, not for a {}", subject.kind(), reading.object.kind),
        )
    }
}

pub(crate) fn topmost_controller(case: &Case<'_>, _: &Subject<'_>) -> Outcome {
    let Ok(reading) = &case.reading else { return blind() };
    match reading.workload.owners.first() {
        None => pass("no other controller owns it"),
        Some(owner) => refuse(
            Reason::OwnedByController,
            format!("{owner} owns it and would revert a write; change {owner} instead"),
        ),
    }
}

pub(crate) fn not_managed_by_tool(case: &Case<'_>, subject: &Subject<'_>) -> Outcome {
    let Ok(reading) = &case.reading else { return blind() };
    let helm_allowed = case.matching_policies().iter().any(|policy| policy.spec.allow_helm);
    for tool in &reading.workload.managed_by {
        match tool.as_str() {
            "argocd" | "flux" => {
                return refuse(
                    Reason::ManagedByGitOps,
                    format!("{tool} manages it from Git and would revert a write; revert the commit there"),
                );
            }
            "helm" if helm_allowed => {}
            "helm" => {
                return refuse(
                    Reason::ManagedByHelm,
                    format!(
                        "Helm installed it; use `helm rollback`, or allow {} with allowHelm in a Policy",
                        subject.kind()
                    ),
                );
            }
            other => return refuse(Reason::ManagedByTool, format!("`{other}` says that it manages it")),
        }
    }
    pass("no tool says that it manages it")
}

pub(crate) fn not_protected(case: &Case<'_>, _: &Subject<'_>) -> Outcome {
    let Ok(reading) = &case.reading else { return blind() };
    let namespace = reading.object.namespace.as_str();
    let marked = reading.annotations.get(names::PROTECTED).is_some_and(|value| value != "false");
    if PROTECTED_NAMESPACES.contains(&namespace) {
        refuse(Reason::Protected, format!("namespace {namespace} is never written to"))
    } else if marked {
        refuse(Reason::Protected, format!("annotation {} protects it", names::PROTECTED))
    } else {
        pass("nothing protects it")
    }
}

pub(crate) fn failing_pods_run_current_revision(case: &Case<'_>, _: &Subject<'_>) -> Outcome {
    let Ok(reading) = &case.reading else { return blind() };
    let Some(current) = reading.current() else {
        return unknown(Reason::FailingPodsNotCurrent, "the current template is not recorded as a revision yet")
            .later();
    };
    let number = current.fact.number;
    match reading.pods.iter().find(|pod| pod.fact.failure.is_hard() && pod.fact.revision != number) {
        Some(pod) => refuse(
            Reason::FailingPodsNotCurrent,
            format!("pod {} fails and runs revision {}, not the current {number}", pod.object.name, pod.fact.revision),
        ),
        None => pass(format!("all failing pods run revision {number}, the current one")),
    }
}

pub(crate) fn earlier_revision_exists(case: &Case<'_>, _: &Subject<'_>) -> Outcome {
    let Ok(reading) = &case.reading else { return blind() };
    let earlier = reading.revisions.iter().filter(|revision| !revision.fact.current).count();
    if earlier == 0 {
        refuse(Reason::OnlyOneRevision, "only the current revision exists: there is nothing to return to")
    } else {
        pass(format!("{earlier} earlier revisions exist"))
    }
}

pub(crate) fn revision_recorded(case: &Case<'_>, subject: &Subject<'_>) -> Outcome {
    if case.reading.is_err() {
        return blind();
    }
    match (&subject.prediction, subject.to) {
        (Ok(_), Some(to)) => pass(format!("revision {} is recorded", to.fact.number)),
        (Ok(_), None) => refuse(Reason::OnlyOneRevision, "there is no earlier revision"),
        (Err(refusal), _) => refuse(refusal.reason, refusal.message.clone()),
    }
}

pub(crate) fn template_differs(case: &Case<'_>, subject: &Subject<'_>) -> Outcome {
    let Ok(reading) = &case.reading else { return blind() };
    let (Some(current), Some(to)) = (reading.current(), subject.to) else {
        return unknown(Reason::TemplateUnchanged, "there are no two revisions to compare");
    };
    let diff = reading.diff(to, current);
    if diff.restart_only || diff.changes.is_empty() {
        return refuse(
            Reason::TemplateUnchanged,
            format!("revisions {} and {} hold the same template: a rollback would help nothing", diff.from, diff.to),
        );
    }
    pass(format!("{} fields differ between revisions {} and {}", diff.changes.len(), diff.from, diff.to))
}

pub(crate) fn current_template_never_worked(case: &Case<'_>, _: &Subject<'_>) -> Outcome {
    let Ok(reading) = &case.reading else { return blind() };
    let Some(current) = reading.current() else {
        return unknown(Reason::TemplateUnchanged, "the current template is not recorded as a revision yet").later();
    };
    let number = current.fact.number;
    if let Some(mark) = case
        .known_good
        .iter()
        .find(|mark| mark.workload_uid == reading.object.uid && mark.template_hash == current.template_hash)
    {
        return refuse(
            Reason::TemplateUnchanged,
            format!("exactly this template was healthy at {}: what broke it is outside of it", mark.at),
        );
    }
    let stable = reading.pods.iter().find(|pod| {
        pod.fact.revision == number
            && pod.fact.ready
            && pod.fact.ready_since.is_some_and(|since| reading.read_at.duration_since(since) >= STABLE)
    });
    if let Some(pod) = stable {
        return refuse(
            Reason::TemplateUnchanged,
            format!(
                "pod {} runs revision {number} and has been ready for a minute: the template can work",
                pod.object.name
            ),
        );
    }
    let ran = reading.pods.iter().find(|pod| {
        pod.fact.revision == number && pod.fact.ran_seconds.is_some_and(|seconds| seconds >= STABLE.as_secs() * 10)
    });
    if let Some(pod) = ran {
        return refuse(
            Reason::TemplateUnchanged,
            format!(
                "pod {} had run revision {number} for ten minutes before it failed: the template can work",
                pod.object.name
            ),
        );
    }
    pass(format!("revision {number} was never seen healthy"))
}

pub(crate) fn rollout_recent(case: &Case<'_>, _: &Subject<'_>) -> Outcome {
    let Ok(reading) = &case.reading else { return blind() };
    let Some(made) = reading.current().and_then(|current| current.fact.created_at) else {
        return unknown(Reason::RolloutNotRecent, "the age of the current revision is unknown");
    };
    // Nobody vouches for the sender's clock: an alert that began "before" the rollout is judged by our own.
    let began = case.alert_started_at.max(made);
    if began.duration_since(made) > ROLLOUT_BLAMED_FOR {
        return refuse(
            Reason::RolloutNotRecent,
            format!(
                "the current revision is of {made}, the alert of {began}: the rollout is too long ago to be blamed"
            ),
        );
    }
    pass(format!("the current revision was made at {made}"))
}

pub(crate) fn earlier_revision_healthy(case: &Case<'_>, subject: &Subject<'_>) -> Outcome {
    let Ok(reading) = &case.reading else { return blind() };
    let Some(to) = subject.to else {
        return unknown(Reason::OnlyOneRevision, "there is no earlier revision");
    };
    let number = to.fact.number;
    let failing = reading.pods.iter().any(|pod| pod.fact.revision == number && pod.fact.failure.is_hard());
    if failing {
        return refuse(Reason::EarlierRevisionUnproven, format!("pods of revision {number} fail too"));
    }
    if to.fact.ready > 0 {
        return pass(format!("revision {number} has {} ready replicas now", to.fact.ready));
    }
    match case.known_good.iter().find(|mark| {
        mark.workload_uid == reading.object.uid
            && mark.revision_uid == to.object.uid
            && mark.template_hash == to.template_hash
    }) {
        Some(mark) => pass(format!("revision {number} was seen healthy at {}", mark.at)),
        None => refuse(
            Reason::EarlierRevisionUnproven,
            format!("nothing shows that revision {number} was ever healthy: no ready replica, no mark"),
        ),
    }
}

pub(crate) fn rollout_not_paused(case: &Case<'_>, _: &Subject<'_>) -> Outcome {
    let Ok(reading) = &case.reading else { return blind() };
    if reading.workload.paused {
        refuse(Reason::RolloutPaused, "somebody paused the rollout; a changed template would not be rolled out")
    } else {
        pass("the rollout is not paused")
    }
}

fn blind() -> Outcome {
    unknown(Reason::ClusterUnreadable, "the target cannot be read")
}

fn first(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [one, rest @ ..] => format!("{one} and {} more", rest.len()),
    }
}
