//! The server that everybody asks: it answers at once, with one diagnosis.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::{
    Json, Router,
    http::StatusCode,
    response::IntoResponse as _,
    routing::{get, post},
};
use serde_json::json;

static HITS: AtomicUsize = AtomicUsize::new(0);

/// Serves on a free port of the loopback address, and prints where.
pub async fn serve() -> anyhow::Result<()> {
    let diagnosis = json!({
        "claims": [
            {"cites": ["f2", "f3"], "failure": "CrashLoop", "kind": "PodsFailing", "revision": 0, "text": "2 pods crash"},
        ],
        "confidence": 80, "hypothesis": "the release of revision 2 broke it", "nextSteps": "return to revision 1",
        "proposal": {"action": "RolloutUndo", "toRevision": 1}, "rootCause": "BadRollout",
        "suspect": {"change": "", "kind": "Deployment", "name": "catalog", "revision": 2},
    });
    let answer = json!({
        "id": "r-1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": diagnosis.to_string()}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 2000, "completion_tokens": 100, "total_tokens": 2100},
    });
    let good = move || {
        let answer = answer.clone();
        async move {
            HITS.fetch_add(1, Ordering::Relaxed);
            Json(answer)
        }
    };
    let bad = || async {
        HITS.fetch_add(1, Ordering::Relaxed);
        (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"error": {"type": "server_error"}}))).into_response()
    };
    let mut router = Router::new().route("/hits", get(|| async { HITS.load(Ordering::Relaxed).to_string() }));
    for name in ["good", "v1"] {
        router = router.route(&format!("/{name}/chat/completions"), post(good.clone()));
    }
    router = router.route("/bad/chat/completions", post(bad));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, router).await?;
    Ok(())
}

/// How often the server was asked.
pub async fn hits(server: &str) -> anyhow::Result<usize> {
    Ok(reqwest::get(format!("{server}/hits")).await?.text().await?.parse()?)
}
