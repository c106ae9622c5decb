//! The book: what is charged to whom, what is refused, what is remembered for how long, and that it always fits.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use proptest::prelude::*;

use super::book::{self, Ask};
use super::*;
use crate::api::v1alpha1::{LedgerStatus, ModelSpend, Time};
use crate::core::fit;

const LIMITS: Limits = Limits {
    per_incident: NanoDollars(100),
    per_namespace_per_day: NanoDollars(250),
    per_day: NanoDollars(400),
    probes_per_day: NanoDollars(60),
};

fn start() -> Time {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

fn after(hours: i64) -> Time {
    start().checked_add(SignedDuration::from_hours(hours)).unwrap()
}

fn key(namespace: &str, name: &str) -> IncidentKey {
    IncidentKey { namespace: namespace.into(), name: name.into() }
}

fn incident(namespace: &str, name: &str) -> Payer {
    Payer::Incident(key(namespace, name))
}

fn ask(id: &str, payer: &Payer, need: u64) -> Ask {
    let (id, holder, need) = (id.to_owned(), "me".to_owned(), NanoDollars(need));
    Ask { id, holder, payer: payer.clone(), need, want: need }
}

fn reserve(book: &mut ModelSpend, id: &str, payer: &Payer, need: u64, now: Time) -> Result<u64, &'static str> {
    let reserved = book::reserve(book, &ask(id, payer, need), &LIMITS, now);
    reserved.map(|amount| amount.0).map_err(|refusal| refusal.reason())
}

fn settle(book: &mut ModelSpend, id: &str, cost: u64, now: Time) {
    book::settle(book, &[id.to_owned()], NanoDollars(cost), &BTreeMap::new(), now);
}

fn left(book: &ModelSpend, payer: &Payer, now: Time) -> u64 {
    book::left(book, payer, &LIMITS, now).0
}

#[test]
fn each_cap_refuses_by_its_own_name_and_says_what_is_charged() {
    let mut book = ModelSpend::default();
    let (a, b, c) = (incident("shop", "a"), incident("shop", "b"), incident("shop", "c"));
    assert_eq!(reserve(&mut book, "1", &a, 100, start()), Ok(100));
    assert_eq!(reserve(&mut book, "2", &a, 1, start()), Err("IncidentBudget"));
    assert_eq!(reserve(&mut book, "3", &b, 100, start()), Ok(100));
    assert_eq!(reserve(&mut book, "4", &c, 51, start()), Err("NamespaceBudget"));
    assert_eq!(reserve(&mut book, "5", &c, 50, start()), Ok(50));
    for (id, name) in [("6", "d"), ("7", "e")] {
        let wanted = if id == "6" { Ok(100) } else { Err("ChainBudget") };
        assert_eq!(reserve(&mut book, id, &incident("bank", name), 100, start()), wanted);
    }
    let refusal = book::reserve(&mut book, &ask("8", &a, 20_000_000), &LIMITS, start()).unwrap_err();
    assert_eq!(refusal.to_string(), "an attempt may cost $0.02; $0.000001 of $0.000001 are charged to the incident",);
}

#[test]
fn probes_have_a_budget_of_their_own() {
    let mut book = ModelSpend::default();
    assert_eq!(reserve(&mut book, "1", &Payer::Probes, 60, start()), Ok(60));
    assert_eq!(reserve(&mut book, "2", &Payer::Probes, 1, start()), Err("ProbeBudget"));
    assert_eq!(left(&book, &incident("shop", "a"), start()), 100);
    settle(&mut book, "1", 10, start());
    let spent = book::spent(&book, start());
    assert_eq!((spent.probes, spent.diagnoses), (NanoDollars(10), NanoDollars(0)));
}

#[test]
fn what_was_not_used_comes_back_and_is_told_by_upstream() {
    let mut book = ModelSpend::default();
    let payer = incident("shop", "a");
    reserve(&mut book, "1", &payer, 60, start()).unwrap();
    reserve(&mut book, "2", &payer, 30, start()).unwrap();
    assert_eq!(left(&book, &payer, start()), 10);
    let upstreams = BTreeMap::from([("east".to_owned(), NanoDollars(70))]);
    book::settle(&mut book, &["1".into(), "2".into()], NanoDollars(70), &upstreams, start());
    assert_eq!(left(&book, &payer, start()), 30);
    assert_eq!(book.open, []);
    let spent = book::spent(&book, start());
    assert_eq!((spent.diagnoses, spent.upstreams), (NanoDollars(70), upstreams));
}

