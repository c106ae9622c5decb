//! Writes the status of ModelChains: each write a compare-and-swap, only when something changed, and not all the time.

use std::collections::HashMap;
use std::time::Duration;

use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    api::v1alpha1::{ModelChain, ModelChainStatus, Time},
    core::{
        chain::status::{self, Snapshot},
        fit, names,
    },
};

/// At most one write of a chain's status in this time, unless it becomes ready or unready.
const PACE: Duration = Duration::from_secs(10);
/// How long one request may take.
const CALL: Duration = Duration::from_secs(5);
/// How often a write is tried when the object changed in between.
const TRIES: usize = 3;
/// Chains of which the last write is remembered.
const REMEMBERED: usize = 256;

/// What became of a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// It is stored.
    Written,
    /// The stored one says the same.
    Unchanged,
    /// The last write was a moment ago; the next call writes what then is.
    TooSoon,
    /// The chain does not exist any more.
    Gone,
}

/// The one writer of `modelchains/status`.
pub struct ModelStatus {
    api: Api<ModelChain>,
    /// When each was last written.
    written: HashMap<String, Time>,
}

impl ModelStatus {
    /// For the ModelChains of the namespace `system`.
    pub fn new(client: &Client, system: &str) -> ModelStatus {
        ModelStatus { api: Api::namespaced(client.clone(), system), written: HashMap::new() }
    }

    /// Stores what `snapshot` says about `seen`, if it is news and the last write was not a moment ago. To be called
    /// every few seconds, and when something about the chain changed.
    ///
    /// # Errors
    ///
    /// The API server did not take it; the next call tries again.
    pub async fn publish(&mut self, seen: &ModelChain, snapshot: &Snapshot, now: Time) -> kube::Result<Published> {
        let name = seen.name_any();
        let status = fit::fitted(status::of(snapshot, seen.status.as_ref(), now));
        if seen.status.as_ref() == Some(&status) {
            return Ok(Published::Unchanged);
        }
        let recent = self
            .written
            .get(&name)
            .is_some_and(|last| Duration::try_from(now.duration_since(*last)).is_ok_and(|age| age < PACE));
        if recent && ready(&status) == seen.status.as_ref().and_then(ready) {
            return Ok(Published::TooSoon);
        }
        let published = self.write(seen.clone(), snapshot, status, now).await?;
        if published == Published::Written {
            if self.written.len() >= REMEMBERED {
                self.written.clear();
            }
            self.written.insert(name, now);
        }
        Ok(published)
    }

    async fn write(
        &self,
        mut seen: ModelChain,
        snapshot: &Snapshot,
        mut status: ModelChainStatus,
        now: Time,
    ) -> kube::Result<Published> {
        let name = seen.name_any();
        let params = PatchParams { field_manager: Some(names::INVESTIGATOR.to_owned()), ..PatchParams::default() };
        let mut tries = 0;
        loop {
            tries += 1;
            let patch = Patch::Merge(json!({
                "metadata": { "resourceVersion": seen.resource_version() },
                "status": difference(seen.status.as_ref(), &status),
            }));
            match bounded(self.api.patch_status(&name, &params, &patch)).await {
                Ok(_) => return Ok(Published::Written),
                Err(error) if is_code(&error, 404) => return Ok(Published::Gone),
                // The cache is behind, or somebody changed the chain: what is stored now tells.
                Err(error) if is_code(&error, 409) && tries < TRIES => {}
                Err(error) => return Err(error),
            }
            match bounded(self.api.get_opt(&name)).await? {
                None => return Ok(Published::Gone),
                Some(found) => seen = found,
            }
            status = fit::fitted(status::of(snapshot, seen.status.as_ref(), now));
            if seen.status.as_ref() == Some(&status) {
                return Ok(Published::Unchanged);
            }
        }
    }
}

/// Status of the condition `Ready`.
fn ready(status: &ModelChainStatus) -> Option<String> {
    let condition = status.conditions.iter().find(|condition| condition.type_ == "Ready");
    condition.map(|condition| condition.status.clone())
}

/// A merge patch from one status to another: what is gone has to be named.
fn difference(before: Option<&ModelChainStatus>, after: &ModelChainStatus) -> Value {
    let mut patch = json!(after);
    let before = json!(before);
    if let (Some(patch), Some(before)) = (patch.as_object_mut(), before.as_object()) {
        for gone in before.keys() {
            patch.entry(gone.clone()).or_insert(Value::Null);
        }
    }
    patch
}

async fn bounded<T>(request: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    match tokio::time::timeout(CALL, request).await {
        Ok(answer) => answer,
        Err(_) => Err(kube::Error::Service(format!("no answer within {} s", CALL.as_secs()).into())),
    }
}

