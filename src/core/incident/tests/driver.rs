//! The thin driver that the controller has, with a fault at any of its requests.

use std::collections::BTreeSet;

use jiff::SignedDuration;

use super::world::{Delayed, Fault, LATE, Refused, StepFn, World};
use crate::api::v1alpha1::{Delivery, Incident, IncidentStatus, Time};
use crate::core::incident::{self, Effect, Next, Notice, Step};

/// Who waits as long as this waits for nothing.
const IDLE: std::time::Duration = std::time::Duration::from_hours(1);

/// How a run went.
pub struct Run {
    /// Requests of the driver: reads, effects and status writes.
    pub requests: usize,
    /// It came to a final phase, and people know if they have to.
    pub ended: bool,
}

/// Drives the incident until it is over, with `fault(n)` at its n-th request.
pub fn drive(world: &mut World, step: StepFn, mut fault: impl FnMut(usize) -> Fault) -> Run {
    let mut requests = 0;
    let mut past: Vec<World> = Vec::new();
    let mut at = |world: &World, past: &mut Vec<World>| {
        let fault = fault(requests);
        requests += 1;
        // Kept only where it may be asked for: a World is large.
        if world.remembers {
            past.push(World { violations: BTreeSet::new(), ..world.clone() });
            if past.len() > 4 {
                past.remove(0);
            }
        }
        fault
    };
    'reconcile: for _ in 0..1200 {
        world.arrive();
        world.others();
        let mut incident = world.incident.clone();
        let mut need = incident::need(&incident, world.now);
        for _ in 0..12 {
            let fault = at(world, &mut past);
            let seen = match fault {
                Fault::Error | Fault::Timeout | Fault::LostAnswer | Fault::Late => {
                    world.now += SignedDuration::from_millis(900);
                    continue 'reconcile;
                }
                Fault::Stale => past.first().map_or_else(|| world.gather(need), |old| old.gather(need)),
                Fault::None | Fault::Conflict => world.gather(need),
            };
            let mut taken = step(&incident, &seen, &world.terms, world.now);
            if fault != Fault::Stale && opens_unfenced(&incident, &taken, world.now) {
                world.violations.insert("a Grant was opened without a status that is stored before".into());
            }
            match perform(world, &taken.effects.clone(), &mut past, &mut at) {
                Ok(()) => {}
                Err(Refused::Error) => {
                    world.now += SignedDuration::from_millis(900);
                    continue 'reconcile;
                }
                Err(Refused::Budget(refusal)) => {
                    taken = incident::refused(&incident, &taken, &refusal, &world.terms, world.now);
                    if perform(world, &taken.effects.clone(), &mut past, &mut at).is_err() {
                        world.now += SignedDuration::from_millis(900);
                        continue 'reconcile;
                    }
                }
            }
            if let Some(status) = taken.status {
                match at(world, &mut past) {
                    Fault::Error | Fault::Timeout => {
                        world.now += SignedDuration::from_millis(900);
                        continue 'reconcile;
                    }
                    Fault::Conflict => {
                        world.incident.metadata.resource_version = Some(world.bump());
                        continue 'reconcile;
                    }
                    Fault::LostAnswer => {
                        store(world, &incident, *status);
                        continue 'reconcile;
                    }
                    Fault::Late => {
                        let version = incident.metadata.resource_version.clone();
                        world.delayed.push((world.now + LATE, Delayed::Status { version, status }));
                        world.now += SignedDuration::from_millis(900);
                        continue 'reconcile;
                    }
                    Fault::None | Fault::Stale => {
                        if !store(world, &incident, *status) {
                            continue 'reconcile;
                        }
                    }
                }
                incident = world.incident.clone();
            }
            if perform(world, &taken.after, &mut past, &mut at).is_err() {
                continue 'reconcile;
            }
            need = match taken.next {
                Next::Look(more) => more,
                Next::Again => incident::need(&incident, world.now),
                Next::After(pause) => {
                    world.now += SignedDuration::try_from(pause).unwrap();
                    if world.phase().is_final() && pause >= IDLE && world.delayed.is_empty() {
                        return Run { requests, ended: true };
                    }
                    continue 'reconcile;
                }
                Next::Deliver(Notice::BreakerOpened) if world.opened_breakers().is_empty() => {
                    if let Some(status) = incident::nothing_to_tell(&incident, Notice::BreakerOpened).status {
                        store(world, &incident, *status);
                    }
                    continue 'reconcile;
                }
                Next::Deliver(notice) => {
                    let delivered = world.receiver_works;
                    let earlier = incident::deliveries(&incident, notice);
                    let attempts = 1 + earlier.first().map_or(0, |delivery| delivery.attempts);
                    let delivery = Delivery { channel: "event".into(), delivered, attempts, ..Delivery::default() };
                    let done = incident::told(&incident, notice, vec![delivery], false, world.now);
                    world.told.push(notice);
                    world.occasions.push(incident::occasion(&incident, notice));
                    if let Some(status) = done.status {
                        store(world, &incident, *status);
                    }
                    continue 'reconcile;
                }
            };
            world.arrive();
            world.others();
        }
    }
    Run { requests, ended: false }
}

/// Whether a Grant is opened without storing another status first. The API server stores nothing for one that is the same, and
/// then whoever ends the incident from what it was before is not refused. No two readings or decisions have the same time,
/// except here, where requests take none.
fn opens_unfenced(incident: &Incident, taken: &Step, now: Time) -> bool {
    let opens = |effects: &[Effect]| effects.iter().any(|effect| matches!(effect, Effect::OpenGrant { .. }));
    let is_another = |status: &IncidentStatus| {
        incident.status.as_ref() != Some(status)
            || status.before_write.as_ref().is_some_and(|reading| reading.at == now)
            || status.follow_up.as_ref().is_some_and(|decision| decision.decided_at == now)
    };
    opens(&taken.effects) || (opens(&taken.after) && !taken.status.as_deref().is_some_and(is_another))
}

/// Compare-and-swap of the status.
fn store(world: &mut World, seen: &Incident, status: IncidentStatus) -> bool {
    world.store(seen.metadata.resource_version.as_ref(), status)
}

fn perform(
    world: &mut World,
    effects: &[Effect],
    past: &mut Vec<World>,
    at: &mut impl FnMut(&World, &mut Vec<World>) -> Fault,
) -> Result<(), Refused> {
    for effect in effects {
        match at(world, past) {
            Fault::None | Fault::Stale => world.apply(effect)?,
            // Whoever appends to a log meets no conflict; whoever opens a Grant does.
            Fault::Conflict => {
                world.grant.metadata.resource_version = Some(world.bump());
                world.apply(effect)?;
            }
            Fault::Error | Fault::Timeout => return Err(Refused::Error),
            Fault::Late => {
                // Books and log are written by compare-and-swap of their own: what is late for them is lost.
                if matches!(
                    effect,
                    Effect::CreateInvestigation { .. } | Effect::CreateRemediation { .. } | Effect::OpenGrant { .. }
                ) {
                    world.delayed.push((world.now + LATE, Delayed::Effect(effect.clone())));
                }
                return Err(Refused::Error);
            }
            Fault::LostAnswer => {
                world.apply(effect)?;
                return Err(Refused::Error);
            }
        }
    }
    Ok(())
}
