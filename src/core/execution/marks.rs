//! The mark on the one revision whose value may be written: the parameter of the policy that compares with revisions.

use serde_json::Value;

use super::{Memory, Next, Observation, Request, Resource, Verb, patch};
use crate::{
    api::v1alpha1::RemediationSpec,
    core::{
        names, object,
        reason::Reason,
        workload::{Kind, recorded_template, same_template},
    },
};

/// Makes the named revision the only marked one. `None`: it is, the action needs none, or it was decided to stop.
pub(super) fn mark(memory: &mut Memory, seen: &Observation, kind: Kind) -> Option<Next> {
    let provenance = seen.remediation.spec.provenance.as_ref()?;
    let is_named = |revision: &&Value| object::meta(revision, "uid") == provenance.uid;
    if memory.exhausted(Verb::MarkRevision) || memory.exhausted(Verb::UnmarkRevision) {
        memory.end(Reason::TooManyConflicts, format!("{provenance} changed during each try to label it"));
        return None;
    }
    let named = seen.marked.iter().find(is_named).or_else(|| seen.revision.as_ref().filter(is_named));
    let Some(named) = named else {
        memory.end(Reason::RevisionGone, format!("{provenance} does not exist any more"));
        return None;
    };
    if let Err(message) = records_what_is_granted(named, &seen.remediation.spec, kind) {
        memory.end(Reason::RevisionGone, message);
        return None;
    }
    if let Some(stale) = seen.marked.iter().find(|revision| !is_named(revision)) {
        return Some(Next::Send(to_revision(Verb::UnmarkRevision, kind, stale)));
    }
    if object::label(named, names::UNDO_TO) != Some("true") {
        return Some(Next::Send(to_revision(Verb::MarkRevision, kind, named)));
    }
    None
}

/// With no marked revision left every write on the armed object is refused, disarm too, because admission collects its
/// parameters first: then any revision of the same object is marked.
pub(super) fn replacement(memory: &Memory, seen: &Observation, kind: Kind) -> Option<Next> {
    if seen.remediation.spec.provenance.is_none() || !seen.marked.is_empty() || memory.exhausted(Verb::MarkRevision) {
        return None;
    }
    let any = seen.revision.iter().chain(&seen.siblings).find(|revision| belongs(revision, seen))?;
    Some(Next::Send(to_revision(Verb::MarkRevision, kind, any)))
}

/// Takes the marks of the target's revisions off, once nothing is armed that needs one. A mark that cannot be taken
/// off is left to the sweep.
pub(super) fn unmark(memory: &Memory, seen: &Observation, kind: Kind) -> Option<Next> {
    if !seen.armed.is_empty() || memory.exhausted(Verb::UnmarkRevision) {
        return None;
    }
    let marked = seen.marked.iter().find(|revision| belongs(revision, seen))?;
    Some(Next::Send(to_revision(Verb::UnmarkRevision, kind, marked)))
}

pub(super) fn to_revision(verb: Verb, kind: Kind, revision: &Value) -> Request {
    Request {
        verb,
        resource: Resource::Revision(kind),
        namespace: object::meta(revision, "namespace").to_owned(),
        name: object::meta(revision, "name").to_owned(),
        dry_run: false,
        body: if verb == Verb::MarkRevision { patch::mark(revision) } else { patch::unmark(revision) },
    }
}

fn records_what_is_granted(revision: &Value, spec: &RemediationSpec, kind: Kind) -> Result<(), String> {
    let name = || format!("{} {}", kind.revision_kind(), object::meta(revision, "name"));
    if object::controller_uid(revision) != Some(&spec.target.uid) {
        return Err(format!("{} is not a revision of {}", name(), spec.target));
    }
    // An API server prints what an earlier one stored with other empty fields.
    let recorded = recorded_template(kind, revision);
    let granted = spec.write.field().map(|field| &field.after);
    if !recorded.as_ref().zip(granted).is_some_and(|(recorded, granted)| same_template(recorded, granted)) {
        return Err(format!("{} no longer records the granted value", name()));
    }
    Ok(())
}

fn belongs(revision: &Value, seen: &Observation) -> bool {
    object::controller_uid(revision) == Some(&seen.remediation.spec.target.uid)
}
