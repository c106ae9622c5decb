//! The workloads of a namespace, as its pods show them: do many of them fail at once, or fails one change in several?
//! Pods that are refused do not exist: that they are missing is read from the workloads themselves.
//!
//! Pods and workloads can be read in every namespace, and they are what is known to fail; an Incident, an Alert or a time
//! in one of them counts for nothing here.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use serde_json::Value;

use crate::api::v1alpha1::{Severity, Time};

use super::object::{array, condition, controller, generation, int, int32, label, meta, string, text, time};
use super::workload::{FAILED_CREATE, Kind, Pod, Workload, pod_count, read_pod};
use super::{budget::storm::Claim, names};

/// Workloads of a namespace that are looked at; a bound for memory.
const MAX_WORKLOADS: usize = 5_000;
/// Images of a workload's failing containers that are remembered.
const MAX_IMAGES: usize = 8;
/// Workloads that are named in a sentence.
const NAMED: usize = 20;
/// A kubelet waits at most so long between two starts of a container that crashes, in seconds.
const LONGEST_BACK_OFF: i64 = 300;

/// So many workloads of a namespace that fail at once, and so much of all that it has, are a storm.
const STORMS: [(usize, usize); 2] = [
    // Three, which are at least half.
    (3, 2),
    // Five, which are at least a fifth.
    (5, 5),
];
/// The same change in so many workloads is a storm, whatever part of the namespace they are.
const SAME_CHANGE: usize = 3;

/// The workloads of a namespace, gathered from pages of its pods and of the workloads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Neighbours {
    workloads: BTreeMap<String, Neighbour>,
}

/// One workload as its pods show it.
#[derive(Clone, Debug, Default, PartialEq)]
struct Neighbour {
    /// Since when the first of its failing pods fails, or pods of it are refused; `None` while neither is the case.
    failing_since: Option<Time>,
    /// It has pods.
    has_pods: bool,
    /// A pod of it is ending or not ready: it may be waited for before the next one is made.
    waits: bool,
    /// Images of its failing containers.
    images: BTreeSet<String>,
}

/// A workload that lacks pods which its controller has to make, as the workload itself says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lacking {
    kind: Kind,
    /// As `Kind/name`.
    name: String,
    since: Time,
}

/// Many workloads of one namespace fail at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storm {
    /// Those that began to fail at about the same time, as `Kind/name`, the target among them.
    pub workloads: Vec<String>,
    /// Workloads that the namespace has, as far as they have pods.
    pub of: usize,
    /// The image that the failing containers of all of them share.
    pub image: Option<String>,
}

impl Neighbours {
    /// Adds what a page of the namespace's pods shows.
    pub fn add(&mut self, pods: &[Value], now: Time) {
        for pod in pods {
            let Some(name) = workload_of(pod) else { continue };
            if self.workloads.len() >= MAX_WORKLOADS && !self.workloads.contains_key(&name) {
                continue;
            }
            let read = read_pod(pod, None, now);
            if read.is_none() && !is_deleted(pod) {
                continue;
            }
            let found = self.workloads.entry(name).or_default();
            found.waits |= read.as_ref().is_none_or(|pod| !pod.fact.ready);
            let Some(read) = read else { continue };
            found.has_pods = true;
            if !read.fact.failure.is_hard() {
                continue;
            }
            let since = failing_since(&read, now);
            found.failing_since = Some(found.failing_since.map_or(since, |known| known.min(since)));
            if found.images.len() < MAX_IMAGES {
                found.images.extend(image_of(pod, &read.fact.container));
            }
        }
    }

    /// Adds workloads that lack pods, once all pods are known: while one of a StatefulSet or DaemonSet ends or is not
    /// ready, the next one may only wait for it.
    pub fn add_lacking(&mut self, all: Vec<Lacking>) {
        for Lacking { kind, name, since } in all {
            if self.workloads.len() >= MAX_WORKLOADS && !self.workloads.contains_key(&name) {
                continue;
            }
            let found = self.workloads.entry(name).or_default();
            if kind == Kind::Deployment || !found.waits {
                found.failing_since = Some(found.failing_since.map_or(since, |known| known.min(since)));
            }
        }
    }

