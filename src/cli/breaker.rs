//! `backstop breaker`: shows the cascade breakers and the targets that are held, and resets them in a person's name.

use std::time::Duration;

use anyhow::{Context as _, bail};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::{
    api::v1alpha1::{Breaker, BreakerReset, BreakerState, Ledger, LedgerStatus, Time},
    cluster,
    core::budget::breaker,
};

/// Name of the Ledger of actions.
const ACTIONS: &str = "actions";
/// Resets that the Ledger keeps: the oldest make room.
const KEPT: usize = 50;
/// How long the controller is waited for.
const PATIENCE: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(250);

/// Arguments of `backstop breaker`.
#[derive(clap::Args)]
pub struct Args {
    /// Namespace of Backstop, which has the Ledger.
    #[arg(long, global = true, default_value = "backstop-system")]
    system: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Shows the breakers that are not closed, what opened them, and the targets that are held.
    Show,
    /// Closes a breaker in your name, and releases the targets that are held. The audit log says who did it, and why.
    Reset(ResetArgs),
}

#[derive(clap::Args)]
struct ResetArgs {
    /// The namespace. Without: the breaker of the cluster, and the targets of every namespace.
    #[arg(short, long)]
    namespace: Option<String>,
    /// Why it is safe to go on, at most 500 characters.
    #[arg(long)]
    why: String,
}

/// Runs the subcommand.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let client = cluster::connect().await?;
    let api: Api<Ledger> = Api::namespaced(client.clone(), &args.system);
    let ledger = read(&api, &args.system).await?;
    match args.command {
        Command::Show => {
            print!("{}", shown(&ledger.status.unwrap_or_default()));
            Ok(())
        }
        Command::Reset(asked) => reset(&client, &api, ledger, asked).await,
    }
}

async fn read(api: &Api<Ledger>, system: &str) -> anyhow::Result<Ledger> {
    let found = api.get_opt(ACTIONS).await.with_context(|| format!("cannot read Ledger {ACTIONS} in {system}"))?;
    found.with_context(|| {
        format!("there is no Ledger {ACTIONS} in namespace {system}: nothing was ever counted; or Backstop is in another one, see --system")
    })
}

async fn reset(client: &Client, api: &Api<Ledger>, ledger: Ledger, asked: ResetArgs) -> anyhow::Result<()> {
    let namespace = asked.namespace.unwrap_or_default();
    let status = ledger.status.unwrap_or_default();
    let Some(up_to) = breaker::resettable(&status, &namespace) else {
        println!("nothing to reset: the breaker is closed, and no target is held");
        return Ok(());
    };
    let by = username(client).await?;
    let reset = BreakerReset { namespace: namespace.clone(), up_to, by, why: asked.why };
    let mut resets = ledger.spec.resets;
    resets.push(reset);
    resets.drain(..resets.len().saturating_sub(KEPT));
    // Under the version that was read: nobody else's word is lost.
    let version = ledger.metadata.resource_version;
    let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"resets": resets}});
    let params = PatchParams { field_manager: Some("backstop-cli".into()), ..PatchParams::default() };
    api.patch(ACTIONS, &params, &Patch::Merge(patch)).await.context("the Ledger could not be changed")?;
    done(api, &namespace, up_to).await
}

/// Waits until the controller has done it.
async fn done(api: &Api<Ledger>, namespace: &str, up_to: Time) -> anyhow::Result<()> {
    let wait = async {
        loop {
            let status = api.get(ACTIONS).await?.status.unwrap_or_default();
            if !breaker::stands(&status, namespace, up_to) {
                return anyhow::Ok(status);
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let Ok(status) = tokio::time::timeout(PATIENCE, wait).await else {
        bail!(
            "it is written, and the controller has not done it within {} s: it does so once it leads and its audit log can \
             be written",
            PATIENCE.as_secs()
        );
    };
    let status = status?;
    match breaker::resettable(&status, namespace) {
        None => println!("reset"),
        Some(_) => println!("something else went wrong meanwhile, which is not reset:\n{}", shown(&status)),
    }
    Ok(())
}

/// Who asks, as the API server knows them.
async fn username(client: &Client) -> anyhow::Result<String> {
    let api: Api<SelfSubjectReview> = Api::all(client.clone());
    let review = api.create(&PostParams::default(), &SelfSubjectReview::default()).await;
    let review = review.context("the API server does not say who you are (SelfSubjectReview)")?;
    let user = review.status.and_then(|status| status.user_info).and_then(|user| user.username);
    user.context("the API server knows no name of yours")
}

/// The breakers that are not closed, with what opened them, and the targets that are held.
fn shown(status: &LedgerStatus) -> String {
    let mut lines = vec![];
    let all = [("of the cluster".to_owned(), &status.breaker)].into_iter();
    let own = status.breakers.iter().map(|own| (format!("of namespace {}", own.namespace), &own.breaker));
    for (name, Breaker { state, opened_at, reason, opened_by, .. }) in all.chain(own) {
        if *state != BreakerState::Closed {
            let at = opened_at.map(|at| at.to_string()).unwrap_or_default();
            let word = if *state == BreakerState::Open { "open" } else { "half-open" };
            lines.push(format!("the cascade breaker {name} is {word} since {at}: {reason} of Incident {opened_by}"));
        }
    }
    for anomaly in &status.anomalies {
        lines.push(format!("  {} {} of Incident {}", anomaly.at, anomaly.kind, anomaly.incident));
    }
    for entry in status.entries.iter().filter(|entry| !entry.failed.is_empty()) {
        lines.push(format!(
            "{} in namespace {} is held: the write of Incident {} at {} did not hold ({})",
            entry.target, entry.namespace, entry.incident, entry.at, entry.failed
        ));
    }
    if lines.is_empty() {
        lines.push("every cascade breaker is closed, and no target is held".to_owned());
    }
    lines.join("\n") + "\n"
}
