//! Time and attempts of one request: one deadline for all of it, divided over the candidates that are left; at most
//! [`MOST_ATTEMPTS`] attempts and [`MOST_WAITING`] of pauses, whatever rungs and upstreams there are.

use std::time::Duration;

use super::moment::Moment;
use super::spec::Timers;

/// Attempts of one request.
pub const MOST_ATTEMPTS: u32 = 5;
/// Pauses of one request, all together.
pub const MOST_WAITING: Duration = Duration::from_secs(30);
/// The first pause before the same is asked again; each further one doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause that is not asked for by an upstream.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// A model that gets less than this hardly answers: rather fewer candidates are asked, each with as much.
pub const USEFUL: Duration = Duration::from_secs(2);
/// An attempt with less than this is not made: it would be paid for and bring nothing. Nor is a pause that is shorter.
pub const LEAST: Duration = Duration::from_millis(100);
/// A limit of this length is fair to any upstream.
const FAIR: Duration = Duration::from_secs(10);

/// What a request may still take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// When it has to be over.
    pub deadline: Moment,
    /// Attempts that are left.
    pub attempts: u32,
    /// Pauses that are left.
    pub waiting: Duration,
}

impl Allowance {
    /// Of a request that begins now and may take `time`.
    pub fn new(time: Duration, now: Moment) -> Allowance {
        Allowance { deadline: now.after(time), attempts: MOST_ATTEMPTS, waiting: MOST_WAITING }
    }

    /// The time of the next attempt when so many candidates, this one included, may still be asked: an equal share of
    /// what is left. The last one gets all. `None`: too little is left.
    pub fn share(&self, candidates: u32, now: Moment) -> Option<Duration> {
        let left = now.until(self.deadline);
        if self.attempts == 0 || left < LEAST {
            return None;
        }
        let with_enough = u32::try_from(left.as_millis() / USEFUL.as_millis()).unwrap_or(u32::MAX);
        let parts = candidates.min(self.attempts).min(with_enough).max(1);
        Some(left / parts)
    }

    /// The pause before an attempt that so many were made before in vain, from 1: doubling, with jitter below, never
    /// above its longest, and cut so that a useful attempt fits behind it. `None`: none fits.
    pub fn pause(&self, before: u32, chance: f64, now: Moment) -> Option<Duration> {
        let doubled = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(before.saturating_sub(1)));
        let chance = if chance.is_finite() { chance.clamp(0.0, 1.0) } else { 1.0 };
        let pause = doubled.min(LONGEST_PAUSE).mul_f64(0.5 + chance / 2.0);
        let room = now.until(self.deadline).checked_sub(USEFUL)?;
        let pause = pause.min(room).min(self.waiting);
        (self.attempts > 0 && pause >= LEAST).then_some(pause)
    }

    /// The pause that an upstream asks for, in full. `None`: an attempt behind it does not fit into one of so many equal
    /// shares of what is left.
    pub fn obeyed(&self, wait: Duration, candidates: u32, now: Moment) -> Option<Duration> {
        let share = self.share(candidates, now)?;
        let behind = if share < USEFUL.saturating_mul(2) { LEAST } else { USEFUL };
        (wait <= self.waiting && wait.saturating_add(behind) <= share).then_some(wait)
    }
}

