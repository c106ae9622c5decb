//! Leader election by a Lease: who may take it, and when.
//!
//! Clocks of different machines are never compared. A Lease has expired when it was not *seen to change*, by this
//! process's own monotonic clock, for as long as its holder promised to renew it.

use std::time::Duration;

/// How long a Lease is valid after its last renewal.
pub const DURATION: Duration = Duration::from_secs(15);
/// A holder that could not renew for this long stops, well before another process may take over.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Interval between attempts, for the holder and for those that wait.
pub const RETRY: Duration = Duration::from_secs(2);

/// Accepted range of the duration in a Lease, which anyone with write access may have set.
const SANE: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(120);

/// What a Lease says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseRecord {
    /// Who holds it; empty after a release.
    pub holder: String,
    /// Lease duration that the holder set.
    pub duration: Option<Duration>,
    /// When this holder took it, as it wrote it. Compared for equality only.
    pub acquired: String,
    /// When this holder last renewed it, as it wrote it. Compared for equality only.
    pub renewed: String,
    /// Number of changes of the holder.
    pub transitions: i32,
}

/// A [`LeaseRecord`] and when this process first saw it so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    record: LeaseRecord,
    since: Duration,
}

impl Observed {
    /// Sees `record` at `now` (a monotonic reading of this process). The wait restarts only if it changed.
    pub fn update(previous: Option<Observed>, record: LeaseRecord, now: Duration) -> Observed {
        match previous {
            Some(previous) if previous.record == record => previous,
            _ => Observed { record, since: now },
        }
    }
}

/// Whether a Lease may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It was released.
    Released,
    /// This pod already holds it: an earlier run of the same pod took it and has ended.
    Ours,
    /// It was not renewed in time.
    Expired,
    /// Another process holds it; try again after this time.
    Wait(Duration),
}

/// Whether `me` may take the observed Lease at `now`, a monotonic reading of this process.
pub fn claimable(observed: &Observed, me: &str, now: Duration) -> Claim {
    let Observed { record, since } = observed;
    if record.holder.is_empty() {
        return Claim::Released;
    }
    if record.holder == me {
        return Claim::Ours;
    }
    let promised = record.duration.unwrap_or(DURATION).clamp(*SANE.start(), *SANE.end());
    match (*since + promised).checked_sub(now) {
        None | Some(Duration::ZERO) => Claim::Expired,
        Some(rest) => Claim::Wait(rest.min(RETRY)),
    }
}

/// Whether a Lease that answered "conflict" to a renewal is still the one that this process took. The same name
/// with another time of acquisition is another run of this pod, and it has taken over.
pub fn still_mine(record: &LeaseRecord, me: &str, acquired: &str) -> bool {
    record.holder == me && record.acquired == acquired
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn held_by(holder: &str, renewed: &str) -> LeaseRecord {
        LeaseRecord {
            holder: holder.into(),
            duration: Some(s(15)),
            acquired: "t0".into(),
            renewed: renewed.into(),
            transitions: 1,
        }
    }

    #[test]
    fn a_lease_of_another_is_left_alone_until_it_was_silent_for_its_whole_duration() {
        let seen = Observed::update(None, held_by("other", "t1"), s(100));
        assert_eq!(claimable(&seen, "me", s(100)), Claim::Wait(RETRY));
        assert_eq!(claimable(&seen, "me", s(114)), Claim::Wait(s(1)));
        assert_eq!(claimable(&seen, "me", s(115)), Claim::Expired);
    }

    #[test]
    fn a_renewal_restarts_the_wait_and_the_same_record_does_not() {
        let seen = Observed::update(None, held_by("other", "t1"), s(100));
        let same = Observed::update(Some(seen.clone()), held_by("other", "t1"), s(114));
        assert_eq!(claimable(&same, "me", s(115)), Claim::Expired);
        let renewed = Observed::update(Some(seen), held_by("other", "t2"), s(114));
        assert_eq!(claimable(&renewed, "me", s(115)), Claim::Wait(RETRY));
    }

    #[test]
    fn a_clock_that_is_wrong_in_the_lease_changes_nothing() {
        let past = Observed::update(None, held_by("other", "1970-01-01T00:00:00Z"), s(100));
        assert_eq!(claimable(&past, "me", s(101)), Claim::Wait(RETRY));
        let future = Observed::update(None, held_by("other", "2999-01-01T00:00:00Z"), s(100));
        assert_eq!(claimable(&future, "me", s(115)), Claim::Expired);
    }

    #[test]
    fn a_restarted_pod_retakes_its_own_lease_at_once() {
        assert_eq!(claimable(&Observed::update(None, held_by("me", "t1"), s(5)), "me", s(5)), Claim::Ours);
    }

    #[test]
    fn a_released_lease_is_free_at_once() {
        assert_eq!(claimable(&Observed::update(None, held_by("", "t1"), s(5)), "me", s(5)), Claim::Released);
    }

    #[test]
    fn an_absurd_duration_cannot_lock_everybody_out() {
        let mut record = held_by("other", "t1");
        record.duration = Some(Duration::from_secs(u64::from(u32::MAX)));
        let seen = Observed::update(None, record, s(0));
        assert_eq!(claimable(&seen, "me", s(119)), Claim::Wait(s(1)));
        assert_eq!(claimable(&seen, "me", s(120)), Claim::Expired);
    }

    #[test]
    fn a_holder_stops_well_before_anybody_else_may_start() {
        assert!(RENEW_DEADLINE + RETRY < DURATION);
    }

    #[test]
    fn another_run_under_the_same_name_has_taken_over() {
        let record = held_by("me", "t9");
        assert!(still_mine(&record, "me", "t0"));
        assert!(!still_mine(&record, "me", "t5"));
        assert!(!still_mine(&record, "other", "t0"));
    }
}
