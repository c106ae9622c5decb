//! What people were asked, or have approved, is not lost because something hinders that it is judged at one time.

use std::collections::BTreeSet;

use super::phases::{ends, purposes};
use super::{Fault, World, drive};
use crate::api::v1alpha1::{Incident, IncidentPhase, LedgerEntry, LedgerState, Policy, Severity, Time};
use crate::core::gate::Unreadable;
use crate::core::incident::{JudgementInputs, Notice, Seen, Step, Terms, step, unanswered};
use crate::core::policy::CompiledPolicy;
use crate::core::reason::Reason;

/// The API server does not answer one read of the target.
const UNREADABLE: u8 = 0;
/// Another write of the namespace is under way.
const ANOTHER: u8 = 1;
/// The checks give no answer.
const LATE: u8 = 2;
/// People are reminded so long after they were asked.
const REMINDED: i64 = 600;
const NEVER: i64 = i64::MAX;

fn another_write(now: Time) -> LedgerEntry {
    LedgerEntry {
        action_id: "f".repeat(32),
        namespace: "shop".into(),
        target_uid: "uid-web".into(),
        target: "Deployment/web".into(),
        action: "RolloutUndo".into(),
        node: String::new(),
        failed: String::new(),
        failed_at: None,
        change: None,
        incident: "web-0".into(),
        at: now,
        state: LedgerState::Reserved,
        undo: false,
    }
}

/// As [`step`], but `WHAT` hinders every judgement from second `FROM` to second `TO`, and nobody approves before second `YES`.
fn hindered<const WHAT: u8, const FROM: i64, const TO: i64, const YES: i64>(
    incident: &Incident,
    seen: &Seen,
    terms: &Terms,
    now: Time,
) -> Step {
    let second = now.duration_since(incident.spec.opened_at).as_secs();
    let mut seen = seen.clone();
    let all_of = |case: &mut JudgementInputs| {
        if second < YES {
            case.books.approvals.clear();
        }
        if (FROM..TO).contains(&second) && WHAT == UNREADABLE {
            let message = "the API server did not answer".to_owned();
            case.workload = Err(Unreadable { reason: Reason::ClusterUnreadable, message });
        }
        if (FROM..TO).contains(&second) && WHAT == ANOTHER {
            case.books.ledger.entries.push(another_write(now));
        }
    };
    match &mut seen {
        Seen::Approvals { approvals, .. } if second < YES => approvals.clear(),
        Seen::Judgement(_) if (FROM..TO).contains(&second) && WHAT == LATE => {
            return unanswered(incident, "there was none in time", terms, now).expect("it is judged");
        }
        Seen::Judgement(case) => all_of(case),
        _ => {}
    }
    step(incident, &seen, terms, now)
}

/// In mode approve, where a Policy allows one write at one time, and people approve.
fn world() -> World {
    let one = serde_json::json!({"mode": "auto", "limits": {"concurrent": 1}});
    let policies = vec![CompiledPolicy::of(&Policy::new("p", serde_json::from_value(one).unwrap()))];
    World { mode: Some("approve".into()), approves: true, policies, ..World::new() }
}

type Hindered = fn(&Incident, &Seen, &Terms, Time) -> Step;

#[test]
fn what_hinders_one_judgement_while_people_are_waited_for_costs_neither_the_wait_nor_their_yes() {
    const AT_YES: i64 = 720;
    let cases: [(&str, Hindered); 6] = [
        ("unreadable at the reminder", hindered::<UNREADABLE, REMINDED, 630, 1200>),
        ("another write at the reminder", hindered::<ANOTHER, REMINDED, 630, 1200>),
        ("no answer at the reminder", hindered::<LATE, REMINDED, 630, 1200>),
        ("unreadable after the yes", hindered::<UNREADABLE, AT_YES, 790, AT_YES>),
        ("another write after the yes", hindered::<ANOTHER, AT_YES, 790, AT_YES>),
        ("no answer after the yes", hindered::<LATE, AT_YES, 790, AT_YES>),
    ];
    for (what, hindered) in cases {
        let mut world = world();
        assert!(drive(&mut world, hindered, |_| Fault::None).ended, "{what}");
        assert!(world.violations.is_empty(), "{what}: {:?}", world.violations);
        let ended = (world.phase(), world.reason(), purposes(&world).len());
        assert_eq!(ended, (IncidentPhase::Resolved, "Recovered", 1), "{what}: {}", world.status().message);
        assert_eq!(world.approvals.len(), 1, "{what}: nobody is asked for another yes");
        let asked = world.told.iter().filter(|notice| **notice == Notice::ApprovalAsked).count();
        assert_eq!(asked, 2, "{what}: asked, and reminded once: {:?}", world.told);
    }
}

fn seconds_waited(world: &World) -> i64 {
    let times = world.status().times;
    times.ended.unwrap().duration_since(times.approval_asked.unwrap()).as_secs()
}

#[test]
fn what_hinders_it_until_the_time_to_approve_is_over_is_why_it_ends() {
    let cases: [(&str, Hindered); 3] = [
        ("ClusterUnreadable", hindered::<UNREADABLE, 720, NEVER, 720>),
        ("TooManyAtOnce", hindered::<ANOTHER, 720, NEVER, 720>),
        ("ChecksUnanswered", hindered::<LATE, 720, NEVER, 720>),
    ];
    for (reason, hindered) in cases {
        let mut world = world();
        assert!(drive(&mut world, hindered, |_| Fault::None).ended, "{reason}");
        assert_eq!((world.phase(), world.reason()), (IncidentPhase::Escalated, reason));
        assert!(world.writes.is_empty());
        assert!((1800..1900).contains(&seconds_waited(&world)), "{reason}: {}", seconds_waited(&world));
    }
    // Nobody has approved, so that is why; what hindered the reminder is told too.
    let mut world = world();
    assert!(drive(&mut world, hindered::<UNREADABLE, REMINDED, NEVER, NEVER>, |_| Fault::None).ended);
    assert_eq!((world.phase(), world.reason()), (IncidentPhase::Escalated, "ApprovalTimeout"));
    assert!(world.status().message.contains("did not answer"), "{}", world.status().message);
    assert!((1800..1900).contains(&seconds_waited(&world)), "{}", seconds_waited(&world));
}

