//! Edges out: sends what `core::execution` decided, and reads what it decides from.
//!
//! Every call has a deadline and ends in a typed [`Outcome`]; nothing is retried here. Objects travel as untyped
//! JSON, because typed structs drop fields that they do not know.

mod read;

use std::time::Duration;

use kube::{
    Client,
    api::{ListParams, Patch, PatchParams},
    core::Request as Call,
};
use serde_json::Value;

pub use read::{observe, surroundings, workloads};

use crate::core::{
    execution::{Outcome, Request, Resource, classify},
    names,
};

/// Longest time that one call may take.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// Sends one write of the hands and says what became of it.
pub async fn send(client: &Client, request: &Request) -> Outcome {
    let patch = match serde_json::from_value::<json_patch::Patch>(request.patch.clone()) {
        Ok(patch) => Patch::Json::<()>(patch),
        Err(error) => return Outcome::Refused { policy: None, message: format!("not a JSON patch: {error}") },
    };
    let params = PatchParams {
        dry_run: request.dry_run,
        field_manager: Some(names::EXECUTOR.to_owned()),
        ..PatchParams::default()
    };
    let (plural, subresource) = match request.resource {
        Resource::Deployment => (DEPLOYMENTS, None),
        Resource::ReplicaSet => (REPLICA_SETS, None),
        Resource::RemediationStatus => (REMEDIATIONS, Some("status")),
    };
    let call = Call::new(path(plural, &request.namespace));
    let built = match subresource {
        Some(subresource) => call.patch_subresource(subresource, &request.name, &params, &patch),
        None => call.patch(&request.name, &params, &patch),
    };
    match built {
        Ok(http) => call_within_deadline(client, http).await,
        Err(error) => Outcome::Refused { policy: None, message: format!("not a request: {error}") },
    }
}

type Group = (&'static str, &'static str);
const DEPLOYMENTS: Group = ("/apis/apps/v1", "deployments");
const REPLICA_SETS: Group = ("/apis/apps/v1", "replicasets");
const REMEDIATIONS: Group = ("/apis/backstop.dev/v1alpha1", "remediations");
const GRANTS: Group = ("/apis/backstop.dev/v1alpha1", "grants");

fn path((group, plural): Group, namespace: &str) -> String {
    format!("{group}/namespaces/{namespace}/{plural}")
}

async fn call_within_deadline(client: &Client, http: http::Request<Vec<u8>>) -> Outcome {
    match tokio::time::timeout(DEADLINE, client.request::<Value>(http)).await {
        Ok(Ok(object)) => Outcome::Done(object),
        Ok(Err(kube::Error::Api(status))) => classify(status.code, &status.reason, &status.message),
        Ok(Err(error)) => Outcome::Unknown(error.to_string()),
        Err(_) => Outcome::Unknown(format!("no answer within {} s", DEADLINE.as_secs())),
    }
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
    answer(client, group, namespace, built).await
}

async fn list(client: &Client, group: Group, namespace: &str, params: ListParams) -> Result<Vec<Value>, ReadError> {
    let built = Call::new(path(group, namespace)).list(&params);
    let list = answer(client, group, namespace, built).await?;
    Ok(match list {
        Some(Value::Object(mut list)) => match list.remove("items") {
            Some(Value::Array(items)) => items,
            _ => Vec::new(),
        },
        _ => Vec::new(),
    })
}

async fn answer(
    client: &Client,
    (_, what): Group,
    namespace: &str,
    built: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
) -> Result<Option<Value>, ReadError> {
    let failed = |message: String| ReadError { what, namespace: namespace.to_owned(), message, forbidden: false };
    match call_within_deadline(client, built.map_err(|error| failed(error.to_string()))?).await {
        Outcome::Done(object) => Ok(Some(object)),
        Outcome::NotFound => Ok(None),
        Outcome::Conflict => Err(failed("the API server answered 409 to a read".into())),
        Outcome::Refused { message, .. } => Err(ReadError { forbidden: true, ..failed(message) }),
        Outcome::Unknown(message) => Err(failed(message)),
    }
}
