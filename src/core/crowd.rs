//! Which objects of a namespace a cache keeps: so many and no more, because whoever may write in one namespace decides how many
//! there are, and the memory is everybody's.
//!
//! What is left out is counted, and taken up by a new list once there is room for it.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

/// What is kept, by namespace. A name takes eight bytes: two of the same hash never meet in practice, and one more or less
/// does not matter.
#[derive(Debug)]
pub struct Crowd {
    most: usize,
    /// Namespace without a bound: nobody but the operator's own account and administrators write there.
    free: Option<String>,
    namespaces: HashMap<String, Sorted>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Sorted {
    kept: HashSet<u64>,
    left_out: HashSet<u64>,
}

impl Crowd {
    /// Keeps `most` objects of each namespace but `free`.
    pub fn new(most: usize, free: Option<String>) -> Crowd {
        Crowd { most, free, namespaces: HashMap::new(), hasher: RandomState::new() }
    }

    /// A list begins: it shows all that there is, each once, and nothing else comes before it is complete.
    pub fn begin(&mut self) {
        self.namespaces.clear();
    }

    /// Whether an object that was seen is kept. One that was kept before still is.
    pub fn admits(&mut self, namespace: &str, name: &str) -> bool {
        if self.free.as_deref() == Some(namespace) {
            return true;
        }
        let name = self.hasher.hash_one(name);
        if !self.namespaces.contains_key(namespace) {
            self.namespaces.insert(namespace.to_owned(), Sorted::default());
        }
        let Some(sorted) = self.namespaces.get_mut(namespace) else { return true };
        if sorted.kept.contains(&name) || sorted.kept.len() < self.most {
            sorted.left_out.remove(&name);
            sorted.kept.insert(name);
            return true;
        }
        sorted.left_out.insert(name);
        false
    }

    /// An object is gone, or needs no place any more.
    pub fn gone(&mut self, namespace: &str, name: &str) {
        let name = self.hasher.hash_one(name);
        if let Some(sorted) = self.namespaces.get_mut(namespace) {
            sorted.kept.remove(&name);
            sorted.left_out.remove(&name);
            if sorted.kept.is_empty() && sorted.left_out.is_empty() {
                self.namespaces.remove(namespace);
            }
        }
    }

    /// Objects that are not kept.
    pub fn left_out(&self) -> usize {
        self.namespaces.values().map(|sorted| sorted.left_out.len()).sum()
    }

    /// Whether a new list would keep some of those that are left out.
    pub fn has_room_again(&self) -> bool {
        self.namespaces.values().any(|sorted| !sorted.left_out.is_empty() && sorted.kept.len() < self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_that_is_full_leaves_out_its_own_and_nobody_elses() {
        let mut crowd = Crowd::new(2, Some("system".into()));
        assert!(crowd.admits("shop", "a") && crowd.admits("shop", "b") && !crowd.admits("shop", "c"));
        assert!(crowd.admits("shop", "a"), "what is kept stays");
        assert!(crowd.admits("other", "c"));
        assert!((0..100).all(|n| crowd.admits("system", &n.to_string())));
        assert_eq!((crowd.left_out(), crowd.has_room_again()), (1, false));
        crowd.gone("shop", "a");
        assert_eq!((crowd.left_out(), crowd.has_room_again()), (1, true));
        assert!(crowd.admits("shop", "c") && !crowd.admits("shop", "a"));
        crowd.gone("shop", "a");
        assert_eq!((crowd.left_out(), crowd.has_room_again()), (0, false));
    }

    #[test]
    fn a_new_list_tells_anew_what_there_is() {
        let mut crowd = Crowd::new(1, None);
        assert!(crowd.admits("shop", "a") && !crowd.admits("shop", "b"));
        crowd.begin();
        assert_eq!(crowd.left_out(), 0);
        assert!(crowd.admits("shop", "b") && !crowd.admits("shop", "a"));
        crowd.gone("shop", "b");
        crowd.gone("shop", "a");
        assert!(crowd.namespaces.is_empty(), "what is not there takes no memory");
    }
}
