//! Trials of a half-open breaker that fail because of what a tenant asked.

use super::*;

const LEASE: Duration = Duration::from_secs(20);
const ASKED_FOR: Verdict = Verdict::Failed(Blame::Asker);

fn seconds(seconds: u64) -> Moment {
    Moment(Duration::from_secs(seconds))
}

fn call(breaker: &mut Breaker, who: Option<&Tenant>, verdict: Verdict, now: Moment) -> Option<Vec<Told>> {
    let (ticket, mut told) = breaker.begin(who, LEASE, now)?;
    told.extend(breaker.end(ticket, verdict, &Terms::default(), now));
    Some(told)
}

/// Open for all until second 5.
fn open() -> Breaker {
    let mut breaker = Breaker::default();
    for _ in 0..5 {
        call(&mut breaker, None, Verdict::Failed(Blame::Everyone), seconds(0)).unwrap();
    }
    breaker
}

#[test]
fn a_tenants_own_failing_question_as_the_trial_keeps_nobody_else_out() {
    let (noisy, quiet): (Tenant, Tenant) = ("noisy".into(), "quiet".into());
    let mut breaker = open();
    // As often and as soon as it may, it tries.
    for second in 5..100 {
        call(&mut breaker, Some(&noisy), ASKED_FOR, seconds(second));
        assert_eq!(breaker.pass(Some(&quiet), seconds(second)), Pass::Trial, "{second}");
        assert_eq!(breaker.pass(None, seconds(second)), Pass::Trial, "{second}: a probe may too");
        assert!(matches!(breaker.pass(Some(&noisy), seconds(second)), Pass::Shut(_)), "{second}: others go first");
    }
    let told = call(&mut breaker, Some(&quiet), Verdict::Worked, seconds(100)).unwrap();
    assert_eq!(told, [(None, Change::Closed)]);
    assert_eq!(breaker.pass(Some(&quiet), seconds(100)), Pass::Free);
}

#[test]
fn what_fails_for_a_second_tenant_or_for_a_probe_too_is_the_upstreams() {
    for second in [Some("quiet".into()), None] {
        let mut breaker = open();
        call(&mut breaker, Some(&"noisy".into()), ASKED_FOR, seconds(5)).unwrap();
        let told = call(&mut breaker, second.as_ref(), ASKED_FOR, seconds(6)).unwrap();
        assert_eq!(told[0], (None, Change::Opened { until: seconds(16), cause: Cause::Trial }));
        assert!(matches!(breaker.pass(Some(&"third".into()), seconds(7)), Pass::Shut(_)));
    }
}

#[test]
fn the_only_tenant_there_is_may_try_again_after_a_pause_and_its_success_closes_it() {
    let only: Tenant = "only".into();
    let mut breaker = open();
    call(&mut breaker, Some(&only), ASKED_FOR, seconds(5)).unwrap();
    assert_eq!(breaker.pass(Some(&only), seconds(14)), Pass::Shut(seconds(15)), "as long as it would have been open");
    let told = call(&mut breaker, Some(&only), Verdict::Worked, seconds(15)).unwrap();
    assert!(told.contains(&(None, Change::Closed)), "{told:?}");
}
