//! The log on real files, after crashes, and on a disk that fails.

use std::{
    fs,
    sync::atomic::{AtomicU64, AtomicUsize},
    time::Instant,
};

use prometheus_client::{encoding::text, registry::Registry};
use serde_json::{Value, json};

use super::{files::Sink, *};

/// Short, so that a test need not wait.
const QUICK: Pauses = Pauses { first: Duration::from_millis(5), longest: Duration::from_millis(20) };
/// For what is not about a disk that hangs: on a busy machine a sync takes seconds.
const UNHURRIED: Duration = Duration::from_secs(120);

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

fn lines(dir: &Path) -> Vec<Value> {
    text(dir).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Checks the chain from the first line that is there, and returns the kinds without those of an opening.
fn verified(dir: &Path) -> Vec<String> {
    verify(dir).unwrap();
    let kinds = lines(dir).iter().map(|line| line["kind"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    kinds.into_iter().filter(|kind| kind != "AuditLogOpened").collect()
}

fn bounded(dir: &Path, bounds: Bounds) -> Audit {
    let folder = dir.to_path_buf();
    let opener = move |known: Option<&Position>| files::Log::open(&folder, bounds, known);
    open_with(dir, Metrics::default(), QUICK, UNHURRIED, Box::new(opener))
}

/// Opens the log, and waits until it is open: the thread of an earlier one may still hold the lock.
async fn reopen(dir: &Path) -> Audit {
    let audit = bounded(dir, BOUNDS);
    until_durable(&audit).await;
    audit
}

async fn until_durable(audit: &Audit) {
    let start = Instant::now();
    while let Err(why) = audit.is_durable() {
        assert!(start.elapsed() < UNHURRIED, "{why}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn last_file(dir: &Path) -> PathBuf {
    files::list(dir).unwrap().pop().unwrap()
}

#[tokio::test]
async fn a_record_is_in_the_file_when_append_returns() {
    let dir = tempfile::tempdir().unwrap();
    let audit = open(&dir.path().join("deep/er"), Metrics::default());
    audit.append(record("GrantOpening")).await.unwrap();
    let [first, line] = &lines(&audit.dir())[..] else { panic!("{}", text(&audit.dir())) };
    assert_eq!(first["kind"], "AuditLogOpened");
    assert_eq!((&first["prev"], &first["seq"]), (&json!(GENESIS), &json!(1)));
    assert_eq!(line["kind"], "GrantOpening");
    assert_eq!(line["requestId"], "r1");
    assert_eq!(line["prev"], first["sha256"]);
    assert_eq!(audit.is_durable(), Ok(()));
}

#[tokio::test]
async fn the_chain_goes_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    for kind in ["A", "B", "C"] {
        reopen(dir.path()).await.append(record(kind)).await.unwrap();
    }
    assert_eq!(verified(dir.path()), ["A", "B", "C"]);
}

#[tokio::test]
async fn a_line_that_was_changed_taken_out_moved_or_put_in_shows() {
    let dir = tempfile::tempdir().unwrap();
    let audit = reopen(dir.path()).await;
    for kind in ["A", "B", "C"] {
        audit.append(record(kind)).await.unwrap();
    }
    let whole = text(dir.path());
    let lines: Vec<&str> = whole.lines().collect();
    let sum = verify(dir.path()).unwrap();
    assert_eq!((sum.files, sum.lines, sum.first, sum.last), (1, 4, 1, 4));
    assert_eq!(sum.hash, serde_json::from_str::<Value>(lines[3]).unwrap()["sha256"]);
    fs::write(last_file(dir.path()), &whole[..whole.len() - 5]).unwrap();
    let sum = verify(dir.path()).unwrap();
    assert_eq!((sum.lines, sum.unfinished), (3, true), "somebody may be writing it");
    for (text, place) in [
        (whole.replacen("shop/i1", "shop/i2", 1), ":2: the line is not whole, or was changed"),
        ([lines[0], lines[1], lines[3], ""].join("\n"), ":3: the line does not follow"),
        ([lines[0], lines[2], lines[1], lines[3], ""].join("\n"), ":2: the line does not follow"),
        (format!("{whole}{}\n", lines[3]), ":5: the line does not follow"),
    ] {
        fs::write(last_file(dir.path()), text).unwrap();
        let error = verify(dir.path()).unwrap_err().to_string();
        assert!(error.contains(place), "{error}");
    }
}

#[tokio::test]
async fn every_way_in_which_a_line_can_be_torn_is_put_aside_and_the_chain_goes_on() {
    let whole = {
        let dir = tempfile::tempdir().unwrap();
        reopen(dir.path()).await.append(record("B")).await.unwrap();
        text(dir.path()).lines().last().unwrap().to_owned()
    };
    let mut tails: Vec<Vec<u8>> = (1..whole.len()).map(|cut| whole.as_bytes()[..cut].to_vec()).collect();
    tails.push(vec![0; 4096]);
    tails.push(b"\n\n".to_vec());
    tails.push(b"{\"kind\":\"B\",\"seq\":2}\n".to_vec());
    tails.push(vec![0xff, b'\n', 0xfe]);
    for tail in tails {
        let dir = tempfile::tempdir().unwrap();
        {
            let audit = bounded(dir.path(), BOUNDS);
            audit.append(record("A")).await.unwrap();
        }
        let path = last_file(dir.path());
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend_from_slice(&tail);
        fs::write(&path, bytes).unwrap();
        reopen(dir.path()).await.append(record("C")).await.unwrap();
        assert_eq!(verified(dir.path()), ["A", "C"]);
        let aside = format!("torn-{:020}-0", 3);
        assert_eq!(fs::read(dir.path().join(&aside)).unwrap(), tail, "nothing is thrown away");
        let said = &lines(dir.path())[2]["details"]["putAside"];
        assert_eq!((&said["bytes"], &said["file"]), (&json!(tail.len()), &json!(aside)));
    }
}

#[tokio::test]
async fn a_first_line_that_was_torn_leaves_an_empty_log() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(format!("audit-{:020}.jsonl", 1)), "{\"at\":").unwrap();
    reopen(dir.path()).await.append(record("A")).await.unwrap();
    assert_eq!(verified(dir.path()), ["A"]);
}

#[tokio::test]
async fn full_files_are_rotated_and_the_oldest_removed_without_breaking_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    let audit = bounded(dir.path(), Bounds { file_bytes: 1000, files: 3 });
    for number in 0..40 {
        audit.append(record(&format!("K{number}"))).await.unwrap();
    }
    let kinds = verified(dir.path());
    assert_eq!(files::list(dir.path()).unwrap().len(), 3);
    assert_eq!(kinds.last().unwrap(), "K39");
    drop(audit);
    reopen(dir.path()).await.append(record("K40")).await.unwrap();
    assert_eq!(verified(dir.path()).last().unwrap(), "K40");
}

#[tokio::test]
async fn a_chain_whose_newest_file_is_still_empty_goes_on_from_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    reopen(dir.path()).await.append(record("A")).await.unwrap();
    fs::write(dir.path().join(format!("audit-{:020}.jsonl", 3)), "").unwrap();
    reopen(dir.path()).await.append(record("B")).await.unwrap();
    assert_eq!(verified(dir.path()), ["A", "B"]);
}

