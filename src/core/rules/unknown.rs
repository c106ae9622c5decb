//! The facts do not tell: what is missing, and where a person should look.

use crate::api::v1alpha1::{Cause, Diagnosis, ObjectRef, PodFailure, SourceName};
use crate::core::redact::quoted;
use crate::core::workload::{Kind, Unexplained};

use super::evidence::{Evidence, words};
use super::rollout::hint;

/// Reasons of Events that explain why pods do not come up, most telling first, with what to check.
const TELLING: &[(&str, &str)] = &[
    ("FailedCreate", "pods are refused when they are created: check quota, pod security and admission webhooks"),
    ("FailedMount", "a volume cannot be mounted: check that the ConfigMap, Secret or claim that it names exists"),
    ("FailedAttachVolume", "a volume cannot be attached: check the claim and the node"),
    ("FailedScheduling", "no node takes the pod: check its requests, node selectors and taints"),
    ("FailedCreatePodSandBox", "the node cannot start pods: check its network plugin and runtime"),
    ("Evicted", "a node is short of memory, disk or process numbers"),
    ("NodeNotReady", "a node does not answer"),
];

/// Reason of a source that cannot read a workload of this kind.
const UNSUPPORTED: &str = "Unsupported";

/// Without a target or a reading of it there is nothing to reason about.
pub fn nothing_was_seen(evidence: &Evidence) -> Option<Diagnosis> {
    let Some(target) = evidence.target else {
        return Some(unknown(
            "the alert names no object that exists in this cluster".into(),
            "Read the alert's labels on the Alert object (kubectl get alerts -A -o yaml) and correct its namespace \
             and workload labels, or look at the dashboard that it links."
                .into(),
        ));
    };
    let (ns, name) = evidence.kubectl();
    for source in [SourceName::Workload, SourceName::Pods] {
        if let Some((_, reason)) = evidence.failed(source) {
            let advice = match reason {
                "NotFound" => format!("{target} is gone: see who deleted it, kubectl {ns} get events."),
                UNSUPPORTED => return Some(not_supported(target)),
                "Forbidden" => "Give the investigator's ServiceAccount read access: reinstall the chart.".to_owned(),
                _ => format!("Check that the API server answers: kubectl {ns} get {name}."),
            };
            let hypothesis = format!("{target} could not be read ({source}: {reason})", source = source.as_str());
            return Some(unknown(hypothesis, advice));
        }
    }
    evidence.workload.is_none().then(|| {
        let advice = format!("Look at it: kubectl {ns} describe {name}.");
        unknown(format!("nothing is known of {target}: its source was not asked"), advice)
    })
}

/// The target is of a kind that records no revisions: there is nothing to compare and nothing to return to.
fn not_supported(target: &ObjectRef) -> Diagnosis {
    let ObjectRef { kind, namespace, name, .. } = target;
    let ns = format!("-n {namespace}");
    let advice = match kind.as_str() {
        "Job" => format!(
            "See how its pods ended: kubectl {ns} describe job/{name}; kubectl {ns} logs job/{name}. A Job's template \
             cannot be changed: delete it and create a corrected one."
        ),
        "CronJob" => format!(
            "See how its latest Jobs ended: kubectl {ns} describe cronjob/{name}; kubectl {ns} get jobs,pods. To stop \
             it meanwhile: kubectl {ns} patch cronjob/{name} -p '{{\"spec\":{{\"suspend\":true}}}}'."
        ),
        "Pod" => format!(
            "No controller replaces it: kubectl {ns} describe pod/{name}; kubectl {ns} logs pod/{name} --previous. \
             Create it again with a corrected manifest, or let a Deployment run it."
        ),
        "ReplicaSet" => format!(
            "No Deployment owns it, so nothing recorded how it was before: kubectl {ns} describe replicaset/{name}. \
             Correct its template, then delete the failing pods: a ReplicaSet does not replace them by itself."
        ),
        other => {
            format!("See what its own controller says: kubectl {ns} describe {}/{name}.", other.to_lowercase())
        }
    };
    unknown(format!("{target} is a {kind}, and only Deployments, StatefulSets and DaemonSets can be diagnosed"), advice)
}

