use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, Client, ResourceExt as _, api::ListParams, runtime::watcher};
use serde_json::{Value, json};

use super::*;
use crate::{
    api::v1alpha1::ObjectRef,
    clock,
    cluster::{self, Lean, ReadError, snapshot},
};

/// Bytes that the server has sent and nobody has taken out of memory yet, and the most there ever were.
#[derive(Clone, Default)]
struct Held {
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

/// A body in chunks, as a connection brings it: what is taken counts as held until all of it is dropped.
struct Counted {
    chunks: VecDeque<Bytes>,
    taken: usize,
    held: Held,
}

/// What owns a chunk: as long as it lives, it is in memory.
struct Owned(Bytes, Held);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.1.now.fetch_sub(self.0.len(), Ordering::Relaxed);
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(chunk) = self.chunks.pop_front() else { return Poll::Ready(None) };
        self.taken += chunk.len();
        let now = self.held.now.fetch_add(chunk.len(), Ordering::Relaxed) + chunk.len();
        self.held.most.fetch_max(now, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(Owned(chunk, self.held.clone()))))))
    }
}

/// An API server with `count` objects, each made by `object`, and nothing else; lists go on at a number.
fn server(count: usize, object: impl Fn(usize) -> Value + Send + Sync + 'static) -> (Client, Held) {
    let (held, object) = (Held::default(), Arc::new(object));
    let seen = held.clone();
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let (held, object) = (seen.clone(), object.clone());
        held.requests.fetch_add(1, Ordering::Relaxed);
        async move {
            let value = |name: &str| values(request.uri()).find(|(key, _)| *key == name).map(|(_, value)| value);
            let number = |name: &str| value(name).and_then(|value| value.parse::<usize>().ok());
            let (from, limit) = (number("continue").unwrap_or(0), number("limit").unwrap_or(count));
            let to = (from + limit).min(count);
            let next = if to < count { to.to_string() } else { String::new() };
            let answer = if value("watch").is_some() {
                String::new()
            } else if request.uri().path().ends_with("s") {
                let items: Vec<Value> = (from..to).map(|n| object(n)).collect();
                json!({"metadata": {"resourceVersion": "1", "continue": next}, "items": items}).to_string()
            } else {
                object(0).to_string()
            };
            let chunks = answer.into_bytes().chunks(64 << 10).map(Bytes::copy_from_slice).collect();
            Ok::<_, BoxError>(http::Response::new(Counted { chunks, taken: 0, held }))
        }
    });
    (Client::new(Paging::new(service), "default"), held)
}

fn deployment(n: usize, bytes: usize) -> Value {
    json!({"metadata": {"name": format!("d{n}"), "namespace": "shop", "uid": format!("u{n}"), "generation": 1},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "x"}}, "template": {"spec": {"containers": [
            {"name": "c", "env": [{"name": "E", "value": "x".repeat(bytes)}]}]}}},
        "status": {"observedGeneration": 1, "replicas": 2}})
}

const LARGE: usize = 1_400_000;

#[tokio::test]
async fn the_first_list_of_a_watch_survives_150_deployments_of_1400_kilobytes_and_shows_each() {
    let (client, held) = server(150, |n| deployment(n, if n == 0 { 10 } else { LARGE }));
    let api: Api<Lean<Deployment>> = Api::all(client);
    let mut events = std::pin::pin!(cluster::watch(api, watcher::Config::default()));
    let mut seen = vec![];
    while let Some(event) = events.next().await {
        match event {
            watcher::Event::InitApply(object) => {
                let size = serde_json::to_string(&object).unwrap().len();
                assert!(size < 1000, "the template is not kept: {size} bytes");
                assert_eq!(object.status.as_ref().and_then(|status| status.replicas), Some(2));
                seen.push(object.name_any());
            }
            watcher::Event::InitDone => break,
            _ => {}
        }
    }
    assert_eq!(seen.len(), 150);
    let most = held.most.load(Ordering::Relaxed);
    assert!(most < PAGE_BYTES + (128 << 10), "{most} bytes were held of 210 MB");
    // Four pages of more than fits, and then one by one.
    let requests = held.requests.load(Ordering::Relaxed);
    assert!((50..=160).contains(&requests), "{requests}");
}

#[tokio::test]
async fn a_page_that_fits_costs_one_request() {
    let (client, held) = server(200, |n| deployment(n, 5_000));
    let api: Api<Lean<Deployment>> = Api::all(client);
    let page = cluster::page(&api, 200, None).await.unwrap();
    assert_eq!((page.items.len(), page.next, held.requests.load(Ordering::Relaxed)), (200, None, 1));
}

