//! The generic webhook: one POST of JSON, tried again while that can help.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use futures::future::BoxFuture;
use reqwest::{StatusCode, Url, header};
use serde::Serialize;

use super::{
    channel::{Channel, ChannelName, Message, Notification, bounded},
    fit::fit,
};
use crate::{api::v1alpha1::Delivery, settings::EscalationWebhook};

/// Version of the body's form.
const VERSION: &str = "backstop.dev/v1alpha1";
/// Longest body, in bytes: less than receivers take by default (nginx 1 MiB, PagerDuty 512 KiB).
pub(super) const MAX_BODY: usize = 64 << 10;
/// Attempts in all.
const ATTEMPTS: i32 = 4;
/// Longest wait for one answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after the first failure; doubles with each.
const PAUSE: Duration = Duration::from_millis(400);
/// Longest pause, whatever the receiver asks for.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The receiver's key for telling attempts from news: the Incident's UID, the reason, and which of several it is.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Where to post, and how.
pub(super) struct Webhook {
    client: reqwest::Client,
    url: Url,
    token_file: Option<PathBuf>,
    pause: Duration,
}

/// What is posted. Fields are only added.
#[derive(Serialize)]
struct Body<'a> {
    /// Version of this form.
    version: &'static str,
    /// `firing`, `approval` or `resolved`.
    status: &'static str,
    #[serde(flatten)]
    message: &'a Message,
}

/// What one attempt came to.
enum Sent {
    Delivered(StatusCode),
    /// Another attempt may help, after this time if the receiver named one.
    Retry(String, Option<Duration>),
    Refused(String),
}

impl Channel for Webhook {
    fn name(&self) -> ChannelName {
        ChannelName::Webhook
    }

    fn is_slow(&self) -> bool {
        true
    }

    fn deliver<'a>(&'a self, notification: &'a Notification) -> BoxFuture<'a, Delivery> {
        Box::pin(self.post(notification))
    }
}

impl Webhook {
    /// `None` when no URL is set.
    pub fn new(settings: &EscalationWebhook) -> anyhow::Result<Option<Webhook>> {
        Webhook::with_timing(settings, TIMEOUT, PAUSE)
    }

    pub(super) fn with_timing(
        settings: &EscalationWebhook,
        timeout: Duration,
        pause: Duration,
    ) -> anyhow::Result<Option<Webhook>> {
        let EscalationWebhook { url, token_file } = settings;
        if url.is_empty() {
            return Ok(None);
        }
        // The URL may hold a secret, so it is not part of any message.
        let url = Url::parse(url).context("escalationWebhook.url is not a URL, expected https://host/path")?;
        anyhow::ensure!(
            matches!(url.scheme(), "https" | "http") && url.has_host(),
            "escalationWebhook.url has the scheme {:?}, expected http or https and a host",
            url.scheme()
        );
        let client = reqwest::Client::builder()
            .timeout(timeout)
            // A redirect would carry the message, and maybe the token, to a place that nobody configured.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("backstop/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("cannot build the HTTP client of the escalation webhook")?;
        let token_file = (!token_file.is_empty()).then(|| PathBuf::from(token_file));
        Ok(Some(Webhook { client, url, token_file, pause }))
    }

    /// Posts it until it is accepted, refused, or was tried often enough.
    async fn post(&self, notification: &Notification) -> Delivery {
        let message = fit(notification.message(), MAX_BODY, |message| {
            serde_json::to_value(Body { version: VERSION, status: notification.status(), message }).unwrap_or_default()
        });
        let body = Body { version: VERSION, status: notification.status(), message: &message };
        let mut delivery = Delivery { channel: self.name().as_str().into(), ..Delivery::default() };
        let mut pause = self.pause;
        loop {
            delivery.attempts += 1;
            let asked = match self.attempt(&body).await {
                Sent::Delivered(status) => {
                    delivery.delivered = true;
                    delivery.detail = status.to_string();
                    return delivery;
                }
                Sent::Refused(why) => {
                    delivery.detail = bounded(&why, 512);
                    break;
                }
                Sent::Retry(why, asked) => {
                    delivery.detail = bounded(&why, 512);
                    asked
                }
            };
            if delivery.attempts == ATTEMPTS {
                break;
            }
            // Half fixed and half by chance, so that many incidents do not come back at the same moment.
            let jittered = pause.mul_f64(rand::random_range(0.5..=1.0));
            tokio::time::sleep(asked.unwrap_or_default().max(jittered).min(LONGEST_PAUSE)).await;
            pause *= 2;
        }
        tracing::error!(attempts = delivery.attempts, detail = %delivery.detail, host = ?self.url.host_str(),
            "the escalation webhook did not accept the message");
        delivery
    }

    async fn attempt(&self, body: &Body<'_>) -> Sent {
        // The same for every attempt to tell the same thing, and another for whatever people have to see anew.
        let Message { incident_uid, reason, occasion, .. } = body.message;
        let key = [incident_uid, reason, occasion].into_iter().filter(|part| !part.is_empty());
        let key = key.map(String::as_str).collect::<Vec<_>>().join("/");
        let mut request = self.client.post(self.url.clone()).header(IDEMPOTENCY_KEY, key).json(body);
        if let Some(file) = &self.token_file {
            // Read each time: Secrets rotate.
            match tokio::fs::read_to_string(file).await {
                Ok(token) => request = request.bearer_auth(token.trim()),
                Err(error) => return Sent::Retry(format!("cannot read {}: {error}", file.display()), None),
            }
        }
        match request.send().await {
            Ok(answer) => {
                let status = answer.status();
                if status.is_success() {
                    return Sent::Delivered(status);
                }
                let retry = status.is_server_error()
                    || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
                if !retry {
                    return Sent::Refused(format!("the receiver answered {status}"));
                }
                let seconds = answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
                let asked = seconds.and_then(|text| text.parse().ok()).map(Duration::from_secs);
                Sent::Retry(format!("the receiver answered {status}"), asked)
            }
            Err(error) if error.is_builder() => Sent::Refused(chain(&error.without_url())),
            Err(error) => Sent::Retry(chain(&error.without_url()), None),
        }
    }
}

/// The error with its causes: "error sending request" alone helps nobody.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
