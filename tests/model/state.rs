//! A state of the model: what the API server stores, what the processes know, what is under way, and what may still go
//! wrong. Small, and the same for everything that cannot be told apart.

use crate::tables::Id;

/// Incidents of one namespace, each with a target of its own.
pub const CASES: usize = 2;
/// Remediations of one incident: that which repairs, and that which takes it back.
pub const SLOTS: usize = 2;
/// Controllers.
pub const REPLICAS: usize = 2;
/// The controller that has the Lease.
pub const LEADER: usize = 0;

/// What the namespace's label says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Label {
    /// `observe`: the kill switch.
    #[default]
    Observe,
    /// `approve`
    Approve,
    /// `auto`
    Auto,
}

impl Label {
    /// The value of the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Label::Observe => "observe",
            Label::Approve => "approve",
            Label::Auto => "auto",
        }
    }
}

/// How the target of an incident is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Health {
    /// The new release crash-loops, and one pod of it serves for the moment.
    #[default]
    Broken,
    /// All pods are ready, on whatever template there is.
    Well,
    /// No pod is ready.
    Down,
    /// As before, on the other template.
    NoBetter,
}

/// What the repair will do to the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Aftermath {
    /// It recovers.
    #[default]
    Recovers,
    /// Nothing of it works any more: to be taken back.
    Worse,
    /// It does not help.
    NoBetter,
}

/// A Remediation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rem {
    /// Its name and spec; 0: it does not exist.
    pub spec: Id,
    /// Its status.
    pub status: Id,
}

/// One incident with everything that belongs to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Case {
    /// Status of the Incident.
    pub status: Id,
    /// The latest Investigation.
    pub round: Id,
    /// Its Remediations, in the order in which they were created.
    pub rems: [Rem; SLOTS],
    /// The workload.
    pub target: Id,
    /// Its recorded revisions, 1 and 2.
    pub revisions: [Id; 2],
    /// Its Approvals.
    pub approvals: Id,
    /// How the target is.
    pub health: Health,
    /// Since which tick.
    pub since: u8,
    /// What the repair will do.
    pub aftermath: Aftermath,
    /// Records of the audit log: of each Remediation that its Grant is about to open (1), and that it ended (2).
    pub audit: [u8; SLOTS],
    /// Writes of each Remediation that the API server accepted.
    pub fires: [u8; SLOTS],
    /// The epoch for which its Grant was opened last.
    pub opened: [u8; SLOTS],
    /// A person approved the repair, at some time.
    pub approved: bool,
    /// The on-call was told that it was handed over.
    pub told: bool,
}

/// Where a controller is with an incident.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Stage {
    /// It waits.
    #[default]
    Idle,
    /// Effects of the step, before its status.
    Effects,
    /// The status of the step.
    Store,
    /// Effects after the status.
    After,
    /// The step is done; the next begins from the status that it stored.
    Again,
}

/// What a controller is doing about one incident.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Task {
    /// Where it is.
    pub stage: Stage,
    /// Which effect is next.
    pub at: u8,
    /// The step that it takes.
    pub step: Id,
    /// The Incident's status that it read.
    pub status: Id,
    /// Nobody has written the Incident since.
    pub fresh: bool,
    /// Version of the Grant that it read.
    pub grant_version: u8,
    /// The Ledger that it read, and 1, where a bug goes by it.
    pub ledger: Id,
}

/// Objects that a reading of the executor is still current about.
pub mod fresh {
    /// The target.
    pub const TARGET: u8 = 1;
    /// Revision 1; revision 2 is the next bit.
    pub const REVISION: u8 = 2;
    /// The status of the Remediation.
    pub const STATUS: u8 = 8;
    /// All of it.
    pub const ALL: u8 = 15;
}

/// What the executor knows of one Remediation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Slot {
    /// Its memory.
    pub memory: Id,
    /// What it read and goes on from; 0: it reads again.
    pub view: Id,
    /// The request that it is about to send; 0: none.
    pub request: Id,
    /// It reads the evidence too.
    pub look: bool,
    /// What nobody has written since it read it: bits of [`fresh`].
    pub fresh: u8,
    /// Version of the Grant that it read.
    pub grant_version: u8,
    /// A process before this one armed the target, and nothing was written or disarmed since.
    pub inherited: bool,
}

/// A controller process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Process {
    /// It waits for the Lease.
    #[default]
    Waits,
    /// It works: it has the Lease.
    Works,
    /// It is frozen, with all it was doing.
    Frozen,
    /// It woke up, and another has its Lease. What it was about to send it sends: it had asked before whether it leads. Then
    /// it asks again.
    Woken,
}

/// A request that nobody waits for any more, and that still arrives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Late {
    /// None.
    #[default]
    None,
    /// Effect `at` of a step of a controller.
    Effect {
        /// The incident.
        case: u8,
        /// The step.
        step: Id,
        /// Which of its effects.
        at: u8,
        /// It is one of those after the status.
        after: bool,
        /// The version of the Grant that it was sent for.
        grant_version: u8,
    },
    /// A status of an Incident.
    Status {
        /// The incident.
        case: u8,
        /// The status.
        status: Id,
        /// Nobody has written the Incident since.
        fresh: bool,
    },
    /// A request of the executor.
    Write {
        /// The incident.
        case: u8,
        /// The Remediation.
        slot: u8,
        /// The request.
        request: Id,
        /// What nobody has written since.
        fresh: u8,
    },
}

