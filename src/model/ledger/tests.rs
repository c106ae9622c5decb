//! The ledger against stores that lose answers, conflict and come late, and against processes that end in the middle.

mod again;
mod api;
mod killed;
mod world;

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::api::v1alpha1::IncidentKey;

pub(super) const LIMITS: Limits = Limits {
    per_incident: NanoDollars(100),
    per_namespace_per_day: NanoDollars(250),
    per_day: NanoDollars(400),
    probes_per_day: NanoDollars(60),
};

pub(super) fn noon() -> Time {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

pub(super) fn clock() -> Clock {
    Arc::new(noon)
}

pub(super) fn payer(name: &str) -> Payer {
    Payer::Incident(IncidentKey { namespace: "shop".into(), name: name.into() })
}

pub(super) const fn nano(amount: u64) -> NanoDollars {
    NanoDollars(amount)
}

/// A store in memory that counts its writes and can be out of order.
#[derive(Default)]
struct Counting {
    inner: InMemory,
    writes: Arc<AtomicU64>,
    down: Arc<std::sync::atomic::AtomicBool>,
}

impl Store for Counting {
    async fn read(&self) -> Result<(String, ModelSpend), String> {
        match self.down.load(Ordering::SeqCst) {
            true => Err("it is down".into()),
            false => self.inner.read().await,
        }
    }

    async fn write(&self, version: &str, book: &ModelSpend) -> Result<String, Unwritten> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        match self.down.load(Ordering::SeqCst) {
            true => Err(Unwritten::Unknown("it is down".into())),
            false => self.inner.write(version, book).await,
        }
    }

    async fn pause(&self, time: Duration) {
        self.inner.pause(time).await;
    }
}

fn open(store: impl Store) -> SpendLedger {
    let (ledger, work) = SpendLedger::new(store, new_holder(), clock());
    tokio::spawn(work);
    ledger
}

async fn charged(ledger: &SpendLedger) -> u64 {
    ledger.flush().await;
    ledger.spent(noon()).diagnoses.0
}

#[tokio::test]
async fn an_attempt_is_reserved_before_and_settled_after() {
    let ledger = open(InMemory::default());
    let advance = ledger.advance(payer("a"), LIMITS);
    let hold = advance.reserve("east", nano(20)).await.unwrap();
    assert_eq!((hold.amount(), charged(&ledger).await), (nano(20), 25), "a quarter in advance, of a tenth of the rest");
    hold.settle(nano(7));
    assert_eq!((advance.cost(), advance.left(noon())), (nano(7), nano(93)));
    drop(advance);
    assert_eq!(charged(&ledger).await, 7);
    assert_eq!(ledger.spent(noon()).upstreams, BTreeMap::from([("east".to_owned(), nano(7))]));
}

#[tokio::test]
async fn later_attempts_are_reserved_from_the_advance_without_a_write() {
    let (store, limits) =
        (Counting::default(), Limits { per_namespace_per_day: nano(10_000), per_day: nano(10_000), ..LIMITS });
    let writes = store.writes.clone();
    let ledger = open(store);
    let advance = ledger.advance(payer("a"), limits);
    for _ in 0..4 {
        advance.reserve("east", nano(20)).await.unwrap().settle(nano(20));
    }
    assert_eq!(writes.load(Ordering::SeqCst), 1);
    advance.reserve("east", nano(20)).await.unwrap().settle(nano(1));
    assert_eq!(writes.load(Ordering::SeqCst), 2);
    assert_eq!(advance.reserve("east", nano(20)).await.map(|_| ()).unwrap_err().reason(), "IncidentBudget");
    drop(advance);
    assert_eq!(charged(&ledger).await, 81);
}

