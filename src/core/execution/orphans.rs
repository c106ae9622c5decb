//! Leftovers: labels of ours that no open Remediation accounts for. Found after a crash between the last write
//! and its record, and by `backstop disarm`, for which nothing is accounted for.

use serde_json::Value;

use super::{Request, Resource, Verb, patch, step::armed_by};
use crate::core::object;

/// What carries our labels in one namespace.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Every Deployment with the label `backstop.dev/armed`.
    pub armed: Vec<Value>,
    /// Every ReplicaSet with the label `backstop.dev/undo-to`.
    pub marked: Vec<Value>,
    /// Every ReplicaSet; read only when something is armed and nothing is marked.
    pub revisions: Vec<Value>,
    /// Action id and target UID of each open Remediation.
    pub open: Vec<(String, String)>,
}

/// The next request that takes a leftover away; `None` when there is none.
pub fn orphans(seen: &Surroundings) -> Option<Request> {
    let accounted = |target: &&Value| {
        seen.open.iter().any(|(id, uid)| Some(id.as_str()) == armed_by(target) && uid == object::meta(target, "uid"))
    };
    if let Some(target) = seen.armed.iter().find(|target| !accounted(target)) {
        // Without a marked revision every write on an armed object is refused, also this one.
        let uid = object::meta(target, "uid");
        if seen.marked.is_empty()
            && let Some(any) = seen.revisions.iter().find(|revision| object::controller_uid(revision) == Some(uid))
        {
            return Some(to_revision(Verb::MarkRevision, any, patch::mark(any)));
        }
        return Some(Request {
            verb: Verb::Disarm,
            resource: Resource::Deployment,
            namespace: object::meta(target, "namespace").to_owned(),
            name: object::meta(target, "name").to_owned(),
            dry_run: false,
            patch: patch::disarm(target),
        });
    }
    if !seen.armed.is_empty() {
        return None;
    }
    let stale = seen.marked.iter().find(|revision| {
        let owner = object::controller_uid(revision);
        !seen.open.iter().any(|(_, uid)| owner == Some(uid.as_str()))
    })?;
    Some(to_revision(Verb::UnmarkRevision, stale, patch::unmark(stale)))
}

pub(super) fn to_revision(verb: Verb, revision: &Value, patch: Value) -> Request {
    Request {
        verb,
        resource: Resource::ReplicaSet,
        namespace: object::meta(revision, "namespace").to_owned(),
        name: object::meta(revision, "name").to_owned(),
        dry_run: false,
        patch,
    }
}
