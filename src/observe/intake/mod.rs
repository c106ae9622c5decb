//! The alert intake: one route per payload format of [`crate::core::intake`], such as `/v1/intake/alertmanager`.
//!
//! Authenticate, bound, read, make every alert durable as an `Alert` object, and only then answer 202. Whatever may
//! pass with time is answered with 503, never 429: Alertmanager gives up on a 4xx at once, and retries a 5xx.

mod metrics;
mod store;
mod tokens;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, HeaderValue, Request, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::post,
};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream};
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio::sync::Semaphore;
use tracing::Instrument as _;

pub use store::{AlertStore, Created, KubeAlerts, StoreError};
pub use tokens::{Sender, Tokens};

use self::{
    metrics::{Metrics, Outcome},
    store::Recent,
};
use crate::{
    api::v1alpha1::AlertState,
    clock,
    core::intake::{self as formats, BadInput, Batch, Format, Normalised, Skip},
    settings::Settings,
    telemetry,
};

/// Longest body, in bytes.
const BODY: usize = 1 << 20;
/// Requests that are worked on at one time.
const REQUESTS: usize = 64;
/// Writes to the API server at one time, of one request.
const WRITES: usize = 32;
/// A request is answered in this time.
const DEADLINE: Duration = Duration::from_secs(5);
/// What `Retry-After` says, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");
/// Longest `traceparent` that is written into a log line.
const TRACEPARENT: usize = 128;

/// The intake.
pub struct Intake {
    store: Arc<dyn AlertStore>,
    tokens: Tokens,
    system_namespace: String,
    cluster_name: String,
    metrics: Metrics,
    recent: Recent,
    slots: Semaphore,
    deadline: Duration,
}

/// What became of a request that was accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Receipt {
    request_id: String,
    /// Alerts that were not known before, or fire again.
    accepted: u64,
    /// Alerts that were known already.
    deduplicated: u64,
    /// Known alerts that ended.
    resolved: u64,
    /// Left out on purpose: `Watchdog`, `InfoInhibitor`, and the end of alerts that are not known.
    ignored: u64,
    /// Not ours, or nothing that an Alert can hold: sending them again would not help.
    refused: u64,
}

/// What a request that was not accepted gets to read.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Problem {
    request_id: String,
    error: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    field: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    expected: &'static str,
    next_step: &'static str,
    #[serde(skip)]
    code: StatusCode,
}

impl Problem {
    fn new(code: StatusCode, error: impl Into<String>, next_step: &'static str) -> Problem {
        let (request_id, field) = (String::new(), String::new());
        Problem { request_id, error: error.into(), field, expected: "", next_step, code }
    }

    fn unavailable(error: impl Into<String>, next_step: &'static str) -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, error, next_step)
    }
}

impl From<BadInput> for Problem {
    fn from(bad: BadInput) -> Problem {
        let error = bad.to_string();
        let BadInput { field, expected, next_step, found: _ } = bad;
        Problem { field, expected, ..Problem::new(StatusCode::BAD_REQUEST, error, next_step) }
    }
}

impl Intake {
    /// An intake that keeps alerts in `store`; those that name no namespace of this cluster in `system_namespace`.
    pub fn new(
        settings: &Settings,
        system_namespace: &str,
        store: Arc<dyn AlertStore>,
        registry: &mut Registry,
    ) -> Intake {
        Intake {
            store,
            tokens: Tokens::new(&settings.intake_tokens_dir),
            system_namespace: system_namespace.into(),
            cluster_name: settings.cluster_name.clone(),
            metrics: Metrics::new(registry),
            recent: Recent::default(),
            slots: Semaphore::new(REQUESTS),
            deadline: DEADLINE,
        }
    }

    /// Its routes: one per format.
    pub fn router(self) -> Router {
        let intake = Arc::new(self);
        formats::all().fold(Router::new(), |router, format| {
            let intake = intake.clone();
            let receive = move |request| receive(intake, format, request);
            router.route(format.path, post(receive).fallback(move || async { hint(format) }))
        })
    }

    async fn handle(
        &self,
        format: &'static Format,
        request_id: &str,
        request: Request<Body>,
    ) -> Result<Receipt, Problem> {
        let sender = self.authenticate(format, request.headers()).await?;
        let _slot = self
            .slots
            .try_acquire()
            .map_err(|_| Problem::unavailable("too many requests at a time", "send it again in a few seconds"))?;
        let body = read_body(format, request).await?;
        let received_at = clock::now();
        let context = formats::Request { received_at, request_id, cluster_name: &self.cluster_name };
        let batch = (format.parse)(&body, context)?;
        self.accept(format, &sender, batch, request_id).await
    }

