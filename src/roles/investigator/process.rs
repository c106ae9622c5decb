//! The process of the investigator: health on every replica, the work on the one that leads.

use std::sync::Arc;

use tokio::sync::watch;

use super::{
    metrics::Metrics,
    models::Models,
    run::{Investigator, Room, run},
};
use crate::model::{self, credentials, send::Sender};
use crate::observe::Gatherer;
use crate::roles::Process;
use crate::serve::{self, Health};

/// Lease of the investigator.
const LEASE: &str = "backstop-investigator";

/// Runs the investigator until shutdown.
pub async fn main(process: Process) -> anyhow::Result<()> {
    let shutdown = process.shutdown()?;
    let mut registry = serve::registry("investigator");
    let keys = credentials::Credentials::new(credentials::ROOT);
    let sender = Arc::new(Sender::new(keys, &process.settings.models)?);
    let models = model::metrics::Metrics::new(&mut registry);
    let models = Arc::new(Models::new(process.client.clone(), process.system.clone(), sender, models));
    let investigator = Arc::new(Investigator {
        client: process.client.clone(),
        gatherer: Gatherer::new(process.client.clone(), &process.settings, &mut registry)?,
        models: models.clone(),
        metrics: Metrics::new(&mut registry),
        room: Room::default(),
    });
    // A replica that does not lead is ready: a rolling update needs that.
    let (ready, readiness) = watch::channel(Ok(()));
    let health = Health::new().with("investigations", readiness);
    let server = process.serve(serve::router(health, Arc::new(registry)), &shutdown);
    let stop = shutdown.clone();
    let work = async |_| {
        let stopped = stop.clone();
        let investigating = run(investigator, ready, async move { stopped.cancelled().await });
        let ended = tokio::select! {
            ended = investigating => ended,
            () = models.run() => Err(anyhow::anyhow!("the watch on ModelChains ended")),
        };
        if let Err(error) = ended {
            tracing::error!(error = format!("{error:#}"), "the investigator ended");
        }
        // After a signal the caller ends this future; without one its end is an error.
        if stop.is_cancelled() {
            std::future::pending::<()>().await;
        }
    };
    Process::supervise(process.while_leading(LEASE, &shutdown, work), server, &shutdown).await
}
