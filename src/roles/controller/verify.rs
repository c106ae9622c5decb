//! After the write: watch the target until it has recovered, or take the write back.

use std::time::Duration;

use jiff::SignedDuration;
use kube::ResourceExt as _;

use crate::api::v1alpha1::{Actor, Incident, LedgerStatus, Time};
use crate::core::{
    actions, budget,
    reason::Reason,
    timeline,
    verify::{Progress, Written, progress},
};

use super::context::{Error, Next, Shared};
use super::{escalate, judge, ledgers, observe, remediate};

/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// Looks once.
pub async fn watch(ctx: &Shared, incident: &Incident, now: Time) -> Result<Next, Error> {
    let mut status = incident.status.clone().unwrap_or_default();
    let (Some(remediation), Some(target)) = (
        remediate::read(ctx, incident, status.remediation.as_deref().unwrap_or_default()).await?,
        &incident.spec.target,
    ) else {
        let message = "the Remediation was deleted before it was verified";
        return escalate::begin(ctx, incident, status, Reason::VerifyFailed, message, now).await;
    };
    let fired_at = status.times.fired.unwrap_or(now);
    let verify = &remediation.spec.verify;
    let timeout = SignedDuration::from_secs(verify.timeout_seconds.into());
    let reading = match observe::reading(&ctx.client, target, now).await {
        Ok(reading) => reading,
        // No data is not healthy, and not a reason to write either.
        Err(error) if now.duration_since(fired_at) < timeout => {
            tracing::warn!(reason = %error.reason, error = %error.message, "cannot verify yet");
            return Ok(Next::After(LOOK));
        }
        Err(error) => {
            judge::ledger_anomaly(ctx, incident, Reason::VerifyFailed, now).await?;
            return escalate::begin(ctx, incident, status, Reason::VerifyFailed, &error.message, now).await;
        }
    };
    let Some(field) = remediation.spec.write.field() else { return Ok(Next::Change) };
    let written = Written {
        after: &field.after,
        fired_at,
        healthy_since: status.times.healthy,
        settle: SignedDuration::from_secs(verify.settle_seconds.into()),
        timeout,
    };
    match progress(&reading, &written) {
        Progress::Waiting => {
            // Healthy has to be without a break.
            if status.times.healthy.take().is_some() {
                ctx.write_status(incident, status).await?;
            }
            Ok(Next::After(LOOK))
        }
        Progress::Settling => {
            if status.times.healthy.is_none() {
                status.times.healthy = Some(now);
                let message = format!("{} of {} replicas are ready", reading.workload.ready, reading.workload.desired);
                timeline::note(&mut status, now, Actor::Controller, "Healthy", message);
                ctx.write_status(incident, status).await?;
            }
            Ok(Next::After(LOOK))
        }
        Progress::Recovered => {
            let id = remediation.spec.action_id.clone();
            let change = |old: &LedgerStatus| Ok::<_, ()>(budget::trial_succeeded(old, &id));
            let _ = ledgers::change(ctx, ledgers::ACTIONS, change).await?;
            let healthy = status.times.healthy.unwrap_or(now);
            ctx.metrics.to_recovery.observe(healthy.duration_since(fired_at).as_secs_f64().max(0.0));
            let message = format!(
                "{}: healthy {:.1} s after the alert was received, and stayed so for {} s",
                (actions::of(remediation.spec.action.kind()).describe)(&remediation.spec.action),
                healthy.duration_since(incident.spec.opened_at).as_secs_f64(),
                verify.settle_seconds
            );
            tracing::info!(incident = %incident.name_any(), %message, "recovered");
            escalate::resolve(ctx, incident, status, Reason::Recovered, &message, now).await
        }
        Progress::Failed(state) => {
            judge::ledger_anomaly(ctx, incident, Reason::VerifyFailed, now).await?;
            let why = format!("the write did not help within {} s: {state}", verify.timeout_seconds);
            remediate::begin_undo(ctx, incident, status, &why, now).await
        }
        Progress::ChangedByOthers => {
            let message = "somebody changed the template after our write; it is left as it is";
            escalate::begin(ctx, incident, status, Reason::ChangedByOthers, message, now).await
        }
    }
}
