//! The typed difference between two pod templates.
//!
//! Lists whose items have names are matched by name, so that a path reads `/spec/containers/app/image` and a moved
//! container is no change.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::api::v1alpha1::{FieldChange, RevisionDiffFact};
use crate::core::{names, redact};

const MAX_CHANGES: usize = 64;
const MAX_PATH: usize = 512;
const MAX_TEXT: usize = 1024;
/// Deeper than any pod template; a bound for text that is not one.
const MAX_DEPTH: usize = 64;
/// What names an item of a list, first fit for both lists wins.
const KEYS: &[&[&str]] =
    &[&["name"], &["mountPath"], &["containerPort", "protocol"], &["devicePath"], &["topologyKey"]];

/// Compares two templates; a changed `restartedAt` alone is no change, nor is the label `pod-template-hash`.
pub fn diff_templates(from: &Value, from_number: i64, to: &Value, to_number: i64) -> RevisionDiffFact {
    let mut found = Found { changes: Vec::new() };
    found.value(&mut Vec::new(), Some(&plain(from, true)), Some(&plain(to, true)), false);
    let restarted = restarted_at(from) != restarted_at(to);
    let restart_only = found.changes.is_empty() && restarted;
    RevisionDiffFact { from: from_number, to: to_number, changes: found.changes, restart_only }
}

/// Whether two templates are the same but for the label that the Deployment controller adds.
pub fn same_template(a: &Value, b: &Value) -> bool {
    plain(a, false) == plain(b, false)
}

fn restarted_at(template: &Value) -> Option<&Value> {
    template.pointer("/metadata/annotations").and_then(|annotations| annotations.get(names::RESTARTED_AT))
}

/// Without what differs between a Deployment's template and that of its ReplicaSet, and between API servers.
pub(super) fn plain(template: &Value, without_restart: bool) -> Value {
    let mut template = template.clone();
    let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) else { return template };
    if metadata.get("creationTimestamp").is_some_and(Value::is_null) {
        metadata.remove("creationTimestamp");
    }
    let mut drop = |map: &str, key: &str| {
        if let Some(entries) = metadata.get_mut(map).and_then(Value::as_object_mut) {
            entries.remove(key);
            if entries.is_empty() {
                metadata.remove(map);
            }
        }
    };
    drop("labels", names::POD_TEMPLATE_HASH);
    if without_restart {
        drop("annotations", names::RESTARTED_AT);
    }
    template
}

struct Found {
    changes: Vec<FieldChange>,
}

impl Found {
    fn value(&mut self, path: &mut Vec<String>, from: Option<&Value>, to: Option<&Value>, secret: bool) {
        if from == to || self.changes.len() >= MAX_CHANGES {
            return;
        }
        if path.len() < MAX_DEPTH {
            match (from, to) {
                (Some(Value::Object(a)), Some(Value::Object(b))) => return self.object(path, a, b, secret),
                (Some(Value::Array(a)), Some(Value::Array(b))) => {
                    if let Some(key) = KEYS.iter().find(|key| keyed(a, key) && keyed(b, key)) {
                        return self.list(path, key, a, b, secret);
                    }
                }
                _ => {}
            }
        }
        let mut pointer = String::new();
        for part in path.iter() {
            pointer.push('/');
            pointer.push_str(&part.replace('~', "~0").replace('/', "~1"));
        }
        self.changes.push(FieldChange {
            path: redact::clip(&pointer, MAX_PATH),
            before: shown(from, secret),
            after: shown(to, secret),
        });
    }

    fn object(&mut self, path: &mut Vec<String>, a: &Map<String, Value>, b: &Map<String, Value>, secret: bool) {
        // The value of a variable is as secret as its name sounds.
        let named =
            |map: &Map<String, Value>| map.get("name").and_then(Value::as_str).is_some_and(redact::is_secretish);
        let inner = named(a) || named(b);
        for key in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
            path.push(redact::clean(key));
            self.value(path, a.get(key), b.get(key), secret || redact::is_secret_key(key) || (inner && key == "value"));
            path.pop();
        }
    }

    fn list(&mut self, path: &mut Vec<String>, key: &[&str], a: &[Value], b: &[Value], secret: bool) {
        let find =
            |list: &[Value], id: &str| list.iter().find(|item| item_id(item, key).as_deref() == Some(id)).cloned();
        let ids: BTreeSet<String> = a.iter().chain(b).filter_map(|item| item_id(item, key)).collect();
        for id in ids {
            path.push(redact::clean(&id));
            let (from, to) = (find(a, &id), find(b, &id));
            match (&from, &to) {
                // A variable that came or went reads better as a change of its one other field.
                (Some(Value::Object(item)), None) if item.len() == key.len() + 1 => {
                    self.object(path, item, &without(item, &other(item, key)), secret);
                }
                (None, Some(Value::Object(item))) if item.len() == key.len() + 1 => {
                    self.object(path, &without(item, &other(item, key)), item, secret);
                }
                _ => self.value(path, from.as_ref(), to.as_ref(), secret),
            }
            path.pop();
        }
    }
}

/// The fields of an item that do not name it.
fn other<'a>(item: &'a Map<String, Value>, key: &[&str]) -> Vec<&'a str> {
    item.keys().map(String::as_str).filter(|field| !key.contains(field)).collect()
}

fn without(item: &Map<String, Value>, fields: &[&str]) -> Map<String, Value> {
    item.iter().filter(|(field, _)| !fields.contains(&field.as_str())).map(|(f, v)| (f.clone(), v.clone())).collect()
}

fn item_id(item: &Value, key: &[&str]) -> Option<String> {
    let part = |name: &&str| match item.get(*name) {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        // The protocol of a port may be left out.
        None if *name == "protocol" => Some("TCP".into()),
        _ => None,
    };
    Some(key.iter().map(part).collect::<Option<Vec<_>>>()?.join("."))
}

/// Every item has the key, and no two have the same.
fn keyed(list: &[Value], key: &[&str]) -> bool {
    let ids: Option<BTreeSet<String>> = list.iter().map(|item| item_id(item, key)).collect();
    ids.is_some_and(|ids| ids.len() == list.len())
}

fn shown(value: Option<&Value>, secret: bool) -> String {
    match value {
        None => String::new(),
        Some(_) if secret => redact::REDACTED.to_owned(),
        Some(Value::String(text)) => redact::text(text, MAX_TEXT),
        Some(other) => redact::json(other, MAX_TEXT),
    }
}
