//! Budgets across incidents: charges, the cascade breaker and the storm. Everything is a pure function of the
//! Ledger's status; the caller stores the result by compare-and-swap *before* it acts.

use jiff::SignedDuration;
use serde::Deserialize;

use crate::api::v1alpha1::{Anomaly, BreakerState, LedgerEntry, LedgerState, LedgerStatus, ObjectRef, Time};

use super::{policy::CompiledPolicy, reason::Reason};

/// Entries older than this are dropped.
const KEEP: SignedDuration = SignedDuration::from_hours(24);
const HOUR: SignedDuration = SignedDuration::from_hours(1);
/// Maximum number of entries; when it is reached no further action is charged.
const MAX_ENTRIES: usize = 2_000;
const MAX_ANOMALIES: usize = 200;

/// Budgets across incidents, part of the settings file.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Budgets {
    /// Maximum number of actions in the cluster within any hour.
    pub actions_per_hour: u32,
    /// Maximum number of actions in one namespace within any hour.
    pub actions_per_namespace_per_hour: u32,
    /// Minimum time between two actions on one target, in seconds.
    pub target_cooldown_seconds: u32,
    /// Number of anomalies within the window that opens the cascade breaker.
    pub cascade_anomalies: u32,
    /// Window of the cascade breaker, in seconds.
    pub cascade_window_seconds: u32,
    /// Time after which an open breaker allows one trial, in seconds.
    pub cascade_cooldown_seconds: u32,
    /// Number of targets with an incident within the storm window that counts as a storm and opens the breaker.
    pub storm_incidents: u32,
    /// Storm window, in seconds.
    pub storm_window_seconds: u32,
}

impl Default for Budgets {
    fn default() -> Self {
        Budgets {
            actions_per_hour: 20,
            actions_per_namespace_per_hour: 10,
            target_cooldown_seconds: 1800,
            cascade_anomalies: 5,
            cascade_window_seconds: 600,
            cascade_cooldown_seconds: 900,
            storm_incidents: 10,
            storm_window_seconds: 300,
        }
    }
}

/// One action to be charged to the budgets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// Identity of the action.
    pub action_id: String,
    /// Namespace of the target.
    pub namespace: String,
    /// UID of the target.
    pub target_uid: String,
    /// Name of the Incident.
    pub incident: String,
    /// Whether it undoes or completes an earlier write. Budgets never refuse that, but always count it.
    pub undo: bool,
    /// Policy limit on actions in this namespace within any hour.
    pub policy_per_hour: Option<u32>,
    /// Policy cooldown of the target, in seconds.
    pub policy_cooldown: Option<u32>,
}

/// Why an action is not charged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The constant.
    pub reason: Reason,
    /// One sentence.
    pub message: String,
}

impl Charge {
    /// The charge for one action on `target`, limited by the Policies that match it.
    pub fn of(action_id: &str, incident: &str, target: &ObjectRef, policies: &[&CompiledPolicy]) -> Charge {
        let limits = || policies.iter().map(|policy| &policy.spec.limits);
        let unsigned = |value: i32| u32::try_from(value).unwrap_or(0);
        Charge {
            action_id: action_id.to_string(),
            namespace: target.namespace.clone(),
            target_uid: target.uid.clone(),
            incident: incident.to_string(),
            undo: false,
            policy_per_hour: limits().filter_map(|l| l.actions_per_hour).map(unsigned).min(),
            policy_cooldown: limits().filter_map(|l| l.cooldown_seconds).map(unsigned).max(),
        }
    }

    /// The charge for a write that undoes or completes an earlier one.
    pub fn following(action_id: &str, incident: &str, target: &ObjectRef) -> Charge {
        Charge { undo: true, ..Charge::of(action_id, incident, target, &[]) }
    }
}

/// Charges an action. An action ID is charged once: repeating it changes nothing.
pub fn reserve(ledger: &LedgerStatus, charge: &Charge, budgets: &Budgets, now: Time) -> Result<LedgerStatus, Refusal> {
    if ledger.entries.iter().any(|entry| entry.action_id == charge.action_id) {
        return Ok(ledger.clone());
    }
    if !charge.undo {
        cooldown(ledger, charge, budgets, now)?;
        hourly(ledger, charge, budgets, now)?;
        breaker(ledger, &charge.action_id, budgets, now)?;
    }
    let mut next = pruned(ledger, budgets, now);
    if next.entries.len() >= MAX_ENTRIES {
        return Err(Refusal {
            reason: Reason::HourlyBudget,
            message: format!("the Ledger holds {MAX_ENTRIES} actions of the last day, which is its bound"),
        });
    }
    if next.breaker.state != BreakerState::Closed && !charge.undo {
        next.breaker.state = BreakerState::HalfOpen;
        next.breaker.trial = charge.action_id.clone();
    }
    next.entries.push(LedgerEntry {
        action_id: charge.action_id.clone(),
        namespace: charge.namespace.clone(),
        target_uid: charge.target_uid.clone(),
        incident: charge.incident.clone(),
        at: now,
        state: LedgerState::Reserved,
        undo: charge.undo,
    });
    Ok(next)
}

