use proptest::prelude::*;

use super::windows::{held, hourly};
use super::*;
use crate::api::v1alpha1::{Anomaly, BreakerReset, BreakerState, LedgerSpec};

fn at(second: i64) -> Time {
    Time::from_second(1_800_000_000 + second).unwrap()
}

fn charge(id: &str, uid: &str) -> Charge {
    let target = ObjectRef {
        kind: "Deployment".into(),
        namespace: "shop".into(),
        name: uid.into(),
        uid: uid.into(),
        ..ObjectRef::default()
    };
    Charge::of(ActionKind::RolloutUndo, id, id, &target, &[])
}

fn went_wrong(second: i64, kind: Reason, incident: &str) -> Anomaly {
    Anomaly { at: at(second), kind: kind.as_str().into(), incident: format!("shop/{incident}") }
}

/// One action was written, and this went wrong with it.
fn failed(kind: Reason) -> LedgerStatus {
    let budgets = Budgets::default();
    let one = reserve(&LedgerStatus::default(), &charge("a", "api"), &budgets, at(0)).unwrap();
    anomaly(&settle(&one, "a", LedgerState::Spent), went_wrong(60, kind, "a"), &budgets)
}

#[test]
fn a_target_whose_last_write_did_not_hold_is_left_to_people_for_hours() {
    let budgets = Budgets::default();
    for kind in [Reason::VerifyFailed, Reason::Undone, Reason::Relapsed, Reason::Reverted] {
        let ledger = failed(kind);
        let refusal = held(&ledger, &charge("b", "api"), &budgets, at(21_599)).unwrap_err();
        assert_eq!(refusal.reason, Reason::TargetHeld);
        assert!(refusal.message.contains(kind.as_str()), "{}", refusal.message);
        assert!(held(&ledger, &charge("b", "api"), &budgets, at(21_600)).is_ok());
        assert!(held(&ledger, &charge("b", "other"), &budgets, at(61)).is_ok(), "another target is not held");
        assert_eq!(reserve(&ledger, &charge("b", "api"), &budgets, at(7200)).unwrap_err().reason, Reason::TargetHeld);
        let undo = Charge { undo: true, ..charge("b", "api") };
        assert!(reserve(&ledger, &undo, &budgets, at(61)).is_ok(), "what is in flight may still be taken back");
    }
    for kind in [Reason::ClaimUngrounded, Reason::RefusedByPolicy, Reason::ChangedByOthers] {
        assert!(held(&failed(kind), &charge("b", "api"), &budgets, at(61)).is_ok(), "{}", kind.as_str());
    }
}

#[test]
fn what_goes_wrong_with_one_incident_holds_the_target_of_that_one_alone() {
    let budgets = Budgets { target_cooldown_seconds: 0, ..Budgets::default() };
    let one = reserve(&LedgerStatus::default(), &charge("a", "api"), &budgets, at(0)).unwrap();
    let two = reserve(&one, &charge("b", "web"), &budgets, at(1)).unwrap();
    let ledger = anomaly(&two, went_wrong(60, Reason::VerifyFailed, "b"), &budgets);
    assert!(held(&ledger, &charge("c", "api"), &budgets, at(61)).is_ok());
    assert!(held(&ledger, &charge("c", "web"), &budgets, at(61)).is_err());
    let elsewhere = Anomaly { incident: "other/a".into(), ..went_wrong(61, Reason::VerifyFailed, "a") };
    assert!(held(&anomaly(&ledger, elsewhere, &budgets), &charge("c", "api"), &budgets, at(62)).is_ok());
}

#[test]
fn a_write_that_failed_weighs_more_than_an_answer_that_was_refused() {
    let budgets = Budgets { cascade_anomalies: 4, ..Budgets::default() };
    let opened = |kind: Reason, count: i64| {
        let all = (0..count).map(|number| went_wrong(number, kind, &number.to_string()));
        let ledger = all.fold(LedgerStatus::default(), |ledger, it| anomaly(&ledger, it, &budgets));
        breaker::of(&ledger, "shop").is_some_and(|breaker| breaker.state == BreakerState::Open)
    };
    for kind in [Reason::VerifyFailed, Reason::Reverted, Reason::ExecutorSilent] {
        assert!(!opened(kind, 1) && opened(kind, 2), "{}", kind.as_str());
    }
    for kind in [Reason::ClaimUngrounded, Reason::RefusedByPolicy, Reason::ChangedByOthers, Reason::Relapsed] {
        assert!(!opened(kind, 3) && opened(kind, 4), "{}", kind.as_str());
    }
}

