//! From alert labels to one object: a fixed, ordered table, and validated names only.
//!
//! Labels are untrusted text. A value reaches an API path only when it is a valid Kubernetes name; one invalid
//! label that should name an object makes all of them untrusted.

use std::collections::BTreeMap;

use crate::api::v1alpha1::ObjectRef;

use super::kube_name::{is_label, is_subdomain};
use super::reason::Reason;

/// An object that labels name, not yet looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Kind, such as `Deployment`.
    pub kind: &'static str,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// Why labels name no object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unresolved {
    /// The constant.
    pub reason: Reason,
    /// One sentence with the next step.
    pub message: String,
}

impl Unresolved {
    /// Builds one.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Unresolved { reason, message: message.into() }
    }
}

/// Labels that name an object, in order of precedence, with the kind that each names. `job` is a scrape job,
/// `service`, `instance`, `container` and `uid` name no target by themselves.
const TABLE: &[(&str, &str)] = &[
    ("deployment", "Deployment"),
    ("statefulset", "StatefulSet"),
    ("daemonset", "DaemonSet"),
    ("cronjob", "CronJob"),
    ("replicaset", "ReplicaSet"),
    ("job_name", "Job"),
    ("pod", "Pod"),
];

/// Values of `workload_type` in recording rules of kubernetes-mixin.
const WORKLOAD_TYPES: &[(&str, &str)] = &[
    ("deployment", "Deployment"),
    ("statefulset", "StatefulSet"),
    ("daemonset", "DaemonSet"),
    ("cronjob", "CronJob"),
    ("job", "Job"),
];

/// The objects that `labels` name, in order of precedence.
///
/// Without `honorLabels` Prometheus keeps the exporter's own labels and renames the real ones to `exported_*`, so
/// these win, label by label.
pub fn candidates(labels: &BTreeMap<String, String>) -> Result<Vec<Candidate>, Unresolved> {
    let get = |key: &str| labels.get(&format!("exported_{key}")).or_else(|| labels.get(key)).filter(|v| !v.is_empty());
    let Some(namespace) = get("namespace") else {
        return Err(Unresolved::new(
            Reason::TargetUnresolved,
            "the alert has no label `namespace`, so it names no workload; add one in the alerting rule",
        ));
    };
    if !is_label(namespace) {
        return Err(invalid("namespace", namespace));
    }
    let mut found = Vec::new();
    let mut add = |label: &str, kind, name: &String| {
        if !is_subdomain(name) {
            return Err(invalid(label, name));
        }
        found.push(Candidate { kind, namespace: namespace.clone(), name: name.clone() });
        Ok(())
    };
    for (label, kind) in TABLE {
        if let Some(name) = get(label) {
            add(label, kind, name)?;
        }
    }
    if let (Some(name), Some(kind)) = (get("workload"), get("workload_type"))
        && let Some((_, kind)) = WORKLOAD_TYPES.iter().find(|(word, _)| word == kind)
    {
        add("workload", kind, name)?;
    }
    if found.is_empty() {
        return Err(Unresolved::new(
            Reason::TargetUnresolved,
            "no label of the alert names a workload; expected one of deployment, statefulset, daemonset, cronjob, \
             replicaset, job_name, pod",
        ));
    }
    Ok(found)
}

/// An Alert in a tenant's namespace may only name that namespace.
pub fn may_name(home: &str, system: &str, named: &[Candidate]) -> Result<(), Unresolved> {
    if home == system || named.iter().all(|candidate| candidate.namespace == home) {
        return Ok(());
    }
    let message = format!("an Alert in namespace {home} may only name that namespace");
    Err(Unresolved::new(Reason::ForeignNamespace, message))
}

/// The one workload among those that the candidates belong to.
pub fn unique(named: &[Candidate], mut found: Vec<ObjectRef>) -> Result<ObjectRef, Unresolved> {
    found.sort();
    found.dedup_by(|a, b| a.uid == b.uid);
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => {
            let names: Vec<String> = named.iter().map(|c| format!("{} {}/{}", c.kind, c.namespace, c.name)).collect();
            Err(Unresolved::new(Reason::TargetNotFound, format!("{} does not exist", names.join(", "))))
        }
        [one, other, ..] => {
            let message = format!("the labels name {one} and {other}, which are different workloads");
            Err(Unresolved::new(Reason::TargetAmbiguous, message))
        }
    }
}

