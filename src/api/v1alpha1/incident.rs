use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Action, ApprovalTerms, Condition, FieldChange, IncidentDiagnosis, ModelRounds, ModelUse, ObjectRef, Plan,
    RefusedAnswer, Reroute, Time,
};

/// The firing alerts about one target and everything that Backstop did about them, from the plan to recovery or
/// escalation. The controller writes spec and status.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "backstop.dev",
    version = "v1alpha1",
    kind = "Incident",
    doc = "The alerts about one target, and everything that Backstop did about them.",
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
    /// The workload that the alerts are about and that a repair would change. Absent when no alert names an object that
    /// exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<ObjectRef>,
    /// Why there is no target. Absent when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unresolved: Option<Unresolved>,
    /// The alerts of this incident, oldest first. At most 100; later ones are not listed, but name the incident in
    /// their own status, and it does not end while one of them fires.
    #[schemars(length(max = 100))]
    pub alerts: Vec<AlertRef>,
    /// Highest severity of its alerts: `info`, `low`, `warning`, `error` or `critical`. Where it is `info`, which the labels
    /// `info` and `none` of alerts are, nobody is called as long as nothing was written.
    #[serde(default)]
    pub severity: Severity,
    /// Request ID of the alert that opened the incident, at most 64 characters. Logs, Events and notifications carry
    /// it.
    #[schemars(length(max = 64))]
    pub request_id: String,
    /// Time at which the first alert was received: what the Alert says, but no earlier than the API server made it, and
    /// no later than the controller opened the incident.
    pub opened_at: Time,
    /// SHA-256 of the inputs that the name is derived from, 64 hexadecimal characters. An Incident with the same name
    /// and another key is a different incident.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub key: String,
}

/// Why none of the alerts of an incident led to a target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Unresolved {
    /// Reason constant, such as `TargetUnresolved` or `TargetNotFound`; at most 64 characters.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// One sentence that explains `reason`, at most 1024 characters.
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// Reference to one Alert.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlertRef {
    /// Namespace of the Alert.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Name of the Alert.
    #[schemars(length(max = 253))]
    pub name: String,
    /// UID of the Alert. An Alert that was deleted and recreated has another UID and counts as another alert.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub uid: String,
    /// Value of its label `alertname`, at most 1024 characters; empty when it has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub alertname: String,
    /// Time at which its condition began, by the sender's clock.
    pub starts_at: Time,
}

/// How urgent an incident is, in ascending order: that of its most urgent alert, by the label `severity`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The alert's label is `info` or `none`. Nobody is called as long as nothing was written: the Incident and the audit
    /// log alone have it.
    Info,
    /// The alert's label is `low`: for a ticket. People are told as of any other incident, with this severity.
    Low,
    /// Needs attention. An alert without the label counts as this, and so does one of another word.
    #[default]
    Warning,
    /// The alert's label is `error`, `high` or `major`: something is broken.
    Error,
    /// The alert's label is `critical`, `page` or `emergency`: page the on-call at once.
    Critical,
}

