//! Money of one chain: reserved in its Ledger before anything is sent to a model, settled when it is known what was used.
//!
//! One task writes the Ledger, by compare-and-swap, and puts what waits into one write. A diagnosis takes an
//! [`Advance`]; its first attempt, and one for which that does not suffice, wait for a write, the others do not. Each
//! attempt is a [`Hold`], which stays charged in full unless somebody says what it cost: dropping it, as a cancelled call
//! does, gives nothing back. An advance is settled when it and its last hold are gone. What a process that was killed had
//! reserved is settled in full by the next one before that reserves anything.

mod store;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::{Either, select};
use tokio::sync::{mpsc, oneshot};

use crate::{
    api::v1alpha1::{ModelSpend, Time},
    core::{
        money::NanoDollars,
        names,
        spend::{
            Limits, Payer, Refusal,
            book::{self, Ask, Spent},
            sheet::Sheet,
        },
    },
};

pub use store::{InCluster, InMemory, Store, Unwritten};

/// How often a write is tried before those who wait for it are refused.
const TRIES: u32 = 10;
/// Pause after a try that was not answered; after the next ones longer.
const PAUSE: Duration = Duration::from_millis(50);
/// Pause before settlements that could not be written are tried again.
const RETRY: Duration = Duration::from_secs(2);
/// How often settlements are tried when nobody uses the ledger any more.
const LAST_TRIES: u32 = 5;
/// An advance is welcome for so many attempts.
const ATTEMPTS: u64 = 4;
/// Reservations that may have been written unseen and of which nothing was used: so many are remembered.
const MAX_VOID: usize = 1000;

/// Reads the clock.
pub type Clock = Arc<dyn Fn() -> Time + Send + Sync>;

/// Why an attempt must not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoMoney {
    /// A budget, or the Ledger, refuses.
    Refused(Refusal),
    /// The Ledger could not be read or written: nothing is sent that cannot be counted.
    Unavailable(String),
}

impl NoMoney {
    /// The constant, for statuses, metrics and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            NoMoney::Refused(refusal) => refusal.reason(),
            NoMoney::Unavailable(_) => "LedgerUnavailable",
        }
    }
}

impl fmt::Display for NoMoney {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoMoney::Refused(refusal) => refusal.fmt(f),
            NoMoney::Unavailable(why) => write!(f, "the Ledger cannot count it: {why}"),
        }
    }
}

/// The money of one chain. Clones are the same.
#[derive(Clone)]
pub struct SpendLedger {
    shared: Arc<Handle>,
    requests: mpsc::UnboundedSender<Request>,
}

struct Handle {
    holder: String,
    /// Tells the reservations of this ledger from those of every other one of the same process: its numbers begin anew.
    nonce: String,
    next: AtomicU64,
    seen: Arc<Mutex<Arc<ModelSpend>>>,
}

/// An ID for a process that opens ledgers: another one each time.
pub fn new_holder() -> String {
    format!("{:032x}", rand::random::<u128>())
}

impl SpendLedger {
    /// The ledger, and the work that somebody has to run for it: it ends when the ledger, its advances and holds are
    /// dropped and all is written. Its first act is to settle in full what other holders have reserved: call it when
    /// they have ended, which is when this process leads. `holder` is the process: a chain that is deleted and made again
    /// has a second ledger on the same store, while diagnoses with the first are still under way.
    pub fn new<S: Store>(
        store: S,
        holder: String,
        clock: Clock,
    ) -> (SpendLedger, impl Future<Output = ()> + Send + use<S>) {
        let (requests, queue) = mpsc::unbounded_channel();
        let seen: Arc<Mutex<Arc<ModelSpend>>> = Arc::default();
        let keeper =
            Keeper { store, clock, holder: holder.clone(), last: None, void: BTreeSet::new(), seen: seen.clone() };
        let shared = Arc::new(Handle { holder, nonce: new_holder(), next: AtomicU64::new(0), seen });
        (SpendLedger { shared, requests }, keeper.keep(queue))
    }