#[tokio::test]
async fn only_one_process_may_hold_the_log_and_the_next_takes_it_once_it_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let held = reopen(dir.path()).await;
    let next = bounded(dir.path(), BOUNDS);
    let error = next.is_durable().unwrap_err();
    assert!(error.contains("only one controller may write it"), "{error}");
    next.append(record("A")).await.unwrap_err();
    held.append(record("B")).await.unwrap();
    drop(held);
    until_durable(&next).await;
    next.append(record("C")).await.unwrap();
    assert_eq!(verified(dir.path()), ["B", "C"]);
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_closes_the_log_and_is_named_with_the_next_step() {
    let audit = open(Path::new("/proc/backstop"), Metrics::default());
    for error in [audit.is_durable().unwrap_err(), audit.append(record("A")).await.unwrap_err().to_string()] {
        assert!(error.contains("/proc/backstop") && error.contains("writable volume"), "{error}");
    }
    assert_eq!(audit.keep(record("B")).await, Kept::InMemory);
}

/// A disk that is broken or full for as long as a test wants; what it takes is in the file.
#[derive(Clone)]
struct Disk {
    /// Bytes that find room; a write that does not fit is torn.
    room: Arc<AtomicU64>,
    calls: Arc<AtomicUsize>,
    gate: Arc<tokio::sync::Mutex<()>>,
}

