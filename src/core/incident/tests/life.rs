//! What becomes of an incident after the write, of one about which nothing is wrong, and of many at once.

use jiff::SignedDuration;

use super::phases::{ends, purposes, run};
use super::{Aftermath, World};
use crate::api::v1alpha1::{IncidentPhase, LedgerState, Purpose, Severity, Watch};
use crate::core::gate::{Unreadable, testing};
use crate::core::incident::{Effect, Need, Notice, Seen, Step, Watched, need, step};
use crate::core::neighbours::Storm;
use crate::core::reason::Reason;
use crate::core::surroundings::Successor;

/// The target is one of three that fail at once.
pub fn storm() -> Storm {
    let workloads = ["Deployment/api", "Deployment/db", "Deployment/web"].map(str::to_owned).to_vec();
    Storm { workloads, of: 3, image: Some("api:2".into()) }
}

fn times_told(world: &World) -> usize {
    world.told.iter().filter(|notice| **notice == Notice::Escalated).count()
}

#[test]
fn a_rollback_that_does_not_help_is_left_and_handed_over() {
    let mut world = World::new();
    world.aftermath = Aftermath::StaysBroken;
    ends(&mut world, IncidentPhase::Escalated, Reason::VerifyFailed);
    assert_eq!(purposes(&world), [Purpose::Repair]);
    assert_ne!(world.workload.template, world.broken.template, "the known bad template is not written back");
    assert!(world.status().message.contains("left in place"), "{}", world.status().message);
    assert_eq!(world.ledger.entries[0].state, LedgerState::Spent);
}

#[test]
fn a_rollback_that_recovers_slowly_is_left_alone() {
    let mut world = World::new();
    world.aftermath = Aftermath::RecoversSlowly;
    // Each part of it takes five times as long as the setting allows.
    assert_eq!(world.terms.timings.verify_timeout_seconds, 10);
    ends(&mut world, IncidentPhase::Resolved, Reason::Recovered);
    assert_eq!(purposes(&world), [Purpose::Repair]);
}

#[test]
fn what_is_scaled_to_0_after_the_write_is_left_to_whoever_did_it() {
    let mut world = World::new();
    world.aftermath = Aftermath::IsScaledDown;
    ends(&mut world, IncidentPhase::Escalated, Reason::ChangedByOthers);
    assert_eq!(purposes(&world), [Purpose::Repair]);
}

#[test]
fn a_relapse_continues_the_same_incident_and_is_told_once() {
    let mut world = World::new();
    world.aftermath = Aftermath::Relapses;
    ends(&mut world, IncidentPhase::Escalated, Reason::Relapsed);
    assert_eq!((purposes(&world), times_told(&world)), (vec![Purpose::Repair], 1));
    assert!(world.told.contains(&Notice::Resolved), "it was told as recovered before");
    assert!(world.ledger.anomalies.iter().any(|anomaly| anomaly.kind == "Relapsed"));
}

#[test]
fn a_repair_that_somebody_reverts_is_told_as_that() {
    let mut world = World::new();
    world.aftermath = Aftermath::IsReverted;
    ends(&mut world, IncidentPhase::Escalated, Reason::ChangedByOthers);
    assert!(world.status().message.contains("wrote back"), "{}", world.status().message);
    assert_eq!((purposes(&world), times_told(&world)), (vec![Purpose::Repair], 1));
}

#[test]
fn an_alert_that_outlives_the_repair_is_told_once() {
    let mut world = World::new();
    world.alert_lasts = None;
    ends(&mut world, IncidentPhase::Escalated, Reason::AlertGoesOn);
    assert_eq!(times_told(&world), 1);
    let status = world.status();
    let told = status.times.ended.unwrap().duration_since(status.watch.unwrap().since);
    assert_eq!(told.as_secs(), 60, "alertGoesOnSeconds");
}

