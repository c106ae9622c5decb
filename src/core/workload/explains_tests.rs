use super::*;
use crate::api::v1alpha1::ReferenceKind;
use crate::core::workload::obstacle::words;

fn change(path: &str, before: &str, after: &str) -> FieldChange {
    FieldChange { path: path.into(), before: before.into(), after: after.into() }
}

fn revision(references: &[Reference]) -> RevisionFact {
    RevisionFact {
        containers: vec!["app".into(), "helper".into(), "init".into()],
        references: references.to_vec(),
        ..RevisionFact::default()
    }
}

fn secret(name: &str) -> Reference {
    Reference { kind: ReferenceKind::Secret, name: name.into(), key: None }
}

/// Whether one change explains that a container fails so, with what is said about it.
fn by(failure: PodFailure, container: &str, said: &str, path: &str, before: &str, after: &str) -> bool {
    let obstacle = words(said);
    let trouble = Trouble { failure, container, obstacle: obstacle.as_ref() };
    let changes = [change(path, before, after)];
    explain(&trouble, &revision(&[]), &revision(&[]), &changes).is_ok()
}

#[test]
fn each_failure_is_explained_by_the_fields_that_it_depends_on_and_by_no_others() {
    use PodFailure::*;
    for (failure, explains, others) in [
        (
            CrashLoop,
            vec!["image", "command", "args", "env/LEVEL/value", "envFrom", "livenessProbe", "resources"],
            vec!["imagePullPolicy", "terminationMessagePath"],
        ),
        (ImagePull, vec!["image", "imagePullPolicy"], vec!["env/LEVEL/value", "command", "resources", "ports"]),
        (ConfigError, vec!["env/A/valueFrom", "envFrom", "volumeMounts", "image"], vec!["resources", "readinessProbe"]),
        (StartError, vec!["command", "image", "securityContext"], vec!["readinessProbe", "imagePullPolicy"]),
        (
            ProbeFailing,
            vec!["readinessProbe/httpGet/path", "ports", "image", "env/PORT/value"],
            vec!["imagePullPolicy"],
        ),
        (OutOfMemory, vec!["resources/limits/memory", "env/HEAP/value", "image"], vec!["readinessProbe", "ports"]),
        (LivenessFailing, vec!["livenessProbe/httpGet/path", "image"], vec!["imagePullPolicy"]),
    ] {
        for field in explains {
            assert!(by(failure, "app", "", &format!("/spec/containers/app/{field}"), "a", "b"), "{failure:?}: {field}");
            let elsewhere = format!("/spec/containers/helper/{field}");
            assert!(!by(failure, "app", "", &elsewhere, "a", "b"), "{failure:?}: another container's {field}");
        }
        for field in others {
            assert!(
                !by(failure, "app", "", &format!("/spec/containers/app/{field}"), "a", "b"),
                "{failure:?}: {field}"
            );
        }
        for path in ["/metadata/labels/version", "/spec/terminationGracePeriodSeconds", "/spec/tolerations"] {
            assert!(!by(failure, "app", "", path, "a", "b"), "{failure:?}: {path}");
        }
    }
    assert!(by(CrashLoop, "app", "", "/spec/initContainers/init/image", "a", "b"), "it starts from what that one left");
    assert!(!by(InitNotEnding, "init", "", "/spec/containers/app/image", "a", "b"));
    assert!(by(CrashLoop, "app", "", "/spec/containers/sidecar", "", "{}"), "a container that came takes its port");
    assert!(by(StuckCreating, "", "", "/spec/volumes/cfg", "", "{}"));
    assert!(!by(StuckCreating, "", "", "/spec/containers/app/image", "a", "b"));
}

