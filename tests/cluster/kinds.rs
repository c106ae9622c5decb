//! StatefulSets and DaemonSets are repaired as Deployments are; every other kind is handed over, and named.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use backstop::api::v1alpha1::{Incident, IncidentPhase};
use k8s_openapi::{
    api::{
        apps::v1::ReplicaSet,
        batch::v1::{CronJob, Job},
        core::v1::{ConfigMap, LimitRange, Namespace, Pod},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::support::{
    bench::{Bench, Release, deployment, phase},
    until,
    witness::Eviction,
    workloads::{Kind, Workload},
};

/// Names and uids of pods.
async fn pods(workload: &Workload<'_>) -> Result<BTreeMap<String, String>> {
    Ok(workload.pods().await?.into_iter().map(|pod| (pod.name_any(), pod.uid().unwrap_or_default())).collect())
}

/// The Grants that were opened in this namespace, by the action that each was for.
async fn granted(bench: &Bench) -> Result<Vec<String>> {
    let mut actions: Vec<String> = bench
        .events()
        .await?
        .iter()
        .filter(|event| event.resource == "backstop.dev/grants" && event.is_accepted_write())
        .filter_map(|event| event.response.pointer("/spec/open/actionId")?.as_str().map(str::to_string))
        .collect();
    actions.sort();
    actions.dedup();
    Ok(actions)
}

/// An eviction that insisted on exactly this pod.
fn evicts(eviction: &Eviction, pod: &str, before: &BTreeMap<String, String>) -> Result<()> {
    ensure!(eviction.pod == pod, "evicted {}, expected {pod}", eviction.pod);
    ensure!(before.get(pod) == Some(&eviction.uid), "evicted another pod of that name than the stuck one");
    Ok(())
}

/// The StatefulSet controller does not replace a pod that never became ready, whatever its template says now: after the
/// template is back, the stuck pod goes by an eviction that has a Grant of its own.
pub async fn a_stateful_set_is_rolled_back_and_its_stuck_pod_evicted(bench: Bench) -> Result<()> {
    let set = Workload::healthy(&bench, Kind::StatefulSet, "api", Kind::StatefulSet.manifest("api", 2)).await?;
    set.broken(Release::CrashLoop).await?;
    let before = pods(&set).await?;
    set.alert().await?;
    bench.recovered().await?;
    let (fire, evictions) = set.fired_once().await?;
    ensure!(evictions.len() == 1, "{} evictions, expected that of the stuck pod: {evictions:#?}", evictions.len());
    evicts(&evictions[0], "api-1", &before)?;
    ensure!(evictions[0].at > fire.at, "the pod was evicted before its template was back");
    let granted = granted(&bench).await?;
    ensure!(granted.len() == 2, "{} actions were granted, expected the write and the eviction", granted.len());
    set.rolled_out().await?;
    ensure!(pods(&set).await?.get("api-0") == before.get("api-0"), "a healthy pod was replaced");
    Ok(())
}

/// With an image that cannot be pulled the pod never even started.
pub async fn a_stateful_set_whose_image_cannot_be_pulled_is_rolled_back(bench: Bench) -> Result<()> {
    let set = Workload::healthy(&bench, Kind::StatefulSet, "api", Kind::StatefulSet.manifest("api", 2)).await?;
    set.broken(Release::ImagePull).await?;
    let before = pods(&set).await?;
    set.alert().await?;
    bench.recovered().await?;
    let (_, evictions) = set.fired_once().await?;
    ensure!(evictions.len() == 1, "{} evictions, expected one: {evictions:#?}", evictions.len());
    evicts(&evictions[0], "api-1", &before)?;
    set.rolled_out().await
}

/// With pod management Parallel the controller replaces a stuck pod by itself; nobody else is evicted.
pub async fn a_parallel_stateful_set_is_rolled_back(bench: Bench) -> Result<()> {
    let mut manifest = Kind::StatefulSet.manifest("api", 3);
    manifest["spec"]["podManagementPolicy"] = json!("Parallel");
    let set = Workload::healthy(&bench, Kind::StatefulSet, "api", manifest).await?;
    set.broken(Release::CrashLoop).await?;
    let before = pods(&set).await?;
    set.alert().await?;
    bench.recovered().await?;
    let (_, evictions) = set.fired_once().await?;
    ensure!(evictions.len() <= 1, "{} evictions, expected at most the stuck pod's: {evictions:#?}", evictions.len());
    evictions.iter().try_for_each(|eviction| evicts(eviction, "api-2", &before))?;
    set.rolled_out().await?;
    let after = pods(&set).await?;
    for healthy in ["api-0", "api-1"] {
        ensure!(after.get(healthy) == before.get(healthy), "{healthy} was healthy and was replaced");
    }
    Ok(())
}

/// A release that a partition keeps to the last pod is taken back there, and the pods below the partition stay.
pub async fn a_stateful_set_with_a_partition_is_rolled_back_where_the_release_is(bench: Bench) -> Result<()> {
    let mut manifest = Kind::StatefulSet.manifest("api", 3);
    manifest["spec"]["updateStrategy"] = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 2}});
    let set = Workload::healthy(&bench, Kind::StatefulSet, "api", manifest).await?;
    set.broken(Release::CrashLoop).await?;
    let before = pods(&set).await?;
    set.alert().await?;
    bench.recovered().await?;
    let (_, evictions) = set.fired_once().await?;
    ensure!(evictions.len() == 1, "{} evictions, expected that of the stuck pod: {evictions:#?}", evictions.len());
    evicts(&evictions[0], "api-2", &before)?;
    set.rolled_out().await?;
    let after = pods(&set).await?;
    for below in ["api-0", "api-1"] {
        ensure!(after.get(below) == before.get(below), "{below} is below the partition and was replaced");
    }
    let partition = set.raw().await?.pointer("/spec/updateStrategy/rollingUpdate/partition").and_then(Value::as_i64);
    ensure!(partition == Some(2), "the partition is {partition:?}, expected 2");
    Ok(())
}