/// What is wrong for good: one bit for each property.
pub mod wrong {
    /// One effect happened twice.
    pub const TWICE: u8 = 1;
    /// A write, or the opening of its Grant, without what has to come before it.
    pub const NO_INTENT: u8 = 2;
    /// A write, or the opening of its Grant, after it was revoked.
    pub const REVOKED: u8 = 4;
    /// More than the budget.
    pub const BUDGET: u8 = 8;
}

/// A state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    /// Time, in ticks of minutes.
    pub tick: u8,
    /// Time within a tick, in moments of milliseconds.
    pub moment: u8,
    /// What the namespace's label says now, and what people normally let it say.
    pub label: [Label; 2],
    /// The Lease was not renewed for a tick.
    pub lapsed: bool,
    /// The controllers. The first has the Lease: replicas are the same but for that, so who takes it changes places with
    /// who had it, and a state and its mirror image are one.
    pub processes: [Process; REPLICAS],
    /// What each is doing about each incident.
    pub tasks: [[Task; CASES]; REPLICAS],
    /// The Grant of the namespace.
    pub grant: Id,
    /// Its version.
    pub grant_version: u8,
    /// Name of the Remediation that it was closed for last.
    pub closed_for: Id,
    /// The Grant as the admission policies see it.
    pub seen: Id,
    /// The version of that.
    pub seen_version: u8,
    /// The Ledger of actions.
    pub ledger: Id,
    /// The incidents.
    pub cases: [Case; CASES],
    /// The executor.
    pub slots: [[Slot; SLOTS]; CASES],
    /// There is no executor any more.
    pub gone: bool,
    /// The request that is late.
    pub late: Late,
    /// Faults that may still happen.
    pub faults: u8,
    /// Things that people may still do.
    pub people: u8,
    /// Ticks that may still pass while somebody has something to do.
    pub slow: u8,
    /// Which controllers have written anything.
    pub acted: u8,
    /// What is wrong: bits of [`wrong`].
    pub wrong: u8,
}

impl State {
    /// The same state under its shortest description: versions of the Grant are only ever compared for equality, and one
    /// that nobody holds does not matter.
    pub fn canonical(mut self) -> State {
        let mut used = [0u8; 16];
        let mut count = 0;
        let mut note = |version: u8| {
            used[count] = version;
            count += 1;
        };
        note(self.grant_version);
        note(self.seen_version);
        for task in self.tasks.as_flattened() {
            note(task.grant_version);
        }
        for slot in self.slots.as_flattened() {
            note(slot.grant_version);
        }
        if let Late::Effect { grant_version, .. } = self.late {
            note(grant_version);
        }
        let used = &mut used[..count];
        used.sort_unstable();
        let rank = |version: u8| {
            if version == 0 {
                return 0;
            }
            let below = used
                .iter()
                .enumerate()
                .filter(|(at, one)| **one != 0 && **one < version && (*at == 0 || used[*at - 1] != **one));
            u8::try_from(below.count()).unwrap_or(u8::MAX) + 1
        };
        self.grant_version = rank(self.grant_version);
        self.seen_version = rank(self.seen_version);
        self.tasks.as_flattened_mut().iter_mut().for_each(|task| task.grant_version = rank(task.grant_version));
        self.slots.as_flattened_mut().iter_mut().for_each(|slot| slot.grant_version = rank(slot.grant_version));
        if let Late::Effect { grant_version, .. } = &mut self.late {
            *grant_version = rank(*grant_version);
        }
        self
    }

    /// The other controller takes the Lease.
    pub fn takes_over(&mut self) {
        self.lapsed = false;
        self.processes.swap(0, 1);
        self.tasks.swap(0, 1);
        self.acted = ((self.acted & 1) << 1) | (self.acted >> 1);
        self.processes[LEADER] = Process::Works;
    }

    /// The Grant was written.
    pub fn grant_is(&mut self, grant: Id) {
        self.grant = grant;
        self.grant_version += 1;
    }

    /// The Incident of `case` was written.
    pub fn status_is(&mut self, case: usize, status: Id) {
        self.cases[case].status = status;
        self.tasks.iter_mut().for_each(|tasks| tasks[case].fresh = false);
        if let Late::Status { case: of, fresh, .. } = &mut self.late
            && usize::from(*of) == case
        {
            *fresh = false;
        }
    }

    /// Somebody wrote objects of `case` that readings of the executor were current about; `slot` says of which
    /// Remediation, when it is its status.
    pub fn is_stale(&mut self, case: usize, slot: Option<usize>, bits: u8) {
        for (index, it) in self.slots[case].iter_mut().enumerate() {
            if slot.is_none_or(|slot| slot == index) {
                it.fresh &= !bits;
            }
        }
        if let Late::Write { case: of, slot: which, fresh, .. } = &mut self.late
            && usize::from(*of) == case
            && slot.is_none_or(|slot| slot == usize::from(*which))
        {
            *fresh &= !bits;
        }
    }
}
