//! What a step decides from, read in one go just before it.

use kube::{Client, api::ListParams};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{DEPLOYMENTS, GRANTS, REMEDIATIONS, REPLICA_SETS, ReadError, get, list};
use crate::{
    api::v1alpha1::{Grant, ObjectRef, Remediation},
    core::{
        execution::{Observation, Surroundings},
        kube_name, names,
    },
};

/// Reads everything about one Remediation, whose spec never changes and is therefore known. `None`: it does not
/// exist any more.
pub async fn observe(
    client: &Client,
    known: &Remediation,
    holder: &str,
    not_ready: String,
) -> Result<Option<Observation>, ReadError> {
    let namespace = known.metadata.namespace.as_deref().unwrap_or_default();
    let name = known.metadata.name.as_deref().unwrap_or_default();
    let no_revision = ObjectRef::default();
    let revision = known.spec.provenance.as_ref().unwrap_or(&no_revision);
    let (remediation, grant, target, revision, marked, armed) = futures::try_join!(
        get(client, REMEDIATIONS, namespace, name),
        get(client, GRANTS, namespace, names::GRANT),
        named(client, DEPLOYMENTS, namespace, &known.spec.target),
        named(client, REPLICA_SETS, namespace, revision),
        labelled(client, REPLICA_SETS, namespace, names::UNDO_TO),
        labelled(client, DEPLOYMENTS, namespace, names::ARMED),
    )?;
    let Some(remediation) = remediation else { return Ok(None) };
    let remediation: Remediation = typed(remediation, "remediations", namespace)?;
    // Deleted and made anew with the same name: the watch will tell.
    if remediation.metadata.uid != known.metadata.uid {
        return Ok(None);
    }
    let grant = grant.map(|grant| typed::<Grant>(grant, "grants", namespace)).transpose()?;
    let siblings = siblings(client, namespace, &armed, &marked).await?;
    let holder = holder.to_owned();
    Ok(Some(Observation { remediation, grant, target, revision, marked, armed, siblings, holder, not_ready }))
}

/// Reads everything that carries our labels in a namespace.
pub async fn surroundings(
    client: &Client,
    namespace: &str,
    open: Vec<(String, String)>,
) -> Result<Surroundings, ReadError> {
    let (marked, armed) = futures::try_join!(
        labelled(client, REPLICA_SETS, namespace, names::UNDO_TO),
        labelled(client, DEPLOYMENTS, namespace, names::ARMED),
    )?;
    let revisions = siblings(client, namespace, &armed, &marked).await?;
    Ok(Surroundings { armed, marked, revisions, open })
}

/// A few Deployments of the namespace, for the self-test.
pub async fn workloads(client: &Client, namespace: &str) -> Result<Vec<Value>, ReadError> {
    list(client, DEPLOYMENTS, namespace, ListParams::default().limit(8)).await
}

/// Needed only for the way out when the marked revision vanished under an armed object.
async fn siblings(
    client: &Client,
    namespace: &str,
    armed: &[Value],
    marked: &[Value],
) -> Result<Vec<Value>, ReadError> {
    if armed.is_empty() || !marked.is_empty() {
        return Ok(Vec::new());
    }
    list(client, REPLICA_SETS, namespace, ListParams::default()).await
}

async fn labelled(client: &Client, group: super::Group, namespace: &str, label: &str) -> Result<Vec<Value>, ReadError> {
    list(client, group, namespace, ListParams::default().labels(label)).await
}

/// Only a name that is one may become part of a path. The step refuses such a Remediation by itself.
async fn named(
    client: &Client,
    group: super::Group,
    namespace: &str,
    object: &ObjectRef,
) -> Result<Option<Value>, ReadError> {
    if object.namespace != namespace || !kube_name::is_subdomain(&object.name) {
        return Ok(None);
    }
    get(client, group, namespace, &object.name).await
}

fn typed<T: DeserializeOwned>(object: Value, what: &'static str, namespace: &str) -> Result<T, ReadError> {
    serde_json::from_value(object).map_err(|error| ReadError {
        what,
        namespace: namespace.to_owned(),
        message: format!("not what the installed definition says: {error}"),
        forbidden: false,
    })
}
