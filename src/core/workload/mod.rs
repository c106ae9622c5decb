//! What the cluster shows of one workload, as typed fields: the same pure functions for the mind, whose facts
//! are leads, and for the judge, who computes everything again from its own quorum reads.

mod diff;
mod facts;
mod kind;
mod pods;
mod tools;

#[cfg(test)]
pub mod fixtures;
#[cfg(test)]
mod tests;

pub use diff::{diff_templates, same_template};
pub use facts::{Draft, MAX_TEXT, number};
pub use kind::Kind;
pub use pods::STABLE_SECONDS;

use std::collections::BTreeMap;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::api::v1alpha1::{ObjectRef, PodFact, RevisionDiffFact, RevisionFact, Time, WorkloadFact};
use crate::core::names;
use crate::core::object::{array, condition, int, int32, object_ref, owned_by, string, string_map, text, time};

/// Raw JSON of a workload and of what belongs to it, as the API server gave it. Templates must stay untyped:
/// typed structs drop fields that they do not know and rewrite quantities.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawWorkload {
    /// The workload.
    pub object: Value,
    /// Its controllers, nearest first; empty for a topmost workload.
    pub owners: Vec<ObjectRef>,
    /// Its ReplicaSets, those that it controls only.
    pub revisions: Vec<Value>,
    /// Its pods, those of its revisions only.
    pub pods: Vec<Value>,
    /// When it was read.
    pub read_at: Time,
}

/// A [`RawWorkload`] in typed fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// The workload, with UID.
    pub object: ObjectRef,
    /// Its state, with owners and managing tools.
    pub workload: WorkloadFact,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its current pod template as raw JSON.
    pub template: Value,
    /// Its revisions, newest first.
    pub revisions: Vec<Revision>,
    /// Its pods that are not ending, by name.
    pub pods: Vec<Pod>,
    /// When it was read.
    pub read_at: Time,
}

/// One recorded revision.
#[derive(Clone, Debug, PartialEq)]
pub struct Revision {
    /// The ReplicaSet, with UID.
    pub object: ObjectRef,
    /// Its typed fields.
    pub fact: RevisionFact,
    /// Its template as raw JSON, without the label `pod-template-hash`: what a rollback would write.
    pub template: Value,
    /// SHA-256 of that template's canonical JSON, 64 hexadecimal characters.
    pub template_hash: String,
}

/// One pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    /// The pod, with UID.
    pub object: ObjectRef,
    /// Its typed fields.
    pub fact: PodFact,
}

/// Why a [`RawWorkload`] cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkloadError {
    /// The object is of a kind whose revisions are not understood.
    #[error("{kind} {name} is not an apps/v1 Deployment; only Deployments can be read so far")]
    Kind {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// The object lacks what every stored object has.
    #[error("{object} has no {field}; read it again from the API server")]
    Missing {
        /// Which object.
        object: String,
        /// JSON pointer of the field.
        field: &'static str,
    },
}

impl Workload {
    /// Reads a snapshot. Whatever is absent or of another type than Kubernetes writes counts as absent; a child
    /// that lacks its identity is left out.
    pub fn of(snapshot: &RawWorkload) -> Result<Workload, WorkloadError> {
        let RawWorkload { object: raw, owners, revisions, pods, read_at } = snapshot;
        let object = object_ref(raw, "apps/v1", "Deployment");
        if object.kind != "Deployment" || !object.api_version.starts_with("apps/") {
            return Err(WorkloadError::Kind { kind: object.kind, name: object.name });
        }
        if object.uid.is_empty() {
            return Err(WorkloadError::Missing { object: object.to_string(), field: "/metadata/uid" });
        }
        let template = raw
            .pointer("/spec/template")
            .filter(|template| template.is_object())
            .cloned()
            .ok_or_else(|| WorkloadError::Missing { object: object.to_string(), field: "/spec/template" })?;
        let labels = string_map(raw, "/metadata/labels");
        let annotations = string_map(raw, "/metadata/annotations");

        let owned: Vec<&Value> = revisions.iter().filter(|set| owned_by(set, &object.uid)).collect();
        let mut revisions: Vec<Revision> = owned.iter().filter_map(|set| revision(set, &template)).collect();
        revisions.sort_by(|a, b| b.fact.number.cmp(&a.fact.number).then_with(|| a.object.name.cmp(&b.object.name)));
        // Two sets with one template exist only after a hash collision; the newer one is the current one.
        let mut seen = false;
        for revision in &mut revisions {
            revision.fact.current &= !seen;
            seen |= revision.fact.current;
        }

        let mut pods: Vec<Pod> = pods
            .iter()
            .filter(|pod| owned.iter().any(|set| owned_by(pod, string(set, "/metadata/uid"))))
            .filter_map(|pod| pods::read(pod, &revisions, *read_at))
            .collect();
        pods.sort_by(|a, b| a.object.name.cmp(&b.object.name));

        let workload = WorkloadFact {
            generation: int(raw, "/metadata/generation").unwrap_or_default(),
            observed_generation: int(raw, "/status/observedGeneration").unwrap_or_default(),
            desired: raw.pointer("/spec/replicas").map_or(1, |_| int32(raw, "/spec/replicas")),
            updated: int32(raw, "/status/updatedReplicas"),
            ready: int32(raw, "/status/readyReplicas"),
            available: int32(raw, "/status/availableReplicas"),
            paused: raw.pointer("/spec/paused").and_then(Value::as_bool).unwrap_or_default(),
            revision: annotations.get(names::REVISION).and_then(|number| number.parse().ok()).unwrap_or_default(),
            progressing_reason: condition(raw, "Progressing").map(|c| text(c, "/reason", 128)).unwrap_or_default(),
            owners: owners.iter().take(8).map(|owner| format!("{}/{}", owner.kind, owner.name)).collect(),
            managed_by: tools::managing(raw, &labels, &annotations),
        };
        Ok(Workload { object, workload, labels, annotations, template, revisions, pods, read_at: *read_at })
    }

