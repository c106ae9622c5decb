use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Action, Condition, Fact, Mode, ModelChainRef, ObjectRef, PodFailure, Time};

/// One investigation round of an incident: numbered facts, and a diagnosis that cites them. The controller writes the
/// spec, the investigator the status. The controller treats the status as a lead and reads everything that a decision
/// depends on itself.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "backstop.dev",
    version = "v1alpha1",
    kind = "Investigation",
    doc = "One round of an incident: numbered facts, and a diagnosis that cites them.",
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
    /// SHA-256 of the inputs that the name is derived from, 64 hexadecimal characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub key: String,
    /// Number of the round within the incident, from 1.
    #[schemars(range(min = 1))]
    pub round: i32,
    /// The object to investigate. Absent when the alert names no object that exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<ObjectRef>,
    /// Sources to query concurrently. At most 32.
    #[schemars(length(max = 32))]
    pub sources: Vec<SourceName>,
    /// Names of the diagnosers in order of preference, at most 16. The first that answers counts. `rules` is always
    /// asked, last.
    #[schemars(length(max = 16), inner(length(max = 64)))]
    pub chain: Vec<String>,
    /// The ModelChain that the names in `chain` belong to, as it was when the plan was made. Absent: no model is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_chain: Option<ModelChainRef>,
    /// Deadline of the investigation in seconds, 1 to 600.
    #[schemars(range(min = 1, max = 600))]
    pub deadline_seconds: i32,
    /// Time at which the first alert began, by its sender's clock.
    pub alert_started_at: Time,
    /// Request ID of the incident, at most 64 characters.
    #[schemars(length(max = 64))]
    pub request_id: String,
}

/// Where facts come from. Facts are numbered in the order of this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SourceName {
    /// The target and its owner chain.
    Workload,
    /// The target's pods and the state of their containers.
    Pods,
    /// Recorded revisions and the typed differences between the current one and earlier ones.
    RolloutHistory,
    /// When the ConfigMaps that the pod template names were last changed (metadata only).
    ConfigReferences,
    /// Events of the target, its revisions and its pods.
    Events,
    /// Last lines of failing containers, of the current and of the previous run.
    Logs,
    /// Metrics of the target from Prometheus.
    Metrics,
    /// A source that exists in unit tests only; it shows what adding one touches.
    #[cfg(test)]
    Planted,
}

impl SourceName {
    /// Every source, in the order in which facts are numbered.
    pub const ALL: &'static [SourceName] = &[
        SourceName::Workload,
        SourceName::Pods,
        SourceName::RolloutHistory,
        SourceName::ConfigReferences,
        SourceName::Events,
        SourceName::Logs,
        SourceName::Metrics,
        #[cfg(test)]
        SourceName::Planted,
    ];

    /// The source of this name.
    pub fn named(name: &str) -> Option<SourceName> {
        SourceName::ALL.iter().copied().find(|source| source.as_str() == name)
    }

    /// The name as it is written in plans, facts and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            SourceName::Workload => "Workload",
            SourceName::Pods => "Pods",
            SourceName::RolloutHistory => "RolloutHistory",
            SourceName::ConfigReferences => "ConfigReferences",
            SourceName::Events => "Events",
            SourceName::Logs => "Logs",
            SourceName::Metrics => "Metrics",
            #[cfg(test)]
            SourceName::Planted => "Planted",
        }
    }
}

/// Written by the investigator only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InvestigationStatus {
    /// Phase of the investigation. `Complete` is final.
    #[serde(default)]
    pub phase: InvestigationPhase,
    /// Time at which the first source was queried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// Time at which the diagnosis was complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// Numbered facts. At most 200.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200))]
    pub facts: Vec<Fact>,
    /// The diagnosis. Absent until the investigation is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<Diagnosis>,
    /// The diagnosis of the embedded rules when another diagnoser answered. Absent otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second_opinion: Option<Diagnosis>,
    /// What the reviewer of the ModelChain says of the proposal. Absent when there is none, or nothing was proposed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<Review>,
    /// One entry for each diagnoser that was asked, in order. At most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub attempts: Vec<Attempt>,
    /// Number of model tokens used, prompts and completions together.
    #[serde(default)]
    pub tokens: i64,
    /// Cost of the models, in billionths of a US dollar.
    #[serde(default)]
    pub cost_nano_dollars: i64,
    /// `metadata.generation` of the spec that this status describes.
    #[serde(default)]
    pub observed_generation: i64,
    /// Condition `Complete`: facts and diagnosis are written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub conditions: Vec<Condition>,
}

