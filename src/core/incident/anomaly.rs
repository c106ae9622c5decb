//! Which ends of a repair that was not written say that something is wrong with Backstop or its policies.

use crate::core::reason::Reason;

/// Whether an executor that gave a repair up for this reason met what should never happen. It counts for the cascade breaker
/// of the namespace under its own name.
///
/// The match names every reason, so that a new one has to be placed. What people do to the target, its namespace or their
/// Approvals between the decision and the write, what a flapping pod looks like, what others admit, and what Backstop cannot
/// do at the moment are none: they are obeyed, and say nothing of what Backstop wanted to write.
pub(super) fn is_anomaly(reason: Reason) -> bool {
    match reason {
        // Backstop's own policies refuse what was granted, or one of them is missing; a Remediation is not what it says, or
        // nothing that this executor knows.
        Reason::RefusedByPolicy | Reason::PolicyMissing | Reason::DigestMismatch | Reason::Unsupported => true,
        // How the target is, and what the API server or other controllers did.
        Reason::Recovered
        | Reason::AlertResolved
        | Reason::NothingWrong
        | Reason::StillFailing
        | Reason::Relapsed
        | Reason::AlertGoesOn
        | Reason::TargetGone
        | Reason::NothingFails
        | Reason::ReplicasNotReady
        | Reason::OwnedByController
        | Reason::ManagedByGitOps
        | Reason::ManagedByHelm
        | Reason::ManagedByTool
        | Reason::FailingPodsNotCurrent
        | Reason::TemplateUnchanged
        | Reason::FailureUnexplained
        | Reason::ReferenceMissing
        | Reason::RolloutNotRecent
        | Reason::OnlyOneRevision
        | Reason::RevisionUnknown
        | Reason::EarlierRevisionUnproven
        | Reason::RolloutPaused
        | Reason::RolloutUnderWay
        | Reason::RestartCuresNothing
        | Reason::RestartUnproven
        | Reason::NewPodsRefused
        | Reason::UpdateStrategyOnDelete
        | Reason::OpinionsDiffer
        | Reason::KindNotSupported
        | Reason::TargetChanged
        | Reason::TargetHasFinalizers
        | Reason::RevisionGone
        | Reason::TooManyConflicts
        | Reason::ChangedByOthers
        | Reason::DisarmedByOthers
        | Reason::Reverted
        | Reason::RefusedByAdmission
        | Reason::DryRunDiffers
        | Reason::QuotaExhausted
        | Reason::BlockedByDisruptionBudget => false,
        // What people said.
        Reason::Protected
        | Reason::ModeForbids
        | Reason::ApprovalMissing
        | Reason::ApprovalDenied
        | Reason::ApprovalTimeout
        | Reason::PolicyInvalid
        | Reason::PolicyTooExpensive
        | Reason::TooManyPolicies
        | Reason::ActionNotAllowed
        | Reason::PolicyValidationFailed
        | Reason::OutsideWindow
        | Reason::RunbookForbids
        | Reason::OverLimit
        | Reason::TooManyAtOnce
        | Reason::NotEnrolled => false,
        // What Backstop could not do at the time.
        Reason::ClusterUnreadable
        | Reason::NotReady
        | Reason::NoGrant
        | Reason::GrantExpired
        | Reason::ClaimsExhausted
        | Reason::Refused
        | Reason::RequestRefused
        | Reason::EvictionNotAllowed
        | Reason::AuditNotDurable
        | Reason::NameTaken
        | Reason::NoProgress
        | Reason::WriteTooLarge
        | Reason::ChecksUnanswered
        | Reason::RemediationAborted => false,
        // No executor gives these.
        Reason::TargetUnresolved
        | Reason::TargetNotFound
        | Reason::TargetAmbiguous
        | Reason::TargetInvalid
        | Reason::ForeignNamespace
        | Reason::InvestigationTimeout
        | Reason::NothingProposed
        | Reason::ClaimUncited
        | Reason::ClaimUnsupported
        | Reason::ClaimUngrounded
        | Reason::CauseUngrounded
        | Reason::ObjectUnknown
        | Reason::ReviewerObjects
        | Reason::ConfidenceTooLow
        | Reason::WrongTarget
        | Reason::FactsStale
        | Reason::BlastRadius
        | Reason::LoopBudget
        | Reason::Cooldown
        | Reason::HourlyBudget
        | Reason::DailyBudget
        | Reason::TargetHeld
        | Reason::BreakerOpen
        | Reason::Storm
        | Reason::WrittenLate
        | Reason::WriteUnproven
        | Reason::AllChecksPassed
        | Reason::VerifyFailed
        | Reason::ExecutorSilent
        | Reason::Ok
        | Reason::NotAsked
        | Reason::Fired
        | Reason::ConfigurationChangedToo
        | Reason::TooManyUntold
        | Reason::Undone => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_backstop_itself_should_never_have_wanted_is_an_anomaly() {
        let counted: Vec<&str> =
            Reason::ALL.iter().filter(|reason| is_anomaly(**reason)).map(|reason| reason.as_str()).collect();
        assert_eq!(counted, ["RefusedByPolicy", "DigestMismatch", "Unsupported", "PolicyMissing"]);
    }
}
