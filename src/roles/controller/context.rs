//! What every reconciler of the controller shares.

use std::collections::BTreeSet;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams, PostParams},
    core::NamespaceResourceScope,
    runtime::reflector::Store,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::watch;

use crate::api::v1alpha1::{Alert, Incident, IncidentStatus, ModelChain, Policy, PolicyException, Runbook};
use crate::audit::Audit;
use crate::cluster::Leading;
use crate::core::{
    attempts::Failure,
    fit::{self, fitted},
    incident::Terms,
    names::CONTROLLER,
};
use crate::notify::Notifier;
use crate::settings::Settings;
use crate::tap;

use super::compiled::Compiled;
use super::deciding::Deciding;
use super::metrics::Metrics;
use super::progress::Progress;
use super::turns::{NoTurn, Turns};
use super::workloads::Workloads;

/// One request to the API server takes at most this long.
pub const CALL: Duration = Duration::from_secs(5);

/// Shared by all reconcilers.
pub struct Context {
    /// Client that never retries a write.
    pub client: Client,
    /// The operator's settings.
    pub settings: Settings,
    /// The settings that concern incidents.
    pub terms: Terms,
    /// Namespace of the operator.
    pub system: String,
    /// The audit log.
    pub audit: Audit,
    /// Escalations.
    pub notifier: Notifier,
    /// Metrics of this role.
    pub metrics: Metrics,
    /// Whether this process holds the Lease.
    pub leading: Leading,
    /// Cached Incidents: for counts, and to find the one that is then read from the API server before a decision.
    pub incidents: Store<Incident>,
    /// Cached Alerts that fire, or whose incident does not know yet that they ended.
    pub alerts: Store<Alert>,
    /// Cached Policies without their rules, for what is only shown; a decision reads them by quorum.
    pub policies: Store<Policy>,
    /// Policies that were compiled.
    pub compiled: Compiled,
    /// Cached Runbooks, for what is only shown or queried; a decision reads them by quorum.
    pub runbooks: Store<Runbook>,
    /// Cached PolicyExceptions, for their number; a decision reads them by quorum.
    pub exceptions: Store<PolicyException>,
    /// Cached ModelChains of the system namespace, for plans.
    pub chains: Store<ModelChain>,
    /// Where steps of incidents are computed.
    pub deciding: Deciding,
    /// What is known of the steps of each object.
    pub progress: Progress,
    /// Held while an alert is grouped, so that two alerts about one target cannot open two incidents.
    pub grouping: Grouping,
    /// The enrolled namespaces, as they are now.
    pub enrolled: watch::Receiver<BTreeSet<String>>,
    /// How many workloads the enrolled namespaces have.
    pub workloads: Workloads,
    /// Turns of those who read all pods of a namespace.
    pub neighbours: Turns,
}

/// Why a step failed. Every error is retried.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server answered with an error.
    #[error("{what}: {source}")]
    Api {
        /// What was attempted.
        what: String,
        /// What it answered.
        source: kube::Error,
    },
    /// The API server did not answer in time.
    #[error("{what}: no answer within {} s", CALL.as_secs())]
    Timeout {
        /// What was attempted.
        what: String,
    },
    /// Others came first for too long.
    #[error(transparent)]
    NoTurn(#[from] NoTurn),
    /// The audit log cannot be written.
    #[error("audit log: {0}")]
    Audit(std::io::Error),
    /// The checks of a write that is under way gave no answer.
    #[error("the checks gave no answer: {0}")]
    Unanswered(String),
    /// Another process may be the leader.
    #[error("this process may no longer hold the Lease; nothing was written")]
    NotLeading,
}

impl Error {
    /// Bounded word for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Error::Api { source: kube::Error::Api(status), .. } if status.code == 409 => "Conflict",
            Error::Api { source: kube::Error::Api(status), .. } if status.code == 403 => "Forbidden",
            Error::Api { source: kube::Error::SerdeError(_), .. } => "Undecodable",
            Error::Api { .. } => "Api",
            Error::Timeout { .. } | Error::NoTurn(_) => "Timeout",
            Error::Audit(_) => "Audit",
            Error::Unanswered(_) => "Unanswered",
            Error::NotLeading => "NotLeading",
        }
    }
}

impl Error {
    /// What it says about the next attempt.
    pub fn failure(&self) -> Failure {
        match self {
            Error::Api { source: kube::Error::Api(status), .. } => Failure::of_status(status.code),
            // What is stored stays as it is until somebody changes it.
            Error::Api { source: kube::Error::SerdeError(_), .. } => Failure::Refused,
            Error::Api { .. }
            | Error::Timeout { .. }
            | Error::NoTurn(_)
            | Error::Audit(_)
            | Error::Unanswered(_)
            | Error::NotLeading => Failure::Passing,
        }
    }

    /// The object that was asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::Api { source: kube::Error::Api(status), .. } if status.code == 404)
    }

    /// Logs it inside the span of the request that it belongs to. A conflict is expected, and not logged.
    pub fn log<K: ResourceExt>(&self, kind: &str, object: &K) {
        if self.category() != "Conflict" {
            let (name, namespace) = (object.name_any(), object.namespace());
            tracing::warn!(kind, name, ?namespace, error = %self, "step failed, will retry");
        }
    }
}

