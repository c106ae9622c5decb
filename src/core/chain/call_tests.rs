use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::api::v1alpha1::{ModelApi, Time};
use crate::core::chain::breaker::Terms;
use crate::core::chain::deadline::{MOST_ATTEMPTS, MOST_WAITING};
use crate::core::chain::decision::Differently;
use crate::core::chain::failure::classify;
use crate::core::chain::fixtures::{chain, upstream};
use crate::core::chain::signal::{ErrorSaid, Finish, Headers, Seen, Signal, Timer};
use crate::core::chain::spec::{Upstream, ValidChain};
use crate::core::money::Usage;

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn time() -> Time {
    "2026-11-27T10:00:00Z".parse().unwrap()
}

/// What an upstream does with a call.
#[derive(Clone, Debug)]
enum Does {
    Answers,
    Fails(Failure),
    /// The budget does not allow it.
    TooDear,
}

fn fails(signal: Signal) -> Does {
    Does::Fails(classify(&signal, time()))
}

fn status(status: u16, headers: &[(&str, &str)]) -> Signal {
    let headers = Headers::of(headers.iter().copied());
    Signal { status: Some(status), headers, ..Signal::new(ModelApi::OpenAiChat, Seen::Status) }
}

fn said(signal: Signal, kind: &str) -> Signal {
    Signal { error: ErrorSaid { kind: Some(kind.into()), ..ErrorSaid::default() }, ..signal }
}

fn seen(seen: Seen) -> Signal {
    Signal { status: Some(200), ..Signal::new(ModelApi::OpenAiChat, seen) }
}

fn no_head(seen: Seen) -> Signal {
    Signal::new(ModelApi::OpenAiChat, seen)
}

fn not_of_schema() -> Does {
    Does::Fails(Failure::not_of_schema("NotOfSchema", None, Usage::default()))
}

/// One attempt, as who drives a call saw it.
#[derive(Clone, Debug)]
struct Made {
    rung: usize,
    upstream: usize,
    began: Moment,
    limit: Duration,
    ended: Moment,
    failed: Option<Failure>,
    attempt: Attempt,
}

/// All that happened in one request.
#[derive(Clone, Debug)]
struct Trace {
    began: Moment,
    deadline: Moment,
    made: Vec<Made>,
    /// Pauses, and how many attempts were made before each.
    pauses: Vec<(Duration, usize)>,
    /// The rung that answered.
    answered: Option<usize>,
    gave_up: Option<GaveUp>,
    ended: Moment,
}

impl Trace {
    fn hits(&self, rung: usize, upstream: usize) -> usize {
        self.made.iter().filter(|made| (made.rung, made.upstream) == (rung, upstream)).count()
    }

    fn waited(&self) -> Duration {
        self.pauses.iter().map(|(pause, _)| *pause).sum()
    }
}

/// What may be wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Defect {
    None,
    /// The number of attempts begins anew with each rung and each failure.
    AttemptsBeginAnew,
    /// What was asked is fresh again.
    ForgetsWhatWasAsked,
    /// Limits do not look at the deadline.
    LimitsWithoutDeadline,
    /// Wrong requests are taken for failures of the upstream.
    RetriesEverything,
    /// Refusals are taken to the next upstream.
    LaundersRefusals,
    /// The wait that an upstream asks for is cut.
    CutsRetryAfter,
    /// It sleeps after its last attempt.
    SleepsAtTheEnd,
    /// A correction may be asked for again and again.
    CorrectsForEver,
}

