//! The operator as something that is operated: health, metrics, and its end.

use anyhow::{Result, ensure};
use k8s_openapi::api::{
    admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
    apps::v1::{Deployment, ReplicaSet},
    rbac::v1::RoleBinding,
};
use kube::{Api, ResourceExt as _, api::ListParams};
use serde_json::json;

use crate::support::bench::{Bench, Release};
use crate::support::operator::ROLES;
use crate::support::taps::Point;

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
