//! The judgement: gather what it rests on, ask the gate, pay, and write down the exact action.

use std::time::Duration;

use jiff::SignedDuration;
use kube::{Api, ResourceExt as _};

use crate::api::v1alpha1::{
    Actor, Approval, ApprovalStatus, DecisionOutcome, Incident, IncidentPhase, IncidentStatus, Investigation,
    LedgerStatus, Time,
};
use crate::core::{
    budget,
    gate::{self, Case, Judgement},
    reason::Reason,
    timeline,
};

use super::context::{Context, Error, Next, Shared, call};
use super::{escalate, ledgers, observe, plan, remediate};

/// Pause between two rounds.
const PAUSE: SignedDuration = SignedDuration::from_secs(4);

/// Everything that one judgement read, owned.
pub struct Gathered {
    firing: bool,
    rules: observe::Rules,
    books: observe::Books,
    investigation: Option<Investigation>,
    reading: Result<crate::core::workload::Workload, gate::Unreadable>,
}

/// Reads what a judgement rests on.
pub async fn gather(ctx: &Context, incident: &Incident, now: Time) -> Result<Gathered, Error> {
    let namespace = incident.namespace().unwrap_or_default();
    let name = incident.status.as_ref().and_then(|status| status.investigation.clone()).unwrap_or_default();
    let reading = async {
        Ok(match &incident.spec.target {
            Some(target) => observe::reading(&ctx.client, target, now).await,
            None => {
                Err(gate::Unreadable { reason: Reason::TargetUnresolved, message: "there is no target to read".into() })
            }
        })
    };
    let (firing, rules, books, investigation, reading) = tokio::try_join!(
        observe::firing(ctx, incident),
        observe::rules(ctx, incident, observe::Freshness::Quorum),
        observe::books(ctx, incident, now),
        observe::investigation(ctx, &namespace, &name),
        reading,
    )?;
    Ok(Gathered { firing, rules, books, investigation, reading })
}

impl Gathered {
    /// The reading, if there is one.
    pub fn reading(&self) -> Option<&crate::core::workload::Workload> {
        self.reading.as_ref().ok()
    }
}

/// Asks the gate.
pub fn judge(ctx: &Context, incident: &Incident, gathered: &Gathered, now: Time) -> Judgement {
    let Gathered { firing, rules, books, investigation, reading } = gathered;
    let name = incident.name_any();
    let found = investigation.as_ref().and_then(|i| i.status.as_ref());
    let runbooks = rules.allowed_actions();
    gate::judge(&Case {
        now,
        incident: &name,
        target: incident.spec.target.as_ref(),
        unresolved: incident.spec.unresolved.as_ref(),
        alert_firing: *firing,
        alert_started_at: incident.spec.alerts.iter().map(|a| a.starts_at).min().unwrap_or(incident.spec.opened_at),
        alert_names: incident.spec.alerts.iter().map(|a| a.alertname.as_str()).collect(),
        rounds: incident.status.as_ref().map_or(0, |status| status.rounds),
        facts: found.map(|status| status.facts.as_slice()).unwrap_or_default(),
        diagnosis: found.and_then(|status| status.diagnosis.as_ref()),
        second_opinion: found.and_then(|status| status.second_opinion.as_ref()),
        reading: reading.as_ref().map_err(Clone::clone),
        namespace_mode: rules.mode.as_deref(),
        policies: &rules.policies,
        runbooks: &runbooks,
        known_good: &books.known_good,
        ledger: &books.ledger,
        storm_targets: books.storm_targets,
        full_quota: books.full_quota.clone(),
        approvals: &books.approvals,
        audit_durable: ctx.settings.audit_durable && ctx.audit.is_durable().is_ok(),
        settings: &ctx.settings,
    })
}

