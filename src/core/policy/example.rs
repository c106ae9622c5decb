//! The variables of expressions as they are for a large incident: what a Policy or a Runbook may cost is bounded by what
//! it costs here, and by what it costs where it is asked. What stands here is what an expression may name.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::core::cel::{Shape, Variables};

/// What may have any fields.
const OPEN: [&str; 6] = ["alert.labels", "target.labels", "target.annotations", "action", "before", "after"];

/// The variables, but for `now`, which is a point in time. [`variables::of`](crate::core::gate) makes the real ones; a
/// test holds the two alike.
pub fn example() -> Value {
    let map = |count: usize, bytes: usize| -> BTreeMap<String, String> {
        (0..count).map(|n| (format!("example.com/key-{n:03}"), "x".repeat(bytes))).collect()
    };
    let names = |what: &str, count: usize| (0..count).map(|n| format!("{what}{n}")).collect::<Vec<_>>();
    let object = json!({"apiVersion": "v1", "kind": "Pod", "namespace": "shop", "name": "api-0"});
    let facts = (1..=200).map(|number| {
        json!({
            "id": format!("f{number}"), "source": "Pods", "object": object, "seenAt": "2026-01-01T00:00:00Z",
            "data": {"pod": {"revision": 100, "ready": false, "failure": "CrashLoop", "restarts": 9}},
        })
    });
    let template = |image: &str| {
        json!({
            "metadata": {"labels": map(8, 32)},
            "spec": {"containers": vec![json!({
                "name": "app", "image": image, "args": names("argument", 8),
                "env": vec![json!({"name": "NAME", "value": "x".repeat(64)}); 32],
            }); 2]},
        })
    };
    json!({
        "alert": {
            "name": "KubeExampleAlert0", "names": names("KubeExampleAlert", 16), "severity": "critical",
            "startsAt": "2026-01-01T00:00:00Z", "firing": true, "labels": map(32, 64),
        },
        "incident": {"name": "api-0123456789", "rounds": 1, "alerts": names("KubeExampleAlert", 16)},
        "target": {
            "kind": "Deployment", "namespace": "shop", "name": "api",
            "labels": map(32, 32), "annotations": map(32, 256),
            "replicas": 100, "ready": 99, "revision": 100,
        },
        "diagnosis": {
            "cause": "BadRollout", "confidence": 90, "diagnoser": "rules", "hypothesis": "x".repeat(256),
            "claims": vec![json!({"kind": "PodsFailing", "cites": ["f1", "f2", "f3", "f4"]}); 16],
        },
        "facts": facts.collect::<Vec<_>>(),
        "action": {"kind": "RolloutUndo", "toRevision": 99, "fields": ["/spec/template"]},
        "before": template("registry.example.com/api:2"),
        "after": template("registry.example.com/api:1"),
        "blast": {
            "pods": 100, "atOnce": 25,
            "services": (0..16).map(|n| json!({"name": format!("api-{n}"), "ready": 100, "lost": 25, "percent": 25}))
                .collect::<Vec<_>>(),
            "percent": 25, "toZero": false, "headroom": 1, "dependents": names("Service/api-", 16),
            "namespace": {"touched": 1, "of": 50, "percent": 2}, "cluster": {"touched": 1, "of": 1000, "percent": 1},
        },
        "budget": {
            "actionsInHour": 3, "actionsInHourOfCluster": 9, "actionsOfTargetInDay": 1,
            "maxInHour": 10, "maxInHourOfCluster": 20, "maxRounds": 30,
        },
        "namespaceObject": {"name": "shop", "mode": "auto"},
        "now": null,
    })
}

/// The same, as expressions are evaluated on it.
pub(super) static EXAMPLE: LazyLock<Variables> = LazyLock::new(|| {
    let variables = Variables::of(&example());
    let now = crate::api::v1alpha1::Time::UNIX_EPOCH;
    variables.clone().with_time("now", now).unwrap_or(variables)
});

/// What an expression may name.
pub(super) static VARIABLES: LazyLock<Shape> = LazyLock::new(|| Shape::of(&example(), &OPEN));
