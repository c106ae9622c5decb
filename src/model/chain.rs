//! The chain of diagnosers: rungs are asked in order, the first that answers counts, and the rules are the last of
//! every chain. Whoever else answers, the rules are always asked too: as a second opinion.

use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::Instant;

use super::log::{Log, Spent, Took};
use super::rules::Rules;
use super::rung::{Asked, Budget, Rung, Why};
use crate::api::v1alpha1::{Attempt, Diagnosis, Mode, Review};
use crate::core::chain::MAX_RUNGS;
use crate::core::redact::clip;
use crate::core::rules::FactBundle;

/// Attempts that are kept of one diagnosis.
const MAX_ATTEMPTS: usize = 32;
/// Time that an ask gets less than it may take: it ends by itself, with its record, and is ended only where it does not.
const MARGIN: Duration = Duration::from_millis(250);
/// Bytes of a sentence about a rung that is not asked.
const MAX_MESSAGE: usize = 256;

/// What the chain says.
#[derive(Clone, Debug, PartialEq)]
pub struct ChainAnswer {
    /// The diagnosis of the first rung that answered.
    pub diagnosis: Diagnosis,
    /// What the rules say, when another rung answered.
    pub second_opinion: Option<Diagnosis>,
    /// What the reviewer says of the proposal, where there is a reviewer.
    pub review: Option<Review>,
    /// One entry for each call of a model, and for each rung that called none.
    pub attempts: Vec<Attempt>,
    /// What all asks took, those without an answer included.
    pub spent: Spent,
}

/// Who may object to the proposal of another rung.
pub trait Reviewer: Send + Sync {
    /// Its name.
    fn name(&self) -> &str;

    /// Reviews within the budget; `None` and why when there is no review.
    fn review<'a>(
        &'a self,
        case: FactBundle<'a>,
        diagnosis: &'a Diagnosis,
        budget: Budget,
        log: &'a Log,
    ) -> BoxFuture<'a, (Option<Review>, Asked)>;
}

/// The rungs of one diagnosis.
pub struct Chain {
    /// All but the rules.
    rungs: Vec<Box<dyn Rung>>,
    reviewer: Option<Box<dyn Reviewer>>,
    /// Why a rung that is not among them is not asked, and a sentence about it.
    without: (Why, String),
    last: Rules,
}

impl Chain {
    /// With these rungs before the rules, and maybe somebody who reviews what they propose.
    pub fn new(rungs: Vec<Box<dyn Rung>>, reviewer: Option<Box<dyn Reviewer>>) -> Chain {
        Chain { rungs, reviewer, without: (Why::NotConfigured, String::new()), last: Rules }
    }

    /// The rules alone.
    pub fn of_rules() -> Chain {
        Chain::new(Vec::new(), None)
    }

    /// The rules alone, and why: it is on the record of every other rung that is named.
    pub fn without_models(why: Why, sentence: &str) -> Chain {
        Chain { without: (why, clip(sentence, MAX_MESSAGE)), ..Chain::of_rules() }
    }

    /// Asks the rungs that `names` lists, in that order, until one answers; the rules answer when no other does.
    /// `budget` is for all asks together; its time is counted on a clock that nobody sets.
    pub async fn ask(&self, names: &[String], case: FactBundle<'_>, budget: Budget) -> ChainAnswer {
        let began = Instant::now();
        let mut left = Left { budget, attempts: Vec::new(), spent: Spent::default() };
        let mut found = None;
        let models: Vec<&String> = names.iter().filter(|name| *name != self.last.name()).take(MAX_RUNGS).collect();
        for (index, name) in models.iter().enumerate() {
            let asked_at = Instant::now();
            let time = budget.time.saturating_sub(began.elapsed());
            let behind = models.iter().skip(index + 1);
            let askable = behind.filter(|name| self.rung(name).is_some_and(Rung::may_be_asked)).count();
            let later = u32::try_from(askable).unwrap_or(u32::MAX);
            let log = Log::after(left.last());
            let asked = self.ask_one(name, case, Budget { time, later, ..left.budget }, &log).await;
            let last = asked.last;
            let answer = left.take(name, asked, milliseconds(asked_at));
            if let Ok(diagnosis) = answer {
                found = Some(diagnosis);
                break;
            }
            if last {
                break;
            }
        }
        let review = match &found {
            Some(diagnosis) => {
                let time = budget.time.saturating_sub(began.elapsed());
                self.review(case, diagnosis, Budget { time, later: 0, ..left.budget }, &mut left).await
            }
            None => None,
        };
        let asked_at = Instant::now();
        let by_rules = signed(&self.last, self.last.diagnose(case), false);
        let because = if found.is_some() { String::new() } else { left.last().to_owned() };
        left.note(Attempt { because, ..attempt(self.last.name(), by_rules.outcome(), milliseconds(asked_at)) });
        let (diagnosis, second_opinion) = match found {
            Some(diagnosis) => (diagnosis, Some(by_rules)),
            None => (by_rules, None),
        };
        ChainAnswer { diagnosis, second_opinion, review, attempts: left.attempts, spent: left.spent }
    }

