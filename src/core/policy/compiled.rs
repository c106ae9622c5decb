//! One Policy, compiled: what it says of a target, an action and a time.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use crate::api::v1alpha1::{
    ActionKind, DEFAULT_MODEL_MODE, FailurePolicy, FieldWrite, Lift, Limits, MatchConstraints, Mode, ObjectRef, Policy,
    PolicySpec, Time, WindowKind,
};
use crate::core::cel::{JUDGEMENT_UNITS, Meter, Variables};
use crate::core::{reason::Reason, redact, rules};

use super::constraints::{self, Match};
use super::denial::{Denial, Finding, full_name};
use super::limits;
use super::program::{Program, Said, over_together};
use super::windows::Window;

/// Policies of one namespace at most. Where there are more, nothing is done in it.
pub const MAX_POLICIES: usize = 100;

/// What it costs to tell whether a window is open, in units: it takes as long as so many steps of an expression.
const WINDOW: u64 = 32;

/// Bytes kept of what keeps a Policy from being read.
const MAX_ERROR: usize = 300;

/// A Policy that was compiled, or the reason why it was not. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CompiledPolicy {
    /// `namespace/name`.
    pub name: String,
    /// Its spec.
    pub spec: Arc<PolicySpec>,
    rules: Arc<Result<Rules, Denial>>,
}

#[derive(Debug)]
struct Rules {
    program: Program,
    windows: Vec<Window>,
}

/// The Policies that concern a target.
#[derive(Debug, Default)]
pub struct Matching<'a> {
    /// Those that match.
    pub certain: Vec<&'a CompiledPolicy>,
    /// Those that may match once the target's kind and labels are known; empty when they are.
    pub possible: Vec<&'a CompiledPolicy>,
}

impl<'a> Matching<'a> {
    /// All of them, for whoever decides: what may forbid, forbids.
    pub fn all(self) -> Vec<&'a CompiledPolicy> {
        let Matching { mut certain, possible } = self;
        certain.extend(possible);
        certain
    }
}

/// The Policies that concern a target of this kind and with these labels; what is not known is `None`.
pub fn matching<'a>(
    policies: &'a [CompiledPolicy],
    kind: Option<&str>,
    labels: Option<&BTreeMap<String, String>>,
) -> Matching<'a> {
    let mut matching = Matching::default();
    for policy in policies {
        match policy.matches(kind, labels) {
            Match::Yes => matching.certain.push(policy),
            Match::Maybe => matching.possible.push(policy),
            Match::No => {}
        }
    }
    matching
}

impl CompiledPolicy {
    /// Compiles `policy`.
    pub fn of(policy: &Policy) -> CompiledPolicy {
        let name = full_name(policy.metadata.namespace.as_deref(), policy.metadata.name.as_deref());
        let rules = compile(&name, &policy.spec).map_err(|findings| Denial::of(&format!("Policy {name}"), &findings));
        CompiledPolicy { name, spec: Arc::new(policy.spec.clone()), rules: Arc::new(rules) }
    }

    /// What stands for the Policies of a namespace that has more than [`MAX_POLICIES`]: they deny.
    pub fn too_many(namespace: &str) -> CompiledPolicy {
        CompiledPolicy::crowded(namespace, format_args!("has more than {MAX_POLICIES} Policies"))
    }

    /// What stands for the Policies of a namespace that are too much together, with the reason.
    pub(super) fn crowded(namespace: &str, why: impl Display) -> CompiledPolicy {
        let message = format!(
            "namespace {namespace} {why}, so nothing is done; merge or delete some: \
             kubectl -n {namespace} get policies.backstop.dev"
        );
        CompiledPolicy::denying(format!("{namespace}/*"), Denial { reason: Reason::TooManyPolicies, message })
    }

    /// One that cannot be read, because a newer release or a changed definition wrote it, and so concerns every target
    /// and denies every action: it may say anything, its selector included. `name` is `namespace/name`.
    pub fn unreadable(name: String, why: &str) -> CompiledPolicy {
        let message = format!("Policy {name} cannot be read and so denies: {}", redact::clip(why, MAX_ERROR));
        CompiledPolicy::denying(name, Denial { reason: Reason::PolicyInvalid, message })
    }

