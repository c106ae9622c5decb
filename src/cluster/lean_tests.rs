use serde_json::json;

use super::*;
use crate::{
    api::v1alpha1::{Alert, Investigation, Policy},
    core::fit,
};

fn read<K: DeserializeOwned + Resource<DynamicType = ()>>(object: &Value) -> Result<K, Box<InvalidObject>> {
    // Through text, as it comes from the API server.
    serde_json::from_str::<Lean<K>>(&object.to_string()).unwrap().0.map_err(Box::new)
}

fn policy(spec: Value) -> Value {
    json!({"apiVersion": "backstop.dev/v1alpha1", "kind": "Policy", "spec": spec, "metadata": {
        "name": "p", "namespace": "shop", "uid": "u", "resourceVersion": "7", "generation": 3,
        "creationTimestamp": "2026-11-21T10:00:00Z",
    }})
}

#[test]
fn an_object_within_the_bound_is_what_it_would_be_without_one() {
    let spec = json!({"mode": "approve", "matchConstraints": {"objectSelector": {"matchLabels": {"a": "b"}}},
        "confidenceFloor": 60, "allowHelm": true, "allowedActions": null,
        "validations": [{"expression": "true", "message": "ünï"}]});
    let object = policy(spec);
    assert_eq!(read::<Policy>(&object).unwrap(), serde_json::from_value(object).unwrap());
}

#[test]
fn what_tenants_add_to_the_metadata_is_never_decoded() {
    let mut object = policy(json!({"mode": "auto"}));
    let many = |prefix: &str| (0..20_000).map(|n| (format!("{prefix}{n}"), json!(""))).collect::<Map<_, _>>();
    let metadata = object["metadata"].as_object_mut().unwrap();
    metadata.insert("labels".into(), Value::Object(many("x")));
    metadata.insert("annotations".into(), Value::Object(many("backstop.devil/x")));
    metadata.insert("finalizers".into(), json!(vec!["a/b"; 20_000]));
    metadata.insert("managedFields".into(), json!([{"fieldsV1": many("f:")}]));
    let read = read::<Policy>(&object).unwrap().metadata;
    assert_eq!((read.labels, read.annotations), (Some(Default::default()), Some(Default::default())));
    assert_eq!((read.finalizers, read.managed_fields), (None, None));
    assert_eq!((read.name.as_deref(), read.resource_version.as_deref()), (Some("p"), Some("7")));
}

#[test]
fn a_mark_of_ours_stays() {
    let alert = json!({"metadata": {"name": "a", "labels": {"backstop.dev/belongs-to": "shop", "team": "x"},
            "annotations": {"backstop.dev/last-seen": "2026-11-21T10:00:00Z", "note": "x"}},
        "spec": {"fingerprint": "f", "labels": {"team": "y"}, "startsAt": "2026-11-21T10:00:00Z"}});
    let alert = read::<Alert>(&alert).unwrap();
    let keys =
        |marks: Option<std::collections::BTreeMap<String, String>>| marks.unwrap().into_keys().collect::<Vec<_>>();
    assert_eq!(keys(alert.metadata.labels), ["backstop.dev/belongs-to"]);
    assert_eq!(keys(alert.metadata.annotations), ["backstop.dev/last-seen"]);
    assert_eq!(alert.spec.labels["team"], "y", "the alert's own labels are no metadata");
}

#[test]
fn what_is_larger_than_the_bound_cannot_be_decoded_by_its_name_and_takes_no_memory() {
    let labels: Map<_, _> = (0..100_000).map(|n| (format!("l{n}"), json!("v"))).collect();
    let values = vec![json!("v"); 100_000];
    for spec in [
        json!({"mode": "auto", "matchConstraints": {"objectSelector": {"matchLabels": labels}}}),
        json!({"mode": "auto", "protected": {"objectSelector": {"matchExpressions":
            [{"key": "a", "operator": "In", "values": values}]}}}),
        json!({"mode": "auto", "windows": vec![json!({"kind": "deny", "schedule": "x".repeat(200)}); 6_000]}),
        json!({"mode": "auto", "unknown": "x".repeat(MAX_WEIGHT)}),
    ] {
        let invalid = read::<Policy>(&policy(spec)).unwrap_err();
        assert_eq!(invalid.metadata.name.as_deref(), Some("p"));
        assert_eq!((invalid.metadata.namespace.as_deref(), invalid.metadata.generation), (Some("shop"), Some(3)));
        assert!(invalid.error.contains("larger than 1048576 bytes"), "{}", invalid.error);
    }
}

#[test]
fn marks_that_look_like_ours_count_too_and_the_name_is_known_all_the_same() {
    let mut object = policy(json!({"mode": "auto"}));
    let marks: Map<_, _> = (0..40_000).map(|n| (format!("backstop.dev/x{n}"), json!(""))).collect();
    object["metadata"]["annotations"] = Value::Object(marks);
    let invalid = read::<Policy>(&object).unwrap_err();
    assert_eq!(invalid.metadata.name.as_deref(), Some("p"));
    assert!(invalid.error.contains("larger than"), "{}", invalid.error);
}

#[test]
fn what_we_write_ourselves_has_no_second_bound() {
    let facts: Vec<Value> = (0..3000).map(|n| json!({"text": "x".repeat(400), "n": n})).collect();
    let object = json!({"metadata": {"name": "i"}, "spec": {"facts": facts}});
    let invalid = read::<Investigation>(&object).unwrap_err();
    assert!(invalid.error.contains("missing field"), "{}", invalid.error);
}

/// The largest text of a value that `schema` admits, in ASCII, with [`NODE`] for each value.
fn largest(schema: &Value) -> usize {
    let bound =
        |name: &str| schema[name].as_u64().map_or(usize::MAX / 1_000_000, |bound| usize::try_from(bound).unwrap());
    let text = match schema["type"].as_str() {
        Some("string") if schema.get("enum").is_some() || schema.get("format").is_some() => 64,
        // A pattern that has no bound beside it is held to one by `every_text_list_and_map_of_ours_has_a_bound`.
        Some("string") if schema.get("maxLength").is_none() && schema.get("pattern").is_some() => 128,
        Some("string") => bound("maxLength"),
        Some("array") => bound("maxItems").saturating_mul(largest(&schema["items"])),
        Some("object") => {
            let fields = schema["properties"].as_object().into_iter().flatten();
            let named: usize = fields.map(|(name, field)| name.len() + largest(field)).sum();
            let others = schema.get("additionalProperties").filter(|others| others.is_object());
            let others = others.map_or(0, |each| bound("maxProperties").saturating_mul(317 + NODE + largest(each)));
            named.saturating_add(others)
        }
        _ => 0,
    };
    NODE.saturating_add(text)
}

#[test]
fn what_the_schemas_admit_of_people_is_within_the_bound() {
    for kind in BY_PEOPLE {
        let sizes = ["spec", "status"].map(|part| fit::schema(kind, part).map_or(0, largest));
        // A condition is Kubernetes' own type, and ours to write.
        let sizes = [sizes[0], sizes[1].min(128 << 10)];
        assert!(sizes.iter().sum::<usize>() <= MAX_WEIGHT, "{kind} admits {sizes:?} bytes");
    }
}
