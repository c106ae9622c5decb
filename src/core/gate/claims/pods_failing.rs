//! `PodsFailing`: pods of the target fail, in the way that the claim names if it names one.

use crate::api::v1alpha1::{Claim, Fact, PodFailure};
use crate::core::workload::Workload;

use super::{ClaimRule, pods};

pub static RULE: ClaimRule = ClaimRule { supported, holds };

fn as_claimed(claim: &Claim, failure: PodFailure) -> bool {
    failure.is_hard() && claim.failure.is_none_or(|claimed| claimed == failure)
}

/// A pod is cited, and every cited pod fails as claimed.
fn supported(claim: &Claim, cited: &[&Fact]) -> bool {
    pods(cited).next().is_some() && pods(cited).all(|pod| as_claimed(claim, pod.failure))
}

/// A pod fails as claimed.
fn holds(claim: &Claim, workload: &Workload) -> bool {
    workload.pods.iter().any(|pod| as_claimed(claim, pod.fact.failure))
}
