//! One sentence for each way in which an incident goes.

use super::{Aftermath, Executor, Fault, Investigator, Run, World, drive};
use crate::api::v1alpha1::{
    ApprovalAnswer, DecisionOutcome, Incident, IncidentPhase, LedgerEntry, LedgerState, PodFailure, Policy, Purpose,
    Severity, Time, Watch, Write,
};
use crate::core::gate::testing;
use crate::core::incident::{Effect, Notice, Seen, Step, Terms, blocked, step, unanswered};
use crate::core::names;
use crate::core::policy::CompiledPolicy;
use crate::core::reason::Reason;

pub fn run(world: &mut World) -> Run {
    let run = drive(world, step, |_| Fault::None);
    assert!(run.ended, "it did not end: {:?} {}", world.phase(), world.reason());
    assert!(world.violations.is_empty(), "{:?}", world.violations);
    run
}

pub fn ends(world: &mut World, phase: IncidentPhase, reason: Reason) {
    run(world);
    let message = world.incident.status.as_ref().map(|status| status.message.clone()).unwrap_or_default();
    assert_eq!((world.phase(), world.reason()), (phase, reason.as_str()), "{message}");
    let told = if phase == IncidentPhase::Escalated { Notice::Escalated } else { Notice::Resolved };
    assert!(world.told.contains(&told), "nobody was told: {:?}", world.told);
}

pub fn purposes(world: &World) -> Vec<Purpose> {
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
        "WatchEnded",
    ];
    assert_eq!(events, expected);
}

#[test]
fn nothing_runs_before_the_plan_is_stored() {
    let world = World::new();
    let seen = crate::core::incident::Seen::Rules(Box::new(crate::core::incident::Rules {
        mode: Some("auto".into()),
        pod_security_at: None,
        enrolled: true,
        policies: vec![].into(),
        runbooks: vec![],
        compiled: Default::default(),
        exceptions: vec![],
        chains: Some(vec![]),
    }));
    let first = step(&world.incident, &seen, &world.terms, world.now);
    assert!(first.effects.is_empty() && first.status.is_some_and(|status| status.plan.is_some()));
    assert!(!first.after.is_empty());
}

#[test]
fn a_rollback_that_makes_it_worse_is_taken_back_and_handed_over() {
    let mut world = World::half_serving();
    world.aftermath = Aftermath::MakesItWorse;
    ends(&mut world, IncidentPhase::Escalated, Reason::VerifyFailed);
    assert_eq!(purposes(&world), [Purpose::Repair, Purpose::Undo]);
    assert_eq!(world.workload.template, world.broken.template);
    let status = world.incident.status.unwrap();
    assert!(status.follow_up.is_some_and(|decision| !decision.checks.is_empty()), "verdicts of the undo are on record");
}

#[test]
fn a_restart_that_makes_it_worse_is_not_taken_back_and_handed_over_with_why() {
    let mut world = World::stale();
    world.aftermath = Aftermath::MakesItWorse;
    ends(&mut world, IncidentPhase::Escalated, Reason::VerifyFailed);
    assert_eq!(purposes(&world), [Purpose::Repair]);
    let status = world.incident.status.unwrap();
    assert_eq!(status.undo, None);
    assert!(status.message.contains("It was not taken back: the processes that a restart ended do not come back"));
}

#[test]
fn a_restart_recovers_and_is_watched_like_any_other_repair() {
    let mut world = World::stale();
    ends(&mut world, IncidentPhase::Resolved, Reason::Recovered);
    assert_eq!(purposes(&world), [Purpose::Repair]);
    let written = world.workload.template.pointer("/metadata/annotations").cloned().unwrap_or_default();
    assert_eq!(
        written["kubectl.kubernetes.io/restartedAt"],
        serde_json::json!(testing::at(-120).strftime("%FT%TZ").to_string())
    );
}

