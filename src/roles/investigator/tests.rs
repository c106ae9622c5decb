use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use super::metrics::Metrics;
use super::models::Models;
use super::places::Places;
use super::run::{Investigator, Room};
use super::status::{Writer, Written};
use crate::api::v1alpha1::{
    Action, Cause, Fact, FactData, Investigation, InvestigationSpec, InvestigationStatus, ObjectRef, RolloutUndo,
    SourceName, Time,
};
use crate::clock;
use crate::cluster::testing::{Asked, Reply, client, failure, list};
use crate::core::{
    sources::{self, Offered},
    workload::fixtures::{WorkloadFixture, crash_loop, ready},
};
use crate::model::{credentials::Credentials, send::Sender};
use crate::observe::Gatherer;
use crate::settings::{ModelNetwork, Settings};

pub(super) fn investigation() -> Investigation {
    let target = ObjectRef {
        api_version: "apps/v1".into(),
        kind: "Deployment".into(),
        namespace: "shop".into(),
        name: "checkout".into(),
        uid: "deploy-1".into(),
    };
    let spec = InvestigationSpec {
        key: String::new(),
        incident: "incident".into(),
        round: 1,
        target: Some(target),
        sources: sources::bundle(Offered { metric_store: true }, []),
        chain: vec!["rules".into()],
        model_chain: None,
        deadline_seconds: 30,
        alert_started_at: crate::core::workload::fixtures::ago(60),
        request_id: "r1".into(),
    };
    let mut investigation = Investigation::new("inv", spec);
    investigation.metadata.namespace = Some("shop".into());
    investigation.metadata.uid = Some("uid".into());
    investigation.metadata.resource_version = Some("1".into());
    investigation.metadata.generation = Some(1);
    investigation
}

fn models(client: &kube::Client) -> Models {
    let sender = Sender::new(Credentials::new("/nowhere"), &ModelNetwork::default()).unwrap();
    Models::new(client.clone(), "backstop-system".into(), Arc::new(sender), crate::model::metrics::Metrics::default())
}

pub(super) fn investigator(client: kube::Client) -> Investigator {
    let (settings, mut registry) = (Settings::default(), Registry::default());
    Investigator {
        gatherer: Gatherer::new(client.clone(), &settings, &mut registry).unwrap(),
        models: Arc::new(models(&client)),
        metrics: Metrics::new(&mut registry),
        room: Room::default(),
        client,
    }
}

/// One run, in a place of its own.
pub(super) async fn investigate(investigator: &Investigator, seen: &Investigation) -> anyhow::Result<Written<()>> {
    let place = Places::new(4).take("shop", false).unwrap();
    investigator.investigate(seen, place).await
}

/// The API server of a bad rollout; its Investigation is a status with a version that each write counts up.
struct Server {
    object: std::sync::Mutex<(u64, Value)>,
    writes: AtomicUsize,
    snapshot: crate::core::workload::RawWorkload,
}

impl Server {
    fn new() -> Arc<Server> {
        let world = WorkloadFixture::two_revisions().pods(1, 2, &ready(3600)).pods(2, 1, &crash_loop());
        Arc::new(Server {
            object: std::sync::Mutex::new((1, json!({}))),
            writes: AtomicUsize::new(0),
            snapshot: world.snapshot(),
        })
    }

    fn status(&self) -> InvestigationStatus {
        serde_json::from_value(self.object.lock().unwrap().1.clone()).unwrap()
    }

    /// Another process marks the Investigation as its own.
    fn take_over(&self) {
        let mut object = self.object.lock().unwrap();
        *object = (object.0 + 1, json!({"phase": "Running", "startedAt": "2026-01-01T00:00:00Z"}));
    }

    fn investigation(&self) -> Value {
        let (version, status) = self.object.lock().unwrap().clone();
        let mut value = serde_json::to_value(investigation()).unwrap();
        value["metadata"]["resourceVersion"] = json!(version.to_string());
        value["status"] = status;
        value
    }

