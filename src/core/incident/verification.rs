//! Verifying: watch the target until it has recovered, and evict the pods that its controller waits for. While the
//! rollout advances it is waited for. What made it worse is undone; what did not help is handed over and left.

use std::time::Duration;

use jiff::SignedDuration;

use crate::api::v1alpha1::{
    Actor, EvictWrite, IncidentStatus, Purpose, Remediation, RemediationSpec, RolloutProgress, TargetReading, Time,
    Write,
};
use crate::core::{
    actions,
    gate::Unreadable,
    reason::Reason,
    timeline::{self, Event},
    verify::{self, Progress, Written},
    workload::{Pod, Workload},
};

use super::{About, Effect, Measure, Next, Step, Target, ending, remediation, undo};

/// Pause between two looks, in the first minutes and while it has to stay healthy.
const LOOK: Duration = Duration::from_millis(500);
/// Pause between two looks at a rollout that takes long.
const LATER: Duration = Duration::from_secs(3);
const FIRST_MINUTES: SignedDuration = SignedDuration::from_mins(2);
/// What people should know who use `kubectl apply`.
const MISFIT: &str = ". Mind: kubectl's annotation last-applied-configuration still has the manifest that was rolled \
                      back, so a plain `kubectl apply` of the corrected one would merge it with the wrong base; use \
                      `kubectl apply --server-side` or `kubectl replace`";
/// Pods that are replaced for one incident at most; each is one eviction.
const MAX_REPLACEMENTS: usize = 20;

/// Looks once.
pub(super) fn step(about: About<'_>, status: IncidentStatus, target: &Target) -> Step {
    let Target { repair, workload } = target;
    let Some(repair) = repair else {
        let message = "the Remediation was deleted before it was verified";
        return ending::escalate(about, status, Reason::VerifyFailed, message);
    };
    match workload {
        Ok(workload) => read(about, status, repair, workload),
        Err(error) => unread(about, status, repair, error),
    }
}

fn read(about: About<'_>, mut status: IncidentStatus, repair: &Remediation, workload: &Workload) -> Step {
    let known = status.times.unread.take().map(|_| status.clone());
    let step = judged(about, status, repair, workload);
    // That it can be read again is stored, whatever else is left as it was.
    Step { status: step.status.or(known.map(Box::new)), ..step }
}

/// Missing data is neither healthy nor a reason to write, and says nothing of the write: nothing is booked as failed. The time
/// counts from the first look of those in a row that failed, for a rollout may have been verified for long before.
fn unread(about: About<'_>, mut status: IncidentStatus, repair: &Remediation, error: &Unreadable) -> Step {
    let timeout = SignedDuration::from_secs(repair.spec.verify.timeout_seconds.into());
    let Some(since) = status.times.unread else {
        status.times.unread = Some(about.now);
        return Step::write(vec![], status, Next::After(LOOK));
    };
    let elapsed = about.now.duration_since(since);
    if elapsed < timeout {
        return Step::wait(LOOK);
    }
    let message = format!(
        "it was written, and whether that helped is not known: for {} s the target could not be read: {}",
        elapsed.as_secs(),
        error.message
    );
    ending::escalate(about, status, error.reason, &message)
}

