use kube_cel::{
    KubeCelExt as _,
    cel::{Context, Program, Value},
};
use serde_json::json;

use super::*;

fn variables() -> serde_json::Value {
    json!({
        "target": {
            "kind": "Deployment", "replicas": 3,
            "labels": {"app": "api", "tier": "web"},
            "annotations": {"a": "1", "b": "2"},
        },
        "list": [3, 1, 2],
        "nothing": null,
        "half": 0.5,
    })
}

fn ours(text: &str, bound: u64) -> (Result<Value, Stop>, u64) {
    let mut meter = Meter::new(bound);
    let expression = Expression::compile(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let value = expression.evaluate(&Variables::of(&variables()), Branches::Needed, &mut meter);
    (value, meter.spent())
}

/// The library alone, on the same variables.
fn library(text: &str) -> Result<Value, String> {
    let mut context = Context::default().with_all();
    for (name, value) in Variables::of(&variables()).0 {
        context.add_variable_from_value(name, value);
    }
    Program::compile(text).unwrap().execute(&context).map_err(|error| error.to_string())
}

/// What people write, and what they may get wrong.
const ORDINARY: &[&str] = &[
    "true",
    "1 + 2 * 3 == 7",
    "7 % 4",
    "-target.replicas",
    "10 / 4",
    "1.5 + half",
    "1u + 2u",
    "b'abc'",
    "'a' + \"b\"",
    "target.replicas <= 3 && target.kind == 'Deployment'",
    "target.replicas > 3 || target.kind in ['Deployment']",
    "target.labels['app'] == 'api'",
    "target.labels.app.startsWith('a')",
    "has(target.labels.app)",
    "has(target.labels.nobody)",
    "!('x' in target.labels) || target.labels['x'] != 'y'",
    "'app' in target.labels",
    "3 in list",
    "9 in list",
    "list[0]",
    "list[1] < list[2]",
    "size(list) == 3",
    "list.size()",
    "size(target.labels)",
    "list.all(x, x > 0)",
    "list.exists(x, x > 2)",
    "list.exists_one(x, x == 2)",
    "list.map(x, x * 2)",
    "list.map(x, x > 1, x * 2)",
    "list.filter(x, x > 1)",
    "list.filter(x, x > 1).map(y, y + 1).size()",
    "target.labels.all(k, k.size() < 10)",
    "list.all(x, list.exists(y, x == y))",
    "[1, 2] + [3]",
    "{'a': 1}.a",
    "{'a': 1, 'b': [1, 2]}['b'][1]",
    "target.replicas > 1 ? 'many' : 'one'",
    "nothing == null",
    "list.map(x, target.labels.map(k, k).size())",
    "[[1, 2], [3]].map(l, l.map(x, x + 1))",
    "'a,b,c'.split(',')",
    "'a,b,c'.split(',', 2)",
    "['a', 'b'].join('-')",
    "['a', 'b'].join()",
    "'abc'.replace('b', 'x')",
    "'abcabc'.replace('b', 'x', 1)",
    "'hello %s, %d, %.2f'.format(['you', 3, 1.5])",
    "'abc'.indexOf('c')",
    "'abc'.substring(1)",
    "'abc'.substring(0, 2)",
    "'  a '.trim()",
    "'ABC'.lowerAscii()",
    "'abc'.charAt(1)",
    "'abc'.contains('b')",
    "'abc'.endsWith('c')",
    "'abc'.matches('^a.c$')",
    "'abc'.matches('^b')",
    "matches('abc', 'b')",
    "'a1b22'.find('[0-9]+')",
    "'a1b22'.findAll('[0-9]+')",
    "'a1b22c3'.findAll('[0-9]+', 2)",
    "'x'.find('[0-9]+')",
    "list.sort()",
    "list.isSorted()",
    "list.sum()",
    "list.min()",
    "list.max()",
    "min(3, 1)",
    "max(3, 1, 7)",
    "list.indexOf(2)",
    "list.reverse()",
    "[1, 1, 2].distinct()",
    "[[1], [2]].flatten()",
    "list.slice(0, 2)",
    "list.first().value()",
    "[].first().hasValue()",
    "lists.range(4)",
    "sets.contains(list, [1])",
    "sets.intersects(list, [9])",
    "sets.equivalent([1, 2], [2, 1])",
    "math.abs(-3)",
    "math.greatest(1, 2)",
    "math.ceil(1.2)",
    "int('3')",
    "double('1.5')",
    "uint(3)",
    "string(3)",
    "string(1.5)",
    "int('x')",
    "duration('1h') > duration('1m')",
    "timestamp('2026-01-01T00:00:00Z').getFullYear()",
    "timestamp('2026-01-01T00:00:00Z') < timestamp('2027-01-01T00:00:00Z')",
    "quantity('1Gi').isGreaterThan(quantity('500Mi'))",
    "isQuantity('1.5')",
    "semver('1.2.3').major()",
    "isSemver('1')",
    "isIP('10.0.0.1')",
    "cidr('10.0.0.0/8').containsIP('10.1.2.3')",
    "url('https://a.b/c?d=e').getHost()",
    "isURL('/x')",
    "url('https://a.b/c?d=e').getQuery()",
    "base64.encode(b'abc')",
    "jsonpatch.escapeKey('a/b')",
    "strings.quote('a\"b')",
    "format.dns1123Label().validate('A').hasValue()",
    "optional.of(1).orValue(2)",
    "optional.none().hasValue()",
    // Mistakes.
    "nobody",
    "target.nobody",
    "target.labels['nobody']",
    "list[9]",
    "1 + 'a'",
    "1 / 0",
    "!1",
    "list.all(x, x)",
    "'a' < 1",
    "true && nobody",
    "false && nobody",
    "nobody && false",
    "nobody || true",
    "true || nobody",
    "nobody || false",
    "9223372036854775807 + 1",
    "size(3)",
    "list.map(x, nobody)",
    "nobody ? 1 : 2",
    "'a'.matches('(')",
    "null + 1",
    "list.exists(x, nobody == x || x == 3)",
    "{1.5: 2}",
    "list.join(',')",
];

#[test]
fn an_ordinary_expression_means_what_it_means_to_the_library() {
    for text in ORDINARY {
        let (found, spent) = ours(text, EXPRESSION_UNITS);
        match (&found, library(text)) {
            (Ok(found), Ok(expected)) => assert_eq!(*found, expected, "{text}"),
            (Err(Stop::Failed(_)), Err(_)) => {}
            (found, expected) => panic!("{text}: {found:?}, the library says {expected:?}"),
        }
        // Every pattern that is compiled is two thousand.
        assert!(spent < 6_000, "{text} costs {spent}");
    }
}

/// What the library calls an error and Kubernetes does not: in its macros the first step that fails ends them, while a later
/// one may decide all the same, as a side of `&&` and `||` does.
const DECIDED_LATER: &[(&str, bool)] = &[
    // `list` is [3, 1, 2]: the first item has no value, a later one decides.
    ("list.all(x, x == 3 ? nobody : false)", false),
    ("list.all(x, x == 3 ? nobody : x == 1)", false),
    ("list.exists(x, x == 3 ? nobody : x == 2)", true),
    ("list.all(x, x == 3 ? 'no boolean' : false)", false),
    ("target.labels.all(k, k == 'app' ? nobody : false)", false),
    ("target.labels.exists(k, k == 'app' ? nobody : true)", true),
    ("list.all(x, list.all(y, y == 3 ? nobody : false))", false),
    ("list.all(x, list.exists(y, y == 3 ? nobody : true)) && true", true),
];

#[test]
fn a_step_of_a_macro_that_fails_does_not_hide_a_later_one_that_decides() {
    for (text, expected) in DECIDED_LATER {
        assert_eq!(ours(text, EXPRESSION_UNITS).0, Ok(Value::Bool(*expected)), "{text}");
        assert!(library(text).is_err() || text.contains("target.labels"), "{text}: the library has learnt it");
    }
    // The same wherever the failure stands.
    for (text, expected) in [
        ("list.all(x, x == 2 ? nobody : x != 1)", Some(false)),
        ("list.all(x, x == 1 ? nobody : true)", None),
        ("list.all(x, nobody)", None),
        ("list.exists(x, x == 2 ? nobody : x == 3)", Some(true)),
        ("list.exists(x, x == 2 ? nobody : false)", None),
        // Nothing brings these back.
        ("list.exists_one(x, x == 3 ? nobody : x == 1)", None),
        ("list.exists_one(x, x == 2 ? nobody : x == 3)", None),
        ("list.map(x, x == 3 ? nobody : x).size() == 3", None),
        ("list.map(x, x == 3 ? nobody : true, x).size() == 2", None),
        ("list.filter(x, x == 3 ? nobody : true).size() == 2", None),
        // As the operators themselves.
        ("nobody && false", Some(false)),
        ("false && nobody", Some(false)),
        ("nobody || true", Some(true)),
        ("true || nobody", Some(true)),
        ("1 && false", Some(false)),
        ("'a' || true", Some(true)),
        ("nobody && true", None),
        ("true && nobody", None),
        ("nobody || false", None),
        ("nobody && nobody", None),
    ] {
        let found = ours(text, EXPRESSION_UNITS).0;
        match expected {
            Some(expected) => assert_eq!(found, Ok(Value::Bool(expected)), "{text}"),
            None => assert!(matches!(found, Err(Stop::Failed(_))), "{text}: {found:?}"),
        }
    }
    // What costs too much is no failure that a later step could hide.
    let dear = "list.all(x, x == 3 ? lists.range(49000).all(y, y >= 0) : false)";
    assert_eq!(ours(dear, 1_000).0, Err(Stop::Spent));
}

#[test]
fn a_rule_of_the_usual_kind_costs_next_to_nothing() {
    for (text, bound) in [
        ("target.replicas <= 3", 20),
        ("!('criticality' in target.labels) || target.labels['criticality'] != 'high'", 30),
        ("target.labels.all(k, k.startsWith('a') || k.size() < 10)", 60),
        ("'revision ' + string(target.replicas) + ' is more than three releases back'", 40),
    ] {
        assert!(ours(text, EXPRESSION_UNITS).1 <= bound, "{text} costs {}", ours(text, EXPRESSION_UNITS).1);
    }
}

#[test]
fn a_field_of_what_has_no_fields_is_a_mistake_and_not_false() {
    // The library takes `target.replicas.nobody` for false, and so its negation for a yes.
    for text in ["!target.replicas.nobody", "!has(target.replicas.nobody)", "!nothing.nobody"] {
        assert!(matches!(ours(text, EXPRESSION_UNITS).0, Err(Stop::Failed(_))), "{text}");
    }
}

/// Each is small to write and would be huge, or would go on for ever.
fn bombs() -> Vec<String> {
    let items = format!("[{}]", vec!["1"; 60].join(","));
    let nested = |levels: usize| {
        let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let open: String = names[..levels].iter().map(|name| format!("{items}.all({name},")).collect();
        format!("{open}true{}", ")".repeat(levels))
    };
    let stages = |seed: &str, stage: &str, n: usize| format!("size({seed}{})>0", stage.repeat(n));
    vec![
        stages("['aaaaaaaa']", ".map(a,a+a+a+a+a+a+a+a)", 9),
        stages("[[1]]", ".map(a,a+a+a+a+a+a+a+a)", 9),
        // Small in itself, because its parts are shared; huge for whoever copies, compares or prints it.
        format!("{0} == {0}", format!("[[1]]{}", ".map(a,[a,a,a,a,a,a,a,a])".repeat(9))),
        format!("[[1]]{}.join(',') != ''", ".map(a,[a,a,a,a,a,a,a,a])".repeat(9)),
        format!("'%s'.format([[[1]]{}]) != ''", ".map(a,[a,a,a,a,a,a,a,a])".repeat(9)),
        format!("[[1]]{}.flatten(99) != []", ".map(a,[a,a,a,a,a,a,a,a])".repeat(9)),
        stages("['a']", ".map(a,a.replace('', a+a+a+a))", 12),
        stages("['aaaaaaaa']", ".map(a,[a,a,a,a,a,a,a,a].join(a))", 9),
        stages("['a,a,a,a']", ".map(a,'%s%s%s%s%s%s%s%s'.format([a,a,a,a,a,a,a,a]))", 9),
        "'%.2000000000f'.format([1.0]) != ''".into(),
        "size('%.60000e'.format([1.0])) > 0".into(),
        "lists.range(9223372036854775807).size() > 0".into(),
        "lists.range(40000).map(x, lists.range(x)).size() > 0".into(),
        "lists.range(20000).distinct().size() > 0".into(),
        "sets.equivalent(lists.range(20000), lists.range(20000))".into(),
        format!("{}.all(x, '{}'.matches('(a|aa)+$'))", "lists.range(49000)", "a".repeat(500)),
        "lists.range(1000).all(x, 'a'.matches('a{1000}' + string(x)) || true)".into(),
        "'a'.matches('((a{200}){200}){200}') || true".into(),
        nested(4),
        nested(6),
        // What hides an error does not hide that there is no budget left.
        format!("({} || true) && {}", nested(5), nested(5)),
        format!("{items}.all(x, {} || true)", nested(3)),
        format!("{items}.exists_one(x, {})", nested(3)),
        format!("true || {}", nested(6)),
    ]
}

#[test]
fn a_bomb_ends_when_its_units_do() {
    for text in bombs() {
        assert!(text.len() <= MAX_TEXT, "{text} is no expression of a Policy");
        let expression = Expression::compile(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let mut meter = Meter::new(EXPRESSION_UNITS);
        let value = expression.evaluate(&Variables::default(), Branches::All, &mut meter);
        match value {
            Err(Stop::Spent) => assert_eq!(meter.spent(), EXPRESSION_UNITS, "{text}"),
            // A pattern or a precision that is too large is a mistake, found at once.
            Err(Stop::Failed(_)) | Ok(Value::Bool(true)) => {
                assert!(text.contains("a{") || text.contains("%."), "{text}: {value:?}")
            }
            Ok(value) => panic!("{text} has the value {}", value.type_of()),
        }
    }
}

#[test]
fn nothing_is_charged_to_a_meter_that_is_empty() {
    let mut meter = Meter::new(3);
    assert_eq!(meter.charge(4), Err(Stop::Spent));
    assert_eq!(meter.charge(1), Err(Stop::Spent));
    assert_eq!(meter.spent(), 3);
}

#[test]
fn what_is_not_known_does_not_compile() {
    for (text, said) in [
        ("nobody(1)", "there is no function `nobody`"),
        ("target.nobody(1)", "there is no function `nobody`"),
        ("cel.bind(x, 1, x)", "there is no function"),
        ("google.type.Money{units: 1}", "there is no type"),
        ("1 +", ""),
        ("", ""),
        ("[?optional.of(1)]", ""),
    ] {
        let error = Expression::compile(text).map(|_| ()).expect_err(text);
        assert!(error.message.contains(said), "{text}: {error}");
        assert!(error.message.len() < 300, "{text}: {error}");
    }
}

#[test]
fn what_is_too_large_or_too_deep_does_not_compile() {
    let deep = |open: &str, inner: &str, close: &str, n: usize| format!("{}{inner}{}", open.repeat(n), close.repeat(n));
    for text in [
        "x".repeat(MAX_TEXT + 1),
        vec!["1"; 1024].join("+"),
        "a.".repeat(1000) + "a",
        "a".to_string() + &"[0]".repeat(600),
        "a".to_string() + &".map(a,a)".repeat(200),
        "true?1:".repeat(290) + "1",
        deep("(", "1", ")", 1000),
        deep("[", "1", "]", 1000),
        deep("{1:", "1", "}", 500),
        deep("size(", "1", ")", 300),
        "[".repeat(2000),
        "'".repeat(2001),
        format!("[{}]", vec!["1"; 1010].join(",")),
    ] {
        assert!(Expression::compile(&text).is_err(), "{text}");
    }
}

#[test]
fn a_chain_of_conditions_as_long_as_people_write_compiles() {
    let chain = vec!["target.kind == 'Deployment'"; 40].join(" && ");
    assert_eq!(ours(&chain, EXPRESSION_UNITS).0, Ok(Value::Bool(true)));
}

#[test]
fn the_error_of_a_large_value_is_short() {
    let large = json!({"a": vec!["ä".repeat(1000); 20]});
    for text in ["a + 1", "int(a)", "a[99]", "a.b", "size(a) + 'x'", "a == 1 || a", "string(a)"] {
        let expression = Expression::compile(text).unwrap();
        match expression.evaluate(&Variables::of(&large), Branches::Needed, &mut Meter::new(EXPRESSION_UNITS)) {
            Err(Stop::Failed(error)) => assert!(error.len() <= 260, "{text}: {} bytes", error.len()),
            other => panic!("{text}: {other:?}"),
        }
    }
}

/// What compiling `text` says, where only `target`, `action` and two declared names are known.
fn fault(text: &str) -> Option<(usize, usize, String)> {
    let example = json!({"target": {"kind": "Deployment", "labels": {}, "list": []}, "action": {}, "now": null});
    let shape = Shape::of(&example, &["target.labels", "action"]);
    let known = Known { variables: &shape, declared: Some(&["small", "big"]) };
    let fault = Expression::compile_with(text, known).err()?;
    Some((fault.place.line, fault.place.column, fault.message))
}

#[test]
fn a_name_that_nothing_has_does_not_compile_and_is_told_with_its_line_and_column() {
    for (text, line, column, said) in [
        ("nobody == 1", 1, 1, "there is no variable `nobody` (there are action, now, target)"),
        ("true &&\n  target.knd == 'a'", 2, 10, "`target` has no field `knd` (there are kind, labels, list)"),
        ("has(target.knd)", 1, 12, "`target` has no field `knd`"),
        ("target.kind.length == 1", 1, 13, "`target.kind` has no fields, so no `length`"),
        ("'ä' != '' && nobody", 1, 14, "there is no variable `nobody`"),
        ("target.list.all(nobody, nobody > 1) || nobody", 1, 40, "there is no variable `nobody`"),
        ("target.list.exists_one(x, x.a == y)", 1, 34, "there is no variable `y`"),
        ("target.list.map(x, z > 1, x + 1) == []", 1, 20, "there is no variable `z`"),
        ("target.list.map(x, x > 1, x + z) == []", 1, 31, "there is no variable `z`"),
        ("math.abs(-1) == 1 && maths == 1", 1, 22, "there is no variable `maths`"),
        ("target.kind in ['a', b]", 1, 22, "there is no variable `b`"),
        ("{'a': 1, b: c}.a == 1", 1, 10, "there is no variable `b`"),
        ("target.kind != '' ? target : other", 1, 30, "there is no variable `other`"),
        ("target.kind.shout() == 'A'", 1, 13, "there is no function `shout`"),
        ("variables.huge", 1, 11, "there is no `variables.huge` (there are small, big)"),
        ("variables == {}", 1, 1, "`variables` can only be used as `variables.NAME`"),
        ("1 +", 1, 4, "Syntax error"),
        ("true &&\n  (target.kind == 'a'", 2, 22, "Syntax error"),
        ("target.list.all(1, true)", 1, 17, ""),
    ] {
        let found = fault(text).unwrap_or_else(|| panic!("{text} compiles"));
        assert_eq!((found.0, found.1), (line, column), "{text}: {}", found.2);
        assert!(found.2.contains(said), "{text}: {}", found.2);
    }
    for text in [
        "target.labels.anything.at.all == 1 && action.whatever == 2 && now == null",
        "target.list.all(x, x.y.z == 1 && target.list.exists(y, x == y))",
        "target['kind'] == 'a' && variables.small < variables.big && has(variables.small)",
        "target.list[0].a.b == 1",
    ] {
        assert_eq!(fault(text), None, "{text}");
    }
}

#[test]
fn what_was_declared_is_evaluated_once_and_only_if_it_is_needed() {
    let known = |declared| Known { variables: &Shape::Any, declared: Some(declared) };
    let dear = Expression::compile_with("lists.range(1000).all(x, x >= 0)", known(&[])).unwrap();
    let wrong = Expression::compile_with("target.nobody == 1 && variables.dear", known(&["dear"])).unwrap();
    let of = |text| Expression::compile_with(text, known(&["dear", "wrong"])).unwrap();
    let variables = Variables::of(&variables());
    let mut session = Session::new(&variables, [&dear, &wrong]);
    let mut asked = |text| {
        let mut meter = Meter::new(EXPRESSION_UNITS);
        (session.evaluate(&of(text), Branches::Needed, &mut meter), meter.spent())
    };
    assert!(asked("true || variables.dear").1 < 10, "nobody needs it");
    assert!(asked("variables.dear && variables.dear").1 > 3_000, "it is needed");
    let (value, spent) = asked("variables.dear && !(!variables.dear)");
    assert_eq!((value, spent < 40), (Ok(true.into()), true), "and is there now: {spent}");
    assert_eq!(asked("variables.wrong || true").0, Ok(true.into()));
    for _ in 0..2 {
        let Err(Stop::Failed(error)) = asked("variables.wrong").0 else { panic!("it has no value") };
        assert!(error.contains("nobody"), "{error}");
    }
}

#[test]
fn a_point_in_time_can_be_calculated_with() {
    let now = "2026-11-28T00:00:00.5Z".parse().unwrap();
    let variables = Variables::of(&json!({"since": "2026-11-27T22:00:00Z"})).with_time("now", now).unwrap();
    for text in [
        "now - timestamp(since) > duration('1h')",
        "now.getHours() == 0 && now.getDayOfWeek('Europe/Berlin') == 6",
        "now > timestamp('2026-11-28T00:00:00Z')",
    ] {
        let found = Expression::compile(text).unwrap().evaluate(
            &variables,
            Branches::Needed,
            &mut Meter::new(EXPRESSION_UNITS),
        );
        assert_eq!(found, Ok(true.into()), "{text}");
    }
}
