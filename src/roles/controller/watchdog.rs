//! The watchdog's effects: the smallest status, and a page from what is in memory. No other object is read.

use std::time::Duration;

use futures::future::join_all;
use jiff::SignedDuration;
use kube::{Api, ResourceExt as _, api::DynamicObject, core::ApiResource, runtime::reflector::ObjectRef as Cached};
use serde_json::{Map, Value, json};

use crate::api::v1alpha1::{Incident, IncidentPhase, IncidentStatus};
use crate::audit::{Kept, Record};
use crate::clock;
use crate::core::{
    fit,
    incident::{Notice, deliveries, has_to_tell, to_tell},
    reason::Reason,
    watchdog::{self, HandedOver, Key, Stuck, Watchdog},
};
use crate::notify::{Message, Notification, Told};

use super::context::{Context, Error, Shared, call};
use super::{grants, metrics, notices, progress};

/// Interval between two looks.
const EVERY: Duration = Duration::from_secs(15);
/// A page may take so long, whatever a receiver does.
const PAGE: Duration = Duration::from_secs(60);

/// Looks for ever.
pub async fn run(ctx: Shared) {
    let patience = SignedDuration::from_secs(ctx.settings.watchdog_seconds.into());
    let mut watchdog = Watchdog::new(patience);
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        look(&ctx, &mut watchdog).await;
    }
}

async fn look(ctx: &Shared, watchdog: &mut Watchdog) {
    let now = clock::now();
    let incidents = ctx.incidents.state();
    let alerts = ctx.alerts.state();
    let timings = &ctx.terms.timings;
    let subjects = incidents.iter().filter_map(|incident| watchdog::incident(incident, timings));
    let subjects = subjects.chain(alerts.iter().filter_map(|alert| watchdog::alert(alert)));
    let stuck = watchdog.look(subjects, |key| ctx.progress.steps(key), now);
    ctx.progress.forget(|key| watchdog.knows(key), now);
    ctx.metrics.watchdog_looks.inc();
    let untold = incidents.iter().filter(|it| it.status.as_ref().is_some_and(has_to_tell)).count();
    ctx.metrics.untold.set(i64::try_from(untold).unwrap_or(i64::MAX));
    ctx.metrics.stuck.set(i64::try_from(stuck.len()).unwrap_or(i64::MAX));
    let outcomes = join_all(stuck.into_iter().map(|one| async move {
        let outcome = hand_over(ctx, &one).await;
        (one.key, outcome)
    }));
    for (key, outcome) in outcomes.await {
        ctx.metrics.watchdog.get_or_create(&metrics::OutcomeLabel { outcome: word(outcome) }).inc();
        watchdog.handed_over(&key, outcome, clock::now());
    }
}

fn word(outcome: HandedOver) -> &'static str {
    match outcome {
        HandedOver::Stored => "stored",
        HandedOver::MovedOn => "moved-on",
        HandedOver::Told => "told",
        HandedOver::Unheard => "unheard",
    }
}

pub async fn hand_over(ctx: &Context, stuck: &Stuck) -> HandedOver {
    let Key { kind, namespace, name } = &stuck.key;
    tracing::error!(kind, namespace, name, why = stuck.why.sentence(), "no progress: the watchdog hands it over");
    if let Some(incident) = ctx.incidents.get(&Cached::new(name).within(namespace)).filter(|_| *kind == "Incident") {
        let over = incident.status.as_ref().is_some_and(|status| status.phase.is_final() && !status.is_watched());
        return if over { tell(ctx, &incident, stuck).await } else { escalate(ctx, &incident, stuck).await };
    }
    match ctx.alerts.get(&Cached::new(name).within(namespace)) {
        Some(alert) => {
            let message = notices::of_alert(ctx, &alert, &stuck.why.sentence());
            page(ctx, Notification::Escalated(Message { occasion: again(stuck), ..message })).await
        }
        None => HandedOver::MovedOn,
    }
}