/// A PodDisruptionBudget that allows no eviction is respected: nobody is evicted and a person is called.
pub async fn a_stuck_pod_that_a_disruption_budget_protects_is_not_evicted(bench: Bench) -> Result<()> {
    let set = Workload::healthy(&bench, Kind::StatefulSet, "api", Kind::StatefulSet.manifest("api", 2)).await?;
    bench
        .create::<k8s_openapi::api::policy::v1::PodDisruptionBudget>(json!({
            "metadata": {"name": "api"},
            "spec": {
                "maxUnavailable": 0, "unhealthyPodEvictionPolicy": "IfHealthyBudget",
                "selector": {"matchLabels": {"app.kubernetes.io/name": "api"}},
            },
        }))
        .await?;
    set.broken(Release::CrashLoop).await?;
    set.alert().await?;
    let incident = bench.ended().await?;
    ensure!(phase(&incident) == IncidentPhase::Escalated, "the incident is {:?}", phase(&incident));
    let evictions = bench.suite.witness.evictions(&bench.events().await?);
    ensure!(evictions.is_empty(), "a pod was evicted in spite of its disruption budget: {evictions:#?}");
    bench.nothing_in_flight().await
}

/// It was handed over because only a person's deletion of pods rolls it out, and nothing was written.
async fn waits_for_a_person(bench: &Bench, kind: Kind) -> Result<()> {
    let mut manifest = kind.manifest("api", 2);
    manifest["spec"]["updateStrategy"] = json!({"type": "OnDelete"});
    let workload = Workload::healthy(bench, kind, "api", manifest).await?;
    workload.broken(Release::CrashLoop).await?;
    let bad = workload.template().await?;
    workload.alert().await?;
    let incident = bench.ended().await?;
    ensure!(phase(&incident) == IncidentPhase::Escalated, "the incident is {:?}", phase(&incident));
    ensure!(told(&incident).contains("OnDelete"), "nobody is told of OnDelete: {}", told(&incident));
    ensure!(workload.template().await? == bad, "the template was changed");
    bench.nothing_written().await
}

/// Everything that the incident says: its message and its verdicts.
fn told(incident: &Incident) -> String {
    serde_json::to_string(&incident.status).unwrap_or_default()
}

pub async fn a_stateful_set_with_on_delete_is_handed_over(bench: Bench) -> Result<()> {
    waits_for_a_person(&bench, Kind::StatefulSet).await
}

pub async fn a_daemon_set_with_on_delete_is_handed_over(bench: Bench) -> Result<()> {
    waits_for_a_person(&bench, Kind::DaemonSet).await
}

