//! One test's namespace, with what is deployed in it and what happened there.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context as _, Result, bail, ensure};
use backstop::{
    api::v1alpha1::{Alert, Grant, Incident, IncidentPhase, Ledger, Remediation},
    core::names,
};
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::{Namespace, Pod},
};
use kube::{
    Api, Resource, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
    core::NamespaceResourceScope,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub use super::release::Release;
use super::{
    SYSTEM, Suite,
    audit::Event,
    operator::Answer,
    taps::{Hold, Point},
    until,
    witness::Fire,
};

/// A service of the demo shop that depends on nothing.
pub fn deployment(name: &str, replicas: i32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/name": name}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app.kubernetes.io/name": name}},
            "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {"labels": {"app.kubernetes.io/name": name}},
                "spec": {
                    "automountServiceAccountToken": false,
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{
                        "name": name, "image": "backstop.local/shop:dev", "imagePullPolicy": "IfNotPresent",
                        "args": ["prices"],
                        "env": [{"name": "SHOP_VERSION", "value": "v1"}],
                        "ports": [{"name": "http", "containerPort": 8080}],
                        "readinessProbe": {
                            "httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 1, "failureThreshold": 2,
                        },
                        "resources": {"requests": {"cpu": "5m", "memory": "8Mi"}, "limits": {"memory": "64Mi"}},
                    }],
                },
            },
        },
    })
}

/// Namespaces of nobody, which are enrolled like those of the tests: for what needs several.
pub fn beside(run: &str) -> [String; 2] {
    ["a", "b"].map(|letter| format!("t-beside-{letter}-{run}"))
}

/// One test's part of the cluster.
#[derive(Clone)]
pub struct Bench {
    /// What all tests share.
    pub suite: Arc<Suite>,
    /// Namespace of this test.
    pub ns: String,
}

impl Bench {
    /// The namespaces of nobody. Tests that share the cluster with others leave them alone.
    pub fn beside(&self) -> [Bench; 2] {
        beside(&self.suite.run).map(|ns| Bench { suite: self.suite.clone(), ns })
    }

