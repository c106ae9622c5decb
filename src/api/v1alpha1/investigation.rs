use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Action, Condition, Fact, ObjectRef, PodFailure, Time};

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
    /// The action with its parameters.
    pub action: Action,
    /// On which object.
    pub target: ObjectRef,
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
