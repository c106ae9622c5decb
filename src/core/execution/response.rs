//! Taking an answer in: what the next step may rely on, and when to stop.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::{
    EVICTION_RIGHT_WAIT, EVIDENCE_PAUSE, LAG, LAG_PAUSE, MAX_TRIES, Memory, Observation, PolicyName, Probe, Request,
    Resource, Response, SETTLING, SETTLING_PAUSE, Verb, patch, refusal, target_kind,
};
use crate::api::v1alpha1::{Receipt, ReceiptStep, Time};
use crate::core::{object, reason::Reason, workload::Kind};

/// Takes in what the API server answered to `request`, which was built from `seen`.
pub fn on_response(memory: &mut Memory, seen: &Observation, request: &Request, outcome: &Response, now: Time) {
    // An answer that was lost may have been a yes; then nobody else took our label off.
    if request.verb == Verb::Disarm && matches!(outcome, Response::Done(_) | Response::Unknown(_)) {
        memory.armed = false;
    }
    let eviction = request.resource == Resource::PodEviction;
    // An answer that was lost may have been a yes: the pod tells.
    if eviction && request.verb == Verb::Fire && matches!(outcome, Response::Done(_) | Response::Unknown(_)) {
        memory.evicted = true;
    }
    if !eviction && request.verb == Verb::Fire && matches!(outcome, Response::Done(_) | Response::Unknown(_)) {
        memory.fired = true;
    }
    match outcome {
        Response::Done(object) => done(memory, seen, request, object, now),
        // The precondition failed, which is asked after the policies: none of them refused.
        Response::Conflict if request.verb == Verb::DryRunWrong(Probe::OtherPod) => {
            accepted(memory, seen, Probe::OtherPod);
        }
        Response::Conflict => {
            memory.tried(request.verb);
        }
        Response::Refused { policy, message } => refused(memory, seen, request, policy.as_deref(), message, now),
        // Waited for until the Grant ends: a pod that becomes ready elsewhere makes room.
        Response::BlockedByDisruptionBudget(message) => {
            memory.blocked = Some(message.clone());
            memory.lag = Some((now, now.checked_add(EVIDENCE_PAUSE).unwrap_or(now)));
        }
        // Read again: the objects tell.
        Response::NotFound | Response::Unknown(_) => {}
    }
}

fn done(memory: &mut Memory, seen: &Observation, request: &Request, object: &Value, now: Time) {
    let epoch = seen.remediation.status.as_ref().map(|status| status.epoch).unwrap_or_default();
    let receipt = |memory: &mut Memory, step| {
        let resource_version =
            if request.dry_run { String::new() } else { object::meta(object, "resourceVersion").to_owned() };
        memory.receipts.push(Receipt { step, at: now, resource_version, epoch });
    };
    match request.verb {
        Verb::Claim | Verb::Reclaim => {
            // What was sent under an earlier claim may still have been accepted.
            let Memory { not_ready, evicted, fired, .. } = *memory;
            *memory = Memory { claimed: Some((epoch + 1, now)), not_ready, evicted, fired, ..Memory::default() };
            return;
        }
        Verb::MarkRevision => {
            memory.mark_moved = Some(now);
            memory.passed.unarmed.clear();
            receipt(memory, ReceiptStep::RevisionMarked);
        }
        Verb::UnmarkRevision => {
            memory.mark_moved = Some(now);
            memory.passed.unarmed.clear();
            receipt(memory, ReceiptStep::RevisionUnmarked);
        }
        Verb::Arm => {
            memory.armed = true;
            receipt(memory, ReceiptStep::Armed);
        }
        Verb::DryRunWrong(probe) => accepted(memory, seen, probe),
        // The answer says that the pod would be evicted, and nothing of the pod.
        Verb::DryRunRight if request.resource == Resource::PodEviction => {
            memory.passed.right = true;
            receipt(memory, ReceiptStep::RightValueShown);
        }
        Verb::DryRunRight => match shows_exactly(seen, request, object) {
            Ok(()) => {
                memory.passed.right = true;
                receipt(memory, ReceiptStep::RightValueShown);
            }
            Err(message) => memory.end(Reason::DryRunDiffers, message),
        },
        Verb::Fire => receipt(memory, ReceiptStep::Fired),
        Verb::Disarm => receipt(memory, ReceiptStep::Disarmed),
        Verb::Finish | Verb::Abort => {}
    }
    memory.lag = None;
    memory.blocked = None;
}

