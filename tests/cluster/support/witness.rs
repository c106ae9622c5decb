//! What the audit log says about who wrote what. Pure functions over its events, with planted defects that they have
//! to find before anything they say is believed.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use backstop::core::{names, workload::Kind};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::audit::Event;

/// Whose writes are judged.
pub struct Witness {
    /// Namespace of the operator.
    pub system: String,
}

/// The kinds whose template the executor may return to an earlier one.
pub const WORKLOADS: [&str; 3] = ["apps/deployments", "apps/statefulsets", "apps/daemonsets"];

/// An accepted eviction of a pod by the executor.
#[derive(Clone, Debug, PartialEq)]
pub struct Eviction {
    /// Namespace of the pod.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// The pod that the request insists on; empty when it takes any of that name.
    pub uid: String,
    /// When the API server had answered.
    pub at: Timestamp,
}

/// An accepted change of a workload's template by the executor.
#[derive(Clone, Debug, PartialEq)]
pub struct Fire {
    /// Its kind: one of [`WORKLOADS`].
    pub resource: String,
    /// Namespace of the workload.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// When the API server had answered.
    pub at: Timestamp,
    /// The template before.
    pub before: Value,
    /// The template after.
    pub after: Value,
}

impl Witness {
    /// User name of a role.
    pub fn account(&self, role: &str) -> String {
        format!("system:serviceaccount:{}:backstop-{role}", self.system)
    }

    /// The event was asked for by one of the operator's accounts.
    pub fn is_ours(&self, event: &Event) -> bool {
        event.user.starts_with(&self.account(""))
    }

    /// Every eviction by the executor, oldest first. They are no fires: nothing that is declared changes.
    pub fn evictions(&self, events: &[Event]) -> Vec<Eviction> {
        let evicts = |event: &&Event| {
            event.user == self.account("executor")
                && event.resource == "pods"
                && event.subresource == "eviction"
                && event.is_accepted_write()
        };
        let mut found: Vec<Eviction> = events
            .iter()
            .filter(evicts)
            .map(|event| Eviction {
                namespace: event.namespace.clone(),
                pod: event.name.clone(),
                uid: insisted(event).to_string(),
                at: event.at,
            })
            .collect();
        found.sort_by_key(|eviction| eviction.at);
        found
    }

    /// Every change of a template by the executor, oldest first: each write on a workload is compared with the
    /// object as the write before it, by whomever, had left it.
    pub fn fires(&self, events: &[Event]) -> Vec<Fire> {
        self.changes(events)
            .into_iter()
            .filter(|(event, before)| {
                event.user == self.account("executor")
                    && before.pointer("/spec/template") != event.response.pointer("/spec/template")
            })
            .map(|(event, before)| Fire {
                resource: event.resource.clone(),
                namespace: event.namespace.clone(),
                name: event.name.clone(),
                at: event.at,
                before: before.pointer("/spec/template").cloned().unwrap_or_default(),
                after: event.response.pointer("/spec/template").cloned().unwrap_or_default(),
            })
            .collect()
    }

