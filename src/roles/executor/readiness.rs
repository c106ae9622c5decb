//! Readiness: in which namespaces the admission policies were seen to refuse what they must refuse.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kube::Client;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::metrics::Metrics;
use crate::{
    act,
    core::{
        execution::{self_tests, verdict},
        workload::Kind,
    },
};

/// Between two self-tests that pass.
const EVERY: Duration = Duration::from_secs(60);
/// Until the next one after one that failed: Helm installs the policies last.
const AFTER_FAILURE: Duration = Duration::from_secs(2);

type States = BTreeMap<String, Result<(), String>>;

/// Outcomes of the self-test by namespace. What is not known to be safe is closed.
#[derive(Debug)]
pub struct Readiness {
    states: watch::Sender<States>,
    surprised: Notify,
}

impl Readiness {
    /// Closed for every namespace.
    pub fn new(namespaces: &[String]) -> Arc<Readiness> {
        let untested = || Err("the self-test of the admission policies has not run yet".to_owned());
        let states = namespaces.iter().map(|namespace| (namespace.clone(), untested())).collect();
        Arc::new(Readiness { states: watch::Sender::new(states), surprised: Notify::new() })
    }

    /// Why nothing may be armed in this namespace; empty when it may.
    pub fn closed_because(&self, namespace: &str) -> String {
        match self.states.borrow().get(namespace) {
            Some(Ok(())) => String::new(),
            Some(Err(message)) => message.clone(),
            None => format!("namespace {namespace} is not enrolled"),
        }
    }

    /// Tells of every change.
    pub fn subscribe(&self) -> watch::Receiver<States> {
        self.states.subscribe()
    }

    /// A policy did not answer as expected: closed until the self-test passes again.
    pub fn surprise(&self, namespace: &str, message: &str) {
        tracing::error!(namespace, why = message, "the admission policies did not answer as expected");
        self.set(namespace, Err(message.to_owned()));
        self.surprised.notify_one();
    }

    fn set(&self, namespace: &str, state: Result<(), String>) {
        self.states.send_if_modified(|states| {
            let before = states.insert(namespace.to_owned(), state.clone());
            before != Some(state)
        });
    }

    fn all(&self) -> Result<(), String> {
        let failed: Vec<String> = self.states.borrow().values().filter_map(|state| state.clone().err()).collect();
        if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
    }

    /// Runs the self-test again and again, until shutdown.
    pub async fn keep_testing(
        &self,
        client: Client,
        ready: watch::Sender<Result<(), String>>,
        metrics: Metrics,
        shutdown: CancellationToken,
    ) {
        let namespaces: Vec<String> = self.states.borrow().keys().cloned().collect();
        loop {
            for namespace in &namespaces {
                let state = test(&client, namespace, &metrics).await;
                if let Err(why) = &state
                    && *why != self.closed_because(namespace)
                {
                    tracing::warn!(namespace, why, "self-test of the admission policies failed");
                }
                self.set(namespace, state);
            }
            let all = self.all();
            metrics.set_ready(all.is_ok());
            let pause = if all.is_ok() { EVERY } else { AFTER_FAILURE };
            ready.send_if_modified(|before| {
                let changed = *before != all;
                if changed && all.is_ok() {
                    tracing::info!("ready: the admission policies refuse what they must refuse");
                }
                *before = all.clone();
                changed
            });
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.surprised.notified() => {
                    metrics.set_ready(false);
                    ready.send_modify(|state| *state = self.all());
                }
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

async fn test(client: &Client, namespace: &str, metrics: &Metrics) -> Result<(), String> {
    let of = |kind| async move {
        let workloads = act::workloads(client, kind, namespace).await.map_err(|error| error.to_string())?;
        for test in self_tests(kind, &workloads) {
            let outcome = act::send(client, &test.request).await;
            metrics.count(&test.request, &outcome);
            verdict(&test, &outcome)?;
        }
        Ok::<_, String>(())
    };
    futures::future::try_join_all(Kind::ALL.map(of)).await.map(drop)
}
