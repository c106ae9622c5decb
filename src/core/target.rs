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

/// Pairs of labels by which kube-state-metrics names what owns or made an object, and what it is.
const OWNERS: &[(&str, &str)] = &[("created_by_kind", "created_by_name"), ("owner_kind", "owner_name")];

/// Kinds that these may name; any other owner is not one that is worked on.
const OWNER_KINDS: &[&str] = &["Deployment", "StatefulSet", "DaemonSet", "CronJob", "ReplicaSet", "Job"];

/// Parts of the names of scrape jobs whose series are about the node on which the exporter runs. Their labels `pod`,
/// `namespace` and `daemonset` name the exporter.
const NODE_EXPORTERS: &[&str] = &["node-exporter", "node_exporter", "windows-exporter", "windows_exporter", "smartctl"];

/// Beginnings of the names of alerts about a node. Labels such as `pod` name the exporter that measured it.
const NODE_ALERTS: &[&str] = &["KubeNode", "Kubelet"];

/// The letters of names that Kubernetes generates: no vowels, nothing that looks like another letter.
const GENERATED: &str = "bcdfghjklmnpqrstvwxz2456789";

/// The namespace that an Alert in `home` may only name, if there is one: its own, or that of the `tenant` who sent it,
/// because one that a tenant's namespace did not take is kept in the system namespace.
pub fn confinement<'a>(home: &'a str, system: &str, tenant: Option<&'a str>) -> Option<&'a str> {
    if home == system { tenant } else { Some(home) }
}

fn filled(value: Option<&String>) -> Option<&String> {
    value.filter(|value| !value.is_empty())
}

