//! What stands around every request to a source: its timeout, its breaker, its count.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::breaker::Breakers;
use crate::{api::v1alpha1::SourceName, clock, cluster::ReadError};

/// Why a source gave nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// A constant, such as `Timeout`.
    pub reason: &'static str,
    /// One sentence for people.
    pub message: String,
}

impl Failure {
    /// No answer came within `budget`.
    pub fn timeout(budget: Duration) -> Failure {
        Failure { reason: "Timeout", message: format!("no answer within {} ms", budget.as_millis()) }
    }

    /// The source itself is at fault, and asking it again at once would be of no use.
    fn is_fault(&self) -> bool {
        matches!(self.reason, "Timeout" | "Unavailable")
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Failure { reason: error.reason(), message: error.to_string() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceOutcome {
    source: &'static str,
    outcome: &'static str,
}

/// The guard of all sources of this process.
#[derive(Default)]
pub struct Guard {
    breakers: Breakers,
    requests: Family<SourceOutcome, Counter>,
}

impl Guard {
    /// Adds its metrics to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Requests to sources of facts, by source and outcome";
        registry.register("backstop_source_requests", help, self.requests.clone());
    }

    /// Does `work`, one request to `source` about an object of `namespace`, within `budget`. Not done while the breaker of
    /// the two is open.
    pub async fn request<T>(
        &self,
        source: SourceName,
        namespace: &str,
        budget: Duration,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        if !self.breakers.allows(source, namespace, clock::now()) {
            self.count(source, "CircuitOpen");
            let message = "it failed several times in a row and is not asked again for half a minute".into();
            return Err(Failure { reason: "CircuitOpen", message });
        }
        let answer = tokio::time::timeout(budget, work).await.unwrap_or_else(|_| Err(Failure::timeout(budget)));
        let fault = answer.as_ref().is_err_and(Failure::is_fault);
        self.breakers.record(source, namespace, fault, clock::now());
        self.count(source, answer.as_ref().map_or_else(|failure| failure.reason, |_| "Answered"));
        answer
    }

    /// `outcome` is `Answered` or the reason of a failure.
    fn count(&self, source: SourceName, outcome: &'static str) {
        self.requests.get_or_create(&SourceOutcome { source: source.as_str(), outcome }).inc();
    }
}
