//! What a Policy's limits and protections say about one exact write.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use kube_cel::cel::Value as CelValue;
use serde_json::{Value, json};

use crate::api::v1alpha1::{Cap, FieldWrite, Limits, ObjectRef, Protected};
use crate::core::cel::{Branches, EXPRESSION_UNITS, Expression, Fault, Meter, Stop, Variables};
use crate::core::selector::selects;

use super::constraints;
use super::denial::Finding;

/// Values of one write that a cap is held against at most.
const MAX_VALUES: usize = 1_000;

/// How the library compares quantities, as Kubernetes reads them: `500m`, `1Gi`, `3`.
static EXCEEDS: LazyLock<Result<Expression, Fault>> =
    LazyLock::new(|| Expression::compile("quantity(value).isGreaterThan(quantity(most))"));

/// What one comparison costs beside its text: it takes as long as so many steps of an expression.
const COMPARISON: u64 = 64;

/// Whether `value` is more than `most`; `None` where one of them is no quantity.
fn exceeds(value: &str, most: &str, meter: &mut Meter) -> Result<Option<bool>, Stop> {
    meter.charge(COMPARISON)?;
    meter.charge_bytes(value.len())?;
    let Ok(expression) = EXCEEDS.as_ref() else { return Ok(None) };
    let variables = Variables::of(&json!({"value": value, "most": most}));
    // What it costs was charged: the text that is parsed is bounded.
    Ok(match expression.evaluate(&variables, Branches::Needed, &mut Meter::new(EXPRESSION_UNITS)) {
        Ok(CelValue::Bool(exceeds)) => Some(exceeds),
        Ok(_) | Err(_) => None,
    })
}

