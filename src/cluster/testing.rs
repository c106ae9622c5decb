//! A client whose API server is a function: for tests of what is asked, and of what is made of the answers.

use std::{convert::Infallible, sync::Arc, sync::Mutex, time::Duration};

use axum::http::{Request, Response};
use futures::future::BoxFuture;
use kube::{Client, client::Body};
use serde_json::{Value, json};

use super::paging::Paging;

/// One request as the server sees it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// HTTP method.
    pub method: String,
    /// Path.
    pub path: String,
    /// Query.
    pub query: String,
    /// Header `Accept`.
    pub accept: String,
    /// Body as JSON; `null` without one.
    pub body: Value,
}

/// How the server answers.
pub enum Reply {
    /// With this status and JSON.
    Json(u16, Value),
    /// With text.
    Text(&'static str),
    /// Not at all.
    Never,
}

/// A failure as the API server words it.
pub fn failure(code: u16, reason: &str) -> Reply {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": format!("{reason} it is"), "reason": reason, "code": code});
    Reply::Json(code, status)
}

/// A list of these items.
pub fn list(items: &[Value]) -> Reply {
    Reply::Json(200, json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}))
}

/// A client for a server that answers with `answer`, and the log of what it was asked.
pub fn client(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> (Client, Arc<Mutex<Vec<Asked>>>) {
    let log: Arc<Mutex<Vec<Asked>>> = Arc::default();
    let (answer, seen) = (Arc::new(answer), log.clone());
    let service = tower::service_fn(move |request: Request<Body>| {
        let (answer, seen) = (answer.clone(), seen.clone());
        let response: BoxFuture<'static, Result<Response<Body>, Infallible>> = Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await.unwrap_or_default();
            let accept = parts.headers.get("accept").and_then(|value| value.to_str().ok()).unwrap_or_default();
            let asked = Asked {
                method: parts.method.to_string(),
                path: parts.uri.path().to_owned(),
                query: parts.uri.query().unwrap_or_default().to_owned(),
                accept: accept.to_owned(),
                body: serde_json::from_slice(&body).unwrap_or_default(),
            };
            seen.lock().unwrap().push(asked.clone());
            let (code, body) = match answer(&asked) {
                Reply::Json(code, value) => (code, value.to_string()),
                Reply::Text(text) => (200, text.to_owned()),
                Reply::Never => {
                    tokio::time::sleep(Duration::from_secs(86_400)).await;
                    (504, String::new())
                }
            };
            Ok(Response::builder().status(code).body(Body::from(body.into_bytes())).unwrap())
        });
        response
    });
    (Client::new(Paging::new(service), "default"), log)
}
