//! What the investigator counts, besides the requests to its sources.

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

use crate::api::v1alpha1::Cause;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

/// Metrics of investigations.
pub struct Metrics {
    investigations: Family<OutcomeLabel, Counter>,
    duration: Histogram,
}

impl Metrics {
    /// Adds them to `registry`.
    pub fn new(registry: &mut Registry) -> Metrics {
        let metrics = Metrics {
            investigations: Family::default(),
            duration: Histogram::new(exponential_buckets(0.005, 2.0, 14)),
        };
        let help = "Investigations by their outcome";
        registry.register("backstop_investigations", help, metrics.investigations.clone());
        let help = "Seconds from the first source asked to the diagnosis written";
        registry.register("backstop_diagnosis_duration_seconds", help, metrics.duration.clone());
        metrics
    }

    /// Counts an investigation that ended with a diagnosis.
    pub fn diagnosed(&self, cause: Cause, took: Duration) {
        self.investigations.get_or_create(&OutcomeLabel { outcome: cause.as_str() }).inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// Counts an investigation whose diagnosis was not written, because it is another process's by now.
    pub fn lost(&self) {
        self.investigations.get_or_create(&OutcomeLabel { outcome: "Lost" }).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metrics_have_the_documented_names() {
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        metrics.diagnosed(Cause::BadRollout, Duration::from_millis(100));
        metrics.lost();
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for name in [
            "backstop_investigations_total{outcome=\"BadRollout\"}",
            "backstop_investigations_total{outcome=\"Lost\"}",
            "backstop_diagnosis_duration_seconds_count 1",
        ] {
            assert!(text.contains(name), "{text}");
        }
    }
}
