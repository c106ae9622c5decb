//! One upstream.

use std::collections::BTreeSet;
use std::time::Duration;

use super::finding::{Fault, Findings};
use super::url::BaseUrl;
use super::{names, numbers};
use crate::api::v1alpha1::{ModelApi, ModelCredentials, ModelPrices, ModelTimers, ModelUpstream, TargetClass};
use crate::core::chain::spec::{Timers, Upstream};
use crate::core::{
    kube_name,
    money::{NanoDollars, Prices, Usage},
};

/// A limit on the first byte below this ends nearly every call of a provider that is asked directly: its first token takes
/// half a second and more.
const SHORT: Duration = Duration::from_millis(500);
/// Most that a connection may take, in milliseconds, and any other phase.
const CONNECT: u32 = 60_000;
const PHASE: u32 = 300_000;

/// Bytes of an ordinary prompt, for warnings: 8,000 tokens of four bytes.
const ORDINARY_PROMPT: u64 = 32_000;

/// What the chain says about all upstreams.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    /// Time for one diagnosis.
    pub deadline: Duration,
    /// What one incident may cost.
    pub per_incident: NanoDollars,
}

/// What the rung says about its upstreams.
#[derive(Clone, Copy)]
pub(super) struct Terms<'a> {
    /// What the chain says.
    pub bounds: Bounds,
    /// Most tokens of one answer.
    pub max_output_tokens: u32,
    /// The model.
    pub model: &'a str,
}

/// The upstream at `at`, with every default filled in.
pub(super) fn of(found: &mut Findings, at: &str, said: &ModelUpstream, terms: Terms<'_>) -> Upstream {
    let ModelUpstream {
        name,
        url: base,
        api,
        model,
        served_as,
        class,
        weight,
        credentials,
        region,
        structured_output,
        stream,
        prices: _,
        quota_scope,
        timers,
        extra_failover_statuses,
    } = said;
    let url = BaseUrl::parse(base).inspect_err(|why| found.refuse(format!("{at}.url"), Fault::Invalid, *why)).ok();
    let internal = url.as_ref().is_some_and(BaseUrl::is_internal);
    if let Some(url) = &url {
        self::url(found, &format!("{at}.url"), url, *api);
    }
    if let Some(model) = model {
        names::model(found, &format!("{at}.model"), model, 256);
    }
    names::served_as(found, &format!("{at}.servedAs"), served_as);
    if let Some(said) = credentials {
        self::credentials(found, &format!("{at}.credentials"), said, *api);
    } else if url.is_some() && !internal {
        let message = "it is outside the cluster and asked without a key; a provider will refuse it";
        found.warn(format!("{at}.credentials"), Fault::Required, message);
    }
    self::region(found, &format!("{at}.region"), region.as_deref(), *api);
    let prices = self::prices(found, &format!("{at}.prices"), said, url.is_some() && !internal, terms);
    if let Some(scope) = quota_scope {
        names::label(found, &format!("{at}.quotaScope"), scope);
    }
    Upstream {
        name: name.clone(),
        url: url.map(|url| url.text).unwrap_or_default(),
        api: *api,
        model: model.clone().unwrap_or_else(|| terms.model.to_owned()),
        // What people call it is a name of it too.
        served_as: served_as.iter().cloned().chain([terms.model.to_owned()]).collect(),
        class: *class,
        weight: numbers::range(found, &format!("{at}.weight"), *weight, 0, 1000),
        credentials: credentials.clone(),
        region: region.clone(),
        structured_output: *structured_output,
        stream: *stream,
        prices,
        quota_scope: quota_scope.clone().unwrap_or_else(|| name.clone()),
        timers: self::timers(found, &format!("{at}.timers"), timers, *class, terms.bounds.deadline),
        extra_failover_statuses: statuses(found, &format!("{at}.extraFailoverStatuses"), extra_failover_statuses),
    }
}

