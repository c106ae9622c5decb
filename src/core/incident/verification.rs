//! Verifying: watch the target until it has recovered, evict the pods that its controller waits for, or begin to undo
//! the write.

use std::time::Duration;

use jiff::SignedDuration;

use crate::api::v1alpha1::{Actor, EvictWrite, IncidentStatus, Purpose, Remediation, Write};
use crate::core::{
    actions,
    reason::Reason,
    timeline::{self, Event},
    verify::{self, Progress, Written},
    workload::{Pod, Workload},
};

use super::{About, Effect, Measure, Next, Step, Target, ending, remediation, undo};

/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// Pods that are replaced for one incident at most; each is one eviction.
const MAX_REPLACEMENTS: usize = 20;

/// Looks once.
pub(super) fn step(about: About<'_>, status: IncidentStatus, target: &Target) -> Step {
    let Target { repair, workload } = target;
    let Some(repair) = repair else {
        let message = "the Remediation was deleted before it was verified";
        return ending::escalate(about, status, Reason::VerifyFailed, message);
    };
    let fired_at = status.times.fired.unwrap_or(about.now);
    let timeout = SignedDuration::from_secs(repair.spec.verify.timeout_seconds.into());
    match workload {
        Ok(workload) => judged(about, status, repair, workload),
        // Missing data is neither healthy nor a reason to write.
        Err(_) if about.now.duration_since(fired_at) < timeout => Step::wait(LOOK),
        Err(error) => {
            let effects = vec![Effect::CountAnomaly(Reason::VerifyFailed)];
            ending::escalate_after(about, status, Reason::VerifyFailed, &error.message, effects)
        }
    }
}

fn judged(about: About<'_>, mut status: IncidentStatus, repair: &Remediation, workload: &Workload) -> Step {
    let now = about.now;
    let fired_at = status.times.fired.unwrap_or(now);
    let settings = &repair.spec.verify;
    let written = Written {
        write: &repair.spec.write,
        fired_at,
        healthy_since: status.times.healthy,
        settle: SignedDuration::from_secs(settings.settle_seconds.into()),
        timeout: SignedDuration::from_secs(settings.timeout_seconds.into()),
    };
    match verify::progress(workload, &written) {
        Progress::Waiting => match verify::stuck_pods(workload, &repair.spec.write).first() {
            Some(pod) => replace(about, status, repair, pod),
            None if status.times.healthy.take().is_some() => Step::write(vec![], status, Next::After(LOOK)),
            None => Step::wait(LOOK),
        },
        Progress::Settling if status.times.healthy.is_some() => Step::wait(LOOK),
        Progress::Settling => {
            status.times.healthy = Some(now);
            let message = format!("{} of {} replicas are ready", workload.state.ready, workload.state.desired);
            timeline::note(&mut status, now, Actor::Controller, Event::Healthy, message);
            Step::write(vec![], status, Next::After(LOOK))
        }
        Progress::Recovered => {
            let healthy = status.times.healthy.unwrap_or(now);
            let action = &repair.spec.action;
            let message = format!(
                "{}: healthy {:.1} s after the alert was received, and stayed so for {} s",
                (actions::of(action.kind()).describe)(action),
                about.seconds_since_alert(healthy),
                settings.settle_seconds
            );
            let effects = vec![
                Effect::TrialSucceeded { action_id: repair.spec.action_id.clone() },
                Effect::Measure(Measure::ToRecovery(healthy.duration_since(fired_at).as_secs_f64().max(0.0))),
            ];
            ending::resolve(about, status, Reason::Recovered, &message, effects)
        }
        Progress::Failed(state) => {
            let why = format!("the write did not help within {} s: {state}", settings.timeout_seconds);
            undo::begin(about, status, repair, &why)
        }
        Progress::ChangedByOthers => {
            let message = "somebody changed the template after the write; it is left as it is";
            ending::escalate(about, status, Reason::ChangedByOthers, message)
        }
    }
}

/// Evicts one pod that the workload's controller does not replace: a separate write with its own Grant.
fn replace(about: About<'_>, mut status: IncidentStatus, repair: &Remediation, pod: &Pod) -> Step {
    if !about.terms.evict_pods {
        let message = format!(
            "the template was written, and {} has to be deleted before {} goes on: the executor may not evict pods \
             (executor.evictPods in the chart's values)",
            pod.object, repair.spec.target
        );
        return ending::escalate(about, status, Reason::EvictionNotAllowed, &message);
    }
    let replaced = status.timeline.iter().filter(|entry| entry.event == Event::PodEvicted.as_str()).count();
    if replaced >= MAX_REPLACEMENTS {
        let message = format!("{replaced} pods were evicted, and {} is stuck too", pod.object);
        return ending::escalate(about, status, Reason::VerifyFailed, &message);
    }
    let (name, spec) = remediation::remediation(
        about,
        remediation::Plan {
            purpose: Purpose::ReplacePod,
            follows: Some(repair.spec.action_id.clone()),
            action: repair.spec.action.clone(),
            write: Write::Evict(EvictWrite { pod: pod.object.clone() }),
            provenance: None,
            undo: None,
        },
    );
    let message = format!("{} is stuck: the controller of {} waits for it", pod.object, repair.spec.target);
    let effects = vec![
        Effect::Reserve(remediation::follow_up(about, &spec.action_id)),
        Effect::CreateRemediation { name: name.clone(), spec: Box::new(spec) },
    ];
    timeline::note(&mut status, about.now, Actor::Controller, Event::RemediationCreated, message);
    status.replacement = Some(name);
    status.grant_epoch = None;
    Step::write(effects, status, Next::Again)
}

/// The pod needs no eviction any more: verification goes on.
pub(super) fn go_on(mut status: IncidentStatus, effects: Vec<Effect>) -> Step {
    status.replacement = None;
    status.grant_epoch = None;
    Step::write(effects, status, Next::After(LOOK))
}

/// The pod is gone: the target has all its time again, because its controller could only begin now.
pub(super) fn replaced(about: About<'_>, mut status: IncidentStatus, effects: Vec<Effect>) -> Step {
    status.replacement = None;
    status.grant_epoch = None;
    status.times.fired = Some(about.now);
    status.times.healthy = None;
    Step::write(effects, status, Next::After(LOOK))
}