    async fn authenticate(&self, format: &Format, headers: &HeaderMap) -> Result<Sender, Problem> {
        let tokens = self.tokens.current().await;
        if tokens.is_empty() {
            return Err(Problem::unavailable(
                "the intake is not configured: there is no token to check against",
                "set intake.existingSecret in the chart's values to a Secret with the key `token`",
            ));
        }
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        given.and_then(|value| tokens.sender(value)).ok_or_else(|| {
            Problem::new(
                StatusCode::UNAUTHORIZED,
                if given.is_some() { "the token is not known" } else { "there is no Authorization header" },
                format.credentials,
            )
        })
    }

    async fn accept(
        &self,
        format: &Format,
        sender: &Sender,
        batch: Batch,
        request_id: &str,
    ) -> Result<Receipt, Problem> {
        let Batch { alerts, skipped, truncated } = batch;
        if let Sender::Tenant(own) = sender
            && let Some(foreign) = alerts.iter().find(|alert| alert.named_namespace().is_some_and(|name| name != own))
        {
            tracing::warn!(tenant = %own, alertname = foreign.alertname(), named = ?foreign.named_namespace(),
                "a tenant's token named another namespace; its request was refused");
            return Err(Problem::new(
                StatusCode::FORBIDDEN,
                format!("this token may only name the namespace {own}, and one alert names another"),
                "send alerts of other namespaces with their own token",
            ));
        }
        let mut receipt = Receipt { request_id: request_id.into(), ..Receipt::default() };
        for skipped in skipped {
            match skipped.why {
                Skip::Meta => self.count(format, &mut receipt, Outcome::Ignored),
                Skip::ForeignCluster => {
                    tracing::warn!(alertname = %skipped.alertname, "an alert of another cluster was refused");
                    self.count(format, &mut receipt, Outcome::Refused);
                }
            }
        }
        if truncated > 0 {
            tracing::warn!(truncated, sender = format.sender.name, "the sender left alerts out of this request");
            self.metrics.truncated.inc_by(truncated);
        }
        let mut failure = None;
        let work: Vec<BoxFuture<'_, _>> = alerts.iter().map(|alert| self.make_durable(sender, alert).boxed()).collect();
        let mut outcomes = stream::iter(work).buffer_unordered(WRITES);
        while let Some(outcome) = outcomes.next().await {
            match outcome {
                Ok(outcome) => self.count(format, &mut receipt, outcome),
                Err(error) => {
                    self.metrics.alert(format.label, Outcome::Failed);
                    failure.get_or_insert(error);
                }
            }
        }
        match failure {
            None => Ok(receipt),
            Some(error) => {
                tracing::error!(%error, "alerts could not be made durable; the sender is asked to send them again");
                Err(Problem::unavailable(
                    "not every alert could be made durable",
                    "send it again: what is durable already will be recognised",
                ))
            }
        }
    }

    fn count(&self, format: &Format, receipt: &mut Receipt, outcome: Outcome) {
        self.metrics.alert(format.label, outcome);
        match outcome {
            Outcome::Accepted => receipt.accepted += 1,
            Outcome::Deduplicated => receipt.deduplicated += 1,
            Outcome::Resolved => receipt.resolved += 1,
            Outcome::Ignored => receipt.ignored += 1,
            Outcome::Refused | Outcome::Failed => receipt.refused += 1,
        }
    }

    /// Makes one alert durable.
    async fn make_durable(&self, sender: &Sender, alert: &Normalised) -> Result<Outcome, StoreError> {
        let named = match sender {
            // Never the system namespace: an Alert there may name any target.
            Sender::Tenant(own) => Some(own.as_str()),
            Sender::Cluster => match alert.valid_namespace() {
                Some(name) if self.store.namespace_exists(name).await? => Some(name),
                _ => None,
            },
        };
        let namespace = named.unwrap_or(&self.system_namespace);
        match self.make_durable_in(namespace, alert).await {
            // It vanished, or is on its way out, since it was looked up.
            Err(StoreError::NamespaceGone) if *sender == Sender::Cluster && named.is_some() => {
                self.make_durable_in(&self.system_namespace, alert).await
            }
            Err(StoreError::NamespaceGone) if *sender != Sender::Cluster => {
                tracing::warn!(namespace, "a tenant's alert was refused: its namespace does not exist or is ending");
                Ok(Outcome::Refused)
            }
            outcome => outcome,
        }
    }

