//! Sources of facts: one file each, and the one place that lists them.

mod config_references;
mod events;
mod logs;
mod metrics;
#[cfg(test)]
mod planted;
mod pods;
mod rollout_history;
mod source;
pub mod workload;

pub use source::{Answer, Failure, Question, SharedWorkload, Source, left};

use crate::{api::v1alpha1::SourceName, settings::Settings};

/// Every source, in the order in which facts are numbered.
pub fn all(settings: &Settings) -> anyhow::Result<Vec<Box<dyn Source>>> {
    SourceName::ALL.iter().map(|name| source(*name, settings)).collect()
}

/// The source of this name. Whoever adds one is asked here by the compiler.
fn source(name: SourceName, settings: &Settings) -> anyhow::Result<Box<dyn Source>> {
    Ok(match name {
        SourceName::Workload => Box::new(workload::Target),
        SourceName::Pods => Box::new(pods::Pods),
        SourceName::RolloutHistory => Box::new(rollout_history::RolloutHistory),
        SourceName::ConfigReferences => Box::new(config_references::ConfigReferences),
        SourceName::Events => Box::new(events::Events),
        SourceName::Logs => Box::new(logs::Logs),
        SourceName::Metrics => Box::new(metrics::Metrics::new(&settings.prometheus_url)?),
        #[cfg(test)]
        SourceName::Planted => Box::new(planted::Planted),
    })
}
