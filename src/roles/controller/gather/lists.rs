//! Lists that people write: page by page, each object by itself, so that one that cannot be read hides no other.

use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use crate::cluster::{self, Lean, Undecodable};
use crate::core::policy::CompiledPolicy;

use super::super::context::{Error, call};

/// Objects of one page of a list that others write, each of which may be as large as the API server takes, about 1.5 MB, and
/// pages that are read of it.
const PAGE: u32 = 10;
const PAGES: usize = 100;

/// A list that people write.
pub(super) struct Listed<K> {
    pub(super) decoded: Vec<K>,
    pub(super) undecodable: Vec<Undecodable>,
    /// There are more than are read.
    pub(super) too_many: bool,
}

impl<K> Listed<K> {
    /// A denial for each object that cannot be read, by its name.
    pub(super) fn denying(&self, namespace: &str, plural: &str, what: &str) -> Vec<CompiledPolicy> {
        let unreadable = self.undecodable.iter().map(|object| {
            let why = format!("this version cannot decode it: {}", object.error);
            CompiledPolicy::unreadable(format!("{}/{}{what}", object.namespace, object.name), &why)
        });
        let rest = self.too_many.then(|| {
            let why = format!("there are more than {} {plural}, and the rest is not read", PAGES * PAGE as usize);
            CompiledPolicy::unreadable(format!("{namespace}/*{what}"), &why)
        });
        unreadable.chain(rest).collect()
    }
}

/// Reads a list that people write, by quorum, page by page, each object by itself, until `enough` says that the rest does
/// not matter. What people add to the metadata is dropped at once.
pub(super) async fn listed<K>(what: &str, api: Api<Lean<K>>, enough: impl Fn(&[K]) -> bool) -> Result<Listed<K>, Error>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let mut all = Listed { decoded: vec![], undecodable: vec![], too_many: false };
    let mut after = None;
    for _ in 0..PAGES {
        let page = call(what, cluster::page(&api, PAGE, after.as_deref())).await?;
        for item in page.items {
            match item {
                Ok(mut object) => {
                    let metadata = object.meta_mut();
                    metadata.annotations = None;
                    metadata.labels = None;
                    metadata.managed_fields = None;
                    all.decoded.push(object);
                }
                Err(object) => all.undecodable.push(object),
            }
        }
        after = page.next;
        if after.is_none() || enough(&all.decoded) {
            return Ok(all);
        }
    }
    all.too_many = true;
    Ok(all)
}
