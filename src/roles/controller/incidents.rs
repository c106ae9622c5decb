//! An incident, one step at a time: gather what the step needs, decide, do the effects, store the status.

use std::sync::Arc;
use std::time::Duration;

use futures::TryFutureExt as _;
use kube::{Api, ResourceExt as _, runtime::controller::Action};
use tracing::Instrument as _;

use crate::api::v1alpha1::Incident;
use crate::clock;
use crate::core::{
    incident::{self, Next, Notice, Seen, Step},
    reason::Reason,
    retention, watchdog,
};
use crate::telemetry::request_span;

use super::context::{Error, Shared, call};
use super::effects::{self, Failure};
use super::{deciding, gather, metrics, notices, progress};

/// Steps of one reconcile at most; the rest follows in the next one.
const STEPS: usize = 12;

/// Until an incident whose namespace has all the room that it may have is looked at again.
const NO_ROOM: Duration = Duration::from_millis(300);

/// Takes steps until there is something to wait for. One whose steps are refused again and again is handed over; where there
/// is nothing to hand over, the step is tried on, and that it fails is for the watchdog to see.
pub async fn reconcile(cached: Arc<Incident>, ctx: Shared) -> Result<Action, Error> {
    if retention::rests(&cached) {
        return Ok(Action::await_change());
    }
    let _turn = ctx.progress.turn_of_an_incident().await;
    let now = clock::now();
    let key = progress::key("Incident", cached.as_ref());
    let Some(_place) = ctx.progress.enter(&key) else {
        return Ok(Action::requeue(NO_ROOM + Duration::from_millis(rand::random::<u8>().into())));
    };
    let span = request_span(&cached.spec.request_id);
    let work = async {
        // On the heap: these are large, and the threads of the runtime have small stacks.
        if let Some(error) = ctx.progress.refused_for_good(&key, now)
            && let Some(pause) = Box::pin(give_up(&cached, &ctx, &error)).await?
        {
            return Ok(pause);
        }
        Box::pin(steps(&cached, &ctx)).await
    };
    let pause = work.inspect_err(|error: &Error| error.log("Incident", cached.as_ref())).instrument(span).await?;
    let goes_on = cached.status.as_ref().is_none_or(watchdog::goes_on);
    ctx.progress.ended_well(key, goes_on, clock::now());
    Ok(Action::requeue(pause))
}

/// Hands the incident over because of what is refused; `None` where it is over already. When that fails too, the watchdog is
/// left.
pub async fn give_up(cached: &Incident, ctx: &Shared, error: &str) -> Result<Option<Duration>, Error> {
    let api: Api<Incident> = ctx.api(&cached.namespace().unwrap_or_default());
    let Some(incident) = call("read Incident", api.get_opt(&cached.name_any())).await? else {
        return Ok(Some(Duration::from_secs(3600)));
    };
    let message = format!("the API server refuses again and again what Backstop cannot do without: {error}");
    let step = incident::blocked(&incident, Reason::RequestRefused, &message, &ctx.terms, clock::now());
    if step.status.is_none() {
        return Ok(None);
    }
    take(ctx, incident, step).await?;
    Ok(Some(Duration::from_millis(10)))
}

async fn steps(cached: &Incident, ctx: &Shared) -> Result<Duration, Error> {
    let Some(mut incident) = current(cached, ctx).await? else {
        return Ok(Duration::from_secs(3600));
    };
    let mut need = incident::need(&incident, clock::now());
    for _ in 0..STEPS {
        let seen = Box::pin(gather::gather(ctx, &incident, need, clock::now())).await?;
        let step;
        (incident, step) = decide(ctx, incident, seen).await?;
        let next = step.next;
        incident = Box::pin(take(ctx, incident, step)).await?;
        need = match next {
            Next::Look(more) => more,
            Next::After(pause) => return Ok(pause),
            Next::Again => incident::need(&incident, clock::now()),
            Next::Deliver(notice) => {
                incident = Box::pin(deliver(ctx, incident, notice)).await?;
                incident::need(&incident, clock::now())
            }
        };
    }
    Ok(Duration::from_millis(10))
}

