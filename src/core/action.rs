//! Identity of one exact action: what the judge writes down, a person approves and the hands compute again.

use serde_json::Value;

use crate::{
    api::v1alpha1::{ActionKind, ObjectRef, Purpose, RemediationSpec},
    core::names,
};

/// SHA-256 over everything that makes the action what it is: kind, target, path and both exact values.
pub fn digest(kind: ActionKind, target: &ObjectRef, path: &str, before: &Value, after: &Value) -> String {
    let ObjectRef { api_version, kind: target_kind, namespace, name, uid } = target;
    names::digest(&[
        &kind.to_string(),
        api_version,
        target_kind,
        namespace,
        name,
        uid,
        path,
        &names::canonical(before),
        &names::canonical(after),
    ])
}

/// Identity of one use of an action: the same fix for the same incident has the same id, so that it cannot be
/// made twice. 32 hexadecimal characters, because it is an annotation and part of names.
pub fn action_id(incident: &str, purpose: Purpose, digest: &str) -> String {
    let purpose = match purpose {
        Purpose::Repair => "Repair",
        Purpose::Undo => "Undo",
    };
    names::short_digest(&["action", incident, purpose, digest])
}

/// Digest and id as they follow from the other fields of `spec`.
pub fn identity(spec: &RemediationSpec) -> (String, String) {
    let digest = digest(spec.kind, &spec.target, &spec.path, &spec.before, &spec.after);
    let id = action_id(&spec.incident, spec.purpose, &digest);
    (digest, id)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_part_changes_the_digest() {
        let target = ObjectRef {
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            namespace: "shop".into(),
            name: "cart".into(),
            uid: "u".into(),
        };
        let base = digest(ActionKind::RolloutUndo, &target, "/spec/template", &json!({"a": 1}), &json!({"a": 2}));
        let mut all = vec![base.clone()];
        let mut other = |target: &ObjectRef, path: &str, before: Value, after: Value| {
            all.push(digest(ActionKind::RolloutUndo, target, path, &before, &after));
        };
        other(&ObjectRef { uid: "v".into(), ..target.clone() }, "/spec/template", json!({"a": 1}), json!({"a": 2}));
        other(&ObjectRef { name: "x".into(), ..target.clone() }, "/spec/template", json!({"a": 1}), json!({"a": 2}));
        other(
            &ObjectRef { namespace: "x".into(), ..target.clone() },
            "/spec/template",
            json!({"a": 1}),
            json!({"a": 2}),
        );
        other(&ObjectRef { kind: "x".into(), ..target.clone() }, "/spec/template", json!({"a": 1}), json!({"a": 2}));
        other(
            &ObjectRef { api_version: "x".into(), ..target.clone() },
            "/spec/template",
            json!({"a": 1}),
            json!({"a": 2}),
        );
        other(&target, "/spec", json!({"a": 1}), json!({"a": 2}));
        other(&target, "/spec/template", json!({"a": 3}), json!({"a": 2}));
        other(&target, "/spec/template", json!({"a": 1}), json!({"a": 3}));
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
        assert_eq!(base.len(), 64);
    }

    #[test]
    fn repair_and_undo_of_one_incident_have_different_ids() {
        assert_ne!(action_id("i", Purpose::Repair, "d"), action_id("i", Purpose::Undo, "d"));
        assert_eq!(action_id("i", Purpose::Repair, "d").len(), 32);
    }
}
