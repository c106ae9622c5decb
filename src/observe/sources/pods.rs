//! The target's pods.

use futures::future::BoxFuture;

use super::source::{Answer, Question, Source};
use crate::api::v1alpha1::SourceName;

/// The target's pods and the state of their containers.
pub struct Pods;

impl Source for Pods {
    fn name(&self) -> SourceName {
        SourceName::Pods
    }

    fn ask<'a>(&'a self, question: &'a Question<'_>) -> BoxFuture<'a, Answer> {
        Box::pin(async { Ok(question.workload().await?.pod_facts()) })
    }
}
