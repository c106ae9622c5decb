//! The shape of a source of facts.

use std::{sync::Arc, time::Duration};

use futures::future::{BoxFuture, Shared};
use kube::Client;

use crate::{
    api::v1alpha1::{ObjectRef, SourceName, Time},
    clock,
    core::workload::{Draft, Workload},
    observe::guard::Guard,
};

pub use crate::observe::guard::Failure;

/// How long one request of a source may take, if it does not say otherwise.
const TIMEOUT: Duration = Duration::from_secs(3);

/// What one source saw.
pub type Answer = Result<Vec<Draft>, Failure>;

/// The one reading of the target that several sources share.
pub type SharedWorkload<'a> = Shared<BoxFuture<'a, Result<Arc<Workload>, Failure>>>;

/// One source of facts. What is known about it before it is asked is in `core::sources`.
pub trait Source: Send + Sync {
    /// Its name.
    fn name(&self) -> SourceName;

    /// How long one request of it may take.
    fn timeout(&self) -> Duration {
        TIMEOUT
    }

    /// Looks at the target. Whatever it asks of the outside, it asks through [`Question::request`]. A failure becomes
    /// a fact.
    fn ask<'a>(&'a self, question: &'a Question<'_>) -> BoxFuture<'a, Answer>;
}

/// What a source is asked, and with what.
pub struct Question<'a> {
    /// Client of the API server.
    pub client: &'a Client,
    /// The object that is looked at.
    pub target: &'a ObjectRef,
    pub(in crate::observe) workload: SharedWorkload<'a>,
    pub(in crate::observe) guard: &'a Guard,
    pub(in crate::observe) source: SourceName,
    pub(in crate::observe) timeout: Duration,
    pub(in crate::observe) until: Time,
}

impl Question<'_> {
    /// The target with its revisions and pods: read once for all sources.
    pub async fn workload(&self) -> Result<Arc<Workload>, Failure> {
        self.workload.clone().await
    }

    /// Does one request of the source: behind its breaker, within its timeout and what is left of the investigation.
    /// `work` is told how long it may take.
    pub async fn request<T, F>(&self, work: impl FnOnce(Duration) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let budget = left(self.until, self.timeout);
        self.guard.request(self.source, &self.target.namespace, budget, work(budget)).await
    }
}

/// What is left until `until`, and at most `timeout`.
pub fn left(until: Time, timeout: Duration) -> Duration {
    let left = until.as_millisecond().saturating_sub(clock::now().as_millisecond());
    timeout.min(Duration::from_millis(u64::try_from(left).unwrap_or_default()))
}
