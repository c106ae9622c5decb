//! Metrics of the intake. No label carries anything that a sender can choose.

use std::time::Duration;

use axum::http::StatusCode;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

/// What became of one alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Accepted,
    Deduplicated,
    Resolved,
    Ignored,
    Refused,
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AlertLabels {
    source: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    code: u16,
}

pub(super) struct Metrics {
    alerts: Family<AlertLabels, Counter>,
    requests: Family<RequestLabels, Counter>,
    duration: Histogram,
    pub truncated: Counter,
}

impl Metrics {
    pub fn new(registry: &mut Registry) -> Metrics {
        let metrics = Metrics {
            alerts: Family::default(),
            requests: Family::default(),
            duration: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
            truncated: Counter::default(),
        };
        registry.register("backstop_alerts_received", "Alerts by source and outcome", metrics.alerts.clone());
        registry.register("backstop_intake_requests", "Requests by status code", metrics.requests.clone());
        let help = "Time from a request's head to its answer";
        registry.register_with_unit("backstop_intake_duration", help, Unit::Seconds, metrics.duration.clone());
        let help = "Alerts that senders left out of their requests";
        registry.register("backstop_intake_truncated_alerts", help, metrics.truncated.clone());
        metrics
    }

    /// Counts one alert of a format; `source` is the format's label.
    pub fn alert(&self, source: &'static str, outcome: Outcome) {
        let outcome = match outcome {
            Outcome::Accepted => "accepted",
            Outcome::Deduplicated => "deduplicated",
            Outcome::Resolved => "resolved",
            Outcome::Ignored => "ignored",
            Outcome::Refused => "refused",
            Outcome::Failed => "failed",
        };
        self.alerts.get_or_create(&AlertLabels { source, outcome }).inc();
    }

    pub fn request(&self, code: StatusCode, duration: Duration) {
        self.requests.get_or_create(&RequestLabels { code: code.as_u16() }).inc();
        self.duration.observe(duration.as_secs_f64());
    }
}
