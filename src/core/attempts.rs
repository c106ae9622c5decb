//! Steps that fail: when one is tried again, and when trying again cannot help.

use std::time::Duration;

use jiff::SignedDuration;

use crate::api::v1alpha1::Time;

/// Pause after the first failure.
const FIRST: Duration = Duration::from_millis(800);
/// Pause after a conflict: somebody else was faster, and what they wrote is there now.
const CONFLICT: Duration = Duration::from_millis(20);
/// Longest pause.
const LONGEST: Duration = Duration::from_secs(30);
/// Refusals in a row after which trying again cannot help.
const REFUSALS: u32 = 6;
/// Time over which they have to be spread, so that a webhook or a right that is just being changed passes.
const REFUSED_FOR: SignedDuration = SignedDuration::from_secs(20);
/// Characters kept of an error.
const MAX_ERROR: usize = 600;

/// What a failed request says about the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Somebody else was faster.
    Conflict,
    /// The same request will be refused again until a person changes something: a right, a webhook, a quota, a schema.
    Refused,
    /// It may work the next time.
    Passing,
}

impl Failure {
    /// What an HTTP status of the API server says. A full or slow server is not a refusal, nor is a token that is
    /// just being rotated.
    pub fn of_status(code: u16) -> Failure {
        match code {
            409 => Failure::Conflict,
            400 | 403 | 404 | 405 | 406 | 410 | 413 | 415 | 422 => Failure::Refused,
            _ => Failure::Passing,
        }
    }
}

/// The failures in a row of one object's steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempts {
    failures: u32,
    conflicts: u32,
    refusals: u32,
    first: Time,
    first_refusal: Option<Time>,
    last: Time,
    error: String,
}

impl Attempts {
    /// None so far.
    pub fn begin(now: Time) -> Attempts {
        Attempts {
            failures: 0,
            conflicts: 0,
            refusals: 0,
            first: now,
            first_refusal: None,
            last: now,
            error: String::new(),
        }
    }

    /// Counts one. `error` is text for people.
    pub fn failed(&mut self, failure: Failure, error: &str, now: Time) {
        self.last = now;
        match failure {
            Failure::Conflict => self.conflicts = self.conflicts.saturating_add(1),
            Failure::Refused => {
                self.failures = self.failures.saturating_add(1);
                self.refusals = self.refusals.saturating_add(1);
                self.first_refusal.get_or_insert(now);
            }
            Failure::Passing => self.failures = self.failures.saturating_add(1),
        }
        // A conflict explains nothing that lasts.
        if failure != Failure::Conflict || self.error.is_empty() {
            self.error = error.chars().take(MAX_ERROR).collect();
        }
    }

    /// Until the next attempt: twice as long after each failure, plus up to a quarter by `chance`, so that objects
    /// which failed together are not tried again together.
    pub fn pause(&self, chance: u8) -> Duration {
        let (first, times) = match self.failures {
            0 => (CONFLICT, self.conflicts),
            failures => (FIRST, failures),
        };
        let pause = first.saturating_mul(1 << times.saturating_sub(1).min(12)).min(LONGEST);
        pause + pause / 4 * u32::from(chance) / 255
    }

    /// Something fails here that is no mere conflict.
    pub fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// What the API server answers again and again, if trying once more cannot help.
    pub fn refused_for_good(&self, now: Time) -> Option<&str> {
        let since = self.first_refusal?;
        (self.refusals >= REFUSALS && now.duration_since(since) >= REFUSED_FOR).then_some(self.error.as_str())
    }

    /// Since when every step failed.
    pub fn since(&self) -> Time {
        self.first
    }

    /// When the last one failed.
    pub fn last(&self) -> Time {
        self.last
    }

    /// The last error, for people.
    pub fn error(&self) -> &str {
        &self.error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Time {
        Time::from_millisecond(1_800_000_000_000 + millis).unwrap()
    }

    #[test]
    fn pauses_double_up_to_a_bound_and_objects_that_failed_together_part() {
        let mut attempts = Attempts::begin(at(0));
        let mut pauses = vec![];
        for _ in 0..40 {
            attempts.failed(Failure::Passing, "no answer", at(0));
            pauses.push(attempts.pause(0));
        }
        assert_eq!(pauses[..3], [800, 1600, 3200].map(Duration::from_millis));
        assert!(pauses.iter().all(|pause| *pause <= LONGEST) && pauses[39] == LONGEST);
        assert_eq!(attempts.pause(255), LONGEST + LONGEST / 4);
    }

    #[test]
    fn a_lost_race_is_tried_again_at_once_and_a_lasting_one_is_not() {
        let mut attempts = Attempts::begin(at(0));
        attempts.failed(Failure::Conflict, "", at(0));
        assert_eq!(attempts.pause(0), CONFLICT);
        for _ in 0..20 {
            attempts.failed(Failure::Conflict, "", at(0));
        }
        assert!(attempts.pause(0) >= Duration::from_secs(5) && !attempts.is_failing());
    }

    #[test]
    fn what_is_refused_again_and_again_is_given_up_after_a_while_and_never_at_once() {
        let mut attempts = Attempts::begin(at(0));
        let mut now = 0;
        let mut tries = 0;
        while attempts.refused_for_good(at(now)).is_none() {
            attempts.failed(Failure::Refused, "quotas is forbidden", at(now));
            tries += 1;
            assert!(tries < 20, "it has an end");
            now += i64::try_from(attempts.pause(0).as_millis()).unwrap();
        }
        assert!((REFUSALS..=8).contains(&tries), "{tries}");
        assert!((20_000..60_000).contains(&now), "{now}");
        assert_eq!(attempts.refused_for_good(at(now)), Some("quotas is forbidden"));

        let mut burst = Attempts::begin(at(0));
        for _ in 0..50 {
            burst.failed(Failure::Refused, "", at(10));
        }
        assert_eq!(burst.refused_for_good(at(10)), None, "a right that is just being changed");
    }

    #[test]
    fn a_server_that_is_away_refuses_nothing() {
        for code in [401, 429, 500, 502, 503, 504] {
            assert_eq!(Failure::of_status(code), Failure::Passing, "{code}");
        }
        let mut attempts = Attempts::begin(at(0));
        for n in 0..100 {
            attempts.failed(Failure::Passing, "", at(n * 1000));
        }
        assert_eq!(attempts.refused_for_good(at(100_000)), None);
    }
}
