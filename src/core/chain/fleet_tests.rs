use super::*;
use crate::api::v1alpha1::{ModelApi, ModelCredentials, Time, UpstreamState};
use crate::core::chain::decision::decide;
use crate::core::chain::failure::classify;
use crate::core::chain::fixtures::{chain, upstream};
use crate::core::chain::signal::{Finish, Headers, Seen, Signal};
use crate::core::chain::spec::BreakerTerms;

const LIMIT: Duration = Duration::from_secs(10);

fn at(seconds: u64) -> Moment {
    Moment(Duration::from_secs(seconds))
}

fn time() -> Time {
    "2026-11-27T10:00:00Z".parse().unwrap()
}

fn failure(status: u16, headers: &[(&str, &str)]) -> Failure {
    let headers = Headers::of(headers.iter().copied());
    let signal = Signal { status: Some(status), headers, ..Signal::new(ModelApi::OpenAiChat, Seen::Status) };
    classify(&signal, time())
}

fn said(status: u16, kind: &str) -> Failure {
    let error = crate::core::chain::signal::ErrorSaid { kind: Some(kind.into()), ..Default::default() };
    let signal = Signal { status: Some(status), error, ..Signal::new(ModelApi::AnthropicMessages, Seen::Status) };
    classify(&signal, time())
}

fn ids(fleet: &Fleet) -> Vec<Id> {
    fleet.members.iter().map(|member| member.id).collect()
}

fn fails(fleet: &mut Fleet, id: Id, failure: &Failure, now: Moment) -> Vec<What> {
    let (asked, mut told) = fleet.begin(id, None, LIMIT, now).unwrap();
    told.extend(fleet.end(asked, End::Failed(failure, &decide(failure, &[], true)), now));
    told.into_iter().map(|transition| transition.what).collect()
}

fn answers(fleet: &mut Fleet, id: Id, now: Moment) -> Vec<What> {
    let (asked, mut told) = fleet.begin(id, None, LIMIT, now).unwrap();
    told.extend(fleet.end(asked, End::Answered, now.after(Duration::from_millis(700))));
    told.into_iter().map(|transition| transition.what).collect()
}

fn standings(fleet: &Fleet, now: Moment) -> Vec<Standing> {
    ids(fleet).into_iter().map(|id| fleet.standing(id, None, now)).collect()
}

#[test]
fn a_limit_cools_down_every_upstream_of_the_quota_and_no_other() {
    let shared = |name| Upstream { quota_scope: "team".into(), ..upstream(name, 100) };
    let chain = chain(vec![vec![shared("a"), upstream("b", 100)], vec![shared("c")]]);
    let mut fleet = Fleet::new(&chain, Terms::default());
    let a = ids(&fleet)[0];
    let told = fails(&mut fleet, a, &failure(429, &[("retry-after", "20")]), at(0));
    let lasts = Duration::from_secs(20);
    assert_eq!(told, [What::CoolingDown { lasts, class: Class::RateLimited, quota: Some("team".into()) }]);
    let cooling = Standing::CoolingDown(at(20));
    assert_eq!(standings(&fleet, at(19)), [cooling, Standing::Free, cooling]);
    assert_eq!(standings(&fleet, at(20)), [Standing::Free; 3]);
    fails(&mut fleet, a, &failure(429, &[]), at(20));
    assert_eq!(standings(&fleet, at(319))[0], Standing::CoolingDown(at(320)), "five minutes where it does not say");
}

#[test]
fn refused_credentials_put_all_that_use_them_in_quarantine_until_they_or_the_chain_change() {
    let key = |name| {
        let credentials = ModelCredentials { secret: "key".into(), ..upstream("x", 1).credentials.unwrap() };
        Upstream { credentials: Some(credentials), ..upstream(name, 100) }
    };
    let mut chain = chain(vec![vec![key("a"), upstream("b", 100)], vec![key("c")]]);
    let mut fleet = Fleet::new(&chain, Terms::default());
    let a = ids(&fleet)[0];
    let quarantined = What::Quarantined { class: Class::CredentialsRefused };
    assert_eq!(fails(&mut fleet, a, &failure(401, &[]), at(0)), [quarantined.clone(), quarantined.clone()]);
    let both = [Standing::Quarantined, Standing::Free, Standing::Quarantined];
    assert_eq!(standings(&fleet, at(1_000_000)), both);
    assert_eq!(fleet.to_probe(Duration::from_secs(90), at(29)).len(), 1, "not at once");
    assert_eq!(fleet.credentials_changed("another"), []);
    assert_eq!(fleet.credentials_changed("key").len(), 2);
    assert_eq!(standings(&fleet, at(1)), [Standing::Free; 3]);
    let refused = said(403, "permission_error");
    assert_eq!(fails(&mut fleet, a, &refused, at(2)), [quarantined], "403 may be due to this one model");
    assert_eq!(standings(&fleet, at(2))[2], Standing::Free);
    assert_eq!(fleet.follow(&chain), [], "nobody changed anything");
    chain.generation = 2;
    assert_eq!(fleet.follow(&chain).len(), 1);
    assert_eq!(standings(&fleet, at(3)), [Standing::Free; 3]);
}

