//! What people write in Policies costs a bounded amount of memory and time, whatever it is. Expressions are made by a
//! generator that wants to do harm, and evaluated in a process of their own, whose peak of memory is read at its end.
//!
//! `make test-cel` runs a hundred thousand of them; `cargo test` a slice.

use std::{
    env, fs, hint,
    io::Read as _,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use backstop::api::v1alpha1::{ActionKind, Policy};
use backstop::core::{
    cel::{Branches, EXPRESSION_UNITS, Expression, JUDGEMENT_UNITS, MAX_TEXT, Meter, Stop, Variables},
    policy::{CompiledPolicy, example},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[path = "cel/hostile.rs"]
mod hostile;

/// What the process may have used at its peak, in kB. The controller's limit in the chart is twice as much.
const MEMORY: u64 = 128 << 10;
/// Hostile expressions after which an ordinary judgement is measured without them.
const STRETCH: usize = 100;
/// How much slower a judgement may be beside hostile ones.
const SLOWER: f64 = 2.0;
/// How much longer a unit of the worst expression may take than a unit of an ordinary one. Beyond that, units would not
/// bound time.
const DEARER: f64 = 50.0;
/// How much longer than the longest ordinary expression one may take to parse.
const LONGER: f64 = 20.0;
/// Address space of a process without limits of its own, in kB: it must not take the machine down with it.
const ADDRESS_SPACE: u64 = 2 << 20;

/// What a process is to do, in its environment.
const ORDER: &str = "BACKSTOP_CEL_ORDER";

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Order {
    /// Evaluate so many expressions of the generator, from this number on.
    Hostile { from: u64, count: u64 },
    /// Evaluate this one, with so many units.
    One { text: String, units: u64 },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Report {
    /// Expressions that compiled, that had a value, and that ended because they cost too much.
    compiled: u64,
    valued: u64,
    spent: u64,
    /// Most units that one expression was charged.
    most_units: u64,
    /// The slowest one, and how many times as long as an ordinary one with all the units it took.
    slowest: String,
    dearer: f64,
    /// The expression that took longest to parse, and how many times as long as an ordinary one of the same length.
    longest: String,
    parsing: f64,
    /// How many times as long an ordinary judgement takes between hostile ones as alone, by the medians.
    slower: f64,
    /// Peak of memory, in kB.
    memory: u64,
}

/// What is wrong with a report.
fn faults(report: &Result<Report, String>) -> Vec<String> {
    let report = match report {
        Ok(report) => report,
        Err(error) => return vec![error.clone()],
    };
    let mut faults = Vec::new();
    if report.memory > MEMORY {
        faults.push(format!("{} kB of memory at the peak, the bound is {MEMORY}", report.memory));
    }
    if report.most_units > EXPRESSION_UNITS {
        faults.push(format!("an expression was charged {} units of {EXPRESSION_UNITS}", report.most_units));
    }
    if report.dearer > DEARER {
        faults.push(format!("a unit takes {} times as long as it should: {}", report.dearer, report.slowest));
    }
    if report.parsing > LONGER {
        faults.push(format!("parsing takes {} times as long as it should: {}", report.parsing, report.longest));
    }
    if report.slower > SLOWER {
        faults.push(format!("an ordinary judgement is {} times as slow", report.slower));
    }
    faults
}

/// Runs `order` in a process of its own, which is ended after `deadline`.
fn run(order: &Order, deadline: Duration) -> Result<Report, String> {
    let program = env::current_exe().expect("a test knows its own program");
    let mut child = Command::new("sh")
        .args([
            "-c",
            "ulimit -v \"$1\"; exec \"$0\" --exact in_a_process_of_its_own --ignored --nocapture --test-threads=1",
        ])
        .arg(program)
        .arg(ADDRESS_SPACE.to_string())
        // A backtrace loads the symbols of the program: more than all expressions together.
        .env("RUST_BACKTRACE", "0")
        .env(ORDER, serde_json::to_string(order).expect("an order is JSON"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("there is a shell");
    let mut stdout = child.stdout.take().expect("it was asked for");
    let output = thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).map(|_| text)
    });
    let started = Instant::now();
    let status = loop {
        match child.try_wait().expect("a child can be waited for") {
            Some(status) => break status,
            None if started.elapsed() > deadline => {
                child.kill().expect("a child can be ended");
                child.wait().expect("a child can be waited for");
                return Err(format!("it did not end within {} s", deadline.as_secs()));
            }
            None => thread::sleep(Duration::from_millis(20)),
        }
    };
    let output = output.join().expect("reading does not panic").map_err(|error| error.to_string())?;
    let report = output.lines().find_map(|line| line.strip_prefix("report: "));
    match report {
        Some(report) => serde_json::from_str(report).map_err(|error| error.to_string()),
        None => Err(format!("it ended with {status} and without a report")),
    }
}

/// Not a test: what `run` starts.
#[test]
#[ignore = "started by the others, in a process of its own"]
fn in_a_process_of_its_own() {
    let Some(order) = env::var_os(ORDER) else { return };
    let order: Order = serde_json::from_str(order.to_str().expect("JSON")).expect("an order");
    // As large as the stack of a worker of the operator.
    let work = thread::Builder::new().stack_size(2 << 20).spawn(move || match order {
        Order::Hostile { from, count } => hostile(from, count),
        Order::One { text, units } => one(&text, units),
    });
    let mut report = work.expect("a thread starts").join().expect("nothing panics");
    report.memory = peak();
    println!("\nreport: {}", serde_json::to_string(&report).expect("a report is JSON"));
}

fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak of memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn empty() -> Report {
    Report {
        compiled: 0,
        valued: 0,
        spent: 0,
        most_units: 0,
        slowest: String::new(),
        dearer: 0.0,
        longest: String::new(),
        parsing: 0.0,
        slower: 0.0,
        memory: 0,
    }
}

fn one(text: &str, units: u64) -> Report {
    let expression = Expression::compile(text).expect("it compiles");
    let mut meter = Meter::new(units);
    let value = expression.evaluate(&Variables::of(&example()), Branches::Needed, &mut meter);
    let valued = u64::from(hint::black_box(value).is_ok());
    Report { compiled: 1, valued, spent: 1 - valued, most_units: meter.spent().min(EXPRESSION_UNITS), ..empty() }
}

fn hostile(from: u64, count: u64) -> Report {
    let variables = Variables::of(&large());
    let ordinary = Ordinary::new();
    let alone = || median((0..200).map(|_| ordinary.judge()).collect());
    let unit = ordinary.unit();
    let parsing = ordinary.parsing();
    let mut report = empty();
    // Each stretch is compared with what the same machine does right after it: it may have something else to do.
    let (mut beside, mut slower) = (Vec::new(), Vec::new());
    for number in from..from + count {
        let text = hostile::expression(number);
        let policy = policy(&text, "");
        if policy.error().is_none() {
            let mut meter = Meter::new(JUDGEMENT_UNITS);
            let _ = hint::black_box(policy.validate(&variables, &mut meter));
            assert!(meter.spent() <= 2 * EXPRESSION_UNITS, "{text}");
        }
        // Whatever its author was told: as if it had come by.
        let (mut took, expression) = best(|| Expression::compile(&text));
        // What other processes took is not the parser's: what is slow is slow each time.
        for _ in 0..6 {
            if took.as_secs_f64() / parsing > LONGER {
                took = took.min(best(|| Expression::compile(&text)).0);
            }
        }
        let times = took.as_secs_f64() / parsing;
        if times > report.parsing {
            report.parsing = times;
            report.longest = format!("{took:?}: {text}");
        }
        if let Ok(expression) = expression {
            report.compiled += 1;
            for branches in [Branches::Needed, Branches::All] {
                let mut meter = Meter::new(EXPRESSION_UNITS);
                let started = Instant::now();
                let value = hint::black_box(expression.evaluate(&variables, branches, &mut meter));
                let mut took = started.elapsed();
                match value {
                    Ok(_) => report.valued += 1,
                    Err(Stop::Spent) => report.spent += 1,
                    Err(_) => {}
                }
                report.most_units = report.most_units.max(meter.spent());
                // A look that was interrupted says nothing: the best of a few.
                for _ in 0..4 {
                    if dearer(took, meter.spent(), unit) <= report.dearer {
                        break;
                    }
                    let started = Instant::now();
                    let _ =
                        hint::black_box(expression.evaluate(&variables, branches, &mut Meter::new(EXPRESSION_UNITS)));
                    took = took.min(started.elapsed());
                }
                let times = dearer(took, meter.spent(), unit);
                if times > report.dearer {
                    report.dearer = times;
                    report.slowest = format!("{took:?} for {} units: {text}", meter.spent());
                }
            }
        }
        beside.push(ordinary.judge());
        if beside.len() == STRETCH || number + 1 == from + count {
            slower.push(median(std::mem::take(&mut beside)) / alone());
        }
    }
    report.slower = if slower.is_empty() { 0.0 } else { median(slower) };
    report
}

/// The quicker of two: one that was interrupted says nothing.
fn best<T>(mut of: impl FnMut() -> T) -> (Duration, T) {
    let mut timed = || {
        let started = Instant::now();
        let value = of();
        (started.elapsed(), value)
    };
    let (first, value) = timed();
    let (second, _) = timed();
    (first.min(second), value)
}

/// How many times as long as it should for its units. A small expression is mostly overhead.
fn dearer(took: Duration, units: u64, unit: f64) -> f64 {
    took.as_secs_f64() / (unit * units.max(EXPRESSION_UNITS / 10) as f64)
}

/// A target with as many annotations as the API server allows.
fn large() -> Value {
    let mut variables = example();
    let annotations = (0..64).map(|n| (format!("example.com/annotation-{n}"), json!("a,b".repeat(1300))));
    variables["target"]["annotations"] = annotations.collect();
    variables
}

fn policy(expression: &str, message: &str) -> CompiledPolicy {
    let spec = json!({"mode": "auto", "validations": [{"expression": expression, "messageExpression": message}]});
    CompiledPolicy::of(&Policy::new("p", serde_json::from_value(spec).expect("a Policy")))
}

/// What the Policies of somebody else ask.
struct Ordinary {
    policies: Vec<CompiledPolicy>,
    variables: Variables,
}

impl Ordinary {
    fn new() -> Ordinary {
        let rules = [
            "!('criticality' in target.labels) || target.labels['criticality'] != 'high'",
            "action.toRevision >= target.revision - 3",
            "diagnosis.claims.all(c, size(c.cites) > 0)",
            "target.labels.all(k, k.startsWith('example.com/'))",
        ];
        let policies = rules.iter().map(|rule| policy(rule, "'no'")).collect();
        Ordinary { policies, variables: Variables::of(&example()) }
    }

    /// Seconds that one judgement takes.
    fn judge(&self) -> f64 {
        let started = Instant::now();
        let mut meter = Meter::new(JUDGEMENT_UNITS);
        for policy in &self.policies {
            assert_eq!(policy.validate(&self.variables, &mut meter), Ok(()));
        }
        started.elapsed().as_secs_f64()
    }

    /// Seconds that it takes to parse a rule as long as a rule may be.
    fn parsing(&self) -> f64 {
        let text = vec!["target.labels['tier'] != 'database'"; 50].join(" && ");
        let times = (0..9).map(|_| best(|| Expression::compile(&text).map(|_| ())).0.as_secs_f64());
        median(times.collect())
    }

    /// Seconds that a unit takes, by a rule that uses all of them up. Its operators are the library's, as those of hostile
    /// expressions are: what compares scalars takes a small part of that.
    fn unit(&self) -> f64 {
        let expression = Expression::compile("lists.range(2500).all(x, x % 7 >= 0 && x % 5 != -1)").expect("a rule");
        let times = (0..9).map(|_| {
            let mut meter = Meter::new(EXPRESSION_UNITS);
            let started = Instant::now();
            let value = expression.evaluate(&self.variables, Branches::Needed, &mut meter);
            assert_eq!(value, Err(Stop::Spent));
            started.elapsed().as_secs_f64() / meter.spent() as f64
        });
        median(times.collect())
    }
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn bounded(from: u64, count: u64, deadline: Duration) {
    let started = Instant::now();
    let report = run(&Order::Hostile { from, count }, deadline);
    assert_eq!(faults(&report), Vec::<String>::new());
    let report = report.expect("it has no faults");
    println!("{count} expressions in {:?}: {report:#?}", started.elapsed());
    // A generator whose expressions do not even compile shows nothing.
    assert!(report.compiled > count / 4, "only {} of {count} compile", report.compiled);
    assert!(report.spent > count / 20, "only {} of {count} cost too much", report.spent);
    assert!(report.valued > count / 20, "only {} of {count} have a value", report.valued);
}

/// What fifty Policies of a platform say, of an incident with two hundred facts. Every sixth asks for facts.
fn platform() -> Vec<CompiledPolicy> {
    let rules = [
        "target.labels.all(k, k.startsWith('example.com/'))",
        "blast.percent <= 50 && !blast.toZero && blast.services.all(s, s.lost < s.ready)",
        "now - timestamp(alert.startsAt) > duration('1m') && alert.severity != 'info'",
        "after.spec.containers.all(c, c.image.startsWith('registry.example.com/'))",
        "budget.actionsOfTargetInDay < 3 && budget.actionsInHour < budget.maxInHour",
        "facts.exists(f, has(f.data.pod) && f.data.pod.failure == 'CrashLoop' && f.id == 'f200')",
    ];
    let policy = |number: usize| {
        let spec = json!({
            "mode": "auto",
            "matchConditions": [{"name": "kind", "expression": "target.kind in ['Deployment', 'StatefulSet']"}],
            "variables": [{"name": "small", "expression": "target.replicas <= 100"}],
            "validations": [{"expression": rules[number % rules.len()]}, {"expression": "variables.small"}],
            "windows": [{"kind": "deny", "schedule": "0 4 * * 0", "durationSeconds": 3600, "timeZone": "Europe/Berlin"}],
        });
        CompiledPolicy::of(&Policy::new(&format!("p{number}"), serde_json::from_value(spec).expect("a Policy")))
    };
    (0..50).map(policy).collect()
}

/// Times only inform: what the machine has else to do is not ours. `cargo test --release --test cel fifty -- --nocapture`
/// shows them with both cores busy.
#[test]
fn fifty_policies_over_two_hundred_facts_fit_into_one_decision() {
    let policies = platform();
    assert!(policies.iter().all(|policy| policy.error().is_none()), "{:?}", policies[5].error());
    let busy = std::sync::atomic::AtomicBool::new(true);
    let now = "2026-11-28T12:00:00Z".parse().expect("a time");
    let mut times = thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while busy.load(std::sync::atomic::Ordering::Relaxed) {
                    hint::black_box((0..1_000_u64).sum::<u64>());
                }
            });
        }
        let json = example();
        let mut times = Vec::new();
        for _ in 0..300 {
            let started = Instant::now();
            // The variables are made anew for each decision.
            let variables = Variables::of(&json).with_time("now", now).expect("CEL holds the time");
            let mut meter = Meter::new(JUDGEMENT_UNITS);
            for policy in &policies {
                assert_eq!(policy.admits(ActionKind::RolloutUndo, now), Ok(()));
                assert_eq!(policy.applies(&variables, &mut meter), Ok(true));
                assert_eq!(policy.validate(&variables, &mut meter), Ok(()));
            }
            times.push(started.elapsed());
            assert!(meter.spent() < JUDGEMENT_UNITS / 2, "{} units", meter.spent());
        }
        busy.store(false, std::sync::atomic::Ordering::Relaxed);
        times
    });
    times.sort();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    println!("50 Policies, 200 facts, both cores busy: p50 {:?}, p99 {:?}, worst {:?}", at(50), at(99), at(100));
}

