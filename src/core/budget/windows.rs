//! How many writes there may be within a window: of one target, namespace, node, kind of action, and of the cluster; and how
//! long a target is left alone after a write.
//!
//! A window is over when its whole length has passed by the clock of whoever asks, so a clock that was set back makes it
//! longer and never shorter. What is reserved and has no outcome counts like what was written.

use jiff::SignedDuration;

use super::{Budgets, Charge, HOUR, KEEP, Refusal, counted};
use crate::api::v1alpha1::{LedgerEntry, LedgerState, LedgerStatus, Time};
use crate::core::reason::Reason;

/// A write that was reserved and not settled is under way for so long at most.
const UNDER_WAY: SignedDuration = SignedDuration::from_mins(30);

/// Refuses a second action on one target inside its cooldown.
pub fn cooldown(ledger: &LedgerStatus, charge: &Charge, budgets: &Budgets, now: Time) -> Result<(), Refusal> {
    let seconds = budgets.target_cooldown_seconds.max(charge.policy_cooldown.unwrap_or(0));
    let length = SignedDuration::from_secs(seconds.into());
    match of_target(ledger, charge).map(|entry| entry.at).max() {
        Some(at) if now.duration_since(at) < length => Err(Refusal {
            reason: Reason::Cooldown,
            message: format!("the target was written to at {at}; the cooldown of {seconds} s has not passed"),
        }),
        _ => Ok(()),
    }
}

/// Refuses while the target is held: an earlier write to it did not help, was taken back, or somebody reverted it. Whoever
/// looked at it lifts that with `backstop breaker reset`.
pub fn held(ledger: &LedgerStatus, charge: &Charge, budgets: &Budgets, now: Time) -> Result<(), Refusal> {
    let seconds = budgets.held_after_failure_seconds;
    let length = SignedDuration::from_secs(seconds.into());
    let failed = |entry: &&LedgerEntry| !entry.failed.is_empty() && now.duration_since(entry.at) < length;
    match of_target(ledger, charge).filter(failed).max_by_key(|entry| entry.at) {
        None => Ok(()),
        Some(LedgerEntry { at, failed, incident, .. }) => Err(Refusal {
            reason: Reason::TargetHeld,
            message: format!(
                "the write of Incident {incident} at {at} did not hold ({failed}); the target is left to people for {seconds} s \
                 after it, or until `backstop breaker reset --namespace {} --why REASON`",
                charge.namespace
            ),
        }),
    }
}

/// Refuses when the actions of the last hour are used up: in the namespace, in the cluster, of the kind, or on the node. What
/// took one back or completed it counts like any other write.
pub fn hourly(ledger: &LedgerStatus, charge: &Charge, budgets: &Budgets, now: Time) -> Result<(), Refusal> {
    let recent: Vec<&LedgerEntry> = counted(ledger)
        .filter(|entry| now.duration_since(entry.at) < HOUR && entry.action_id != charge.action_id)
        .collect();
    let spent = |matches: &dyn Fn(&LedgerEntry) -> bool| recent.iter().filter(|entry| matches(entry)).count();
    let namespace_limit = charge
        .policy_per_hour
        .map_or(budgets.actions_per_namespace_per_hour, |p| p.min(budgets.actions_per_namespace_per_hour));
    let Charge { namespace, action, node, .. } = charge;
    let of = |what: String, spent: usize, limit: u32| match u32::try_from(spent).unwrap_or(u32::MAX) < limit {
        true => Ok(()),
        false => Err(Refusal {
            reason: Reason::HourlyBudget,
            message: format!("{spent} of {limit} actions {what} were spent in the last hour"),
        }),
    };
    let here = spent(&|entry| entry.namespace == *namespace);
    of(format!("in namespace {namespace}"), here, namespace_limit)?;
    of("in the cluster".to_owned(), recent.len(), budgets.actions_per_hour)?;
    let kind = spent(&|entry| entry.action == action.as_str());
    of(format!("of kind {}", action.as_str()), kind, budgets.actions_per_kind_per_hour)?;
    match node {
        None => Ok(()),
        Some(node) => {
            let there = spent(&|entry| entry.node == *node);
            let what = format!("on workloads that failed on node {node} alone");
            of(what, there, budgets.actions_per_node_per_hour)
        }
    }
}

/// Refuses when the actions of the last 24 hours on the target are used up. A repair with the evictions that complete it, or
/// with its undo, is one of them: it is about how often the target is tried to be repaired.
pub fn daily(ledger: &LedgerStatus, charge: &Charge, budgets: &Budgets, now: Time) -> Result<(), Refusal> {
    let limit = budgets.actions_per_target_per_day;
    let spent = of_target(ledger, charge).filter(|entry| !entry.undo && now.duration_since(entry.at) < KEEP).count();
    if u32::try_from(spent).unwrap_or(u32::MAX) < limit {
        return Ok(());
    }
    let message = format!("{spent} of {limit} actions on {} were spent in the last 24 hours", charge.target);
    Err(Refusal { reason: Reason::DailyBudget, message })
}

/// Refuses while as many writes are under way in the namespace as a Policy allows at one time. One whose outcome nobody
/// knows is not under way for ever: it counts for half an hour.
pub fn under_way(ledger: &LedgerStatus, charge: &Charge, _: &Budgets, now: Time) -> Result<(), Refusal> {
    let Some(limit) = charge.policy_concurrent else { return Ok(()) };
    let others = ledger.entries.iter().filter(|entry| {
        entry.state == LedgerState::Reserved
            && entry.namespace == charge.namespace
            && entry.action_id != charge.action_id
            && now.duration_since(entry.at) < UNDER_WAY
    });
    let count = u32::try_from(others.count()).unwrap_or(u32::MAX);
    if count < limit {
        return Ok(());
    }
    let namespace = &charge.namespace;
    let message = format!("{count} writes are under way in namespace {namespace}, a Policy allows {limit} at one time");
    Err(Refusal { reason: Reason::TooManyAtOnce, message })
}

/// Earlier actions on the target of `charge`.
fn of_target<'a>(ledger: &'a LedgerStatus, charge: &'a Charge) -> impl Iterator<Item = &'a LedgerEntry> {
    counted(ledger).filter(|entry| entry.target_uid == charge.target_uid && entry.action_id != charge.action_id)
}
