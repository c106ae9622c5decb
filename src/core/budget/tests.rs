use proptest::prelude::*;

use super::breaker::closed;
use super::*;
use crate::api::v1alpha1::{Anomaly, BreakerState, Severity};

fn at(second: i64) -> Time {
    Time::from_second(1_800_000_000 + second).unwrap()
}

fn charge(id: &str, uid: &str) -> Charge {
    Charge {
        action_id: id.into(),
        namespace: "shop".into(),
        target_uid: uid.into(),
        target: format!("Deployment/{uid}"),
        action: ActionKind::RolloutUndo,
        node: None,
        change: None,
        incident: "inc".into(),
        undo: false,
        policy_per_hour: None,
        policy_cooldown: None,
        policy_concurrent: None,
    }
}

fn bad(second: i64, incident: &str) -> Anomaly {
    Anomaly { at: at(second), kind: "VerifyFailed".into(), incident: format!("shop/{incident}") }
}

#[test]
fn the_same_action_is_charged_once() {
    let budgets = Budgets { actions_per_hour: 1, ..Budgets::default() };
    let one = reserve(&LedgerStatus::default(), &charge("a", "u"), &budgets, at(0)).unwrap();
    assert_eq!(reserve(&one, &charge("a", "u"), &budgets, at(1)).unwrap(), one);
}

#[test]
fn a_target_rests_after_an_action_even_if_its_outcome_is_unknown() {
    let budgets = Budgets::default();
    let one = reserve(&LedgerStatus::default(), &charge("a", "u"), &budgets, at(0)).unwrap();
    assert_eq!(reserve(&one, &charge("b", "u"), &budgets, at(1799)).unwrap_err().reason, Reason::Cooldown);
    assert!(reserve(&one, &charge("b", "u"), &budgets, at(1800)).is_ok());
    assert!(reserve(&one, &charge("b", "other"), &budgets, at(1)).is_ok());
}

#[test]
fn only_a_proof_that_nothing_happened_refunds() {
    let budgets = Budgets::default();
    let one = reserve(&LedgerStatus::default(), &charge("a", "u"), &budgets, at(0)).unwrap();
    assert!(reserve(&settle(&one, "a", LedgerState::Spent), &charge("b", "u"), &budgets, at(1)).is_err());
    assert!(reserve(&settle(&one, "a", LedgerState::Refunded), &charge("b", "u"), &budgets, at(1)).is_ok());
}

#[test]
fn an_undo_is_always_charged_and_never_refused() {
    let budgets = Budgets { actions_per_hour: 0, ..Budgets::default() };
    let undo = Charge { undo: true, ..charge("a", "u") };
    assert_eq!(reserve(&LedgerStatus::default(), &undo, &budgets, at(0)).unwrap().entries.len(), 1);
}

#[test]
fn a_policy_can_lower_the_hourly_budget_and_not_raise_it() {
    let budgets = Budgets { actions_per_namespace_per_hour: 1, ..Budgets::default() };
    let one = reserve(&LedgerStatus::default(), &charge("a", "u"), &budgets, at(0)).unwrap();
    let more = Charge { policy_per_hour: Some(99), ..charge("b", "v") };
    assert_eq!(reserve(&one, &more, &budgets, at(1)).unwrap_err().reason, Reason::HourlyBudget);
    let none = Charge { policy_per_hour: Some(0), ..charge("a", "u") };
    assert!(reserve(&LedgerStatus::default(), &none, &budgets, at(0)).is_err());
}

/// Whether this action, in namespace `shop`, is let through.
fn open_for(ledger: &LedgerStatus, id: &str, budgets: &Budgets, now: Time) -> bool {
    closed(ledger, &charge(id, "u"), budgets, now).is_ok()
}

/// The breaker of namespace `shop`.
fn own(ledger: &LedgerStatus) -> BreakerState {
    let own = ledger.breakers.iter().find(|breaker| breaker.namespace == "shop");
    own.map(|own| own.breaker.state).unwrap_or_default()
}

