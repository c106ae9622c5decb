//! The target and its owners. Its reading, with revisions and pods, is made once and shared by all sources.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use kube::Client;

use super::source::{Answer, Failure, Question, Source};
use crate::{
    api::v1alpha1::{ObjectRef, SourceName},
    clock,
    cluster::snapshot_with_events,
    core::workload::Workload,
};

/// The target itself.
pub struct Target;

impl Source for Target {
    fn name(&self) -> SourceName {
        SourceName::Workload
    }

    fn ask<'a>(&'a self, question: &'a Question<'_>) -> BoxFuture<'a, Answer> {
        Box::pin(async { Ok(question.workload().await?.workload_facts()) })
    }
}

/// Reads the target with its revisions, its pods and its owners.
pub async fn read(client: &Client, target: &ObjectRef, budget: Duration) -> Result<Arc<Workload>, Failure> {
    let snapshot = snapshot_with_events(client, target, budget, clock::now()).await?;
    let unsupported = |message: String| Failure { reason: "Unsupported", message };
    Ok(Arc::new(Workload::of(&snapshot).map_err(|error| unsupported(error.to_string()))?))
}