/// Phase of an investigation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum InvestigationPhase {
    /// Not started yet.
    #[default]
    Pending,
    /// Sources are being queried.
    Running,
    /// Facts and diagnosis are written.
    Complete,
}

impl InvestigationPhase {
    /// Whether it has ended.
    pub fn is_final(self) -> bool {
        matches!(self, InvestigationPhase::Complete)
    }
}

/// What a diagnoser concluded. Every claim cites facts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Diagnosis {
    /// Name of the diagnoser that answered, such as `rules`.
    #[schemars(length(max = 64))]
    pub diagnoser: String,
    /// The highest mode in which an answer of this diagnoser may lead to an action.
    #[serde(default)]
    pub ceiling: Mode,
    /// Cause of the failure.
    pub cause: Cause,
    /// The cause in one sentence, at most 1024 characters.
    #[schemars(length(max = 1024))]
    pub hypothesis: String,
    /// The object that is at fault. Absent when none is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspect: Option<ObjectRef>,
    /// Number of the revision that is at fault, at least 1. Absent when none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub suspected_revision: Option<i64>,
    /// The change that is at fault, as it stands in the template of the suspected revision: a commit, a tag or a digest
    /// of an image, for example. At most 256 characters. Absent when none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub suspected_change: Option<String>,
    /// Self-reported confidence, 0 to 100. It is never a reason to act; below a Policy's `confidenceFloor` it is a
    /// reason not to.
    #[schemars(range(min = 0, max = 100))]
    pub confidence: i32,
    /// The proposed action. Absent when none is proposed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proposal: Option<Proposal>,
    /// The claims that support the diagnosis. At most 64.
    #[schemars(length(max = 64))]
    pub claims: Vec<Claim>,
    /// What the on-call should look at next, at most 1024 characters.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub advice: String,
}

/// Causes that a diagnosis can name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Cause {
    /// A change of the pod template broke the workload.
    BadRollout,
    /// The workload fails with the template that worked before: look at its configuration and dependencies.
    ConfigurationChanged,
    /// The workload fails, and there never was another template.
    NeverWorked,
    /// The workload is healthy again.
    Recovered,
    /// The facts do not show the cause.
    #[default]
    Unknown,
}

impl Cause {
    /// Every cause.
    pub const ALL: &[Cause] =
        &[Cause::BadRollout, Cause::ConfigurationChanged, Cause::NeverWorked, Cause::Recovered, Cause::Unknown];

    /// The constant, as it stands in conditions, metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::BadRollout => "BadRollout",
            Cause::ConfigurationChanged => "ConfigurationChanged",
            Cause::NeverWorked => "NeverWorked",
            Cause::Recovered => "Recovered",
            Cause::Unknown => "Unknown",
        }
    }
}

/// An action that a diagnoser proposes. The controller computes the exact values itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Proposal {
    /// The action with its parameters.
    pub action: Action,
    /// The object that it is proposed for.
    pub target: ObjectRef,
}

/// One claim with the facts that support it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// What is claimed. Each kind is tested by its own rule.
    pub kind: ClaimKind,
    /// Number of the revision that the claim is about, at least 1. Required by the kinds that name a revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub revision: Option<i64>,
    /// For `PodsFailing`: how the pods fail. Absent means in any way that a pod template can cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<PodFailure>,
    /// IDs of the facts that support it, at most 32. A claim that cites none is refused.
    #[schemars(length(max = 32), inner(length(max = 8)))]
    pub cites: Vec<String>,
    /// The claim in one sentence, at most 512 characters.
    #[schemars(length(max = 512))]
    pub text: String,
}

