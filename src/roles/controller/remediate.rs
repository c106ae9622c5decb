//! From a decision to a write by the hands: the Remediation, the audit record, the Grant, and what came of it.

use std::time::Duration;

use jiff::SignedDuration;
use kube::{Api, ResourceExt as _};
use serde_json::json;

use crate::api::v1alpha1::{
    Actor, Decision, FieldWrite, Incident, IncidentPhase, IncidentStatus, LedgerState, LedgerStatus, Mode, Purpose,
    ReceiptStep, Remediation, RemediationPhase, RemediationSpec, RemediationStatus, Time, Undo, Verdict, Verify, Write,
};
use crate::audit::Record;
use crate::core::{
    actions::{Prediction, identity},
    budget, names, policy,
    reason::Reason,
    timeline,
};

use super::context::{Context, Error, Next, Shared, call, exists};
use super::grants::{self, Opening};
use super::investigate::owned;
use super::{escalate, judge, ledgers, observe};

/// The hands have this long to claim a Remediation, and to end it after their Grant ended.
const EXECUTOR_PATIENCE: SignedDuration = SignedDuration::from_mins(5);

/// Writes down the exact action. Without a Grant it does nothing, so it may exist before the phase says so.
pub async fn begin(
    ctx: &Shared,
    incident: &Incident,
    mut status: IncidentStatus,
    prediction: &Prediction,
    now: Time,
) -> Result<Next, Error> {
    let (id, digest) = match &status.decision {
        Some(Decision { action_id: Some(id), digest: Some(digest), .. }) => (id.clone(), digest.clone()),
        _ => return Ok(Next::Change),
    };
    let spec = spec(ctx, incident, Purpose::Repair, None, prediction, &id, &digest);
    create(ctx, incident, &id, spec).await?;
    let what = prediction.diff.iter().map(|c| format!("{}: {} -> {}", c.path, c.before, c.after)).collect::<Vec<_>>();
    timeline::note(&mut status, now, Actor::Controller, "RemediationCreated", what.join("; "));
    status.remediation = Some(id);
    status.grant_epoch = None;
    status.phase = IncidentPhase::Remediating;
    Ok(Next::Again(Box::new(ctx.write_status(incident, status).await?)))
}

fn spec(
    ctx: &Context,
    incident: &Incident,
    purpose: Purpose,
    follows: Option<String>,
    prediction: &Prediction,
    id: &str,
    digest: &str,
) -> RemediationSpec {
    let seconds = |value: u32| i32::try_from(value).unwrap_or(3600);
    RemediationSpec {
        incident: incident.name_any(),
        action_id: id.into(),
        digest: digest.into(),
        action: prediction.action.clone(),
        purpose,
        follows,
        target: incident.spec.target.clone().unwrap_or_default(),
        write: prediction.write.clone(),
        provenance: prediction.provenance.clone(),
        verify: Verify {
            settle_seconds: seconds(ctx.settings.timings.verify_settle_seconds),
            timeout_seconds: seconds(ctx.settings.timings.verify_timeout_seconds),
        },
        undo: prediction.undo.clone(),
        request_id: incident.spec.request_id.clone(),
    }
}

async fn create(ctx: &Context, incident: &Incident, name: &str, spec: RemediationSpec) -> Result<(), Error> {
    let mut remediation = Remediation::new(name, spec);
    remediation.metadata = owned(incident, name);
    let kind = remediation.spec.action.kind().as_str().to_owned();
    remediation.metadata.labels.get_or_insert_default().insert(names::ACTION_KIND.into(), kind);
    let api: Api<Remediation> = ctx.api(&incident.namespace().unwrap_or_default());
    exists(call("create Remediation", api.create(&ctx.create_params(), &remediation)).await)
}

