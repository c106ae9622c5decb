//! The shape of the code, read from the sources: the direction of the modules, the purity of `core`, no circle of
//! files; and registries that agree with what repeats them.
//! `cli → roles → {observe, model, act, audit, notify, serve, cluster} → core → api`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use regex::Regex;

#[path = "architecture/files.rs"]
mod files;
#[path = "architecture/registries.rs"]
mod registries;

/// What belongs to no layer and may be used by every edge and role.
const COMMON: &[&str] = &["api", "core", "settings", "clock", "telemetry"];

/// What each top-level module may use besides itself. The edges do not know each other, but for the two that are
/// plumbing: how to reach the API server (`cluster`) and the registry of metrics (`serve`).
fn allowed() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let edge: BTreeSet<&str> = COMMON.iter().copied().chain(["cluster", "serve"]).collect();
    let role: BTreeSet<&str> =
        edge.iter().copied().chain(["observe", "model", "act", "audit", "notify", "tap"]).collect();
    BTreeMap::from([
        ("api", BTreeSet::new()),
        ("core", BTreeSet::from(["api"])),
        ("settings", BTreeSet::from(["api", "core"])),
        ("clock", BTreeSet::from(["api"])),
        ("telemetry", BTreeSet::from(["clock", "settings"])),
        ("tap", BTreeSet::new()),
        ("cluster", COMMON.iter().copied().collect()),
        ("serve", COMMON.iter().copied().collect()),
        ("observe", edge.clone()),
        ("model", edge.clone()),
        ("act", edge.clone()),
        ("audit", edge.clone()),
        ("notify", edge),
        ("roles", role.clone()),
        ("cli", role.into_iter().chain(["roles"]).collect()),
    ])
}

/// Words that have no place in `core`, each with what it would bring in.
const IMPURE: &[(&str, &str)] = &[
    (r"\bkube\s*::\s*\{?[^;]*\b(Client|Api|Config)\b", "a client of the API server"),
    (r"\bkube\s*::\s*(\{[^;]*\b)?(client|runtime)\b", "a client of the API server"),
    (r"\btokio(_util)?\s*::", "a runtime"),
    (r"\b(reqwest|hyper|axum|prometheus_http_query)\s*::", "the network"),
    (r"\bstd\s*::\s*(\{[^;]*\b)?(env|fs|net|process|thread)\b", "the machine"),
    (r"\b(SystemTime|Instant)\b", "a clock"),
    (r"\b(Timestamp|Zoned)\s*::\s*now\b", "a clock"),
    (r"\brand\s*::", "chance"),
    (r"\basync\b|\.await\b", "waiting"),
    (r"\btracing\s*::", "logging"),
];

struct Source {
    path: PathBuf,
    /// Top-level module.
    module: String,
    /// Without comments, strings and tests.
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("src can be listed") {
            let path = entry.expect("src can be listed").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let relative = path.strip_prefix(&root).expect("below src").to_path_buf();
                let module = relative.components().next().expect("a file has a name");
                let module = module.as_os_str().to_string_lossy().trim_end_matches(".rs").to_string();
                let code = code_of(&fs::read_to_string(&path).expect("sources can be read"));
                found.push(Source { path: relative, module, code });
            }
        }
    }
    found
}

