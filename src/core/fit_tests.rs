//! Whatever a status or spec of ours holds: after fitting, its schema takes it.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::fit::{self, Bounded, MAX_WRITE, fitted, schema};
use crate::api::v1alpha1::{
    AlertSpec, AlertStatus, CheckVerdict, Decision, FieldWrite, GrantSpec, IncidentSpec, IncidentStatus,
    InvestigationSpec, InvestigationStatus, LedgerStatus, ModelChainStatus, PolicyStatus, RemediationSpec,
    RemediationStatus, RunbookStatus, Time, TimelineEntry, Write,
};

/// What the API server's schema validation would say of `value`, for what our schemas use.
pub(super) fn violations(value: &Value, schema: &Value, at: &str, found: &mut Vec<String>) {
    let bound = |name: &str| schema.get(name).and_then(Value::as_u64).map(|bound| usize::try_from(bound).unwrap());
    let mut check = |holds: bool, what: &str| {
        if !holds {
            found.push(format!("{at}: {what}"));
        }
    };
    if value.is_null() {
        return check(schema.get("nullable") == Some(&json!(true)), "null");
    }
    let kind = schema.get("type").and_then(Value::as_str).unwrap_or_default();
    match (value, kind) {
        (Value::String(text), "string") => {
            let characters = text.chars().count();
            check(bound("maxLength").is_none_or(|max| characters <= max), "too long");
            check(bound("minLength").is_none_or(|min| characters >= min), "too short");
            let listed = schema.get("enum").and_then(Value::as_array);
            check(listed.is_none_or(|listed| listed.contains(value)), "not listed");
            let pattern = schema.get("pattern").and_then(Value::as_str);
            let matches = |pattern| regex::Regex::new(pattern).unwrap().is_match(text);
            check(pattern.is_none_or(matches), "does not match");
        }
        (Value::Number(number), "integer" | "number") => {
            check(kind == "number" || number.is_i64() || number.is_u64(), "no integer");
            let number = number.as_f64().unwrap();
            let limit = |name: &str| schema.get(name).and_then(Value::as_f64);
            check(limit("minimum").is_none_or(|min| number >= min), "too small");
            check(limit("maximum").is_none_or(|max| number <= max), "too large");
        }
        (Value::Array(items), "array") => {
            check(bound("maxItems").is_none_or(|max| items.len() <= max), "too many");
            check(bound("minItems").is_none_or(|min| items.len() >= min), "too few");
            for (index, item) in items.iter().enumerate() {
                violations(item, &schema["items"], &format!("{at}[{index}]"), found);
            }
        }
        (Value::Object(fields), "object") => {
            check(bound("maxProperties").is_none_or(|max| fields.len() <= max), "too many properties");
            for name in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
                check(fields.contains_key(name.as_str().unwrap()), &format!("{name} is missing"));
            }
            for (name, field) in fields {
                match schema.get("properties").and_then(|named| named.get(name)).or(schema.get("additionalProperties"))
                {
                    Some(schema) => violations(field, schema, &format!("{at}.{name}"), found),
                    None => found.push(format!("{at}.{name}: unknown")),
                }
            }
        }
        (Value::Bool(_), "boolean") => {}
        (_, "") if schema.get("x-kubernetes-preserve-unknown-fields").is_some() => {}
        (other, kind) => found.push(format!("{at}: {other} is no {kind}")),
    }
}

fn refused<T: Bounded>(value: &T) -> Vec<String> {
    let mut found = vec![];
    let schema = schema(T::KIND, T::PART).expect("a schema");
    violations(&serde_json::to_value(value).unwrap(), schema, T::PART, &mut found);
    found
}

/// A cheap source of choices from one number.
struct Choices(u64);

impl Choices {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound.max(1)
    }
}

