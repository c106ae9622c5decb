//! The decision: from the objects as they are to the next request.

use std::time::Duration;

use serde_json::Value;

use super::{
    Ending, GRANT_MARGIN, GRANT_WAIT, MAX_EPOCHS, Memory, Next, Observation, Probe, READY_WAIT, RECHECK, Request,
    Resource, Verb, Wait, patch,
};
use crate::{
    api::v1alpha1::{
        Condition, OpenGrant, Receipt, ReceiptStep, Remediation, RemediationPhase, RemediationSpec, RemediationStatus,
        Time,
    },
    core::{
        actions::{self, identity, rollout_undo},
        kube_name, names, object,
        reason::Reason,
        workload::Kind,
    },
};

/// Receipts that a status holds.
const MAX_RECEIPTS: usize = 64;
/// Characters that a status message holds.
const MAX_MESSAGE: usize = 1024;

/// Names the one next request for a Remediation.
pub fn step(memory: &mut Memory, seen: &Observation, now: Time) -> Next {
    if phase(seen).is_final() {
        return Next::Nothing;
    }
    if memory.ending.is_none()
        && let Err(Ending { reason, message }) = check_spec(&seen.remediation)
    {
        memory.end(reason, message);
        if reason == Reason::Unsupported {
            // Its names were not even read.
            return abort(memory, seen, now);
        }
    }
    let spec = &seen.remediation.spec;
    let Some(target) = target(seen) else {
        memory.end(Reason::TargetGone, format!("{} with uid {} does not exist any more", spec.target, spec.target.uid));
        return leave(memory, seen, now);
    };
    let ours = armed_by(target) == Some(&spec.action_id);
    let fired = object::annotation(target, names::LAST_ACTION) == Some(&spec.action_id);
    match (fired, ours) {
        (true, false) => finish(memory, seen, target, now),
        // Somebody put our label back after the write: it is taken off, and nothing is written again.
        (true, true) => disarm(memory, seen, target, now),
        (false, true) => armed(memory, seen, target, now),
        (false, false) => unarmed(memory, seen, target, now),
    }
}

/// The target carries our label.
fn armed(memory: &mut Memory, seen: &Observation, target: &Value, now: Time) -> Next {
    let spec = &seen.remediation.spec;
    memory.armed = true;
    if memory.ending.is_some() {
        return disarm(memory, seen, target, now);
    }
    if let Err(message) = field_is_as_judged(target, spec) {
        memory.end(Reason::TargetChanged, message);
        return disarm(memory, seen, target, now);
    }
    match granted(seen, now) {
        Granted::Open => {}
        // The next claim is judged again.
        Granted::No | Granted::Ending => return disarm(memory, seen, target, now),
    }
    if memory.exhausted(Verb::Fire) {
        memory.end(Reason::TooManyConflicts, format!("{} changed during each of the writes", spec.target));
        return disarm(memory, seen, target, now);
    }
    if let Some(pause) = lagging(memory, now) {
        return pause;
    }
    if seen.armed.iter().any(|other| object::meta(other, "uid") != spec.target.uid) {
        return Next::Wait(Wait::OtherAction, RECHECK);
    }
    if let Some(next) = marks(memory, seen) {
        return next;
    }
    if memory.ending.is_some() {
        return disarm(memory, seen, target, now);
    }
    if !seen.not_ready.is_empty() {
        return not_ready(memory, seen, now).unwrap_or_else(|| disarm(memory, seen, target, now));
    }
    // Dry-runs hold for one generation: a changed spec has to pass them anew.
    let generation = object::generation(target);
    if memory.passed.generation != generation {
        memory.passed = super::Passed { generation, ..Default::default() };
    }
    if !memory.passed.wrong {
        let patch = patch::wrong_fire(target, spec);
        return to_target(seen, Verb::DryRunWrong(Probe::OtherImage), true, patch);
    }
    if !memory.passed.right {
        return to_target(seen, Verb::DryRunRight, true, patch::fire(target, spec));
    }
    to_target(seen, Verb::Fire, false, patch::fire(target, spec))
}