#[test]
fn enough_anomalies_open_the_breaker_and_one_trial_follows_the_cooldown() {
    let budgets = Budgets { cascade_anomalies: 3, ..Budgets::default() };
    let ledger = anomaly(&LedgerStatus::default(), bad(0, "a"), &budgets);
    assert!(open_for(&ledger, "x", &budgets, at(1)));
    let ledger = anomaly(&ledger, bad(1, "b"), &budgets);
    let refusal = closed(&ledger, &charge("x", "u"), &budgets, at(2)).unwrap_err();
    assert_eq!(refusal.reason, Reason::BreakerOpen);
    assert!(refusal.message.contains("namespace shop"), "{}", refusal.message);
    let later = at(1 + 900);
    let trial = reserve(&ledger, &charge("x", "u"), &budgets, later).unwrap();
    assert!(reserve(&trial, &charge("y", "v"), &budgets, later).is_err());
    assert!(open_for(&trial_succeeded(&trial, "x"), "y", &budgets, later));
    assert_eq!(own(&anomaly(&trial, bad(950, "c"), &budgets)), BreakerState::Open);
}

/// The tenant who writes pays alone.
#[test]
fn what_goes_wrong_in_one_namespace_stops_no_other_and_what_an_investigation_says_never_does() {
    let budgets = Budgets { cascade_anomalies: 3, ..Budgets::default() };
    let elsewhere = Charge { namespace: "other".into(), ..charge("x", "u") };
    let anomalies = |kind: &str, namespaces: [&str; 6]| {
        namespaces.iter().enumerate().fold(LedgerStatus::default(), |ledger, (number, namespace)| {
            let incident = format!("{namespace}/{number}");
            anomaly(&ledger, Anomaly { at: at(0), kind: kind.into(), incident }, &budgets)
        })
    };
    let one = anomalies("VerifyFailed", ["shop"; 6]);
    assert!(!open_for(&one, "x", &budgets, at(1)));
    assert!(closed(&one, &elsewhere, &budgets, at(1)).is_ok());
    let spread = ["a", "b", "a", "b", "c", "c"];
    let said = anomalies("ClaimUngrounded", spread);
    assert!(closed(&said, &elsewhere, &budgets, at(1)).is_ok(), "whatever the investigator says");
    let refused = anomalies("RefusedByPolicy", spread);
    assert!(closed(&refused, &elsewhere, &budgets, at(1)).is_ok(), "webhooks of tenants refuse");
    let failed = anomalies("VerifyFailed", spread);
    assert!(closed(&failed, &elsewhere, &budgets, at(1)).is_err(), "our own writes do not help anywhere");
    assert_eq!(failed.breaker.state, BreakerState::Open);
}

#[test]
fn the_anomalies_of_one_namespace_leave_room_for_those_of_others() {
    let budgets = Budgets { cascade_anomalies: 1000, ..Budgets::default() };
    let mut ledger = LedgerStatus::default();
    for number in 0..300 {
        ledger = anomaly(&ledger, bad(0, &number.to_string()), &budgets);
    }
    let before = ledger.anomalies.len();
    let other = Anomaly { incident: "other/a".into(), ..bad(0, "a") };
    assert_eq!(anomaly(&ledger, other, &budgets).anomalies.len(), before + 1);
}

/// A model lies in forty incidents of each of five namespaces; meanwhile three repairs make things worse.
#[test]
fn a_list_full_of_lies_keeps_no_failed_write_from_being_counted() {
    let budgets = Budgets::default();
    let mut ledger = LedgerStatus::default();
    for number in 0..400 {
        let incident = format!("lied-{}/{number}", number % 5);
        let lie = Anomaly { at: at(0), kind: Reason::ClaimUngrounded.as_str().into(), incident };
        ledger = anomaly(&ledger, lie, &budgets);
    }
    assert_eq!((ledger.anomalies.len(), ledger.breakers.len()), (200, 5));
    let other = Anomaly { kind: Reason::ClaimUngrounded.as_str().into(), ..bad(0, "lie") };
    assert_eq!(anomaly(&ledger, other.clone(), &budgets).anomalies.last(), Some(&other), "there is room for each");
    for incident in ["a", "b", "c"] {
        ledger = anomaly(&ledger, bad(1, incident), &budgets);
    }
    assert_eq!((own(&ledger), ledger.breaker.state), (BreakerState::Open, BreakerState::Closed));
    let elsewhere = Anomaly { incident: "pay/a".into(), ..bad(1, "a") };
    let ledger = anomaly(&ledger, elsewhere, &budgets);
    assert_eq!((ledger.breaker.state, ledger.anomalies.len()), (BreakerState::Open, 200));
}

