//! What is seen and limited below a request: the name of its host, its connection, and whether its body left.

use std::{
    error::Error,
    fmt,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::{sync::Notify, time::Instant};
use tower::{Layer, Service};

use crate::core::chain::signal::{Seen, Sent, Timer};

type BoxError = Box<dyn Error + Send + Sync>;

tokio::task_local! {
    /// The connection of the request that this task sends.
    static DIAL: Arc<Dial>;
}

/// The connection of one request.
pub struct Dial {
    limit: Duration,
    state: Mutex<State>,
    /// The connection stands.
    pub stands: Notify,
}

/// Where the connection of a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// None was opened: one of the pool is used, or nothing happened yet.
    Untouched,
    /// It is opened since then.
    Dialling(Instant),
    /// It stands since then.
    Stands(Instant),
}

impl Dial {
    /// A connection that has to stand within `limit`.
    pub fn new(limit: Duration) -> Arc<Dial> {
        Arc::new(Dial { limit, state: Mutex::new(State::Untouched), stands: Notify::new() })
    }

    /// Sends a request within `work`; a connection that it opens is this one.
    pub async fn within<T>(self: &Arc<Dial>, work: impl Future<Output = T>) -> T {
        DIAL.scope(Arc::clone(self), work).await
    }

    /// Where it is.
    pub fn state(&self) -> State {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until when the head of the response has to be there, if it may take `head` from when the connection stands.
    pub fn head_until(&self, began: Instant, head: Duration) -> Instant {
        match self.state() {
            State::Untouched => began + head,
            State::Dialling(since) => since + self.limit + head,
            State::Stands(since) => since + head,
        }
    }

    fn set(&self, state: State) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

/// The limit on connecting passed.
#[derive(Debug)]
pub struct TookTooLong;

impl fmt::Display for TookTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection did not stand in time")
    }
}

impl Error for TookTooLong {}

/// Watches connections while they are opened, TLS included.
#[derive(Clone, Copy, Debug)]
pub struct Watch;

/// A connector that is watched.
#[derive(Clone, Debug)]
pub struct Watched<S>(S);

impl<S> Layer<S> for Watch {
    type Service = Watched<S>;

    fn layer(&self, inner: S) -> Watched<S> {
        Watched(inner)
    }
}

impl<S, R> Service<R> for Watched<S>
where
    S: Service<R, Error = BoxError>,
    S::Future: Send + 'static,
    S::Response: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, target: R) -> Self::Future {
        let connecting = self.0.call(target);
        // It is called while the request is polled; the connection may be finished by another task later.
        let Ok(dial) = DIAL.try_with(Arc::clone) else { return Box::pin(connecting) };
        dial.set(State::Dialling(Instant::now()));
        Box::pin(async move {
            let connection = tokio::time::timeout(dial.limit, connecting).await.map_err(|_| TookTooLong)??;
            dial.set(State::Stands(Instant::now()));
            dial.stands.notify_one();
            Ok(connection)
        })
    }
}

/// A name could not be resolved.
#[derive(Debug)]
pub struct Unresolved(String);

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot resolve the host: {}", self.0)
    }
}

impl Error for Unresolved {}

/// The resolver of the system, whose failures can be told from those of connections.
#[derive(Clone, Copy, Debug)]
pub struct Resolver;

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await;
            let found: Vec<SocketAddr> = found.map_err(|error| Unresolved(error.to_string()))?.collect();
            if found.is_empty() {
                return Err(Unresolved("it has no address".into()).into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Whether an error of the connection is one of TLS. Its source is the source of what it holds, not what it holds, and one
/// may hold another.
fn holds_tls(error: &io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(|inner| inner.is::<rustls::Error>() || inner.downcast_ref::<io::Error>().is_some_and(holds_tls))
}

/// What ended a call before the head of a response was there.
pub fn unanswered(error: &reqwest::Error) -> Seen {
    if error.is_builder() {
        return Seen::NotBuilt;
    }
    let connecting = error.is_connect();
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<TookTooLong>() {
            return Seen::TimerFired(Timer::Connect);
        }
        if error.is::<Unresolved>() {
            return Seen::Unresolved;
        }
        if error.is::<rustls::Error>() {
            return Seen::Tls;
        }
        if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse) {
            return Seen::NotHttp;
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            if connecting && error.kind() == io::ErrorKind::ConnectionRefused {
                return Seen::Refused;
            }
            if holds_tls(error) {
                return Seen::Tls;
            }
        }
        cause = error.source();
    }
    if connecting { Seen::NotConnected } else { Seen::Broken }
}

