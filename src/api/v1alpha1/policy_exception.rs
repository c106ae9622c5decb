use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Condition, MatchConstraints, READABLE_TIME, Time};

/// Lifts parts of named Policies for some targets, for a reason and until a time. One in the system namespace can lift any
/// Policy; one in another namespace only Policies of that namespace. Other Policies, the mode, what is protected, the
/// budgets of the installation, Runbooks, approvals and every other check stay in force.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "backstop.dev",
    version = "v1alpha1",
    kind = "PolicyException",
    doc = "Lifts parts of named Policies for some targets, for a reason and until a time.",
    plural = "policyexceptions",
    shortname = "bpolex",
    category = "backstop",
    namespaced,
    status = "PolicyExceptionStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Expires","type":"string","jsonPath":".spec.expiresAt"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".spec.reason"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct PolicyExceptionSpec {
    /// Why, for people and for the audit log; 1 to 512 characters.
    #[schemars(length(min = 1, max = 512))]
    pub reason: String,
    /// Expiry, at most 30 days after the exception was created; before the year 9999.
    #[schemars(extend("pattern" = READABLE_TIME))]
    pub expires_at: Time,
    /// The Policies that it lifts, 1 to 16.
    #[schemars(length(min = 1, max = 16))]
    pub policies: Vec<PolicyRef>,
    /// What it lifts of them, 1 to 8.
    #[schemars(length(min = 1, max = 8))]
    pub lifts: Vec<Lift>,
    /// The targets that it is for. Empty matches every target that the Policies match.
    #[serde(default)]
    pub match_constraints: MatchConstraints,
    /// Namespaces of the targets, at most 64. Empty matches all; of use in the system namespace only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 63)))]
    pub namespaces: Vec<String>,
}

/// One Policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRef {
    /// Its namespace; empty means that of the exception.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// A part of a Policy that an exception can lift. What is not listed here cannot be lifted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Lift {
    /// `allowedActions`.
    AllowedActions,
    /// `validations`.
    Validations,
    /// `windows`.
    Windows,
    /// `limits`.
    Limits,
    /// `confidenceFloor`.
    ConfidenceFloor,
}

/// Written by the controller only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyExceptionStatus {
    /// `metadata.generation` of the spec that this status describes.
    #[serde(default)]
    pub observed_generation: i64,
    /// Condition `Ready`: whether it is in force.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub conditions: Vec<Condition>,
}