#[test]
fn who_opens_the_breaker_tells_of_everything_that_led_there() {
    let budgets = Budgets { cascade_anomalies: 3, ..Budgets::default() };
    let ledger = anomaly(&LedgerStatus::default(), went_wrong(0, Reason::ClaimUngrounded, "first"), &budgets);
    let ledger = anomaly(&ledger, went_wrong(1, Reason::VerifyFailed, "second"), &budgets);
    let lines = breaker::told_by(&ledger, "shop/second");
    assert_eq!(lines.len(), 1);
    for said in
        ["namespace shop", "ClaimUngrounded of Incident shop/first", "VerifyFailed of Incident shop/second", "reset"]
    {
        assert!(lines[0].contains(said), "{said}: {}", lines[0]);
    }
    assert!(breaker::told_by(&ledger, "shop/first").is_empty(), "it did not open it: people are told once");
}

fn reset_up_to(up_to: Time, namespace: &str) -> BreakerReset {
    BreakerReset { namespace: namespace.into(), up_to, by: "jane".into(), why: "looked at it".into() }
}

#[test]
fn a_person_closes_the_breaker_that_is_open_and_no_later_one() {
    let budgets = Budgets { cascade_anomalies: 2, ..Budgets::default() };
    let open = anomaly(&failed(Reason::VerifyFailed), went_wrong(61, Reason::VerifyFailed, "x"), &budgets);
    let opened_at = breaker::resettable(&open, "shop").unwrap();
    assert_eq!(Some(opened_at), breaker::of(&open, "shop").unwrap().opened_at);
    let word = reset_up_to(opened_at, "shop");
    let spec = LedgerSpec { resets: vec![word.clone()], ..LedgerSpec::default() };
    assert_eq!(breaker::resets_due(&spec, &open), [&word]);

    let closed = breaker::reset(&open, &word, &budgets);
    assert!(breaker::of(&closed, "shop").is_none() && closed.anomalies.is_empty());
    assert!(held(&closed, &charge("b", "api"), &budgets, at(62)).is_ok(), "a person looked at its targets");
    assert!(breaker::resets_due(&spec, &closed).is_empty(), "it is done once");

    let again = anomaly(&closed, went_wrong(100, Reason::VerifyFailed, "y"), &budgets);
    assert!(breaker::resets_due(&spec, &again).is_empty(), "what opened later is another matter");
    assert_eq!(breaker::reset(&again, &word, &budgets), again);
    let of_the_future = reset_up_to(at(1_000_000), "shop");
    assert_eq!(
        breaker::reset(&open, &of_the_future, &budgets),
        open,
        "a time of theirs that is nowhere in the Ledger says nothing"
    );
    assert_eq!(breaker::reset(&open, &reset_up_to(opened_at, "other"), &budgets), open);
}

#[test]
fn a_person_releases_a_held_target_while_the_breaker_is_closed() {
    let ledger = failed(Reason::Relapsed);
    let up_to = breaker::resettable(&ledger, "shop").unwrap();
    assert_eq!(up_to, at(60), "when the write failed");
    let released = breaker::reset(&ledger, &reset_up_to(up_to, "shop"), &Budgets::default());
    assert!(held(&released, &charge("b", "api"), &Budgets::default(), at(61)).is_ok());
    assert_eq!(breaker::resettable(&released, "shop"), None);
    assert_eq!(released.entries[0].state, LedgerState::Spent, "what was written stays counted");
    let all = breaker::reset(&ledger, &reset_up_to(up_to, ""), &Budgets::default());
    assert!(held(&all, &charge("b", "api"), &Budgets::default(), at(61)).is_ok(), "of every namespace");
}

