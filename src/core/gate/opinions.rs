//! Whose answer is judged, where a model answered and the rules gave a second opinion.
//!
//! An answer that is not grounded decides nothing, and the rules' answer is judged as if no model had been asked. Where a
//! grounded answer does not come to the action that the rules propose, that action needs a person's approval. Nothing here
//! lets an action through: whatever is judged passes the whole chain of checks.

use crate::api::v1alpha1::{Action, DecisionOutcome, Diagnosis};
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
pub(super) fn judge(case: &Case<'_>, judge: impl Fn(&Case<'_>) -> Judgement) -> Judgement {
    let first = judge(case);
    let belief = case.belief;
    let (Some(model), Some(rules)) = (belief.diagnosis.filter(|_| belief.is_of_model()), belief.second_opinion) else {
        return first;
    };
    // A reviewer speaks of the proposal that it was shown.
    let review = belief.review.filter(|_| action(model) == action(rules));
    match first.ungrounded {
        Some(Ungrounded { only_unsure: false, .. }) => {
            let alone = Belief { diagnosis: Some(rules), second_opinion: None, review, ..belief };
            let mut decided = judge(&Case { belief: alone, ..case.clone() });
            for anomaly in first.anomalies {
                if !decided.anomalies.contains(&anomaly) {
                    decided.anomalies.push(anomaly);
                }
            }
            Judgement { ungrounded: first.ungrounded, on_second_opinion: true, ..decided }
        }
        None if first.decision.outcome == DecisionOutcome::Escalate
            && action(rules).is_some()
            && action(model) != action(rules) =>
        {
            let doubted = Belief { diagnosis: Some(rules), second_opinion: Some(model), review, ..belief };
            let decided = judge(&Case { belief: doubted, ..case.clone() });
            match decided.decision.outcome {
                DecisionOutcome::AwaitApproval | DecisionOutcome::Act => {
                    Judgement { on_second_opinion: true, ..decided }
                }
                DecisionOutcome::Escalate | DecisionOutcome::Wait | DecisionOutcome::Resolve => first,
            }
        }
        _ => first,
    }
}

fn action(diagnosis: &Diagnosis) -> Option<&Action> {
    diagnosis.proposal.as_ref().map(|proposal| &proposal.action)
}
