use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::api::v1alpha1::{ActionKind, Mode, Policy, Runbook, Time};
use crate::core::cel::{JUDGEMENT_UNITS, Meter, Variables};
use crate::core::reason::Reason;

fn policy(spec: Value) -> CompiledPolicy {
    let mut policy = Policy::new("web", serde_json::from_value(spec).unwrap());
    policy.metadata.namespace = Some("shop".into());
    CompiledPolicy::of(&policy)
}

fn validate(policy: &CompiledPolicy, variables: Value) -> Result<(), Denial> {
    policy.validate(&Variables::of(&variables), &mut Meter::new(JUDGEMENT_UNITS))
}

fn at(text: &str) -> Time {
    text.parse().unwrap()
}

#[test]
fn a_policy_that_does_not_compile_denies_and_says_where() {
    for spec in [
        json!({"mode": "auto", "validations": [{"expression": "1 +"}]}),
        json!({"mode": "auto", "windows": [{"kind": "deny", "schedule": "not cron", "durationSeconds": 60}]}),
        json!({"mode": "auto", "windows": [{"kind": "deny", "schedule": "0 0 * * *", "durationSeconds": 60, "timeZone": "Mars/Base"}]}),
    ] {
        let policy = policy(spec);
        let denial = policy.admits(ActionKind::RolloutUndo, at("2026-01-01T00:00:00Z")).unwrap_err();
        assert_eq!(denial.reason, Reason::PolicyInvalid);
        assert!(denial.message.contains("shop/web"), "{}", denial.message);
        assert_eq!(validate(&policy, json!({})).unwrap_err().reason, Reason::PolicyInvalid);
    }
}

#[test]
fn validations_see_their_variables_and_speak_with_the_authors_words() {
    let policy = policy(json!({"mode": "auto", "validations": [{
        "expression": "target.replicas <= 3",
        "messageExpression": "'too many: ' + string(target.replicas)",
        "reason": "TooWide",
    }]}));
    assert_eq!(validate(&policy, json!({"target": {"replicas": 2}})), Ok(()));
    let denial = validate(&policy, json!({"target": {"replicas": 9}})).unwrap_err();
    assert_eq!(denial.reason, Reason::PolicyValidationFailed);
    assert_eq!(denial.message, "Policy shop/web: TooWide: too many: 9");
}

#[test]
fn whole_numbers_equal_the_literals_of_an_expression() {
    for expression in ["target.replicas == 3", "target.replicas - 4 < 0", "facts[0] == 3"] {
        let policy = policy(json!({"mode": "auto", "validations": [{"expression": expression}]}));
        assert_eq!(validate(&policy, json!({"target": {"replicas": 3}, "facts": [3]})), Ok(()), "{expression}");
    }
}

#[test]
fn an_unknown_variable_and_a_value_that_is_no_boolean_deny() {
    for expression in ["nobody.knows == 1", "1 + 1", "'yes'"] {
        let policy = policy(json!({"mode": "auto", "validations": [{"expression": expression}]}));
        assert_eq!(validate(&policy, json!({})).unwrap_err().reason, Reason::PolicyInvalid, "{expression}");
    }
    // What only the object can show is a failure of the validation.
    for expression in ["target.labels.nobody == 'a'", "target.labels['app'] || true"] {
        let policy = policy(json!({"mode": "auto", "validations": [{"expression": expression}]}));
        let labels = json!({"target": {"labels": {"app": "api"}}});
        let found = validate(&policy, labels).map_err(|denial| denial.reason);
        let expected = if expression.ends_with("true") { Ok(()) } else { Err(Reason::PolicyValidationFailed) };
        assert_eq!(found, expected, "{expression}");
    }
}

#[test]
fn an_empty_list_of_allowed_actions_allows_none() {
    let policy = policy(json!({"mode": "auto", "allowedActions": []}));
    let denial = policy.admits(ActionKind::RolloutUndo, at("2026-01-01T00:00:00Z")).unwrap_err();
    assert_eq!(denial.reason, Reason::ActionNotAllowed);
}