    /// Money for one diagnosis, or for one round of probes. Nothing is reserved yet.
    pub fn advance(&self, payer: Payer, limits: Limits) -> Advance {
        let account = Account { ledger: self.clone(), payer, limits, sheet: Mutex::default() };
        Advance { account: Arc::new(account) }
    }

    /// What was spent today, as of the latest write.
    pub fn spent(&self, now: Time) -> Spent {
        book::spent(&lock(&self.shared.seen), now)
    }

    /// Waits until all that was settled before is written, or cannot be.
    pub async fn flush(&self) {
        let (done, waiting) = oneshot::channel();
        self.send(Request::Flush(done));
        // An error means that nobody writes any more.
        let _ = waiting.await;
    }

    fn send(&self, request: Request) {
        // Nobody receives after the work was ended from outside, which is like the end of the process: what is reserved
        // stays charged.
        let _ = self.requests.send(request);
    }

    fn ask(&self, payer: &Payer, need: NanoDollars, want: NanoDollars) -> Ask {
        let number = self.shared.next.fetch_add(1, Ordering::Relaxed).to_string();
        let (holder, nonce) = (self.shared.holder.clone(), &self.shared.nonce);
        Ask { id: names::short_digest(&[&holder, nonce, &number]), holder, payer: payer.clone(), need, want }
    }
}

/// Money of one diagnosis. Clones are the same.
#[derive(Clone)]
pub struct Advance {
    account: Arc<Account>,
}

struct Account {
    ledger: SpendLedger,
    payer: Payer,
    limits: Limits,
    sheet: Mutex<Sheet>,
}

impl Advance {
    /// Reserves the most that the next attempt can cost; nothing may be sent before. What costs nothing is not counted.
    /// Cancelled while it waits, it reserves nothing.
    pub async fn reserve(&self, upstream: &str, amount: NanoDollars) -> Result<Hold, NoMoney> {
        loop {
            let missing = match lock(&self.account.sheet).hold(amount) {
                Ok(()) => break,
                Err(missing) => missing,
            };
            let grant = self.account.grant(missing, amount).await?;
            // Another attempt of this diagnosis may be faster: then it is asked again.
            grant.enter(&mut lock(&self.account.sheet));
        }
        let (account, upstream) = (self.account.clone(), upstream.to_owned());
        Ok(Hold { account, upstream, amount, cost: amount })
    }

    /// What all attempts that ended cost so far.
    pub fn cost(&self) -> NanoDollars {
        lock(&self.account.sheet).cost()
    }

    /// What may still be spent for this payer, as of the latest write.
    pub fn left(&self, now: Time) -> NanoDollars {
        let Account { ledger, payer, limits, sheet } = &*self.account;
        let free = lock(sheet).free();
        book::left(&lock(&ledger.shared.seen), payer, limits, now) + free
    }
}

impl Account {
    async fn grant(&self, need: NanoDollars, amount: NanoDollars) -> Result<Grant, NoMoney> {
        let want = match self.payer {
            Payer::Incident(_) => need + NanoDollars(amount.0.saturating_mul(ATTEMPTS - 1)),
            Payer::Probes => need,
        };
        let ask = self.ledger.ask(&self.payer, need, want);
        let (reply, answer) = oneshot::channel();
        let (ledger, limits) = (self.ledger.clone(), self.limits);
        self.ledger.send(Request::Reserve { ask, limits, ledger, reply });
        answer.await.unwrap_or_else(|_| Err(NoMoney::Unavailable("nobody writes it any more".into())))
    }

