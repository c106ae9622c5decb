//! The target of an incident, and what its pods need.

use std::time::Duration;

use crate::api::v1alpha1::{Incident, ObjectRef, Time};
use crate::cluster::{ReadError, api, snapshot_with_events};
use crate::core::{
    gate::Unreadable,
    reason::Reason,
    workload::{Presence, Workload, WorkloadError, data_changed},
};

use super::super::context::{Context, Error};

/// Bound on one reading of a target.
pub(super) const READING: Duration = Duration::from_secs(4);

/// Reads the incident's target. One that cannot be read is a reason, not an error: it has to end in a decision.
pub(super) async fn workload(
    ctx: &Context,
    incident: &Incident,
    now: Time,
) -> Result<Result<Workload, Unreadable>, Error> {
    Ok(match &incident.spec.target {
        Some(target) => read_workload(ctx, target, now).await,
        None => {
            let message = "there is no target to read".into();
            Err(Unreadable { reason: Reason::TargetUnresolved, message })
        }
    })
}

/// Reads one workload.
pub async fn read_workload(ctx: &Context, target: &ObjectRef, now: Time) -> Result<Workload, Unreadable> {
    let unreadable = |reason, message: String| Unreadable { reason, message };
    let raw = snapshot_with_events(&ctx.client, target, READING, now).await.map_err(|error| {
        let reason = match error {
            ReadError::NotFound { .. } => Reason::TargetGone,
            ReadError::Unsupported { .. } => Reason::KindNotSupported,
            _ => Reason::ClusterUnreadable,
        };
        unreadable(reason, error.to_string())
    })?;
    Workload::of(&raw).map_err(|error| match error {
        WorkloadError::Kind { .. } => unreadable(Reason::KindNotSupported, error.to_string()),
        WorkloadError::Missing { .. } => unreadable(Reason::ClusterUnreadable, error.to_string()),
    })
}

/// Looks which objects exist that a template needs whose pods an action would have created, and when the data of
/// ConfigMaps changed: metadata only, all at once. What cannot be read is not known; that has to end in a decision too.
pub(super) async fn presence(ctx: &Context, workload: &Workload) -> Vec<Presence> {
    let looks = workload.looked_up().into_iter().map(|(kind, name)| async move {
        let unknown = Presence { kind, name: name.clone(), exists: None, changed_at: None };
        let Some(resource) = api::referenced(kind) else { return unknown };
        match resource.get_metadata(&ctx.client, &workload.object.namespace, &name, READING).await {
            Ok(metadata) => {
                let changed_at = data_changed(&metadata).map(|(at, _)| at);
                Presence { exists: Some(true), changed_at, ..unknown }
            }
            // A name that no object can have is an object that does not exist.
            Err(ReadError::NotFound { .. } | ReadError::InvalidName { .. }) => {
                Presence { exists: Some(false), ..unknown }
            }
            Err(error) => {
                tracing::debug!(%error, "what a template needs cannot be looked up");
                unknown
            }
        }
    });
    futures::future::join_all(looks).await
}