#[test]
fn a_deny_window_wins_over_an_allow_window() {
    let policy = policy(json!({"mode": "auto", "windows": [
        {"kind": "allow", "schedule": "0 0 * * *", "durationSeconds": 86400},
        {"kind": "deny", "schedule": "0 17 * * 5", "durationSeconds": 3600, "timeZone": "Europe/Amsterdam"},
    ]}));
    let action = ActionKind::RolloutUndo;
    // Friday 2026-11-20, 17:30 in Amsterdam is 16:30 UTC.
    assert_eq!(policy.admits(action, at("2026-11-20T16:30:00Z")).unwrap_err().reason, Reason::OutsideWindow);
    assert_eq!(policy.admits(action, at("2026-11-20T15:30:00Z")), Ok(()));
    assert_eq!(policy.admits(action, at("2026-11-20T17:00:00Z")), Ok(()));
}

#[test]
fn outside_of_every_allow_window_nothing_is_allowed() {
    let policy = policy(
        json!({"mode": "auto", "windows": [{"kind": "allow", "schedule": "0 9 * * *", "durationSeconds": 3600}]}),
    );
    assert!(policy.admits(ActionKind::RolloutUndo, at("2026-11-20T08:59:59Z")).is_err());
    assert!(policy.admits(ActionKind::RolloutUndo, at("2026-11-20T09:00:00Z")).is_ok());
    assert!(policy.admits(ActionKind::RolloutUndo, at("2026-11-20T10:00:00Z")).is_err());
}

#[test]
fn what_the_author_calls_a_rule_is_text_and_never_a_reason() {
    for word in [Reason::AlertResolved.as_str().to_string(), Reason::Storm.as_str().into(), "x".repeat(64)] {
        let policy =
            policy(json!({"mode": "auto", "validations": [{"expression": "false", "reason": word, "message": "no"}]}));
        let denial = validate(&policy, json!({})).unwrap_err();
        assert_eq!(denial.reason, Reason::PolicyValidationFailed);
        assert_eq!(denial.message, format!("Policy shop/web: {word}: no"));
    }
}

#[test]
fn a_target_whose_labels_are_not_known_may_match() {
    let labels = |value: &str| BTreeMap::from([("tier".to_string(), value.to_string())]);
    let all = [
        policy(json!({"mode": "auto", "matchConstraints": {"kinds": ["Deployment"]}})),
        policy(json!({"mode": "auto", "matchConstraints": {"objectSelector": {"matchLabels": {"tier": "db"}}}})),
        policy(json!({"mode": "auto", "matchConstraints": {"kinds": ["DaemonSet"]}})),
    ];
    let counts = |kind, labels: Option<&BTreeMap<_, _>>| {
        let Matching { certain, possible } = matching(&all, kind, labels);
        (certain.len(), possible.len())
    };
    assert_eq!(counts(Some("Deployment"), None), (1, 1));
    assert_eq!(counts(Some("Deployment"), Some(&labels("db"))), (2, 0));
    assert_eq!(counts(Some("Deployment"), Some(&labels("web"))), (1, 0));
    assert_eq!(counts(None, None), (0, 3));
}

#[test]
fn what_follows_a_write_needs_no_allow_window_and_no_deny_window() {
    let now = at("2026-11-20T12:00:00Z");
    let window = |kind: &str, schedule: &str| {
        policy(json!({"mode": "auto", "windows": [{"kind": kind, "schedule": schedule, "durationSeconds": 3600}]}))
    };
    assert_eq!(
        window("allow", "0 9 * * *").admits_following(
            ActionKind::RolloutUndo,
            now,
            |_| false,
            &mut Meter::new(JUDGEMENT_UNITS)
        ),
        Ok(())
    );
    let denial = window("deny", "0 12 * * *")
        .admits_following(ActionKind::RolloutUndo, now, |_| false, &mut Meter::new(JUDGEMENT_UNITS))
        .unwrap_err();
    assert_eq!(denial.reason, Reason::OutsideWindow);
    let none = policy(json!({"mode": "auto", "allowedActions": []}));
    assert!(none.admits_following(ActionKind::RolloutUndo, now, |_| false, &mut Meter::new(JUDGEMENT_UNITS)).is_err());
}

