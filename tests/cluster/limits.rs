//! Bounds that hold across incidents: the storm and the cascade breaker, and how much is kept. Each test gives the chart
//! other values; those that follow have to live with them.

use anyhow::{Result, ensure};
use backstop::api::v1alpha1::{BreakerState, Incident, IncidentPhase, Investigation, Ledger};
use futures::future::try_join_all;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::support::bench::{Bench, Release, expect, payload, phase};
use crate::support::{SYSTEM, connect_as, until};

/// Longer than any test takes, in seconds.
const LONG: u32 = 3600;

/// Failing workloads in three namespaces, more than one rollout explains: nothing is written anywhere, nor for a while after it. Then one
/// repair may try, and its success ends it. Nothing here waits for time to pass: storm and cooldown last until the
/// settings end them. In its own namespace only one workload fails at a time.
pub async fn a_storm_of_the_cluster_stops_every_write_until_one_trial_succeeds(bench: Bench) -> Result<()> {
    let broken = ["in-storm", "in-cooldown", "trial"];
    try_join_all(broken.iter().map(|name| bench.healthy(name))).await?;
    two_fail_beside(&bench, "first").await?;
    bench.suite.operator.reconfigure(json!({ "budgets": in_storm() })).await?;
    bench.broken("in-storm", Release::ImagePull).await?;
    bench.alert("in-storm").await?;
    expect(&ended(&bench, "in-storm").await?, IncidentPhase::Escalated, "Storm")?;
    let opened = breaker(&bench, BreakerState::Open).await?;
    ensure!(opened.reason == "Storm", "the breaker opened because of {}", opened.reason);
    heal(&bench, "in-storm").await?;

    let calm = json!({"stormIncidents": 10000, "cascadeCooldownSeconds": LONG});
    bench.suite.operator.reconfigure(json!({ "budgets": calm })).await?;
    bench.broken("in-cooldown", Release::ImagePull).await?;
    bench.alert("in-cooldown").await?;
    expect(&ended(&bench, "in-cooldown").await?, IncidentPhase::Escalated, "BreakerOpen")?;
    bench.nothing_written().await?;
    heal(&bench, "in-cooldown").await?;

    let over = json!({"stormIncidents": 10000, "cascadeCooldownSeconds": 1});
    bench.suite.operator.reconfigure(json!({ "budgets": over })).await?;
    bench.broken("trial", Release::ImagePull).await?;
    bench.alert("trial").await?;
    expect(&ended(&bench, "trial").await?, IncidentPhase::Resolved, "Recovered")?;
    bench.fired_once_to_first_revision("trial").await?;
    breaker(&bench, BreakerState::Closed).await.map(drop)
}

