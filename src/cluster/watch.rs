//! One constructor for every watch, and one for every list of what others write: guarded against undecodable objects;
//! watches with backoff, without managedFields.

use std::fmt::Debug;

use futures::{Stream, StreamExt as _};
use kube::{
    Api, Resource, ResourceExt as _,
    api::ListParams,
    core::error_boundary::InvalidObject,
    runtime::{WatchStreamExt as _, watcher},
};
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use crate::core::redact::clip;

use super::Lean;

/// Bytes kept of what keeps an object from being decoded.
const MAX_ERROR: usize = 300;

/// An object that this version cannot decode: a newer release or a changed definition wrote it, or people wrote what the
/// schema lets pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecodable {
    /// Kind.
    pub kind: String,
    /// Namespace; empty for cluster-scoped kinds.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// `metadata.generation`; 0 where it has none.
    pub generation: i64,
    /// What keeps it from being decoded, for people.
    pub error: String,
}

/// Watches `api` until the stream is dropped. One object that cannot be decoded is logged and skipped: it must not end the watch for
/// all others. Errors of the connection are logged and retried with a growing delay.
pub fn watch<K>(api: Api<Lean<K>>, config: watcher::Config) -> impl Stream<Item = watcher::Event<K>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    watch_reporting(api, config, |_| {})
}

/// The same, and `report` is told of each object that cannot be decoded, whenever it is seen.
pub fn watch_reporting<K>(
    api: Api<Lean<K>>,
    config: watcher::Config,
    report: impl Fn(Undecodable) + Clone + Send + 'static,
) -> impl Stream<Item = watcher::Event<K>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    watcher(api, config)
        .modify(|object| {
            if let Ok(object) = &mut object.0 {
                object.managed_fields_mut().clear();
            }
        })
        .default_backoff()
        .filter_map(move |event| {
            let report = report.clone();
            async move {
                let kind = K::kind(&());
                match event {
                    Ok(watcher::Event::Apply(guard)) => decoded(guard, report).map(watcher::Event::Apply),
                    Ok(watcher::Event::Delete(guard)) => decoded(guard, |_| {}).map(watcher::Event::Delete),
                    Ok(watcher::Event::InitApply(guard)) => decoded(guard, report).map(watcher::Event::InitApply),
                    Ok(watcher::Event::Init) => Some(watcher::Event::Init),
                    Ok(watcher::Event::InitDone) => Some(watcher::Event::InitDone),
                    Err(error) => {
                        tracing::warn!(%kind, %error, "watch interrupted, will retry");
                        None
                    }
                }
            }
        })
}

fn decoded<K: Resource<DynamicType = ()>>(guard: Lean<K>, report: impl Fn(Undecodable)) -> Option<K> {
    let error = match guard.0 {
        Ok(object) => return Some(object),
        Err(error) => undecodable::<K>(error),
    };
    tracing::warn!(
        kind = error.kind,
        name = error.name,
        namespace = error.namespace,
        error = error.error,
        "object cannot be decoded and is ignored"
    );
    report(error);
    None
}

fn undecodable<K: Resource<DynamicType = ()>>(error: InvalidObject) -> Undecodable {
    let InvalidObject { metadata, error } = error;
    Undecodable {
        kind: K::kind(&()).into_owned(),
        namespace: metadata.namespace.unwrap_or_default(),
        name: metadata.name.unwrap_or_default(),
        generation: metadata.generation.unwrap_or(0),
        error: clip(&error, MAX_ERROR),
    }
}

/// One page of a list.
#[derive(Debug)]
pub struct Page<K> {
    /// Its items, each decoded by itself: one that people or a newer release wrote must not hide the others.
    pub items: Vec<Result<K, Undecodable>>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<String>,
}

/// Pages of what others write that a process reads at one time: each may be as large as its objects are, about 1.5 MB each.
static AT_ONCE: Semaphore = Semaphore::const_new(4);

/// Reads one page of `size` objects from `after` on, the beginning without one.
pub async fn page<K>(api: &Api<Lean<K>>, size: u32, after: Option<&str>) -> kube::Result<Page<K>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    page_of(api, ListParams::default().limit(size), after).await
}

/// The same of those that `params` choose, which say how many there are in a page.
pub async fn page_of<K>(api: &Api<Lean<K>>, params: ListParams, after: Option<&str>) -> kube::Result<Page<K>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    // Never closed.
    let _permit = AT_ONCE.acquire().await;
    let params = match after {
        Some(token) => params.continue_token(token),
        None => params,
    };
    let list = api.list(&params).await?;
    let items = list.items.into_iter().map(|item| item.0.map_err(undecodable::<K>)).collect();
    Ok(Page { items, next: list.metadata.continue_.filter(|token| !token.is_empty()) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        api::v1alpha1::{Alert, Approval, Policy},
        cluster::testing::{Reply, client},
    };

    fn object(kind: &str, name: &str, spec: serde_json::Value) -> serde_json::Value {
        json!({"apiVersion": "backstop.dev/v1alpha1", "kind": kind,
            "metadata": {"name": name, "namespace": "shop", "generation": 3}, "spec": spec})
    }

    async fn items<K>(good: serde_json::Value, bad: serde_json::Value) -> Vec<Result<String, Undecodable>>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let (client, asked) = client(move |asked| {
            let (items, next) = match asked.query.contains("continue=more") {
                false => (vec![bad.clone()], "more"),
                true => (vec![good.clone()], ""),
            };
            Reply::Json(200, json!({"metadata": {"continue": next}, "items": items}))
        });
        let api: Api<Lean<K>> = Api::all(client);
        let first = page(&api, 1, None).await.unwrap();
        let second = page(&api, 1, first.next.as_deref()).await.unwrap();
        assert!(second.next.is_none() && asked.lock().unwrap().iter().all(|one| one.query.contains("limit=1")));
        let all = first.items.into_iter().chain(second.items);
        all.map(|item| item.map(|object| object.meta().name.clone().unwrap_or_default())).collect()
    }

    #[tokio::test]
    async fn one_object_that_cannot_be_decoded_hides_no_other_and_is_named() {
        let alert = |starts: &str| object("Alert", "a", json!({"fingerprint": "f", "labels": {}, "startsAt": starts}));
        let approval = |expires: &str| {
            let spec = json!({"approver": "ann", "incident": "i", "digest": "d", "expiresAt": expires});
            object("Approval", "a", spec)
        };
        let policy = |mode: &str| object("Policy", "a", json!({"mode": mode}));
        let (fine, never) = ("2026-01-01T00:00:00Z", "9999-12-31T23:59:59Z");
        for found in [
            items::<Policy>(policy("auto"), policy("freeze")).await,
            items::<Alert>(alert(fine), alert(never)).await,
            items::<Approval>(approval(fine), approval(never)).await,
        ] {
            let [Err(bad), Ok(good)] = &found[..] else { panic!("{found:?}") };
            assert_eq!(
                (good.as_str(), bad.namespace.as_str(), bad.name.as_str(), bad.generation),
                ("a", "shop", "a", 3)
            );
            assert!(!bad.error.is_empty() && bad.error.len() <= MAX_ERROR);
        }
    }
}
