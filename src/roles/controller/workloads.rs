//! How many workloads of the enrolled namespaces have replicas, as the watches last saw them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use kube::runtime::watcher::Event;

use crate::core::workload::Kind;

/// Counts by kind.
#[derive(Clone, Default)]
pub struct Workloads(Arc<Mutex<BTreeMap<Kind, usize>>>);

/// The workloads of one kind that have replicas, by namespace and name.
#[derive(Debug, Default)]
pub struct Running {
    known: BTreeSet<(String, String)>,
    /// A list that is not complete yet.
    listing: BTreeSet<(String, String)>,
}

impl Running {
    /// Takes notice of an event of the watch on this kind; how many there are now, unless a list has only begun. An object
    /// without replicas is none: it costs nothing to make thousands of those, and each would make the share of the cluster
    /// that a write may touch a little larger for everybody.
    pub fn see(&mut self, event: Event<(String, String)>, has_replicas: bool) -> Option<usize> {
        match event {
            Event::Init => {
                self.listing.clear();
                return None;
            }
            Event::InitApply(name) => {
                if has_replicas {
                    self.listing.insert(name);
                }
                return None;
            }
            Event::InitDone => self.known = std::mem::take(&mut self.listing),
            Event::Apply(name) if has_replicas => {
                self.known.insert(name);
            }
            Event::Apply(name) | Event::Delete(name) => {
                self.known.remove(&name);
            }
        }
        Some(self.known.len())
    }
}

impl Workloads {
    /// So many of a kind.
    pub fn set(&self, kind: Kind, count: usize) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(kind, count);
    }

    /// All of them; `None` until each kind was listed.
    pub fn count(&self) -> Option<usize> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Kind::ALL.iter().map(|kind| counts.get(kind)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_no_count_until_every_kind_was_listed() {
        let workloads = Workloads::default();
        for (seen, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(workloads.count(), None, "{seen} kinds are known");
            workloads.set(kind, seen);
        }
        assert_eq!(workloads.count(), Some(3));
        workloads.set(Kind::Deployment, 7);
        assert_eq!(workloads.count(), Some(10));
    }

    #[test]
    fn a_workload_without_replicas_makes_no_share_larger() {
        let name = |name: &str| ("shop".to_owned(), name.to_owned());
        let mut running = Running::default();
        assert_eq!(running.see(Event::Init, false), None);
        for n in 0..1000 {
            assert_eq!(running.see(Event::InitApply(name(&format!("empty-{n}"))), false), None);
        }
        running.see(Event::InitApply(name("api")), true);
        assert_eq!(running.see(Event::InitDone, false), Some(1));
        assert_eq!(running.see(Event::Apply(name("web")), true), Some(2));
        assert_eq!(running.see(Event::Apply(name("web")), true), Some(2), "once");
        assert_eq!(running.see(Event::Apply(name("api")), false), Some(1), "scaled to zero");
        assert_eq!(running.see(Event::Init, false), None, "the old ones count until the list is there");
        assert_eq!(running.see(Event::Delete(name("web")), true), Some(0));
        assert_eq!(running.see(Event::InitDone, false), Some(0));
    }
}
