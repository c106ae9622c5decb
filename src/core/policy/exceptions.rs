//! PolicyExceptions: what one lifts of which Policy for which target, and when it lifts nothing.
//!
//! An exception lifts parts of Policies that it names and no others: of several Policies the strictest that is left counts.
//! The mode, what is protected and the approvals that are asked for cannot be lifted, so that the executor, which asks these
//! itself, need not know of exceptions; neither can what does not compile, budgets of the installation, or any other check.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;

use crate::api::v1alpha1::{Lift, MatchConstraints, ObjectRef, PolicyException, PolicyExceptionSpec, PolicyRef, Time};
use crate::core::cel::Meter;

use super::compiled::CompiledPolicy;
use super::constraints::{self, Match};
use super::denial::{Finding, full_name};

/// How long an exception may last.
pub const LONGEST: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Exceptions of one namespace at most. Where there are more, none of them lifts anything.
pub const MAX_EXCEPTIONS: usize = 100;

/// The exceptions that are in force for one target, by the Policies that they name.
#[derive(Clone, Debug, Default)]
pub struct InForce<'a> {
    /// By namespace and name of the Policy.
    by_policy: BTreeMap<(&'a str, &'a str), Vec<&'a PolicyException>>,
}

/// What exceptions lift of one Policy for one target.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lifted<'a> {
    parts: BTreeSet<Lift>,
    /// The exceptions, each with its reason.
    by: Vec<&'a PolicyException>,
}

impl<'a> InForce<'a> {
    /// Those of `exceptions` that are in force now for a target with these labels. `system` is the system namespace. Each
    /// is looked at once, however many Policies there are. `meter` counts what all that Policies say of one decision costs;
    /// where it has not enough units left, no exception lifts anything.
    pub fn of(
        exceptions: &'a [PolicyException],
        target: &ObjectRef,
        labels: &BTreeMap<String, String>,
        system: &str,
        now: Time,
        meter: &mut Meter,
    ) -> InForce<'a> {
        let mut in_force = InForce::default();
        for exception in exceptions {
            if meter.charge(cost(exception)).is_err() {
                return InForce::default();
            }
            if why_not(exception, now).is_some() || !concerns(exception, target, labels) {
                continue;
            }
            let home = exception.metadata.namespace.as_deref().unwrap_or_default();
            // Whoever may write in a namespace lifts what was written there, and nothing of the platform.
            let may = |namespace: &str| home == system || (namespace == home && target.namespace == home);
            let named = exception.spec.policies.iter().map(|PolicyRef { namespace, name }| {
                (if namespace.is_empty() { home } else { namespace.as_str() }, name.as_str())
            });
            // One that names a Policy twice lifts no more of it.
            let named: BTreeSet<(&str, &str)> = named.filter(|(namespace, _)| may(namespace)).collect();
            for policy in named {
                in_force.by_policy.entry(policy).or_default().push(exception);
            }
        }
        in_force
    }

    /// What they lift of `policy`.
    pub fn lift(&self, policy: &CompiledPolicy) -> Lifted<'a> {
        let by = policy.name.split_once('/').and_then(|named| self.by_policy.get(&named)).cloned().unwrap_or_default();
        Lifted { parts: by.iter().flat_map(|exception| exception.spec.lifts.iter().copied()).collect(), by }
    }
}

impl<'a> Lifted<'a> {
    /// Whether this part does not bind.
    pub fn has(&self, part: Lift) -> bool {
        self.parts.contains(&part)
    }

    /// The exceptions.
    pub fn by(&self) -> &[&'a PolicyException] {
        &self.by
    }
}

/// What it costs to look at an exception, in units: each of its parts is looked at about once.
fn cost(exception: &PolicyException) -> u64 {
    let PolicyExceptionSpec { policies, match_constraints, namespaces, reason: _, expires_at: _, lifts } =
        &exception.spec;
    let MatchConstraints { kinds, object_selector } = match_constraints;
    let parts = object_selector.as_ref().map_or(0, constraints::parts);
    8 + (parts + kinds.len() + namespaces.len() + 4 * policies.len() + lifts.len()) as u64
}

/// Whether an exception is for this target.
fn concerns(exception: &PolicyException, target: &ObjectRef, labels: &BTreeMap<String, String>) -> bool {
    let PolicyExceptionSpec { match_constraints, namespaces, .. } = &exception.spec;
    (namespaces.is_empty() || namespaces.contains(&target.namespace))
        && constraints::applies(match_constraints, Some(&target.kind), Some(labels)) == Match::Yes
}

