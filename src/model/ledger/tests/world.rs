//! Every interleaving that chance finds: processes that share one Ledger, whose reads fail, whose writes conflict, are
//! lost, are made without an answer or arrive late; diagnoses that are cancelled; processes that are killed and replaced,
//! or replaced while they go on. After each write and each bill the whole truth is compared: what the provider billed
//! may never pass a cap, nor what the Ledger says is charged.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use futures::future::{BoxFuture, FutureExt as _};
use proptest::prelude::*;

use super::super::{Hold, SpendLedger, Store, Unwritten, lock};
use super::{LIMITS, nano, noon};
use crate::api::v1alpha1::{IncidentKey, ModelSpend, Time};
use crate::core::{
    money::NanoDollars,
    spend::{Limits, Payer},
};

/// What is wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Defect {
    /// The store takes a write whatever version it was made for.
    NoCompareAndSwap,
    /// What is not known is given back.
    RefundOnUnknown,
    /// A call that is dropped gives its reservation back.
    ReleaseOnDrop,
    /// The next process forgets what the former had open.
    ForgottenAtStart,
    /// It is sent, and reserved afterwards.
    SentBefore,
}

/// What may happen.
#[derive(Clone, Copy, Debug)]
struct Terms {
    /// Reads fail, and writes are lost or made without an answer.
    faults: bool,
    /// Writes arrive long after they were given up.
    late: bool,
    /// Diagnoses are cancelled, and answers of the provider do not come.
    losses: bool,
    /// Processes are killed.
    kills: bool,
    defect: Option<Defect>,
}

const ALL: Terms = Terms { faults: true, late: true, losses: true, kills: true, defect: None };

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}

struct World {
    terms: Terms,
    chance: Chance,
    minutes: i64,
    version: u64,
    book: ModelSpend,
    /// Writes on their way.
    late: Vec<(u64, ModelSpend)>,
    /// What the provider bills, by incident; `None`: probes.
    billed: BTreeMap<Option<IncidentKey>, i64>,
    /// What was found wrong.
    found: Vec<String>,
    conflicts: usize,
    refused: usize,
    answered: usize,
}

type Shared = Arc<Mutex<World>>;

impl World {
    fn new(seed: u64, terms: Terms) -> Shared {
        Arc::new(Mutex::new(World {
            terms,
            chance: Chance(seed),
            minutes: 0,
            version: 1,
            book: ModelSpend::default(),
            late: Vec::new(),
            billed: BTreeMap::new(),
            found: Vec::new(),
            conflicts: 0,
            refused: 0,
            answered: 0,
        }))
    }

    fn now(&self) -> Time {
        noon().checked_add(jiff::SignedDuration::from_mins(self.minutes)).unwrap()
    }

    fn write(&mut self, version: u64, book: ModelSpend) -> Result<u64, Unwritten> {
        if version != self.version && self.terms.defect != Some(Defect::NoCompareAndSwap) {
            self.conflicts += 1;
            return Err(Unwritten::Conflict);
        }
        self.version += 1;
        self.book = book;
        self.check("after a write");
        Ok(self.version)
    }

    fn bill(&mut self, payer: &Payer, cost: NanoDollars) {
        let key = match payer {
            Payer::Incident(key) => Some(key.clone()),
            Payer::Probes => None,
        };
        *self.billed.entry(key).or_default() += i64::try_from(cost.0).unwrap();
        self.check("after a bill");
    }

