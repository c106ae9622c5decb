use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ActionKind, Condition, FailurePolicy, MatchCondition, SourceName, Validation, Variable};

/// What to gather, what may be done and what people should know when certain alerts fire. A Runbook in the system
/// namespace applies to all namespaces. A namespace may have at most 100; with more, nothing is done in it.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "backstop.dev",
    version = "v1alpha1",
    kind = "Runbook",
    doc = "What to gather, what may be done and what people should know when certain alerts fire.",
    plural = "runbooks",
    shortname = "rbk",
    category = "backstop",
    namespaced,
    status = "RunbookStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Summary","type":"string","jsonPath":".spec.summary"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct RunbookSpec {
    /// One line for people, at most 256 characters.
    #[schemars(length(max = 256))]
    pub summary: String,
    /// The incidents that it applies to.
    #[serde(rename = "match")]
    pub matches: RunbookMatch,
    /// Sources to query in addition to the default ones. At most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub gather: Vec<SourceName>,
    /// Actions that it allows, at most 16. Empty allows none: the incident is diagnosed and escalated. When several
    /// Runbooks match, all of them have to allow an action.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub allowed_actions: Vec<ActionKind>,
    /// CEL conditions, at most 16, all of which must be true: else `allowedActions` and `validations` are not asked. What
    /// `match` fits is gathered and passed on to the on-call whatever they say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub match_conditions: Vec<MatchCondition>,
    /// Named CEL expressions that validations use as `variables.NAME`, at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub variables: Vec<Variable>,
    /// CEL rules over the same variables as those of a Policy, at most 32. All must be true for an action.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub validations: Vec<Validation>,
    /// What follows when an expression has no value: `Fail` denies the action, `Ignore` passes the expression over.
    #[serde(default, skip_serializing_if = "FailurePolicy::is_fail")]
    pub failure_policy: FailurePolicy,
    /// Names of people or teams to call, at most 16. Notifications contain them as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 128)))]
    pub escalate_to: Vec<String>,
    /// Name of the ModelChain in the system namespace that diagnoses these incidents, or `rules`: no model is asked. A
    /// Policy that names one goes first. Absent: `default`, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub model_chain: Option<String>,
    /// Documentation for people. Part of every notification.
    #[serde(default)]
    pub docs: RunbookDocs,
}

/// The incidents that a Runbook applies to: all given fields must match.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunbookMatch {
    /// Values of the label `alertname`, any of which matches. Empty matches every alert.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 256)))]
    pub alert_names: Vec<String>,
    /// Kinds of target, such as `Deployment`, any of which matches. Empty matches every kind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 63)))]
    pub target_kinds: Vec<String>,
}

/// Documentation under the four usual headings, each at most 4096 characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunbookDocs {
    /// What the alert means.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 4096))]
    pub meaning: String,
    /// Who is affected, and how.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 4096))]
    pub impact: String,
    /// How to find the cause.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 4096))]
    pub diagnosis: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 4096))]
    pub mitigation: String,
}

/// Written by the controller only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunbookStatus {
    /// `metadata.generation` of the spec that this status describes.
    #[serde(default)]
    pub observed_generation: i64,
    /// Condition `Ready`: whether the Runbook compiled and stays within its bounds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub conditions: Vec<Condition>,
}