/// Follows the Remediation that repairs.
pub async fn repair(ctx: &Shared, incident: &Incident, now: Time) -> Result<Next, Error> {
    let mut status = incident.status.clone().unwrap_or_default();
    let Some(remediation) = read(ctx, incident, status.remediation.as_deref().unwrap_or_default()).await? else {
        let message = "the Remediation was deleted before it ended; nobody of ours does that";
        return escalate::begin(ctx, incident, status, Reason::RemediationAborted, message, now).await;
    };
    let state = remediation.status.clone().unwrap_or_default();
    match state.phase {
        RemediationPhase::Fired => {
            settle(ctx, incident, &remediation, LedgerState::Spent, now).await?;
            let fired = fired_at(&state).unwrap_or(now);
            status.times.fired = status.times.fired.or(Some(fired));
            let took = fired.duration_since(incident.spec.opened_at).as_secs_f64();
            ctx.metrics.to_fire.observe(took.max(0.0));
            let message = format!("the API server accepted the write {took:.3} s after the alert was received");
            timeline::note(&mut status, fired, Actor::Executor, "Fired", message);
            status.phase = IncidentPhase::Verifying;
            Ok(Next::Again(Box::new(ctx.write_status(incident, status).await?)))
        }
        RemediationPhase::Aborted => {
            let written = fired_at(&state).is_some();
            let book = if written { LedgerState::Spent } else { LedgerState::Refunded };
            settle(ctx, incident, &remediation, book, now).await?;
            let word = Reason::named(&state.reason).unwrap_or(Reason::RemediationAborted);
            if ![Reason::ModeForbids, Reason::TargetChanged, Reason::TargetGone].contains(&word) {
                judge::ledger_anomaly(ctx, incident, Reason::RefusedByPolicy, now).await?;
            }
            let message = format!("nothing was changed: the executor stopped with {word}. {}", state.message);
            escalate::begin(ctx, incident, status, word, &message, now).await
        }
        RemediationPhase::Claimed if Some(state.epoch) > status.grant_epoch => {
            grant(ctx, incident, &remediation, &state, now).await
        }
        RemediationPhase::Pending | RemediationPhase::Claimed => {
            let since = last_moment(&status, now);
            if now.duration_since(since) > EXECUTOR_PATIENCE {
                return silent(ctx, incident, &remediation, status, now).await;
            }
            Ok(Next::After(Duration::from_secs(2)))
        }
    }
}

/// Judges again, from a fresh reading, and only then opens the Grant: audit record first.
async fn grant(
    ctx: &Shared,
    incident: &Incident,
    remediation: &Remediation,
    state: &RemediationStatus,
    now: Time,
) -> Result<Next, Error> {
    let mut status = incident.status.clone().unwrap_or_default();
    let gathered = judge::gather(ctx, incident, now).await?;
    let judgement = judge::judge(ctx, incident, &gathered, now);
    for kind in &judgement.anomalies {
        judge::ledger_anomaly(ctx, incident, *kind, now).await?;
    }
    // The facts were judged fresh when the action was decided; what counts now is the judge's own reading.
    let refusals = judgement
        .decision
        .checks
        .iter()
        .filter(|check| !matches!(check.verdict, Verdict::Passed) && check.reason != Reason::FactsStale.as_str());
    let first = refusals.into_iter().next().cloned();
    let same = judgement.decision.action_id.as_ref() == Some(&remediation.spec.action_id);
    if first.is_some() || !same {
        let (word, message) = match first {
            Some(check) => (Reason::named(&check.reason).unwrap_or(Reason::TargetChanged), check.message),
            None => (Reason::TargetChanged, "the target is not as it was judged".to_string()),
        };
        // An object that is already as it should be is the work of an earlier epoch: the hands will find and report it.
        if written_by_us(&gathered, &remediation.spec) {
            return Ok(Next::After(Duration::from_secs(1)));
        }
        let message = format!("no Grant was opened, because the case was judged again: {message}");
        return escalate::begin(ctx, incident, status, word, &message, now).await;
    }
    if !open(ctx, incident, remediation, state.epoch, now).await? {
        return Ok(Next::After(Duration::from_millis(500)));
    }
    status.grant_epoch = Some(state.epoch);
    let message = format!(
        "for action {} and {} s, epoch {}",
        remediation.spec.action_id, ctx.settings.timings.grant_seconds, state.epoch
    );
    timeline::note(&mut status, now, Actor::Controller, "GrantOpened", message);
    Ok(Next::Again(Box::new(ctx.write_status(incident, status).await?)))
}

fn written_by_us(gathered: &judge::Gathered, spec: &RemediationSpec) -> bool {
    gathered.reading().is_some_and(|reading| {
        spec.write.field().is_some_and(|field| field.after == reading.template)
            && reading.annotations.get(names::LAST_ACTION) == Some(&spec.action_id)
    })
}

/// Audit record on disk, then the Grant. False while another write is open in the namespace.
async fn open(
    ctx: &Context,
    incident: &Incident,
    remediation: &Remediation,
    epoch: i64,
    now: Time,
) -> Result<bool, Error> {
    let spec = &remediation.spec;
    audit(
        ctx,
        incident,
        spec,
        "GrantOpening",
        json!({ "epoch": epoch, "digest": spec.digest, "target": spec.target, "action": spec.action }),
        now,
    )
    .await?;
    Ok(grants::open(ctx, remediation, epoch, now).await? == Opening::Open)
}

