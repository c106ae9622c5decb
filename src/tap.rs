//! Taps: places in the roles' work at which a test can hold the process, to end it exactly there.
//!
//! Inert unless the environment variable `BACKSTOP_TAPS` holds an address `HOST:PORT`. No value of the chart sets it, and
//! without it a tap returns at once. With it, each tap opens a connection to that address, writes one line,
//! `<role> <before|after> <step> <namespace>`, and waits for one byte, or until the connection ends. So a listener that is
//! gone holds nobody. docs/testing.md has the list of steps.

use std::{io, sync::OnceLock, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Name of the environment variable.
pub const TAPS: &str = "BACKSTOP_TAPS";
/// Longest time that a listener may hold a step.
const LONGEST: Duration = Duration::from_secs(1800);

/// Who listens; nobody unless the process was started so.
static LISTENER: OnceLock<String> = OnceLock::new();

/// Whom every tap of this process asks from now on, `HOST:PORT`; empty is nobody. Said once, at the start.
pub fn listener_is(address: String) {
    if !address.is_empty() {
        tracing::warn!(address, "{TAPS} is set: a test may hold this process. It has no place outside of one");
        let _ = LISTENER.set(address);
    }
}

/// `role` is about to take `step` in `namespace`.
pub async fn before(role: &str, step: &str, namespace: &str) {
    if let Some(address) = LISTENER.get() {
        pass(address, &format!("{role} before {step} {namespace}\n")).await;
    }
}

/// `role` has taken `step` in `namespace`, and made nothing of its outcome yet.
pub async fn after(role: &str, step: &str, namespace: &str) {
    if let Some(address) = LISTENER.get() {
        pass(address, &format!("{role} after {step} {namespace}\n")).await;
    }
}

async fn pass(address: &str, line: &str) {
    match tokio::time::timeout(LONGEST, ask(address, line)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(%error, address, line = line.trim_end(), "no word from the listener, going on")
        }
        Err(_) => tracing::warn!(address, line = line.trim_end(), "held too long, going on"),
    }
}

async fn ask(address: &str, line: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(line.as_bytes()).await?;
    stream.read_u8().await.map(drop)
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncBufReadExt as _, BufReader},
        net::TcpListener,
    };

    use super::*;

    #[tokio::test]
    async fn without_an_address_a_tap_is_no_wait_at_all() {
        use futures::FutureExt as _;
        listener_is(String::new());
        assert!(before("executor", "fire", "shop").now_or_never().is_some());
        assert!(after("executor", "fire", "shop").now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_tap_says_where_it_is_and_waits_for_the_word() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap().to_string();
        let held = tokio::spawn(async move { ask(&address, "executor before fire shop\n").await });
        let (stream, _) = server.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        assert_eq!(line, "executor before fire shop\n");
        assert!(!held.is_finished());
        stream.write_all(b"\n").await.unwrap();
        held.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_listener_that_goes_away_or_is_not_there_holds_nobody() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap().to_string();
        let held = tokio::spawn({
            let address = address.clone();
            async move { pass(&address, "executor before fire shop\n").await }
        });
        drop(server.accept().await.unwrap());
        held.await.unwrap();
        drop(server);
        pass(&address, "executor before fire shop\n").await;
    }
}