    fn settle(&self, held: NanoDollars, cost: NanoDollars, upstream: &str) {
        let mut sheet = lock(&self.sheet);
        let beyond = sheet.settle(held, cost, upstream);
        if beyond > NanoDollars(0) {
            let (reserved, billed) = (held.to_string(), cost.to_string());
            tracing::warn!(upstream, reserved, billed, "an attempt cost more than was reserved for it");
            let ask = self.ledger.ask(&self.payer, beyond, beyond);
            sheet.grant(ask.id.clone(), beyond);
            self.ledger.send(Request::Force(ask));
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let (ids, cost, upstreams) = std::mem::take(&mut *lock(&self.sheet)).end();
        if !ids.is_empty() {
            self.ledger.send(Request::Settle { ids, cost, upstreams });
        }
    }
}

/// The most that one attempt can cost, reserved. Dropped without a word it stays charged.
#[must_use = "an attempt that nobody settles is charged in full"]
pub struct Hold {
    account: Arc<Account>,
    upstream: String,
    amount: NanoDollars,
    cost: NanoDollars,
}

impl Hold {
    /// What is reserved.
    pub fn amount(&self) -> NanoDollars {
        self.amount
    }

    /// The attempt has ended and costs this: see [`charge`](crate::core::spend::charge::charge), which alone decides what.
    pub fn settle(mut self, cost: NanoDollars) {
        self.cost = cost;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.account.settle(self.amount, self.cost, &self.upstream);
    }
}

/// A reservation of the Ledger on its way to the advance that it is for. If that is gone, it is given back.
struct Grant {
    ledger: SpendLedger,
    id: Option<String>,
    amount: NanoDollars,
}

impl Grant {
    fn enter(mut self, sheet: &mut Sheet) {
        if let Some(id) = self.id.take() {
            sheet.grant(id, self.amount);
        }
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            let (ids, cost, upstreams) = (vec![id], NanoDollars(0), BTreeMap::new());
            self.ledger.send(Request::Settle { ids, cost, upstreams });
        }
    }
}

/// What the task that writes is asked.
enum Request {
    /// Settle in full what other holders reserved.
    Reconcile,
    /// Reserve, within the limits.
    Reserve { ask: Ask, limits: Limits, ledger: SpendLedger, reply: oneshot::Sender<Result<Grant, NoMoney>> },
    /// Reserve whatever the limits say: it is spent.
    Force(Ask),
    /// Settle reservations.
    Settle { ids: Vec<String>, cost: NanoDollars, upstreams: BTreeMap<String, NanoDollars> },
    /// Tell when all before it is written.
    Flush(oneshot::Sender<()>),
}

/// What came of a request in the book.
enum Outcome {
    Done,
    Granted(NanoDollars),
    Refused(Refusal),
}

impl Request {
    fn apply(&self, book: &mut ModelSpend, holder: &str, now: Time) -> Outcome {
        match self {
            Request::Reconcile => book::reconcile(book, holder, now),
            Request::Force(ask) => book::force(book, ask, now),
            Request::Settle { ids, cost, upstreams } => book::settle(book, ids, *cost, upstreams, now),
            Request::Flush(_) => {}
            Request::Reserve { ask, limits, .. } => {
                return match book::reserve(book, ask, limits, now) {
                    Ok(amount) => Outcome::Granted(amount),
                    Err(refusal) => Outcome::Refused(refusal),
                };
            }
        }
        Outcome::Done
    }

    /// It is written, and this came of it.
    fn answer(self, outcome: Outcome) {
        match (self, outcome) {
            (Request::Reserve { ask, ledger, reply, .. }, Outcome::Granted(amount)) => {
                // Whoever does not wait any more gives it back by dropping it.
                let _ = reply.send(Ok(Grant { ledger, id: Some(ask.id), amount }));
            }
            (Request::Reserve { reply, .. }, Outcome::Refused(refusal)) => {
                let _ = reply.send(Err(NoMoney::Refused(refusal)));
            }
            (Request::Flush(done), _) => {
                let _ = done.send(());
            }
            (_, _) => {}
        }
    }
}

/// The task that writes.
struct Keeper<S> {
    store: S,
    clock: Clock,
    holder: String,
    /// The book as this process last wrote or read it.
    last: Option<(String, ModelSpend)>,
    /// Reservations that may have been written although nobody saw it, and of which nothing was used.
    void: BTreeSet<String>,
    seen: Arc<Mutex<Arc<ModelSpend>>>,
}

