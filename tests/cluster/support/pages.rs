//! A receiver of the escalation webhook: whom the operator calls when it needs a person.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use anyhow::Result;
use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use serde_json::Value;

/// What arrived.
#[derive(Clone, Default)]
pub struct Pages {
    received: Arc<Mutex<Vec<Value>>>,
}

impl Pages {
    /// Listens on every address of this machine, so that pods reach it.
    pub async fn listen() -> Result<(Pages, SocketAddr)> {
        let pages = Pages::default();
        let router = Router::new().route("/page", post(receive)).with_state(pages.clone());
        let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await?;
        let address = listener.local_addr()?;
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok((pages, address))
    }

    /// Pages about incidents of `namespace`.
    pub fn about(&self, namespace: &str) -> Vec<Value> {
        let received = self.received.lock().expect("the receiver does not panic");
        received.iter().filter(|page| page["namespace"] == namespace).cloned().collect()
    }
}

async fn receive(State(pages): State<Pages>, Json(page): Json<Value>) -> StatusCode {
    pages.received.lock().expect("the receiver does not panic").push(page);
    StatusCode::NO_CONTENT
}
