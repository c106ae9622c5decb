//! Is the diagnosis grounded? By rule, never by similarity; and self-reported confidence is never a reason to act.

use crate::api::v1alpha1::{Cause, Claim, ClaimKind, Fact, FactData, PodFailure};
use crate::core::{actions::rollout_undo, reason::Reason, workload::Workload};

use super::{Case, Outcome, Subject, pass, refuse, unknown};

/// Facts older than this are not acted upon.
const FACTS_MAX_AGE: jiff::SignedDuration = jiff::SignedDuration::from_secs(60);

pub(crate) fn action_proposed(case: &Case<'_>, _: &Subject<'_>) -> Outcome {
    let Some(diagnosis) = case.diagnosis else {
        return unknown(Reason::NothingProposed, "there is no diagnosis");
    };
    match (&diagnosis.proposal, diagnosis.cause) {
        (Some(proposal), _) => pass(format!("{} proposes {}", diagnosis.diagnoser, proposal.action.kind())),
        (None, Cause::ConfigurationChanged) => {
            refuse(Reason::TemplateUnchanged, "the diagnosis is a change of configuration, not of the template")
        }
        (None, Cause::NeverWorked) => refuse(Reason::OnlyOneRevision, "the diagnosis is that it never worked"),
        (None, Cause::Recovered) => {
            refuse(Reason::NothingFails, "the diagnosis is that nothing fails any more").later()
        }
        (None, Cause::BadRollout | Cause::Unknown) => {
            let outcome = refuse(
                Reason::NothingProposed,
                format!("{} proposes no action: {}", diagnosis.diagnoser, diagnosis.advice),
            );
            if facts_are_overtaken(case) { outcome.later() } else { outcome }
        }
    }
}

/// Pods fail now, and none did when the facts were gathered: a diagnosis of the new state is worth waiting for.
fn facts_are_overtaken(case: &Case<'_>) -> bool {
    let failed_then = case.facts.iter().any(|fact| matches!(&fact.data, FactData::Pod(pod) if pod.failure.is_hard()));
    let fails_now =
        case.reading.as_ref().is_ok_and(|reading| reading.pods.iter().any(|pod| pod.fact.failure.is_hard()));
    fails_now && !failed_then
}

pub(crate) fn proposal_names_target(case: &Case<'_>, _: &Subject<'_>) -> Outcome {
    let (Some(proposal), Some(target)) = (case.diagnosis.and_then(|d| d.proposal.as_ref()), case.target) else {
        return pass("no object is proposed");
    };
    let same = proposal.target.kind == target.kind
        && proposal.target.namespace == target.namespace
        && proposal.target.name == target.name
        && (proposal.target.uid.is_empty() || proposal.target.uid == target.uid);
    if same {
        pass(format!("the proposal is about {target}"))
    } else {
        refuse(Reason::WrongTarget, format!("the proposal is about {}, the incident about {target}", proposal.target))
    }
}

pub(crate) fn claims_cite_facts(case: &Case<'_>, _: &Subject<'_>) -> Outcome {
    let claims = claims(case);
    for (index, claim) in claims.iter().enumerate() {
        let missing = claim.cites.iter().find(|id| !case.facts.iter().any(|fact| &fact.id == *id));
        if claim.cites.is_empty() {
            return refuse(Reason::ClaimUncited, format!("claim {} ({:?}) cites no fact", index + 1, claim.kind));
        }
        if let Some(id) = missing {
            return refuse(
                Reason::ClaimUncited,
                format!("claim {} ({:?}) cites {id}, which is not among the facts", index + 1, claim.kind),
            );
        }
    }
    if claims.is_empty() && case.diagnosis.is_some_and(|d| d.proposal.is_some()) {
        return refuse(Reason::ClaimUncited, "an action is proposed without a single claim");
    }
    pass(format!("{} claims cite facts that exist", claims.len()))
}

pub(crate) fn claims_supported(case: &Case<'_>, _: &Subject<'_>) -> Outcome {
    for (index, claim) in claims(case).iter().enumerate() {
        let cited: Vec<&Fact> = case.facts.iter().filter(|fact| claim.cites.contains(&fact.id)).collect();
        if !supported(claim, &cited) {
            return refuse(
                Reason::ClaimUnsupported,
                format!("claim {} ({:?}) is not carried by {}", index + 1, claim.kind, claim.cites.join(", ")),
            );
        }
    }
    pass("every claim is carried by the facts that it cites")
}

/// The rule of each kind of claim, over the facts that it cites.
fn supported(claim: &Claim, cited: &[&Fact]) -> bool {
    let any = |test: &dyn Fn(&FactData) -> bool| cited.iter().any(|fact| test(&fact.data));
    match claim.kind {
        ClaimKind::PodsFailing => any(
            &|d| matches!(d, FactData::Pod(p) if p.failure.is_hard() && (claim.failure == PodFailure::None || p.failure == claim.failure)),
        ),
        ClaimKind::FailingPodsRunRevision => {
            let failing = || {
                cited.iter().filter_map(|f| match &f.data {
                    FactData::Pod(p) if p.failure.is_hard() => Some(p),
                    _ => None,
                })
            };
            failing().next().is_some() && failing().all(|p| p.revision == claim.revision)
        }
        ClaimKind::TemplateChanged => any(
            &|d| matches!(d, FactData::RevisionDiff(r) if r.from == claim.revision && !r.restart_only && !r.changes.is_empty()),
        ),
        ClaimKind::TemplateUnchanged => any(&|d| match d {
            FactData::RevisionDiff(r) => r.restart_only || r.changes.is_empty(),
            FactData::Config(c) => c.changed_at.is_some() || !c.exists,
            FactData::Revision(r) => r.current,
            FactData::Pod(_) | FactData::Workload(_) => true,
            _ => false,
        }),
        ClaimKind::RevisionReady => {
            any(&|d| matches!(d, FactData::Revision(r) if r.number == claim.revision && r.ready > 0))
        }
        ClaimKind::OnlyOneRevision => {
            any(&|d| matches!(d, FactData::Revision(r) if r.current))
                && !any(&|d| matches!(d, FactData::Revision(r) if !r.current))
        }
        ClaimKind::NothingFails => !any(&|d| matches!(d, FactData::Pod(p) if p.failure.is_hard())),
    }
}

