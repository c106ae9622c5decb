//! What the roles have in common around their work: signals, Lease, HTTP server, an end that is an end.

use std::net::SocketAddr;

use anyhow::Context as _;
use axum::Router;
use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::cluster::{Leading, Lease};
use crate::serve;
use crate::settings::Settings;

/// What a role starts with.
pub struct Process {
    /// Client that never retries a write.
    pub client: Client,
    /// The operator's settings.
    pub settings: Settings,
    /// Name of this pod.
    pub pod: String,
    /// Namespace of this pod: the system namespace.
    pub system: String,
    /// Address of the HTTP server.
    pub listen: SocketAddr,
}

impl Process {
    /// A token that is cancelled by SIGTERM or SIGINT.
    pub fn shutdown(&self) -> anyhow::Result<CancellationToken> {
        use tokio::signal::unix::{SignalKind, signal};
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let token = CancellationToken::new();
        let cancelled = token.clone();
        tokio::spawn(async move {
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
            tracing::info!("shutting down");
            cancelled.cancel();
        });
        Ok(token)
    }

    /// Serves `router` until shutdown. When the server ends by itself the process must end too, so that nothing
    /// works on unseen.
    pub fn serve(&self, router: Router, shutdown: &CancellationToken) -> tokio::task::JoinHandle<anyhow::Result<()>> {
        let (address, token) = (self.listen, shutdown.clone());
        tokio::spawn(async move { serve::serve(address, router, async move { token.cancelled().await }).await })
    }

    /// Does `work` while the Lease `name` is held. Losing the Lease is an error: the process must end, its restart
    /// waits for its turn.
    pub async fn while_leading(
        &self,
        name: &str,
        shutdown: &CancellationToken,
        work: impl AsyncFnOnce(Leading),
    ) -> anyhow::Result<()> {
        let held = tokio::select! {
            held = Lease::acquire(self.client.clone(), &self.system, name, &self.pod) => held,
            () = shutdown.cancelled() => return Ok(()),
        };
        tracing::info!(lease = name, holder = %self.pod, "leading");
        let lost = held.lost();
        tokio::select! {
            () = work(held.leading()) => anyhow::bail!("the work of this role ended by itself; this process ends so that it is started again"),
            lost = lost => return Err(lost.into()),
            () = shutdown.cancelled() => {}
        }
        held.release().await;
        Ok(())
    }

    /// Waits for `work` beside the HTTP server. On shutdown each gets the time to end in order: the server to answer the
    /// requests in flight, the work to finish its step and to give its Lease back.
    pub async fn supervise(
        work: impl Future<Output = anyhow::Result<()>>,
        mut server: tokio::task::JoinHandle<anyhow::Result<()>>,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<()> {
        let mut work = std::pin::pin!(work);
        tokio::select! {
            outcome = &mut work => {
                outcome?;
                if shutdown.is_cancelled() {
                    server.await.context("the HTTP server failed")??;
                }
                Ok(())
            }
            outcome = &mut server => {
                outcome.context("the HTTP server failed")??;
                anyhow::ensure!(shutdown.is_cancelled(), "the HTTP server ended by itself");
                work.await
            }
        }
    }
}
