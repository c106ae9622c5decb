//! The audit log: what the controller decided and granted, on disk before it takes effect.
//!
//! JSON lines in `audit-<first number>.jsonl`, each with the SHA-256 of its own canonical text and of the line
//! before it, so that a line that was changed or taken out shows. [`Audit::append`] returns once the line is on
//! the disk.
//!
//! Storage that fails stops writes and nothing else. The log then is closed: [`Audit::append`] and
//! [`Audit::is_durable`] answer with what happened, what has happened anyway ([`Audit::keep`]) waits in memory, and the
//! log is opened again, with growing pauses, until a line reaches the disk. Linux drops dirty pages whose write-back
//! failed, so a second fsync would report success for data that is lost: after a failure the file is cut after the last
//! line that is known to be on the disk, and what was not acknowledged is written again or was refused.

mod backlog;
mod files;
mod line;
mod metrics;
mod thread;
mod verify;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use tokio::sync::{oneshot, watch};

pub use line::{GENESIS, Record};
pub use metrics::Metrics;
pub use verify::{Verified, verify};

use files::Position;

/// Records that may wait for the thread that writes.
const QUEUE: usize = 1024;
/// How long somebody waits for the disk before it counts as stalled.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the end of the first attempt to open it is waited for.
const FIRST: Duration = Duration::from_secs(2);

/// The audit log. Cheap to clone; closed when the last clone is dropped.
#[derive(Clone)]
pub struct Audit {
    queue: mpsc::SyncSender<Waiting>,
    state: watch::Receiver<Result<(), String>>,
    /// Somebody waited longer than [`PATIENCE`], and the thread has not come back from the disk since.
    stalled: Arc<AtomicBool>,
    metrics: Metrics,
    dir: Arc<Path>,
    patience: Duration,
}

/// A record and who waits for it.
struct Waiting {
    record: Record,
    wish: Wish,
}

/// What a record is for.
enum Wish {
    /// Something that happens only once it is on the disk.
    Before(oneshot::Sender<io::Result<()>>),
    /// Something that has happened.
    After(oneshot::Sender<Kept>),
}

/// Where a record of something that has happened is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// On the disk.
    OnDisk,
    /// In memory, until the log can be written again.
    InMemory,
    /// Nowhere: as many records wait as are allowed. How many were lost is told by a metric, and by a record once the
    /// log can be written again.
    Lost,
}

/// When a file is full, and how many full ones are kept.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    file_bytes: u64,
    files: usize,
}

/// 64 MiB a file, 512 MiB in all.
const BOUNDS: Bounds = Bounds { file_bytes: 64 << 20, files: 8 };

/// Pauses between two attempts to open a log that failed.
#[derive(Clone, Copy, Debug)]
struct Pauses {
    first: Duration,
    longest: Duration,
}

const PAUSES: Pauses = Pauses { first: Duration::from_secs(1), longest: Duration::from_secs(60) };

/// Opens the audit log in `dir`, which is created if need be, and takes it for this process alone. What a crash
/// left behind after the last whole line is put aside in a file of its own where there is room for one.
///
/// Never fails: a log that cannot be opened is closed, says why, and is tried again. Blocks for two seconds at most.
pub fn open(dir: &Path, metrics: Metrics) -> Audit {
    let folder = dir.to_path_buf();
    let opener = move |known: Option<&Position>| files::Log::open(&folder, BOUNDS, known);
    open_with(dir, metrics, PAUSES, PATIENCE, Box::new(opener))
}

fn open_with(dir: &Path, metrics: Metrics, pauses: Pauses, patience: Duration, opener: thread::Opener) -> Audit {
    let (queue, waiting) = mpsc::sync_channel(QUEUE);
    let (report, state) = watch::channel(Err("the audit log is not open yet".to_string()));
    let (tried, first) = mpsc::sync_channel(1);
    let stalled = Arc::new(AtomicBool::new(false));
    let writer = thread::Writer::new(opener, waiting, report, stalled.clone(), metrics.clone(), pauses, dir);
    let started = std::thread::Builder::new().name("audit".into()).spawn(move || writer.run(&tried));
    match started {
        // A disk that hangs is no reason to wait on.
        Ok(_) => drop(first.recv_timeout(FIRST)),
        Err(error) => tracing::error!(%error, "the thread of the audit log cannot be started"),
    }
    Audit { queue, state, stalled, metrics, dir: dir.into(), patience }
}

impl Audit {
    /// Writes `record` and returns once it is on the disk. After an error nothing may depend on it, although the line may
    /// be found on disk later. Dropping the future does not take the record back. The same record, whatever its time, is
    /// written once: a step that is taken again does not make a second one.
    pub async fn append(&self, record: Record) -> io::Result<()> {
        if self.stalled.load(Ordering::SeqCst) {
            self.metrics.failures.inc();
            return Err(io::Error::new(io::ErrorKind::TimedOut, self.stall()));
        }
        let (done, written) = oneshot::channel();
        self.queue.try_send(Waiting { record, wish: Wish::Before(done) }).map_err(|error| self.not_taken(&error))?;
        match tokio::time::timeout(self.patience, written).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(io::Error::other(ENDED)),
            Err(_) => {
                self.stalled.store(true, Ordering::SeqCst);
                self.metrics.failures.inc();
                Err(io::Error::new(io::ErrorKind::TimedOut, self.stall()))
            }
        }
    }

    /// Keeps a record of something that has happened, on the disk or in memory until the disk can be written. Waits some
    /// seconds at most, whatever the disk does: calls for help come behind it.
    pub async fn keep(&self, record: Record) -> Kept {
        let (done, kept) = oneshot::channel();
        if self.queue.try_send(Waiting { record, wish: Wish::After(done) }).is_err() {
            self.metrics.lost.inc();
            return Kept::Lost;
        }
        // Whoever comes after the first need not find out again.
        let patience = if self.stalled.load(Ordering::SeqCst) { Duration::ZERO } else { self.patience };
        match tokio::time::timeout(patience, kept).await {
            Ok(kept) => kept.unwrap_or(Kept::Lost),
            Err(_) => {
                self.stalled.store(true, Ordering::SeqCst);
                Kept::InMemory
            }
        }
    }

    /// `Err` with what happened while the log cannot be written.
    pub fn is_durable(&self) -> Result<(), String> {
        if self.state.has_changed().is_err() && self.state.borrow().is_ok() {
            return Err(ENDED.into());
        }
        if self.stalled.load(Ordering::SeqCst) {
            return Err(self.stall());
        }
        self.state.borrow().clone()
    }

    /// The folder of the log.
    pub fn dir(&self) -> PathBuf {
        self.dir.to_path_buf()
    }

    fn stall(&self) -> String {
        format!("the disk of the audit log ({}) did not answer within {:?}", self.dir.display(), self.patience)
    }

    fn not_taken(&self, error: &mpsc::TrySendError<Waiting>) -> io::Error {
        self.metrics.failures.inc();
        match error {
            mpsc::TrySendError::Full(_) => io::Error::other(format!("{QUEUE} records wait for the disk already")),
            mpsc::TrySendError::Disconnected(_) => io::Error::other(ENDED),
        }
    }
}

const ENDED: &str = "the audit log's thread has ended: restart the controller";

#[cfg(test)]
mod tests;