    fn rung(&self, name: &str) -> Option<&dyn Rung> {
        self.rungs.iter().find(|rung| rung.name() == name).map(AsRef::as_ref)
    }

    async fn ask_one(&self, name: &str, case: FactBundle<'_>, budget: Budget, log: &Log) -> Asked {
        let Some(rung) = self.rung(name) else { return self.unasked(name) };
        if budget.tokens <= 0 {
            return Asked::free(Err(Why::BudgetSpent));
        }
        let asked = match tokio::time::timeout(budget.time, rung.ask(case, within(budget), log)).await {
            Ok(asked) => Asked { answer: asked.answer.map(|it| signed(rung, it, asked.swapped)), ..asked },
            Err(_) => Asked::free(Err(Why::Timeout)),
        };
        asked.and(log.take())
    }

    /// What comes of a rung that is not among those of the chain.
    fn unasked(&self, name: &str) -> Asked {
        let (why, sentence) = &self.without;
        let note = Attempt { message: sentence.clone(), ..attempt(name, why.as_str(), 0) };
        let calls = if sentence.is_empty() { Vec::new() } else { vec![note] };
        Asked { calls, ..Asked::free(Err(*why)) }
    }

    /// Nobody reviews itself, and there is nothing to object to where nothing is proposed.
    async fn review(
        &self,
        case: FactBundle<'_>,
        diagnosis: &Diagnosis,
        budget: Budget,
        left: &mut Left,
    ) -> Option<Review> {
        let reviewer = self.reviewer.as_ref().filter(|reviewer| reviewer.name() != diagnosis.diagnoser)?;
        diagnosis.proposal.as_ref()?;
        let asked_at = Instant::now();
        let log = Log::after(left.last());
        let reviewed = reviewer.review(case, diagnosis, within(budget), &log);
        let reviewed = tokio::time::timeout(budget.time, reviewed).await;
        let (review, asked) = reviewed.unwrap_or_else(|_| (None, Asked::free(Err(Why::Timeout))));
        let _ = left.take(reviewer.name(), asked.and(log.take()), milliseconds(asked_at));
        review
    }
}

/// What an ask is told that it may take.
fn within(budget: Budget) -> Budget {
    Budget { time: budget.time - MARGIN.min(budget.time / 2), ..budget }
}

impl Asked {
    /// With what the log has of it.
    fn and(mut self, took: Took) -> Asked {
        let Took { spent, calls, waited } = took;
        self.spent.add(spent);
        self.calls.extend(calls);
        self.waited = self.waited.saturating_add(waited);
        self
    }
}

/// What a diagnosis may still take, and what it took.
struct Left {
    budget: Budget,
    attempts: Vec<Attempt>,
    spent: Spent,
}

impl Left {
    /// Counts an ask and puts it on the record.
    fn take(&mut self, name: &str, asked: Asked, took: i64) -> Result<Diagnosis, Why> {
        let Asked { answer, spent, calls, swapped: _, waited, last: _ } = asked;
        self.spent.add(spent);
        let Budget { time: _, tokens, attempts, waiting, later: _ } = &mut self.budget;
        *tokens = tokens.saturating_sub(spent.tokens);
        let sent = calls.iter().filter(|call| !call.not_sent).count();
        *attempts = attempts.saturating_sub(u32::try_from(sent).unwrap_or(u32::MAX));
        *waiting = waiting.saturating_sub(waited);
        let outcome = answer.as_ref().map_or_else(|why| why.as_str(), Diagnosis::outcome);
        match calls.is_empty() {
            true => self.note(Attempt { because: self.last().to_owned(), ..attempt(name, outcome, took) }),
            false => calls.into_iter().for_each(|call| self.note(call)),
        }
        answer
    }

