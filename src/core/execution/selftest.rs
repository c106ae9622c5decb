//! The readiness self-test: each policy must refuse a dry-run that only it refuses.

use serde_json::Value;

use super::{Outcome, PolicyName, Probe, Request, Resource, Verb, patch, refusal, step::armed_by};
use crate::core::object;

/// The three forbidden dry-runs on one Deployment, or none when there is nothing to try them on: then there is
/// nothing to write to either, and each target is tried by itself before it is armed.
pub fn self_tests(workloads: &[Value]) -> Vec<(Probe, Request)> {
    let usable = |object: &&Value| armed_by(object).is_none() && !object::is_ending(object);
    let Some(object) = workloads.iter().find(usable) else { return Vec::new() };
    Probe::UNARMED
        .into_iter()
        .map(|probe| {
            let request = Request {
                verb: Verb::DryRunWrong(probe),
                resource: Resource::Deployment,
                namespace: object::meta(object, "namespace").to_owned(),
                name: object::meta(object, "name").to_owned(),
                dry_run: true,
                patch: patch::probe(object, probe),
            };
            (probe, request)
        })
        .collect()
}

/// Whether the answer to one of them shows that its policy is in force. The error is a sentence for people.
pub fn verdict(probe: Probe, request: &Request, outcome: &Outcome) -> Result<(), String> {
    let expected = probe.expected().join(" or ");
    let namespace = &request.namespace;
    match outcome {
        Outcome::Refused { policy: Some(policy), message } if probe.expected().contains(&policy.as_str()) => {
            if refusal::settling(message) {
                Err(format!("policy {policy} is not set up in the API server yet: {message}"))
            } else if policy == PolicyName::GRANT && refusal::no_params(message) {
                Err(format!("Grant active is missing in namespace {namespace}: the controller creates it, closed"))
            } else {
                Ok(())
            }
        }
        Outcome::Refused { policy: Some(policy), message } => Err(format!(
            "a forbidden dry-run ({}) in namespace {namespace} was refused by {policy} and not by {expected}: {message}",
            probe.describe()
        )),
        Outcome::Refused { policy: None, message } => {
            Err(format!("a dry-run in namespace {namespace} was refused by something else than {expected}: {message}"))
        }
        Outcome::Done(_) => Err(format!(
            "a forbidden dry-run ({}) in namespace {namespace} was accepted: policy {expected} is missing or altered; \
             install the chart again",
            probe.describe()
        )),
        // It went away since it was listed: another one is taken next time.
        Outcome::NotFound | Outcome::Conflict => {
            Err(format!("Deployment {} changed under the self-test", request.name))
        }
        Outcome::Unknown(message) => Err(format!("the API server did not answer the self-test: {message}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tests() -> Vec<(Probe, Request)> {
        self_tests(&[json!({"metadata": {"namespace": "shop", "name": "cart"}})])
    }

    fn refused(policy: &str, message: &str) -> Outcome {
        Outcome::Refused { policy: Some(policy.into()), message: message.into() }
    }

    #[test]
    fn each_policy_has_to_refuse_its_own_dry_run() {
        for (probe, request) in tests() {
            let own = probe.expected()[0];
            assert_eq!(verdict(probe, &request, &refused(own, "no")), Ok(()));
            assert!(verdict(probe, &request, &refused("somebody-else", "no")).unwrap_err().contains(own));
            let missing = verdict(probe, &request, &Outcome::Done(json!({}))).unwrap_err();
            assert!(missing.contains(own) && missing.contains("missing"), "{missing}");
        }
    }

    #[test]
    fn an_unreachable_api_server_is_not_a_pass() {
        for (probe, request) in tests() {
            assert!(verdict(probe, &request, &Outcome::Unknown("timeout".into())).is_err());
        }
    }

    #[test]
    fn a_missing_grant_is_named_and_a_missing_mark_is_the_normal_state() {
        let no_params = "failed to configure binding: no params found for policy binding with `Deny`";
        let all = tests();
        assert!(verdict(all[1].0, &all[1].1, &refused("backstop-grant", no_params)).unwrap_err().contains("Grant"));
        assert_eq!(verdict(all[2].0, &all[2].1, &refused("backstop-provenance", no_params)), Ok(()));
    }

    #[test]
    fn every_self_test_is_a_dry_run_on_an_object_that_is_not_armed() {
        let armed = json!({"metadata": {"namespace": "shop", "name": "a", "labels": {"backstop.dev/armed": "x"}}});
        let free = json!({"metadata": {"namespace": "shop", "name": "b"}});
        let all = self_tests(&[armed.clone(), free]);
        assert_eq!(all.len(), 3);
        assert!(all.iter().all(|(_, request)| request.dry_run && request.name == "b"));
        assert!(self_tests(&[armed]).is_empty());
    }
}
