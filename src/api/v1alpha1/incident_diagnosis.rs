use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Action, Attempt, Cause, FieldChange, Mode, Review, Time};

/// What a round of investigation found, cut to what the on-call has to read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IncidentDiagnosis {
    /// Name of the Investigation that it is of, in the same namespace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub investigation: String,
    /// Name of the diagnoser that answered, such as `rules`.
    #[schemars(length(max = 64))]
    pub diagnoser: String,
    /// The highest mode in which its answer may lead to an action that the rules do not confirm.
    #[serde(default)]
    pub ceiling: Mode,
    /// Cause of the failure.
    pub cause: Cause,
    /// Self-reported confidence, 0 to 100.
    #[schemars(range(min = 0, max = 100))]
    pub confidence: i32,
    /// The cause in one sentence, at most 1024 characters.
    #[schemars(length(max = 1024))]
    pub hypothesis: String,
    /// What the on-call should look at next, at most 1024 characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub advice: String,
    /// The facts that the claims cite, in the order of their numbers. At most 16; the others are in the Investigation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub facts: Vec<CitedFact>,
    /// The difference between the revisions that the diagnosis is about. Absent when no fact shows one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<RevisionDifference>,
    /// What the reviewer objects, with its name, at most 1100 characters. Empty when it does not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1100))]
    pub objection: String,
    /// The diagnosers that were asked in the latest round that asked models, and each call of a model, in order; where none
    /// did, in this round. At most 16; all are in the Investigation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub attempts: Vec<Attempt>,
    /// Model tokens of the round that the attempts are of.
    #[serde(default)]
    pub tokens: i64,
    /// Cost of the models in that round, in billionths of a US dollar.
    #[serde(default)]
    pub cost_nano_dollars: i64,
}

/// An answer of a model that was not grounded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RefusedAnswer {
    /// Name of the diagnoser that gave it.
    #[schemars(length(max = 64))]
    pub diagnoser: String,
    /// Number of the round.
    pub round: i32,
    /// Reason constant of the check that refused it, such as `ObjectUnknown`.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// One sentence that explains `reason`, at most 512 characters.
    #[schemars(length(max = 512))]
    pub message: String,
    /// What it said, cut to 256 characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256))]
    pub hypothesis: String,
    /// The action that it proposed. Absent when it proposed none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// Its self-reported confidence, 0 to 100.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100))]
    pub confidence: i32,
}

/// A re-route to a stronger rung.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reroute {
    /// Name of the rung whose answer was not grounded; it is not asked again.
    #[schemars(length(max = 64))]
    pub from: String,
    /// Name of the rung that the rounds since begin with.
    #[schemars(length(max = 64))]
    pub to: String,
    /// Why, a reason constant such as `ClaimUngrounded`.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// Time of the re-route.
    pub at: Time,
}

/// The rounds that asked models. They are asked in the first round, and again when the controller's own reading shows
/// something that they were not asked about; the rounds in between ask the rules alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelRounds {
    /// Number of the latest of these rounds.
    pub latest: i32,
    /// How many there were, without that of the re-route. At most 4.
    pub count: i32,
    /// Milliseconds that they took since the incident was planned, by the controller's clock. This time is not counted when
    /// it is asked how long evidence was waited for.
    #[serde(default)]
    pub milliseconds: i64,
    /// What the controller's reading showed that they were asked about: the template, ways of failing, what the rules
    /// conclude. At most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 128)))]
    pub evidence: Vec<String>,
    /// The latest answer about this evidence that was not refused. Absent where there is none. Where it does not come to
    /// what the rules propose in a later round, the on-call decides about that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<ModelAnswer>,
}

/// An answer of a model, as far as later rounds need it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelAnswer {
    /// Name of the diagnoser that gave it.
    #[schemars(length(max = 64))]
    pub diagnoser: String,
    /// The action that it proposed. Absent when it proposed none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// Why the same action needs an approval although the rules propose it too, in one sentence, at most 512 characters; empty
    /// when nothing speaks against it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub doubt: String,
    /// The objection of a reviewer. Absent when nobody objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objection: Option<Review>,
}

/// What models took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelUse {
    /// Tokens of prompts and answers together.
    pub tokens: i64,
    /// Cost in billionths of a US dollar.
    pub cost_nano_dollars: i64,
    /// Number of calls of models.
    pub calls: i32,
}

/// One fact that a diagnosis cites.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CitedFact {
    /// ID within the Investigation, such as `f1`.
    #[schemars(length(max = 8))]
    pub id: String,
    /// Its text with secrets redacted, at most 1024 characters.
    #[schemars(length(max = 1024))]
    pub text: String,
}

/// How the template of one revision differs from that of an earlier one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevisionDifference {
    /// Number of the earlier revision.
    pub from: i64,
    /// Number of the later revision.
    pub to: i64,
    /// Fields that differ, each value cut to 512 characters. At most 16.
    #[schemars(length(max = 16))]
    pub changes: Vec<FieldChange>,
    /// Number of fields that differ and are not listed.
    #[serde(default)]
    pub omitted: i32,
}
