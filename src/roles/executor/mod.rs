//! The executor: it sees typed actions, exact values and Grants, never prose and never a model.
//!
//! gather ([`Reader::observe`](crate::act::Reader::observe)) → decide ([`step`](crate::core::execution::step)) → apply
//! ([`act::send`](crate::act::send)) → status, which is one of the requests.

mod driver;
mod metrics;
mod process;
mod readiness;

use anyhow::bail;
use kube::Client;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

pub use metrics::Metrics;
pub use process::main;

use crate::{act::Reader, settings::Settings};
use driver::Driver;
use readiness::Readiness;

/// Works in the namespaces that the settings name, until shutdown.
///
/// `system` is the system namespace. `ready` tells whether the admission policies were seen in force; while they are not, nothing is armed.
pub async fn run(
    client: Client,
    system: String,
    settings: Settings,
    ready: watch::Sender<Result<(), String>>,
    metrics: Metrics,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let namespaces = settings.namespaces;
    // The same after each start: the next process takes its claims back at once. Two installations differ.
    let holder = format!("executor/{}", client.default_namespace());
    tracing::info!(?namespaces, holder, "executor started");
    let reader = Reader { client: client.clone(), holder, system };
    let readiness = Readiness::new(&namespaces);
    let mut tasks = JoinSet::new();
    {
        let (readiness, client, metrics, shutdown) =
            (readiness.clone(), client.clone(), metrics.clone(), shutdown.clone());
        tasks.spawn(async move { readiness.keep_testing(client, ready, metrics, shutdown).await });
    }
    for namespace in namespaces {
        let driver = Driver::new(reader.clone(), namespace, readiness.clone(), metrics.clone());
        tasks.spawn(driver.run(shutdown.clone()));
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            bail!("a task of the executor failed: {error}");
        }
        if !shutdown.is_cancelled() {
            bail!("a task of the executor ended by itself");
        }
    }
    Ok(())
}