/// Drives a request through all rungs, on a clock that it moves itself. `does` says what the upstream of a rung does
/// with its n-th call, and how long it takes.
fn drive(
    chain: &ValidChain,
    fleet: &mut Fleet,
    start: Moment,
    chances: &mut dyn FnMut() -> f64,
    defect: Defect,
    does: &mut dyn FnMut(usize, usize, usize) -> (Does, Duration),
) -> Trace {
    let tenant: Tenant = "shop".into();
    let mut now = start;
    let mut allowance = Allowance::new(chain.deadline, now);
    let mut trace = Trace {
        began: start,
        deadline: allowance.deadline,
        made: vec![],
        pauses: vec![],
        answered: None,
        gave_up: None,
        ended: now,
    };
    'rungs: for rung in 0..chain.rungs.len() {
        let later = fleet.rungs_left(rung + 1..chain.rungs.len(), Some(&tenant), now);
        let mut call = Call::new(fleet, rung, Some(tenant.clone()), later, allowance);
        let mut event = Event::Begin;
        let gave_up = loop {
            match defect {
                Defect::AttemptsBeginAnew => {
                    call.own = MOST_ATTEMPTS;
                    call.allowance.attempts = MOST_ATTEMPTS;
                }
                Defect::ForgetsWhatWasAsked => {
                    for tried in &mut call.upstreams {
                        (tried.attempts, tried.repeats) = (0, 0);
                    }
                }
                Defect::CorrectsForEver => (call.with_the_error, call.with_more_tokens) = (false, false),
                _ => {}
            }
            let Step { next, transitions: _ } = call.step(fleet, event, now, chances());
            match next {
                Next::Answered => {
                    trace.answered = Some(rung);
                    trace.ended = now;
                    break 'rungs;
                }
                Next::GaveUp(gave_up) => break gave_up,
                Next::Wait(pause) => {
                    let pause = if defect == Defect::CutsRetryAfter { pause.min(ms(50)) } else { pause };
                    trace.pauses.push((pause, trace.made.len()));
                    now = now.after(pause);
                    event = Event::Waited;
                }
                Next::Attempt(attempt) => {
                    let upstream = attempt.upstream;
                    let limit = match defect {
                        Defect::LimitsWithoutDeadline => ms(20_000),
                        _ => attempt.limit,
                    };
                    let (does, takes) = does(rung, upstream, trace.hits(rung, upstream));
                    let began = now;
                    let does = if takes > limit { fails(no_head(Seen::TimerFired(Timer::Overall))) } else { does };
                    now = now.after(takes.min(limit));
                    let failed = match &does {
                        Does::Fails(failure) => Some(failure.clone()),
                        Does::Answers => None,
                        Does::TooDear => {
                            now = began;
                            // Nothing is made behind a pause before it, and nothing is wrong about that.
                            trace
                                .pauses
                                .iter_mut()
                                .filter(|it| it.1 == trace.made.len())
                                .for_each(|it| it.1 = usize::MAX);
                            event = Event::Unaffordable;
                            continue;
                        }
                    };
                    trace.made.push(Made { rung, upstream, began, limit, ended: now, failed: failed.clone(), attempt });
                    event = match failed {
                        None => Event::Answered,
                        Some(failure) => Event::Failed(misread(failure, defect)),
                    };
                }
            }
        };
        if defect == Defect::SleepsAtTheEnd && !trace.made.is_empty() {
            trace.pauses.push((ms(500), trace.made.len()));
            now = now.after(ms(500));
        }
        trace.ended = now;
        trace.gave_up = Some(gave_up);
        allowance = call.allowance();
        if !gave_up.next_rung_may_be_asked() && defect != Defect::LaundersRefusals {
            break;
        }
    }
    trace
}

/// What a call with that defect takes a failure for.
fn misread(failure: Failure, defect: Defect) -> Failure {
    let as_upstream = match defect {
        Defect::RetriesEverything => matches!(failure.class, Class::CallerError | Class::ContextTooLong),
        Defect::LaundersRefusals => failure.class == Class::Refused,
        _ => false,
    };
    if as_upstream { Failure { class: Class::Upstream, status: Some(503), ..failure } } else { failure }
}

