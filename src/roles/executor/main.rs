//! The process of the executor: one replica, no Lease; claim, Grant and label fence it.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::watch;

use crate::roles::Start;
use crate::serve::{self, Health};

use super::Metrics;

/// Runs the executor until shutdown.
pub async fn main(start: Start) -> anyhow::Result<()> {
    let shutdown = start.shutdown()?;
    let mut registry = serve::registry("executor");
    let metrics = Metrics::default();
    metrics.register(&mut registry);
    let (ready, readiness) = watch::channel(Err("the admission policies were not tried yet".to_string()));
    let health = Health::new().with("admission-policies", readiness);
    let server = start.serve(serve::router(health, Arc::new(registry)), &shutdown);
    // Both end by the same shutdown. The server's end must not cut off a step of the hands.
    let hands = super::run(start.client.clone(), start.settings.clone(), ready, metrics, shutdown.clone());
    tokio::try_join!(hands, async { server.await.context("the HTTP server ended")? })?;
    Ok(())
}
