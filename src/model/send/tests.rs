//! The sender against sockets that misbehave in every phase of a call.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue as FrameValue, Message};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use super::*;
use crate::{
    api::v1alpha1::ModelCredentials,
    model::wire::testing::{question, schema, upstream},
};
use Act::{Close, Hang, Reset, Say, Wait};

/// What a server does once it has read a request.
#[derive(Clone)]
enum Act {
    Say(Vec<u8>),
    Wait(u64),
    /// Says it again and again, with a pause between.
    Repeat(Vec<u8>, u64),
    /// Keeps the connection open without a word.
    Hang,
    Reset,
    Close,
    /// Reads the next request of the same connection.
    Again,
}

struct Server {
    url: String,
    connections: Arc<AtomicUsize>,
    /// Heads of the requests.
    requests: mpsc::UnboundedReceiver<String>,
    /// Connections that the client closed while the server was still talking or waiting.
    left: mpsc::UnboundedReceiver<()>,
}

impl Server {
    fn hits(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn serve(acts: impl Into<Vec<Act>>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let (counted, acts) = (Arc::clone(&connections), acts.into());
    let (heads, requests) = mpsc::unbounded_channel();
    let (leaves, left) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(play(stream, acts.clone(), heads.clone(), leaves.clone()));
        }
    });
    Server { url, connections, requests, left }
}

