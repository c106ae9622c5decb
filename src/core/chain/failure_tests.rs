use super::*;
use crate::core::chain::breaker::{Blame, Verdict};
use crate::core::chain::decision::*;
use crate::core::chain::signal::Headers;

fn now() -> Time {
    "2026-11-27T10:00:00Z".parse().unwrap()
}

fn seen(seen: Seen) -> Signal {
    Signal { status: Some(200), ..Signal::new(ModelApi::OpenAiChat, seen) }
}

fn status(status: u16) -> Signal {
    Signal { status: Some(status), ..Signal::new(ModelApi::AnthropicMessages, Seen::Status) }
}

fn said(mut signal: Signal, kind: &str, code: &str) -> Signal {
    let word = |word: &str| (!word.is_empty()).then(|| word.to_owned());
    signal.error = ErrorSaid { kind: word(kind), code: word(code), ..signal.error };
    signal
}

fn with(mut signal: Signal, headers: &[(&str, &str)]) -> Signal {
    signal.headers = Headers::of(headers.iter().copied());
    signal
}

fn bedrock(kind: &str, original: Option<u16>) -> Signal {
    let mut signal = said(Signal { api: ModelApi::BedrockConverse, ..status(424) }, kind, "");
    signal.error.status = original;
    signal
}

fn class_of(signal: &Signal) -> Class {
    classify(signal, now()).class
}

#[test]
fn every_status_has_its_class() {
    for code in 400..=499 {
        let expected = match code {
            401 | 403 => Class::CredentialsRefused,
            402 => Class::Billing,
            408 => Class::Timeout,
            429 => Class::RateLimited,
            _ => Class::CallerError,
        };
        assert_eq!(class_of(&status(code)), expected, "{code}");
    }
    for code in 500..=599 {
        assert_eq!(class_of(&status(code)), Class::Upstream, "{code}");
    }
    assert_eq!(class_of(&status(302)), Class::CallerError, "redirects are not followed");
    assert_eq!(class_of(&status(999)), Class::Malformed);
}

#[test]
fn a_429_is_a_limit_or_a_quota_by_its_code_and_never_by_its_words() {
    for (kind, code, class) in [
        ("rate_limit_error", "", Class::RateLimited),
        ("rate_limit_error", "ramp_limit_exceeded", Class::RateLimited),
        ("rate_limit_error", "enforced_spend_limit_reached", Class::QuotaExhausted),
        ("rate_limit_error", "contract_spend_limit_reached", Class::QuotaExhausted),
        ("insufficient_quota", "insufficient_quota", Class::QuotaExhausted),
        ("requests", "rate_limit_exceeded", Class::RateLimited),
        ("requests", "credit_balance_exhausted", Class::QuotaExhausted),
        ("ThrottlingException", "", Class::RateLimited),
        ("ModelNotReadyException", "", Class::RateLimited),
        ("something", "you_have_no_quota_left", Class::RateLimited),
    ] {
        assert_eq!(class_of(&said(status(429), kind, code)), class, "{kind} {code}");
    }
}

#[test]
fn a_402_is_the_account_unless_it_is_money_in_flight_with_a_wait() {
    let in_flight = said(status(402), "", "in_flight_budget_exhausted");
    assert_eq!(class_of(&in_flight), Class::Billing);
    let waits = with(in_flight, &[("retry-after", "2")]);
    assert_eq!(
        (class_of(&waits), classify(&waits, now()).retry_after),
        (Class::RateLimited, Some(Duration::from_secs(2)))
    );
    let too_heavy = with(said(status(402), "", "weight_exceeds_budget"), &[("retry-after", "2")]);
    assert_eq!(class_of(&too_heavy), Class::Billing);
}

#[test]
fn bedrocks_424_counts_as_what_the_model_said() {
    for (kind, original, class) in [
        ("ModelErrorException", Some(503), Class::Upstream),
        ("ModelErrorException", Some(429), Class::RateLimited),
        ("ModelErrorException", Some(408), Class::Timeout),
        ("ModelErrorException", Some(400), Class::CallerError),
        ("ModelErrorException", Some(424), Class::Upstream),
        ("ModelErrorException", None, Class::Upstream),
        ("", None, Class::Upstream),
    ] {
        assert_eq!(class_of(&bedrock(kind, original)), class, "{kind} {original:?}");
    }
    assert_eq!(class_of(&status(424)), Class::CallerError, "another API's 424 is a 4xx like others");
    assert_eq!(class_of(&said(status(424), "ModelErrorException", "")), Class::Upstream, "Bedrock behind a gateway");
}

