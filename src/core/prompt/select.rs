//! Which facts a prompt shows: those that matter most first, as many as there is room for.

use std::collections::BTreeMap;

use crate::api::v1alpha1::{Fact, FactData, LogFact, PodFact, RevisionDiffFact, RevisionFact, WorkloadFact};

use super::quote::{quoted, quoted_end, word};

/// Facts that say the same of many objects: so many come in their turn, the others last.
const ALIKE: usize = 5;
/// Bytes of the text of a log, and of a difference.
const LONG: usize = 2_400;
/// Bytes of the text of any other fact.
const SHORT: usize = 600;

/// What is shown and what is not.
pub struct Selection<'a> {
    /// The facts as they stand in the prompt, in that order.
    pub shown: Vec<(&'a Fact, String)>,
    /// The others.
    pub left_out: Vec<&'a Fact>,
}

/// The facts that fit into `room` bytes. One that does not fit leaves room for smaller ones behind it.
pub fn select(facts: &[Fact], mut room: usize) -> Selection<'_> {
    let mut alike: BTreeMap<String, usize> = BTreeMap::new();
    let mut ranked: Vec<(u8, usize, &Fact)> = Vec::with_capacity(facts.len());
    for (index, fact) in facts.iter().enumerate() {
        let count = alike.entry(likeness(fact)).or_default();
        *count += 1;
        let rank = if *count > ALIKE { rank(fact).saturating_add(20) } else { rank(fact) };
        ranked.push((rank, index, fact));
    }
    ranked.sort_by_key(|(rank, index, _)| (*rank, *index));
    let mut selection = Selection { shown: vec![], left_out: vec![] };
    for (_, _, fact) in ranked {
        let text = rendered(fact);
        if text.len() <= room {
            room -= text.len();
            selection.shown.push((fact, text));
        } else {
            selection.left_out.push(fact);
        }
    }
    selection
}

/// Lower comes first.
fn rank(fact: &Fact) -> u8 {
    match &fact.data {
        FactData::Workload(_) => 0,
        FactData::Revision(RevisionFact { current: true, .. }) => 1,
        FactData::Pod(pod) if pod.failure.is_hard() => 2,
        FactData::RevisionDiff(_) => 3,
        FactData::Revision(_) => 4,
        FactData::Config(config) if !config.exists || config.changed_at.is_some() => 5,
        FactData::SourceFailed(_) => 6,
        FactData::Event(event) if event.kind == "Warning" => 7,
        FactData::Log(_) => 8,
        FactData::Pod(_) => 9,
        FactData::Metric(_) | FactData::Config(_) => 10,
        FactData::Event(_) => 11,
    }
}

/// The same for facts that tell the same of different objects.
fn likeness(fact: &Fact) -> String {
    match &fact.data {
        FactData::Pod(PodFact { revision, failure, container, .. }) => {
            format!("pod {revision:?} {failure:?} {container}")
        }
        FactData::Event(event) => format!("event {} {}", event.kind, event.reason),
        FactData::Log(LogFact { container, .. }) => format!("log {container}"),
        FactData::Workload(_) => "workload".into(),
        FactData::Revision(_) => "revision".into(),
        FactData::RevisionDiff(_) => "diff".into(),
        FactData::Config(_) => "config".into(),
        FactData::Metric(_) => "metric".into(),
        FactData::SourceFailed(_) => "failed".into(),
    }
}

/// A fact as it stands in the prompt.
fn rendered(fact: &Fact) -> String {
    let Fact { id, source, object, seen_at, data, text } = fact;
    let head = format!(
        "{} {} {} ({}, seen {}){}\n",
        word(id, 8),
        word(&object.kind, 63),
        word(&object.name, 253),
        source.as_str(),
        seen_at.strftime("%TZ"),
        typed(data),
    );
    let body = match data {
        FactData::Log(_) => quoted_end(text, LONG),
        FactData::RevisionDiff(_) => quoted(text, LONG),
        _ => quoted(text, SHORT),
    };
    head + &body
}

/// The typed fields that claims are about: numbers and words of ours.
fn typed(data: &FactData) -> String {
    let number = |number: Option<i64>| number.map_or("unknown".to_owned(), |number| number.to_string());
    match data {
        FactData::Workload(WorkloadFact { revision, desired, updated, ready, .. }) => {
            format!(" [revision={} desired={desired} updated={updated} ready={ready}]", number(*revision))
        }
        FactData::Pod(PodFact { revision, failure, ready, .. }) => {
            format!(" [failure={failure:?} revision={} ready={ready}]", number(*revision))
        }
        FactData::Revision(RevisionFact { number, current, replicas, ready, refused, .. }) => {
            let refused = if refused.is_some() { " failure=Refused" } else { "" };
            format!(" [revision={number} current={current} replicas={replicas} ready={ready}{refused}]")
        }
        FactData::RevisionDiff(RevisionDiffFact { from, to, changes, restart_only }) => {
            format!(" [from={from} to={to} changes={} restartOnly={restart_only}]", changes.len())
        }
        FactData::Config(config) => {
            let changed = config.changed_at.map_or("unknown".to_owned(), |at| at.strftime("%FT%TZ").to_string());
            format!(" [exists={} changedAt={changed}]", config.exists)
        }
        FactData::Event(event) => format!(" [count={}]", event.count),
        FactData::Log(log) => format!(" [previousRun={}]", log.previous),
        FactData::SourceFailed(_) => " [nothing could be read]".to_owned(),
        FactData::Metric(_) => String::new(),
    }
}