async fn play(
    mut stream: TcpStream,
    acts: Vec<Act>,
    heads: mpsc::UnboundedSender<String>,
    leaves: mpsc::UnboundedSender<()>,
) {
    let Some(head) = request_of(&mut stream).await else { return };
    let _ = heads.send(head);
    for act in acts {
        match act {
            Say(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Wait(milliseconds) => tokio::time::sleep(Duration::from_millis(milliseconds)).await,
            Act::Repeat(bytes, milliseconds) => loop {
                if stream.write_all(&bytes).await.is_err() {
                    let _ = leaves.send(());
                    return;
                }
                tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            },
            Hang => {
                let _ = stream.read(&mut [0; 16]).await;
                let _ = leaves.send(());
                return;
            }
            Reset => {
                stream.set_zero_linger().unwrap();
                return;
            }
            Close => return,
            Act::Again => {
                let Some(head) = request_of(&mut stream).await else { return };
                let _ = heads.send(head);
            }
        }
    }
    let _ = stream.shutdown().await;
}

/// Reads one request; its head.
async fn request_of(stream: &mut TcpStream) -> Option<String> {
    let mut read = Vec::new();
    let end = loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(read[..end].to_vec()).unwrap().to_ascii_lowercase();
    let length: usize = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    while read.len() < end + length {
        if stream.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
    }
    Some(head)
}

fn say(text: &str) -> Act {
    Say(text.as_bytes().to_vec())
}

fn json_of(body: &str) -> Act {
    say(&format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
}

fn head(status: &str, headers: &str) -> Act {
    say(&format!("HTTP/1.1 {status}\r\n{headers}\r\n"))
}

fn sse_head() -> Act {
    head("200 OK", "content-type: text/event-stream\r\ntransfer-encoding: chunked\r\nx-request-id: req-7\r\n")
}

fn chunk(data: &[u8]) -> Act {
    Say([format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat())
}

fn event(data: &str) -> Act {
    chunk(format!("data: {data}\n\n").as_bytes())
}

fn end() -> Act {
    say("0\r\n\r\n")
}

const CONTENT: &str = r#"{"model":"served","choices":[{"delta":{"content":"{}"}}]}"#;
const STOP: &str =
    r#"{"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#;
const WHOLE: &str = r#"{"id":"c1","model":"served","choices":[{"message":{"content":"{}"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#;
const USAGE: Usage = Usage { input: 3, cache_write: 0, cache_read: 0, output: 2, reasoning: 0 };
const LIMIT: Duration = Duration::from_secs(20);

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn sender() -> Sender {
    Sender::new(Credentials::new("/nonexistent"), &ModelNetwork::default()).unwrap()
}

fn chat(url: &str, stream: bool) -> Upstream {
    Upstream { url: url.into(), ..upstream(ModelApi::OpenAiChat, StructuredOutput::Native, stream) }
}

async fn ask(upstream: &Upstream, limit: Duration) -> Result<Reply, Box<Signal>> {
    sender().send(upstream, &question(&schema()), limit).await
}

async fn fail(upstream: &Upstream, limit: Duration) -> Signal {
    *ask(upstream, limit).await.unwrap_err()
}

#[tokio::test]
async fn a_whole_answer_and_a_streamed_one_are_read() {
    let server = serve([json_of(WHOLE)]).await;
    let reply = ask(&chat(&server.url, false), LIMIT).await.unwrap();
    assert_eq!((reply.text.as_str(), reply.served_model.as_deref(), reply.usage), ("{}", Some("served"), Some(USAGE)));
    assert_eq!(reply.request_id.as_deref(), Some("c1"), "of the body, where no header has one");
    assert!(reply.timing.connected.is_some() && reply.timing.head.is_some() && reply.timing.first_event.is_some());

    let server = serve([sse_head(), chunk(b": ping\n\n"), event(CONTENT), event(STOP), event("[DONE]"), end()]).await;
    let reply = ask(&chat(&server.url, true), LIMIT).await.unwrap();
    assert_eq!((reply.text.as_str(), reply.served_model.as_deref(), reply.usage), ("{}", Some("served"), Some(USAGE)));
    assert_eq!(reply.request_id.as_deref(), Some("req-7"));
    let Timing { head, first_event, first_content, total, .. } = reply.timing;
    assert!(head <= first_event && first_event <= first_content && first_content <= Some(total), "{:?}", reply.timing);
}

#[tokio::test]
async fn a_key_that_a_server_sends_back_as_a_name_is_not_repeated() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("own")).unwrap();
    std::fs::write(root.path().join("own/token"), "sk-very-secret-0123456789").unwrap();
    let credentials =
        ModelCredentials { secret: "own".into(), key: "token".into(), secret_key: None, session_key: None };
    let echoes = |status: &str, id: &str, body: &str| {
        let headers = format!("x-request-id: {id}\r\ncontent-length: {}\r\n", body.len());
        [head(status, &headers), say(body)]
    };
    let body = WHOLE.replace("\"served\"", "\"m-SK-VERY-SECRET-0123456789\"");
    for (acts, id) in [
        (echoes("200 OK", "req: sk-very-secret-0123456789", &body), Some("c1")),
        (echoes("200 OK", "req-7 <b>", &body.replace("c1", "secret-0123456789")), Some("req-7b")),
        (echoes("503 Busy", "sk-very-secret-0123456789", "{}"), None),
    ] {
        let server = serve(acts).await;
        let upstream = Upstream { credentials: Some(credentials.clone()), ..chat(&server.url, false) };
        let sender = Sender::new(Credentials::new(root.path()), &ModelNetwork::default()).unwrap();
        match sender.send(&upstream, &question(&schema()), LIMIT).await {
            Ok(reply) => {
                assert_eq!((reply.request_id.as_deref(), reply.served_model.as_deref()), (id, Some("withheld")));
                assert!(!format!("{reply:?}").to_lowercase().contains("very-secret"));
            }
            Err(signal) => {
                assert_eq!(signal.request_id.as_deref(), id);
                assert!(!format!("{signal:?}").to_lowercase().contains("very-secret"));
            }
        }
    }
}

#[tokio::test]
async fn a_server_that_streams_though_it_was_not_asked_to_or_does_not_though_it_was_is_read_too() {
    let server = serve([json_of(WHOLE)]).await;
    assert_eq!(ask(&chat(&server.url, true), LIMIT).await.unwrap().text, "{}");
    let server = serve([sse_head(), event(CONTENT), event(STOP), event("[DONE]"), end()]).await;
    assert_eq!(ask(&chat(&server.url, false), LIMIT).await.unwrap().text, "{}");
    // The last line, without the empty one after it.
    let last = chunk(b"data: [DONE]\n");
    let server = serve([sse_head(), event(CONTENT), event(STOP), last, end()]).await;
    assert_eq!(ask(&chat(&server.url, true), LIMIT).await.unwrap().text, "{}");
}

#[tokio::test]
async fn no_connection_means_that_nothing_was_sent_and_why_is_told_apart() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for (url, connect, seen) in [
        ("http://no-such-host.invalid".to_owned(), 5_000, Seen::Unresolved),
        (format!("http://{closed}"), 5_000, Seen::Refused),
        // It accepts, and says nothing to a handshake.
        (format!("https://{}", silent.local_addr().unwrap()), 100, Seen::TimerFired(Timer::Connect)),
    ] {
        let mut upstream = chat(&url, true);
        upstream.timers.connect = ms(connect);
        let signal = fail(&upstream, LIMIT).await;
        assert_eq!((signal.seen, signal.sent, signal.status), (seen, Sent::Nothing, None), "{url}");
        assert_eq!(signal.body, None);
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        // All of the greeting: what is left unread resets the connection.
        let _ = stream.read(&mut [0; 16 * 1024]).await;
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\nyou spoke TLS to a plain server\r\n").await;
        while stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {}
    });
    let signal = fail(&chat(&url, true), LIMIT).await;
    assert_eq!((signal.seen, signal.sent), (Seen::Tls, Sent::Nothing));
}

