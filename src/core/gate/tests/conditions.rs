//! What people write in CEL, asked with the variables of a real case; and how far a write reaches.

use serde_json::{Value, json};

use super::super::testing::{GateFixture, at, bad_rollout, pod, policy, runbook};
use super::super::*;
use super::{only_refusal, refused};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time as MetaTime;

use crate::api::v1alpha1::{LedgerEntry, LedgerState, PodFailure, PolicyException};
use crate::core::blast::Reach;
use crate::core::workload::Strategy;

/// The verdict of one check.
fn check<'a>(decision: &'a Decision, name: &str) -> &'a CheckVerdict {
    decision.checks.iter().find(|check| check.check == name).unwrap()
}

#[test]
fn every_variable_is_there_in_a_decision() {
    let mut world = bad_rollout();
    world.alert_labels = [("team".to_owned(), "shop".to_owned())].into();
    for expression in [
        "alert.name == 'KubePodCrashLooping' && alert.firing && alert.severity == 'warning'",
        "alert.labels.team == 'shop' && alert.names == [alert.name]",
        "now - timestamp(alert.startsAt) < duration('1m')",
        "incident.rounds == 1 && incident.alerts == alert.names",
        "target.kind == 'Deployment' && target.replicas == 2 && target.ready == 1 && target.revision == 2",
        "diagnosis.cause == 'BadRollout' && diagnosis.confidence == 90 && size(diagnosis.claims) == 3",
        "facts.exists(f, f.id == 'f2' && has(f.data.pod) && f.data.pod.failure == 'CrashLoop' && f.object.kind == 'Pod')",
        "facts.all(f, !has(f.text)) && facts.all(f, timestamp(f.seenAt) <= now)",
        "action.kind == 'RolloutUndo' && action.toRevision == 1 && action.fields.all(f, f.startsWith('/spec'))",
        "before.spec.containers[0].image == 'api:2' && after.spec.containers.all(c, c.image.endsWith(':1'))",
        "blast.pods == 2 && blast.atOnce == 0 && !blast.toZero && blast.headroom == null",
        "blast.namespace.touched == 1 && blast.cluster.percent == 100 && blast.services == [] && blast.percent == 0",
        "budget.actionsInHour == 0 && budget.actionsOfTargetInDay == 0 && budget.maxInHour == 10",
        "namespaceObject.mode == 'auto' && namespaceObject.name == target.namespace",
    ] {
        world.policies = vec![policy(json!({"mode": "auto", "validations": [{"expression": expression}]}))];
        let decision = world.judge().decision;
        assert_eq!(decision.outcome, DecisionOutcome::Act, "{expression}: {}", decision.message);
        let not = format!("!({expression})");
        world.policies = vec![policy(json!({"mode": "auto", "validations": [{"expression": not}]}))];
        assert_eq!(only_refusal(&world), Reason::PolicyValidationFailed, "{not}");
    }
}

#[test]
fn match_conditions_choose_what_a_policy_is_for() {
    let of = |condition: &str, more: Value| {
        let mut spec = json!({"mode": "auto", "matchConditions": [{"name": "c", "expression": condition}]});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        policy(spec)
    };
    let (holds, does_not) = ("target.replicas == 2", "target.replicas == 3");
    for more in [
        json!({"allowedActions": []}),
        json!({"validations": [{"expression": "false"}]}),
        json!({"limits": {"maxPods": 1}}),
        json!({"confidenceFloor": 99}),
        json!({"windows": [{"kind": "deny", "schedule": "* * * * *", "durationSeconds": 3600}]}),
    ] {
        let mut world = bad_rollout();
        world.policies = vec![of(does_not, more.clone())];
        assert_eq!(refused(&world).0, DecisionOutcome::Act, "{more} is not for it");
        world.policies = vec![of(holds, more.clone())];
        assert_ne!(refused(&world).0, DecisionOutcome::Act, "{more} is for it");
    }
    let mut world = bad_rollout();
    world.policies = vec![of("target.labels.nobody == 'a'", json!({}))];
    assert_eq!(only_refusal(&world), Reason::PolicyValidationFailed, "it cannot be told");
    world.policies = vec![of("target.labels.nobody == 'a'", json!({"failurePolicy": "Ignore", "allowedActions": []}))];
    assert_eq!(refused(&world).0, DecisionOutcome::Act, "and that is ignored");
}

#[test]
fn a_mode_beside_match_conditions_does_not_compile_and_so_denies() {
    let mut world = bad_rollout();
    let conditions = json!([{"name": "c", "expression": "false"}]);
    for more in [json!({"mode": "approve"}), json!({"mode": "auto", "allowHelm": true})] {
        let mut spec = more;
        spec["matchConditions"] = conditions.clone();
        world.policies = vec![policy(spec)];
        let decision = world.judge().decision;
        assert_eq!(check(&decision, "PolicyAllows").reason, "PolicyInvalid");
        assert!(decision.message.contains("matchConditions"), "{}", decision.message);
    }
}