    /// Namespaced objects of one kind.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.suite.client.clone(), &self.ns)
    }

    async fn list<K>(&self) -> Result<Vec<K>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
    {
        Ok(self.api::<K>().list(&ListParams::default()).await?.items)
    }

    /// Creates any object of this namespace from its JSON.
    pub async fn create<K>(&self, object: Value) -> Result<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + serde::Serialize
            + std::fmt::Debug,
    {
        let object: K = serde_json::from_value(object).context("the test's object is not of its kind")?;
        Ok(self.api().create(&Default::default(), &object).await?)
    }

    /// Sets the namespace's mode label.
    pub async fn mode(&self, mode: &str) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.suite.client.clone());
        let patch = json!({"metadata": {"labels": {names::MODE: mode}}});
        namespaces.patch(&self.ns, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        Ok(())
    }

    /// A Deployment of one replica whose first revision is healthy and known to be good.
    pub async fn healthy(&self, name: &str) -> Result<()> {
        self.healthy_as(name, deployment(name, 1)).await
    }

    /// The same from a manifest.
    pub async fn healthy_as(&self, name: &str, manifest: Value) -> Result<()> {
        self.create::<Deployment>(manifest).await?;
        self.rolled_out(name).await?;
        self.known_good(name).await
    }

    /// Waits until the newest revision runs everywhere.
    pub async fn rolled_out(&self, name: &str) -> Result<()> {
        until(&format!("Deployment {name} is rolled out"), || async {
            let object = self.api::<Deployment>().get(name).await?;
            let (spec, status) = (object.spec.unwrap_or_default(), object.status.unwrap_or_default());
            let wanted = spec.replicas.unwrap_or(1);
            let done = status.observed_generation == object.metadata.generation
                && [status.replicas, status.updated_replicas, status.available_replicas]
                    .iter()
                    .all(|count| count.unwrap_or(0) == wanted);
            Ok(done.then_some(()))
        })
        .await
    }

    /// Waits until the operator has seen the first revision healthy for long enough.
    pub async fn known_good(&self, name: &str) -> Result<()> {
        self.known_good_of(name, 1).await
    }

    /// The same for so many revisions.
    pub async fn known_good_of(&self, name: &str, revisions: usize) -> Result<()> {
        let uid = self.api::<Deployment>().get(name).await?.uid().unwrap_or_default();
        let ledgers: Api<Ledger> = Api::namespaced(self.suite.client.clone(), SYSTEM);
        until(&format!("{revisions} revision(s) of {name} are marked as known good"), || async {
            let ledger = ledgers.get_opt(&format!("known-good.{}", self.ns)).await?;
            let marks = ledger.and_then(|ledger| ledger.status).map(|status| status.known_good).unwrap_or_default();
            Ok((marks.iter().filter(|mark| mark.workload_uid == uid).count() >= revisions).then_some(()))
        })
        .await
    }

    /// Ships a release as a person would.
    pub async fn ship(&self, name: &str, release: Release) -> Result<()> {
        self.patch(name, release.patch(name)).await
    }

    /// Ships a bad release and waits until one of its pods fails.
    pub async fn broken(&self, name: &str, release: Release) -> Result<()> {
        self.ship(name, release).await?;
        self.failing(name).await
    }

    /// Changes a Deployment as a person would.
    pub async fn patch(&self, name: &str, patch: Value) -> Result<()> {
        let params = PatchParams { field_manager: Some("kubectl".into()), ..PatchParams::default() };
        let api: Api<Deployment> = self.api();
        api.patch(name, &params, &Patch::Strategic(&patch))
            .await
            .map(drop)
            .with_context(|| format!("cannot change {name}"))
    }

    /// Waits until a pod of `name` shows that it fails: a container waits for a reason or restarted, or runs and is not
    /// ready.
    pub async fn failing(&self, name: &str) -> Result<()> {
        until(&format!("a pod of {name} fails"), || async {
            let list = ListParams::default().labels(&format!("app.kubernetes.io/name={name}"));
            let pods = self.api::<Pod>().list(&list).await?.items;
            let fails = pods
                .iter()
                .flat_map(|pod| pod.status.iter())
                .flat_map(|s| s.container_statuses.iter().flatten())
                .any(|c| {
                    let waiting =
                        c.state.as_ref().and_then(|state| state.waiting.as_ref()).and_then(|w| w.reason.as_deref());
                    let unready = c.state.as_ref().is_some_and(|state| state.running.is_some()) && !c.ready;
                    c.restart_count > 0
                        || unready
                        || waiting.is_some_and(|reason| reason != "ContainerCreating" && reason != "PodInitializing")
                });
            Ok(fails.then_some(()))
        })
        .await
    }

    /// Waits until a container of `name` runs again after it ended.
    pub async fn restarted(&self, name: &str) -> Result<()> {
        until(&format!("a container of {name} runs again"), || async {
            let list = ListParams::default().labels(&format!("app.kubernetes.io/name={name}"));
            let pods = self.api::<Pod>().list(&list).await?.items;
            let statuses = pods.iter().flat_map(|pod| pod.status.iter());
            let mut containers = statuses.flat_map(|status| status.container_statuses.iter().flatten());
            Ok(containers.any(|container| container.restart_count > 0).then_some(()))
        })
        .await
    }

    /// Waits until a pod of `name` does not start although no container of it fails: no node takes it, its node cannot
    /// prepare it, an init container runs, or it is refused.
    pub async fn not_starting(&self, name: &str) -> Result<()> {
        until(&format!("a pod of {name} does not start"), || async {
            let list = ListParams::default().labels(&format!("app.kubernetes.io/name={name}"));
            let pods = self.api::<Pod>().list(&list).await?.items;
            let waits = pods.iter().flat_map(|pod| pod.status.iter()).any(|status| {
                let has = |kind: &str| {
                    let mut conditions = status.conditions.iter().flatten();
                    conditions.any(|c| c.type_ == kind && c.status == "False")
                };
                let mut init = status.init_container_statuses.iter().flatten();
                let runs = init.any(|c| c.state.as_ref().is_some_and(|state| state.running.is_some()));
                let mut conditions = status.conditions.iter().flatten();
                let unseen =
                    status.phase.as_deref() == Some("Pending") && !conditions.any(|c| c.type_ == "PodScheduled");
                has("PodScheduled") || has("PodReadyToStartContainers") || runs || unseen
            });
            let sets = self.api::<ReplicaSet>().list(&list).await?.items;
            let refused = sets.iter().flat_map(|set| set.status.iter()).any(|status| {
                let mut conditions = status.conditions.iter().flatten();
                conditions.any(|c| c.type_ == "ReplicaFailure" && c.status == "True")
            });
            Ok((waits || refused).then_some(()))
        })
        .await
    }

    /// The Deployment's template as the API server has it.
    pub async fn template(&self, name: &str) -> Result<Value> {
        Ok(self.raw(name).await?.pointer("/spec/template").cloned().unwrap_or_default())
    }

    /// The Deployment as the API server has it.
    pub async fn raw(&self, name: &str) -> Result<Value> {
        let path = format!("/apis/apps/v1/namespaces/{}/deployments/{name}", self.ns);
        Ok(self.suite.client.request(http::Request::get(path).body(vec![])?).await?)
    }

    /// Sends a firing alert about the Deployment `name`.
    pub async fn alert(&self, name: &str) -> Result<Answer> {
        self.alert_with(&[("deployment", name)]).await
    }

    /// Sends a firing alert with these labels besides name and namespace.
    pub async fn alert_with(&self, labels: &[(&str, &str)]) -> Result<Answer> {
        let answer = self.post(&payload(&[self.labels(labels)])).await?;
        ensure!(answer.code == 202, "the intake answered {} {}", answer.code, answer.body);
        Ok(answer)
    }

    /// Labels of an alert about this namespace; `more` wins.
    pub fn labels(&self, more: &[(&str, &str)]) -> BTreeMap<String, String> {
        let base =
            [("alertname", "KubeDeploymentRolloutStuck"), ("namespace", self.ns.as_str()), ("severity", "critical")];
        base.iter().chain(more).map(|(key, value)| (key.to_string(), value.to_string())).collect()
    }

    /// Posts a payload with the intake's token.
    pub async fn post(&self, payload: &Value) -> Result<Answer> {
        let token = self.suite.operator.token().await?;
        self.suite.operator.post(Some(&token), serde_json::to_vec(payload)?).await
    }

    /// The incidents of this namespace.
    pub async fn incidents(&self) -> Result<Vec<Incident>> {
        self.list().await
    }

    /// Waits until the one incident of this namespace has ended, and returns it.
    pub async fn ended(&self) -> Result<Incident> {
        self.nth_ended(1).await
    }

    /// Waits until `count` incidents exist and all have ended; returns the newest.
    pub async fn nth_ended(&self, count: usize) -> Result<Incident> {
        let incidents = until(&format!("{count} incident(s) ended"), || async {
            let incidents = self.incidents().await?;
            let done = incidents.len() >= count && incidents.iter().all(|incident| phase(incident).is_final());
            Ok(done.then_some(incidents))
        })
        .await?;
        ensure!(incidents.len() == count, "{} incidents, expected {count}", incidents.len());
        incidents.into_iter().max_by_key(|incident| incident.spec.opened_at).context("no incident")
    }

    /// Waits until the incident is in `wanted`.
    pub async fn incident_in(&self, wanted: IncidentPhase) -> Result<Incident> {
        until(&format!("an incident is {wanted:?}"), || async {
            Ok(self.incidents().await?.into_iter().find(|incident| phase(incident) == wanted))
        })
        .await
    }

    /// The incident ended well.
    pub async fn recovered(&self) -> Result<Incident> {
        let incident = self.ended().await?;
        expect(&incident, IncidentPhase::Resolved, "Recovered")?;
        Ok(incident)
    }

    /// The incident was handed over because of `reason`.
    pub async fn escalated(&self, reason: &str) -> Result<Incident> {
        let incident = self.ended().await?;
        expect(&incident, IncidentPhase::Escalated, reason)?;
        Ok(incident)
    }

    /// Everything that the API server answered about this namespace so far.
    pub async fn events(&self) -> Result<Vec<Event>> {
        self.suite.events(&self.ns).await
    }

    /// Changes of templates by the executor in this namespace.
    pub async fn fires(&self) -> Result<Vec<Fire>> {
        Ok(self.suite.witness.fires(&self.events().await?))
    }

    /// By the audit log the executor changed exactly one template, and what it wrote is the first revision exactly.
    pub async fn fired_once_to_first_revision(&self, name: &str) -> Result<Fire> {
        let events = self.events().await?;
        let fires = self.suite.witness.fires(&events);
        ensure!(fires.len() == 1, "{} fires, expected exactly one: {fires:#?}", fires.len());
        let first = first_template(&events, name)?;
        ensure!(fires[0].after == first, "the executor wrote another template than that of revision 1");
        ensure!(self.template(name).await? == first, "the template is not that of revision 1 any more");
        self.nothing_in_flight().await?;
        Ok(fires.into_iter().next().expect("there is one"))
    }

    /// By the audit log no account of the operator wrote to a workload at all, not even a label.
    pub async fn nothing_written(&self) -> Result<()> {
        let events = self.events().await?;
        let ours = |event: &&Event| self.suite.witness.is_ours(event) && event.is_accepted_write();
        let written: Vec<_> = events
            .iter()
            .filter(ours)
            .filter(|event| !event.resource.starts_with("backstop.dev/") && !event.resource.contains("events"))
            .map(|event| format!("{} {} {}", event.user, event.verb, event.resource))
            .collect();
        ensure!(written.is_empty(), "expected no write on a workload: {written:?}");
        self.nothing_in_flight().await
    }

    /// No object is armed, no revision is marked, the Grant is closed.
    pub async fn nothing_in_flight(&self) -> Result<()> {
        until("nothing is armed, marked or open", || async {
            let armed = self.list::<Deployment>().await?.iter().any(|d| d.labels().contains_key(names::ARMED));
            let marked = self.list::<ReplicaSet>().await?.iter().any(|set| set.labels().contains_key(names::UNDO_TO));
            let open = self.list::<Grant>().await?.iter().any(|grant| grant.spec.open.is_some());
            if armed || marked || open {
                bail!("armed: {armed}, revision marked: {marked}, Grant open: {open}");
            }
            Ok(Some(()))
        })
        .await
    }

    /// Holds a role when it comes to `point` in this namespace. Place it before the alert is sent.
    pub fn hold(&self, point: Point) -> Hold {
        self.suite.taps.hold(point, &self.ns)
    }

    /// Kills the process that stands at `point`, and waits until it has ended there and was started again.
    pub async fn kill_at(&self, point: Point, hold: Hold) -> Result<()> {
        hold.reached().await?;
        let operator = &self.suite.operator;
        let before = operator.restarts(point.role).await?;
        self.suite.nodes.kill(&operator.container(&self.suite.nodes, point.role).await?).await?;
        hold.gone().await?;
        drop(hold);
        until(&format!("the killed {} was started again", point.role), || async {
            Ok((operator.restarts(point.role).await? > before).then_some(()))
        })
        .await
    }

    /// What is there, for a failed test.
    pub async fn told(&self) -> String {
        let mut text = format!("taps that were passed:\n  {}\n", self.suite.taps.seen(&self.ns).join("\n  "));
        text += &self.yaml::<Alert>().await;
        text += &self.yaml::<Incident>().await;
        text += &self.yaml::<Remediation>().await;
        text += &self.yaml::<Grant>().await;
        text += &self.suite.operator.logs(60).await;
        text
    }

    async fn yaml<K>(&self) -> String
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + serde::Serialize
            + std::fmt::Debug,
    {
        let mut items = self.list::<K>().await.unwrap_or_default();
        items.truncate(3);
        items
            .into_iter()
            .map(|mut item| {
                item.meta_mut().managed_fields = None;
                format!("---\n{}", serde_saphyr::to_string(&item).unwrap_or_default())
            })
            .collect()
    }
}

