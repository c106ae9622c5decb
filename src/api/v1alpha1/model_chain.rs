use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{LABEL, rules};
use super::{Mode, ModelBreaker, ModelChainStatus, up_to_approve};

/// What the base URL of an upstream looks like: no user, no query, no fragment, and nothing that has to be decoded.
pub const UPSTREAM_URL: &str =
    r"^https?://([a-z0-9]([-a-z0-9.]*[a-z0-9])?|\[[0-9a-f:.]+\])(:[1-9][0-9]{0,4})?(/[-A-Za-z0-9._~/]*)?$";
/// A DNS name.
const SUBDOMAIN: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// A key of a Secret, which becomes the name of a file.
const SECRET_KEY: &str = "^([-A-Za-z0-9_]|[.][-A-Za-z0-9_])[-A-Za-z0-9_.]*$";
/// Name of a model.
const MODEL: &str = "^[!-~]+$";
/// In CEL, whether `self.url` is inside the cluster: the name of a Service, or the loopback address.
const INTERNAL: &str = "self.url.matches('^https?://([a-z0-9]([-a-z0-9]*[a-z0-9])?|[a-z0-9]([-a-z0-9.]*[a-z0-9])?[.]svc([.]cluster[.]local)?|127[.]0[.]0[.]1)(:[0-9]+)?(/.*)?$')";
/// A price or budget that is not nothing.
const NOT_ZERO: &str = "matches('[1-9]')";

fn chain_rules() -> serde_json::Value {
    // Whether a limit in milliseconds fits into the time for one diagnosis.
    let fits = |timer: &str| format!("(!has(u.timers.{timer}) || u.timers.{timer} <= self.deadlineSeconds * 1000)");
    let fit = ["connect", "responseHead", "firstEvent", "firstContent", "idle"].map(fits).join(" && ");
    rules([
        ("self.rungs.all(r, self.rungs.exists_one(s, s.name == r.name))".into(), "two rungs have the same name"),
        (
            "self.rungs.all(r, r.upstreams.all(u, r.upstreams.exists_one(v, v.name == u.name) && \
             self.rungs.exists_one(s, s.upstreams.exists(v, v.name == u.name))))"
                .into(),
            "two upstreams of the chain have the same name",
        ),
        (
            "self.rungs.all(r, !has(r.onUngrounded) || self.rungs.exists(s, s.name == r.onUngrounded))".into(),
            "onUngrounded names a rung that does not exist",
        ),
        (
            "self.rungs.all(r, !has(r.onUngrounded) || self.rungs.all(s, s.name != r.onUngrounded || \
             !has(s.onUngrounded) || s.onUngrounded != r.name))"
                .into(),
            "onUngrounded leads back to the rung that names it",
        ),
        (
            "!has(self.reviewer) || self.rungs.exists(r, r.name == self.reviewer)".into(),
            "reviewer names a rung that does not exist",
        ),
        ("!has(self.reviewer) || size(self.rungs) > 1".into(), "the only rung of a chain cannot review itself"),
        (
            format!("self.rungs.all(r, r.upstreams.all(u, !has(u.timers) || ({fit})))"),
            "a timer is longer than deadlineSeconds, the time for the whole diagnosis",
        ),
    ])
}

fn rung_rules() -> serde_json::Value {
    rules([
        ("self.name != 'rules'".into(), "`rules` is taken: the embedded rules are the last rung of every chain"),
        (
            "!has(self.onUngrounded) || self.onUngrounded != self.name".into(),
            "onUngrounded leads back to the rung that names it",
        ),
    ])
}

fn upstream_rules() -> serde_json::Value {
    rules([
        (
            format!("self.url.startsWith('https://') || {INTERNAL}"),
            "plain http is for servers inside the cluster: the name of a Service, alone or ending in .svc or .svc.cluster.local",
        ),
        (
            "has(self.prices)".into(),
            "prices are needed: what a call may cost is reserved before it is made; a server inside the cluster that costs \
             nothing says input: \"0\", output: \"0\"",
        ),
        (
            format!("!has(self.prices) || self.prices.input.{NOT_ZERO} || {INTERNAL}"),
            "a server outside the cluster is not free: prices of 0 are for servers inside",
        ),
        (
            "(self.api == 'BedrockConverse') == has(self.region)".into(),
            "BedrockConverse needs a region, and no other API has one",
        ),
        (
            "!has(self.credentials) || self.api == 'BedrockConverse' || \
             (!has(self.credentials.secretKey) && !has(self.credentials.sessionKey))"
                .into(),
            "AWS access keys (secretKey, sessionKey) are for BedrockConverse only",
        ),
    ])
}