/// The target does not carry our label, and our write did not happen.
fn unarmed(memory: &mut Memory, seen: &Observation, target: &Value, now: Time) -> Next {
    let spec = &seen.remediation.spec;
    if let Err(message) = field_is_as_judged(target, spec) {
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
        return leave(memory, seen, now);
    }
    if !seen.not_ready.is_empty() {
        return not_ready(memory, seen, now).unwrap_or_else(|| leave(memory, seen, now));
    }
    memory.not_ready = None;
    let epoch = epoch(seen);
    let Some(since) = claimed(memory, seen) else {
        return claim(memory, seen, now);
    };
    match granted(seen, now) {
        Granted::Open => memory.granted = true,
        Granted::Ending => return claim(memory, seen, now),
        Granted::No if memory.granted => return claim(memory, seen, now),
        Granted::No if now.duration_since(since) > GRANT_WAIT => {
            let closed = seen.grant.as_ref().and_then(|grant| grant.spec.closed_because.as_deref()).unwrap_or_default();
            let closed = if closed.is_empty() { String::new() } else { format!(" (closed because {closed})") };
            memory.end(
                Reason::NoGrant,
                format!("the controller opened no Grant for epoch {epoch} in {} s{closed}", GRANT_WAIT.as_secs()),
            );
            return leave(memory, seen, now);
        }
        Granted::No => return Next::Wait(Wait::Grant, RECHECK),
    }
    if let Some(pause) = lagging(memory, now) {
        return pause;
    }
    // One armed object in a namespace: whatever else is armed has to end first, because the marked revision
    // is the parameter of its policy too.
    if armed_by(target).is_some() || seen.armed.iter().any(|other| object::meta(other, "uid") != spec.target.uid) {
        return Next::Wait(Wait::OtherAction, RECHECK);
    }
    if memory.exhausted(Verb::Arm) {
        memory.end(Reason::TooManyConflicts, format!("{} changed during each try to arm it", spec.target));
    }
    if memory.ending.is_none()
        && let Some(next) = marks(memory, seen)
    {
        return next;
    }
    if memory.ending.is_some() {
        return leave(memory, seen, now);
    }
    // On the target itself, with the revision marked and the Grant open: each policy is in force, and sees both.
    if let Some(probe) = Probe::UNARMED.into_iter().find(|probe| !memory.passed.unarmed.contains(probe)) {
        return to_target(seen, Verb::DryRunWrong(probe), true, patch::probe(target, probe));
    }
    to_target(seen, Verb::Arm, false, patch::arm(target, spec))
}

/// Makes the named revision the only marked one. `None`: it is, or it was decided to stop.
fn marks(memory: &mut Memory, seen: &Observation) -> Option<Next> {
    let provenance = seen.remediation.spec.provenance.as_ref()?;
    let is_named = |revision: &&Value| object::meta(revision, "uid") == provenance.uid;
    if memory.exhausted(Verb::MarkRevision) || memory.exhausted(Verb::UnmarkRevision) {
        memory.end(Reason::TooManyConflicts, format!("{} changed during each try to label it", provenance));
        return None;
    }
    let named = seen.marked.iter().find(is_named).or_else(|| seen.revision.as_ref().filter(is_named));
    let Some(named) = named else {
        memory.end(Reason::RevisionGone, format!("{} does not exist any more", provenance));
        return None;
    };
    if let Err(message) = revision_is_as_judged(named, &seen.remediation.spec) {
        memory.end(Reason::RevisionGone, message);
        return None;
    }
    if let Some(stale) = seen.marked.iter().find(|revision| !is_named(revision)) {
        return Some(to_revision(Verb::UnmarkRevision, stale, patch::unmark(stale)));
    }
    if object::label(named, names::UNDO_TO) != Some("true") {
        return Some(to_revision(Verb::MarkRevision, named, patch::mark(named)));
    }
    None
}

