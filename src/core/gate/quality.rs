//! Is the diagnosis grounded? By rule, never by similarity; and self-reported confidence is never a reason to act.

use serde_json::Value;

use crate::api::v1alpha1::{Action, Cause, Claim, Diagnosis, Fact, Lift, ObjectRef, ReferenceKind, Review, Time};
use crate::core::reason::Reason;
use crate::core::redact::quoted;
use crate::core::workload::{Workload, named};
use crate::core::{actions, rules};

use super::check::Check;
use super::claims;
use super::grounding::{self, fact_shows, has_word, is_hash, numbered, same};
use super::observed::Override;
use super::outcome::{Effect, Outcome, not_asked, pass, refuse, unknown};
use super::readable::{Readable, ReadableCheck};

/// Facts older than this are not acted upon.
pub const FACTS_MAX_AGE: jiff::SignedDuration = jiff::SignedDuration::from_secs(60);

/// Characters of what a model wrote that a message quotes.
const MAX_QUOTED: usize = 300;
/// Deeper than any pod template.
const MAX_DEPTH: usize = 64;

/// What the diagnosis has to stand up to.
pub const QUALITY: &[ReadableCheck] = &[
    Check {
        name: "ActionProposed",
        says: "The investigation proposes an action; the controller alone starts none.",
        run: action_proposed,
    },
    Check {
        name: "ProposalNamesTarget",
        says: "The proposal is about the incident's own target, by kind, namespace, name and UID.",
        run: proposal_names_target,
    },
    Check {
        name: "ClaimsCiteFacts",
        says: "There are claims, and each cites facts that exist.",
        run: claims_cite_facts,
    },
    Check {
        name: "ClaimsSupported",
        says: "Each claim is carried by the facts that it cites, by the rule of its kind.",
        run: claims_supported,
    },
    Check {
        name: "ClaimsHold",
        says: "Each claim is true of the cluster as the controller reads it, whatever the facts say.",
        run: claims_hold,
    },
    Check {
        name: "CauseHolds",
        says: "The cause that is named is true of the cluster as the controller reads it, also where no claim says so: what fails has not recovered.",
        run: cause_holds,
    },
    Check {
        name: "ObjectsExist",
        says: "Every object, revision and change that the diagnosis names exists, in the facts and in the cluster.",
        run: objects_exist,
    },
    Check {
        name: "OpinionsAgree",
        says: "Where a model answered, the rules on the same facts propose the same action; where they do not, the on-call decides.",
        run: opinions_agree,
    },
    Check {
        name: "NoObjection",
        says: "Where a reviewer objects to the proposal, a person approved it; that one does not object changes nothing.",
        run: no_objection,
    },
    Check {
        name: "ConfidenceAboveFloor",
        says: "The diagnosis is not less sure of itself than a Policy asks for; being sure is never a reason to act.",
        run: confidence_above_floor,
    },
];

/// How old the facts may be when an action is decided.
pub const FRESHNESS: &[ReadableCheck] = &[Check {
    name: "FactsFresh",
    says: "No cited fact is older than a minute when the action is decided.",
    run: facts_fresh,
}];

fn action_proposed(readable: &Readable<'_>) -> Outcome {
    let Some(diagnosis) = readable.case.belief.diagnosis else {
        return unknown(Reason::NothingProposed, "there is no diagnosis");
    };
    match (&diagnosis.proposal, diagnosis.cause) {
        (Some(proposal), _) => pass(format!("{} proposes {}", diagnosis.diagnoser, proposal.action.kind())),
        (None, Cause::ConfigurationChanged) => {
            refuse(Reason::TemplateUnchanged, "the diagnosis is a change of configuration, not of the template")
        }
        (None, Cause::NeverWorked) => refuse(Reason::OnlyOneRevision, "the diagnosis is that it never worked"),
        (None, Cause::Recovered) => {
            let outcome = refuse(Reason::NothingFails, "the diagnosis is that nothing fails any more");
            match contradiction(diagnosis.cause, readable) {
                Some(Contradiction { was_so: false, .. }) => outcome,
                _ => outcome.wait(),
            }
        }
        (None, Cause::BadRollout | Cause::Unknown) => {
            let outcome = refuse(
                Reason::NothingProposed,
                format!("{} proposes no action: {}", diagnosis.diagnoser, diagnosis.advice),
            );
            // A diagnosis of the new state is worth waiting for.
            if are_overtaken(readable.workload(), readable.case.belief.facts) { outcome.wait() } else { outcome }
        }
    }
}

