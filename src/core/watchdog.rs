//! The watchdog: which incidents do not get on, and the smallest hand-over that nothing can refuse.
//!
//! It stands outside of every step and believes none: it looks at what the cache shows and at which steps ended, by the
//! clock of this process. Whatever keeps an incident from its end (a right taken away, a webhook, an object of a newer
//! release, a fault of ours), a person is called.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::api::v1alpha1::{Alert, AlertState, Incident, IncidentPhase, IncidentStatus, IncidentTimes, Time};

use super::{
    grouping::{self, Handling},
    incident::{self, Timings},
    reason::Reason,
};

/// Those that are handled in one look, the longest stuck first: when nothing gets on anywhere, one person is enough.
const AT_ONCE: usize = 16;
/// Longest pause between two pages about one incident whose status cannot be stored.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_hours(6);
/// Until a page that did not arrive is sent again.
const UNHEARD: SignedDuration = SignedDuration::from_mins(1);
/// How long an executor and its Grant may take, as the state machine has it, with room to spare.
const WRITE: SignedDuration = SignedDuration::from_mins(10);
/// Longest deadline of a rollout that a verification waits for.
const VERIFY: SignedDuration = SignedDuration::from_hours(2);

/// One object that has to come to an end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// `Incident` or `Alert`.
    pub kind: &'static str,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// What the cache shows of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Subject {
    /// Which it is.
    pub key: Key,
    /// Changes whenever it gets on.
    pub mark: Mark,
    /// How long the state that it is in may last by itself; `None` where only a step that does not end is wrong.
    pub allowance: Option<SignedDuration>,
    /// How long it may rest by itself between two steps.
    pub rest: SignedDuration,
}

/// What changes when an object gets on. That somebody edits it is no progress.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mark {
    phase: IncidentPhase,
    rounds: i32,
    grant_epoch: Option<i64>,
    times: IncidentTimes,
    generation: i64,
}

/// Whether steps of it have to end still: it is not over, or its target is watched, or people have not been told.
pub fn goes_on(status: &IncidentStatus) -> bool {
    !status.phase.is_final() || status.is_watched() || incident::has_to_tell(status)
}

/// The incident, unless nothing is left to do about it. `timings` are the operator's.
pub fn incident(incident: &Incident, timings: &Timings) -> Option<Subject> {
    let status = incident.status.clone().unwrap_or_default();
    if !goes_on(&status) {
        return None;
    }
    let rest = if status.phase.is_final() { incident::longest_rest(&status) } else { SignedDuration::ZERO };
    // A round of models may last as long as their chain allows.
    let models = status.plan.as_ref().and_then(|plan| plan.model_chain.as_ref());
    let models = SignedDuration::from_secs(models.map_or(0, |chain| chain.deadline_seconds.max(0)).into());
    let allowance = allowance(status.phase, timings).map(|allowance| allowance.saturating_add(models));
    let IncidentStatus { phase, rounds, grant_epoch, times, .. } = status;
    Some(Subject {
        key: key("Incident", &incident.metadata),
        mark: Mark { phase, rounds, grant_epoch, times, generation: 0 },
        allowance,
        rest,
    })
}

/// The Alert, while it fires and belongs to no incident.
pub fn alert(alert: &Alert) -> Option<Subject> {
    let placed = alert.status.as_ref().is_some_and(|status| !status.incident.is_empty());
    let waits = matches!(grouping::handling(alert), Handling::Place { .. });
    (waits && !placed && grouping::state_of(alert) == AlertState::Firing).then(|| Subject {
        key: key("Alert", &alert.metadata),
        mark: Mark { generation: alert.metadata.generation.unwrap_or(0), ..Mark::default() },
        allowance: Some(SignedDuration::ZERO),
        rest: SignedDuration::ZERO,
    })
}

fn key(kind: &'static str, metadata: &kube::core::ObjectMeta) -> Key {
    Key {
        kind,
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name: metadata.name.clone().unwrap_or_default(),
    }
}

