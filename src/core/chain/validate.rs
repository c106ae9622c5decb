//! What a `ModelChain` says, checked: every reference resolved, every default filled in, every amount a number. What is
//! refused is named with its field and the reason, all of it at once.
//!
//! The schema of the CRD and its CEL rules refuse the same when the object is stored, as far as they can say it. Here
//! everything is checked again: a chain may come from a file, or from a time when the definition was another.

mod breaker;
mod finding;
mod names;
mod numbers;
mod upstream;
mod url;

#[cfg(test)]
mod tests;

use std::time::Duration;

use finding::Findings;
pub use finding::{Fault, Finding};
pub use url::is_internal;

use super::spec::{Caps, ProbeTerms, ValidChain, ValidRung};
use crate::api::v1alpha1::{Mode, ModelBudgets, ModelChain, ModelChainSpec, ModelProbe, ModelRung};
use crate::core::{gate, kube_name, money::NanoDollars, rules};

/// Rungs of a chain, and upstreams of a rung, at most.
const MOST: usize = 8;
/// Budgets where a chain names none.
const PER_INCIDENT: NanoDollars = NanoDollars(1_000_000_000);
const PER_NAMESPACE_PER_DAY: NanoDollars = NanoDollars(10_000_000_000);
const PER_DAY: NanoDollars = NanoDollars(50_000_000_000);
const PROBES_PER_DAY: NanoDollars = NanoDollars(1_000_000_000);
const REQUESTS_PER_MINUTE: u32 = 20;
/// What models may take of the time for which facts are fresh. The rest is for the sources, for writing what was found, and
/// for the controller's own reading.
const ROOM: Duration = Duration::from_secs(45);

/// A valid chain, and what about it is probably not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The chain.
    pub chain: ValidChain,
    /// What should be looked at. The chain is used all the same.
    pub warnings: Vec<Finding>,
}

/// Checks a `ModelChain` object.
///
/// # Errors
///
/// Everything that has to be changed before the chain can be used.
pub fn of(chain: &ModelChain) -> Result<Checked, Vec<Finding>> {
    let name = chain.metadata.name.as_deref().unwrap_or_default();
    validate(name, chain.metadata.generation.unwrap_or_default(), &chain.spec)
}

/// Checks the spec of the chain `name`.
///
/// # Errors
///
/// Everything that has to be changed before the chain can be used.
pub fn validate(name: &str, generation: i64, spec: &ModelChainSpec) -> Result<Checked, Vec<Finding>> {
    let mut found = Findings::default();
    let ModelChainSpec { rungs, deadline_seconds, budgets, probe, breaker, reviewer } = spec;
    if name == rules::NAME {
        found.refuse("metadata.name", Fault::Invalid, "`rules` is taken: it stands for asking no model");
    } else if !kube_name::is_subdomain(name) {
        found.refuse("metadata.name", Fault::Invalid, "it has to be a DNS name");
    }
    let deadline = numbers::range(&mut found, "spec.deadlineSeconds", *deadline_seconds, 5, 240);
    let deadline = Duration::from_secs(deadline.into());
    if deadline > ROOM {
        let message = format!(
            "the facts are gathered before models are asked, and after {} s no action rests on them: an answer that takes \
             longer than {} s leads to none by itself. The rules then decide on facts that are gathered again, and the \
             answer can only make a person decide",
            gate::FACTS_MAX_AGE.as_secs(),
            ROOM.as_secs()
        );
        found.warn("spec.deadlineSeconds", Fault::OutOfRange, message);
    }
    let caps = caps(&mut found, budgets);
    let probe = self::probe(&mut found, probe);
    let breaker = breaker::of(&mut found, breaker);
    numbers::count(&mut found, "spec.rungs", rungs.len(), MOST);
    names::unique(&mut found, rungs);
    let on_ungrounded = names::on_ungrounded(&mut found, rungs);
    let reviewer = names::reviewer(&mut found, rungs, reviewer.as_deref());
    let bounds = upstream::Bounds { deadline, per_incident: caps.per_incident };
    let rungs = rungs
        .iter()
        .zip(on_ungrounded)
        .enumerate()
        .map(|(index, (said, on_ungrounded))| rung(&mut found, index, said, on_ungrounded, bounds))
        .collect();
    let Findings { refused, warnings } = found;
    if !refused.is_empty() {
        return Err(refused);
    }
    let chain = ValidChain { name: name.to_owned(), generation, rungs, deadline, caps, probe, breaker, reviewer };
    Ok(Checked { chain, warnings })
}

