//! What an Investigation saw: numbered facts with typed fields.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{FieldChange, ObjectRef, SourceName, Time};

/// One observation of an investigation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Fact {
    /// ID within the investigation: `f1`, `f2` and so on. Claims cite it.
    #[schemars(length(max = 8))]
    pub id: String,
    /// The source that it came from.
    pub source: SourceName,
    /// The object that was observed.
    pub object: ObjectRef,
    /// Time of the observation.
    pub seen_at: Time,
    /// Typed fields. Exactly one is set.
    pub data: FactData,
    /// The same as text for people, at most 4096 characters, with secrets redacted.
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
    /// Difference between an earlier revision and the current one.
    RevisionDiff(RevisionDiffFact),
    /// One Kubernetes Event.
    Event(EventFact),
    /// The last lines of one container's log.
    Log(LogFact),
    /// One ConfigMap that the pod template references.
    Config(ConfigFact),
    /// One metric sample from Prometheus.
    Metric(MetricFact),
    /// A source that failed, timed out or is not configured. Missing data never counts as healthy.
    SourceFailed(SourceFailedFact),
}

/// State of a workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadFact {
    /// `metadata.generation`.
    pub generation: i64,
    /// `status.observedGeneration`: the generation that its controller has processed.
    pub observed_generation: i64,
    /// Desired number of replicas. For a DaemonSet, the number of nodes that should run one of its pods.
    pub desired: i32,
    /// Replicas that run the current template.
    pub updated: i32,
    /// Replicas that a complete rollout leaves on an earlier template: those below the partition of a StatefulSet, and
    /// all of them with the update strategy `OnDelete`.
    #[serde(default)]
    pub held_back: i32,
    /// Ready replicas, whatever template they run.
    pub ready: i32,
    /// Available replicas, whatever template they run.
    pub available: i32,
    /// Whether the rollout is paused. Deployments only.
    #[serde(default)]
    pub paused: bool,
    /// Number of the current revision. Absent when the current template is not recorded as a revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// Reason of the condition `Progressing`. Deployments only.
    #[serde(default)]
    #[schemars(length(max = 128))]
    pub progressing_reason: String,
    /// Owners as `Kind/name`: its controllers, nearest first, then every other owner reference. At most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(max = 320)))]
    pub owners: Vec<String>,
    /// Tools that manage it, such as `argocd`, `flux` or `helm`. At most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(max = 64)))]
    pub managed_by: Vec<String>,
}

/// State of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodFact {
    /// Name of the ReplicaSet, StatefulSet or DaemonSet that owns it.
    #[schemars(length(max = 253))]
    pub owner: String,
    /// Number of the revision that it runs. Absent when that template is not recorded as a revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// Phase of the pod, such as `Running`.
    #[schemars(length(max = 32))]
    pub phase: String,
    /// Whether the condition `Ready` is true.
    pub ready: bool,
    /// Time of the last change of the condition `Ready`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_since: Option<Time>,
    /// Time at which the pod was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Time>,
    /// Name of the node that it runs on; empty while it has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub node: String,
    /// How the pod fails; `None` when it does not.
    #[serde(default)]
    pub failure: PodFailure,
    /// Name of the failing container; empty when none fails.
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
    /// Number of restarts of the failing container; of all containers when none fails.
    #[serde(default)]
    pub restarts: i32,
    /// Time at which the failing container last terminated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_terminated_at: Option<Time>,
    /// How long the failing container had run when it last terminated, in seconds. Absent when it never started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ran_seconds: Option<i64>,
    /// Seconds after which a liveness probe that never succeeds has ended its container: only what lasts longer shows
    /// that the template works. Absent when no container has one. A minute is the least in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub proven_after_seconds: Option<i64>,
    /// What the scheduler or the kubelet says is in its way. Absent when they say nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub obstacle: Option<Obstacle>,
}

/// What is in the way of a pod, as the scheduler, the kubelet or the API server says it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Obstacle {
    /// Their words, at most 512 characters, with secrets redacted.
    #[schemars(length(max = 512))]
    pub message: String,
    /// Fields of the pod template that the words name. Empty when they are not understood. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub fields: Vec<TemplateField>,
    /// Resources that the words name, such as `memory`. At most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(max = 128)))]
    pub resources: Vec<String>,
    /// An object that they say does not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<Reference>,
}

/// Another object that a pod template names, of the same namespace where its kind has namespaces.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reference {
    /// Its kind.
    pub kind: ReferenceKind,
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// The one key of a ConfigMap or Secret that is named. Absent when the whole object is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub key: Option<String>,
}

/// Kinds of object that a pod template can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ReferenceKind {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
    /// A PersistentVolumeClaim.
    PersistentVolumeClaim,
    /// A ServiceAccount.
    ServiceAccount,
    /// A PriorityClass.
    PriorityClass,
    /// A RuntimeClass.
    RuntimeClass,
}

impl ReferenceKind {
    /// The kind as Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            ReferenceKind::ConfigMap => "ConfigMap",
            ReferenceKind::Secret => "Secret",
            ReferenceKind::PersistentVolumeClaim => "PersistentVolumeClaim",
            ReferenceKind::ServiceAccount => "ServiceAccount",
            ReferenceKind::PriorityClass => "PriorityClass",
            ReferenceKind::RuntimeClass => "RuntimeClass",
        }
    }
}

