//! Alert → Incident: resolve the target, group, open or join.

use std::collections::BTreeMap;

use futures::TryFutureExt as _;
use jiff::SignedDuration;
use kube::{
    Api, ResourceExt as _,
    api::{ObjectMeta, Patch, PatchParams},
    runtime::{controller::Action, reflector::ObjectRef as Cached},
};
use serde_json::json;
use tracing::Instrument as _;

use crate::api::v1alpha1::{Alert, AlertStatus, Incident, IncidentSpec, IntakeReason, ObjectRef, Time};
use crate::clock;
use crate::cluster::{Lean, ReadError, resolve_top};
use crate::core::{
    conditions,
    fit::{self, fitted},
    grouping::{self, Grouping, Handling, Incoming, Opening},
    names,
    reason::Reason,
    retention,
    target::{self, Candidate, Unresolved},
};
use crate::telemetry::request_span;

use super::context::{CALL, Context, Created, Error, Shared, call, created, ignore_exists, wait_until_ready};
use super::{caches, gather, progress};

/// How long the lookup of a target may fail before its alert goes to a person without one.
const LOOKUP: SignedDuration = SignedDuration::from_mins(2);

/// Brings one alert to its incident.
pub async fn reconcile(alert: std::sync::Arc<Alert>, ctx: Shared) -> Result<Action, Error> {
    let _turn = ctx.progress.turn_of_an_alert().await;
    let span = request_span(&alert.spec.request_id);
    // On the heap: many wait for a turn.
    Box::pin(handle(&alert, &ctx)).inspect_err(|error| error.log("Alert", alert.as_ref())).instrument(span).await?;
    ctx.progress.ended_well(progress::key("Alert", alert.as_ref()), false, clock::now());
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
    let read = if caches::is_shortened(alert) { Some(read(ctx, alert).await?) } else { None };
    let alert = match &read {
        // It is gone, or cannot be decoded any more.
        Some(None) => return Ok(()),
        Some(Some(whole)) => whole,
        None => alert,
    };
    let now = clock::now();
    if let Some(end) = retention::silent_since(alert, ctx.alert_silence(), now) {
        return end_silent(ctx, alert, end).await;
    }
    let key = progress::key("Alert", alert);
    let refused = ctx.progress.refused_for_good(&key, now);
    let failing = ctx.progress.failing_since(&key).filter(|(since, _)| now.duration_since(*since) >= LOOKUP);
    let target = match (&refused, failing) {
        (Some(error), _) => {
            Err(Unresolved::new(Reason::RequestRefused, format!("no incident could be opened: {error}")))
        }
        (None, Some((_, error))) => Err(Unresolved::new(Reason::ClusterUnreadable, error)),
        (None, None) => resolve(ctx, alert).await?,
    };
    // Where a namespace takes no incidents, the one of the operator does.
    let home = if refused.is_some() { &ctx.system } else { grouping::namespace(alert, &target, &ctx.system) };
    let (namespace, incident) = place(ctx, alert, &target, home, fires_again).await?;
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

/// The whole Alert: the cache keeps no long labels.
async fn read(ctx: &Context, alert: &Alert) -> Result<Option<Alert>, Error> {
    let api: Api<Lean<Alert>> = ctx.api(&alert.namespace().unwrap_or_default());
    let read = call("read Alert", api.get_opt(&alert.name_any())).await?;
    Ok(read.and_then(|read| read.0.ok()))
}

/// Writes down that an alert counts as ended. Everything else follows from that.
pub async fn end_silent(ctx: &Context, alert: &Alert, end: Time) -> Result<(), Error> {
    let api: Api<Alert> = ctx.api(&alert.namespace().unwrap_or_default());
    // The resourceVersion: it may be repeated at this very moment.
    let patch = json!({
        "metadata": { "resourceVersion": alert.metadata.resource_version },
        "spec": { "endsAt": end },
    });
    let params = PatchParams { field_manager: Some(names::CONTROLLER.into()), ..PatchParams::default() };
    tracing::info!(alert = %alert.name_any(), namespace = ?alert.namespace(), %end, "not repeated within retention.alertSilenceHours: counts as ended");
    call("end an Alert", api.patch(&alert.name_any(), &params, &Patch::Merge(&patch))).await.map(drop)
}

/// The one workload that the labels name, as the cluster has it.
async fn resolve(ctx: &Shared, alert: &Alert) -> Result<Result<ObjectRef, Unresolved>, Error> {
    if let Some(note) = alert.spec.note.as_ref().filter(|note| note.reason == IntakeReason::Unreadable) {
        return Ok(Err(Unresolved::new(Reason::TargetUnresolved, note.message.clone())));
    }
    let home = alert.namespace().unwrap_or_default();
    let confined = target::confinement(&home, &ctx.system, alert.spec.tenant.as_deref());
    let named = match target::candidates(&alert.spec.labels, confined) {
        Ok(named) => named,
        Err(unresolved) => return Ok(Err(unresolved)),
    };
    let mut found = match look_up(ctx, &named).await? {
        Ok(found) => found,
        Err(unresolved) => return Ok(Err(unresolved)),
    };
    if found.is_empty() {
        // A pod may be gone since, and what made it still there and still broken.
        let made_by: Vec<Candidate> = named.iter().flat_map(target::controllers_of).collect();
        found = match look_up(ctx, &made_by).await? {
            Ok(found) => found,
            Err(unresolved) => return Ok(Err(unresolved)),
        };
    }
    Ok(target::unique(&named, found))
}

/// The topmost workloads of those of the candidates that exist.
async fn look_up(ctx: &Shared, named: &[Candidate]) -> Result<Result<Vec<ObjectRef>, Unresolved>, Error> {
    let mut found: Vec<ObjectRef> = Vec::new();
    for candidate in named {
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
    Ok(Ok(found))
}

/// Opens an incident or joins one; returns its namespace and name.
async fn place(
    ctx: &Shared,
    alert: &Alert,
    target: &Result<ObjectRef, Unresolved>,
    namespace: &str,
    fires_again: Option<i64>,
) -> Result<(String, String), Error> {
    let namespace = namespace.to_owned();
    let api: Api<Incident> = ctx.api(&namespace);
    let reference = grouping::reference(alert);
    let label = match target {
        Ok(target) => target.uid.clone(),
        Err(_) => names::short_digest(&["unresolved", &reference.namespace, &reference.name]),
    };
    let mut opened = ctx.grouping.lock(&namespace, &label).await;
    let template = match target {
        Ok(target) => template(ctx, &opened, target, &namespace, &label).await?,
        Err(_) => None,
    };
    let incoming = Incoming {
        reference: &reference,
        severity: grouping::severity(alert),
        target: target.as_ref().ok(),
        template: template.as_deref(),
        fires_again,
    };
    let decide = |view: &[Incident]| grouping::group(&incoming, view, clock::now());
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

/// SHA-256 of the target's template, where that decides whether an alert says something new: an incident about the
/// target has ended, and still holds it. One that cannot be read now is an error, so that the alert is placed later; one
/// that has no template to be read has none.
async fn template(
    ctx: &Context,
    opened: &[Incident],
    target: &ObjectRef,
    namespace: &str,
    label: &str,
) -> Result<Option<String>, Error> {
    wait_until_ready(&ctx.incidents).await?;
    let now = clock::now();
    let ended =
        |incident: &Incident| is_about(incident, namespace, label) && grouping::holds(incident, now) == Some(true);
    if !ctx.incidents.state().iter().map(AsRef::as_ref).chain(opened).any(ended) {
        return Ok(None);
    }
    match gather::read_workload(ctx, target, now).await {
        Ok(workload) => Ok(Some(workload.template_hash())),
        Err(error) if error.reason == Reason::ClusterUnreadable => {
            Err(Error::Timeout { what: format!("read {target}") })
        }
        Err(_) => Ok(None),
    }
}

fn is_about(incident: &Incident, namespace: &str, label: &str) -> bool {
    incident.metadata.namespace.as_deref() == Some(namespace) && grouping::subject(incident) == Some(label)
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
    let mut incident = Incident::new(&opening.name, fitted(spec));
    incident.metadata = ObjectMeta {
        name: Some(opening.name.clone()),
        namespace: Some(namespace.to_owned()),
        labels: Some(BTreeMap::from([(grouping::TARGET_LABEL.to_string(), label)])),
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
    let about = |incident: &&Incident| is_about(incident, namespace, label);
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
    let mut spec = json!({ "alerts": alerts, "severity": severity });
    fit::fit_patch("Incident", "spec", &mut spec);
    let patch = json!({ "metadata": { "resourceVersion": incident.metadata.resource_version }, "spec": spec });
    let params = PatchParams { field_manager: Some(names::CONTROLLER.into()), ..PatchParams::default() };
    call("add an alert to an Incident", api.patch(&incident.name_any(), &params, &Patch::Merge(&patch))).await.map(drop)
}
