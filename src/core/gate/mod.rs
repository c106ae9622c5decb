//! The gate: chains of small named checks. Each check is a pure function that returns a verdict with a reason and a
//! sentence, and one evaluator keeps *all* verdicts, not only the first refusal.
//!
//! A repair is asked for preconditions, the evidence that every action needs, that of the action itself
//! ([`Definition::evidence`]), the quality of the diagnosis, and bounds. Taking a repair back and completing it have
//! chains of their own, and the executor asks the evidence part again, of its own reading. [`chains`] lists them all.
//!
//! Outcomes carry their effect: nothing here, and nobody who asks, branches on the name of a check or on a reason.

mod bounds;
pub mod case;
pub mod chains;
pub mod check;
pub mod claims;
mod evidence;
mod follow;
pub mod grounding;
pub mod observed;
mod opinions;
pub mod outcome;
mod quality;
mod readable;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
mod variables;

pub use case::{
    Alerts, Belief, Books, Case, Cluster, MAX_ROUNDS, Rules, RunbookRule, Unreadable, ValidApproval, standing,
};
pub use chains::check_names;
pub use observed::Override;
pub use opinions::Ungrounded;
pub use quality::{FACTS_MAX_AGE, are_overtaken, are_stale};
pub use readable::Readable;

use crate::api::v1alpha1::{
    Action, ActionKind, CheckVerdict, Decision, DecisionOutcome, EvictWrite, KnownGood, ManifestChange, ObjectRef,
    Purpose, RemediationSpec, Time, Write,
};

use super::actions::{self, Definition, Prediction, Refusal};
use super::budget::Charge;
use super::manifest;
use super::policy::CompiledPolicy;
use super::reason::Reason;
use super::redact::quoted;
use super::workload::Workload;

use check::Verdicts;
use observed::Observed;
use outcome::{Effect, Outcome};
use readable::{Follow, Own};

/// A decision with the exact values that it is about.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// What is written to the Incident.
    pub decision: Decision,
    /// The decision's reason.
    pub reason: Reason,
    /// What exactly would be written to the target; present whenever the outcome is `Act`.
    pub prediction: Option<Prediction>,
    /// Reasons of refusals that count for the cascade breaker, each once.
    pub anomalies: Vec<Reason>,
    /// What is charged to the Ledger before anything is written, as the checks saw it. Absent
    /// without an exact action.
    pub charge: Option<Charge>,
    /// The answer of a model that did not hold; what is decided does not rest on it.
    pub ungrounded: Option<Ungrounded>,
    /// It is about the second opinion, and not about the diagnosis.
    pub on_second_opinion: bool,
    /// Why the model's answer, although it is no lie and proposes what the rules propose, is no reason to act; absent where
    /// nothing is known against it.
    pub doubt: Option<String>,
}

/// Decides whether the proposed action repairs the target.
///
/// An answer of a model that is not grounded decides nothing: what the rules say of the same facts is judged in its place.
pub fn judge(case: &Case<'_>) -> Judgement {
    opinions::judge(case, |case| judge_repair(case, Facts::Fresh, actions::of))
}

