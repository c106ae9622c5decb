//! The routes and the server, over real connections.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{oneshot, watch},
};

use super::*;

/// Starts a server and returns its address, and what stops it and waits for its end.
async fn start(router: Router) -> (String, oneshot::Sender<()>, tokio::task::JoinHandle<anyhow::Result<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(serve_on(listener, router, async {
        stopped.await.ok();
    }));
    (address, stop, server)
}

async fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let code = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (code, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

#[tokio::test]
async fn readiness_names_every_missing_condition_and_turns_when_they_hold() {
    let (cache, cache_state) = watch::channel(Err("waiting for the first list".to_owned()));
    let (_audit, audit_state) = watch::channel(Ok(()));
    let (note, notes) = watch::channel(String::new());
    let health = Health::new().with("cache", cache_state).with("audit", audit_state).with_note("namespaces", notes);
    let (address, _stop, _server) = start(router(health, Arc::new(registry("controller")))).await;
    assert_eq!(get(&address, "/readyz").await, (503, "cache: waiting for the first list\n".into()));
    assert_eq!(get(&address, "/healthz").await.0, 200, "a process that waits is alive");
    assert_eq!(get(&address, "/livez").await.0, 200);
    cache.send(Ok(())).unwrap();
    assert_eq!(get(&address, "/readyz").await, (200, "ready\n".into()));
    note.send("one is gone".into()).unwrap();
    assert_eq!(get(&address, "/readyz").await, (200, "ready\nnamespaces: one is gone\n".into()));
}

#[tokio::test]
async fn a_process_that_only_a_restart_helps_says_so_to_whoever_asks_whether_it_lives() {
    let (hangs, hanging) = watch::channel(false);
    let health = Health::new().alive_while(|| Ok(())).alive_while(move || match *hanging.borrow() {
        true => Err("everything hangs".into()),
        false => Ok(()),
    });
    let (address, _stop, _server) = start(router(health, Arc::new(registry("controller")))).await;
    for path in ["/healthz", "/livez"] {
        assert_eq!(get(&address, path).await, (200, "ok\n".into()));
    }
    hangs.send(true).unwrap();
    for path in ["/healthz", "/livez"] {
        assert_eq!(get(&address, path).await, (503, "everything hangs\n".into()));
    }
    assert_eq!(get(&address, "/readyz").await.0, 200);
}

#[test]
fn a_condition_whose_reporter_ended_does_not_hold() {
    let (reporter, state) = watch::channel(Ok(()));
    let health = Health::new().with("watches", state);
    assert!(health.missing().is_empty());
    drop(reporter);
    assert_eq!(health.missing()[0].0, "watches");
}

#[tokio::test]
async fn metrics_tell_memory_and_build() {
    let (address, _stop, _server) = start(router(Health::new(), Arc::new(registry("executor")))).await;
    let (code, text) = get(&address, "/metrics").await;
    assert_eq!(code, 200);
    assert!(text.contains("\nbackstop_process_resident_memory_bytes "), "{text}");
    assert!(text.contains("backstop_build_info{version=\"") && text.contains("role=\"executor\""), "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
}

#[tokio::test]
async fn shutdown_finishes_the_request_in_flight_and_closes_idle_connections() {
    let (entered, mut started) = tokio::sync::mpsc::channel::<()>(1);
    let (go, release) = watch::channel(false);
    let slow = Router::new().route(
        "/slow",
        axum::routing::get(move || {
            let (entered, mut release) = (entered.clone(), release.clone());
            async move {
                entered.send(()).await.unwrap();
                release.wait_for(|go| *go).await.unwrap();
                "done"
            }
        }),
    );
    let (address, stop, server) = start(slow).await;
    let _idle = TcpStream::connect(&address).await.unwrap();
    let request = tokio::spawn({
        let address = address.clone();
        async move { get(&address, "/slow").await }
    });
    started.recv().await.unwrap();
    stop.send(()).unwrap();
    go.send(true).unwrap();
    assert_eq!(request.await.unwrap(), (200, "done".into()));
    tokio::time::timeout(Duration::from_secs(5), server).await.unwrap().unwrap().unwrap();
    assert!(TcpStream::connect(&address).await.is_err());
}

#[tokio::test]
async fn a_client_that_never_finishes_its_request_or_sends_the_next_is_cut_off() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = router(Health::new(), Arc::new(registry("controller")));
    let patience = Duration::from_millis(100);
    tokio::spawn(server::serve_bounded(listener, routes, std::future::pending(), patience, linger::LINGER));
    for start in ["GET /healthz HT", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(start.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let end = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
        assert!(end.is_ok(), "the connection after {start:?} was left open");
    }
}

#[tokio::test]
async fn an_endless_head_is_refused() {
    let (address, _stop, _server) = start(router(Health::new(), Arc::new(registry("controller")))).await;
    let (mut answers, mut requests) = TcpStream::connect(&address).await.unwrap().into_split();
    let flood = tokio::spawn(async move {
        let line = format!("x-padding: {}\r\n", "x".repeat(1000));
        requests.write_all(b"GET /healthz HTTP/1.1\r\n").await?;
        while requests.write_all(line.as_bytes()).await.is_ok() {}
        Ok::<_, std::io::Error>(())
    });
    let mut answer = Vec::new();
    // The server may reset the connection right after its answer.
    let _ = answers.read_to_end(&mut answer).await;
    flood.await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&answer);
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 431"), "{text}");
}

/// A server that refuses every request without a look at its body, and reads on within these bounds.
async fn refusing(linger: linger::Linger) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let routes = Router::new().fallback(|| async { (StatusCode::UNAUTHORIZED, "who are you?\n") });
    tokio::spawn(server::serve_bounded(listener, routes, std::future::pending(), Duration::from_secs(60), linger));
    address
}