fn credentials_rules() -> serde_json::Value {
    rules([(
        "!has(self.sessionKey) || has(self.secretKey)".into(),
        "a session token (sessionKey) goes with a secret access key (secretKey)",
    )])
}

fn prices_rules() -> serde_json::Value {
    rules([(
        format!(
            "self.input.{NOT_ZERO} ? self.output.{NOT_ZERO} : (!self.output.{NOT_ZERO} && \
             (!has(self.cacheWrite) || !self.cacheWrite.{NOT_ZERO}) && (!has(self.cacheRead) || !self.cacheRead.{NOT_ZERO}))"
        ),
        "input and output both have a price, or everything is 0 for a server that costs nothing",
    )])
}

fn budgets_rules() -> serde_json::Value {
    let not_zero = |field: &str| format!("(!has(self.{field}) || self.{field}.{NOT_ZERO})");
    rules([(
        ["perIncident", "perNamespacePerDay", "perDay"].map(not_zero).join(" && "),
        "a budget of 0 leaves nothing to ask with; to ask no model, name `rules` as modelChain in a Policy",
    )])
}

fn probe_rules() -> serde_json::Value {
    rules([
        (
            "self.intervalSeconds == 0 || self.intervalSeconds >= 30".into(),
            "intervalSeconds is 0 (off) or from 30 to 86400",
        ),
        (
            format!("!has(self.perDay) || self.perDay.{NOT_ZERO}"),
            "a budget of 0 leaves nothing to ask with; intervalSeconds: 0 turns probes off",
        ),
    ])
}

/// An ordered chain of models that diagnose, in the system namespace. The embedded rules are always its last rung. The
/// chain named `default` is used where neither a Runbook nor a Policy names one; without any chain the rules answer alone.
/// Which rung answered, through which upstream and after which failed attempts, is on the Investigation.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "backstop.dev",
    version = "v1alpha1",
    kind = "ModelChain",
    doc = "An ordered chain of models that diagnose. Kept in the system namespace.",
    plural = "modelchains",
    shortname = "mc",
    category = "backstop",
    namespaced,
    status = "ModelChainStatus",
    derive = "PartialEq",
    validation = ("self.metadata.name != 'rules'", "`rules` is taken: it stands for asking no model"),
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Upstreams","type":"string","jsonPath":".status.available"}"#,
    printcolumn = r#"{"name":"Answers","type":"string","jsonPath":".status.answering"}"#,
    printcolumn = r#"{"name":"Spent","type":"string","jsonPath":".status.spentToday"}"#,
    printcolumn = r#"{"name":"Last-Error","type":"string","jsonPath":".status.lastError"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = chain_rules()))]
pub struct ModelChainSpec {
    /// Rungs in the order in which they are asked, 1 to 8. The first that answers counts. The rules follow by themselves.
    #[schemars(length(min = 1, max = 8))]
    pub rungs: Vec<ModelRung>,
    /// Time for one diagnosis in seconds, 5 to 240: the wait for a place, all rungs, attempts and pauses together. The
    /// sources have their own time besides. An answer that takes longer than 45 s comes when its facts are too old to act
    /// upon: the rules decide on new ones, and the answer can only make a person decide.
    #[serde(default = "default_deadline")]
    #[schemars(range(min = 5, max = 240))]
    pub deadline_seconds: i32,
    /// What may be spent. A chain whose models cost money has no unlimited budget: absent amounts have defaults.
    #[serde(default)]
    pub budgets: ModelBudgets,
    /// The synthetic probe of upstreams that have no traffic.
    #[serde(default)]
    pub probe: ModelProbe,
    /// When calls of an upstream that fails are stopped.
    #[serde(default)]
    pub breaker: ModelBreaker,
    /// Name of a rung that reviews proposals of the others. It can only object: its objection makes the proposal need an
    /// approval; its agreement changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub reviewer: Option<String>,
}

fn default_deadline() -> i32 {
    45
}