/// While what a person said waits for the audit log, a write from before the breaker opened fails too.
#[test]
fn a_reset_forgives_nothing_that_has_failed_since_the_person_looked() {
    let budgets = Budgets { cascade_anomalies: 4, target_cooldown_seconds: 0, ..Budgets::default() };
    let one = reserve(&LedgerStatus::default(), &charge("a", "api"), &budgets, at(0)).unwrap();
    let two = reserve(&one, &charge("b", "web"), &budgets, at(1)).unwrap();
    let open = anomaly(&two, went_wrong(10, Reason::VerifyFailed, "a"), &budgets);
    let open = anomaly(&open, went_wrong(11, Reason::VerifyFailed, "x"), &budgets);
    let open = anomaly(&open, went_wrong(12, Reason::ClaimUngrounded, "y"), &budgets);
    let word = reset_up_to(breaker::resettable(&open, "shop").unwrap(), "shop");
    assert_eq!(word.up_to, at(12), "the latest that the person saw, later than the opening");

    let since = anomaly(&open, went_wrong(30, Reason::VerifyFailed, "b"), &budgets);
    let spec = LedgerSpec { resets: vec![word.clone()], ..LedgerSpec::default() };
    assert_eq!(breaker::resets_due(&spec, &since), [&word], "it is due although more has gone wrong");
    let after = breaker::reset(&since, &word, &budgets);
    assert!(breaker::of(&after, "shop").is_none(), "the breaker that the person saw is closed");
    assert_eq!(after.anomalies.iter().map(|it| it.at).collect::<Vec<_>>(), [at(30)]);
    assert!(held(&after, &charge("c", "api"), &budgets, at(31)).is_ok());
    assert!(held(&after, &charge("c", "web"), &budgets, at(31)).is_err(), "nobody has looked at that one");
    assert!(breaker::resets_due(&spec, &after).is_empty());
    assert!(breaker::stands(&after, "shop", at(30)) && !breaker::stands(&after, "shop", word.up_to));

    // What has gone wrong since is enough by itself.
    let since = anomaly(&since, went_wrong(31, Reason::VerifyFailed, "z"), &budgets);
    let after = breaker::reset(&since, &word, &budgets);
    let own = breaker::of(&after, "shop").unwrap();
    assert_eq!((own.state, own.opened_at, own.opened_by.as_str()), (BreakerState::Open, Some(at(31)), "shop/z"));
    assert!(breaker::resets_due(&spec, &after).is_empty());
}

/// The undo of a write whose target a person has released is a failure of its own.
#[test]
fn a_reset_that_was_done_is_never_due_again() {
    let budgets = Budgets::default();
    let ledger = failed(Reason::VerifyFailed);
    let word = reset_up_to(breaker::resettable(&ledger, "shop").unwrap(), "shop");
    let spec = LedgerSpec { resets: vec![word.clone()], ..LedgerSpec::default() };
    let released = breaker::reset(&ledger, &word, &budgets);
    assert!(breaker::resets_due(&spec, &released).is_empty());
    let undone = anomaly(&released, went_wrong(90, Reason::Undone, "a"), &budgets);
    assert!(breaker::resets_due(&spec, &undone).is_empty(), "a new leader asks all of them again");
    assert_eq!(breaker::reset(&undone, &word, &budgets), undone);
    assert!(held(&undone, &charge("b", "api"), &budgets, at(91)).is_err());
    assert_eq!(breaker::resettable(&undone, "shop"), Some(at(90)));

    // The same before it was done: the person had seen the first alone.
    let undone = anomaly(&ledger, went_wrong(90, Reason::Undone, "a"), &budgets);
    assert!(held(&breaker::reset(&undone, &word, &budgets), &charge("b", "api"), &budgets, at(91)).is_err());
    // That the first is said once more is nothing new.
    let again = anomaly(&ledger, went_wrong(70, Reason::VerifyFailed, "a"), &budgets);
    assert!(held(&breaker::reset(&again, &word, &budgets), &charge("b", "api"), &budgets, at(71)).is_ok());
}

#[test]
fn what_an_earlier_release_held_is_released_by_the_time_of_its_write() {
    let mut ledger = failed(Reason::VerifyFailed);
    ledger.entries[0].failed_at = None;
    assert_eq!(breaker::resettable(&ledger, "shop"), Some(at(0)));
    let released = breaker::reset(&ledger, &reset_up_to(at(0), "shop"), &Budgets::default());
    assert!(held(&released, &charge("b", "api"), &Budgets::default(), at(61)).is_ok());
}

#[test]
fn closing_the_breaker_of_the_cluster_forgets_only_what_counts_for_it() {
    let budgets = Budgets { cascade_anomalies: 4, ..Budgets::default() };
    let elsewhere = Anomaly { incident: "other/x".into(), ..went_wrong(2, Reason::VerifyFailed, "x") };
    let all = [
        went_wrong(0, Reason::ClaimUngrounded, "lied"),
        went_wrong(0, Reason::RefusedByPolicy, "refused"),
        went_wrong(1, Reason::VerifyFailed, "a"),
        elsewhere,
    ];
    let open = all.into_iter().fold(LedgerStatus::default(), |ledger, it| anomaly(&ledger, it, &budgets));
    assert_eq!(open.breaker.state, BreakerState::Open);
    let word = reset_up_to(breaker::resettable(&open, "").unwrap(), "");
    let kept = breaker::reset(&open, &word, &budgets);
    let kinds: Vec<&str> = kept.anomalies.iter().map(|it| it.kind.as_str()).collect();
    assert_eq!((kept.breaker.state, kinds), (BreakerState::Closed, vec!["ClaimUngrounded", "RefusedByPolicy"]));
    assert!(breaker::of(&kept, "shop").is_some(), "the namespace has a breaker of its own");
}