/// How long an incident may stay in a phase by itself; `None` for those that it may stay in: an alert may go on for ever, and so
/// may a receiver that takes no page.
fn allowance(phase: IncidentPhase, timings: &Timings) -> Option<SignedDuration> {
    let seconds = |value: u32| SignedDuration::from_secs(value.into());
    match phase {
        IncidentPhase::Open => Some(SignedDuration::ZERO),
        IncidentPhase::Investigating | IncidentPhase::Judging => Some(seconds(timings.evidence_wait_seconds)),
        IncidentPhase::AwaitingApproval => Some(seconds(timings.approval_timeout_seconds)),
        IncidentPhase::Remediating | IncidentPhase::Undoing => Some(WRITE),
        IncidentPhase::Verifying => Some(VERIFY.max(seconds(timings.verify_timeout_seconds))),
        IncidentPhase::Resolved | IncidentPhase::Escalated => None,
    }
}

/// Why one is stuck.
#[derive(Clone, Debug, PartialEq)]
pub enum Why {
    /// No step of it ended well for so long.
    NoStepEnds {
        /// For how long.
        lasting: SignedDuration,
        /// The last error; `None` when no step even failed.
        error: Option<String>,
    },
    /// Its steps end well, and nothing comes of them.
    NothingChanges {
        /// For how long.
        lasting: SignedDuration,
    },
}

impl Why {
    /// How long it has lasted.
    pub fn lasting(&self) -> SignedDuration {
        match self {
            Why::NoStepEnds { lasting, .. } | Why::NothingChanges { lasting } => *lasting,
        }
    }

    /// One sentence for the person who is called.
    pub fn sentence(&self) -> String {
        let minutes = self.lasting().as_mins();
        match self {
            Why::NoStepEnds { error: Some(error), .. } => {
                format!("Backstop could not take a step for {minutes} minutes, so the on-call has to: {error}")
            }
            Why::NoStepEnds { error: None, .. } => {
                format!("no step of Backstop ended for {minutes} minutes, so the on-call has to look")
            }
            Why::NothingChanges { .. } => {
                format!(
                    "Backstop waited {minutes} minutes for a step that has no such length, so the on-call has to look"
                )
            }
        }
    }
}

/// One that a person has to be told of now.
#[derive(Clone, Debug, PartialEq)]
pub struct Stuck {
    /// Which it is.
    pub key: Key,
    /// Why.
    pub why: Why,
    /// How often people were told already because nothing could be stored.
    pub told: u32,
}

/// What this process knows of a step: the last error, if all failed since `since`.
#[derive(Clone, Debug, PartialEq)]
pub struct Steps {
    /// When the last one ended well.
    pub ended_well: Option<Time>,
    /// The last error, if one failed since.
    pub error: Option<String>,
}

/// What became of a hand-over by the watchdog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandedOver {
    /// Its status says so: the rest is the ordinary way.
    Stored,
    /// It got on meanwhile.
    MovedOn,
    /// Its status could not be stored, and people were told.
    Told,
    /// Its status could not be stored, and no page arrived.
    Unheard,
}

/// What is remembered between two looks.
#[derive(Clone, Debug, Default)]
pub struct Watchdog {
    patience: SignedDuration,
    known: BTreeMap<Key, Known>,
}

#[derive(Clone, Debug)]
struct Known {
    mark: Mark,
    since: Time,
    first_seen: Time,
    told: u32,
    not_before: Time,
}

impl Watchdog {
    /// One that calls a person after `patience` without progress.
    pub fn new(patience: SignedDuration) -> Watchdog {
        Watchdog { patience, known: BTreeMap::new() }
    }

