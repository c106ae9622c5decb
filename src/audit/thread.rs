//! The one thread that writes: everybody who waits at a time shares one fsync. It also opens the log, and opens it again
//! after a failure.

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::{oneshot, watch};

use super::{
    Kept, Metrics, Pauses, Record, Waiting, Wish,
    backlog::Backlog,
    files::{Log, Position},
};
use crate::{clock, core::names};

/// Records that share one fsync.
const GROUP: usize = 256;
/// Interval at which a thread without work looks whether it is time to open the log again, and how much room is left.
const TICK: Duration = Duration::from_secs(1);
/// Records that are recognised when they are asked for again.
const RECENT: usize = 64;

/// Opens the log; with the place up to which an earlier one is known to be on the disk.
pub(super) type Opener = Box<dyn FnMut(Option<&Position>) -> io::Result<Log> + Send>;

/// The state of the thread.
pub(super) struct Writer {
    opener: Opener,
    waiting: mpsc::Receiver<Waiting>,
    report: watch::Sender<Result<(), String>>,
    stalled: Arc<AtomicBool>,
    metrics: Metrics,
    pauses: Pauses,
    dir: PathBuf,
    log: Option<Log>,
    backlog: Backlog,
    /// Fingerprints of the last records that were written.
    recent: VecDeque<[u8; 32]>,
    /// Up to where the file that failed is on the disk.
    known: Option<Position>,
    /// Since when, and why, the log has not been writable.
    outage: Option<(Value, String)>,
    pause: Duration,
    next: Instant,
    measured: Option<Instant>,
}

impl Writer {
    pub fn new(
        opener: Opener,
        waiting: mpsc::Receiver<Waiting>,
        report: watch::Sender<Result<(), String>>,
        stalled: Arc<AtomicBool>,
        metrics: Metrics,
        pauses: Pauses,
        dir: &Path,
    ) -> Writer {
        Writer {
            opener,
            waiting,
            report,
            stalled,
            metrics,
            pauses,
            dir: dir.into(),
            log: None,
            backlog: Backlog::default(),
            recent: VecDeque::new(),
            known: None,
            outage: None,
            pause: pauses.first,
            next: Instant::now(),
            measured: None,
        }
    }

    /// Runs until the last [`super::Audit`] is dropped. `tried` is told once the first attempt to open the log ended.
    pub fn run(mut self, tried: &mpsc::SyncSender<()>) {
        self.open();
        // Nobody may be waiting for it any more.
        let _ = tried.try_send(());
        let tick = TICK.min(self.pauses.first);
        loop {
            // Back from the disk.
            self.stalled.store(false, Ordering::SeqCst);
            self.measure();
            let group = match self.waiting.recv_timeout(tick) {
                Ok(first) => std::iter::once(first).chain(self.waiting.try_iter().take(GROUP - 1)).collect(),
                Err(RecvTimeoutError::Timeout) => vec![],
                Err(RecvTimeoutError::Disconnected) => break,
            };
            self.take(group);
            if self.log.is_none() && Instant::now() >= self.next {
                self.open();
            }
        }
        // The process ends: what waits gets a last try.
        if self.log.is_none() && self.backlog.len() > 0 {
            self.open();
            if self.backlog.len() > 0 {
                tracing::error!(records = self.backlog.len(), "records of the audit log end with this process");
            }
        }
    }

    fn measure(&mut self) {
        if self.measured.is_some_and(|at| at.elapsed() < 10 * TICK) {
            return;
        }
        self.measured = Some(Instant::now());
        #[expect(clippy::cast_precision_loss, reason = "an estimate of free space")]
        let free =
            rustix::fs::statvfs(&self.dir).map_or(f64::NAN, |stat| stat.f_bavail.saturating_mul(stat.f_frsize) as f64);
        self.metrics.free.set(free);
    }

    /// Writes a group, or answers why not.
    fn take(&mut self, group: Vec<Waiting>) {
        let mut records = Vec::new();
        let mut owners: Vec<Wish> = Vec::new();
        for Waiting { record, wish } in group {
            match wish {
                Wish::Before(done) if self.recent.contains(&fingerprint(&record)) => answer(done, Ok(())),
                Wish::After(done) if self.recent.contains(&fingerprint(&record)) => answer(done, Kept::OnDisk),
                wish => {
                    records.push(record);
                    owners.push(wish);
                }
            }
        }
        if records.is_empty() {
            return;
        }
        let written = match &mut self.log {
            Some(log) => log.append(&records).map_err(|error| self.fail(&error)),
            None => Err(self.why()),
        };
        for (record, wish) in records.into_iter().zip(owners) {
            match (&written, wish) {
                (Ok(()), Wish::Before(done)) => {
                    self.remember(&record);
                    answer(done, Ok(()));
                }
                (Ok(()), Wish::After(done)) => {
                    self.remember(&record);
                    answer(done, Kept::OnDisk);
                }
                (Err(why), Wish::Before(done)) => {
                    self.metrics.failures.inc();
                    answer(done, Err(io::Error::other(why.clone())));
                }
                (Err(_), Wish::After(done)) => answer(done, self.put_by(record)),
            }
        }
        self.rotate();
    }

