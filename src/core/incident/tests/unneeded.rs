//! A target that looks well, or cannot be read, between the decision and the end: whoever reads it, it has one end.

use jiff::SignedDuration;

use super::phases::{ends, purposes, run};
use super::{Aftermath, Executor, Fault, StepFn, World, drive};
use crate::api::v1alpha1::{Incident, IncidentPhase, LedgerState, Purpose, Severity, Time};
use crate::core::gate::{Unreadable, testing};
use crate::core::incident::{Notice, Seen, Step, Terms, step};
use crate::core::reason::Reason;

/// Healed between the decision and the write; its alert ends long after.
fn healed(executor: Executor) -> World {
    let alert_ends_after = Some(SignedDuration::from_secs(340));
    World { heals_before_write: true, executor, alert_ends_after, ..World::new() }
}

fn times_told(world: &World) -> usize {
    world.told.iter().filter(|notice| **notice == Notice::Escalated).count()
}

fn at_end(world: &World) -> (IncidentPhase, &str, usize) {
    (world.phase(), world.reason(), times_told(world))
}

const READINGS: [Reason; 5] = [
    Reason::NothingFails,
    Reason::ReplicasNotReady,
    Reason::RolloutUnderWay,
    Reason::FailingPodsNotCurrent,
    Reason::NoGrant,
];

#[test]
fn a_target_that_heals_before_the_write_calls_nobody_whoever_reads_it_first() {
    for executor in READINGS.map(Executor::Aborts).into_iter().chain([Executor::Dies]) {
        let mut world = healed(executor);
        run(&mut world);
        let status = world.status();
        assert_eq!(at_end(&world), (IncidentPhase::Resolved, "NothingWrong", 0), "{executor:?}: {}", status.message);
        assert!(world.writes.is_empty() && world.ledger.anomalies.is_empty(), "{executor:?}");
        let watch = status.watch.unwrap();
        let proved = watch.since.duration_since(testing::at(0)).as_secs();
        assert!((290..330).contains(&proved), "its health had to last for as long as ever: {proved} s");
        assert!(watch.over.is_some(), "it was watched until its alert had ended");
        // Of one that still claims it is not known yet.
        let booked = if executor == Executor::Dies { LedgerState::Reserved } else { LedgerState::Refunded };
        assert_eq!(world.ledger.entries[0].state, booked, "{executor:?}");
    }
}

#[test]
fn a_target_that_still_fails_is_handed_over_as_the_executor_said() {
    for reason in READINGS {
        let mut world = World { executor: Executor::Aborts(reason), ..World::new() };
        ends(&mut world, IncidentPhase::Escalated, reason);
        assert!(world.writes.is_empty() && world.status().message.contains("the repair was not applied"));
    }
}

#[test]
fn a_target_that_healed_before_the_write_and_fails_again_is_told_once_and_counts_for_no_breaker() {
    for executor in [Executor::Aborts(Reason::NothingFails), Executor::Dies] {
        let mut world = healed(executor);
        world.fails_after = Some((SignedDuration::from_secs(340), World::new().diagnosis));
        world.alert_ends_after = None;
        run(&mut world);
        assert_eq!(at_end(&world), (IncidentPhase::Escalated, "Relapsed", 1), "{}", world.status().message);
        assert!(world.writes.is_empty() && world.ledger.anomalies.is_empty(), "{:?}", world.ledger.anomalies);
    }
}

/// As [`step`], but the target is healthy once it is to be taken back.
fn step_while_it_recovers(incident: &Incident, seen: &Seen, terms: &Terms, now: Time) -> Step {
    let mut seen = seen.clone();
    let workload = match &mut seen {
        Seen::WriteAndJudgement(found) if found.repair.is_some() => found.case.workload.as_mut().ok(),
        Seen::Watch(watched) => watched.workload.as_mut().ok(),
        _ => None,
    };
    if let Some(workload) = workload {
        testing::heal(workload);
    }
    step(incident, &seen, terms, now)
}

