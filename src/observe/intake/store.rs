//! Where alerts are made durable: `Alert` objects in the API server.

use std::{
    collections::{HashMap, VecDeque},
    sync::Mutex,
    time::Duration,
};

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    api::v1alpha1::{Alert, AlertSpec, AlertState, Time},
    core::names,
};

/// What creating an Alert came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// It is new.
    New,
    /// It was there, and fires.
    Known,
    /// It was there, and counts as resolved.
    Ended,
}

/// Why an alert is not durable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The namespace does not exist or is being deleted.
    #[error("the namespace does not exist or is ending")]
    NamespaceGone,
    /// The API server will never accept it.
    #[error("the API server refuses it: {0}")]
    Rejected(String),
    /// It may work later.
    #[error("the API server did not accept it: {0}")]
    Unavailable(String),
}

/// Keeps alerts. When a method returns, what it did is durable.
pub trait AlertStore: Send + Sync + 'static {
    /// Whether the namespace exists. An answer may be some seconds old.
    fn namespace_exists<'a>(&'a self, namespace: &'a str) -> BoxFuture<'a, Result<bool, StoreError>>;

    /// Creates an Alert, or finds it.
    fn create<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
        spec: &'a AlertSpec,
    ) -> BoxFuture<'a, Result<Created, StoreError>>;

    /// Sets or removes the end of an Alert. `false` when there is no such Alert.
    fn set_end<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
        end: Option<Time>,
    ) -> BoxFuture<'a, Result<bool, StoreError>>;
}

/// How long the existence of a namespace is believed.
const NAMESPACE_FRESH: Duration = Duration::from_secs(10);
/// Namespaces whose existence is remembered.
const NAMESPACES: usize = 4096;

/// Alerts in the API server.
pub struct KubeAlerts {
    client: Client,
    namespaces: Mutex<HashMap<String, (bool, Instant)>>,
}

impl KubeAlerts {
    /// Writes with `client`.
    pub fn new(client: Client) -> KubeAlerts {
        KubeAlerts { client, namespaces: Mutex::default() }
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
        400 | 413 | 422 => StoreError::Rejected(status.message.clone()),
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
            let found = api.get_metadata_opt(namespace).await.map_err(|error| classify(&error))?;
            // Nothing can be created in one that is on its way out.
            let exists = found.is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_none());
            self.remember(namespace, exists);
            Ok(exists)
        })
    }

    fn create<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
        spec: &'a AlertSpec,
    ) -> BoxFuture<'a, Result<Created, StoreError>> {
        Box::pin(async move {
            let params = PostParams { field_manager: Some(names::CONTROLLER.into()), ..PostParams::default() };
            let api = self.api(namespace);
            match api.create(&params, &Alert::new(name, spec.clone())).await {
                Ok(_) => Ok(Created::New),
                Err(error) if is_code(&error, 409) => {
                    let known = api.get_opt(name).await.map_err(|error| self.failed(error, namespace))?;
                    match known {
                        Some(alert) if alert.spec.ends_at.is_some() => Ok(Created::Ended),
                        Some(_) => Ok(Created::Known),
                        None => Err(StoreError::Unavailable("it was deleted meanwhile".into())),
                    }
                }
                Err(error) => Err(self.failed(error, namespace)),
            }
        })
    }

    fn set_end<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
        end: Option<Time>,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            let params = PatchParams { field_manager: Some(names::CONTROLLER.into()), ..PatchParams::default() };
            let patch = Patch::Merge(json!({"spec": {"endsAt": end}}));
            match self.api(namespace).patch(name, &params, &patch).await {
                Ok(_) => Ok(true),
                Err(error) if is_code(&error, 404) => Ok(false),
                Err(error) => Err(self.failed(error, namespace)),
            }
        })
    }
}

/// How long an alert counts as durable without another look. Long enough that a large group which missed its
/// deadline goes on where it stopped when it is sent again, and short because people may delete Alerts by hand.
const RECENT: Duration = Duration::from_secs(30);
/// Alerts that are remembered.
const REMEMBERED: usize = 10_000;

/// Alerts that were made durable just now, so that the same alert sent many times costs few calls.
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
    /// Whether the alert is known to be durable in this state.
    pub fn knows(&self, name: &str, state: AlertState) -> bool {
        let known = lock(&self.known);
        known.states.get(name).is_some_and(|(known, at)| *known == state && at.elapsed() < RECENT)
    }

    /// Remembers that the alert is durable in this state.
    pub fn remember(&self, name: String, state: AlertState) {
        let mut known = lock(&self.known);
        let now = Instant::now();
        known.states.insert(name.clone(), (state, now));
        known.order.push_back((name, now));
        while let Some((oldest, at)) = known.order.front() {
            if known.order.len() <= REMEMBERED && at.elapsed() < RECENT {
                break;
            }
            // Unless it was remembered again since.
            if known.states.get(oldest).is_some_and(|(_, latest)| latest == at) {
                let oldest = oldest.clone();
                known.states.remove(&oldest);
            }
            known.order.pop_front();
        }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        lock(&self.known).states.len()
    }
}

/// A panic elsewhere leaves these maps whole, so its mark is ignored.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// An error as the API server words it.
    fn answer(code: u16, details: Value) -> StoreError {
        let status = json!({"kind": "Status", "status": "Failure", "code": code, "details": details});
        classify(&kube::Error::Api(serde_json::from_value(status).unwrap()))
    }

    #[test]
    fn answers_of_the_api_server_are_sorted_by_whether_trying_again_can_help() {
        assert_eq!(answer(404, json!({"name": "x", "kind": "namespaces"})), StoreError::NamespaceGone);
        let cause = json!({"reason": "NamespaceTerminating", "message": "x is being terminated"});
        let ending = json!({"name": "x", "kind": "alerts", "causes": [cause]});
        assert_eq!(answer(403, ending), StoreError::NamespaceGone);
        assert!(matches!(answer(422, Value::Null), StoreError::Rejected(_)));
        // A quota, a missing right, a missing CRD, an overload: somebody may mend these.
        for code in [401, 403, 404, 429, 500, 503, 504] {
            assert!(matches!(answer(code, Value::Null), StoreError::Unavailable(_)), "{code}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded_in_time_and_number() {
        let recent = Recent::default();
        recent.remember("a".into(), AlertState::Firing);
        assert!(recent.knows("a", AlertState::Firing) && !recent.knows("a", AlertState::Resolved));
        recent.remember("a".into(), AlertState::Resolved);
        assert!(!recent.knows("a", AlertState::Firing) && recent.knows("a", AlertState::Resolved));
        for number in 0..REMEMBERED + 50 {
            recent.remember(format!("n{number}"), AlertState::Firing);
        }
        assert!(recent.len() <= REMEMBERED);
        assert!(!recent.knows("a", AlertState::Resolved));
        tokio::time::advance(RECENT).await;
        assert!(!recent.knows("n10000", AlertState::Firing));
        recent.remember("b".into(), AlertState::Firing);
        assert_eq!(recent.len(), 1);
    }
}
