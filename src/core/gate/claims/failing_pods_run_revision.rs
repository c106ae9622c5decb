//! `FailingPodsRunRevision`: the pods that fail run the revision that the claim names.

use crate::api::v1alpha1::{Claim, Fact};
use crate::core::workload::Workload;

use super::{ClaimRule, pods};

pub static RULE: ClaimRule = ClaimRule { supported, holds };

/// A failing pod is cited, and every cited one that fails runs the revision.
fn supported(claim: &Claim, cited: &[&Fact]) -> bool {
    let Some(number) = claim.revision else { return false };
    let failing = || pods(cited).filter(|pod| pod.failure.is_hard());
    failing().next().is_some() && failing().all(|pod| pod.revision == Some(number))
}

/// A pod fails, and every one that fails runs the revision.
fn holds(claim: &Claim, workload: &Workload) -> bool {
    let Some(number) = claim.revision else { return false };
    workload.failing_pods().next().is_some() && workload.failing_pods().all(|pod| pod.fact.revision == Some(number))
}
