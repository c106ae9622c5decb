//! Metrics of the controller. No ids in labels.

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

use crate::api::v1alpha1::{Breaker, BreakerState, LedgerStatus};

use super::deciding::Unanswered;

/// Labels of a decision.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Decided {
    /// `Act`, `Wait`, `AwaitApproval` or `Escalate`.
    pub outcome: &'static str,
    /// The constant that decided.
    pub reason: &'static str,
}

/// One constant.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Labels {
    /// The constant.
    pub reason: &'static str,
}

/// What became of a hand-over by the watchdog.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct OutcomeLabel {
    /// `stored`, `moved-on`, `told` or `unheard`.
    pub outcome: &'static str,
}

/// One kind of object.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct OfKind {
    /// The kind.
    pub kind: String,
}

/// Whose cascade breaker.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Scope {
    /// `cluster` or `namespace`.
    pub scope: &'static str,
}

/// Metrics of the controller.
#[derive(Clone)]
pub struct Metrics {
    /// Incidents opened.
    pub opened: Counter,
    /// Incidents that reached a final phase, by reason.
    pub ended: Family<Labels, Counter>,
    /// Decisions.
    pub decisions: Family<Decided, Counter>,
    /// Grants opened.
    pub grants: Counter,
    /// Anomalies counted by the cascade breaker.
    pub anomalies: Family<Labels, Counter>,
    /// Cascade breakers that are not closed, as the Ledger was last seen.
    pub breakers: Family<Scope, Gauge>,
    /// Steps whose checks gave no answer in time, by why.
    pub unanswered: Family<Labels, Counter>,
    /// Steps that failed and are tried again.
    pub errors: Family<Labels, Counter>,
    /// Incidents and Alerts that the watchdog handed over, by what became of it.
    pub watchdog: Family<OutcomeLabel, Counter>,
    /// Looks of the watchdog; one that stands still is dead.
    pub watchdog_looks: Counter,
    /// Incidents and Alerts that did not get on at the last look.
    pub stuck: Gauge,
    /// Incidents of which somebody has not been told, at the last look of the watchdog.
    pub untold: Gauge,
    /// Objects seen that this version cannot decode, by kind.
    pub undecodable: Family<OfKind, Counter>,
    /// Incidents that were deleted before people were told of them.
    pub deleted_untold: Counter,
    /// Objects that the caches leave out, because their namespaces have more than are kept of one, by kind.
    pub left_out: Family<OfKind, Gauge>,
    /// Alerts that are stored.
    pub alerts: Gauge,
    /// Namespaces that have as many Alerts as they may.
    pub full: Gauge,
    /// From receipt of the alert to the plan, in seconds.
    pub to_plan: Histogram,
    /// From receipt of the alert to the accepted write, in seconds.
    pub to_fire: Histogram,
    /// From the accepted write to recovery, in seconds.
    pub to_recovery: Histogram,
}

impl Metrics {
    /// Registers them.
    pub fn register(registry: &mut Registry) -> Metrics {
        let metrics = Metrics {
            opened: Counter::default(),
            ended: Family::default(),
            decisions: Family::default(),
            grants: Counter::default(),
            anomalies: Family::default(),
            breakers: Family::default(),
            unanswered: Family::default(),
            errors: Family::default(),
            watchdog: Family::default(),
            watchdog_looks: Counter::default(),
            stuck: Gauge::default(),
            untold: Gauge::default(),
            undecodable: Family::default(),
            deleted_untold: Counter::default(),
            left_out: Family::default(),
            alerts: Gauge::default(),
            full: Gauge::default(),
            to_plan: Histogram::new(exponential_buckets(0.01, 2.0, 12)),
            to_fire: Histogram::new(exponential_buckets(0.05, 2.0, 12)),
            to_recovery: Histogram::new(exponential_buckets(0.5, 2.0, 12)),
        };
        let Metrics { opened, ended, decisions, grants, anomalies, unanswered, errors, .. } = &metrics;
        let Metrics {
            watchdog,
            watchdog_looks,
            stuck,
            untold,
            undecodable,
            deleted_untold,
            left_out,
            alerts,
            full,
            ..
        } = &metrics;
        let Metrics { to_plan, to_fire, to_recovery, breakers, .. } = &metrics;
        // From 0 on: what was never counted before has no increase.
        for why in Unanswered::ALL {
            let _ = unanswered.get_or_create(&Labels { reason: why.as_str() });
        }
        registry.register("backstop_incidents_opened", "Incidents opened", opened.clone());
        registry.register("backstop_incidents_ended", "Incidents that reached a final phase", ended.clone());
        registry.register("backstop_gate_decisions", "Decisions of the gate", decisions.clone());
        registry.register("backstop_grants_opened", "Grants opened", grants.clone());
        registry.register("backstop_anomalies", "Anomalies counted by the cascade breaker", anomalies.clone());
        registry.register("backstop_breakers_open", "Cascade breakers that are not closed", breakers.clone());
        let none = "Steps whose checks gave no answer in time, and so refused";
        registry.register("backstop_decisions_unanswered", none, unanswered.clone());
        registry.register("backstop_reconcile_errors", "Steps that failed and are tried again", errors.clone());
        let handed = "Incidents and Alerts that the watchdog handed over, by what became of it";
        registry.register("backstop_watchdog_handovers", handed, watchdog.clone());
        registry.register("backstop_watchdog_looks", "Looks of the watchdog", watchdog_looks.clone());
        registry.register("backstop_watchdog_stuck", "Incidents and Alerts without progress", stuck.clone());
        let untold_help = "Incidents of which a notification has not arrived everywhere";
        registry.register("backstop_notifications_waiting", untold_help, untold.clone());
        let cannot = "Objects seen that this version cannot decode";
        registry.register("backstop_undecodable_objects", cannot, undecodable.clone());
        let gone = "Incidents that were deleted before people were told of them";
        registry.register("backstop_incidents_deleted_untold", gone, deleted_untold.clone());
        let more = "Objects that are left out, because their namespaces have more than are kept of one";
        registry.register("backstop_objects_left_out", more, left_out.clone());
        registry.register("backstop_alerts_stored", "Alerts that are stored", alerts.clone());
        registry.register(
            "backstop_alert_namespaces_full",
            "Namespaces with all the Alerts they may have",
            full.clone(),
        );
        let mut seconds = |name: &str, help: &str, histogram: &Histogram| {
            registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
        };
        seconds("backstop_alert_to_plan", "From receipt of the alert to the plan", to_plan);
        seconds("backstop_alert_to_fire", "From receipt of the alert to the accepted write", to_fire);
        seconds("backstop_fire_to_recovery", "From the accepted write to recovery", to_recovery);
        metrics
    }

    /// Shows how many breakers are not closed in the Ledger of actions.
    pub fn show_breakers(&self, ledger: &LedgerStatus) {
        let open = |breaker: &Breaker| breaker.state != BreakerState::Closed;
        let namespaces = ledger.breakers.iter().filter(|own| open(&own.breaker)).count();
        for (scope, number) in [("cluster", usize::from(open(&ledger.breaker))), ("namespace", namespaces)] {
            self.breakers.get_or_create(&Scope { scope }).set(i64::try_from(number).unwrap_or(i64::MAX));
        }
    }
}
