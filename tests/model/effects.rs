//! What a move does.

use backstop::{
    api::v1alpha1::{Approval, ApprovalSpec, LedgerState},
    core::{execution::Verb, object},
};
use jiff::SignedDuration;
use serde_json::json;

use crate::{
    bugs::Bug,
    hands::{Answer, Ask},
    judge::{Fx, Taken, Then},
    moves::{Check, How, Move, Witness, narrow},
    objects::{self, CAP, clock},
    state::{Aftermath, Health, LEADER, Label, Late, Process, SLOTS, Slot, Stage, State, Task, fresh, wrong},
    tables::Id,
};

/// How an effect ended.
enum Ended {
    Done,
    /// Not done: the incident is looked at again.
    Failed,
    /// The Ledger refused this booking.
    Refused(Id),
}

impl Check {
    /// The state after a move.
    pub fn after(&self, mut state: State, what: Move) -> State {
        match what {
            Move::Controller(replica, case, how) => {
                state.faults -= u8::from(how != How::Answered);
                self.controller_goes_on(&mut state, replica, case, how);
            }
            Move::ControllerDies(replica) => {
                state.faults -= 1;
                state.tasks[replica] = Default::default();
            }
            Move::Freezes(replica) => {
                state.faults -= 1;
                state.processes[replica] = Process::Frozen;
            }
            Move::Thaws(replica) => {
                let leads = replica == LEADER;
                state.processes[replica] = if leads { Process::Works } else { Process::Woken };
                state.lapsed &= !leads;
            }
            Move::Leaves(replica) => {
                state.processes[replica] = Process::Waits;
                state.tasks[replica] = Default::default();
            }
            Move::Takes => state.takes_over(),
            Move::Executor(case, slot, how) => {
                state.faults -= u8::from(how != How::Answered);
                if state.slots[case][slot].request == 0 {
                    state.slots[case][slot] = self.turned(&state, case, slot);
                } else {
                    self.sends(&mut state, case, slot, how);
                }
            }
            Move::ExecutorDies => {
                state.faults -= 1;
                self.executor_dies(&mut state);
            }
            Move::ExecutorIsGone => {
                state.faults -= 1;
                state.slots = Default::default();
                state.gone = true;
            }
            Move::Sweeps => self.sweeps(&mut state),
            Move::Investigates(case) => {
                let it = state.cases[case];
                let mut look = self.look(&state, case, 0, 0);
                look.round = it.round;
                look.target = (it.target, it.revisions, it.health, u16::from(it.since) * 16);
                state.cases[case].round = self.world.investigated(look);
            }
            Move::PoliciesSee => (state.seen, state.seen_version) = (state.grant, state.grant_version),
            Move::Arrives => self.arrives(&mut state),
            Move::Moment => state.moment += 1,
            Move::Minutes | Move::MinutesInBetween => {
                state.slow -= u8::from(what == Move::MinutesInBetween);
                (state.tick, state.moment) = (state.tick + 1, 0);
                state.lapsed |= state.processes[LEADER] == Process::Frozen;
                // An old reading is not gone on from.
                for slot in state.slots.as_flattened_mut().iter_mut().filter(|slot| slot.request == 0) {
                    *slot = Slot { view: 0, fresh: 0, grant_version: 0, ..*slot };
                }
            }
            _ => self.people_do(&mut state, what),
        }
        state.canonical()
    }

    fn controller_goes_on(&self, state: &mut State, replica: usize, case: usize, how: How) {
        self.controller_does(state, replica, case, how);
        if state.processes[replica] == Process::Woken {
            self.witness(Witness::Stale);
            if self.world.bug != Bug::GoesOnWithoutLease {
                state.tasks[replica][case] = Task::default();
            }
        }
    }