#[test]
fn what_is_known_of_an_upstream_outlives_changes_around_it_and_a_result_finds_its_upstream() {
    let mut chain = chain(vec![vec![upstream("a", 100), upstream("b", 100)]]);
    let mut fleet = Fleet::new(&chain, Terms::default());
    let (a, b) = (ids(&fleet)[0], ids(&fleet)[1]);
    for _ in 0..5 {
        fails(&mut fleet, b, &failure(503, &[]), at(0));
    }
    let (asked, _) = fleet.begin(a, None, LIMIT, at(1)).unwrap();
    chain.generation = 2;
    chain.rungs[0].upstreams.remove(0);
    chain.rungs[0].upstreams[0].weight = 7;
    chain.rungs[0].upstreams.push(upstream("c", 1));
    fleet.follow(&chain);
    assert_eq!(fleet.standing(a, None, at(1)), Standing::Gone);
    assert_eq!(fleet.standing(b, None, at(1)), Standing::Shut(at(5)));
    assert_eq!(fleet.end(asked, End::Answered, at(2)), [], "the result of one that is gone is nobody's");
    let successes: Vec<_> = fleet.snapshot(None, at(2), time()).into_iter().map(|it| it.success_percent).collect();
    assert_eq!(successes, [Some(0), None]);
    chain.rungs[0].upstreams[0].url = "https://elsewhere.example".into();
    fleet.follow(&chain);
    assert_eq!(standings(&fleet, at(2)), [Standing::Free; 2], "another server of the same name is another");
}

#[test]
fn an_upstream_that_failed_is_tried_by_exactly_one_call_and_its_answer_brings_it_back() {
    let chain = chain(vec![vec![upstream("a", 100)]]);
    let mut fleet = Fleet::new(&chain, Terms::default());
    let a = ids(&fleet)[0];
    for _ in 0..4 {
        assert_eq!(fails(&mut fleet, a, &failure(503, &[]), at(0)), []);
    }
    let opened = What::BreakerOpened { lasts: Duration::from_secs(5), cause: Cause::InARow(5) };
    assert_eq!(fails(&mut fleet, a, &failure(503, &[]), at(0)), [opened]);
    assert_eq!((fleet.available(at(4)), fleet.answering(at(4))), ((0, 1), None));
    assert!(fleet.begin(a, None, LIMIT, at(4)).is_none());
    let (asked, told) = fleet.begin(a, None, LIMIT, at(5)).unwrap();
    assert!(asked.trial && told[0].what == What::BreakerHalfOpened);
    assert_eq!(fleet.standing(a, None, at(5)), Standing::Shut(at(25)), "the limit of the trial, and a little more");
    assert_eq!(fleet.end(asked, End::Answered, at(6))[0].what, What::BreakerClosed);
    assert_eq!((fleet.available(at(6)), fleet.answering(at(6))), ((1, 1), Some("rung-0")));
}

#[test]
fn probes_ask_only_those_that_nobody_asked_for_an_interval() {
    let chain = chain(vec![vec![upstream("a", 100), upstream("b", 0)]]);
    let mut fleet = Fleet::new(&chain, Terms::default());
    let interval = Duration::from_secs(90);
    let due = |fleet: &Fleet, now| -> Vec<String> {
        fleet.to_probe(interval, now).into_iter().map(|(_, upstream)| upstream.name.clone()).collect()
    };
    assert_eq!(due(&fleet, at(0)), ["a", "b"]);
    let (a, b) = (ids(&fleet)[0], ids(&fleet)[1]);
    answers(&mut fleet, a, at(10));
    fails(&mut fleet, b, &failure(503, &[]), at(50));
    assert_eq!(due(&fleet, at(99)), [] as [&str; 0], "a just answered, b was just asked");
    assert_eq!(due(&fleet, at(120)), ["a"]);
    assert_eq!(due(&fleet, at(140)), ["a", "b"]);
}

