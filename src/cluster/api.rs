//! Reads from the API server as raw JSON, each within a deadline, always as quorum reads: no `resourceVersion` is
//! sent, so no cache of the API server may answer with the past.

use std::time::Duration;

use kube::{Client, api::GetParams, api::ListParams, core::Request};
use serde_json::Value;

use super::room::{self, Room, Unfit};
use crate::{
    api::v1alpha1::{ObjectRef, ReferenceKind},
    core::{kube_name, workload::Kind},
};

/// Items of one page of a list.
const PAGE: u32 = 250;
/// Pages that are read at most.
const MAX_PAGES: usize = 20;

/// Why a read gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// There is no such object.
    #[error("{object} does not exist; check namespace and name, it may have been deleted or recreated")]
    NotFound {
        /// What was asked for.
        object: String,
    },
    /// The service account may not read it.
    #[error(
        "not allowed to read {object}: {message}; grant get and list on it to the ServiceAccount, or reinstall the chart"
    )]
    Forbidden {
        /// What was asked for.
        object: String,
        /// What the API server said.
        message: String,
    },
    /// No answer came in time.
    #[error("no answer about {object} within {milliseconds} ms; check the load of the API server")]
    Timeout {
        /// What was asked for.
        object: String,
        /// How long was waited for it.
        milliseconds: u128,
    },
    /// The API server answered with an error, or could not be reached.
    #[error("cannot read {object}: {message}; it is read again later")]
    Unavailable {
        /// What was asked for.
        object: String,
        /// What the API server or the connection said.
        message: String,
    },
    /// It is of a kind that records no revisions.
    #[error(
        "{object} is not a Deployment, StatefulSet or DaemonSet of Kubernetes: no other kind records revisions that \
         could be compared{}",
        owner.as_ref().map(|owner| format!("; {owner} owns it")).unwrap_or_default()
    )]
    Unsupported {
        /// What was asked for.
        object: String,
        /// The controller above it, as far as it can be read.
        owner: Option<String>,
    },
    /// What was asked for cannot be the name of an object.
    #[error("{object:?} is not a valid name of an object; expected a DNS subdomain of lower-case letters and digits")]
    InvalidName {
        /// What was asked for.
        object: String,
    },
    /// A list is longer than is read.
    #[error("{object} are more than {limit}; narrow the selector")]
    TooMany {
        /// What was asked for.
        object: String,
        /// How many are read.
        limit: usize,
    },
    /// It would take more memory than a reading may: everybody's memory is at stake, not only the namespace's.
    #[error(
        "{object} cannot be read: they take more than {bytes} bytes in memory; make the objects smaller, or fewer by the \
         selector"
    )]
    TooLarge {
        /// What was asked for.
        object: String,
        /// What it may take.
        bytes: usize,
    },
}

impl ReadError {
    /// A constant for metrics and for facts.
    pub fn reason(&self) -> &'static str {
        match self {
            ReadError::NotFound { .. } => "NotFound",
            ReadError::Forbidden { .. } => "Forbidden",
            ReadError::Timeout { .. } => "Timeout",
            ReadError::Unavailable { .. } => "Unavailable",
            ReadError::Unsupported { .. } => "Unsupported",
            ReadError::InvalidName { .. } => "InvalidName",
            ReadError::TooMany { .. } => "TooMany",
            ReadError::TooLarge { .. } => "TooLarge",
        }
    }

    /// The object is not there, which is an answer and no fault.
    pub fn is_not_found(&self) -> bool {
        matches!(self, ReadError::NotFound { .. })
    }

    fn unfit(object: String, unfit: &Unfit) -> ReadError {
        match unfit {
            Unfit::TooLarge { limit } => ReadError::TooLarge { object, bytes: *limit },
            Unfit::NoJson(error) => ReadError::Unavailable { object, message: error.to_string() },
        }
    }

    fn of(object: String, error: &kube::Error) -> ReadError {
        match error {
            kube::Error::Api(status) if status.code == 404 => ReadError::NotFound { object },
            kube::Error::Api(status) if matches!(status.code, 401 | 403) => {
                ReadError::Forbidden { object, message: status.message.clone() }
            }
            other => ReadError::Unavailable { object, message: other.to_string() },
        }
    }

    /// A list is there, if empty: an API server that answers 404 does not serve the kind now, and says nothing of what
    /// exists.
    fn of_list(object: String, error: &kube::Error) -> ReadError {
        match ReadError::of(object, error) {
            ReadError::NotFound { object } => {
                ReadError::Unavailable { object, message: "the API server does not serve such a list (404)".into() }
            }
            other => other,
        }
    }
}

