//! The log on real files, after crashes, and on a disk that fails.

use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use serde_json::Value;

use super::{files::Sink, line::Tip, *};

fn record(kind: &str) -> Record {
    Record {
        at: "2026-11-21T10:00:00Z".parse().unwrap(),
        request_id: "r1".into(),
        kind: kind.into(),
        incident: "shop/i1".into(),
        ..Record::default()
    }
}

fn text(dir: &Path) -> String {
    files::list(dir).unwrap().iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

/// Checks the chain from the first line that is there, and returns the kinds.
fn verified(dir: &Path) -> Vec<String> {
    let mut previous: Option<Tip> = None;
    let mut kinds = Vec::new();
    for line in text(dir).lines() {
        let fields: Value = serde_json::from_str(line).unwrap();
        let tip = Tip::after(line.as_bytes()).unwrap_or_else(|| panic!("wrong hash: {line}"));
        if let Some(previous) = previous {
            assert_eq!((fields["seq"].as_u64(), fields["prev"].as_str()), (Some(previous.next), Some(&*previous.hash)));
        }
        kinds.push(fields["kind"].as_str().unwrap().to_owned());
        previous = Some(tip);
    }
    kinds
}

/// Waits until the thread let go of the lock.
fn reopen(dir: &Path) -> Audit {
    let start = std::time::Instant::now();
    loop {
        match open(dir) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && start.elapsed().as_secs() < 10 => {
                std::thread::yield_now();
            }
            other => return other.unwrap(),
        }
    }
}

fn last_file(dir: &Path) -> PathBuf {
    files::list(dir).unwrap().pop().unwrap()
}

#[tokio::test]
async fn a_record_is_in_the_file_when_append_returns() {
    let dir = tempfile::tempdir().unwrap();
    let audit = open(&dir.path().join("deep/er")).unwrap();
    audit.append(record("GrantOpening")).await.unwrap();
    let line: Value = serde_json::from_str(text(&audit.dir()).trim()).unwrap();
    assert_eq!(line["kind"], "GrantOpening");
    assert_eq!(line["requestId"], "r1");
    assert_eq!(line["prev"], GENESIS);
    assert_eq!(line["seq"], 1);
    assert_eq!(audit.is_durable(), Ok(()));
}

#[tokio::test]
async fn the_chain_goes_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    for kind in ["A", "B", "C"] {
        reopen(dir.path()).append(record(kind)).await.unwrap();
    }
    assert_eq!(verified(dir.path()), ["A", "B", "C"]);
}

#[tokio::test]
async fn a_changed_line_shows() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).unwrap().append(record("A")).await.unwrap();
    let changed = text(dir.path()).replace("shop/i1", "shop/i2");
    assert!(Tip::after(changed.trim().as_bytes()).is_none());
}

#[tokio::test]
async fn every_way_in_which_a_line_can_be_torn_is_put_aside_and_the_chain_goes_on() {
    let whole = {
        let dir = tempfile::tempdir().unwrap();
        let audit = open(dir.path()).unwrap();
        audit.append(record("A")).await.unwrap();
        audit.append(record("B")).await.unwrap();
        text(dir.path())
    };
    let first = whole.find('\n').unwrap() + 1;
    let mut tails: Vec<Vec<u8>> =
        (1..whole.len() - first).map(|cut| whole.as_bytes()[first..first + cut].to_vec()).collect();
    tails.push(vec![0; 4096]);
    tails.push(b"\n\n".to_vec());
    tails.push(b"{\"kind\":\"B\",\"seq\":2}\n".to_vec());
    tails.push(vec![0xff, b'\n', 0xfe]);
    for tail in tails {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path()).unwrap().append(record("A")).await.unwrap();
        let path = last_file(dir.path());
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend_from_slice(&tail);
        fs::write(&path, bytes).unwrap();
        reopen(dir.path()).append(record("C")).await.unwrap();
        assert_eq!(verified(dir.path()), ["A", "C"]);
        let aside = fs::read(dir.path().join(format!("torn-{:020}-0", 2))).unwrap();
        assert_eq!(aside, tail, "nothing is thrown away");
    }
}

#[tokio::test]
async fn a_first_line_that_was_torn_leaves_an_empty_log() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    fs::write(last_file(dir.path()), "{\"at\":").unwrap();
    reopen(dir.path()).append(record("A")).await.unwrap();
    assert_eq!(verified(dir.path()), ["A"]);
}

#[tokio::test]
async fn full_files_are_rotated_and_the_oldest_removed_without_breaking_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    let audit = open_bounded(dir.path(), Bounds { file_bytes: 1000, files: 3 }).unwrap();
    for number in 0..40 {
        audit.append(record(&format!("K{number}"))).await.unwrap();
    }
    let kinds = verified(dir.path());
    assert_eq!(files::list(dir.path()).unwrap().len(), 3);
    assert_eq!(kinds.last().unwrap(), "K39");
    drop(audit);
    reopen(dir.path()).append(record("K40")).await.unwrap();
    assert_eq!(verified(dir.path()).last().unwrap(), "K40");
}

