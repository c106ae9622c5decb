//! Other objects that a pod template names.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Revision, Workload};
use crate::api::v1alpha1::{Reference, ReferenceKind, Time};
use crate::core::object::{array, known_time, string};

/// References of one template that are kept.
const MAX_REFERENCES: usize = 64;
/// A ConfigMap that changed so many seconds before or after a revision was created was changed with it: what `kubectl apply
/// -k`, kustomize and Helm do within one release.
pub const TOGETHER_SECONDS: i64 = 600;
/// Every namespace has it.
const DEFAULT_ACCOUNT: &str = "default";

/// Whether an object that a template names exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// Its kind.
    pub kind: ReferenceKind,
    /// Its name.
    pub name: String,
    /// Whether it exists; absent when it could not be read.
    pub exists: Option<bool>,
    /// When its data last changed, by its metadata; absent where that is not known, or it has none.
    pub changed_at: Option<Time>,
}

/// When the data of a ConfigMap last changed, and by which field manager, by its metadata; absent where no field manager
/// of data is recorded.
pub fn data_changed(metadata: &Value) -> Option<(Time, &str)> {
    let of_data = |entry: &&Value| {
        let fields = entry.get("fieldsV1");
        ["f:data", "f:binaryData"].iter().any(|name| fields.is_some_and(|fields| fields.get(name).is_some()))
    };
    let entries = array(metadata, "/metadata/managedFields").iter().filter(of_data);
    entries.filter_map(|entry| Some((known_time(string(entry, "/time"))?, string(entry, "/manager")))).max()
}

/// Whether the controller looks if an object of this kind exists. Secrets are read by nobody, and classes of the cluster
/// need a right of their own.
pub fn is_looked_up(kind: ReferenceKind) -> bool {
    match kind {
        ReferenceKind::ConfigMap | ReferenceKind::PersistentVolumeClaim | ReferenceKind::ServiceAccount => true,
        ReferenceKind::Secret | ReferenceKind::PriorityClass | ReferenceKind::RuntimeClass => false,
    }
}

impl Workload {
    /// Objects that pods need which an action may have created, as far as the controller looks them up: those of the
    /// template to return to and every ConfigMap that this one and the current one name, and where a newer pod of the
    /// current one works, its objects and every ConfigMap that it names. None where nothing fails.
    pub fn looked_up(&self) -> BTreeSet<(ReferenceKind, String)> {
        if !self.fails() {
            return BTreeSet::new();
        }
        let restart = self.current().filter(|_| self.by_age().is_some_and(|age| age.since().is_some()));
        let needed = [self.undo_candidate(), restart].into_iter().flatten().flat_map(|it| &it.fact.references);
        let needed = needed.filter(|reference| is_looked_up(reference.kind));
        let mut found: BTreeSet<_> = needed.map(|reference| (reference.kind, reference.name.clone())).collect();
        let mut maps: Vec<String> = self.earlier().flat_map(|earlier| self.shared_maps(earlier)).collect();
        if restart.is_some() {
            maps.extend(named(&self.template, ReferenceKind::ConfigMap).into_keys());
        }
        found.extend(maps.into_iter().map(|name| (ReferenceKind::ConfigMap, name)));
        found
    }

    /// ConfigMaps that the current template and that of an earlier revision both name, optional ones among them.
    pub fn shared_maps(&self, earlier: &Revision) -> Vec<String> {
        let before = named(&earlier.template, ReferenceKind::ConfigMap);
        let now = named(&self.template, ReferenceKind::ConfigMap).into_keys();
        now.filter(|name| before.contains_key(name)).collect()
    }
}

/// The objects that a template needs, sorted. What it calls optional is left out, and so are `imagePullSecrets`: a pod
/// starts without them where the image can be had.
pub fn references(template: &Value) -> Vec<Reference> {
    let all = all(template).into_iter().filter(|(_, optional)| !optional);
    all.map(|(reference, _)| reference).take(MAX_REFERENCES).collect()
}

