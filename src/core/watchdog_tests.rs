use super::*;
use crate::api::v1alpha1::{AlertSpec, Plan, PlannedChain, Watch};

const PATIENCE: SignedDuration = SignedDuration::from_mins(5);

fn at(second: i64) -> Time {
    Time::from_second(1_800_000_000 + second).unwrap()
}

fn an_incident(name: &str, phase: IncidentPhase) -> Incident {
    let mut made = Incident::new(
        name,
        serde_json::from_value(json!({"alerts": [], "requestId": "r", "openedAt": at(0)})).unwrap(),
    );
    made.metadata.namespace = Some("shop".into());
    made.status = Some(IncidentStatus { phase, ..IncidentStatus::default() });
    made
}

fn subjects(incidents: &[Incident]) -> Vec<Subject> {
    incidents.iter().filter_map(|one| incident(one, &Timings::default())).collect()
}

fn fails(_: &Key) -> Steps {
    Steps { ended_well: None, error: Some("list Policies: unknown variant `freeze`".into()) }
}

#[test]
fn an_incident_whose_steps_fail_is_told_after_five_minutes_and_names_the_error() {
    for phase in [
        IncidentPhase::Open,
        IncidentPhase::Investigating,
        IncidentPhase::Judging,
        IncidentPhase::AwaitingApproval,
        IncidentPhase::Remediating,
        IncidentPhase::Verifying,
        IncidentPhase::Undoing,
    ] {
        let mut watchdog = Watchdog::new(PATIENCE);
        let all = [an_incident("api", phase)];
        for second in [0, 15, 299] {
            assert_eq!(watchdog.look(subjects(&all), fails, at(second)), [], "{phase:?} {second}");
        }
        let stuck = watchdog.look(subjects(&all), fails, at(300));
        assert_eq!(stuck.len(), 1, "{phase:?}");
        assert!(stuck[0].why.sentence().contains("unknown variant `freeze`"), "{}", stuck[0].why.sentence());
    }
}

#[test]
fn a_round_has_the_time_that_its_models_may_take() {
    let mut asked = an_incident("a", IncidentPhase::Investigating);
    let allowance = |asked: &Incident| subjects(std::slice::from_ref(asked))[0].allowance.unwrap();
    let short = allowance(&asked);
    let chain = PlannedChain { deadline_seconds: 240, ..PlannedChain::default() };
    asked.status.as_mut().unwrap().plan = Some(Plan { model_chain: Some(chain), ..Plan::default() }.into());
    let long = allowance(&asked);
    assert_eq!(long - short, SignedDuration::from_secs(240));
}

#[test]
fn an_incident_that_is_over_or_gone_is_forgotten() {
    let mut watchdog = Watchdog::new(PATIENCE);
    watchdog.look(subjects(&[an_incident("a", IncidentPhase::Open)]), fails, at(0));
    assert_eq!(watchdog.len(), 1);
    for phase in [IncidentPhase::Resolved, IncidentPhase::Escalated] {
        assert_eq!(watchdog.look(subjects(&[an_incident("a", phase)]), fails, at(4000)), []);
    }
    assert!(watchdog.is_empty());
}

/// Incidents that are over, with what is left to do: a watch, a page that nobody has tried, one that did not arrive.
fn left_over() -> [Incident; 3] {
    let mut watched = an_incident("watched", IncidentPhase::Resolved);
    watched.status.as_mut().unwrap().watch = Some(Watch { since: at(0), over: None, failing_since: None });
    let mut untold = an_incident("untold", IncidentPhase::Escalated);
    untold.status.as_mut().unwrap().escalation = Some(Box::default());
    let mut unheard = untold.clone();
    unheard.metadata.name = Some("unheard".into());
    unheard.status.as_mut().unwrap().escalation.as_mut().unwrap().attempts = 3;
    [watched, untold, unheard]
}

