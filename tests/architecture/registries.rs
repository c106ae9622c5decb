//! Registries against what repeats them: the chart's map of actions and the documents.

use std::{collections::BTreeSet, fs, path::Path};

use backstop::api::v1alpha1::{ActionKind, SourceName};
use backstop::core::{actions, intake, workload};
use backstop::notify::ChannelName;
use regex::Regex;
use serde_json::Value;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Where `told` differs from what exists.
fn differences(of: &str, exists: impl IntoIterator<Item = String>, told: BTreeSet<String>) -> Vec<String> {
    let exists: BTreeSet<String> = exists.into_iter().collect();
    let missing = exists.difference(&told).map(|name| format!("{of} lacks {name}"));
    let stale = told.difference(&exists).map(|name| format!("{of} has {name}, which does not exist"));
    missing.chain(stale).collect()
}

/// How an action of the registry would stand in the chart: kind, label, path, and each target with the kind that
/// records its revisions.
fn described(kind: ActionKind) -> String {
    let definition = actions::of(kind);
    let targets: BTreeSet<String> = definition
        .targets
        .iter()
        .map(|target| {
            // The chart names who records revisions where the API server has to compare with one.
            let revisions = if definition.provenance { target.revision_kind() } else { "nothing" };
            format!("{}/{} by {revisions}", workload::Kind::API_VERSION, target.as_str())
        })
        .collect();
    format!("{kind} as {} at {}: {targets:?}", definition.armed_label, definition.path)
}

/// The same of an entry of the chart's map.
fn charted(entry: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("nothing").to_owned();
    let version = |value: &Value| value.as_str().unwrap_or("apps/v1").to_owned();
    let targets: BTreeSet<String> = entry["targets"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|target| {
            let revisions = &target["revisions"]["kind"];
            format!("{}/{} by {}", version(&target["apiVersion"]), text(&target["kind"]), text(revisions))
        })
        .collect();
    format!("{} as {} at {}: {targets:?}", text(&entry["kind"]), text(&entry["label"]), text(&entry["path"]))
}

/// Where the chart's map of actions differs from the registry.
fn chart_differences(map: &str) -> Vec<String> {
    let map: Value = serde_saphyr::from_str(map).expect("the chart's map of actions is YAML");
    let entries = map.as_array().cloned().unwrap_or_default();
    let of = "helm/backstop/files/actions.yaml";
    let exists = ActionKind::ALL.iter().map(|kind| described(*kind));
    let mut wrong = differences(of, exists, entries.iter().map(charted).collect());
    for entry in &entries {
        let resources: Vec<&Value> =
            entry["targets"].as_array().into_iter().flatten().map(|t| &t["resource"]).collect();
        let evicts = entry["evicts"].as_array().into_iter().flatten();
        for other in evicts.filter(|resource| !resources.contains(resource)) {
            wrong.push(format!("{of}: {} evicts {other}, which is none of its targets", entry["kind"]));
        }
    }
    wrong
}