#[tokio::test]
async fn what_nobody_settles_stays_charged() {
    let ledger = open(InMemory::default());
    let advance = ledger.advance(payer("a"), LIMITS);
    drop(advance.reserve("east", nano(20)).await.unwrap());
    // A call that is cancelled while it runs.
    let call = async {
        let hold = advance.reserve("east", nano(30)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
        hold.settle(nano(1));
    };
    assert!(tokio::time::timeout(Duration::from_millis(20), call).await.is_err());
    drop(advance);
    assert_eq!(charged(&ledger).await, 50);
}

#[tokio::test]
async fn an_advance_is_settled_when_its_last_hold_is_gone() {
    let ledger = open(InMemory::default());
    let advance = ledger.advance(payer("a"), LIMITS);
    let hold = advance.reserve("east", nano(20)).await.unwrap();
    drop(advance);
    assert_eq!(charged(&ledger).await, 25);
    hold.settle(nano(3));
    assert_eq!(charged(&ledger).await, 3);
}

#[tokio::test]
async fn what_costs_nothing_is_neither_counted_nor_refused() {
    let store = Counting::default();
    store.down.store(true, Ordering::SeqCst);
    let ledger = open(store);
    let none =
        Limits { per_incident: nano(0), per_namespace_per_day: nano(0), per_day: nano(0), probes_per_day: nano(0) };
    let advance = ledger.advance(payer("a"), none);
    let hold = advance.reserve("own", nano(0)).await.unwrap();
    hold.settle(nano(0));
}

#[tokio::test]
async fn more_than_was_reserved_is_charged_in_full_at_once_and_stops_the_next() {
    let ledger = open(InMemory::default());
    let advance = ledger.advance(payer("a"), LIMITS);
    advance.reserve("east", nano(20)).await.unwrap().settle(nano(500));
    assert_eq!(charged(&ledger).await, 500, "before the diagnosis ends");
    let another = ledger.advance(payer("b"), LIMITS).reserve("east", nano(1)).await;
    assert_eq!(another.map(|_| ()).unwrap_err().reason(), "NamespaceBudget");
    assert_eq!(advance.reserve("east", nano(1)).await.map(|_| ()).unwrap_err().reason(), "IncidentBudget");
    drop(advance);
    assert_eq!(charged(&ledger).await, 500);
}

#[tokio::test(start_paused = true)]
async fn without_a_ledger_nothing_is_reserved_and_what_was_spent_is_written_later() {
    let store = Counting::default();
    let down = store.down.clone();
    let ledger = open(store);
    let advance = ledger.advance(payer("a"), LIMITS);
    let hold = advance.reserve("east", nano(20)).await.unwrap();
    ledger.flush().await;
    down.store(true, Ordering::SeqCst);
    let refused = ledger.advance(payer("b"), LIMITS).reserve("east", nano(20)).await.map(|_| ()).unwrap_err();
    assert_eq!(
        (refused.reason(), refused.to_string().as_str()),
        ("LedgerUnavailable", "the Ledger cannot count it: it is down")
    );
    hold.settle(nano(9));
    drop(advance);
    tokio::time::sleep(Duration::from_secs(60)).await;
    down.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(charged(&ledger).await, 9);
}

#[tokio::test]
async fn a_reservation_that_nobody_waits_for_is_given_back() {
    let ledger = open(InMemory::default());
    for number in 0..50 {
        let advance = ledger.advance(payer(&number.to_string()), LIMITS);
        let waiting = advance.reserve("east", nano(20));
        // Polled once: it is asked for, and the answer has not come.
        assert!(futures::FutureExt::now_or_never(waiting).is_none());
    }
    assert_eq!(charged(&ledger).await, 0);
    ledger.advance(payer("a"), LIMITS).reserve("east", nano(100)).await.unwrap().settle(nano(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_diagnoses_at_once_stay_within_the_budget_and_use_it() {
    let ledger = open(InMemory::default());
    let spent = Arc::new(AtomicU64::new(0));
    let each = (0..64).map(|number| {
        let (ledger, spent) = (ledger.clone(), spent.clone());
        tokio::spawn(async move {
            let advance = ledger.advance(payer(&number.to_string()), LIMITS);
            while let Ok(hold) = advance.reserve("east", nano(10)).await {
                tokio::task::yield_now().await;
                spent.fetch_add(5, Ordering::SeqCst);
                hold.settle(nano(5));
            }
        })
    });
    for one in each.collect::<Vec<_>>() {
        one.await.unwrap();
    }
    let spent = spent.load(Ordering::SeqCst);
    assert_eq!(charged(&ledger).await, spent);
    assert!((100..=250).contains(&spent), "{spent}");
}

/// Not a bound: it depends on the machine. It shows what the attempt that follows a failed one waits for.
#[tokio::test]
async fn a_reservation_from_the_advance_takes_no_write_and_this_long() {
    let plenty = nano(1_000_000_000_000);
    let limits =
        Limits { per_incident: plenty, per_namespace_per_day: plenty, per_day: plenty, probes_per_day: plenty };
    let ledger = open(InMemory::default());
    let advance = ledger.advance(payer("a"), limits);
    advance.reserve("east", nano(1_000_000)).await.unwrap().settle(nano(0));
    let began = std::time::Instant::now();
    for _ in 0..10_000 {
        advance.reserve("east", nano(100)).await.unwrap().settle(nano(1));
    }
    println!("one reservation and its settlement: {:?}", began.elapsed() / 10_000);
}
