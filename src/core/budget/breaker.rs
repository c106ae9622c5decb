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
        close(&mut next, &namespace, Time::MAX);
    }
    next
}

/// Closes the breaker of a namespace, or of the cluster where it is empty, and forgets what counts for it and is not later than
/// `up_to`.
fn close(ledger: &mut LedgerStatus, namespace: &str, up_to: Time) {
    if namespace.is_empty() {
        ledger.breaker = Breaker::default();
    } else {
        ledger.breakers.retain(|own| own.namespace != namespace);
    }
    ledger.anomalies.retain(|anomaly| !counts_for(namespace, anomaly) || anomaly.at > up_to);
}

/// Whether an anomaly counts for the breaker of a namespace, or of the cluster where it is empty.
fn counts_for(namespace: &str, anomaly: &Anomaly) -> bool {
    match namespace {
        "" => concerns_all(&anomaly.kind),
        namespace => namespace_of(anomaly) == namespace,
    }
}

/// The breaker of a namespace, or of the cluster where it is empty.
pub fn of<'a>(ledger: &'a LedgerStatus, namespace: &str) -> Option<&'a Breaker> {
    if namespace.is_empty() {
        return Some(&ledger.breaker);
    }
    ledger.breakers.iter().find(|own| own.namespace == namespace).map(|own| &own.breaker)
}

/// The times that stand in the Ledger of what a person who resets this namespace now would forget: of the opening of its
/// breaker, of what counts for that, and of what went wrong after the writes whose targets are held.
fn times<'a>(ledger: &'a LedgerStatus, namespace: &'a str) -> impl Iterator<Item = Time> + 'a {
    let open = of(ledger, namespace).filter(|breaker| breaker.state != BreakerState::Closed);
    let counted = ledger.anomalies.iter().filter(move |anomaly| open.is_some() && counts_for(namespace, anomaly));
    let held = ledger.entries.iter().filter(move |entry| concerns(namespace, &entry.namespace)).filter_map(failed_at);
    open.and_then(|breaker| breaker.opened_at).into_iter().chain(counted.map(|anomaly| anomaly.at)).chain(held)
}

/// When something went wrong after a write; `None` where nothing did. An earlier release did not note the time.
fn failed_at(entry: &LedgerEntry) -> Option<Time> {
    (!entry.failed.is_empty()).then(|| entry.failed_at.unwrap_or(entry.at))
}

/// Up to when a person who resets this namespace now would forget: the latest that stands in the Ledger. `None` where the
/// breaker is closed and no target is held.
pub fn resettable(ledger: &LedgerStatus, namespace: &str) -> Option<Time> {
    times(ledger, namespace).max()
}

/// Whether something of that time is still there to be reset.
pub fn stands(ledger: &LedgerStatus, namespace: &str, up_to: Time) -> bool {
    times(ledger, namespace).any(|at| at == up_to)
}

/// Resets by people that are about something that is still there. What was reset is not, so none is due again.
pub fn resets_due<'a>(spec: &'a LedgerSpec, ledger: &LedgerStatus) -> Vec<&'a BreakerReset> {
    spec.resets.iter().filter(|reset| stands(ledger, &reset.namespace, reset.up_to)).collect()
}

/// Does what a person said, if it is due: closes the breaker, forgets what opened it, and releases the targets that were held.
/// What is later than what the person saw stays: a target whose write failed since is held, and a breaker for which enough has
/// been counted since is open.
pub fn reset(ledger: &LedgerStatus, reset: &BreakerReset, budgets: &Budgets) -> LedgerStatus {
    let BreakerReset { namespace, up_to, .. } = reset;
    let mut next = ledger.clone();
    if !stands(ledger, namespace, *up_to) {
        return next;
    }
    let open = of(ledger, namespace).filter(|breaker| breaker.state != BreakerState::Closed);
    if open.is_some_and(|breaker| breaker.opened_at.is_none_or(|at| at <= *up_to)) {
        close(&mut next, namespace, *up_to);
        let later: Vec<Anomaly> = next.anomalies.iter().filter(|it| counts_for(namespace, it)).cloned().collect();
        if let Some(last) =
            later.iter().max_by_key(|anomaly| anomaly.at).filter(|_| is_enough(&later, namespace, budgets))
        {
            open_anew(&mut next, namespace, opened(last.at, &last.kind, &last.incident));
        }
    }
    let released = |entry: &&mut LedgerEntry| concerns(namespace, &entry.namespace) && failed_at(entry) <= Some(*up_to);
    for entry in next.entries.iter_mut().filter(released) {
        entry.failed.clear();
        entry.failed_at = None;
    }
    next
}

/// Whether what was counted for the breaker of a namespace, or of the cluster where it is empty, opens it.
fn is_enough(counted: &[Anomaly], namespace: &str, budgets: &Budgets) -> bool {
    let namespaces: BTreeSet<&str> = counted.iter().map(namespace_of).collect();
    weight_of(counted.iter()) >= budgets.cascade_anomalies as usize && (!namespace.is_empty() || namespaces.len() > 1)
}

