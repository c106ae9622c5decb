//! Holds a watch to so many objects of each namespace, and lists anew when there is room for what was left out.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{Stream, StreamExt as _, stream};
use kube::{Resource, ResourceExt as _, runtime::watcher::Event};
use tokio::sync::Notify;

use crate::core::crowd::Crowd;

use super::undecodable::Reports;

/// The least time between two lists: whoever fills a namespace must not keep us busy.
const AGAIN: Duration = Duration::from_secs(600);

/// Decides for one cache what it keeps.
pub struct Crowded {
    crowd: Mutex<Crowd>,
    reports: Reports,
    again: Arc<Notify>,
}

impl Crowded {
    /// Keeps `most` objects of each namespace but `free`.
    pub fn new(reports: &Reports, most: usize, free: Option<String>) -> Crowded {
        Crowded { crowd: Mutex::new(Crowd::new(most, free)), reports: reports.clone(), again: Arc::default() }
    }

    /// What the cache is told of an event.
    pub fn sorted<K: Resource<DynamicType = ()>>(&self, event: Event<K>) -> Option<Event<K>> {
        let mut crowd = self.crowd.lock().unwrap_or_else(PoisonError::into_inner);
        let mut admits = |object: &K| crowd.admits(&object.namespace().unwrap_or_default(), &object.name_any());
        let kept = match event {
            Event::InitApply(object) => return admits(&object).then_some(Event::InitApply(object)),
            Event::Apply(object) => admits(&object).then_some(Event::Apply(object)),
            Event::Delete(object) => {
                crowd.gone(&object.namespace().unwrap_or_default(), &object.name_any());
                Some(Event::Delete(object))
            }
            Event::Init => {
                crowd.begin();
                return Some(Event::Init);
            }
            Event::InitDone => Some(Event::InitDone),
        };
        self.reports.left_out(&K::kind(&()), crowd.left_out());
        if crowd.has_room_again() {
            self.again.notify_one();
        }
        kept
    }

    /// The events of `watch`, which begins anew when there is room for what was left out.
    pub fn renewed<S, W>(&self, watch: W) -> impl Stream<Item = S::Item> + Send + use<S, W>
    where
        S: Stream + Send,
        W: Fn() -> S + Send,
    {
        let again = self.again.clone();
        stream::repeat_with(watch).flat_map(move |events| {
            let again = again.clone();
            events.take_until(async move {
                tokio::time::sleep(AGAIN).await;
                again.notified().await;
            })
        })
    }
}

#[cfg(test)]
#[path = "crowded_tests.rs"]
mod tests;
