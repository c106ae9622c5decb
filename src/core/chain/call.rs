//! One request to the upstreams of one rung, step by step. [`Call::step`] is told what happened and says what comes next;
//! who drives it sends, waits and reports back, and does nothing on its own account. Time and chance are arguments.
//!
//! Another upstream is asked at once, the same one only after a pause and when no fresh one is left. Whatever was asked
//! stays asked: nothing makes an upstream fresh again within a request.

use std::time::Duration;

use super::breaker::Tenant;
use super::deadline::{Allowance, is_fair};
use super::decision::{Decision, Differently, Then, decide, is_overload};
use super::failure::{Class, Failure};
use super::fleet::{Asked, End, Fleet, Id, Standing, Transition};
use super::moment::Moment;
use super::spec::Timers;

/// A wait that an upstream asks for and that is no longer is waited for, even where another could be asked: whoever is
/// limited for a moment would only pass the rush on.
const WORTH_WAITING: Duration = Duration::from_secs(2);

/// One request to the upstreams of one rung.
#[derive(Clone, Debug)]
pub struct Call {
    tenant: Option<Tenant>,
    upstreams: Vec<Tried>,
    allowance: Allowance,
    /// Attempts that this rung may still make: each rung behind it keeps one as long as there are enough.
    own: u32,
    /// Rungs behind it that could be asked.
    later: u32,
    asked: Option<(usize, Duration, Asked)>,
    waiting_for: Option<(usize, Because)>,
    with_the_error: bool,
    with_more_tokens: bool,
    made: u32,
    last: Option<Class>,
    unaffordable: bool,
    /// The last failure lets only the same upstream be asked again.
    stopping: bool,
    over: bool,
}

/// What this request knows of an upstream.
#[derive(Clone, Debug)]
struct Tried {
    id: Id,
    url: String,
    timers: Timers,
    extra: Vec<u16>,
    /// Attempts that were made.
    attempts: u32,
    /// Those that asked the same once more.
    repeats: u32,
    /// How many of those its last failure allows.
    again: u32,
    /// Why it failed last.
    failed: Option<Class>,
    /// It said that its provider has too much to do.
    overloaded: bool,
    /// It is not asked any more.
    out: bool,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The call begins.
    Begin,
    /// The pause is over.
    Waited,
    /// The attempt brought an answer of the schema.
    Answered,
    /// The attempt brought none.
    Failed(Failure),
    /// The budget does not allow the attempt, so nothing was sent.
    Unaffordable,
    /// Nobody waits for the answer any more.
    GivenUp,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// An attempt.
    Attempt(Attempt),
    /// A pause, then [`Event::Waited`].
    Wait(Duration),
    /// There is an answer.
    Answered,
    /// There is none.
    GaveUp(GaveUp),
}

/// An attempt to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Index of the upstream in the rung.
    pub upstream: usize,
    /// It is over after that, answer or not.
    pub limit: Duration,
    /// Number of the attempt in this call, from 1.
    pub number: u32,
    /// The model is told what was wrong about its answer before.
    pub with_the_error: bool,
    /// It gets [`more_tokens`] for its answer.
    pub with_more_tokens: bool,
    /// It is the one trial of the upstream's breaker.
    pub trial: bool,
    /// Why it is made.
    pub because: Because,
}

/// Why an attempt is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Because {
    /// It is the first of the call.
    First,
    /// The attempt before, at another upstream, failed with that.
    Elsewhere(Class),
    /// The attempt before at the same upstream failed with that.
    Again(Class),
    /// The model is asked in another way.
    Differently(Differently),
    /// The attempt before was too dear.
    TooDear,
}

impl Because {
    /// The outcome that the attempt follows, as it stands on the record; empty for the first of the call.
    pub fn outcome(self) -> &'static str {
        match self {
            Because::First => "",
            Because::Elsewhere(class) | Because::Again(class) => class.as_str(),
            Because::Differently(Differently::WithTheError) => Class::NotOfSchema.as_str(),
            Because::Differently(Differently::WithMoreTokens) => Class::OutputLimit.as_str(),
            Because::TooDear => "Unaffordable",
        }
    }
}

/// A call without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GaveUp {
    /// Why.
    pub why: Why,
    /// Class of the last failed attempt; `None`: there was none.
    pub last: Option<Class>,
    /// When the first upstream of the rung may be asked again, if that is known.
    pub next_try: Option<Moment>,
}

/// Why a call gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The failure is one after which no model is asked.
    Stopped,
    /// The model answered twice with what is no use.
    NoUsableAnswer,
    /// No upstream, or no attempt, of the rung is left.
    Exhausted,
    /// No upstream of the rung may be asked.
    NothingToAsk,
    /// The budget allows no attempt.
    Unaffordable,
    /// The request's deadline leaves no time.
    OutOfTime,
    /// Nobody waits any more.
    GivenUp,
    /// It was told something that cannot have happened.
    OutOfStep,
}

