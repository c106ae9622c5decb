//! Everyday faults of releases, broken for `--record` only: Backstop observes, and what its investigator saw is kept. What
//! each shows stands in tests/diagnosis/expected.yaml.

use anyhow::{Context as _, Result};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Pod},
};
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};

use crate::support::bench::{Bench, Release, deployment};
use crate::support::until;
use crate::support::workloads::{Kind, Workload};

/// Sends the alert and waits until the incident ended, which writes nothing in mode `observe`.
pub async fn observed(bench: &Bench, labels: &[(&str, &str)]) -> Result<()> {
    bench.alert_with(labels).await?;
    bench.ended().await?;
    bench.nothing_written().await
}

/// A change of the only container of `name`.
pub fn container(name: &str, mut change: Value) -> Value {
    change["name"] = json!(name);
    json!({"spec": {"template": {"spec": {"containers": [change]}}}})
}

/// A change of the pod of a template.
pub fn pod(change: Value) -> Value {
    json!({"spec": {"template": {"spec": change}}})
}

/// How the pods of a bad release show that they fail.
#[derive(Clone, Copy)]
enum Shows {
    /// A container of theirs fails, or does not become ready.
    Failing,
    /// A container of theirs ended, or cannot be started.
    Ending,
    /// They do not start.
    NotStarting,
    /// An init container of theirs ended and is started again.
    InitFailing,
}

async fn shown(bench: &Bench, name: &str, shows: Shows) -> Result<()> {
    match shows {
        Shows::Failing => bench.failing(name).await,
        Shows::Ending => ending(bench).await,
        Shows::NotStarting => bench.not_starting(name).await,
        Shows::InitFailing => {
            until(&format!("an init container of {name} fails"), || async {
                let pods = bench.api::<Pod>().list(&ListParams::default()).await?.items;
                let statuses = pods.iter().flat_map(|pod| pod.status.iter());
                let mut init = statuses.flat_map(|status| status.init_container_statuses.iter().flatten());
                Ok(init.any(|one| one.restart_count > 0).then_some(()))
            })
            .await
        }
    }
}

/// Waits until a container was started again, or cannot be started.
async fn ending(bench: &Bench) -> Result<()> {
    until("a container ended, or cannot be started", || async {
        let pods = bench.api::<Pod>().list(&ListParams::default()).await?.items;
        let statuses = pods.iter().flat_map(|pod| pod.status.iter());
        let mut all = statuses.flat_map(|status| status.container_statuses.iter().flatten());
        let ends = all.any(|one| {
            let waiting = one.state.as_ref().and_then(|state| state.waiting.as_ref());
            let waits_for = waiting.and_then(|waiting| waiting.reason.as_deref()).unwrap_or_default();
            one.restart_count > 0 || ["CrashLoopBackOff", "RunContainerError", "StartError"].contains(&waits_for)
        });
        Ok(ends.then_some(()))
    })
    .await
}

/// A Deployment that works gets a release that does not.
async fn bad_release(bench: &Bench, name: &str, release: Value, shows: Shows) -> Result<()> {
    bench.mode("observe").await?;
    bench.healthy(name).await?;
    bench.patch(name, release).await?;
    shown(bench, name, shows).await?;
    observed(bench, &[("deployment", name)]).await
}

/// A Deployment that never worked.
async fn first_release(bench: &Bench, name: &str, change: Value, shows: Shows) -> Result<()> {
    bench.mode("observe").await?;
    let mut manifest = deployment(name, 1);
    crate::support::operator::merge(&mut manifest["spec"]["template"]["spec"]["containers"][0], change);
    bench.create::<Deployment>(manifest).await?;
    shown(bench, name, shows).await?;
    observed(bench, &[("deployment", name)]).await
}

pub async fn a_wrong_argument(bench: Bench) -> Result<()> {
    bad_release(&bench, "prices", container("prices", json!({"args": ["price"]})), Shows::Failing).await
}

pub async fn a_port_that_the_probe_does_not_know(bench: Bench) -> Result<()> {
    let env = json!({"env": [{"name": "SHOP_LISTEN", "value": ":9090"}]});
    bad_release(&bench, "search", container("search", env), Shows::Failing).await
}

pub async fn a_probe_of_another_port(bench: Bench) -> Result<()> {
    let probe = json!({"readinessProbe": {"httpGet": {"path": "/healthz", "port": 8081}}});
    bad_release(&bench, "orders", container("orders", probe), Shows::Failing).await
}

pub async fn a_startup_probe_that_never_succeeds(bench: Bench) -> Result<()> {
    let get = json!({"path": "/started", "port": 8080});
    let probe = json!({"startupProbe": {"httpGet": get, "periodSeconds": 2, "failureThreshold": 3}});
    bad_release(&bench, "billing", container("billing", probe), Shows::Ending).await
}

pub async fn a_tag_that_was_never_pushed(bench: Bench) -> Result<()> {
    let image = json!({"image": "backstop.local/shop:v2.7.1-rc1"});
    bad_release(&bench, "checkout", container("checkout", image), Shows::Failing).await
}

