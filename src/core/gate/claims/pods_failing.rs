//! `PodsFailing`: pods of the target fail, in the way that the claim names if it names one.

use crate::api::v1alpha1::{Claim, Fact, PodFailure};
use crate::core::workload::Workload;

use super::{ClaimRule, pods, refused};

pub static RULE: ClaimRule = ClaimRule { supported, holds };

fn as_claimed(claim: &Claim, failure: PodFailure) -> bool {
    failure.is_hard() && claim.failure.is_none_or(|claimed| claimed == failure)
}

/// A pod is cited, and every cited pod fails as claimed; pods that are refused are those of a cited revision.
fn supported(claim: &Claim, cited: &[&Fact]) -> bool {
    if claim.failure == Some(PodFailure::Refused) {
        return refused(cited).next().is_some();
    }
    pods(cited).next().is_some() && pods(cited).all(|pod| as_claimed(claim, pod.failure))
}

/// A pod fails as claimed, or is refused as claimed.
fn holds(claim: &Claim, workload: &Workload) -> bool {
    let refused = workload.refused().is_some() && as_claimed(claim, PodFailure::Refused);
    refused || workload.pods.iter().any(|pod| as_claimed(claim, pod.fact.failure))
}
