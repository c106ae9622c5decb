//! Reasons: one closed set of constants that conditions, Events, metrics, logs and the documents share.
//!
//! What a person writes (the text of a Policy, the answer of a webhook) is never a reason.

use std::fmt;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Why something is in its state. The constant is the variant's name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// Every reason, for tests that compare the documents with them.
            pub const ALL: &[Reason] = &[$(Reason::$name),*];

            /// The constant, as it stands in statuses, metrics and logs.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Reason::$name => stringify!($name),)*
                }
            }
        }
    };
}

reasons! {
    /// The target is healthy again after the write.
    Recovered,
    /// The alert ended before anything was done.
    AlertResolved,
    /// The target is healthy, and has been for longer than it takes to fail again.
    NothingWrong,
    /// Every alert has ended or was deleted, and the target still fails.
    StillFailing,
    /// The target failed again after it had recovered.
    Relapsed,
    /// The alert goes on although the target is healthy.
    AlertGoesOn,
    /// The labels do not name exactly one object.
    TargetUnresolved,
    /// The labels name an object that does not exist.
    TargetNotFound,
    /// The labels name objects that belong to different workloads.
    TargetAmbiguous,
    /// A label that should name an object is not a valid name.
    TargetInvalid,
    /// An Alert in a tenant's namespace names another namespace.
    ForeignNamespace,
    /// The object that was decided about is gone or was recreated.
    TargetGone,
    /// The controller could not read what it needs.
    ClusterUnreadable,
    /// The investigation did not end in time.
    InvestigationTimeout,
    /// The diagnosis proposes nothing.
    NothingProposed,
    /// No pod of the target fails.
    NothingFails,
    /// Replicas are missing or not ready, and no pod fails in a way that a template can cause.
    ReplicasNotReady,
    /// A claim cites no fact, or one that does not exist.
    ClaimUncited,
    /// The facts that a claim cites do not support it.
    ClaimUnsupported,
    /// A claim does not hold on the controller's own reading of the cluster.
    ClaimUngrounded,
    /// The cause that a diagnosis names does not hold on the controller's own reading of the cluster.
    CauseUngrounded,
    /// The diagnosis names an object or a revision that does not exist.
    ObjectUnknown,
    /// Another diagnoser, or the rules on the reader's own reading, propose another action or none.
    OpinionsDiffer,
    /// The reviewer of the model chain objects to the proposal.
    ReviewerObjects,
    /// The confidence is below a Policy's floor.
    ConfidenceTooLow,
    /// The action is not for this kind of object.
    KindNotSupported,
    /// The proposal names another object than the incident.
    WrongTarget,
    /// Another controller owns the target.
    OwnedByController,
    /// A GitOps tool owns the target and would revert the write.
    ManagedByGitOps,
    /// Helm installed the target and no Policy allows it.
    ManagedByHelm,
    /// Some other tool is recorded as managing the target.
    ManagedByTool,
    /// The target is protected from writes by Backstop.
    Protected,
    /// The failing pods run another revision than the current one.
    FailingPodsNotCurrent,
    /// The template is the one that worked: a rollback would not help.
    TemplateUnchanged,
    /// No change of the template explains how the pods fail.
    FailureUnexplained,
    /// A ConfigMap that both templates name was changed together with the template, and may be the cause.
    ConfigurationChangedToo,
    /// What the earlier template needs does not exist, or nothing shows that it does.
    ReferenceMissing,
    /// The rollout was too long ago to be the cause.
    RolloutNotRecent,
    /// There is no earlier revision.
    OnlyOneRevision,
    /// The proposed revision does not exist.
    RevisionUnknown,
    /// Nothing shows that the earlier revision was healthy.
    EarlierRevisionUnproven,
    /// The rollout is paused.
    RolloutPaused,
    /// The rollout is under way: not every pod runs the current template yet.
    RolloutUnderWay,
    /// Something shows that new processes would not cure it: a restart would help nothing.
    RestartCuresNothing,
    /// Nothing shows that new processes would work.
    RestartUnproven,
    /// The API server refuses to create pods of the target.
    NewPodsRefused,
    /// The update strategy is `OnDelete`: a changed template reaches a pod only when the pod is deleted.
    UpdateStrategyOnDelete,
    /// The facts are too old.
    FactsStale,
    /// The executor has no rights in this namespace.
    NotEnrolled,
    /// The mode forbids writes.
    ModeForbids,
    /// A Policy does not compile and therefore denies.
    PolicyInvalid,
    /// A Policy costs more to evaluate than it may and therefore denies.
    PolicyTooExpensive,
    /// A namespace has more Policies than are looked at, or larger ones, and therefore all actions are denied.
    TooManyPolicies,
    /// A Policy does not list the action.
    ActionNotAllowed,
    /// A validation of a Policy is not true.
    PolicyValidationFailed,
    /// A Policy's windows do not allow actions now.
    OutsideWindow,
    /// A matching Runbook does not list the action.
    RunbookForbids,
    /// The write would reach further than is allowed.
    BlastRadius,
    /// The write would set more than a Policy's limits allow.
    OverLimit,
    /// As many writes as a Policy allows are under way.
    TooManyAtOnce,
    /// A ResourceQuota leaves no room for new pods.
    QuotaExhausted,
    /// The incident has used up its actions or investigation rounds.
    LoopBudget,
    /// The cooldown of the target has not passed.
    Cooldown,
    /// The hourly budget is used up.
    HourlyBudget,
    /// The actions of this day on the target are used up.
    DailyBudget,
    /// An earlier write to the target did not help, was taken back, or was reverted by somebody.
    TargetHeld,
    /// Somebody wrote back what a write of ours had replaced.
    Reverted,
    /// The cascade breaker is open.
    BreakerOpen,
    /// Many workloads are unhealthy at once.
    Storm,
    /// The audit log cannot be written, or would not survive the pod.
    AuditNotDurable,
    /// A person has to approve.
    ApprovalMissing,
    /// A person said no.
    ApprovalDenied,
    /// Not enough people approved in time.
    ApprovalTimeout,
    /// The executor reported after the incident had ended that the write had been made.
    WrittenLate,
    /// The target carries the ID of the action, but nothing proves that the executor wrote it.
    WriteUnproven,
    /// The checks did not answer in time, and so refuse.
    ChecksUnanswered,
    /// Every check passed.
    AllChecksPassed,
    /// The write did not make the target healthy in time.
    VerifyFailed,
    /// Somebody else changed the field after the write.
    ChangedByOthers,
    /// The executor aborted the Remediation.
    RemediationAborted,
    /// The API server refused a write that was granted.
    RefusedByPolicy,
    /// The executor did not finish in time.
    ExecutorSilent,
    /// The check lets the action through.
    Ok,
    /// The check was not evaluated, because an earlier one had refused.
    NotAsked,
    /// The write was accepted and read back.
    Fired,
    /// The digest in the spec is not that of the spec.
    DigestMismatch,
    /// The executor does not support this action, kind or name.
    Unsupported,
    /// The field no longer holds the value that was decided about.
    TargetChanged,
    /// The target is being deleted or has finalizers: Backstop's policies must not block its deletion.
    TargetHasFinalizers,
    /// The revision is gone, or records another template.
    RevisionGone,
    /// No Grant was opened for the claim.
    NoGrant,
    /// Every Grant expired before the write.
    GrantExpired,
    /// The API server refused for a reason other than Backstop's policies.
    Refused,
    /// An admission webhook or a policy that is not Backstop's refused the write, or could not be asked.
    RefusedByAdmission,
    /// A forbidden dry-run was accepted: an admission policy is missing or was changed.
    PolicyMissing,
    /// The dry-run showed something other than the granted value.
    DryRunDiffers,
    /// The target changed during every attempt.
    TooManyConflicts,
    /// The maximum number of claims is reached.
    ClaimsExhausted,
    /// Somebody else removed the armed label.
    DisarmedByOthers,
    /// The self-test did not pass in time.
    NotReady,
    /// A write was undone because it did not help.
    Undone,
    /// An object with the derived name exists and was created from other inputs.
    NameTaken,
    /// No step of the incident got on for minutes: the watchdog handed it over.
    NoProgress,
    /// More incidents of a namespace than are kept had not been told to anybody: the oldest were deleted.
    TooManyUntold,
    /// The API server refused a request again and again that Backstop cannot do without.
    RequestRefused,
    /// What would be written is too large to be stored and granted.
    WriteTooLarge,
    /// The executor may not evict pods.
    EvictionNotAllowed,
    /// A PodDisruptionBudget does not let the pod be evicted now.
    BlockedByDisruptionBudget,
}

impl Reason {
    /// The reason with this name; `None` for any other text.
    pub fn named(name: &str) -> Option<Reason> {
        Reason::ALL.iter().copied().find(|reason| reason.as_str() == name)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
