//! Tools that manage an object and would take a write of ours back.

/// A tool that manages objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tool {
    /// Argo CD: from Git.
    ArgoCd,
    /// Flux: from Git.
    Flux,
    /// Helm: when somebody upgrades.
    Helm,
    /// Any other, by the name that it goes by.
    Other(String),
}

impl Tool {
    /// The tool of this name, as a reading lists it.
    pub fn named(name: &str) -> Tool {
        match name {
            "argocd" => Tool::ArgoCd,
            "flux" => Tool::Flux,
            "helm" => Tool::Helm,
            other => Tool::Other(other.to_string()),
        }
    }
}