    /// Accepted writes on workloads with the object before them, in the order in which they were stored.
    fn changes<'a>(&self, events: &'a [Event]) -> Vec<(&'a Event, Value)> {
        let mut objects: BTreeMap<String, Vec<(u64, &Event)>> = BTreeMap::new();
        for event in
            events.iter().filter(|event| WORKLOADS.contains(&event.resource.as_str()) && event.is_accepted_write())
        {
            let text = |path: &str| event.response.pointer(path).and_then(Value::as_str).unwrap_or_default();
            if let Ok(version) = text("/metadata/resourceVersion").parse() {
                objects.entry(text("/metadata/uid").to_string()).or_default().push((version, event));
            }
        }
        let mut found = Vec::new();
        for writes in objects.values_mut() {
            writes.sort_by_key(|(version, _)| *version);
            let mut before: Option<Value> = None;
            for (_, event) in writes.iter() {
                // The answer to a write of /scale is no workload: it tells the replicas and nothing else.
                if event.subresource == "scale" {
                    if let (Some(object), Some(replicas)) = (&mut before, event.response.pointer("/spec/replicas")) {
                        object["spec"]["replicas"] = replicas.clone();
                    }
                    continue;
                }
                if let Some(object) = before.take() {
                    found.push((*event, object));
                }
                before = event.response.get("spec").is_some().then(|| event.response.clone());
            }
        }
        found.sort_by_key(|(event, _)| event.at);
        found
    }

    /// Everything that an account of ours did and never may, each as a sentence. Empty is what is wanted.
    pub fn unsafe_writes(&self, events: &[Event]) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for event in events.iter().filter(|event| self.is_ours(event)) {
            if event.resource == "secrets" && event.code < 400 {
                found.push(format!("read or wrote a Secret: {}", told(event)));
            }
            if event.is_accepted_write() && !self.may_write(event) {
                found.push(format!("wrote what it never may: {}", told(event)));
            }
        }
        for (event, before) in self.changes(events) {
            if event.user == self.account("executor") {
                found.extend(
                    changes_besides(&before, &event.response)
                        .into_iter()
                        .map(|path| format!("changed {path}: {}", told(event))),
                );
            }
        }
        found
    }

    fn may_write(&self, event: &Event) -> bool {
        let Event { resource, subresource, verb, name, .. } = event;
        let own = |kinds: &[&str]| resource.strip_prefix("backstop.dev/").is_some_and(|kind| kinds.contains(&kind));
        let lease =
            resource == "coordination.k8s.io/leases" && event.namespace == self.system && name.starts_with("backstop-");
        // A review asks about rights and stores nothing.
        let review = resource.starts_with("authentication.k8s.io/") || resource.starts_with("authorization.k8s.io/");
        if review {
            return true;
        }
        if event.user == self.account("executor") {
            return match resource.as_str() {
                workload if WORKLOADS.contains(&workload) => verb == "patch" && subresource.is_empty(),
                "apps/replicasets" | "apps/controllerrevisions" => {
                    verb == "patch" && subresource.is_empty() && only_marks(&event.request)
                }
                // Not a pod that has only the name of the one that was meant.
                "pods" => verb == "create" && subresource == "eviction" && !insisted(event).is_empty(),
                "backstop.dev/remediations" => subresource == "status",
                _ => false,
            };
        }
        if event.user == self.account("investigator") {
            return lease || (own(&["investigations", "modelchains"]) && subresource == "status") || own(&["ledgers"]);
        }
        if event.user == self.account("controller") {
            return lease
                || resource == "events"
                || resource == "events.k8s.io/events"
                || own(&[
                    "alerts",
                    "incidents",
                    "investigations",
                    "remediations",
                    "grants",
                    "ledgers",
                    "approvals",
                    "runbooks",
                    "policies",
                    "policyexceptions",
                ]);
        }
        false
    }
}

/// The uid of the pod that a request to evict insists on.
fn insisted(event: &Event) -> &str {
    event.request.pointer("/deleteOptions/preconditions/uid").and_then(Value::as_str).unwrap_or_default()
}

/// What differs between two versions of a workload besides the template and our own words.
fn changes_besides(before: &Value, after: &Value) -> Vec<String> {
    let mut paths = Vec::new();
    let kind = after.pointer("/kind").and_then(Value::as_str).unwrap_or_default();
    for part in
        ["/spec", "/metadata/labels", "/metadata/annotations", "/metadata/finalizers", "/metadata/ownerReferences"]
    {
        let (old, new) =
            (before.pointer(part).cloned().unwrap_or(json!({})), after.pointer(part).cloned().unwrap_or(json!({})));
        let (Some(old_map), Some(new_map)) = (old.as_object(), new.as_object()) else {
            if old != new {
                paths.push(part.to_string());
            }
            continue;
        };
        let keys: std::collections::BTreeSet<&String> = old_map.keys().chain(new_map.keys()).collect();
        for key in keys {
            let ours = [names::ARMED, names::ACTION, names::LAST_ACTION, "backstop.dev/before"].contains(&key.as_str());
            let template = part == "/spec" && key == "template";
            // The API server keeps this one with the template, whoever changes that.
            let servers = part == "/metadata/annotations"
                && Kind::named(kind).is_some_and(|kind| kind.annotations_of_the_server().contains(&key.as_str()));
            if !ours && !template && !servers && old_map.get(key) != new_map.get(key) {
                paths.push(format!("{part}/{key}"));
            }
        }
    }
    paths
}

/// A JSON patch that touches nothing but the mark of a revision.
fn only_marks(patch: &Value) -> bool {
    let allowed =
        ["/metadata/resourceVersion", "/metadata/uid", "/metadata/labels", "/metadata/labels/backstop.dev~1undo-to"];
    patch.as_array().is_some_and(|steps| {
        steps.iter().all(|step| step.get("path").and_then(Value::as_str).is_some_and(|path| allowed.contains(&path)))
    })
}

fn told(event: &Event) -> String {
    let Event { user, verb, resource, subresource, namespace, name, code, .. } = event;
    format!("{user} {verb} {resource}/{subresource} {namespace}/{name} ({code})")
}

