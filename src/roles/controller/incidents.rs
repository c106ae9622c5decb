//! An incident, one step at a time: gather what the step needs, decide, do the effects, store the status.

use std::sync::Arc;
use std::time::Duration;

use futures::TryFutureExt as _;
use kube::{Api, ResourceExt as _, runtime::controller::Action};
use tracing::Instrument as _;

use crate::api::v1alpha1::Incident;
use crate::clock;
use crate::core::incident::{self, Next, Step};
use crate::telemetry::request_span;

use super::context::{Error, Shared, call};
use super::effects::{self, Failure};
use super::{gather, notices};

/// Steps of one reconcile at most; the rest follows in the next one.
const STEPS: usize = 12;

/// Takes steps until there is something to wait for.
pub async fn reconcile(cached: Arc<Incident>, ctx: Shared) -> Result<Action, Error> {
    let span = request_span(&cached.spec.request_id);
    steps(&cached, &ctx)
        .inspect_err(|error: &Error| error.log("Incident", cached.as_ref()))
        .instrument(span)
        .await
        .map(Action::requeue)
}

async fn steps(cached: &Incident, ctx: &Shared) -> Result<Duration, Error> {
    let Some(mut incident) = current(cached, ctx).await? else {
        return Ok(Duration::from_secs(3600));
    };
    let mut need = incident::need(&incident, clock::now());
    for _ in 0..STEPS {
        let seen = gather::gather(ctx, &incident, need, clock::now()).await?;
        let step = incident::step(&incident, &seen, &ctx.terms, clock::now());
        let next = step.next;
        incident = take(ctx, incident, step).await?;
        need = match next {
            Next::Look(more) => more,
            Next::After(pause) => return Ok(pause),
            Next::Again => incident::need(&incident, clock::now()),
            Next::Deliver => return deliver(ctx, incident).await,
        };
    }
    Ok(Duration::from_millis(10))
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

/// Notifies people, and stores the deliveries.
async fn deliver(ctx: &Shared, incident: Incident) -> Result<Duration, Error> {
    let told = notices::escalate(ctx, &incident).await?;
    let step = incident::delivered(&incident, told.deliveries, told.waiting);
    let pause = match step.next {
        Next::After(pause) => pause,
        Next::Again | Next::Look(_) | Next::Deliver => Duration::from_secs(1),
    };
    take(ctx, incident, step).await?;
    Ok(pause)
}
