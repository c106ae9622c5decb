use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ActionKind, Condition, FieldChange, ObjectRef, Time};

/// One round of looking at a target: facts, and a diagnosis that cites them.
/// The spec is written by the controller, the status by the investigator; the controller treats
/// the status as leads and reads again whatever a decision rests on.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "backstop.dev",
    version = "v1alpha1",
    kind = "Investigation",
    plural = "investigations",
    shortname = "inv",
    category = "backstop",
    namespaced,
    status = "InvestigationStatus",
    derive = "PartialEq",
    selectable = ".spec.incident",
    validation = ("self.spec == oldSelf.spec", "spec is immutable"),
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Target","type":"string","jsonPath":".spec.target.name"}"#,
    printcolumn = r#"{"name":"Cause","type":"string","jsonPath":".status.diagnosis.cause"}"#,
    printcolumn = r#"{"name":"Confidence","type":"integer","jsonPath":".status.diagnosis.confidence"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Incident","type":"string","priority":1,"jsonPath":".spec.incident"}"#,
    printcolumn = r#"{"name":"Request-ID","type":"string","priority":1,"jsonPath":".spec.requestId"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct InvestigationSpec {
    /// Name of the Incident in the same namespace.
    #[schemars(length(max = 253))]
    pub incident: String,
    /// First round is 1.
    #[schemars(range(min = 1))]
    pub round: i32,
    /// What to look at; absent when the alert named nothing that exists: then only its text is looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<ObjectRef>,
    /// Sources to ask, side by side.
    #[schemars(length(max = 32))]
    pub sources: Vec<SourceName>,
    /// Diagnosers in order of preference; `rules` is always the last rung.
    #[schemars(length(max = 16), inner(length(max = 64)))]
    pub chain: Vec<String>,
    /// The lowest rung that may answer.
    #[schemars(length(max = 64))]
    pub lowest_rung: String,
    /// Budget: the whole investigation ends after this many seconds.
    #[schemars(range(min = 1, max = 600))]
    pub deadline_seconds: i32,
    /// When the first alert began, by its sender's clock.
    pub alert_started_at: Time,
    /// The incident's request id.
    #[schemars(length(max = 64))]
    pub request_id: String,
}

/// Where facts come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SourceName {
    /// The target and its owner chain.
    Workload,
    /// The target's pods and the state of their containers.
    Pods,
    /// Recorded revisions and the typed difference between the last two.
    RolloutHistory,
    /// Events of the target, its revisions and its pods.
    Events,
    /// Last lines of failing containers, current and previous.
    Logs,
    /// When ConfigMaps that the template names were last changed (metadata only).
    ConfigReferences,
    /// Metrics of the target from Prometheus.
    Metrics,
}

impl SourceName {
    /// Every source.
    pub const ALL: [SourceName; 7] = [
        SourceName::Workload,
        SourceName::Pods,
        SourceName::RolloutHistory,
        SourceName::Events,
        SourceName::Logs,
        SourceName::ConfigReferences,
        SourceName::Metrics,
    ];

    /// The source of this name.
    pub fn named(name: &str) -> Option<SourceName> {
        SourceName::ALL.into_iter().find(|source| source.as_str() == name)
    }

    /// The name as it is written in plans, facts and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            SourceName::Workload => "Workload",
            SourceName::Pods => "Pods",
            SourceName::RolloutHistory => "RolloutHistory",
            SourceName::Events => "Events",
            SourceName::Logs => "Logs",
            SourceName::ConfigReferences => "ConfigReferences",
            SourceName::Metrics => "Metrics",
        }
    }
}

