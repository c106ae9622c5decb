//! What a step of an incident decides is computed on a thread of its own, with a deadline. The checks are pure functions of
//! bounded cost; should one of them hang all the same, or a defect end it, that is a refusal, and nobody else waits for it.
//!
//! The thread is none of the runtime's: a runtime that ends waits for its own, and a process that has to end must not.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

/// How long the answer is waited for. Half a second is a hundred times what it takes with as many Policies as are asked.
pub const DEADLINE: Duration = Duration::from_millis(500);

/// Threads at most, with those that hang: once there are so many, everything is refused.
const THREADS: usize = 64;

/// Stack of each, in bytes: expressions that people write take a bounded part of the 2 MiB that a thread has by itself. Only
/// what is used takes memory.
const STACK: usize = 16 << 20;

/// Threads that one namespace may have, with those that hang. What hangs may be due to what people of a namespace wrote.
const SHARE: usize = 8;

/// A thread that has run for so long comes to no end.
const HOPELESS: Duration = Duration::from_mins(1);

/// Computes answers on threads of their own: one for each incident, and a few for each namespace.
#[derive(Clone)]
pub struct Deciding {
    free: Arc<Semaphore>,
    shares: Arc<Mutex<HashMap<String, Arc<Semaphore>>>>,
    under_way: Arc<Mutex<UnderWay>>,
}

/// When the thread of each incident began, by namespace and name.
type UnderWay = BTreeMap<(String, String), Instant>;

impl Default for Deciding {
    fn default() -> Self {
        Deciding { free: Arc::new(Semaphore::new(THREADS)), shares: Arc::default(), under_way: Arc::default() }
    }
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// It took too long. Whatever the thread says later, nobody hears it.
    Late,
    /// It panicked.
    Ended,
    /// An earlier one about the same incident has not ended yet.
    Hangs,
    /// Its namespace has as many threads as it may have.
    Share,
    /// No thread was free in time.
    Busy,
}

impl Unanswered {
    /// Every reason.
    pub const ALL: [Unanswered; 5] =
        [Unanswered::Late, Unanswered::Ended, Unanswered::Hangs, Unanswered::Share, Unanswered::Busy];

    /// Word for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Unanswered::Late => "Late",
            Unanswered::Ended => "Ended",
            Unanswered::Hangs => "Hangs",
            Unanswered::Share => "Share",
            Unanswered::Busy => "Busy",
        }
    }
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let within = DEADLINE.as_millis();
        match self {
            Unanswered::Late => write!(f, "there was none within {within} ms"),
            Unanswered::Ended => f.write_str("a defect ended them"),
            Unanswered::Hangs => f.write_str("those that were asked before hang still"),
            Unanswered::Share => {
                write!(f, "no thread was free within {within} ms: {SHARE} of the namespace hang, which is its share")
            }
            Unanswered::Busy => write!(f, "no thread was free within {within} ms: {THREADS} of them hang"),
        }
    }
}

/// A thread's place, given back when the thread ends.
struct Place {
    key: (String, String),
    under_way: Arc<Mutex<UnderWay>>,
    _permits: [OwnedSemaphorePermit; 2],
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.under_way).remove(&self.key);
    }
}