/// Closes what may be open, stores the smallest status, and tells people from what is in memory. When nothing can be
/// stored they are told all the same.
async fn escalate(ctx: &Context, incident: &Incident, stuck: &Stuck) -> HandedOver {
    let status = incident.status.clone().unwrap_or_default();
    let namespace = incident.namespace().unwrap_or_default();
    for remediation in [&status.remediation, &status.replacement, &status.undo].into_iter().flatten() {
        if let Err(error) = grants::close(ctx, &namespace, remediation).await {
            tracing::warn!(%error, namespace, remediation, "the Grant cannot be closed; it ends with its time");
        }
    }
    let stored = match store_smallest(ctx, incident, stuck).await {
        Stored::Yes => true,
        Stored::No => false,
        Stored::MovedOn => return HandedOver::MovedOn,
    };
    audit(ctx, incident, stuck).await;
    let mut shown = incident.clone();
    shown.status = Some(IncidentStatus {
        phase: IncidentPhase::Escalated,
        reason: Reason::NoProgress.as_str().into(),
        message: stuck.why.sentence(),
        ..status
    });
    let told = page_incident(ctx, &shown, stuck, stored).await;
    if stored { HandedOver::Stored } else { told }
}

/// Tells people what an incident that is over has to tell, by every channel that has not taken it. Nothing is stored: it has
/// ended, and how telling went is remembered until the ordinary way stores that.
async fn tell(ctx: &Context, cached: &Incident, stuck: &Stuck) -> HandedOver {
    let api: Api<Incident> = ctx.api(&cached.namespace().unwrap_or_default());
    let incident = match call("read Incident", api.get_opt(&cached.name_any())).await {
        Ok(None) => return HandedOver::MovedOn,
        Ok(Some(found)) => found,
        // The cache keeps neither reason nor sentence of one that is over.
        Err(error) => {
            let mut shown = cached.clone();
            let status = shown.status.get_or_insert_default();
            status.reason = status.escalation.as_ref().map(|it| it.reason.clone()).unwrap_or_default();
            status.message = format!("{}. What it is about could not be read: {error}", stuck.why.sentence());
            shown
        }
    };
    let status = incident.status.clone().unwrap_or_default();
    let Some(notice) = to_tell(&status).filter(|_| status.phase.is_final()) else { return HandedOver::MovedOn };
    let key = progress::key(notice.as_str(), &incident);
    let earlier = match ctx.progress.told(&key) {
        remembered if remembered.is_empty() => deliveries(&incident, notice),
        remembered => remembered,
    };
    let work = async {
        let notification = match notice {
            Notice::BreakerOpened => notices::of_breakers(ctx, &incident).await?.map(Notification::Escalated),
            Notice::Resolved => Some(Notification::Resolved(notices::from_memory(ctx, &incident, notice))),
            Notice::Escalated | Notice::ApprovalAsked => {
                Some(Notification::Escalated(notices::from_memory(ctx, &incident, notice)))
            }
        };
        let Some(notification) = notification else { return Ok(None) };
        Ok::<_, Error>(Some(ctx.notifier.deliver(&notification, &earlier).await))
    };
    match tokio::time::timeout(PAGE, work).await {
        Ok(Ok(None)) => HandedOver::MovedOn,
        Ok(Ok(Some(told))) => {
            let arrived = told.arrived();
            ctx.progress.remember_told(key, told.deliveries);
            if arrived { HandedOver::Told } else { HandedOver::Unheard }
        }
        Ok(Err(_)) | Err(_) => HandedOver::Unheard,
    }
}

/// What became of the smallest status.
enum Stored {
    Yes,
    No,
    /// The incident is not where it was any more.
    MovedOn,
}

