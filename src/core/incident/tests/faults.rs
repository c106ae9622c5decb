//! Every fault at every request, pairs included; and planted defects that this suite has to notice.

use proptest::prelude::*;

use super::{Aftermath, Executor, Fault, Investigator, StepFn, World, drive};
use crate::api::v1alpha1::{
    Diagnosis, Incident, IncidentPhase, IncidentStatus, LedgerState, Purpose, Remediation, Time,
};
use crate::core::incident::{Effect, Next, Notice, Seen, Step, Terms, step};
use crate::core::reason::Reason;
use crate::core::workload::Workload;

/// A way for an incident to go: its name, and what makes it go so.
type Scenario = (&'static str, fn(&mut World));

const SCENARIOS: &[Scenario] = &[
    ("recovers", |_| {}),
    ("is taken back", |world| {
        *world = World::half_serving();
        world.aftermath = Aftermath::MakesItWorse;
    }),
    ("does not help", |world| world.aftermath = Aftermath::StaysBroken),
    ("recovers slowly", |world| world.aftermath = Aftermath::RecoversSlowly),
    ("relapses", |world| world.aftermath = Aftermath::Relapses),
    ("is reverted", |world| world.aftermath = Aftermath::IsReverted),
    ("is scaled to 0", |world| world.aftermath = Aftermath::IsScaledDown),
    ("recovers while the alert goes on", |world| world.alert_lasts = None),
    ("has nothing wrong", |world| *world = World::healthy()),
    ("is one of many", |world| world.storm = Some(super::life::storm())),
    ("is changed by others", |world| world.aftermath = Aftermath::ChangedByOthers),
    ("is refused", |world| world.mode = None),
    ("is approved", |world| {
        world.mode = Some("approve".into());
        world.approves = true;
    }),
    ("is claimed twice", |world| world.executor = Executor::Reclaims),
    ("is given up", |world| world.executor = Executor::Aborts(Reason::PolicyMissing)),
    ("heals before it is written, and the executor says so", |world| {
        world.heals_before_write = true;
        world.executor = Executor::Aborts(Reason::NothingFails);
        world.alert_ends_after = Some(jiff::SignedDuration::from_secs(340));
    }),
    ("heals before its Grant", |world| {
        world.heals_before_write = true;
        world.executor = Executor::Dies;
        world.alert_ends_after = Some(jiff::SignedDuration::from_secs(340));
    }),
    ("meets a silent executor", |world| world.executor = Executor::Dies),
    ("hears late of a write", |world| world.executor = Executor::ReportsLate),
    ("hears late that nothing was written", |world| world.executor = Executor::AbortsLate(Reason::NoGrant)),
    ("finds a foreign annotation", |world| world.executor = Executor::FindsAnnotation),
    ("has a write that nobody can prove", |world| world.executor = Executor::WritesUnproven),
    ("meets a silent investigator", |world| world.investigator = Investigator::Silent),
    ("cannot be taken back", |world| {
        *world = World::half_serving();
        world.aftermath = Aftermath::MakesItWorse;
        world.executor = Executor::FiresAndAbortsUndo(Reason::TargetChanged);
    }),
    ("is repaired by another action", |world| *world = World::planted()),
    ("is restarted", |world| *world = World::stale()),
    ("is restarted, which makes it worse", |world| {
        *world = World::stale();
        world.aftermath = Aftermath::MakesItWorse;
    }),
    ("is lied to and re-routed", |world| *world = super::models::lied_to()),
    ("is lied to by every model", |world| {
        *world = super::models::lied_to();
        world.model = |_, truth| Some(super::models::lie(truth));
    }),
    ("needs a person, because the model does not agree", |world| {
        *world = super::models::lied_to();
        world.model = |_, truth| Some(Diagnosis { proposal: None, ..truth.clone() });
        world.approves = true;
    }),
    ("has nothing wrong, and models that are asked", |world| {
        let chains = vec![super::models::chain()];
        *world = World { chains, model: |_, truth| Some(truth.clone()), ..World::healthy() };
    }),
    ("has models that never end a round", |world| {
        *world = World { models_hang: true, ..super::models::lied_to() };
    }),
    ("has a stuck pod", |world| {
        *world = World::stateful();
        world.aftermath = Aftermath::Stuck;
    }),
    ("has a stuck pod that looks well when it is to be evicted", |world| {
        *world = World::stateful();
        world.aftermath = Aftermath::Stuck;
        world.executor = Executor::FiresAndAbortsEviction(Reason::NothingFails);
    }),
    ("has a stuck pod that goes by itself", |world| {
        *world = World::stateful();
        world.aftermath = Aftermath::StuckAndGoes;
    }),
];

fn world_of(scenario: &Scenario) -> World {
    let mut world = World::new();
    (scenario.1)(&mut world);
    world
}

/// What has to hold after every run, whatever went wrong. The error is a sentence.
fn verdict(world: &World, ended: bool) -> Result<(), String> {
    let writes = |purpose| world.writes.iter().filter(|(of, _)| *of == purpose).count();
    let open = world.grant.spec.open.is_some();
    let told = match world.phase() {
        // Another incident tells of it.
        IncidentPhase::Escalated if world.status().escalation.is_none() => !world.ledger.storms.is_empty(),
        IncidentPhase::Escalated => world.told.contains(&Notice::Escalated),
        _ => true,
    };
    let ended_well = world.phase() == IncidentPhase::Resolved;
    let relapsed = ended_well && world.fired.is_some() && world.workload.is_broken();
    let goes_on = ended_well && world.firing;
    let written = world
        .remediations
        .values()
        .filter(|it| it.status.as_ref().is_some_and(|s| s.phase == crate::api::v1alpha1::RemediationPhase::Fired));
    let booked = written.clone().all(|remediation| {
        let id = &remediation.spec.action_id;
        world.ledger.entries.iter().any(|entry| entry.action_id == *id && entry.state == LedgerState::Spent)
    });
    // Whatever had a Grant and ended has its record, however late.
    let granted = |name: Option<&String>| world.opened.iter().any(|open| Some(&open.remediation) == name);
    let over = |it: &&Remediation| {
        granted(it.metadata.name.as_ref()) && it.status.as_ref().is_some_and(|status| status.phase.is_final())
    };
    let recorded = world.remediations.values().filter(over).all(|remediation| {
        let id = Some(remediation.spec.action_id.clone());
        world.audit.iter().any(|(kind, of)| kind == "RemediationEnded" && *of == id)
    });
    let asked = world.investigations.values().filter(|it| it.spec.model_chain.is_some()).count();
    let reroutes = world.status().timeline.iter().filter(|entry| entry.event == "Rerouted").count();
    for (holds, sentence) in [
        (ended, "it did not end"),
        (world.violations.is_empty(), "a Grant was opened that must not be"),
        (writes(Purpose::Repair) <= 1, "it was repaired more than once"),
        (writes(Purpose::Undo) <= 1, "it was taken back more than once"),
        (writes(Purpose::ReplacePod) <= 1, "a pod was evicted more than once"),
        (!open || world.phase() == IncidentPhase::Open, "a Grant was left open"),
        (told, "nobody was told"),
        (!relapsed || world.phase() == IncidentPhase::Escalated, "it failed again and nobody was told"),
        (!goes_on || world.phase() == IncidentPhase::Escalated, "the alert went on and nobody was told"),
        (booked, "a write is not in the Ledger"),
        (recorded, "the end of a Remediation is not in the audit log"),
        (reroutes <= 1, "it was re-routed more than once"),
        (asked <= 5, "models were asked in more rounds than there was evidence for"),
    ] {
        if !holds {
            return Err(format!("{sentence}: {:?} {} {:?}", world.phase(), world.reason(), world.violations));
        }
    }
    Ok(())
}

/// Runs a scenario with faults, and says what is wrong.
fn tried(scenario: &Scenario, step: StepFn, fault: impl FnMut(usize) -> Fault) -> (World, usize, Result<(), String>) {
    tried_with(scenario, step, true, fault)
}

/// As [`tried`]; what was read earlier is kept only if a fault of this run asks for it.
fn tried_with(
    scenario: &Scenario,
    step: StepFn,
    remembers: bool,
    fault: impl FnMut(usize) -> Fault,
) -> (World, usize, Result<(), String>) {
    let mut world = World { remembers, ..world_of(scenario) };
    let run = drive(&mut world, step, fault);
    let verdict = verdict(&world, run.ended);
    (world, run.requests, verdict)
}

/// Every fault and every pair (`make test-faults`), and not the slice of them that fits into each run of the unit tests.
const FULL: bool = option_env!("BACKSTOP_FULL_FAULTS").is_some();

/// The requests at which a fault happens: all of them, or every `stride`-th, another set for each `offset`.
fn places(requests: usize, stride: usize, offset: usize) -> impl Iterator<Item = usize> {
    let stride = if FULL { 1 } else { stride };
    (offset % stride..requests).step_by(stride)
}

#[test]
fn any_fault_at_any_request_of_any_scenario_ends_well() {
    let mut tries = 0;
    for (index, scenario) in SCENARIOS.iter().enumerate() {
        let (undisturbed, requests, fine) = tried(scenario, step, |_| Fault::None);
        fine.unwrap_or_else(|why| panic!("{}: {why}", scenario.0));
        for (nth, fault) in Fault::ALL.into_iter().enumerate() {
            // An answer that is lost is the fault that a step has to survive most often.
            let stride = if index < 2 || fault == Fault::LostAnswer { 1 } else { 3 };
            for at in places(requests.min(60), stride, nth + index) {
                let stale = fault == Fault::Stale;
                let (world, _, fine) = tried_with(scenario, step, stale, |n| if n == at { fault } else { Fault::None });
                tries += 1;
                fine.unwrap_or_else(|why| panic!("{}, {fault:?} at {at}: {why}", scenario.0));
                // From an old reading it may hand over what it would have repaired; it may not do more.
                if !stale {
                    assert_eq!(world.phase(), undisturbed.phase(), "{}, {fault:?} at {at}", scenario.0);
                }
            }
        }
    }
    println!("{tries} runs with one fault");
    assert!(tries > 900, "only {tries} runs");
}

#[test]
fn any_pair_of_faults_ends_well() {
    let mut tries = 0;
    for scenario in &SCENARIOS[..2] {
        let (_, requests, _) = tried(scenario, step, |_| Fault::None);
        let requests = requests.min(44);
        for (nth, (one, other)) in pairs().enumerate() {
            for first in places(requests, 4, nth) {
                for second in places(requests + 4, 6, nth + first).filter(|second| *second > first) {
                    let fault = |n| match n {
                        _ if n == first => one,
                        _ if n == second => other,
                        _ => Fault::None,
                    };
                    let remembers = one == Fault::Stale || other == Fault::Stale;
                    tries += 1;
                    let (_, _, fine) = tried_with(scenario, step, remembers, fault);
                    fine.unwrap_or_else(|why| {
                        panic!("{}, {one:?} at {first} and {other:?} at {second}: {why}", scenario.0)
                    });
                }
            }
        }
    }
    println!("{tries} runs with two faults");
    assert!(tries > 500, "only {tries} runs");
}

/// A request to open a Grant is under way for seconds, and meanwhile the mode forbids it: whenever it arrives, it opens
/// nothing. For every request that is late, and with a controller that does not write what is closed already.
#[test]
fn an_opening_that_arrives_after_it_was_refused_opens_nothing() {
    let plays = |closes_carelessly: bool| {
        let (_, requests, _) = tried(&SCENARIOS[0], step, |_| Fault::None);
        let play = |at: usize| {
            let mut world = World { kill_switch_once_sent: true, closes_carelessly, ..World::new() };
            let run = drive(&mut world, step, |n| if n == at { Fault::Late } else { Fault::None });
            let refused = world.mode.as_deref() == Some("observe");
            (refused, verdict(&world, run.ended), world)
        };
        (0..requests.min(60)).map(play).collect::<Vec<_>>()
    };
    let mut refused = 0;
    for (was_refused, fine, world) in plays(false) {
        fine.unwrap();
        if was_refused {
            refused += 1;
            assert_eq!((world.phase(), world.reason()), (IncidentPhase::Escalated, "ModeForbids"));
            assert!(world.writes.is_empty() && world.opened.is_empty(), "{:?}", world.opened);
            assert_eq!(world.ledger.entries[0].state, LedgerState::Reserved, "the executor has not ended it");
        }
    }
    assert!(refused > 0, "no opening was late");
    assert!(plays(true).into_iter().any(|(_, fine, _)| fine.is_err()), "planted defect not noticed: closes carelessly");
}

/// Each kind of fault with each other; a refused and a lost request are the same to whoever sends them, and one that
/// arrives late was lost for a while.
fn pairs() -> impl Iterator<Item = (Fault, Fault)> {
    const KINDS: [Fault; 4] = [Fault::LostAnswer, Fault::Late, Fault::Conflict, Fault::Stale];
    KINDS.into_iter().flat_map(|one| KINDS.into_iter().map(move |other| (one, other)))
}

/// A suite that misses one of these proves nothing.
#[test]
fn planted_defects_are_noticed() {
    fn without(mut taken: Step, dropped: fn(&Effect) -> bool) -> Step {
        taken.effects.retain(|effect| !dropped(effect));
        taken.after.retain(|effect| !dropped(effect));
        taken
    }
    fn no_audit(i: &Incident, s: &Seen, t: &Terms, n: Time) -> Step {
        without(step(i, s, t, n), |effect| matches!(effect, Effect::Audit(_)))
    }
    fn no_reservation(i: &Incident, s: &Seen, t: &Terms, n: Time) -> Step {
        without(step(i, s, t, n), |effect| matches!(effect, Effect::Reserve(_)))
    }
    fn leaves_grants_open(i: &Incident, s: &Seen, t: &Terms, n: Time) -> Step {
        without(step(i, s, t, n), |effect| matches!(effect, Effect::CloseGrant { .. }))
    }
    /// Refunds whatever ends.
    fn refunds(i: &Incident, s: &Seen, t: &Terms, n: Time) -> Step {
        let mut taken = step(i, s, t, n);
        for effect in &mut taken.effects {
            if let Effect::Settle { state, .. } = effect {
                *state = LedgerState::Refunded;
            }
        }
        taken
    }
    /// Opens the Grant, and then stores that it does.
    fn opens_first(i: &Incident, s: &Seen, t: &Terms, n: Time) -> Step {
        let mut taken = step(i, s, t, n);
        taken.effects.extend(taken.after.extract_if(.., |effect| matches!(effect, Effect::OpenGrant { .. })));
        taken
    }
    /// Judges once, and not again before the Grant.
    fn judges_once(i: &Incident, s: &Seen, t: &Terms, n: Time) -> Step {
        let Seen::WriteAndJudgement(found) = s else { return step(i, s, t, n) };
        let mut found = found.clone();
        found.case.rules.mode = Some("auto".into());
        step(i, &Seen::WriteAndJudgement(found), t, n)
    }
    /// Forgets for which epoch the Grant was opened.
    fn forgets_the_epoch(i: &Incident, s: &Seen, t: &Terms, n: Time) -> Step {
        let mut taken = step(i, s, t, n);
        if let Some(status) = &mut taken.status
            && status.phase == IncidentPhase::Remediating
        {
            status.grant_epoch = None;
        }
        let Seen::WriteAndJudgement(found) = s else { return taken };
        let mut found = found.clone();
        if let Some(grant) = &mut found.grant {
            grant.spec.open = None;
        }
        let mut again = step(i, &Seen::WriteAndJudgement(found), t, n);
        if let Some(status) = &mut again.status {
            status.grant_epoch = None;
        }
        again
    }
    /// Waits for the executor without a timeout.
    fn patient(i: &Incident, s: &Seen, t: &Terms, n: Time) -> Step {
        let mut i = i.clone();
        if let Some(status) = &mut i.status
            && status.phase == IncidentPhase::Remediating
            && let Some(last) = status.timeline.last_mut()
        {
            last.at = n;
        }
        step(&i, s, t, n)
    }
    /// Tells nobody.
    fn mute(i: &Incident, s: &Seen, t: &Terms, n: Time) -> Step {
        let mut taken = step(i, s, t, n);
        if matches!(taken.next, Next::Deliver(_)) {
            taken.next = Next::After(std::time::Duration::from_secs(7200));
        }
        if let Some(status) = &mut taken.status {
            status.escalation = None;
        }
        taken
    }
    /// Believes that no data is healthy.
    fn blind(i: &Incident, s: &Seen, t: &Terms, n: Time) -> Step {
        let mut taken = step(i, s, t, n);
        if let Seen::Target(target) = s
            && target.workload.is_err()
            && let Some(status) = &i.status
        {
            let status = IncidentStatus { phase: IncidentPhase::Resolved, ..status.clone() };
            taken = Step { effects: vec![], status: Some(Box::new(status)), after: vec![], next: Next::Again };
        }
        taken
    }

    /// Looks away once it has resolved.
    fn looks_away(i: &Incident, s: &Seen, t: &Terms, n: Time) -> Step {
        let mut taken = step(i, s, t, n);
        if let Some(status) = &mut taken.status {
            status.watch = None;
        }
        taken
    }
    /// Takes back whatever is not healthy in time, as if it had been worse.
    fn takes_everything_back(i: &Incident, s: &Seen, t: &Terms, n: Time) -> Step {
        let mut i = i.clone();
        if let Some(before) = i.status.as_mut().and_then(|status| status.before_write.as_mut()) {
            before.serving = 99;
        }
        step(&i, s, t, n)
    }
    /// Asks a stronger rung again and again.
    fn reroutes_for_ever(i: &Incident, s: &Seen, t: &Terms, n: Time) -> Step {
        let mut i = i.clone();
        if let Some(status) = &mut i.status {
            status.reroute = None;
        }
        step(&i, s, t, n)
    }
    /// Asks the models of the plan in every round.
    fn asks_models_always(i: &Incident, s: &Seen, t: &Terms, n: Time) -> Step {
        let mut taken = step(i, s, t, n);
        let plan = i.status.as_ref().and_then(|status| status.plan.as_ref());
        let chain = plan.and_then(|plan| plan.model_chain.as_ref()).and_then(|chain| chain.asked());
        for effect in taken.effects.iter_mut().chain(&mut taken.after) {
            if let Effect::CreateInvestigation { spec, .. } = effect {
                spec.model_chain.clone_from(&chain);
            }
        }
        taken
    }
    /// Believes that nothing is wrong while something fails.
    fn sees_nothing(i: &Incident, s: &Seen, t: &Terms, n: Time) -> Step {
        let mut taken = step(i, s, t, n);
        if let Seen::Watch(watched) = s
            && watched.workload.as_ref().is_ok_and(Workload::is_broken)
        {
            let mut watched = watched.clone();
            watched.workload = Err(crate::core::gate::Unreadable { reason: Reason::TargetGone, message: "?".into() });
            taken = step(i, &Seen::Watch(watched), t, n);
        }
        taken
    }
    /// Asks nobody about the neighbours.
    fn alone(i: &Incident, s: &Seen, t: &Terms, n: Time) -> Step {
        let calm = |case: &mut crate::core::incident::JudgementInputs| case.books.storm = None;
        match s.clone() {
            Seen::Judgement(mut case) => {
                calm(&mut case);
                step(i, &Seen::Judgement(case), t, n)
            }
            Seen::WriteAndJudgement(mut found) => {
                calm(&mut found.case);
                step(i, &Seen::WriteAndJudgement(found), t, n)
            }
            _ => step(i, s, t, n),
        }
    }
    /// Forgets the write whose outcome was unknown.
    fn forgets_the_late_one(i: &Incident, s: &Seen, t: &Terms, n: Time) -> Step {
        let mut taken = step(i, s, t, n);
        if let Some(status) = &mut taken.status {
            status.unsettled = None;
        }
        taken
    }

    /// Whether the suite is content with a step function.
    fn content(step: StepFn) -> bool {
        SCENARIOS.iter().all(|scenario| {
            let (_, requests, fine) = tried_with(scenario, step, false, |_| Fault::None);
            fine.is_ok()
                && (0..requests.min(30)).step_by(4).all(|at| {
                    let fault = |n| if n == at { Fault::LostAnswer } else { Fault::None };
                    tried_with(scenario, step, false, fault).2.is_ok()
                })
        }) && killed(step).is_ok()
            && unread(step).is_ok()
    }
    /// The kill switch is thrown once the Remediation exists.
    fn killed(step: StepFn) -> Result<(), String> {
        let mut world = World { kill_switch: true, ..World::new() };
        let run = drive(&mut world, step, |_| Fault::None);
        verdict(&world, run.ended)?;
        if world.writes.is_empty() { Ok(()) } else { Err("it wrote against the mode".into()) }
    }
    /// The target cannot be read after the write: that is a case for a person.
    fn unread(step: StepFn) -> Result<(), String> {
        let mut world = World { unreadable_after_write: true, ..World::new() };
        let run = drive(&mut world, step, |_| Fault::None);
        verdict(&world, run.ended)?;
        if world.phase() == IncidentPhase::Escalated { Ok(()) } else { Err("no data was healthy".into()) }
    }

    assert!(content(step), "the suite is not content with the state machine itself");
    for (name, defect) in [
        ("no audit record", no_audit as StepFn),
        ("no reservation", no_reservation),
        ("leaves Grants open", leaves_grants_open),
        ("refunds what was written", refunds),
        ("opens the Grant before it stores that it does", opens_first),
        ("judges once", judges_once),
        ("forgets the epoch", forgets_the_epoch),
        ("waits for the executor without a timeout", patient),
        ("tells nobody", mute),
        ("believes that no data is healthy", blind),
        ("looks away once it has resolved", looks_away),
        ("takes back what is no worse", takes_everything_back),
        ("sees nothing fail while it watches", sees_nothing),
        ("re-routes again and again", reroutes_for_ever),
        ("asks models in every round", asks_models_always),
        ("asks nobody about the neighbours", alone),
        ("forgets the write that comes late", forgets_the_late_one),
    ] {
        assert!(!content(defect), "planted defect not noticed: {name}");
    }
}

fn faults() -> impl Strategy<Value = Vec<Fault>> {
    let fault = prop_oneof![
        8 => Just(Fault::None),
        1 => Just(Fault::Error),
        1 => Just(Fault::Timeout),
        1 => Just(Fault::LostAnswer),
        1 => Just(Fault::Late),
        1 => Just(Fault::Conflict),
        1 => Just(Fault::Stale),
    ];
    prop::collection::vec(fault, 0..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn an_incident_always_ends_with_at_most_one_open_effect(
        faults in faults(), which in 0..SCENARIOS.len(), kill_switch in prop::bool::ANY,
    ) {
        let mut world = World { remembers: true, kill_switch, ..world_of(&SCENARIOS[which]) };
        let run = drive(&mut world, step, |n| faults.get(n).copied().unwrap_or(Fault::None));
        prop_assert_eq!(verdict(&world, run.ended), Ok(()));
    }
}