    /// One that concerns every target and denies every action.
    fn denying(name: String, denial: Denial) -> CompiledPolicy {
        let spec = PolicySpec {
            mode: Mode::Observe,
            match_constraints: MatchConstraints::default(),
            allowed_actions: None,
            match_conditions: vec![],
            variables: vec![],
            validations: vec![],
            failure_policy: FailurePolicy::Fail,
            limits: Limits::default(),
            protected: None,
            approvals: None,
            windows: vec![],
            allow_helm: false,
            confidence_floor: 0,
            model_mode: Mode::Observe,
            // It may say that no model is to see what is going on here.
            model_chain: Some(rules::NAME.into()),
        };
        CompiledPolicy { name, spec: Arc::new(spec), rules: Arc::new(Err(denial)) }
    }

    /// Why it denies everything that it matches, whatever is asked.
    pub fn error(&self) -> Option<&Denial> {
        self.rules.as_ref().as_ref().err()
    }

    /// Characters of its texts: what it takes to keep it, in memory, follows from it.
    pub fn size(&self) -> usize {
        characters(&self.spec)
    }

    /// Units that all its expressions cost on the [`example`].
    pub(super) fn total(&self) -> u64 {
        self.rules.as_ref().as_ref().map_or(0, |rules| rules.program.total)
    }

    /// Units that its most expensive expression costs on the [`example`]; `None` if it does not compile.
    pub fn cost(&self) -> Option<u64> {
        self.rules.as_ref().as_ref().ok().map(|rules| rules.program.cost)
    }

    /// Whether it is for a target of this kind and with these labels; what is not known is `None`.
    pub fn matches(&self, kind: Option<&str>, labels: Option<&BTreeMap<String, String>>) -> Match {
        constraints::applies(&self.spec.match_constraints, kind, labels)
    }

    /// Whether it is for the action as well, by its match conditions. Asked of one that is for the target. `meter` counts
    /// what all expressions of one decision cost.
    ///
    /// # Errors
    ///
    /// When it does not compile, or its conditions cannot be told, and so it denies.
    pub fn applies(&self, variables: &Variables, meter: &mut Meter) -> Result<bool, Denial> {
        self.rules()?.program.applies(variables, meter)
    }

    /// Whether the validations hold. `meter` counts what all expressions of one decision cost.
    ///
    /// # Errors
    ///
    /// Why it denies.
    pub fn validate(&self, variables: &Variables, meter: &mut Meter) -> Result<(), Denial> {
        self.rules()?.program.validate(variables, meter)
    }

    /// For each window whether it is open at `now`; `None` where that cannot be told.
    pub fn windows(&self, now: Time) -> Vec<(WindowKind, Option<bool>)> {
        let rules = self.rules.as_ref().as_ref().ok();
        let windows = rules.into_iter().flat_map(|rules| &rules.windows);
        windows.map(|window| (window.kind, window.is_open(now).ok())).collect()
    }

    /// What it says in CEL, if it compiles.
    pub fn program(&self) -> Option<&Program> {
        self.rules.as_ref().as_ref().ok().map(|rules| &rules.program)
    }

    /// Whether it leaves this target alone, whatever is asked.
    ///
    /// # Errors
    ///
    /// By what it protects it.
    pub fn spares(&self, object: &ObjectRef, labels: &BTreeMap<String, String>) -> Result<(), Denial> {
        let Some(protected) = &self.spec.protected else { return Ok(()) };
        match limits::protects(protected, object, labels) {
            None => Ok(()),
            Some(by) => {
                let message = format!("Policy {} protects {object} by its {by}", self.name);
                Err(Denial { reason: Reason::Protected, message })
            }
        }
    }