/// Written by the investigator only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InvestigationStatus {
    /// Where it stands.
    #[serde(default)]
    pub phase: InvestigationPhase,
    /// When the first source was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When the diagnosis was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// Numbered facts; at most 200.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200))]
    pub facts: Vec<Fact>,
    /// The diagnosis that is put to the judge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<Diagnosis>,
    /// What the rules say, when another diagnoser answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second_opinion: Option<Diagnosis>,
    /// One entry per rung that was asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub attempts: Vec<Attempt>,
    /// Model tokens that it took.
    #[serde(default)]
    pub tokens: i64,
    /// What it cost, in billionths of a US dollar.
    #[serde(default)]
    pub cost_nano_dollars: i64,
    /// Generation of the spec that this status describes.
    #[serde(default)]
    pub observed_generation: i64,
    /// `Complete`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub conditions: Vec<Condition>,
}

/// Where an investigation stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum InvestigationPhase {
    /// Not begun.
    #[default]
    Pending,
    /// Sources are being asked.
    Running,
    /// Facts and diagnosis are there.
    Complete,
    /// It ended without a diagnosis.
    Failed,
}

impl InvestigationPhase {
    /// Nothing follows.
    pub fn is_final(self) -> bool {
        matches!(self, InvestigationPhase::Complete | InvestigationPhase::Failed)
    }
}

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

/// What a diagnoser believes. Every claim cites facts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Diagnosis {
    /// The rung that answered, such as `rules`.
    #[schemars(length(max = 64))]
    pub diagnoser: String,
    /// What happened.
    pub cause: Cause,
    /// The same in one sentence.
    #[schemars(length(max = 1024))]
    pub hypothesis: String,
    /// The object that is at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspect: Option<ObjectRef>,
    /// The revision that is at fault; 0 when none is.
    #[serde(default)]
    pub suspected_revision: i64,
    /// Self-reported, 0 to 100. Never a reason to act; below a Policy's floor a reason not to.
    #[schemars(range(min = 0, max = 100))]
    pub confidence: i32,
    /// What should be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proposal: Option<Proposal>,
    /// Why.
    #[schemars(length(max = 64))]
    pub claims: Vec<Claim>,
    /// What a person should look at next, when nothing can be proposed.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub advice: String,
}

/// Causes that the judge can tell apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Cause {
    /// A change of the pod template broke it.
    BadRollout,
    /// It fails, and its template is the one that worked before.
    ConfigurationChanged,
    /// It fails, and there never was another template.
    NeverWorked,
    /// Nothing fails any more.
    Recovered,
    /// The facts do not tell.
    #[default]
    Unknown,
}

/// An action that a diagnoser proposes; the judge computes the exact values itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Proposal {
    /// Which action.
    pub action: ActionKind,
    /// On which object.
    pub target: ObjectRef,
    /// For a rollback: to which revision.
    #[serde(default)]
    pub to_revision: i64,
}

/// One claim and the facts that carry it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// What is claimed; the judge knows a rule for each.
    pub kind: ClaimKind,
    /// Revision that the claim is about; 0 when it is about none.
    #[serde(default)]
    pub revision: i64,
    /// For `PodsFailing`: how.
    #[serde(default)]
    pub failure: PodFailure,
    /// Facts that support it; none is a claim without support.
    #[schemars(length(max = 32), inner(length(max = 8)))]
    pub cites: Vec<String>,
    /// The claim in one sentence.
    #[schemars(length(max = 512))]
    pub text: String,
}

/// Claims that the judge can test by rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ClaimKind {
    /// Pods of the target fail in the way of `failure`.
    PodsFailing,
    /// The failing pods run the revision `revision`.
    FailingPodsRunRevision,
    /// The template of the current revision differs from that of `revision`.
    TemplateChanged,
    /// The template of the current revision is the one that worked before.
    TemplateUnchanged,
    /// Revision `revision` has ready replicas.
    RevisionReady,
    /// There is no other revision.
    OnlyOneRevision,
    /// No pod of the target fails.
    NothingFails,
}

/// One rung that was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// The rung.
    #[schemars(length(max = 64))]
    pub rung: String,
    /// A constant such as `Answered` or `NoProposal`.
    #[schemars(length(max = 64))]
    pub outcome: String,
    /// How long it took, in milliseconds.
    pub milliseconds: i64,
}