/// What a request has to keep to, whatever happens.
fn violations(trace: &Trace) -> Vec<&'static str> {
    let mut wrong = Vec::new();
    let left =
        trace.made.iter().filter(|made| made.failed.as_ref().is_none_or(|failure| !failure.never_left())).count();
    if left > 5 || left > usize::try_from(MOST_ATTEMPTS).unwrap() {
        wrong.push("more than five attempts");
    }
    if trace.waited() > Duration::from_secs(30) || trace.waited() > MOST_WAITING {
        wrong.push("more than 30 s of pauses");
    }
    if trace.ended > trace.deadline || trace.made.iter().any(|made| made.began.after(made.limit) > trace.deadline) {
        wrong.push("over the deadline");
    }
    if trace.pauses.iter().any(|(_, before)| *before == trace.made.len()) && !trace.made.is_empty() {
        wrong.push("a pause after the last attempt");
    }
    for (index, made) in trace.made.iter().enumerate() {
        let behind = &trace.made[index + 1..];
        let again = behind.iter().find(|later| (later.rung, later.upstream) == (made.rung, made.upstream));
        let Some(failure) = &made.failed else {
            if !behind.is_empty() {
                wrong.push("an attempt after an answer");
            }
            continue;
        };
        match failure.class {
            Class::Refused | Class::ContextTooLong | Class::Billing if !behind.is_empty() => {
                wrong.push("an attempt after a failure that stops");
            }
            // An upstream that says that the same may be sent again is asked once more itself, and no other.
            Class::CallerError
                if failure.should_retry == Some(true)
                    && behind.first().is_some_and(|next| (next.rung, next.upstream) != (made.rung, made.upstream)) =>
            {
                wrong.push("another upstream after a 4xx");
            }
            Class::CallerError if failure.should_retry == Some(true) => {}
            Class::CallerError | Class::CredentialsRefused if failure.status.is_some() && !behind.is_empty() => {
                wrong.push("an attempt after a 4xx");
            }
            Class::QuotaExhausted | Class::TooLarge if again.is_some() => {
                wrong.push("the same upstream again after a failure that does not pass");
            }
            Class::Timeout if failure.timer.is_some() && again.is_some() => {
                wrong.push("the same upstream again after a limit of ours");
            }
            _ => {}
        }
        if let (Some(wait), Some(again)) = (failure.retry_after, again)
            && again.began < made.ended.after(wait)
        {
            wrong.push("the same upstream again before the time that it asked for");
        }
        let plain = |made: &Made| !matches!(made.attempt.because, Because::Differently(_));
        if let Some(again) = again
            && plain(again)
            && again.began < made.ended.after(ms(100))
        {
            wrong.push("the same upstream again without a pause");
        }
    }
    for (rung, upstream) in trace.made.iter().map(|made| (made.rung, made.upstream)) {
        let of_it = || trace.made.iter().filter(move |made| (made.rung, made.upstream) == (rung, upstream));
        if of_it().filter(|made| !matches!(made.attempt.because, Because::Differently(_))).count() > 3 {
            wrong.push("the same upstream more often than is allowed");
        }
        for class in [Class::NotOfSchema, Class::OutputLimit] {
            let of_class = |made: &&Made| made.rung == rung && made.failed.as_ref().is_some_and(|it| it.class == class);
            if trace.made.iter().filter(of_class).count() > 2 {
                wrong.push("more than one retry of a model whose answer is no use");
            }
        }
    }
    let mut rungs: Vec<usize> = trace.made.iter().map(|made| made.rung).collect();
    rungs.dedup();
    if rungs.windows(2).any(|pair| pair[0] >= pair[1]) {
        wrong.push("rungs out of their order");
    }
    wrong
}

/// One rung with a faulty upstream that is asked first, and a good one; and the same with the faulty one alone.
fn with_fault(does: &Does) -> (Trace, Trace) {
    let drive_on = |upstreams: Vec<Upstream>| {
        let chain = chain(vec![upstreams]);
        let mut fleet = Fleet::new(&chain, Terms::default());
        let mut upstreams =
            |_: usize, upstream: usize, _: usize| (if upstream == 0 { does.clone() } else { Does::Answers }, ms(200));
        drive(&chain, &mut fleet, Moment::default(), &mut || 0.5, Defect::None, &mut upstreams)
    };
    // The second has no weight, so that the first is asked first.
    (drive_on(vec![upstream("a", 100), upstream("b", 0)]), drive_on(vec![upstream("a", 100)]))
}

