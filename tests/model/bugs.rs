//! Bugs that the check has to find, each planted at an edge of the product's functions: in what goes in, in what comes
//! out, in the order in which it is done, or in what the API server compares. None is in the product.

use backstop::{
    api::v1alpha1::{Grant, Incident, IncidentPhase, IncidentStatus, LedgerState, Time},
    core::{
        execution::{self, Memory, Next as Turn, Observation, Verb, Wait, model::Model},
        incident::{self, Effect, Next, Seen, Step, Terms},
        names,
        reason::Reason,
    },
};
use serde_json::Value;

/// Which bug is planted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Bug {
    /// None: the product.
    #[default]
    None,
    /// No record before a Grant is opened.
    NoRecord,
    /// Nothing is reserved before the write.
    NoReservation,
    /// What was written is refunded.
    RefundsWritten,
    /// What nobody knows the outcome of is refunded.
    RefundsUnknown,
    /// What is refused right before the write is refunded, as if no opening could be under way.
    RefundsRefused,
    /// A controller that has lost its Lease goes on until it learns of it.
    GoesOnWithoutLease,
    /// The Grant is opened before the status that says so is stored.
    OpensFirst,
    /// Grants are not closed.
    LeavesGrantsOpen,
    /// A Grant that somebody closed for a Remediation is opened for it again.
    OpensAgain,
    /// Grants are opened whatever they are by then.
    OpensBlindly,
    /// A Grant that is closed is not written when it is closed again.
    ClosesCarelessly,
    /// Which claim the Grant was opened for is forgotten.
    ForgetsTheClaim,
    /// The executor is waited for without an end.
    WaitsForEver,
    /// Nobody is told.
    TellsNobody,
    /// The write whose outcome was unknown is forgotten.
    ForgetsTheUnknown,
    /// The status is stored before the effects are done.
    StatusFirst,
    /// The Ledger is written without a comparison.
    LedgerLosesUpdates,
    /// The executor does not look for the mark of its own write.
    ForgetsItsWrite,
    /// The executor takes a Grant for an earlier claim for its own.
    TakesAnyClaim,
    /// The executor does not take its label off.
    NeverDisarms,
    /// The static policy does not look at the mode.
    PolicyIgnoresMode,
    /// The grant policy does not look at the time.
    PolicyIgnoresExpiry,
    /// The API server does not see that a Grant was closed.
    PolicyIsBlind,
    /// The executor does not look for the mark of its own write, nor does the static policy.
    WritesTwice,
}

/// The step of the controller.
pub fn controller(bug: Bug, incident: &Incident, seen: &Seen, terms: &Terms, now: Time) -> Step {
    let step = || incident::step(incident, seen, terms, now);
    let without = |dropped: fn(&Effect) -> bool| {
        let mut step = step();
        step.effects.retain(|effect| !dropped(effect));
        step
    };
    match bug {
        Bug::NoRecord => without(|effect| matches!(effect, Effect::Audit(_))),
        Bug::NoReservation => without(|effect| matches!(effect, Effect::Reserve(_))),
        Bug::LeavesGrantsOpen => without(|effect| matches!(effect, Effect::CloseGrant { .. })),
        Bug::RefundsWritten => {
            let mut step = step();
            for effect in &mut step.effects {
                if let Effect::Settle { state, .. } = effect {
                    *state = LedgerState::Refunded;
                }
            }
            step
        }
        Bug::RefundsUnknown => {
            let mut step = step();
            let silent = step.effects.contains(&Effect::CountAnomaly(Reason::ExecutorSilent));
            let decided = incident.status.as_ref().and_then(|status| status.decision.as_ref());
            if silent && let Some(action_id) = decided.and_then(|decision| decision.action_id.clone()) {
                step.effects.push(Effect::Settle { action_id, state: LedgerState::Refunded });
            }
            step
        }
        Bug::OpensFirst => {
            let mut step = step();
            if step.after.iter().any(|effect| matches!(effect, Effect::OpenGrant { .. })) {
                step.effects.append(&mut step.after);
            }
            step
        }
        Bug::RefundsRefused => {
            let mut step = step();
            let status = incident.status.as_ref();
            let asked = matches!(seen, Seen::WriteAndJudgement(_)) && status.is_some_and(|it| it.grant_epoch.is_none());
            let refused = step.status.as_ref().is_some_and(|status| status.phase.is_final());
            let action = status.and_then(|status| status.decision.as_ref()?.action_id.clone());
            if let Some(action_id) = action.filter(|_| asked && refused) {
                step.effects.insert(0, Effect::Settle { action_id, state: LedgerState::Refunded });
            }
            step
        }
        Bug::OpensBlindly => {
            let mut step = step();
            for effect in step.effects.iter_mut().chain(&mut step.after) {
                if let Effect::OpenGrant { version, .. } = effect {
                    version.clear();
                }
            }
            step
        }
        Bug::ForgetsTheClaim => forgets_the_claim(incident, seen, terms, now),
        Bug::WaitsForEver => {
            let mut incident = incident.clone();
            if let Some(status) = &mut incident.status
                && status.phase == IncidentPhase::Remediating
                && let Some(last) = status.timeline.last_mut()
            {
                last.at = now;
            }
            incident::step(&incident, seen, terms, now)
        }
        Bug::TellsNobody => {
            let mut step = step();
            if matches!(step.next, Next::Deliver(_)) {
                step.next = Next::After(std::time::Duration::from_hours(1));
            }
            step
        }
        Bug::ForgetsTheUnknown => {
            let mut step = step();
            if let Some(status) = &mut step.status {
                status.unsettled = None;
            }
            step
        }
        _ => step(),
    }
}

