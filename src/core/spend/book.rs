//! What a Ledger for models holds, and every change of it. Each change may be made twice without harm, because the
//! answer to a write may be lost.

use std::collections::BTreeMap;

use jiff::{SignedDuration, tz::TimeZone};

use super::{Account, Limits, Payer, Refusal};
use crate::api::v1alpha1::{
    IncidentKey, ModelDay, ModelIncident, ModelReservation, ModelSpend, NamespaceSpend, Time, UpstreamSpend,
};
use crate::core::money::NanoDollars;

/// Open reservations beyond which nothing more is reserved.
pub const MAX_OPEN: usize = 256;
/// Open reservations that the Ledger can hold: the rest is for what must be recorded whatever the caps say.
pub const MAX_FORCED: usize = 320;
const MAX_DAYS: usize = 3;
const MAX_NAMESPACES: usize = 1000;
const MAX_UPSTREAMS: usize = 64;
const MAX_INCIDENTS: usize = 1500;
/// Incidents of one namespace that are remembered: no tenant takes the room of all.
const MAX_INCIDENTS_OF_ONE: usize = MAX_INCIDENTS / 8;
/// How long an incident is remembered after its latest charge.
const KEEP: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How long an incident is remembered at least, even if there are too many.
const KEEP_AT_LEAST: SignedDuration = SignedDuration::from_hours(24);
/// Of what is left of a budget that others share, one reservation takes at most this part beyond its need.
const SHARE: u64 = 10;

/// A reservation that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// ID of the reservation. Asking again with the same ID, for the same payer, changes nothing.
    pub id: String,
    /// ID of the process.
    pub holder: String,
    /// Who pays.
    pub payer: Payer,
    /// The least that is of use: the most that one attempt can cost.
    pub need: NanoDollars,
    /// What would be welcome, for the attempts after it.
    pub want: NanoDollars,
}

/// What is charged to an account: settled and reserved.
pub fn charged(book: &ModelSpend, account: Account, payer: &Payer, day: &str) -> NanoDollars {
    let settled = match (account, payer) {
        (Account::Incident, Payer::Incident(key)) => incident(book, key).map(|known| known.nano_dollars),
        (Account::Namespace, Payer::Incident(key)) => {
            the_day(book, day).and_then(|day| namespace(day, &key.namespace)).map(|known| known.nano_dollars)
        }
        (Account::Chain, _) => the_day(book, day).map(|day| day.nano_dollars),
        (Account::Probes, _) => the_day(book, day).map(|day| day.probes_nano_dollars),
        (Account::Incident | Account::Namespace, Payer::Probes) => None,
    };
    let reserved = |open: &ModelReservation| match (account, &open.incident, payer) {
        (Account::Incident, Some(key), Payer::Incident(of)) => key == of,
        (Account::Namespace, Some(key), Payer::Incident(of)) => open.day == day && key.namespace == of.namespace,
        (Account::Chain, Some(_), _) | (Account::Probes, None, _) => open.day == day,
        _ => false,
    };
    let reserved: NanoDollars =
        book.open.iter().filter(|open| reserved(open)).map(|open| money(open.nano_dollars)).sum();
    settled.map_or(NanoDollars(0), money) + reserved
}

/// The accounts that a payer is charged to, with their caps.
fn accounts(payer: &Payer, limits: &Limits) -> Vec<(Account, NanoDollars)> {
    match payer {
        Payer::Incident(_) => vec![
            (Account::Incident, limits.per_incident),
            (Account::Namespace, limits.per_namespace_per_day),
            (Account::Chain, limits.per_day),
        ],
        Payer::Probes => vec![(Account::Probes, limits.probes_per_day)],
    }
}

/// What one attempt of this payer may cost at most, today, so that no cap is passed.
pub fn left(book: &ModelSpend, payer: &Payer, limits: &Limits, now: Time) -> NanoDollars {
    let day = charged_day(book, now);
    let each = accounts(payer, limits).into_iter().map(|(account, cap)| cap - charged(book, account, payer, &day));
    each.min().unwrap_or_default()
}

