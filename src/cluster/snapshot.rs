//! A workload with all that belongs to it, read by quorum for each decision, never from a cache.

use std::time::Duration;

use kube::{Client, api::ListParams};
use serde_json::Value;

use super::{
    api::{self, EVENTS, PODS, ReadError},
    room::{self, Room},
};
use crate::{
    api::v1alpha1::{ObjectRef, Time},
    core::{
        kube_name,
        managers::PRIMARY,
        object::{controller_of, controller_uid, owned_by, string},
        workload::{FAILED_CREATE, Kind, RawWorkload, Refusals, lacks_pods},
    },
};

/// Owners above an object that are followed.
const MAX_OWNERS: usize = 5;

/// Reads the workload `target`, its revisions, its pods and the controllers above it, all within `deadline`. A target
/// of another kind than those that record revisions is [`ReadError::Unsupported`]; only its owner is looked up.
///
/// A `target` with a UID means that very object: one that was deleted and recreated under its name is not found.
pub async fn snapshot(
    client: &Client,
    target: &ObjectRef,
    deadline: Duration,
    now: Time,
) -> Result<RawWorkload, ReadError> {
    snapshot_in(&whole(), client, target, deadline, now).await
}

/// Room for all that belongs to one workload.
fn whole() -> Room {
    Room::new(room::SMALL, room::READING)
}

async fn snapshot_in(
    room: &Room,
    client: &Client,
    target: &ObjectRef,
    deadline: Duration,
    now: Time,
) -> Result<RawWorkload, ReadError> {
    let timeout = || ReadError::Timeout { object: target.to_string(), milliseconds: deadline.as_millis() };
    tokio::time::timeout(deadline, read(room, client, target, deadline, now)).await.unwrap_or_else(|_| Err(timeout()))
}

/// As [`snapshot`], with what Events say where pods are missing that should be there. Events that cannot be read are
/// none; that they say nothing has to end in a decision too.
pub async fn snapshot_with_events(
    client: &Client,
    target: &ObjectRef,
    deadline: Duration,
    now: Time,
) -> Result<RawWorkload, ReadError> {
    let room = whole();
    let mut raw = snapshot_in(&room, client, target, deadline, now).await?;
    if lacks_pods(&raw) {
        let uid = string(&raw.object, "/metadata/uid");
        let chosen = format!("reason={FAILED_CREATE},regarding.uid={uid}");
        let chosen = ListParams::default().fields(&chosen);
        match EVENTS.list_in(&room, client, &target.namespace, chosen, deadline / 4).await {
            Ok(events) => raw.refusals = Refusals::Events(events),
            Err(error) => tracing::debug!(%error, "why pods are missing cannot be looked up"),
        }
    }
    Ok(raw)
}

async fn read(
    room: &Room,
    client: &Client,
    target: &ObjectRef,
    deadline: Duration,
    now: Time,
) -> Result<RawWorkload, ReadError> {
    let Some(kind) = Kind::of(target) else {
        // Whose it is helps the person who takes over; that it cannot be read does not.
        let known = api::is_built_in(target);
        let metadata = if known { metadata(client, target, deadline).await.ok().flatten() } else { None };
        let owner = metadata.and_then(|found| controller_of(&found, &target.namespace)).map(|owner| owner.to_string());
        return Err(ReadError::Unsupported { object: target.to_string(), owner });
    };
    let ObjectRef { namespace, name, .. } = target;
    let object = api::workloads(kind).get_in(room, client, namespace, name, deadline).await?;
    let uid = string(&object, "/metadata/uid").to_owned();
    if !target.uid.is_empty() && target.uid != uid {
        return Err(ReadError::NotFound { object: format!("{target} with UID {}", target.uid) });
    }
    let selector = || ListParams::default().labels(&selector(&object));
    let revisions = api::revisions(kind);
    let (revisions, pods, owners, primary) = tokio::join!(
        revisions.list_in(room, client, namespace, selector(), deadline),
        PODS.list_in(room, client, namespace, selector(), deadline),
        owners(client, namespace, &object, deadline),
        primary(client, target, kind, deadline),
    );
    let primary = primary?;
    let (revisions, others): (Vec<_>, Vec<_>) = revisions?.into_iter().partition(|it| owned_by(it, &uid));
    let rivals = others.into_iter().filter(|revision| is_of_another_group(revision, namespace)).collect();
    let mut pods = pods?;
    pods.retain(|pod| match kind {
        Kind::Deployment => {
            controller_uid(pod).is_some_and(|owner| revisions.iter().any(|set| string(set, "/metadata/uid") == owner))
        }
        Kind::StatefulSet | Kind::DaemonSet => owned_by(pod, &uid),
    });
    let refusals = Refusals::Unknown;
    Ok(RawWorkload { object, owners, primary, rivals, revisions, pods, refusals, read_at: now })
}