#[test]
fn the_lowest_mode_wins_and_no_label_is_observe() {
    let auto = policy(json!({"mode": "auto"}));
    let suggest = policy(json!({"mode": "suggest"}));
    assert_eq!(mode(Some("auto"), &[&auto]), Mode::Auto);
    assert_eq!(mode(Some("auto"), &[&auto, &suggest]), Mode::Suggest);
    assert_eq!(mode(None, &[&auto]), Mode::Observe);
    assert_eq!(mode(Some("AUTO"), &[]), Mode::Observe);
}

#[test]
fn an_expression_that_costs_too_much_is_refused_when_it_is_written() {
    let stages = ".map(a,a+a+a+a+a+a+a+a)".repeat(9);
    let item = format!("[{}]", vec!["1"; 60].join(","));
    for expression in [
        format!("size(['aaaaaaaa']{stages}[0]) > 0"),
        format!("{item}.all(a,{item}.all(b,{item}.all(c,{item}.all(d,true))))"),
        format!("target.replicas > 3 && {item}.all(a,{item}.all(b,{item}.all(c,true)))"),
        "lists.range(1000000000).all(x, x >= 0)".to_string(),
        "target.annotations.all(a, target.annotations.all(b, target.annotations.all(c, a != b + c)))".to_string(),
    ] {
        let policy = policy(json!({"mode": "auto", "validations": [{"expression": expression}]}));
        let denial = policy.error().unwrap_or_else(|| panic!("{expression} costs {:?}", policy.cost()));
        assert_eq!(denial.reason, Reason::PolicyTooExpensive, "{expression}: {}", denial.message);
        assert!(denial.message.starts_with("Policy shop/web is too expensive"), "{}", denial.message);
        assert!(denial.message.contains("validations[0].expression"), "{}", denial.message);
        assert_eq!(policy.admits(ActionKind::RolloutUndo, at("2026-01-01T00:00:00Z")).unwrap_err(), *denial);
    }
}

#[test]
fn one_that_is_cheap_on_the_example_and_dear_on_the_object_denies_by_its_name() {
    let expression = "target.annotations.all(a, target.annotations.all(b, a != b || true))";
    let policy = policy(json!({"mode": "auto", "validations": [{"expression": expression}]}));
    assert_eq!(policy.error(), None);
    let mut large = example();
    large["target"]["annotations"] = (0..2000).map(|n| (format!("key-{n}"), json!("x"))).collect::<Value>();
    let denial = validate(&policy, large).unwrap_err();
    assert_eq!(denial.reason, Reason::PolicyTooExpensive);
    for part in ["Policy shop/web", "target.annotations.all", "more than 50000 units"] {
        assert!(denial.message.contains(part), "{part}: {}", denial.message);
    }
}

#[test]
fn many_policies_together_cost_no_more_than_one_decision_may() {
    let list = format!("[{}]", vec!["1"; 40].join(","));
    let expression = format!("{list}.all(a, {list}.all(b, a == b))");
    let validations: Vec<Value> = (0..3).map(|_| json!({"expression": expression})).collect();
    let policy = policy(json!({"mode": "auto", "validations": validations}));
    assert_eq!(policy.error(), None);
    let (variables, mut meter) = (Variables::of(&json!({})), Meter::new(JUDGEMENT_UNITS));
    let mut denied = None;
    for _ in 0..MAX_POLICIES {
        denied = denied.or(policy.validate(&variables, &mut meter).err());
    }
    let denial = denied.expect("a hundred of them are too many");
    assert_eq!(denial.reason, Reason::PolicyTooExpensive);
    assert!(denial.message.contains("200000 units, their bound together"), "{}", denial.message);
    assert!(meter.spent() <= JUDGEMENT_UNITS);
}

