use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ActionKind, Condition, SourceName, Time, Verify};

/// What to gather, what is allowed and what people should know for certain alerts.
/// A Runbook in the system namespace holds for all namespaces.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "backstop.dev",
    version = "v1alpha1",
    kind = "Runbook",
    plural = "runbooks",
    shortname = "rbk",
    category = "backstop",
    namespaced,
    status = "RunbookStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Summary","type":"string","jsonPath":".spec.summary"}"#,
    printcolumn = r#"{"name":"Last-Match","type":"date","jsonPath":".status.lastMatch"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct RunbookSpec {
    /// One line for people.
    #[schemars(length(max = 256))]
    pub summary: String,
    /// Which incidents it is for.
    #[serde(rename = "match")]
    pub matches: RunbookMatch,
    /// Sources to ask; empty = the default bundle.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub gather: Vec<SourceName>,
    /// Actions that it allows; empty = none: the incident is diagnosed and handed over.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub allowed_actions: Vec<ActionKind>,
    /// How success is recognised; absent = the operator's settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Verify>,
    /// Whom to call: names that the escalation webhook passes on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 128)))]
    pub escalate_to: Vec<String>,
    /// Text for people; it is put into the escalation.
    #[serde(default)]
    pub docs: RunbookDocs,
}

/// Which incidents a Runbook is for: all given fields must fit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunbookMatch {
    /// Values of the label `alertname`, any of them; empty = every alert.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 256)))]
    pub alert_names: Vec<String>,
    /// Kinds of target, any of them; empty = every kind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 63)))]
    pub target_kinds: Vec<String>,
}

/// The four headings that runbooks of the field use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunbookDocs {
    /// What the alert means.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 4096))]
    pub meaning: String,
    /// Who is hurt, and how.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 4096))]
    pub impact: String,
    /// How to find the cause.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 4096))]
    pub diagnosis: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 4096))]
    pub mitigation: String,
}

/// Written by the controller only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunbookStatus {
    /// Generation of the spec that this status describes.
    #[serde(default)]
    pub observed_generation: i64,
    /// When an incident last matched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_match: Option<Time>,
    /// Incidents that matched and were resolved.
    #[serde(default)]
    pub resolved: i64,
    /// Incidents that matched and were handed to people.
    #[serde(default)]
    pub escalated: i64,
    /// `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub conditions: Vec<Condition>,
}