fn url(found: &mut Findings, at: &str, url: &BaseUrl, api: ModelApi) {
    if !url.tls && !url.is_internal() {
        let message = "plain http is for servers inside the cluster: the name of a Service, alone or ending in `.svc` or \
                       `.svc.cluster.local`";
        found.refuse(at, Fault::Unsupported, message);
    }
    let (own, advice) = match api {
        ModelApi::AnthropicMessages => ("v1/messages", None),
        ModelApi::OpenAiChat => ("chat/completions", Some("/v1")),
        ModelApi::OpenAiResponses => ("responses", Some("/v1")),
        ModelApi::BedrockConverse => ("converse", None),
    };
    if url.path == own || url.path.ends_with(&format!("/{own}")) {
        found.refuse(
            at,
            Fault::Invalid,
            format!("it ends with /{own}, which is added to it; write what stands before that"),
        );
    } else if let (true, Some(advice)) = (url.path.is_empty(), advice) {
        found.warn(at, Fault::Invalid, format!("it has no path; nearly every server has this API below {advice}"));
    } else if api == ModelApi::AnthropicMessages && (url.path == "v1" || url.path.ends_with("/v1")) {
        found.warn(at, Fault::Invalid, "it ends with /v1, and /v1/messages is added to it");
    }
}

fn credentials(found: &mut Findings, at: &str, said: &ModelCredentials, api: ModelApi) {
    let ModelCredentials { secret, key, secret_key, session_key } = said;
    // Each becomes part of a path.
    if !kube_name::is_subdomain(secret) {
        found.refuse(format!("{at}.secret"), Fault::Invalid, "no Secret can have this name");
    }
    let keys = [("key", Some(key)), ("secretKey", secret_key.as_ref()), ("sessionKey", session_key.as_ref())];
    for (field, key) in keys {
        if key.is_some_and(|key| !is_secret_key(key)) {
            found.refuse(format!("{at}.{field}"), Fault::Invalid, "no key of a Secret can have this name");
        }
    }
    if session_key.is_some() && secret_key.is_none() {
        found.refuse(format!("{at}.secretKey"), Fault::Required, "a session token goes with a secret access key");
    }
    if api != ModelApi::BedrockConverse && (secret_key.is_some() || session_key.is_some()) {
        let field = if secret_key.is_some() { "secretKey" } else { "sessionKey" };
        found.refuse(format!("{at}.{field}"), Fault::Unsupported, "AWS access keys are for `BedrockConverse` only");
    }
}

/// What the API server takes as a key of a Secret.
fn is_secret_key(key: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !key.is_empty() && key.len() <= 253 && key != "." && !key.starts_with("..") && key.bytes().all(word)
}

fn region(found: &mut Findings, at: &str, said: Option<&str>, api: ModelApi) {
    match (api, said) {
        (ModelApi::BedrockConverse, None) => {
            found.refuse(
                at,
                Fault::Required,
                "`BedrockConverse` needs the AWS region that its requests are signed for",
            );
        }
        (ModelApi::BedrockConverse, Some(region)) => {
            if region.len() > 32 || !kube_name::is_label(region) {
                found.refuse(at, Fault::Invalid, "no AWS region has this name");
            }
        }
        (_, Some(_)) => found.refuse(at, Fault::Unsupported, "only `BedrockConverse` has a region"),
        (_, None) => {}
    }
}