    /// Whether the value that a write sets is within the limits. `meter` counts what all that Policies say of one decision
    /// costs: how many caps there are, and how many values, people and tenants choose.
    ///
    /// # Errors
    ///
    /// Which limit it is over, or that this costs too much to tell.
    pub fn bounds(&self, write: &FieldWrite, meter: &mut Meter) -> Result<(), Denial> {
        match limits::over(&self.spec.limits, write, meter) {
            Ok(None) => Ok(()),
            Ok(Some(over)) => {
                Err(Denial { reason: Reason::OverLimit, message: format!("Policy {}: {over}", self.name) })
            }
            Err(_) => Err(self.too_expensive("limits.caps")),
        }
    }

    /// Whether the windows and the list of actions leave `action` now.
    pub fn admits(&self, action: ActionKind, now: Time) -> Result<(), Denial> {
        self.admits_but(action, now, |_| false, &mut Meter::new(JUDGEMENT_UNITS))
    }

    /// The same, but for the parts that are `lifted`. `meter` counts what all that Policies say of one decision costs.
    pub fn admits_but(
        &self,
        action: ActionKind,
        now: Time,
        lifted: impl Fn(Lift) -> bool,
        meter: &mut Meter,
    ) -> Result<(), Denial> {
        let rules = self.lists(action, &lifted)?;
        if lifted(Lift::Windows) {
            return Ok(());
        }
        self.outside_deny_windows(rules, now, meter)?;
        self.inside_an_allow_window(rules, now, meter)
    }

    /// Whether a write of `action` may be taken back or completed now, but for the parts that are `lifted`. An allow window
    /// is not asked for: the write began inside of one, and what follows belongs to it.
    pub fn admits_following(
        &self,
        action: ActionKind,
        now: Time,
        lifted: impl Fn(Lift) -> bool,
        meter: &mut Meter,
    ) -> Result<(), Denial> {
        let rules = self.lists(action, &lifted)?;
        if lifted(Lift::Windows) { Ok(()) } else { self.outside_deny_windows(rules, now, meter) }
    }

    /// The compiled rules.
    fn rules(&self) -> Result<&Rules, Denial> {
        self.rules.as_ref().as_ref().map_err(Clone::clone)
    }

    /// The compiled rules, if the Policy lists `action`, or that need not be.
    fn lists(&self, action: ActionKind, lifted: impl Fn(Lift) -> bool) -> Result<&Rules, Denial> {
        let rules = self.rules()?;
        if let Some(allowed) = &self.spec.allowed_actions
            && !allowed.contains(&action)
            && !lifted(Lift::AllowedActions)
        {
            let message = format!("Policy {} does not list {action} in allowedActions", self.name);
            return Err(Denial { reason: Reason::ActionNotAllowed, message });
        }
        Ok(rules)
    }

    fn outside_deny_windows(&self, rules: &Rules, now: Time, meter: &mut Meter) -> Result<(), Denial> {
        if self.open(rules, WindowKind::Deny, now, meter)?.contains(&true) {
            return Err(self.window("a deny window is open", now));
        }
        Ok(())
    }

    fn inside_an_allow_window(&self, rules: &Rules, now: Time, meter: &mut Meter) -> Result<(), Denial> {
        let open = self.open(rules, WindowKind::Allow, now, meter)?;
        if !open.is_empty() && !open.contains(&true) {
            return Err(self.window("no allow window is open", now));
        }
        Ok(())
    }

    /// For each window of this kind whether it is open at `now`.
    fn open(&self, rules: &Rules, kind: WindowKind, now: Time, meter: &mut Meter) -> Result<Vec<bool>, Denial> {
        let windows = rules.windows.iter().filter(|window| window.kind == kind);
        let unclear = |error: String| Denial {
            reason: Reason::PolicyInvalid,
            message: format!("Policy {} has a window that cannot be told and so denies: {error}", self.name),
        };
        let mut open = vec![];
        for window in windows {
            meter.charge(WINDOW).map_err(|_| self.too_expensive("windows"))?;
            open.push(window.is_open(now).map_err(unclear)?);
        }
        Ok(open)
    }

    fn too_expensive(&self, field: &str) -> Denial {
        let message = format!("Policy {} is too expensive and so denies: {field} {}", self.name, over_together());
        Denial { reason: Reason::PolicyTooExpensive, message }
    }