#[test]
fn each_fault_hits_an_upstream_as_often_as_the_table_says_and_goes_where_it_says() {
    let bedrock = |original| {
        let mut signal = said(status(424, &[]), "ModelErrorException");
        signal.api = ModelApi::BedrockConverse;
        signal.error.status = original;
        signal
    };
    let in_flight = said(status(402, &[("retry-after", "1")]), "in_flight_budget_exhausted");
    let after = |seconds| status(429, &[("retry-after", seconds)]);
    // Hits of a, whether b answers, hits of a where there is no b.
    let table: Vec<(&str, Does, usize, bool, usize)> = vec![
        ("400", fails(status(400, &[])), 1, false, 1),
        ("401", fails(status(401, &[])), 1, false, 1),
        ("402", fails(status(402, &[])), 1, false, 1),
        ("402, money in flight, wait 1 s", fails(in_flight), 2, true, 3),
        ("403", fails(status(403, &[])), 1, false, 1),
        ("404", fails(status(404, &[])), 1, false, 1),
        ("408", fails(status(408, &[])), 1, true, 3),
        ("409", fails(status(409, &[])), 1, false, 1),
        ("410", fails(status(410, &[])), 1, false, 1),
        ("413", fails(status(413, &[])), 1, false, 1),
        ("422", fails(status(422, &[])), 1, false, 1),
        ("424", fails(status(424, &[])), 1, false, 1),
        ("424 of Bedrock, 503 inside", fails(bedrock(Some(503))), 1, true, 3),
        ("424 of Bedrock, 400 inside", fails(bedrock(Some(400))), 1, false, 1),
        ("424 of Bedrock, nothing inside", fails(bedrock(None)), 1, true, 3),
        ("429", fails(status(429, &[])), 1, true, 1),
        ("429, wait 1 s", fails(after("1")), 2, true, 3),
        ("429, wait 5 s", fails(after("5")), 1, true, 3),
        ("429, wait 90 s", fails(after("90")), 1, true, 1),
        ("429, quota", fails(said(status(429, &[]), "insufficient_quota")), 1, true, 1),
        ("500", fails(status(500, &[])), 1, true, 3),
        ("503", fails(status(503, &[])), 1, true, 3),
        ("503, wait 90 s", fails(status(503, &[("retry-after", "90")])), 1, true, 1),
        ("503, not again", fails(status(503, &[("x-should-retry", "false")])), 1, true, 1),
        ("504", fails(status(504, &[])), 1, true, 3),
        ("529", fails(status(529, &[])), 1, true, 3),
        ("409, again", fails(status(409, &[("x-should-retry", "true")])), 2, false, 2),
        ("DNS", fails(no_head(Seen::Unresolved)), 1, true, 2),
        ("refused", fails(no_head(Seen::Refused)), 1, true, 2),
        ("TLS", fails(no_head(Seen::Tls)), 1, true, 2),
        ("reset", fails(no_head(Seen::Broken)), 1, true, 2),
        ("no connection in time", fails(no_head(Seen::TimerFired(Timer::Connect))), 1, true, 1),
        ("no head in time", fails(no_head(Seen::TimerFired(Timer::ResponseHead))), 1, true, 1),
        ("no content in time", fails(seen(Seen::TimerFired(Timer::FirstContent))), 1, true, 1),
        ("a body that stalls", fails(seen(Seen::TimerFired(Timer::Idle))), 1, true, 1),
        ("200 HTML", fails(seen(Seen::Html)), 1, true, 2),
        ("200 empty", fails(seen(Seen::Empty)), 1, true, 2),
        ("200 truncated", fails(seen(Seen::Truncated)), 1, true, 2),
        ("200 error", fails(seen(Seen::ErrorBody)), 1, true, 2),
        ("200 too large", fails(seen(Seen::TooLarge)), 1, true, 1),
        ("200 error event, overloaded", fails(said(seen(Seen::ErrorEvent), "overloaded_error")), 1, true, 3),
        ("200 error event, wrong", fails(said(seen(Seen::ErrorEvent), "invalid_request_error")), 1, false, 1),
        ("refusal", fails(seen(Seen::Finished(Finish::Refused))), 1, false, 1),
        ("filter", fails(seen(Seen::Finished(Finish::Filtered))), 1, false, 1),
        ("too long", fails(seen(Seen::Finished(Finish::ContextWindow))), 1, false, 1),
        ("output limit", fails(seen(Seen::Finished(Finish::OutputLimit))), 2, false, 2),
        ("not of the schema", not_of_schema(), 2, false, 2),
        ("unreadable credentials", fails(no_head(Seen::NoCredentials)), 1, true, 1),
    ];
    for (fault, does, hits, elsewhere, alone) in table {
        let (both, single) = with_fault(&does);
        assert_eq!((both.hits(0, 0), both.hits(0, 1)), (hits, usize::from(elsewhere)), "{fault}: {both:#?}");
        assert_eq!(both.answered.is_some(), elsewhere, "{fault}");
        assert_eq!(single.hits(0, 0), alone, "{fault}, without another: {single:#?}");
        for trace in [both, single] {
            assert_eq!(violations(&trace), Vec::<&str>::new(), "{fault}: {trace:#?}");
        }
    }
}

#[test]
fn another_upstream_is_asked_at_once() {
    let (trace, _) = with_fault(&fails(status(503, &[])));
    assert_eq!((trace.waited(), trace.made[1].began), (Duration::ZERO, trace.made[0].ended));
    assert_eq!(trace.made[1].attempt.because, Because::Elsewhere(Class::Upstream));
}

#[test]
fn a_wait_that_was_asked_for_is_kept_in_full() {
    let (both, single) = with_fault(&fails(status(429, &[("retry-after", "1")])));
    assert_eq!(both.pauses, [(ms(1000), 1)]);
    assert_eq!(both.made[1].attempt.because, Because::Again(Class::RateLimited));
    assert_eq!(both.made[2].attempt.because, Because::Elsewhere(Class::RateLimited));
    assert_eq!(single.pauses, [(ms(1000), 1), (ms(1000), 2)]);
}

