//! The prompt of a model: fixed words of ours, then numbered facts.
//!
//! The system text is the same for every incident, so that providers can cache it. Everything that somebody else may have
//! written stands in lines that begin with `| `, without what a chat template could take for a mark of its own. The size
//! is bounded: facts that matter most come first, and what was left out is said.
//!
//! One fact looks like this; what is in brackets is ours, the rest of the lines below is quoted:
//!
//! ```text
//! f2 Pod api-7d9f-x2x (Pods, seen 10:00:03Z) [failure=CrashLoop revision=2 ready=false]
//! | revision 2, Running, not ready: CrashLoop, container app, 4 restarts, last exit code 1
//! ```

mod quote;
mod select;
#[cfg(test)]
mod tests;
mod words;

use crate::api::v1alpha1::{Diagnosis, Fact};
use crate::core::answer::Malformed;
use crate::core::rules::FactBundle;
use crate::core::{actions, redact};

use quote::quoted;

/// Bytes of the facts of one prompt at most, headers included.
pub const MAX_FACTS_BYTES: usize = 20_000;
/// Bytes of a whole prompt at most.
pub const MAX_BYTES: usize = 32_000;
/// Bytes of a sentence of the diagnosis that a reviewer is shown.
const MAX_SENTENCE: usize = 600;

/// Claims of the diagnosis that a reviewer is shown.
const MAX_CLAIMS: usize = 16;

/// What a model is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// What it is, and the rules of its answer: the same for every incident.
    pub system: &'static str,
    /// The incident.
    pub user: String,
    /// Facts that are shown.
    pub shown: usize,
    /// Facts that there was no room for.
    pub left_out: usize,
}

impl Prompt {
    /// Its size in bytes: no byte-level tokenizer makes more tokens of it.
    pub fn bytes(&self) -> usize {
        self.system.len() + self.user.len()
    }

    /// About how many tokens it has. An estimate for people and tests; money is counted from [`Prompt::bytes`].
    pub fn tokens(&self) -> usize {
        self.bytes().div_ceil(4) + self.bytes() / 16
    }

    /// The same question once more, with what was wrong with the answer to the first.
    pub fn again(&self, malformed: &Malformed) -> Prompt {
        let problem = quoted(&malformed.sentence, 300);
        let user = format!(
            "{}\nYour previous answer was refused and is not kept:\n{problem}Answer again, whole, with one JSON object of the schema.\n",
            self.user
        );
        Prompt { user, ..self.clone() }
    }
}

/// The question for a diagnosis.
pub fn diagnose(case: FactBundle<'_>) -> Prompt {
    ask(words::DIAGNOSE, case, "")
}

/// The question for a reviewer of a diagnosis that proposes something.
pub fn review(case: FactBundle<'_>, diagnosis: &Diagnosis) -> Prompt {
    ask(words::REVIEW, case, &proposal(diagnosis))
}

fn ask(system: &'static str, case: FactBundle<'_>, more: &str) -> Prompt {
    let selection = select::select(case.facts, MAX_FACTS_BYTES);
    let target = match case.target {
        Some(target) => {
            format!(
                "Target: {} {} in namespace {}\n",
                quote::word(&target.kind, 63),
                quote::word(&target.name, 253),
                quote::word(&target.namespace, 63)
            )
        }
        None => "Target: none, the alert names no object that exists. Only HandOver can be proposed.\n".to_owned(),
    };
    let began = case.alert_started_at.strftime("%FT%TZ");
    let mut user = format!("{target}The first alert began at {began}, by its sender's clock.\n");
    user.push_str(&left_out(&selection));
    user.push_str("\nFACTS\n");
    user.extend(selection.shown.iter().map(|(_, text)| text.as_str()));
    user.push_str("END OF FACTS\n");
    user.push_str(more);
    Prompt { system, user, shown: selection.shown.len(), left_out: selection.left_out.len() }
}

/// How many facts there are, and what there was no room for.
fn left_out(selection: &select::Selection<'_>) -> String {
    let (shown, all) = (selection.shown.len(), selection.shown.len() + selection.left_out.len());
    if selection.left_out.is_empty() {
        return format!("All {all} facts follow, those that matter most first.\n");
    }
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for Fact { source, .. } in &selection.left_out {
        match counts.iter_mut().find(|(name, _)| *name == source.as_str()) {
            Some((_, count)) => *count += 1,
            None => counts.push((source.as_str(), 1)),
        }
    }
    let counts: Vec<String> = counts.iter().map(|(name, count)| format!("{count} of {name}")).collect();
    format!(
        "{shown} of {all} facts follow, those that matter most first. Left out for lack of room: {}.\n",
        counts.join(", ")
    )
}

/// A proposal, for its reviewer. The words of the model that made it are quoted: they are no instructions either.
fn proposal(diagnosis: &Diagnosis) -> String {
    let action = match &diagnosis.proposal {
        Some(proposal) => (actions::of(proposal.action.kind()).describe)(&proposal.action),
        None => "hand over to a person".to_owned(),
    };
    let mut text = format!("\nPROPOSAL\nAction: {action}. Root cause: {}. It says:\n", diagnosis.cause.as_str());
    text.push_str(&quoted(&diagnosis.hypothesis, MAX_SENTENCE));
    for claim in diagnosis.claims.iter().take(MAX_CLAIMS) {
        let about = claim.revision.map(|number| format!(" revision={number}")).unwrap_or_default();
        let cites: Vec<String> = claim.cites.iter().take(8).map(|id| quote::word(id, 8)).collect();
        text.push_str(&format!("Claim {}{about}, citing {}\n", claim.kind.as_str(), cites.join(" ")));
    }
    text.push_str("END OF PROPOSAL\n");
    redact::clip(&text, 4_000)
}