/// Pods fail by this reading, and none did when the facts were gathered.
pub fn are_overtaken(workload: &Workload, facts: &[Fact]) -> bool {
    workload.fails() && !grounding::show_failure(facts)
}

/// The facts were gathered too long ago to be acted upon.
pub fn are_stale(facts: &[Fact], now: Time) -> bool {
    facts.iter().map(|fact| fact.seen_at).min().is_some_and(|oldest| is_stale(oldest, now))
}

fn is_stale(seen_at: Time, now: Time) -> bool {
    now.duration_since(seen_at) > FACTS_MAX_AGE
}

fn proposal_names_target(readable: &Readable<'_>) -> Outcome {
    let Some(proposal) = readable.case.belief.diagnosis.and_then(|d| d.proposal.as_ref()) else {
        return not_asked("no object is proposed");
    };
    let target = readable.target;
    let ObjectRef { api_version: _, kind, namespace, name, uid } = &proposal.target;
    let same = *kind == target.kind
        && *namespace == target.namespace
        && *name == target.name
        && (uid.is_empty() || *uid == target.uid);
    if same {
        pass(format!("the proposal is about {target}"))
    } else {
        refuse(Reason::WrongTarget, format!("the proposal is about {}, the incident about {target}", proposal.target))
            .ungrounded()
    }
}

fn claims_cite_facts(readable: &Readable<'_>) -> Outcome {
    let facts = readable.case.belief.facts;
    if let Some(message) = readable.case.belief.diagnosis.and_then(|diagnosis| grounding::uncited(diagnosis, facts)) {
        return refuse(Reason::ClaimUncited, message).ungrounded();
    }
    pass(format!("{} claims cite facts that exist", claims_of(readable).len()))
}

fn claims_supported(readable: &Readable<'_>) -> Outcome {
    let (claims, facts) = (claims_of(readable), readable.case.belief.facts);
    if let Some(message) = grounding::unsupported(claims, facts) {
        return refuse(Reason::ClaimUnsupported, message).ungrounded();
    }
    if let Some((number, _)) = numbered(claims).find(|(_, claim)| grounding::cited(claim, facts).is_empty()) {
        return not_asked(format!("claim {number} cites no fact that exists"));
    }
    pass("every claim is carried by the facts that it cites")
}

fn claims_hold(readable: &Readable<'_>) -> Outcome {
    let workload = readable.workload();
    let held = readable.case.belief.held();
    for (number, claim) in numbered(claims_of(readable)) {
        // How pods fail changes with every try of a container: that they fail is what the action rests on.
        let asked = if held { &Claim { failure: None, ..claim.clone() } } else { claim };
        if !(claims::of(claim.kind).holds)(asked, workload) {
            let about = claim.revision.map(|revision| format!(", revision {revision}")).unwrap_or_default();
            let (kind, read_at) = (claim.kind.as_str(), workload.read_at);
            let sentence =
                format!("claim {number} ({kind}{about}) is not true of the cluster as it was read at {read_at}");
            let refused = refuse(Reason::ClaimUngrounded, sentence);
            // A container that its readiness probe fails is one that its liveness probe ends a moment later. That is no lie,
            // and is asked about again: facts and reading then agree, or the time for it is over.
            let otherwise = claims::of(claim.kind).holds;
            let changed = claim.failure.is_some() && otherwise(&Claim { failure: None, ..claim.clone() }, workload);
            return if held || changed { refused.wait() } else { refused.ungrounded() };
        }
    }
    pass("every claim is true of the cluster as the controller reads it")
}

