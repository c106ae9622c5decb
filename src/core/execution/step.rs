//! The decision: from the objects as they are to the next request.

use serde_json::Value;

use super::{
    Ending, Memory, Next, Observation, Probe, RECHECK, Request, Resource, Verb, Wait, check_spec, evict, marks,
    own_word::{allowed, allowed_now, lagging},
    patch,
    record::{self, Granted},
};
use crate::{
    api::v1alpha1::{RemediationSpec, Time, Write},
    core::{names, object, reason::Reason, workload::Kind},
};

/// Names the one next request for a Remediation.
pub fn step(memory: &mut Memory, seen: &Observation, now: Time) -> Next {
    if record::phase(seen).is_final() {
        return Next::Nothing;
    }
    let spec = &seen.remediation.spec;
    let kind = match check_spec(&seen.remediation) {
        Ok(kind) => kind,
        // Nothing was begun for it, and its names may be none.
        Err(Ending { reason, message }) => {
            memory.end(reason, message);
            return record::abort(memory, seen, now);
        }
    };
    if let Write::Evict(write) = &spec.write {
        return evict::evict(memory, seen, &write.pod, now);
    }
    let Some(target) = seen.same_target() else {
        memory.end(Reason::TargetGone, format!("{} with uid {} does not exist any more", spec.target, spec.target.uid));
        return leave(memory, seen, kind, now);
    };
    let ours = armed_by(target) == Some(&spec.action_id);
    let fired = is_fired(memory, seen, target);
    if !fired && names_action(seen, target) {
        let message = format!(
            "annotation {} of {} names this action, which was not written: somebody else set it",
            names::LAST_ACTION,
            spec.target
        );
        memory.end(Reason::ChangedByOthers, message);
    }
    match (fired, ours) {
        (true, false) => finish(memory, seen, kind, target, now),
        // Somebody put our label back after the write: it is taken off, and nothing is written again.
        (true, true) => disarm(memory, seen, kind, target, now),
        (false, true) => {
            memory.armed = true;
            armed(memory, seen, kind, target, now).unwrap_or_else(|| disarm(memory, seen, kind, target, now))
        }
        (false, false) => unarmed(memory, seen, kind, target, now).unwrap_or_else(|| leave(memory, seen, kind, now)),
    }
}

/// The target carries our label. `None`: it has to be taken off.
fn armed(memory: &mut Memory, seen: &Observation, kind: Kind, target: &Value, now: Time) -> Option<Next> {
    let spec = &seen.remediation.spec;
    if memory.ending.is_some() {
        return None;
    }
    if let Err(message) = field_is_as_granted(target, spec) {
        memory.end(Reason::TargetChanged, message);
        return None;
    }
    match record::granted(seen, now) {
        Granted::Open => {}
        // The controller decides about the next claim again.
        Granted::No | Granted::Ending => return None,
    }
    if memory.exhausted(Verb::Fire) {
        memory.end(Reason::TooManyConflicts, format!("{} changed during each of the writes", spec.target));
        return None;
    }
    if let Some(pause) = lagging(memory, now) {
        return Some(pause);
    }
    if another_is_armed(seen) {
        return Some(Next::Wait(Wait::OtherAction, RECHECK));
    }
    let waiting = allowed(memory, seen, target, now);
    // While it is armed everybody else's change of its spec is refused: nothing that may take long is waited for so.
    if memory.unborne.is_some() {
        return None;
    }
    if waiting.is_some() || memory.ending.is_some() {
        return waiting;
    }
    let marking = marks::mark(memory, seen, kind);
    if marking.is_some() || memory.ending.is_some() {
        return marking;
    }
    let waiting = record::not_ready(memory, seen, now);
    if waiting.is_some() || memory.ending.is_some() {
        return waiting;
    }
    // Dry-runs hold for one generation: a changed spec has to pass them again.
    let generation = object::generation(target);
    if memory.passed.generation != generation {
        memory.passed = super::Passed { generation, ..Default::default() };
    }
    if !memory.passed.wrong {
        return Some(to_target(seen, kind, Verb::DryRunWrong(Probe::OtherValue), patch::wrong_fire(target, spec)));
    }
    if !memory.passed.right {
        return Some(to_target(seen, kind, Verb::DryRunRight, patch::fire(target, spec)));
    }
    // The target may have healed since: it is looked at once more.
    let waiting = allowed_now(memory, seen, now);
    if memory.unborne.is_some() {
        return None;
    }
    if waiting.is_some() || memory.ending.is_some() {
        return waiting;
    }
    Some(to_target(seen, kind, Verb::Fire, patch::fire(target, spec)))
}

