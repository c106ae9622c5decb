//! Somebody who has stolen tokens of the operator's accounts, and nothing else: raw requests, none of our code.

use anyhow::{Context as _, Result, ensure};
use backstop::{api::v1alpha1::RemediationSpec, core::actions::identity, core::names};
use kube::{
    Client,
    api::{Patch, PatchParams},
    core::Request,
};
use serde_json::{Value, json};

use super::{SYSTEM, bench::Bench, connect_with, until};

/// Whose token it is decides what the API server lets it do.
pub struct Thief<'a> {
    bench: &'a Bench,
    /// Sends everything in that role's name.
    pub client: Client,
}

/// What the API server said to a request.
pub type Answer = Result<Value, kube::Error>;

impl<'a> Thief<'a> {
    /// With the token of one role's account, as `kubectl create token` makes it.
    pub async fn of(bench: &'a Bench, role: &str) -> Result<Thief<'a>> {
        let path = format!("/api/v1/namespaces/{SYSTEM}/serviceaccounts/backstop-{role}/token");
        let wanted = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"audiences": [], "expirationSeconds": 7200},
        });
        let request = http::Request::post(path).header("content-type", "application/json");
        let made: Value = bench.suite.client.request(request.body(serde_json::to_vec(&wanted)?)?).await?;
        let token = made.pointer("/status/token").and_then(Value::as_str).context("no token was made")?;
        Ok(Thief { bench, client: connect_with(token).await? })
    }

    fn path(&self, group: &str, plural: &str) -> String {
        format!("/{group}/namespaces/{}/{plural}", self.bench.ns)
    }

    /// Creates an object in the namespace.
    pub async fn create(&self, group: &str, plural: &str, object: &Value) -> Answer {
        self.send(http::Method::POST, self.path(group, plural), object).await
    }

    /// Replaces an object of the namespace, or its subresource, as the controller would send it.
    pub async fn replace(&self, group: &str, plural: &str, name: &str, object: &Value) -> Answer {
        let path = format!("{}/{name}?fieldManager={}", self.path(group, plural), names::CONTROLLER);
        self.send(http::Method::PUT, path, object).await
    }

    /// Reads or deletes.
    pub async fn ask(&self, method: http::Method, path: String) -> Answer {
        self.send(method, path, &Value::Null).await
    }

    async fn send(&self, method: http::Method, path: String, body: &Value) -> Answer {
        let body = if body.is_null() { vec![] } else { body.to_string().into_bytes() };
        let request = http::Request::builder().method(method).uri(path).header("content-type", "application/json");
        self.client.request(request.body(body).map_err(kube::Error::HttpError)?).await
    }

    /// A JSON patch, as the executor would send it.
    pub async fn patch(&self, group: &str, plural: &str, name: &str, patch: Value) -> Answer {
        let params = PatchParams { field_manager: Some(names::EXECUTOR.into()), ..PatchParams::default() };
        let patch = Patch::Json::<()>(serde_json::from_value(patch).map_err(kube::Error::SerdeError)?);
        let request = Request::new(self.path(group, plural)).patch(name, &params, &patch);
        self.client.request(request.map_err(kube::Error::BuildRequest)?).await
    }
}

/// The API server refused it, and nothing else went wrong.
pub fn refused(what: &str, answer: Answer) -> Result<()> {
    match answer {
        Ok(_) => anyhow::bail!("the API server took it: {what}"),
        Err(kube::Error::Api(status)) if [403, 404, 405, 409, 422, 429].contains(&status.code) => {
            ensure!(status.code != 404 && status.code != 409, "{what} was asked wrongly: {}", status.message);
            Ok(())
        }
        Err(error) => Err(error).with_context(|| format!("{what} ended in another way than a refusal")),
    }
}

/// One return of the Deployment `name` to a revision, as it would be written down by a controller that means it.
pub struct Plan {
    /// The Remediation.
    pub remediation: Value,
    /// Its action id.
    pub id: String,
    /// The one write.
    pub write: Value,
    uid: String,
}

impl Plan {
    /// `after` is what the template is to become, `provenance` the ReplicaSet that is said to have it.
    pub async fn new(bench: &Bench, name: &str, revision: i64, after: Value, provenance: &Value) -> Result<Plan> {
        let raw = bench.raw(name).await?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
        let uid = text(&raw["metadata"]["uid"]);
        let object = |kind: &str, name: &str, uid: &str| {
            json!({
                "apiVersion": "apps/v1", "kind": kind, "namespace": bench.ns, "name": name, "uid": uid,
            })
        };
        let from = object("ReplicaSet", &text(&provenance["metadata"]["name"]), &text(&provenance["metadata"]["uid"]));
        let write = json!({"field": {"path": "/spec/template", "before": raw["spec"]["template"], "after": after}});
        let incident = format!("{name}-stolen-{revision}");
        let mut spec = json!({
            "incident": incident, "actionId": "", "digest": "", "action": {"rolloutUndo": {"toRevision": revision}},
            "purpose": "Repair", "target": object("Deployment", name, &uid), "write": write, "provenance": from,
            "verify": {"settleSeconds": 2, "timeoutSeconds": 600}, "requestId": "0".repeat(32),
            "undo": {"action": {"rolloutUndo": {"toRevision": revision + 1}}, "provenance": from},
        });
        let typed: RemediationSpec = serde_json::from_value(spec.clone()).context("the Remediation's shape")?;
        let (digest, id) = identity::identity(&typed);
        spec["digest"] = json!(digest);
        spec["actionId"] = json!(id);
        let remediation = json!({
            "apiVersion": "backstop.dev/v1alpha1", "kind": "Remediation", "metadata": {"name": id}, "spec": spec,
        });
        Ok(Plan { remediation, id, write, uid })
    }

