//! Retention: which finished objects are deleted, which Alerts count as ended because nobody repeats them, and how many
//! Alerts a namespace may have.

use std::collections::BTreeMap;

use jiff::SignedDuration;

use crate::api::v1alpha1::{Alert, AlertState, Incident, IncidentStatus, Time};

use super::{incident, names::LAST_SEEN};

/// How often the annotation [`LAST_SEEN`] is renewed at most.
const MARK_EVERY: SignedDuration = SignedDuration::from_hours(1);

/// Incidents that owe something stay until a namespace has so many times the bound of them: a pager that is down for days
/// must not fill the cluster.
pub const OWING: usize = 4;

/// A finished object, as small as can be: there may be tens of thousands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Namespace.
    pub namespace: Box<str>,
    /// Name.
    pub name: Box<str>,
    /// UID; only this very object is deleted.
    pub uid: Box<str>,
    /// Time at which it ended.
    pub ended: Time,
    /// It goes with age. What belongs to an object that is kept goes with that one, or when there are too many.
    pub ages: bool,
    /// People have not been told of it yet, or a write of it may still be made ([`owes`]): it does not age.
    pub owes: bool,
}

/// Whether an incident that is over owes something still: people have not been told, or a write may still be made.
pub fn owes(status: &IncidentStatus) -> bool {
    incident::has_to_tell(status) || status.unsettled.is_some()
}

/// Those older than `keep` that go with age, and the oldest of those beyond `bound` in one namespace. Those that owe
/// something count for themselves, and go as the oldest beyond [`OWING`] times the bound alone.
pub fn expired(mut finished: Vec<Finished>, keep: SignedDuration, bound: usize, now: Time) -> Vec<Finished> {
    finished.sort_by(|a, b| a.namespace.cmp(&b.namespace).then(b.ended.cmp(&a.ended)));
    let mut namespace = Box::default();
    let (mut settled, mut owing) = (0, 0);
    finished.retain(|object| {
        if object.namespace != namespace {
            namespace.clone_from(&object.namespace);
            (settled, owing) = (0, 0);
        }
        if object.owes {
            owing += 1;
            return owing > bound.saturating_mul(OWING);
        }
        settled += 1;
        settled > bound || (object.ages && now.duration_since(object.ended) > keep)
    });
    finished
}

/// When an Alert was last heard of: by its mark or its receipt, else by its creation. What lies in the future, by `now`,
/// was not written by our clock and does not count.
fn last_seen(alert: &Alert, now: Time) -> Option<Time> {
    let mark = alert.metadata.annotations.as_ref().and_then(|all| all.get(LAST_SEEN)?.parse().ok());
    let made = alert.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let heard = [mark, alert.spec.received_at, alert.spec.fires_again_at]
        .into_iter()
        .flatten()
        .filter(|seen| *seen <= now)
        .max();
    heard.or(made)
}

/// Since when an Alert that fires counts as ended, because its sender did not repeat it for `silence`: it ended while it
/// was silenced, or the sender lost its state, and nobody will ever say so. `None` while it counts as firing.
pub fn silent_since(alert: &Alert, silence: SignedDuration, now: Time) -> Option<Time> {
    if alert.spec.ends_at.is_some() {
        return None;
    }
    let end = last_seen(alert, now)?.checked_add(silence).ok()?;
    (end <= now).then_some(end)
}

/// Whether the mark of an Alert that was just repeated is to be renewed.
pub fn wants_mark(alert: &Alert, now: Time) -> bool {
    last_seen(alert, now).is_none_or(|seen| now.duration_since(seen) >= MARK_EVERY)
}

/// Whether an Alert ended, and its incident knows: nothing is left to do but to delete it one day, so no cache has to
/// hold it.
pub fn is_settled(alert: &Alert) -> bool {
    let generation = alert.metadata.generation.unwrap_or(0);
    alert.spec.ends_at.is_some()
        && alert
            .status
            .as_ref()
            .is_some_and(|status| status.state == AlertState::Resolved && status.observed_generation == generation)
}

