use proptest::prelude::*;

use super::*;

fn at(milliseconds: u64) -> Moment {
    Moment(Duration::from_millis(milliseconds))
}

fn seconds(seconds: u64) -> Moment {
    at(seconds * 1000)
}

const LEASE: Duration = Duration::from_secs(20);
const FAILED: Verdict = Verdict::Failed(Blame::Everyone);
const ASKED_FOR: Verdict = Verdict::Failed(Blame::Asker);

fn call(breaker: &mut Breaker, who: Option<&Tenant>, verdict: Verdict, now: Moment) -> Option<Vec<Change>> {
    let (ticket, mut told) = breaker.begin(who, LEASE, now)?;
    told.extend(breaker.end(ticket, verdict, &Terms::default(), now));
    Some(told.into_iter().map(|(_, change)| change).collect())
}

fn open(now: Moment) -> Breaker {
    let mut breaker = Breaker::default();
    for _ in 0..5 {
        call(&mut breaker, None, FAILED, now).unwrap();
    }
    assert!(matches!(breaker.stands(now), Stands::Open { .. }));
    breaker
}

#[test]
fn five_failures_in_a_row_open_it_and_a_success_between_does_not_let_them_be_in_a_row() {
    let mut breaker = Breaker::default();
    for verdict in [FAILED, FAILED, FAILED, FAILED, Verdict::Worked, FAILED, FAILED, FAILED, FAILED] {
        assert_eq!(call(&mut breaker, None, verdict, at(0)), Some(vec![]));
    }
    let opened = Change::Opened { until: seconds(5), cause: Cause::InARow(5) };
    assert_eq!(call(&mut breaker, None, FAILED, at(0)), Some(vec![opened]));
    assert_eq!(call(&mut breaker, None, FAILED, at(4999)), None, "nobody passes");
    assert_eq!(breaker.pass(None, at(4999)), Pass::Shut(seconds(5)));
}

#[test]
fn what_says_nothing_about_the_upstream_never_opens_it() {
    let mut breaker = Breaker::default();
    for number in 0..1000 {
        assert_eq!(call(&mut breaker, None, Verdict::Nothing, at(number)), Some(vec![]));
    }
}

#[test]
fn half_open_lets_exactly_one_call_through() {
    let mut breaker = open(at(0));
    let (trial, told) = breaker.begin(None, LEASE, seconds(5)).unwrap();
    assert_eq!(told, [(None, Change::HalfOpened)]);
    for _ in 0..100 {
        assert!(breaker.begin(None, LEASE, seconds(6)).is_none(), "a second one while the first is under way");
    }
    assert_eq!(breaker.stands(seconds(6)), Stands::HalfOpen);
    let told = breaker.end(trial, Verdict::Worked, &Terms::default(), seconds(7));
    assert_eq!(told, [(None, Change::Closed)], "a success that is recorded in half-open closes it");
    assert_eq!(breaker.pass(None, seconds(7)), Pass::Free);
}

#[test]
fn each_failed_trial_doubles_the_open_time_up_to_five_minutes() {
    let mut breaker = open(at(0));
    let mut now = seconds(5);
    for lasts in [10, 20, 40, 80, 160, 300, 300, 300] {
        let told = call(&mut breaker, None, FAILED, now).unwrap();
        let until = now.after(Duration::from_secs(lasts));
        assert_eq!(told, [Change::HalfOpened, Change::Opened { until, cause: Cause::Trial }]);
        now = until;
    }
    call(&mut breaker, None, Verdict::Worked, now).unwrap();
    for _ in 0..4 {
        call(&mut breaker, None, FAILED, now).unwrap();
    }
    let again = call(&mut breaker, None, FAILED, now).unwrap();
    let until = now.after(Duration::from_secs(5));
    assert_eq!(again, [Change::Opened { until, cause: Cause::InARow(5) }], "once closed, it begins anew");
}

#[test]
fn half_of_the_calls_of_a_minute_failing_opens_it_for_five_minutes() {
    let mut breaker = Breaker::default();
    for number in 0..9 {
        let verdict = if number % 2 == 0 { FAILED } else { Verdict::Worked };
        assert_eq!(call(&mut breaker, None, verdict, seconds(number)), Some(vec![]));
    }
    let told = call(&mut breaker, None, FAILED, seconds(9)).unwrap();
    let cause = Cause::Share { failed: 6, of: 10 };
    assert_eq!(told, [Change::Opened { until: seconds(309), cause }]);
    let mut slow = Breaker::default();
    for number in 0..100 {
        let verdict = if number % 2 == 0 { FAILED } else { Verdict::Worked };
        assert_eq!(
            call(&mut slow, None, verdict, seconds(number * 10)),
            Some(vec![]),
            "six calls a minute are no share"
        );
    }
}

