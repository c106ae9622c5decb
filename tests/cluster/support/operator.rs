//! The operator under test: installed once with Helm, reached as its users reach it.

use std::{
    net::{SocketAddr, UdpSocket},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use futures::future::BoxFuture;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Event, Namespace, Node, Pod, Secret, Service},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, LogParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{
    PATIENCE, Place, SYSTEM,
    nodes::{Container, Nodes, run},
    until,
};

const RELEASE: &str = "backstop";
/// Longest time for one command of Helm.
const HELM_TIMEOUT: &str = "600s";
/// Events that are shown when the chart cannot be installed.
const NEWEST: usize = 30;

/// The roles.
pub const ROLES: [&str; 3] = ["controller", "investigator", "executor"];

/// The installed operator.
pub struct Operator {
    client: Client,
    helm: Vec<String>,
    values: PathBuf,
    /// Address of a node, where the intake's port is open.
    node: String,
    http: reqwest::Client,
}

/// How the intake answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub code: u16,
    /// Body, as JSON where it is.
    pub body: Value,
}

impl Operator {
    /// Writes the values; installs nothing yet.
    pub async fn prepare(
        client: Client,
        place: &Place,
        pages: SocketAddr,
        namespaces: &[String],
        more: Value,
    ) -> Result<Operator> {
        let node = node_address(&client).await?;
        let mut values = json!({
            "image": {"repository": "backstop.local/backstop", "tag": "dev", "pullPolicy": "IfNotPresent"},
            "clusterName": "suite",
            "logLevel": "info,backstop=debug",
            "executor": {"namespaces": namespaces},
            "audit": {"ephemeral": true},
            "escalationWebhook": {"url": format!("http://{}:{}/page", address_towards(&node)?, pages.port())},
            // Reached from outside of the cluster, and still there after the pod was killed.
            "controller": {"service": {"type": "NodePort"}},
            "budgets": {
                "actionsPerHour": 1000, "actionsPerNamespacePerHour": 1000,
                "actionsPerKindPerHour": 1000, "actionsPerNodePerHour": 1000, "actionsPerTargetPerDay": 1000, "cascadeAnomalies": 1000, "stormIncidents": 10000,
                "workloadsPercentPerNamespacePerHour": 100, "workloadsPercentPerHour": 100,
            },
            // A rollout on a slow machine is not to be taken for one that does not help.
            "timings": {
                "knownGoodSeconds": 3, "verifySettleSeconds": 2, "verifyTimeoutSeconds": 600, "evidenceWaitSeconds": 60,
            },
        });
        merge(&mut values, more);
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let path = folder.join(format!("values-{}.json", std::process::id()));
        std::fs::write(&path, serde_json::to_vec_pretty(&values)?).context("cannot write the chart's values")?;
        let helm = place.helm.split_whitespace().map(str::to_string).collect();
        // The server ends a connection that is silent for 30 seconds: a request that is sent just then is reset.
        let http = reqwest::Client::builder().pool_idle_timeout(Duration::from_secs(10)).build()?;
        Ok(Operator { client, helm, values: path, node, http })
    }

