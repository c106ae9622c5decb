//! A small API server for tests: objects with resourceVersions, JSON patches, the admission policies in short,
//! and a judge that opens Grants. It can lose answers, refuse and lag on request.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    Observation, Outcome, Request, Resource, patch,
    step::{armed_by, recorded_template},
};
use crate::{
    api::v1alpha1::{
        Action, FieldWrite, Grant, GrantSpec, ObjectRef, OpenGrant, Purpose, Remediation, RemediationPhase,
        RemediationSpec, RolloutUndo, Time, Undo, Verify, Write,
    },
    core::{actions, actions::identity, names, object},
};

pub const HOLDER: &str = "executor/backstop-system";

/// The cluster.
#[derive(Clone)]
pub struct Model {
    pub version: u64,
    pub target: Option<Value>,
    pub revisions: BTreeMap<String, Value>,
    pub remediation: Remediation,
    pub grant: Grant,
    pub now: Time,
    /// Every change of a spec, with the value afterwards.
    pub spec_changes: Vec<Value>,
    pub mode: &'static str,
    pub policies: Vec<&'static str>,
    /// The policies see the Grant and the marks of this many requests ago.
    pub lag: usize,
    past: Vec<(Grant, bool)>,
    pub not_ready: String,
    pub grant_seconds: i64,
    pub opened: i64,
    /// Until then the API server has not set its policies up, and refuses what they match.
    pub settled_at: Time,
    /// Until then the API server knows of no rights.
    pub rights_at: Time,
    /// The right to write workloads is missing.
    pub missing_right: bool,
}

pub fn template(image: &str) -> Value {
    json!({"metadata": {"creationTimestamp": null, "labels": {"app": "cart"}},
        "spec": {"containers": [{"name": "cart", "image": image, "resources": {"limits": {"cpu": "500m"}}}]}})
}

pub fn deployment(uid: &str, image: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "cart", "namespace": "shop", "uid": uid, "resourceVersion": "1", "generation": 2,
            "annotations": {"deployment.kubernetes.io/revision": "2"}},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "cart"}}, "template": template(image)}})
}

pub fn replica_set(name: &str, owner: &str, image: &str) -> Value {
    let mut template = template(image);
    template["metadata"]["labels"]["pod-template-hash"] = json!("h");
    json!({"apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"), "resourceVersion": "1",
            "generation": 1, "labels": {"app": "cart"},
            "ownerReferences": [{"kind": "Deployment", "name": "cart", "uid": owner, "controller": true}]},
        "spec": {"replicas": 0, "template": template}})
}

pub fn remediation(before: &str, after: &str) -> Remediation {
    let target = ObjectRef {
        api_version: "apps/v1".into(),
        kind: "Deployment".into(),
        namespace: "shop".into(),
        name: "cart".into(),
        uid: "uid-cart".into(),
    };
    let undo = Action::RolloutUndo(RolloutUndo { to_revision: 1 });
    let provenance = Some(ObjectRef {
        api_version: "apps/v1".into(),
        kind: "ReplicaSet".into(),
        namespace: "shop".into(),
        name: "cart-1".into(),
        uid: "uid-cart-1".into(),
    });
    let mut spec = RemediationSpec {
        incident: "incident".into(),
        action_id: String::new(),
        digest: String::new(),
        action: undo.clone(),
        purpose: Purpose::Repair,
        follows: None,
        target,
        write: Write::Field(FieldWrite {
            path: "/spec/template".into(),
            before: template(before),
            after: template(after),
        }),
        provenance: provenance.clone(),
        verify: Verify { settle_seconds: 1, timeout_seconds: 60 },
        undo: Some(Undo { action: undo, provenance }),
        request_id: "request".into(),
    };
    (spec.digest, spec.action_id) = identity::identity(&spec);
    let mut remediation = Remediation::new("rem", spec);
    remediation.metadata.namespace = Some("shop".into());
    remediation.metadata.resource_version = Some("1".into());
    remediation
}

