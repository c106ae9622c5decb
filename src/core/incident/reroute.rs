//! The one re-route: where an answer of a model turns out not to be grounded, one more round is asked of the stronger rung
//! that the plan names for it, once per incident. Without one the rules' answer decides.

use crate::api::v1alpha1::{Actor, IncidentStatus, PlannedChain, PlannedRung, RefusedAnswer, Reroute};
use crate::core::{
    gate::{self, Ungrounded},
    redact::quoted,
    timeline::{self, Event},
};

use super::{About, Effect, Entry, diagnosis::cut};

/// Refused answers that a status holds.
const MAX_REFUSED: usize = 8;

/// The rung that is asked once more because this one's answer did not hold; `None` when there is none, or one was asked
/// already.
pub(super) fn stronger<'a>(status: &'a IncidentStatus, from: &str) -> Option<&'a str> {
    if status.reroute.is_some() || status.rounds >= gate::MAX_ROUNDS {
        return None;
    }
    let rungs = &planned(status)?.rungs;
    let rung = |name: &str| rungs.iter().find(|rung| rung.name == name);
    let to = rung(from)?.on_ungrounded.as_deref()?;
    rung(to).map(|rung| rung.name.as_str()).filter(|to| *to != from)
}

/// The answer that was refused in the latest round that asked models.
pub(super) fn refused(status: &IncidentStatus) -> Option<&RefusedAnswer> {
    let asked = status.models.as_ref()?.latest;
    status.refused_answers.iter().rev().find(|answer| answer.round == asked)
}

/// The diagnosers of the next round, in order: what the plan says, and after a re-route from the stronger rung on. The one
/// whose answer did not hold is not asked again.
pub(super) fn diagnosers(status: &IncidentStatus) -> Vec<String> {
    let all = status.plan.as_ref().map(|plan| plan.diagnosers.as_slice()).unwrap_or_default();
    let Some(Reroute { from, to, .. }) = status.reroute.as_deref() else { return all.to_vec() };
    let Some(begin) = all.iter().position(|name| name == to) else { return all.to_vec() };
    all.iter().skip(begin).filter(|name| *name != from).cloned().collect()
}

/// The rung of the plan by this name.
pub(super) fn rung<'a>(status: &'a IncidentStatus, name: &str) -> Option<&'a PlannedRung> {
    planned(status)?.rungs.iter().find(|rung| rung.name == name)
}

fn planned(status: &IncidentStatus) -> Option<&PlannedChain> {
    status.plan.as_ref()?.model_chain.as_ref()
}

/// Puts an answer that did not hold on the record.
pub(super) fn note(about: About<'_>, status: &mut IncidentStatus, ungrounded: &Ungrounded) {
    let Ungrounded { diagnoser, reason, message, hypothesis, action, confidence, only_unsure: _ } = ungrounded;
    let same = |old: &RefusedAnswer| {
        old.diagnoser == *diagnoser
            && old.round == status.rounds
            && old.reason == reason.as_str()
            && old.action == *action
    };
    if status.refused_answers.iter().any(same) {
        return;
    }
    let sentence = format!("the answer of {diagnoser} decides nothing: {reason}: {message}");
    timeline::note(status, about.now, Actor::Controller, Event::AnswerRefused, sentence);
    if status.refused_answers.len() >= MAX_REFUSED {
        status.refused_answers.remove(0);
    }
    status.refused_answers.push(RefusedAnswer {
        diagnoser: cut(diagnoser, 64),
        round: status.rounds,
        reason: reason.as_str().into(),
        message: cut(message, 512),
        hypothesis: cut(hypothesis, 256),
        action: action.clone(),
        confidence: (*confidence).clamp(0, 100),
    });
}

/// Puts on the record that `to` is asked once more; the next round begins with it.
pub(super) fn note_begin(about: About<'_>, status: &mut IncidentStatus, refused: &RefusedAnswer, to: &str) -> Effect {
    let RefusedAnswer { diagnoser: from, reason, message, hypothesis, action, round, confidence: _ } = refused;
    let sentence = format!("{to} is asked, because the answer of {from} is not grounded: {reason}");
    timeline::note(status, about.now, Actor::Controller, Event::Rerouted, sentence);
    let details = serde_json::json!({
        "from": from, "to": to, "reason": reason, "message": message, "round": round,
        "hypothesis": quoted(hypothesis, 256), "proposed": action,
    });
    let reroute = Reroute { from: from.clone(), to: cut(to, 64), reason: reason.clone(), at: about.now };
    status.reroute = Some(reroute.into());
    // A record of what happened; nothing is written to the target because of it.
    Effect::AuditAfter(Entry {
        kind: "Rerouted",
        action_id: None,
        details: details.as_object().cloned().unwrap_or_default(),
    })
}