/// Reserves at least what is needed, and up to what is wanted where there is plenty. Returns how much. The room to
/// settle it is taken at once, so that a settlement always finds it. Nothing changes when it is refused, but that what
/// is too old is gone.
pub fn reserve(book: &mut ModelSpend, ask: &Ask, limits: &Limits, now: Time) -> Result<NanoDollars, Refusal> {
    if let Some(open) = book.open.iter().find(|open| open.id == ask.id) {
        return if is_of(open, ask) { Ok(money(open.nano_dollars)) } else { Err(Refusal::Taken) };
    }
    forget(book, KEEP, now);
    let day = charged_day(book, now);
    let mut amount = ask.want.max(ask.need);
    for (account, cap) in accounts(&ask.payer, limits) {
        let charged = charged(book, account, &ask.payer, &day);
        let left = cap - charged;
        if charged > cap || ask.need > left {
            return Err(Refusal::OverBudget { account, need: ask.need, charged, cap });
        }
        // The incident's own budget is shared with nobody.
        let share = if account == Account::Incident { left } else { NanoDollars(left.0 / SHARE) };
        amount = amount.min(share.max(ask.need));
    }
    if book.open.len() >= MAX_OPEN {
        return Err(Refusal::Full { of: "open reservations", bound: MAX_OPEN });
    }
    let day = begin_day(book, now);
    if let Payer::Incident(key) = &ask.payer {
        make_room(book, key, &day, now)?;
    }
    open(book, ask, day, amount, now);
    Ok(amount)
}

/// Records as reserved what an upstream billed beyond what was reserved, whatever the caps say.
pub fn force(book: &mut ModelSpend, ask: &Ask, now: Time) {
    if book.open.iter().any(|open| open.id == ask.id && is_of(open, ask)) {
        return;
    }
    let day = begin_day(book, now);
    if let Payer::Incident(key) = &ask.payer {
        // Without room for its namespace or incident it is still charged to the chain.
        let _ = make_room(book, key, &day, now);
    }
    let taken = book.open.iter().any(|open| open.id == ask.id);
    if book.open.len() < MAX_FORCED && !taken {
        open(book, ask, day, ask.need, now);
    } else {
        charge(book, &ask.payer, &day, ask.need, now);
    }
}

/// Settles reservations at `cost` together and gives the rest back; the first are used up first. Reservations that are
/// not open any more were settled in full by somebody else, and stay so.
pub fn settle(
    book: &mut ModelSpend,
    ids: &[String],
    cost: NanoDollars,
    upstreams: &BTreeMap<String, NanoDollars>,
    now: Time,
) {
    let mut cost = cost;
    let mut known = None;
    for id in ids {
        let Some(at) = book.open.iter().position(|open| open.id == *id) else { continue };
        let reservation = book.open.remove(at);
        let used = money(reservation.nano_dollars).min(cost);
        cost = cost - used;
        charge(book, &payer(&reservation), &reservation.day, used, now);
        drop_unused(book, &reservation);
        known = Some(reservation.day);
    }
    let day = known.and_then(|day| book.days.iter_mut().find(|known| known.day == day));
    if let Some(day) = day {
        for (name, spent) in upstreams {
            attribute(day, name, *spent);
        }
    }
}

/// Settles in full what other processes reserved: called by a process that is about to begin, when the others have
/// ended. If one has not, its settlements come too late, which leaves it charged.
pub fn reconcile(book: &mut ModelSpend, holder: &str, now: Time) {
    let ids = book.open.iter().filter(|open| open.holder != holder).map(|open| open.id.clone()).collect::<Vec<_>>();
    for id in ids {
        let amount =
            book.open.iter().find(|open| open.id == id).map_or(NanoDollars(0), |open| money(open.nano_dollars));
        settle(book, &[id], amount, &BTreeMap::new(), now);
    }
}

/// What was spent on a day, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// On diagnoses, what is reserved included.
    pub diagnoses: NanoDollars,
    /// On probes, what is reserved included.
    pub probes: NanoDollars,
    /// By upstream, where it is known and settled.
    pub upstreams: BTreeMap<String, NanoDollars>,
}