/// The on-call, with the chart's Role for it and nothing else, resets the breaker that a storm of the cluster opened: in their own
/// name, once, on record. The next incident is repaired although the cooldown is not over.
pub async fn a_person_resets_the_breaker_in_their_own_name_and_repairs_go_on(bench: Bench) -> Result<()> {
    const PERSON: &str = "suite-oncall";
    let broken = ["in-storm", "after"];
    try_join_all(broken.iter().map(|name| bench.healthy(name))).await?;
    two_fail_beside(&bench, "second").await?;
    bench.suite.operator.reconfigure(json!({ "budgets": in_storm() })).await?;
    bench.broken("in-storm", Release::ImagePull).await?;
    bench.alert("in-storm").await?;
    expect(&ended(&bench, "in-storm").await?, IncidentPhase::Escalated, "Storm")?;
    let opened = breaker(&bench, BreakerState::Open).await?;
    ensure!(opened.opened_by.starts_with(&format!("{}/", bench.ns)), "it was opened by {}", opened.opened_by);
    heal(&bench, "in-storm").await?;
    let calm = json!({"stormIncidents": 10000, "cascadeCooldownSeconds": LONG});
    bench.suite.operator.reconfigure(json!({ "budgets": calm })).await?;

    let bindings: Api<RoleBinding> = Api::namespaced(bench.suite.client.clone(), SYSTEM);
    let binding = serde_json::from_value(json!({
        "metadata": {"name": "suite-oncall"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "backstop-breaker"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": PERSON}],
    }))?;
    bindings.create(&Default::default(), &binding).await?;
    let ledgers: Api<Ledger> = Api::namespaced(connect_as(PERSON).await?, SYSTEM);
    let reset = async |by: &str| {
        let entry = json!({"upTo": opened.opened_at, "by": by, "why": "the registry is back"});
        let patch = Patch::Merge(json!({"spec": {"resets": [entry]}}));
        ledgers.patch("actions", &PatchParams::default(), &patch).await
    };
    let play = async {
        // RBAC is read by a cache of the API server.
        until("the person may write to the Ledger", || async {
            let answer = reset("somebody-else").await;
            let refused = answer.as_ref().err().map(ToString::to_string).unwrap_or_default();
            ensure!(answer.is_err(), "a reset in another's name was taken");
            Ok(refused.contains("names in `by` who writes it").then_some(()))
        })
        .await?;
        reset(PERSON).await?;
        breaker(&bench, BreakerState::Closed).await?;
        bench.broken("after", Release::ImagePull).await?;
        bench.alert("after").await?;
        expect(&ended(&bench, "after").await?, IncidentPhase::Resolved, "Recovered")?;
        bench.fired_once_to_first_revision("after").await.map(drop)
    };
    let outcome = play.await;
    bindings.delete("suite-oncall", &Default::default()).await?;
    outcome
}

/// One pipeline run ships the same image that does not exist to every service: one person is called, for all of them.
pub async fn the_same_bad_image_in_three_workloads_is_one_page_and_no_write(bench: Bench) -> Result<()> {
    let names = ["web", "api", "db"];
    try_join_all(names.iter().map(|name| bench.healthy(name))).await?;
    try_join_all(names.iter().map(|name| bench.broken(name, Release::ImagePull))).await?;
    let alerts: Vec<_> = names.iter().map(|name| bench.labels(&[("deployment", name)])).collect();
    let answer = bench.post(&payload(&alerts)).await?;
    ensure!(answer.code == 202, "the intake answered {} {}", answer.code, answer.body);
    let mut told = Vec::new();
    for name in names {
        let incident = ended(&bench, name).await?;
        expect(&incident, IncidentPhase::Escalated, "Storm")?;
        told.extend(incident.status.filter(|status| status.escalation.is_some()));
    }
    ensure!(told.len() == 1, "{} incidents call people, expected one", told.len());
    for name in names {
        ensure!(told[0].message.contains(&format!("Deployment/{name}")), "{name} is not named: {}", told[0].message);
    }
    bench.nothing_written().await
}

/// Of finished incidents the newest stay, with what belongs to them; one that is open stays whatever its age.
pub async fn finished_incidents_beyond_the_bound_are_removed_and_open_ones_stay(bench: Bench) -> Result<()> {
    bench.mode("approve").await?;
    bench.healthy("open").await?;
    bench.broken("open", Release::ImagePull).await?;
    bench.alert("open").await?;
    bench.incident_in(IncidentPhase::AwaitingApproval).await?;
    for name in ["absent-0", "absent-1", "absent-2"] {
        bench.alert(name).await?;
        until(&format!("the incident about {name} is handed over"), || async {
            let about = |i: &Incident| {
                i.spec.unresolved.as_ref().is_some_and(|u| u.message.contains(name)) && phase(i).is_final()
            };
            Ok(bench.incidents().await?.iter().any(about).then_some(()))
        })
        .await?;
    }
    bench.suite.operator.reconfigure(json!({"retention": {"perNamespace": 1}})).await?;
    let kept = until("the surplus is removed", || async {
        let incidents = bench.incidents().await?;
        Ok((incidents.len() <= 2).then_some(incidents))
    })
    .await?;
    ensure!(kept.len() == 2, "{} incidents are left, expected the newest finished one and the open one", kept.len());
    ensure!(
        kept.iter().any(|incident| incident.spec.target.as_ref().is_some_and(|target| target.name == "open")),
        "the open incident was removed"
    );
    ensure!(
        kept.iter().any(|incident| incident.spec.unresolved.as_ref().is_some_and(|u| u.message.contains("absent-2"))),
        "the newest finished incident was removed"
    );
    let names: Vec<String> = kept.iter().map(ResourceExt::name_any).collect();
    until("the investigations went with their incidents", || async {
        let left = bench.api::<Investigation>().list(&ListParams::default()).await?.items;
        Ok(left.iter().all(|investigation| names.contains(&investigation.spec.incident)).then_some(()))
    })
    .await
}

/// A failing workload in each of three namespaces is a storm of the cluster, however slowly they come to fail.
fn in_storm() -> Value {
    json!({"stormIncidents": 3, "stormWindowSeconds": LONG, "cascadeCooldownSeconds": LONG})
}

/// A workload fails in each of two other namespaces, which are only observed. Before the settings that make a storm of it, so
/// that the incident which sees it is that of the test.
async fn two_fail_beside(bench: &Bench, name: &str) -> Result<()> {
    try_join_all(bench.beside().iter().map(|beside| async move {
        beside.mode("observe").await?;
        beside.healthy(name).await?;
        beside.broken(name, Release::ImagePull).await?;
        beside.alert(name).await?;
        ended(beside, name).await
    }))
    .await
    .map(drop)
}

/// Waits until the incident about a Deployment has ended.
async fn ended(bench: &Bench, name: &str) -> Result<Incident> {
    until(&format!("the incident about {name} ended"), || async {
        let about = |i: &Incident| i.spec.target.as_ref().is_some_and(|t| t.name == name) && phase(i).is_final();
        Ok(bench.incidents().await?.into_iter().find(about))
    })
    .await
}

/// Gives a Deployment its image back, as a person does, and waits until that is rolled out.
async fn heal(bench: &Bench, name: &str) -> Result<()> {
    let container = json!({"name": name, "image": "backstop.local/shop:dev"});
    bench.patch(name, json!({"spec": {"template": {"spec": {"containers": [container]}}}})).await?;
    bench.rolled_out(name).await
}

/// Waits until the cascade breaker is in `state`.
async fn breaker(bench: &Bench, state: BreakerState) -> Result<backstop::api::v1alpha1::Breaker> {
    let ledgers: Api<Ledger> = Api::namespaced(bench.suite.client.clone(), SYSTEM);
    until(&format!("the cascade breaker is {state:?}"), || async {
        let breaker = ledgers.get("actions").await?.status.unwrap_or_default().breaker;
        Ok((breaker.state == state).then_some(breaker))
    })
    .await
}
