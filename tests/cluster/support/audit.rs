//! The independent witness: the API server's audit log, followed across rotation.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufRead as _, BufReader, Seek as _, SeekFrom},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use jiff::Timestamp;
use serde_json::Value;

use super::PATIENCE;

/// Pause between two looks at the end of the file.
const LOOK: Duration = Duration::from_millis(20);
/// The log may be missing for this long while it is rotated.
const ROTATION: Duration = Duration::from_secs(120);

/// One request to the API server, as it was answered.
#[derive(Clone, Debug)]
pub struct Event {
    /// When the request arrived, by the API server's clock.
    pub asked: Timestamp,
    /// When the answer was complete, by the API server's clock.
    pub at: Timestamp,
    /// Account that asked.
    pub user: String,
    /// `create`, `patch` and so on.
    pub verb: String,
    /// Resource in the plural, with its API group: `apps/deployments`.
    pub resource: String,
    /// Subresource, or empty.
    pub subresource: String,
    /// Namespace, or empty.
    pub namespace: String,
    /// Name, or empty.
    pub name: String,
    /// HTTP status of the answer.
    pub code: u16,
    /// Nothing was stored because the caller asked for that.
    pub dry_run: bool,
    /// What was sent.
    pub request: Value,
    /// What was answered: for an accepted write the object as stored.
    pub response: Value,
}

impl Event {
    /// Reads one line; `None` for stages before the answer.
    pub fn parse(line: &str) -> Result<Option<Event>> {
        let mut value: Value = serde_json::from_str(line).context("a line of the audit log is not JSON")?;
        let text =
            |value: &Value, path: &str| value.pointer(path).and_then(Value::as_str).unwrap_or_default().to_string();
        if text(&value, "/stage") != "ResponseComplete" {
            return Ok(None);
        }
        let at = text(&value, "/stageTimestamp").parse().context("stageTimestamp of an audit event")?;
        let asked =
            text(&value, "/requestReceivedTimestamp").parse().context("requestReceivedTimestamp of an event")?;
        let group = text(&value, "/objectRef/apiGroup");
        let plural = text(&value, "/objectRef/resource");
        Ok(Some(Event {
            asked,
            at,
            user: text(&value, "/user/username"),
            verb: text(&value, "/verb"),
            resource: if group.is_empty() { plural } else { format!("{group}/{plural}") },
            subresource: text(&value, "/objectRef/subresource"),
            namespace: text(&value, "/objectRef/namespace"),
            name: text(&value, "/objectRef/name"),
            code: value
                .pointer("/responseStatus/code")
                .and_then(Value::as_u64)
                .and_then(|c| c.try_into().ok())
                .unwrap_or(0),
            dry_run: text(&value, "/requestURI").contains("dryRun=All"),
            request: value.pointer_mut("/requestObject").map(Value::take).unwrap_or_default(),
            response: value.pointer_mut("/responseObject").map(Value::take).unwrap_or_default(),
        }))
    }

    /// It changed something that is stored.
    pub fn is_accepted_write(&self) -> bool {
        let writes = ["create", "update", "patch", "delete", "deletecollection"].contains(&self.verb.as_str());
        writes && !self.dry_run && (200..300).contains(&self.code)
    }
}

/// Follows the log from the moment it was opened.
pub struct Audit {
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    events: Vec<Event>,
    /// Why the log can no longer be trusted.
    broken: Option<String>,
}

impl Audit {
    /// Follows `path` from its end. `keep` says which events are of interest: the log of a cluster is long.
    pub fn follow(path: &Path, keep: impl Fn(&Event) -> bool + Send + 'static) -> Result<Audit> {
        let mut file = File::open(path).with_context(|| {
            format!(
                "cannot read the audit log {}: the suite judges by it; start the cluster with `make cluster-up`",
                path.display()
            )
        })?;
        file.seek(SeekFrom::End(0)).context("cannot seek in the audit log")?;
        let mut follower = Follower::new(path, file)?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shared = seen.clone();
        thread::Builder::new().name("audit-log".into()).spawn(move || {
            loop {
                let lines = follower.lines();
                let mut seen = shared.lock().expect("the follower does not panic");
                let parsed = lines.and_then(|lines| {
                    for line in lines {
                        seen.events.extend(Event::parse(&line)?.filter(&keep));
                    }
                    Ok(())
                });
                if let Err(error) = parsed {
                    seen.broken = Some(format!("{error:#}"));
                    return;
                }
                drop(seen);
                thread::sleep(LOOK);
            }
        })?;
        Ok(Audit { seen })
    }

