//! `backstop models eval`: has recorded fact bundles diagnosed by the rules or by a ModelChain, and prints how often object,
//! class and action were right, by class of fault. `make eval-diagnosis` runs it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use futures::{StreamExt as _, stream};

use super::{
    asking::{Diagnosers, NetworkArgs},
    files,
};
use crate::{
    api::v1alpha1::{Diagnosis, Fact, IncidentKey, Investigation},
    clock,
    core::{
        gate::grounding,
        rules,
        score::{Expected, Score, Table, Tallies, said, score, wanted},
    },
    model::{chain::ChainAnswer, credentials::ROOT},
};

/// Arguments of `backstop models eval`.
#[derive(clap::Args)]
pub struct Args {
    /// Folder with fact bundles, as `backstop facts export` writes them.
    #[arg(long)]
    bundles: PathBuf,
    /// What each bundle shows, by the name of its file without `.yaml`.
    #[arg(long)]
    expected: PathBuf,
    /// File with the ModelChain to ask. Without one the rules answer alone.
    #[arg(long)]
    chain: Option<PathBuf>,
    /// Folder with a folder for each Secret and a file for each of its keys.
    #[arg(long, default_value = ROOT)]
    secrets: PathBuf,
    #[command(flatten)]
    network: NetworkArgs,
    /// Diagnoses at a time.
    #[arg(long, default_value_t = 2)]
    parallel: usize,
    /// Only bundles whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Print each bundle whose diagnosis was not right, with what was said.
    #[arg(long)]
    misses: bool,
}

/// One bundle with what it shows.
struct Case {
    name: String,
    bundle: Investigation,
    expected: Expected,
}

impl Case {
    fn facts(&self) -> &[Fact] {
        self.bundle.status.as_ref().map(|status| status.facts.as_slice()).unwrap_or_default()
    }
}

/// Diagnoses the bundles, and prints the tables.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let cases = cases(&args.bundles, &args.expected, args.only.as_deref())?;
    let diagnosers = Diagnosers::of(args.chain.as_deref(), &args.secrets, &args.network)?;
    let diagnosers = &diagnosers;
    let asked = stream::iter(&cases).map(|case| async move {
        // Each is a tenant of its own: the limit on requests of one namespace is not what is measured.
        let key = IncidentKey { namespace: case.name.clone(), name: case.name.clone() };
        let began = clock::now();
        let answer = diagnosers.ask(&case.bundle, key).await;
        let took = clock::now().duration_since(began).as_millis();
        (answer, i64::try_from(took).unwrap_or(i64::MAX))
    });
    let answers: Vec<(ChainAnswer, i64)> = asked.buffered(args.parallel.max(1)).collect().await;

    let (mut first, mut counting) = (Tallies::default(), Tallies::default());
    let (mut by, mut refused) = (BTreeMap::<&str, usize>::new(), BTreeMap::<&str, usize>::new());
    for (case, (answer, took)) in cases.iter().zip(&answers) {
        let spent = answer.spent;
        let Case { name, expected, .. } = case;
        let one = score(expected, &answer.diagnosis, case.facts());
        first.add(&expected.fault, one, spent.tokens, spent.nano_dollars, *took);
        *by.entry(answer.diagnosis.diagnoser.as_str()).or_default() += 1;
        if args.misses && !right(one) {
            println!("{name}: {}; right is {}", said(&answer.diagnosis), wanted(expected));
        }
        let flaw = grounding::flaw(&answer.diagnosis, case.facts());
        if let Some((reason, _)) = &flaw {
            *refused.entry(reason.as_str()).or_default() += 1;
        }
        let counts: &Diagnosis = match (&flaw, &answer.second_opinion) {
            (Some(_), Some(rules)) => rules,
            _ => &answer.diagnosis,
        };
        counting.add(&expected.fault, score(expected, counts, case.facts()), spent.tokens, spent.nano_dollars, *took);
    }
    let told = |counts: &BTreeMap<&str, usize>| {
        counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
    };
    print!("{}", first.render(true));
    println!("answered by: {}", told(&by));
    if diagnosers.has_models() {
        println!("not grounded in the facts: {}", if refused.is_empty() { "none".to_owned() } else { told(&refused) });
        println!("\nWhere an answer is not grounded, that of {} counts:", rules::NAME);
        print!("{}", counting.render(true));
    }
    println!("eval: {} checked, 0 failed", cases.len());
    Ok(())
}

fn right(score: Score) -> bool {
    let Score { object, cause, action, harmful, grounded } = score;
    object && cause && action && !harmful && grounded
}

/// The bundles in order of their names; each needs an entry of the table, and each entry a bundle.
fn cases(bundles: &Path, expected: &Path, only: Option<&str>) -> anyhow::Result<Vec<Case>> {
    let mut table: Table = files::read(expected)?;
    let (mut cases, mut without) = (Vec::new(), Vec::new());
    let folder = std::fs::read_dir(bundles).with_context(|| format!("cannot list {}", bundles.display()))?;
    let mut paths: Vec<PathBuf> = folder.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|end| end == "yaml"));
    paths.sort();
    for path in paths {
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        match table.remove(&name) {
            Some(expected) => cases.push(Case { bundle: files::read(&path)?, name, expected }),
            None => without.push(name),
        }
    }
    if !without.is_empty() || !table.is_empty() {
        let table: Vec<String> = table.into_keys().collect();
        bail!("no entry in {} for {without:?}; no bundle for {table:?}", expected.display());
    }
    cases.retain(|case| only.is_none_or(|word| case.name.contains(word)));
    if cases.is_empty() {
        bail!("no bundle in {}", bundles.display());
    }
    Ok(cases)
}
