//! Runbooks: which incidents one is for, and what it says in CEL.

use std::sync::Arc;

use crate::api::v1alpha1::{Runbook, RunbookSpec};

use super::denial::{Denial, Finding, full_name};
use super::program::{Program, Said};

/// What a Runbook says in CEL, compiled, or the reason why it is not. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CompiledRunbook(Arc<Result<Program, Denial>>);

impl CompiledRunbook {
    /// Compiles `runbook`.
    pub fn of(runbook: &Runbook) -> CompiledRunbook {
        let whose = format!("Runbook {}", runbook_name(runbook));
        let program = Program::compile(&whose, (&runbook.spec).into());
        CompiledRunbook(Arc::new(program.map_err(|findings| Denial::of(&whose, &findings))))
    }

    /// What was compiled.
    ///
    /// # Errors
    ///
    /// Why it was not, and so denies.
    pub fn program(&self) -> Result<&Program, Denial> {
        self.0.as_ref().as_ref().map_err(Clone::clone)
    }

    /// Units that its most expensive expression costs on the example; `None` if it does not compile.
    pub fn cost(&self) -> Option<u64> {
        self.0.as_ref().as_ref().ok().map(|program| program.cost)
    }
}

/// Characters of what a Runbook says in CEL: what it takes to keep it, in memory, follows from it.
pub fn runbook_characters(runbook: &Runbook) -> usize {
    Said::from(&runbook.spec).characters()
}

/// Everything that is wrong with a Runbook, in the order of its fields; nothing, if it compiles.
pub fn runbook_findings(runbook: &Runbook) -> Vec<Finding> {
    Program::compile("", (&runbook.spec).into()).err().unwrap_or_default()
}

/// Whether a Runbook is for an incident with these alert names and this kind of target.
pub fn runbook_matches(spec: &RunbookSpec, alert_names: &[&str], target_kind: Option<&str>) -> bool {
    let names = &spec.matches.alert_names;
    let kinds = &spec.matches.target_kinds;
    (names.is_empty() || alert_names.iter().any(|name| names.iter().any(|n| n == name)))
        && (kinds.is_empty() || target_kind.is_some_and(|kind| kinds.iter().any(|k| k == kind)))
}

/// `namespace/name` of a Runbook.
pub fn runbook_name(runbook: &Runbook) -> String {
    full_name(runbook.metadata.namespace.as_deref(), runbook.metadata.name.as_deref())
}
