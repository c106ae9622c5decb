//! The kinds of claim that a diagnosis may make: a closed registry, one file each. No kind is believed by default.
//!
//! `supported` asks whether the cited facts carry the claim, by rule and never by similarity; `holds` asks whether it
//! is true of the controller's own reading. A claim that lacks what its kind needs is neither.

mod failing_pods_run_revision;
mod nothing_fails;
mod only_one_revision;
mod pods_failing;
mod revision_ready;
mod template_changed;
mod template_unchanged;
#[cfg(test)]
mod tests;

use crate::api::v1alpha1::{Claim, ClaimKind, Fact, FactData, PodFact, RevisionFact};
use crate::core::workload::Workload;

/// The rules of one kind of claim.
pub struct ClaimRule {
    /// Whether the facts that it cites carry it.
    pub supported: fn(&Claim, &[&Fact]) -> bool,
    /// Whether it is true of the workload as it was read.
    pub holds: fn(&Claim, &Workload) -> bool,
}

/// The rules of a kind of claim.
pub fn of(kind: ClaimKind) -> &'static ClaimRule {
    match kind {
        ClaimKind::PodsFailing => &pods_failing::RULE,
        ClaimKind::FailingPodsRunRevision => &failing_pods_run_revision::RULE,
        ClaimKind::TemplateChanged => &template_changed::RULE,
        ClaimKind::TemplateUnchanged => &template_unchanged::RULE,
        ClaimKind::RevisionReady => &revision_ready::RULE,
        ClaimKind::OnlyOneRevision => &only_one_revision::RULE,
        ClaimKind::NothingFails => &nothing_fails::RULE,
    }
}

/// The cited pods.
fn pods<'a>(cited: &'a [&'a Fact]) -> impl Iterator<Item = &'a PodFact> {
    cited.iter().filter_map(|fact| match &fact.data {
        FactData::Pod(pod) => Some(pod),
        _ => None,
    })
}

/// The cited revisions.
fn revisions<'a>(cited: &'a [&'a Fact]) -> impl Iterator<Item = &'a RevisionFact> {
    cited.iter().filter_map(|fact| match &fact.data {
        FactData::Revision(revision) => Some(revision),
        _ => None,
    })
}

/// The cited revisions whose pods are refused.
fn refused<'a>(cited: &'a [&'a Fact]) -> impl Iterator<Item = &'a RevisionFact> {
    revisions(cited).filter(|revision| revision.refused.is_some())
}
