//! The files of the log: finding the end of the chain, rotation, and what reaches the disk.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Bounds, Record, line::Tip};

/// Held for as long as the log is open.
const LOCK: &str = "lock";
const PREFIX: &str = "audit-";
const SUFFIX: &str = ".jsonl";
/// Bytes that are read first from the end of a file.
const WINDOW: u64 = 256 << 10;
/// Bytes of what is cut off that are shown in its record.
const BEGINNING: usize = 512;

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

/// Up to where a file is known to be on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Position {
    path: PathBuf,
    bytes: u64,
}

/// The log on disk.
pub(super) struct Log {
    tip: Tip,
    dir: PathBuf,
    path: PathBuf,
    bounds: Bounds,
    sink: Box<dyn Sink>,
    bytes: u64,
    torn: Option<Value>,
    _lock: File,
}

impl Log {
    /// Finds the end of the chain, puts aside what follows it, and opens the last file for appending. What follows
    /// `known` was not acknowledged, and may only be in memory: it is cut off.
    pub fn open(dir: &Path, bounds: Bounds, known: Option<&Position>) -> io::Result<Log> {
        Log::open_with(dir, bounds, known, copy_aside)
    }

    /// The same, with another way of putting aside what follows the chain.
    pub(super) fn open_with(dir: &Path, bounds: Bounds, known: Option<&Position>, aside: Aside) -> io::Result<Log> {
        create_dir(dir).map_err(|error| about(error, "cannot create the audit folder", dir))?;
        let lock = lock(&dir.join(LOCK))?;
        if let Some(known) = known.filter(|known| known.path.exists()) {
            known.cut().map_err(|error| about(error, "cannot cut", &known.path))?;
        }
        let files = list(dir)?;
        let Some(path) = files.last().cloned() else {
            let tip = Tip::default();
            let (path, file) = create(dir, &tip)?;
            let (dir, sink) = (dir.into(), Box::new(file));
            return Ok(Log { tip, dir, path, bounds, sink, bytes: 0, torn: None, _lock: lock });
        };
        let found = recover(dir, &path, aside).map_err(|error| about(error, "cannot read", &path))?;
        // A file may be empty, or hold only a torn line: the chain then ends in the one before.
        let tip = match found.tip {
            Some(tip) => tip,
            None => tip_before(&files)?,
        };
        let mut file =
            OpenOptions::new().append(true).open(&path).map_err(|error| about(error, "cannot open", &path))?;
        file.seek(SeekFrom::End(0))?;
        let (dir, sink, bytes, torn) = (dir.into(), Box::new(file), found.bytes, found.torn);
        Ok(Log { tip, dir, path, bounds, sink, bytes, torn, _lock: lock })
    }

    /// Writes records as whole lines and returns once they are on the disk. After an error none of them counts as written.
    pub fn append(&mut self, records: &[Record]) -> io::Result<()> {
        let mut tip = self.tip.clone();
        let mut lines = Vec::new();
        for record in records {
            lines.extend_from_slice(tip.line(record)?.as_bytes());
        }
        self.sink.write_durably(&lines)?;
        self.tip = tip;
        self.bytes += lines.len() as u64;
        Ok(())
    }

    /// Up to where it is known to be on the disk.
    pub fn position(&self) -> Position {
        Position { path: self.path.clone(), bytes: self.bytes }
    }

    /// Cuts off what a failed write may have left. Takes no room. A failure shows when it is opened again.
    pub fn cut(&self) {
        if let Err(error) = self.position().cut() {
            tracing::warn!(%error, file = %self.path.display(), "the audit log could not be cut after its last line");
        }
    }

    /// What was found behind the last whole line when it was opened, for the record of it.
    pub fn torn(&mut self) -> Option<Value> {
        self.torn.take()
    }

    /// Starts a new file if the last one is full, and removes the oldest ones above the bound.
    pub fn rotate(&mut self) -> io::Result<()> {
        if self.bytes < self.bounds.file_bytes {
            return Ok(());
        }
        let (path, file) = create(&self.dir, &self.tip)?;
        self.path = path;
        self.sink = Box::new(file);
        self.bytes = 0;
        let files = list(&self.dir)?;
        for old in files.iter().take(files.len().saturating_sub(self.bounds.files)) {
            tracing::warn!(file = %old.display(), "removing the oldest audit file: the log is at its bound");
            fs::remove_file(old)?;
        }
        Ok(())
    }