fn forgets_the_claim(incident: &Incident, seen: &Seen, terms: &Terms, now: Time) -> Step {
    let forget = |status: &mut IncidentStatus| {
        if status.phase == IncidentPhase::Remediating {
            status.grant_epoch = None;
        }
    };
    let mut seen = seen.clone();
    if let Seen::WriteAndJudgement(found) = &mut seen
        && let Some(grant) = &mut found.grant
    {
        grant.spec.open = None;
    }
    let mut step = incident::step(incident, &seen, terms, now);
    if let Some(status) = &mut step.status {
        forget(status);
    }
    step
}

/// Whether the right to open Grants is asked for again right before it is used.
pub fn closes_carelessly(bug: Bug) -> bool {
    bug == Bug::ClosesCarelessly
}

/// The step of the executor.
pub fn executor(bug: Bug, memory: &mut Memory, seen: &Observation, now: Time) -> Turn {
    match bug {
        Bug::ForgetsItsWrite | Bug::WritesTwice => {
            let mut seen = seen.clone();
            if let Some(Value::Object(annotations)) =
                seen.target.as_mut().and_then(|target| target.pointer_mut("/metadata/annotations"))
            {
                annotations.remove(names::LAST_ACTION);
            }
            execution::step(memory, &seen, now)
        }
        Bug::TakesAnyClaim => {
            let mut seen = seen.clone();
            let epoch = seen.remediation.status.as_ref().map(|status| status.epoch);
            if let (Some(grant), Some(epoch)) = (&mut seen.grant, epoch)
                && let Some(open) = &mut grant.spec.open
            {
                open.epoch = epoch;
            }
            execution::step(memory, &seen, now)
        }
        Bug::NeverDisarms => match execution::step(memory, seen, now) {
            Turn::Send(request) if request.verb == Verb::Disarm => {
                Turn::Wait(Wait::OtherAction, std::time::Duration::from_secs(5))
            }
            next => next,
        },
        _ => execution::step(memory, seen, now),
    }
}

/// What the API server compares a request with.
pub fn admission(bug: Bug, model: &mut Model, grant: &Grant) {
    match bug {
        Bug::PolicyIgnoresMode => model.mode = "auto",
        Bug::PolicyIgnoresExpiry => {
            if let Some(open) = &grant.spec.open {
                model.now = model.now.min(open.not_after);
            }
        }
        Bug::WritesTwice => {
            if let Some(Value::Object(annotations)) =
                model.target.as_mut().and_then(|target| target.pointer_mut("/metadata/annotations"))
            {
                annotations.remove(names::LAST_ACTION);
            }
        }
        _ => {}
    }
}
