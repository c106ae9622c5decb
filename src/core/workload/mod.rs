//! What the cluster shows of one workload, as typed fields: the same pure functions for the investigator, whose facts
//! are leads, and for controller and executor, who compute everything again from quorum reads of their own.

mod age;
mod diff;
mod explains;
mod facts;
mod health;
mod kind;
mod missing;
mod obstacle;
mod pod_security;
mod pods;
mod proof;
mod references;
mod revisions;
mod state;
mod strategy;

#[cfg(test)]
pub mod fixtures;
#[cfg(test)]
mod kinds_tests;
#[cfg(test)]
mod tests;

pub use age::{ByAge, Sibling};
pub use diff::{diff_templates, same_template};
pub use explains::{
    Trouble, Unexplained, carries_hash, configuration_can_cause, explain, only_configuration, waits_for_objects,
};
pub use facts::{Draft, MAX_TEXT, number};
pub use kind::Kind;
pub use missing::{FAILED_CREATE, Refusals, lacks_pods, last_seen};
pub use obstacle::obstacle;
pub use pod_security::pod_security_changed;
pub use pods::{STABLE_SECONDS, read as read_pod};
pub use proof::{Proof, never_ready, proof};
pub use references::{Presence, TOGETHER_SECONDS, data_changed, is_looked_up, named, needs};
pub use revisions::{recorded_number, recorded_template};
pub use state::{complete, pods as pod_count, state};
pub use strategy::Strategy;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::api::v1alpha1::{
    FieldChange, ObjectRef, Obstacle, PodFact, PodFailure, RevisionDiffFact, RevisionFact, Time, WorkloadFact,
};
use crate::core::managers::{self, Seen};
use crate::core::object::{array, int, is_ending, object_ref, seconds, string_map, text};

use revisions::Recorded;

/// Owners of a workload that are named.
const MAX_OWNERS: usize = 8;
/// The field of a workload that holds its pod template.
const TEMPLATE: &str = "/spec/template";
/// Reason of the condition `Progressing` of a rollout that did not make progress in time.
const DEADLINE_EXCEEDED: &str = "ProgressDeadlineExceeded";

/// Raw JSON of a workload and of what belongs to it, as the API server gave it. Templates must stay untyped:
/// typed structs drop fields that they do not know and rewrite quantities.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawWorkload {
    /// The workload.
    pub object: Value,
    /// Its controllers, nearest first; empty for a topmost workload. Owners that the workload itself names need not be
    /// here.
    pub owners: Vec<ObjectRef>,
    /// Metadata of the workload of the same kind whose name is this one's with `-primary` at its end: what a canary
    /// controller makes of its target. `None` when there is none.
    pub primary: Option<Value>,
    /// Revisions that its selector chooses and that an object of another API group controls.
    pub rivals: Vec<Value>,
    /// Its ReplicaSets or ControllerRevisions, those that it controls only.
    pub revisions: Vec<Value>,
    /// Its pods.
    pub pods: Vec<Value>,
    /// What is known of why pods of a StatefulSet or DaemonSet are not made.
    pub refusals: Refusals,
    /// When it was read.
    pub read_at: Time,
}

/// A [`RawWorkload`] in typed fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// The workload, with UID.
    pub object: ObjectRef,
    /// Its kind.
    pub kind: Kind,
    /// Its state, with owners and managing tools.
    pub state: WorkloadFact,
    /// How a changed template reaches its pods.
    pub strategy: Strategy,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its current pod template as raw JSON.
    pub template: Value,
    /// The rest of its spec as raw JSON.
    pub spec: Value,
    /// It is being deleted, or has finalizers.
    pub ending: bool,
    /// Its revisions, newest first.
    pub revisions: Vec<Revision>,
    /// Its pods that are not ending, by name.
    pub pods: Vec<Pod>,
    /// When it was read.
    pub read_at: Time,
    /// When what its namespace enforces of pod security last changed; absent where it enforces nothing, or whoever read the
    /// workload does not look.
    pub pod_security_at: Option<Time>,
}

/// One recorded revision.
#[derive(Clone, Debug, PartialEq)]
pub struct Revision {
    /// The ReplicaSet or ControllerRevision, with UID.
    pub object: ObjectRef,
    /// Its typed fields.
    pub fact: RevisionFact,
    /// Its template as raw JSON, without what the workload's controller added: what a rollback would write.
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
    #[error("{kind} {name} is not a Deployment, StatefulSet or DaemonSet of apps/v1; no other kind records revisions")]
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
        let RawWorkload { object: raw, owners, primary, rivals, revisions, pods: raw_pods, refusals: _, read_at } =
            snapshot;
        let object = object_ref(raw, Kind::API_VERSION, Kind::Deployment.as_str());
        let Some(kind) = Kind::of(&object) else {
            return Err(WorkloadError::Kind { kind: object.kind, name: object.name });
        };
        if object.uid.is_empty() {
            return Err(WorkloadError::Missing { object: object.to_string(), field: "/metadata/uid" });
        }
        let mut spec = raw.get("spec").cloned().unwrap_or_default();
        let template = spec
            .as_object_mut()
            .and_then(|spec| spec.remove("template"))
            .filter(Value::is_object)
            .ok_or_else(|| WorkloadError::Missing { object: object.to_string(), field: TEMPLATE })?;
        let labels = string_map(raw, "/metadata/labels");
        let annotations = string_map(raw, "/metadata/annotations");

