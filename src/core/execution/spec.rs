//! Whether a Remediation is one that the executor can act on, and is what it says it is. Everything is compared with
//! the action's definition and nothing is taken on trust: the controller's account may be stolen.

use super::Ending;
use crate::{
    api::v1alpha1::{EvictWrite, ObjectRef, Purpose, Remediation, RemediationSpec, Write},
    core::{
        actions::{self, Definition, Prediction, identity},
        kube_name,
        reason::Reason,
        workload::Kind,
    },
};

/// The kind of the target, if it is one that any action knows.
pub fn target_kind(target: &ObjectRef) -> Option<Kind> {
    Kind::named(&target.kind).filter(|_| target.api_version == Kind::API_VERSION)
}

/// The Remediation is one that the executor can act on. The error says what does not fit.
pub fn check_spec(remediation: &Remediation) -> Result<Kind, Ending> {
    let spec = &remediation.spec;
    let definition = actions::of(spec.action.kind());
    let namespace = remediation.metadata.namespace.as_deref().unwrap_or_default();
    let kind = shape(spec, definition, namespace).map_err(|message| Ending { reason: Reason::Unsupported, message })?;
    let (digest, id) = identity::identity(spec);
    if spec.digest != digest || spec.action_id != id {
        return Err(Ending {
            reason: Reason::DigestMismatch,
            message: format!(
                "the spec has digest {digest} and action id {id}, and claims {} and {}",
                spec.digest, spec.action_id
            ),
        });
    }
    if spec.purpose == Purpose::Undo && repair_digest(spec).is_none() {
        return Err(Ending {
            reason: Reason::DigestMismatch,
            message: format!(
                "it is not the exact reverse of action {}, which it says it takes back",
                spec.follows.as_deref().unwrap_or_default()
            ),
        });
    }
    Ok(kind)
}

/// Digest of the repair that an undo takes back. `None` when it is not the exact reverse of the action that it
/// follows: an action id is a hash over incident, purpose and digest, so the reverse of the reverse has to give it.
pub(super) fn repair_digest(spec: &RemediationSpec) -> Option<String> {
    let Prediction { action, write, provenance, .. } = actions::undo_of(spec)?;
    let digest = identity::digest(&action, &spec.target, &write, provenance.as_ref());
    (spec.follows.as_ref() == Some(&identity::action_id(&spec.incident, Purpose::Repair, &digest))).then_some(digest)
}

fn shape(spec: &RemediationSpec, definition: &Definition, namespace: &str) -> Result<Kind, String> {
    let name = definition.kind;
    let kind = target_kind(&spec.target)
        .filter(|kind| definition.targets.contains(kind))
        .ok_or_else(|| format!("{} is not of a kind that {name} is for", spec.target))?;
    (definition.check)(&spec.action)?;
    object(&spec.target, namespace)?;
    if let (Purpose::Undo, Some(why)) = (spec.purpose, definition.no_way_back) {
        return Err(format!("{name} cannot be taken back: {why}"));
    }
    match spec.purpose {
        Purpose::Repair if spec.follows.is_some() => return Err("a repair follows no other action".into()),
        Purpose::Undo | Purpose::ReplacePod if spec.follows.is_none() => {
            return Err("it does not say which action it follows".into());
        }
        _ => {}
    }
    match (&spec.write, spec.purpose) {
        (Write::Field(field), Purpose::Repair | Purpose::Undo) => {
            if field.path != definition.path {
                return Err(format!("{name} writes {} and nothing else", definition.path));
            }
            recorded(spec, definition, kind, namespace)?;
        }
        (Write::Evict(EvictWrite { pod }), Purpose::ReplacePod) => {
            if !definition.evicts.contains(&kind) {
                return Err(format!("{name} evicts no pods of a {kind}"));
            }
            if (pod.api_version.as_str(), pod.kind.as_str()) != ("v1", "Pod") {
                return Err(format!("{pod} is not a v1 Pod"));
            }
            if spec.provenance.is_some() {
                return Err("an eviction writes no recorded value, and names a revision".into());
            }
            object(pod, namespace)?;
        }
        (Write::Field(_), Purpose::ReplacePod) => {
            return Err("a pod is replaced by an eviction, not by a change".into());
        }
        (Write::Evict(_), _) => return Err("an eviction only completes an earlier action".into()),
    }
    Ok(kind)
}

fn recorded(spec: &RemediationSpec, definition: &Definition, kind: Kind, namespace: &str) -> Result<(), String> {
    let name = definition.kind;
    match (&spec.provenance, definition.provenance) {
        (Some(provenance), true) => {
            let expected = (Kind::API_VERSION, kind.revision_kind());
            if (provenance.api_version.as_str(), provenance.kind.as_str()) != expected {
                return Err(format!("{provenance} is not an {} {}", expected.0, expected.1));
            }
            object(provenance, namespace)
        }
        (None, true) => Err(format!("{name} needs the revision that recorded the value, and none is named")),
        (Some(_), false) => Err(format!("{name} writes no recorded value, and a revision is named")),
        (None, false) => Ok(()),
    }
}

/// Only a name that is one may become part of a path.
fn object(object: &ObjectRef, namespace: &str) -> Result<(), String> {
    if object.namespace != namespace {
        return Err(format!("{object} is not in namespace {namespace}, where the Remediation is"));
    }
    if !kube_name::is_subdomain(&object.name) {
        return Err(format!("{:?} is not a name of a Kubernetes object", object.name));
    }
    if object.uid.is_empty() {
        return Err(format!("{object} has no UID in the spec"));
    }
    Ok(())
}
