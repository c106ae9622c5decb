//! What the cluster shows of one workload, as typed fields: the same pure functions for the mind, whose facts
//! are leads, and for the judge, who computes everything again from its own quorum reads.

use serde_json::Value;

use crate::api::v1alpha1::{ObjectRef, PodFact, RevisionFact, Time, WorkloadFact};

/// Raw JSON of a workload and of what belongs to it, as the API server gave it. Templates must stay untyped:
/// typed structs drop fields that they do not know and rewrite quantities.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
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

/// A [`Snapshot`] in typed fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The workload, with UID.
    pub object: ObjectRef,
    /// Its state, with owners and managing tools.
    pub workload: WorkloadFact,
    /// Its labels.
    pub labels: std::collections::BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: std::collections::BTreeMap<String, String>,
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
