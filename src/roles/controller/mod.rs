//! The controller: receives alerts, plans, decides, opens and closes Grants, verifies and escalates.

mod alerts;
mod caches;
mod compiled;
mod context;
mod crowded;
mod deciding;
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
mod progress;
mod resets;
mod retention;
#[cfg(test)]
mod silence_tests;
#[cfg(test)]
mod tests;
mod trimmed;
mod turns;
mod undecodable;
mod upstreams;
mod watchdog;
mod watched;
mod workloads;

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    runtime::{
        Controller, PredicateConfig, WatchStreamExt as _,
        controller::{Action, Config},
        predicates,
    },
};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};

use crate::api::v1alpha1::{Alert, Approval, Grant, Incident, Policy, PolicyException, Runbook};
use crate::audit::Audit;
use crate::clock;
use crate::cluster::{self, Leading};
use crate::core::{
    incident::Terms,
    policy::{MAX_EXCEPTIONS, MAX_POLICIES, MAX_RUNBOOKS},
    retention as resting,
};
use crate::notify::Notifier;
use crate::settings::Settings;

use caches::{EndedInvestigation, OfIncident, events, touched, trim};
use context::{Context, Error, Shared};

pub use process::main;

/// Namespaces whose pods are read at one time.
const NEIGHBOURS: usize = 2;

/// How long is waited for a turn to read pods: each takes four seconds at most.
const NEIGHBOURS_WAIT: std::time::Duration = std::time::Duration::from_secs(10);

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
    /// Where steps of incidents are computed.
    deciding: deciding::Deciding,
}

/// Reconciles until the process ends. Called only while the Lease is held.
async fn run(parts: Parts, leading: Leading) {
    let Parts { client, settings, system, audit, notifier, metrics, deciding } = parts;
    let crowded = Arc::new(Notify::new());
    let (reports, undecodable) = undecodable::Reports::new(metrics.clone());
    let (incident_events, incidents) = events(&client, &reports, caches::INCIDENTS, trim);
    let (alert_events, alerts, of_alerts) =
        caches::alerts(&client, (&reports, &metrics), &system, &settings.retention, crowded.clone());
    let (policy_events, policies) = caches::declared(&client, &reports, MAX_POLICIES, trimmed::policy);
    let (runbook_events, runbooks) = caches::declared(&client, &reports, MAX_RUNBOOKS, trimmed::runbook);
    let (exception_events, exceptions) = caches::declared(&client, &reports, MAX_EXCEPTIONS, trimmed::exception);
    let in_system = Api::namespaced(client.clone(), &system);
    let (chain_events, chains) = caches::events_of(in_system, &reports, caches::DECLARED, trimmed::chain);
    let (tell, enrolled) = watch::channel(BTreeSet::new());
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
        alerts: alerts.clone(),
        policies: policies.clone(),
        compiled: compiled::Compiled::default(),
        runbooks: runbooks.clone(),
        exceptions: exceptions.clone(),
        chains,
        deciding,
        progress: progress::Progress::default(),
        grouping: context::Grouping::default(),
        enrolled: enrolled.clone(),
        workloads: workloads::Workloads::default(),
        neighbours: turns::Turns::new(NEIGHBOURS, NEIGHBOURS_WAIT),
    });

    // Only this process writes their status, so only a changed spec needs a reconcile. How many incidents and alerts are
    // worked on at one time is the reconcilers' own business: kube-runtime would let any pass before the oldest.
    // One that rests has nothing to do, and there are tens of thousands: each would take its place in several queues.
    let incident_events = incident_events
        .try_filter(|incident| std::future::ready(!resting::rests(incident)))
        .predicate_filter(predicates::generation, PredicateConfig::default());
    let incidents = Controller::for_stream(incident_events, incidents)
        .watches_stream(touched::<EndedInvestigation>(&client), |i| i.ended().then(|| i.owner()).flatten())
        .watches_stream(touched::<OfIncident>(&client), |remediation| remediation.owner())
        .watches_stream(touched::<Approval>(&client), |a| caches::owner(a.namespace(), &a.spec.incident))
        .reconcile_on(of_alerts)
        .run(incidents::reconcile, error_policy::<Incident>, ctx.clone())
        .for_each(|_| async {});
    let alerts = Controller::for_stream(alert_events, alerts)
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
    let exceptions = Controller::for_stream(exception_events, exceptions)
        .with_config(Config::default().concurrency(1))
        .run(policy_status::exception, error_policy::<PolicyException>, ctx.clone())
        .for_each(|_| async {});
    let following = cluster::namespaces::follow(client.clone(), ctx.settings.enrolment(), ctx.system.clone(), tell);
    let (grant_events, grants) = events(&client, &reports, caches::DECLARED, |_: &mut Grant| {});
    tokio::join!(
        following,
        incidents,
        alerts,
        policies,
        runbooks,
        exceptions,
        grant_events.for_each(|_| async {}),
        upstreams::run(ctx.clone(), chain_events),
        grants::run(ctx.clone(), grants, enrolled.clone()),
        known_good::run(ctx.clone(), enrolled),
        resets::run(ctx.clone()),
        retention::run(ctx.clone(), &crowded),
        undecodable::run(ctx.clone(), undecodable),
        watched(ctx.clone()),
    );
}

/// Runs the watchdog in a task of its own, so that nothing that blocks the work above blocks it; one that ended is
/// started again. It ends with the work: whoever does not lead hands nothing over.
async fn watched(ctx: Shared) {
    let mut task = JoinSet::new();
    loop {
        task.spawn(watchdog::run(ctx.clone()));
        if let Some(Err(error)) = task.join_next().await {
            tracing::error!(%error, "the watchdog ended, and is started again");
        }
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
}

/// The settings that concern incidents.
fn terms(settings: &Settings, system: &str) -> Terms {
    Terms {
        timings: settings.timings.clone(),
        budgets: settings.budgets.clone(),
        system: system.to_owned(),
        metrics: !settings.prometheus_url.is_empty(),
        evict_pods: settings.evict_pods,
        chain: vec![crate::core::rules::NAME.to_owned()],
    }
}

/// Every error is retried: after a pause that grows with each failure of the same object, and has some chance in it.
fn error_policy<K: Resource<DynamicType = ()>>(object: Arc<K>, error: &Error, ctx: Shared) -> Action {
    ctx.metrics.errors.get_or_create(&metrics::Labels { reason: error.category() }).inc();
    let kind = match K::kind(&()).as_ref() {
        "Incident" => "Incident",
        "Alert" => "Alert",
        "Policy" => "Policy",
        _ => "Runbook",
    };
    let key = progress::key(kind, object.as_ref());
    Action::requeue(ctx.progress.failed(key, error.failure(), &error.to_string(), clock::now()))
}
