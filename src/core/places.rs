//! Places at what few may do at one time and many want, fair between namespaces: how often a namespace asks, its people choose.
//! Nobody is made to wait inside: whoever gets none asks again, and keeps the place in the queue.

use std::collections::BTreeMap;

use jiff::SignedDuration;

use crate::api::v1alpha1::Time;

/// Whoever has not asked for so long does not wait any more.
const FORGOTTEN: SignedDuration = SignedDuration::from_secs(30);

/// Places, of which the last is for what is critical alone.
#[derive(Clone, Debug)]
pub struct Places {
    common: Queue,
    reserved: Queue,
}

/// Which kind of place was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// One that anything may have.
    Common,
    /// The one for what is critical.
    Reserved,
}

#[derive(Clone, Debug)]
struct Queue {
    places: usize,
    /// Of each namespace that has some.
    taken: BTreeMap<String, usize>,
    /// Namespaces that wait, in the order in which they came, and when they asked last.
    waiting: Vec<(String, Time)>,
}

impl Places {
    /// So many, two at least.
    pub fn new(all: usize) -> Places {
        Places { common: Queue::new(all.max(2) - 1), reserved: Queue::new(1) }
    }

    /// Takes a place for `namespace`, if it is its turn; else the namespace stands in the queue. One that has a place gets
    /// another only while no other namespace waits, and leaves one free for whoever comes.
    pub fn take(&mut self, namespace: &str, critical: bool, now: Time) -> Option<Lane> {
        let lane = if self.common.take(namespace, now) {
            Lane::Common
        } else if critical && self.reserved.take(namespace, now) {
            Lane::Reserved
        } else {
            return None;
        };
        // Whatever else waits in the namespace stands behind those who have waited meanwhile.
        self.common.leave(namespace);
        self.reserved.leave(namespace);
        Some(lane)
    }

    /// Gives a place back.
    pub fn give(&mut self, namespace: &str, lane: Lane) {
        match lane {
            Lane::Common => self.common.give(namespace),
            Lane::Reserved => self.reserved.give(namespace),
        }
    }
}

impl Queue {
    fn new(places: usize) -> Queue {
        Queue { places, taken: BTreeMap::new(), waiting: vec![] }
    }

    fn take(&mut self, namespace: &str, now: Time) -> bool {
        self.waiting.retain(|(_, asked)| now.duration_since(*asked).abs() < FORGOTTEN);
        let place = self.waiting.iter().position(|(name, _)| name == namespace).unwrap_or(self.waiting.len());
        let free = self.places.saturating_sub(self.taken.values().sum());
        let is_next = if self.taken.contains_key(namespace) {
            free > 1 && self.waiting.iter().all(|(name, _)| name == namespace)
        } else {
            // Those before it that have a place already are not next.
            let next = |(name, _): &&(String, Time)| !self.taken.contains_key(name);
            free > self.waiting.iter().take(place).filter(next).count()
        };
        if is_next {
            *self.taken.entry(namespace.to_owned()).or_default() += 1;
        } else if let Some((_, asked)) = self.waiting.get_mut(place) {
            *asked = now;
        } else {
            self.waiting.push((namespace.to_owned(), now));
        }
        is_next
    }

    fn leave(&mut self, namespace: &str) {
        self.waiting.retain(|(name, _)| name != namespace);
    }