    /// The outcome of what was asked last; empty where nothing was.
    fn last(&self) -> &str {
        self.attempts.last().map_or("", |attempt| attempt.outcome.as_str())
    }

    /// What was not sent is no attempt, so there can be many: where there is no room, it makes room.
    fn note(&mut self, attempt: Attempt) {
        if self.attempts.len() >= MAX_ATTEMPTS {
            let Some(unsent) = self.attempts.iter().rposition(|attempt| attempt.not_sent) else { return };
            self.attempts.remove(unsent);
        }
        self.attempts.push(attempt);
    }
}

/// A rung cannot answer in the name of another, nor with another's ceiling. What another model answered than was asked for
/// leads to a suggestion at most: nobody decided how far that one may go.
fn signed(rung: &dyn Rung, diagnosis: Diagnosis, swapped: bool) -> Diagnosis {
    let most = if swapped { Mode::Suggest } else { Mode::Auto };
    Diagnosis { diagnoser: rung.name().to_owned(), ceiling: rung.ceiling().min(most), ..diagnosis }
}

fn attempt(rung: &str, outcome: &str, milliseconds: i64) -> Attempt {
    Attempt { rung: clip(rung, 64), outcome: outcome.to_owned(), milliseconds, ..Attempt::default() }
}

fn milliseconds(since: Instant) -> i64 {
    i64::try_from(since.elapsed().as_millis()).unwrap_or(i64::MAX)
}

impl Diagnosis {
    /// The constant in `Attempt.outcome`.
    fn outcome(&self) -> &'static str {
        if self.proposal.is_some() { "Answered" } else { "NoProposal" }
    }
}

#[cfg(test)]
mod tests {
    use super::super::planted::{Behaviour, Planted};
    use super::*;
    use crate::api::v1alpha1::{Cause, Time};

    fn budget() -> Budget {
        Budget::new(Duration::from_secs(10), 1000)
    }

    fn chain() -> Chain {
        let all = [Behaviour::Answers, Behaviour::Fails, Behaviour::Stops, Behaviour::Hangs];
        Chain::new(all.into_iter().map(|behaviour| Box::new(Planted(behaviour)) as Box<dyn Rung>).collect(), None)
    }

