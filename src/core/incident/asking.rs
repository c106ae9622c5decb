//! When models are asked: in the first round, and again when the controller's own reading shows something that they were
//! not asked about. The rounds in between ask the rules alone: they cost nothing, and what models took of the time is not
//! counted where it is asked how long was waited.

use std::collections::BTreeSet;

use jiff::SignedDuration;

use crate::api::v1alpha1::{
    IncidentStatus, InvestigationStatus, ModelAnswer, ModelChainRef, ModelRounds, PlannedChain, Review, Time,
};
use crate::core::{
    actions,
    gate::{self, Ungrounded},
    redact::clip,
    rules,
    workload::Workload,
};

use super::About;

/// Rounds of one incident that ask models, whatever its target shows; that of the re-route is not counted. What people do to a target
/// in between is theirs, and must not spend without an end.
pub(super) const ROUNDS_WITH_MODELS: i32 = 4;
/// Pieces of evidence that a status holds, and bytes of one.
const MAX_EVIDENCE: usize = 32;
const MAX_WORDS: usize = 128;
/// Characters of a hash that tell templates apart.
const HASH: usize = 16;
/// Bytes of a sentence of a model, and of why it is doubted.
const MAX_REASON: usize = 1024;
const MAX_DOUBT: usize = 512;

/// Who is asked in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// The models of the plan, if it has any, about evidence that they were not asked about. What they said of other
    /// evidence does not count any more.
    Models,
    /// The stronger rung, about the same evidence.
    Stronger,
    /// The rules alone.
    Rules,
}

/// The chain of the plan; `None` where no model is asked.
pub(super) fn chain(status: &IncidentStatus) -> Option<ModelChainRef> {
    status.plan.as_ref()?.model_chain.as_ref().and_then(PlannedChain::asked)
}

/// The round `number` begins.
pub(super) fn begin(status: &mut IncidentStatus, number: i32, who: Who) {
    if who == Who::Rules || chain(status).is_none() {
        return;
    }
    let models = status.models.get_or_insert_default();
    models.latest = number;
    if who == Who::Models {
        models.count = models.count.saturating_add(1);
        models.answer = None;
    }
}

/// Whether the round that the status names asks models.
pub(super) fn in_this_round(status: &IncidentStatus) -> bool {
    status.models.as_ref().is_some_and(|models| models.latest == status.rounds)
}

/// The round that the status names is over. What models took costs the evidence no time to come.
pub(super) fn ended(status: &mut IncidentStatus, now: Time) {
    let asked = status.times.asked.unwrap_or(now);
    if in_this_round(status)
        && let Some(models) = &mut status.models
    {
        let took = i64::try_from(now.duration_since(asked).as_millis()).unwrap_or(i64::MAX);
        models.milliseconds = models.milliseconds.saturating_add(took.max(0));
    }
}

/// It is planned anew: what was waited for before does not count.
pub(super) fn planned_anew(status: &mut IncidentStatus) {
    if let Some(models) = &mut status.models {
        models.milliseconds = 0;
    }
}

/// How long evidence was waited for, without the rounds that asked models.
pub(super) fn waited(status: &IncidentStatus, now: Time) -> SignedDuration {
    let since = now.duration_since(status.times.planned.unwrap_or(now));
    let models = SignedDuration::from_millis(status.models.as_ref().map_or(0, |models| models.milliseconds));
    (since - models).max(SignedDuration::ZERO)
}

/// Who is asked about a target that shows this: models only about what they were not asked about yet.
pub(super) fn who(about: About<'_>, status: &IncidentStatus, workload: &Workload) -> Who {
    let none = ModelRounds::default();
    let models = status.models.as_deref().unwrap_or(&none);
    let room =
        models.count < ROUNDS_WITH_MODELS && models.evidence.len() < MAX_EVIDENCE && status.rounds < gate::MAX_ROUNDS;
    let is_new = || evidence(about, workload).iter().any(|piece| !models.evidence.contains(piece));
    if chain(status).is_some() && room && is_new() { Who::Models } else { Who::Rules }
}

/// Puts on the record what the models of this round were asked about, by the controller's reading, and what the one that
/// answered said. What failed only after their facts were gathered they were not asked about. An answer that was refused
/// counts for nothing.
pub(super) fn note(
    about: About<'_>,
    status: &mut IncidentStatus,
    found: &InvestigationStatus,
    workload: Option<&Workload>,
    ungrounded: Option<&Ungrounded>,
    doubt: Option<&str>,
) {
    let Some(models) = &mut status.models else { return };
    if let Some(workload) = workload {
        let overtaken = gate::are_overtaken(workload, &found.facts);
        let asked = if overtaken { template(workload) } else { evidence(about, workload) };
        for piece in asked {
            if models.evidence.len() < MAX_EVIDENCE && !models.evidence.contains(&piece) {
                models.evidence.push(piece);
            }
        }
    }
    let answered = found.diagnosis.as_ref().filter(|diagnosis| diagnosis.diagnoser != rules::NAME);
    let Some(diagnosis) = answered.filter(|_| ungrounded.is_none_or(|it| it.only_unsure)) else { return };
    // Of an answer that is only unsure this is what speaks against it, whatever else was asked.
    let unsure = ungrounded.map(|it| it.message.as_str());
    let objection = found.review.as_ref().filter(|review| review.objects);
    models.answer = Some(ModelAnswer {
        diagnoser: clip(&diagnosis.diagnoser, 64),
        action: diagnosis.proposal.as_ref().map(|proposal| proposal.action.clone()),
        doubt: clip(doubt.or(unsure).unwrap_or_default(), MAX_DOUBT),
        objection: objection.map(|Review { rung, objects, reason }| Review {
            rung: clip(rung, 64),
            objects: *objects,
            reason: clip(reason, MAX_REASON),
        }),
    });
}

