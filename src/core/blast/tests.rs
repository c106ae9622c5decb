use serde_json::{Value, json};

use super::*;
use crate::api::v1alpha1::{Action, EvictWrite, PodFailure, RolloutUndo};
use crate::core::gate::testing::{object, pod, reading};

/// The return of the reading to revision 1.
fn undo() -> Prediction {
    Prediction {
        action: Action::RolloutUndo(RolloutUndo { to_revision: 1 }),
        write: field("/spec/template", json!({}), json!({})),
        provenance: Some(object("ReplicaSet", "api-1")),
        undo: None,
        diff: vec![],
    }
}

fn field(path: &str, before: Value, after: Value) -> Write {
    Write::Field(FieldWrite { path: path.into(), before, after })
}

/// A Service of namespace `shop` that chooses these labels.
fn service(name: &str, selector: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"selector": selector}})
}

/// A slice of a Service with an endpoint for each pod, which is ready or not.
fn slice(service: &str, pods: &[(&str, bool)]) -> Value {
    let endpoints = pods.iter().enumerate().map(|(number, (pod, ready))| {
        json!({"addresses": [format!("10.0.0.{number}")], "conditions": {"ready": ready},
            "targetRef": {"kind": "Pod", "name": pod, "uid": format!("uid-{pod}")}})
    });
    json!({"metadata": {"name": "s", "labels": {"kubernetes.io/service-name": service}},
        "endpoints": endpoints.collect::<Vec<_>>()})
}

fn reach(services: &[Value], slices: &[Value], budgets: &[Value]) -> Reach {
    let mut reach = Reach::among(10, 100);
    reach.add_services(services);
    reach.add_endpoints(slices);
    reach.add_budgets(budgets);
    reach
}

/// Both replicas of revision 2 serve, beside nothing else.
fn serving(strategy: Strategy) -> Workload {
    Workload { strategy, ..reading().healthy() }
}

fn of(workload: &Workload, prediction: &Prediction, reach: &Reach) -> Blast {
    Blast::of(workload, prediction, reach, Touched::default())
}

#[test]
fn what_fails_serves_nobody_and_the_pods_of_the_earlier_revision_stay() {
    let workload = reading().crash_looping();
    let slices = [slice("api", &[("api-1-a", true), ("api-2-a", true)])];
    let blast = of(&workload, &undo(), &reach(&[service("api", json!({"app": "api"}))], &slices, &[]));
    assert_eq!((blast.pods, blast.at_once), (2, 0));
    assert_eq!(blast.services, [Loss { service: "api".into(), ready: 1, lost: 0 }]);
    assert_eq!((blast.to_zero(), blast.dependents.as_slice()), (None, &["Service/api".to_owned()][..]));
}

/// How long it takes at best with as many Services of as many pods.
fn cost(services: usize, pods: usize) -> std::time::Duration {
    let names: Vec<String> = (0..pods).map(|n| format!("api-2-{n}")).collect();
    let of_target = names.iter().map(|name| pod(name, 2, PodFailure::None)).collect();
    let workload = Workload { pods: of_target, strategy: Strategy::Recreate, ..reading().healthy() };
    let endpoints: Vec<(&str, bool)> = names.iter().map(|name| (name.as_str(), true)).collect();
    let names: Vec<String> = (0..services).map(|n| format!("s{n:03}")).collect();
    let slices: Vec<Value> = names.iter().map(|service| slice(service, &endpoints)).collect();
    let all: Vec<Value> = names.iter().map(|name| service(name, json!({"app": "api"}))).collect();
    let reach = reach(&all, &slices, &[]);
    let once = || {
        let began = std::time::Instant::now();
        let blast = of(&workload, &undo(), &reach);
        let took = began.elapsed();
        assert_eq!((blast.services.len(), blast.services[services - 1].ready), (services, pods));
        took
    };
    (0..5).map(|_| once()).min().unwrap()
}

/// Times only inform, but for this: twenty times the pods, and so the endpoints, take some twenty times as long. It takes several
/// times that where each endpoint is held against each pod, however often it is tried. On a busy machine the longer of the two
/// is interrupted more often, so that one undisturbed try of many counts.
#[test]
fn services_of_thousands_of_pods_cost_what_their_endpoints_do() {
    let (mut few, mut many) = (cost(20, 200), cost(20, 4000));
    for _ in 0..20 {
        if many <= few * 80 {
            break;
        }
        (few, many) = (few.min(cost(20, 200)), many.min(cost(20, 4000)));
    }
    println!("20 Services of 200 pods: {few:?}, of 4000: {many:?}");
    assert!(many <= few * 80, "{many:?} beside {few:?}");
}

#[test]
fn with_recreate_all_that_serves_ends_at_one_time() {
    let workload = serving(Strategy::Recreate);
    let services = [service("api", json!({"app": "api"})), service("shared", json!({"app": "api"}))];
    let own = [("api-2-a", true), ("api-2-b", true)];
    let slices = [slice("api", &own), slice("shared", &[own[0], own[1], ("web-a", true), ("web-b", false)])];
    let blast = of(&workload, &undo(), &reach(&services, &slices, &[]));
    assert_eq!(blast.at_once, 2);
    assert_eq!(blast.to_zero().map(|loss| loss.service.as_str()), Some("api"));
    let shared = &blast.services[1];
    assert_eq!((shared.ready, shared.lost, shared.percent()), (3, 2, 67), "rounded up; one that is not ready is none");
}