#[test]
fn in_a_namespace_with_all_that_it_may_have_what_says_least_goes_first_and_what_finds_no_room_opens_its_breaker() {
    let budgets = Budgets { cascade_anomalies: 1000, ..Budgets::default() };
    let of = |kind: Reason, number: usize| Anomaly { kind: kind.as_str().into(), ..bad(0, &number.to_string()) };
    let kinds = [Reason::ClaimUngrounded, Reason::RefusedByPolicy, Reason::VerifyFailed];
    let mut ledger = LedgerStatus::default();
    for (round, kind) in kinds.into_iter().enumerate() {
        for number in 0..40 {
            ledger = anomaly(&ledger, of(kind, 100 * round + number), &budgets);
        }
        assert_eq!(ledger.anomalies.len(), 40);
        assert!(ledger.anomalies.iter().all(|it| it.kind == kind.as_str()), "{kind}");
    }
    assert_eq!(own(&ledger), BreakerState::Closed, "as the settings say");
    let lost = anomaly(&ledger, of(Reason::ClaimUngrounded, 999), &budgets);
    assert_eq!((lost.anomalies.len(), own(&lost)), (40, BreakerState::Open));
}

#[test]
fn no_open_breaker_is_forgotten_for_want_of_room() {
    let budgets = Budgets { cascade_anomalies: 1, ..Budgets::default() };
    let lie = |second: i64, namespace: usize| Anomaly {
        at: at(second),
        kind: Reason::ClaimUngrounded.as_str().into(),
        incident: format!("n{namespace}/a"),
    };
    let full = (0..500).fold(LedgerStatus::default(), |ledger, number| {
        anomaly(&ledger, lie(i64::from(number != 7), number), &budgets)
    });
    let names = |ledger: &LedgerStatus| ledger.breakers.iter().map(|own| own.namespace.clone()).collect::<Vec<_>>();
    assert_eq!((full.breakers.len(), full.breaker.state), (500, BreakerState::Closed));
    let one_more = anomaly(&full, lie(2, 500), &budgets);
    assert_eq!((names(&one_more), one_more.breaker.state), (names(&full), BreakerState::Open));
    assert!(breaker::told_by(&one_more, "n500/a")[0].contains("ClaimUngrounded of Incident n500/a"));
    let later = anomaly(&full, lie(900, 500), &budgets);
    assert_eq!((later.breakers.len(), later.breaker.state), (500, BreakerState::Closed));
    assert!(!names(&later).contains(&"n7".into()) && names(&later).contains(&"n500".into()), "it was open the longest");
}

#[test]
fn more_storms_than_the_ledger_can_hold_are_a_storm_of_the_cluster() {
    let claim = |number: usize| storm::Claim {
        namespace: format!("n{number}"),
        incident: "i".into(),
        severity: Severity::Warning,
        target: "Deployment/a".into(),
        workloads: vec!["Deployment/a".into()],
    };
    let noted = |count| (0..count).fold(LedgerStatus::default(), |it, n| storm::claim(&it, &claim(n), at(0)).unwrap());
    assert_eq!(noted(200).breaker.state, BreakerState::Closed);
    let first = Charge { namespace: "n0".into(), ..charge("x", "u") };
    assert!(reserve(&noted(201), &first, &Budgets::default(), at(1)).is_err(), "the first is not let go");
}