impl GaveUp {
    /// Whether the next rung may be asked, if the allowance has something left.
    pub fn next_rung_may_be_asked(&self) -> bool {
        match self.why {
            Why::NoUsableAnswer | Why::Exhausted | Why::NothingToAsk | Why::Unaffordable => true,
            Why::Stopped | Why::OutOfTime | Why::GivenUp | Why::OutOfStep => false,
        }
    }
}

/// What comes next, and what changed among the upstreams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What comes next.
    pub next: Next,
    /// What changed.
    pub transitions: Vec<Transition>,
}

/// The most tokens of an answer on the one retry with more of them.
pub fn more_tokens(max_output_tokens: u32) -> u32 {
    max_output_tokens.saturating_mul(2).min(32_000).max(max_output_tokens)
}

impl Call {
    /// A call of the rung with that index, for a tenant. `later` is how many rungs behind it could be asked, see
    /// [`Fleet::rungs_left`]. `allowance` is what the request may still take.
    pub fn new(fleet: &Fleet, rung: usize, tenant: Option<Tenant>, later: u32, allowance: Allowance) -> Call {
        let upstreams = fleet.of_rung(rung).map(|(id, upstream)| Tried {
            id,
            url: upstream.url.clone(),
            timers: upstream.timers,
            extra: upstream.extra_failover_statuses.clone(),
            attempts: 0,
            repeats: 0,
            again: 0,
            failed: None,
            overloaded: false,
            out: false,
        });
        Call {
            tenant,
            upstreams: upstreams.collect(),
            allowance,
            own: allowance.attempts.saturating_sub(later).max(1).min(allowance.attempts),
            later,
            asked: None,
            waiting_for: None,
            with_the_error: false,
            with_more_tokens: false,
            made: 0,
            last: None,
            unaffordable: false,
            stopping: false,
            over: false,
        }
    }

    /// What the request may still take, for the next rung.
    pub fn allowance(&self) -> Allowance {
        self.allowance
    }

    /// What comes next after what happened. `chance` is a random number from 0 to 1.
    pub fn step(&mut self, fleet: &mut Fleet, event: Event, now: Moment, chance: f64) -> Step {
        let mut transitions = Vec::new();
        let mut at = At { fleet, now, chance, told: &mut transitions };
        let next = if self.over { self.give_up(&at, Why::OutOfStep) } else { self.after(&mut at, event) };
        self.over = matches!(next, Next::Answered | Next::GaveUp(_));
        Step { next, transitions }
    }

    fn after(&mut self, at: &mut At<'_>, event: Event) -> Next {
        match (event, self.asked.take(), self.waiting_for.take()) {
            (Event::Begin, None, None) if self.made == 0 => self.go_on(at, Because::First),
            (Event::Waited, None, Some((index, because))) => self.attempt(at, index, because),
            (Event::Answered, Some((_, _, asked)), None) => {
                at.end(asked, End::Answered);
                Next::Answered
            }
            (Event::Failed(failure), Some((index, limit, asked)), None) => {
                self.failed(at, index, limit, asked, &failure)
            }
            (Event::Unaffordable, Some((index, _, asked)), None) => self.unaffordable(at, index, asked),
            (Event::GivenUp, asked, _) => {
                if let Some((_, _, asked)) = asked {
                    at.end(asked, End::GivenUp);
                }
                self.give_up(at, Why::GivenUp)
            }
            (_, asked, _) => {
                if let Some((_, _, asked)) = asked {
                    at.end(asked, End::GivenUp);
                }
                self.give_up(at, Why::OutOfStep)
            }
        }
    }

    fn failed(&mut self, at: &mut At<'_>, index: usize, limit: Duration, asked: Asked, failure: &Failure) -> Next {
        let Some(tried) = self.upstreams.get_mut(index) else { return self.give_up(at, Why::OutOfStep) };
        let class = failure.class;
        let decision = decide(failure, &tried.extra, is_fair(limit, &tried.timers));
        let Decision { then, again, verdict: _, success: _, set_aside: _ } = decision;
        tried.again = again;
        tried.failed = Some(class);
        tried.overloaded |= is_overload(failure);
        let repeat = tried.repeats < again;
        let first = tried.repeats == 0;
        self.last = Some(class);
        self.stopping = then == Then::Stop;
        at.end(asked, End::Failed(failure, &decision));
        if failure.never_left() {
            self.give_back();
        }
        match then {
            Then::Stop if repeat => self.repeat(at, index, failure).unwrap_or_else(|| self.give_up(at, Why::Stopped)),
            Then::Stop => self.give_up(at, Why::Stopped),
            Then::Differently(how) => self.differently(at, index, how),
            Then::Next => {
                let soon = failure.retry_after.is_some_and(|wait| wait <= WORTH_WAITING);
                let wait_here = repeat && first && soon && class == Class::RateLimited;
                let here = if wait_here { self.repeat(at, index, failure) } else { None };
                here.unwrap_or_else(|| self.go_on(at, Because::Elsewhere(class)))
            }
        }
    }

