//! Open: the plan, written before anything runs.

use crate::api::v1alpha1::{Actor, IncidentPhase, IncidentStatus, Plan, PlannedChain, SourceName};
use crate::core::{
    chain::choose,
    plan,
    policy::runbook_name,
    timeline::{self, Event},
};

use super::{
    About, Effect, Measure, Next, Rules, Step,
    asking::{self, Who},
    round,
};

/// Who is asked, in words.
fn diagnosed_by(plan: &Plan) -> String {
    match &plan.model_chain {
        Some(PlannedChain { problem, .. }) if !problem.is_empty() => format!("no model is asked: {problem}"),
        Some(PlannedChain { name, .. }) => format!("diagnosed by {} (ModelChain {name})", plan.diagnosers.join(", ")),
        None => format!("diagnosed by {}", plan.diagnosers.join(", ")),
    }
}

/// Writes the plan, and requests the first round right after it is stored.
pub(super) fn write(about: About<'_>, mut status: IncidentStatus, rules: &Rules) -> Step {
    let About { incident, terms, now } = about;
    let spec = &incident.spec;
    let runbooks: Vec<(String, Vec<SourceName>)> =
        rules.runbooks.iter().map(|runbook| (runbook_name(runbook), runbook.spec.gather.clone())).collect();
    let made = plan::make(&plan::Inputs {
        target: spec.target.as_ref(),
        // What the target's labels are is not known before it is read.
        labels: None,
        namespace_mode: rules.mode.as_deref(),
        policies: &rules.policies,
        runbooks: &runbooks,
        budgets: &terms.budgets,
        loops: &[
            ("rounds-with-models-per-incident", asking::ROUNDS_WITH_MODELS.into()),
            ("re-routes-per-incident", 1),
            ("seconds-waiting-for-evidence", terms.timings.evidence_wait_seconds.into()),
            ("seconds-waiting-for-approval", terms.timings.approval_timeout_seconds.into()),
        ],
        metrics: terms.metrics,
        named: &choose::by_runbooks(&rules.runbooks, &terms.system),
        chains: rules.chains.as_deref(),
        system: &terms.system,
    });
    let what = match (&spec.target, &spec.unresolved) {
        (Some(target), _) => target.to_string(),
        (None, Some(unresolved)) => unresolved.message.clone(),
        (None, None) => String::new(),
    };
    let alert = spec.alerts.first().map(|alert| alert.alertname.as_str()).unwrap_or_default();
    timeline::note(&mut status, spec.opened_at, Actor::Alert, Event::AlertReceived, format!("{alert}: {what}"));
    let sentence = format!(
        "mode {}, sources {}, {} checks before any write, {}",
        made.mode,
        made.sources.join(", "),
        made.gates.len(),
        diagnosed_by(&made)
    );
    timeline::note(&mut status, now, Actor::Controller, Event::PlanWritten, sentence);
    status.plan = Some(made.into());
    status.times.received = Some(spec.opened_at);
    status.times.planned = Some(now);
    round::begin(about, &mut status, 1, Who::Models);
    let effect = Effect::Measure(Measure::ToPlan(about.seconds_since_alert(now)));
    let ask = round::ask(about, &status);
    status.phase = IncidentPhase::Investigating;
    Step::write(vec![], status, Next::After(round::LOOK)).then(effect).then(ask)
}