#[test]
fn rubbish_of_any_kind_is_refused_about_as_fast_as_a_rule_is_parsed() {
    let ordinary = Ordinary::new().parsing();
    for part in [
        "%", "% ", "+", ", ", "a ", "1 ", "'a' ", "#", "= ", "? : ", "a % % ", "-", "!", ".", "? ", "in ", "'%", "a,",
        "a.", "(1",
    ] {
        let text: String = part.repeat(MAX_TEXT / part.len());
        let times = best(|| Expression::compile(&text)).0.as_secs_f64() / ordinary;
        assert!(times <= LONGER, "{part}: {times} times as long");
    }
}

#[test]
fn two_thousand_hostile_expressions_cost_no_more_than_they_may() {
    bounded(0, 2_000, Duration::from_secs(300));
}

#[test]
#[ignore = "minutes: make test-cel"]
fn a_hundred_thousand_hostile_expressions_cost_no_more_than_they_may() {
    bounded(1_000_000, 100_000, Duration::from_secs(3600));
}

#[test]
fn an_evaluator_without_a_limit_is_caught_by_its_memory_and_by_its_time() {
    let items = format!("[{}]", vec!["1"; 60].join(","));
    let memory = format!("size(['aaaaaaaa']{}[0]) > 0", ".map(a,a+a+a+a+a+a+a+a)".repeat(8));
    let names = ["a", "b", "c", "d", "e", "f"];
    let loops: String = names.iter().map(|name| format!("{items}.all({name},")).collect();
    let time = format!("{loops}true{}", ")".repeat(names.len()));
    for (text, said) in [(memory, "memory"), (time, "did not end")] {
        let order = |units| Order::One { text: text.clone(), units };
        let (with, without) = (order(EXPRESSION_UNITS), order(u64::MAX));
        assert_eq!(faults(&run(&with, Duration::from_secs(60))), Vec::<String>::new(), "{text}");
        let found = faults(&run(&without, Duration::from_secs(10)));
        assert!(found.iter().any(|fault| fault.contains(said)), "{text}: {found:?}");
    }
}
