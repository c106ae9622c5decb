//! The audit log: what the controller decided and granted, on disk before it takes effect.
//!
//! JSON lines in `audit-<first number>.jsonl`, each with the SHA-256 of its own canonical text and of the line
//! before it, so that a line that was changed or taken out shows. [`Audit::append`] returns once the line is on
//! the disk. Linux drops dirty pages whose write-back failed, so a second fsync would report success for data that
//! is lost: after one failure the log refuses every record until it is reopened.

mod files;
mod line;
mod thread;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use prometheus_client::{metrics::counter::Counter, registry::Registry};
use tokio::sync::{mpsc, oneshot, watch};

pub use line::{GENESIS, Record};

/// Records that may wait for the disk.
const QUEUE: usize = 1024;

/// The open audit log. Cheap to clone; closed when the last clone is dropped.
#[derive(Clone)]
pub struct Audit {
    queue: mpsc::Sender<Waiting>,
    state: watch::Receiver<Result<(), String>>,
    failures: Counter,
    dir: Arc<Path>,
}

/// A record and who waits for it.
struct Waiting {
    record: Record,
    done: oneshot::Sender<io::Result<()>>,
}

/// When a file is full, and how many full ones are kept.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    file_bytes: u64,
    files: usize,
}

/// 64 MiB a file, 512 MiB in all.
const BOUNDS: Bounds = Bounds { file_bytes: 64 << 20, files: 8 };

/// Opens the audit log in `dir`, which is created if need be, and takes it for this process alone. What a crash
/// left behind after the last whole line is put aside in a file of its own. Blocks on the disk.
pub fn open(dir: &Path) -> io::Result<Audit> {
    open_bounded(dir, BOUNDS)
}

fn open_bounded(dir: &Path, bounds: Bounds) -> io::Result<Audit> {
    let log = files::Log::open(dir, bounds)?;
    let (queue, waiting) = mpsc::channel(QUEUE);
    let (report, state) = watch::channel(Ok(()));
    let failures = Counter::default();
    let run = {
        let failures = failures.clone();
        move || thread::run(log, waiting, &report, &failures)
    };
    std::thread::Builder::new().name("audit".into()).spawn(run)?;
    Ok(Audit { queue, state, failures, dir: dir.into() })
}

impl Audit {
    /// Writes `record` and returns once it is on the disk. After an error nothing may depend on it, although the line may
    /// be found on disk later. Dropping the future does not take the record back.
    pub async fn append(&self, record: Record) -> io::Result<()> {
        let (done, written) = oneshot::channel();
        let ended = || io::Error::other("the audit log has ended: restart the controller to reopen it");
        self.queue.send(Waiting { record, done }).await.map_err(|_| ended())?;
        written.await.unwrap_or_else(|_| Err(ended()))
    }

    /// `Err` with what happened once a write or an fsync failed; it stays so until the log is reopened.
    pub fn is_durable(&self) -> Result<(), String> {
        if self.state.has_changed().is_err() && self.state.borrow().is_ok() {
            return Err("the audit log's thread has ended".into());
        }
        self.state.borrow().clone()
    }

    /// Adds the log's metrics.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Records that could not be made durable in the audit log";
        registry.register("backstop_audit_write_failures", help, self.failures.clone());
    }

    /// The folder of the log.
    pub fn dir(&self) -> PathBuf {
        self.dir.to_path_buf()
    }
}

#[cfg(test)]
mod tests;
