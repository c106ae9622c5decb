//! The answer of a model: its type, the JSON Schema that it is held to, and how it becomes a [`Diagnosis`].
//!
//! A model cannot say where something is done: there is no field for a namespace, for the object of an action or for a
//! limit, and an unknown field makes the answer malformed. What it suspects it may name freely, because a name that does
//! not exist has to stay visible: the gate refuses it.

mod parse;
mod review;
mod schema;
#[cfg(test)]
mod tests;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::v1alpha1::{
    self, Action, Cause, ClaimKind, Diagnosis, Fact, ObjectRef, PodFailure, Proposal, RolloutRestart, RolloutUndo,
};
use crate::core::{redact, rules};

pub use parse::{MAX_BYTES, Malformed, Problem, parse};
pub use review::{REVIEW_NAME, ReviewAnswer, parse_review, review_schema};
pub use schema::{restricted, schema};

/// Name of the schema, where an API wants one.
pub const NAME: &str = "diagnosis";

/// Claims of one answer at most.
pub const MAX_CLAIMS: usize = 32;
/// Citations of one claim at most.
pub const MAX_CITES: usize = 32;
/// The largest number of a revision that is taken: what JSON can hold exactly everywhere.
pub const MAX_REVISION: i64 = (1 << 53) - 1;

/// What a model answers. There is a value for "none" everywhere, because strict modes want every field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Answer {
    /// What the facts show. Each claim is tested by the rule of its kind.
    pub claims: Vec<AnswerClaim>,
    /// How sure you are, 0 to 100.
    pub confidence: i64,
    /// The cause in one sentence.
    pub hypothesis: String,
    /// What a person should look at next, in one or two sentences.
    pub next_steps: String,
    /// The action that would repair it, or HandOver.
    pub proposal: AnswerProposal,
    /// The kind of cause.
    pub root_cause: Cause,
    /// What is at fault.
    pub suspect: AnswerSuspect,
}

/// One claim of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AnswerClaim {
    /// Numbers of the facts that show it, such as "f3".
    pub cites: Vec<String>,
    /// For PodsFailing: how the pods fail. Any for every other kind.
    pub failure: AnswerFailure,
    /// What is claimed.
    pub kind: ClaimKind,
    /// Number of the revision that the claim is about, 0 for none.
    pub revision: i64,
    /// The claim in one sentence.
    pub text: String,
}

/// What an answer proposes. What it is done to is not said: it is the incident's own target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AnswerProposal {
    /// The action.
    pub action: AnswerAction,
    /// For RolloutUndo: number of the revision to return to. 0 for every other.
    pub to_revision: i64,
}

/// What an answer suspects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AnswerSuspect {
    /// Commit, image tag or digest that is at fault, exactly as the facts show it. Empty for none.
    pub change: String,
    /// Kind of the object that is at fault, such as Deployment. Empty for none.
    pub kind: String,
    /// Name of that object, exactly as the facts show it. Empty for none.
    pub name: String,
    /// Number of the revision that is at fault, 0 for none.
    pub revision: i64,
}

/// What a model may propose: the actions of the catalogue, and that a person takes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AnswerAction {
    /// A person takes over.
    HandOver,
    /// See [`v1alpha1::ActionKind::RolloutUndo`].
    RolloutUndo,
    /// See [`v1alpha1::ActionKind::RolloutRestart`].
    RolloutRestart,
}

/// How pods fail, in a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AnswerFailure {
    /// In any way that a template can cause, or the claim is not about failing pods.
    Any,
    /// See [`PodFailure::CrashLoop`].
    CrashLoop,
    /// See [`PodFailure::OutOfMemory`].
    OutOfMemory,
    /// See [`PodFailure::ImagePull`].
    ImagePull,
    /// See [`PodFailure::ConfigError`].
    ConfigError,
    /// See [`PodFailure::StartError`].
    StartError,
    /// See [`PodFailure::ProbeFailing`].
    ProbeFailing,
    /// See [`PodFailure::LivenessFailing`].
    LivenessFailing,
    /// See [`PodFailure::InitNotEnding`].
    InitNotEnding,
    /// See [`PodFailure::StuckCreating`].
    StuckCreating,
    /// See [`PodFailure::NeverReady`].
    NeverReady,
    /// See [`PodFailure::Unschedulable`].
    Unschedulable,
    /// See [`PodFailure::Refused`].
    Refused,
}