/// Metadata of the copy that a canary controller makes of its target, whose name follows from the target's. The kinds of
/// canaries themselves may not be read. A copy that cannot be read may be there.
async fn primary(
    client: &Client,
    target: &ObjectRef,
    kind: Kind,
    deadline: Duration,
) -> Result<Option<Value>, ReadError> {
    let name = format!("{}{PRIMARY}", target.name);
    // A name that is too long for an object is none of one.
    if !kube_name::is_subdomain(&name) {
        return Ok(None);
    }
    match api::workloads(kind).get_metadata(client, &target.namespace, &name, deadline).await {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether something else than Kubernetes itself controls a revision. One that our selector chooses is another's only
/// where that one works on our target, or by mistake; both is nothing to write into.
fn is_of_another_group(revision: &Value, namespace: &str) -> bool {
    controller_of(revision, namespace).is_some_and(|owner| !api::is_built_in(&owner))
}

/// The controllers above an object, nearest first. One that may not be read, or whose kind is not known, ends the
/// chain and is in it: that there is an owner is what matters.
async fn owners(client: &Client, namespace: &str, object: &Value, deadline: Duration) -> Vec<ObjectRef> {
    let mut owners = Vec::new();
    let mut next = controller_of(object, namespace);
    while let Some(owner) = next.take() {
        if owners.len() < MAX_OWNERS && api::is_built_in(&owner) {
            next = match metadata(client, &owner, deadline).await {
                Ok(Some(metadata)) => controller_of(&metadata, namespace),
                Ok(None) | Err(_) => None,
            };
        }
        owners.push(owner);
    }
    owners
}

/// Metadata of a built-in object; `None` when it is gone, or another one has its name now.
async fn metadata(client: &Client, object: &ObjectRef, deadline: Duration) -> Result<Option<Value>, ReadError> {
    let Some(resource) = api::built_in(&object.kind) else { return Ok(None) };
    match resource.get_metadata(client, &object.namespace, &object.name, deadline).await {
        Ok(found) => {
            let uid = found.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default();
            Ok((object.uid.is_empty() || object.uid == uid).then_some(found))
        }
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// What an alert's object belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Top {
    /// The topmost built-in workload, with UID.
    pub object: ObjectRef,
    /// An owner above it that is not built in, such as an operator's object.
    pub owner: Option<ObjectRef>,
}

/// Follows a Pod to its ReplicaSet and Deployment, a Job to its CronJob, and so on. `None` when the object itself
/// does not exist. An owner above the topmost built-in workload is in the workload's snapshot.
pub async fn resolve_top(
    client: &Client,
    kind: &str,
    namespace: &str,
    name: &str,
    deadline: Duration,
) -> Result<Option<ObjectRef>, ReadError> {
    Ok(resolve(client, kind, namespace, name, deadline).await?.map(|top| top.object))
}

/// As [`resolve_top`], with the owner above.
pub async fn resolve(
    client: &Client,
    kind: &str,
    namespace: &str,
    name: &str,
    deadline: Duration,
) -> Result<Option<Top>, ReadError> {
    let timeout =
        || ReadError::Timeout { object: format!("{kind} {namespace}/{name}"), milliseconds: deadline.as_millis() };
    tokio::time::timeout(deadline, climb(client, kind, namespace, name, deadline))
        .await
        .unwrap_or_else(|_| Err(timeout()))
}

async fn climb(
    client: &Client,
    kind: &str,
    namespace: &str,
    name: &str,
    deadline: Duration,
) -> Result<Option<Top>, ReadError> {
    let Some(resource) = api::built_in(kind) else { return Ok(None) };
    let mut object = ObjectRef {
        api_version: resource.api_version.into(),
        kind: resource.kind.into(),
        namespace: if resource.namespaced { namespace.into() } else { String::new() },
        name: name.into(),
        uid: String::new(),
    };
    let Some(mut found) = metadata(client, &object, deadline).await? else { return Ok(None) };
    object.uid = found.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default().into();
    for _ in 0..MAX_OWNERS {
        let Some(owner) = controller_of(&found, namespace) else { return Ok(Some(Top { object, owner: None })) };
        // A Node owns the mirror pods of its manifests: nothing that a workload could be.
        if !api::is_built_in(&owner) || owner.kind == "Node" {
            return Ok(Some(Top { object, owner: Some(owner) }));
        }
        match metadata(client, &owner, deadline).await? {
            Some(above) => (object, found) = (owner, above),
            // Left behind by an owner that is gone: nothing acts for the missing one.
            None => return Ok(Some(Top { object, owner: Some(owner) })),
        }
    }
    Ok(Some(Top { object, owner: controller_of(&found, namespace) }))
}

/// The object's label selector in the words of a query.
fn selector(object: &Value) -> String {
    let mut terms = Vec::new();
    let labels = object.pointer("/spec/selector/matchLabels").and_then(Value::as_object);
    for (key, value) in labels.into_iter().flatten() {
        terms.push(format!("{key}={}", value.as_str().unwrap_or_default()));
    }
    let expressions = object.pointer("/spec/selector/matchExpressions").and_then(Value::as_array);
    for expression in expressions.into_iter().flatten() {
        let field = |name: &str| expression.get(name).and_then(Value::as_str).unwrap_or_default();
        let values = expression.get("values").and_then(Value::as_array);
        let values: Vec<&str> = values.into_iter().flatten().filter_map(Value::as_str).collect();
        let (key, values) = (field("key"), values.join(","));
        match field("operator") {
            "In" => terms.push(format!("{key} in ({values})")),
            "NotIn" => terms.push(format!("{key} notin ({values})")),
            "Exists" => terms.push(key.to_owned()),
            "DoesNotExist" => terms.push(format!("!{key}")),
            // What is not understood selects more, and owner references filter it again.
            _ => {}
        }
    }
    terms.join(",")
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod snapshot_tests;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_selector_is_written_in_the_words_of_a_query() {
        let object = json!({"spec": {"selector": {
            "matchLabels": {"app": "checkout"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["a", "b"]},
                {"key": "canary", "operator": "DoesNotExist"}
            ]
        }}});
        assert_eq!(selector(&object), "app=checkout,tier in (a,b),!canary");
    }
}
