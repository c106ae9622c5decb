//! `backstop diagnose`: one diagnosis from files, against any endpoint and without a cluster: for people who try a chain
//! before they trust it. `backstop models check` asks each upstream one cheap question.

use std::{path::PathBuf, time::Duration};

use anyhow::bail;
use kube::ResourceExt as _;

use super::{
    asking::{Diagnosers, NetworkArgs},
    eval, files,
};
use crate::{
    api::v1alpha1::{Attempt, Diagnosis, IncidentKey, Investigation, Proposal},
    clock,
    core::{
        actions,
        chain::{breaker::Verdict, decision::decide, failure::classify, spec::Upstream},
        money::NanoDollars,
    },
    model::{
        credentials::{Credentials, ROOT},
        probe,
        send::{Reply, Sender},
    },
};

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
    /// Has recorded fact bundles diagnosed, and prints how often that was right.
    Eval(eval::Args),
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
    let investigation: Investigation = files::read(&args.investigation)?;
    let facts = investigation.status.as_ref().map(|status| status.facts.as_slice()).unwrap_or_default();
    if facts.is_empty() {
        bail!("{} has no facts: it needs the status of an Investigation that ended", args.investigation.display());
    }
    let diagnosers = Diagnosers::of(args.chain.as_deref(), &args.secrets, &args.network)?;
    let key = IncidentKey {
        namespace: investigation.namespace().unwrap_or_default(),
        name: investigation.spec.incident.clone(),
    };
    let answer = diagnosers.ask(&investigation, key).await;
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
    match args.command {
        ModelsCommand::Check(args) => check(args).await,
        ModelsCommand::Eval(args) => eval::run(args).await,
    }
}

async fn check(args: CheckArgs) -> anyhow::Result<()> {
    let CheckArgs { chain, secrets, network } = args;
    let chain = files::chain(&chain)?;
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
                    note.then = served(upstream, served_model.as_deref());
                }
                Err(signal) => {
                    let failure = classify(&signal, clock::now());
                    // One that reasons until the few tokens of the question are used up works.
                    let works = decide(&failure, &[], true).verdict == Verdict::Worked;
                    failed += usize::from(!works);
                    note.then = served(upstream, signal.served_model.as_deref());
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

/// The model that answered, and which one it should have been where that is another.
fn served(upstream: &Upstream, served: Option<&str>) -> String {
    let instead = upstream.swapped(served).map(|_| format!(" instead of {}", upstream.model));
    served.unwrap_or_default().to_owned() + &instead.unwrap_or_default()
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
