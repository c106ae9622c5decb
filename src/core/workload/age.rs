//! Pods of one template that fail beside pods that work, told apart by their age: what a restart cures. Rules and gate
//! ask here.
//!
//! A pod that is started anew has the same template, so what it can cure is what a process holds on to: configuration
//! that it read when it began, a connection, an answer of a dependency that was away. Whether it does, pods of the very
//! same template show that were started later. Each test answers with a sentence, for or against.

use std::collections::BTreeSet;

use super::{Pod, Proof, Workload, never_ready, proof};
use crate::api::v1alpha1::{PodFact, PodFailure, Time};
use crate::core::object::seconds;

/// A process that worked for so long before it stopped is worth a new one, even where that may stop after as long: a day.
const WORTH_SECONDS: i64 = 86_400;

/// One pod of the current template, as it was seen at some time.
#[derive(Clone, Copy, Debug)]
pub struct Sibling<'a> {
    /// What whoever asks cites: the number of the fact about it, or its name.
    pub id: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its typed fields.
    pub fact: &'a PodFact,
    /// When it was seen.
    pub seen_at: Time,
}

/// For or against a restart, in one sentence.
pub type Told = Result<String, String>;

/// Pods of one template by age. There is one only where a pod fails.
#[derive(Clone, Debug)]
pub struct ByAge<'a> {
    /// Those that fail, oldest process first.
    pub failing: Vec<Sibling<'a>>,
    /// Those that are proven to work and were created after the newest process that fails began, oldest first.
    pub newer: Vec<Sibling<'a>>,
    /// Those that work and are neither older than every process that fails nor newer.
    between: Vec<Sibling<'a>>,
    /// Those that were created after the newest process that fails began, and have not worked for long enough to count.
    unproven: Vec<Sibling<'a>>,
}

impl<'a> Sibling<'a> {
    /// When its process began: the container that fails may have been started again in the same pod.
    fn began(&self) -> Option<Time> {
        let created = self.fact.created_at?;
        Some(self.fact.last_terminated_at.map_or(created, |ended| ended.max(created)))
    }

    /// Since how many seconds it is ready, if that is long enough to mean something.
    fn works_for(&self) -> Option<i64> {
        match proof(self.fact, self.seen_at) {
            Some(Proof::Ready(since)) => Some(since),
            Some(Proof::Ran(_) | Proof::WasReady(_)) | None => None,
        }
    }

    /// For how many seconds its process worked before it stopped; `None` where nothing says when that was.
    fn worked_for(&self) -> Option<i64> {
        if never_ready(self.fact) {
            return Some(0);
        }
        Some(seconds(self.began()?, self.fact.ready_since?).max(0))
    }
}

