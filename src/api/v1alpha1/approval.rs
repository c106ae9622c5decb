use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Condition, READABLE_TIME, Time};

/// A person's answer to one exact action: a yes, or a no, which ends it. Created by people; an admission policy requires
/// `approver` to be the account that creates it, and `groups` to be groups of that account. Whoever may impersonate an
/// account can approve in its name.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "backstop.dev",
    version = "v1alpha1",
    kind = "Approval",
    doc = "A person's approval of one exact action, or their no.",
    plural = "approvals",
    shortname = "apr",
    category = "backstop",
    namespaced,
    status = "ApprovalStatus",
    selectable = ".spec.incident",
    derive = "PartialEq",
    validation = ("self.spec == oldSelf.spec", "spec is immutable"),
    printcolumn = r#"{"name":"Approver","type":"string","jsonPath":".spec.approver"}"#,
    printcolumn = r#"{"name":"Answer","type":"string","jsonPath":".spec.answer"}"#,
    printcolumn = r#"{"name":"Incident","type":"string","jsonPath":".spec.incident"}"#,
    printcolumn = r#"{"name":"Expires","type":"string","jsonPath":".spec.expiresAt"}"#,
    printcolumn = r#"{"name":"Used-By","type":"string","jsonPath":".status.usedBy"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalSpec {
    /// User name of the account that approves, 1 to 253 characters.
    #[schemars(length(min = 1, max = 253))]
    pub approver: String,
    /// Groups of that account that are to count, at most 64. A Policy may ask for one (`approvals.groups`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    pub groups: Vec<String>,
    /// Name of the Incident in the same namespace.
    #[schemars(length(min = 1, max = 253))]
    pub incident: String,
    /// `status.decision.digest` of the Incident, 64 hexadecimal characters. It identifies exactly one action.
    #[schemars(regex(pattern = r"^[0-9a-f]{64}$"))]
    pub digest: String,
    /// `Approve`, or `Deny`: one no is enough to end it.
    #[serde(default)]
    pub answer: ApprovalAnswer,
    /// Expiry of the approval; before the year 9999.
    #[schemars(extend("pattern" = READABLE_TIME))]
    pub expires_at: Time,
}

/// What a person says to an exact action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ApprovalAnswer {
    /// It may be done.
    #[default]
    Approve,
    /// It may not, whoever else approves.
    Deny,
}

/// Written by the controller only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalStatus {
    /// Name of the Remediation that used it; empty while unused. An Approval can be used once.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub used_by: String,
    /// Condition `Used`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub conditions: Vec<Condition>,
}