/// What was spent today.
pub fn spent(book: &ModelSpend, now: Time) -> Spent {
    let day = charged_day(book, now);
    let upstreams = the_day(book, &day).map(|day| &day.upstreams[..]).unwrap_or_default();
    Spent {
        diagnoses: charged(book, Account::Chain, &Payer::Probes, &day),
        probes: charged(book, Account::Probes, &Payer::Probes, &day),
        upstreams: upstreams.iter().map(|known| (known.upstream.clone(), money(known.nano_dollars))).collect(),
    }
}

/// The day (UTC) of a time.
fn date(now: Time) -> String {
    now.to_zoned(TimeZone::UTC).date().to_string()
}

/// The day that a charge of now counts for. A day that was dropped is never begun again, or a clock that was set back
/// would give its budget a second time: what is older than all that are kept counts for the oldest of them.
fn charged_day(book: &ModelSpend, now: Time) -> String {
    let today = date(now);
    match book.days.first() {
        Some(oldest) if book.days.len() >= MAX_DAYS && today < oldest.day => oldest.day.clone(),
        _ => today,
    }
}

/// Makes sure that the day of now is there; drops the oldest if there are too many.
fn begin_day(book: &mut ModelSpend, now: Time) -> String {
    let day = charged_day(book, now);
    if the_day(book, &day).is_none() {
        if book.days.len() >= MAX_DAYS {
            book.days.remove(0);
        }
        let at = book.days.partition_point(|known| known.day < day);
        book.days.insert(at, ModelDay { day: day.clone(), ..ModelDay::default() });
    }
    day
}

/// Makes sure that the incident and its namespace can be charged.
fn make_room(book: &mut ModelSpend, key: &IncidentKey, day: &str, now: Time) -> Result<(), Refusal> {
    let has_namespace = the_day(book, day).is_some_and(|day| namespace(day, &key.namespace).is_some());
    if !has_namespace && the_day(book, day).is_some_and(|day| day.namespaces.len() >= MAX_NAMESPACES) {
        return Err(Refusal::Full { of: "namespaces of one day", bound: MAX_NAMESPACES });
    }
    if incident(book, key).is_none() {
        let own =
            |book: &ModelSpend| book.incidents.iter().filter(|known| known.incident.namespace == key.namespace).count();
        if own(book) >= MAX_INCIDENTS_OF_ONE {
            forget_of(book, Some(&key.namespace), KEEP_AT_LEAST, now);
        }
        if own(book) >= MAX_INCIDENTS_OF_ONE {
            return Err(Refusal::Full { of: "incidents of one namespace", bound: MAX_INCIDENTS_OF_ONE });
        }
        if book.incidents.len() >= MAX_INCIDENTS {
            forget(book, KEEP_AT_LEAST, now);
        }
        if book.incidents.len() >= MAX_INCIDENTS {
            return Err(Refusal::Full { of: "incidents", bound: MAX_INCIDENTS });
        }
        book.incidents.push(ModelIncident { incident: key.clone(), nano_dollars: 0, at: now });
    }
    if let Some(day) = book.days.iter_mut().find(|known| known.day == day).filter(|_| !has_namespace) {
        day.namespaces.push(NamespaceSpend { namespace: key.namespace.clone(), nano_dollars: 0 });
    }
    Ok(())
}

/// Drops incidents whose latest charge is older than `keep`, unless something is reserved for them.
fn forget(book: &mut ModelSpend, keep: SignedDuration, now: Time) {
    forget_of(book, None, keep, now);
}

/// The same for those of one namespace.
fn forget_of(book: &mut ModelSpend, namespace: Option<&str>, keep: SignedDuration, now: Time) {
    let ModelSpend { open, incidents, days: _ } = book;
    incidents.retain(|known| {
        namespace.is_some_and(|namespace| known.incident.namespace != namespace)
            || now.duration_since(known.at) < keep
            || open.iter().any(|open| open.incident.as_ref() == Some(&known.incident))
    });
}

