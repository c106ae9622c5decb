//! The shape of a rung.

use std::time::Duration;

use futures::future::BoxFuture;

use crate::{
    api::v1alpha1::{Diagnosis, Mode},
    core::rules::FactBundle,
};

/// One diagnoser of the chain.
pub trait Rung: Send + Sync {
    /// Its name, as it stands in plans, attempts and diagnoses; at most 64 characters.
    fn name(&self) -> &str;

    /// The highest mode in which its answer may lead to an action.
    fn ceiling(&self) -> Mode;

    /// Diagnoses the case within the budget.
    fn ask<'a>(&'a self, case: FactBundle<'a>, budget: Budget) -> BoxFuture<'a, Result<Answer, NoAnswer>>;
}

/// What one ask may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Time; the chain ends an ask that takes longer.
    pub time: Duration,
    /// Tokens of prompt and answer together. A rung is not asked when none are left.
    pub tokens: i64,
}

/// What was spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Tokens of prompt and answer together.
    pub tokens: i64,
    /// Cost in billionths of a US dollar.
    pub nano_dollars: i64,
}

impl Spent {
    /// Adds what another ask took.
    pub fn add(&mut self, more: Spent) {
        let Spent { tokens, nano_dollars } = more;
        self.tokens = self.tokens.saturating_add(tokens);
        self.nano_dollars = self.nano_dollars.saturating_add(nano_dollars);
    }
}

/// A diagnosis and what it took.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The diagnosis. The chain writes name and ceiling of the rung into it.
    pub diagnosis: Diagnosis,
    /// What it took.
    pub spent: Spent,
}

/// No diagnosis, and what was spent on it all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoAnswer {
    /// Why there is none.
    pub why: Why,
    /// What it took.
    pub spent: Spent,
}

/// Why a rung gave no diagnosis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The chain names a rung that is not configured.
    NotConfigured,
    /// No answer came within the budget's time.
    Timeout,
    /// The rungs before it took all tokens.
    BudgetSpent,
    /// It answered with an error, or could not be reached.
    Unavailable,
}

impl Why {
    /// The constant in `Attempt.outcome`.
    pub fn as_str(self) -> &'static str {
        match self {
            Why::NotConfigured => "NotConfigured",
            Why::Timeout => "Timeout",
            Why::BudgetSpent => "BudgetSpent",
            Why::Unavailable => "Unavailable",
        }
    }
}

impl From<Why> for NoAnswer {
    fn from(why: Why) -> NoAnswer {
        NoAnswer { why, spent: Spent::default() }
    }
}