    fn answer(&self, asked: &Asked) -> Reply {
        match (asked.method.as_str(), asked.path.as_str()) {
            ("PATCH", "/apis/backstop.dev/v1alpha1/namespaces/shop/investigations/inv/status") => {
                {
                    let mut object = self.object.lock().unwrap();
                    if asked.body["metadata"]["resourceVersion"] != json!(object.0.to_string()) {
                        return failure(409, "Conflict");
                    }
                    object.0 += 1;
                    json_patch::merge(&mut object.1, &asked.body["status"]);
                    self.writes.fetch_add(1, Ordering::SeqCst);
                }
                Reply::Json(200, self.investigation())
            }
            ("GET", "/apis/backstop.dev/v1alpha1/namespaces/shop/investigations/inv") => {
                Reply::Json(200, self.investigation())
            }
            (_, "/apis/apps/v1/namespaces/shop/deployments/checkout") => Reply::Json(200, self.snapshot.object.clone()),
            (_, "/apis/apps/v1/namespaces/shop/replicasets") => list(&self.snapshot.revisions),
            (_, "/api/v1/namespaces/shop/pods") => list(&self.snapshot.pods),
            (_, "/apis/events.k8s.io/v1/namespaces/shop/events") => {
                list(&[json!({"type": "Warning", "reason": "BackOff",
                "note": "back-off", "regarding": {"kind": "Pod", "name": "checkout-2-0", "uid": "pod-2-0"}})])
            }
            (_, "/api/v1/namespaces/shop/pods/checkout-2-0/log") => Reply::Text("fatal: password=hunter2hunter2\n"),
            (_, "/api/v1/namespaces/shop/configmaps/checkout") => {
                Reply::Json(200, json!({"metadata": {"name": "checkout"}}))
            }
            _ => failure(404, "NotFound"),
        }
    }
}

fn answered(facts: &[Fact]) -> Vec<(SourceName, bool)> {
    let mut sources: Vec<_> =
        facts.iter().map(|fact| (fact.source, matches!(fact.data, FactData::SourceFailed(_)))).collect();
    sources.dedup();
    sources
}

