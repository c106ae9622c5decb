use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Time;

/// What a budget counts, in the system namespace. Every change is a compare-and-swap.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "backstop.dev",
    version = "v1alpha1",
    kind = "Ledger",
    plural = "ledgers",
    category = "backstop",
    namespaced,
    status = "LedgerStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Purpose","type":"string","jsonPath":".spec.purpose"}"#,
    printcolumn = r#"{"name":"Breaker","type":"string","jsonPath":".status.breaker.state"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct LedgerSpec {
    /// What it is for.
    pub purpose: LedgerPurpose,
    /// For `KnownGood`: the namespace of the workloads.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub namespace: String,
}

/// What a Ledger is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LedgerPurpose {
    /// Actions and anomalies of the whole cluster, with the cascade breaker.
    Actions,
    /// Revisions of one namespace that were seen healthy.
    KnownGood,
}

/// Written by the controller only (a Ledger of the investigator: by the investigator only).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LedgerStatus {
    /// Actions, oldest first; kept for 24 hours, at most 2,000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2000))]
    pub entries: Vec<LedgerEntry>,
    /// Anomalies inside the window of the cascade breaker, oldest first; at most 200.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200))]
    pub anomalies: Vec<Anomaly>,
    /// The cascade breaker.
    #[serde(default)]
    pub breaker: Breaker,
    /// Revisions that were seen healthy; at most 2,000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2000))]
    pub known_good: Vec<KnownGood>,
}

/// One action that was paid for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LedgerEntry {
    /// Identity of the action.
    #[schemars(length(max = 32))]
    pub action_id: String,
    /// Namespace of the target.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// UID of the target.
    #[schemars(length(max = 128))]
    pub target_uid: String,
    /// Name of the Incident.
    #[schemars(length(max = 253))]
    pub incident: String,
    /// When it was reserved.
    pub at: Time,
    /// What became of it. An unknown outcome stays `Reserved`, and counts.
    pub state: LedgerState,
    /// It takes another action back.
    #[serde(default)]
    pub undo: bool,
}

/// What became of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LedgerState {
    /// Paid before acting; the outcome is open or unknown.
    Reserved,
    /// The write happened.
    Spent,
    /// The API server's own answer proves that the write never happened.
    Refunded,
}

/// Something that should not happen while all is well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Anomaly {
    /// When.
    pub at: Time,
    /// A constant such as `Ungrounded`, `RefusedByPolicy`, `VerifyFailed`, `Undone`, `Storm`.
    #[schemars(length(max = 64))]
    pub kind: String,
    /// Namespace and name of the Incident.
    #[schemars(length(max = 320))]
    pub incident: String,
}

/// While it is open nothing acts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Breaker {
    /// Closed, open or half-open.
    #[serde(default)]
    pub state: BreakerState,
    /// When it last opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened_at: Option<Time>,
    /// The anomaly that opened it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub reason: String,
    /// Half-open: the one action that may try.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 32))]
    pub trial: String,
}

/// States of the cascade breaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BreakerState {
    /// Actions are allowed.
    #[default]
    Closed,
    /// Nothing acts.
    Open,
    /// After the cooldown one action may try.
    HalfOpen,
}

/// A revision that was seen healthy. It only filters existing revisions; no template is taken from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KnownGood {
    /// UID of the workload.
    #[schemars(length(max = 128))]
    pub workload_uid: String,
    /// UID of the revision's object.
    #[schemars(length(max = 128))]
    pub revision_uid: String,
    /// SHA-256 of the template that was running, 64 hexadecimal characters.
    #[schemars(length(max = 64))]
    pub template_hash: String,
    /// When it was last seen healthy.
    pub at: Time,
}