    fn window(&self, what: &str, now: Time) -> Denial {
        Denial { reason: Reason::OutsideWindow, message: format!("Policy {}: {what} at {now}", self.name) }
    }
}

/// Characters of everything that a Policy's author wrote, but for names of kinds and namespaces, and for selectors, whose
/// parts are bounded.
pub(super) fn characters(spec: &PolicySpec) -> usize {
    let windows = spec.windows.iter().flat_map(|window| [&window.schedule, &window.time_zone]);
    let caps = spec.limits.caps.iter().flat_map(|cap| [&cap.path, &cap.max]);
    windows.chain(caps).map(|text| text.chars().count()).sum::<usize>() + Said::from(spec).characters()
}

/// Everything that is wrong with a Policy, in the order of its fields; nothing, if it compiles.
pub fn findings(policy: &Policy) -> Vec<Finding> {
    compile("", &policy.spec).err().unwrap_or_default()
}

fn compile(name: &str, spec: &PolicySpec) -> Result<Rules, Vec<Finding>> {
    let mut findings: Vec<Finding> =
        constraints::findings("matchConstraints.objectSelector", spec.match_constraints.object_selector.as_ref())
            .collect();
    let of_protected = spec.protected.as_ref().and_then(|protected| protected.object_selector.as_ref());
    findings.extend(constraints::findings("protected.objectSelector", of_protected));
    findings.extend(limits::findings(&spec.limits, spec.protected.as_ref()));
    findings.extend(beside_conditions(spec));
    let program = Program::compile(&format!("Policy {name}"), spec.into());
    let mut windows = Vec::with_capacity(spec.windows.len());
    let mut of_windows = vec![];
    for (index, window) in spec.windows.iter().enumerate() {
        match Window::of(window) {
            Ok(window) => windows.push(window),
            Err(error) => of_windows.push(Finding::invalid(format!("windows[{index}]"), error)),
        }
    }
    match program {
        Ok(program) if findings.is_empty() && of_windows.is_empty() => Ok(Rules { program, windows }),
        program => {
            findings.extend(program.err().into_iter().flatten());
            findings.extend(of_windows);
            Err(findings)
        }
    }
}

/// What cannot stand beside match conditions: it holds before they can be asked, and where nobody asks them. The executor
/// evaluates no CEL, and the plan is made before anything is read.
fn beside_conditions(spec: &PolicySpec) -> Vec<Finding> {
    if spec.match_conditions.is_empty() {
        return vec![];
    }
    const WHY: &str = "holds for every target that matchConstraints match, whatever matchConditions say; put it into a \
                       Policy without them";
    let mut findings = vec![];
    if spec.mode != Mode::Auto {
        findings.push(Finding::invalid("mode", format_args!("beside matchConditions it has to be auto: a mode {WHY}")));
    }
    if spec.allow_helm {
        findings.push(Finding::invalid("allowHelm", format_args!("not beside matchConditions: it {WHY}")));
    }
    if spec.approvals.is_some() {
        findings.push(Finding::invalid("approvals", format_args!("not beside matchConditions: it {WHY}")));
    }
    if spec.model_chain.is_some() {
        findings.push(Finding::invalid("modelChain", format_args!("not beside matchConditions: it {WHY}")));
    }
    findings
}

/// The mode that namespace label, Policies and Runbooks leave: the lowest of all.
pub fn mode(namespace_label: Option<&str>, policies: &[&CompiledPolicy]) -> Mode {
    policies.iter().map(|policy| policy.spec.mode).fold(Mode::from_label(namespace_label), Ord::min)
}

/// The highest mode in which an answer of a model may lead to an action when the rules do not confirm it: the lowest of
/// all Policies' `modelMode`, never above `approve`. The mode of the namespace, and the rung's own ceiling, count besides.
pub fn model_mode(policies: &[&CompiledPolicy]) -> Mode {
    let modes = policies.iter().map(|policy| policy.spec.model_mode);
    modes.min().unwrap_or(DEFAULT_MODEL_MODE).min(Mode::Approve)
}
