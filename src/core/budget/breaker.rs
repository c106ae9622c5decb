//! The cascade breakers: too much went wrong of late, so nothing new is started. Each namespace has one, fed by whatever
//! goes wrong in it. That of the cluster counts only what the controller itself saw of writes, in more than one
//! namespace: nobody who writes in one namespace stops the others.

use std::collections::BTreeSet;

use jiff::SignedDuration;

use super::{Budgets, Charge, Refusal, pruned};
use crate::api::v1alpha1::{
    Anomaly, Breaker, BreakerState, LedgerEntry, LedgerState, LedgerStatus, NamespaceBreaker, Time,
};
use crate::core::reason::Reason;

const MAX_ANOMALIES: usize = 200;
const MAX_BREAKERS: usize = 500;
/// Those of one namespace may not fill the list for all others.
const MAX_OF_NAMESPACE: usize = 40;

/// Refuses while the breaker of the namespace or of the cluster is open; after its cooldown one action may try.
pub fn closed(ledger: &LedgerStatus, charge: &Charge, budgets: &Budgets, now: Time) -> Result<(), Refusal> {
    lets_through(&ledger.breaker, "the cascade breaker", ledger, &charge.action_id, budgets, now)?;
    let own = ledger.breakers.iter().find(|breaker| breaker.namespace == charge.namespace);
    match own {
        Some(NamespaceBreaker { namespace, breaker }) => {
            let name = format!("the cascade breaker of namespace {namespace}");
            lets_through(breaker, &name, ledger, &charge.action_id, budgets, now)
        }
        None => Ok(()),
    }
}

fn lets_through(
    breaker: &Breaker,
    name: &str,
    ledger: &LedgerStatus,
    action_id: &str,
    budgets: &Budgets,
    now: Time,
) -> Result<(), Refusal> {
    let refuse = |message| Err(Refusal { reason: Reason::BreakerOpen, message });
    match breaker.state {
        BreakerState::Closed => Ok(()),
        BreakerState::HalfOpen if breaker.trial == action_id || trial_is_over(breaker, ledger, budgets, now) => Ok(()),
        BreakerState::HalfOpen => refuse(format!("{name} is half-open and its one trial is under way")),
        BreakerState::Open => {
            let cooldown = SignedDuration::from_secs(budgets.cascade_cooldown_seconds.into());
            match breaker.opened_at {
                Some(at) if now.duration_since(at) >= cooldown => Ok(()),
                at => refuse(format!(
                    "{name} opened at {} because of {}; nothing acts for {} s after that",
                    at.map_or("an unknown time".to_string(), |t| t.to_string()),
                    breaker.reason,
                    budgets.cascade_cooldown_seconds
                )),
            }
        }
    }
}

/// The trial ended without having shown anything: it was stopped before its write, or nobody has heard of it for a
/// whole cooldown. Another action may try then; else the breaker would wait forever.
fn trial_is_over(breaker: &Breaker, ledger: &LedgerStatus, budgets: &Budgets, now: Time) -> bool {
    let cooldown = SignedDuration::from_secs(budgets.cascade_cooldown_seconds.into());
    let trial = ledger.entries.iter().find(|entry: &&LedgerEntry| entry.action_id == breaker.trial);
    trial.is_none_or(|entry| entry.state == LedgerState::Refunded || now.duration_since(entry.at) >= cooldown)
}

/// An action was let through: it is the trial of each breaker that is not closed.
pub(super) fn begin_trial(ledger: &mut LedgerStatus, charge: &Charge) {
    let own = ledger.breakers.iter_mut().filter(|breaker| breaker.namespace == charge.namespace);
    for breaker in own.map(|own| &mut own.breaker).chain([&mut ledger.breaker]) {
        if breaker.state != BreakerState::Closed {
            breaker.state = BreakerState::HalfOpen;
            breaker.trial = charge.action_id.clone();
        }
    }
}