    fn controller_does(&self, state: &mut State, replica: usize, case: usize, how: How) {
        let task = state.tasks[replica][case];
        match task.stage {
            Stage::Idle | Stage::Again => self.controller_decides(state, replica, case),
            Stage::Effects | Stage::After => {
                let taken = self.world.takens.get(task.step);
                let list = if task.stage == Stage::Effects { &taken.effects } else { &taken.after };
                let fx = list[usize::from(task.at)];
                if how == How::Late {
                    let (step, at, grant_version) = (task.step, task.at, task.grant_version);
                    let after = task.stage == Stage::After;
                    state.late = Late::Effect { case: narrow(case), step, at, after, grant_version };
                    state.tasks[replica][case] = Task::default();
                    return;
                }
                state.acted |= 1 << replica;
                let ended = self.apply(state, case, fx, task.grant_version, task.ledger);
                state.tasks[replica][case] = match ended {
                    _ if how == How::AnswerLost => Task::default(),
                    Ended::Failed => Task::default(),
                    Ended::Done => self.advanced(&taken, task),
                    // After the status a refusal is passed over.
                    Ended::Refused(_) if task.stage == Stage::After => self.advanced(&taken, task),
                    Ended::Refused(booking) => {
                        let ledger = state.ledger;
                        let step =
                            self.world.refused(narrow(case), task.status, taken.whole, (ledger, booking), clock(state));
                        self.begun(Task { step, at: 0, ..task })
                    }
                };
            }
            Stage::Store => {
                let taken = self.world.takens.get(task.step);
                if how == How::Late {
                    state.late = Late::Status { case: narrow(case), status: taken.status, fresh: task.fresh };
                    state.tasks[replica][case] = Task::default();
                    return;
                }
                if !task.fresh {
                    state.tasks[replica][case] = Task::default();
                    return;
                }
                state.acted |= 1 << replica;
                state.status_is(case, taken.status);
                let stored = Task { status: taken.status, fresh: true, ..task };
                state.tasks[replica][case] =
                    if how == How::AnswerLost { Task::default() } else { self.stored(&taken, stored) };
            }
        }
    }

    fn controller_decides(&self, state: &mut State, replica: usize, case: usize) {
        let task = state.tasks[replica][case];
        let (status, is_fresh) =
            if task.stage == Stage::Idle { (state.cases[case].status, true) } else { (task.status, task.fresh) };
        let (step, taken) = self.next_step(state, case, status);
        let mut task = Task { step, status, fresh: is_fresh, ..Task::default() };
        if taken.effects.iter().chain(&taken.after).any(|fx| matches!(fx, Fx::Open { .. })) {
            task.grant_version = state.grant_version;
        }
        if self.world.bug == Bug::LedgerLosesUpdates && taken.effects.iter().any(|fx| matches!(fx, Fx::Ledger(_))) {
            task.ledger = state.ledger + 1;
        }
        state.tasks[replica][case] = match taken.then {
            _ if taken.is_nothing() => Task::default(),
            Then::Tell(notice) if taken.effects.is_empty() && taken.status == 0 => {
                state.cases[case].told |= notice == 0;
                let step = self.world.told(narrow(case), status, notice, clock(state));
                self.begun(Task { step, ..task })
            }
            _ => self.begun(task),
        };
    }

    /// The task at the beginning of its step.
    fn begun(&self, task: Task) -> Task {
        let taken = self.world.takens.get(task.step);
        let first = if self.world.bug == Bug::StatusFirst && taken.status != 0 { Stage::Store } else { Stage::Effects };
        match first {
            Stage::Effects if taken.effects.is_empty() => self.with_effects_done(&taken, task),
            stage => Task { stage, at: 0, ..task },
        }
    }

    fn with_effects_done(&self, taken: &Taken, task: Task) -> Task {
        if taken.status != 0 && self.world.bug != Bug::StatusFirst {
            Task { stage: Stage::Store, at: 0, ledger: 0, ..task }
        } else {
            self.with_status_done(taken, task)
        }
    }

    fn stored(&self, taken: &Taken, task: Task) -> Task {
        if self.world.bug == Bug::StatusFirst && !taken.effects.is_empty() {
            Task { stage: Stage::Effects, at: 0, ..task }
        } else {
            self.with_status_done(taken, task)
        }
    }

    fn with_status_done(&self, taken: &Taken, task: Task) -> Task {
        if taken.after.is_empty() { self.ended(taken, task) } else { Task { stage: Stage::After, at: 0, ..task } }
    }

    /// The task after the effect that was next.
    fn advanced(&self, taken: &Taken, task: Task) -> Task {
        let next = Task { at: task.at + 1, ..task };
        let more = |list: &[Fx]| usize::from(next.at) < list.len();
        match task.stage {
            Stage::Effects if more(&taken.effects) => next,
            Stage::Effects => self.with_effects_done(taken, task),
            Stage::After if more(&taken.after) => next,
            _ => self.ended(taken, task),
        }
    }

    fn ended(&self, taken: &Taken, task: Task) -> Task {
        match taken.then {
            Then::Wait => Task::default(),
            Then::Again | Then::Look(_) | Then::Tell(_) => {
                Task { stage: Stage::Again, status: task.status, fresh: task.fresh, ..Task::default() }
            }
        }
    }

