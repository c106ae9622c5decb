use super::*;
use crate::core::cel::JUDGEMENT_UNITS;

fn over(limits: &Limits, write: &FieldWrite) -> Option<String> {
    super::over(limits, write, &mut Meter::new(JUDGEMENT_UNITS)).expect("it costs little")
}

fn limits(value: Value) -> Limits {
    serde_json::from_value(value).unwrap()
}

fn write(path: &str, before: Value, after: Value) -> FieldWrite {
    FieldWrite { path: path.into(), before, after }
}

#[test]
fn no_more_replicas_are_set_than_a_policy_allows() {
    let limits = limits(json!({"maxReplicas": 5}));
    for (path, after, fine) in [
        ("/spec/replicas", json!(5), true),
        ("/spec/replicas", json!(6), false),
        ("/spec/replicas", json!("6"), false),
        ("/spec/maxReplicas", json!(6), false),
        ("/spec/template", json!({"replicas": 6}), true),
    ] {
        assert_eq!(over(&limits, &write(path, json!(1), after.clone())).is_none(), fine, "{path} {after}");
    }
}

#[test]
fn a_cap_holds_for_each_value_that_a_write_sets_and_not_for_what_it_leaves() {
    let limits = limits(json!({"caps": [
        {"path": "/spec/template/spec/containers/*/resources/limits/memory", "max": "2Gi"},
    ]}));
    let template = |memory: &[&str]| {
        let containers = memory.iter().map(|memory| json!({"resources": {"limits": {"memory": memory}}}));
        json!({"spec": {"containers": containers.collect::<Vec<_>>()}})
    };
    let whole =
        |before: &[&str], after: &[&str]| over(&limits, &write("/spec/template", template(before), template(after)));
    assert_eq!(whole(&["1Gi"], &["2048Mi"]), None, "as much as is allowed");
    assert_eq!(whole(&["4Gi", "1Gi"], &["4Gi", "2Gi"]), None, "the first was so before");
    let message = whole(&["1Gi", "1Gi"], &["1Gi", "2.5Gi"]).unwrap();
    assert!(message.contains("containers/1/resources/limits/memory would be 2.5Gi, at most 2Gi"), "{message}");
    assert!(whole(&["1Gi"], &["lots"]).unwrap().contains("no quantity"));
    let one = "/spec/template/spec/containers/0/resources/limits/memory";
    assert!(over(&limits, &write(one, json!("1Gi"), json!("3Gi"))).is_some());
    assert_eq!(over(&limits, &write(one, json!("1Gi"), json!("2Gi"))), None);
    assert_eq!(over(&limits, &write("/spec/replicas", json!(1), json!(9))), None, "another field");
    let deeper = format!("{one}/deeper");
    assert_eq!(over(&limits, &write(&deeper, json!(1), json!(9))), None, "no value of the cap");
}

#[test]
fn a_limit_that_a_write_takes_away_is_over_every_cap() {
    let limits = limits(json!({"caps": [
        {"path": "/spec/template/spec/containers/*/resources/limits/memory", "max": "2Gi"},
        {"path": "/spec/template/spec/containers/*/resources/limits/*", "max": "100Gi"},
    ]}));
    let whole = |before: Value, after: Value| {
        let template = |containers: Value| json!({"spec": {"containers": containers}});
        over(&limits, &write("/spec/template", template(before), template(after)))
    };
    let of = |limits: Value| json!([{"name": "app", "resources": {"limits": limits}}]);
    for after in [
        json!([{"name": "app", "resources": {"limits": {}}}]),
        json!([{"name": "app", "resources": {"limits": {"memory": null}}}]),
        json!([{"name": "app", "resources": {}}]),
        json!([{"name": "app"}]),
    ] {
        let message = whole(of(json!({"memory": "1Gi"})), after.clone()).unwrap_or_else(|| panic!("{after}"));
        assert!(message.contains("containers/0/resources/limits/memory would be gone, and at most 2Gi"), "{message}");
    }
    let message = whole(of(json!({"cpu": "1"})), of(json!({"memory": "1Gi"}))).unwrap();
    assert!(message.contains("limits/cpu would be gone"), "every field of an object: {message}");
    assert_eq!(whole(of(json!({"memory": "1Gi"})), json!([])), None, "the container is gone, and needs no limit");
    assert_eq!(whole(of(json!({})), of(json!({}))), None, "there was none");
    let one = "/spec/template/spec/containers/0/resources/limits/memory";
    assert!(over(&limits, &write(one, json!("1Gi"), Value::Null)).unwrap().contains("would be gone"));
}

