//! The other end of the operator's taps (src/tap.rs): tests hold a role at a step of its work, in their namespace, for as
//! long as they like. Nothing here depends on who is faster.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use anyhow::{Context as _, Result, bail};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::PATIENCE;

/// Lines that are kept to explain a hold that was never reached.
const REMEMBERED: usize = 20_000;

/// A step of a role, before or after it is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// The role.
    pub role: &'static str,
    when: &'static str,
    step: &'static str,
}

impl Point {
    /// `role` is about to take `step`.
    pub const fn before(role: &'static str, step: &'static str) -> Point {
        Point { role, when: "before", step }
    }

    /// `role` has taken `step`, and made nothing of its outcome yet.
    pub const fn after(role: &'static str, step: &'static str) -> Point {
        Point { role, when: "after", step }
    }

    fn line(self, namespace: &str) -> String {
        format!("{} {} {} {namespace}", self.role, self.when, self.step)
    }
}

/// Where a hold stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Awaited,
    /// The process stands there.
    Reached,
    /// The process has ended there.
    Gone,
}

struct Order {
    line: String,
    stage: watch::Sender<Stage>,
    released: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    orders: Vec<Arc<Order>>,
    /// What came by.
    seen: Vec<String>,
}

/// Listens to the operator's taps.
#[derive(Clone)]
pub struct Taps {
    /// Port on every address of this machine.
    pub port: u16,
    state: Arc<Mutex<State>>,
}

impl Taps {
    /// Lets everybody pass until a hold is placed.
    pub async fn listen() -> Result<Taps> {
        let listener = TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], 0))).await?;
        let taps = Taps { port: listener.local_addr()?.port(), state: Arc::default() };
        let served = taps.clone();
        tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => drop(tokio::spawn(served.clone().serve(stream))),
                    Err(_) => tokio::time::sleep(super::LOOK).await,
                }
            }
        });
        Ok(taps)
    }

    /// The next time that `point` comes by in `namespace`, the process stays there until the hold is dropped. Place it
    /// before what leads there.
    pub fn hold(&self, point: Point, namespace: &str) -> Hold {
        let order = Arc::new(Order {
            line: point.line(namespace),
            stage: watch::Sender::new(Stage::Awaited),
            released: watch::Sender::new(false),
        });
        self.state().orders.push(order.clone());
        Hold { taps: self.clone(), namespace: namespace.into(), order }
    }

    /// What came by in `namespace`, in order.
    pub fn seen(&self, namespace: &str) -> Vec<String> {
        let about = |line: &&String| line.ends_with(&format!(" {namespace}"));
        self.state().seen.iter().filter(about).cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }

    async fn serve(self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        if stream.read_line(&mut line).await.is_err() {
            return;
        }
        if let Some(order) = self.reached(line.trim_end()) {
            let mut released = order.released.subscribe();
            tokio::select! {
                _ = released.wait_for(|released| *released) => {}
                // The other end never says more: whatever is read is its end.
                _ = stream.read_u8() => {
                    order.stage.send_replace(Stage::Gone);
                    return;
                }
            }
        }
        // Who has ended meanwhile needs no word.
        let _ = stream.write_all(b"\n").await;
    }

    /// The hold that is placed here and that nobody has reached before.
    fn reached(&self, line: &str) -> Option<Arc<Order>> {
        let mut state = self.state();
        if state.seen.len() < REMEMBERED {
            state.seen.push(line.into());
        }
        let order = state.orders.iter().find(|order| order.line == line && *order.stage.borrow() == Stage::Awaited)?;
        order.stage.send_replace(Stage::Reached);
        Some(order.clone())
    }
}

/// A hold of a process. Dropping it lets the process go on.
pub struct Hold {
    taps: Taps,
    namespace: String,
    order: Arc<Order>,
}

impl Hold {
    /// Waits until the process stands there.
    pub async fn reached(&self) -> Result<()> {
        self.stage(Stage::Reached, "was not reached").await
    }

    /// Waits until the process that stood there has ended.
    pub async fn gone(&self) -> Result<()> {
        self.stage(Stage::Gone, "was reached, but the process there was not ended").await
    }

    async fn stage(&self, wanted: Stage, otherwise: &str) -> Result<()> {
        let mut stage = self.order.stage.subscribe();
        match tokio::time::timeout(PATIENCE, stage.wait_for(|stage| *stage == wanted)).await {
            Ok(stage) => stage.map(drop).context("the order is kept"),
            Err(_) => {
                let seen = self.taps.seen(&self.namespace).join("\n  ");
                bail!("`{}` {otherwise} within {} s; there came by:\n  {seen}", self.order.line, PATIENCE.as_secs())
            }
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.order.released.send_replace(true);
        self.taps.state().orders.retain(|order| !Arc::ptr_eq(order, &self.order));
    }
}