impl AnswerFailure {
    fn failure(self) -> Option<PodFailure> {
        match self {
            AnswerFailure::Any => None,
            AnswerFailure::CrashLoop => Some(PodFailure::CrashLoop),
            AnswerFailure::OutOfMemory => Some(PodFailure::OutOfMemory),
            AnswerFailure::ImagePull => Some(PodFailure::ImagePull),
            AnswerFailure::ConfigError => Some(PodFailure::ConfigError),
            AnswerFailure::StartError => Some(PodFailure::StartError),
            AnswerFailure::ProbeFailing => Some(PodFailure::ProbeFailing),
            AnswerFailure::LivenessFailing => Some(PodFailure::LivenessFailing),
            AnswerFailure::InitNotEnding => Some(PodFailure::InitNotEnding),
            AnswerFailure::StuckCreating => Some(PodFailure::StuckCreating),
            AnswerFailure::NeverReady => Some(PodFailure::NeverReady),
            AnswerFailure::Unschedulable => Some(PodFailure::Unschedulable),
            AnswerFailure::Refused => Some(PodFailure::Refused),
        }
    }
}

impl Answer {
    /// The diagnosis that this answer is. An action is proposed for `target`, the incident's own, and for nothing else;
    /// without one none is proposed. The time of a restart no model says: it follows from the `facts`, and where they show
    /// no newer pod there is none to propose. What is suspected counts as an object of the target's namespace. Whoever asked adds
    /// the name and the ceiling of the rung.
    pub fn diagnosis(&self, target: Option<&ObjectRef>, facts: &[Fact]) -> Diagnosis {
        let Answer { claims, confidence, hypothesis, next_steps, proposal, root_cause, suspect } = self;
        let AnswerSuspect { change, kind, name, revision } = suspect;
        let (change, kind, name) = (line(change, 256), line(kind, 63), line(name, 253));
        let action = match proposal.action {
            AnswerAction::HandOver => None,
            AnswerAction::RolloutUndo => Some(Action::RolloutUndo(RolloutUndo { to_revision: proposal.to_revision })),
            AnswerAction::RolloutRestart => {
                let time = rules::restart_time(facts);
                time.map(|restarted_at| Action::RolloutRestart(RolloutRestart { restarted_at }))
            }
        };
        Diagnosis {
            cause: *root_cause,
            hypothesis: line(hypothesis, 1024),
            suspect: (!name.is_empty()).then(|| ObjectRef {
                kind,
                name,
                namespace: target.map(|target| target.namespace.clone()).unwrap_or_default(),
                ..ObjectRef::default()
            }),
            suspected_revision: some(*revision),
            suspected_change: (!change.is_empty()).then_some(change),
            confidence: (*confidence).clamp(0, 100).try_into().unwrap_or(0),
            proposal: action.zip(target.cloned()).map(|(action, target)| Proposal { action, target }),
            claims: claims.iter().take(MAX_CLAIMS).map(AnswerClaim::claim).collect(),
            advice: line(next_steps, 1024),
            ..Diagnosis::default()
        }
    }
}

impl AnswerClaim {
    fn claim(&self) -> v1alpha1::Claim {
        let AnswerClaim { cites, failure, kind, revision, text } = self;
        v1alpha1::Claim {
            kind: *kind,
            revision: some(*revision),
            failure: failure.failure(),
            cites: cites.iter().take(MAX_CITES).map(|id| line(id, 8)).collect(),
            text: line(text, 512),
        }
    }
}

fn some(number: i64) -> Option<i64> {
    (number != 0).then_some(number)
}

/// Text of a model on one line, without secrets, control characters and marks that hide text.
fn line(text: &str, limit: usize) -> String {
    let words = redact::text(text, limit.saturating_mul(4));
    let words: Vec<&str> =
        words.split(|c: char| c.is_whitespace() || is_separator(c)).filter(|word| !word.is_empty()).collect();
    redact::clip(&words.join(" "), limit)
}

/// Line and paragraph separators, which are no control characters.
fn is_separator(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}')
}