async fn audit(
    ctx: &Context,
    incident: &Incident,
    spec: &RemediationSpec,
    kind: &str,
    details: serde_json::Value,
    now: Time,
) -> Result<(), Error> {
    let record = Record {
        at: now,
        request_id: spec.request_id.clone(),
        kind: kind.into(),
        incident: format!("{}/{}", incident.namespace().unwrap_or_default(), incident.name_any()),
        action_id: spec.action_id.clone(),
        details: details.as_object().cloned().unwrap_or_default(),
    };
    ctx.audit.append(record).await.map_err(Error::Audit)
}

/// Closes the Grant, writes the outcome into the audit log and the Ledger, and uses up the Approval.
async fn settle(
    ctx: &Context,
    incident: &Incident,
    remediation: &Remediation,
    book: LedgerState,
    now: Time,
) -> Result<(), Error> {
    grants::close(ctx, &incident.namespace().unwrap_or_default(), &remediation.name_any()).await?;
    let state = remediation.status.clone().unwrap_or_default();
    let details = json!({ "phase": state.phase, "reason": state.reason, "receipts": state.receipts });
    // What was written has to be verified all the same, or taken back; without a log no further Grant opens.
    if let Err(error) = audit(ctx, incident, &remediation.spec, "RemediationEnded", details, now).await {
        tracing::error!(%error, remediation = %remediation.name_any(), "the end of the remediation is not in the audit log");
    }
    let id = &remediation.spec.action_id;
    let change = |old: &LedgerStatus| Ok::<_, ()>(budget::settle(old, id, book));
    let _ = ledgers::change(ctx, ledgers::ACTIONS, change).await?;
    judge::use_approval(ctx, incident, &remediation.spec.digest, &remediation.name_any()).await
}

/// The hands say nothing any more. The outcome is unknown and counts as happened.
async fn silent(
    ctx: &Shared,
    incident: &Incident,
    remediation: &Remediation,
    status: IncidentStatus,
    now: Time,
) -> Result<Next, Error> {
    grants::close(ctx, &incident.namespace().unwrap_or_default(), &remediation.name_any()).await?;
    judge::ledger_anomaly(ctx, incident, Reason::ExecutorSilent, now).await?;
    let message = format!(
        "the executor did not end Remediation {} in time; whether it wrote is unknown. \
         See annotation backstop.dev/last-action of the target and `kubectl -n {} get pods`",
        remediation.name_any(),
        ctx.system
    );
    escalate::begin(ctx, incident, status, Reason::ExecutorSilent, &message, now).await
}

/// Begins to take the repair back: exactly, and only if nobody else touched the field since.
pub async fn begin_undo(
    ctx: &Shared,
    incident: &Incident,
    mut status: IncidentStatus,
    why: &str,
    now: Time,
) -> Result<Next, Error> {
    let repaired = read(ctx, incident, status.remediation.as_deref().unwrap_or_default()).await?;
    let Some(Remediation { spec: repair, .. }) = repaired else {
        return escalate::begin(ctx, incident, status, Reason::VerifyFailed, why, now).await;
    };
    let (Some(back), Write::Field(FieldWrite { path, before, after })) = (&repair.undo, &repair.write) else {
        return escalate::begin(ctx, incident, status, Reason::VerifyFailed, why, now).await;
    };
    let prediction = Prediction {
        action: back.action.clone(),
        write: Write::Field(FieldWrite { path: path.clone(), before: after.clone(), after: before.clone() }),
        provenance: back.provenance.clone(),
        undo: Some(Undo { action: repair.action.clone(), provenance: repair.provenance.clone() }),
        diff: vec![],
    };
    let digest =
        identity::digest(&prediction.action, &repair.target, &prediction.write, prediction.provenance.as_ref());
    let id = identity::action_id(&incident.name_any(), Purpose::Undo, &digest);
    let name = incident.name_any();
    let request = budget::Request {
        action_id: &id,
        namespace: &repair.target.namespace,
        target_uid: &repair.target.uid,
        incident: &name,
        undo: true,
        policy_per_hour: None,
        policy_cooldown: None,
    };
    let budgets = &ctx.settings.budgets;
    let paid =
        ledgers::change(ctx, ledgers::ACTIONS, |old: &LedgerStatus| budget::reserve(old, &request, budgets, now))
            .await?;
    if let Err(refusal) = paid {
        return escalate::begin(ctx, incident, status, refusal.reason, &refusal.message, now).await;
    }
    create(
        ctx,
        incident,
        &id,
        spec(ctx, incident, Purpose::Undo, Some(repair.action_id.clone()), &prediction, &id, &digest),
    )
    .await?;
    timeline::note(&mut status, now, Actor::Controller, "UndoCreated", why);
    status.undo = Some(id);
    status.grant_epoch = None;
    status.message = why.chars().take(2000).collect();
    status.phase = IncidentPhase::Undoing;
    Ok(Next::Again(Box::new(ctx.write_status(incident, status).await?)))
}

