//! What happens in the middle of a remediation: processes are killed, people write, the kill switch is thrown. Each time
//! the role is held at a tap, so that it happens exactly there, however fast or slow the machine is. These tests run
//! alone, because they disturb the operator that all tests share.

use anyhow::{Context as _, Result, ensure};
use backstop::{api::v1alpha1::IncidentPhase, core::names};
use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::support::bench::{Bench, Release, deployment, expect, first_template};
use crate::support::operator::ROLES;
use crate::support::taps::{Hold, Point};
use crate::support::{connect_as, until};

/// Kills a role at `point` of a rollback: there is exactly one fire and the incident ends well all the same.
async fn survives(bench: &Bench, point: Point) -> Result<()> {
    bench.suite.operator.fresh(point.role).await?;
    bench.healthy("api").await?;
    bench.broken("api", Release::CrashLoop).await?;
    let hold = bench.hold(point);
    bench.alert("api").await?;
    bench.kill_at(point, hold).await?;
    bench.recovered().await?;
    bench.fired_once_to_first_revision("api").await.map(drop)
}

pub async fn kill_the_executor_when_it_has_claimed(bench: Bench) -> Result<()> {
    survives(&bench, Point::after("executor", "claim")).await
}

/// The Grant was seen open, and nothing is marked yet.
pub async fn kill_the_executor_when_the_grant_is_open(bench: Bench) -> Result<()> {
    survives(&bench, Point::before("executor", "mark-revision")).await
}

pub async fn kill_the_executor_when_the_revision_is_marked(bench: Bench) -> Result<()> {
    survives(&bench, Point::after("executor", "mark-revision")).await
}

pub async fn kill_the_executor_when_the_object_is_armed(bench: Bench) -> Result<()> {
    survives(&bench, Point::after("executor", "arm")).await
}

pub async fn kill_the_executor_before_it_fires(bench: Bench) -> Result<()> {
    survives(&bench, Point::before("executor", "fire")).await
}

/// It was written, and the executor does not know it yet.
pub async fn kill_the_executor_when_it_has_fired(bench: Bench) -> Result<()> {
    survives(&bench, Point::after("executor", "fire")).await
}

pub async fn kill_the_executor_when_it_has_read_back(bench: Bench) -> Result<()> {
    survives(&bench, Point::before("executor", "finish")).await
}

pub async fn kill_the_controller_when_the_plan_is_written(bench: Bench) -> Result<()> {
    survives(&bench, Point::after("controller", "PlanWritten")).await
}

/// It exists, and the incident does not name it yet.
pub async fn kill_the_controller_when_the_remediation_is_written(bench: Bench) -> Result<()> {
    survives(&bench, Point::after("controller", "create-remediation")).await
}

/// It is open, and the incident does not say so yet.
pub async fn kill_the_controller_when_the_grant_is_open(bench: Bench) -> Result<()> {
    survives(&bench, Point::after("controller", "open-grant")).await
}

/// It has seen the outcome, and written nothing down.
pub async fn kill_the_controller_when_the_executor_has_fired(bench: Bench) -> Result<()> {
    survives(&bench, Point::before("controller", "settle")).await
}

/// It has marked the Investigation as its own and has the facts; nothing of them is written.
pub async fn kill_the_investigator_when_it_has_gathered(bench: Bench) -> Result<()> {
    survives(&bench, Point::after("investigator", "gather")).await
}

pub async fn the_api_server_restarts_in_between(bench: Bench) -> Result<()> {
    let claimed = bench.hold(Point::after("executor", "claim"));
    bench.healthy("api").await?;
    bench.broken("api", Release::CrashLoop).await?;
    bench.alert("api").await?;
    claimed.reached().await?;
    bench.suite.nodes.restart_api_server().await?;
    drop(claimed);
    bench.recovered().await?;
    bench.fired_once_to_first_revision("api").await?;
    for role in ROLES {
        bench.suite.operator.ready(role).await?;
    }
    Ok(())
}

/// `helm upgrade` while the object is armed: every role is another process afterwards, with the Deployment's next template.
pub async fn an_upgrade_in_the_middle_loses_nothing_and_writes_nothing_twice(bench: Bench) -> Result<()> {
    bench.healthy("api").await?;
    bench.broken("api", Release::CrashLoop).await?;
    let armed = bench.hold(Point::after("executor", "arm"));
    bench.alert("api").await?;
    armed.reached().await?;
    bench.suite.operator.reconfigure(json!({"podAnnotations": {"suite.backstop.dev/upgrade": bench.ns}})).await?;
    drop(armed);
    bench.recovered().await?;
    bench.fired_once_to_first_revision("api").await?;
    bench.nothing_in_flight().await
}

