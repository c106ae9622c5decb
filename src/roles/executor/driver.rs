//! The executor in one namespace: read, decide, send one request, learn; again and again.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{FutureExt as _, StreamExt as _, stream::BoxStream};
use kube::{Api, Client, ResourceExt as _, runtime::watcher};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::{metrics::Metrics, readiness::Readiness};
use crate::{
    act::{self, Reader},
    api::v1alpha1::{Grant, Remediation},
    clock, cluster,
    core::enrolment::SWEEP,
    core::execution::{Memory, Next, Observation, RECHECK, Request, Response, Verb, Wait, on_response, orphans, step},
    core::reason::Reason,
    tap,
};

/// The first look is as late as this for each namespace that there is, at most.
const FIRST_SWEEP: Duration = Duration::from_millis(20);
/// Requests of one sweep at most; what is left waits for the next.
const SWEEP_LIMIT: usize = 32;
/// A reading older than this is not gone on from.
const CARRY: Duration = Duration::from_millis(500);
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Drives the Remediations of one namespace, one request at a time.
pub struct Driver {
    reader: Reader,
    namespace: String,
    readiness: Arc<Readiness>,
    metrics: Metrics,
    open: BTreeMap<String, Slot>,
    /// The open Remediations are known: before that nothing can be called a leftover.
    synced: bool,
    sweep_at: Instant,
}

/// One open Remediation.
struct Slot {
    remediation: Remediation,
    memory: Memory,
    /// What is known from the last answer, and since when the oldest part of it was read.
    carried: Option<(Observation, Instant)>,
    /// The next reading is to hold the evidence.
    look: bool,
    failures: u32,
    seen_in_list: bool,
    span: tracing::Span,
}

enum Turn {
    Again,
    Pause(Duration),
    Over,
}

impl Driver {
    /// A driver for one namespace.
    pub fn new(reader: Reader, namespace: String, readiness: Arc<Readiness>, metrics: Metrics) -> Driver {
        // What the process before left is looked for at once, but not in hundreds of namespaces in the same moment.
        let many = u32::try_from(readiness.namespaces()).unwrap_or(u32::MAX);
        let sweep_at = Instant::now() + FIRST_SWEEP.saturating_mul(many).mul_f64(rand::random());
        Driver { reader, namespace, readiness, metrics, open: BTreeMap::new(), synced: false, sweep_at }
    }