fn open_anew(ledger: &mut LedgerStatus, namespace: &str, breaker: Breaker) {
    if namespace.is_empty() {
        ledger.breaker = breaker;
        return;
    }
    if let Some(own) = ledger.breakers.iter_mut().find(|own| own.namespace == namespace) {
        own.breaker = breaker;
        return;
    }
    if ledger.breakers.len() >= MAX_BREAKERS {
        ledger.breakers.remove(0);
    }
    ledger.breakers.push(NamespaceBreaker { namespace: namespace.to_owned(), breaker });
}

/// Whether what is said of `namespace`, or of all where it is empty, is said of `other`.
fn concerns(namespace: &str, other: &str) -> bool {
    namespace.is_empty() || namespace == other
}

/// What opened the breakers that this incident opened, and which these are: for the page that tells of them.
pub fn told_by(ledger: &LedgerStatus, incident: &str) -> Vec<String> {
    let opened =
        |(_, breaker): &(&str, &Breaker)| breaker.state != BreakerState::Closed && breaker.opened_by == incident;
    let mut lines = vec![];
    for (namespace, breaker) in all_of(ledger).filter(opened) {
        let because: Vec<String> = (ledger.anomalies.iter().filter(|anomaly| counts_for(namespace, anomaly)))
            .map(|anomaly| format!("{} of Incident {} at {}", anomaly.kind, anomaly.incident, anomaly.at))
            .collect();
        let name = name_of(namespace);
        let flag = if namespace.is_empty() { String::new() } else { format!(" --namespace {namespace}") };
        let at = breaker.opened_at.map(|at| at.to_string()).unwrap_or_default();
        lines.push(format!(
            "the cascade breaker {name} opened at {at}: {}. Nothing new is written there; `backstop breaker reset{flag} --why \
             REASON` closes it",
            because.join("; ")
        ));
    }
    lines
}

fn all_of(ledger: &LedgerStatus) -> impl Iterator<Item = (&str, &Breaker)> {
    let own = ledger.breakers.iter().map(|own| (own.namespace.as_str(), &own.breaker));
    [("", &ledger.breaker)].into_iter().chain(own)
}

fn name_of(namespace: &str) -> String {
    if namespace.is_empty() { "of the cluster".to_owned() } else { format!("of namespace {namespace}") }
}

/// The breakers that a change opened, each as a sentence.
pub fn opened_since(old: &LedgerStatus, new: &LedgerStatus) -> Vec<String> {
    let was_open = |namespace: &str, breaker: &Breaker| {
        of(old, namespace).is_some_and(|it| it.state == BreakerState::Open && it.opened_at == breaker.opened_at)
    };
    let opened =
        all_of(new).filter(|(namespace, breaker)| breaker.state == BreakerState::Open && !was_open(namespace, breaker));
    let sentence = |(namespace, breaker): (&str, &Breaker)| {
        let (name, why) = (name_of(namespace), &breaker.reason);
        format!(
            "the cascade breaker {name} has opened, with {why} as the last of what went wrong: nothing new is written there"
        )
    };
    opened.map(sentence).collect()
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
    let of_namespace = |next: &LedgerStatus| {
        next.anomalies.iter().filter(|it| namespace_of(it) == namespace).cloned().collect::<Vec<_>>()
    };
    let same = |it: &Anomaly| it.kind == anomaly.kind || of_answers(&it.kind) && of_answers(&anomaly.kind);
    let known = next.anomalies.iter().any(|it| it.incident == anomaly.incident && same(it));
    if says_that_a_write_failed(&kind) {
        hold(&mut next, &anomaly, known);
    }
    if !known && next.anomalies.len() < MAX_ANOMALIES && of_namespace(&next).len() < MAX_OF_NAMESPACE {
        next.anomalies.push(anomaly);
    }

    let of_all: Vec<Anomaly> = next.anomalies.iter().filter(|it| concerns_all(&it.kind)).cloned().collect();
    let storm = kind == Reason::Storm.as_str();
    if concerns_all(&kind) && trips(&next.breaker, is_enough(&of_all, "", budgets) || storm) {
        open_anew(&mut next, "", opened(now, &kind, &incident));
    }

    // A storm of the whole cluster is nobody's own.
    let too_many = is_enough(&of_namespace(&next), &namespace, budgets);
    let state = of(&next, &namespace).cloned().unwrap_or_default();
    if !storm && trips(&state, too_many) {
        open_anew(&mut next, &namespace, opened(now, &kind, &incident));
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

/// The target of a write that did not hold is left to people. What goes wrong later is another matter, of which nobody has said
/// anything yet: its time is noted, but for what is said once more (`known`).
fn hold(ledger: &mut LedgerStatus, anomaly: &Anomaly, known: bool) {
    let Some((namespace, name)) = anomaly.incident.split_once('/') else { return };
    let of_incident = |entry: &&mut LedgerEntry| entry.namespace == namespace && entry.incident == name && !entry.undo;
    for entry in ledger.entries.iter_mut().filter(of_incident) {
        let held = !entry.failed.is_empty();
        if held && known {
            continue;
        }
        entry.failed_at = failed_at(entry).max(Some(anomaly.at));
        if !held {
            entry.failed.clone_from(&anomaly.kind);
        }
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
fn namespace_of(anomaly: &Anomaly) -> &str {
    anomaly.incident.split_once('/').map_or("", |(namespace, _)| namespace)
}