#[test]
fn the_charts_map_of_actions_is_the_registry_of_actions() {
    let wrong = chart_differences(&read("helm/backstop/files/actions.yaml"));
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn planted_differences_of_the_charts_map_are_found() {
    let entry = |kind: ActionKind| {
        let definition = actions::of(kind);
        let targets: Vec<String> = definition
            .targets
            .iter()
            .map(|target| {
                let (kind, revisions) = (target.as_str(), target.revision_kind());
                let recorded =
                    if definition.provenance { format!(", revisions: {{kind: {revisions}}}") } else { String::new() };
                format!("{{apiVersion: apps/v1, resource: {}s, kind: {kind}{recorded}}}", kind.to_lowercase())
            })
            .collect();
        format!(
            "- {{kind: {kind}, label: {}, path: {}, evicts: [], targets: [{}]}}\n",
            definition.armed_label,
            definition.path,
            targets.join(", ")
        )
    };
    let map: String = ActionKind::ALL.iter().map(|kind| entry(*kind)).collect();
    assert_eq!(chart_differences(&map), Vec::<String>::new());
    for (from, to) in [
        ("kind: RolloutUndo", "kind: RolloutRedo"),
        ("label: rollout-undo", "label: undo"),
        ("path: /spec/template", "path: /spec"),
        ("kind: Deployment", "kind: Job"),
        ("kind: ReplicaSet", "kind: ControllerRevision"),
        ("apiVersion: apps/v1", "apiVersion: example.com/v1"),
        ("evicts: []", "evicts: [nodes]"),
    ] {
        let planted = map.replacen(from, to, 1);
        assert_ne!(planted, map, "{from} is not in the map");
        assert!(!chart_differences(&planted).is_empty(), "not found: {to}");
    }
    assert!(!chart_differences("[]").is_empty(), "an empty map was not found");
}

/// Words in backticks of the first captured group.
fn words(page: &str, row: &str) -> BTreeSet<String> {
    let row = Regex::new(row).expect("a pattern");
    let word = Regex::new(r"`([^`]+)`").expect("a pattern");
    row.captures_iter(page)
        .flat_map(|found| {
            word.captures_iter(found.get(1).map_or("", |text| text.as_str()))
                .map(|word| word[1].to_owned())
                .collect::<Vec<_>>()
        })
        .collect()
}

fn document_differences(runbooks: &str, operations: &str, delivery: &str) -> Vec<String> {
    let sources = SourceName::ALL.iter().map(|name| name.as_str().to_owned());
    let channels = || ChannelName::ALL.iter().map(|name| name.as_str().to_owned());
    let paths = intake::all().map(|format| format.path.to_owned());
    [
        differences("`gather` in docs/runbooks-and-policies.md", sources, words(runbooks, r"(?m)^\| `gather` \|(.*)$")),
        differences(
            "the table of channels in docs/operations.md",
            channels(),
            words(section(operations, "| channel |"), r"(?m)^\| (`\w+`) \|"),
        ),
        differences("`deliveries.channel` in the definition of Incident", channels(), words(delivery, r"(?s)^(.*)$")),
        differences(
            "the table of senders in docs/operations.md",
            paths,
            words(section(operations, "| sender |"), r"(?m)^\| \w+ \| (`[^`]+`) \|"),
        ),
    ]
    .concat()
}

/// A table: from its head to the next empty line.
fn section<'a>(page: &'a str, head: &str) -> &'a str {
    let start = page.find(head).unwrap_or(page.len());
    page[start..].split("\n\n").next().unwrap_or_default()
}

/// What the definition of Incident says of a delivery's channel.
fn delivery() -> String {
    let incident = backstop::api::v1alpha1::definitions().into_iter().find(|crd| crd.spec.names.kind == "Incident");
    let incident = serde_json::to_value(incident).expect("a definition is JSON");
    let schema = &incident["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let delivery = &schema["properties"]["status"]["properties"]["escalation"]["properties"]["deliveries"];
    delivery["items"]["properties"]["channel"]["description"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn the_documents_list_every_source_channel_and_format() {
    let (runbooks, operations) = (read("docs/runbooks-and-policies.md"), read("docs/operations.md"));
    let wrong = document_differences(&runbooks, &operations, &delivery());
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    for (from, to) in [
        ("`Logs`", "`Traces`"),
        ("| `webhook` |", "| `pager` |"),
        ("`/v1/intake/alertmanager`", "`/v1/intake/grafana`"),
    ] {
        let planted = |page: &str| page.replace(from, to);
        let found = document_differences(&planted(&runbooks), &planted(&operations), &delivery());
        assert!(!found.is_empty(), "not found: {to}");
    }
    assert!(!document_differences(&runbooks, &operations, "`event`").is_empty(), "a missing channel was not found");
}

#[test]
fn every_path_of_the_intake_that_is_written_down_exists() {
    let path = Regex::new(r"/v1/intake/\w+").expect("a pattern");
    let paths: BTreeSet<&str> = intake::all().map(|format| format.path).collect();
    let mut seen = 0;
    for file in [
        "README.md",
        "docs/operations.md",
        "docs/install.md",
        "docs/examples/alertmanager.yaml",
        "helm/backstop/README.md",
        "helm/backstop/templates/NOTES.txt",
    ] {
        for found in path.find_iter(&read(file)) {
            assert!(paths.contains(found.as_str()), "{file} names {}, which is no format's path", found.as_str());
            seen += 1;
        }
    }
    assert!(seen > 0, "no path is written down anywhere");
}

#[test]
fn every_file_that_the_architecture_names_exists() {
    let page = read("docs/architecture.md");
    let name = Regex::new(r"\b(?:src|tests|helm|crds|docs)/[\w./-]*\w").expect("a pattern");
    let names: BTreeSet<&str> = name.find_iter(&page).map(|found| found.as_str()).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let missing: Vec<&&str> = names.iter().filter(|name| !root.join(name).exists()).collect();
    assert!(missing.is_empty(), "docs/architecture.md names what does not exist: {missing:?}");
    assert!(names.len() > 20, "only {} files were found", names.len());
}
