//! Budgets across incidents: charges here, how many writes within a window in [`windows`], the cascade breakers in
//! [`breaker`], many workloads at once in [`storm`].
//! Everything is a pure function of the Ledger's status; the caller stores the result by compare-and-swap *before* it
//! acts.

mod anomalies;
pub mod breaker;
pub mod storm;
#[cfg(test)]
mod tests;
pub mod windows;
#[cfg(test)]
mod windows_tests;

use std::collections::BTreeSet;

use jiff::SignedDuration;
use serde::Deserialize;

use crate::api::v1alpha1::{ActionKind, LedgerEntry, LedgerState, LedgerStatus, ObjectRef, Time};

use super::{blast::Touched, policy::CompiledPolicy, reason::Reason};

pub use breaker::{anomaly, trial_succeeded};

/// Entries older than this are dropped.
const KEEP: SignedDuration = SignedDuration::from_hours(24);
const HOUR: SignedDuration = SignedDuration::from_hours(1);
/// Maximum number of entries; when it is reached no further action is charged.
const MAX_ENTRIES: usize = 2_000;

/// Budgets across incidents, part of the settings file.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Budgets {
    /// Maximum number of actions in the cluster within any hour.
    pub actions_per_hour: u32,
    /// Maximum number of actions in one namespace within any hour.
    pub actions_per_namespace_per_hour: u32,
    /// Maximum number of actions of one kind in the cluster within any hour.
    pub actions_per_kind_per_hour: u32,
    /// Maximum number of actions within any hour on targets of which every failing pod ran on one node, for each node: so
    /// much is wrong with the node and not with what runs there.
    pub actions_per_node_per_hour: u32,
    /// Maximum number of actions on one target within any 24 hours. What takes one back or completes it belongs to it here.
    pub actions_per_target_per_day: u32,
    /// So long after a write that did not help, was taken back or was reverted by somebody, its target is left alone, in
    /// seconds, at most 86400.
    pub held_after_failure_seconds: u32,
    /// Minimum time between two actions on one target, in seconds.
    pub target_cooldown_seconds: u32,
    /// Share of the workloads of a namespace that may be written to within any hour, in percent; two may be in any case.
    pub workloads_percent_per_namespace_per_hour: u32,
    /// Share of the workloads of all enrolled namespaces that may be written to within any hour, in percent; four may be in
    /// any case.
    pub workloads_percent_per_hour: u32,
    /// Share of a Service's ready endpoints that one write may end at one time, in percent; never all of them.
    pub endpoints_percent: u32,
    /// Weight of the anomalies within the window that opens the cascade breaker: those of one namespace that of the
    /// namespace, those of writes in several namespaces that of the cluster. See [`breaker::weight`]. The Ledger counts 40
    /// anomalies of a namespace at most: with more than 80 here no breaker of a namespace opens.
    pub cascade_anomalies: u32,
    /// Window of the cascade breaker, in seconds.
    pub cascade_window_seconds: u32,
    /// Time after which an open breaker allows one trial, in seconds.
    pub cascade_cooldown_seconds: u32,
    /// Number of enrolled targets that were read as failing, with incidents that were opened within the storm window,
    /// which is a storm of the whole cluster and opens its breaker. They have to be in three namespaces, and one namespace
    /// counts for a third of the number at most.
    pub storm_incidents: u32,
    /// Storm window, in seconds: how far apart workloads that fail at once began to fail.
    pub storm_window_seconds: u32,
}

