//! The variables of what people write in CEL, as a case has them. What stands here is listed in
//! [`example`](crate::core::policy::example) too, which authors are held to; a test keeps the two alike.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::api::v1alpha1::{Action, Fact, FactData, Lift, ObjectRef, PolicyException, SourceName, Time};
use crate::core::blast::{Blast, Loss, Share};
use crate::core::budget;
use crate::core::cel::{JUDGEMENT_UNITS, Meter, Variables};
use crate::core::policy::{CompiledPolicy, Denial, InForce, Lifted, Program, exception_name};
use crate::core::redact::quoted;
use crate::core::workload::Workload;

use super::case::{Case, MAX_ROUNDS, RunbookRule};
use super::observed::Observed;

/// The variable that is larger than all others.
const FACTS: &str = "facts";

/// Exceptions that a verdict names.
const MAX_NAMED: usize = 16;

/// Characters of an exception's reason that a verdict quotes.
const MAX_REASON: usize = 200;

/// A Policy that applies to an action, with what exceptions lift of it.
#[derive(Debug)]
pub struct Bound<'a> {
    /// The Policy.
    pub policy: &'a CompiledPolicy,
    /// What does not bind.
    pub lifted: Lifted<'a>,
}

/// The Policies and Runbooks that apply to an action, by their match conditions as well.
#[derive(Debug, Default)]
pub struct Asked<'a> {
    /// Policies. Where it cannot be told whether one applies, it is among them: what may forbid, forbids.
    pub policies: Vec<Bound<'a>>,
    /// Runbooks, in the same way.
    pub runbooks: Vec<&'a RunbookRule>,
    /// Why it could not be told of a Policy, and so it denies.
    pub unclear_policy: Option<Denial>,
    /// Why it could not be told of a Runbook, and so it denies.
    pub unclear_runbook: Option<Denial>,
    /// The variables; empty where nothing asks for any.
    pub variables: Variables,
    /// Units that exceptions and the match conditions of Policies, and those of Runbooks, have cost.
    spent: (u64, u64),
}

impl<'a> Asked<'a> {
    /// Of `policies`, which are for the target.
    pub(super) fn of(
        case: &Case<'a>,
        observed: &Observed<'_>,
        blast: Option<&Blast>,
        policies: &[&'a CompiledPolicy],
    ) -> Asked<'a> {
        let of_policies = policies.iter().filter_map(|policy| policy.program());
        let of_runbooks = case.rules.runbooks.iter().filter_map(|runbook| runbook.compiled.program().ok());
        let programs: Vec<&Program> = of_policies.chain(of_runbooks).filter(|program| !program.is_empty()).collect();
        let mut asked = Asked::default();
        if !programs.is_empty() {
            let asks = |variable: &str| programs.iter().any(|program| program.asks(variable));
            asked.variables = variables(case, observed, blast, asks);
        }
        let Workload { object, labels, .. } = observed.workload;
        let (mut meter, mut of_runbooks) = (Meter::new(JUDGEMENT_UNITS), Meter::new(JUDGEMENT_UNITS));
        let (exceptions, system) = (case.rules.exceptions, case.rules.system);
        let in_force = InForce::of(exceptions, object, labels, system, case.now, &mut meter);
        let bound = |policy: &&'a CompiledPolicy| Bound { policy, lifted: in_force.lift(policy) };
        for policy in policies {
            match policy.applies(&asked.variables, &mut meter) {
                Ok(true) => asked.policies.push(bound(policy)),
                Ok(false) => {}
                Err(denial) => {
                    asked.policies.push(bound(policy));
                    asked.unclear_policy.get_or_insert(denial);
                }
            }
        }
        for runbook in case.rules.runbooks {
            let applies = runbook.compiled.program().and_then(|it| it.applies(&asked.variables, &mut of_runbooks));
            match applies {
                Ok(true) => asked.runbooks.push(runbook),
                Ok(false) => {}
                Err(denial) => {
                    asked.runbooks.push(runbook);
                    asked.unclear_runbook.get_or_insert(denial);
                }
            }
        }
        asked.spent = (meter.spent(), of_runbooks.spent());
        asked
    }

