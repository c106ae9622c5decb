//! One sentence for each way in which an incident goes.

use jiff::SignedDuration;

use super::{Aftermath, Executor, Fault, Investigator, Run, World, drive};
use crate::api::v1alpha1::{IncidentPhase, LedgerState, Purpose, Write};
use crate::core::incident::{Notice, step};
use crate::core::reason::Reason;

fn run(world: &mut World) -> Run {
    let run = drive(world, step, |_| Fault::None);
    assert!(run.ended, "it did not end: {:?} {}", world.phase(), world.reason());
    assert!(world.violations.is_empty(), "{:?}", world.violations);
    run
}

fn ends(world: &mut World, phase: IncidentPhase, reason: Reason) {
    run(world);
    let message = world.incident.status.as_ref().map(|status| status.message.clone()).unwrap_or_default();
    assert_eq!((world.phase(), world.reason()), (phase, reason.as_str()), "{message}");
    let told = if phase == IncidentPhase::Escalated { Notice::Escalated } else { Notice::Resolved };
    assert!(world.told.contains(&told), "nobody was told: {:?}", world.told);
}

fn purposes(world: &World) -> Vec<Purpose> {
    world.writes.iter().map(|(purpose, _)| *purpose).collect()
}

#[test]
fn a_bad_rollout_is_rolled_back_verified_and_resolved() {
    let mut world = World::new();
    ends(&mut world, IncidentPhase::Resolved, Reason::Recovered);
    assert_eq!(purposes(&world), [Purpose::Repair]);
    assert_eq!(world.ledger.entries[0].state, LedgerState::Spent);
    assert!(world.grant.spec.open.is_none());
    let events: Vec<&str> = world.incident.status.iter().flat_map(|s| &s.timeline).map(|e| e.event.as_str()).collect();
    let expected = [
        "AlertReceived",
        "PlanWritten",
        "Diagnosed",
        "Judged",
        "RemediationCreated",
        "GrantOpened",
        "Fired",
        "Healthy",
        "Resolved",
    ];
    assert_eq!(events, expected);
}

#[test]
fn nothing_runs_before_the_plan_is_stored() {
    let world = World::new();
    let seen = crate::core::incident::Seen::Rules(Box::new(crate::core::incident::Rules {
        mode: Some("auto".into()),
        policies: vec![].into(),
        runbooks: vec![],
    }));
    let first = step(&world.incident, &seen, &world.terms, world.now);
    assert!(first.effects.is_empty() && first.status.is_some_and(|status| status.plan.is_some()));
    assert!(!first.after.is_empty());
}

#[test]
fn a_rollback_that_does_not_help_is_taken_back_and_handed_over() {
    let mut world = World::new();
    world.aftermath = Aftermath::StaysBroken;
    ends(&mut world, IncidentPhase::Escalated, Reason::VerifyFailed);
    assert_eq!(purposes(&world), [Purpose::Repair, Purpose::Undo]);
    assert_eq!(world.workload.template, world.broken.template);
    let status = world.incident.status.unwrap();
    assert!(status.follow_up.is_some_and(|decision| !decision.checks.is_empty()), "verdicts of the undo are on record");
}

#[test]
fn a_rollback_that_cannot_be_taken_back_is_handed_over_as_it_is() {
    let mut world = World::new();
    world.aftermath = Aftermath::StaysBroken;
    world.executor = Executor::FiresAndAbortsUndo(Reason::TargetChanged);
    ends(&mut world, IncidentPhase::Escalated, Reason::VerifyFailed);
    assert_eq!(purposes(&world), [Purpose::Repair]);
}

#[test]
fn what_somebody_changed_after_the_write_is_left_as_it_is() {
    let mut world = World::new();
    world.aftermath = Aftermath::ChangedByOthers;
    ends(&mut world, IncidentPhase::Escalated, Reason::ChangedByOthers);
    assert_eq!(purposes(&world), [Purpose::Repair]);
}

#[test]
fn a_mode_that_forbids_writes_leads_to_a_person_and_no_remediation() {
    let mut world = World::new();
    world.mode = None;
    ends(&mut world, IncidentPhase::Escalated, Reason::ModeForbids);
    assert!(world.remediations.is_empty() && world.ledger.entries.is_empty());
}

#[test]
fn in_mode_approve_nothing_is_written_before_a_person_said_yes_to_exactly_this() {
    let mut world = World::new();
    world.mode = Some("approve".into());
    ends(&mut world, IncidentPhase::Escalated, Reason::ApprovalTimeout);
    assert!(world.writes.is_empty() && world.told.contains(&Notice::ApprovalAsked));

    let mut world = World::new();
    world.mode = Some("approve".into());
    world.approves = true;
    ends(&mut world, IncidentPhase::Resolved, Reason::Recovered);
    assert_eq!(world.approvals.len(), 1);
    assert!(!world.approvals[0].status.as_ref().unwrap().used_by.is_empty(), "the Approval is used up");
}

#[test]
fn an_alert_that_ends_before_the_judgement_closes_the_incident() {
    let mut world = World::new();
    world.firing = false;
    ends(&mut world, IncidentPhase::Resolved, Reason::AlertResolved);
    assert!(world.writes.is_empty());
}

