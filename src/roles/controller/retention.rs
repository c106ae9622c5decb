//! Retention: finished objects are kept for some days and up to a number. Open ones are never deleted.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Preconditions},
};

use crate::api::v1alpha1::{Alert, AlertState, Incident};
use crate::clock;
use crate::core::retention::{Finished, expired};

use super::context::{Error, Shared, call};

/// Looks once an hour.
pub async fn run(ctx: Shared) {
    let mut every = tokio::time::interval(Duration::from_secs(3600));
    loop {
        every.tick().await;
        if let Err(error) = delete_expired(&ctx).await {
            tracing::warn!(%error, "retention could not finish, will look again in an hour");
        }
    }
}

/// Investigations and Remediations belong to their Incident and go with it.
async fn delete_expired(ctx: &Shared) -> Result<(), Error> {
    let days = SignedDuration::from_hours(24 * i64::from(ctx.settings.retention.days));
    let bound = ctx.settings.retention.per_namespace as usize;
    let now = clock::now();

    let incidents: Api<Incident> = Api::all(ctx.client.clone());
    let listed = call("list Incidents", incidents.list(&ListParams::default())).await?;
    let finished = listed.items.iter().filter_map(|incident| {
        let status = incident.status.as_ref().filter(|status| status.phase.is_final())?;
        Some(Finished {
            namespace: incident.namespace()?,
            name: incident.name_any(),
            uid: incident.uid()?,
            ended: status.times.ended?,
        })
    });
    let mut gone = Vec::new();
    for old in expired(finished.collect(), days, bound, now) {
        let api: Api<Incident> = ctx.api(&old.namespace);
        remove("Incident", call("delete Incident", api.delete(&old.name, &only(&old))).await);
        gone.push((old.namespace, old.name));
    }
    let kept: BTreeMap<(String, String), ()> = listed
        .items
        .iter()
        .map(|incident| ((incident.namespace().unwrap_or_default(), incident.name_any()), ()))
        .filter(|(key, ())| !gone.contains(key))
        .collect();

    let alerts: Api<Alert> = Api::all(ctx.client.clone());
    let listed = call("list Alerts", alerts.list(&ListParams::default())).await?;
    let finished = listed.items.iter().filter_map(|alert| {
        let status = alert.status.as_ref().filter(|status| status.state == AlertState::Resolved)?;
        let incident = (status.incident_namespace.clone(), status.incident.clone());
        let ended = alert.spec.ends_at.filter(|_| !kept.contains_key(&incident))?;
        Some(Finished { namespace: alert.namespace()?, name: alert.name_any(), uid: alert.uid()?, ended })
    });
    for old in expired(finished.collect(), days, bound, now) {
        let api: Api<Alert> = ctx.api(&old.namespace);
        remove("Alert", call("delete Alert", api.delete(&old.name, &only(&old))).await);
    }
    Ok(())
}

fn only(old: &Finished) -> DeleteParams {
    let uid = Some(old.uid.clone());
    DeleteParams { preconditions: Some(Preconditions { uid, resource_version: None }), ..DeleteParams::background() }
}

fn remove<T>(kind: &str, result: Result<T, Error>) {
    if let Err(error) = result {
        tracing::debug!(kind, %error, "not deleted");
    }
}
