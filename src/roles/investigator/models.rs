//! The ModelChains that this process asks: it follows the objects, keeps what is known of their upstreams, probes those that
//! nobody asked lately, and writes their status.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::StreamExt as _;
use kube::{Api, Client, ResourceExt as _, runtime::watcher};
use tokio::sync::watch;

use super::{model_status::ModelStatus, probes::Probes};
use crate::{
    api::v1alpha1::{IncidentKey, ModelChain, ModelChainRef, UpstreamState},
    clock, cluster,
    core::chain::{
        spec::{Upstream, ValidChain},
        status::Snapshot,
        validate::{self, Checked, Fault, Finding},
    },
    model::{
        Chain,
        credentials::Version,
        ledger::{InCluster, SpendLedger, new_holder},
        live::Live,
        metrics::Metrics,
        model_rung, probe,
        rung::Why,
        send::Sender,
    },
};

/// How often statuses, keys and probes are looked after.
const TICK: Duration = Duration::from_secs(2);
/// How long an investigation waits for the first list of ModelChains after the start of the process.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long an investigation waits for the watch to show a change of a ModelChain that its plan already knows.
const LAG: Duration = Duration::from_secs(2);
/// ModelChains in one page of a list.
const PAGE: u32 = 10;

/// All ModelChains of the system namespace.
pub struct Models {
    client: Client,
    system: String,
    sender: Arc<Sender>,
    metrics: Metrics,
    holder: String,
    chains: Mutex<BTreeMap<String, Entry>>,
    /// Whether they were listed; whoever waits is told of each change too.
    listed: watch::Sender<bool>,
}

/// One ModelChain.
struct Entry {
    seen: ModelChain,
    checked: Result<Checked, Vec<Finding>>,
    /// Kept while the object is not valid: it may become valid again.
    live: Option<Arc<Live>>,
    /// What tells whether the keys of a Secret changed.
    versions: HashMap<String, Option<Version>>,
}

impl Models {
    /// None yet.
    pub fn new(client: Client, system: String, sender: Arc<Sender>, metrics: Metrics) -> Models {
        let (listed, _) = watch::channel(false);
        Models { client, system, sender, metrics, holder: new_holder(), chains: Mutex::default(), listed }
    }

    /// The diagnosers of an investigation, and the time that they may take. What is asked is what the plan shows: where the chain
    /// is another one by now, or cannot be used, the rules answer and the record says why.
    pub async fn chain(&self, named: &ModelChainRef, incident: IncidentKey) -> (Chain, Option<Duration>) {
        let mut changed = self.listed.subscribe();
        // After these the rules answer.
        let _ = tokio::time::timeout(PATIENCE, changed.wait_for(|listed| *listed)).await;
        let caught_up = |_: &bool| self.generation(&named.name).is_some_and(|seen| seen >= named.generation);
        let _ = tokio::time::timeout(LAG, changed.wait_for(caught_up)).await;
        let without = |why: String| (Chain::without_models(Why::NotConfigured, &why), None);
        let ModelChainRef { name, generation } = named;
        let Some(live) = self.usable(name) else {
            return without(format!("ModelChain {name} does not exist by now, or is not valid"));
        };
        let other = || Some(live.chain().generation).filter(|now| now != generation);
        let without = |now: i64| {
            without(format!(
                "the plan shows generation {generation} of ModelChain {name}, which has generation {now} by now"
            ))
        };
        // Nothing of its budgets is counted for a chain that is not asked.
        if let Some(now) = other() {
            return without(now);
        }
        let chain = model_rung::chain(&live, incident);
        if let Some(now) = other() {
            return without(now);
        }
        (chain, Some(live.chain().deadline))
    }

    /// The generation of the object as it was last seen.
    fn generation(&self, name: &str) -> Option<i64> {
        self.lock().get(name).map(|entry| entry.seen.metadata.generation.unwrap_or_default())
    }

    fn usable(&self, name: &str) -> Option<Arc<Live>> {
        let chains = self.lock();
        let entry = chains.get(name)?;
        entry.checked.as_ref().ok().and(entry.live.clone())
    }

