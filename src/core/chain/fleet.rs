//! What is known of the upstreams of a chain across requests: health, breakers, cooldowns, quarantine. Every change is
//! returned, for the Event and the audit line that belong to it.

mod aside;
mod swap;
mod told;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::breaker::{Breaker, Cause, Change, Pass, Stands, Tenant, Terms, Ticket, Told, Verdict};
use super::decision::Decision;
use super::failure::{Class, Failure};
use super::health::{Candidate, Health, order};
use super::moment::Moment;
use super::spec::{Upstream, ValidChain};

/// After its attempt should have ended, a trial of a breaker is kept that long for the one who has it.
const GRACE: Duration = Duration::from_secs(10);
/// Pause between two probes of an upstream whose breaker wants a trial.
const TRIAL_PAUSE: Duration = Duration::from_secs(15);
/// Pause before a probe of an upstream in quarantine; each that fails doubles it.
const FIRST_RESCUE: Duration = Duration::from_secs(30);
/// The longest of them.
const LONGEST_RESCUE: Duration = Duration::from_secs(1800);

/// One upstream of a fleet. It stays the same when the chain is changed around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(u64);

/// The upstreams of a chain.
#[derive(Clone, Debug)]
pub struct Fleet {
    terms: Terms,
    generation: i64,
    members: Vec<Member>,
    quotas: Vec<Quota>,
    /// The names of the rungs.
    rungs: Vec<String>,
    next_id: u64,
}

#[derive(Clone, Debug)]
struct Member {
    id: Id,
    rung: usize,
    upstream: Upstream,
    name: Arc<str>,
    quota: usize,
    health: Health,
    breaker: Breaker,
    aside: Option<Moment>,
    /// The same for single tenants.
    aside_for: BTreeMap<Tenant, Moment>,
    quarantine: Option<Quarantine>,
    last_error: Option<(Class, Moment)>,
    last_success: Option<Moment>,
    last_asked: Option<Moment>,
    last_probed: Option<Moment>,
    /// Another model answers than it is asked for.
    swapped: Option<Swapped>,
}

#[derive(Clone, Copy, Debug)]
struct Quarantine {
    since: Moment,
    /// When a probe may ask.
    probe_at: Moment,
    /// The pause after it if it fails.
    pause: Duration,
}

/// Another model answers than an upstream is asked for.
#[derive(Clone, Debug)]
struct Swapped {
    /// Its name, as the upstream says.
    served: String,
    /// When people were told.
    told: Moment,
    /// When it answered last.
    last: Moment,
}

#[derive(Clone, Debug)]
struct Quota {
    scope: String,
    until: Option<Moment>,
}

/// Whether an upstream may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    Free,
    /// It may, as the one trial of its breaker.
    Trial,
    /// It or its quota is limited until then.
    CoolingDown(Moment),
    /// Its breaker lets nobody through before then.
    Shut(Moment),
    /// Its credentials or its account have to change first, or a probe has to be answered.
    Quarantined,
    /// It is not in the chain any more.
    Gone,
}

impl Standing {
    /// Whether it may be asked now.
    pub fn may_be_asked(self) -> bool {
        matches!(self, Standing::Free | Standing::Trial)
    }
}

/// An upstream that is being asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    id: Id,
    ticket: Ticket,
    began: Moment,
    /// Whether it is the one trial of a breaker.
    pub trial: bool,
}

/// How an ask ended.
#[derive(Clone, Copy, Debug)]
pub enum End<'a> {
    /// With an answer.
    Answered,
    /// Without one.
    Failed(&'a Failure, &'a Decision),
    /// Nobody waited for it, or nothing was sent.
    GivenUp,
}

impl<'a> End<'a> {
    /// The end of a probe that brought no answer. It asks whether the upstream works, not what it says: one that reasons until its
    /// few tokens are used up works.
    pub fn of_probe(failure: &'a Failure, decision: &'a Decision) -> End<'a> {
        match decision.verdict {
            Verdict::Worked => End::Answered,
            Verdict::Failed(_) | Verdict::Nothing => End::Failed(failure, decision),
        }
    }
}