/// Drops what was entered for a reservation and of which nothing was used: there is nothing to remember.
fn drop_unused(book: &mut ModelSpend, reservation: &ModelReservation) {
    let Some(key) = &reservation.incident else { return };
    let ModelSpend { open, incidents, days } = book;
    let is_open = |of: &dyn Fn(&IncidentKey) -> bool| open.iter().any(|open| open.incident.as_ref().is_some_and(of));
    if !is_open(&|other| other == key) {
        incidents.retain(|known| known.incident != *key || known.nano_dollars != 0);
    }
    if !is_open(&|other| other.namespace == key.namespace) {
        for day in days.iter_mut().filter(|day| day.day == reservation.day) {
            day.namespaces.retain(|known| known.namespace != key.namespace || known.nano_dollars != 0);
        }
    }
}

fn open(book: &mut ModelSpend, ask: &Ask, day: String, amount: NanoDollars, now: Time) {
    let incident = match &ask.payer {
        Payer::Incident(key) => Some(key.clone()),
        Payer::Probes => None,
    };
    let (id, holder) = (ask.id.clone(), ask.holder.clone());
    book.open.push(ModelReservation { id, holder, day, incident, nano_dollars: stored(amount), at: now });
}

/// Whether an open reservation is the one that is asked for, and not another's with the same ID.
fn is_of(open: &ModelReservation, ask: &Ask) -> bool {
    open.holder == ask.holder && payer(open) == ask.payer
}

fn payer(reservation: &ModelReservation) -> Payer {
    reservation.incident.clone().map_or(Payer::Probes, Payer::Incident)
}

/// Adds to what was settled. The day may have been dropped since: then only the incident remembers.
fn charge(book: &mut ModelSpend, payer: &Payer, day: &str, amount: NanoDollars, now: Time) {
    let day = book.days.iter_mut().find(|known| known.day == day);
    match (payer, day) {
        (Payer::Probes, Some(day)) => add(&mut day.probes_nano_dollars, amount),
        (Payer::Probes, None) => {}
        (Payer::Incident(key), day) => {
            if let Some(day) = day {
                add(&mut day.nano_dollars, amount);
                let here = day.namespaces.iter_mut().find(|known| known.namespace == key.namespace);
                here.into_iter().for_each(|known| add(&mut known.nano_dollars, amount));
            }
            for known in book.incidents.iter_mut().filter(|known| known.incident == *key) {
                add(&mut known.nano_dollars, amount);
                known.at = known.at.max(now);
            }
        }
    }
}

/// For people only: when there are too many names, the rest is not told apart.
fn attribute(day: &mut ModelDay, name: &str, spent: NanoDollars) {
    let room = day.upstreams.len() < MAX_UPSTREAMS;
    match day.upstreams.iter_mut().find(|known| known.upstream == name) {
        Some(known) => add(&mut known.nano_dollars, spent),
        None if !room => {}
        None => day.upstreams.push(UpstreamSpend { upstream: name.to_owned(), nano_dollars: stored(spent) }),
    }
}

fn the_day<'a>(book: &'a ModelSpend, day: &str) -> Option<&'a ModelDay> {
    book.days.iter().find(|known| known.day == day)
}

fn namespace<'a>(day: &'a ModelDay, name: &str) -> Option<&'a NamespaceSpend> {
    day.namespaces.iter().find(|known| known.namespace == name)
}

fn incident<'a>(book: &'a ModelSpend, key: &IncidentKey) -> Option<&'a ModelIncident> {
    book.incidents.iter().find(|known| known.incident == *key)
}

fn add(sum: &mut i64, more: NanoDollars) {
    *sum = stored(money(*sum) + more);
}

/// A stored amount. One below zero cannot come from here: it counts as everything.
fn money(stored: i64) -> NanoDollars {
    NanoDollars(stored.try_into().unwrap_or(u64::MAX))
}

fn stored(amount: NanoDollars) -> i64 {
    amount.0.try_into().unwrap_or(i64::MAX)
}
