//! How many diagnoses a namespace may ask for within a minute. Each namespace pays alone.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// The window.
const WINDOW: Duration = Duration::from_secs(60);

/// Diagnoses of the last minute by namespace. Times are readings of one monotonic clock.
#[derive(Clone, Debug, Default)]
pub struct Rates {
    asked: BTreeMap<String, VecDeque<Duration>>,
}

impl Rates {
    /// Counts a diagnosis of `namespace` at `now`, unless `limit` were counted within the minute before: then it tells
    /// how long to wait.
    pub fn count(&mut self, namespace: &str, limit: u32, now: Duration) -> Result<(), Duration> {
        self.asked.retain(|_, times| {
            while times.front().is_some_and(|first| now.saturating_sub(*first) >= WINDOW) {
                times.pop_front();
            }
            !times.is_empty()
        });
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let times = self.asked.get(namespace).map_or(0, VecDeque::len);
        if times >= limit {
            // The one whose end makes room; `None` only for a limit of zero.
            let blocking = self.asked.get(namespace).and_then(|asked| asked.get(times - limit));
            return Err(blocking.map_or(WINDOW, |blocking| WINDOW - now.saturating_sub(*blocking)));
        }
        self.asked.entry(namespace.to_owned()).or_default().push_back(now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    #[test]
    fn the_limit_holds_in_every_window_of_a_minute() {
        let mut rates = Rates::default();
        let mut taken: Vec<u64> = Vec::new();
        for second in 0..600 {
            if rates.count("shop", 3, at(second)).is_ok() {
                taken.push(second);
            }
        }
        for window in taken.windows(4) {
            assert!(window[3] - window[0] >= 60, "{window:?}");
        }
        assert_eq!(taken.len(), 30, "and is used");
    }

    #[test]
    fn who_is_refused_is_told_how_long_to_wait_and_that_is_right() {
        let mut rates = Rates::default();
        rates.count("shop", 2, at(10)).unwrap();
        rates.count("shop", 2, at(30)).unwrap();
        assert_eq!(rates.count("shop", 2, at(40)), Err(at(30)));
        assert_eq!(rates.count("shop", 1, at(40)), Err(at(50)), "a limit that was lowered");
        assert_eq!(rates.count("shop", 2, at(70)), Ok(()));
        assert_eq!(rates.count("shop", 0, at(500)), Err(at(60)));
    }

    #[test]
    fn a_namespace_takes_nothing_from_another_and_is_forgotten_after_a_minute() {
        let mut rates = Rates::default();
        for second in 0..20 {
            let _ = rates.count("loud", 1, at(second));
        }
        assert_eq!(rates.count("quiet", 1, at(20)), Ok(()));
        assert_eq!(rates.asked.len(), 2);
        rates.count("third", 1, at(100)).unwrap();
        assert_eq!(rates.asked.len(), 1);
    }
}
