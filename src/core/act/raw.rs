//! Reading untyped objects. Templates and metadata stay raw JSON from the API server to the API server.

use serde_json::Value;

use crate::core::names;

/// A label's value.
pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get("metadata")?.get("labels")?.get(key)?.as_str()
}

/// An annotation's value.
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get("metadata")?.get("annotations")?.get(key)?.as_str()
}

/// `metadata.<field>` as text; empty when it is absent.
pub fn meta<'a>(object: &'a Value, field: &str) -> &'a str {
    object.get("metadata").and_then(|meta| meta.get(field)).and_then(Value::as_str).unwrap_or_default()
}

/// `metadata.generation`; 0 when it is absent.
pub fn generation(object: &Value) -> i64 {
    object.get("metadata").and_then(|meta| meta.get("generation")).and_then(Value::as_i64).unwrap_or_default()
}

/// The object is being deleted, or has finalizers that somebody will have to take off.
pub fn is_ending(object: &Value) -> bool {
    let Some(meta) = object.get("metadata") else { return false };
    meta.get("deletionTimestamp").is_some_and(|it| !it.is_null())
        || meta.get("finalizers").and_then(Value::as_array).is_some_and(|it| !it.is_empty())
}

/// The UID of the owner that controls the object.
pub fn controller_uid(object: &Value) -> Option<&str> {
    object
        .get("metadata")?
        .get("ownerReferences")?
        .as_array()?
        .iter()
        .find(|owner| owner.get("controller").and_then(Value::as_bool) == Some(true))?
        .get("uid")?
        .as_str()
}

/// The template that a ReplicaSet records, without the label that the Deployment controller added.
pub fn recorded_template(revision: &Value) -> Option<Value> {
    let mut template = revision.pointer("/spec/template")?.clone();
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(names::POD_TEMPLATE_HASH);
    }
    Some(template)
}

/// The object is fit to be part of a URL path: lower-case letters, digits, `-` and `.`, not starting with a dot.
pub fn is_path_safe(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 253
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
}
