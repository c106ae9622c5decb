//! How long an upstream asks to wait, in each spelling that is in use: seconds, decimal seconds, HTTP dates, milliseconds,
//! RFC 3339 dates, spans such as `6m0s`, and moments since 1970. Whatever is negative, not a number or not understood says
//! nothing; whatever is too long is [`LONGEST`].

use std::time::Duration;

use jiff::{civil::DateTime, fmt::strtime, tz::TimeZone};

use super::signal::{Headers, Signal};
use crate::api::v1alpha1::Time;

/// No wait is longer: quotas of a day exist, longer ones are a matter for people.
pub const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// A number of seconds above this is a moment since 1970 and not a wait.
const EPOCH_FROM: f64 = 30.0 * 86_400.0;
/// A moment since 1970 above this is in milliseconds.
const EPOCH_IN_MILLISECONDS_FROM: f64 = 1e11;

/// The wait that the response names outright, for a failure of any class. `now` counts where it does not say what time it
/// is itself.
pub fn named(signal: &Signal, now: Time) -> Option<Duration> {
    let Signal { headers, error, .. } = signal;
    let now = their_now(headers, now);
    let milliseconds = |name: &str| headers.get(name).and_then(number).map(|ms| seconds(ms / 1000.0));
    headers
        .get("retry-after")
        .and_then(|value| wait(value, now))
        .or_else(|| milliseconds("retry-after-ms"))
        .or_else(|| milliseconds("x-ms-retry-after-ms"))
        // LiteLLM hands the header of its own upstream on under this name only.
        .or_else(|| headers.get("llm_provider-retry-after").and_then(|value| wait(value, now)))
        .or_else(|| error.retry_delay.as_deref().and_then(|delay| span(delay.trim())))
}

/// The wait until a limit is lifted, for a response that says that one was reached: upstreams send these headers with
/// each response. Of several limits those with nothing remaining count, else the one that is lifted first.
pub fn until_reset(headers: &Headers, now: Time) -> Option<Duration> {
    let now = their_now(headers, now);
    let resets = || {
        headers.iter().filter(|(name, _)| name.contains("reset")).filter_map(|(name, value)| {
            let remaining = headers.get(&name.replace("reset", "remaining")).and_then(|left| number(left.trim()));
            reset(value, now).map(|wait| (wait, remaining == Some(0.0)))
        })
    };
    let used_up = resets().filter(|(_, used_up)| *used_up).map(|(wait, _)| wait).max();
    used_up.or_else(|| resets().map(|(wait, _)| wait).min()).or_else(|| structured(headers.get("ratelimit")?))
}

/// What time the upstream says that it is, so that two wrong clocks do no harm.
fn their_now(headers: &Headers, now: Time) -> Time {
    headers.get("date").and_then(http_date).unwrap_or(now)
}

/// A value of `Retry-After`.
fn wait(value: &str, now: Time) -> Option<Duration> {
    let value = value.trim();
    match number(value) {
        Some(number) => Some(seconds(number)),
        None => span(value).or_else(|| Some(between(now, moment(value)?))),
    }
}

/// A value of a header that says when a limit is lifted.
fn reset(value: &str, now: Time) -> Option<Duration> {
    let value = value.trim();
    match number(value) {
        Some(number) if number > EPOCH_FROM => {
            let epoch = if number >= EPOCH_IN_MILLISECONDS_FROM { number / 1000.0 } else { number };
            #[allow(clippy::cast_precision_loss)]
            let now = now.as_millisecond() as f64 / 1000.0;
            Some(seconds((epoch - now).max(0.0)))
        }
        _ => wait(value, now),
    }
}

/// `reset=5` and `t=5` of the header `RateLimit`.
fn structured(value: &str) -> Option<Duration> {
    let mut parts = value.split([',', ';']).map(str::trim);
    let found = parts.find_map(|part| part.strip_prefix("reset=").or_else(|| part.strip_prefix("t=")))?;
    number(found).map(seconds)
}

/// A number of digits with at most one point; nothing negative, and neither `NaN` nor `inf`.
fn number(text: &str) -> Option<f64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    plain.then(|| text.parse().ok()).flatten()
}

/// Seconds as a wait, at most [`LONGEST`], which also holds for what is beyond all numbers.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.min(LONGEST.as_secs_f64())).unwrap_or(LONGEST)
}

/// A span such as `6m0s`, `1h2m3.5s`, `250ms` or `34s`.
fn span(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = 0.0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
        let (amount, behind) = rest.split_at(digits);
        let letters = behind.chars().take_while(|c| c.is_alphabetic()).map(char::len_utf8).sum();
        let (unit, behind) = behind.split_at(letters);
        let unit = match unit {
            "d" => 86_400.0,
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" | "μs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        sum += number(amount)? * unit;
        rest = behind;
    }
    (!text.is_empty()).then(|| seconds(sum))
}

/// A date of HTTP or of RFC 3339.
fn moment(text: &str) -> Option<Time> {
    http_date(text).or_else(|| text.parse().ok())
}

/// The three spellings of a date that HTTP knows.
fn http_date(text: &str) -> Option<Time> {
    const SPELLINGS: [&str; 3] = ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y"];
    let read = |spelling: &&str| -> Option<Time> {
        let date: DateTime = strtime::parse(spelling, text.trim()).ok()?.to_datetime().ok()?;
        date.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
    };
    SPELLINGS.iter().find_map(read)
}

