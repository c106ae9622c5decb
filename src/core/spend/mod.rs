//! Money for models: what may be spent, what is reserved and what was. The [`book`] is what a Ledger holds; every change
//! of it is a pure function that the caller stores by compare-and-swap. A [`sheet`] is one diagnosis' own small advance
//! of the book, from which its attempts are reserved without a further write. What an attempt is charged in the end is in
//! [`charge`], how often a namespace may ask in [`rate`].
//!
//! What holds, whatever fails and however many processes write at once: the settled and the reserved money of an account
//! never pass its cap together. An attempt is reserved at the most that it can cost before anything is sent, and stays
//! charged at that until the upstream says what it used or it is proven that nothing was sent. What a process reserved
//! and did not settle before it ended is settled in full by the next one: a crash loses budget, never count. If an
//! upstream bills more than the most that was reckoned with, that is charged too, beyond the cap, and stops what follows.

pub mod book;
pub mod charge;
pub mod rate;
pub mod sheet;

use std::fmt;

use super::{chain::spec::ValidChain, money::NanoDollars};
use crate::api::v1alpha1::IncidentKey;

/// Who pays for a call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Payer {
    /// A diagnosis: the incident's own budget, its namespace's and the chain's of the day.
    Incident(IncidentKey),
    /// A probe: a budget of its own.
    Probes,
}

/// What may be spent on one chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For one incident.
    pub per_incident: NanoDollars,
    /// For one namespace in a day (UTC).
    pub per_namespace_per_day: NanoDollars,
    /// For all diagnoses in a day (UTC).
    pub per_day: NanoDollars,
    /// For all probes in a day (UTC).
    pub probes_per_day: NanoDollars,
}

impl Limits {
    /// Those of a chain.
    pub fn of(chain: &ValidChain) -> Limits {
        let caps = &chain.caps;
        Limits {
            per_incident: caps.per_incident,
            per_namespace_per_day: caps.per_namespace_per_day,
            per_day: caps.per_day,
            probes_per_day: chain.probe.as_ref().map_or(NanoDollars(0), |probe| probe.per_day),
        }
    }
}

/// What is counted against a cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Account {
    /// One incident, all its rounds together.
    Incident,
    /// One namespace on one day (UTC).
    Namespace,
    /// All diagnoses of the chain on one day (UTC).
    Chain,
    /// All probes of the chain on one day (UTC).
    Probes,
}

impl Account {
    /// The constant, for statuses, metrics and logs.
    pub fn reason(self) -> &'static str {
        match self {
            Account::Incident => "IncidentBudget",
            Account::Namespace => "NamespaceBudget",
            Account::Chain => "ChainBudget",
            Account::Probes => "ProbeBudget",
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Account::Incident => "the incident",
            Account::Namespace => "the namespace today",
            Account::Chain => "the chain today",
            Account::Probes => "probes today",
        })
    }
}

/// Why nothing is reserved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It would pass a cap.
    OverBudget {
        /// Whose.
        account: Account,
        /// What is needed.
        need: NanoDollars,
        /// What is charged to it already.
        charged: NanoDollars,
        /// The most that may be.
        cap: NanoDollars,
    },
    /// The Ledger has no room to count it.
    Full {
        /// Of what.
        of: &'static str,
        /// How many it holds.
        bound: usize,
    },
    /// Another process, or another payer, has an open reservation with the same ID.
    Taken,
}

impl Refusal {
    /// The constant, for statuses, metrics and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Refusal::OverBudget { account, .. } => account.reason(),
            Refusal::Full { .. } => "LedgerFull",
            Refusal::Taken => "LedgerConflict",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::OverBudget { account, need, charged, cap } => {
                write!(f, "an attempt may cost {need}; {charged} of {cap} are charged to {account}")
            }
            Refusal::Full { of, bound } => write!(f, "the Ledger holds {bound} {of}, which is its bound"),
            Refusal::Taken => f.write_str("the Ledger holds somebody else's reservation with the same ID"),
        }
    }
}

#[cfg(test)]
mod tests;