#[test]
fn a_trial_that_nobody_ends_does_not_keep_it_half_open_for_ever() {
    let mut breaker = open(at(0));
    let (lost, _) = breaker.begin(None, LEASE, seconds(5)).unwrap();
    assert!(breaker.begin(None, LEASE, seconds(24)).is_none());
    let (second, told) = breaker.begin(None, LEASE, seconds(25)).unwrap();
    assert_eq!(told, [], "it was half-open before");
    assert_eq!(breaker.end(lost, Verdict::Worked, &Terms::default(), seconds(26)), [], "it came too late");
    assert_eq!(breaker.end(second, Verdict::Worked, &Terms::default(), seconds(26)), [(None, Change::Closed)]);
}

#[test]
fn a_trial_that_says_nothing_leaves_room_for_the_next() {
    let mut breaker = open(at(0));
    assert_eq!(call(&mut breaker, None, Verdict::Nothing, seconds(5)), Some(vec![Change::HalfOpened]));
    assert_eq!(breaker.pass(None, seconds(5)), Pass::Trial);
    assert_eq!(call(&mut breaker, None, Verdict::Worked, seconds(5)), Some(vec![Change::Closed]));
}

#[test]
fn late_results_of_calls_from_before_change_nothing() {
    let mut breaker = Breaker::default();
    let (early, _) = breaker.begin(None, LEASE, at(0)).unwrap();
    let (other, _) = breaker.begin(None, LEASE, at(0)).unwrap();
    for _ in 0..5 {
        call(&mut breaker, None, FAILED, at(1)).unwrap();
    }
    assert_eq!(breaker.end(early, Verdict::Worked, &Terms::default(), at(2)), [], "it began before it opened");
    assert_eq!(breaker.end(other, FAILED, &Terms::default(), at(2)), [], "and it opens no further");
    assert_eq!(breaker.pass(None, at(2)), Pass::Shut(at(5001)));
}

#[test]
fn what_one_tenant_asks_for_stops_only_this_tenant() {
    let (noisy, quiet): (Tenant, Tenant) = ("noisy".into(), "quiet".into());
    let mut breaker = Breaker::default();
    assert_eq!(call(&mut breaker, Some(&noisy), ASKED_FOR, at(0)), Some(vec![]));
    assert_eq!(call(&mut breaker, Some(&noisy), ASKED_FOR, at(0)), Some(vec![]));
    let (ticket, _) = breaker.begin(Some(&noisy), LEASE, at(0)).unwrap();
    let told = breaker.end(ticket, ASKED_FOR, &Terms::default(), at(0));
    let opened = Change::Opened { until: seconds(5), cause: Cause::InARow(3) };
    assert_eq!(told, [(Some(noisy.clone()), opened)]);
    assert_eq!(breaker.pass(Some(&noisy), at(1)), Pass::Shut(seconds(5)));
    assert_eq!(breaker.pass(Some(&quiet), at(1)), Pass::Free);
    assert_eq!(breaker.pass(None, at(1)), Pass::Free);
    // As often as it may try, alone it never opens the breaker of all.
    let mut now = seconds(5);
    for _ in 0..50 {
        call(&mut breaker, Some(&noisy), ASKED_FOR, now);
        now = now.after(Duration::from_secs(301));
        assert_eq!(breaker.stands(now), Stands::Closed);
    }
    assert_eq!(call(&mut breaker, Some(&noisy), Verdict::Worked, now), Some(vec![Change::HalfOpened, Change::Closed]));
    assert!(breaker.tenants.is_empty(), "nothing is kept of those with whom all is well");
}

#[test]
fn two_tenants_with_the_same_trouble_open_it_for_all() {
    let mut breaker = Breaker::default();
    for name in ["one", "other"] {
        for _ in 0..3 {
            call(&mut breaker, Some(&name.into()), ASKED_FOR, at(0));
        }
    }
    assert!(matches!(breaker.stands(at(1)), Stands::Open { .. }));
    assert!(matches!(breaker.pass(Some(&"third".into()), at(1)), Pass::Shut(_)));
}

#[test]
fn what_it_knows_of_tenants_is_bounded() {
    let mut breaker = Breaker::default();
    for number in 0..1000 {
        call(&mut breaker, Some(&format!("t{number}").into()), ASKED_FOR, seconds(number * 61));
        call(&mut breaker, None, Verdict::Worked, seconds(number * 61));
    }
    assert!(breaker.tenants.len() <= MAX_TENANTS && breaker.all.calls.len() <= MAX_CALLS);
}