    /// Follows the objects, until it is dropped. The caller leads: what other processes reserved is settled.
    pub async fn run(&self) {
        let api: Api<cluster::Lean<ModelChain>> = Api::namespaced(self.client.clone(), &self.system);
        let mut events = std::pin::pin!(cluster::watch(api, watcher::Config::default().page_size(PAGE)));
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut status = ModelStatus::new(&self.client, &self.system);
        let mut probes = Probes::default();
        let mut listing: BTreeSet<String> = BTreeSet::new();
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(watcher::Event::Init) => listing.clear(),
                    Some(watcher::Event::InitApply(seen)) => {
                        listing.insert(seen.name_any());
                        self.apply(seen);
                    }
                    Some(watcher::Event::InitDone) => {
                        self.lock().retain(|name, _| listing.contains(name));
                        self.listed.send_replace(true);
                    }
                    Some(watcher::Event::Apply(seen)) => self.apply(seen),
                    Some(watcher::Event::Delete(seen)) => { self.lock().remove(&seen.name_any()); }
                    None => return,
                },
                () = probes.ended() => {}
                _ = tick.tick() => {
                    let names: Vec<String> = self.lock().keys().cloned().collect();
                    for name in names {
                        self.look_after(&name, &mut status).await;
                        if let Some(live) = self.usable(&name) {
                            probes.start(&name, async move { probe::due(&live).await; });
                        }
                    }
                }
            }
        }
    }

    /// Follows this object as if the watch had brought it.
    #[cfg(test)]
    pub(super) fn follow(&self, seen: ModelChain) {
        self.apply(seen);
        self.listed.send_replace(true);
    }

    fn apply(&self, seen: ModelChain) {
        let name = seen.name_any();
        let checked = validate::of(&seen);
        let mut chains = self.lock();
        let before = chains.remove(&name);
        let (mut live, versions) = before.map(|entry| (entry.live, entry.versions)).unwrap_or_default();
        if let Ok(checked) = &checked {
            match &live {
                Some(live) => {
                    // Every write of its status is an event too. One that was deleted and made again begins with the same
                    // generation as another.
                    if *live.chain() != checked.chain {
                        live.follow(checked.chain.clone());
                    }
                }
                None => live = Some(Arc::new(self.begin(checked.chain.clone()))),
            }
        }
        chains.insert(name, Entry { seen, checked, live, versions });
        drop(chains);
        // Whoever waits for it looks again.
        self.listed.send_modify(|_| {});
    }

    fn begin(&self, chain: ValidChain) -> Live {
        let store = InCluster::new(&self.client, &self.system, &chain.name);
        let (ledger, keeper) = SpendLedger::new(store, self.holder.clone(), Arc::new(clock::now));
        tokio::spawn(keeper);
        Live::new(chain, ledger, self.sender.clone(), self.metrics.clone())
    }

    /// Looks whether its keys changed, and publishes its status.
    async fn look_after(&self, name: &str, status: &mut ModelStatus) {
        let Some((seen, checked, live)) =
            self.lock().get(name).map(|it| (it.seen.clone(), it.checked.clone(), it.live.clone()))
        else {
            return;
        };
        let missing = match (&checked, &live) {
            (Ok(checked), Some(live)) => self.keys(name, &checked.chain, live).await,
            _ => Vec::new(),
        };
        let now = clock::now();
        let mut upstreams = match (&checked, &live) {
            (Ok(_), Some(live)) => live.snapshot(now),
            _ => Vec::new(),
        };
        for upstream in &mut upstreams {
            if missing.iter().any(|(name, _)| *name == upstream.name) {
                upstream.state = UpstreamState::Quarantined;
            }
        }
        let snapshot = Snapshot {
            generation: seen.metadata.generation.unwrap_or_default(),
            checked,
            missing: missing.into_iter().map(|(_, finding)| finding).collect(),
            upstreams,
            spent_today: live.as_ref().map(|live| live.spent(now).diagnoses).unwrap_or_default(),
            changes: live.map(|live| live.changes()).unwrap_or_default(),
        };
        if let Err(error) = status.publish(&seen, &snapshot, now).await {
            tracing::debug!(%error, name, "the status of a ModelChain was not written");
        }
    }

    /// The upstreams whose keys cannot be read. What waits for keys that changed is asked again.
    async fn keys(&self, name: &str, chain: &ValidChain, live: &Live) -> Vec<(String, Finding)> {
        let mut missing = Vec::new();
        let mut found: HashMap<String, Option<Version>> = HashMap::new();
        for (rung_index, rung) in chain.rungs.iter().enumerate() {
            for (index, upstream) in rung.upstreams.iter().enumerate() {
                let Upstream { name, credentials, .. } = upstream;
                let Some(credentials) = credentials else { continue };
                let version = self.sender.credentials().version(Some(credentials)).await;
                if let Err(unreadable) = self.sender.credentials().read(Some(credentials)).await {
                    let field = format!("spec.rungs[{rung_index}].upstreams[{index}].credentials");
                    let finding = Finding { field, fault: Fault::Required, message: unreadable.to_string() };
                    missing.push((name.clone(), finding));
                }
                found.insert(credentials.secret.clone(), version);
            }
        }
        let before = match self.lock().get_mut(name) {
            Some(entry) => std::mem::replace(&mut entry.versions, found.clone()),
            None => HashMap::new(),
        };
        for (secret, version) in &found {
            if before.get(secret).is_some_and(|known| known != version) && version.is_some() {
                live.credentials_changed(secret);
            }
        }
        missing
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.chains.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