    fn helm(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.helm[0]);
        // Waiting, Helm lists the chart's objects namespace by namespace, at five requests a second unless told otherwise:
        // with a namespace for each test that is most of the time that a change of the settings takes.
        command.args(&self.helm[1..]).args(args).args(["--qps", "200", "--burst-limit", "1000"]);
        command
    }

    /// Installs the chart and waits until every role is ready. A release that an earlier run left is removed first.
    pub async fn install(&self) -> Result<()> {
        self.uninstall().await?;
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        until(&format!("namespace {SYSTEM} is not ending any more"), || async {
            let namespace = namespaces.get_opt(SYSTEM).await?;
            Ok(namespace.is_none_or(|namespace| namespace.metadata.deletion_timestamp.is_none()).then_some(()))
        })
        .await?;
        let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/helm/backstop");
        let values = self.values.to_string_lossy().into_owned();
        let install = [
            "install",
            RELEASE,
            chart,
            "-n",
            SYSTEM,
            "--create-namespace",
            "-f",
            &values,
            "--wait",
            "--timeout",
            HELM_TIMEOUT,
        ];
        if let Err(error) = run(&mut self.helm(&install)).await {
            let (state, logs) = (self.state().await, self.logs(40).await);
            return Err(error.context(format!("the chart was not installed\n{state}{logs}")));
        }
        for role in ROLES {
            self.ready(role).await?;
        }
        Ok(())
    }

    /// Gives the chart these values besides those of the suite, and waits until every role is ready again.
    pub async fn reconfigure(&self, more: Value) -> Result<()> {
        let path = self.values.with_extension("more.json");
        std::fs::write(&path, serde_json::to_vec_pretty(&more)?).context("cannot write the chart's values")?;
        let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/helm/backstop");
        let (values, more) = (self.values.to_string_lossy().into_owned(), path.to_string_lossy().into_owned());
        let upgrade =
            ["upgrade", RELEASE, chart, "-n", SYSTEM, "-f", &values, "-f", &more, "--wait", "--timeout", HELM_TIMEOUT];
        run(&mut self.helm(&upgrade)).await?;
        for role in ROLES {
            self.rolled_out(role).await?;
        }
        Ok(())
    }

    /// The address by which pods reach this machine.
    pub fn address_of_this_machine(&self) -> Result<String> {
        address_towards(&self.node)
    }

    /// Tells every role the address of the suite's taps. No value of the chart can do that, so the Deployments are
    /// changed as `kubectl set env` would; later upgrades leave it there.
    pub async fn tap(&self, port: u16) -> Result<()> {
        let address = format!("{}:{port}", address_towards(&self.node)?);
        for role in ROLES {
            let container = json!({"name": role, "env": [{"name": backstop::tap::TAPS, "value": address}]});
            self.patch(role, json!({"spec": {"template": {"spec": {"containers": [container]}}}})).await?;
        }
        for role in ROLES {
            self.rolled_out(role).await?;
        }
        Ok(())
    }

    /// Changes the Deployment of a role, as an administrator would.
    pub async fn patch(&self, role: &str, patch: Value) -> Result<()> {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), SYSTEM);
        let name = format!("backstop-{role}");
        api.patch(&name, &PatchParams::default(), &Patch::Strategic(&patch))
            .await
            .map(drop)
            .with_context(|| format!("cannot change Deployment {name}"))
    }

    /// Gives a role so many pods, and waits until it has them.
    pub async fn scale(&self, role: &str, replicas: i32) -> Result<()> {
        self.patch(role, json!({"spec": {"replicas": replicas}})).await?;
        self.rolled_out(role).await
    }

    /// Does `play` while these roles have no pod, and brings them back whatever came of it.
    pub async fn without(&self, roles: &[&'static str], play: BoxFuture<'_, Result<()>>) -> Result<()> {
        for role in roles {
            self.scale(role, 0).await?;
        }
        let outcome = play.await;
        for role in roles {
            self.scale(role, 1).await?;
        }
        outcome
    }

    /// Waits until the pods of a role are those of its newest template, and no other is left.
    pub async fn rolled_out(&self, role: &str) -> Result<()> {
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), SYSTEM);
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), SYSTEM);
        let params = ListParams::default().labels(&selector(role));
        until(&format!("the {role} is rolled out"), || async {
            let Deployment { metadata, spec, status } = deployments.get(&format!("backstop-{role}")).await?;
            let wanted = spec.and_then(|spec| spec.replicas).unwrap_or(1);
            let status = status.unwrap_or_default();
            let done = status.observed_generation == metadata.generation
                && [status.replicas, status.updated_replicas, status.available_replicas]
                    .iter()
                    .all(|count| count.unwrap_or(0) == wanted)
                && i32::try_from(pods.list(&params).await?.items.len()).is_ok_and(|count| count == wanted);
            Ok(done.then_some(()))
        })
        .await
    }

    /// How often the containers of a role's pods were started again.
    pub async fn restarts(&self, role: &str) -> Result<i32> {
        Ok(self.pods(role).await?.iter().map(restarts).sum())
    }

    /// Removes the release if there is one.
    pub async fn uninstall(&self) -> Result<()> {
        let uninstall = ["uninstall", RELEASE, "-n", SYSTEM, "--wait", "--ignore-not-found", "--timeout", HELM_TIMEOUT];
        run(&mut self.helm(&uninstall)).await.map(drop)
    }

    /// Posts `body` to the intake with `token`.
    pub async fn post(&self, token: Option<&str>, body: Vec<u8>) -> Result<Answer> {
        self.post_to(&self.intake().await?, token, body).await
    }

    /// Where the intake is reached now.
    pub async fn intake(&self) -> Result<String> {
        Ok(format!("http://{}:{}/v1/intake/alertmanager", self.node, self.port().await?))
    }

    /// Posts `body` to the intake at `url`, as [`Operator::intake`] told it, with `token`.
    pub async fn post_to(&self, url: &str, token: Option<&str>, body: Vec<u8>) -> Result<Answer> {
        let mut request = self.http.post(url).header("content-type", "application/json").body(body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let response = request.timeout(PATIENCE).send().await.context("the intake does not answer")?;
        let code = response.status().as_u16();
        let text = response.text().await.unwrap_or_default();
        Ok(Answer { code, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) })
    }

    async fn port(&self) -> Result<i32> {
        let services: Api<Service> = Api::namespaced(self.client.clone(), SYSTEM);
        let service = services.get("backstop-controller").await?;
        let ports = service.spec.and_then(|spec| spec.ports).unwrap_or_default();
        ports.iter().find_map(|port| port.node_port).context("the controller's Service has no node port")
    }

    /// The intake's token, as the chart made it.
    pub async fn token(&self) -> Result<String> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), SYSTEM);
        let secret = secrets.get("backstop-intake").await.context("the chart made no token")?;
        let token =
            secret.data.unwrap_or_default().remove("token").context("Secret backstop-intake has no key `token`")?;
        Ok(String::from_utf8(token.0)?)
    }

    /// The pods of a role that are not ending.
    pub async fn pods(&self, role: &str) -> Result<Vec<Pod>> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), SYSTEM);
        let list = pods.list(&ListParams::default().labels(&selector(role))).await?;
        Ok(list.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect())
    }

    /// Waits until the one pod of a role is ready, and returns it.
    pub async fn ready(&self, role: &str) -> Result<Pod> {
        until(&format!("the {role} is ready"), || async {
            let pods = self.pods(role).await?;
            Ok(pods.into_iter().find(is_ready))
        })
        .await
    }

    /// The process of a role.
    pub async fn container(&self, nodes: &Nodes, role: &str) -> Result<Container> {
        let pod = self.ready(role).await?;
        let status =
            pod.status.unwrap_or_default().container_statuses.unwrap_or_default().pop().context("no container")?;
        let node = pod.spec.and_then(|spec| spec.node_name).unwrap_or_default();
        nodes.find(&node, status.container_id.as_deref().unwrap_or_default())
    }

    /// Replaces the pod of a role by a new one, whose restarts the kubelet does not delay yet.
    pub async fn fresh(&self, role: &str) -> Result<()> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), SYSTEM);
        for pod in self.pods(role).await? {
            if restarts(&pod) > 0 {
                pods.delete(&pod.name_any(), &DeleteParams::default()).await?;
            }
        }
        self.rolled_out(role).await
    }

    /// A page of a role's HTTP server, through the API server.
    pub async fn page(&self, role: &str, path: &str) -> Result<String> {
        let pod = self.ready(role).await?.name_any();
        let request =
            http::Request::get(format!("/api/v1/namespaces/{SYSTEM}/pods/{pod}:8080/proxy{path}")).body(vec![])?;
        self.client.request_text(request).await.with_context(|| format!("{role} does not serve {path}"))
    }

    /// Why pods of ours may not run: the newest Events about them, their conditions, and those of the nodes.
    async fn state(&self) -> String {
        let events: Api<Event> = Api::namespaced(self.client.clone(), SYSTEM);
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), SYSTEM);
        let nodes: Api<Node> = Api::all(self.client.clone());
        let all = ListParams::default();
        let mut text = String::new();
        for node in nodes.list(&all).await.into_iter().flatten() {
            for condition in node.status.iter().flat_map(|status| status.conditions.iter().flatten()) {
                let (kind, status) = (&condition.type_, &condition.status);
                if (kind == "Ready") != (status == "True") {
                    let message = condition.message.as_deref().unwrap_or_default();
                    text += &format!("node {}: {kind} is {status}: {message}\n", node.name_any());
                }
            }
        }
        for pod in pods.list(&all).await.into_iter().flatten() {
            let status = pod.status.clone().unwrap_or_default();
            let [phase, reason, message] =
                [&status.phase, &status.reason, &status.message].map(|text| text.as_deref().unwrap_or_default());
            text += &format!("pod {}: {phase} {reason} {message}\n", pod.name_any());
        }
        let mut events = events.list(&all).await.map(|list| list.items).unwrap_or_default();
        events.sort_by(|a, b| a.last_timestamp.cmp(&b.last_timestamp));
        for event in events.iter().rev().take(NEWEST).rev() {
            let about = event.involved_object.name.as_deref().unwrap_or_default();
            let [reason, message] = [&event.reason, &event.message].map(|text| text.as_deref().unwrap_or_default());
            text += &format!("event about {about}: {reason}: {message}\n");
        }
        text
    }

    /// The last lines of every role.
    pub async fn logs(&self, lines: i64) -> String {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), SYSTEM);
        let mut text = String::new();
        for role in ROLES {
            for pod in self.pods(role).await.unwrap_or_default() {
                let name = pod.name_any();
                for previous in [true, false] {
                    let params = LogParams { tail_lines: Some(lines), previous, ..LogParams::default() };
                    if let Ok(log) = pods.logs(&name, &params).await {
                        text += &format!("--- {name}{}\n{log}", if previous { " (before its restart)" } else { "" });
                    }
                }
            }
        }
        text
    }
}

/// Selects the pods of a role.
fn selector(role: &str) -> String {
    format!("app.kubernetes.io/name=backstop,app.kubernetes.io/component={role}")
}

fn restarts(pod: &Pod) -> i32 {
    pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten()).map(|c| c.restart_count).sum()
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|list| list.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}

async fn node_address(client: &Client) -> Result<String> {
    let nodes: Api<Node> = Api::all(client.clone());
    let list = nodes.list(&ListParams::default()).await.context("cannot list nodes")?;
    let addresses = list.items.iter().filter_map(|node| node.status.as_ref()?.addresses.as_ref()).flatten();
    let mut internal = addresses.filter(|address| address.type_ == "InternalIP");
    internal.next().map(|address| address.address.clone()).context("no node has an address")
}

/// The address of this machine that a node, and so its pods, reaches it by.
fn address_towards(node: &str) -> Result<String> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // Connecting a datagram socket sends nothing: it only asks for the route.
    socket.connect((node, 9)).with_context(|| format!("no route to node {node}"))?;
    let address = socket.local_addr()?.ip().to_string();
    ensure!(address != "127.0.0.1", "node {node} is reached by loopback only: pods cannot call back");
    Ok(address)
}

/// Puts the fields of `from` over those of `into`.
pub fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}
