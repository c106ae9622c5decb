//! The executor: it sees typed actions, exact values and Grants, never prose and never a model.
//!
//! gather ([`Reader::observe`](crate::act::Reader::observe)) → decide ([`step`](crate::core::execution::step)) → apply
//! ([`act::send`](crate::act::send)) → status, which is one of the requests.

mod driver;
mod metrics;
mod process;
mod readiness;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::bail;
use kube::Client;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

pub use metrics::Metrics;
pub use process::main;

use crate::{act::Reader, cluster, core::enrolment::Enrolment, settings::Settings};
use driver::Driver;
use readiness::{Readiness, Report};

/// Works in the enrolled namespaces until shutdown.
///
/// `system` is the system namespace. `report` tells whether the admission policies were seen in force; while they are not,
/// nothing is armed.
pub async fn run(
    client: Client,
    system: String,
    settings: Settings,
    report: Report,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let enrolment = settings.enrolment();
    // The same after each start: the next process takes its claims back at once. Two installations differ.
    let holder = format!("executor/{}", client.default_namespace());
    tracing::info!(?enrolment, holder, "executor started");
    let reader = Reader { client: client.clone(), holder, system: system.clone() };
    let readiness = Readiness::new();
    let mut changes = readiness.subscribe();
    let metrics = report.metrics.clone();
    let mut tasks: JoinSet<Option<String>> = JoinSet::new();
    let (tell, enrolled) = watch::channel(BTreeSet::new());
    {
        let named = matches!(enrolment, Enrolment::Named(_));
        let following = cluster::namespaces::follow(client.clone(), enrolment, system, tell);
        let stop = shutdown.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = following => None,
                () = stop.cancelled() => None,
            }
        });
        let (readiness, shutdown) = (readiness.clone(), shutdown.clone());
        tasks.spawn(async move {
            readiness.keep_testing(client, enrolled, named, report, shutdown).await;
            None
        });
    }
    // One driver for each namespace: it is begun again only when the one before has ended its step.
    let mut drivers: BTreeMap<String, CancellationToken> = BTreeMap::new();
    loop {
        let present = readiness.present();
        if !shutdown.is_cancelled() {
            for namespace in present.iter().filter(|name| !drivers.contains_key(*name)).cloned().collect::<Vec<_>>() {
                let token = shutdown.child_token();
                let driver = Driver::new(reader.clone(), namespace.clone(), readiness.clone(), metrics.clone());
                drivers.insert(namespace.clone(), token.clone());
                tasks.spawn(async move {
                    driver.run(token).await;
                    Some(namespace)
                });
            }
        }
        for (_, token) in drivers.iter().filter(|(name, _)| !present.contains(*name)) {
            token.cancel();
        }
        tokio::select! {
            Ok(()) = changes.changed() => {}
            ended = tasks.join_next() => match ended {
                None => return Ok(()),
                Some(Err(error)) => bail!("a task of the executor failed: {error}"),
                Some(Ok(name)) => {
                    let asked = name.and_then(|name| drivers.remove(&name)).is_some_and(|token| token.is_cancelled());
                    if !asked && !shutdown.is_cancelled() {
                        bail!("a task of the executor ended by itself");
                    }
                }
            },
        }
    }
}