#[test]
fn a_model_is_asked_once_more_with_its_error_and_once_with_more_tokens_then_the_next_rung() {
    let chain = chain(vec![vec![upstream("a", 100)], vec![upstream("b", 100)]]);
    let mut fleet = Fleet::new(&chain, Terms::default());
    let mut does = |rung: usize, _: usize, hit: usize| {
        let does = match (rung, hit) {
            (0, 1) => fails(seen(Seen::Finished(Finish::OutputLimit))),
            (0, _) => not_of_schema(),
            _ => Does::Answers,
        };
        (does, ms(100))
    };
    let trace = drive(&chain, &mut fleet, Moment::default(), &mut || 0.5, Defect::None, &mut does);
    let asked: Vec<_> = trace.made.iter().map(|made| (made.rung, made.attempt.because)).collect();
    let differently = |how| Because::Differently(how);
    assert_eq!(
        asked,
        [
            (0, Because::First),
            (0, differently(Differently::WithTheError)),
            (0, differently(Differently::WithMoreTokens)),
            (1, Because::First)
        ]
    );
    assert!(trace.made[2].attempt.with_the_error && trace.made[2].attempt.with_more_tokens);
    assert!(!trace.made[3].attempt.with_the_error, "another model did not make that error");
    assert_eq!(trace.gave_up.map(|it| it.why), Some(Why::NoUsableAnswer));
    assert_eq!(trace.answered, Some(1));
    assert_eq!((more_tokens(1000), more_tokens(20_000), more_tokens(32_000)), (2000, 32_000, 32_000));
}

#[test]
fn a_correction_goes_to_another_upstream_of_the_model_if_the_first_one_fails_meanwhile() {
    let chain = chain(vec![vec![upstream("a", 100), upstream("b", 0)]]);
    let mut fleet = Fleet::new(&chain, Terms::default());
    let mut does = |_: usize, upstream: usize, hit: usize| {
        let does = match (upstream, hit) {
            (0, 0) => not_of_schema(),
            (0, _) => fails(status(503, &[])),
            _ => Does::Answers,
        };
        (does, ms(100))
    };
    let trace = drive(&chain, &mut fleet, Moment::default(), &mut || 0.5, Defect::None, &mut does);
    assert_eq!((trace.hits(0, 0), trace.hits(0, 1), trace.answered), (2, 1, Some(0)));
    assert!(trace.made[2].attempt.with_the_error);
}

#[test]
fn what_did_not_even_leave_is_no_attempt() {
    let names: Vec<String> = (0..6).map(|number| format!("u{number}")).collect();
    let upstreams = names.iter().map(|name| upstream(name, if name == "u5" { 0 } else { 100 })).collect();
    let chain = chain(vec![upstreams]);
    for what in [Seen::NoCredentials, Seen::NotBuilt] {
        let mut fleet = Fleet::new(&chain, Terms::default());
        let mut does = |_: usize, upstream: usize, _: usize| {
            (if upstream == 5 { Does::Answers } else { fails(no_head(what)) }, ms(1))
        };
        let trace = drive(&chain, &mut fleet, Moment::default(), &mut || 0.5, Defect::None, &mut does);
        assert_eq!((trace.answered, trace.made.len()), (Some(0), 6), "{what:?}: {trace:#?}");
        assert_eq!(violations(&trace), Vec::<&str>::new(), "{what:?}");
        assert_eq!(trace.made[5].attempt.number, 1);
    }
}

#[test]
fn each_rung_behind_keeps_an_attempt() {
    let rungs =
        (0..4).map(|rung| vec![upstream(&format!("a{rung}"), 100), upstream(&format!("b{rung}"), 100)]).collect();
    let chain = chain(rungs);
    let mut fleet = Fleet::new(&chain, Terms::default());
    let mut does = |_: usize, _: usize, _: usize| (fails(status(503, &[])), ms(100));
    let trace = drive(&chain, &mut fleet, Moment::default(), &mut || 0.5, Defect::None, &mut does);
    let rungs: Vec<usize> = trace.made.iter().map(|made| made.rung).collect();
    assert_eq!(rungs, [0, 0, 1, 2, 3]);
    assert!(trace.answered.is_none());
}