#[test]
fn an_undo_that_the_executor_finds_unneeded_resolves_and_is_watched_if_the_controller_finds_so_too() {
    let worse = || {
        let executor = Executor::FiresAndAbortsUndo(Reason::Recovered);
        World { aftermath: Aftermath::MakesItWorse, executor, ..World::half_serving() }
    };
    let mut world = worse();
    assert!(drive(&mut world, step_while_it_recovers, |_| Fault::None).ended);
    assert_eq!(at_end(&world), (IncidentPhase::Resolved, "Recovered", 0), "{}", world.status().message);
    assert!(world.status().watch.is_some() && purposes(&world) == [Purpose::Repair]);
    assert!(world.violations.is_empty(), "{:?}", world.violations);

    // The executor alone ends nothing well.
    let mut world = worse();
    ends(&mut world, IncidentPhase::Escalated, Reason::VerifyFailed);
    assert!(world.status().message.contains("could not be undone"), "{}", world.status().message);
}

#[test]
fn a_stuck_pod_that_heals_when_it_is_to_be_evicted_lets_the_repair_go_on_and_is_not_evicted_later() {
    let executor = Executor::FiresAndAbortsEviction(Reason::NothingFails);
    let mut world = World { aftermath: Aftermath::StuckAndGoes, executor, ..World::stateful() };
    ends(&mut world, IncidentPhase::Resolved, Reason::Recovered);

    // It is stuck again: its Remediation has ended, so the repair ends as one that did not help.
    let mut world = World { aftermath: Aftermath::Stuck, executor, ..World::stateful() };
    ends(&mut world, IncidentPhase::Escalated, Reason::VerifyFailed);
    assert_eq!(purposes(&world), [Purpose::Repair]);
    let begun = world.status().timeline.iter().filter(|entry| entry.event == "RemediationCreated").count();
    assert_eq!(begun, 2, "the repair, and one eviction");
}

#[test]
fn what_people_or_a_flapping_pod_do_before_the_write_counts_for_no_breaker() {
    for reason in [
        Reason::ReplicasNotReady,
        Reason::Protected,
        Reason::RolloutPaused,
        Reason::FailingPodsNotCurrent,
        Reason::OpinionsDiffer,
        Reason::EarlierRevisionUnproven,
        Reason::OwnedByController,
        Reason::ManagedByGitOps,
        Reason::ClusterUnreadable,
        Reason::RestartUnproven,
        Reason::NoGrant,
        Reason::Refused,
    ] {
        let mut world = World { executor: Executor::Aborts(reason), ..World::new() };
        ends(&mut world, IncidentPhase::Escalated, reason);
        assert!(world.ledger.anomalies.is_empty(), "{reason}: {:?}", world.ledger.anomalies);
    }
    for reason in [Reason::RefusedByPolicy, Reason::PolicyMissing, Reason::DigestMismatch, Reason::Unsupported] {
        let mut world = World { executor: Executor::Aborts(reason), ..World::new() };
        ends(&mut world, IncidentPhase::Escalated, reason);
        let kinds: Vec<&str> = world.ledger.anomalies.iter().map(|it| it.kind.as_str()).collect();
        assert_eq!(kinds, [reason.as_str()], "under its own name");
    }
}

fn down() -> Unreadable {
    Unreadable { reason: Reason::ClusterUnreadable, message: "pods could not be listed in 4 s".into() }
}

/// As [`step`], but the target cannot be read at some looks more than a minute after the write.
fn step_with_a_hiccup(incident: &Incident, seen: &Seen, terms: &Terms, now: Time) -> Step {
    let fired = incident.status.as_ref().and_then(|status| status.times.fired);
    let mut seen = seen.clone();
    if let Seen::Target(target) = &mut seen
        && fired.is_some_and(|fired| (60..68).contains(&now.duration_since(fired).as_secs()))
    {
        target.workload = Err(down());
    }
    step(incident, &seen, terms, now)
}

#[test]
fn looks_that_fail_for_a_moment_end_no_verification_that_has_gone_on_for_minutes() {
    let world = hiccup(step_with_a_hiccup);
    assert_eq!(world.terms.timings.verify_timeout_seconds, 10);
    assert_eq!(at_end(&world), (IncidentPhase::Resolved, "Recovered", 0), "{}", world.status().message);
    assert!(world.ledger.anomalies.is_empty() && world.status().times.unread.is_none());
}