/// `None`: it costs nothing, and says so.
fn prices(found: &mut Findings, at: &str, said: &ModelUpstream, outside: bool, terms: Terms<'_>) -> Option<Prices> {
    let ModelUpstream { prices: said, class, api, .. } = said;
    let Some(said) = said else {
        let free = if outside {
            "it is outside the cluster, so they are not 0"
        } else {
            "where it costs nothing, `input` and `output` are \"0\""
        };
        let message = format!("it has none, and what a call may cost is reserved before it is made; {free}");
        found.refuse(at, Fault::Required, message);
        return None;
    };
    let ModelPrices { input, output, cache_write, cache_read } = said;
    let fields = [
        ("input", Some(input)),
        ("output", Some(output)),
        ("cacheWrite", cache_write.as_ref()),
        ("cacheRead", cache_read.as_ref()),
    ];
    let mut amounts = Vec::new();
    for (field, price) in fields {
        let Some(price) = price else { continue };
        match NanoDollars::parse(price) {
            None => found.refuse(format!("{at}.{field}"), Fault::Invalid, numbers::NO_AMOUNT),
            Some(amount) => amounts.push((field, amount == NanoDollars(0))),
        }
    }
    if !outside && amounts.iter().all(|(_, free)| *free) {
        if *class == TargetClass::Gateway {
            let message = "it is a gateway and costs nothing; if it forwards to a provider, no budget counts its calls";
            found.warn(at, Fault::Required, message);
        }
        return None;
    }
    for (field, _) in amounts.iter().filter(|(field, free)| *free && matches!(*field, "input" | "output")) {
        let message = if outside {
            "0 is no price of a server outside the cluster: nothing would be reserved"
        } else {
            "0 is no price beside others that are not 0: a server that costs nothing has only prices of 0"
        };
        found.refuse(format!("{at}.{field}"), Fault::OutOfRange, message);
    }
    let prices = Prices::parse(said, *api)?;
    let Terms { bounds: Bounds { per_incident, .. }, max_output_tokens, .. } = terms;
    let output = prices.cost(Usage { output: max_output_tokens.into(), ..Usage::default() });
    let call = prices.at_most(ORDINARY_PROMPT, max_output_tokens.into());
    if output >= per_incident {
        let message = format!(
            "an answer of {max_output_tokens} tokens may cost {output}, and one incident {per_incident}: no call could be \
             made; lower maxOutputTokens or raise budgets.perIncident"
        );
        found.refuse(at, Fault::Impossible, message);
    } else if call > per_incident {
        let message = format!(
            "a call with an ordinary prompt may cost {call}, and one incident {per_incident}: it will hardly ever be asked"
        );
        found.warn(at, Fault::OutOfRange, message);
    }
    Some(prices)
}

fn timers(found: &mut Findings, at: &str, said: &ModelTimers, class: TargetClass, deadline: Duration) -> Timers {
    let ModelTimers { connect, response_head, first_event, first_content, idle } = *said;
    let mut timer = |field: &str, said: Option<i32>, default: u32, most: u32, first: bool| {
        let Some(said) = said else { return Duration::from_millis(default.into()) };
        let field = format!("{at}.{field}");
        let limit = Duration::from_millis(numbers::range(found, &field, said, 10, most).into());
        if limit > deadline {
            let message = format!("{said} ms is longer than the whole diagnosis may take, {} s", deadline.as_secs());
            found.refuse(field, Fault::OutOfRange, message);
        } else if first && class == TargetClass::Direct && limit < SHORT {
            let message = format!(
                "a provider that is asked directly takes half a second and more to begin its answer, so {said} ms will end \
                 nearly every call; give it 10 s, or class `Gateway` if that is what it is"
            );
            found.warn(field, Fault::OutOfRange, message);
        }
        limit
    };
    let head = match class {
        TargetClass::Direct => 30_000,
        TargetClass::Gateway => 50,
    };
    Timers {
        connect: timer("connect", connect, 2_000, CONNECT, false),
        response_head: timer("responseHead", response_head, head, PHASE, true),
        first_event: timer("firstEvent", first_event, 30_000, PHASE, true),
        first_content: timer("firstContent", first_content, 30_000, PHASE, true),
        idle: timer("idle", idle, 10_000, PHASE, false),
    }
}

fn statuses(found: &mut Findings, at: &str, said: &[i32]) -> Vec<u16> {
    if said.len() > 16 {
        found.refuse(at, Fault::OutOfRange, format!("there are {}, and at most 16 may be", said.len()));
    }
    let mut all = BTreeSet::new();
    for (index, status) in said.iter().enumerate() {
        let field = format!("{at}[{index}]");
        match u16::try_from(*status) {
            Ok(status @ 400..=499) => {
                if matches!(status, 408 | 429) {
                    found.warn(&field, Fault::Invalid, format!("{status} is tried elsewhere anyway"));
                }
                if !all.insert(status) {
                    found.refuse(field, Fault::Duplicate, format!("{status} is listed twice"));
                }
            }
            _ => found.refuse(field, Fault::OutOfRange, format!("{status} is not from 400 to 499")),
        }
    }
    all.into_iter().collect()
}
