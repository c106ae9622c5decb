use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ActionKind, Condition, Mode};

/// What may be done to the workloads that it matches. Policies only tighten: the namespace label sets the
/// mode, every matching Policy can lower it. A Policy in the system namespace holds for all namespaces.
/// One that does not compile denies. In documents: `policies.backstop.dev`, because the bare plural collides.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "backstop.dev",
    version = "v1alpha1",
    kind = "Policy",
    plural = "policies",
    shortname = "bpol",
    category = "backstop",
    namespaced,
    status = "PolicyStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Mode","type":"string","jsonPath":".spec.mode"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct PolicySpec {
    /// The highest mode that it leaves.
    pub mode: Mode,
    /// Which targets it is for; empty = all.
    #[serde(default)]
    pub match_constraints: MatchConstraints,
    /// Actions that it leaves; absent = all of the catalogue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub allowed_actions: Option<Vec<ActionKind>>,
    /// CEL rules over `incident`, `diagnosis`, `action`, `target` and `namespaceObject`; all must be true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub validations: Vec<Validation>,
    /// Bounds.
    #[serde(default)]
    pub limits: Limits,
    /// When it allows or denies actions; without a window every time is allowed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub windows: Vec<Window>,
    /// `RolloutUndo` may also be used on objects that Helm installed. A later `helm upgrade` will apply the
    /// chart's template again.
    #[serde(default)]
    pub allow_helm: bool,
    /// The lowest self-reported confidence, 0 to 100, that is not escalated.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100))]
    pub confidence_floor: i32,
}

/// Which targets a Policy is for: all given fields must fit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MatchConstraints {
    /// Kinds, any of them; empty = every kind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 63)))]
    pub kinds: Vec<String>,
    /// Labels of the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_selector: Option<LabelSelector>,
}

/// One CEL rule, in the words of ValidatingAdmissionPolicy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Validation {
    /// Must evaluate to true. An error, and anything but a boolean, denies.
    #[schemars(length(min = 1, max = 2048))]
    pub expression: String,
    /// Sentence for people when it is not true.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub message: String,
    /// CEL expression for the sentence; takes precedence over `message`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 2048))]
    pub message_expression: String,
    /// A constant; `PolicyValidationFailed` when it is empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub reason: String,
}

/// Bounds of a Policy. Absent = the operator's own budget.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Actions in the namespace in any hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub actions_per_hour: Option<i32>,
    /// Seconds between two actions on the same target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86400))]
    pub cooldown_seconds: Option<i32>,
    /// Blast radius: replicas of the target at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10000))]
    pub max_pods: Option<i32>,
}

/// A recurring window of time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// Allow or deny; a deny wins.
    pub kind: WindowKind,
    /// Start, as a cron expression of five fields.
    #[schemars(length(max = 128))]
    pub schedule: String,
    /// Length in seconds.
    #[schemars(range(min = 60, max = 604800))]
    pub duration_seconds: i32,
    /// IANA time zone; `UTC` when empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub time_zone: String,
}

/// Whether a window allows or denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WindowKind {
    /// Actions are allowed inside and denied outside of every allow window.
    Allow,
    /// Actions are denied inside.
    Deny,
}

/// Written by the controller only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyStatus {
    /// Generation of the spec that this status describes.
    #[serde(default)]
    pub observed_generation: i64,
    /// `Ready`: it compiled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub conditions: Vec<Condition>,
}