/// Refuses a second action on one target inside its cooldown.
pub fn cooldown(ledger: &LedgerStatus, charge: &Charge, budgets: &Budgets, now: Time) -> Result<(), Refusal> {
    let seconds = budgets.target_cooldown_seconds.max(charge.policy_cooldown.unwrap_or(0));
    let length = SignedDuration::from_secs(seconds.into());
    let latest = counted(ledger)
        .filter(|entry| entry.target_uid == charge.target_uid && entry.action_id != charge.action_id)
        .map(|entry| entry.at)
        .max();
    match latest {
        Some(at) if now.duration_since(at) < length => Err(Refusal {
            reason: Reason::Cooldown,
            message: format!("the target was written to at {at}; the cooldown of {seconds} s has not passed"),
        }),
        _ => Ok(()),
    }
}

/// Refuses when the actions of the last hour are used up, in the cluster or in the namespace.
pub fn hourly(ledger: &LedgerStatus, charge: &Charge, budgets: &Budgets, now: Time) -> Result<(), Refusal> {
    let recent = || counted(ledger).filter(|e| now.duration_since(e.at) < HOUR && e.action_id != charge.action_id);
    let here = u32::try_from(recent().filter(|entry| entry.namespace == charge.namespace).count()).unwrap_or(u32::MAX);
    let all = u32::try_from(recent().count()).unwrap_or(u32::MAX);
    let namespace_limit = charge
        .policy_per_hour
        .map_or(budgets.actions_per_namespace_per_hour, |p| p.min(budgets.actions_per_namespace_per_hour));
    let refuse = |what: &str, spent: u32, limit: u32| Refusal {
        reason: Reason::HourlyBudget,
        message: format!("{spent} of {limit} actions {what} were spent in the last hour"),
    };
    if here >= namespace_limit {
        return Err(refuse(&format!("in namespace {}", charge.namespace), here, namespace_limit));
    }
    if all >= budgets.actions_per_hour {
        return Err(refuse("in the cluster", all, budgets.actions_per_hour));
    }
    Ok(())
}

