//! Policies and Runbooks that were compiled, so that a decision does not parse them again.
//!
//! Compiling takes longer than anything else that a decision does, so it is done on a thread of its own, one at a time and
//! each namespace in its turn: whoever writes Policies all day keeps one core busy, nobody waits whose Policies are
//! compiled, and everybody else waits for one turn of each namespace that waits.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::{Resource, ResourceExt as _};

use crate::api::v1alpha1::{Policy, Runbook};
use crate::core::policy::{self, CompiledPolicy, CompiledRunbook, runbook_name};

use super::turns::{NoTurn, Turns};

/// Characters of Policies and Runbooks that are kept compiled, a hundred bytes of memory for each. A Policy of a few rules has some
/// hundred.
const KEPT_CHARACTERS: usize = 400_000;
/// Counted for each Policy beside its characters.
const EACH: usize = 200;
/// How long is waited for a turn to compile.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was compiled, by UID and generation, which together name one spec.
#[derive(Clone)]
pub struct Compiled {
    kept: Arc<Mutex<Kept>>,
    turns: Turns,
}

impl Default for Compiled {
    fn default() -> Self {
        Compiled { kept: Arc::default(), turns: Turns::new(1, PATIENCE) }
    }
}

#[derive(Default)]
struct Kept {
    characters: usize,
    objects: HashMap<String, One>,
}

/// The latest generation of an object that was compiled.
struct One {
    generation: i64,
    /// What is counted for it.
    size: usize,
    compiled: Object,
}

/// Something compiled.
#[derive(Clone)]
enum Object {
    Policy(CompiledPolicy),
    Runbook(CompiledRunbook),
}

impl Compiled {
    /// The Policies that are asked of `namespace`, compiled; see [`policy::bounded`].
    pub async fn bounded(&self, namespace: &str, policies: Vec<Policy>) -> Result<Vec<CompiledPolicy>, NoTurn> {
        let known = policies.iter().all(|policy| self.known(policy).is_some());
        let this = self.clone();
        let work = move || policy::bounded(&policies, |policy| this.of(policy));
        if known { Ok(work()) } else { self.aside(namespace, work).await }
    }

    /// `policy`, compiled.
    pub async fn one(&self, policy: Policy) -> Result<CompiledPolicy, NoTurn> {
        let (this, namespace) = (self.clone(), policy.namespace().unwrap_or_default());
        self.aside(&namespace, move || this.of(&policy)).await
    }

    /// What these Runbooks say in CEL, which are asked of `namespace`: compiled, by `namespace/name`.
    pub async fn runbooks(
        &self,
        namespace: &str,
        runbooks: &[Runbook],
    ) -> Result<BTreeMap<String, CompiledRunbook>, NoTurn> {
        let known = runbooks.iter().all(|runbook| self.known(runbook).is_some());
        let (this, runbooks) = (self.clone(), runbooks.to_vec());
        let work = move || runbooks.iter().map(|runbook| (runbook_name(runbook), this.of_runbook(runbook))).collect();
        if known { Ok(work()) } else { self.aside(namespace, work).await }
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
        // What it replaces is gone: who edits one object again and again takes no more room than it has.
        if let Some(replaced) = kept.objects.remove(uid) {
            kept.characters -= replaced.size;
        }
        if kept.characters + size > KEPT_CHARACTERS {
            // Whoever fills it up compiles again with each of their decisions, and the others once.
            *kept = Kept::default();
        }
        kept.characters += size;
        kept.objects.insert(uid.clone(), One { generation, size, compiled });
    }

    fn known(&self, object: &impl Resource) -> Option<Object> {
        let kept = self.kept();
        let One { generation, compiled, size: _ } = kept.objects.get(object.meta().uid.as_ref()?)?;
        (Some(*generation) == object.meta().generation).then(|| compiled.clone())
    }

    /// Runs `work` where it may take its time, when it is the turn of `namespace`. That no turn came is an error, and tried
    /// again: what was not compiled says nothing.
    async fn aside<T: Send + 'static>(
        &self,
        namespace: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NoTurn> {
        let Some(turn) = self.turns.take(namespace).await else {
            let what = format!("compile what holds for namespace {namespace}");
            return Err(NoTurn { what, waited: self.turns.patience() });
        };
        // The turn ends with the work, even if nobody waits for it any more.
        let work = move || {
            let value = work();
            drop(turn);
            value
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(value) => Ok(value),
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
            let found = compiled.runbooks("shop", &[runbook(generation, expression)]).await.unwrap();
            assert_eq!(found["shop/r"].program().is_ok(), fine, "{generation} {expression}");
        }
    }

    #[tokio::test]
    async fn nobody_whose_policies_are_compiled_waits_for_somebody_elses() {
        let compiled = Compiled::default();
        let mine = vec![policy("a", 1, "true")];
        compiled.bounded("shop", mine.clone()).await.unwrap();
        let _theirs = compiled.turns.take("loud").await;
        let found = tokio::time::timeout(Duration::from_secs(5), compiled.bounded("shop", mine)).await;
        assert_eq!(found.expect("it does not wait").unwrap().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_gets_no_turn_to_compile_is_told_so_and_gets_no_policies() {
        let compiled = Compiled::default();
        let _theirs = compiled.turns.take("loud").await;
        let error = compiled.bounded("shop", vec![policy("a", 1, "true")]).await.unwrap_err();
        assert_eq!(error.to_string(), "compile what holds for namespace shop: no turn within 10 s");
    }

    #[test]
    fn who_edits_a_policy_again_and_again_takes_no_more_room_than_it_has() {
        let compiled = Compiled::default();
        compiled.of(&policy("theirs", 1, "true"));
        let large = |generation| {
            let mut policy = policy("a", generation, &format!("'{}' != ''", "x".repeat(2000)));
            policy.spec.validations = vec![policy.spec.validations[0].clone(); 8];
            policy
        };
        for generation in 1..100 {
            compiled.of(&large(generation));
        }
        assert!(compiled.known(&policy("theirs", 1, "true")).is_some(), "what others have is kept");
        assert!(compiled.known(&large(98)).is_none() && compiled.known(&large(99)).is_some());
        let kept = compiled.kept();
        let sizes: usize = kept.objects.values().map(|one| one.size).sum();
        assert_eq!((kept.objects.len(), kept.characters), (2, sizes));
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