    /// The Policies of which this part binds.
    pub(super) fn with(&self, part: Lift) -> impl Iterator<Item = &'a CompiledPolicy> {
        self.policies.iter().filter(move |bound| !bound.lifted.has(part)).map(|bound| bound.policy)
    }

    /// The exceptions that lift something, each once, in words.
    pub(super) fn exceptions(&self) -> String {
        let all = self.policies.iter().flat_map(|bound| bound.lifted.by());
        let key = |it: &'a PolicyException| (it.metadata.namespace.as_deref(), it.metadata.name.as_deref());
        let all: BTreeMap<_, &PolicyException> = all.map(|it| (key(it), *it)).collect();
        let word = |it: &PolicyException| format!("{} ({})", exception_name(it), quoted(&it.spec.reason, MAX_REASON));
        let named: Vec<String> = all.values().take(MAX_NAMED).map(|it| word(it)).collect();
        let more = match all.len().saturating_sub(MAX_NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        if named.is_empty() { String::new() } else { format!("; lifted in part by {}{more}", named.join(", ")) }
    }

    /// What is left for windows, limits and validations of all Policies: more of them must not buy more time.
    pub(super) fn meter_of_policies(&self) -> Meter {
        Meter::new(JUDGEMENT_UNITS - self.spent.0)
    }

    /// What is left for the validations of all Runbooks.
    pub(super) fn meter_of_runbooks(&self) -> Meter {
        Meter::new(JUDGEMENT_UNITS - self.spent.1)
    }
}

/// The variables that somebody `asks` for. A point in time that CEL cannot hold is left out, and whoever asks for it
/// fails.
fn variables(
    case: &Case<'_>,
    observed: &Observed<'_>,
    blast: Option<&Blast>,
    asks: impl Fn(&str) -> bool,
) -> Variables {
    let mut variables = Variables::of(&of(case, observed, blast, |variable| variable != FACTS && asks(variable)));
    if asks(FACTS) {
        // By far the largest: by way of JSON it would take twice as long.
        variables = variables.with(FACTS, &facts(case));
    }
    if asks("now") { variables.clone().with_time("now", case.now).unwrap_or(variables) } else { variables }
}

/// The same as JSON, but for `now`. What nobody asks for is not made: facts and templates are large.
pub(super) fn of(
    case: &Case<'_>,
    observed: &Observed<'_>,
    blast: Option<&Blast>,
    asks: impl Fn(&str) -> bool,
) -> Value {
    let Case { now, incident, rounds, alerts, belief, rules, books, .. } = case;
    let Workload { object, labels, annotations, state, .. } = observed.workload;
    let prediction = observed.prediction.as_ref().ok();
    let field = prediction.and_then(|it| it.write.field());
    let mut made = Map::new();
    let mut make = |name: &str, value: &dyn Fn() -> Value| {
        if asks(name) {
            made.insert(name.to_owned(), value());
        }
    };
    make("alert", &|| {
        json!({
            "name": alerts.names.first(), "names": alerts.names, "severity": alerts.severity,
            "startsAt": alerts.started_at, "firing": alerts.firing, "labels": alerts.labels,
        })
    });
    make("incident", &|| json!({"name": incident, "rounds": rounds, "alerts": alerts.names}));
    make("target", &|| {
        json!({
            "kind": object.kind, "namespace": object.namespace, "name": object.name,
            "labels": labels, "annotations": annotations,
            "replicas": state.desired, "ready": state.ready, "revision": state.revision.unwrap_or_default(),
        })
    });
    make("diagnosis", &|| {
        let Some(it) = belief.diagnosis else { return Value::Null };
        let claims = it.claims.iter().map(|claim| json!({"kind": claim.kind, "cites": claim.cites}));
        json!({
            "cause": it.cause, "confidence": it.confidence, "diagnoser": it.diagnoser, "hypothesis": it.hypothesis,
            "claims": claims.collect::<Vec<_>>(),
        })
    });
    make(FACTS, &|| json!(facts(case)));
    make("action", &|| {
        let fields: Vec<&str> = prediction.iter().flat_map(|it| &it.diff).map(|change| change.path.as_str()).collect();
        let mut action = observed.action.as_ref().map(parameters).unwrap_or_default();
        action.insert("kind".into(), observed.kind.as_str().into());
        action.insert("fields".into(), fields.into());
        Value::Object(action)
    });
    make("before", &|| field.map(|field| field.before.clone()).unwrap_or_default());
    make("after", &|| field.map(|field| field.after.clone()).unwrap_or_default());
    make("blast", &|| blast.map(reached).unwrap_or_default());
    make("budget", &|| {
        let spent = budget::spent(books.ledger, &object.namespace, &object.uid, *now);
        json!({
            "actionsInHour": spent.in_hour, "actionsInHourOfCluster": spent.in_hour_of_cluster,
            "actionsOfTargetInDay": spent.of_target_in_day,
            "maxInHour": books.budgets.actions_per_namespace_per_hour,
            "maxInHourOfCluster": books.budgets.actions_per_hour, "maxRounds": MAX_ROUNDS,
        })
    });
    make("namespaceObject", &|| json!({"name": object.namespace, "mode": rules.namespace_mode.unwrap_or_default()}));
    Value::Object(made)
}

