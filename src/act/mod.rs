//! Edges out: sends what `core::execution` decided, and reads what it decides from.
//!
//! Every call has a deadline and ends in a typed [`Response`]; nothing is retried here. Objects travel as untyped
//! JSON, because typed structs drop fields that they do not know.

mod read;

use std::time::Duration;

use kube::{
    Client,
    api::{ListParams, Patch, PatchParams, PostParams},
    core::Request as Call,
};
use serde_json::Value;

pub use read::{Reader, a_workload, exists, surroundings};

use crate::cluster::room::{self, Room};
use crate::core::{
    execution::{Request, Resource, Response, classify},
    names,
    workload::Kind,
};

/// Longest time that one call may take.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// Objects of one page of a list.
const PAGE: u32 = 250;
/// Bytes in memory of a list, and of an object that our own roles write: a Remediation has two pod templates.
const LIST: usize = 24 << 20;

/// Sends one write of the executor and says what became of it.
pub async fn send(client: &Client, request: &Request) -> Response {
    match build(request) {
        Ok(http) => call_within_deadline(client, http).await,
        Err(message) => Response::Refused { policy: None, message: format!("not a request: {message}") },
    }
}

fn build(request: &Request) -> Result<http::Request<Vec<u8>>, String> {
    let Request { verb: _, resource, namespace, name, dry_run, body } = request;
    let (dry_run, field_manager) = (*dry_run, Some(names::EXECUTOR.to_owned()));
    let (group, subresource) = match resource {
        Resource::PodEviction => {
            let params = PostParams { dry_run, field_manager };
            let data = serde_json::to_vec(body).map_err(|error| error.to_string())?;
            let call = Call::new(path(PODS, namespace));
            return call.create_subresource("eviction", name, &params, data).map_err(|error| error.to_string());
        }
        Resource::Target(kind) => (targets(*kind), None),
        Resource::Revision(kind) => (revisions(*kind), None),
        Resource::RemediationStatus => (REMEDIATIONS, Some("status")),
    };
    let patch = serde_json::from_value::<json_patch::Patch>(body.clone()).map_err(|error| error.to_string())?;
    let patch = Patch::Json::<()>(patch);
    let params = PatchParams { dry_run, field_manager, ..PatchParams::default() };
    let call = Call::new(path(group, namespace));
    match subresource {
        Some(subresource) => call.patch_subresource(subresource, name, &params, &patch),
        None => call.patch(name, &params, &patch),
    }
    .map_err(|error| error.to_string())
}

type Group = (&'static str, &'static str);
const APPS: &str = "/apis/apps/v1";
const OURS: &str = "/apis/backstop.dev/v1alpha1";
const PODS: Group = ("/api/v1", "pods");
const REMEDIATIONS: Group = (OURS, "remediations");
const GRANTS: Group = (OURS, "grants");
const LEDGERS: Group = (OURS, "ledgers");

fn targets(kind: Kind) -> Group {
    match kind {
        Kind::Deployment => (APPS, "deployments"),
        Kind::StatefulSet => (APPS, "statefulsets"),
        Kind::DaemonSet => (APPS, "daemonsets"),
    }
}

fn revisions(kind: Kind) -> Group {
    match kind {
        Kind::Deployment => (APPS, "replicasets"),
        Kind::StatefulSet | Kind::DaemonSet => (APPS, "controllerrevisions"),
    }
}

fn path((group, plural): Group, namespace: &str) -> String {
    format!("{group}/namespaces/{namespace}/{plural}")
}

async fn call_within_deadline(client: &Client, http: http::Request<Vec<u8>>) -> Response {
    // The answer to a write is what was written, with what it says of itself.
    read_within_deadline(client, http, &Room::new(room::SMALL, LIST), LIST).await
}

/// Decodes the answer within `most` bytes of the room.
async fn read_within_deadline(client: &Client, http: http::Request<Vec<u8>>, room: &Room, most: usize) -> Response {
    let answer = async {
        match client.request_text(http).await {
            Ok(text) => match room.decode(&text, most, true).await {
                Ok(object) => Response::Done(object),
                Err(unfit) => Response::Unknown(format!("the answer cannot be read: it {unfit}")),
            },
            Err(kube::Error::Api(status)) => classify(status.code, &status.reason, &status.message),
            Err(error) => Response::Unknown(error.to_string()),
        }
    };
    let late = || Response::Unknown(format!("no answer within {} s", DEADLINE.as_secs()));
    tokio::time::timeout(DEADLINE, answer).await.unwrap_or_else(|_| late())
}

/// Why a reading is not there. No data never means that there is nothing.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {what} in namespace {namespace}: {message}")]
pub struct ReadError {
    what: &'static str,
    namespace: String,
    message: String,
    /// The account has no rights there, or the namespace is gone.
    pub forbidden: bool,
}

/// A quorum read: without a resourceVersion the API server must not answer from an old cache.
async fn get(client: &Client, group: Group, namespace: &str, name: &str) -> Result<Option<Value>, ReadError> {
    let built = Call::new(path(group, namespace)).get(name, &Default::default());
    let most = if group.0 == OURS { LIST } else { room::OBJECT };
    answer(client, group, namespace, built, (&Room::new(room::SMALL, most), most)).await
}

