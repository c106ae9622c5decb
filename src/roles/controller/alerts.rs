//! Alert → Incident: resolve the target, group, open or join.

use std::collections::BTreeMap;

use kube::{
    Api, ResourceExt as _,
    api::{ListParams, ObjectMeta, Patch, PatchParams},
    runtime::controller::Action,
};
use serde_json::json;

use crate::api::v1alpha1::{Alert, AlertState, AlertStatus, Incident, IncidentSpec, ObjectRef};
use crate::clock;
use crate::cluster::{SnapshotError, resolve_top};
use crate::core::{
    conditions, grouping,
    grouping::Grouping,
    names, reason,
    target::{Unresolved, candidates},
};

use super::context::{CALL, Error, Shared, call, exists};

/// Label on an Incident: UID of its target.
pub const TARGET_LABEL: &str = "backstop.dev/target";

/// Brings one alert to its incident.
pub async fn reconcile(alert: std::sync::Arc<Alert>, ctx: Shared) -> Result<Action, Error> {
    let alert = alert.as_ref();
    let status = alert.status.clone().unwrap_or_default();
    let state = if alert.spec.ends_at.is_some() { AlertState::Resolved } else { AlertState::Firing };
    if !status.incident.is_empty() {
        if status.state != state {
            ctx.merge_status(alert, &json!({ "state": state })).await?;
        }
        return Ok(Action::await_change());
    }
    if state == AlertState::Resolved {
        // It began and ended before anybody looked.
        if status.observed_generation != alert.metadata.generation.unwrap_or(0) {
            let done = AlertStatus { state, observed_generation: alert.metadata.generation.unwrap_or(0), ..status };
            ctx.merge_status(alert, &done).await?;
        }
        return Ok(Action::await_change());
    }
    let target = resolve(&ctx, alert).await?;
    let (namespace, incident) = place(&ctx, alert, &target).await?;
    let mut next = AlertStatus {
        state,
        target: target.as_ref().ok().cloned(),
        incident,
        incident_namespace: namespace,
        observed_generation: alert.metadata.generation.unwrap_or(0),
        conditions: status.conditions,
    };
    let (word, message) = match &target {
        Ok(target) => ("Grouped", format!("the alert is about {target}")),
        Err(unresolved) => (unresolved.reason, unresolved.message.clone()),
    };
    conditions::set(&mut next.conditions, "Accepted", true, word, &message, next.observed_generation, clock::now());
    ctx.merge_status(alert, &next).await?;
    Ok(Action::await_change())
}

/// The one workload that the labels name, as the cluster has it.
async fn resolve(ctx: &Shared, alert: &Alert) -> Result<Result<ObjectRef, Unresolved>, Error> {
    let home = alert.namespace().unwrap_or_default();
    let named = match candidates(&alert.spec.labels) {
        Ok(named) => named,
        Err(unresolved) => return Ok(Err(unresolved)),
    };
    if home != ctx.system && named.iter().any(|candidate| candidate.namespace != home) {
        return Ok(Err(Unresolved::new(
            reason::FOREIGN_NAMESPACE,
            format!("an Alert in namespace {home} may only name that namespace"),
        )));
    }
    let mut found: Vec<ObjectRef> = Vec::new();
    for candidate in &named {
        match resolve_top(&ctx.client, candidate.kind, &candidate.namespace, &candidate.name, CALL).await {
            Ok(Some(top)) => found.push(top),
            Ok(None) => {}
            Err(error @ SnapshotError::Forbidden { .. }) => {
                return Ok(Err(Unresolved::new(reason::CLUSTER_UNREADABLE, error.to_string())));
            }
            Err(error) => {
                tracing::warn!(%error, "target cannot be looked up, will retry");
                return Err(Error::Timeout { what: format!("look up {} {}", candidate.kind, candidate.name) });
            }
        }
    }
    found.sort();
    found.dedup_by(|a, b| a.uid == b.uid);
    Ok(match found.as_slice() {
        [] => Err(Unresolved::new(
            reason::TARGET_NOT_FOUND,
            format!("{} {}/{} does not exist", named[0].kind, named[0].namespace, named[0].name),
        )),
        [one] => Ok(one.clone()),
        [one, other, ..] => Err(Unresolved::new(
            reason::TARGET_AMBIGUOUS,
            format!("the labels name {one} and {other}, which are not the same"),
        )),
    })
}

