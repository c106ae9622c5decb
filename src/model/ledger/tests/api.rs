//! The Ledger through the API server.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::super::*;
use super::{LIMITS, clock, nano, noon, payer};
use crate::cluster::testing::{Asked, Reply, client, failure};

/// The API server of one Ledger.
#[derive(Default)]
struct Server {
    object: Option<Value>,
    version: u64,
    /// Other writers that are faster, so many times.
    rivals: u64,
    /// Answers that do not arrive, so many times.
    lost: u64,
}

const LEDGERS: &str = "/apis/backstop.dev/v1alpha1/namespaces/backstop-system/ledgers";

impl Server {
    fn answer(&mut self, asked: &Asked) -> Reply {
        let (one, status) = (format!("{LEDGERS}/models.default"), format!("{LEDGERS}/models.default/status"));
        match (asked.method.as_str(), asked.path.as_str()) {
            ("GET", path) if path == one => match &self.object {
                Some(object) => Reply::Json(200, object.clone()),
                None => failure(404, "NotFound"),
            },
            ("POST", LEDGERS) => {
                assert_eq!(asked.body["spec"], json!({"purpose": "Models", "chain": "default"}));
                self.store(asked.body.clone())
            }
            ("PUT", path) if path == status => {
                let Some(object) = &self.object else { return failure(404, "NotFound") };
                let seen = &asked.body["metadata"]["resourceVersion"];
                if self.rivals > 0 {
                    self.rivals -= 1;
                    let object = object.clone();
                    self.store(object);
                    return failure(409, "Conflict");
                }
                if *seen != object["metadata"]["resourceVersion"] {
                    return failure(409, "Conflict");
                }
                let reply = self.store(asked.body.clone());
                if self.lost > 0 {
                    self.lost -= 1;
                    return failure(504, "Timeout");
                }
                reply
            }
            _ => panic!("{asked:?}"),
        }
    }

    fn store(&mut self, mut object: Value) -> Reply {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.object = Some(object.clone());
        Reply::Json(200, object)
    }
}

type Log = Arc<Mutex<Vec<Asked>>>;

fn served(server: Server) -> (Arc<Mutex<Server>>, kube::Client, Log) {
    let server = Arc::new(Mutex::new(server));
    let answering = server.clone();
    let (client, log) = client(move |asked| answering.lock().unwrap().answer(asked));
    (server, client, log)
}

fn open(client: &kube::Client) -> SpendLedger {
    let store = InCluster::new(client, "backstop-system", "default");
    let (ledger, work) = SpendLedger::new(store, new_holder(), clock());
    tokio::spawn(work);
    ledger
}

fn verbs(log: &Log) -> Vec<String> {
    log.lock().unwrap().iter().map(|asked| asked.method.clone()).collect()
}

fn spend(server: &Mutex<Server>) -> Value {
    server.lock().unwrap().object.as_ref().unwrap()["status"]["models"].clone()
}

#[tokio::test]
async fn the_ledger_is_made_when_it_is_first_needed_and_written_once_before_and_once_after() {
    let (server, client, log) = served(Server::default());
    let ledger = open(&client);
    let advance = ledger.advance(payer("a"), LIMITS);
    let hold = advance.reserve("east", nano(20)).await.unwrap();
    let open = spend(&server)["open"][0].clone();
    assert_eq!((&open["nanoDollars"], &open["day"]), (&json!(25), &json!("2026-03-01")));
    assert_eq!(open["incident"], json!({"namespace": "shop", "name": "a"}));
    hold.settle(nano(7));
    drop(advance);
    ledger.flush().await;
    let spent = spend(&server);
    assert_eq!((&spent["open"], &spent["days"][0]["nanoDollars"]), (&Value::Null, &json!(7)));
    assert_eq!(verbs(&log), ["GET", "POST", "PUT", "PUT"]);
}

#[tokio::test(start_paused = true)]
async fn conflicts_and_lost_answers_are_read_again_and_nothing_is_counted_twice() {
    for (rivals, lost) in [(3, 0), (0, 3), (2, 2)] {
        let (server, client, _) = served(Server { rivals, lost, ..Server::default() });
        let ledger = open(&client);
        let advance = ledger.advance(payer("a"), LIMITS);
        advance.reserve("east", nano(20)).await.unwrap().settle(nano(7));
        drop(advance);
        ledger.flush().await;
        let spent = spend(&server);
        assert_eq!((&spent["open"], &spent["days"][0]["nanoDollars"]), (&Value::Null, &json!(7)), "{rivals} {lost}");
    }
}

#[tokio::test(start_paused = true)]
async fn two_processes_that_write_one_ledger_do_not_spend_its_budget_twice() {
    let (server, client, _) = served(Server::default());
    let ledgers = [open(&client), open(&client)];
    let each = (0..20).map(|number: usize| {
        let ledger = ledgers[number % 2].clone();
        async move {
            let advance = ledger.advance(payer(&number.to_string()), LIMITS);
            let Ok(hold) = advance.reserve("east", nano(30)).await else { return 0 };
            hold.settle(nano(30));
            30
        }
    });
    let spent: u64 = futures::future::join_all(each).await.into_iter().sum();
    for ledger in &ledgers {
        ledger.flush().await;
    }
    assert_eq!(spent, 240, "8 of 30 are within 250");
    assert_eq!(spend(&server)["days"][0]["nanoDollars"], json!(240));
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_was_deleted_begins_anew_with_what_is_charged_from_then_on() {
    let (server, client, _) = served(Server::default());
    let ledger = open(&client);
    ledger.advance(payer("a"), LIMITS).reserve("east", nano(100)).await.unwrap().settle(nano(100));
    ledger.flush().await;
    server.lock().unwrap().object = None;
    ledger.advance(payer("a"), LIMITS).reserve("east", nano(60)).await.unwrap().settle(nano(60));
    ledger.flush().await;
    assert_eq!(ledger.spent(noon()).diagnoses, nano(60));
}
