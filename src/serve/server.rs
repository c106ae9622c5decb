//! The HTTP server. axum's own `serve` sets no time limit for a request's head, so one client that sends a byte a
//! minute would hold a connection indefinitely; here head, idle time and the number of connections are bounded.

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::Router;
use hyper::{server::conn::http1, service::Service as _};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Semaphore};

use super::linger::{LINGER, Linger};

/// A request's head must be complete in this time; also how long a kept-alive connection may stay silent.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections at one time. Above it, new ones wait in the kernel's queue.
const CONNECTIONS: usize = 512;
/// Longest head of a request, in bytes.
const HEAD_BYTES: usize = 32 * 1024;
/// After `shutdown`, requests in flight get this long.
const DRAIN: Duration = Duration::from_secs(10);

/// Serves `router` on `address` until `shutdown` resolves; requests in flight are finished first.
pub async fn serve(
    address: SocketAddr,
    router: Router,
    shutdown: impl Future<Output = ()> + Send,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}: choose a free address with --listen"))?;
    serve_on(listener, router, shutdown).await
}

/// As [`serve`], on a listener that exists already.
pub async fn serve_on(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send,
) -> anyhow::Result<()> {
    serve_bounded(listener, router, shutdown, HEAD_TIMEOUT, LINGER).await
}

pub(super) async fn serve_bounded(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send,
    head_timeout: Duration,
    linger: Linger,
) -> anyhow::Result<()> {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(head_timeout).max_buf_size(HEAD_BYTES);
    tokio::pin!(shutdown);
    loop {
        let next = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (accept(&listener).await, slot)
        };
        let (stream, slot) = tokio::select! {
            next = next => next,
            () = &mut shutdown => break,
        };
        let routes = TowerToHyperService::new(router.clone());
        let service = hyper::service::service_fn(move |request| routes.call(linger.over(request)));
        let connection = graceful.watch(builder.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended early");
            }
            drop(slot);
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!(seconds = DRAIN.as_secs(), "requests were still open when the server stopped");
    }
    Ok(())
}

/// Accepts a connection. Errors are of one connection, or mean that file descriptors ran out: neither may end the
/// server, and the latter must not make it spin.
async fn accept(listener: &TcpListener) -> tokio::net::TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                return stream;
            }
            Err(error) if one_connection(&error) => {}
            Err(error) => {
                tracing::error!(%error, "cannot accept connections, will retry");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

fn one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}
