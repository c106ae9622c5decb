//! The revisions that a workload recorded, and which of them a pod runs.
//!
//! | | Deployment | StatefulSet | DaemonSet |
//! |---|---|---|---|
//! | recorded as | ReplicaSet | ControllerRevision | ControllerRevision |
//! | number | annotation `deployment.kubernetes.io/revision` | `revision` | `revision` |
//! | template | `spec.template` and the label `pod-template-hash` | `data.spec.template` and the key `$patch` | the same |
//! | a pod names it by | its owner | label `controller-revision-hash`: the name | the same label: the hash |
//!
//! A rollback gives the revision that it returns to a new number, so a number names a revision only for a moment; its
//! object keeps name, UID and date of creation.

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{
    Kind, Pod, Revision,
    diff::{plain, same_template},
    obstacle::words,
    references::references,
};
use crate::api::v1alpha1::{Obstacle, RevisionFact};
use crate::core::names;
use crate::core::object::{
    array, condition, controller_uid, int, int32, label, object_ref, owned_by, string, text, time,
};

/// The key of a ControllerRevision's template that makes it a strategic merge patch.
const PATCH: &str = "$patch";
/// Label of pods, and of a DaemonSet's ControllerRevisions, that ties the one to the other.
const REVISION_HASH: &str = "controller-revision-hash";

/// The pod template that `revision` recorded for a workload of this kind, without what the workload's controller added
/// to it. `None` when it holds none.
pub fn recorded_template(kind: Kind, revision: &Value) -> Option<Value> {
    let pointer = match kind {
        Kind::Deployment => "/spec/template",
        Kind::StatefulSet | Kind::DaemonSet => "/data/spec/template",
    };
    let mut template = revision.pointer(pointer).filter(|template| template.is_object())?.clone();
    match kind {
        Kind::Deployment => {
            if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
                labels.remove(names::POD_TEMPLATE_HASH);
            }
        }
        Kind::StatefulSet | Kind::DaemonSet => {
            template.as_object_mut()?.remove(PATCH);
        }
    }
    Some(template)
}

/// Number of a recorded revision of a workload of this kind; at least 1.
pub fn recorded_number(kind: Kind, revision: &Value) -> Option<i64> {
    let number = match kind {
        Kind::Deployment => {
            let annotations = revision.pointer("/metadata/annotations")?;
            annotations.get(names::REVISION)?.as_str()?.parse().ok()?
        }
        Kind::StatefulSet | Kind::DaemonSet => int(revision, "/revision")?,
    };
    (number > 0).then_some(number)
}

/// Revisions of one workload.
pub struct Recorded {
    /// Newest first; replicas are not counted yet where pods have to be.
    pub revisions: Vec<Revision>,
    kind: Kind,
    workload_uid: String,
    /// What a pod names a revision by, and the revision's number.
    keys: Vec<(String, i64)>,
    /// UIDs of all that the workload owns, those that cannot be read included.
    owned: Vec<String>,
}

impl Recorded {
    /// Reads the revisions among `objects` that the workload controls; `current` is its template.
    pub fn of(kind: Kind, workload_uid: &str, objects: &[Value], current: &Value) -> Recorded {
        let owned: Vec<&Value> = objects.iter().filter(|object| owned_by(object, workload_uid)).collect();
        let mut read: Vec<(String, Revision)> =
            owned.iter().filter_map(|object| Some((key(kind, object), revision(kind, object, current)?))).collect();
        read.sort_by(|(_, a), (_, b)| {
            b.fact.number.cmp(&a.fact.number).then_with(|| a.object.name.cmp(&b.object.name))
        });
        // Two with one template exist only after a hash collision; the newer one is the current one.
        let mut seen = false;
        for (_, revision) in &mut read {
            revision.fact.current &= !seen;
            seen |= revision.fact.current;
        }
        Recorded {
            kind,
            workload_uid: workload_uid.to_owned(),
            keys: read.iter().map(|(key, revision)| (key.clone(), revision.fact.number)).collect(),
            owned: owned.iter().map(|object| string(object, "/metadata/uid").to_owned()).collect(),
            revisions: read.into_iter().map(|(_, revision)| revision).collect(),
        }
    }

