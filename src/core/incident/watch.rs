//! Resolved, and watched: a recovered target until its alert has ended and for a while after, one that nothing is wrong
//! with until its alert has ended. A relapse or an alert that goes on continues the same incident, and a person is told
//! once.

use std::time::Duration;

use jiff::SignedDuration;

use crate::api::v1alpha1::{Actor, IncidentPhase, IncidentStatus};
use crate::core::{
    reason::Reason,
    timeline::{self, Event},
    verify,
    workload::Workload,
};

use super::{About, Effect, IDLE, Next, Step, Watched, asking, ending, round, telling};

/// Pause between two looks at a target that was repaired.
const LOOK: SignedDuration = SignedDuration::from_secs(30);
/// Pause between two looks at a target that nothing was wrong with; a watch reports the end of the alert earlier.
pub(super) const SELDOM: SignedDuration = SignedDuration::from_mins(2);
/// Pause between two looks at a target that was just seen failing.
const SOON: SignedDuration = SignedDuration::from_secs(5);
/// Pods that fail for this long are a relapse.
const FAILS: SignedDuration = SignedDuration::from_secs(15);
/// A target that cannot be read is looked at for so much longer before a person is called.
const UNREAD: SignedDuration = SignedDuration::from_mins(5);
/// A target of which no pod is ready for this long has relapsed, whatever its pods say.
const IS_DOWN: SignedDuration = SignedDuration::from_mins(2);

/// Looks once.
pub(super) fn step(about: About<'_>, mut status: IncidentStatus, seen: &Watched) -> Step {
    let Some(mut watch) = status.watch.clone() else { return Step::wait(IDLE) };
    let now = about.now;
    let elapsed = now.duration_since(watch.since);
    let timings = &about.terms.timings;
    let seconds = |value: u32| SignedDuration::from_secs(value.into());
    let repaired = status.times.fired.is_some();
    // One that healed before it was written: the same write is not begun twice in an incident.
    let begun = status.remediation.is_some() && !repaired;
    let patience = seconds(if repaired { timings.alert_goes_on_seconds } else { timings.watch_seconds });
    let least = if repaired { seconds(timings.watch_seconds) } else { SignedDuration::ZERO };
    let (pause, message) = if repaired { (LOOK, "it had recovered") } else { (SELDOM, "nothing was wrong with it") };

    if let Some(successor) = &seen.successor {
        return over(about, status, &format!("Incident {successor} is about the same target"));
    }
    match &seen.workload {
        Ok(workload) if workload.is_broken() => {
            let since = *watch.failing_since.get_or_insert(now);
            let lasts = if workload.fails() { FAILS } else { IS_DOWN };
            if now.duration_since(since) >= lasts {
                let what = format!("{message}, and fails again: {}", shown(workload));
                return if repaired {
                    relapsed(about, status, seen, &what)
                } else if begun {
                    told(about, status, Reason::Relapsed, &what, vec![])
                } else {
                    look_again(about, status, workload, &what)
                };
            }
        }
        Ok(_) => watch.failing_since = None,
        Err(error) if error.reason == Reason::TargetGone => {
            return over(about, status, "the target was deleted or recreated");
        }
        // No data is not healthy: the watch does not end well without it.
        Err(error) if repaired && elapsed >= least.max(patience) + UNREAD => {
            let message = format!("{message}, and cannot be read any more: {}", error.message);
            return told(about, status, error.reason, &message, vec![]);
        }
        Err(_) => {}
    }
    let failing = watch.failing_since.is_some();
    if seen.firing && !failing && elapsed >= patience {
        if about.only_informs() && !repaired {
            return over(about, status, "the alert goes on, and its severity calls nobody");
        }
        let message = format!(
            "the alert still fires {} s after {message}: what it is about is not cured, or the alerting rule is wrong",
            elapsed.as_secs()
        );
        return told(about, status, Reason::AlertGoesOn, &message, vec![]);
    }
    if !seen.firing && !failing && elapsed >= least && seen.workload.is_ok() {
        return over(about, status, "the alert has ended, and the target is healthy");
    }
    let due = [patience, least].into_iter().filter(|due| *due > elapsed).map(|due| due - elapsed).min();
    let pause = if failing { SOON } else { due.map_or(pause, |due| due.min(pause)) };
    let pause = Duration::try_from(pause).unwrap_or_default().min(telling::pause(&status, now));
    let next = Next::After(pause.max(Duration::from_secs(1)));
    if status.watch.as_ref() == Some(&watch) {
        return Step { next, ..Step::wait(IDLE) };
    }
    status.watch = Some(watch);
    Step::write(vec![], status, next)
}

fn relapsed(about: About<'_>, status: IncidentStatus, seen: &Watched, message: &str) -> Step {
    let reverted = match (&seen.repair, &seen.workload) {
        (Some(repair), Ok(workload)) => verify::is_reverted(workload, &repair.spec.write),
        _ => false,
    };
    if reverted {
        let message = format!("{message}; somebody wrote back what the repair had replaced");
        return told(about, status, Reason::ChangedByOthers, &message, vec![Effect::CountAnomaly(Reason::Reverted)]);
    }
    told(about, status, Reason::Relapsed, message, vec![Effect::CountAnomaly(Reason::Relapsed)])
}

/// Nothing was wrong and nothing was done: what fails now is investigated from the beginning.
fn look_again(about: About<'_>, mut status: IncidentStatus, workload: &Workload, message: &str) -> Step {
    timeline::note(&mut status, about.now, Actor::Controller, Event::Reopened, message);
    let number = status.rounds.saturating_add(1);
    asking::planned_anew(&mut status);
    let who = asking::who(about, &status, workload);
    round::begin(about, &mut status, number, who);
    ending::reopen(about, &mut status);
    status.times.planned = Some(about.now);
    status.phase = IncidentPhase::Investigating;
    Step::write(vec![], status, Next::Again)
}

fn told(about: About<'_>, mut status: IncidentStatus, reason: Reason, message: &str, effects: Vec<Effect>) -> Step {
    if let Some(watch) = &mut status.watch {
        watch.over = Some(about.now);
    }
    ending::escalate_after(about, status, reason, message, effects)
}

fn over(about: About<'_>, mut status: IncidentStatus, why: &str) -> Step {
    if let Some(watch) = &mut status.watch {
        (watch.over, watch.failing_since) = (Some(about.now), None);
    }
    timeline::note(&mut status, about.now, Actor::Controller, Event::WatchEnded, why);
    Step::write(vec![], status, Next::Again)
}

fn shown(workload: &Workload) -> String {
    let (ready, desired) = (workload.state.ready, workload.state.desired);
    match (workload.failing_pods().next(), workload.refused()) {
        (Some(pod), _) => format!("{ready} of {desired} replicas are ready; {} is {:?}", pod.object, pod.fact.failure),
        (None, Some(_)) => format!("{ready} of {desired} replicas are ready; the API server refuses to create pods"),
        (None, None) => format!("{ready} of {desired} replicas are ready"),
    }
}