    /// Workloads that have pods: what has none costs nobody anything, however many there are.
    pub fn count(&self) -> usize {
        self.workloads.values().filter(|neighbour| neighbour.has_pods).count()
    }

    /// Whether `target`, which fails, is one of many. `written` are workloads that were written to a short while ago, as
    /// `Kind/name`: they count, for they failed. Workloads that began to fail more than `window` apart are no storm.
    pub fn storm(&self, target: &Workload, written: &[&str], window: SignedDuration) -> Option<Storm> {
        let own = name_of(target);
        let begin = self.workloads.get(&own).and_then(|neighbour| neighbour.failing_since)?;
        let at_once = |neighbour: &Neighbour| {
            neighbour.failing_since.is_some_and(|since| since.duration_since(begin).abs() <= window)
        };
        let failing: BTreeSet<&str> =
            self.workloads.iter().filter(|(_, neighbour)| at_once(neighbour)).map(|(name, _)| name.as_str()).collect();
        let counted: BTreeSet<&str> = failing.iter().copied().chain(written.iter().copied()).collect();
        let images = |name: &str| self.workloads.get(name).map(|neighbour| &neighbour.images);
        let shares = |image: &String, name: &str| images(name).is_some_and(|images| images.contains(image));
        let sharing = |image: &String| failing.iter().filter(|name| shares(image, name)).count();
        let shipped = images(&own).into_iter().flatten().max_by_key(|image| sharing(image));
        let same = shipped.filter(|image| sharing(image) >= SAME_CHANGE);

        let has_pods = |name: &str| self.workloads.get(name).is_some_and(|neighbour| neighbour.has_pods);
        let of = self.count() + counted.iter().filter(|name| !has_pods(name)).count();
        let many = STORMS.iter().any(|(least, part)| counted.len() >= *least && counted.len() * part >= of);
        let of_one_image = || failing.iter().copied().filter(|name| same.is_some_and(|image| shares(image, name)));
        let workloads: Vec<String> = match (many, same) {
            (true, _) => counted.iter().map(|name| (*name).to_owned()).collect(),
            (false, Some(_)) => of_one_image().map(str::to_owned).collect(),
            (false, None) => return None,
        };
        let shared = shipped.filter(|image| failing.iter().all(|name| shares(image, name)));
        Some(Storm { workloads, of, image: if many { shared.cloned() } else { same.cloned() } })
    }
}

impl Lacking {
    /// What a workload of this kind says of itself; `None` where its pods are not refused. Only a Deployment says in a
    /// condition that they are, and since when. Of the others fewer are there than are wanted, and they began to be missing
    /// when somebody last changed them; what scaled them is none of that.
    pub fn of(kind: Kind, object: &Value) -> Option<Lacking> {
        let seen = int(object, "/status/observedGeneration").unwrap_or_default() >= generation(object);
        let name = meta(object, "name");
        if !seen || is_deleted(object) || name.is_empty() {
            return None;
        }
        let replicas = || object.pointer("/spec/replicas").map_or(1, |_| int32(object, "/spec/replicas"));
        let (there, wanted) = match kind {
            Kind::Deployment => (int32(object, "/status/updatedReplicas"), replicas()),
            Kind::StatefulSet => (pod_count(kind, object), replicas()),
            Kind::DaemonSet => (pod_count(kind, object), int32(object, "/status/desiredNumberScheduled")),
        };
        if there >= wanted {
            return None;
        }
        let since = match kind {
            Kind::Deployment => {
                let failure = condition(object, "ReplicaFailure")?;
                let refused = string(failure, "/status") == "True" && string(failure, "/reason") == FAILED_CREATE;
                time(failure, "/lastTransitionTime").filter(|_| refused)?
            }
            Kind::StatefulSet | Kind::DaemonSet => changed_at(object)?,
        };
        Some(Lacking { kind, name: format!("{kind}/{}", text(object, "/metadata/name", 253)), since })
    }
}