/// Names of the objects of this kind that a template names at all; `true` when each time it calls the object optional.
pub fn named(template: &Value, kind: ReferenceKind) -> BTreeMap<String, bool> {
    let mut found = BTreeMap::new();
    for (Reference { name, .. }, optional) in all(template).into_iter().filter(|(found, _)| found.kind == kind) {
        let every = found.entry(name).or_insert(true);
        *every &= optional;
    }
    found
}

/// Whether a template with these references needs what is missing.
pub fn needs(references: &[Reference], missing: &Reference) -> bool {
    references.iter().any(|reference| {
        let same = reference.kind == missing.kind && reference.name == missing.name;
        same && (missing.key.is_none() || missing.key == reference.key)
    })
}

fn all(template: &Value) -> BTreeMap<Reference, bool> {
    let mut found = BTreeMap::new();
    let mut note = |kind, name: &str, key: Option<&str>, optional: bool| {
        if !name.is_empty() {
            let reference = Reference { kind, name: name.to_owned(), key: key.map(str::to_owned) };
            let every = found.entry(reference).or_insert(true);
            *every &= optional;
        }
    };
    let is_optional = |value: &Value| value.get("optional").and_then(Value::as_bool).unwrap_or_default();
    let mut volume = |source: &Value, kind, name: &str| {
        let (name, optional) = (string(source, name), is_optional(source));
        for item in array(source, "/items") {
            note(kind, name, Some(string(item, "/key")), optional);
        }
        if array(source, "/items").is_empty() {
            note(kind, name, None, optional);
        }
    };
    for item in array(template, "/spec/volumes") {
        if let Some(source) = item.get("configMap") {
            volume(source, ReferenceKind::ConfigMap, "/name");
        }
        if let Some(source) = item.get("secret") {
            volume(source, ReferenceKind::Secret, "/secretName");
        }
        if let Some(source) = item.get("persistentVolumeClaim") {
            volume(source, ReferenceKind::PersistentVolumeClaim, "/claimName");
        }
        for source in array(item, "/projected/sources") {
            if let Some(source) = source.get("configMap") {
                volume(source, ReferenceKind::ConfigMap, "/name");
            }
            if let Some(source) = source.get("secret") {
                volume(source, ReferenceKind::Secret, "/name");
            }
        }
    }
    for containers in ["/spec/initContainers", "/spec/containers"] {
        for container in array(template, containers) {
            for source in array(container, "/envFrom") {
                for (field, kind) in [("configMapRef", ReferenceKind::ConfigMap), ("secretRef", ReferenceKind::Secret)]
                {
                    if let Some(source) = source.get(field) {
                        note(kind, string(source, "/name"), None, is_optional(source));
                    }
                }
            }
            for variable in array(container, "/env") {
                for (field, kind) in [
                    ("/valueFrom/configMapKeyRef", ReferenceKind::ConfigMap),
                    ("/valueFrom/secretKeyRef", ReferenceKind::Secret),
                ] {
                    if let Some(source) = variable.pointer(field) {
                        note(kind, string(source, "/name"), Some(string(source, "/key")), is_optional(source));
                    }
                }
            }
        }
    }
    let account = string(template, "/spec/serviceAccountName");
    note(ReferenceKind::ServiceAccount, if account == DEFAULT_ACCOUNT { "" } else { account }, None, false);
    note(ReferenceKind::PriorityClass, string(template, "/spec/priorityClassName"), None, false);
    note(ReferenceKind::RuntimeClass, string(template, "/spec/runtimeClassName"), None, false);
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template() -> Value {
        json!({"spec": {
            "serviceAccountName": "api", "priorityClassName": "high", "imagePullSecrets": [{"name": "registry"}],
            "volumes": [{"configMap": {"name": "a"}}, {"secret": {"secretName": "s", "items": [{"key": "tls.crt"}]}},
                {"projected": {"sources": [{"configMap": {"name": "b", "optional": true}}, {"secret": {"name": "t"}}]}},
                {"persistentVolumeClaim": {"claimName": "data"}}],
            "initContainers": [{"envFrom": [{"configMapRef": {"name": "c"}}]}],
            "containers": [{"env": [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "d", "key": "k"}}}],
                "envFrom": [{"secretRef": {"name": "u", "optional": true}}]}]
        }})
    }

    #[test]
    fn references_are_found_wherever_a_template_names_them_and_optional_ones_are_not_needed() {
        let words: Vec<String> = references(&template())
            .into_iter()
            .map(|Reference { kind, name, key }| format!("{}/{name}:{}", kind.as_str(), key.unwrap_or_default()))
            .collect();
        assert_eq!(
            words,
            [
                "ConfigMap/a:",
                "ConfigMap/c:",
                "ConfigMap/d:k",
                "Secret/s:tls.crt",
                "Secret/t:",
                "PersistentVolumeClaim/data:",
                "ServiceAccount/api:",
                "PriorityClass/high:",
            ]
        );
        let maps = named(&template(), ReferenceKind::ConfigMap);
        assert_eq!(maps.keys().collect::<Vec<_>>(), ["a", "b", "c", "d"]);
        assert!(maps["b"] && !maps["a"]);
    }

    #[test]
    fn what_new_pods_need_is_looked_up_where_an_action_may_create_some() {
        use crate::core::gate::testing::{bad_rollout, reading, stale_processes};
        let mut stale = stale_processes().reading;
        assert_eq!(stale.looked_up(), BTreeSet::from([(ReferenceKind::ConfigMap, "settings".to_owned())]));
        stale.pods.truncate(2);
        assert_eq!(stale.looked_up(), BTreeSet::new(), "no newer pod works");
        let mut bad = bad_rollout().reading;
        bad.revisions[1].fact.references = references(&template());
        let kinds: BTreeSet<ReferenceKind> = bad.looked_up().into_iter().map(|(kind, _)| kind).collect();
        use ReferenceKind::{ConfigMap, PersistentVolumeClaim, ServiceAccount};
        assert_eq!(kinds, BTreeSet::from([ConfigMap, PersistentVolumeClaim, ServiceAccount]), "and no Secret");
        assert_eq!(reading().healthy().looked_up(), BTreeSet::new(), "nothing fails");
    }

    #[test]
    fn the_last_manager_of_data_counts_and_others_do_not() {
        let metadata = json!({"metadata": {"managedFields": [
            {"manager": "kubectl-create", "time": "2026-01-01T00:00:00Z", "fieldsV1": {"f:data": {"f:a": {}}}},
            {"manager": "kubectl-edit", "time": "2026-01-02T00:00:00Z", "fieldsV1": {"f:data": {"f:b": {}}}},
            {"manager": "labeller", "time": "2026-01-03T00:00:00Z", "fieldsV1": {"f:metadata": {}}}
        ]}});
        assert_eq!(data_changed(&metadata), Some(("2026-01-02T00:00:00Z".parse().unwrap(), "kubectl-edit")));
        assert_eq!(data_changed(&json!({})), None);
    }

    #[test]
    fn a_missing_object_is_needed_by_whoever_names_it_and_a_missing_key_by_whoever_names_that_key() {
        let references = references(&template());
        let missing = |name: &str, key: Option<&str>| Reference {
            kind: ReferenceKind::ConfigMap,
            name: name.into(),
            key: key.map(str::to_owned),
        };
        assert!(needs(&references, &missing("d", None)));
        assert!(needs(&references, &missing("d", Some("k"))));
        assert!(!needs(&references, &missing("d", Some("new"))));
        assert!(!needs(&references, &missing("s", None)), "a Secret is no ConfigMap");
        assert!(!needs(&references, &missing("b", None)), "it is optional");
    }
}
