//! Against an API server whose namespaces come and go. Nothing runs in them, so there is nothing to try a dry-run on: a
//! self-test passes when all kinds can be listed.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::cluster::testing::{Asked, Reply, client, failure, list};
use serde_json::json;

/// What the executor says.
struct Told {
    readiness: Arc<Readiness>,
    ready: watch::Receiver<Result<(), String>>,
    note: watch::Receiver<String>,
    enrolled: watch::Sender<BTreeSet<String>>,
    log: Arc<Mutex<Vec<Asked>>>,
    shutdown: CancellationToken,
}

impl Told {
    async fn after(&self, seconds: u64) -> (Result<(), String>, String) {
        sleep(seconds).await;
        (self.ready.borrow().clone(), self.note.borrow().clone())
    }

    fn asked(&self) -> usize {
        std::mem::take(&mut *self.log.lock().unwrap()).len()
    }
}

async fn sleep(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

impl Drop for Told {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// An executor that has these namespaces; `there` says which exist and `may` in which it has rights.
fn executor(
    names: &[&str],
    named: bool,
    there: impl Fn(&str) -> bool + Send + Sync + 'static,
    may: impl Fn(&str) -> bool + Send + Sync + 'static,
) -> Told {
    let (client, log) = client(move |asked| {
        let parts: Vec<&str> = asked.path.trim_start_matches('/').split('/').collect();
        match parts.as_slice() {
            ["api", "v1", "namespaces", name] if there(name) => {
                Reply::Json(200, json!({"metadata": {"name": name, "labels": {}}}))
            }
            ["api", "v1", "namespaces", _] => failure(404, "NotFound"),
            ["apis", "apps", "v1", "namespaces", name, _] if may(name) => list(&[]),
            _ => failure(403, "Forbidden"),
        }
    });
    let (ready, told) = watch::channel(Err("not yet".to_owned()));
    let (note, notes) = watch::channel(String::new());
    let (enrolled, follows) = watch::channel(BTreeSet::new());
    enrolled.send_replace(names.iter().map(|name| (*name).to_owned()).collect());
    let readiness = Readiness::new();
    let shutdown = CancellationToken::new();
    let report = Report { ready, note, metrics: Metrics::default() };
    {
        let (readiness, shutdown) = (readiness.clone(), shutdown.clone());
        // As in the process, what is enrolled is told after the watch of it began.
        let mut follows = follows;
        follows.mark_changed();
        tokio::spawn(async move { readiness.keep_testing(client, follows, named, report, shutdown).await });
    }
    Told { readiness, ready: told, note: notes, enrolled, log, shutdown }
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_is_gone_is_named_and_makes_nothing_unready() {
    let told = executor(&["shop", "gone"], true, |name| name == "shop", |name| name == "shop");
    let (ready, note) = told.after(1).await;
    assert_eq!(ready, Ok(()));
    assert!(note.contains("gone") && !note.contains("shop"), "{note}");
    assert_eq!(told.readiness.closed_because("shop"), "");
    assert!(told.readiness.closed_because("gone").contains("does not exist"));
    assert_eq!(told.readiness.present(), ["shop".to_owned()].into(), "no driver works in it");
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_is_deleted_later_and_made_again_is_left_and_taken_up_within_seconds() {
    let there = Arc::new(AtomicBool::new(true));
    let (exists, rights) = (there.clone(), there.clone());
    let told = executor(
        &["shop", "other"],
        true,
        move |name| name == "other" || exists.load(Ordering::Relaxed),
        move |name| name == "other" || rights.load(Ordering::Relaxed),
    );
    assert_eq!(told.after(1).await, (Ok(()), String::new()));
    there.store(false, Ordering::Relaxed);
    let (ready, note) = told.after(20).await;
    assert_eq!(ready, Ok(()));
    assert!(note.contains("shop"), "{note}");
    there.store(true, Ordering::Relaxed);
    assert_eq!(told.after(20).await, (Ok(()), String::new()));
    assert_eq!(told.readiness.closed_because("shop"), "");
}

#[tokio::test(start_paused = true)]
async fn rights_that_are_missing_in_a_namespace_that_exists_are_a_fault() {
    let told = executor(&["shop", "other"], true, |_| true, |name| name == "other");
    let (ready, note) = told.after(1).await;
    assert!(ready.unwrap_err().contains("namespace shop"));
    assert_eq!(note, "");
    assert_eq!(told.readiness.closed_because("other"), "", "the other one is repaired all the same");
    assert!(!told.readiness.closed_because("shop").is_empty());
    told.asked();
    // It is tried again, ever less often.
    sleep(600).await;
    assert!((10..400).contains(&told.asked()), "without a growing pause it would be more than a thousand");
}

#[tokio::test(start_paused = true)]
async fn whether_it_is_gone_that_cannot_be_told_is_a_fault() {
    // Every read of a Namespace is refused: it may be there.
    let told = executor(&["a b"], true, |_| true, |_| false);
    assert!(told.after(1).await.0.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_namespace_is_tried_before_it_is_ready_and_nothing_is_said_before_anything_is_known() {
    let told = executor(&["shop"], true, |_| true, |_| true);
    assert!(!told.readiness.closed_because("shop").is_empty());
    assert_eq!(*told.ready.borrow(), Err("not yet".to_owned()));
    assert_eq!(told.after(1).await.0, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn namespaces_that_get_the_label_are_tried_at_once_and_those_that_lose_it_are_closed() {
    let told = executor(&["shop"], false, |_| true, |_| true);
    sleep(1).await;
    told.enrolled.send_replace(["pay".to_owned()].into());
    sleep(1).await;
    assert_eq!(told.readiness.closed_because("pay"), "");
    assert!(told.readiness.closed_because("shop").contains("not enrolled"));
    told.enrolled.send_replace(BTreeSet::new());
    assert_eq!(told.after(1).await.0, Ok(()), "nothing is enrolled, and nothing is wrong");
}

#[tokio::test(start_paused = true)]
async fn a_surprise_closes_the_namespace_until_the_self_test_has_passed_again() {
    let told = executor(&["shop", "pay"], true, |_| true, |_| true);
    sleep(1).await;
    told.readiness.surprise("shop", "it was accepted");
    assert_eq!(told.readiness.closed_because("shop"), "it was accepted");
    assert_eq!(told.readiness.closed_because("pay"), "");
    sleep(1).await;
    assert_eq!(told.readiness.closed_because("shop"), "");
}

#[tokio::test(start_paused = true)]
async fn five_hundred_namespaces_are_asked_about_less_than_twice_a_second() {
    let names: Vec<String> = (0..500).map(|index| format!("ns-{index}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let told = executor(&names, true, |_| true, |_| true);
    assert_eq!(told.after(60).await.0, Ok(()));
    told.asked();
    // What is idle has no workloads here: with some, each self-test has nine requests more, as the pace counts.
    sleep(3 * 3600).await;
    let rate = told.asked() as f64 / (3.0 * 3600.0);
    assert!(rate > 0.5 && rate < 2.0, "{rate:.2} requests a second");
}
