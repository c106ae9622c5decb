//! What a step asks for: effects are data, and whoever drives the state machine does them.

use serde_json::{Map, Value};

use crate::api::v1alpha1::{IncidentPhase, IncidentStatus, InvestigationSpec, LedgerState, OpenGrant, RemediationSpec};
use crate::core::{budget, reason::Reason};

/// One request that a step asks for. Each is safe to repeat.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Create the Investigation of a round; done when it exists already.
    CreateInvestigation {
        /// Its name.
        name: String,
        /// Its spec.
        spec: Box<InvestigationSpec>,
    },
    /// Count an anomaly in the Ledger: for each incident once for its answers, and once for each kind of what goes wrong
    /// with its writes.
    CountAnomaly(Reason),
    /// Reserve an action in the Ledger. May be refused: then [`super::refused`] says what follows.
    Reserve(budget::Charge),
    /// Note in the Ledger that many workloads fail at once, and that this incident tells people of all of them. May be
    /// refused when another one does: then [`super::refused`] says what follows.
    ClaimStorm(budget::storm::Claim),
    /// Record the outcome of an action in the Ledger.
    Settle {
        /// Identity of the action.
        action_id: String,
        /// What became of it.
        state: LedgerState,
    },
    /// The trial of a half-open breaker succeeded.
    TrialSucceeded {
        /// Identity of the action.
        action_id: String,
    },
    /// Create the Remediation; done when it exists already. It has no effect without a Grant.
    CreateRemediation {
        /// Its name.
        name: String,
        /// Its spec.
        spec: Box<RemediationSpec>,
    },
    /// A record that has to be on disk before what follows.
    Audit(Entry),
    /// A record of something that has happened: a failure to write it is logged and blocks nothing.
    AuditAfter(Entry),
    /// Open the Grant of the namespace, by compare-and-swap on the version that was read.
    OpenGrant {
        /// The Grant as it was read.
        version: String,
        /// The one write.
        open: Box<OpenGrant>,
    },
    /// Close the Grant if it is open for this Remediation.
    CloseGrant {
        /// Name of the Remediation.
        remediation: String,
    },
    /// Mark the Approvals of this digest as used.
    UseApproval {
        /// The digest.
        digest: String,
        /// Name of the Remediation.
        remediation: String,
    },
    /// Count or time something.
    Measure(Measure),
}

impl Effect {
    /// Word for logs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Effect::CreateInvestigation { .. } => "create-investigation",
            Effect::CountAnomaly(_) => "count-anomaly",
            Effect::Reserve(_) => "reserve",
            Effect::ClaimStorm(_) => "claim-storm",
            Effect::Settle { .. } => "settle",
            Effect::TrialSucceeded { .. } => "trial-succeeded",
            Effect::CreateRemediation { .. } => "create-remediation",
            Effect::Audit(_) | Effect::AuditAfter(_) => "audit",
            Effect::OpenGrant { .. } => "open-grant",
            Effect::CloseGrant { .. } => "close-grant",
            Effect::UseApproval { .. } => "use-approval",
            Effect::Measure(_) => "measure",
        }
    }
}

/// A record of the audit log, without what every record has.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// A constant such as `GrantOpening`.
    pub kind: &'static str,
    /// Identity of the action; `None` when the record is about none.
    pub action_id: Option<String>,
    /// Whatever else belongs to this kind of record.
    pub details: Map<String, Value>,
}

/// A notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The incident was handed to a person.
    Escalated,
    /// An Approval is asked for.
    ApprovalAsked,
    /// The incident is over.
    Resolved,
    /// What was counted of the incident opened a cascade breaker. Asked for wherever something is counted; whether one has
    /// opened is seen where it is told.
    BreakerOpened,
}

impl Notice {
    /// Every notification.
    pub const ALL: [Notice; 4] = [Notice::Escalated, Notice::ApprovalAsked, Notice::Resolved, Notice::BreakerOpened];

    /// The constant, as it stands in `status.notices`.
    pub fn as_str(self) -> &'static str {
        match self {
            Notice::Escalated => "Escalated",
            Notice::ApprovalAsked => "ApprovalAsked",
            Notice::Resolved => "Resolved",
            Notice::BreakerOpened => "BreakerOpened",
        }
    }

    /// The notification of this name; `None` for one of another version.
    pub fn named(name: &str) -> Option<Notice> {
        Notice::ALL.into_iter().find(|notice| notice.as_str() == name)
    }

    /// Whether people still need to hear it while the incident stands so.
    pub(super) fn is_news(self, status: &IncidentStatus) -> bool {
        let phase = status.phase;
        match self {
            Notice::Escalated => phase == IncidentPhase::Escalated,
            Notice::ApprovalAsked => phase == IncidentPhase::AwaitingApproval,
            Notice::Resolved => phase == IncidentPhase::Resolved,
            // Whoever is called for the incident hears of its breakers too.
            Notice::BreakerOpened => phase != IncidentPhase::Escalated || status.escalation.is_none(),
        }
    }
}

/// What is counted or timed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Measure {
    /// Seconds from receipt of the alert to the plan.
    ToPlan(f64),
    /// Seconds from receipt of the alert to the accepted write.
    ToFire(f64),
    /// Seconds from the accepted write to recovery.
    ToRecovery(f64),
    /// A decision of the gate.
    Decided(&'static str, Reason),
    /// An incident reached its final phase.
    Ended(Reason),
}