#[test]
fn one_that_is_over_and_watched_or_has_to_tell_is_told_of_once_its_steps_do_not_end() {
    let mut watchdog = Watchdog::new(PATIENCE);
    let mut first = BTreeMap::new();
    for second in (0..3 * 3600).step_by(15) {
        for one in watchdog.look(subjects(&left_over()), fails, at(second)) {
            assert!(matches!(one.why, Why::NoStepEnds { error: Some(_), .. }), "{:?}", one.why);
            first.entry(one.key.name).or_insert(second);
        }
    }
    let expected = [("unheard", 300 + 1800), ("untold", 300), ("watched", 300 + 120)];
    assert_eq!(first, expected.map(|(name, second)| (name.to_owned(), second)).into());
}

#[test]
fn one_that_is_over_is_left_alone_while_its_steps_end_however_long_an_alert_goes_on_or_a_receiver_is_down() {
    let mut watchdog = Watchdog::new(PATIENCE);
    for second in (0..2 * 86_400).step_by(60) {
        let well = |key: &Key| {
            let rest = match key.name.as_str() {
                "watched" => 120,
                "unheard" => 1800,
                _ => 60,
            };
            Steps { ended_well: Some(at(second - second % rest)), error: None }
        };
        assert_eq!(watchdog.look(subjects(&left_over()), well, at(second)), [], "{second}");
    }
}

#[test]
fn a_watch_that_is_handed_over_is_over() {
    let [watched, ..] = left_over();
    let why = Why::NoStepEnds { lasting: PATIENCE, error: None };
    let [keep, _] = minimal(&watched, &why, at(9));
    let mut stored = serde_json::to_value(watched.status.clone()).unwrap();
    json_patch::merge(&mut stored, &keep);
    let stored: IncidentStatus = serde_json::from_value(stored).unwrap();
    assert_eq!((stored.phase, stored.watch.unwrap().over), (IncidentPhase::Escalated, Some(at(9))));
}

#[test]
fn who_waits_for_a_person_or_a_rollout_is_left_alone_while_its_steps_end_well() {
    let mut watchdog = Watchdog::new(PATIENCE);
    let all = [an_incident("a", IncidentPhase::AwaitingApproval), an_incident("b", IncidentPhase::Verifying)];
    let mut told = vec![];
    for second in (0..3 * 3600).step_by(15) {
        let well = |_: &Key| Steps { ended_well: Some(at(second)), error: None };
        for one in watchdog.look(subjects(&all), well, at(second)) {
            watchdog.handed_over(&one.key, HandedOver::Stored, at(second));
            told.push((second, one.key.name));
        }
    }
    let first = |name: &str| told.iter().find(|(_, told)| told == name).map(|(second, _)| *second);
    assert_eq!(first("a"), Some(1800 + 300), "the approval's own time, and five minutes");
    assert_eq!(first("b"), Some(7200 + 300), "longer than any deadline of a rollout");
}

#[test]
fn whatever_changes_in_its_status_is_progress_and_an_edit_is_none() {
    let mut watchdog = Watchdog::new(PATIENCE);
    let mut one = an_incident("a", IncidentPhase::Judging);
    watchdog.look(subjects(std::slice::from_ref(&one)), fails, at(0));
    one.status.as_mut().unwrap().rounds = 2;
    assert_eq!(watchdog.look(subjects(std::slice::from_ref(&one)), fails, at(290)), []);
    one.metadata.resource_version = Some("77".into());
    one.metadata.labels = Some([("by".to_string(), "somebody".to_string())].into());
    assert_eq!(watchdog.look(subjects(std::slice::from_ref(&one)), fails, at(580)), []);
    assert_eq!(watchdog.look(subjects(std::slice::from_ref(&one)), fails, at(590)).len(), 1);
}

#[test]
fn a_page_that_cannot_be_stored_is_sent_once_and_then_with_growing_pauses() {
    let mut watchdog = Watchdog::new(PATIENCE);
    let all = [an_incident("a", IncidentPhase::Open)];
    let mut pages = vec![];
    for second in (0..24 * 3600).step_by(15) {
        for one in watchdog.look(subjects(&all), fails, at(second)) {
            watchdog.handed_over(&one.key, HandedOver::Told, at(second));
            pages.push(second);
        }
    }
    assert_eq!(pages[..4], [300, 600, 1200, 2400]);
    let pauses: Vec<i64> = pages.windows(2).map(|two| two[1] - two[0]).collect();
    assert!(pauses.is_sorted() && pauses.iter().all(|pause| *pause <= 6 * 3600), "{pauses:?}");
    assert!(pages.len() < 12, "{pages:?}");
}

