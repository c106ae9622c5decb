//! What both ways of writing ask right before: does the executor's own reading allow it, and may a refusal be lag?
//!
//! A target that looks well, or is in motion, is read again for as long as the Grant is open: a container that is ended
//! again and again looks well in between. Then it is claimed anew, and the controller decides on its own reading.

use std::time::Duration;

use serde_json::Value;

use super::{EVIDENCE_PAUSE, EVIDENCE_WAIT, Memory, Next, Observation, UNBORNE_PAUSE, Unborne, Wait, may_write};
use crate::{
    api::v1alpha1::Time,
    core::{object, reason::Reason},
};

/// The executor's own reading allows the write, at this generation of the target. `None`: it does, or it was decided
/// to stop.
pub(super) fn allowed(memory: &mut Memory, seen: &Observation, target: &Value, now: Time) -> Option<Next> {
    let generation = object::generation(target);
    if memory.allowed == Some(generation) {
        return None;
    }
    let waiting = allowed_now(memory, seen, now);
    if waiting.is_none() && memory.ending.is_none() {
        memory.allowed = Some(generation);
    }
    waiting
}

/// The same, from this very observation.
pub(super) fn allowed_now(memory: &mut Memory, seen: &Observation, now: Time) -> Option<Next> {
    match &seen.evidence {
        None => Some(Next::Look),
        Some(Ok(evidence)) => {
            let refused = may_write(&seen.remediation, evidence, now).err();
            // Our own mark on the object is a change too: what its status says may be about the object before that.
            if refused.is_some() && evidence.workload.status_is_behind() && has_patience(memory, now) {
                return Some(Next::Wait(Wait::Evidence, EVIDENCE_PAUSE));
            }
            memory.no_evidence = None;
            memory.unborne = None;
            match refused {
                Some(Unborne { ending, passes: true }) => {
                    (memory.allowed, memory.unborne) = (None, Some(ending));
                    Some(Next::Wait(Wait::Evidence, UNBORNE_PAUSE))
                }
                Some(Unborne { ending, passes: false }) => {
                    memory.end(ending.reason, ending.message);
                    None
                }
                None => None,
            }
        }
        Some(Err(message)) => {
            if has_patience(memory, now) {
                return Some(Next::Wait(Wait::Evidence, EVIDENCE_PAUSE));
            }
            memory.end(Reason::ClusterUnreadable, format!("the executor cannot read what it needs: {message}"));
            None
        }
    }
}

/// Whether evidence is waited for still; the time counts from the first time that this is asked in a row.
fn has_patience(memory: &mut Memory, now: Time) -> bool {
    now.duration_since(*memory.no_evidence.get_or_insert(now)) <= EVIDENCE_WAIT
}

pub(super) fn lagging(memory: &Memory, now: Time) -> Option<Next> {
    let (_, until) = memory.lag?;
    let left = Duration::try_from(until.duration_since(now)).ok().filter(|left| !left.is_zero())?;
    Some(Next::Wait(Wait::Lag, left))
}
