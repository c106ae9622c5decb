//! The change that Backstop does not make because a tool owns the object, as people make it: a difference of the manifest
//! and a command.

use serde_json::{Value, json};
use similar::TextDiff;

use crate::api::v1alpha1::{FieldWrite, ManifestChange};

use super::{managers::revert, redact, workload::Workload};

/// Bytes of a difference that a status holds.
const MAX_DIFF: usize = 6144;
/// Lines around a change.
const CONTEXT: usize = 3;
/// Between the lines that are shown and how many there are beside them.
const LEFT_OUT: &str = "more lines";

/// `write` to `workload` as people would make it through the tools that own it.
pub fn change(workload: &Workload, write: &FieldWrite) -> ManifestChange {
    let (namespace, tools) = (workload.object.namespace.as_str(), &workload.state.managed_by);
    let command = |tool: &String| revert::command(tool, namespace, &workload.labels, &workload.annotations);
    ManifestChange { diff: difference(&workload.object.to_string(), write), command: tools.iter().find_map(command) }
}

/// The unified difference of the part of the manifest that the write changes, without secrets.
fn difference(object: &str, write: &FieldWrite) -> String {
    let text = |value: &Value| serde_saphyr::to_string(&redact::value(&nested(&write.path, value))).unwrap_or_default();
    let (now, then) = (text(&write.before), text(&write.after));
    let diff = TextDiff::from_lines(&now, &then);
    let unified = diff.unified_diff().context_radius(CONTEXT).header(&format!("{object}, now"), object).to_string();
    cut(&unified)
}

/// Whole lines only, and how many were left out.
fn cut(text: &str) -> String {
    if text.len() <= MAX_DIFF {
        return text.to_owned();
    }
    let room = text.floor_char_boundary(MAX_DIFF - 64);
    let shown = &text[..text[..room].rfind('\n').map_or(room, |end| end + 1)];
    let left_out = text[shown.len()..].lines().count();
    format!("{shown}… {left_out} {LEFT_OUT}\n")
}

/// `value` at the place in a manifest that a JSON pointer names.
fn nested(pointer: &str, value: &Value) -> Value {
    let key = |part: &str| part.replace("~1", "/").replace("~0", "~");
    pointer.rsplit('/').filter(|part| !part.is_empty()).fold(value.clone(), |inner, part| json!({ (key(part)): inner }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(before: Value, after: Value) -> FieldWrite {
        FieldWrite { path: "/spec/template".into(), before, after }
    }

    #[test]
    fn the_difference_is_that_of_the_manifest() {
        let template = |image: &str| json!({"spec": {"containers": [{"name": "api", "image": image}]}});
        let text = difference("Deployment shop/api", &write(template("api:v2"), template("api:v1")));
        for line in ["--- Deployment shop/api, now", "+++ Deployment shop/api", "spec:", "template:"] {
            assert!(text.contains(line), "{line}: {text}");
        }
        let signed = |sign: char, word: &str| text.lines().any(|line| line.starts_with(sign) && line.contains(word));
        assert!(signed('-', "api:v2") && signed('+', "api:v1"), "{text}");
    }

    #[test]
    fn no_secret_is_in_it() {
        let template = |password: &str, tag: &str| {
            json!({"spec": {"containers": [{
                "name": "api", "image": tag, "env": [{"name": "DB_PASSWORD", "value": password}],
            }]}})
        };
        let text = difference("Deployment shop/api", &write(template("hunter2", "v2"), template("hunter1", "v1")));
        assert!(!text.contains("hunter"), "{text}");
        assert!(text.contains("DB_PASSWORD"), "{text}");
    }

    #[test]
    fn a_long_one_is_cut_at_a_line_and_says_so() {
        let template = |word: &str| json!({"spec": (0..2000).map(|n| format!("{word} {n}")).collect::<Vec<_>>()});
        let text = difference("Deployment shop/api", &write(template("old"), template("new")));
        assert!(text.len() <= MAX_DIFF && text.ends_with(&format!("{LEFT_OUT}\n")), "{}", text.len());
        assert!(text.lines().rev().skip(1).all(|line| line.starts_with(['-', '+', ' ', '@'])));
    }
}
