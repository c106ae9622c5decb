//! What the investigator counts.

use std::sync::LazyLock;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceOutcome {
    source: &'static str,
    outcome: &'static str,
}

struct Metrics {
    investigations: Family<Outcome, Counter>,
    source_requests: Family<SourceOutcome, Counter>,
    duration: Histogram,
}

static METRICS: LazyLock<Metrics> = LazyLock::new(|| Metrics {
    investigations: Family::default(),
    source_requests: Family::default(),
    duration: Histogram::new(exponential_buckets(0.005, 2.0, 14)),
});

/// Adds the metrics of the investigator to a registry.
pub fn register(registry: &mut Registry) {
    let Metrics { investigations, source_requests, duration } = &*METRICS;
    registry.register("backstop_investigations", "Investigations by their outcome", investigations.clone());
    registry.register(
        "backstop_source_requests",
        "Requests to sources of facts, by source and outcome",
        source_requests.clone(),
    );
    registry.register(
        "backstop_diagnosis_duration_seconds",
        "Seconds from the first source asked to the diagnosis written",
        duration.clone(),
    );
}

/// Counts an investigation that ended; `outcome` is a bounded word such as a cause.
pub fn investigated(outcome: &'static str) {
    METRICS.investigations.get_or_create(&Outcome { outcome }).inc();
}

/// Counts an answer of a source; `outcome` is `Answered` or the reason of its failure.
pub fn asked(source: &'static str, outcome: &'static str) {
    METRICS.source_requests.get_or_create(&SourceOutcome { source, outcome }).inc();
}

/// Records how long a diagnosis took.
pub fn diagnosed(seconds: f64) {
    METRICS.duration.observe(seconds);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metrics_have_the_documented_names() {
        let mut registry = Registry::default();
        register(&mut registry);
        investigated("BadRollout");
        asked("Pods", "Answered");
        diagnosed(0.1);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for name in [
            "backstop_investigations_total{outcome=\"BadRollout\"}",
            "backstop_source_requests_total{source=\"Pods\",outcome=\"Answered\"}",
            "backstop_diagnosis_duration_seconds_count",
        ] {
            assert!(text.contains(name), "{text}");
        }
    }
}