    fn remember(&mut self, record: &Record) {
        self.recent.push_back(fingerprint(record));
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
    }

    fn put_by(&mut self, record: Record) -> Kept {
        let kind = record.kind.clone();
        let kept = self.backlog.push(record);
        self.metrics.waiting.set(i64::try_from(self.backlog.len()).unwrap_or(i64::MAX));
        if kept {
            return Kept::InMemory;
        }
        self.metrics.lost.inc();
        tracing::error!(kind, "a record of the audit log is lost: as many wait in memory as are allowed");
        Kept::Lost
    }

    /// A file that cannot be begun is no failure: the last one goes on.
    fn rotate(&mut self) {
        if let Some(Err(error)) = self.log.as_mut().map(Log::rotate) {
            tracing::warn!(%error, "the audit log goes on in a file that is full");
        }
    }

    /// Opens the log, and writes what waits. It counts as open once a line reached the disk.
    fn open(&mut self) {
        let opened = (self.opener)(self.known.as_ref()).and_then(|mut log| self.catch_up(&mut log).map(|()| log));
        match opened {
            Ok(log) => {
                if let Some((since, why)) = self.outage.take() {
                    tracing::info!(%since, why, "the audit log can be written again");
                }
                self.log = Some(log);
                self.known = None;
                self.pause = self.pauses.first;
                self.metrics.durable.set(1);
                drop(self.report.send_replace(Ok(())));
                self.rotate();
            }
            Err(error) => {
                self.fail(&error);
            }
        }
    }

    fn catch_up(&mut self, log: &mut Log) -> io::Result<()> {
        let mut details = json!({ "waited": self.backlog.len() });
        if let Some((since, why)) = &self.outage {
            details["closedSince"] = since.clone();
            details["because"] = why.as_str().into();
        }
        if self.backlog.lost() > 0 {
            details["lost"] = self.backlog.lost().into();
        }
        if let Some(torn) = log.torn() {
            details["putAside"] = torn;
        }
        let opened = Record {
            at: clock::now(),
            kind: "AuditLogOpened".into(),
            details: details.as_object().cloned().unwrap_or_default(),
            ..Record::default()
        };
        let done = log.append(&[opened]).and_then(|()| {
            self.backlog.told();
            while self.backlog.len() > 0 {
                let group = self.backlog.oldest(GROUP);
                log.append(&group)?;
                self.backlog.written(group.len());
                log.rotate().unwrap_or_else(|error| tracing::warn!(%error, "the audit log goes on in a full file"));
            }
            Ok(())
        });
        self.metrics.waiting.set(i64::try_from(self.backlog.len()).unwrap_or(i64::MAX));
        if done.is_err() {
            self.known = Some(log.position());
            log.cut();
        }
        done
    }

    /// The log is closed from here on, until it is opened again.
    fn fail(&mut self, error: &io::Error) -> String {
        if let Some(log) = self.log.take() {
            self.known = Some(log.position());
            // Takes no room, so it works on a full disk; if it does not work, the next attempt does it.
            log.cut();
        }
        let why = format!("the audit log cannot be written: {error}; it is tried again");
        if self.outage.is_none() {
            tracing::error!(%error, "the audit log is closed, and no Grant opens until it can be written");
            self.outage = Some((clock::now().to_string().into(), error.to_string()));
        }
        self.metrics.durable.set(0);
        drop(self.report.send_replace(Err(why.clone())));
        self.next = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(self.pauses.longest);
        why
    }

    fn why(&self) -> String {
        self.report.borrow().clone().err().unwrap_or_default()
    }
}

/// Whoever stopped waiting does not need the answer.
fn answer<T>(done: oneshot::Sender<T>, outcome: T) {
    let _ = done.send(outcome);
}

/// Tells a record from others; its time is no part of it.
fn fingerprint(record: &Record) -> [u8; 32] {
    let Record { at: _, request_id, kind, incident, action_id, details } = record;
    let text = names::canonical(&json!([request_id, kind, incident, action_id, details]));
    Sha256::digest(text.as_bytes()).into()
}
