//! One breaker per source: a source that keeps failing is left alone for a while, so that it costs an investigation
//! nothing. Only faults of the source count; that something does not exist, or may not be read, is an answer.

use std::{collections::HashMap, sync::Mutex, sync::PoisonError, time::Duration};

use crate::api::v1alpha1::{SourceName, Time};

/// Failures in a row that open a breaker.
const FAILURES: u32 = 5;
/// How long it stays open.
const OPEN: Duration = Duration::from_secs(30);

#[derive(Default)]
struct State {
    failures: u32,
    open_until: Option<Time>,
}

/// The breakers of all sources.
#[derive(Default)]
pub struct Breakers(Mutex<HashMap<SourceName, State>>);

impl Breakers {
    /// Whether a source may be asked. When the time is over, one request may try.
    pub fn allows(&self, source: SourceName, now: Time) -> bool {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let state = states.entry(source).or_default();
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
    pub fn record(&self, source: SourceName, failed: bool, now: Time) {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let state = states.entry(source).or_default();
        if failed {
            state.failures = state.failures.saturating_add(1);
            if state.failures >= FAILURES {
                state.open_until = Some(now + OPEN);
            }
        } else {
            *state = State::default();
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
            assert!(breakers.allows(source, at(0)));
            breakers.record(source, true, at(0));
        }
        assert!(!breakers.allows(source, at(29)));
        assert!(breakers.allows(SourceName::Pods, at(29)));
        assert!(breakers.allows(source, at(30)));
        assert!(!breakers.allows(source, at(31)), "only one request tries");
        breakers.record(source, false, at(31));
        assert!(breakers.allows(source, at(31)));
    }

    #[test]
    fn a_success_in_between_starts_the_count_again() {
        let (breakers, source) = (Breakers::default(), SourceName::Logs);
        for failed in [true, true, true, true, false, true] {
            breakers.record(source, failed, at(0));
        }
        assert!(breakers.allows(source, at(0)));
    }
}
