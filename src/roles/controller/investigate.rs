//! Rounds of looking: ask the mind, wait for its diagnosis.

use std::time::Duration;

use jiff::SignedDuration;
use kube::{Api, Resource as _, ResourceExt as _, api::ObjectMeta};

use crate::api::v1alpha1::{
    Actor, Incident, IncidentPhase, Investigation, InvestigationPhase, InvestigationSpec, SourceName, Time,
};
use crate::core::{names, reason::Reason, timeline};

use super::context::{Error, Next, Shared, call, exists};
use super::{escalate, observe};

/// Budget of one round, in seconds.
const DEADLINE_SECONDS: i32 = 20;
/// A round that is not over this long after its deadline never will be.
const GRACE: SignedDuration = SignedDuration::from_secs(20);

/// Makes sure that the round is under way, and takes its result when it is there.
pub async fn run(ctx: &Shared, incident: &Incident, now: Time) -> Result<Next, Error> {
    let namespace = incident.namespace().unwrap_or_default();
    let mut status = incident.status.clone().unwrap_or_default();
    let Some(investigation) =
        observe::investigation(ctx, &namespace, status.investigation.as_deref().unwrap_or_default()).await?
    else {
        return start(ctx, incident).await;
    };
    let result = investigation.status.clone().unwrap_or_default();
    match result.phase {
        InvestigationPhase::Complete | InvestigationPhase::Failed => {
            status.times.first_source = status.times.first_source.or(result.started_at);
            status.times.diagnosed = result.completed_at.or(Some(now));
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
            timeline::note(&mut status, result.completed_at.unwrap_or(now), Actor::Investigator, "Diagnosed", summary);
            status.phase = IncidentPhase::Judging;
            Ok(Next::Again(Box::new(ctx.write_status(incident, status).await?)))
        }
        InvestigationPhase::Pending | InvestigationPhase::Running => {
            let made = investigation.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
            let late = SignedDuration::from_secs(DEADLINE_SECONDS.into()) + GRACE;
            if now.duration_since(made) > late {
                let message = format!(
                    "the investigator did not finish in time; is it running? `kubectl -n {} get pods`",
                    ctx.system
                );
                return escalate::begin(ctx, incident, status, Reason::InvestigationTimeout, &message, now).await;
            }
            Ok(Next::After(Duration::from_secs(2)))
        }
    }
}

/// Asks for the round that the status names. What is asked is what the plan says.
pub async fn start(ctx: &Shared, incident: &Incident) -> Result<Next, Error> {
    let namespace = incident.namespace().unwrap_or_default();
    let status = incident.status.clone().unwrap_or_default();
    let planned = status.plan.as_ref().map(|plan| plan.sources.as_slice()).unwrap_or_default();
    let started = incident.spec.alerts.iter().map(|alert| alert.starts_at).min().unwrap_or(incident.spec.opened_at);
    let spec = InvestigationSpec {
        incident: incident.name_any(),
        round: status.rounds.max(1),
        target: incident.spec.target.clone(),
        sources: planned.iter().filter_map(|name| SourceName::named(name)).collect(),
        chain: vec!["rules".into()],
        lowest_rung: "rules".into(),
        deadline_seconds: DEADLINE_SECONDS,
        alert_started_at: started,
        request_id: incident.spec.request_id.clone(),
    };
    let name = status.investigation.unwrap_or_default();
    let mut investigation = Investigation::new(&name, spec);
    investigation.metadata = owned(incident, &name);
    let api: Api<Investigation> = ctx.api(&namespace);
    exists(call("create Investigation", api.create(&ctx.create_params(), &investigation)).await)?;
    Ok(Next::After(Duration::from_secs(2)))
}

/// Metadata of an object that belongs to an incident and goes with it.
pub fn owned(incident: &Incident, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.into()),
        namespace: incident.namespace(),
        labels: Some([(names::INCIDENT.to_string(), incident.name_any())].into()),
        owner_references: Some(vec![k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference {
            api_version: Incident::api_version(&()).into(),
            kind: Incident::kind(&()).into(),
            name: incident.name_any(),
            uid: incident.uid().unwrap_or_default(),
            ..Default::default()
        }]),
        ..ObjectMeta::default()
    }
}
