use serde_json::json;

use super::*;
use crate::cluster::testing::{Asked, Reply, client, failure, list};
use crate::core::workload::{
    Kind, Refusals, Workload,
    fixtures::{WorkloadFixture, crash_loop, now, ready},
    lacks_pods,
};

const SECOND: Duration = Duration::from_secs(1);

fn target(uid: &str) -> ObjectRef {
    of(Kind::Deployment, uid)
}

fn of(kind: Kind, uid: &str) -> ObjectRef {
    ObjectRef {
        api_version: Kind::API_VERSION.into(),
        kind: kind.as_str().into(),
        namespace: "shop".into(),
        name: "checkout".into(),
        uid: uid.into(),
    }
}

/// The API server of a world, with strangers that the selector happens to choose.
fn serve(world: &WorkloadFixture) -> impl Fn(&Asked) -> Reply + use<> {
    let snapshot = world.snapshot();
    let mut stranger = snapshot.revisions[0].clone();
    stranger["metadata"]["ownerReferences"][0]["uid"] = json!("another");
    let mut stray = snapshot.pods[0].clone();
    stray["metadata"]["ownerReferences"] = json!([]);
    let revisions = [snapshot.revisions.clone(), vec![stranger]].concat();
    let pods = [snapshot.pods.clone(), vec![stray]].concat();
    let apps = |plural: &str| format!("/apis/apps/v1/namespaces/shop/{plural}");
    let object = format!("{}/checkout", apps(api::workloads(world.kind).plural));
    let recorded = apps(api::revisions(world.kind).plural);
    move |asked| match asked.path.as_str() {
        path if path == object => Reply::Json(200, snapshot.object.clone()),
        path if path == recorded => list(&revisions),
        "/api/v1/namespaces/shop/pods" => list(&pods),
        _ => failure(404, "NotFound"),
    }
}

fn world(kind: Kind) -> WorkloadFixture {
    WorkloadFixture::two_revisions().of(kind).pods(1, 2, &ready(3600)).pods(2, 1, &crash_loop())
}

#[tokio::test]
async fn a_snapshot_is_exactly_what_the_api_server_said_of_the_workload_and_its_own() {
    for kind in Kind::ALL {
        let world = world(kind);
        let (client, log) = client(serve(&world));
        let found = snapshot(&client, &of(kind, world.uid()), SECOND, now()).await.unwrap();
        assert_eq!(found, world.snapshot(), "{kind}");
        assert_eq!(Workload::of(&found).unwrap().failing_pods().count(), 1);
        for asked in log.lock().unwrap().iter() {
            assert!(!asked.query.contains("resourceVersion"), "not a quorum read: {asked:?}");
        }
    }
}

/// Asked for only where pods are missing, and only about the workload itself. An answer that is none says nothing.
#[tokio::test]
async fn events_are_read_only_where_pods_are_missing_that_should_be_there() {
    let events = "/apis/events.k8s.io/v1/namespaces/shop/events";
    for kind in Kind::ALL {
        let complete = world(kind);
        let lacking = WorkloadFixture { replicas: 3, ..WorkloadFixture::two_revisions().of(kind) };
        let lacking = lacking.pods(1, 2, &ready(3600));
        let event = json!({"reason": "FailedCreate"});
        for (world, code) in [(&complete, 200), (&lacking, 200), (&lacking, 403), (&lacking, 404)] {
            let (inner, said) = (serve(world), event.clone());
            let (client, log) = client(move |asked| match (asked.path == events, code) {
                (false, _) => inner(asked),
                (true, 200) => list(std::slice::from_ref(&said)),
                (true, code) => failure(code, "Forbidden"),
            });
            let found = snapshot_with_events(&client, &of(kind, world.uid()), SECOND, now()).await.unwrap();
            let asked: Vec<Asked> = log.lock().unwrap().iter().filter(|it| it.path == events).cloned().collect();
            let wanted = lacks_pods(&found);
            assert_eq!(wanted, kind != Kind::Deployment && world.replicas == 3, "{kind}");
            assert_eq!(asked.len(), usize::from(wanted), "{kind}");
            assert!(asked.iter().all(|it| it.query.contains("reason%3DFailedCreate%2Cregarding.uid%3D")), "{asked:?}");
            let expected =
                if wanted && code == 200 { Refusals::Events(vec![event.clone()]) } else { Refusals::Unknown };
            assert_eq!(found.refusals, expected, "{kind} {code}");
        }
    }
}