#[tokio::test]
async fn after_large_objects_the_pages_grow_again() {
    let (client, held) = server(2_000, |n| deployment(n, if n < 5 { LARGE } else { 10 }));
    let api: Api<Lean<Deployment>> = Api::all(client);
    let (mut names, mut after) = (vec![], None);
    loop {
        let page = cluster::page(&api, 500, after.as_deref()).await.unwrap();
        names.extend(page.items.into_iter().map(|item| item.unwrap().name_any()));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(names, (0..2_000).map(|n| format!("d{n}")).collect::<Vec<_>>(), "none twice, none left out");
    let requests = held.requests.load(Ordering::Relaxed);
    assert!(requests < 30, "{requests}");
}

#[tokio::test]
async fn an_object_with_more_metadata_than_is_read_hides_no_other_and_is_named() {
    let labels: serde_json::Map<_, _> = (0..20_000).map(|n| (format!("l{n}"), json!("v"))).collect();
    let (client, _) = server(3, move |n| {
        let mut object = deployment(n, 10);
        if n == 1 {
            object["metadata"]["labels"] = Value::Object(labels.clone());
        }
        object
    });
    let api: Api<Lean<Deployment>> = Api::all(client);
    let page = cluster::page(&api, 100, None).await.unwrap();
    let [Ok(_), Err(large), Ok(_)] = &page.items[..] else { panic!("{page:?}") };
    assert_eq!((large.namespace.as_str(), large.name.as_str()), ("shop", "d1"));
    assert!(large.error.contains("larger than"), "{}", large.error);
}

#[tokio::test]
async fn one_object_larger_than_any_is_an_error_and_not_read_to_its_end() {
    let (client, held) = server(1, |n| deployment(n, 30 << 20));
    let api: Api<Lean<Deployment>> = Api::all(client);
    let error = format!("{:?}", cluster::page(&api, 100, None).await.unwrap_err());
    assert!(error.contains("is larger than"), "{error}");
    assert!(held.most.load(Ordering::Relaxed) < OBJECT_BYTES + (128 << 10));
}

/// `edit` in a namespace is enough to make ReplicaSets with the labels of a Deployment.
#[tokio::test]
async fn a_workload_whose_revisions_are_too_large_cannot_be_read_and_takes_no_memory() {
    let (client, held) = server(100, |n| deployment(n, LARGE));
    let target = ObjectRef {
        api_version: "apps/v1".into(),
        kind: "Deployment".into(),
        namespace: "shop".into(),
        name: "x".into(),
        ..ObjectRef::default()
    };
    let read = snapshot(&client, &target, Duration::from_secs(60), clock::now()).await;
    assert!(matches!(read, Err(ReadError::TooLarge { .. })), "{read:?}");
    // Revisions and pods are read at the same time.
    let most = held.most.load(Ordering::Relaxed);
    assert!(most < 2 * (PAGE_BYTES + (128 << 10)), "{most}");
}

#[tokio::test]
async fn only_so_many_large_pages_are_held_at_one_time() {
    let (client, held) = server(3, |n| deployment(n, LARGE));
    let api: Api<Lean<Deployment>> = Api::all(client);
    let all = futures::future::join_all((0..20).map(|_| cluster::page(&api, 3, None))).await;
    assert!(all.iter().all(|page| page.as_ref().is_ok_and(|page| page.items.len() == 3)));
    let most = held.most.load(Ordering::Relaxed);
    assert!(most <= LARGE_AT_ONCE * 3 * (LARGE + 1000) + 20 * (SMALL + (64 << 10)), "{most}");
}

#[tokio::test]
async fn what_a_selector_says_stays_as_it_was_when_fewer_are_asked_for() {
    let request = http::Request::get("https://host:6443/base/apis/x?labelSelector=a%3Db%2Cc&limit=500&continue=t%3D")
        .body(())
        .unwrap();
    let listed = Listed::of(&request).unwrap();
    assert_eq!(
        listed.with_limit(request.uri(), 62).unwrap().to_string(),
        "https://host:6443/base/apis/x?labelSelector=a%3Db%2Cc&continue=t%3D&limit=62"
    );
    for other in ["/apis/x?watch=true&limit=5", "/api/v1/pods/a/log?limitBytes=5", "/apis/x"] {
        assert!(Listed::of(&http::Request::get(other).body(()).unwrap()).is_none(), "{other}");
    }
    assert!(Listed::of(&http::Request::patch("/apis/x?limit=5").body(()).unwrap()).is_none());
}

#[tokio::test]
async fn params_of_the_client_are_understood() {
    let (client, held) = server(9, |n| deployment(n, LARGE));
    let api: Api<Deployment> = Api::namespaced(client, "shop");
    let list = api.list_metadata(&ListParams::default().labels("app=x").limit(9)).await.unwrap();
    assert_eq!((list.items.len(), held.requests.load(Ordering::Relaxed)), (1, 2), "a page may be shorter");
}