/// A change of an upstream's standing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Name of the upstream.
    pub upstream: Arc<str>,
    /// The tenant for whom alone it holds; `None`: for all.
    pub tenant: Option<Tenant>,
    /// What changed.
    pub what: What,
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Its breaker opened.
    BreakerOpened {
        /// For how long.
        lasts: Duration,
        /// Why.
        cause: Cause,
    },
    /// Its breaker lets one call try.
    BreakerHalfOpened,
    /// Its breaker closed.
    BreakerClosed,
    /// It is not asked for a while.
    CoolingDown {
        /// For how long.
        lasts: Duration,
        /// Why.
        class: Class,
        /// The quota all of whose upstreams are not asked; `None`: this one only.
        quota: Option<String>,
    },
    /// It is not asked until its credentials or the chain change, or a probe is answered.
    Quarantined {
        /// Why.
        class: Class,
    },
    /// It is asked again.
    Released {
        /// A probe was answered; else its credentials or the chain changed.
        probed: bool,
    },
    /// Another model answered than it was asked for.
    ModelSwapped {
        /// The one that it was asked for.
        asked: String,
        /// The one that answered, as it says.
        served: String,
    },
    /// The model that it is asked for answers again.
    ModelRestored,
}

impl What {
    /// Its constant, for Events, metrics and the audit log.
    pub fn as_str(&self) -> &'static str {
        match self {
            What::BreakerOpened { .. } => "BreakerOpened",
            What::BreakerHalfOpened => "BreakerHalfOpened",
            What::BreakerClosed => "BreakerClosed",
            What::CoolingDown { .. } => "CoolingDown",
            What::Quarantined { .. } => "Quarantined",
            What::Released { .. } => "Released",
            What::ModelSwapped { .. } => "ModelSwapped",
            What::ModelRestored => "ModelRestored",
        }
    }
}

impl Fleet {
    /// Of a chain about whose upstreams nothing is known. What the chain says about breakers goes before `terms`.
    pub fn new(chain: &ValidChain, terms: Terms) -> Fleet {
        let generation = chain.generation;
        let empty = Fleet { terms, generation, members: vec![], quotas: vec![], rungs: vec![], next_id: 0 };
        empty.with(chain)
    }

    /// Follows a chain that may have changed. What is known of upstreams that are still the same stays; who changed the
    /// chain wants it to be tried again, so that nothing stays in quarantine or cools down.
    pub fn follow(&mut self, chain: &ValidChain) -> Vec<Transition> {
        let changed = chain.generation != self.generation;
        let mut next = self.with(chain);
        let mut told = Vec::new();
        if changed {
            next.quotas.iter_mut().for_each(|quota| quota.until = None);
            for member in &mut next.members {
                member.aside = None;
                member.aside_for.clear();
                member.swapped = None;
                told.extend(member.release(false));
            }
        }
        *self = next;
        told
    }

    fn with(&self, chain: &ValidChain) -> Fleet {
        let mut next = Fleet {
            terms: self.terms.clone().of(&chain.breaker),
            generation: chain.generation,
            members: vec![],
            quotas: vec![],
            rungs: vec![],
            next_id: self.next_id,
        };
        for (rung, of) in chain.rungs.iter().enumerate() {
            next.rungs.push(of.name.clone());
            for upstream in &of.upstreams {
                let member = next.member(self, rung, upstream);
                next.members.push(member);
            }
        }
        next
    }

    fn member(&mut self, before: &Fleet, rung: usize, upstream: &Upstream) -> Member {
        let scope = |quota: &&Quota| quota.scope == upstream.quota_scope;
        let quota = self.quotas.iter().position(|quota| scope(&quota)).unwrap_or_else(|| {
            let until = before.quotas.iter().find(scope).and_then(|quota| quota.until);
            self.quotas.push(Quota { scope: upstream.quota_scope.clone(), until });
            self.quotas.len() - 1
        });
        match before.members.iter().find(|member| same_server(&member.upstream, upstream)) {
            Some(known) => Member { rung, upstream: upstream.clone(), quota, ..known.clone() },
            None => {
                self.next_id += 1;
                Member {
                    id: Id(self.next_id),
                    rung,
                    upstream: upstream.clone(),
                    name: upstream.name.as_str().into(),
                    quota,
                    health: Health::default(),
                    breaker: Breaker::default(),
                    aside: None,
                    aside_for: BTreeMap::new(),
                    quarantine: None,
                    last_error: None,
                    last_success: None,
                    last_asked: None,
                    last_probed: None,
                    swapped: None,
                }
            }
        }
    }