/// As [`step`], but the Ledger was read before somebody else wrote it.
fn with_an_old_ledger(incident: &Incident, seen: &Seen, terms: &Terms, now: Time) -> Step {
    let mut seen = seen.clone();
    if let Seen::Judgement(case) = &mut seen {
        case.books.ledger.entries.clear();
    }
    step(incident, &seen, terms, now)
}

#[test]
fn a_write_that_was_faster_than_one_that_people_approved_ends_and_the_approved_one_is_made() {
    let mut world = world();
    // It is under way for longer than people have to approve.
    world.ledger.entries.push(another_write(world.now + jiff::SignedDuration::from_mins(15)));
    let mut settled = world.clone();
    assert!(drive(&mut world, with_an_old_ledger, |_| Fault::None).ended);
    assert_eq!((world.phase(), world.reason()), (IncidentPhase::Escalated, "TooManyAtOnce"));
    assert!((1800..1900).contains(&seconds_waited(&world)), "{}", seconds_waited(&world));

    settled.ledger.entries[0].state = LedgerState::Spent;
    ends(&mut settled, IncidentPhase::Resolved, Reason::Recovered);
}

/// As [`step`], but right before the write the target cannot be read for some seconds.
fn unreadable_before_the_write(incident: &Incident, seen: &Seen, terms: &Terms, now: Time) -> Step {
    let decided = incident.status.as_ref().and_then(|status| status.times.decided);
    let mut seen = seen.clone();
    if let Seen::WriteAndJudgement(found) = &mut seen
        && decided.is_some_and(|decided| now.duration_since(decided).as_secs() < 6)
    {
        let message = "the API server did not answer".to_owned();
        found.case.workload = Err(Unreadable { reason: Reason::ClusterUnreadable, message });
    }
    step(incident, &seen, terms, now)
}

#[test]
fn a_reading_that_fails_right_before_the_write_is_taken_again() {
    let mut world = world();
    assert!(drive(&mut world, unreadable_before_the_write, |_| Fault::None).ended);
    assert!(world.violations.is_empty(), "{:?}", world.violations);
    assert_eq!((world.phase(), world.reason()), (IncidentPhase::Resolved, "Recovered"));
    assert_eq!(world.approvals.len(), 1);
}

#[test]
fn checks_that_never_answer_call_a_person_whatever_the_severity() {
    let mut world = World::new();
    world.incident.spec.severity = Severity::Info;
    assert!(drive(&mut world, hindered::<LATE, 0, NEVER, NEVER>, |_| Fault::None).ended);
    assert_eq!((world.phase(), world.reason()), (IncidentPhase::Escalated, "ChecksUnanswered"));
    assert_eq!(world.told, [Notice::Escalated], "nobody has looked at what it is about");
}

#[test]
fn people_who_are_asked_hear_at_once_of_what_joins_and_is_worse_and_soon_of_what_is_new() {
    const SAME: &str = "KubePodCrashLooping";
    // Severity of the incident and what joins; how often people are asked; seconds until they are asked again.
    let cases = [
        (Severity::Warning, (Severity::Warning, SAME), 3, 600..630),
        (Severity::Critical, (Severity::Warning, SAME), 3, 600..630),
        (Severity::Warning, (Severity::Critical, SAME), 4, 0..30),
        (Severity::Warning, (Severity::Critical, "KubeDeploymentReplicasMismatch"), 4, 0..30),
        (Severity::Critical, (Severity::Info, "KubeDeploymentReplicasMismatch"), 4, 60..90),
        // Nobody had been asked: all the time is left.
        (Severity::Info, (Severity::Critical, SAME), 3, 0..30),
    ];
    for (severity, joins, times, again) in cases {
        let what = format!("{severity:?} and {joins:?}");
        let mut world = World { mode: Some("approve".into()), joins_when_asked: Some(joins), ..World::new() };
        world.incident.spec.severity = severity;
        ends(&mut world, IncidentPhase::Escalated, Reason::ApprovalTimeout);
        // What joins while a delivery is noted lets it be noted again.
        let told = world.told.iter().zip(&world.occasions).filter(|(notice, _)| **notice == Notice::ApprovalAsked);
        let told: BTreeSet<&String> = told.map(|(_, occasion)| occasion).collect();
        assert_eq!(told.len(), times, "{what}: {:?}", world.told);
        let timeline = world.status().timeline;
        let asked: Vec<Time> = timeline.iter().filter(|it| it.event == "ApprovalAsked").map(|it| it.at).collect();
        let pause = asked[1].duration_since(asked[0]).as_secs();
        assert!(again.contains(&pause), "{what}: asked again after {pause} s");
        assert!((1800..1900).contains(&seconds_waited(&world)), "{what}: {}", seconds_waited(&world));
    }
}

#[test]
fn what_joins_an_incident_that_asks_nobody_keeps_asking_nobody() {
    let joins = Some((Severity::Info, "CPUThrottlingHigh"));
    let mut world = World { mode: Some("approve".into()), joins_when_asked: joins, ..World::new() };
    world.incident.spec.severity = Severity::Info;
    assert!(drive(&mut world, step, |_| Fault::None).ended);
    assert_eq!((world.reason(), world.told.len()), ("ApprovalTimeout", 0), "{:?}", world.told);
}