#[tokio::test]
async fn what_breaks_before_the_head_is_whole_may_have_been_charged() {
    let mut timers = chat("", false).timers;
    timers.response_head = ms(150);
    for (acts, seen) in [
        (vec![Reset], Seen::Broken),
        (vec![Close], Seen::Broken),
        (vec![say("HTTP/1.1 200 OK\r\ncontent-ty")], Seen::Broken),
        (vec![say("HTTP/1.1 200 OK\r\ncontent-ty"), Hang], Seen::TimerFired(Timer::ResponseHead)),
        (vec![Act::Repeat(b"HTTP/1.1 ".to_vec(), 10_000)], Seen::TimerFired(Timer::ResponseHead)),
        (vec![Hang], Seen::TimerFired(Timer::ResponseHead)),
        (vec![say("SSH-2.0-OpenSSH_9.9\r\n\r\n")], Seen::NotHttp),
        // HTTP/2 is never offered. Whoever speaks it all the same, SETTINGS and then GOAWAY with ENHANCE_YOUR_CALM, says
        // nothing that is understood.
        (
            vec![Say(
                [&[0, 0, 0, 4, 0, 0, 0, 0, 0][..], &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11]].concat()
            )],
            Seen::NotHttp,
        ),
        (
            vec![say("HTTP/1.1 200 OK\r\n"), Act::Repeat(b"x-a: bbbbbbbbbbbbbbbbbbbbbbbb\r\n".repeat(1000), 0)],
            Seen::NotHttp,
        ),
    ] {
        let server = serve(acts).await;
        // How soon a busy machine sees what is wrong is nothing that is tested here.
        let timers = if seen == Seen::NotHttp { chat("", false).timers } else { timers };
        let signal = fail(&Upstream { timers, ..chat(&server.url, false) }, LIMIT).await;
        assert_eq!((signal.seen, signal.sent, signal.status), (seen, Sent::Maybe, None));
        assert_eq!(server.hits(), 1, "{seen:?}: sent once, whatever comes of it");
    }
}

