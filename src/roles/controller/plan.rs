//! The plan, written before anything runs.

use kube::ResourceExt as _;

use crate::api::v1alpha1::{Actor, Incident, IncidentPhase, Time};
use crate::core::{names, plan, policy, timeline};

use super::context::{Error, Next, Shared};
use super::{investigate, observe};

/// Writes the plan.
pub async fn write(ctx: &Shared, incident: &Incident, now: Time) -> Result<Next, Error> {
    // The judge reads them again, by quorum, before anything is decided.
    let rules = observe::rules(ctx, incident, observe::Freshness::AtHand).await?;
    let sources = rules.sources();
    let matching: Vec<&policy::CompiledPolicy> = rules
        .policies
        .iter()
        .filter(|policy| {
            let kinds = &policy.spec.match_constraints.kinds;
            kinds.is_empty() || incident.spec.target.as_ref().is_some_and(|target| kinds.contains(&target.kind))
        })
        .collect();
    let inputs = plan::Inputs {
        has_target: incident.spec.target.is_some(),
        mode: policy::mode(rules.mode.as_deref(), &matching),
        runbooks: &sources,
        policies: matching.iter().map(|policy| policy.name.clone()).collect(),
        settings: &ctx.settings,
    };
    let mut status = incident.status.clone().unwrap_or_default();
    let alert = incident.spec.alerts.first();
    let about = incident
        .spec
        .target
        .as_ref()
        .map_or(incident.spec.unresolved.as_ref().map(|u| u.message.clone()).unwrap_or_default(), ToString::to_string);
    timeline::note(
        &mut status,
        incident.spec.opened_at,
        Actor::Alert,
        "AlertReceived",
        format!("{}: {about}", alert.map(|a| a.alertname.as_str()).unwrap_or_default()),
    );
    let made = plan::make(&inputs);
    timeline::note(
        &mut status,
        now,
        Actor::Controller,
        "PlanWritten",
        format!(
            "mode {}, sources {}, {} checks before any write",
            made.mode,
            made.sources.join(", "),
            made.gates.len()
        ),
    );
    status.plan = Some(made);
    status.times.received = Some(incident.spec.opened_at);
    status.times.planned = Some(now);
    status.rounds = 1;
    status.investigation = Some(investigation_name(incident, 1));
    status.phase = IncidentPhase::Investigating;
    ctx.metrics.to_plan.observe(now.duration_since(incident.spec.opened_at).as_secs_f64().max(0.0));
    let planned = ctx.write_status(incident, status).await?;
    // At once: nobody can have asked for this round before its plan was written.
    investigate::start(ctx, &planned).await
}

/// Name of the Investigation of a round.
pub fn investigation_name(incident: &Incident, round: i32) -> String {
    names::short_digest(&["investigation", &incident.uid().unwrap_or_default(), &round.to_string()])
}
