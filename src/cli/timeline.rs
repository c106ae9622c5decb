//! `backstop timeline [INCIDENT]`: shows what happened in an incident, and with `--follow` what happens.
//!
//! It needs only the right to read Backstop's kinds, which the ClusterRole `view` has; with the right to read the
//! target it also shows the rollout.

mod belief;
mod story;
#[cfg(test)]
mod tests;
mod text;

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::ValueEnum;
use futures::{StreamExt as _, stream::BoxStream};
use k8s_openapi::{NamespaceResourceScope, api::apps::v1 as apps};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::ListParams,
    runtime::watcher::{self, Event},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::api::v1alpha1::{Incident, Investigation, ObjectRef, Remediation, Time};
use crate::core::workload::{self, Kind};
use crate::{clock, cluster};

use story::{Rollout, Story, View};
use text::Style;

/// Changes that arrive this close together are printed together, in the order in which they happened.
const TOGETHER: Duration = Duration::from_millis(120);
/// How long to wait for deliveries, which are stored a moment after the incident has ended.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Arguments of `backstop timeline`.
#[derive(clap::Args)]
pub struct Args {
    /// Name of the Incident, or the beginning of it. Without: the newest one that is open, else the newest.
    incident: Option<String>,
    /// Namespace of the Incident. Without: that of the kubeconfig context.
    #[arg(short, long)]
    namespace: Option<String>,
    /// Follow until the incident ends. Waits for an incident if there is none.
    #[arg(short, long)]
    follow: bool,
    /// With --follow: fail if the incident has not ended within this many seconds.
    #[arg(long, requires = "follow")]
    timeout: Option<u64>,
    /// Show everything: facts that the diagnosis does not cite, long facts such as logs, each verdict, the plan's steps.
    #[arg(long)]
    full: bool,
    /// Colours: auto is on a terminal only.
    #[arg(long, value_enum, default_value_t = Colour::Auto)]
    color: Colour,
    /// Any value but an empty one turns colours off: https://no-color.org
    #[arg(long, env = "NO_COLOR", hide = true, default_value = "")]
    no_color: String,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Colour {
    Auto,
    Always,
    Never,
}

/// Prints the timeline.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let client = cluster::connect().await?;
    let namespace = args.namespace.clone().unwrap_or_else(|| client.default_namespace().to_string());
    let colours = match args.color {
        Colour::Always => true,
        Colour::Never => false,
        Colour::Auto => args.no_color.is_empty() && std::io::stdout().is_terminal(),
    };
    let mut teller = Teller { story: Story::new(args.full), style: Style { colours } };
    let deadline = args.timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let telling = async {
        let incident = find(&client, &namespace, args.incident.as_deref(), args.follow).await?;
        match args.follow {
            true => teller.follow(&client, incident).await,
            false => teller.tell_once(&client, incident).await,
        }
    };
    match deadline {
        Some(deadline) => timeout_at(deadline, telling).await.unwrap_or_else(|_| {
            Err(anyhow!("the incident has not ended within {} s", args.timeout.unwrap_or_default()))
        }),
        None => telling.await,
    }
}

/// The Incident that `name` means.
async fn find(client: &Client, namespace: &str, name: Option<&str>, wait: bool) -> anyhow::Result<Incident> {
    let api: Api<Incident> = Api::namespaced(client.clone(), namespace);
    let list = api
        .list(&ListParams::default())
        .await
        .with_context(|| format!("cannot list incidents.backstop.dev in namespace {namespace}; is Backstop installed here, and may you read it?"))?;
    if let Some(incident) = choose(list.items, name)? {
        return Ok(incident);
    }
    match (name, wait) {
        (Some(name), _) => {
            bail!("no Incident {name} in namespace {namespace}; `kubectl get incidents.backstop.dev -A` lists all")
        }
        (None, false) => {
            bail!("no Incident in namespace {namespace}; `kubectl get incidents.backstop.dev -A` lists all")
        }
        (None, true) => {}
    }
    println!("No incident in namespace {namespace} yet; waiting for one.");
    let guarded: Api<cluster::Lean<Incident>> = Api::namespaced(client.clone(), namespace);
    let mut changes = cluster::watch(guarded, watcher::Config::default()).boxed();
    while let Some(change) = changes.next().await {
        if let Event::Apply(incident) | Event::InitApply(incident) = change {
            return Ok(incident);
        }
    }
    bail!("the watch on Incidents ended")
}

/// By name, by the beginning of a name, or the newest: open ones first.
fn choose(mut incidents: Vec<Incident>, name: Option<&str>) -> anyhow::Result<Option<Incident>> {
    if let Some(name) = name {
        incidents.retain(|incident| incident.name_any().starts_with(name));
        if incidents.len() > 1 && !incidents.iter().any(|incident| incident.name_any() == name) {
            bail!("{} Incidents begin with {name}; give more of the name", incidents.len());
        }
        incidents.sort_by_key(|incident| incident.name_any().len());
        return Ok(incidents.into_iter().next());
    }
    let is_open = |incident: &Incident| !incident.status.as_ref().is_some_and(|status| status.phase.is_final());
    Ok(incidents.into_iter().max_by_key(|incident| (is_open(incident), incident.spec.opened_at)))
}

/// Something that changed.
enum Change {
    Incident(Box<Incident>),
    IncidentGone,
    Investigation(Box<Investigation>),
    Remediation(Box<Remediation>),
    Rollout(Rollout),
}

struct Teller {
    story: Story,
    style: Style,
}