/// What may be wrong with a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Defect {
    None,
    /// Half-open lets everyone through.
    Unlimited,
    /// The success of a trial is not recorded.
    NeverCloses,
    /// A failed trial leaves it closed.
    NeverReopens,
    /// The open time does not grow.
    DoesNotGrow,
    /// Late results count.
    CountsLate,
}

/// Callers come and go at random while the upstream is broken, then well again. What a breaker has to keep to.
fn violations(seed: u64, defect: Defect) -> Vec<&'static str> {
    let mut next = seed;
    let mut random = move |below: u64| {
        next = next.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (next >> 33) % below
    };
    let terms = Terms::default();
    let mut breaker = Breaker::default();
    // The ticket, whether it is a trial, when that is given up for lost, and when the call ends at the earliest.
    let mut under_way: Vec<(Ticket, bool, Moment, Moment)> = Vec::new();
    let mut wrong = Vec::new();
    let mut now = at(0);
    let (mut last_open, mut passed_broken) = (None, 0_u32);
    let mut closed_with_trial = false;
    for step in 0..4000_u64 {
        now = now.after(Duration::from_millis(random(400)));
        let broken = step < 2500;
        if defect == Defect::Unlimited && matches!(breaker.all.state, State::Trying { .. }) {
            breaker.all.state = State::Trying { lease: None };
        }
        if let Some((ticket, told)) = breaker.begin(None, LEASE, now) {
            let trial = breaker.all.state != State::Closed;
            if trial && under_way.iter().any(|(_, trial, lease, _)| *trial && now < *lease) {
                wrong.push("two trials at once");
            }
            if told.iter().any(|(_, change)| *change != Change::HalfOpened) {
                wrong.push("a begin changed more than to half-open");
            }
            passed_broken += u32::from(broken);
            let takes = Duration::from_millis(if random(5) == 0 { random(30_000) } else { random(800) });
            under_way.push((ticket, trial, now.after(LEASE), now.after(takes)));
        }
        while let Some(at) = under_way.iter().position(|(.., ends)| *ends <= now) {
            let (mut ticket, trial, ..) = under_way.swap_remove(at);
            let mut verdict = if broken { FAILED } else { Verdict::Worked };
            let late = ticket.all != breaker.all.epoch;
            match defect {
                Defect::CountsLate => ticket.all = breaker.all.epoch,
                Defect::NeverCloses if trial && verdict == Verdict::Worked => verdict = Verdict::Nothing,
                Defect::NeverReopens if trial && verdict == FAILED => verdict = Verdict::Worked,
                Defect::DoesNotGrow => breaker.all.openings = 0,
                _ => {}
            }
            let before = breaker.all.state;
            for (_, change) in breaker.end(ticket, verdict, &terms, now) {
                if late {
                    wrong.push("a late result changed it");
                }
                match change {
                    Change::Opened { until, cause } => {
                        let lasts = now.until(until);
                        let grows = last_open
                            .is_none_or(|last: Duration| lasts >= last.saturating_mul(2).min(terms.longest_open));
                        if cause == Cause::Trial && !grows {
                            wrong.push("the open time did not double");
                        }
                        last_open = Some(lasts);
                    }
                    Change::Closed => {
                        closed_with_trial |= !broken && matches!(before, State::Trying { .. });
                        if broken {
                            wrong.push("it closed while the upstream was broken");
                        }
                    }
                    Change::HalfOpened => {}
                }
            }
        }
    }
    if passed_broken > 60 {
        wrong.push("a broken upstream was asked again and again");
    }
    if !closed_with_trial || breaker.stands(now) != Stands::Closed {
        wrong.push("it did not close when the upstream was well again");
    }
    wrong
}

proptest! {
    #[test]
    fn whatever_the_order_of_calls_and_results_it_keeps_to_its_rules(seed: u64) {
        prop_assert_eq!(violations(seed, Defect::None), Vec::<&str>::new());
    }
}

#[test]
fn planted_defects_of_a_breaker_are_caught() {
    for defect in
        [Defect::Unlimited, Defect::NeverCloses, Defect::NeverReopens, Defect::DoesNotGrow, Defect::CountsLate]
    {
        let caught = (0..20).any(|seed| !violations(seed, defect).is_empty());
        assert!(caught, "{defect:?} was not caught");
    }
}
