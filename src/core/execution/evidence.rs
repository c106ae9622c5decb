//! Whether the executor's own reading bears the write out. The controller is not trusted: it may be stolen, late or
//! wrong, so the executor asks the same pure checks and rules again, of what it read itself.

use serde::Deserialize;

use super::{Ending, spec};
use crate::{
    api::v1alpha1::{
        ApprovalAnswer, ApprovalSpec, ApprovalStatus, ApprovalTerms, KnownGood, MatchConstraints, Mode, Protected,
        Purpose, Remediation, Time,
    },
    core::{
        actions::identity,
        approvals::{self, Standing, Voice},
        gate::{self, Override},
        names, policy,
        reason::Reason,
        workload::Workload,
    },
};

/// What the executor read for itself, in one go.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// The target with its revisions, pods and owners.
    pub workload: Workload,
    /// Revisions of the namespace that were seen healthy.
    pub known_good: Vec<KnownGood>,
    /// Value of the namespace's mode label.
    pub namespace_mode: Option<String>,
    /// Policies of this namespace and of the system namespace.
    pub policies: Vec<PolicyBounds>,
    /// Approvals of the incident.
    pub approvals: Vec<Consent>,
    /// Who says no because of Approvals that cannot be read: nobody knows that they are no no.
    pub unread: Vec<String>,
}

/// What a Policy says that the executor needs: no prose and no CEL reach it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyBounds {
    /// `namespace/name`, for people; not a part of what it says.
    #[serde(skip)]
    pub name: String,
    /// The highest mode that it leaves.
    pub mode: Mode,
    /// Which targets it is for.
    #[serde(default)]
    pub match_constraints: MatchConstraints,
    /// The action may be done to what Helm installed.
    #[serde(default)]
    pub allow_helm: bool,
    /// The highest mode in which what the rules do not confirm may be done. Absent: `observe`, so it is not.
    #[serde(default)]
    pub model_mode: Mode,
    /// Which targets are never written to.
    #[serde(default)]
    pub protected: Option<Protected>,
    /// Who has to approve, where a person has to.
    #[serde(default)]
    pub approvals: Option<ApprovalTerms>,
}

/// A person's yes or no: what an Approval says.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Consent {
    /// What they say to which exact action, who, and until when.
    pub spec: ApprovalSpec,
    /// Whether it was used.
    #[serde(default)]
    pub status: Option<ApprovalStatus>,
}

/// Why the executor's own reading does not bear a write out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unborne {
    /// What is written down where it ends because of it.
    pub ending: Ending,
    /// Time may turn it: the target looks well, or is in motion.
    pub passes: bool,
}

/// Whether `remediation` may be written, by what the executor read itself: the mode and the Approvals allow it, and the
/// evidence chain of the gate finds on this reading what the action needs.
pub fn may_write(remediation: &Remediation, seen: &Evidence, now: Time) -> Result<(), Unborne> {
    let said_no = |ending| Unborne { ending, passes: false };
    spared(seen).map_err(said_no)?;
    mode(remediation, seen, now).map_err(said_no)?;
    let helm = seen.policies.iter().any(|policy| policy.allow_helm && matches(policy, seen));
    let unconfirmed = unconfirmed(remediation, seen, now);
    let own = gate::own_evidence(&remediation.spec, &seen.workload, Some(&seen.known_good), helm, unconfirmed);
    match own.refusal {
        Some(refusal) => {
            refused(refusal.reason, refusal.message).map_err(|ending| Unborne { ending, passes: own.passes })
        }
        None => Ok(()),
    }
}

/// Whether a repair that the rules do not propose on this reading may be written: where a person approved exactly it, and
/// every Policy that matches, at least one, lets an answer of a model go as far as that. The mode alone never does.
fn unconfirmed(remediation: &Remediation, seen: &Evidence, now: Time) -> Override {
    let mut matching = seen.policies.iter().filter(|policy| matches(policy, seen)).peekable();
    let allowed = matching.peek().is_some() && matching.all(|policy| policy.model_mode >= Mode::Approve);
    match standing(remediation, seen, now) {
        Standing::Approved(who) if allowed => Override::Given(who),
        Standing::Approved(_) | Standing::Denied(_) | Standing::Missing(_) => Override::No,
    }
}

