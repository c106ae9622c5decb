//! Readiness: in which namespaces the admission policies were seen to refuse what they must refuse.
//!
//! A namespace that is enrolled by name and does not exist is no fault of anybody's: it is named, nothing is tried in it,
//! and the executor is ready without it. How often the others are looked at: [`enrolment`](crate::core::enrolment).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::Client;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::metrics::Metrics;
use crate::{
    act,
    core::{
        enrolment::{PRESENCE, SELF_TEST, retry},
        execution::{self_tests, verdict},
        workload::Kind,
    },
};

/// One enrolled namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// The policies were seen in force.
    Open,
    /// They were not, or not yet. What is not known to be safe is closed.
    Closed(String),
    /// It does not exist, or is being deleted.
    Gone,
}

type States = BTreeMap<String, State>;

/// Outcomes of the self-test by namespace.
#[derive(Debug, Default)]
pub struct Readiness {
    states: watch::Sender<States>,
    /// Namespaces whose self-test is due now, whatever their turn is.
    due: Mutex<BTreeSet<String>>,
    woken: Notify,
}

/// Where the outcome is told.
pub struct Report {
    /// Whether the executor may get work; the error says what is missing.
    pub ready: watch::Sender<Result<(), String>>,
    /// What people should know although it is ready. Empty when there is nothing.
    pub note: watch::Sender<String>,
    /// The same in numbers.
    pub metrics: Metrics,
}

/// What comes when in one namespace.
#[derive(Debug)]
struct Turn {
    presence_at: Instant,
    test_at: Instant,
    failures: u32,
}

impl Readiness {
    /// Nothing is enrolled yet.
    pub fn new() -> Arc<Readiness> {
        Arc::default()
    }

    /// Why nothing may be armed in this namespace; empty when it may.
    pub fn closed_because(&self, namespace: &str) -> String {
        match self.states.borrow().get(namespace) {
            Some(State::Open) => String::new(),
            Some(State::Closed(message)) => message.clone(),
            Some(State::Gone) => format!("namespace {namespace} does not exist"),
            None => format!("namespace {namespace} is not enrolled"),
        }
    }

    /// Tells of every change.
    pub fn subscribe(&self) -> watch::Receiver<States> {
        self.states.subscribe()
    }

    /// How many namespaces share what the API server is asked.
    pub fn namespaces(&self) -> usize {
        self.states.borrow().len()
    }

    /// The enrolled namespaces that exist, as far as it is known.
    pub fn present(&self) -> BTreeSet<String> {
        let states = self.states.borrow();
        states.iter().filter(|(_, state)| **state != State::Gone).map(|(name, _)| name.clone()).collect()
    }

    /// A policy did not answer as expected: closed until the self-test passes again.
    pub fn surprise(&self, namespace: &str, message: &str) {
        tracing::error!(namespace, why = message, "the admission policies did not answer as expected");
        self.set(namespace, State::Closed(message.to_owned()));
        self.test_now(namespace);
    }

    /// The API server did not let something be read: is the namespace still there? Where the self-test fails already it
    /// has its own pace.
    pub fn doubt(&self, namespace: &str) {
        if self.states.borrow().get(namespace) == Some(&State::Open) {
            self.test_now(namespace);
        }
    }

    fn test_now(&self, namespace: &str) {
        self.due.lock().unwrap_or_else(PoisonError::into_inner).insert(namespace.to_owned());
        self.woken.notify_one();
    }

    /// Only of a namespace that is enrolled: it may have gone while its answer was waited for.
    fn set(&self, namespace: &str, state: State) {
        self.states.send_if_modified(|states| match states.get_mut(namespace) {
            Some(before) if *before != state => {
                *before = state;
                true
            }
            _ => false,
        });
    }

    /// Takes over which namespaces are enrolled.
    fn enrol(&self, enrolled: &BTreeSet<String>, turns: &mut BTreeMap<String, Turn>) {
        let now = Instant::now();
        turns.retain(|name, _| enrolled.contains(name));
        for name in enrolled {
            turns.entry(name.clone()).or_insert(Turn { presence_at: now, test_at: now, failures: 0 });
        }
        self.states.send_if_modified(|states| {
            if states.keys().eq(enrolled.iter()) {
                return false;
            }
            states.retain(|name, _| enrolled.contains(name));
            for name in enrolled {
                states.entry(name.clone()).or_insert_with(untested);
            }
            true
        });
    }

    fn report(&self, report: &Report) {
        let (mut closed, mut gone) = (Vec::new(), Vec::new());
        for (name, state) in &*self.states.borrow() {
            match state {
                State::Open => {}
                State::Closed(message) => closed.push(message.clone()),
                State::Gone => gone.push(name.clone()),
            }
        }
        let all = if closed.is_empty() { Ok(()) } else { Err(closed.join("; ")) };
        report.metrics.set_ready(all.is_ok());
        report.metrics.set_gone(&gone);
        let note = match gone.as_slice() {
            [] => String::new(),
            names => format!(
                "enrolled and not there: {}; take them out of executor.namespaces, or make them and run `helm upgrade`",
                names.join(", ")
            ),
        };
        report.note.send_if_modified(|before| replaced(before, note));
        report.ready.send_if_modified(|before| {
            let changed = replaced(before, all);
            if changed && before.is_ok() {
                tracing::info!("ready: the admission policies refuse what they must refuse");
            }
            changed
        });
    }

