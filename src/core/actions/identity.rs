//! Identity of one exact action: what the controller writes down, a person approves and the executor computes again.

use crate::{
    api::v1alpha1::{Action, ObjectRef, Purpose, RemediationSpec, Write},
    core::names,
};

/// SHA-256 over everything that makes the action what it is: parameters, target, write and provenance, as 64
/// hexadecimal characters. An Approval names it.
pub fn digest(action: &Action, target: &ObjectRef, write: &Write, provenance: Option<&ObjectRef>) -> String {
    let text = |value: serde_json::Result<serde_json::Value>| names::canonical(&value.unwrap_or_default());
    names::digest(&[
        &text(serde_json::to_value(action)),
        &text(serde_json::to_value(target)),
        &text(serde_json::to_value(write)),
        &text(serde_json::to_value(provenance)),
    ])
}

/// Identity of one use of an action: the same fix for the same incident has the same id, so that it cannot be
/// made twice. 32 hexadecimal characters, because it is an annotation and part of names.
pub fn action_id(incident: &str, purpose: Purpose, digest: &str) -> String {
    let purpose = match purpose {
        Purpose::Repair => "Repair",
        Purpose::Undo => "Undo",
        Purpose::ReplacePod => "ReplacePod",
    };
    names::short_digest(&["action", incident, purpose, digest])
}

/// Digest and id as they follow from the other fields of `spec`.
pub fn identity(spec: &RemediationSpec) -> (String, String) {
    let digest = digest(&spec.action, &spec.target, &spec.write, spec.provenance.as_ref());
    let id = action_id(&spec.incident, spec.purpose, &digest);
    (digest, id)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::v1alpha1::{EvictWrite, FieldWrite, RolloutUndo};

    fn object(name: &str) -> ObjectRef {
        ObjectRef {
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            namespace: "shop".into(),
            name: name.into(),
            uid: format!("uid-{name}"),
        }
    }

    fn field(path: &str, before: Value, after: Value) -> Write {
        Write::Field(FieldWrite { path: path.into(), before, after })
    }

    #[test]
    fn every_part_changes_the_digest() {
        let undo = |to_revision| Action::RolloutUndo(RolloutUndo { to_revision });
        let target = object("cart");
        let write = field("/spec/template", json!({"a": 1}), json!({"a": 2}));
        let from = object("cart-1");
        let base = digest(&undo(1), &target, &write, Some(&from));
        let mut all = vec![base.clone(), digest(&undo(2), &target, &write, Some(&from))];
        for other in [
            ObjectRef { uid: "v".into(), ..target.clone() },
            ObjectRef { name: "x".into(), ..target.clone() },
            ObjectRef { namespace: "x".into(), ..target.clone() },
            ObjectRef { kind: "x".into(), ..target.clone() },
            ObjectRef { api_version: "x".into(), ..target.clone() },
        ] {
            all.push(digest(&undo(1), &other, &write, Some(&from)));
        }
        for other in [
            field("/spec", json!({"a": 1}), json!({"a": 2})),
            field("/spec/template", json!({"a": 3}), json!({"a": 2})),
            field("/spec/template", json!({"a": 1}), json!({"a": 3})),
            Write::Evict(EvictWrite { pod: object("cart-0") }),
            Write::Evict(EvictWrite { pod: object("cart-1") }),
        ] {
            all.push(digest(&undo(1), &target, &other, Some(&from)));
        }
        all.push(digest(&undo(1), &target, &write, None));
        all.push(digest(&undo(1), &target, &write, Some(&object("cart-2"))));
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
        assert_eq!(base.len(), 64);
    }

    #[test]
    fn each_purpose_of_one_incident_has_its_own_id() {
        let ids = [Purpose::Repair, Purpose::Undo, Purpose::ReplacePod].map(|purpose| action_id("i", purpose, "d"));
        assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);
        assert!(ids.iter().all(|id| id.len() == 32));
    }
}