/// It is going away; a finalizer alone says nothing of that.
fn is_deleted(object: &Value) -> bool {
    !meta(object, "deletionTimestamp").is_empty()
}

/// When the spec of an object was last changed, by its managed fields; when it was made, where these do not say so.
fn changed_at(object: &Value) -> Option<Time> {
    let own = array(object, "/metadata/managedFields").iter().filter(|entry| string(entry, "/subresource").is_empty());
    own.filter_map(|entry| time(entry, "/time")).max().or_else(|| time(object, "/metadata/creationTimestamp"))
}

impl Storm {
    /// One that others noted before: of this one only the target itself is known.
    pub fn alone(target: &Workload) -> Storm {
        Storm { workloads: vec![name_of(target)], of: 1, image: None }
    }

    /// The same in a sentence.
    pub fn message(&self, namespace: &str) -> String {
        let (count, of) = (self.workloads.len(), self.of);
        let named: Vec<&str> = self.workloads.iter().take(NAMED).map(String::as_str).collect();
        let more = if count > NAMED { format!(" and {} more", count - NAMED) } else { String::new() };
        let shared = self.image.as_ref().map(|image| format!("; all run image {image}")).unwrap_or_default();
        format!(
            "{count} of the {of} workloads of namespace {namespace} began to fail at the same time: {}{more}{shared}. No \
             rollback of one of them is the answer: look at what they share",
            named.join(", ")
        )
    }

    /// What the Ledger notes of it.
    pub fn claim(&self, target: &Workload, incident: &str, severity: Severity) -> Claim {
        Claim {
            namespace: target.object.namespace.clone(),
            incident: incident.to_owned(),
            severity,
            target: name_of(target),
            workloads: self.workloads.clone(),
        }
    }
}

fn name_of(workload: &Workload) -> String {
    format!("{}/{}", workload.object.kind, workload.object.name)
}

/// The workload that a pod belongs to, as `Kind/name`; `None` for those of Jobs and of nobody.
fn workload_of(pod: &Value) -> Option<String> {
    let owner = controller(pod)?;
    let name = text(owner, "/name", 253);
    match string(owner, "/kind") {
        "ReplicaSet" => {
            let hash = label(pod, names::POD_TEMPLATE_HASH).filter(|hash| !hash.is_empty());
            let deployment = hash.and_then(|hash| name.strip_suffix(hash)?.strip_suffix('-').map(str::to_owned));
            Some(deployment.map_or(format!("ReplicaSet/{name}"), |name| format!("{}/{name}", Kind::Deployment)))
        }
        kind if kind == Kind::StatefulSet.as_str() || kind == Kind::DaemonSet.as_str() => {
            Some(format!("{kind}/{name}"))
        }
        _ => None,
    }
}

/// Since when a pod that fails does so. One whose restarts account for its whole life never worked.
fn failing_since(pod: &Pod, now: Time) -> Time {
    let fact = &pod.fact;
    let Some(created) = fact.created_at else { return now };
    let lived = now.duration_since(created).as_secs();
    let run = fact.ran_seconds.unwrap_or_default().clamp(0, LONGEST_BACK_OFF);
    let explained = i64::from(fact.restarts).saturating_add(1).saturating_mul(LONGEST_BACK_OFF + run);
    let changed = fact.ready_since.or(fact.last_terminated_at).unwrap_or(created).max(created);
    // The time of a pod that is not ready is since when it is not.
    if lived <= explained && fact.restarts > 0 { created } else { changed.min(now) }
}

/// The image of the container that fails.
fn image_of(pod: &Value, container: &str) -> Option<String> {
    let named = |list| array(pod, list).iter().find(|it| string(it, "/name") == container);
    let found = named("/spec/containers").or_else(|| named("/spec/initContainers"))?;
    Some(text(found, "/image", 512)).filter(|image| !image.is_empty())
}

#[cfg(test)]
#[path = "neighbours_tests.rs"]
mod tests;
