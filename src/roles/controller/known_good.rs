//! Known-good revisions of enrolled workloads. A mark only selects among existing revisions.

use std::{collections::BTreeSet, fmt::Debug, hash::Hash, sync::Arc, time::Duration};

use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, future::BoxFuture};
use jiff::SignedDuration;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{DaemonSet, Deployment, StatefulSet},
        core::v1::PodTemplateSpec,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Resource, ResourceExt as _,
    runtime::{Controller, WatchStreamExt as _, controller::Action, reflector, watcher},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::watch;

use crate::api::v1alpha1::{KnownGood, LedgerStatus, ObjectRef, Time};
use crate::clock;
use crate::cluster;
use crate::core::{
    known_good::{self, Health},
    workload::{Kind, Workload},
};

use super::context::{Error, Shared};
use super::watched::{self, Watched};
use super::workloads::Running;
use super::{gather, ledgers};

/// Resync interval of a workload that is not healthy and does not change.
const LOOK_AGAIN: Duration = Duration::from_secs(300);
/// The same of one whose revision is marked: what would change that changes the object, so this only keeps the mark from
/// being the oldest one. Thousands of workloads share what it costs.
const REMEMBER_AGAIN: Duration = Duration::from_secs(12 * 3600);
/// Namespaces that are enrolled within this time are taken over together.
const TOGETHER: Duration = Duration::from_secs(2);

/// Workloads in one page of a list: the smaller the first page, the less is thrown away where they are large.
const PAGE: u32 = 100;

/// Watches the workloads of every enrolled namespace, and marks what is healthy: one watch for each kind, however many
/// namespaces there are. When another one is enrolled the watches begin anew, and list what is in it.
pub async fn run(ctx: Shared, mut enrolled: watch::Receiver<BTreeSet<String>>) {
    loop {
        let namespaces = Arc::new(enrolled.borrow_and_update().clone());
        let watches = Kind::ALL.into_iter().filter(|_| !namespaces.is_empty()).map(|kind| match kind {
            Kind::Deployment => watch_kind(ctx.clone(), namespaces.clone(), kind, (trim_deployment, of_deployment)),
            Kind::StatefulSet => {
                watch_kind(ctx.clone(), namespaces.clone(), kind, (trim_stateful_set, of_stateful_set))
            }
            Kind::DaemonSet => watch_kind(ctx.clone(), namespaces.clone(), kind, (trim_daemon_set, of_daemon_set)),
        });
        let watches: Vec<_> = watches.collect();
        tokio::select! {
            Ok(()) = enrolled.changed() => tokio::time::sleep(TOGETHER).await,
            Some(_) = async { if watches.is_empty() { None } else { Some(futures::future::join_all(watches).await) } } => {}
            else => return std::future::pending().await,
        }
    }
}

/// Drops what [`known_good::may_be_healthy`] does not ask: most of a workload is its pod template, and a tenant may have
/// thousands of them.
pub(super) fn trim_deployment(deployment: &mut Deployment) {
    trim_metadata(&mut deployment.metadata);
    if let Some(spec) = &mut deployment.spec {
        spec.template = PodTemplateSpec::default();
    }
}

pub(super) fn trim_stateful_set(stateful_set: &mut StatefulSet) {
    trim_metadata(&mut stateful_set.metadata);
    if let Some(spec) = &mut stateful_set.spec {
        spec.template = PodTemplateSpec::default();
        spec.volume_claim_templates = None;
    }
}

pub(super) fn trim_daemon_set(daemon_set: &mut DaemonSet) {
    trim_metadata(&mut daemon_set.metadata);
    if let Some(spec) = &mut daemon_set.spec {
        spec.template = PodTemplateSpec::default();
    }
}

fn trim_metadata(metadata: &mut ObjectMeta) {
    metadata.labels = None;
    metadata.annotations = None;
    metadata.owner_references = None;
}

/// Replicas that there are now, by the status: what the spec wants costs nobody anything.
fn of_deployment(deployment: &Deployment) -> i32 {
    deployment.status.as_ref().and_then(|status| status.replicas).unwrap_or_default()
}

fn of_stateful_set(stateful_set: &StatefulSet) -> i32 {
    stateful_set.status.as_ref().map(|status| status.replicas).unwrap_or_default()
}

fn of_daemon_set(daemon_set: &DaemonSet) -> i32 {
    daemon_set.status.as_ref().map(|status| status.current_number_scheduled).unwrap_or_default()
}

/// Drops what is not asked of a workload, and counts its replicas.
type Read<K> = (fn(&mut K), fn(&K) -> i32);

/// What is kept of a workload.
fn seen<K>(kind: Kind, mut object: K, (trim, replicas): Read<K>) -> Watched<K>
where
    K: Resource<DynamicType = ()> + Serialize,
{
    trim(&mut object);
    let value = serde_json::to_value(&object).unwrap_or_default();
    Watched::new(object.meta(), known_good::may_be_healthy(kind, &value), replicas(&object) > 0)
}

