//! One constructor for every client, so that every call has a timeout and no write is sent twice.

use std::time::Duration;

use anyhow::Context as _;
use kube::{Client, Config};

/// Connects with the service account of the pod, or with the current kubeconfig context outside of a cluster.
///
/// Mutating calls are never retried by the client: a lost answer is read back by the caller, which knows what
/// it was about to do. Reads are retried by those who need them.
pub async fn connect() -> anyhow::Result<Client> {
    let mut config =
        Config::infer().await.context("no Kubernetes configuration: run inside a cluster, or set KUBECONFIG")?;
    config.connect_timeout = Some(Duration::from_secs(5));
    // Longer than a watch's own idle timeout; the bound on one call is set where it is made.
    config.read_timeout = Some(Duration::from_secs(330));
    config.write_timeout = Some(Duration::from_secs(10));
    config.reset_reader_on_write = true;
    config.default_retry = false;
    Client::try_from(config).context("cannot build a Kubernetes client")
}