/// Why an exception lifts nothing now: a constant for its condition, and a sentence. `None`: it is in force.
pub fn why_not(exception: &PolicyException, now: Time) -> Option<(&'static str, String)> {
    let expires = exception.spec.expires_at;
    let longest = exception.metadata.creation_timestamp.as_ref().and_then(|made| made.0.checked_add(LONGEST).ok());
    match longest {
        _ if expires <= now => Some(("Expired", format!("it expired at {expires}"))),
        Some(longest) if expires > longest => {
            let message = format!("it may last for 30 days, until {longest}; create it anew when it is needed longer");
            Some(("TooLong", message))
        }
        // Nobody knows when it was made.
        None => Some(("TooLong", "it has no time of creation".into())),
        Some(_) => wrong(exception).next().map(|found| ("Invalid", found.to_string())),
    }
}

/// Everything that is wrong with an exception, in the order of its fields, but for times.
pub fn exception_findings(exception: &PolicyException) -> Vec<Finding> {
    wrong(exception).collect()
}

/// The same, found one by one.
fn wrong(exception: &PolicyException) -> impl Iterator<Item = Finding> {
    let selector = exception.spec.match_constraints.object_selector.as_ref();
    let no_reason = exception.spec.reason.trim().is_empty();
    let no_reason = no_reason.then(|| Finding::invalid("reason", "it has to say why"));
    constraints::findings("matchConstraints.objectSelector", selector).chain(no_reason)
}

/// The exceptions that are asked: all of them, but none of a namespace that has more than [`MAX_EXCEPTIONS`].
pub fn bounded_exceptions(exceptions: Vec<PolicyException>) -> Vec<PolicyException> {
    let mut counts: BTreeMap<Option<String>, usize> = BTreeMap::new();
    for exception in &exceptions {
        *counts.entry(exception.metadata.namespace.clone()).or_default() += 1;
    }
    let fits = |it: &PolicyException| counts.get(&it.metadata.namespace).is_some_and(|count| *count <= MAX_EXCEPTIONS);
    exceptions.into_iter().filter(fits).collect()
}