/// A Deployment that is armed, with the executor held right before the write that it has decided on.
async fn held_before_the_write(bench: &Bench) -> Result<Hold> {
    bench.healthy("api").await?;
    bench.broken("api", Release::CrashLoop).await?;
    let hold = bench.hold(Point::before("executor", "fire"));
    bench.alert("api").await?;
    hold.reached().await?;
    let raw = bench.raw("api").await?;
    ensure!(raw.pointer("/metadata/labels/backstop.dev~1armed").is_some(), "the object is not armed before the write");
    Ok(hold)
}

/// The very write that the executor is about to send, asked for in its name as a dry-run: whether the API server, with
/// what its policies know by now, would take it.
async fn write_would_pass(bench: &Bench) -> Result<bool> {
    let api: Api<Deployment> = Api::namespaced(connect_as(&bench.suite.witness.account("executor")).await?, &bench.ns);
    let raw = bench.raw("api").await?;
    let action = raw.pointer("/metadata/annotations/backstop.dev~1action").and_then(Value::as_str);
    let fire = json!([
        {"op": "remove", "path": "/metadata/labels/backstop.dev~1armed"},
        {"op": "remove", "path": "/metadata/annotations/backstop.dev~1action"},
        {"op": "add", "path": "/metadata/annotations/backstop.dev~1last-action", "value": action.context("no action")?},
        {"op": "replace", "path": "/spec/template", "value": first_template(&bench.events().await?, "api")?},
    ]);
    let params = PatchParams { dry_run: true, field_manager: Some(names::EXECUTOR.into()), ..PatchParams::default() };
    match api.patch("api", &params, &Patch::Json::<()>(serde_json::from_value(fire)?)).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 403 || status.code == 422 => Ok(false),
        Err(error) => Err(error).context("the dry-run of the executor's write"),
    }
}

pub async fn the_kill_switch_in_the_middle_stops_the_write(bench: Bench) -> Result<()> {
    let hold = held_before_the_write(&bench).await?;
    bench.mode("observe").await?;
    // The API server's policies read the label from a cache of its own; from here on they know.
    until("the API server knows of the kill switch", || async { Ok((!write_would_pass(&bench).await?).then_some(())) })
        .await?;
    drop(hold);
    let incident = bench.ended().await?;
    expect(&incident, IncidentPhase::Escalated, "ModeForbids")?;
    let fires = bench.fires().await?;
    ensure!(fires.is_empty(), "the executor fired after the kill switch: {fires:#?}");
    bench.nothing_in_flight().await
}

/// While an object is armed, a person scales it, labels it, restarts others and applies manifests as ever.
pub async fn people_write_freely_while_an_object_is_armed(bench: Bench) -> Result<()> {
    let hold = held_before_the_write(&bench).await?;
    let edits = async {
        bench.patch("api", json!({"metadata": {"labels": {"team": "checkout"}}})).await.context("label it")?;
        bench.patch("api", json!({"spec": {"replicas": 2}})).await.context("scale it")?;
        bench.create::<Deployment>(deployment("other", 1)).await.context("create another")?;
        bench.ship("other", Release::Good).await.context("change another")?;
        let api: Api<Deployment> = bench.api();
        api.delete("other", &Default::default()).await.context("delete another")?;
        let scale = json!({"spec": {"replicas": 1}});
        api.patch_scale("api", &PatchParams::default(), &Patch::Merge(&scale)).await.context("scale it by /scale")?;
        anyhow::Ok(())
    };
    edits.await.context("a person was hindered")?;
    // All but this: our label would make an object of theirs one in flight.
    let mut forged = deployment("forged", 1);
    forged["metadata"]["labels"][names::ARMED] = json!("rollout-undo");
    ensure!(bench.create::<Deployment>(forged).await.is_err(), "a person could arm an object");
    drop(hold);
    bench.recovered().await?;
    let fires = bench.fires().await?;
    ensure!(fires.len() == 1, "{} fires, expected one: {fires:#?}", fires.len());
    let raw = bench.raw("api").await?;
    ensure!(raw.pointer("/metadata/labels/team").is_some(), "the person's label is gone");
    bench.nothing_in_flight().await
}

/// A person ships a fix while the object is armed: what was judged is not there any more, and the fix stays.
pub async fn a_persons_fix_in_the_middle_stays(bench: Bench) -> Result<()> {
    let hold = held_before_the_write(&bench).await?;
    let fix = json!({"name": "api", "env": [{"name": "SHOP_TAX_RATE", "value": "0.07"}]});
    let fix = json!({"spec": {"template": {"spec": {"containers": [fix]}}}});
    bench.patch("api", fix).await.context("a person was hindered")?;
    let wanted = bench.template("api").await?;
    drop(hold);
    bench.ended().await?;
    let fires = bench.fires().await?;
    ensure!(fires.is_empty(), "the executor fired over a person's fix: {fires:#?}");
    ensure!(bench.template("api").await? == wanted, "the person's fix is gone");
    bench.nothing_in_flight().await?;
    bench.rolled_out("api").await
}
