//! Labels and annotations: untrusted text, brought into the bounds of an Alert.

use std::collections::BTreeMap;

use serde_json::Value;

use super::sender::is_unsafe;

/// Labels, and annotations, kept of one alert.
pub const MAX_ENTRIES: usize = 64;
/// Characters kept of a key; an entry with a longer key is dropped.
pub const MAX_KEY: usize = 128;
/// Characters kept of a value, the mark of the cut included.
pub const MAX_VALUE: usize = 1024;
/// Bytes kept of all labels of one alert, keys included. Labels stay in the controller's memory.
pub const LABEL_BYTES: usize = 16 << 10;
/// Bytes kept of all annotations of one alert, keys included.
pub const ANNOTATION_BYTES: usize = 32 << 10;
/// Bytes kept of a label that names an object or routes an alert; the longest name has 253.
const WANTED_BYTES: usize = 320;
/// Ends a value that was cut.
const CUT: &str = "\u{FFFD}[cut]";

/// Labels that name an object or route an alert. They, and what a scrape renames to `exported_*`, are kept before all
/// others when there are too many.
pub(super) const WANTED: [&str; 23] = [
    "alertname",
    "cluster",
    "severity",
    "namespace",
    "container",
    "created_by_kind",
    "created_by_name",
    "cronjob",
    "daemonset",
    "deployment",
    "horizontalpodautoscaler",
    "instance",
    "job",
    "job_name",
    "node",
    "owner_kind",
    "owner_name",
    "persistentvolumeclaim",
    "pod",
    "replicaset",
    "statefulset",
    "workload",
    "workload_type",
];

/// How values are kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// As they are, or marked: programs read them.
    Labels,
    /// For people: line breaks and tabs stay, other control characters go.
    Annotations,
}

impl Keep {
    fn bytes(self) -> usize {
        match self {
            Keep::Labels => LABEL_BYTES,
            Keep::Annotations => ANNOTATION_BYTES,
        }
    }
}

/// What is kept of an object of strings.
#[derive(Debug, Default)]
pub(super) struct Texts {
    pub kept: BTreeMap<String, String>,
    /// Entries that were dropped, and values that were altered.
    pub altered: usize,
    /// The first entry that is no string: its key, and what is there.
    pub wrong: Option<(String, Value)>,
}

/// Brings the entries into the bounds. A value that is no string is kept as marked text, which is no valid name.
pub(super) fn bounded(fields: &serde_json::Map<String, Value>, keep: Keep) -> Texts {
    let wanted = |key: &str| WANTED.contains(&key.strip_prefix("exported_").unwrap_or(key));
    let mut entries: Vec<_> = fields.iter().collect();
    entries.sort_by_key(|(key, _)| (!wanted(key), *key));
    let mut texts = Texts::default();
    let mut left = keep.bytes();
    for (key, value) in entries {
        let mut clean = match value {
            Value::String(text) => clean(text, keep),
            other => {
                texts.wrong.get_or_insert_with(|| (key.clone(), other.clone()));
                clean(&format!("\u{FFFD}{}", short(other)), keep)
            }
        };
        let usable = !key.is_empty() && key.chars().count() <= MAX_KEY && !key.chars().any(is_unsafe);
        if !usable || texts.kept.len() == MAX_ENTRIES {
            texts.altered += 1;
            continue;
        }
        // A label that names an object is cut and never dropped: what is left might name another one.
        if wanted(key) && keep == Keep::Labels {
            shorten(&mut clean, WANTED_BYTES);
        } else if key.len() + clean.len() > left {
            texts.altered += 1;
            continue;
        }
        left = left.saturating_sub(key.len() + clean.len());
        texts.altered += usize::from(value.as_str() != Some(&clean));
        texts.kept.insert(key.clone(), clean);
    }
    texts
}

/// What stands for a value that is no string.
fn short(value: &Value) -> String {
    match value {
        Value::Array(_) | Value::Object(_) => String::new(),
        other => other.to_string().chars().take(64).collect(),
    }
}

fn clean(text: &str, keep: Keep) -> String {
    let clean = text.chars().filter_map(|c| match (is_unsafe(c), keep) {
        (false, _) => Some(c),
        (true, Keep::Annotations) if matches!(c, '\n' | '\t') => Some(c),
        (true, Keep::Annotations) => None,
        (true, Keep::Labels) => Some('\u{FFFD}'),
    });
    let mut kept: String = clean.take(MAX_VALUE + 1).collect();
    if let Some((end, _)) = kept.char_indices().nth(MAX_VALUE) {
        let room = kept[..end].char_indices().nth(MAX_VALUE - CUT.chars().count()).map_or(end, |(at, _)| at);
        kept.truncate(room);
        kept.push_str(CUT);
    }
    kept
}

/// Cuts a text to so many bytes, the mark of the cut included.
fn shorten(text: &mut String, bytes: usize) {
    if text.len() > bytes {
        text.truncate(text.floor_char_boundary(bytes - CUT.len()));
        text.push_str(CUT);
    }
}
