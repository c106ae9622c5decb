//! The files of the log: finding the end of the chain, rotation, and what reaches the disk.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use super::{Bounds, line::Tip};

/// Held for as long as the log is open.
const LOCK: &str = "lock";
const PREFIX: &str = "audit-";
const SUFFIX: &str = ".jsonl";

/// Where lines go; tests put one that fails in its place.
pub(super) trait Sink: Send {
    /// Writes all of `bytes` and returns once they are on the disk.
    fn write_durably(&mut self, bytes: &[u8]) -> io::Result<()>;
}

impl Sink for File {
    fn write_durably(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)?;
        // The file's length is part of what fdatasync writes.
        self.sync_data()
    }
}

/// The log on disk.
pub(super) struct Log {
    /// The chain.
    pub tip: Tip,
    dir: PathBuf,
    bounds: Bounds,
    sink: Box<dyn Sink>,
    bytes: u64,
    _lock: File,
}

impl Log {
    /// Finds the end of the chain, puts aside what follows it, and opens the last file for appending.
    pub fn open(dir: &Path, bounds: Bounds) -> io::Result<Log> {
        create_dir(dir).map_err(|error| about(error, "cannot create the audit folder", dir))?;
        let lock = lock(&dir.join(LOCK))?;
        let files = list(dir)?;
        let Some(last) = files.last() else {
            let tip = Tip::default();
            let sink = create(dir, &tip)?;
            return Ok(Log { tip, dir: dir.into(), bounds, sink: Box::new(sink), bytes: 0, _lock: lock });
        };
        let found = recover(dir, last)?;
        // A file may be empty, or hold only a torn line: the chain then ends in the one before.
        let tip = match found.tip {
            Some(tip) => tip,
            None => tip_before(&files)?,
        };
        let mut file = OpenOptions::new().append(true).open(last).map_err(|error| about(error, "cannot open", last))?;
        file.seek(SeekFrom::End(0))?;
        Ok(Log { tip, dir: dir.into(), bounds, sink: Box::new(file), bytes: found.bytes, _lock: lock })
    }

    /// Writes whole lines and returns once they are on the disk.
    pub fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        self.sink.write_durably(lines)?;
        self.bytes += lines.len() as u64;
        Ok(())
    }

    /// Starts a new file if the last one is full, and removes the oldest ones above the bound.
    pub fn rotate(&mut self) -> io::Result<()> {
        if self.bytes < self.bounds.file_bytes {
            return Ok(());
        }
        self.sink = Box::new(create(&self.dir, &self.tip)?);
        self.bytes = 0;
        let files = list(&self.dir)?;
        for old in files.iter().take(files.len().saturating_sub(self.bounds.files)) {
            tracing::warn!(file = %old.display(), "removing the oldest audit file: the log is at its bound");
            fs::remove_file(old)?;
        }
        Ok(())
    }

    #[cfg(test)]
    pub fn replace_sink(&mut self, sink: Box<dyn Sink>) {
        self.sink = sink;
    }
}

/// What was found in the last file.
struct Found {
    tip: Option<Tip>,
    bytes: u64,
}

/// Cuts `path` after its last whole line; what follows goes into a file of its own, and is said.
fn recover(dir: &Path, path: &Path) -> io::Result<Found> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let (tip, end) = last_whole_line(&bytes);
    let torn = bytes.get(end..).unwrap_or_default();
    if !torn.is_empty() {
        let next = tip.as_ref().map_or(0, |tip| tip.next);
        let aside = unused(dir, next);
        let mut copy = OpenOptions::new().write(true).create_new(true).open(&aside)?;
        copy.write_all(torn)?;
        copy.sync_all()?;
        sync_dir(dir)?;
        file.set_len(end as u64)?;
        file.sync_all()?;
        tracing::warn!(bytes = torn.len(), file = %path.display(), aside = %aside.display(),
            "the audit log ended in a line that was not whole; it was put aside");
    }
    Ok(Found { tip, bytes: end as u64 })
}

/// The last line that is whole and hashes right, and where it ends.
fn last_whole_line(bytes: &[u8]) -> (Option<Tip>, usize) {
    let mut end = bytes.len();
    while let Some(stop) = bytes[..end].iter().rposition(|byte| *byte == b'\n') {
        let start = bytes[..stop].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if let Some(tip) = Tip::after(&bytes[start..stop]) {
            return (Some(tip), stop + 1);
        }
        end = stop;
    }
    (None, 0)
}

/// The end of the chain in the files before the last one.
fn tip_before(files: &[PathBuf]) -> io::Result<Tip> {
    for path in files.iter().rev().skip(1) {
        if let (Some(tip), _) = last_whole_line(&fs::read(path)?) {
            return Ok(tip);
        }
    }
    Ok(Tip::default())
}

/// The log's files, oldest first.
pub(super) fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with(PREFIX) && name.ends_with(SUFFIX) {
            files.push(path);
        }
    }
    // The number in the name has a fixed width, so the order of names is the order of time.
    files.sort();
    Ok(files)
}

fn create(dir: &Path, tip: &Tip) -> io::Result<File> {
    let path = dir.join(format!("{PREFIX}{:020}{SUFFIX}", tip.next));
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(&path)
        .map_err(|error| about(error, "cannot create the audit file", &path))?;
    file.sync_all()?;
    // Without this the file itself may be gone after a power loss, with all that was synced into it.
    sync_dir(dir)?;
    Ok(file)
}

fn create_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(dir)?;
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
        _ => Ok(()),
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// A second writer would break the chain, so only one process may hold the log.
fn lock(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
    let file = file.map_err(|error| about(error, "cannot open the audit log's lock", path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(io::Error::new(
            io::ErrorKind::WouldBlock,
            format!("another process holds the audit log ({}): only one controller may write it", path.display()),
        )),
        Err(TryLockError::Error(error)) => Err(about(error, "cannot lock the audit log", path)),
    }
}

fn unused(dir: &Path, next: u64) -> PathBuf {
    let name = |count: u32| dir.join(format!("torn-{next:020}-{count}"));
    (0..).map(name).find(|path| !path.exists()).unwrap_or_else(|| name(u32::MAX))
}

fn about(error: io::Error, what: &str, path: &Path) -> io::Error {
    let next = "give the pod a writable volume there";
    io::Error::new(error.kind(), format!("{what} {}: {error}; {next}", path.display()))
}
