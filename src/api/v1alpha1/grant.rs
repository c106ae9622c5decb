use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Time, Write};

/// The one write that is open now in this namespace, or closed. There is one per enrolled namespace,
/// named `active`; the admission policy `backstop-grant` reads it as its parameter.
/// Written by the controller only; nobody deletes it.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "backstop.dev",
    version = "v1alpha1",
    kind = "Grant",
    plural = "grants",
    category = "backstop",
    namespaced,
    derive = "PartialEq",
    printcolumn = r#"{"name":"Action","type":"string","jsonPath":".spec.open.action"}"#,
    printcolumn = r#"{"name":"Remediation","type":"string","jsonPath":".spec.open.remediation"}"#,
    printcolumn = r#"{"name":"Not-After","type":"string","jsonPath":".spec.open.notAfter"}"#,
    printcolumn = r#"{"name":"Closed-Because","type":"string","jsonPath":".spec.closedBecause"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct GrantSpec {
    /// The open write; absent = closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<OpenGrant>,
    /// Why it stays closed, such as `AuditNotDurable`; absent when nothing keeps it closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub closed_because: Option<String>,
}

/// Exactly one write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OpenGrant {
    /// Identity of the exact action: 32 hexadecimal characters.
    #[schemars(regex(pattern = r"^[0-9a-f]{32}$"))]
    pub action_id: String,
    /// Kind of action as in the label `backstop.dev/armed`.
    #[schemars(length(max = 63))]
    pub action: String,
    /// Name of the Remediation.
    #[schemars(length(max = 253))]
    pub remediation: String,
    /// Epoch of the claim that it was opened for.
    pub epoch: i64,
    /// UID of the target.
    #[schemars(length(max = 128))]
    pub uid: String,
    /// The one write.
    pub write: Write,
    /// End of validity, whole seconds; at most 60 s after opening.
    pub not_after: Time,
}