#[test]
fn a_200_that_is_no_answer_is_malformed() {
    for what in [Seen::Html, Seen::Empty, Seen::NotOfTheApi, Seen::NoText, Seen::ErrorBody] {
        assert_eq!(class_of(&seen(what)), Class::Malformed, "{what:?}");
    }
    assert_eq!(class_of(&seen(Seen::Truncated)), Class::Truncated);
    assert_eq!(class_of(&seen(Seen::TooLarge)), Class::TooLarge);
}

#[test]
fn an_error_in_a_200_body_is_taken_elsewhere_unless_it_is_a_refusal() {
    for (kind, code, class) in [
        ("rate_limit_error", "", Class::RateLimited),
        ("", "insufficient_quota", Class::QuotaExhausted),
        ("overloaded_error", "", Class::Upstream),
        ("invalid_request_error", "", Class::Malformed),
        ("authentication_error", "", Class::Malformed),
        ("who", "knows", Class::Malformed),
        ("invalid_request_error", "content_filter", Class::Refused),
    ] {
        assert_eq!(class_of(&said(seen(Seen::ErrorBody), kind, code)), class, "{kind} {code}");
    }
    let mut told = seen(Seen::ErrorBody);
    told.error.status = Some(429);
    assert_eq!(class_of(&told), Class::RateLimited);
    told.error.status = Some(400);
    assert_eq!(class_of(&told), Class::Malformed);
}

#[test]
fn an_error_event_counts_as_what_it_says_that_it_is() {
    for (kind, code, class) in [
        ("overloaded_error", "", Class::Upstream),
        ("api_error", "", Class::Upstream),
        ("rate_limit_error", "", Class::RateLimited),
        ("invalid_request_error", "", Class::CallerError),
        ("authentication_error", "", Class::CredentialsRefused),
        ("", "server_error", Class::Upstream),
        ("", "rate_limit_exceeded", Class::RateLimited),
        ("", "invalid_prompt", Class::Refused),
        ("internalServerException", "", Class::Upstream),
        ("throttlingException", "", Class::RateLimited),
        ("serviceUnavailableException", "", Class::Upstream),
        ("validationException", "", Class::CallerError),
        ("modelStreamErrorException", "", Class::Upstream),
        ("", "", Class::Upstream),
        ("new_in_2027", "", Class::Upstream),
    ] {
        assert_eq!(class_of(&said(seen(Seen::ErrorEvent), kind, code)), class, "{kind} {code}");
    }
    let mut model = said(seen(Seen::ErrorEvent), "modelStreamErrorException", "");
    model.error.status = Some(429);
    assert_eq!(class_of(&model), Class::RateLimited);
}

#[test]
fn everything_else_that_is_seen_has_its_class() {
    for (what, class) in [
        (Seen::Unresolved, Class::Transport),
        (Seen::Refused, Class::Transport),
        (Seen::Tls, Class::Transport),
        (Seen::NotConnected, Class::Transport),
        (Seen::Broken, Class::Transport),
        (Seen::NotHttp, Class::Transport),
        (Seen::NoCredentials, Class::CredentialsRefused),
        (Seen::NotBuilt, Class::CallerError),
        (Seen::TimerFired(Timer::Idle), Class::Timeout),
        (Seen::Finished(Finish::OutputLimit), Class::OutputLimit),
        (Seen::Finished(Finish::ContextWindow), Class::ContextTooLong),
        (Seen::Finished(Finish::Refused), Class::Refused),
        (Seen::Finished(Finish::Filtered), Class::Refused),
        (Seen::Finished(Finish::Garbled), Class::NotOfSchema),
        (Seen::Finished(Finish::UnaskedTool), Class::NotOfSchema),
        (Seen::Finished(Finish::Interrupted), Class::CallerError),
        (Seen::Finished(Finish::Unknown), Class::Malformed),
    ] {
        assert_eq!(class_of(&Signal::new(ModelApi::OpenAiChat, what)), class, "{what:?}");
    }
    assert_eq!(class_of(&said(status(400), "invalid_request_error", "context_length_exceeded")), Class::ContextTooLong);
    assert_eq!(class_of(&said(status(400), "", "content_filter")), Class::Refused);
    assert_eq!(
        class_of(&said(status(502), "", "content_filter")),
        Class::Refused,
        "a gateway's status hides no refusal"
    );
    assert_eq!(class_of(&said(status(400), "billing_error", "")), Class::Billing);
}

