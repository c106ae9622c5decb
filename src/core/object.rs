//! Fields of untyped objects. What is absent, or of another type than Kubernetes writes, counts as absent.
//!
//! Templates and metadata stay raw JSON from the API server to the API server: typed structs drop fields that they
//! do not know and rewrite quantities.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::api::v1alpha1::{ObjectRef, Time};

/// 1971: no cluster is older.
const EARLIEST_SECOND: i64 = 365 * 86_400;

/// Text at a JSON pointer; empty when it is absent.
pub fn string<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// At most `limit` bytes of the text at a JSON pointer, cut at a character.
pub fn text(value: &Value, pointer: &str, limit: usize) -> String {
    let text = string(value, pointer);
    text[..text.floor_char_boundary(limit)].to_owned()
}

/// The integer at a JSON pointer.
pub fn int(value: &Value, pointer: &str) -> Option<i64> {
    value.pointer(pointer).and_then(Value::as_i64)
}

/// The integer at a JSON pointer; 0 when it is absent or does not fit.
pub fn int32(value: &Value, pointer: &str) -> i32 {
    int(value, pointer).and_then(|number| number.try_into().ok()).unwrap_or_default()
}

/// The time at a JSON pointer; absent when it is not known.
pub fn time(value: &Value, pointer: &str) -> Option<Time> {
    value.pointer(pointer).and_then(Value::as_str).and_then(known_time)
}

/// A time that somebody wrote down. The zero of Go (year 1) and that of Unix (1970), in any time zone, are how
/// kubelet and API server print a time that they do not know: a container that never started "started" in 1970.
pub fn known_time(text: &str) -> Option<Time> {
    text.parse().ok().filter(|time| is_known(*time))
}

/// Whether a time is one at all, and not the zero of Go or of Unix.
pub fn is_known(time: Time) -> bool {
    time.as_second() >= EARLIEST_SECOND
}

/// The list at a JSON pointer; empty when it is absent.
pub fn array<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The texts of the map at a JSON pointer.
pub fn string_map(value: &Value, pointer: &str) -> BTreeMap<String, String> {
    let map = value.pointer(pointer).and_then(Value::as_object);
    map.into_iter().flatten().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

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
    int(object, "/metadata/generation").unwrap_or_default()
}

/// The condition of this type in the object's status.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    array(object, "/status/conditions").iter().find(|condition| string(condition, "/type") == kind)
}

/// The object is being deleted, or has finalizers that somebody will have to take off.
pub fn is_ending(object: &Value) -> bool {
    let Some(meta) = object.get("metadata") else { return false };
    meta.get("deletionTimestamp").is_some_and(|it| !it.is_null())
        || meta.get("finalizers").and_then(Value::as_array).is_some_and(|it| !it.is_empty())
}

/// The object's identity. Items of a list carry neither `apiVersion` nor `kind`; the caller knows what it listed.
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

/// The UID of the owner that controls the object.
pub fn controller_uid(object: &Value) -> Option<&str> {
    controller(object)?.get("uid")?.as_str()
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
    controller_uid(value) == Some(uid)
}

/// Seconds from `from` to `to`; never negative.
pub fn seconds(from: Time, to: Time) -> i64 {
    to.as_second().saturating_sub(from.as_second()).max(0)
}
