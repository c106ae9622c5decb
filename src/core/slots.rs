//! Who may work now: no namespace, and nothing that keeps failing, takes all the room there is.

use std::collections::BTreeMap;

/// Places for work, counted by namespace.
#[derive(Clone, Debug)]
pub struct Slots {
    total: usize,
    taken: BTreeMap<String, Taken>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    all: usize,
    failing: usize,
}

impl Slots {
    /// `total` places, at least 4.
    pub fn new(total: usize) -> Slots {
        Slots { total: total.max(4), taken: BTreeMap::new() }
    }

    /// Takes a place for an object of `namespace`, if it may have one. `failing`: its last step failed, so the next
    /// may use up all its deadlines too. There are no more than all places together. One namespace has at most three
    /// quarters of them and an eighth for what fails; what fails anywhere has half of them.
    pub fn take(&mut self, namespace: &str, failing: bool) -> bool {
        let own = self.taken.get(namespace).copied().unwrap_or_default();
        let all_failing: usize = self.taken.values().map(|taken| taken.failing).sum();
        let all: usize = self.taken.values().map(|taken| taken.all).sum();
        let full = all >= self.total || own.all >= self.total / 4 * 3;
        let failing_full = own.failing >= (self.total / 8).max(1) || all_failing >= self.total / 2;
        if full || (failing && failing_full) {
            return false;
        }
        let own = self.taken.entry(namespace.to_owned()).or_default();
        own.all += 1;
        own.failing += usize::from(failing);
        true
    }

    /// Gives a place back that was taken so.
    pub fn give(&mut self, namespace: &str, failing: bool) {
        if let Some(own) = self.taken.get_mut(namespace) {
            own.all = own.all.saturating_sub(1);
            own.failing = own.failing.saturating_sub(usize::from(failing));
            if own.all == 0 {
                self.taken.remove(namespace);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(slots: &mut Slots, namespace: &str, failing: bool, wanted: usize) -> usize {
        (0..wanted).filter(|_| slots.take(namespace, failing)).count()
    }

    #[test]
    fn two_hundred_stuck_incidents_of_one_tenant_leave_room_for_everybody_else() {
        let mut slots = Slots::new(16);
        assert_eq!(takes(&mut slots, "evil", true, 200), 2);
        assert_eq!(takes(&mut slots, "evil", false, 200), 10, "new ones of it too");
        assert_eq!(takes(&mut slots, "shop", false, 4), 4);
    }

    #[test]
    fn however_many_namespaces_want_them_there_are_no_more_places_than_there_are() {
        let mut slots = Slots::new(12);
        let taken: usize = (0..10).map(|n| takes(&mut slots, &format!("n{n}"), false, 9)).sum();
        assert_eq!(taken, 12);
        slots.give("n0", false);
        assert_eq!(takes(&mut slots, "late", false, 9), 1);
    }

    #[test]
    fn what_fails_in_many_namespaces_leaves_half_of_the_room() {
        let mut slots = Slots::new(16);
        let failing: usize = (0..100).map(|n| takes(&mut slots, &format!("n{n}"), true, 1)).sum();
        assert_eq!(failing, 8);
        assert!(slots.take("shop", false));
    }

    #[test]
    fn a_place_that_was_given_back_is_free_and_nothing_is_remembered() {
        let mut slots = Slots::new(16);
        for n in 0..1000 {
            let namespace = format!("n{n}");
            assert!(slots.take(&namespace, n % 2 == 0));
            slots.give(&namespace, n % 2 == 0);
        }
        assert!(slots.taken.is_empty());
        slots.give("never", true);
        assert!(slots.taken.is_empty());
    }
}
