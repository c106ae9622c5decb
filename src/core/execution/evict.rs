//! Evictions: one stuck pod, through the eviction API, so that disruption budgets hold.
//!
//! Nothing is armed: the Eviction object itself carries the label and the action id, and the pod's UID is its
//! precondition, so that sending it twice evicts one pod.

use serde_json::Value;

use super::{
    Memory, Next, Observation, Probe, Request, Resource, Verb,
    own_word::{allowed, allowed_now, lagging},
    patch, record,
};
use crate::{
    api::v1alpha1::{ObjectRef, Time},
    core::{object, reason::Reason},
};

/// The next request of an eviction.
pub(super) fn evict(memory: &mut Memory, seen: &Observation, pod: &ObjectRef, now: Time) -> Next {
    if let Some(next) = gone(memory, seen, pod, now) {
        return next;
    }
    if seen.same_target().is_none() && memory.ending.is_none() {
        let target = &seen.remediation.spec.target;
        memory.end(Reason::TargetGone, format!("{target} with uid {} does not exist any more", target.uid));
    }
    if memory.ending.is_some() {
        return record::abort(memory, seen, now);
    }
    next(memory, seen, pod, now).unwrap_or_else(|| record::abort(memory, seen, now))
}

/// `None`: it was decided to stop.
fn next(memory: &mut Memory, seen: &Observation, pod: &ObjectRef, now: Time) -> Option<Next> {
    let waiting = record::not_ready(memory, seen, now);
    if waiting.is_some() || memory.ending.is_some() {
        return waiting;
    }
    let waiting = record::claimed_and_granted(memory, seen, now);
    if waiting.is_some() || memory.ending.is_some() {
        return waiting;
    }
    if let Some(pause) = lagging(memory, now) {
        return Some(pause);
    }
    if memory.exhausted(Verb::Fire) {
        memory.end(Reason::TooManyConflicts, format!("{pod} changed during each try to evict it"));
        return None;
    }
    let target = seen.same_target()?;
    let waiting = allowed(memory, seen, target, now);
    if waiting.is_some() || memory.ending.is_some() {
        return waiting;
    }
    let spec = &seen.remediation.spec;
    if !memory.passed.wrong {
        return Some(request(pod, Verb::DryRunWrong(Probe::OtherPod), true, patch::wrong_eviction(pod, spec)));
    }
    if !memory.passed.right {
        return Some(request(pod, Verb::DryRunRight, true, patch::eviction(pod, spec)));
    }
    // The pod may have healed since: it is looked at once more.
    let waiting = allowed_now(memory, seen, now);
    if waiting.is_some() || memory.ending.is_some() {
        return waiting;
    }
    Some(request(pod, Verb::Fire, false, patch::eviction(pod, spec)))
}

/// The pod is gone or on its way. After our request that is what was asked for.
fn gone(memory: &mut Memory, seen: &Observation, pod: &ObjectRef, now: Time) -> Option<Next> {
    let found = seen.pod.as_ref().filter(|found| object::meta(found, "uid") == pod.uid);
    let ending = |found: &Value| found.pointer("/metadata/deletionTimestamp").is_some_and(|time| !time.is_null());
    if found.is_some_and(|found| !ending(found)) {
        return None;
    }
    let version = found.map(|found| object::meta(found, "resourceVersion")).unwrap_or_default();
    if memory.evicted {
        return Some(record::finish(memory, seen, version, Ok(()), now));
    }
    // Of what this process claimed it knows that it did not send it; what one before it sent nobody knows.
    if record::epoch(seen) == 0 || record::claimed(memory, seen).is_some() || memory.ending.is_some() {
        memory.end(Reason::TargetGone, format!("{pod} with uid {} is gone or is being deleted", pod.uid));
        return Some(record::abort(memory, seen, now));
    }
    let unknown = "the pod was gone after a restart of the executor: whether this eviction or something else did it \
                   is not known";
    Some(record::finish(memory, seen, version, Err(unknown), now))
}

fn request(pod: &ObjectRef, verb: Verb, dry_run: bool, body: Value) -> Next {
    Next::Send(Request {
        verb,
        resource: Resource::PodEviction,
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        dry_run,
        body,
    })
}
