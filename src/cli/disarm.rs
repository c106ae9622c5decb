//! `backstop disarm`: takes every label of ours off the workloads of some namespaces, before an uninstall takes
//! the rights for that away.

use std::time::Duration;

use anyhow::{Context as _, bail};
use kube::Client;

use crate::{
    act, cluster,
    core::act::{LAG_PAUSE, Outcome, sweep},
};

/// An uninstall must not hang on us.
const DEADLINE: Duration = Duration::from_secs(30);

/// Arguments of `backstop disarm`.
#[derive(clap::Args)]
pub struct Args {
    /// Namespaces, separated by commas.
    #[arg(long, value_delimiter = ',', required = true)]
    namespaces: Vec<String>,
}

/// Disarms and unmarks everything; fine when there is nothing.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let client = cluster::connect().await?;
    let mut problem = String::from("the API server did not answer");
    let all = async {
        for namespace in args.namespaces.iter().map(|name| name.trim()).filter(|name| !name.is_empty()) {
            clear(&client, namespace, &mut problem).await?;
        }
        anyhow::Ok(())
    };
    match tokio::time::timeout(DEADLINE, all).await {
        Ok(outcome) => outcome,
        Err(_) => bail!("not everything could be disarmed in {} s: {problem}", DEADLINE.as_secs()),
    }
}

async fn clear(client: &Client, namespace: &str, problem: &mut String) -> anyhow::Result<()> {
    loop {
        let seen = act::surroundings(client, namespace, Vec::new()).await.context("cannot look for what is armed")?;
        let Some(request) = sweep(&seen) else { return Ok(()) };
        let what = format!("{} {}/{}", request.verb.as_str(), request.namespace, request.name);
        match act::send(client, &request).await {
            Outcome::Done(_) => println!("{what}: done"),
            // Changed or gone since it was read.
            Outcome::Conflict | Outcome::NotFound => {}
            Outcome::Refused { policy: None, message } => bail!("{what} was refused: {message}"),
            Outcome::Refused { policy: Some(policy), message } => {
                *problem = format!(
                    "{what} was refused by {policy}: {message}. A person with the right to do so can remove binding \
                     {policy}, which frees the object; the next helm upgrade restores it"
                );
                tokio::time::sleep(LAG_PAUSE * 4).await;
            }
            Outcome::Unknown(why) => {
                *problem = format!("{what}: {why}");
                tokio::time::sleep(LAG_PAUSE * 20).await;
            }
        }
    }
}