/// Takes our label off. Admission collects the marked revisions before it looks at who asks: with none left every
/// write on the armed object is refused, this one too, so another revision of the same object is marked first.
fn disarm(memory: &Memory, seen: &Observation, target: &Value, now: Time) -> Next {
    if let Some(pause) = lagging(memory, now) {
        return pause;
    }
    if memory.exhausted(Verb::Disarm) {
        // Written down as it is; the sweep keeps trying.
        let fired = object::annotation(target, names::LAST_ACTION) == Some(&seen.remediation.spec.action_id);
        return if fired { finish(memory, seen, target, now) } else { abort(memory, seen, now) };
    }
    if seen.marked.is_empty()
        && !memory.exhausted(Verb::MarkRevision)
        && let Some(any) = seen.revision.iter().chain(&seen.siblings).find(|revision| belongs(revision, seen))
    {
        return to_revision(Verb::MarkRevision, any, patch::mark(any));
    }
    to_target(seen, Verb::Disarm, false, patch::disarm(target))
}

/// Nothing of ours is on the target: takes the marks of its revisions off, then writes the end down.
fn leave(memory: &mut Memory, seen: &Observation, now: Time) -> Next {
    unmark(memory, seen).unwrap_or_else(|| abort(memory, seen, now))
}

fn unmark(memory: &Memory, seen: &Observation) -> Option<Next> {
    // Whoever is armed still needs a parameter. A mark that cannot be taken off is left to the sweep.
    if !seen.armed.is_empty() || memory.exhausted(Verb::UnmarkRevision) {
        return None;
    }
    let marked = seen.marked.iter().find(|revision| belongs(revision, seen))?;
    Some(to_revision(Verb::UnmarkRevision, marked, patch::unmark(marked)))
}

/// The object shows that our write happened.
fn finish(memory: &Memory, seen: &Observation, target: &Value, now: Time) -> Next {
    if let Some(next) = unmark(memory, seen) {
        return next;
    }
    let spec = &seen.remediation.spec;
    let mut status = status(memory, seen);
    let version = object::meta(target, "resourceVersion");
    let mut receipt = |step| {
        if !status.receipts.iter().any(|receipt| receipt.step == step) {
            let epoch = status.epoch;
            status.receipts.push(Receipt { step, at: now, resource_version: version.to_owned(), epoch });
        }
    };
    receipt(ReceiptStep::Fired);
    let field = spec.write.field();
    let holds = field.is_none_or(|field| target.pointer(&field.path) == Some(&field.after));
    if holds {
        receipt(ReceiptStep::ReadBack);
    }
    status.phase = RemediationPhase::Fired;
    status.reason = Reason::Fired.as_str().into();
    status.message =
        if holds { String::new() } else { "the field was changed by somebody else after the write".into() };
    complete(&mut status, seen, true, now);
    to_status(Verb::Finish, seen, status)
}

fn abort(memory: &Memory, seen: &Observation, now: Time) -> Next {
    // Only what was decided is written down.
    let Some(Ending { reason, message }) = &memory.ending else { return Next::Wait(Wait::Lag, RECHECK) };
    let mut status = status(memory, seen);
    status.phase = RemediationPhase::Aborted;
    status.reason = reason.as_str().into();
    status.message = message.chars().take(MAX_MESSAGE).collect();
    complete(&mut status, seen, false, now);
    to_status(Verb::Abort, seen, status)
}

/// A new claim, or the end when there were too many.
fn claim(memory: &mut Memory, seen: &Observation, now: Time) -> Next {
    let epoch = epoch(seen);
    if epoch >= MAX_EPOCHS {
        let (reason, message) = if memory.granted {
            (Reason::GrantExpired, format!("the Grant ended before the write in {epoch} epochs"))
        } else {
            (Reason::ClaimsExhausted, format!("it was claimed {epoch} times without a write"))
        };
        memory.end(reason, message);
        return leave(memory, seen, now);
    }
    let mut status = status(memory, seen);
    status.phase = RemediationPhase::Claimed;
    status.holder = seen.holder.clone();
    status.epoch = epoch + 1;
    status.reason = String::new();
    status.message = String::new();
    to_status(if epoch == 0 { Verb::Claim } else { Verb::Reclaim }, seen, status)
}

