//! Where the book of a chain is kept: in a Ledger of the system namespace, or in memory where there is no cluster.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kube::{
    Api, Client, ResourceExt as _,
    api::{ObjectMeta, PostParams},
};

use crate::{
    api::v1alpha1::{Ledger, LedgerPurpose, LedgerSpec, LedgerStatus, ModelSpend},
    core::names,
};

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Keeps a book. A write changes it only if it is still as it was read.
pub trait Store: Send + Sync + 'static {
    /// The book and its version; an empty one if there is none yet.
    fn read(&self) -> impl Future<Output = Result<(String, ModelSpend), String>> + Send;

    /// Replaces the book that has this version. Returns the new one.
    fn write(&self, version: &str, book: &ModelSpend) -> impl Future<Output = Result<String, Unwritten>> + Send;

    /// Waits.
    fn pause(&self, time: Duration) -> impl Future<Output = ()> + Send;
}

/// Why a write did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unwritten {
    /// The book has another version by now, or is gone: nothing was written.
    Conflict,
    /// Nobody knows whether it was written.
    Unknown(String),
}

/// The Ledger of one ModelChain.
pub struct InCluster {
    api: Api<Ledger>,
    name: String,
    namespace: String,
    chain: String,
}

impl InCluster {
    /// The Ledger of `chain` in the system namespace.
    pub fn new(client: &Client, system_namespace: &str, chain: &str) -> InCluster {
        InCluster {
            api: Api::namespaced(client.clone(), system_namespace),
            name: names::models_ledger(chain),
            namespace: system_namespace.to_owned(),
            chain: chain.to_owned(),
        }
    }

    fn ledger(&self, version: Option<&str>, models: Option<ModelSpend>) -> Ledger {
        let spec = LedgerSpec { purpose: LedgerPurpose::Models, chain: self.chain.clone(), ..LedgerSpec::default() };
        let mut ledger = Ledger::new(&self.name, spec);
        ledger.metadata = ObjectMeta {
            name: Some(self.name.clone()),
            namespace: Some(self.namespace.clone()),
            resource_version: version.map(str::to_owned),
            ..ObjectMeta::default()
        };
        ledger.status = models.map(|models| LedgerStatus { models: Some(models), ..LedgerStatus::default() });
        ledger
    }
}

fn params() -> PostParams {
    PostParams { field_manager: Some(names::INVESTIGATOR.to_owned()), ..PostParams::default() }
}

async fn bounded<T>(request: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    match tokio::time::timeout(TIMEOUT, request).await {
        Ok(answer) => answer,
        Err(_) => Err(kube::Error::Service("no answer within 5 s".into())),
    }
}

impl Store for InCluster {
    async fn read(&self) -> Result<(String, ModelSpend), String> {
        let said = |what: &str, error: kube::Error| format!("cannot {what} Ledger {}: {error}", self.name);
        let found = bounded(self.api.get_opt(&self.name)).await.map_err(|error| said("read", error))?;
        let ledger = match found {
            Some(ledger) => ledger,
            None => {
                let (params, new) = (params(), self.ledger(None, None));
                bounded(self.api.create(&params, &new)).await.map_err(|error| said("create", error))?
            }
        };
        // A write without a version would be no compare-and-swap.
        let version = ledger.resource_version().ok_or_else(|| format!("Ledger {} has no version", self.name))?;
        Ok((version, ledger.status.and_then(|status| status.models).unwrap_or_default()))
    }

    async fn write(&self, version: &str, book: &ModelSpend) -> Result<String, Unwritten> {
        let ledger = self.ledger(Some(version), Some(book.clone()));
        let (write_params, name) = (params(), self.name.as_str());
        match bounded(self.api.replace_status(name, &write_params, &ledger)).await {
            Ok(written) => written.resource_version().ok_or_else(|| Unwritten::Unknown("it has no version".into())),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Err(Unwritten::Conflict),
            Err(error) => Err(Unwritten::Unknown(format!("cannot write Ledger {}: {error}", self.name))),
        }
    }

    async fn pause(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

/// A book in memory, for a diagnosis without a cluster: its budgets hold while the process runs.
#[derive(Default)]
pub struct InMemory {
    book: Mutex<(u64, ModelSpend)>,
}

impl Store for InMemory {
    async fn read(&self) -> Result<(String, ModelSpend), String> {
        let book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((book.0.to_string(), book.1.clone()))
    }

    async fn write(&self, version: &str, new: &ModelSpend) -> Result<String, Unwritten> {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        if book.0.to_string() != version {
            return Err(Unwritten::Conflict);
        }
        *book = (book.0 + 1, new.clone());
        Ok(book.0.to_string())
    }

    async fn pause(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}