#[test]
fn an_author_who_is_wordy_gets_a_short_sentence() {
    let validation = |expression: &str, message: &str| json!({"expression": expression, "messageExpression": message});
    let long = format!("'{}' == 'b'", "a".repeat(1900));
    for validation in [
        validation(&long, ""),
        validation("false", "string(target.annotations['a'])"),
        validation("false", "target.annotations['a']"),
        validation("target.annotations['a']", ""),
        validation("target.annotations + 1", ""),
        validation("target.annotations.nobody.knows", ""),
    ] {
        let policy = policy(json!({"mode": "auto", "validations": [validation]}));
        let denial = validate(&policy, json!({"target": {"annotations": {"a": "ä".repeat(100_000)}}})).unwrap_err();
        assert!(denial.message.len() < 1100, "{} bytes: {}", denial.message.len(), denial.message);
        assert_eq!(denial.reason, Reason::PolicyValidationFailed);
    }
}

#[test]
fn a_policy_larger_than_people_write_is_refused() {
    let text = format!("'{}' != ''", "x".repeat(1900));
    let wordy: Vec<Value> = (0..10).map(|_| json!({"expression": text})).collect();
    let policy_of = |spec| policy(spec).error().map(|denial| (denial.reason, denial.message.clone())).unwrap();
    let (reason, message) = policy_of(json!({"mode": "auto", "validations": wordy}));
    assert_eq!(reason, Reason::PolicyTooExpensive);
    assert!(message.contains("characters, at most 16384"), "{message}");
    let labels: serde_json::Map<String, Value> = (0..300).map(|n| (format!("l{n}"), json!("x"))).collect();
    let (reason, message) =
        policy_of(json!({"mode": "auto", "matchConstraints": {"objectSelector": {"matchLabels": labels}}}));
    assert_eq!(reason, Reason::PolicyInvalid);
    assert!(message.contains("300 labels and values, at most 256"), "{message}");
}

fn many(count: usize, namespace: &str) -> Vec<Policy> {
    let policies = (0..count).map(|n| {
        let mut policy = Policy::new(&format!("p{n}"), serde_json::from_value(json!({"mode": "auto"})).unwrap());
        policy.metadata.namespace = Some(namespace.into());
        policy
    });
    policies.collect()
}

#[test]
fn a_namespace_with_more_policies_than_are_asked_is_denied_by_its_name() {
    let all: Vec<Policy> = many(MAX_POLICIES + 1, "shop").into_iter().chain(many(2, "system")).collect();
    let compiled = bounded(&all, |policy| {
        assert_eq!(policy.metadata.namespace.as_deref(), Some("system"), "none of the others costs anything");
        CompiledPolicy::of(policy)
    });
    assert_eq!(
        compiled.iter().map(|policy| policy.name.as_str()).collect::<Vec<_>>(),
        ["shop/*", "system/p0", "system/p1"]
    );
    let denial = compiled[0].admits(ActionKind::RolloutUndo, at("2026-01-01T00:00:00Z")).unwrap_err();
    assert_eq!(denial.reason, Reason::TooManyPolicies);
    assert!(denial.message.contains("namespace shop has more than 100 Policies"), "{}", denial.message);
    assert_eq!(compiled[0].matches(None, None), Match::Yes);
    assert_eq!(mode(Some("auto"), &[&compiled[0]]), Mode::Observe);
}

#[test]
fn policies_that_are_too_much_together_deny_before_they_cost_anything() {
    let with = |count: usize, validation: Value| {
        let mut all = many(count, "shop");
        let spec = json!({"mode": "auto", "validations": [validation]});
        all.iter_mut().for_each(|policy| policy.spec = serde_json::from_value(spec.clone()).unwrap());
        all
    };
    let long = with(MAX_POLICIES, json!({"expression": "true", "message": "x".repeat(500)}));
    assert!(is_crowded(&long) && !is_crowded(&long[..50]));
    let compiled = bounded(&long, |_| panic!("none of them is compiled"));
    let message = &compiled[0].error().unwrap().message;
    assert!(message.contains("namespace shop has Policies of more than 50000 characters together"), "{message}");

    let list = format!("[{}]", vec!["1"; 40].join(","));
    let dear = with(MAX_POLICIES, json!({"expression": format!("{list}.all(a, {list}.all(b, a == b))")}));
    let compiled = bounded(&dear, CompiledPolicy::of);
    assert_eq!(compiled.len(), 1);
    assert_eq!(compiled[0].error().unwrap().reason, Reason::TooManyPolicies);
    assert!(compiled[0].error().unwrap().message.contains("cost more than 1000000 units together"));
}

