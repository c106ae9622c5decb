//! Does what a step asks for: each effect is one request, or a read and a compare-and-swap.

use kube::{Api, Resource as _, ResourceExt as _, api::ObjectMeta, runtime::events::EventType};

use crate::api::v1alpha1::{Anomaly, ApprovalStatus, Incident, Investigation, LedgerStatus, Remediation, Time};
use crate::audit::Record;
use crate::core::{
    budget,
    fit::fitted,
    incident::{Effect, Entry, Measure},
    names,
    reason::Reason,
    surroundings,
};

use crate::notify::Note;
use crate::tap;

use super::context::{Context, Created, Error, call, created};
use super::{gather, grants, ledgers, metrics};

/// Why an effect was not done.
#[derive(Debug)]
pub enum Failure {
    /// The Ledger refused the charge, or the name is taken: decide again.
    Refused(budget::Refusal),
    /// It may or may not have been done: look again.
    Error(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Error(error)
    }
}

/// Does `effects` in order; nothing after one that fails. Before each it is asked whether this process still leads: one that
/// was frozen and woke up must not end what another goes on with.
pub async fn perform(ctx: &Context, incident: &Incident, effects: &[Effect], now: Time) -> Result<(), Failure> {
    for effect in effects {
        let namespace = incident.namespace().unwrap_or_default();
        tap::before("controller", effect.as_str(), &namespace).await;
        ctx.leads()?;
        one(ctx, incident, effect, now).await?;
        tap::after("controller", effect.as_str(), &namespace).await;
    }
    Ok(())
}

async fn one(ctx: &Context, incident: &Incident, effect: &Effect, now: Time) -> Result<(), Failure> {
    let namespace = incident.namespace().unwrap_or_default();
    match effect {
        Effect::CreateInvestigation { name, spec } => {
            let mut object = Investigation::new(name, fitted(spec.as_ref().clone()));
            object.metadata = owned(incident, name);
            let api: Api<Investigation> = ctx.api(&namespace);
            let made = call("create Investigation", api.create(&ctx.create_params(), &object)).await;
            if created(made)? == Created::Existed {
                let existing = call("read Investigation", api.get(name)).await?;
                same("Investigation", name, &existing.spec.key, &spec.key)?;
            }
        }
        Effect::CreateRemediation { name, spec } => {
            let mut object = Remediation::new(name, fitted(spec.as_ref().clone()));
            object.metadata = owned(incident, name);
            let kind = spec.action.kind().as_str().to_owned();
            object.metadata.labels.get_or_insert_default().insert(names::ACTION_KIND.into(), kind);
            let api: Api<Remediation> = ctx.api(&namespace);
            let made = call("create Remediation", api.create(&ctx.create_params(), &object)).await;
            if created(made)? == Created::Existed {
                let existing = call("read Remediation", api.get(name)).await?;
                same("Remediation", name, &existing.spec.action_id, &spec.action_id)?;
            }
        }
        Effect::CountAnomaly(reason) => {
            let of = incident;
            let incident = format!("{namespace}/{}", incident.name_any());
            let anomaly = Anomaly { at: now, kind: reason.as_str().into(), incident };
            ctx.metrics.anomalies.get_or_create(&metrics::Labels { reason: reason.as_str() }).inc();
            let budgets = &ctx.settings.budgets;
            let mut opened = vec![];
            let change = |old: &LedgerStatus| {
                let new = budget::anomaly(old, anomaly.clone(), budgets);
                opened = budget::breaker::opened_since(old, &new);
                Ok::<_, ()>(new)
            };
            let _ = ledgers::change(ctx, ledgers::ACTIONS, change).await?;
            for breaker in opened {
                ctx.notifier.note(opening(of, &breaker), "BreakerOpened").await;
            }
        }
        Effect::Reserve(request) => {
            let budgets = &ctx.settings.budgets;
            let change = |old: &LedgerStatus| budget::reserve(old, request, budgets, now);
            ledgers::change(ctx, ledgers::ACTIONS, change).await?.map_err(Failure::Refused)?;
        }
        Effect::ClaimStorm(claim) => {
            let change = |old: &LedgerStatus| budget::storm::claim(old, claim, now);
            ledgers::change(ctx, ledgers::ACTIONS, change).await?.map_err(Failure::Refused)?;
        }
        Effect::Settle { action_id, state } => {
            let change = |old: &LedgerStatus| Ok::<_, ()>(budget::settle(old, action_id, *state));
            let _ = ledgers::change(ctx, ledgers::ACTIONS, change).await?;
        }
        Effect::TrialSucceeded { action_id } => {
            let change = |old: &LedgerStatus| Ok::<_, ()>(budget::trial_succeeded(old, action_id));
            let _ = ledgers::change(ctx, ledgers::ACTIONS, change).await?;
        }
        Effect::Audit(entry) => ctx.audit.append(record(incident, entry, now)).await.map_err(Error::Audit)?,
        // Kept in memory while the log cannot be written, and counted if there is no room.
        Effect::AuditAfter(entry) => drop(ctx.audit.keep(record(incident, entry, now)).await),
        Effect::OpenGrant { version, open } => grants::open(ctx, &namespace, version, open).await?,
        Effect::CloseGrant { remediation } => grants::close(ctx, &namespace, remediation).await?,
        Effect::UseApproval { digest, remediation } => use_approval(ctx, incident, digest, remediation).await?,
        Effect::Measure(measure) => count(ctx, *measure),
    }
    Ok(())
}

