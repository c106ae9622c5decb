//! The state machine of an incident: its stored status and what was read go in, the next effects and the next status
//! come out. The controller only reads, sends and stores.
//!
//! [`need`] says what a step has to have read, [`step`] decides. The effects of a [`Step`] are done in order; when one
//! fails nothing after it is done, and the step is taken again from a new observation. Each effect is therefore safe to
//! repeat: objects have names that follow from their inputs, the Ledger counts an action once, a Grant opens once for
//! each epoch of a claim. The status is written by compare-and-swap after the effects, and is what the next step
//! begins from: a crash between two requests is a repetition of the second.

mod anomaly;
mod approval;
mod asking;
mod diagnosis;
mod effect;
mod ending;
mod held;
mod judgement;
mod late;
mod opening;
mod outcome;
mod plan;
mod question;
mod remediation;
mod reroute;
mod round;
mod telling;
mod undo;
mod unneeded;
mod unsettled;
mod verification;
mod watch;
mod write;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::SignedDuration;
use serde::Deserialize;

use crate::api::v1alpha1::{
    Grant, Incident, IncidentPhase, IncidentStatus, Investigation, ModelChain, ObjectRef, PolicyException, Remediation,
    Runbook, Severity, Time,
};

use super::{
    blast::Reach,
    budget::{Budgets, storm::FailingTargets},
    gate::{Unreadable, ValidApproval},
    neighbours::Storm,
    policy::{CompiledPolicy, CompiledRunbook},
    surroundings::Successor,
    workload::{Presence, Workload},
};

pub use diagnosis::cites;
pub use effect::{Effect, Entry, Measure, Notice};
pub use ending::{blocked, next_step, refused};
pub use judgement::unanswered;
pub use round::DEADLINE_SECONDS;
pub use telling::{deliveries, has_to_tell, nothing_to_tell, occasion, to_tell, told};

/// Durations of an incident, in seconds.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Timings {
    /// A revision counts as known good after all its replicas were ready for this long.
    pub known_good_seconds: u32,
    /// After a write the target must stay healthy for this long.
    pub verify_settle_seconds: u32,
    /// After a write the rollout may stand still for this long without the target being healthy. Where the workload
    /// itself grants more (`progressDeadlineSeconds`, `minReadySeconds`), that counts.
    pub verify_timeout_seconds: u32,
    /// A recovered target is watched for at least this long. An alert about a healthy target that goes on for this long
    /// is told to a person.
    pub watch_seconds: u32,
    /// An alert that still fires this long after the recovery is told to a person.
    pub alert_goes_on_seconds: u32,
    /// How long to wait for evidence that may still come. What rounds with models take is not counted.
    pub evidence_wait_seconds: u32,
    /// Validity of a Grant; at most 60.
    pub grant_seconds: u32,
    /// How long an incident waits for an Approval.
    pub approval_timeout_seconds: u32,
}

impl Default for Timings {
    fn default() -> Self {
        Timings {
            known_good_seconds: 30,
            verify_settle_seconds: 10,
            verify_timeout_seconds: 300,
            watch_seconds: 900,
            alert_goes_on_seconds: 600,
            evidence_wait_seconds: 60,
            grant_seconds: 60,
            approval_timeout_seconds: 1800,
        }
    }
}

/// Settings of the installation that apply to all incidents.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// Durations.
    pub timings: Timings,
    /// Budgets across incidents.
    pub budgets: Budgets,
    /// Namespace of the operator, for commands in sentences.
    pub system: String,
    /// Prometheus is configured.
    pub metrics: bool,
    /// The executor may evict pods.
    pub evict_pods: bool,
    /// Names of the diagnosers, in order; the last is the lowest rung.
    pub chain: Vec<String>,
}

/// What a step has to have read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing.
    Nothing,
    /// Mode, Policies and Runbooks, as the watches last showed them: for what is only shown or asked.
    Rules,
    /// The Investigation that the status names.
    Round,
    /// Everything that a decision depends on, by quorum reads.
    Judgement,
    /// Whether an alert fires, and the Approvals.
    Approvals,
    /// The Remediation in flight.
    Write(Flight),
    /// The Remediation in flight, the Grant of the namespace, and everything that a decision depends on.
    WriteAndJudgement(Flight),
    /// The Remediation that repaired, and the target.
    Target,
    /// The target of a resolved incident, and whether an alert still fires.
    Watch,
    /// What people are told: a notification is due.
    Notice,
}

