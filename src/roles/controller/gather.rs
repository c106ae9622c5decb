//! Reads what a step needs: quorum reads, each with a deadline. Nothing is decided here.

use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Namespace, ResourceQuota};
use kube::{Api, Resource, ResourceExt as _, api::ListParams, core::DeserializeGuard, runtime::reflector::Store};

use crate::api::v1alpha1::{
    Alert, Approval, Grant, Incident, Investigation, ObjectRef, Policy, Remediation, Runbook, Time,
};
use crate::cluster::{ReadError, snapshot};
use crate::core::{
    gate::{Unreadable, ValidApproval},
    incident::{Books, Case, Flight, Need, Rules, Seen, Target, WriteAndCase},
    names::{GRANT, MODE},
    policy::{CompiledPolicy, runbook_matches},
    reason::Reason,
    surroundings,
    workload::{Workload, WorkloadError},
};

use super::context::{Context, Error, call, wait_until_ready};
use super::ledgers;

/// Bound on one reading of a target.
const READING: Duration = Duration::from_secs(4);

/// Reads what `need` says about `incident`.
pub async fn gather(ctx: &Context, incident: &Incident, need: Need, now: Time) -> Result<Seen, Error> {
    Ok(match need {
        Need::Nothing => Seen::Nothing,
        Need::Notice => Seen::Notice,
        Need::Rules => Seen::Rules(Box::new(rules(ctx, incident, Freshness::AtHand).await?)),
        Need::Round => Seen::Round(investigation(ctx, incident).await?.map(Box::new)),
        Need::Case => Seen::Case(Box::new(case(ctx, incident, now).await?)),
        Need::Approvals => {
            let (firing, approvals) = tokio::try_join!(firing(ctx, incident), approvals(ctx, incident, now))?;
            Seen::Approvals { firing, approvals }
        }
        Need::Write(flight) => Seen::Write(remediation(ctx, incident, flight).await?.map(Box::new)),
        Need::WriteAndCase(flight) => {
            let repair = async {
                match flight {
                    Flight::Repair => Ok(None),
                    Flight::Undo | Flight::Replacement => remediation(ctx, incident, Flight::Repair).await,
                }
            };
            let (remediation, repair, grant, case) = tokio::try_join!(
                remediation(ctx, incident, flight),
                repair,
                grant(ctx, incident),
                case(ctx, incident, now)
            )?;
            Seen::WriteAndCase(Box::new(WriteAndCase { remediation, repair, grant, case }))
        }
        Need::Target => {
            let (repair, workload) =
                tokio::try_join!(remediation(ctx, incident, Flight::Repair), workload(ctx, incident, now))?;
            Seen::Target(Box::new(Target { repair, workload }))
        }
    })
}

/// Everything that a decision depends on.
async fn case(ctx: &Context, incident: &Incident, now: Time) -> Result<Case, Error> {
    let (firing, rules, books, investigation, workload) = tokio::try_join!(
        firing(ctx, incident),
        rules(ctx, incident, Freshness::Quorum),
        books(ctx, incident, now),
        investigation(ctx, incident),
        workload(ctx, incident, now),
    )?;
    Ok(Case { firing, rules, investigation, workload, books })
}

/// How fresh a reading of rules has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// A quorum read, for decisions. On kinds that seldom change the API server's own cache takes up to
    /// 100 ms to prove that it is current.
    Quorum,
    /// For what is only shown or asked, such as the plan: as the watches of this process last saw it.
    AtHand,
}

/// Reads what holds for the namespace of `incident`.
pub async fn rules(ctx: &Context, incident: &Incident, freshness: Freshness) -> Result<Rules, Error> {
    let namespace = incident.namespace().unwrap_or_default();
    let namespaces: Api<Namespace> = Api::all(ctx.client.clone());
    // What holds is declared in the namespace itself or in the system namespace.
    let (object, (policies, runbooks)) =
        tokio::try_join!(call("read Namespace", namespaces.get_opt(&namespace)), async {
            match freshness {
                Freshness::Quorum => declared(ctx, &namespace).await,
                Freshness::AtHand => at_hand(ctx, &namespace).await,
            }
        })?;
    let names: Vec<&str> = incident.spec.alerts.iter().map(|alert| alert.alertname.as_str()).collect();
    let kind = incident.spec.target.as_ref().map(|target| target.kind.as_str());
    Ok(Rules {
        mode: object.and_then(|object| object.labels().get(MODE).cloned()),
        policies: policies.iter().map(CompiledPolicy::of).collect::<Vec<_>>().into(),
        runbooks: runbooks.into_iter().filter(|runbook| runbook_matches(&runbook.spec, &names, kind)).collect(),
    })
}

/// Policies and Runbooks by quorum.
async fn declared(ctx: &Context, namespace: &str) -> Result<(Vec<Policy>, Vec<Runbook>), Error> {
    let (own, system): (Api<Policy>, Api<Policy>) = (ctx.api(namespace), ctx.api(&ctx.system));
    let (own_books, system_books): (Api<Runbook>, Api<Runbook>) = (ctx.api(namespace), ctx.api(&ctx.system));
    let list = ListParams::default();
    let (mut policies, shared_policies, mut runbooks, shared_runbooks) = tokio::try_join!(
        call("list Policies", own.list(&list)),
        call("list system Policies", system.list(&list)),
        call("list Runbooks", own_books.list(&list)),
        call("list system Runbooks", system_books.list(&list)),
    )?;
    if namespace != ctx.system {
        policies.items.extend(shared_policies.items);
        runbooks.items.extend(shared_runbooks.items);
    }
    Ok((policies.items, runbooks.items))
}

