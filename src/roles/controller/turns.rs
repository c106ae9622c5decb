//! Turns at what only few may do at one time, fair between namespaces: how often a namespace asks, its people choose.
//!
//! A namespace has one turn at a time, and one of its askers stands in the queue. So whoever comes first of another one
//! waits for one turn of each namespace that waits, however many askers those have; and nobody waits for ever.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Turns that are given out.
#[derive(Clone, Debug)]
pub struct Turns {
    places: Arc<Semaphore>,
    /// Of each namespace that has a turn or waits for one.
    namespaces: Arc<Mutex<BTreeMap<String, Arc<Semaphore>>>>,
    patience: Duration,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    // The place is free before the next one of the namespace stands in the queue.
    _place: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
}

/// Others came first for too long.
#[derive(Debug, thiserror::Error)]
#[error("{what}: no turn within {} s", waited.as_secs())]
pub struct NoTurn {
    /// What was waited for.
    pub what: String,
    /// How long.
    pub waited: Duration,
}

impl Turns {
    /// So many at one time. Nobody waits for longer than `patience`.
    pub fn new(places: usize, patience: Duration) -> Turns {
        Turns { places: Arc::new(Semaphore::new(places)), namespaces: Arc::default(), patience }
    }

    /// How long is waited for a turn.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// A turn of `namespace`; `None` where none came in time.
    pub async fn take(&self, namespace: &str) -> Option<Turn> {
        let (own, places) = (self.of(namespace), self.places.clone());
        let turn = async {
            let own = own.acquire_owned().await.ok()?;
            let place = places.acquire_owned().await.ok()?;
            Some(Turn { _place: place, _own: own })
        };
        tokio::time::timeout(self.patience, turn).await.ok().flatten()
    }

    fn of(&self, namespace: &str) -> Arc<Semaphore> {
        let mut namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever has a turn or waits for one holds theirs: of the others nothing is kept.
        namespaces.retain(|_, own| Arc::strong_count(own) > 1);
        namespaces.entry(namespace.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(1))).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{Instant, sleep};

    const PATIENCE: Duration = Duration::from_secs(10);
    const TURN: Duration = Duration::from_secs(4);

    /// Takes a turn, and how long that was waited for.
    async fn waited(turns: Turns, namespace: &str) -> Option<Duration> {
        let began = Instant::now();
        let _turn = turns.take(namespace).await?;
        let waited = began.elapsed();
        sleep(TURN).await;
        Some(waited)
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_often_keeps_nobody_else_waiting_for_more_than_one_turn() {
        let turns = Turns::new(1, PATIENCE);
        for _ in 0..12 {
            tokio::spawn(waited(turns.clone(), "loud"));
        }
        sleep(Duration::from_secs(1)).await;
        assert_eq!(
            waited(turns.clone(), "quiet").await,
            Some(Duration::from_secs(3)),
            "the one that has a turn ends it"
        );
        let two = Turns::new(2, PATIENCE);
        for _ in 0..12 {
            tokio::spawn(waited(two.clone(), "loud"));
        }
        sleep(Duration::from_secs(1)).await;
        assert_eq!(waited(two, "quiet").await, Some(Duration::ZERO), "a namespace has one turn at a time");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let turns = Turns::new(1, PATIENCE);
        let _hangs = turns.take("loud").await.unwrap();
        let began = Instant::now();
        assert!(turns.take("quiet").await.is_none());
        assert_eq!(began.elapsed(), PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_kept_of_a_namespace_that_waits_for_nothing() {
        let turns = Turns::new(2, PATIENCE);
        for n in 0..100 {
            drop(turns.take(&format!("n{n}")).await.unwrap());
        }
        let _two = (turns.take("a").await.unwrap(), turns.take("b").await.unwrap());
        assert!(turns.take("c").await.is_none());
        drop(turns.of("d"));
        assert_eq!(turns.namespaces.lock().unwrap().len(), 3, "a, b, and the one that was just asked for");
    }
}
