//! One ModelChain in this process: what is known of its upstreams, its money, and one request over the upstreams of a rung.
//! What is done next is decided by [`crate::core::chain::call`]; here it is sent, paid, timed and put on the record.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use super::{
    ledger::{Advance, Hold, NoMoney, SpendLedger},
    log::Log,
    metrics::{ANSWERED, Metrics},
    note,
    rung::{Budget, Why},
    send::{Reply, Sender},
    wire::Question,
};
use crate::{
    api::v1alpha1::{Attempt, IncidentKey, Time, UpstreamChange, UpstreamStatus},
    clock,
    core::{
        answer::Malformed,
        chain::{
            breaker::{Tenant, Terms},
            call::{self, Because, Call, Event, Next, more_tokens},
            changes,
            deadline::Allowance,
            failure::{Class, Failure},
            fleet::{Fleet, Transition, What},
            moment::Moment,
            spec::{Upstream, ValidChain, ValidRung},
        },
        money::NanoDollars,
        prompt::Prompt,
        redact::clip,
        spend::{
            Limits, Payer,
            charge::{Bound, Outcome},
            rate::Rates,
        },
    },
};

/// Outcome of a call that was dropped while it was under way.
const GIVEN_UP: &str = "GivenUp";

/// One ModelChain. What is known of its upstreams outlives changes of the object.
pub struct Live {
    name: String,
    start: Instant,
    state: Mutex<State>,
    ledger: SpendLedger,
    sender: Arc<Sender>,
    metrics: Metrics,
}

struct State {
    chain: Arc<ValidChain>,
    fleet: Fleet,
    rates: Rates,
    /// The newest changes of upstreams, oldest first, for the status.
    changes: Vec<UpstreamChange>,
}

/// What a model is asked, and by whom.
pub struct Job<'a> {
    /// The chain that is asked: as it was when the diagnosis began. Where it is another one by now, nothing is asked.
    pub chain: &'a Arc<ValidChain>,
    /// Index of the rung in it.
    pub rung: usize,
    /// Namespace for which it is asked; `None`: a probe or a check of ours.
    pub tenant: Option<&'a Tenant>,
    /// Who pays.
    pub advance: &'a Advance,
    /// The question.
    pub prompt: &'a Prompt,
    /// Schema of the answer.
    pub schema: &'a Value,
    /// Its name.
    pub schema_name: &'a str,
    /// Where each call and pause is put on the record.
    pub log: &'a Log,
}

/// What came of a request.
#[derive(Debug)]
pub struct Called<T> {
    /// The answer, or why there is none.
    pub answer: Result<T, Why>,
    /// Another model answered than was asked for: its answer may only suggest.
    pub swapped: bool,
    /// No other model may be asked either.
    pub last: bool,
}

impl<T> Called<T> {
    fn none(why: Why, last: bool) -> Called<T> {
        Called { answer: Err(why), swapped: false, last }
    }
}

/// What came of one call.
struct Sending<T> {
    event: Event,
    answer: Option<T>,
    swapped: bool,
    malformed: Option<Malformed>,
}

impl Live {
    /// A chain about whose upstreams nothing is known.
    pub fn new(chain: ValidChain, ledger: SpendLedger, sender: Arc<Sender>, metrics: Metrics) -> Live {
        let fleet = Fleet::new(&chain, Terms::default());
        let name = chain.name.clone();
        let state = Mutex::new(State { chain: Arc::new(chain), fleet, rates: Rates::default(), changes: Vec::new() });
        Live { name, start: Instant::now(), state, ledger, sender, metrics }
    }

    /// The chain as it is now.
    pub fn chain(&self) -> Arc<ValidChain> {
        self.state().chain.clone()
    }

    /// Whether this is the chain as it is now.
    pub fn is_current(&self, chain: &Arc<ValidChain>) -> bool {
        Arc::ptr_eq(&self.state().chain, chain)
    }

    /// Follows a change of the object.
    pub fn follow(&self, chain: ValidChain) {
        let mut state = self.state();
        let told = state.fleet.follow(&chain);
        state.chain = Arc::new(chain);
        drop(state);
        self.tell(&told);
    }

    /// The files of a Secret changed.
    pub fn credentials_changed(&self, secret: &str) {
        let told = self.state().fleet.credentials_changed(secret);
        self.tell(&told);
    }

    /// Money for one diagnosis of an incident.
    pub fn advance(&self, incident: IncidentKey) -> Advance {
        self.ledger.advance(Payer::Incident(incident), Limits::of(&self.chain()))
    }