#[tokio::test]
async fn a_chain_whose_newest_file_is_still_empty_goes_on_from_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let audit = open_bounded(dir.path(), Bounds { file_bytes: 1, files: 3 }).unwrap();
    audit.append(record("A")).await.unwrap();
    drop(audit);
    assert_eq!(fs::metadata(last_file(dir.path())).unwrap().len(), 0);
    reopen(dir.path()).append(record("B")).await.unwrap();
    assert_eq!(verified(dir.path()), ["A", "B"]);
}

#[tokio::test]
async fn only_one_process_may_hold_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let _held = open(dir.path()).unwrap();
    let error = open(dir.path()).err().unwrap();
    assert!(error.to_string().contains("only one controller may write it"), "{error}");
}

#[test]
fn a_folder_that_cannot_be_written_is_named_with_the_next_step() {
    let error = open(Path::new("/proc/backstop")).err().unwrap().to_string();
    assert!(error.contains("/proc/backstop") && error.contains("writable volume"), "{error}");
}

/// A disk that fails while `broken`, and counts what it was asked.
#[derive(Clone, Default)]
struct Disk {
    broken: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
    bytes: Arc<Mutex<Vec<u8>>>,
    gate: Arc<tokio::sync::Mutex<()>>,
}

impl Sink for Disk {
    fn write_durably(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        drop(self.gate.blocking_lock());
        if self.broken.load(Ordering::SeqCst) {
            return Err(io::Error::other("input/output error"));
        }
        self.bytes.lock().unwrap().extend_from_slice(bytes);
        Ok(())
    }
}

fn on(disk: &Disk, dir: &Path) -> Audit {
    let mut log = files::Log::open(dir, BOUNDS).unwrap();
    log.replace_sink(Box::new(disk.clone()));
    let (queue, waiting) = mpsc::channel(QUEUE);
    let (report, state) = watch::channel(Ok(()));
    let failures = Counter::default();
    let counter = failures.clone();
    std::thread::spawn(move || thread::run(log, waiting, &report, &counter));
    Audit { queue, state, failures, dir: dir.into() }
}

#[tokio::test]
async fn one_failed_sync_poisons_the_log_even_when_the_disk_recovers() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let audit = on(&disk, dir.path());
    audit.append(record("A")).await.unwrap();
    disk.broken.store(true, Ordering::SeqCst);
    let error = audit.append(record("B")).await.unwrap_err();
    assert!(error.to_string().contains("input/output error"), "{error}");
    disk.broken.store(false, Ordering::SeqCst);
    audit.append(record("C")).await.unwrap_err();
    assert_eq!(disk.calls.load(Ordering::SeqCst), 2, "the disk is not asked again");
    assert!(audit.is_durable().unwrap_err().contains("restart the controller"));
    assert_eq!(audit.failures.get(), 2);
}

#[tokio::test]
async fn those_who_wait_together_share_one_sync() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let audit = on(&disk, dir.path());
    let closed = disk.gate.lock().await;
    let append = |number: usize| {
        let audit = audit.clone();
        tokio::spawn(async move { audit.append(record(&format!("K{number}"))).await })
    };
    let first = append(0);
    while disk.calls.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    // The disk is busy with the first: all others queue behind it.
    let others: Vec<_> = (1..100).map(append).collect();
    while audit.queue.max_capacity() - audit.queue.capacity() < others.len() {
        tokio::task::yield_now().await;
    }
    drop(closed);
    first.await.unwrap().unwrap();
    for append in others {
        append.await.unwrap().unwrap();
    }
    assert_eq!(disk.calls.load(Ordering::SeqCst), 2);
    assert_eq!(disk.bytes.lock().unwrap().iter().filter(|byte| **byte == b'\n').count(), 100);
}

#[tokio::test]
async fn a_record_is_kept_though_its_sender_stopped_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let audit = open(dir.path()).unwrap();
    let mut append = Box::pin(audit.append(record("A")));
    let _ = futures::poll!(&mut append);
    drop(append);
    audit.append(record("B")).await.unwrap();
    assert_eq!(verified(dir.path()), ["A", "B"]);
}

#[tokio::test]
async fn a_thread_that_ended_is_not_durable() {
    let (queue, waiting) = mpsc::channel(1);
    let (report, state) = watch::channel(Ok(()));
    drop((waiting, report));
    let audit = Audit { queue, state, failures: Counter::default(), dir: Path::new(".").into() };
    assert!(audit.is_durable().is_err());
    assert!(audit.append(record("A")).await.is_err());
}
