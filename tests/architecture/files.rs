//! The graph of the files of `src`: which file uses what another one defines, read from `use` and from paths that
//! begin with `crate`, `self`, `super` or a child module. A name that a module only passes on is followed to the file
//! that defines it, so that a `mod.rs` which lists its children does not depend on them.
//!
//! A file may use what its own `mod.rs` defines although that one calls it: the two are read as one. Every other
//! circle is a finding.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use regex::Regex;

use super::Source;

/// A path in the crate: module names, then maybe an item.
type Segments = Vec<String>;

/// One name that a file brings in.
struct Import {
    /// From the crate's root; ends in `*` for all of a module.
    path: Segments,
    /// Under which name; `*` for all.
    name: String,
    /// Others may use it from here.
    public: bool,
}

struct File {
    path: PathBuf,
    module: Segments,
    imports: Vec<Import>,
    /// Paths that stand in the code itself.
    inline: Vec<Segments>,
    /// Names that it defines.
    defines: BTreeSet<String>,
    /// Words of its code outside of `use` declarations.
    words: BTreeSet<String>,
}

/// Every file with the files whose items it uses, and one of those items.
pub type Graph = BTreeMap<PathBuf, BTreeMap<PathBuf, String>>;

/// Who uses whom.
pub fn graph(sources: &[Source]) -> Graph {
    let modules: BTreeSet<Segments> = sources.iter().map(|source| module_of(&source.path)).collect();
    let files: Vec<File> = sources.iter().map(|source| read(source, &modules)).collect();
    let by_module: BTreeMap<&Segments, &File> = files.iter().map(|file| (&file.module, file)).collect();
    let mut graph = Graph::new();
    for file in &files {
        let used = file.imports.iter().filter(|import| !import.public || file.words.contains(&import.name));
        let used = used.map(|import| &import.path).chain(&file.inline);
        let edges = graph.entry(file.path.clone()).or_default();
        for path in used {
            if let Some(target) = definition(path, &by_module, 0).filter(|target| *target != file.path) {
                edges.entry(target).or_insert_with(|| path.join("::"));
            }
        }
    }
    graph
}

/// Groups of files that use each other in a circle, each with the uses inside of it.
pub fn circles(graph: &Graph) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for circle in groups(graph) {
        let folders: BTreeSet<Option<&Path>> = circle.iter().map(|file| file.parent()).collect();
        let inside = |from: &PathBuf| -> BTreeMap<PathBuf, String> {
            let uses = graph[from].iter().filter(|(to, _)| circle.contains(*to));
            uses.map(|(to, item)| (to.clone(), item.clone())).collect()
        };
        let mut inner: Graph = circle.iter().map(|file| (file.clone(), inside(file))).collect();
        if folders.len() == 1 {
            for uses in inner.values_mut() {
                uses.retain(|to, _| to.file_name().is_none_or(|name| name != "mod.rs"));
            }
        }
        for rest in groups(&inner) {
            let uses = rest.iter().flat_map(|from| {
                let uses = inner[from].iter().filter(|(to, _)| rest.contains(*to));
                uses.map(|(to, item)| format!("src/{} uses {item} of src/{}", from.display(), to.display()))
            });
            found.push(uses.collect());
        }
    }
    found
}

/// Groups of files of which each reaches each.
fn groups(graph: &Graph) -> Vec<BTreeSet<PathBuf>> {
    let reach: BTreeMap<&PathBuf, BTreeSet<&PathBuf>> =
        graph.keys().map(|file| (file, reachable(graph, file))).collect();
    let back = |from: &PathBuf, to: &PathBuf| reach.get(from).is_some_and(|reached| reached.contains(to));
    let mut groups: Vec<BTreeSet<PathBuf>> = Vec::new();
    for file in graph.keys().filter(|file| back(file, file)) {
        if !groups.iter().any(|group| group.contains(file)) {
            groups.push(reach[file].iter().copied().filter(|other| back(other, file)).cloned().collect());
        }
    }
    groups
}

fn reachable<'a>(graph: &'a Graph, from: &PathBuf) -> BTreeSet<&'a PathBuf> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&PathBuf> = graph.get(from).into_iter().flat_map(BTreeMap::keys).collect();
    while let Some(file) = next.pop() {
        if reached.insert(file) {
            next.extend(graph.get(file).into_iter().flat_map(BTreeMap::keys));
        }
    }
    reached
}

fn module_of(path: &Path) -> Segments {
    let mut module: Segments =
        path.with_extension("").components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|last| last == "mod" || (module.len() == 1 && last == "lib")) {
        module.pop();
    }
    module
}