    /// The upstreams of a rung, in the order of the chain.
    pub fn of_rung(&self, rung: usize) -> impl Iterator<Item = (Id, &Upstream)> {
        self.members.iter().filter(move |member| member.rung == rung).map(|member| (member.id, &member.upstream))
    }

    /// How many of these rungs have an upstream that may be asked now.
    pub fn rungs_left(&self, rungs: impl IntoIterator<Item = usize>, tenant: Option<&Tenant>, now: Moment) -> u32 {
        let askable = |rung: &usize| self.of_rung(*rung).any(|(id, _)| self.standing(id, tenant, now).may_be_asked());
        u32::try_from(rungs.into_iter().filter(askable).count()).unwrap_or(u32::MAX)
    }

    fn find(&self, id: Id) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }

    /// Whether an upstream may be asked for `tenant`; without one it is a probe of ours.
    pub fn standing(&self, id: Id, tenant: Option<&Tenant>, now: Moment) -> Standing {
        self.find(id).map_or(Standing::Gone, |member| self.standing_of(member, tenant, now))
    }

    fn standing_of(&self, member: &Member, tenant: Option<&Tenant>, now: Moment) -> Standing {
        if member.quarantine.is_some() {
            return Standing::Quarantined;
        }
        let own = tenant.and_then(|tenant| member.aside_for.get(tenant)).copied().filter(|until| now < *until);
        if let Some(until) = self.cooling(member, now).max(own) {
            return Standing::CoolingDown(until);
        }
        match member.breaker.pass(tenant, now) {
            Pass::Free => Standing::Free,
            Pass::Trial => Standing::Trial,
            Pass::Shut(until) => Standing::Shut(until),
        }
    }

    fn cooling(&self, member: &Member, now: Moment) -> Option<Moment> {
        let quota = self.quotas.get(member.quota).and_then(|quota| quota.until);
        [member.aside, quota].into_iter().flatten().filter(|until| now < *until).max()
    }

    /// Those of `ids` that may be asked now, in the order in which they are asked; see [`order`].
    pub fn order(&self, ids: &[Id], tenant: Option<&Tenant>, chance: f64, now: Moment) -> Vec<Id> {
        let askable =
            |member: &&Member| ids.contains(&member.id) && self.standing_of(member, tenant, now).may_be_asked();
        let members: Vec<&Member> = self.members.iter().filter(askable).collect();
        let candidates: Vec<Candidate<'_>> = members
            .iter()
            .enumerate()
            .map(|(index, member)| Candidate { index, weight: member.upstream.weight, health: &member.health })
            .collect();
        order(&candidates, chance, now)
            .into_iter()
            .filter_map(|index| members.get(index))
            .map(|member| member.id)
            .collect()
    }

    /// An upstream is asked; `None` when it may not be. It is over after `limit`.
    pub fn begin(
        &mut self,
        id: Id,
        tenant: Option<&Tenant>,
        limit: Duration,
        now: Moment,
    ) -> Option<(Asked, Vec<Transition>)> {
        let trial = match self.standing(id, tenant, now) {
            Standing::Free => false,
            Standing::Trial => true,
            // Whether it works again is a probe's to find out.
            Standing::Quarantined if tenant.is_none() && self.find(id).is_some_and(|member| member.may_rescue(now)) => {
                false
            }
            Standing::CoolingDown(_) | Standing::Shut(_) | Standing::Quarantined | Standing::Gone => return None,
        };
        let member = self.members.iter_mut().find(|member| member.id == id)?;
        let (ticket, told) = member.breaker.begin(tenant, limit.saturating_add(GRACE), now)?;
        member.last_asked = Some(now);
        if tenant.is_none() {
            member.last_probed = Some(now);
        }
        member.health.begin(limit, now);
        Some((Asked { id, ticket, began: now, trial }, transitions(&member.name, told, now)))
    }

    /// An ask ended. Each has to be ended once; a trial that nobody ends is lost only for its limit.
    pub fn end(&mut self, asked: Asked, end: End<'_>, now: Moment) -> Vec<Transition> {
        let Asked { id, ticket, began, trial: _ } = asked;
        let tenant = ticket.tenant().cloned();
        let Some(at) = self.members.iter().position(|member| member.id == id) else { return vec![] };
        let Some(member) = self.members.get_mut(at) else { return vec![] };
        let (verdict, success) = match end {
            End::Answered => (Verdict::Worked, Some(true)),
            End::Failed(_, decision) => (decision.verdict, decision.success),
            End::GivenUp => (Verdict::Nothing, None),
        };
        member.health.end(began);
        if let Some(success) = success {
            member.health.record(success.then(|| now.since(began)), now);
        }
        let told = member.breaker.end(ticket, verdict, &self.terms, now);
        let mut told = transitions(&member.name, told, now);
        match end {
            End::Answered => {
                member.last_success = Some(now);
                // What was asked before it was refused says nothing about now.
                if member.quarantine.is_some_and(|quarantine| quarantine.since <= began) {
                    told.extend(member.release(true));
                }
            }
            End::Failed(failure, decision) => {
                member.last_error = Some((failure.class, now));
                if let Some(quarantine) = &mut member.quarantine
                    && quarantine.since <= began
                {
                    quarantine.pause = quarantine.pause.saturating_mul(2).min(LONGEST_RESCUE);
                    quarantine.probe_at = now.after(quarantine.pause);
                }
                told.extend(self.set_aside(at, decision.set_aside, failure.class, tenant, now));
            }
            End::GivenUp => {}
        }
        told
    }

    /// Upstreams that a synthetic probe should ask: nobody asked them for an interval, and they may be asked. One whose
    /// breaker wants a trial is asked sooner: a probe cannot fail because of what a tenant asks. One in quarantine is asked
    /// after pauses that grow.
    pub fn to_probe(&self, interval: Duration, now: Moment) -> Vec<(Id, &Upstream)> {
        let recent = |at: Option<Moment>| at.is_some_and(|at| now.since(at) < interval);
        let pause = interval.min(TRIAL_PAUSE);
        let tried = |member: &Member| member.last_probed.is_some_and(|at| now.since(at) < pause);
        let wants_trial = |member: &Member| member.breaker.stands(now) == Stands::HalfOpen && !tried(member);
        let idle = |member: &Member| !recent(member.last_success) && !recent(member.last_asked);
        self.members
            .iter()
            .filter(|member| idle(member) || wants_trial(member))
            .filter(|member| self.standing_of(member, None, now).may_be_asked())
            .chain(self.members.iter().filter(|member| member.may_rescue(now)))
            .map(|member| (member.id, &member.upstream))
            .collect()
    }
}

