//! One constructor for every client, so that every call has a timeout, no write is sent twice, and no page of a list is larger
//! than the memory.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use hyper_timeout::TimeoutConnector;
use hyper_util::{
    client::legacy::{Builder, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use kube::{
    Client, Config,
    client::{ClientBuilder, ConfigExt as _},
};
use tower::{BoxError, ServiceBuilder};

use super::paging::Paging;

/// How long a connection is kept that nobody uses: each takes about 40 KiB. A wave of incidents opens more than a hundred,
/// which what kube builds by itself keeps for a minute and a half. What comes every few seconds finds its connections still,
/// which a bound on their number would close within each wave.
const IDLE: Duration = Duration::from_secs(10);

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
    client(&config).context("cannot build a Kubernetes client")
}

/// What `Client::try_from` builds, that keeps idle connections for less time, and without its trace of each request.
fn client(config: &Config) -> anyhow::Result<Client> {
    ensure!(config.proxy_url.is_none(), "the kubeconfig names a proxy-url, which is not supported: remove it");
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(http)?);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    connector.set_reset_reader_on_write(config.reset_reader_on_write);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(Paging::new(
            Builder::new(TokioExecutor::new()).pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).build(connector),
        ));
    Ok(ClientBuilder::new(service, config.default_namespace.clone()).build())
}
