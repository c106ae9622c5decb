//! Measurements, with the rules as the only diagnoser: how long from alert to plan, from alert to write, and what
//! Backstop adds to a recovery; and how much memory its roles hold. `make measure` prints them.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use backstop::api::v1alpha1::Incident;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};

use crate::support::audit::Event;
use crate::support::bench::{Bench, Release, deployment, payload};
use crate::support::memory::Memory;
use crate::support::{Place, Suite, until};

/// Deployments that are broken at one time: a small machine has to run them.
const BATCH: usize = 10;
/// Nothing is written or read by an account for this long before the first alert is sent.
const QUIET: Duration = Duration::from_secs(3);
/// Alerts whose way is printed.
const SLOWEST: usize = 5;
/// Namespaces over which the alerts of the first measurement are spread.
const SPREAD: usize = 20;

/// How much is measured.
#[derive(Clone, Debug, clap::Args)]
pub struct Amount {
    /// Alerts for the time from alert to plan.
    #[arg(long, default_value_t = 1000)]
    alerts: usize,
    /// Alerts sent in a second.
    #[arg(long, default_value_t = 4)]
    rate: u64,
    /// Rollbacks for the time from alert to write.
    #[arg(long, default_value_t = 100)]
    fires: usize,
}

/// Measures and prints.
pub async fn run(place: &Place, amount: &Amount) -> Result<bool> {
    let start = Instant::now();
    let run = format!("{:04x}", rand::random::<u16>());
    let plans: Vec<String> = (0..SPREAD).map(|number| format!("m-plan-{number}-{run}")).collect();
    let fires: Vec<String> = (0..amount.fires.div_ceil(BATCH)).map(|number| format!("m-fire-{number}-{run}")).collect();
    let namespaces: Vec<String> = plans.iter().chain(&fires).cloned().collect();
    // What does not fail is handed over soon, and what recovered is done at once: both make room for the next alert.
    // Each rollback stands for itself, however short the time since the one before.
    let values = json!({
        "timings": {"evidenceWaitSeconds": 2, "verifySettleSeconds": 0}, "budgets": {"stormWindowSeconds": 1},
        "logLevel": "info",
    });
    let suite = Suite::start(place, &namespaces, &run, values).await?;
    let measured = measured(&suite, &fires, &plans, amount).await;
    suite.clean(&namespaces).await?;
    let Measured { fire, added, ways, memory } = measured?;
    let planned: Vec<f64> = ways.iter().map(|way| way.seconds(way.plan.1)).collect();
    let first_source: Vec<f64> = ways.iter().map(|way| way.seconds(way.source)).collect();
    let mut slowest: Vec<&Way> = ways.iter().collect();
    slowest.sort_by_key(|way| std::cmp::Reverse(way.plan.1.duration_since(way.sent)));
    slowest.truncate(SLOWEST);

    println!(
        "\n{:<58} {:>5} {:>8} {:>8} {:>8} {:>8}  target",
        "seconds, rules only", "n", "p50", "p99", "p99.9", "max"
    );
    row("alert sent -> patch accepted (audit log)", &fire, 0.99, 1.0);
    row("added to break -> recovered, beyond detection and rollout", &added, 0.99, 2.0);
    row("alert sent -> plan written (audit log)", &planned, 0.999, 0.3);
    row("alert sent -> first source asked (audit log)", &first_source, 0.999, 0.3);
    println!();
    slowest.iter().for_each(|way| way.print());
    println!();
    memory.print();
    println!("\ntook {:.0} s; absolute times inform and fail nothing", start.elapsed().as_secs_f64());
    println!("measure: {} checked, 0 failed", fire.len() + planned.len());
    Ok(true)
}

struct Measured {
    fire: Vec<f64>,
    added: Vec<f64>,
    ways: Vec<Way>,
    memory: Memory,
}

/// The way of one alert to its plan and its first source, by the audit log. Of each write: when the request arrived,
/// and when it was answered.
struct Way {
    target: String,
    sent: Timestamp,
    alert: (Timestamp, Timestamp),
    incident: (Timestamp, Timestamp),
    plan: (Timestamp, Timestamp),
    source: Timestamp,
}

impl Way {
    fn seconds(&self, at: Timestamp) -> f64 {
        seconds(self.sent, at)
    }

