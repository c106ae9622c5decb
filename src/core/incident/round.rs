//! Investigating: ask for a round, wait for its diagnosis.

use std::time::Duration;

use jiff::SignedDuration;

use crate::api::v1alpha1::{
    Actor, IncidentPhase, IncidentStatus, Investigation, InvestigationPhase, InvestigationSpec, InvestigationStatus,
    SourceName,
};
use crate::core::{
    gate, names,
    reason::Reason,
    rules,
    timeline::{self, Event},
};

use super::{
    About, Effect, Entry, Next, Step,
    asking::{self, Who},
    diagnosis, ending, reroute,
};

/// Budget of one round without models, in seconds.
pub const DEADLINE_SECONDS: i32 = 20;
/// How long after its deadline a round may still end.
const GRACE: SignedDuration = SignedDuration::from_secs(20);
/// Calls of models that a record holds.
const MAX_CALLS: usize = 16;
/// Interval at which a round is polled; a watch reports its end earlier.
pub(super) const LOOK: Duration = Duration::from_secs(2);

/// Budget of the round that the status names, in seconds: what its models may take is added.
fn deadline_seconds(status: &IncidentStatus) -> i32 {
    let chain = status.plan.as_ref().and_then(|plan| plan.model_chain.as_ref());
    let models = chain.filter(|_| asking::in_this_round(status)).map_or(0, |chain| chain.deadline_seconds);
    DEADLINE_SECONDS.saturating_add(models.max(0))
}

/// Names the round `number` in the status, and who is asked in it; the time counts from here, by the controller's clock.
pub(super) fn begin(about: About<'_>, status: &mut IncidentStatus, number: i32, who: Who) {
    asking::begin(status, number, who);
    status.rounds = number;
    status.investigation = Some(investigation_name(about, number).0);
    status.times.asked = Some(about.now);
}

/// Asks for the round that the status names. Which sources and models are asked is what the plan says.
pub(super) fn ask(about: About<'_>, status: &IncidentStatus) -> Effect {
    let planned = status.plan.as_ref().map(|plan| plan.sources.as_slice()).unwrap_or_default();
    let model_chain = asking::chain(status).filter(|_| asking::in_this_round(status));
    let chain = match &model_chain {
        Some(_) => reroute::diagnosers(status),
        None => vec![rules::NAME.to_owned()],
    };
    let number = status.rounds.max(1);
    let (name, key) = investigation_name(about, number);
    let spec = InvestigationSpec {
        incident: about.name().to_owned(),
        key,
        round: number,
        target: about.incident.spec.target.clone(),
        sources: planned.iter().filter_map(|name| SourceName::named(name)).collect(),
        chain,
        model_chain,
        deadline_seconds: deadline_seconds(status),
        alert_started_at: about.alert_started_at(),
        request_id: about.incident.spec.request_id.clone(),
    };
    Effect::CreateInvestigation { name: status.investigation.clone().unwrap_or(name), spec: Box::new(spec) }
}

/// Makes sure that the round is under way, and takes its result when it is there.
pub(super) fn step(about: About<'_>, mut status: IncidentStatus, found: Option<&Investigation>) -> Step {
    let now = about.now;
    let asked = status.times.asked.unwrap_or(now);
    let late = now.duration_since(asked) > SignedDuration::from_secs(deadline_seconds(&status).into()) + GRACE;
    let result = found.and_then(|investigation| investigation.status.as_ref());
    match result.map(|result| (result, result.phase)) {
        Some((result, InvestigationPhase::Complete)) => {
            status.times.first_source = status.times.first_source.or(result.started_at);
            // By the controller's clock: the investigator's decides nothing.
            status.times.diagnosed = Some(now);
            let summary = result.diagnosis.as_ref().map_or("no diagnosis".to_string(), |d| {
                format!(
                    "{} facts; {} says {:?} ({}%): {}",
                    result.facts.len(),
                    d.diagnoser,
                    d.cause,
                    d.confidence,
                    d.hypothesis
                )
            });
            timeline::note(&mut status, now, Actor::Investigator, Event::Diagnosed, summary);
            asking::ended(&mut status, now);
            diagnosis::take(&mut status, result);
            diagnosis::add_spend(&mut status, result);
            status.phase = IncidentPhase::Judging;
            let asked = models_asked(result, status.rounds);
            Step::write(asked.into_iter().collect(), status, Next::Again)
        }
        // It was begun, so its models are what it waits for: what they took must not cost the rules' repair.
        Some((result, InvestigationPhase::Running))
            if late && asking::in_this_round(&status) && status.rounds < gate::MAX_ROUNDS =>
        {
            let message = "it did not end in time; the rules are asked alone";
            timeline::note(&mut status, now, Actor::Controller, Event::RoundGivenUp, message);
            let asked = models_asked(result, status.rounds);
            diagnosis::add_spend(&mut status, result);
            asking::ended(&mut status, now);
            let next = status.rounds.saturating_add(1);
            begin(about, &mut status, next, Who::Rules);
            Step::write(asked.into_iter().collect(), status, Next::Again)
        }
        _ if late => {
            let message = format!(
                "the investigator did not finish in time; check that it is running: `kubectl -n {} get pods`",
                about.terms.system
            );
            // What it asked models up to now was paid for.
            let asked = result.and_then(|result| models_asked(result, status.rounds));
            result.into_iter().for_each(|result| diagnosis::add_spend(&mut status, result));
            let asked = asked.into_iter().collect();
            ending::escalate_after(about, status, Reason::InvestigationTimeout, &message, asked)
        }
        _ if found.is_none() => Step::effect(ask(about, &status), LOOK),
        _ => Step::wait(LOOK),
    }
}