    /// The events that satisfy `wanted`, as far as the log was read. [`Audit::reached`] makes sure how far that is.
    pub fn events(&self, wanted: impl Fn(&Event) -> bool) -> Result<Vec<Event>> {
        let seen = self.seen.lock().expect("the follower does not panic");
        match &seen.broken {
            Some(broken) => Err(anyhow!("the audit log is lost: {broken}")),
            None => Ok(seen.events.iter().filter(|event| wanted(event)).cloned().collect()),
        }
    }

    /// Waits until an event that satisfies `marker` was read. What was answered before it, was read too.
    pub async fn reached(&self, marker: impl Fn(&Event) -> bool) -> Result<()> {
        let start = Instant::now();
        while self.events(&marker)?.is_empty() {
            if start.elapsed() > PATIENCE {
                bail!(
                    "the audit log does not show a write of {} s ago: is it the log of this cluster?",
                    PATIENCE.as_secs()
                );
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }
}

/// Reads lines to the end, and goes on in the next file when the log was rotated.
struct Follower {
    path: PathBuf,
    reader: BufReader<File>,
    inode: u64,
    /// Files that were there before, or were read.
    done: BTreeSet<u64>,
    partial: String,
    missing_since: Option<Instant>,
}

impl Follower {
    fn new(path: &Path, file: File) -> Result<Follower> {
        let inode = file.metadata()?.ino();
        let done = siblings(path)?.into_iter().map(|(_, inode)| inode).collect();
        let reader = BufReader::new(file);
        Ok(Follower { path: path.into(), reader, inode, done, partial: String::new(), missing_since: None })
    }

    /// All whole lines that are there now.
    fn lines(&mut self) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        loop {
            // Asked before the end is reached: what is written between the two is read before the file is left.
            let current = fs::metadata(&self.path).map(|file| file.ino()).ok();
            self.drain(&mut lines)?;
            match current {
                Some(inode) if inode == self.inode => {
                    self.missing_since = None;
                    return Ok(lines);
                }
                Some(_) => self.advance()?,
                None => {
                    let since = *self.missing_since.get_or_insert_with(Instant::now);
                    anyhow::ensure!(since.elapsed() < ROTATION, "{} is gone", self.path.display());
                    return Ok(lines);
                }
            }
        }
    }

    fn drain(&mut self, lines: &mut Vec<String>) -> Result<()> {
        while self.reader.read_line(&mut self.partial).context("cannot read the audit log")? > 0 {
            if self.partial.ends_with('\n') {
                lines.push(std::mem::take(&mut self.partial));
            }
        }
        Ok(())
    }

    /// Opens the file that follows the one that was read: the oldest one that is new.
    fn advance(&mut self) -> Result<()> {
        anyhow::ensure!(self.partial.is_empty(), "the rotated audit log ends in the middle of a line");
        self.done.insert(self.inode);
        let next = siblings(&self.path)?.into_iter().find(|(_, inode)| !self.done.contains(inode));
        let Some((path, _)) = next else { return Ok(()) };
        let file = File::open(&path).with_context(|| format!("{} is gone before it was read", path.display()))?;
        self.inode = file.metadata()?.ino();
        self.reader = BufReader::new(file);
        Ok(())
    }
}

/// The log and its rotated files, oldest first: their names carry the time, and the current one has none.
fn siblings(path: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let folder = path.parent().context("the audit log lies in a folder")?;
    let stem = path.file_stem().context("the audit log has a name")?.to_string_lossy().into_owned();
    let mut rotated = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(&format!("{stem}-")) {
            rotated.push((entry.path(), entry.metadata()?.ino()));
        }
    }
    rotated.sort();
    if let Ok(current) = fs::metadata(path) {
        rotated.push((path.into(), current.ino()));
    }
    Ok(rotated)
}
