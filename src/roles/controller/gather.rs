//! Reads what a step needs: quorum reads, each with a deadline. Nothing is decided here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Namespace, ResourceQuota};
use kube::{Api, Resource, ResourceExt as _, api::ListParams, core::DeserializeGuard, runtime::reflector::Store};
use serde::de::DeserializeOwned;

use crate::api::v1alpha1::{
    Alert, Approval, Grant, Incident, Investigation, ModelChain, ObjectRef, Policy, PolicyException, Remediation,
    Runbook, Time,
};
use crate::cluster::{
    self, PODS, ReadError, Undecodable,
    api::{self, DISRUPTION_BUDGETS, ENDPOINT_SLICES, ResourceType, SERVICES},
    snapshot_with_events,
};
use crate::core::{
    blast::Reach,
    budget::storm,
    gate::{Unreadable, ValidApproval},
    grouping::{self, MAX_ALERTS},
    incident::{Books, Flight, JudgementInputs, Need, Rules, Seen, Target, Watched, WriteAndJudgement},
    names::{GRANT, MODE},
    neighbours::Neighbours,
    policy::{self, CompiledPolicy, MAX_EXCEPTIONS, MAX_RUNBOOKS, runbook_matches},
    reason::Reason,
    surroundings,
    workload::{Presence, Workload, WorkloadError, data_changed, pod_security_changed},
};

use super::context::{Context, Error, call, wait_until_ready};
use super::ledgers;

/// Bound on one reading of a target.
const READING: Duration = Duration::from_secs(4);
/// How long a plan waits for the first list of ModelChains, which is there long before unless it cannot be read.
const CHAINS: Duration = Duration::from_millis(100);
/// Pods of a namespace that are read at a time.
const PODS_A_PAGE: u32 = 100;
/// Alerts of an incident that are read at a time.
const ALERTS_A_PAGE: u32 = 100;

/// Services, EndpointSlices and disruption budgets of a namespace that are read at a time: a slice has up to a thousand
/// endpoints.
const REACH_A_PAGE: u32 = 50;

/// Objects of one page of a list that others write, each of which may be some hundred kilobytes large, and pages that are
/// read of it.
const PAGE: u32 = 25;
const PAGES: usize = 40;

/// Reads what `need` says about `incident`.
pub async fn gather(ctx: &Context, incident: &Incident, need: Need, now: Time) -> Result<Seen, Error> {
    Ok(match need {
        Need::Nothing => Seen::Nothing,
        Need::Notice => Seen::Notice,
        Need::Rules => Seen::Rules(Box::new(rules(ctx, incident, Freshness::AtHand).await?)),
        Need::Round => Seen::Round(investigation(ctx, incident).await?.map(Box::new)),
        Need::Judgement => Seen::Judgement(Box::new(Box::pin(case(ctx, incident, now)).await?)),
        Need::Approvals => {
            let (firing, approvals) = tokio::try_join!(firing(ctx, incident), approvals(ctx, incident, now))?;
            Seen::Approvals { firing: firing.is_some(), approvals }
        }
        Need::Write(flight) => Seen::Write(remediation(ctx, incident, flight).await?.map(Box::new)),
        Need::WriteAndJudgement(flight) => {
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
            Seen::WriteAndJudgement(Box::new(WriteAndJudgement { remediation, repair, grant, case }))
        }
        Need::Target => {
            let (repair, workload) =
                tokio::try_join!(remediation(ctx, incident, Flight::Repair), workload(ctx, incident, now))?;
            Seen::Target(Box::new(Target { repair, workload }))
        }
        Need::Watch => {
            let (repair, workload, firing) = tokio::try_join!(
                remediation(ctx, incident, Flight::Repair),
                workload(ctx, incident, now),
                firing(ctx, incident)
            )?;
            let known = ctx.incidents.state();
            let successor = surroundings::successor(incident, known.iter().map(AsRef::as_ref)).map(str::to_owned);
            Seen::Watch(Box::new(Watched { repair, workload, firing: firing.is_some(), successor }))
        }
    })
}

