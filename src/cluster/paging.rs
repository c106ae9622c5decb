//! Pages of lists that others fill: bounded in bytes while they are read, whatever the size of their objects.
//!
//! Whoever asks for a page says how many objects there are in it, and a tenant says how large they are: a page of 500
//! Deployments may be larger than the memory of the process. So a page that is over [`PAGE_BYTES`] is not read to its end but
//! asked for again with fewer objects, down to one by one, which the API server allows: a page may be shorter than asked
//! for, and goes on with its own token. Whoever asked does not notice. What is large by itself waits for its turn, so that
//! the large ones are few at a time.

use std::{
    collections::{HashMap, VecDeque},
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body::{Body as HttpBody, Frame};
use kube::client::Body;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::{BoxError, Service};

/// Bytes of a page of several objects. 250 pods of a usual size have some 3 MB.
pub const PAGE_BYTES: usize = 6 << 20;
/// Bytes of a page of one object. etcd takes 1.5 MB, which in JSON can be several times as much.
pub const OBJECT_BYTES: usize = 12 << 20;
/// What is not larger waits for nobody.
const SMALL: usize = 1 << 20;
/// Pages larger than that which a process holds at one time.
const LARGE_AT_ONCE: usize = 2;
/// How long one of them may take, from its turn on: the others wait.
const TURN: Duration = Duration::from_secs(30);
/// By how much fewer objects are asked for when a page is too large.
const FEWER: u32 = 8;
/// Lists of which it is remembered how many objects are in a page, so that not every page is asked for several times.
const REMEMBERED: usize = 256;

/// Reads pages of lists for a client, within bounds.
#[derive(Clone)]
pub struct Paging<S> {
    service: S,
    turns: Arc<Semaphore>,
    /// Objects of a page that did fit, by path.
    sizes: Arc<Mutex<HashMap<String, u32>>>,
}

impl<S> Paging<S> {
    /// Around what sends requests.
    pub fn new(service: S) -> Paging<S> {
        Paging { service, turns: Arc::new(Semaphore::new(LARGE_AT_ONCE)), sizes: Arc::default() }
    }
}

/// A body that is passed on, or one that was read.
pub enum Bounded<B> {
    /// As it comes.
    Through(Pin<Box<B>>),
    /// Read to its end; a large one keeps its turn until it is taken.
    Read(VecDeque<Bytes>, Option<OwnedSemaphorePermit>),
}

impl<B> HttpBody for Bounded<B>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            Bounded::Through(body) => body.as_mut().poll_frame(cx).map_err(Into::into),
            Bounded::Read(chunks, _) => Poll::Ready(chunks.pop_front().map(|chunk| Ok(Frame::data(chunk)))),
        }
    }
}

impl<S, B> Service<http::Request<Body>> for Paging<S>
where
    S: Service<http::Request<Body>, Response = http::Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = http::Response<Bounded<B>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.service.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        // The clone may not be ready yet; this one is.
        let clone = self.clone();
        let mut ready = std::mem::replace(self, clone);
        match Listed::of(&request) {
            Some(listed) => Box::pin(async move { ready.pages(request, listed).await }),
            None => {
                let answer = ready.service.call(request);
                Box::pin(
                    async move { Ok(answer.await.map_err(Into::into)?.map(|body| Bounded::Through(Box::pin(body)))) },
                )
            }
        }
    }
}

