//! Alert → Incident: resolve the target, group, open or join.

use std::collections::BTreeMap;

use futures::TryFutureExt as _;
use kube::{
    Api, ResourceExt as _,
    api::{ObjectMeta, Patch, PatchParams},
    runtime::{controller::Action, reflector::ObjectRef as Cached},
};
use serde_json::json;
use tracing::Instrument as _;

use crate::api::v1alpha1::{self, Alert, AlertState, AlertStatus, Incident, IncidentSpec, ObjectRef};
use crate::clock;
use crate::cluster::{ReadError, resolve_top};
use crate::core::{
    conditions, grouping,
    grouping::Grouping,
    names,
    reason::Reason,
    target::{Unresolved, candidates},
};
use crate::telemetry::request_span;

use super::context::{CALL, Context, Error, Shared, call, exists, filled};

/// Label on an Incident: UID of its target.
pub const TARGET_LABEL: &str = "backstop.dev/target";

/// Brings one alert to its incident.
pub async fn reconcile(alert: std::sync::Arc<Alert>, ctx: Shared) -> Result<Action, Error> {
    let span = request_span(&alert.spec.request_id);
    group(&alert, ctx).inspect_err(|error| error.tell("Alert", alert.as_ref())).instrument(span).await
}

async fn group(alert: &Alert, ctx: Shared) -> Result<Action, Error> {
    let status = alert.status.clone().unwrap_or_default();
    let generation = alert.metadata.generation.unwrap_or(0);
    let state = if alert.spec.ends_at.is_some() { AlertState::Resolved } else { AlertState::Firing };
    // Its incident may be over, and nobody would look at what happens now. Whatever changed in its spec is such news: an
    // end and a new beginning between two looks leave nothing but the generation.
    let changed = status.observed_generation != 0 && status.observed_generation != generation;
    let fires_again = state == AlertState::Firing && changed;
    if !status.incident.is_empty() && !fires_again {
        if status.state != state || changed {
            ctx.merge_status(alert, &json!({ "state": state, "observedGeneration": generation })).await?;
        }
        return Ok(Action::await_change());
    }
    if state == AlertState::Resolved {
        // It began and ended before anybody looked.
        if status.observed_generation != generation {
            let done = AlertStatus { state, observed_generation: generation, ..status };
            ctx.merge_status(alert, &done).await?;
        }
        return Ok(Action::await_change());
    }
    let target = resolve(&ctx, alert).await?;
    let fires_again = fires_again.then_some(generation);
    let (namespace, incident) = place(&ctx, alert, &target, fires_again).await?;
    let mut next = AlertStatus {
        state,
        target: target.as_ref().ok().cloned(),
        incident,
        incident_namespace: namespace,
        observed_generation: generation,
        conditions: status.conditions,
    };
    let (word, message) = match &target {
        Ok(target) => ("Grouped", format!("the alert is about {target}")),
        Err(unresolved) => (unresolved.reason.as_str(), unresolved.message.clone()),
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
            Reason::ForeignNamespace,
            format!("an Alert in namespace {home} may only name that namespace"),
        )));
    }
    let mut found: Vec<ObjectRef> = Vec::new();
    for candidate in &named {
        match resolve_top(&ctx.client, candidate.kind, &candidate.namespace, &candidate.name, CALL).await {
            Ok(Some(top)) => found.push(top),
            Ok(None) => {}
            Err(error @ ReadError::Forbidden { .. }) => {
                return Ok(Err(Unresolved::new(Reason::ClusterUnreadable, error.to_string())));
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
            Reason::TargetNotFound,
            format!("{} {}/{} does not exist", named[0].kind, named[0].namespace, named[0].name),
        )),
        [one] => Ok(one.clone()),
        [one, other, ..] => Err(Unresolved::new(
            Reason::TargetAmbiguous,
            format!("the labels name {one} and {other}, which are not the same"),
        )),
    })
}

