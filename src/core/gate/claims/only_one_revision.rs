//! `OnlyOneRevision`: there is no other revision than the one that the claim names, the current one.

use crate::api::v1alpha1::{Claim, Fact};
use crate::core::workload::Workload;

use super::{ClaimRule, revisions};

pub static RULE: ClaimRule = ClaimRule { supported, holds };

/// That very revision is cited as the current one, and no other is.
fn supported(claim: &Claim, cited: &[&Fact]) -> bool {
    let Some(number) = claim.revision else { return false };
    let is_it = |revision: &crate::api::v1alpha1::RevisionFact| revision.current && revision.number == number;
    revisions(cited).next().is_some() && revisions(cited).all(is_it)
}

/// Exactly one revision is recorded, and it is that one. No revision at all proves nothing.
fn holds(claim: &Claim, workload: &Workload) -> bool {
    let Some(number) = claim.revision else { return false };
    matches!(workload.revisions.as_slice(), [only] if only.fact.current && only.fact.number == number)
}