/// What the answers to this write come to, by what every Policy that matches asks for.
fn standing(remediation: &Remediation, seen: &Evidence, now: Time) -> Standing {
    let matching = seen.policies.iter().filter(|policy| matches(policy, seen));
    let terms = approvals::merged(matching.filter_map(|policy| policy.approvals.as_ref()));
    let undoes = remediation.spec.purpose == Purpose::Undo;
    let voices = seen.approvals.iter().filter(|consent| covers(consent, remediation, now)).map(|consent| Voice {
        approver: &consent.spec.approver,
        groups: &consent.spec.groups,
        answer: consent.spec.answer,
    });
    // Whoever says no to a repair does not say that it may not be taken back.
    if let Some(who) = seen.unread.first().filter(|_| !undoes) {
        return Standing::Denied(who.clone());
    }
    approvals::standing(voices.filter(|voice| !undoes || voice.answer == ApprovalAnswer::Approve), &terms)
}

/// No Policy that matches protects the target.
fn spared(seen: &Evidence) -> Result<(), Ending> {
    let Workload { object, labels, .. } = &seen.workload;
    let by = |policy: &PolicyBounds| {
        let by = policy::protects(policy.protected.as_ref()?, object, labels)?;
        Some(format!("Policy {} protects {object} by its {by}", policy.name))
    };
    match seen.policies.iter().filter(|policy| matches(policy, seen)).find_map(by) {
        Some(message) => refused(Reason::Protected, message),
        None => Ok(()),
    }
}

fn matches(policy: &PolicyBounds, seen: &Evidence) -> bool {
    let Workload { object, labels, .. } = &seen.workload;
    policy::applies(&policy.match_constraints, Some(&object.kind), Some(labels)) != policy::Match::No
}

/// The mode that the namespace's label and the Policies leave allows it, and in mode approve a person did.
fn mode(remediation: &Remediation, seen: &Evidence, now: Time) -> Result<(), Ending> {
    let spec = &remediation.spec;
    let policies = seen.policies.iter().filter(|policy| matches(policy, seen));
    let label = Mode::from_label(seen.namespace_mode.as_deref());
    match policies.map(|policy| policy.mode).fold(label, Ord::min) {
        Mode::Observe | Mode::Suggest => {
            let message = format!("label {} or a Policy forbids writes to {}", names::MODE, spec.target);
            refused(Reason::ModeForbids, message)
        }
        Mode::Approve => match standing(remediation, seen, now) {
            Standing::Approved(_) => Ok(()),
            Standing::Denied(who) => {
                let message = format!("{who} denied digest {} of incident {}", spec.digest, spec.incident);
                refused(Reason::ApprovalDenied, message)
            }
            Standing::Missing(who) => {
                let message = format!("digest {} of incident {} is {who}", spec.digest, spec.incident);
                refused(Reason::ApprovalMissing, message)
            }
        },
        Mode::Auto => Ok(()),
    }
}

/// Whether a person's answer is to this write. A yes to a repair is one to take it back exactly, and to evict the pods
/// that keep it from completing: the id of the action that is followed is a hash over what was approved.
fn covers(consent: &Consent, remediation: &Remediation, now: Time) -> bool {
    let spec = &remediation.spec;
    let ApprovalSpec { approver, groups: _, incident, digest, answer: _, expires_at } = &consent.spec;
    // Accounts of the cluster's own components, ours included, are not people.
    if approver.is_empty() || approver.starts_with("system:") || *incident != spec.incident || *expires_at <= now {
        return false;
    }
    if *digest == spec.digest {
        let used_by = consent.status.as_ref().map(|status| status.used_by.as_str()).unwrap_or_default();
        return used_by.is_empty() || Some(used_by) == remediation.metadata.name.as_deref();
    }
    match spec.purpose {
        Purpose::Repair => false,
        Purpose::Undo => spec::repair_digest(spec).as_ref() == Some(digest),
        Purpose::ReplacePod => {
            spec.follows.as_ref() == Some(&identity::action_id(&spec.incident, Purpose::Repair, digest))
        }
    }
}

fn refused(reason: Reason, message: String) -> Result<(), Ending> {
    Err(Ending { reason, message: format!("by the executor's own reading: {message}") })
}