/// A value of the shape that `schema` says, with no regard to its bounds.
fn wild(schema: &Value, choices: &mut Choices) -> Value {
    if let Some(listed) = schema.get("enum").and_then(Value::as_array) {
        let listed: Vec<&Value> = listed.iter().filter(|one| !one.is_null()).collect();
        return listed[usize::try_from(choices.below(listed.len() as u64)).unwrap()].clone();
    }
    let over = |choices: &mut Choices, bound: &str, cap: u64| {
        let bound = schema.get(bound).and_then(Value::as_u64).unwrap_or(8);
        match choices.below(4) {
            0 => (bound + 1 + choices.below(bound.min(cap) + 1)).min(bound + cap),
            1 => bound,
            _ => choices.below(4),
        }
    };
    match schema.get("type").and_then(Value::as_str) {
        Some("string") if schema.get("format") == Some(&json!("date-time")) => json!("2026-11-26T10:00:00Z"),
        Some("string") if schema.get("pattern").is_some() => {
            let pattern = schema["pattern"].as_str().unwrap();
            json!("a0".repeat(if pattern.contains("{32}") { 16 } else { 32 }))
        }
        Some("string") => {
            let length = usize::try_from(over(choices, "maxLength", 6000)).unwrap().max(1);
            json!(["x", "é", "🐟", "\u{1}"][usize::try_from(choices.below(4)).unwrap()].repeat(length))
        }
        Some("integer") => match schema.get("format").and_then(Value::as_str) {
            Some("int32") => json!([i32::MIN, -1, 0, 1, 4000, i32::MAX][usize::try_from(choices.below(6)).unwrap()]),
            _ => json!([i64::MIN, -1, 0, 1, 4000, i64::MAX][usize::try_from(choices.below(6)).unwrap()]),
        },
        Some("boolean") => json!(choices.below(2) == 0),
        Some("array") => {
            let length = over(choices, "maxItems", 20);
            // Beyond some, all are alike: what counts is their number.
            let few: Vec<Value> = (0..length.min(3)).map(|_| wild(&schema["items"], choices)).collect();
            (0..length).map(|n| few[usize::try_from(n).unwrap() % few.len()].clone()).collect()
        }
        Some("object") => match (schema.get("properties").and_then(Value::as_object), schema.get("oneOf")) {
            (Some(named), Some(_)) => {
                let (name, schema) =
                    named.iter().nth(usize::try_from(choices.below(named.len() as u64)).unwrap()).unwrap();
                json!({ name: wild(schema, choices) })
            }
            (Some(named), None) => {
                let required = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
                let mut fields = serde_json::Map::new();
                for (name, schema) in named {
                    if required.contains(&json!(name)) || choices.below(3) > 0 {
                        fields.insert(name.clone(), wild(schema, choices));
                    }
                }
                Value::Object(fields)
            }
            (None, _) => {
                let entries = over(choices, "maxProperties", 20);
                let each = &schema["additionalProperties"];
                (0..entries)
                    .map(|n| (format!("k{n:04}"), wild(each, choices)))
                    .collect::<serde_json::Map<_, _>>()
                    .into()
            }
        },
        _ => json!({"any": "thing"}),
    }
}

fn made<T: Bounded>(seed: u64) -> T {
    let schema = schema(T::KIND, T::PART).expect("a schema");
    let json = wild(schema, &mut Choices(seed));
    serde_json::from_value(json).unwrap_or_else(|error| panic!("{} {}: {error}", T::KIND, T::PART))
}

/// How often the generator went beyond a bound, and what was refused after fitting.
fn holds<T: Bounded>(seed: u64) -> Result<bool, TestCaseError> {
    let value = made::<T>(seed);
    let was = !refused(&value).is_empty();
    let left = refused(&fitted(value));
    prop_assert!(left.is_empty(), "{} {}: {left:?}", T::KIND, T::PART);
    Ok(was)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn whatever_we_write_is_taken_after_fitting(seed in any::<u64>()) {
        let over = [
            holds::<AlertSpec>(seed)?, holds::<AlertStatus>(seed)?, holds::<GrantSpec>(seed)?,
            holds::<IncidentSpec>(seed)?, holds::<IncidentStatus>(seed)?, holds::<InvestigationSpec>(seed)?,
            holds::<InvestigationStatus>(seed)?, holds::<LedgerStatus>(seed)?, holds::<RemediationSpec>(seed)?,
            holds::<RemediationStatus>(seed)?, holds::<PolicyStatus>(seed)?, holds::<RunbookStatus>(seed)?,
            holds::<ModelChainStatus>(seed)?,
        ];
        prop_assert!(over.iter().filter(|over| **over).count() > 3, "the generator keeps to the bounds: {over:?}");
    }
}

fn a_status() -> IncidentStatus {
    let verdict = CheckVerdict { message: "m".repeat(9000), ..CheckVerdict::default() };
    IncidentStatus {
        message: "🐟".repeat(5000),
        rounds: 2,
        timeline: (0..300).map(|n| TimelineEntry { event: n.to_string(), ..TimelineEntry::default() }).collect(),
        decision: Some(Box::new(Decision {
            message: "m".repeat(9000),
            checks: vec![verdict; 70],
            decided_at: Time::UNIX_EPOCH,
            ..Decision::default()
        })),
        ..IncidentStatus::default()
    }
}

#[test]
fn too_long_texts_and_lists_are_cut_and_the_rest_stays() {
    let status = a_status();
    assert!(refused(&status).len() > 50, "the schema refuses it");
    let fitted = fitted(status);
    assert_eq!(refused(&fitted), Vec::<String>::new());
    assert_eq!((fitted.message.chars().count(), fitted.message.chars().last()), (2048, Some('…')));
    assert_eq!((fitted.timeline.len(), fitted.rounds), (200, 2));
    assert_eq!((fitted.timeline[0].event.as_str(), fitted.timeline[199].event.as_str()), ("0", "299"));
}

