//! Asks all sources side by side and numbers what they saw.
//!
//! Each source has its own timeout, breaker and size brake, and one that fails becomes a fact too.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt as _, future::Shared};
use kube::Client;

use super::{
    breaker::Breakers,
    metrics,
    sources::{config, events, logs, prometheus::Prometheus},
};
use crate::{
    api::v1alpha1::{Fact, FactData, InvestigationSpec, ObjectRef, SourceFailedFact, SourceName, Time},
    clock,
    cluster::{api::ReadError, snapshot},
    core::workload::{Draft, Workload, number},
};

/// How long one source may take.
const SOURCE_TIMEOUT: Duration = Duration::from_secs(3);

/// Why a source gave nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// A constant, such as `Timeout`.
    pub reason: &'static str,
    /// One sentence for people.
    pub message: String,
}

impl Failure {
    /// The source itself is at fault, and asking it again at once would be no use.
    fn is_fault(&self) -> bool {
        matches!(self.reason, "Timeout" | "Unavailable")
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Failure { reason: error.reason(), message: error.to_string() }
    }
}

/// What one source saw.
pub type Answer = Result<Vec<Draft>, Failure>;

/// The sources of this process with their breakers.
pub struct Gatherer {
    client: Client,
    prometheus: Option<Prometheus>,
    breakers: Breakers,
}

type SharedReading<'a> = Shared<futures::future::BoxFuture<'a, Result<Arc<Workload>, Failure>>>;

impl Gatherer {
    /// With the store of metrics at `prometheus_url`, if that is not empty.
    pub fn new(client: Client, prometheus_url: &str) -> anyhow::Result<Gatherer> {
        let prometheus = Prometheus::new(prometheus_url)?;
        Ok(Gatherer { client, prometheus, breakers: Breakers::default() })
    }

    /// Asks the sources that the spec names, until `until` at the latest.
    pub async fn gather(&self, spec: &InvestigationSpec, incident: ObjectRef, until: Time) -> Vec<Fact> {
        let Some(target) = &spec.target else {
            let message = "the alert names no object that exists in this cluster".to_owned();
            let nothing = Failure { reason: "NotFound", message };
            return number([failed(SourceName::Workload, &incident, &nothing, clock::now())]);
        };
        let budget = self.budget(until);
        let reading: SharedReading<'_> = async {
            let read = async {
                let snapshot = snapshot(&self.client, target, budget, clock::now()).await?;
                let reading = Workload::of(&snapshot).map_err(|error| unsupported(error.to_string()))?;
                Ok(Arc::new(reading))
            };
            // One request for three sources: its breaker is that of the first.
            self.guarded(SourceName::Workload, budget, read).await
        }
        .boxed()
        .shared();
        let all = SOURCES.iter().filter(|source| spec.sources.contains(source)).map(|source| {
            let reading = reading.clone();
            async move { (*source, self.ask(*source, target, reading, until).await) }
        });
        let drafts = futures::future::join_all(all).await.into_iter().flat_map(|(source, answer)| match answer {
            Ok(drafts) => drafts,
            Err(failure) => {
                tracing::info!(
                    source = source.as_str(),
                    reason = failure.reason,
                    message = failure.message,
                    "source gave nothing"
                );
                vec![failed(source, target, &failure, clock::now())]
            }
        });
        number(drafts)
    }

    async fn ask(&self, source: SourceName, target: &ObjectRef, reading: SharedReading<'_>, until: Time) -> Answer {
        match source {
            SourceName::Workload => Ok(reading.await?.workload_facts()),
            SourceName::Pods => Ok(reading.await?.pod_facts()),
            SourceName::RolloutHistory => Ok(reading.await?.history_facts()),
            SourceName::Events => {
                // The namespace is listed while the workload is read; the owners of events are chosen afterwards.
                let budget = self.budget(until);
                let listed = self.guarded(source, budget, events::list(&self.client, &target.namespace, budget));
                let (listed, reading) = futures::future::join(listed, reading).await;
                Ok(events::facts(&listed?, target, reading.as_deref().ok(), clock::now()))
            }
            SourceName::Logs => {
                let reading = reading.await?;
                let budget = self.budget(until);
                self.guarded(source, budget, logs::read(&self.client, &reading, budget)).await
            }
            SourceName::ConfigReferences => {
                let reading = reading.await?;
                let budget = self.budget(until);
                self.guarded(source, budget, config::read(&self.client, &reading, budget)).await
            }
            SourceName::Metrics => match &self.prometheus {
                Some(prometheus) => self.guarded(source, self.budget(until), prometheus.read(target)).await,
                None => {
                    let message = "no store of metrics is configured: set prometheusUrl in the chart's values".into();
                    Err(Failure { reason: "NotConfigured", message })
                }
            },
        }
    }

    /// What is left for a source that is asked now.
    fn budget(&self, until: Time) -> Duration {
        let left = until.as_millisecond().saturating_sub(clock::now().as_millisecond());
        SOURCE_TIMEOUT.min(Duration::from_millis(u64::try_from(left).unwrap_or_default()))
    }

    async fn guarded<T>(
        &self,
        source: SourceName,
        budget: Duration,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        if !self.breakers.allows(source, clock::now()) {
            metrics::asked(source.as_str(), "CircuitOpen");
            let message = "it failed several times in a row and is left alone for half a minute".into();
            return Err(Failure { reason: "CircuitOpen", message });
        }
        let answer = tokio::time::timeout(budget, work).await.unwrap_or_else(|_| {
            Err(Failure { reason: "Timeout", message: format!("no answer within {} ms", budget.as_millis()) })
        });
        let fault = answer.as_ref().is_err_and(Failure::is_fault);
        self.breakers.record(source, fault, clock::now());
        metrics::asked(source.as_str(), answer.as_ref().map_or_else(|failure| failure.reason, |_| "Answered"));
        answer
    }
}

/// The order in which facts are numbered.
const SOURCES: [SourceName; 7] = [
    SourceName::Workload,
    SourceName::Pods,
    SourceName::RolloutHistory,
    SourceName::ConfigReferences,
    SourceName::Events,
    SourceName::Logs,
    SourceName::Metrics,
];

fn unsupported(message: String) -> Failure {
    Failure { reason: "Unsupported", message }
}

fn failed(source: SourceName, object: &ObjectRef, failure: &Failure, seen_at: Time) -> Draft {
    let data = FactData::SourceFailed(SourceFailedFact { reason: failure.reason.to_owned() });
    let text = format!("{}: {}: {}", source.as_str(), failure.reason, failure.message);
    Draft { source, object: object.clone(), seen_at, data, text }
}
