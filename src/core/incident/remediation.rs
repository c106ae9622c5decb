//! The Remediation of an incident: what is written down of an exact write before anything happens.

use crate::api::v1alpha1::{
    Action, Actor, IncidentPhase, IncidentStatus, ObjectRef, Purpose, Remediation, RemediationSpec, Undo, Verify, Write,
};
use crate::core::{
    actions::{Prediction, identity},
    budget, fit, names,
    reason::Reason,
    timeline::{self, Event},
};

use super::{About, Effect, Next, Step, ending};

/// What a Remediation is made from.
pub(super) struct Plan {
    pub purpose: Purpose,
    pub follows: Option<String>,
    pub action: Action,
    pub write: Write,
    pub provenance: Option<ObjectRef>,
    pub undo: Option<Undo>,
}

/// The Remediation of `plan` with its name: the identity follows from the rest.
pub(super) fn remediation(about: About<'_>, plan: Plan) -> (String, RemediationSpec) {
    let seconds = |value: u32| i32::try_from(value).unwrap_or(3600);
    let Plan { purpose, follows, action, write, provenance, undo } = plan;
    let mut spec = RemediationSpec {
        incident: about.name().to_owned(),
        action_id: String::new(),
        digest: String::new(),
        action,
        purpose,
        follows,
        target: about.target().cloned().unwrap_or_default(),
        write,
        provenance,
        verify: Verify {
            settle_seconds: seconds(about.terms.timings.verify_settle_seconds),
            timeout_seconds: seconds(about.terms.timings.verify_timeout_seconds),
        },
        undo,
        request_id: about.incident.spec.request_id.clone(),
    };
    (spec.digest, spec.action_id) = identity::identity(&spec);
    (names::readable(&spec.target.name, &spec.action_id), spec)
}

/// What the Ledger counts for a write that completes a repair or takes it back.
pub(super) fn follow_up(about: About<'_>, spec: &RemediationSpec) -> budget::Charge {
    budget::Charge::following(spec.action.kind(), &spec.action_id, about.name(), &spec.target)
}

/// Writes down the exact action that was decided. Without a Grant it does nothing, so it may exist before the phase
/// says so.
pub(super) fn begin_repair(
    about: About<'_>,
    mut status: IncidentStatus,
    prediction: Prediction,
    mut effects: Vec<Effect>,
) -> Step {
    let Prediction { action, write, provenance, undo, diff } = prediction;
    // Before it is charged: it could neither be stored nor granted.
    if let Some(message) = fit::too_large(&write) {
        return ending::escalate(about, status, Reason::WriteTooLarge, &message);
    }
    let plan = Plan { purpose: Purpose::Repair, follows: None, action, write, provenance, undo };
    let (name, spec) = remediation(about, plan);
    let decided = status.decision.as_ref().map(|decision| (decision.action_id.as_ref(), decision.digest.as_ref()));
    if decided != Some((Some(&spec.action_id), Some(&spec.digest))) {
        // What was decided and what would be written differ: a bug, and nothing is written.
        let message = format!("the Remediation would have digest {}, which was not decided", spec.digest);
        return ending::escalate(about, status, Reason::DigestMismatch, &message);
    }
    effects.push(Effect::CreateRemediation { name: name.clone(), spec: Box::new(spec) });
    let what: Vec<String> = diff.iter().map(|c| format!("{}: {} -> {}", c.path, c.before, c.after)).collect();
    timeline::note(&mut status, about.now, Actor::Controller, Event::RemediationCreated, what.join("; "));
    status.remediation = Some(name);
    status.grant_epoch = None;
    status.phase = IncidentPhase::Remediating;
    Step::write(effects, status, Next::Again)
}

pub(super) fn name_of(remediation: &Remediation) -> &str {
    remediation.metadata.name.as_deref().unwrap_or_default()
}