/// A cause is a claim too: whoever says that nothing fails any more keeps everybody from repairing what does. What was so
/// when the facts were gathered and is not by now is no lie, and is waited for.
fn cause_holds(readable: &Readable<'_>) -> Outcome {
    let Some(diagnosis) = readable.case.belief.diagnosis else { return not_asked("there is no diagnosis") };
    match contradiction(diagnosis.cause, readable) {
        None => pass(format!("nothing that was read contradicts the cause {}", diagnosis.cause.as_str())),
        Some(Contradiction { message, was_so: true }) => refuse(Reason::CauseUngrounded, message).wait(),
        Some(Contradiction { message, was_so: false }) => refuse(Reason::CauseUngrounded, message).ungrounded(),
    }
}

/// What the controller's reading has against a cause.
struct Contradiction {
    /// One sentence.
    message: String,
    /// It was so when the facts were gathered.
    was_so: bool,
}

fn contradiction(cause: Cause, readable: &Readable<'_>) -> Option<Contradiction> {
    let (workload, facts) = (readable.workload(), readable.case.belief.facts);
    match cause {
        Cause::Recovered if workload.is_broken() => {
            let (ready, desired) = (workload.state.ready, workload.state.desired);
            let failing = workload.failing_pods().count();
            let message = format!(
                "the diagnosis is that nothing fails any more; by the reading of {}, {ready} of {desired} replicas are \
                 ready, and {failing} pods fail",
                workload.read_at
            );
            Some(Contradiction { message, was_so: grounding::show_health(facts) })
        }
        Cause::NeverWorked if workload.revisions.len() > 1 => {
            let count = workload.revisions.len();
            let message = format!("the diagnosis is that there never was another template; {count} are recorded");
            Some(Contradiction { message, was_so: grounding::revisions(facts) == 1 })
        }
        _ => None,
    }
}

fn objects_exist(readable: &Readable<'_>) -> Outcome {
    let Some(diagnosis) = readable.case.belief.diagnosis else { return not_asked("there is no diagnosis") };
    let workload = readable.workload();
    if let Some(suspect) = &diagnosis.suspect {
        let in_facts = readable.case.belief.facts.iter().any(|fact| same(&fact.object, suspect));
        if !(in_facts && in_cluster(workload, suspect)) {
            return refuse(Reason::ObjectUnknown, format!("{suspect} is named and was not found")).ungrounded();
        }
    }
    if let Some(number) = diagnosis.suspected_revision
        && workload.revision(number).is_none()
    {
        return refuse(Reason::ObjectUnknown, format!("revision {number} is suspected and does not exist"))
            .ungrounded();
    }
    if let Some(change) = &diagnosis.suspected_change
        && !(readable.case.belief.facts.iter().any(|fact| fact_shows(fact, change))
            && template_holds(workload, diagnosis.suspected_revision, change))
    {
        let of = diagnosis.suspected_revision.map(|number| format!(" of revision {number}")).unwrap_or_default();
        let message = format!("{} is suspected, and no template{of} holds it", quoted(change, MAX_QUOTED));
        return refuse(Reason::ObjectUnknown, message).ungrounded();
    }
    pass("every object, revision and change that is named exists")
}

/// Whether a recorded template holds it: that of the revision, or any where none is named.
fn template_holds(workload: &Workload, revision: Option<i64>, change: &str) -> bool {
    let of = |number: i64| revision.is_none_or(|suspected| suspected == number);
    workload
        .revisions
        .iter()
        .filter(|revision| of(revision.fact.number))
        .any(|revision| is_hash(&revision.template_hash, change) || has_text(&revision.template, change, MAX_DEPTH))
}