/// Opens an incident or joins one; returns its namespace and name.
async fn place(ctx: &Shared, alert: &Alert, target: &Result<ObjectRef, Unresolved>) -> Result<(String, String), Error> {
    let namespace = match target {
        Ok(target) if !target.namespace.is_empty() => target.namespace.clone(),
        _ => alert.namespace().unwrap_or_else(|| ctx.system.clone()),
    };
    let api: Api<Incident> = ctx.api(&namespace);
    let reference = grouping::reference(alert);
    let label = match target {
        Ok(target) => target.uid.clone(),
        Err(_) => names::short_digest(&["unresolved", &reference.namespace, &reference.name]),
    };
    let _one_at_a_time = ctx.grouping.lock(&namespace, &label).await;
    let list = ListParams::default().labels(&format!("{TARGET_LABEL}={label}"));
    let open = call("list Incidents", api.list(&list)).await?.items;
    let name = match grouping::group(&reference, target.as_ref().ok(), &open, clock::now()) {
        Grouping::Known(name) => name,
        Grouping::Join(name) => {
            join(&api, &open, &name, alert).await?;
            name
        }
        Grouping::Open(name) => {
            let mut incident = Incident::new(&name, spec(alert, target));
            incident.metadata = ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(namespace.clone()),
                labels: Some(BTreeMap::from([(TARGET_LABEL.to_string(), label)])),
                ..ObjectMeta::default()
            };
            exists(call("create Incident", api.create(&ctx.create_params(), &incident)).await)?;
            ctx.metrics.opened.inc();
            tracing::info!(request_id = %incident.spec.request_id, incident = %name, %namespace, "incident opened");
            name
        }
    };
    Ok((namespace, name))
}

fn spec(alert: &Alert, target: &Result<ObjectRef, Unresolved>) -> IncidentSpec {
    let made_by_hand = || names::short_digest(&["request", alert.metadata.uid.as_deref().unwrap_or_default()]);
    let created = alert.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let (unresolved, unresolved_message) =
        target.as_ref().err().map(|u| (u.reason.to_string(), u.message.clone())).unwrap_or_default();
    IncidentSpec {
        target: target.as_ref().ok().cloned(),
        unresolved,
        unresolved_message,
        alerts: vec![grouping::reference(alert)],
        severity: grouping::severity(alert),
        request_id: if alert.spec.request_id.is_empty() { made_by_hand() } else { alert.spec.request_id.clone() },
        opened_at: alert.spec.received_at.or(created).unwrap_or(alert.spec.starts_at),
    }
}

async fn join(api: &Api<Incident>, open: &[Incident], name: &str, alert: &Alert) -> Result<(), Error> {
    let Some(incident) = open.iter().find(|incident| incident.name_any() == name) else { return Ok(()) };
    let mut alerts = incident.spec.alerts.clone();
    if alerts.len() < grouping::MAX_ALERTS {
        alerts.push(grouping::reference(alert));
    }
    let severity = incident.spec.severity.max(grouping::severity(alert));
    // The resourceVersion makes it a compare-and-swap: a lost race is grouped again.
    let patch = json!({
        "metadata": { "resourceVersion": incident.metadata.resource_version },
        "spec": { "alerts": alerts, "severity": severity },
    });
    let params = PatchParams { field_manager: Some(names::CONTROLLER.into()), ..PatchParams::default() };
    call("add an alert to an Incident", api.patch(name, &params, &Patch::Merge(&patch))).await.map(drop)
}
