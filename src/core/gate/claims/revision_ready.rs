//! `RevisionReady`: the revision that the claim names has ready replicas.

use crate::api::v1alpha1::{Claim, Fact};
use crate::core::workload::Workload;

use super::{ClaimRule, revisions};

pub static RULE: ClaimRule = ClaimRule { supported, holds };

/// That very revision is cited, with ready replicas.
fn supported(claim: &Claim, cited: &[&Fact]) -> bool {
    let Some(number) = claim.revision else { return false };
    revisions(cited).any(|revision| revision.number == number && revision.ready > 0)
}

/// It is recorded and has ready replicas now.
fn holds(claim: &Claim, workload: &Workload) -> bool {
    let Some(number) = claim.revision else { return false };
    workload.revision(number).is_some_and(|revision| revision.fact.ready > 0)
}