/// A resource of the API: where its objects are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResourceType {
    /// API version, such as `apps/v1`.
    pub api_version: &'static str,
    /// Kind.
    pub kind: &'static str,
    /// Plural, as in the path.
    pub plural: &'static str,
    /// Objects are in namespaces.
    pub namespaced: bool,
}

/// ConfigMaps.
pub const CONFIG_MAPS: ResourceType = namespaced("v1", "ConfigMap", "configmaps");
/// Services.
pub const SERVICES: ResourceType = namespaced("v1", "Service", "services");
/// EndpointSlices: which pods serve for a Service.
pub const ENDPOINT_SLICES: ResourceType = namespaced("discovery.k8s.io/v1", "EndpointSlice", "endpointslices");
/// PodDisruptionBudgets.
pub const DISRUPTION_BUDGETS: ResourceType = namespaced("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets");
/// Recorded revisions of StatefulSets and DaemonSets.
pub const CONTROLLER_REVISIONS: ResourceType = namespaced("apps/v1", "ControllerRevision", "controllerrevisions");
/// DaemonSets.
pub const DAEMON_SETS: ResourceType = namespaced("apps/v1", "DaemonSet", "daemonsets");
/// Deployments.
pub const DEPLOYMENTS: ResourceType = namespaced("apps/v1", "Deployment", "deployments");
/// Events, in their newer API group.
pub const EVENTS: ResourceType = namespaced("events.k8s.io/v1", "Event", "events");
/// Pods.
pub const PODS: ResourceType = namespaced("v1", "Pod", "pods");
/// ReplicaSets: recorded revisions of Deployments.
pub const REPLICA_SETS: ResourceType = namespaced("apps/v1", "ReplicaSet", "replicasets");
/// StatefulSets.
pub const STATEFUL_SETS: ResourceType = namespaced("apps/v1", "StatefulSet", "statefulsets");

/// ServiceAccounts.
pub const SERVICE_ACCOUNTS: ResourceType = namespaced("v1", "ServiceAccount", "serviceaccounts");
/// PersistentVolumeClaims.
pub const CLAIMS: ResourceType = namespaced("v1", "PersistentVolumeClaim", "persistentvolumeclaims");

