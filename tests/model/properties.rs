//! What must hold in every state, what has to be reached, and that the model is not empty.

use backstop::api::v1alpha1::{IncidentPhase, LedgerState};
use stateright::{Model, Property};

use crate::{
    moves::{Check, Move, Witness},
    objects::clock,
    state::{Late, SLOTS, Stage, State, wrong},
};

/// Each action, and each repair of an incident, is written once at most, and its Grant opened once for each claim.
pub const AT_MOST_ONE_EFFECT: &str = "AtMostOneEffect";
/// Before a write there are its record in the audit log, its reservation, its claim and, in mode approve, its Approval.
pub const NO_WRITE_WITHOUT_INTENT: &str = "NoWriteWithoutIntent";
/// Nothing is written against the mode, without or after its Grant, and no Grant is opened for an incident that is over.
pub const NO_WRITE_AFTER_REVOKE: &str = "NoWriteAfterRevoke";
/// No more repairs are written, or counted, than the budget allows.
pub const BUDGET_NEVER_EXCEEDED: &str = "BudgetNeverExceeded";
/// Whatever happens, each incident ends, the on-call is told, and the executor has nothing left to do.
pub const EVERY_INCIDENT_ENDS: &str = "EveryIncidentEnds";
/// The same, asked in each state from which nothing happens any more: a path that joins another one is not lost.
pub const EVERY_END_IS_REACHED: &str = "EveryEndIsReached";
/// In the end no Grant is open and nothing carries a label of ours.
pub const NOTHING_IS_LEFT: &str = "NothingIsLeft";
/// In the end what was written is in Ledger and audit log.
pub const EVERY_WRITE_IS_BOOKED: &str = "EveryWriteIsBooked";

/// What must never be found wrong, in this order.
pub const SAFETY: [&str; 8] = [
    AT_MOST_ONE_EFFECT,
    NO_WRITE_WITHOUT_INTENT,
    NO_WRITE_AFTER_REVOKE,
    BUDGET_NEVER_EXCEEDED,
    EVERY_INCIDENT_ENDS,
    EVERY_END_IS_REACHED,
    NOTHING_IS_LEFT,
    EVERY_WRITE_IS_BOOKED,
];

impl Check {
    /// Nothing happens any more.
    fn is_quiet(&self, state: &State) -> bool {
        // Cheap signs of life first.
        let working = state.late != Late::None
            || state.tasks.as_flattened().iter().any(|task| task.stage != Stage::Idle)
            || state.slots.as_flattened().iter().any(|slot| slot.request != 0);
        if working {
            return false;
        }
        let mut moves: Vec<Move> = Vec::new();
        self.moves(state, &mut moves);
        moves.is_empty()
    }

    fn has_ended(&self, state: &State) -> bool {
        let told = self.cases().all(|case| {
            let it = &state.cases[case];
            let pointers = self.world.pointers(it.status);
            pointers.closed && (pointers.phase != IncidentPhase::Escalated || it.told)
        });
        told && self.is_over(state)
    }

    fn is_clean(&self, state: &State) -> bool {
        let live = state.grant != 0 && self.world.granted(state.grant).until >= clock(state);
        let labelled = self.cases().any(|case| {
            let it = &state.cases[case];
            self.world.is_labelled(it.target) || it.revisions.iter().any(|id| self.world.is_labelled(*id))
        });
        !live && !labelled
    }

    fn is_booked(&self, state: &State) -> bool {
        self.cases().all(|case| {
            let it = &state.cases[case];
            (0..SLOTS).all(|slot| {
                let action = self.world.names_of(it.rems[slot].spec).1;
                let spent = || self.world.books(state.ledger, action).0 == Some(LedgerState::Spent);
                let recorded = it.audit[slot] & 2 != 0;
                (it.fires[slot] == 0 || (spent() && recorded)) && (it.opened[slot] == 0 || recorded)
            })
        })
    }