/// The trial of a half-open breaker ended well.
pub fn trial_succeeded(ledger: &LedgerStatus, action_id: &str) -> LedgerStatus {
    let mut next = ledger.clone();
    let ended = |breaker: &Breaker| breaker.state == BreakerState::HalfOpen && breaker.trial == action_id;
    if ended(&next.breaker) {
        next.breaker = Breaker::default();
        next.anomalies.clear();
    }
    let closed = next.breakers.iter().filter(|own| ended(&own.breaker)).map(|own| own.namespace.clone());
    for namespace in closed.collect::<Vec<_>>() {
        next.breakers.retain(|own| own.namespace != namespace);
        next.anomalies.retain(|anomaly| namespace_of(anomaly) != namespace);
    }
    next
}

/// Adds an anomaly: what is wrong with the answers of one incident counts once, whatever kinds it has and however often it
/// is said; what goes wrong with its writes counts once for each kind. Enough of them inside the window, or any during a
/// trial, open the breaker of the namespace; enough of those that [`concerns_all`], in more than one namespace, that of the
/// cluster.
pub fn anomaly(ledger: &LedgerStatus, anomaly: Anomaly, budgets: &Budgets) -> LedgerStatus {
    let now = anomaly.at;
    let (kind, namespace) = (anomaly.kind.clone(), namespace_of(&anomaly).to_owned());
    let mut next = pruned(ledger, budgets, now);
    let of_namespace = |next: &LedgerStatus| next.anomalies.iter().filter(|it| namespace_of(it) == namespace).count();
    let same = |it: &Anomaly| it.kind == anomaly.kind || of_answers(&it.kind) && of_answers(&anomaly.kind);
    let known = next.anomalies.iter().any(|it| it.incident == anomaly.incident && same(it));
    if !known && next.anomalies.len() < MAX_ANOMALIES && of_namespace(&next) < MAX_OF_NAMESPACE {
        next.anomalies.push(anomaly);
    }
    let enough = budgets.cascade_anomalies as usize;

    let of_all: Vec<&Anomaly> = next.anomalies.iter().filter(|anomaly| concerns_all(&anomaly.kind)).collect();
    let namespaces: BTreeSet<&str> = of_all.iter().map(|anomaly| namespace_of(anomaly)).collect();
    let too_many = of_all.len() >= enough && namespaces.len() > 1;
    let storm = kind == Reason::Storm.as_str();
    if concerns_all(&kind) && trips(&next.breaker, too_many || storm) {
        next.breaker = opened(now, &kind);
    }

    // A storm of the whole cluster is nobody's own.
    let too_many = of_namespace(&next) >= enough;
    let own = next.breakers.iter().position(|breaker| breaker.namespace == namespace);
    let state = own.map(|own| next.breakers[own].breaker.clone()).unwrap_or_default();
    if !storm && trips(&state, too_many) {
        match own {
            Some(own) => next.breakers[own].breaker = opened(now, &kind),
            None => {
                if next.breakers.len() >= MAX_BREAKERS {
                    next.breakers.remove(0);
                }
                next.breakers.push(NamespaceBreaker { namespace, breaker: opened(now, &kind) });
            }
        }
    }
    next
}

fn trips(breaker: &Breaker, too_many: bool) -> bool {
    match breaker.state {
        BreakerState::Closed => too_many,
        BreakerState::HalfOpen => true,
        BreakerState::Open => false,
    }
}

fn opened(now: Time, kind: &str) -> Breaker {
    Breaker { state: BreakerState::Open, opened_at: Some(now), reason: kind.to_owned(), trial: String::new() }
}

/// What the controller itself sees of writes that it had granted, which are in enrolled namespaces only, and a storm of
/// the cluster. What an investigation says, and what is refused before anything is written, concerns the namespace.
fn concerns_all(kind: &str) -> bool {
    let reasons = [Reason::Storm, Reason::VerifyFailed, Reason::Undone, Reason::Relapsed, Reason::ExecutorSilent];
    reasons.iter().any(|reason| reason.as_str() == kind)
}

/// It is about what a diagnosis says, and not about a write.
fn of_answers(kind: &str) -> bool {
    kind != Reason::RefusedByPolicy.as_str() && !concerns_all(kind)
}

/// Namespace of the incident, which is written `namespace/name`.
fn namespace_of(anomaly: &Anomaly) -> &str {
    anomaly.incident.split_once('/').map_or("", |(namespace, _)| namespace)
}
