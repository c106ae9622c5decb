//! Everyday faults around a workload whose template is as it was, broken for `--record` only: a rollback helps against none
//! of them. What each shows stands in tests/diagnosis/expected.yaml.

use anyhow::{Context as _, Result};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Node, Pod, ResourceQuota, Secret, Service},
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::faults::{container, observed};
use crate::support::bench::{Bench, Release, deployment};
use crate::support::until;

/// A Deployment whose containers get their environment from `source`.
fn with_environment(name: &str, source: Value) -> Value {
    let mut manifest = deployment(name, 1);
    manifest["spec"]["template"]["spec"]["containers"][0]["envFrom"] = json!([source]);
    manifest
}

/// Every pod is replaced by a new one, as after a drain of its node.
async fn replace_pods(bench: &Bench) -> Result<()> {
    bench.api::<Pod>().delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
    Ok(())
}

async fn edit_settings(bench: &Bench) -> Result<()> {
    let edit = json!({"data": {"SHOP_TAX_RATE": "19%"}});
    let api: Api<ConfigMap> = bench.api();
    api.patch("settings", &PatchParams::default(), &Patch::Merge(&edit)).await?;
    Ok(())
}

async fn with_settings(bench: &Bench, name: &str) -> Result<()> {
    bench.mode("observe").await?;
    bench.create::<ConfigMap>(json!({"metadata": {"name": "settings"}, "data": {"SHOP_TAX_RATE": "0.19"}})).await?;
    bench.healthy_as(name, with_environment(name, json!({"configMapRef": {"name": "settings"}}))).await
}

pub async fn a_config_map_edited_before_any_second_release(bench: Bench) -> Result<()> {
    with_settings(&bench, "prices").await?;
    edit_settings(&bench).await?;
    replace_pods(&bench).await?;
    bench.failing("prices").await?;
    observed(&bench, &[("deployment", "prices")]).await
}

pub async fn a_config_map_edited_and_then_a_restart(bench: Bench) -> Result<()> {
    with_settings(&bench, "taxes").await?;
    edit_settings(&bench).await?;
    let at = json!({"kubectl.kubernetes.io/restartedAt": backstop::clock::now().to_string()});
    bench.patch("taxes", json!({"spec": {"template": {"metadata": {"annotations": at}}}})).await?;
    bench.failing("taxes").await?;
    observed(&bench, &[("deployment", "taxes")]).await
}

pub async fn a_config_map_that_was_deleted(bench: Bench) -> Result<()> {
    with_settings(&bench, "offers").await?;
    let api: Api<ConfigMap> = bench.api();
    api.delete("settings", &DeleteParams::default()).await?;
    replace_pods(&bench).await?;
    bench.failing("offers").await?;
    observed(&bench, &[("deployment", "offers")]).await
}

async fn with_secret(bench: &Bench, name: &str) -> Result<()> {
    bench.mode("observe").await?;
    bench.create::<Secret>(json!({"metadata": {"name": "rates"}, "stringData": {"SHOP_TAX_RATE": "0.19"}})).await?;
    bench.healthy_as(name, with_environment(name, json!({"secretRef": {"name": "rates"}}))).await
}

pub async fn a_secret_that_was_deleted(bench: Bench) -> Result<()> {
    with_secret(&bench, "refunds").await?;
    bench.api::<Secret>().delete("rates", &DeleteParams::default()).await?;
    replace_pods(&bench).await?;
    bench.failing("refunds").await?;
    observed(&bench, &[("deployment", "refunds")]).await
}

/// Nothing that Backstop may read tells that it changed.
pub async fn a_secret_edited_in_place(bench: Bench) -> Result<()> {
    with_secret(&bench, "transfers").await?;
    let edit = json!({"stringData": {"SHOP_TAX_RATE": "nineteen"}});
    bench.api::<Secret>().patch("rates", &PatchParams::default(), &Patch::Merge(&edit)).await?;
    replace_pods(&bench).await?;
    bench.failing("transfers").await?;
    observed(&bench, &[("deployment", "transfers")]).await
}