/// One model, with one or more upstreams that serve it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rung_rules()))]
pub struct ModelRung {
    /// Name of the rung, unique in the chain: a DNS label. `rules` is taken.
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL))]
    pub name: String,
    /// The model, as people call it, without spaces. An upstream may know it by another name. At most 128 characters.
    #[schemars(length(min = 1, max = 128), regex(pattern = MODEL))]
    pub model: String,
    /// Highest mode in which an answer of this model may lead to an action: `observe`, `suggest` or `approve`. A Policy's
    /// `modelMode` lowers it.
    #[serde(default = "default_ceiling")]
    #[schemars(schema_with = "up_to_approve")]
    pub ceiling: Mode,
    /// Name of the stronger rung, further down or up, that is asked once when an answer of this one turns out not to be
    /// grounded in the facts. Absent: the rules decide, and the on-call is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub on_ungrounded: Option<String>,
    /// Most tokens of one answer, reasoning included, 64 to 32000. It is what is reserved of the budget before each
    /// attempt.
    #[serde(default = "default_output")]
    #[schemars(range(min = 64, max = 32000))]
    pub max_output_tokens: i32,
    /// Servers of this same model, 1 to 8.
    #[schemars(length(min = 1, max = 8))]
    pub upstreams: Vec<ModelUpstream>,
}

fn default_ceiling() -> Mode {
    Mode::Suggest
}

fn default_output() -> i32 {
    2048
}

/// One server of a rung's model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = upstream_rules()))]
pub struct ModelUpstream {
    /// Name of the upstream, unique in the chain: a DNS label.
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL))]
    pub name: String,
    /// Base URL, such as `https://api.anthropic.com`, without the path of the API, without user or query. `http` is for
    /// servers inside the cluster: the name of a Service, alone or ending in `.svc` or `.svc.cluster.local`.
    #[schemars(length(min = 8, max = 512), regex(pattern = UPSTREAM_URL))]
    pub url: String,
    /// The API that it speaks.
    pub api: ModelApi,
    /// What it calls the model. Absent: as the rung does. At most 256 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = MODEL))]
    pub model: Option<String>,
    /// Direct to a provider, or behind a gateway that flushes its headers at once: which timers hold where none are set.
    #[serde(default)]
    pub class: TargetClass,
    /// Names under which it may say that it answered, besides `model` and the rung's own, for names that nobody can know:
    /// a deployment, a profile, a file. A date or a version behind a name is allowed anyway. Any other name counts as another
    /// model: it is told, and its answers lead to suggestions at most. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 128), regex(pattern = MODEL)))]
    pub served_as: Vec<String>,
    /// Share of the calls among healthy upstreams of the rung, 0 to 1000. 0: only when no other is left.
    #[serde(default = "default_weight")]
    #[schemars(range(min = 0, max = 1000))]
    pub weight: i32,
    /// Where its key is. Absent: it asks for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<ModelCredentials>,
    /// AWS region, for `BedrockConverse`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), regex(pattern = LABEL))]
    pub region: Option<String>,
    /// How it is held to the schema of an answer.
    #[serde(default)]
    pub structured_output: StructuredOutput,
    /// Ask for a stream of events, which can be watched while it arrives.
    #[serde(default = "yes")]
    pub stream: bool,
    /// What it costs. It has to be there: a server inside the cluster that costs nothing says `input: "0"` and
    /// `output: "0"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prices: Option<ModelPrices>,
    /// Name of the quota that it shares with other upstreams: one of them that is limited pauses all. Absent: its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL))]
    pub quota_scope: Option<String>,
    /// Limits on the phases of a call.
    #[serde(default)]
    pub timers: ModelTimers,
    /// Statuses between 400 and 499 that, against the rule, are tried elsewhere. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(range(min = 400, max = 499)))]
    pub extra_failover_statuses: Vec<i32>,
}

fn default_weight() -> i32 {
    100
}

fn yes() -> bool {
    true
}

/// Wire APIs of models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ModelApi {
    /// Anthropic Messages, `POST /v1/messages`.
    AnthropicMessages,
    /// OpenAI Chat Completions, `POST /chat/completions` below the URL; vLLM, llama.cpp and most gateways speak it.
    OpenAiChat,
    /// OpenAI Responses, `POST /responses` below the URL.
    OpenAiResponses,
    /// AWS Bedrock Converse, `POST /model/{model}/converse`, signed with SigV4.
    BedrockConverse,
}

/// What stands between Backstop and the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TargetClass {
    /// The provider, or a server of your own: headers come when the model begins to answer.
    #[default]
    Direct,
    /// A gateway that sends its headers before the model answers.
    Gateway,
}

/// How a model is held to the schema of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StructuredOutput {
    /// The API's own JSON Schema output.
    #[default]
    Native,
    /// One strict tool, which the model has to call.
    StrictTool,
    /// The schema stands in the prompt; the answer is checked like every other.
    Prompt,
}