/// A rollout that takes long, with looks that fail.
fn hiccup(step: StepFn) -> World {
    let mut world = World { aftermath: Aftermath::RecoversSlowly, ..World::new() };
    assert!(drive(&mut world, step, |_| Fault::None).ended);
    world
}

#[test]
fn planted_defects_are_noticed() {
    /// Counts the time without a reading from the write.
    fn counts_from_the_write(incident: &Incident, seen: &Seen, terms: &Terms, now: Time) -> Step {
        let mut incident = incident.clone();
        if let Some(status) = &mut incident.status {
            status.times.unread = status.times.fired;
        }
        step_with_a_hiccup(&incident, seen, terms, now)
    }
    /// Takes the word of the executor for the end.
    fn believes_the_executor(incident: &Incident, seen: &Seen, terms: &Terms, now: Time) -> Step {
        let mut seen = seen.clone();
        if let Seen::Write(Some(remediation)) = &mut seen
            && let Some(status) = &mut remediation.status
        {
            status.reason = Reason::RemediationAborted.as_str().into();
        }
        step(incident, &seen, terms, now)
    }
    assert_eq!(hiccup(counts_from_the_write).phase(), IncidentPhase::Escalated, "planted defect not noticed");
    let mut world = healed(Executor::Aborts(Reason::NothingFails));
    assert!(drive(&mut world, believes_the_executor, |_| Fault::None).ended);
    assert_eq!(world.phase(), IncidentPhase::Escalated, "planted defect not noticed");
}

#[test]
fn a_target_that_stays_unread_after_the_write_is_handed_over_as_that_and_not_as_a_write_that_failed() {
    let mut world = World { unreadable_after_write: true, ..World::new() };
    ends(&mut world, IncidentPhase::Escalated, Reason::ClusterUnreadable);
    assert!(world.ledger.anomalies.is_empty(), "{:?}", world.ledger.anomalies);
    assert_eq!(world.ledger.entries[0].failed, "", "its target is not held");
    let status = world.status();
    let waited = status.times.ended.unwrap().duration_since(status.times.unread.unwrap());
    assert_eq!(waited.as_secs(), 10, "verifyTimeoutSeconds");
}

/// As [`step`], but the first judgement has no reading.
fn step_with_a_hiccup_at_first(incident: &Incident, seen: &Seen, terms: &Terms, now: Time) -> Step {
    let first = incident.status.as_ref().is_some_and(|status| status.rounds <= 1);
    let mut seen = seen.clone();
    if let Seen::Judgement(case) = &mut seen
        && first
    {
        case.workload = Err(down());
    }
    step(incident, &seen, terms, now)
}

#[test]
fn one_reading_that_fails_before_the_decision_costs_no_repair() {
    let mut world = World::new();
    assert!(drive(&mut world, step_with_a_hiccup_at_first, |_| Fault::None).ended);
    assert_eq!(at_end(&world), (IncidentPhase::Resolved, "Recovered", 0), "{}", world.status().message);
    assert_eq!(purposes(&world), [Purpose::Repair]);
}

#[test]
fn severity_info_calls_nobody_for_a_remediation_that_wrote_nothing_and_somebody_for_one_that_may_have() {
    let told = |world: World| {
        let mut world = world;
        world.incident.spec.severity = Severity::Info;
        run(&mut world);
        assert_eq!(world.phase(), IncidentPhase::Escalated, "{}", world.reason());
        times_told(&world)
    };
    for reason in [Reason::NotReady, Reason::NothingFails, Reason::ModeForbids, Reason::TargetChanged] {
        assert_eq!(told(World { executor: Executor::Aborts(reason), ..World::new() }), 0, "{reason}");
    }
    assert_eq!(told(World { kill_switch: true, ..World::new() }), 0, "refused before its Grant");
    for executor in [Executor::Silent, Executor::Dies, Executor::ReportsLate, Executor::FindsAnnotation] {
        assert!(told(World { executor, ..World::new() }) > 0, "{executor:?}: it may have been written");
    }
    assert_eq!(told(World { aftermath: Aftermath::StaysBroken, ..World::new() }), 1, "it was written");
}