    /// Whether a pod belongs to the workload.
    pub fn owns(&self, pod: &Value) -> bool {
        let Some(owner) = controller_uid(pod).filter(|uid| !uid.is_empty()) else { return false };
        match self.kind {
            Kind::Deployment => self.owned.iter().any(|uid| uid == owner),
            Kind::StatefulSet | Kind::DaemonSet => owner == self.workload_uid,
        }
    }

    /// Number of the revision that a pod of the workload runs.
    pub fn revision_of(&self, pod: &Value) -> Option<i64> {
        let named = match self.kind {
            Kind::Deployment => controller_uid(pod),
            Kind::StatefulSet | Kind::DaemonSet => label(pod, REVISION_HASH),
        };
        let named = named.filter(|name| !name.is_empty())?;
        self.keys.iter().find(|(key, _)| key == named).map(|(_, number)| *number)
    }

    /// The revisions with their replicas. A ReplicaSet counts its own; of a ControllerRevision the pods are counted.
    pub fn counted(mut self, pods: &[Pod]) -> Vec<Revision> {
        if self.kind != Kind::Deployment {
            for revision in &mut self.revisions {
                let of = || pods.iter().filter(|pod| pod.fact.revision == Some(revision.fact.number));
                let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
                (revision.fact.replicas, revision.fact.ready) =
                    (count(of().count()), count(of().filter(|pod| pod.fact.ready).count()));
            }
        }
        self.revisions
    }
}

/// What pods name a revision by.
fn key(kind: Kind, revision: &Value) -> String {
    let key = match kind {
        Kind::Deployment => string(revision, "/metadata/uid"),
        Kind::StatefulSet => string(revision, "/metadata/name"),
        Kind::DaemonSet => label(revision, REVISION_HASH).unwrap_or_default(),
    };
    key.to_owned()
}

fn revision(kind: Kind, recorded: &Value, current: &Value) -> Option<Revision> {
    let object = object_ref(recorded, Kind::API_VERSION, kind.revision_kind());
    let number = recorded_number(kind, recorded)?;
    let mut template = recorded_template(kind, recorded)?;
    if object.uid.is_empty() || object.name.is_empty() {
        return None;
    }
    if kind != Kind::Deployment {
        print_alike(&mut template, current);
    }
    // The same for every version of the API server, so that a mark as known good outlives an upgrade.
    let template_hash = hex::encode(Sha256::digest(names::canonical(&plain(&template, false)).as_bytes()));
    let containers = || array(&template, "/spec/initContainers").iter().chain(array(&template, "/spec/containers"));
    let names = |field: &str, limit: usize| {
        containers().map(|container| text(container, field, limit)).filter(|text| !text.is_empty()).collect::<Vec<_>>()
    };
    let fact = RevisionFact {
        number,
        current: same_template(&template, current),
        replicas: int32(recorded, "/status/replicas"),
        ready: int32(recorded, "/status/readyReplicas"),
        created_at: time(recorded, "/metadata/creationTimestamp"),
        template_hash: template_hash[..16].to_owned(),
        images: names("/image", 512).into_iter().take(32).collect(),
        containers: names("/name", 253).into_iter().take(64).collect(),
        references: references(&template),
        refused: if kind == Kind::Deployment { refused(recorded) } else { None },
    };
    Some(Revision { object, fact, template, template_hash })
}

/// Why the API server refuses to create pods of this ReplicaSet, while it lacks some. Its controller takes the condition
/// back when a pod is created.
fn refused(set: &Value) -> Option<Obstacle> {
    let failure = condition(set, "ReplicaFailure")?;
    let created = string(failure, "/status") == "True" && string(failure, "/reason") == "FailedCreate";
    let lacks = int32(set, "/status/replicas") < int32(set, "/spec/replicas");
    if created && lacks { words(string(failure, "/message")) } else { None }
}

/// The API server keeps a ControllerRevision's data as it was sent, and prints a workload's template as its own version
/// does: one before 1.34 with `creationTimestamp: null`. What is written is compared with what it prints, as a whole.
fn print_alike(template: &mut Value, current: &Value) {
    const FIELD: &str = "creationTimestamp";
    let printed = current.pointer("/metadata/creationTimestamp").is_some_and(Value::is_null);
    let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    let recorded = metadata.get(FIELD);
    if printed && recorded.is_none() {
        metadata.insert(FIELD.to_owned(), Value::Null);
    } else if !printed && recorded.is_some_and(Value::is_null) {
        metadata.remove(FIELD);
    }
}
