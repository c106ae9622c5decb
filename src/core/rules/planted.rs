//! The rule of unit tests that proposes their action: the reading carries its sign, and pods fail.

use crate::api::v1alpha1::{Action, Cause, Diagnosis, Planted, Proposal};
use crate::core::actions::planted::{MOST, SIGN};

use super::evidence::Evidence;

pub fn diagnose(evidence: &Evidence) -> Option<Diagnosis> {
    let workload = evidence.workload.as_ref().filter(|workload| workload.data.progressing_reason == SIGN)?;
    let target = evidence.target.filter(|_| evidence.failing().next().is_some())?;
    let replicas = Some(MOST).filter(|most| i64::from(workload.data.desired) < *most)?;
    Some(Diagnosis {
        cause: Cause::Unknown,
        hypothesis: format!("{} has too few replicas", evidence.name()),
        suspect: Some(target.clone()),
        confidence: 90,
        proposal: Some(Proposal { action: Action::Planted(Planted { replicas }), target: target.clone() }),
        claims: evidence.failure_claims(),
        ..Diagnosis::default()
    })
}
