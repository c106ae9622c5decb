//! `backstop crd`: the custom resource definitions, generated from the types.

use std::path::PathBuf;

use anyhow::Context as _;
use kube::ResourceExt as _;

use crate::api::v1alpha1::definitions;

/// Arguments of `backstop crd`.
#[derive(clap::Args)]
pub struct Args {
    /// Folder to write one file per kind into; standard output without it.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Writes the definitions.
pub fn run(args: Args) -> anyhow::Result<()> {
    for (name, text) in rendered()? {
        match &args.out {
            Some(folder) => {
                std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
                let path = folder.join(&name);
                std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            }
            None => println!("---\n{}", text.trim_end()),
        }
    }
    Ok(())
}

/// File name and text of each definition.
pub fn rendered() -> anyhow::Result<Vec<(String, String)>> {
    definitions()
        .into_iter()
        .map(|crd| {
            let text = serde_saphyr::to_string(&crd).with_context(|| format!("cannot print {}", crd.name_any()))?;
            Ok((format!("{}.yaml", crd.name_any()), text))
        })
        .collect()
}