#[test]
fn a_recovered_target_is_watched_until_its_alert_has_ended_and_for_a_while_after() {
    let mut world = World::new();
    ends(&mut world, IncidentPhase::Resolved, Reason::Recovered);
    let watch = world.status().watch.unwrap();
    assert_eq!(watch.over.unwrap().duration_since(watch.since).as_secs(), 90, "watchSeconds");
    assert_eq!(need(&world.incident, world.now), Need::Nothing);
    assert_eq!(times_told(&world), 0);

    // What can not be read is not healthy.
    let mut world = World { unreadable_after_recovery: true, ..World::new() };
    ends(&mut world, IncidentPhase::Escalated, Reason::ClusterUnreadable);

    // People were called for it by a later incident.
    let mut world = World { successor: later(true), alert_lasts: None, ..World::new() };
    ends(&mut world, IncidentPhase::Resolved, Reason::Recovered);
}

/// A later incident about the target, for which people were `called`.
fn later(called: bool) -> Option<Successor> {
    Some(Successor { incident: "api-other".into(), called })
}

/// What the next look comes to.
fn look(world: &World, successor: Option<Successor>, broken: bool) -> Step {
    let workload = if broken { world.broken.clone() } else { world.workload.clone() };
    let seen = Watched { repair: None, workload: Ok(workload), firing: true, successor };
    step(&world.incident, &Seen::Watch(Box::new(seen)), &world.terms, world.now)
}

/// A target that has recovered, `repaired` or by itself, and whose watch begins.
fn watched(repaired: bool) -> World {
    let ends = Some(SignedDuration::from_secs(400));
    let mut world = if repaired { World::new() } else { World { alert_ends_after: ends, ..World::healthy() } };
    run(&mut world);
    assert_eq!((world.phase(), world.writes.len()), (IncidentPhase::Resolved, usize::from(repaired)));
    let watch = Watch { since: world.now, ..Watch::default() };
    world.incident.status.as_mut().unwrap().watch = Some(watch);
    world
}

/// The same, seen failing for 20 seconds.
fn failing(repaired: bool) -> World {
    let mut world = watched(repaired);
    world.incident.status.as_mut().unwrap().watch.as_mut().unwrap().failing_since = Some(world.now);
    world.now += SignedDuration::from_secs(20);
    world
}

#[test]
fn a_later_incident_that_ends_without_a_word_leaves_the_watch_as_it_was() {
    for repaired in [true, false] {
        let mut world = watched(repaired);
        world.now += SignedDuration::from_hours(1);
        let waits = look(&world, later(false), false);
        assert!(waits.status.is_none() && waits.effects.is_empty(), "it is worked on: {waits:?}");
        let told = look(&world, None, false).status.expect("people are told");
        assert_eq!((told.phase, told.reason.as_str()), (IncidentPhase::Escalated, "AlertGoesOn"));
        assert!(told.escalation.is_some());
        let over = look(&world, later(true), false).status.expect("people have it");
        assert!(!over.is_watched() && over.phase == IncidentPhase::Resolved);
    }
}

#[test]
fn a_repair_that_does_not_hold_is_counted_whoever_has_the_target_and_told_unless_people_have_it() {
    let world = failing(true);
    for (called, phase) in [(false, IncidentPhase::Escalated), (true, IncidentPhase::Resolved)] {
        let step = look(&world, later(called), true);
        assert!(step.effects.contains(&Effect::CountAnomaly(Reason::Relapsed)), "{step:?}");
        let status = step.status.unwrap();
        assert_eq!((status.phase, status.is_watched()), (phase, false));
    }
    // Nothing was written: whoever works on the target sees what fails.
    let world = failing(false);
    assert!(look(&world, later(false), true).status.is_none(), "two investigate the same");
    let again = look(&world, None, true).status.expect("it is investigated");
    assert_eq!(again.phase, IncidentPhase::Investigating);
}