impl Model {
    pub fn new() -> Model {
        let mut grant = Grant::new(names::GRANT, GrantSpec { open: None, closed_because: None });
        grant.metadata.resource_version = Some("1".into());
        Model {
            version: 1,
            target: Some(deployment("uid-cart", "cart:2")),
            revisions: [
                ("cart-1".into(), replica_set("cart-1", "uid-cart", "cart:1")),
                ("cart-2".into(), replica_set("cart-2", "uid-cart", "cart:2")),
            ]
            .into(),
            remediation: remediation("cart:2", "cart:1"),
            grant,
            now: Time::UNIX_EPOCH,
            spec_changes: Vec::new(),
            mode: "auto",
            policies: vec!["backstop-static", "backstop-grant", "backstop-provenance"],
            lag: 0,
            past: Vec::new(),
            not_ready: String::new(),
            grant_seconds: 60,
            opened: 0,
            settled_at: Time::UNIX_EPOCH,
            rights_at: Time::UNIX_EPOCH,
            missing_right: false,
        }
    }

    pub fn phase(&self) -> RemediationPhase {
        self.remediation.status.as_ref().map(|status| status.phase).unwrap_or_default()
    }

    pub fn reason(&self) -> String {
        self.remediation.status.as_ref().map(|status| status.reason.clone()).unwrap_or_default()
    }

    pub fn marked(&self) -> Vec<Value> {
        self.revisions.values().filter(|it| object::label(it, names::UNDO_TO).is_some()).cloned().collect()
    }

    pub fn armed(&self) -> Vec<Value> {
        self.target.iter().filter(|it| armed_by(it).is_some()).cloned().collect()
    }

    /// Nothing of ours is left on any object.
    pub fn is_clean(&self) -> bool {
        self.marked().is_empty() && self.armed().is_empty()
    }

    pub fn observe(&self) -> Observation {
        let siblings = if !self.armed().is_empty() && self.marked().is_empty() {
            self.revisions.values().cloned().collect()
        } else {
            Vec::new()
        };
        Observation {
            remediation: self.remediation.clone(),
            grant: Some(self.grant.clone()),
            target: self.target.clone(),
            revision: self.revisions.get("cart-1").cloned(),
            marked: self.marked(),
            armed: self.armed(),
            siblings,
            holder: HOLDER.into(),
            not_ready: self.not_ready.clone(),
        }
    }

    /// Anybody writes anything: the resourceVersion moves.
    pub fn touch(&mut self) {
        self.version += 1;
        if let Some(target) = &mut self.target {
            target["metadata"]["resourceVersion"] = json!(self.version.to_string());
        }
    }

    /// The judge takes the Grant back.
    pub fn close_grant(&mut self) {
        self.grant.spec.open = None;
        self.version += 1;
        self.grant.metadata.resource_version = Some(self.version.to_string());
    }

    /// Somebody deploys another image.
    pub fn deploy(&mut self, image: &str) {
        self.touch();
        if let Some(target) = &mut self.target {
            target["spec"]["template"] = template(image);
            target["metadata"]["generation"] = json!(object::generation(target) + 1);
        }
    }

    /// The judge: opens the Grant once for each claimed epoch, closes it at the end.
    pub fn judge(&mut self) {
        let Some(status) = self.remediation.status.clone() else { return };
        let open_for = self.grant.spec.open.as_ref().map(|open| open.epoch);
        let before = self.grant.clone();
        if status.phase.is_final() {
            self.grant.spec.open = None;
        } else if status.phase == RemediationPhase::Claimed
            && open_for != Some(status.epoch)
            && self.opened < status.epoch
        {
            self.opened = status.epoch;
            let RemediationSpec { action_id, action, target, write, .. } = self.remediation.spec.clone();
            let not_after = self.now + jiff::SignedDuration::from_secs(self.grant_seconds);
            self.grant.spec.open = Some(OpenGrant {
                action_id,
                action: actions::of(action.kind()).armed_label.into(),
                remediation: "rem".into(),
                epoch: status.epoch,
                uid: target.uid,
                write,
                not_after,
            });
        }
        if self.grant != before {
            self.version += 1;
            self.grant.metadata.resource_version = Some(self.version.to_string());
        }
    }

    /// Answers a request.
    pub fn send(&mut self, request: &Request) -> Outcome {
        self.past.push((self.grant.clone(), !self.marked().is_empty()));
        let outcome = self.answer(request);
        self.now += jiff::SignedDuration::from_millis(5);
        outcome
    }

