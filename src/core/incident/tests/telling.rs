//! People are told until they have it.

use std::collections::BTreeSet;

use jiff::SignedDuration;

use super::{Fault, World, drive};
use crate::api::v1alpha1::{Delivery, IncidentPhase, IncidentStatus, Time};
use crate::core::incident::{self, Need, Next, Notice, occasion, step};

/// An incident that was handed over while nobody can be reached.
fn handed_over() -> World {
    let mut world = World::new();
    world.mode = None;
    world.receiver_works = false;
    drive(&mut world, step, |_| Fault::None);
    world.receiver_works = true;
    world
}

fn failed() -> Vec<Delivery> {
    vec![Delivery { channel: "webhook".into(), ..Delivery::default() }]
}

/// Attempts of `notice` at a receiver that is down for this long, by the time at which each is made.
fn attempts(world: &mut World, notice: Notice, down: SignedDuration) -> Vec<SignedDuration> {
    let begin = world.now;
    let mut made = vec![];
    while world.now.duration_since(begin) < down {
        if incident::need(&world.incident, world.now) == Need::Notice {
            made.push(world.now.duration_since(begin));
            let told = incident::told(&world.incident, notice, failed(), false, world.now);
            world.incident.status = told.status.map(|status| *status);
        }
        world.now += SignedDuration::from_secs(1);
    }
    made
}

#[test]
fn a_pager_that_is_down_for_a_day_gets_the_page_with_growing_pauses_and_without_an_end() {
    let mut world = World { mode: None, ..World::new() };
    drive(&mut world, step, |_| Fault::None);
    let status = world.incident.status.as_mut().unwrap();
    let escalation = status.escalation.as_mut().unwrap();
    (escalation.deliveries, escalation.attempts, escalation.next_attempt) = (vec![], 0, None);
    let made = attempts(&mut world, Notice::Escalated, SignedDuration::from_hours(24));
    let pauses: Vec<i64> = made.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
    assert_eq!(pauses[..8], [15, 30, 60, 120, 240, 480, 960, 1800]);
    assert!(pauses[8..].iter().all(|pause| *pause == 1800) && made.len() > 50, "{pauses:?}");
    // A restart goes on from the status alone.
    let status = world.incident.status.clone().unwrap();
    let again: IncidentStatus = serde_json::from_value(serde_json::to_value(&status).unwrap()).unwrap();
    assert_eq!(again, status);
    assert!(drive(&mut world, step, |_| Fault::None).ended);
    let escalation = world.incident.status.unwrap().escalation.unwrap();
    assert!(escalation.deliveries.iter().all(|delivery| delivery.delivered) && escalation.next_attempt.is_none());
}

#[test]
fn each_request_and_each_reminder_is_news_and_each_attempt_to_deliver_it_is_not() {
    let mut world = World { mode: Some("approve".into()), receiver_works: false, ..World::new() };
    drive(&mut world, step, |_| Fault::None);
    let asked = world.told.iter().zip(&world.occasions).filter(|(notice, _)| **notice == Notice::ApprovalAsked);
    let occasions: Vec<&String> = asked.map(|(_, occasion)| occasion).collect();
    // The first request and two reminders, each tried six times.
    let different: BTreeSet<&&String> = occasions.iter().collect();
    assert_eq!((occasions.len(), different.len()), (18, 3), "{occasions:?}");
    assert!(occasions.chunks(6).all(|attempts| attempts.iter().all(|it| *it == attempts[0] && !it.is_empty())));

    let incident = |digest: &str, second: i64| {
        let mut incident = world.incident.clone();
        let status = incident.status.as_mut().unwrap();
        status.decision.as_mut().unwrap().digest = Some(digest.into());
        status.times.decided = Some(Time::from_second(second).unwrap());
        status.times.ended = Some(Time::from_second(second).unwrap());
        incident
    };
    let of = |digest, second, notice| occasion(&incident(digest, second), notice);
    assert_ne!(of("a", 1, Notice::ApprovalAsked), of("b", 1, Notice::ApprovalAsked), "another digest");
    assert_ne!(of("a", 1, Notice::Resolved), of("a", 2, Notice::Resolved), "it was over twice");
    assert_ne!(of("a", 1, Notice::BreakerOpened), of("a", 1, Notice::Escalated));
}

#[test]
fn whoever_cannot_be_reached_does_not_keep_the_incident_busy() {
    let mut world = handed_over();
    let told = world.told.len();
    assert!((9..900).contains(&told), "{told} attempts in as many looks");
    assert!(drive(&mut world, step, |_| Fault::None).ended);
    assert_eq!(world.told.len(), told + 1);
}

#[test]
fn a_request_for_an_approval_is_repeated_while_it_is_awaited_and_not_after() {
    let mut world = World { mode: Some("approve".into()), receiver_works: false, ..World::new() };
    drive(&mut world, step, |_| Fault::None);
    let asked = world.told.iter().filter(|notice| **notice == Notice::ApprovalAsked).count();
    // At once and after a third and two thirds of the half hour that it is waited for; and each time, while nobody takes it,
    // again after 15 s, 30 s, 1, 2 and 4 minutes.
    assert_eq!(asked, 3 * 6);
    let last = world.told.iter().rposition(|notice| *notice == Notice::ApprovalAsked).unwrap();
    assert!(world.told[last + 1..].iter().all(|notice| *notice == Notice::Escalated));
}

#[test]
fn the_end_of_an_incident_is_told_again_until_it_arrives() {
    let mut world = World { receiver_works: false, ..World::new() };
    drive(&mut world, step, |_| Fault::None);
    assert_eq!(world.phase(), IncidentPhase::Resolved);
    assert!(world.told.len() > 5 && world.told.iter().all(|notice| *notice == Notice::Resolved));
    world.receiver_works = true;
    assert!(drive(&mut world, step, |_| Fault::None).ended);
    let notices = world.incident.status.unwrap().notices;
    assert!(notices.len() == 1 && notices[0].deliveries[0].delivered && notices[0].next_attempt.is_none());
}

#[test]
fn a_delivery_that_waits_for_its_turn_comes_soon_and_is_no_failure() {
    let world = handed_over();
    let before = world.incident.status.as_ref().unwrap().escalation.as_ref().unwrap().attempts;
    let told = incident::told(&world.incident, Notice::Escalated, failed(), true, world.now);
    let escalation = told.status.unwrap().escalation.unwrap();
    assert_eq!(escalation.attempts, before);
    assert_eq!(escalation.next_attempt.unwrap().duration_since(world.now), SignedDuration::from_secs(2));
    assert_eq!(told.next, Next::Again);
}

#[test]
fn a_clock_that_is_set_back_makes_nobody_wait_for_days() {
    let mut world = handed_over();
    world.now -= SignedDuration::from_hours(72);
    assert_eq!(incident::need(&world.incident, world.now), Need::Notice);
}

#[test]
fn a_page_says_why_and_not_only_where_to_look() {
    let world = handed_over();
    let status = world.incident.status.unwrap();
    let diagnosis = status.diagnosis.unwrap();
    assert!(!diagnosis.hypothesis.is_empty() && !diagnosis.facts.is_empty());
    let difference = diagnosis.difference.unwrap();
    assert!(difference.from < difference.to && !difference.changes.is_empty());
    assert_ne!(status.times.ended, None::<Time>);
}