#[test]
fn a_hundred_policies_are_all_asked() {
    let compiled = bounded(&many(MAX_POLICIES, "shop"), CompiledPolicy::of);
    assert_eq!(compiled.len(), MAX_POLICIES);
    assert!(compiled.iter().all(|policy| policy.error().is_none()));
}

#[test]
fn a_namespace_with_too_many_runbooks_allows_nothing() {
    let runbook = |namespace: &str| {
        let spec = json!({"summary": "s", "match": {}, "allowedActions": ["RolloutUndo"]});
        let mut runbook = Runbook::new("r", serde_json::from_value(spec).unwrap());
        runbook.metadata.namespace = Some(namespace.into());
        runbook
    };
    let fits: Vec<Runbook> = (0..MAX_RUNBOOKS).map(|_| runbook("shop")).collect();
    assert_eq!(bounded_runbooks(fits.clone()), fits);
    let over: Vec<Runbook> = fits.into_iter().chain([runbook("shop"), runbook("system")]).collect();
    let asked = bounded_runbooks(over);
    assert_eq!(asked.len(), 2);
    let mut wordy: Vec<Runbook> = (0..MAX_RUNBOOKS).map(|_| runbook("shop")).collect();
    for runbook in &mut wordy {
        let said = json!({"expression": format!("'{}' != ''", "x".repeat(600))});
        runbook.spec.validations = vec![serde_json::from_value(said).unwrap()];
    }
    assert!(bounded_runbooks(wordy)[0].spec.allowed_actions.is_empty(), "too much CEL together");
    assert_eq!(runbook_name(&asked[0]), "shop/more-than-100-runbooks");
    assert!(asked[0].spec.allowed_actions.is_empty());
    assert!(runbook_matches(&asked[0].spec, &["Any"], None));
}

#[test]
fn a_policy_that_cannot_be_decoded_denies_whatever_it_might_match_by_its_name() {
    let policy = CompiledPolicy::unreadable("shop/of-tomorrow".into(), &"unknown variant `freeze`".repeat(1000));
    let denial = policy.admits(ActionKind::RolloutUndo, at("2026-01-01T00:00:00Z")).unwrap_err();
    assert_eq!(denial.reason, Reason::PolicyInvalid);
    assert!(denial.message.contains("shop/of-tomorrow") && denial.message.contains("`freeze`"));
    assert!(denial.message.len() < 500, "what people wrote is bounded");
    for (kind, labels) in [(None, None), (Some("Deployment"), Some(&BTreeMap::new()))] {
        assert_eq!(policy.matches(kind, labels), Match::Yes);
    }
    assert_eq!(mode(Some("auto"), &[&policy]), Mode::Observe);
}

/// What a Policy of these fields says of a target with the label `tier`.
fn asked(mut fields: Value, tier: Option<&str>) -> (Result<bool, Reason>, Result<(), String>) {
    fields["mode"] = json!("auto");
    let policy = policy(fields);
    assert_eq!(policy.error(), None);
    let labels: BTreeMap<&str, &str> = tier.map(|tier| ("tier", tier)).into_iter().collect();
    let variables = Variables::of(&json!({"target": {"labels": labels, "replicas": 5}}));
    let mut meter = Meter::new(JUDGEMENT_UNITS);
    let applies = policy.applies(&variables, &mut meter).map_err(|denial| denial.reason);
    (applies, policy.validate(&variables, &mut meter).map_err(|denial| denial.message))
}

