//! Runs the check. Without words: the slice that `make test-unit` runs, and the planted bugs. `full` is `make
//! model-check`, with the planted bugs too, `bugs` these alone, `explore CASES FAULTS PEOPLE SLOW STATES` one run with these bounds.

use std::{collections::BTreeSet, process::ExitCode, sync::atomic::Ordering::Relaxed, time::Instant};

use backstop_model::{
    bugs::Bug,
    moves::{Bounds, Check, Move, Whose},
    properties::{
        AT_MOST_ONE_EFFECT, BUDGET_NEVER_EXCEEDED, EVERY_END_IS_REACHED, EVERY_INCIDENT_ENDS, EVERY_WRITE_IS_BOOKED,
        NO_WRITE_AFTER_REVOKE, NO_WRITE_WITHOUT_INTENT, NOTHING_IS_LEFT, SAFETY,
    },
    state::{Aftermath, Label, State},
};
use stateright::{Checker, HasDiscoveries, Model, Path};

const ALL: [Aftermath; 3] = [Aftermath::Recovers, Aftermath::Worse, Aftermath::NoBetter];

fn bounds(cases: usize, faults: u8, people: u8, slow: u8) -> Bounds {
    Bounds {
        cases,
        faults,
        whose: Whose::All,
        people,
        slow,
        labels: vec![Label::Auto, Label::Approve],
        aftermaths: ALL.to_vec(),
        whole: false,
    }
}

/// A run that has to find nothing wrong.
struct Run {
    name: &'static str,
    bounds: Bounds,
    /// Generated states at which it may stop; without a limit it has to go through all.
    limit: Option<usize>,
}

fn run(name: &'static str, bounds: Bounds) -> Run {
    Run { name, bounds, limit: None }
}

/// The bounds with one mode and one aftermath.
fn only(label: Label, aftermath: Aftermath, bounds: Bounds) -> Bounds {
    Bounds { labels: vec![label], aftermaths: vec![aftermath], ..bounds }
}

/// What continuous integration goes through: a minute on two cores that have nothing else to do.
fn slice() -> Vec<Run> {
    vec![
        run("one incident, a fault", bounds(1, 1, 0, 0)),
        run("one incident, people, slow", bounds(1, 0, 1, 1)),
        run("one incident, a fault, people", only(Label::Auto, Aftermath::Recovers, bounds(1, 1, 1, 0))),
        run("two incidents", bounds(2, 0, 0, 0)),
        run("nothing left out", Bounds { whole: true, ..bounds(1, 0, 1, 0) }),
    ]
}
/// Unique states that the slice has to come to. With fewer the model has lost something.
const SLICE_STATES: usize = 5_000_000;

/// What `make model-check` goes through.
fn full() -> Vec<Run> {
    let mut runs = slice();
    runs.extend([run("one incident, a fault, people, all", bounds(1, 1, 1, 0))]);
    runs
}
/// The same for that.
const FULL_STATES: usize = 20_000_000;

