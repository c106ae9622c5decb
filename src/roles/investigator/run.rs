//! The loop: see an Investigation, mark it as running, gather, diagnose, write.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt as _;
use kube::{Api, Client, ResourceExt as _, runtime::watcher};
use tokio::{sync::watch, task::JoinSet, time::Instant};
use tracing::Instrument as _;

use super::{
    metrics::Metrics,
    models::Models,
    places::{Place, Places},
    status::{self, Writer, Written},
};
use crate::{
    api::v1alpha1::{IncidentKey, Investigation, InvestigationPhase, ObjectRef, Time},
    clock, cluster,
    core::rules::FactBundle,
    model::{
        Chain,
        rung::{Budget, Why},
    },
    observe::Gatherer,
    tap,
};

/// Investigations that gather facts, or that no model is asked for, side by side.
const CONCURRENCY: usize = 16;
/// Investigations that ask models side by side. They take none of the places above: models take a minute.
const ASKING: usize = 12;
/// Investigations that wait for a place to ask models, each with its facts.
const WAITING: usize = 48;
/// How long an Investigation waits for such a place: what models of others take must not make its facts too old to act upon.
const QUEUE: Duration = Duration::from_secs(10);
/// A model that gets less time is not asked.
const USEFUL: Duration = Duration::from_secs(2);
/// How often Investigations that another process left behind, or that are due for a retry, are looked for.
const TICK: Duration = Duration::from_millis(500);
/// A run that is this much over its deadline was left behind.
const GRACE: Duration = Duration::from_secs(5);
/// Pause after a run that could not write its status.
const RETRY: Duration = Duration::from_secs(2);
/// How long the watch may lag behind a change of an Investigation that was about to be run.
const CATCH_UP: Duration = Duration::from_millis(200);
/// How long the watch may lag behind the end of an Investigation.
const SETTLE: Duration = Duration::from_secs(60);
/// How long running investigations may take to finish after the signal to stop.
const DRAIN: Duration = Duration::from_secs(10);
/// Investigations in one page of a list: one with its facts may have most of a megabyte.
const PAGE: u32 = 20;
/// Time of an investigation that no model gets.
const WRITING: Duration = Duration::from_secs(2);
/// Model tokens that one investigation may take.
const TOKENS: i64 = 100_000;

/// What one investigation is done with.
pub struct Investigator {
    /// Client of the API server.
    pub client: Client,
    /// The sources of facts.
    pub gatherer: Gatherer,
    /// The models that may be asked.
    pub models: Arc<Models>,
    /// Metrics of this role.
    pub metrics: Metrics,
    /// Who may run now.
    pub room: Room,
}

/// Places of runs, each shared out by namespace.
pub struct Room {
    pub(super) running: Arc<Places>,
    pub(super) asking: Arc<Places>,
    pub(super) waiting: Arc<Places>,
}

impl Default for Room {
    fn default() -> Room {
        Room { running: Places::new(CONCURRENCY), asking: Places::new(ASKING), waiting: Places::new(WAITING) }
    }
}

/// One Investigation that has not ended.
struct Open {
    seen: Arc<Investigation>,
    not_before: Time,
    /// The last run ended with an error.
    failing: bool,
}

/// Runs the role until `shutdown`. `readiness` becomes `Ok` when the first list of Investigations was read. The caller
/// holds the Lease: a run that a former holder left behind is taken over at once, and the resource version of its
/// mark keeps the former holder from writing.
pub async fn run(
    investigator: Arc<Investigator>,
    readiness: watch::Sender<Result<(), String>>,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let events = cluster::watch::<Investigation>(
        Api::all(investigator.client.clone()),
        watcher::Config::default().page_size(PAGE),
    );
    let mut events = std::pin::pin!(events);
    let mut shutdown = std::pin::pin!(shutdown);
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut tasks: JoinSet<(String, anyhow::Result<Written<()>>)> = JoinSet::new();
    let mut open: HashMap<String, Open> = HashMap::new();
    let mut in_flight: HashSet<String> = HashSet::new();
    readiness.send_modify(|state| *state = Err("the watch on Investigations has not begun".into()));

    loop {
        // Before places are taken: one that is given back in between counts.
        let freed = investigator.room.running.freed();
        let now = clock::now();
        for (uid, entry) in open.iter().filter(|(_, entry)| entry.not_before <= now) {
            let investigation = entry.seen.clone();
            let namespace = investigation.namespace().unwrap_or_default();
            if in_flight.contains(uid) {
                continue;
            }
            let Some(place) = investigator.room.running.take(&namespace, entry.failing) else { continue };
            in_flight.insert(uid.clone());
            let span = tracing::info_span!("investigation", request_id = %investigation.spec.request_id,
                namespace, name = investigation.name_any());
            let (investigator, uid) = (investigator.clone(), uid.clone());
            let work = async move { (uid, investigator.investigate(&investigation, place).await) };
            tasks.spawn(work.instrument(span));
        }
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            event = events.next() => match event {
                Some(watcher::Event::InitApply(seen)) => note(&mut open, seen, true),
                Some(watcher::Event::Apply(seen)) => note(&mut open, seen, false),
                Some(watcher::Event::Delete(seen)) => { open.remove(&seen.uid().unwrap_or_default()); }
                Some(watcher::Event::Init) => {}
                Some(watcher::Event::InitDone) => { readiness.send_modify(|state| *state = Ok(())); }
                None => anyhow::bail!("the watch on Investigations ended"),
            },
            Some(ended) = tasks.join_next() => {
                let (uid, written) = ended?;
                in_flight.remove(&uid);
                let failing = written.is_err();
                let wait = match written {
                    Ok(Written::Done(())) => SETTLE,
                    Ok(Written::Lost) => CATCH_UP,
                    Ok(Written::Gone) => { open.remove(&uid); continue; }
                    Err(error) => { tracing::warn!(error = format!("{error:#}"), "investigation not written"); RETRY }
                };
                if let Some(entry) = open.get_mut(&uid) {
                    entry.not_before = later(clock::now(), wait);
                    entry.failing = failing;
                }
            }
            () = freed => {}
            _ = tick.tick() => {}
        }
    }

    let drained = tokio::time::timeout(DRAIN, async { while tasks.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tracing::warn!("investigations still ran {DRAIN:?} after the signal to stop; the next holder takes them over");
    }
    Ok(())
}

