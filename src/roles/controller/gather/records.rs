//! What was recorded: budgets, marks, Approvals, and what an incident's status names.

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::{Api, ResourceExt as _};

use crate::api::v1alpha1::{Approval, Grant, Incident, Investigation, Remediation, Time};
use crate::core::{
    gate::ValidApproval,
    incident::{Books, Flight},
    names::GRANT,
    surroundings,
};

use super::super::context::{Context, Error, call};
use super::super::ledgers;
use super::alerts::Labels;
use super::lists::listed;

/// Reads budgets, known-good revisions, quotas and Approvals.
pub(super) async fn books(ctx: &Context, incident: &Incident, now: Time) -> Result<Books, Error> {
    let namespace = incident.namespace().unwrap_or_default();
    let marks = ledgers::known_good(&namespace);
    let (ledger, known_good, quotas, approvals) = tokio::try_join!(
        ledgers::read(ctx, ledgers::ACTIONS),
        ledgers::read(ctx, &marks),
        listed("list ResourceQuotas", ctx.api(&namespace), |_: &[ResourceQuota]| false),
        approvals(ctx, incident, now),
    )?;
    let window = SignedDuration::from_secs(ctx.settings.budgets.storm_window_seconds.into());
    let incidents = ctx.incidents.state();
    Ok(Books {
        ledger: ledger.status.unwrap_or_default(),
        known_good: known_good.status.unwrap_or_default().known_good,
        presence: vec![],
        // One that cannot be read may be full.
        full_quota: surroundings::full_quota(&quotas.decoded)
            .or_else(|| quotas.undecodable.first().map(|quota| format!("{} (cannot be decoded)", quota.name))),
        approvals,
        storm: None,
        neighbours_unread: None,
        workloads_of_namespace: 0,
        reach: None,
        alert_labels: Labels::new(),
        failing_targets: surroundings::failing_targets(
            incidents.iter().map(AsRef::as_ref),
            &ctx.enrolled.borrow(),
            window,
            now,
        ),
        audit_durable: ctx.audit_is_durable(),
    })
}

pub(super) async fn approvals(ctx: &Context, incident: &Incident, now: Time) -> Result<Vec<ValidApproval>, Error> {
    let list = readable_approvals(ctx, &incident.namespace().unwrap_or_default()).await?;
    Ok(surroundings::valid_approvals(&list, &incident.name_any(), now))
}

/// The Approvals of a namespace. One that cannot be read approves nothing, and does not hide the others.
pub async fn readable_approvals(ctx: &Context, namespace: &str) -> Result<Vec<Approval>, Error> {
    Ok(listed("list Approvals", ctx.api(namespace), |_: &[Approval]| false).await?.decoded)
}

/// The Investigation that the status names.
pub async fn investigation(ctx: &Context, incident: &Incident) -> Result<Option<Investigation>, Error> {
    investigation_named(ctx, incident, incident.status.as_ref().and_then(|status| status.investigation.as_deref()))
        .await
}

/// The Investigation that the diagnosis on the Incident is of; without a diagnosis, the latest.
pub async fn diagnosed(ctx: &Context, incident: &Incident) -> Result<Option<Investigation>, Error> {
    let status = incident.status.as_ref();
    let of_diagnosis = status.and_then(|status| status.diagnosis.as_ref()).map(|found| found.investigation.as_str());
    match of_diagnosis.filter(|name| !name.is_empty()) {
        Some(name) => investigation_named(ctx, incident, Some(name)).await,
        None => investigation(ctx, incident).await,
    }
}

async fn investigation_named(
    ctx: &Context,
    incident: &Incident,
    name: Option<&str>,
) -> Result<Option<Investigation>, Error> {
    let Some(name) = name else { return Ok(None) };
    let api: Api<Investigation> = ctx.api(&incident.namespace().unwrap_or_default());
    call("read Investigation", api.get_opt(name)).await
}

pub(super) async fn remediation(
    ctx: &Context,
    incident: &Incident,
    flight: Flight,
) -> Result<Option<Remediation>, Error> {
    let name = incident.status.as_ref().and_then(|status| match flight {
        Flight::Repair => status.remediation.as_ref(),
        Flight::Undo => status.undo.as_ref(),
        Flight::Replacement => status.replacement.as_ref(),
    });
    let Some(name) = name else { return Ok(None) };
    let api: Api<Remediation> = ctx.api(&incident.namespace().unwrap_or_default());
    call("read Remediation", api.get_opt(name)).await
}

pub(super) async fn grant(ctx: &Context, incident: &Incident) -> Result<Option<Grant>, Error> {
    let api: Api<Grant> = ctx.api(&incident.namespace().unwrap_or_default());
    call("read Grant", api.get_opt(GRANT)).await
}