    fn give(&mut self, namespace: &str) {
        if let Some(taken) = self.taken.get_mut(namespace) {
            *taken = taken.saturating_sub(1);
            if *taken == 0 {
                self.taken.remove(namespace);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Time {
        Time::from_second(1_800_000_000 + second).unwrap()
    }

    /// How many of so many asks get a place.
    fn takes(places: &mut Places, namespace: &str, critical: bool, asks: usize) -> usize {
        (0..asks).filter(|_| places.take(namespace, critical, at(0)).is_some()).count()
    }

    #[test]
    fn a_namespace_alone_leaves_one_place_for_others_and_one_for_what_is_critical() {
        let mut places = Places::new(4);
        assert_eq!(takes(&mut places, "loud", false, 200), 2);
        assert_eq!((takes(&mut places, "a", false, 9), takes(&mut places, "b", false, 9)), (1, 0));
        assert_eq!((takes(&mut places, "c", true, 9), takes(&mut places, "d", true, 9)), (1, 0));
        let mut places = Places::new(4);
        assert_eq!(takes(&mut places, "loud", true, 200), 3, "it says that all is critical");
        assert_eq!(takes(&mut places, "a", false, 9), 1);
    }

    #[test]
    fn whoever_waits_is_next_however_often_others_ask() {
        let mut places = Places::new(4);
        assert_eq!(takes(&mut places, "loud", true, 200), 3);
        assert_eq!((takes(&mut places, "a", false, 1), takes(&mut places, "b", false, 1)), (1, 0));
        places.give("loud", Lane::Common);
        assert_eq!(takes(&mut places, "loud", true, 200), 0, "another one waits");
        assert_eq!(takes(&mut places, "loud", false, 200), 0);
        assert_eq!(takes(&mut places, "b", false, 1), 1);
        places.give("a", Lane::Common);
        places.give("b", Lane::Common);
        assert_eq!(takes(&mut places, "loud", false, 200), 1, "nobody else waits any more, and one stays free");
    }

    #[test]
    fn namespaces_are_served_in_the_order_in_which_they_came_and_what_is_critical_besides() {
        let mut places = Places::new(4);
        for name in ["x", "y", "z"] {
            assert_eq!(takes(&mut places, name, false, 1), 1);
        }
        assert_eq!(["a", "b", "c"].map(|name| takes(&mut places, name, false, 5)), [0, 0, 0]);
        assert_eq!(places.take("late", true, at(0)), Some(Lane::Reserved));
        places.give("x", Lane::Common);
        assert_eq!(["c", "b", "a"].map(|name| takes(&mut places, name, false, 5)), [0, 0, 1]);
        places.give("y", Lane::Common);
        places.give("z", Lane::Common);
        assert_eq!(["c", "b"].map(|name| takes(&mut places, name, false, 1)), [1, 1], "there is room for both");
    }

    #[test]
    fn whoever_does_not_ask_any_more_keeps_nobody_waiting() {
        let mut places = Places::new(2);
        let taken = places.take("x", false, at(0)).unwrap();
        assert_eq!(places.take("gone", false, at(0)), None);
        places.give("x", taken);
        assert_eq!(places.take("x", false, at(29)), None);
        assert_eq!(places.take("x", false, at(30)), Some(Lane::Common));
    }

    proptest! {
        #[test]
        fn nobody_who_keeps_asking_waits_for_more_than_one_turn_of_each_other_namespace(
            asks in proptest::collection::vec((0usize..6, any::<bool>(), any::<bool>()), 1..300), critical in any::<bool>(),
        ) {
            let (mut places, mut running) = (Places::new(4), Vec::new());
            let (mut waits, mut before) = (false, vec![0; 6]);
            for (name, loud, ends) in asks {
                let namespace = ["a", "b", "c", "d", "e", "f"][name];
                if let Some(place) = places.take(namespace, loud, at(0)) {
                    // The reserved one is none that it would have had.
                    before[name] += usize::from(waits && (critical || place == Lane::Common));
                    running.push((namespace, place));
                }
                prop_assert!(running.len() <= 4);
                prop_assert!(before.iter().all(|turns| *turns <= if critical { 2 } else { 1 }), "{:?}", before);
                if places.take("quiet", critical, at(0)).is_some() {
                    prop_assert!(running.len() < 4);
                    break;
                }
                waits = true;
                if ends && !running.is_empty() {
                    let (namespace, place) = running.remove(0);
                    places.give(namespace, place);
                }
            }
        }
    }
}