fn has_text(value: &Value, word: &str, depth: usize) -> bool {
    match value {
        Value::String(text) => has_word(text, word),
        Value::Array(items) => depth > 0 && items.iter().any(|item| has_text(item, word, depth - 1)),
        Value::Object(fields) => depth > 0 && fields.values().any(|field| has_text(field, word, depth - 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The workload, its pods, its revisions, and the ConfigMaps that its template names.
fn in_cluster(workload: &Workload, object: &ObjectRef) -> bool {
    let config_map = object.kind == "ConfigMap" && object.namespace == workload.object.namespace;
    same(&workload.object, object)
        || workload.pods.iter().any(|pod| same(&pod.object, object))
        || workload.revisions.iter().any(|revision| same(&revision.object, object))
        || config_map && named(&workload.template, ReferenceKind::ConfigMap).contains_key(&object.name)
}

fn opinions_agree(readable: &Readable<'_>) -> Outcome {
    let (Some(first), Some(second)) = (readable.case.belief.diagnosis, readable.case.belief.second_opinion) else {
        return pass("there is one opinion");
    };
    fn proposed(diagnosis: &Diagnosis) -> Option<(&Action, &ObjectRef)> {
        diagnosis.proposal.as_ref().map(|proposal| (&proposal.action, &proposal.target))
    }
    let (one, other) = (proposed(first), proposed(second));
    let agree = match (one, other) {
        (Some((action, target)), Some((other, object))) => action == other && same(target, object),
        (None, None) => true,
        _ => false,
    };
    if let (true, Some(doubt)) = (agree, readable.case.belief.doubt) {
        let message = format!("{} proposes the same as {}, but: {doubt}", second.diagnoser, first.diagnoser);
        readable.word_of_a_person().outcome(Reason::OpinionsDiffer, message)
    } else if agree {
        pass(format!("{} and {} propose the same", first.diagnoser, second.diagnoser))
    } else {
        let said = |proposal: Option<(&Action, &ObjectRef)>| {
            proposal.map_or_else(|| "no action".to_owned(), |(action, _)| (actions::of(action.kind()).describe)(action))
        };
        let message =
            format!("{} proposes {}, {} proposes {}", first.diagnoser, said(one), second.diagnoser, said(other));
        let word = match one {
            // There is nothing to approve.
            None => Override::No,
            // What the rules propose needs no leave for models: the model's doubt makes it a person's decision.
            Some(_) if first.diagnoser == rules::NAME => readable.word_of_a_person(),
            Some(_) => readable.observed.unconfirmed.clone(),
        };
        word.outcome(Reason::OpinionsDiffer, message)
    }
}

fn no_objection(readable: &Readable<'_>) -> Outcome {
    match readable.case.belief.review {
        None => pass("nobody reviewed it"),
        Some(Review { rung, objects: false, .. }) => pass(format!("{rung} does not object")),
        Some(Review { rung, objects: true, reason }) => readable
            .word_of_a_person()
            .outcome(Reason::ReviewerObjects, format!("{rung} objects: {}", quoted(reason, MAX_QUOTED))),
    }
}

fn confidence_above_floor(readable: &Readable<'_>) -> Outcome {
    let Some(diagnosis) = readable.case.belief.diagnosis else { return not_asked("there is no diagnosis") };
    let floor =
        readable.asked.with(Lift::ConfidenceFloor).map(|policy| policy.spec.confidence_floor).max().unwrap_or(0);
    if diagnosis.confidence >= floor {
        pass(format!("confidence {} is not below the floor {floor}", diagnosis.confidence))
    } else {
        refuse(Reason::ConfidenceTooLow, format!("confidence {} is below the floor {floor}", diagnosis.confidence))
            .with(Effect::Unsure)
    }
}

fn facts_fresh(readable: &Readable<'_>) -> Outcome {
    let cited = |fact: &&Fact| claims_of(readable).iter().any(|claim| claim.cites.contains(&fact.id));
    let oldest = readable.case.belief.facts.iter().filter(cited).map(|fact| fact.seen_at).min();
    match oldest {
        Some(at) if is_stale(at, readable.case.now) => {
            refuse(Reason::FactsStale, format!("a cited fact was seen at {at}, more than a minute ago"))
                .with(Effect::Stale)
        }
        Some(at) => pass(format!("the oldest cited fact was seen at {at}")),
        None => pass("no fact is cited"),
    }
}

fn claims_of<'a>(readable: &Readable<'a>) -> &'a [Claim] {
    readable.case.belief.diagnosis.map(|diagnosis| diagnosis.claims.as_slice()).unwrap_or_default()
}
