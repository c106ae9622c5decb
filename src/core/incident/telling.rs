//! Notifications: what people have to be told, when it is tried, and when again. All of it is in the status, so that a
//! restart goes on where its predecessor stopped.

use std::time::Duration;

use jiff::SignedDuration;

use crate::api::v1alpha1::{Delivery, Escalation, Incident, IncidentPhase, IncidentStatus, NoticeStatus, Time};
use crate::core::names;

use super::{Effect, IDLE, Next, Notice, Step};

/// Pause after the first attempt that did not reach every channel; doubles with each.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_secs(15);
/// Longest pause.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_mins(30);
/// Pause of a delivery that only waited for its turn.
const TURN: SignedDuration = SignedDuration::from_secs(2);
/// Deliveries that a status holds for one notification.
const MAX_DELIVERIES: usize = 16;
/// Notifications that a status holds beside that of the escalation.
const MAX_NOTICES: usize = 8;

/// Asks for a notification; the one that it repeats is replaced.
pub(super) fn ask(status: &mut IncidentStatus, notice: Notice, now: Time) {
    // The escalation has its own place in the status, and is told because it is there.
    if notice == Notice::Escalated {
        return;
    }
    status.notices.retain(|old| old.notice != notice.as_str());
    if status.notices.len() >= MAX_NOTICES {
        status.notices.remove(0);
    }
    let next_attempt = Some(now);
    status.notices.push(NoticeStatus { notice: notice.as_str().into(), next_attempt, ..NoticeStatus::default() });
}

/// Whether a step counts an anomaly, which may open a cascade breaker.
pub(super) fn counts_anomaly(step: &Step) -> bool {
    step.effects.iter().any(|effect| matches!(effect, Effect::CountAnomaly(_)))
}

/// With the question whether a cascade breaker has opened, where the step counts what may have opened one.
pub(super) fn of_breakers(mut step: Step, now: Time) -> Step {
    let counts = counts_anomaly(&step);
    if let Some(status) = step.status.as_mut().filter(|_| counts) {
        ask_of_breakers(status, now);
    }
    step
}

/// Asks that people are told of a breaker that the incident opened. Once they were told of it they are not told again.
pub(super) fn ask_of_breakers(status: &mut IncidentStatus, now: Time) {
    let notice = Notice::BreakerOpened;
    if !status.notices.iter().any(|it| it.notice == notice.as_str() && !it.deliveries.is_empty()) {
        ask(status, notice, now);
    }
}

/// What a notification was to tell is not the case, or not any more: nobody is told.
pub fn nothing_to_tell(incident: &Incident, notice: Notice) -> Step {
    let mut status = super::status(incident);
    status.notices.retain(|it| it.notice != notice.as_str());
    Step::write(vec![], status, Next::Again)
}

/// The notification that is due, for the first time or again.
pub(super) fn due(status: &IncidentStatus, now: Time) -> Option<Notice> {
    waiting(status).find(|(_, at)| is_due(*at, now)).map(|(notice, _)| notice)
}

/// Whether somebody still has to be told something.
pub fn has_to_tell(status: &IncidentStatus) -> bool {
    waiting(status).next().is_some()
}

/// The first notification that has not reached everybody, whether it is due or not.
pub fn to_tell(status: &IncidentStatus) -> Option<Notice> {
    waiting(status).next().map(|(notice, _)| notice)
}

/// How long whoever has to tell something rests by itself: not at all before the first attempt, or when nothing is left to tell.
pub(super) fn rest(status: &IncidentStatus) -> SignedDuration {
    let tried = |notice: Notice| match notice {
        Notice::Escalated => status.escalation.as_ref().is_some_and(|it| it.attempts > 0),
        _ => status.notices.iter().any(|it| it.notice == notice.as_str() && it.attempts > 0),
    };
    let all_tried = waiting(status).all(|(notice, _)| tried(notice));
    if all_tried { LONGEST_PAUSE } else { SignedDuration::ZERO }
}

/// Until the next notification is due.
pub(super) fn pause(status: &IncidentStatus, now: Time) -> Duration {
    let rest = |at: Time| at.duration_since(now).clamp(SignedDuration::from_secs(1), LONGEST_PAUSE);
    let next = waiting(status).filter_map(|(_, at)| Duration::try_from(rest(at)).ok()).min();
    next.unwrap_or(IDLE)
}

