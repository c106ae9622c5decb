//! One breaker per source and namespace: a source that keeps failing is left alone for a while, so that it costs an
//! investigation nothing. Only faults of the source count; that something does not exist, or may not be read, is an answer.
//! What is slow about one namespace blinds nobody in another.

use std::{collections::HashMap, sync::Mutex, sync::PoisonError, time::Duration};

use crate::api::v1alpha1::{SourceName, Time};

/// Failures in a row that open a breaker.
const FAILURES: u32 = 5;
/// How long it stays open.
const OPEN: Duration = Duration::from_secs(30);
/// Breakers that are remembered. One that is forgotten is closed: the worst is a timeout.
const MAX: usize = 2048;

#[derive(Default)]
struct State {
    failures: u32,
    open_until: Option<Time>,
}

/// The breakers of all sources, for each namespace that is looked at.
#[derive(Default)]
pub struct Breakers(Mutex<HashMap<(SourceName, String), State>>);

impl Breakers {
    /// Whether a source may be asked about a namespace. When the time is over, one request may try.
    pub fn allows(&self, source: SourceName, namespace: &str, now: Time) -> bool {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(state) = states.get_mut(&(source, namespace.to_owned())) else { return true };
        match state.open_until {
            Some(until) if now < until => false,
            Some(_) => {
                // Others wait until this one answered.
                state.open_until = Some(now + OPEN);
                true
            }
            None => true,
        }
    }

    /// Records how a request ended.
    pub fn record(&self, source: SourceName, namespace: &str, failed: bool, now: Time) {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (source, namespace.to_owned());
        if !failed {
            states.remove(&key);
            return;
        }
        if states.len() >= MAX && !states.contains_key(&key) {
            states.retain(|_, state| state.open_until.is_some_and(|until| now < until));
        }
        if states.len() >= MAX && !states.contains_key(&key) {
            return;
        }
        let state = states.entry(key).or_default();
        state.failures = state.failures.saturating_add(1);
        if state.failures >= FAILURES {
            state.open_until = Some(now + OPEN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Time {
        Time::from_second(second).unwrap()
    }

    #[test]
    fn five_failures_in_a_row_close_a_source_for_half_a_minute_and_one_success_opens_it() {
        let (breakers, source) = (Breakers::default(), SourceName::Metrics);
        for _ in 0..5 {
            assert!(breakers.allows(source, "shop", at(0)));
            breakers.record(source, "shop", true, at(0));
        }
        assert!(!breakers.allows(source, "shop", at(29)));
        assert!(breakers.allows(SourceName::Pods, "shop", at(29)));
        assert!(breakers.allows(source, "shop", at(30)));
        assert!(!breakers.allows(source, "shop", at(31)), "only one request tries");
        breakers.record(source, "shop", false, at(31));
        assert!(breakers.allows(source, "shop", at(31)));
    }

    #[test]
    fn a_success_in_between_starts_the_count_again() {
        let (breakers, source) = (Breakers::default(), SourceName::Logs);
        for failed in [true, true, true, true, false, true] {
            breakers.record(source, "shop", failed, at(0));
        }
        assert!(breakers.allows(source, "shop", at(0)));
    }

    #[test]
    fn what_is_slow_about_some_namespaces_blinds_nobody_in_another_and_is_remembered_within_bounds() {
        let breakers = Breakers::default();
        for number in 0..10 * MAX {
            for _ in 0..FAILURES {
                breakers.record(SourceName::Workload, &format!("evil-{number}"), true, at(0));
            }
        }
        assert!(!breakers.allows(SourceName::Workload, "evil-0", at(1)));
        assert!(breakers.allows(SourceName::Workload, "shop", at(1)));
        assert!(breakers.0.lock().unwrap().len() <= MAX);
        // Those that were open make room once their time is over.
        for _ in 0..FAILURES {
            breakers.record(SourceName::Workload, "shop", true, at(60));
        }
        assert!(!breakers.allows(SourceName::Workload, "shop", at(61)));
    }
}