#[test]
fn a_target_that_is_deleted_or_made_again_while_its_alert_fires_on_is_told_and_else_the_watch_is_over() {
    for (repaired, patience) in [(true, 60), (false, 90)] {
        let gone = Unreadable { reason: Reason::TargetGone, message: "it was recreated".into() };
        let look = |world: &World, firing| {
            let seen = Watched { repair: None, workload: Err(gone.clone()), firing, successor: None };
            step(&world.incident, &Seen::Watch(Box::new(seen)), &world.terms, world.now)
        };
        let mut world = watched(repaired);
        world.now += SignedDuration::from_hours(1);
        let over = look(&world, false).status.expect("there is nothing left to watch");
        assert!(!over.is_watched() && over.phase == IncidentPhase::Resolved);
        // An alert ends some minutes after its object.
        world.incident.status = look(&world, true).status.map(|status| *status);
        assert!(world.status().is_watched(), "repaired: {repaired}");
        world.now += SignedDuration::from_secs(patience - 1);
        assert!(look(&world, true).status.is_none());
        world.now += SignedDuration::from_secs(1);
        let told = look(&world, true).status.expect("people are told");
        assert_eq!((told.phase, told.reason.as_str()), (IncidentPhase::Escalated, "TargetGone"));
        assert!(told.escalation.is_some());
        assert_eq!(told.watch.unwrap().over, Some(world.now));
    }
}

#[test]
fn a_target_that_failed_and_cannot_be_read_since_is_told_while_its_alert_fires() {
    for repaired in [true, false] {
        let mut world = failing(repaired);
        world.now += SignedDuration::from_hours(1);
        let unread = Unreadable { reason: Reason::ClusterUnreadable, message: "no answer".into() };
        let seen = Watched { repair: None, workload: Err(unread), firing: true, successor: None };
        let told = step(&world.incident, &Seen::Watch(Box::new(seen)), &world.terms, world.now).status;
        assert_eq!(told.expect("people are told").phase, IncidentPhase::Escalated, "repaired: {repaired}");
    }
}

#[test]
fn an_alert_about_a_healthy_target_calls_nobody_and_is_closed_with_it() {
    let mut world = World::healthy();
    world.alert_ends_after = Some(SignedDuration::from_secs(400));
    ends(&mut world, IncidentPhase::Resolved, Reason::NothingWrong);
    assert_eq!((world.writes.len(), times_told(&world)), (0, 0));
    let proved = world.status().watch.unwrap().since.duration_since(testing::at(0)).as_secs();
    assert!((290..330).contains(&proved), "nothing probes readiness, so health had to last for minutes: {proved} s");
}

#[test]
fn an_alert_about_a_healthy_target_that_goes_on_is_told_once_and_one_that_informs_never() {
    let mut world = World::healthy();
    ends(&mut world, IncidentPhase::Escalated, Reason::AlertGoesOn);
    assert_eq!(times_told(&world), 1);

    let mut world = World::healthy();
    world.incident.spec.severity = Severity::Info;
    ends(&mut world, IncidentPhase::Resolved, Reason::NothingWrong);
    assert_eq!(times_told(&world), 0);
}

#[test]
fn severity_low_is_told_of_whatever_a_warning_is_told_of() {
    let told = |severity, mode: Option<&str>, mut world: World| {
        world.incident.spec.severity = severity;
        world.mode = mode.map(str::to_owned);
        run(&mut world);
        (world.phase(), world.reason().to_owned(), times_told(&world))
    };
    for mode in [None, Some("approve"), Some("auto")] {
        for world in [World::new, World::healthy] {
            assert_eq!(told(Severity::Low, mode, world()), told(Severity::Warning, mode, world()), "{mode:?}");
        }
    }
    assert_eq!(told(Severity::Low, None, World::new()), (IncidentPhase::Escalated, "ModeForbids".to_owned(), 1));
}

#[test]
fn severity_info_calls_nobody_unless_something_was_written() {
    let mut world = World::new();
    world.incident.spec.severity = Severity::Info;
    world.mode = None;
    run(&mut world);
    assert_eq!((world.phase(), times_told(&world)), (IncidentPhase::Escalated, 0));

    let mut world = World::new();
    world.incident.spec.severity = Severity::Info;
    world.aftermath = Aftermath::StaysBroken;
    ends(&mut world, IncidentPhase::Escalated, Reason::VerifyFailed);
}

