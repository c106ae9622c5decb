//! What an error answer of the API server means.

use super::Response;

/// Reads the Status object of an error answer.
pub fn classify(code: u16, reason: &str, message: &str) -> Response {
    if let Some((policy, said)) = policy(message) {
        return Response::Refused { policy: Some(policy.to_owned()), message: said.to_owned() };
    }
    // A webhook chooses the status of its refusal, and one that cannot be asked is an error of the server. Either way
    // admission comes before anything is stored.
    if webhook(message) {
        return Response::Refused { policy: None, message: message.to_owned() };
    }
    // A pod under several budgets can never be evicted; the API server calls that an error of its own.
    if (code == 429 && message.contains("disruption budget")) || message.contains("more than one PodDisruptionBudget") {
        return Response::BlockedByDisruptionBudget(message.to_owned());
    }
    match code {
        404 => Response::NotFound,
        409 => Response::Conflict,
        // The patch does not fit the object any more (a label that it takes off is gone): read again.
        422 if message.contains("the server rejected our request") || message.contains("does not apply") => {
            Response::Conflict
        }
        // Overloaded, starting, stopping, or its keys for tokens not loaded: it may or may not have been written.
        401 | 408 | 429 | 500..=599 | 0 => Response::Unknown(format!("{code} {reason}: {message}")),
        _ => Response::Refused { policy: None, message: message.to_owned() },
    }
}

/// Name and sentence of the policy that refused.
fn policy(message: &str) -> Option<(&str, &str)> {
    let (_, rest) = message.split_once("ValidatingAdmissionPolicy '")?;
    let (name, rest) = rest.split_once('\'')?;
    let (_, said) = rest.split_once(" denied request: ")?;
    Some((name, said))
}

/// An admission webhook refused, or could not be asked.
pub(super) fn webhook(message: &str) -> bool {
    webhook_away(message)
        || message.contains("admission webhook \"")
            && [" denied the request", " does not support dry run"].iter().any(|said| message.contains(said))
}

/// A webhook that must be asked does not answer: it may be back in a moment.
pub(super) fn webhook_away(message: &str) -> bool {
    message.contains("failed calling webhook \"")
}

/// What policies of ours say when the object that they see is not the one that was to be written.
pub(super) const CONTENT: &[&str] = &[
    "neither arm, fire nor disarm",
    "on a revision (",
    "another label changes",
    "another annotation changes",
    "owners, finalizers or other metadata change",
    "managedFields names a writer or a time that was not there",
    "managedFields loses a writer",
    "an Eviction must carry",
    "an Eviction must name",
    "an Eviction may have",
    "another value is granted",
    "another action is granted",
    "the template is not that of ",
    "template labels differ from those of ",
    "template annotations differ from those of ",
    "template metadata differs from that of ",
];

/// A policy of ours refuses what the object holds, and not who writes it, when or where.
pub(super) fn about_content(message: &str) -> bool {
    CONTENT.iter().any(|sentence| message.starts_with(sentence))
}

/// The parameter of a policy is not there, as far as the API server knows.
pub(super) fn no_params(message: &str) -> bool {
    message.contains("no params found")
}

/// The API server just started or just got the policy, and has not set it up: it refuses until it has.
pub(super) fn settling(message: &str) -> bool {
    message.starts_with("failed to configure") && !no_params(message)
}

/// Rights and admission are not loaded yet, as for a moment after the API server started. Missing rights look the
/// same, and only last longer.
pub(super) fn starting(message: &str) -> bool {
    message.contains("is forbidden: User ") || message.contains("not yet ready to handle request")
}

/// The static policy speaks of the namespace's mode.
pub(super) fn mode_forbids(message: &str) -> bool {
    message.starts_with("mode of namespace ")
}

/// The resourceVersion of the Grant that the policy looked at.
pub(super) fn grant_seen(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("grant resourceVersion ")?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    Some(&rest[..end]).filter(|version| !version.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DENIED: &str = "deployments.apps \"api\" is forbidden: ValidatingAdmissionPolicy 'backstop-grant' with \
                          binding 'backstop-grant' denied request: not granted (grant resourceVersion 417)";

    #[test]
    fn a_refusal_names_its_policy_whatever_the_code() {
        for code in [403, 422] {
            assert_eq!(
                classify(code, "Invalid", DENIED),
                Response::Refused {
                    policy: Some("backstop-grant".into()),
                    message: "not granted (grant resourceVersion 417)".into()
                }
            );
        }
    }

    /// The words are those of staging/src/k8s.io/apiserver/pkg/admission/plugin/webhook/errors.
    #[test]
    fn a_webhook_that_refuses_is_a_refusal_whatever_status_it_chooses() {
        let denied = "admission webhook \"v.example.com\" denied the request: label team is missing";
        let silent = "admission webhook \"v.example.com\" denied the request without explanation";
        let dry = "admission webhook \"v.example.com\" does not support dry run";
        let away = "Internal error occurred: failed calling webhook \"v.example.com\": failed to call webhook: Post \
                    \"https://v.p.svc:443/\": context deadline exceeded";
        for said in [denied, silent, dry, away] {
            for code in [400, 403, 404, 409, 422, 429, 500, 503] {
                let expected = Response::Refused { policy: None, message: said.into() };
                assert_eq!(classify(code, "", said), expected, "{code} {said}");
            }
            assert!(webhook(said) && webhook_away(said) == (said == away));
        }
        assert!(!webhook("deployments.apps \"admission webhook\" not found"));
    }

    #[test]
    fn the_sentences_about_what_is_written_are_those_of_the_chart() {
        let chart = [
            include_str!("../../../helm/backstop/templates/admission/static.yaml"),
            include_str!("../../../helm/backstop/templates/admission/grant.yaml"),
            include_str!("../../../helm/backstop/templates/admission/provenance.yaml"),
        ]
        .concat();
        // The chart puts the kind of the revision into some of them.
        for sentence in CONTENT {
            assert!(chart.contains(sentence.trim_end()), "no policy says {sentence:?}");
        }
        for other in
            ["mode of namespace shop is observe", "not granted (", "the grant has expired (", "no params found"]
        {
            assert!(!about_content(other), "{other}");
        }
    }

    #[test]
    fn a_server_error_is_an_unknown_outcome() {
        for code in [500, 503, 504, 429] {
            assert!(matches!(classify(code, "", "etcdserver: request timed out"), Response::Unknown(_)));
        }
    }

    #[test]
    fn a_disruption_budget_without_room_is_not_an_overloaded_server() {
        let said = "Cannot evict pod as it would violate the pod's disruption budget.";
        assert_eq!(classify(429, "TooManyRequests", said), Response::BlockedByDisruptionBudget(said.into()));
        let said = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
        assert!(matches!(classify(500, "InternalError", said), Response::BlockedByDisruptionBudget(_)));
    }

    #[test]
    fn a_patch_that_no_longer_fits_is_a_conflict() {
        let message = "the server rejected our request due to an error in our request";
        assert_eq!(classify(422, "", message), Response::Conflict);
        assert_eq!(classify(409, "Conflict", ""), Response::Conflict);
    }

    #[test]
    fn missing_rights_are_a_refusal_without_a_policy() {
        assert!(matches!(classify(403, "Forbidden", "cannot patch"), Response::Refused { policy: None, .. }));
    }

    #[test]
    fn the_grant_that_a_policy_saw_is_read_from_its_sentence() {
        assert_eq!(grant_seen("not granted (grant resourceVersion 417)"), Some("417"));
        assert_eq!(grant_seen("not granted"), None);
    }
}
