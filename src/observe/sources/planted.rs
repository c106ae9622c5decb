//! A source of unit tests: all that a new source needs is a file like this one, its variant of `SourceName`, its
//! line in `core::sources` and its line in the registry.

use std::time::Duration;

use futures::future::BoxFuture;

use super::source::{Answer, Question, Source};
use crate::{
    api::v1alpha1::{FactData, MetricFact, SourceName},
    clock,
    core::workload::Draft,
};

/// Says how many pods the target has.
pub struct Planted;

impl Source for Planted {
    fn name(&self) -> SourceName {
        SourceName::Planted
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn ask<'a>(&'a self, question: &'a Question<'_>) -> BoxFuture<'a, Answer> {
        Box::pin(async {
            let count = question.workload().await?.pods.len();
            let object = question.target.clone();
            let data = FactData::Metric(MetricFact { query: "pods".into(), value: count.to_string() });
            let draft =
                Draft { source: self.name(), object, seen_at: clock::now(), data, text: format!("{count} pods") };
            question.request(|_| async { Ok(vec![draft]) }).await
        })
    }
}