/// Since when this process holds the current epoch.
fn claimed(memory: &Memory, seen: &Observation) -> Option<Time> {
    let status = seen.remediation.status.as_ref()?;
    let (epoch, since) = memory.claimed?;
    (status.phase == RemediationPhase::Claimed && status.holder == seen.holder && status.epoch == epoch)
        .then_some(since)
}

enum Granted {
    Open,
    /// It is ours and ends too soon to begin with.
    Ending,
    No,
}

/// Compares the Grant field by field with the Remediation and its current claim.
fn granted(seen: &Observation, now: Time) -> Granted {
    let RemediationSpec { action_id, action: granted_action, target, write, .. } = &seen.remediation.spec;
    let Some(status) = &seen.remediation.status else { return Granted::No };
    let Some(open) = seen.grant.as_ref().and_then(|grant| grant.spec.open.as_ref()) else { return Granted::No };
    let OpenGrant { action_id: granted_id, action, remediation, epoch, uid, write: granted_write, not_after } = open;
    let same = granted_id == action_id
        && action == actions::of(granted_action.kind()).armed_label
        && Some(remediation) == seen.remediation.metadata.name.as_ref()
        && *epoch == status.epoch
        && status.phase == RemediationPhase::Claimed
        && status.holder == seen.holder
        && uid == &target.uid
        && granted_write == write;
    if !same {
        Granted::No
    } else if now.checked_add(GRANT_MARGIN).is_ok_and(|soon| soon < *not_after) {
        Granted::Open
    } else {
        Granted::Ending
    }
}

/// The Remediation is one that the hands can act on, and is what it says it is.
pub fn check_spec(remediation: &Remediation) -> Result<(), Ending> {
    let spec = &remediation.spec;
    let unsupported = |message: String| Err(Ending { reason: Reason::Unsupported, message });
    let Some(provenance) = spec.provenance.as_ref() else {
        return unsupported("the Remediation does not say which revision recorded the value".into());
    };
    let kind = Kind::named(&spec.target.kind).filter(|_| spec.target.api_version == Kind::API_VERSION);
    let Some(kind) = kind.filter(|kind| *kind == Kind::Deployment) else {
        return unsupported(format!("{} is not of a kind that a rollback knows: apps/v1 Deployment", spec.target));
    };
    if (provenance.api_version.as_str(), provenance.kind.as_str()) != (Kind::API_VERSION, kind.revision_kind()) {
        return unsupported(format!("{provenance} is not an apps/v1 {}", kind.revision_kind()));
    }
    let Some(field) = spec.write.field().filter(|field| field.path == rollout_undo::PATH) else {
        return unsupported(format!("a rollback writes {} and nothing else", rollout_undo::PATH));
    };
    let _ = field;
    let namespace = remediation.metadata.namespace.as_deref().unwrap_or_default();
    if spec.target.namespace != namespace || provenance.namespace != namespace {
        return unsupported(format!("target and revision must be in namespace {namespace}, where the Remediation is"));
    }
    for name in [&spec.target.name, &provenance.name] {
        if !kube_name::is_subdomain(name) {
            return unsupported(format!("{name:?} is not a name of a Kubernetes object"));
        }
    }
    let (digest, id) = identity::identity(spec);
    if spec.digest != digest || spec.action_id != id {
        return Err(Ending {
            reason: Reason::DigestMismatch,
            message: format!(
                "the spec has digest {digest} and action id {id}, and claims {} and {}",
                spec.digest, spec.action_id
            ),
        });
    }
    Ok(())
}

fn field_is_as_judged(target: &Value, spec: &RemediationSpec) -> Result<(), String> {
    let Some(field) = spec.write.field() else { return Ok(()) };
    match target.pointer(&field.path) {
        Some(value) if value == &field.before => Ok(()),
        Some(value) if value == &field.after => {
            Err(format!("{} of {} already is as it should be", field.path, spec.target))
        }
        _ => Err(format!("{} of {} is no longer what was judged", field.path, spec.target)),
    }
}

/// The template that a revision records, without the label that the Deployment controller added.
pub fn recorded_template(revision: &Value) -> Option<Value> {
    let mut template = revision.pointer("/spec/template")?.clone();
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(names::POD_TEMPLATE_HASH);
    }
    Some(template)
}