pub(crate) fn claims_hold(case: &Case<'_>, _: &Subject<'_>) -> Outcome {
    let Ok(reading) = &case.reading else { return unknown(Reason::ClusterUnreadable, "the target cannot be read") };
    for (index, claim) in claims(case).iter().enumerate() {
        if !holds(claim, reading) {
            return refuse(
                Reason::ClaimUngrounded,
                format!(
                    "claim {} ({:?}, revision {}) is not true of the cluster as it was read at {}",
                    index + 1,
                    claim.kind,
                    claim.revision,
                    reading.read_at
                ),
            );
        }
    }
    pass("every claim is true of the cluster as the judge reads it")
}

/// The rule of each kind of claim, over the judge's own reading.
fn holds(claim: &Claim, reading: &Workload) -> bool {
    let failing = || reading.pods.iter().filter(|pod| pod.fact.failure.is_hard());
    match claim.kind {
        ClaimKind::PodsFailing => failing().next().is_some(),
        ClaimKind::FailingPodsRunRevision => failing().all(|pod| pod.fact.revision == claim.revision),
        ClaimKind::TemplateChanged => match (reading.current(), rollout_undo::revision(reading, claim.revision)) {
            (Some(current), Some(earlier)) => {
                let diff = reading.diff(earlier, current);
                !diff.restart_only && !diff.changes.is_empty()
            }
            _ => false,
        },
        ClaimKind::TemplateUnchanged => true,
        ClaimKind::RevisionReady => {
            reading.revisions.iter().any(|r| r.fact.number == claim.revision && r.fact.ready > 0)
        }
        ClaimKind::OnlyOneRevision => reading.revisions.iter().all(|r| r.fact.current),
        ClaimKind::NothingFails => failing().next().is_none(),
    }
}

pub(crate) fn objects_exist(case: &Case<'_>, _: &Subject<'_>) -> Outcome {
    let (Some(diagnosis), Ok(reading)) = (case.diagnosis, &case.reading) else {
        return unknown(Reason::ObjectUnknown, "there is nothing to compare with");
    };
    if let Some(suspect) = &diagnosis.suspect {
        let named = |object: &crate::api::v1alpha1::ObjectRef| {
            object.kind == suspect.kind && object.name == suspect.name && object.namespace == suspect.namespace
        };
        let in_facts = case.facts.iter().any(|fact| named(&fact.object));
        let in_cluster = named(&reading.object)
            || reading.pods.iter().any(|pod| named(&pod.object))
            || reading.revisions.iter().any(|revision| named(&revision.object))
            || suspect.kind == "ConfigMap" && suspect.namespace == reading.object.namespace;
        if !(in_facts && in_cluster) {
            return refuse(Reason::ObjectUnknown, format!("{suspect} is named and was not found"));
        }
    }
    let number = diagnosis.suspected_revision;
    if number != 0 && !reading.revisions.iter().any(|revision| revision.fact.number == number) {
        return refuse(Reason::ObjectUnknown, format!("revision {number} is suspected and does not exist"));
    }
    pass("every object and revision that is named exists")
}

pub(crate) fn opinions_agree(case: &Case<'_>, _: &Subject<'_>) -> Outcome {
    let (Some(first), Some(second)) = (case.diagnosis, case.second_opinion) else {
        return pass("there is one opinion");
    };
    let action =
        |d: &crate::api::v1alpha1::Diagnosis| d.proposal.as_ref().map(|p| (p.action.clone(), p.target.name.clone()));
    if action(first) == action(second) {
        pass(format!("{} and {} propose the same", first.diagnoser, second.diagnoser))
    } else {
        refuse(
            Reason::OpinionsDiffer,
            format!("{} and {} propose different actions", first.diagnoser, second.diagnoser),
        )
    }
}

pub(crate) fn confidence_above_floor(case: &Case<'_>, _: &Subject<'_>) -> Outcome {
    let Some(diagnosis) = case.diagnosis else { return unknown(Reason::NothingProposed, "there is no diagnosis") };
    let floor = case.matching_policies().iter().map(|policy| policy.spec.confidence_floor).max().unwrap_or(0);
    if diagnosis.confidence >= floor {
        pass(format!("confidence {} is not below the floor {floor}", diagnosis.confidence))
    } else {
        refuse(Reason::ConfidenceTooLow, format!("confidence {} is below the floor {floor}", diagnosis.confidence))
    }
}

pub(crate) fn facts_fresh(case: &Case<'_>, _: &Subject<'_>) -> Outcome {
    let cited = claims(case).iter().flat_map(|claim| &claim.cites);
    let oldest = case.facts.iter().filter(|fact| cited.clone().any(|id| *id == fact.id)).map(|fact| fact.seen_at).min();
    match oldest {
        Some(at) if case.now.duration_since(at) > FACTS_MAX_AGE => {
            refuse(Reason::FactsStale, format!("a cited fact was seen at {at}, more than a minute ago")).later()
        }
        Some(at) => pass(format!("the oldest cited fact was seen at {at}")),
        None => pass("no fact is cited"),
    }
}

fn claims<'a>(case: &Case<'a>) -> &'a [Claim] {
    case.diagnosis.map(|diagnosis| diagnosis.claims.as_slice()).unwrap_or_default()
}