/// The same for an object that is in no namespace.
async fn cluster_scoped(client: &Client, plural: &'static str, name: &str) -> Result<Option<Value>, ReadError> {
    let built = Call::new(format!("/api/v1/{plural}")).get(name, &Default::default());
    let room = Room::new(room::SMALL, room::OBJECT);
    answer(client, ("/api/v1", plural), name, built, (&room, room::OBJECT)).await
}

async fn list(client: &Client, group: Group, namespace: &str, params: ListParams) -> Result<Vec<Value>, ReadError> {
    let (room, mut params, mut all) = (Room::new(room::SMALL, LIST), params.limit(PAGE), vec![]);
    loop {
        let (items, next) = page(client, group, namespace, &params, (&room, LIST)).await?;
        all.extend(items);
        match next {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(all),
        }
    }
}

/// One page of a list, and where the next one begins.
async fn page(
    client: &Client,
    group: Group,
    namespace: &str,
    params: &ListParams,
    room: (&Room, usize),
) -> Result<(Vec<Value>, Option<String>), ReadError> {
    let built = Call::new(path(group, namespace)).list(params);
    let failed = |message: &str| ReadError {
        what: group.1,
        namespace: namespace.to_owned(),
        message: message.into(),
        forbidden: false,
    };
    // A list of nothing is an empty one: without a list nothing is known, for example because a definition is gone.
    let Some(mut page) = answer(client, group, namespace, built, room).await? else {
        return Err(failed("the API server answered 404 to a list"));
    };
    let Some(Value::Array(items)) = page.get_mut("items").map(Value::take) else {
        return Err(failed("the answer is not a list with items"));
    };
    let next = page.pointer("/metadata/continue").and_then(Value::as_str).filter(|token| !token.is_empty());
    Ok((items, next.map(str::to_owned)))
}

/// One reading of a list that others write, within the deadline of a call.
async fn within_deadline<T>(
    what: &'static str,
    namespace: &str,
    reading: impl Future<Output = kube::Result<T>>,
) -> Result<T, ReadError> {
    let failed = |message: String| ReadError { what, namespace: namespace.to_owned(), message, forbidden: false };
    match tokio::time::timeout(DEADLINE, reading).await {
        Ok(Ok(read)) => Ok(read),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => {
            Err(failed("the API server answered 404 to a list".into()))
        }
        Ok(Err(kube::Error::Api(status))) => {
            let refused = matches!(classify(status.code, &status.reason, &status.message), Response::Refused { .. });
            Err(ReadError { forbidden: refused, ..failed(status.message.clone()) })
        }
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed(format!("no answer within {} s", DEADLINE.as_secs()))),
    }
}

async fn answer(
    client: &Client,
    (_, what): Group,
    namespace: &str,
    built: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    (room, most): (&Room, usize),
) -> Result<Option<Value>, ReadError> {
    let failed = |message: String| ReadError { what, namespace: namespace.to_owned(), message, forbidden: false };
    let built = built.map_err(|error| failed(error.to_string()))?;
    match read_within_deadline(client, built, room, most).await {
        Response::Done(object) => Ok(Some(object)),
        Response::NotFound => Ok(None),
        Response::Conflict => Err(failed("the API server answered 409 to a read".into())),
        Response::Refused { message, .. } => Err(ReadError { forbidden: true, ..failed(message) }),
        Response::Unknown(message) | Response::BlockedByDisruptionBudget(message) => Err(failed(message)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::core::execution::Verb;

    fn request(resource: Resource, dry_run: bool) -> http::Request<Vec<u8>> {
        let body = if resource == Resource::PodEviction { json!({"kind": "Eviction"}) } else { json!([]) };
        let (namespace, name) = ("shop".to_owned(), "cart-0".to_owned());
        build(&Request { verb: Verb::Fire, resource, namespace, name, dry_run, body }).unwrap()
    }

    #[test]
    fn each_write_goes_to_its_own_path_as_the_field_manager_that_the_policies_look_for() {
        for (resource, method, path) in [
            (Resource::Target(Kind::Deployment), "PATCH", "/apis/apps/v1/namespaces/shop/deployments/cart-0"),
            (Resource::Target(Kind::StatefulSet), "PATCH", "/apis/apps/v1/namespaces/shop/statefulsets/cart-0"),
            (Resource::Target(Kind::DaemonSet), "PATCH", "/apis/apps/v1/namespaces/shop/daemonsets/cart-0"),
            (Resource::Revision(Kind::Deployment), "PATCH", "/apis/apps/v1/namespaces/shop/replicasets/cart-0"),
            (Resource::Revision(Kind::DaemonSet), "PATCH", "/apis/apps/v1/namespaces/shop/controllerrevisions/cart-0"),
            (
                Resource::RemediationStatus,
                "PATCH",
                "/apis/backstop.dev/v1alpha1/namespaces/shop/remediations/cart-0/status",
            ),
            (Resource::PodEviction, "POST", "/api/v1/namespaces/shop/pods/cart-0/eviction"),
        ] {
            for dry_run in [false, true] {
                let http = request(resource, dry_run);
                assert_eq!((http.method().as_str(), http.uri().path()), (method, path));
                let query = http.uri().query().unwrap_or_default();
                assert!(query.contains("fieldManager=backstop-executor"), "{query}");
                assert_eq!(query.contains("dryRun=All"), dry_run, "{query}");
            }
        }
    }
}