#[test]
fn a_runbook_speaks_cel_too() {
    let book = |more: Value| {
        let mut spec = json!({"summary": "s", "match": {}, "allowedActions": ["RolloutUndo"]});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        runbook("book", spec)
    };
    let conditions = |expression: &str| json!([{"name": "c", "expression": expression}]);
    for (more, acts) in [
        (json!({}), true),
        (json!({"validations": [{"expression": "target.replicas == 2"}]}), true),
        (json!({"validations": [{"expression": "target.replicas == 3"}]}), false),
        (json!({"matchConditions": conditions("false"), "allowedActions": []}), true),
        (json!({"matchConditions": conditions("true"), "allowedActions": []}), false),
        (json!({"matchConditions": conditions("facts[99].id == ''")}), false),
        (json!({"validations": [{"expression": "nobody"}]}), false),
        (
            json!({"variables": [{"name": "big", "expression": "blast.pods > 1"}],
                "validations": [{"expression": "!variables.big", "message": "no"}]}),
            false,
        ),
    ] {
        let mut world = bad_rollout();
        world.runbooks = vec![book(more.clone())];
        if acts {
            assert_eq!(refused(&world).0, DecisionOutcome::Act, "{more}");
        } else {
            assert_eq!(only_refusal(&world), Reason::RunbookForbids, "{more}");
        }
    }
}

/// Services and their ready endpoints, which are pods by their names.
fn reach(services: &[(&str, &[&str])]) -> Reach {
    let mut reach = Reach::among(100, 1000);
    for (service, pods) in services {
        let endpoints: Vec<Value> = pods
            .iter()
            .map(|pod| json!({"addresses": [pod], "targetRef": {"kind": "Pod", "uid": format!("uid-{pod}")}}))
            .collect();
        reach.add_endpoints(&[json!({"metadata": {"name": "s", "labels": {"kubernetes.io/service-name": service}},
            "endpoints": endpoints})]);
    }
    reach
}

/// One pod of the new revision serves, one crashes, and all are ended before others start.
fn ends_what_serves() -> GateFixture {
    let mut world = bad_rollout();
    world.reading.strategy = Strategy::Recreate;
    world.reading.pods.push(pod("api-2-b", 2, PodFailure::None));
    world
}

fn entry(number: usize, namespace: &str) -> LedgerEntry {
    LedgerEntry {
        action_id: format!("{number:032}"),
        namespace: namespace.into(),
        target_uid: format!("other-{number}"),
        target: String::new(),
        action: String::new(),
        node: String::new(),
        failed: String::new(),
        failed_at: None,
        change: None,
        incident: "another".into(),
        at: at(-10),
        state: LedgerState::Spent,
        undo: false,
    }
}

#[test]
fn a_write_that_reaches_too_far_is_refused_without_any_policy() {
    let others: Vec<String> = (0..9).map(|number| format!("web-{number}")).collect();
    let mut shared: Vec<&str> = vec!["api-2-b"];
    shared.extend(others.iter().map(String::as_str));
    for (services, refuses) in [
        (vec![("api", &["api-2-b"][..])], true),
        (vec![("api", &["api-2-b", "web-a"][..])], false),
        (vec![("shared", shared.as_slice()), ("api", &["api-2-b"][..])], true),
        (vec![("shared", shared.as_slice())], false),
    ] {
        let mut world = ends_what_serves();
        world.reach = Some(Ok(reach(&services)));
        if refuses {
            assert_eq!(only_refusal(&world), Reason::BlastRadius, "{services:?}");
            let decision = world.judge().decision;
            let message = &check(&decision, "BlastRadius").message;
            assert!(message.contains("Service api would have no endpoint"), "{message}");
        } else {
            assert_eq!(refused(&world).0, DecisionOutcome::Act, "{services:?}");
        }
    }
}

#[test]
fn a_policy_can_allow_less_of_a_service_and_never_more() {
    let mut world = ends_what_serves();
    world.reach = Some(Ok(reach(&[("api", &["api-2-b", "a", "b"])])));
    assert_eq!(refused(&world).0, DecisionOutcome::Act, "a third");
    world.policies = vec![policy(json!({"mode": "auto", "limits": {"maxPercent": 33}}))];
    assert_eq!(only_refusal(&world), Reason::BlastRadius, "rounded up it is 34");
    world.policies = vec![policy(json!({"mode": "auto", "limits": {"maxPercent": 34}}))];
    assert_eq!(refused(&world).0, DecisionOutcome::Act);
    world.policies = vec![policy(json!({"mode": "auto", "limits": {"maxPercent": 100}}))];
    world.budgets.endpoints_percent = 10;
    assert_eq!(only_refusal(&world), Reason::BlastRadius, "the installation's bound holds");
}

