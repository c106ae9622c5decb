use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{READABLE_TIME, Severity, Time};

/// What budgets count, kept in the system namespace. Every change is a compare-and-swap, so concurrent writers cannot
/// overspend.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "backstop.dev",
    version = "v1alpha1",
    kind = "Ledger",
    doc = "What budgets count. Kept in the system namespace.",
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
    /// What the Ledger is for.
    pub purpose: LedgerPurpose,
    /// For `KnownGood`: namespace of the workloads. Empty otherwise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// For `Models`: name of the ModelChain. Empty otherwise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub chain: String,
    /// For `Actions`: cascade breakers that people closed, and targets that they released. The only field that people write: `backstop breaker reset` does,
    /// and an admission policy requires that each names its author. At most 50.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub resets: Vec<BreakerReset>,
}

/// A person's word that a cascade breaker may close and that held targets are released. It is about what the Ledger shows
/// when it is given: whatever happens later is something else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BreakerReset {
    /// The namespace; empty for the breaker of the cluster and the targets of every namespace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// A time that stands in the status: `openedAt` of the breaker, `at` of an anomaly that counts for it, or `failedAt` of an
    /// entry. What is not later is reset; with any other time nothing is.
    #[schemars(extend("pattern" = READABLE_TIME))]
    pub up_to: Time,
    /// User name of the account that writes this, 1 to 253 characters.
    #[schemars(length(min = 1, max = 253))]
    pub by: String,
    /// Why, in the person's words, 1 to 500 characters. Kept in the audit log.
    #[schemars(length(min = 1, max = 500))]
    pub why: String,
}

/// What a Ledger is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LedgerPurpose {
    /// Actions and anomalies of the whole cluster, with the cascade breakers.
    #[default]
    Actions,
    /// Revisions of the workloads of one namespace that were seen healthy.
    KnownGood,
    /// Money that the models of one ModelChain cost.
    Models,
}

/// Written by the controller only; that of a Ledger for `Models` by the investigator only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LedgerStatus {
    /// Actions, oldest first. Kept for 24 hours, at most 2000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2000))]
    pub entries: Vec<LedgerEntry>,
    /// Anomalies within the window of the cascade breaker, oldest first. At most 200.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200))]
    pub anomalies: Vec<Anomaly>,
    /// State of the cascade breaker of the cluster.
    #[serde(default)]
    pub breaker: Breaker,
    /// Cascade breakers of namespaces that are not closed. At most 500.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500))]
    pub breakers: Vec<NamespaceBreaker>,
    /// Namespaces in which many workloads fail at once, or did a short while ago. At most 200.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200))]
    pub storms: Vec<StormRecord>,
    /// Revisions that were seen healthy. At most 2000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2000))]
    pub known_good: Vec<KnownGood>,
    /// For `Models`: what was spent and what is reserved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<ModelSpend>,
}

/// One action that was charged to the budgets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LedgerEntry {
    /// ID of the action, 32 hexadecimal characters.
    #[schemars(length(max = 32))]
    pub action_id: String,
    /// Namespace of the target.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// UID of the target.
    #[schemars(length(max = 128))]
    pub target_uid: String,
    /// The target as `Kind/name`, at most 320 characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 320))]
    pub target: String,
    /// Kind of the action, such as `RolloutUndo`; empty in entries of an earlier release.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub action: String,
    /// The node on which every pod of the target that failed ran; empty where there were several, or none was known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub node: String,
    /// What went wrong after the write: a reason such as `VerifyFailed`, `Relapsed` or `Reverted`. Its target is held for
    /// `budgets.heldAfterFailureSeconds`, or until a person resets the breaker of its namespace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub failed: String,
    /// When that went wrong, or the latest of it. Absent where `failed` is empty, and in entries of an earlier release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<Time>,
    /// SHA-256 of the change that the action takes back, 64 hexadecimal characters: the same for every workload to which
    /// the same change was shipped. Absent where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub change: Option<String>,
    /// Name of the Incident, in the namespace of the target.
    #[schemars(length(max = 253))]
    pub incident: String,
    /// Time at which it was reserved.
    pub at: Time,
    /// Outcome. An action whose outcome is unknown stays `Reserved` and counts.
    pub state: LedgerState,
    /// Whether it undoes or completes another action. Budgets never refuse these, but count them for the next ones.
    #[serde(default)]
    pub undo: bool,
}

/// Outcome of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LedgerState {
    /// Charged before the write; the outcome is open or unknown.
    Reserved,
    /// The write happened.
    Spent,
    /// The write did not happen, as the API server's answers prove.
    Refunded,
}

/// An event that counts towards the cascade breaker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Anomaly {
    /// Time at which it happened.
    pub at: Time,
    /// Reason constant, such as `ClaimUngrounded`, `RefusedByPolicy` or `VerifyFailed`; at most 64 characters.
    #[schemars(length(max = 64))]
    pub kind: String,
    /// The Incident as `namespace/name`.
    #[schemars(length(max = 320))]
    pub incident: String,
}

