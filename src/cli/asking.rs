//! The diagnosers of one command, without a cluster: the rules, and a ModelChain from a file.

use std::{path::Path, sync::Arc, time::Duration};

use super::files;
use crate::{
    api::v1alpha1::{IncidentKey, Investigation},
    clock,
    core::rules::{self, FactBundle},
    model::{
        Chain,
        chain::ChainAnswer,
        credentials::Credentials,
        ledger::{InMemory, SpendLedger, new_holder},
        live::Live,
        metrics::Metrics,
        model_rung,
        rung::Budget,
        send::Sender,
    },
    settings::ModelNetwork,
};

/// Tokens that one diagnosis may take.
const TOKENS: i64 = 100_000;
/// Time of a diagnosis by rules: more than they ever need.
const LIMIT: Duration = Duration::from_secs(30);

/// How the servers are reached: as the chart's values `models.proxyUrl` and `models.caBundle` say it for the cluster.
#[derive(clap::Args)]
pub struct NetworkArgs {
    /// URL of an HTTP proxy to servers with a name of the outside. Variables of the environment set none.
    #[arg(long, default_value = "")]
    proxy: String,
    /// File with certificates of more authorities to trust, PEM.
    #[arg(long, default_value = "")]
    ca: String,
}

impl NetworkArgs {
    /// The same as settings.
    pub fn network(&self) -> ModelNetwork {
        ModelNetwork { proxy_url: self.proxy.clone(), ca_file: self.ca.clone() }
    }
}

/// Who is asked.
pub struct Diagnosers {
    live: Option<Arc<Live>>,
    names: Vec<String>,
    time: Duration,
}

impl Diagnosers {
    /// The models of the chain in the file at `chain`, with their keys below `secrets`, and the rules after them; the rules
    /// alone without a chain.
    pub fn of(chain: Option<&Path>, secrets: &Path, network: &NetworkArgs) -> anyhow::Result<Diagnosers> {
        let Some(path) = chain else {
            return Ok(Diagnosers { live: None, names: vec![rules::NAME.to_owned()], time: LIMIT });
        };
        let chain = files::chain(path)?;
        let rungs = chain.rungs.iter().map(|rung| rung.name.clone());
        let names = rungs.chain([rules::NAME.to_owned()]).collect();
        let time = chain.deadline;
        let (ledger, keeper) = SpendLedger::new(InMemory::default(), new_holder(), Arc::new(clock::now));
        tokio::spawn(keeper);
        let sender = Arc::new(Sender::new(Credentials::new(secrets), &network.network())?);
        Ok(Diagnosers { live: Some(Arc::new(Live::new(chain, ledger, sender, Metrics::default()))), names, time })
    }

    /// Whether models are asked.
    pub fn has_models(&self) -> bool {
        self.live.is_some()
    }

    /// One diagnosis of the facts of an Investigation. `key` is whose budgets it is paid from.
    pub async fn ask(&self, investigation: &Investigation, key: IncidentKey) -> ChainAnswer {
        let facts = investigation.status.as_ref().map(|status| status.facts.as_slice()).unwrap_or_default();
        let case = FactBundle {
            target: investigation.spec.target.as_ref(),
            alert_started_at: investigation.spec.alert_started_at,
            facts,
        };
        let chain = match &self.live {
            Some(live) => model_rung::chain(live, key),
            None => Chain::of_rules(),
        };
        chain.ask(&self.names, case, Budget::new(self.time, TOKENS)).await
    }
}
