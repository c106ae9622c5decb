//! The chain of diagnosers: what a `ModelChain` says once it is validated ([`spec`], [`validate`]), which one an incident
//! asks ([`choose`]), what its status says ([`status`]), and the names that a plan shows and an Investigation asks. How a
//! model is asked: what is seen of a failed call ([`signal`]), what it means ([`failure`]) and what it asks for
//! ([`decision`]), whether it was the model that was asked ([`served`]), what is known of the upstreams ([`fleet`]: their
//! [`health`] and [`breaker`]; who is told of its [`changes`]), the time that there is ([`deadline`]), and one request over
//! the upstreams of a rung ([`call`]).

pub mod breaker;
pub mod call;
pub mod changes;
pub mod choose;
pub mod deadline;
pub mod decision;
pub mod failure;
#[cfg(test)]
pub mod fixtures;
pub mod fleet;
pub mod health;
pub mod moment;
pub mod retry_after;
pub mod served;
pub mod signal;
pub mod spec;
pub mod status;
pub mod validate;

use super::rules;

/// Rungs before the rules that are asked at most.
pub const MAX_RUNGS: usize = 15;

/// The chain: the configured rungs in their order, then the rules, which always answer.
pub fn names(configured: &[String]) -> Vec<String> {
    let models = configured.iter().filter(|name| *name != rules::NAME).take(MAX_RUNGS).cloned();
    models.chain([rules::NAME.to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_are_the_last_rung_whatever_is_configured() {
        assert_eq!(names(&[]), ["rules"]);
        assert_eq!(names(&["rules".into(), "big".into()]), ["big", "rules"]);
        let many: Vec<String> = (0..40).map(|number| format!("model-{number}")).collect();
        assert_eq!(names(&many).len(), MAX_RUNGS + 1);
        assert_eq!(names(&many).last().map(String::as_str), Some("rules"));
    }
}
