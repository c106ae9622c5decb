//! What the tests share: the cluster, the operator under test, the witness, and helpers that read as states.

pub mod audit;
pub mod bench;
pub mod memory;
pub mod models;
pub mod nodes;
pub mod operator;
pub mod pages;
pub mod record;
pub mod release;
pub mod taps;
pub mod thief;
pub mod witness;
pub mod workloads;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;

use audit::{Audit, Event};
use nodes::Nodes;
use operator::Operator;
use pages::Pages;
use taps::Taps;
use witness::Witness;

/// Namespace of the operator under test.
pub const SYSTEM: &str = "backstop-system";
/// Longest wait for any one condition. It only ends a run that hangs: no machine is so slow, and no test is about time.
pub const PATIENCE: Duration = Duration::from_secs(300);
/// Pause between two looks at a condition.
const LOOK: Duration = Duration::from_millis(100);

/// Where the cluster is and how it is worked with.
#[derive(Clone, Debug, clap::Args)]
pub struct Place {
    /// Kind of cluster: lab or kind.
    #[arg(long, env = "CLUSTER", default_value = "lab")]
    pub cluster: String,
    /// The API server's audit log.
    #[arg(long, env = "CLUSTER_AUDIT_LOG", default_value = ".lab/audit/audit.log")]
    pub audit_log: PathBuf,
    /// Command that runs Helm against the cluster.
    #[arg(long, env = "HELM", default_value = ".build/lab helm")]
    pub helm: String,
    /// Command line of the lab.
    #[arg(long, env = "LAB", default_value = ".build/lab")]
    pub lab: String,
    /// With kind: the program that its nodes are containers of.
    #[arg(long, env = "KIND_EXPERIMENTAL_PROVIDER", default_value = "docker")]
    pub kind_provider: String,
}

/// Everything that tests share.
pub struct Suite {
    /// Client of an administrator.
    pub client: Client,
    /// The witness' source.
    pub audit: Audit,
    /// Who judges.
    pub witness: Witness,
    /// The operator under test.
    pub operator: Operator,
    /// Receiver of escalations.
    pub pages: Pages,
    /// The machinery below.
    pub nodes: Nodes,
    /// Holds the roles where a test wants them.
    pub taps: Taps,
    /// Part of every namespace's name, so that two runs never meet.
    pub run: String,
    markers: AtomicU64,
}

impl Suite {
    /// Connects, makes the namespaces and installs the operator for them.
    pub async fn start(
        place: &Place,
        namespaces: &[String],
        run: &str,
        values: serde_json::Value,
    ) -> Result<Arc<Suite>> {
        let client = connect().await?;
        let witness = Witness { system: SYSTEM.into() };
        let caught = witness::try_planted(&witness)?;
        println!("witness: all {caught} planted defects found");
        let (suffix, accounts) = (format!("-{run}"), format!("system:serviceaccount:{SYSTEM}:backstop-"));
        let keep = move |event: &Event| event.namespace.ends_with(&suffix) || event.user.starts_with(&accounts);
        let audit = Audit::follow(&place.audit_log, keep)?;
        let (pages, address) = Pages::listen().await?;
        let nodes = Nodes::of(place)?;
        let operator = Operator::prepare(client.clone(), place, address, namespaces, values).await?;
        let taps = Taps::listen().await?;
        let markers = AtomicU64::new(0);
        let suite = Suite { client, audit, witness, operator, pages, nodes, taps, run: run.into(), markers };
        if let Err(error) = suite.set_up(namespaces).await {
            // What a failed start leaves behind would be in the way of the next one.
            if let Err(left) = suite.clean(namespaces).await {
                return Err(error.context(format!("and afterwards it was not removed: {left:#}")));
            }
            return Err(error);
        }
        Ok(Arc::new(suite))
    }

    async fn set_up(&self, namespaces: &[String]) -> Result<()> {
        for namespace in namespaces {
            create_namespace(&self.client, namespace).await?;
        }
        self.operator.install().await
    }

    /// Makes the roles listen to the holds of tests. Without it they pass every tap at once.
    pub async fn tap(&self) -> Result<()> {
        self.operator.tap(self.taps.port).await
    }