#[test]
fn a_rollback_that_cannot_be_taken_back_is_handed_over_as_it_is() {
    let mut world = World::half_serving();
    world.aftermath = Aftermath::MakesItWorse;
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
fn checks_that_do_not_answer_refuse_and_are_asked_again_until_nobody_waits_any_more() {
    fn never(incident: &Incident, seen: &Seen, terms: &Terms, now: Time) -> Step {
        match seen {
            Seen::Judgement(_) => unanswered(incident, "there was none in time", terms, now).expect("it is judged"),
            _ => step(incident, seen, terms, now),
        }
    }
    fn at_first(incident: &Incident, seen: &Seen, terms: &Terms, now: Time) -> Step {
        let first = incident.status.as_ref().is_some_and(|status| status.rounds == 1);
        if first { never(incident, seen, terms, now) } else { step(incident, seen, terms, now) }
    }
    let mut world = World::new();
    assert!(drive(&mut world, never, |_| Fault::None).ended);
    assert_eq!((world.phase(), world.reason()), (IncidentPhase::Escalated, Reason::ChecksUnanswered.as_str()));
    assert!(world.writes.is_empty() && world.told == [Notice::Escalated]);
    assert!(world.status().rounds > 5, "it was asked again for a minute");

    let mut world = World::new();
    assert!(drive(&mut world, at_first, |_| Fault::None).ended);
    assert_eq!((world.phase(), purposes(&world)), (IncidentPhase::Resolved, vec![Purpose::Repair]));
    assert!(unanswered(&world.incident, "late", &world.terms, world.now).is_none(), "nothing is to be decided");
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

/// A world in mode approve in which people answer so, each with their group, once they are asked.
fn asked(people: &'static [(&'static str, &'static str, ApprovalAnswer)]) -> World {
    World { mode: Some("approve".into()), answers: people, ..World::new() }
}

fn asking(spec: serde_json::Value) -> Vec<CompiledPolicy> {
    vec![CompiledPolicy::of(&Policy::new("p", serde_json::from_value(spec).unwrap()))]
}

#[test]
fn where_two_people_have_to_approve_one_is_not_enough_and_people_are_reminded() {
    const YES: ApprovalAnswer = ApprovalAnswer::Approve;
    let two = || asking(serde_json::json!({"mode": "auto", "approvals": {"required": 2, "groups": ["sre"]}}));
    let mut world = World { policies: two(), ..asked(&[("ann", "sre", YES), ("bob", "dev", YES)]) };
    ends(&mut world, IncidentPhase::Escalated, Reason::ApprovalTimeout);
    assert!(world.writes.is_empty());
    let message = world.status().message;
    assert!(message.contains("1 of 2 people of sre"), "{message}");
    let reminders = world.told.iter().filter(|notice| **notice == Notice::ApprovalAsked).count();
    assert_eq!(reminders, 3, "asked, and twice again: {:?}", world.told);
    let waited = world.status().times.ended.unwrap().duration_since(world.status().times.approval_asked.unwrap());
    assert!(waited.as_secs() <= 1900, "a reminder gives no more time: {waited:?}");

    let mut world = World { policies: two(), ..asked(&[("ann", "sre", YES), ("bob", "sre", YES)]) };
    ends(&mut world, IncidentPhase::Resolved, Reason::Recovered);
    assert!(world.approvals.iter().all(|it| !it.status.as_ref().unwrap().used_by.is_empty()), "both are used up");
    let opened = world.records.iter().find(|record| record.kind == "GrantOpening").unwrap();
    let on_record = opened.details["approvals"].as_array().unwrap();
    assert_eq!(on_record.iter().map(|it| it["approver"].as_str().unwrap()).collect::<Vec<_>>(), ["ann", "bob"]);
    assert_eq!(on_record[0]["groups"], serde_json::json!(["sre"]));
}

#[test]
fn one_no_ends_it_whoever_approves() {
    let mut world = asked(&[("ann", "sre", ApprovalAnswer::Approve), ("eve", "dev", ApprovalAnswer::Deny)]);
    ends(&mut world, IncidentPhase::Escalated, Reason::ApprovalDenied);
    assert!(world.writes.is_empty() && world.status().message.contains("eve denied"), "{}", world.status().message);
    assert!(world.approvals.iter().all(|approval| approval.status.is_none()), "nothing is used up");
}

#[test]
fn what_changes_while_it_waits_is_asked_anew_and_needs_new_approvals() {
    fn changes(incident: &Incident, seen: &Seen, terms: &Terms, now: Time) -> Step {
        // Somebody has edited the template since it was asked for: what is there before is another one.
        let mut seen = seen.clone();
        if now.duration_since(incident.spec.opened_at).as_secs() > 300
            && let Seen::Judgement(case) = &mut seen
            && let Ok(workload) = &mut case.workload
        {
            workload.template["spec"]["terminationGracePeriodSeconds"] = 7.into();
            let hash = names::digest(&[&names::canonical(&workload.template)]);
            let current = &mut workload.revisions[0];
            current.template = workload.template.clone();
            current.fact.template_hash = hash[..16].to_owned();
            current.template_hash = hash;
        }
        step(incident, &seen, terms, now)
    }
    let mut world = asked(&[]);
    assert!(drive(&mut world, changes, |_| Fault::None).ended);
    let digests: std::collections::BTreeSet<String> = world
        .status()
        .timeline
        .iter()
        .filter(|entry| entry.event == "ApprovalAsked")
        .filter_map(|entry| entry.message.rsplit(' ').next().map(str::to_owned))
        .collect();
    assert_eq!(digests.len(), 2, "{digests:?}");
    assert!(world.writes.is_empty());
}

#[test]
fn an_alert_that_ends_before_the_judgement_closes_the_incident() {
    let mut world = World::healthy();
    world.firing = false;
    ends(&mut world, IncidentPhase::Resolved, Reason::AlertResolved);
    assert!(world.writes.is_empty());
}

/// An Alert can be ended or deleted by whoever may write it.
#[test]
fn an_alert_that_ends_while_its_target_fails_leads_to_a_person_and_to_no_write() {
    let mut world = World::new();
    world.firing = false;
    ends(&mut world, IncidentPhase::Escalated, Reason::StillFailing);
    assert!(world.writes.is_empty());

    let mut world = World::new();
    world.mode = Some("approve".into());
    world.alert_ends_when_asked = true;
    ends(&mut world, IncidentPhase::Escalated, Reason::StillFailing);
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
        assert!(world.incident.status.unwrap().unsettled.is_some(), "it is still waited for");
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

/// The executor finds the pod gone, or the controller does right before the Grant: the repair itself goes on.
#[test]
fn a_stuck_pod_that_goes_by_itself_does_not_end_a_repair_that_works() {
    let by_itself = |executor, aftermath| {
        let mut world = World::stateful();
        (world.executor, world.aftermath) = (executor, aftermath);
        ends(&mut world, IncidentPhase::Resolved, Reason::Recovered);
        assert_eq!(purposes(&world), [Purpose::Repair], "nothing was evicted");
        assert!(world.grant.spec.open.is_none());
        let states: Vec<LedgerState> = world.ledger.entries.iter().map(|entry| entry.state).collect();
        assert_eq!(states, [LedgerState::Spent, LedgerState::Refunded], "repair and eviction");
        world.opened.len()
    };
    assert_eq!(by_itself(Executor::FiresAndFindsPodGone, Aftermath::Stuck), 1);
    assert_eq!(by_itself(Executor::Fires, Aftermath::StuckAndGoes), 1, "the eviction never had a Grant");
}

/// As [`step`], but the Ledger was read before somebody else wrote it.
fn step_with_an_old_ledger(
    incident: &crate::api::v1alpha1::Incident,
    seen: &crate::core::incident::Seen,
    terms: &crate::core::incident::Terms,
    now: crate::api::v1alpha1::Time,
) -> crate::core::incident::Step {
    let mut seen = seen.clone();
    if let crate::core::incident::Seen::Judgement(case) = &mut seen {
        case.books.ledger = crate::api::v1alpha1::LedgerStatus::default();
    }
    step(incident, &seen, terms, now)
}

/// A concurrent action was faster: what was decided stays to be read, with every verdict, and nothing was begun.
#[test]
fn what_the_ledger_refuses_is_handed_over_with_the_decision_that_was_made() {
    let mut world = World::new();
    world.ledger.entries.push(LedgerEntry {
        action_id: "f".repeat(32),
        at: world.now,
        namespace: "shop".into(),
        target: "Deployment/web".into(),
        target_uid: "uid-web".into(),
        change: world.workload.change(),
        action: "RolloutUndo".into(),
        node: String::new(),
        failed: String::new(),
        failed_at: None,
        incident: "web-0123456789".into(),
        state: LedgerState::Spent,
        undo: false,
    });
    let run = drive(&mut world, step_with_an_old_ledger, |_| Fault::None);
    assert!(run.ended && world.violations.is_empty(), "{:?}", world.violations);
    assert_eq!((world.phase(), world.reason()), (IncidentPhase::Escalated, "Storm"));
    let status = world.status();
    let decision = status.decision.expect("the decision is kept");
    assert_eq!(decision.outcome, DecisionOutcome::Act);
    assert!(decision.checks.len() > 40 && decision.action.is_some() && decision.digest.is_some());
    assert!(status.times.decided.is_some() && status.reading.is_some());
    assert!(status.message.contains("Deployment/web"), "{}", status.message);
    assert!(status.remediation.is_none() && world.remediations.is_empty() && world.writes.is_empty());
    assert_eq!(world.told, [Notice::Escalated]);
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
    world.broken.pods.push(crate::core::gate::testing::pod("api-2-b", 2, PodFailure::None));
    world.workload = world.broken.clone();
    world.aftermath = Aftermath::MakesItWorse;
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

#[test]
fn a_template_that_cannot_be_stored_twice_goes_to_a_person_before_it_is_paid_for() {
    let mut world = World::new();
    let padding = serde_json::json!("x".repeat(1_100_000));
    for workload in [&mut world.broken, &mut world.workload] {
        workload.template["padding"] = padding.clone();
        workload.revisions[0].template["padding"] = padding.clone();
    }
    ends(&mut world, IncidentPhase::Escalated, Reason::WriteTooLarge);
    assert!(world.remediations.is_empty() && world.ledger.entries.is_empty());
}

#[test]
fn what_is_refused_again_and_again_ends_in_every_phase_and_closes_what_may_be_open() {
    for phase in [
        IncidentPhase::Open,
        IncidentPhase::Investigating,
        IncidentPhase::Judging,
        IncidentPhase::AwaitingApproval,
        IncidentPhase::Remediating,
        IncidentPhase::Verifying,
        IncidentPhase::Undoing,
    ] {
        let mut world = World::new();
        let status = world.incident.status.get_or_insert_default();
        status.phase = phase;
        status.remediation = Some("rem".into());
        let step = blocked(&world.incident, Reason::RequestRefused, "quotas is forbidden", &world.terms, world.now);
        let status = step.status.expect("it ends");
        assert_eq!((status.phase, status.reason.as_str()), (IncidentPhase::Escalated, "RequestRefused"), "{phase:?}");
        assert!(status.message.contains("quotas is forbidden") && status.escalation.is_some());
        assert!(step.effects.contains(&Effect::CloseGrant { remediation: "rem".into() }));
    }
    // Nobody has looked at what it is about, so its severity says nothing.
    let mut world = World::new();
    world.incident.spec.severity = Severity::Info;
    let step = blocked(&world.incident, Reason::RequestRefused, "webhook said no", &world.terms, world.now);
    assert!(step.status.expect("it ends").escalation.is_some(), "nobody is called");
    for phase in [IncidentPhase::Resolved, IncidentPhase::Escalated] {
        let mut world = World::new();
        world.incident.status.get_or_insert_default().phase = phase;
        let step = blocked(&world.incident, Reason::RequestRefused, "no", &world.terms, world.now);
        assert!(step.status.is_none() && step.effects.is_empty(), "one that is over stays as it is");
    }
    // A recovered target of which nothing can be seen any more.
    let mut world = World::new();
    let status = world.incident.status.get_or_insert_default();
    (status.phase, status.watch) = (IncidentPhase::Resolved, Some(Watch { since: world.now, ..Watch::default() }));
    let step = blocked(&world.incident, Reason::RequestRefused, "alerts is forbidden", &world.terms, world.now);
    let status = step.status.expect("it is handed over");
    assert_eq!((status.phase, status.reason.as_str()), (IncidentPhase::Escalated, "RequestRefused"));
    assert!(status.escalation.is_some() && status.watch.unwrap().over == Some(world.now));
}

/// As [`step`], but the target looks well for some seconds after the decision.
fn step_while_it_looks_well(
    incident: &crate::api::v1alpha1::Incident,
    seen: &crate::core::incident::Seen,
    terms: &crate::core::incident::Terms,
    now: crate::api::v1alpha1::Time,
) -> crate::core::incident::Step {
    use crate::core::incident::Seen;
    let decided = incident.status.as_ref().and_then(|status| status.times.decided);
    let mut seen = seen.clone();
    if let Seen::WriteAndJudgement(found) = &mut seen
        && decided.is_some_and(|decided| now.duration_since(decided) < jiff::SignedDuration::from_secs(6))
        && let Ok(workload) = &mut found.case.workload
    {
        testing::heal(workload);
    }
    step(incident, &seen, terms, now)
}

#[test]
fn what_looks_well_for_a_moment_right_before_the_write_is_looked_at_again() {
    let mut world = World::new();
    let run = drive(&mut world, step_while_it_looks_well, |_| Fault::None);
    assert!(run.ended && world.violations.is_empty(), "{:?}", world.violations);
    assert_eq!((world.phase(), world.reason()), (IncidentPhase::Resolved, Reason::Recovered.as_str()));
    assert_eq!(purposes(&world), [Purpose::Repair]);
}

/// As [`step`], but after the decision the pods fail in another way: a container that is ended again and again is now
/// running and not ready, now waiting.
fn step_while_it_fails_otherwise(
    incident: &crate::api::v1alpha1::Incident,
    seen: &crate::core::incident::Seen,
    terms: &crate::core::incident::Terms,
    now: crate::api::v1alpha1::Time,
) -> crate::core::incident::Step {
    use crate::api::v1alpha1::PodFailure;
    use crate::core::incident::Seen;
    let mut seen = seen.clone();
    if let Seen::WriteAndJudgement(found) = &mut seen
        && let Ok(workload) = &mut found.case.workload
    {
        for pod in workload.pods.iter_mut().filter(|pod| pod.fact.failure.is_hard()) {
            pod.fact.failure = match pod.fact.failure {
                PodFailure::LivenessFailing => PodFailure::CrashLoop,
                _ => PodFailure::LivenessFailing,
            };
        }
    }
    step(incident, &seen, terms, now)
}

#[test]
fn pods_that_fail_in_another_way_right_before_the_write_are_no_lie_and_the_write_is_made() {
    let mut world = World::new();
    let run = drive(&mut world, step_while_it_fails_otherwise, |_| Fault::None);
    assert!(run.ended && world.violations.is_empty(), "{:?}", world.violations);
    assert_eq!((world.phase(), world.reason()), (IncidentPhase::Resolved, Reason::Recovered.as_str()));
    assert_eq!(purposes(&world), [Purpose::Repair]);
}