    /// Prints where the time went.
    fn print(&self) {
        let write = |(asked, at): (Timestamp, Timestamp)| format!("{:.3}-{:.3}", self.seconds(asked), self.seconds(at));
        println!(
            "slow: {:<10} sent {}; Alert stored {}, Incident stored {}, plan stored {}, first source {:.3}",
            self.target,
            self.sent,
            write(self.alert),
            write(self.incident),
            write(self.plan),
            self.seconds(self.source)
        );
    }
}

async fn measured(suite: &Arc<Suite>, fires: &[String], plans: &[String], amount: &Amount) -> Result<Measured> {
    let memory = Memory::watch(suite).await?;
    let (fire, added) = write_times(suite, fires, amount).await?;
    let ways = plan_times(suite, plans, amount).await?;
    Ok(Measured { fire, added, ways, memory })
}

/// Prints a row, and whether the target was met.
fn row(what: &str, seconds: &[f64], percentile: f64, target: f64) {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |p: f64| {
        sorted
            .get(((sorted.len() as f64 * p).ceil() as usize).clamp(1, sorted.len().max(1)) - 1)
            .copied()
            .unwrap_or(f64::NAN)
    };
    let met = at(percentile) <= target;
    println!(
        "{what:<58} {:>5} {:>8.3} {:>8.3} {:>8.3} {:>8.3}  p{} <= {target} s: {}",
        sorted.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
        percentile * 100.0,
        if met { "met" } else { "missed" }
    );
}

/// From sending an alert to the accepted write, by the audit log; and what is added to that after the rollout ended.
async fn write_times(suite: &Arc<Suite>, namespaces: &[String], amount: &Amount) -> Result<(Vec<f64>, Vec<f64>)> {
    let (mut to_fire, mut added) = (Vec::new(), Vec::new());
    for (batch, namespace) in namespaces.iter().enumerate() {
        let bench = Bench { suite: suite.clone(), ns: namespace.clone() };
        let count = BATCH.min(amount.fires - batch * BATCH);
        let names: Vec<String> = (0..count).map(|number| format!("api-{number}")).collect();
        stream::iter(&names).map(|name| bench.healthy(name)).buffer_unordered(BATCH).try_collect::<()>().await?;
        for name in &names {
            // One after the other: many that fail at once are a storm, and not rolled back.
            bench.broken(name, Release::ImagePull).await?;
            let sent = backstop::clock::now();
            bench.alert(name).await?;
            let incident = recovered(&bench, name).await?;
            let events = bench.events().await?;
            let fires = suite.witness.fires(&events);
            let fire = fires.iter().find(|fire| fire.name == *name).context("the audit log shows no fire")?;
            let wait = seconds(sent, fire.at);
            let rolled_out = events
                .iter()
                .filter(|event| event.resource == "apps/deployments" && event.name == *name && event.at > fire.at)
                .find(|event| is_rolled_out(&event.response))
                .context("the audit log does not show the end of the rollout")?;
            let healthy = incident.status.and_then(|status| status.times.healthy).context("no time of health")?;
            to_fire.push(wait);
            added.push(wait + seconds(rolled_out.at, healthy).max(0.0));
        }
        bench.api::<Deployment>().delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
        println!("{} of {} rollbacks", to_fire.len(), amount.fires);
    }
    Ok((to_fire, added))
}

async fn recovered(bench: &Bench, name: &str) -> Result<Incident> {
    let incident = until(&format!("{name} recovered"), || async {
        let about = |incident: &Incident| incident.spec.target.as_ref().is_some_and(|target| target.name == name);
        let incidents = bench.incidents().await?;
        Ok(incidents.into_iter().find(|i| about(i) && crate::support::bench::phase(i).is_final()))
    })
    .await?;
    crate::support::bench::expect(&incident, backstop::api::v1alpha1::IncidentPhase::Resolved, "Recovered")?;
    Ok(incident)
}

fn is_rolled_out(deployment: &Value) -> bool {
    let number = |path: &str| deployment.pointer(path).and_then(Value::as_i64).unwrap_or(0);
    number("/status/observedGeneration") == number("/metadata/generation")
        && ["/status/replicas", "/status/updatedReplicas", "/status/availableReplicas"]
            .iter()
            .all(|path| number(path) == number("/spec/replicas"))
}

