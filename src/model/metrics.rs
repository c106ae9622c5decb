//! What calls of models count.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

/// Of one call. The names are the administrator's: a chain has at most 64 upstreams.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    chain: String,
    rung: String,
    upstream: String,
    outcome: String,
}

/// Of one upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpstreamLabels {
    chain: String,
    upstream: String,
}

/// Of a change of an upstream's standing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ChangeLabels {
    chain: String,
    upstream: String,
    change: &'static str,
}

/// Metrics of models. Clones are the same.
#[derive(Clone, Debug)]
pub struct Metrics {
    calls: Family<CallLabels, Counter>,
    seconds: Family<UpstreamLabels, Histogram>,
    tokens: Family<UpstreamLabels, Counter>,
    nano_dollars: Family<UpstreamLabels, Counter>,
    changes: Family<ChangeLabels, Counter>,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics {
            calls: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.05, 2.0, 12))),
            tokens: Family::default(),
            nano_dollars: Family::default(),
            changes: Family::default(),
        }
    }
}

impl Metrics {
    /// Adds them to `registry`.
    pub fn new(registry: &mut Registry) -> Metrics {
        let metrics = Metrics::default();
        registry.register("backstop_model_calls", "Calls of models by their outcome", metrics.calls.clone());
        let help = "Seconds of calls of models that were answered";
        registry.register("backstop_model_call_duration_seconds", help, metrics.seconds.clone());
        let help = "Tokens of prompts and answers together";
        registry.register("backstop_model_tokens", help, metrics.tokens.clone());
        let help = "Cost of calls of models, in billionths of a US dollar";
        registry.register("backstop_model_cost_nano_dollars", help, metrics.nano_dollars.clone());
        let help = "Changes of an upstream's standing, such as BreakerOpened";
        registry.register("backstop_model_upstream_changes", help, metrics.changes.clone());
        metrics
    }

    /// Counts a call.
    pub fn called(&self, chain: &str, attempt: &crate::api::v1alpha1::Attempt, answered: bool) {
        let (rung, upstream) = (attempt.rung.clone(), attempt.upstream.clone());
        let outcome = attempt.outcome.clone();
        let labels = CallLabels { chain: chain.to_owned(), rung, upstream: upstream.clone(), outcome };
        self.calls.get_or_create(&labels).inc();
        let labels = UpstreamLabels { chain: chain.to_owned(), upstream };
        self.tokens.get_or_create(&labels).inc_by(attempt.tokens.max(0).unsigned_abs());
        self.nano_dollars.get_or_create(&labels).inc_by(attempt.cost_nano_dollars.max(0).unsigned_abs());
        if answered {
            let took = Duration::from_millis(attempt.milliseconds.max(0).unsigned_abs());
            self.seconds.get_or_create(&labels).observe(took.as_secs_f64());
        }
    }

    /// Counts a change of an upstream's standing.
    pub fn changed(&self, chain: &str, upstream: &str, change: &'static str) {
        let labels = ChangeLabels { chain: chain.to_owned(), upstream: upstream.to_owned(), change };
        self.changes.get_or_create(&labels).inc();
    }
}