impl Teller {
    fn say(&mut self, view: &View) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        for line in self.story.tell(view) {
            writeln!(out, "{}", self.style.render(&line))?;
        }
        out.flush().context("cannot write to standard output")
    }

    async fn tell_once(&mut self, client: &Client, incident: Incident) -> anyhow::Result<()> {
        let namespace = incident.namespace().unwrap_or_default();
        let of_incident = ListParams::default().fields(&format!("spec.incident={}", incident.name_any()));
        let investigations: Api<Investigation> = Api::namespaced(client.clone(), &namespace);
        let remediations: Api<Remediation> = Api::namespaced(client.clone(), &namespace);
        let (investigations, remediations) =
            tokio::try_join!(investigations.list(&of_incident), remediations.list(&of_incident))
                .context("cannot list investigations and remediations of the incident")?;
        let mut view = View::new(incident);
        investigations.items.into_iter().for_each(|investigation| view.investigation(investigation));
        remediations.items.into_iter().for_each(|remediation| view.remediation(remediation));
        view.complete = true;
        self.say(&view)
    }

    async fn follow(&mut self, client: &Client, incident: Incident) -> anyhow::Result<()> {
        let mut changes = watches(client, &incident).await;
        let mut view = View::new(incident);
        let mut until: Option<Instant> = None;
        loop {
            view.complete = until.is_some_and(|until| Instant::now() >= until);
            self.say(&view)?;
            if view.complete || self.story.is_over(&view) {
                return Ok(());
            }
            if view.has_ended() && until.is_none() {
                until = Some(Instant::now() + LAST_WORDS);
            }
            let next = match until {
                Some(until) => timeout_at(until, changes.next()).await.ok(),
                None => Some(changes.next().await),
            };
            let Some(change) = next else { continue };
            take(&mut view, change.context("the watches ended")?)?;
            let together = Instant::now() + TOGETHER;
            while let Ok(Some(change)) = timeout_at(together, changes.next()).await {
                take(&mut view, change)?;
            }
        }
    }
}

fn take(view: &mut View, change: Change) -> anyhow::Result<()> {
    match change {
        Change::Incident(incident) => view.incident = *incident,
        Change::IncidentGone => bail!("the Incident was deleted"),
        Change::Investigation(investigation) => view.investigation(*investigation),
        Change::Remediation(remediation) => view.remediation(*remediation),
        Change::Rollout(rollout) => view.rollout = Some(rollout),
    }
    Ok(())
}

/// Every object that the timeline is made from, as one stream.
async fn watches(client: &Client, incident: &Incident) -> BoxStream<'static, Change> {
    let namespace = incident.namespace().unwrap_or_default();
    let name = incident.name_any();
    let named = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let of_incident = watcher::Config::default().fields(&format!("spec.incident={name}"));
    let incidents: Api<cluster::Lean<Incident>> = Api::namespaced(client.clone(), &namespace);
    let investigations: Api<cluster::Lean<Investigation>> = Api::namespaced(client.clone(), &namespace);
    let remediations: Api<cluster::Lean<Remediation>> = Api::namespaced(client.clone(), &namespace);
    let mut streams = vec![
        cluster::watch(incidents, named)
            .filter_map(|event| async {
                match event {
                    Event::Apply(object) | Event::InitApply(object) => Some(Change::Incident(Box::new(object))),
                    Event::Delete(_) => Some(Change::IncidentGone),
                    Event::Init | Event::InitDone => None,
                }
            })
            .boxed(),
        cluster::watch(investigations, of_incident.clone())
            .filter_map(|event| async { applied(event).map(|object| Change::Investigation(Box::new(object))) })
            .boxed(),
        cluster::watch(remediations, of_incident)
            .filter_map(|event| async { applied(event).map(|object| Change::Remediation(Box::new(object))) })
            .boxed(),
    ];
    if let Some(rollout) = rollout(client, incident).await {
        streams.push(rollout);
    }
    futures::stream::select_all(streams).boxed()
}

/// The target's rollout, if it is of a kind that has one and may be read. The timeline is complete without it.
async fn rollout(client: &Client, incident: &Incident) -> Option<BoxStream<'static, Change>> {
    let target = incident.spec.target.as_ref()?;
    let kind = Kind::of(target)?;
    match kind {
        Kind::Deployment => rollout_of::<apps::Deployment>(client, kind, target).await,
        Kind::StatefulSet => rollout_of::<apps::StatefulSet>(client, kind, target).await,
        Kind::DaemonSet => rollout_of::<apps::DaemonSet>(client, kind, target).await,
    }
}

async fn rollout_of<K>(client: &Client, kind: Kind, target: &ObjectRef) -> Option<BoxStream<'static, Change>>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    K: Clone + std::fmt::Debug + Serialize + DeserializeOwned + Send + 'static,
{
    let api: Api<K> = Api::namespaced(client.clone(), &target.namespace);
    api.get(&target.name).await.ok()?;
    let guarded: Api<cluster::Lean<K>> = Api::namespaced(client.clone(), &target.namespace);
    let named = watcher::Config::default().fields(&format!("metadata.name={}", target.name));
    let changes = cluster::watch(guarded, named).filter_map(move |event| async move {
        let object = serde_json::to_value(applied(event)?).ok()?;
        Some(Change::Rollout(progress(kind, &object, clock::now())))
    });
    Some(changes.boxed())
}

fn applied<K>(event: Event<K>) -> Option<K> {
    match event {
        Event::Apply(object) | Event::InitApply(object) => Some(object),
        Event::Delete(_) | Event::Init | Event::InitDone => None,
    }
}

fn progress(kind: Kind, object: &Value, at: Time) -> Rollout {
    let state = workload::state(kind, object);
    Rollout {
        at,
        seen: state.observed_generation >= state.generation,
        desired: state.desired,
        total: workload::pod_count(kind, object),
        updated: state.updated,
        held_back: state.held_back,
        ready: state.ready,
    }
}