/// Kinds that Kubernetes itself has and that an alert may name.
const BUILT_IN: &[ResourceType] = &[
    PODS,
    REPLICA_SETS,
    DEPLOYMENTS,
    STATEFUL_SETS,
    DAEMON_SETS,
    namespaced("batch/v1", "Job", "jobs"),
    namespaced("batch/v1", "CronJob", "cronjobs"),
    namespaced("v1", "ReplicationController", "replicationcontrollers"),
    namespaced("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
    DISRUPTION_BUDGETS,
    CLAIMS,
    namespaced("v1", "ResourceQuota", "resourcequotas"),
    ResourceType { api_version: "v1", kind: "Node", plural: "nodes", namespaced: false },
    ResourceType { api_version: "v1", kind: "Namespace", plural: "namespaces", namespaced: false },
];

const fn namespaced(api_version: &'static str, kind: &'static str, plural: &'static str) -> ResourceType {
    ResourceType { api_version, kind, plural, namespaced: true }
}

/// Where workloads of this kind are found.
pub fn workloads(kind: Kind) -> ResourceType {
    match kind {
        Kind::Deployment => DEPLOYMENTS,
        Kind::StatefulSet => STATEFUL_SETS,
        Kind::DaemonSet => DAEMON_SETS,
    }
}

/// Where the revisions of workloads of this kind are found.
pub fn revisions(kind: Kind) -> ResourceType {
    match kind {
        Kind::Deployment => REPLICA_SETS,
        Kind::StatefulSet | Kind::DaemonSet => CONTROLLER_REVISIONS,
    }
}

/// Where an object that a pod template names is found; `None` for kinds that nobody of ours looks up.
pub fn referenced(kind: ReferenceKind) -> Option<ResourceType> {
    match kind {
        ReferenceKind::ConfigMap => Some(CONFIG_MAPS),
        ReferenceKind::PersistentVolumeClaim => Some(CLAIMS),
        ReferenceKind::ServiceAccount => Some(SERVICE_ACCOUNTS),
        ReferenceKind::Secret | ReferenceKind::PriorityClass | ReferenceKind::RuntimeClass => None,
    }
}

/// The built-in resource of this kind.
pub fn built_in(kind: &str) -> Option<ResourceType> {
    BUILT_IN.iter().find(|resource| resource.kind == kind).copied()
}

/// Whether a reference names a built-in kind of any version of its API group.
pub fn is_built_in(object: &ObjectRef) -> bool {
    let group = |api_version: &str| api_version.split_once('/').map_or("", |(group, _)| group).to_owned();
    built_in(&object.kind).is_some_and(|resource| group(resource.api_version) == group(&object.api_version))
}

impl ResourceType {
    /// Path of the collection.
    fn path(&self, namespace: &str) -> Result<String, ReadError> {
        let root = if self.api_version.contains('/') { "apis" } else { "api" };
        if !self.namespaced {
            return Ok(format!("/{root}/{}/{}", self.api_version, self.plural));
        }
        if !kube_name::is_subdomain(namespace) {
            return Err(ReadError::InvalidName { object: bounded(namespace) });
        }
        Ok(format!("/{root}/{}/namespaces/{namespace}/{}", self.api_version, self.plural))
    }

    /// A request on the collection.
    pub fn request(&self, namespace: &str) -> Result<Request, ReadError> {
        Ok(Request::new(self.path(namespace)?))
    }

    /// Reads one object.
    pub async fn get(
        &self,
        client: &Client,
        namespace: &str,
        name: &str,
        deadline: Duration,
    ) -> Result<Value, ReadError> {
        self.get_in(&Room::new(room::SMALL, room::OBJECT), client, namespace, name, deadline).await
    }

    /// The same as a part of a reading.
    pub(super) async fn get_in(
        &self,
        room: &Room,
        client: &Client,
        namespace: &str,
        name: &str,
        deadline: Duration,
    ) -> Result<Value, ReadError> {
        self.get_as(room, client, (namespace, name), deadline, false).await
    }

    /// Reads the metadata of one object, managed fields included.
    pub async fn get_metadata(
        &self,
        client: &Client,
        namespace: &str,
        name: &str,
        deadline: Duration,
    ) -> Result<Value, ReadError> {
        let room = Room::new(room::SMALL, room::OBJECT);
        self.get_as(&room, client, (namespace, name), deadline, true).await
    }

    async fn get_as(
        &self,
        room: &Room,
        client: &Client,
        (namespace, name): (&str, &str),
        deadline: Duration,
        metadata: bool,
    ) -> Result<Value, ReadError> {
        if !kube_name::is_subdomain(name) {
            return Err(ReadError::InvalidName { object: bounded(name) });
        }
        let request = self.request(namespace)?;
        let object = format!("{} {namespace}/{name}", self.kind);
        let params = GetParams::default();
        let request = if metadata { request.get_metadata(name, &params) } else { request.get(name, &params) };
        let request = request.map_err(|e| ReadError::Unavailable { object: object.clone(), message: e.to_string() })?;
        let read = async {
            let text = client.request_text(request).await.map_err(|error| ReadError::of(object.clone(), &error))?;
            let value = room.decode(&text, room::OBJECT, true).await;
            value.map_err(|unfit| ReadError::unfit(object.clone(), &unfit))
        };
        let timeout = ReadError::Timeout { object: object.clone(), milliseconds: deadline.as_millis() };
        tokio::time::timeout(deadline, read).await.unwrap_or(Err(timeout))
    }

    /// Reads all objects that the selectors choose, page by page.
    pub async fn list(
        &self,
        client: &Client,
        namespace: &str,
        params: ListParams,
        deadline: Duration,
    ) -> Result<Vec<Value>, ReadError> {
        self.list_in(&Room::new(room::SMALL, room::READING), client, namespace, params, deadline).await
    }

    /// The same as a part of a reading.
    pub(super) async fn list_in(
        &self,
        room: &Room,
        client: &Client,
        namespace: &str,
        params: ListParams,
        deadline: Duration,
    ) -> Result<Vec<Value>, ReadError> {
        let mut items = Vec::new();
        let add = |page: &mut Vec<Value>| items.append(page);
        self.pages(Some(room), client, namespace, (params.limit(PAGE), deadline), add).await?;
        Ok(items)
    }

    /// Shows all objects of a namespace to `look`, so many at a time: they need not fit into memory together.
    pub async fn each_page(
        &self,
        client: &Client,
        namespace: &str,
        size: u32,
        deadline: Duration,
        mut look: impl FnMut(&[Value]),
    ) -> Result<(), ReadError> {
        let params = ListParams::default().limit(size);
        self.pages(None, client, namespace, (params, deadline), |page| look(page)).await
    }

    /// Whether somebody asks who manages which field of the items of a list: of what there is most of, nobody does.
    fn asks_owners(&self) -> bool {
        !matches!(self.kind, "Pod" | "Event")
    }

    /// Bytes in memory of a page that waits for no turn.
    fn free_page(&self) -> usize {
        if self.kind == "Pod" { room::PAGE } else { room::SMALL }
    }

    /// Without room for all of them each page has its own, and is dropped before the next one is read.
    async fn pages(
        &self,
        whole: Option<&Room>,
        client: &Client,
        namespace: &str,
        (mut params, deadline): (ListParams, Duration),
        mut look: impl FnMut(&mut Vec<Value>),
    ) -> Result<(), ReadError> {
        let object = format!("{} of namespace {namespace}", self.plural);
        let most = MAX_PAGES * PAGE as usize;
        let all = async {
            let mut seen = 0;
            while seen < most {
                let request = self.request(namespace)?;
                let request = request
                    .list(&params)
                    .map_err(|e| ReadError::Unavailable { object: object.clone(), message: e.to_string() })?;
                let answer = client.request_text(request).await;
                let text = answer.map_err(|error| ReadError::of_list(object.clone(), &error))?;
                let own = Room::new(self.free_page(), room::READING);
                let page = whole.unwrap_or(&own).decode(&text, room::READING, self.asks_owners()).await;
                let mut page = page.map_err(|unfit| ReadError::unfit(object.clone(), &unfit))?;
                drop(text);
                if let Some(Value::Array(mut items)) = page.get_mut("items").map(Value::take) {
                    seen += items.len();
                    look(&mut items);
                }
                match page.pointer("/metadata/continue").and_then(Value::as_str) {
                    Some(token) if !token.is_empty() => params = params.continue_token(token),
                    _ => return Ok(()),
                }
            }
            Err(ReadError::TooMany { object: object.clone(), limit: most })
        };
        tokio::time::timeout(deadline, all)
            .await
            .unwrap_or(Err(ReadError::Timeout { object: object.clone(), milliseconds: deadline.as_millis() }))
    }
}

/// Waits for one answer about `object` at most until the deadline.
pub async fn within<T>(
    deadline: Duration,
    object: String,
    answer: impl Future<Output = kube::Result<T>>,
) -> Result<T, ReadError> {
    match tokio::time::timeout(deadline, answer).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(ReadError::of(object, &error)),
        Err(_) => Err(ReadError::Timeout { object, milliseconds: deadline.as_millis() }),
    }
}

