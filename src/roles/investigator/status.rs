//! Writes of an Investigation's status, each a compare-and-swap: whoever lost the lease in between changes nothing,
//! and no Investigation gets two diagnoses.

use std::time::Duration;

use anyhow::Context as _;
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::{
    api::v1alpha1::{Fact, Investigation, InvestigationPhase, InvestigationStatus, Time},
    core::{conditions, fit, names},
    model::chain::ChainAnswer,
};

/// How long one write may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a write is tried when something else about the object changed in between.
const TRIES: usize = 5;

/// What became of a write.
#[derive(Clone, Debug, PartialEq)]
pub enum Written<T> {
    /// It is there.
    Done(T),
    /// It changed since it was seen: another one may write this status now.
    Lost,
    /// The Investigation does not exist any more.
    Gone,
}

/// Writes the status of one Investigation.
pub struct Writer {
    api: Api<Investigation>,
    name: String,
}

impl Writer {
    /// For this Investigation.
    pub fn new(client: &Client, investigation: &Investigation) -> Writer {
        let namespace = investigation.namespace().unwrap_or_default();
        Writer { api: Api::namespaced(client.clone(), &namespace), name: investigation.name_any() }
    }

    /// Marks it as running since `started_at`, if it is still as it was seen. The resource version that this returns
    /// is what [`Writer::complete`] needs.
    pub async fn running(&self, seen: &Investigation, started_at: Time) -> anyhow::Result<Written<String>> {
        let status = json!({
            "phase": InvestigationPhase::Running,
            "startedAt": started_at,
            "observedGeneration": seen.metadata.generation.unwrap_or_default(),
        });
        let Some(version) = seen.resource_version() else { return Ok(Written::Lost) };
        match self.patch(&version, &status).await {
            Ok(written) => Ok(Written::Done(written.resource_version().unwrap_or_default())),
            Err(error) if is_code(&error, 404) => Ok(Written::Gone),
            Err(error) if is_code(&error, 409) => Ok(Written::Lost),
            Err(error) => Err(error).with_context(|| format!("cannot mark Investigation {} as running", self.name)),
        }
    }

    /// Writes facts and diagnosis, if it is still the run that began at `started_at`.
    pub async fn complete(&self, version: String, status: &InvestigationStatus) -> anyhow::Result<Written<()>> {
        let mut value = serde_json::to_value(status).context("cannot print the status")?;
        fit::fit_patch("Investigation", "status", &mut value);
        let mut version = version;
        for _ in 0..TRIES {
            match self.patch(&version, &value).await {
                Ok(_) => return Ok(Written::Done(())),
                Err(error) if is_code(&error, 404) => return Ok(Written::Gone),
                Err(error) => tracing::debug!(%error, "status not written, reading it back"),
            }
            // Whether the answer was lost or something else changed: the object itself tells.
            let found = tokio::time::timeout(WRITE_TIMEOUT, self.api.get(&self.name)).await;
            match found {
                Ok(Ok(found)) => {
                    let there = found.status.clone().unwrap_or_default();
                    if there.started_at != status.started_at {
                        return Ok(Written::Lost);
                    }
                    if there.phase != InvestigationPhase::Running {
                        return Ok(Written::Done(()));
                    }
                    version = found.resource_version().unwrap_or_default();
                }
                Ok(Err(error)) if is_code(&error, 404) => return Ok(Written::Gone),
                Ok(Err(error)) => tracing::warn!(%error, "cannot read the Investigation back"),
                Err(_) => tracing::warn!("no answer when reading the Investigation back"),
            }
        }
        anyhow::bail!("cannot write the diagnosis of Investigation {} in {TRIES} tries; it is made again", self.name)
    }

    async fn patch(&self, version: &str, status: &serde_json::Value) -> kube::Result<Investigation> {
        let params = PatchParams { field_manager: Some(names::INVESTIGATOR.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(json!({ "metadata": { "resourceVersion": version }, "status": status }));
        let write = self.api.patch_status(&self.name, &params, &patch);
        match tokio::time::timeout(WRITE_TIMEOUT, write).await {
            Ok(answer) => answer,
            Err(_) => Err(kube::Error::Service("no answer within 5 s".into())),
        }
    }
}

/// The status of an investigation that ended with an answer.
pub fn complete(
    investigation: &Investigation,
    started_at: Time,
    completed_at: Time,
    facts: Vec<Fact>,
    outcome: ChainAnswer,
) -> InvestigationStatus {
    let generation = investigation.metadata.generation.unwrap_or_default();
    let ChainAnswer { diagnosis, second_opinion, review, attempts, spent } = outcome;
    let (reason, message) = (diagnosis.cause.as_str(), diagnosis.hypothesis.as_str());
    let mut conditions = Vec::new();
    conditions::set(&mut conditions, "Complete", true, reason, message, generation, completed_at);
    InvestigationStatus {
        phase: InvestigationPhase::Complete,
        started_at: Some(started_at),
        completed_at: Some(completed_at),
        facts,
        diagnosis: Some(diagnosis),
        second_opinion,
        review,
        attempts,
        tokens: spent.tokens,
        cost_nano_dollars: spent.nano_dollars,
        observed_generation: generation,
        conditions,
    }
}

fn is_code(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}