/// What must be refused was not.
fn accepted(memory: &mut Memory, seen: &Observation, probe: Probe) {
    memory.end(
        Reason::PolicyMissing,
        format!(
            "a write that must be refused ({}) would have been accepted: {} is missing or altered; install the chart \
             again",
            probe.describe(),
            probe.expected_words(kind(seen))
        ),
    );
}

fn refused(memory: &mut Memory, seen: &Observation, request: &Request, policy: Option<&str>, message: &str, now: Time) {
    let verb = request.verb;
    let eviction = request.resource == Resource::PodEviction;
    if let Verb::DryRunWrong(probe) = verb
        && answers(seen, probe, policy, message)
    {
        memory.lag = None;
        if matches!(probe, Probe::OtherValue | Probe::OtherPod) {
            memory.passed.wrong = true;
            let epoch = seen.remediation.status.as_ref().map(|status| status.epoch).unwrap_or_default();
            let step = ReceiptStep::WrongValueRefused;
            memory.receipts.push(Receipt { step, at: now, resource_version: String::new(), epoch });
        } else {
            memory.passed.unarmed.push(probe);
        }
        return;
    }
    if let Some((patience, pause)) = may_be_lag(memory, seen, eviction, policy, message, now) {
        let since = memory.lag.map_or(now, |(since, _)| since);
        if now.duration_since(since) <= patience {
            memory.lag = Some((since, now.checked_add(pause).unwrap_or(now)));
            return;
        }
    }
    let tries = memory.tried(verb);
    if verb == Verb::Disarm {
        memory.lag = Some((now, now.checked_add(SETTLING_PAUSE).unwrap_or(now)));
        return;
    }
    if matches!(verb, Verb::UnmarkRevision | Verb::Claim | Verb::Reclaim | Verb::Finish | Verb::Abort) {
        // Cleaning up and writing down are tried again, by the driver's pauses.
        return;
    }
    let (reason, said) = match policy {
        Some(name) if name == PolicyName::STATIC && refusal::mode_forbids(message) => {
            (Reason::ModeForbids, format!("{name}: {message}"))
        }
        Some(name) if PolicyName::is_provenance(name) && refusal::no_params(message) => {
            (Reason::RefusedByPolicy, format!("{name}: {message}; {}", provenance_blind(name)))
        }
        Some(name) if !PolicyName::ALL.contains(&name) => {
            (Reason::RefusedByAdmission, format!("policy {name}, which is not Backstop's: {message}"))
        }
        // What was sent is exactly what was granted, and a wrong value is refused by the policy that it is for.
        Some(name) if may_have_been_changed(memory, verb) && refusal::about_content(message) => (
            Reason::DryRunDiffers,
            format!(
                "something changes the write before {name} sees it, a mutating webhook or policy ({message}): `kubectl \
                 get mutatingwebhookconfigurations`"
            ),
        ),
        Some(name) => match verb {
            Verb::DryRunWrong(probe) if !probe.expected(kind(seen)).contains(&name) => (
                Reason::PolicyMissing,
                format!(
                    "a wrong write ({}) was refused by {name} and not by {}: {message}",
                    probe.describe(),
                    probe.expected_words(kind(seen))
                ),
            ),
            _ => (Reason::RefusedByPolicy, format!("{name}: {message}")),
        },
        // A patch that the API server cannot apply may race with somebody else's change.
        None if tries < MAX_TRIES && message.is_empty() => return,
        None if eviction && refusal::starting(message) => (
            Reason::EvictionNotAllowed,
            format!("the executor may not evict pods (executor.evictPods of the chart): {message}"),
        ),
        None if refusal::webhook(message) => {
            (Reason::RefusedByAdmission, format!("{} was refused: {message}", verb.as_str()))
        }
        None => (Reason::Refused, format!("{} was refused: {message}", verb.as_str())),
    };
    memory.end(reason, said);
}

