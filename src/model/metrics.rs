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

use crate::{api::v1alpha1::Attempt, core::chain::failure::Class};

/// Outcome of a call that was answered.
pub const ANSWERED: &str = "Answered";

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

/// Of an attempt that was not sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UnsentLabels {
    chain: String,
    rung: String,
    upstream: String,
    reason: String,
}

/// Of an answer that is none. The problems are a closed set.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProblemLabels {
    chain: String,
    upstream: String,
    problem: String,
}

/// Of a refusal. The categories are a closed set.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    chain: String,
    upstream: String,
    category: String,
}

/// The category of a refusal of which nothing is said.
const NO_CATEGORY: &str = "none";

/// Metrics of models. Clones are the same.
#[derive(Clone, Debug)]
pub struct Metrics {
    calls: Family<CallLabels, Counter>,
    seconds: Family<UpstreamLabels, Histogram>,
    tokens: Family<UpstreamLabels, Counter>,
    nano_dollars: Family<UpstreamLabels, Counter>,
    changes: Family<ChangeLabels, Counter>,
    unsent: Family<UnsentLabels, Counter>,
    malformed: Family<ProblemLabels, Counter>,
    refusals: Family<RefusalLabels, Counter>,
    swaps: Family<UpstreamLabels, Counter>,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics {
            calls: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.05, 2.0, 12))),
            tokens: Family::default(),
            nano_dollars: Family::default(),
            changes: Family::default(),
            unsent: Family::default(),
            malformed: Family::default(),
            refusals: Family::default(),
            swaps: Family::default(),
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
        let help = "Attempts that were not sent, such as those that a budget refused";
        registry.register("backstop_model_unsent", help, metrics.unsent.clone());
        let help = "Answers that are none, by what is wrong about them";
        registry.register("backstop_model_malformed_answers", help, metrics.malformed.clone());
        registry.register("backstop_model_refusals", "Refusals by their category", metrics.refusals.clone());
        let help = "Answers of another model than was asked for";
        registry.register("backstop_model_swaps", help, metrics.swaps.clone());
        metrics
    }

    /// Counts an attempt, sent or not.
    pub fn noted(&self, chain: &str, attempt: &Attempt) {
        let (chain, rung, upstream) = (chain.to_owned(), attempt.rung.clone(), attempt.upstream.clone());
        let outcome = attempt.outcome.clone();
        if attempt.not_sent {
            let labels = UnsentLabels { chain, rung, upstream, reason: outcome };
            self.unsent.get_or_create(&labels).inc();
            return;
        }
        let labels = CallLabels { chain: chain.clone(), rung, upstream: upstream.clone(), outcome };
        self.calls.get_or_create(&labels).inc();
        let labels = UpstreamLabels { chain: chain.clone(), upstream: upstream.clone() };
        self.tokens.get_or_create(&labels).inc_by(attempt.tokens.max(0).unsigned_abs());
        self.nano_dollars.get_or_create(&labels).inc_by(attempt.cost_nano_dollars.max(0).unsigned_abs());
        let is = |class: Class| attempt.outcome == class.as_str();
        if attempt.outcome == ANSWERED {
            let took = Duration::from_millis(attempt.milliseconds.max(0).unsigned_abs());
            self.seconds.get_or_create(&labels).observe(took.as_secs_f64());
        } else if [Class::Malformed, Class::Truncated, Class::TooLarge, Class::NotOfSchema].into_iter().any(is) {
            let problem = if attempt.detail.is_empty() { &attempt.outcome } else { &attempt.detail };
            let labels = ProblemLabels { chain, upstream, problem: problem.clone() };
            self.malformed.get_or_create(&labels).inc();
        } else if is(Class::Refused) {
            let category = if attempt.detail.is_empty() { NO_CATEGORY } else { &attempt.detail };
            self.refusals.get_or_create(&RefusalLabels { chain, upstream, category: category.to_owned() }).inc();
        }
    }

    /// Counts an answer of another model than was asked for.
    pub fn swapped(&self, chain: &str, upstream: &str) {
        let labels = UpstreamLabels { chain: chain.to_owned(), upstream: upstream.to_owned() };
        self.swaps.get_or_create(&labels).inc();
    }

    /// Counts a change of an upstream's standing.
    pub fn changed(&self, chain: &str, upstream: &str, change: &'static str) {
        let labels = ChangeLabels { chain: chain.to_owned(), upstream: upstream.to_owned(), change };
        self.changes.get_or_create(&labels).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_attempt_is_counted_as_what_it_was() {
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        let noted = |outcome: &str, detail: &str, not_sent: bool| {
            let attempt = Attempt {
                rung: "big".into(),
                upstream: "a".into(),
                outcome: outcome.into(),
                detail: detail.into(),
                not_sent,
                tokens: 7,
                ..Attempt::default()
            };
            metrics.noted("c", &attempt);
        };
        noted("Answered", "", false);
        noted("IncidentBudget", "", true);
        for detail in ["TooLarge", "TooDeep", "OutOfBounds", "NotOfSchema", "NotJson", "UnaskedTool"] {
            noted("NotOfSchema", detail, false);
        }
        noted("Malformed", "Html", false);
        noted("Malformed", "", false);
        noted("TooLarge", "BodyTooLarge", false);
        noted("Refused", "cyber", false);
        noted("Refused", "", false);
        metrics.swapped("c", "a");
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "backstop_model_calls_total{chain=\"c\",rung=\"big\",upstream=\"a\",outcome=\"Answered\"} 1",
            "backstop_model_calls_total{chain=\"c\",rung=\"big\",upstream=\"a\",outcome=\"NotOfSchema\"} 6",
            "backstop_model_unsent_total{chain=\"c\",rung=\"big\",upstream=\"a\",reason=\"IncidentBudget\"} 1",
            "backstop_model_malformed_answers_total{chain=\"c\",upstream=\"a\",problem=\"TooDeep\"} 1",
            "backstop_model_malformed_answers_total{chain=\"c\",upstream=\"a\",problem=\"OutOfBounds\"} 1",
            "backstop_model_malformed_answers_total{chain=\"c\",upstream=\"a\",problem=\"Html\"} 1",
            "backstop_model_malformed_answers_total{chain=\"c\",upstream=\"a\",problem=\"Malformed\"} 1",
            "backstop_model_malformed_answers_total{chain=\"c\",upstream=\"a\",problem=\"BodyTooLarge\"} 1",
            "backstop_model_refusals_total{chain=\"c\",upstream=\"a\",category=\"cyber\"} 1",
            "backstop_model_refusals_total{chain=\"c\",upstream=\"a\",category=\"none\"} 1",
            "backstop_model_swaps_total{chain=\"c\",upstream=\"a\"} 1",
            "backstop_model_tokens_total{chain=\"c\",upstream=\"a\"} 84",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(
            !text.contains("calls_total{chain=\"c\",rung=\"big\",upstream=\"a\",outcome=\"IncidentBudget\"}"),
            "{text}"
        );
    }
}
