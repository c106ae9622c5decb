//! Retention: finished objects are kept for some days and up to a number. Open ones are never deleted; an Alert that
//! nobody repeats any more is ended. Incidents are known from the cache; Alerts are read page by page.
//!
//! Incidents of which people have not been told stay for longer. Where there are too many of them the oldest go, and one
//! page for each namespace says how many.

use std::{collections::BTreeMap, time::Duration};

use jiff::SignedDuration;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Preconditions},
    runtime::reflector::ObjectRef as Cached,
};
use tokio::sync::Notify;

use crate::api::v1alpha1::{Alert, Incident, Time};
use crate::clock;
use crate::cluster;
use crate::core::retention::{Finished, expired, owes, silent_since};
use crate::notify::Notification;

use super::alerts;
use super::caches;
use super::context::{Context, Error, Shared, call, wait_until_ready};
use super::notices::{self, Untold};

/// Interval between two looks.
const EVERY: Duration = Duration::from_secs(3600);
/// Until it is tried again after it could not finish.
const RETRY: Duration = Duration::from_secs(10);
/// Shortest pause while a namespace has as many Alerts as it may.
const CROWDED: Duration = Duration::from_secs(300);

/// What was deleted before people were told of it, by namespace, until they have heard of that.
pub type AllUntold = BTreeMap<Box<str>, Untold>;

/// Looks once an hour, and more often while a namespace is `crowded`, or people have to be told what was deleted.
pub async fn run(ctx: Shared, crowded: &Notify) {
    let mut untold = AllUntold::new();
    loop {
        let pause = match delete_expired(&ctx, &mut untold).await {
            Ok(()) if untold.is_empty() => EVERY,
            Ok(()) => CROWDED,
            Err(error) => {
                tracing::warn!(%error, "retention could not finish, will be tried again");
                RETRY
            }
        };
        tokio::time::sleep(pause.min(CROWDED)).await;
        if pause > CROWDED {
            let _ = tokio::time::timeout(pause - CROWDED, crowded.notified()).await;
        }
    }
}

/// Investigations and Remediations belong to their Incident and go with it. What people have not been told is told first.
pub async fn delete_expired(ctx: &Shared, untold: &mut AllUntold) -> Result<(), Error> {
    let days = SignedDuration::from_hours(24 * i64::from(ctx.settings.retention.days));
    let bound = ctx.settings.retention.per_namespace as usize;
    wait_until_ready(&ctx.incidents).await?;
    let expired_incidents = expired(ended_incidents(ctx), days, bound, clock::now());
    for old in expired_incidents.iter().filter(|old| old.owes) {
        note_untold(ctx, untold, old);
    }
    tell(ctx, untold).await;
    for old in expired_incidents {
        let api: Api<Incident> = ctx.api(&old.namespace);
        remove("Incident", call("delete Incident", api.delete(&old.name, &only(&old))).await);
    }
    for old in expired(ended_alerts(ctx, days).await?, days, bound, clock::now()) {
        let api: Api<cluster::Lean<Alert>> = ctx.api(&old.namespace);
        remove("Alert", call("delete Alert", api.delete(&old.name, &only(&old))).await);
    }
    Ok(())
}

fn ended_incidents(ctx: &Context) -> Vec<Finished> {
    let ended = ctx.incidents.state().into_iter().filter_map(|incident| {
        let status = incident.status.as_ref().filter(|status| status.phase.is_final() && !status.is_watched())?;
        let one = finished(incident.as_ref(), status.times.ended?)?;
        Some(Finished { owes: owes(status), ..one })
    });
    ended.collect()
}

/// Counts one that goes before people were told of it. They come with the newest of a namespace first.
fn note_untold(ctx: &Context, untold: &mut AllUntold, old: &Finished) {
    let cached = ctx.incidents.get(&Cached::new(&old.name).within(&old.namespace));
    let severity = cached.map(|incident| incident.spec.severity).unwrap_or_default();
    let fresh = || Untold { count: 0, severity, newest: old.clone(), told: vec![] };
    let all = untold.entry(old.namespace.clone()).or_insert_with(fresh);
    all.count += 1;
    all.severity = all.severity.max(severity);
    if all.newest.ended < old.ended {
        all.newest = old.clone();
    }
    // Another number is news for whoever heard of the one before.
    all.told.clear();
    ctx.metrics.deleted_untold.inc();
}

/// One page for each namespace. What does not arrive is tried again at the next look, as long as this process lives.
async fn tell(ctx: &Context, untold: &mut AllUntold) {
    for (namespace, all) in untold.iter_mut() {
        tracing::error!(%namespace, count = all.count, "incidents are deleted before people were told of them");
        let page = Notification::Escalated(notices::of_untold(ctx, all));
        let told = ctx.notifier.deliver(&page, &all.told).await;
        all.told = told.deliveries;
    }
    untold.retain(|_, all| all.told.is_empty() || !all.told.iter().all(|delivery| delivery.delivered));
}

/// Reads all Alerts, and holds no more of those that ended and whose incident is not open than is needed to delete them. Those
/// that nobody repeats are ended on the way.
async fn ended_alerts(ctx: &Context, days: SignedDuration) -> Result<Vec<Finished>, Error> {
    let api: Api<cluster::Lean<Alert>> = Api::all(ctx.client.clone());
    let mut ended = Vec::new();
    let mut after = None;
    loop {
        let page = call("list Alerts", cluster::page(&api, caches::ALERTS, after.as_deref())).await?;
        for alert in page.items {
            // Nobody handles one that cannot be decoded; its author is told on it.
            let Ok(alert) = alert else { continue };
            ended.extend(ended_alert(ctx, alert, days).await);
        }
        after = page.next;
        if after.is_none() {
            return Ok(ended);
        }
    }
}

/// The Alert, if it ended and its incident is not open.
async fn ended_alert(ctx: &Context, alert: Alert, days: SignedDuration) -> Option<Finished> {
    let now = clock::now();
    let incident = alert
        .status
        .as_ref()
        .and_then(|status| ctx.incidents.get(&Cached::new(&status.incident).within(&status.incident_namespace)));
    let is_over = |one: &Incident| one.status.as_ref().is_some_and(|it| it.phase.is_final() && !it.is_watched());
    if incident.as_deref().is_some_and(|one| !is_over(one)) {
        return None;
    }
    let silent = silent_since(&alert, ctx.alert_silence(), now);
    if let Some(end) = silent.filter(|end| now.duration_since(*end) <= days) {
        if let Err(error) = alerts::end_silent(ctx, &alert, end).await {
            tracing::debug!(%error, alert = %alert.name_any(), "not ended");
        }
        return None;
    }
    let one = silent.or(alert.spec.ends_at).and_then(|end| finished(&alert, end))?;
    // The incident of a silent one may be young, and is then kept for long; the alert is not.
    Some(Finished { ages: incident.is_none() || silent.is_some(), ..one })
}

fn finished<K: kube::Resource<DynamicType = ()>>(object: &K, ended: Time) -> Option<Finished> {
    let [namespace, name, uid] = [object.namespace()?, object.name_any(), object.uid()?].map(String::into_boxed_str);
    Some(Finished { namespace, name, uid, ended, ages: true, owes: false })
}

fn only(old: &Finished) -> DeleteParams {
    let uid = Some(old.uid.to_string());
    DeleteParams { preconditions: Some(Preconditions { uid, resource_version: None }), ..DeleteParams::background() }
}

fn remove<T>(kind: &str, result: Result<T, Error>) {
    if let Err(error) = result {
        tracing::debug!(kind, %error, "not deleted");
    }
}
