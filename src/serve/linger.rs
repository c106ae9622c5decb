//! Reads on after an answer that came before the whole request was read.
//!
//! A server that closes a connection with unread data in it resets it, and a client that writes its whole body before it
//! reads the answer then sees a broken pipe instead of the answer. Alertmanager sends such a request again, although
//! "too large" and "wrong token" are final. So what is left of a refused body is read and dropped, within bounds.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Body, Bytes};
use futures::{StreamExt as _, TryStreamExt as _};
use hyper::{
    Request,
    body::{Body as HttpBody, Frame, SizeHint},
    header,
};

/// How much of a body is read and dropped after the answer, and for how long, until the connection is closed anyway.
#[derive(Clone, Copy, Debug)]
pub(super) struct Linger {
    /// Bytes at most.
    pub bytes: usize,
    /// Time at most.
    pub time: Duration,
}

/// 16 MiB is some ten times what Alertmanager sends for a thousand alerts; 5 s is what a sender has to write it. With
/// every connection in use that is 512 idle reads at most, and no memory: what is read is dropped at once.
pub(super) const LINGER: Linger = Linger { bytes: 16 << 20, time: Duration::from_secs(5) };

impl Linger {
    /// The request with a body that is read to its end, within the bounds, when whoever has it drops it before.
    pub(super) fn over<B>(self, request: Request<B>) -> Request<Body>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<axum::BoxError>,
    {
        // Who asks first whether to send the body sends none after a refusal; reading it would ask for it.
        let waits = request.headers().contains_key(header::EXPECT);
        request.map(|body| Body::new(Rest { body: Body::new(body), linger: self, begun: !waits }))
    }
}

/// A body that does not stay unread.
struct Rest {
    body: Body,
    linger: Linger,
    /// The client sends it.
    begun: bool,
}

impl HttpBody for Rest {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.begun = true;
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        // Without a runtime the process is at its end.
        if let (true, false, Ok(runtime)) =
            (self.begun, self.body.is_end_stream(), tokio::runtime::Handle::try_current())
        {
            runtime.spawn(tokio::time::timeout(
                self.linger.time,
                drain(std::mem::take(&mut self.body), self.linger.bytes),
            ));
        }
    }
}

/// Ends with the body, its first error, or when so much was read.
async fn drain(body: Body, bytes: usize) {
    let mut chunks = body.into_data_stream().into_stream();
    let mut read = 0;
    while read < bytes
        && let Some(Ok(chunk)) = chunks.next().await
    {
        read += chunk.len();
    }
}