/// The table of ValidatingAdmissionPolicy: any false one decides, then failures count, then all are true.
#[test]
fn match_conditions_mean_what_they_mean_to_the_api_server() {
    let (yes, no, fails) = ("target.replicas == 5", "target.replicas == 6", "target.labels.tier == 'web'");
    for (expressions, fail, ignore) in [
        (vec![], Ok(true), Ok(true)),
        (vec![yes, yes], Ok(true), Ok(true)),
        (vec![yes, no], Ok(false), Ok(false)),
        (vec![fails, no], Ok(false), Ok(false)),
        (vec![yes, fails], Err(Reason::PolicyValidationFailed), Ok(false)),
    ] {
        let conditions: Vec<Value> = expressions.iter().map(|text| json!({"name": "c", "expression": text})).collect();
        let applies = |policy: &str| asked(json!({"matchConditions": conditions, "failurePolicy": policy}), None).0;
        assert_eq!((applies("Fail"), applies("Ignore")), (fail, ignore), "{expressions:?}");
    }
}

#[test]
fn a_failure_of_a_validation_denies_or_is_passed_over_and_false_denies_always() {
    let fails = "target.labels.tier == 'web'";
    let of = |policy: &str, second: &str| {
        let validations = json!([{"expression": fails}, {"expression": second}]);
        asked(json!({"validations": validations, "failurePolicy": policy}), None).1
    };
    assert!(of("Fail", "true").unwrap_err().contains("cannot be evaluated"));
    assert_eq!(of("Ignore", "true"), Ok(()));
    assert!(of("Ignore", "target.replicas > 5").unwrap_err().contains("is not true"));
}

#[test]
fn variables_build_on_those_before_them_and_messages_can_use_them() {
    let fields = |expression: &str| {
        json!({
            "variables": [
                {"name": "tier", "expression": "'tier' in target.labels ? target.labels['tier'] : 'none'"},
                {"name": "strict", "expression": "variables.tier == 'db'"},
            ],
            "validations": [{"expression": expression, "message": "no", "messageExpression": "'tier ' + variables.tier"}],
        })
    };
    assert_eq!(asked(fields("!variables.strict"), Some("web")).1, Ok(()));
    assert_eq!(asked(fields("!variables.strict"), Some("db")).1.unwrap_err(), "Policy shop/web: tier db");
    // A message that is blank, or has more than a line, is none.
    assert_eq!(asked(fields("!variables.strict"), Some("db\nor not")).1, Ok(()));
    assert_eq!(asked(fields("variables.strict"), Some("a\nb")).1.unwrap_err(), "Policy shop/web: no");
}

/// A Policy of so many variables that build on each other; `around` is what each puts around the one before it, and how
/// often.
fn chain(links: usize, (open, close): (&str, &str), levels: usize) -> Policy {
    let variables: Vec<Value> = (0..links)
        .map(|n| {
            let inner = if n == 0 { "target.name".into() } else { format!("variables.v{}", n - 1) };
            let expression = format!("{}{inner}{}", open.repeat(levels), close.repeat(levels));
            json!({"name": format!("v{n}"), "expression": expression})
        })
        .collect();
    let last = json!([{"expression": format!("variables.v{0} == variables.v{0}", links - 1)}]);
    let spec = json!({"mode": "auto", "variables": variables, "validations": last});
    Policy::new("deep", serde_json::from_value(spec).unwrap())
}

const STRINGS: (&str, &str) = ("string(", ")");
const LISTS: (&str, &str) = ("[", "]");

#[test]
fn variables_that_build_on_each_other_are_no_deeper_together_than_a_stack_holds() {
    for (policy, field, said) in [
        (chain(32, STRINGS, 60), "variables[2].expression", "184 levels deep, at most 128"),
        // Each is shallow to evaluate, and what comes out is not.
        (
            chain(32, ("", ".map(a,[[[[[[[[[[a]]]]]]]]]])"), 1),
            "variables[10].expression",
            "makes 132 lists and maps inside",
        ),
        (chain(32, LISTS, 50), "variables[2].expression", "levels deep, at most 128"),
    ] {
        let found = findings(&policy);
        assert_eq!(found[0].field, field, "{found:?}");
        assert_eq!(found[0].reason, Reason::PolicyInvalid);
        assert!(found[0].message.contains(said), "{}", found[0].message);
        assert_eq!(found.last().unwrap().field, "validations[0].expression", "its own is told too");
    }
}

