//! The chain of diagnosers: rungs are asked in order, the first that answers counts, and the rules are the last of
//! every chain. Whoever else answers, the rules are always asked too: as a second opinion.

use super::rules::Rules;
use super::rung::{Answer, Budget, NoAnswer, Rung, Spent, Why};
use crate::api::v1alpha1::{Attempt, Diagnosis, Time};
use crate::core::chain::MAX_RUNGS;
use crate::core::redact::clip;
use crate::core::rules::FactBundle;
use crate::settings::Settings;

/// What the chain says.
#[derive(Clone, Debug, PartialEq)]
pub struct ChainAnswer {
    /// The diagnosis of the first rung that answered.
    pub diagnosis: Diagnosis,
    /// What the rules say, when another rung answered.
    pub second_opinion: Option<Diagnosis>,
    /// One entry per rung that was asked.
    pub attempts: Vec<Attempt>,
    /// What all asks took, those without an answer included.
    pub spent: Spent,
}

/// The rungs of this process.
pub struct Chain {
    /// All but the rules.
    rungs: Vec<Box<dyn Rung>>,
    last: Rules,
}

/// Every rung that the settings configure, besides the rules: the one place that lists them. There are none yet.
fn rungs(_: &Settings) -> Vec<Box<dyn Rung>> {
    vec![
        #[cfg(test)]
        Box::new(super::planted::Planted(super::planted::Behaviour::Answers)),
        #[cfg(test)]
        Box::new(super::planted::Planted(super::planted::Behaviour::Fails)),
        #[cfg(test)]
        Box::new(super::planted::Planted(super::planted::Behaviour::Hangs)),
    ]
}

impl Chain {
    /// With the rungs that the settings configure.
    pub fn new(settings: &Settings) -> Chain {
        Chain { rungs: rungs(settings), last: Rules }
    }

    /// Asks the rungs that `names` lists, in that order, until one answers; the rules answer when no other does.
    /// `budget` is for all asks together. `clock` times the attempts.
    pub async fn ask(
        &self,
        names: &[String],
        case: FactBundle<'_>,
        budget: Budget,
        clock: impl Fn() -> Time,
    ) -> ChainAnswer {
        let began = clock();
        let mut attempts = Vec::new();
        let mut spent = Spent::default();
        let mut found = None;
        for name in names.iter().filter(|name| *name != self.last.name()).take(MAX_RUNGS) {
            let asked_at = clock();
            let elapsed = std::time::Duration::from_millis(milliseconds(began, asked_at).unsigned_abs());
            let left = Budget {
                time: budget.time.saturating_sub(elapsed),
                tokens: budget.tokens.saturating_sub(spent.tokens),
            };
            let answer = self.ask_one(name, case, left).await;
            let outcome = match answer {
                Ok((diagnosis, took)) => {
                    spent.add(took);
                    found.insert(diagnosis).outcome()
                }
                Err(NoAnswer { why, spent: took }) => {
                    spent.add(took);
                    why.as_str()
                }
            };
            attempts.push(attempt(name, outcome, milliseconds(asked_at, clock())));
            if found.is_some() {
                break;
            }
        }
        let asked_at = clock();
        let by_rules = signed(&self.last, self.last.diagnose(case));
        attempts.push(attempt(self.last.name(), by_rules.outcome(), milliseconds(asked_at, clock())));
        match found {
            Some(diagnosis) => ChainAnswer { diagnosis, second_opinion: Some(by_rules), attempts, spent },
            None => ChainAnswer { diagnosis: by_rules, second_opinion: None, attempts, spent },
        }
    }

    async fn ask_one(&self, name: &str, case: FactBundle<'_>, budget: Budget) -> Result<(Diagnosis, Spent), NoAnswer> {
        let rung = self.rungs.iter().find(|rung| rung.name() == name).ok_or(Why::NotConfigured)?;
        if budget.tokens <= 0 {
            return Err(Why::BudgetSpent.into());
        }
        let answer = tokio::time::timeout(budget.time, rung.ask(case, budget)).await;
        let Answer { diagnosis, spent } = answer.unwrap_or(Err(Why::Timeout.into()))?;
        Ok((signed(rung.as_ref(), diagnosis), spent))
    }
}