        let recorded = Recorded::of(kind, &object.uid, revisions, &template);
        let mut pods: Vec<Pod> = raw_pods
            .iter()
            .filter(|pod| recorded.owns(pod))
            .filter_map(|pod| pods::read(pod, recorded.revision_of(pod), *read_at))
            .collect();
        pods.sort_by(|a, b| a.object.name.cmp(&b.object.name));
        let mut revisions = recorded.counted(&pods);
        if kind != Kind::Deployment
            && let Some(current) = revisions.iter_mut().find(|revision| revision.fact.current)
        {
            current.fact.refused = missing::refused(snapshot, current.fact.created_at);
        }

        let mut state = state(kind, raw);
        let current = || revisions.iter().find(|revision| revision.fact.current).map(|current| current.fact.number);
        state.revision = state.revision.or_else(current);
        if state.progressing_reason == DEADLINE_EXCEEDED && state.observed_generation >= state.generation {
            let number = current();
            let of_it = |pod: &&mut Pod| number.is_some() && pod.fact.revision == number;
            pods.iter_mut().filter(of_it).for_each(|pod| never_ready_in_time(pod, *read_at));
        }
        state.owners = owner_names(raw, owners);
        state.managed_by = managers::managing(Seen { object: raw, primary: primary.as_ref(), rivals, pods: raw_pods });
        let strategy = Strategy::of(kind, raw);
        let (read_at, ending) = (*read_at, is_ending(raw));
        Ok(Workload {
            object,
            kind,
            state,
            strategy,
            labels,
            annotations,
            template,
            spec,
            ending,
            revisions,
            pods,
            read_at,
            pod_security_at: None,
        })
    }

    /// The value of a field of `spec`, by the JSON pointer of the object.
    pub fn field(&self, path: &str) -> Option<&Value> {
        let inside = |root: &str| path.strip_prefix(root).filter(|rest| rest.is_empty() || rest.starts_with('/'));
        match inside(TEMPLATE) {
            Some(rest) => self.template.pointer(rest),
            None => self.spec.pointer(inside("/spec").filter(|rest| !rest.is_empty())?),
        }
    }

    /// The revision whose template the workload has now; `None` while that is not recorded.
    pub fn current(&self) -> Option<&Revision> {
        self.revisions.iter().find(|revision| revision.fact.current)
    }

    /// Revisions other than the current one, newest first.
    pub fn earlier(&self) -> impl Iterator<Item = &Revision> {
        self.revisions.iter().filter(|revision| !revision.fact.current)
    }

    /// The revision that a rollback would return to: [`undo_choice`] among the earlier ones.
    pub fn undo_candidate(&self) -> Option<&Revision> {
        let current = self.current()?;
        let differing = self.earlier().filter(|revision| !self.diff(revision, current).changes.is_empty());
        undo_choice(differing, |revision| revision.fact.ready)
    }

    /// The revision of this number.
    pub fn revision(&self, number: i64) -> Option<&Revision> {
        self.revisions.iter().find(|revision| revision.fact.number == number)
    }

    /// Pods that fail in a way that a pod template can cause.
    pub fn failing_pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.iter().filter(|pod| pod.fact.failure.is_hard())
    }

    /// The node on which every pod that fails runs, if there is one: then the node may be at fault.
    pub fn failing_node(&self) -> Option<&str> {
        let mut nodes = self.failing_pods().map(|pod| pod.fact.node.as_str());
        let first = nodes.next().filter(|node| !node.is_empty())?;
        nodes.all(|node| node == first).then_some(first)
    }

    /// The current revision, with what the API server says when it refuses to create pods of it.
    pub fn refused(&self) -> Option<(&Revision, &Obstacle)> {
        let current = self.current()?;
        Some((current, current.fact.refused.as_ref()?))
    }

    /// Whether something fails in a way that a pod template can cause.
    pub fn fails(&self) -> bool {
        self.failing_pods().next().is_some() || self.refused().is_some()
    }

    /// Every way in which the current revision fails.
    pub fn troubles(&self) -> Vec<Trouble<'_>> {
        let Some(current) = self.current() else { return vec![] };
        let pods = self.pods_of_revision(current.fact.number).filter_map(|pod| Trouble::of_pod(&pod.fact));
        pods.chain(Trouble::of_revision(&current.fact)).collect()
    }

    /// Whether the changes from this earlier revision explain every way in which the current one fails; the first that
    /// they do not explain is the error. Where nothing fails, nothing is explained.
    pub fn explained<'a>(
        &self,
        earlier: &Revision,
        changes: &'a [FieldChange],
    ) -> Result<Vec<&'a FieldChange>, (PodFailure, Unexplained)> {
        let Some(current) = self.current() else { return Ok(vec![]) };
        let mut found = Vec::new();
        for trouble in self.troubles() {
            let by = explain(&trouble, &current.fact, &earlier.fact, changes);
            found.extend(by.map_err(|why| (trouble.failure, why))?);
        }
        Ok(found)
    }

    /// Pods that run the revision of this number.
    pub fn pods_of_revision(&self, number: i64) -> impl Iterator<Item = &Pod> {
        self.pods.iter().filter(move |pod| pod.fact.revision == Some(number))
    }

    /// Everything that was asked for runs and is ready and available, whatever a rollout replaces is of the current
    /// template, and no pod fails. A workload without replicas shows nothing, so it is not healthy.
    pub fn is_healthy(&self) -> bool {
        let WorkloadFact { desired, held_back, .. } = self.state;
        let count = |number: i32| usize::try_from(number).unwrap_or_default();
        // The workload's own counts hold pods of every revision: in the middle of a rollout the old ones are ready and
        // the new ones are only created.
        let current = self.current().map(|current| current.fact.number);
        let ready = || self.pods.iter().filter(|pod| pod.fact.ready);
        let updated = |pod: &&Pod| current.is_none_or(|number| pod.fact.revision == Some(number));
        complete(&self.state)
            && ready().count() >= count(desired)
            && ready().filter(updated).filter(|pod| self.is_replaced(pod)).count()
                >= count(desired.saturating_sub(held_back))
            && !self.fails()
    }

    /// Whether a rollout replaces this pod: not below a StatefulSet's partition, and with `OnDelete` none.
    pub fn is_replaced(&self, pod: &Pod) -> bool {
        match self.strategy {
            Strategy::RollingUpdate { partition: 0, .. } | Strategy::Recreate => true,
            Strategy::RollingUpdate { partition, .. } => {
                self.ordinal(pod).is_some_and(|ordinal| ordinal >= partition.into())
            }
            Strategy::OnDelete => false,
        }
    }

    /// Ordinal of a StatefulSet's pod, counted from the first one.
    pub fn ordinal(&self, pod: &Pod) -> Option<i64> {
        if self.kind != Kind::StatefulSet {
            return None;
        }
        let number = pod.object.name.strip_prefix(&self.object.name)?.strip_prefix('-')?;
        let start = int(&self.spec, "/ordinals/start").unwrap_or_default();
        number.parse::<i64>().ok()?.checked_sub(start).filter(|ordinal| *ordinal >= 0)
    }

    /// What changed from one revision to another, for people and for rules.
    pub fn diff(&self, from: &Revision, to: &Revision) -> RevisionDiffFact {
        diff_templates(&from.template, from.fact.number, &to.template, to.fact.number)
    }
}