fn invalid(label: &str, value: &str) -> Unresolved {
    let shown: String = value.chars().filter(|c| !c.is_control()).take(60).collect();
    Unresolved::new(
        Reason::TargetInvalid,
        format!("label `{label}` is not a valid Kubernetes name: `{shown}`; nothing was looked up"),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    #[test]
    fn a_deployment_label_comes_before_a_pod_label() {
        let found = candidates(&labels(&[("namespace", "shop"), ("pod", "api-1"), ("deployment", "api")])).unwrap();
        assert_eq!(found.iter().map(|c| c.kind).collect::<Vec<_>>(), ["Deployment", "Pod"]);
    }

    #[test]
    fn exported_labels_win_over_the_exporters_own() {
        let found = candidates(&labels(&[
            ("namespace", "monitoring"),
            ("exported_namespace", "shop"),
            ("pod", "kube-state-metrics-1"),
            ("exported_pod", "api-1"),
        ]))
        .unwrap();
        assert_eq!(found, [Candidate { kind: "Pod", namespace: "shop".into(), name: "api-1".into() }]);
    }

    fn object(name: &str, uid: &str) -> ObjectRef {
        ObjectRef { kind: "Deployment".into(), name: name.into(), uid: uid.into(), ..ObjectRef::default() }
    }

    #[test]
    fn labels_that_lead_to_two_workloads_name_none() {
        let named = [Candidate { kind: "Pod", namespace: "shop".into(), name: "api-1".into() }];
        assert_eq!(unique(&named, vec![object("api", "u"), object("api", "u")]), Ok(object("api", "u")));
        let two = unique(&named, vec![object("api", "u"), object("db", "v")]).unwrap_err();
        assert_eq!(two.reason, Reason::TargetAmbiguous);
        let none = unique(&named, vec![]).unwrap_err();
        assert_eq!(none.reason, Reason::TargetNotFound);
        assert!(none.message.contains("Pod shop/api-1"), "{}", none.message);
    }

    #[test]
    fn only_alerts_in_the_system_namespace_may_name_another_one() {
        let named = [Candidate { kind: "Pod", namespace: "shop".into(), name: "api-1".into() }];
        assert!(may_name("shop", "backstop-system", &named).is_ok());
        assert!(may_name("backstop-system", "backstop-system", &named).is_ok());
        assert_eq!(may_name("evil", "backstop-system", &named).unwrap_err().reason, Reason::ForeignNamespace);
    }

    #[test]
    fn the_scrape_job_is_never_a_kubernetes_job() {
        let error = candidates(&labels(&[("namespace", "shop"), ("job", "kube-state-metrics")])).unwrap_err();
        assert_eq!(error.reason, Reason::TargetUnresolved);
    }

    #[test]
    fn path_and_query_injection_names_nothing() {
        for value in ["../kube-system", "a/b", "a?x=1", "a%2fb", "A", "-a", "a-", "a..b", "a\nb", "a\u{0}", " a", "ä"]
        {
            for label in ["namespace", "deployment"] {
                let mut all = labels(&[("namespace", "shop"), ("deployment", "api")]);
                all.insert(label.into(), value.into());
                assert_eq!(candidates(&all).unwrap_err().reason, Reason::TargetInvalid, "{label}={value:?}");
            }
        }
    }

    #[test]
    fn one_bad_label_casts_doubt_on_the_good_ones() {
        let all = labels(&[("namespace", "shop"), ("deployment", "api"), ("pod", "../x")]);
        assert_eq!(candidates(&all).unwrap_err().reason, Reason::TargetInvalid);
    }

    #[test]
    fn ten_kilobytes_are_not_a_name_and_not_echoed() {
        let error = candidates(&labels(&[("namespace", &"a".repeat(10_000))])).unwrap_err();
        assert!(error.message.len() < 300, "{}", error.message.len());
    }

    proptest! {
        #[test]
        fn whatever_the_labels_say_candidates_hold_valid_names_only(
            map in proptest::collection::btree_map("(exported_)?(namespace|deployment|pod|workload|workload_type)", ".{0,80}", 0..6)
        ) {
            for c in candidates(&map).unwrap_or_default() {
                prop_assert!(is_label(&c.namespace) && is_subdomain(&c.name));
                prop_assert!(c.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.'));
            }
        }
    }
}
