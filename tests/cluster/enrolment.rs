//! Enrolment by a label of the namespace: what it allows, what it keeps out, and what many enrolled namespaces cost the
//! API server while nothing happens. `make measure-enrolment` counts the latter.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Namespace, Pod},
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::support::{
    Place, Suite,
    bench::{Bench, Release, deployment},
    thief::{APPS, Answer, Thief},
    until,
};

/// The label that enrols in these tests.
const LABEL: &str = "suite.backstop.dev/enrol";
/// What the README promises: requests a second of all accounts together.
const TARGET: f64 = 5.0;
/// Namespaces that are made or removed at a time.
const AT_ONCE: usize = 8;

/// Values that enrol by [`LABEL`].
fn by_label() -> Value {
    json!({"executor": {"namespaces": [], "enrolBySelector": {LABEL: "true"}}})
}

fn namespaces(suite: &Suite) -> Api<Namespace> {
    Api::all(suite.client.clone())
}

async fn create(suite: &Suite, name: &str, labels: Value) -> Result<()> {
    let namespace = json!({"metadata": {"name": name, "labels": labels}});
    let created = namespaces(suite).create(&Default::default(), &serde_json::from_value(namespace)?).await;
    created.map(drop).with_context(|| format!("cannot create namespace {name}"))
}

async fn label(suite: &Suite, name: &str, value: Option<&str>) -> Result<()> {
    let patch = json!({"metadata": {"labels": {LABEL: value}}});
    namespaces(suite).patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    Ok(())
}

/// The static policy refused it, and said where the executor may write.
fn not_enrolled(what: &str, answer: Answer) -> Result<()> {
    match answer {
        Ok(_) => bail!("the API server took it: {what}"),
        Err(kube::Error::Api(status))
            if status.message.contains("'backstop-static'") && status.message.contains("in an enrolled namespace") =>
        {
            Ok(())
        }
        Err(error) => Err(error).with_context(|| format!("{what} ended in another way than by the static policy")),
    }
}

/// With the executor's token every write that a Grant could allow elsewhere is refused: RBAC reaches the whole cluster here,
/// and the label is the wall.
async fn everything_is_refused(bench: &Bench) -> Result<()> {
    let thief = Thief::of(bench, "executor").await?;
    let pod = bench.api::<Pod>().list(&ListParams::default()).await?.items.into_iter().next().context("no pod")?;
    let template = bench.template("api").await?;
    let armed = json!([
        {"op": "add", "path": "/metadata/labels/backstop.dev~1armed", "value": "rollout-undo"},
        {"op": "add", "path": "/metadata/annotations/backstop.dev~1action", "value": "a".repeat(32)},
    ]);
    let fire = json!([{"op": "replace", "path": "/spec/template", "value": template},
        {"op": "add", "path": "/metadata/annotations/backstop.dev~1last-action", "value": "a".repeat(32)}]);
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {
            "name": pod.name_any(), "namespace": bench.ns, "labels": {"backstop.dev/armed": "rollout-undo"},
            "annotations": {"backstop.dev/action": "a".repeat(32)},
        },
        "deleteOptions": {"preconditions": {"uid": pod.uid()}},
    });
    not_enrolled("arm", thief.patch(APPS, "deployments", "api", armed).await)?;
    not_enrolled("write a template", thief.patch(APPS, "deployments", "api", fire).await)?;
    let evict = format!("pods/{}/eviction", pod.name_any());
    not_enrolled("evict a pod", thief.create("api/v1", &evict, &eviction).await)
}

/// A label on a namespace is all that it takes; without it nothing is written there, not even with the executor's token; and
/// with the label taken off it is over.
pub async fn a_namespace_is_enrolled_by_its_label_and_nothing_is_written_without_it(bench: Bench) -> Result<()> {
    let suite = &bench.suite;
    let plain = Bench { suite: suite.clone(), ns: format!("t-without-the-label-{}", suite.run) };
    suite.operator.reconfigure(by_label()).await?;
    create(suite, &plain.ns, json!({"backstop.dev/mode": "auto"})).await?;
    let outcome = enrolled_by_label(&bench, &plain).await;
    let removed = namespaces(suite).delete(&plain.ns, &DeleteParams::background()).await;
    // As it was found.
    suite.operator.reconfigure(json!({})).await?;
    removed?;
    outcome
}

async fn enrolled_by_label(bench: &Bench, plain: &Bench) -> Result<()> {
    label(&bench.suite, &bench.ns, Some("true")).await?;
    bench.healthy("api").await?;
    bench.broken("api", Release::CrashLoop).await?;
    bench.alert("api").await?;
    bench.recovered().await?;
    bench.fired_once_to_first_revision("api").await?;

    plain.create::<Deployment>(deployment("api", 1)).await?;
    plain.rolled_out("api").await?;
    plain.broken("api", Release::CrashLoop).await?;
    plain.alert("api").await?;
    plain.escalated("NotEnrolled").await?;
    everything_is_refused(plain).await?;
    plain.nothing_written().await?;

    label(&bench.suite, &bench.ns, None).await?;
    // The API server's own cache of namespaces may be a moment behind.
    until("the namespace without its label is closed", || async {
        Ok(everything_is_refused(bench).await.is_ok().then_some(()))
    })
    .await
}

/// How much is counted.
#[derive(Clone, Debug, clap::Args)]
pub struct Crowd {
    /// Enrolled namespaces.
    #[arg(long, default_value_t = 500)]
    enrolled: usize,
    /// Seconds for which requests are counted.
    #[arg(long, default_value_t = 300)]
    counted: u64,
    /// Enrol them by name, and not by a label.
    #[arg(long)]
    by_name: bool,
}