/// The cascade breaker. While it is open, no action is started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Breaker {
    /// State: `Closed`, `Open` or `HalfOpen`.
    #[serde(default)]
    pub state: BreakerState,
    /// Time at which it last opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened_at: Option<Time>,
    /// Kind of the anomaly that opened it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub reason: String,
    /// The Incident whose anomaly opened it, as `namespace/name`: its page tells the on-call of the breaker.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 320))]
    pub opened_by: String,
    /// In state `HalfOpen`: ID of the one action that is allowed as a trial.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 32))]
    pub trial: String,
}

/// The cascade breaker of one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceBreaker {
    /// The namespace.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Its state.
    pub breaker: Breaker,
}

/// Many workloads of one namespace that failed at once. One incident tells the on-call of all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StormRecord {
    /// The namespace.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Name of the Incident that tells of it.
    #[schemars(length(max = 253))]
    pub incident: String,
    /// The highest severity of the incidents that told of it.
    #[serde(default)]
    pub severity: Severity,
    /// Time at which it was last seen.
    pub at: Time,
    /// The workloads that the on-call was told of, as `Kind/name`. At most 50.
    #[serde(default)]
    #[schemars(length(max = 50), inner(length(max = 320)))]
    pub workloads: Vec<String>,
}

/// States of the cascade breaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BreakerState {
    /// Actions are allowed.
    #[default]
    Closed,
    /// No action is started.
    Open,
    /// After the cooldown, one action is allowed as a trial.
    HalfOpen,
}

/// A revision that was seen healthy. It only selects among existing revisions: no template is ever taken from here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KnownGood {
    /// UID of the workload.
    #[schemars(length(max = 128))]
    pub workload_uid: String,
    /// UID of the ReplicaSet or ControllerRevision.
    #[schemars(length(max = 128))]
    pub revision_uid: String,
    /// SHA-256 of the template that was running, 64 hexadecimal characters.
    #[schemars(length(max = 64))]
    pub template_hash: String,
    /// Time at which it was last seen healthy.
    pub at: Time,
}

/// What the models of one ModelChain cost. What is charged to a budget is what was settled and what is reserved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelSpend {
    /// Reservations whose outcome is open, oldest first. Those of a process that ended are settled in full by the next
    /// one. At most 320.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 320))]
    pub open: Vec<ModelReservation>,
    /// Days (UTC), oldest first. At most 3.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3))]
    pub days: Vec<ModelDay>,
    /// Incidents that were charged, kept for 7 days after the latest charge; when there are too many, at least for one
    /// day. At most 1500.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1500))]
    pub incidents: Vec<ModelIncident>,
}

/// Money that was set aside before anything was sent to a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelReservation {
    /// ID of the reservation, 32 hexadecimal characters.
    #[schemars(length(max = 32))]
    pub id: String,
    /// ID of the process that made it, 32 hexadecimal characters.
    #[schemars(length(max = 32))]
    pub holder: String,
    /// The day (UTC) that it is charged to, such as `2026-01-31`.
    #[schemars(length(max = 10))]
    pub day: String,
    /// The incident that it is charged to. Absent: probes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<IncidentKey>,
    /// Amount in billionths of a US dollar.
    #[schemars(range(min = 0))]
    pub nano_dollars: i64,
    /// Time at which it was made.
    pub at: Time,
}

/// An Incident, by namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IncidentKey {
    /// Its namespace.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
}

/// What was settled on one day (UTC), in billionths of a US dollar.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelDay {
    /// The day, such as `2026-01-31`.
    #[schemars(length(max = 10))]
    pub day: String,
    /// All diagnoses together.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub nano_dollars: i64,
    /// All probes together.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub probes_nano_dollars: i64,
    /// Diagnoses by namespace. At most 1000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub namespaces: Vec<NamespaceSpend>,
    /// Diagnoses and probes by upstream, where it is known. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub upstreams: Vec<UpstreamSpend>,
}

/// What was settled for one namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceSpend {
    /// The namespace.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Amount in billionths of a US dollar.
    #[schemars(range(min = 0))]
    pub nano_dollars: i64,
}

/// What was settled for one upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamSpend {
    /// Name of the upstream.
    #[schemars(length(max = 63))]
    pub upstream: String,
    /// Amount in billionths of a US dollar.
    #[schemars(range(min = 0))]
    pub nano_dollars: i64,
}

/// What was settled for one incident, all its rounds together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelIncident {
    /// The Incident.
    pub incident: IncidentKey,
    /// Amount in billionths of a US dollar.
    #[schemars(range(min = 0))]
    pub nano_dollars: i64,
    /// Time of the latest charge.
    pub at: Time,
}
