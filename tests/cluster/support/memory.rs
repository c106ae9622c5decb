//! Resident memory of the roles, as they report it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::{Suite, operator::ROLES};

fn mebibytes(bytes: Option<&f64>) -> f64 {
    bytes.copied().unwrap_or(f64::NAN) / 1_048_576.0
}

type Sizes = BTreeMap<&'static str, f64>;

/// Looks at the memory of every role again and again.
pub struct Memory {
    idle: Sizes,
    most: Arc<Mutex<Sizes>>,
    task: tokio::task::JoinHandle<()>,
}

impl Memory {
    /// Reads what idle roles hold, and goes on reading.
    pub async fn watch(suite: &Arc<Suite>) -> Result<Memory> {
        let idle = sizes(suite).await?;
        let most = Arc::new(Mutex::new(idle.clone()));
        let (suite, shared) = (suite.clone(), most.clone());
        let task = tokio::spawn(async move {
            let mut pace = tokio::time::interval(Duration::from_secs(2));
            loop {
                pace.tick().await;
                let Ok(now) = sizes(&suite).await else { continue };
                let mut most = shared.lock().expect("nobody panics");
                for (role, bytes) in now {
                    let entry = most.entry(role).or_insert(bytes);
                    *entry = entry.max(bytes);
                }
            }
        });
        Ok(Memory { idle, most, task })
    }

    /// What `role` held at most until now, in MiB; nobody looks any more.
    pub fn most(self, role: &str) -> f64 {
        self.task.abort();
        mebibytes(self.most.lock().expect("nobody panics").get(role))
    }

    /// Prints what each role held when idle, and at most since.
    pub fn print(self) {
        self.task.abort();
        let most = self.most.lock().expect("nobody panics");
        println!("{:<20} {:>10} {:>10}", "resident memory", "idle MiB", "most MiB");
        for role in ROLES {
            println!("{role:<20} {:>10.1} {:>10.1}", mebibytes(self.idle.get(role)), mebibytes(most.get(role)));
        }
    }
}

async fn sizes(suite: &Suite) -> Result<Sizes> {
    let mut sizes = Sizes::new();
    for role in ROLES {
        let metrics = suite.operator.page(role, "/metrics").await?;
        let line = metrics.lines().find_map(|line| line.strip_prefix("backstop_process_resident_memory_bytes "));
        sizes.insert(role, line.context("no metric of resident memory")?.trim().parse()?);
    }
    Ok(sizes)
}
