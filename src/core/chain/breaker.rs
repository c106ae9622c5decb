//! The breaker of one upstream: closed, open for a time that doubles, half-open for exactly one call. A success of that
//! call closes it. What may be due to what was asked counts for the tenant who asked: alone it stops only that
//! tenant's calls, together with the failures of others all of them. A trial that fails so is no word about the upstream
//! before a second tenant's, or a probe, fails too: until then others may try, and the one who failed waits. Time is an
//! argument, changes are returned.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::moment::Moment;
use super::spec::BreakerTerms;

/// Whose investigation it is: a namespace.
pub type Tenant = Arc<str>;

/// When a breaker opens, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Failures in a row that open it.
    pub failures: u32,
    /// Failures in a row, of calls of one tenant, that open it for this tenant. No tenant alone counts for more than that
    /// in the breaker of all.
    pub tenant_failures: u32,
    /// The same for single tenants.
    pub tenants: BTreeMap<Tenant, u32>,
    /// Calls within `window` from which on their failures are a share.
    pub window_calls: usize,
    /// How long a call counts for the share.
    pub window: Duration,
    /// The first open time after failures in a row; each failed trial doubles it.
    pub first_open: Duration,
    /// The longest open time, and that of an upstream of whose calls within the window half failed.
    pub longest_open: Duration,
}

impl Default for Terms {
    fn default() -> Terms {
        Terms {
            failures: 5,
            tenant_failures: 3,
            tenants: BTreeMap::new(),
            window_calls: 10,
            window: Duration::from_secs(60),
            first_open: Duration::from_secs(5),
            longest_open: Duration::from_secs(300),
        }
    }
}

impl Terms {
    /// With the numbers of a chain.
    pub fn of(self, chain: &BreakerTerms) -> Terms {
        let BreakerTerms { failures, tenant_failures, tenants } = chain;
        let tenants = tenants.iter().map(|(tenant, failures)| (tenant.as_str().into(), *failures)).collect();
        Terms { failures: *failures, tenant_failures: *tenant_failures, tenants, ..self }
    }

    /// Failures in a row of this tenant that open the breaker for it.
    fn failures_of(&self, tenant: &Tenant) -> u32 {
        self.tenants.get(tenant).copied().unwrap_or(self.tenant_failures)
    }
}

/// For whom a failure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// It has nothing to do with what was asked.
    Everyone,
    /// It may be due to what was asked.
    Asker,
}

/// How a call went, as far as a breaker is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The upstream works.
    Worked,
    /// It failed.
    Failed(Blame),
    /// It says nothing: the caller was wrong, a limit was reached, the call was given up.
    Nothing,
}

/// Whether a call may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// It may.
    Free,
    /// It may, as the one trial of a half-open breaker.
    Trial,
    /// It may not, before that moment.
    Shut(Moment),
}

/// A change of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It opened.
    Opened {
        /// Until then no call is made.
        until: Moment,
        /// Why.
        cause: Cause,
    },
    /// It lets one call try.
    HalfOpened,
    /// It closed.
    Closed,
}

/// Why a breaker opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// So many calls failed in a row.
    InARow(u32),
    /// So many of the calls within the window failed.
    Share {
        /// Failed calls.
        failed: usize,
        /// All calls.
        of: usize,
    },
    /// The trial failed.
    Trial,
}

/// One call that a breaker let through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    tenant: Option<Tenant>,
    all: u64,
    own: Option<u64>,
}

impl Ticket {
    /// For whom the call is made; `None`: a probe of ours.
    pub fn tenant(&self) -> Option<&Tenant> {
        self.tenant.as_ref()
    }
}

/// A change, and the tenant for whom alone it holds.
pub type Told = (Option<Tenant>, Change);

/// Tenants of whom a breaker knows at most.
const MAX_TENANTS: usize = 256;
/// Calls of which a circuit remembers how they went.
const MAX_CALLS: usize = 100;

/// The breaker of one upstream.
#[derive(Clone, Debug, Default)]
pub struct Breaker {
    all: Circuit,
    tenants: BTreeMap<Tenant, Circuit>,
}

impl Breaker {
    /// Whether a call of `tenant` may be made; without one it is a probe of ours.
    pub fn pass(&self, tenant: Option<&Tenant>, now: Moment) -> Pass {
        let own = tenant.and_then(|tenant| self.tenants.get(tenant)).map_or(Pass::Free, |own| own.pass(now));
        match (self.all.pass_for(tenant, now), own) {
            (Pass::Shut(one), Pass::Shut(other)) => Pass::Shut(one.max(other)),
            (Pass::Shut(until), _) | (_, Pass::Shut(until)) => Pass::Shut(until),
            (Pass::Trial, _) | (_, Pass::Trial) => Pass::Trial,
            (Pass::Free, Pass::Free) => Pass::Free,
        }
    }