/// A rung cannot answer in the name of another, nor with another's ceiling.
fn signed(rung: &dyn Rung, diagnosis: Diagnosis) -> Diagnosis {
    Diagnosis { diagnoser: rung.name().to_owned(), ceiling: rung.ceiling(), ..diagnosis }
}

fn attempt(rung: &str, outcome: &str, milliseconds: i64) -> Attempt {
    Attempt { rung: clip(rung, 64), outcome: outcome.to_owned(), milliseconds }
}

fn milliseconds(from: Time, to: Time) -> i64 {
    (to.as_millisecond() - from.as_millisecond()).max(0)
}

impl Diagnosis {
    /// The constant in `Attempt.outcome`.
    fn outcome(&self) -> &'static str {
        if self.proposal.is_some() { "Answered" } else { "NoProposal" }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::api::v1alpha1::{Cause, Mode};

    const BUDGET: Budget = Budget { time: Duration::from_secs(10), tokens: 1000 };

    async fn ask(names: &[&str]) -> ChainAnswer {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let case = FactBundle { target: None, alert_started_at: Time::UNIX_EPOCH, facts: &[] };
        Chain::new(&Settings::default()).ask(&names, case, BUDGET, || Time::UNIX_EPOCH).await
    }

    fn outcomes(outcome: &ChainAnswer) -> Vec<(&str, &str)> {
        outcome.attempts.iter().map(|attempt| (attempt.rung.as_str(), attempt.outcome.as_str())).collect()
    }

    #[tokio::test]
    async fn the_rules_answer_when_no_other_rung_does_even_if_the_chain_does_not_name_them() {
        for names in [&["absent", "rules"][..], &["absent"]] {
            let outcome = ask(names).await;
            assert_eq!((outcome.diagnosis.diagnoser.as_str(), outcome.diagnosis.ceiling), ("rules", Mode::Auto));
            assert_eq!(outcomes(&outcome), [("absent", "NotConfigured"), ("rules", "NoProposal")]);
            assert!(outcome.second_opinion.is_none());
        }
    }

    #[tokio::test]
    async fn the_first_rung_that_answers_counts_under_its_own_name_and_ceiling_and_the_rules_are_asked_too() {
        let outcome = ask(&["planted-fails", "planted-answers", "absent", "rules"]).await;
        let Diagnosis { diagnoser, ceiling, cause, .. } = &outcome.diagnosis;
        assert_eq!((diagnoser.as_str(), *ceiling, *cause), ("planted-answers", Mode::Suggest, Cause::BadRollout));
        assert_eq!(outcome.second_opinion.as_ref().unwrap().diagnoser, "rules");
        assert_eq!(
            outcomes(&outcome),
            [("planted-fails", "Unavailable"), ("planted-answers", "NoProposal"), ("rules", "NoProposal")]
        );
    }

    #[tokio::test]
    async fn what_was_spent_without_an_answer_counts_and_is_taken_from_the_next_rung() {
        let outcome = ask(&["planted-fails", "planted-answers"]).await;
        assert_eq!(outcome.spent, Spent { tokens: 500 + 250, nano_dollars: 14 });
    }

    #[tokio::test]
    async fn without_tokens_no_model_is_asked() {
        let names = ["planted-answers".to_owned()];
        let case = FactBundle { target: None, alert_started_at: Time::UNIX_EPOCH, facts: &[] };
        let budget = Budget { tokens: 0, ..BUDGET };
        let outcome = Chain::new(&Settings::default()).ask(&names, case, budget, || Time::UNIX_EPOCH).await;
        assert_eq!(outcomes(&outcome), [("planted-answers", "BudgetSpent"), ("rules", "NoProposal")]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rung_that_never_answers_costs_the_budgets_time_and_no_more() {
        let began = tokio::time::Instant::now();
        let outcome = ask(&["planted-hangs"]).await;
        assert_eq!(outcomes(&outcome), [("planted-hangs", "Timeout"), ("rules", "NoProposal")]);
        assert_eq!(began.elapsed().as_secs(), 10);
    }
}