    /// The incident that the Remediation says it belongs to.
    pub fn incident(&self) -> Value {
        json!({
            "apiVersion": "backstop.dev/v1alpha1", "kind": "Incident",
            "metadata": {"name": self.remediation["spec"]["incident"]},
            "spec": {
                "target": self.remediation["spec"]["target"], "alerts": [], "severity": "critical",
                "requestId": "0".repeat(32), "openedAt": backstop::clock::now(),
            },
        })
    }

    /// Opens the Grant of the namespace for it, under `epoch`.
    pub async fn open_grant(&self, thief: &Thief<'_>, epoch: i64) -> Result<()> {
        let path = format!("/{BACKSTOP}/namespaces/{}/grants/active", thief.bench.ns);
        let end = backstop::clock::now() + jiff::SignedDuration::from_secs(55);
        let open = json!({
            "actionId": self.id, "action": "rollout-undo", "remediation": self.id, "epoch": epoch, "uid": self.uid,
            "write": self.write, "notAfter": jiff::Timestamp::from_second(end.as_second())?,
        });
        let open = &open;
        until("the Grant is open", || async {
            let mut grant: Value = thief.ask(http::Method::GET, path.clone()).await?;
            grant["spec"] = json!({"open": open});
            thief.replace(BACKSTOP, "grants", "active", &grant).await?;
            Ok(Some(()))
        })
        .await
    }

    /// Closes the Grant again: nobody else does while the controller is away.
    pub async fn close_grant(&self, thief: &Thief<'_>) -> Result<()> {
        let path = format!("/{BACKSTOP}/namespaces/{}/grants/active", thief.bench.ns);
        until("the Grant is closed", || async {
            let mut grant: Value = thief.ask(http::Method::GET, path.clone()).await?;
            grant["spec"] = json!({});
            thief.replace(BACKSTOP, "grants", "active", &grant).await?;
            Ok(Some(()))
        })
        .await
    }

    /// Marks the revision and arms the object, in the executor's name.
    pub async fn arm(&self, thief: &Thief<'_>, name: &str) -> Answer {
        let from = self.remediation.pointer("/spec/provenance/name").and_then(Value::as_str).unwrap_or_default();
        let mark = json!([{"op": "add", "path": "/metadata/labels/backstop.dev~1undo-to", "value": "true"}]);
        thief.patch(APPS, "replicasets", from, mark).await?;
        let raw = thief.ask(http::Method::GET, format!("{}/{name}", thief.path(APPS, "deployments"))).await?;
        let mut arm =
            vec![json!({"op": "add", "path": "/metadata/labels/backstop.dev~1armed", "value": "rollout-undo"})];
        if raw["metadata"]["annotations"].is_null() {
            arm.push(json!({"op": "add", "path": "/metadata/annotations", "value": {}}));
        }
        arm.push(json!({"op": "add", "path": "/metadata/annotations/backstop.dev~1action", "value": self.id}));
        thief.patch(APPS, "deployments", name, json!(arm)).await
    }

    /// Writes what was planned on the armed object.
    pub async fn fire(&self, thief: &Thief<'_>, name: &str) -> Answer {
        let fire = json!([
            {"op": "remove", "path": "/metadata/labels/backstop.dev~1armed"},
            {"op": "remove", "path": "/metadata/annotations/backstop.dev~1action"},
            {"op": "add", "path": "/metadata/annotations/backstop.dev~1last-action", "value": self.id},
            {"op": "replace", "path": "/spec/template", "value": self.write["field"]["after"]},
        ]);
        thief.patch(APPS, "deployments", name, fire).await
    }

    /// Leaves no mark and no label behind.
    pub async fn disarm(&self, thief: &Thief<'_>, name: &str) -> Result<()> {
        let raw = thief.ask(http::Method::GET, format!("{}/{name}", thief.path(APPS, "deployments"))).await?;
        if raw.pointer("/metadata/labels/backstop.dev~1armed").is_some() {
            let disarm = json!([
                {"op": "remove", "path": "/metadata/labels/backstop.dev~1armed"},
                {"op": "remove", "path": "/metadata/annotations/backstop.dev~1action"},
            ]);
            thief.patch(APPS, "deployments", name, disarm).await?;
        }
        let from = self.remediation.pointer("/spec/provenance/name").and_then(Value::as_str).unwrap_or_default();
        let unmark = json!([{"op": "remove", "path": "/metadata/labels/backstop.dev~1undo-to"}]);
        thief.patch(APPS, "replicasets", from, unmark).await.map(drop).context("unmark the revision")
    }
}

/// Where the kinds are.
pub const APPS: &str = "apis/apps/v1";
/// Where ours are.
pub const BACKSTOP: &str = "apis/backstop.dev/v1alpha1";