    /// The revision whose template the workload has now; `None` while no ReplicaSet for it exists.
    pub fn current(&self) -> Option<&Revision> {
        self.revisions.iter().find(|revision| revision.fact.current)
    }

    /// Revisions other than the current one, newest first.
    pub fn earlier(&self) -> impl Iterator<Item = &Revision> {
        self.revisions.iter().filter(|revision| !revision.fact.current)
    }

    /// The revision that a rollback would return to: of the earlier ones that differ from the current one in more
    /// than a restart, the newest that has ready replicas now, else the newest. After two bad releases in a row the
    /// newest earlier revision is the first bad one; the one that still serves is the good one.
    pub fn undo_candidate(&self) -> Option<&Revision> {
        let current = self.current()?;
        let mut differing =
            self.earlier().filter(|revision| !self.diff(revision, current).changes.is_empty()).peekable();
        let newest = differing.peek().copied();
        differing.find(|revision| revision.fact.ready > 0).or(newest)
    }

    /// The revision of this number.
    pub fn revision(&self, number: i64) -> Option<&Revision> {
        self.revisions.iter().find(|revision| revision.fact.number == number)
    }

    /// Pods that fail in a way that a pod template can cause.
    pub fn failing_pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.iter().filter(|pod| pod.fact.failure.is_hard())
    }

    /// Pods that run the revision of this number.
    pub fn pods_of_revision(&self, number: i64) -> impl Iterator<Item = &Pod> {
        self.pods.iter().filter(move |pod| pod.fact.revision == number)
    }

    /// Everything that was asked for runs, is of the current template and is ready, and no pod fails.
    pub fn is_healthy(&self) -> bool {
        let WorkloadFact { generation, observed_generation, desired, updated, ready, available, .. } = self.workload;
        observed_generation >= generation
            && updated >= desired
            && ready >= desired
            && available >= desired
            && self.ready_now() >= usize::try_from(desired).unwrap_or_default()
            && self.failing_pods().next().is_none()
    }

    /// Ready pods of the current revision. The workload's own counts hold pods of every revision: in the middle of a
    /// rollout the old ones are ready and the new ones are only made.
    fn ready_now(&self) -> usize {
        let number = self.current().map(|current| current.fact.number);
        let counts = |pod: &&Pod| pod.fact.ready && number.is_none_or(|number| pod.fact.revision == number);
        self.pods.iter().filter(counts).count()
    }

    /// What changed from one revision to another, for people and for rules.
    pub fn diff(&self, from: &Revision, to: &Revision) -> RevisionDiffFact {
        diff_templates(&from.template, from.fact.number, &to.template, to.fact.number)
    }
}

fn revision(set: &Value, current: &Value) -> Option<Revision> {
    let object = object_ref(set, "apps/v1", "ReplicaSet");
    let number = set
        .pointer("/metadata/annotations")
        .and_then(|annotations| annotations.get(names::REVISION))
        .and_then(Value::as_str)
        .and_then(|number| number.parse::<i64>().ok())
        .filter(|number| *number > 0)?;
    let mut template = set.pointer("/spec/template").filter(|template| template.is_object())?.clone();
    if object.uid.is_empty() || object.name.is_empty() {
        return None;
    }
    // Nothing else is touched, `creationTimestamp: null` of older API servers included: they print the same in the
    // Deployment, and what is granted is compared with it as a whole.
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(names::POD_TEMPLATE_HASH);
    }
    let template_hash = hex::encode(Sha256::digest(names::canonical(&template).as_bytes()));
    let images = array(&template, "/spec/initContainers").iter().chain(array(&template, "/spec/containers"));
    let fact = RevisionFact {
        number,
        current: same_template(&template, current),
        replicas: int32(set, "/status/replicas"),
        ready: int32(set, "/status/readyReplicas"),
        created_at: time(set, "/metadata/creationTimestamp"),
        template_hash: template_hash[..16].to_owned(),
        images: images.map(|container| text(container, "/image", 512)).filter(|i| !i.is_empty()).take(32).collect(),
    };
    Some(Revision { object, fact, template, template_hash })
}
