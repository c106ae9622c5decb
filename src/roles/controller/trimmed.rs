//! What the caches keep of what people declare: whoever may write in one namespace chooses how many objects there are and how
//! large they are, and the memory is everybody's.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use crate::api::v1alpha1::{MatchConstraints, ModelChain, ModelChainStatus, Policy, PolicyException, Runbook};

/// Drops what a decision reads by quorum: a namespace may have a hundred Policies of a hundred kilobytes, and nobody counts
/// them before they are cached. Of a selector stays that there is one, so that nothing that is asked of the cache, without
/// the labels of a target, can be sure that the Policy is not for it.
pub fn policy(policy: &mut Policy) {
    let spec = &mut policy.spec;
    spec.match_conditions.clear();
    spec.variables.clear();
    spec.validations.clear();
    spec.windows.clear();
    spec.protected = None;
    if let Some(selector) = &mut spec.match_constraints.object_selector {
        *selector = LabelSelector::default();
    }
    metadata(&mut policy.metadata);
}

/// The same of a Runbook: its texts for people stay.
pub fn runbook(runbook: &mut Runbook) {
    let spec = &mut runbook.spec;
    spec.match_conditions.clear();
    spec.variables.clear();
    spec.validations.clear();
    metadata(&mut runbook.metadata);
}

/// Of an exception only that it is there stays: it lifts nothing. Who asks what one says reads it.
pub fn exception(exception: &mut PolicyException) {
    let spec = &mut exception.spec;
    spec.reason.clear();
    spec.policies.clear();
    spec.lifts.clear();
    spec.match_constraints = MatchConstraints::default();
    spec.namespaces.clear();
    exception.status = None;
    metadata(&mut exception.metadata);
}

/// Keeps of the status, which the investigator writes all the time, what people are told.
pub fn chain(chain: &mut ModelChain) {
    let changes = chain.status.take().map(|status| status.changes).unwrap_or_default();
    chain.status = Some(ModelChainStatus { changes, ..ModelChainStatus::default() });
    metadata(&mut chain.metadata);
}

/// Drops what nobody asks of the metadata, of which others decide how much there is.
fn metadata(metadata: &mut ObjectMeta) {
    metadata.managed_fields = None;
    metadata.annotations = None;
    metadata.labels = None;
    metadata.owner_references = None;
    metadata.finalizers = None;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;
    use crate::{
        api::v1alpha1::PolicyExceptionSpec,
        core::policy::{self, CompiledPolicy, Match},
    };

    /// A selector as large as the API server took one before it had a bound.
    fn huge() -> Value {
        let labels: BTreeMap<String, String> = (0..20_000).map(|n| (format!("label-{n}"), "v".repeat(60))).collect();
        json!({"matchLabels": labels, "matchExpressions": [{"key": "a", "operator": "In", "values": vec!["v"; 1000]}]})
    }

    fn crowded() -> ObjectMeta {
        let many: BTreeMap<String, String> = (0..10_000).map(|n| (format!("l{n}"), String::new())).collect();
        ObjectMeta {
            name: Some("p".into()),
            labels: Some(many.clone()),
            annotations: Some(many),
            finalizers: Some(vec!["a/b".into(); 1000]),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn a_policy_is_kept_without_what_its_author_can_fill_and_may_still_be_for_every_target() {
        let spec = json!({"mode": "approve", "matchConstraints": {"objectSelector": huge()},
            "protected": {"namespaces": ["x"], "objectSelector": huge()}});
        let mut cached = Policy::new("p", serde_json::from_value(spec).unwrap());
        cached.metadata = crowded();
        policy(&mut cached);
        assert!(json!(cached).to_string().len() < 1000, "{}", json!(cached));
        let compiled = CompiledPolicy::of(&cached);
        assert_eq!(
            compiled.matches(Some("Deployment"), None),
            Match::Maybe,
            "nobody may be sure that it is not for it"
        );
        assert_eq!(compiled.error(), None, "what was dropped is not what is wrong with it");
    }

    #[test]
    fn a_policy_without_a_selector_is_for_every_target_as_before() {
        let mut cached = Policy::new("p", serde_json::from_value(json!({"mode": "approve"})).unwrap());
        policy(&mut cached);
        assert_eq!(CompiledPolicy::of(&cached).matches(Some("Deployment"), None), Match::Yes);
    }

    #[test]
    fn an_exception_is_kept_without_what_its_author_can_fill_and_lifts_nothing() {
        let spec = json!({"reason": "r".repeat(500), "expiresAt": "2030-01-01T00:00:00Z", "lifts": ["Limits"],
            "policies": vec![json!({"name": "p".repeat(253)}); 16], "matchConstraints": {"objectSelector": huge()}});
        let mut cached = PolicyException::new("p", serde_json::from_value(spec).unwrap());
        cached.metadata = crowded();
        exception(&mut cached);
        assert!(json!(cached).to_string().len() < 1000, "{}", json!(cached));
        let PolicyExceptionSpec { policies, lifts, .. } = &cached.spec;
        assert!(policies.is_empty() && lifts.is_empty());
        assert!(policy::why_not(&cached, "2027-01-01T00:00:00Z".parse().unwrap()).is_some());
    }
}