/// Shows this witness defects that it has to find, and good conduct that it must not complain about.
pub fn try_planted(witness: &Witness) -> Result<usize> {
    let executor = witness.account("executor");
    let object = |version: &str, image: &str, replicas: i64| {
        json!({"metadata": {"uid": "u", "resourceVersion": version}, "spec": {"replicas": replicas,
            "template": {"spec": {"containers": [{"image": image}]}}}})
    };
    let event = |user: &str, verb: &str, resource: &str, subresource: &str, response: Value| Event {
        asked: Timestamp::UNIX_EPOCH,
        at: Timestamp::UNIX_EPOCH,
        user: user.into(),
        verb: verb.into(),
        resource: resource.into(),
        subresource: subresource.into(),
        namespace: "t".into(),
        name: "api".into(),
        code: 200,
        dry_run: false,
        request: json!([]),
        response,
    };
    let deployments = "apps/deployments";
    let evicts = |user: &str| Event {
        request: json!({"deleteOptions": {"preconditions": {"uid": "p"}}}),
        ..event(user, "create", "pods", "eviction", Value::Null)
    };
    let story = |second: Event| vec![event("somebody", "create", &second.resource, "", object("9", "a", 1)), second];
    let planted: Vec<(&str, Event)> = vec![
        ("replicas", event(&executor, "patch", deployments, "", object("10", "b", 2))),
        ("scale", event(&executor, "patch", deployments, "scale", Value::Null)),
        ("delete", event(&executor, "delete", deployments, "", Value::Null)),
        ("other kind", event(&executor, "patch", "batch/jobs", "", Value::Null)),
        ("replicas of a StatefulSet", event(&executor, "patch", "apps/statefulsets", "", object("10", "b", 2))),
        ("deletes a pod", event(&executor, "delete", "pods", "", Value::Null)),
        ("evicts whatever has the name", event(&executor, "create", "pods", "eviction", Value::Null)),
        ("controller evicts", evicts(&witness.account("controller"))),
        (
            "controller revision",
            Event {
                request: json!([{"op": "replace", "path": "/data", "value": {}}]),
                ..event(&executor, "patch", "apps/controllerrevisions", "", Value::Null)
            },
        ),
        (
            "revision",
            Event {
                request: json!([{"op": "replace", "path": "/spec/template", "value": {}}]),
                ..event(&executor, "patch", "apps/replicasets", "", Value::Null)
            },
        ),
        ("secret", event(&witness.account("controller"), "get", "secrets", "", Value::Null)),
        ("controller writes", event(&witness.account("controller"), "patch", deployments, "", object("10", "b", 1))),
        (
            "investigator writes",
            event(&witness.account("investigator"), "create", "backstop.dev/remediations", "", Value::Null),
        ),
        ("annotation", {
            let mut other = object("10", "b", 1);
            other["metadata"]["annotations"] = json!({"kubernetes.io/change-cause": "x"});
            event(&executor, "patch", deployments, "", other)
        }),
    ];
    for (what, defect) in &planted {
        ensure!(!witness.unsafe_writes(&story(defect.clone())).is_empty(), "the planted defect `{what}` was not found");
    }
    for kind in WORKLOADS {
        let fire = event(&executor, "patch", kind, "", object("10", "b", 1));
        ensure!(witness.fires(&story(fire.clone())).len() == 1, "a fire on {kind} was not found");
        ensure!(witness.evictions(&story(fire)).is_empty(), "a fire on {kind} was counted as an eviction");
    }
    let eviction = story(evicts(&executor));
    ensure!(witness.evictions(&eviction).len() == 1, "an eviction was not found");
    ensure!(witness.fires(&eviction).is_empty(), "an eviction was counted as a fire");
    ensure!(witness.unsafe_writes(&eviction).is_empty(), "an eviction was taken for an unsafe write");
    for harmless in
        [Event { dry_run: true, ..evicts(&executor) }, Event { code: 429, ..evicts(&executor) }, evicts("x")]
    {
        ensure!(witness.evictions(&story(harmless)).is_empty(), "no eviction, but counted");
    }
    let fire = event(&executor, "patch", deployments, "", object("10", "b", 1));
    ensure!(witness.fires(&story(fire.clone())).len() == 1, "a fire was not found");
    ensure!(witness.unsafe_writes(&story(fire.clone())).is_empty(), "a fire was taken for an unsafe write");
    let again = Event { response: object("11", "c", 1), ..fire.clone() };
    ensure!(witness.fires(&[story(fire.clone()), vec![again]].concat()).len() == 2, "a second fire was not found");
    let scaled = json!({"kind": "Scale", "metadata": {"uid": "u", "resourceVersion": "10"}, "spec": {"replicas": 3}});
    let person_scales = event("somebody", "patch", deployments, "scale", scaled);
    let fire_at = |replicas| event(&executor, "patch", deployments, "", object("11", "b", replicas));
    let told_of = |second: Event| witness.unsafe_writes(&[story(person_scales.clone()), vec![second]].concat());
    ensure!(told_of(fire_at(3)).is_empty(), "a fire after a person scaled was taken for an unsafe write");
    ensure!(!told_of(fire_at(1)).is_empty(), "a fire that undoes a person's scaling was not found");
    for harmless in [
        Event { dry_run: true, ..fire.clone() },
        Event { code: 422, ..fire.clone() },
        Event { response: object("10", "a", 1), ..fire.clone() },
        Event { user: "somebody".into(), ..fire },
    ] {
        ensure!(witness.fires(&story(harmless.clone())).is_empty(), "no fire, but counted: {}", told(&harmless));
    }
    Ok(planted.len() + 2)
}