/// The service behind it is gone, and its own readiness depends on it.
pub async fn a_dependency_that_is_down(bench: Bench) -> Result<()> {
    bench.mode("observe").await?;
    bench
        .create::<Service>(json!({
            "metadata": {"name": "prices"},
            "spec": {"selector": {"app.kubernetes.io/name": "prices"}, "ports": [{"port": 8080, "targetPort": "http"}]},
        }))
        .await?;
    bench.healthy("prices").await?;
    let mut catalog = deployment("catalog", 1);
    let main = &mut catalog["spec"]["template"]["spec"]["containers"][0];
    main["args"] = json!(["catalog"]);
    main["readinessProbe"]["httpGet"]["path"] = json!("/chain");
    main["readinessProbe"]["timeoutSeconds"] = json!(3);
    bench.healthy_as("catalog", catalog).await?;
    bench.patch("prices", json!({"spec": {"replicas": 0}})).await?;
    bench.failing("catalog").await?;
    observed(&bench, &[("deployment", "catalog")]).await
}

async fn with_quota(bench: &Bench, pods: &str) -> Result<()> {
    bench.create::<ResourceQuota>(json!({"metadata": {"name": "small"}, "spec": {"hard": {"pods": pods}}})).await?;
    until("the quota is known", || async {
        let quota = bench.api::<ResourceQuota>().get("small").await?;
        Ok(quota.status.and_then(|status| status.hard).map(drop))
    })
    .await
}

/// The release is good, and there is no room for its first pod.
pub async fn a_quota_that_has_no_room_for_a_good_release(bench: Bench) -> Result<()> {
    bench.mode("observe").await?;
    bench.healthy("gifts").await?;
    with_quota(&bench, "1").await?;
    bench.ship("gifts", Release::Good).await?;
    bench.not_starting("gifts").await?;
    observed(&bench, &[("deployment", "gifts")]).await
}

pub async fn a_quota_that_has_no_room_for_the_pods_that_were_there(bench: Bench) -> Result<()> {
    bench.mode("observe").await?;
    bench.healthy("stock").await?;
    with_quota(&bench, "0").await?;
    replace_pods(&bench).await?;
    bench.not_starting("stock").await?;
    observed(&bench, &[("deployment", "stock")]).await
}

/// The only node that it may run on lost its label.
pub async fn a_label_that_its_node_lost(bench: Bench) -> Result<()> {
    bench.mode("observe").await?;
    let key = format!("suite.backstop.dev/{}", bench.suite.run);
    let nodes: Api<Node> = Api::all(bench.suite.client.clone());
    let node = nodes.list(&ListParams::default()).await?.items.into_iter().next().context("no node")?.name_any();
    let label = async |value: Value| -> Result<()> {
        let patch = json!({"metadata": {"labels": {&key: value}}});
        nodes.patch(&node, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        Ok(())
    };
    label(json!("disks")).await?;
    let mut manifest = deployment("archive", 1);
    manifest["spec"]["template"]["spec"]["nodeSelector"] = json!({&key: "disks"});
    let healthy = bench.healthy_as("archive", manifest).await;
    label(Value::Null).await?;
    healthy?;
    replace_pods(&bench).await?;
    bench.not_starting("archive").await?;
    observed(&bench, &[("deployment", "archive")]).await
}

/// A release long ago, and then its ConfigMap.
pub async fn a_config_map_edited_after_a_good_release(bench: Bench) -> Result<()> {
    with_settings(&bench, "quotes").await?;
    bench.ship("quotes", Release::Good).await?;
    bench.rolled_out("quotes").await?;
    bench.known_good_of("quotes", 2).await?;
    edit_settings(&bench).await?;
    replace_pods(&bench).await?;
    bench.failing("quotes").await?;
    observed(&bench, &[("deployment", "quotes")]).await
}

/// The release only brings to light what is missing for both revisions.
pub async fn a_release_and_a_secret_that_is_gone_for_both(bench: Bench) -> Result<()> {
    with_secret(&bench, "exports").await?;
    bench.api::<Secret>().delete("rates", &DeleteParams::default()).await?;
    bench.patch("exports", container("exports", json!({"env": [{"name": "SHOP_VERSION", "value": "v2"}]}))).await?;
    bench.failing("exports").await?;
    observed(&bench, &[("deployment", "exports")]).await
}

/// The alert names an object that somebody deleted.
pub async fn a_deployment_that_was_deleted(bench: Bench) -> Result<()> {
    bench.mode("observe").await?;
    bench.healthy("trial").await?;
    bench.api::<Deployment>().delete("trial", &DeleteParams::default()).await?;
    until("it is gone", || async { Ok(bench.api::<Deployment>().get_opt("trial").await?.is_none().then_some(())) })
        .await?;
    observed(&bench, &[("deployment", "trial")]).await
}