/// Opens an incident or joins one; returns its namespace and name.
async fn place(
    ctx: &Shared,
    alert: &Alert,
    target: &Result<ObjectRef, Unresolved>,
    fires_again: Option<i64>,
) -> Result<(String, String), Error> {
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
    let mut opened = ctx.grouping.lock(&namespace, &label).await;
    let decide = |view: &[Incident]| grouping::group(&reference, target.as_ref().ok(), view, fires_again, clock::now());
    let name = match find(ctx, &mut opened, &namespace, &label, decide).await? {
        Found::Known(name) => name,
        Found::Join(incident) => {
            join(&api, &incident, alert).await?;
            incident.name_any()
        }
        Found::Open(name) => {
            let mut incident = Incident::new(&name, spec(alert, target, fires_again));
            incident.metadata = ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(namespace.clone()),
                labels: Some(BTreeMap::from([(TARGET_LABEL.to_string(), label)])),
                ..ObjectMeta::default()
            };
            exists(call("create Incident", api.create(&ctx.create_params(), &incident)).await)?;
            ctx.metrics.opened.inc();
            tracing::info!(request_id = %incident.spec.request_id, incident = %name, %namespace, "incident opened");
            opened.push(incident);
            name
        }
    };
    Ok((namespace, name))
}

/// Where an alert belongs.
enum Found {
    /// To an incident that lists it already.
    Known(String),
    /// To this one, as it was just read.
    Join(Box<Incident>),
    /// To a new one of this name.
    Open(String),
}

/// Finds the incident of a target by the cache, and reads it afresh before an alert joins it. A target without an
/// incident, which is the case that has to be quick, costs no request.
async fn find(
    ctx: &Context,
    opened: &mut Vec<Incident>,
    namespace: &str,
    label: &str,
    decide: impl Fn(&[Incident]) -> Grouping,
) -> Result<Found, Error> {
    filled(&ctx.incidents).await?;
    opened.retain(|incident| ctx.incidents.get(&Cached::from_obj(incident)).is_none());
    let about = |incident: &&Incident| {
        incident.metadata.namespace.as_deref() == Some(namespace)
            && incident.labels().get(TARGET_LABEL).is_some_and(|value| value == label)
    };
    let cached = ctx.incidents.state();
    let mut view: Vec<Incident> =
        cached.iter().map(std::sync::Arc::as_ref).chain(opened.iter()).filter(about).cloned().collect();
    let api: Api<Incident> = ctx.api(namespace);
    let mut fresh = None;
    loop {
        let name = match decide(&view) {
            Grouping::Open(name) => return Ok(Found::Open(name)),
            Grouping::Known(name) if fresh.as_ref() == Some(&name) => return Ok(Found::Known(name)),
            // It was put first when it was read.
            Grouping::Join(name) if fresh.as_ref() == Some(&name) => {
                return Ok(Found::Join(Box::new(view.swap_remove(0))));
            }
            Grouping::Known(name) | Grouping::Join(name) => name,
        };
        // What is asked about goes out of the view, and comes back as it is: so this ends.
        view.retain(|incident| incident.name_any() != name);
        match call("read Incident", api.get_opt(&name)).await? {
            Some(incident) => view.insert(0, incident),
            None => opened.retain(|incident| incident.name_any() != name),
        }
        fresh = Some(name);
    }
}

fn spec(alert: &Alert, target: &Result<ObjectRef, Unresolved>, fires_again: Option<i64>) -> IncidentSpec {
    let uid = alert.metadata.uid.as_deref().unwrap_or_default();
    let made = alert.spec.received_at.or(alert.metadata.creation_timestamp.as_ref().map(|time| time.0));
    // What was received first says nothing about the time at which it fires again.
    let (request_id, opened_at) = match fires_again {
        Some(generation) => (names::short_digest(&["request", uid, &generation.to_string()]), clock::now()),
        None if alert.spec.request_id.is_empty() => {
            (names::short_digest(&["request", uid]), made.unwrap_or(alert.spec.starts_at))
        }
        None => (alert.spec.request_id.clone(), made.unwrap_or(alert.spec.starts_at)),
    };
    IncidentSpec {
        target: target.as_ref().ok().cloned(),
        unresolved: target.as_ref().err().map(|unresolved| v1alpha1::Unresolved {
            reason: unresolved.reason.as_str().into(),
            message: unresolved.message.clone(),
        }),
        alerts: vec![grouping::reference(alert)],
        severity: grouping::severity(alert),
        request_id,
        opened_at,
    }
}

async fn join(api: &Api<Incident>, incident: &Incident, alert: &Alert) -> Result<(), Error> {
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
    call("add an alert to an Incident", api.patch(&incident.name_any(), &params, &Patch::Merge(&patch))).await.map(drop)
}
