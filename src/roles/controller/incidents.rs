//! An incident, one step at a time: each step reads, decides by pure functions, has at most one effect, and writes
//! down what came of it. A crash between two steps is a restart of the second.

use std::sync::Arc;
use std::time::Duration;

use futures::TryFutureExt as _;
use kube::{Api, ResourceExt as _, runtime::controller::Action};
use tracing::Instrument as _;

use crate::api::v1alpha1::{Incident, IncidentPhase};
use crate::clock;
use crate::telemetry::request_span;

use super::context::{Error, Next, Shared, call};
use super::{escalate, investigate, judge, plan, remediate, verify};

/// Steps of one reconcile at most; the rest follows in the next one.
const STEPS: usize = 8;

/// Takes steps until there is something to wait for.
pub async fn reconcile(cached: Arc<Incident>, ctx: Shared) -> Result<Action, Error> {
    let span = request_span(&cached.spec.request_id);
    let steps = async {
        let api: Api<Incident> = ctx.api(&cached.namespace().unwrap_or_default());
        // A quorum read: the cache may be older than our own last step.
        let Some(mut incident) = call("read Incident", api.get_opt(&cached.name_any())).await? else {
            return Ok(Action::await_change());
        };
        for _ in 0..STEPS {
            match step(&ctx, &incident).await? {
                Next::Again(next) => incident = *next,
                Next::After(delay) => return Ok(Action::requeue(delay)),
                Next::Change => return Ok(Action::requeue(Duration::from_secs(30))),
            }
        }
        Ok(Action::requeue(Duration::from_millis(10)))
    };
    steps.inspect_err(|error: &Error| error.tell("Incident", cached.as_ref())).instrument(span).await
}

async fn step(ctx: &Shared, incident: &Incident) -> Result<Next, Error> {
    let now = clock::now();
    match incident.status.as_ref().map(|status| status.phase).unwrap_or_default() {
        IncidentPhase::Open => plan::write(ctx, incident, now).await,
        IncidentPhase::Investigating => investigate::run(ctx, incident, now).await,
        IncidentPhase::Judging => judge::decide(ctx, incident, now).await,
        IncidentPhase::AwaitingApproval => judge::await_approval(ctx, incident, now).await,
        IncidentPhase::Remediating => remediate::repair(ctx, incident, now).await,
        IncidentPhase::Verifying => verify::watch(ctx, incident, now).await,
        IncidentPhase::Undoing => remediate::undo(ctx, incident, now).await,
        IncidentPhase::Escalated => escalate::deliver(ctx, incident, now).await,
        IncidentPhase::Resolved => Ok(Next::After(Duration::from_secs(3600))),
    }
}
