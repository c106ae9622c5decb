//! The JSON Schema of an answer, as the strict modes of all APIs take it: every field is required, nothing else is
//! allowed, no reference, no union, and no bound on a length or a number. Bounds are asked when the answer is read.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::api::v1alpha1::FactData;
use crate::core::rules::FactBundle;

use super::Answer;

/// Keywords that a strict mode of some API does not take, or that only repeat the Rust type.
const LEFT_OUT: &[&str] = &[
    "$schema",
    "title",
    "format",
    "default",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "pattern",
];
/// Values of one enumeration at most.
const MAX_VALUES: usize = 200;

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let mut schema = strict_schema::<Answer>();
    // A grammar cannot bound a number otherwise, and a finer answer means nothing.
    set(&mut schema, &["confidence"], "enum", (0..=10).map(|tenth| json!(tenth * 10)).collect());
    schema
});

/// The schema of every answer. It is the same for every incident, so that an API can keep what it compiles of it.
pub fn schema() -> &'static Value {
    &SCHEMA
}

/// The same, where names and numbers are only those that the facts show: for models that are held to a schema as to a
/// grammar, and need one. Whatever it lets through is tested all the same.
pub fn restricted(case: FactBundle<'_>) -> Value {
    let mut schema = schema().clone();
    let (mut kinds, mut names, mut revisions) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::from([0]));
    for fact in case.facts {
        kinds.insert(fact.object.kind.as_str());
        names.insert(fact.object.name.as_str());
        if let FactData::Revision(revision) = &fact.data {
            revisions.insert(revision.number);
        }
    }
    let texts = |words: BTreeSet<&str>| -> Vec<Value> {
        std::iter::once("")
            .chain(words.into_iter().filter(|word| !word.is_empty()))
            .take(MAX_VALUES)
            .map(Value::from)
            .collect()
    };
    let numbers: Vec<Value> = revisions.into_iter().take(MAX_VALUES).map(Value::from).collect();
    set(&mut schema, &["suspect", "kind"], "enum", texts(kinds));
    set(&mut schema, &["suspect", "name"], "enum", texts(names));
    for path in [&["suspect", "revision"][..], &["proposal", "toRevision"], &["claims", "revision"]] {
        set(&mut schema, path, "enum", numbers.clone());
    }
    let facts: Vec<Value> = case.facts.iter().take(MAX_VALUES).map(|fact| Value::from(fact.id.as_str())).collect();
    if !facts.is_empty() {
        set(&mut schema, &["claims", "cites"], "enum", facts);
    }
    schema
}

/// Sets a keyword of the property at `path`; lists are gone through to their items.
fn set(schema: &mut Value, path: &[&str], keyword: &str, values: Vec<Value>) {
    let mut at = schema;
    for name in path {
        let Some(found) = at.get_mut("properties").and_then(|properties| properties.get_mut(*name)) else { return };
        at = found;
        if at.get("items").is_some() {
            at = &mut at["items"];
        }
    }
    if let Value::Object(fields) = at {
        fields.insert(keyword.to_owned(), Value::Array(values));
    }
}

/// The strict schema of a type.
pub(super) fn strict_schema<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    strict(&mut schema);
    schema
}

fn strict(schema: &mut Value) {
    let Value::Object(fields) = schema else { return };
    fields.retain(|keyword, _| !LEFT_OUT.contains(&keyword.as_str()));
    if let Some(Value::Array(variants)) = fields.remove("oneOf") {
        fields.extend(enumeration(variants));
    }
    if let Some(items) = fields.get_mut("items") {
        strict(items);
    }
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        properties.values_mut().for_each(strict);
        let required: Vec<Value> = properties.keys().map(|name| Value::from(name.as_str())).collect();
        fields.insert("required".into(), Value::Array(required));
        fields.insert("additionalProperties".into(), Value::Bool(false));
    }
}

/// The variants of an enumeration with a comment on each, as one list of words.
fn enumeration(variants: Vec<Value>) -> Map<String, Value> {
    let words = variants.into_iter().flat_map(|variant| match (variant.get("const"), variant.get("enum")) {
        (Some(word), _) => vec![word.clone()],
        (None, Some(Value::Array(words))) => words.clone(),
        _ => vec![],
    });
    Map::from_iter([("type".to_owned(), "string".into()), ("enum".to_owned(), Value::Array(words.collect()))])
}
