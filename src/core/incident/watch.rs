//! Resolved, and watched: a recovered target until its alert has ended and for a while after, one that nothing is wrong
//! with until its alert has ended. A relapse or an alert that goes on continues the same incident, and a person is told
//! once.

use std::time::Duration;

use jiff::SignedDuration;

use crate::api::v1alpha1::{Actor, IncidentPhase, IncidentStatus};
use crate::core::{
    reason::Reason,
    surroundings::Successor,
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

    let informs = about.only_informs() && !repaired;
    // While a later incident works on the target, only what that one cannot know is told.
    let (has_it, works_on_it) = match &seen.successor {
        Some(Successor { called, .. }) => (*called, !called),
        None => (false, false),
    };
    match &seen.workload {
        Ok(workload) if workload.is_broken() => {
            let since = *watch.failing_since.get_or_insert(now);
            let lasts = if workload.fails() { FAILS } else { IS_DOWN };
            if now.duration_since(since) >= lasts {
                let what = format!("{message}, and fails again: {}", shown(workload));
                if repaired {
                    return relapsed(about, status, seen, &what);
                }
                if seen.successor.is_none() {
                    return if begun {
                        told(about, status, Reason::Relapsed, &what, vec![])
                    } else {
                        look_again(about, status, workload, &what)
                    };
                }
            }
        }
        Ok(_) => watch.failing_since = None,
        // What stands in its place, if anything, nobody looks at: its alert is known, and belongs to this incident.
        Err(error) if error.reason == Reason::TargetGone => {
            if !seen.firing {
                return over(about, status, "the target was deleted or recreated, and the alert has ended");
            }
            let since = *watch.failing_since.get_or_insert(now);
            let lasting = now.duration_since(since);
            if seen.successor.is_none() && lasting >= patience {
                if informs {
                    return over(about, status, "the target was deleted or recreated, and its severity calls nobody");
                }
                let message = format!(
                    "{message}; it was deleted or recreated since, and {} s later the alert still fires: nobody has looked \
                     at what stands in its place",
                    lasting.as_secs()
                );
                return told(about, status, error.reason, &message, vec![]);
            }
        }
        // No data is not healthy: the watch does not end well without it.
        Err(error) if seen.successor.is_none() && repaired && elapsed >= least.max(patience) + UNREAD => {
            let message = format!("{message}, and cannot be read any more: {}", error.message);
            return told(about, status, error.reason, &message, vec![]);
        }
        Err(_) => {}
    }
    let broken = watch.failing_since.is_some() && seen.workload.is_ok();
    let gone = seen.workload.as_ref().is_err_and(|error| error.reason == Reason::TargetGone);
    // Whether a repair holds is still seen here: a target that it did not cure is held.
    if let Some(successor) = seen.successor.as_ref().filter(|_| has_it && !(repaired && broken)) {
        return over(
            about,
            status,
            &format!("people were called for Incident {} about the same target", successor.incident),
        );
    }
    if seen.firing && !broken && !gone && !works_on_it && elapsed >= patience {
        if informs {
            return over(about, status, "the alert goes on, and its severity calls nobody");
        }
        let message = format!(
            "the alert still fires {} s after {message}: what it is about is not cured, or the alerting rule is wrong",
            elapsed.as_secs()
        );
        return told(about, status, Reason::AlertGoesOn, &message, vec![]);
    }
    if !seen.firing && !broken && elapsed >= least && seen.workload.is_ok() {
        return over(about, status, "the alert has ended, and the target is healthy");
    }
    let due = [patience, least].into_iter().filter(|due| *due > elapsed).map(|due| due - elapsed).min();
    let pause = if broken && (repaired || !works_on_it) { SOON } else { due.map_or(pause, |due| due.min(pause)) };
    let pause = Duration::try_from(pause).unwrap_or_default().min(telling::pause(&status, now));
    let next = Next::After(pause.max(Duration::from_secs(1)));
    if status.watch.as_ref() == Some(&watch) {
        return Step { next, ..Step::wait(IDLE) };
    }
    status.watch = Some(watch);
    Step::write(vec![], status, next)
}

/// The repair did not hold. That is counted, so that the target is held for whoever works on it next, and told, unless
/// people were called for the target already.
fn relapsed(about: About<'_>, status: IncidentStatus, seen: &Watched, message: &str) -> Step {
    let reverted = match (&seen.repair, &seen.workload) {
        (Some(repair), Ok(workload)) => verify::is_reverted(workload, &repair.spec.write),
        _ => false,
    };
    let (reason, anomaly, message) = if reverted {
        let message = format!("{message}; somebody wrote back what the repair had replaced");
        (Reason::ChangedByOthers, Reason::Reverted, message)
    } else {
        (Reason::Relapsed, Reason::Relapsed, message.to_owned())
    };
    let effects = vec![Effect::CountAnomaly(anomaly)];
    match seen.successor.as_ref().filter(|successor| successor.called) {
        Some(Successor { incident, .. }) => {
            let ended = over(about, status, &format!("{message}; people were called for Incident {incident} about it"));
            Step { effects, ..ended }
        }
        None => told(about, status, reason, &message, effects),
    }
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