#[tokio::test]
async fn a_bad_rollout_is_investigated_from_all_sources_and_written_once() {
    let server = Server::new();
    let (answering, seen) = (server.clone(), investigation());
    let (client, log) = client(move |asked| answering.answer(asked));
    let investigator = investigator(client);
    assert_eq!(investigate(&investigator, &seen).await.unwrap(), Written::Done(()));

    let status = server.status();
    use SourceName::*;
    let expected = [Workload, Pods, RolloutHistory, ConfigReferences, Events, Logs].map(|source| (source, false));
    assert_eq!(answered(&status.facts), [expected.as_slice(), &[(Metrics, true)]].concat());
    assert_eq!(
        status.facts.iter().map(|f| f.id.clone()).collect::<Vec<_>>(),
        (1..=status.facts.len()).map(|n| format!("f{n}")).collect::<Vec<_>>()
    );
    let diagnosis = status.diagnosis.unwrap();
    let action = diagnosis.proposal.unwrap().action;
    let expected = Action::RolloutUndo(RolloutUndo { to_revision: 1 });
    assert_eq!((diagnosis.cause, action), (Cause::BadRollout, expected));
    assert!(!serde_json::to_string(&status.facts).unwrap().contains("hunter2"));
    assert_eq!(status.conditions[0].type_, "Complete");
    assert_eq!(server.writes.load(Ordering::SeqCst), 2, "one mark, one diagnosis");
    for asked in log.lock().unwrap().iter() {
        assert!(!asked.path.contains("secrets"), "{asked:?}");
        let metadata_only = !asked.path.contains("configmaps") || asked.accept.contains("PartialObjectMetadata");
        assert!(metadata_only, "data of a ConfigMap was asked for: {asked:?}");
    }

    // Seen once more as it was before: nothing is written again.
    assert_eq!(investigate(&investigator, &seen).await.unwrap(), Written::Lost);
    assert_eq!(server.writes.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn sources_that_do_not_answer_become_facts_and_hold_up_nothing_else() {
    let server = Server::new();
    let (client, _) = client(move |asked| match asked.path.as_str() {
        path if path.ends_with("/events") || path.ends_with("/log") => Reply::Never,
        _ => server.answer(asked),
    });
    let investigator = investigator(client);
    let began = tokio::time::Instant::now();
    let until = clock::now().checked_add(std::time::Duration::from_secs(30)).unwrap();
    let facts = investigator.gatherer.gather(&investigation().spec, &ObjectRef::default(), until).await;
    assert!(began.elapsed().as_millis() <= 3100, "{:?}", began.elapsed());
    let failed: Vec<SourceName> = answered(&facts).into_iter().filter(|(_, failed)| *failed).map(|(s, _)| s).collect();
    assert_eq!(failed, [SourceName::Events, SourceName::Logs, SourceName::Metrics]);
    assert!(facts.iter().any(|fact| matches!(&fact.data, FactData::SourceFailed(f) if f.reason == "Timeout")));
}

#[tokio::test]
async fn an_investigation_without_a_target_says_so_and_proposes_nothing() {
    let server = Server::new();
    let answering = server.clone();
    let (client, _) = client(move |asked| answering.answer(asked));
    let investigator = investigator(client);
    let mut seen = investigation();
    seen.spec.target = None;
    investigate(&investigator, &seen).await.unwrap();
    let status = server.status();
    assert_eq!(answered(&status.facts), [(SourceName::Workload, true)]);
    let diagnosis = status.diagnosis.unwrap();
    assert_eq!((diagnosis.cause, diagnosis.proposal), (Cause::Unknown, None));
}

#[tokio::test]
async fn whoever_was_taken_over_writes_nothing() {
    let server = Server::new();
    let answering = server.clone();
    let (client, _) = client(move |asked| answering.answer(asked));
    let writer = Writer::new(&client, &investigation());
    let started_at: Time = clock::now();
    let Written::Done(version) = writer.running(&investigation(), started_at).await.unwrap() else { panic!() };
    server.take_over();
    let status = InvestigationStatus { started_at: Some(started_at), ..InvestigationStatus::default() };
    assert_eq!(writer.complete(version, &status).await.unwrap(), Written::Lost);
}

#[tokio::test]
async fn an_edit_of_metadata_in_between_does_not_lose_the_diagnosis() {
    let server = Server::new();
    let answering = server.clone();
    let (client, _) = client(move |asked| answering.answer(asked));
    let writer = Writer::new(&client, &investigation());
    let started_at: Time = clock::now();
    let Written::Done(version) = writer.running(&investigation(), started_at).await.unwrap() else { panic!() };
    server.object.lock().unwrap().0 += 1;
    let status = InvestigationStatus { started_at: Some(started_at), ..InvestigationStatus::default() };
    assert_eq!(writer.complete(version, &status).await.unwrap(), Written::Done(()));
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_not_written_twice() {
    let server = Server::new();
    let answering = server.clone();
    let (client, _) = client(move |asked| match answering.answer(asked) {
        Reply::Json(200, _) if asked.body["status"]["phase"] == "Complete" => failure(504, "Timeout"),
        reply => reply,
    });
    let investigator = investigator(client);
    assert_eq!(investigate(&investigator, &investigation()).await.unwrap(), Written::Done(()));
    assert_eq!(server.writes.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_deleted_investigation_is_let_go() {
    let (client, _) = client(|_| failure(404, "NotFound"));
    let investigator = investigator(client);
    assert_eq!(investigate(&investigator, &investigation()).await.unwrap(), Written::Gone);
}
