//! The words: the glossary names what exists, whoever is called has one name, and each alerting rule is explained.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use backstop::api::v1alpha1::definitions;
use backstop::core::reason::Reason;
use regex::Regex;
use serde_json::Value;

use super::{documents, files, read, root, runbooks, sources};

/// The schema of each kind.
fn schemas() -> BTreeMap<String, Value> {
    let all = definitions().into_iter().map(|definition| serde_json::to_value(definition).unwrap());
    let named = all.map(|it| {
        let kind = it["spec"]["names"]["kind"].as_str().unwrap().to_owned();
        (kind, it["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone())
    });
    named.collect()
}

/// Whether a kind has the field at `path`; lists are looked through.
fn has(schema: &Value, path: &str) -> bool {
    let next = |schema: &Value, key: &str| schema.get("items").unwrap_or(schema).get("properties")?.get(key).cloned();
    path.split('.').try_fold(schema.clone(), |schema, key| next(&schema, key)).is_some()
}

/// What a page names that does not exist, and the kinds of which it names a field.
fn unknown(page: &str) -> (Vec<String>, BTreeSet<String>) {
    let (schemas, code) = (schemas(), sources(&["src"], "rs"));
    let (mut wrong, mut kinds) = (Vec::new(), BTreeSet::new());
    let field = Regex::new(r"`([A-Z][A-Za-z]+)\.((?:spec|status)(?:\.[A-Za-z]+)+)`").unwrap();
    for found in field.captures_iter(page) {
        kinds.insert(found[1].to_owned());
        if !schemas.get(&found[1]).is_some_and(|schema| has(schema, &found[2])) {
            wrong.push(found[0].to_owned());
        }
    }
    for found in Regex::new(r"backstop_[a-z_]+").unwrap().find_iter(page) {
        let name = found.as_str().trim_end_matches("_total");
        // The text format adds the unit.
        let registered = [name, name.trim_end_matches("_seconds")].iter().any(|it| code.contains(&format!("\"{it}\"")));
        if !registered {
            wrong.push(found.as_str().to_owned());
        }
    }
    let labels = Regex::new(r"backstop\.dev/[a-z-]+").unwrap();
    wrong.extend(labels.find_iter(page).map(|it| it.as_str().to_owned()).filter(|label| !code.contains(label)));
    let reason = Regex::new("reason `([A-Za-z]+)`").unwrap();
    let reasons = reason.captures_iter(page).map(|found| found[1].to_owned());
    wrong.extend(reasons.filter(|name| Reason::named(name).is_none()));
    (wrong, kinds)
}

#[test]
fn the_glossary_names_what_exists_and_a_field_of_each_kind() {
    let (wrong, kinds) = unknown(&read(&root().join("docs/glossary.md")));
    assert!(wrong.is_empty(), "docs/glossary.md names what does not exist: {wrong:?}");
    assert_eq!(kinds, schemas().into_keys().collect());
}

#[test]
fn what_does_not_exist_is_found_in_a_glossary() {
    let page = "`Alert.spec.fingerprint` `Alert.spec.finger` `Grant.status.open` `backstop_grants_opened_total` \
                `backstop_grants_total` backstop.dev/armed backstop.dev/harmed reason `Storm` reason `Rain`";
    let (wrong, kinds) = unknown(page);
    let expected =
        ["`Alert.spec.finger`", "`Grant.status.open`", "backstop_grants_total", "backstop.dev/harmed", "Rain"];
    assert_eq!(wrong, expected);
    assert_eq!(kinds, BTreeSet::from(["Alert", "Grant"].map(String::from)));
}

/// Places in `text` that call the on-call by another word.
fn other_names(text: &str) -> Vec<String> {
    let words = Regex::new(
        r"(?ix) \b humans? \b
        | \b (?: a\ person | people | somebody )\ (?: is | are )\ (?: called | told | paged )
        | \b (?: calls? | tells? | pages? | needs? )\ (?: a\ person | people | somebody ) \b
        | \b (?: over | goes )\ to\ a\ person \b
        | \b a\ person\ (?: decides | has\ to\ (?: look | decide | take\ over ) )",
    )
    .unwrap();
    let text = text.split(|c: char| c.is_whitespace() || c == '#').filter(|word| !word.is_empty());
    let text = text.collect::<Vec<_>>().join(" ");
    // A format of logs, and what Kubernetes says of a condition's message.
    let text = text.replace("json or human", "").replace("a human readable message", "");
    words.find_iter(&text).map(|found| found.as_str().to_owned()).collect()
}

#[test]
fn whoever_is_called_is_the_on_call_and_has_no_other_name() {
    let mut paths: Vec<PathBuf> = documents();
    // What was is told in the words of then.
    paths.retain(|path| !path.ends_with("CHANGELOG.md"));
    paths.extend(["helm/backstop/values.yaml", "helm/backstop/templates/NOTES.txt"].map(|path| root().join(path)));
    paths.extend(files("crds", "yaml").into_iter().chain(files("docs/examples", "yaml")));
    paths.extend(runbooks().iter().map(|folder| folder.join("runbook.yaml")));
    for path in &paths {
        let found = other_names(&read(path));
        assert!(found.is_empty(), "{}: {found:?}; see docs/glossary.md", path.display());
    }
    assert!(paths.len() > 30, "only {} texts were looked at", paths.len());
    assert_eq!(other_names("it calls\n  # a human, and people are told").len(), 2);
    assert!(other_names("a person approves; the on-call is called; log format: json or human").is_empty());
}

#[test]
fn every_alerting_rule_is_in_the_table_of_first_commands() {
    let rule = Regex::new(r"(?m)^ +- alert: (\w+)$").unwrap();
    let row = Regex::new(r"(?m)^\| `(Backstop\w+)` \| [^|]+ \| `.+ \|$").unwrap();
    let names = |pattern: &Regex, text: &str| -> Vec<String> {
        pattern.captures_iter(text).map(|found| found[1].to_owned()).collect()
    };
    let rules = names(&rule, &read(&root().join("docs/examples/prometheus-rules.yaml")));
    assert_eq!(names(&row, &read(&root().join("docs/operations.md"))), rules);
    assert!(rules.len() >= 10, "{rules:?}");
}
