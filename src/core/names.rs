//! Labels, annotations and hashed names: the words that our code, the chart's admission policies and people share.

use sha2::{Digest, Sha256};

/// Label on a workload while one granted write is in flight; its value is the kind of action.
pub const ARMED: &str = "backstop.dev/armed";
/// Annotation on a workload while it is armed: the action id.
pub const ACTION: &str = "backstop.dev/action";
/// Annotation on a workload since the last write of ours: the action id.
pub const LAST_ACTION: &str = "backstop.dev/last-action";
/// Label on the one revision that a rollback may land on.
pub const UNDO_TO: &str = "backstop.dev/undo-to";
/// Label on a namespace: enrolment, mode and kill switch in one.
pub const MODE: &str = "backstop.dev/mode";
/// Label on our own objects: name of the Incident.
pub const INCIDENT: &str = "backstop.dev/incident";
/// Label on a Remediation: kind of its action, for its printer column.
pub const ACTION_KIND: &str = "backstop.dev/action-kind";
/// Annotation by which people protect a workload from every write of ours.
pub const PROTECTED: &str = "backstop.dev/protected";
/// Annotation of a Deployment and its ReplicaSets: number of the revision.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
/// Label that the Deployment controller adds to a ReplicaSet's template.
pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";
/// Annotation that `kubectl rollout restart` sets on a template.
pub const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";
/// Name of the one Grant of a namespace.
pub const GRANT: &str = "active";
/// Field manager of the hands; the grant policy looks for it in managedFields.
pub const EXECUTOR: &str = "backstop-executor";
/// Field manager of the judge.
pub const CONTROLLER: &str = "backstop-controller";
/// Field manager of the mind.
pub const INVESTIGATOR: &str = "backstop-investigator";

/// SHA-256 over length-prefixed parts, as 64 hexadecimal characters. The prefix keeps `["ab","c"]` and
/// `["a","bc"]` apart.
pub fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hex::encode(hash.finalize())
}

/// The first 32 hexadecimal characters of [`digest`]: names and action ids (a label value holds 63).
pub fn short_digest(parts: &[&str]) -> String {
    let mut name = digest(parts);
    name.truncate(32);
    name
}

/// JSON with sorted keys and without spaces: the text over which digests of values are made.
pub fn canonical(value: &serde_json::Value) -> String {
    // serde_json's map is a BTreeMap here (feature `preserve_order` is off), so its own output is sorted.
    value.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
    }

    #[test]
    fn key_order_does_not_change_canonical_text() {
        let a: serde_json::Value = serde_json::from_str(r#"{"b":1,"a":{"d":2,"c":3}}"#).unwrap();
        let b: serde_json::Value = serde_json::from_str(r#"{"a":{"c":3,"d":2},"b":1}"#).unwrap();
        assert_eq!(canonical(&a), canonical(&b));
    }
}