/// Decides the same once more, right before the write is granted. That the facts were fresh was asked when the action
/// was decided; what counts now is the new reading.
pub fn judge_again(case: &Case<'_>) -> Judgement {
    let held = Case { belief: Belief { again: true, ..case.belief }, ..case.clone() };
    opinions::judge(&held, |case| judge_repair(case, Facts::AnyAge, actions::of))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Facts {
    Fresh,
    AnyAge,
}

fn judge_repair(case: &Case<'_>, facts: Facts, definition_of: fn(ActionKind) -> &'static Definition) -> Judgement {
    let proposed = case.belief.diagnosis.and_then(|d| d.proposal.as_ref()).map(|proposal| proposal.action.clone());
    let mut verdicts = Verdicts::default();
    verdicts.ask(chains::PRECONDITIONS, |run| run(case));
    let observe = |workload, policies: &[&CompiledPolicy]| Observed {
        allow_helm: policies.iter().any(|policy| policy.spec.allow_helm),
        known_good: Some(case.cluster.known_good),
        presence: Some(case.cluster.presence),
        ..observe(workload, proposed.clone(), Some(case.alerts.started_at), definition_of)
    };
    let readable = Readable::of(case, Purpose::Repair, observe).filter(|_| verdicts.all_passed());
    let Some(readable) = readable else {
        let kind = proposed.as_ref().map_or(ActionKind::ALL[0], Action::kind);
        verdicts.skip(chains::ALERT);
        verdicts.skip(evidence::COMMON);
        verdicts.skip(definition_of(kind).evidence);
        verdicts.skip(definition_of(kind).looked_up);
        verdicts.skip(evidence::RULES);
        verdicts.skip(quality::QUALITY);
        if facts == Facts::Fresh {
            verdicts.skip(quality::FRESHNESS);
        }
        verdicts.skip(bounds::BOUNDS);
        return conclude(case, &verdicts, proposed, None);
    };
    let observed = &readable.observed;
    verdicts.ask(chains::ALERT, |run| run(&readable));
    verdicts.ask(evidence::COMMON, |run| run(observed));
    verdicts.ask(definition_of(observed.kind).evidence, |run| run(observed));
    verdicts.ask(definition_of(observed.kind).looked_up, |run| run(observed));
    verdicts.ask(evidence::RULES, |run| run(observed));
    verdicts.ask(quality::QUALITY, |run| run(&readable));
    if facts == Facts::Fresh {
        verdicts.ask(quality::FRESHNESS, |run| run(&readable));
    }
    verdicts.ask(bounds::BOUNDS, |run| run(&readable));
    let charge = readable.identity.is_some().then(|| readable.charge());
    conclude(case, &verdicts, observed.action.clone(), Some((&readable, charge)))
}

fn observe<'a>(
    workload: &'a Workload,
    proposed: Option<Action>,
    alert_started_at: Option<Time>,
    definition_of: fn(ActionKind) -> &'static Definition,
) -> Observed<'a> {
    let action = proposed.or_else(|| evidence::first_candidate(workload, alert_started_at, definition_of));
    let Definition { kind, targets, writes, predict, .. } =
        definition_of(action.as_ref().map_or(ActionKind::ALL[0], Action::kind));
    let prediction = match &action {
        Some(action) => predict(workload, action),
        None => Err(Refusal { reason: Reason::NothingProposed, message: "no action of the catalogue applies".into() }),
    };
    Observed {
        workload,
        kind: *kind,
        targets,
        writes,
        action,
        prediction,
        allow_helm: false,
        known_good: None,
        presence: None,
        alert_started_at,
        unconfirmed: Override::No,
        word: Override::No,
    }
}

/// Decides whether `repair`, which did not help, is taken back. The case needs no diagnosis.
pub fn judge_undo(case: &Case<'_>, repair: &RemediationSpec) -> Judgement {
    let prediction = actions::undo_of(repair).ok_or_else(|| Refusal {
        reason: Reason::Unsupported,
        message: format!("Remediation {} says no way to take it back", repair.action_id),
    });
    judge_following(case, repair, Purpose::Undo, follow::UNDO, prediction)
}

/// Decides whether `pod`, which keeps `repair` from being rolled out, is evicted. The case needs no diagnosis.
pub fn judge_replacement(case: &Case<'_>, repair: &RemediationSpec, pod: &ObjectRef) -> Judgement {
    let prediction = Ok(Prediction {
        action: repair.action.clone(),
        write: Write::Evict(EvictWrite { pod: pod.clone() }),
        provenance: None,
        undo: None,
        diff: vec![],
    });
    judge_following(case, repair, Purpose::ReplacePod, follow::REPLACE_POD, prediction)
}

fn judge_following(
    case: &Case<'_>,
    repair: &RemediationSpec,
    purpose: Purpose,
    chain: &'static [readable::FollowCheck],
    prediction: Result<Prediction, Refusal>,
) -> Judgement {
    let mut verdicts = Verdicts::default();
    verdicts.ask(chains::PRECONDITIONS, |run| run(case));
    let Definition { kind, targets, writes, .. } = actions::of(repair.action.kind());
    let action = prediction.as_ref().map_or_else(|_| repair.action.clone(), |prediction| prediction.action.clone());
    let observe = |workload, policies: &[&CompiledPolicy]| Observed {
        workload,
        kind: *kind,
        targets,
        writes,
        action: Some(action.clone()),
        prediction: prediction.clone(),
        allow_helm: policies.iter().any(|policy| policy.spec.allow_helm),
        known_good: Some(case.cluster.known_good),
        presence: Some(case.cluster.presence),
        alert_started_at: Some(case.alerts.started_at),
        unconfirmed: Override::No,
        word: Override::No,
    };
    let Some(readable) = Readable::of(case, purpose, observe).filter(|_| verdicts.all_passed()) else {
        verdicts.skip(chain);
        if purpose == Purpose::Undo {
            verdicts.skip(follow::UNDO_BOUNDS);
        }
        verdicts.skip(follow::FOLLOW_BOUNDS);
        return conclude(case, &verdicts, Some(action), None);
    };
    let write = readable.observed.prediction.as_ref().ok().map(|prediction| &prediction.write);
    let followed = Follow {
        workload: readable.workload(),
        follows: &repair.action_id,
        field: write.and_then(Write::field),
        pod: write.and_then(follow::evicted),
    };
    verdicts.ask(chain, |run| run(&followed));
    if purpose == Purpose::Undo {
        verdicts.ask(follow::UNDO_BOUNDS, |run| run(&readable));
    }
    verdicts.ask(follow::FOLLOW_BOUNDS, |run| run(&readable));
    let charge = readable.identity.is_some().then(|| Charge { undo: true, ..readable.charge() });
    conclude(case, &verdicts, Some(action), Some((&readable, charge)))
}

