//! Is the action allowed here and now? Enrolment, Policies, Runbooks, budgets, audit, mode and approval.

use crate::api::v1alpha1::{LedgerStatus, Lift, Limits, Mode, Time};
use crate::core::approvals::{self, MAX_TERMS, Standing};
use crate::core::blast::{Blast, Loss, Share};
use crate::core::budget::{self, Budgets, Charge, windows};
use crate::core::policy::Denial;
use crate::core::reason::Reason;

use super::case::{MAX_ROUNDS, Unreadable, standing};
use super::check::Check;
use super::outcome::{Effect, Outcome, not_asked, pass, refuse, unknown};
use super::readable::{Readable, ReadableCheck, how_to_approve};
use super::variables::Bound;

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
        says: "Every Policy that applies compiles, protects nothing of it, lists the action, has its windows open, caps kept and validations true.",
        run: policy_allows,
    },
    Check {
        name: "RunbookAllows",
        says: "Every Runbook that applies compiles, lists the action and finds its validations true.",
        run: runbook_allows,
    },
    Check {
        name: "BlastRadius",
        says: "The write reaches no further than allowed: pods, endpoints of Services, disruption budgets, workloads within an hour.",
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
        name: "TargetNotHeld",
        says: "No earlier write to the target of the last hours failed, was taken back, or was reverted by somebody.",
        run: target_not_held,
    },
    Check {
        name: "HourlyBudget",
        says: "Actions are left in this hour: in the namespace, in the cluster, of the kind, and on the node that alone fails.",
        run: hourly_budget,
    },
    Check { name: "DailyBudget", says: "Actions on the target are left in these 24 hours.", run: daily_budget },
    Check {
        name: "FewUnderWay",
        says: "No more writes are under way in the namespace than a Policy allows at one time.",
        run: few_under_way,
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
        says: "In mode approve, as many people as the Policies ask for approved exactly this action, by its digest, and nobody denied it.",
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
    let asked = &readable.asked;
    if let Some(denial) = protecting(readable) {
        return refuse(denial.reason, denial.message);
    }
    if let Some(denial) = &asked.unclear_policy {
        return refuse(denial.reason, denial.message.clone());
    }
    let mut meter = asked.meter_of_policies();
    let write = readable.observed.prediction.as_ref().ok().and_then(|prediction| prediction.write.field());
    for Bound { policy, lifted } in &asked.policies {
        let answer = policy
            .admits_but(readable.kind(), readable.case.now, |part| lifted.has(part), &mut meter)
            .and_then(|()| match write.filter(|_| !lifted.has(Lift::Limits)) {
                None => Ok(()),
                Some(write) => policy.bounds(write, &mut meter),
            })
            .and_then(|()| match lifted.has(Lift::Validations) {
                true => Ok(()),
                false => policy.validate(&asked.variables, &mut meter),
            });
        if let Err(denial) = answer {
            return refuse(denial.reason, denial.message);
        }
    }
    pass(format!("{} Policies that apply allow it{}", asked.policies.len(), asked.exceptions()))
}

/// The first Policy that protects the target. It does so whatever its match conditions say, because the executor asks it
/// too.
pub(super) fn protecting(readable: &Readable<'_>) -> Option<Denial> {
    let (object, labels) = (&readable.workload().object, &readable.workload().labels);
    readable.policies.iter().find_map(|policy| policy.spares(object, labels).err())
}

fn runbook_allows(readable: &Readable<'_>) -> Outcome {
    let (asked, kind) = (&readable.asked, readable.kind());
    if let Some(denial) = &asked.unclear_runbook {
        return refuse(Reason::RunbookForbids, denial.message.clone());
    }
    if let Some(runbook) = asked.runbooks.iter().find(|runbook| !runbook.allowed_actions.contains(&kind)) {
        let message = format!("Runbook {} matches and does not list {kind} in allowedActions", runbook.name);
        return refuse(Reason::RunbookForbids, message);
    }
    let mut meter = asked.meter_of_runbooks();
    for runbook in &asked.runbooks {
        let program = runbook.compiled.program();
        if let Err(denial) = program.and_then(|program| program.validate(&asked.variables, &mut meter)) {
            return refuse(Reason::RunbookForbids, denial.message);
        }
    }
    pass(format!("{} Runbooks that apply allow it", asked.runbooks.len()))
}