/// Everything that a decision depends on.
async fn case(ctx: &Context, incident: &Incident, now: Time) -> Result<JudgementInputs, Error> {
    let target = async {
        let workload = workload(ctx, incident, now).await?;
        let presence = match &workload {
            Ok(workload) => presence(ctx, workload).await,
            Err(_) => vec![],
        };
        Ok((workload, presence))
    };
    let (firing, rules, books, investigation, (workload, presence)) = tokio::try_join!(
        Box::pin(firing(ctx, incident)),
        Box::pin(rules(ctx, incident, Freshness::Quorum)),
        Box::pin(books(ctx, incident, now)),
        Box::pin(investigation(ctx, incident)),
        Box::pin(target),
    )?;
    let fires = firing.is_some();
    let books = Books { presence, alert_labels: firing.unwrap_or_default(), ..books };
    let workload = workload.map(|workload| Workload { pod_security_at: rules.pod_security_at, ..workload });
    let fits = workload.as_ref().ok().filter(|target| target.is_broken());
    let (books, reach) = tokio::join!(
        with_neighbours(ctx, incident, books, fits, now),
        reach(ctx, incident, fits.is_some() && rules.enrolled)
    );
    let workloads = books.workloads_of_namespace;
    let reach = reach.map(|read| {
        read.map(|mut reach| {
            reach.workloads = workloads;
            reach
        })
    });
    let books = Books { reach, ..books };
    Ok(JudgementInputs { firing: fires, rules, investigation, workload, books })
}

/// Looks which objects exist that a template needs whose pods an action would have created, and when the data of
/// ConfigMaps changed: metadata only, all at once. What cannot be read is not known; that has to end in a decision too.
async fn presence(ctx: &Context, workload: &Workload) -> Vec<Presence> {
    let looks = workload.looked_up().into_iter().map(|(kind, name)| async move {
        let unknown = Presence { kind, name: name.clone(), exists: None, changed_at: None };
        let Some(resource) = api::referenced(kind) else { return unknown };
        match resource.get_metadata(&ctx.client, &workload.object.namespace, &name, READING).await {
            Ok(metadata) => {
                let changed_at = data_changed(&metadata).map(|(at, _)| at);
                Presence { exists: Some(true), changed_at, ..unknown }
            }
            // A name that no object can have is an object that does not exist.
            Err(ReadError::NotFound { .. } | ReadError::InvalidName { .. }) => {
                Presence { exists: Some(false), ..unknown }
            }
            Err(error) => {
                tracing::debug!(%error, "what a template needs cannot be looked up");
                unknown
            }
        }
    });
    futures::future::join_all(looks).await
}

/// Looks at the other workloads of the namespace, when the target fails. That they could not be read is noted, and no
/// error: it has to end in a decision.
async fn with_neighbours(
    ctx: &Context,
    incident: &Incident,
    mut books: Books,
    target: Option<&Workload>,
    now: Time,
) -> Books {
    let Some(target) = target else { return books };
    let namespace = incident.namespace().unwrap_or_default();
    let mut neighbours = Neighbours::default();
    // The pods of a namespace are many: few are held in memory at a time.
    let _turn = ctx.neighbours.acquire().await;
    let read = PODS.each_page(&ctx.client, &namespace, PODS_A_PAGE, READING, |pods| neighbours.add(pods, now)).await;
    // Of a namespace with more pods than that, what was seen is enough to count.
    if let Err(error) =
        read.or_else(|error| if matches!(error, ReadError::TooMany { .. }) { Ok(()) } else { Err(error) })
    {
        let (reason, message) = (Reason::ClusterUnreadable, error.to_string());
        books.neighbours_unread = Some(Unreadable { reason, message });
        return books;
    }
    let budgets = &ctx.settings.budgets;
    let window = SignedDuration::from_secs(budgets.storm_window_seconds.into());
    let written = storm::written(&books.ledger, &namespace, budgets, now);
    books.storm = neighbours.storm(target, &written, window);
    books.workloads_of_namespace = neighbours.count();
    books
}