    /// A pause, and then the same upstream again. `None`: it does not fit.
    fn repeat(&mut self, at: &At<'_>, index: usize, failure: &Failure) -> Option<Next> {
        if self.own == 0 {
            return None;
        }
        let pause = match failure.retry_after {
            Some(wait) => self.allowance.obeyed(wait, self.later.saturating_add(1), at.now),
            None => self.allowance.pause(self.upstreams.get(index)?.attempts, at.chance, at.now),
        };
        Some(self.wait(pause?, index))
    }

    fn wait(&mut self, pause: Duration, index: usize) -> Next {
        let failed = self.upstreams.get(index).and_then(|tried| tried.failed);
        let because = match (failed, self.last) {
            (Some(class), _) => Because::Again(class),
            (None, Some(class)) => Because::Elsewhere(class),
            (None, None) => Because::First,
        };
        self.waiting_for = Some((index, because));
        self.allowance.waiting = self.allowance.waiting.saturating_sub(pause);
        Next::Wait(pause)
    }

    /// The same model once more, in another way: here, or where it may be asked.
    fn differently(&mut self, at: &mut At<'_>, index: usize, how: Differently) -> Next {
        let done = match how {
            Differently::WithTheError => &mut self.with_the_error,
            Differently::WithMoreTokens => &mut self.with_more_tokens,
        };
        if std::mem::replace(done, true) || self.own == 0 {
            return self.give_up(at, Why::NoUsableAnswer);
        }
        self.attempt(at, index, Because::Differently(how))
    }

    fn unaffordable(&mut self, at: &mut At<'_>, index: usize, asked: Asked) -> Next {
        at.end(asked, End::GivenUp);
        self.give_back();
        self.unaffordable = true;
        if let Some(tried) = self.upstreams.get_mut(index) {
            tried.out = true;
        }
        if self.with_more_tokens {
            return self.give_up(at, Why::NoUsableAnswer);
        }
        self.go_on(at, Because::TooDear)
    }

    /// Nothing was sent, so that was no attempt. Its upstream is not asked the same again, so that this ends.
    fn give_back(&mut self) {
        self.allowance.attempts = self.allowance.attempts.saturating_add(1);
        self.own = self.own.saturating_add(1);
        self.made = self.made.saturating_sub(1);
    }

    /// A fresh upstream, or a pause before one that may be asked again.
    fn go_on(&mut self, at: &mut At<'_>, because: Because) -> Next {
        if self.stopping {
            return self.give_up(at, Why::Stopped);
        }
        if self.own == 0 {
            return self.give_up(at, Why::Exhausted);
        }
        if self.allowance.share(1, at.now).is_none() {
            return self.give_up(at, Why::OutOfTime);
        }
        match self.fresh(at).first() {
            Some(index) => self.attempt(at, *index, because),
            None => self.again(at),
        }
    }

    /// The upstreams that were not asked and may be, in the order in which they are asked: those of a provider that said
    /// that it has too much to do come last.
    fn fresh(&self, at: &At<'_>) -> Vec<usize> {
        let ids: Vec<Id> =
            self.upstreams.iter().filter(|tried| tried.attempts == 0 && !tried.out).map(|tried| tried.id).collect();
        let order = at.fleet.order(&ids, self.tenant.as_ref(), at.chance, at.now);
        let index = |id: Id| self.upstreams.iter().position(|tried| tried.id == id);
        let mut fresh: Vec<usize> = order.into_iter().filter_map(index).collect();
        fresh.sort_by_key(|index| self.upstreams.get(*index).is_some_and(|tried| self.is_overloaded(&tried.url)));
        fresh
    }

    /// How many fresh upstreams there are besides this one.
    fn others(&self, at: &At<'_>, index: usize) -> u32 {
        let fresh = |(other, tried): &(usize, &Tried)| {
            *other != index
                && tried.attempts == 0
                && !tried.out
                && at.fleet.standing(tried.id, self.tenant.as_ref(), at.now).may_be_asked()
        };
        u32::try_from(self.upstreams.iter().enumerate().filter(fresh).count()).unwrap_or(u32::MAX)
    }

