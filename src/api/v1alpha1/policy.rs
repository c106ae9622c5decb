use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    ActionKind, ApprovalTerms, Condition, FailurePolicy, MatchCondition, Mode, Validation, Variable,
    selector::label_selector, up_to_approve,
};

/// What may be done to the workloads that it matches. Policies only restrict, except for `allowHelm` and for `modelMode`:
/// the namespace's label sets the mode, and every matching Policy can lower it. A Policy in the system namespace applies to
/// all namespaces. A Policy that does not compile, or is too expensive to evaluate, denies every action; so do all Policies
/// of a namespace that has more than 100. Use the full name `policies.backstop.dev` with kubectl: other APIs have a
/// plural `policies` too.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "backstop.dev",
    version = "v1alpha1",
    kind = "Policy",
    doc = "What may be done to the workloads that it matches.",
    plural = "policies",
    shortname = "bpol",
    category = "backstop",
    namespaced,
    status = "PolicyStatus",
    derive = "PartialEq",
    validation = (
        "!has(self.spec.modelChain) || !has(self.spec.matchConstraints) || !has(self.spec.matchConstraints.objectSelector)",
        "modelChain and matchConstraints.objectSelector exclude each other: the chain is chosen before the target's labels are read"
    ),
    validation = (
        "!has(self.spec.matchConditions) || size(self.spec.matchConditions) == 0 || (self.spec.mode == 'auto' && !has(self.spec.modelChain) && !has(self.spec.approvals) && (!has(self.spec.allowHelm) || !self.spec.allowHelm))",
        "beside matchConditions, mode has to be auto, and modelChain, allowHelm and approvals have to be absent: they hold for every target that matchConstraints match; put them into a Policy of their own"
    ),
    printcolumn = r#"{"name":"Mode","type":"string","jsonPath":".spec.mode"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct PolicySpec {
    /// The highest mode that it allows.
    pub mode: Mode,
    /// The targets that it applies to. Empty matches every target.
    #[serde(default)]
    pub match_constraints: MatchConstraints,
    /// Actions that it allows, at most 16. Absent allows all; an empty list allows none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub allowed_actions: Option<Vec<ActionKind>>,
    /// CEL conditions, at most 16, all of which must be true: else the Policy does not apply to the action. They choose
    /// which actions `allowedActions`, `validations`, `limits`, `windows` and `confidenceFloor` are for. `mode` and
    /// `modelMode` hold for every target that `matchConstraints` match, because the executor evaluates no CEL; so `mode` has
    /// to be `auto` beside conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub match_conditions: Vec<MatchCondition>,
    /// Named CEL expressions that validations use as `variables.NAME`, at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub variables: Vec<Variable>,
    /// CEL rules over `alert`, `incident`, `diagnosis`, `facts`, `action`, `target`, `before`, `after`, `blast`, `budget`,
    /// `namespaceObject` and `now`, at most 32, with at most 16384 characters of CEL in the whole Policy. All must be true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub validations: Vec<Validation>,
    /// What follows when an expression has no value: `Fail` denies the action, `Ignore` passes the expression over.
    #[serde(default, skip_serializing_if = "FailurePolicy::is_fail")]
    pub failure_policy: FailurePolicy,
    /// Limits that are stricter than the budgets of the installation.
    #[serde(default)]
    pub limits: Limits,
    /// Targets that are never written to, whatever else is allowed; an undo included. The executor asks it too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protected: Option<Protected>,
    /// Who has to approve, where a person has to: in mode `approve`, and wherever a check asks for a person's word. Each
    /// matching Policy is met on its own; without any, one person is enough. The executor asks it too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approvals: Option<ApprovalTerms>,
    /// Windows of time in which actions are allowed or denied, at most 32. Without windows actions are always allowed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub windows: Vec<Window>,
    /// Whether objects that Helm installed may be written to. A later `helm upgrade` applies the chart's values again.
    /// Any matching Policy can allow it.
    #[serde(default)]
    pub allow_helm: bool,
    /// Minimum confidence of the diagnosis, 0 to 100. Below it the incident is escalated.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100))]
    pub confidence_floor: i32,
    /// The highest mode in which an answer of a model may lead to an action when the rules do not confirm it: `observe`,
    /// `suggest` or `approve`. It never goes further than `mode` and the rung's own ceiling. Where several Policies match,
    /// the lowest counts; without any it is `suggest`.
    #[serde(default = "default_model_mode")]
    #[schemars(schema_with = "up_to_approve")]
    pub model_mode: Mode,
    /// Name of the ModelChain in the system namespace that diagnoses incidents of the targets, or `rules`: no model is
    /// asked. A Policy goes before a Runbook, one of the system namespace before one of the target's, and `rules` before
    /// all. Where two of the same rank name different ones, no model is asked. Absent: what a Runbook names, else
    /// `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub model_chain: Option<String>,
}