/// Written by the controller only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IncidentStatus {
    /// Phase of the incident. `Resolved` and `Escalated` are final, but for a `Resolved` one that is watched: see
    /// `watch`.
    #[serde(default)]
    pub phase: IncidentPhase,
    /// Why it is in this phase: a reason constant such as `Recovered` or `OnlyOneRevision`, at most 64 characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub reason: String,
    /// One sentence that explains `reason`, at most 2048 characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 2048))]
    pub message: String,
    /// `metadata.generation` of the spec that this status describes.
    #[serde(default)]
    pub observed_generation: i64,
    /// What will be done. Written before any source is queried and never changed afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Box<Plan>>,
    /// Number of investigation rounds so far. Bounded by the loop budget.
    #[serde(default)]
    pub rounds: i32,
    /// Name of the latest Investigation, in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub investigation: Option<String>,
    /// What was found, so that it need not be looked up: by the latest round, or by the latest that asked models where its
    /// answer still holds and the rules have nothing to propose. Absent until a round ended with a diagnosis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<Box<IncidentDiagnosis>>,
    /// The rounds that asked models. Absent while none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<Box<ModelRounds>>,
    /// Answers of models that turned out not to be grounded in the facts and in the cluster, oldest first. Nothing was done
    /// on their word. At most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub refused_answers: Vec<RefusedAnswer>,
    /// The one re-route to a stronger rung after an answer that was not grounded. Absent while there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reroute: Option<Box<Reroute>>,
    /// What the models of all rounds took so far. Absent when none was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_spend: Option<ModelUse>,
    /// Epoch of the claim for which a Grant was last opened, from 1. Absent until one was opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant_epoch: Option<i64>,
    /// Decision about the repair in the latest round, with the verdict of every check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Box<Decision>>,
    /// Decision about undoing the repair, or about evicting a stuck pod, with the verdict of every check. Absent when
    /// neither was considered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow_up: Option<Box<Decision>>,
    /// Name of the Remediation that repairs the target, in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub remediation: Option<String>,
    /// Name of the Remediation that undoes the repair. Absent unless the repair did not help.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub undo: Option<String>,
    /// Name of the Remediation that currently evicts a stuck pod of the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub replacement: Option<String>,
    /// What the controller read of the target when it last decided. Absent until it was read once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reading: Option<TargetReading>,
    /// What the controller read of the target right before it opened the Grant for the repair. The write is taken back
    /// only if the target is worse than this. Absent until a Grant was opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before_write: Option<TargetReading>,
    /// How far the rollout of the write is. Absent before the write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutProgress>,
    /// The watch over the target after the incident was resolved. Absent when there is nothing to watch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch: Option<Watch>,
    /// Name of the Remediation whose outcome was not known when the incident ended. Its outcome is recorded as soon as it
    /// is known; absent when none is awaited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub unsettled: Option<String>,
    /// Who was notified of the escalation and whether it was delivered. Absent unless the incident was escalated, and
    /// when nobody is called for it: its severity is `info` and nothing was written, or another incident tells of it
    /// (reason `Storm`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalation: Option<Box<Escalation>>,
    /// Notifications of anything else than the escalation, oldest first. At most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub notices: Vec<NoticeStatus>,
    /// What happened, oldest first. At most 200 entries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200))]
    pub timeline: Vec<TimelineEntry>,
    /// Timestamps of the steps, for measuring durations.
    #[serde(default)]
    pub times: IncidentTimes,
    /// Conditions `Diagnosed`, `Mitigated`, `Resolved` and `Escalated`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
}

/// What the controller's own reading of the target showed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetReading {
    /// Time of the reading, by the controller's clock.
    pub at: Time,
    /// Whether all that was asked for is ready, and no pod fails.
    pub healthy: bool,
    /// Replicas that were asked for.
    pub desired: i32,
    /// Ready replicas of any revision.
    pub ready: i32,
    /// Ready pods of the revision that was current.
    pub serving: i32,
    /// Pods that fail in a way that the pod template can cause; at least 1 while the API server refuses to create them.
    pub failing: i32,
    /// SHA-256 of the pod template, 64 hexadecimal characters.
    #[schemars(length(max = 64))]
    pub template_hash: String,
}

/// How far a rollout is. While it advances it is waited for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutProgress {
    /// Sum of the replicas on the current template, the ready ones among them, and all available replicas: its highest
    /// value since the write. It grows while the rollout advances.
    pub steps: i32,
    /// Time at which `steps` last grew, by the controller's clock.
    pub at: Time,
}

/// The watch over a target after its incident was resolved. A relapse, or an alert that goes on, continues the incident.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Watch {
    /// Time at which it began. `timings.watchSeconds` and `timings.alertGoesOnSeconds` count from here.
    pub since: Time,
    /// Time at which it ended. Absent while it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<Time>,
    /// Time since when the target fails again, or is gone while its alert fires. Absent while it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<Time>,
}

/// Phase of an incident.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum IncidentPhase {
    /// Opened; the plan is not written yet.
    #[default]
    Open,
    /// The investigator gathers facts.
    Investigating,
    /// The diagnosis is there and the checks are evaluated.
    Judging,
    /// Every check passed except `Approved`: the incident waits for an Approval.
    AwaitingApproval,
    /// A Remediation was created and has not ended.
    Remediating,
    /// The write was accepted; the target has to become healthy and stay so.
    Verifying,
    /// The write did not help and is being undone.
    Undoing,
    /// The target recovered, nothing is wrong with it, or every alert ended before anything was written. Final, except
    /// while `status.watch` goes on.
    Resolved,
    /// Final: handed over to the on-call.
    Escalated,
}

