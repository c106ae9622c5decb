//! The watches of this process, and what their caches hold: only what is asked of them, because people and tenants
//! choose how many objects there are and how large they are.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use futures::{Stream, StreamExt as _, stream};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    core::ObjectMeta,
    runtime::{
        WatchStreamExt as _,
        reflector::{self, ObjectRef, Store},
        watcher,
    },
};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::sync::{Notify, mpsc};

use crate::api::v1alpha1::{
    Alert, Incident, IncidentPhase, IncidentStatus, Investigation, InvestigationPhase, Remediation,
};
use crate::cluster;
use crate::core::{
    grouping::{self, Handling},
    retention, target,
};
use crate::settings::Retention;

use super::crowded::Crowded;
use super::metrics::Metrics;
use super::undecodable::Reports;

/// Incidents in one page of a list: about 20 kB each, and 150 kB at most.
pub const INCIDENTS: u32 = 100;
/// Policies, Runbooks and the like in one page. Whoever writes one may make it as large as the API server takes, by labels
/// alone: about 1.5 MB, so that a page has 15.
pub const DECLARED: u32 = 10;
/// Alerts in one page, of which the same is true.
pub const ALERTS: u32 = 10;
/// Alerts of one namespace that are in the store, those that fire and those whose end is news. More than the intake lets
/// fire in one, so that none that it took is left out; people may write as many as they like.
const KEPT_ALERTS: usize = 2_500;
/// Bytes of the labels that grouping asks of an alert which are kept until it has its incident: three times those of an
/// ordinary one.
const KEPT_LABELS: usize = 1024;
/// Marks a cached Alert of which not all labels are kept.
const SHORTENED: &str = "backstop.dev/shortened";
/// Objects with facts or templates in one page: up to a megabyte each; and Approvals, which people write.
const LARGE: u32 = 10;
/// Incidents whose alerts changed and that wait for a reconcile.
const TRIGGERS: usize = 1024;

/// Drops from a cached Incident what the cache is not needed for: thousands are kept for a week, and a step reads its
/// own from the API server. Of an open one the names of what was begun stay, for the watchdog.
pub fn trim(incident: &mut Incident) {
    incident.metadata.owner_references = None;
    incident.metadata.annotations = None;
    // A map takes half a kilobyte, however little is in it, and this one says again what the spec says.
    if grouping::subject(incident) == incident.spec.target.as_ref().map(|target| target.uid.as_str()) {
        incident.metadata.labels = None;
    }
    incident.spec.key = String::new();
    let Some(status) = &mut incident.status else { return };
    let old = std::mem::take(status);
    let IncidentStatus { phase, times, observed_generation, escalation, notices, unsettled, reading, watch, .. } = old;
    *status = IncidentStatus {
        phase,
        times,
        observed_generation,
        notices,
        unsettled,
        reading,
        watch,
        ..IncidentStatus::default()
    };
    for delivery in status.notices.iter_mut().flat_map(|notice| &mut notice.deliveries) {
        delivery.detail = String::new();
    }
    if phase.is_final() {
        // Its deliveries say whether somebody still has to be told.
        status.escalation = escalation.map(|mut escalation| {
            escalation.next_step = String::new();
            for delivery in &mut escalation.deliveries {
                delivery.detail = String::new();
            }
            escalation
        });
        // What still holds its target takes an alert by name: each is kept once.
        let holds = phase == IncidentPhase::Escalated || status.is_watched();
        let mut names = BTreeSet::new();
        for alert in &mut incident.spec.alerts {
            if !holds || !names.insert(alert.alertname.clone()) {
                alert.alertname = String::new();
            }
        }
        incident.spec.unresolved = None;
        return;
    }
    status.rounds = old.rounds;
    status.grant_epoch = old.grant_epoch;
    status.investigation = old.investigation;
    status.remediation = old.remediation;
    status.undo = old.undo;
    status.replacement = old.replacement;
}

