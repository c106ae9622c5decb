//! Objects that this version cannot decode: counted, and told on the object itself, where its author looks.

use std::collections::HashSet;

use kube::{
    Api, Resource as _,
    api::{DynamicObject, Patch, PatchParams},
    core::ApiResource,
};
use serde_json::json;
use tokio::sync::mpsc;

use crate::api::v1alpha1::{Alert, Policy, PolicyException, Runbook};
use crate::clock;
use crate::cluster::Undecodable;
use crate::core::{conditions, names::CONTROLLER};

use super::context::{Shared, call};
use super::metrics::{Metrics, OfKind};

/// Reports that may wait; what is lost is seen again with the next list.
const QUEUE: usize = 64;
/// Objects that are remembered as told.
const REMEMBERED: usize = 1024;
/// Pause between two writes: whoever writes many of them must not keep us busy.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(200);

/// Takes reports from the watches.
#[derive(Clone)]
pub struct Reports {
    queue: mpsc::Sender<Undecodable>,
    metrics: Metrics,
}

impl Reports {
    /// Where the watches report to, and where the reports come out.
    pub fn new(metrics: Metrics) -> (Reports, mpsc::Receiver<Undecodable>) {
        let (queue, reports) = mpsc::channel(QUEUE);
        (Reports { queue, metrics }, reports)
    }

    /// Tells how many objects of a kind are not in the cache, because their namespaces have too many.
    pub fn left_out(&self, kind: &str, objects: usize) {
        let objects = i64::try_from(objects).unwrap_or(i64::MAX);
        let before = self.metrics.left_out.get_or_create(&OfKind { kind: kind.to_owned() }).set(objects);
        if before == 0 && objects > 0 {
            tracing::warn!(kind, objects, "namespaces have more objects than are kept of one: the rest is left out");
        }
    }

    /// Takes one.
    pub fn report(&self, object: Undecodable) {
        self.metrics.undecodable.get_or_create(&OfKind { kind: object.kind.clone() }).inc();
        let _ = self.queue.try_send(object);
    }
}

/// Writes to each object why it is not read.
pub async fn run(ctx: Shared, mut reports: mpsc::Receiver<Undecodable>) {
    let mut told: HashSet<(String, String, String, i64)> = HashSet::new();
    while let Some(object) = reports.recv().await {
        if told.len() >= REMEMBERED {
            told.clear();
        }
        let Undecodable { kind, namespace, name, generation, .. } = &object;
        if told.insert((kind.clone(), namespace.clone(), name.clone(), *generation)) {
            tell(&ctx, &object).await;
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn tell(ctx: &Shared, object: &Undecodable) {
    let (resource, condition) = match object.kind.as_str() {
        kind if kind == Alert::kind(&()) => (ApiResource::erase::<Alert>(&()), "Accepted"),
        kind if kind == Policy::kind(&()) => (ApiResource::erase::<Policy>(&()), "Ready"),
        kind if kind == Runbook::kind(&()) => (ApiResource::erase::<Runbook>(&()), "Ready"),
        kind if kind == PolicyException::kind(&()) => (ApiResource::erase::<PolicyException>(&()), "Ready"),
        _ => return,
    };
    let api: Api<DynamicObject> = Api::namespaced_with(ctx.client.clone(), &object.namespace, &resource);
    let message = format!("this version of Backstop cannot decode it: {}", object.error);
    let mut list = vec![];
    conditions::set(&mut list, condition, false, "Undecodable", &message, object.generation, clock::now());
    let patch = Patch::Merge(json!({ "status": { "conditions": list } }));
    let params = PatchParams { field_manager: Some(CONTROLLER.into()), ..PatchParams::default() };
    let write = api.patch_status(&object.name, &params, &patch);
    if let Err(error) = call(format!("write status of {} {}", object.kind, object.name), write).await {
        tracing::debug!(%error, "not told on the object itself");
    }
}