/// Writes `head`, then `body` again and again until the server lets go, and reads only then.
async fn write_until_cut(address: &str, head: &str, body: &[u8], pause: Duration) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    while stream.write_all(body).await.is_ok() {
        tokio::time::sleep(pause).await;
    }
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

const ENDLESS: &str = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";

#[tokio::test]
async fn a_refused_body_that_never_ends_is_cut_off_after_so_many_bytes_and_its_sender_has_the_answer() {
    let address = refusing(linger::Linger { bytes: 1 << 20, time: Duration::from_secs(3600) }).await;
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let answer = write_until_cut(&address, ENDLESS, chunk.as_bytes(), Duration::ZERO).await;
    assert_eq!(answer, "HTTP/1.1 401");
}

#[tokio::test]
async fn a_refused_body_that_trickles_is_cut_off_after_a_time_and_its_sender_has_the_answer() {
    let address = refusing(linger::Linger { bytes: usize::MAX, time: Duration::from_millis(200) }).await;
    let answer = write_until_cut(&address, ENDLESS, b"1\r\nx\r\n", Duration::from_millis(10)).await;
    assert_eq!(answer, "HTTP/1.1 401");
}

#[tokio::test]
async fn after_a_refused_body_was_read_to_its_end_the_connection_serves_the_next_request() {
    let address = refusing(linger::LINGER).await;
    let mut stream = TcpStream::connect(&address).await.unwrap();
    for _ in 0..3 {
        let length = 3 << 20;
        let head = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![b'x'; length]).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"who are you?\n") {
            answer.push(stream.read_u8().await.unwrap());
        }
        assert!(answer.starts_with(b"HTTP/1.1 401"));
    }
}

#[tokio::test]
async fn who_asks_before_it_sends_a_body_is_not_told_to_send_one_that_is_refused() {
    let address = refusing(linger::LINGER).await;
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let head = "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 401") && !answer.contains("100 Continue"), "{answer}");
}
