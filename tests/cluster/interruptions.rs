//! What happens in the middle of a remediation: processes are killed, people write, the kill switch is thrown. These
//! tests run alone, because they disturb the operator that all tests share.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use backstop::core::names;
use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::support::bench::{Bench, Release, expect};
use crate::support::nodes::{Container, Signal};
use crate::support::operator::ROLES;
use crate::support::watch::Point;

/// Kills `role` at `point` of a rollback: there is exactly one fire and the incident ends well all the same.
async fn survives(bench: &Bench, role: &str, point: Point) -> Result<()> {
    bench.suite.operator.fresh(role).await?;
    bench.healthy("api").await?;
    bench.broken("api", Release::CrashLoop).await?;
    let (_, killed) = bench.signal_at(point, role, Signal::Kill).await?;
    bench.alert("api").await?;
    killed.await??;
    bench.recovered().await?;
    bench.fired_once_to_first_revision("api").await?;
    let restarts: i32 = bench
        .suite
        .operator
        .pods(role)
        .await?
        .iter()
        .flat_map(|pod| pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten()))
        .map(|container| container.restart_count)
        .sum();
    ensure!(restarts > 0, "the {role} was not restarted: it was not killed");
    Ok(())
}

pub async fn kill_the_executor_when_it_has_claimed(bench: Bench) -> Result<()> {
    survives(&bench, "executor", Point::Claimed).await
}

pub async fn kill_the_executor_when_the_grant_is_open(bench: Bench) -> Result<()> {
    survives(&bench, "executor", Point::GrantOpen).await
}

pub async fn kill_the_executor_when_the_object_is_armed(bench: Bench) -> Result<()> {
    survives(&bench, "executor", Point::Armed).await
}

pub async fn kill_the_executor_when_it_has_fired(bench: Bench) -> Result<()> {
    survives(&bench, "executor", Point::Fired).await
}

pub async fn kill_the_controller_when_the_remediation_is_written(bench: Bench) -> Result<()> {
    survives(&bench, "controller", Point::Created).await
}

pub async fn kill_the_controller_when_the_grant_is_open(bench: Bench) -> Result<()> {
    survives(&bench, "controller", Point::GrantOpen).await
}

pub async fn kill_the_controller_when_the_executor_has_fired(bench: Bench) -> Result<()> {
    survives(&bench, "controller", Point::Fired).await
}

pub async fn kill_the_investigator_when_it_is_asked(bench: Bench) -> Result<()> {
    survives(&bench, "investigator", Point::Investigating).await
}

pub async fn the_api_server_restarts_in_between(bench: Bench) -> Result<()> {
    bench.healthy("api").await?;
    bench.broken("api", Release::CrashLoop).await?;
    let (suite, ns) = (bench.suite.clone(), bench.ns.clone());
    let restarted = tokio::spawn(async move {
        Point::Claimed.seen(&suite.client, &ns).await?;
        suite.nodes.restart_api_server().await
    });
    bench.alert("api").await?;
    restarted.await??;
    bench.recovered().await?;
    bench.fired_once_to_first_revision("api").await?;
    for role in ROLES {
        bench.suite.operator.ready(role).await?;
    }
    Ok(())
}

/// Halts the executor while an object is armed, which takes luck: the write follows within some twenty milliseconds.
/// Tries again with another Deployment until it was in time. Returns its name and the halted process.
async fn halted_while_armed(bench: &Bench) -> Result<(String, Container)> {
    for attempt in 0..6 {
        let name = format!("api-{attempt}");
        bench.healthy(&name).await?;
        bench.broken(&name, Release::CrashLoop).await?;
        let (container, halted) = bench.signal_at(Point::Armed, "executor", Signal::Stop).await?;
        bench.alert(&name).await?;
        let halted = halted.await?;
        // What the halted process had sent may still be on its way.
        tokio::time::sleep(Duration::from_millis(300)).await;
        if halted.is_ok() && bench.raw(&name).await?.pointer("/metadata/labels/backstop.dev~1armed").is_some() {
            return Ok((name, container));
        }
        bench.suite.nodes.signal(&container, Signal::Continue).await?;
        halted?;
        bench.nth_ended(attempt + 1).await?;
        bench.nothing_in_flight().await?;
    }
    bail!("the executor could not be halted between arming and firing in 6 attempts")
}

