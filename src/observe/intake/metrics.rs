//! Metrics of the intake. No label carries anything that a sender can choose.

use std::time::Duration;

use axum::http::StatusCode;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use crate::api::v1alpha1::IntakeReason;

/// What became of one alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AlertOutcome {
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

/// Why an alert was not taken as it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// A note on the Alert says it.
    Note(IntakeReason),
    /// Its namespace has too many Alerts.
    NamespaceFull,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    source: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    code: u16,
}

pub(super) struct Metrics {
    alerts: Family<AlertLabels, Counter>,
    reasons: Family<ReasonLabels, Counter>,
    requests: Family<RequestLabels, Counter>,
    duration: Histogram,
    pub truncated: Counter,
    /// When the alert `Watchdog`, which always fires, last came, in seconds since 1970; 0: not since this process started.
    pub watchdog: Gauge,
    pub cut_off: Counter,
}

impl Metrics {
    pub fn new(registry: &mut Registry) -> Metrics {
        let metrics = Metrics {
            alerts: Family::default(),
            reasons: Family::default(),
            requests: Family::default(),
            duration: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
            truncated: Counter::default(),
            watchdog: Gauge::default(),
            cut_off: Counter::default(),
        };
        registry.register("backstop_alerts_received", "Alerts by source and outcome", metrics.alerts.clone());
        registry.register("backstop_intake_requests", "Requests by status code", metrics.requests.clone());
        let help = "Time from a request's head to its answer";
        registry.register_with_unit("backstop_intake_duration", help, Unit::Seconds, metrics.duration.clone());
        let help = "Alerts that senders left out of their requests";
        registry.register("backstop_intake_truncated_alerts", help, metrics.truncated.clone());
        let help = "When the alert Watchdog was last received with a token of the cluster; 0 if not since the start";
        registry.register("backstop_watchdog_last_seen_timestamp_seconds", help, metrics.watchdog.clone());
        let help = "Requests that were longer than what is read of one";
        registry.register("backstop_intake_cut_off_requests", help, metrics.cut_off.clone());
        let help = "Alerts that were not taken as they were sent, by source and reason";
        registry.register("backstop_intake_irregular_alerts", help, metrics.reasons.clone());
        metrics
    }

    /// Counts one alert that was not taken as it was sent.
    pub fn irregular(&self, source: &'static str, why: Why) {
        let reason = match why {
            Why::Note(IntakeReason::Unreadable) => "unreadable",
            Why::Note(IntakeReason::ForeignNamespace) => "foreign_namespace",
            Why::Note(IntakeReason::ForeignCluster) => "foreign_cluster",
            Why::Note(IntakeReason::LeftOut) => "left_out",
            Why::Note(IntakeReason::NamespaceGone) => "namespace_gone",
            Why::Note(IntakeReason::RefusedByNamespace) => "refused_by_namespace",
            Why::NamespaceFull => "namespace_full",
        };
        self.reasons.get_or_create(&ReasonLabels { source, reason }).inc();
    }

    /// Counts one alert of a format; `source` is the format's label.
    pub fn alert(&self, source: &'static str, outcome: AlertOutcome) {
        let outcome = match outcome {
            AlertOutcome::Accepted => "accepted",
            AlertOutcome::Deduplicated => "deduplicated",
            AlertOutcome::Resolved => "resolved",
            AlertOutcome::Ignored => "ignored",
            AlertOutcome::Refused => "refused",
            AlertOutcome::Failed => "failed",
        };
        self.alerts.get_or_create(&AlertLabels { source, outcome }).inc();
    }

    pub fn request(&self, code: StatusCode, duration: Duration) {
        self.requests.get_or_create(&RequestLabels { code: code.as_u16() }).inc();
        self.duration.observe(duration.as_secs_f64());
    }
}
