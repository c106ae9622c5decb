//! Writes to the status of each Policy, Runbook and PolicyException whether it is in force.

use std::sync::Arc;
use std::time::Duration;

use kube::{Resource as _, ResourceExt as _, api::ListParams, runtime::controller::Action};

use crate::api::v1alpha1::{
    Condition, Policy, PolicyException, PolicyExceptionStatus, PolicyStatus, Runbook, RunbookStatus, Time,
};
use crate::clock;
use crate::cluster::{self, Lean};
use crate::core::{
    cel::EXPRESSION_UNITS,
    conditions,
    policy::{self, CompiledPolicy, CompiledRunbook, Denial, MAX_EXCEPTIONS, MAX_POLICIES, MAX_RUNBOOKS},
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
    let compiled = if crowded {
        CompiledPolicy::too_many(&namespace)
    } else {
        ctx.compiled.one(policy.clone()).await.map_err(Error::from).inspect_err(|error| error.log("Policy", &policy))?
    };
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

/// Says whether a Runbook is in force. What it says in CEL and does not compile denies.
pub async fn runbook(runbook: Arc<Runbook>, ctx: Shared) -> Result<Action, Error> {
    let namespace = runbook.namespace();
    let count = ctx.runbooks.state().iter().filter(|other| other.namespace() == namespace).count();
    // The cache holds no rules.
    let api: kube::Api<Runbook> = ctx.api(namespace.as_deref().unwrap_or_default());
    let read = call("read Runbook", api.get_opt(&runbook.name_any())).await;
    let Some(runbook) = read.inspect_err(|error| error.log("Runbook", runbook.as_ref()))? else {
        return Ok(Action::await_change());
    };
    let of = runbook.namespace().unwrap_or_default();
    let compiled = ctx.compiled.runbooks(&of, std::slice::from_ref(&runbook)).await;
    let compiled =
        compiled.map_err(Error::from).inspect_err(|error| error.log("Runbook", &runbook))?.into_values().next();
    let compiled = compiled.unwrap_or_else(|| CompiledRunbook::of(&runbook));
    let generation = runbook.meta().generation.unwrap_or(0);
    let mut status = runbook.status.clone().unwrap_or_default();
    runbook_ready(&mut status.conditions, &compiled, count, generation, clock::now());
    let next = RunbookStatus { observed_generation: generation, ..status };
    if runbook.status.as_ref() != Some(&next) {
        let reason = compiled.program().err().map(|denial| denial.reason.as_str());
        tracing::info!(runbook = %runbook.name_any(), reason, "runbook read");
        ctx.merge_status(&runbook, &next).await.inspect_err(|error| error.log("Runbook", &runbook))?;
    }
    Ok(Action::requeue(if count > MAX_RUNBOOKS { CROWDED } else { AGAIN }))
}

/// Says whether a PolicyException is in force.
pub async fn exception(exception: Arc<PolicyException>, ctx: Shared) -> Result<Action, Error> {
    let namespace = exception.namespace();
    let count = ctx.exceptions.state().iter().filter(|other| other.namespace() == namespace).count();
    // The cache holds nothing of what it says.
    let read = read_exception(&ctx, exception.as_ref()).await;
    let Some(exception) = read.inspect_err(|error| error.log("PolicyException", exception.as_ref()))? else {
        return Ok(Action::await_change());
    };
    let (generation, now) = (exception.meta().generation.unwrap_or(0), clock::now());
    let mut status = exception.status.clone().unwrap_or_default();
    exception_ready(&mut status.conditions, &exception, count, generation, now);
    let next = PolicyExceptionStatus { observed_generation: generation, ..status };
    if exception.status.as_ref() != Some(&next) {
        tracing::info!(exception = %policy::exception_name(&exception), "policy exception read");
        ctx.merge_status(&exception, &next).await.inspect_err(|error| error.log("PolicyException", &exception))?;
    }
    let left = Duration::try_from(exception.spec.expires_at.duration_since(now)).unwrap_or(AGAIN);
    Ok(Action::requeue(left.clamp(Duration::from_secs(1), if count > MAX_EXCEPTIONS { CROWDED } else { AGAIN })))
}

/// By a list of one: the right is to list them.
async fn read_exception(ctx: &Context, cached: &PolicyException) -> Result<Option<PolicyException>, Error> {
    let api: kube::Api<Lean<PolicyException>> = ctx.api(&cached.namespace().unwrap_or_default());
    let only = ListParams::default().fields(&format!("metadata.name={}", cached.name_any())).limit(1);
    let page = call("read PolicyException", cluster::page_of(&api, only, None)).await?;
    // One that cannot be decoded is told so by the watch.
    Ok(page.items.into_iter().next().and_then(Result::ok))
}

fn exception_ready(list: &mut Vec<Condition>, exception: &PolicyException, count: usize, generation: i64, now: Time) {
    let why = match policy::why_not(exception, now) {
        None if count > MAX_EXCEPTIONS => {
            let message =
                format!("the namespace has {count}, at most {MAX_EXCEPTIONS} are looked at: none lifts anything");
            Some(("TooManyExceptions", message))
        }
        why => why,
    };
    match why {
        None => {
            let message = format!("in force until {}", exception.spec.expires_at);
            conditions::set(list, "Ready", true, "InForce", &message, generation, now);
        }
        Some((reason, message)) => conditions::set(list, "Ready", false, reason, &message, generation, now),
    }
}

fn policy_ready(list: &mut Vec<Condition>, compiled: &CompiledPolicy, generation: i64, now: Time) {
    let (reason, message) = outcome(compiled.error(), compiled.cost());
    conditions::set(list, "Ready", compiled.error().is_none(), reason, &message, generation, now);
}

fn runbook_ready(list: &mut Vec<Condition>, compiled: &CompiledRunbook, count: usize, generation: i64, now: Time) {
    if count > MAX_RUNBOOKS {
        let message = format!(
            "the namespace has {count} Runbooks, at most {MAX_RUNBOOKS} are looked at, so nothing is done in it; merge or delete some"
        );
        return conditions::set(list, "Ready", false, "TooManyRunbooks", &message, generation, now);
    }
    let error = compiled.program().err();
    let (reason, message) = outcome(error.as_ref(), compiled.cost());
    conditions::set(list, "Ready", error.is_none(), reason, &message, generation, now);
}

/// Reason and message of the condition.
fn outcome(error: Option<&Denial>, cost: Option<u64>) -> (&'static str, String) {
    match error {
        None => {
            let cost = cost.unwrap_or_default();
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
        assert!(message.contains("validations[0].messageExpression, line 1, column 4"), "{message}");
        let Condition { message, .. } =
            condition(json!({"expression": "target.replicas < 3 &&\n  target.replcas > 1"}));
        assert!(message.contains("validations[0].expression, line 2, column 10: `target` has no field"), "{message}");
    }

    #[test]
    fn a_runbook_that_is_no_cel_says_where() {
        let spec = json!({"summary": "s", "match": {}, "matchConditions": [{"name": "a", "expression": "nobody"}]});
        let mut runbook = Runbook::new("r", serde_json::from_value(spec).unwrap());
        runbook.metadata.namespace = Some("shop".into());
        let mut list = vec![];
        runbook_ready(&mut list, &CompiledRunbook::of(&runbook), 1, 1, Time::UNIX_EPOCH);
        assert_eq!((list[0].status.as_str(), list[0].reason.as_str()), ("False", "DoesNotCompile"));
        let said = "Runbook shop/r does not compile and so denies: matchConditions[0].expression, line 1, column 1";
        assert!(list[0].message.contains(said), "{}", list[0].message);
    }

    #[test]
    fn an_exception_says_until_when_it_is_in_force_and_why_it_is_not() {
        let at = |second: i64| Time::from_second(1_800_000_000 + second).unwrap();
        let spec =
            json!({"reason": "r", "expiresAt": at(60).to_string(), "policies": [{"name": "p"}], "lifts": ["Limits"]});
        let mut exception = PolicyException::new("e", serde_json::from_value(spec).unwrap());
        exception.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(0)));
        let ready = |count, now| {
            let mut list = vec![];
            exception_ready(&mut list, &exception, count, 1, now);
            (list[0].status.clone(), list[0].reason.clone())
        };
        let is = |status: &str, reason: &str| (status.to_owned(), reason.to_owned());
        assert_eq!(ready(1, at(59)), is("True", "InForce"));
        assert_eq!(ready(1, at(60)), is("False", "Expired"));
        assert_eq!(ready(101, at(59)), is("False", "TooManyExceptions"));
    }

    #[test]
    fn too_many_runbooks_are_told_by_their_number() {
        let mut list = vec![];
        let spec = json!({"summary": "s", "match": {}});
        let compiled = CompiledRunbook::of(&Runbook::new("r", serde_json::from_value(spec).unwrap()));
        runbook_ready(&mut list, &compiled, 140, 1, Time::UNIX_EPOCH);
        assert_eq!(list[0].status, "False");
        assert!(list[0].message.contains("140 Runbooks"), "{}", list[0].message);
    }
}
