//! How many workloads the enrolled namespaces have, as the watches last saw them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::core::workload::Kind;

/// Counts by kind.
#[derive(Clone, Default)]
pub struct Workloads(Arc<Mutex<BTreeMap<Kind, usize>>>);

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
}