/// A key of a Secret that is mounted into the investigator. Backstop reads no Secret through the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = credentials_rules()))]
pub struct ModelCredentials {
    /// Name of the Secret in the system namespace. The chart's value `models.secrets` mounts it.
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub secret: String,
    /// Its key with the API key or bearer token; for `BedrockConverse` with AWS access keys, the key with the access key
    /// ID. At most 253 characters.
    #[serde(default = "default_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = SECRET_KEY))]
    pub key: String,
    /// For `BedrockConverse` with access keys: its key with the secret access key. Absent: `key` is a bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = SECRET_KEY))]
    pub secret_key: Option<String>,
    /// For `BedrockConverse` with temporary access keys: its key with the session token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = SECRET_KEY))]
    pub session_key: Option<String>,
}

fn default_key() -> String {
    "token".into()
}

/// Prices in US dollars per million tokens, as decimal numbers such as `"3.00"`, with at most six decimals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = prices_rules()))]
pub struct ModelPrices {
    /// Price of the prompt's tokens, in US dollars per million, such as `"3.00"`; at most six decimals.
    #[schemars(length(max = 16), regex(pattern = r"^[0-9]{1,6}([.][0-9]{1,6})?$"))]
    pub input: String,
    /// Price of the answer's tokens, reasoning included, in US dollars per million; at most six decimals.
    #[schemars(length(max = 16), regex(pattern = r"^[0-9]{1,6}([.][0-9]{1,6})?$"))]
    pub output: String,
    /// Price of prompt tokens that are written to the provider's cache, in US dollars per million. Absent: as `input`, and
    /// a quarter more with `AnthropicMessages`, whose requests ask for the cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = r"^[0-9]{1,6}([.][0-9]{1,6})?$"))]
    pub cache_write: Option<String>,
    /// Price of prompt tokens that are read from the provider's cache, in US dollars per million. Absent: as `input`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = r"^[0-9]{1,6}([.][0-9]{1,6})?$"))]
    pub cache_read: Option<String>,
}

/// Limits on the phases of a call, in milliseconds. Absent ones are as the class says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelTimers {
    /// Time until the connection is established, TLS included, in milliseconds, 10 to 60000. Default: 2000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 60000))]
    pub connect: Option<i32>,
    /// Time until the response headers arrive, in milliseconds, 10 to 300000. Default: 30000 for class `Direct`, 50 for
    /// class `Gateway`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 300_000))]
    pub response_head: Option<i32>,
    /// Time until the first event or byte of the body, comments and pings included, in milliseconds, 10 to 300000.
    /// Default: 30000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 300_000))]
    pub first_event: Option<i32>,
    /// Time until the first piece of the answer itself, in milliseconds, 10 to 300000. Default: 30000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 300_000))]
    pub first_content: Option<i32>,
    /// Longest time between two pieces of the body, in milliseconds, 10 to 300000. Default: 10000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 300_000))]
    pub idle: Option<i32>,
}

/// What may be spent, in US dollars as decimal numbers with at most six decimals. It is reserved before each attempt and
/// settled from what the upstream says was used; an attempt whose outcome is unknown stays charged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = budgets_rules()))]
pub struct ModelBudgets {
    /// For one incident, all rounds together, in US dollars. Default: `"1"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = r"^[0-9]{1,6}([.][0-9]{1,6})?$"))]
    pub per_incident: Option<String>,
    /// For one namespace in a day (UTC), in US dollars. Default: `"10"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = r"^[0-9]{1,6}([.][0-9]{1,6})?$"))]
    pub per_namespace_per_day: Option<String>,
    /// For the chain in a day (UTC), probes not included, in US dollars. Default: `"50"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = r"^[0-9]{1,6}([.][0-9]{1,6})?$"))]
    pub per_day: Option<String>,
    /// Diagnoses that one namespace may ask for within a minute, 1 to 1000. Default: 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub requests_per_minute: Option<i32>,
}

/// The synthetic probe: one cheap question to each upstream that had no success for a while, by one replica only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = probe_rules()))]
pub struct ModelProbe {
    /// Seconds between two probes of an upstream, 30 to 86400; 0 turns probes off.
    #[serde(default = "default_probe")]
    #[schemars(range(min = 0, max = 86400))]
    pub interval_seconds: i32,
    /// What probes may spend in a day (UTC), in US dollars. Default: `"1"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = r"^[0-9]{1,6}([.][0-9]{1,6})?$"))]
    pub per_day: Option<String>,
}

fn default_probe() -> i32 {
    90
}

impl Default for ModelProbe {
    fn default() -> ModelProbe {
        ModelProbe { interval_seconds: default_probe(), per_day: None }
    }
}

/// One ModelChain of the system namespace as it was at some time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelChainRef {
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Its `metadata.generation`.
    #[serde(default)]
    pub generation: i64,
}