impl<S: Store> Keeper<S> {
    async fn keep(mut self, mut queue: mpsc::UnboundedReceiver<Request>) {
        let mut waiting = vec![Request::Reconcile];
        let mut failures = 0;
        loop {
            while let Ok(request) = queue.try_recv() {
                waiting.push(request);
            }
            if waiting.is_empty() {
                match queue.recv().await {
                    Some(request) => waiting.push(request),
                    None => return,
                }
                continue;
            }
            match self.commit(&waiting).await {
                Ok(outcomes) => {
                    failures = 0;
                    waiting.drain(..).zip(outcomes).for_each(|(request, outcome)| request.answer(outcome));
                }
                Err(why) => {
                    tracing::warn!(error = why, "the Ledger of a model chain was not written");
                    waiting = self.refuse(waiting, &why);
                    failures += 1;
                    if queue.is_closed() && queue.is_empty() && failures >= LAST_TRIES {
                        return;
                    }
                    let (pause, more) = (std::pin::pin!(self.store.pause(RETRY)), std::pin::pin!(queue.recv()));
                    match select(more, pause).await {
                        Either::Left((Some(request), _)) => waiting.push(request),
                        Either::Left((None, pause)) => pause.await,
                        Either::Right(_) => {}
                    }
                }
            }
        }
    }

    /// Makes all changes in one write, again when somebody else was faster or when it is not known whether it was made.
    async fn commit(&mut self, requests: &[Request]) -> Result<Vec<Outcome>, String> {
        let mut why = "others write it all the time".to_owned();
        let mut tries = 0;
        while tries < TRIES {
            if tries > 0 {
                self.store.pause(PAUSE * tries).await;
            }
            let (known, (version, book)) = match self.last.take() {
                Some(last) => (true, last),
                None => match self.store.read().await {
                    Ok(read) => (false, read),
                    Err(error) => {
                        (why, tries) = (error, tries + 1);
                        continue;
                    }
                },
            };
            let (mut next, now) = (book.clone(), (self.clock)());
            for id in &self.void {
                book::settle(&mut next, std::slice::from_ref(id), NanoDollars(0), &BTreeMap::new(), now);
            }
            let outcomes: Vec<Outcome> =
                requests.iter().map(|request| request.apply(&mut next, &self.holder, now)).collect();
            if known && outcomes.iter().any(|outcome| matches!(outcome, Outcome::Refused(_))) {
                // Others may have given back since it was read.
                continue;
            }
            let version = match next == book {
                true => Ok(version),
                false => self.store.write(&version, &next).await,
            };
            match version {
                Ok(version) => {
                    *lock(&self.seen) = Arc::new(next.clone());
                    self.last = Some((version, next));
                    return Ok(outcomes);
                }
                Err(Unwritten::Conflict) => tries += 1,
                Err(Unwritten::Unknown(error)) => (why, tries) = (error, tries + 1),
            }
        }
        Err(why)
    }

    /// Refuses those who wait; keeps what has to be written all the same.
    fn refuse(&mut self, requests: Vec<Request>, why: &str) -> Vec<Request> {
        let mut left = Vec::new();
        for request in requests {
            match request {
                Request::Reserve { ask, reply, .. } => {
                    // One of the tries may have been made unseen, or be on its way still.
                    if self.void.len() < MAX_VOID {
                        self.void.insert(ask.id.clone());
                    }
                    let (ids, cost, upstreams) = (vec![ask.id], NanoDollars(0), BTreeMap::new());
                    left.push(Request::Settle { ids, cost, upstreams });
                    let _ = reply.send(Err(NoMoney::Unavailable(why.to_owned())));
                }
                Request::Flush(done) => {
                    let _ = done.send(());
                }
                Request::Reconcile | Request::Force(_) | Request::Settle { .. } => left.push(request),
            }
        }
        left
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