/// What a model said in an earlier round of the very evidence that this reading shows. Whoever asks has no answer of a model
/// in this one.
pub(super) fn heard<'a>(
    about: About<'_>,
    status: &'a IncidentStatus,
    workload: Option<&Workload>,
) -> Option<&'a ModelAnswer> {
    let ModelRounds { answer, evidence: known, .. } = status.models.as_deref()?;
    let answer = answer.as_ref()?;
    evidence(about, workload?).iter().all(|piece| known.contains(piece)).then_some(answer)
}

/// What a reading shows, in pieces: its template, and while it fails in which ways, and what the rules conclude from it.
fn evidence(about: About<'_>, workload: &Workload) -> BTreeSet<String> {
    let mut found = template(workload);
    if !workload.fails() && !workload.is_broken() {
        return found;
    }
    for pod in workload.failing_pods() {
        let revision = pod.fact.revision.map_or("no".to_owned(), |number| number.to_string());
        found.insert(piece(&format!("pods of revision {revision} fail: {:?}", pod.fact.failure)));
    }
    if let Some((revision, _)) = workload.refused() {
        found.insert(piece(&format!("pods of revision {} are refused", revision.fact.number)));
    }
    if workload.state.ready == 0 {
        found.insert("no replica is ready".to_owned());
    }
    let diagnosis = rules::of_reading(workload, Some(about.alert_started_at()));
    let action = diagnosis.proposal.as_ref().map(|proposal| &proposal.action);
    let proposed = action.map_or("nothing".to_owned(), |action| (actions::of(action.kind()).describe)(action));
    found.insert(piece(&format!("the rules say {} and propose {proposed}", diagnosis.cause.as_str())));
    found
}

fn template(workload: &Workload) -> BTreeSet<String> {
    let hash: String = workload.template_hash().chars().take(HASH).collect();
    let revision = workload.current().map(|current| format!("revision {}", current.fact.number));
    [format!("template {hash}")].into_iter().chain(revision).collect()
}

fn piece(text: &str) -> String {
    clip(text, MAX_WORDS)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::v1alpha1::{Incident, PlannedRung};
    use crate::core::gate::testing::{at, bad_rollout, reading};
    use crate::core::incident::Terms;

    fn incident() -> Incident {
        let spec = json!({"alerts": [], "severity": "warning", "openedAt": at(0), "requestId": "r", "key": "k"});
        Incident::new("i", serde_json::from_value(spec).unwrap())
    }

    fn planned() -> IncidentStatus {
        let chain = PlannedChain { rungs: vec![PlannedRung::default()], ..PlannedChain::default() };
        let plan = crate::api::v1alpha1::Plan { model_chain: Some(chain), ..Default::default() };
        IncidentStatus { plan: Some(plan.into()), ..IncidentStatus::default() }
    }

    /// A round is asked by whoever is to be asked about this, and what models were asked about is noted.
    fn round(status: &mut IncidentStatus, workload: &Workload) -> Who {
        let (incident, terms) = (incident(), Terms::default());
        let about = About { incident: &incident, terms: &terms, now: at(0) };
        let who = who(about, status, workload);
        let number = status.rounds + 1;
        begin(status, number, who);
        status.rounds = number;
        if in_this_round(status) {
            let found = InvestigationStatus { facts: bad_rollout().facts, ..InvestigationStatus::default() };
            note(about, status, &found, Some(workload), None, None);
        }
        who
    }

    #[test]
    fn models_are_asked_about_each_piece_of_evidence_once_however_it_comes_and_goes() {
        let mut status = planned();
        let (well, broken) = (reading().healthy(), bad_rollout().reading);
        let all: Vec<Who> = [&well, &well, &broken, &well, &broken, &broken].map(|it| round(&mut status, it)).into();
        assert_eq!(all, [Who::Models, Who::Rules, Who::Models, Who::Rules, Who::Rules, Who::Rules]);
        let mut otherwise = broken.clone();
        otherwise.pods[1].fact.failure = crate::api::v1alpha1::PodFailure::OutOfMemory;
        assert_eq!(round(&mut status, &otherwise), Who::Models, "another way of failing");
        assert_eq!(round(&mut status, &broken), Who::Rules);
    }

    #[test]
    fn however_often_somebody_changes_the_target_models_are_asked_four_times_at_most() {
        let mut status = planned();
        for number in 0..50 {
            let mut workload = reading().healthy();
            workload.template["spec"]["containers"][0]["image"] = json!(format!("api:{number}"));
            round(&mut status, &workload);
        }
        let models = status.models.unwrap();
        assert_eq!(models.count, ROUNDS_WITH_MODELS);
        assert!(models.evidence.len() <= MAX_EVIDENCE);
    }

    #[test]
    fn without_models_in_the_plan_nobody_else_is_asked_and_nothing_is_noted() {
        let mut status = IncidentStatus::default();
        assert_eq!(round(&mut status, &bad_rollout().reading), Who::Rules);
        begin(&mut status, 2, Who::Models);
        assert_eq!(status.models, None);
    }
}
