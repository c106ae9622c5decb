//! The readiness self-test: each policy must refuse a dry-run that only it refuses, on each kind of target.

use serde_json::Value;

use super::{PolicyName, Probe, Request, Resource, Response, Verb, patch, refusal, step::armed_by};
use crate::core::{actions, object, workload::Kind};

/// One forbidden dry-run.
#[derive(Clone, Debug, PartialEq)]
pub struct SelfTest {
    /// Kind of the object that it is asked on.
    pub kind: Kind,
    /// Which policy it is for.
    pub probe: Probe,
    /// What is sent.
    pub request: Request,
}

/// The forbidden dry-runs on one object of `kind`, or none when there is nothing to try them on: then there is
/// nothing to write to either, and each target is tried by itself before it is armed.
pub fn self_tests(kind: Kind, workloads: &[Value]) -> Vec<SelfTest> {
    let usable = |object: &&Value| armed_by(object).is_none() && !object::is_ending(object);
    let Some(object) = workloads.iter().find(usable) else { return Vec::new() };
    let provenance = actions::all().any(|it| it.provenance && it.targets.contains(&kind));
    Probe::unarmed(provenance)
        .iter()
        .map(|probe| {
            let request = Request {
                verb: Verb::DryRunWrong(*probe),
                resource: Resource::Target(kind),
                namespace: object::meta(object, "namespace").to_owned(),
                name: object::meta(object, "name").to_owned(),
                dry_run: true,
                body: patch::probe(object, *probe),
            };
            SelfTest { kind, probe: *probe, request }
        })
        .collect()
}

/// Whether the answer to one of them shows that its policy is in force. The error is a sentence for people.
pub fn verdict(test: &SelfTest, outcome: &Response) -> Result<(), String> {
    let SelfTest { kind, probe, request } = test;
    let expected = probe.expected_words(*kind);
    let namespace = &request.namespace;
    match outcome {
        Response::Refused { policy: Some(policy), message } if probe.expected(*kind).contains(&policy.as_str()) => {
            if refusal::settling(message) {
                Err(format!("policy {policy} is not set up in the API server yet: {message}"))
            } else if policy == PolicyName::GRANT && refusal::no_params(message) {
                Err(format!("Grant active is missing in namespace {namespace}: the controller creates it, closed"))
            } else {
                Ok(())
            }
        }
        Response::Refused { policy: Some(policy), message } => Err(format!(
            "a forbidden dry-run on a {kind} ({}) in namespace {namespace} was refused by {policy} and not by \
             {expected}: {message}",
            probe.describe()
        )),
        Response::Refused { policy: None, message } => Err(format!(
            "a dry-run on a {kind} in namespace {namespace} was refused by something else than {expected}: {message}"
        )),
        Response::Done(_) => Err(format!(
            "a forbidden dry-run on a {kind} ({}) in namespace {namespace} was accepted: policy {expected} is missing \
             or altered; install the chart again",
            probe.describe()
        )),
        // It went away since it was listed: another one is taken next time.
        Response::NotFound | Response::Conflict => Err(format!("{kind} {} changed under the self-test", request.name)),
        Response::Unknown(message) | Response::BlockedByDisruptionBudget(message) => {
            Err(format!("the API server did not answer the self-test: {message}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tests() -> Vec<SelfTest> {
        let object = json!({"metadata": {"namespace": "shop", "name": "cart"}});
        Kind::ALL.into_iter().flat_map(|kind| self_tests(kind, std::slice::from_ref(&object))).collect()
    }

    fn refused(policy: &str, message: &str) -> Response {
        Response::Refused { policy: Some(policy.into()), message: message.into() }
    }

    #[test]
    fn each_policy_has_to_refuse_its_own_dry_run_on_each_kind() {
        let tests = tests();
        assert_eq!(tests.len(), 9);
        // With one list of each kind: what the pace of the self-test counts with.
        let requests = u32::try_from(tests.len() + Kind::ALL.len()).unwrap();
        assert_eq!(requests, crate::core::enrolment::SELF_TEST.requests);
        for test in tests {
            let own = test.probe.expected(test.kind)[0];
            assert_eq!(verdict(&test, &refused(own, "no")), Ok(()));
            assert!(verdict(&test, &refused("somebody-else", "no")).unwrap_err().contains(own));
            let missing = verdict(&test, &Response::Done(json!({}))).unwrap_err();
            assert!(missing.contains(own) && missing.contains("missing"), "{missing}");
        }
    }

    #[test]
    fn the_policy_that_compares_with_revisions_has_its_name_from_the_kind_of_revision() {
        let of = |kind| Probe::Provenance.expected(kind)[0];
        assert_eq!(of(Kind::Deployment), "backstop-provenance");
        assert_eq!(of(Kind::StatefulSet), "backstop-provenance-controllerrevisions");
        assert_eq!(of(Kind::DaemonSet), "backstop-provenance-controllerrevisions");
    }

    #[test]
    fn an_unreachable_api_server_is_not_a_pass() {
        for test in tests() {
            assert!(verdict(&test, &Response::Unknown("timeout".into())).is_err());
        }
    }

    #[test]
    fn a_missing_grant_is_named_and_a_missing_mark_is_the_normal_state() {
        let no_params = "failed to configure binding: no params found for policy binding with `Deny`";
        for test in tests() {
            let answer = verdict(&test, &refused(test.probe.expected(test.kind)[0], no_params));
            match test.probe {
                Probe::Grant => assert!(answer.unwrap_err().contains("Grant")),
                Probe::Provenance => assert_eq!(answer, Ok(())),
                _ => {}
            }
        }
    }

    #[test]
    fn every_self_test_is_a_dry_run_on_an_object_that_is_not_armed() {
        let armed = json!({"metadata": {"namespace": "shop", "name": "a", "labels": {"backstop.dev/armed": "x"}}});
        let free = json!({"metadata": {"namespace": "shop", "name": "b"}});
        let all = self_tests(Kind::DaemonSet, &[armed.clone(), free]);
        assert_eq!(all.len(), 3);
        assert!(all.iter().all(|test| test.request.dry_run && test.request.name == "b"));
        assert!(self_tests(Kind::DaemonSet, &[armed]).is_empty());
    }
}