/// Policies and Runbooks by the watches of this process, in the order of the quorum read.
async fn at_hand(ctx: &Context, namespace: &str) -> Result<(Vec<Policy>, Vec<Runbook>), Error> {
    tokio::try_join!(wait_until_ready(&ctx.policies), wait_until_ready(&ctx.runbooks))?;
    Ok((chosen(&ctx.policies, namespace, &ctx.system), chosen(&ctx.runbooks, namespace, &ctx.system)))
}

fn chosen<K>(store: &Store<K>, namespace: &str, system: &str) -> Vec<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let rank = |object: &K| match object.meta().namespace.as_deref() {
        Some(own) if own == namespace => Some(0),
        Some(shared) if shared == system => Some(1),
        _ => None,
    };
    let mut objects: Vec<K> =
        store.state().iter().filter(|object| rank(object).is_some()).map(|object| object.as_ref().clone()).collect();
    objects.sort_by_key(|object| (rank(object), object.name_any()));
    objects
}

/// Reads the incident's target. One that cannot be read is a reason, not an error: it has to end in a decision.
async fn workload(ctx: &Context, incident: &Incident, now: Time) -> Result<Result<Workload, Unreadable>, Error> {
    Ok(match &incident.spec.target {
        Some(target) => read_workload(ctx, target, now).await,
        None => {
            let message = "there is no target to read".into();
            Err(Unreadable { reason: Reason::TargetUnresolved, message })
        }
    })
}

/// Reads one workload.
pub async fn read_workload(ctx: &Context, target: &ObjectRef, now: Time) -> Result<Workload, Unreadable> {
    let unreadable = |reason, message: String| Unreadable { reason, message };
    let raw = snapshot(&ctx.client, target, READING, now).await.map_err(|error| {
        let reason = match error {
            ReadError::NotFound { .. } => Reason::TargetGone,
            ReadError::Unsupported { .. } => Reason::KindNotSupported,
            _ => Reason::ClusterUnreadable,
        };
        unreadable(reason, error.to_string())
    })?;
    Workload::of(&raw).map_err(|error| match error {
        WorkloadError::Kind { .. } => unreadable(Reason::KindNotSupported, error.to_string()),
        WorkloadError::Missing { .. } => unreadable(Reason::ClusterUnreadable, error.to_string()),
    })
}

/// Whether any of the incident's alerts is firing. An Alert that was deleted has ended.
async fn firing(ctx: &Context, incident: &Incident) -> Result<bool, Error> {
    for reference in incident.spec.alerts.iter().rev() {
        let api: Api<Alert> = ctx.api(&reference.namespace);
        if call("read Alert", api.get_opt(&reference.name)).await?.is_some_and(|alert| alert.spec.ends_at.is_none()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Reads budgets, known-good revisions, quotas and Approvals.
async fn books(ctx: &Context, incident: &Incident, now: Time) -> Result<Books, Error> {
    let namespace = incident.namespace().unwrap_or_default();
    let quotas: Api<ResourceQuota> = ctx.api(&namespace);
    let marks = ledgers::known_good(&namespace);
    let list = ListParams::default();
    let (ledger, known_good, quotas, approvals) = tokio::try_join!(
        ledgers::read(ctx, ledgers::ACTIONS),
        ledgers::read(ctx, &marks),
        call("list ResourceQuotas", quotas.list(&list)),
        approvals(ctx, incident, now),
    )?;
    let window = SignedDuration::from_secs(ctx.settings.budgets.storm_window_seconds.into());
    let incidents = ctx.incidents.state();
    Ok(Books {
        ledger: ledger.status.unwrap_or_default(),
        known_good: known_good.status.unwrap_or_default().known_good,
        full_quota: surroundings::full_quota(&quotas.items),
        approvals,
        storm_targets: surroundings::storm_targets(incidents.iter().map(AsRef::as_ref), window, now),
        audit_durable: ctx.audit_is_durable(),
    })
}

async fn approvals(ctx: &Context, incident: &Incident, now: Time) -> Result<Vec<ValidApproval>, Error> {
    let list = readable_approvals(ctx, &incident.namespace().unwrap_or_default()).await?;
    Ok(surroundings::valid_approvals(&list, &incident.name_any(), now))
}

/// The Approvals of a namespace. One that cannot be read approves nothing, and does not hide the others.
pub async fn readable_approvals(ctx: &Context, namespace: &str) -> Result<Vec<Approval>, Error> {
    let api: Api<DeserializeGuard<Approval>> = ctx.api(namespace);
    let list = call("list Approvals", api.list(&ListParams::default())).await?;
    Ok(list.items.into_iter().filter_map(|approval| approval.0.ok()).collect())
}

/// The Investigation that the status names.
pub async fn investigation(ctx: &Context, incident: &Incident) -> Result<Option<Investigation>, Error> {
    let Some(name) = incident.status.as_ref().and_then(|status| status.investigation.as_ref()) else { return Ok(None) };
    let api: Api<Investigation> = ctx.api(&incident.namespace().unwrap_or_default());
    call("read Investigation", api.get_opt(name)).await
}

async fn remediation(ctx: &Context, incident: &Incident, flight: Flight) -> Result<Option<Remediation>, Error> {
    let name = incident.status.as_ref().and_then(|status| match flight {
        Flight::Repair => status.remediation.as_ref(),
        Flight::Undo => status.undo.as_ref(),
        Flight::Replacement => status.replacement.as_ref(),
    });
    let Some(name) = name else { return Ok(None) };
    let api: Api<Remediation> = ctx.api(&incident.namespace().unwrap_or_default());
    call("read Remediation", api.get_opt(name)).await
}

async fn grant(ctx: &Context, incident: &Incident) -> Result<Option<Grant>, Error> {
    let api: Api<Grant> = ctx.api(&incident.namespace().unwrap_or_default());
    call("read Grant", api.get_opt(GRANT)).await
}