/// What is left when no rule applies.
pub fn diagnose(evidence: &Evidence) -> Diagnosis {
    let (ns, name) = evidence.kubectl();
    let target = evidence.name();
    if evidence.fails() {
        let revisions = match evidence.kind() {
            Some(Kind::StatefulSet | Kind::DaemonSet) => "controllerrevisions",
            Some(Kind::Deployment) | None => "replicasets",
        };
        let mut diagnosis = unknown(
            format!("{target} fails ({}{}), and {}", words(failing_how(evidence)), evidence.said(), why_not(evidence)),
            format!(
                "Compare the pods of each revision: kubectl {ns} get {revisions},pods -o wide; kubectl {ns} rollout \
                 history {name}.{}",
                hint(failing_how(evidence))
            ),
        );
        diagnosis.claims = evidence.failure_claims();
        return diagnosis;
    }
    let telling = TELLING.iter().find_map(|(reason, what)| {
        let event = evidence.events.iter().find(|event| event.data.reason == *reason)?;
        Some(format!("{what} (event {reason}, {})", event.id))
    });
    let starting = evidence.pods.iter().filter(|pod| pod.data.failure == PodFailure::Starting).count();
    let workload = evidence.workload.as_ref().map(|workload| workload.data.clone()).unwrap_or_default();
    let state = if workload.desired == 0 {
        "it is scaled to 0 replicas".to_owned()
    } else if evidence.pods.is_empty() {
        "it has no pods".to_owned()
    } else if starting > 0 {
        format!(
            "{} not ready, and nothing is known to be wrong with {} yet",
            pods(starting),
            if starting == 1 { "it" } else { "them" }
        )
    } else {
        format!("{} of {} replicas are ready, and no pod fails", workload.ready, workload.desired)
    };
    let paused = if workload.paused { ", and its rollout is paused" } else { "" };
    let because = telling.map(|telling| format!("; {telling}")).unwrap_or_default();
    unknown(
        format!("{target}: {state}{paused}{because}"),
        format!("Look at kubectl {ns} describe {name} and kubectl {ns} get events --sort-by=.lastTimestamp."),
    )
}

fn failing_how(evidence: &Evidence) -> PodFailure {
    match evidence.failure() {
        PodFailure::None => evidence.failing().map(|pod| pod.data.failure).next().unwrap_or_default(),
        failure => failure,
    }
}

/// Why no rule for failing pods applied.
fn why_not(evidence: &Evidence) -> String {
    let Some(current) = evidence.current() else {
        return "the current revision is not known".to_owned();
    };
    let number = current.data.number;
    if evidence.troubles().is_empty() {
        return format!("only pods of other revisions than the current {number} do: a rollout may be under way");
    }
    match (evidence.candidate(), current.data.created_at) {
        (Some((earlier, _)), _) if evidence.pods_of(earlier.data.number).any(|pod| pod.data.failure.is_hard()) => {
            format!("pods of the earlier revision {} fail too: the change alone is not the cause", earlier.data.number)
        }
        (Some(_), Some(created)) if evidence.alert_began_before(created) => {
            format!("the alert began before revision {number} was created: the change alone is not the cause")
        }
        (Some((earlier, diff)), _) => match evidence.explained(earlier, diff) {
            Err((failure, why)) => unexplained(&why, failure, number, earlier.data.number),
            Ok(_) => "nothing shows which change broke it".to_owned(),
        },
        (None, _) => "nothing shows which change broke it".to_owned(),
    }
}

/// Why the change is not the explanation.
fn unexplained(why: &Unexplained, failure: PodFailure, current: i64, earlier: i64) -> String {
    match why {
        Unexplained::Injected(container) => format!(
            "the failing container {} is not in its template: something adds it to its pods, and no rollback changes \
             that",
            quoted(container, 63)
        ),
        Unexplained::Shared(missing) => {
            format!("revision {earlier} needs {} {} too, which does not exist", missing.kind.as_str(), missing.name)
        }
        Unexplained::Outside => "what is in the way is outside of its template".to_owned(),
        Unexplained::OtherFields => {
            format!("nothing that revision {current} changed since revision {earlier} explains that {}", words(failure))
        }
    }
}

fn pods(count: usize) -> String {
    if count == 1 { "1 of its pods is".to_owned() } else { format!("{count} of its pods are") }
}

fn unknown(hypothesis: String, advice: String) -> Diagnosis {
    Diagnosis { cause: Cause::Unknown, hypothesis, confidence: 20, advice, ..Diagnosis::default() }
}
