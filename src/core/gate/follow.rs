//! Writes that take a write of ours back, or complete it: what their chains ask that a repair's does not.
//!
//! A person's explicit *no* since the repair stops them: the mode, the annotation that protects the target, an open
//! deny window, a Policy that does not list the action. Budgets, cooldown, storm and breaker do not: they bound what is
//! started, and a write that did not help is not left in place because others failed too. An Approval of the repair
//! covers them, for they are part of what its digest fixes.

use crate::api::v1alpha1::{FieldWrite, ObjectRef, WorkloadFact, Write};
use crate::core::budget;
use crate::core::names;
use crate::core::reason::Reason;
use crate::core::verify;
use crate::core::workload::{Kind, Pod};

use super::bounds::protecting;
use super::check::Check;
use super::evidence;
use super::outcome::{Effect, Outcome, not_asked, pass, refuse};
use super::readable::{Follow, FollowCheck, Own, OwnCheck, Readable, ReadableCheck};
use super::variables::Bound;

const FOLLOWED_NOT_PROTECTED: FollowCheck = Check {
    name: "StillNotProtected",
    says: "Nobody has protected the target since the repair.",
    run: |follow| evidence::not_protected(follow.workload),
};
const LAST_WRITE_OURS: FollowCheck = Check {
    name: "LastWriteOurs",
    says: "The last write of Backstop on the target is the repair that this follows; only the executor can say so.",
    run: last_write_ours,
};

/// Whether a repair may be taken back, by the reading alone: controller and executor both ask.
pub const UNDO: &[FollowCheck] = &[
    FOLLOWED_NOT_PROTECTED,
    LAST_WRITE_OURS,
    Check {
        name: "FieldStillOurs",
        says: "The field holds exactly what the repair wrote; what somebody has changed since is left alone.",
        run: field_still_ours,
    },
    Check {
        name: "StillUnhealthy",
        says: "The target is not healthy, neither paused nor scaled to 0, and a pod of it fails or none is ready; a \
               repair that helped is not taken back.",
        run: still_unhealthy,
    },
];

/// Whether a pod may be evicted after a repair, by the reading alone: controller and executor both ask.
pub const REPLACE_POD: &[FollowCheck] = &[
    FOLLOWED_NOT_PROTECTED,
    LAST_WRITE_OURS,
    Check {
        name: "KindKeepsStuckPods",
        says: "The target is a StatefulSet: the controllers of the other kinds replace a stuck pod themselves.",
        run: kind_keeps_stuck_pods,
    },
    Check {
        name: "PodStuck",
        says: "The pod is one of the target's, by UID, runs another revision than the current one and fails.",
        run: pod_stuck,
    },
];

/// Whether a repair is taken back, beyond the reading: the controller asks, which knows what was there before the write.
pub const UNDO_BOUNDS: &[ReadableCheck] = &[Check {
    name: "MadeWorse",
    says: "Pods of the value before the repair were ready right before it, and fewer of any are now; what did not work \
           then is not written back.",
    run: made_worse,
}];

/// Whether a write that follows a repair is allowed here and now; the controller asks.
pub const FOLLOW_BOUNDS: &[ReadableCheck] = &[
    super::bounds::NAMESPACE_ENROLLED,
    Check {
        name: "PolicyAllowsFollowing",
        says: "Every Policy that applies compiles, protects nothing of it, lists the action and has no deny window open; the windows in which \
               actions may begin are not asked for, because this one has begun.",
        run: policy_allows_following,
    },
    Check {
        name: "LedgerHasRoom",
        says: "The write can be counted in the Ledger; it is counted, and no budget stops it.",
        run: ledger_has_room,
    },
    super::bounds::AUDIT_DURABLE,
    super::bounds::MODE_ALLOWS,
];

/// What the executor asks of every Remediation before it asks for the evidence.
pub const OWN: &[OwnCheck] = &[Check {
    name: "SameObject",
    says: "The object that was read is the one that the Remediation names, by UID.",
    run: same_object,
}];

/// What the executor asks of a repair.
pub const OWN_REPAIR: &[OwnCheck] = &[Check {
    name: "WriteFollowsFromAction",
    says: "What the Remediation writes is exactly what its action does to the object as the executor reads it.",
    run: write_follows_from_action,
}];

fn last_write_ours(follow: &Follow<'_>) -> Outcome {
    match follow.workload.annotations.get(names::LAST_ACTION) {
        Some(id) if id == follow.follows => pass(format!("the last write was {id}, which this follows")),
        Some(id) => refuse(Reason::ChangedByOthers, format!("the last write was {id}, not {}", follow.follows)),
        None => refuse(Reason::ChangedByOthers, format!("annotation {} is gone", names::LAST_ACTION)),
    }
}

fn field_still_ours(follow: &Follow<'_>) -> Outcome {
    let Some(FieldWrite { path, before, .. }) = follow.field else {
        return refuse(Reason::Unsupported, "the repair changed no field that could be changed back");
    };
    match follow.workload.field(path) {
        Some(value) if value == before => pass(format!("{path} holds what the repair wrote")),
        Some(_) => refuse(Reason::ChangedByOthers, format!("somebody changed {path} after our write")),
        None => refuse(Reason::ChangedByOthers, format!("{path} is gone")),
    }
}