impl Deciding {
    /// The answer of `work` about the incident `name` of `namespace`, if there is one in time. While an earlier one about it
    /// hangs it is not asked again: each time would cost another thread.
    pub async fn answer<T: Send + 'static>(
        &self,
        namespace: &str,
        name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unanswered> {
        let deadline = Instant::now() + DEADLINE;
        let key = (namespace.to_owned(), name.to_owned());
        if lock(&self.under_way).contains_key(&key) {
            return Err(Unanswered::Hangs);
        }
        let place = async |of: Arc<Semaphore>| tokio::time::timeout_at(deadline, of.acquire_owned()).await.ok()?.ok();
        let share = place(self.share(namespace)).await.ok_or(Unanswered::Share)?;
        let free = place(self.free.clone()).await.ok_or(Unanswered::Busy)?;
        lock(&self.under_way).insert(key.clone(), Instant::now());
        let place = Place { key, under_way: self.under_way.clone(), _permits: [share, free] };
        let (answer, answered) = oneshot::channel();
        let thread = thread::Builder::new().name("decision".into()).stack_size(STACK).spawn(move || {
            let answered = {
                // Given back before the answer is heard: whoever has it may ask the next question at once.
                let _place = place;
                work()
            };
            // Who asked may have gone.
            _ = answer.send(answered);
        });
        if thread.is_err() {
            return Err(Unanswered::Busy);
        }
        match tokio::time::timeout_at(deadline, answered).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(Unanswered::Ended),
            Err(_) => Err(Unanswered::Late),
        }
    }

    /// # Errors
    ///
    /// Every thread has hung for a minute: this process decides nothing any more, and only a new one does.
    pub fn alive(&self) -> Result<(), String> {
        let hang = lock(&self.under_way).values().filter(|began| began.elapsed() >= HOPELESS).count();
        if hang < THREADS {
            return Ok(());
        }
        Err(format!("all {THREADS} threads that decide have hung for more than {} s", HOPELESS.as_secs()))
    }

    /// The places of a namespace. Those of namespaces for which nobody works or waits are forgotten.
    fn share(&self, namespace: &str) -> Arc<Semaphore> {
        let mut shares = lock(&self.shares);
        shares.retain(|_, share| Arc::strong_count(share) > 1);
        shares.entry(namespace.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(SHARE))).clone()
    }
}

/// The answer of `work`, which is known to be quick, and asks nothing that people wrote: on the thread of whoever asks, so that
/// it never waits for those that hang.
pub fn in_place<T>(work: impl FnOnce() -> T) -> Result<T, Unanswered> {
    // Nothing outlives a panic that it could have left half done: the answer is lost as a whole.
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| Unanswered::Ended)
}

/// A panic elsewhere leaves these whole, so its mark is ignored.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
impl Deciding {
    /// Every thread hangs, until what is returned is dropped: those of the eight namespaces `hangs-0` to `hangs-7`.
    pub(super) async fn exhausted(&self) -> Arc<Mutex<()>> {
        let holder = Arc::new(Mutex::new(()));
        let work = (0..THREADS).map(|number| {
            let (weak, namespace) = (Arc::downgrade(&holder), format!("hangs-{}", number / SHARE));
            let hang = move || {
                while weak.upgrade().is_some() {
                    thread::sleep(Duration::from_millis(20));
                }
            };
            async move { self.answer(&namespace, &number.to_string(), hang).await }
        });
        let late = futures::future::join_all(work).await;
        assert!(late.iter().all(|answer| *answer == Err(Unanswered::Late)), "{late:?}");
        holder
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;
    use std::time::Instant;

    use super::*;
    use crate::core::gate::{check::planted, testing::bad_rollout};

    /// What may pass until the refusal is there, the way between the threads included.
    const ALLOWED: Duration = Duration::from_millis(510);

    const ALL: u32 = THREADS as u32;

    static GO_ON: AtomicBool = AtomicBool::new(false);

    /// Keeps a core busy, as a loop without an end does, until the test is over.
    fn hang() {
        while !GO_ON.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
    }

    fn judged() -> &'static str {
        bad_rollout().judge().decision.outcome.as_str()
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap()
    }

    #[test]
    fn a_check_that_hangs_is_a_refusal_by_510_ms_as_a_thread_outside_of_the_runtime_sees_it() {
        let (runtime, deciding) = (runtime(), Deciding::default());
        let (tell, told) = mpsc::channel();
        let mut took = vec![];
        // What else the machine does may delay one of them. What is wrong with the deadline delays all.
        for _ in 0..5 {
            let (asked, tell) = (deciding.clone(), tell.clone());
            let began = Instant::now();
            runtime.spawn(async move {
                let work = || {
                    planted::hangs("ModeAllows", hang);
                    judged()
                };
                _ = tell.send(asked.answer("shop", "api", work).await);
            });
            let answer = told.recv_timeout(Duration::from_secs(30)).expect("an answer");
            took.push(began.elapsed());
            assert_eq!(answer, Err(Unanswered::Late));
            GO_ON.store(true, Ordering::Relaxed);
            drop(runtime.block_on(deciding.free.acquire_many(ALL)).unwrap());
            GO_ON.store(false, Ordering::Relaxed);
        }
        println!("a refusal after {took:?}");
        assert!(took.iter().all(|took| *took >= DEADLINE), "{took:?}: it did not hang");
        assert!(took.iter().min().is_some_and(|best| *best <= ALLOWED), "{took:?}");
        assert_eq!(runtime.block_on(deciding.answer("shop", "api", judged)), Ok("Act"), "the next one is not hindered");
    }

