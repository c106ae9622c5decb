use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Action, Condition, FieldChange, Mode, ObjectRef, Time};

/// Alerts about one target, and what Backstop does about them, from plan to recovery or escalation.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "backstop.dev",
    version = "v1alpha1",
    kind = "Incident",
    plural = "incidents",
    shortname = "inc",
    category = "backstop",
    namespaced,
    status = "IncidentStatus",
    derive = "PartialEq",
    selectable = ".status.phase",
    selectable = ".spec.requestId",
    printcolumn = r#"{"name":"Severity","type":"string","jsonPath":".spec.severity"}"#,
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Target","type":"string","jsonPath":".spec.target.name"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.reason"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Remediation","type":"string","priority":1,"jsonPath":".status.remediation"}"#,
    printcolumn = r#"{"name":"Request-ID","type":"string","priority":1,"jsonPath":".spec.requestId"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct IncidentSpec {
    /// The object that is acted upon, if anything is; absent while no alert named one that exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<ObjectRef>,
    /// Why there is no target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unresolved: Option<Unresolved>,
    /// The alerts of this incident, oldest first; at most 100 are listed.
    #[schemars(length(max = 100))]
    pub alerts: Vec<AlertRef>,
    /// The highest severity among the alerts.
    #[serde(default)]
    pub severity: Severity,
    /// Request id of the alert that opened the incident.
    #[schemars(length(max = 64))]
    pub request_id: String,
    /// When the intake received the first alert.
    pub opened_at: Time,
}

/// Why no alert of an incident led to a target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Unresolved {
    /// A reason such as `TargetUnresolved`.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// One sentence to `reason`.
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// Names one Alert.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlertRef {
    /// Namespace of the Alert.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Name of the Alert.
    #[schemars(length(max = 253))]
    pub name: String,
    /// UID of the Alert: one that was deleted and made again is another one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub uid: String,
    /// Its `alertname` label.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub alertname: String,
    /// When its condition began.
    pub starts_at: Time,
}

/// Ordered: a later one is worse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// For the record.
    Info,
    /// Also what an alert without a severity counts as.
    #[default]
    Warning,
    /// Worse than a warning.
    Error,
    /// Wake somebody.
    Critical,
}

/// Written by the controller only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IncidentStatus {
    /// Where the incident stands.
    #[serde(default)]
    pub phase: IncidentPhase,
    /// Why it stands there: a constant such as `Recovered` or `OnlyOneRevision`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub reason: String,
    /// One sentence for people to `reason`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 2048))]
    pub message: String,
    /// Generation of the spec that this status describes.
    #[serde(default)]
    pub observed_generation: i64,
    /// Written before anything runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    /// How often the target was investigated; counts against the loop budget.
    #[serde(default)]
    pub rounds: i32,
    /// Name of the latest Investigation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub investigation: Option<String>,
    /// Epoch of the claim for which a Grant was opened last; absent while none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant_epoch: Option<i64>,
    /// What the judge decided in the latest round, with every verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// Name of the Remediation that repairs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub remediation: Option<String>,
    /// Name of the Remediation that takes the repair back, if one was needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub undo: Option<String>,
    /// Who was told, and whether it arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalation: Option<Escalation>,
    /// What happened, oldest first; at most 200 entries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200))]
    pub timeline: Vec<TimelineEntry>,
    /// Moments from which durations are computed.
    #[serde(default)]
    pub times: IncidentTimes,
    /// `Diagnosed`, `Mitigated`, `Resolved`, `Escalated`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
}

/// Where an incident stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum IncidentPhase {
    /// Just opened; no plan yet.
    #[default]
    Open,
    /// Facts are being gathered.
    Investigating,
    /// A diagnosis is there and is being judged.
    Judging,
    /// Every check passed but the one that asks for a person.
    AwaitingApproval,
    /// A Remediation exists and has not ended.
    Remediating,
    /// The write happened; the target is being watched.
    Verifying,
    /// The write did not help; it is being taken back.
    Undoing,
    /// The target recovered, or the alert ended by itself.
    Resolved,
    /// A person has it.
    Escalated,
}

impl IncidentPhase {
    /// Nothing of ours happens any more in this phase.
    pub fn is_final(self) -> bool {
        matches!(self, IncidentPhase::Resolved | IncidentPhase::Escalated)
    }
}

/// What will be done, before any of it is done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Sources that the investigation will ask.
    #[schemars(length(max = 32), inner(length(max = 64)))]
    pub sources: Vec<String>,
    /// Diagnosers in order; the last is the lowest rung.
    #[schemars(length(max = 16), inner(length(max = 64)))]
    pub diagnosers: Vec<String>,
    /// Names of the checks that a write has to pass, in order.
    #[schemars(length(max = 64), inner(length(max = 64)))]
    pub gates: Vec<String>,
    /// The steps with the mode that each may be taken in.
    #[schemars(length(max = 16))]
    pub steps: Vec<PlanStep>,
    /// The budgets that bound it.
    #[schemars(length(max = 16))]
    pub budgets: Vec<PlanBudget>,
    /// The mode that namespace, Policies and Runbook leave.
    pub mode: Mode,
    /// Names of the Runbooks that match the alert.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 317)))]
    pub runbooks: Vec<String>,
    /// Names of the Policies that match the target, as `namespace/name`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 317)))]
    pub policies: Vec<String>,
}