/// Fields of a pod template, as far as a failure can depend on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum TemplateField {
    /// `image` of a container.
    Image,
    /// `imagePullPolicy` of a container, `imagePullSecrets` of the pod.
    ImagePull,
    /// What a container runs: `command`, `args`, `workingDir`, `lifecycle`.
    Command,
    /// `env` and `envFrom` of a container.
    Environment,
    /// `resources` of a container or of the pod.
    Resources,
    /// `volumeMounts` and `volumeDevices` of a container.
    Mounts,
    /// `volumes` of the pod.
    Volumes,
    /// `securityContext` of a container or of the pod.
    SecurityContext,
    /// Liveness, readiness and startup probes of a container, and readiness gates of the pod.
    Probes,
    /// `ports` of a container.
    Ports,
    /// `hostNetwork`, `hostPID`, `hostIPC` and `hostUsers` of the pod.
    HostNamespaces,
    /// DNS, host aliases, host name and service links of the pod.
    Network,
    /// `serviceAccountName` and `automountServiceAccountToken` of the pod.
    ServiceAccount,
    /// `nodeSelector`, `nodeName` and node affinity of the pod.
    NodeSelection,
    /// Affinity to and against other pods.
    PodAffinity,
    /// `tolerations` of the pod.
    Tolerations,
    /// `topologySpreadConstraints` of the pod.
    TopologySpread,
    /// `priorityClassName` and `preemptionPolicy` of the pod.
    Priority,
    /// `runtimeClassName`, `overhead` and `os` of the pod.
    Runtime,
    /// Labels and annotations of the pod.
    Metadata,
    /// Any other field.
    Other,
    /// None: a node, a quota or a webhook is in the way whatever the template says.
    Outside,
}

/// How a pod fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum PodFailure {
    /// It does not fail.
    #[default]
    None,
    /// A container exits repeatedly (CrashLoopBackOff).
    CrashLoop,
    /// A container was killed because it exceeded its memory limit.
    OutOfMemory,
    /// An image cannot be pulled.
    ImagePull,
    /// A container cannot be created from its configuration: a ConfigMap, a Secret or a key is missing.
    ConfigError,
    /// A container is created and cannot be started, because its command is not in the image for example.
    StartError,
    /// A container runs, but its readiness probe fails.
    ProbeFailing,
    /// A liveness or startup probe ends a container again and again.
    LivenessFailing,
    /// An init container runs for longer than a minute and does not end.
    InitNotEnding,
    /// The node took the pod and cannot prepare it: a volume cannot be mounted, for example.
    StuckCreating,
    /// The pod is not ready, and the rollout exceeded its progress deadline.
    NeverReady,
    /// The scheduler finds no node for the pod, and has not for a while.
    Unschedulable,
    /// The API server refuses to create pods of the revision.
    Refused,
    /// The pod is still starting; nothing is known to be wrong.
    Starting,
}

impl PodFailure {
    /// Whether a pod template can cause this failure.
    pub fn is_hard(self) -> bool {
        !matches!(self, PodFailure::None | PodFailure::Starting)
    }
}

/// One recorded revision of a workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevisionFact {
    /// Number of the revision, at least 1: the annotation `deployment.kubernetes.io/revision` of a ReplicaSet, or the
    /// field `revision` of a ControllerRevision.
    pub number: i64,
    /// Whether it is the workload's current template.
    pub current: bool,
    /// Replicas that run it.
    pub replicas: i32,
    /// Ready replicas that run it.
    pub ready: i32,
    /// Time at which the ReplicaSet or ControllerRevision was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Time>,
    /// First 16 hexadecimal characters of the SHA-256 of its template.
    #[schemars(length(max = 64))]
    pub template_hash: String,
    /// Images of its containers. At most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 512)))]
    pub images: Vec<String>,
    /// Names of the containers of its template. A failing container that is not among them was injected. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 253)))]
    pub containers: Vec<String>,
    /// Objects that its template needs; what it calls optional is left out. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub references: Vec<Reference>,
    /// Why the API server refuses to create its pods. Absent when it does not, or nobody says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Obstacle>,
}

/// How two revisions differ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevisionDiffFact {
    /// Number of the earlier revision.
    pub from: i64,
    /// Number of the current revision.
    pub to: i64,
    /// Fields that differ, from the earlier to the current revision. At most 64. The annotation
    /// `kubectl.kubernetes.io/restartedAt` is ignored.
    #[schemars(length(max = 64))]
    pub changes: Vec<FieldChange>,
    /// Whether only the annotation `kubectl.kubernetes.io/restartedAt` differs: a restart.
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
    /// Reason of the Event, such as `BackOff`.
    #[schemars(length(max = 128))]
    pub reason: String,
    /// Number of times it occurred, at least 1.
    pub count: i32,
    /// Time at which it last occurred.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Time>,
    /// What it says is in the way of a pod. Absent when it says nothing of that kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub obstacle: Option<Obstacle>,
}

/// The last lines of one container's log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogFact {
    /// Name of the container.
    #[schemars(length(max = 253))]
    pub container: String,
    /// Whether the log is that of the previous run (`kubectl logs --previous`).
    pub previous: bool,
    /// Number of lines that were kept.
    pub lines: i32,
    /// Whether earlier lines were left out.
    pub truncated: bool,
}

/// Metadata of one ConfigMap that the pod template references. Its data is never read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigFact {
    /// Whether the ConfigMap exists.
    pub exists: bool,
    /// Time at which its data was last changed. Absent when its managed fields do not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_at: Option<Time>,
    /// Field manager that last changed its data, such as `kubectl-edit`.
    #[serde(default)]
    #[schemars(length(max = 128))]
    pub changed_by: String,
}

/// One sample from the metric store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MetricFact {
    /// Name of the query.
    #[schemars(length(max = 64))]
    pub query: String,
    /// Value as Prometheus prints it. `NaN` means unknown.
    #[schemars(length(max = 64))]
    pub value: String,
}

/// A source that returned no facts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceFailedFact {
    /// Reason constant: `Timeout`, `Forbidden`, `NotConfigured`, `Unavailable` or `NotFound`.
    #[schemars(length(max = 64))]
    pub reason: String,
}