#[test]
fn whoever_opens_a_breaker_is_said_once_and_not_who_comes_after() {
    let budgets = Budgets { cascade_anomalies: 2, ..Budgets::default() };
    let closed = anomaly(&LedgerStatus::default(), went_wrong(0, Reason::ClaimUngrounded, "a"), &budgets);
    assert!(breaker::opened_since(&LedgerStatus::default(), &closed).is_empty());
    let open = anomaly(&closed, went_wrong(1, Reason::ClaimUngrounded, "b"), &budgets);
    let said = breaker::opened_since(&closed, &open);
    assert!(said.len() == 1 && said[0].contains("of namespace shop has opened"), "{said:?}");
    let more = anomaly(&open, went_wrong(2, Reason::ClaimUngrounded, "c"), &budgets);
    assert!(breaker::opened_since(&open, &more).is_empty());
}

/// One repair, its undo and twenty evictions are twenty-two writes.
#[test]
fn what_took_a_write_back_or_completed_it_counts_where_the_next_one_is_judged() {
    let budgets = Budgets { actions_per_namespace_per_hour: 5, target_cooldown_seconds: 600, ..Budgets::default() };
    let mut ledger = reserve(&LedgerStatus::default(), &charge("a", "api"), &budgets, at(0)).unwrap();
    for number in 0..20 {
        let follows = Charge { undo: true, ..charge(&format!("f{number}"), "api") };
        ledger = reserve(&ledger, &follows, &budgets, at(number)).expect("what follows a write is not refused");
    }
    assert_eq!(
        spent(&ledger, "shop", "api", at(60)),
        Spent { in_hour: 21, in_hour_of_cluster: 21, of_target_in_day: 1 }
    );
    let refusal = reserve(&ledger, &charge("b", "web"), &budgets, at(60)).unwrap_err();
    assert_eq!(refusal.reason, Reason::HourlyBudget);
    assert!(refusal.message.contains("21 of 5"), "{}", refusal.message);
    assert_eq!(
        reserve(&ledger, &charge("b", "api"), &budgets, at(610)).unwrap_err().reason,
        Reason::Cooldown,
        "from the last write on"
    );
    assert!(reserve(&ledger, &charge("b", "api"), &budgets, at(7200)).is_ok(), "of the day of the target they are one");
    let refunded = (0..20).fold(ledger, |ledger, number| settle(&ledger, &format!("f{number}"), LedgerState::Refunded));
    assert!(reserve(&refunded, &charge("b", "web"), &budgets, at(60)).is_ok(), "nothing was written");
}

#[test]
fn a_target_is_written_to_a_few_times_a_day() {
    let budgets = Budgets { target_cooldown_seconds: 0, actions_per_target_per_day: 2, ..Budgets::default() };
    let one = reserve(&LedgerStatus::default(), &charge("a", "api"), &budgets, at(0)).unwrap();
    let two = reserve(&one, &charge("b", "api"), &budgets, at(10)).unwrap();
    let refusal = reserve(&two, &charge("c", "api"), &budgets, at(20_000)).unwrap_err();
    assert_eq!(refusal.reason, Reason::DailyBudget);
    assert!(reserve(&two, &charge("c", "web"), &budgets, at(20_000)).is_ok());
    assert!(reserve(&two, &charge("c", "api"), &budgets, at(86_400)).is_ok(), "the first is a day old");
}

#[test]
fn a_kind_of_action_and_a_node_have_budgets_of_their_own() {
    let budgets = Budgets { actions_per_kind_per_hour: 1, ..Budgets::default() };
    let one = reserve(&LedgerStatus::default(), &charge("a", "api"), &budgets, at(0)).unwrap();
    let refusal = hourly(&one, &charge("b", "web"), &budgets, at(1)).unwrap_err();
    assert!(refusal.message.contains("of kind RolloutUndo"), "{}", refusal.message);
    let restart = Charge { action: ActionKind::RolloutRestart, ..charge("b", "web") };
    assert!(hourly(&one, &restart, &budgets, at(1)).is_ok());

    let budgets = Budgets { actions_per_node_per_hour: 1, ..Budgets::default() };
    let on = |node: &str, id: &str, uid: &str| Charge { node: Some(node.into()), ..charge(id, uid) };
    let one = reserve(&LedgerStatus::default(), &on("n1", "a", "api"), &budgets, at(0)).unwrap();
    let refusal = hourly(&one, &on("n1", "b", "web"), &budgets, at(1)).unwrap_err();
    assert!(refusal.message.contains("node n1"), "{}", refusal.message);
    assert!(hourly(&one, &on("n2", "b", "web"), &budgets, at(1)).is_ok());
    assert!(hourly(&one, &charge("b", "web"), &budgets, at(1)).is_ok(), "its pods failed on several nodes");
}

