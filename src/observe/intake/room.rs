//! How many Alerts a namespace may have. The controller keeps those that fire in memory, so a namespace that floods it is
//! refused, with a 503, before it costs the others.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use kube::{Api, Client, api::ListParams};
use tokio::{sync, time::Instant};

use crate::{
    api::v1alpha1::Alert,
    cluster::Lean,
    core::intake::{BELONGS_TO, Place},
};

/// Alerts that fire in one namespace.
const FIRING: usize = 2_000;
/// Alerts of one namespace, with those that have ended. Retention, once an hour, keeps half as many at most.
const ALL: usize = 10_000;
/// Alerts in the system namespace that fire and belong to one other namespace.
const DISPLACED: usize = 200;
/// How long a count is believed while there is room; what is created meanwhile is added to it.
const FRESH: Duration = Duration::from_secs(30);
/// How long it is believed when there is none.
const FULL: Duration = Duration::from_secs(5);
/// Alerts read at one time where they have to be looked at: people may make each as large as the API server takes.
const PAGE: u32 = 20;
/// Places whose counts are remembered.
const PLACES: usize = 4096;

/// A namespace, and the one to which its Alerts belong if that is another one.
type Key = (String, Option<String>);

/// A count of Alerts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Count {
    /// Those that fire, or an upper bound of them.
    firing: usize,
    limit: usize,
    at: Instant,
    /// Some of them may be no new ones.
    added: bool,
}

impl Count {
    /// Takes room for one more. `None`: it has to be counted again.
    fn take(&mut self) -> Option<bool> {
        let full = self.firing >= self.limit;
        let believed = match (full, self.added) {
            (false, _) => FRESH,
            (true, false) => FULL,
            (true, true) => Duration::ZERO,
        };
        if self.at.elapsed() >= believed {
            return None;
        }
        if !full {
            (self.firing, self.added) = (self.firing + 1, true);
        }
        Some(!full)
    }
}

/// Counts of Alerts.
#[derive(Default)]
pub(super) struct Room {
    counts: Mutex<HashMap<Key, Arc<sync::Mutex<Option<Count>>>>>,
}

impl Room {
    /// Takes room for one Alert in `place`; `false` when there is none.
    pub async fn take(&self, client: &Client, place: &Place) -> Result<bool, kube::Error> {
        let known = self.of((place.namespace.clone(), place.belongs_to.clone()));
        let mut known = known.lock().await;
        if let Some(room) = known.as_mut().and_then(Count::take) {
            return Ok(room);
        }
        let limit = if place.belongs_to.is_some() { DISPLACED } else { FIRING };
        let firing = count(client, place, limit).await?;
        let mut count = Count { firing, limit, at: Instant::now(), added: false };
        let room = count.take().unwrap_or(false);
        *known = Some(count);
        Ok(room)
    }

    fn of(&self, key: Key) -> Arc<sync::Mutex<Option<Count>>> {
        let mut counts = super::lock(&self.counts);
        if counts.len() >= PLACES {
            counts.clear();
        }
        Arc::clone(counts.entry(key).or_default())
    }
}

/// Alerts in `place` that fire; all of them while that is less than the limit, which costs one small read.
async fn count(client: &Client, place: &Place, limit: usize) -> Result<usize, kube::Error> {
    let api: Api<Lean<Alert>> = Api::namespaced(client.clone(), &place.namespace);
    let mut params = ListParams::default();
    match &place.belongs_to {
        Some(home) => params = params.labels(&format!("{BELONGS_TO}={home}")),
        None => {
            let first = api.list_metadata(&params.clone().limit(1)).await?;
            // An API server that does not say how many there are has them counted.
            let more = first.metadata.continue_.is_some_and(|more| !more.is_empty());
            let left = if more { first.metadata.remaining_item_count } else { Some(0) };
            let all = left.map(|left| first.items.len() + usize::try_from(left).unwrap_or(0));
            if let Some(all) = all.filter(|all| *all < limit || *all >= ALL) {
                return Ok(all);
            }
        }
    }
    let (mut all, mut firing) = (0, 0);
    params = params.limit(PAGE);
    loop {
        let page = api.list(&params).await?;
        all += page.items.len();
        // What cannot be read may fire.
        let fires = |alert: &&Lean<Alert>| alert.0.as_ref().map_or(true, |alert| alert.spec.ends_at.is_none());
        firing += page.items.iter().filter(fires).count();
        match page.metadata.continue_.filter(|more| !more.is_empty()) {
            Some(more) if firing < limit && all < ALL => params = params.continue_token(&more),
            _ => return Ok(if all < ALL { firing } else { all }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_count_is_believed_until_it_is_old_and_what_is_created_is_added() {
        let counted = |firing| Count { firing, limit: 2000, at: Instant::now(), added: false };
        let mut count = counted(1998);
        assert_eq!((count.take(), count.take()), (Some(true), Some(true)));
        assert_eq!(count.take(), None, "what was added may have been there already");
        let mut full = counted(2000);
        assert_eq!((full.take(), full.take()), (Some(false), Some(false)));
        tokio::time::advance(FULL).await;
        assert_eq!(full.take(), None, "somebody may have made room");
        let mut count = counted(0);
        tokio::time::advance(FULL).await;
        assert_eq!(count.take(), Some(true));
        tokio::time::advance(FRESH).await;
        assert_eq!(count.take(), None);
    }
}
