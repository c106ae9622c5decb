use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Time, Write};

/// The one write that the executor may make in this namespace now, if any. Each enrolled namespace has one Grant, named
/// `active`, which the admission policy `backstop-grant` reads as its parameter. Written by the controller only; must
/// not be deleted.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "backstop.dev",
    version = "v1alpha1",
    kind = "Grant",
    doc = "The one write that the executor may make in a namespace now, if any.",
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
    /// The write that is allowed now. Absent while the Grant is closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<OpenGrant>,
    /// Why it cannot be opened, such as `AuditNotDurable`; at most 64 characters. Absent when nothing prevents it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub closed_because: Option<String>,
}

/// Permission for exactly one write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OpenGrant {
    /// ID of the exact action, 32 hexadecimal characters.
    #[schemars(regex(pattern = r"^[0-9a-f]{32}$"))]
    pub action_id: String,
    /// The action as a value of the label `backstop.dev/armed`, such as `rollout-undo`.
    #[schemars(length(max = 63))]
    pub action: String,
    /// Name of the Remediation, in the same namespace.
    #[schemars(length(max = 253))]
    pub remediation: String,
    /// Epoch of the claim that it was opened for, from 1.
    pub epoch: i64,
    /// UID of the target.
    #[schemars(length(max = 128))]
    pub uid: String,
    /// The one write that is allowed.
    pub write: Write,
    /// Expiry, in whole seconds. At most 60 seconds after it was opened.
    pub not_after: Time,
}
