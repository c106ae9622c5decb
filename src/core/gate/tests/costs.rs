//! What tenants write is paid for by the one meter of the decision, whatever it is: more of it denies, and takes no longer.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time as MetaTime;
use serde_json::{Value, json};

use super::super::testing::{GateFixture, at, bad_rollout};
use super::super::*;
use super::only_refusal;
use crate::api::v1alpha1::{Policy, PolicyException};
use crate::core::policy::{CompiledPolicy, MAX_EXCEPTIONS, MAX_POLICIES};

/// As many Policies as are asked of one namespace, each of this spec.
fn policies(spec: &Value) -> Vec<CompiledPolicy> {
    let all = (0..MAX_POLICIES).map(|n| {
        let mut policy = Policy::new(&format!("p{n:02}"), serde_json::from_value(spec.clone()).unwrap());
        policy.metadata.namespace = Some("shop".into());
        CompiledPolicy::of(&policy)
    });
    all.collect()
}

/// The sentence of the check of Policies: without a meter, some of these take minutes.
fn says(world: &GateFixture) -> String {
    world.judge().decision.checks.into_iter().find(|check| check.check == "PolicyAllows").unwrap().message
}

/// The bad rollout, whose revisions differ in so many annotations.
fn annotated(count: usize) -> GateFixture {
    let mut world = bad_rollout();
    let annotations = |value: &str| -> Value {
        (0..count).map(|n| (format!("a{n}"), json!(format!("{value}{n}")))).collect::<serde_json::Map<_, _>>().into()
    };
    world.reading.template["metadata"]["annotations"] = annotations("1");
    world.reading.revisions[0].template["metadata"]["annotations"] = annotations("1");
    world.reading.revisions[1].template["metadata"]["annotations"] = annotations("2");
    world
}

#[test]
fn three_thousand_caps_over_a_thousand_fields_end_by_units_and_deny_by_name() {
    let mut world = annotated(999);
    // Each value is a quantity and below the cap: nothing but the cost ends it.
    let caps = vec![json!({"path": "/spec/template/metadata/annotations/*", "max": "1000000"}); 32];
    world.policies = policies(&json!({"mode": "auto", "limits": {"caps": caps}}));
    assert_eq!(world.policies[0].error(), None);
    let said = says(&world);
    assert!(said.starts_with("Policy shop/p00 is too expensive and so denies: limits.caps brings"), "{said}");
    assert!(said.contains("200000 units, their bound together"), "{said}");
}

#[test]
fn a_cap_for_each_container_of_a_large_pod_is_not_too_expensive() {
    let mut world = annotated(0);
    let containers = |memory: &str| -> Value {
        let of = |n: usize| json!({"name": format!("c{n}"), "image": "api:1", "resources": {"limits": {"memory": memory, "cpu": "1"}}});
        (0..12).map(of).collect()
    };
    for (at, memory) in [(0, "1Gi"), (1, "2Gi")] {
        let extra: Vec<Value> = containers(memory).as_array().unwrap().clone();
        let list = world.reading.revisions[at].template["spec"]["containers"].as_array_mut().unwrap();
        list.extend(extra);
    }
    world.reading.template = world.reading.revisions[0].template.clone();
    let path = |what: &str| format!("/spec/template/spec/containers/*/resources/limits/{what}");
    let caps = json!([{"path": path("memory"), "max": "4Gi"}, {"path": path("cpu"), "max": "4"}]);
    world.policies = policies(&json!({"mode": "auto", "limits": {"caps": caps}})).into_iter().take(50).collect();
    let said = says(&world);
    assert!(said.starts_with("50 Policies that apply allow it"), "{said}");
}

fn exception(name: &str, more: Value) -> PolicyException {
    let mut spec = json!({
        "reason": "a release", "expiresAt": at(3600).to_string(), "lifts": ["Windows"], "policies": [{"name": "p00"}],
    });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let mut exception = PolicyException::new(name, serde_json::from_value(spec).unwrap());
    exception.metadata.namespace = Some("shop".into());
    exception.metadata.creation_timestamp = Some(MetaTime(at(0)));
    exception
}

#[test]
fn a_hundred_exceptions_that_cannot_be_read_cost_next_to_nothing_and_lift_nothing() {
    let mut world = bad_rollout();
    let wrong: Vec<Value> = (0..1000).map(|_| json!({"key": "a", "operator": "Is"})).collect();
    let selector = json!({"matchConstraints": {"objectSelector": {"matchExpressions": wrong}}});
    world.exceptions = (0..MAX_EXCEPTIONS).map(|n| exception(&format!("e{n}"), selector.clone())).collect();
    let closed = json!([{"kind": "deny", "schedule": "* * * * *", "durationSeconds": 3600}]);
    world.policies = policies(&json!({"mode": "auto", "windows": closed}));
    let said = says(&world);
    assert!(said.starts_with("Policy shop/p00: a deny window is open"), "{said}");
}

#[test]
fn a_hundred_exceptions_of_a_hundred_policies_are_looked_at_once_and_named_in_part() {
    let mut world = bad_rollout();
    let named: Vec<Value> = (0..16).map(|n| json!({"name": format!("p{n:02}")})).collect();
    world.exceptions =
        (0..MAX_EXCEPTIONS).map(|n| exception(&format!("e{n:02}"), json!({"policies": named}))).collect();
    world.policies = policies(&json!({"mode": "auto"}));
    let said = says(&world);
    assert!(said.contains("lifted in part by shop/e00") && said.ends_with("and 84 more"), "{said}");
}

#[test]
fn thousands_of_windows_end_by_units_and_deny_by_name() {
    let mut world = bad_rollout();
    // None of them is open, and each comes later today: it was looked for through the years.
    let shut = json!({"kind": "deny", "schedule": "59 23 29 2 *", "durationSeconds": 604_800});
    world.policies = policies(&json!({"mode": "auto", "windows": vec![shut; 128]}));
    let said = says(&world);
    assert!(said.contains("is too expensive and so denies: windows brings"), "{said}");
}

#[test]
fn a_selector_that_is_too_large_is_not_held_against_labels() {
    let mut world = bad_rollout();
    let wrong: Vec<Value> = (0..20_000).map(|_| json!({"key": "a", "operator": "Is"})).collect();
    let selector = json!({"matchExpressions": wrong});
    world.policies = policies(&json!({"mode": "auto", "matchConstraints": {"objectSelector": selector}}));
    let said = says(&world);
    assert!(said.contains("20000 labels and values, at most 256"), "{said}");
}

#[test]
fn more_groups_than_a_status_holds_are_asked_for_nothing_in_any_mode() {
    for mode in ["auto", "approve"] {
        let mut world = bad_rollout();
        world.mode = Some(mode.into());
        let all = (0..40).map(|n| {
            let spec = json!({"mode": "auto", "approvals": {"required": 1, "groups": [format!("g{n}")]}});
            super::super::testing::policy(spec)
        });
        world.policies = all.collect();
        assert_eq!(only_refusal(&world), Reason::TooManyPolicies, "{mode}");
        assert_eq!(world.judge().decision.outcome, DecisionOutcome::Escalate, "{mode}");
    }
}
