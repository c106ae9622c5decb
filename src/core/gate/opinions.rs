//! Whose answer is judged, where a model answered and the rules gave a second opinion.
//!
//! An answer that is not grounded decides nothing, and the rules' answer is judged as if no model had been asked. Where a
//! grounded answer does not come to the action that the rules propose, be it that it waits for something, that action needs
//! a person's approval. Nothing here lets an action through: whatever is judged passes the whole chain of checks.

use crate::api::v1alpha1::{Action, CheckVerdict, Decision, DecisionOutcome, Diagnosis, Verdict};
use crate::core::reason::Reason;

use super::Judgement;
use super::case::{Belief, Case};
use super::check::Verdicts;
use super::outcome::Effect;

/// An answer of a model that the checks of quality refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Ungrounded {
    /// Who answered.
    pub diagnoser: String,
    /// Why it does not hold.
    pub reason: Reason,
    /// The same in one sentence.
    pub message: String,
    /// What it said.
    pub hypothesis: String,
    /// The action that it proposed.
    pub action: Option<Action>,
    /// How sure it was.
    pub confidence: i32,
    /// It may hold, but is less sure of itself than a Policy asks for.
    pub only_unsure: bool,
}

impl Ungrounded {
    /// What the checks found of a model's answer; `None` when it holds, or the rules answered.
    pub(super) fn of(case: &Case<'_>, verdicts: &Verdicts) -> Option<Ungrounded> {
        let diagnosis = case.belief.diagnosis.filter(|_| case.belief.is_of_model())?;
        let untrue = verdicts.refused_with(Effect::Ungrounded);
        let found = untrue.or_else(|| verdicts.refused_with(Effect::Unsure))?;
        Some(Ungrounded {
            diagnoser: diagnosis.diagnoser.clone(),
            reason: found.reason,
            message: found.message.clone(),
            hypothesis: diagnosis.hypothesis.clone(),
            action: action(diagnosis).cloned(),
            confidence: diagnosis.confidence,
            only_unsure: untrue.is_none(),
        })
    }
}

/// Judges the answer that counts. `judge` asks the chain of checks.
///
/// Whatever a model answers, the action that the rules propose comes to no less than it would without a model, or waits for
/// a person's approval.
pub(super) fn judge(case: &Case<'_>, judge: impl Fn(&Case<'_>) -> Judgement) -> Judgement {
    let first = judge(case);
    let belief = case.belief;
    let (Some(model), Some(rules)) = (belief.diagnosis.filter(|_| belief.is_of_model()), belief.second_opinion) else {
        return first;
    };
    // A reviewer speaks of the proposal that it was shown.
    let differs = action(model) != action(rules);
    let review = belief.review.filter(|_| !differs);
    let of_rules = Belief { diagnosis: Some(rules), second_opinion: Some(model), review, ..belief };
    let judged = |belief| judge(&Case { belief, ..case.clone() });
    if first.ungrounded.as_ref().is_some_and(|found| !found.only_unsure) {
        let mut decided = judged(Belief { second_opinion: None, ..of_rules });
        for anomaly in first.anomalies {
            if !decided.anomalies.contains(&anomaly) {
                decided.anomalies.push(anomaly);
            }
        }
        return Judgement { ungrounded: first.ungrounded, on_second_opinion: true, ..decided };
    }
    if action(rules).is_none() || stands(first.decision.outcome, differs, belief.again) {
        return first;
    }
    let mut decided = judged(of_rules);
    let doubt = if differs { None } else { doubt(&first.decision, &decided.decision) };
    if doubt.is_some() {
        decided = judged(Belief { doubt: doubt.as_deref(), ..of_rules });
    }
    let counts = match decided.decision.outcome {
        DecisionOutcome::AwaitApproval | DecisionOutcome::Act => true,
        DecisionOutcome::Wait => first.decision.outcome == DecisionOutcome::Escalate,
        // That a model is for waiting keeps no person from being called either.
        DecisionOutcome::Escalate => differs && first.decision.outcome == DecisionOutcome::Wait,
        DecisionOutcome::Resolve => false,
    };
    match counts {
        true => Judgement { ungrounded: first.ungrounded, on_second_opinion: true, doubt, ..decided },
        false => Judgement { doubt, ..first },
    }
}

/// Whether the action of the rules cannot come to more than what the model's answer came to. Right before a write what was
/// decided is held, and what it waits for is waited for.
fn stands(outcome: DecisionOutcome, differs: bool, again: bool) -> bool {
    match outcome {
        DecisionOutcome::Act | DecisionOutcome::Resolve => true,
        DecisionOutcome::AwaitApproval => !differs,
        DecisionOutcome::Wait => !differs && again,
        DecisionOutcome::Escalate => false,
    }
}

/// What refuses the answer of the model, and not the same proposal of the rules. That it rests on older facts speaks
/// against none.
fn doubt(of_model: &Decision, of_rules: &Decision) -> Option<String> {
    let refused = |check: &CheckVerdict| {
        matches!(check.verdict, Verdict::Refused | Verdict::Unknown) && check.reason != Reason::FactsStale.as_str()
    };
    let mut both = of_model.checks.iter().zip(&of_rules.checks);
    let found = both.find(|(model, rules)| refused(model) && rules.verdict == Verdict::Passed);
    found.map(|(model, _)| model.message.clone())
}

fn action(diagnosis: &Diagnosis) -> Option<&Action> {
    diagnosis.proposal.as_ref().map(|proposal| &proposal.action)
}