#[test]
fn hanging_upstreams_share_the_deadline_and_the_last_rung_still_gets_its_part() {
    let chain = chain(vec![vec![upstream("a", 100), upstream("b", 100)], vec![upstream("c", 100)]]);
    let mut fleet = Fleet::new(&chain, Terms::default());
    let mut does = |rung: usize, _: usize, _: usize| {
        if rung == 1 { (Does::Answers, ms(15_000)) } else { (Does::Answers, ms(1_000_000)) }
    };
    let trace = drive(&chain, &mut fleet, Moment::default(), &mut || 0.5, Defect::None, &mut does);
    let limits: Vec<Duration> = trace.made.iter().map(|made| made.limit).collect();
    assert_eq!(limits, [20_000, 20_000, 20_000].map(ms));
    assert_eq!((trace.answered, trace.ended), (Some(1), Moment(ms(55_000))));
}

#[test]
fn an_open_breaker_costs_a_request_nothing() {
    let chain = chain(vec![vec![upstream("a", 100)], vec![upstream("b", 100)]]);
    let mut fleet = Fleet::new(&chain, Terms::default());
    let mut asked = 0;
    for request in 0..20 {
        let mut does = |rung: usize, _: usize, _: usize| {
            asked += usize::from(rung == 0);
            (if rung == 0 { fails(status(503, &[])) } else { Does::Answers }, ms(10))
        };
        let start = Moment(ms(request * 100));
        let trace = drive(&chain, &mut fleet, start, &mut || 0.5, Defect::None, &mut does);
        assert_eq!(trace.answered, Some(1));
    }
    assert_eq!(asked, 5, "then it is left alone");
}

#[test]
fn what_is_too_dear_uses_up_no_attempt_and_a_cheaper_one_is_asked() {
    let chain = chain(vec![vec![upstream("a", 100), upstream("b", 0)]]);
    let mut fleet = Fleet::new(&chain, Terms::default());
    let mut does =
        |_: usize, upstream: usize, _: usize| (if upstream == 0 { Does::TooDear } else { Does::Answers }, ms(10));
    let trace = drive(&chain, &mut fleet, Moment::default(), &mut || 0.5, Defect::None, &mut does);
    assert_eq!((trace.made.len(), trace.answered), (1, Some(0)));
    assert_eq!((trace.made[0].attempt.number, trace.made[0].attempt.because), (1, Because::TooDear));
    let mut all = |_: usize, _: usize, _: usize| (Does::TooDear, ms(10));
    let trace = drive(&chain, &mut fleet, Moment::default(), &mut || 0.5, Defect::None, &mut all);
    assert_eq!(trace.gave_up.map(|it| it.why), Some(Why::Unaffordable));
}

#[test]
fn a_4xx_stops_the_request_even_if_the_repeat_that_the_upstream_asks_for_cannot_be_made() {
    let chain = chain(vec![vec![upstream("a", 100), upstream("b", 0)], vec![upstream("c", 100)]]);
    let mut fleet = Fleet::new(&chain, Terms::default());
    let mut asked = 0;
    let mut does = |_: usize, _: usize, _: usize| {
        asked += 1;
        let conflict = fails(status(409, &[("x-should-retry", "true")]));
        (if asked == 1 { conflict } else { Does::TooDear }, ms(10))
    };
    let trace = drive(&chain, &mut fleet, Moment::default(), &mut || 0.5, Defect::None, &mut does);
    assert_eq!((asked, trace.made.len(), trace.gave_up.map(|it| it.why)), (2, 1, Some(Why::Stopped)));
}

#[test]
fn with_nothing_to_ask_it_says_when_there_will_be() {
    let chain = chain(vec![vec![upstream("a", 100)]]);
    let mut fleet = Fleet::new(&chain, Terms::default());
    let mut limited = |_: usize, _: usize, _: usize| (fails(status(429, &[])), ms(0));
    drive(&chain, &mut fleet, Moment::default(), &mut || 0.5, Defect::None, &mut limited);
    let trace = drive(&chain, &mut fleet, Moment(ms(1000)), &mut || 0.5, Defect::None, &mut limited);
    let gave_up = trace.gave_up.unwrap();
    assert_eq!((gave_up.why, gave_up.next_try), (Why::NothingToAsk, Some(Moment(ms(300_000)))));
    assert!(trace.made.is_empty() && trace.pauses.is_empty());
}

#[test]
fn an_overloaded_provider_is_asked_under_another_key_only_when_no_other_is_left() {
    let at_provider = |name| Upstream { url: "https://provider.example".into(), ..upstream(name, 1000) };
    let chain = chain(vec![vec![at_provider("a"), at_provider("b"), upstream("c", 1)]]);
    let mut fleet = Fleet::new(&chain, Terms::default());
    let mut does = |_: usize, _: usize, _: usize| (fails(status(529, &[])), ms(10));
    let trace = drive(&chain, &mut fleet, Moment::default(), &mut || 0.1, Defect::None, &mut does);
    let asked: Vec<usize> = trace.made.iter().take(3).map(|made| made.upstream).collect();
    assert_eq!((asked[0] < 2, asked[1]), (true, 2), "{asked:?}");
}