#[test]
fn a_refusal_keeps_its_category_and_an_answer_that_is_none_what_is_wrong_about_it() {
    let refused = |category: &str| classify(&said(seen(Seen::Finished(Finish::Refused)), "", category), now());
    for category in ["cyber", "bio", "frontier_llm", "reasoning_extraction", "general_harms"] {
        let failure = refused(category);
        assert_eq!((failure.class, failure.detail()), (Class::Refused, Some(category)));
        assert!(failure.message.ends_with(&format!("the model refused ({category})")), "{}", failure.message);
    }
    assert_eq!(refused("sk-secret").detail(), Some("another_category"), "no word of an upstream is repeated");
    assert_eq!(refused("").detail(), None);
    for (what, kind) in [
        (Seen::Html, "Html"),
        (Seen::Empty, "Empty"),
        (Seen::NotOfTheApi, "NotOfTheApi"),
        (Seen::NoText, "NoText"),
        (Seen::ErrorBody, "ErrorBody"),
        (Seen::Truncated, "Truncated"),
        (Seen::TooLarge, "BodyTooLarge"),
        (Seen::Finished(Finish::UnaskedTool), "UnaskedTool"),
        (Seen::Finished(Finish::Garbled), "Garbled"),
    ] {
        assert_eq!(classify(&seen(what), now()).detail(), Some(kind), "{what:?}");
    }
    let coded = classify(&said(status(429), "", "insufficient_quota"), now());
    assert_eq!(coded.detail(), Some("insufficient_quota"));
    assert_eq!(Failure::not_of_schema("TooDeep", None, Usage::default()).detail(), Some("TooDeep"));
}

#[test]
fn what_never_left_is_told_from_what_found_no_connection() {
    for (what, left) in
        [(Seen::NoCredentials, false), (Seen::NotBuilt, false), (Seen::Refused, true), (Seen::Broken, true)]
    {
        let failure = classify(&Signal::new(ModelApi::OpenAiChat, what), now());
        assert_eq!(failure.never_left(), !left, "{what:?}");
    }
    for code in [400, 401, 403, 404] {
        assert!(!classify(&status(code), now()).never_left(), "{code}");
    }
}

#[test]
fn limits_in_headers_are_a_wait_only_where_one_was_reached() {
    let reset = [("x-ratelimit-reset-requests", "6m0s")];
    assert_eq!(classify(&with(status(429), &reset), now()).retry_after, Some(Duration::from_secs(360)));
    assert_eq!(classify(&with(status(503), &reset), now()).retry_after, None);
    let named = [("x-ratelimit-reset-requests", "6m0s"), ("retry-after", "3")];
    assert_eq!(classify(&with(status(503), &named), now()).retry_after, Some(Duration::from_secs(3)));
}

#[test]
fn a_message_is_of_our_words_and_bounded() {
    let mut signal = said(status(400), "invalid_request_error", "sk-secret");
    signal.request_id = Some("r".repeat(500));
    let Failure { message, code, request_id, .. } = classify(&signal, now());
    assert_eq!(message, "HTTP 400: an error (invalid_request_error)");
    assert_eq!(code, Some("invalid_request_error"));
    assert_eq!(request_id.map(|id| id.len()), Some(128));
}

fn decided(signal: &Signal) -> Decision {
    decide(&classify(signal, now()), &[], true)
}