/// The bugs, each with the property that finds it and the bounds within which it does.
fn planted() -> Vec<(Bug, &'static str, Bounds)> {
    let auto = |cases, faults, people, slow, aftermath| Bounds {
        labels: vec![Label::Auto],
        aftermaths: vec![aftermath],
        ..bounds(cases, faults, people, slow)
    };
    let approve = |bounds| Bounds { labels: vec![Label::Approve], ..bounds };
    let controllers = |bounds| Bounds { whose: Whose::Controllers, ..bounds };
    let executor = |bounds| Bounds { whose: Whose::Executor, ..bounds };
    use Aftermath::Recovers;
    vec![
        (Bug::NoRecord, NO_WRITE_WITHOUT_INTENT, auto(1, 0, 0, 0, Recovers)),
        (Bug::NoReservation, NO_WRITE_WITHOUT_INTENT, auto(1, 0, 0, 0, Recovers)),
        (Bug::TakesAnyClaim, NO_WRITE_WITHOUT_INTENT, executor(auto(1, 1, 0, 0, Recovers))),
        (Bug::RefundsRefused, NO_WRITE_WITHOUT_INTENT, approve(auto(1, 1, 1, 0, Recovers))),
        (Bug::GoesOnWithoutLease, AT_MOST_ONE_EFFECT, controllers(auto(1, 2, 0, 0, Recovers))),
        (Bug::OpensAgain, AT_MOST_ONE_EFFECT, controllers(auto(1, 2, 0, 0, Recovers))),
        (Bug::OpensFirst, NO_WRITE_AFTER_REVOKE, auto(1, 1, 2, 0, Recovers)),
        (Bug::WritesTwice, AT_MOST_ONE_EFFECT, executor(auto(1, 1, 1, 0, Recovers))),
        (Bug::ForgetsTheClaim, AT_MOST_ONE_EFFECT, auto(1, 0, 0, 0, Recovers)),
        (Bug::OpensBlindly, NO_WRITE_AFTER_REVOKE, auto(1, 1, 1, 0, Recovers)),
        (Bug::ClosesCarelessly, NO_WRITE_AFTER_REVOKE, auto(1, 1, 1, 0, Recovers)),
        (Bug::PolicyIgnoresMode, NO_WRITE_AFTER_REVOKE, auto(1, 0, 1, 0, Recovers)),
        (Bug::PolicyIgnoresExpiry, NO_WRITE_AFTER_REVOKE, auto(1, 1, 0, 1, Recovers)),
        (Bug::PolicyIsBlind, NO_WRITE_AFTER_REVOKE, approve(executor(auto(1, 2, 1, 0, Recovers)))),
        (Bug::RefundsWritten, BUDGET_NEVER_EXCEEDED, auto(2, 0, 0, 0, Recovers)),
        (Bug::RefundsUnknown, BUDGET_NEVER_EXCEEDED, approve(executor(auto(2, 1, 0, 0, Recovers)))),
        (Bug::LedgerLosesUpdates, BUDGET_NEVER_EXCEEDED, auto(2, 0, 0, 0, Recovers)),
        (Bug::WaitsForEver, EVERY_INCIDENT_ENDS, auto(1, 1, 0, 0, Recovers)),
        (Bug::TellsNobody, EVERY_END_IS_REACHED, auto(1, 0, 0, 0, Aftermath::NoBetter)),
        (Bug::NeverDisarms, EVERY_END_IS_REACHED, auto(1, 0, 1, 0, Recovers)),
        (Bug::LeavesGrantsOpen, NOTHING_IS_LEFT, auto(1, 0, 1, 0, Recovers)),
        (Bug::ForgetsItsWrite, EVERY_WRITE_IS_BOOKED, executor(auto(1, 1, 0, 0, Recovers))),
        (Bug::ForgetsTheUnknown, EVERY_WRITE_IS_BOOKED, auto(1, 0, 0, 4, Recovers)),
        (Bug::StatusFirst, EVERY_WRITE_IS_BOOKED, auto(1, 1, 0, 0, Recovers)),
    ]
}

/// Generated states at which the search for a planted bug gives up.
const BUG_LIMIT: usize = 12_000_000;

/// What was asked, and what of it is not as it has to be.
#[derive(Default)]
struct Tally {
    checked: usize,
    failed: usize,
}

