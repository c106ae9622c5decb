//! Policies and Runbooks that were compiled, so that a decision does not parse them again.
//!
//! Compiling takes longer than anything else that a decision does, so it is done on a thread of its own, one at a time:
//! whoever writes Policies all day keeps one core busy, and nobody waits whose Policies are compiled.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use kube::Resource;

use crate::api::v1alpha1::{Policy, Runbook};
use crate::core::policy::{self, CompiledPolicy, CompiledRunbook, runbook_name};

/// Characters of Policies and Runbooks that are kept compiled, a hundred bytes of memory for each. A Policy of a few rules has some
/// hundred.
const KEPT_CHARACTERS: usize = 400_000;
/// Counted for each Policy beside its characters.
const EACH: usize = 200;

/// What was compiled, by UID and generation, which together name one spec.
#[derive(Clone, Default)]
pub struct Compiled {
    kept: Arc<Mutex<Kept>>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct Kept {
    characters: usize,
    objects: HashMap<String, (i64, Object)>,
}

/// Something compiled.
#[derive(Clone)]
enum Object {
    Policy(CompiledPolicy),
    Runbook(CompiledRunbook),
}

impl Compiled {
    /// The Policies that are asked, compiled; see [`policy::bounded`].
    pub async fn bounded(&self, policies: Vec<Policy>) -> Vec<CompiledPolicy> {
        let known = policies.iter().all(|policy| self.known(policy).is_some());
        let this = self.clone();
        let work = move || policy::bounded(&policies, |policy| this.of(policy));
        if known { work() } else { self.aside(work).await }
    }

    /// `policy`, compiled.
    pub async fn one(&self, policy: Policy) -> CompiledPolicy {
        let this = self.clone();
        self.aside(move || this.of(&policy)).await
    }

    /// What these Runbooks say in CEL, compiled, by `namespace/name`.
    pub async fn runbooks(&self, runbooks: &[Runbook]) -> BTreeMap<String, CompiledRunbook> {
        let known = runbooks.iter().all(|runbook| self.known(runbook).is_some());
        let (this, runbooks) = (self.clone(), runbooks.to_vec());
        let work = move || runbooks.iter().map(|runbook| (runbook_name(runbook), this.of_runbook(runbook))).collect();
        if known { work() } else { self.aside(work).await }
    }

    fn of(&self, policy: &Policy) -> CompiledPolicy {
        if let Some(Object::Policy(known)) = self.known(policy) {
            return known;
        }
        let compiled = CompiledPolicy::of(policy);
        self.keep(policy, compiled.size(), Object::Policy(compiled.clone()));
        compiled
    }

    fn of_runbook(&self, runbook: &Runbook) -> CompiledRunbook {
        if let Some(Object::Runbook(known)) = self.known(runbook) {
            return known;
        }
        let compiled = CompiledRunbook::of(runbook);
        self.keep(runbook, policy::runbook_characters(runbook), Object::Runbook(compiled.clone()));
        compiled
    }

    fn keep(&self, object: &impl Resource, characters: usize, compiled: Object) {
        let (Some(uid), Some(generation)) = (&object.meta().uid, object.meta().generation) else { return };
        let mut kept = self.kept();
        let size = EACH + characters;
        if kept.characters + size > KEPT_CHARACTERS {
            // Whoever fills it up compiles again with each of their decisions, and the others once.
            *kept = Kept::default();
        }
        kept.characters += size;
        kept.objects.insert(uid.clone(), (generation, compiled));
    }

    fn known(&self, object: &impl Resource) -> Option<Object> {
        let kept = self.kept();
        let (generation, compiled) = kept.objects.get(object.meta().uid.as_ref()?)?;
        (Some(*generation) == object.meta().generation).then(|| compiled.clone())
    }

    /// Runs `work` where it may take its time, after what others wait for.
    async fn aside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let _turn = self.turn.lock().await;
        match tokio::task::spawn_blocking(work).await {
            Ok(value) => value,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(uid: &str, generation: i64, expression: &str) -> Policy {
        let spec = json!({"mode": "auto", "validations": [{"expression": expression}]});
        let mut policy = Policy::new("p", serde_json::from_value(spec).unwrap());
        policy.metadata.uid = Some(uid.into());
        policy.metadata.generation = Some(generation);
        policy
    }

    #[test]
    fn a_policy_is_compiled_once_for_each_generation() {
        let compiled = Compiled::default();
        assert!(compiled.of(&policy("a", 1, "true")).error().is_none());
        // Not a case that the API server makes: it shows that what was compiled is taken.
        assert!(compiled.of(&policy("a", 1, "1 +")).error().is_none());
        assert!(compiled.of(&policy("a", 2, "1 +")).error().is_some());
        assert!(compiled.of(&policy("b", 1, "1 +")).error().is_some());
    }

    #[tokio::test]
    async fn a_runbook_is_compiled_once_for_each_generation() {
        let runbook = |generation, expression: &str| {
            let spec = json!({"summary": "s", "match": {}, "validations": [{"expression": expression}]});
            let mut runbook = Runbook::new("r", serde_json::from_value(spec).unwrap());
            runbook.metadata.namespace = Some("shop".into());
            runbook.metadata.uid = Some("r".into());
            runbook.metadata.generation = Some(generation);
            runbook
        };
        let compiled = Compiled::default();
        for (generation, expression, fine) in [(1, "true", true), (1, "1 +", true), (2, "1 +", false)] {
            let found = compiled.runbooks(&[runbook(generation, expression)]).await;
            assert_eq!(found["shop/r"].program().is_ok(), fine, "{generation} {expression}");
        }
    }

    #[tokio::test]
    async fn nobody_whose_policies_are_compiled_waits_for_somebody_elses() {
        let compiled = Compiled::default();
        let mine = vec![policy("a", 1, "true")];
        compiled.bounded(mine.clone()).await;
        let _theirs = compiled.turn.lock().await;
        let found = tokio::time::timeout(std::time::Duration::from_secs(5), compiled.bounded(mine)).await;
        assert_eq!(found.expect("it does not wait").len(), 1);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let compiled = Compiled::default();
        let long = format!("'{}' != ''", "x".repeat(2000));
        for n in 0..1000 {
            compiled.of(&policy(&n.to_string(), 1, &long));
            assert!(compiled.kept().characters <= KEPT_CHARACTERS);
        }
        assert!(compiled.kept().objects.len() <= KEPT_CHARACTERS / 2000);
        for n in 0..10_000 {
            compiled.of(&policy(&n.to_string(), 1, "1 +"));
        }
        assert!(compiled.kept().objects.len() <= KEPT_CHARACTERS / EACH);
    }
}