#[test]
fn only_408_429_5xx_and_the_network_are_tried_elsewhere() {
    for code in 300..=599 {
        let elsewhere = matches!(code, 408 | 429 | 500..=599);
        let then = decided(&status(code)).then;
        assert_eq!(then, if elsewhere { Then::Next } else { Then::Stop }, "{code}");
    }
    for what in [Seen::Unresolved, Seen::Refused, Seen::Tls, Seen::NotConnected, Seen::Broken, Seen::NotHttp] {
        assert_eq!(decided(&Signal::new(ModelApi::OpenAiChat, what)).then, Then::Next, "{what:?}");
    }
    for what in
        [Seen::Html, Seen::Empty, Seen::NotOfTheApi, Seen::NoText, Seen::ErrorBody, Seen::Truncated, Seen::TooLarge]
    {
        assert_eq!(decided(&seen(what)).then, Then::Next, "{what:?}");
    }
}

#[test]
fn what_the_caller_did_wrong_opens_no_breaker() {
    for code in [400, 404, 409, 410, 413, 415, 422, 401, 402] {
        assert_eq!(decided(&status(code)).verdict, Verdict::Nothing, "{code}");
    }
    let never_sent = |seen| Signal { sent: Sent::Nothing, ..Signal::new(ModelApi::OpenAiChat, seen) };
    for (signal, blame) in [
        (status(503), Blame::Everyone),
        (status(529), Blame::Everyone),
        (said(seen(Seen::ErrorEvent), "overloaded_error", ""), Blame::Everyone),
        (said(seen(Seen::ErrorEvent), "serviceUnavailableException", ""), Blame::Everyone),
        // What the question may have caused.
        (status(500), Blame::Asker),
        (status(502), Blame::Asker),
        (status(504), Blame::Asker),
        (status(524), Blame::Asker),
        (said(seen(Seen::ErrorEvent), "api_error", ""), Blame::Asker),
        (seen(Seen::ErrorEvent), Blame::Asker),
        (bedrock("ModelErrorException", Some(503)), Blame::Asker),
        (status(408), Blame::Asker),
        (seen(Seen::Html), Blame::Asker),
        (Signal::new(ModelApi::OpenAiChat, Seen::Broken), Blame::Asker),
        (Signal::new(ModelApi::OpenAiChat, Seen::NotHttp), Blame::Asker),
        // Nobody had read it.
        (never_sent(Seen::Broken), Blame::Everyone),
        (never_sent(Seen::Refused), Blame::Everyone),
        (never_sent(Seen::Unresolved), Blame::Everyone),
        (never_sent(Seen::Tls), Blame::Everyone),
        (Signal::new(ModelApi::OpenAiChat, Seen::TimerFired(Timer::Connect)), Blame::Everyone),
        (Signal::new(ModelApi::OpenAiChat, Seen::TimerFired(Timer::FirstContent)), Blame::Asker),
    ] {
        assert_eq!(decided(&signal).verdict, Verdict::Failed(blame), "{signal:?}");
    }
    assert_eq!(decided(&status(429)).verdict, Verdict::Failed(Blame::Everyone), "limited, and no word until when");
    assert_eq!(decided(&with(status(429), &[("retry-after", "5")])).verdict, Verdict::Nothing);
}

#[test]
fn our_own_deadline_is_to_blame_for_an_attempt_that_was_too_short() {
    let ran_out = classify(&Signal::new(ModelApi::OpenAiChat, Seen::TimerFired(Timer::Overall)), now());
    assert_eq!(decide(&ran_out, &[], true).verdict, Verdict::Failed(Blame::Asker));
    assert_eq!(decide(&ran_out, &[], false).verdict, Verdict::Nothing);
    assert_eq!(decide(&ran_out, &[], false).success, Some(false), "the order of the upstreams learns from it");
}