    /// Looks at the enrolled namespaces in turn, until shutdown. `named`: they are enrolled by name, so that one may not
    /// exist.
    pub async fn keep_testing(
        &self,
        client: Client,
        mut enrolled: watch::Receiver<BTreeSet<String>>,
        named: bool,
        report: Report,
        shutdown: CancellationToken,
    ) {
        // What is enrolled is not known before it was told once.
        tokio::select! {
            () = shutdown.cancelled() => return,
            Ok(()) = enrolled.changed() => {}
        }
        let mut turns = BTreeMap::new();
        while !shutdown.is_cancelled() {
            let now_enrolled = enrolled.borrow_and_update().clone();
            self.enrol(&now_enrolled, &mut turns);
            let due = std::mem::take(&mut *self.due.lock().unwrap_or_else(PoisonError::into_inner));
            for name in due {
                if let Some(turn) = turns.get_mut(&name) {
                    turn.test_at = Instant::now();
                }
            }
            let count = turns.len();
            let next = turns.iter_mut().min_by_key(|(_, turn)| turn.at(named));
            let pause = match next {
                Some((namespace, turn)) if turn.at(named) <= Instant::now() => {
                    self.take_turn(&client, namespace, turn, named, count, &report.metrics).await;
                    Duration::ZERO
                }
                Some((_, turn)) => turn.at(named).duration_since(Instant::now()),
                // Nothing is enrolled.
                None => PRESENCE.every,
            };
            self.report(&report);
            if pause.is_zero() {
                continue;
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.woken.notified() => {}
                Ok(()) = enrolled.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Looks at one namespace.
    async fn take_turn(
        &self,
        client: &Client,
        namespace: &str,
        turn: &mut Turn,
        named: bool,
        count: usize,
        metrics: &Metrics,
    ) {
        let now = Instant::now();
        if named && turn.presence_at <= now {
            turn.presence_at = now + PRESENCE.next(count, rand::random());
            let gone = self.states.borrow().get(namespace) == Some(&State::Gone);
            match act::exists(client, namespace).await {
                Ok(false) => return self.gone(namespace, turn),
                Ok(true) if gone => {
                    tracing::info!(namespace, "the enrolled namespace is there");
                    self.set(namespace, untested());
                    (turn.test_at, turn.failures) = (now, 0);
                }
                Ok(true) => {}
                Err(error) => tracing::debug!(namespace, %error, "cannot tell whether the namespace is there"),
            }
        }
        if turn.test_at > Instant::now() {
            return;
        }
        let Err(why) = test(client, namespace, metrics).await else {
            (turn.test_at, turn.failures) = (Instant::now() + SELF_TEST.next(count, rand::random()), 0);
            return self.set(namespace, State::Open);
        };
        if named && matches!(act::exists(client, namespace).await, Ok(false)) {
            return self.gone(namespace, turn);
        }
        turn.failures = turn.failures.saturating_add(1);
        turn.test_at = Instant::now() + retry(turn.failures);
        if why != self.closed_because(namespace) {
            tracing::warn!(namespace, why, "self-test of the admission policies failed");
        }
        self.set(namespace, State::Closed(why));
    }

    /// Nothing is tried in it until it is there.
    fn gone(&self, namespace: &str, turn: &mut Turn) {
        if self.states.borrow().get(namespace) != Some(&State::Gone) {
            tracing::warn!(namespace, "the enrolled namespace does not exist");
        }
        turn.test_at = turn.presence_at + PRESENCE.every;
        self.set(namespace, State::Gone);
    }
}

impl Turn {
    fn at(&self, named: bool) -> Instant {
        if named { self.presence_at.min(self.test_at) } else { self.test_at }
    }
}

fn untested() -> State {
    State::Closed("the self-test of the admission policies has not run yet".to_owned())
}

fn replaced<T: PartialEq>(before: &mut T, now: T) -> bool {
    let changed = *before != now;
    *before = now;
    changed
}

/// Workloads of a kind that are looked at for one that can be tested, which is nearly always the first: one that is armed or
/// on its way out cannot.
const TRIED: usize = 8;

async fn test(client: &Client, namespace: &str, metrics: &Metrics) -> Result<(), String> {
    let of = |kind| async move {
        let mut after = None;
        for _ in 0..TRIED {
            let (found, next) =
                act::a_workload(client, kind, namespace, after.as_deref()).await.map_err(|error| error.to_string())?;
            let tests = self_tests(kind, &found);
            for test in &tests {
                let outcome = act::send(client, &test.request).await;
                metrics.count(&test.request, &outcome);
                verdict(test, &outcome)?;
            }
            after = next.filter(|_| tests.is_empty());
            if after.is_none() {
                break;
            }
        }
        Ok::<_, String>(())
    };
    futures::future::try_join_all(Kind::ALL.map(of)).await.map(drop)
}

#[cfg(test)]
#[path = "readiness_tests.rs"]
mod tests;