/// The closed set of claims. Each can be tested by a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ClaimKind {
    /// Pods of the target fail in the way that `failure` names.
    PodsFailing,
    /// The failing pods run the revision `revision`.
    FailingPodsRunRevision,
    /// The template of the current revision differs from that of `revision`.
    TemplateChanged,
    /// The current template is that of `revision`, which worked before or whose configuration changed since: nothing in
    /// the template explains the failure.
    TemplateUnchanged,
    /// Revision `revision` has ready replicas.
    RevisionReady,
    /// `revision`, the current one, is the only revision.
    OnlyOneRevision,
    /// Every replica is ready, and no pod fails.
    NothingFails,
}

impl ClaimKind {
    /// Every kind of claim.
    pub const ALL: &[ClaimKind] = &[
        ClaimKind::PodsFailing,
        ClaimKind::FailingPodsRunRevision,
        ClaimKind::TemplateChanged,
        ClaimKind::TemplateUnchanged,
        ClaimKind::RevisionReady,
        ClaimKind::OnlyOneRevision,
        ClaimKind::NothingFails,
    ];

    /// The constant, as it stands in statuses and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            ClaimKind::PodsFailing => "PodsFailing",
            ClaimKind::FailingPodsRunRevision => "FailingPodsRunRevision",
            ClaimKind::TemplateChanged => "TemplateChanged",
            ClaimKind::TemplateUnchanged => "TemplateUnchanged",
            ClaimKind::RevisionReady => "RevisionReady",
            ClaimKind::OnlyOneRevision => "OnlyOneRevision",
            ClaimKind::NothingFails => "NothingFails",
        }
    }
}

/// What a second model says of the proposal of the first. It can only object: its consent changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Review {
    /// Name of the rung that reviewed.
    #[schemars(length(max = 64))]
    pub rung: String,
    /// Whether it objects. A proposal that it objects to needs an approval.
    pub objects: bool,
    /// Why, in one sentence, at most 1024 characters.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub reason: String,
}

/// One diagnoser that was asked, or one call of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Name of the diagnoser.
    #[schemars(length(max = 64))]
    pub rung: String,
    /// Outcome: a constant such as `Answered`, `NoProposal`, `NotConfigured` or `Timeout`, or the class of the failure.
    #[schemars(length(max = 64))]
    pub outcome: String,
    /// Duration of the attempt in milliseconds.
    pub milliseconds: i64,
    /// Name of the upstream. Empty when no model was called.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub upstream: String,
    /// The model that was asked for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256))]
    pub model: String,
    /// The model that answered, as the upstream says, of letters, digits and `._:/@+-`; `withheld` where the name holds a
    /// key. Empty when it says nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256))]
    pub served_model: String,
    /// That model is another one than was asked for: its answer leads to a suggestion at most.
    #[serde(default, skip_serializing_if = "is_false")]
    pub swapped: bool,
    /// Nothing was sent: no budget allowed it, its key could not be read, or nobody waited for it any more. It is no call
    /// and none of the attempts that a diagnosis has.
    #[serde(default, skip_serializing_if = "is_false")]
    pub not_sent: bool,
    /// What is narrower than `outcome`, as a constant: the code of the upstream, the category of a refusal, or what is wrong
    /// about an answer, such as `TooDeep`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub detail: String,
    /// Why this attempt was made: the outcome of the one before it, which it follows. Empty for the first of a diagnosis.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub because: String,
    /// HTTP status of the response. Absent when there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<i32>,
    /// Tokens of prompt and answer together.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tokens: i64,
    /// What it cost, in billionths of a US dollar; what was reserved for it where its usage is not known.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cost_nano_dollars: i64,
    /// What the tightest budget had left afterwards, in billionths of a US dollar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_left_nano_dollars: Option<i64>,
    /// What followed from its failure, such as `NextUpstream`. Empty after an answer.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub then: String,
    /// The upstream's ID of the request.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub request_id: String,
    /// What happened, in one sentence that quotes nothing of the response, at most 256 characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256))]
    pub message: String,
}

impl Attempt {
    /// Whether a model was called: something was sent, or tried to be.
    pub fn is_call(&self) -> bool {
        !self.upstream.is_empty() && !self.not_sent
    }
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

fn is_false(value: &bool) -> bool {
    !*value
}