fn bounded(text: &str) -> String {
    crate::core::redact::clip(&crate::core::redact::clean(text), 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_of_another_group_is_not_built_in() {
        let object = |api_version: &str, kind: &str| ObjectRef {
            api_version: api_version.into(),
            kind: kind.into(),
            ..ObjectRef::default()
        };
        assert!(is_built_in(&object("apps/v1", "Deployment")));
        assert!(is_built_in(&object("v1", "Node")));
        assert!(!is_built_in(&object("argoproj.io/v1alpha1", "Rollout")));
        assert!(!is_built_in(&object("example.com/v1", "Deployment")));
    }

    #[test]
    fn workloads_and_revisions_are_found_where_their_kinds_say() {
        for kind in Kind::ALL {
            assert_eq!((workloads(kind).kind, workloads(kind).api_version), (kind.as_str(), Kind::API_VERSION));
            assert_eq!((revisions(kind).kind, revisions(kind).api_version), (kind.revision_kind(), Kind::API_VERSION));
        }
    }

    #[test]
    fn errors_name_the_object_and_the_next_step() {
        let status = kube::core::Status::failure("pods is forbidden", "Forbidden").with_code(403).boxed();
        let error = ReadError::of("Pod shop/a".into(), &kube::Error::Api(status));
        assert_eq!(error.reason(), "Forbidden");
        assert!(error.to_string().contains("Pod shop/a") && error.to_string().contains("grant get and list"));
    }
}
