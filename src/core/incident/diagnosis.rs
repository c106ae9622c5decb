//! The diagnosis as it stands on the Incident: what a person has to read, and no more.

use crate::api::v1alpha1::{
    Attempt, CitedFact, Diagnosis, Fact, FactData, FieldChange, IncidentDiagnosis, IncidentStatus, InvestigationStatus,
    ModelUse, RevisionDifference,
};

use super::asking;

/// Facts that are kept.
const MAX_FACTS: usize = 16;
/// Changed fields that are kept.
const MAX_CHANGES: usize = 16;
/// Attempts that are kept.
const MAX_ATTEMPTS: usize = 16;
/// Characters of a sentence, and of a fact.
const MAX_TEXT: usize = 1024;
/// Characters of a value of a changed field.
const MAX_VALUE: usize = 512;

/// A round ended. What a model said of the evidence stays while the rules are asked alone, until it turns out not to be
/// about what is there now.
pub(super) fn take(status: &mut IncidentStatus, found: &InvestigationStatus) {
    let answered = status.models.as_ref().is_some_and(|models| models.answer.is_some());
    if !answered || asking::in_this_round(status) {
        replace(status, found);
    }
}

/// Puts what the latest round found in the place of what stands there. Where it asked no model, the attempts of the round
/// that did stay: whoever is called wants to know what became of the models.
pub(super) fn replace(status: &mut IncidentStatus, found: &InvestigationStatus) {
    let before = status.diagnosis.take();
    let mut next = found.diagnosis.as_ref().map(|diagnosis| opinion(status, found, diagnosis));
    if status.models.is_some()
        && !asking::in_this_round(status)
        && let (Some(next), Some(before)) = (&mut next, before)
    {
        next.attempts = before.attempts;
        (next.tokens, next.cost_nano_dollars) = (before.tokens, before.cost_nano_dollars);
    }
    status.diagnosis = next.map(Box::new);
}

/// What the latest round found, with this opinion of it. The text is the investigator's: it is shown, and decides nothing.
pub(super) fn opinion(
    status: &IncidentStatus,
    found: &InvestigationStatus,
    diagnosis: &Diagnosis,
) -> IncidentDiagnosis {
    let Diagnosis { diagnoser, ceiling, cause, hypothesis, confidence, advice, .. } = diagnosis;
    let cited: Vec<&Fact> = found.facts.iter().filter(|fact| cites(diagnosis, &fact.id)).collect();
    let objection = found.review.as_ref().filter(|review| review.objects);
    IncidentDiagnosis {
        investigation: status.investigation.clone().unwrap_or_default(),
        diagnoser: cut(diagnoser, 64),
        ceiling: *ceiling,
        cause: *cause,
        confidence: (*confidence).clamp(0, 100),
        hypothesis: cut(hypothesis, MAX_TEXT),
        advice: cut(advice, MAX_TEXT),
        facts: cited
            .iter()
            .take(MAX_FACTS)
            .map(|fact| CitedFact { id: cut(&fact.id, 8), text: cut(&fact.text, MAX_TEXT) })
            .collect(),
        difference: difference(cited.iter().copied()).or_else(|| difference(found.facts.iter())),
        objection: objection.map(|it| format!("{}: {}", cut(&it.rung, 64), cut(&it.reason, 1024))).unwrap_or_default(),
        attempts: attempts(&found.attempts),
        tokens: found.tokens.max(0),
        cost_nano_dollars: found.cost_nano_dollars.max(0),
    }
}

/// The attempts; of many the first and the last.
fn attempts(all: &[Attempt]) -> Vec<Attempt> {
    let half = MAX_ATTEMPTS / 2;
    if all.len() <= MAX_ATTEMPTS {
        return all.to_vec();
    }
    let last = all.len() - half;
    all.iter().take(half).chain(all.iter().skip(last)).cloned().collect()
}

/// Adds what the models of a round took. A round ends once, so it is added once.
pub(super) fn add_spend(status: &mut IncidentStatus, found: &InvestigationStatus) {
    let called = found.attempts.iter().filter(|attempt| attempt.is_call()).count();
    if called == 0 && found.tokens <= 0 && found.cost_nano_dollars <= 0 {
        return;
    }
    let ModelUse { tokens, cost_nano_dollars, calls } = status.model_spend.get_or_insert_default();
    *tokens = tokens.saturating_add(found.tokens.max(0));
    *cost_nano_dollars = cost_nano_dollars.saturating_add(found.cost_nano_dollars.max(0));
    *calls = calls.saturating_add(called.try_into().unwrap_or(i32::MAX));
}

/// Whether a claim of `diagnosis` cites the fact `id`.
pub fn cites(diagnosis: &Diagnosis, id: &str) -> bool {
    diagnosis.claims.iter().any(|claim| claim.cites.iter().any(|cited| cited == id))
}

/// The first difference between two revisions that `facts` show.
fn difference<'a>(facts: impl Iterator<Item = &'a Fact>) -> Option<RevisionDifference> {
    let mut differences = facts.filter_map(|fact| match &fact.data {
        FactData::RevisionDiff(diff) if !diff.changes.is_empty() => Some(diff),
        _ => None,
    });
    let diff = differences.next()?;
    let changes: Vec<FieldChange> = diff.changes.iter().take(MAX_CHANGES).map(short).collect();
    let omitted = diff.changes.len() - changes.len();
    Some(RevisionDifference { from: diff.from, to: diff.to, changes, omitted: omitted.try_into().unwrap_or(i32::MAX) })
}

