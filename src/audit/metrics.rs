//! What is counted about the log.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

/// Metrics of the log; there before it is opened, so that a scrape shows that it is not.
#[derive(Clone, Default)]
pub struct Metrics {
    pub(super) failures: Counter,
    pub(super) durable: Gauge,
    pub(super) waiting: Gauge,
    pub(super) lost: Counter,
    pub(super) free: Gauge<f64, AtomicU64>,
}

impl Metrics {
    /// Adds them to `registry`.
    pub fn register(registry: &mut Registry) -> Metrics {
        let metrics = Metrics::default();
        metrics.free.set(f64::NAN);
        let Metrics { failures, durable, waiting, lost, free } = metrics.clone();
        let help = "Records that could not be made durable in the audit log when they were needed";
        registry.register("backstop_audit_write_failures", help, failures);
        registry.register(
            "backstop_audit_durable",
            "1 while the audit log can be written; else no Grant opens",
            durable,
        );
        let help = "Records of what has happened that wait in memory until the audit log can be written";
        registry.register("backstop_audit_records_waiting", help, waiting);
        let help = "Records of what has happened that found no room in memory while the audit log could not be written";
        registry.register("backstop_audit_records_lost", help, lost);
        registry.register("backstop_audit_free_bytes", "Free space of the audit log's volume; NaN if unknown", free);
        metrics
    }
}
