//! The documents are held to the code: examples compile, every reason is explained, every link leads somewhere.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use backstop::api::v1alpha1::ActionKind;
use backstop::api::v1alpha1::{Alert, Approval, ModelChain, Policy, PolicyException, Runbook};
use backstop::core::managers::{Field, MANAGED_BY, MANAGERS, Manager, Mark, PRIMARY, Way};
use backstop::core::{
    actions,
    chain::validate,
    gate,
    policy::{CompiledPolicy, exception_findings, runbook_findings},
    reason::Reason,
};
use regex::Regex;
use serde_json::Value;

#[path = "docs/words.rs"]
mod words;

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
    all.extend(["README.md", "CHANGELOG.md", "helm/backstop/README.md"].map(|name| root().join(name)));
    all.extend(runbooks().iter().map(|folder| folder.join("README.md")));
    all
}

/// The folders of runbooks/, each with a Runbook and a page about it.
fn runbooks() -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join("runbooks")).expect("runbooks");
    entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect()
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
    for gate::chains::Chain { name, action, says, checks } in gate::chains::all() {
        // A chain that is named after its action says so; several of one name are told apart by it.
        let of = action.map(|kind| kind.as_str()).filter(|kind| *kind != name);
        let name = of.map_or(name.to_owned(), |kind| format!("{name} by {kind}"));
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
fn every_chain_has_a_heading_of_its_own() {
    let page = checks_page();
    let headings: Vec<&str> = page.lines().filter(|line| line.starts_with("## ")).collect();
    let distinct: BTreeSet<&str> = headings.iter().copied().collect();
    assert!(headings.len() > 5 && distinct.len() == headings.len(), "{headings:?}");
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

/// The page of who else writes a workload, as the table tells it.
fn managers_page() -> String {
    let mark = |mark: &Mark| match *mark {
        Mark::Key(name) if name.ends_with(['/', '.']) => format!("label or annotation `{name}…`"),
        Mark::Key(name) => format!("label or annotation `{name}`"),
        Mark::Value(name, value) => format!("label or annotation `{name}: {value}`"),
        Mark::ManagedBy(name) => format!("`{MANAGED_BY}: {name}`"),
        Mark::Writer(name) => format!("field manager `{name}`"),
        Mark::Scaler(name) => format!("field manager `{name}` of `scale`"),
        Mark::Owner(group) => format!("owner of group `{group}`"),
        Mark::PrimaryOwner(group) => format!("owner of group `{group}` on the workload `NAME{PRIMARY}`"),
        Mark::PrimaryKey(name) => format!("label or annotation `{name}…` on the workload `NAME{PRIMARY}`"),
        Mark::RivalOwner(group) => {
            format!("a revision that the selector chooses and an object of group `{group}` controls")
        }
        Mark::PodAnnotation(name) => format!("annotation `{name}` of a pod"),
    };
    let field = |field: &Field| match field {
        Field::Template => "pod template",
        Field::Images => "images",
        Field::ConfigurationHash => "a hash of configuration",
        Field::Replicas => "replicas",
        Field::Resources => "requests and limits",
    };
    let undo = |manager: &Manager| match (manager.reverts(actions::of(ActionKind::RolloutUndo).writes), manager.way) {
        (false, _) => "allowed",
        (true, Way::Git) => "`ManagedByGitOps`",
        (true, Way::Helm) => "`ManagedByHelm`",
        (true, Way::Tool) => "`ManagedByTool`",
    };
    let mut page = String::from(
        "# Who else writes a workload\n\nA write that somebody would take back is not made. An object with **any owner \
         reference**, controlling or not, is left alone\n(`OwnedByController`). Tools that leave no owner reference are \
         recognised by the traces below, any one of which is enough. A\ntool that is not in the table and names itself \
         in the label `app.kubernetes.io/managed-by` counts as one that writes\neverything. Whatever leaves no trace is \
         not seen: protect such a workload with the annotation `backstop.dev/protected: \"true\"`,\nas \
         [install.md](install.md#what-to-protect) says.\n\nThis page is generated from the code: \
         `MANAGERS_PAGE=write cargo test --test docs`.\n\n| Manager | As facts list it | Recognised by | Writes | \
         `RolloutUndo` | To know |\n|---|---|---|---|---|---|\n",
    );
    for manager in MANAGERS {
        let join = |words: Vec<String>| if words.is_empty() { "nothing".to_owned() } else { words.join(", ") };
        page.push_str(&format!(
            "| {} | `{}` | {} | {} | {} | {} |\n",
            manager.title,
            manager.name,
            join(manager.marks.iter().map(mark).collect()),
            join(manager.writes.iter().map(|it| field(it).to_owned()).collect()),
            undo(manager),
            manager.note,
        ));
    }
    page
}

#[test]
fn every_manager_is_listed_with_how_it_is_recognised() {
    let path = root().join("docs/managers.md");
    let page = managers_page();
    if std::env::var_os("MANAGERS_PAGE").is_some() {
        fs::write(&path, &page).unwrap();
    }
    assert_eq!(
        fs::read_to_string(&path).unwrap_or_default(),
        page,
        "docs/managers.md is not what the table says: MANAGERS_PAGE=write cargo test --test docs"
    );
}

#[test]
fn the_number_of_checks_that_the_documents_tell_is_right() {
    let count = gate::check_names().len();
    let told = Regex::new(r"(\d+) (?:named |of \d+ )?checks\b").unwrap();
    for page in ["README.md", "docs/architecture.md"] {
        let text = read(&root().join(page));
        assert!(text.contains(&format!("{count} named checks")), "{page} does not say \"{count} named checks\"");
        // All of them, or those of one action's chain, of which a transcript tells.
        let chains = ActionKind::ALL.iter().map(|kind| gate::chains::repair(*kind).checks.len());
        let counts: Vec<String> = chains.chain([count]).map(|count| count.to_string()).collect();
        for found in told.captures_iter(&text) {
            assert!(counts.contains(&found[1].to_owned()), "{page}: {:?}", &found[0]);
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
            let known = ["receivers", "groups"].iter().any(|key| value[key].is_array());
            assert!(known, "{name}: neither an object, nor a configuration of Alertmanager, nor rules of Prometheus");
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
            "Runbook" => {
                let runbook: Runbook = parse(&value, &name);
                assert_eq!(runbook_findings(&runbook), [], "{name}");
                serde_json::to_value(runbook.spec)
            }
            "PolicyException" => {
                let exception: PolicyException = parse(&value, &name);
                assert_eq!(exception_findings(&exception), [], "{name}");
                serde_json::to_value(exception.spec)
            }
            "Approval" => serde_json::to_value(parse::<Approval>(&value, &name).spec),
            "Alert" => serde_json::to_value(parse::<Alert>(&value, &name).spec),
            "ModelChain" => {
                let chain: ModelChain = parse(&value, &name);
                let checked = validate::of(&chain).unwrap_or_else(|findings| panic!("{name}: {findings:?}"));
                assert_eq!(checked.warnings, [], "{name}");
                serde_json::to_value(chain.spec)
            }
            other => panic!("{name}: no test knows the kind {other}"),
        }
        .unwrap();
        assert_known(&value["spec"], &fields, &name);
    }
    let expected = ["Alert", "Approval", "ModelChain", "Policy", "PolicyException", "Runbook"].map(String::from);
    assert_eq!(kinds, BTreeSet::from(expected));
}

#[test]
fn each_runbook_is_accepted_as_it_is_and_named_after_its_folder() {
    let folders = runbooks();
    assert!(!folders.is_empty());
    for folder in folders {
        let name = folder.file_name().unwrap().to_str().unwrap();
        let value: Value = serde_saphyr::from_str(&read(&folder.join("runbook.yaml"))).unwrap();
        let runbook: Runbook = parse(&value, name);
        assert_eq!(runbook.metadata.name.as_deref(), Some(name));
        assert_known(&value["spec"], &serde_json::to_value(&runbook.spec).unwrap(), name);
        let docs = &runbook.spec.docs;
        for text in [&docs.meaning, &docs.impact, &docs.diagnosis, &docs.mitigation] {
            assert!(!text.is_empty() && text.len() <= 4096, "{name}: a person who is called needs all four texts");
        }
        assert!(read(&folder.join("README.md")).contains(&format!("runbooks/{name}/runbook.yaml")), "{name}");
    }
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

/// Every file below `folder` that ends with `extension`.
fn below(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("node_modules") {
            below(&path, extension, found);
        } else if path.extension().is_some_and(|end| end == extension) {
            found.push(path);
        }
    }
}

fn sources(folders: &[&str], extension: &str) -> String {
    let mut found = Vec::new();
    folders.iter().for_each(|folder| below(&root().join(folder), extension, &mut found));
    found.iter().map(|path| read(path)).collect()
}

/// Names of tests: functions in Rust and Go, and rows of the admission table.
fn tests() -> BTreeSet<String> {
    let rust = Regex::new(r"\bfn ([a-z_0-9]+)\(").unwrap();
    let go = Regex::new(r#"(?m)^func (Test\w+)\(|name: +"([^"]+)"|return row\{name: "([^"]+)" \+ name|\bon\(\w+, "([^"]+)"|\bstolen\("([^"]+)""#)
        .unwrap();
    let mut names = BTreeSet::new();
    names.extend(rust.captures_iter(&sources(&["src", "tests"], "rs")).map(|found| found[1].to_owned()));
    for found in go.captures_iter(&sources(&["tests/admission", "tests/chart"], "go")) {
        names.extend(found.iter().skip(1).flatten().map(|name| name.as_str().to_owned()));
    }
    names
}

#[test]
fn every_row_of_the_threat_table_names_tests_that_exist() {
    let page = read(&root().join("docs/security.md"));
    let (exist, name) = (tests(), Regex::new("`([^`]+)`").unwrap());
    let mut rows = 0;
    for row in page.lines().filter(|line| line.starts_with("| ") && !line.ends_with("shown by |")) {
        let shown = row.trim_end_matches('|').rsplit('|').next().unwrap();
        let named: Vec<&str> = name.captures_iter(shown).map(|found| found.get(1).unwrap().as_str()).collect();
        assert!(!named.is_empty(), "no test shows it: {row}");
        let missing: Vec<&&str> = named.iter().filter(|name| !exist.contains(**name)).collect();
        assert!(missing.is_empty(), "no such tests: {missing:?} in {row}");
        rows += 1;
    }
    assert!(rows > 25, "only {rows} rows");
}

/// Each point under "What it is" has promises, each promise stands there in these words, and its tests exist.
#[test]
fn every_promise_of_the_readme_names_tests_that_exist() {
    let unwrapped = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let readme = read(&root().join("README.md"));
    let (_, rest) = readme.split_once("\n## What it is\n").expect("the section");
    let (section, _) = rest.split_once("\nWhat `make demo` shows").expect("its end");
    let points: Vec<String> = section.split("\n- ").skip(1).map(unwrapped).collect();
    let (exist, name) = (tests(), Regex::new("`([^`]+)`").unwrap());
    let page = read(&root().join("docs/promises.md"));
    let mut kept = vec![0; points.len()];
    for row in page.lines().filter(|line| line.starts_with("| ") && !line.ends_with("shown by |")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [promise, shown] = cells.as_slice() else { panic!("no two cells: {row}") };
        let named: Vec<&str> = name.captures_iter(shown).map(|found| found.get(1).unwrap().as_str()).collect();
        let missing: Vec<&&str> = named.iter().filter(|name| !exist.contains(**name)).collect();
        assert!(!named.is_empty() && missing.is_empty(), "no such tests: {missing:?} in {row}");
        assert!(unwrapped(&readme).contains(promise), "the README does not say {promise:?}");
        points.iter().zip(&mut kept).filter(|(point, _)| point.contains(promise)).for_each(|(_, kept)| *kept += 1);
    }
    let bare: Vec<&String> = points.iter().zip(&kept).filter(|(_, kept)| **kept == 0).map(|(point, _)| point).collect();
    assert!(points.len() >= 6 && bare.is_empty(), "no test shows: {bare:#?}");
}

#[test]
fn every_metric_is_in_the_list_and_every_one_in_the_list_exists() {
    // Suffixes that the text format adds by type and unit.
    let bare = |name: &str| {
        let name = name.trim_end_matches("_total").trim_end_matches("_info");
        let units = [
            "backstop_intake_duration",
            "backstop_alert_to_plan",
            "backstop_alert_to_fire",
            "backstop_fire_to_recovery",
        ];
        units.into_iter().find(|unit| name == format!("{unit}_seconds")).unwrap_or(name).to_owned()
    };
    let names = |text: &str, shape: &str| -> BTreeSet<String> {
        let shape = Regex::new(shape).unwrap();
        shape.captures_iter(text).map(|found| bare(&found[1])).collect()
    };
    let page = read(&root().join("docs/metrics.md"));
    let listed = names(&page, r"(?m)^\| `(backstop_[a-z_]+)`");
    let registered = names(&sources(&["src"], "rs"), r#""(backstop_[a-z_]+)""#);
    assert_eq!(listed, registered);
    assert!(listed.len() > 30, "{listed:?}");
}

/// A restart of the controller sets the time of the last Watchdog to 0. A condition that is false for 0 would disarm the
/// switch then; one that holds has to leave the example's Alertmanager time to send it again.
#[test]
fn the_dead_mans_switch_is_armed_from_the_start_and_waits_for_the_example_to_repeat() {
    let rules = read(&root().join("docs/examples/prometheus-rules.yaml"));
    let (_, rule) = rules.split_once("- alert: BackstopHearsNothing\n").expect("the rule");
    let shape = r"^ +expr: time\(\) - max\(backstop_watchdog_last_seen_timestamp_seconds\) > (\d+)\n +for: (\d+)m\n";
    let found = Regex::new(shape).unwrap().captures(rule).expect("nothing but the age of the last Watchdog is asked");
    let number = |index: usize| found[index].parse::<u32>().unwrap();
    let (age, stands) = (number(1), 60 * number(2));
    let example = read(&root().join("docs/examples/alertmanager.yaml"));
    let interval = |name: &str| {
        let found = Regex::new(&format!(r"(?m)^ +{name}: (\d+)m$")).unwrap();
        60 * found.captures(&example).expect("the route of Watchdog")[1].parse::<u32>().unwrap()
    };
    let repeated = interval("repeat_interval") + interval("group_interval");
    assert!(repeated < stands, "after a start it is repeated within {repeated} s, and missed after {stands} s");
    assert_eq!(age + stands, 900, "operations.md promises 15 minutes");
}

#[test]
fn the_alerting_rules_ask_for_metrics_that_exist() {
    let rules = read(&root().join("docs/examples/prometheus-rules.yaml"));
    let code = sources(&["src"], "rs");
    let metric = Regex::new(r"backstop_[a-z_]+").unwrap();
    let mut asked = BTreeSet::new();
    for found in metric.find_iter(&rules) {
        let name = found.as_str().trim_end_matches("_total").trim_end_matches("_info");
        assert!(code.contains(&format!("\"{name}\"")), "no metric is called {name}");
        asked.insert(name.to_owned());
    }
    assert!(asked.len() >= 6, "{asked:?}");
}
