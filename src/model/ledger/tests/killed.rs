//! A process that is killed with SIGKILL between reserving and settling.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    routing::{get, post, put},
};
use serde_json::{Value, json};

use super::super::*;
use super::{LIMITS, clock, nano, noon, payer};

/// Tells the process that is to be killed where the API server is.
const SERVER: &str = "BACKSTOP_TEST_LEDGER_SERVER";
const LEDGERS: &str = "/apis/backstop.dev/v1alpha1/namespaces/backstop-system/ledgers";

type Stored = Arc<Mutex<(u64, Option<Value>)>>;

fn store(stored: &Stored, mut object: Value) -> (StatusCode, axum::Json<Value>) {
    let mut stored = stored.lock().unwrap();
    let conflict = stored
        .1
        .as_ref()
        .is_some_and(|old| old["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"]);
    if conflict {
        return status(409, "Conflict");
    }
    stored.0 += 1;
    object["metadata"]["resourceVersion"] = json!(stored.0.to_string());
    stored.1 = Some(object.clone());
    (StatusCode::OK, axum::Json(object))
}

fn status(code: u16, reason: &str) -> (StatusCode, axum::Json<Value>) {
    let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "reason": reason, "message": reason, "code": code});
    (StatusCode::from_u16(code).unwrap(), axum::Json(body))
}

async fn serve(stored: Stored) -> String {
    let read = |State(stored): State<Stored>| async move {
        let found = stored.lock().unwrap().1.clone();
        found.map_or_else(|| status(404, "NotFound"), |object| (StatusCode::OK, axum::Json(object)))
    };
    let make =
        |State(stored): State<Stored>, axum::Json(object): axum::Json<Value>| async move { store(&stored, object) };
    let router = Router::new()
        .route(LEDGERS, post(make))
        .route(&format!("{LEDGERS}/models.default"), get(read))
        .route(&format!("{LEDGERS}/models.default/status"), put(make))
        .with_state(stored);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn connect(address: &str) -> SpendLedger {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let client = kube::Client::try_from(kube::Config::new(address.parse().unwrap())).unwrap();
    let (ledger, work) = SpendLedger::new(InCluster::new(&client, "backstop-system", "default"), new_holder(), clock());
    tokio::spawn(work);
    ledger
}

/// The other process: this very test, started by the next with the address of its API server.
#[tokio::test]
async fn the_process_that_is_killed() {
    let Some(address) = std::env::var_os(SERVER) else { return };
    let ledger = connect(&address.to_string_lossy());
    let advance = ledger.advance(payer("a"), LIMITS);
    let first = advance.reserve("east", nano(20)).await.unwrap();
    first.settle(nano(1));
    let _second = advance.reserve("east", nano(24)).await.unwrap();
    println!("reserved");
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_killed_between_reserving_and_settling_leaves_all_that_it_reserved_charged() {
    let stored = Stored::default();
    let address = serve(stored.clone()).await;
    let name = format!("{}::the_process_that_is_killed", module_path!().split_once("::").unwrap().1);
    let mut other = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &name, "--nocapture", "--test-threads", "1"])
        .env(SERVER, &address)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(other.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("reserved")), "it ended before");
    other.kill().unwrap();
    other.wait().unwrap();
    let models = stored.lock().unwrap().1.as_ref().unwrap()["status"]["models"].clone();
    assert_eq!(models["open"][0]["nanoDollars"], json!(25), "{models}");

    let ledger = connect(&address);
    let advance = ledger.advance(payer("a"), LIMITS);
    let refused = advance.reserve("east", nano(76)).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.reason(), "IncidentBudget", "25 of 100 are gone, although only 1 is known to be spent");
    advance.reserve("east", nano(75)).await.unwrap().settle(nano(0));
    drop(advance);
    ledger.flush().await;
    assert_eq!(ledger.spent(noon()).diagnoses, nano(25));
    let models = stored.lock().unwrap().1.as_ref().unwrap()["status"]["models"].clone();
    assert_eq!(models["open"], Value::Null);
}
