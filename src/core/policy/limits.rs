//! What a Policy's limits and protections say about one exact write.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use kube_cel::cel::Value as CelValue;
use serde_json::{Value, json};

use crate::api::v1alpha1::{Cap, FieldWrite, Limits, ObjectRef, Protected};
use crate::core::cel::{Branches, EXPRESSION_UNITS, Expression, Fault, Meter, Variables};
use crate::core::selector::selects;

use super::denial::Finding;

/// Values of one write that a cap is held against at most.
const MAX_VALUES: usize = 1_000;

/// How the library compares quantities, as Kubernetes reads them: `500m`, `1Gi`, `3`.
static EXCEEDS: LazyLock<Result<Expression, Fault>> =
    LazyLock::new(|| Expression::compile("quantity(value).isGreaterThan(quantity(most))"));

/// Whether `value` is more than `most`; `None` where one of them is no quantity.
fn exceeds(value: &str, most: &str) -> Option<bool> {
    let expression = EXCEEDS.as_ref().ok()?;
    let variables = Variables::of(&json!({"value": value, "most": most}));
    match expression.evaluate(&variables, Branches::Needed, &mut Meter::new(EXPRESSION_UNITS)) {
        Ok(CelValue::Bool(exceeds)) => Some(exceeds),
        Ok(_) | Err(_) => None,
    }
}

/// What is wrong with them.
pub(super) fn findings(limits: &Limits, protected: Option<&Protected>) -> Vec<Finding> {
    let mut findings = vec![];
    for (index, Cap { path, max }) in limits.caps.iter().enumerate() {
        if !path.starts_with("/spec/") {
            let message = "it has to be the JSON pointer of a field below /spec, with * for every item of a list";
            findings.push(Finding::invalid(format!("limits.caps[{index}].path"), message));
        }
        if exceeds(max, max).is_none() {
            let message = format_args!("`{max}` is no quantity, such as 3, 500m or 2Gi");
            findings.push(Finding::invalid(format!("limits.caps[{index}].max"), message));
        }
    }
    if protected.is_some_and(|it| it.kinds.is_empty() && it.namespaces.is_empty() && it.object_selector.is_none()) {
        findings.push(Finding::invalid("protected", "it names nothing: give kinds, namespaces or objectSelector"));
    }
    findings
}

/// Why this write sets more than the limits allow; `None` where it does not. What was there before may stay.
pub(super) fn over(limits: &Limits, write: &FieldWrite) -> Option<String> {
    let FieldWrite { path, before, after } = write;
    let sets_replicas = ["/spec/replicas", "/spec/maxReplicas"].contains(&path.as_str());
    if let Some(most) = limits.max_replicas.filter(|_| sets_replicas) {
        match after.as_i64() {
            Some(count) if count <= most.into() => {}
            Some(count) => return Some(format!("{path} would be {count}, at most {most} replicas are allowed")),
            None => return Some(format!("{path} would be no number, and at most {most} replicas are allowed")),
        }
    }
    limits.caps.iter().find_map(|cap| over_cap(cap, path, before, after))
}

fn over_cap(cap: &Cap, path: &str, before: &Value, after: &Value) -> Option<String> {
    let pattern: Vec<&str> = cap.path.split('/').skip(1).collect();
    let written: Vec<&str> = path.split('/').skip(1).collect();
    let matches = |(pattern, written): (&&str, &&str)| *pattern == "*" || pattern == written;
    if written.len() > pattern.len() || !pattern.iter().zip(&written).all(matches) {
        return None;
    }
    let mut found = Vec::new();
    collect(after, &pattern[written.len()..], &mut String::new(), &mut found);
    if found.len() >= MAX_VALUES {
        return Some(format!("{} are more values than are compared", cap.path));
    }
    found.into_iter().find_map(|(at, value)| {
        // What the write leaves as it is, it does not set.
        if before.pointer(&at) == Some(value) {
            return None;
        }
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => String::new(),
        };
        match exceeds(&text, &cap.max) {
            Some(false) => None,
            Some(true) => Some(format!("{path}{at} would be {text}, at most {} is allowed", cap.max)),
            None => Some(format!("{path}{at} is no quantity, and at most {} is allowed", cap.max)),
        }
    })
}

/// The values at a pattern below `value`, each with its JSON pointer.
fn collect<'a>(value: &'a Value, pattern: &[&str], at: &mut String, found: &mut Vec<(String, &'a Value)>) {
    if found.len() >= MAX_VALUES {
        return;
    }
    let Some((first, rest)) = pattern.split_first() else {
        found.push((at.clone(), value));
        return;
    };
    let length = at.len();
    let mut into = |key: &str, value: &'a Value, at: &mut String| {
        at.push('/');
        at.push_str(key);
        collect(value, rest, at, found);
        at.truncate(length);
    };
    match value {
        Value::Array(items) if *first == "*" => {
            items.iter().enumerate().for_each(|(index, item)| into(&index.to_string(), item, at));
        }
        Value::Object(fields) if *first == "*" => {
            fields.iter().for_each(|(key, value)| into(&key.replace('~', "~0").replace('/', "~1"), value, at));
        }
        _ => {
            if let Some(inner) = value.pointer(&format!("/{first}")) {
                into(first, inner, at);
            }
        }
    }
}

/// By what `protected` names this object; `None` where it does not.
pub fn protects(protected: &Protected, object: &ObjectRef, labels: &BTreeMap<String, String>) -> Option<&'static str> {
    let Protected { kinds, namespaces, object_selector } = protected;
    if kinds.contains(&object.kind) {
        Some("kind")
    } else if namespaces.contains(&object.namespace) {
        Some("namespace")
    } else if object_selector.as_ref().is_some_and(|selector| selects(selector, labels)) {
        Some("labels")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let whole = |before: &[&str], after: &[&str]| {
            over(&limits, &write("/spec/template", template(before), template(after)))
        };
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
    fn limits_that_mean_nothing_do_not_compile() {
        let limits =
            limits(json!({"caps": [{"path": "replicas", "max": "3"}, {"path": "/spec/replicas", "max": "many"}]}));
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
}
