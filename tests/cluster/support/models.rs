//! The scripted model server (demo/models) in the cluster: it lies as it is told, or stands in front of a model on this
//! machine; and the chain that has the investigator ask it.

use anyhow::{Context as _, Result};
use backstop::api::v1alpha1::ModelChain;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Namespace, Pod, Secret, Service},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{SYSTEM, operator::Operator, until};

/// Name of the only rung, its upstream and its model.
pub const RUNG: &str = "wrong";
/// Secret with the key, which the server takes whatever it is.
const SECRET: &str = "wrong-model";
/// Name of Deployment and Service.
const SERVER: &str = "models";

/// The server.
pub struct Models {
    client: Client,
    namespace: String,
}

impl Models {
    /// Starts it in a namespace of its own, which is made.
    pub async fn start(client: Client, namespace: &str) -> Result<Models> {
        let namespaces: Api<Namespace> = Api::all(client.clone());
        namespaces
            .create(&Default::default(), &serde_json::from_value(json!({"metadata": {"name": namespace}}))?)
            .await
            .with_context(|| format!("cannot create namespace {namespace}"))?;
        let models = Models { client, namespace: namespace.to_owned() };
        let service = json!({
            "metadata": {"name": SERVER},
            "spec": {"selector": {"app.kubernetes.io/name": SERVER}, "ports": [{"port": 8080, "targetPort": "http"}]},
        });
        models.api::<Service>().create(&Default::default(), &serde_json::from_value(service)?).await?;
        let deployment = json!({
            "metadata": {"name": SERVER},
            "spec": {
                "replicas": 1, "strategy": {"type": "Recreate"},
                "selector": {"matchLabels": {"app.kubernetes.io/name": SERVER}},
                "template": {
                    "metadata": {"labels": {"app.kubernetes.io/name": SERVER}},
                    "spec": {
                        "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 1,
                        "containers": [{
                            "name": SERVER, "image": "backstop.local/models:dev", "imagePullPolicy": "IfNotPresent",
                            "args": ["--listen=:8080"],
                            "ports": [{"name": "http", "containerPort": 8080}],
                            "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 1},
                        }],
                    },
                },
            },
        });
        models.api::<Deployment>().create(&Default::default(), &serde_json::from_value(deployment)?).await?;
        models.rolled_out().await?;
        Ok(models)
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn rolled_out(&self) -> Result<()> {
        until("the model server runs", || async {
            let Deployment { metadata, spec, status } = self.api::<Deployment>().get(SERVER).await?;
            let (wanted, status) = (spec.and_then(|spec| spec.replicas).unwrap_or(1), status.unwrap_or_default());
            let counts = [status.replicas, status.updated_replicas, status.available_replicas];
            let done = status.observed_generation == metadata.generation
                && counts.iter().all(|count| count.unwrap_or(0) == wanted)
                && self.pods().await?.len() == 1;
            Ok(done.then_some(()))
        })
        .await
    }

    async fn pods(&self) -> Result<Vec<Pod>> {
        Ok(self.api::<Pod>().list(&ListParams::default()).await?.items)
    }

    /// Starts it again with these arguments besides the address that it listens on.
    pub async fn restart(&self, args: &[String]) -> Result<()> {
        let args: Vec<&str> = ["--listen=:8080"].into_iter().chain(args.iter().map(String::as_str)).collect();
        let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": SERVER, "args": args}]}}}});
        let api: Api<Deployment> = self.api();
        api.patch(SERVER, &PatchParams::default(), &Patch::Strategic(&patch)).await?;
        self.rolled_out().await
    }

    /// Sets its script, which empties its journal.
    pub async fn script(&self, script: &Value) -> Result<()> {
        until("the model server has its script", || async {
            let path = self.path("/control").await?;
            let post = http::Request::post(path).header("content-type", "application/json");
            self.client.request_text(post.body(serde_json::to_vec(script)?)?).await?;
            Ok(Some(()))
        })
        .await
    }

    /// The requests that it got since its script was set.
    pub async fn journal(&self) -> Result<Vec<Value>> {
        let request = http::Request::get(self.path("/journal").await?).body(vec![])?;
        Ok(serde_json::from_str(&self.client.request_text(request).await.context("the journal of the models")?)?)
    }

    /// A path of its, by way of the API server.
    async fn path(&self, path: &str) -> Result<String> {
        let pod = self.pods().await?.first().map(|pod| pod.name_any()).context("the model server has no pod")?;
        Ok(format!("/api/v1/namespaces/{}/pods/{pod}:8080/proxy{path}", self.namespace))
    }

    /// Values of the chart that make it the only model of the chain `default`.
    pub fn values(&self) -> Value {
        // A model on a processor takes its time.
        let timers = json!({"responseHead": 190_000, "firstEvent": 190_000, "firstContent": 190_000, "idle": 60_000});
        json!({"models": {"chain": {
            "deadlineSeconds": 200, "probe": {"intervalSeconds": 0}, "budgets": {"requestsPerMinute": 1000},
            "rungs": [{
                "name": RUNG, "model": RUNG, "ceiling": "approve", "maxOutputTokens": 1024,
                "upstreams": [{
                    "name": RUNG, "url": format!("http://{SERVER}.{}.svc:8080/v1", self.namespace), "api": "OpenAiChat",
                    "credentials": {"secret": SECRET}, "stream": false, "timers": timers,
                    "prices": {"input": "0", "output": "0"},
                }],
            }],
        }}})
    }

    /// Gives the operator the chain, with these values besides, and waits until it is ready.
    pub async fn install(&self, operator: &Operator, mut more: Value) -> Result<()> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), SYSTEM);
        if secrets.get_opt(SECRET).await?.is_none() {
            let secret = json!({"metadata": {"name": SECRET}, "stringData": {"token": "any"}});
            secrets.create(&Default::default(), &serde_json::from_value(secret)?).await?;
        }
        super::operator::merge(&mut more, self.values());
        operator.reconfigure(more).await?;
        let chains: Api<ModelChain> = Api::namespaced(self.client.clone(), SYSTEM);
        until("the chain is ready", || async {
            let status = chains.get("default").await?.status.unwrap_or_default();
            let ready = status.conditions.iter().any(|one| one.type_ == "Ready" && one.status == "True");
            Ok(ready.then_some(()))
        })
        .await
    }

    /// Removes the server and its namespace.
    pub async fn remove(&self) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces.delete(&self.namespace, &DeleteParams::background()).await?;
        until(&format!("namespace {} is gone", self.namespace), || async {
            Ok(namespaces.get_opt(&self.namespace).await?.is_none().then_some(()))
        })
        .await
    }
}
