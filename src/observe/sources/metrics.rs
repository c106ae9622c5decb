//! Two fixed queries to the store of metrics. Its answers are text for people: an empty vector, `NaN` or an old
//! sample is unknown, never healthy.

use anyhow::Context as _;
use futures::future::BoxFuture;
use serde_json::Value;

use super::source::{Answer, Failure, Question, Source};
use crate::{
    api::v1alpha1::{FactData, MetricFact, ObjectRef, SourceName},
    clock,
    core::kube_name::is_subdomain,
    core::{redact, workload::Draft},
};

/// Bytes of an answer that are read.
const MAX_BYTES: usize = 64 * 1024;
/// A sample older than this says nothing about now.
const STALE_SECONDS: i64 = 300;

/// Name of a query, and how it is written for a namespace and a workload's name as part of an expression.
const QUERIES: [(&str, &str); 2] = [
    (
        "restarts-15m",
        r#"sum(increase(kube_pod_container_status_restarts_total{namespace="$namespace",pod=~"$name-.+"}[15m]))"#,
    ),
    (
        "memory-of-limit",
        concat!(
            r#"max(max by (pod, container) (container_memory_working_set_bytes"#,
            r#"{namespace="$namespace",pod=~"$name-.+",container!=""}) / on (pod, container) max by (pod, container) "#,
            r#"(kube_pod_container_resource_limits{namespace="$namespace",pod=~"$name-.+",resource="memory"}))"#,
        ),
    ),
];

/// Metrics of the target.
pub struct Metrics {
    /// A client of the store; `None` when there is none.
    store: Option<prometheus_http_query::Client>,
}

impl Source for Metrics {
    fn name(&self) -> SourceName {
        SourceName::Metrics
    }

    fn ask<'a>(&'a self, question: &'a Question<'_>) -> BoxFuture<'a, Answer> {
        Box::pin(async {
            let Some(store) = &self.store else {
                let message = "no store of metrics is configured: set prometheusUrl in the chart's values".into();
                return Err(Failure { reason: "NotConfigured", message });
            };
            question.request(|_| read(store, question.target)).await
        })
    }
}

impl Metrics {
    /// For the store at `url`; without one when it is empty.
    pub fn new(url: &str) -> anyhow::Result<Metrics> {
        if url.is_empty() {
            return Ok(Metrics { store: None });
        }
        // A redirect would lead the investigator to a place that nobody configured.
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("cannot build an HTTP client for Prometheus")?;
        let client = prometheus_http_query::Client::from(http, url).with_context(|| {
            format!("prometheusUrl {url:?} is not a URL such as http://prometheus.monitoring.svc:9090")
        })?;
        Ok(Metrics { store: Some(client) })
    }
}

/// Asks the queries about one workload.
async fn read(store: &prometheus_http_query::Client, target: &ObjectRef) -> Answer {
    let answers = QUERIES.map(|(name, query)| one(store, target, name, query));
    futures::future::try_join_all(answers).await
}

async fn one(
    store: &prometheus_http_query::Client,
    target: &ObjectRef,
    name: &str,
    query: &str,
) -> Result<Draft, Failure> {
    let query = render(query, target)?;
    let now = clock::now();
    let unavailable = |message: String| Failure { reason: "Unavailable", message: redact::text(&message, 512) };
    let mut response =
        store.query(query).get_raw().await.map_err(|error| unavailable(format!("Prometheus: {error}")))?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| unavailable(format!("Prometheus: {error}")))? {
        if body.len() + chunk.len() > MAX_BYTES {
            return Err(unavailable(format!("Prometheus answered more than {MAX_BYTES} bytes to query {name}")));
        }
        body.extend_from_slice(&chunk);
    }
    let status = response.status();
    let answer: Value = serde_json::from_slice(&body)
        .map_err(|_| unavailable(format!("Prometheus answered {status} without JSON to query {name}")))?;
    if answer.get("status").and_then(Value::as_str) != Some("success") {
        let error = answer.get("error").and_then(Value::as_str).unwrap_or_default();
        return Err(unavailable(format!("Prometheus answered {status} to query {name}: {error}")));
    }
    let value = value(&answer, now.as_second());
    let text = match value.as_str() {
        "NaN" => format!("{name}: unknown (no current sample)"),
        value => format!("{name}: {value}"),
    };
    let data = FactData::Metric(MetricFact { query: name.to_owned(), value });
    Ok(Draft { source: SourceName::Metrics, object: target.clone(), seen_at: now, data, text })
}

/// A query with the target's names in it: nothing but a valid name gets into an expression.
fn render(query: &str, target: &ObjectRef) -> Result<String, Failure> {
    if !is_subdomain(&target.namespace) || !is_subdomain(&target.name) {
        return Err(Failure { reason: "InvalidName", message: "the target's name is not a valid one".into() });
    }
    Ok(query.replace("$namespace", &target.namespace).replace("$name", &target.name.replace('.', "[.]")))
}

/// The value as Prometheus prints it; `NaN` when there is none or it is old.
fn value(answer: &Value, now: i64) -> String {
    let sample = answer.pointer("/data/result/0/value").and_then(Value::as_array);
    let fresh =
        sample.and_then(|sample| sample.first()?.as_f64()).is_some_and(|at| now as f64 - at <= STALE_SECONDS as f64);
    let text = sample.and_then(|sample| sample.get(1)?.as_str()).filter(|text| fresh && text.parse::<f64>().is_ok());
    redact::clip(text.unwrap_or("NaN"), 64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_sample_an_old_sample_and_what_is_no_number_are_unknown() {
        assert_eq!(value(&json!({"data": {"result": []}}), 1000), "NaN");
        assert_eq!(value(&json!({"data": {"result": [{"value": [1000, "NaN"]}]}}), 1000), "NaN");
        assert_eq!(value(&json!({"data": {"result": [{"value": [1, "3"]}]}}), 1000), "NaN");
        assert_eq!(value(&json!({"data": {"result": [{"value": [1000, "<b>"]}]}}), 1000), "NaN");
        assert_eq!(value(&json!({"data": {"result": [{"value": [999.5, "3"]}]}}), 1000), "3");
    }

    #[test]
    fn only_valid_names_get_into_a_query() {
        let target = |name: &str| ObjectRef { namespace: "shop".into(), name: name.into(), ..ObjectRef::default() };
        assert!(render(QUERIES[0].1, &target(r#"a"} or vector(1) or {x="#)).is_err());
        assert!(render(QUERIES[0].1, &target("a.b")).unwrap().contains(r#"pod=~"a[.]b-.+""#));
    }
}
