//! Who opens a cascade breaker is told of it, however the incident ends; and what holds a target.

use super::models::{chain, lie, lied_to};
use super::phases::run;
use super::{Aftermath, Fault, World, drive};
use crate::api::v1alpha1::{Anomaly, Diagnosis, Incident, IncidentPhase, LedgerStatus, Severity, Time};
use crate::core::budget::anomaly;
use crate::core::gate::testing;
use crate::core::incident::{Notice, Seen, Step, Terms, step};
use crate::core::reason::Reason;

/// So many other incidents of the namespace were lied to.
fn lied(count: usize) -> LedgerStatus {
    (0..count).fold(LedgerStatus::default(), |ledger, number| {
        let incident = format!("shop/other-{number}");
        let it = Anomaly { at: testing::at(0), kind: Reason::ClaimUngrounded.as_str().into(), incident };
        anomaly(&ledger, it, &Default::default())
    })
}

fn healthy_and_lied_about() -> World {
    World { chains: vec![chain()], model: |_, truth| Some(lie(truth)), ..World::healthy() }
}

fn times(world: &World, notice: Notice) -> usize {
    world.told.iter().filter(|told| **told == notice).count()
}

#[test]
fn an_incident_that_calls_nobody_and_opened_the_breaker_of_its_namespace_is_told_once_for_that() {
    let mut world = healthy_and_lied_about();
    (world.ledger, world.alert_ends_after) = (lied(4), Some(jiff::SignedDuration::from_secs(400)));
    run(&mut world);
    assert_eq!((world.phase(), world.reason()), (IncidentPhase::Resolved, "NothingWrong"));
    assert_eq!((times(&world, Notice::BreakerOpened), times(&world, Notice::Escalated)), (1, 0), "{:?}", world.told);
    let said = world.opened_breakers().join(" ");
    for other in 0..4 {
        assert!(said.contains(&format!("Incident shop/other-{other}")), "{said}");
    }

    // Nothing has opened: nothing is told, and nothing is left to be told.
    let mut world = healthy_and_lied_about();
    (world.ledger, world.alert_ends_after) = (lied(3), Some(jiff::SignedDuration::from_secs(400)));
    run(&mut world);
    assert_eq!((world.reason(), times(&world, Notice::BreakerOpened)), ("NothingWrong", 0));
    assert!(world.ledger.anomalies.len() == 4 && world.status().notices.iter().all(|it| it.notice == "Resolved"));
}

#[test]
fn severity_info_calls_nobody_for_the_incident_and_somebody_for_the_breaker_that_it_opened() {
    let unsure: fn(&str, &Diagnosis) -> Option<Diagnosis> =
        |_, truth| Some(Diagnosis { suspected_revision: Some(77), ..truth.clone() });
    for (severity, told) in [(Severity::Info, (1, 0)), (Severity::Warning, (0, 1))] {
        let mut world = World { model: unsure, ledger: lied(4), ..lied_to() };
        world.diagnosis.proposal = None;
        world.incident.spec.severity = severity;
        run(&mut world);
        assert_eq!(world.phase(), IncidentPhase::Escalated);
        assert_eq!(world.opened_breakers().len(), 1);
        let counted = (times(&world, Notice::BreakerOpened), times(&world, Notice::Escalated));
        assert_eq!(counted, told, "whoever is called for the incident hears of the breaker in the same page");
    }
}

#[test]
fn a_page_about_a_breaker_that_does_not_arrive_is_tried_again_after_the_incident_has_ended() {
    let mut world = healthy_and_lied_about();
    (world.ledger, world.receiver_works) = (lied(4), false);
    world.alert_ends_after = Some(jiff::SignedDuration::from_secs(400));
    drive(&mut world, step, |_| Fault::None);
    let waiting = world.status().notices.into_iter().find(|it| it.notice == "BreakerOpened").unwrap();
    assert!(waiting.attempts > 3 && waiting.next_attempt.is_some(), "{waiting:?}");
    world.receiver_works = true;
    assert!(drive(&mut world, step, |_| Fault::None).ended);
    let told = world.status().notices.into_iter().find(|it| it.notice == "BreakerOpened").unwrap();
    assert!(told.next_attempt.is_none() && told.deliveries[0].delivered);
}

/// As [`step`], but somebody writes back what the repair replaced while it is verified.
fn reverted(incident: &Incident, seen: &Seen, terms: &Terms, now: Time) -> Step {
    let mut seen = seen.clone();
    if let Seen::Target(target) = &mut seen
        && let (Some(repair), Ok(workload)) = (&target.repair, &mut target.workload)
        && let Some(field) = repair.spec.write.field()
    {
        workload.template = field.before.clone();
    }
    step(incident, &seen, terms, now)
}

#[test]
fn a_repair_that_somebody_reverts_while_it_is_verified_holds_the_target() {
    let mut world = World::new();
    assert!(drive(&mut world, reverted, |_| Fault::None).ended);
    assert_eq!((world.phase(), world.reason()), (IncidentPhase::Escalated, "ChangedByOthers"));
    assert!(world.status().message.contains("wrote back"), "{}", world.status().message);
    assert_eq!(
        (world.ledger.entries[0].failed.as_str(), world.ledger.anomalies[0].kind.as_str()),
        ("Reverted", "Reverted")
    );

    let mut changed = World { aftermath: Aftermath::ChangedByOthers, ..World::new() };
    run(&mut changed);
    assert_eq!(changed.ledger.entries[0].failed, "", "another change is no disagreement about ours");
    assert_eq!(changed.ledger.anomalies[0].kind, "ChangedByOthers");
}