    /// Counted here in the plainest way, without the code that is tested.
    fn check(&mut self, when: &str) {
        let mut charged: BTreeMap<Option<IncidentKey>, i64> = BTreeMap::new();
        let mut days: BTreeMap<(String, String), i64> = BTreeMap::new();
        for open in &self.book.open {
            *charged.entry(open.incident.clone()).or_default() += open.nano_dollars;
            let place = open.incident.as_ref().map_or("probes", |key| key.namespace.as_str());
            *days.entry((open.day.clone(), place.into())).or_default() += open.nano_dollars;
            let all = days.entry((open.day.clone(), "all".into())).or_default();
            *all += if open.incident.is_some() { open.nano_dollars } else { 0 };
        }
        for known in &self.book.incidents {
            *charged.entry(Some(known.incident.clone())).or_default() += known.nano_dollars;
        }
        for day in &self.book.days {
            *charged.entry(None).or_default() += day.probes_nano_dollars;
            *days.entry((day.day.clone(), "probes".into())).or_default() += day.probes_nano_dollars;
            *days.entry((day.day.clone(), "all".into())).or_default() += day.nano_dollars;
            for known in &day.namespaces {
                *days.entry((day.day.clone(), known.namespace.clone())).or_default() += known.nano_dollars;
            }
        }
        let cap = |limit: NanoDollars| i64::try_from(limit.0).unwrap();
        let Limits { per_incident, per_namespace_per_day, per_day, probes_per_day } = LIMITS;
        for (key, sum) in charged.iter().filter(|(key, _)| key.is_some()) {
            if *sum > cap(per_incident) {
                self.found.push(format!("{when}: {sum} are charged to {key:?}"));
            }
        }
        for ((day, place), sum) in &days {
            let bound = match place.as_str() {
                "all" => per_day,
                "probes" => probes_per_day,
                _ => per_namespace_per_day,
            };
            if *sum > cap(bound) {
                self.found.push(format!("{when}: {sum} are charged to {place} on {day}"));
            }
        }
        for (key, sum) in &self.billed {
            let known = charged.get(key).copied().unwrap_or_default();
            if *sum > known {
                self.found.push(format!("{when}: {sum} are billed and {known} charged to {key:?}"));
            }
            if key.is_some() && *sum > cap(per_incident) {
                self.found.push(format!("{when}: {sum} are billed to {key:?}"));
            }
        }
    }
}

/// Gives way to the others once.
type Yield = fn() -> BoxFuture<'static, ()>;

struct SimStore {
    world: Shared,
    give_way: Yield,
}

impl SimStore {
    /// A number below `bound`.
    fn chance(&self, bound: u64) -> u64 {
        lock(&self.world).chance.below(bound)
    }

    async fn travel(&self) {
        for _ in 0..=self.chance(3) {
            (self.give_way)().await;
        }
        let mut world = lock(&self.world);
        if !world.late.is_empty() && world.chance.below(3) == 0 {
            let (version, book) = world.late.remove(0);
            let _ = world.write(version, book);
        }
    }
}

impl Store for SimStore {
    async fn read(&self) -> Result<(String, ModelSpend), String> {
        self.travel().await;
        let read = {
            let mut world = lock(&self.world);
            if world.terms.faults && world.chance.below(8) == 0 {
                return Err("no answer".into());
            }
            (world.version.to_string(), world.book.clone())
        };
        self.travel().await;
        Ok(read)
    }

    async fn write(&self, version: &str, book: &ModelSpend) -> Result<String, Unwritten> {
        self.travel().await;
        let version: u64 = version.parse().unwrap();
        let fault = if lock(&self.world).terms.faults { self.chance(10) } else { 9 };
        let unknown = Err(Unwritten::Unknown("no answer".into()));
        let answer = {
            let mut world = lock(&self.world);
            match fault {
                0 => unknown,
                1 if world.terms.late => {
                    world.late.push((version, book.clone()));
                    unknown
                }
                1 | 2 => {
                    let _ = world.write(version, book.clone());
                    unknown
                }
                _ => world.write(version, book.clone()).map(|version| version.to_string()),
            }
        };
        self.travel().await;
        answer
    }

    async fn pause(&self, _: Duration) {
        self.travel().await;
    }
}

/// One call of a model, as its driver holds it.
struct Call {
    hold: Option<Hold>,
    defect: Option<Defect>,
}

