//! Marks: revisions of enrolled Deployments that were seen healthy. A mark only filters existing revisions.

use std::time::Duration;

use futures::StreamExt as _;
use jiff::SignedDuration;
use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api, ResourceExt as _,
    runtime::{Controller, WatchStreamExt as _, controller::Action, reflector, watcher},
};

use crate::api::v1alpha1::{KnownGood, LedgerStatus, ObjectRef, Time};
use crate::clock;
use crate::cluster;
use crate::core::{
    known_good::{self, Health},
    workload::Workload,
};

use super::context::{Error, Shared};
use super::{ledgers, observe};

/// Watches the Deployments of every enrolled namespace, and marks what is healthy.
pub async fn keep(ctx: Shared) {
    let streams = ctx.settings.namespaces.iter().map(|namespace| {
        let api: Api<kube::core::DeserializeGuard<Deployment>> = Api::namespaced(ctx.client.clone(), namespace);
        cluster::watch(api, watcher::Config::default()).map(Ok::<_, watcher::Error>).boxed()
    });
    let runs = streams.map(|stream| {
        let (reader, writer) = reflector::store();
        let stream = stream.reflect(writer).applied_objects();
        Controller::for_stream(stream, reader)
            .with_config(
                kube::runtime::controller::Config::default().concurrency(2).debounce(Duration::from_millis(500)),
            )
            .run(
                reconcile,
                |_, error: &Error, _| {
                    tracing::debug!(%error, "a mark could not be kept, will retry");
                    Action::requeue(Duration::from_secs(10))
                },
                ctx.clone(),
            )
            .for_each(|_| async {})
    });
    futures::future::join_all(runs).await;
}

async fn reconcile(deployment: std::sync::Arc<Deployment>, ctx: Shared) -> Result<Action, Error> {
    // Most of what changes in a large cluster, and in every broken rollout, ends here without a request.
    if !known_good::may_be_healthy(&deployment) {
        return Ok(Action::await_change());
    }
    let now = clock::now();
    let target = ObjectRef {
        api_version: "apps/v1".into(),
        kind: "Deployment".into(),
        namespace: deployment.namespace().unwrap_or_default(),
        name: deployment.name_any(),
        uid: deployment.uid().unwrap_or_default(),
    };
    let Ok(reading) = observe::reading(&ctx.client, &target, now).await else {
        return Ok(Action::requeue(Duration::from_secs(30)));
    };
    let after = SignedDuration::from_secs(ctx.settings.timings.known_good_seconds.into());
    match known_good::health(&reading, after) {
        Health::NotHealthy => Ok(Action::requeue(Duration::from_secs(300))),
        Health::Healthy { for_another } => {
            Ok(Action::requeue(Duration::try_from(for_another).unwrap_or_default() + Duration::from_millis(200)))
        }
        Health::Good(mark) => {
            store(&ctx, &reading, mark, now).await?;
            Ok(Action::requeue(Duration::from_secs(300)))
        }
    }
}

async fn store(ctx: &Shared, reading: &Workload, mark: KnownGood, now: Time) -> Result<(), Error> {
    let change = |old: &LedgerStatus| Ok::<_, ()>(known_good::remember(old, &mark, now));
    let ledger = ledgers::known_good(&reading.object.namespace);
    let _ = ledgers::change(ctx, &ledger, change).await?;
    Ok(())
}