    /// Money for probes.
    pub fn advance_for_probes(&self) -> Advance {
        self.ledger.advance(Payer::Probes, Limits::of(&self.chain()))
    }

    /// Money that was spent today.
    pub fn spent(&self, now: Time) -> crate::core::spend::book::Spent {
        self.ledger.spent(now)
    }

    /// Waits until all money that was settled is written, or cannot be.
    pub async fn flush(&self) {
        self.ledger.flush().await;
    }

    /// Counts a diagnosis of a namespace, unless it asked too often.
    pub fn admit(&self, namespace: &str) -> Result<(), Duration> {
        let mut state = self.state();
        let limit = state.chain.caps.requests_per_minute;
        state.rates.count(namespace, limit, self.start.elapsed())
    }

    /// Whether a rung has an upstream that may be asked for a tenant.
    pub fn may_be_asked(&self, rung: usize, tenant: Option<&Tenant>) -> bool {
        self.state().fleet.rungs_left([rung], tenant, self.now()) > 0
    }

    /// State of each upstream; what was spent on each is added.
    pub fn snapshot(&self, now: Time) -> Vec<UpstreamStatus> {
        let spent = self.ledger.spent(now).upstreams;
        let state = self.state();
        let interval = state.chain.probe.map(|probe| probe.interval);
        let mut all = state.fleet.snapshot(interval, self.now(), now);
        for upstream in &mut all {
            let cost = spent.get(&upstream.name).copied().unwrap_or_default();
            upstream.spent_nano_dollars = i64::try_from(cost.0).unwrap_or(i64::MAX);
        }
        all
    }

    /// The newest changes of upstreams, oldest first.
    pub fn changes(&self) -> Vec<UpstreamChange> {
        self.state().changes.clone()
    }

    pub(super) fn with_fleet<T>(&self, what: impl FnOnce(&mut Fleet, Moment) -> T) -> T {
        let now = self.now();
        what(&mut self.state().fleet, now)
    }

    pub(super) fn sender(&self) -> &Sender {
        &self.sender
    }

    /// Reports changes of upstreams.
    pub(super) fn tell(&self, told: &[Transition]) {
        if told.is_empty() {
            return;
        }
        let now = clock::now();
        let new: Vec<UpstreamChange> = told.iter().map(|transition| changes::record(transition, now)).collect();
        let mut state = self.state();
        state.changes = changes::merged(&state.changes, &new);
        drop(state);
        for Transition { upstream, tenant, what } in told {
            let (chain, change, tenant) = (self.name.as_str(), what.as_str(), tenant.as_deref().unwrap_or_default());
            self.metrics.changed(chain, upstream, change);
            match what {
                What::BreakerHalfOpened | What::BreakerClosed | What::Released { .. } | What::ModelRestored => {
                    tracing::info!(chain, upstream = &**upstream, tenant, change, "an upstream of a model changed");
                }
                What::BreakerOpened { .. }
                | What::CoolingDown { .. }
                | What::Quarantined { .. }
                | What::ModelSwapped { .. } => {
                    tracing::warn!(
                        chain,
                        upstream = &**upstream,
                        tenant,
                        change,
                        ?what,
                        "an upstream of a model changed"
                    );
                }
            }
        }
    }

    /// Notes which model answered, as the upstream says. Whether it is another one than was asked for.
    pub(super) fn served(&self, upstream: &Upstream, served: Option<&str>) -> bool {
        if served.is_none() {
            return false;
        }
        let other = upstream.swapped(served);
        let told = self.with_fleet(|fleet, now| fleet.served(upstream, other, now));
        self.tell(&Vec::from_iter(told));
        if let Some(served_model) = other {
            self.metrics.swapped(&self.name, &upstream.name);
            let (chain, upstream, model) = (&self.name, &upstream.name, &upstream.model);
            tracing::warn!(chain, upstream, model, served_model, "another model answered than was asked for");
        }
        other.is_some()
    }