/// Decides what follows from the latest round.
pub async fn decide(ctx: &Shared, incident: &Incident, now: Time) -> Result<Next, Error> {
    let status = incident.status.clone().unwrap_or_default();
    if let Some(decision) = &status.decision
        && decision.outcome == DecisionOutcome::Wait
    {
        let since = now.duration_since(decision.decided_at);
        let decided_this_round = status.times.diagnosed.is_some_and(|diagnosed| decision.decided_at >= diagnosed);
        if decided_this_round && since < PAUSE {
            return Ok(Next::After((PAUSE - since).try_into().unwrap_or(Duration::from_secs(1))));
        }
        if decided_this_round {
            return another_round(ctx, incident, status).await;
        }
    }
    let gathered = gather(ctx, incident, now).await?;
    let judgement = judge(ctx, incident, &gathered, now);
    act_on(ctx, incident, judgement, &gathered, now).await
}

async fn another_round(ctx: &Shared, incident: &Incident, mut status: IncidentStatus) -> Result<Next, Error> {
    status.rounds += 1;
    status.investigation = Some(plan::investigation_name(incident, status.rounds));
    status.phase = IncidentPhase::Investigating;
    Ok(Next::Again(Box::new(ctx.write_status(incident, status).await?)))
}

async fn act_on(
    ctx: &Shared,
    incident: &Incident,
    judgement: Judgement,
    gathered: &Gathered,
    now: Time,
) -> Result<Next, Error> {
    let Judgement { mut decision, prediction, anomalies } = judgement;
    let mut status = incident.status.clone().unwrap_or_default();
    let waited = now.duration_since(status.times.planned.unwrap_or(now));
    let patience = SignedDuration::from_secs(ctx.settings.timings.evidence_wait_seconds.into());
    if decision.outcome == DecisionOutcome::Wait && waited >= patience {
        decision.outcome = DecisionOutcome::Escalate;
        decision.message = format!("{} (waited {} s)", decision.message, waited.as_secs());
    }
    let reason_word = Reason::named(&decision.reason).unwrap_or(Reason::NothingProposed);
    for kind in anomalies {
        ledger_anomaly(ctx, incident, kind, now).await?;
    }
    ctx.metrics
        .decisions
        .get_or_create(&super::metrics::Decided { outcome: decision.outcome.as_str(), reason: reason_word.as_str() })
        .inc();
    let (outcome, message) = (decision.outcome, decision.message.clone());
    let passed = decision.checks.iter().filter(|c| c.verdict == crate::api::v1alpha1::Verdict::Passed).count();
    let sentence =
        format!("{passed} of {} checks passed; {outcome:?}: {reason_word}: {message}", decision.checks.len());
    if outcome != DecisionOutcome::Wait {
        timeline::note(&mut status, now, Actor::Controller, "Judged", sentence);
        status.times.decided = Some(now);
    }
    status.decision = Some(decision);
    match (outcome, prediction) {
        (DecisionOutcome::Act, Some(prediction)) => {
            if let Some(refusal) = pay(ctx, incident, gathered, &status, now).await? {
                return escalate::begin(ctx, incident, status, refusal.reason, &refusal.message, now).await;
            }
            remediate::begin(ctx, incident, status, &prediction, now).await
        }
        (DecisionOutcome::Wait, _) => Ok(Next::Again(Box::new(ctx.write_status(incident, status).await?))),
        (DecisionOutcome::AwaitApproval, _) => {
            let digest = status.decision.as_ref().and_then(|d| d.digest.clone()).unwrap_or_default();
            let message = format!("waits for an Approval of digest {digest}");
            escalate::ask_for_approval(ctx, incident, &status, &message).await?;
            timeline::note(&mut status, now, Actor::Controller, "ApprovalAsked", message);
            status.phase = IncidentPhase::AwaitingApproval;
            Ok(Next::Again(Box::new(ctx.write_status(incident, status).await?)))
        }
        _ if reason_word == Reason::AlertResolved => {
            escalate::resolve(ctx, incident, status, Reason::AlertResolved, &message, now).await
        }
        _ => escalate::begin(ctx, incident, status, reason_word, &message, now).await,
    }
}