/// The target does not carry our label, and our write did not happen. `None`: it was decided to stop.
fn unarmed(memory: &mut Memory, seen: &Observation, kind: Kind, target: &Value, now: Time) -> Option<Next> {
    let spec = &seen.remediation.spec;
    if let Err(message) = field_is_as_granted(target, spec) {
        memory.end(Reason::TargetChanged, message);
    }
    if object::is_ending(target) {
        memory.end(Reason::TargetHasFinalizers, format!("{} has finalizers or is being deleted", spec.target));
    }
    if memory.armed {
        memory.end(
            Reason::DisarmedByOthers,
            format!("somebody took label {} off {}; nothing was written", names::ARMED, spec.target),
        );
    }
    if memory.ending.is_some() {
        return None;
    }
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
    // One armed object in a namespace: whatever else is armed has to end first, because the marked revision
    // is the parameter of its policy too.
    if armed_by(target).is_some() || another_is_armed(seen) {
        return Some(Next::Wait(Wait::OtherAction, RECHECK));
    }
    if memory.exhausted(Verb::Arm) {
        memory.end(Reason::TooManyConflicts, format!("{} changed during each try to arm it", spec.target));
        return None;
    }
    let waiting = allowed(memory, seen, target, now);
    if waiting.is_some() || memory.ending.is_some() {
        return waiting;
    }
    let marking = marks::mark(memory, seen, kind);
    if marking.is_some() || memory.ending.is_some() {
        return marking;
    }
    // On the target itself, with the revision marked and the Grant open: each policy is in force, and sees both.
    let mut probes = Probe::unarmed(spec.provenance.is_some()).iter();
    if let Some(probe) = probes.find(|probe| !memory.passed.unarmed.contains(probe)) {
        return Some(to_target(seen, kind, Verb::DryRunWrong(*probe), patch::probe(target, *probe)));
    }
    Some(to_target(seen, kind, Verb::Arm, patch::arm(target, spec)))
}

fn another_is_armed(seen: &Observation) -> bool {
    seen.armed.iter().any(|other| object::meta(other, "uid") != seen.remediation.spec.target.uid)
}

/// Takes our label off.
fn disarm(memory: &mut Memory, seen: &Observation, kind: Kind, target: &Value, now: Time) -> Next {
    if let Some(pause) = lagging(memory, now) {
        return pause;
    }
    if memory.exhausted(Verb::Disarm) {
        // Written down as it is; the sweep keeps trying, for an object whose Remediation has ended.
        let spec = &seen.remediation.spec;
        if is_fired(memory, seen, target) {
            return finish(memory, seen, kind, target, now);
        }
        let message = format!("label {} could not be taken off {}; it is tried again", names::ARMED, spec.target);
        memory.end(Reason::TooManyConflicts, message);
        return record::abort(memory, seen, now);
    }
    marks::replacement(memory, seen, kind).unwrap_or_else(|| to_target(seen, kind, Verb::Disarm, patch::disarm(target)))
}

/// Nothing of ours is on the target: takes the marks of its revisions off, then writes the end down.
fn leave(memory: &mut Memory, seen: &Observation, kind: Kind, now: Time) -> Next {
    marks::unmark(memory, seen, kind).unwrap_or_else(|| record::abort(memory, seen, now))
}

/// The object carries the id of the action, and that can be our doing: somebody had claimed it before this process did, or
/// this process sent the write. Anybody may set an annotation, so without either it is taken for foreign.
fn is_fired(memory: &Memory, seen: &Observation, target: &Value) -> bool {
    let first_claim_is_ours = memory.claimed.is_some_and(|(epoch, _)| epoch == 1) && record::epoch(seen) == 1;
    names_action(seen, target) && (memory.fired || (record::epoch(seen) > 0 && !first_claim_is_ours))
}

fn names_action(seen: &Observation, target: &Value) -> bool {
    object::annotation(target, names::LAST_ACTION) == Some(&seen.remediation.spec.action_id)
}

/// The object shows that our write happened.
fn finish(memory: &Memory, seen: &Observation, kind: Kind, target: &Value, now: Time) -> Next {
    if let Some(next) = marks::unmark(memory, seen, kind) {
        return next;
    }
    let field = seen.remediation.spec.write.field();
    let holds = field.is_none_or(|field| target.pointer(&field.path) == Some(&field.after));
    let read_back = if holds {
        Ok(())
    } else {
        Err("the field does not hold what was granted: somebody changed it after the write, or set the annotation")
    };
    record::finish(memory, seen, object::meta(target, "resourceVersion"), read_back, now)
}

fn field_is_as_granted(target: &Value, spec: &RemediationSpec) -> Result<(), String> {
    let Some(field) = spec.write.field() else { return Ok(()) };
    match target.pointer(&field.path) {
        Some(value) if value == &field.before => Ok(()),
        Some(value) if value == &field.after => {
            Err(format!("{} of {} already is as it should be", field.path, spec.target))
        }
        _ => Err(format!("{} of {} is no longer what was granted", field.path, spec.target)),
    }
}

/// The id of the action that armed the object; empty when the annotation is missing.
pub(super) fn armed_by(target: &Value) -> Option<&str> {
    object::label(target, names::ARMED)?;
    Some(object::annotation(target, names::ACTION).unwrap_or_default())
}

fn to_target(seen: &Observation, kind: Kind, verb: Verb, body: Value) -> Next {
    let target = &seen.remediation.spec.target;
    Next::Send(Request {
        verb,
        resource: Resource::Target(kind),
        namespace: target.namespace.clone(),
        name: target.name.clone(),
        dry_run: matches!(verb, Verb::DryRunWrong(_) | Verb::DryRunRight),
        body,
    })
}