/// Fires on one Deployment.
async fn fires_on(bench: &Bench, name: &str) -> Result<usize> {
    Ok(bench.fires().await?.iter().filter(|fire| fire.name == name).count())
}

/// The newest incident about `name`, once it has ended.
async fn ended_about(bench: &Bench, name: &str) -> Result<backstop::api::v1alpha1::Incident> {
    crate::support::until(&format!("the incident about {name} ended"), Duration::from_secs(150), || async {
        let incidents = bench.incidents().await?;
        let about = incidents
            .into_iter()
            .find(|incident| incident.spec.target.as_ref().is_some_and(|target| target.name == name));
        Ok(about.filter(|incident| crate::support::bench::phase(incident).is_final()))
    })
    .await
}

pub async fn the_kill_switch_in_the_middle_stops_the_write(bench: Bench) -> Result<()> {
    let (name, executor) = halted_while_armed(&bench).await?;
    let outcome = bench.mode("observe").await;
    bench.suite.nodes.signal(&executor, Signal::Continue).await?;
    outcome?;
    let incident = ended_about(&bench, &name).await?;
    expect(&incident, backstop::api::v1alpha1::IncidentPhase::Escalated, "ModeForbids")?;
    ensure!(fires_on(&bench, &name).await? == 0, "the executor fired after the kill switch");
    bench.nothing_in_flight().await
}

/// While an object is armed, a person scales it, labels it, restarts others and applies manifests as ever.
pub async fn people_write_freely_while_an_object_is_armed(bench: Bench) -> Result<()> {
    let (name, executor) = halted_while_armed(&bench).await?;
    let edits = async {
        bench.patch(&name, json!({"metadata": {"labels": {"team": "checkout"}}})).await.context("label it")?;
        bench.patch(&name, json!({"spec": {"replicas": 2}})).await.context("scale it")?;
        bench.create::<Deployment>(crate::support::bench::deployment("other", 1)).await.context("create another")?;
        bench.ship("other", Release::Good).await.context("change another")?;
        let api: Api<Deployment> = bench.api();
        api.delete("other", &Default::default()).await.context("delete another")?;
        let scale = json!({"spec": {"replicas": 1}});
        api.patch_scale(&name, &PatchParams::default(), &Patch::Merge(&scale)).await.context("scale it by /scale")?;
        anyhow::Ok(())
    };
    let edits = edits.await;
    // All but this: our label would make an object of theirs one in flight.
    let mut forged = crate::support::bench::deployment("forged", 1);
    forged["metadata"]["labels"][names::ARMED] = json!("rollout-undo");
    let forged = bench.create::<Deployment>(forged).await;
    bench.suite.nodes.signal(&executor, Signal::Continue).await?;
    edits.context("a person was hindered")?;
    ensure!(forged.is_err(), "a person could arm an object");
    let incident = ended_about(&bench, &name).await?;
    expect(&incident, backstop::api::v1alpha1::IncidentPhase::Resolved, "Recovered")?;
    ensure!(fires_on(&bench, &name).await? == 1, "expected one fire");
    let raw = bench.raw(&name).await?;
    ensure!(raw.pointer("/metadata/labels/team").is_some(), "the person's label is gone");
    bench.nothing_in_flight().await
}

/// A person ships a fix while the object is armed: what was judged is not there any more, and the fix stays.
pub async fn a_persons_fix_in_the_middle_stays(bench: Bench) -> Result<()> {
    let (name, executor) = halted_while_armed(&bench).await?;
    let fix = json!({"spec": {"template": {"spec": {"containers": [{"name": name, "env": [{"name": "SHOP_TAX_RATE", "value": "0.07"}]}]}}}});
    let fixed = bench.patch(&name, fix).await;
    let wanted = bench.template(&name).await;
    bench.suite.nodes.signal(&executor, Signal::Continue).await?;
    fixed.context("a person was hindered")?;
    ended_about(&bench, &name).await?;
    ensure!(fires_on(&bench, &name).await? == 0, "the executor fired over a person's fix");
    ensure!(bench.template(&name).await? == wanted?, "the person's fix is gone");
    bench.nothing_in_flight().await?;
    bench.rolled_out(&name).await
}