impl Tally {
    fn is(&mut self, holds: bool) {
        self.checked += 1;
        self.failed += usize::from(!holds);
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "--list") {
        return ExitCode::SUCCESS;
    }
    let words: Vec<&str> = words.iter().map(String::as_str).filter(|word| !word.starts_with('-')).collect();
    let mut tally = Tally::default();
    match words.as_slice() {
        [] => {
            check(&mut tally, &slice(), SLICE_STATES);
            bugs(&mut tally);
        }
        ["full"] => {
            check(&mut tally, &full(), FULL_STATES);
            bugs(&mut tally);
        }
        ["bugs"] => bugs(&mut tally),
        ["explore", numbers @ ..] => _ = checked(&mut tally, &[explored(numbers)]),
        // A filter that is about other tests.
        _ => return ExitCode::SUCCESS,
    }
    println!("model-check: {} checked, {} failed", tally.checked, tally.failed);
    if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Bounds by hand: numbers of incidents, faults, things that people do, minutes in between and states; then, where not all
/// are meant, `auto` or `approve`, `recovers`, `worse` or `nobetter`, `controllers` or
/// `executor` for faults of these alone, and `whole`.
fn explored(words: &[&str]) -> Run {
    let number = |at: usize| words.get(at).and_then(|it| it.parse::<usize>().ok()).unwrap_or(0);
    let small = |at: usize| u8::try_from(number(at)).unwrap_or(0);
    let mut bounds = bounds(number(0).max(1), small(1), small(2), small(3));
    for word in words {
        match *word {
            "auto" => bounds.labels = vec![Label::Auto],
            "approve" => bounds.labels = vec![Label::Approve],
            "recovers" => bounds.aftermaths = vec![Aftermath::Recovers],
            "worse" => bounds.aftermaths = vec![Aftermath::Worse],
            "nobetter" => bounds.aftermaths = vec![Aftermath::NoBetter],
            "whole" => bounds.whole = true,
            "controllers" => bounds.whose = Whose::Controllers,
            "executor" => bounds.whose = Whose::Executor,
            _ => {}
        }
    }
    Run { name: "explore", bounds, limit: Some(number(4)).filter(|limit| *limit > 0) }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Goes through `runs`: nothing may be wrong, what has to be possible has to occur, and there have to be as many states.
fn check(tally: &mut Tally, runs: &[Run], at_least: usize) {
    let began = Instant::now();
    let (unique, possible) = checked(tally, runs);
    println!("{unique} unique states of at least {at_least}, in {:.0} s", began.elapsed().as_secs_f64());
    tally.is(unique >= at_least);
    for property in Check::new(Bug::None, bounds(1, 0, 0, 0)).properties() {
        if !SAFETY.contains(&property.name) {
            let seen = possible.contains(property.name);
            println!("  {}: {}", property.name, if seen { "seen" } else { "NEVER SEEN" });
            tally.is(seen);
        }
    }
}

/// Goes through `runs`: how many unique states there were, and what was possible.
fn checked(tally: &mut Tally, runs: &[Run]) -> (usize, BTreeSet<&'static str>) {
    let (mut unique, mut possible) = (0, BTreeSet::new());
    println!(
        "| run | unique states | generated | depth | all of it | steps of the controller | of the executor | answers of the \
         API server | compared | seconds |\n|---|---|---|---|---|---|---|---|---|---|"
    );
    for run in runs {
        let began = Instant::now();
        let mut builder = Check::new(Bug::None, run.bounds.clone()).checker().threads(threads());
        if let Some(limit) = run.limit {
            builder = builder.target_state_count(limit);
        }
        let checker = builder.spawn_bfs().join();
        let world = &checker.model().world;
        println!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {:.1} |",
            run.name,
            checker.unique_state_count(),
            checker.state_count(),
            checker.max_depth(),
            if run.limit.is_none_or(|limit| checker.state_count() < limit) { "yes" } else { "no" },
            world.decided.len(),
            world.turns.len() + world.learned.len(),
            world.answers.len(),
            world.compared.load(Relaxed),
            began.elapsed().as_secs_f64()
        );
        unique += checker.unique_state_count();
        let mut holds = true;
        for (name, path) in checker.discoveries() {
            if SAFETY.contains(&name) {
                holds = false;
                tell(checker.model(), name, path);
            } else {
                possible.insert(name);
            }
        }
        // A run that is to leave nothing out has to have compared something.
        tally.is(holds && (!run.bounds.whole || world.compared.load(Relaxed) > 0));
    }
    (unique, possible)
}

/// The moves to what is wrong, each with what is sent and what changes by it, and the last state.
fn tell(check: &Check, name: &str, path: Path<State, Move>) {
    println!("{name} does not hold:");
    let steps = path.into_vec();
    for pair in steps.windows(2) {
        let ((before, what), (after, _)) = (&pair[0], &pair[1]);
        if let Some(what) = what {
            println!("    {what:?}{}", check.told_of(before, after, *what));
        }
    }
    println!("    {:?}", steps.last().expect("a path has a state").0);
}

/// Each planted bug has to be found by its property, and each property has to find one.
fn bugs(tally: &mut Tally) {
    println!("| planted bug | caught by | moves | unique states | seconds |\n|---|---|---|---|---|");
    let (planted, mut caught) = (planted(), BTreeSet::new());
    for (bug, property, bounds) in &planted {
        let began = Instant::now();
        let checker = Check::new(*bug, bounds.clone())
            .checker()
            .threads(threads())
            .target_state_count(BUG_LIMIT)
            .finish_when(HasDiscoveries::AllOf([*property].into()))
            .spawn_bfs()
            .join();
        let found = checker.discovery(property).map(|path| path.into_actions().len());
        let moves = found.map_or("NOT CAUGHT".to_owned(), |moves| moves.to_string());
        let seconds = began.elapsed().as_secs_f64();
        println!("| {bug:?} | {property} | {moves} | {} | {seconds:.1} |", checker.unique_state_count());
        tally.is(found.is_some());
        caught.extend(found.map(|_| *property));
    }
    for property in SAFETY {
        if !caught.contains(property) {
            println!("  {property} caught nothing");
        }
        tally.is(caught.contains(property));
    }
}
