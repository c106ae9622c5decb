//! StatefulSets and DaemonSets, as people create and change them.

use anyhow::{Context as _, Result, ensure};
use backstop::{api::v1alpha1::Ledger, core::names};
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet, StatefulSet},
    core::v1::Pod,
};
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
    core::Request,
};
use serde_json::{Value, json};

use super::{
    SYSTEM,
    bench::{Bench, Release, deployment, first_of},
    until,
    witness::{Eviction, Fire},
};

/// A kind of workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `apps/v1` StatefulSet.
    StatefulSet,
    /// `apps/v1` DaemonSet.
    DaemonSet,
}

impl Kind {
    /// Name in manifests.
    pub fn name(self) -> &'static str {
        match self {
            Kind::StatefulSet => "StatefulSet",
            Kind::DaemonSet => "DaemonSet",
        }
    }

    /// Plural in paths.
    pub fn plural(self) -> &'static str {
        match self {
            Kind::StatefulSet => "statefulsets",
            Kind::DaemonSet => "daemonsets",
        }
    }

    /// Label of alerts that names one.
    fn label(self) -> &'static str {
        match self {
            Kind::StatefulSet => "statefulset",
            Kind::DaemonSet => "daemonset",
        }
    }

    /// A service of the demo shop that depends on nothing, as this kind. A DaemonSet has no replicas.
    pub fn manifest(self, name: &str, replicas: i32) -> Value {
        let mut manifest = deployment(name, replicas);
        manifest["kind"] = json!(self.name());
        let spec = manifest["spec"].as_object_mut().expect("a manifest has a spec");
        spec.remove("strategy");
        match self {
            Kind::StatefulSet => spec.insert("serviceName".into(), json!(name)),
            Kind::DaemonSet => spec.remove("replicas"),
        };
        manifest
    }
}

/// One workload of a test.
pub struct Workload<'a> {
    bench: &'a Bench,
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: &'a str,
}

