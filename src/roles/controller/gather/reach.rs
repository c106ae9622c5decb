//! What is around the target: the other workloads of its namespace, and what a write can reach.

use jiff::SignedDuration;
use kube::ResourceExt as _;

use crate::api::v1alpha1::{Incident, Time};
use crate::cluster::{
    PODS, ReadError,
    api::{DISRUPTION_BUDGETS, ENDPOINT_SLICES, ResourceType, SERVICES},
};
use crate::core::{
    blast::Reach, budget::storm, gate::Unreadable, incident::Books, neighbours::Neighbours, reason::Reason,
    workload::Workload,
};

use super::super::context::Context;
use super::target::READING;

/// Pods of a namespace that are read at a time.
const PODS_A_PAGE: u32 = 100;

/// Services, EndpointSlices and disruption budgets of a namespace that are read at a time: a slice has up to a thousand
/// endpoints.
const REACH_A_PAGE: u32 = 50;

/// Looks at the other workloads of the namespace, when the target fails. That they could not be read is noted, and no
/// error: it has to end in a decision.
pub(super) async fn with_neighbours(
    ctx: &Context,
    incident: &Incident,
    mut books: Books,
    target: Option<&Workload>,
    now: Time,
) -> Books {
    let Some(target) = target else { return books };
    let namespace = incident.namespace().unwrap_or_default();
    let mut neighbours = Neighbours::default();
    // The pods of a namespace are many: few are held in memory at a time.
    let Some(_turn) = ctx.neighbours.take(&namespace).await else {
        let waited = ctx.neighbours.patience().as_secs();
        let message = format!("the pods of other namespaces were read first: no turn within {waited} s");
        books.neighbours_unread = Some(Unreadable { reason: Reason::ClusterUnreadable, message });
        return books;
    };
    let read = PODS.each_page(&ctx.client, &namespace, PODS_A_PAGE, READING, |pods| neighbours.add(pods, now)).await;
    // Of a namespace with more pods than that, what was seen is enough to count.
    if let Err(error) =
        read.or_else(|error| if matches!(error, ReadError::TooMany { .. }) { Ok(()) } else { Err(error) })
    {
        let (reason, message) = (Reason::ClusterUnreadable, error.to_string());
        books.neighbours_unread = Some(Unreadable { reason, message });
        return books;
    }
    let budgets = &ctx.settings.budgets;
    let window = SignedDuration::from_secs(budgets.storm_window_seconds.into());
    let written = storm::written(&books.ledger, &namespace, budgets, now);
    books.storm = neighbours.storm(target, &written, window);
    books.workloads_of_namespace = neighbours.count();
    books
}

/// Reads what a write can reach; `None` where nobody will ask. That it could not be read is noted, and no error: it has to
/// end in a decision.
pub(super) async fn reach(ctx: &Context, incident: &Incident, asked: bool) -> Option<Result<Reach, Unreadable>> {
    if !asked {
        return None;
    }
    let namespace = incident.namespace().unwrap_or_default();
    let (mut services, mut slices, mut budgets) = (Reach::default(), Reach::default(), Reach::default());
    let page = |resource: ResourceType| (resource, REACH_A_PAGE);
    let read = tokio::try_join!(
        each(ctx, &namespace, page(SERVICES), |items| services.add_services(items)),
        each(ctx, &namespace, page(ENDPOINT_SLICES), |items| slices.add_endpoints(items)),
        each(ctx, &namespace, page(DISRUPTION_BUDGETS), |items| budgets.add_budgets(items)),
    );
    let unreadable = |message| Err(Unreadable { reason: Reason::ClusterUnreadable, message });
    Some(match (read, ctx.workloads.count()) {
        (Err(error), _) => unreadable(error.to_string()),
        (Ok(_), None) => unreadable("the workloads of the enrolled namespaces have not been listed yet".into()),
        (Ok(_), Some(count)) => {
            let mut reach = services.and(slices).and(budgets);
            reach.workloads_of_cluster = count;
            Ok(reach)
        }
    })
}

/// Shows all objects of a kind in a namespace to `look`, so many at a time.
async fn each(
    ctx: &Context,
    namespace: &str,
    (resource, size): (ResourceType, u32),
    look: impl FnMut(&[serde_json::Value]),
) -> Result<(), ReadError> {
    resource.each_page(&ctx.client, namespace, size, READING, look).await
}
