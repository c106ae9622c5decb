//! Fact bundles: an Investigation cut down to what a diagnoser may look at, to be kept in a file and shown to others.
//!
//! Kept are the target, the begin of the alert, and the facts. What was answered, by whom and for how much is left out,
//! and so is what differs in every cluster and means nothing: each UID becomes a number that is the same everywhere in
//! the bundle, the Incident loses its name, and the namespace takes another one if it is given. Texts were redacted when
//! they were gathered, and are redacted once more.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use kube::ResourceExt as _;
use regex::{Captures, Regex};
use serde_json::Value;

use super::redact;
use crate::api::v1alpha1::{
    Fact, Investigation, InvestigationPhase, InvestigationSpec, InvestigationStatus, ObjectRef,
};

/// Name of the Incident in every bundle.
pub const INCIDENT: &str = "incident";

/// Bytes of one text at most: more than any field of a fact may have.
const MAX_TEXT: usize = 16 * 1024;
/// Deeper than any fact.
const MAX_DEPTH: usize = 32;

/// Why there is no bundle, in one sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoBundle {
    /// Nothing was seen yet.
    #[error("it has no facts: only an Investigation that ended has")]
    NoFacts,
    /// Its facts do not survive being written.
    #[error("it cannot be written: {0}")]
    Unwritable(String),
}

/// The bundle of an Investigation. `namespace` stands for the Investigation's own in names and in texts.
///
/// # Errors
///
/// It has not ended, or has no facts.
pub fn of(investigation: &Investigation, namespace: Option<&str>) -> Result<Investigation, NoBundle> {
    let facts = match &investigation.status {
        Some(status) if status.phase.is_final() && !status.facts.is_empty() => &status.facts,
        _ => return Err(NoBundle::NoFacts),
    };
    let spec = &investigation.spec;
    let own = investigation.namespace().unwrap_or_default();
    let namespace = namespace.unwrap_or(&own);
    let mut renaming = Renaming { own: &own, namespace, incident: &spec.incident, ids: BTreeMap::new() };
    let target: Option<ObjectRef> = renaming.apply(&spec.target)?;
    let facts: Vec<Fact> = renaming.apply(facts)?;
    let spec = InvestigationSpec {
        incident: INCIDENT.to_owned(),
        key: String::new(),
        target,
        chain: Vec::new(),
        model_chain: None,
        request_id: String::new(),
        ..spec.clone()
    };
    let mut bundle = Investigation::new(INCIDENT, spec);
    bundle.metadata.namespace = Some(namespace.to_owned()).filter(|name| !name.is_empty());
    bundle.status = Some(InvestigationStatus { phase: InvestigationPhase::Complete, facts, ..Default::default() });
    Ok(bundle)
}

/// A bundle as YAML. What is written reads back as the same bundle.
///
/// # Errors
///
/// It would not.
pub fn text(bundle: &Investigation) -> Result<String, NoBundle> {
    let unwritable = |error: String| NoBundle::Unwritable(error);
    // By way of JSON, as the API server has it: enumerations are fields and no tags.
    let value = serde_json::to_value(bundle).map_err(|error| unwritable(error.to_string()))?;
    let text = serde_saphyr::to_string(&value).map_err(|error| unwritable(error.to_string()))?;
    let back: Investigation = serde_saphyr::from_str(&text).map_err(|error| unwritable(error.to_string()))?;
    if back == *bundle { Ok(text) } else { Err(unwritable("read back, it is another one".to_owned())) }
}

#[expect(clippy::expect_used, reason = "a constant expression, compiled by a test")]
static UID: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b").expect("a regular expression")
});

struct Renaming<'a> {
    /// Namespace of the Investigation.
    own: &'a str,
    /// What stands for it.
    namespace: &'a str,
    /// Name of the Incident.
    incident: &'a str,
    /// UIDs that came by, with the number of each.
    ids: BTreeMap<String, usize>,
}

impl Renaming<'_> {
    /// The same of the same type, with every text in it renamed and redacted.
    fn apply<T: serde::Serialize + serde::de::DeserializeOwned>(&mut self, of: &T) -> Result<T, NoBundle> {
        let unwritable = |error: serde_json::Error| NoBundle::Unwritable(error.to_string());
        let mut value = serde_json::to_value(of).map_err(unwritable)?;
        self.walk(&mut value, MAX_DEPTH);
        serde_json::from_value(value).map_err(unwritable)
    }

    fn walk(&mut self, value: &mut Value, depth: usize) {
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Array(items) if depth > 0 => items.iter_mut().for_each(|item| self.walk(item, depth - 1)),
            Value::Object(fields) if depth > 0 => fields.values_mut().for_each(|field| self.walk(field, depth - 1)),
            _ => {}
        }
    }

    fn text(&mut self, text: &str) -> String {
        let ids = &mut self.ids;
        let numbered = UID.replace_all(text, |found: &Captures<'_>| {
            let next = ids.len() + 1;
            let number = *ids.entry(found[0].to_owned()).or_insert(next);
            format!("00000000-0000-0000-0000-{number:012}")
        });
        let mut text = redact::text(&numbered, MAX_TEXT);
        for (name, other) in [(self.incident, INCIDENT), (self.own, self.namespace)] {
            if !name.is_empty() && name != other {
                text = renamed(&text, name, other);
            }
        }
        text
    }
}

/// `name` replaced where it stands as a word of its own: a namespace called `a` is no part of `apps/v1`.
fn renamed(text: &str, name: &str, other: &str) -> String {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    let mut out = String::with_capacity(text.len());
    let mut rest = 0;
    for (at, _) in text.match_indices(name) {
        let end = at + name.len();
        if !part(text[..at].chars().next_back()) && !part(text[end..].chars().next()) {
            out.push_str(&text[rest..at]);
            out.push_str(other);
            rest = end;
        }
    }
    out.push_str(&text[rest..]);
    out
}

#[cfg(test)]
#[path = "bundle_tests.rs"]
mod tests;