/// Reads what a write can reach; `None` where nobody will ask. That it could not be read is noted, and no error: it has to
/// end in a decision.
async fn reach(ctx: &Context, incident: &Incident, asked: bool) -> Option<Result<Reach, Unreadable>> {
    if !asked {
        return None;
    }
    let namespace = incident.namespace().unwrap_or_default();
    let (mut services, mut slices, mut budgets) = (Reach::default(), Reach::default(), Reach::default());
    let page = |resource: ResourceType| (resource, REACH_A_PAGE);
    let read = tokio::try_join!(
        each(ctx, &namespace, page(SERVICES), |items| services.add_services(items)),
        each(ctx, &namespace, page(ENDPOINT_SLICES), |items| slices.add_endpoints(items)),
        each(ctx, &namespace, page(DISRUPTION_BUDGETS), |items| budgets.add_budgets(items)),
    );
    let unreadable = |message| Err(Unreadable { reason: Reason::ClusterUnreadable, message });
    Some(match (read, ctx.workloads.count()) {
        (Err(error), _) => unreadable(error.to_string()),
        (Ok(_), None) => unreadable("the workloads of the enrolled namespaces have not been listed yet".into()),
        (Ok(_), Some(count)) => {
            let mut reach = services.and(slices).and(budgets);
            reach.workloads_of_cluster = count;
            Ok(reach)
        }
    })
}

/// Shows all objects of a kind in a namespace to `look`, so many at a time.
async fn each(
    ctx: &Context,
    namespace: &str,
    (resource, size): (ResourceType, u32),
    look: impl FnMut(&[serde_json::Value]),
) -> Result<(), ReadError> {
    resource.each_page(&ctx.client, namespace, size, READING, look).await
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
    let chains = async {
        match freshness {
            // A decision asks no model.
            Freshness::Quorum => None,
            Freshness::AtHand => chains(ctx).await,
        }
    };
    let (object, (policies, Declared { policies: _, runbooks, exceptions, denying }), chains) = tokio::try_join!(
        call("read Namespace", namespaces.get_opt(&namespace)),
        async {
            match freshness {
                Freshness::Quorum => {
                    let mut declared = declared(ctx, &namespace).await?;
                    let policies = std::mem::take(&mut declared.policies);
                    Ok((ctx.compiled.bounded(policies).await, declared))
                }
                Freshness::AtHand => {
                    let declared = at_hand(ctx, &namespace).await?;
                    Ok((policy::bounded(&declared.policies, CompiledPolicy::of), declared))
                }
            }
        },
        async { Ok(chains.await) }
    )?;
    let names: Vec<&str> = incident.spec.alerts.iter().map(|alert| alert.alertname.as_str()).collect();
    let kind = incident.spec.target.as_ref().map(|target| target.kind.as_str());
    let runbooks: Vec<Runbook> = policy::bounded_runbooks(runbooks)
        .into_iter()
        .filter(|runbook| runbook_matches(&runbook.spec, &names, kind))
        .collect();
    let compiled = match freshness {
        Freshness::Quorum => ctx.compiled.runbooks(&runbooks).await,
        Freshness::AtHand => BTreeMap::new(),
    };
    Ok(Rules {
        enrolled: object
            .as_ref()
            .is_some_and(|object| ctx.settings.enrolment().holds(&namespace, object.labels(), &ctx.system)),
        pod_security_at: object
            .as_ref()
            .and_then(|object| pod_security_changed(&serde_json::to_value(object).unwrap_or_default())),
        mode: object.and_then(|object| object.labels().get(MODE).cloned()),
        policies: policies.into_iter().chain(denying).collect::<Vec<_>>().into(),
        runbooks,
        compiled,
        exceptions: policy::bounded_exceptions(exceptions),
        chains,
    })
}