impl<'a> Workload<'a> {
    /// Creates it from `manifest`, and waits until its first revision is healthy and known to be good.
    pub async fn healthy(bench: &'a Bench, kind: Kind, name: &'a str, manifest: Value) -> Result<Workload<'a>> {
        let workload = Workload { bench, kind, name };
        let (folder, _) = workload.paths();
        let request = http::Request::post(folder).header("content-type", "application/json");
        let created: Value = bench.suite.client.request(request.body(serde_json::to_vec(&manifest)?)?).await?;
        ensure!(created["kind"] == kind.name(), "the manifest is none of a {}", kind.name());
        workload.rolled_out().await?;
        workload.known_good().await?;
        Ok(workload)
    }

    fn paths(&self) -> (String, String) {
        let folder = format!("/apis/apps/v1/namespaces/{}/{}", self.bench.ns, self.kind.plural());
        let path = format!("{folder}/{}", self.name);
        (folder, path)
    }

    /// The object as the API server has it.
    pub async fn raw(&self) -> Result<Value> {
        Ok(self.bench.suite.client.request(http::Request::get(self.paths().1).body(vec![])?).await?)
    }

    /// Its template as the API server has it.
    pub async fn template(&self) -> Result<Value> {
        Ok(self.raw().await?.pointer("/spec/template").cloned().unwrap_or_default())
    }

    /// Waits until every pod is ready and, where the kind updates them by itself, of the newest template.
    pub async fn rolled_out(&self) -> Result<()> {
        until(&format!("{} {} is rolled out", self.kind.name(), self.name), || async {
            let raw = self.raw().await?;
            let count = |path: &str| raw.pointer(path).and_then(Value::as_i64).unwrap_or(0);
            let wanted = match self.kind {
                Kind::DaemonSet => count("/status/desiredNumberScheduled").max(1),
                _ => count("/spec/replicas"),
            };
            let partition = count("/spec/updateStrategy/rollingUpdate/partition");
            let updated = match raw.pointer("/spec/updateStrategy/type") {
                Some(on_delete) if on_delete == "OnDelete" => 0,
                _ => (wanted - partition).max(0),
            };
            let done = count("/status/observedGeneration") == count("/metadata/generation")
                && match self.kind {
                    Kind::DaemonSet => {
                        count("/status/numberReady") == wanted && count("/status/updatedNumberScheduled") >= updated
                    }
                    _ => count("/status/readyReplicas") == wanted && count("/status/updatedReplicas") >= updated,
                };
            Ok(done.then_some(()))
        })
        .await
    }

    async fn known_good(&self) -> Result<()> {
        let uid = self.raw().await?["metadata"]["uid"].as_str().unwrap_or_default().to_string();
        let ledgers: Api<Ledger> = Api::namespaced(self.bench.suite.client.clone(), SYSTEM);
        until(&format!("the first revision of {} is marked as known good", self.name), || async {
            let ledger = ledgers.get_opt(&format!("known-good.{}", self.bench.ns)).await?;
            let marks = ledger.and_then(|ledger| ledger.status).map(|status| status.known_good).unwrap_or_default();
            Ok(marks.iter().any(|mark| mark.workload_uid == uid).then_some(()))
        })
        .await
    }

    /// Changes it as a person would.
    pub async fn patch(&self, patch: Value) -> Result<()> {
        let params = PatchParams { field_manager: Some("kubectl".into()), ..PatchParams::default() };
        let request = Request::new(self.paths().0).patch(self.name, &params, &Patch::Strategic(&patch))?;
        self.bench
            .suite
            .client
            .request::<Value>(request)
            .await
            .map(drop)
            .with_context(|| format!("change {}", self.name))
    }

    /// Ships a bad release and waits until a pod of it fails. Where the kind waits for somebody to delete pods, a person
    /// deletes one.
    pub async fn broken(&self, release: Release) -> Result<()> {
        self.patch(release.patch(self.name)).await?;
        let raw = self.raw().await?;
        if raw.pointer("/spec/updateStrategy/type").is_some_and(|strategy| strategy == "OnDelete") {
            let pod = self.pods().await?.into_iter().next().context("no pod")?;
            self.bench.api::<Pod>().delete(&pod.name_any(), &Default::default()).await?;
        }
        self.bench.failing(self.name).await?;
        if self.kind != Kind::StatefulSet {
            return Ok(());
        }
        // A pod that is ending looks as if it failed, too: the one that takes its place is the stuck one.
        let wanted = raw.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(1);
        until(&format!("{} has a failing pod that is not ending", self.name), || async {
            let pods = self.pods().await?;
            let stuck = pods.iter().any(|pod| {
                let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
                statuses.into_iter().any(|status| {
                    let state = status.state.as_ref();
                    let waits = state.and_then(|state| state.waiting.as_ref()).and_then(|it| it.reason.as_deref());
                    status.restart_count > 0 || matches!(waits, Some(reason) if reason != "ContainerCreating")
                })
            });
            Ok((stuck && pods.len() as u64 == wanted).then_some(()))
        })
        .await
    }

    /// Its pods that are not ending, by name.
    pub async fn pods(&self) -> Result<Vec<Pod>> {
        let list = ListParams::default().labels(&format!("app.kubernetes.io/name={}", self.name));
        let mut pods = self.bench.api::<Pod>().list(&list).await?.items;
        pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
        pods.sort_by_key(|pod| pod.name_any());
        Ok(pods)
    }

    /// Sends a firing alert about it.
    pub async fn alert(&self) -> Result<()> {
        self.bench.alert_with(&[(self.kind.label(), self.name)]).await.map(drop)
    }

    /// By the audit log the executor changed exactly one template, to the first revision exactly, and evicted these.
    pub async fn fired_once(&self) -> Result<(Fire, Vec<Eviction>)> {
        let events = self.bench.events().await?;
        let fires = self.bench.suite.witness.fires(&events);
        ensure!(fires.len() == 1, "{} fires, expected exactly one: {fires:#?}", fires.len());
        let resource = format!("apps/{}", self.kind.plural());
        ensure!(fires[0].resource == resource, "fired at {}, expected {resource}", fires[0].resource);
        let first = first_of(&events, &resource, self.name)?;
        ensure!(fires[0].after == first, "the executor wrote another template than that of the first revision");
        ensure!(self.template().await? == first, "the template is not that of the first revision any more");
        self.nothing_in_flight().await?;
        let fire = fires.into_iter().next().expect("there is one");
        Ok((fire, self.bench.suite.witness.evictions(&events)))
    }

    /// None of the objects that this kind brings along is armed or marked.
    async fn nothing_in_flight(&self) -> Result<()> {
        self.bench.nothing_in_flight().await?;
        until("no set is armed and no revision marked", || async {
            let (armed, marked) =
                (ListParams::default().labels(names::ARMED), ListParams::default().labels(names::UNDO_TO));
            let left = self.bench.api::<StatefulSet>().list(&armed).await?.items.len()
                + self.bench.api::<DaemonSet>().list(&armed).await?.items.len()
                + self.bench.api::<ControllerRevision>().list(&marked).await?.items.len();
            ensure!(left == 0, "{left} sets are armed or revisions marked");
            Ok(Some(()))
        })
        .await
    }
}
