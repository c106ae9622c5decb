//! Who asks: a bare client, the router, and a bare client through a gateway. All send a prompt of the same size.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use backstop::{
    api::v1alpha1::{IncidentKey, Investigation, ModelChain},
    clock,
    core::{
        answer,
        chain::{breaker::Tenant, spec::ValidChain, validate},
        prompt::{self, Prompt},
        rules::FactBundle,
    },
    model::{
        credentials::Credentials,
        ledger::{InMemory, SpendLedger, new_holder},
        live::{Job, Live},
        log::Log,
        metrics::Metrics,
        rung::Budget,
        send::Sender,
    },
    settings::ModelNetwork,
};
use serde_json::{Value, json};

/// Incidents that are worked on in turns: each has a line in the Ledger.
const INCIDENTS: usize = 8;

/// The prompt of the investigation that the wire tests use.
pub struct Case {
    prompt: Prompt,
}

impl Case {
    pub fn of_file() -> anyhow::Result<Case> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/wire/investigation.yaml");
        let text = std::fs::read_to_string(path).context(path)?;
        let investigation: Investigation = serde_saphyr::from_str(&text)?;
        let facts = investigation.status.as_ref().map(|status| status.facts.as_slice()).unwrap_or_default();
        let case = FactBundle {
            target: investigation.spec.target.as_ref(),
            alert_started_at: investigation.spec.alert_started_at,
            facts,
        };
        Ok(Case { prompt: prompt::diagnose(case) })
    }
}

/// `reqwest`, and nothing else: the body is ready, and the answer's bytes are all that is wanted.
pub struct Bare {
    client: reqwest::Client,
    server: String,
    body: Vec<u8>,
}

impl Bare {
    pub fn new(server: &str, case: &Case) -> anyhow::Result<Bare> {
        let body = json!({
            "model": "m", "max_completion_tokens": 1000,
            "messages": [
                {"role": "system", "content": case.prompt.system}, {"role": "user", "content": case.prompt.user},
            ],
            "response_format": {"type": "json_schema", "json_schema": {
                "name": answer::NAME, "schema": answer::schema(), "strict": true,
            }},
        });
        let client = reqwest::Client::builder().http1_only().no_proxy().build()?;
        Ok(Bare { client, server: server.to_owned(), body: serde_json::to_vec(&body)? })
    }

    pub async fn good(&self) -> anyhow::Result<()> {
        self.post(&format!("{}/good/chat/completions", self.server), 200, &[]).await
    }

    pub async fn bad_and_good(&self) -> anyhow::Result<()> {
        self.post(&format!("{}/bad/chat/completions", self.server), 503, &[]).await?;
        self.good().await
    }

    pub async fn through(&self, gateway: &Gateway) -> anyhow::Result<()> {
        self.post(&gateway.url, 200, &gateway.headers).await
    }

    async fn post(&self, url: &str, status: u16, headers: &[(String, String)]) -> anyhow::Result<()> {
        let mut request = self.client.post(url).header("content-type", "application/json").body(self.body.clone());
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let response = request.send().await?;
        let came = response.status().as_u16();
        let body = response.bytes().await?;
        anyhow::ensure!(came == status, "{url}: {came} {}", String::from_utf8_lossy(&body));
        Ok(())
    }
}

/// A gateway of others in front of the same server.
pub struct Gateway {
    pub name: String,
    url: String,
    headers: Vec<(String, String)>,
}

impl Gateway {
    /// `NAME=URL`, and `NAME=VALUE` for each header.
    pub fn of(said: &str, headers: &[String]) -> anyhow::Result<Gateway> {
        let (name, url) = said.split_once('=').context("want NAME=URL")?;
        let pair = |header: &String| {
            let (name, value) = header.split_once('=').context("want NAME=VALUE")?;
            Ok((name.to_owned(), value.to_owned()))
        };
        let headers = headers.iter().map(pair).collect::<anyhow::Result<_>>()?;
        Ok(Gateway { name: name.to_owned(), url: format!("{url}/chat/completions"), headers })
    }
}

/// The router as a diagnosis uses it: choose, reserve, send, settle, read the answer, note. Its Ledger is in memory: in a
/// cluster money comes from an object of the API server, a piece at a time.
pub struct Router {
    live: Live,
    sender: Arc<Sender>,
}

impl Router {
    pub fn new(server: &str, upstreams: &[&str]) -> anyhow::Result<Router> {
        let sender = Arc::new(Sender::new(Credentials::new("/nowhere"), &ModelNetwork::default())?);
        Router::with(server, upstreams, sender)
    }

    /// Another one, of which nothing is known yet, with the connections of this one.
    pub fn afresh(&self, server: &str, upstreams: &[&str]) -> anyhow::Result<Router> {
        Router::with(server, upstreams, self.sender.clone())
    }

    fn with(server: &str, upstreams: &[&str], sender: Arc<Sender>) -> anyhow::Result<Router> {
        let (ledger, keeper) = SpendLedger::new(InMemory::default(), new_holder(), Arc::new(clock::now));
        tokio::spawn(keeper);
        let live = Live::new(chain(server, upstreams)?, ledger, sender.clone(), Metrics::default());
        Ok(Router { live, sender })
    }

    /// One diagnosis.
    pub async fn ask(&self, case: &Case, number: usize) -> anyhow::Result<()> {
        let tenant: Tenant = "shop".into();
        let advance =
            self.live.advance(IncidentKey { namespace: "shop".into(), name: format!("i-{}", number % INCIDENTS) });
        let (log, chain) = (Log::default(), self.live.chain());
        let job = Job {
            chain: &chain,
            log: &log,
            rung: 0,
            tenant: Some(&tenant),
            advance: &advance,
            prompt: &case.prompt,
            schema: answer::schema(),
            schema_name: answer::NAME,
        };
        let called = self.live.ask(&job, Budget::new(Duration::from_secs(20), 100_000), answer::parse).await;
        anyhow::ensure!(called.answer.is_ok(), "no answer: {log:?}");
        Ok(())
    }
}

/// A chain of one rung with these upstreams, the first of which is asked first.
pub fn chain(server: &str, upstreams: &[&str]) -> anyhow::Result<ValidChain> {
    let upstream = |(index, name): (usize, &&str)| {
        json!({
            "name": name, "url": format!("{server}/{name}"), "api": "OpenAiChat", "stream": false,
            "weight": if upstreams.len() == 2 && index > 0 { 0 } else { 100 }, "prices": {"input": "0.01", "output": "0.01"},
        })
    };
    let all: Vec<Value> = upstreams.iter().enumerate().map(upstream).collect();
    let spec = json!({
        "rungs": [{"name": "bench", "model": "m", "maxOutputTokens": 1000, "upstreams": all}],
        "budgets": {"perIncident": "1000", "perNamespacePerDay": "100000", "perDay": "100000", "requestsPerMinute": 1000},
    });
    let mut object = ModelChain::new("bench", serde_json::from_value(spec)?);
    object.metadata.generation = Some(1);
    let findings = |found: Vec<validate::Finding>| {
        anyhow::anyhow!("{}", found.iter().map(ToString::to_string).collect::<String>())
    };
    Ok(validate::of(&object).map_err(findings)?.chain)
}