/// Where an incident stands.
pub fn phase(incident: &Incident) -> IncidentPhase {
    incident.status.as_ref().map(|status| status.phase).unwrap_or_default()
}

/// The incident ended as it should.
pub fn expect(incident: &Incident, phase: IncidentPhase, reason: &str) -> Result<()> {
    let status = incident.status.clone().unwrap_or_default();
    ensure!(
        status.phase == phase && status.reason == reason,
        "the incident is {:?} because of {}: {}\nexpected {phase:?} because of {reason}",
        status.phase,
        status.reason,
        status.message
    );
    Ok(())
}

/// The verdict of one check in the incident's decision, as its reason.
pub fn verdict(incident: &Incident, check: &str) -> Option<String> {
    let decision = incident.status.as_ref()?.decision.as_ref()?;
    decision.checks.iter().find(|verdict| verdict.check == check).map(|verdict| verdict.reason.clone())
}

/// The template with which the Deployment `name` was created.
pub fn first_template(events: &[Event], name: &str) -> Result<Value> {
    first_of(events, "apps/deployments", name)
}

/// The template with which the object `name` of `resource` was created.
pub fn first_of(events: &[Event], resource: &str, name: &str) -> Result<Value> {
    let created = events.iter().find(|event| {
        event.resource == resource
            && event.verb == "create"
            && event.is_accepted_write()
            && event.response["metadata"]["name"] == name
    });
    created
        .and_then(|event| event.response.pointer("/spec/template").cloned())
        .with_context(|| format!("the audit log does not show how {name} was created"))
}

/// A payload of Alertmanager's webhook with one firing alert for each set of labels.
pub fn payload(alerts: &[BTreeMap<String, String>]) -> Value {
    let now = backstop::clock::now();
    let alerts: Vec<Value> = alerts
        .iter()
        .map(|labels| {
            let parts: Vec<&str> = labels.iter().flat_map(|(key, value)| [key.as_str(), value.as_str()]).collect();
            json!({
                "status": "firing", "labels": labels, "annotations": {"summary": "a test"}, "startsAt": now.to_string(),
                "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "", "fingerprint": &names::short_digest(&parts)[..16],
            })
        })
        .collect();
    json!({
        "version": "4", "groupKey": "{}:{}", "truncatedAlerts": 0, "status": "firing", "receiver": "backstop",
        "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "", "alerts": alerts,
    })
}