pub async fn an_image_that_may_not_be_pulled(bench: Bench) -> Result<()> {
    let image = json!({"image": "backstop.local/shop:local-build", "imagePullPolicy": "Never"});
    bad_release(&bench, "mailer", container("mailer", image), Shows::Failing).await
}

pub async fn a_key_that_its_config_map_lacks(bench: Bench) -> Result<()> {
    bench.create::<ConfigMap>(json!({"metadata": {"name": "features"}, "data": {"search": "on"}})).await?;
    let from = json!({"configMapKeyRef": {"name": "features", "key": "recommendations"}});
    let env = json!({"env": [{"name": "RECOMMENDATIONS", "valueFrom": from}]});
    bad_release(&bench, "catalog", container("catalog", env), Shows::Failing).await
}

pub async fn a_secret_that_nobody_created(bench: Bench) -> Result<()> {
    let from = json!({"envFrom": [{"secretRef": {"name": "payment-provider"}}]});
    bad_release(&bench, "payments", container("payments", from), Shows::Failing).await
}

pub async fn root_where_it_is_forbidden(bench: Bench) -> Result<()> {
    let context = json!({"securityContext": {"runAsNonRoot": true, "runAsUser": 0}});
    bad_release(&bench, "invoices", container("invoices", context), Shows::Failing).await
}

pub async fn a_volume_claim_that_nobody_created(bench: Bench) -> Result<()> {
    let change = json!({
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "media-data"}}],
        "containers": [{"name": "media", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
    });
    bad_release(&bench, "media", pod(change), Shows::NotStarting).await
}

pub async fn a_service_account_that_nobody_created(bench: Bench) -> Result<()> {
    bad_release(&bench, "reports", pod(json!({"serviceAccountName": "reports"})), Shows::NotStarting).await
}

pub async fn a_priority_class_that_nobody_created(bench: Bench) -> Result<()> {
    bad_release(&bench, "ranking", pod(json!({"priorityClassName": "shop-critical"})), Shows::NotStarting).await
}

pub async fn a_request_that_no_node_can_fulfil(bench: Bench) -> Result<()> {
    let requests = json!({"resources": {"requests": {"cpu": "500"}}});
    bad_release(&bench, "imports", container("imports", requests), Shows::NotStarting).await
}

pub async fn a_second_container_that_crashes(bench: Bench) -> Result<()> {
    let second = json!({"name": "exporter", "image": "backstop.local/shop:dev", "imagePullPolicy": "IfNotPresent",
        "args": ["exporter"]});
    bad_release(&bench, "sessions", pod(json!({"containers": [{"name": "sessions"}, second]})), Shows::Ending).await
}

pub async fn an_init_container_that_fails(bench: Bench) -> Result<()> {
    let init = json!({"name": "migrate", "image": "backstop.local/shop:dev", "imagePullPolicy": "IfNotPresent",
        "args": ["migrate"]});
    bad_release(&bench, "accounts", pod(json!({"initContainers": [init]})), Shows::InitFailing).await
}

pub async fn one_bad_pod_of_four(bench: Bench) -> Result<()> {
    bench.mode("observe").await?;
    bench.healthy_as("basket", deployment("basket", 3)).await?;
    bench.broken("basket", Release::CrashLoop).await?;
    observed(&bench, &[("deployment", "basket")]).await
}

pub async fn a_third_release_after_two_good_ones(bench: Bench) -> Result<()> {
    bench.mode("observe").await?;
    bench.healthy("loyalty").await?;
    bench.ship("loyalty", Release::Good).await?;
    bench.rolled_out("loyalty").await?;
    bench.known_good_of("loyalty", 2).await?;
    bench.broken("loyalty", Release::MissingConfig).await?;
    observed(&bench, &[("deployment", "loyalty")]).await
}

/// The second one was to repair the first.
pub async fn two_bad_releases_in_a_row(bench: Bench) -> Result<()> {
    bench.mode("observe").await?;
    bench.healthy("vouchers").await?;
    bench.broken("vouchers", Release::CrashLoop).await?;
    bench.broken("vouchers", Release::ImagePull).await?;
    observed(&bench, &[("deployment", "vouchers")]).await
}

async fn bad_release_of(bench: &Bench, kind: Kind, name: &str, replicas: i32, release: Release) -> Result<()> {
    bench.mode("observe").await?;
    let label = if kind == Kind::StatefulSet { "statefulset" } else { "daemonset" };
    let set = Workload::healthy(bench, kind, name, kind.manifest(name, replicas)).await?;
    set.broken(release).await?;
    observed(bench, &[(label, name)]).await
}

pub async fn a_stateful_set_whose_config_is_missing(bench: Bench) -> Result<()> {
    bad_release_of(&bench, Kind::StatefulSet, "queue", 2, Release::MissingConfig).await
}

pub async fn a_stateful_set_whose_command_is_missing(bench: Bench) -> Result<()> {
    bad_release_of(&bench, Kind::StatefulSet, "index", 1, Release::MissingCommand).await
}

pub async fn a_daemon_set_whose_config_is_missing(bench: Bench) -> Result<()> {
    bad_release_of(&bench, Kind::DaemonSet, "agent", 1, Release::MissingConfig).await
}

