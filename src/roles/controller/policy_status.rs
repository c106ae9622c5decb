//! Writes to the status of each Policy and Runbook whether it is in force.

use std::sync::Arc;
use std::time::Duration;

use kube::{Resource as _, ResourceExt as _, runtime::controller::Action};

use crate::api::v1alpha1::{Condition, Policy, PolicyStatus, Runbook, RunbookStatus, Time};
use crate::clock;
use crate::core::{
    cel::EXPRESSION_UNITS,
    conditions,
    policy::{CompiledPolicy, Denial, MAX_POLICIES, MAX_RUNBOOKS},
    reason::Reason,
};

use super::context::{Context, Error, Shared, call};

/// How often a status is looked at again.
const AGAIN: Duration = Duration::from_secs(3600);
/// How often where a namespace has too many: deleting one changes what holds for the others.
const CROWDED: Duration = Duration::from_secs(60);

/// Says whether a Policy is in force. One that is not denies everything that it matches.
pub async fn policy(policy: Arc<Policy>, ctx: Shared) -> Result<Action, Error> {
    let namespace = policy.namespace().unwrap_or_default();
    let count = ctx.policies.state().iter().filter(|other| other.namespace().as_deref() == Some(&namespace)).count();
    // The cache holds no rules.
    let Some(policy) = read(&ctx, policy.as_ref()).await.inspect_err(|e| e.log("Policy", policy.as_ref()))? else {
        return Ok(Action::await_change());
    };
    let crowded = count > MAX_POLICIES;
    let compiled = if crowded { CompiledPolicy::too_many(&namespace) } else { ctx.compiled.one(policy.clone()).await };
    let generation = policy.meta().generation.unwrap_or(0);
    let mut status = policy.status.clone().unwrap_or_default();
    policy_ready(&mut status.conditions, &compiled, generation, clock::now());
    let next = PolicyStatus { observed_generation: generation, ..status };
    if policy.status.as_ref() != Some(&next) {
        let reason = compiled.error().map(|denial| denial.reason.as_str());
        tracing::info!(policy = %compiled.name, reason, "policy compiled");
        ctx.merge_status(&policy, &next).await.inspect_err(|error| error.log("Policy", &policy))?;
    }
    Ok(Action::requeue(if crowded { CROWDED } else { AGAIN }))
}

async fn read(ctx: &Context, cached: &Policy) -> Result<Option<Policy>, Error> {
    let api: kube::Api<Policy> = ctx.api(&cached.namespace().unwrap_or_default());
    call("read Policy", api.get_opt(&cached.name_any())).await
}

/// Says whether a Runbook is in force.
pub async fn runbook(runbook: Arc<Runbook>, ctx: Shared) -> Result<Action, Error> {
    let namespace = runbook.namespace();
    let count = ctx.runbooks.state().iter().filter(|other| other.namespace() == namespace).count();
    let generation = runbook.meta().generation.unwrap_or(0);
    let mut status = runbook.status.clone().unwrap_or_default();
    runbook_ready(&mut status.conditions, count, generation, clock::now());
    let next = RunbookStatus { observed_generation: generation, ..status };
    if runbook.status.as_ref() != Some(&next) {
        tracing::info!(runbook = %runbook.name_any(), "runbook read");
        ctx.merge_status(runbook.as_ref(), &next).await.inspect_err(|error| error.log("Runbook", runbook.as_ref()))?;
    }
    Ok(Action::requeue(if count > MAX_RUNBOOKS { CROWDED } else { AGAIN }))
}

fn policy_ready(list: &mut Vec<Condition>, compiled: &CompiledPolicy, generation: i64, now: Time) {
    let (reason, message) = match compiled.error() {
        None => {
            let cost = compiled.cost().unwrap_or_default();
            let message = match cost {
                0 => String::new(),
                cost => format!("its most expensive expression costs {cost} of {EXPRESSION_UNITS} units on an example"),
            };
            ("Compiled", message)
        }
        Some(Denial { reason, message }) => {
            let reason = match reason {
                Reason::PolicyTooExpensive => "TooExpensive",
                Reason::TooManyPolicies => "TooManyPolicies",
                _ => "DoesNotCompile",
            };
            (reason, message.clone())
        }
    };
    conditions::set(list, "Ready", compiled.error().is_none(), reason, &message, generation, now);
}

fn runbook_ready(list: &mut Vec<Condition>, count: usize, generation: i64, now: Time) {
    if count > MAX_RUNBOOKS {
        let message = format!(
            "the namespace has {count} Runbooks, at most {MAX_RUNBOOKS} are looked at, so nothing is done in it; merge or delete some"
        );
        conditions::set(list, "Ready", false, "TooManyRunbooks", &message, generation, now);
    } else {
        conditions::set(list, "Ready", true, "Compiled", "", generation, now);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn condition(validation: Value) -> Condition {
        let spec = json!({"mode": "auto", "validations": [validation]});
        let mut policy = Policy::new("p", serde_json::from_value(spec).unwrap());
        policy.metadata.namespace = Some("shop".into());
        let mut list = vec![];
        policy_ready(&mut list, &CompiledPolicy::of(&policy), 1, Time::UNIX_EPOCH);
        list.remove(0)
    }

    #[test]
    fn the_author_of_an_expensive_policy_is_told_what_it_costs_and_what_to_do() {
        let bomb = format!("size(['aaaaaaaa']{}[0]) > 0", ".map(a,a+a+a+a+a+a+a+a)".repeat(9));
        let Condition { status, reason, message, .. } = condition(json!({"expression": bomb}));
        assert_eq!((status.as_str(), reason.as_str()), ("False", "TooExpensive"));
        for part in ["Policy shop/p", "validations[0].expression", "more than 50000 units", "fewer"] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }

    #[test]
    fn a_policy_that_compiles_says_how_much_of_its_bound_it_uses() {
        let Condition { status, reason, message, .. } = condition(json!({"expression": "target.replicas < 3"}));
        assert_eq!((status.as_str(), reason.as_str()), ("True", "Compiled"));
        assert!(message.contains("of 50000 units"), "{message}");
    }

    #[test]
    fn one_that_is_no_cel_says_where() {
        let Condition { reason, message, .. } = condition(json!({"expression": "true", "messageExpression": "1 +"}));
        assert_eq!(reason, "DoesNotCompile");
        assert!(message.contains("validations[0].messageExpression"), "{message}");
    }

    #[test]
    fn too_many_runbooks_are_told_by_their_number() {
        let mut list = vec![];
        runbook_ready(&mut list, 140, 1, Time::UNIX_EPOCH);
        assert_eq!(list[0].status, "False");
        assert!(list[0].message.contains("140 Runbooks"), "{}", list[0].message);
    }
}
