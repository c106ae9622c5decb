//! `TemplateChanged`: the current template differs from that of the revision that the claim names, in more than a
//! restart.

use crate::api::v1alpha1::{Claim, Fact, FactData};
use crate::core::workload::Workload;

use super::ClaimRule;

pub static RULE: ClaimRule = ClaimRule { supported, holds };

/// A difference from that very revision is cited, and holds a change.
fn supported(claim: &Claim, cited: &[&Fact]) -> bool {
    let Some(number) = claim.revision else { return false };
    cited.iter().any(|fact| match &fact.data {
        FactData::RevisionDiff(diff) => diff.from == number && !diff.restart_only && !diff.changes.is_empty(),
        _ => false,
    })
}

/// The two recorded templates differ.
fn holds(claim: &Claim, workload: &Workload) -> bool {
    let Some(number) = claim.revision else { return false };
    let earlier = workload.earlier().find(|revision| revision.fact.number == number);
    let (Some(current), Some(earlier)) = (workload.current(), earlier) else { return false };
    let diff = workload.diff(earlier, current);
    !diff.restart_only && !diff.changes.is_empty()
}