#[test]
fn every_change_may_be_made_twice() {
    let payer = incident("shop", "a");
    let mut book = ModelSpend::default();
    for _ in 0..2 {
        assert_eq!(reserve(&mut book, "1", &payer, 60, start()), Ok(60));
        book::force(&mut book, &ask("2", &payer, 20), start());
        assert_eq!(left(&book, &payer, start()), 20);
    }
    for _ in 0..2 {
        settle(&mut book, "1", 10, start());
        assert_eq!(left(&book, &payer, start()), 70);
    }
    for _ in 0..2 {
        book::reconcile(&mut book, "another", start());
        assert_eq!((left(&book, &payer, start()), book.open.len()), (70, 0));
    }
}

#[test]
fn a_reservation_is_nobody_elses_whatever_its_id() {
    let (payer, other) = (incident("shop", "a"), incident("bank", "b"));
    let mut book = ModelSpend::default();
    reserve(&mut book, "1", &payer, 60, start()).unwrap();
    assert_eq!(reserve(&mut book, "1", &other, 60, start()), Err("LedgerConflict"), "another payer");
    let another = Ask { holder: "another".into(), ..ask("1", &payer, 60) };
    assert_eq!(book::reserve(&mut book, &another, &LIMITS, start()), Err(Refusal::Taken), "another process");
    book::force(&mut book, &ask("1", &other, 30), start());
    assert_eq!(left(&book, &other, start()), 70, "what was billed is charged all the same");
    settle(&mut book, "1", 10, start());
    assert_eq!((left(&book, &payer, start()), book::spent(&book, start()).diagnoses.0), (90, 40));
}

#[test]
fn what_another_process_left_open_is_settled_in_full_and_its_own_word_comes_too_late() {
    let mut book = ModelSpend::default();
    let payer = incident("shop", "a");
    reserve(&mut book, "1", &payer, 60, start()).unwrap();
    book::reconcile(&mut book, "me", start());
    assert_eq!(book.open.len(), 1, "not one's own");
    book::reconcile(&mut book, "another", start());
    settle(&mut book, "1", 0, start());
    assert_eq!((left(&book, &payer, start()), book.open.len()), (40, 0));
}

#[test]
fn what_was_billed_beyond_the_cap_is_recorded_and_stops_what_follows() {
    let mut book = ModelSpend::default();
    let payer = incident("shop", "a");
    reserve(&mut book, "1", &payer, 100, start()).unwrap();
    book::force(&mut book, &ask("2", &payer, 500), start());
    book::settle(&mut book, &["1".into(), "2".into()], NanoDollars(600), &BTreeMap::new(), start());
    assert_eq!(book::spent(&book, start()).diagnoses, NanoDollars(600));
    assert_eq!(reserve(&mut book, "3", &payer, 1, start()), Err("IncidentBudget"));
    assert_eq!(reserve(&mut book, "4", &incident("shop", "b"), 1, start()), Err("NamespaceBudget"));
    assert_eq!(reserve(&mut book, "5", &incident("bank", "c"), 1, start()), Err("ChainBudget"));
}

#[test]
fn a_reservation_takes_little_of_what_others_share() {
    let limits = Limits { per_incident: NanoDollars(1000), per_namespace_per_day: NanoDollars(500), ..LIMITS };
    let mut book = ModelSpend::default();
    let greedy = Ask { want: NanoDollars(1000), ..ask("1", &incident("shop", "a"), 10) };
    assert_eq!(book::reserve(&mut book, &greedy, &limits, start()), Ok(NanoDollars(40)), "a tenth of the chain's");
    let alone = Limits { per_namespace_per_day: NanoDollars(1_000_000), per_day: NanoDollars(1_000_000), ..limits };
    let greedy = Ask { id: "2".into(), ..greedy };
    assert_eq!(book::reserve(&mut book, &greedy, &alone, start()), Ok(NanoDollars(960)), "all of its own");
}

