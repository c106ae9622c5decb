//! What a request to models did and took so far. It is kept outside of the request, so that it outlives one that is dropped:
//! what was spent is on the record whatever ends it.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::api::v1alpha1::Attempt;

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

/// The record of one request.
#[derive(Debug, Default)]
pub struct Log {
    took: Mutex<Took>,
    /// The outcome of what was asked before it, which it follows; empty when it is the first.
    after: String,
}

/// What a request took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Took {
    /// Tokens and money.
    pub spent: Spent,
    /// Each call, and each that was not sent.
    pub calls: Vec<Attempt>,
    /// Pauses, all together.
    pub waited: Duration,
}

impl Log {
    /// Of a request that follows another one, with that outcome.
    pub fn after(outcome: &str) -> Log {
        Log { after: outcome.to_owned(), ..Log::default() }
    }

    /// Why the first call of the request is made: the outcome that it follows.
    pub fn because(&self) -> &str {
        &self.after
    }

    /// A call ended, one way or another.
    pub fn called(&self, call: Attempt) {
        let mut took = self.lock();
        took.spent.add(Spent { tokens: call.tokens, nano_dollars: call.cost_nano_dollars });
        took.calls.push(call);
    }

    /// What follows the last call.
    pub fn then(&self, then: impl FnOnce(&str) -> &'static str) {
        if let Some(last) = self.lock().calls.last_mut() {
            last.then = then(&last.upstream).to_owned();
        }
    }

    /// A pause was made.
    pub fn waited(&self, pause: Duration) {
        let mut took = self.lock();
        took.waited = took.waited.saturating_add(pause);
    }

    /// All of it; what is left is empty.
    pub fn take(&self) -> Took {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Took> {
        self.took.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