/// One step of a plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanStep {
    /// `investigate`, `diagnose`, `judge`, an action of the catalogue, `verify`, `undo`, `escalate`.
    #[schemars(length(max = 64))]
    pub name: String,
    /// The autonomy tier: what may happen in this step without a person.
    pub mode: Mode,
}

/// One budget of a plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanBudget {
    /// Name, such as `actions-per-hour`.
    #[schemars(length(max = 64))]
    pub name: String,
    /// The most that may be spent.
    pub limit: i64,
}

/// What the judge decided, with every verdict and not only the first refusal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// Act, wait for better evidence, or escalate.
    pub outcome: DecisionOutcome,
    /// The check that decided, or `AllChecksPassed`.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// One sentence to `reason`.
    #[schemars(length(max = 2048))]
    pub message: String,
    /// What the diagnosis believes, in one sentence.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub hypothesis: String,
    /// The action that was proposed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// Identity of the exact action: 32 hexadecimal characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub action_id: Option<String>,
    /// SHA-256 of the exact action, 64 hexadecimal characters: what an Approval names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub digest: Option<String>,
    /// The change that the judge predicts, for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub diff: Vec<FieldChange>,
    /// Verdict of every check, in order.
    #[schemars(length(max = 64))]
    pub checks: Vec<CheckVerdict>,
    /// When it was decided.
    pub decided_at: Time,
}

/// What follows from the verdicts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DecisionOutcome {
    /// Every check passed.
    Act,
    /// Only checks refused that time may turn; asked again until the evidence wait ends.
    Wait,
    /// Every check passed but the approval of a person.
    AwaitApproval,
    /// A person decides.
    #[default]
    Escalate,
}

impl DecisionOutcome {
    /// The constant, as it stands in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            DecisionOutcome::Act => "Act",
            DecisionOutcome::Wait => "Wait",
            DecisionOutcome::AwaitApproval => "AwaitApproval",
            DecisionOutcome::Escalate => "Escalate",
        }
    }
}

/// What one named check said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckVerdict {
    /// Name of the check, such as `EarlierRevisionHealthy`.
    #[schemars(length(max = 64))]
    pub check: String,
    /// Whether it lets the action through.
    pub verdict: Verdict,
    /// A constant, such as `OnlyOneRevision`.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// One sentence for people.
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// Whether a check lets an action through. Only `Passed` does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Verdict {
    /// It does.
    Passed,
    /// It does not.
    #[default]
    Refused,
    /// What it needs could not be read: it does not.
    Unknown,
    /// It was not asked, because a check before it leaves nothing to ask about.
    NotAsked,
}

/// How the incident was handed to people.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Escalation {
    /// Same constant as the incident's reason.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// What to do next, for the person who is woken.
    #[serde(default)]
    #[schemars(length(max = 2048))]
    pub next_step: String,
    /// One entry per channel.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub deliveries: Vec<Delivery>,
}

/// One attempt to tell somebody.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// `event` or `webhook`.
    #[schemars(length(max = 64))]
    pub channel: String,
    /// It was accepted.
    pub delivered: bool,
    /// How often it was tried.
    #[serde(default)]
    pub attempts: i32,
    /// Status or error of the last attempt.
    #[serde(default)]
    #[schemars(length(max = 512))]
    pub detail: String,
}

/// One line of the timeline.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TimelineEntry {
    /// When it happened.
    pub at: Time,
    /// Who did it.
    pub actor: Actor,
    /// A constant, such as `PlanWritten`, `GrantOpened`, `Fired`.
    #[schemars(length(max = 64))]
    pub event: String,
    /// One sentence.
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// Who did something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Actor {
    /// The sender of an alert.
    Alert,
    /// The judge.
    #[default]
    Controller,
    /// The mind.
    Investigator,
    /// The hands.
    Executor,
    /// A human being.
    Person,
}

/// Moments of an incident. Each is set once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IncidentTimes {
    /// The intake received the first alert.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received: Option<Time>,
    /// The plan was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planned: Option<Time>,
    /// The first source was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_source: Option<Time>,
    /// The diagnosis was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnosed: Option<Time>,
    /// The judge decided to act or to escalate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided: Option<Time>,
    /// The API server accepted the write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fired: Option<Time>,
    /// The target was first seen healthy after the write; it settles from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy: Option<Time>,
    /// The incident reached its final phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Time>,
}