#[test]
fn one_incident_tells_of_all_that_it_names_and_the_next_of_what_is_new() {
    let claim = |incident: &str, target: &str, workloads: &[&str]| storm::Claim {
        namespace: "shop".into(),
        incident: incident.into(),
        severity: Severity::Warning,
        target: target.into(),
        workloads: workloads.iter().map(|name| (*name).to_owned()).collect(),
    };
    let first = claim("first", "a", &["a", "b", "c"]);
    let ledger = storm::claim(&LedgerStatus::default(), &first, at(0)).unwrap();
    assert_eq!(storm::claim(&ledger, &first, at(5)).unwrap().storms[0].incident, "first", "it may be repeated");
    let refusal = storm::claim(&ledger, &claim("second", "b", &["a", "b", "c"]), at(1)).unwrap_err();
    assert_eq!(refusal.reason, Reason::Storm);
    assert!(refusal.message.contains("Incident first"), "{}", refusal.message);
    let third = storm::claim(&ledger, &claim("third", "d", &["a", "b", "c", "d"]), at(2)).unwrap();
    assert_eq!((third.storms.len(), third.storms[0].incident.as_str()), (1, "third"));
    assert!(storm::claim(&third, &claim("fourth", "d", &["d"]), at(3)).is_err());
    let louder = storm::Claim { severity: Severity::Critical, ..claim("louder", "b", &["b"]) };
    let louder = storm::claim(&third, &louder, at(3)).unwrap();
    assert_eq!((louder.storms[0].incident.as_str(), louder.storms[0].severity), ("louder", Severity::Critical));
    assert!(storm::claim(&louder, &claim("fifth", "a", &["a"]), at(4)).is_err(), "what was told stays told");
    let elsewhere = storm::Claim { namespace: "other".into(), ..claim("fifth", "b", &["b"]) };
    assert_eq!(storm::claim(&ledger, &elsewhere, at(4)).unwrap().storms.len(), 2);
    assert!(storm::claim(&ledger, &claim("later", "b", &["b"]), at(1_800)).is_ok(), "half an hour later it is new");
}

#[test]
fn while_a_storm_is_under_way_nothing_is_written_in_its_namespace() {
    let claim = storm::Claim {
        namespace: "shop".into(),
        incident: "i".into(),
        severity: Severity::Warning,
        target: "Deployment/a".into(),
        workloads: vec!["Deployment/a".into()],
    };
    let budgets = Budgets::default();
    let ledger = storm::claim(&LedgerStatus::default(), &claim, at(0)).unwrap();
    assert_eq!(reserve(&ledger, &charge("x", "u"), &budgets, at(9)).unwrap_err().reason, Reason::Storm);
    let elsewhere = Charge { namespace: "other".into(), ..charge("x", "u") };
    assert!(reserve(&ledger, &elsewhere, &budgets, at(9)).is_ok());
    let undo = Charge { undo: true, ..charge("y", "u") };
    assert!(reserve(&ledger, &undo, &budgets, at(9)).is_ok());
    assert!(reserve(&ledger, &charge("x", "u"), &budgets, at(1_800)).is_ok());
}

#[test]
fn the_same_change_is_taken_back_once_in_a_namespace_within_the_window() {
    let budgets = Budgets::default();
    let with = |id: &str, uid: &str, change: &str| Charge { change: Some(change.into()), ..charge(id, uid) };
    let ledger = reserve(&LedgerStatus::default(), &with("a", "u", "c1"), &budgets, at(0)).unwrap();
    let refusal = reserve(&ledger, &with("b", "v", "c1"), &budgets, at(1)).unwrap_err();
    assert_eq!(refusal.reason, Reason::Storm);
    assert!(refusal.message.contains("Deployment/u"), "{}", refusal.message);
    assert!(reserve(&ledger, &with("b", "v", "c2"), &budgets, at(1)).is_ok());
    assert!(reserve(&ledger, &charge("b", "v"), &budgets, at(1)).is_ok());
    assert!(reserve(&ledger, &with("b", "v", "c1"), &budgets, at(300)).is_ok());
    let refunded = settle(&ledger, "a", LedgerState::Refunded);
    assert!(reserve(&refunded, &with("b", "v", "c1"), &budgets, at(1)).is_ok(), "nothing was written");
    assert_eq!(storm::written(&ledger, "shop", &budgets, at(1)), ["Deployment/u"]);
    assert!(storm::written(&refunded, "shop", &budgets, at(1)).is_empty());
}

