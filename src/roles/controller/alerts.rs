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

use crate::api::v1alpha1::{Alert, AlertStatus, Incident, IncidentSpec, ObjectRef};
use crate::clock;
use crate::cluster::{ReadError, resolve_top};
use crate::core::{
    conditions,
    grouping::{self, Grouping, Handling, Opening},
    names,
    reason::Reason,
    target::{self, Unresolved},
};
use crate::telemetry::request_span;

use super::context::{CALL, Context, Created, Error, Shared, call, created, ignore_exists, wait_until_ready};

/// Label on an Incident: UID of its target.
pub const TARGET_LABEL: &str = "backstop.dev/target";

/// Brings one alert to its incident.
pub async fn reconcile(alert: std::sync::Arc<Alert>, ctx: Shared) -> Result<Action, Error> {
    let span = request_span(&alert.spec.request_id);
    handle(&alert, &ctx).inspect_err(|error| error.log("Alert", alert.as_ref())).instrument(span).await?;
    Ok(Action::await_change())
}

async fn handle(alert: &Alert, ctx: &Shared) -> Result<(), Error> {
    let fires_again = match grouping::handling(alert) {
        Handling::Done => return Ok(()),
        Handling::Note(status) => {
            let news = json!({ "state": status.state, "observedGeneration": status.observed_generation });
            return ctx.merge_status(alert, &news).await;
        }
        Handling::Place { fires_again } => fires_again,
    };
    let target = resolve(ctx, alert).await?;
    let (namespace, incident) = place(ctx, alert, &target, fires_again).await?;
    let mut next = AlertStatus {
        state: grouping::state_of(alert),
        target: target.as_ref().ok().cloned(),
        incident,
        incident_namespace: namespace,
        observed_generation: alert.metadata.generation.unwrap_or(0),
        conditions: alert.status.clone().unwrap_or_default().conditions,
    };
    let (reason, message) = match &target {
        Ok(target) => ("Grouped", format!("the alert is about {target}")),
        Err(unresolved) => (unresolved.reason.as_str(), unresolved.message.clone()),
    };
    conditions::set(&mut next.conditions, "Accepted", true, reason, &message, next.observed_generation, clock::now());
    ctx.merge_status(alert, &next).await
}

/// The one workload that the labels name, as the cluster has it.
async fn resolve(ctx: &Shared, alert: &Alert) -> Result<Result<ObjectRef, Unresolved>, Error> {
    let home = alert.namespace().unwrap_or_default();
    let named = match target::candidates(&alert.spec.labels) {
        Ok(named) => named,
        Err(unresolved) => return Ok(Err(unresolved)),
    };
    if let Err(unresolved) = target::may_name(&home, &ctx.system, &named) {
        return Ok(Err(unresolved));
    }
    let mut found: Vec<ObjectRef> = Vec::new();
    for candidate in &named {
        match resolve_top(&ctx.client, candidate.kind, &candidate.namespace, &candidate.name, CALL).await {
            Ok(top) => found.extend(top),
            Err(error @ ReadError::Forbidden { .. }) => {
                return Ok(Err(Unresolved::new(Reason::ClusterUnreadable, error.to_string())));
            }
            Err(error) => {
                tracing::warn!(%error, "target cannot be looked up, will retry");
                return Err(Error::Timeout { what: format!("look up {} {}", candidate.kind, candidate.name) });
            }
        }
    }
    Ok(target::unique(&named, found))
}

/// Opens an incident or joins one; returns its namespace and name.
async fn place(
    ctx: &Shared,
    alert: &Alert,
    target: &Result<ObjectRef, Unresolved>,
    fires_again: Option<i64>,
) -> Result<(String, String), Error> {
    let namespace = grouping::namespace(alert, target, &ctx.system).to_owned();
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
        Found::Open(opening) => {
            let spec = grouping::opened(alert, target, &opening, fires_again, clock::now());
            let incident = open(ctx, &api, &namespace, label, &opening, spec).await?;
            let name = incident.name_any();
            ctx.metrics.opened.inc();
            tracing::info!(request_id = %incident.spec.request_id, incident = %name, %namespace, "incident opened");
            opened.push(incident);
            name
        }
    };
    Ok((namespace, name))
}

/// Makes the incident. One of its short name that is about something else is left alone, and the long name is taken.
async fn open(
    ctx: &Context,
    api: &Api<Incident>,
    namespace: &str,
    label: String,
    opening: &Opening,
    spec: IncidentSpec,
) -> Result<Incident, Error> {
    let mut incident = Incident::new(&opening.name, spec);
    incident.metadata = ObjectMeta {
        name: Some(opening.name.clone()),
        namespace: Some(namespace.to_owned()),
        labels: Some(BTreeMap::from([(TARGET_LABEL.to_string(), label)])),
        ..ObjectMeta::default()
    };
    if created(call("create Incident", api.create(&ctx.create_params(), &incident)).await)? == Created::Existed {
        let existing = call("read Incident", api.get(&opening.name)).await?;
        if existing.spec.key == opening.key {
            return Ok(existing);
        }
        incident.metadata.name = Some(opening.long_name());
        ignore_exists(call("create Incident", api.create(&ctx.create_params(), &incident)).await)?;
    }
    Ok(incident)
}

/// Where an alert belongs.
enum Found {
    /// To an incident that lists it already.
    Known(String),
    /// To this one, as it was just read.
    Join(Box<Incident>),
    /// To a new one.
    Open(Opening),
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
    wait_until_ready(&ctx.incidents).await?;
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
            Grouping::Open(opening) => return Ok(Found::Open(opening)),
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

async fn join(api: &Api<Incident>, incident: &Incident, alert: &Alert) -> Result<(), Error> {
    let (alerts, severity) = grouping::joined(incident, alert);
    // The resourceVersion makes it a compare-and-swap: a lost race is grouped again.
    let patch = json!({
        "metadata": { "resourceVersion": incident.metadata.resource_version },
        "spec": { "alerts": alerts, "severity": severity },
    });
    let params = PatchParams { field_manager: Some(names::CONTROLLER.into()), ..PatchParams::default() };
    call("add an alert to an Incident", api.patch(&incident.name_any(), &params, &Patch::Merge(&patch))).await.map(drop)
}