    fn now(&self) -> Moment {
        Moment(self.start.elapsed())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the upstreams of a rung until one gives an answer that `read` takes. What it did is in the job's log, also when
    /// it is dropped.
    pub async fn ask<'a, T>(
        &'a self,
        job: &'a Job<'a>,
        budget: Budget,
        read: impl Fn(&[u8]) -> Result<T, Malformed>,
    ) -> Called<T> {
        let Budget { time, tokens: _, attempts, waiting, later } = budget;
        let allowance = Allowance { deadline: self.now().after(time), attempts, waiting };
        let Some(rung) = job.chain.rungs.get(job.rung) else { return Called::none(Why::NotConfigured, false) };
        let call = {
            let state = self.state();
            // Under the lock: between a look before it and now the chain may have been edited, and then this index is another
            // model, with another name and another ceiling.
            if !Arc::ptr_eq(&state.chain, job.chain) {
                return Called::none(Why::NotConfigured, false);
            }
            Call::new(&state.fleet, job.rung, job.tenant.cloned(), later, allowance)
        };
        let mut driven = Driven { live: self, call };
        let (mut event, mut answer, mut malformed, mut swapped) = (Event::Begin, None, None, false);
        loop {
            let step = self.with_fleet(|fleet, now| driven.call.step(fleet, event, now, rand::random()));
            self.tell(&step.transitions);
            job.log.then(|asked| note::then(&step.next, rung, asked));
            event = match step.next {
                Next::Attempt(attempt) => {
                    let sending = self.send(job, rung, attempt, malformed.as_ref(), &read).await;
                    (answer, swapped) = (sending.answer, sending.swapped);
                    malformed = sending.malformed.or(malformed);
                    sending.event
                }
                Next::Wait(pause) => {
                    sleep(pause).await;
                    job.log.waited(pause);
                    Event::Waited
                }
                Next::Answered => return Called { answer: answer.ok_or(Why::Unavailable), swapped, last: false },
                Next::GaveUp(gave_up) => {
                    return Called::none(note::why(&gave_up), !gave_up.next_rung_may_be_asked());
                }
            };
        }
    }

    /// One attempt: reserve, send, settle, read, note.
    async fn send<'a, T>(
        &'a self,
        job: &'a Job<'a>,
        rung: &ValidRung,
        attempt: call::Attempt,
        malformed: Option<&Malformed>,
        read: &impl Fn(&[u8]) -> Result<T, Malformed>,
    ) -> Sending<T> {
        let gave_up = |event| Sending { event, answer: None, swapped: false, malformed: None };
        let Some(upstream) = rung.upstreams.get(attempt.upstream) else { return gave_up(Event::GivenUp) };
        let again = malformed.filter(|_| attempt.with_the_error).map(|malformed| job.prompt.again(malformed));
        let prompt = again.as_ref().unwrap_or(job.prompt);
        let most = rung.max_output_tokens;
        let max_output_tokens = if attempt.with_more_tokens { more_tokens(most) } else { most };
        let question = Question {
            system: prompt.system,
            user: &prompt.user,
            schema: job.schema,
            schema_name: job.schema_name,
            max_output_tokens,
        };
        let mut under_way = UnderWay::begin(self, job, rung, upstream, attempt.because);
        let began = under_way.began;
        let bound = note::bound(&question);
        let hold = match self.reserve(job.advance, upstream, bound, attempt.limit).await {
            Ok(hold) => hold,
            Err(no_money) => {
                under_way.note.outcome = no_money.reason().into();
                under_way.note.message = clip(&no_money.to_string(), 256);
                return gave_up(Event::Unaffordable);
            }
        };
        under_way.note.not_sent = false;
        // Until it is known what it cost, it cost that.
        under_way.note.cost_nano_dollars = i64::try_from(hold.amount().0).unwrap_or(i64::MAX);
        // What waited for the Ledger is no time of the upstream.
        let limit = attempt.limit.saturating_sub(began.elapsed());
        let sent = self.sender.send(upstream, &question, limit).await;
        let note = &mut under_way.note;
        let served = match &sent {
            Ok(reply) => reply.served_model.as_deref(),
            Err(signal) => signal.served_model.as_deref(),
        };
        note.served_model = served.map(|model| clip(model, 256)).unwrap_or_default();
        note.swapped = self.served(upstream, served);
        let swapped = note.swapped;
        let (event, answer, error) = match sent {
            Ok(reply) => {
                let Reply { text, served_model: _, usage, status, request_id, timing: _ } = reply;
                let outcome = usage.map_or(Outcome::Unknown, Outcome::Used);
                note::settle(note, hold, outcome, usage.map(|usage| bound.cut(usage)), upstream);
                note.status = status.map(i32::from);
                note.request_id = request_id.clone().map(|id| clip(&id, 128)).unwrap_or_default();
                match read(text.as_bytes()) {
                    _ if !usage.is_none_or(|usage| bound.holds(&usage)) => {
                        let used = bound.cut(usage.unwrap_or_default());
                        let failure = Failure::usage_implausible(Some(200), request_id, used);
                        note::failed(note, &failure);
                        (Event::Failed(failure), None, None)
                    }
                    Ok(answer) => {
                        note.outcome = ANSWERED.into();
                        (Event::Answered, Some(answer), None)
                    }
                    Err(malformed) => {
                        let kind = malformed.problem.as_str();
                        let failure = Failure::not_of_schema(kind, request_id, usage.unwrap_or_default());
                        // Words of ours only: what the model wrote is in the question that asks it again.
                        note::failed(note, &failure);
                        (Event::Failed(failure), None, Some(malformed))
                    }
                }
            }
            Err(signal) => {
                let failure = note::failure(&signal, bound);
                note::settle(note, hold, note::outcome(&signal), failure.usage, upstream);
                note::failed(note, &failure);
                if let (Class::CredentialsRefused, Some(refused)) = (failure.class, &upstream.credentials) {
                    self.sender.credentials().forget(refused);
                }
                (Event::Failed(failure), None, None)
            }
        };
        Sending { event, answer, swapped, malformed: error }
    }

    async fn reserve(
        &self,
        advance: &Advance,
        upstream: &Upstream,
        bound: Bound,
        limit: Duration,
    ) -> Result<Hold, NoMoney> {
        let Bound { input, output } = bound;
        let amount = upstream.prices.as_ref().map_or(NanoDollars(0), |prices| prices.at_most(input, output));
        match timeout(limit, advance.reserve(&upstream.name, amount)).await {
            Ok(reserved) => reserved,
            Err(_) => Err(NoMoney::Unavailable("it was not written in time".into())),
        }
    }

    fn record(&self, job: &Job<'_>, mut note: Attempt, began: Instant) {
        note.milliseconds = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
        note.budget_left_nano_dollars = Some(i64::try_from(job.advance.left(clock::now()).0).unwrap_or(i64::MAX));
        self.metrics.noted(&self.name, &note);
        tracing::info!(
            chain = self.name,
            rung = note.rung,
            upstream = note.upstream,
            model = note.model,
            served_model = note.served_model,
            swapped = note.swapped,
            because = note.because,
            outcome = note.outcome,
            detail = note.detail,
            status = note.status,
            milliseconds = note.milliseconds,
            tokens = note.tokens,
            cost_nano_dollars = note.cost_nano_dollars,
            budget_left_nano_dollars = note.budget_left_nano_dollars,
            upstream_request_id = note.request_id,
            what = note.message,
            "{}",
            if note.not_sent { "a model was not called" } else { "a model was called" },
        );
        job.log.called(note);
    }
}