    fn is_overloaded(&self, url: &str) -> bool {
        self.upstreams.iter().any(|tried| tried.overloaded && tried.url == url)
    }

    /// The pause before the upstream that may be asked first: one that failed in a way that passes, or one that was not
    /// asked because it is limited for a moment.
    fn again(&mut self, at: &At<'_>) -> Next {
        let first = (0..self.upstreams.len())
            .filter_map(|index| self.pause_before(at, index).map(|(pause, tries)| (pause, tries, index)))
            .min();
        match first {
            Some((pause, _, index)) => self.wait(pause, index),
            None if self.made == 0 && self.unaffordable => self.give_up(at, Why::Unaffordable),
            None if self.made == 0 => self.give_up(at, Why::NothingToAsk),
            None => self.give_up(at, Why::Exhausted),
        }
    }

    fn pause_before(&self, at: &At<'_>, index: usize) -> Option<(Duration, u32)> {
        let tried = self.upstreams.get(index)?;
        if tried.out || (tried.attempts > 0 && tried.repeats >= tried.again) {
            return None;
        }
        let obeyed = |wait| self.allowance.obeyed(wait, self.later.saturating_add(1), at.now);
        let cooling = match at.fleet.standing(tried.id, self.tenant.as_ref(), at.now) {
            Standing::Free | Standing::Trial => Duration::ZERO,
            Standing::CoolingDown(until) => obeyed(at.now.until(until))?,
            Standing::Shut(_) | Standing::Quarantined | Standing::Gone => return None,
        };
        let pause = match tried.attempts {
            0 => cooling,
            attempts => cooling.max(self.allowance.pause(attempts, at.chance, at.now)?),
        };
        let then = at.fleet.standing(tried.id, self.tenant.as_ref(), at.now.after(pause));
        then.may_be_asked().then_some((pause, tried.attempts))
    }

    fn attempt(&mut self, at: &mut At<'_>, index: usize, because: Because) -> Next {
        let others = self.others(at, index).min(self.own.saturating_sub(1));
        let share = self.allowance.share(others.saturating_add(self.later).saturating_add(1), at.now);
        let Some(limit) = share else { return self.give_up(at, Why::OutOfTime) };
        let Some(tried) = self.upstreams.get_mut(index) else { return self.give_up(at, Why::OutOfStep) };
        let Some(asked) = at.begin(tried.id, self.tenant.as_ref(), limit) else {
            // Somebody else found out meanwhile that it may not be asked.
            tried.out = true;
            return self.go_on(at, because);
        };
        tried.repeats = tried.repeats.saturating_add(u32::from(matches!(because, Because::Again(_))));
        tried.attempts = tried.attempts.saturating_add(1);
        let trial = asked.trial;
        self.asked = Some((index, limit, asked));
        self.own = self.own.saturating_sub(1);
        self.allowance.attempts = self.allowance.attempts.saturating_sub(1);
        self.made = self.made.saturating_add(1);
        Next::Attempt(Attempt {
            upstream: index,
            limit,
            number: self.made,
            with_the_error: self.with_the_error,
            with_more_tokens: self.with_more_tokens,
            trial,
            because,
        })
    }

    fn give_up(&self, at: &At<'_>, why: Why) -> Next {
        let next_try = |tried: &Tried| match at.fleet.standing(tried.id, self.tenant.as_ref(), at.now) {
            Standing::CoolingDown(until) | Standing::Shut(until) => Some(until),
            Standing::Free | Standing::Trial | Standing::Quarantined | Standing::Gone => None,
        };
        let next_try = self.upstreams.iter().filter_map(next_try).min();
        let gave_up = GaveUp { why, last: self.last, next_try };
        // Whatever keeps the same upstream from being asked again: after a failure that stops, no other rung is asked.
        if self.stopping && gave_up.next_rung_may_be_asked() {
            return Next::GaveUp(GaveUp { why: Why::Stopped, ..gave_up });
        }
        Next::GaveUp(gave_up)
    }
}

/// What a step has at hand.
struct At<'a> {
    fleet: &'a mut Fleet,
    now: Moment,
    chance: f64,
    told: &'a mut Vec<Transition>,
}

impl At<'_> {
    fn begin(&mut self, id: Id, tenant: Option<&Tenant>, limit: Duration) -> Option<Asked> {
        let (asked, told) = self.fleet.begin(id, tenant, limit, self.now)?;
        self.told.extend(told);
        Some(asked)
    }

    fn end(&mut self, asked: Asked, end: End<'_>) {
        self.told.extend(self.fleet.end(asked, end, self.now));
    }
}

#[cfg(test)]
#[path = "call_tests.rs"]
mod tests;