fn is_code(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::api::v1alpha1::{UpstreamState, UpstreamStatus};
    use crate::cluster::testing::{Asked, Reply, client, failure};
    use crate::core::{chain::validate, money::NanoDollars};

    const PATH: &str = "/apis/backstop.dev/v1alpha1/namespaces/backstop-system/modelchains/default";

    /// An API server with one ModelChain, whose version each write counts up.
    #[derive(Clone)]
    struct Server(Arc<Mutex<(u64, Value)>>);

    impl Server {
        fn new() -> (Server, ModelStatus) {
            let server = Server(Arc::new(Mutex::new((1, json!({})))));
            let answering = server.clone();
            let (client, _) = client(move |asked| answering.answer(asked));
            (server, ModelStatus::new(&client, "backstop-system"))
        }

        fn answer(&self, asked: &Asked) -> Reply {
            match (asked.method.as_str(), asked.path.strip_prefix(PATH)) {
                ("PATCH", Some("/status")) => {
                    let mut object = self.0.lock().unwrap();
                    if asked.body["metadata"]["resourceVersion"] != json!(object.0.to_string()) {
                        return failure(409, "Conflict");
                    }
                    object.0 += 1;
                    json_patch::merge(&mut object.1, &asked.body["status"]);
                    drop(object);
                    Reply::Json(200, self.object())
                }
                ("GET", Some("")) => Reply::Json(200, self.object()),
                _ => failure(404, "NotFound"),
            }
        }

        fn object(&self) -> Value {
            let (version, status) = self.0.lock().unwrap().clone();
            let upstream = json!({"name": "own", "url": "http://vllm:8000/v1", "api": "OpenAiChat",
            "prices": {"input": "0", "output": "0"}});
            json!({
                "apiVersion": "backstop.dev/v1alpha1", "kind": "ModelChain",
                "metadata": {"name": "default", "namespace": "backstop-system", "generation": 1,
                    "resourceVersion": version.to_string()},
                "spec": {"rungs": [{"name": "big", "model": "big-1", "upstreams": [upstream]}]},
                "status": status,
            })
        }

        fn seen(&self) -> ModelChain {
            serde_json::from_value(self.object()).unwrap()
        }

        fn version(&self) -> u64 {
            self.0.lock().unwrap().0
        }
    }

    fn at(second: i64) -> Time {
        Time::from_second(second).unwrap()
    }

    fn snapshot(server: &Server, state: UpstreamState, last_error: &str) -> Snapshot {
        let upstream = UpstreamStatus {
            rung: "big".into(),
            name: "own".into(),
            state,
            last_error: last_error.into(),
            last_error_at: (!last_error.is_empty()).then(|| at(900)),
            last_success_at: Some(at(1000)),
            ..UpstreamStatus::default()
        };
        Snapshot {
            generation: 1,
            checked: validate::of(&server.seen()),
            missing: vec![],
            upstreams: vec![upstream],
            spent_today: NanoDollars(0),
            changes: vec![],
        }
    }

    #[tokio::test]
    async fn a_status_is_written_when_it_is_news_and_not_again() {
        let (server, mut writer) = Server::new();
        let snapshot = snapshot(&server, UpstreamState::Available, "");
        assert_eq!(writer.publish(&server.seen(), &snapshot, at(1000)).await.unwrap(), Published::Written);
        assert_eq!(writer.publish(&server.seen(), &snapshot, at(1100)).await.unwrap(), Published::Unchanged);
        assert_eq!(server.version(), 2);
        assert_eq!(server.seen().status.unwrap().available, "1/1");
    }

    #[tokio::test]
    async fn small_news_wait_ten_seconds_and_a_chain_that_is_not_ready_any_more_does_not() {
        let (server, mut writer) = Server::new();
        let good = snapshot(&server, UpstreamState::Available, "");
        writer.publish(&server.seen(), &good, at(1000)).await.unwrap();
        let failed = snapshot(&server, UpstreamState::Available, "Timeout");
        assert_eq!(writer.publish(&server.seen(), &failed, at(1009)).await.unwrap(), Published::TooSoon);
        assert_eq!(writer.publish(&server.seen(), &failed, at(1010)).await.unwrap(), Published::Written);
        let open = snapshot(&server, UpstreamState::Open, "Timeout");
        assert_eq!(writer.publish(&server.seen(), &open, at(1011)).await.unwrap(), Published::Written);
    }

    #[tokio::test]
    async fn what_is_over_is_not_left_standing() {
        let (server, mut writer) = Server::new();
        let failed = snapshot(&server, UpstreamState::Available, "Timeout");
        writer.publish(&server.seen(), &failed, at(1000)).await.unwrap();
        assert_eq!(server.seen().status.unwrap().last_error, "own: Timeout");
        let good = snapshot(&server, UpstreamState::Available, "");
        writer.publish(&server.seen(), &good, at(1020)).await.unwrap();
        assert_eq!(server.seen().status.unwrap().last_error, "");
    }

    #[tokio::test]
    async fn a_cache_that_is_behind_costs_a_read_and_no_status() {
        let (server, mut writer) = Server::new();
        let behind = server.seen();
        server.0.lock().unwrap().0 += 1;
        let snapshot = snapshot(&server, UpstreamState::Available, "");
        assert_eq!(writer.publish(&behind, &snapshot, at(1000)).await.unwrap(), Published::Written);
        assert_eq!(server.version(), 3);
    }

    #[tokio::test]
    async fn a_deleted_chain_is_let_go() {
        let (server, _) = Server::new();
        let (client, _) = client(|_| failure(404, "NotFound"));
        let mut writer = ModelStatus::new(&client, "backstop-system");
        let snapshot = snapshot(&server, UpstreamState::Available, "");
        assert_eq!(writer.publish(&server.seen(), &snapshot, at(1000)).await.unwrap(), Published::Gone);
    }
}
