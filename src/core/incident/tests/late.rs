//! Outcomes that are known only after the incident has ended, and writes that nobody can prove.

use super::{Executor, Fault, World, drive};
use crate::api::v1alpha1::{IncidentPhase, IncidentStatus, LedgerState, Purpose, Watch};
use crate::core::incident::{Flight, Need, Notice, need, step};
use crate::core::reason::Reason;

fn ended(executor: Executor) -> (World, IncidentStatus) {
    let mut world = World::new();
    world.executor = executor;
    let run = drive(&mut world, step, |_| Fault::None);
    assert!(run.ended && world.violations.is_empty(), "{:?} {}", world.phase(), world.reason());
    let status = world.incident.status.clone().unwrap();
    (world, status)
}

fn records<'a>(world: &'a World, kind: &str) -> Vec<&'a serde_json::Map<String, serde_json::Value>> {
    world.records.iter().filter(|record| record.kind == kind).map(|record| &record.details).collect()
}

#[test]
fn a_write_that_is_reported_after_the_hand_over_is_booked_recorded_and_told() {
    let (world, status) = ended(Executor::ReportsLate);
    assert_eq!((status.phase, status.reason.as_str()), (IncidentPhase::Escalated, "WrittenLate"));
    assert!(
        status.message.contains("was written after") && status.message.contains("ExecutorSilent"),
        "{}",
        status.message
    );
    assert_eq!(world.ledger.entries[0].state, LedgerState::Spent);
    assert_eq!(world.writes.iter().map(|(purpose, _)| *purpose).collect::<Vec<_>>(), [Purpose::Repair]);
    assert_eq!(world.told, [Notice::Escalated, Notice::Escalated], "once that it is unknown, once that it was written");
    let end = records(&world, "RemediationEnded");
    assert_eq!((end.len(), &end[0]["phase"], &end[0]["proven"]), (1, &"Fired".into(), &true.into()));
    assert_eq!(status.unsettled, None);
}

#[test]
fn a_silent_executor_that_gives_up_later_is_refunded_and_nobody_is_called_twice() {
    let (world, status) = ended(Executor::AbortsLate(Reason::NoGrant));
    assert_eq!((status.reason.as_str(), status.unsettled), ("ExecutorSilent", None));
    assert_eq!(world.ledger.entries[0].state, LedgerState::Refunded);
    assert_eq!(world.told, [Notice::Escalated]);
    assert_eq!(records(&world, "RemediationEnded").len(), 1);
}

/// The Grant is refused at the last moment, and a request to open it was on its way already.
#[test]
fn a_write_that_slips_through_a_refusal_is_not_left_out_of_the_books() {
    let mut world = World::new();
    world.kill_switch = true;
    world.executor = Executor::ReportsLate;
    let run = drive(&mut world, step, |_| Fault::None);
    assert!(run.ended && world.reason() == "ModeForbids", "{}", world.reason());
    assert!(world.incident.status.as_ref().unwrap().unsettled.is_some());
    for remediation in world.remediations.values_mut() {
        remediation.status = serde_json::from_value(serde_json::json!({
            "phase": "Fired", "reason": "Fired", "epoch": 1, "receipts": [
                {"step": "Fired", "at": "2027-01-15T08:00:00Z"}, {"step": "ReadBack", "at": "2027-01-15T08:00:00Z"},
            ],
        }))
        .unwrap();
    }
    assert!(drive(&mut world, step, |_| Fault::None).ended);
    assert_eq!(world.reason(), "WrittenLate");
    assert_eq!(world.ledger.entries[0].state, LedgerState::Spent);
}

/// The answer to a request to open its Grant may have been lost: what is refused then may have been written.
#[test]
fn what_is_refused_after_its_claim_stays_reserved_until_the_executor_has_ended_it() {
    for kind in [LedgerState::Refunded, LedgerState::Spent] {
        let mut world = World { kill_switch: true, executor: Executor::Dies, ..World::new() };
        assert!(drive(&mut world, step, |_| Fault::None).ended);
        assert_eq!((world.phase(), world.reason()), (IncidentPhase::Escalated, "ModeForbids"));
        assert_eq!(world.ledger.entries[0].state, LedgerState::Reserved, "nobody knows what the executor does");
        let fired = serde_json::json!({"phase": "Fired", "epoch": 1, "receipts": [
            {"step": "Fired", "at": "2027-01-15T08:00:00Z"}, {"step": "ReadBack", "at": "2027-01-15T08:00:00Z"}]});
        let aborted = serde_json::json!({"phase": "Aborted", "reason": "NoGrant", "epoch": 1});
        let status = if kind == LedgerState::Spent { fired } else { aborted };
        for remediation in world.remediations.values_mut() {
            remediation.status = serde_json::from_value(status.clone()).unwrap();
        }
        assert!(drive(&mut world, step, |_| Fault::None).ended);
        assert_eq!((world.ledger.entries[0].state, world.status().unsettled), (kind, None));
    }
}

#[test]
fn an_annotation_that_anybody_can_set_is_not_reported_as_a_write() {
    let (world, status) = ended(Executor::FindsAnnotation);
    assert_eq!((status.phase, status.reason.as_str()), (IncidentPhase::Escalated, "WriteUnproven"));
    assert!(status.times.fired.is_none() && !status.timeline.iter().any(|entry| entry.event == "Fired"));
    assert_eq!(world.ledger.entries[0].state, LedgerState::Spent, "an unknown outcome counts as happened");
    assert_eq!(records(&world, "RemediationEnded")[0]["proven"], false);
}

#[test]
fn a_write_that_the_executor_cannot_prove_is_verified_if_the_controller_sees_it() {
    let (world, status) = ended(Executor::WritesUnproven);
    assert_eq!((status.phase, status.reason.as_str()), (IncidentPhase::Resolved, "Recovered"));
    assert_eq!(world.ledger.entries[0].state, LedgerState::Spent);
}

#[test]
fn what_is_watched_is_looked_at_while_a_write_has_no_known_outcome() {
    let mut world = World::new();
    assert!(drive(&mut world, step, |_| Fault::None).ended);
    world.executor = Executor::Silent;
    for remediation in world.remediations.values_mut() {
        remediation.status = None;
    }
    let status = world.incident.status.as_mut().unwrap();
    status.unsettled.clone_from(&status.remediation);
    status.times.ended = Some(world.now);
    status.watch = Some(Watch { since: world.now, ..Watch::default() });
    world.workload = world.broken.clone();
    assert_eq!(need(&world.incident, world.now), Need::Write(Flight::Repair));
    assert!(drive(&mut world, step, |_| Fault::None).ended);
    assert_eq!((world.phase(), world.reason()), (IncidentPhase::Escalated, "ChangedByOthers"));
    assert!(world.status().unsettled.is_some(), "it is still awaited");
}