    /// Does one effect of a controller.
    fn apply(&self, state: &mut State, case: usize, fx: Fx, version: u8, old_ledger: Id) -> Ended {
        let world = &self.world;
        match fx {
            Fx::Round(round) => {
                let ((name, number, _), (known, latest, _)) =
                    (world.round(round), world.round(state.cases[case].round));
                if name != known && number > latest {
                    state.cases[case].round = round;
                }
            }
            Fx::Create(spec) => {
                let rems = &mut state.cases[case].rems;
                let name = |spec: Id| world.names_of(spec).0;
                if !rems.iter().any(|rem| rem.spec != 0 && name(rem.spec) == name(spec)) {
                    match rems.iter_mut().find(|rem| rem.spec == 0) {
                        Some(free) => free.spec = spec,
                        None => state.wrong |= wrong::TWICE,
                    }
                }
            }
            Fx::Ledger(booking) => {
                let from = if old_ledger > 0 { old_ledger - 1 } else { state.ledger };
                match world.ledger(from, booking, clock(state)) {
                    Some(next) => state.ledger = next,
                    None => return Ended::Refused(booking),
                }
                if self.repairs(state) > CAP {
                    state.wrong |= wrong::BUDGET;
                }
            }
            Fx::Audit { ended, action } => {
                for slot in 0..SLOTS {
                    let it = &mut state.cases[case];
                    if it.rems[slot].spec != 0 && world.names_of(it.rems[slot].spec).1 == action {
                        it.audit[slot] |= if ended { 2 } else { 1 };
                    }
                }
            }
            Fx::Open { grant, guarded } => {
                if guarded && version != state.grant_version {
                    return Ended::Failed;
                }
                self.opens(state, case, grant);
            }
            Fx::Close(name) => {
                if let Some(grant) = world.closed(state.grant, name, clock(state)) {
                    state.grant_is(grant);
                    state.closed_for = name;
                }
            }
            Fx::Use { digest, by } => {
                let it = &mut state.cases[case];
                it.approvals = world.used(narrow(case), it.approvals, digest, by);
            }
        }
        Ended::Done
    }

    /// A Grant is opened: what has to hold then.
    fn opens(&self, state: &mut State, case: usize, grant: Id) {
        let world = &self.world;
        let granted = world.granted(grant);
        let before = world.granted(state.grant);
        let live = state.grant != 0 && before.until >= clock(state) && before.name != granted.name;
        let it = &mut state.cases[case];
        let slot = it.rems.iter().position(|rem| rem.spec != 0 && world.names_of(rem.spec).1 == granted.action);
        let Some(slot) = slot else {
            state.wrong |= wrong::NO_INTENT;
            return;
        };
        if it.audit[slot] & 1 == 0 || world.books(state.ledger, granted.action).0 != Some(LedgerState::Reserved) {
            state.wrong |= wrong::NO_INTENT;
        }
        if it.opened[slot] >= granted.epoch {
            state.wrong |= wrong::TWICE;
        }
        it.opened[slot] = it.opened[slot].max(granted.epoch);
        if live || world.pointers(it.status).phase.is_final() {
            state.wrong |= wrong::REVOKED;
        }
        state.grant_is(grant);
    }

    fn sends(&self, state: &mut State, case: usize, slot: usize, how: How) {
        let before = state.slots[case][slot];
        let ask = self.ask(state, case, slot, before.request, before.fresh, before.grant_version);
        if how == How::Late {
            let (request, fresh) = (before.request, before.fresh);
            state.late = Late::Write { case: narrow(case), slot: narrow(slot), request, fresh };
        }
        let answer = matches!(how, How::Answered | How::AnswerLost | How::Dies).then(|| {
            let answer = self.world.answer(ask);
            self.answered(state, case, slot, before.request, answer, before.inherited);
            answer
        });
        if how == How::Dies {
            self.executor_dies(state);
            return;
        }
        let heard = answer.filter(|_| how == How::Answered);
        let response = heard.map_or_else(|| self.world.unknown(), |answer| answer.response);
        let (memory, view) = self.world.learn(before.memory, before.view, before.request, response, clock(state));
        let now = &mut state.slots[case][slot];
        *now = Slot { memory, inherited: now.inherited, ..Slot::default() };
        if view != 0 {
            let wrote = heard.map_or(0, |answer| answer.wrote);
            // What it wrote itself it knows.
            *now = Slot { view, fresh: before.fresh | wrote, grant_version: before.grant_version, ..*now };
        }
    }