/// The DaemonSet controller replaces failing pods first, so nobody is evicted.
pub async fn a_daemon_set_is_rolled_back(bench: Bench) -> Result<()> {
    let set = Workload::healthy(&bench, Kind::DaemonSet, "api", Kind::DaemonSet.manifest("api", 1)).await?;
    set.broken(Release::CrashLoop).await?;
    set.alert().await?;
    bench.recovered().await?;
    let (_, evictions) = set.fired_once().await?;
    ensure!(evictions.is_empty(), "pods of a DaemonSet were evicted: {evictions:#?}");
    set.rolled_out().await
}

pub async fn a_daemon_set_whose_image_cannot_be_pulled_is_rolled_back(bench: Bench) -> Result<()> {
    let set = Workload::healthy(&bench, Kind::DaemonSet, "api", Kind::DaemonSet.manifest("api", 1)).await?;
    set.broken(Release::ImagePull).await?;
    set.alert().await?;
    bench.recovered().await?;
    set.fired_once().await?;
    set.rolled_out().await
}

/// A release whose pods the API server does not let in: no pod fails, one is missing, and only an Event says why.
async fn refused_pods_are_rolled_back(bench: &Bench, kind: Kind, release: Release, replicas: i32) -> Result<()> {
    let set = Workload::healthy(bench, kind, "api", kind.manifest("api", replicas)).await?;
    set.patch(release.patch("api")).await?;
    until("a pod is missing", || async {
        let raw = set.raw().await?;
        let count = |path: &str| raw.pointer(path).and_then(Value::as_i64).unwrap_or(0);
        let missing = match kind {
            Kind::StatefulSet => count("/status/replicas") < i64::from(replicas),
            Kind::DaemonSet => count("/status/currentNumberScheduled") < count("/status/desiredNumberScheduled"),
        };
        let seen = count("/status/observedGeneration") == count("/metadata/generation");
        Ok((seen && missing && set.pods().await?.len() < usize::try_from(replicas)?).then_some(()))
    })
    .await?;
    set.alert().await?;
    let incident = bench.recovered().await?;
    let hypothesis = incident.status.and_then(|status| status.diagnosis).map(|it| it.hypothesis).unwrap_or_default();
    ensure!(hypothesis.contains("refused when they are created"), "it is not said how it failed: {hypothesis}");
    let (_, evictions) = set.fired_once().await?;
    ensure!(evictions.is_empty(), "pods were evicted: {evictions:#?}");
    set.rolled_out().await
}

pub async fn a_stateful_set_whose_pods_are_refused_is_rolled_back(bench: Bench) -> Result<()> {
    bench
        .create::<LimitRange>(json!({
            "metadata": {"name": "small"}, "spec": {"limits": [{"type": "Container", "max": {"memory": "128Mi"}}]},
        }))
        .await?;
    refused_pods_are_rolled_back(&bench, Kind::StatefulSet, Release::TooLarge, 2).await
}

pub async fn a_daemon_set_whose_pods_are_refused_is_rolled_back(bench: Bench) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(bench.suite.client.clone());
    let patch = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}});
    namespaces.patch(&bench.ns, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    refused_pods_are_rolled_back(&bench, Kind::DaemonSet, Release::HostNetwork, 1).await
}

/// A pod template that fails at its start.
fn failing_template(name: &str, restart: &str) -> Value {
    let mut template = deployment(name, 1)["spec"]["template"].clone();
    template["spec"]["containers"][0]["env"] = json!([{"name": "SHOP_TAX_RATE", "value": "19%"}]);
    template["spec"]["restartPolicy"] = json!(restart);
    template
}

/// Handed over as a kind that is not supported, which is named; nothing was written.
async fn not_supported(bench: &Bench, labels: &[(&str, &str)], kind: &str) -> Result<()> {
    bench.alert_with(labels).await?;
    let incident = bench.escalated("KindNotSupported").await?;
    let message = incident.status.unwrap_or_default().message;
    ensure!(message.contains(kind), "the message does not name {kind}: {message}");
    bench.nothing_written().await
}

