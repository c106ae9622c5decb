//! `backstop disarm`: removes Backstop's labels from the workloads of the given namespaces, before an uninstall removes
//! the rights to do so.

use std::{cell::Cell, time::Duration};

use anyhow::bail;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, ResourceExt as _, api::ListParams};

use crate::{
    act, cluster,
    core::{
        execution::{LAG_PAUSE, Response, SETTLING_PAUSE, orphans},
        kube_name,
    },
};

/// An uninstall must not hang on this command.
const DEADLINE: Duration = Duration::from_secs(30);

/// Arguments of `backstop disarm`.
#[derive(clap::Args)]
pub struct Args {
    /// Namespaces, separated by commas.
    #[arg(long, value_delimiter = ',', required_unless_present = "namespace_selector")]
    namespaces: Vec<String>,
    /// Labels of the namespaces, such as `backstop.dev/enrol=true`.
    #[arg(long, conflicts_with = "namespaces")]
    namespace_selector: Option<String>,
}

/// Disarms targets and unmarks revisions; succeeds when there is nothing to do.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let client = cluster::connect().await?;
    let problem = Cell::new(String::from("the API server did not answer"));
    let all = async {
        let mut failed = Vec::new();
        let mut namespaces = args.namespaces.clone();
        if let Some(selector) = &args.namespace_selector {
            match selected(&client, selector).await {
                Ok(found) => namespaces = found,
                Err(error) => failed.push(format!("the namespaces with {selector} cannot be listed: {error}")),
            }
        }
        for namespace in namespaces.iter().map(|name| name.trim()).filter(|name| !name.is_empty()) {
            // One namespace that fails must not keep the others from being cleared.
            if let Err(error) = clear(&client, namespace, &problem).await {
                failed.push(format!("{error:#}"));
            }
        }
        failed
    };
    let failed = tokio::time::timeout(DEADLINE, all).await;
    match failed {
        Ok(failed) if failed.is_empty() => Ok(()),
        Ok(failed) => bail!("not everything could be disarmed: {}", failed.join("; ")),
        Err(_) => bail!("not everything could be disarmed in {} s: {}", DEADLINE.as_secs(), problem.take()),
    }
}

/// Names of the namespaces that a selector chooses.
async fn selected(client: &Client, selector: &str) -> Result<Vec<String>, kube::Error> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let found = namespaces.list_metadata(&ListParams::default().labels(selector)).await?;
    Ok(found.into_iter().map(|namespace| namespace.name_any()).collect())
}

async fn clear(client: &Client, namespace: &str, problem: &Cell<String>) -> anyhow::Result<()> {
    if !kube_name::is_subdomain(namespace) {
        bail!("{namespace:?} is not a valid namespace name: expected lower-case letters, digits and hyphens");
    }
    loop {
        let seen = match act::surroundings(client, namespace, Vec::new()).await {
            Ok(seen) => seen,
            // The rights are gone with a deleted namespace. What may not even be read was not armed by Backstop.
            Err(error) if error.forbidden => {
                println!("namespace {namespace}: no access, nothing to do ({error})");
                return Ok(());
            }
            Err(error) => {
                problem.set(error.to_string());
                tokio::time::sleep(SETTLING_PAUSE).await;
                continue;
            }
        };
        let Some(request) = orphans(&seen) else { return Ok(()) };
        let what = format!("{} {}/{}", request.verb.as_str(), request.namespace, request.name);
        match act::send(client, &request).await {
            Response::Done(_) => println!("{what}: done"),
            // Changed or gone since it was read.
            Response::Conflict | Response::NotFound => {}
            Response::Refused { policy: None, message } => bail!("{what} was refused: {message}"),
            Response::Refused { policy: Some(policy), message } => {
                problem.set(format!(
                    "{what} was refused by {policy}: {message}. A person with the right to do so can remove binding \
                     {policy}, which frees the object; the next helm upgrade restores it"
                ));
                tokio::time::sleep(LAG_PAUSE * 4).await;
            }
            Response::Unknown(why) | Response::BlockedByDisruptionBudget(why) => {
                problem.set(format!("{what}: {why}"));
                tokio::time::sleep(SETTLING_PAUSE).await;
            }
        }
    }
}
