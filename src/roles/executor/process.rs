//! The process of the executor: one replica, no Lease; claim, Grant and label fence it.

use std::sync::Arc;

use tokio::sync::watch;

use crate::roles::Process;
use crate::serve::{self, Health};

use super::{Metrics, readiness::Report};

/// Runs the executor until shutdown.
pub async fn main(process: Process) -> anyhow::Result<()> {
    let shutdown = process.shutdown()?;
    let mut registry = serve::registry("executor");
    let metrics = Metrics::default();
    metrics.register(&mut registry);
    let (ready, readiness) = watch::channel(Err("the admission policies were not tried yet".to_string()));
    let (note, notes) = watch::channel(String::new());
    let health = Health::new().with("admission-policies", readiness).with_note("enrolled-namespaces", notes);
    let server = process.serve(serve::router(health, Arc::new(registry)), &shutdown);
    let Process { client, settings, system, .. } = &process;
    let report = Report { ready, note, metrics };
    let work = super::run(client.clone(), system.clone(), settings.clone(), report, shutdown.clone());
    Process::supervise(work, server, &shutdown).await
}
