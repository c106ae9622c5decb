//! The cascade breakers: too much went wrong of late, so nothing new is started. Each namespace has one, fed by whatever
//! goes wrong in it. That of the cluster counts only what the controller itself saw of writes, in more than one
//! namespace: nobody who writes in one namespace stops the others.

use std::collections::BTreeSet;

use jiff::SignedDuration;

use super::{Budgets, Charge, Refusal, pruned};
use crate::api::v1alpha1::{
    Anomaly, Breaker, BreakerReset, BreakerState, LedgerEntry, LedgerSpec, LedgerState, LedgerStatus, NamespaceBreaker,
    Time,
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
    let all = ended(&next.breaker).then(String::new);
    let own = next.breakers.iter().filter(|own| ended(&own.breaker)).map(|own| own.namespace.clone());
    for namespace in all.into_iter().chain(own).collect::<Vec<_>>() {
        close(&mut next, &namespace);
    }
    next
}

/// Closes the breaker of a namespace, or of the cluster where it is empty, and forgets what opened it.
fn close(ledger: &mut LedgerStatus, namespace: &str) {
    if namespace.is_empty() {
        ledger.breaker = Breaker::default();
        ledger.anomalies.clear();
    } else {
        ledger.breakers.retain(|own| own.namespace != namespace);
        ledger.anomalies.retain(|anomaly| namespace_of(anomaly) != namespace);
    }
}

/// The breaker of a namespace, or of the cluster where it is empty.
pub fn of<'a>(ledger: &'a LedgerStatus, namespace: &str) -> Option<&'a Breaker> {
    if namespace.is_empty() {
        return Some(&ledger.breaker);
    }
    ledger.breakers.iter().find(|own| own.namespace == namespace).map(|own| &own.breaker)
}

/// What a person who resets this namespace now would forget: the opening of its breaker, or else the latest write that holds
/// a target. `None` where there is neither.
pub fn resettable(ledger: &LedgerStatus, namespace: &str) -> Option<Time> {
    let open = of(ledger, namespace).filter(|breaker| breaker.state != BreakerState::Closed);
    let held = ledger.entries.iter().filter(|entry| !entry.failed.is_empty() && concerns(namespace, &entry.namespace));
    open.and_then(|breaker| breaker.opened_at).or_else(|| held.map(|entry| entry.at).max())
}

/// Resets by people that are about something that is still there. A breaker that has closed since, or has opened anew, is
/// another matter: what people said of it is over.
pub fn resets_due<'a>(spec: &'a LedgerSpec, ledger: &LedgerStatus) -> Vec<&'a BreakerReset> {
    let due = |reset: &&BreakerReset| resettable(ledger, &reset.namespace) == Some(reset.up_to);
    spec.resets.iter().filter(due).collect()
}

/// Does what a person said, if it is due: closes the breaker, forgets what opened it, and releases the targets that were held.
pub fn reset(ledger: &LedgerStatus, reset: &BreakerReset) -> LedgerStatus {
    let BreakerReset { namespace, up_to, .. } = reset;
    let mut next = ledger.clone();
    if resettable(ledger, namespace) != Some(*up_to) {
        return next;
    }
    if of(ledger, namespace).is_some_and(|breaker| breaker.opened_at == Some(*up_to)) {
        close(&mut next, namespace);
    }
    let released = |entry: &&mut LedgerEntry| concerns(namespace, &entry.namespace) && entry.at <= *up_to;
    next.entries.iter_mut().filter(released).for_each(|entry| entry.failed.clear());
    next
}

/// Whether what is said of `namespace`, or of all where it is empty, is said of `other`.
fn concerns(namespace: &str, other: &str) -> bool {
    namespace.is_empty() || namespace == other
}

/// What opened the breakers that this incident opened, and which these are: for the page that tells of them.
pub fn told_by(ledger: &LedgerStatus, incident: &str) -> Vec<String> {
    let all = [("", &ledger.breaker)].into_iter();
    let own = ledger.breakers.iter().map(|own| (own.namespace.as_str(), &own.breaker));
    let opened =
        |(_, breaker): &(&str, &Breaker)| breaker.state != BreakerState::Closed && breaker.opened_by == incident;
    let mut lines = vec![];
    for (namespace, breaker) in all.chain(own).filter(opened) {
        let concerns = |anomaly: &&Anomaly| match namespace {
            "" => concerns_all(&anomaly.kind),
            namespace => namespace_of(anomaly) == namespace,
        };
        let because: Vec<String> = (ledger.anomalies.iter().filter(concerns))
            .map(|anomaly| format!("{} of Incident {} at {}", anomaly.kind, anomaly.incident, anomaly.at))
            .collect();
        let (name, flag) = match namespace {
            "" => ("of the cluster".to_owned(), String::new()),
            namespace => (format!("of namespace {namespace}"), format!(" --namespace {namespace}")),
        };
        let at = breaker.opened_at.map(|at| at.to_string()).unwrap_or_default();
        lines.push(format!(
            "the cascade breaker {name} opened at {at}: {}. Nothing new is written there; `backstop breaker reset{flag} --why \
             REASON` closes it",
            because.join("; ")
        ));
    }
    lines
}