#[tokio::test]
async fn a_body_that_is_late_stops_or_never_ends_is_seen_as_such() {
    let mut timers = chat("", true).timers;
    timers.first_event = ms(150);
    timers.first_content = ms(150);
    timers.idle = ms(150);
    let length = "content-type: application/json\r\ncontent-length: 1000\r\n";
    let endless = "content-type: application/json\r\ntransfer-encoding: chunked\r\n";
    let large = "content-type: application/json\r\ncontent-length: 10485760\r\n";
    let line = format!("data: {}", "x".repeat(64 * 1024));
    let Say(x) = chunk(&[b'x'; 64 * 1024]) else { unreachable!() };
    let Say(comment) = chunk(b": ping\n\n") else { unreachable!() };
    let Say(piece) = chunk(line.as_bytes().strip_prefix(b"data: ").unwrap()) else { unreachable!() };
    for (acts, seen) in [
        (vec![head("200 OK", length), Hang], Seen::TimerFired(Timer::FirstEvent)),
        (vec![sse_head(), Hang], Seen::TimerFired(Timer::FirstEvent)),
        (vec![head("200 OK", length), say("{"), Hang], Seen::TimerFired(Timer::Idle)),
        (vec![sse_head(), event(CONTENT), Hang], Seen::TimerFired(Timer::Idle)),
        (vec![sse_head(), Act::Repeat(comment, 20)], Seen::TimerFired(Timer::FirstContent)),
        (vec![head("200 OK", length), say("{"), Close], Seen::Truncated),
        (vec![head("200 OK", length), say("{"), Wait(50), Reset], Seen::Truncated),
        (vec![sse_head(), event(CONTENT), end()], Seen::Truncated),
        (vec![sse_head(), event(CONTENT), event(STOP), end()], Seen::Truncated),
        (vec![sse_head(), event(CONTENT), Close], Seen::Truncated),
        (vec![sse_head(), event(CONTENT), Wait(20), Reset], Seen::Truncated),
        (vec![head("200 OK", large), Hang], Seen::TooLarge),
        (vec![head("200 OK", endless), Act::Repeat(x, 0)], Seen::TooLarge),
        (vec![sse_head(), chunk(b"data: "), Act::Repeat(piece, 0)], Seen::TooLarge),
    ] {
        let server = serve(acts).await;
        let signal = fail(&Upstream { timers, ..chat(&server.url, true) }, LIMIT).await;
        assert_eq!((signal.seen, signal.sent, signal.status), (seen, Sent::Maybe, Some(200)));
        assert!(signal.body.is_some_and(|body| body.bytes <= (body::MAX_BODY + 256 * 1024) as u64));
        assert_eq!(server.hits(), 1);
    }
}

#[tokio::test]
async fn a_body_that_drips_ends_with_the_calls_own_limit() {
    for acts in [
        vec![sse_head(), event(CONTENT), Act::Repeat(b"1\r\n:\r\n".to_vec(), 10)],
        vec![head("200 OK", "transfer-encoding: chunked\r\n"), Act::Repeat(b"1\r\n \r\n".to_vec(), 10)],
    ] {
        let server = serve(acts).await;
        let began = Instant::now();
        let signal = fail(&chat(&server.url, true), ms(300)).await;
        assert_eq!((signal.seen, signal.sent), (Seen::TimerFired(Timer::Overall), Sent::Maybe));
        assert!(began.elapsed() < ms(1_500));
        assert_eq!(signal.status, Some(200));
    }
}

#[tokio::test]
async fn without_time_nothing_is_sent() {
    let server = serve([json_of(WHOLE)]).await;
    let signal = fail(&chat(&server.url, false), Duration::ZERO).await;
    assert_eq!((signal.seen, signal.sent), (Seen::TimerFired(Timer::Overall), Sent::Nothing));
    tokio::time::sleep(ms(50)).await;
    assert!(server.requests.is_empty());
}

