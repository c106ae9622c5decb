//! What the facts alone say against a diagnosis: whether its claims cite facts that exist and are carried by them, and
//! whether what it names stands in them. The gate asks this and more, for it has the cluster to compare with.

use crate::api::v1alpha1::{Action, Cause, Claim, Diagnosis, Fact, FactData, ObjectRef};
use crate::core::reason::Reason;
use crate::core::workload::complete;

use super::claims;

/// The first thing that the facts show to be wrong with a diagnosis, as the gate would call it; `None` when it is grounded
/// in them.
pub fn flaw(diagnosis: &Diagnosis, facts: &[Fact]) -> Option<(Reason, String)> {
    let of = |reason: Reason| move |message: String| (reason, message);
    uncited(diagnosis, facts)
        .map(of(Reason::ClaimUncited))
        .or_else(|| unsupported(&diagnosis.claims, facts).map(of(Reason::ClaimUnsupported)))
        .or_else(|| untrue_cause(diagnosis.cause, facts).map(of(Reason::CauseUngrounded)))
        .or_else(|| unknown(diagnosis, facts).map(of(Reason::ObjectUnknown)))
}

/// A claim that cites nothing, or a fact that does not exist; an action without any claim.
pub(super) fn uncited(diagnosis: &Diagnosis, facts: &[Fact]) -> Option<String> {
    for (number, claim) in numbered(&diagnosis.claims) {
        if claim.cites.is_empty() {
            return Some(format!("claim {number} ({}) cites no fact", claim.kind.as_str()));
        }
        if let Some(id) = claim.cites.iter().find(|id| !facts.iter().any(|fact| &fact.id == *id)) {
            let kind = claim.kind.as_str();
            return Some(format!("claim {number} ({kind}) cites {id}, which is not among the facts"));
        }
    }
    (diagnosis.claims.is_empty() && diagnosis.proposal.is_some())
        .then(|| "an action is proposed without a single claim".to_owned())
}

/// A claim that the facts which it cites do not carry. One that cites no fact is passed over.
pub(super) fn unsupported(claims: &[Claim], facts: &[Fact]) -> Option<String> {
    numbered(claims).find_map(|(number, claim)| {
        let cited = cited(claim, facts);
        let carried = cited.is_empty() || (claims::of(claim.kind).supported)(claim, &cited);
        (!carried)
            .then(|| format!("claim {number} ({}) is not carried by {}", claim.kind.as_str(), claim.cites.join(", ")))
    })
}

/// A cause that the facts contradict, whatever is claimed.
fn untrue_cause(cause: Cause, facts: &[Fact]) -> Option<String> {
    match cause {
        Cause::Recovered if show_failure(facts) => {
            Some("it is said to have recovered, and the facts show it failing".into())
        }
        Cause::NeverWorked if revisions(facts) > 1 => {
            Some("it is said that there never was another template, and the facts show others".into())
        }
        _ => None,
    }
}

/// Something fails in a way that a template can cause.
pub(super) fn show_failure(facts: &[Fact]) -> bool {
    facts.iter().any(|fact| match &fact.data {
        FactData::Pod(pod) => pod.failure.is_hard(),
        FactData::Revision(revision) => revision.current && revision.refused.is_some(),
        _ => false,
    })
}

/// All that was asked for is there, and nothing fails. No data is no health.
pub(super) fn show_health(facts: &[Fact]) -> bool {
    let whole = |fact: &Fact| matches!(&fact.data, FactData::Workload(workload) if complete(workload));
    let pods = facts.iter().any(|fact| matches!(fact.data, FactData::Pod(_)));
    facts.iter().any(whole) && pods && !show_failure(facts)
}

/// How many revisions they show.
pub(super) fn revisions(facts: &[Fact]) -> usize {
    facts.iter().filter(|fact| matches!(fact.data, FactData::Revision(_))).count()
}

/// The facts that a claim cites.
pub(super) fn cited<'a>(claim: &Claim, facts: &'a [Fact]) -> Vec<&'a Fact> {
    facts.iter().filter(|fact| claim.cites.contains(&fact.id)).collect()
}

/// The revision that a diagnosis proposes to return to.
pub fn undo_to(diagnosis: &Diagnosis) -> Option<i64> {
    match &diagnosis.proposal.as_ref()?.action {
        Action::RolloutUndo(undo) => Some(undo.to_revision),
        Action::RolloutRestart(_) => None,
        #[cfg(test)]
        Action::Planted(_) => None,
    }
}

/// Something that is named and stands in no fact: an object, a revision or a change.
fn unknown(diagnosis: &Diagnosis, facts: &[Fact]) -> Option<String> {
    let Diagnosis { suspect, suspected_revision, suspected_change, .. } = diagnosis;
    if let Some(suspect) = suspect.as_ref().filter(|suspect| !facts.iter().any(|fact| same(&fact.object, suspect))) {
        return Some(format!("{suspect} is named and is in no fact"));
    }
    let to = undo_to(diagnosis);
    let recorded = |number: i64| {
        facts.iter().any(|fact| matches!(&fact.data, FactData::Revision(revision) if revision.number == number))
    };
    if let Some(number) = suspected_revision.iter().chain(&to).find(|number| !recorded(**number)) {
        return Some(format!("revision {number} is named and is in no fact"));
    }
    let change = suspected_change.as_ref().filter(|change| !facts.iter().any(|fact| fact_shows(fact, change)));
    change.map(|_| "the change that is suspected is in no fact".to_owned())
}

/// Claims with their number, from 1.
pub(super) fn numbered(claims: &[Claim]) -> impl Iterator<Item = (usize, &Claim)> {
    claims.iter().enumerate().map(|(index, claim)| (index + 1, claim))
}

/// Whether a fact about revisions shows a change by this name.
pub(super) fn fact_shows(fact: &Fact, change: &str) -> bool {
    match &fact.data {
        FactData::Revision(revision) => {
            revision.images.iter().any(|image| has_word(image, change)) || is_hash(&revision.template_hash, change)
        }
        FactData::RevisionDiff(diff) => {
            diff.changes.iter().any(|field| has_word(&field.before, change) || has_word(&field.after, change))
        }
        _ => false,
    }
}

/// Whether `word` stands in `text` by itself. A commit may be cut to its first seven characters.
pub(super) fn has_word(text: &str, word: &str) -> bool {
    let part = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let cut = is_commit(word);
    !word.is_empty()
        && text.match_indices(word).any(|(at, _)| {
            let (before, after) = (text[..at].chars().next_back(), text[at + word.len()..].chars().next());
            !part(before) && (cut || !part(after))
        })
}

pub(super) fn is_hash(hash: &str, change: &str) -> bool {
    is_commit(change) && hash.starts_with(change)
}

fn is_commit(word: &str) -> bool {
    word.len() >= 7 && word.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

pub(super) fn same(object: &ObjectRef, other: &ObjectRef) -> bool {
    object.kind == other.kind && object.name == other.name && object.namespace == other.namespace
}
