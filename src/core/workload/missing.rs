//! Pods that the controller of a StatefulSet or DaemonSet wants and that are not made. A ReplicaSet says in a condition
//! that its pods are refused; these two say it in Events only, and in what their status counts.
//!
//! That pods are missing is read from status and pods, which only controllers of the cluster write. Why they are is in
//! the words of an Event. Whoever may not read Events takes any change of the template for a possible reason: it asks
//! less, and never decides alone.

use serde_json::Value;

use super::{Kind, RawWorkload, Strategy, obstacle::words, pod_count};
use crate::api::v1alpha1::{Obstacle, Time};
use crate::core::object::{condition, controller_uid, generation, int, int32, known_time, string};

/// Reason of the Events of a controller whose pods are refused.
pub const FAILED_CREATE: &str = "FailedCreate";
/// Ordinals that are looked at.
const MAX_ORDINALS: i32 = 1000;

/// What is known of why pods are not made.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Refusals {
    /// Nobody asked, or nobody could say.
    #[default]
    Unknown,
    /// The reader has no right to Events: that pods are missing has to be enough.
    Unread,
    /// The Events about the workload with the reason [`FAILED_CREATE`], as raw JSON.
    Events(Vec<Value>),
}

/// Whether pods of the current template are missing that its controller, which has seen that template, has to make now.
/// While one of its pods is ending, or an ordered StatefulSet waits for a lower ordinal, nothing has to be made yet.
pub fn lacks_pods(raw: &RawWorkload) -> bool {
    let RawWorkload { object, pods, .. } = raw;
    let uid = string(object, "/metadata/uid");
    let own: Vec<&Value> = pods.iter().filter(|pod| controller_uid(pod) == Some(uid)).collect();
    let Some(kind) = Kind::named(string(object, "/kind")) else { return false };
    let seen = int(object, "/status/observedGeneration").unwrap_or_default() >= generation(object);
    let ends = |pod: &&Value| !string(pod, "/metadata/deletionTimestamp").is_empty();
    if !seen || own.iter().any(ends) {
        return false;
    }
    let fewer =
        |wanted: i32| pod_count(kind, object) < wanted && i32::try_from(own.len()).is_ok_and(|there| there < wanted);
    match (kind, Strategy::of(kind, object)) {
        (Kind::DaemonSet, Strategy::RollingUpdate { .. }) => fewer(int32(object, "/status/desiredNumberScheduled")),
        (Kind::StatefulSet, Strategy::RollingUpdate { partition, ordered }) => {
            let replicas = object.pointer("/spec/replicas").map_or(1, |_| int32(object, "/spec/replicas"));
            fewer(replicas) && first_missing(object, &own, replicas, ordered).is_some_and(|first| first >= partition)
        }
        // A Deployment's ReplicaSets say it themselves, and with `OnDelete` no release reaches a pod.
        (Kind::Deployment | Kind::StatefulSet | Kind::DaemonSet, _) => false,
    }
}

/// The lowest ordinal without a pod, counted from the first; `None` where a pod of a lower one is waited for.
fn first_missing(object: &Value, pods: &[&Value], replicas: i32, ordered: bool) -> Option<i32> {
    let name = string(object, "/metadata/name");
    let start = int32(object, "/spec/ordinals/start").max(0);
    for ordinal in 0..replicas.min(MAX_ORDINALS) {
        let wanted = format!("{name}-{}", start.saturating_add(ordinal));
        match pods.iter().find(|pod| string(pod, "/metadata/name") == wanted) {
            None => return Some(ordinal),
            Some(pod) if ordered && !is_ready(pod) => return None,
            Some(_) => {}
        }
    }
    None
}

fn is_ready(pod: &Value) -> bool {
    condition(pod, "Ready").is_some_and(|ready| string(ready, "/status") == "True")
}

/// What the API server says when it refuses pods of the current revision, made at `made`; `None` where none are missing
/// or nobody says so. The message is empty for a reader without Events.
pub fn refused(raw: &RawWorkload, made: Option<Time>) -> Option<Obstacle> {
    if !lacks_pods(raw) {
        return None;
    }
    let events = match &raw.refusals {
        Refusals::Unknown => return None,
        Refusals::Unread => return Some(Obstacle::default()),
        Refusals::Events(events) => events,
    };
    let uid = string(&raw.object, "/metadata/uid");
    let about = |event: &&Value| {
        string(event, "/reason") == FAILED_CREATE
            && string(event, "/type") == "Warning"
            && string(event, "/regarding/uid") == uid
    };
    let dated = events.iter().filter(about).filter_map(|event| Some((last_seen(event)?, event)));
    // What was said of an earlier template says nothing of this one.
    let (_, newest) = dated.filter(|(at, _)| made.is_some_and(|made| *at >= made)).max_by_key(|(at, _)| *at)?;
    words(string(newest, "/note"))
}

/// When an Event of `events.k8s.io/v1` was last seen.
pub fn last_seen(event: &Value) -> Option<Time> {
    ["/series/lastObservedTime", "/deprecatedLastTimestamp", "/eventTime", "/metadata/creationTimestamp"]
        .into_iter()
        .find_map(|pointer| known_time(string(event, pointer)))
}

#[cfg(test)]
#[path = "missing_tests.rs"]
mod tests;
