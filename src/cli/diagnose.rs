//! `backstop diagnose`: one diagnosis from files, against any endpoint and without a cluster: for people who try a chain
//! before they trust it. `backstop models check` asks each upstream one cheap question.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use kube::ResourceExt as _;

use crate::{
    api::v1alpha1::{Attempt, Diagnosis, IncidentKey, Investigation, ModelChain, Proposal},
    clock,
    core::{
        actions,
        chain::{
            failure::classify,
            spec::ValidChain,
            validate::{self, Checked},
        },
        money::NanoDollars,
        rules::{self, FactBundle},
    },
    model::{
        credentials::{Credentials, ROOT},
        ledger::{InMemory, SpendLedger, new_holder},
        live::Live,
        metrics::Metrics,
        model_rung, probe,
        rung::Budget,
        send::{Reply, Sender},
    },
    settings::ModelNetwork,
};

/// Tokens that one diagnosis may take.
const TOKENS: i64 = 100_000;
/// Time for the one question of a check.
const LIMIT: Duration = Duration::from_secs(30);

/// Arguments of `backstop diagnose`.
#[derive(clap::Args)]
pub struct Args {
    /// An Investigation with its facts, as `kubectl get investigation NAME -o yaml` prints it.
    #[arg(long)]
    investigation: PathBuf,
    /// The ModelChain to ask. Without one the rules answer alone.
    #[arg(long)]
    chain: Option<PathBuf>,
    /// Folder with a folder for each Secret and a file for each of its keys.
    #[arg(long, default_value = ROOT)]
    secrets: PathBuf,
    #[command(flatten)]
    network: NetworkArgs,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// How the servers are reached: as the chart's values `models.proxyUrl` and `models.caBundle` say it for the cluster.
#[derive(clap::Args)]
struct NetworkArgs {
    /// URL of an HTTP proxy to servers with a name of the outside. Variables of the environment set none.
    #[arg(long, default_value = "")]
    proxy: String,
    /// File with certificates of more authorities to trust, PEM.
    #[arg(long, default_value = "")]
    ca: String,
}

impl NetworkArgs {
    fn network(self) -> ModelNetwork {
        ModelNetwork { proxy_url: self.proxy, ca_file: self.ca }
    }
}

/// Arguments of `backstop models`.
#[derive(clap::Args)]
pub struct ModelsArgs {
    #[command(subcommand)]
    command: ModelsCommand,
}

#[derive(clap::Subcommand)]
enum ModelsCommand {
    /// Asks each upstream of a ModelChain one cheap question, and prints what came of it.
    Check(CheckArgs),
}

#[derive(clap::Args)]
struct CheckArgs {
    /// File with the ModelChain.
    #[arg(long)]
    chain: PathBuf,
    /// Folder with a folder for each Secret and a file for each of its keys.
    #[arg(long, default_value = ROOT)]
    secrets: PathBuf,
    #[command(flatten)]
    network: NetworkArgs,
}

/// Diagnoses, and prints each attempt and the diagnosis.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let investigation: Investigation = read(&args.investigation)?;
    let facts = investigation.status.as_ref().map(|status| status.facts.as_slice()).unwrap_or_default();
    if facts.is_empty() {
        bail!("{} has no facts: it needs the status of an Investigation that ended", args.investigation.display());
    }
    let case = FactBundle {
        target: investigation.spec.target.as_ref(),
        alert_started_at: investigation.spec.alert_started_at,
        facts,
    };
    let (chain, mut names, time) = match &args.chain {
        None => (crate::model::Chain::of_rules(), Vec::new(), LIMIT),
        Some(path) => {
            let chain = valid(path)?;
            let names = chain.rungs.iter().map(|rung| rung.name.clone()).collect();
            let time = chain.deadline;
            let (ledger, keeper) = SpendLedger::new(InMemory::default(), new_holder(), Arc::new(clock::now));
            tokio::spawn(keeper);
            let sender = Arc::new(Sender::new(Credentials::new(&args.secrets), &args.network.network())?);
            let live = Arc::new(Live::new(chain, ledger, sender, Metrics::default()));
            let key = IncidentKey {
                namespace: investigation.namespace().unwrap_or_default(),
                name: investigation.spec.incident.clone(),
            };
            (model_rung::chain(&live, key), names, time)
        }
    };
    names.push(rules::NAME.to_owned());
    let answer = chain.ask(&names, case, Budget::new(time, TOKENS), clock::now).await;
    if args.json {
        let all = serde_json::json!({
            "diagnosis": answer.diagnosis, "secondOpinion": answer.second_opinion, "review": answer.review,
            "attempts": answer.attempts, "tokens": answer.spent.tokens, "costNanoDollars": answer.spent.nano_dollars,
        });
        println!("{}", serde_json::to_string_pretty(&all)?);
        return Ok(());
    }
    println!("{}", row(["rung", "upstream", "outcome", "status", "ms", "tokens", "cost", "then"].map(str::to_owned)));
    answer.attempts.iter().for_each(|attempt| println!("{}", row(columns(attempt))));
    println!("\n{}", told(&answer.diagnosis));
    if let Some(second) = answer.second_opinion {
        println!("\nsecond opinion: {}", told(&second));
    }
    if let Some(review) = answer.review.filter(|review| review.objects) {
        println!("\n{} objects: {}", review.rung, review.reason);
    }
    Ok(())
}