/// Counts and prints. It fails if many idle namespaces cost more than the README says, or if a repair in one of them does
/// not work.
pub async fn run(place: &Place, crowd: &Crowd) -> Result<bool> {
    let start = Instant::now();
    let run = format!("{:04x}", rand::random::<u16>());
    let first = format!("m-enrolled-{run}");
    // The witness keeps what happens in namespaces that end with the run's name: these do not.
    let many: Vec<String> = (1..crowd.enrolled).map(|number| format!("m-enrolled-{run}-{number}")).collect();
    let all: Vec<&String> = many.iter().chain([&first]).collect();
    let values = if crowd.by_name { json!({"executor": {"namespaces": all}}) } else { by_label() };
    let client = crate::support::connect().await?;
    // Names that are enrolled before they exist would get their Roles by a second upgrade only.
    make(&client, &many).await?;
    let suite = Suite::start(place, std::slice::from_ref(&first), &run, with_quiet_logs(values)).await;
    let outcome = match &suite {
        Ok(suite) => counted(suite, &first, crowd).await,
        Err(_) => Ok(0.0),
    };
    let removed = remove(&client, &many).await;
    let suite = suite?;
    suite.clean(&[first]).await?;
    removed?;
    let rate = outcome?;
    let met = rate < TARGET;
    println!("\ntook {:.0} s", start.elapsed().as_secs_f64());
    println!("measure-enrolment: 2 checked, {} failed", usize::from(!met));
    Ok(met)
}

fn with_quiet_logs(mut values: Value) -> Value {
    values["logLevel"] = json!("info");
    values
}

async fn make(client: &kube::Client, names: &[String]) -> Result<()> {
    let api: Api<Namespace> = Api::all(client.clone());
    let api = &api;
    stream::iter(names)
        .map(|name| async move {
            let labels = json!({"backstop.dev/mode": "auto", LABEL: "true"});
            let namespace = serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}}))?;
            api.create(&Default::default(), &namespace).await.with_context(|| format!("cannot create {name}"))?;
            anyhow::Ok(())
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

async fn remove(client: &kube::Client, names: &[String]) -> Result<()> {
    let api: Api<Namespace> = Api::all(client.clone());
    let api = &api;
    stream::iter(names)
        .map(|name| async move { api.delete(name, &DeleteParams::background()).await.map(drop) })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await
        .context("cannot delete the namespaces")
}

/// Requests a second of all accounts while nothing happens, and then one repair.
async fn counted(suite: &Arc<Suite>, first: &str, crowd: &Crowd) -> Result<f64> {
    let bench = Bench { suite: suite.clone(), ns: first.to_owned() };
    if !crowd.by_name {
        label(suite, first, Some("true")).await?;
    }
    // Ready means that the policies were tried in each of them once.
    for role in crate::support::operator::ROLES {
        suite.operator.ready(role).await?;
    }
    until("the executor has tried every namespace", || async {
        let page = suite.operator.page("executor", "/readyz").await?;
        Ok((!page.contains("has not run yet")).then_some(()))
    })
    .await?;
    // What follows a start is no idleness: caches are filled, and closed Grants are made one after the other.
    quiet(suite, first).await?;

    let began = backstop::clock::now();
    tokio::time::sleep(Duration::from_secs(crowd.counted)).await;
    let ended = backstop::clock::now();
    let events = suite.events_of_operator(first).await?;
    let mut asked: BTreeMap<(String, String), usize> = BTreeMap::new();
    for event in events.iter().filter(|event| event.at >= began && event.at < ended) {
        let role = event.user.rsplit("backstop-").next().unwrap_or_default().to_owned();
        *asked.entry((role, format!("{} {}", event.verb, event.resource))).or_default() += 1;
    }
    let seconds = ended.duration_since(began).as_secs_f64();
    let total: usize = asked.values().sum();
    let rate = total as f64 / seconds;
    ensure!(total > 0, "the audit log shows no read of the operator's accounts: it cannot count them");
    println!("\n{} enrolled namespaces, idle for {seconds:.0} s, by the API server's audit log", crowd.enrolled);
    println!("{:<14} {:<44} {:>8} {:>10}", "account", "request", "count", "a second");
    for ((role, what), count) in &asked {
        println!("{role:<14} {what:<44} {count:>8} {:>10.2}", *count as f64 / seconds);
    }
    let verdict = if rate < TARGET { "met" } else { "missed" };
    println!("{:<14} {:<44} {total:>8} {rate:>10.2}  < {TARGET}: {verdict}", "all", "");

    bench.healthy("api").await?;
    bench.broken("api", Release::CrashLoop).await?;
    bench.alert("api").await?;
    bench.recovered().await?;
    bench.fired_once_to_first_revision("api").await?;
    println!("a bad release in one of them was rolled back");
    Ok(rate)
}

/// Waits until no account has written anything but its Lease for half a minute.
async fn quiet(suite: &Arc<Suite>, marked: &str) -> Result<()> {
    const REST: jiff::SignedDuration = jiff::SignedDuration::from_secs(30);
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_secs(10)).await;
        let now = backstop::clock::now();
        let events = suite.events_of_operator(marked).await?;
        let wrote = |event: &&crate::support::audit::Event| {
            event.is_accepted_write()
                && event.resource != "coordination.k8s.io/leases"
                && now.duration_since(event.at) < REST
        };
        if !events.iter().any(|event| wrote(&event)) {
            return Ok(());
        }
    }
    bail!("the operator's accounts write on and on although nothing happens")
}
