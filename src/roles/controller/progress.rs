//! What this process knows of the steps of each object: which failed, which ended well, and who may take one now.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::SignedDuration;
use kube::{Resource, ResourceExt as _};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::api::v1alpha1::{Delivery, Time};
use crate::core::{
    attempts::{Attempts, Failure},
    slots::Slots,
    watchdog::{Key, Steps},
};

/// Incidents that are reconciled at one time.
const INCIDENTS: usize = 16;
/// Alerts that are.
const ALERTS: usize = 8;
/// Failures of an object that was not tried again for so long are forgotten: it is gone.
const FORGET: SignedDuration = SignedDuration::from_hours(1);

/// Shared by the reconcilers and the watchdog. Every lock is held for a few instructions.
pub struct Progress {
    failing: Mutex<HashMap<Key, Attempts>>,
    ended_well: Mutex<HashMap<Key, Time>>,
    told: Mutex<HashMap<Key, Vec<Delivery>>>,
    slots: Mutex<Slots>,
    incidents: Semaphore,
    alerts: Semaphore,
}

impl Default for Progress {
    fn default() -> Self {
        Progress {
            failing: Mutex::default(),
            ended_well: Mutex::default(),
            told: Mutex::default(),
            slots: Mutex::new(Slots::new(INCIDENTS)),
            incidents: Semaphore::new(INCIDENTS),
            alerts: Semaphore::new(ALERTS),
        }
    }
}

/// Which object it is.
pub fn key<K: Resource<DynamicType = ()>>(kind: &'static str, object: &K) -> Key {
    Key { kind, namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
}

impl Progress {
    /// A step failed. Returns the pause until the next one.
    pub fn failed(&self, key: Key, failure: Failure, error: &str, now: Time) -> Duration {
        let mut failing = lock(&self.failing);
        let attempts = failing.entry(key).or_insert_with(|| Attempts::begin(now));
        attempts.failed(failure, error, now);
        attempts.pause(rand::random())
    }

    /// A step ended well. When it did is remembered only of what has to come to an end.
    pub fn ended_well(&self, key: Key, has_to_end: bool, now: Time) {
        lock(&self.failing).remove(&key);
        if has_to_end {
            lock(&self.ended_well).insert(key, now);
        }
    }

    /// What the API server answers again and again, if trying once more cannot help.
    pub fn refused_for_good(&self, key: &Key, now: Time) -> Option<String> {
        lock(&self.failing).get(key)?.refused_for_good(now).map(str::to_owned)
    }

    /// Since when every step of an object failed, and the last error.
    pub fn failing_since(&self, key: &Key) -> Option<(Time, String)> {
        lock(&self.failing).get(key).map(|attempts| (attempts.since(), attempts.error().to_owned()))
    }

    /// What the watchdog wants to know.
    pub fn steps(&self, key: &Key) -> Steps {
        Steps {
            ended_well: lock(&self.ended_well).get(key).copied(),
            error: lock(&self.failing).get(key).map(|attempts| attempts.error().to_owned()),
        }
    }

    /// Forgets what is gone: `has_to_end` says which objects still have to come to an end.
    pub fn forget(&self, has_to_end: impl Fn(&Key) -> bool, now: Time) {
        lock(&self.ended_well).retain(|key, _| has_to_end(key));
        lock(&self.failing).retain(|_, attempts| now.duration_since(attempts.last()) < FORGET);
    }

    /// Deliveries about an incident that could not be stored yet; empty when there are none.
    pub fn told(&self, key: &Key) -> Vec<Delivery> {
        lock(&self.told).get(key).cloned().unwrap_or_default()
    }

    /// Remembers deliveries until they are stored.
    pub fn remember_told(&self, key: Key, deliveries: Vec<Delivery>) {
        lock(&self.told).insert(key, deliveries);
    }

    /// They are stored.
    pub fn forget_told(&self, key: &Key) {
        lock(&self.told).remove(key);
    }

    /// Waits for a turn to reconcile an incident: who waits longest is next. kube-runtime's own bound takes any of those
    /// that wait, so that in a storm some wait for minutes while later ones pass.
    pub async fn turn_of_an_incident(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.incidents.acquire().await.ok()
    }

    /// The same for an alert.
    pub async fn turn_of_an_alert(&self) -> Option<SemaphorePermit<'_>> {
        self.alerts.acquire().await.ok()
    }

    /// A place to work on `key`, unless its namespace, or what fails, has all it may have.
    pub fn enter(&self, key: &Key) -> Option<Place<'_>> {
        let failing = lock(&self.failing).get(key).is_some_and(Attempts::is_failing);
        let namespace = key.namespace.clone();
        lock(&self.slots).take(&namespace, failing).then_some(Place { slots: &self.slots, namespace, failing })
    }
}

/// Given back when it is dropped.
pub struct Place<'a> {
    slots: &'a Mutex<Slots>,
    namespace: String,
    failing: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        lock(self.slots).give(&self.namespace, self.failing);
    }
}

/// A panic elsewhere leaves these whole, so its mark is ignored.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::{StreamExt as _, stream};
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::runtime::{
        Controller,
        controller::{Action, Config},
        reflector, watcher,
    };

    use super::*;

    const WAITING: usize = 300;

    /// By how many places somebody came too late, where three times as many come as are served.
    async fn overtaken(config: Config, by_turns: bool) -> usize {
        let (reader, mut writer) = reflector::store::<ConfigMap>();
        let objects: Vec<ConfigMap> = (0..WAITING)
            .map(|number| {
                let mut object = ConfigMap::default();
                object.metadata.name = Some(number.to_string());
                object
            })
            .collect();
        writer.apply_watcher_event(&watcher::Event::Init);
        objects.iter().for_each(|object| writer.apply_watcher_event(&watcher::Event::InitApply(object.clone())));
        writer.apply_watcher_event(&watcher::Event::InitDone);
        let arriving = stream::iter(objects).then(|object| async {
            tokio::time::sleep(Duration::from_millis(2)).await;
            Ok::<_, watcher::Error>(object)
        });
        let (progress, served) = (Arc::new(Progress::default()), Arc::new(Mutex::new(Vec::new())));
        let (turns, order) = (progress.clone(), served.clone());
        let reconcile = move |object: Arc<ConfigMap>, _: Arc<()>| {
            let (turns, order) = (turns.clone(), order.clone());
            async move {
                let _turn = if by_turns { turns.turn_of_an_incident().await } else { None };
                tokio::time::sleep(Duration::from_millis(100)).await;
                lock(&order).push(object.name_any().parse::<usize>().unwrap());
                Ok::<_, std::convert::Infallible>(Action::await_change())
            }
        };
        Controller::for_stream(arriving.chain(stream::pending()), reader)
            .with_config(config)
            .run(reconcile, |_, _, _| Action::await_change(), Arc::new(()))
            .take(WAITING)
            .for_each(|_| async {})
            .await;
        let served = lock(&served).clone();
        served.iter().enumerate().map(|(place, number)| place.saturating_sub(*number)).max().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_longest_is_next_and_in_a_storm_nobody_is_overtaken() {
        let ours = overtaken(Config::default(), true).await;
        assert!(ours < INCIDENTS, "overtaken by {ours}");
        let bound = u16::try_from(INCIDENTS).unwrap();
        let theirs = overtaken(Config::default().concurrency(bound), false).await;
        assert!(theirs > 4 * INCIDENTS, "kube-runtime is fair by itself now ({theirs}): its bound will do");
    }
}
