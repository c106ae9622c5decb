//! The operator as something that is operated: health, metrics, and its end.

use anyhow::{Result, ensure};
use k8s_openapi::api::{
    admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
    apps::v1::{Deployment, ReplicaSet},
    core::v1::Namespace,
    rbac::v1::RoleBinding,
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::json;

use crate::support::bench::{Bench, Release};
use crate::support::operator::ROLES;
use crate::support::taps::Point;
use crate::support::until;

pub async fn every_role_serves_health_and_metrics(bench: Bench) -> Result<()> {
    let operator = &bench.suite.operator;
    for role in ROLES {
        for path in ["/healthz", "/livez", "/readyz"] {
            operator.page(role, path).await?;
        }
        let metrics = operator.page(role, "/metrics").await?;
        for name in ["backstop_build_info", "backstop_process_resident_memory_bytes"] {
            ensure!(metrics.lines().any(|line| line.starts_with(name)), "the {role} does not serve {name}:\n{metrics}");
        }
        ensure!(metrics.trim_end().ends_with("# EOF"), "the {role}'s metrics are cut");
    }
    Ok(())
}

/// Of the enrolled namespaces one does not exist yet, then does, then is deleted: each time the chart can be installed, the
/// executor is ready, says so, and repairs in the others.
pub async fn an_enrolled_namespace_that_is_not_there_hinders_no_other(bench: Bench) -> Result<()> {
    let operator = &bench.suite.operator;
    let (client, other) = (bench.suite.client.clone(), format!("{}-gone", bench.ns));
    // Few, because the more there are the less often each is looked at.
    let enrolled = [bench.ns.clone(), other.clone()];
    let settings = json!({"executor": {"namespaces": enrolled}});
    let named = async || Ok::<_, anyhow::Error>(operator.page("executor", "/readyz").await?.contains(&other));

    operator.reconfigure(settings.clone()).await?;
    until("the executor names what is not there", || async { Ok(named().await?.then_some(())) }).await?;
    let namespaces: Api<Namespace> = Api::all(client);
    let namespace = json!({"metadata": {"name": other, "labels": {"backstop.dev/mode": "auto"}}});
    namespaces.create(&PostParams::default(), &serde_json::from_value(namespace)?).await?;
    operator.reconfigure(settings.clone()).await?;
    until("the executor takes it up", || async { Ok((!named().await?).then_some(())) }).await?;
    namespaces.delete(&other, &DeleteParams::background()).await?;
    until("the executor names what was deleted", || async { Ok(named().await?.then_some(())) }).await?;
    let metrics = operator.page("executor", "/metrics").await?;
    ensure!(metrics.contains(&format!("backstop_executor_namespace_gone{{namespace=\"{other}\"}} 1")), "{metrics}");
    operator.ready("executor").await?;

    bench.healthy("api").await?;
    bench.broken("api", Release::CrashLoop).await?;
    bench.alert("api").await?;
    bench.recovered().await?;
    bench.fired_once_to_first_revision("api").await?;
    // Once more without it, as it was found.
    operator.reconfigure(json!({})).await
}

/// The last test of all: uninstalling while the executor stands between arming and firing leaves nothing armed and
/// hinders nobody.
pub async fn an_uninstall_in_the_middle_leaves_nothing_armed(bench: Bench) -> Result<()> {
    bench.healthy("api").await?;
    bench.broken("api", Release::CrashLoop).await?;
    let armed = bench.hold(Point::after("executor", "arm"));
    bench.alert("api").await?;
    armed.reached().await?;
    bench.suite.operator.uninstall().await?;
    drop(armed);
    let fires = bench.fires().await?;
    ensure!(fires.is_empty(), "the executor fired after the uninstall began: {fires:#?}");
    let armed = bench.api::<Deployment>().list(&ListParams::default().labels("backstop.dev/armed")).await?.items;
    let marked = bench.api::<ReplicaSet>().list(&ListParams::default().labels("backstop.dev/undo-to")).await?.items;
    ensure!(armed.is_empty() && marked.is_empty(), "left behind: {armed:?} {marked:?}");
    bench.patch("api", json!({"spec": {"replicas": 2}})).await?;
    bench.ship("api", Release::Good).await?;

    let rights: Api<RoleBinding> = bench.api();
    ensure!(rights.list(&ListParams::default()).await?.items.is_empty(), "rights were left in an enrolled namespace");
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(bench.suite.client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(bench.suite.client.clone());
    let left = |names: Vec<String>| names.into_iter().filter(|name| name.starts_with("backstop-")).collect::<Vec<_>>();
    let policies = left(policies.list(&ListParams::default()).await?.items.iter().map(|p| p.name_any()).collect());
    let bindings = left(bindings.list(&ListParams::default()).await?.items.iter().map(|b| b.name_any()).collect());
    // Deleting the last binding whose parameter is a built-in kind would need a restart of the API server.
    ensure!(policies == ["backstop-provenance", "backstop-provenance-controllerrevisions"], "left: {policies:?}");
    ensure!(
        !bindings.is_empty() && bindings.iter().all(|name| name.starts_with("backstop-provenance")),
        "left: {bindings:?}"
    );
    Ok(())
}