fn judged(about: About<'_>, mut status: IncidentStatus, repair: &Remediation, workload: &Workload) -> Step {
    let now = about.now;
    let fired_at = status.times.fired.unwrap_or(now);
    let settings = &repair.spec.verify;
    let (advanced_at, advanced) = advanced(&mut status, workload, fired_at, now);
    let before = status.before_write.clone();
    status.reading = Some(workload.summary());
    let written = Written {
        write: &repair.spec.write,
        before: before.as_ref(),
        fired_at,
        advanced_at,
        healthy_since: status.times.healthy,
        settle: SignedDuration::from_secs(settings.settle_seconds.into()),
        timeout: SignedDuration::from_secs(settings.timeout_seconds.into()),
    };
    let pause = if now.duration_since(fired_at) < FIRST_MINUTES { LOOK } else { LATER };
    match verify::progress(workload, &written) {
        Progress::Waiting => match stuck(about, &status, repair, workload) {
            Some((pod, replacement)) => replace(about, status, repair, pod, replacement),
            None if status.times.healthy.take().is_some() || advanced => {
                Step::write(vec![], status, Next::After(pause))
            }
            None => Step::wait(pause),
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
                "{}: healthy {:.1} s after the alert was received, and stayed so for {} s{}",
                (actions::of(action.kind()).describe)(action),
                about.seconds_since_alert(healthy),
                settings.settle_seconds,
                if workload.last_applied_misfits() { MISFIT } else { "" }
            );
            let effects = vec![
                Effect::TrialSucceeded { action_id: repair.spec.action_id.clone() },
                Effect::Measure(Measure::ToRecovery(healthy.duration_since(fired_at).as_secs_f64().max(0.0))),
            ];
            ending::resolve(about, status, Reason::Recovered, &message, effects)
        }
        Progress::Worse(state) => {
            let why = format!("the write made it worse: {state}; {}", was(before.as_ref()));
            undo::begin(about, status, repair, &why)
        }
        Progress::NotBetter(state) => {
            let stood = now.duration_since(advanced_at).as_secs();
            let message = format!(
                "the write did not make it healthy, and its rollout has not advanced for {stood} s: {state}; {}. The write \
                 is left in place: the target was failing before it too",
                was(before.as_ref())
            );
            let effects = vec![Effect::CountAnomaly(Reason::VerifyFailed)];
            ending::escalate_after(about, status, Reason::VerifyFailed, &message, effects)
        }
        Progress::ChangedByOthers(what) => {
            let reverted = verify::is_reverted(workload, &repair.spec.write);
            let what = if reverted { "somebody wrote back what the repair had replaced" } else { what };
            let message = format!("{what}; Backstop leaves the target alone");
            // Two who write the same field by turns are a disagreement: the target is left to people.
            let anomaly = if reverted { Reason::Reverted } else { Reason::ChangedByOthers };
            let effects = vec![Effect::CountAnomaly(anomaly)];
            ending::escalate_after(about, status, Reason::ChangedByOthers, &message, effects)
        }
    }
}

/// When the rollout last advanced, and whether that was now. What its controller has not seen yet is no rollout.
fn advanced(status: &mut IncidentStatus, workload: &Workload, fired_at: Time, now: Time) -> (Time, bool) {
    let steps = workload.rollout_steps();
    let known = status.rollout.as_ref();
    if workload.state.observed_generation < workload.state.generation || known.is_some_and(|it| it.steps >= steps) {
        return (known.map_or(fired_at, |rollout| rollout.at), false);
    }
    status.rollout = Some(RolloutProgress { steps, at: now });
    (now, true)
}

/// What it was like before the write.
fn was(before: Option<&TargetReading>) -> String {
    match before {
        Some(TargetReading { ready, desired, failing, .. }) => {
            format!("right before the write {ready} of {desired} were ready and {failing} pods failed")
        }
        None => "what it was like before the write is not known".into(),
    }
}

/// The first pod that the workload's controller does not replace, with the Remediation that evicts it. One that healed when it
/// was about to be evicted is left: its Remediation has ended, and a second one would be the same.
fn stuck<'a>(
    about: About<'_>,
    status: &IncidentStatus,
    repair: &Remediation,
    workload: &'a Workload,
) -> Option<(&'a Pod, (String, RemediationSpec))> {
    let last = status.follow_up.as_ref().and_then(|decision| decision.action_id.as_ref());
    let all = verify::stuck_pods(workload, &repair.spec.write).into_iter();
    let mut all = all.map(|pod| (pod, eviction(about, repair, pod)));
    all.find(|(_, (_, spec))| last != Some(&spec.action_id))
}

fn eviction(about: About<'_>, repair: &Remediation, pod: &Pod) -> (String, RemediationSpec) {
    remediation::remediation(
        about,
        remediation::Plan {
            purpose: Purpose::ReplacePod,
            follows: Some(repair.spec.action_id.clone()),
            action: repair.spec.action.clone(),
            write: Write::Evict(EvictWrite { pod: pod.object.clone() }),
            provenance: None,
            undo: None,
        },
    )
}

/// Evicts one pod: a separate write with its own Grant.
fn replace(
    about: About<'_>,
    mut status: IncidentStatus,
    repair: &Remediation,
    pod: &Pod,
    (name, spec): (String, RemediationSpec),
) -> Step {
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
    let message = format!("{} is stuck: the controller of {} waits for it", pod.object, repair.spec.target);
    let effects = vec![
        Effect::Reserve(remediation::follow_up(about, &spec)),
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
    status.rollout = None;
    Step::write(effects, status, Next::After(LOOK))
}
