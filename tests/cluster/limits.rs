//! Bounds that hold across incidents: the storm and the cascade breaker, and how much is kept. Each test gives the chart
//! other values; those that follow have to live with them.

use anyhow::{Result, ensure};
use backstop::api::v1alpha1::{BreakerState, Incident, IncidentPhase, Investigation, Ledger};
use futures::future::try_join_all;
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::json;

use crate::support::bench::{Bench, Release, expect, payload, phase};
use crate::support::{SYSTEM, until};

/// Longer than any test takes, in seconds.
const LONG: u32 = 3600;

/// More workloads with incidents than one rollout explains: nothing is written, nor for a while after it. Then one
/// repair may try, and its success ends it. Nothing here waits for time to pass: storm and cooldown last until the
/// settings end them.
pub async fn a_storm_stops_every_write_until_one_trial_succeeds(bench: Bench) -> Result<()> {
    let (quiet, broken) = (["quiet-0", "quiet-1", "quiet-2"], ["in-storm", "in-cooldown", "trial"]);
    try_join_all(quiet.iter().chain(&broken).map(|name| bench.healthy(name))).await?;
    try_join_all(broken.iter().map(|name| bench.broken(name, Release::ImagePull))).await?;
    let budgets = json!({"stormIncidents": 3, "stormWindowSeconds": LONG, "cascadeCooldownSeconds": LONG});
    bench.suite.operator.reconfigure(json!({ "budgets": budgets })).await?;

    let alerts: Vec<_> = quiet.iter().map(|name| bench.labels(&[("deployment", name)])).collect();
    let answer = bench.post(&payload(&alerts)).await?;
    ensure!(answer.code == 202, "the intake answered {} {}", answer.code, answer.body);
    until("each alert of the storm has its incident", || async {
        Ok((bench.incidents().await?.len() == quiet.len()).then_some(()))
    })
    .await?;
    bench.alert("in-storm").await?;
    expect(&ended(&bench, "in-storm").await?, IncidentPhase::Escalated, "Storm")?;
    let opened = breaker(&bench, BreakerState::Open).await?;
    ensure!(opened.reason == "Storm", "the breaker opened because of {}", opened.reason);

    let calm = json!({"stormIncidents": 10000, "cascadeCooldownSeconds": LONG});
    bench.suite.operator.reconfigure(json!({ "budgets": calm })).await?;
    bench.alert("in-cooldown").await?;
    expect(&ended(&bench, "in-cooldown").await?, IncidentPhase::Escalated, "BreakerOpen")?;
    bench.nothing_written().await?;

    let over = json!({"stormIncidents": 10000, "cascadeCooldownSeconds": 1});
    bench.suite.operator.reconfigure(json!({ "budgets": over })).await?;
    bench.alert("trial").await?;
    expect(&ended(&bench, "trial").await?, IncidentPhase::Resolved, "Recovered")?;
    bench.fired_once_to_first_revision("trial").await?;
    breaker(&bench, BreakerState::Closed).await.map(drop)
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

/// Waits until the incident about a Deployment has ended.
async fn ended(bench: &Bench, name: &str) -> Result<Incident> {
    until(&format!("the incident about {name} ended"), || async {
        let about = |i: &Incident| i.spec.target.as_ref().is_some_and(|t| t.name == name) && phase(i).is_final();
        Ok(bench.incidents().await?.into_iter().find(about))
    })
    .await
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
