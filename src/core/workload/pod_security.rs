//! When a namespace began to enforce what it enforces of pod security: pods that were let in before show nothing about new
//! ones.

use serde_json::Value;

use crate::api::v1alpha1::Time;
use crate::core::object::{array, known_time, label, string};

/// Labels by which pods are refused; those that warn or audit refuse none.
const ENFORCE: [&str; 2] = ["pod-security.kubernetes.io/enforce", "pod-security.kubernetes.io/enforce-version"];
/// The level that lets everything in.
const PRIVILEGED: &str = "privileged";

/// When what a namespace enforces last changed, by the record of who wrote its labels; that may be later than it was,
/// where the same writer changed another label since. Absent where nothing is enforced; where no writer is on record,
/// later than everything.
pub fn pod_security_changed(namespace: &Value) -> Option<Time> {
    label(namespace, ENFORCE[0]).filter(|level| *level != PRIVILEGED)?;
    let writes = |entry: &&Value| {
        let labels = entry.pointer("/fieldsV1/f:metadata/f:labels");
        ENFORCE.iter().any(|name| labels.is_some_and(|labels| labels.get(format!("f:{name}")).is_some()))
    };
    let writers = array(namespace, "/metadata/managedFields").iter().filter(writes);
    Some(writers.filter_map(|entry| known_time(string(entry, "/time"))).max().unwrap_or(Time::MAX))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn namespace(level: Option<&str>, writers: Value) -> Value {
        json!({"metadata": {"labels": {ENFORCE[0]: level, "team": "shop"}, "managedFields": writers}})
    }

    fn writer(label: &str, time: &str) -> Value {
        json!({"manager": "kubectl-label", "time": time, "fieldsV1": {"f:metadata": {"f:labels": {format!("f:{label}"): {}}}}})
    }

    #[test]
    fn the_last_writer_of_what_is_enforced_counts_and_others_do_not() {
        let writers = json!([
            writer(ENFORCE[0], "2026-01-01T00:00:00Z"),
            writer(ENFORCE[1], "2026-01-02T00:00:00Z"),
            writer("pod-security.kubernetes.io/warn", "2026-01-03T00:00:00Z"),
            writer("team", "2026-01-04T00:00:00Z"),
        ]);
        let at = |text: &str| Some(text.parse::<Time>().unwrap());
        assert_eq!(pod_security_changed(&namespace(Some("restricted"), writers.clone())), at("2026-01-02T00:00:00Z"));
        assert_eq!(pod_security_changed(&namespace(Some("privileged"), writers.clone())), None);
        assert_eq!(pod_security_changed(&namespace(None, writers)), None);
        assert_eq!(pod_security_changed(&namespace(Some("baseline"), json!([]))), Some(Time::MAX), "nobody knows when");
    }
}
