//! Many workloads at once: in the Ledger, so that it is decided by compare-and-swap who tells people, and that nothing
//! more is written. And over the namespaces: is it the cluster that fails?

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;

use super::{Budgets, Charge, Refusal, breaker, counted};
use crate::api::v1alpha1::{LedgerStatus, Severity, StormRecord, Time};
use crate::core::reason::Reason;

const MAX_STORMS: usize = 200;
/// Workloads that a record names.
const MAX_WORKLOADS: usize = 50;
/// So long a person has it: what joins a storm is not told again, and nothing is written in its namespace.
const HOLDS: SignedDuration = SignedDuration::from_mins(30);

/// A storm of the cluster is seen in so many namespaces at least, none of which counts for more than one part in so many
/// of the bound: however much fails in one, it never stops the others.
const NAMESPACES: usize = 3;

/// Targets of enrolled namespaces that were read as failing, by their namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FailingTargets(BTreeMap<String, BTreeSet<String>>);

impl FailingTargets {
    /// Of these, each as namespace and UID; what is named twice counts once.
    pub fn of<'a>(targets: impl IntoIterator<Item = (&'a str, &'a str)>) -> FailingTargets {
        let mut all = FailingTargets::default();
        for (namespace, uid) in targets {
            all.0.entry(namespace.to_owned()).or_default().insert(uid.to_owned());
        }
        all
    }

    /// How many count where `bound` is asked for: of one namespace a third of it at most.
    pub fn counted(&self, bound: u32) -> usize {
        let most = (bound as usize).div_ceil(NAMESPACES);
        self.0.values().map(|targets| targets.len().min(most)).sum()
    }

    /// Namespaces that they are in.
    pub fn namespaces(&self) -> usize {
        self.0.len()
    }

    /// So many fail in so many namespaces that it is the cluster, and no rollout.
    pub fn is_storm(&self, bound: u32) -> bool {
        self.namespaces() >= NAMESPACES && self.counted(bound) >= bound as usize
    }
}

/// Many workloads of one namespace fail at once, as one incident sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The namespace.
    pub namespace: String,
    /// Name of the Incident.
    pub incident: String,
    /// Its severity: who was told of the storm at a lower one has not been told what this is.
    pub severity: Severity,
    /// Its own target, as `Kind/name`.
    pub target: String,
    /// All workloads that fail, as `Kind/name`.
    pub workloads: Vec<String>,
}

/// Notes the storm, with this incident as the one that tells people of it. Refused when another one has told people of
/// this very target already, at its severity or a higher one. Safe to repeat.
pub fn claim(ledger: &LedgerStatus, claim: &Claim, now: Time) -> Result<LedgerStatus, Refusal> {
    let mut next = ledger.clone();
    prune(&mut next, now);
    let record = next.storms.iter_mut().find(|record| record.namespace == claim.namespace);
    if let Some(record) = record {
        let told = record.severity >= claim.severity && record.workloads.contains(&claim.target);
        if record.incident != claim.incident && told {
            return Err(Refusal {
                reason: Reason::Storm,
                message: format!(
                    "{} fails together with many other workloads of namespace {}; Incident {} covers all of them",
                    claim.target, claim.namespace, record.incident
                ),
            });
        }
        let told = record.workloads.drain(..).filter(|told| !claim.workloads.contains(told));
        let all: Vec<String> = claim.workloads.iter().cloned().chain(told).take(MAX_WORKLOADS).collect();
        let severity = record.severity.max(claim.severity);
        *record = StormRecord { workloads: all, severity, ..record_of(claim, now) };
        return Ok(next);
    }
    if next.storms.len() >= MAX_STORMS {
        // So many namespaces within half an hour are the cluster, and the oldest may not go on by itself.
        let incident = format!("{}/{}", claim.namespace, claim.incident);
        breaker::open_for_all(&mut next, breaker::opened(now, Reason::Storm.as_str(), &incident));
        next.storms.remove(0);
    }
    next.storms.push(record_of(claim, now));
    Ok(next)
}

/// The storm that an incident has claimed to tell people of.
pub fn claimed_by<'a>(ledger: &'a LedgerStatus, namespace: &str, incident: &str, now: Time) -> Option<&'a StormRecord> {
    let by = |record: &&StormRecord| record.namespace == namespace && record.incident == incident;
    ledger.storms.iter().find(|record| by(record) && holds(record, now))
}

fn record_of(claim: &Claim, now: Time) -> StormRecord {
    StormRecord {
        namespace: claim.namespace.clone(),
        incident: claim.incident.clone(),
        severity: claim.severity,
        at: now,
        workloads: claim.workloads.iter().take(MAX_WORKLOADS).cloned().collect(),
    }
}

/// Refuses while a storm of the namespace is under way: a person has it, and no rollback of one workload is the answer.
pub fn under_way(ledger: &LedgerStatus, charge: &Charge, _: &Budgets, now: Time) -> Result<(), Refusal> {
    let under_way = |record: &&StormRecord| record.namespace == charge.namespace && holds(record, now);
    match ledger.storms.iter().find(under_way) {
        None => Ok(()),
        Some(record) => Err(Refusal {
            reason: Reason::Storm,
            message: format!(
                "many workloads of namespace {} failed at once at {}; Incident {} has told the on-call of it, and nothing \
                 is written there for {} min",
                record.namespace,
                record.at,
                record.incident,
                HOLDS.as_mins()
            ),
        }),
    }
}

/// Refuses to take back the same change from a second workload of the namespace within the storm window: whatever was
/// shipped to several is one decision, and a person's.
pub fn same_change(ledger: &LedgerStatus, charge: &Charge, budgets: &Budgets, now: Time) -> Result<(), Refusal> {
    let Some(change) = &charge.change else { return Ok(()) };
    let window = SignedDuration::from_secs(budgets.storm_window_seconds.into());
    let same = counted(ledger).find(|entry| {
        entry.change.as_ref() == Some(change)
            && entry.namespace == charge.namespace
            && entry.target_uid != charge.target_uid
            && now.duration_since(entry.at) < window
    });
    match same {
        None => Ok(()),
        Some(entry) => Err(Refusal {
            reason: Reason::Storm,
            message: format!(
                "the same change was taken back from {} at {}; it fails in several workloads, and the rest is the \
                 on-call's decision",
                entry.target, entry.at
            ),
        }),
    }
}

/// Targets of the namespace that were written to within the storm window, as `Kind/name`.
pub fn written<'a>(ledger: &'a LedgerStatus, namespace: &str, budgets: &Budgets, now: Time) -> Vec<&'a str> {
    let window = SignedDuration::from_secs(budgets.storm_window_seconds.into());
    let recent = counted(ledger).filter(|it| it.namespace == namespace && now.duration_since(it.at) < window);
    recent.filter(|entry| !entry.target.is_empty()).map(|entry| entry.target.as_str()).collect()
}

pub(super) fn prune(ledger: &mut LedgerStatus, now: Time) {
    ledger.storms.retain(|record| holds(record, now));
}

fn holds(record: &StormRecord, now: Time) -> bool {
    now.duration_since(record.at) < HOLDS
}
