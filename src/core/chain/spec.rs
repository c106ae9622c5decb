//! A `ModelChain` after validation: every reference is resolved, every default is filled in, every amount is a number.

use std::collections::BTreeMap;
use std::time::Duration;

use super::served::is_asked;
use crate::api::v1alpha1::{Mode, ModelApi, ModelCredentials, StructuredOutput, TargetClass};
use crate::core::money::{NanoDollars, Prices};

/// A chain that can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidChain {
    /// Name of the `ModelChain`.
    pub name: String,
    /// Its `metadata.generation`.
    pub generation: i64,
    /// The rungs in their order, at least one; the rules are not among them.
    pub rungs: Vec<ValidRung>,
    /// Time for one diagnosis, all rungs, attempts and pauses together.
    pub deadline: Duration,
    /// What may be spent.
    pub caps: Caps,
    /// The synthetic probe; `None`: off.
    pub probe: Option<ProbeTerms>,
    /// When calls of an upstream that fails are stopped.
    pub breaker: BreakerTerms,
    /// Index of the rung that may object to the others' proposals.
    pub reviewer: Option<usize>,
}

/// One model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidRung {
    /// Name of the rung.
    pub name: String,
    /// The model, as people call it.
    pub model: String,
    /// Highest mode in which its answers may lead to an action.
    pub ceiling: Mode,
    /// Index of the rung that is asked once when an answer of this one is not grounded.
    pub on_ungrounded: Option<usize>,
    /// Most tokens of one answer.
    pub max_output_tokens: u32,
    /// Its servers, at least one.
    pub upstreams: Vec<Upstream>,
}

/// One server of a rung's model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Name, unique in the chain.
    pub name: String,
    /// Base URL without a slash at its end.
    pub url: String,
    /// The API that it speaks.
    pub api: ModelApi,
    /// What it calls the model.
    pub model: String,
    /// Other names under which it may say that it answered: what people call the model, and those that they list.
    pub served_as: Vec<String>,
    /// Direct, or behind a gateway.
    pub class: TargetClass,
    /// Share of the calls; 0 means only when no other is left.
    pub weight: u32,
    /// Where its key is mounted; `None`: it asks for none.
    pub credentials: Option<ModelCredentials>,
    /// AWS region; always there for `BedrockConverse`.
    pub region: Option<String>,
    /// How it is held to the schema.
    pub structured_output: StructuredOutput,
    /// Ask for a stream.
    pub stream: bool,
    /// What it costs; `None`: nothing.
    pub prices: Option<Prices>,
    /// The quota that it counts against.
    pub quota_scope: String,
    /// Limits on the phases of a call.
    pub timers: Timers,
    /// Statuses that are tried elsewhere against the rule.
    pub extra_failover_statuses: Vec<u16>,
}

impl Upstream {
    /// The model that answered, as it says, where that is another one than it was asked for.
    pub fn swapped<'a>(&self, served: Option<&'a str>) -> Option<&'a str> {
        let known = self.served_as.iter().map(String::as_str);
        served.filter(|served| !is_asked(served, &self.model, known))
    }
}

/// Limits on the phases of a call. Each counts from the end of the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// Until the connection stands.
    pub connect: Duration,
    /// Until the head of the response is there.
    pub response_head: Duration,
    /// Until the first event or byte of the body, comments and pings included.
    pub first_event: Duration,
    /// Until the first piece of the answer itself.
    pub first_content: Duration,
    /// Between two pieces of the body.
    pub idle: Duration,
}

/// What may be spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// For one incident.
    pub per_incident: NanoDollars,
    /// For one namespace in a day (UTC).
    pub per_namespace_per_day: NanoDollars,
    /// For the chain in a day (UTC).
    pub per_day: NanoDollars,
    /// Diagnoses of one namespace within a minute.
    pub requests_per_minute: u32,
}

/// When calls of an upstream that fails are stopped. The numbers of namespaces are less than the one of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerTerms {
    /// Failures in a row that stop all calls.
    pub failures: u32,
    /// Failures in a row of one namespace that stop its calls.
    pub tenant_failures: u32,
    /// The same for single namespaces.
    pub tenants: BTreeMap<String, u32>,
}

/// The synthetic probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeTerms {
    /// Time between two probes of an upstream without traffic.
    pub interval: Duration,
    /// What all probes of the chain may spend in a day (UTC).
    pub per_day: NanoDollars,
}
