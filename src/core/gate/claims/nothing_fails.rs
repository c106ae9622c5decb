//! `NothingFails`: every replica is there and ready, and no pod fails. "No data" is no health.

use crate::api::v1alpha1::{Claim, Fact, FactData, PodFailure, WorkloadFact};
use crate::core::workload::Workload;

use super::{ClaimRule, pods};

pub static RULE: ClaimRule = ClaimRule { supported, holds };

/// The workload is cited with all that was asked for, pods are cited, and none of them fails.
fn supported(_: &Claim, cited: &[&Fact]) -> bool {
    let complete = cited.iter().any(|fact| matches!(&fact.data, FactData::Workload(workload) if complete(workload)));
    complete && pods(cited).next().is_some() && pods(cited).all(|pod| pod.failure == PodFailure::None)
}

fn complete(workload: &WorkloadFact) -> bool {
    workload.desired > 0 && workload.ready >= workload.desired
}

/// There are pods, and none fails in a way that a template can cause.
fn holds(_: &Claim, workload: &Workload) -> bool {
    !workload.pods.is_empty() && !workload.fails()
}