/// The ModelChains, as the watch last saw them. An incident does not wait for them: without them the rules answer, and
/// the plan says so.
async fn chains(ctx: &Context) -> Option<Vec<ModelChain>> {
    match tokio::time::timeout(CHAINS, ctx.chains.wait_until_ready()).await {
        Ok(Ok(())) => Some(ctx.chains.state().iter().map(|chain| chain.as_ref().clone()).collect()),
        Ok(Err(_)) | Err(_) => None,
    }
}

/// What people declared about a namespace.
#[derive(Default)]
struct Declared {
    policies: Vec<Policy>,
    runbooks: Vec<Runbook>,
    exceptions: Vec<PolicyException>,
    /// What cannot be read may say anything, and so denies.
    denying: Vec<CompiledPolicy>,
}

/// Policies, Runbooks and PolicyExceptions by quorum.
async fn declared(ctx: &Context, namespace: &str) -> Result<Declared, Error> {
    let of = async |namespace: &str| {
        tokio::try_join!(
            listed("list Policies", ctx.api(namespace), policy::is_crowded),
            listed("list Runbooks", ctx.api(namespace), |books: &[Runbook]| books.len() > MAX_RUNBOOKS),
            listed("list PolicyExceptions", ctx.api(namespace), |all: &[PolicyException]| all.len() > MAX_EXCEPTIONS),
        )
    };
    let mut declared = Declared::default();
    let all = if namespace == ctx.system {
        vec![(namespace, of(namespace).await?)]
    } else {
        let (own, shared) = tokio::try_join!(of(namespace), of(&ctx.system))?;
        vec![(namespace, own), (ctx.system.as_str(), shared)]
    };
    for (namespace, (policies, runbooks, exceptions)) in all {
        declared.denying.extend(policies.denying(namespace, "Policies", ""));
        declared.denying.extend(runbooks.denying(namespace, "Runbooks", " (a Runbook)"));
        declared.policies.extend(policies.decoded);
        declared.runbooks.extend(runbooks.decoded);
        // One that cannot be read lifts nothing, and neither do too many.
        declared.exceptions.extend(exceptions.decoded.into_iter().filter(|_| !exceptions.too_many));
    }
    Ok(declared)
}

/// A list that people write.
struct Listed<K> {
    decoded: Vec<K>,
    undecodable: Vec<Undecodable>,
    /// There are more than are read.
    too_many: bool,
}

impl<K> Listed<K> {
    /// A denial for each object that cannot be read, by its name.
    fn denying(&self, namespace: &str, plural: &str, what: &str) -> Vec<CompiledPolicy> {
        let unreadable = self.undecodable.iter().map(|object| {
            let why = format!("this version cannot decode it: {}", object.error);
            CompiledPolicy::unreadable(format!("{}/{}{what}", object.namespace, object.name), &why)
        });
        let rest = self.too_many.then(|| {
            let why = format!("there are more than {} {plural}, and the rest is not read", PAGES * PAGE as usize);
            CompiledPolicy::unreadable(format!("{namespace}/*{what}"), &why)
        });
        unreadable.chain(rest).collect()
    }
}

/// Reads a list that people write, by quorum, page by page, each object by itself, until `enough` says that the rest does
/// not matter. What people add to the metadata is dropped at once.
async fn listed<K>(what: &str, api: Api<DeserializeGuard<K>>, enough: impl Fn(&[K]) -> bool) -> Result<Listed<K>, Error>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let mut all = Listed { decoded: vec![], undecodable: vec![], too_many: false };
    let mut after = None;
    for _ in 0..PAGES {
        let page = call(what, cluster::page(&api, PAGE, after.as_deref())).await?;
        for item in page.items {
            match item {
                Ok(mut object) => {
                    object.meta_mut().annotations = None;
                    object.meta_mut().managed_fields = None;
                    all.decoded.push(object);
                }
                Err(object) => all.undecodable.push(object),
            }
        }
        after = page.next;
        if after.is_none() || enough(&all.decoded) {
            return Ok(all);
        }
    }
    all.too_many = true;
    Ok(all)
}

