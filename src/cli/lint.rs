//! `backstop lint FILE…`: whether Policies, PolicyExceptions, Runbooks and ModelChains would be in force, without a cluster. What is wrong is
//! printed with file, line and column, and the exit code is 1.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    api::v1alpha1::{GROUP, ModelChain, Policy, PolicyException, Runbook},
    core::{
        cel::Place,
        chain::validate::{self, Checked},
        policy::{self, Finding},
    },
};

mod places;

use places::{Document, Position};

/// Arguments of `backstop lint`.
#[derive(clap::Args)]
pub struct Args {
    /// Files of YAML or JSON, with one or more objects each; a folder is looked through for *.yaml, *.yml and *.json.
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

/// Something wrong with an object.
struct Fault {
    position: Position,
    message: String,
}

/// What was found in some text.
#[derive(Default)]
struct Report {
    /// Objects of Backstop that were checked.
    checked: usize,
    /// Of them, those with a fault; and texts that are no objects at all.
    failed: usize,
    lines: Vec<String>,
}

/// Checks the files.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let mut total = Report::default();
    for path in all(&args.files)? {
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let Report { checked, failed, lines } = check(&text, &path.display().to_string());
        total.checked += checked;
        total.failed += failed;
        lines.iter().for_each(|line| println!("{line}"));
    }
    println!("lint: {} checked, {} failed", total.checked, total.failed);
    if total.failed > 0 {
        bail!("what fails denies every action that it applies to, or is not used; see the lines above");
    }
    if total.checked == 0 {
        bail!("there is no Policy, Runbook or ModelChain of {GROUP} in these files");
    }
    Ok(())
}

/// The files, and those in the folders among them, sorted.
pub(super) fn all(paths: &[PathBuf]) -> anyhow::Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut folders = Vec::new();
    for path in paths {
        if path.is_dir() {
            folders.push(path.clone());
        } else {
            found.insert(path.clone());
        }
    }
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let path = entry.with_context(|| format!("cannot list {}", folder.display()))?.path();
            let is_object = |end: &std::ffi::OsStr| ["yaml", "yml", "json"].iter().any(|known| end == *known);
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(is_object) {
                found.insert(path);
            }
        }
    }
    Ok(found)
}

/// Checks every object in `text`, which comes from `file`.
fn check(text: &str, file: &str) -> Report {
    let mut report = Report::default();
    let wrong = |report: &mut Report, position: Position, what: &str| {
        report.failed += 1;
        report.lines.push(format!("{file}:{position}: {what}"));
    };
    let (values, documents) = match (serde_saphyr::from_multiple::<Value>(text), places::documents(text)) {
        (Ok(values), Ok(documents)) if values.len() == documents.len() => (values, documents),
        (Ok(_), Ok(_)) => {
            wrong(&mut report, Position::START, "its documents cannot be told apart");
            return report;
        }
        (Err(error), _) => {
            let at = error.location();
            let position = at.map_or(Position::START, |at| Position::of(at.line(), at.column()));
            wrong(&mut report, position, &format!("not YAML: {error}"));
            return report;
        }
        (_, Err(error)) => {
            wrong(&mut report, Position::START, &format!("not YAML: {error}"));
            return report;
        }
    };
    for (value, document) in values.iter().zip(&documents) {
        let text = |path: &str| value.pointer(path).and_then(Value::as_str).unwrap_or_default();
        if !text("/apiVersion").starts_with(&format!("{GROUP}/")) {
            continue;
        }
        let faults = match text("/kind") {
            "Policy" => object::<Policy>(value, document, policy::findings),
            "PolicyException" => object::<PolicyException>(value, document, policy::exception_findings),
            "Runbook" => object::<Runbook>(value, document, policy::runbook_findings),
            "ModelChain" => {
                object::<ModelChain>(value, document, |_| vec![]).into_iter().chain(chain(value, document)).collect()
            }
            _ => continue,
        };
        report.checked += 1;
        report.failed += usize::from(!faults.is_empty());
        let name = match (text("/metadata/namespace"), text("/metadata/name")) {
            ("", name) => name.to_owned(),
            (namespace, name) => format!("{namespace}/{name}"),
        };
        for Fault { position, message } in faults {
            report.lines.push(format!("{file}:{position}: {} {name}: {message}", text("/kind")));
        }
    }
    report
}

