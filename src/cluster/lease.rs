//! Leader election by a `coordination.k8s.io` Lease with compare-and-swap. Only the holder acts; who loses the
//! Lease must end its process, because nothing else is sure to stop everything that is under way.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use k8s_openapi::{
    api::coordination::v1::{Lease as Object, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tokio::{sync::watch, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    clock,
    core::lease::{self as rules, Claim, DURATION, LeaseRecord, Observed, RENEW_DEADLINE, RETRY},
};

/// Longest wait for one call. Two of them fit between the renewals and the deadline.
const CALL: Duration = Duration::from_secs(4);

/// The election: see [`Lease::acquire`].
pub struct Lease;

/// The Lease is not held any more: the process must exit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the Lease was lost ({reason}): this process must exit and will wait for the Lease after its restart")]
pub struct Lost {
    /// What happened.
    pub reason: String,
}

/// The Lease is held, and renewed in the background until it is lost, released or dropped.
pub struct Held {
    store: Arc<dyn Store>,
    holder: String,
    state: watch::Receiver<State>,
    stop: CancellationToken,
    renewal: Option<JoinHandle<Option<Object>>>,
}

#[derive(Clone, Debug)]
enum State {
    /// Valid up to this moment unless renewed.
    Until(Instant),
    Lost(Lost),
}

/// Tells whether the Lease is held. A process that was frozen may wake up after another has taken its Lease.
#[derive(Clone)]
pub struct Leading(watch::Receiver<State>);

impl Leading {
    /// Whether this process certainly holds the Lease now.
    pub fn is_current(&self) -> bool {
        match &*self.0.borrow() {
            State::Until(deadline) => Instant::now() < *deadline && self.0.has_changed().is_ok(),
            State::Lost(_) => false,
        }
    }
}

#[cfg(test)]
impl Leading {
    /// Of a process that holds its Lease for good.
    pub fn always() -> Leading {
        let (sender, state) = watch::channel(State::Until(Instant::now() + std::time::Duration::from_hours(24)));
        std::mem::forget(sender);
        Leading(state)
    }

    /// Of a process that holds no Lease.
    pub fn nobody() -> Leading {
        Leading(watch::channel(State::Lost(Lost { reason: "a test".into() })).1)
    }
}

impl Lease {
    /// Waits until this process holds the Lease `namespace/name`, however long that takes. `holder` is the pod's name: a
    /// restarted container retakes its Lease at once. Errors of the API server are logged and retried.
    /// Dropping the future gives up the wait and leaves nothing behind.
    pub async fn acquire(client: Client, namespace: &str, name: &str, holder: &str) -> Held {
        let api = Api::namespaced(client, namespace);
        acquire(Arc::new(Kube { api, name: name.into() }), holder).await
    }
}

async fn acquire(store: Arc<dyn Store>, holder: &str) -> Held {
    let start = Instant::now();
    let mut observed: Option<Observed> = None;
    let mut told = String::new();
    loop {
        let asked = Instant::now();
        let pause = match try_acquire(&*store, holder, &mut observed, start).await {
            Ok(Ok(object)) => return Held::start(store, holder, object, asked),
            Ok(Err((by, rest))) => {
                if by != told {
                    tracing::info!(holder = %by, "waiting for the Lease");
                    told = by;
                }
                rest
            }
            Err(error) => {
                tracing::warn!(%error, "the Lease cannot be read or taken, will retry");
                RETRY
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// One try: the taken Lease, or who holds it and when to look again.
async fn try_acquire(
    store: &dyn Store,
    holder: &str,
    observed: &mut Option<Observed>,
    start: Instant,
) -> Result<Result<Object, (String, Duration)>, StoreError> {
    let conflict = |by: &str| Ok(Err((by.to_owned(), RETRY)));
    let Some(current) = bounded(CALL, store.get()).await? else {
        return match bounded(CALL, store.create(claimed(None, holder))).await {
            Ok(object) => Ok(Ok(object)),
            Err(StoreError::Conflict) => conflict("another candidate"),
            Err(error) => Err(error),
        };
    };
    let record = record(&current);
    let now = start.elapsed();
    let seen = Observed::update(observed.take(), record.clone(), now);
    let claim = rules::claimable(&seen, holder, now);
    *observed = Some(seen);
    if let Claim::Wait(rest) = claim {
        return Ok(Err((record.holder, rest)));
    }
    match bounded(CALL, store.replace(claimed(Some(current), holder))).await {
        Ok(object) => {
            tracing::info!(previous = %record.holder, ?claim, "took the Lease");
            Ok(Ok(object))
        }
        Err(StoreError::Conflict) => conflict("another candidate"),
        Err(error) => Err(error),
    }
}

impl Held {
    fn start(store: Arc<dyn Store>, holder: &str, object: Object, renewed: Instant) -> Held {
        let (sender, state) = watch::channel(State::Until(renewed + RENEW_DEADLINE));
        let stop = CancellationToken::new();
        let renewal = tokio::spawn(renew(Arc::clone(&store), holder.to_owned(), object, renewed, sender, stop.clone()));
        Held { store, holder: holder.into(), state, stop, renewal: Some(renewal) }
    }

    /// A handle to check right before each effect that another leader could have too.
    pub fn leading(&self) -> Leading {
        Leading(self.state.clone())
    }

    /// Resolves when the Lease is lost. The process must then exit.
    pub fn lost(&self) -> impl Future<Output = Lost> + Send + 'static {
        let mut state = self.state.clone();
        async move {
            match state.wait_for(|state| matches!(state, State::Lost(_))).await.as_deref() {
                Ok(State::Lost(lost)) => lost.clone(),
                _ => Lost { reason: "its renewal ended".into() },
            }
        }
    }

    /// Releases the Lease, so that the next candidate need not wait for it to expire. Call it on shutdown, after
    /// everything that acts has stopped.
    pub async fn release(mut self) {
        self.stop.cancel();
        let Some(renewal) = self.renewal.take() else { return };
        let Ok(Some(mut object)) = renewal.await else { return };
        if let Some(spec) = &mut object.spec {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            spec.renew_time = Some(MicroTime(clock::now()));
        }
        match bounded(CALL, self.store.replace(object)).await {
            Ok(_) => tracing::info!(holder = %self.holder, "released the Lease"),
            Err(error) => tracing::warn!(%error, "the Lease could not be released and will expire"),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Renews until stopped (returns the Lease as last written) or lost.
async fn renew(
    store: Arc<dyn Store>,
    holder: String,
    mut object: Object,
    mut renewed: Instant,
    state: watch::Sender<State>,
    stop: CancellationToken,
) -> Option<Object> {
    let acquired = record(&object).acquired;
    loop {
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            () = stop.cancelled() => return Some(object),
        }
        let asked = Instant::now();
        let deadline = renewed + RENEW_DEADLINE;
        let rest = deadline.saturating_duration_since(asked);
        let why = match bounded(rest.min(CALL), renew_once(&*store, &holder, &acquired, &object)).await {
            Ok(Some(next)) => {
                object = next;
                // Counted from before the call: the API server may have written it at any time since.
                renewed = asked;
                state.send_replace(State::Until(renewed + RENEW_DEADLINE));
                continue;
            }
            Ok(None) => Some("another process took it".to_owned()),
            Err(error) if Instant::now() >= deadline => {
                Some(format!("it could not be renewed for {} s: {error}", RENEW_DEADLINE.as_secs()))
            }
            Err(error) => {
                tracing::warn!(%error, "the Lease could not be renewed, will retry");
                None
            }
        };
        if let Some(reason) = why {
            state.send_replace(State::Lost(Lost { reason }));
            return None;
        }
    }
}

/// One renewal; `None` when another process holds the Lease.
async fn renew_once(
    store: &dyn Store,
    holder: &str,
    acquired: &str,
    object: &Object,
) -> Result<Option<Object>, StoreError> {
    match store.replace(renewal_of(object.clone())).await {
        Ok(object) => Ok(Some(object)),
        // It was annotated, or the answer to an earlier renewal was lost, or another process holds it.
        Err(StoreError::Conflict) => match store.get().await? {
            Some(current) if rules::still_mine(&record(&current), holder, acquired) => {
                store.replace(renewal_of(current)).await.map(Some)
            }
            _ => Ok(None),
        },
        Err(error) => Err(error),
    }
}

fn renewal_of(mut object: Object) -> Object {
    object.spec.get_or_insert_default().renew_time = Some(MicroTime(clock::now()));
    object
}

/// The Lease as `holder` takes it.
fn claimed(current: Option<Object>, holder: &str) -> Object {
    let mut object = current.unwrap_or_default();
    let spec: &mut LeaseSpec = object.spec.get_or_insert_default();
    let changed = spec.holder_identity.as_deref().is_some_and(|previous| previous != holder);
    let now = MicroTime(clock::now());
    spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0).saturating_add(i32::from(changed)));
    spec.holder_identity = Some(holder.into());
    spec.lease_duration_seconds = Some(i32::try_from(DURATION.as_secs()).unwrap_or(15));
    spec.acquire_time = Some(now.clone());
    spec.renew_time = Some(now);
    object
}

fn record(object: &Object) -> LeaseRecord {
    let spec = object.spec.clone().unwrap_or_default();
    let text = |time: Option<MicroTime>| time.map(|time| time.0.to_string()).unwrap_or_default();
    LeaseRecord {
        holder: spec.holder_identity.unwrap_or_default(),
        duration: spec.lease_duration_seconds.and_then(|s| u64::try_from(s).ok()).map(Duration::from_secs),
        acquired: text(spec.acquire_time),
        renewed: text(spec.renew_time),
        transitions: spec.lease_transitions.unwrap_or(0),
    }
}

/// Where the Lease is kept; tests keep it in memory.
trait Store: Send + Sync {
    fn get(&self) -> BoxFuture<'_, Result<Option<Object>, StoreError>>;
    fn create(&self, object: Object) -> BoxFuture<'_, Result<Object, StoreError>>;
    fn replace(&self, object: Object) -> BoxFuture<'_, Result<Object, StoreError>>;
}

#[derive(Debug, thiserror::Error)]
enum StoreError {
    #[error("it was changed concurrently")]
    Conflict,
    #[error("no answer in time")]
    Timeout,
    #[error(transparent)]
    Other(kube::Error),
}

impl From<kube::Error> for StoreError {
    fn from(error: kube::Error) -> StoreError {
        match &error {
            kube::Error::Api(status) if status.code == 409 => StoreError::Conflict,
            _ => StoreError::Other(error),
        }
    }
}

async fn bounded<T>(time: Duration, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    tokio::time::timeout(time, call).await.unwrap_or(Err(StoreError::Timeout))
}

struct Kube {
    api: Api<Object>,
    name: String,
}

impl Store for Kube {
    fn get(&self) -> BoxFuture<'_, Result<Option<Object>, StoreError>> {
        Box::pin(async { Ok(self.api.get_opt(&self.name).await?) })
    }

    fn create(&self, mut object: Object) -> BoxFuture<'_, Result<Object, StoreError>> {
        Box::pin(async move {
            object.metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
            Ok(self.api.create(&PostParams::default(), &object).await?)
        })
    }

    fn replace(&self, object: Object) -> BoxFuture<'_, Result<Object, StoreError>> {
        // The object carries the resourceVersion that was read: the API server refuses if it changed since.
        Box::pin(async move { Ok(self.api.replace(&self.name, &PostParams::default(), &object).await?) })
    }
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;