#[test]
fn a_disruption_budget_without_room_stops_what_ends_pods_that_serve() {
    let mut with_budget = reach(&[]);
    let selector = json!({"matchLabels": {"app": "api"}});
    let budget = |allowed: i64| json!({"metadata": {"name": "b"}, "spec": {"selector": selector}, "status": {"disruptionsAllowed": allowed}});
    with_budget.add_budgets(&[budget(0)]);
    let mut world = ends_what_serves();
    world.reach = Some(Ok(with_budget.clone()));
    assert_eq!(only_refusal(&world), Reason::BlastRadius);
    // What ends nothing that serves needs none.
    let mut world = bad_rollout();
    world.reach = Some(Ok(with_budget));
    assert_eq!(refused(&world).0, DecisionOutcome::Act);
    let mut roomy = reach(&[]);
    roomy.add_budgets(&[budget(1)]);
    let mut world = ends_what_serves();
    world.reach = Some(Ok(roomy));
    assert_eq!(refused(&world).0, DecisionOutcome::Act);
}

#[test]
fn most_of_a_namespace_or_of_the_cluster_is_not_written_to_within_an_hour() {
    for (others, namespace, workloads, acts) in [
        (1, "shop", 2, true),
        (2, "shop", 6, true),
        (2, "shop", 5, false),
        (2, "elsewhere", 3, true),
        (4, "elsewhere", 3, false),
        (3, "elsewhere", 3, true),
    ] {
        let mut world = bad_rollout();
        world.reach = Some(Ok(Reach::among(workloads, 20)));
        world.ledger.entries = (0..others).map(|number| entry(number, namespace)).collect();
        if acts {
            assert_eq!(refused(&world).0, DecisionOutcome::Act, "{others} in {namespace} of {workloads}");
        } else {
            assert_eq!(only_refusal(&world), Reason::BlastRadius, "{others} in {namespace} of {workloads}");
        }
    }
}

#[test]
fn what_cannot_be_read_is_not_known_and_refuses_for_a_while() {
    let mut world = bad_rollout();
    let message = "no answer about services of namespace shop".to_owned();
    world.reach = Some(Err(Unreadable { reason: Reason::ClusterUnreadable, message }));
    let decision = world.judge().decision;
    assert_eq!(decision.outcome, DecisionOutcome::Wait);
    assert_eq!(check(&decision, "BlastRadius").verdict, crate::api::v1alpha1::Verdict::Unknown);
    world.reach = None;
    assert_ne!(world.judge().decision.outcome, DecisionOutcome::Act, "and neither is what nobody read");
}

#[test]
fn what_a_policy_protects_is_not_written_to_and_nothing_is_taken_back_there() {
    for protected in [json!({"kinds": ["Deployment"]}), json!({"namespaces": ["shop"]}), json!({"objectSelector": {}})]
    {
        let mut world = bad_rollout();
        world.policies = vec![policy(json!({"mode": "auto", "protected": protected}))];
        assert_eq!(only_refusal(&world), Reason::Protected, "{protected}");
        let (mut world, repair) = super::following::taking_back();
        world.policies = vec![policy(json!({"mode": "auto", "protected": protected}))];
        let decision = judge_undo(&world.case(), &repair).decision;
        assert_eq!(decision.reason, "Protected", "{protected}");
    }
    let mut world = bad_rollout();
    world.policies = vec![policy(json!({"mode": "auto", "protected": {"kinds": ["StatefulSet"]}}))];
    assert_eq!(refused(&world).0, DecisionOutcome::Act);
}

#[test]
fn a_value_over_a_cap_is_not_set() {
    let mut world = bad_rollout();
    world.reading.revisions[1].template["spec"]["containers"][0]["resources"] = json!({"limits": {"memory": "8Gi"}});
    let caps = |max: &str| {
        let path = "/spec/template/spec/containers/*/resources/limits/memory";
        vec![policy(json!({"mode": "auto", "limits": {"caps": [{"path": path, "max": max}]}}))]
    };
    world.policies = caps("8Gi");
    assert_eq!(refused(&world).0, DecisionOutcome::Act);
    world.policies = caps("4Gi");
    assert_eq!(only_refusal(&world), Reason::OverLimit);
    let mut world = super::super::testing::too_few_replicas();
    world.policies = vec![policy(json!({"mode": "auto", "limits": {"maxReplicas": 2}}))];
    assert_eq!(only_refusal(&world), Reason::OverLimit);
    world.policies = vec![policy(json!({"mode": "auto", "limits": {"maxReplicas": 3}}))];
    assert_eq!(refused(&world).0, DecisionOutcome::Act);
}

