//! Reads the body of a response piece by piece, under the limits on its size and on its time, whole or as events.

use std::{error::Error, fmt, sync::OnceLock};

use aws_smithy_eventstream::frame::{DecodedFrame, MessageFrameDecoder};
use aws_smithy_types::event_stream::Message;
use bytes::{Bytes, BytesMut};
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use reqwest::Response;
use sha2::{Digest as _, Sha256};
use sse_stream::{Error as SseError, SseByteStream};
use tokio::time::Instant;

use crate::core::chain::{
    signal::{BodySeen, Seen, Timer},
    spec::Timers,
};

/// Most bytes of a body that are read.
pub const MAX_BODY: usize = 2 * 1024 * 1024;
/// Most bytes of one line of a stream. Some APIs repeat the whole answer in the last line.
pub const MAX_LINE: usize = 1024 * 1024;

/// What came of a body up to now. It outlives the reading.
#[derive(Default)]
pub struct Received {
    bytes: usize,
    hash: Sha256,
    /// When the first byte came.
    pub first: OnceLock<Instant>,
}

impl Received {
    /// For the record.
    pub fn seen(&self) -> BodySeen {
        let mut sha256 = hex::encode(self.hash.clone().finalize());
        sha256.truncate(16);
        BodySeen { bytes: self.bytes as u64, sha256 }
    }
}

/// The pieces of one body.
pub struct Pieces<'a> {
    response: Response,
    timers: Timers,
    bytes: &'a mut usize,
    hash: &'a mut Sha256,
    first: &'a OnceLock<Instant>,
    /// Most bytes of the body.
    limit: usize,
}

/// One event of a stream.
#[derive(Debug)]
pub struct OwnedEvent {
    /// Its type; empty when it has none.
    pub name: String,
    /// It is an exception of an event stream of AWS.
    pub exception: bool,
    /// Its data.
    pub data: Bytes,
}

/// What cut a stream off, on its way through the parser of events.
#[derive(Debug)]
struct Cut(Seen);

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body was cut off")
    }
}

impl Error for Cut {}

impl<'a> Pieces<'a> {
    /// The body of `response`, of at most `limit` bytes.
    pub fn of(response: Response, timers: Timers, limit: usize, received: &'a mut Received) -> Pieces<'a> {
        let Received { bytes, hash, first } = received;
        Pieces { response, timers, bytes, hash, first, limit }
    }

    /// When the first byte came: filled in while the body is read.
    pub fn first(&self) -> &'a OnceLock<Instant> {
        self.first
    }

