//! The alert intake: one route per payload format of [`crate::core::intake`], such as `/v1/intake/alertmanager`.
//!
//! Authenticate, bound, read, make every alert durable as an `Alert` object, and only then answer 202. Each alert is
//! judged by itself; what its namespace does not take is kept in the system namespace. Whatever may pass with time is
//! answered with 503, never 429: Alertmanager gives up on a 4xx at once, and retries a 5xx.

mod keep;
mod metrics;
mod room;
mod store;
mod tokens;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
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
use tracing::Instrument as _;

pub use store::{AlertStore, Change, Created, KubeAlerts, StoreError};
pub use tokens::Tokens;

use self::{
    keep::Kept,
    metrics::{AlertOutcome, Metrics, Why},
    store::Recent,
};
use crate::{
    api::v1alpha1::IntakeReason,
    clock,
    core::intake::{
        self as formats, BadInput, Batch, Budget, Format, MAX_ALERTS, MAX_BODY, Normalised, Skip, TokenOwner,
    },
    settings::Settings,
    telemetry,
};

/// Writes to the API server at one time, of one request.
const WRITES: usize = 32;
/// Alerts that are read, made durable and dropped together.
const WINDOW: usize = 256;
/// A request is answered in this time: a little less than Alertmanager gives a notification at least.
const DEADLINE: Duration = Duration::from_secs(8);
/// What `Retry-After` says, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");
/// Longest `traceparent` that is written into a log line.
const TRACEPARENT: usize = 128;
/// Other clusters of which one request makes a record.
const FOREIGN_CLUSTERS: usize = 16;

/// The intake.
pub struct Intake {
    store: Arc<dyn AlertStore>,
    tokens: Tokens,
    system_namespace: String,
    cluster_name: String,
    metrics: Metrics,
    recent: Recent,
    budget: Mutex<Budget>,
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
    /// Not readable, or not the sender's to send. They are on record, and nothing is done with them but to tell people.
    refused: u64,
    /// Of all these, those that their namespace did not take: they are kept in the system namespace.
    displaced: u64,
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
            budget: Mutex::default(),
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
        let owner = self.authenticate(format, request.headers()).await?;
        let _held = self.hold(&owner, request.headers()).ok_or_else(|| {
            Problem::unavailable("too many and too long requests at a time", "send it again in a few seconds")
        })?;
        let (body, cut_off) = read_body(request).await?;
        let received_at = clock::now();
        let request = formats::RequestInfo { received_at, request_id, cluster_name: &self.cluster_name, cut_off };
        let batch = (format.parse)(&body, request)?;
        self.accept(format, &owner, batch, request).await
    }

    /// Takes room for a request of this length; `None` when there is none.
    fn hold<'a>(&'a self, owner: &'a TokenOwner, headers: &HeaderMap) -> Option<Held<'a>> {
        let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let bytes = lock(&self.budget).take(owner, length)?;
        Some(Held { budget: &self.budget, owner, bytes })
    }

    async fn authenticate(&self, format: &Format, headers: &HeaderMap) -> Result<TokenOwner, Problem> {
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
        owner: &TokenOwner,
        batch: Batch<'_>,
        request: formats::RequestInfo<'_>,
    ) -> Result<Receipt, Problem> {
        let Batch { mut alerts, truncated } = batch;
        let mut tally = Tally::new(format, &self.metrics, request.request_id);
        let (mut read, mut left_out) = (0, request.cut_off);
        loop {
            let window: Vec<Normalised> = alerts.by_ref().take(WINDOW.min(MAX_ALERTS - read)).collect();
            if window.is_empty() {
                left_out |= read == MAX_ALERTS && alerts.next().is_some();
                break;
            }
            read += window.len();
            let mut work: Vec<BoxFuture<'_, _>> = Vec::new();
            for alert in &window {
                match alert.skip(&self.cluster_name) {
                    Some(Skip::Meta) => {
                        // A dead man's switch: as long as it comes, the way from the alerting rules to here works.
                        if alert.alertname() == "Watchdog" && *owner == TokenOwner::Cluster {
                            self.metrics.watchdog.set(clock::now().as_second());
                        }
                        tally.count(AlertOutcome::Ignored);
                    }
                    Some(Skip::ForeignCluster(named)) => tally.foreign_cluster(named, alert.alertname()),
                    None => work.push(self.make_durable(owner, alert, request).boxed()),
                }
            }
            let tried = work.len();
            let mut outcomes = stream::iter(work).buffer_unordered(WRITES);
            let mut unavailable = 0;
            while let Some(outcome) = outcomes.next().await {
                unavailable += usize::from(matches!(outcome, Err(StoreError::Unavailable(_))));
                tally.kept(outcome);
            }
            if tried > 0 && unavailable == tried {
                break;
            }
        }
        let system = &self.system_namespace;
        let foreign = tally.foreign.iter();
        let mut records: Vec<_> =
            foreign.map(|named| formats::foreign_cluster(&format.sender, named, owner, system, request)).collect();
        if truncated > 0 {
            tracing::warn!(truncated, sender = format.sender.name, "the sender left alerts out of this request");
            self.metrics.truncated.inc_by(truncated);
            records.push(formats::left_out(&format.sender, Some(truncated), owner, system, request));
        }
        if left_out {
            tracing::error!(sender = format.sender.name, "a request was too long and was read in part");
            self.metrics.cut_off.inc();
            records.push(formats::left_out(&format.sender, None, owner, system, request));
        }
        for record in &records {
            if let Err(error) = self.keep(record).await {
                tally.failed(error);
            }
        }
        match tally.failure {
            Some(error) => {
                tracing::error!(%error, "alerts could not be made durable; the sender is asked to send them again");
                Err(Problem::unavailable(
                    "not every alert could be made durable",
                    "send it again: what is durable already will be recognised",
                ))
            }
            // What was read is durable, and the sender has to know that the rest is not.
            None if left_out => Err(Problem::unavailable(
                "more than 8 MiB, or 20,000 alerts; those in the beginning were taken, the others were not read",
                format.sender.fewer,
            )),
            None => Ok(tally.receipt),
        }
    }
}

