//! The HTTP endpoints of every role: health, readiness and metrics, on a server that slow clients cannot block.

mod health;
mod linger;
mod metrics;
mod server;

pub use health::Health;
pub use metrics::registry;
pub use server::{serve, serve_on};

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::registry::Registry;

/// Routes `/healthz` (alias `/livez`), `/readyz` and `/metrics`. Merge the role's own routes into it.
pub fn router(health: Health, registry: Arc<Registry>) -> Router {
    Router::new()
        .route("/healthz", get(alive).with_state(health.clone()))
        .route("/livez", get(alive).with_state(health.clone()))
        .route("/readyz", get(ready).with_state(health))
        .route("/metrics", get(exposition).with_state(registry))
}

/// A process that waits is alive; one that only a restart helps is not.
async fn alive(State(health): State<Health>) -> (StatusCode, String) {
    match health.alive() {
        Ok(()) => (StatusCode::OK, "ok\n".into()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

/// Names everything that is missing, one per line.
async fn ready(State(health): State<Health>) -> (StatusCode, String) {
    let missing = health.missing();
    let line = |(name, text): &(&str, String)| format!("{name}: {text}\n");
    let notes: String = health.notes().iter().map(line).collect();
    if missing.is_empty() {
        (StatusCode::OK, format!("ready\n{notes}"))
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, missing.iter().map(line).chain([notes]).collect())
    }
}

async fn exposition(State(registry): State<Arc<Registry>>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("metrics cannot be written: {error}\n")).into_response()
        }
    }
}

#[cfg(test)]
mod tests;
