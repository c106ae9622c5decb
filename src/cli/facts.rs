//! `backstop facts export`: writes fact bundles, which `backstop diagnose --investigation` and `backstop models eval` read.
//!
//! It needs only the right to read Backstop's kinds, which the ClusterRole `view` has; from files it needs no cluster.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use kube::{Api, Client, ResourceExt as _, api::ListParams};

use super::files::read;
use crate::{
    api::v1alpha1::{Incident, Investigation},
    cluster,
    core::bundle,
};

/// Investigations in one page of a list: one with its facts may have most of a megabyte.
const PAGE: u32 = 20;

/// Arguments of `backstop facts`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Writes what Investigations saw to files, without secrets, ids and answers.
    Export(Export),
}

/// Arguments of `backstop facts export`.
#[derive(clap::Args)]
struct Export {
    /// Names of Investigations, or of Incidents: of these the Investigation that was decided on. Without names and files:
    /// every Investigation of the namespace that ended.
    names: Vec<String>,
    /// Namespace of the Investigations. Without: that of the kubeconfig context.
    #[arg(short, long)]
    namespace: Option<String>,
    /// Read Investigations from these files instead, as `kubectl get investigation NAME -o yaml` prints them.
    #[arg(short, long, conflicts_with = "names")]
    file: Vec<PathBuf>,
    /// Where to write: a file for one bundle, or a folder, which gets a file for each. Without: standard output, one
    /// bundle.
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// A name that stands for the namespace in the bundles.
    #[arg(long)]
    namespace_as: Option<String>,
}

/// Writes the bundles.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let Command::Export(args) = args.command;
    let found = if args.file.is_empty() {
        from_cluster(&args).await?
    } else {
        args.file.iter().map(|path| Ok((stem(path), read(path)?))).collect::<anyhow::Result<_>>()?
    };
    let mut bundles = Vec::new();
    for (name, investigation) in found {
        let bundle = bundle::of(&investigation, args.namespace_as.as_deref())
            .and_then(|bundle| bundle::text(&bundle))
            .with_context(|| format!("Investigation {name}"))?;
        bundles.push((name, bundle));
    }
    match (&args.output, bundles.as_slice()) {
        (_, []) => bail!("no Investigation here has ended"),
        (None, [(_, bundle)]) => print!("{bundle}"),
        (None, more) => bail!("{} bundles are too many for standard output: name a folder with --output", more.len()),
        (Some(path), [(_, bundle)]) if !is_folder(path) => write(path, bundle)?,
        (Some(folder), all) => {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
            for (name, bundle) in all {
                write(&folder.join(format!("{name}.yaml")), bundle)?;
            }
        }
    }
    Ok(())
}

/// The Investigations that are meant, each with the name of its file.
async fn from_cluster(args: &Export) -> anyhow::Result<Vec<(String, Investigation)>> {
    let client = cluster::connect().await?;
    let namespace = args.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
    let api: Api<Investigation> = Api::namespaced(client.clone(), &namespace);
    let mut found = Vec::new();
    for name in &args.names {
        let one = named(&client, &api, &namespace, name).await?;
        found.push((name.clone(), one));
    }
    if args.names.is_empty() {
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let list = api
                .list(&page)
                .await
                .with_context(|| format!("cannot list investigations.backstop.dev in namespace {namespace}"))?;
            let ended = |one: &Investigation| one.status.as_ref().is_some_and(|status| status.phase.is_final());
            found.extend(list.items.into_iter().filter(ended).map(|one| (one.name_any(), one)));
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => break,
            }
        }
    }
    Ok(found)
}

/// An Investigation by its own name, or by that of its Incident.
async fn named(
    client: &Client,
    api: &Api<Investigation>,
    namespace: &str,
    name: &str,
) -> anyhow::Result<Investigation> {
    let reading = || format!("cannot read investigations.backstop.dev in namespace {namespace}");
    if let Some(one) = api.get_opt(name).await.with_context(reading)? {
        return Ok(one);
    }
    let incidents: Api<Incident> = Api::namespaced(client.clone(), namespace);
    let Some(incident) = incidents.get_opt(name).await.with_context(reading)? else {
        bail!("namespace {namespace} has neither an Investigation nor an Incident {name}")
    };
    let Some(decided_on) = incident.status.and_then(|status| status.investigation) else {
        bail!("Incident {name} was not investigated")
    };
    api.get(&decided_on).await.with_context(reading)
}

/// A folder that is there, or a path that ends as one.
fn is_folder(path: &Path) -> bool {
    path.is_dir() || path.as_os_str().to_string_lossy().ends_with('/')
}

fn stem(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}", path.display());
    Ok(())
}
