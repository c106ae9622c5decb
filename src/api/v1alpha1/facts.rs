//! What an Investigation saw: numbered facts with typed fields.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{FieldChange, ObjectRef, SourceName, Time};

/// One thing that was seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Fact {
    /// `f1`, `f2`, …: what claims cite.
    #[schemars(length(max = 8))]
    pub id: String,
    /// The source that saw it.
    pub source: SourceName,
    /// The object that it is about.
    pub object: ObjectRef,
    /// When it was seen.
    pub seen_at: Time,
    /// Typed fields.
    pub data: FactData,
    /// The same for people: bounded and redacted.
    #[schemars(length(max = 4096))]
    pub text: String,
}

/// Typed fields of a fact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum FactData {
    /// The target itself.
    Workload(WorkloadFact),
    /// One pod.
    Pod(PodFact),
    /// One recorded revision.
    Revision(RevisionFact),
    /// How the current revision differs from an earlier one.
    RevisionDiff(RevisionDiffFact),
    /// One Kubernetes Event.
    Event(EventFact),
    /// The end of one container's log.
    Log(LogFact),
    /// One ConfigMap that the template names.
    Config(ConfigFact),
    /// One sample from the metric store.
    Metric(MetricFact),
    /// A source that failed, is slow or is missing: "no data" is never "healthy".
    SourceFailed(SourceFailedFact),
}

/// State of a workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadFact {
    /// Generation of its spec.
    pub generation: i64,
    /// Generation that its controller has seen.
    pub observed_generation: i64,
    /// Replicas asked for.
    pub desired: i32,
    /// Replicas of the current template.
    pub updated: i32,
    /// Ready replicas of any template.
    pub ready: i32,
    /// Replicas that are available.
    pub available: i32,
    /// The rollout is paused.
    #[serde(default)]
    pub paused: bool,
    /// Number of the current revision; 0 when unknown.
    #[serde(default)]
    pub revision: i64,
    /// Reason of the condition `Progressing`.
    #[serde(default)]
    #[schemars(length(max = 128))]
    pub progressing_reason: String,
    /// Controllers above it, nearest first, as `Kind/name`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(max = 320)))]
    pub owners: Vec<String>,
    /// Tools that manage it, such as `argocd`, `flux`, `helm`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(max = 64)))]
    pub managed_by: Vec<String>,
}

/// State of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodFact {
    /// Name of the ReplicaSet (or other controller) that owns it.
    #[schemars(length(max = 253))]
    pub owner: String,
    /// Number of the revision that it runs; 0 when unknown.
    pub revision: i64,
    /// Pod phase.
    #[schemars(length(max = 32))]
    pub phase: String,
    /// It is Ready.
    pub ready: bool,
    /// When the condition Ready last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_since: Option<Time>,
    /// When the pod was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Time>,
    /// How it fails, or `None`.
    #[serde(default)]
    pub failure: PodFailure,
    /// The container that fails.
    #[serde(default)]
    #[schemars(length(max = 253))]
    pub container: String,
    /// Reason as the kubelet gives it, such as `CrashLoopBackOff`.
    #[serde(default)]
    #[schemars(length(max = 128))]
    pub reason: String,
    /// Exit code of the last termination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Restarts of the failing container, else of all.
    #[serde(default)]
    pub restarts: i32,
    /// When the failing container last ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_terminated_at: Option<Time>,
    /// How long the failing container had run when it last ended, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ran_seconds: Option<i64>,
}

/// How a pod fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum PodFailure {
    /// It does not.
    #[default]
    None,
    /// A container ends again and again.
    CrashLoop,
    /// The kernel ended a container for memory.
    OutOfMemory,
    /// An image cannot be pulled.
    ImagePull,
    /// A container cannot be made from its configuration.
    ConfigError,
    /// A container runs, and a probe fails.
    ProbeFailing,
    /// No node takes the pod.
    Unschedulable,
    /// It is still starting; nothing is known to be wrong.
    Starting,
}

impl PodFailure {
    /// A failure that a pod template can cause.
    pub fn is_hard(self) -> bool {
        matches!(
            self,
            PodFailure::CrashLoop
                | PodFailure::OutOfMemory
                | PodFailure::ImagePull
                | PodFailure::ConfigError
                | PodFailure::ProbeFailing
        )
    }
}

/// One recorded revision of a workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevisionFact {
    /// Its number.
    pub number: i64,
    /// It is the workload's current template.
    pub current: bool,
    /// Replicas that run it.
    pub replicas: i32,
    /// Ready replicas that run it.
    pub ready: i32,
    /// When its object was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Time>,
    /// SHA-256 of its template, first 16 hexadecimal characters.
    #[schemars(length(max = 64))]
    pub template_hash: String,
    /// Images of its containers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 512)))]
    pub images: Vec<String>,
}

/// How two revisions differ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevisionDiffFact {
    /// The earlier revision.
    pub from: i64,
    /// The current revision.
    pub to: i64,
    /// What changed from the earlier to the current one; a changed `restartedAt` alone is no change.
    #[schemars(length(max = 64))]
    pub changes: Vec<FieldChange>,
    /// Only the annotation `kubectl.kubernetes.io/restartedAt` differs.
    #[serde(default)]
    pub restart_only: bool,
}

/// One Kubernetes Event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventFact {
    /// `Normal` or `Warning`.
    #[schemars(length(max = 32))]
    pub kind: String,
    /// Reason.
    #[schemars(length(max = 128))]
    pub reason: String,
    /// How often.
    pub count: i32,
    /// When last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Time>,
}

/// The end of one container's log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogFact {
    /// Container.
    #[schemars(length(max = 253))]
    pub container: String,
    /// Of the instance before the current one.
    pub previous: bool,
    /// Lines kept.
    pub lines: i32,
    /// More lines exist before these.
    pub truncated: bool,
}

/// One ConfigMap that the template names, by its metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigFact {
    /// It exists.
    pub exists: bool,
    /// When its data was last changed, if its managed fields tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_at: Option<Time>,
    /// Which field manager changed it last.
    #[serde(default)]
    #[schemars(length(max = 128))]
    pub changed_by: String,
}

/// One sample.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MetricFact {
    /// Name of the fixed query.
    #[schemars(length(max = 64))]
    pub query: String,
    /// The value as Prometheus prints it; `NaN` is kept as it is and means unknown.
    #[schemars(length(max = 64))]
    pub value: String,
}

/// A source that gave nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceFailedFact {
    /// A constant such as `Timeout`, `Forbidden`, `NotConfigured`, `Unavailable`, `NotFound`.
    #[schemars(length(max = 64))]
    pub reason: String,
}
