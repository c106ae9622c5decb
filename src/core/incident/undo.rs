//! Undoing: revert the repair exactly, and only if nobody else changed the field since; then escalate.

use crate::api::v1alpha1::{Actor, IncidentPhase, IncidentStatus, Purpose, Remediation, Time};
use crate::core::{
    actions::{self, Prediction},
    reason::Reason,
    timeline::{self, Event},
};

use super::{About, Effect, Next, Step, ending, remediation};

/// Begins to undo the repair.
pub(super) fn begin(about: About<'_>, mut status: IncidentStatus, repair: &Remediation, why: &str) -> Step {
    let mut effects = vec![Effect::CountAnomaly(Reason::VerifyFailed)];
    let repair = &repair.spec;
    let Some(Prediction { action, write, provenance, undo, .. }) = actions::undo_of(repair) else {
        let no_way_back = actions::of(repair.action.kind()).no_way_back.unwrap_or("it says no way back");
        let message = format!("{why}. It was not taken back: {no_way_back}");
        return ending::escalate_after(about, status, Reason::VerifyFailed, &message, effects);
    };
    let follows = Some(repair.action_id.clone());
    let plan = remediation::Plan { purpose: Purpose::Undo, follows, action, write, provenance, undo };
    let (name, spec) = remediation::remediation(about, plan);
    effects.push(Effect::Reserve(remediation::follow_up(about, &spec)));
    effects.push(Effect::CreateRemediation { name: name.clone(), spec: Box::new(spec) });
    timeline::note(&mut status, about.now, Actor::Controller, Event::UndoCreated, why);
    status.undo = Some(name);
    status.grant_epoch = None;
    status.message = why.chars().take(2000).collect();
    status.phase = IncidentPhase::Undoing;
    Step::write(effects, status, Next::Again)
}

/// The repair was undone.
pub(super) fn done(about: About<'_>, mut status: IncidentStatus, at: Time, mut effects: Vec<Effect>) -> Step {
    effects.push(Effect::CountAnomaly(Reason::Undone));
    timeline::note(&mut status, at, Actor::Executor, Event::Undone, "the field has its previous value again");
    let message = format!("{}. The write was undone exactly", status.message);
    ending::escalate_after(about, status, Reason::VerifyFailed, &message, effects)
}
