//! The probes under way: one of a chain at a time, however it ends.

use std::collections::HashMap;

use tokio::task::{Id, JoinSet};

/// Probes under way.
#[derive(Default)]
pub struct Probes {
    tasks: JoinSet<()>,
    /// The chain of each.
    chains: HashMap<Id, String>,
}

impl Probes {
    /// Begins a probe of a chain, unless one of it is under way.
    pub fn start(&mut self, chain: &str, probe: impl Future<Output = ()> + Send + 'static) {
        if self.chains.values().any(|under_way| under_way == chain) {
            return;
        }
        let task = self.tasks.spawn(probe);
        self.chains.insert(task.id(), chain.to_owned());
    }

    /// Waits until one ends, one that panics too: its chain may be probed again. Without any it waits for ever.
    pub async fn ended(&mut self) {
        let Some(ended) = self.tasks.join_next_with_id().await else { return std::future::pending().await };
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => {
                tracing::error!(%error, "a probe of models failed in our own code");
                error.id()
            }
        };
        self.chains.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[tokio::test]
    async fn a_chain_is_probed_again_after_a_probe_that_panicked() {
        let (mut probes, begun) = (Probes::default(), Arc::new(AtomicUsize::new(0)));
        let start = |probes: &mut Probes, panics: bool| {
            let begun = begun.clone();
            probes.start("default", async move {
                begun.fetch_add(1, Ordering::SeqCst);
                assert!(!panics, "planted");
            });
        };
        let patience = std::time::Duration::from_secs(5);
        start(&mut probes, true);
        start(&mut probes, false);
        tokio::time::timeout(patience, probes.ended()).await.expect("it ended");
        assert_eq!(begun.load(Ordering::SeqCst), 1, "one at a time");
        start(&mut probes, false);
        tokio::time::timeout(patience, probes.ended()).await.expect("another one began, and ended");
        assert_eq!(begun.load(Ordering::SeqCst), 2);
        let none = tokio::time::timeout(std::time::Duration::from_millis(10), probes.ended()).await;
        assert!(none.is_err(), "there is none to wait for");
    }
}
