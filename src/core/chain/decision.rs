//! What a failed call of a model asks for: whom it counts for, who is not asked for a while, and what follows in this
//! request. Decided by class, status, header and code.

use std::time::Duration;

use super::breaker::{Blame, Verdict};
use super::failure::{Class, Failure};
use super::signal::{Sent, Timer};

/// What a failure asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What follows in this request.
    pub then: Then,
    /// How often the same upstream may be asked the same once more in this request.
    pub again: u32,
    /// What it says to the breaker of the upstream.
    pub verdict: Verdict,
    /// Whether it counts as a failed call of the upstream, among the last 100; `None`: it says nothing about it.
    pub success: Option<bool>,
    /// What is not asked for a while.
    pub set_aside: SetAside,
}

/// What follows a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Another upstream, or the next rung, may be asked.
    Next,
    /// The same model is asked once more, in another way; then the next rung.
    Differently(Differently),
    /// No model is asked any more in this request.
    Stop,
}

/// How a model is asked once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Differently {
    /// With what was wrong about its answer.
    WithTheError,
    /// With more tokens for its answer.
    WithMoreTokens,
}

/// What is not asked for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetAside {
    /// All is asked as before.
    Nothing,
    /// The upstream, for everybody.
    Upstream(Duration),
    /// The upstream for the tenant who asked, because it may be due to what was asked; for everybody after a probe.
    Asker(Duration),
    /// All upstreams of its quota.
    Quota(Duration),
    /// The upstream, until its chain or its credentials change or a probe of it is answered.
    Quarantine,
    /// All upstreams with the same credentials, until these or the chain change or a probe is answered.
    QuarantineCredentials,
}

/// How often an upstream is asked the same again that failed in a way that passes.
const REPEATS: u32 = 2;
/// How long an upstream is not asked that is limited and does not say until when, or that is wrongly configured.
pub const COOLDOWN: Duration = Duration::from_secs(300);
/// How long a quota is not asked again that is used up: at least.
pub const QUOTA_COOLDOWN: Duration = Duration::from_secs(1800);
/// The longest that an upstream or a quota is not asked on its own word: it does not know when it will work, and one wrong
/// header must not take it from everybody for a day. Then one call finds out.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// How long an upstream is not asked whose credentials could not be read.
pub const UNREADABLE_COOLDOWN: Duration = Duration::from_secs(30);