/// In the profile of the tests, whose frames are the largest.
#[test]
fn the_deepest_that_compiles_is_evaluated_on_half_of_the_smallest_stack() {
    const SMALLEST: usize = 2 << 20;
    fn on<T: Send + 'static>(stack: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
        std::thread::Builder::new().stack_size(stack).spawn(work).unwrap().join().unwrap()
    }
    for around in [
        STRINGS,
        LISTS,
        ("[", "][0]"),
        ("{'a':", "}"),
        ("[1].map(a,", ")"),
        ("[1].map(a,", ")[0]"),
        ("(true ? ", " : 'a')"),
        ("['a'].filter(a, a in [", "])"),
        ("optional.of(", ")"),
    ] {
        for levels in [1, 7, 20] {
            let fits = |links: &usize| findings(&chain(*links, around, levels)).is_empty();
            let links = (1..=32).take_while(fits).last();
            // Some shapes have more levels than one expression may.
            let Some(links) = links else {
                assert!(levels > 7, "{around:?}");
                continue;
            };
            let deepest = chain(links, around, levels);
            // Compiling evaluates it as well.
            let compiled = on(SMALLEST, move || CompiledPolicy::of(&deepest));
            assert_eq!(compiled.error(), None);
            let work = move || {
                let variables = Variables::of(&json!({"target": {"name": "api"}}));
                compiled.validate(&variables, &mut Meter::new(JUDGEMENT_UNITS))
            };
            // What is optional equals nothing. That there is an answer is what is asked: an overflow ends the process.
            let answer = on(SMALLEST / 2, work);
            let is_answer = |reason| reason == Reason::PolicyValidationFailed && around.0 == "optional.of(";
            assert!(answer.as_ref().err().is_none_or(|denial| is_answer(denial.reason)), "{around:?}: {answer:?}");
        }
    }
}

#[test]
fn what_an_expression_misses_is_told_at_once_however_its_variables_build_on_each_other() {
    // Each names all before it: there are 2^31 ways through them.
    let variables: Vec<Value> = (0..32)
        .map(|n| {
            let all: Vec<String> = (0..n).map(|m| format!("variables.v{m}")).chain(["blast.pods".into()]).collect();
            json!({"name": format!("v{n}"), "expression": all.join(" + ")})
        })
        .collect();
    let spec = json!({"mode": "auto", "variables": variables, "validations": [{"expression": "variables.v31 > 0"}]});
    let compiled = policy(spec);
    assert_eq!(compiled.error(), None);
    let told = compiled.program().unwrap().told(&Variables::default(), &["target"].into());
    assert_eq!(told[0].missing, ["blast".to_owned()].into());
}

#[test]
fn all_that_is_wrong_with_a_policy_is_found_with_its_place() {
    let spec = json!({
        "mode": "approve", "allowHelm": true, "modelChain": "x", "approvals": {"required": 2},
        "matchConditions": [{"name": "a", "expression": "variables.late"}],
        "variables": [
            {"name": "early", "expression": "variables.late"}, {"name": "late", "expression": "1"},
            {"name": "late", "expression": "2"},
        ],
        "validations": [
            {"expression": "variables.late == 1 &&\n nobody"}, {"expression": "true", "messageExpression": "'a"},
        ],
        "windows": [{"kind": "deny", "schedule": "never", "durationSeconds": 60}],
    });
    let found: Vec<(String, Option<(usize, usize)>)> =
        findings(&Policy::new("p", serde_json::from_value(spec).unwrap()))
            .into_iter()
            .map(|found| (found.field, found.place.map(|place| (place.line, place.column))))
            .collect();
    let expected = [
        ("mode", None),
        ("allowHelm", None),
        ("approvals", None),
        ("modelChain", None),
        ("matchConditions[0].expression", Some((1, 11))),
        ("variables[0].expression", Some((1, 11))),
        ("variables[2].name", None),
        ("validations[0].expression", Some((2, 2))),
        ("validations[1].messageExpression", Some((1, 1))),
        ("windows[0]", None),
    ];
    assert_eq!(found, expected.map(|(field, place)| (field.to_owned(), place)));
}