    /// The next piece; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, Seen> {
        loop {
            let (limit, timer) = match self.first.get() {
                None => (self.timers.first_event, Timer::FirstEvent),
                Some(_) => (self.timers.idle, Timer::Idle),
            };
            let piece = tokio::time::timeout(limit, self.response.chunk()).await;
            let piece = piece.map_err(|_| Seen::TimerFired(timer))?.map_err(|_| Seen::Truncated)?;
            let Some(piece) = piece else { return Ok(None) };
            if piece.is_empty() {
                continue;
            }
            self.first.get_or_init(Instant::now);
            *self.bytes = self.bytes.saturating_add(piece.len());
            self.hash.update(&piece);
            return if *self.bytes > self.limit { Err(Seen::TooLarge) } else { Ok(Some(piece)) };
        }
    }

    /// All of the body, or what came before it was cut off and what did that.
    pub async fn whole(mut self) -> (Vec<u8>, Option<Seen>) {
        let mut body = Vec::new();
        if self.response.content_length().is_some_and(|announced| announced > self.limit as u64) {
            return (body, Some(Seen::TooLarge));
        }
        loop {
            match self.next().await {
                Ok(Some(piece)) => body.extend_from_slice(&piece),
                Ok(None) => return (body, None),
                Err(seen) => return (body, Some(seen)),
            }
        }
    }

    /// The server-sent events of the body.
    pub fn server_sent(self) -> BoxStream<'a, Result<OwnedEvent, Seen>> {
        let pieces = stream::try_unfold((self, Line::default()), |(mut pieces, mut line)| async move {
            match pieces.next().await.map_err(Cut)? {
                Some(piece) => {
                    line.take(&piece)?;
                    Ok(Some((piece, (pieces, line))))
                }
                // Some servers leave out the empty line after the last event.
                None if line.ended() => Ok(Some((Bytes::from_static(b"\n\n"), (pieces, Line::default())))),
                None => Ok::<_, Cut>(None),
            }
        });
        let events = SseByteStream::new(pieces).filter_map(async |event| match event {
            Ok(event) => event.data.map(|data| {
                let name = event.event.unwrap_or_default();
                Ok(OwnedEvent { name, exception: false, data: data.into() })
            }),
            Err(SseError::Body(cut)) => Some(Err(cut.downcast_ref::<Cut>().map_or(Seen::Truncated, |Cut(seen)| *seen))),
            Err(_) => Some(Err(Seen::NotOfTheApi)),
        });
        events.boxed()
    }

    /// The messages of an event stream of AWS.
    pub fn messages(self) -> BoxStream<'a, Result<OwnedEvent, Seen>> {
        // The last of it: bytes came that belong to no message yet.
        let start = (self, BytesMut::new(), MessageFrameDecoder::new(), false);
        let messages = stream::try_unfold(start, |(mut pieces, mut buffer, mut decoder, mut begun)| async move {
            loop {
                match decoder.decode_frame(&mut buffer) {
                    Ok(DecodedFrame::Complete(message)) => {
                        begun = !buffer.is_empty();
                        return Ok(Some((event(&message), (pieces, buffer, decoder, begun))));
                    }
                    Ok(DecodedFrame::Incomplete) => {}
                    Err(_) => return Err(Seen::NotOfTheApi),
                }
                match pieces.next().await? {
                    Some(piece) => buffer.extend_from_slice(&piece),
                    None if begun => return Err(Seen::Truncated),
                    None => return Ok(None),
                }
                begun = true;
            }
        });
        messages.boxed()
    }
}

/// The line of a stream that is read.
#[derive(Default)]
struct Line {
    length: usize,
    begun: bool,
}

impl Line {
    fn take(&mut self, piece: &[u8]) -> Result<(), Cut> {
        self.begun = true;
        for (number, part) in piece.split(|byte| matches!(byte, b'\n' | b'\r')).enumerate() {
            self.length = if number == 0 { self.length.saturating_add(part.len()) } else { part.len() };
            if self.length > MAX_LINE {
                return Err(Cut(Seen::TooLarge));
            }
        }
        Ok(())
    }

    /// Its end came, and nothing after it.
    fn ended(&self) -> bool {
        self.begun && self.length == 0
    }
}

fn event(message: &Message) -> OwnedEvent {
    let header = |name: &str| {
        let found = message.headers().iter().find(|header| header.name().as_str() == name);
        found.and_then(|header| header.value().as_string().ok()).map(|value| value.as_str().to_owned())
    };
    let exception = header(":message-type").is_some_and(|kind| kind != "event");
    let name = if exception { [":exception-type", ":error-code"] } else { [":event-type", ":event-type"] };
    let name = name.into_iter().find_map(header).unwrap_or_default();
    OwnedEvent { name, exception, data: message.payload().clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_counted_over_pieces_and_from_its_begin() {
        let mut line = Line::default();
        assert!(!line.ended(), "nothing came");
        let half = vec![b'x'; MAX_LINE / 2];
        for _ in 0..2 {
            assert!(line.take(&half).is_ok());
        }
        assert!(!line.ended());
        assert!(line.take(b"\r\n").is_ok());
        assert!(line.ended());
        for _ in 0..2 {
            assert!(line.take(&half).is_ok());
        }
        assert!(line.take(b"xx").is_err());
    }
}