/// Where a Policy says nothing else.
pub const DEFAULT_MODEL_MODE: Mode = Mode::Suggest;

fn default_model_mode() -> Mode {
    DEFAULT_MODEL_MODE
}

/// The targets that a Policy applies to. All given fields must match.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MatchConstraints {
    /// Kinds of target, such as `Deployment`, any of which matches. Empty matches every kind. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 63)))]
    pub kinds: Vec<String>,
    /// Selects targets by their labels: at most 64 labels and 16 expressions of 128 values each, and 256 labels and values
    /// in all. Absent matches every target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "label_selector")]
    pub object_selector: Option<LabelSelector>,
}

/// Limits of a Policy. Where one is absent, the budget of the installation applies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Maximum number of actions in the namespace within any hour, 0 to 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub actions_per_hour: Option<i32>,
    /// Minimum time between two actions on the same target, in seconds, 0 to 86400.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86400))]
    pub cooldown_seconds: Option<i32>,
    /// Largest number of pods that one write may replace, end or add, 0 to 10000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10000))]
    pub max_pods: Option<i32>,
    /// Largest share of a Service's ready endpoints that one write may end at one time, in percent, 0 to 100. Never all of
    /// them, whatever this says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub max_percent: Option<i32>,
    /// Largest number of replicas that a write may set, of a workload or as the ceiling of an autoscaler, 0 to 10000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10000))]
    pub max_replicas: Option<i32>,
    /// Maximum number of writes that are under way in the namespace at one time, 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub concurrent: Option<i32>,
    /// Largest values that a write may set, by field; at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub caps: Vec<Cap>,
}

/// The largest value that a write may set in a field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cap {
    /// JSON pointer of the field below `/spec`, with `*` for every item of a list or object, such as
    /// `/spec/template/spec/containers/*/resources/limits/memory`; at most 512 characters.
    #[schemars(length(min = 1, max = 512))]
    pub path: String,
    /// Quantity, such as `3`, `500m` or `2Gi`. A value that is not a quantity is refused; one that the write does not change
    /// may stay.
    #[schemars(length(min = 1, max = 32))]
    pub max: String,
}

/// Targets that are never written to: what any of the fields names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Protected {
    /// Kinds of target, such as `StatefulSet`, at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 63)))]
    pub kinds: Vec<String>,
    /// Names of namespaces, at most 256. Of use in the system namespace, whose Policies hold for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 63)))]
    pub namespaces: Vec<String>,
    /// Selects targets by their labels, within the bounds of `matchConstraints.objectSelector`. An empty one selects every
    /// target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "label_selector")]
    pub object_selector: Option<LabelSelector>,
}

/// A recurring window of time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// `allow` or `deny`. A deny window takes precedence.
    pub kind: WindowKind,
    /// Start of the window as a cron expression with five fields, such as `0 9 * * 1-5`.
    #[schemars(length(max = 128))]
    pub schedule: String,
    /// Length of the window in seconds, 60 to 604800.
    #[schemars(range(min = 60, max = 604800))]
    pub duration_seconds: i32,
    /// IANA time zone of the schedule, such as `Europe/Berlin`. Empty means UTC.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub time_zone: String,
}

/// Whether a window allows or denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WindowKind {
    /// Actions are allowed within any allow window and denied outside all of them.
    Allow,
    /// Actions are denied within the window.
    Deny,
}

/// Written by the controller only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyStatus {
    /// `metadata.generation` of the spec that this status describes.
    #[serde(default)]
    pub observed_generation: i64,
    /// Condition `Ready`: whether the Policy compiled and stays within its bounds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub conditions: Vec<Condition>,
}
