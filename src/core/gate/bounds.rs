//! Is the action allowed here and now? Enrolment, Policies, Runbooks, budgets, audit, mode and approval.

use crate::api::v1alpha1::{LedgerStatus, Mode, Time};
use crate::core::budget::{self, Budgets, Charge};
use crate::core::cel::{JUDGEMENT_UNITS, Meter, Variables};
use crate::core::reason::Reason;

use super::case::{Readable, ReadableCheck, Unreadable, how_to_approve};
use super::check::Check;
use super::outcome::{Effect, Outcome, not_asked, pass, refuse, unknown};

/// Investigations of one incident at most.
pub const MAX_ROUNDS: i32 = 30;

/// Where the namespace is enrolled, for every write.
pub(super) const NAMESPACE_ENROLLED: ReadableCheck = Check {
    name: "NamespaceEnrolled",
    says: "The executor has rights in the namespace, because somebody enrolled it.",
    run: namespace_enrolled,
};
/// Without a trace there is no write.
pub(super) const AUDIT_DURABLE: ReadableCheck = Check {
    name: "AuditDurable",
    says: "The audit log can be written and is kept, so that no write goes without a trace.",
    run: audit_durable,
};
/// The kill switch, for every write.
pub(super) const MODE_ALLOWS: ReadableCheck = Check {
    name: "ModeAllows",
    says: "The namespace's label and every matching Policy leave a mode that allows writes: the kill switch.",
    run: mode_allows,
};

/// The bounds of a repair.
pub const BOUNDS: &[ReadableCheck] = &[
    NAMESPACE_ENROLLED,
    Check {
        name: "PolicyAllows",
        says: "Every matching Policy compiles, lists the action, has its windows open and finds its validations true, at bounded cost.",
        run: policy_allows,
    },
    Check { name: "RunbookAllows", says: "Every matching Runbook lists the action.", run: runbook_allows },
    Check {
        name: "BlastRadius",
        says: "The write touches no more pods than the matching Policies allow.",
        run: blast_radius,
    },
    Check { name: "QuotaHasRoom", says: "No quota keeps the new pods out.", run: quota_has_room },
    Check {
        name: "LoopBudget",
        says: "The incident was not investigated too often: what does not converge goes to the on-call.",
        run: loop_budget,
    },
    Check {
        name: "TargetCooldown",
        says: "The target was not written to a short while ago: a repair that does not hold is not repeated.",
        run: target_cooldown,
    },
    Check {
        name: "HourlyBudget",
        says: "Actions are left in this hour, in the namespace and in the cluster.",
        run: hourly_budget,
    },
    Check {
        name: "NoStorm",
        says: "Few workloads fail at once, in the namespace and in the cluster; many share a cause that no rollback cures.",
        run: no_storm,
    },
    Check {
        name: "CascadeBreakerClosed",
        says: "Not too much went wrong of late; while the cascade breaker is open nothing new is started.",
        run: cascade_breaker_closed,
    },
    AUDIT_DURABLE,
    MODE_ALLOWS,
    Check {
        name: "Approved",
        says: "In mode approve, a person approved exactly this action, by its digest.",
        run: approved,
    },
];

fn namespace_enrolled(readable: &Readable<'_>) -> Outcome {
    let namespace = &readable.target.namespace;
    if readable.case.books.enrolled {
        pass(format!("namespace {namespace} is enrolled"))
    } else {
        refuse(
            Reason::NotEnrolled,
            format!(
                "the executor has no rights in namespace {namespace}; add it to executor.namespaces of the chart, or give \
                 it the label of executor.enrolBySelector"
            ),
        )
    }
}

fn policy_allows(readable: &Readable<'_>) -> Outcome {
    let variables = Variables::of(&readable.cel_variables());
    // One for all: more Policies must not buy more time.
    let mut meter = Meter::new(JUDGEMENT_UNITS);
    for policy in &readable.policies {
        let admitted = policy.admits(readable.kind(), readable.case.now);
        let answer = admitted.and_then(|()| policy.validate(&variables, &mut meter));
        if let Err(denial) = answer {
            return refuse(denial.reason, denial.message);
        }
    }
    pass(format!("{} matching Policies allow it", readable.policies.len()))
}

fn runbook_allows(readable: &Readable<'_>) -> Outcome {
    let (runbooks, kind) = (readable.case.rules.runbooks, readable.kind());
    match runbooks.iter().find(|runbook| !runbook.allowed_actions.contains(&kind)) {
        Some(runbook) => refuse(
            Reason::RunbookForbids,
            format!("Runbook {} matches and does not list {kind} in allowedActions", runbook.name),
        ),
        None => pass(format!("{} matching Runbooks allow it", runbooks.len())),
    }
}

