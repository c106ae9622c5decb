//! Decodes what others wrote: each object by itself, within a bound, and without what nobody asks of it.
//!
//! Whoever may write in a namespace chooses how many labels an object has, and how large its spec is. The API server
//! holds each object to about 1.5 MB; decoded, the same bytes take ten times as much. So of the metadata of our own kinds
//! only what is ours is decoded, and of the kinds that people write not more than [`MAX_WEIGHT`]: what is larger cannot be
//! decoded, by its name, which denies where a Policy is not known, and lifts or approves nothing.

use std::borrow::Cow;
use std::fmt::{self, Debug};

use kube::{
    Resource,
    core::{ObjectMeta, error_boundary::InvalidObject},
};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

use crate::api::v1alpha1::GROUP;

/// Kinds of ours that people write.
const BY_PEOPLE: [&str; 6] = ["Alert", "Approval", "ModelChain", "Policy", "PolicyException", "Runbook"];
/// Bytes of one object that people write, without its metadata; each value counts [`NODE`] bytes besides its text. What
/// the schemas admit is less, as long as its texts are ASCII.
pub const MAX_WEIGHT: usize = 1 << 20;
/// What a value takes besides its text.
const NODE: usize = 32;
/// Metadata of our kinds that is asked for, besides labels and annotations of ours.
const ASKED: [&str; 7] =
    ["name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp"];
/// Labels and annotations that we ask begin so.
const OURS: &str = "backstop.dev/";

/// An object that others wrote, or why it cannot be decoded: one that cannot must not hide the others of its list.
#[derive(Clone, Debug)]
pub struct Lean<K>(pub Result<K, InvalidObject>);

impl<'de, K: DeserializeOwned + Resource<DynamicType = ()>> Deserialize<'de> for Lean<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ours = K::group(&()) == GROUP;
        let bounded = ours && BY_PEOPLE.contains(&K::kind(&()).as_ref());
        let mut budget = Budget { left: if bounded { MAX_WEIGHT } else { usize::MAX }, over: false };
        let mut object = deserializer.deserialize_map(Object { ours, budget: &mut budget })?;
        let metadata = object.get("metadata").cloned().unwrap_or_default();
        let decoded = if budget.over {
            object.clear();
            Err(format!("it is larger than {MAX_WEIGHT} bytes, which is more than is read of one object; shorten it"))
        } else {
            serde_json::from_value(Value::Object(object)).map_err(|error| error.to_string())
        };
        Ok(Lean(match decoded {
            Ok(object) => Ok(object),
            Err(error) => {
                let metadata =
                    if metadata.is_null() { Ok(ObjectMeta::default()) } else { serde_json::from_value(metadata) };
                Err(InvalidObject { error, metadata: metadata.map_err(D::Error::custom)? })
            }
        }))
    }
}

impl<K: Resource> Resource for Lean<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.as_ref().map_or_else(|invalid| &invalid.metadata, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.as_mut().map_or_else(|invalid| &mut invalid.metadata, K::meta_mut)
    }
}

/// What may still be decoded.
struct Budget {
    left: usize,
    over: bool,
}

impl Budget {
    /// Takes a value with this much text, if there is room for it.
    fn takes(&mut self, text: usize) -> bool {
        match self.left.checked_sub(NODE + text) {
            Some(left) if !self.over => {
                self.left = left;
                true
            }
            _ => {
                self.over = true;
                false
            }
        }
    }
}

/// The object itself.
struct Object<'a> {
    ours: bool,
    budget: &'a mut Budget,
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = if key == "metadata" {
                map.next_value_seed(Metadata { ours: self.ours, budget: &mut *self.budget })?
            } else {
                map.next_value_seed(Any(&mut *self.budget))?
            };
            object.insert(key, value);
        }
        Ok(object)
    }
}

/// Its metadata, without what nobody asks: who manages which field, and of our kinds what others added.
struct Metadata<'a> {
    ours: bool,
    budget: &'a mut Budget,
}

impl<'de> DeserializeSeed<'de> for Metadata<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Metadata<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("metadata")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut metadata = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = match key.as_str() {
                "labels" | "annotations" if self.ours => map.next_value_seed(Marks(&mut *self.budget))?,
                "managedFields" => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
                name if self.ours && !ASKED.contains(&name) => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
                _ => map.next_value()?,
            };
            metadata.insert(key, value);
        }
        Ok(Value::Object(metadata))
    }
}