impl Call {
    fn end(mut self, cost: Option<NanoDollars>) {
        let Some(hold) = self.hold.take() else { return };
        match cost {
            Some(cost) => hold.settle(cost),
            None if self.defect == Some(Defect::RefundOnUnknown) => hold.settle(nano(0)),
            None => drop(hold),
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(hold) = self.hold.take().filter(|_| self.defect == Some(Defect::ReleaseOnDrop)) {
            hold.settle(nano(0));
        }
    }
}

async fn diagnose(ledger: SpendLedger, world: Shared, give_way: Yield, payer: Payer) {
    let below = |bound| lock(&world).chance.below(bound);
    let terms = lock(&world).terms;
    let attempts = 1 + below(6);
    let advance = ledger.advance(payer.clone(), LIMITS);
    drop(ledger);
    for _ in 0..attempts {
        lock(&world).minutes += 20;
        let amount = nano(1 + below(40));
        let cost = nano(below(amount.0 + 1));
        let sent_before = terms.defect == Some(Defect::SentBefore);
        if sent_before {
            lock(&world).bill(&payer, cost);
        }
        let hold = match advance.reserve("east", amount).await {
            Ok(hold) => hold,
            Err(_) => {
                lock(&world).refused += 1;
                give_way().await;
                continue;
            }
        };
        let call = Call { hold: Some(hold), defect: terms.defect };
        give_way().await;
        let outcome = below(if terms.losses { 6 } else { 4 });
        if outcome == 0 {
            // Nothing was sent.
            call.end(Some(nano(0)));
            continue;
        }
        if !sent_before {
            lock(&world).bill(&payer, cost);
        }
        for _ in 0..below(4) {
            give_way().await;
        }
        match outcome {
            1..=3 => {
                lock(&world).answered += 1;
                call.end(Some(cost));
            }
            _ => call.end(None),
        }
    }
}

/// Drops what it runs after so many polls; each poll asks for the next.
struct Patience<F> {
    inner: Option<F>,
    polls: u64,
}

impl<F: Future<Output = ()> + Unpin> Future for Patience<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.polls == 0 {
            self.inner = None;
            return Poll::Ready(());
        }
        self.polls -= 1;
        let ended = self.inner.as_mut().is_none_or(|inner| inner.poll_unpin(cx).is_ready());
        if ended {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// A process's fate, shared by its tasks.
#[derive(Clone, Default)]
struct Fate(Arc<Mutex<(bool, bool)>>);

impl Fate {
    fn began(&self) -> bool {
        lock(&self.0).0
    }

    fn killed(&self) -> bool {
        lock(&self.0).1
    }
}

/// A task of a process: when the process is killed nothing more of it runs, not even what runs when a value is dropped,
/// because nobody reads the queue any more.
struct Mortal {
    inner: Option<BoxFuture<'static, ()>>,
    fate: Fate,
}

impl Future for Mortal {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.fate.killed() {
            self.inner = None;
        }
        let ended = self.inner.as_mut().is_none_or(|inner| inner.poll_unpin(cx).is_ready());
        if ended {
            self.inner = None;
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

/// All tasks of a world, to be run in any order.
fn tasks(world: &Shared, give_way: Yield) -> Vec<BoxFuture<'static, ()>> {
    let below = |bound| lock(world).chance.below(bound);
    let terms = lock(world).terms;
    let mut tasks: Vec<BoxFuture<'static, ()>> = Vec::new();
    let lives = 1 + below(2) + u64::from(terms.kills);
    let fates: Vec<Fate> = (0..lives).map(|_| Fate::default()).collect();
    for (index, fate) in fates.iter().enumerate() {
        let store = SimStore { world: world.clone(), give_way };
        let now = world.clone();
        let clock: super::super::Clock = Arc::new(move || lock(&now).now());
        let (ledger, work) = SpendLedger::new(store, format!("holder-{index}"), clock);
        let (waits, forgetful) = (terms.kills && index > 0, terms.defect == Some(Defect::ForgottenAtStart));
        let begin = {
            let (fate, world) = (fate.clone(), world.clone());
            move || {
                let (fate, world) = (fate.clone(), world.clone());
                async move {
                    while waits && !fate.began() {
                        give_way().await;
                    }
                    if forgetful && waits {
                        let mut world = lock(&world);
                        world.book.open.clear();
                        world.version += 1;
                    }
                }
            }
        };
        let first = begin();
        let mut own: Vec<BoxFuture<'static, ()>> = vec![Box::pin(async move {
            first.await;
            work.await;
        })];
        for _ in 0..1 + below(4) {
            let payer = match below(6) {
                0 => Payer::Probes,
                number => {
                    let namespace = if number % 2 == 0 { "shop" } else { "bank" };
                    Payer::Incident(IncidentKey { namespace: namespace.into(), name: number.to_string() })
                }
            };
            let work = Box::pin(diagnose(ledger.clone(), world.clone(), give_way, payer));
            if terms.losses && below(4) == 0 {
                own.push(Box::pin(Patience { inner: Some(work), polls: below(60) }));
            } else {
                own.push(work);
            }
        }
        tasks.extend(own.into_iter().map(|inner| {
            let mortal: BoxFuture<'static, ()> = Box::pin(Mortal { inner: Some(inner), fate: fate.clone() });
            mortal
        }));
    }
    if terms.kills {
        // Each process is followed by the next, after some time: it is killed first, or goes on without its lease.
        let (spans, killed): (Vec<u64>, Vec<bool>) = fates.iter().map(|_| (below(120), below(3) > 0)).unzip();
        tasks.push(Box::pin(async move {
            for index in 1..fates.len() {
                for _ in 0..spans[index] {
                    give_way().await;
                }
                lock(&fates[index - 1].0).1 = killed[index];
                lock(&fates[index].0).0 = true;
            }
        }));
    }
    tasks
}