pub async fn a_job_is_a_kind_that_is_handed_over(bench: Bench) -> Result<()> {
    let template = failing_template("report", "OnFailure");
    bench.create::<Job>(json!({"metadata": {"name": "report"}, "spec": {"template": template}})).await?;
    bench.failing("report").await?;
    not_supported(&bench, &[("job_name", "report")], "Job").await
}

pub async fn a_cron_job_is_a_kind_that_is_handed_over(bench: Bench) -> Result<()> {
    let template = failing_template("report", "OnFailure");
    bench
        .create::<CronJob>(json!({
            "metadata": {"name": "report"},
            // Never by itself while the test lasts.
            "spec": {"schedule": "0 0 29 2 *", "suspend": true, "jobTemplate": {"spec": {"template": template}}},
        }))
        .await?;
    not_supported(&bench, &[("cronjob", "report")], "CronJob").await
}

pub async fn a_pod_that_nobody_owns_is_a_kind_that_is_handed_over(bench: Bench) -> Result<()> {
    let template = failing_template("bare", "Always");
    let metadata = json!({"name": "bare", "labels": template["metadata"]["labels"]});
    bench.create::<Pod>(json!({"metadata": metadata, "spec": template["spec"]})).await?;
    bench.failing("bare").await?;
    not_supported(&bench, &[("pod", "bare")], "Pod").await
}

pub async fn a_replica_set_that_nobody_owns_is_a_kind_that_is_handed_over(bench: Bench) -> Result<()> {
    let template = failing_template("old", "Always");
    let selector = json!({"matchLabels": template["metadata"]["labels"]});
    let spec = json!({"replicas": 1, "selector": selector, "template": template});
    bench.create::<ReplicaSet>(json!({"metadata": {"name": "old"}, "spec": spec})).await?;
    bench.failing("old").await?;
    not_supported(&bench, &[("replicaset", "old")], "ReplicaSet").await
}

/// A pod of a kind that Backstop has never heard of, as operators bring along.
pub async fn a_pod_of_a_custom_kind_is_handed_over(bench: Bench) -> Result<()> {
    let group = format!("suite-{}.example.com", bench.suite.run);
    let crds: Api<CustomResourceDefinition> = Api::all(bench.suite.client.clone());
    let name = format!("widgets.{group}");
    let version = json!({
        "name": "v1", "served": true, "storage": true,
        "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
    });
    let names = json!({"kind": "Widget", "plural": "widgets", "singular": "widget", "listKind": "WidgetList"});
    let definition = json!({
        "metadata": {"name": name}, "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [version]},
    });
    crds.create(&Default::default(), &serde_json::from_value(definition)?).await?;
    let outcome = of_a_widget(&bench, &group).await;
    crds.delete(&name, &DeleteParams::default()).await?;
    outcome
}

async fn of_a_widget(bench: &Bench, group: &str) -> Result<()> {
    let path = format!("/apis/{group}/v1/namespaces/{}/widgets", bench.ns);
    let widget = json!({"apiVersion": format!("{group}/v1"), "kind": "Widget", "metadata": {"name": "gears"}});
    let widget: Value = until("a Widget can be created", || async {
        let request = http::Request::post(&path).header("content-type", "application/json");
        Ok(Some(bench.suite.client.request(request.body(serde_json::to_vec(&widget)?)?).await?))
    })
    .await?;
    let uid = widget["metadata"]["uid"].as_str().context("the Widget has no uid")?;
    let template = failing_template("gears", "Always");
    let owner = json!({
        "apiVersion": format!("{group}/v1"), "kind": "Widget", "name": "gears", "uid": uid, "controller": true,
    });
    let labels = &template["metadata"]["labels"];
    let metadata = json!({"name": "gears-0", "labels": labels, "ownerReferences": [owner]});
    bench.create::<Pod>(json!({"metadata": metadata, "spec": template["spec"]})).await?;
    bench.failing("gears").await?;
    not_supported(bench, &[("pod", "gears-0")], "Widget").await
}

/// Not a workload at all: the label of an alert cannot name it, and nothing is looked up.
pub async fn what_is_no_workload_cannot_be_named(bench: Bench) -> Result<()> {
    bench.create::<ConfigMap>(json!({"metadata": {"name": "settings"}, "data": {"a": "b"}})).await?;
    bench.alert_with(&[("configmap", "settings")]).await?;
    bench.escalated("TargetUnresolved").await?;
    bench.nothing_written().await
}
