//! The chain of diagnosers: rungs are asked in order, the first that answers counts, and `rules` is the last of
//! every chain. Whoever else answers, the rules are always asked too: as a second opinion.

use crate::api::v1alpha1::{Attempt, Diagnosis, Time};
use crate::core::redact::clip;
use crate::core::rules::{self, Case};

/// Rungs before the rules that are asked at most.
const MAX_RUNGS: usize = 16;

/// One rung. Clients of models become variants beside the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rung {
    /// The embedded rules: always there, always an answer.
    Rules,
}

/// Why a rung gave no diagnosis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// The chain names a rung that is not configured.
    NotConfigured,
}

impl NoAnswer {
    /// The constant in `Attempt.outcome`.
    pub fn as_str(self) -> &'static str {
        match self {
            NoAnswer::NotConfigured => "NotConfigured",
        }
    }
}

/// What the chain says.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The diagnosis of the first rung that answered.
    pub diagnosis: Diagnosis,
    /// What the rules say, when another rung answered.
    pub second_opinion: Option<Diagnosis>,
    /// One entry per rung that was asked.
    pub attempts: Vec<Attempt>,
}

impl Rung {
    /// The rung of this name.
    pub fn named(name: &str) -> Option<Rung> {
        (name == rules::NAME).then_some(Rung::Rules)
    }

    /// Asks the rung.
    pub async fn ask(self, case: Case<'_>) -> Result<Diagnosis, NoAnswer> {
        match self {
            Rung::Rules => Ok(rules::diagnose(case)),
        }
    }
}

/// Asks the rungs of `chain` in order until one answers; the rules answer when no other does. `clock` times the
/// attempts.
pub async fn ask(chain: &[String], case: Case<'_>, clock: impl Fn() -> Time) -> Answer {
    let mut attempts = Vec::new();
    let mut note = |name: &str, outcome: &str, began: Time| {
        let milliseconds = (clock().as_millisecond() - began.as_millisecond()).max(0);
        attempts.push(Attempt { rung: clip(name, 64), outcome: outcome.to_owned(), milliseconds });
    };
    let mut found = None;
    for name in chain.iter().filter(|name| *name != rules::NAME).take(MAX_RUNGS) {
        let began = clock();
        let answer = match Rung::named(name) {
            Some(rung) => rung.ask(case).await,
            None => Err(NoAnswer::NotConfigured),
        };
        note(name, answer.as_ref().map_or_else(|error| error.as_str(), outcome), began);
        if let Ok(diagnosis) = answer {
            found = Some(diagnosis);
            break;
        }
    }
    let began = clock();
    let by_rules = rules::diagnose(case);
    note(rules::NAME, outcome(&by_rules), began);
    match found {
        Some(diagnosis) => Answer { diagnosis, second_opinion: Some(by_rules), attempts },
        None => Answer { diagnosis: by_rules, second_opinion: None, attempts },
    }
}

fn outcome(diagnosis: &Diagnosis) -> &'static str {
    if diagnosis.proposal.is_some() { "Answered" } else { "NoProposal" }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn the_rules_answer_when_no_other_rung_does() {
        let case = Case { target: None, alert_started_at: Time::UNIX_EPOCH, facts: &[] };
        let chain = ["absent".to_owned(), rules::NAME.to_owned()];
        let answer = ask(&chain, case, || Time::UNIX_EPOCH).now_or_never().unwrap();
        assert_eq!(answer.diagnosis.diagnoser, "rules");
        assert_eq!(
            answer.attempts.iter().map(|a| a.outcome.as_str()).collect::<Vec<_>>(),
            ["NotConfigured", "NoProposal"]
        );
        assert!(answer.second_opinion.is_none());
    }
}
