//! Access to fields of raw JSON: what is absent, or of another type than expected, is absent.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::api::v1alpha1::{ObjectRef, Time};

pub fn string<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// At most `limit` bytes of a string, cut at a character.
pub fn text(value: &Value, pointer: &str, limit: usize) -> String {
    let text = string(value, pointer);
    text[..text.floor_char_boundary(limit)].to_owned()
}

pub fn int(value: &Value, pointer: &str) -> Option<i64> {
    value.pointer(pointer).and_then(Value::as_i64)
}

pub fn int32(value: &Value, pointer: &str) -> i32 {
    int(value, pointer).and_then(|number| number.try_into().ok()).unwrap_or_default()
}

pub fn time(value: &Value, pointer: &str) -> Option<Time> {
    value.pointer(pointer).and_then(Value::as_str).and_then(|text| text.parse().ok())
}

pub fn array<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

pub fn string_map(value: &Value, pointer: &str) -> BTreeMap<String, String> {
    let map = value.pointer(pointer).and_then(Value::as_object);
    map.into_iter().flatten().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// Items of a list carry neither `apiVersion` nor `kind`; the caller knows what it listed.
pub fn object_ref(value: &Value, api_version: &str, kind: &str) -> ObjectRef {
    let or = |pointer, default: &str, limit| match value.pointer(pointer) {
        Some(_) => text(value, pointer, limit),
        None => default.to_owned(),
    };
    ObjectRef {
        api_version: or("/apiVersion", api_version, 128),
        kind: or("/kind", kind, 63),
        namespace: text(value, "/metadata/namespace", 63),
        name: text(value, "/metadata/name", 253),
        uid: text(value, "/metadata/uid", 128),
    }
}

/// The reference to the owner that controls `value`.
pub fn controller(value: &Value) -> Option<&Value> {
    array(value, "/metadata/ownerReferences")
        .iter()
        .find(|owner| owner.get("controller").and_then(Value::as_bool) == Some(true))
}

/// The owner that controls `value`; owner references stay inside a namespace.
pub fn controller_of(value: &Value, namespace: &str) -> Option<ObjectRef> {
    controller(value).map(|owner| {
        let kind = text(owner, "/kind", 63);
        ObjectRef {
            api_version: text(owner, "/apiVersion", 128),
            namespace: if kind == "Node" { String::new() } else { namespace.to_owned() },
            kind,
            name: text(owner, "/name", 253),
            uid: text(owner, "/uid", 128),
        }
    })
}

/// Whether the object with this UID controls `value`.
pub fn owned_by(value: &Value, uid: &str) -> bool {
    controller(value).is_some_and(|owner| string(owner, "/uid") == uid)
}

/// Seconds from `from` to `to`; never negative.
pub fn seconds(from: Time, to: Time) -> i64 {
    to.as_second().saturating_sub(from.as_second()).max(0)
}