/// Notifications that have not reached everybody, and when each is to be tried.
fn waiting(status: &IncidentStatus) -> impl Iterator<Item = (Notice, Time)> {
    let escalation = status.escalation.as_ref().filter(|escalation| {
        status.phase == IncidentPhase::Escalated
            && (escalation.deliveries.is_empty() || !arrived(&escalation.deliveries))
    });
    let escalation = escalation.map(|it| (Notice::Escalated, it.next_attempt.unwrap_or(Time::UNIX_EPOCH)));
    let others = status.notices.iter().filter_map(|it| {
        let notice = Notice::named(&it.notice).filter(|notice| notice.is_news(status))?;
        Some((notice, it.next_attempt?))
    });
    escalation.into_iter().chain(others)
}

/// Whether `at` has come. A clock that was set back makes nobody wait longer than the longest pause.
fn is_due(at: Time, now: Time) -> bool {
    at <= now || at.duration_since(now) > LONGEST_PAUSE
}

fn arrived(deliveries: &[Delivery]) -> bool {
    deliveries.iter().all(|delivery| delivery.delivered)
}

/// The deliveries of a notification so far.
pub fn deliveries(incident: &Incident, notice: Notice) -> Vec<Delivery> {
    let Some(status) = &incident.status else { return vec![] };
    match notice {
        Notice::Escalated => status.escalation.as_ref().map(|it| it.deliveries.clone()).unwrap_or_default(),
        _ => {
            let told = status.notices.iter().find(|it| it.notice == notice.as_str());
            told.map(|it| it.deliveries.clone()).unwrap_or_default()
        }
    }
}

/// What tells a notification from others of the incident that give the same reason, in a few characters; empty where there is
/// one only. Each time that people are asked, and each reminder, is another one; each attempt to deliver it is not.
pub fn occasion(incident: &Incident, notice: Notice) -> String {
    let status = super::status(incident);
    match notice {
        // An incident is handed over once.
        Notice::Escalated => String::new(),
        // One may be handed over because of a breaker too.
        Notice::BreakerOpened => notice.as_str().to_owned(),
        Notice::ApprovalAsked => {
            let digest = status.decision.and_then(|decision| decision.digest).unwrap_or_default();
            let decided = status.times.decided.map(|at| at.to_string()).unwrap_or_default();
            names::short_digest(&["request", &digest, &decided])
        }
        Notice::Resolved => status.times.ended.map(|at| at.as_second().to_string()).unwrap_or_default(),
    }
}

/// Records an attempt. What did not arrive is tried again, with growing pauses and without an end: soon if it only
/// `waited` for its turn.
pub fn told(incident: &Incident, notice: Notice, deliveries: Vec<Delivery>, waited: bool, now: Time) -> Step {
    let mut status = super::status(incident);
    let (places, attempts, next_attempt) = match notice {
        Notice::Escalated => {
            let Some(Escalation { deliveries, attempts, next_attempt, .. }) = status.escalation.as_deref_mut() else {
                return Step::wait(IDLE);
            };
            (deliveries, attempts, next_attempt)
        }
        _ => {
            let Some(it) = status.notices.iter_mut().find(|it| it.notice == notice.as_str()) else {
                return Step::wait(IDLE);
            };
            (&mut it.deliveries, &mut it.attempts, &mut it.next_attempt)
        }
    };
    *places = deliveries;
    places.truncate(MAX_DELIVERIES);
    let pause = if waited {
        TURN
    } else {
        *attempts = attempts.saturating_add(1);
        let doublings = u32::try_from(*attempts - 1).unwrap_or_default().min(16);
        (FIRST_PAUSE * 2_i32.pow(doublings)).min(LONGEST_PAUSE)
    };
    // Without any channel there is nothing to wait for, but one may come with a restart.
    let done = !places.is_empty() && arrived(places);
    *next_attempt = if done { None } else { Some(now.checked_add(pause).unwrap_or(now)) };
    Step::write(vec![], status, Next::Again)
}