/// Keeps an Investigation that has not ended, and from when on it may be run.
fn note(open: &mut HashMap<String, Open>, seen: Investigation, initial: bool) {
    let uid = seen.uid().unwrap_or_default();
    match due(&seen, initial, clock::now()) {
        Some(not_before) => {
            let not_before = match open.get(&uid) {
                // Only a mark of ours or of another process changes when; a mere edit of metadata does not.
                Some(known) if phase(&known.seen) == phase(&seen) => known.not_before,
                _ => not_before,
            };
            let failing = open.get(&uid).is_some_and(|known| known.failing);
            open.insert(uid, Open { seen: Arc::new(seen), not_before, failing });
        }
        None => {
            open.remove(&uid);
        }
    }
}

fn phase(investigation: &Investigation) -> InvestigationPhase {
    investigation.status.as_ref().map(|status| status.phase).unwrap_or_default()
}

/// From when on an Investigation may be run; `None` when it has ended.
fn due(seen: &Investigation, initial: bool, now: Time) -> Option<Time> {
    let started = seen.status.as_ref().and_then(|status| status.started_at);
    match (phase(seen), started) {
        (InvestigationPhase::Complete, _) => None,
        (InvestigationPhase::Running, Some(started)) if !initial => Some(later(deadline(seen, started), GRACE)),
        (InvestigationPhase::Pending | InvestigationPhase::Running, _) => Some(now),
    }
}

/// When a run that began at `started` must have ended.
fn deadline(investigation: &Investigation, started: Time) -> Time {
    later(started, Duration::from_secs(investigation.spec.deadline_seconds.max(1).unsigned_abs().into()))
}

/// A time plus a span; the end of time when there is none such.
fn later(time: Time, by: Duration) -> Time {
    time.checked_add(by).unwrap_or(Time::MAX)
}

impl Investigator {
    /// One run from mark to diagnosis. `place` is given back before models are asked.
    pub async fn investigate(&self, investigation: &Investigation, place: Place) -> anyhow::Result<Written<()>> {
        let (started_at, begun) = (clock::now(), Instant::now());
        let writer = Writer::new(&self.client, investigation);
        let incident = ObjectRef {
            api_version: "backstop.dev/v1alpha1".into(),
            kind: "Incident".into(),
            namespace: investigation.namespace().unwrap_or_default(),
            name: investigation.spec.incident.clone(),
            uid: String::new(),
        };
        let until = deadline(investigation, started_at);
        // The sources are asked while the mark is written: reads do no harm if the mark turns out to be lost.
        let (marked, facts) = tokio::join!(
            writer.running(investigation, started_at),
            self.gatherer.gather(&investigation.spec, &incident, until),
        );
        tap::after("investigator", "gather", &investigation.namespace().unwrap_or_default()).await;
        let version = match marked? {
            Written::Done(version) => version,
            Written::Lost => return Ok(Written::Lost),
            Written::Gone => return Ok(Written::Gone),
        };
        let case = FactBundle {
            target: investigation.spec.target.as_ref(),
            alert_started_at: investigation.spec.alert_started_at,
            facts: &facts,
        };
        let key = IncidentKey {
            namespace: investigation.namespace().unwrap_or_default(),
            name: investigation.spec.incident.clone(),
        };
        // Something is left to write the diagnosis.
        let answer_by = earlier(models_until(investigation, until), WRITING);
        let gathered = Instant::now();
        let (chain, most, held) = self.models_for(investigation, key, place, answer_by).await;
        // The facts grow old while it waits for a place: that is part of what the models may take.
        let most = most.map(|most| most.saturating_sub(gathered.elapsed()).max(USEFUL.min(most)));
        // The time itself is counted on a clock that nobody sets.
        let left = between(started_at, answer_by).saturating_sub(begun.elapsed());
        let budget = Budget::new(most.map_or(left, |most| most.min(left)), TOKENS);
        let outcome = chain.ask(&investigation.spec.chain, case, budget).await;
        drop(held);
        let cause = outcome.diagnosis.cause;
        let (confidence, hypothesis) = (outcome.diagnosis.confidence, outcome.diagnosis.hypothesis.clone());
        let count = facts.len();
        let completed_at = clock::now();
        let status = status::complete(investigation, started_at, completed_at, facts, outcome);
        let written = writer.complete(version, &status).await?;
        match written {
            Written::Done(()) => {
                let took = between(started_at, completed_at);
                self.metrics.diagnosed(cause, took);
                let (cause, milliseconds) = (cause.as_str(), took.as_millis());
                tracing::info!(cause, confidence, facts = count, milliseconds, hypothesis, "diagnosed");
            }
            Written::Lost | Written::Gone => {
                self.metrics.lost();
                tracing::info!("this Investigation was taken over by another process or deleted; nothing is written");
            }
        }
        Ok(written)
    }