#[test]
fn a_silent_investigator_leads_to_a_person() {
    let mut world = World::new();
    world.investigator = Investigator::Silent;
    ends(&mut world, IncidentPhase::Escalated, Reason::InvestigationTimeout);
}

#[test]
fn a_silent_executor_leads_to_a_person_and_its_reservation_stays() {
    for executor in [Executor::Silent, Executor::Dies] {
        let mut world = World::new();
        world.executor = executor;
        ends(&mut world, IncidentPhase::Escalated, Reason::ExecutorSilent);
        assert_eq!(world.ledger.entries[0].state, LedgerState::Reserved, "an unknown outcome counts as happened");
        assert!(world.grant.spec.open.is_none());
    }
}

#[test]
fn what_the_executor_gives_up_is_refunded_and_handed_over_with_its_reason() {
    let mut world = World::new();
    world.executor = Executor::Aborts(Reason::PolicyMissing);
    ends(&mut world, IncidentPhase::Escalated, Reason::PolicyMissing);
    assert_eq!(world.ledger.entries[0].state, LedgerState::Refunded);
    assert_eq!(world.ledger.anomalies.len(), 1);
}

#[test]
fn every_claim_is_judged_again_and_gets_a_grant_of_its_own() {
    let mut world = World::new();
    world.executor = Executor::Reclaims;
    ends(&mut world, IncidentPhase::Resolved, Reason::Recovered);
    assert_eq!(world.opened.iter().map(|open| open.epoch).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn without_an_audit_log_nothing_is_written_and_people_are_called() {
    let mut world = World::new();
    world.audit_works = false;
    ends(&mut world, IncidentPhase::Escalated, Reason::AuditNotDurable);
    assert!(world.opened.is_empty());
}

#[test]
fn an_unreadable_target_is_neither_healthy_nor_written_to() {
    let mut world = World::new();
    world.readable = false;
    ends(&mut world, IncidentPhase::Escalated, Reason::ClusterUnreadable);
    assert!(world.writes.is_empty());
}

#[test]
fn people_are_told_again_until_it_arrives_or_an_hour_has_passed() {
    let mut world = World::new();
    world.mode = None;
    world.receiver_works = false;
    let started = world.now;
    run(&mut world);
    assert!(world.told.len() > 30, "{}", world.told.len());
    assert!(world.now.duration_since(started) > SignedDuration::from_mins(59));
    let status = world.incident.status.unwrap();
    let attempts = status.escalation.unwrap().deliveries[0].attempts;
    assert_eq!(usize::try_from(attempts).unwrap(), world.told.len());
}

#[test]
fn a_stuck_pod_is_evicted_by_a_write_of_its_own_and_then_it_recovers() {
    let mut world = World::stateful();
    world.aftermath = Aftermath::Stuck;
    ends(&mut world, IncidentPhase::Resolved, Reason::Recovered);
    assert_eq!(purposes(&world), [Purpose::Repair, Purpose::ReplacePod]);
    assert!(matches!(&world.writes[1].1, Write::Evict(evict) if evict.pod.kind == "Pod"));
    assert_eq!(world.opened.len(), 2);
    assert_ne!(world.opened[0].remediation, world.opened[1].remediation);
}

#[test]
fn without_the_right_to_evict_a_stuck_pod_is_named_to_a_person() {
    let mut world = World::stateful();
    world.aftermath = Aftermath::Stuck;
    world.terms.evict_pods = false;
    ends(&mut world, IncidentPhase::Escalated, Reason::EvictionNotAllowed);
    assert_eq!(purposes(&world), [Purpose::Repair]);
    assert!(world.incident.status.unwrap().message.contains("api-"), "the pod is named");
}

/// Another action than `RolloutUndo` goes the same way: nothing here knows more of it than its definition says.
#[test]
fn an_action_that_is_one_file_and_its_registry_lines_repairs_is_verified_and_taken_back() {
    let mut world = World::planted();
    ends(&mut world, IncidentPhase::Resolved, Reason::Recovered);
    assert_eq!(purposes(&world), [Purpose::Repair]);
    let Write::Field(field) = &world.writes[0].1 else { panic!("{:?}", world.writes) };
    assert_eq!((field.path.as_str(), field.after.as_i64()), ("/spec/replicas", Some(3)));
    assert_eq!(world.opened[0].action, "planted");

    let mut world = World::planted();
    world.aftermath = Aftermath::StaysBroken;
    ends(&mut world, IncidentPhase::Escalated, Reason::VerifyFailed);
    assert_eq!(purposes(&world), [Purpose::Repair, Purpose::Undo]);
    assert_eq!(world.workload.spec, world.broken.spec);
}

#[test]
fn an_action_that_is_held_back_is_handed_over_with_its_own_command() {
    for (world, command) in [
        (World::new(), "kubectl -n shop rollout undo deployment/api --to-revision=1"),
        (World::planted(), "kubectl -n shop scale deployment/api --replicas=3"),
    ] {
        let mut world = world;
        world.mode = None;
        ends(&mut world, IncidentPhase::Escalated, Reason::ModeForbids);
        let next_step = world.incident.status.unwrap().escalation.unwrap().next_step;
        assert!(next_step.contains(command), "{next_step}");
    }
}