/// The step that follows from what was `seen`. Without an answer in time it is a refusal; where there was nothing to decide,
/// such as for a write that is under way, nothing new is granted, and it is asked again. What only tells people asks no check,
/// and waits for none.
async fn decide(ctx: &Shared, incident: Incident, seen: Seen) -> Result<(Incident, Step), Error> {
    let incident = Arc::new(incident);
    let (namespace, name) = (incident.namespace().unwrap_or_default(), incident.name_any());
    let tells = incident::only_tells(&incident, &seen);
    let work = {
        let (ctx, incident) = (ctx.clone(), incident.clone());
        move || incident::step(&incident, &seen, &ctx.terms, clock::now())
    };
    let answer = if tells { deciding::in_place(work) } else { ctx.deciding.answer(&namespace, &name, work).await };
    let step = match answer {
        Ok(step) => step,
        Err(why) => {
            ctx.metrics.unanswered.get_or_create(&metrics::Labels { reason: why.as_str() }).inc();
            tracing::error!(namespace, incident = name, %why, "the checks gave no answer, and so refuse");
            let refusal = incident::unanswered(&incident, &why.to_string(), &ctx.terms, clock::now());
            refusal.ok_or_else(|| Error::Unanswered(why.to_string()))?
        }
    };
    Ok((Arc::unwrap_or_clone(incident), step))
}

/// The incident by a quorum read: the cache may be older than the last step. A new one, about which nothing was decided,
/// is taken as the watch shows it: its first step does nothing before its status is written, and that is refused when
/// the incident has changed since.
async fn current(cached: &Incident, ctx: &Shared) -> Result<Option<Incident>, Error> {
    if cached.status.is_none() {
        return Ok(Some(cached.clone()));
    }
    let api: Api<Incident> = ctx.api(&cached.namespace().unwrap_or_default());
    call("read Incident", api.get_opt(&cached.name_any())).await
}

/// Does the effects of a step and stores its status. When the Ledger refuses a charge, the incident is escalated.
async fn take(ctx: &Shared, incident: Incident, step: Step) -> Result<Incident, Error> {
    let now = clock::now();
    let step = match effects::perform(ctx, &incident, &step.effects, now).await {
        Ok(()) => step,
        Err(Failure::Error(error)) => return Err(error),
        Err(Failure::Refused(refusal)) => {
            let step = incident::refused(&incident, &step, &refusal, &ctx.terms, now);
            match effects::perform(ctx, &incident, &step.effects, now).await {
                Err(Failure::Error(error)) => return Err(error),
                Ok(()) | Err(Failure::Refused(_)) => step,
            }
        }
    };
    let Step { status, after, .. } = step;
    let stored = match status {
        Some(status) => ctx.write_status(&incident, *status).await?,
        None => incident,
    };
    match effects::perform(ctx, &stored, &after, now).await {
        Err(Failure::Error(error)) => Err(error),
        Ok(()) | Err(Failure::Refused(_)) => Ok(stored),
    }
}

/// Notifies people, and stores how that went. Until it is stored it is remembered, so that a status that cannot be
/// written does not call people again and again.
async fn deliver(ctx: &Shared, incident: Incident, notice: Notice) -> Result<Incident, Error> {
    let key = progress::key(notice.as_str(), &incident);
    let Some(told) = notices::deliver(ctx, &incident, notice, ctx.progress.told(&key)).await? else {
        let step = incident::nothing_to_tell(&incident, notice);
        return take(ctx, incident, step).await;
    };
    ctx.progress.remember_told(key.clone(), told.deliveries.clone());
    let step = incident::told(&incident, notice, told.deliveries, told.waiting, clock::now());
    let stored = take(ctx, incident, step).await?;
    ctx.progress.forget_told(&key);
    Ok(stored)
}