#[test]
fn limits_cool_down_the_quota_and_retry_after_wins() {
    assert_eq!(decided(&status(429)).set_aside, SetAside::Quota(Duration::from_secs(300)));
    let named = decided(&with(status(429), &[("retry-after", "7")]));
    assert_eq!((named.set_aside, named.again > 0), (SetAside::Quota(Duration::from_secs(7)), true));
    let quota = decided(&said(status(429), "insufficient_quota", ""));
    assert_eq!((quota.set_aside, quota.again), (SetAside::Quota(QUOTA_COOLDOWN), 0));
    let failing = decided(&with(status(503), &[("retry-after", "20")]));
    assert_eq!(failing.set_aside, SetAside::Upstream(Duration::from_secs(20)));
    let all_day = |signal: Signal| decided(&with(signal, &[("retry-after", "86400")])).set_aside;
    assert_eq!(all_day(status(503)), SetAside::Upstream(LONGEST_PAUSE));
    // One header takes no quota from everybody for a day.
    assert_eq!(all_day(status(429)), SetAside::Quota(LONGEST_PAUSE));
    assert_eq!(all_day(said(status(429), "insufficient_quota", "")), SetAside::Quota(LONGEST_PAUSE));
    assert_eq!(all_day(said(seen(Seen::ErrorEvent), "rate_limit_error", "")), SetAside::Quota(LONGEST_PAUSE));
    // Who waits after what the question may have caused is who asked.
    for code in [500, 502, 504] {
        assert_eq!(all_day(status(code)), SetAside::Asker(LONGEST_PAUSE), "{code}");
    }
    assert_eq!(all_day(seen(Seen::Html)), SetAside::Asker(LONGEST_PAUSE));
}

#[test]
fn credentials_are_put_in_quarantine_by_what_was_refused() {
    for signal in [status(401), status(402), said(status(403), "ExpiredTokenException", "")] {
        assert_eq!(decided(&signal).set_aside, SetAside::QuarantineCredentials, "{signal:?}");
    }
    for signal in [said(status(403), "permission_error", ""), said(status(403), "AccessDeniedException", "")] {
        assert_eq!(decided(&signal).set_aside, SetAside::Quarantine, "{signal:?}");
    }
    for signal in [status(403), said(status(403), "who", "knows")] {
        let Decision { then, verdict, set_aside, .. } = decided(&signal);
        let asker = (Then::Stop, Verdict::Failed(Blame::Asker), SetAside::Asker(COOLDOWN));
        assert_eq!((then, verdict, set_aside), asker, "it may be a filter, and due to what was asked: {signal:?}");
    }
    let unreadable = decided(&Signal::new(ModelApi::OpenAiChat, Seen::NoCredentials));
    assert_eq!((unreadable.then, unreadable.set_aside), (Then::Next, SetAside::Upstream(UNREADABLE_COOLDOWN)));
}

#[test]
fn x_should_retry_decides_about_the_same_upstream_only() {
    let no = decided(&with(status(503), &[("x-should-retry", "false")]));
    assert_eq!((no.then, no.again), (Then::Next, 0));
    let conflict = decided(&with(status(409), &[("x-should-retry", "true")]));
    assert_eq!((conflict.then, conflict.again), (Then::Stop, 1));
    for code in [401, 402, 403] {
        assert_eq!(decided(&with(status(code), &[("x-should-retry", "true")])).again, 0, "{code}: it stays refused");
    }
    let refused = decided(&with(said(status(400), "", "content_filter"), &[("x-should-retry", "true")]));
    assert_eq!((refused.then, refused.again), (Then::Stop, 0));
    assert_eq!(decided(&with(status(503), &[("x-should-retry", "perhaps")])).again, decided(&status(503)).again);
}

#[test]
fn statuses_that_are_opted_in_are_tried_elsewhere_but_a_refusal_never() {
    let decide_with = |signal: &Signal| decide(&classify(signal, now()), &[400, 404, 401], true);
    assert_eq!(decide_with(&status(404)).then, Then::Next);
    assert_eq!(decide_with(&status(404)).verdict, Verdict::Nothing, "still no fault of the upstream");
    assert_eq!(decide_with(&status(422)).then, Then::Stop);
    let refused = decide_with(&status(401));
    assert_eq!((refused.then, refused.set_aside), (Then::Next, SetAside::QuarantineCredentials));
    assert_eq!(decide_with(&said(status(400), "", "content_filter")).then, Then::Stop);
    assert_eq!(decide_with(&seen(Seen::Finished(Finish::Refused))).then, Then::Stop);
}

#[test]
fn each_class_has_a_constant_of_its_own() {
    let names: std::collections::BTreeSet<&str> = Class::ALL.iter().map(|class| class.as_str()).collect();
    assert_eq!(names.len(), Class::ALL.len());
    assert!(Class::ALL.iter().all(|class| format!("{class:?}") == class.as_str()));
}