impl Default for Budgets {
    fn default() -> Self {
        Budgets {
            actions_per_hour: 20,
            actions_per_namespace_per_hour: 10,
            actions_per_kind_per_hour: 15,
            actions_per_node_per_hour: 10,
            actions_per_target_per_day: 4,
            held_after_failure_seconds: 21_600,
            target_cooldown_seconds: 1800,
            workloads_percent_per_namespace_per_hour: 50,
            workloads_percent_per_hour: 20,
            endpoints_percent: 50,
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
    /// The target as `Kind/name`.
    pub target: String,
    /// Kind of the action.
    pub action: ActionKind,
    /// The node on which every failing pod of the target runs, if there is one.
    pub node: Option<String>,
    /// The change that is taken back: see [`Workload::change`](super::workload::Workload::change).
    pub change: Option<String>,
    /// Name of the Incident.
    pub incident: String,
    /// Whether it undoes or completes an earlier write. Budgets never refuse that, but count it where the next write is judged.
    pub undo: bool,
    /// Policy limit on actions in this namespace within any hour.
    pub policy_per_hour: Option<u32>,
    /// Policy cooldown of the target, in seconds.
    pub policy_cooldown: Option<u32>,
    /// Policy limit on writes that are under way in this namespace at one time.
    pub policy_concurrent: Option<u32>,
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
    pub fn of(
        action: ActionKind,
        action_id: &str,
        incident: &str,
        target: &ObjectRef,
        policies: &[&CompiledPolicy],
    ) -> Charge {
        let limits = || policies.iter().map(|policy| &policy.spec.limits);
        let unsigned = |value: i32| u32::try_from(value).unwrap_or(0);
        Charge {
            action_id: action_id.to_string(),
            namespace: target.namespace.clone(),
            target_uid: target.uid.clone(),
            target: format!("{}/{}", target.kind, target.name),
            action,
            node: None,
            change: None,
            incident: incident.to_string(),
            undo: false,
            policy_per_hour: limits().filter_map(|l| l.actions_per_hour).map(unsigned).min(),
            policy_cooldown: limits().filter_map(|l| l.cooldown_seconds).map(unsigned).max(),
            policy_concurrent: limits().filter_map(|l| l.concurrent).map(unsigned).min(),
        }
    }

    /// The charge for a write that undoes or completes an earlier one.
    pub fn following(action: ActionKind, action_id: &str, incident: &str, target: &ObjectRef) -> Charge {
        Charge { undo: true, ..Charge::of(action, action_id, incident, target, &[]) }
    }
}

/// Charges an action. An action ID is charged once: repeating it changes nothing.
pub fn reserve(ledger: &LedgerStatus, charge: &Charge, budgets: &Budgets, now: Time) -> Result<LedgerStatus, Refusal> {
    if ledger.entries.iter().any(|entry| entry.action_id == charge.action_id) {
        return Ok(ledger.clone());
    }
    if !charge.undo {
        windows::cooldown(ledger, charge, budgets, now)?;
        windows::held(ledger, charge, budgets, now)?;
        windows::hourly(ledger, charge, budgets, now)?;
        windows::daily(ledger, charge, budgets, now)?;
        windows::under_way(ledger, charge, budgets, now)?;
        storm::same_change(ledger, charge, budgets, now)?;
        storm::under_way(ledger, charge, budgets, now)?;
        breaker::closed(ledger, charge, budgets, now)?;
    }
    let mut next = pruned(ledger, budgets, now);
    if next.entries.len() >= MAX_ENTRIES {
        return Err(Refusal {
            reason: Reason::HourlyBudget,
            message: format!("the Ledger holds {MAX_ENTRIES} actions of the last day, which is its bound"),
        });
    }
    if !charge.undo {
        breaker::begin_trial(&mut next, charge);
    }
    next.entries.push(LedgerEntry {
        action_id: charge.action_id.clone(),
        namespace: charge.namespace.clone(),
        target_uid: charge.target_uid.clone(),
        target: charge.target.clone(),
        action: charge.action.as_str().to_owned(),
        node: charge.node.clone().unwrap_or_default(),
        failed: String::new(),
        failed_at: None,
        change: charge.change.clone(),
        incident: charge.incident.clone(),
        at: now,
        state: LedgerState::Reserved,
        undo: charge.undo,
    });
    Ok(next)
}

/// What was spent so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Actions of the last hour in the namespace.
    pub in_hour: usize,
    /// Actions of the last hour in the cluster.
    pub in_hour_of_cluster: usize,
    /// Actions of the last day on the target, without what took one back or completed it.
    pub of_target_in_day: usize,
}

/// What was spent in a namespace and on a target, for whoever asks before an action is charged.
pub fn spent(ledger: &LedgerStatus, namespace: &str, target_uid: &str, now: Time) -> Spent {
    let within = |length| counted(ledger).filter(move |entry| now.duration_since(entry.at) < length);
    Spent {
        in_hour: within(HOUR).filter(|entry| entry.namespace == namespace).count(),
        in_hour_of_cluster: within(HOUR).count(),
        of_target_in_day: within(KEEP).filter(|entry| entry.target_uid == target_uid && !entry.undo).count(),
    }
}

/// Workloads that were written to within the last hour, without this one: in its namespace, and in the cluster.
pub fn touched(ledger: &LedgerStatus, namespace: &str, target_uid: &str, now: Time) -> Touched {
    let others = || {
        let recent = counted(ledger).filter(|entry| now.duration_since(entry.at) < HOUR);
        recent.filter(|entry| entry.target_uid != target_uid)
    };
    let of_namespace = others().filter(|entry| entry.namespace == namespace).map(|entry| entry.target_uid.as_str());
    let of_cluster = others().map(|entry| entry.target_uid.as_str());
    Touched {
        of_namespace: of_namespace.collect::<BTreeSet<_>>().len(),
        of_cluster: of_cluster.collect::<BTreeSet<_>>().len(),
    }
}

/// Records what became of an action. The breaker does not change by it: see [`trial_succeeded`] and [`anomaly`].
pub fn settle(ledger: &LedgerStatus, action_id: &str, state: LedgerState) -> LedgerStatus {
    let mut next = ledger.clone();
    for entry in next.entries.iter_mut().filter(|entry| entry.action_id == action_id) {
        entry.state = state;
    }
    next
}

/// Every write that was made or may have been, with those that took back or completed another one.
fn counted(ledger: &LedgerStatus) -> impl Iterator<Item = &LedgerEntry> {
    ledger.entries.iter().filter(|entry| entry.state != LedgerState::Refunded)
}

fn pruned(ledger: &LedgerStatus, budgets: &Budgets, now: Time) -> LedgerStatus {
    let mut next = ledger.clone();
    next.entries.retain(|entry| now.duration_since(entry.at) < KEEP);
    let window = SignedDuration::from_secs(budgets.cascade_window_seconds.into());
    next.anomalies.retain(|anomaly| now.duration_since(anomaly.at) < window);
    storm::prune(&mut next, now);
    next
}