/// What the executor's own reading says of a Remediation.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnEvidence {
    /// Verdict of every check, in order.
    pub verdicts: Vec<CheckVerdict>,
    /// The first refusal; `None` when the evidence is there.
    pub refusal: Option<Refusal>,
    /// Time may turn that refusal, and nothing else refuses for good: the target looks well, or is in motion. The controller
    /// waits on such a reading too.
    pub passes: bool,
}

/// Asks the evidence of a Remediation of a reading of its target, before it is armed. No alert, fact, diagnosis or
/// Ledger is needed, so the executor need not believe the controller. `known_good` is `None` where marks cannot be
/// read; `allow_helm` says that a Policy that matches the target allows what Helm installed; `unconfirmed` whether a
/// person's word on exactly this write goes before what the rules say of the reading.
pub fn own_evidence(
    spec: &RemediationSpec,
    workload: &Workload,
    known_good: Option<&[KnownGood]>,
    allow_helm: bool,
    unconfirmed: Override,
) -> OwnEvidence {
    own_evidence_by(spec, workload, known_good, allow_helm, unconfirmed, actions::of)
}

fn own_evidence_by(
    spec: &RemediationSpec,
    workload: &Workload,
    known_good: Option<&[KnownGood]>,
    allow_helm: bool,
    unconfirmed: Override,
    definition_of: fn(ActionKind) -> &'static Definition,
) -> OwnEvidence {
    let own = Own { spec, workload };
    let mut verdicts = Verdicts::default();
    verdicts.ask(follow::OWN, |run| run(&own));
    let followed = |field| Follow {
        workload,
        follows: spec.follows.as_deref().unwrap_or_default(),
        field,
        pod: follow::evicted(&spec.write),
    };
    match spec.purpose {
        Purpose::Repair => {
            let action = Some(spec.action.clone());
            let observed =
                Observed { allow_helm, known_good, unconfirmed, ..observe(workload, action, None, definition_of) };
            verdicts.ask(follow::OWN_REPAIR, |run| run(&own));
            verdicts.ask(evidence::COMMON, |run| run(&observed));
            verdicts.ask(definition_of(spec.action.kind()).evidence, |run| run(&observed));
            verdicts.ask(evidence::RULES, |run| run(&observed));
        }
        Purpose::Undo => verdicts.ask(follow::UNDO, |run| run(&followed(spec.write.field()))),
        Purpose::ReplacePod => verdicts.ask(follow::REPLACE_POD, |run| run(&followed(None))),
    }
    let refusals = verdicts.refusals();
    let first = refusals.first();
    let for_good = |outcome: &&Outcome| matches!(outcome.effect, Some(Effect::Final | Effect::Resolve));
    let passes = first.is_some_and(|outcome| outcome.effect == Some(Effect::Wait)) && !refusals.iter().any(for_good);
    let refusal = first.map(|outcome| Refusal { reason: outcome.reason, message: outcome.message.clone() });
    OwnEvidence { verdicts: verdicts.written(), refusal, passes }
}

/// Characters of a message that a status holds; checks quote what senders and models wrote.
pub const MAX_MESSAGE: usize = 2000;

