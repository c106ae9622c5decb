//! Objects in files, as `kubectl get -o yaml` prints them.

use std::path::Path;

use anyhow::Context as _;

use crate::{
    api::v1alpha1::ModelChain,
    core::chain::{
        spec::ValidChain,
        validate::{self, Checked},
    },
};

/// Reads an object from a file of YAML or JSON.
pub fn read<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_saphyr::from_str(&text).with_context(|| format!("{} is not the object that is expected", path.display()))
}

/// A chain from a file; warnings go to the terminal.
pub fn chain(path: &Path) -> anyhow::Result<ValidChain> {
    valid(&read(path)?, &path.display().to_string())
}

/// A chain that may be asked; `called` names it in errors, and warnings go to the terminal.
pub fn valid(object: &ModelChain, called: &str) -> anyhow::Result<ValidChain> {
    match validate::of(object) {
        Ok(Checked { chain, warnings }) => {
            warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
            Ok(chain)
        }
        Err(findings) => {
            let all: Vec<String> = findings.iter().map(ToString::to_string).collect();
            anyhow::bail!("{called} cannot be used:\n  {}", all.join("\n  "))
        }
    }
}