fn revision_is_as_judged(revision: &Value, spec: &RemediationSpec) -> Result<(), String> {
    if object::controller_uid(revision) != Some(&spec.target.uid) {
        return Err(format!("ReplicaSet {} is not a revision of {}", object::meta(revision, "name"), spec.target));
    }
    if recorded_template(revision).as_ref() != spec.write.field().map(|field| &field.after) {
        return Err(format!("ReplicaSet {} no longer records what was judged", object::meta(revision, "name")));
    }
    Ok(())
}

/// While the hands are not ready nothing is begun. `None`: it took too long, and it was decided to stop.
fn not_ready(memory: &mut Memory, seen: &Observation, now: Time) -> Option<Next> {
    let since = *memory.not_ready.get_or_insert(now);
    if now.duration_since(since) > READY_WAIT {
        memory.end(Reason::NotReady, format!("the executor is not ready: {}", seen.not_ready));
        return None;
    }
    Some(Next::Wait(Wait::Ready, RECHECK))
}

fn lagging(memory: &Memory, now: Time) -> Option<Next> {
    let (_, until) = memory.lag?;
    let left = Duration::try_from(until.duration_since(now)).ok().filter(|left| !left.is_zero())?;
    Some(Next::Wait(Wait::Lag, left))
}

/// The target, if it is still the same object.
fn target(seen: &Observation) -> Option<&Value> {
    seen.target.as_ref().filter(|target| object::meta(target, "uid") == seen.remediation.spec.target.uid)
}

/// The id of the action that armed the object; empty when the annotation is missing.
pub(super) fn armed_by(target: &Value) -> Option<&str> {
    object::label(target, names::ARMED)?;
    Some(object::annotation(target, names::ACTION).unwrap_or_default())
}

fn belongs(revision: &Value, seen: &Observation) -> bool {
    object::controller_uid(revision) == Some(&seen.remediation.spec.target.uid)
}

fn phase(seen: &Observation) -> RemediationPhase {
    seen.remediation.status.as_ref().map(|status| status.phase).unwrap_or_default()
}

fn epoch(seen: &Observation) -> i64 {
    seen.remediation.status.as_ref().map(|status| status.epoch).unwrap_or_default()
}

/// The status as it was read, with the receipts since.
fn status(memory: &Memory, seen: &Observation) -> RemediationStatus {
    let mut status = seen.remediation.status.clone().unwrap_or_default();
    status.receipts.extend(memory.receipts.iter().cloned());
    // Room for the two that the end adds.
    let surplus = status.receipts.len().saturating_sub(MAX_RECEIPTS - 2);
    status.receipts.drain(..surplus);
    status
}

fn complete(status: &mut RemediationStatus, seen: &Observation, done: bool, now: Time) {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time as MetaTime;
    status.conditions.retain(|condition| condition.type_ != "Complete");
    status.conditions.push(Condition {
        type_: "Complete".into(),
        status: if done { "True" } else { "False" }.into(),
        reason: status.reason.clone(),
        message: status.message.clone(),
        last_transition_time: MetaTime(now),
        observed_generation: seen.remediation.metadata.generation,
    });
}

fn to_target(seen: &Observation, verb: Verb, dry_run: bool, patch: Value) -> Next {
    let target = &seen.remediation.spec.target;
    Next::Send(Request {
        verb,
        resource: Resource::Deployment,
        namespace: target.namespace.clone(),
        name: target.name.clone(),
        dry_run,
        patch,
    })
}

fn to_revision(verb: Verb, revision: &Value, patch: Value) -> Next {
    Next::Send(super::orphans::to_revision(verb, revision, patch))
}

fn to_status(verb: Verb, seen: &Observation, status: RemediationStatus) -> Next {
    let meta = &seen.remediation.metadata;
    Next::Send(Request {
        verb,
        resource: Resource::RemediationStatus,
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
        dry_run: false,
        patch: patch::status(meta.resource_version.as_deref().unwrap_or_default(), &status),
    })
}