/// `namespace/name` of an exception.
pub fn exception_name(exception: &PolicyException) -> String {
    full_name(exception.metadata.namespace.as_deref(), exception.metadata.name.as_deref())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time as MetaTime;
    use serde_json::{Value, json};

    use super::*;
    use crate::api::v1alpha1::Policy;
    use crate::core::cel::JUDGEMENT_UNITS;

    const SYSTEM: &str = "system";

    fn at(second: i64) -> Time {
        Time::from_second(1_800_000_000 + second).unwrap()
    }

    /// An exception that was made at the fixed moment and expires an hour later.
    fn exception(namespace: &str, more: Value) -> PolicyException {
        let mut spec = json!({
            "reason": "a release", "expiresAt": at(3600).to_string(), "lifts": ["Windows"],
            "policies": [{"namespace": "shop", "name": "hours"}],
        });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let mut exception = PolicyException::new("e", serde_json::from_value(spec).unwrap());
        exception.metadata.namespace = Some(namespace.into());
        exception.metadata.creation_timestamp = Some(MetaTime(at(0)));
        exception
    }

    /// Whether it lifts the windows of a Policy of this name for Deployment `shop/api` at this time.
    fn lifts(exception: &PolicyException, policy: &str, now: i64) -> bool {
        let (namespace, name) = policy.split_once('/').unwrap();
        let mut object = Policy::new(name, serde_json::from_value(json!({"mode": "auto"})).unwrap());
        object.metadata.namespace = Some(namespace.into());
        let target = ObjectRef { kind: "Deployment".into(), namespace: "shop".into(), ..ObjectRef::default() };
        let labels = [("tier".to_owned(), "web".to_owned())].into();
        let policy = CompiledPolicy::of(&object);
        let exceptions = std::slice::from_ref(exception);
        let mut meter = Meter::new(JUDGEMENT_UNITS);
        let lifted = InForce::of(exceptions, &target, &labels, SYSTEM, at(now), &mut meter).lift(&policy);
        assert_eq!(lifted.has(Lift::Windows), !lifted.by().is_empty());
        assert!(!lifted.has(Lift::Limits), "only what is listed");
        lifted.has(Lift::Windows)
    }

    #[test]
    fn it_lifts_what_it_names_until_it_expires() {
        let it = exception("shop", json!({}));
        assert!(lifts(&it, "shop/hours", 3599));
        assert!(!lifts(&it, "shop/hours", 3600), "it expired");
        assert!(!lifts(&it, "shop/other", 0), "another Policy");
        assert!(lifts(&exception("shop", json!({"policies": [{"name": "hours"}]})), "shop/hours", 0));
    }

    #[test]
    fn a_tenant_lifts_its_own_policies_and_nothing_of_the_platform() {
        let of_platform = json!({"policies": [{"namespace": "system", "name": "hours"}]});
        assert!(!lifts(&exception("shop", of_platform.clone()), "system/hours", 0));
        assert!(lifts(&exception(SYSTEM, of_platform), "system/hours", 0));
        assert!(lifts(&exception(SYSTEM, json!({})), "shop/hours", 0));
        assert!(!lifts(&exception("bank", json!({})), "shop/hours", 0), "another tenant's");
        assert!(!lifts(&exception("bank", json!({"policies": [{"name": "hours"}]})), "bank/hours", 0), "elsewhere");
    }

    #[test]
    fn it_is_for_the_targets_that_it_says() {
        for (more, expected) in [
            (json!({"namespaces": ["shop"]}), true),
            (json!({"namespaces": ["bank"]}), false),
            (json!({"matchConstraints": {"kinds": ["Deployment"]}}), true),
            (json!({"matchConstraints": {"kinds": ["StatefulSet"]}}), false),
            (json!({"matchConstraints": {"objectSelector": {"matchLabels": {"tier": "web"}}}}), true),
            (json!({"matchConstraints": {"objectSelector": {"matchLabels": {"tier": "db"}}}}), false),
        ] {
            assert_eq!(lifts(&exception(SYSTEM, more.clone()), "shop/hours", 0), expected, "{more}");
        }
    }

    #[test]
    fn one_that_lasts_too_long_or_says_nothing_lifts_nothing_and_says_why() {
        let month = 30 * 24 * 3600;
        let until = |second: i64| exception("shop", json!({"expiresAt": at(second).to_string()}));
        assert_eq!(why_not(&until(month), at(0)), None);
        assert_eq!(why_not(&until(month + 1), at(0)).unwrap().0, "TooLong");
        assert_eq!(why_not(&exception("shop", json!({"reason": " "})), at(0)).unwrap().0, "Invalid");
        let wrong = json!({"matchExpressions": [{"key": "a", "operator": "Is"}]});
        let wrong = exception("shop", json!({"matchConstraints": {"objectSelector": wrong}}));
        assert_eq!(why_not(&wrong, at(0)).unwrap().0, "Invalid");
        assert!(!lifts(&wrong, "shop/hours", 0), "a selector that cannot be read chooses nothing here");
        let mut unborn = until(60);
        unborn.metadata.creation_timestamp = None;
        assert_eq!(why_not(&unborn, at(0)).unwrap().0, "TooLong");
    }

    #[test]
    fn what_an_exception_costs_is_bounded_whatever_its_selector_says() {
        let wrong: Vec<Value> = (0..30_000).map(|_| json!({"key": "a", "operator": "Is"})).collect();
        let selector = json!({"objectSelector": {"matchExpressions": wrong}});
        let it = exception("shop", json!({"matchConstraints": selector}));
        assert_eq!(
            why_not(&it, at(0)).unwrap().1,
            "matchConstraints.objectSelector: 30000 labels and values, at most 256"
        );
        let all = vec![it; MAX_EXCEPTIONS];
        let (target, labels, mut meter) = (ObjectRef::default(), BTreeMap::new(), Meter::new(JUDGEMENT_UNITS));
        let in_force = InForce::of(&all, &target, &labels, SYSTEM, at(0), &mut meter);
        assert!(in_force.by_policy.is_empty());
        assert!(meter.spent() >= 256 * 100 && meter.left() > JUDGEMENT_UNITS / 2, "{} units", meter.spent());
    }

    #[test]
    fn where_exceptions_cost_more_than_is_left_none_of_them_lifts_anything() {
        let all = vec![exception("shop", json!({})); 10];
        let target = ObjectRef { namespace: "shop".into(), ..ObjectRef::default() };
        let in_force =
            |units| InForce::of(&all, &target, &BTreeMap::new(), SYSTEM, at(0), &mut Meter::new(units)).by_policy.len();
        assert_eq!((in_force(1000), in_force(100)), (1, 0));
    }

    #[test]
    fn a_namespace_with_too_many_lifts_nothing() {
        let many = |count: usize| vec![exception("shop", json!({})); count];
        assert_eq!(bounded_exceptions(many(MAX_EXCEPTIONS)).len(), MAX_EXCEPTIONS);
        let mut all = many(MAX_EXCEPTIONS + 1);
        all.push(exception(SYSTEM, json!({})));
        assert_eq!(bounded_exceptions(all).len(), 1);
    }
}