    /// What a move sent, and what it changed, for who reads a path.
    pub fn told_of(&self, before: &State, after: &State, what: Move) -> String {
        let world = &self.world;
        let mut text = match what {
            Move::Controller(replica, case, _) => {
                let task = before.tasks[replica][case];
                let taken = || world.takens.get(task.step);
                match task.stage {
                    Stage::Effects => format!(" {:?}", taken().effects[usize::from(task.at)]),
                    Stage::After => format!(" {:?}", taken().after[usize::from(task.at)]),
                    Stage::Store => " status".into(),
                    Stage::Idle | Stage::Again => " decides".into(),
                }
            }
            Move::Executor(case, slot, _) => match before.slots[case][slot].request {
                0 => " reads".into(),
                request => format!(" {:?}", world.requests.get(request).verb),
            },
            _ => String::new(),
        };
        for case in self.cases() {
            let (old, new) = (&before.cases[case], &after.cases[case]);
            if old.status != new.status {
                text += &format!("; incident {case}: {:?}", world.pointers(new.status).phase);
            }
            for slot in 0..SLOTS {
                if old.rems[slot] != new.rems[slot] {
                    text += &format!("; Remediation {case}/{slot}: {:?}", world.claim(new.rems[slot].status));
                }
            }
        }
        if before.grant_version != after.grant_version || before.grant != after.grant {
            text += &format!("; Grant: {}", if after.grant == 0 { "closed" } else { "open" });
        }
        text
    }

    fn phase(&self, state: &State, phase: IncidentPhase) -> bool {
        self.cases().any(|case| self.world.pointers(state.cases[case].status).phase == phase)
    }
}

fn properties() -> Vec<Property<Check>> {
    vec![
        Property::always(AT_MOST_ONE_EFFECT, |_, state: &State| state.wrong & wrong::TWICE == 0),
        Property::always(NO_WRITE_WITHOUT_INTENT, |_, state: &State| state.wrong & wrong::NO_INTENT == 0),
        Property::always(NO_WRITE_AFTER_REVOKE, |_, state: &State| state.wrong & wrong::REVOKED == 0),
        Property::always(BUDGET_NEVER_EXCEEDED, |_, state: &State| state.wrong & wrong::BUDGET == 0),
        // Behind what is wrong nothing is looked at.
        Property::eventually(EVERY_INCIDENT_ENDS, |check: &Check, state: &State| {
            state.wrong != 0 || check.has_ended(state)
        }),
        Property::always(EVERY_END_IS_REACHED, |check: &Check, state: &State| {
            !check.is_quiet(state) || check.has_ended(state)
        }),
        // Without an executor nobody takes labels off, and nobody says what was written.
        Property::always(NOTHING_IS_LEFT, |check: &Check, state: &State| {
            state.gone || !check.is_quiet(state) || check.is_clean(state)
        }),
        Property::always(EVERY_WRITE_IS_BOOKED, |check: &Check, state: &State| {
            state.gone || !check.is_quiet(state) || check.is_booked(state)
        }),
        Property::sometimes("a write happened", |_, state: &State| state.cases.iter().any(|it| it.fires[0] > 0)),
        Property::sometimes("a write was taken back", |_, state: &State| state.cases.iter().any(|it| it.fires[1] > 0)),
        Property::sometimes("a write was refused after it was revoked", |check: &Check, _| {
            check.has_seen(Witness::Refused)
        }),
        Property::sometimes("an incident ended Resolved", |check: &Check, state: &State| {
            check.phase(state, IncidentPhase::Resolved)
        }),
        Property::sometimes("an incident ended Escalated", |check: &Check, state: &State| {
            check.phase(state, IncidentPhase::Escalated)
        }),
        Property::sometimes("a crash between arming and writing was survived", |check: &Check, _| {
            check.has_seen(Witness::Survived)
        }),
        Property::sometimes("both controllers acted", |_, state: &State| state.acted == 3),
        Property::sometimes("a controller without its Lease went on", |check: &Check, _| {
            check.has_seen(Witness::Stale)
        }),
        Property::sometimes("a late opening arrived", |check: &Check, _| check.has_seen(Witness::ArrivedLate)),
    ]
}

impl Model for Check {
    type State = State;
    type Action = Move;

    fn init_states(&self) -> Vec<State> {
        self.beginnings()
    }

    fn actions(&self, state: &State, moves: &mut Vec<Move>) {
        // What is wrong stays wrong: there is nothing more to find behind it.
        if state.wrong == 0 {
            self.moves(state, moves);
        }
    }

    fn next_state(&self, state: &State, what: Move) -> Option<State> {
        Some(self.after(*state, what))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties()
    }
}