#[test]
fn a_trial_that_never_wrote_or_was_never_heard_of_again_makes_room_for_another() {
    let budgets = Budgets { cascade_anomalies: 1, ..Budgets::default() };
    let open = anomaly(&LedgerStatus::default(), bad(0, "a"), &budgets);
    let begun = at(900);
    let trial = reserve(&open, &charge("x", "u"), &budgets, begun).unwrap();
    assert!(reserve(&trial, &charge("y", "v"), &budgets, at(901)).is_err());
    let stopped = settle(&trial, "x", LedgerState::Refunded);
    let second = reserve(&stopped, &charge("y", "v"), &budgets, at(901)).unwrap();
    assert_eq!(second.breakers[0].breaker.trial, "y");
    assert!(reserve(&second, &charge("z", "w"), &budgets, at(902)).is_err(), "one at a time");
    assert!(reserve(&trial, &charge("y", "v"), &budgets, at(900 + 899)).is_err());
    assert!(reserve(&trial, &charge("y", "v"), &budgets, at(900 + 900)).is_ok());
}

#[test]
fn anomalies_outside_of_the_window_are_forgotten() {
    let budgets = Budgets { cascade_anomalies: 3, ..Budgets::default() };
    let ledger = anomaly(&LedgerStatus::default(), bad(0, "a"), &budgets);
    let ledger = anomaly(&ledger, bad(600, "b"), &budgets);
    assert_eq!(own(&ledger), BreakerState::Closed);
}

#[test]
fn one_incident_that_stutters_does_not_open_the_breaker_alone() {
    let budgets = Budgets::default();
    let mut ledger = LedgerStatus::default();
    for second in 0..20 {
        ledger = anomaly(&ledger, bad(second, "a"), &budgets);
    }
    assert_eq!(own(&ledger), BreakerState::Closed);
}

/// Five kinds of lies of one model about one target are one model that is wrong about one target.
#[test]
fn whatever_is_wrong_with_the_answers_of_one_incident_counts_once_and_its_writes_count_besides() {
    let budgets = Budgets::default();
    let of = |kind: Reason| Anomaly { kind: kind.as_str().into(), ..bad(0, "a") };
    let lies = [
        Reason::ClaimUncited,
        Reason::ClaimUnsupported,
        Reason::ClaimUngrounded,
        Reason::CauseUngrounded,
        Reason::ObjectUnknown,
        Reason::RevisionUnknown,
        Reason::WrongTarget,
    ];
    let ledger = lies.iter().fold(LedgerStatus::default(), |ledger, kind| anomaly(&ledger, of(*kind), &budgets));
    assert_eq!((ledger.anomalies.len(), own(&ledger)), (1, BreakerState::Closed));
    let writes = [Reason::VerifyFailed, Reason::Undone, Reason::Relapsed, Reason::ExecutorSilent];
    let ledger = writes.iter().fold(ledger, |ledger, kind| anomaly(&ledger, of(*kind), &budgets));
    assert_eq!((ledger.anomalies.len(), own(&ledger)), (5, BreakerState::Open));
    let many = (0..5).fold(LedgerStatus::default(), |ledger, number| {
        anomaly(&ledger, Anomaly { kind: lies[number].as_str().into(), ..bad(0, &number.to_string()) }, &budgets)
    });
    assert_eq!(own(&many), BreakerState::Open, "five incidents are lied to");
}

#[test]
fn a_storm_of_the_cluster_opens_its_breaker_at_once() {
    let storm = Anomaly { at: at(0), kind: Reason::Storm.as_str().into(), incident: "shop/a".into() };
    assert_eq!(anomaly(&LedgerStatus::default(), storm, &Budgets::default()).breaker.state, BreakerState::Open);
}