#[test]
fn writes_under_way_in_the_namespace_are_waited_for() {
    let under_way = |namespace: &str, state, age: i64| LedgerEntry { state, at: at(-age), ..entry(0, namespace) };
    for (other, acts) in [
        (under_way("shop", LedgerState::Reserved, 60), false),
        (under_way("elsewhere", LedgerState::Reserved, 60), true),
        (under_way("shop", LedgerState::Spent, 60), true),
        (under_way("shop", LedgerState::Reserved, 1800), true),
    ] {
        let mut world = bad_rollout();
        world.reach = Some(Ok(Reach::among(100, 100)));
        world.policies = vec![policy(json!({"mode": "auto", "limits": {"concurrent": 1}}))];
        world.ledger.entries = vec![other.clone()];
        let (outcome, reason) = refused(&world);
        if acts {
            assert_eq!(outcome, DecisionOutcome::Act, "{other:?}");
        } else {
            assert_eq!((outcome, reason), (DecisionOutcome::Wait, Reason::TooManyAtOnce), "{other:?}");
            let charge = world.judge().charge.unwrap();
            let refusal = crate::core::budget::reserve(&world.ledger, &charge, &world.budgets, world.now).unwrap_err();
            assert_eq!(refusal.reason, Reason::TooManyAtOnce, "nor is it reserved");
        }
    }
}

/// An exception in namespace `shop` for its Policy `p`.
fn exception(lifts: &[&str]) -> PolicyException {
    let spec =
        json!({"reason": "a release", "expiresAt": at(3600).to_string(), "policies": [{"name": "p"}], "lifts": lifts});
    let mut exception = PolicyException::new("e", serde_json::from_value(spec).unwrap());
    exception.metadata.namespace = Some("shop".into());
    exception.metadata.creation_timestamp = Some(MetaTime(at(-60)));
    exception
}

#[test]
fn an_exception_lifts_what_it_names_and_no_mode_protection_or_other_check() {
    let closed = json!([{"kind": "deny", "schedule": "* * * * *", "durationSeconds": 3600}]);
    for (part, more, lifted) in [
        ("AllowedActions", json!({"allowedActions": []}), true),
        ("Validations", json!({"validations": [{"expression": "false"}]}), true),
        ("Windows", json!({"windows": closed}), true),
        ("Limits", json!({"limits": {"maxPods": 1}}), true),
        ("Limits", json!({"limits": {"actionsPerHour": 0}}), true),
        ("Limits", json!({"limits": {"concurrent": 0}}), true),
        ("ConfidenceFloor", json!({"confidenceFloor": 99}), true),
        ("Windows", json!({"mode": "observe"}), false),
        ("Validations", json!({"validations": [{"expression": "1 +"}]}), false),
        ("AllowedActions", json!({"protected": {"kinds": ["Deployment"]}}), false),
    ] {
        let mut spec = json!({"mode": "auto"});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let mut world = bad_rollout();
        world.policies = vec![policy(spec)];
        assert_ne!(refused(&world).0, DecisionOutcome::Act, "{more}");
        world.exceptions = vec![exception(&["AllowedActions", "Validations", "Windows", "Limits", "ConfidenceFloor"])];
        assert_eq!(refused(&world).0 == DecisionOutcome::Act, lifted, "{more}: {:?}", world.judge().decision.message);
        let others = ["AllowedActions", "Validations", "Windows", "Limits", "ConfidenceFloor"];
        let others: Vec<&str> = others.into_iter().filter(|other| *other != part).collect();
        world.exceptions = vec![exception(&others)];
        assert_ne!(refused(&world).0, DecisionOutcome::Act, "{more}: nothing else lifts it");
    }
}

#[test]
fn the_strictest_policy_that_is_left_counts_and_the_verdict_names_the_exception() {
    let mut world = bad_rollout();
    let strict = |name: &str| {
        let spec = json!({"mode": "auto", "limits": {"maxPods": 1}});
        let mut policy = crate::api::v1alpha1::Policy::new(name, serde_json::from_value(spec).unwrap());
        policy.metadata.namespace = Some("shop".into());
        crate::core::policy::CompiledPolicy::of(&policy)
    };
    world.policies = vec![strict("p"), strict("q")];
    world.exceptions = vec![exception(&["Limits"])];
    assert_eq!(only_refusal(&world), Reason::BlastRadius, "of the other Policy");
    world.policies.pop();
    let decision = world.judge().decision;
    assert_eq!(decision.outcome, DecisionOutcome::Act);
    let message = &check(&decision, "PolicyAllows").message;
    assert!(message.contains("shop/e") && message.contains("a release"), "{message}");
}