impl Member {
    fn told(&self, what: What) -> Transition {
        Transition { upstream: self.name.clone(), tenant: None, what }
    }

    fn quarantine(&mut self, class: Class, now: Moment) -> Option<Transition> {
        if self.quarantine.is_some() {
            return None;
        }
        self.quarantine = Some(Quarantine { since: now, probe_at: now.after(FIRST_RESCUE), pause: FIRST_RESCUE });
        Some(self.told(What::Quarantined { class }))
    }

    fn release(&mut self, probed: bool) -> Option<Transition> {
        self.quarantine.take().map(|_| self.told(What::Released { probed }))
    }

    /// Whether it is in quarantine, and a probe may find out whether it works again.
    fn may_rescue(&self, now: Moment) -> bool {
        let due = self.quarantine.is_some_and(|quarantine| quarantine.probe_at <= now);
        due && !matches!(self.breaker.pass(None, now), Pass::Shut(_))
    }
}

/// Whether what is known of one holds for the other: whatever else changed, it is the same server with the same key.
fn same_server(one: &Upstream, other: &Upstream) -> bool {
    let identity = |upstream: &Upstream| {
        let Upstream { name, url, api, model, credentials, region, .. } = upstream.clone();
        (name, url, api, model, credentials, region)
    };
    identity(one) == identity(other)
}

fn transitions(upstream: &Arc<str>, told: Vec<Told>, now: Moment) -> Vec<Transition> {
    let what = |change| match change {
        Change::Opened { until, cause } => What::BreakerOpened { lasts: now.until(until), cause },
        Change::HalfOpened => What::BreakerHalfOpened,
        Change::Closed => What::BreakerClosed,
    };
    told.into_iter()
        .map(|(tenant, change)| Transition { upstream: upstream.clone(), tenant, what: what(change) })
        .collect()
}

#[cfg(test)]
#[path = "fleet_tests.rs"]
mod tests;