/// Which Remediation is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flight {
    /// The one that repairs.
    Repair,
    /// The one that undoes the repair.
    Undo,
    /// The one that replaces a stuck pod.
    Replacement,
}

/// What was read, as the [`Need`] said.
#[derive(Clone, Debug)]
pub enum Seen {
    /// For [`Need::Nothing`].
    Nothing,
    /// For [`Need::Rules`].
    Rules(Box<Rules>),
    /// For [`Need::Round`]: `None` while it does not exist.
    Round(Option<Box<Investigation>>),
    /// For [`Need::Judgement`].
    Judgement(Box<JudgementInputs>),
    /// For [`Need::Approvals`].
    Approvals {
        /// An alert of the incident is firing.
        firing: bool,
        /// The Approvals that are valid for the incident.
        approvals: Vec<ValidApproval>,
    },
    /// For [`Need::Write`]: `None` when it does not exist.
    Write(Option<Box<Remediation>>),
    /// For [`Need::WriteAndJudgement`].
    WriteAndJudgement(Box<WriteAndJudgement>),
    /// For [`Need::Target`].
    Target(Box<Target>),
    /// For [`Need::Watch`].
    Watch(Box<Watched>),
    /// For [`Need::Notice`]; the text for people is put together where it is sent.
    Notice,
}

/// Mode, Policies and Runbooks of a namespace.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Value of the namespace's mode label.
    pub mode: Option<String>,
    /// When what the namespace enforces of pod security last changed; absent where it enforces nothing.
    pub pod_security_at: Option<Time>,
    /// The namespace is enrolled: the executor has rights in it.
    pub enrolled: bool,
    /// Policies of the namespace and of the system namespace.
    pub policies: Arc<[CompiledPolicy]>,
    /// Runbooks that match the incident.
    pub runbooks: Vec<Runbook>,
    /// What they say in CEL, by `namespace/name`, where a decision asks for it.
    pub compiled: BTreeMap<String, CompiledRunbook>,
    /// PolicyExceptions of the namespace and of the system namespace, where a decision asks for them.
    pub exceptions: Vec<PolicyException>,
    /// The ModelChains of the system namespace, for the plan; `None` when they could not be read, or are not asked for.
    pub chains: Option<Vec<ModelChain>>,
}

/// Everything that a decision depends on. The workload is the controller's own reading; the Investigation is a lead.
#[derive(Clone, Debug)]
pub struct JudgementInputs {
    /// An alert of the incident is firing.
    pub firing: bool,
    /// Mode, Policies and Runbooks, by quorum.
    pub rules: Rules,
    /// The latest round.
    pub investigation: Option<Investigation>,
    /// The target, or why it could not be read.
    pub workload: Result<Workload, Unreadable>,
    /// What is counted and asked for elsewhere.
    pub books: Books,
}

/// What is counted and asked for elsewhere.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// The Ledger of actions.
    pub ledger: crate::api::v1alpha1::LedgerStatus,
    /// Revisions of the namespace that were seen healthy.
    pub known_good: Vec<crate::api::v1alpha1::KnownGood>,
    /// Which objects that the earlier template of the target names exist.
    pub presence: Vec<Presence>,
    /// A quota that has no room.
    pub full_quota: Option<String>,
    /// The Approvals that are valid for the incident.
    pub approvals: Vec<ValidApproval>,
    /// Many workloads of the namespace fail at once, the target among them.
    pub storm: Option<Storm>,
    /// Why the other workloads of the namespace could not be read; `None` when they were, or need not be.
    pub neighbours_unread: Option<Unreadable>,
    /// Workloads of the namespace that have pods; 0 where nobody looked.
    pub workloads_of_namespace: usize,
    /// Enrolled targets of the cluster that were read as failing, with incidents inside the storm window.
    pub failing_targets: FailingTargets,
    /// The audit log can be written and outlives the pod.
    pub audit_durable: bool,
    /// What a write can reach, or why that could not be read; `None` where nobody looked, because nothing fails or the
    /// namespace is not enrolled.
    pub reach: Option<Result<Reach, Unreadable>>,
    /// Labels of the newest alert that fires.
    pub alert_labels: BTreeMap<String, String>,
}

