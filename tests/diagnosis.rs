//! How right the rules are on what was recorded of a real cluster: bundles of facts in `tests/diagnosis/bundles`, what each
//! shows in `tests/diagnosis/expected.yaml`, and what the rules make of them in `tests/diagnosis/rules.txt`. A change of the
//! rules shows in that file; `DIAGNOSIS_TABLE=write cargo test --test diagnosis` writes it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use backstop::api::v1alpha1::{Action, Cause, Diagnosis, Investigation, Proposal, RolloutUndo};
use backstop::core::{
    bundle,
    rules::{self, FactBundle},
    score::{Table, Tallies, Tally, said, score, wanted},
};

/// Fewer tell nothing.
const LEAST: usize = 60;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diagnosis")
}

fn table() -> Table {
    let text = fs::read_to_string(folder().join("expected.yaml")).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

/// The bundles with their names, in order.
fn bundles() -> Vec<(String, Investigation)> {
    let entries = fs::read_dir(folder().join("bundles")).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "yaml"));
    paths.sort();
    let read = |path: &PathBuf| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let bundle = serde_saphyr::from_str(&fs::read_to_string(path).unwrap());
        (name, bundle.unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    };
    paths.iter().map(read).collect()
}

fn case(bundle: &Investigation) -> FactBundle<'_> {
    FactBundle {
        target: bundle.spec.target.as_ref(),
        alert_started_at: bundle.spec.alert_started_at,
        facts: &bundle.status.as_ref().unwrap().facts,
    }
}

/// The tallies of a diagnoser, and a line for each bundle that it has not right.
fn judged(diagnose: impl Fn(FactBundle<'_>) -> Diagnosis) -> (Tallies, String) {
    let (table, mut tallies, mut misses) = (table(), Tallies::default(), String::new());
    for (name, bundle) in bundles() {
        let expected = table.get(&name).unwrap_or_else(|| panic!("expected.yaml has no entry for {name}"));
        let case = case(&bundle);
        let diagnosis = diagnose(case);
        let score = score(expected, &diagnosis, case.facts);
        tallies.add(&expected.fault, score, 0, 0, 0);
        if !(score.object && score.cause && score.action && score.grounded) {
            misses.push_str(&format!("{name}: {}; right is {}\n", said(&diagnosis), wanted(expected)));
        }
    }
    (tallies, misses)
}

#[test]
fn every_bundle_is_expected_clean_and_of_use() {
    let (table, bundles) = (table(), bundles());
    assert!(bundles.len() >= LEAST, "{} bundles, at least {LEAST} are wanted", bundles.len());
    let names: BTreeSet<&String> = bundles.iter().map(|(name, _)| name).collect();
    let expected: BTreeSet<&String> = table.keys().collect();
    let (more, fewer) = (names.difference(&expected), expected.difference(&names));
    let (more, fewer): (Vec<_>, Vec<_>) = (more.collect(), fewer.collect());
    assert!(
        more.is_empty() && fewer.is_empty(),
        "expected.yaml has no entry for {more:?}, and no bundle for {fewer:?}"
    );
    let healthy = table.values().filter(|expected| expected.fault == "Healthy").count();
    assert!(healthy >= 5, "{healthy} healthy bundles: a diagnoser that always finds a fault has to lose");
    for (name, bundle) in &bundles {
        assert_eq!(bundle::of(bundle, None).as_ref(), Ok(bundle), "{name} is not as `backstop facts export` writes it");
    }
}

#[test]
fn the_rules_are_as_right_as_is_written() {
    let (tallies, misses) = judged(rules::diagnose);
    let told = format!("{}\n{misses}", tallies.render(false));
    let path = folder().join("rules.txt");
    if std::env::var_os("DIAGNOSIS_TABLE").is_some() {
        fs::write(&path, &told).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap();
    assert_eq!(told, written, "the rules say something else: DIAGNOSIS_TABLE=write cargo test --test diagnosis");
    assert_eq!(tallies.all().harmful, 0, "the rules propose what does not help:\n{misses}");
    assert_eq!(tallies.all().grounded, tallies.all().bundles, "the rules say what the facts do not show:\n{misses}");
}

/// A diagnoser that is wrong.
type Wrong = fn(FactBundle<'_>) -> Diagnosis;
/// Where that has to show.
type Counted = fn(&Tally) -> usize;

/// Rules that are wrong, each in another way.
#[test]
fn a_wrong_rule_is_noticed() {
    let right = judged(rules::diagnose).0.all();
    let planted: [(&str, Wrong, Counted); 4] = [
        ("it names another object", another_object, |tally| tally.objects),
        ("it takes every failure for a bad rollout", always_a_rollout, |tally| tally.causes),
        ("it proposes nothing", nothing_proposed, |tally| tally.actions),
        ("it cites what does not exist", cites_nothing, |tally| tally.grounded),
    ];
    for (what, wrong, count) in planted {
        let tally = judged(wrong).0.all();
        assert!(count(&tally) < count(&right), "not noticed: {what}");
    }
    assert!(judged(always_undone).0.all().harmful > 0, "not noticed: it undoes whatever the facts say");
}

fn another_object(case: FactBundle<'_>) -> Diagnosis {
    let mut diagnosis = rules::diagnose(case);
    if let Some(suspect) = &mut diagnosis.suspect {
        suspect.name.push('x');
    }
    diagnosis
}

fn always_a_rollout(case: FactBundle<'_>) -> Diagnosis {
    Diagnosis { cause: Cause::BadRollout, ..rules::diagnose(case) }
}

fn nothing_proposed(case: FactBundle<'_>) -> Diagnosis {
    Diagnosis { proposal: None, ..rules::diagnose(case) }
}

fn cites_nothing(case: FactBundle<'_>) -> Diagnosis {
    let mut diagnosis = rules::diagnose(case);
    diagnosis.claims.iter_mut().for_each(|claim| claim.cites = vec!["f999".into()]);
    diagnosis
}

fn always_undone(case: FactBundle<'_>) -> Diagnosis {
    let action = Action::RolloutUndo(RolloutUndo { to_revision: 1 });
    let proposal = case.target.map(|target| Proposal { action, target: target.clone() });
    Diagnosis { proposal, ..rules::diagnose(case) }
}