impl<S, B> Paging<S>
where
    S: Service<http::Request<Body>, Response = http::Response<B>> + Send,
    S::Error: Into<BoxError>,
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    async fn pages(
        &mut self,
        request: http::Request<Body>,
        listed: Listed,
    ) -> Result<http::Response<Bounded<B>>, BoxError> {
        let (parts, _) = request.into_parts();
        // The first page tells anew: what was large may be gone.
        let known = if listed.continues { self.sizes().get(&listed.path).copied() } else { None };
        let mut size = known.map_or(listed.limit, |known| known.min(listed.limit));
        loop {
            let mut parts = parts.clone();
            parts.uri = listed.with_limit(&parts.uri, size)?;
            let answer = self.service.call(http::Request::from_parts(parts, Body::empty()));
            let (head, body) = answer.await.map_err(Into::into)?.into_parts();
            if !head.status.is_success() {
                return Ok(http::Response::from_parts(head, Bounded::Through(Box::pin(body))));
            }
            match read(&self.turns, body, if size > 1 { PAGE_BYTES } else { OBJECT_BYTES }).await? {
                Some((chunks, turn)) => {
                    let length = chunks.iter().map(Bytes::len).sum();
                    self.remember(&listed, size, length);
                    return Ok(http::Response::from_parts(head, Bounded::Read(chunks, turn)));
                }
                None if size > 1 => size = (size / FEWER).max(1),
                None => {
                    let path = &listed.path;
                    return Err(
                        format!("an object of {path} is larger than {OBJECT_BYTES} bytes; make it smaller").into()
                    );
                }
            }
            poll_fn(|cx| self.service.poll_ready(cx)).await.map_err(Into::into)?;
        }
    }

    fn sizes(&self) -> std::sync::MutexGuard<'_, HashMap<String, u32>> {
        self.sizes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How large the next page may be.
    fn remember(&self, listed: &Listed, size: u32, length: usize) {
        let next = if length < PAGE_BYTES / 4 { size.saturating_mul(2) } else { size };
        let mut sizes = self.sizes();
        if next >= listed.limit {
            sizes.remove(&listed.path);
            return;
        }
        if sizes.len() >= REMEMBERED {
            sizes.clear();
        }
        sizes.insert(listed.path.clone(), next);
    }
}

/// The body, unless it is longer than `most`: then the rest is not read.
async fn read<B>(
    turns: &Arc<Semaphore>,
    body: B,
    most: usize,
) -> Result<Option<(VecDeque<Bytes>, Option<OwnedSemaphorePermit>)>, BoxError>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let mut body = Box::pin(body);
    let (mut chunks, mut length) = (VecDeque::new(), 0);
    if more(&mut body, &mut chunks, &mut length, SMALL).await? {
        return Ok(Some((chunks, None)));
    }
    let turn = turns.clone().acquire_owned().await?;
    let rest = tokio::time::timeout(TURN, more(&mut body, &mut chunks, &mut length, most));
    let ended = rest.await.map_err(|_| format!("a large page was not read within {} s", TURN.as_secs()))??;
    Ok(ended.then_some((chunks, Some(turn))))
}

/// Reads on until the end, which is `true`, or until there is more than `most`.
async fn more<B>(
    body: &mut Pin<Box<B>>,
    chunks: &mut VecDeque<Bytes>,
    length: &mut usize,
    most: usize,
) -> Result<bool, BoxError>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    while *length <= most {
        match poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            None => return Ok(true),
            Some(frame) => {
                if let Ok(chunk) = frame.map_err(Into::into)?.into_data() {
                    *length += chunk.len();
                    chunks.push_back(chunk);
                }
            }
        }
    }
    Ok(false)
}

/// A page that is asked for.
struct Listed {
    path: String,
    limit: u32,
    continues: bool,
}

impl Listed {
    /// `None` for everything else, such as a watch.
    fn of<B>(request: &http::Request<B>) -> Option<Listed> {
        if request.method() != http::Method::GET {
            return None;
        }
        let value = |name: &str| values(request.uri()).find(|(key, _)| *key == name).map(|(_, value)| value);
        if value("watch").is_some() {
            return None;
        }
        let limit = value("limit")?.parse().ok().filter(|limit| *limit > 0)?;
        Some(Listed { path: request.uri().path().to_owned(), limit, continues: value("continue").is_some() })
    }

    fn with_limit(&self, uri: &http::Uri, limit: u32) -> Result<http::Uri, BoxError> {
        if limit == self.limit {
            return Ok(uri.clone());
        }
        let others = values(uri).filter(|(key, _)| *key != "limit").map(|(key, value)| format!("{key}={value}"));
        let query: Vec<String> = others.chain([format!("limit={limit}")]).collect();
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = Some(format!("{}?{}", self.path, query.join("&")).parse()?);
        Ok(http::Uri::from_parts(parts)?)
    }
}

/// What a query says, as it is encoded.
fn values(uri: &http::Uri) -> impl Iterator<Item = (&str, &str)> {
    uri.query()
        .unwrap_or_default()
        .split('&')
        .filter(|term| !term.is_empty())
        .map(|term| term.split_once('=').unwrap_or((term, "")))
}

#[cfg(test)]
#[path = "paging_tests.rs"]
mod tests;