    /// Everything in the namespace until now, as the API server has it.
    pub async fn events(&self, namespace: &str) -> Result<Vec<Event>> {
        let marker = format!("{}", self.markers.fetch_add(1, Ordering::Relaxed));
        let patch = json!({"metadata": {"annotations": {"suite.backstop.dev/marker": marker}}});
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces
            .patch(namespace, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .context("cannot mark the audit log")?;
        let is_marker = |event: &Event| {
            event.resource == "namespaces"
                && event.name == namespace
                && event
                    .request
                    .pointer("/metadata/annotations/suite.backstop.dev~1marker")
                    .is_some_and(|m| *m == marker)
        };
        self.audit.reached(is_marker).await?;
        self.audit.events(|event| event.namespace == namespace)
    }

    /// Everything that an account of the operator asked for, anywhere.
    pub async fn events_of_operator(&self, marked: &str) -> Result<Vec<Event>> {
        self.events(marked).await?;
        self.audit.events(|event| self.witness.is_ours(event))
    }

    /// Removes the operator and the namespaces.
    pub async fn clean(&self, namespaces: &[String]) -> Result<()> {
        self.operator.uninstall().await?;
        let api: Api<Namespace> = Api::all(self.client.clone());
        for namespace in namespaces.iter().map(String::as_str).chain([SYSTEM]) {
            match api.delete(namespace, &DeleteParams::background()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error).with_context(|| format!("cannot delete namespace {namespace}")),
            }
        }
        for namespace in namespaces.iter().map(String::as_str).chain([SYSTEM]) {
            until(&format!("namespace {namespace} is gone"), || async {
                Ok(api.get_opt(namespace).await?.is_none().then_some(()))
            })
            .await?;
        }
        Ok(())
    }
}

/// A client of the administrator that KUBECONFIG names. The suite's own reads may be tried again.
pub async fn connect() -> Result<Client> {
    let config =
        kube::Config::infer().await.context("no cluster: set KUBECONFIG, or start one with `make cluster-up`")?;
    Client::try_from(config).context("cannot build a Kubernetes client")
}

/// A client of the same administrator who asks in the name of `user`.
pub async fn connect_as(user: &str) -> Result<Client> {
    let mut config = kube::Config::infer().await.context("no cluster")?;
    config.auth_info.impersonate = Some(user.into());
    Client::try_from(config).context("cannot build a Kubernetes client")
}

/// A client that acts as one of a group.
pub async fn connect_as_one_of(user: &str, group: &str) -> Result<Client> {
    let mut config = kube::Config::infer().await.context("no cluster")?;
    config.auth_info.impersonate = Some(user.into());
    config.auth_info.impersonate_groups = Some(vec![group.into()]);
    Client::try_from(config).context("cannot build a Kubernetes client")
}

/// A client with nothing but this bearer token.
pub async fn connect_with(token: &str) -> Result<Client> {
    let mut config = kube::Config::infer().await.context("no cluster")?;
    config.auth_info = kube::config::AuthInfo { token: Some(token.to_string().into()), ..Default::default() };
    Client::try_from(config).context("cannot build a Kubernetes client")
}

async fn create_namespace(client: &Client, name: &str) -> Result<()> {
    let api: Api<Namespace> = Api::all(client.clone());
    let namespace =
        serde_json::from_value(json!({"metadata": {"name": name, "labels": {"backstop.dev/mode": "auto"}}}))?;
    api.create(&Default::default(), &namespace).await.with_context(|| format!("cannot create namespace {name}"))?;
    Ok(())
}

/// Looks until `look` finds something. An error of `look` is passed on only when the patience is over: the API server may
/// be away for a moment.
pub async fn until<T, F>(what: &str, mut look: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<Option<T>>>,
{
    let start = Instant::now();
    loop {
        let seen = look().await;
        if let Ok(Some(found)) = seen {
            return Ok(found);
        }
        if start.elapsed() >= PATIENCE {
            match seen {
                Err(error) => return Err(error.context(format!("not within {} s: {what}", PATIENCE.as_secs()))),
                Ok(_) => bail!("not within {} s: {what}", PATIENCE.as_secs()),
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}