impl Default for Disk {
    fn default() -> Self {
        Disk { room: Arc::new(AtomicU64::new(u64::MAX)), calls: Arc::default(), gate: Arc::default() }
    }
}

struct OnDisk(Disk, Box<dyn Sink>);

impl Sink for OnDisk {
    fn write_durably(&mut self, bytes: &[u8]) -> io::Result<()> {
        let OnDisk(Disk { room, calls, gate }, file) = self;
        calls.fetch_add(1, Ordering::SeqCst);
        drop(gate.blocking_lock());
        let left = room.load(Ordering::SeqCst);
        let fits = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        file.write_durably(&bytes[..fits])?;
        if left != u64::MAX {
            // Unless the test gave or took room meanwhile: a sync may take long.
            let _ = room.compare_exchange(left, left - fits as u64, Ordering::SeqCst, Ordering::SeqCst);
        }
        if fits < bytes.len() { Err(io::Error::from(io::ErrorKind::StorageFull)) } else { Ok(()) }
    }
}

impl Disk {
    fn full(&self, room: u64) {
        self.room.store(room, Ordering::SeqCst);
    }

    fn well(&self) {
        self.room.store(u64::MAX, Ordering::SeqCst);
    }
}

fn on(disk: &Disk, dir: &Path, metrics: Metrics, pauses: Pauses, patience: Duration) -> Audit {
    let (folder, disk) = (dir.to_path_buf(), disk.clone());
    let opener = move |known: Option<&Position>| {
        let mut log = files::Log::open(&folder, BOUNDS, known)?;
        log.replace_sink(|file| Box::new(OnDisk(disk.clone(), file)));
        Ok(log)
    };
    open_with(dir, metrics, pauses, patience, Box::new(opener))
}

fn scraped(registry: &Registry) -> String {
    let mut page = String::new();
    text::encode(&mut page, registry).unwrap();
    page
}

#[tokio::test]
async fn a_full_disk_closes_the_log_and_what_happens_meanwhile_is_on_record_once_there_is_room() {
    let (dir, disk, mut registry) = (tempfile::tempdir().unwrap(), Disk::default(), Registry::default());
    let audit = on(&disk, dir.path(), Metrics::register(&mut registry), QUICK, UNHURRIED);
    audit.append(record("A")).await.unwrap();
    for torn in [0, 1, 20] {
        disk.full(torn);
        let error = audit.append(record(&format!("Refused{torn}"))).await.unwrap_err().to_string();
        assert!(error.contains("no storage space") && error.contains("tried again"), "{error}");
        assert!(audit.is_durable().is_err(), "no Grant opens");
        assert_eq!(audit.keep(record(&format!("Happened{torn}"))).await, Kept::InMemory);
        let page = scraped(&registry);
        assert!(page.contains("backstop_audit_durable 0") && page.contains("audit_records_waiting 1"), "{page}");
        disk.well();
        until_durable(&audit).await;
        let page = scraped(&registry);
        assert!(page.contains("backstop_audit_durable 1") && page.contains("audit_records_waiting 0"), "{page}");
    }
    audit.append(record("B")).await.unwrap();
    assert_eq!(verified(dir.path()), ["A", "Happened0", "Happened1", "Happened20", "B"]);
    let again: Vec<Value> = lines(dir.path()).into_iter().filter(|line| line["kind"] == "AuditLogOpened").collect();
    assert_eq!(again.len(), 4);
    assert_eq!(again[3]["details"]["waited"], 1);
    assert!(again[3]["details"]["because"].as_str().unwrap().contains("no storage space"));
    assert!(scraped(&registry).contains("backstop_audit_free_bytes"));
}