/// Drops from a cached Alert what grouping does not need: senders choose its text. One that has its incident is looked at
/// again only when it changes; and of one with very long labels only those stay that a page about it shows.
pub fn trim_alert(alert: &mut Alert) {
    alert.spec.annotations.clear();
    alert.spec.labels.retain(|key, _| target::is_asked(key));
    let mark = alert.metadata.annotations.take().and_then(|mut all| all.remove_entry(crate::core::names::LAST_SEEN));
    let mut marks: BTreeMap<String, String> = mark.into_iter().collect();
    if !matches!(grouping::handling(alert), Handling::Place { .. }) {
        alert.spec.labels.clear();
        alert.spec.note = None;
    }
    if alert.spec.labels.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() > KEPT_LABELS {
        alert.spec.labels.retain(|key, value| SHOWN.contains(&key.as_str()) && value.len() <= KEPT_LABELS / 4);
        marks.insert(SHORTENED.into(), String::new());
    }
    alert.metadata.annotations = (!marks.is_empty()).then_some(marks);
    alert.metadata.labels = None;
    alert.metadata.owner_references = None;
    if let Some(status) = &mut alert.status
        && !status.incident.is_empty()
    {
        status.conditions.clear();
    }
}

/// Labels that a page about an alert without an incident shows.
const SHOWN: [&str; 3] = ["alertname", "namespace", "severity"];

/// Whether the cache has not all of an Alert that places it.
pub fn is_shortened(alert: &Alert) -> bool {
    alert.annotations().contains_key(SHORTENED)
}

/// A guarded watch with the store that it fills. `trim` drops from each object what the store is not needed for.
pub fn events<K>(
    client: &Client,
    reports: &Reports,
    page: u32,
    trim: fn(&mut K),
) -> (impl Stream<Item = Result<K, watcher::Error>> + Send + use<K>, Store<K>)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    events_of(Api::all(client.clone()), reports, page, trim)
}

/// The same for what people declare, of which each namespace has `most` in the store. One more than are in force is
/// enough to see that there are too many.
pub fn declared<K>(
    client: &Client,
    reports: &Reports,
    most: usize,
    trim: fn(&mut K),
) -> (impl Stream<Item = Result<K, watcher::Error>> + Send + use<K>, Store<K>)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let (reader, writer) = reflector::store();
    let crowded = Crowded::new(reports, most + 1, None);
    let (client, reports) = (client.clone(), reports.clone());
    let events = crowded.renewed(move || watch::<K>(Api::all(client.clone()), &reports, DECLARED).boxed());
    let events = events.filter_map(move |event| std::future::ready(crowded.sorted(event)));
    let events = events.map(move |event| Ok(event.modify(trim)));
    (events.reflect(writer).applied_objects(), reader)
}

/// The same for the objects of `api`, such as those of one namespace.
pub fn events_of<K>(
    api: Api<cluster::Lean<K>>,
    reports: &Reports,
    page: u32,
    trim: fn(&mut K),
) -> (impl Stream<Item = Result<K, watcher::Error>> + Send + use<K>, Store<K>)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let (reader, writer) = reflector::store();
    let events = watch(api, reports, page).map(move |event| Ok(event.modify(trim)));
    (events.reflect(writer).applied_objects(), reader)
}

fn watch<K>(
    api: Api<cluster::Lean<K>>,
    reports: &Reports,
    page: u32,
) -> impl Stream<Item = watcher::Event<K>> + Send + use<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let reports = reports.clone();
    cluster::watch_reporting(api, watcher::Config::default().page_size(page), move |object| reports.report(object))
}

/// The watch on Alerts: the store holds those that fire or whose end is news, and the third part names the Incidents
/// whose alerts changed. One that is settled takes eight bytes, in a count. `crowded` is told when a namespace has as
/// many as it may. Of a namespace other than `system` so many are in the store as [`KEPT_ALERTS`] says.
pub fn alerts(
    client: &Client,
    (reports, metrics): (&Reports, &Metrics),
    system: &str,
    bounds: &Retention,
    crowded: Arc<Notify>,
) -> (
    impl Stream<Item = Result<Alert, watcher::Error>> + Send + use<>,
    Store<Alert>,
    impl Stream<Item = ObjectRef<Incident>> + Send + use<>,
) {
    let (reader, writer) = reflector::store();
    let (triggers, mut changed) = mpsc::channel(TRIGGERS);
    let counts = Arc::new(Mutex::new(retention::Counts::default()));
    let (metrics, bound) = (metrics.clone(), bounds.alerts_per_namespace);
    let kept = Crowded::new(reports, KEPT_ALERTS, Some(system.to_owned()));
    let (client, reports) = (client.clone(), reports.clone());
    let events = kept.renewed(move || watch::<Alert>(Api::all(client.clone()), &reports, ALERTS).boxed());
    let events = events.filter_map(move |event| {
        if count(&mut counts.lock().unwrap_or_else(PoisonError::into_inner), &event, &metrics, bound) {
            crowded.notify_one();
        }
        let (event, trigger) = sorted(event);
        let kept = event.and_then(|event| kept.sorted(event));
        let triggers = triggers.clone();
        async move {
            if let Some(trigger) = trigger {
                // Full only while thousands change at once; the incidents take them one by one.
                let _ = triggers.send(trigger).await;
            }
            kept.map(|event| Ok(event.modify(trim_alert)))
        }
    });
    let changed = stream::poll_fn(move |context| changed.poll_recv(context));
    (events.reflect(writer).applied_objects(), reader, changed)
}