#[test]
fn a_rollout_keeps_as_many_as_its_strategy_says() {
    let rolling = Strategy::default();
    for (kind, spec, desired, ready, at_once) in [
        (Kind::Deployment, json!({}), 2, 2, 0),
        (Kind::Deployment, json!({}), 4, 4, 1),
        (Kind::Deployment, json!({"strategy": {"rollingUpdate": {"maxUnavailable": "50%"}}}), 4, 4, 2),
        (Kind::Deployment, json!({"strategy": {"rollingUpdate": {"maxUnavailable": 3}}}), 4, 3, 2),
        (Kind::Deployment, json!({"strategy": {"rollingUpdate": {"maxUnavailable": "10%", "maxSurge": 0}}}), 4, 4, 1),
        (Kind::StatefulSet, json!({}), 4, 4, 1),
        (Kind::DaemonSet, json!({}), 4, 4, 1),
        (Kind::DaemonSet, json!({"updateStrategy": {"rollingUpdate": {"maxUnavailable": "30%"}}}), 4, 4, 2),
        (Kind::DaemonSet, json!({"updateStrategy": {"rollingUpdate": {"maxSurge": 1}}}), 4, 4, 0),
    ] {
        let mut workload = Workload { kind, spec: spec.clone(), strategy: rolling, ..reading() };
        workload.object.kind = kind.as_str().into();
        workload.state.desired = desired;
        workload.pods = (0..ready).map(|number| pod(&format!("api-{number}"), 2, PodFailure::None)).collect();
        assert_eq!(of(&workload, &undo(), &Reach::default()).at_once, at_once, "{kind} {spec} {ready} of {desired}");
    }
    let workload = serving(Strategy::OnDelete);
    assert_eq!(of(&workload, &undo(), &Reach::default()).at_once, 0);
}

#[test]
fn each_kind_of_write_touches_its_own_pods() {
    let workload = serving(Strategy::default());
    let with = |write| Prediction { write, provenance: None, ..undo() };
    for (write, pods, at_once) in [
        (field("/spec/replicas", json!(2), json!(5)), 3, 0),
        (field("/spec/replicas", json!(2), json!(1)), 1, 1),
        (field("/spec/paused", json!(false), json!(true)), 0, 0),
        (field("/spec/template/spec/containers/0/resources/limits/memory", json!("1Gi"), json!("2Gi")), 2, 0),
        (Write::Evict(EvictWrite { pod: object("Pod", "api-2-a") }), 1, 1),
        (Write::Evict(EvictWrite { pod: object("Pod", "gone") }), 1, 0),
    ] {
        let blast = of(&workload, &with(write.clone()), &Reach::default());
        assert_eq!((blast.pods, blast.at_once), (pods, at_once), "{write:?}");
    }
}

#[test]
fn services_and_budgets_are_found_by_selectors_and_by_endpoints() {
    let budget = |name: &str, selector: Value, allowed: i64| json!({"metadata": {"name": name}, "spec": {"selector": selector}, "status": {"disruptionsAllowed": allowed}});
    let reach = reach(
        &[
            service("by-selector", json!({"app": "api"})),
            service("other", json!({"app": "web"})),
            // Somebody else keeps the endpoints of one without a selector.
            service("by-endpoint", Value::Null),
            service("nobody", json!({})),
        ],
        &[
            slice("by-endpoint", &[("api-2-a", true)]),
            // The second family of addresses.
            slice("by-endpoint", &[("api-2-a", true)]),
            slice("other", &[("web", true)]),
        ],
        &[
            budget("tight", json!({"matchLabels": {"app": "api"}}), 0),
            budget("all", json!({}), 3),
            budget("none", Value::Null, 0),
            budget("other", json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}), 0),
        ],
    );
    let blast = of(&serving(Strategy::default()), &undo(), &reach);
    let expected =
        ["Service/by-endpoint", "Service/by-selector", "PodDisruptionBudget/tight", "PodDisruptionBudget/all"];
    assert_eq!(blast.dependents, expected);
    assert_eq!(blast.headroom, Some(0));
    assert_eq!(blast.services[0].ready, 1, "a pod with two addresses is one endpoint");
    assert_eq!(blast.services[1].ready, 0);
}

#[test]
fn shares_count_this_workload_and_are_never_more_than_all() {
    let reach = reach(&[], &[], &[]);
    let touched = Touched { of_namespace: 2, of_cluster: 4 };
    let blast = Blast::of(&serving(Strategy::default()), &undo(), &reach, touched);
    assert_eq!(blast.of_namespace, Share { touched: 3, of: 10 });
    assert_eq!((blast.of_namespace.percent(), blast.of_cluster.percent()), (30, 5));
    let blast = Blast::of(&serving(Strategy::default()), &undo(), &Reach::default(), touched);
    assert_eq!(blast.of_namespace.percent(), 100);
}