/// Pending once.
fn once() -> BoxFuture<'static, ()> {
    let mut polled = false;
    Box::pin(futures::future::poll_fn(move |cx| {
        if std::mem::replace(&mut polled, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }))
}

/// Polls any task at any time until all have ended.
fn run(mut tasks: Vec<BoxFuture<'static, ()>>, seed: u64) {
    let mut chance = Chance(seed ^ 0x5DEE_CE66);
    let mut cx = Context::from_waker(futures::task::noop_waker_ref());
    let mut polls = 0;
    while !tasks.is_empty() {
        let at = usize::try_from(chance.below(tasks.len() as u64)).unwrap();
        if tasks[at].poll_unpin(&mut cx).is_ready() {
            drop(tasks.swap_remove(at));
        }
        polls += 1;
        assert!(polls < 200_000, "it does not end");
    }
}

/// The next process after all others: it reserves nothing.
fn last_process(world: &Shared, give_way: Yield) -> BoxFuture<'static, ()> {
    let store = SimStore { world: world.clone(), give_way };
    let now = world.clone();
    let (_, work) = SpendLedger::new(store, "last".into(), Arc::new(move || lock(&now).now()));
    Box::pin(work)
}

/// The end: what is on its way has arrived or is lost.
fn arrive(world: &Shared) {
    let mut world = lock(world);
    while let Some((version, book)) = world.late.pop() {
        let _ = world.write(version, book);
    }
}

fn play(seed: u64, terms: Terms) -> Shared {
    let world = World::new(seed, terms);
    run(tasks(&world, once), seed);
    arrive(&world);
    run(vec![last_process(&world, once)], seed);
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_interleaving_of_processes_kills_and_faults_overdraws_a_budget(seed in any::<u64>()) {
        let world = play(seed, ALL);
        let world = lock(&world);
        prop_assert_eq!(&world.found, &Vec::<String>::new());
        prop_assert_eq!(&world.book.open, &vec![], "the last process settled what was open");
    }

    #[test]
    fn without_kills_and_losses_every_nano_dollar_is_counted_once_whatever_the_store_does(seed in any::<u64>()) {
        let world = World::new(seed, Terms { late: false, losses: false, kills: false, ..ALL });
        run(one_process(&world), seed);
        let world = lock(&world);
        prop_assert_eq!(&world.found, &Vec::<String>::new());
        prop_assert_eq!(&world.book.open, &vec![]);
        let charged: BTreeMap<Option<IncidentKey>, i64> =
            world.book.incidents.iter().map(|known| (Some(known.incident.clone()), known.nano_dollars)).collect();
        for (key, billed) in world.billed.iter().filter(|(key, _)| key.is_some()) {
            prop_assert_eq!(charged.get(key).copied().unwrap_or_default(), *billed, "{:?}", key);
        }
        let probes: i64 = world.book.days.iter().map(|day| day.probes_nano_dollars).sum();
        prop_assert_eq!(probes, world.billed.get(&None).copied().unwrap_or_default());
    }
}