#[test]
fn a_new_day_has_a_new_budget_and_an_incident_has_one_for_all_its_days() {
    let mut book = ModelSpend::default();
    let payer = incident("shop", "a");
    let almost_midnight = after(11);
    reserve(&mut book, "1", &payer, 60, almost_midnight).unwrap();
    for (id, name) in [("2", "b"), ("3", "c")] {
        reserve(&mut book, id, &incident("shop", name), 95, almost_midnight).unwrap();
    }
    assert_eq!(reserve(&mut book, "4", &incident("shop", "d"), 1, almost_midnight), Err("NamespaceBudget"));
    let next_day = after(13);
    assert_eq!(left(&book, &payer, next_day), 40, "the incident's, whatever the day");
    assert_eq!(reserve(&mut book, "5", &incident("shop", "d"), 100, next_day), Ok(100));
    // It was reserved yesterday, so it was spent yesterday.
    settle(&mut book, "1", 50, next_day);
    let days: Vec<(&str, i64)> = book.days.iter().map(|day| (day.day.as_str(), day.nano_dollars)).collect();
    assert_eq!(days, [("2026-03-01", 50), ("2026-03-02", 0)]);
    assert_eq!(left(&book, &payer, next_day), 50);
}

#[test]
fn incidents_are_remembered_for_a_week_after_their_latest_charge() {
    let mut book = ModelSpend::default();
    let payer = incident("shop", "a");
    reserve(&mut book, "1", &payer, 60, start()).unwrap();
    settle(&mut book, "1", 60, start());
    reserve(&mut book, "2", &payer, 30, after(6 * 24)).unwrap();
    settle(&mut book, "2", 30, after(6 * 24));
    assert_eq!(reserve(&mut book, "3", &payer, 20, after(12 * 24)), Err("IncidentBudget"));
    assert_eq!(reserve(&mut book, "4", &payer, 20, after(14 * 24)), Ok(20), "it began anew");
    // What is open is never forgotten.
    reserve(&mut book, "5", &incident("shop", "b"), 20, after(30 * 24)).unwrap();
    assert_eq!(left(&book, &payer, after(30 * 24)), 80);
}

#[test]
fn an_amount_below_zero_counts_as_everything() {
    let mut book = ModelSpend::default();
    let payer = incident("shop", "a");
    reserve(&mut book, "1", &payer, 10, start()).unwrap();
    settle(&mut book, "1", 10, start());
    book.incidents[0].nano_dollars = -1_000;
    assert_eq!(reserve(&mut book, "2", &payer, 1, start()), Err("IncidentBudget"));
}

#[test]
fn the_reasons_are_the_documented_ones() {
    let accounts = [Account::Incident, Account::Namespace, Account::Chain, Account::Probes];
    assert_eq!(accounts.map(Account::reason), ["IncidentBudget", "NamespaceBudget", "ChainBudget", "ProbeBudget"]);
    assert_eq!(Refusal::Full { of: "incidents", bound: 1 }.reason(), "LedgerFull");
}

const RICH: Limits = Limits {
    per_incident: NanoDollars(1_000_000_000_000_000),
    per_namespace_per_day: NanoDollars(1_000_000_000_000_000),
    per_day: NanoDollars(1_000_000_000_000_000),
    probes_per_day: NanoDollars(1_000_000_000_000_000),
};

/// As full as it gets: names, lists and amounts.
fn full() -> ModelSpend {
    let mut book = ModelSpend::default();
    let names = |n: usize| (format!("{n:063}"), format!("{n:0253}"));
    for (day, first) in [(0, 0), (1, 500), (2, 500)] {
        for n in first..first + 1000 {
            let (namespace, name) = names(n);
            let id = format!("{:032}", day * 10_000 + n);
            let payer = incident(&namespace, &name);
            let asked = Ask { holder: "h".repeat(32), ..ask(&id, &payer, 123_456_789_012) };
            book::reserve(&mut book, &asked, &RICH, after(day as i64 * 24)).unwrap();
            let upstreams = BTreeMap::from([(format!("{n:063}"), NanoDollars(123_456_789_012))]);
            book::settle(&mut book, &[id], NanoDollars(123_456_789_012), &upstreams, after(day as i64 * 24));
        }
    }
    let (namespace, name) = names(500);
    for n in 0..book::MAX_FORCED + 10 {
        let payer = incident(&namespace, &name);
        let asked = Ask { holder: "h".repeat(32), ..ask(&format!("open{n:028}"), &payer, 123_456_789_012) };
        match n < book::MAX_OPEN {
            true => assert!(book::reserve(&mut book, &asked, &RICH, after(48)).is_ok()),
            false => book::force(&mut book, &asked, after(48)),
        }
    }
    book
}