    #[cfg(test)]
    pub fn replace_sink(&mut self, wrap: impl FnOnce(Box<dyn Sink>) -> Box<dyn Sink>) {
        struct Nowhere;
        impl Sink for Nowhere {
            fn write_durably(&mut self, _: &[u8]) -> io::Result<()> {
                Ok(())
            }
        }
        self.sink = wrap(std::mem::replace(&mut self.sink, Box::new(Nowhere)));
    }
}

impl Position {
    fn cut(&self) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(&self.path)?;
        if file.metadata()?.len() > self.bytes {
            file.set_len(self.bytes)?;
            file.sync_all()?;
        }
        Ok(())
    }
}

/// Copies what follows a place in a file of a folder into another file.
pub(super) type Aside = fn(dir: &Path, file: &mut File, from: u64, aside: &Path) -> io::Result<()>;

/// What was found in the last file.
struct Found {
    tip: Option<Tip>,
    bytes: u64,
    torn: Option<Value>,
}

/// Cuts `path` after its last whole line. What follows goes into a file of its own if there is room for one; without,
/// its size, hash and beginning are all that stays. Both are said in the next record.
fn recover(dir: &Path, path: &Path, put_aside: Aside) -> io::Result<Found> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let length = file.metadata()?.len();
    let (tip, end) = last_whole_line(&mut file, length)?;
    if end == length {
        return Ok(Found { tip, bytes: end, torn: None });
    }
    let aside = unused(dir, tip.as_ref().map_or(0, |tip| tip.next));
    let kept = put_aside(dir, &mut file, end, &aside);
    if let Err(error) = &kept {
        tracing::warn!(%error, aside = %aside.display(), "what follows the last whole line could not be put aside");
        // Half of it would only take up room.
        let _ = fs::remove_file(&aside);
    }
    let torn = describe(&mut file, end, kept.is_ok().then_some(aside.as_path()))?;
    file.set_len(end)?;
    file.sync_all()?;
    tracing::warn!(file = %path.display(), %torn, "the audit log ended in a line that was not whole; it was cut off");
    Ok(Found { tip, bytes: end, torn: Some(torn) })
}

fn copy_aside(dir: &Path, file: &mut File, from: u64, aside: &Path) -> io::Result<()> {
    file.seek(SeekFrom::Start(from))?;
    let mut copy = OpenOptions::new().write(true).create_new(true).open(aside)?;
    io::copy(file, &mut copy)?;
    copy.sync_all()?;
    sync_dir(dir)
}

/// Size, hash and beginning of what follows `from`.
fn describe(file: &mut File, from: u64, aside: Option<&Path>) -> io::Result<Value> {
    file.seek(SeekFrom::Start(from))?;
    let (mut hash, mut bytes, mut begins) = (Sha256::new(), 0_u64, Vec::new());
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = file.read(&mut buffer)?;
        let part = buffer.get(..read).unwrap_or_default();
        if part.is_empty() {
            break;
        }
        hash.update(part);
        bytes += read as u64;
        if begins.is_empty() {
            begins = part.iter().copied().take(BEGINNING).collect();
        }
    }
    let name = aside.and_then(Path::file_name).map(|name| name.to_string_lossy());
    Ok(json!({
        "bytes": bytes, "sha256": hex::encode(hash.finalize()), "file": name,
        "begins": String::from_utf8_lossy(&begins),
    }))
}

/// The last line that is whole and hashes right, and where it ends. Reads from the end, and no more than it takes.
fn last_whole_line(file: &mut File, length: u64) -> io::Result<(Option<Tip>, u64)> {
    let mut window = WINDOW;
    loop {
        let start = length.saturating_sub(window);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let (tip, end) = last_whole_line_of(&bytes);
        if tip.is_some() {
            return Ok((tip, start + end as u64));
        }
        if start == 0 {
            return Ok((None, 0));
        }
        window = window.saturating_mul(8);
    }
}

fn last_whole_line_of(bytes: &[u8]) -> (Option<Tip>, usize) {
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
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        if let (Some(tip), _) = last_whole_line(&mut file, length)? {
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

fn create(dir: &Path, tip: &Tip) -> io::Result<(PathBuf, File)> {
    let path = dir.join(format!("{PREFIX}{:020}{SUFFIX}", tip.next));
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(&path)
        .map_err(|error| about(error, "cannot create the audit file", &path))?;
    file.sync_all()?;
    // Without this the file itself may be gone after a power loss, with all that was synced into it.
    sync_dir(dir)?;
    Ok((path, file))
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