/// Room for a request, given back when it is dropped.
struct Held<'a> {
    budget: &'a Mutex<Budget>,
    owner: &'a TokenOwner,
    bytes: usize,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        lock(self.budget).give(self.owner, self.bytes);
    }
}

/// What becomes of the alerts of one request.
struct Tally<'a> {
    format: &'a Format,
    metrics: &'a Metrics,
    receipt: Receipt,
    /// Names of other clusters.
    foreign: BTreeSet<String>,
    /// The first error.
    failure: Option<StoreError>,
}

impl<'a> Tally<'a> {
    fn new(format: &'a Format, metrics: &'a Metrics, request_id: &str) -> Tally<'a> {
        let receipt = Receipt { request_id: request_id.into(), ..Receipt::default() };
        Tally { format, metrics, receipt, foreign: BTreeSet::new(), failure: None }
    }

    fn kept(&mut self, outcome: Result<Kept, StoreError>) {
        match outcome {
            Ok(Kept { outcome, note, displaced }) => {
                if let Some(reason) = note {
                    self.metrics.irregular(self.format.label, Why::Note(reason));
                }
                self.receipt.displaced += u64::from(displaced);
                self.count(outcome);
            }
            Err(error) => self.failed(error),
        }
    }

    fn failed(&mut self, error: StoreError) {
        self.metrics.alert(self.format.label, AlertOutcome::Failed);
        if let StoreError::Full(namespace) = &error {
            tracing::warn!(namespace, "a namespace has too many Alerts; its alerts are refused");
            self.metrics.irregular(self.format.label, Why::NamespaceFull);
        }
        self.failure.get_or_insert(error);
    }

    fn foreign_cluster(&mut self, named: String, alertname: &str) {
        tracing::warn!(alertname, "an alert of another cluster was refused");
        self.metrics.irregular(self.format.label, Why::Note(IntakeReason::ForeignCluster));
        self.count(AlertOutcome::Refused);
        if self.foreign.len() < FOREIGN_CLUSTERS {
            self.foreign.insert(named);
        }
    }

    fn count(&mut self, outcome: AlertOutcome) {
        self.metrics.alert(self.format.label, outcome);
        match outcome {
            AlertOutcome::Accepted => self.receipt.accepted += 1,
            AlertOutcome::Deduplicated => self.receipt.deduplicated += 1,
            AlertOutcome::Resolved => self.receipt.resolved += 1,
            AlertOutcome::Ignored => self.receipt.ignored += 1,
            AlertOutcome::Refused | AlertOutcome::Failed => self.receipt.refused += 1,
        }
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

/// The body, or its first [`MAX_BODY`] bytes; and whether there is more.
async fn read_body(request: Request<Body>) -> Result<(Vec<u8>, bool), Problem> {
    // Every chunk is counted, so a body without a length ends here too. The deadline bounds how long it may take.
    let mut chunks = request.into_body().into_data_stream();
    let mut body = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| {
            Problem::new(StatusCode::BAD_REQUEST, "the body ended before it was complete", "send it again")
        })?;
        let room = MAX_BODY - body.len();
        if chunk.len() > room {
            body.extend_from_slice(&chunk[..room]);
            return Ok((body, true));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((body, false))
}

/// A panic elsewhere leaves these maps whole, so its mark is ignored.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
