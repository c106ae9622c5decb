//! Labels, annotations and derived names that the code, the chart's admission policies and people share.

use sha2::{Digest, Sha256};

/// Label on a workload while one granted write is in flight; its value is the kind of action.
pub const ARMED: &str = "backstop.dev/armed";
/// Annotation on a workload while it is armed: the action ID.
pub const ACTION: &str = "backstop.dev/action";
/// Annotation on a workload with the action ID of Backstop's last write to it.
pub const LAST_ACTION: &str = "backstop.dev/last-action";
/// Label on the one revision that a rollback may return to.
pub const UNDO_TO: &str = "backstop.dev/undo-to";
/// Label on a namespace: sets the mode, and so serves as opt-in and kill switch.
pub const MODE: &str = "backstop.dev/mode";
/// Label on Backstop's own objects: name of the Incident.
pub const INCIDENT: &str = "backstop.dev/incident";
/// Label on a Remediation: kind of its action, for its printer column.
pub const ACTION_KIND: &str = "backstop.dev/action-kind";
/// Annotation with which people protect a workload from every write by Backstop.
pub const PROTECTED: &str = "backstop.dev/protected";
/// Annotation of a Deployment and its ReplicaSets: number of the revision.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
/// Label that the Deployment controller adds to a ReplicaSet's template.
pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";
/// Annotation that `kubectl rollout restart` sets on a template.
pub const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";
/// Name of the one Grant of a namespace.
pub const GRANT: &str = "active";
/// Annotation on the Grant: the Remediation that it was last closed for, and when.
pub const CLOSED_FOR: &str = "backstop.dev/closed-for";
/// Annotation on an Alert: when its sender last repeated it, by our clock; written at most once an hour.
pub const LAST_SEEN: &str = "backstop.dev/last-seen";
/// Name of the Ledger of revisions of `namespace` that were seen healthy; it is in the system namespace.
pub fn known_good_ledger(namespace: &str) -> String {
    format!("known-good.{namespace}")
}

/// Name of the Ledger of what the models of the ModelChain `chain` cost; it is in the system namespace.
pub fn models_ledger(chain: &str) -> String {
    let name = format!("models.{chain}");
    if name.len() <= MAX_NAME { name } else { format!("models.{}", short_digest(&[chain])) }
}

/// Characters of the name of an object.
const MAX_NAME: usize = 253;

/// Field manager of the executor; the grant policy looks for it in managedFields.
pub const EXECUTOR: &str = "backstop-executor";
/// Field manager of the controller.
pub const CONTROLLER: &str = "backstop-controller";
/// Field manager of the investigator.
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

/// The first 32 hexadecimal characters of [`digest`]: names and action IDs (a label value holds 63).
pub fn short_digest(parts: &[&str]) -> String {
    let mut name = digest(parts);
    name.truncate(32);
    name
}

/// The name of an object that follows from its inputs: the target's name, cut, and the first ten characters of the
/// hash of the inputs, so that people can read it and the same inputs find the same object. The whole hash is in the
/// object's spec.
pub fn readable(target: &str, hash: &str) -> String {
    let cut = target.char_indices().nth(MAX_TARGET).map_or(target, |(end, _)| &target[..end]);
    let cut = cut.trim_end_matches(['-', '.']);
    let hash = hash.get(..10).unwrap_or(hash);
    if cut.is_empty() { format!("incident-{hash}") } else { format!("{cut}-{hash}") }
}

/// Characters of the target's name in [`readable`].
const MAX_TARGET: usize = 42;

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
    fn names_begin_with_the_target_and_end_with_the_hash_and_stay_names() {
        let hash = digest(&["x"]);
        assert_eq!(readable("catalog", &hash), format!("catalog-{}", &hash[..10]));
        for target in ["a".repeat(253), format!("{}.-b", "a".repeat(41)), String::new(), "a.b".into()] {
            let name = readable(&target, &hash);
            assert!(crate::core::kube_name::is_subdomain(&name) && name.len() <= 63, "{name}");
        }
        assert_ne!(readable("catalog", &hash), readable("catalog", &digest(&["y"])));
    }

    #[test]
    fn the_ledger_of_any_chain_has_a_name() {
        assert_eq!(models_ledger("default"), "models.default");
        let long = models_ledger(&"a".repeat(253));
        assert!(crate::core::kube_name::is_subdomain(&long) && long.starts_with("models."), "{long}");
    }

    #[test]
    fn key_order_does_not_change_canonical_text() {
        let a: serde_json::Value = serde_json::from_str(r#"{"b":1,"a":{"d":2,"c":3}}"#).unwrap();
        let b: serde_json::Value = serde_json::from_str(r#"{"a":{"c":3,"d":2},"b":1}"#).unwrap();
        assert_eq!(canonical(&a), canonical(&b));
    }
}