    /// How it stands for all: the same as [`pass`](Self::pass), but a trial under way is told apart from an open breaker.
    pub fn stands(&self, now: Moment) -> Stands {
        match self.all.state {
            State::Closed => Stands::Closed,
            State::Open { until } if now < until => Stands::Open { until },
            State::Open { .. } | State::Trying { .. } => Stands::HalfOpen,
        }
    }

    /// Lets a call through; `None` when it may not be made. A trial is over after `lease` even if nobody says how it went.
    pub fn begin(&mut self, tenant: Option<&Tenant>, lease: Duration, now: Moment) -> Option<(Ticket, Vec<Told>)> {
        if let Pass::Shut(_) = self.pass(tenant, now) {
            return None;
        }
        let mut told = Vec::new();
        let all = self.all.begin(lease, now, &mut |change| told.push((None, change)));
        let own = tenant.and_then(|tenant| {
            let circuit = self.tenants.get_mut(tenant)?;
            Some(circuit.begin(lease, now, &mut |change| told.push((Some(tenant.clone()), change))))
        });
        Some((Ticket { tenant: tenant.cloned(), all, own }, told))
    }

    /// Says how a call went. One that was let through before the breaker last changed says nothing any more.
    pub fn end(&mut self, ticket: Ticket, verdict: Verdict, terms: &Terms, now: Moment) -> Vec<Told> {
        let Ticket { tenant, all, own } = ticket;
        let blamed = match verdict {
            Verdict::Failed(Blame::Asker) => tenant.clone(),
            _ => None,
        };
        let mut told: Vec<Told> = Vec::new();
        told.extend(self.all.end(all, verdict, blamed.clone(), terms, now).map(|change| (None, change)));
        let Some(tenant) = tenant else { return told };
        // The circuit of a tenant counts only what the tenant may be to blame for, and is there only while it does.
        let own_verdict = match verdict {
            Verdict::Failed(Blame::Everyone) => Verdict::Nothing,
            verdict => verdict,
        };
        if blamed.is_some() && !self.tenants.contains_key(&tenant) && self.tenants.len() < MAX_TENANTS {
            self.tenants.insert(tenant.clone(), Circuit::default());
        }
        let Some(circuit) = self.tenants.get_mut(&tenant) else { return told };
        let own_terms = Terms {
            failures: terms.failures_of(&tenant),
            window_calls: usize::MAX,
            tenants: BTreeMap::new(),
            ..*terms
        };
        let change = circuit.end(own.unwrap_or_default(), own_verdict, None, &own_terms, now);
        if circuit.state == State::Closed && circuit.row == 0 {
            self.tenants.remove(&tenant);
        }
        told.extend(change.map(|change| (Some(tenant), change)));
        told
    }
}

/// How a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stands {
    /// Calls are made.
    Closed,
    /// No call is made before then.
    Open {
        /// When it lets one try.
        until: Moment,
    },
    /// One call may try, or does.
    HalfOpen,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Closed,
    /// From `until` on it is half-open, and no trial is under way.
    Open { until: Moment },
    /// A trial is under way, and given up for lost at `lease`. `None`: there is none.
    Trying { lease: Option<Moment> },
}

/// One breaker: closed, open, half-open.
#[derive(Clone, Debug, Default)]
struct Circuit {
    state: State,
    /// Counts the changes, so that a late result is known as one.
    epoch: u64,
    /// Openings since it was last closed.
    openings: u32,
    /// Whose trial failed, since it last opened, in a way that may be due to what was asked; until when others go first.
    unproven: Option<(Tenant, Moment)>,
    /// Failures since the last success that count for everyone.
    row: u32,
    /// Those that may be due to what a tenant asked.
    rows: BTreeMap<Tenant, u32>,
    /// The latest calls: when, and whether they failed and who may be to blame.
    calls: VecDeque<(Moment, Option<Option<Tenant>>)>,
}

impl Circuit {
    fn pass(&self, now: Moment) -> Pass {
        match self.state {
            State::Closed => Pass::Free,
            State::Open { until } if now < until => Pass::Shut(until),
            State::Trying { lease: Some(lease) } if now < lease => Pass::Shut(lease),
            State::Open { .. } | State::Trying { .. } => Pass::Trial,
        }
    }

    /// The same for a call of `tenant`: whose own trial failed lets others try first.
    fn pass_for(&self, tenant: Option<&Tenant>, now: Moment) -> Pass {
        match (self.pass(now), &self.unproven) {
            (Pass::Trial, Some((failed, until))) if tenant == Some(failed) && now < *until => Pass::Shut(*until),
            (pass, _) => pass,
        }
    }