impl IncidentPhase {
    /// The constant, as it stands in statuses and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            IncidentPhase::Open => "Open",
            IncidentPhase::Investigating => "Investigating",
            IncidentPhase::Judging => "Judging",
            IncidentPhase::AwaitingApproval => "AwaitingApproval",
            IncidentPhase::Remediating => "Remediating",
            IncidentPhase::Verifying => "Verifying",
            IncidentPhase::Undoing => "Undoing",
            IncidentPhase::Resolved => "Resolved",
            IncidentPhase::Escalated => "Escalated",
        }
    }

    /// Whether this phase is final: Backstop does nothing more about the incident, unless it is watched.
    pub fn is_final(self) -> bool {
        matches!(self, IncidentPhase::Resolved | IncidentPhase::Escalated)
    }
}

impl IncidentStatus {
    /// The target is still watched: a `Resolved` incident that is not over yet.
    pub fn is_watched(&self) -> bool {
        self.phase == IncidentPhase::Resolved && self.watch.as_ref().is_some_and(|watch| watch.over.is_none())
    }
}

/// What the controller decided about one action, with the verdict of every check and not only of the first that
/// refused.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// What follows: act, wait for evidence, wait for an approval, resolve or escalate.
    pub outcome: DecisionOutcome,
    /// Reason constant of the check that decided, or `AllChecksPassed`; at most 64 characters.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// One sentence that explains `reason`, at most 2048 characters.
    #[schemars(length(max = 2048))]
    pub message: String,
    /// Name of the diagnoser whose answer it is about; empty without a diagnosis.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub diagnoser: String,
    /// Hypothesis of the diagnosis in one sentence, at most 1024 characters; empty without a diagnosis.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub hypothesis: String,
    /// The action that was decided about. Absent when none applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// ID of the exact action within the incident, 32 hexadecimal characters. The annotation `backstop.dev/last-action`
    /// carries it after the write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub action_id: Option<String>,
    /// SHA-256 over action, target, write and provenance, 64 hexadecimal characters. An Approval names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub digest: Option<String>,
    /// The predicted change as redacted text, at most 64 fields.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub diff: Vec<FieldChange>,
    /// Where a tool or an owner of the object would revert the write: the change as people make it there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest_change: Option<Box<ManifestChange>>,
    /// Who has to approve, as the matching Policies say, at most 32: each is met on its own. Empty while nobody is asked,
    /// and where one person is enough.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub approvals: Vec<ApprovalTerms>,
    /// Severity of the incident by then. What is more severe is asked about again. Absent in decisions of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// How many different names the alerts of the incident had by then, at most 100. A new one is asked about again. Absent
    /// in decisions of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alertnames: Option<i32>,
    /// Verdict of every check, in order. At most 64.
    #[schemars(length(max = 64))]
    pub checks: Vec<CheckVerdict>,
    /// Time of the decision.
    pub decided_at: Time,
}

/// A change that Backstop does not make because somebody else owns the object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManifestChange {
    /// Unified difference of the part of the manifest that changes, without secrets; at most 8192 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 8192))]
    pub diff: String,
    /// How to revert it through the tool that owns it, where its metadata says of what the tool made it; at most 2048
    /// characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub command: Option<String>,
}

/// What follows from the verdicts of the checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DecisionOutcome {
    /// Every check passed: the action is taken.
    Act,
    /// Evidence that may still come is missing. Decided again every few seconds until `timings.evidenceWaitSeconds`
    /// have passed, not counting what models took.
    Wait,
    /// Every check passed except `Approved`: a person has to create an Approval.
    AwaitApproval,
    /// There is nothing left to do: the alerts ended, or the target recovered.
    Resolve,
    /// The on-call has to decide.
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
            DecisionOutcome::Resolve => "Resolve",
            DecisionOutcome::Escalate => "Escalate",
        }
    }
}