/// Whether an incident is over, with nothing left to watch, to deliver or to learn and no news in its spec: no step of it
/// does anything, so none is taken, and no queue has a place for it.
pub fn rests(incident: &Incident) -> bool {
    let Some(status) = incident.status.as_ref().filter(|status| status.phase.is_final()) else { return false };
    let news = status.observed_generation != incident.metadata.generation.unwrap_or(0);
    status.unsettled.is_none() && !status.is_watched() && !incident::has_to_tell(status) && !news
}

/// Whether a namespace has room for another Alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// It has.
    Free,
    /// It has `bound` already. The sender is asked to come again: overload, not a refusal.
    Full,
}

/// Whether a namespace with `count` Alerts has room for another one. `bound` is `retention.alertsPerNamespace`.
pub fn room(count: u64, bound: u32) -> Room {
    if count < u64::from(bound) { Room::Free } else { Room::Full }
}

/// How many Alerts each namespace has, from a watch.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    names: BTreeMap<String, std::collections::BTreeSet<u64>>,
    coming: Option<BTreeMap<String, std::collections::BTreeSet<u64>>>,
}

impl Counts {
    /// A list begins: what it does not show is gone.
    pub fn begin(&mut self) {
        self.coming = Some(BTreeMap::new());
    }

    /// The list is complete.
    pub fn done(&mut self) {
        if let Some(coming) = self.coming.take() {
            self.names = coming;
        }
    }

    /// One was seen. `listed` while a list is read.
    pub fn seen(&mut self, namespace: &str, name: &str, listed: bool) {
        let names = if listed { self.coming.get_or_insert_default() } else { &mut self.names };
        names.entry(namespace.to_owned()).or_default().insert(hash(name));
    }

    /// One was deleted.
    pub fn gone(&mut self, namespace: &str, name: &str) {
        if let Some(names) = self.names.get_mut(namespace) {
            names.remove(&hash(name));
            if names.is_empty() {
                self.names.remove(namespace);
            }
        }
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.names.values().map(|names| names.len() as u64).sum()
    }

    /// Namespaces that have no room for another one.
    pub fn full(&self, bound: u32) -> u64 {
        self.names.values().filter(|names| room(names.len() as u64, bound) == Room::Full).count() as u64
    }
}

