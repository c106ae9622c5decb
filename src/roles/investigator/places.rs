//! Places for work that runs side by side, shared out by namespace: what one tenant's runs wait for keeps none of another's.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, futures::Notified},
    time::timeout,
};

use crate::core::slots::Slots;

/// Places of one kind.
pub struct Places {
    slots: Mutex<Slots>,
    freed: Notify,
}

/// A place that is taken, until it is dropped.
#[must_use = "a place that nobody keeps is given back"]
pub struct Place {
    of: Arc<Places>,
    namespace: String,
    failing: bool,
}

impl Places {
    /// So many; see [`Slots`] for what one namespace may have of them.
    pub fn new(total: usize) -> Arc<Places> {
        Arc::new(Places { slots: Mutex::new(Slots::new(total)), freed: Notify::new() })
    }

    /// A place, if `namespace` may have one now. `failing`: its last run ended with an error.
    pub fn take(self: &Arc<Self>, namespace: &str, failing: bool) -> Option<Place> {
        let taken = self.slots.lock().unwrap_or_else(PoisonError::into_inner).take(namespace, failing);
        taken.then(|| Place { of: self.clone(), namespace: namespace.to_owned(), failing })
    }

    /// Is ready when a place was given back after this was called.
    pub fn freed(&self) -> Notified<'_> {
        self.freed.notified()
    }

    /// A place, waited for no longer than `time`. `queue` has the places of those who wait; without one of them nobody does.
    pub async fn wait(self: &Arc<Self>, queue: &Arc<Places>, namespace: &str, time: Duration) -> Option<Place> {
        if let Some(place) = self.take(namespace, false) {
            return Some(place);
        }
        let _waiting = queue.take(namespace, false)?;
        let free = async {
            loop {
                // Before it is looked: what is given back in between counts.
                let freed = self.freed();
                if let Some(place) = self.take(namespace, false) {
                    return place;
                }
                freed.await;
            }
        };
        timeout(time, free).await.ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.of.slots.lock().unwrap_or_else(PoisonError::into_inner).give(&self.namespace, self.failing);
        self.of.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_gets_what_is_given_back_or_gives_up_in_time_and_a_full_queue_keeps_nobody() {
        let (places, queue) = (Places::new(4), Places::new(4));
        let mut taken: Vec<Place> = (0..3).filter_map(|_| places.take("a", false)).collect();
        assert_eq!(taken.len(), 3);
        let began = tokio::time::Instant::now();
        assert!(places.wait(&queue, "a", Duration::from_secs(5)).await.is_none());
        assert_eq!(began.elapsed().as_secs(), 5);
        assert!(places.wait(&queue, "b", Duration::from_secs(5)).await.is_some(), "the others have room");

        let waits = {
            let (places, queue) = (places.clone(), queue.clone());
            tokio::spawn(async move { places.wait(&queue, "a", Duration::from_secs(60)).await.is_some() })
        };
        tokio::task::yield_now().await;
        taken.pop();
        assert!(waits.await.unwrap());

        let _queued: Vec<Place> = (0..3).filter_map(|_| queue.take("a", false)).collect();
        let _last = places.take("a", false).unwrap();
        let began = tokio::time::Instant::now();
        assert!(places.wait(&queue, "a", Duration::from_secs(60)).await.is_none());
        assert!(began.elapsed().is_zero());
    }
}