#[test]
fn what_has_a_name_is_held_against_what_had_it_before_wherever_it_stands() {
    let limits = limits(json!({"caps": [
        {"path": "/spec/template/spec/containers/*/resources/limits/memory", "max": "2Gi"},
    ]}));
    let template = |containers: &[(&str, &str)]| {
        let of = |(name, memory): &(&str, &str)| json!({"name": name, "resources": {"limits": {"memory": memory}}});
        json!({"spec": {"containers": containers.iter().map(of).collect::<Vec<_>>()}})
    };
    let whole = |before: &[(&str, &str)], after: &[(&str, &str)]| {
        over(&limits, &write("/spec/template", template(before), template(after)))
    };
    let before = [("cache", "8Gi"), ("web", "1Gi")];
    assert_eq!(whole(&before, &[("web", "1Gi"), ("cache", "8Gi")]), None, "both stay as they are");
    assert_eq!(whole(&before, &[("proxy", "1Gi"), ("cache", "8Gi"), ("web", "1Gi")]), None, "one more in front");
    let message = whole(&before, &[("web", "8Gi"), ("cache", "1Gi")]).unwrap();
    assert!(
        message.contains("containers/0/resources/limits/memory would be 8Gi"),
        "another's is not its own: {message}"
    );
    assert!(whole(&before, &[("new", "8Gi")]).is_some(), "it had none before");
}

#[test]
fn to_hold_a_write_against_caps_ends_when_the_units_do() {
    let annotations = |value: &str| -> Value {
        let each = (0..999).map(|n| (format!("a{n}"), json!(format!("{value}{n}"))));
        json!({"metadata": {"annotations": each.collect::<serde_json::Map<_, _>>()}})
    };
    let large = |n: usize| json!({"metadata": {"annotations": {"a": vec![n; 300_000]}}});
    let of_one = |path: &str| limits(json!({"caps": [{"path": path, "max": "1000000"}]}));
    for (what, limits, write) in [
        (
            "many values",
            of_one("/spec/template/metadata/annotations/*"),
            write("/spec/template", annotations("1"), annotations("2")),
        ),
        ("a large one", of_one("/spec/template/metadata/annotations/a"), write("/spec/template", large(1), large(1))),
        (
            "a long one",
            of_one("/spec/template"),
            write("/spec/template", json!("a".repeat(4_000_000)), json!("b".repeat(4_000_000))),
        ),
    ] {
        let mut meter = Meter::new(20_000);
        assert_eq!(super::over(&limits, &write, &mut meter), Err(Stop::Spent), "{what}");
        assert_eq!(meter.left(), 0, "{what}");
    }
}

#[test]
fn limits_that_mean_nothing_do_not_compile() {
    let limits = limits(json!({"caps": [{"path": "replicas", "max": "3"}, {"path": "/spec/replicas", "max": "many"}]}));
    let protected = Protected::default();
    let fields: Vec<String> = findings(&limits, Some(&protected)).into_iter().map(|found| found.field).collect();
    assert_eq!(fields, ["limits.caps[0].path", "limits.caps[1].max", "protected"]);
}

#[test]
fn what_is_protected_is_so_by_kind_or_namespace_or_labels() {
    let protected: Protected = serde_json::from_value(json!({
        "kinds": ["StatefulSet"], "namespaces": ["bank"], "objectSelector": {"matchLabels": {"tier": "db"}},
    }))
    .unwrap();
    let object = |kind: &str, namespace: &str| ObjectRef {
        kind: kind.into(),
        namespace: namespace.into(),
        ..ObjectRef::default()
    };
    let labels = |tier: &str| [("tier".to_owned(), tier.to_owned())].into();
    for (kind, namespace, tier, by) in [
        ("Deployment", "shop", "web", None),
        ("StatefulSet", "shop", "web", Some("kind")),
        ("Deployment", "bank", "web", Some("namespace")),
        ("Deployment", "shop", "db", Some("labels")),
    ] {
        assert_eq!(protects(&protected, &object(kind, namespace), &labels(tier)), by);
    }
}