/// What a failure asks for. `extra` are the upstream's `extraFailoverStatuses`; `fair` says whether the call had as much
/// time as the upstream may take, so that it is to blame for a share of the deadline that passed.
pub fn decide(failure: &Failure, extra: &[u16], fair: bool) -> Decision {
    let Failure { class, status, retry_after, should_retry, code, timer, sent, .. } = failure;
    let opted_in = status.is_some_and(|status| extra.contains(&status));
    let failed = |blame| (Verdict::Failed(blame), Some(false));
    // A wait that a failing upstream asks for holds for whoever the failure counts for.
    let waits = |blame| match (retry_after.map(|wait| wait.min(LONGEST_PAUSE)), blame) {
        (None, _) => SetAside::Nothing,
        (Some(wait), Blame::Everyone) => SetAside::Upstream(wait),
        (Some(wait), Blame::Asker) => SetAside::Asker(wait),
    };
    let next = |again, blame| (Then::Next, again, failed(blame), waits(blame));
    let nothing = (Verdict::Nothing, None);
    let (then, again, (verdict, success), set_aside) = match class {
        Class::Transport => next(1, of_transport(*sent)),
        Class::Timeout => match timer {
            None => next(REPEATS, Blame::Asker),
            Some(Timer::Connect) => next(0, Blame::Everyone),
            Some(Timer::ResponseHead | Timer::FirstEvent | Timer::FirstContent | Timer::Idle) => next(0, Blame::Asker),
            Some(Timer::Overall) if fair => next(0, Blame::Asker),
            // Too little time was given: only the order of the upstreams learns from it.
            Some(Timer::Overall) => (Then::Next, 0, (Verdict::Nothing, Some(false)), waits(Blame::Asker)),
        },
        Class::RateLimited => match retry_after {
            Some(wait) => {
                (Then::Next, REPEATS, (Verdict::Nothing, Some(false)), SetAside::Quota((*wait).min(LONGEST_PAUSE)))
            }
            None => (Then::Next, 0, failed(Blame::Everyone), SetAside::Quota(COOLDOWN)),
        },
        Class::QuotaExhausted => {
            let long = retry_after.map_or(QUOTA_COOLDOWN, |wait| wait.clamp(QUOTA_COOLDOWN, LONGEST_PAUSE));
            (Then::Next, 0, (Verdict::Nothing, Some(false)), SetAside::Quota(long))
        }
        Class::Billing => (Then::Stop, 0, (Verdict::Nothing, Some(false)), SetAside::QuarantineCredentials),
        Class::CredentialsRefused => match status {
            // They could not even be read: nothing was sent.
            None => (Then::Next, 0, (Verdict::Nothing, Some(false)), SetAside::Upstream(UNREADABLE_COOLDOWN)),
            // Something else than the provider may refuse: a filter before it that does not like what was asked.
            Some(status) if code.is_none() && *status != 401 => {
                (Then::Stop, 0, (Verdict::Failed(Blame::Asker), Some(false)), SetAside::Asker(COOLDOWN))
            }
            // 403 may be due to this one model; the same credentials may do another.
            Some(403) if !names_the_credentials(*code) => {
                (Then::Stop, 0, (Verdict::Nothing, Some(false)), SetAside::Quarantine)
            }
            Some(_) => (Then::Stop, 0, (Verdict::Nothing, Some(false)), SetAside::QuarantineCredentials),
        },
        Class::Upstream => next(REPEATS, of_upstream(failure)),
        Class::CallerError => match status {
            None => (Then::Next, 0, nothing, SetAside::Upstream(COOLDOWN)),
            Some(404 | 410) => (Then::Stop, 0, nothing, SetAside::Upstream(COOLDOWN)),
            // What one tenant asks for lets no other wait.
            Some(_) => (
                Then::Stop,
                0,
                nothing,
                retry_after.map_or(SetAside::Nothing, |it| SetAside::Asker(it.min(LONGEST_PAUSE))),
            ),
        },
        Class::ContextTooLong => (Then::Stop, 0, nothing, SetAside::Nothing),
        Class::Refused => (Then::Stop, 0, nothing, SetAside::Nothing),
        Class::Malformed | Class::Truncated => next(1, Blame::Asker),
        Class::TooLarge => next(0, Blame::Asker),
        Class::UsageImplausible => (Then::Next, 0, (Verdict::Nothing, Some(false)), SetAside::Upstream(COOLDOWN)),
        Class::OutputLimit => {
            (Then::Differently(Differently::WithMoreTokens), 0, (Verdict::Worked, None), SetAside::Nothing)
        }
        Class::NotOfSchema => {
            (Then::Differently(Differently::WithTheError), 0, (Verdict::Worked, None), SetAside::Nothing)
        }
    };
    let then = match then {
        // A refusal is never taken to another model, whoever asks for it.
        Then::Stop if opted_in && *class != Class::Refused => Then::Next,
        then => then,
    };
    let again = match should_retry {
        Some(false) => 0,
        Some(true) if *class == Class::CallerError && status.is_some() => again.max(1),
        Some(true) | None => again,
    };
    Decision { then, again, verdict, success, set_aside }
}

/// For whom a broken connection counts. Before the body left, nobody had read the question. After that it may be what broke
/// it: a server that a question crashes, a filter that resets the connection.
fn of_transport(sent: Sent) -> Blame {
    match sent {
        Sent::Nothing => Blame::Everyone,
        Sent::Maybe => Blame::Asker,
    }
}

/// For whom an upstream's own failure counts. 503 and 529 say that it has no room, which is so before a question is read.
/// Everything else the question may have caused: 500 is what some servers say to a request that they do not understand, 502 what
/// a proxy says of a server that a question crashed, 504 of one that a question keeps busy, and an event of a stream that
/// is an error came when the question was being answered.
fn of_upstream(failure: &Failure) -> Blame {
    let no_room = matches!(failure.status, Some(503 | 529))
        || matches!(failure.code, Some("overloaded_error" | "serviceunavailableexception"));
    if no_room { Blame::Everyone } else { Blame::Asker }
}

/// Whether a code says that the credentials are bad, and not what they are used for.
fn names_the_credentials(code: Option<&str>) -> bool {
    let of_credentials = [
        "authentication_error",
        "invalid_api_key",
        "unrecognizedclientexception",
        "expiredtokenexception",
        "expiredtoken",
        "invalidsignatureexception",
    ];
    code.is_some_and(|code| of_credentials.contains(&code))
}

/// Whether a failure says that the provider as a whole has too much to do: another key of it does not help.
pub fn is_overload(failure: &Failure) -> bool {
    failure.class == Class::Upstream && (failure.status == Some(529) || failure.code == Some("overloaded_error"))
}
