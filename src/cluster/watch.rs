//! One constructor for every watch: guarded against undecodable objects, with backoff, without managedFields.

use std::fmt::Debug;

use futures::{Stream, StreamExt as _};
use kube::{
    Api, Resource, ResourceExt as _,
    core::DeserializeGuard,
    runtime::{WatchStreamExt as _, watcher},
};
use serde::de::DeserializeOwned;

/// Watches `api` until the stream is dropped. One object that cannot be decoded is logged and skipped: it must not end the watch for
/// all others. Errors of the connection are logged and retried with a growing delay.
pub fn watch<K>(api: Api<DeserializeGuard<K>>, config: watcher::Config) -> impl Stream<Item = watcher::Event<K>>
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
        .filter_map(|event| async move {
            let kind = K::kind(&());
            match event {
                Ok(watcher::Event::Apply(guard)) => decoded(guard).map(watcher::Event::Apply),
                Ok(watcher::Event::Delete(guard)) => decoded(guard).map(watcher::Event::Delete),
                Ok(watcher::Event::InitApply(guard)) => decoded(guard).map(watcher::Event::InitApply),
                Ok(watcher::Event::Init) => Some(watcher::Event::Init),
                Ok(watcher::Event::InitDone) => Some(watcher::Event::InitDone),
                Err(error) => {
                    tracing::warn!(%kind, %error, "watch interrupted, will retry");
                    None
                }
            }
        })
}

fn decoded<K: Resource<DynamicType = ()>>(guard: DeserializeGuard<K>) -> Option<K> {
    guard
        .0
        .inspect_err(|error| {
            tracing::warn!(kind = %K::kind(&()), name = ?error.metadata.name, namespace = ?error.metadata.namespace,
                error = %error.error, "object cannot be decoded and is ignored");
        })
        .ok()
}
