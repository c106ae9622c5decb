//! `TemplateUnchanged`: the current template is that of the revision that the claim names, and something cited shows
//! that this template worked, that configuration beside it changed, or that what is missing an earlier one needs too.

use jiff::SignedDuration;

use crate::api::v1alpha1::{Claim, ConfigFact, Fact, FactData, Obstacle, RevisionFact};
use crate::core::workload::{Workload, needs, only_configuration, proof};

use super::{ClaimRule, revisions};

pub static RULE: ClaimRule = ClaimRule { supported, holds };

/// A revision older than this when it was seen had time to prove itself.
const LONG: SignedDuration = SignedDuration::from_hours(1);

/// One of the cited facts shows it; facts of other revisions show nothing.
fn supported(claim: &Claim, cited: &[&Fact]) -> bool {
    let Some(number) = claim.revision else { return false };
    let current = || revisions(cited).find(|revision| revision.current && revision.number == number);
    let shared = |obstacle: &Option<Obstacle>| {
        let missing = obstacle.as_ref().and_then(|obstacle| obstacle.missing.as_ref());
        let earlier = || revisions(cited).filter(|revision| !revision.current);
        missing.is_some_and(|missing| earlier().any(|revision| needs(&revision.references, missing)))
    };
    cited.iter().any(|fact| match &fact.data {
        FactData::Pod(pod) => {
            pod.revision == Some(number) && (proof(pod, fact.seen_at).is_some() || shared(&pod.obstacle))
        }
        FactData::Event(event) => shared(&event.obstacle),
        FactData::RevisionDiff(diff) => {
            diff.to == number && (diff.changes.is_empty() || only_configuration(&diff.changes))
        }
        FactData::Config(config) => current().is_some_and(|revision| changed_since(config, revision)),
        FactData::Revision(revision) => {
            let long_ago = revision.created_at.is_some_and(|created| fact.seen_at.duration_since(created) > LONG);
            revision.current && revision.number == number && (long_ago || shared(&revision.refused))
        }
        FactData::Workload(_) | FactData::Log(_) | FactData::Metric(_) | FactData::SourceFailed(_) => false,
    })
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