    fn ask(&self, state: &State, case: usize, slot: usize, request: Id, fresh: u8, version: u8) -> Ask {
        let (it, other) = (&state.cases[case], &state.cases[1 - case]);
        let labelled = |id: Id| if id != 0 && self.world.is_labelled(id) { id } else { 0 };
        Ask {
            request,
            rem: (it.rems[slot].spec, it.rems[slot].status),
            target: it.target,
            revisions: it.revisions,
            other_revisions: other.revisions.map(labelled),
            grant: state.seen,
            same: version == state.seen_version,
            label: state.label[0],
            fresh,
            now: clock(state),
        }
    }

    /// The API server did what it did with a request of the executor.
    fn answered(&self, state: &mut State, case: usize, slot: usize, request: Id, answer: Answer, inherited: bool) {
        let (verb, dry_run, _) = self.world.verb(request);
        if verb == Verb::Fire && !dry_run && answer.refused {
            let live = self.is_live(state, state.grant, case, slot);
            if state.label[0] == Label::Observe || !live {
                self.witness(Witness::Refused);
            }
        }
        if answer.wrote & fresh::STATUS != 0 {
            state.is_stale(case, Some(slot), fresh::STATUS);
            state.cases[case].rems[slot].status = answer.status;
        }
        let objects = answer.wrote & !fresh::STATUS;
        if objects != 0 {
            state.is_stale(case, None, objects);
            let it = &mut state.cases[case];
            (it.target, it.revisions) = (answer.target, answer.revisions);
        }
        if answer.changed && answer.wrote & fresh::TARGET != 0 {
            if inherited {
                self.witness(Witness::Survived);
            }
            self.fired(state, case, slot);
        }
        if answer.wrote & fresh::TARGET != 0 {
            state.slots[case].iter_mut().for_each(|slot| slot.inherited = false);
        }
    }

    /// A Grant allows the write of a Remediation now.
    fn is_live(&self, state: &State, grant: Id, case: usize, slot: usize) -> bool {
        let granted = self.world.granted(grant);
        let spec = state.cases[case].rems[slot].spec;
        grant != 0 && granted.action == self.world.names_of(spec).1 && granted.until >= clock(state)
    }

    /// The API server accepted a write on a target: what has to hold then.
    fn fired(&self, state: &mut State, case: usize, slot: usize) {
        let world = &self.world;
        let it = state.cases[case];
        let action = world.names_of(it.rems[slot].spec).1;
        let claim = world.claim(it.rems[slot].status);
        let booked = matches!(world.books(state.ledger, action).0, Some(LedgerState::Reserved | LedgerState::Spent));
        // The policies may have seen the Grant for the claim before, which allows the same.
        let epochs = [state.seen, state.grant].map(|grant| world.granted(grant).epoch);
        let asked = state.label[1] != Label::Approve || it.approved;
        if it.audit[slot] & 1 == 0 || !booked || claim.epoch == 0 || !epochs.contains(&claim.epoch) || !asked {
            state.wrong |= wrong::NO_INTENT;
        }
        // What the policies saw of the Grant may be moments old; what they saw has to have allowed it.
        let caught_up = state.seen_version == state.grant_version || world.bug == Bug::PolicyIsBlind;
        let revoked = !self.is_live(state, state.seen, case, slot)
            || (caught_up && !self.is_live(state, state.grant, case, slot));
        if state.label[0] == Label::Observe || revoked {
            state.wrong |= wrong::REVOKED;
        }
        let it = &mut state.cases[case];
        it.fires[slot] = (it.fires[slot] + 1).min(2);
        if it.fires[slot] > 1 {
            state.wrong |= wrong::TWICE;
        }
        it.health = match (slot, it.aftermath) {
            (0, Aftermath::Recovers) => Health::Well,
            (0, Aftermath::Worse) => Health::Down,
            (0, Aftermath::NoBetter) => Health::NoBetter,
            _ => Health::Broken,
        };
        it.since = state.tick;
        if self.repairs(state) > CAP {
            state.wrong |= wrong::BUDGET;
        }
    }