/// An oracle that shares nothing with the budgets: within every window of an hour, by the times in the Ledger, there are no
/// more writes of a key than its bound.
fn most_within_an_hour(entries: &[LedgerEntry], key: impl Fn(&LedgerEntry) -> String) -> usize {
    let hour = SignedDuration::from_hours(1);
    let within = |from: &LedgerEntry| {
        let of_key = entries.iter().filter(|entry| entry.state != LedgerState::Refunded && key(entry) == key(from));
        of_key.filter(|entry| entry.at >= from.at && entry.at.duration_since(from.at) < hour).count()
    };
    entries.iter().filter(|entry| entry.state != LedgerState::Refunded).map(within).max().unwrap_or(0)
}

/// What one controller asks of the Ledger, on the version that it has read: a stale one is refused by the API server, and
/// read again, as `ledgers::change` does.
#[derive(Clone, Debug)]
struct Asked {
    seconds: i64,
    set_back: bool,
    target: u8,
    namespace: u8,
    node: u8,
    restart: bool,
    outcome: u8,
}

fn asked() -> impl Strategy<Value = Asked> {
    (0_i64..600, prop::bool::weighted(0.1), 0_u8..12, 0_u8..3, 0_u8..3, any::<bool>(), 0_u8..3).prop_map(
        |(seconds, set_back, target, namespace, node, restart, outcome)| Asked {
            seconds,
            set_back,
            target,
            namespace,
            node,
            restart,
            outcome,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]
    /// Two controllers, restarts (nothing is kept but the Ledger), clocks that are set back, and every outcome.
    #[test]
    fn no_window_of_any_key_has_more_writes_than_its_bound(schedule in prop::collection::vec(asked(), 1..40)) {
        let budgets = Budgets {
            actions_per_hour: 9,
            actions_per_namespace_per_hour: 5,
            actions_per_kind_per_hour: 6,
            actions_per_node_per_hour: 4,
            actions_per_target_per_day: 2,
            target_cooldown_seconds: 60,
            ..Budgets::default()
        };
        let mut ledger = LedgerStatus::default();
        let mut now = 0_i64;
        for (number, asked) in schedule.iter().enumerate() {
            now = if asked.set_back { (now - asked.seconds).max(0) } else { now + asked.seconds };
            let charge = Charge {
                namespace: format!("ns-{}", asked.namespace),
                node: (asked.node > 0).then(|| format!("n{}", asked.node)),
                action: if asked.restart { ActionKind::RolloutRestart } else { ActionKind::RolloutUndo },
                ..charge(&format!("action-{number}"), &format!("{}-{}", asked.namespace, asked.target))
            };
            let Ok(next) = reserve(&ledger, &charge, &budgets, at(now)) else { continue };
            // 0: the controller ends, and nobody ever hears of the write.
            let outcome = [None, Some(LedgerState::Spent), Some(LedgerState::Refunded)][usize::from(asked.outcome)];
            ledger = outcome.map_or(next.clone(), |state| settle(&next, &charge.action_id, state));
        }
        let entries = &ledger.entries;
        prop_assert!(most_within_an_hour(entries, |_| String::new()) <= 9);
        prop_assert!(most_within_an_hour(entries, |entry| entry.namespace.clone()) <= 5);
        prop_assert!(most_within_an_hour(entries, |entry| entry.action.clone()) <= 6);
        let node = |entry: &LedgerEntry| if entry.node.is_empty() { entry.action_id.clone() } else { entry.node.clone() };
        prop_assert!(most_within_an_hour(entries, node) <= 4);
        prop_assert!(most_within_an_hour(entries, |entry| entry.target_uid.clone()) <= 2);
    }
}

#[test]
fn the_oracle_finds_one_write_too_many() {
    let budgets = Budgets { target_cooldown_seconds: 0, ..Budgets::default() };
    let one = reserve(&LedgerStatus::default(), &charge("a", "api"), &budgets, at(0)).unwrap();
    let two = reserve(&one, &charge("b", "web"), &budgets, at(3599)).unwrap();
    assert_eq!(most_within_an_hour(&two.entries, |_| String::new()), 2);
    let apart = reserve(&one, &charge("b", "web"), &budgets, at(3600)).unwrap();
    assert_eq!(most_within_an_hour(&apart.entries, |_| String::new()), 1);
}