    async fn ask(names: &[&str]) -> ChainAnswer {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let case = FactBundle { target: None, alert_started_at: Time::UNIX_EPOCH, facts: &[] };
        chain().ask(&names, case, budget()).await
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
    async fn after_a_failure_that_no_other_model_may_be_asked_about_the_rules_answer() {
        let outcome = ask(&["planted-stops", "planted-answers"]).await;
        assert_eq!(outcomes(&outcome), [("planted-stops", "Stopped"), ("rules", "NoProposal")]);
        assert_eq!(outcome.diagnosis.diagnoser, "rules");
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
        let budget = Budget { tokens: 0, ..budget() };
        let outcome = chain().ask(&names, case, budget).await;
        assert_eq!(outcomes(&outcome), [("planted-answers", "BudgetSpent"), ("rules", "NoProposal")]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rung_that_never_answers_costs_the_budgets_time_and_no_more() {
        let began = tokio::time::Instant::now();
        let outcome = ask(&["planted-hangs"]).await;
        assert_eq!(outcomes(&outcome), [("planted-hangs", "Timeout"), ("rules", "NoProposal")]);
        assert_eq!(began.elapsed().as_secs(), 10);
    }

    /// Fails after nine seconds.
    struct Slow;

    impl Rung for Slow {
        fn name(&self) -> &str {
            "slow"
        }

        fn ceiling(&self) -> Mode {
            Mode::Suggest
        }

        fn ask<'a>(&'a self, _: FactBundle<'a>, _: Budget, _: &'a Log) -> BoxFuture<'a, Asked> {
            Box::pin(async {
                tokio::time::sleep(Duration::from_secs(9)).await;
                Asked::free(Err(Why::Unavailable))
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_one_deadline_is_counted_on_a_clock_that_nobody_sets() {
        // The wall clock of this test does not advance: whoever looked at it would give the second rung ten seconds more.
        let chain = Chain::new(vec![Box::new(Slow), Box::new(Planted(Behaviour::Hangs))], None);
        let names = ["slow", "planted-hangs"].map(str::to_owned);
        let case = FactBundle { target: None, alert_started_at: Time::UNIX_EPOCH, facts: &[] };
        let began = Instant::now();
        let outcome = chain.ask(&names, case, budget()).await;
        assert_eq!(began.elapsed(), Duration::from_secs(10));
        let took: Vec<i64> = outcome.attempts.iter().map(|attempt| attempt.milliseconds).collect();
        assert_eq!(took, [9000, 1000, 0]);
        let because: Vec<&str> = outcome.attempts.iter().map(|attempt| attempt.because.as_str()).collect();
        assert_eq!(because, ["", "Unavailable", "Timeout"], "each says what it follows");
    }

    /// Answers as a rung that may go up to `approve`, and maybe with another model than it was asked for.
    struct Swaps(bool);

    impl Rung for Swaps {
        fn name(&self) -> &str {
            "swaps"
        }

        fn ceiling(&self) -> Mode {
            Mode::Approve
        }

        fn ask<'a>(&'a self, _: FactBundle<'a>, _: Budget, _: &'a Log) -> BoxFuture<'a, Asked> {
            Box::pin(async { Asked { swapped: self.0, ..Asked::free(Ok(Diagnosis::default())) } })
        }
    }

    #[tokio::test]
    async fn what_another_model_answered_than_was_asked_leads_to_a_suggestion_at_most() {
        let case = FactBundle { target: None, alert_started_at: Time::UNIX_EPOCH, facts: &[] };
        for (swapped, ceiling) in [(false, Mode::Approve), (true, Mode::Suggest)] {
            let chain = Chain::new(vec![Box::new(Swaps(swapped))], None);
            let outcome = chain.ask(&["swaps".to_owned()], case, budget()).await;
            assert_eq!((outcome.diagnosis.diagnoser.as_str(), outcome.diagnosis.ceiling), ("swaps", ceiling));
        }
    }

    #[test]
    fn however_much_was_not_sent_what_was_is_on_the_record() {
        let mut left = Left { budget: budget(), attempts: Vec::new(), spent: Spent::default() };
        for _ in 0..60 {
            left.note(Attempt { not_sent: true, ..attempt("big", "IncidentBudget", 0) });
        }
        left.note(attempt("small", "Answered", 0));
        left.note(attempt("rules", "NoProposal", 0));
        let kept: Vec<&str> = left.attempts.iter().map(|attempt| attempt.outcome.as_str()).collect();
        assert_eq!((kept.len(), &kept[MAX_ATTEMPTS - 2..]), (MAX_ATTEMPTS, &["Answered", "NoProposal"][..]));
    }

    /// Ends by itself a moment after its time.
    struct Late;

    impl Rung for Late {
        fn name(&self) -> &str {
            "late"
        }

        fn ceiling(&self) -> Mode {
            Mode::Suggest
        }

        fn ask<'a>(&'a self, _: FactBundle<'a>, budget: Budget, log: &'a Log) -> BoxFuture<'a, Asked> {
            Box::pin(async move {
                log.called(attempt("late", "Upstream", 7));
                tokio::time::sleep(budget.time + Duration::from_millis(200)).await;
                Asked::free(Err(Why::Unavailable))
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_ask_that_is_a_moment_late_ends_by_itself_and_one_that_is_ended_keeps_its_record() {
        let case = FactBundle { target: None, alert_started_at: Time::UNIX_EPOCH, facts: &[] };
        let chain = Chain::new(vec![Box::new(Late)], None);
        // Of 100 ms its margin is 50, which it passes by far.
        for (milliseconds, why) in [(10_000, Why::Unavailable), (100, Why::Timeout)] {
            let budget = Budget::new(Duration::from_millis(milliseconds), 1000);
            let asked = chain.ask_one("late", case, budget, &Log::default()).await;
            assert_eq!((asked.answer, asked.calls.len()), (Err(why), 1), "{milliseconds}");
        }
    }
}
