//! What was recorded: budgets, marks, Approvals, and what an incident's status names.

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::{Api, ResourceExt as _};

use crate::api::v1alpha1::{Grant, Incident, Investigation, Remediation, Time};
use crate::cluster::approvals::{self, Answers};
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
        valid_approvals(ctx, incident, now),
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

/// The answers that count now, and what denies because it cannot be read.
pub(super) async fn valid_approvals(
    ctx: &Context,
    incident: &Incident,
    now: Time,
) -> Result<Vec<ValidApproval>, Error> {
    let (namespace, name) = (incident.namespace().unwrap_or_default(), incident.name_any());
    let answers = answers(ctx, incident).await?;
    let mut valid = surroundings::valid_approvals(&answers.readable, &name, now);
    valid.extend(answers.unread(&namespace, &name).into_iter().map(ValidApproval::unread));
    Ok(valid)
}

/// What people answered to an incident.
pub async fn answers(ctx: &Context, incident: &Incident) -> Result<Answers, Error> {
    let (namespace, name) = (incident.namespace().unwrap_or_default(), incident.name_any());
    call("list Approvals", approvals::of_incident(&ctx.client, &namespace, &name)).await
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::super::tests::context;
    use super::*;
    use crate::{
        cluster::testing::{Reply, list},
        core::{approvals::Standing, gate},
    };

    fn approval(name: String, answer: &str) -> Value {
        json!({"metadata": {"name": name, "namespace": "shop"}, "spec": {"approver": "ann", "incident": "api-1",
            "digest": "d".repeat(64), "answer": answer, "expiresAt": "2199-01-01T00:00:00Z"}})
    }

    /// What these Approvals come to.
    async fn come_to(approvals: Vec<Value>) -> Standing {
        let (ctx, _, _folder) = context(vec![], move |asked| {
            assert!(asked.path.ends_with("/shop/approvals") && asked.query.contains("spec.incident%3Dapi-1"));
            list(&approvals)
        });
        let incident = json!({"metadata": {"name": "api-1", "namespace": "shop"},
            "spec": {"alerts": [], "requestId": "r", "openedAt": "2026-11-21T10:00:00Z"}});
        let incident: Incident = serde_json::from_value(incident).unwrap();
        let valid = valid_approvals(&ctx, &incident, "2026-11-21T10:00:00Z".parse().unwrap()).await.unwrap();
        gate::standing(&valid, &"d".repeat(64), &[])
    }

    #[tokio::test]
    async fn a_yes_beside_what_cannot_be_read_is_no_yes_and_the_sentence_says_what_to_look_at() {
        assert_eq!(come_to(vec![approval("a".into(), "Approve")]).await, Standing::Approved("ann".into()));
        let bad = vec![approval("a".into(), "Approve"), approval("b".into(), "Perhaps")];
        let Standing::Denied(who) = come_to(bad).await else { panic!("not denied") };
        assert!(who.contains("Approval shop/b") && who.contains("Perhaps"), "{who}");
        let many = (0..=crate::core::approvals::MAX_ANSWERS).map(|n| approval(format!("a{n}"), "Approve")).collect();
        let Standing::Denied(who) = come_to(many).await else { panic!("not denied") };
        assert!(who.contains("more than 100 Approvals") && who.contains("spec.incident=api-1"), "{who}");
    }

    #[tokio::test]
    async fn an_error_is_no_answer_and_no_silence() {
        let (ctx, _, _folder) = context(vec![], |_| Reply::Json(500, json!({"code": 500})));
        let incident = json!({"metadata": {"name": "api-1", "namespace": "shop"},
            "spec": {"alerts": [], "requestId": "r", "openedAt": "2026-11-21T10:00:00Z"}});
        let incident: Incident = serde_json::from_value(incident).unwrap();
        assert!(valid_approvals(&ctx, &incident, Time::UNIX_EPOCH).await.is_err());
    }
}
