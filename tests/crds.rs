//! The custom resource definitions in the repository are the ones that the types generate.

use std::{collections::BTreeMap, fs, path::Path};

use backstop::api::v1alpha1::definitions;
use kube::ResourceExt as _;

/// What `backstop crd --out crds` would write.
fn generated() -> BTreeMap<String, String> {
    definitions()
        .into_iter()
        .map(|crd| (format!("{}.yaml", crd.name_any()), serde_saphyr::to_string(&crd).expect("a definition prints")))
        .collect()
}

fn committed(folder: &str) -> BTreeMap<String, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let files = fs::read_dir(&path).unwrap_or_else(|error| panic!("cannot list {folder}: {error}"));
    files
        .map(|file| {
            let file = file.expect("a folder can be listed");
            let text = fs::read_to_string(file.path()).expect("a definition can be read");
            (file.file_name().to_string_lossy().into_owned(), text)
        })
        .collect()
}

fn compare(folder: &str) {
    let (want, have) = (generated(), committed(folder));
    let names = |map: &BTreeMap<String, String>| map.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&have), names(&want), "{folder} holds other files than the kinds: run `make crds` and commit");
    let drifted: Vec<&String> = want.keys().filter(|name| have[*name] != want[*name]).collect();
    assert!(drifted.is_empty(), "{folder} differs from the types in {drifted:?}: run `make crds` and commit");
}

#[test]
fn the_committed_definitions_are_the_generated_ones() {
    compare("crds");
}

#[test]
fn the_chart_carries_the_same_definitions() {
    compare("helm/backstop/files/crds");
}

#[test]
fn every_definition_is_structural_bounded_and_findable() {
    for crd in definitions() {
        let name = crd.name_any();
        let names = &crd.spec.names;
        assert_eq!(crd.spec.group, "backstop.dev", "{name}");
        assert_eq!(names.categories.as_deref(), Some(&["backstop".to_string()][..]), "{name} has no category");
        for version in &crd.spec.versions {
            assert!(version.schema.is_some(), "{name} {} has no schema", version.name);
            assert!(version.additional_printer_columns.is_some(), "{name} {} has no columns", version.name);
        }
    }
}