fn conclude(
    case: &Case<'_>,
    verdicts: &Verdicts,
    action: Option<Action>,
    readable: Option<(&Readable<'_>, Option<Charge>)>,
) -> Judgement {
    let (prediction, identity, charge) = match &readable {
        Some((readable, charge)) => (readable.observed.prediction.as_ref(), readable.identity.clone(), charge.clone()),
        None => (Err(&UNREAD), None, None),
    };
    let (outcome, reason, message) = decide(case, &verdicts.refusals(), prediction);
    let asks = readable.as_ref().filter(|_| outcome == DecisionOutcome::AwaitApproval);
    let approvals = asks.map(|(readable, _)| readable.terms()).unwrap_or_default();
    let prediction = prediction.ok().cloned();
    let (id, digest) = identity.map_or((None, None), |identity| (Some(identity.id), Some(identity.digest)));
    let decision = Decision {
        outcome,
        reason: reason.as_str().into(),
        message: message.chars().take(MAX_MESSAGE).collect(),
        diagnoser: case.belief.diagnosis.map(|d| d.diagnoser.clone()).unwrap_or_default(),
        hypothesis: case.belief.diagnosis.map(|d| d.hypothesis.clone()).unwrap_or_default(),
        action,
        action_id: id,
        digest,
        diff: prediction.as_ref().map(|p| p.diff.clone()).unwrap_or_default(),
        manifest_change: manifest_change(
            reason,
            readable.map(|(readable, _)| readable.workload()),
            prediction.as_ref(),
        ),
        approvals,
        checks: verdicts.written(),
        decided_at: case.now,
        ..Decision::default()
    };
    let ungrounded = Ungrounded::of(case, verdicts);
    let anomalies = verdicts.anomalies();
    Judgement { decision, reason, prediction, anomalies, charge, ungrounded, on_second_opinion: false, doubt: None }
}

/// What people change instead, where somebody else owns what would be written.
fn manifest_change(
    reason: Reason,
    workload: Option<&Workload>,
    prediction: Option<&Prediction>,
) -> Option<Box<ManifestChange>> {
    let owned = [Reason::ManagedByGitOps, Reason::ManagedByHelm, Reason::ManagedByTool, Reason::OwnedByController]
        .contains(&reason);
    let field = prediction.and_then(|prediction| prediction.write.field());
    workload.zip(field).filter(|_| owned).map(|(workload, field)| Box::new(manifest::change(workload, field)))
}

/// Characters of a model's sentence within one of ours.
const MAX_QUOTED: usize = 512;

const UNREAD: Refusal = Refusal { reason: Reason::ClusterUnreadable, message: String::new() };

fn decide(
    case: &Case<'_>,
    refusals: &[&Outcome],
    prediction: Result<&Prediction, &Refusal>,
) -> (DecisionOutcome, Reason, String) {
    let Some(first) = refusals.first() else {
        return match prediction {
            Ok(_) => (DecisionOutcome::Act, Reason::AllChecksPassed, "every check passed".into()),
            // No check has refused what cannot be predicted: nothing is written all the same.
            Err(refusal) => (DecisionOutcome::Escalate, refusal.reason, refusal.message.clone()),
        };
    };
    if let Some(shared) = refusals.iter().find(|refusal| refusal.effect == Some(Effect::Shared)) {
        return (DecisionOutcome::Escalate, shared.reason, shared.message.clone());
    }
    let any = |effect| refusals.iter().any(|refusal| refusal.effect == Some(effect));
    let person_may = |effect| matches!(effect, Some(Effect::AskApproval | Effect::Stale));
    let outcome = match first.effect {
        // Whatever refuses asks for the same: that a person approves exactly this action. How old the facts are by then is
        // not asked, because it is judged again on a new reading.
        _ if any(Effect::AskApproval) && refusals.iter().all(|refusal| person_may(refusal.effect)) => {
            DecisionOutcome::AwaitApproval
        }
        Some(Effect::Resolve) => DecisionOutcome::Resolve,
        // A person who is called because the mode forbids writes wants the diagnosis too: evidence that may still come
        // is waited for, whatever else refuses.
        _ if (any(Effect::Wait) || any(Effect::Stale)) && !any(Effect::Final) && !any(Effect::Resolve) => {
            DecisionOutcome::Wait
        }
        _ => DecisionOutcome::Escalate,
    };
    // A person is told what they are asked, and not how old the facts are.
    let asks = |refusal: &&&Outcome| refusal.effect == Some(Effect::AskApproval);
    let first = match outcome {
        DecisionOutcome::AwaitApproval => refusals.iter().find(asks).unwrap_or(first),
        _ => first,
    };
    let message = match outcome {
        DecisionOutcome::Escalate => with_hypothesis(case, &first.message),
        _ => first.message.clone(),
    };
    (outcome, first.reason, message)
}

fn with_hypothesis(case: &Case<'_>, message: &str) -> String {
    match case.belief.diagnosis {
        Some(diagnosis) if !diagnosis.hypothesis.is_empty() => match case.belief.is_of_model() {
            true => format!("{message}. {} says {}", diagnosis.diagnoser, quoted(&diagnosis.hypothesis, MAX_QUOTED)),
            false => format!("{message}. Diagnosis: {}", diagnosis.hypothesis),
        },
        _ => message.to_string(),
    }
}