fn blast_radius(readable: &Readable<'_>) -> Outcome {
    let pods = readable.workload().state.desired;
    match readable.policies.iter().filter_map(|policy| policy.spec.limits.max_pods).min() {
        Some(bound) if pods > bound => {
            refuse(Reason::BlastRadius, format!("{pods} pods would change, a Policy allows {bound}"))
        }
        Some(bound) => pass(format!("{pods} pods would change, a Policy allows {bound}")),
        None => pass(format!("{pods} pods would change, one object, one field")),
    }
}

fn quota_has_room(readable: &Readable<'_>) -> Outcome {
    let state = &readable.workload().state;
    if state.desired > 0 && state.ready >= state.desired {
        // Where a release never got a pod ready, those that are ready are the ones that a rollback keeps.
        return pass("every replica is ready: no pod has to be created");
    }
    match readable.case.cluster.full_quota {
        Some(quota) => refuse(Reason::QuotaExhausted, format!("quota {quota} leaves no room for new pods")),
        None => pass("no quota keeps new pods out"),
    }
}

fn loop_budget(readable: &Readable<'_>) -> Outcome {
    let rounds = readable.case.rounds;
    if rounds > MAX_ROUNDS {
        refuse(Reason::LoopBudget, format!("{rounds} investigations, at most {MAX_ROUNDS}")).ends_wait()
    } else {
        pass(format!("investigation {rounds} of at most {MAX_ROUNDS}"))
    }
}

fn target_cooldown(readable: &Readable<'_>) -> Outcome {
    budget_check(readable, "the target was not written to lately", budget::cooldown)
}

fn hourly_budget(readable: &Readable<'_>) -> Outcome {
    budget_check(readable, "actions are left in this hour", budget::hourly)
}

type BudgetRule = fn(&LedgerStatus, &Charge, &Budgets, Time) -> Result<(), budget::Refusal>;

fn budget_check(readable: &Readable<'_>, ok: &str, rule: BudgetRule) -> Outcome {
    let books = &readable.case.books;
    match rule(books.ledger, &readable.charge(), books.budgets, readable.case.now) {
        Ok(()) => pass(ok),
        Err(refusal) => refuse(refusal.reason, refusal.message),
    }
}

fn no_storm(readable: &Readable<'_>) -> Outcome {
    let books = &readable.case.books;
    let Budgets { storm_incidents: bound, storm_window_seconds: seconds, .. } = *books.budgets;
    let targets = books.failing_targets;
    if let Some(storm) = books.storm {
        return refuse(Reason::Storm, storm.message(&readable.target.namespace)).with(Effect::Shared);
    }
    if let Some(Unreadable { reason, message }) = books.neighbours_unread {
        let message = format!("whether other workloads of the namespace fail too could not be read: {message}");
        return unknown(*reason, message).wait();
    }
    let rules: [BudgetRule; 2] = [budget::storm::under_way, budget::storm::same_change];
    for rule in rules {
        if let Err(refusal) = rule(books.ledger, &readable.charge(), books.budgets, readable.case.now) {
            return refuse(refusal.reason, refusal.message);
        }
    }
    if targets >= bound {
        let message = format!(
            "{targets} workloads of enrolled namespaces fail, with incidents of the last {seconds} s; the bound is \
             {bound}: this is bigger than one rollout"
        );
        return refuse(Reason::Storm, message).anomaly();
    }
    pass(format!("{targets} workloads of enrolled namespaces fail, fewer than {bound}, and few in this one"))
}

fn cascade_breaker_closed(readable: &Readable<'_>) -> Outcome {
    budget_check(readable, "the cascade breakers let it through", budget::breaker::closed)
}

fn audit_durable(readable: &Readable<'_>) -> Outcome {
    if readable.case.books.audit_durable {
        pass("the audit log can be written, and is kept as the installation asks for")
    } else {
        refuse(
            Reason::AuditNotDurable,
            "the audit log cannot be written, or would not outlive the pod: the controller's log says which. Room and write access on its volume, or audit.persistentVolumeClaim or audit.ephemeral in the chart's values, mend it",
        )
    }
}

fn mode_allows(readable: &Readable<'_>) -> Outcome {
    let mode = readable.mode();
    match mode {
        Mode::Approve | Mode::Auto => pass(format!("the mode is {mode}")),
        Mode::Observe | Mode::Suggest => refuse(
            Reason::ModeForbids,
            format!("the mode is {mode}; label the namespace backstop.dev/mode=approve or auto to allow writes"),
        ),
    }
}

fn approved(readable: &Readable<'_>) -> Outcome {
    if readable.mode() != Mode::Approve {
        return pass("the mode asks for no approval");
    }
    let Some(identity) = &readable.identity else { return not_asked("there is no exact action to approve") };
    let digest = &identity.digest;
    match readable.case.books.approvals.iter().find(|approval| approval.digest == *digest) {
        Some(approval) => pass(format!("{} approved exactly this action", approval.approver)),
        None => refuse(Reason::ApprovalMissing, how_to_approve(readable.case, digest)).with(Effect::AskApproval),
    }
}