/// What the store is told of an event, and the Incident that has to look.
pub fn sorted(event: watcher::Event<Alert>) -> (Option<watcher::Event<Alert>>, Option<ObjectRef<Incident>>) {
    let incident = |alert: &Alert| {
        let status = alert.status.as_ref()?;
        owner(Some(status.incident_namespace.clone()), &status.incident)
    };
    match event {
        watcher::Event::Apply(alert) => {
            let trigger = incident(&alert);
            let kept = if retention::is_settled(&alert) {
                watcher::Event::Delete(alert)
            } else {
                watcher::Event::Apply(alert)
            };
            (Some(kept), trigger)
        }
        watcher::Event::InitApply(alert) if retention::is_settled(&alert) => (None, None),
        watcher::Event::InitApply(alert) => {
            let trigger = incident(&alert);
            (Some(watcher::Event::InitApply(alert)), trigger)
        }
        watcher::Event::Delete(alert) => {
            let trigger = incident(&alert);
            (Some(watcher::Event::Delete(alert)), trigger)
        }
        other => (Some(other), None),
    }
}

/// Counts, and says whether a namespace has as many as it may.
fn count(counts: &mut retention::Counts, event: &watcher::Event<Alert>, metrics: &Metrics, bound: u32) -> bool {
    let name = |alert: &Alert| (alert.namespace().unwrap_or_default(), alert.name_any());
    match event {
        watcher::Event::Init => {
            counts.begin();
            return false;
        }
        watcher::Event::InitApply(alert) => {
            let (namespace, name) = name(alert);
            counts.seen(&namespace, &name, true);
            return false;
        }
        watcher::Event::InitDone => counts.done(),
        watcher::Event::Apply(alert) => {
            let (namespace, name) = name(alert);
            counts.seen(&namespace, &name, false);
        }
        watcher::Event::Delete(alert) => {
            let (namespace, name) = name(alert);
            counts.gone(&namespace, &name);
        }
    }
    metrics.alerts.set(i64::try_from(counts.total()).unwrap_or(i64::MAX));
    let full = counts.full(bound);
    metrics.full.set(i64::try_from(full).unwrap_or(i64::MAX));
    full > 0
}

/// A guarded watch without a store, on large objects of which little is asked.
pub fn touched<K>(client: &Client) -> impl Stream<Item = Result<K, watcher::Error>> + Send + use<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let api: Api<cluster::Lean<K>> = Api::all(client.clone());
    cluster::watch(api, watcher::Config::default().page_size(LARGE)).map(Ok).touched_objects()
}

/// An Investigation without its facts.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = "Investigation")]
pub struct EndedInvestigation {
    metadata: ObjectMeta,
    spec: Belongs,
    #[serde(default)]
    status: Option<Phase>,
}

/// A Remediation without its templates.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = "Remediation")]
pub struct OfIncident {
    metadata: ObjectMeta,
    spec: Belongs,
}

#[derive(Clone, Debug, Deserialize)]
struct Belongs {
    incident: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Phase {
    #[serde(default)]
    phase: InvestigationPhase,
}

impl EndedInvestigation {
    /// Whether it has ended.
    pub fn ended(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.phase.is_final())
    }

    /// Its Incident.
    pub fn owner(&self) -> Option<ObjectRef<Incident>> {
        owner(self.metadata.namespace.clone(), &self.spec.incident)
    }
}

impl OfIncident {
    /// Its Incident.
    pub fn owner(&self) -> Option<ObjectRef<Incident>> {
        owner(self.metadata.namespace.clone(), &self.spec.incident)
    }
}

/// The Incident of this name; `None` where there is no name.
pub fn owner(namespace: Option<String>, name: &str) -> Option<ObjectRef<Incident>> {
    (!name.is_empty()).then(|| ObjectRef::new(name).within(&namespace.unwrap_or_default()))
}