/// What is wrong with them.
pub(super) fn findings(limits: &Limits, protected: Option<&Protected>) -> Vec<Finding> {
    let mut findings = vec![];
    for (index, Cap { path, max }) in limits.caps.iter().enumerate() {
        if !path.starts_with("/spec/") {
            let message = "it has to be the JSON pointer of a field below /spec, with * for every item of a list";
            findings.push(Finding::invalid(format!("limits.caps[{index}].path"), message));
        }
        if exceeds(max, max, &mut Meter::new(EXPRESSION_UNITS)) != Ok(Some(false)) {
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
///
/// # Errors
///
/// When the meter has no units left, and so it is not known.
pub(super) fn over(limits: &Limits, write: &FieldWrite, meter: &mut Meter) -> Result<Option<String>, Stop> {
    let FieldWrite { path, before, after } = write;
    let sets_replicas = ["/spec/replicas", "/spec/maxReplicas"].contains(&path.as_str());
    if let Some(most) = limits.max_replicas.filter(|_| sets_replicas) {
        match after.as_i64() {
            Some(count) if count <= most.into() => {}
            Some(count) => return Ok(Some(format!("{path} would be {count}, at most {most} replicas are allowed"))),
            None => return Ok(Some(format!("{path} would be no number, and at most {most} replicas are allowed"))),
        }
    }
    for cap in &limits.caps {
        if let Some(over) = over_cap(cap, path, before, after, meter)? {
            return Ok(Some(over));
        }
    }
    Ok(None)
}

fn over_cap(cap: &Cap, path: &str, before: &Value, after: &Value, meter: &mut Meter) -> Result<Option<String>, Stop> {
    meter.charge(1)?;
    meter.charge_bytes(cap.path.len() + path.len())?;
    let pattern: Vec<&str> = cap.path.split('/').skip(1).collect();
    let written: Vec<&str> = path.split('/').skip(1).collect();
    let matches = |(pattern, written): (&&str, &&str)| *pattern == "*" || pattern == written;
    if written.len() > pattern.len() || !pattern.iter().zip(&written).all(matches) {
        return Ok(None);
    }
    let mut values = Values { found: vec![], meter };
    values.collect(Some(before), Some(after), &pattern[written.len()..], &mut String::new())?;
    let Values { found, meter } = values;
    if found.len() >= MAX_VALUES {
        return Ok(Some(format!("{} are more values than are compared", cap.path)));
    }
    for Found { at, before, after } in found {
        // What is not limited any more is more than any limit.
        let Some(after) = after else {
            return Ok(Some(format!("{path}{at} would be gone, and at most {} is allowed", cap.max)));
        };
        // What the write leaves as it is, it does not set.
        if let Some(before) = before
            && same(before, after, meter)?
        {
            continue;
        }
        let text = match after {
            Value::String(text) => text.as_str(),
            Value::Number(number) => &number.to_string(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => "",
        };
        match exceeds(text, &cap.max, meter)? {
            Some(false) => {}
            Some(true) => return Ok(Some(format!("{path}{at} would be {text}, at most {} is allowed", cap.max))),
            None => return Ok(Some(format!("{path}{at} is no quantity, and at most {} is allowed", cap.max))),
        }
    }
    Ok(None)
}

/// Whether two values are the same, charged as it is found out.
fn same(one: &Value, other: &Value, meter: &mut Meter) -> Result<bool, Stop> {
    meter.charge(1)?;
    match (one, other) {
        (Value::String(one), Value::String(other)) => {
            meter.charge_bytes(one.len().min(other.len()))?;
            Ok(one == other)
        }
        (Value::Array(one), Value::Array(other)) => {
            if one.len() != other.len() {
                return Ok(false);
            }
            for (one, other) in one.iter().zip(other) {
                if !same(one, other, meter)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        (Value::Object(one), Value::Object(other)) => {
            if one.len() != other.len() {
                return Ok(false);
            }
            for (key, value) in one {
                meter.charge_bytes(key.len())?;
                match other.get(key) {
                    Some(other) if same(value, other, meter)? => {}
                    Some(_) | None => return Ok(false),
                }
            }
            Ok(true)
        }
        (one, other) => Ok(one == other),
    }
}

/// A value that a cap is about: what it was, and what it would be.
struct Found<'a> {
    /// JSON pointer below what is written.
    at: String,
    before: Option<&'a Value>,
    after: Option<&'a Value>,
}

/// Finds the values at a pattern.
struct Values<'a, 'm> {
    found: Vec<Found<'a>>,
    meter: &'m mut Meter,
}

impl<'a> Values<'a, '_> {
    /// Those below `before` and `after`, which stand at the same place of both.
    fn collect(
        &mut self,
        before: Option<&'a Value>,
        after: Option<&'a Value>,
        pattern: &[&str],
        at: &mut String,
    ) -> Result<(), Stop> {
        let (before, after) = (before.filter(|it| !it.is_null()), after.filter(|it| !it.is_null()));
        self.meter.charge(1)?;
        self.meter.charge_bytes(at.len())?;
        if self.found.len() >= MAX_VALUES || (before.is_none() && after.is_none()) {
            return Ok(());
        }
        let Some((first, rest)) = pattern.split_first() else {
            self.found.push(Found { at: at.clone(), before, after });
            return Ok(());
        };
        let every = *first == "*";
        let fields = |value: Option<&'a Value>| value.and_then(Value::as_object).filter(|_| every);
        if let Some(items) = after.and_then(Value::as_array).filter(|_| every) {
            let earlier = before.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            self.meter.charge((earlier.len() / 4) as u64)?;
            // By name where items have one: a list is written anew, and another item may stand first now.
            let named: BTreeMap<&str, &Value> =
                earlier.iter().rev().filter_map(|item| Some((name_of(item)?, item))).collect();
            for (index, item) in items.iter().enumerate() {
                let was = match name_of(item) {
                    Some(name) => named.get(name).copied(),
                    None => earlier.get(index).filter(|item| name_of(item).is_none()),
                };
                self.into(&index.to_string(), (was, Some(item)), rest, at)?;
            }
            // An item that is gone has no limits that it could do without.
            return Ok(());
        }
        if fields(before).is_some() || fields(after).is_some() {
            for (key, value) in fields(after).into_iter().flatten() {
                let was = fields(before).and_then(|fields| fields.get(key));
                self.into(&escaped(key), (was, Some(value)), rest, at)?;
            }
            let gone = |key: &String| fields(after).is_none_or(|fields| !fields.contains_key(key));
            for (key, value) in fields(before).into_iter().flatten().filter(|(key, _)| gone(key)) {
                self.into(&escaped(key), (Some(value), None), rest, at)?;
            }
            return Ok(());
        }
        let field = format!("/{first}");
        let of = |value: Option<&'a Value>| value.filter(|_| !every).and_then(|value| value.pointer(&field));
        self.into(first, (of(before), of(after)), rest, at)
    }

    /// One step further down.
    fn into(
        &mut self,
        key: &str,
        (before, after): (Option<&'a Value>, Option<&'a Value>),
        rest: &[&str],
        at: &mut String,
    ) -> Result<(), Stop> {
        let length = at.len();
        at.push('/');
        at.push_str(key);
        let found = self.collect(before, after, rest, at);
        at.truncate(length);
        found
    }
}

fn name_of(item: &Value) -> Option<&str> {
    item.get("name").and_then(Value::as_str)
}

fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// By what `protected` names this object; `None` where it does not. A selector that is too large names everything: nobody
/// reads it.
pub fn protects(protected: &Protected, object: &ObjectRef, labels: &BTreeMap<String, String>) -> Option<&'static str> {
    let Protected { kinds, namespaces, object_selector } = protected;
    if kinds.contains(&object.kind) {
        Some("kind")
    } else if namespaces.contains(&object.namespace) {
        Some("namespace")
    } else if object_selector.as_ref().is_some_and(|it| constraints::is_large(it) || selects(it, labels)) {
        Some("labels")
    } else {
        None
    }
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