#[tokio::test]
async fn one_failed_sync_closes_the_log_until_a_line_reaches_the_disk_again() {
    let slow = Pauses { first: Duration::from_secs(3600), longest: Duration::from_secs(3600) };
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let audit = on(&disk, dir.path(), Metrics::default(), slow, UNHURRIED);
    audit.append(record("A")).await.unwrap();
    disk.full(7);
    audit.append(record("B")).await.unwrap_err();
    let calls = disk.calls.load(Ordering::SeqCst);
    disk.well();
    audit.append(record("C")).await.unwrap_err();
    assert_eq!(disk.calls.load(Ordering::SeqCst), calls, "the same file is not trusted again");
    assert_eq!(audit.metrics.failures.get(), 2);
    assert_eq!(verified(dir.path()), ["A"], "what was not acknowledged is cut off");
}

#[tokio::test]
async fn a_torn_line_on_a_full_disk_is_cut_without_room_and_said_once_there_is_some() {
    let dir = tempfile::tempdir().unwrap();
    reopen(dir.path()).await.append(record("A")).await.unwrap();
    let path = last_file(dir.path());
    let mut bytes = fs::read(&path).unwrap();
    bytes.extend_from_slice(b"{\"at\":\"2026");
    fs::write(&path, bytes).unwrap();
    let full: files::Aside = |_, _, _, aside| {
        fs::write(aside, "{\"at")?;
        Err(io::ErrorKind::StorageFull.into())
    };
    let mut log = files::Log::open_with(dir.path(), BOUNDS, None, full).unwrap();
    assert_eq!(verified(dir.path()), ["A"]);
    let torn = log.torn().unwrap();
    assert_eq!((&torn["bytes"], &torn["file"]), (&json!(11), &Value::Null));
    assert_eq!(torn["begins"], "{\"at\":\"2026");
    let left = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(left.into_iter().all(|name| !name.starts_with("torn")), "half a copy only takes up room");
}

/// A child process with a limit on the size of files: a real file system that takes no more, without a mount.
#[test]
fn a_file_system_that_takes_no_more_closes_the_log_and_the_process_goes_on() {
    const INSIDE: &str = "BACKSTOP_TEST_AUDIT_DIR";
    let name = "audit::tests::a_file_system_that_takes_no_more_closes_the_log_and_the_process_goes_on";
    let Some(dir) = std::env::var_os(INSIDE).map(PathBuf::from) else {
        let dir = tempfile::tempdir().unwrap();
        // 8 blocks of 512 bytes; the signal that comes with the limit is ignored, so that the write fails.
        let script = "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\"";
        let me = std::env::current_exe().unwrap();
        let mut child = std::process::Command::new("sh");
        child.args(["-c", script]).arg(me).args(["--exact", name, "--nocapture"]).env(INSIDE, dir.path());
        let output = child.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).status().unwrap();
        assert!(output.success(), "{output}");
        assert!(!verified(dir.path()).is_empty());
        return;
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let audit = bounded(&dir, BOUNDS);
        let mut written = 0;
        while audit.append(record(&format!("K{written}"))).await.is_ok() {
            written += 1;
            assert!(written < 100, "no limit");
        }
        assert!(written > 3 && audit.is_durable().unwrap_err().contains("too large"), "{written}");
        assert_eq!(audit.keep(record("Happened")).await, Kept::InMemory);
        tokio::time::sleep(Duration::from_millis(100)).await;
        audit.append(record("Refused")).await.unwrap_err();
        assert_eq!(verified(&dir).len(), written);
    });
}

#[tokio::test]
async fn a_disk_that_hangs_delays_nobody_for_long_and_counts_as_closed() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let audit = on(&disk, dir.path(), Metrics::default(), QUICK, Duration::from_millis(50));
    audit.append(record("A")).await.unwrap();
    let hung = disk.gate.lock().await;
    assert_eq!(audit.keep(record("Happened")).await, Kept::InMemory);
    let why = audit.is_durable().unwrap_err();
    assert!(why.contains("did not answer"), "{why}");
    assert_eq!(audit.append(record("B")).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    drop(hung);
    until_durable(&audit).await;
    assert_eq!(verified(dir.path())[..2], ["A", "Happened"]);
}

