//! The target's recorded revisions and how they differ.

use futures::future::BoxFuture;

use super::source::{Answer, Question, Source};
use crate::api::v1alpha1::SourceName;

/// Recorded revisions, and typed differences between the current one and earlier ones.
pub struct RolloutHistory;

impl Source for RolloutHistory {
    fn name(&self) -> SourceName {
        SourceName::RolloutHistory
    }

    fn ask<'a>(&'a self, question: &'a Question<'_>) -> BoxFuture<'a, Answer> {
        Box::pin(async { Ok(question.workload().await?.history_facts()) })
    }
}
