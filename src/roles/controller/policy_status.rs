//! Writes to the status of each Policy and Runbook whether it compiled.

use std::sync::Arc;
use std::time::Duration;

use kube::{Resource as _, ResourceExt as _, runtime::controller::Action};

use crate::api::v1alpha1::{Condition, Policy, PolicyStatus, Runbook, RunbookStatus};
use crate::clock;
use crate::core::{conditions, policy::CompiledPolicy};

use super::context::{Error, Shared};

/// Says whether a Policy compiled. One that did not denies everything that it matches.
pub async fn policy(policy: Arc<Policy>, ctx: Shared) -> Result<Action, Error> {
    let compiled = CompiledPolicy::of(&policy);
    let generation = policy.meta().generation.unwrap_or(0);
    let mut status = policy.status.clone().unwrap_or_default();
    ready(&mut status.conditions, compiled.error(), generation);
    let next = PolicyStatus { observed_generation: generation, ..status };
    if policy.status.as_ref() != Some(&next) {
        tracing::info!(policy = %compiled.name, error = compiled.error(), "policy compiled");
        ctx.merge_status(policy.as_ref(), &next).await.inspect_err(|error| error.log("Policy", policy.as_ref()))?;
    }
    Ok(Action::requeue(Duration::from_secs(3600)))
}

/// Says that a Runbook was read.
pub async fn runbook(runbook: Arc<Runbook>, ctx: Shared) -> Result<Action, Error> {
    let generation = runbook.meta().generation.unwrap_or(0);
    let mut status = runbook.status.clone().unwrap_or_default();
    ready(&mut status.conditions, None, generation);
    let next = RunbookStatus { observed_generation: generation, ..status };
    if runbook.status.as_ref() != Some(&next) {
        tracing::info!(runbook = %runbook.name_any(), "runbook read");
        ctx.merge_status(runbook.as_ref(), &next).await.inspect_err(|error| error.log("Runbook", runbook.as_ref()))?;
    }
    Ok(Action::requeue(Duration::from_secs(3600)))
}

fn ready(list: &mut Vec<Condition>, error: Option<&str>, generation: i64) {
    let (reason, message) = match error {
        None => ("Compiled", ""),
        Some(error) => ("DoesNotCompile", error),
    };
    conditions::set(list, "Ready", error.is_none(), reason, message, generation, clock::now());
}