#[test]
fn the_fullest_book_fits_and_nothing_of_it_is_cut() {
    let book = full();
    assert_eq!((book.open.len(), book.days.len(), book.incidents.len()), (book::MAX_FORCED, 3, 1500));
    assert!(book.days.iter().all(|day| day.namespaces.len() == 1000 && day.upstreams.len() == 64));
    let status = LedgerStatus { models: Some(book), ..LedgerStatus::default() };
    assert_eq!(fit::fitted(status.clone()), status, "the schema holds what the book may hold");
    let bytes = serde_json::to_string(&status).unwrap().len();
    assert!(bytes < 1_200_000, "{bytes} bytes; etcd takes 1.5 MiB");
}

#[test]
fn a_full_book_refuses_instead_of_forgetting_and_makes_room_after_a_day() {
    let mut book = full();
    let now = after(48);
    let known = incident(&format!("{:063}", 500), &format!("{:0253}", 500));
    let refused = |book: &mut ModelSpend, payer: &Payer, now| {
        book::reserve(book, &ask("x", payer, 1), &RICH, now).map_err(|refusal| refusal.to_string())
    };
    assert_eq!(
        refused(&mut book, &known, now),
        Err("the Ledger holds 256 open reservations, which is its bound".into())
    );
    book::reconcile(&mut book, "another", now);
    assert!(refused(&mut book, &known, now).is_ok());
    book.open.clear();
    let (no_namespace, no_incident) = (incident("new", "new"), incident(&format!("{:063}", 500), "new"));
    assert!(refused(&mut book, &no_namespace, now).unwrap_err().contains("1000 namespaces of one day"));
    book.open.clear();
    // The incidents of the first day are two days old and make room; those of the others were charged again.
    assert!(refused(&mut book, &no_incident, now).is_ok());
    assert_eq!(book.incidents.len(), 1001);
    for n in 0..499 {
        book::reserve(
            &mut book,
            &ask(&n.to_string(), &incident(&format!("{:063}", 500 + n / 100), &format!("n{n}")), 1),
            &RICH,
            now,
        )
        .map(|_| book.open.clear())
        .unwrap();
    }
    book.open.clear();
    let another = incident(&format!("{:063}", 500), "another");
    assert!(refused(&mut book, &another, now).unwrap_err().contains("1500 incidents"));
}

#[test]
fn one_namespace_does_not_take_the_room_of_all() {
    let mut book = ModelSpend::default();
    let fill = |book: &mut ModelSpend, namespace: &str, number: usize| {
        let (id, payer) = (format!("{namespace}-{number}"), incident(namespace, &number.to_string()));
        let reserved = book::reserve(book, &ask(&id, &payer, 1), &RICH, start());
        book::settle(book, &[id], NanoDollars(1), &BTreeMap::new(), start());
        reserved
    };
    let taken = (0..1600).filter(|number| fill(&mut book, "loud", *number).is_ok()).count();
    assert_eq!(taken, 1500 / 8);
    let refused = fill(&mut book, "loud", 1600).unwrap_err();
    assert_eq!(
        (refused.reason(), refused.to_string().contains("187 incidents of one namespace")),
        ("LedgerFull", true)
    );
    assert_eq!(fill(&mut book, "quiet", 0), Ok(NanoDollars(1)));
    assert_eq!(book.incidents.len(), 188);
    // A day later it makes room for itself, and for nobody else's.
    let again = book::reserve(&mut book, &ask("again", &incident("loud", "again"), 1), &RICH, after(25));
    assert_eq!((again, book.incidents.len()), (Ok(NanoDollars(1)), 2));
}

#[test]
fn what_was_not_used_at_all_leaves_nothing_behind() {
    let mut book = ModelSpend::default();
    let payer = incident("shop", "a");
    reserve(&mut book, "1", &payer, 10, start()).unwrap();
    reserve(&mut book, "2", &payer, 10, start()).unwrap();
    settle(&mut book, "1", 0, start());
    assert_eq!(book.incidents.len(), 1, "something is still reserved for it");
    settle(&mut book, "2", 0, start());
    assert_eq!((book.incidents.len(), book.days[0].namespaces.len()), (0, 0));
    reserve(&mut book, "3", &payer, 10, start()).unwrap();
    settle(&mut book, "3", 1, start());
    assert_eq!((book.incidents.len(), book.days[0].namespaces.len()), (1, 1));
}

/// One random change.
#[derive(Clone, Debug)]
enum Change {
    Reserve { incident: u8, need: u64, want: u64 },
    Probe { need: u64 },
    Settle { which: usize, cost: u64 },
    Reconcile,
}

