use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Action, Condition, ObjectRef, Time, Write};

/// One exact write: immutable, typed, without a word of prose, because it is what the hands read.
/// The verdicts that led to it are on the Incident (`status.decision.checks`).
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "backstop.dev",
    version = "v1alpha1",
    kind = "Remediation",
    plural = "remediations",
    shortname = "rem",
    category = "backstop",
    namespaced,
    status = "RemediationStatus",
    derive = "PartialEq",
    selectable = ".spec.incident",
    validation = ("self.spec == oldSelf.spec", "spec is immutable"),
    printcolumn = r#"{"name":"Action","type":"string","jsonPath":".metadata.labels.backstop\\.dev/action-kind"}"#,
    printcolumn = r#"{"name":"Purpose","type":"string","jsonPath":".spec.purpose"}"#,
    printcolumn = r#"{"name":"Target","type":"string","jsonPath":".spec.target.name"}"#,
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.reason"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Incident","type":"string","priority":1,"jsonPath":".spec.incident"}"#,
    printcolumn = r#"{"name":"Request-ID","type":"string","priority":1,"jsonPath":".spec.requestId"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct RemediationSpec {
    /// Name of the Incident in the same namespace.
    #[schemars(length(max = 253))]
    pub incident: String,
    /// Identity of the exact action: 32 hexadecimal characters.
    #[schemars(regex(pattern = r"^[0-9a-f]{32}$"))]
    pub action_id: String,
    /// SHA-256 over action, target, write and provenance, 64 hexadecimal characters; the executor computes it again.
    #[schemars(regex(pattern = r"^[0-9a-f]{64}$"))]
    pub digest: String,
    /// The action with its parameters.
    pub action: Action,
    /// Why it is done.
    #[serde(default)]
    pub purpose: Purpose,
    /// Action id of the repair that this one takes back or completes; absent for a repair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[0-9a-f]{32}$"))]
    pub follows: Option<String>,
    /// The object to write; its UID is required.
    pub target: ObjectRef,
    /// The one write.
    pub write: Write,
    /// The object that recorded the value that is written: a ReplicaSet or ControllerRevision. It carries the label
    /// `backstop.dev/undo-to` while the write is in flight, and the API server compares the two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<ObjectRef>,
    /// How success is recognised.
    pub verify: Verify,
    /// How it is taken back; absent when it cannot be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<Undo>,
    /// The incident's request id.
    #[schemars(length(max = 64))]
    pub request_id: String,
}

/// Why a Remediation exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Purpose {
    /// To repair the target.
    #[default]
    Repair,
    /// To take back a repair that did not help.
    Undo,
    /// To complete a repair: a StatefulSet does not replace a pod that never became ready.
    ReplacePod,
}

/// How success is recognised from live state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verify {
    /// The target must stay healthy for this long, in seconds.
    #[schemars(range(min = 0, max = 3600))]
    pub settle_seconds: i32,
    /// It must be healthy this long after the write at the latest, in seconds.
    #[schemars(range(min = 1, max = 3600))]
    pub timeout_seconds: i32,
}

/// How the write is taken back, exactly, if nobody else touched the field since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Undo {
    /// The action that restores the value before.
    pub action: Action,
    /// The object that recorded it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<ObjectRef>,
}

/// Written by the executor only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RemediationStatus {
    /// Where it stands.
    #[serde(default)]
    pub phase: RemediationPhase,
    /// A constant such as `Fired`, `GrantExpired`, `RefusedByPolicy`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub reason: String,
    /// What the API server answered, when it refused.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,
    /// Who claimed it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub holder: String,
    /// Counts claims; a Grant is opened for one epoch.
    #[serde(default)]
    pub epoch: i64,
    /// One per write on the cluster, oldest first; at most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub receipts: Vec<Receipt>,
    /// `Complete`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub conditions: Vec<Condition>,
}

/// Where a Remediation stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RemediationPhase {
    /// Not claimed.
    #[default]
    Pending,
    /// Claimed by the hands; a Grant may open for this epoch.
    Claimed,
    /// The write was accepted and read back.
    Fired,
    /// The write did not happen and will not.
    Aborted,
}

impl RemediationPhase {
    /// The hands will not touch it again.
    pub fn is_final(self) -> bool {
        matches!(self, RemediationPhase::Fired | RemediationPhase::Aborted)
    }
}

/// One step of the hands and what the API server answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// Which step.
    pub step: ReceiptStep,
    /// When it was answered.
    pub at: Time,
    /// resourceVersion of the object after the step; empty for a dry-run.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub resource_version: String,
    /// Epoch of the claim under which it was made.
    #[serde(default)]
    pub epoch: i64,
}

/// Steps of the hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ReceiptStep {
    /// The old revision was labelled `backstop.dev/undo-to`.
    RevisionMarked,
    /// The target was labelled `backstop.dev/armed`.
    Armed,
    /// A dry-run with a wrong value was refused by the expected policies.
    WrongValueRefused,
    /// A dry-run of the right value showed exactly `after`.
    RightValueShown,
    /// The change was made.
    Fired,
    /// The object was read back and holds exactly `after`.
    ReadBack,
    /// Label and annotation were taken off without a change.
    Disarmed,
    /// The label on the old revision was taken off.
    RevisionUnmarked,
}