/// A Remediation in flight with everything that a decision depends on.
#[derive(Clone, Debug)]
pub struct WriteAndJudgement {
    /// The Remediation; `None` when it does not exist.
    pub remediation: Option<Remediation>,
    /// The Remediation that repaired, which the one in flight undoes or completes; `None` for a repair itself.
    pub repair: Option<Remediation>,
    /// The Grant of the namespace.
    pub grant: Option<Grant>,
    /// Everything that a decision depends on.
    pub case: JudgementInputs,
}

/// The target after a write.
#[derive(Clone, Debug)]
pub struct Target {
    /// The Remediation that repaired; `None` when it does not exist any more.
    pub repair: Option<Remediation>,
    /// The target, or why it could not be read.
    pub workload: Result<Workload, Unreadable>,
}

/// A target after its incident was resolved.
#[derive(Clone, Debug)]
pub struct Watched {
    /// The Remediation that repaired; `None` when nothing was repaired, or it does not exist any more.
    pub repair: Option<Remediation>,
    /// The target, or why it could not be read.
    pub workload: Result<Workload, Unreadable>,
    /// An alert of the incident is firing.
    pub firing: bool,
    /// A later incident about the same target, as severe, that has it.
    pub successor: Option<Successor>,
}

/// What follows from an observation.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Done in order, before the status is written.
    pub effects: Vec<Effect>,
    /// Written by compare-and-swap after the effects; `None` when it stays as it is.
    pub status: Option<Box<IncidentStatus>>,
    /// Done in order, after the status was written. The next step would do them too.
    pub after: Vec<Effect>,
    /// What then.
    pub next: Next,
}

/// What follows a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Take the next step at once.
    Again,
    /// The same step, with more read.
    Look(Need),
    /// Take the next step after this time, or when something changes.
    After(Duration),
    /// Notify people; [`told`] records the outcome.
    Deliver(Notice),
}

impl Step {
    fn wait(pause: Duration) -> Step {
        Step { effects: Vec::new(), status: None, after: Vec::new(), next: Next::After(pause) }
    }

    fn look(need: Need) -> Step {
        Step { effects: Vec::new(), status: None, after: Vec::new(), next: Next::Look(need) }
    }

    fn effect(effect: Effect, pause: Duration) -> Step {
        Step { effects: vec![effect], ..Step::wait(pause) }
    }

    /// Writes `status` after `effects`.
    fn write(effects: Vec<Effect>, status: IncidentStatus, next: Next) -> Step {
        Step { effects, status: Some(Box::new(status)), after: Vec::new(), next }
    }

    fn then(mut self, after: Effect) -> Step {
        self.after.push(after);
        self
    }

    /// Asks for a notification with the status that the step writes: it is delivered once that is stored.
    fn telling(mut self, notice: Notice, now: Time) -> Step {
        if let Some(status) = &mut self.status {
            telling::ask(status, notice, now);
        }
        self
    }
}

/// Resync interval when nothing is due; a watch reports changes earlier.
const IDLE: Duration = Duration::from_secs(3600);

/// What the next step of `incident` has to have read.
pub fn need(incident: &Incident, now: Time) -> Need {
    let status = status(incident);
    match status.phase {
        IncidentPhase::Open => Need::Rules,
        IncidentPhase::Investigating => Need::Round,
        IncidentPhase::Judging => judgement::need(&status, now),
        IncidentPhase::AwaitingApproval | IncidentPhase::Escalated | IncidentPhase::Resolved
            if telling::due(&status, now).is_some() =>
        {
            Need::Notice
        }
        IncidentPhase::AwaitingApproval => Need::Approvals,
        IncidentPhase::Remediating => Need::Write(Flight::Repair),
        IncidentPhase::Verifying if status.replacement.is_some() => Need::Write(Flight::Replacement),
        IncidentPhase::Verifying => Need::Target,
        IncidentPhase::Undoing => Need::Write(Flight::Undo),
        IncidentPhase::Escalated | IncidentPhase::Resolved => unsettled::flight(&status)
            .map_or(if status.is_watched() { Need::Watch } else { Need::Nothing }, Need::Write),
    }
}

/// Whether the step from `seen` asks no check and no rule that people wrote: it says whom to tell, or that nothing is left to do.
pub fn only_tells(incident: &Incident, seen: &Seen) -> bool {
    let over = incident.status.as_ref().is_some_and(|status| status.phase.is_final());
    matches!(seen, Seen::Notice) || (over && matches!(seen, Seen::Nothing))
}