/// The text without comments, string literals and what follows the first `#[cfg(test)] mod … {`.
fn code_of(text: &str) -> String {
    let tests = Regex::new(r"#\[cfg\(test\)\]\s*(pub )?mod \w+ \{").expect("a pattern");
    let text = tests.find(text).map_or(text, |start| &text[..start.start()]);
    let strings = Regex::new(r#""(\\.|[^"\\])*""#).expect("a pattern");
    let comments = Regex::new(r"//[^\n]*").expect("a pattern");
    // Comments first: an apostrophe or a quote in prose opens nothing.
    strings.replace_all(&comments.replace_all(text, ""), "\"\"").into_owned()
}

/// The top-level modules that `code` names after `crate::`.
fn uses(code: &str) -> BTreeSet<String> {
    let start = Regex::new(r"\bcrate\s*::\s*").expect("a pattern");
    let mut used = BTreeSet::new();
    for found in start.find_iter(code) {
        let rest = &code[found.end()..];
        if let Some(group) = rest.strip_prefix('{') {
            let (mut depth, mut word) = (0, String::new());
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    _ => {}
                }
                if depth == 0 && (c.is_alphanumeric() || c == '_') {
                    word.push(c);
                } else if depth == 0 && c == ',' {
                    used.insert(std::mem::take(&mut word));
                } else if depth == 0 && c == ':' && !word.is_empty() {
                    // The rest of this path, up to the next comma, names no top-level module.
                    used.insert(std::mem::take(&mut word));
                    word.push('#');
                }
            }
            used.insert(word);
        } else {
            used.insert(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    used.retain(|word| !word.is_empty() && !word.starts_with('#'));
    used
}

/// What `source` does against the direction of the modules.
fn against_direction(source: &Source, allowed: &BTreeMap<&str, BTreeSet<&str>>) -> Vec<String> {
    let Some(may) = allowed.get(source.module.as_str()) else {
        return vec![format!("src/{} is in no layer: add it to this test", source.path.display())];
    };
    uses(&source.code)
        .into_iter()
        .filter(|used| *used != source.module && allowed.contains_key(used.as_str()) && !may.contains(used.as_str()))
        .map(|used| format!("src/{} uses {used}, which {} must not", source.path.display(), source.module))
        .collect()
}

fn impurities(source: &Source) -> Vec<String> {
    IMPURE
        .iter()
        .filter(|(pattern, _)| Regex::new(pattern).expect("a pattern").is_match(&source.code))
        .map(|(pattern, what)| format!("src/{} brings in {what} ({pattern})", source.path.display()))
        .collect()
}

fn is_test(path: &Path) -> bool {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    stem.ends_with("_tests") || ["tests", "testing", "fixtures", "planted"].contains(&stem.as_str())
}

#[test]
fn modules_depend_in_one_direction_only() {
    let allowed = allowed();
    let wrong: Vec<String> = sources()
        .iter()
        .filter(|source| !["main", "lib"].contains(&source.module.as_str()) && !is_test(&source.path))
        .flat_map(|source| against_direction(source, &allowed))
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn core_is_pure() {
    let wrong: Vec<String> = sources()
        .iter()
        .filter(|source| source.module == "core" && !is_test(&source.path))
        .flat_map(impurities)
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_kinds_hold_no_logic_that_reaches_out() {
    let wrong: Vec<String> = sources().iter().filter(|source| source.module == "api").flat_map(impurities).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn only_two_places_build_a_client() {
    let places: Vec<PathBuf> = sources()
        .into_iter()
        .filter(|source| {
            ["Client::try_from", "Client::new(", "ClientBuilder"].iter().any(|word| source.code.contains(word))
        })
        .filter(|source| !is_test(&source.path))
        .map(|source| source.path)
        .collect();
    assert_eq!(places, [PathBuf::from("cluster/client.rs")]);
}

/// A check that never fails proves nothing: each of these has to be found.
#[test]
fn planted_defects_are_found() {
    let plant = |module: &str, code: &str| Source {
        path: format!("{module}/planted.rs").into(),
        module: module.into(),
        code: code_of(code),
    };
    let allowed = allowed();
    for (module, code) in [
        ("core", "use crate::cluster::connect;"),
        ("core", "use crate::settings::Settings;"),
        ("core", "use crate::{api::v1alpha1::Alert, roles};"),
        ("core", "use crate::{\n    api::v1alpha1::{Alert, Time},\n    notify::Notifier,\n};"),
        ("api", "fn f() { crate::core::names::digest(&[]); }"),
        ("act", "use crate::model::chain;"),
        ("cluster", "use crate::roles::Start;"),
        ("elsewhere", ""),
    ] {
        assert!(!against_direction(&plant(module, code), &allowed).is_empty(), "not found in {module}: {code}");
    }
    for (module, code) in [
        ("core", "use crate::{api::v1alpha1::{Alert, Time}, core::names};"),
        ("core", "// use crate::roles;\nconst A: &str = \"crate::roles\";"),
        ("roles", "use crate::{act, cluster::connect};"),
    ] {
        assert_eq!(against_direction(&plant(module, code), &allowed), Vec::<String>::new(), "{module}: {code}");
    }
    for code in [
        "use kube::Client;",
        "use kube::{Resource, Api};",
        "use kube::{\n    Resource,\n    runtime::watcher,\n};",
        "let client: kube::Client = x;",
        "use tokio::sync::Mutex;",
        "let home = std::env::var(\"HOME\");",
        "use std::{collections::BTreeMap, fs};",
        "let now = jiff::Timestamp::now();",
        "let now = std::time::Instant::now();",
        "async fn f() {}",
        "let n: u8 = rand::random();",
    ] {
        assert!(!impurities(&plant("core", code)).is_empty(), "not found: {code}");
    }
    assert_eq!(impurities(&plant("core", "use kube::{CustomResource, ResourceExt as _};")), Vec::<String>::new());
}

/// The sources that are part of the program.
fn production() -> Vec<Source> {
    sources().into_iter().filter(|source| source.module != "main" && !is_test(&source.path)).collect()
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let told: Vec<String> = files::circles(&files::graph(&production())).iter().map(|uses| uses.join("\n")).collect();
    assert!(told.is_empty(), "\n{}", told.join("\n\n"));
}

#[test]
fn planted_circles_are_found_and_what_is_none_is_not() {
    let circles = |files: &[(&str, &str)]| {
        let plant = |(path, code): &(&str, &str)| Source {
            path: (*path).into(),
            module: path.split(['/', '.']).next().unwrap_or_default().into(),
            code: code_of(code),
        };
        files::circles(&files::graph(&files.iter().map(plant).collect::<Vec<_>>())).len()
    };
    let defines = |name: &str| format!("pub struct {name};");
    for (why, files) in [
        (
            "siblings by super",
            [
                ("a/mod.rs", "mod b; mod c;"),
                ("a/b.rs", "use super::c::C; pub struct B;"),
                ("a/c.rs", "use super::b::B; pub struct C;"),
            ],
        ),
        (
            "by crate and a group",
            [
                ("a.rs", "use crate::{b::{self, B}, c::C}; pub struct A;"),
                ("b.rs", "use crate::c; pub struct B;"),
                ("c.rs", "fn c(_: crate::a::A) {} pub struct C;"),
            ],
        ),
        (
            "through a name that is passed on",
            [
                ("a/mod.rs", "mod b; pub use b::B;"),
                ("a/b.rs", "use crate::c::C; pub struct B;"),
                ("c.rs", "use crate::a::B; pub struct C;"),
            ],
        ),
        (
            "through all names that are passed on",
            [
                ("a/mod.rs", "mod b; pub use b::*;"),
                ("a/b.rs", "use crate::c::C; pub struct B;"),
                ("c.rs", "use crate::a::{B}; pub struct C;"),
            ],
        ),
        (
            "across folders through a mod.rs",
            [
                ("a/mod.rs", "mod b; use crate::c::C; pub struct A;"),
                ("a/b.rs", "use super::A; pub struct B;"),
                ("c.rs", "use crate::a::b::B; pub struct C;"),
            ],
        ),
        (
            "two calls",
            [("a.rs", "pub fn a() { crate::b::b() }"), ("b.rs", "pub fn b() { super::a::a() }"), ("c.rs", "")],
        ),
    ] {
        assert_eq!(circles(&files), 1, "not found: {why}");
    }
    for (why, files) in [
        (
            "a child and its own mod.rs",
            [
                ("a/mod.rs", "mod b; pub struct A; fn f() { b::f() }"),
                ("a/b.rs", "use super::A; pub fn f(_: A) {}"),
                ("c.rs", ""),
            ],
        ),
        (
            "siblings by what their mod.rs passes on",
            [
                ("a/mod.rs", "mod b; mod c; pub use b::B; pub use c::C;"),
                ("a/b.rs", "pub struct B;"),
                ("a/c.rs", "use super::B; pub struct C;"),
            ],
        ),
        (
            "prose and strings",
            [
                ("a.rs", "// use crate::b::B;\npub struct A;"),
                ("b.rs", "use crate::a::A; pub struct B;"),
                ("c.rs", "const C: &str = \"crate::b::B\";"),
            ],
        ),
        (
            "other crates",
            [("a.rs", "use b::B; pub struct A;"), ("b.rs", "use crate::a::A; pub struct B;"), ("c.rs", &defines("C"))],
        ),
    ] {
        assert_eq!(circles(&files), 0, "found although there is none: {why}");
    }
}