/// Watches the workloads of one kind in the enrolled namespaces. `read` drops from each what is not asked, and says how many
/// replicas it has.
fn watch_kind<K>(ctx: Shared, enrolled: Arc<BTreeSet<String>>, kind: Kind, read: Read<K>) -> BoxFuture<'static, ()>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize
        + Send
        + Sync
        + 'static,
    K::DynamicType: Eq + Hash,
{
    let api: Api<cluster::Lean<K>> = Api::all(ctx.client.clone());
    let (reader, writer) = reflector::store();
    let stream = cluster::watch(api, watcher::Config::default().page_size(PAGE)).filter(move |event| {
        // What is elsewhere is dropped before it is kept.
        let keep = match event {
            watcher::Event::Apply(object) | watcher::Event::InitApply(object) | watcher::Event::Delete(object) => {
                object.meta().namespace.as_ref().is_some_and(|namespace| enrolled.contains(namespace))
            }
            watcher::Event::Init | watcher::Event::InitDone => true,
        };
        std::future::ready(keep)
    });
    let (counts, mut running) = (ctx.workloads.clone(), Running::default());
    let stream = stream
        .map(move |event| Ok::<_, watcher::Error>(watched::event(event, |object| seen(kind, object, read))))
        .reflect(writer)
        .inspect_ok(move |event| {
            let name = |object: &Watched<K>| (object.namespace().unwrap_or_default(), object.name_any());
            let (event, object) = match event {
                watcher::Event::Init => (watcher::Event::Init, None),
                watcher::Event::InitDone => (watcher::Event::InitDone, None),
                watcher::Event::InitApply(object) => (watcher::Event::InitApply(name(object)), Some(object)),
                watcher::Event::Apply(object) => (watcher::Event::Apply(name(object)), Some(object)),
                watcher::Event::Delete(object) => (watcher::Event::Delete(name(object)), Some(object)),
            };
            if let Some(count) = running.see(event, object.is_some_and(|object| object.has_replicas)) {
                counts.set(kind, count);
            }
        })
        .applied_objects()
        .boxed();
    let config = kube::runtime::controller::Config::default().concurrency(4).debounce(Duration::from_millis(500));
    let reconcile = move |object: Arc<Watched<K>>, ctx: Shared| async move {
        // Most of what changes in a large cluster, and in every broken rollout, ends here without a request.
        if !object.may_be_healthy {
            return Ok(Action::await_change());
        }
        let target = ObjectRef {
            api_version: Kind::API_VERSION.into(),
            kind: kind.as_str().into(),
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            uid: object.uid().unwrap_or_default(),
        };
        look(&target, &ctx).await
    };
    let error_policy = |_: Arc<Watched<K>>, error: &Error, _: Shared| {
        tracing::debug!(%error, "a known-good revision could not be stored, will retry");
        Action::requeue(Duration::from_secs(10))
    };
    Controller::for_stream(stream, reader)
        .with_config(config)
        .run(reconcile, error_policy, ctx)
        .for_each(|_| async {})
        .boxed()
}

async fn look(target: &ObjectRef, ctx: &Shared) -> Result<Action, Error> {
    let now = clock::now();
    let Ok(workload) = gather::read_workload(ctx, target, now).await else {
        return Ok(Action::requeue(Duration::from_secs(30)));
    };
    let after = SignedDuration::from_secs(ctx.settings.timings.known_good_seconds.into());
    match known_good::health(&workload, after) {
        Health::NotHealthy => Ok(Action::requeue(LOOK_AGAIN)),
        Health::Healthy { for_another } => {
            Ok(Action::requeue(Duration::try_from(for_another).unwrap_or_default() + Duration::from_millis(200)))
        }
        Health::Good(mark) => {
            store(ctx, &workload, mark, now).await?;
            Ok(Action::requeue(REMEMBER_AGAIN))
        }
    }
}

async fn store(ctx: &Shared, workload: &Workload, mark: KnownGood, now: Time) -> Result<(), Error> {
    let change = |old: &LedgerStatus| Ok::<_, ()>(known_good::remember(old, &mark, now));
    let ledger = ledgers::known_good(&workload.object.namespace);
    let _ = ledgers::change(ctx, &ledger, change).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read<K: DeserializeOwned>(value: Value) -> K {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn replicas_are_what_the_status_says_and_not_what_the_spec_wants() {
        let want = json!({"replicas": 5, "selector": {}, "template": {}, "serviceName": "s"});
        let both = |status: Value| json!({"spec": want, "status": status});
        assert_eq!(of_deployment(&read(json!({ "spec": want }))), 0);
        assert_eq!(of_deployment(&read(both(json!({"replicas": 0})))), 0);
        assert_eq!(of_deployment(&read(both(json!({"replicas": 1})))), 1);
        assert_eq!(of_stateful_set(&read(both(json!({"replicas": 2})))), 2);
        let daemons = json!({
            "currentNumberScheduled": 0, "desiredNumberScheduled": 4, "numberMisscheduled": 0, "numberReady": 0,
        });
        assert_eq!(of_daemon_set(&read(json!({ "status": daemons }))), 0);
    }
}
