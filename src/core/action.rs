//! Identity of one exact action.

use serde_json::Value;

use crate::api::v1alpha1::{ActionKind, ObjectRef, Purpose};

use super::names;

/// SHA-256 over what exactly would be written where: kind, target, path, before and after. An Approval names it, the
/// hands compute it again.
pub fn digest(kind: ActionKind, target: &ObjectRef, path: &str, before: &Value, after: &Value) -> String {
    names::digest(&[
        &kind.to_string(),
        &target.api_version,
        &target.kind,
        &target.namespace,
        &target.name,
        &target.uid,
        path,
        &names::canonical(before),
        &names::canonical(after),
    ])
}

/// Action id: 32 hexadecimal characters over incident, purpose and digest. The same action in the same incident is
/// the same action.
pub fn id(incident: &str, purpose: Purpose, digest: &str) -> String {
    let purpose = match purpose {
        Purpose::Repair => "repair",
        Purpose::Undo => "undo",
    };
    names::short_digest(&["action", incident, purpose, digest])
}