/// A request under way. Dropped, it says so to what is known of the upstreams: a trial of a breaker ends with it.
struct Driven<'a> {
    live: &'a Live,
    call: Call,
}

impl Drop for Driven<'_> {
    fn drop(&mut self) {
        // It changes nothing about one that is over.
        let step = self.live.with_fleet(|fleet, now| self.call.step(fleet, Event::GivenUp, now, 0.0));
        self.live.tell(&step.transitions);
    }
}

/// A call under way. It is put on the record when it is dropped: with its outcome, or as given up and charged in full.
struct UnderWay<'a> {
    live: &'a Live,
    job: &'a Job<'a>,
    note: Attempt,
    began: Instant,
}

impl<'a> UnderWay<'a> {
    fn begin(
        live: &'a Live,
        job: &'a Job<'a>,
        rung: &ValidRung,
        upstream: &Upstream,
        because: Because,
    ) -> UnderWay<'a> {
        let because = match because {
            Because::First => job.log.because(),
            because => because.outcome(),
        };
        let note = Attempt {
            rung: clip(&rung.name, 64),
            upstream: clip(&upstream.name, 63),
            model: clip(&upstream.model, 256),
            outcome: GIVEN_UP.into(),
            because: clip(because, 64),
            not_sent: true,
            ..Attempt::default()
        };
        UnderWay { live, job, note, began: Instant::now() }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut note = std::mem::take(&mut self.note);
        if note.outcome == GIVEN_UP {
            note.message = if note.not_sent {
                "nobody waited any more when it could have been sent".into()
            } else {
                "nobody waited for its answer any more".into()
            };
        }
        self.live.record(self.job, note, self.began);
    }
}

#[cfg(test)]
#[path = "live_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "live_late_tests.rs"]
mod late_tests;

#[cfg(test)]
#[path = "live_record_tests.rs"]
mod record_tests;