/// Checks models.
pub async fn models(args: ModelsArgs) -> anyhow::Result<()> {
    let ModelsCommand::Check(CheckArgs { chain, secrets, network }) = args.command;
    let chain = valid(&chain)?;
    let sender = Sender::new(Credentials::new(&secrets), &network.network())?;
    let mut failed = 0;
    println!(
        "{}",
        row(["rung", "upstream", "outcome", "status", "ms", "tokens", "cost", "served by"].map(str::to_owned))
    );
    for rung in &chain.rungs {
        for upstream in &rung.upstreams {
            let mut note = Attempt { rung: rung.name.clone(), upstream: upstream.name.clone(), ..Attempt::default() };
            let began = clock::now();
            match sender.send(upstream, &probe::question(), LIMIT).await {
                Ok(Reply { served_model, usage, status, .. }) => {
                    let priced = upstream.prices.as_ref().zip(usage);
                    let cost = priced.map_or(NanoDollars(0), |(prices, usage)| prices.cost(usage));
                    note.outcome = "Answered".into();
                    note.status = status.map(i32::from);
                    note.tokens = usage.map_or(0, |usage| i64::try_from(usage.total()).unwrap_or(i64::MAX));
                    note.cost_nano_dollars = i64::try_from(cost.0).unwrap_or(i64::MAX);
                    note.then = served_model.unwrap_or_default();
                }
                Err(signal) => {
                    let failure = classify(&signal, clock::now());
                    failed += 1;
                    note.outcome = failure.class.as_str().into();
                    note.status = failure.status.map(i32::from);
                    note.message = match sender.credentials().read(upstream.credentials.as_ref()).await {
                        Err(unreadable) if failure.status.is_none() => unreadable.to_string(),
                        _ => failure.message,
                    };
                }
            }
            let took = clock::now().duration_since(began);
            note.milliseconds = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
            println!("{}", row(columns(&note)));
        }
    }
    if failed > 0 {
        bail!("{failed} upstream(s) did not answer");
    }
    Ok(())
}

/// Reads an object from a file of YAML or JSON.
fn read<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_saphyr::from_str(&text)
        .with_context(|| format!("{} is not a valid object of the kind that its flag names", path.display()))
}

/// A chain from a file; warnings go to the terminal.
fn valid(path: &Path) -> anyhow::Result<ValidChain> {
    let object: ModelChain = read(path)?;
    match validate::of(&object) {
        Ok(Checked { chain, warnings }) => {
            warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
            Ok(chain)
        }
        Err(findings) => {
            let all: Vec<String> = findings.iter().map(ToString::to_string).collect();
            bail!("{} cannot be used:\n  {}", path.display(), all.join("\n  "))
        }
    }
}

fn columns(attempt: &Attempt) -> [String; 8] {
    let cost = NanoDollars(attempt.cost_nano_dollars.max(0).unsigned_abs());
    [
        attempt.rung.clone(),
        attempt.upstream.clone(),
        attempt.outcome.clone(),
        attempt.status.map(|status| status.to_string()).unwrap_or_default(),
        attempt.milliseconds.to_string(),
        attempt.tokens.to_string(),
        cost.to_string(),
        [attempt.then.as_str(), attempt.message.as_str()]
            .into_iter()
            .filter(|it| !it.is_empty())
            .collect::<Vec<_>>()
            .join(": "),
    ]
}

fn row(columns: [String; 8]) -> String {
    let [rung, upstream, outcome, status, ms, tokens, cost, then] = columns;
    format!("{rung:<16} {upstream:<20} {outcome:<20} {status:>6} {ms:>7} {tokens:>7} {cost:>11}  {then}")
        .trim_end()
        .into()
}

fn told(diagnosis: &Diagnosis) -> String {
    let Diagnosis { diagnoser, cause, confidence, hypothesis, advice, claims, proposal, .. } = diagnosis;
    let mut text = format!("{diagnoser} says {} ({confidence}%): {hypothesis}", cause.as_str());
    for claim in claims {
        text.push_str(&format!("\n  claim [{}] {}", claim.cites.join(" "), claim.text));
    }
    match proposal {
        Some(Proposal { action, target }) => {
            let action = (actions::of(action.kind()).describe)(action);
            text.push_str(&format!("\n  proposes {action} on {target}"));
        }
        None => text.push_str("\n  proposes no action"),
    }
    if !advice.is_empty() {
        text.push_str(&format!("\n  advice: {advice}"));
    }
    text
}
