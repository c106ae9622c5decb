//! How much of the requests in flight is held in memory, and by whom. A tenant that sends much is refused early, and keeps
//! nobody else out.

use std::collections::BTreeMap;

use super::place::TokenOwner;

/// Longest beginning of a body that is read, in bytes.
pub const MAX_BODY: usize = 8 << 20;
/// Alerts that are read of one request. [`MAX_BODY`] holds fewer of those that senders write.
pub const MAX_ALERTS: usize = 20_000;
/// What each request counts at least, in bytes; it bounds their number.
const LEAST: usize = 512 << 10;
/// All requests in flight, in bytes.
const TOTAL: usize = 32 << 20;
/// All requests of tenants in flight, in bytes: what is left is the cluster's.
const TENANTS: usize = 24 << 20;
/// All requests of one tenant in flight, in bytes.
const TENANT: usize = MAX_BODY;

/// Bytes held by requests in flight.
#[derive(Debug, Default)]
pub struct Budget {
    held: BTreeMap<TokenOwner, usize>,
}

impl Budget {
    /// Takes what a body of so many bytes counts, or of any length if it is `None`. `None` when there is no room; else what
    /// has to be given back.
    pub fn take(&mut self, owner: &TokenOwner, length: Option<u64>) -> Option<usize> {
        let length = length.and_then(|length| usize::try_from(length).ok()).unwrap_or(MAX_BODY);
        let bytes = length.clamp(LEAST, MAX_BODY);
        let cluster = self.held.get(&TokenOwner::Cluster).copied().unwrap_or(0);
        let total: usize = self.held.values().sum();
        let own = self.held.get(owner).copied().unwrap_or(0);
        let fits = total + bytes <= TOTAL
            && match owner {
                TokenOwner::Cluster => true,
                TokenOwner::Tenant(_) => own + bytes <= TENANT && total - cluster + bytes <= TENANTS,
            };
        fits.then(|| {
            self.held.insert(owner.clone(), own + bytes);
            bytes
        })
    }

    /// Gives back what was taken.
    pub fn give(&mut self, owner: &TokenOwner, bytes: usize) {
        let left = self.held.get(owner).map_or(0, |held| held.saturating_sub(bytes));
        if left == 0 {
            self.held.remove(owner);
        } else {
            self.held.insert(owner.clone(), left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> TokenOwner {
        TokenOwner::Tenant(name.into())
    }

    #[test]
    fn a_tenant_that_fills_its_share_keeps_nobody_else_out() {
        let mut budget = Budget::default();
        let taken = budget.take(&tenant("a"), None).unwrap();
        assert_eq!(budget.take(&tenant("a"), Some(1)), None, "its share is one longest body");
        for name in ["b", "c"] {
            assert!(budget.take(&tenant(name), None).is_some());
        }
        assert_eq!(budget.take(&tenant("d"), Some(1)), None, "all tenants together have 24 MiB");
        assert!(budget.take(&TokenOwner::Cluster, None).is_some(), "the rest is the cluster's");
        assert_eq!(budget.take(&TokenOwner::Cluster, Some(1)), None);
        budget.give(&tenant("a"), taken);
        assert!(budget.take(&tenant("d"), Some(3 << 20)).is_some());
    }

    #[test]
    fn short_requests_are_bounded_in_number_and_what_is_given_back_is_free() {
        let mut budget = Budget::default();
        let taken: Vec<usize> = std::iter::from_fn(|| budget.take(&TokenOwner::Cluster, Some(10))).collect();
        assert_eq!(taken.len(), 64);
        for bytes in taken {
            budget.give(&TokenOwner::Cluster, bytes);
        }
        assert!(budget.held.is_empty());
        assert_eq!(budget.take(&TokenOwner::Cluster, Some(u64::MAX)), Some(MAX_BODY));
    }
}