/// Policies and Runbooks by the watches of this process, in the order of the quorum read. The Policies are without
/// validations and windows, which only a decision asks.
async fn at_hand(ctx: &Context, namespace: &str) -> Result<Declared, Error> {
    tokio::try_join!(wait_until_ready(&ctx.policies), wait_until_ready(&ctx.runbooks))?;
    Ok(Declared {
        policies: chosen(&ctx.policies, namespace, &ctx.system),
        runbooks: chosen(&ctx.runbooks, namespace, &ctx.system),
        // What is only shown promises no more than the Policies do.
        exceptions: vec![],
        denying: vec![],
    })
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
    let raw = snapshot_with_events(&ctx.client, target, READING, now).await.map_err(|error| {
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

/// Labels of an alert.
pub type Labels = BTreeMap<String, String>;

/// Whether any of the incident's alerts is firing, also of those that it has no room to list, with the labels of the
/// newest that is; those of one that is not listed, or cannot be decoded, are not told. An Alert that was deleted has
/// ended; one that cannot be decoded fires, because nobody can say that it ended.
pub async fn firing(ctx: &Context, incident: &Incident) -> Result<Option<Labels>, Error> {
    for reference in incident.spec.alerts.iter().rev() {
        if let Some(labels) = alert_fires(ctx, &reference.namespace, &reference.name).await? {
            return Ok(Some(labels));
        }
    }
    if incident.spec.alerts.len() < MAX_ALERTS {
        return Ok(None);
    }
    let mut namespaces: BTreeSet<String> = incident.spec.alerts.iter().map(|alert| alert.namespace.clone()).collect();
    let known = ctx.alerts.state();
    let unlisted = known.iter().filter(|alert| grouping::belongs_to(alert, incident));
    namespaces.extend(unlisted.filter_map(|alert| alert.namespace()));
    for namespace in namespaces {
        if unlisted_fires(ctx, incident, &namespace).await? {
            return Ok(Some(Labels::new()));
        }
    }
    Ok(None)
}

async fn alert_fires(ctx: &Context, namespace: &str, name: &str) -> Result<Option<Labels>, Error> {
    let api: Api<DeserializeGuard<Alert>> = ctx.api(namespace);
    Ok(match call("read Alert", api.get_opt(name)).await? {
        None => None,
        Some(DeserializeGuard(Ok(alert))) => alert.spec.ends_at.is_none().then_some(alert.spec.labels),
        Some(DeserializeGuard(Err(error))) => {
            tracing::warn!(namespace, name, error = error.error, "an Alert cannot be decoded, and counts as firing");
            Some(Labels::new())
        }
    })
}

/// Whether an Alert of this namespace fires that names the incident. One that cannot be decoded counts as firing.
async fn unlisted_fires(ctx: &Context, incident: &Incident, namespace: &str) -> Result<bool, Error> {
    let api: Api<DeserializeGuard<Alert>> = ctx.api(namespace);
    let fields = format!("status.incident={}", incident.name_any());
    let mut params = ListParams::default().fields(&fields).limit(ALERTS_A_PAGE);
    loop {
        let page = call("list Alerts of an Incident", api.list(&params)).await?;
        let home = incident.namespace().unwrap_or_default();
        let fires = |alert: &Alert| {
            let of_it = alert.status.as_ref().is_some_and(|status| status.incident_namespace == home);
            of_it && alert.spec.ends_at.is_none()
        };
        if page.items.iter().any(|alert| alert.0.as_ref().map_or(true, fires)) {
            return Ok(true);
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(false),
        }
    }
}

/// Reads budgets, known-good revisions, quotas and Approvals.
async fn books(ctx: &Context, incident: &Incident, now: Time) -> Result<Books, Error> {
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

async fn approvals(ctx: &Context, incident: &Incident, now: Time) -> Result<Vec<ValidApproval>, Error> {
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
