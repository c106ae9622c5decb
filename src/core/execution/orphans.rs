//! Leftovers: labels of ours that no open Remediation accounts for. Found after a crash between the last write
//! and its record, and by `backstop disarm`, for which nothing is accounted for.

use serde_json::Value;

use super::{Request, Resource, Verb, marks::to_revision, patch, step::armed_by};
use crate::core::{actions, names, object, workload::Kind};

/// What carries our labels in one namespace. Each object stands with the kind of target that it is, or that it is a
/// revision of.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Every target with the label `backstop.dev/armed`.
    pub armed: Vec<(Kind, Value)>,
    /// Every revision with the label `backstop.dev/undo-to`.
    pub marked: Vec<(Kind, Value)>,
    /// Every revision; read only when something is armed and nothing is marked.
    pub revisions: Vec<(Kind, Value)>,
    /// Action id and target UID of each open Remediation.
    pub open: Vec<(String, String)>,
}

/// The next request that takes a leftover away; `None` when there is none.
pub fn orphans(seen: &Surroundings) -> Option<Request> {
    let accounted = |target: &Value| {
        seen.open.iter().any(|(id, uid)| Some(id.as_str()) == armed_by(target) && uid == object::meta(target, "uid"))
    };
    if let Some((kind, target)) = seen.armed.iter().find(|(_, target)| !accounted(target)) {
        // Where the action needs a marked revision every write on the armed object is refused without one, this one
        // too.
        let uid = object::meta(target, "uid");
        let same = |other: Kind| other.revision_kind() == kind.revision_kind();
        if needs_mark(target)
            && !seen.marked.iter().any(|(other, _)| same(*other))
            && let Some((_, any)) =
                seen.revisions.iter().find(|(_, revision)| object::controller_uid(revision) == Some(uid))
        {
            return Some(to_revision(Verb::MarkRevision, *kind, any));
        }
        return Some(Request {
            verb: Verb::Disarm,
            resource: Resource::Target(*kind),
            namespace: object::meta(target, "namespace").to_owned(),
            name: object::meta(target, "name").to_owned(),
            dry_run: false,
            body: patch::disarm(target),
        });
    }
    if !seen.armed.is_empty() {
        return None;
    }
    let (kind, stale) = seen.marked.iter().find(|(_, revision)| {
        let owner = object::controller_uid(revision);
        !seen.open.iter().any(|(_, uid)| owner == Some(uid.as_str()))
    })?;
    Some(to_revision(Verb::UnmarkRevision, *kind, stale))
}

/// The action that armed the object writes a recorded value. A label that names none may have been of an action that
/// is no longer known, so it counts as one that does.
fn needs_mark(target: &Value) -> bool {
    let label = object::label(target, names::ARMED).unwrap_or_default();
    actions::all().find(|definition| definition.armed_label == label).is_none_or(|definition| definition.provenance)
}