/// Follows the Remediation that takes the repair back, and then hands over.
pub async fn undo(ctx: &Shared, incident: &Incident, now: Time) -> Result<Next, Error> {
    let mut status = incident.status.clone().unwrap_or_default();
    let why = status.message.clone();
    let Some(remediation) = read(ctx, incident, status.undo.as_deref().unwrap_or_default()).await? else {
        return escalate::begin(ctx, incident, status, Reason::VerifyFailed, &why, now).await;
    };
    let state = remediation.status.clone().unwrap_or_default();
    match state.phase {
        RemediationPhase::Fired => {
            settle(ctx, incident, &remediation, LedgerState::Spent, now).await?;
            judge::ledger_anomaly(ctx, incident, Reason::Undone, now).await?;
            timeline::note(
                &mut status,
                fired_at(&state).unwrap_or(now),
                Actor::Executor,
                "Undone",
                "the template is as it was before",
            );
            let message = format!("{why}. The write was taken back exactly");
            escalate::begin(ctx, incident, status, Reason::VerifyFailed, &message, now).await
        }
        RemediationPhase::Aborted => {
            settle(ctx, incident, &remediation, LedgerState::Refunded, now).await?;
            let message = format!("{why}. The write could not be taken back: {} {}", state.reason, state.message);
            escalate::begin(ctx, incident, status, Reason::VerifyFailed, &message, now).await
        }
        RemediationPhase::Claimed if Some(state.epoch) > status.grant_epoch => {
            let rules = observe::rules(ctx, incident, observe::Freshness::Quorum).await?;
            let target = incident.spec.target.clone().unwrap_or_default();
            let reading = observe::reading(&ctx.client, &target, now).await.ok();
            // As for the repair: a Policy about other objects does not keep this one broken.
            let policies: Vec<_> =
                rules.policies.iter().filter(|policy| reading.as_ref().is_none_or(|r| policy.matches(r))).collect();
            if policy::mode(rules.mode.as_deref(), &policies) < Mode::Approve {
                let message = format!("{why}. The mode forbids taking it back");
                return escalate::begin(ctx, incident, status, Reason::ModeForbids, &message, now).await;
            }
            if !(ctx.settings.audit_durable && ctx.audit.is_durable().is_ok()) {
                return escalate::begin(ctx, incident, status, Reason::AuditNotDurable, &why, now).await;
            }
            if !open(ctx, incident, &remediation, state.epoch, now).await? {
                return Ok(Next::After(Duration::from_millis(500)));
            }
            status.grant_epoch = Some(state.epoch);
            timeline::note(&mut status, now, Actor::Controller, "GrantOpened", "to take the write back");
            Ok(Next::Again(Box::new(ctx.write_status(incident, status).await?)))
        }
        RemediationPhase::Pending | RemediationPhase::Claimed => {
            if now.duration_since(last_moment(&status, now)) > EXECUTOR_PATIENCE {
                return silent(ctx, incident, &remediation, status, now).await;
            }
            Ok(Next::After(Duration::from_secs(2)))
        }
    }
}

/// Reads a Remediation.
pub async fn read(ctx: &Context, incident: &Incident, name: &str) -> Result<Option<Remediation>, Error> {
    let api: Api<Remediation> = ctx.api(&incident.namespace().unwrap_or_default());
    call("read Remediation", api.get_opt(name)).await
}

fn fired_at(status: &RemediationStatus) -> Option<Time> {
    status.receipts.iter().find(|receipt| receipt.step == ReceiptStep::Fired).map(|receipt| receipt.at)
}

fn last_moment(status: &IncidentStatus, now: Time) -> Time {
    status.timeline.last().map_or(now, |entry| entry.at)
}