/// A 404 to a list is an API server that does not know the kind, or a wrong path: never an empty list.
#[tokio::test]
async fn a_list_that_is_not_there_is_an_error_and_not_an_empty_one() {
    for kind in Kind::ALL {
        let world = world(kind);
        for missing in [format!("/{}", api::revisions(kind).plural), "/pods".to_owned()] {
            let (inner, path) = (serve(&world), missing.clone());
            let (client, _) =
                client(move |asked| if asked.path.ends_with(&path) { failure(404, "NotFound") } else { inner(asked) });
            let error = snapshot(&client, &of(kind, world.uid()), SECOND, now()).await.unwrap_err();
            assert_eq!(error.reason(), "Unavailable", "{kind} {missing}");
        }
    }
}

#[tokio::test]
async fn a_kind_without_revisions_is_unsupported_and_only_its_owner_is_looked_up() {
    let (client, log) = client(|_| failure(500, "InternalError"));
    for (api_version, kind) in [
        ("batch/v1", "Job"),
        ("batch/v1", "CronJob"),
        ("v1", "Pod"),
        ("apps/v1", "ReplicaSet"),
        ("argoproj.io/v1alpha1", "Rollout"),
        ("example.com/v1", "Deployment"),
    ] {
        let other = ObjectRef { api_version: api_version.into(), kind: kind.into(), ..target("") };
        let error = snapshot(&client, &other, SECOND, now()).await.unwrap_err();
        assert_eq!(error, ReadError::Unsupported { object: format!("{kind} shop/checkout"), owner: None });
    }
    let log = log.lock().unwrap();
    assert!(log.iter().all(|asked| asked.path.ends_with("/checkout")) && log.len() <= 4, "{log:?}");
}

#[tokio::test]
async fn the_copy_that_a_canary_controller_makes_is_read_along_and_one_that_cannot_be_read_is_no_none() {
    for kind in Kind::ALL {
        let world = world(kind);
        let path = format!("/apis/apps/v1/namespaces/shop/{}/checkout-primary", api::workloads(kind).plural);
        let copy = json!({"metadata": {"name": "checkout-primary", "namespace": "shop", "uid": "9",
            "ownerReferences": [{"apiVersion": "flagger.app/v1beta1", "kind": "Canary", "name": "checkout", "uid": "8"}]}});
        let serve = |answer: Option<Value>| {
            let (inner, path) = (serve(&world), path.clone());
            move |asked: &Asked| match (&answer, asked.path == path) {
                (_, false) => inner(asked),
                (Some(copy), true) => Reply::Json(200, copy.clone()),
                (None, true) => failure(500, "InternalError"),
            }
        };
        let (client, _) = client(serve(Some(copy)));
        let found = snapshot(&client, &of(kind, world.uid()), SECOND, now()).await.unwrap();
        assert_eq!(Workload::of(&found).unwrap().state.managed_by, ["flagger"], "{kind}");
        let (client, _) = crate::cluster::testing::client(serve(None));
        assert_eq!(snapshot(&client, &of(kind, world.uid()), SECOND, now()).await.unwrap_err().reason(), "Unavailable");
    }
}

#[tokio::test]
async fn revisions_that_a_canary_controller_made_of_the_template_are_seen_and_are_no_revisions_of_the_workload() {
    let world = world(Kind::Deployment);
    let inner = serve(&world);
    let mut theirs = world.snapshot().revisions[0].clone();
    theirs["metadata"]["ownerReferences"] = json!([{"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout",
        "name": "checkout", "uid": "7", "controller": true}]);
    let revisions = [world.snapshot().revisions, vec![theirs]].concat();
    let (client, _) =
        client(move |asked| if asked.path.ends_with("/replicasets") { list(&revisions) } else { inner(asked) });
    let found = snapshot(&client, &of(Kind::Deployment, world.uid()), SECOND, now()).await.unwrap();
    assert_eq!((found.revisions.len(), found.rivals.len()), (2, 1));
    assert_eq!(Workload::of(&found).unwrap().state.managed_by, ["argo-rollouts"]);
}