impl<'a> ByAge<'a> {
    /// Sorts pods of one template; `None` where none of them fails.
    pub fn of(pods: impl IntoIterator<Item = Sibling<'a>>) -> Option<ByAge<'a>> {
        let (mut failing, others): (Vec<Sibling<'_>>, Vec<Sibling<'_>>) =
            pods.into_iter().partition(|pod| pod.fact.failure.is_hard());
        failing.sort_by_key(Sibling::began);
        let (oldest, newest) = (failing.first()?.began(), failing.last()?.began());
        let mut found = ByAge { failing, newer: vec![], between: vec![], unproven: vec![] };
        for pod in others {
            // Of a process whose begin is not known nothing is older or newer.
            let after_all = oldest.and(newest).zip(pod.fact.created_at).is_some_and(|(last, made)| made > last);
            let before_all = oldest.zip(pod.fact.created_at).is_some_and(|(first, made)| made < first);
            match (pod.works_for(), after_all, before_all) {
                (Some(_), true, _) => found.newer.push(pod),
                (Some(_), false, true) => {}
                (Some(_), false, false) => found.between.push(pod),
                (None, true, _) => found.unproven.push(pod),
                (None, false, _) => {}
            }
        }
        found.newer.sort_by_key(|pod| pod.fact.created_at);
        found.unproven.sort_by_key(|pod| pod.fact.created_at);
        Some(found)
    }

    /// Since when new pods work: the creation of the oldest of them, in whole seconds.
    pub fn since(&self) -> Option<Time> {
        self.newer.first()?.fact.created_at
    }

    /// The same where they have not worked for long enough yet.
    pub fn perhaps_since(&self) -> Option<Time> {
        self.since().or_else(|| self.unproven.first()?.fact.created_at)
    }

    /// When the newest pod that is proven to work was created.
    pub fn newest_working(&self) -> Option<Time> {
        self.newer.last()?.fact.created_at
    }

    /// Time may turn what is against it: a newer pod is there, and has to last.
    pub fn may_come(&self) -> bool {
        self.newer.is_empty() && !self.unproven.is_empty()
    }

    /// Every pod that fails hangs: its process goes on and does not work. One that ends is started again by the kubelet,
    /// so that a new process has been tried, and what no process was started for is not cured by another one.
    pub fn hang(&self) -> Told {
        let hangs = |failure| matches!(failure, PodFailure::ProbeFailing | PodFailure::InitNotEnding);
        match self.failing.iter().find(|pod| !hangs(pod.fact.failure)) {
            None => Ok(format!("the processes of {} pods go on and do not work", self.failing.len())),
            Some(Sibling { name, fact: PodFact { failure, restarts, .. }, .. }) => Err(match failure {
                PodFailure::CrashLoop | PodFailure::OutOfMemory | PodFailure::LivenessFailing => format!(
                    "pod {name} fails with {failure:?}: its container was started again {restarts} times already, and \
                     that did not cure it"
                ),
                _ => format!("pod {name} fails with {failure:?}: no process of it hangs that a new one could replace"),
            }),
        }
    }

    /// Several pods fail. One alone may be broken by itself.
    pub fn several(&self) -> Told {
        match self.failing.as_slice() {
            [Sibling { name, .. }] => Err(format!(
                "only pod {name} fails: what one pod alone has, replacing that pod cures, and the others need no restart"
            )),
            several => Ok(format!("{} pods fail", several.len())),
        }
    }

    /// A pod that was started after every one that fails has worked for a while.
    pub fn newer_work(&self) -> Told {
        if let Some(since) = self.since() {
            return Ok(format!("of the same template, {} started since {since} and works", pods(self.newer.len())));
        }
        let last = self.failing.last().map(|pod| pod.name).unwrap_or_default();
        Err(match (self.unproven.first(), self.between.first()) {
            (Some(pod), _) => format!("pod {} was started last, and has not worked for long enough to count", pod.name),
            (None, Some(pod)) => format!(
                "pod {last} was started no earlier than pod {}, which works, and fails: a new process does not cure it",
                pod.name
            ),
            (None, None) => {
                format!("no pod that was started after pod {last} works: nothing shows that a new process would")
            }
        })
    }

    /// No pod works that was started while those that fail were.
    pub fn divided(&self) -> Told {
        match self.between.first() {
            None => Ok("age tells those that fail from those that work".into()),
            Some(pod) => Err(format!(
                "pod {} works and is no newer than those that fail: their age is not what makes the difference",
                pod.name
            )),
        }
    }

    /// Nodes do not tell them apart: those that fail run on several, or one that works runs beside them.
    pub fn not_a_node(&self) -> Told {
        let nodes = |pods: &[Sibling<'a>]| -> BTreeSet<&'a str> {
            pods.iter().map(|pod| pod.fact.node.as_str()).filter(|node| !node.is_empty()).collect()
        };
        let (failing, newer) = (nodes(&self.failing), nodes(&self.newer));
        if failing.len() > 1 {
            return Ok(format!("those that fail run on {} nodes", failing.len()));
        }
        match failing.first() {
            Some(node) if newer.contains(node) => Ok(format!("on node {node} pods fail and a newer one works")),
            Some(node) => {
                Err(format!("every pod that fails runs on node {node}, and none that works: look at the node"))
            }
            None => Err("on which nodes those run that fail is not known".into()),
        }
    }

    /// New processes do not stop after as long as those did that fail: one of them lives longer already, or those that
    /// fail worked for a day.
    pub fn lasts(&self) -> Told {
        let longest = self.newer.iter().filter_map(Sibling::works_for).max().unwrap_or_default();
        for pod in &self.failing {
            let Some(worked) = pod.worked_for() else {
                return Err(format!("since when pod {} fails is not known", pod.name));
            };
            if worked < WORTH_SECONDS && worked >= longest {
                return Err(format!(
                    "pod {} worked for {worked} s before it stopped, and no newer pod has worked for longer than {longest} \
                     s: new ones may hang again after as long",
                    pod.name
                ));
            }
        }
        Ok(format!("a newer pod works for {longest} s, or those that fail worked for a day"))
    }

    /// Since when new pods work, where everything here is for a restart; else the first sentence against it.
    pub fn restart(&self) -> Result<Time, String> {
        for told in [self.hang(), self.several(), self.newer_work(), self.divided(), self.not_a_node(), self.lasts()] {
            told?;
        }
        self.since().ok_or_else(|| "since when new pods work is not known".to_owned())
    }
}

impl Workload {
    /// The pods of the current template by age; `None` where none of them fails.
    pub fn by_age(&self) -> Option<ByAge<'_>> {
        let current = self.current()?.fact.number;
        let seen_at = self.read_at;
        ByAge::of(self.pods_of_revision(current).map(|Pod { object, fact }| Sibling {
            id: &object.name,
            name: &object.name,
            fact,
            seen_at,
        }))
    }
}

fn pods(count: usize) -> String {
    if count == 1 { "1 pod".to_owned() } else { format!("each of {count} pods") }
}