/// Labels or annotations: ours alone, which count like the rest.
struct Marks<'a>(&'a mut Budget);

impl<'de> DeserializeSeed<'de> for Marks<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Marks<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("labels or annotations")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut marks = Map::new();
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if key.starts_with(OURS) && self.0.takes(key.len()) {
                let value = map.next_value_seed(Any(&mut *self.0))?;
                marks.insert(key.into_owned(), value);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Value::Object(marks))
    }
}

/// Any value, as long as the budget lasts; what is beyond it is passed over.
struct Any<'a>(&'a mut Budget);

impl<'de> DeserializeSeed<'de> for Any<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Any<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(if self.0.takes(value.len()) { value.into() } else { Value::Null })
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(if self.0.takes(value.len()) { value.into() } else { Value::Null })
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut items = vec![];
        while self.0.takes(0) {
            match list.next_element_seed(Any(self.0))? {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Null)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if self.0.takes(key.len()) {
                let value = map.next_value_seed(Any(self.0))?;
                fields.insert(key.into_owned(), value);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        api::v1alpha1::{Alert, Investigation, Policy},
        core::fit,
    };

    fn read<K: DeserializeOwned + Resource<DynamicType = ()>>(object: &Value) -> Result<K, Box<InvalidObject>> {
        // Through text, as it comes from the API server.
        serde_json::from_str::<Lean<K>>(&object.to_string()).unwrap().0.map_err(Box::new)
    }

    fn policy(spec: Value) -> Value {
        json!({"apiVersion": "backstop.dev/v1alpha1", "kind": "Policy", "spec": spec, "metadata": {
            "name": "p", "namespace": "shop", "uid": "u", "resourceVersion": "7", "generation": 3,
            "creationTimestamp": "2026-11-21T10:00:00Z",
        }})
    }

    #[test]
    fn an_object_within_the_bound_is_what_it_would_be_without_one() {
        let spec = json!({"mode": "approve", "matchConstraints": {"objectSelector": {"matchLabels": {"a": "b"}}},
            "confidenceFloor": 60, "allowHelm": true, "allowedActions": null,
            "validations": [{"expression": "true", "message": "ünï"}]});
        let object = policy(spec);
        assert_eq!(read::<Policy>(&object).unwrap(), serde_json::from_value(object).unwrap());
    }

    #[test]
    fn what_tenants_add_to_the_metadata_is_never_decoded() {
        let mut object = policy(json!({"mode": "auto"}));
        let many = |prefix: &str| (0..20_000).map(|n| (format!("{prefix}{n}"), json!(""))).collect::<Map<_, _>>();
        let metadata = object["metadata"].as_object_mut().unwrap();
        metadata.insert("labels".into(), Value::Object(many("x")));
        metadata.insert("annotations".into(), Value::Object(many("backstop.devil/x")));
        metadata.insert("finalizers".into(), json!(vec!["a/b"; 20_000]));
        metadata.insert("managedFields".into(), json!([{"fieldsV1": many("f:")}]));
        let read = read::<Policy>(&object).unwrap().metadata;
        assert_eq!((read.labels, read.annotations), (Some(Default::default()), Some(Default::default())));
        assert_eq!((read.finalizers, read.managed_fields), (None, None));
        assert_eq!((read.name.as_deref(), read.resource_version.as_deref()), (Some("p"), Some("7")));
    }

    #[test]
    fn a_mark_of_ours_stays() {
        let alert = json!({"metadata": {"name": "a", "labels": {"backstop.dev/belongs-to": "shop", "team": "x"},
                "annotations": {"backstop.dev/last-seen": "2026-11-21T10:00:00Z", "note": "x"}},
            "spec": {"fingerprint": "f", "labels": {"team": "y"}, "startsAt": "2026-11-21T10:00:00Z"}});
        let alert = read::<Alert>(&alert).unwrap();
        let keys =
            |marks: Option<std::collections::BTreeMap<String, String>>| marks.unwrap().into_keys().collect::<Vec<_>>();
        assert_eq!(keys(alert.metadata.labels), ["backstop.dev/belongs-to"]);
        assert_eq!(keys(alert.metadata.annotations), ["backstop.dev/last-seen"]);
        assert_eq!(alert.spec.labels["team"], "y", "the alert's own labels are no metadata");
    }

    #[test]
    fn what_is_larger_than_the_bound_cannot_be_decoded_by_its_name_and_takes_no_memory() {
        let labels: Map<_, _> = (0..100_000).map(|n| (format!("l{n}"), json!("v"))).collect();
        let values = vec![json!("v"); 100_000];
        for spec in [
            json!({"mode": "auto", "matchConstraints": {"objectSelector": {"matchLabels": labels}}}),
            json!({"mode": "auto", "protected": {"objectSelector": {"matchExpressions":
                [{"key": "a", "operator": "In", "values": values}]}}}),
            json!({"mode": "auto", "windows": vec![json!({"kind": "deny", "schedule": "x".repeat(200)}); 6_000]}),
            json!({"mode": "auto", "unknown": "x".repeat(MAX_WEIGHT)}),
        ] {
            let invalid = read::<Policy>(&policy(spec)).unwrap_err();
            assert_eq!(invalid.metadata.name.as_deref(), Some("p"));
            assert_eq!((invalid.metadata.namespace.as_deref(), invalid.metadata.generation), (Some("shop"), Some(3)));
            assert!(invalid.error.contains("larger than 1048576 bytes"), "{}", invalid.error);
        }
    }

    #[test]
    fn marks_that_look_like_ours_count_too_and_the_name_is_known_all_the_same() {
        let mut object = policy(json!({"mode": "auto"}));
        let marks: Map<_, _> = (0..40_000).map(|n| (format!("backstop.dev/x{n}"), json!(""))).collect();
        object["metadata"]["annotations"] = Value::Object(marks);
        let invalid = read::<Policy>(&object).unwrap_err();
        assert_eq!(invalid.metadata.name.as_deref(), Some("p"));
        assert!(invalid.error.contains("larger than"), "{}", invalid.error);
    }

    #[test]
    fn what_we_write_ourselves_has_no_second_bound() {
        let facts: Vec<Value> = (0..3000).map(|n| json!({"text": "x".repeat(400), "n": n})).collect();
        let object = json!({"metadata": {"name": "i"}, "spec": {"facts": facts}});
        let invalid = read::<Investigation>(&object).unwrap_err();
        assert!(invalid.error.contains("missing field"), "{}", invalid.error);
    }

    /// The largest text of a value that `schema` admits, in ASCII, with [`NODE`] for each value.
    fn largest(schema: &Value) -> usize {
        let bound =
            |name: &str| schema[name].as_u64().map_or(usize::MAX / 1_000_000, |bound| usize::try_from(bound).unwrap());
        let text = match schema["type"].as_str() {
            Some("string") if schema.get("enum").is_some() || schema.get("format").is_some() => 64,
            // A pattern that has no bound beside it is held to one by `every_text_list_and_map_of_ours_has_a_bound`.
            Some("string") if schema.get("maxLength").is_none() && schema.get("pattern").is_some() => 128,
            Some("string") => bound("maxLength"),
            Some("array") => bound("maxItems").saturating_mul(largest(&schema["items"])),
            Some("object") => {
                let fields = schema["properties"].as_object().into_iter().flatten();
                let named: usize = fields.map(|(name, field)| name.len() + largest(field)).sum();
                let others = schema.get("additionalProperties").filter(|others| others.is_object());
                let others = others.map_or(0, |each| bound("maxProperties").saturating_mul(317 + NODE + largest(each)));
                named.saturating_add(others)
            }
            _ => 0,
        };
        NODE.saturating_add(text)
    }

    #[test]
    fn what_the_schemas_admit_of_people_is_within_the_bound() {
        for kind in BY_PEOPLE {
            let sizes = ["spec", "status"].map(|part| fit::schema(kind, part).map_or(0, largest));
            // A condition is Kubernetes' own type, and ours to write.
            let sizes = [sizes[0], sizes[1].min(128 << 10)];
            assert!(sizes.iter().sum::<usize>() <= MAX_WEIGHT, "{kind} admits {sizes:?} bytes");
        }
    }
}