/// Whether nothing has shown yet that this object reaches the policies as it was sent.
fn may_have_been_changed(memory: &Memory, verb: Verb) -> bool {
    match verb {
        Verb::MarkRevision | Verb::Arm | Verb::DryRunRight | Verb::DryRunWrong(_) => true,
        Verb::Fire => !memory.passed.right,
        Verb::Claim | Verb::Reclaim | Verb::Finish | Verb::Abort | Verb::Disarm | Verb::UnmarkRevision => false,
    }
}

/// What to do when the provenance policy does not see marked revisions any more.
fn provenance_blind(policy: &str) -> String {
    format!(
        "a revision is marked, so the API server no longer watches revisions for {policy}: this happens after its last \
         binding was deleted. Restart the API server, and keep that binding from now on"
    )
}

/// Kind of the target; what is none was refused before anything was sent.
fn kind(seen: &Observation) -> Kind {
    target_kind(&seen.remediation.spec.target).unwrap_or(Kind::Deployment)
}

/// The refusal is the one that the dry-run is for: by the right policy, which sees what we see.
fn answers(seen: &Observation, probe: Probe, policy: Option<&str>, message: &str) -> bool {
    policy.is_some_and(|name| probe.expected(kind(seen)).contains(&name))
        && !refusal::settling(message)
        && match probe {
            Probe::Static | Probe::OtherValue | Probe::OtherPod => true,
            Probe::Grant => refusal::grant_seen(message) == Some(grant_version(seen)),
            Probe::Provenance => !refusal::no_params(message),
        }
}

fn grant_version(seen: &Observation) -> &str {
    seen.grant.as_ref().and_then(|grant| grant.metadata.resource_version.as_deref()).unwrap_or_default()
}

/// The API server's policies see Grants and revisions a few milliseconds late, and need a moment after it started.
/// How long to be patient, and with which pauses; `None`: the refusal means what it says.
fn may_be_lag(
    memory: &Memory,
    seen: &Observation,
    eviction: bool,
    policy: Option<&str>,
    message: &str,
    now: Time,
) -> Option<(SignedDuration, Duration)> {
    let late = match policy {
        Some(_) if refusal::settling(message) => return Some((SETTLING, SETTLING_PAUSE)),
        // A right that charts may leave out: not waited for as long as for those without which nothing works.
        None if eviction && refusal::starting(message) => return Some((EVICTION_RIGHT_WAIT, SETTLING_PAUSE)),
        None if refusal::starting(message) || refusal::webhook_away(message) => {
            return Some((SETTLING, SETTLING_PAUSE));
        }
        // It may also be ahead of us: read again.
        Some(PolicyName::GRANT) => {
            refusal::no_params(message)
                || refusal::grant_seen(message).is_some_and(|version| version != grant_version(seen))
        }
        Some(name) if PolicyName::is_provenance(name) => {
            refusal::no_params(message) || memory.mark_moved.is_some_and(|moved| now.duration_since(moved) <= LAG)
        }
        _ => false,
    };
    late.then_some((LAG, LAG_PAUSE))
}

/// The answer of the dry-run is the object that we read with the patch on it, and nothing else.
fn shows_exactly(seen: &Observation, request: &Request, answer: &Value) -> Result<(), String> {
    let spec = &seen.remediation.spec;
    if let Some(field) = spec.write.field()
        && answer.pointer(&field.path) != Some(&field.after)
    {
        return Err(format!("the dry-run of the write on {} did not show the granted {}", spec.target, field.path));
    }
    let expected = seen
        .target
        .as_ref()
        .ok_or_else(|| "the target was not read".to_owned())
        .and_then(|target| patch::apply(target, &request.body))?;
    let kept_by_server = Kind::of(&spec.target).map(Kind::annotations_of_the_server).unwrap_or_default();
    for part in ["/spec", "/metadata/labels", "/metadata/annotations", "/metadata/ownerReferences"] {
        let of = |object: &Value| {
            let mut value = object.pointer(part).filter(|it| !it.is_null()).cloned().unwrap_or_else(|| json!({}));
            if let Some(map) = value.as_object_mut() {
                map.retain(|key, _| part != "/metadata/annotations" || !kept_by_server.contains(&key.as_str()));
            }
            value
        };
        if of(&expected) != of(answer) {
            return Err(format!("the dry-run of the write on {} also changed {part}", spec.target));
        }
    }
    Ok(())
}
