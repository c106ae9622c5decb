//! The election against a Lease in memory, on a paused clock.

use std::sync::Mutex;

use super::*;

#[derive(Default)]
struct Memory {
    object: Mutex<Option<Object>>,
    down: std::sync::atomic::AtomicBool,
}

impl Memory {
    fn holder(&self) -> String {
        self.object.lock().unwrap().as_ref().map(|object| record(object).holder).unwrap_or_default()
    }

    fn edit(&self, change: impl FnOnce(&mut Object)) {
        let mut object = self.object.lock().unwrap();
        let object = object.as_mut().unwrap();
        change(object);
        bump(object);
    }

    fn set_down(&self, down: bool) {
        self.down.store(down, std::sync::atomic::Ordering::SeqCst);
    }

    /// A server that is down answers nothing at all.
    async fn answer(&self) {
        if self.down.load(std::sync::atomic::Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    }
}

fn bump(object: &mut Object) {
    let version: u64 = object.metadata.resource_version.as_deref().unwrap_or("0").parse().unwrap();
    object.metadata.resource_version = Some((version + 1).to_string());
}

impl Store for Memory {
    fn get(&self) -> BoxFuture<'_, Result<Option<Object>, StoreError>> {
        Box::pin(async {
            self.answer().await;
            Ok(self.object.lock().unwrap().clone())
        })
    }

    fn create(&self, mut object: Object) -> BoxFuture<'_, Result<Object, StoreError>> {
        Box::pin(async move {
            self.answer().await;
            let mut place = self.object.lock().unwrap();
            if place.is_some() {
                return Err(StoreError::Conflict);
            }
            bump(&mut object);
            Ok(place.insert(object).clone())
        })
    }

    fn replace(&self, mut object: Object) -> BoxFuture<'_, Result<Object, StoreError>> {
        Box::pin(async move {
            self.answer().await;
            let mut place = self.object.lock().unwrap();
            let current = place.as_ref().and_then(|object| object.metadata.resource_version.clone());
            if current != object.metadata.resource_version {
                return Err(StoreError::Conflict);
            }
            bump(&mut object);
            Ok(place.insert(object).clone())
        })
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_candidate_gets_it_and_the_second_only_after_its_release() {
    let store = Arc::new(Memory::default());
    let first = acquire(store.clone(), "a").await;
    assert!(first.leading().is_current());
    let second = tokio::spawn({
        let store = store.clone();
        async move { acquire(store, "b").await }
    });
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(first.leading().is_current() && !second.is_finished(), "a renewed Lease is not taken");
    let released = Instant::now();
    first.release().await;
    let second = second.await.unwrap();
    assert!(released.elapsed() <= RETRY, "a released Lease is taken at the next look");
    assert_eq!(store.holder(), "b");
    assert!(second.leading().is_current());
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_died_is_replaced_once_its_lease_expired() {
    let store = Arc::new(Memory::default());
    drop(acquire(store.clone(), "a").await);
    let died = Instant::now();
    let _second = acquire(store.clone(), "b").await;
    assert!((DURATION..=DURATION + RETRY).contains(&died.elapsed()), "{:?}", died.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_restarted_pod_retakes_its_lease_at_once_and_the_old_process_learns_it() {
    let store = Arc::new(Memory::default());
    let old = acquire(store.clone(), "pod-0").await;
    let before = Instant::now();
    let new = acquire(store.clone(), "pod-0").await;
    assert_eq!(before.elapsed(), Duration::ZERO);
    let lost = old.lost().await;
    assert!(lost.to_string().contains("another process took it"), "{lost}");
    assert!(!old.leading().is_current() && new.leading().is_current());
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_cannot_renew_stops_before_anybody_else_starts() {
    let store = Arc::new(Memory::default());
    let held = acquire(store.clone(), "a").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    store.set_down(true);
    let down = Instant::now();
    held.lost().await;
    assert!(down.elapsed() <= RENEW_DEADLINE, "{:?}", down.elapsed());
    assert!(!held.leading().is_current());
}

#[tokio::test(start_paused = true)]
async fn a_short_outage_costs_nothing() {
    let store = Arc::new(Memory::default());
    let held = acquire(store.clone(), "a").await;
    store.set_down(true);
    tokio::time::sleep(Duration::from_secs(7)).await;
    store.set_down(false);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(held.leading().is_current());
}

#[tokio::test(start_paused = true)]
async fn somebody_elses_edit_of_the_lease_is_no_loss() {
    let store = Arc::new(Memory::default());
    let held = acquire(store.clone(), "a").await;
    store.edit(|object| object.metadata.labels = Some([("team".to_owned(), "x".to_owned())].into()));
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(held.leading().is_current());
    assert!(store.object.lock().unwrap().as_ref().unwrap().metadata.labels.is_some(), "and the edit is kept");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_taken_or_deleted_is_lost() {
    let store = Arc::new(Memory::default());
    let held = acquire(store.clone(), "a").await;
    store.edit(|object| object.spec.as_mut().unwrap().holder_identity = Some("b".into()));
    held.lost().await;
    assert!(!held.leading().is_current());

    let store = Arc::new(Memory::default());
    let held = acquire(store.clone(), "a").await;
    *store.object.lock().unwrap() = None;
    held.lost().await;
    assert!(!held.leading().is_current());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_down_at_the_start_is_waited_for() {
    let store = Arc::new(Memory::default());
    store.set_down(true);
    let candidate = tokio::spawn({
        let store = store.clone();
        async move { acquire(store, "a").await }
    });
    tokio::time::sleep(Duration::from_secs(60)).await;
    store.set_down(false);
    assert!(candidate.await.unwrap().leading().is_current());
}
