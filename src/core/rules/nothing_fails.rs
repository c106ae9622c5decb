//! Nothing fails any more. Only a workload that shows all that was asked for is recovered: "no data" is no health.

use crate::api::v1alpha1::{Cause, ClaimKind, Diagnosis, PodFailure, SourceName, WorkloadFact};
use crate::core::workload::complete;

use super::evidence::Evidence;
use super::{cite, claim};

pub fn diagnose(evidence: &Evidence) -> Option<Diagnosis> {
    let workload = evidence.workload.as_ref()?;
    let WorkloadFact { desired, ready, .. } = workload.data;
    let quiet = evidence.pods.iter().all(|pod| pod.data.failure == PodFailure::None);
    if !complete(workload.data)
        || !quiet
        || evidence.fails()
        || evidence.pods.is_empty()
        || evidence.failed(SourceName::Pods).is_some()
    {
        return None;
    }
    let cites = cite([workload.id].into_iter().chain(evidence.pods.iter().map(|pod| pod.id)));
    let text = format!("{ready} of {desired} replicas are ready and no pod fails");
    let (ns, name) = evidence.kubectl();
    Some(Diagnosis {
        cause: Cause::Recovered,
        hypothesis: format!("{} works: {text}", evidence.name()),
        confidence: 90,
        claims: vec![claim(ClaimKind::NothingFails, 0, cites, &text)],
        advice: format!("Nothing to repair. If users still see errors: kubectl {ns} logs {name} --since=15m."),
        ..Diagnosis::default()
    })
}
