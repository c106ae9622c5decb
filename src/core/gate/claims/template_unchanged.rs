//! `TemplateUnchanged`: the current template is that of the revision that the claim names, and something cited shows
//! that this template worked, or that configuration beside it changed.

use jiff::SignedDuration;

use crate::api::v1alpha1::{Claim, ConfigFact, Fact, FactData, PodFact, PodFailure, RevisionFact, Time};
use crate::core::workload::{STABLE_SECONDS, Workload};

use super::{ClaimRule, revisions};

pub static RULE: ClaimRule = ClaimRule { supported, holds };

/// A revision older than this when it was seen had time to prove itself.
const LONG: SignedDuration = SignedDuration::from_hours(1);

/// One of the cited facts shows it; facts of other revisions show nothing.
fn supported(claim: &Claim, cited: &[&Fact]) -> bool {
    let Some(number) = claim.revision else { return false };
    let current = || revisions(cited).find(|revision| revision.current && revision.number == number);
    cited.iter().any(|fact| match &fact.data {
        FactData::Pod(pod) => pod.revision == Some(number) && worked(pod, fact.seen_at),
        FactData::RevisionDiff(diff) => diff.to == number && diff.changes.is_empty(),
        FactData::Config(config) => current().is_some_and(|revision| changed_since(config, revision)),
        FactData::Revision(revision) => {
            revision.current
                && revision.number == number
                && revision.created_at.is_some_and(|created| fact.seen_at.duration_since(created) > LONG)
        }
        FactData::Workload(_)
        | FactData::Event(_)
        | FactData::Log(_)
        | FactData::Metric(_)
        | FactData::SourceFailed(_) => false,
    })
}

/// A pod that is ready for a while, was ready until a while after it was created, or had a long run.
fn worked(pod: &PodFact, seen_at: Time) -> bool {
    let lasted = |from: Time, to: Time| to.duration_since(from).as_secs() >= STABLE_SECONDS;
    let ready_long =
        pod.failure == PodFailure::None && pod.ready && pod.ready_since.is_some_and(|s| lasted(s, seen_at));
    let was_ready = !pod.ready && pod.created_at.zip(pod.ready_since).is_some_and(|(made, until)| lasted(made, until));
    ready_long || was_ready || pod.ran_seconds.is_some_and(|ran| ran >= STABLE_SECONDS)
}

/// Configuration that changed after the revision was created, or that is gone.
fn changed_since(config: &ConfigFact, revision: &RevisionFact) -> bool {
    match (config.exists, config.changed_at, revision.created_at) {
        (false, ..) => true,
        (true, Some(changed), Some(created)) => changed > created,
        (true, ..) => false,
    }
}

/// The workload's template is the one that this revision recorded.
fn holds(claim: &Claim, workload: &Workload) -> bool {
    let Some(number) = claim.revision else { return false };
    workload.current().is_some_and(|current| current.fact.number == number)
}