fn blast_radius(readable: &Readable<'_>) -> Outcome {
    if readable.observed.prediction.is_err() {
        return not_asked("there is no exact write");
    }
    match &readable.case.cluster.reach {
        None => return not_asked("what it reaches was not read, because nothing fails or nothing can be written"),
        Some(Err(Unreadable { reason, message })) => {
            let message = format!("how far it reaches is not known: {message}");
            return unknown(*reason, message).wait();
        }
        Some(Ok(_)) => {}
    }
    let Some(blast) = &readable.blast else { return not_asked("there is no exact write") };
    let limits = || readable.asked.with(Lift::Limits).map(|policy| &policy.spec.limits);
    let least = |bound: fn(&Limits) -> Option<i32>| {
        limits().filter_map(bound).min().map(|bound| usize::try_from(bound).unwrap_or_default())
    };
    let Blast { pods, at_once, services: _, headroom, dependents, of_namespace, of_cluster } = blast;
    if let Some(bound) = least(|limits| limits.max_pods).filter(|bound| pods > bound) {
        return refuse(Reason::BlastRadius, format!("{pods} pods would change, a Policy allows {bound}"));
    }
    // A pod that crashes again and again is ready for a moment after each start: time may turn it.
    if let Some(loss) = blast.to_zero() {
        let (service, ready) = (&loss.service, loss.ready);
        let message =
            format!("Service {service} would have no endpoint for a while: all {ready} that serve may end at one time");
        return refuse(Reason::BlastRadius, message).wait();
    }
    let budgets = readable.case.books.budgets;
    let default = usize::try_from(budgets.endpoints_percent).unwrap_or(usize::MAX);
    let bound = least(|limits| limits.max_percent).map_or(default, |bound| bound.min(default));
    if let Some(loss) = blast.worst().filter(|loss| loss.percent() > bound) {
        let Loss { service, ready, lost } = loss;
        let message = format!(
            "{lost} of {ready} endpoints of Service {service} may end at one time, {}%; at most {bound}%",
            loss.percent()
        );
        return refuse(Reason::BlastRadius, message).wait();
    }
    if let Some(allowed) = headroom.filter(|allowed| i64::try_from(*at_once).unwrap_or(i64::MAX) > (*allowed).max(0)) {
        let message = format!("{at_once} pods that serve may end at one time, a disruption budget allows {allowed}");
        return refuse(Reason::BlastRadius, message).wait();
    }
    for (share, least, most, of) in [
        (of_namespace, 2, budgets.workloads_percent_per_namespace_per_hour, "of its namespace"),
        (of_cluster, 4, budgets.workloads_percent_per_hour, "of all enrolled namespaces"),
    ] {
        let Share { touched, of: all } = *share;
        if touched > least
            && touched.saturating_mul(100) > all.saturating_mul(usize::try_from(most).unwrap_or(usize::MAX))
        {
            let message =
                format!("{touched} of {all} workloads {of} would have been written to within an hour, at most {most}%");
            return refuse(Reason::BlastRadius, message);
        }
    }
    let of = if dependents.is_empty() { "nothing depends on them".to_owned() } else { dependents.join(", ") };
    pass(format!("{pods} pods would change, {at_once} of those that serve at one time; {of}"))
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
    budget_check(readable, "the target was not written to lately", windows::cooldown)
}

fn target_not_held(readable: &Readable<'_>) -> Outcome {
    budget_check(readable, "no earlier write to the target of late failed", windows::held)
}

fn hourly_budget(readable: &Readable<'_>) -> Outcome {
    budget_check(readable, "actions are left in this hour", windows::hourly)
}

fn daily_budget(readable: &Readable<'_>) -> Outcome {
    budget_check(readable, "actions on the target are left in these 24 hours", windows::daily)
}

type BudgetRule = fn(&LedgerStatus, &Charge, &Budgets, Time) -> Result<(), budget::Refusal>;

fn budget_check(readable: &Readable<'_>, ok: &str, rule: BudgetRule) -> Outcome {
    let books = &readable.case.books;
    match rule(books.ledger, &readable.charge(), books.budgets, readable.case.now) {
        Ok(()) => pass(ok),
        Err(refusal) => refuse(refusal.reason, refusal.message),
    }
}

fn few_under_way(readable: &Readable<'_>) -> Outcome {
    // What is under way ends within minutes.
    let outcome = budget_check(readable, "few other writes are under way", windows::under_way);
    if outcome.refuses() { outcome.wait() } else { outcome }
}

fn no_storm(readable: &Readable<'_>) -> Outcome {
    let books = &readable.case.books;
    let Budgets { storm_incidents: bound, storm_window_seconds: seconds, .. } = *books.budgets;
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
    let failing = books.failing_targets;
    let (targets, namespaces) = (failing.counted(bound), failing.namespaces());
    if failing.is_storm(bound) {
        let message = format!(
            "{targets} workloads fail in {namespaces} enrolled namespaces, with incidents of the last {seconds} s; the \
             bound is {bound}, of which no namespace counts for more than a third: this is bigger than one rollout"
        );
        return refuse(Reason::Storm, message).anomaly();
    }
    pass(format!(
        "{targets} workloads of {namespaces} enrolled namespaces count as failing, which is no storm of the cluster, and few \
         fail in this one"
    ))
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
    let terms = readable.terms();
    // Before the mode: what a person has to decide for another reason is asked of the same people.
    if terms.len() > MAX_TERMS {
        return refuse(Reason::TooManyPolicies, approvals::too_many(terms.len()));
    }
    if readable.mode() != Mode::Approve {
        return pass("the mode asks for no approval");
    }
    let Some(identity) = &readable.identity else { return not_asked("there is no exact action to approve") };
    let digest = &identity.digest;
    match standing(readable.case.books.approvals, digest, &terms) {
        Standing::Approved(who) => pass(format!("{who} approved exactly this action")),
        Standing::Denied(who) => refuse(Reason::ApprovalDenied, format!("{who} denied exactly this action")),
        Standing::Missing(who) => {
            refuse(Reason::ApprovalMissing, how_to_approve(readable.case, digest, &who)).with(Effect::AskApproval)
        }
    }
}