#[test]
fn an_upstream_that_waits_for_a_trial_is_probed_although_a_tenant_just_tried() {
    let chain = chain(vec![vec![upstream("a", 100)]]);
    let mut fleet = Fleet::new(&chain, Terms::default());
    let (a, noisy) = (ids(&fleet)[0], "noisy".into());
    for _ in 0..5 {
        fails(&mut fleet, a, &failure(503, &[]), at(0));
    }
    let own = failure(500, &[]);
    let (asked, _) = fleet.begin(a, Some(&noisy), LIMIT, at(20)).unwrap();
    fleet.end(asked, End::Failed(&own, &decide(&own, &[], true)), at(20));
    let interval = Duration::from_secs(90);
    assert_eq!(fleet.to_probe(interval, at(21)).len(), 1);
    assert_eq!(answers(&mut fleet, a, at(21)), [What::BreakerClosed]);
    assert_eq!(fleet.to_probe(interval, at(22)).len(), 0);
}

fn fails_for(fleet: &mut Fleet, id: Id, tenant: &Tenant, failure: &Failure, now: Moment) -> Vec<Transition> {
    let (asked, mut told) = fleet.begin(id, Some(tenant), LIMIT, now).unwrap();
    told.extend(fleet.end(asked, End::Failed(failure, &decide(failure, &[], true)), now));
    told
}

#[test]
fn what_a_filter_refuses_of_one_tenant_is_set_aside_for_this_tenant_only() {
    let chain = chain(vec![vec![upstream("a", 100)]]);
    let mut fleet = Fleet::new(&chain, Terms::default());
    let (a, one, other): (Id, Tenant, Tenant) = (ids(&fleet)[0], "one".into(), "other".into());
    // HTML without a code, and a 400 that says when to come back.
    for refused in [failure(403, &[]), failure(400, &[("retry-after", "300")])] {
        let told = fails_for(&mut fleet, a, &one, &refused, at(0));
        let lasts = Duration::from_secs(300);
        let what = What::CoolingDown { lasts, class: refused.class, quota: None };
        assert_eq!(told, [Transition { upstream: "a".into(), tenant: Some(one.clone()), what }]);
        assert_eq!(fleet.standing(a, Some(&one), at(299)), Standing::CoolingDown(at(300)));
        assert_eq!(fleet.standing(a, Some(&other), at(1)), Standing::Free);
        assert_eq!(fleet.standing(a, Some(&one), at(300)), Standing::Free);
        fleet = Fleet::new(&chain, Terms::default());
    }
    for number in 0..1000 {
        fails_for(&mut fleet, a, &format!("t{number}").into(), &failure(400, &[("retry-after", "300")]), at(1));
    }
    assert!(fleet.members[0].aside_for.len() <= aside::MAX_TENANTS);
}

#[test]
fn an_upstream_in_quarantine_is_probed_after_growing_pauses_and_asked_again_when_one_is_answered() {
    let chain = chain(vec![vec![upstream("a", 100)]]);
    let mut fleet = Fleet::new(&chain, Terms::default());
    let (a, tenant): (Id, Tenant) = (ids(&fleet)[0], "shop".into());
    let (early, _) = fleet.begin(a, Some(&tenant), LIMIT, at(0)).unwrap();
    fails_for(&mut fleet, a, &tenant, &failure(401, &[]), at(1));
    assert_eq!(fleet.end(early, End::Answered, at(2)), [], "it began before");
    let interval = Duration::from_secs(90);
    let mut now = 31;
    for pause in [60, 120, 240, 480, 960, 1800, 1800] {
        assert_eq!(fleet.to_probe(interval, at(now - 1)).len(), 0, "{now}");
        assert_eq!(fleet.to_probe(interval, at(now)).len(), 1, "{now}");
        assert!(fleet.begin(a, Some(&tenant), LIMIT, at(now)).is_none(), "no tenant's call is the probe");
        assert_eq!(fails(&mut fleet, a, &failure(401, &[]), at(now)), [], "people know it already");
        now += pause;
    }
    assert_eq!(answers(&mut fleet, a, at(now)), [What::Released { probed: true }]);
    assert_eq!(fleet.standing(a, Some(&tenant), at(now + 1)), Standing::Free);
}

