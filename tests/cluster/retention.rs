//! How much memory the controller holds when much is kept: `make measure-retention` stores ended Incidents and Alerts as
//! Backstop leaves them, starts the controller among them, and looks while it starts, while it removes what is beyond the
//! bound, and in between.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use backstop::{
    api::v1alpha1::{Alert, Incident},
    core::retention,
};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Resource, ResourceExt as _,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams},
    core::NamespaceResourceScope,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::support::bench::{Bench, Release, payload};
use crate::support::memory::Memory;
use crate::support::{Place, Suite, until};

/// Namespaces over which they are spread: none has more of a kind than the chart's bound keeps.
const SPREAD: usize = 20;
/// Requests at a time.
const WRITERS: usize = 16;
/// How long the controller is watched when it has nothing to do.
const REST: Duration = Duration::from_secs(30);
/// What the controller may hold, in MiB.
const TARGET: f64 = 128.0;

/// How much is kept.
#[derive(Clone, Debug, clap::Args)]
pub struct Kept {
    /// Measure with this many ended Incidents, and the Alerts of `--kept-alerts`.
    #[arg(long, default_value_t = 20_000)]
    kept_incidents: usize,
    /// Alerts, each of which belongs to one of the Incidents.
    #[arg(long, default_value_t = 50_000)]
    kept_alerts: usize,
}

/// Measures and prints.
pub async fn run(place: &Place, kept: &Kept) -> Result<bool> {
    let start = Instant::now();
    let run = format!("{:04x}", rand::random::<u16>());
    let first = format!("keep-{run}");
    // The suite's witness keeps what happens in namespaces that end with the run's name: these do not.
    let many: Vec<String> = (0..SPREAD).map(|number| format!("keep-{run}-{number}")).collect();
    let namespaces: Vec<String> = many.iter().chain([&first]).cloned().collect();
    let values = json!({
        "retention": {"perNamespace": kept.kept_alerts, "alertsPerNamespace": kept.kept_alerts},
        "timings": {"verifySettleSeconds": 0}, "logLevel": "info",
    });
    let suite = Suite::start(place, &namespaces, &run, values).await?;
    let measured = measured(&suite, first, &many, kept).await;
    if let Err(error) = &measured {
        println!("it could not be measured: {error:#}");
    }
    remove(&suite, &many).await?;
    suite.clean(&namespaces).await?;
    measured?;
    println!("\ntook {:.0} s; absolute sizes inform and fail nothing", start.elapsed().as_secs_f64());
    println!("measure-retention: {} checked, 0 failed", kept.kept_incidents + kept.kept_alerts);
    Ok(true)
}

/// Removes the namespaces with all that is in them, which takes longer than those of a test.
async fn remove(suite: &Suite, many: &[String]) -> Result<()> {
    let api: Api<Namespace> = Api::all(suite.client.clone());
    for namespace in many {
        api.delete(namespace, &DeleteParams::background()).await?;
    }
    until_long("the namespaces are gone", || async {
        let there = api.list_metadata(&ListParams::default()).await?.items;
        Ok((!there.iter().any(|namespace| many.contains(&namespace.name_any()))).then_some(()))
    })
    .await
}

async fn measured(suite: &Arc<Suite>, first: String, many: &[String], kept: &Kept) -> Result<()> {
    let (incident, alert) = real(&Bench { suite: suite.clone(), ns: first }).await?;
    let size = serde_json::to_vec(&incident)?.len();
    println!("an Incident of a rollback is {size} bytes of JSON, its Alert {}", serde_json::to_vec(&alert)?.len());
    let began = Instant::now();
    let stored = async {
        let one = Template { suite, many };
        one.store::<Incident>(&incident, kept.kept_incidents, |_, _| {}).await?;
        one.store::<Alert>(&alert, kept.kept_alerts, |number, status| {
            let of = number % kept.kept_incidents.max(1);
            status["incident"] = json!(name(of));
            status["incidentNamespace"] = json!(many[of % SPREAD]);
        })
        .await
    };
    suite.operator.without(&["controller"], stored.boxed()).await?;
    println!("{} objects stored in {:.0} s", kept.kept_incidents + kept.kept_alerts, began.elapsed().as_secs_f64());

    let memory = Memory::watch(suite).await?;
    tokio::time::sleep(REST).await;
    let started = memory.most("controller");
    // Another process, which also looks for what is beyond the bound.
    let memory = Memory::watch(suite).await?;
    let bound = kept.kept_alerts / SPREAD / 2;
    suite.operator.reconfigure(json!({"retention": {"perNamespace": bound}})).await?;
    until_long("what is beyond the bound is removed", || async {
        let alerts: Api<Alert> = Api::namespaced(suite.client.clone(), &many[0]);
        let found = alerts.list_metadata(&ListParams::default()).await?.items.len();
        Ok((found <= bound).then_some(()))
    })
    .await?;
    let removing = memory.most("controller");
    let memory = Memory::watch(suite).await?;
    tokio::time::sleep(REST).await;
    let resting = memory.most("controller");
    println!("\n{:<46} {:>8}  target", "controller, resident MiB", "most");
    for (when, most) in
        [("starting among them", started), ("removing half of the Alerts", removing), ("in between", resting)]
    {
        println!("{when:<46} {most:>8.1}  <= {TARGET}: {}", if most <= TARGET { "met" } else { "missed" });
    }
    Ok(())
}

