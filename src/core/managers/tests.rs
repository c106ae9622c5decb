//! Metadata as the tools leave it, and each mark of the table by itself.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::api::v1alpha1::ActionKind;
use crate::core::actions;
use crate::core::workload::{
    RawWorkload, Workload,
    fixtures::{WorkloadFixture, ready},
};

fn names(metadata: Value) -> Vec<String> {
    managing(Seen { object: &json!({ "metadata": metadata }), primary: None, rivals: &[], pods: &[] })
}

fn applied(manager: &str) -> Value {
    json!({"managedFields": [
        {"manager": "kubectl-edit", "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {}}},
        {"manager": manager, "operation": "Apply", "apiVersion": "apps/v1", "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {"f:template": {}}}},
        {"manager": "kube-controller-manager", "operation": "Update", "subresource": "status"},
    ]})
}

fn scaled(manager: &str) -> Value {
    json!({"managedFields": [{"manager": manager, "operation": "Update", "subresource": "scale",
        "fieldsV1": {"f:spec": {"f:replicas": {}}}}]})
}

fn owner(api_version: &str, kind: &str, controller: bool) -> Value {
    json!({"ownerReferences": [{"apiVersion": api_version, "kind": kind, "name": "x", "uid": "u",
        "controller": controller}]})
}

/// Metadata as each tool leaves it, by the row that has to be found, and whether a rollback is left alone.
fn samples() -> Vec<(&'static str, bool, Value)> {
    let labels = |labels: Value| json!({ "labels": labels });
    let notes = |annotations: Value| json!({ "annotations": annotations });
    vec![
        ("argocd", true, notes(json!({"argocd.argoproj.io/tracking-id": "shop:apps/Deployment:shop/checkout"}))),
        ("argocd", true, labels(json!({"argocd.argoproj.io/instance": "shop"}))),
        ("argocd", true, notes(json!({"argocd.argoproj.io/sync-wave": "2"}))),
        ("argocd", true, applied("argocd-controller")),
        ("argocd", true, applied("argocd-application-controller")),
        (
            "flux",
            true,
            labels(
                json!({"kustomize.toolkit.fluxcd.io/name": "shop", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"}),
            ),
        ),
        ("flux", true, labels(json!({"helm.toolkit.fluxcd.io/name": "shop", "app.kubernetes.io/managed-by": "Helm"}))),
        ("flux", true, applied("kustomize-controller")),
        ("flux", true, applied("helm-controller")),
        ("flux", true, notes(json!({"fluxcd.io/automated": "true"}))),
        (
            "fleet",
            true,
            notes(json!({"objectset.rio.cattle.io/id": "default-shop", "objectset.rio.cattle.io/owner-name": "shop"})),
        ),
        ("fleet", true, labels(json!({"objectset.rio.cattle.io/hash": "a1b2"}))),
        ("configsync", true, notes(json!({"configmanagement.gke.io/managed": "enabled"}))),
        ("configsync", true, labels(json!({"app.kubernetes.io/managed-by": "configmanagement.gke.io"}))),
        ("configsync", true, notes(json!({"config.k8s.io/owning-inventory": "shop"}))),
        ("kapp", true, json!({"labels": {"kapp.k14s.io/app": "1580000000000", "kapp.k14s.io/association": "v1.abc"}})),
        ("kapp", true, applied("kapp-server-side-apply")),
        ("crossplane", true, labels(json!({"crossplane.io/composite": "shop-x7k2"}))),
        ("crossplane", true, applied("apiextensions.crossplane.io/composed/0b1c")),
        ("crossplane", true, applied("crossplane-kubernetes-provider")),
        (
            "olm",
            true,
            labels(
                json!({"olm.managed": "true", "olm.owner": "quay.v1.2.3", "olm.owner.kind": "ClusterServiceVersion"}),
            ),
        ),
        ("olm", true, labels(json!({"operators.coreos.com/quay.shop": ""}))),
        ("olm", true, owner("operators.coreos.com/v1alpha1", "ClusterServiceVersion", false)),
        ("openshift", true, notes(json!({"include.release.openshift.io/self-managed-high-availability": "true"}))),
        (
            "openshift",
            true,
            notes(
                json!({"image.openshift.io/triggers": "[{\"from\":{\"kind\":\"ImageStreamTag\",\"name\":\"app:latest\"}}]"}),
            ),
        ),
        ("openshift", true, owner("apps.openshift.io/v1", "DeploymentConfig", true)),
        ("flagger", true, applied("flagger")),
        ("flagger", true, owner("flagger.app/v1beta1", "Canary", true)),
        ("argo-rollouts", true, applied("rollouts-controller")),
        ("argo-rollouts", true, scaled("rollouts-controller")),
        ("argo-rollouts", true, notes(json!({"rollout.argoproj.io/workload-generation": "3"}))),
        ("kruise-rollouts", true, notes(json!({"rollouts.kruise.io/in-progressing": "{\"rolloutName\":\"api\"}"}))),
        ("terraform", true, applied("Terraform")),
        ("terraform", true, applied("HashiCorp")),
        ("terraform", true, applied("terraform-provider-kubernetes_v2.30.0_x5")),
        ("pulumi", true, applied("pulumi-kubernetes-3f2a")),
        ("pulumi", true, notes(json!({"pulumi.com/autonamed": "true"}))),
        ("pulumi", true, labels(json!({"app.kubernetes.io/managed-by": "pulumi"}))),
        ("keel", true, notes(json!({"keel.sh/policy": "minor", "keel.sh/trigger": "poll"}))),
        ("keel", true, labels(json!({"keel.sh/policy": "all"}))),
        ("keel", true, applied("keel")),
        ("image-updater", true, notes(json!({"argocd-image-updater.argoproj.io/image-list": "app=registry/app"}))),
        ("image-updater", true, applied("argocd-image-updater")),
        ("image-updater", true, applied("acme-image-updater")),
        ("image-updater", true, applied("renovate")),
        ("kubevela", true, labels(json!({"app.oam.dev/name": "shop", "app.oam.dev/component": "api"}))),
        ("open-cluster-management", true, owner("work.open-cluster-management.io/v1", "AppliedManifestWork", false)),
        ("karmada", true, labels(json!({"work.karmada.io/permanent-id": "1"}))),
        ("sveltos", true, notes(json!({"projectsveltos.io/reference-name": "shop"}))),
        ("addon-manager", true, labels(json!({"addonmanager.kubernetes.io/mode": "Reconcile"}))),
        ("addon-manager", true, applied("eks")),
        (
            "helm",
            true,
            json!({"labels": {"app.kubernetes.io/managed-by": "Helm"}, "annotations": {"meta.helm.sh/release-name": "shop"}}),
        ),
        ("helm", true, labels(json!({"heritage": "Helm", "chart": "shop-1.2.3"}))),
        ("hpa", false, scaled("kube-controller-manager")),
        ("keda", false, scaled("keda-operator")),
        ("keda", false, labels(json!({"scaledobject.keda.sh/name": "shop"}))),
        ("reloader", false, notes(json!({"reloader.stakater.com/auto": "true"}))),
        ("reloader", false, notes(json!({"configmap.reloader.stakater.com/reload": "checkout"}))),
        ("reloader", false, notes(json!({"wave.pusher.com/update-on-config-change": "true"}))),
        ("rancher", false, notes(json!({"field.cattle.io/publicEndpoints": "[]", "field.cattle.io/creatorId": "u-1"}))),
        ("rancher", false, labels(json!({"workload.user.cattle.io/workloadselector": "deployment-shop-checkout"}))),
    ]
}

#[test]
fn each_tool_is_recognised_by_the_metadata_that_it_leaves() {
    for (row, left_alone, metadata) in samples() {
        let found = names(metadata.clone());
        assert!(found.contains(&row.to_owned()), "{row}: {found:?} of {metadata}");
        let stops =
            found.iter().any(|name| Manager::named(name).unwrap().reverts(actions::of(ActionKind::RolloutUndo).writes));
        assert_eq!(stops, left_alone, "{row}: {metadata}");
    }
}

#[test]
fn no_row_is_without_a_sample() {
    let with: BTreeSet<&str> = samples().iter().map(|(row, ..)| *row).chain(["vpa"]).collect();
    let without: Vec<&str> = MANAGERS.iter().map(|row| row.name).filter(|name| !with.contains(name)).collect();
    assert!(without.is_empty(), "{without:?}");
}

#[test]
fn each_mark_of_the_table_is_enough_alone() {
    let key = |name: &str| json!({"metadata": {"labels": {format!("{}{}", name, if name.ends_with(['/', '.']) {"x"} else {""}): "1"}}});
    let writer = |name: &str, via: &str| json!({"metadata": {"managedFields": [{"manager": name.replace('*', "x").to_uppercase(), "subresource": via}]}});
    for row in MANAGERS {
        for mark in row.marks {
            let nothing = json!({"metadata": {}});
            let mut rivals = vec![];
            let (object, primary, pods) = match *mark {
                Mark::RivalOwner(group) => {
                    rivals.push(json!({"metadata": owner(&format!("{group}/v1"), "X", true)}));
                    (nothing, None, vec![])
                }
                Mark::Key(name) => (key(name), None, vec![]),
                Mark::Value(name, value) => (json!({"metadata": {"labels": {name: value}}}), None, vec![]),
                Mark::ManagedBy(name) => {
                    (json!({"metadata": {"labels": {MANAGED_BY: name.to_uppercase()}}}), None, vec![])
                }
                Mark::Writer(name) => (writer(name, ""), None, vec![]),
                Mark::Scaler(name) => (writer(name, "scale"), None, vec![]),
                Mark::Owner(group) => (json!({"metadata": owner(&format!("{group}/v1"), "X", false)}), None, vec![]),
                Mark::PrimaryOwner(group) => {
                    (nothing, Some(json!({"metadata": owner(&format!("{group}/v1"), "X", true)})), vec![])
                }
                Mark::PrimaryKey(name) => (nothing, Some(key(name)), vec![]),
                Mark::PodAnnotation(name) => (nothing, None, vec![json!({"metadata": {"annotations": {name: "1"}}})]),
            };
            let found = managing(Seen { object: &object, primary: primary.as_ref(), rivals: &rivals, pods: &pods });
            assert!(found.contains(&row.name.to_owned()), "{}: {mark:?} gives {found:?}", row.name);
        }
    }
}

#[test]
fn names_of_rows_are_unique_and_fit_their_bound() {
    let unique: BTreeSet<&str> = MANAGERS.iter().map(|row| row.name).collect();
    assert_eq!(unique.len(), MANAGERS.len());
    for row in MANAGERS {
        assert!(row.name.len() <= MAX_NAME && !row.marks.is_empty(), "{}", row.name);
        for mark in row.marks {
            if let Mark::Writer(name) | Mark::Scaler(name) | Mark::ManagedBy(name) = mark {
                assert_eq!(*name, name.to_lowercase(), "compared in lower case");
            }
        }
    }
    assert!(Manager::named(HELM).is_some());
}

#[test]
fn what_every_object_has_is_no_trace_of_a_tool() {
    for metadata in [
        json!({}),
        json!({"labels": {"app.kubernetes.io/instance": "shop", "app.kubernetes.io/part-of": "argocd"}}),
        json!({"annotations": {"deployment.kubernetes.io/revision": "2", "kubectl.kubernetes.io/last-applied-configuration": "{}"}}),
        json!({"managedFields": [{"manager": "kubectl-client-side-apply"}, {"manager": "kubectl-rollout"},
            {"manager": "kube-controller-manager", "subresource": "status"}, {"manager": "backstop-executor"}]}),
        // An autoscaler's own writes of status are no writes of replicas.
        json!({"managedFields": [{"manager": "keda-operator", "subresource": "status"}]}),
        json!({"labels": {"app.kubernetes.io/managed-by": " "}}),
    ] {
        assert_eq!(names(metadata.clone()), Vec::<String>::new(), "{metadata}");
    }
}

#[test]
fn who_says_that_it_manages_an_object_and_is_not_known_counts_as_a_tool_that_writes_everything() {
    let by = |value: &str| names(json!({"labels": {MANAGED_BY: value}}));
    assert_eq!(by("Acme-Deployer"), ["acme-deployer"]);
    assert_eq!(by(&"é".repeat(63))[0].len(), 64);
    // A tool that is known for one field, and manages this object as a whole.
    for name in ["reloader", "vpa", "rancher"] {
        let found = by(name);
        assert!(Manager::named(&found[0]).is_none(), "{found:?}");
    }
    // However many traces there are, the unknown one stays.
    let all: serde_json::Map<String, Value> = MANAGERS
        .iter()
        .flat_map(|row| row.marks)
        .filter_map(|mark| if let Mark::Key(name) = mark { Some((format!("{name}x"), json!("1"))) } else { None })
        .collect();
    let found = names(json!({"annotations": all, "labels": {MANAGED_BY: "acme"}}));
    assert_eq!((found.len(), found[0].as_str()), (8, "acme"));
}

#[test]
fn the_target_of_a_canary_is_recognised_by_the_copy_that_was_made_of_it() {
    let mut snapshot = WorkloadFixture::one_revision().pods(1, 2, &ready(60)).snapshot();
    let of = |snapshot: &RawWorkload| Workload::of(snapshot).unwrap().state.managed_by;
    assert!(of(&snapshot).is_empty());
    // Another workload that happens to have such a name.
    snapshot.primary = Some(json!({"metadata": {"name": "checkout-primary", "labels": {"app": "checkout-primary"}}}));
    assert!(of(&snapshot).is_empty());
    snapshot.primary = Some(json!({"metadata": owner("flagger.app/v1beta1", "Canary", true)}));
    assert_eq!(of(&snapshot), ["flagger"]);
}

#[test]
fn requests_that_an_autoscaler_changed_are_seen_at_the_pods() {
    let mut snapshot = WorkloadFixture::one_revision().pods(1, 1, &ready(60)).snapshot();
    snapshot.pods[0]["metadata"]["annotations"] = json!({"vpaUpdates": "Pod resources updated by checkout"});
    let names = Workload::of(&snapshot).unwrap().state.managed_by;
    assert_eq!(names, ["vpa"]);
    assert!(
        !Manager::named("vpa").unwrap().reverts(actions::of(ActionKind::RolloutUndo).writes),
        "its template is nobody else's"
    );
}