#[tokio::test]
async fn what_finds_no_room_in_memory_is_counted_and_told_later() {
    let (dir, disk, mut registry) = (tempfile::tempdir().unwrap(), Disk::default(), Registry::default());
    let audit = on(&disk, dir.path(), Metrics::register(&mut registry), QUICK, UNHURRIED);
    audit.append(record("A")).await.unwrap();
    disk.full(0);
    audit.append(record("B")).await.unwrap_err();
    let mut lost = 0;
    for _ in 0..6 {
        let details = json!({ "text": "x".repeat(1 << 20) }).as_object().cloned().unwrap();
        lost += u64::from(audit.keep(Record { details, ..record("Large") }).await == Kept::Lost);
    }
    assert_eq!(lost, 3);
    assert!(scraped(&registry).contains("backstop_audit_records_lost_total 3"));
    disk.well();
    until_durable(&audit).await;
    let opened = lines(dir.path()).into_iter().rfind(|line| line["kind"] == "AuditLogOpened").unwrap();
    assert_eq!((&opened["details"]["lost"], &opened["details"]["waited"]), (&json!(3), &json!(3)));
    assert_eq!(verified(dir.path()), ["A", "Large", "Large", "Large"]);
}

#[tokio::test]
async fn the_same_record_is_written_once_whatever_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let audit = reopen(dir.path()).await;
    for second in 0..5 {
        let at = format!("2026-11-21T10:00:0{second}Z").parse().unwrap();
        audit.append(Record { at, ..record("GrantOpening") }).await.unwrap();
    }
    let details = json!({ "epoch": 2 }).as_object().cloned().unwrap();
    audit.append(Record { details, ..record("GrantOpening") }).await.unwrap();
    assert_eq!(verified(dir.path()), ["GrantOpening", "GrantOpening"]);
}

#[tokio::test]
async fn those_who_wait_together_share_one_sync() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let audit = on(&disk, dir.path(), Metrics::default(), QUICK, UNHURRIED);
    let before = disk.calls.load(Ordering::SeqCst);
    let closed = disk.gate.lock().await;
    let append = |number: usize| {
        let audit = audit.clone();
        tokio::spawn(async move { audit.append(record(&format!("K{number}"))).await })
    };
    let first = append(0);
    while disk.calls.load(Ordering::SeqCst) == before {
        tokio::task::yield_now().await;
    }
    // The disk is busy with the first: all others queue behind it.
    let others: Vec<_> = (1..100).map(append).collect();
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    drop(closed);
    first.await.unwrap().unwrap();
    for append in others {
        append.await.unwrap().unwrap();
    }
    assert_eq!(disk.calls.load(Ordering::SeqCst) - before, 2);
    assert_eq!(verified(dir.path()).len(), 100);
}

#[tokio::test]
async fn a_record_is_kept_though_its_sender_stopped_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let audit = reopen(dir.path()).await;
    let mut append = Box::pin(audit.append(record("A")));
    let _ = futures::poll!(&mut append);
    drop(append);
    audit.append(record("B")).await.unwrap();
    assert_eq!(verified(dir.path()), ["A", "B"]);
}

#[tokio::test]
async fn a_thread_that_ended_is_not_durable() {
    let (queue, waiting) = mpsc::sync_channel(1);
    let (report, state) = watch::channel(Ok(()));
    drop((waiting, report));
    let (stalled, metrics, dir) = (Arc::default(), Metrics::default(), Path::new(".").into());
    let audit = Audit { queue, state, stalled, metrics, dir, patience: PATIENCE };
    assert!(audit.is_durable().is_err());
    assert!(audit.append(record("A")).await.is_err());
    assert_eq!(audit.keep(record("A")).await, Kept::Lost);
}
