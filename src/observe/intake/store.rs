//! Where alerts are made durable: `Alert` objects in the API server.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Mutex,
    time::Duration,
};

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{lock, room::Room};
use crate::{
    api::v1alpha1::{Alert, AlertSpec, AlertState, Time},
    clock,
    core::{
        intake::{BELONGS_TO, Place},
        names, retention,
    },
};

/// What creating an Alert came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// It is new.
    New,
    /// One of its name was there.
    Exists,
}

/// What an Alert that is there is changed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It has ended.
    End {
        /// When, by the sender.
        ends_at: Time,
        /// When the intake was told.
        received_at: Time,
    },
    /// It fires again.
    FireAgain {
        /// When the intake was told.
        received_at: Time,
    },
}

/// Why an alert is not durable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The namespace does not exist or is being deleted.
    #[error("the namespace does not exist or is ending")]
    NamespaceGone,
    /// The namespace does not take it: a policy, a webhook, a quota, a right, or what it says.
    #[error("the namespace does not take it: {0}")]
    Refused(String),
    /// The namespace has as many Alerts as the controller can keep.
    #[error("{0} has too many Alerts")]
    Full(String),
    /// It may work later.
    #[error("the API server did not accept it: {0}")]
    Unavailable(String),
}

/// Keeps alerts. When a method returns, what it did is durable.
pub trait AlertStore: Send + Sync + 'static {
    /// Whether the namespace exists. An answer may be some seconds old.
    fn namespace_exists<'a>(&'a self, namespace: &'a str) -> BoxFuture<'a, Result<bool, StoreError>>;

    /// Creates an Alert, unless there is one of its name.
    fn create<'a>(&'a self, place: &'a Place, spec: &'a AlertSpec) -> BoxFuture<'a, Result<Created, StoreError>>;

    /// Whether an Alert fires, or `None` when there is none.
    fn find<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, Result<Option<AlertState>, StoreError>>;

    /// Changes an Alert. `false` when there is none.
    fn change<'a>(&'a self, place: &'a Place, change: Change) -> BoxFuture<'a, Result<bool, StoreError>>;
}

/// How long the existence of a namespace is believed.
const NAMESPACE_FRESH: Duration = Duration::from_secs(10);
/// Namespaces whose existence is remembered.
const NAMESPACES: usize = 4096;

/// Alerts in the API server.
pub struct KubeAlerts {
    client: Client,
    namespaces: Mutex<HashMap<String, (bool, Instant)>>,
    room: Room,
}

impl KubeAlerts {
    /// Writes with `client`.
    pub fn new(client: Client) -> KubeAlerts {
        KubeAlerts { client, namespaces: Mutex::default(), room: Room::default() }
    }

    fn api(&self, namespace: &str) -> Api<Alert> {
        Api::namespaced(self.client.clone(), namespace)
    }

    fn remembered(&self, namespace: &str) -> Option<bool> {
        let known = lock(&self.namespaces);
        known.get(namespace).filter(|(_, at)| at.elapsed() < NAMESPACE_FRESH).map(|(exists, _)| *exists)
    }

    fn remember(&self, namespace: &str, exists: bool) {
        let mut known = lock(&self.namespaces);
        if known.len() >= NAMESPACES {
            // Senders choose these names: better to ask again than to grow.
            known.clear();
        }
        known.insert(namespace.into(), (exists, Instant::now()));
    }

    /// Marks an Alert as repeated, at most once an hour: one that is not repeated for long counts as ended. Nothing
    /// depends on a single mark.
    async fn mark_seen(&self, place: &Place, alert: &Alert) {
        let now = clock::now();
        if !retention::wants_mark(alert, now) {
            return;
        }
        let params = PatchParams { field_manager: Some(names::CONTROLLER.into()), ..PatchParams::default() };
        let patch = Patch::Merge(json!({"metadata": {"annotations": {names::LAST_SEEN: now}}}));
        if let Err(error) = self.api(&place.namespace).patch_metadata(&place.name, &params, &patch).await {
            tracing::debug!(%error, name = place.name, "not marked as repeated");
        }
    }