#[test]
fn a_page_that_did_not_arrive_is_sent_again_after_a_minute() {
    let mut watchdog = Watchdog::new(PATIENCE);
    let all = [an_incident("a", IncidentPhase::Open)];
    watchdog.look(subjects(&all), fails, at(0));
    let stuck = watchdog.look(subjects(&all), fails, at(300));
    watchdog.handed_over(&stuck[0].key, HandedOver::Unheard, at(300));
    assert_eq!(watchdog.look(subjects(&all), fails, at(345)), []);
    assert_eq!(watchdog.look(subjects(&all), fails, at(360)).len(), 1);
}

#[test]
fn when_nothing_gets_on_anywhere_few_are_told_at_once_and_all_in_the_end() {
    let mut watchdog = Watchdog::new(PATIENCE);
    let all: Vec<Incident> = (0..100).map(|n| an_incident(&format!("i{n}"), IncidentPhase::Open)).collect();
    watchdog.look(subjects(&all), fails, at(0));
    let mut told = std::collections::BTreeSet::new();
    for second in (300..420).step_by(15) {
        let stuck = watchdog.look(subjects(&all), fails, at(second));
        assert!(stuck.len() <= AT_ONCE);
        for one in stuck {
            watchdog.handed_over(&one.key, HandedOver::Told, at(second));
            told.insert(one.key.name);
        }
    }
    assert_eq!(told.len(), 100);
}

#[test]
fn an_alert_that_finds_no_incident_is_told_too() {
    let spec: AlertSpec = serde_json::from_value(json!({"fingerprint": "f", "labels": {}, "startsAt": at(0)})).unwrap();
    let mut one = Alert::new("a", spec);
    assert!(alert(&one).is_some());
    one.status = Some(serde_json::from_value(json!({"incident": "api-1", "incidentNamespace": "shop"})).unwrap());
    assert!(alert(&one).is_none(), "it has one");
    one.status = None;
    one.spec.ends_at = Some(at(1));
    assert!(alert(&one).is_none(), "it ended");
}

#[test]
fn only_what_is_still_where_the_cache_shows_it_is_handed_over() {
    let one = an_incident("a", IncidentPhase::Judging);
    for (stored, same) in [
        (json!({"phase": "Judging"}), true),
        (json!({"phase": "Judging", "times": {}, "plan": {"unknown": "newer"}}), true),
        (json!({"phase": "Judging", "times": {"asked": at(1)}}), false),
        (json!({"phase": "Remediating"}), false),
        (json!({"phase": "OfTomorrow"}), false),
        (json!(null), false),
    ] {
        assert_eq!(is_where(&one, &stored), same, "{stored}");
    }
    assert!(is_where(&an_incident("a", IncidentPhase::Open), &json!(null)), "it has no status yet");
}

#[test]
fn the_minimal_status_is_taken_whatever_was_there_and_keeps_the_names_of_what_was_begun() {
    let mut one = an_incident("api", IncidentPhase::Remediating);
    let status = one.status.as_mut().unwrap();
    status.remediation = Some("api-rem".into());
    status.rounds = 3;
    status.timeline = vec![Default::default()];
    let why = Why::NoStepEnds { lasting: PATIENCE, error: Some("x".repeat(600)) };
    let [keep, bare] = minimal(&one, &why, at(9));
    for (patch, lines) in [(keep, 1), (bare, 0)] {
        let mut stored = serde_json::to_value(one.status.clone()).unwrap();
        json_patch::merge(&mut stored, &patch);
        let stored: IncidentStatus = serde_json::from_value(stored).unwrap();
        assert_eq!((stored.phase, stored.reason.as_str()), (IncidentPhase::Escalated, "NoProgress"));
        assert_eq!(stored.remediation.as_deref(), Some("api-rem"));
        assert_eq!((stored.timeline.len(), stored.times.ended), (lines, Some(at(9))));
        assert!(stored.escalation.unwrap().next_step.contains("kubectl -n shop get incident api"));
        assert!(stored.message.chars().count() < 2048);
    }
}