    /// Works until shutdown. A step that began is ended; the rest is left to the next start, which reads from the
    /// objects how far it came.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let remediations: Api<cluster::Lean<Remediation>> =
            Api::namespaced(self.reader.client.clone(), &self.namespace);
        let grants: Api<cluster::Lean<Grant>> = Api::namespaced(self.reader.client.clone(), &self.namespace);
        let mut remediations = std::pin::pin!(cluster::watch(remediations, watcher::Config::default()));
        // Only while there is something to do: a watch that waits costs little, one in each of 500 namespaces does.
        let mut granted: Option<BoxStream<'static, watcher::Event<Grant>>> = None;
        let mut gate = self.readiness.subscribe();
        let mut pause = RECHECK;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(event) = remediations.next() => self.take(event),
                Some(_) = next(&mut granted) => {}
                Ok(()) = gate.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
            while let Some(Some(event)) = remediations.next().now_or_never() {
                self.take(event);
            }
            if self.open.is_empty() {
                granted = None;
            } else if granted.is_none() {
                granted = Some(cluster::watch(grants.clone(), watcher::Config::default()).boxed());
            }
            pause = self.pass(&shutdown).await;
        }
    }

    fn take(&mut self, event: watcher::Event<Remediation>) {
        match event {
            watcher::Event::Init => {
                for slot in self.open.values_mut() {
                    slot.seen_in_list = false;
                }
            }
            watcher::Event::InitApply(remediation) | watcher::Event::Apply(remediation) => self.put(remediation),
            watcher::Event::InitDone => {
                self.open.retain(|_, slot| slot.seen_in_list);
                self.synced = true;
            }
            watcher::Event::Delete(remediation) => {
                if self.open.remove(&remediation.name_any()).is_some() {
                    self.sweep_at = Instant::now();
                }
            }
        }
    }

    fn put(&mut self, remediation: Remediation) {
        let name = remediation.name_any();
        if remediation.status.as_ref().is_some_and(|status| status.phase.is_final()) {
            self.open.remove(&name);
            return;
        }
        if let Some(slot) = self.open.get_mut(&name)
            && slot.remediation.metadata.uid == remediation.metadata.uid
        {
            slot.seen_in_list = true;
            return;
        }
        let spec = &remediation.spec;
        let span = tracing::info_span!("remediation", request_id = %spec.request_id, namespace = %self.namespace,
            remediation = %name, action_id = %spec.action_id);
        let memory = Memory::default();
        self.open.insert(
            name,
            Slot { remediation, memory, carried: None, look: false, failures: 0, seen_in_list: true, span },
        );
    }

    /// Takes every open Remediation as far as it goes now; says when to look again without being woken.
    async fn pass(&mut self, shutdown: &CancellationToken) -> Duration {
        let mut pause = RECHECK;
        let created = |slot: &Slot| slot.remediation.creation_timestamp().map(|at| at.0);
        let mut order: Vec<_> = self.open.iter().map(|(name, slot)| (created(slot), name.clone())).collect();
        order.sort();
        for (_, name) in order {
            loop {
                if shutdown.is_cancelled() {
                    return pause;
                }
                let Some(slot) = self.open.get(&name) else { break };
                let span = slot.span.clone();
                match self.turn(&name).instrument(span).await {
                    Turn::Again => {}
                    Turn::Pause(until) => {
                        pause = pause.min(until);
                        break;
                    }
                    Turn::Over => {
                        self.open.remove(&name);
                        break;
                    }
                }
            }
        }
        if self.synced && Instant::now() >= self.sweep_at {
            let clean = self.sweep().await;
            let pace = || SWEEP.next(self.readiness.namespaces(), rand::random());
            self.sweep_at = Instant::now() + if clean { pace() } else { RECHECK };
        }
        pause
    }

    /// One look and at most one request.
    async fn turn(&mut self, name: &str) -> Turn {
        let Some(slot) = self.open.get_mut(name) else { return Turn::Over };
        let not_ready = self.readiness.closed_because(&self.namespace);
        let (seen, since) = match slot.carried.take() {
            Some((seen, since)) if since.elapsed() < CARRY => (Observation { not_ready, ..seen }, since),
            _ => {
                let since = Instant::now();
                match self.reader.observe(&slot.remediation, not_ready, slot.look).await {
                    Ok(Some(seen)) => (seen, since),
                    Ok(None) => {
                        tracing::info!("the Remediation does not exist any more");
                        self.sweep_at = Instant::now();
                        return Turn::Over;
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot read, will try again");
                        if error.forbidden {
                            self.readiness.doubt(&self.namespace);
                        }
                        return slot.back_off();
                    }
                }
            }
        };
        slot.look = false;
        let request = match step(&mut slot.memory, &seen, clock::now()) {
            Next::Nothing => return Turn::Over,
            Next::Wait(wait, pause) => {
                tracing::debug!(?wait, "waiting");
                slot.failures = 0;
                if wait == Wait::OtherAction {
                    self.sweep_at = Instant::now();
                }
                // With the Grant comes the first use of the evidence: it is read along, not after it.
                slot.look = matches!(wait, Wait::Grant | Wait::Evidence);
                return Turn::Pause(pause);
            }
            Next::Look => {
                slot.look = true;
                return Turn::Again;
            }
            Next::Send(request) => request,
        };
        let outcome = send(&self.reader.client, &self.metrics, &request).await;
        let ended_before = slot.memory.ending().is_some();
        on_response(&mut slot.memory, &seen, &request, &outcome, clock::now());
        if let Some(ending) = slot.memory.ending().filter(|_| !ended_before) {
            tracing::warn!(reason = ending.reason.as_str(), why = ending.message, "will not write");
            if matches!(ending.reason, Reason::PolicyMissing | Reason::RefusedByPolicy) {
                self.readiness.surprise(&self.namespace, &ending.message);
            }
        }
        slot.carried = seen.carried(&request, &outcome).map(|seen| (seen, since));
        match outcome {
            Response::Unknown(_) | Response::NotFound => slot.back_off(),
            Response::Refused { .. } if request.verb.is_status() || request.verb == Verb::UnmarkRevision => {
                slot.back_off()
            }
            Response::Done(_)
            | Response::Conflict
            | Response::Refused { .. }
            | Response::BlockedByDisruptionBudget(_) => {
                slot.failures = 0;
                Turn::Again
            }
        }
    }

    /// Takes labels of ours away that no open Remediation accounts for. `false`: some may be left.
    async fn sweep(&self) -> bool {
        for _ in 0..SWEEP_LIMIT {
            let open = self.open.values().map(|slot| {
                let spec = &slot.remediation.spec;
                (spec.action_id.clone(), spec.target.uid.clone())
            });
            let seen = match act::surroundings(&self.reader.client, &self.namespace, open.collect()).await {
                Ok(seen) => seen,
                Err(error) => {
                    tracing::warn!(%error, "cannot look for leftovers, will try again");
                    if error.forbidden {
                        self.readiness.doubt(&self.namespace);
                    }
                    return false;
                }
            };
            let Some(request) = orphans(&seen) else { return true };
            tracing::info!(
                namespace = self.namespace,
                step = request.verb.as_str(),
                object = request.name,
                "taking a leftover away"
            );
            if !matches!(
                send(&self.reader.client, &self.metrics, &request).await,
                Response::Done(_) | Response::Conflict
            ) {
                return false;
            }
        }
        false
    }
}

/// The next item of a stream; never, while there is none.
async fn next<T>(stream: &mut Option<BoxStream<'static, T>>) -> Option<T> {
    match stream {
        Some(stream) => stream.next().await,
        None => std::future::pending().await,
    }
}

impl Slot {
    fn back_off(&mut self) -> Turn {
        let pause = BACKOFF_MIN.saturating_mul(1 << self.failures.min(8)).min(BACKOFF_MAX);
        self.failures += 1;
        Turn::Pause(pause)
    }
}

async fn send(client: &Client, metrics: &Metrics, request: &Request) -> Response {
    tap::before("executor", request.verb.as_str(), &request.namespace).await;
    let began = Instant::now();
    let outcome = act::send(client, request).await;
    tap::after("executor", request.verb.as_str(), &request.namespace).await;
    metrics.count(request, &outcome);
    let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (step, answer, object) = (request.verb.as_str(), outcome.as_str(), &request.name);
    match &outcome {
        Response::Unknown(why) => tracing::warn!(step, answer, object, millis, why, "asked the API server"),
        Response::Refused { policy, message: said } => {
            tracing::info!(step, answer, object, millis, policy, said, "asked the API server");
        }
        _ => tracing::info!(step, answer, object, millis, "asked the API server"),
    }
    outcome
}