    /// Sorts an answer, and forgets a namespace that turned out to be gone.
    fn failed(&self, error: kube::Error, namespace: &str) -> StoreError {
        let error = classify(&error);
        if error == StoreError::NamespaceGone {
            self.remember(namespace, false);
        }
        error
    }
}

/// What an answer to a write means.
fn classify(error: &kube::Error) -> StoreError {
    let kube::Error::Api(status) = error else { return StoreError::Unavailable(error.to_string()) };
    let about_namespace = status.details.as_ref().is_some_and(|details| {
        details.kind == "namespaces" || details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating")
    });
    match status.code {
        404 | 403 if about_namespace => StoreError::NamespaceGone,
        // What it says, a quota or a right, or a webhook or policy that refuses it or does not answer: all of these may
        // be of this one namespace.
        400 | 403 | 413 | 422 => StoreError::Refused(status.message.clone()),
        500 if status.reason == "InternalError" => StoreError::Refused(status.message.clone()),
        _ => StoreError::Unavailable(format!("{} {}", status.code, status.message)),
    }
}

fn is_code(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}

impl AlertStore for KubeAlerts {
    fn namespace_exists<'a>(&'a self, namespace: &'a str) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            if let Some(exists) = self.remembered(namespace) {
                return Ok(exists);
            }
            let api: Api<Namespace> = Api::all(self.client.clone());
            let found = api.get_metadata_opt(namespace).await;
            let found = found.map_err(|error| StoreError::Unavailable(error.to_string()))?;
            // Nothing can be created in one that is on its way out.
            let exists = found.is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_none());
            self.remember(namespace, exists);
            Ok(exists)
        })
    }

    fn create<'a>(&'a self, place: &'a Place, spec: &'a AlertSpec) -> BoxFuture<'a, Result<Created, StoreError>> {
        Box::pin(async move {
            let room = self.room.take(&self.client, place).await;
            if !room.map_err(|error| StoreError::Unavailable(error.to_string()))? {
                // What is there already is no new one.
                return match self.find(place).await? {
                    Some(_) => Ok(Created::Exists),
                    None => Err(StoreError::Full(place.namespace.clone())),
                };
            }
            let params = PostParams { field_manager: Some(names::CONTROLLER.into()), ..PostParams::default() };
            let mut alert = Alert::new(&place.name, spec.clone());
            let label = |home: &String| BTreeMap::from([(BELONGS_TO.to_owned(), home.clone())]);
            alert.metadata.labels = place.belongs_to.as_ref().map(label);
            match self.api(&place.namespace).create(&params, &alert).await {
                Ok(_) => Ok(Created::New),
                Err(error) if is_code(&error, 409) => Ok(Created::Exists),
                Err(error) => Err(self.failed(error, &place.namespace)),
            }
        })
    }

    fn find<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, Result<Option<AlertState>, StoreError>> {
        Box::pin(async move {
            // Only whether it has ended is asked, and what people wrote into the rest of it must not hide that.
            let api: Api<DynamicObject> =
                Api::namespaced_with(self.client.clone(), &place.namespace, &ApiResource::erase::<Alert>(&()));
            let found = api.get_opt(&place.name).await.map_err(|error| self.failed(error, &place.namespace))?;
            let Some(alert) = found else { return Ok(None) };
            if !matches!(alert.data.pointer("/spec/endsAt"), None | Some(Value::Null)) {
                return Ok(Some(AlertState::Resolved));
            }
            if let Ok(alert) = alert.try_parse() {
                self.mark_seen(place, &alert).await;
            }
            Ok(Some(AlertState::Firing))
        })
    }

    fn change<'a>(&'a self, place: &'a Place, change: Change) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            let params = PatchParams { field_manager: Some(names::CONTROLLER.into()), ..PatchParams::default() };
            let spec = match change {
                Change::End { ends_at, received_at } => json!({"endsAt": ends_at, "endReceivedAt": received_at}),
                Change::FireAgain { received_at } => json!({"endsAt": null, "firesAgainAt": received_at}),
            };
            let api: Api<DynamicObject> =
                Api::namespaced_with(self.client.clone(), &place.namespace, &ApiResource::erase::<Alert>(&()));
            match api.patch(&place.name, &params, &Patch::Merge(json!({ "spec": spec }))).await {
                Ok(_) => Ok(true),
                Err(error) if is_code(&error, 404) => Ok(false),
                Err(error) => Err(self.failed(error, &place.namespace)),
            }
        })
    }
}

