//! Asks sources side by side and numbers what they saw.
//!
//! Each source has its own timeout, breaker and size limit, and one that fails becomes a fact too.

use std::time::Duration;

use futures::FutureExt as _;
use kube::Client;
use prometheus_client::registry::Registry;

use super::guard::Guard;
use super::sources::{self, Answer, Failure, Question, SharedWorkload, Source, left, workload};
use crate::{
    api::v1alpha1::{Fact, FactData, InvestigationSpec, ObjectRef, SourceFailedFact, SourceName, Time},
    clock,
    core::workload::{Draft, number},
    settings::Settings,
};

/// The sources of this process.
pub struct Gatherer {
    client: Client,
    sources: Vec<Box<dyn Source>>,
    guard: Guard,
}

impl Gatherer {
    /// With all sources. Their metrics are added to `registry`.
    pub fn new(client: Client, settings: &Settings, registry: &mut Registry) -> anyhow::Result<Gatherer> {
        let gatherer = Gatherer { client, sources: sources::all(settings)?, guard: Guard::default() };
        gatherer.guard.register(registry);
        Ok(gatherer)
    }

    /// Asks the sources that the spec names, until `until` at the latest. Without a target nothing is asked, and one
    /// fact about `incident` says so.
    pub async fn gather(&self, spec: &InvestigationSpec, incident: &ObjectRef, until: Time) -> Vec<Fact> {
        let Some(target) = &spec.target else {
            let message = "the alert names no object that exists in this cluster".to_owned();
            let nothing = Failure { reason: "NotFound", message };
            return number([failed(SourceName::Workload, incident, &nothing, clock::now())]);
        };
        let workload = self.workload(target, until);
        let asked = self.sources.iter().filter(|source| spec.sources.contains(&source.name())).map(|source| {
            let question = Question {
                client: &self.client,
                target,
                workload: workload.clone(),
                guard: &self.guard,
                source: source.name(),
                timeout: source.timeout(),
                until,
            };
            async move { (source.name(), ask(source.as_ref(), &question).await) }
        });
        let drafts = futures::future::join_all(asked).await.into_iter().flat_map(|(source, answer)| match answer {
            Ok(drafts) => drafts,
            Err(failure) => {
                let Failure { reason, message } = &failure;
                tracing::info!(source = source.as_str(), reason, message, "source gave nothing");
                vec![failed(source, target, &failure, clock::now())]
            }
        });
        number(drafts)
    }

    /// One reading for all sources that need the target; its breaker is that of the source `Workload` in its namespace.
    fn workload<'a>(&'a self, target: &'a ObjectRef, until: Time) -> SharedWorkload<'a> {
        let source = &workload::Target;
        async move {
            let budget = left(until, source.timeout());
            let read = workload::read(&self.client, target, budget);
            self.guard.request(source.name(), &target.namespace, budget, read).await
        }
        .boxed()
        .shared()
    }
}

/// Each request of a source has its own timeout; the end of the investigation bounds all of them.
async fn ask(source: &dyn Source, question: &Question<'_>) -> Answer {
    let rest = left(question.until, Duration::MAX);
    tokio::time::timeout(rest, source.ask(question)).await.unwrap_or_else(|_| Err(Failure::timeout(rest)))
}

fn failed(source: SourceName, object: &ObjectRef, failure: &Failure, seen_at: Time) -> Draft {
    let data = FactData::SourceFailed(SourceFailedFact { reason: failure.reason.to_owned() });
    let text = format!("{}: {}: {}", source.as_str(), failure.reason, failure.message);
    Draft { source, object: object.clone(), seen_at, data, text }
}