const WAITS: u8 = 0;
const LEFT: u8 = 1;
const REVOKED: u8 = 2;

/// Whether the body of a request left, or still may.
#[derive(Clone, Debug, Default)]
pub struct Departure(Arc<AtomicU8>);

impl Departure {
    /// Whether the upstream can have got the body. After that it cannot get it any more.
    pub fn revoke(&self) -> Sent {
        match self.0.compare_exchange(WAITS, REVOKED, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) | Err(REVOKED) => Sent::Nothing,
            Err(_) => Sent::Maybe,
        }
    }

    /// The body of a request that notes when it leaves.
    pub fn body(&self, bytes: Vec<u8>) -> WatchedBody {
        WatchedBody { bytes: Some(bytes.into()), departure: self.clone() }
    }
}

/// A body that notes when it leaves.
pub struct WatchedBody {
    bytes: Option<Bytes>,
    departure: Departure,
}

impl Body for WatchedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(bytes) = self.bytes.take() else { return Poll::Ready(None) };
        match self.departure.0.compare_exchange(WAITS, LEFT, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) | Err(LEFT) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Err(_) => Poll::Ready(Some(Err("nobody waits for the answer any more".into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use futures::task::noop_waker;

    use super::*;

    fn poll(body: &mut WatchedBody) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(body).poll_frame(&mut Context::from_waker(&noop_waker()))
    }

    #[test]
    fn a_body_that_was_not_asked_for_left_nothing_and_never_leaves_after_that_was_said() {
        let departure = Departure::default();
        let mut body = departure.body(b"{}".to_vec());
        assert_eq!(departure.revoke(), Sent::Nothing);
        assert!(matches!(poll(&mut body), Poll::Ready(Some(Err(_)))));
        assert_eq!(departure.revoke(), Sent::Nothing);
    }

    #[test]
    fn a_body_that_was_asked_for_may_have_arrived() {
        let departure = Departure::default();
        let mut body = departure.body(b"{}".to_vec());
        assert!(matches!(poll(&mut body), Poll::Ready(Some(Ok(_)))));
        assert_eq!(departure.revoke(), Sent::Maybe);
        assert!(matches!(poll(&mut body), Poll::Ready(None)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_limit_on_the_head_counts_from_when_the_connection_stands() {
        let (head, began) = (Duration::from_millis(50), Instant::now());
        let dial = Dial::new(Duration::from_secs(2));
        assert_eq!(dial.head_until(began, head), began + head);
        let mut service = Watch.layer(tower::service_fn(|_: ()| async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Ok::<(), BoxError>(())
        }));
        // Within the dial the call begins, and goes on without it.
        #[expect(clippy::async_yields_async, reason = "it is awaited later")]
        let connecting = dial.within(async { service.call(()) }).await;
        assert_eq!(dial.head_until(began, head), began + Duration::from_millis(2050));
        connecting.await.unwrap();
        assert_eq!(dial.state(), State::Stands(began + Duration::from_millis(100)));
        assert_eq!(dial.head_until(began, head), began + Duration::from_millis(150));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_does_not_stand_in_time_fails_as_such() {
        let dial = Dial::new(Duration::from_secs(2));
        let mut service = Watch.layer(tower::service_fn(|_: ()| std::future::pending::<Result<(), BoxError>>()));
        let began = Instant::now();
        let error = dial.within(async { service.call(()).await }).await.unwrap_err();
        assert!(error.is::<TookTooLong>());
        assert_eq!(began.elapsed(), Duration::from_secs(2));
    }
}
