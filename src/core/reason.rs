//! Reasons: one closed set of constants that conditions, Events, metrics, logs and the documents share.
//!
//! What a person writes (the text of a Policy, the answer of a webhook) is never a reason.

use std::fmt;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Why something is as it is. The constant is the variant's name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// Every reason, for tests that hold the documents to them.
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
    /// The target is healthy again after our write.
    Recovered,
    /// The alert ended before anything was done.
    AlertResolved,
    /// The labels name no object, or not one without doubt.
    TargetUnresolved,
    /// The labels name an object that does not exist.
    TargetNotFound,
    /// The labels name objects that belong to different workloads.
    TargetAmbiguous,
    /// A label that should name an object is not a valid name.
    TargetInvalid,
    /// An Alert in a tenant's namespace names another namespace.
    ForeignNamespace,
    /// The object that was judged is gone or was made anew.
    TargetGone,
    /// The judge could not read what it needs.
    ClusterUnreadable,
    /// The investigation did not end in time.
    InvestigationTimeout,
    /// The diagnosis proposes nothing.
    NothingProposed,
    /// No pod of the target fails.
    NothingFails,
    /// A claim cites no fact, or one that does not exist.
    ClaimUncited,
    /// A claim is not carried by the facts that it cites.
    ClaimUnsupported,
    /// A claim is not true of the cluster as the judge reads it.
    ClaimUngrounded,
    /// The diagnosis names an object or a revision that does not exist.
    ObjectUnknown,
    /// Another diagnoser proposes another action.
    OpinionsDiffer,
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
    /// Some other tool says that it manages the target.
    ManagedByTool,
    /// People protect the target from our writes.
    Protected,
    /// The failing pods run another revision than the current one.
    FailingPodsNotCurrent,
    /// The template is the one that worked: a rollback would help nothing.
    TemplateUnchanged,
    /// The revision is older than a rollout can be blamed for.
    RolloutNotRecent,
    /// There is no other revision.
    OnlyOneRevision,
    /// The proposed revision does not exist.
    RevisionUnknown,
    /// Nothing shows that the earlier revision was healthy.
    EarlierRevisionUnproven,
    /// The rollout is paused by people.
    RolloutPaused,
    /// The facts are too old.
    FactsStale,
    /// The executor has no rights in this namespace.
    NotEnrolled,
    /// The mode forbids writes.
    ModeForbids,
    /// A Policy does not compile, and so denies.
    PolicyInvalid,
    /// A Policy does not list the action.
    ActionNotAllowed,
    /// A rule of a Policy is not true.
    PolicyValidationFailed,
    /// The time is outside of a Policy's windows.
    OutsideWindow,
    /// A matching Runbook does not list the action.
    RunbookForbids,
    /// The target has more pods than a Policy allows to touch.
    BlastRadius,
    /// A quota leaves no room for the new pods.
    QuotaExhausted,
    /// This incident has used up its actions or rounds.
    LoopBudget,
    /// The target was written to a short while ago.
    Cooldown,
    /// The actions of this hour are used up.
    HourlyBudget,
    /// The cascade breaker is open.
    BreakerOpen,
    /// Many workloads are unhealthy at once.
    Storm,
    /// The audit log would not survive the pod.
    AuditNotDurable,
    /// A person has to approve.
    ApprovalMissing,
    /// Nobody approved in time.
    ApprovalTimeout,
    /// Every check passed.
    AllChecksPassed,
    /// The write did not make the target healthy in time.
    VerifyFailed,
    /// Somebody changed the field after our write.
    ChangedByOthers,
    /// The hands gave the Remediation up.
    RemediationAborted,
    /// The API server refused a write that was granted.
    RefusedByPolicy,
    /// The hands did not finish in time.
    ExecutorSilent,
    /// The check lets the action through.
    Ok,
    /// There is nothing that the check could be asked about.
    NotAsked,
    /// The write was accepted and read back.
    Fired,
    /// The spec does not have the digest that it claims.
    DigestMismatch,
    /// Not an action, kind or name that the executor knows.
    Unsupported,
    /// The field no longer holds the value that was judged.
    TargetChanged,
    /// The target is being deleted or has finalizers: its last writes must not meet our policies.
    TargetHasFinalizers,
    /// The revision is gone, or records another template.
    RevisionGone,
    /// No Grant was opened for the claim.
    NoGrant,
    /// Every Grant expired before the write.
    GrantExpired,
    /// The API server refused for another reason than our policies.
    Refused,
    /// A wrong write would have been accepted: a policy is missing or altered.
    PolicyMissing,
    /// The dry-run showed something other than the granted value.
    DryRunDiffers,
    /// The target changed during each try.
    TooManyConflicts,
    /// It was claimed too often.
    ClaimsExhausted,
    /// Somebody else took the armed label off.
    DisarmedByOthers,
    /// The self-test did not pass in time.
    NotReady,
    /// A write was taken back because it did not help.
    Undone,
}

impl Reason {
    /// The reason of this name; `None` for anything else, which then is text and no reason of ours.
    pub fn named(name: &str) -> Option<Reason> {
        Reason::ALL.iter().copied().find(|reason| reason.as_str() == name)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