#[test]
fn a_target_that_nothing_was_wrong_with_and_that_fails_later_is_investigated_again_and_repaired() {
    let mut world = World::healthy();
    let diagnosis = World::new().diagnosis;
    world.fails_after = Some((SignedDuration::from_secs(320), diagnosis));
    ends(&mut world, IncidentPhase::Resolved, Reason::Recovered);
    assert_eq!(purposes(&world), [Purpose::Repair]);
    let events: Vec<String> = world.status().timeline.into_iter().map(|entry| entry.event).collect();
    assert!(events.contains(&"Reopened".to_owned()), "{events:?}");
}

#[test]
fn one_of_many_that_fail_at_once_is_told_with_all_and_not_written_to() {
    let mut world = World { storm: Some(storm()), ..World::new() };
    ends(&mut world, IncidentPhase::Escalated, Reason::Storm);
    assert!(world.writes.is_empty() && world.remediations.is_empty());
    for name in ["Deployment/db", "Deployment/web", "api:2"] {
        assert!(world.status().message.contains(name), "{}", world.status().message);
    }
    assert_eq!(world.ledger.storms[0].incident, "api-0123456789");

    // Another incident has told of this one already.
    let mut second = World { storm: Some(storm()), ledger: world.ledger.clone(), ..World::new() };
    second.ledger.storms[0].incident = "web-0".into();
    run(&mut second);
    assert_eq!((second.phase(), second.reason()), (IncidentPhase::Escalated, "Storm"));
    assert_eq!((second.told.len(), second.writes.len()), (0, 0), "{:?}", second.told);
    assert!(second.status().message.contains("Incident web-0"), "{}", second.status().message);
}

#[test]
fn an_incident_that_only_informs_never_speaks_for_a_storm_and_a_louder_one_is_told_of_it_again() {
    let mut quiet = World { storm: Some(storm()), ..World::new() };
    quiet.incident.spec.severity = Severity::Info;
    run(&mut quiet);
    assert_eq!((quiet.phase(), quiet.reason(), times_told(&quiet)), (IncidentPhase::Escalated, "Storm", 0));
    assert_eq!(quiet.ledger.storms, [], "it tells nobody, so nobody may rely on it");

    let mut told = World { storm: Some(storm()), ..World::new() };
    ends(&mut told, IncidentPhase::Escalated, Reason::Storm);
    told.ledger.storms[0].incident = "web-0".into();
    for (severity, times) in [(Severity::Warning, 0), (Severity::Critical, 1)] {
        let mut ledger = told.ledger.clone();
        ledger.storms[0].severity = Severity::Warning;
        let mut world = World { storm: Some(storm()), ledger, ..World::new() };
        world.incident.spec.severity = severity;
        run(&mut world);
        assert_eq!((world.phase(), world.reason()), (IncidentPhase::Escalated, "Storm"));
        assert_eq!(times_told(&world), times, "{severity:?}");
    }
}

#[test]
fn who_claimed_to_tell_of_a_storm_tells_of_it_although_its_own_target_is_well_by_then() {
    let mut claimed = World { storm: Some(storm()), ..World::new() };
    ends(&mut claimed, IncidentPhase::Escalated, Reason::Storm);
    // The claim reached the Ledger and the status did not: it is judged again, and its target has recovered meanwhile.
    let mut world = World { ledger: claimed.ledger.clone(), ..World::healthy() };
    ends(&mut world, IncidentPhase::Escalated, Reason::Storm);
    assert_eq!(times_told(&world), 1);
    assert!(world.status().message.contains("Deployment/web"), "{}", world.status().message);
}

#[test]
fn people_who_use_kubectl_apply_are_warned_of_what_it_believes_to_have_applied() {
    let mut world = World::new();
    let manifest = serde_json::json!({"spec": {"template": world.broken.template}}).to_string();
    let annotation = "kubectl.kubernetes.io/last-applied-configuration".to_owned();
    world.broken.annotations.insert(annotation, manifest);
    world.workload = world.broken.clone();
    ends(&mut world, IncidentPhase::Resolved, Reason::Recovered);
    assert!(world.status().message.contains("kubectl apply --server-side"), "{}", world.status().message);
}