/// A tenant's fifty-one small Deployments of which ten fail stop nobody else, and nor do those of a neighbour in trouble.
#[test]
fn a_storm_of_the_cluster_is_seen_in_three_namespaces_none_of_which_counts_for_more_than_a_third() {
    let failing = |counts: &[(&str, usize)]| {
        let uids: Vec<(&str, String)> =
            counts.iter().flat_map(|(name, count)| (0..*count).map(move |n| (*name, format!("{name}-{n}")))).collect();
        storm::FailingTargets::of(uids.iter().map(|(name, uid)| (*name, uid.as_str())))
    };
    for (counts, bound, is_storm) in [
        (vec![("dev", 10)], 10, false),
        (vec![("dev", 50), ("shop", 50)], 10, false),
        (vec![("dev", 50), ("shop", 3), ("pay", 2)], 10, false),
        (vec![("dev", 50), ("shop", 4), ("pay", 1)], 10, false),
        (vec![("dev", 50), ("shop", 4), ("pay", 2)], 10, true),
        (vec![("dev", 4), ("shop", 3), ("pay", 3)], 10, true),
        (vec![("a", 1), ("b", 1), ("c", 1), ("d", 6)], 10, false),
        (vec![("dev", 1)], 1, false),
        (vec![("dev", 9), ("shop", 9)], 1, false),
        (vec![("dev", 1), ("shop", 1), ("pay", 1)], 1, true),
    ] {
        assert_eq!(failing(&counts).is_storm(bound), is_storm, "{counts:?} of {bound}");
    }
    assert_eq!(storm::FailingTargets::of([("a", "u"), ("a", "u")]).counted(10), 1, "each target once");
}

proptest! {
    #[test]
    fn whatever_fails_in_two_namespaces_is_never_a_storm_of_the_cluster(one in 0usize..300, two in 0usize..300, bound in 1u32..400) {
        let uids: Vec<String> = (0..one.max(two)).map(|n| n.to_string()).collect();
        let of = |name: &'static str, count: usize| uids.iter().take(count).map(move |uid| (name, uid.as_str()));
        prop_assert!(!storm::FailingTargets::of(of("a", one).chain(of("b", two))).is_storm(bound));
    }

    #[test]
    fn whatever_is_asked_for_no_hour_holds_more_actions_than_its_budget(
        asks in proptest::collection::vec((0i64..10_000, 0u8..40, 0u8..6, 0u8..3), 1..120),
        limit in 1u32..6,
    ) {
        let budgets = Budgets { actions_per_hour: limit, actions_per_namespace_per_hour: limit, ..Budgets::default() };
        let mut asks = asks;
        asks.sort();
        let mut ledger = LedgerStatus::default();
        for (second, id, uid, outcome) in asks {
            let (id, uid) = (format!("a{id}"), format!("u{uid}"));
            if let Ok(next) = reserve(&ledger, &charge(&id, &uid), &budgets, at(second)) {
                ledger = next;
                if outcome == 1 { ledger = settle(&ledger, &id, LedgerState::Spent); }
            }
            for entry in &ledger.entries {
                let in_hour = ledger.entries.iter().filter(|e| e.at >= entry.at && e.at.duration_since(entry.at) < HOUR).count();
                prop_assert!(in_hour <= limit as usize);
            }
        }
    }
}

proptest! {
    // Each case counts hundreds of anomalies.
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn whatever_else_is_counted_before_and_between_three_failed_writes_of_a_namespace_open_its_breaker(
        noise in proptest::collection::vec((0usize..6, 0usize..8, 0usize..400), 0..400),
        places in proptest::array::uniform3(0usize..400),
    ) {
        let kinds = [
            Reason::ClaimUngrounded,
            Reason::RefusedByPolicy,
            Reason::VerifyFailed,
            Reason::Reverted,
            Reason::ExecutorSilent,
            Reason::ObjectUnknown,
        ];
        let budgets = Budgets::default();
        let mut ledger = LedgerStatus::default();
        for (place, (kind, namespace, incident)) in noise.iter().chain([&(0, 0, 0)]).enumerate() {
            for (number, _) in places.iter().enumerate().filter(|(_, at)| (**at).min(noise.len()) == place) {
                ledger = anomaly(&ledger, bad(1, &format!("failed-{number}")), &budgets);
            }
            let incident = format!("n{namespace}/{incident}");
            ledger = anomaly(&ledger, Anomaly { at: at(1), kind: kinds[*kind].as_str().into(), incident }, &budgets);
            prop_assert!(ledger.anomalies.len() <= 200);
        }
        prop_assert_eq!(own(&ledger), BreakerState::Open);
    }
}
