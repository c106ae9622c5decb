//! What anomalies are about, and the room that the Ledger has for them. It is bounded, and whoever fills it may make no breaker
//! forget what counts for others: what says less makes room for what says more.

use std::cmp::Reverse;

use crate::api::v1alpha1::Anomaly;
use crate::core::reason::Reason;

/// Anomalies that the Ledger holds, as its schema says.
const MAX_ANOMALIES: usize = 200;
/// Those of one namespace may not fill the list for all others.
const MAX_OF_NAMESPACE: usize = 40;

/// Adds an anomaly. In a full list it takes the place of another one: of the least that says no more than it does, of the
/// namespace with the most, the oldest; where its own namespace has all it may have, of that namespace. `false` where
/// everything there says more, so that it found no room.
pub(super) fn add(anomalies: &mut Vec<Anomaly>, new: Anomaly) -> bool {
    let of = |namespace: &str| anomalies.iter().filter(|it| namespace_of(it) == namespace).count();
    let is_own = |it: &Anomaly| namespace_of(it) == namespace_of(&new);
    let own_is_full = of(namespace_of(&new)) >= MAX_OF_NAMESPACE;
    if own_is_full || anomalies.len() >= MAX_ANOMALIES {
        let may_go = |it: &Anomaly| says(&it.kind) <= says(&new.kind) && (!own_is_full || is_own(it));
        let least = (anomalies.iter().enumerate())
            .filter(|(_, it)| may_go(it))
            .min_by_key(|(place, it)| (says(&it.kind), Reverse(of(namespace_of(it))), *place));
        let Some((place, _)) = least else { return false };
        anomalies.remove(place);
    }
    anomalies.push(new);
    true
}

/// How much an anomaly says. An answer that does not hold was stopped before it did anything; a write that did not help was
/// not.
fn says(kind: &str) -> u8 {
    match kind {
        kind if says_that_a_write_failed(kind) || concerns_all(kind) => 2,
        kind if of_answers(kind) => 0,
        _ => 1,
    }
}

/// A write did not hold, whatever that was noticed by.
pub(super) fn says_that_a_write_failed(kind: &str) -> bool {
    let reasons = [Reason::VerifyFailed, Reason::Undone, Reason::Relapsed, Reason::Reverted];
    reasons.iter().any(|reason| reason.as_str() == kind)
}

/// What the controller itself sees of writes that it had granted, which are in enrolled namespaces only, and a storm of
/// the cluster. What an investigation says, and what is refused before anything is written, concerns the namespace.
pub(super) fn concerns_all(kind: &str) -> bool {
    let reasons = [Reason::Storm, Reason::VerifyFailed, Reason::Undone, Reason::Relapsed, Reason::ExecutorSilent];
    reasons.iter().any(|reason| reason.as_str() == kind)
}

/// It is about what a diagnosis says, and not about a write.
pub(super) fn of_answers(kind: &str) -> bool {
    let of_writes = [
        Reason::RefusedByPolicy,
        Reason::PolicyMissing,
        Reason::DigestMismatch,
        Reason::Unsupported,
        Reason::ChangedByOthers,
        Reason::Reverted,
    ];
    !of_writes.iter().any(|reason| reason.as_str() == kind) && !concerns_all(kind)
}

/// Namespace of the incident, which is written `namespace/name`.
pub(super) fn namespace_of(anomaly: &Anomaly) -> &str {
    anomaly.incident.split_once('/').map_or("", |(namespace, _)| namespace)
}
