//! The shape of a rung.

use std::time::Duration;

use futures::future::BoxFuture;

use super::log::{Log, Spent};
use crate::{
    api::v1alpha1::{Attempt, Diagnosis, Mode},
    core::{
        chain::deadline::{MOST_ATTEMPTS, MOST_WAITING},
        rules::FactBundle,
    },
};

/// One diagnoser of the chain.
pub trait Rung: Send + Sync {
    /// Its name, as it stands in plans, attempts and diagnoses; at most 64 characters.
    fn name(&self) -> &str;

    /// The highest mode in which its answer may lead to an action.
    fn ceiling(&self) -> Mode;

    /// Whether it could be asked now. The rungs behind one share the time and the attempts with it that can.
    fn may_be_asked(&self) -> bool {
        true
    }

    /// Diagnoses the case within the budget. What it writes to `log` is on the record even if it is dropped; what it returns
    /// is added to that.
    fn ask<'a>(&'a self, case: FactBundle<'a>, budget: Budget, log: &'a Log) -> BoxFuture<'a, Asked>;
}

/// What an ask may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Time; the chain ends an ask that takes longer, after a moment in which it may end by itself.
    pub time: Duration,
    /// Tokens of prompt and answer together. A rung is not asked when none are left.
    pub tokens: i64,
    /// Calls of models.
    pub attempts: u32,
    /// Pauses, all together.
    pub waiting: Duration,
    /// Rungs behind this one that could be asked: something has to be left for them.
    pub later: u32,
}

impl Budget {
    /// Of one diagnosis that may take that long and so many tokens.
    pub fn new(time: Duration, tokens: i64) -> Budget {
        Budget { time, tokens, attempts: MOST_ATTEMPTS, waiting: MOST_WAITING, later: 0 }
    }
}

/// What came of an ask, and what it took whatever came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// The diagnosis, into which the chain writes name and ceiling of the rung; or why there is none.
    pub answer: Result<Diagnosis, Why>,
    /// What it took.
    pub spent: Spent,
    /// One entry for each call of a model, and for each that was not sent; none where no model was to be called.
    pub calls: Vec<Attempt>,
    /// Another model answered than was asked for: the answer may only suggest.
    pub swapped: bool,
    /// Pauses that it made.
    pub waited: Duration,
    /// Its failure is one after which no other model may be asked either.
    pub last: bool,
}

impl Asked {
    /// An answer, or none, that took nothing and called no model.
    pub fn free(answer: Result<Diagnosis, Why>) -> Asked {
        Asked {
            answer,
            spent: Spent::default(),
            calls: Vec::new(),
            swapped: false,
            waited: Duration::ZERO,
            last: false,
        }
    }
}

/// Why a rung gave no diagnosis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The chain names a rung that is not configured.
    NotConfigured,
    /// So many diagnoses ask models that no place came free in time.
    Busy,
    /// The diagnosis was begun so late that no time is left for a model.
    Late,
    /// No answer came within the budget's time.
    Timeout,
    /// The rungs before it took all tokens.
    BudgetSpent,
    /// A budget of money allows no call.
    Unaffordable,
    /// The namespace asked too often within a minute.
    TooManyRequests,
    /// None of its upstreams may be asked now.
    NoUpstream,
    /// It answered with errors, or could not be reached.
    Unavailable,
    /// It answered, and not as it was asked to.
    Unusable,
    /// The failure is one after which no model is asked.
    Stopped,
}

impl Why {
    /// The constant in `Attempt.outcome`.
    pub fn as_str(self) -> &'static str {
        match self {
            Why::NotConfigured => "NotConfigured",
            Why::Busy => "Busy",
            Why::Late => "Late",
            Why::Timeout => "Timeout",
            Why::BudgetSpent => "BudgetSpent",
            Why::Unaffordable => "Unaffordable",
            Why::TooManyRequests => "TooManyRequests",
            Why::NoUpstream => "NoUpstream",
            Why::Unavailable => "Unavailable",
            Why::Unusable => "Unusable",
            Why::Stopped => "Stopped",
        }
    }
}
