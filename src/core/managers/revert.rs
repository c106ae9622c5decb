//! The command with which people revert a release through the tool that owns the object, as far as its metadata names what
//! that takes.

use std::collections::BTreeMap;

use crate::core::kube_name;

/// What people run for the tool of this name, which was recognised on an object of `namespace` with these labels and
/// annotations. `None` where its metadata does not say of what the tool made it. Names are checked: whoever writes metadata
/// must not write into a command that people copy.
pub fn command(
    tool: &str,
    namespace: &str,
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
) -> Option<String> {
    let named = |key: &str| {
        let value = labels.get(key).or_else(|| annotations.get(key))?;
        kube_name::is_subdomain(value).then_some(value.as_str())
    };
    match tool {
        // https://argo-cd.readthedocs.io/en/stable/user-guide/resource_tracking/: `APP:GROUP/KIND:NAMESPACE/NAME`.
        "argocd" => {
            let tracked = annotations.get("argocd.argoproj.io/tracking-id").and_then(|id| id.split(':').next());
            let app = tracked.or_else(|| labels.get("argocd.argoproj.io/instance").map(String::as_str));
            // In apps of other namespaces the name is `NAMESPACE_APP`.
            let app = app.filter(|app| app.split('_').all(kube_name::is_subdomain))?;
            Some(format!(
                "`argocd app history {app}` shows the commits; `git revert` the one that brought this template, or `argocd app \
                 rollback {app} ID` with automated sync off"
            ))
        }
        // https://fluxcd.io/flux/components/kustomize/kustomizations/#inventory and helm/helmreleases.
        "flux" => {
            let of = |group: &str| Some((named(&format!("{group}/name"))?, named(&format!("{group}/namespace"))?));
            let release = of("helm.toolkit.fluxcd.io").map(|found| ("helmrelease", found));
            let (kind, (name, of)) =
                release.or_else(|| of("kustomize.toolkit.fluxcd.io").map(|found| ("kustomization", found)))?;
            Some(format!(
                "`flux -n {of} get {kind} {name}` shows the commit; `git revert` the one that brought this template, then `flux \
                 -n {of} reconcile {kind} {name} --with-source`"
            ))
        }
        // https://helm.sh/docs/faq/changes_since_helm_2/#improved-upgrade-strategy-3-way-strategic-merge-patches
        "helm" => {
            let release = named("meta.helm.sh/release-name")?;
            let of = named("meta.helm.sh/release-namespace").unwrap_or(namespace);
            Some(format!(
                "`helm -n {of} history {release}` shows the revisions, `helm -n {of} rollback {release} REVISION` returns to one"
            ))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(tool: &str, labels: &[(&str, &str)], annotations: &[(&str, &str)]) -> Option<String> {
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| (String::from(*k), String::from(*v))).collect();
        command(tool, "shop", &map(labels), &map(annotations))
    }

    #[test]
    fn each_tool_that_names_what_it_made_the_object_of_has_its_command() {
        let argocd = [("argocd.argoproj.io/tracking-id", "shop:apps/Deployment:shop/catalog")];
        assert!(of("argocd", &[], &argocd).unwrap().contains("argocd app history shop"));
        let flux =
            [("kustomize.toolkit.fluxcd.io/name", "apps"), ("kustomize.toolkit.fluxcd.io/namespace", "flux-system")];
        assert!(of("flux", &flux, &[]).unwrap().contains("flux -n flux-system get kustomization apps"));
        let release = [("helm.toolkit.fluxcd.io/name", "shop"), ("helm.toolkit.fluxcd.io/namespace", "shop")];
        assert!(of("flux", &release, &[]).unwrap().contains("get helmrelease shop"));
        let helm = [("meta.helm.sh/release-name", "shop"), ("meta.helm.sh/release-namespace", "other")];
        assert!(of("helm", &[], &helm).unwrap().contains("helm -n other rollback shop REVISION"));
        assert!(of("helm", &[], &helm[..1]).unwrap().contains("helm -n shop rollback"));
    }

    #[test]
    fn what_is_no_name_gets_into_no_command() {
        for bad in ["shop; rm -rf /", "$(id)", "a b", "`id`", "", "Shop", "--flag"] {
            let annotations = [("argocd.argoproj.io/tracking-id", bad), ("meta.helm.sh/release-name", bad)];
            assert_eq!(of("argocd", &[], &annotations), None, "{bad}");
            assert_eq!(of("helm", &[], &annotations), None, "{bad}");
        }
        assert_eq!(of("keel", &[], &[("meta.helm.sh/release-name", "shop")]), None);
    }
}
