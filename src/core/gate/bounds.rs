//! Is the action allowed here and now? Enrolment, Policies, Runbooks, budgets, audit, mode and approval.

use crate::api::v1alpha1::Mode;
use crate::core::{budget, reason::Reason};

use super::{Case, Outcome, Subject, identity, pass, refuse, unknown};

/// Investigations of one incident at most.
pub const MAX_ROUNDS: i32 = 30;

pub(crate) fn namespace_enrolled(case: &Case<'_>, _: &Subject<'_>) -> Outcome {
    let namespace = case.target.map(|t| t.namespace.as_str()).unwrap_or_default();
    if case.settings.namespaces.iter().any(|n| n == namespace) {
        pass(format!("namespace {namespace} is enrolled"))
    } else {
        refuse(
            Reason::NotEnrolled,
            format!("the executor has no rights in namespace {namespace}; add it to executor.namespaces of the chart"),
        )
    }
}

pub(crate) fn policy_allows(case: &Case<'_>, subject: &Subject<'_>) -> Outcome {
    let policies = case.matching_policies();
    let variables = case.cel_variables(subject);
    for policy in &policies {
        let answer = policy.admits(subject.kind(), case.now).and_then(|()| policy.validate(&variables));
        if let Err(denial) = answer {
            return refuse(denial.reason, denial.message);
        }
    }
    pass(format!("{} matching Policies allow it", policies.len()))
}

pub(crate) fn runbook_allows(case: &Case<'_>, subject: &Subject<'_>) -> Outcome {
    match case.runbooks.iter().find(|(_, allowed)| !allowed.contains(&subject.kind())) {
        Some((name, _)) => refuse(
            Reason::RunbookForbids,
            format!("Runbook {name} matches and does not list {} in allowedActions", subject.kind()),
        ),
        None => pass(format!("{} matching Runbooks allow it", case.runbooks.len())),
    }
}

pub(crate) fn blast_radius(case: &Case<'_>, _: &Subject<'_>) -> Outcome {
    let Ok(reading) = &case.reading else { return unknown(Reason::ClusterUnreadable, "the target cannot be read") };
    let pods = reading.workload.desired;
    let bound = case.matching_policies().iter().filter_map(|policy| policy.spec.limits.max_pods).min();
    match bound {
        Some(bound) if pods > bound => {
            refuse(Reason::BlastRadius, format!("{pods} pods would change, a Policy allows {bound}"))
        }
        Some(bound) => pass(format!("{pods} pods would change, a Policy allows {bound}")),
        None => pass(format!("{pods} pods would change, one object, one field")),
    }
}

pub(crate) fn quota_has_room(case: &Case<'_>, _: &Subject<'_>) -> Outcome {
    match &case.full_quota {
        Some(quota) => refuse(Reason::QuotaExhausted, format!("quota {quota} leaves no room for new pods")),
        None => pass("no quota keeps new pods out"),
    }
}

pub(crate) fn loop_budget(case: &Case<'_>, _: &Subject<'_>) -> Outcome {
    if case.rounds > MAX_ROUNDS {
        refuse(Reason::LoopBudget, format!("{} investigations, at most {MAX_ROUNDS}", case.rounds))
    } else {
        pass(format!("investigation {} of at most {MAX_ROUNDS}", case.rounds))
    }
}

pub(crate) fn target_cooldown(case: &Case<'_>, subject: &Subject<'_>) -> Outcome {
    budget_check(case, subject, "the target was not written to lately", budget::cooldown)
}

pub(crate) fn hourly_budget(case: &Case<'_>, subject: &Subject<'_>) -> Outcome {
    budget_check(case, subject, "actions are left in this hour", budget::hourly)
}

type BudgetRule = fn(
    &crate::api::v1alpha1::LedgerStatus,
    &budget::Request<'_>,
    &crate::settings::Budgets,
    crate::api::v1alpha1::Time,
) -> Result<(), budget::Refusal>;

fn budget_check(case: &Case<'_>, subject: &Subject<'_>, ok: &str, rule: BudgetRule) -> Outcome {
    let (id, _) = identity(case, subject).unwrap_or_default();
    let Some(request) = ledger_request(case, &id) else {
        return unknown(Reason::TargetUnresolved, "there is no target");
    };
    match rule(case.ledger, &request, &case.settings.budgets, case.now) {
        Ok(()) => pass(ok),
        Err(refusal) => refuse(refusal.reason, refusal.message),
    }
}

/// What the Ledger is asked to pay for.
pub(crate) fn ledger_request<'a>(case: &Case<'a>, action_id: &'a str) -> Option<budget::Request<'a>> {
    let target = case.target?;
    let limits: Vec<_> = case.matching_policies().iter().map(|policy| policy.spec.limits.clone()).collect();
    let unsigned = |value: i32| u32::try_from(value).unwrap_or(0);
    Some(budget::Request {
        action_id,
        namespace: &target.namespace,
        target_uid: &target.uid,
        incident: case.incident,
        undo: false,
        policy_per_hour: limits.iter().filter_map(|l| l.actions_per_hour).map(unsigned).min(),
        policy_cooldown: limits.iter().filter_map(|l| l.cooldown_seconds).map(unsigned).max(),
    })
}

pub(crate) fn no_storm(case: &Case<'_>, _: &Subject<'_>) -> Outcome {
    let bound = case.settings.budgets.storm_incidents;
    let seconds = case.settings.budgets.storm_window_seconds;
    if case.storm_targets >= bound {
        refuse(
            Reason::Storm,
            format!(
                "{} targets have incidents within {seconds} s, the bound is {bound}: this is bigger than one rollout",
                case.storm_targets
            ),
        )
    } else {
        pass(format!("{} targets have incidents within {seconds} s, fewer than {bound}", case.storm_targets))
    }
}

pub(crate) fn cascade_breaker_closed(case: &Case<'_>, subject: &Subject<'_>) -> Outcome {
    let (id, _) = identity(case, subject).unwrap_or_default();
    match budget::breaker(case.ledger, &id, &case.settings.budgets, case.now) {
        Ok(()) => pass("the cascade breaker lets it through"),
        Err(refusal) => refuse(refusal.reason, refusal.message),
    }
}

pub(crate) fn audit_durable(case: &Case<'_>, _: &Subject<'_>) -> Outcome {
    if case.audit_durable {
        pass("the audit log can be written, and is kept as the installation asks for")
    } else {
        refuse(
            Reason::AuditNotDurable,
            "the audit log would not outlive the pod; give the chart a volume with audit.persistentVolumeClaim, or set audit.ephemeral",
        )
    }
}

pub(crate) fn mode_allows(case: &Case<'_>, _: &Subject<'_>) -> Outcome {
    let mode = case.mode();
    match mode {
        Mode::Approve | Mode::Auto => pass(format!("the mode is {mode}")),
        Mode::Observe | Mode::Suggest => refuse(
            Reason::ModeForbids,
            format!("the mode is {mode}; label the namespace backstop.dev/mode=approve or auto to allow writes"),
        ),
    }
}

pub(crate) fn approved(case: &Case<'_>, subject: &Subject<'_>) -> Outcome {
    if case.mode() != Mode::Approve {
        return pass("the mode asks for no approval");
    }
    let digest = identity(case, subject).map(|(_, digest)| digest).unwrap_or_default();
    match case.approvals.iter().find(|(approved, _)| !digest.is_empty() && *approved == digest) {
        Some((_, approver)) => pass(format!("{approver} approved exactly this action")),
        None => refuse(
            Reason::ApprovalMissing,
            format!("create an Approval for incident {} with digest {digest}", case.incident),
        ),
    }
}