/// From `now` until `end`; nothing when that has passed.
fn between(now: Time, end: Time) -> Duration {
    Duration::try_from(end.duration_since(now)).unwrap_or_default().min(LONGEST)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::v1alpha1::ModelApi;
    use crate::core::chain::signal::Seen;

    fn now() -> Time {
        "2026-11-27T10:00:00Z".parse().unwrap()
    }

    fn of(headers: &[(&str, &str)]) -> Signal {
        Signal { headers: Headers::of(headers.iter().copied()), ..Signal::new(ModelApi::OpenAiChat, Seen::Status) }
    }

    fn named_ms(headers: &[(&str, &str)]) -> Option<u128> {
        named(&of(headers), now()).map(|wait| wait.as_millis())
    }

    fn reset_ms(headers: &[(&str, &str)]) -> Option<u128> {
        until_reset(&of(headers).headers, now()).map(|wait| wait.as_millis())
    }

    #[test]
    fn every_spelling_of_retry_after_is_read() {
        for (name, value, milliseconds) in [
            ("Retry-After", "1", 1000),
            ("Retry-After", "0", 0),
            ("Retry-After", " 90 ", 90_000),
            ("retry-after", "0.25", 250),
            ("retry-after", "2s", 2000),
            ("retry-after", "Fri, 27 Nov 2026 10:00:20 GMT", 20_000),
            ("retry-after", "Friday, 27-Nov-26 10:00:20 GMT", 20_000),
            ("retry-after", "Fri Nov 27 10:00:20 2026", 20_000),
            ("retry-after", "2026-11-27T10:01:00Z", 60_000),
            ("retry-after-ms", "1500", 1500),
            ("retry-after-ms", "12.5", 12),
            ("x-ms-retry-after-ms", "700", 700),
            ("llm_provider-retry-after", "90", 90_000),
        ] {
            assert_eq!(named_ms(&[(name, value)]), Some(milliseconds), "{name}: {value}");
        }
        let mut google = of(&[]);
        google.error.retry_delay = Some("34.5s".into());
        assert_eq!(named(&google, now()), Some(Duration::from_millis(34_500)));
    }

    #[test]
    fn every_spelling_of_a_reset_is_read() {
        for (name, value, milliseconds) in [
            ("x-ratelimit-reset", "3", 3000),
            ("x-ratelimit-reset", "1795773660", 60_000),
            ("x-ratelimit-reset", "1795773660000", 60_000),
            ("x-ratelimit-reset-requests", "6m0s", 360_000),
            ("x-ratelimit-reset-tokens", "1h2m3.5s", 3_723_500),
            ("x-ratelimit-reset-tokens", "20ms", 20),
            ("x-ratelimit-reset-requests-day", "33011.382867", 33_011_382),
            ("anthropic-ratelimit-tokens-reset", "2026-11-27T10:00:05Z", 5000),
            ("ratelimit-reset", "7", 7000),
            ("ratelimit", "limit=100, remaining=0, reset=8", 8000),
            ("ratelimit", "\"default\";r=0;t=9", 9000),
        ] {
            assert_eq!(reset_ms(&[(name, value)]), Some(milliseconds), "{name}: {value}");
        }
    }

    #[test]
    fn of_several_limits_the_used_up_one_counts_and_else_the_first_that_is_lifted() {
        let both = [("x-ratelimit-reset-requests", "2s"), ("x-ratelimit-reset-tokens", "40s")];
        assert_eq!(reset_ms(&both), Some(2000));
        let used_up =
            [both[0], both[1], ("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-remaining-requests", "9")];
        assert_eq!(reset_ms(&used_up), Some(40_000));
        let azure = [("x-ratelimit-reset-requests", "-1"), ("x-ratelimit-reset-tokens", "4")];
        assert_eq!(reset_ms(&azure), Some(4000), "what is negative says nothing");
    }

    #[test]
    fn what_is_no_wait_says_nothing_and_what_is_too_long_is_cut() {
        for nothing in
            ["", "-1", "-0.5", "NaN", "nan", "inf", "-inf", "soon", "1e3", "0x10", "1.2.3", "5 minutes", "m", "s"]
        {
            assert_eq!(named_ms(&[("retry-after", nothing)]), None, "{nothing:?}");
            assert_eq!(reset_ms(&[("x-ratelimit-reset", nothing)]), None, "{nothing:?}");
        }
        let digits = "9".repeat(128);
        for long in ["86401", "1795773660", digits.as_str(), "Thu, 31 Dec 9998 23:59:59 GMT", "999999999d"] {
            assert_eq!(named_ms(&[("retry-after", long)]), Some(LONGEST.as_millis()), "{long:?}");
        }
        assert_eq!(named_ms(&[("retry-after", "Fri, 27 Nov 2026 09:00:00 GMT")]), Some(0), "a moment that has passed");
        assert_eq!(named_ms(&[("retry-after", "-1"), ("retry-after-ms", "20")]), Some(20), "the next spelling counts");
    }

    #[test]
    fn a_date_is_relative_to_the_clock_that_wrote_it() {
        let skewed = [("date", "Fri, 27 Nov 2026 14:00:00 GMT"), ("retry-after", "Fri, 27 Nov 2026 14:00:03 GMT")];
        assert_eq!(named_ms(&skewed), Some(3000));
    }

    proptest! {
        #[test]
        fn no_value_makes_it_panic_or_wait_longer_than_the_longest(value in "\\PC{0,40}|[0-9.smhdn:TZ+-]{0,40}") {
            let signal = of(&[("retry-after", &value), ("x-ratelimit-reset", &value), ("date", &value)]);
            prop_assert!(named(&signal, now()).is_none_or(|wait| wait <= LONGEST));
            prop_assert!(until_reset(&signal.headers, now()).is_none_or(|wait| wait <= LONGEST));
        }
    }
}
