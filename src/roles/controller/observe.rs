//! What the judge reads for itself: quorum reads, each with a deadline.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, ResourceQuota};
use kube::{Api, Client, Resource, ResourceExt as _, api::ListParams, runtime::reflector::Store};

use crate::api::v1alpha1::{
    ActionKind, Alert, Approval, Incident, Investigation, KnownGood, LedgerStatus, ObjectRef, Policy, Runbook,
    SourceName, Time,
};
use crate::cluster::{ReadError, snapshot};
use crate::core::{
    gate::Unreadable,
    policy::{CompiledPolicy, runbook_matches, runbook_name},
    reason::Reason,
    workload::{Workload, WorkloadError},
};

use super::context::{Context, Error, call, filled};
use super::ledgers;

/// Bound on one reading of a target.
const READING: Duration = Duration::from_secs(4);

/// What holds for a namespace.
pub struct Rules {
    /// Value of the namespace's mode label.
    pub mode: Option<String>,
    /// Policies of the namespace and of the system namespace.
    pub policies: Vec<CompiledPolicy>,
    /// Runbooks that match the incident.
    pub runbooks: Vec<Runbook>,
}

impl Rules {
    /// Names and sources of the Runbooks.
    pub fn sources(&self) -> Vec<(String, Vec<SourceName>)> {
        self.runbooks.iter().map(|runbook| (runbook_name(runbook), runbook.spec.gather.clone())).collect()
    }

    /// Names and allowed actions of the Runbooks.
    pub fn allowed_actions(&self) -> Vec<(String, Vec<ActionKind>)> {
        self.runbooks.iter().map(|runbook| (runbook_name(runbook), runbook.spec.allowed_actions.clone())).collect()
    }
}

/// How fresh a reading of rules has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Whatever a decision rests on: a quorum read. On kinds that seldom change the API server's own cache takes up to
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
        mode: object.and_then(|object| object.labels().get(crate::core::names::MODE).cloned()),
        policies: policies.iter().map(CompiledPolicy::of).collect(),
        runbooks: runbooks.into_iter().filter(|book| runbook_matches(&book.spec, &names, kind)).collect(),
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
    tokio::try_join!(filled(&ctx.policies), filled(&ctx.runbooks))?;
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

/// Reads the target. An object that cannot be read is a reason, not an error: it has to end in a decision.
pub async fn reading(client: &Client, target: &ObjectRef, now: Time) -> Result<Workload, Unreadable> {
    let unreadable = |reason, error: String| Unreadable { reason, message: error };
    let snapshot = snapshot(client, target, READING, now).await.map_err(|error| {
        let word = match error {
            ReadError::NotFound { .. } => Reason::TargetGone,
            _ => Reason::ClusterUnreadable,
        };
        unreadable(word, error.to_string())
    })?;
    Workload::of(&snapshot).map_err(|error| match error {
        WorkloadError::Kind { .. } => unreadable(Reason::KindNotSupported, error.to_string()),
        WorkloadError::Missing { .. } => unreadable(Reason::ClusterUnreadable, error.to_string()),
    })
}

/// Whether any of the incident's alerts is firing. An Alert that was deleted has ended.
pub async fn firing(ctx: &Context, incident: &Incident) -> Result<bool, Error> {
    for reference in incident.spec.alerts.iter().rev() {
        let api: Api<Alert> = ctx.api(&reference.namespace);
        if call("read Alert", api.get_opt(&reference.name)).await?.is_some_and(|alert| alert.spec.ends_at.is_none()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What a decision needs besides rules and reading.
pub struct Books {
    /// The Ledger of actions.
    pub ledger: LedgerStatus,
    /// Revisions of the namespace that were seen healthy.
    pub known_good: Vec<KnownGood>,
    /// A quota that has no room.
    pub full_quota: Option<String>,
    /// Digest and approver of each Approval that is valid for the incident.
    pub approvals: Vec<(String, String)>,
    /// Distinct targets with an incident inside the storm window.
    pub storm_targets: u32,
}

/// Reads budgets, marks, quotas and approvals.
pub async fn books(ctx: &Context, incident: &Incident, now: Time) -> Result<Books, Error> {
    let namespace = incident.namespace().unwrap_or_default();
    let quotas: Api<ResourceQuota> = ctx.api(&namespace);
    let approvals: Api<Approval> = ctx.api(&namespace);
    let marks = ledgers::known_good(&namespace);
    let list = ListParams::default();
    let (ledger, known_good, quotas, approvals) = tokio::try_join!(
        ledgers::read(ctx, ledgers::ACTIONS),
        ledgers::read(ctx, &marks),
        call("list ResourceQuotas", quotas.list(&list)),
        call("list Approvals", approvals.list(&list)),
    )?;
    let name = incident.name_any();
    Ok(Books {
        ledger: ledger.status.unwrap_or_default(),
        known_good: known_good.status.unwrap_or_default().known_good,
        full_quota: quotas.items.iter().find_map(full),
        approvals: approvals
            .items
            .iter()
            .filter(|approval| approval.spec.incident == name && approval.spec.expires_at > now)
            .filter(|approval| approval.status.as_ref().is_none_or(|status| status.used_by.is_empty()))
            .map(|approval| (approval.spec.digest.clone(), approval.spec.approver.clone()))
            .collect(),
        storm_targets: storm_targets(ctx, now),
    })
}

/// A quota on pods whose count is used up: a rollout makes at least one pod more before it ends one.
fn full(quota: &ResourceQuota) -> Option<String> {
    let status = quota.status.as_ref()?;
    let number =
        |map: &Option<std::collections::BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>,
         key: &str| { map.as_ref()?.get(key)?.0.parse::<i64>().ok() };
    ["pods", "count/pods"].iter().find_map(|key| {
        let (used, hard) = (number(&status.used, key)?, number(&status.hard, key)?);
        (used >= hard).then(|| format!("{} ({key}: {used}/{hard})", quota.name_any()))
    })
}

fn storm_targets(ctx: &Context, now: Time) -> u32 {
    let window = jiff::SignedDuration::from_secs(ctx.settings.budgets.storm_window_seconds.into());
    let targets: std::collections::BTreeSet<String> = ctx
        .incidents
        .state()
        .iter()
        .filter(|incident| now.duration_since(incident.spec.opened_at) < window)
        .filter_map(|incident| incident.spec.target.as_ref().map(|target| target.uid.clone()))
        .collect();
    u32::try_from(targets.len()).unwrap_or(u32::MAX)
}

/// The Investigation of this name.
pub async fn investigation(ctx: &Context, namespace: &str, name: &str) -> Result<Option<Investigation>, Error> {
    let api: Api<Investigation> = ctx.api(namespace);
    call("read Investigation", api.get_opt(name)).await
}
