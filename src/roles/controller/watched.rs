//! What the cache holds of a workload: its name and two answers. The typed object takes some 3 KiB even without its pod
//! template, and a cluster has thousands.

use std::borrow::Cow;
use std::marker::PhantomData;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, runtime::watcher::Event};
use serde::Deserialize;

/// A workload of kind `K`.
#[derive(Clone, Debug, Deserialize)]
#[serde(bound = "")]
pub struct Watched<K> {
    metadata: ObjectMeta,
    /// What [`crate::core::known_good::may_be_healthy`] said of it.
    pub may_be_healthy: bool,
    /// Its status counts at least one.
    pub has_replicas: bool,
    #[serde(skip)]
    kind: PhantomData<fn() -> K>,
}

impl<K> Watched<K> {
    /// Keeps of `metadata` what names the object.
    pub fn new(metadata: &ObjectMeta, may_be_healthy: bool, has_replicas: bool) -> Watched<K> {
        let ObjectMeta { name, namespace, uid, resource_version, .. } = metadata.clone();
        let metadata = ObjectMeta { name, namespace, uid, resource_version, ..ObjectMeta::default() };
        Watched { metadata, may_be_healthy, has_replicas, kind: PhantomData }
    }
}

/// It is the object, for whoever asks for its kind and its name.
impl<K: Resource> Resource for Watched<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dynamic: &K::DynamicType) -> Cow<'_, str> {
        K::kind(dynamic)
    }

    fn group(dynamic: &K::DynamicType) -> Cow<'_, str> {
        K::group(dynamic)
    }

    fn version(dynamic: &K::DynamicType) -> Cow<'_, str> {
        K::version(dynamic)
    }

    fn plural(dynamic: &K::DynamicType) -> Cow<'_, str> {
        K::plural(dynamic)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// An event about what `keep` makes of the object.
pub fn event<K, W>(event: Event<K>, keep: impl FnOnce(K) -> W) -> Event<W> {
    match event {
        Event::Init => Event::Init,
        Event::InitApply(object) => Event::InitApply(keep(object)),
        Event::InitDone => Event::InitDone,
        Event::Apply(object) => Event::Apply(keep(object)),
        Event::Delete(object) => Event::Delete(keep(object)),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::Deployment;
    use kube::ResourceExt as _;

    use super::*;

    #[test]
    fn what_is_kept_of_a_workload_names_it_and_is_a_fraction_of_it() {
        let metadata = ObjectMeta {
            name: Some("web".into()),
            namespace: Some("shop".into()),
            uid: Some("u1".into()),
            labels: Some([("a".to_owned(), "b".to_owned())].into()),
            ..ObjectMeta::default()
        };
        let kept: Watched<Deployment> = Watched::new(&metadata, true, false);
        assert_eq!(
            (kept.name_any(), kept.namespace(), kept.uid()),
            ("web".into(), Some("shop".into()), Some("u1".into()))
        );
        assert!(kept.labels().is_empty());
        assert_eq!(Watched::<Deployment>::kind(&()), "Deployment");
        assert!(4 * size_of::<Watched<Deployment>>() < size_of::<Deployment>());
    }
}
