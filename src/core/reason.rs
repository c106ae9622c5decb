//! Reasons: constants that conditions, Events, metrics, logs and the documents share.

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)*) => {
        $($(#[$doc])* pub const $name: &str = $value;)*
        /// Every reason, for tests that hold the documents to them.
        pub const ALL: &[&str] = &[$($value),*];
    };
}

reasons! {
    /// The target is healthy again after our write.
    RECOVERED = "Recovered";
    /// The alert ended before anything was done.
    ALERT_RESOLVED = "AlertResolved";
    /// The labels name no object, or not one without doubt.
    TARGET_UNRESOLVED = "TargetUnresolved";
    /// The labels name an object that does not exist.
    TARGET_NOT_FOUND = "TargetNotFound";
    /// The labels name objects that belong to different workloads.
    TARGET_AMBIGUOUS = "TargetAmbiguous";
    /// A label that should name an object is not a valid name.
    TARGET_INVALID = "TargetInvalid";
    /// An Alert in a tenant's namespace names another namespace.
    FOREIGN_NAMESPACE = "ForeignNamespace";
    /// The object that was judged is gone or was made anew.
    TARGET_GONE = "TargetGone";
    /// The judge could not read what it needs.
    CLUSTER_UNREADABLE = "ClusterUnreadable";
    /// The investigation did not end in time.
    INVESTIGATION_TIMEOUT = "InvestigationTimeout";
    /// The diagnosis proposes nothing.
    NOTHING_PROPOSED = "NothingProposed";
    /// No pod of the target fails.
    NOTHING_FAILS = "NothingFails";
    /// A claim cites no fact, or one that does not exist.
    CLAIM_UNCITED = "ClaimUncited";
    /// A claim is not carried by the facts that it cites.
    CLAIM_UNSUPPORTED = "ClaimUnsupported";
    /// A claim is not true of the cluster as the judge reads it.
    CLAIM_UNGROUNDED = "ClaimUngrounded";
    /// The diagnosis names an object or a revision that does not exist.
    OBJECT_UNKNOWN = "ObjectUnknown";
    /// Another diagnoser proposes another action.
    OPINIONS_DIFFER = "OpinionsDiffer";
    /// The confidence is below a Policy's floor.
    CONFIDENCE_TOO_LOW = "ConfidenceTooLow";
    /// The action is not for this kind of object.
    KIND_NOT_SUPPORTED = "KindNotSupported";
    /// The proposal names another object than the incident.
    WRONG_TARGET = "WrongTarget";
    /// Another controller owns the target.
    OWNED_BY_CONTROLLER = "OwnedByController";
    /// A GitOps tool owns the target and would revert the write.
    MANAGED_BY_GITOPS = "ManagedByGitOps";
    /// Helm installed the target and no Policy allows it.
    MANAGED_BY_HELM = "ManagedByHelm";
    /// Some other tool says that it manages the target.
    MANAGED_BY_TOOL = "ManagedByTool";
    /// People protect the target from our writes.
    PROTECTED = "Protected";
    /// The failing pods run another revision than the current one.
    FAILING_PODS_NOT_CURRENT = "FailingPodsNotCurrent";
    /// The template is the one that worked: a rollback would help nothing.
    TEMPLATE_UNCHANGED = "TemplateUnchanged";
    /// The revision is older than a rollout can be blamed for.
    ROLLOUT_NOT_RECENT = "RolloutNotRecent";
    /// There is no other revision.
    ONLY_ONE_REVISION = "OnlyOneRevision";
    /// The proposed revision does not exist.
    REVISION_UNKNOWN = "RevisionUnknown";
    /// Nothing shows that the earlier revision was healthy.
    EARLIER_REVISION_UNPROVEN = "EarlierRevisionUnproven";
    /// The rollout is paused by people.
    ROLLOUT_PAUSED = "RolloutPaused";
    /// The facts are too old.
    FACTS_STALE = "FactsStale";
    /// The executor has no rights in this namespace.
    NOT_ENROLLED = "NotEnrolled";
    /// The mode forbids writes.
    MODE_FORBIDS = "ModeForbids";
    /// A Policy does not compile, and so denies.
    POLICY_INVALID = "PolicyInvalid";
    /// A Policy does not list the action.
    ACTION_NOT_ALLOWED = "ActionNotAllowed";
    /// A rule of a Policy is not true.
    POLICY_VALIDATION_FAILED = "PolicyValidationFailed";
    /// The time is outside of a Policy's windows.
    OUTSIDE_WINDOW = "OutsideWindow";
    /// A matching Runbook does not list the action.
    RUNBOOK_FORBIDS = "RunbookForbids";
    /// The target has more pods than a Policy allows to touch.
    BLAST_RADIUS = "BlastRadius";
    /// A quota leaves no room for the new pods.
    QUOTA_EXHAUSTED = "QuotaExhausted";
    /// This incident has used up its actions or rounds.
    LOOP_BUDGET = "LoopBudget";
    /// The target was written to a short while ago.
    COOLDOWN = "Cooldown";
    /// The actions of this hour are used up.
    HOURLY_BUDGET = "HourlyBudget";
    /// The cascade breaker is open.
    BREAKER_OPEN = "BreakerOpen";
    /// Many workloads are unhealthy at once.
    STORM = "Storm";
    /// The audit log would not survive the pod.
    AUDIT_NOT_DURABLE = "AuditNotDurable";
    /// A person has to approve.
    APPROVAL_MISSING = "ApprovalMissing";
    /// Nobody approved in time.
    APPROVAL_TIMEOUT = "ApprovalTimeout";
    /// Every check passed.
    ALL_CHECKS_PASSED = "AllChecksPassed";
    /// The write did not make the target healthy in time.
    VERIFY_FAILED = "VerifyFailed";
    /// Somebody changed the field after our write.
    CHANGED_BY_OTHERS = "ChangedByOthers";
    /// The hands gave the Remediation up.
    REMEDIATION_ABORTED = "RemediationAborted";
    /// The API server refused a write that was granted.
    REFUSED_BY_POLICY = "RefusedByPolicy";
    /// The hands did not finish in time.
    EXECUTOR_SILENT = "ExecutorSilent";
    /// The check lets the action through.
    OK = "Ok";
    /// There is nothing that the check could be asked about.
    NOT_ASKED = "NotAsked";
}
