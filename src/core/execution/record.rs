//! What is written down: claims, receipts and the end, as the status of the Remediation.

use super::{
    Ending, GRANT_MARGIN, GRANT_WAIT, MAX_EPOCHS, Memory, Next, Observation, READY_WAIT, RECHECK, Request, Resource,
    Verb, Wait, patch,
};
use crate::{
    api::v1alpha1::{OpenGrant, Receipt, ReceiptStep, RemediationPhase, RemediationSpec, RemediationStatus, Time},
    core::{actions, conditions, reason::Reason},
};

/// Receipts that a status holds.
const MAX_RECEIPTS: usize = 64;
/// Characters that a status message holds.
const MAX_MESSAGE: usize = 1024;

/// How the Grant stands towards this claim.
pub(super) enum Granted {
    Open,
    /// It is ours and ends too soon to begin with.
    Ending,
    No,
}

/// Compares the Grant field by field with the Remediation and its current claim.
pub(super) fn granted(seen: &Observation, now: Time) -> Granted {
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

/// Claims, and waits for the Grant. `None`: it is open, or it was decided to stop.
pub(super) fn claimed_and_granted(memory: &mut Memory, seen: &Observation, now: Time) -> Option<Next> {
    let Some(since) = claimed(memory, seen) else { return claim(memory, seen) };
    match granted(seen, now) {
        Granted::Open => {
            memory.granted = true;
            None
        }
        Granted::Ending | Granted::No if memory.granted && memory.blocked.is_some() => {
            let said = memory.blocked.clone().unwrap_or_default();
            memory.end(Reason::BlockedByDisruptionBudget, format!("for as long as the eviction was granted: {said}"));
            None
        }
        Granted::Ending => claim(memory, seen),
        Granted::No if memory.granted => claim(memory, seen),
        Granted::No if now.duration_since(since) > GRANT_WAIT => {
            let closed = seen.grant.as_ref().and_then(|grant| grant.spec.closed_because.as_deref()).unwrap_or_default();
            let closed = if closed.is_empty() { String::new() } else { format!(" (closed because {closed})") };
            let (epoch, seconds) = (epoch(seen), GRANT_WAIT.as_secs());
            let message = format!("the controller opened no Grant for epoch {epoch} in {seconds} s{closed}");
            memory.end(Reason::NoGrant, message);
            None
        }
        Granted::No => Some(Next::Wait(Wait::Grant, RECHECK)),
    }
}

/// A new claim. `None`: there were too many, and it was decided to stop.
fn claim(memory: &mut Memory, seen: &Observation) -> Option<Next> {
    let epoch = epoch(seen);
    if epoch >= MAX_EPOCHS {
        let (reason, message) = if let Some(Ending { reason, message }) = memory.unborne.clone() {
            (reason, message)
        } else if memory.granted {
            (Reason::GrantExpired, format!("the Grant ended before the write in {epoch} epochs"))
        } else {
            (Reason::ClaimsExhausted, format!("it was claimed {epoch} times without a write"))
        };
        memory.end(reason, message);
        return None;
    }
    let mut status = status(memory, seen);
    status.phase = RemediationPhase::Claimed;
    status.holder = seen.holder.clone();
    status.epoch = epoch + 1;
    status.reason = String::new();
    status.message = String::new();
    Some(to_status(if epoch == 0 { Verb::Claim } else { Verb::Reclaim }, seen, status))
}

/// Since when this process holds the current epoch.
pub(super) fn claimed(memory: &Memory, seen: &Observation) -> Option<Time> {
    let status = seen.remediation.status.as_ref()?;
    let (epoch, since) = memory.claimed?;
    (status.phase == RemediationPhase::Claimed && status.holder == seen.holder && status.epoch == epoch)
        .then_some(since)
}

/// While the executor is not ready nothing is begun. `None`: it is ready, or it took too long and it was decided to
/// stop.
pub(super) fn not_ready(memory: &mut Memory, seen: &Observation, now: Time) -> Option<Next> {
    if seen.not_ready.is_empty() {
        memory.not_ready = None;
        return None;
    }
    let since = *memory.not_ready.get_or_insert(now);
    if now.duration_since(since) > READY_WAIT {
        memory.end(Reason::NotReady, format!("the executor is not ready: {}", seen.not_ready));
        return None;
    }
    Some(Next::Wait(Wait::Ready, RECHECK))
}

/// The write happened, or so it seems. `version` is the resourceVersion of the object that shows it; `read_back` that
/// it shows exactly what was granted. An annotation alone proves nothing, because anybody may set it: without the API
/// server's yes, and with another value in place, it is not known whether the write was ours.
pub(super) fn finish(
    memory: &Memory,
    seen: &Observation,
    version: &str,
    read_back: Result<(), &str>,
    now: Time,
) -> Next {
    let mut status = status(memory, seen);
    let accepted = status.receipts.iter().any(|receipt| receipt.step == ReceiptStep::Fired);
    let mut receipt = |step| {
        if !status.receipts.iter().any(|receipt| receipt.step == step) {
            let epoch = status.epoch;
            status.receipts.push(Receipt { step, at: now, resource_version: version.to_owned(), epoch });
        }
    };
    let reason = match read_back {
        Ok(()) => {
            receipt(ReceiptStep::Fired);
            receipt(ReceiptStep::ReadBack);
            Reason::Fired
        }
        Err(_) if accepted => Reason::Fired,
        Err(_) => Reason::WriteUnproven,
    };
    status.phase = if reason == Reason::Fired { RemediationPhase::Fired } else { RemediationPhase::Unproven };
    status.reason = reason.as_str().into();
    status.message = read_back.err().unwrap_or_default().into();
    complete(&mut status, seen, reason == Reason::Fired, now);
    to_status(Verb::Finish, seen, status)
}

/// The write did not happen and will not.
pub(super) fn abort(memory: &Memory, seen: &Observation, now: Time) -> Next {
    // Only what was decided is written down.
    let Some(Ending { reason, message }) = &memory.ending else { return Next::Wait(Wait::Lag, RECHECK) };
    let mut status = status(memory, seen);
    status.phase = RemediationPhase::Aborted;
    status.reason = reason.as_str().into();
    status.message = message.chars().take(MAX_MESSAGE).collect();
    complete(&mut status, seen, false, now);
    to_status(Verb::Abort, seen, status)
}

pub(super) fn phase(seen: &Observation) -> RemediationPhase {
    seen.remediation.status.as_ref().map(|status| status.phase).unwrap_or_default()
}

pub(super) fn epoch(seen: &Observation) -> i64 {
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
    let generation = seen.remediation.metadata.generation.unwrap_or_default();
    let RemediationStatus { conditions, reason, message, .. } = status;
    conditions::set(conditions, "Complete", done, reason, message, generation, now);
}

fn to_status(verb: Verb, seen: &Observation, status: RemediationStatus) -> Next {
    let meta = &seen.remediation.metadata;
    Next::Send(Request {
        verb,
        resource: Resource::RemediationStatus,
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
        dry_run: false,
        body: patch::status(meta.resource_version.as_deref().unwrap_or_default(), &status),
    })
}