/// Verdict of one named check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckVerdict {
    /// Name of the check, such as `EarlierRevisionHealthy`.
    #[schemars(length(max = 64))]
    pub check: String,
    /// Whether the check lets the action through.
    pub verdict: Verdict,
    /// Reason constant, such as `OnlyOneRevision`; `Ok` when it passed.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// One sentence that explains the verdict, at most 1024 characters.
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// Whether a check lets an action through. Only `Passed` does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Verdict {
    /// The check lets the action through.
    Passed,
    /// The check refuses the action.
    #[default]
    Refused,
    /// What the check needs could not be read. Counts as a refusal.
    Unknown,
    /// The check was not evaluated because an earlier one had refused what it is about. Never lets an action through.
    NotAsked,
}

/// How the on-call was told of an incident that was handed over.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Escalation {
    /// The incident's reason at the time of the escalation.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// What the on-call should do first, at most 2048 characters. Contains the commands.
    #[serde(default)]
    #[schemars(length(max = 2048))]
    pub next_step: String,
    /// One entry for each notification channel. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub deliveries: Vec<Delivery>,
    /// Number of times that its delivery was tried so far.
    #[serde(default)]
    pub attempts: i32,
    /// Time of the next attempt: pauses grow from 15 s to 30 min, and it is tried until every channel accepted it. Absent
    /// before the first attempt and after the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<Time>,
}

/// One notification of anything else than the escalation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NoticeStatus {
    /// What it is about: `ApprovalAsked`, `Resolved`, or `BreakerOpened` where the incident may have opened a cascade breaker.
    #[schemars(length(max = 64))]
    pub notice: String,
    /// One entry for each notification channel. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub deliveries: Vec<Delivery>,
    /// Number of times that its delivery was tried so far.
    #[serde(default)]
    pub attempts: i32,
    /// Time of the next attempt: pauses grow from 15 s to 30 min. Absent once every channel accepted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<Time>,
}

/// Delivery of one notification through one channel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// Name of the channel: `event` or `webhook`.
    #[schemars(length(max = 64))]
    pub channel: String,
    /// Whether the channel accepted it.
    pub delivered: bool,
    /// Number of attempts so far.
    #[serde(default)]
    pub attempts: i32,
    /// HTTP status or error of the last attempt, at most 512 characters.
    #[serde(default)]
    #[schemars(length(max = 512))]
    pub detail: String,
}

/// One entry of the timeline.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TimelineEntry {
    /// Time at which it happened.
    pub at: Time,
    /// Who did it: `alert`, `controller`, `investigator` or `executor`.
    pub actor: Actor,
    /// Name of the event, such as `PlanWritten`, `GrantOpened` or `Fired`.
    #[schemars(length(max = 64))]
    pub event: String,
    /// One sentence for people, at most 1024 characters.
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// Who did something in an incident.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Actor {
    /// The sender of an alert.
    Alert,
    /// The controller.
    #[default]
    Controller,
    /// The investigator.
    Investigator,
    /// The executor.
    Executor,
}

/// Timestamps of an incident. Each is set once, and once more when a watched incident goes on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IncidentTimes {
    /// Time at which the intake received the first alert.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received: Option<Time>,
    /// Time at which the plan was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planned: Option<Time>,
    /// Time at which the latest investigation round was requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Time>,
    /// Time at which the first source was queried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_source: Option<Time>,
    /// Time at which the diagnosis was complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnosed: Option<Time>,
    /// Time at which a person was first asked to approve what is asked now; reminders do not change it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval_asked: Option<Time>,
    /// Time at which the controller decided to act or to escalate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided: Option<Time>,
    /// Time at which the controller saw that the API server had accepted the write. `verify.timeoutSeconds` counts from
    /// here, or from when the rollout last advanced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fired: Option<Time>,
    /// Time of the first look after the write at which the target could not be read, while no later one could read it. The
    /// on-call is called once that has lasted for `verify.timeoutSeconds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread: Option<Time>,
    /// Time at which the target was first seen healthy after the write. `verify.settleSeconds` counts from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy: Option<Time>,
    /// Time at which the incident reached its final phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Time>,
}
