//! `FailingPodsRunRevision`: the pods that fail run the revision that the claim names.

use crate::api::v1alpha1::{Claim, Fact};
use crate::core::workload::Workload;

use super::{ClaimRule, pods, refused};

pub static RULE: ClaimRule = ClaimRule { supported, holds };

/// A failing pod is cited, or a revision whose pods are refused, and every one that is cited runs or is the revision.
fn supported(claim: &Claim, cited: &[&Fact]) -> bool {
    let Some(number) = claim.revision else { return false };
    let failing = || pods(cited).filter(|pod| pod.failure.is_hard());
    (failing().next().is_some() || refused(cited).next().is_some())
        && failing().all(|pod| pod.revision == Some(number))
        && refused(cited).all(|revision| revision.number == number)
}

/// Something fails, and all that fails is of the revision.
fn holds(claim: &Claim, workload: &Workload) -> bool {
    let Some(number) = claim.revision else { return false };
    workload.fails()
        && workload.failing_pods().all(|pod| pod.fact.revision == Some(number))
        && workload.refused().is_none_or(|(revision, _)| revision.fact.number == number)
}