/// An Incident with a rollback, and its Alert, as Backstop leaves them: over, told, and with nothing left to do.
async fn real(bench: &Bench) -> Result<(Value, Value)> {
    bench.healthy("api").await?;
    bench.broken("api", Release::ImagePull).await?;
    let labels = bench.labels(&[("deployment", "api")]);
    let firing = payload(&[labels]);
    bench.post(&firing).await?;
    bench.recovered().await?;
    bench.ship("api", Release::Good).await?;
    let mut resolved = firing;
    resolved["status"] = json!("resolved");
    resolved["alerts"][0]["status"] = json!("resolved");
    resolved["alerts"][0]["endsAt"] = json!(backstop::clock::now());
    bench.post(&resolved).await?;
    let alert = until("the end of the alert is noted", || async {
        let found = bench.api::<Alert>().list(&ListParams::default()).await?.items.into_iter().next();
        Ok(found.filter(retention::is_settled))
    })
    .await?;
    let incident = until("everybody is told", || async {
        let mut found = bench.incidents().await?.into_iter().next().context("no Incident")?;
        // The watch over the target would take a quarter of an hour.
        found.status.as_mut().context("no status")?.watch = None;
        Ok(retention::rests(&found).then_some(found))
    })
    .await?;
    Ok((serde_json::to_value(incident)?, serde_json::to_value(alert)?))
}

fn name(number: usize) -> String {
    format!("api-{number:010x}")
}

/// Writes copies of an object, spread over namespaces.
struct Template<'a> {
    suite: &'a Suite,
    many: &'a [String],
}

impl Template<'_> {
    async fn store<K>(&self, like: &Value, count: usize, change: impl Fn(usize, &mut Value)) -> Result<()>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        K: Clone + DeserializeOwned + Serialize + std::fmt::Debug,
    {
        let ours = PatchParams::default();
        stream::iter(0..count)
            .map(|number| {
                let mut copy = like.clone();
                let mut status = copy["status"].take();
                change(number, &mut status);
                let namespace = &self.many[number % SPREAD];
                // An Alert may name its own namespace only.
                if let Some(label) = copy.pointer_mut("/spec/labels/namespace") {
                    *label = json!(namespace);
                }
                let api: Api<K> = Api::namespaced(self.suite.client.clone(), namespace);
                let ours = &ours;
                async move {
                    let mut copy: K = serde_json::from_value(copy)?;
                    *copy.meta_mut() = ObjectMeta { name: Some(name(number)), ..ObjectMeta::default() };
                    let made = api.create(&Default::default(), &copy).await.context("cannot store a copy")?;
                    status["observedGeneration"] = json!(made.meta().generation);
                    let status = Patch::Merge(json!({ "status": status }));
                    api.patch_status(&made.name_any(), ours, &status).await.context("cannot store its status")?;
                    anyhow::Ok(())
                }
            })
            .buffer_unordered(WRITERS)
            .try_collect::<()>()
            .await
    }
}

/// [`until`], several times as patient: so many objects take minutes to remove.
async fn until_long<F>(what: &str, mut look: impl FnMut() -> F) -> Result<()>
where
    F: Future<Output = Result<Option<()>>>,
{
    for _ in 0..5 {
        if until(what, &mut look).await.is_ok() {
            return Ok(());
        }
    }
    ensure!(look().await?.is_some(), "not after a long time: {what}");
    Ok(())
}
