//! JSON patches as data, built from the object as it was read just before.
//!
//! Each begins with `replace /metadata/resourceVersion`: the API server answers 409 when anything changed since,
//! and nothing is written. No `test` operation stands beside it: a failing one would hide that clean 409 behind
//! a 422.

use serde_json::{Map, Value, json};

use super::Probe;
use crate::{
    api::v1alpha1::{ObjectRef, RemediationSpec, RemediationStatus},
    core::{actions, fit::fitted, names, object},
};

/// An annotation that no write of the executor sets.
pub const SELF_TEST: &str = "backstop.dev/self-test";

fn pointer(map: &str, key: &str) -> String {
    format!("/metadata/{map}/{}", key.replace('~', "~0").replace('/', "~1"))
}

fn guarded(object: &Value) -> Vec<Value> {
    vec![
        json!({"op": "replace", "path": "/metadata/resourceVersion", "value": object::meta(object, "resourceVersion")}),
    ]
}

/// `add` needs its parent to exist.
fn add(patch: &mut Vec<Value>, object: &Value, map: &str, key: &str, value: &str) {
    let parent = format!("/metadata/{map}");
    let made = patch.iter().any(|op| op.get("path").and_then(Value::as_str) == Some(&parent));
    if object.pointer(&parent).is_none_or(Value::is_null) && !made {
        patch.push(json!({"op": "add", "path": parent, "value": Map::new()}));
    }
    patch.push(json!({"op": "add", "path": pointer(map, key), "value": value}));
}

fn remove(patch: &mut Vec<Value>, object: &Value, map: &str, key: &str) {
    if object.get("metadata").and_then(|meta| meta.get(map)).and_then(|map| map.get(key)).is_some() {
        patch.push(json!({"op": "remove", "path": pointer(map, key)}));
    }
}

/// Adds label and annotation, changes nothing else.
pub fn arm(target: &Value, spec: &RemediationSpec) -> Value {
    let mut patch = guarded(target);
    add(&mut patch, target, "labels", names::ARMED, actions::of(spec.action.kind()).armed_label);
    add(&mut patch, target, "annotations", names::ACTION, &spec.action_id);
    Value::Array(patch)
}

/// Takes label and annotation off, changes nothing else.
pub fn disarm(target: &Value) -> Value {
    let mut patch = guarded(target);
    remove(&mut patch, target, "labels", names::ARMED);
    remove(&mut patch, target, "annotations", names::ACTION);
    Value::Array(patch)
}

/// Takes label and annotation off, leaves `last-action`, and makes the one change.
pub fn fire(target: &Value, spec: &RemediationSpec) -> Value {
    let after = spec.write.field().map(|field| field.after.clone());
    Value::Array(fire_with(target, spec, after))
}

fn fire_with(target: &Value, spec: &RemediationSpec, after: Option<Value>) -> Vec<Value> {
    let mut patch = guarded(target);
    remove(&mut patch, target, "labels", names::ARMED);
    remove(&mut patch, target, "annotations", names::ACTION);
    add(&mut patch, target, "annotations", names::LAST_ACTION, &spec.action_id);
    if let (Some(field), Some(after)) = (spec.write.field(), after) {
        patch.push(json!({"op": "replace", "path": field.path, "value": after}));
    }
    patch
}

/// A fire with a value that was not granted.
pub fn wrong_fire(target: &Value, spec: &RemediationSpec) -> Value {
    let wrong = actions::of(spec.action.kind()).wrong_value;
    Value::Array(fire_with(target, spec, spec.write.field().map(wrong)))
}

/// A write on an object that is not armed, which exactly one policy has to refuse. Not guarded by a
/// resourceVersion: it is only ever asked, never made.
pub fn probe(target: &Value, probe: Probe) -> Value {
    let mut patch = Vec::new();
    match probe {
        Probe::Static => add(&mut patch, target, "annotations", SELF_TEST, "static"),
        Probe::Grant => add(&mut patch, target, "labels", names::ARMED, "self-test-grant"),
        Probe::Provenance => add(&mut patch, target, "labels", names::ARMED, "self-test-provenance"),
        // Those two are asked with values of the action: `wrong_fire` and `wrong_eviction`.
        Probe::OtherValue | Probe::OtherPod => {}
    }
    Value::Array(patch)
}

/// The Eviction of a pod. It carries what an armed object does, and the UID is its precondition.
pub fn eviction(pod: &ObjectRef, spec: &RemediationSpec) -> Value {
    eviction_of(pod, &pod.uid, spec)
}

/// The Eviction of another pod of the same name, which was not granted and does not exist.
pub fn wrong_eviction(pod: &ObjectRef, spec: &RemediationSpec) -> Value {
    eviction_of(pod, &format!("not-{}", pod.uid), spec)
}

fn eviction_of(pod: &ObjectRef, uid: &str, spec: &RemediationSpec) -> Value {
    json!({
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {
            "namespace": pod.namespace,
            "name": pod.name,
            "labels": {names::ARMED: actions::of(spec.action.kind()).armed_label},
            "annotations": {names::ACTION: spec.action_id},
        },
        "deleteOptions": {"preconditions": {"uid": uid}},
    })
}

/// Labels a revision as the one that a rollback may land on.
pub fn mark(revision: &Value) -> Value {
    let mut patch = guarded(revision);
    add(&mut patch, revision, "labels", names::UNDO_TO, "true");
    Value::Array(patch)
}

/// Takes that label off.
pub fn unmark(revision: &Value) -> Value {
    let mut patch = guarded(revision);
    remove(&mut patch, revision, "labels", names::UNDO_TO);
    Value::Array(patch)
}

/// Replaces the whole status; the executor is its only writer.
pub fn status(resource_version: &str, status: &RemediationStatus) -> Value {
    json!([
        {"op": "replace", "path": "/metadata/resourceVersion", "value": resource_version},
        {"op": "add", "path": "/status", "value": fitted(status.clone())},
    ])
}

/// `object` as it is after `patch`, or why the patch does not fit.
pub fn apply(object: &Value, patch: &Value) -> Result<Value, String> {
    let patch: json_patch::Patch = serde_json::from_value(patch.clone()).map_err(|error| error.to_string())?;
    let mut after = object.clone();
    json_patch::patch(&mut after, &patch.0).map_err(|error| error.to_string())?;
    Ok(after)
}