    fn answer(&mut self, request: &Request) -> Outcome {
        let old = match request.resource {
            Resource::Deployment => self.target.clone(),
            Resource::ReplicaSet => self.revisions.get(&request.name).cloned(),
            Resource::RemediationStatus => serde_json::to_value(&self.remediation).ok(),
        };
        let Some(old) = old else { return Outcome::NotFound };
        let Ok(mut new) = patch::apply(&old, &request.patch) else { return Outcome::Conflict };
        if object::meta(&new, "resourceVersion") != object::meta(&old, "resourceVersion") {
            return Outcome::Conflict;
        }
        let missing = self.missing_right && request.resource != Resource::RemediationStatus;
        if missing || self.now < self.rights_at {
            let message = "deployments.apps is forbidden: User \"executor\" cannot patch resource".into();
            return Outcome::Refused { policy: None, message };
        }
        if let Some((policy, message)) = self.refusal(request, &old, &new) {
            return Outcome::Refused { policy: Some(policy.into()), message };
        }
        let spec_changed = old["spec"] != new["spec"];
        if spec_changed {
            new["metadata"]["generation"] = json!(object::generation(&old) + 1);
        }
        if request.dry_run {
            return Outcome::Done(new);
        }
        self.version += 1;
        new["metadata"]["resourceVersion"] = json!(self.version.to_string());
        if spec_changed {
            self.spec_changes.push(new["spec"].clone());
        }
        match request.resource {
            Resource::Deployment => self.target = Some(new.clone()),
            Resource::ReplicaSet => {
                self.revisions.insert(request.name.clone(), new.clone());
            }
            Resource::RemediationStatus => self.remediation = serde_json::from_value(new.clone()).unwrap(),
        }
        Outcome::Done(new)
    }

    fn refusal(&self, request: &Request, old: &Value, new: &Value) -> Option<(&'static str, String)> {
        if request.resource == Resource::RemediationStatus {
            return None;
        }
        let on = |policy| self.policies.contains(&policy);
        let label = |object, key| object::label(object, key).unwrap_or_default().to_owned();
        let (was, is) = (label(old, names::ARMED), label(new, names::ARMED));
        let spec_same = old["spec"] == new["spec"];
        let disarm = !was.is_empty() && is.is_empty() && spec_same;
        let free = disarm || (request.resource == Resource::ReplicaSet && label(new, names::UNDO_TO).is_empty());
        let self_test = is.starts_with("self-test-") && request.dry_run;
        if on("backstop-static") {
            if object::annotation(new, patch::SELF_TEST).is_some() {
                return Some(("backstop-static", "neither arm, fire nor disarm".into()));
            }
            if !free && !self_test && !["approve", "auto"].contains(&self.mode) {
                return Some((
                    "backstop-static",
                    format!("mode of namespace shop is {}: nothing is written", self.mode),
                ));
            }
        }
        if request.resource == Resource::ReplicaSet || (was.is_empty() && is.is_empty()) {
            return None;
        }
        if self.now < self.settled_at {
            return Some(("backstop-grant", "failed to configure policy: failed to find resource".into()));
        }
        let (grant, any_mark) = &self.past[self.past.len().saturating_sub(1 + self.lag)];
        if on("backstop-provenance") && is != "self-test-grant" {
            if !any_mark {
                return Some(("backstop-provenance", "failed to configure binding: no params found".into()));
            }
            if is == "self-test-provenance" {
                return Some(("backstop-provenance", "self-test: in force".into()));
            }
        }
        if on("backstop-grant") && !disarm && is != "self-test-provenance" {
            let seen = format!("(grant resourceVersion {})", grant.metadata.resource_version.as_deref().unwrap());
            let Some(open) = &grant.spec.open else { return Some(("backstop-grant", format!("not granted {seen}"))) };
            let field = open.write.field().expect("a field");
            let fits = if is.is_empty() {
                object::annotation(new, names::LAST_ACTION) == Some(&open.action_id)
                    && new["spec"]["template"] == field.after
            } else {
                is == open.action && object::annotation(new, names::ACTION) == Some(&open.action_id) && spec_same
            };
            if !fits || old["spec"]["template"] != field.before {
                return Some(("backstop-grant", format!("another value is granted {seen}")));
            }
            if self.now > open.not_after {
                return Some(("backstop-grant", format!("the grant has expired {seen}")));
            }
        }
        if on("backstop-provenance") && !spec_same {
            let fits = self.marked().iter().all(|it| recorded_template(it).as_ref() == new.pointer("/spec/template"));
            if !fits {
                return Some(("backstop-provenance", "not the recorded revision".into()));
            }
        }
        None
    }
}