fn rung(
    found: &mut Findings,
    index: usize,
    said: &ModelRung,
    on_ungrounded: Option<usize>,
    bounds: upstream::Bounds,
) -> ValidRung {
    let ModelRung { name, model, ceiling, on_ungrounded: _, max_output_tokens, upstreams } = said;
    let at = format!("spec.rungs[{index}]");
    names::model(found, &format!("{at}.model"), model, 128);
    if *ceiling == Mode::Auto {
        let message = "a model's answer alone is no ground for `auto`; the highest ceiling is `approve`. What the \
                       rules confirm may be done in the namespace's own mode";
        found.refuse(format!("{at}.ceiling"), Fault::OutOfRange, message);
    }
    let max_output_tokens = numbers::range(found, &format!("{at}.maxOutputTokens"), *max_output_tokens, 64, 32_000);
    numbers::count(found, &format!("{at}.upstreams"), upstreams.len(), MOST);
    if upstreams.len() > 1 && upstreams.iter().all(|upstream| upstream.weight == 0) {
        let message =
            "every weight is 0, so all upstreams count alike; 0 is for one that is asked only when no other is left";
        found.warn(format!("{at}.upstreams"), Fault::Invalid, message);
    }
    let terms = upstream::Terms { bounds, max_output_tokens, model };
    let upstreams = upstreams
        .iter()
        .enumerate()
        .map(|(number, said)| upstream::of(found, &format!("{at}.upstreams[{number}]"), said, terms))
        .collect();
    ValidRung {
        name: name.clone(),
        model: model.clone(),
        ceiling: (*ceiling).min(Mode::Approve),
        on_ungrounded,
        max_output_tokens,
        upstreams,
    }
}

fn caps(found: &mut Findings, said: &ModelBudgets) -> Caps {
    let ModelBudgets { per_incident, per_namespace_per_day, per_day, requests_per_minute } = said;
    let at = |field: &str| format!("spec.budgets.{field}");
    let caps = Caps {
        per_incident: numbers::budget(found, &at("perIncident"), per_incident.as_deref(), PER_INCIDENT),
        per_namespace_per_day: numbers::budget(
            found,
            &at("perNamespacePerDay"),
            per_namespace_per_day.as_deref(),
            PER_NAMESPACE_PER_DAY,
        ),
        per_day: numbers::budget(found, &at("perDay"), per_day.as_deref(), PER_DAY),
        requests_per_minute: requests_per_minute
            .map_or(REQUESTS_PER_MINUTE, |said| numbers::range(found, &at("requestsPerMinute"), said, 1, 1000)),
    };
    let smaller = |found: &mut Findings, field: &str, (smaller, than): (NanoDollars, NanoDollars), what: &str| {
        if smaller < than {
            found.warn(at(field), Fault::OutOfRange, format!("{smaller} is less than {what}, {than}"));
        }
    };
    let day = (caps.per_namespace_per_day, caps.per_incident);
    smaller(found, "perNamespacePerDay", day, "one incident may cost");
    smaller(found, "perDay", (caps.per_day, caps.per_namespace_per_day), "one namespace may spend in a day");
    caps
}

fn probe(found: &mut Findings, said: &ModelProbe) -> Option<ProbeTerms> {
    let ModelProbe { interval_seconds, per_day } = said;
    let per_day = numbers::budget(found, "spec.probe.perDay", per_day.as_deref(), PROBES_PER_DAY);
    if *interval_seconds == 0 {
        return None;
    }
    let field = "spec.probe.intervalSeconds";
    if !(30..=86_400).contains(interval_seconds) {
        found.refuse(field, Fault::OutOfRange, format!("{interval_seconds} is neither 0 (off) nor from 30 to 86400"));
    }
    let interval = Duration::from_secs(interval_seconds.unsigned_abs().clamp(30, 86_400).into());
    Some(ProbeTerms { interval, per_day })
}