#[tokio::test]
async fn an_object_recreated_under_the_same_name_is_not_the_target() {
    let (client, _) = client(serve(&world(Kind::Deployment)));
    let error = snapshot(&client, &target("old"), SECOND, now()).await.unwrap_err();
    assert!(error.is_not_found() && error.to_string().contains("UID old"), "{error}");
}

#[tokio::test]
async fn what_is_missing_and_what_is_forbidden_are_told_apart() {
    for (code, reason, expected) in
        [(404, "NotFound", "NotFound"), (403, "Forbidden", "Forbidden"), (500, "InternalError", "Unavailable")]
    {
        let (client, _) = client(move |_| failure(code, reason));
        assert_eq!(snapshot(&client, &target(""), SECOND, now()).await.unwrap_err().reason(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_costs_no_more_than_the_deadline() {
    let (client, _) = client(|_| Reply::Never);
    let began = tokio::time::Instant::now();
    let error = snapshot(&client, &target(""), SECOND, now()).await.unwrap_err();
    assert_eq!((error.reason(), began.elapsed().as_secs()), ("Timeout", 1));
}

#[tokio::test]
async fn a_name_that_would_lead_to_another_path_is_never_asked_for() {
    let (client, log) = client(|_| failure(500, "InternalError"));
    let hostile = ObjectRef { namespace: "../kube-system".into(), ..target("") };
    assert_eq!(snapshot(&client, &hostile, SECOND, now()).await.unwrap_err().reason(), "InvalidName");
    assert!(resolve_top(&client, "Pod", "shop", "a?b", SECOND).await.is_err());
    assert!(log.lock().unwrap().is_empty());
}

fn owned(kind: &str, name: &str, uid: &str, owner: Option<(&str, &str, &str, &str)>) -> Value {
    let owners: Vec<Value> = owner
        .into_iter()
        .map(|(api, kind, name, uid)| json!({"apiVersion": api, "kind": kind, "name": name, "uid": uid, "controller": true}))
        .collect();
    json!({"kind": kind, "metadata": {"name": name, "namespace": "shop", "uid": uid, "ownerReferences": owners}})
}

fn family(asked: &Asked) -> Reply {
    assert!(asked.accept.contains("PartialObjectMetadata"), "more than metadata was asked for: {asked:?}");
    let object = match asked.path.rsplit('/').next().unwrap() {
        "pod" => owned("Pod", "pod", "1", Some(("apps/v1", "ReplicaSet", "set", "2"))),
        "set" => owned("ReplicaSet", "set", "2", Some(("apps/v1", "Deployment", "deploy", "3"))),
        "deploy" => owned("Deployment", "deploy", "3", Some(("example.com/v1", "Shop", "shop", "4"))),
        "orphan" => owned("Pod", "orphan", "5", Some(("apps/v1", "ReplicaSet", "gone", "6"))),
        "reused" => owned("Pod", "reused", "7", Some(("apps/v1", "ReplicaSet", "set", "old"))),
        _ => return failure(404, "NotFound"),
    };
    Reply::Json(200, object)
}

#[tokio::test]
async fn a_pod_is_followed_to_the_topmost_built_in_workload_and_the_owner_above_is_reported() {
    let (client, _) = client(family);
    let top = resolve(&client, "Pod", "shop", "pod", SECOND).await.unwrap().unwrap();
    assert_eq!(
        (top.object.kind.as_str(), top.object.name.as_str(), top.object.uid.as_str()),
        ("Deployment", "deploy", "3")
    );
    assert_eq!(top.owner.unwrap().kind, "Shop");
}

#[tokio::test]
async fn an_owner_that_is_gone_or_was_recreated_is_not_taken_for_the_owner() {
    let (client, _) = client(family);
    for pod in ["orphan", "reused"] {
        let top = resolve(&client, "Pod", "shop", pod, SECOND).await.unwrap().unwrap();
        assert_eq!(top.object.name, pod);
        assert_eq!(top.owner.unwrap().kind, "ReplicaSet");
    }
    assert!(resolve(&client, "Pod", "shop", "absent", SECOND).await.unwrap().is_none());
}