fn reached(blast: &Blast) -> Value {
    let Blast { pods, at_once, services, headroom, dependents, of_namespace, of_cluster } = blast;
    let services = services
        .iter()
        .map(|loss| json!({"name": loss.service, "ready": loss.ready, "lost": loss.lost, "percent": loss.percent()}));
    let share = |share: Share| json!({"touched": share.touched, "of": share.of, "percent": share.percent()});
    json!({
        "pods": pods, "atOnce": at_once, "services": services.collect::<Vec<_>>(),
        "percent": blast.worst().map_or(0, Loss::percent), "toZero": blast.to_zero().is_some(),
        "headroom": headroom, "dependents": dependents,
        "namespace": share(*of_namespace), "cluster": share(*of_cluster),
    })
}

/// A fact without its text: what people or senders wrote stands in it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Seen<'a> {
    id: &'a str,
    source: SourceName,
    object: &'a ObjectRef,
    seen_at: Time,
    data: &'a FactData,
}

fn facts<'a>(case: &Case<'a>) -> Vec<Seen<'a>> {
    let seen = |fact: &'a Fact| {
        let Fact { id, source, object, seen_at, data, text: _ } = fact;
        Seen { id, source: *source, object, seen_at: *seen_at, data }
    };
    case.belief.facts.iter().map(seen).collect()
}

/// The parameters of an action by their names. A rule that asks for one that the action does not have fails, and so
/// denies.
fn parameters(action: &Action) -> Map<String, Value> {
    let value = serde_json::to_value(action).unwrap_or_default();
    value.as_object().and_then(|kinds| kinds.values().next()?.as_object().cloned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::observe;
    use super::super::testing::{GateFixture, bad_rollout};
    use super::*;
    use crate::core::policy::example;

    fn keys(value: &Value) -> Vec<String> {
        value.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect()
    }

    fn made(world: &GateFixture) -> Value {
        let case = world.case();
        let action = world.diagnosis.as_ref().and_then(|it| it.proposal.as_ref()).map(|it| it.action.clone());
        let observed = observe(&world.reading, action, None, crate::core::actions::of);
        of(&case, &observed, Some(&Blast::default()), |_| true)
    }

    #[test]
    fn the_example_that_authors_are_held_to_has_exactly_the_variables_that_there_are() {
        let (made, mut example) = (made(&bad_rollout()), example());
        example.as_object_mut().unwrap().remove("now");
        assert_eq!(keys(&made), keys(&example));
        for open in ["before", "after"] {
            assert!(made[open].is_object());
        }
        for variable in ["alert", "incident", "target", "diagnosis", "action", "blast", "budget", "namespaceObject"] {
            assert_eq!(keys(&made[variable]), keys(&example[variable]), "{variable}");
        }
        assert_eq!(keys(&made["facts"][0]), keys(&example["facts"][0]));
        assert_eq!(keys(&made["facts"][0]["object"]).len(), 5, "with its UID");
    }

    #[test]
    fn facts_are_the_same_whether_they_go_by_way_of_json_or_not() {
        let mut world = bad_rollout();
        let raw = crate::api::v1alpha1::MetricFact::default();
        world.facts.push(super::super::testing::fact("f4", world.facts[0].object.clone(), FactData::Metric(raw)));
        let facts = facts(&world.case()).len();
        assert_eq!(facts, 4);
        let straight = Variables::default().with(FACTS, &super::facts(&world.case()));
        assert_eq!(straight, Variables::of(&json!({ FACTS: super::facts(&world.case()) })));
    }

    #[test]
    fn a_variable_is_made_only_where_somebody_asks_for_it() {
        let world = bad_rollout();
        let observed = observe(&world.reading, None, None, crate::core::actions::of);
        assert_eq!(of(&world.case(), &observed, None, |_| false), json!({}));
        let facts = of(&world.case(), &observed, None, |name| name == "facts");
        assert_eq!(keys(&facts), ["facts"]);
        assert_eq!(facts["facts"].as_array().unwrap().len(), 3);
    }
}
