//! The documents are held to the code: examples compile, every reason is explained, every link leads somewhere.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use backstop::api::v1alpha1::{Alert, Approval, Policy, Runbook};
use backstop::core::{gate, policy::CompiledPolicy, reason::Reason};
use regex::Regex;
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(folder)).expect(folder);
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|end| end == extension));
    found.sort();
    found
}

fn documents() -> Vec<PathBuf> {
    let mut all = files("docs", "md");
    all.extend(["README.md", "CHANGELOG.md"].map(|name| root().join(name)));
    all
}

/// Words in backticks that begin a row of a table.
fn explained(page: &str) -> BTreeSet<String> {
    let row = Regex::new(r"(?m)^\| `([A-Za-z]+)` \| ").unwrap();
    row.captures_iter(page).map(|found| found[1].to_string()).collect()
}

#[test]
fn every_reason_is_explained_once_and_none_that_does_not_exist() {
    let page = read(&root().join("docs/reasons.md"));
    let exist: BTreeSet<String> = Reason::ALL.iter().map(|word| word.to_string()).collect();
    let explained = explained(&page);
    let missing: Vec<_> = exist.difference(&explained).collect();
    let stale: Vec<_> = explained.difference(&exist).collect();
    assert!(missing.is_empty() && stale.is_empty(), "docs/reasons.md lacks {missing:?} and has {stale:?} too many");
}

/// The page of all checks, as the registry tells it.
fn checks_page() -> String {
    let mut page = String::from(
        "# Checks\n\nEvery check that comes before a write, chain by chain, in the order in which they are asked. All are \
         asked, and all\nverdicts stay on the Incident, in `status.decision.checks`; the first refusal gives the decision \
         its [reason](reasons.md).\nOnly what the first three leave unreadable stays unasked.\n\nThis page is generated from \
         the code: `CHECKS_PAGE=write cargo test --test docs`.\n",
    );
    for gate::chains::Chain { name, says, checks, .. } in gate::chains::all() {
        page.push_str(&format!(
            "\n## {name}\n\n{says} {} checks.\n\n| Check | What it asks, and why |\n|---|---|\n",
            checks.len()
        ));
        for (check, sentence) in checks {
            page.push_str(&format!("| `{check}` | {sentence} |\n"));
        }
    }
    page
}

#[test]
fn every_check_is_listed_with_its_sentence() {
    let path = root().join("docs/checks.md");
    let page = checks_page();
    if std::env::var_os("CHECKS_PAGE").is_some() {
        fs::write(&path, &page).unwrap();
    }
    assert_eq!(
        read(&path),
        page,
        "docs/checks.md is not what the registry says: CHECKS_PAGE=write cargo test --test docs"
    );
}

#[test]
fn the_number_of_checks_that_the_documents_tell_is_right() {
    let count = gate::check_names().len();
    let told = Regex::new(r"(\d+) (?:named |of \d+ )?checks\b").unwrap();
    for page in ["README.md", "docs/architecture.md"] {
        let text = read(&root().join(page));
        assert!(text.contains(&format!("{count} named checks")), "{page} does not say \"{count} named checks\"");
        for found in told.captures_iter(&text) {
            assert_eq!(found[1], count.to_string(), "{page}: {:?}", &found[0]);
        }
    }
}

#[test]
fn the_examples_are_accepted_as_they_are() {
    let mut kinds = BTreeSet::new();
    for path in files("docs/examples", "yaml") {
        let name = path.display().to_string();
        let text = read(&path);
        let value: Value = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let Some(kind) = value["kind"].as_str() else {
            assert!(value["receivers"].is_array(), "{name}: neither an object nor a configuration of Alertmanager");
            continue;
        };
        assert_eq!(value["apiVersion"], "backstop.dev/v1alpha1", "{name}");
        kinds.insert(kind.to_string());
        let fields = match kind {
            "Policy" => {
                let policy: Policy = parse(&value, &name);
                assert_eq!(CompiledPolicy::of(&policy).error(), None, "{name}");
                serde_json::to_value(policy.spec)
            }
            "Runbook" => serde_json::to_value(parse::<Runbook>(&value, &name).spec),
            "Approval" => serde_json::to_value(parse::<Approval>(&value, &name).spec),
            "Alert" => serde_json::to_value(parse::<Alert>(&value, &name).spec),
            other => panic!("{name}: no test knows the kind {other}"),
        }
        .unwrap();
        assert_known(&value["spec"], &fields, &name);
    }
    let expected = ["Alert", "Approval", "Policy", "Runbook"].map(String::from);
    assert_eq!(kinds, BTreeSet::from(expected));
}

fn parse<K: serde::de::DeserializeOwned>(value: &Value, name: &str) -> K {
    serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The API server prunes fields that it does not know, so a misspelt one in an example would do nothing.
fn assert_known(written: &Value, understood: &Value, at: &str) {
    match (written, understood) {
        (Value::Object(written), Value::Object(understood)) => {
            for (key, value) in written {
                let empty =
                    value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(|o| o.is_empty());
                match understood.get(key) {
                    Some(other) => assert_known(value, other, &format!("{at}: {key}")),
                    None => assert!(empty, "{at}: field {key} is not known"),
                }
            }
        }
        (Value::Array(written), Value::Array(understood)) => {
            assert_eq!(written.len(), understood.len(), "{at}");
            written.iter().zip(understood).for_each(|(a, b)| assert_known(a, b, at));
        }
        _ => {}
    }
}

#[test]
fn every_link_in_the_documents_leads_to_a_file() {
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let mut checked = 0;
    for path in documents() {
        let text = read(&path);
        for found in link.captures_iter(&text) {
            let target = found[1].split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let file = path.parent().unwrap().join(target);
            assert!(file.exists(), "{}: link to {target}, which does not exist", path.display());
            checked += 1;
        }
    }
    assert!(checked > 20, "only {checked} links were found");
}

#[test]
fn every_make_target_that_the_documents_name_exists() {
    let mut rules = read(&root().join("Makefile"));
    files("make", "mk").iter().for_each(|path| rules.push_str(&read(path)));
    let command = Regex::new(r"(?m)(?:`|^    )make ([a-z][a-z-]*)").unwrap();
    for path in documents() {
        for found in command.captures_iter(&read(&path)) {
            let target = &found[1];
            let rule = Regex::new(&format!(r"(?m)^(?:[a-z. -]* )?{target}(?: [a-z -]*)?:")).unwrap();
            assert!(rule.is_match(&rules), "{}: `make {target}` does not exist", path.display());
        }
    }
}