/// A pod that only starts, and is old enough to have been part of the rollout that did not make progress in time.
fn never_ready_in_time(pod: &mut Pod, now: Time) {
    let old = pod.fact.created_at.is_some_and(|created| seconds(created, now) >= STABLE_SECONDS);
    if old && pod.fact.failure == PodFailure::Starting {
        pod.fact.failure = PodFailure::NeverReady;
    }
}

/// Of revisions that differ from the current one in more than a restart, newest first, the one to return to: the newest
/// that has ready replicas now, else the newest. After two bad releases in a row the newest earlier revision is the
/// first bad one; the one that still serves is the good one.
pub fn undo_choice<T>(differing: impl IntoIterator<Item = T>, ready: impl Fn(&T) -> i32) -> Option<T> {
    let mut differing = differing.into_iter();
    let newest = differing.next()?;
    if ready(&newest) > 0 {
        return Some(newest);
    }
    Some(differing.find(|revision| ready(revision) > 0).unwrap_or(newest))
}

/// The controllers above a workload, nearest first, and every other owner that it names: an owner that does not call
/// itself its controller may still write it back.
fn owner_names(object: &Value, above: &[ObjectRef]) -> Vec<String> {
    let mut names: Vec<String> = above.iter().map(|owner| format!("{}/{}", owner.kind, owner.name)).collect();
    for owner in array(object, "/metadata/ownerReferences") {
        let name = format!("{}/{}", text(owner, "/kind", 63), text(owner, "/name", 253));
        if names.len() < MAX_OWNERS && !names.contains(&name) {
            names.push(name);
        }
    }
    names.truncate(MAX_OWNERS);
    names
}