/// What is wrong with an object of a known kind.
fn object<K>(value: &Value, document: &Document<'_>, findings: impl Fn(&K) -> Vec<Finding>) -> Vec<Fault>
where
    K: DeserializeOwned + Serialize,
{
    let object: K = match serde_json::from_value(value.clone()) {
        Ok(object) => object,
        Err(error) => return vec![Fault { position: document.position(""), message: error.to_string() }],
    };
    let understood = serde_json::to_value(&object).unwrap_or_default();
    let mut faults = Vec::new();
    unknown(&value["spec"], &understood["spec"], "spec", document, &mut faults);
    for Finding { field, place, message, reason: _ } in findings(&object) {
        let path = format!("spec.{field}");
        let position = place.map_or_else(|| document.position(&path), |place| document.inside(&path, place));
        let inside = match place {
            Some(Place { line, column }) if line > 1 => format!(" (line {line}, column {column} of the expression)"),
            _ => String::new(),
        };
        faults.push(Fault { position, message: format!("{path}{inside}: {message}") });
    }
    faults
}

/// What is wrong with a chain of models.
fn chain(value: &Value, document: &Document<'_>) -> Vec<Fault> {
    let Ok(chain) = serde_json::from_value::<ModelChain>(value.clone()) else { return vec![] };
    match validate::of(&chain) {
        Ok(Checked { .. }) => vec![],
        Err(findings) => {
            let position = document.position("spec");
            findings.iter().map(|found| Fault { position, message: found.to_string() }).collect()
        }
    }
}

/// Fields that the API server would drop without a word, so that they would do nothing.
fn unknown(written: &Value, understood: &Value, path: &str, document: &Document<'_>, faults: &mut Vec<Fault>) {
    match (written, understood) {
        (Value::Object(written), Value::Object(understood)) => {
            for (key, value) in written {
                let path = format!("{path}.{key}");
                // What is the default may be left out when it is written again.
                let empty = match value {
                    Value::Array(items) => items.is_empty(),
                    Value::Object(fields) => fields.is_empty(),
                    Value::String(text) => text.is_empty() || text == "Fail",
                    Value::Null | Value::Bool(_) | Value::Number(_) => value.is_null(),
                };
                match understood.get(key) {
                    Some(other) => unknown(value, other, &path, document, faults),
                    None if empty => {}
                    None => {
                        faults.push(Fault {
                            position: document.key(&path),
                            message: format!("{path}: there is no such field"),
                        });
                    }
                }
            }
        }
        (Value::Array(written), Value::Array(understood)) => {
            for (index, (written, understood)) in written.iter().zip(understood).enumerate() {
                unknown(written, understood, &format!("{path}[{index}]"), document, faults);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn lines(text: &str) -> Vec<String> {
        check(text, "a.yaml").lines
    }

    const FINE: &str = "apiVersion: backstop.dev/v1alpha1
kind: Policy
metadata: {name: p, namespace: shop}
spec:
  mode: auto
  validations:
    - expression: target.replicas < 9
";

    #[test]
    fn what_is_in_force_is_no_finding_and_what_is_not_ours_is_not_looked_at() {
        let others = "---\napiVersion: v1\nkind: ConfigMap\ndata: {a: b}\n---\n";
        let report = check(&format!("{FINE}{others}{FINE}"), "a.yaml");
        assert_eq!((report.checked, report.failed, report.lines.len()), (2, 0, 0), "{:?}", report.lines);
    }

    /// Each with the line and the column of the file at which the word `WRONG` stands.
    #[test]
    fn an_error_is_told_where_it_is_in_the_file_however_the_text_is_written() {
        for written in [
            "WRONG < 9",
            "'WRONG < 9'",
            "\"WRONG < 9\"",
            "'target.kind == ''a'' && WRONG < 9'",
            "\"target.kind == \\\"a\\\" && WRONG < 9\"",
            "|\n        target.kind == 'a' &&\n          WRONG < 9",
            "|-\n\n        target.kind == 'a' && 'ä' != '' &&\n        WRONG < 9",
        ] {
            let text = FINE.replace("target.replicas < 9", written);
            let before = text.split("WRONG").next().unwrap();
            let line = before.lines().count();
            let column = before.lines().last().unwrap().chars().count() + 1;
            let found = lines(&text);
            assert_eq!(found.len(), 1, "{written}: {found:?}");
            let said = format!("a.yaml:{line}:{column}: Policy shop/p: spec.validations[0].expression");
            assert!(found[0].starts_with(&said), "{written}: {} but expected {said}", found[0]);
            assert!(found[0].contains("there is no variable `WRONG`"), "{}", found[0]);
        }
    }

    #[test]
    fn text_that_is_folded_is_told_by_its_beginning() {
        let text = FINE.replace("target.replicas < 9", "target.kind == 'a' &&\n        WRONG < 9");
        assert!(lines(&text)[0].starts_with("a.yaml:7:19: "), "{:?}", lines(&text));
    }

    #[test]
    fn each_kind_and_each_mistake_is_found_in_each_document() {
        let runbook =
            "apiVersion: backstop.dev/v1alpha1\nkind: Runbook\nmetadata: {name: r}\nspec:\n  summary: s\n  match: {}\n";
        let text = format!(
            "{}---\n{runbook}  matchConditions: [{{name: a, expression: 'size(facts) >'}}]\n---\n{}",
            FINE.replace("mode: auto", "mode: auto\n  allowedaction: []\n  confidenceFlor: 90"),
            FINE.replace("mode: auto", "mode: sometimes"),
        );
        let found = lines(&text);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(
            found[0].starts_with("a.yaml:7:3: Policy shop/p: spec.confidenceFlor: there is no such field"),
            "{found:?}"
        );
        assert!(found[1].starts_with("a.yaml:17:57: Runbook r: spec.matchConditions[0].expression"), "{found:?}");
        assert!(found[2].contains("unknown variant `sometimes`"), "{found:?}");
        assert_eq!(check(&text, "a.yaml").failed, 3);
    }

    #[test]
    fn what_is_no_yaml_is_told_with_its_place() {
        let report = check("a: [1\nb: 2\n", "a.yaml");
        assert_eq!(report.failed, 1);
        assert!(report.lines[0].starts_with("a.yaml:2:"), "{:?}", report.lines);
    }

    #[test]
    fn the_examples_of_the_documents_are_fine_files() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples");
        for path in all(&[folder]).unwrap() {
            let text = std::fs::read_to_string(&path).unwrap();
            assert_eq!(check(&text, "e").lines, Vec::<String>::new(), "{}", path.display());
        }
    }
}
