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
    /// It is in the system namespace, because the namespace that it belongs to did not take it, now or earlier.
    pub displaced: bool,
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
                Ok(Kept { outcome, note: None, displaced: false })
            }
        }
    }

    /// Keeps what fires, or only has to be on record, in the first place that takes it, or where it is already: an alert
    /// that its namespace refused once stays one Alert, though the namespace takes it by now.
    pub(super) async fn keep(&self, placement: &Placement) -> Result<Kept, StoreError> {
        let own = placement.note();
        let kept = |outcome, note, displaced| match own {
            Some(own) => Kept { outcome: AlertOutcome::Refused, note: Some(own), displaced },
            None => Kept { outcome, note, displaced },
        };
        if let Some(other) = self.kept_elsewhere(placement).await {
            let reason = IntakeReason::RefusedByNamespace;
            let spec = placement.spec_in(other, Some(Placement::refused(reason, "when it was first sent")));
            return Ok(kept(self.keep_in(other, &spec, placement.record_only).await?, None, true));
        }
        let spec = placement.spec_in(&placement.first, None);
        match (self.keep_in(&placement.first, &spec, placement.record_only).await, &placement.other) {
            (Err(error @ (StoreError::NamespaceGone | StoreError::Refused(_))), Some(other)) => {
                let reason = match error {
                    StoreError::NamespaceGone => IntakeReason::NamespaceGone,
                    _ => IntakeReason::RefusedByNamespace,
                };
                let message = error.to_string();
                tracing::warn!(namespace = placement.first.namespace, %error, "a namespace did not take an alert");
                let spec = placement.spec_in(other, Some(Placement::refused(reason, &message)));
                Ok(kept(self.keep_in(other, &spec, placement.record_only).await?, Some(reason), true))
            }
            (outcome, _) => Ok(kept(outcome?, None, false)),
        }
    }

    /// The second place, where the alert is there and not in the first. What cannot be looked at does not keep the alert
    /// from being kept: [`Intake::end`] ends both.
    async fn kept_elsewhere<'a>(&self, placement: &'a Placement) -> Option<&'a Place> {
        let other = placement.other.as_ref().filter(|_| !self.recent.knows(&placement.first.name))?;
        let there =
            self.recent.is(&other.name, AlertState::Firing) || matches!(self.store.find(other).await, Ok(Some(_)));
        let at_home = there && matches!(self.store.find(&placement.first).await, Ok(Some(_)));
        (there && !at_home).then_some(other)
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

    /// Ends an alert in every place where it is kept. One that cannot be asked does not keep the other from being ended;
    /// its error is returned, so that the end is sent again.
    async fn end(&self, placement: &Placement, request: RequestInfo<'_>) -> Result<AlertOutcome, StoreError> {
        let received_at = request.received_at;
        let change = Change::End { ends_at: placement.ended().unwrap_or(received_at), received_at };
        if placement.record_only {
            return Ok(AlertOutcome::Ignored);
        }
        let (mut outcome, mut failure) = (AlertOutcome::Ignored, None);
        for place in std::iter::once(&placement.first).chain(&placement.other) {
            match self.end_in(place, change).await {
                Err(StoreError::NamespaceGone) | Ok(AlertOutcome::Ignored) => {}
                Ok(ended) if outcome == AlertOutcome::Ignored || ended == AlertOutcome::Resolved => outcome = ended,
                Ok(_) => {}
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(outcome), Err)
    }

    /// Ends it in one place: `Ignored` where it is not there.
    async fn end_in(&self, place: &Place, change: Change) -> Result<AlertOutcome, StoreError> {
        if self.recent.is(&place.name, AlertState::Resolved) {
            return Ok(AlertOutcome::Deduplicated);
        }
        let outcome = match self.store.find(place).await? {
            Some(AlertState::Resolved) => AlertOutcome::Deduplicated,
            Some(AlertState::Firing) if self.store.change(place, change).await? => AlertOutcome::Resolved,
            _ => return Ok(AlertOutcome::Ignored),
        };
        self.recent.remember(&place.name, AlertState::Resolved);
        Ok(outcome)
    }
}