#[test]
fn giving_up_frees_the_trial_and_nothing_is_asked_after_the_end() {
    let chain = chain(vec![vec![upstream("a", 100)]]);
    let mut fleet = Fleet::new(&chain, Terms::default());
    let mut broken = |_: usize, _: usize, _: usize| (fails(status(503, &[])), ms(0));
    for _ in 0..2 {
        drive(&chain, &mut fleet, Moment::default(), &mut || 0.5, Defect::None, &mut broken);
    }
    let now = Moment(ms(60_000));
    let mut call = Call::new(&fleet, 0, None, 0, Allowance::new(ms(10_000), now));
    let Next::Attempt(attempt) = call.step(&mut fleet, Event::Begin, now, 0.5).next else { panic!("no attempt") };
    assert!(attempt.trial);
    let mut second = Call::new(&fleet, 0, None, 0, Allowance::new(ms(10_000), now));
    let Next::GaveUp(gave_up) = second.step(&mut fleet, Event::Begin, now, 0.5).next else { panic!("two trials") };
    assert_eq!(gave_up.why, Why::NothingToAsk);
    let Next::GaveUp(gave_up) = call.step(&mut fleet, Event::GivenUp, now, 0.5).next else { panic!("not given up") };
    assert_eq!(gave_up.why, Why::GivenUp);
    let mut third = Call::new(&fleet, 0, None, 0, Allowance::new(ms(10_000), now));
    assert!(matches!(third.step(&mut fleet, Event::Begin, now, 0.5).next, Next::Attempt(_)));
    for event in [Event::Begin, Event::Waited, Event::Answered, Event::Unaffordable] {
        let Next::GaveUp(gave_up) = call.step(&mut fleet, event, now, 0.5).next else { panic!("it went on") };
        assert_eq!(gave_up.why, Why::OutOfStep);
    }
}

/// Every fault that the tests know, by number.
fn fault(number: u64) -> Does {
    let wait = |status_code, wait: &str| fails(status(status_code, &[("retry-after", wait)]));
    match number % 30 {
        0 => fails(status(400, &[])),
        1 => fails(status(401, &[])),
        2 => fails(status(404, &[])),
        3 => fails(status(408, &[])),
        4 => fails(status(429, &[])),
        5 => wait(429, "1"),
        6 => wait(429, "4"),
        7 => wait(429, "20"),
        8 => fails(said(status(429, &[]), "insufficient_quota")),
        9 => fails(status(409, &[("x-should-retry", "true")])),
        10 => fails(status(500, &[])),
        11..=14 => fails(status(503, &[])),
        15 => wait(503, "3"),
        16 => fails(status(529, &[])),
        17 | 18 => fails(no_head(Seen::Broken)),
        19 => fails(seen(Seen::TimerFired(Timer::FirstContent))),
        20 => fails(seen(Seen::Html)),
        21 => fails(seen(Seen::Truncated)),
        22 => fails(seen(Seen::TooLarge)),
        23 => fails(seen(Seen::Finished(Finish::Refused))),
        24 | 25 => fails(seen(Seen::Finished(Finish::OutputLimit))),
        26 | 27 => not_of_schema(),
        28 => Does::TooDear,
        _ => Does::Answers,
    }
}