    async fn make_durable_in(&self, namespace: &str, alert: &Normalised) -> Result<Outcome, StoreError> {
        let name = alert.name(namespace);
        let alertname = alert.alertname();
        if self.recent.knows(&name, alert.state) {
            return Ok(Outcome::Deduplicated);
        }
        let outcome = match alert.state {
            AlertState::Firing => match self.store.create(namespace, &name, &alert.spec).await {
                Ok(Created::New) => {
                    tracing::info!(namespace, name, alertname, altered = alert.altered, "alert accepted");
                    Outcome::Accepted
                }
                Ok(Created::Known) => Outcome::Deduplicated,
                Ok(Created::Ended) => {
                    // Its sender was silent for a while and the alert counted as resolved, but it never ended.
                    self.store.set_end(namespace, &name, None).await?;
                    tracing::info!(namespace, name, alertname, "alert fires again");
                    Outcome::Accepted
                }
                Err(StoreError::Rejected(why)) => {
                    tracing::error!(namespace, alertname, %why, "the API server refused an alert for good");
                    return Ok(Outcome::Refused);
                }
                Err(error) => return Err(error),
            },
            AlertState::Resolved => {
                let known = self.store.set_end(namespace, &name, alert.spec.ends_at).await?;
                tracing::info!(namespace, name, alertname, known, "alert resolved");
                if !known {
                    return Ok(Outcome::Ignored);
                }
                Outcome::Resolved
            }
        };
        self.recent.remember(name, alert.state);
        Ok(outcome)
    }
}

async fn receive(intake: Arc<Intake>, format: &'static Format, request: Request<Body>) -> Response {
    let start = Instant::now();
    let request_id = hex::encode(rand::random::<[u8; 16]>());
    let span = telemetry::request_span(&request_id);
    let outcome = async {
        let parent = request.headers().get("traceparent").and_then(|value| value.to_str().ok());
        if let Some(parent) = parent.filter(|parent| parent.len() <= TRACEPARENT) {
            tracing::info!(traceparent = parent, "request belongs to the sender's trace");
        }
        let work = intake.handle(format, &request_id, request);
        let outcome = tokio::time::timeout(intake.deadline, work).await.unwrap_or_else(|_| {
            let next = "send it again: what is durable already will be recognised";
            Err(Problem::unavailable("the alerts could not be made durable in time", next))
        });
        if let Err(problem) = &outcome {
            tracing::warn!(code = problem.code.as_u16(), error = %problem.error, "request not accepted");
        }
        outcome
    }
    .instrument(span)
    .await;
    let response = match outcome {
        Ok(receipt) => (StatusCode::ACCEPTED, axum::Json(receipt)).into_response(),
        Err(mut problem) => {
            problem.request_id = request_id;
            let code = problem.code;
            let mut response = (code, axum::Json(problem)).into_response();
            if code == StatusCode::SERVICE_UNAVAILABLE {
                response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
            }
            response
        }
    };
    intake.metrics.request(response.status(), start.elapsed());
    response
}

/// For whoever opens the address in a browser.
fn hint(format: &Format) -> Response {
    let Format { setup, credentials, .. } = format;
    let sender = format.sender.name;
    let text = format!(
        "This is Backstop's alert intake. It accepts POST requests of {sender}.\n\
         To use it: {setup}, and {credentials}.\n"
    );
    (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "POST")], text).into_response()
}

async fn read_body(format: &Format, request: Request<Body>) -> Result<axum::body::Bytes, Problem> {
    let too_large =
        || Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is longer than 1 MiB", format.sender.fewer);
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if announced.and_then(|text| text.parse::<u64>().ok()).is_some_and(|length| length > BODY as u64) {
        return Err(too_large());
    }
    // Every chunk is counted, so a body without a length ends here too. The deadline bounds how long it may take.
    let mut chunks = request.into_body().into_data_stream();
    let mut body = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| {
            Problem::new(StatusCode::BAD_REQUEST, "the body ended before it was complete", "send it again")
        })?;
        if body.len() + chunk.len() > BODY {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.into())
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
