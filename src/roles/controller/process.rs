//! The process of the controller: server and intake on every replica, the work on the one that leads.

use std::sync::Arc;

use kube::{Api, api::ListParams};
use tokio::sync::watch;

use crate::api::v1alpha1::Incident;
use crate::audit;
use crate::notify::Notifier;
use crate::observe::intake::{Intake, KubeAlerts};
use crate::roles::Process;
use crate::serve::{self, Health};

use super::{Parts, deciding::Deciding, metrics::Metrics};

/// Lease of the controller.
const LEASE: &str = "backstop-controller";

/// Runs the controller until shutdown.
pub async fn main(process: Process) -> anyhow::Result<()> {
    let shutdown = process.shutdown()?;
    let mut registry = serve::registry("controller");
    let audit_metrics = audit::Metrics::register(&mut registry);
    let notifier = Notifier::new(&process.client, &process.pod, &process.settings, &mut registry)?;
    let metrics = Metrics::register(&mut registry);
    let (ready, readiness) = watch::channel(Err("the custom resources are not served yet".to_string()));
    // Not the audit log: without it Grants stay closed, and alerts have to come in all the more.
    let deciding = Deciding::default();
    let decides = deciding.clone();
    let health = Health::new().with("custom-resources", readiness).alive_while(move || decides.alive());
    let alerts = Arc::new(KubeAlerts::new(process.client.clone()));
    let intake = Intake::new(&process.settings, &process.system, alerts, &mut registry).router();
    let server = process.serve(intake.merge(serve::router(health, Arc::new(registry))), &shutdown);

    wait_for_kinds(&process, &ready, &shutdown).await;
    let (client, settings, system) = (process.client.clone(), process.settings.clone(), process.system.clone());
    let work = process.while_leading(LEASE, &shutdown, async move |leading| {
        // Only the process that leads writes, so only that one takes the log.
        let audit = audit::open(&settings.audit_dir, audit_metrics);
        super::run(Parts { client, settings, system, audit, notifier, metrics, deciding }, leading).await;
    });
    Process::supervise(work, server, &shutdown).await
}

/// Alerts are taken, and this pod is ready, once the API server serves our kinds; leading is not needed for that.
async fn wait_for_kinds(
    process: &Process,
    ready: &watch::Sender<Result<(), String>>,
    shutdown: &tokio_util::sync::CancellationToken,
) {
    let api: Api<Incident> = Api::all(process.client.clone());
    loop {
        match api.list(&ListParams::default().limit(1)).await {
            Ok(_) => {
                let _ = ready.send(Ok(()));
                return;
            }
            Err(error) => {
                tracing::warn!(%error, "waiting for the custom resources");
                let _ =
                    ready.send(Err(format!("the custom resources cannot be listed: {error}; are the CRDs installed?")));
            }
        }
        tokio::select! {
            () = tokio::time::sleep(std::time::Duration::from_secs(1)) => {}
            () = shutdown.cancelled() => return,
        }
    }
}