/// Refuses while the cascade breaker is open; after its cooldown one action may try.
pub fn breaker(ledger: &LedgerStatus, action_id: &str, budgets: &Budgets, now: Time) -> Result<(), Refusal> {
    let refuse = |message| Err(Refusal { reason: Reason::BreakerOpen, message });
    let breaker = &ledger.breaker;
    match breaker.state {
        BreakerState::Closed => Ok(()),
        BreakerState::HalfOpen if breaker.trial == action_id || trial_is_over(ledger, budgets, now) => Ok(()),
        BreakerState::HalfOpen => refuse("the cascade breaker is half-open and its one trial is under way".to_string()),
        BreakerState::Open => {
            let cooldown = SignedDuration::from_secs(budgets.cascade_cooldown_seconds.into());
            match breaker.opened_at {
                Some(at) if now.duration_since(at) >= cooldown => Ok(()),
                at => refuse(format!(
                    "the cascade breaker opened at {} because of {}; nothing acts for {} s after that",
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
fn trial_is_over(ledger: &LedgerStatus, budgets: &Budgets, now: Time) -> bool {
    let cooldown = SignedDuration::from_secs(budgets.cascade_cooldown_seconds.into());
    let trial = ledger.entries.iter().find(|entry| entry.action_id == ledger.breaker.trial);
    trial.is_none_or(|entry| entry.state == LedgerState::Refunded || now.duration_since(entry.at) >= cooldown)
}

/// Records what became of an action. The breaker does not change by it: see [`trial_succeeded`] and [`anomaly`].
pub fn settle(ledger: &LedgerStatus, action_id: &str, state: LedgerState) -> LedgerStatus {
    let mut next = ledger.clone();
    for entry in next.entries.iter_mut().filter(|entry| entry.action_id == action_id) {
        entry.state = state;
    }
    next
}

/// The trial of a half-open breaker ended well.
pub fn trial_succeeded(ledger: &LedgerStatus, action_id: &str) -> LedgerStatus {
    let mut next = ledger.clone();
    if next.breaker.state == BreakerState::HalfOpen && next.breaker.trial == action_id {
        next.breaker = Default::default();
        next.anomalies.clear();
    }
    next
}

/// Adds an anomaly; enough of them inside the window, or any during a trial, open the breaker.
pub fn anomaly(ledger: &LedgerStatus, anomaly: Anomaly, budgets: &Budgets) -> LedgerStatus {
    let now = anomaly.at;
    let kind = anomaly.kind.clone();
    let mut next = pruned(ledger, budgets, now);
    let known = next.anomalies.iter().any(|a| a.kind == anomaly.kind && a.incident == anomaly.incident);
    if !known && next.anomalies.len() < MAX_ANOMALIES {
        next.anomalies.push(anomaly);
    }
    let too_many = next.anomalies.len() >= budgets.cascade_anomalies as usize;
    let trip = match next.breaker.state {
        BreakerState::Closed => too_many,
        BreakerState::HalfOpen => true,
        BreakerState::Open => false,
    };
    if trip || kind == Reason::Storm.as_str() && next.breaker.state == BreakerState::Closed {
        next.breaker.state = BreakerState::Open;
        next.breaker.opened_at = Some(now);
        next.breaker.reason = kind;
        next.breaker.trial.clear();
    }
    next
}

fn counted(ledger: &LedgerStatus) -> impl Iterator<Item = &LedgerEntry> {
    ledger.entries.iter().filter(|entry| entry.state != LedgerState::Refunded && !entry.undo)
}

fn pruned(ledger: &LedgerStatus, budgets: &Budgets, now: Time) -> LedgerStatus {
    let mut next = ledger.clone();
    next.entries.retain(|entry| now.duration_since(entry.at) < KEEP);
    let window = SignedDuration::from_secs(budgets.cascade_window_seconds.into());
    next.anomalies.retain(|anomaly| now.duration_since(anomaly.at) < window);
    next
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Time {
        Time::from_second(1_800_000_000 + second).unwrap()
    }

    fn charge(id: &str, uid: &str) -> Charge {
        Charge {
            action_id: id.into(),
            namespace: "shop".into(),
            target_uid: uid.into(),
            incident: "inc".into(),
            undo: false,
            policy_per_hour: None,
            policy_cooldown: None,
        }
    }

    fn bad(second: i64, incident: &str) -> Anomaly {
        Anomaly { at: at(second), kind: "VerifyFailed".into(), incident: incident.into() }
    }

    #[test]
    fn the_same_action_is_charged_once() {
        let budgets = Budgets { actions_per_hour: 1, ..Budgets::default() };
        let one = reserve(&LedgerStatus::default(), &charge("a", "u"), &budgets, at(0)).unwrap();
        assert_eq!(reserve(&one, &charge("a", "u"), &budgets, at(1)).unwrap(), one);
    }

    #[test]
    fn a_target_rests_after_an_action_even_if_its_outcome_is_unknown() {
        let budgets = Budgets::default();
        let one = reserve(&LedgerStatus::default(), &charge("a", "u"), &budgets, at(0)).unwrap();
        assert_eq!(reserve(&one, &charge("b", "u"), &budgets, at(1799)).unwrap_err().reason, Reason::Cooldown);
        assert!(reserve(&one, &charge("b", "u"), &budgets, at(1800)).is_ok());
        assert!(reserve(&one, &charge("b", "other"), &budgets, at(1)).is_ok());
    }

    #[test]
    fn only_a_proof_that_nothing_happened_refunds() {
        let budgets = Budgets::default();
        let one = reserve(&LedgerStatus::default(), &charge("a", "u"), &budgets, at(0)).unwrap();
        assert!(reserve(&settle(&one, "a", LedgerState::Spent), &charge("b", "u"), &budgets, at(1)).is_err());
        assert!(reserve(&settle(&one, "a", LedgerState::Refunded), &charge("b", "u"), &budgets, at(1)).is_ok());
    }

    #[test]
    fn an_undo_is_always_charged_and_never_refused() {
        let budgets = Budgets { actions_per_hour: 0, ..Budgets::default() };
        let undo = Charge { undo: true, ..charge("a", "u") };
        assert_eq!(reserve(&LedgerStatus::default(), &undo, &budgets, at(0)).unwrap().entries.len(), 1);
    }

    #[test]
    fn a_policy_can_lower_the_hourly_budget_and_not_raise_it() {
        let budgets = Budgets { actions_per_namespace_per_hour: 1, ..Budgets::default() };
        let one = reserve(&LedgerStatus::default(), &charge("a", "u"), &budgets, at(0)).unwrap();
        let more = Charge { policy_per_hour: Some(99), ..charge("b", "v") };
        assert_eq!(reserve(&one, &more, &budgets, at(1)).unwrap_err().reason, Reason::HourlyBudget);
        let none = Charge { policy_per_hour: Some(0), ..charge("a", "u") };
        assert!(reserve(&LedgerStatus::default(), &none, &budgets, at(0)).is_err());
    }

    #[test]
    fn enough_anomalies_open_the_breaker_and_one_trial_follows_the_cooldown() {
        let budgets = Budgets { cascade_anomalies: 2, ..Budgets::default() };
        let ledger = anomaly(&LedgerStatus::default(), bad(0, "a"), &budgets);
        assert!(breaker(&ledger, "x", &budgets, at(1)).is_ok());
        let ledger = anomaly(&ledger, bad(1, "b"), &budgets);
        assert_eq!(breaker(&ledger, "x", &budgets, at(2)).unwrap_err().reason, Reason::BreakerOpen);
        let later = at(1 + 900);
        let trial = reserve(&ledger, &charge("x", "u"), &budgets, later).unwrap();
        assert!(reserve(&trial, &charge("y", "v"), &budgets, later).is_err());
        assert!(breaker(&trial_succeeded(&trial, "x"), "y", &budgets, later).is_ok());
        let reopened = anomaly(&trial, bad(950, "c"), &budgets);
        assert_eq!(reopened.breaker.state, BreakerState::Open);
    }

    #[test]
    fn a_trial_that_never_wrote_or_was_never_heard_of_again_makes_room_for_another() {
        let budgets = Budgets { cascade_anomalies: 1, ..Budgets::default() };
        let open = anomaly(&LedgerStatus::default(), bad(0, "a"), &budgets);
        let begun = at(900);
        let trial = reserve(&open, &charge("x", "u"), &budgets, begun).unwrap();
        assert!(reserve(&trial, &charge("y", "v"), &budgets, at(901)).is_err());
        let stopped = settle(&trial, "x", LedgerState::Refunded);
        let second = reserve(&stopped, &charge("y", "v"), &budgets, at(901)).unwrap();
        assert_eq!(second.breaker.trial, "y");
        assert!(reserve(&second, &charge("z", "w"), &budgets, at(902)).is_err(), "one at a time");
        assert!(reserve(&trial, &charge("y", "v"), &budgets, at(900 + 899)).is_err());
        assert!(reserve(&trial, &charge("y", "v"), &budgets, at(900 + 900)).is_ok());
    }

    #[test]
    fn anomalies_outside_of_the_window_are_forgotten() {
        let budgets = Budgets { cascade_anomalies: 2, ..Budgets::default() };
        let ledger = anomaly(&LedgerStatus::default(), bad(0, "a"), &budgets);
        let ledger = anomaly(&ledger, bad(600, "b"), &budgets);
        assert_eq!(ledger.breaker.state, BreakerState::Closed);
    }

    #[test]
    fn one_incident_that_stutters_does_not_open_the_breaker_alone() {
        let budgets = Budgets::default();
        let mut ledger = LedgerStatus::default();
        for second in 0..20 {
            ledger = anomaly(&ledger, bad(second, "a"), &budgets);
        }
        assert_eq!(ledger.breaker.state, BreakerState::Closed);
    }

    #[test]
    fn a_storm_opens_the_breaker_at_once() {
        let storm = Anomaly { at: at(0), kind: Reason::Storm.as_str().into(), incident: "a".into() };
        assert_eq!(anomaly(&LedgerStatus::default(), storm, &Budgets::default()).breaker.state, BreakerState::Open);
    }

    proptest! {
        #[test]
        fn whatever_is_asked_for_no_hour_holds_more_actions_than_its_budget(
            asks in proptest::collection::vec((0i64..10_000, 0u8..40, 0u8..6, 0u8..3), 1..120),
            limit in 1u32..6,
        ) {
            let budgets = Budgets { actions_per_hour: limit, actions_per_namespace_per_hour: limit, ..Budgets::default() };
            let mut asks = asks;
            asks.sort();
            let mut ledger = LedgerStatus::default();
            for (second, id, uid, outcome) in asks {
                let (id, uid) = (format!("a{id}"), format!("u{uid}"));
                if let Ok(next) = reserve(&ledger, &charge(&id, &uid), &budgets, at(second)) {
                    ledger = next;
                    if outcome == 1 { ledger = settle(&ledger, &id, LedgerState::Spent); }
                }
                for entry in &ledger.entries {
                    let in_hour = ledger.entries.iter().filter(|e| e.at >= entry.at && e.at.duration_since(entry.at) < HOUR).count();
                    prop_assert!(in_hour <= limit as usize);
                }
            }
        }
    }
}
