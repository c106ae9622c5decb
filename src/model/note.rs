//! What stands on the record of a call of a model: what it can use, what it cost, how it failed and what followed.

use super::{ledger::Hold, rung::Why, wire::Question};
use crate::{
    api::v1alpha1::Attempt,
    clock,
    core::{
        chain::{
            call::{self, Because, GaveUp, Next},
            failure::{Failure, classify},
            signal::{Seen, Sent, Signal},
            spec::{Upstream, ValidRung},
        },
        money::Usage,
        redact::clip,
        spend::charge::{Bound, Outcome, charge},
    },
};

/// Bytes of a request beside prompt and schema, all of which count as tokens before it is sent.
const ENVELOPE: usize = 2048;

/// The most that a question can use.
pub(super) fn bound(question: &Question<'_>) -> Bound {
    let schema = question.schema.to_string().len();
    let bytes = question.system.len() + question.user.len() + schema + ENVELOPE;
    Bound { input: bytes as u64, output: question.max_output_tokens.into() }
}

/// What a call that gave no answer means.
pub(super) fn failure(signal: &Signal, bound: Bound) -> Failure {
    match signal.usage {
        Some(usage) if !bound.holds(&usage) => {
            Failure::usage_implausible(signal.status, signal.request_id.clone(), bound.cut(usage))
        }
        _ => classify(signal, clock::now()),
    }
}

/// What an attempt that failed is charged by.
pub(super) fn outcome(signal: &Signal) -> Outcome {
    match (signal.sent, signal.seen, signal.status, signal.usage) {
        (Sent::Nothing, ..) => Outcome::NothingSent,
        (_, Seen::Finished(_) | Seen::NoText, _, Some(usage)) => Outcome::Used(usage),
        (_, Seen::Status, Some(status), _) => Outcome::Status(status),
        // What it says that it used up to then may be less than what it bills.
        _ => Outcome::Unknown,
    }
}

/// Settles what a call cost, and puts it on the record. `usage` is what is believed of what it used.
pub(super) fn settle(note: &mut Attempt, hold: Hold, outcome: Outcome, usage: Option<Usage>, upstream: &Upstream) {
    let cost = charge(outcome, hold.amount(), upstream.prices.as_ref());
    hold.settle(cost);
    note.cost_nano_dollars = i64::try_from(cost.0).unwrap_or(i64::MAX);
    note.tokens = usage.map_or(0, |usage| i64::try_from(usage.total()).unwrap_or(i64::MAX));
}

/// Puts a failure on the record.
pub(super) fn failed(note: &mut Attempt, failure: &Failure) {
    note.outcome = failure.class.as_str().into();
    note.detail = failure.detail().unwrap_or_default().to_owned();
    note.status = note.status.or(failure.status.map(i32::from));
    note.request_id = failure.request_id.clone().unwrap_or_default();
    note.message = clip(&failure.message, 256);
    note.not_sent = failure.never_left();
}

/// What follows a call of the upstream `asked`, for its record.
pub(super) fn then(next: &Next, rung: &ValidRung, asked: &str) -> &'static str {
    match next {
        Next::Answered => "",
        Next::Wait(_) => "Pause",
        Next::Attempt(attempt) => match attempt.because {
            // Asked before, but not by the call that this follows.
            Because::Again(_) if rung.upstreams.get(attempt.upstream).is_none_or(|it| it.name != asked) => {
                "NextUpstream"
            }
            Because::First | Because::Elsewhere(_) | Because::TooDear => "NextUpstream",
            Because::Again(_) => "SameUpstream",
            Because::Differently(_) => "AskedDifferently",
        },
        Next::GaveUp(gave_up) if gave_up.next_rung_may_be_asked() => "NextRung",
        Next::GaveUp(_) => "Stopped",
    }
}

/// Why a rung gave no answer.
pub(super) fn why(gave_up: &GaveUp) -> Why {
    match gave_up.why {
        call::Why::Stopped | call::Why::OutOfStep => Why::Stopped,
        call::Why::NoUsableAnswer => Why::Unusable,
        call::Why::Exhausted => Why::Unavailable,
        call::Why::NothingToAsk => Why::NoUpstream,
        call::Why::Unaffordable => Why::Unaffordable,
        call::Why::OutOfTime | call::Why::GivenUp => Why::Timeout,
    }
}