/// What an anomaly counts. A write that did not help, one that nobody answered for, and one that somebody reverted say more
/// than an answer that does not hold: that one was stopped before it did anything.
pub fn weight(kind: &str) -> usize {
    let heavy = [Reason::VerifyFailed, Reason::ExecutorSilent, Reason::Reverted];
    if heavy.iter().any(|reason| reason.as_str() == kind) { 2 } else { 1 }
}

fn weight_of<'a>(anomalies: impl Iterator<Item = &'a Anomaly>) -> usize {
    anomalies.map(|anomaly| weight(&anomaly.kind)).sum()
}

/// Adds an anomaly: what is wrong with the answers of one incident counts once, whatever kinds it has and however often it
/// is said; what goes wrong with its writes counts once for each kind, and holds their target. Enough weight inside the
/// window, or any anomaly during a trial, opens the breaker of the namespace; enough of those that [`concerns_all`], in more
/// than one namespace, that of the cluster.
pub fn anomaly(ledger: &LedgerStatus, anomaly: Anomaly, budgets: &Budgets) -> LedgerStatus {
    let now = anomaly.at;
    let Anomaly { kind, incident, .. } = anomaly.clone();
    let namespace = namespace_of(&anomaly).to_owned();
    let mut next = pruned(ledger, budgets, now);
    if says_that_a_write_failed(&kind) {
        hold(&mut next, &incident, &kind);
    }
    let of_namespace = |next: &LedgerStatus| {
        next.anomalies.iter().filter(|it| namespace_of(it) == namespace).cloned().collect::<Vec<_>>()
    };
    let same = |it: &Anomaly| it.kind == anomaly.kind || of_answers(&it.kind) && of_answers(&anomaly.kind);
    let known = next.anomalies.iter().any(|it| it.incident == anomaly.incident && same(it));
    if !known && next.anomalies.len() < MAX_ANOMALIES && of_namespace(&next).len() < MAX_OF_NAMESPACE {
        next.anomalies.push(anomaly);
    }
    let enough = budgets.cascade_anomalies as usize;

    let of_all: Vec<&Anomaly> = next.anomalies.iter().filter(|anomaly| concerns_all(&anomaly.kind)).collect();
    let namespaces: BTreeSet<&str> = of_all.iter().map(|anomaly| namespace_of(anomaly)).collect();
    let too_many = weight_of(of_all.iter().copied()) >= enough && namespaces.len() > 1;
    let storm = kind == Reason::Storm.as_str();
    if concerns_all(&kind) && trips(&next.breaker, too_many || storm) {
        next.breaker = opened(now, &kind, &incident);
    }

    // A storm of the whole cluster is nobody's own.
    let too_many = weight_of(of_namespace(&next).iter()) >= enough;
    let own = next.breakers.iter().position(|breaker| breaker.namespace == namespace);
    let state = own.map(|own| next.breakers[own].breaker.clone()).unwrap_or_default();
    if !storm && trips(&state, too_many) {
        match own {
            Some(own) => next.breakers[own].breaker = opened(now, &kind, &incident),
            None => {
                if next.breakers.len() >= MAX_BREAKERS {
                    next.breakers.remove(0);
                }
                next.breakers.push(NamespaceBreaker { namespace, breaker: opened(now, &kind, &incident) });
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

fn opened(now: Time, kind: &str, incident: &str) -> Breaker {
    let (reason, opened_by) = (kind.to_owned(), incident.to_owned());
    Breaker { state: BreakerState::Open, opened_at: Some(now), reason, opened_by, trial: String::new() }
}

/// The target of a write that did not hold is left to people.
fn hold(ledger: &mut LedgerStatus, incident: &str, kind: &str) {
    let Some((namespace, name)) = incident.split_once('/') else { return };
    let of_incident = |entry: &&mut LedgerEntry| entry.namespace == namespace && entry.incident == name && !entry.undo;
    for entry in ledger.entries.iter_mut().filter(of_incident).filter(|entry| entry.failed.is_empty()) {
        entry.failed = kind.to_owned();
    }
}

fn says_that_a_write_failed(kind: &str) -> bool {
    let reasons = [Reason::VerifyFailed, Reason::Undone, Reason::Relapsed, Reason::Reverted];
    reasons.iter().any(|reason| reason.as_str() == kind)
}

/// What the controller itself sees of writes that it had granted, which are in enrolled namespaces only, and a storm of
/// the cluster. What an investigation says, and what is refused before anything is written, concerns the namespace.
fn concerns_all(kind: &str) -> bool {
    let reasons = [Reason::Storm, Reason::VerifyFailed, Reason::Undone, Reason::Relapsed, Reason::ExecutorSilent];
    reasons.iter().any(|reason| reason.as_str() == kind)
}

/// It is about what a diagnosis says, and not about a write.
fn of_answers(kind: &str) -> bool {
    let of_writes = [Reason::RefusedByPolicy, Reason::ChangedByOthers, Reason::Reverted];
    !of_writes.iter().any(|reason| reason.as_str() == kind) && !concerns_all(kind)
}

/// Namespace of the incident, which is written `namespace/name`.
fn namespace_of(anomaly: &Anomaly) -> &str {
    anomaly.incident.split_once('/').map_or("", |(namespace, _)| namespace)
}
