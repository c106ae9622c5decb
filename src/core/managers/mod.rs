//! Who else writes a workload: one table of the tools that do, how each is recognised, and which fields it writes.
//!
//! An owner reference needs no row: whoever is named in one owns the object. A tool without a row that names itself in
//! the label `app.kubernetes.io/managed-by` counts as one that writes everything.

pub mod revert;
mod table;

#[cfg(test)]
mod tests;

use serde_json::Value;

use crate::core::object::{array, string};

pub use table::{HELM, MANAGERS};

/// A tool that writes workloads.
#[derive(Debug)]
pub struct Manager {
    /// As facts list it, such as `argocd`. At most 64 bytes.
    pub name: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// How it is recognised: any one of these.
    pub marks: &'static [Mark],
    /// What it writes, by itself and whenever it likes.
    pub writes: &'static [Field],
    /// What people do instead of a write that it would revert.
    pub way: Way,
    /// What to know about it, for the documents.
    pub note: &'static str,
}

/// A trace that a tool leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A label or annotation of the workload with this name, whatever its value; one that ends with `/` or `.` is the
    /// beginning of the name.
    Key(&'static str),
    /// A label or annotation of the workload with this name and value.
    Value(&'static str, &'static str),
    /// This value of `app.kubernetes.io/managed-by`, in whatever case.
    ManagedBy(&'static str),
    /// A field manager of the workload itself, in whatever case; `*` at an end stands for anything.
    Writer(&'static str),
    /// A field manager through the subresource `scale`, in the same words.
    Scaler(&'static str),
    /// An owner reference to this API group.
    Owner(&'static str),
    /// An owner reference to this API group on the workload of the same kind whose name has `-primary` at its end: the
    /// copy that a canary controller makes of its target.
    PrimaryOwner(&'static str),
    /// A label or annotation with this beginning on that copy.
    PrimaryKey(&'static str),
    /// An object of this API group controls a revision that the workload's own selector chooses.
    RivalOwner(&'static str),
    /// An annotation of a pod.
    PodAnnotation(&'static str),
}

/// What a tool writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The whole pod template.
    Template,
    /// Images of the pod template.
    Images,
    /// A hash of configuration in the pod template, when that configuration changes; nothing is written back.
    ConfigurationHash,
    /// The number of replicas.
    Replicas,
    /// Requests and limits.
    Resources,
}

/// What people do instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Revert the commit that it applies.
    Git,
    /// `helm rollback`.
    Helm,
    /// Change it where the tool has it from.
    Tool,
}

/// The label in which tools name themselves.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The end of the name of the copy that a canary controller makes of its target.
pub const PRIMARY: &str = "-primary";

/// Managers that are named at most.
const MAX_NAMES: usize = 8;
/// Bytes of a name at most.
const MAX_NAME: usize = 64;

impl Manager {
    /// The row of this name.
    pub fn named(name: &str) -> Option<&'static Manager> {
        MANAGERS.iter().find(|manager| manager.name == name)
    }

    /// Whether it would revert, or build on, a write to one of these fields.
    pub fn reverts(&self, fields: &[Field]) -> bool {
        self.writes.iter().any(|field| fields.contains(field))
    }

    /// Whether the pod template is its own.
    fn writes_template(&self) -> bool {
        self.writes.contains(&Field::Template)
    }
}

/// What traces are looked for in.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The workload.
    pub object: &'a Value,
    /// The workload of the same kind whose name ends with [`PRIMARY`], if there is one.
    pub primary: Option<&'a Value>,
    /// Revisions that its selector chooses and that an object of another API group controls.
    pub rivals: &'a [Value],
    /// Its pods.
    pub pods: &'a [Value],
}

/// Names of the tools that write a workload: an unknown one by its own name, then rows in the order of the table.
pub fn managing(seen: Seen<'_>) -> Vec<String> {
    let mut names: Vec<String> = MANAGERS
        .iter()
        .filter(|manager| manager.marks.iter().any(|mark| seen.has(*mark)))
        .map(|manager| manager.name.to_owned())
        .collect();
    if let Some(unknown) = unknown(seen.object) {
        names.insert(0, unknown);
    }
    names.truncate(MAX_NAMES);
    names
}

/// The name that an unknown tool gives itself. One that says that it manages the object does more than a row of its
/// name that writes one field, so it must not be taken for that row.
fn unknown(object: &Value) -> Option<String> {
    let value = value(object, MANAGED_BY)?.trim().to_lowercase();
    let names_it = |mark: &Mark| matches!(mark, Mark::ManagedBy(name) if *name == value);
    let known = MANAGERS.iter().any(|manager| manager.marks.iter().any(names_it));
    if value.is_empty() || known {
        return None;
    }
    let cut = |text: &str, bytes: usize| text[..text.floor_char_boundary(bytes)].to_owned();
    Some(match Manager::named(&value) {
        Some(manager) if !manager.writes_template() => cut(&format!("{MANAGED_BY}={value}"), MAX_NAME),
        _ => cut(&value, MAX_NAME),
    })
}

impl Seen<'_> {
    fn has(&self, mark: Mark) -> bool {
        match mark {
            Mark::Key(name) => has_key(self.object, name),
            Mark::Value(name, expected) => value(self.object, name) == Some(expected),
            Mark::ManagedBy(name) => {
                value(self.object, MANAGED_BY).is_some_and(|value| value.trim().eq_ignore_ascii_case(name))
            }
            Mark::Writer(name) => writes(self.object, name, ""),
            Mark::Scaler(name) => writes(self.object, name, "scale"),
            Mark::Owner(group) => has_owner(self.object, group),
            Mark::PrimaryOwner(group) => self.primary.is_some_and(|primary| has_owner(primary, group)),
            Mark::PrimaryKey(name) => self.primary.is_some_and(|primary| has_key(primary, name)),
            Mark::RivalOwner(group) => self.rivals.iter().any(|revision| has_owner(revision, group)),
            Mark::PodAnnotation(name) => {
                self.pods.iter().any(|pod| maps(pod).any(|(which, key, _)| which == "annotations" && key == name))
            }
        }
    }
}

/// Labels and annotations: which of the two, name, value.
fn maps(object: &Value) -> impl Iterator<Item = (&'static str, &str, &str)> {
    ["labels", "annotations"].into_iter().flat_map(move |which| {
        let map = object.get("metadata").and_then(|metadata| metadata.get(which)).and_then(Value::as_object);
        let entries = map.into_iter().flatten();
        entries.map(move |(key, value)| (which, key.as_str(), value.as_str().unwrap_or_default()))
    })
}

fn has_key(object: &Value, name: &str) -> bool {
    let is_prefix = name.ends_with(['/', '.']);
    maps(object).any(|(_, key, _)| if is_prefix { key.starts_with(name) } else { key == name })
}

fn value<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    maps(object).find(|(_, key, _)| *key == name).map(|(_, _, value)| value)
}

fn writes(object: &Value, name: &str, subresource: &str) -> bool {
    array(object, "/metadata/managedFields").iter().any(|entry| {
        let manager = string(entry, "/manager").to_lowercase();
        let fits = match (name.strip_prefix('*'), name.strip_suffix('*')) {
            (None, None) => manager == name,
            (None, Some(beginning)) => manager.starts_with(beginning),
            (Some(end), None) => manager.ends_with(end),
            (Some(_), Some(_)) => manager.contains(name.trim_matches('*')),
        };
        fits && string(entry, "/subresource") == subresource
    })
}

fn has_owner(object: &Value, group: &str) -> bool {
    let mut owners = array(object, "/metadata/ownerReferences").iter();
    owners.any(|owner| string(owner, "/apiVersion").split_once('/').is_some_and(|(of, _)| of == group))
}
