//! What was read of a case, as the gate asks for it.

use crate::api::v1alpha1::{DecisionOutcome, Diagnosis, IncidentStatus, Mode, ModelAnswer, ObjectRef, Proposal};
use crate::core::{
    budget,
    gate::{self, Judgement, RunbookRule, Unreadable},
    neighbours::Storm,
    policy::{CompiledRunbook, runbook_name},
    reason::Reason,
    rules,
};

use super::{About, Effect, JudgementInputs, asking, reroute};

/// What the Ledger has to note when the target is one of many that fail at once, so that one incident tells of all. A
/// storm of the whole cluster, which is an anomaly, is told of by each. An incident that calls nobody claims nothing: the
/// others would be silent because of it.
pub(super) fn storm_claim(
    about: About<'_>,
    case: &JudgementInputs,
    reason: Reason,
    anomalies: &[Reason],
) -> Option<Effect> {
    let workload = case.workload.as_ref().ok()?;
    if reason != Reason::Storm || anomalies.contains(&Reason::Storm) || about.only_informs() {
        return None;
    }
    let alone = || Storm::alone(workload);
    let storm = case.books.storm.clone().unwrap_or_else(alone);
    Some(Effect::ClaimStorm(storm.claim(workload, about.name(), about.incident.spec.severity)))
}

/// An incident that has claimed to tell of a storm tells of it, whatever became of its own target before its status was
/// stored: others have ended without calling anybody because of the claim. Whether it does.
pub(super) fn hold_to_claim(
    about: About<'_>,
    status: &IncidentStatus,
    case: &JudgementInputs,
    it: &mut Judgement,
) -> bool {
    if it.reason == Reason::Storm || status.escalation.is_some() {
        return false;
    }
    let namespace = about.target().map(|target| target.namespace.as_str()).unwrap_or_default();
    let Some(claimed) = budget::storm::claimed_by(&case.books.ledger, namespace, about.name(), about.now) else {
        return false;
    };
    let message = format!(
        "many workloads of namespace {namespace} failed at once at {}: {}. Of {} itself: {}",
        claimed.at,
        claimed.workloads.join(", "),
        about.name(),
        it.decision.message
    );
    it.reason = Reason::Storm;
    it.prediction = None;
    it.charge = None;
    it.decision.outcome = DecisionOutcome::Escalate;
    it.decision.reason = Reason::Storm.as_str().into();
    it.decision.message = message.chars().take(gate::MAX_MESSAGE).collect();
    true
}

/// How far an answer may go that the rules do not confirm: what the investigator says of its rung, and no further than what
/// the plan says. What no plan names goes nowhere.
fn ceiling(status: &IncidentStatus, diagnosis: Option<&Diagnosis>) -> Mode {
    let Some(Diagnosis { diagnoser, ceiling, .. }) = diagnosis else { return Mode::Observe };
    reroute::rung(status, diagnoser).map_or(Mode::Observe, |rung| rung.ceiling.min(*ceiling))
}

/// What a model said in an earlier round, as the opinion that stands beside that of the rules now.
fn opinion(heard: &ModelAnswer, target: Option<&ObjectRef>) -> Diagnosis {
    let ModelAnswer { diagnoser, action, doubt: _, objection: _ } = heard;
    let proposal = action.clone().zip(target.cloned()).map(|(action, target)| Proposal { action, target });
    Diagnosis { diagnoser: diagnoser.clone(), proposal, ..Diagnosis::default() }
}

/// Puts what was read into a case of the gate, and asks `question` about it.
pub(super) fn ask<T>(
    about: About<'_>,
    status: &IncidentStatus,
    case: &JudgementInputs,
    question: impl FnOnce(&gate::Case<'_>) -> T,
) -> T {
    let JudgementInputs { firing, rules: declared, investigation, workload, books } = case;
    let spec = &about.incident.spec;
    let found = investigation.as_ref().and_then(|i| i.status.as_ref());
    let diagnosis = found.and_then(|status| status.diagnosis.as_ref());
    // Where no model answered in this round, what one said of the same evidence before still counts.
    let by_rules = diagnosis.filter(|diagnosis| diagnosis.diagnoser == rules::NAME);
    let heard = by_rules.and_then(|_| asking::heard(about, status, workload.as_ref().ok()));
    let earlier = heard.map(|heard| opinion(heard, spec.target.as_ref()));
    let proposed = by_rules.and_then(|diagnosis| diagnosis.proposal.as_ref()).map(|proposal| &proposal.action);
    // A reviewer speaks of the proposal that it was shown.
    let objection = heard.filter(|heard| heard.action.as_ref() == proposed).and_then(|heard| heard.objection.as_ref());
    let runbooks: Vec<RunbookRule> = declared
        .runbooks
        .iter()
        .map(|runbook| RunbookRule {
            name: runbook_name(runbook),
            allowed_actions: runbook.spec.allowed_actions.clone(),
            compiled: declared
                .compiled
                .get(&runbook_name(runbook))
                .cloned()
                .unwrap_or_else(|| CompiledRunbook::of(runbook)),
        })
        .collect();
    question(&gate::Case {
        now: about.now,
        incident: about.name(),
        rounds: status.rounds,
        target: spec.target.as_ref().ok_or_else(|| Unreadable::unresolved(spec.unresolved.as_ref())),
        alerts: gate::Alerts {
            firing: *firing,
            started_at: about.alert_started_at(),
            names: spec.alerts.iter().map(|alert| alert.alertname.as_str()).collect(),
            severity: spec.severity,
            labels: &books.alert_labels,
        },
        belief: gate::Belief {
            ceiling: ceiling(status, diagnosis),
            review: found.and_then(|status| status.review.as_ref()).or(objection),
            facts: found.map(|status| status.facts.as_slice()).unwrap_or_default(),
            diagnosis,
            second_opinion: found.and_then(|status| status.second_opinion.as_ref()).or(earlier.as_ref()),
            doubt: heard.map(|heard| heard.doubt.as_str()).filter(|doubt| !doubt.is_empty()),
            decided: status.decision.as_ref().map_or("", |decision| decision.diagnoser.as_str()),
            again: false,
        },
        cluster: gate::Cluster {
            workload: workload.as_ref().map_err(Clone::clone),
            known_good: &books.known_good,
            presence: &books.presence,
            before_write: status.before_write.as_ref(),
            full_quota: books.full_quota.as_deref(),
            reach: books.reach.as_ref().map(|reach| reach.as_ref().map_err(Clone::clone)),
        },
        rules: gate::Rules {
            namespace_mode: declared.mode.as_deref(),
            policies: &declared.policies,
            runbooks: &runbooks,
            exceptions: &declared.exceptions,
            system: &about.terms.system,
        },
        books: gate::Books {
            ledger: &books.ledger,
            approvals: &books.approvals,
            storm: books.storm.as_ref(),
            neighbours_unread: books.neighbours_unread.as_ref(),
            failing_targets: &books.failing_targets,
            budgets: &about.terms.budgets,
            enrolled: declared.enrolled,
            audit_durable: books.audit_durable,
        },
    })
}
