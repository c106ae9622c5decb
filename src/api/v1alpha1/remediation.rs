use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Action, Condition, ObjectRef, Time, Write};

/// One exact write, which the executor carries out. Immutable and fully typed: it contains no prose. The controller
/// writes the spec, the executor the status. The verdicts that led to it are on the Incident
/// (`status.decision.checks`).
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "backstop.dev",
    version = "v1alpha1",
    kind = "Remediation",
    doc = "One exact write, which the executor carries out.",
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
    /// ID of the exact action within the incident, 32 hexadecimal characters: derived from incident, purpose and
    /// digest.
    #[schemars(regex(pattern = r"^[0-9a-f]{32}$"))]
    pub action_id: String,
    /// SHA-256 over action, target, write and provenance, 64 hexadecimal characters. The executor recomputes it and
    /// refuses a Remediation whose digest differs.
    #[schemars(regex(pattern = r"^[0-9a-f]{64}$"))]
    pub digest: String,
    /// The action with its parameters.
    pub action: Action,
    /// Why it exists: to repair, to undo a repair, or to evict a stuck pod.
    #[serde(default)]
    pub purpose: Purpose,
    /// `actionId` of the repair that this one undoes or completes. Absent for a repair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[0-9a-f]{32}$"))]
    pub follows: Option<String>,
    /// The object that is written to. Its UID is required.
    pub target: ObjectRef,
    /// The one write that is made.
    pub write: Write,
    /// The ReplicaSet or ControllerRevision that recorded the value to be written. It carries the label
    /// `backstop.dev/undo-to` while the write is in flight, and an admission policy compares the two. Absent for
    /// actions that write no recorded value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<ObjectRef>,
    /// When the repair counts as successful.
    pub verify: Verify,
    /// How the write is undone. Absent when it cannot be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<Undo>,
    /// Request ID of the incident, at most 64 characters.
    #[schemars(length(max = 64))]
    pub request_id: String,
}

/// Why a Remediation exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Purpose {
    /// Repairs the target.
    #[default]
    Repair,
    /// Undoes a repair that did not help.
    Undo,
    /// Completes a repair by evicting one stuck pod: a StatefulSet does not replace a pod that never became ready.
    ReplacePod,
}

/// When a write counts as successful, judged by the live state of the target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verify {
    /// How long the target must stay healthy, in seconds, 0 to 3600.
    #[schemars(range(min = 0, max = 3600))]
    pub settle_seconds: i32,
    /// How long after the write the target may take to become healthy, in seconds, 1 to 3600.
    #[schemars(range(min = 1, max = 3600))]
    pub timeout_seconds: i32,
}

/// How the write is undone exactly, provided that nobody else changed the field since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Undo {
    /// The action that restores the previous value.
    pub action: Action,
    /// The revision that recorded the previous value. Absent for actions that write no recorded value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<ObjectRef>,
}

/// Written by the executor only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RemediationStatus {
    /// Phase of the Remediation. `Fired`, `Aborted` and `Unproven` are final.
    #[serde(default)]
    pub phase: RemediationPhase,
    /// Reason constant, such as `Fired`, `GrantExpired` or `RefusedByPolicy`; at most 64 characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub reason: String,
    /// One sentence that explains `reason`, with the API server's answer when it refused; at most 1024 characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,
    /// Identity of the executor that claimed it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub holder: String,
    /// Number of claims so far, at most 5. A Grant is opened for one epoch.
    #[serde(default)]
    pub epoch: i64,
    /// One entry for each completed step, oldest first. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub receipts: Vec<Receipt>,
    /// Condition `Complete`: the Remediation has ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub conditions: Vec<Condition>,
}

/// Phase of a Remediation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RemediationPhase {
    /// Not claimed yet.
    #[default]
    Pending,
    /// Claimed by the executor; a Grant may be opened for this epoch.
    Claimed,
    /// Final: the write was accepted and read back.
    Fired,
    /// Final: nothing was written, and nothing will be.
    Aborted,
    /// Final: the target carries the ID of the action, or the pod is gone, and nothing proves that this write did it. It
    /// counts as made.
    Unproven,
}

impl RemediationPhase {
    /// Whether this phase is final: the executor does nothing more.
    pub fn is_final(self) -> bool {
        matches!(self, RemediationPhase::Fired | RemediationPhase::Aborted | RemediationPhase::Unproven)
    }
}

/// One completed step of the executor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// The step.
    pub step: ReceiptStep,
    /// Time at which the API server answered.
    pub at: Time,
    /// `resourceVersion` of the object after the step; empty for a dry-run.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub resource_version: String,
    /// Epoch of the claim that it belongs to.
    #[serde(default)]
    pub epoch: i64,
}

/// Steps of the executor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ReceiptStep {
    /// The revision that recorded the value was labelled `backstop.dev/undo-to`.
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
    /// Label and annotation were removed without a change of the field.
    Disarmed,
    /// The label `backstop.dev/undo-to` was removed from the revision.
    RevisionUnmarked,
}