/// Eight bytes in place of a name: among thousands of one namespace two never meet in practice, and one more or less
/// does not matter.
fn hash(name: &str) -> u64 {
    use std::hash::{Hash as _, Hasher as _};
    let mut hasher = std::hash::DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::v1alpha1::{Delivery, Escalation, IncidentPhase, NoticeStatus, Watch};

    const DAYS: SignedDuration = SignedDuration::from_hours(72);

    fn at(hour: i64) -> Time {
        Time::from_second(1_800_000_000 + hour * 3600).unwrap()
    }

    fn object(namespace: &str, ended: i64) -> Finished {
        let name: Box<str> = format!("{namespace}-{ended}").into();
        let ended = Time::from_second(ended).unwrap();
        Finished { namespace: namespace.into(), uid: name.clone(), name, ended, ages: true, owes: false }
    }

    fn alert(received: Option<i64>, mark: Option<&str>) -> Alert {
        let mut alert: Alert = serde_json::from_value(json!({
            "apiVersion": "backstop.dev/v1alpha1", "kind": "Alert",
            "metadata": {"name": "a", "creationTimestamp": at(0), "generation": 2},
            "spec": {"fingerprint": "f", "labels": {}, "startsAt": "2020-01-01T00:00:00Z",
                "receivedAt": received.map(at)},
        }))
        .unwrap();
        alert.metadata.annotations = mark.map(|mark| [(LAST_SEEN.to_string(), mark.to_string())].into());
        alert
    }

    #[test]
    fn the_old_and_the_surplus_go_and_each_namespace_counts_for_itself() {
        let all = vec![object("a", 100), object("a", 200), object("a", 300), object("b", 50), object("b", 290)];
        let gone = expired(all, SignedDuration::from_secs(225), 2, Time::from_second(300).unwrap());
        assert_eq!(gone.iter().map(|o| &*o.name).collect::<Vec<_>>(), ["a-100", "b-50"]);
    }

    #[test]
    fn what_belongs_to_an_object_that_is_kept_goes_only_when_there_are_too_many() {
        let kept = |ended| Finished { ages: false, ..object("a", ended) };
        let gone = expired(vec![kept(100), kept(50)], SignedDuration::from_secs(1), 1, Time::from_second(300).unwrap());
        assert_eq!(gone.iter().map(|o| &*o.name).collect::<Vec<_>>(), ["a-50"]);
    }

    #[test]
    fn what_owes_something_is_kept_whatever_its_age_and_in_a_number_of_its_own() {
        let owing = |namespace, ended| Finished { owes: true, ..object(namespace, ended) };
        let all = (1..=9).map(|ended| owing("a", ended)).chain([object("a", 20), object("a", 21), owing("b", 1)]);
        let late = Time::from_second(9_000_000).unwrap();
        let gone = expired(all.clone().collect(), SignedDuration::from_secs(1), 2, late);
        assert_eq!(gone.iter().map(|o| &*o.name).collect::<Vec<_>>(), ["a-21", "a-20", "a-1"], "four times two stay");
        let gone = expired(all.collect(), SignedDuration::from_hours(9_000), 1, late);
        let names: Vec<&str> = gone.iter().map(|o| &*o.name).collect();
        assert_eq!(names, ["a-20", "a-5", "a-4", "a-3", "a-2", "a-1"], "neither counts for the other");
    }

    #[test]
    fn an_alert_that_nobody_repeats_counts_as_ended_from_the_end_of_its_patience() {
        let (before, after) = (at(71), at(73));
        assert_eq!(silent_since(&alert(Some(0), None), DAYS, before), None);
        assert_eq!(silent_since(&alert(Some(0), None), DAYS, after), Some(at(72)));
        assert_eq!(silent_since(&alert(None, None), DAYS, after), Some(at(72)), "made by hand: from its creation");
        assert_eq!(silent_since(&alert(Some(-9000), None), DAYS, at(0)), Some(at(72 - 9000)), "silenced long ago");
        let mut ended = alert(Some(0), None);
        ended.spec.ends_at = Some(at(1));
        assert_eq!(silent_since(&ended, DAYS, after), None, "its end is known");
    }

    #[test]
    fn each_repetition_keeps_an_alert_alive_and_is_marked_once_an_hour() {
        let marked = alert(Some(0), Some(&at(50).to_string()));
        assert_eq!(silent_since(&marked, DAYS, at(100)), None);
        assert_eq!(silent_since(&marked, DAYS, at(122)), Some(at(122)));
        let later = |minutes: i64| at(50) + SignedDuration::from_mins(minutes);
        assert!(!wants_mark(&marked, later(59)) && wants_mark(&marked, later(60)));
    }

    #[test]
    fn a_time_that_our_clock_has_not_reached_keeps_no_alert_alive() {
        for mark in ["2099-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "for ever"] {
            assert_eq!(silent_since(&alert(Some(0), Some(mark)), DAYS, at(80)), Some(at(72)), "{mark}");
        }
        assert_eq!(silent_since(&alert(Some(900_000), None), DAYS, at(80)), Some(at(72)), "receivedAt of 2129");
    }

    #[test]
    fn an_alert_is_settled_once_its_end_was_noted() {
        let mut one = alert(Some(0), None);
        assert!(!is_settled(&one));
        one.spec.ends_at = Some(at(1));
        assert!(!is_settled(&one), "nobody knows yet");
        one.status = Some(serde_json::from_value(json!({"state": "Resolved", "observedGeneration": 2})).unwrap());
        assert!(is_settled(&one));
        one.metadata.generation = Some(3);
        assert!(!is_settled(&one), "it changed since");
    }

    #[test]
    fn an_incident_rests_as_soon_as_it_is_over_and_everybody_knows() {
        let mut one = Incident::new(
            "a",
            serde_json::from_value(json!({"alerts": [], "requestId": "r", "openedAt": at(0)})).unwrap(),
        );
        one.metadata.generation = Some(1);
        let mut status =
            IncidentStatus { phase: IncidentPhase::Escalated, observed_generation: 1, ..IncidentStatus::default() };
        status.times.ended = Some(at(0));
        let delivery = Delivery { delivered: true, ..Delivery::default() };
        status.escalation = Some(Box::new(Escalation { deliveries: vec![delivery.clone()], ..Escalation::default() }));
        one.status = Some(status.clone());
        assert!(rests(&one));
        one.metadata.generation = Some(2);
        assert!(!rests(&one), "an alert joined");
        one.metadata.generation = Some(1);
        let mut unsettled = status.clone();
        unsettled.unsettled = Some("api-1-undo".into());
        one.status = Some(unsettled);
        assert!(!rests(&one), "a write may still be made");
        for deliveries in [vec![], vec![Delivery { delivered: false, ..delivery }]] {
            status.escalation = Some(Box::new(Escalation { deliveries, ..Escalation::default() }));
            one.status = Some(status.clone());
            assert!(!rests(&one), "somebody has to be told");
        }
        one.status = Some(IncidentStatus { phase: IncidentPhase::Judging, ..status.clone() });
        assert!(!rests(&one));
        let watch = Some(Watch { since: at(0), ..Watch::default() });
        one.status = Some(IncidentStatus { phase: IncidentPhase::Resolved, watch, escalation: None, ..status });
        assert!(!rests(&one), "it is watched");
        one.status.as_mut().unwrap().watch.as_mut().unwrap().over = Some(at(1));
        assert!(rests(&one));
    }

    /// Whatever its status says: what is not stepped any more loses nothing by it.
    #[test]
    fn no_step_of_an_incident_that_rests_does_anything() {
        let terms = incident::Terms::default();
        let mut resting = 0;
        for combination in 0..1 << 7 {
            let has = |bit: u32| combination & (1 << bit) != 0;
            let mut one = Incident::new(
                "a",
                serde_json::from_value(json!({"alerts": [], "requestId": "r", "openedAt": at(0)})).unwrap(),
            );
            one.metadata.generation = Some(1);
            let phase = if has(0) { IncidentPhase::Escalated } else { IncidentPhase::Resolved };
            let mut status = IncidentStatus { phase, observed_generation: 1, ..IncidentStatus::default() };
            status.remediation = Some("a-repair".into());
            status.unsettled = has(1).then(|| "a-repair".into());
            status.watch = has(2).then(|| Watch { since: at(0), over: has(3).then(|| at(1)), ..Watch::default() });
            let delivery = Delivery { delivered: has(4), ..Delivery::default() };
            status.escalation =
                has(5).then(|| Box::new(Escalation { deliveries: vec![delivery], ..Escalation::default() }));
            status.notices = if has(6) {
                let notice = incident::Notice::Resolved.as_str().to_owned();
                vec![NoticeStatus { notice, next_attempt: Some(at(0)), ..NoticeStatus::default() }]
            } else {
                vec![]
            };
            one.status = Some(status);
            if !rests(&one) {
                continue;
            }
            assert!(!owes(one.status.as_ref().unwrap()), "{combination:b}");
            resting += 1;
            assert_eq!(incident::need(&one, at(9)), incident::Need::Nothing, "{combination:b}");
            let step = incident::step(&one, &incident::Seen::Nothing, &terms, at(9));
            assert!(step.effects.is_empty() && step.after.is_empty() && step.status.is_none(), "{combination:b}");
            assert!(matches!(step.next, incident::Next::After(_)), "{combination:b}");
        }
        assert!(resting >= 8, "{resting}");
    }

    #[test]
    fn alerts_are_counted_by_namespace_and_a_new_list_replaces_the_count() {
        let mut counts = Counts::default();
        counts.begin();
        for name in ["a", "b", "b"] {
            counts.seen("shop", name, true);
        }
        assert_eq!(counts.total(), 0, "not yet");
        counts.done();
        counts.seen("shop", "c", false);
        counts.seen("bank", "a", false);
        assert_eq!((counts.total(), counts.full(3), counts.full(4)), (4, 1, 0));
        counts.gone("shop", "c");
        counts.gone("bank", "a");
        counts.gone("bank", "a");
        assert_eq!((counts.total(), counts.full(3)), (2, 0));
        assert_eq!((room(2, 3), room(3, 3)), (Room::Free, Room::Full));
        counts.begin();
        counts.done();
        assert_eq!(counts.total(), 0);
    }
}
