//! The one thread that writes: everybody who waits at a time shares one fsync.

use std::io;

use prometheus_client::metrics::counter::Counter;
use tokio::sync::{mpsc, oneshot, watch};

use super::{Waiting, files::Log};

/// Records that share one fsync.
const GROUP: usize = 256;

/// Runs until the last [`super::Audit`] is dropped.
pub(super) fn run(
    mut log: Log,
    mut waiting: mpsc::Receiver<Waiting>,
    report: &watch::Sender<Result<(), String>>,
    failures: &Counter,
) {
    let mut poison: Option<String> = None;
    let mut group = Vec::with_capacity(GROUP);
    while waiting.blocking_recv_many(&mut group, GROUP) > 0 {
        let mut lines = Vec::new();
        let mut owners: Vec<oneshot::Sender<io::Result<()>>> = Vec::with_capacity(group.len());
        for Waiting { record, done } in group.drain(..) {
            match log.tip.line(&record) {
                Ok(line) => {
                    lines.extend_from_slice(line.as_bytes());
                    owners.push(done);
                }
                // Nothing was written, so the log itself is as good as before.
                Err(error) => _ = done.send(Err(error.into())),
            }
        }
        if poison.is_none()
            && let Err(error) = log.write(&lines).and_then(|()| log.rotate())
        {
            let why = format!("the audit log is not durable: {error}; restart the controller once the disk is well");
            tracing::error!(%error, "the audit log failed and refuses every record until it is reopened");
            drop(report.send_replace(Err(why.clone())));
            poison = Some(why);
        }
        for done in owners {
            let outcome = match &poison {
                None => Ok(()),
                Some(why) => {
                    failures.inc();
                    Err(io::Error::other(why.clone()))
                }
            };
            // Whoever stopped waiting does not need the answer.
            let _ = done.send(outcome);
        }
    }
}