/// Bounds a call and says what it was.
pub async fn call<T>(
    what: impl Into<String>,
    future: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Error> {
    let what = what.into();
    match tokio::time::timeout(CALL, future).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(Error::Api { what, source }),
        Err(_) => Err(Error::Timeout { what }),
    }
}

/// Waits until a cache was filled once.
pub async fn wait_until_ready<K>(store: &Store<K>) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let what = || format!("fill the cache of {}", K::plural(&()));
    match tokio::time::timeout(CALL, store.wait_until_ready()).await {
        Ok(Ok(())) => Ok(()),
        // Its watch ended, which only the end of the process does; or it has not begun yet.
        Ok(Err(_)) | Err(_) => Err(Error::Timeout { what: what() }),
    }
}

/// Outcome of a create.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// The object was created.
    New,
    /// An object with this name existed.
    Existed,
}

/// Outcome of a create; an object that exists already is not an error.
pub fn created<T>(result: Result<T, Error>) -> Result<Created, Error> {
    match result {
        Ok(_) => Ok(Created::New),
        Err(Error::Api { source: kube::Error::Api(status), .. }) if status.code == 409 => Ok(Created::Existed),
        Err(error) => Err(error),
    }
}

/// Treats an object that exists already as created.
pub fn ignore_exists<T>(result: Result<T, Error>) -> Result<(), Error> {
    created(result).map(drop)
}

impl Context {
    /// Namespaced objects of one kind.
    pub fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// An Alert that was not repeated for so long counts as ended.
    pub fn alert_silence(&self) -> SignedDuration {
        SignedDuration::from_hours(self.settings.retention.alert_silence_hours.into())
    }

    /// The audit log can be written, and is kept as the installation asks for.
    pub fn audit_is_durable(&self) -> bool {
        self.settings.audit_durable && self.audit.is_durable().is_ok()
    }

    /// Parameters of a create by this role.
    pub fn create_params(&self) -> PostParams {
        PostParams { field_manager: Some(CONTROLLER.into()), ..PostParams::default() }
    }

    /// This process certainly holds the Lease now.
    ///
    /// # Errors
    ///
    /// It may have lost it.
    pub fn leads(&self) -> Result<(), Error> {
        if self.leading.is_current() { Ok(()) } else { Err(Error::NotLeading) }
    }

    /// Writes the whole status of an incident by compare-and-swap, and returns the object as stored. Who may have lost the
    /// Lease writes none: another may be about to act on what this would end.
    pub async fn write_status(&self, incident: &Incident, status: IncidentStatus) -> Result<Incident, Error> {
        let mut next = incident.clone();
        let observed_generation = incident.metadata.generation.unwrap_or(0);
        next.status = Some(fitted(IncidentStatus { observed_generation, ..status }));
        if next.status == incident.status {
            return Ok(next);
        }
        let namespace = incident.namespace().unwrap_or_default();
        let api: Api<Incident> = self.api(&namespace);
        let name = incident.name_any();
        let params = self.create_params();
        self.leads()?;
        let write = api.replace_status(&name, &params, &next);
        let written = call(format!("write status of Incident {name}"), write).await?;
        let newest = written.status.as_ref().and_then(|status| status.timeline.last());
        tap::after("controller", newest.map_or("", |entry| &entry.event), &namespace).await;
        Ok(written)
    }

    /// Merges `status` into the status of an object that only this role writes.
    pub async fn merge_status<K, S>(&self, object: &K, status: &S) -> Result<(), Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
        S: Serialize + std::fmt::Debug,
    {
        let api: Api<K> = self.api(&object.namespace().unwrap_or_default());
        let mut status = serde_json::json!(status);
        fit::fit_patch(&K::kind(&()), "status", &mut status);
        let patch = serde_json::json!({ "status": status });
        let what = format!("write status of {} {}", K::kind(&()), object.name_any());
        let params = PatchParams { field_manager: Some(CONTROLLER.into()), ..PatchParams::default() };
        call(what, api.patch_status(&object.name_any(), &params, &Patch::Merge(&patch))).await.map(drop)
    }
}

/// Locks for grouping, one for each of some shares of all targets. Each guards the incidents that this process opened
/// in its share and that [`Context::incidents`] does not show yet: the two together are all there are, because only
/// the holder of the Lease opens incidents, and it begins with a quorum list of those of its predecessors.
#[derive(Default)]
pub struct Grouping {
    shares: [tokio::sync::Mutex<Vec<Incident>>; 32],
}

impl Grouping {
    /// Waits until no other task groups alerts about this target.
    pub async fn lock(&self, namespace: &str, target: &str) -> tokio::sync::MutexGuard<'_, Vec<Incident>> {
        let mut hash = std::hash::DefaultHasher::new();
        (namespace, target).hash(&mut hash);
        let share = usize::try_from(hash.finish() % self.shares.len() as u64).unwrap_or_default();
        self.shares[share].lock().await
    }
}

/// A shared context.
pub type Shared = Arc<Context>;