#[tokio::test]
async fn a_2xx_that_is_no_answer_is_seen_as_what_it_is() {
    let html = "content-type: text/html; charset=utf-8\r\ncontent-length: 6\r\n";
    let plain = "content-type: text/plain\r\ncontent-length: 12\r\n";
    let error = r#"{"error":{"type":"overloaded_error","code":"slow_down"}}"#;
    let limit = r#"{"choices":[{"message":{"content":"{\"cau"},"finish_reason":"length"}],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#;
    for (acts, seen) in [
        (vec![head("200 OK", html), say("<html>")], Seen::Html),
        (vec![head("200 OK", plain), say("\n<!doctype >")], Seen::Html),
        (vec![head("200 OK", "content-length: 0\r\n")], Seen::Empty),
        (vec![head("204 No Content", "")], Seen::Empty),
        (vec![head("200 OK", "content-type: application/json\r\ncontent-length: 0\r\n")], Seen::Empty),
        (vec![sse_head(), end()], Seen::Empty),
        (vec![sse_head(), chunk(b": nothing\n\n"), end()], Seen::Empty),
        (vec![json_of(error)], Seen::ErrorBody),
        (vec![sse_head(), event(CONTENT), event(error)], Seen::ErrorEvent),
        (vec![json_of("pong")], Seen::NotOfTheApi),
        (vec![json_of(r#"{"id":"a","id":"b","choices":[]}"#)], Seen::NotOfTheApi),
        (vec![sse_head(), chunk(b"data: \xff\xfe\n\n"), end()], Seen::NotOfTheApi),
        (vec![json_of(r#"{"choices":[{"message":{"content":"{}"}"#)], Seen::Truncated),
        (vec![json_of(r#"{"choices":[]}"#)], Seen::NoText),
        (vec![json_of(limit)], Seen::Finished(Finish::OutputLimit)),
    ] {
        let server = serve(acts).await;
        let signal = fail(&chat(&server.url, true), LIMIT).await;
        assert_eq!(signal.seen, seen);
        assert_eq!(signal.sent, Sent::Maybe);
        assert_eq!(signal.usage.is_some(), matches!(seen, Seen::Finished(_)), "{seen:?}");
        assert_eq!(signal.error.code.is_some(), matches!(seen, Seen::ErrorBody | Seen::ErrorEvent), "{seen:?}");
        assert_eq!(server.hits(), 1);
    }
}

#[tokio::test]
async fn what_was_used_and_served_before_a_stream_broke_is_kept() {
    let server = serve([sse_head(), event(CONTENT), event(STOP), Wait(50), Reset]).await;
    let signal = fail(&chat(&server.url, true), LIMIT).await;
    assert_eq!((signal.usage, signal.served_model.as_deref()), (Some(USAGE), Some("served")));
    assert_eq!(signal.request_id.as_deref(), Some("req-7"));
    assert!(signal.timing.first_content.is_some());
    // Also when the whole call ends by its own limit.
    let server = serve([sse_head(), event(CONTENT), event(STOP), Hang]).await;
    let signal = fail(&chat(&server.url, true), ms(300)).await;
    assert_eq!((signal.seen, signal.usage), (Seen::TimerFired(Timer::Overall), Some(USAGE)));
}

#[tokio::test]
async fn a_status_that_is_no_2xx_comes_with_its_headers_and_codes_and_without_its_text() {
    let body = r#"{"error":{"type":"insufficient_quota","code":"credit_balance_exhausted","message":"key sk-echoed"}}"#;
    let headers = format!(
        "retry-after: 20\r\nx-should-retry: false\r\nx-ratelimit-reset-requests: 6m0s\r\nset-cookie: sk-cookie\r\n\
         x-request-id: req-9\r\ncontent-length: {}\r\n",
        body.len()
    );
    let server = serve([head("429 Too Many Requests", &headers), say(body)]).await;
    let signal = fail(&chat(&server.url, true), LIMIT).await;
    assert_eq!((signal.seen, signal.status, signal.sent), (Seen::Status, Some(429), Sent::Maybe));
    assert_eq!(signal.error.kind.as_deref(), Some("insufficient_quota"));
    assert_eq!(signal.error.code.as_deref(), Some("credit_balance_exhausted"));
    assert_eq!(signal.headers.get("retry-after"), Some("20"));
    assert_eq!(signal.headers.get("x-should-retry"), Some("false"));
    assert_eq!(signal.headers.get("x-ratelimit-reset-requests"), Some("6m0s"));
    assert_eq!(signal.request_id.as_deref(), Some("req-9"));
    assert_eq!(signal.body.as_ref().map(|seen| (seen.bytes, seen.sha256.len())), Some((body.len() as u64, 16)));
    assert!(!format!("{signal:?}").contains("sk-"));

    let aws = "x-amzn-errortype: ThrottlingException:http://internal.amazon.com/coral/\r\ncontent-length: 0\r\n";
    let server = serve([head("429 Too Many Requests", aws)]).await;
    let bedrock =
        Upstream { url: server.url.clone(), ..upstream(ModelApi::BedrockConverse, StructuredOutput::Native, true) };
    assert_eq!(fail(&bedrock, LIMIT).await.error.kind.as_deref(), Some("ThrottlingException"));
}

#[tokio::test]
async fn the_body_of_an_error_changes_nothing_about_its_status() {
    let mut timers = chat("", true).timers;
    timers.idle = ms(150);
    let chunked = "content-type: text/html\r\ntransfer-encoding: chunked\r\n";
    let Say(x) = chunk(&[b'x'; 64 * 1024]) else { unreachable!() };
    for acts in [
        vec![head("503 Service Unavailable", chunked), Hang],
        vec![head("503 Service Unavailable", chunked), Close],
        vec![head("503 Service Unavailable", chunked), Act::Repeat(x, 0)],
        vec![head("503 Service Unavailable", chunked), Act::Repeat(b"1\r\nx\r\n".to_vec(), 5)],
        vec![head("503 Service Unavailable", "content-length: 6\r\n"), say("<html>")],
    ] {
        let server = serve(acts).await;
        let began = Instant::now();
        let signal = fail(&Upstream { timers, ..chat(&server.url, true) }, LIMIT).await;
        assert_eq!((signal.seen, signal.status), (Seen::Status, Some(503)));
        assert!(began.elapsed() < ms(2_000));
        assert_eq!(signal.error, ErrorSaid::default());
    }
}

#[tokio::test]
async fn no_redirect_is_followed() {
    let target = serve([json_of(WHOLE)]).await;
    let location = format!("location: {}\r\ncontent-length: 0\r\n", target.url);
    for status in ["302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let server = serve([head(status, &location)]).await;
        let signal = fail(&chat(&server.url, true), LIMIT).await;
        assert_eq!((signal.seen, signal.status), (Seen::Status, status[..3].parse().ok()));
    }
    assert_eq!(target.hits(), 0);
}

#[tokio::test]
async fn a_connection_is_used_again_and_one_that_was_closed_meanwhile_costs_no_call() {
    let answer = [sse_head(), event(CONTENT), event(STOP), event("[DONE]"), end()];
    let server = serve([answer.to_vec(), vec![Act::Again], answer.to_vec()].concat()).await;
    let (sender, upstream, schema) = (sender(), chat(&server.url, true), schema());
    for hits in [1, 1, 2] {
        let reply = sender.send(&upstream, &question(&schema), LIMIT).await.unwrap();
        assert_eq!(reply.text, "{}");
        assert_eq!(server.hits(), hits);
        // The server closes after the second answer; the client sees that.
        tokio::time::sleep(ms(50)).await;
    }
}

#[tokio::test]
async fn a_call_that_is_dropped_ends_there() {
    for acts in [vec![Hang], vec![sse_head(), event(CONTENT), Hang]] {
        let mut server = serve(acts).await;
        let upstream = chat(&server.url, true);
        let dropped = timeout(ms(200), ask(&upstream, LIMIT)).await;
        assert!(dropped.is_err());
        assert!(timeout(ms(1_000), server.left.recv()).await.is_ok(), "the connection is closed");
        assert_eq!(server.hits(), 1);
    }
}

#[tokio::test]
async fn keys_are_sent_and_stand_in_nothing_that_is_shown() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("openai")).unwrap();
    std::fs::write(root.path().join("openai/token"), "sk-very-secret\n").unwrap();
    let names =
        |key: &str| ModelCredentials { secret: "openai".into(), key: key.into(), secret_key: None, session_key: None };
    let sender = Sender::new(Credentials::new(root.path()), &ModelNetwork::default()).unwrap();
    let mut server = serve([head("401 Unauthorized", "content-length: 0\r\n")]).await;
    let with = |key: &str, url: &str| Upstream { credentials: Some(names(key)), ..chat(url, true) };
    let signal = sender.send(&with("token", &server.url), &question(&schema()), LIMIT).await.unwrap_err();
    assert_eq!(signal.status, Some(401));
    let request = server.requests.recv().await.unwrap();
    assert!(request.contains("authorization: bearer sk-very-secret\r\n"), "{request}");
    assert!(request.starts_with("post /chat/completions http/1.1\r\n"), "{request}");
    assert!(request.contains("accept: text/event-stream\r\n"), "{request}");
    assert!(!format!("{signal:?} {sender:?}").contains("very"));

    let signal = sender.send(&with("absent", &server.url), &question(&schema()), LIMIT).await.unwrap_err();
    assert_eq!((signal.seen, signal.sent), (Seen::NoCredentials, Sent::Nothing));
    let signal = sender.send(&chat("no-url", true), &question(&schema()), LIMIT).await.unwrap_err();
    assert_eq!((signal.seen, signal.sent), (Seen::NotBuilt, Sent::Nothing));
    assert_eq!(server.hits(), 1);
}

fn network(proxy_url: &str, ca_file: &str) -> anyhow::Result<Sender> {
    let network = ModelNetwork { proxy_url: proxy_url.into(), ca_file: ca_file.into() };
    Sender::new(Credentials::new("/nonexistent"), &network)
}

#[test]
fn what_is_no_proxy_and_no_file_with_authorities_is_refused_without_showing_a_password() {
    for bad in ["http://user:hunter2@[bad", "http://user:hunter2@proxy.example:3128", "socks5://proxy.example", "proxy"]
    {
        let error = format!("{:?}", network(bad, "").unwrap_err());
        assert!(error.contains("proxy") && !error.contains("hunter2"), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.crt");
    let path = file.to_str().unwrap();
    assert!(format!("{:?}", network("", path).unwrap_err()).contains(path), "not there");
    std::fs::write(&file, "no certificate").unwrap();
    assert!(network("", path).unwrap_err().to_string().contains("holds no certificate"));
}

#[tokio::test]
async fn through_a_proxy_only_if_one_is_set_and_never_to_a_server_inside() {
    let mut proxy = serve([json_of(WHOLE)]).await;
    let sender = network(&proxy.url, "").unwrap();
    let inside = serve([json_of(WHOLE)]).await;
    assert_eq!(sender.send(&chat(&inside.url, false), &question(&schema()), LIMIT).await.unwrap().text, "{}");
    assert_eq!((inside.hits(), proxy.hits()), (1, 0));
    let upstream = chat("http://gateway.invalid", false);
    assert_eq!(sender.send(&upstream, &question(&schema()), LIMIT).await.unwrap().text, "{}");
    let request = proxy.requests.recv().await.unwrap();
    assert!(request.starts_with("post http://gateway.invalid/chat/completions http/1.1\r\n"), "{request}");
}

fn frame(kind: &str, name: &str, payload: &'static str) -> Vec<u8> {
    let header = |name: &str, value: &str| Header::new(name.to_owned(), FrameValue::String(value.to_owned().into()));
    let named = if kind == "event" { ":event-type" } else { ":exception-type" };
    let message = Message::new(payload.as_bytes())
        .add_header(header(":message-type", kind))
        .add_header(header(named, name))
        .add_header(header(":content-type", "application/json"));
    let mut bytes = Vec::new();
    write_message_to(&message, &mut bytes).unwrap();
    bytes
}

#[tokio::test]
async fn an_event_stream_of_bedrock_is_read_in_pieces_of_any_size() {
    let head = || {
        head(
            "200 OK",
            "content-type: application/vnd.amazon.eventstream\r\ntransfer-encoding: chunked\r\nx-amzn-requestid: r-1\r\n",
        )
    };
    let bedrock =
        |url: &str| Upstream { url: url.into(), ..upstream(ModelApi::BedrockConverse, StructuredOutput::Native, true) };
    let text = frame("event", "contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"text":"{}"}}"#);
    let stop = frame("event", "messageStop", r#"{"stopReason":"end_turn"}"#);
    let metadata = frame("event", "metadata", r#"{"usage":{"inputTokens":3,"outputTokens":2,"totalTokens":5}}"#);
    let all = [text.clone(), stop.clone(), metadata].concat();
    for size in [1, 7, 50, 10_000] {
        let mut acts = vec![head()];
        acts.extend(all.chunks(size).map(chunk));
        acts.push(end());
        let server = serve(acts).await;
        let reply = ask(&bedrock(&server.url), LIMIT).await.unwrap();
        assert_eq!((reply.text.as_str(), reply.usage), ("{}", Some(USAGE)), "{size}");
        assert_eq!((reply.served_model, reply.request_id.as_deref()), (None, Some("r-1")));
    }
    let exception = frame("exception", "modelStreamErrorException", r#"{"message":"…","originalStatusCode":503}"#);
    let mut corrupt = text.clone();
    corrupt[20] ^= 0xff;
    let huge = [&u32::MAX.to_be_bytes()[..], &[0; 60]].concat();
    for (frames, seen) in [
        (vec![text.clone(), stop], None),
        (vec![text.clone()], Some(Seen::Truncated)),
        (vec![text.clone(), exception], Some(Seen::ErrorEvent)),
        (vec![corrupt], Some(Seen::NotOfTheApi)),
        (vec![huge], Some(Seen::Truncated)),
        (vec![], Some(Seen::Empty)),
    ] {
        let mut acts = vec![head()];
        acts.extend(frames.iter().map(|frame| chunk(frame)));
        acts.push(end());
        let server = serve(acts).await;
        let outcome = ask(&bedrock(&server.url), LIMIT).await;
        assert_eq!(outcome.as_ref().err().map(|signal| signal.seen), seen);
        if let Err(signal) = outcome
            && signal.seen == Seen::ErrorEvent
        {
            assert_eq!(signal.error.kind.as_deref(), Some("modelStreamErrorException"));
            assert_eq!(signal.error.status, Some(503));
        }
    }
}

#[tokio::test]
async fn a_fence_around_json_is_taken_off_where_nothing_held_the_model_to_json() {
    let fenced = r#"{"choices":[{"message":{"content":"```json\n{\"cause\":\"x\"}\n```"},"finish_reason":"stop"}]}"#;
    let server = serve([json_of(fenced)]).await;
    let mut upstream = chat(&server.url, false);
    assert!(ask(&upstream, LIMIT).await.unwrap().text.starts_with("```"));
    upstream.structured_output = StructuredOutput::Prompt;
    assert_eq!(ask(&upstream, LIMIT).await.unwrap().text, r#"{"cause":"x"}"#);
    for whole in
        ["{}", "```", "``````", "Here: ```json\n{}\n```", "```a\n1\n```\n```b\n2\n```", "```not a fence\n{}\n```"]
    {
        assert_eq!(unfenced(whole), whole);
    }
}
