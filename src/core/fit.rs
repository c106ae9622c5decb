//! Fits what we write to the bounds of its custom resource, so that no text, list or number that came from people,
//! senders or peers makes the API server refuse it: an incident whose status is refused would never end.
//!
//! The bounds are read from the generated schema itself, so there is no second list of them. Cutting is the last resort:
//! who makes a value bounds it in words that people understand. What cannot be mended by cutting (a pattern, a required
//! field) is held by the types.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Number, Value};

use crate::api::v1alpha1::{
    self, AlertSpec, AlertStatus, ApprovalStatus, GrantSpec, IncidentSpec, IncidentStatus, InvestigationSpec,
    InvestigationStatus, LedgerStatus, ModelChainStatus, PolicyStatus, RemediationSpec, RemediationStatus,
    RunbookStatus, Write,
};

/// Ends a longer text that was cut.
const MARK: &str = "…";
/// Texts of at most so many characters are names and constants: they are cut without a mark.
const SHORT: usize = 320;
/// Bytes that the values before and after a write may have together. They are stored in a Remediation and in a Grant,
/// with their managed fields; etcd takes 1.5 MiB.
pub const MAX_WRITE: usize = 1_000_000;

/// A part of one of our objects with a schema of its own.
pub trait Bounded: Serialize + DeserializeOwned {
    /// Kind of the object.
    const KIND: &'static str;
    /// `spec` or `status`.
    const PART: &'static str;
}

macro_rules! bounded {
    ($($part:ty: $kind:literal, $name:literal;)*) => {
        $(impl Bounded for $part {
            const KIND: &'static str = $kind;
            const PART: &'static str = $name;
        })*
    };
}

bounded! {
    AlertSpec: "Alert", "spec";
    AlertStatus: "Alert", "status";
    ApprovalStatus: "Approval", "status";
    GrantSpec: "Grant", "spec";
    IncidentSpec: "Incident", "spec";
    IncidentStatus: "Incident", "status";
    InvestigationSpec: "Investigation", "spec";
    InvestigationStatus: "Investigation", "status";
    LedgerStatus: "Ledger", "status";
    ModelChainStatus: "ModelChain", "status";
    PolicyStatus: "Policy", "status";
    RemediationSpec: "Remediation", "spec";
    RemediationStatus: "Remediation", "status";
    RunbookStatus: "Runbook", "status";
}

/// The value with everything cut that its schema would refuse; the value itself where nothing is too long, which is
/// nearly always.
pub fn fitted<T: Bounded>(value: T) -> T {
    let (Ok(mut json), Some(schema)) = (serde_json::to_value(&value), schema(T::KIND, T::PART)) else { return value };
    match cut(&mut json, schema) {
        0 => value,
        _ => serde_json::from_value(json).unwrap_or(value),
    }
}

/// Cuts what is written as raw JSON, such as a merge patch of a status; returns how many cuts were made.
pub fn fit_patch(kind: &str, part: &str, value: &mut Value) -> usize {
    schema(kind, part).map_or(0, |schema| cut(value, schema))
}

/// Why a write cannot be stored, in one sentence; `None` when it can.
pub fn too_large(write: &Write) -> Option<String> {
    let field = write.field()?;
    let bytes = field.before.to_string().len() + field.after.to_string().len();
    (bytes > MAX_WRITE).then(|| {
        format!(
            "{} before and after the write are {bytes} bytes together, and at most {MAX_WRITE} can be stored and \
             granted; move what is large out of the template, into a ConfigMap",
            field.path
        )
    })
}

/// The schema of a part of a kind.
pub fn schema(kind: &str, part: &str) -> Option<&'static Value> {
    static SCHEMAS: OnceLock<BTreeMap<String, Value>> = OnceLock::new();
    let schemas = SCHEMAS.get_or_init(|| {
        let schema =
            |crd: k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition| {
                let version = crd.spec.versions.into_iter().next()?;
                let schema = version.schema?.open_api_v3_schema?;
                Some((crd.spec.names.kind, serde_json::to_value(schema).ok()?))
            };
        v1alpha1::definitions().into_iter().filter_map(schema).collect()
    });
    schemas.get(kind)?.get("properties")?.get(part)
}

/// Cuts `value` to `schema`; returns the number of cuts.
fn cut(value: &mut Value, schema: &Value) -> usize {
    let bound = |name: &str| schema.get(name).and_then(Value::as_u64).and_then(|bound| usize::try_from(bound).ok());
    match value {
        Value::String(text) => usize::from(bound("maxLength").is_some_and(|bound| cut_text(text, bound))),
        Value::Number(number) => usize::from(clamp(number, schema)),
        Value::Array(items) => {
            let cuts = usize::from(bound("maxItems").is_some_and(|bound| cut_middle(items, bound)));
            let each = schema.get("items");
            cuts + each.map_or(0, |each| items.iter_mut().map(|item| cut(item, each)).sum())
        }
        Value::Object(fields) => {
            let mut cuts = 0;
            if let Some(bound) = bound("maxProperties") {
                while fields.len() > bound {
                    let Some(last) = fields.keys().next_back().cloned() else { break };
                    fields.remove(&last);
                    cuts += 1;
                }
            }
            let (named, others) = (schema.get("properties"), schema.get("additionalProperties"));
            for (name, field) in fields.iter_mut() {
                let known = named.and_then(|named| named.get(name)).or(others.filter(|others| others.is_object()));
                cuts += known.map_or(0, |schema| cut(field, schema));
            }
            cuts
        }
        Value::Null | Value::Bool(_) => 0,
    }
}

/// The API server counts characters, not bytes.
fn cut_text(text: &mut String, bound: usize) -> bool {
    // No text has more characters than bytes.
    if text.len() <= bound || text.chars().count() <= bound {
        return false;
    }
    let keep = if bound > SHORT { bound - MARK.chars().count() } else { bound };
    let end = text.char_indices().nth(keep).map_or(text.len(), |(at, _)| at);
    text.truncate(end);
    if bound > SHORT {
        text.push_str(MARK);
    }
    true
}

/// How it began and how it ends matter most.
fn cut_middle(items: &mut Vec<Value>, bound: usize) -> bool {
    if items.len() <= bound {
        return false;
    }
    let head = bound / 2;
    let tail = items.len() - (bound - head);
    items.drain(head..tail);
    true
}

fn clamp(number: &mut Number, schema: &Value) -> bool {
    let Some(value) = number.as_i64() else { return false };
    // Bounds are whole numbers of at most a few digits.
    #[allow(clippy::cast_possible_truncation, reason = "a bound of a schema of ours is a small whole number")]
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64).map(|bound| bound as i64);
    let fitting = value.max(bound("minimum").unwrap_or(i64::MIN)).min(bound("maximum").unwrap_or(i64::MAX));
    *number = fitting.into();
    fitting != value
}