#[test]
fn where_the_scheduler_names_a_field_only_that_field_explains_it() {
    use PodFailure::Unschedulable;
    let selector = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.";
    let cpu = "0/1 nodes are available: 1 Insufficient cpu.";
    let taint = "0/2 nodes are available: 2 node(s) had untolerated taint {dedicated: batch}.";
    for (said, path, before, after, explained) in [
        (selector, "/spec/nodeSelector", "", r#"{"disk":"tape"}"#, true),
        (selector, "/spec/affinity", "", "{}", true),
        (selector, "/spec/affinity/podAntiAffinity", "", "{}", false),
        (selector, "/spec/containers/app/resources/requests/cpu", "5m", "64", false),
        (cpu, "/spec/containers/app/resources/requests/cpu", "5m", "64", true),
        (cpu, "/spec/containers/app/resources/requests/cpu", "2", "500m", false),
        (cpu, "/spec/containers/app/resources/requests/memory", "1Gi", "2Gi", false),
        (cpu, "/spec/containers/app/resources/requests", "", r#"{"cpu":"64"}"#, true),
        (cpu, "/spec/nodeSelector/disk", "ssd", "tape", false),
        (taint, "/spec/tolerations", r#"[{"key":"dedicated"}]"#, "", true),
        (taint, "/spec/containers/app/image", "a", "b", false),
        ("0/1 nodes are available: 1 Too many pods.", "/spec/nodeSelector", "", "{}", false),
        (
            "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
            "/spec/containers/app/resources/limits/nvidia.com~1gpu",
            "",
            "1",
            true,
        ),
        ("something that no version says yet", "/spec/nodeSelector", "", "{}", true),
    ] {
        assert_eq!(by(Unschedulable, "", said, path, before, after), explained, "{said} {path} {before} {after}");
    }
}

#[test]
fn a_refusal_is_explained_when_all_that_it_names_was_changed() {
    let refused = |said: &str, changes: &[FieldChange]| {
        let obstacle = words(said);
        let trouble = Trouble { failure: PodFailure::Refused, container: "", obstacle: obstacle.as_ref() };
        explain(&trouble, &revision(&[]), &revision(&[]), changes).map(|found| found.len())
    };
    let security = r#"pods "web-7c-" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true), privileged (container "app" must not set securityContext.privileged=true)"#;
    let (network, privileged) = (
        change("/spec/hostNetwork", "", "true"),
        change("/spec/containers/app/securityContext", "", r#"{"privileged":true}"#),
    );
    assert_eq!(refused(security, &[network.clone(), privileged.clone()]), Ok(2));
    assert_eq!(
        refused(security, std::slice::from_ref(&network)),
        Err(Unexplained::OtherFields),
        "it was privileged before"
    );
    assert_eq!(
        refused(security, &[change("/spec/containers/app/env/BANNER/value", "a", "b")]),
        Err(Unexplained::OtherFields)
    );
    let ports = r#"pods "web-7c-" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true), hostPort (container "app" uses hostPort 8080)"#;
    assert_eq!(refused(ports, std::slice::from_ref(&network)), Ok(1), "the API server adds the host ports");
    assert_eq!(refused(ports, std::slice::from_ref(&privileged)), Err(Unexplained::OtherFields));
    let quota = r#"pods "web-7c-" is forbidden: exceeded quota: team, requested: limits.memory=1Gi, used: limits.memory=128Mi, limited: limits.memory=512Mi"#;
    let memory = |before, after| [change("/spec/containers/app/resources/limits/memory", before, after)];
    assert_eq!(refused(quota, &memory("64Mi", "1Gi")), Ok(1));
    assert_eq!(refused(quota, &memory("1Gi", "64Mi")), Err(Unexplained::OtherFields), "it asks for less");
    let pods = r#"pods "web-7c-" is forbidden: exceeded quota: team, requested: pods=1, used: pods=2, limited: pods=2"#;
    assert_eq!(refused(pods, &memory("64Mi", "1Gi")), Err(Unexplained::Outside));
    let webhook = r#"admission webhook "v.example.com" denied the request: label team is required"#;
    assert_eq!(refused(webhook, &[change("/metadata/labels/team", "shop", "")]), Ok(1));
}

#[test]
fn what_both_templates_need_and_is_not_there_is_explained_by_neither() {
    let said = words(r#"secret "db" not found"#);
    let trouble = Trouble { failure: PodFailure::ConfigError, container: "app", obstacle: said.as_ref() };
    let banner = [change("/spec/containers/app/env/BANNER/value", "spring", "summer")];
    let with = revision(&[secret("db")]);
    assert_eq!(explain(&trouble, &with, &with, &banner), Err(Unexplained::Shared(secret("db"))));
    let added = [change("/spec/containers/app/env/DB/valueFrom", "", r#"{"secretKeyRef":{"key":"url","name":"db"}}"#)];
    assert!(explain(&trouble, &with, &revision(&[]), &added).is_ok());
}

#[test]
fn a_container_that_something_adds_to_the_pods_is_not_explained_by_the_template() {
    let trouble = Trouble { failure: PodFailure::CrashLoop, container: "istio-proxy", obstacle: None };
    let changes = [change("/spec/containers/app/image", "a", "b")];
    let found = explain(&trouble, &revision(&[]), &revision(&[]), &changes);
    assert_eq!(found, Err(Unexplained::Injected("istio-proxy".into())));
}

#[test]
fn a_hash_of_configuration_is_known_by_its_name_and_its_look() {
    let annotation =
        |name: &str, before: &str, after: &str| change(&format!("/metadata/annotations/{name}"), before, after);
    let env = |name: &str, before: &str, after: &str| {
        change(&format!("/spec/containers/app/env/{name}/value"), before, after)
    };
    const OLD: &str = "1f3870be274f6c49";
    const NEW: &str = "8b04d5e3775d298e";
    for hash in [
        annotation("checksum~1config", OLD, NEW),
        annotation("checksum~1config", "", NEW),
        annotation("config-hash", &format!("sha256:{OLD}"), &format!("sha256:{NEW}")),
        annotation("reloader.stakater.com~1last-reloaded-from", "", r#"{"type":"CONFIGMAP","name":"app"}"#),
        change("/metadata/annotations", "", &format!(r#"{{"checksum/config":"{NEW}"}}"#)),
        env("STAKATER_APP_CONFIG_CONFIGMAP", "", "a94a8fe5ccb19ba61c4c0873d391e987982fbbd3"),
        env("CONFIG_CHECKSUM", OLD, NEW),
        change("/metadata/labels/config-digest", OLD, NEW),
    ] {
        assert!(carries_hash(&hash), "{hash:?}");
        assert!(only_configuration(std::slice::from_ref(&hash)), "{hash:?}");
        for failure in [PodFailure::CrashLoop, PodFailure::ConfigError] {
            assert!(!by(failure, "app", "", &hash.path, &hash.before, &hash.after), "{hash:?}");
        }
    }
    for other in [
        env("LEVEL", "info", "debug"),
        env("HASH_ROUNDS", "10", "12"),
        env("COLOUR", "deadbeef", "cafebabe"),
        annotation("team", "shop", "pay"),
        change("/metadata/annotations", "", r#"{"team":"shop"}"#),
        change("/spec/containers/app/image", OLD, NEW),
    ] {
        assert!(!carries_hash(&other), "{other:?}");
    }
    let version = change("/metadata/labels/helm.sh~1chart", "shop-1.2.3", "shop-1.2.4");
    assert!(only_configuration(&[annotation("checksum~1config", OLD, NEW), version.clone()]));
    assert!(!only_configuration(&[version]));
    assert!(!only_configuration(&[annotation("checksum~1config", OLD, NEW), env("LEVEL", "info", "debug")]));
}

#[test]
fn quantities_compare_across_their_units() {
    for (less, more) in [("5m", "1"), ("500m", "2"), ("64Mi", "1Gi"), ("1G", "1Gi"), ("100k", "1M"), ("0.5", "600m")] {
        assert!(amount(less).unwrap() < amount(more).unwrap(), "{less} {more}");
    }
    assert_eq!(amount("many"), None);
    assert_eq!(amount(""), None);
}
