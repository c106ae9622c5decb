//! What one tenant does at its worst, and what the others notice of it: nothing.

use anyhow::{Result, ensure};
use backstop::api::v1alpha1::{IncidentPhase, Policy};
use futures::future::join_all;
use serde_json::json;

use crate::support::bench::{Bench, Release, expect, payload};

/// A Policy of a few hundred characters that would take gigabytes to evaluate denies by its name in the namespace of whoever
/// wrote it; the controller does not end, and goes on with the tests that run beside this one.
pub async fn a_policy_that_would_take_gigabytes_denies_by_its_name(bench: Bench) -> Result<()> {
    let before = bench.suite.operator.restarts("controller").await?;
    let bomb = format!("size(['aaaaaaaa']{}[0]) > 0", ".map(a, a+a+a+a+a+a+a+a)".repeat(9));
    let policy = json!({
        "apiVersion": "backstop.dev/v1alpha1", "kind": "Policy", "metadata": {"name": "bomb"},
        "spec": {"mode": "auto", "validations": [{"expression": bomb}]},
    });
    bench.create::<Policy>(policy).await?;
    bench.healthy("api").await?;
    bench.broken("api", Release::CrashLoop).await?;
    bench.alert("api").await?;
    let incident = bench.ended().await?;
    expect(&incident, IncidentPhase::Escalated, "PolicyTooExpensive")?;
    let message = incident.status.unwrap_or_default().message;
    ensure!(message.contains("bomb"), "the Policy is not named: {message}");
    bench.nothing_written().await?;
    let after = bench.suite.operator.restarts("controller").await?;
    ensure!(after == before, "the controller was started again: {before} times before, {after} after");
    Ok(())
}

/// Sixty-four long requests at one time: each is answered, with what is taken or that it has to come again, the controller
/// stays within its memory, and the next ordinary alert is taken and worked on.
pub async fn sixty_four_long_requests_at_one_time_are_answered(bench: Bench) -> Result<()> {
    let operator = &bench.suite.operator;
    let before = operator.restarts("controller").await?;
    bench.healthy("api").await?;
    bench.broken("api", Release::CrashLoop).await?;
    let mut body = payload(&[bench.labels(&[("alertname", "Long"), ("deployment", "api"), ("severity", "info")])]);
    body["alerts"][0]["annotations"]["description"] = json!("x".repeat(6 << 20));
    let body = serde_json::to_vec(&body)?;
    let (url, token) = (operator.intake().await?, operator.token().await?);
    let answers = join_all((0..64).map(|_| operator.post_to(&url, Some(&token), body.clone()))).await;
    let mut codes = std::collections::BTreeMap::<u16, usize>::new();
    for answer in answers {
        *codes.entry(answer?.code).or_default() += 1;
    }
    ensure!(codes.keys().all(|code| [202, 503].contains(code)), "answers by status: {codes:?}");
    let after = operator.restarts("controller").await?;
    ensure!(after == before, "the controller was started again: {before} times before, {after} after; {codes:?}");
    let answer = bench.alert("api").await?;
    ensure!(answer.code == 202, "the next alert was answered {} {}", answer.code, answer.body);
    bench.recovered().await.map(drop)
}
