//! What is around the target: the other workloads of its namespace, and what a write can reach.

use jiff::SignedDuration;
use kube::ResourceExt as _;

use crate::api::v1alpha1::{Incident, Time};
use crate::cluster::{
    PODS, ReadError,
    api::{DISRUPTION_BUDGETS, ENDPOINT_SLICES, ResourceType, SERVICES, workloads},
};
use crate::core::{
    blast::Reach,
    budget::storm,
    gate::Unreadable,
    incident::Books,
    neighbours::{Lacking, Neighbours},
    reason::Reason,
    workload::{Kind, Workload},
};

use super::super::context::Context;
use super::target::READING;

/// Pods of a namespace that are read at a time.
const PODS_A_PAGE: u32 = 100;

/// Workloads of a kind that are read at a time: whoever makes one may make it a megabyte large.
const WORKLOADS_A_PAGE: u32 = 10;

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
    let mut lacking = [vec![], vec![], vec![]];
    let [deployments, stateful_sets, daemon_sets] = &mut lacking;
    let read = tokio::try_join!(
        counted(ctx, &namespace, (PODS, PODS_A_PAGE), |pods| neighbours.add(pods, now)),
        lacking_of(ctx, &namespace, Kind::Deployment, deployments),
        lacking_of(ctx, &namespace, Kind::StatefulSet, stateful_sets),
        lacking_of(ctx, &namespace, Kind::DaemonSet, daemon_sets),
    );
    if let Err(error) = read {
        let (reason, message) = (Reason::ClusterUnreadable, error.to_string());
        books.neighbours_unread = Some(Unreadable { reason, message });
        return books;
    }
    neighbours.add_lacking(lacking.into_iter().flatten().collect());
    let budgets = &ctx.settings.budgets;
    let window = SignedDuration::from_secs(budgets.storm_window_seconds.into());
    let written = storm::written(&books.ledger, &namespace, budgets, now);
    books.storm = neighbours.storm(target, &written, window);
    books.workloads_of_namespace = neighbours.count();
    books
}

/// Shows all objects of a kind in a namespace to `look`, so many at a time. Of a namespace with more than are read, what
/// was seen is enough to count.
async fn counted(
    ctx: &Context,
    namespace: &str,
    of: (ResourceType, u32),
    look: impl FnMut(&[serde_json::Value]),
) -> Result<(), ReadError> {
    match each(ctx, namespace, of, look).await {
        Err(ReadError::TooMany { .. }) => Ok(()),
        read => read,
    }
}

/// Adds the workloads of a kind whose pods are refused. Where nothing is enrolled the controller may not list them, and nothing
/// is written.
async fn lacking_of(ctx: &Context, namespace: &str, kind: Kind, found: &mut Vec<Lacking>) -> Result<(), ReadError> {
    let of = (workloads(kind), WORKLOADS_A_PAGE);
    let look = |page: &[serde_json::Value]| found.extend(page.iter().filter_map(|it| Lacking::of(kind, it)));
    match counted(ctx, namespace, of, look).await {
        Err(ReadError::Forbidden { .. }) if !ctx.enrolled.borrow().contains(namespace) => Ok(()),
        read => read,
    }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::super::super::tests::context;
    use super::*;
    use crate::{
        cluster::testing::{Reply, failure, list},
        core::gate::testing::{at, reading},
    };

    /// A Deployment whose pods have been refused for a minute.
    fn refused(name: &str) -> Value {
        json!({"metadata": {"name": name}, "spec": {"replicas": 2}, "status": {"updatedReplicas": 0, "conditions": [
            {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "lastTransitionTime": at(-60).to_string()},
        ]}})
    }

    /// What is found around Deployment `api` of namespace `shop`.
    async fn around(enrolled: bool, answer: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Books {
        let (ctx, _, _folder) = context(vec![], move |asked| answer(&asked.path));
        let namespaces: BTreeSet<String> = enrolled.then(|| "shop".to_owned()).into_iter().collect();
        let ctx = Context { enrolled: tokio::sync::watch::channel(namespaces).1, ..ctx };
        let incident = json!({"metadata": {"name": "api-1", "namespace": "shop"},
            "spec": {"alerts": [], "requestId": "r", "openedAt": "2026-11-21T10:00:00Z"}});
        let incident = serde_json::from_value(incident).unwrap();
        with_neighbours(&ctx, &incident, Books::default(), Some(&reading()), at(0)).await
    }

    #[tokio::test]
    async fn deployments_whose_pods_are_refused_are_read_beside_the_pods_of_the_namespace() {
        let books = around(true, |path| match path {
            "/apis/apps/v1/namespaces/shop/deployments" => list(&["api", "web", "db"].map(refused)),
            _ => list(&[]),
        })
        .await;
        assert_eq!(books.storm.unwrap().workloads, ["Deployment/api", "Deployment/db", "Deployment/web"]);
        assert_eq!((books.workloads_of_namespace, books.neighbours_unread), (0, None));
    }

    #[tokio::test]
    async fn workloads_that_cannot_be_read_are_unknown_where_something_may_be_written_and_left_out_elsewhere() {
        let forbidden = |path: &str| if path.contains("/apps/") { failure(403, "Forbidden") } else { list(&[]) };
        assert!(around(true, forbidden).await.neighbours_unread.is_some());
        assert_eq!(around(false, forbidden).await.neighbours_unread, None);
        let broken = |path: &str| if path.contains("/apps/") { failure(500, "InternalError") } else { list(&[]) };
        assert!(around(false, broken).await.neighbours_unread.is_some());
    }
}