pub async fn a_daemon_set_that_crashes(bench: Bench) -> Result<()> {
    bad_release_of(&bench, Kind::DaemonSet, "logger", 1, Release::CrashLoop).await
}

pub async fn a_first_release_whose_image_is_missing(bench: Bench) -> Result<()> {
    first_release(&bench, "wishlist", json!({"image": "backstop.local/wishlist:v1"}), Shows::Failing).await
}

pub async fn a_first_release_whose_config_is_missing(bench: Bench) -> Result<()> {
    let from = json!({"envFrom": [{"configMapRef": {"name": "reviews"}}]});
    first_release(&bench, "reviews", from, Shows::Failing).await
}

pub async fn a_first_release_that_no_node_takes(bench: Bench) -> Result<()> {
    first_release(&bench, "training", json!({"resources": {"requests": {"cpu": "500"}}}), Shows::NotStarting).await
}

pub async fn a_first_release_whose_probe_fails(bench: Bench) -> Result<()> {
    let probe = json!({"readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}}});
    first_release(&bench, "support", probe, Shows::Failing).await
}

pub async fn a_first_stateful_set_that_crashes(bench: Bench) -> Result<()> {
    bench.mode("observe").await?;
    let mut manifest = Kind::StatefulSet.manifest("ledger", 2);
    manifest["spec"]["template"]["spec"]["containers"][0]["args"] = json!(["ledger"]);
    bench.create::<k8s_openapi::api::apps::v1::StatefulSet>(manifest).await?;
    bench.failing("ledger").await?;
    observed(&bench, &[("statefulset", "ledger")]).await
}

// --- nothing is wrong ------------------------------------------------------------------------------------------------

pub async fn healthy_after_scaling(bench: Bench) -> Result<()> {
    bench.mode("observe").await?;
    bench.healthy("web").await?;
    bench.patch("web", json!({"spec": {"replicas": 3}})).await?;
    bench.rolled_out("web").await?;
    observed(&bench, &[("deployment", "web")]).await
}

pub async fn healthy_after_a_restart(bench: Bench) -> Result<()> {
    bench.mode("observe").await?;
    bench.healthy("web").await?;
    let at = json!({"kubectl.kubernetes.io/restartedAt": backstop::clock::now().to_string()});
    bench.patch("web", json!({"spec": {"template": {"metadata": {"annotations": at}}}})).await?;
    bench.rolled_out("web").await?;
    observed(&bench, &[("deployment", "web")]).await
}

/// A person was faster than the alert.
pub async fn healthy_because_a_person_mended_it(bench: Bench) -> Result<()> {
    bench.mode("observe").await?;
    bench.healthy("web").await?;
    bench.broken("web", Release::ImagePull).await?;
    bench.patch("web", container("web", json!({"image": "backstop.local/shop:dev"}))).await?;
    bench.rolled_out("web").await?;
    gone_bad_pods(&bench).await?;
    observed(&bench, &[("deployment", "web")]).await
}

/// Waits until only ready pods are there.
async fn gone_bad_pods(bench: &Bench) -> Result<()> {
    until("only ready pods are left", || async {
        let pods = bench.api::<Pod>().list(&ListParams::default()).await?.items;
        let ready = |pod: &Pod| {
            let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
            conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"))
        };
        Ok((!pods.is_empty() && pods.iter().all(ready)).then_some(()))
    })
    .await
}

/// A pod was deleted and another took its place before anybody looked.
pub async fn healthy_after_a_pod_was_replaced(bench: Bench) -> Result<()> {
    bench.mode("observe").await?;
    bench.healthy_as("web", deployment("web", 2)).await?;
    let pods = bench.api::<Pod>();
    let one = pods.list(&ListParams::default()).await?.items.into_iter().next().context("no pod")?;
    pods.delete(one.metadata.name.as_deref().unwrap_or_default(), &DeleteParams::default()).await?;
    bench.rolled_out("web").await?;
    gone_bad_pods(&bench).await?;
    observed(&bench, &[("deployment", "web")]).await
}

pub async fn a_healthy_stateful_set(bench: Bench) -> Result<()> {
    bench.mode("observe").await?;
    Workload::healthy(&bench, Kind::StatefulSet, "store", Kind::StatefulSet.manifest("store", 2)).await?;
    observed(&bench, &[("statefulset", "store")]).await
}

pub async fn a_healthy_daemon_set(bench: Bench) -> Result<()> {
    bench.mode("observe").await?;
    Workload::healthy(&bench, Kind::DaemonSet, "node-agent", Kind::DaemonSet.manifest("node-agent", 1)).await?;
    observed(&bench, &[("daemonset", "node-agent")]).await
}

/// Nobody forgot it: a person scaled it to nothing.
pub async fn scaled_to_nothing(bench: Bench) -> Result<()> {
    bench.mode("observe").await?;
    bench.healthy("seasonal").await?;
    bench.patch("seasonal", json!({"spec": {"replicas": 0}})).await?;
    bench.rolled_out("seasonal").await?;
    observed(&bench, &[("deployment", "seasonal")]).await
}