fn record(incident: &Incident, entry: &Entry, now: Time) -> Record {
    Record {
        at: now,
        request_id: incident.spec.request_id.clone(),
        kind: entry.kind.into(),
        incident: format!("{}/{}", incident.namespace().unwrap_or_default(), incident.name_any()),
        action_id: entry.action_id.clone().unwrap_or_default(),
        details: entry.details.clone(),
    }
}

/// The Event on the incident that opened a cascade breaker. Its page comes once it has ended.
fn opening(incident: &Incident, text: &str) -> Note {
    let regarding = incident.object_ref(&());
    Note { type_: EventType::Warning, regarding, related: None, text: text.to_owned() }
}

/// Marks the Approvals that a Remediation used.
async fn use_approval(ctx: &Context, incident: &Incident, digest: &str, remediation: &str) -> Result<(), Error> {
    let list = gather::answers(ctx, incident).await?.readable;
    for approval in surroundings::approvals_to_use(&list, &incident.name_any(), digest) {
        let status = ApprovalStatus { used_by: remediation.into(), conditions: vec![] };
        ctx.merge_status(approval, &status).await?;
    }
    Ok(())
}

fn count(ctx: &Context, measure: Measure) {
    let metrics = &ctx.metrics;
    match measure {
        Measure::ToPlan(seconds) => metrics.to_plan.observe(seconds),
        Measure::ToFire(seconds) => metrics.to_fire.observe(seconds),
        Measure::ToRecovery(seconds) => metrics.to_recovery.observe(seconds),
        Measure::Decided(outcome, reason) => {
            metrics.decisions.get_or_create(&metrics::Decided { outcome, reason: reason.as_str() }).inc();
        }
        Measure::Ended(reason) => {
            metrics.ended.get_or_create(&metrics::Labels { reason: reason.as_str() }).inc();
        }
    }
}

/// An existing object with the derived name is the same one if it was created from the same inputs.
fn same(kind: &str, name: &str, existing: &str, wanted: &str) -> Result<(), Failure> {
    if existing == wanted {
        return Ok(());
    }
    let message = format!("{kind} {name} exists and was created from other inputs ({existing}, not {wanted})");
    Err(Failure::Refused(budget::Refusal { reason: Reason::NameTaken, message }))
}

/// Metadata of an object that an incident owns, so that it is deleted with it.
fn owned(incident: &Incident, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.into()),
        namespace: incident.namespace(),
        labels: Some([(names::INCIDENT.to_string(), incident.name_any())].into()),
        owner_references: Some(vec![k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference {
            api_version: Incident::api_version(&()).into(),
            kind: Incident::kind(&()).into(),
            name: incident.name_any(),
            uid: incident.uid().unwrap_or_default(),
            ..Default::default()
        }]),
        ..ObjectMeta::default()
    }
}