    /// The epoch of the call that begins. To be asked only if it passes.
    fn begin(&mut self, lease: Duration, now: Moment, tell: &mut dyn FnMut(Change)) -> u64 {
        match self.state {
            State::Closed => return self.epoch,
            State::Open { .. } => tell(Change::HalfOpened),
            State::Trying { .. } => {}
        }
        self.state = State::Trying { lease: Some(now.after(lease)) };
        self.epoch += 1;
        self.epoch
    }

    fn end(
        &mut self,
        epoch: u64,
        verdict: Verdict,
        asker: Option<Tenant>,
        terms: &Terms,
        now: Moment,
    ) -> Option<Change> {
        if epoch != self.epoch {
            return None;
        }
        match (self.state, verdict) {
            (State::Closed, Verdict::Worked) => {
                self.row = 0;
                self.rows.clear();
                self.remember(now, None);
                None
            }
            (State::Closed, Verdict::Failed(_)) => self.failed(asker, terms, now),
            (State::Trying { .. }, Verdict::Worked) => {
                *self = Circuit { epoch: self.epoch + 1, ..Circuit::default() };
                Some(Change::Closed)
            }
            (State::Trying { .. }, Verdict::Failed(_)) => match asker {
                Some(tenant) if self.unproven.as_ref().is_none_or(|(failed, _)| *failed == tenant) => {
                    self.state = State::Trying { lease: None };
                    self.unproven = Some((tenant, now.after(self.open_time(terms))));
                    None
                }
                _ => Some(self.open(Cause::Trial, terms, now)),
            },
            (State::Trying { .. }, Verdict::Nothing) => {
                self.state = State::Trying { lease: None };
                None
            }
            (State::Closed | State::Open { .. }, _) => None,
        }
    }

    fn remember(&mut self, now: Moment, failed: Option<Option<Tenant>>) {
        self.calls.push_back((now, failed));
        if self.calls.len() > MAX_CALLS {
            self.calls.pop_front();
        }
    }

    /// A call failed while it was closed.
    fn failed(&mut self, asker: Option<Tenant>, terms: &Terms, now: Moment) -> Option<Change> {
        self.remember(now, Some(asker.clone()));
        match asker {
            None => self.row = self.row.saturating_add(1),
            Some(tenant) if self.rows.contains_key(&tenant) || self.rows.len() < MAX_TENANTS => {
                let most = terms.failures_of(&tenant);
                let row = self.rows.entry(tenant).or_default();
                *row = row.saturating_add(1).min(most);
            }
            Some(_) => {}
        }
        let in_a_row = self.rows.values().fold(self.row, |sum, row| sum.saturating_add(*row));
        if in_a_row >= terms.failures {
            return Some(self.open(Cause::InARow(in_a_row), terms, now));
        }
        let recent = || self.calls.iter().filter(|(at, _)| now.since(*at) < terms.window);
        let of = recent().count();
        let failed = recent().filter(|(_, failed)| failed.is_some()).count();
        let mut of_tenants: BTreeMap<&Tenant, usize> = BTreeMap::new();
        for tenant in recent().filter_map(|(_, failed)| failed.as_ref()?.as_ref()) {
            *of_tenants.entry(tenant).or_default() += 1;
        }
        let most = |tenant: &Tenant| usize::try_from(terms.failures_of(tenant)).unwrap_or(usize::MAX);
        let beyond: usize = of_tenants.iter().map(|(tenant, count)| count.saturating_sub(most(tenant))).sum();
        let counted = failed - beyond;
        (of >= terms.window_calls && counted.saturating_mul(2) >= of)
            .then(|| self.open(Cause::Share { failed, of }, terms, now))
    }

    /// For how long it opens the next time.
    fn open_time(&self, terms: &Terms) -> Duration {
        terms.first_open.saturating_mul(2_u32.saturating_pow(self.openings)).min(terms.longest_open)
    }

    fn open(&mut self, cause: Cause, terms: &Terms, now: Moment) -> Change {
        let time = match cause {
            Cause::Share { .. } => terms.longest_open,
            Cause::InARow(_) | Cause::Trial => self.open_time(terms),
        };
        let until = now.after(time);
        let (epoch, openings) = (self.epoch + 1, self.openings.saturating_add(1));
        *self = Circuit { state: State::Open { until }, epoch, openings, ..Circuit::default() };
        Change::Opened { until, cause }
    }
}

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "breaker_tenant_tests.rs"]
mod tenant_tests;