    /// The diagnosers, the most time that they may take, and the place in which they are asked: that of the run where no
    /// model is, else one of those that are for asking models. Whoever gets none of them in time is answered by the rules,
    /// while the facts can still be acted upon, as is whoever comes too late.
    async fn models_for(
        &self,
        investigation: &Investigation,
        incident: IncidentKey,
        place: Place,
        answer_by: Time,
    ) -> (Chain, Option<Duration>, Option<Place>) {
        let Some(named) = &investigation.spec.model_chain else { return (Chain::of_rules(), None, Some(place)) };
        let time = || between(clock::now(), answer_by).saturating_sub(USEFUL);
        if time().is_zero() {
            let late = "the Investigation is older than its deadline: no model is asked any more";
            return (Chain::without_models(Why::Late, late), None, Some(place));
        }
        let namespace = incident.namespace.clone();
        let Room { running: _, asking, waiting } = &self.room;
        drop(place);
        if let Some(asking) = asking.wait(waiting, &namespace, time().min(QUEUE)).await {
            let (chain, most) = self.models.chain(named, incident).await;
            return (chain, most, Some(asking));
        }
        let busy = "no place to ask a model came free in time";
        // The rules take a moment, and no place.
        (Chain::without_models(Why::Busy, busy), None, None)
    }
}

/// Until when the answer of a model is of use: whoever asked for this Investigation gives up some time after its deadline,
/// counted from when it was made and not from when it is run.
fn models_until(investigation: &Investigation, until: Time) -> Time {
    let made = investigation.metadata.creation_timestamp.as_ref().map(|made| made.0);
    made.map_or(until, |made| until.min(later(deadline(investigation, made), GRACE)))
}

/// A time less a span; the beginning of time when there is none such.
fn earlier(time: Time, by: Duration) -> Time {
    time.checked_sub(by).unwrap_or(Time::MIN)
}

/// The span from one time to a later one; zero when it is not later.
fn between(from: Time, to: Time) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Time {
        Time::from_second(second).unwrap()
    }

    fn seen(status: serde_json::Value) -> Investigation {
        serde_json::from_value(json!({
            "apiVersion": "backstop.dev/v1alpha1", "kind": "Investigation",
            "metadata": {"name": "a", "namespace": "shop", "uid": "u", "resourceVersion": "1"},
            "spec": {"incident": "i", "round": 1, "sources": [], "chain": ["rules"],
                "deadlineSeconds": 30, "alertStartedAt": "2026-01-01T00:00:00Z", "requestId": "r"},
            "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn a_new_investigation_is_run_at_once_and_one_that_ended_never() {
        assert_eq!(due(&seen(json!({})), false, at(5)), Some(at(5)));
        assert_eq!(due(&seen(json!({"phase": "Complete"})), true, at(5)), None);
    }

    #[test]
    fn a_run_left_behind_is_taken_over_at_once_by_a_new_holder_of_the_lease_and_else_after_its_deadline() {
        let running = seen(json!({"phase": "Running", "startedAt": at(100)}));
        assert_eq!(due(&running, true, at(101)), Some(at(101)));
        assert_eq!(due(&running, false, at(101)), Some(at(135)));
    }

    #[test]
    fn an_edit_of_metadata_does_not_bring_a_run_forward() {
        let mut open = HashMap::new();
        note(&mut open, seen(json!({"phase": "Running", "startedAt": clock::now()})), false);
        let due = open["u"].not_before;
        note(&mut open, seen(json!({"phase": "Running", "startedAt": clock::now()})), true);
        assert_eq!(open["u"].not_before, due);
        note(&mut open, seen(json!({"phase": "Complete"})), false);
        assert!(open.is_empty());
    }
}
