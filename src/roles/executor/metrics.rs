//! What the executor counts.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::core::execution::{PolicyName, Request, Response, Verb};

/// The executor's metrics. Cheap to clone; all clones count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    writes: Family<Write, Counter>,
    refusals: Family<Refusal, Counter>,
    fires: Counter,
    ready: Gauge,
    gone: Family<Namespace, Gauge>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Write {
    step: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Namespace {
    namespace: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Refusal {
    policy: String,
}

impl Metrics {
    /// Makes them part of what `/metrics` shows.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "backstop_executor_writes",
            "Requests of the executor by step and outcome, dry-runs included",
            self.writes.clone(),
        );
        registry.register(
            "backstop_executor_refusals",
            "Refusals by admission policy, expected ones of dry-runs included",
            self.refusals.clone(),
        );
        registry.register("backstop_executor_fires", "Granted changes that were accepted", self.fires.clone());
        registry.register(
            "backstop_executor_selftest_ready",
            "1 while the forbidden dry-runs are refused by the expected policies",
            self.ready.clone(),
        );
        registry.register(
            "backstop_executor_namespace_gone",
            "1 for each namespace that is enrolled by name and does not exist",
            self.gone.clone(),
        );
    }

    /// Counts one request and its answer.
    pub fn count(&self, request: &Request, outcome: &Response) {
        self.writes.get_or_create(&Write { step: request.verb.as_str(), outcome: outcome.as_str() }).inc();
        if let Response::Refused { policy, .. } = outcome {
            // Only names that we know become label values: others are chosen by whoever may make policies.
            let policy = match policy.as_deref() {
                Some(name) => PolicyName::ALL.into_iter().find(|known| *known == name).unwrap_or("other"),
                None => "none",
            };
            self.refusals.get_or_create(&Refusal { policy: policy.to_owned() }).inc();
        }
        if request.verb == Verb::Fire && matches!(outcome, Response::Done(_)) {
            self.fires.inc();
        }
    }

    /// Shows which namespaces are enrolled and do not exist: no more than are enrolled.
    pub fn set_gone(&self, namespaces: &[String]) {
        self.gone.clear();
        for namespace in namespaces {
            self.gone.get_or_create(&Namespace { namespace: namespace.clone() }).set(1);
        }
    }

    /// Shows the outcome of the self-test.
    pub fn set_ready(&self, ready: bool) {
        self.ready.set(ready.into());
    }
}