/// How long an incident that is over rests by itself between two steps, at most; none while people were never tried to be told.
pub fn longest_rest(status: &IncidentStatus) -> SignedDuration {
    if status.is_watched() { watch::SELDOM } else { telling::rest(status) }
}

/// Takes one step. An observation that does not fit the phase (the status moved on since) is asked for again. Whoever counts an
/// anomaly may have opened a cascade breaker, which people are told of however the incident ends.
pub fn step(incident: &Incident, seen: &Seen, terms: &Terms, now: Time) -> Step {
    telling::of_breakers(taken(incident, seen, terms, now), now)
}

fn taken(incident: &Incident, seen: &Seen, terms: &Terms, now: Time) -> Step {
    let about = About { incident, terms, now };
    let status = status(incident);
    match (status.phase, seen) {
        (IncidentPhase::Open, Seen::Rules(rules)) => plan::write(about, status, rules),
        (IncidentPhase::Investigating, Seen::Round(round)) => round::step(about, status, round.as_deref()),
        (IncidentPhase::Judging, Seen::Nothing) => judgement::pause(about, status),
        (IncidentPhase::Judging, Seen::Judgement(case)) => judgement::step(about, status, case),
        (IncidentPhase::AwaitingApproval, Seen::Approvals { firing, approvals }) => {
            approval::step(about, status, *firing, approvals)
        }
        (IncidentPhase::Remediating, Seen::Write(found)) => {
            write::follow(about, status, Flight::Repair, found.as_deref())
        }
        (IncidentPhase::Remediating, Seen::WriteAndJudgement(found)) => {
            write::grant(about, status, Flight::Repair, found)
        }
        (IncidentPhase::Verifying, Seen::Write(found)) if status.replacement.is_some() => {
            write::follow(about, status, Flight::Replacement, found.as_deref())
        }
        (IncidentPhase::Verifying, Seen::WriteAndJudgement(found)) if status.replacement.is_some() => {
            write::grant(about, status, Flight::Replacement, found)
        }
        (IncidentPhase::Verifying, Seen::Target(target)) => verification::step(about, status, target),
        (IncidentPhase::Undoing, Seen::Write(found)) => write::follow(about, status, Flight::Undo, found.as_deref()),
        (IncidentPhase::Undoing, Seen::WriteAndJudgement(found)) => write::grant(about, status, Flight::Undo, found),
        (IncidentPhase::Escalated | IncidentPhase::Resolved, Seen::Write(found)) => match unsettled::flight(&status) {
            Some(flight) => late::step(about, status, flight, found.as_deref()),
            None => ending::idle(&status, now),
        },
        (IncidentPhase::Resolved, Seen::Watch(watched)) if status.is_watched() => watch::step(about, status, watched),
        (IncidentPhase::Escalated | IncidentPhase::Resolved, Seen::Nothing) => ending::idle(&status, now),
        (_, Seen::Notice) => match telling::due(&status, now) {
            Some(notice) => Step { next: Next::Deliver(notice), ..Step::wait(IDLE) },
            None => Step::look(need(incident, now)),
        },
        (_, _) => Step::look(need(incident, now)),
    }
}

/// What every step is about.
#[derive(Clone, Copy)]
struct About<'a> {
    incident: &'a Incident,
    terms: &'a Terms,
    now: Time,
}

impl About<'_> {
    fn name(&self) -> &str {
        self.incident.metadata.name.as_deref().unwrap_or_default()
    }

    fn target(&self) -> Option<&ObjectRef> {
        self.incident.spec.target.as_ref()
    }

    /// None of its alerts is more than informational: it calls nobody.
    fn only_informs(&self) -> bool {
        self.incident.spec.severity == Severity::Info
    }

    /// When the first alert began, by its sender's clock.
    fn alert_started_at(&self) -> Time {
        let spec = &self.incident.spec;
        spec.alerts.iter().map(|alert| alert.starts_at).min().unwrap_or(spec.opened_at)
    }

    /// Seconds since the intake received the first alert.
    fn seconds_since_alert(&self, at: Time) -> f64 {
        at.duration_since(self.incident.spec.opened_at).as_secs_f64().max(0.0)
    }
}

/// The status as it is stored.
fn status(incident: &Incident) -> IncidentStatus {
    incident.status.clone().unwrap_or_default()
}

/// Word of a severity, as senders write it.
pub fn severity_word(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Low => "low",
        Severity::Warning => "warning",
        Severity::Error => "error",
        Severity::Critical => "critical",
    }
}