/// The audit record of the calls of models in a round; `None` when no model was called. It is the investigator's word.
fn models_asked(result: &InvestigationStatus, round: i32) -> Option<Effect> {
    let called = result.attempts.iter().filter(|attempt| !attempt.upstream.is_empty());
    let calls: Vec<serde_json::Value> = called.take(MAX_CALLS).map(|attempt| serde_json::json!(attempt)).collect();
    (!calls.is_empty()).then(|| {
        let details = serde_json::json!({
            "round": round, "calls": calls, "tokens": result.tokens, "costNanoDollars": result.cost_nano_dollars,
        });
        Effect::AuditAfter(Entry {
            kind: "ModelsAsked",
            action_id: None,
            details: details.as_object().cloned().unwrap_or_default(),
        })
    })
}

/// Name of the Investigation of a round.
fn investigation_name(about: About<'_>, round: i32) -> (String, String) {
    let uid = about.incident.metadata.uid.as_deref().unwrap_or_default();
    let key = names::digest(&["investigation", uid, &round.to_string()]);
    let target = about.target().map_or("unresolved", |target| target.name.as_str());
    (names::readable(target, &key), key)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::v1alpha1::{Attempt, Incident, Time};
    use crate::core::incident::Terms;

    fn at(second: i64) -> Time {
        Time::from_second(second).unwrap()
    }

    #[test]
    fn a_round_that_is_given_up_leaves_what_it_spent_on_the_record() {
        let spec = json!({"alerts": [], "severity": "warning", "openedAt": at(0), "requestId": "r", "key": "k"});
        let incident = Incident::new("i", serde_json::from_value(spec).unwrap());
        let (terms, now) = (Terms::default(), at(1000));
        let mut status = IncidentStatus { phase: IncidentPhase::Investigating, rounds: 1, ..IncidentStatus::default() };
        status.times.asked = Some(at(900));
        let attempt = Attempt { upstream: "a".into(), outcome: "Timeout".into(), ..Attempt::default() };
        let found = InvestigationStatus {
            phase: InvestigationPhase::Running,
            attempts: vec![attempt],
            tokens: 7,
            cost_nano_dollars: 42,
            ..InvestigationStatus::default()
        };
        let spec = ask(About { incident: &incident, terms: &terms, now }, &status);
        let Effect::CreateInvestigation { name, spec } = spec else { panic!("{spec:?}") };
        let mut investigation = Investigation::new(&name, *spec);
        investigation.status = Some(found);
        let step = step(About { incident: &incident, terms: &terms, now }, status, Some(&investigation));
        let recorded = |effects: &[Effect]| {
            effects.iter().any(|effect| matches!(effect, Effect::AuditAfter(entry) if entry.kind == "ModelsAsked"))
        };
        assert!(recorded(&step.effects) || recorded(&step.after), "{step:?}");
        let spend = step.status.unwrap().model_spend.unwrap();
        assert_eq!((spend.calls, spend.tokens, spend.cost_nano_dollars), (1, 7, 42));
    }
}