#[test]
fn what_fits_is_not_touched() {
    let status = IncidentStatus { message: "as it is".into(), ..IncidentStatus::default() };
    assert_eq!(fitted(status.clone()), status);
}

#[test]
fn a_patch_is_cut_like_the_status_that_it_makes() {
    let mut patch = json!({"message": "m".repeat(3000), "timeline": null});
    assert_eq!(fit::fit_patch("Incident", "status", &mut patch), 1);
    assert_eq!((patch["message"].as_str().unwrap().chars().count(), &patch["timeline"]), (2048, &Value::Null));
}

#[test]
fn a_template_that_cannot_be_stored_twice_is_named_before_it_is_paid_for() {
    let write = |size: usize| {
        let template = json!({"args": ["x".repeat(size)]});
        Write::Field(FieldWrite { path: "/spec/template".into(), before: template.clone(), after: template })
    };
    assert_eq!(fit::too_large(&write(400_000)), None);
    assert!(fit::too_large(&write(800_000)).unwrap().contains(&MAX_WRITE.to_string()));
}

/// Every text, list and map in what is written has a bound, the keys of maps and what Kubernetes' own types leave open
/// included: without one the API server prices CEL rules by the largest object, people could make ours too large for theirs,
/// and whoever may write in one namespace could fill the memory of all.
#[test]
fn every_text_list_and_map_of_ours_has_a_bound() {
    fn unbounded(schema: &Value, at: &str, found: &mut Vec<String>) {
        let has = |name: &str| schema.get(name).is_some();
        match schema.get("type").and_then(Value::as_str) {
            Some("string") if !has("maxLength") && !has("enum") && !has("format") => {
                // Of these lengths, and no other.
                let fixed =
                    schema["pattern"].as_str().is_some_and(|it| ["^[0-9a-f]{32}$", "^[0-9a-f]{64}$"].contains(&it));
                if !fixed {
                    found.push(at.to_owned());
                }
            }
            Some("array") => {
                if !has("maxItems") {
                    found.push(at.to_owned());
                }
                unbounded(&schema["items"], &format!("{at}[]"), found);
            }
            Some("object") => {
                if has("additionalProperties") {
                    if !has("maxProperties") {
                        found.push(at.to_owned());
                    }
                    if !schema["x-kubernetes-validations"].to_string().contains("size(key) <= ") {
                        found.push(format!("{at}, its keys"));
                    }
                    unbounded(&schema["additionalProperties"], &format!("{at}.*"), found);
                }
                for (name, field) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
                    unbounded(field, &format!("{at}.{name}"), found);
                }
            }
            _ => {}
        }
    }
    let mut found = vec![];
    for crd in crate::api::v1alpha1::definitions() {
        for part in ["spec", "status"] {
            if let Some(schema) = schema(&crd.spec.names.kind, part) {
                unbounded(schema, &format!("{}.{part}", crd.spec.names.kind), &mut found);
            }
        }
    }
    // Kubernetes' own type. Only we write a status.
    found.retain(|at| !at.contains(".status.conditions[]"));
    assert_eq!(found, Vec::<String>::new());
}

/// With `format: date-time` beside it, which holds days and hours to the calendar.
#[test]
fn a_time_that_the_schema_takes_can_be_read() {
    let pattern = regex::Regex::new(crate::api::v1alpha1::READABLE_TIME).unwrap();
    for (text, taken) in [
        ("2026-11-26T10:00:00Z", true),
        ("2026-11-26t10:00:00.123456789z", true),
        ("9998-12-31T23:59:59-23:59", true),
        ("0000-01-01T00:00:00+23:59", true),
        ("9999-12-31T23:59:59Z", false),
        ("9999-01-01T00:00:00Z", false),
        ("2026-01-01T00:00:00.1234567891Z", false),
        ("2026-01-01T00:00:00,5Z", false),
        ("2026-01-01T00:00:00+99:00", false),
        ("10000-01-01T00:00:00Z", false),
    ] {
        assert_eq!(pattern.is_match(text), taken, "{text}");
        assert!(!taken || text.parse::<Time>().is_ok(), "{text}");
    }
    let now: Time = "2026-11-26T10:00:00.000000001Z".parse().unwrap();
    assert!(pattern.is_match(&now.to_string()), "as we print it");
    for (kind, field) in
        [("Alert", "startsAt"), ("Alert", "endsAt"), ("Alert", "receivedAt"), ("Approval", "expiresAt")]
    {
        let schema = &schema(kind, "spec").unwrap()["properties"][field];
        assert_eq!(schema["pattern"], crate::api::v1alpha1::READABLE_TIME, "{kind} {field}");
    }
}
