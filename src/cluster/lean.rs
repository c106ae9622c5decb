//! Decodes what others wrote: each object by itself, within a bound, and without what nobody asks of it.
//!
//! Whoever may write in a namespace chooses how many labels an object has, and how large its spec is. The API server
//! holds each object to about 1.5 MB; decoded, the same bytes take ten times as much. So of the metadata of our own kinds
//! only what is ours is decoded, and of the kinds that people write not more than [`MAX_WEIGHT`]: what is larger cannot be
//! decoded, by its name, which denies where a Policy is not known, and lifts or approves nothing. Of Kubernetes' own kinds,
//! which are watched for a few numbers, it is [`MAX_OTHER`], and no pod template.

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
/// Bytes of one object of a kind that is not ours, metadata included, without a workload's pod template. Nobody asks more of
/// the watches on such kinds than numbers, conditions and names.
pub const MAX_OTHER: usize = 256 << 10;
/// Kinds of which the watches do not ask the pod template, which is most of them.
const WITH_TEMPLATE: [&str; 3] = ["DaemonSet", "Deployment", "StatefulSet"];
/// What a value takes besides its text.
const NODE: usize = 32;
/// What a map takes besides, which has room for eleven entries as soon as it has one.
const MAP: usize = 600;
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
        let (kind, most) = (K::kind(&()), Self::most());
        let template = !ours && WITH_TEMPLATE.contains(&kind.as_ref());
        let mut budget = Budget { left: most, map: if ours { 0 } else { MAP }, over: false };
        let mut object = deserializer.deserialize_map(Object { ours, template, budget: &mut budget })?;
        let mut metadata = object.get("metadata").cloned().unwrap_or_default();
        let decoded = if budget.over {
            object.clear();
            // A map that ends where the budget does is not what it was.
            if let Value::Object(metadata) = &mut metadata {
                metadata.retain(|key, _| ASKED.contains(&key.as_str()));
            }
            Err(format!("it is larger than {most} bytes, which is more than is read of one object; shorten it"))
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

impl<K: Resource<DynamicType = ()>> Lean<K> {
    /// What is decoded of one object at most. What our own roles write has its bounds where it is written.
    fn most() -> usize {
        match K::group(&()) == GROUP {
            true if !BY_PEOPLE.contains(&K::kind(&()).as_ref()) => usize::MAX,
            true => MAX_WEIGHT,
            false => MAX_OTHER,
        }
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
    /// What a map counts besides its entries.
    map: usize,
    over: bool,
}

/// Decodes an object, or a list, as it is, as long as it takes `most` bytes in memory: the value, and how much it takes. `None`:
/// it would take more. Without `owners`, the items of a list are without who manages which of their fields.
pub(super) fn weighed(text: &str, most: usize, owners: bool) -> serde_json::Result<Option<(Value, usize)>> {
    let mut budget = Budget { left: most, map: MAP, over: false };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = if owners {
        Any(&mut budget).deserialize(&mut deserializer)
    } else {
        deserializer.deserialize_map(List(&mut budget)).map(Value::Object)
    }?;
    deserializer.end()?;
    Ok((!budget.over).then(|| (value, most - budget.left)))
}

/// A list whose items are decoded as [`Object`]s.
struct List<'a>(&'a mut Budget);

impl<'de> Visitor<'de> for List<'_> {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut list = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = match key.as_str() {
                "items" => map.next_value_seed(Items(&mut *self.0))?,
                _ => map.next_value_seed(Any(&mut *self.0))?,
            };
            list.insert(key, value);
        }
        Ok(list)
    }
}

/// The items of a list.
struct Items<'a>(&'a mut Budget);

impl<'de> DeserializeSeed<'de> for Items<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Items<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("items")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut items = vec![];
        while self.0.takes(self.0.map) {
            match list.next_element_seed(Item(&mut *self.0))? {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Null)
    }
}

/// One of them.
struct Item<'a>(&'a mut Budget);

impl<'de> DeserializeSeed<'de> for Item<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let object = Object { ours: false, template: false, budget: self.0 };
        deserializer.deserialize_map(object).map(Value::Object)
    }
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
    /// It has a pod template, which is passed over.
    template: bool,
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
            } else if key == "spec" && self.template {
                map.next_value_seed(Spec(&mut *self.budget))?
            } else {
                map.next_value_seed(Any(&mut *self.budget))?
            };
            object.insert(key, value);
        }
        Ok(object)
    }
}

/// The spec of a workload, with an empty template.
struct Spec<'a>(&'a mut Budget);

impl<'de> DeserializeSeed<'de> for Spec<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Spec<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the spec of a workload")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut spec = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = match key.as_str() {
                "template" | "volumeClaimTemplates" => {
                    map.next_value::<IgnoredAny>()?;
                    if key == "template" { Value::Object(Map::new()) } else { Value::Null }
                }
                _ => map.next_value_seed(Any(&mut *self.0))?,
            };
            spec.insert(key, value);
        }
        Ok(Value::Object(spec))
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
                name if ASKED.contains(&name) => map.next_value()?,
                _ => map.next_value_seed(Any(&mut *self.budget))?,
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
            let map_itself = if fields.is_empty() { self.0.map } else { 0 };
            if self.0.takes(map_itself + key.len()) {
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
#[path = "lean_tests.rs"]
mod tests;