/// How long the state of an alert is believed without a look at it. Another replica of the controller may have written
/// its end in between, so this is less than any sender takes from one notification to the next.
const VERIFIED: Duration = Duration::from_secs(1);
/// Alerts that are remembered.
const REMEMBERED: usize = 10_000;

/// Alerts that this process wrote or looked at, so that the same alert sent many times costs few calls.
#[derive(Default)]
pub(super) struct Recent {
    known: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    states: HashMap<String, (AlertState, Instant)>,
    order: VecDeque<(String, Instant)>,
}

impl Recent {
    /// Whether the alert was in this state a moment ago.
    pub fn is(&self, name: &str, state: AlertState) -> bool {
        let known = lock(&self.known);
        known.states.get(name).is_some_and(|(known, at)| *known == state && at.elapsed() < VERIFIED)
    }

    /// Whether the alert was there once: a look at it is cheaper than to try to create it.
    pub fn knows(&self, name: &str) -> bool {
        lock(&self.known).states.contains_key(name)
    }

    /// Remembers that the alert is in this state.
    pub fn remember(&self, name: &str, state: AlertState) {
        let mut known = lock(&self.known);
        let now = Instant::now();
        known.states.insert(name.to_owned(), (state, now));
        known.order.push_back((name.to_owned(), now));
        while known.order.len() > REMEMBERED {
            // Unless it was remembered again since.
            if let Some((oldest, at)) = known.order.pop_front()
                && known.states.get(&oldest).is_some_and(|(_, latest)| *latest == at)
            {
                known.states.remove(&oldest);
            }
        }
    }

    /// Forgets an alert that is not there.
    pub fn forget(&self, name: &str) {
        lock(&self.known).states.remove(name);
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        lock(&self.known).states.len()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// An error as the API server words it.
    fn answer(code: u16, details: Value) -> StoreError {
        let reason = if code == 500 { "InternalError" } else { "" };
        let status = json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "details": details});
        classify(&kube::Error::Api(serde_json::from_value(status).unwrap()))
    }

    #[test]
    fn answers_of_the_api_server_are_sorted_by_whether_another_namespace_or_time_can_help() {
        assert_eq!(answer(404, json!({"name": "x", "kind": "namespaces"})), StoreError::NamespaceGone);
        let cause = json!({"reason": "NamespaceTerminating", "message": "x is being terminated"});
        let ending = json!({"name": "x", "kind": "alerts", "causes": [cause]});
        assert_eq!(answer(403, ending), StoreError::NamespaceGone);
        // A webhook's denial without a code, a quota or a right, a size, a policy's denial, a webhook that is down.
        for code in [400, 403, 413, 422, 500] {
            assert!(matches!(answer(code, Value::Null), StoreError::Refused(_)), "{code}");
        }
        // A token that is not accepted, a missing CRD, an overload: the same everywhere.
        for code in [401, 404, 429, 503, 504] {
            assert!(matches!(answer(code, Value::Null), StoreError::Unavailable(_)), "{code}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded_in_time_and_number() {
        let recent = Recent::default();
        recent.remember("a", AlertState::Firing);
        assert!(recent.is("a", AlertState::Firing) && !recent.is("a", AlertState::Resolved));
        recent.remember("a", AlertState::Resolved);
        assert!(!recent.is("a", AlertState::Firing) && recent.is("a", AlertState::Resolved));
        tokio::time::advance(VERIFIED).await;
        assert!(!recent.is("a", AlertState::Resolved) && recent.knows("a"));
        recent.forget("a");
        assert!(!recent.knows("a"));
        for number in 0..REMEMBERED + 50 {
            recent.remember(&format!("n{number}"), AlertState::Firing);
        }
        assert!(recent.len() <= REMEMBERED);
        assert!(!recent.knows("n49") && recent.knows("n50"));
    }
}