/// Whether an attempt with that limit had as much time as a healthy upstream with these timers takes at most: else its
/// running out says nothing about the upstream.
pub fn is_fair(limit: Duration, timers: &Timers) -> bool {
    let Timers { connect, response_head, first_event, first_content, idle: _ } = timers;
    let first_word = (*response_head).max(*first_event).max(*first_content);
    limit >= connect.saturating_add(first_word).min(FAIR)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn at(milliseconds: u64) -> Moment {
        Moment(ms(milliseconds))
    }

    #[test]
    fn the_deadline_is_divided_over_the_candidates_that_are_left_and_the_last_gets_the_rest() {
        let allowance = Allowance::new(ms(60_000), at(0));
        assert_eq!(allowance.share(3, at(0)), Some(ms(20_000)));
        assert_eq!(allowance.share(2, at(5_000)), Some(ms(27_500)), "what one did not use is for the others");
        assert_eq!(allowance.share(1, at(45_000)), Some(ms(15_000)));
        assert_eq!(allowance.share(20, at(0)), Some(ms(12_000)), "there are five attempts at most");
        assert_eq!(allowance.share(5, at(55_000)), Some(ms(2500)), "rather two with enough time than five without");
        assert_eq!(allowance.share(5, at(59_500)), Some(ms(500)));
        assert_eq!(allowance.share(1, at(59_950)), None);
        assert_eq!(Allowance { attempts: 0, ..allowance }.share(1, at(0)), None);
    }

    #[test]
    fn pauses_double_up_to_their_longest_and_jitter_only_shortens_them() {
        let allowance = Allowance::new(ms(600_000), at(0));
        let longest: Vec<Duration> = (1..=7).filter_map(|before| allowance.pause(before, 1.0, at(0))).collect();
        assert_eq!(longest, [500, 1000, 2000, 4000, 8000, 8000, 8000].map(ms));
        assert_eq!(allowance.pause(3, 0.0, at(0)), Some(ms(1000)));
        assert_eq!(allowance.pause(u32::MAX, f64::NAN, at(0)), Some(ms(8000)));
    }

    #[test]
    fn a_pause_leaves_room_for_an_attempt_or_is_not_made() {
        let allowance = Allowance::new(ms(10_000), at(0));
        assert_eq!(allowance.pause(5, 1.0, at(7_000)), Some(ms(1000)), "cut to what is left before a useful attempt");
        assert_eq!(allowance.pause(1, 1.0, at(8_500)), None);
        assert_eq!(Allowance { attempts: 0, ..allowance }.pause(1, 1.0, at(0)), None, "never after the last attempt");
        assert_eq!(Allowance { waiting: ms(200), ..allowance }.pause(1, 1.0, at(0)), Some(ms(200)));
        assert_eq!(
            Allowance { waiting: ms(20), ..allowance }.pause(1, 1.0, at(0)),
            None,
            "no hammering without a pause"
        );
    }

    #[test]
    fn what_an_upstream_asks_for_is_waited_for_in_full_or_not_at_all() {
        let allowance = Allowance::new(ms(60_000), at(0));
        assert_eq!(allowance.obeyed(ms(1000), 2, at(0)), Some(ms(1000)));
        assert_eq!(allowance.obeyed(ms(29_000), 2, at(0)), None, "the share of this candidate is 30 s");
        assert_eq!(allowance.obeyed(ms(29_000), 1, at(0)), Some(ms(29_000)));
        assert_eq!(allowance.obeyed(ms(31_000), 1, at(0)), None, "30 s of pauses in all");
        assert_eq!(allowance.obeyed(ms(90_000), 1, at(0)), None);
        assert_eq!(Allowance::new(ms(3000), at(0)).obeyed(ms(1000), 1, at(0)), Some(ms(1000)));
    }

    #[test]
    fn only_an_attempt_with_as_much_time_as_the_upstream_may_take_says_something_about_it() {
        let direct = Timers {
            connect: ms(2000),
            response_head: ms(30_000),
            first_event: ms(30_000),
            first_content: ms(30_000),
            idle: ms(10_000),
        };
        assert!(is_fair(ms(10_000), &direct) && !is_fair(ms(9_999), &direct));
        let quick =
            Timers { connect: ms(100), response_head: ms(50), first_event: ms(50), first_content: ms(400), ..direct };
        assert!(is_fair(ms(500), &quick) && !is_fair(ms(499), &quick));
    }

    proptest! {
        #[test]
        fn no_share_and_no_pause_ends_behind_the_deadline(
            time in 0_u64..400_000, now in 0_u64..500_000, candidates in 0_u32..20, attempts in 0_u32..7,
            waiting in 0_u64..40_000, before in 0_u32..40, chance in proptest::num::f64::ANY, wait in 0_u64..100_000,
        ) {
            let allowance = Allowance { attempts, waiting: ms(waiting), ..Allowance::new(ms(time), at(0)) };
            let ends = |length: Duration| at(now).after(length) <= allowance.deadline;
            prop_assert!(allowance.share(candidates, at(now)).is_none_or(ends));
            let within = |pause: Duration| ends(pause) && pause <= allowance.waiting;
            prop_assert!(allowance.pause(before, chance, at(now)).is_none_or(|it| within(it) && it <= LONGEST_PAUSE));
            prop_assert!(allowance.obeyed(ms(wait), candidates, at(now)).is_none_or(|it| within(it) && it == ms(wait)));
        }
    }
}