/// Some requests at a chain of random shape, at upstreams that do anything.
fn at_random(seed: u64, defect: Defect) -> Vec<Trace> {
    let mut state = seed;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut name = 0;
    let mut rung = |random: &mut dyn FnMut(u64) -> u64| -> Vec<Upstream> {
        let one = |random: &mut dyn FnMut(u64) -> u64, name: u64| Upstream {
            quota_scope: format!("q{}", random(4)),
            url: format!("https://{}.example", random(4)),
            ..upstream(&format!("u{name}"), u32::try_from(random(3)).unwrap() * 50)
        };
        (0..=random(3))
            .map(|_| {
                name += 1;
                one(random, name)
            })
            .collect()
    };
    let rungs = (0..=random(3)).map(|_| rung(&mut random)).collect();
    let mut chain = chain(rungs);
    chain.deadline = ms(5000 + random(60_000));
    let mut fleet = Fleet::new(&chain, Terms::default());
    let mut start = Moment::default();
    let mut bias = random(30);
    (0..4)
        .map(|_| {
            start = start.after(ms(random(400_000)));
            bias = if random(3) == 0 { random(30) } else { bias };
            // One generator for both: the closures borrow it in turn.
            let shared = std::cell::RefCell::new(&mut random);
            let draw = |below: u64| -> u64 {
                let mut random = shared.borrow_mut();
                (*random)(below)
            };
            #[allow(clippy::cast_precision_loss)]
            let mut chances = || draw(1000) as f64 / 1000.0;
            let mut does = |_: usize, _: usize, _: usize| {
                let does = if draw(2) == 0 { fault(bias) } else { fault(draw(30)) };
                (does, ms(if draw(6) == 0 { draw(80_000) } else { draw(1500) }))
            };
            drive(&chain, &mut fleet, start, &mut chances, defect, &mut does)
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn whatever_upstreams_do_a_request_keeps_to_its_bounds(seed: u64) {
        for trace in at_random(seed, Defect::None) {
            prop_assert_eq!(violations(&trace), Vec::<&str>::new(), "{:#?}", trace);
            prop_assert!(trace.answered.is_some() || trace.gave_up.is_some());
            prop_assert!(trace.gave_up.is_none_or(|it| it.why != Why::OutOfStep), "{:#?}", trace);
            prop_assert!(trace.ended >= trace.began);
        }
    }
}

#[test]
fn planted_defects_of_a_call_are_caught() {
    for defect in [
        Defect::AttemptsBeginAnew,
        Defect::ForgetsWhatWasAsked,
        Defect::LimitsWithoutDeadline,
        Defect::RetriesEverything,
        Defect::LaundersRefusals,
        Defect::CutsRetryAfter,
        Defect::SleepsAtTheEnd,
        Defect::CorrectsForEver,
    ] {
        let caught = (0..500).any(|seed| at_random(seed, defect).iter().any(|trace| !violations(trace).is_empty()));
        assert!(caught, "{defect:?} was not caught");
    }
}

#[test]
fn a_thousand_requests_at_upstreams_that_fail_leave_a_failing_one_within_five_seconds() {
    let chain = chain(vec![vec![upstream("a", 100), upstream("b", 100)]]);
    let mut fleet = Fleet::new(&chain, Terms::default());
    let mut chances = (0..).map(|number| (f64::from(number) * 0.618_034).fract());
    let mut late = VecDeque::new();
    for request in 0..1000_u64 {
        let start = Moment(ms(request * 50));
        let broken = request >= 500;
        let mut does = |_: usize, upstream: usize, _: usize| {
            (if upstream == 0 && broken { fails(status(503, &[])) } else { Does::Answers }, ms(40))
        };
        let trace = drive(&chain, &mut fleet, start, &mut || chances.next().unwrap_or(0.5), Defect::None, &mut does);
        assert_eq!(trace.answered, Some(0), "none is lost");
        if request >= 600 {
            late.push_back(trace.hits(0, 0));
        }
    }
    let hits: usize = late.iter().sum();
    assert!(hits <= 8, "{hits} of 400 requests still asked it: more than the trials of its breaker");
}

/// Prints only: `cargo test --release --lib core::chain::call -- --nocapture decision`. At most 5 µs in a release build.
#[test]
fn the_time_of_a_decision_among_eight_candidates_is_printed() {
    let chain = chain(vec![(0..8).map(|number| upstream(&format!("u{number}"), 100)).collect()]);
    let mut fleet = Fleet::new(&chain, Terms::default());
    let tenant: Tenant = "shop".into();
    for number in 0..800_u64 {
        let now = Moment(ms(number));
        let id = fleet.of_rung(0).nth(usize::try_from(number % 8).unwrap()).unwrap().0;
        let (asked, _) = fleet.begin(id, Some(&tenant), ms(1000), now).unwrap();
        fleet.end(asked, End::Answered, now.after(ms(number % 700)));
    }
    let now = Moment(ms(2000));
    let mut calls: Vec<Call> =
        (0..2000).map(|_| Call::new(&fleet, 0, Some(tenant.clone()), 0, Allowance::new(ms(60_000), now))).collect();
    let began = std::time::Instant::now();
    for (number, call) in calls.iter_mut().enumerate() {
        #[allow(clippy::cast_precision_loss)]
        let chance = (number as f64 * 0.618_034).fract();
        let step = call.step(&mut fleet, Event::Begin, now, chance);
        assert!(matches!(step.next, Next::Attempt(_)));
    }
    let each = began.elapsed() / 2000;
    println!("decision among 8 candidates: {} ns", each.as_nanos());
}