/// Pays for the action before anything is written. A refusal here means that somebody else was faster.
async fn pay(
    ctx: &Shared,
    incident: &Incident,
    gathered: &Gathered,
    status: &IncidentStatus,
    now: Time,
) -> Result<Option<budget::Refusal>, Error> {
    let (Some(decision), Some(target)) = (&status.decision, &incident.spec.target) else { return Ok(None) };
    let name = incident.name_any();
    let matching =
        gathered.rules.policies.iter().filter(|p| gathered.reading().is_none_or(|reading| p.matches(reading)));
    let limits: Vec<_> = matching.map(|policy| policy.spec.limits.clone()).collect();
    let unsigned = |value: i32| u32::try_from(value).unwrap_or(0);
    let request = budget::Request {
        action_id: decision.action_id.as_deref().unwrap_or_default(),
        namespace: &target.namespace,
        target_uid: &target.uid,
        incident: &name,
        undo: false,
        policy_per_hour: limits.iter().filter_map(|l| l.actions_per_hour).map(unsigned).min(),
        policy_cooldown: limits.iter().filter_map(|l| l.cooldown_seconds).map(unsigned).max(),
    };
    let budgets = &ctx.settings.budgets;
    let paid =
        ledgers::change(ctx, ledgers::ACTIONS, |old: &LedgerStatus| budget::reserve(old, &request, budgets, now))
            .await?;
    Ok(paid.err())
}

/// Counts an anomaly in the Ledger; enough of them open the cascade breaker.
pub async fn ledger_anomaly(ctx: &Context, incident: &Incident, kind: Reason, now: Time) -> Result<(), Error> {
    let incident = format!("{}/{}", incident.namespace().unwrap_or_default(), incident.name_any());
    let anomaly = crate::api::v1alpha1::Anomaly { at: now, kind: kind.as_str().into(), incident };
    ctx.metrics.anomalies.get_or_create(&super::metrics::Labels { reason: kind.as_str() }).inc();
    let budgets = &ctx.settings.budgets;
    let change = |old: &LedgerStatus| Ok::<_, ()>(budget::anomaly(old, anomaly.clone(), budgets));
    ledgers::change(ctx, ledgers::ACTIONS, change).await.map(drop)
}

/// Waits for a person, or for the alert to end. When the Approval is there the whole case is judged again, so an old
/// yes never meets a new world.
pub async fn await_approval(ctx: &Shared, incident: &Incident, now: Time) -> Result<Next, Error> {
    let status = incident.status.clone().unwrap_or_default();
    let asked = status.times.decided.unwrap_or(now);
    let patience = SignedDuration::from_secs(ctx.settings.timings.approval_timeout_seconds.into());
    if now.duration_since(asked) > patience {
        let message = format!("nobody approved within {} s", patience.as_secs());
        return escalate::begin(ctx, incident, status, Reason::ApprovalTimeout, &message, now).await;
    }
    if !observe::firing(ctx, incident).await? {
        let message = "the alert ended while it was waited for an Approval";
        return escalate::resolve(ctx, incident, status, Reason::AlertResolved, message, now).await;
    }
    let digest = status.decision.as_ref().and_then(|decision| decision.digest.clone()).unwrap_or_default();
    let books = observe::books(ctx, incident, now).await?;
    if !books.approvals.iter().any(|(approved, _)| *approved == digest) {
        return Ok(Next::After(Duration::from_secs(10)));
    }
    // The facts have aged while the person thought: look again, then judge with the Approval in hand.
    another_round(ctx, incident, status).await
}

/// Marks the Approval that a Remediation used.
pub async fn use_approval(ctx: &Context, incident: &Incident, digest: &str, remediation: &str) -> Result<(), Error> {
    let api: Api<Approval> = ctx.api(&incident.namespace().unwrap_or_default());
    let list = call("list Approvals", api.list(&Default::default())).await?;
    for approval in list.items.iter().filter(|a| a.spec.digest == digest && a.spec.incident == incident.name_any()) {
        if approval.status.as_ref().is_none_or(|status| status.used_by.is_empty()) {
            let status = ApprovalStatus { used_by: remediation.into(), conditions: vec![] };
            ctx.merge_status(approval, &status).await?;
        }
    }
    Ok(())
}