fn changes() -> impl Strategy<Value = Vec<(Change, i64)>> {
    let change = prop_oneof![
        5 => (0..6u8, 1..60u64, 0..200u64).prop_map(|(incident, need, want)| Change::Reserve { incident, need, want }),
        1 => (1..40u64).prop_map(|need| Change::Probe { need }),
        4 => (0..20usize, 0..60u64).prop_map(|(which, cost)| Change::Settle { which, cost }),
        1 => Just(Change::Reconcile),
    ];
    // Hours that the clock goes on, or back.
    let hours = prop_oneof![6 => Just(0), 2 => 0..30i64, 1 => -60..0i64, 1 => Just(10_000), 1 => Just(-10_000)];
    proptest::collection::vec((change, hours), 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever the clock does: no date is charged more than a day's budget, counted from outside over all its lives.
    #[test]
    fn no_account_is_overdrawn_whatever_is_asked_and_whatever_the_clock_does(changes in changes()) {
        let mut book = ModelSpend::default();
        let mut now = start();
        // What was charged to each date, remembered for ever; reservations by ID with date and payer.
        let mut open: BTreeMap<String, (String, Payer, u64)> = BTreeMap::new();
        let mut dates: BTreeMap<(String, Option<String>), u64> = BTreeMap::new();
        for (number, (change, hours)) in changes.into_iter().enumerate() {
            now = now.checked_add(SignedDuration::from_hours(hours)).unwrap_or(now);
            match change {
                Change::Reserve { .. } | Change::Probe { .. } => {
                    let id = format!("{number}");
                    let asked = match change {
                        Change::Reserve { incident: n, need, want } => {
                            let namespace = if n % 2 == 0 { "even" } else { "odd" };
                            Ask { want: NanoDollars(want), ..ask(&id, &incident(namespace, &n.to_string()), need) }
                        }
                        Change::Probe { need } => ask(&id, &Payer::Probes, need),
                        _ => unreachable!(),
                    };
                    if let Ok(amount) = book::reserve(&mut book, &asked, &LIMITS, now) {
                        prop_assert!(amount >= asked.need && amount <= asked.need.max(asked.want));
                        let day = book.open.last().unwrap().day.clone();
                        open.insert(id, (day, asked.payer, amount.0));
                    }
                }
                Change::Settle { which, cost } => {
                    let Some(id) = open.keys().nth(which).cloned() else { continue };
                    let (day, payer, amount) = open.remove(&id).unwrap();
                    settle(&mut book, &id, cost, now);
                    let used = cost.min(amount);
                    *dates.entry((day.clone(), None)).or_default() += if payer == Payer::Probes { 0 } else { used };
                    let place = match payer { Payer::Incident(key) => key.namespace, Payer::Probes => "probes".into() };
                    *dates.entry((day, Some(place))).or_default() += used;
                }
                Change::Reconcile => {
                    book::reconcile(&mut book, "another", now);
                    for (_, (day, payer, used)) in std::mem::take(&mut open) {
                        *dates.entry((day.clone(), None)).or_default() += if payer == Payer::Probes { 0 } else { used };
                        let place = match payer { Payer::Incident(key) => key.namespace, Payer::Probes => "probes".into() };
                        *dates.entry((day, Some(place))).or_default() += used;
                    }
                }
            }
            let mut charged = dates.clone();
            for (day, payer, amount) in open.values() {
                *charged.entry((day.clone(), None)).or_default() += if *payer == Payer::Probes { 0 } else { *amount };
                let place = match payer { Payer::Incident(key) => key.namespace.clone(), Payer::Probes => "probes".into() };
                *charged.entry((day.clone(), Some(place))).or_default() += amount;
            }
            for ((day, place), sum) in &charged {
                let cap = match place.as_deref() {
                    None => LIMITS.per_day,
                    Some("probes") => LIMITS.probes_per_day,
                    Some(_) => LIMITS.per_namespace_per_day,
                };
                prop_assert!(*sum <= cap.0, "{day} {place:?}: {sum} of {cap:?}");
            }
            for known in &book.incidents {
                let payer = Payer::Incident(known.incident.clone());
                prop_assert!(book::charged(&book, Account::Incident, &payer, "") <= LIMITS.per_incident);
            }
            prop_assert_eq!(book.open.len(), open.len());
        }
    }
}