fn short(change: &FieldChange) -> FieldChange {
    let FieldChange { path, before, after } = change;
    FieldChange { path: cut(path, MAX_VALUE), before: cut(before, MAX_VALUE), after: cut(after, MAX_VALUE) }
}

/// The first `max` characters; what was cut off is marked.
pub(super) fn cut(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        None => text.to_owned(),
        Some(_) => text.chars().take(max - 1).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::{Cause, Claim, ClaimKind, ObjectRef, RevisionDiffFact, SourceName, Time, WorkloadFact};

    fn fact(id: usize, data: FactData) -> Fact {
        let text = "ä".repeat(4096);
        let (object, seen_at, source) = (ObjectRef::default(), Time::UNIX_EPOCH, SourceName::RolloutHistory);
        Fact { id: format!("f{id}"), source, object, seen_at, data, text }
    }

    fn diff(from: i64, changes: usize) -> FactData {
        let change = |index| FieldChange { path: format!("/{index}"), before: "b".repeat(1024), after: String::new() };
        FactData::RevisionDiff(RevisionDiffFact {
            from,
            to: 9,
            changes: (0..changes).map(change).collect(),
            restart_only: false,
        })
    }

    fn found(facts: Vec<Fact>, cites: &[&str]) -> InvestigationStatus {
        let diagnosis = Diagnosis {
            diagnoser: "rules".into(),
            cause: Cause::BadRollout,
            hypothesis: "h".repeat(5000),
            advice: "a".repeat(5000),
            confidence: 900,
            claims: vec![Claim {
                kind: ClaimKind::TemplateChanged,
                revision: Some(1),
                failure: None,
                cites: cites.iter().map(|id| (*id).to_owned()).collect(),
                text: String::new(),
            }],
            ..Diagnosis::default()
        };
        InvestigationStatus { facts, diagnosis: Some(diagnosis), ..InvestigationStatus::default() }
    }

    fn of(found: &InvestigationStatus) -> Option<IncidentDiagnosis> {
        let mut status = IncidentStatus::default();
        take(&mut status, found);
        status.diagnosis.map(|diagnosis| *diagnosis)
    }

    #[test]
    fn the_facts_that_are_cited_and_the_difference_that_they_show_are_kept() {
        let workload = || FactData::Workload(WorkloadFact::default());
        let facts = vec![fact(1, workload()), fact(2, diff(7, 3)), fact(3, diff(8, 20)), fact(4, workload())];
        let kept = of(&found(facts.clone(), &["f1", "f3", "f77"])).unwrap();
        assert_eq!(kept.facts.iter().map(|fact| fact.id.as_str()).collect::<Vec<_>>(), ["f1", "f3"]);
        let difference = kept.difference.unwrap();
        assert_eq!((difference.from, difference.to, difference.changes.len(), difference.omitted), (8, 9, 16, 4));
        let kept = of(&found(facts, &["f1"])).unwrap();
        assert_eq!(kept.difference.unwrap().from, 7, "one that is not cited explains more than none");
        assert_eq!(of(&InvestigationStatus::default()), None);
    }

    #[test]
    fn what_was_not_sent_is_on_the_record_and_counts_as_no_call() {
        let attempt = |outcome: &str, upstream: &str, not_sent| Attempt {
            outcome: outcome.into(),
            upstream: upstream.into(),
            not_sent,
            ..Attempt::default()
        };
        let refused = |name| attempt("IncidentBudget", name, true);
        let mut status = IncidentStatus::default();
        let mut found = found(vec![], &[]);
        found.attempts = vec![refused("a"), refused("b"), attempt("NoProposal", "", false)];
        add_spend(&mut status, &found);
        assert_eq!(status.model_spend, None, "no model was called");
        found.attempts = vec![refused("a"), attempt("Transport", "b", false), attempt("Answered", "c", false)];
        found.tokens = 7;
        add_spend(&mut status, &found);
        assert_eq!(status.model_spend.as_ref().map(|spend| (spend.calls, spend.tokens)), Some((2, 7)));
        assert_eq!(of(&found).unwrap().attempts.len(), 3);
    }

    #[test]
    fn whatever_an_investigator_writes_it_fits_the_bounds_of_the_status() {
        let facts: Vec<Fact> = (1..200).map(|id| fact(id, diff(1, 64))).collect();
        let names: Vec<String> = facts.iter().map(|fact| fact.id.clone()).collect();
        let cites: Vec<&str> = names.iter().map(String::as_str).collect();
        let kept = of(&found(facts, &cites)).unwrap();
        assert_eq!((kept.facts.len(), kept.confidence), (16, 100));
        assert!(kept.facts.iter().all(|fact| fact.text.chars().count() <= 1024));
        assert!(kept.hypothesis.chars().count() <= 1024 && kept.advice.ends_with('…'));
        let changes = kept.difference.unwrap().changes;
        assert!(changes.iter().all(|change| change.before.chars().count() <= 512));
    }
}