fn read(source: &Source, modules: &BTreeSet<Segments>) -> File {
    let module = module_of(&source.path);
    let declaration = Regex::new(r"(pub(?:\s*\([^)]*\))?\s+)?\buse\s+([^;]+);").expect("a pattern");
    let mut imports = Vec::new();
    for found in declaration.captures_iter(&source.code) {
        for (path, name) in tree(&found[2]) {
            if let Some(path) = absolute(&path, &module, modules) {
                imports.push(Import { path, name, public: found.get(1).is_some() });
            }
        }
    }
    let code = declaration.replace_all(&source.code, "").into_owned();
    let path = Regex::new(r"(?:^|[^:\w])((?:\w+\s*::\s*)+\w+)").expect("a pattern");
    let inline = path.captures_iter(&code).filter_map(|found| {
        let segments: Segments = found[1].split("::").map(|part| part.trim().to_owned()).collect();
        absolute(&segments, &module, modules)
    });
    let inline = inline.collect();
    let definition =
        Regex::new(r"\b(?:struct|enum|fn|trait|type|const|static|union|macro_rules!)\s+(\w+)").expect("a pattern");
    let defines = definition.captures_iter(&code).map(|found| found[1].to_owned()).collect();
    let word = Regex::new(r"\w+").expect("a pattern");
    let words = word.find_iter(&code).map(|found| found.as_str().to_owned()).collect();
    File { path: source.path.clone(), module, imports, inline, defines, words }
}

/// The paths of a `use` declaration with the name that each gets.
fn tree(text: &str) -> Vec<(Segments, String)> {
    let text = text.trim();
    if let Some(open) = text.find('{') {
        let prefix: Segments =
            text[..open].split("::").map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect();
        let inner = text[open + 1..].trim_end().trim_end_matches('}');
        // Only the last brace belongs to this group: put back those of the groups inside.
        let missing = inner.matches('{').count().saturating_sub(inner.matches('}').count());
        let inner = format!("{inner}{}", "}".repeat(missing));
        let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
        for (at, c) in inner.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    parts.push(&inner[start..at]);
                    start = at + 1;
                }
                _ => {}
            }
        }
        parts.push(&inner[start..]);
        let parts = parts.into_iter().filter(|part| !part.trim().is_empty());
        return parts
            .flat_map(tree)
            .map(|(path, name)| {
                let whole: Segments =
                    prefix.iter().cloned().chain(path.into_iter().filter(|part| part != "self")).collect();
                let name = if name == "self" { prefix.last().cloned().unwrap_or_default() } else { name };
                (whole, name)
            })
            .collect();
    }
    let (path, alias) = text.split_once(" as ").map_or((text, None), |(path, alias)| (path, Some(alias.trim())));
    let path: Segments = path.split("::").map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect();
    let name = alias.map(str::to_owned).or_else(|| path.last().cloned()).unwrap_or_default();
    vec![(path, name)]
}

/// The path from the crate's root; `None` when it leads out of the crate.
fn absolute(path: &[String], module: &Segments, modules: &BTreeSet<Segments>) -> Option<Segments> {
    let (first, rest) = path.split_first()?;
    match first.as_str() {
        "crate" => Some(rest.to_vec()),
        "self" => Some(module.iter().chain(rest).cloned().collect()),
        "super" => {
            let mut base = module.clone();
            base.pop()?;
            let mut rest = rest;
            while rest.first().is_some_and(|part| part == "super") {
                base.pop()?;
                rest = &rest[1..];
            }
            Some(base.iter().chain(rest).cloned().collect())
        }
        _ => {
            let child: Segments = module.iter().chain([first]).cloned().collect();
            modules.contains(&child).then(|| child.into_iter().chain(rest.iter().cloned()).collect())
        }
    }
}

/// The file that defines what a path names.
fn definition(path: &[String], files: &BTreeMap<&Segments, &File>, depth: usize) -> Option<PathBuf> {
    let known = (0..=path.len()).rev().find(|length| files.contains_key(&path[..*length].to_vec()))?;
    let file = files[&path[..known].to_vec()];
    let Some(item) = path.get(known).filter(|item| *item != "*") else { return Some(file.path.clone()) };
    if depth > 8 || file.defines.contains(item) {
        return Some(file.path.clone());
    }
    if let Some(import) = file.imports.iter().find(|import| import.name == *item) {
        return definition(&import.path, files, depth + 1);
    }
    for glob in file.imports.iter().filter(|import| import.name == "*") {
        let target: Segments = glob.path[..glob.path.len() - 1].iter().chain([item]).cloned().collect();
        let Some(other) = files.get(&glob.path[..glob.path.len() - 1].to_vec()) else { continue };
        if other.defines.contains(item) || other.imports.iter().any(|import| import.name == *item) {
            return definition(&target, files, depth + 1);
        }
    }
    Some(file.path.clone())
}