/// The objects that `labels` name, in order of precedence; in the namespace `confined` only, if there is one.
///
/// Without `honorLabels` Prometheus keeps the exporter's own labels and renames the real ones to `exported_*`, so
/// these win, label by label. Where the Prometheus operator enforces a tenant's namespace, `namespace` is the tenant's
/// and an exporter may say anything in `exported_namespace`: then what is not renamed counts.
pub fn candidates(labels: &BTreeMap<String, String>, confined: Option<&str>) -> Result<Vec<Candidate>, Unresolved> {
    let of_exporter = is_about_node(labels);
    let own = |key: &str| labels.get(key).filter(|_| !of_exporter);
    let exported = |key: &str| labels.get(&format!("exported_{key}"));
    let enforced = confined.is_some_and(|home| {
        filled(labels.get("namespace")).is_some_and(|name| name == home)
            && filled(exported("namespace")).is_some_and(|name| name != home)
    });
    let owners = OWNERS.iter().map(|(_, name)| *name);
    let objects = TABLE.iter().map(|(label, _)| *label).chain(["workload"]).chain(owners);
    if enforced && objects.into_iter().any(|label| filled(exported(label)).is_some()) {
        return Err(foreign(confined.unwrap_or_default()));
    }
    let get = |key: &str| filled(exported(key).filter(|_| !enforced).or_else(|| own(key)));
    if let Some(node) = node(labels).filter(|_| of_exporter && TABLE.iter().all(|(label, _)| get(label).is_none())) {
        let shown: String = node.chars().filter(|c| !c.is_control()).take(60).collect();
        return Err(Unresolved::new(
            Reason::TargetUnresolved,
            format!(
                "the alert is about node `{shown}`, not about the pod that measured it; Backstop does not repair nodes"
            ),
        ));
    }
    let Some(namespace) = get("namespace") else {
        return Err(Unresolved::new(
            Reason::TargetUnresolved,
            "the alert has no label `namespace`, so it names no workload; add one in the alerting rule",
        ));
    };
    if !is_label(namespace) {
        return Err(invalid("namespace", namespace));
    }
    if confined.is_some_and(|home| home != namespace) {
        return Err(foreign(confined.unwrap_or_default()));
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
    for (of_kind, of_name) in OWNERS {
        if let (Some(kind), Some(name)) = (get(of_kind), get(of_name))
            && let Some(kind) = OWNER_KINDS.iter().find(|known| *known == kind)
        {
            add(of_name, kind, name)?;
        }
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

/// Whether the labels are those of an exporter that measures its node.
fn is_about_node(labels: &BTreeMap<String, String>) -> bool {
    let has = |key: &str, test: &dyn Fn(&str) -> bool| labels.get(key).is_some_and(|value| test(value));
    let exporter = has("job", &|job| NODE_EXPORTERS.iter().any(|name| job.contains(name)));
    let alert = has("alertname", &|name| NODE_ALERTS.iter().any(|prefix| name.starts_with(prefix)));
    (exporter || alert) && node(labels).is_some()
}

fn node(labels: &BTreeMap<String, String>) -> Option<&String> {
    ["exported_node", "node", "nodename", "instance"].iter().find_map(|key| labels.get(*key)).filter(|v| !v.is_empty())
}

/// What a pod that is gone belonged to, by its name alone: its controller put letters of its own choice, or an ordinal,
/// behind its own name. Empty for anything else. A controller of that name must exist, and only one.
pub fn controllers_of(gone: &Candidate) -> Vec<Candidate> {
    let Some((stem, end)) = gone.name.rsplit_once('-').filter(|_| gone.kind == "Pod") else { return vec![] };
    let kinds: &[&'static str] = if !end.is_empty() && end.len() < 5 && end.bytes().all(|c| c.is_ascii_digit()) {
        &["StatefulSet"]
    } else if end.len() == 5 && end.chars().all(|c| GENERATED.contains(c)) {
        &["ReplicaSet", "DaemonSet", "Job"]
    } else {
        &[]
    };
    let of = |kind: &&'static str| Candidate { kind, namespace: gone.namespace.clone(), name: stem.to_owned() };
    if is_subdomain(stem) { kinds.iter().map(of).collect() } else { vec![] }
}

/// Whether grouping asks for the label: what names a target, and what an incident takes over.
pub fn is_asked(label: &str) -> bool {
    let label = label.strip_prefix("exported_").unwrap_or(label);
    let of_owner = |(kind, name): &(&str, &str)| *kind == label || *name == label;
    ["alertname", "severity", "namespace", "workload", "workload_type", "job", "node", "nodename", "instance"]
        .contains(&label)
        || TABLE.iter().any(|(named, _)| *named == label)
        || OWNERS.iter().any(of_owner)
}

fn foreign(home: &str) -> Unresolved {
    Unresolved::new(Reason::ForeignNamespace, format!("an Alert of namespace {home} may only name that namespace"))
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
        let found =
            candidates(&labels(&[("namespace", "shop"), ("pod", "api-1"), ("deployment", "api")]), None).unwrap();
        assert_eq!(found.iter().map(|c| c.kind).collect::<Vec<_>>(), ["Deployment", "Pod"]);
    }

    #[test]
    fn exported_labels_win_over_the_exporters_own() {
        let found = candidates(
            &labels(&[
                ("namespace", "monitoring"),
                ("exported_namespace", "shop"),
                ("pod", "kube-state-metrics-1"),
                ("exported_pod", "api-1"),
            ]),
            None,
        )
        .unwrap();
        assert_eq!(found, [Candidate { kind: "Pod", namespace: "shop".into(), name: "api-1".into() }]);
    }

    #[test]
    fn what_made_or_owns_a_pod_is_named_too_if_it_is_a_kind_that_is_known() {
        for (kind, name, owner) in
            [("created_by_kind", "created_by_name", "ReplicaSet"), ("owner_kind", "owner_name", "StatefulSet")]
        {
            let all = labels(&[("namespace", "shop"), ("pod", "api-1"), (kind, owner), (name, "api")]);
            let found = candidates(&all, None).unwrap();
            assert_eq!(
                found.iter().map(|c| (c.kind, c.name.as_str())).collect::<Vec<_>>(),
                [("Pod", "api-1"), (owner, "api")]
            );
        }
        for (kind, name) in [("<none>", "<none>"), ("Rollout", "api"), ("Node", "worker-1")] {
            let all = labels(&[("namespace", "shop"), ("pod", "api-1"), ("owner_kind", kind), ("owner_name", name)]);
            assert_eq!(candidates(&all, None).unwrap().len(), 1, "{kind}");
        }
    }

    #[test]
    fn a_pod_that_is_gone_leads_to_what_made_it() {
        let of = |name: &str| {
            let gone = Candidate { kind: "Pod", namespace: "shop".into(), name: name.into() };
            controllers_of(&gone).into_iter().map(|c| format!("{}/{}", c.kind, c.name)).collect::<Vec<_>>()
        };
        assert_eq!(
            of("catalog-7c9d8b6f5-x2kqz"),
            ["ReplicaSet/catalog-7c9d8b6f5", "DaemonSet/catalog-7c9d8b6f5", "Job/catalog-7c9d8b6f5"]
        );
        assert_eq!(of("store-0"), ["StatefulSet/store"]);
        for none in ["catalog", "api-proxy", "api-12345678", "-bcdfg", "web-x2kq", "web-x2kqz1"] {
            assert_eq!(of(none), Vec::<String>::new(), "{none}");
        }
        let deployment = Candidate { kind: "Deployment", namespace: "shop".into(), name: "api-x2kqz".into() };
        assert_eq!(controllers_of(&deployment), []);
    }

    #[test]
    fn an_alert_about_a_node_is_not_about_the_pod_that_measured_it() {
        let exporter = [
            ("namespace", "monitoring"),
            ("pod", "node-exporter-x2kqz"),
            ("daemonset", "node-exporter"),
            ("container", "node-exporter"),
            ("instance", "worker-1"),
        ];
        let with = |more: &[(&str, &str)]| candidates(&labels(&[exporter.as_slice(), more].concat()), None);
        for about_node in [
            vec![("job", "node-exporter"), ("alertname", "NodeFilesystemSpaceFillingUp"), ("node", "worker-1")],
            vec![("job", "prometheus-node-exporter"), ("alertname", "HostOutOfMemory")],
            vec![("job", "kube-state-metrics"), ("alertname", "KubeNodeNotReady"), ("node", "worker-1")],
        ] {
            let error = with(&about_node).unwrap_err();
            assert_eq!(error.reason, Reason::TargetUnresolved);
            assert!(error.message.contains("node `worker-1`"), "{}", error.message);
        }
        // The exporter's own pod crashes: kube-state-metrics says so.
        let own = with(&[("job", "kube-state-metrics"), ("alertname", "KubePodCrashLooping")]).unwrap();
        assert_eq!(own.iter().map(|c| c.kind).collect::<Vec<_>>(), ["DaemonSet", "Pod"]);
        // A series of another job that the exporter's pod happens to serve names its object itself.
        let exported = with(&[("job", "node-exporter"), ("exported_namespace", "shop"), ("exported_pod", "api-1")]);
        assert_eq!(exported.unwrap(), [Candidate { kind: "Pod", namespace: "shop".into(), name: "api-1".into() }]);
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
    fn only_alerts_in_the_system_namespace_that_no_tenant_sent_may_name_another_one() {
        let system = "backstop-system";
        let all = labels(&[("namespace", "shop"), ("pod", "api-1")]);
        let reason = |home, tenant| candidates(&all, confinement(home, system, tenant)).map_err(|error| error.reason);
        for (home, tenant) in [("shop", None), ("shop", Some("shop")), (system, None), (system, Some("shop"))] {
            assert!(reason(home, tenant).is_ok(), "{home} {tenant:?}");
        }
        // Where an Alert is says more than what it says about itself.
        for (home, tenant) in [("evil", None), ("evil", Some("shop")), (system, Some("evil")), (system, Some(system))] {
            assert_eq!(reason(home, tenant), Err(Reason::ForeignNamespace), "{home} {tenant:?}");
        }
    }

    #[test]
    fn where_a_tenants_namespace_is_enforced_exported_labels_of_another_one_name_nothing() {
        let of = |pairs: &[(&str, &str)], confined| {
            candidates(&labels(pairs), confined)
                .map(|found| found.iter().map(|one| format!("{}/{}", one.namespace, one.name)).collect::<Vec<_>>())
                .map_err(|error| error.reason)
        };
        let exporter = [("namespace", "shop"), ("exported_namespace", "billing"), ("deployment", "worker")];
        assert_eq!(of(&exporter, Some("shop")), Ok(vec!["shop/worker".into()]));
        assert_eq!(of(&exporter, None), Ok(vec!["billing/worker".into()]));
        for object in ["exported_pod", "exported_deployment", "exported_workload"] {
            let about_billing = [exporter.as_slice(), &[(object, "api")]].concat();
            assert_eq!(of(&about_billing, Some("shop")), Err(Reason::ForeignNamespace), "{object}");
        }
        let scraped = [("namespace", "monitoring"), ("exported_namespace", "shop"), ("exported_deployment", "api")];
        assert_eq!(of(&scraped, Some("shop")), Ok(vec!["shop/api".into()]));
    }

    #[test]
    fn the_scrape_job_is_never_a_kubernetes_job() {
        let error = candidates(&labels(&[("namespace", "shop"), ("job", "kube-state-metrics")]), None).unwrap_err();
        assert_eq!(error.reason, Reason::TargetUnresolved);
    }

    #[test]
    fn path_and_query_injection_names_nothing() {
        for value in ["../kube-system", "a/b", "a?x=1", "a%2fb", "A", "-a", "a-", "a..b", "a\nb", "a\u{0}", " a", "ä"]
        {
            for label in ["namespace", "deployment"] {
                let mut all = labels(&[("namespace", "shop"), ("deployment", "api")]);
                all.insert(label.into(), value.into());
                assert_eq!(candidates(&all, None).unwrap_err().reason, Reason::TargetInvalid, "{label}={value:?}");
            }
        }
    }

    #[test]
    fn one_bad_label_casts_doubt_on_the_good_ones() {
        let all = labels(&[("namespace", "shop"), ("deployment", "api"), ("pod", "../x")]);
        assert_eq!(candidates(&all, None).unwrap_err().reason, Reason::TargetInvalid);
    }

    #[test]
    fn ten_kilobytes_are_not_a_name_and_not_echoed() {
        let error = candidates(&labels(&[("namespace", &"a".repeat(10_000))]), None).unwrap_err();
        assert!(error.message.len() < 300, "{}", error.message.len());
    }

    proptest! {
        #[test]
        fn whatever_the_labels_say_candidates_hold_valid_names_only(
            map in proptest::collection::btree_map("(exported_)?(namespace|deployment|pod|workload|workload_type)", ".{0,80}", 0..6)
        ) {
            for c in candidates(&map, None).unwrap_or_default() {
                prop_assert!(is_label(&c.namespace) && is_subdomain(&c.name));
                prop_assert!(c.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.'));
            }
            for c in candidates(&map, Some("shop")).unwrap_or_default() {
                prop_assert_eq!(c.namespace, "shop");
            }
        }
    }
}
