//! Makes one alert durable: where it belongs, or in the system namespace.

use super::{
    Intake,
    metrics::AlertOutcome,
    store::{Change, Created, StoreError},
};
use crate::{
    api::v1alpha1::{AlertSpec, AlertState, IntakeReason},
    core::intake::{Normalised, Place, Placement, RequestInfo, TokenOwner},
};

/// What became of an alert that is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub outcome: AlertOutcome,
    /// What is particular about it.
    pub note: Option<IntakeReason>,
}

impl Intake {
    /// Makes one alert durable.
    pub(super) async fn make_durable(
        &self,
        owner: &TokenOwner,
        alert: &Normalised,
        request: RequestInfo<'_>,
    ) -> Result<Kept, StoreError> {
        let exists = match (owner, alert.valid_namespace()) {
            (TokenOwner::Cluster, Some(name)) => self.store.namespace_exists(name).await?,
            _ => false,
        };
        let placement = Placement::of(alert, owner, exists, &self.system_namespace);
        match placement.state {
            AlertState::Firing => {
                let kept = self.keep(&placement).await?;
                if kept.outcome == AlertOutcome::Accepted || kept.note.is_some() {
                    tracing::info!(
                        namespace = placement.first.namespace, name = placement.first.name, alertname = alert.alertname(),
                        altered = alert.altered, outcome = ?kept.outcome, note = ?kept.note, "alert received"
                    );
                }
                Ok(kept)
            }
            AlertState::Resolved => {
                let outcome = self.end(&placement, request).await?;
                tracing::info!(
                    namespace = placement.first.namespace,
                    alertname = alert.alertname(),
                    ?outcome,
                    "alert resolved"
                );
                Ok(Kept { outcome, note: None })
            }
        }
    }

    /// Keeps what fires, or only has to be on record, in the first place that takes it.
    pub(super) async fn keep(&self, placement: &Placement) -> Result<Kept, StoreError> {
        let spec = placement.spec_in(&placement.first, None);
        let own = spec.note.as_ref().map(|note| note.reason);
        let (outcome, displaced) =
            match (self.keep_in(&placement.first, &spec, placement.record_only).await, &placement.other) {
                (Err(error @ (StoreError::NamespaceGone | StoreError::Refused(_))), Some(other)) => {
                    let reason = match error {
                        StoreError::NamespaceGone => IntakeReason::NamespaceGone,
                        _ => IntakeReason::RefusedByNamespace,
                    };
                    let message = error.to_string();
                    tracing::warn!(namespace = placement.first.namespace, %error, "a namespace did not take an alert");
                    let spec = placement.spec_in(other, Some(Placement::refused(reason, &message)));
                    (self.keep_in(other, &spec, placement.record_only).await?, Some(reason))
                }
                (outcome, _) => (outcome?, None),
            };
        match own {
            Some(own) => Ok(Kept { outcome: AlertOutcome::Refused, note: Some(own) }),
            None => Ok(Kept { outcome, note: displaced }),
        }
    }

    async fn keep_in(&self, place: &Place, spec: &AlertSpec, record_only: bool) -> Result<AlertOutcome, StoreError> {
        let name = &place.name;
        let state = if record_only { AlertState::Resolved } else { AlertState::Firing };
        if self.recent.is(name, state) {
            return Ok(AlertOutcome::Deduplicated);
        }
        let mut known = None;
        if self.recent.knows(name) {
            known = self.store.find(place).await?;
        }
        if known.is_none() {
            self.recent.forget(name);
            if self.store.create(place, spec).await? == Created::New {
                self.recent.remember(name, state);
                return Ok(AlertOutcome::Accepted);
            }
            known = self.store.find(place).await?;
        }
        let deleted = || StoreError::Unavailable("it was deleted meanwhile".into());
        let outcome = match known.ok_or_else(deleted)? {
            AlertState::Resolved if !record_only => {
                // Its sender was silent for a while and the alert counted as resolved, but it never ended; or one of
                // several senders has not heard of the end.
                let received_at = spec.received_at.unwrap_or(spec.starts_at);
                if !self.store.change(place, Change::FireAgain { received_at }).await? {
                    return Err(deleted());
                }
                AlertOutcome::Accepted
            }
            _ => AlertOutcome::Deduplicated,
        };
        self.recent.remember(name, state);
        Ok(outcome)
    }

    /// Ends an alert wherever it is kept.
    async fn end(&self, placement: &Placement, request: RequestInfo<'_>) -> Result<AlertOutcome, StoreError> {
        let received_at = request.received_at;
        let change = Change::End { ends_at: placement.ended().unwrap_or(received_at), received_at };
        if placement.record_only {
            return Ok(AlertOutcome::Ignored);
        }
        for place in std::iter::once(&placement.first).chain(&placement.other) {
            if self.recent.is(&place.name, AlertState::Resolved) {
                return Ok(AlertOutcome::Deduplicated);
            }
            let outcome = match self.store.find(place).await {
                Ok(Some(AlertState::Resolved)) => AlertOutcome::Deduplicated,
                Ok(Some(AlertState::Firing)) if self.store.change(place, change).await? => AlertOutcome::Resolved,
                Ok(_) | Err(StoreError::NamespaceGone) => continue,
                Err(error) => return Err(error),
            };
            self.recent.remember(&place.name, AlertState::Resolved);
            return Ok(outcome);
        }
        Ok(AlertOutcome::Ignored)
    }
}