/// Several would settle in full what they see of each other when they begin.
fn one_process(world: &Shared) -> Vec<BoxFuture<'static, ()>> {
    let store = SimStore { world: world.clone(), give_way: once };
    let now = world.clone();
    let (ledger, work) = SpendLedger::new(store, "only".into(), Arc::new(move || lock(&now).now()));
    let mut tasks: Vec<BoxFuture<'static, ()>> = vec![Box::pin(work)];
    for number in 0..6 {
        let key = IncidentKey { namespace: "shop".into(), name: number.to_string() };
        let payer = if number == 0 { Payer::Probes } else { Payer::Incident(key) };
        tasks.push(Box::pin(diagnose(ledger.clone(), world.clone(), once, payer)));
    }
    tasks
}

#[test]
fn the_worlds_are_not_idle() {
    let (mut conflicts, mut refused, mut answered) = (0, 0, 0);
    for seed in 0..200 {
        let world = play(seed, ALL);
        let world = lock(&world);
        conflicts += world.conflicts;
        refused += world.refused;
        answered += world.answered;
    }
    println!("200 worlds: {answered} attempts answered, {refused} refused, {conflicts} conflicts");
    assert!(conflicts > 100 && refused > 100 && answered > 400, "{conflicts} {refused} {answered}");
}

/// A proof that finds nothing wrong in what is wrong proves nothing.
#[test]
fn planted_defects_are_found() {
    let defects = [
        Defect::NoCompareAndSwap,
        Defect::RefundOnUnknown,
        Defect::ReleaseOnDrop,
        Defect::ForgottenAtStart,
        Defect::SentBefore,
    ];
    for defect in defects {
        let terms = Terms { defect: Some(defect), ..ALL };
        let found = (0..500).find(|seed| !lock(&play(*seed, terms)).found.is_empty());
        println!("{defect:?}: found in world {found:?}");
        assert!(found.is_some(), "{defect:?} was not found in 500 worlds");
    }
}

fn in_shuttle() -> BoxFuture<'static, ()> {
    Box::pin(shuttle::future::yield_now())
}

/// The same processes under shuttle's schedulers.
fn under_shuttle(terms: Terms) {
    let seed = rand_of_shuttle();
    let world = World::new(seed, terms);
    shuttle::future::block_on(async {
        let running: Vec<_> = tasks(&world, in_shuttle).into_iter().map(shuttle::future::spawn).collect();
        for one in running {
            one.await.unwrap();
        }
        arrive(&world);
        last_process(&world, in_shuttle).await;
    });
    let world = lock(&world);
    assert_eq!(world.found, Vec::<String>::new());
    assert!(world.book.open.is_empty());
}

fn rand_of_shuttle() -> u64 {
    use shuttle::rand::RngCore as _;
    shuttle::rand::thread_rng().next_u64()
}

#[test]
fn no_schedule_of_shuttle_overdraws_a_budget() {
    shuttle::check_random(|| under_shuttle(ALL), 400);
    shuttle::check_pct(|| under_shuttle(ALL), 400, 3);
}

#[test]
fn shuttle_finds_a_store_without_compare_and_swap() {
    const PLANTED: Terms = Terms { defect: Some(Defect::NoCompareAndSwap), ..ALL };
    let found = std::panic::catch_unwind(|| shuttle::check_random(|| under_shuttle(PLANTED), 500));
    assert!(found.is_err());
}
