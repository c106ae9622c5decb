//! Points in the middle of a remediation, noticed as they happen.

use std::time::Duration;

use anyhow::{Context as _, Result};
use backstop::{
    api::v1alpha1::{Grant, Investigation, Remediation, RemediationPhase},
    core::names,
};
use futures::{Stream, StreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api, Client, Resource, ResourceExt as _,
    core::NamespaceResourceScope,
    runtime::{WatchStreamExt as _, watcher},
};
use serde::de::DeserializeOwned;

/// A moment of the way from alert to recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// The mind was asked.
    Investigating,
    /// The exact action is written down.
    Created,
    /// The hands hold it.
    Claimed,
    /// The one write is open.
    GrantOpen,
    /// The object carries the label.
    Armed,
    /// The write was reported.
    Fired,
}

/// Longest wait for a point.
const PATIENCE: Duration = Duration::from_secs(90);

impl Point {
    /// Resolves when the point is seen in `namespace`.
    pub async fn seen(self, client: &Client, namespace: &str) -> Result<()> {
        let wait = async {
            match self {
                Point::Investigating => first(objects::<Investigation>(client, namespace), |_| true).await,
                Point::Created => first(objects::<Remediation>(client, namespace), |_| true).await,
                Point::Claimed => {
                    first(objects(client, namespace), |r: &Remediation| {
                        phase(r).is_some_and(|p| p != RemediationPhase::Pending)
                    })
                    .await
                }
                Point::Fired => {
                    first(objects(client, namespace), |r: &Remediation| phase(r) == Some(RemediationPhase::Fired)).await
                }
                Point::GrantOpen => first(objects(client, namespace), |grant: &Grant| grant.spec.open.is_some()).await,
                Point::Armed => {
                    first(objects(client, namespace), |d: &Deployment| d.labels().contains_key(names::ARMED)).await
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.with_context(|| format!("{self:?} was not seen in {namespace}"))
    }
}

fn phase(remediation: &Remediation) -> Option<RemediationPhase> {
    remediation.status.as_ref().map(|status| status.phase)
}

fn objects<K>(client: &Client, namespace: &str) -> impl Stream<Item = K> + Unpin + use<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug
        + Send
        + 'static,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    // An interrupted watch is taken up again: some tests restart the API server.
    Box::pin(
        watcher(api, watcher::Config::default())
            .default_backoff()
            .applied_objects()
            .filter_map(|object| async { object.ok() }),
    )
}

async fn first<K>(mut objects: impl Stream<Item = K> + Unpin, wanted: impl Fn(&K) -> bool) {
    while let Some(object) = objects.next().await {
        if wanted(&object) {
            return;
        }
    }
}
