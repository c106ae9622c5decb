//! The controller: receives alerts, plans, decides, opens and closes Grants, verifies and escalates.

mod alerts;
mod context;
mod effects;
mod gather;
mod grants;
mod incidents;
mod known_good;
mod ledgers;
mod metrics;
mod notices;
mod policy_status;
mod process;
mod retention;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    core::DeserializeGuard,
    runtime::{
        Controller, PredicateConfig, WatchStreamExt as _,
        controller::{Action, Config},
        predicates,
        reflector::{self, ObjectRef, Store},
        watcher,
    },
};
use serde::de::DeserializeOwned;

use crate::api::v1alpha1::{Alert, Approval, Incident, IncidentStatus, Investigation, Policy, Remediation, Runbook};
use crate::audit::Audit;
use crate::cluster::{self, Leading};
use crate::core::incident::Terms;
use crate::notify::Notifier;
use crate::settings::Settings;

use context::{Context, Error, Shared};

pub use process::main;

/// What the process passes to the reconcilers.
struct Parts {
    /// Client that never retries a write.
    client: Client,
    /// The operator's settings.
    settings: Settings,
    /// Namespace of the operator.
    system: String,
    /// The audit log.
    audit: Audit,
    /// Escalations.
    notifier: Notifier,
    /// Metrics of this role.
    metrics: metrics::Metrics,
}

/// Reconciles until the process ends. Called only while the Lease is held.
async fn run(parts: Parts, leading: Leading) {
    let Parts { client, settings, system, audit, notifier, metrics } = parts;
    let (incident_events, incidents) = events(&client, trim);
    let (alert_events, alerts) = events(&client, |alert: &mut Alert| alert.spec.annotations.clear());
    let (policy_events, policies) = events(&client, |_: &mut Policy| {});
    let (runbook_events, runbooks) = events(&client, |_: &mut Runbook| {});
    let ctx: Shared = Arc::new(Context {
        client: client.clone(),
        terms: terms(&settings, &system),
        settings,
        system,
        audit,
        notifier,
        metrics,
        leading,
        incidents: incidents.clone(),
        policies: policies.clone(),
        runbooks: runbooks.clone(),
        grouping: context::Grouping::default(),
    });

    // Only this process writes their status, so only a changed spec needs a reconcile.
    let incident_events = incident_events.predicate_filter(predicates::generation, PredicateConfig::default());
    let incidents = Controller::for_stream(incident_events, incidents)
        .watches_stream(touched::<Investigation>(&client), |i: Investigation| {
            let ended = i.status.is_some_and(|status| status.phase.is_final());
            ended.then(|| owner(i.metadata.namespace, &i.spec.incident)).flatten()
        })
        .watches_stream(touched::<Remediation>(&client), |r| owner(r.namespace(), &r.spec.incident))
        .watches_stream(touched::<Approval>(&client), |a| owner(a.namespace(), &a.spec.incident))
        .watches_stream(touched::<Alert>(&client), |alert: Alert| {
            let status = alert.status.unwrap_or_default();
            owner(Some(status.incident_namespace), &status.incident)
        })
        .with_config(Config::default().concurrency(16))
        .run(incidents::reconcile, error_policy::<Incident>, ctx.clone())
        .for_each(|_| async {});
    let alerts = Controller::for_stream(alert_events, alerts)
        .with_config(Config::default().concurrency(8))
        .run(alerts::reconcile, error_policy::<Alert>, ctx.clone())
        .for_each(|_| async {});
    let policies = Controller::for_stream(policy_events, policies)
        .with_config(Config::default().concurrency(1))
        .run(policy_status::policy, error_policy::<Policy>, ctx.clone())
        .for_each(|_| async {});
    let runbooks = Controller::for_stream(runbook_events, runbooks)
        .with_config(Config::default().concurrency(1))
        .run(policy_status::runbook, error_policy::<Runbook>, ctx.clone())
        .for_each(|_| async {});
    tokio::join!(
        incidents,
        alerts,
        policies,
        runbooks,
        grants::run(ctx.clone()),
        known_good::run(ctx.clone()),
        retention::run(ctx.clone()),
    );
}

/// The settings that concern incidents.
fn terms(settings: &Settings, system: &str) -> Terms {
    Terms {
        timings: settings.timings.clone(),
        budgets: settings.budgets.clone(),
        enrolled: settings.namespaces.clone(),
        system: system.to_owned(),
        metrics: !settings.prometheus_url.is_empty(),
        evict_pods: settings.evict_pods,
        chain: vec![crate::core::rules::NAME.to_owned()],
    }
}

/// Drops from a cached Incident what the cache is not needed for: thousands are kept for a week, and a step reads its
/// own from the API server.
fn trim(incident: &mut Incident) {
    if let Some(status) = &mut incident.status {
        let (phase, times) = (status.phase, status.times.clone());
        *status = IncidentStatus { phase, times, ..IncidentStatus::default() };
    }
}

/// A guarded watch with the store that it fills. `trim` drops from each object what the store is not needed for.
fn events<K>(
    client: &Client,
    trim: fn(&mut K),
) -> (impl Stream<Item = Result<K, watcher::Error>> + Send + use<K>, Store<K>)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let (reader, writer) = reflector::store();
    let api: Api<DeserializeGuard<K>> = Api::all(client.clone());
    let events = cluster::watch(api, watcher::Config::default()).map(move |event| Ok(event.modify(trim)));
    let events = events.reflect(writer).applied_objects();
    (events, reader)
}

/// A guarded watch without a store.
fn touched<K>(client: &Client) -> impl Stream<Item = Result<K, watcher::Error>> + Send + use<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let api: Api<DeserializeGuard<K>> = Api::all(client.clone());
    cluster::watch(api, watcher::Config::default()).map(Ok).touched_objects()
}

fn owner(namespace: Option<String>, name: &str) -> Option<ObjectRef<Incident>> {
    (!name.is_empty()).then(|| ObjectRef::new(name).within(&namespace.unwrap_or_default()))
}

/// Every error is retried: a conflict at once, anything else after a pause with jitter.
fn error_policy<K>(_object: Arc<K>, error: &Error, ctx: Shared) -> Action {
    ctx.metrics.errors.get_or_create(&metrics::Labels { reason: error.category() }).inc();
    if error.category() == "Conflict" {
        return Action::requeue(Duration::from_millis(20));
    }
    let jitter = u64::from(rand::random::<u8>());
    Action::requeue(Duration::from_millis(800 + jitter))
}