    #[tokio::test]
    async fn what_panics_refuses_at_once_and_the_thread_is_free_again() {
        let deciding = Deciding::default();
        assert_eq!(deciding.answer::<()>("shop", "api", || panic!("planted")).await, Err(Unanswered::Ended));
        drop(
            tokio::time::timeout(Duration::from_secs(30), deciding.free.acquire_many(ALL)).await.expect("all are free"),
        );
    }

    #[tokio::test(start_paused = true)]
    async fn once_so_many_hang_that_no_thread_is_left_everything_is_refused_in_time() {
        let deciding = Deciding::default();
        let _hanging = deciding.free.acquire_many(ALL).await.unwrap();
        let began = tokio::time::Instant::now();
        assert_eq!(deciding.answer("shop", "api", || ()).await, Err(Unanswered::Busy));
        assert!(began.elapsed() <= ALLOWED);
    }

    #[tokio::test]
    async fn an_incident_whose_checks_hang_is_refused_at_once_and_takes_no_second_thread() {
        let deciding = Deciding::default();
        let (go_on, hangs) = mpsc::channel::<()>();
        let hang = move || _ = hangs.recv();
        assert_eq!(deciding.answer("shop", "api", hang).await, Err(Unanswered::Late));
        for _ in 0..100 {
            assert_eq!(deciding.answer("shop", "api", || ()).await, Err(Unanswered::Hangs));
        }
        assert_eq!(deciding.free.available_permits(), THREADS - 1);
        assert_eq!(deciding.answer("shop", "web", || ()).await, Ok(()), "another incident is not hindered");
        drop(go_on);
        let ended = async {
            while deciding.answer("shop", "api", || ()).await != Ok(()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), ended)
            .await
            .expect("it is asked again once the thread has ended");
    }

    #[tokio::test]
    async fn one_namespace_whose_checks_hang_leaves_threads_to_all_others() {
        let deciding = Deciding::default();
        let go_on = Arc::new(Mutex::new(()));
        let hanging = (0..20).map(|number| {
            let (deciding, weak) = (deciding.clone(), Arc::downgrade(&go_on));
            let hang = move || {
                while weak.upgrade().is_some() {
                    thread::sleep(Duration::from_millis(20));
                }
            };
            async move { deciding.answer("noisy", &number.to_string(), hang).await }
        });
        let answers = futures::future::join_all(hanging).await;
        let of = |why| answers.iter().filter(|answer| **answer == Err(why)).count();
        assert_eq!((of(Unanswered::Late), of(Unanswered::Share)), (SHARE, 20 - SHARE));
        assert_eq!(deciding.free.available_permits(), THREADS - SHARE);
        assert_eq!(deciding.answer("quiet", "api", || ()).await, Ok(()));
        assert_eq!(deciding.shares.lock().unwrap().len(), 2, "the quiet one is forgotten at the next question");
    }

    #[tokio::test]
    async fn a_process_is_dead_only_once_every_thread_has_hung_for_a_minute() {
        let deciding = Deciding::default();
        let holder = deciding.exhausted().await;
        assert_eq!(deciding.alive(), Ok(()), "they may still end");
        for began_at in lock(&deciding.under_way).values_mut() {
            *began_at -= HOPELESS;
        }
        assert!(deciding.alive().unwrap_err().contains("all 64 threads"));
        *lock(&deciding.under_way).values_mut().next().unwrap() += HOPELESS;
        assert_eq!(deciding.alive(), Ok(()), "one may still end");
        drop(holder);
    }

    #[tokio::test]
    async fn whoever_has_an_answer_may_ask_the_next_question_at_once() {
        let deciding = Deciding::default();
        for number in 0..2_000 {
            assert_eq!(deciding.answer("shop", "api", move || number).await, Ok(number));
        }
    }

    #[test]
    fn what_panics_in_place_is_no_answer_and_ends_nobody_else() {
        assert_eq!(in_place(|| 7), Ok(7));
        assert_eq!(in_place::<()>(|| panic!("planted")), Err(Unanswered::Ended));
    }
}