fn still_unhealthy(follow: &Follow<'_>) -> Outcome {
    let WorkloadFact { ready, desired, paused, .. } = follow.workload.state;
    let message = format!("{ready} of {desired} replicas are ready");
    if follow.workload.is_healthy() {
        refuse(Reason::Recovered, format!("it is healthy: {message}")).with(Effect::Resolve)
    } else if desired == 0 || paused {
        let what = if paused { "paused" } else { "scaled to 0" };
        refuse(Reason::ChangedByOthers, format!("it is {what}, which no repair did"))
    } else if ready > 0 && follow.workload.failing_pods().next().is_none() {
        // More pods than nodes have room for, or one node away: the template is not the cause.
        refuse(Reason::NothingFails, format!("no pod fails: {message}"))
    } else {
        pass(message)
    }
}

fn made_worse(readable: &Readable<'_>) -> Outcome {
    let ready = readable.workload().state.ready;
    match readable.case.cluster.before_write {
        None => refuse(Reason::VerifyFailed, "nobody noted what it showed before the write"),
        Some(before) if verify::made_worse(Some(before), readable.workload()) => {
            pass(format!("{} pods of the value before were ready, {ready} of any are now", before.serving))
        }
        Some(before) => refuse(
            Reason::VerifyFailed,
            format!("{} pods of the value before were ready, {ready} of any are now: it is no worse", before.serving),
        ),
    }
}

fn kind_keeps_stuck_pods(follow: &Follow<'_>) -> Outcome {
    let kind = follow.workload.kind;
    if kind == Kind::StatefulSet {
        pass("a StatefulSet waits for a pod that never becomes ready")
    } else {
        refuse(Reason::KindNotSupported, format!("the controller of a {kind} replaces stuck pods itself"))
    }
}

fn pod_stuck(follow: &Follow<'_>) -> Outcome {
    let Some(pod) = follow.pod else { return refuse(Reason::Unsupported, "no pod is named") };
    let is_it = |found: &&Pod| found.object.name == pod.name && found.object.uid == pod.uid && !pod.uid.is_empty();
    match follow.workload.pods.iter().find(is_it) {
        None => refuse(Reason::TargetGone, format!("{pod} is gone, or was recreated")),
        Some(found) if verify::is_stuck(follow.workload, found) => {
            pass(format!("{pod} fails and runs an earlier template"))
        }
        Some(_) => refuse(Reason::NothingFails, format!("{pod} does not fail, or runs the current template")),
    }
}

fn policy_allows_following(readable: &Readable<'_>) -> Outcome {
    if let Some(denial) = protecting(readable) {
        return refuse(denial.reason, denial.message);
    }
    let mut meter = readable.asked.meter_of_policies();
    for Bound { policy, lifted } in &readable.asked.policies {
        let answer = policy.admits_following(readable.kind(), readable.case.now, |part| lifted.has(part), &mut meter);
        if let Err(denial) = answer {
            return refuse(denial.reason, denial.message);
        }
    }
    pass(format!("{} Policies that apply allow it", readable.asked.policies.len()))
}

fn ledger_has_room(readable: &Readable<'_>) -> Outcome {
    let books = &readable.case.books;
    let charge = budget::Charge { undo: true, ..readable.charge() };
    match budget::reserve(books.ledger, &charge, books.budgets, readable.case.now) {
        Ok(_) => pass("it can be counted"),
        Err(refusal) => refuse(refusal.reason, refusal.message),
    }
}

fn same_object(own: &Own<'_>) -> Outcome {
    let (named, read) = (&own.spec.target, &own.workload.object);
    let ObjectRef { api_version: _, kind, namespace, name, uid } = named;
    if *kind == read.kind && *namespace == read.namespace && *name == read.name && *uid == read.uid {
        pass(format!("{read} was read"))
    } else {
        refuse(Reason::TargetGone, format!("{named} is named; what was read is {read}, another object"))
    }
}

fn write_follows_from_action(own: &Own<'_>) -> Outcome {
    let spec = own.spec;
    let definition = crate::core::actions::of(spec.action.kind());
    let words = (definition.describe)(&spec.action);
    match (definition.predict)(own.workload, &spec.action) {
        Ok(prediction) if prediction.write == spec.write && prediction.provenance == spec.provenance => {
            pass(format!("{words} writes exactly this"))
        }
        Ok(_) => {
            refuse(Reason::TargetChanged, format!("{words} would write something else to the object as it is now"))
        }
        // The evidence says why.
        Err(_) => not_asked(format!("{words} is not possible on the object as it is now")),
    }
}

/// The pod of an eviction.
pub(super) fn evicted(write: &Write) -> Option<&ObjectRef> {
    match write {
        Write::Evict(evict) => Some(&evict.pod),
        Write::Field(_) => None,
    }
}