#[test]
fn a_model_that_reasons_until_the_tokens_of_a_probe_are_used_up_works_and_leaves_its_quarantine() {
    let chain = chain(vec![vec![upstream("a", 100)]]);
    let mut fleet = Fleet::new(&chain, Terms::default());
    let a = ids(&fleet)[0];
    fails(&mut fleet, a, &failure(401, &[]), at(0));
    let signal = Signal { status: Some(200), ..Signal::new(ModelApi::OpenAiChat, Seen::Finished(Finish::OutputLimit)) };
    let cut = classify(&signal, time());
    let (asked, _) = fleet.begin(a, None, LIMIT, at(31)).unwrap();
    let told = fleet.end(asked, End::of_probe(&cut, &decide(&cut, &[], true)), at(32));
    assert_eq!(told.into_iter().map(|it| it.what).collect::<Vec<_>>(), [What::Released { probed: true }]);
    let status = &fleet.snapshot(None, at(32), time())[0];
    assert_eq!((status.state, status.success_percent), (UpstreamState::Available, Some(50)));
    // What failed as a probe failed.
    let refused = failure(401, &[]);
    let (asked, _) = fleet.begin(a, None, LIMIT, at(40)).unwrap();
    fleet.end(asked, End::of_probe(&refused, &decide(&refused, &[], true)), at(41));
    assert_eq!(fleet.standing(a, None, at(41)), Standing::Quarantined);
}

#[test]
fn the_failures_that_stop_a_tenant_are_those_of_the_chain_and_of_the_tenant() {
    let mut chain = chain(vec![vec![upstream("a", 100)]]);
    chain.breaker =
        BreakerTerms { failures: 9, tenant_failures: 2, tenants: [("patient".to_owned(), 4)].into_iter().collect() };
    let mut fleet = Fleet::new(&chain, Terms::default());
    let a = ids(&fleet)[0];
    let own = failure(500, &[]);
    let stopped_after = |fleet: &mut Fleet, tenant: &str| {
        let tenant: Tenant = tenant.into();
        (1..20).find(|_| {
            fails_for(fleet, a, &tenant, &own, at(0));
            !fleet.standing(a, Some(&tenant), at(0)).may_be_asked()
        })
    };
    assert_eq!((stopped_after(&mut fleet, "one"), stopped_after(&mut fleet, "patient")), (Some(2), Some(4)));
    assert!(fleet.standing(a, None, at(0)).may_be_asked(), "6 of 9");
    assert_eq!(stopped_after(&mut fleet, "two"), Some(2));
    assert!(fleet.standing(a, None, at(0)).may_be_asked(), "8 of 9");
    // A change of the chain is followed.
    chain.generation = 2;
    chain.breaker.tenant_failures = 1;
    fleet.follow(&chain);
    assert_eq!(stopped_after(&mut fleet, "three"), Some(1));
    assert!(!fleet.standing(a, None, at(0)).may_be_asked(), "9 of 9");
}

#[test]
fn a_person_reads_the_state_of_each_upstream() {
    let names = ["fresh", "works", "failing", "open", "limited", "dead"];
    let chain = chain(vec![names.iter().map(|name| upstream(name, 100)).collect()]);
    let mut fleet = Fleet::new(&chain, Terms::default());
    let all = ids(&fleet);
    answers(&mut fleet, all[1], at(100));
    fails(&mut fleet, all[2], &failure(503, &[]), at(100));
    for _ in 0..5 {
        fails(&mut fleet, all[3], &failure(503, &[]), at(100));
    }
    fails(&mut fleet, all[4], &failure(429, &[("retry-after", "60")]), at(101));
    fails(&mut fleet, all[5], &failure(401, &[]), at(102));
    let now = at(103);
    let told = fleet.snapshot(Some(Duration::from_secs(90)), now, time());
    let states: Vec<UpstreamState> = told.iter().map(|status| status.state).collect();
    use UpstreamState::{Available, CoolingDown, HalfOpen, Open, Quarantined, Unknown};
    assert_eq!(states, [Unknown, Available, Unknown, Open, CoolingDown, Quarantined]);
    assert_eq!((told[1].success_percent, told[1].latency_milliseconds), (Some(100), Some(700)));
    assert_eq!(told[1].last_success_at.map(|at| at.to_string()).as_deref(), Some("2026-11-27T09:59:57.7Z"));
    assert_eq!(told[3].next_try_at.map(|at| at.to_string()).as_deref(), Some("2026-11-27T10:00:02Z"));
    assert_eq!(told[4].next_try_at.map(|at| at.to_string()).as_deref(), Some("2026-11-27T10:00:58Z"));
    assert_eq!(told[5].last_error, "CredentialsRefused");
    assert_eq!(told[5].next_try_at.map(|at| at.to_string()).as_deref(), Some("2026-11-27T10:00:29Z"), "a probe");
    assert_eq!(told[0].rung, "rung-0");
    assert_eq!(fleet.last_error().as_deref(), Some("dead: CredentialsRefused"));
    let later: Vec<UpstreamState> =
        fleet.snapshot(Some(Duration::from_secs(90)), at(400), time()).iter().map(|status| status.state).collect();
    assert_eq!(later, [Unknown, Unknown, Unknown, HalfOpen, Unknown, Quarantined], "what is stale is not known");
}
