//! Named checks in chains, and the one evaluator that asks them. *All* verdicts are kept, not only the first refusal.

use crate::api::v1alpha1::{CheckVerdict, Verdict};
use crate::core::reason::Reason;

use super::observed::Observed;
use super::outcome::{Effect, Outcome, not_asked};

/// The longest sentence of a verdict, in characters.
const MAX_MESSAGE: usize = 1000;

/// One named check. `F` is what it may look at: a check over [`Observed`] knows no alert, diagnosis, Policy or Ledger,
/// so controller and executor can both ask it.
pub struct Check<F: 'static> {
    /// Its name, as verdicts and the plan show it.
    pub name: &'static str,
    /// One sentence: what it asks, and why.
    pub says: &'static str,
    /// The check, a pure function.
    pub run: F,
}

/// What a reading of the workload alone shows.
pub type EvidenceCheck = Check<fn(&Observed<'_>) -> Outcome>;

/// The verdicts so far.
#[derive(Default)]
pub(super) struct Verdicts {
    outcomes: Vec<(&'static str, Outcome)>,
}

impl Verdicts {
    /// Asks every check of a chain.
    pub fn ask<F>(&mut self, chain: &'static [Check<F>], run: impl Fn(&F) -> Outcome) {
        for check in chain {
            let outcome = run(&check.run);
            #[cfg(test)]
            let outcome = planted::instead(check.name, outcome);
            self.outcomes.push((check.name, outcome));
        }
    }

    /// Notes for every check of a chain that an earlier one left nothing to ask about.
    pub fn skip<F>(&mut self, chain: &'static [Check<F>]) {
        let skipped = |check: &Check<F>| (check.name, not_asked("an earlier check left nothing to ask about"));
        self.outcomes.extend(chain.iter().map(skipped));
    }

    /// Whether every check so far let the action through.
    pub fn all_passed(&self) -> bool {
        self.outcomes.iter().all(|(_, outcome)| outcome.verdict == Verdict::Passed)
    }

    /// The outcomes that do not let the action through, in order. One that was not asked although nothing refused is
    /// among them: no chain may let an action through by asking nothing.
    pub fn refusals(&self) -> Vec<&Outcome> {
        let refusals: Vec<&Outcome> = self.outcomes().filter(|outcome| outcome.refuses()).collect();
        if !refusals.is_empty() {
            return refusals;
        }
        self.outcomes().filter(|outcome| outcome.verdict != Verdict::Passed).collect()
    }

    /// Reasons of the refusals that count for the cascade breaker, each once.
    pub fn anomalies(&self) -> Vec<Reason> {
        let mut found: Vec<Reason> = Vec::new();
        let counts = |outcome: &&Outcome| matches!(outcome.effect, Some(Effect::Anomaly | Effect::Ungrounded));
        for outcome in self.outcomes().filter(|outcome| outcome.refuses()).filter(counts) {
            if !found.contains(&outcome.reason) {
                found.push(outcome.reason);
            }
        }
        found
    }

    /// The first refusal with this effect.
    pub fn refused_with(&self, effect: Effect) -> Option<&Outcome> {
        self.outcomes().find(|outcome| outcome.refuses() && outcome.effect == Some(effect))
    }

    /// As they are written to a status.
    pub fn written(&self) -> Vec<CheckVerdict> {
        let written = |(name, outcome): &(&str, Outcome)| CheckVerdict {
            check: (*name).to_string(),
            verdict: outcome.verdict,
            reason: outcome.reason.as_str().into(),
            message: outcome.message.chars().take(MAX_MESSAGE).collect(),
        };
        self.outcomes.iter().map(written).collect()
    }

    fn outcomes(&self) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().map(|(_, outcome)| outcome)
    }
}

/// A planted defect, for tests: the check of this name lets everything through.
#[cfg(test)]
pub mod planted {
    use std::cell::Cell;

    use crate::core::gate::outcome::{Outcome, pass};

    /// The name of a check, and what it does instead of ending.
    type Hanging = (&'static str, fn());

    thread_local! {
        static NAME: Cell<Option<&'static str>> = const { Cell::new(None) };
        static HANGS: Cell<Option<Hanging>> = const { Cell::new(None) };
    }

    pub fn instead(name: &str, outcome: Outcome) -> Outcome {
        if let Some((check, hang)) = HANGS.get().filter(|(check, _)| *check == name) {
            hang();
            panic!("{check} ended");
        }
        if NAME.get() == Some(name) { pass("planted") } else { outcome }
    }

    /// On this thread, the check of this name does `hang`, which does not return while anybody waits.
    pub fn hangs(name: &'static str, hang: fn()) {
        HANGS.set(Some((name, hang)));
    }

    /// Runs `test` while the check of this name is broken.
    pub fn with<T>(name: &'static str, test: impl FnOnce() -> T) -> T {
        NAME.set(Some(name));
        let result = test();
        NAME.set(None);
        result
    }
}