/// From sending an alert to the written plan and to the first source. The Deployments have no pods: what is measured is
/// the same, and a small machine can hold a thousand of them.
async fn plan_times(suite: &Arc<Suite>, namespaces: &[String], amount: &Amount) -> Result<Vec<Way>> {
    let benches: Vec<Bench> = namespaces.iter().map(|ns| Bench { suite: suite.clone(), ns: ns.clone() }).collect();
    let place = |number: usize| (&benches[number % SPREAD], format!("idle-{number}"));
    stream::iter(0..amount.alerts)
        .map(|number| {
            let (bench, name) = place(number);
            async move { bench.create::<Deployment>(deployment(&name, 0)).await.map(drop) }
        })
        .buffer_unordered(8)
        .try_collect::<()>()
        .await?;
    settled(&benches).await?;
    let (token, intake) = (suite.operator.token().await?, suite.operator.intake().await?);
    let mut sent: BTreeMap<String, Timestamp> = BTreeMap::new();
    let mut pace = tokio::time::interval(Duration::from_secs(1) / u32::try_from(amount.rate)?);
    let mut posts = tokio::task::JoinSet::new();
    for number in 0..amount.alerts {
        pace.tick().await;
        let (bench, name) = place(number);
        let body = serde_json::to_vec(&payload(&[bench.labels(&[("deployment", &name)])]))?;
        sent.insert(name, backstop::clock::now());
        let (suite, token, intake) = (suite.clone(), token.clone(), intake.clone());
        posts.spawn(async move { suite.operator.post_to(&intake, Some(&token), body).await });
    }
    for answer in posts.join_all().await {
        let answer = answer?;
        ensure!(answer.code == 202, "the intake answered {} {}", answer.code, answer.body);
    }
    let mut ways = Vec::new();
    for bench in &benches {
        let wanted = sent
            .keys()
            .filter(|name| name[5..].parse::<usize>().is_ok_and(|n| std::ptr::eq(place(n).0, bench)))
            .count();
        let incidents = until("every alert has its incident", || async {
            let incidents = bench.incidents().await?;
            let ready = |i: &&Incident| i.status.as_ref().is_some_and(|status| status.times.first_source.is_some());
            Ok((incidents.iter().filter(ready).count() >= wanted).then_some(incidents))
        })
        .await?;
        let events = bench.events().await?;
        for incident in incidents {
            let target = incident.spec.target.context("a target")?.name;
            let sent = *sent.get(&target).context("an incident that nobody sent an alert for")?;
            let name = incident.metadata.name.context("a name")?;
            let alert = &incident.spec.alerts.first().context("an alert")?.name;
            ways.push(
                way(&events, sent, alert, &name, target)
                    .with_context(|| format!("the audit log does not show the way of incident {name}"))?,
            );
        }
    }
    Ok(ways)
}

/// Waits until the cluster has digested the creation of so many objects: what is measured is alerts, not that.
async fn settled(benches: &[Bench]) -> Result<()> {
    for bench in benches {
        until("every Deployment was seen by its controller", || async {
            let all = bench.api::<Deployment>().list(&ListParams::default()).await?.items;
            let seen = |d: &Deployment| {
                d.status.as_ref().and_then(|status| status.observed_generation) == d.metadata.generation
            };
            Ok(all.iter().all(seen).then_some(()))
        })
        .await?;
    }
    until("the namespaces are quiet", || async {
        let since = backstop::clock::now() - QUIET;
        let busy = |event: &Event| event.at > since && benches.iter().any(|bench| bench.ns == event.namespace);
        Ok(benches[0].suite.audit.events(busy)?.is_empty().then_some(()))
    })
    .await
}

/// When the alert, its incident and the plan were stored, and when the investigator first asked for the target.
fn way(events: &[Event], sent: Timestamp, alert: &str, incident: &str, target: String) -> Option<Way> {
    let write = |resource: &str, name: &str, wanted: &dyn Fn(&Event) -> bool| {
        let found = |event: &&Event| {
            event.resource == resource && event.name == name && event.is_accepted_write() && wanted(event)
        };
        events.iter().find(found).map(|event| (event.asked, event.at))
    };
    let created = |event: &Event| event.verb == "create";
    let has_plan = |event: &Event| {
        event.subresource == "status" && event.response.pointer("/status/plan").is_some_and(|plan| !plan.is_null())
    };
    let source = events.iter().find(|event| {
        event.user.ends_with(":backstop-investigator") && event.resource == "apps/deployments" && event.name == target
    })?;
    Some(Way {
        sent,
        alert: write("backstop.dev/alerts", alert, &created)?,
        incident: write("backstop.dev/incidents", incident, &created)?,
        plan: write("backstop.dev/incidents", incident, &has_plan)?,
        source: source.asked,
        target,
    })
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}
