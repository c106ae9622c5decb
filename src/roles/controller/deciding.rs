//! What a step of an incident decides is computed on a thread of its own, with a deadline. The checks are pure functions of
//! bounded cost; should one of them hang all the same, or a defect end it, that is a refusal, and nobody else waits for it.
//!
//! The thread is none of the runtime's: a runtime that ends waits for its own, and a process that has to end must not.

use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};

/// How long the answer is waited for. Half a second is a hundred times what it takes with as many Policies as are asked.
pub const DEADLINE: Duration = Duration::from_millis(500);

/// Threads at most, with those that hang: once there are so many, everything is refused.
const THREADS: usize = 64;

/// Stack of each, in bytes: expressions that people write take a bounded part of the 2 MiB that a thread has by itself. Only
/// what is used takes memory.
const STACK: usize = 16 << 20;

/// Computes answers on threads of their own.
#[derive(Clone)]
pub struct Deciding {
    free: Arc<Semaphore>,
}

impl Default for Deciding {
    fn default() -> Self {
        Deciding { free: Arc::new(Semaphore::new(THREADS)) }
    }
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// It took too long. Whatever the thread says later, nobody hears it.
    Late,
    /// It panicked.
    Ended,
    /// No thread was free in time.
    Busy,
}

impl Unanswered {
    /// Word for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Unanswered::Late => "Late",
            Unanswered::Ended => "Ended",
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
            Unanswered::Busy => write!(f, "no thread was free within {within} ms: {THREADS} of them hang"),
        }
    }
}

impl Deciding {
    /// The answer of `work`, if there is one in time.
    pub async fn answer<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Unanswered> {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        let place = match tokio::time::timeout_at(deadline, self.free.clone().acquire_owned()).await {
            Ok(Ok(place)) => place,
            Ok(Err(_)) | Err(_) => return Err(Unanswered::Busy),
        };
        let (answer, answered) = oneshot::channel();
        let thread = thread::Builder::new().name("decision".into()).stack_size(STACK).spawn(move || {
            let _place = place;
            // Who asked may have gone.
            _ = answer.send(work());
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
                _ = tell.send(asked.answer(work).await);
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
        assert_eq!(runtime.block_on(deciding.answer(judged)), Ok("Act"), "the next one is not hindered");
    }

    #[tokio::test]
    async fn what_panics_refuses_at_once_and_the_thread_is_free_again() {
        let deciding = Deciding::default();
        assert_eq!(deciding.answer::<()>(|| panic!("planted")).await, Err(Unanswered::Ended));
        drop(
            tokio::time::timeout(Duration::from_secs(30), deciding.free.acquire_many(ALL)).await.expect("all are free"),
        );
    }

    #[tokio::test(start_paused = true)]
    async fn once_so_many_hang_that_no_thread_is_left_everything_is_refused_in_time() {
        let deciding = Deciding::default();
        let _hanging = deciding.free.acquire_many(ALL).await.unwrap();
        let began = tokio::time::Instant::now();
        assert_eq!(deciding.answer(|| ()).await, Err(Unanswered::Busy));
        assert!(began.elapsed() <= ALLOWED);
    }
}
