//! Which tools manage an object and would take a change of ours back.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::core::object::{array, string};

/// A label or annotation with this prefix or name belongs to this tool.
const MARKS: &[(&str, &str)] = &[
    ("argocd.argoproj.io/tracking-id", "argocd"),
    ("argocd.argoproj.io/instance", "argocd"),
    ("argocd.argoproj.io/installation-id", "argocd"),
    ("kustomize.toolkit.fluxcd.io/name", "flux"),
    ("helm.toolkit.fluxcd.io/name", "flux"),
    ("meta.helm.sh/release-name", "helm"),
    ("objectset.rio.cattle.io/id", "fleet"),
    ("kapp.k14s.io/app", "kapp"),
    ("config.k8s.io/owning-inventory", "inventory"),
    ("crossplane.io/composite", "crossplane"),
];

/// A field manager of this name belongs to this tool. Tools that track by a label of the application's choice
/// leave no other trace.
const MANAGERS: &[(&str, &str)] = &[
    ("argocd-controller", "argocd"),
    ("argocd-application-controller", "argocd"),
    ("kustomize-controller", "flux"),
    ("helm-controller", "flux"),
    ("Terraform", "terraform"),
];

const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Names of the managing tools, sorted; a value of `app.kubernetes.io/managed-by` that is not known counts as
/// the name of a tool.
pub fn managing(
    object: &Value,
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
) -> Vec<String> {
    let mut tools = BTreeSet::new();
    for (mark, tool) in MARKS {
        if labels.contains_key(*mark) || annotations.contains_key(*mark) {
            tools.insert((*tool).to_owned());
        }
    }
    for entry in array(object, "/metadata/managedFields") {
        let manager = string(entry, "/manager");
        if let Some((_, tool)) = MANAGERS.iter().find(|(name, _)| *name == manager) {
            tools.insert((*tool).to_owned());
        }
    }
    if let Some(value) = labels.get(MANAGED_BY).map(|value| value.trim()).filter(|value| !value.is_empty()) {
        let value = value.to_lowercase();
        tools.insert(value[..value.floor_char_boundary(64)].to_owned());
    }
    tools.into_iter().take(8).collect()
}