    /// Repairs that are reserved or were written, whatever the Ledger says of those.
    fn repairs(&self, state: &State) -> u32 {
        let forgotten = self.cases().filter(|case| {
            let it = &state.cases[*case];
            let counts = |action| {
                matches!(self.world.books(state.ledger, action).0, Some(LedgerState::Reserved | LedgerState::Spent))
            };
            it.fires[0] > 0 && !counts(self.world.names_of(it.rems[0].spec).1)
        });
        self.world.books(state.ledger, 0).1 + u32::try_from(forgotten.count()).unwrap_or(u32::MAX)
    }

    fn executor_dies(&self, state: &mut State) {
        for case in self.cases() {
            let armed = self.world.is_labelled(state.cases[case].target);
            for slot in 0..SLOTS {
                let open = state.cases[case].rems[slot].spec != 0
                    && !self.world.claim(state.cases[case].rems[slot].status).phase.is_final();
                state.slots[case][slot] = Slot { inherited: armed && open, ..Slot::default() };
            }
        }
    }

    fn sweeps(&self, state: &mut State) {
        let request = self.leftovers(state);
        let object = self.world.requests.get(request).name.clone();
        let mine = |case: &usize| {
            let it = &state.cases[*case];
            let named = |id: &Id| object::meta(&self.world.objects.get(*id), "name") == object;
            named(&it.target) || it.revisions.iter().any(|id| named(id))
        };
        let Some(case) = self.cases().find(mine) else { return };
        let ask = Ask { rem: (0, 0), ..self.ask(state, case, 0, request, fresh::ALL, state.seen_version) };
        let answer = self.world.answer(ask);
        self.answered(state, case, 0, request, answer, false);
    }

    fn arrives(&self, state: &mut State) {
        match std::mem::take(&mut state.late) {
            Late::None => {}
            Late::Effect { case, step, at, after, grant_version } => {
                let taken = self.world.takens.get(step);
                let fx = if after { &taken.after } else { &taken.effects }[usize::from(at)];
                let ended = self.apply(state, usize::from(case), fx, grant_version, 0);
                if matches!(fx, Fx::Open { .. }) && matches!(ended, Ended::Failed | Ended::Done) {
                    self.witness(Witness::ArrivedLate);
                }
            }
            Late::Status { case, status, fresh } => {
                if fresh {
                    state.status_is(usize::from(case), status);
                }
            }
            Late::Write { case, slot, request, fresh } => {
                let (case, slot) = (usize::from(case), usize::from(slot));
                let ask = self.ask(state, case, slot, request, fresh, state.seen_version);
                let inherited = state.slots[case][slot].inherited;
                self.answered(state, case, slot, request, self.world.answer(ask), inherited);
            }
        }
    }

    fn people_do(&self, state: &mut State, what: Move) {
        state.people -= u8::from(!matches!(what, Move::Approves(_)));
        match what {
            Move::Approves(case) => {
                let digest = self.world.pointers(state.cases[case].status).digest;
                let name = self.world.incidents[case].metadata.name.clone().unwrap_or_default();
                let spec = ApprovalSpec {
                    approver: "ann".into(),
                    incident: name,
                    digest: self.world.texts.get(digest).as_ref().clone(),
                    expires_at: objects::time(clock(state)) + SignedDuration::from_secs(400),
                };
                let mut approval = Approval::new("a", spec);
                approval.metadata.uid = Some("uid-a".into());
                state.cases[case].approvals = self.world.approvals.put(vec![approval]);
                state.cases[case].approved = true;
            }
            Move::Withdraws(case) => state.cases[case].approvals = 0,
            Move::Says(label) => state.label[0] = label,
            Move::Touches(case) => state.is_stale(case, None, fresh::TARGET),
            Move::Heals(case) => {
                (state.cases[case].health, state.cases[case].since) = (Health::Well, state.tick);
                state.is_stale(case, None, fresh::TARGET);
            }
            Move::Deploys(case) | Move::Reverts(case) => {
                let reverts = matches!(what, Move::Reverts(_));
                let target = state.cases[case].target;
                state.cases[case].target = self.world.deployed.of((target, reverts), || {
                    let mut target = self.world.objects.get(target).as_ref().clone();
                    target["spec"]["template"] = if reverts {
                        objects::target(case)["spec"]["template"].clone()
                    } else {
                        objects::another_template(case)
                    };
                    target["metadata"]["generation"] = json!(object::generation(&target) + 1);
                    self.world.objects.put(target)
                });
                state.is_stale(case, None, fresh::TARGET);
                (state.cases[case].health, state.cases[case].since) = (Health::Broken, state.tick);
            }
            _ => {}
        }
    }
}