    /// Looks at all that are not over; those that are missing are forgotten. `steps` says what is known of the steps
    /// of one. The longest stuck come first, no more than a few at once.
    pub fn look(
        &mut self,
        subjects: impl IntoIterator<Item = Subject>,
        steps: impl Fn(&Key) -> Steps,
        now: Time,
    ) -> Vec<Stuck> {
        let mut known = std::mem::take(&mut self.known);
        let mut stuck = Vec::new();
        for Subject { key, mark, allowance, rest } in subjects {
            let fresh = || Known { mark: mark.clone(), since: now, first_seen: now, told: 0, not_before: now };
            let mut seen = known.remove(&key).unwrap_or_else(fresh);
            if seen.mark != mark {
                seen = Known { mark, since: now, told: 0, not_before: now, ..seen };
            }
            if let Some(why) = self.why(&seen, &steps(&key), allowance, rest, now)
                && seen.not_before <= now
            {
                stuck.push(Stuck { key: key.clone(), why, told: seen.told });
            }
            self.known.insert(key, seen);
        }
        stuck.sort_by_key(|one| std::cmp::Reverse(one.why.lasting()));
        stuck.truncate(AT_ONCE);
        stuck
    }

    fn why(
        &self,
        seen: &Known,
        steps: &Steps,
        allowance: Option<SignedDuration>,
        rest: SignedDuration,
        now: Time,
    ) -> Option<Why> {
        let alive = steps.ended_well.map_or(seen.first_seen, |well| well.max(seen.first_seen));
        // A status that changed is a step that ended, whoever wrote it.
        let lasting = now.duration_since(alive.max(seen.since));
        if lasting >= self.patience + rest {
            return Some(Why::NoStepEnds { lasting, error: steps.error.clone() });
        }
        let lasting = now.duration_since(seen.since);
        (lasting >= self.patience + allowance?).then_some(Why::NothingChanges { lasting })
    }

    /// Records what became of one, so that it is not told again at once.
    pub fn handed_over(&mut self, key: &Key, outcome: HandedOver, now: Time) {
        let Some(seen) = self.known.get_mut(key) else { return };
        let pause = match outcome {
            // The cache shows it soon. Until then, and if it never does, not again for a while.
            HandedOver::Stored | HandedOver::MovedOn => self.patience,
            HandedOver::Unheard => UNHEARD,
            HandedOver::Told => {
                let pause = self.patience * (1 << seen.told.min(12));
                seen.told = seen.told.saturating_add(1);
                pause.min(LONGEST_PAUSE)
            }
        };
        seen.not_before = now.checked_add(pause).unwrap_or(Time::MAX);
    }

    /// Whether it was there at the last look, and has not ended.
    pub fn knows(&self, key: &Key) -> bool {
        self.known.contains_key(key)
    }

    /// Those that are looked at.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// There is none that has not ended.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

/// Whether the status of an incident, as it is stored, is where the cache shows it: by its phase and its times.
pub fn is_where(incident: &Incident, stored: &Value) -> bool {
    let cached = incident.status.clone().unwrap_or_default();
    let times = stored.get("times").map(|times| serde_json::from_value(times.clone()).ok());
    let same_phase = match stored.get("phase") {
        Some(phase) => *phase == json!(cached.phase),
        None => cached.phase == IncidentPhase::Open,
    };
    same_phase && times.unwrap_or(Some(IncidentTimes::default())).is_none_or(|times| times == cached.times)
}

/// The status of an incident that the watchdog hands over, as merge patches to be tried in this order. The first keeps
/// what is there; the second also takes away whatever may be what the API server refuses, but the names of what was
/// begun.
pub fn minimal(incident: &Incident, why: &Why, now: Time) -> [Value; 2] {
    let (reason, message) = (Reason::NoProgress, why.sentence());
    let status = incident.status.clone().unwrap_or_default();
    let mut keep = json!({
        "phase": IncidentPhase::Escalated,
        "reason": reason.as_str(),
        "message": message,
        "observedGeneration": incident.metadata.generation.unwrap_or(0),
        "times": { "ended": now },
        "escalation": {
            "reason": reason.as_str(),
            "nextStep": incident::next_step(incident, &status, reason),
        },
    });
    if let Some(watch) = status.watch.filter(|watch| watch.over.is_none()) {
        keep["watch"] = json!({ "since": watch.since, "over": now });
    }
    let mut bare = keep.clone();
    for field in ["plan", "decision", "followUp", "timeline", "conditions", "rounds"] {
        bare[field] = Value::Null;
    }
    [keep, bare]
}

#[cfg(test)]
#[path = "watchdog_tests.rs"]
mod tests;
