//! Keeps what the investigator saw in a test, for `make eval-diagnosis`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use backstop::{
    api::v1alpha1::{Incident, Investigation},
    core::bundle::{self, NoBundle},
};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams},
};

use super::bench::Bench;

/// Stands for the namespace of a test, which carries its name and so its answer.
const NAMESPACE: &str = "shop";

/// A folder of fact bundles.
pub struct Recorder {
    folder: PathBuf,
}

impl Recorder {
    /// Into this folder, which is made. Bundles that are there stay until they are written again.
    pub fn new(folder: &Path) -> Result<Recorder> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Recorder { folder: folder.to_owned() })
    }

    /// Writes one bundle for each Incident of the test's namespace: of its last Investigation that ended. Returns how many.
    /// An Incident whose investigations saw nothing gives none.
    pub async fn keep(&self, bench: &Bench, test: &str) -> Result<usize> {
        let incidents: Api<Incident> = bench.api();
        let investigations: Api<Investigation> = bench.api();
        let mut incidents = incidents.list(&ListParams::default()).await.context("cannot list incidents")?.items;
        incidents.sort_by_key(|incident| incident.spec.opened_at);
        let mut rounds = investigations.list(&ListParams::default()).await.context("cannot list investigations")?.items;
        rounds.sort_by_key(|investigation| investigation.spec.round);
        let mut kept = 0;
        for incident in incidents {
            let of = rounds.iter().rev().filter(|round| round.spec.incident == incident.name_any());
            let bundle =
                of.map(|round| bundle::of(round, Some(NAMESPACE))).find(|found| *found != Err(NoBundle::NoFacts));
            let Some(bundle) = bundle.transpose()? else { continue };
            kept += 1;
            let more = if kept > 1 { format!(".{kept}") } else { String::new() };
            let path = self.folder.join(format!("{}{more}.yaml", test.replace("::", ".")));
            std::fs::write(&path, bundle::text(&bundle)?)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(kept)
    }

    /// Takes down the workloads of a test that was played for its bundle: a node has room for so many pods only.
    pub async fn clear(&self, bench: &Bench) -> Result<()> {
        let (delete, all) = (DeleteParams::background(), ListParams::default());
        bench.api::<Deployment>().delete_collection(&delete, &all).await?;
        bench.api::<StatefulSet>().delete_collection(&delete, &all).await?;
        bench.api::<DaemonSet>().delete_collection(&delete, &all).await?;
        Ok(())
    }
}