/// Stores it with what is there, or with less where that is refused. The incident is read for it, but need not be
/// readable: what the cache shows of it is enough. A replacement, because that is the one right on its status.
async fn store_smallest(ctx: &Context, incident: &Incident, stuck: &Stuck) -> Stored {
    let (namespace, name) = (incident.namespace().unwrap_or_default(), incident.name_any());
    // Not decoded: what is stuck may be what this version cannot read.
    let api: Api<DynamicObject> =
        Api::namespaced_with(ctx.client.clone(), &namespace, &ApiResource::erase::<Incident>(&()));
    let base = match call("read Incident", api.get_opt(&name)).await {
        Ok(None) => return Stored::MovedOn,
        Ok(Some(found)) => {
            let stored = found.data.get("status").cloned().unwrap_or_default();
            if !watchdog::is_where(incident, &stored) {
                return Stored::MovedOn;
            }
            Some((found, stored))
        }
        Err(error) => {
            tracing::warn!(%error, namespace, name, "the incident cannot be read; the hand-over goes by the cache");
            from_cache(incident)
        }
    };
    let Some((object, status)) = base else { return Stored::No };
    for patch in watchdog::minimal(incident, &stuck.why, clock::now()) {
        let mut status = status.clone();
        json_patch::merge(&mut status, &patch);
        fit::fit_patch("Incident", "status", &mut status);
        let mut object = object.clone();
        object.data["status"] = status;
        match call("hand an Incident over", api.replace_status(&name, &ctx.create_params(), &object)).await {
            Ok(_) => return Stored::Yes,
            Err(error) if error.is_not_found() => return Stored::MovedOn,
            Err(error) if error.category() == "Conflict" && stuck.told == 0 => return Stored::MovedOn,
            Err(error) => tracing::error!(%error, namespace, name, "the hand-over cannot be stored"),
        }
    }
    Stored::No
}

fn from_cache(incident: &Incident) -> Option<(DynamicObject, Value)> {
    let object: DynamicObject = serde_json::from_value(serde_json::to_value(incident).ok()?).ok()?;
    let status = object.data.get("status").cloned().unwrap_or_else(|| json!({}));
    Some((object, status))
}

/// Tells people of an incident from what is in memory. Where the hand-over is stored, who was told is remembered until
/// the ordinary way stores that too, and goes on with the others.
async fn page_incident(ctx: &Context, incident: &Incident, stuck: &Stuck, stored: bool) -> HandedOver {
    let message = notices::from_memory(ctx, incident, Notice::Escalated);
    let notification = Notification::Escalated(Message { occasion: again(stuck), ..message });
    let Ok(told) = tokio::time::timeout(PAGE, ctx.notifier.deliver(&notification, &[])).await else {
        return HandedOver::Unheard;
    };
    let heard = is_heard(&told);
    if stored {
        ctx.progress.remember_told(progress::key(Notice::Escalated.as_str(), incident), told.deliveries);
    }
    if heard { HandedOver::Told } else { HandedOver::Unheard }
}

/// Which page it is, of several that say the same because nothing can be stored; empty for the first.
fn again(stuck: &Stuck) -> String {
    if stuck.told == 0 { String::new() } else { stuck.told.to_string() }
}

/// One channel is enough, but not an Event alone while the page waits for its turn: nobody else would try that again.
fn is_heard(told: &Told) -> bool {
    !told.waiting && told.deliveries.iter().any(|delivery| delivery.delivered)
}

async fn page(ctx: &Context, notification: Notification) -> HandedOver {
    match tokio::time::timeout(PAGE, ctx.notifier.deliver(&notification, &[])).await {
        Ok(told) if is_heard(&told) => HandedOver::Told,
        Ok(_) | Err(_) => HandedOver::Unheard,
    }
}

async fn audit(ctx: &Context, incident: &Incident, stuck: &Stuck) {
    let mut details = Map::new();
    details.insert("reason".into(), Reason::NoProgress.as_str().into());
    details.insert("message".into(), stuck.why.sentence().into());
    let record = Record {
        at: clock::now(),
        request_id: incident.spec.request_id.clone(),
        kind: "IncidentEscalated".into(),
        incident: format!("{}/{}", incident.namespace().unwrap_or_default(), incident.name_any()),
        action_id: String::new(),
        details,
    };
    // While the log is closed it waits in memory: what people were called for is not lost with it.
    if ctx.audit.keep(record).await == Kept::Lost {
        tracing::error!(record = "IncidentEscalated", "a record is missing in the audit log");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::Delivery;

    #[test]
    fn an_event_alone_tells_nobody_while_the_page_waits_for_its_turn() {
        let told = |delivered: &[bool], waiting| {
            let all = delivered.iter().map(|it| Delivery { delivered: *it, ..Delivery::default() });
            is_heard(&Told { deliveries: all.collect(), waiting })
        };
        assert!(!told(&[true, false], true));
        assert!(told(&[true, false], false), "the receiver was asked, and is asked again where that can be stored");
        assert!(!told(&[false, false], false));
    }
}
