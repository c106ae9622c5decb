//! A case whose target was read: what the first checks prove of it, and what later ones look at.

use crate::api::v1alpha1::{ActionKind, ApprovalTerms, FieldWrite, Lift, Mode, ObjectRef, Purpose, RemediationSpec};
use crate::core::actions::{self, Prediction, identity};
use crate::core::approvals::{self, Standing};
use crate::core::blast::Blast;
use crate::core::budget::{self, Charge};
use crate::core::policy::{self, CompiledPolicy};
use crate::core::workload::Workload;

use super::case::{Case, standing};
use super::check::Check;
use super::observed::{Observed, Override};
use super::outcome::Outcome;
use super::variables::Asked;

/// A [`Case`] whose target was resolved and read, and is still the same object: no check after that tests it again.
pub struct Readable<'a> {
    /// The case.
    pub case: &'a Case<'a>,
    /// The target.
    pub target: &'a ObjectRef,
    /// The reading and the action.
    pub observed: Observed<'a>,
    /// The Policies that match the target: their modes hold, whatever their match conditions say.
    pub policies: Vec<&'a CompiledPolicy>,
    /// Those that apply to the action as well, and the Runbooks that do.
    pub asked: Asked<'a>,
    /// How far the write reaches; absent when it cannot be predicted, or what it can reach was not read.
    pub blast: Option<Blast>,
    /// Identity of the exact action; absent when it cannot be predicted.
    pub identity: Option<Identity>,
}

/// Identity of one exact action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Action id: 32 hexadecimal characters.
    pub id: String,
    /// Digest, 64 hexadecimal characters: what an Approval names.
    pub digest: String,
}

impl<'a> Readable<'a> {
    /// Proves that the case is readable; `None` where the preconditions refuse.
    pub fn of(
        case: &'a Case<'a>,
        purpose: Purpose,
        observed: impl FnOnce(&'a Workload, &[&CompiledPolicy]) -> Observed<'a>,
    ) -> Option<Self> {
        let (Ok(target), Ok(workload)) = (&case.target, &case.cluster.workload) else { return None };
        if workload.object.uid != target.uid {
            return None;
        }
        let policies = policy::matching(case.rules.policies, Some(&workload.object.kind), Some(&workload.labels)).all();
        let mut observed = observed(workload, &policies);
        let identity = observed.prediction.as_ref().ok().map(|prediction| {
            let Prediction { action, write, provenance, .. } = prediction;
            let digest = identity::digest(action, &workload.object, write, provenance.as_ref());
            Identity { id: identity::action_id(case.incident, purpose, &digest), digest }
        });
        observed.word = word_of_a_person(case, identity.as_ref(), &terms_of(&policies));
        // What a model proposes and the rules do not, a person may approve where Policies and its rung allow that.
        let reach = policy::model_mode(&policies).min(case.belief.ceiling);
        if case.belief.is_of_model() && reach >= Mode::Approve {
            observed.unconfirmed = observed.word.clone();
        }
        let blast = blast_of(case, &observed);
        let asked = Asked::of(case, &observed, blast.as_ref(), &policies);
        Some(Readable { case, target, observed, policies, asked, blast, identity })
    }

    /// Whether a person approved exactly this action, for disagreements that a person may always decide.
    pub fn word_of_a_person(&self) -> Override {
        word_of_a_person(self.case, self.identity.as_ref(), &self.terms())
    }

    /// Who has to approve, as the Policies say.
    pub fn terms(&self) -> Vec<ApprovalTerms> {
        terms_of(&self.policies)
    }

    /// The reading.
    pub fn workload(&self) -> &'a Workload {
        self.observed.workload
    }

    /// Kind of the action.
    pub fn kind(&self) -> ActionKind {
        self.observed.kind
    }

    /// The mode that namespace and Policies leave.
    pub fn mode(&self) -> Mode {
        policy::mode(self.case.rules.namespace_mode, &self.policies)
    }

    /// What is charged to the Ledger; without an exact action it has no ID.
    pub fn charge(&self) -> Charge {
        let id = self.identity.as_ref().map(|identity| identity.id.as_str()).unwrap_or_default();
        // What a template changed is taken back by who writes one that was recorded, and by nobody else.
        let takes_back = actions::of(self.kind()).provenance;
        let change = self.workload().change().filter(|_| takes_back);
        let policies: Vec<&CompiledPolicy> = self.asked.with(Lift::Limits).collect();
        let node = self.workload().failing_node().map(str::to_owned);
        Charge { change, node, ..Charge::of(self.kind(), id, self.case.incident, self.target, &policies) }
    }
}

/// How far the predicted write reaches, as far as what it can reach was read.
fn blast_of(case: &Case<'_>, observed: &Observed<'_>) -> Option<Blast> {
    let (Some(Ok(reach)), Ok(prediction)) = (&case.cluster.reach, &observed.prediction) else { return None };
    let ObjectRef { namespace, uid, .. } = &observed.workload.object;
    let touched = budget::touched(case.books.ledger, namespace, uid, case.now);
    Some(Blast::of(observed.workload, prediction, reach, touched))
}

fn terms_of(policies: &[&CompiledPolicy]) -> Vec<ApprovalTerms> {
    approvals::merged(policies.iter().filter_map(|policy| policy.spec.approvals.as_ref()))
}

/// Whether people approved exactly this action; without an exact one nobody can.
fn word_of_a_person(case: &Case<'_>, identity: Option<&Identity>, terms: &[ApprovalTerms]) -> Override {
    let Some(Identity { digest, .. }) = identity else { return Override::No };
    match standing(case.books.approvals, digest, terms) {
        Standing::Approved(who) => Override::Given(who),
        Standing::Denied(_) => Override::No,
        Standing::Missing(who) => Override::Asked(how_to_approve(case, digest, &who)),
    }
}

/// What people do to approve, in words.
pub(super) fn how_to_approve(case: &Case<'_>, digest: &str, missing: &str) -> String {
    let incident = case.incident;
    let namespace = case.target.as_ref().map(|target| target.namespace.as_str()).unwrap_or_default();
    format!(
        "{missing}: `backstop approve -n {namespace} {incident}`, or create an Approval for incident {incident} with digest \
         {digest}"
    )
}

/// A write that takes a write of ours back or completes it, held against a reading.
pub struct Follow<'a> {
    /// The reading.
    pub workload: &'a Workload,
    /// Action id of the repair that it follows.
    pub follows: &'a str,
    /// For an undo: the field, with `before` as the value that the repair wrote.
    pub field: Option<&'a FieldWrite>,
    /// For an eviction: the pod.
    pub pod: Option<&'a ObjectRef>,
}

/// A Remediation held against the executor's own reading.
pub struct Own<'a> {
    /// The Remediation.
    pub spec: &'a RemediationSpec,
    /// The executor's reading of its target.
    pub workload: &'a Workload,
}

/// Before the target is known to be readable.
pub type Precondition = Check<fn(&Case<'_>) -> Outcome>;
/// Everything, once the target is readable.
pub type ReadableCheck = Check<fn(&Readable<'_>) -> Outcome>;
/// A write that takes a write of ours back, or completes it.
pub type FollowCheck = Check<fn(&Follow<'_>) -> Outcome>;
/// A Remediation that the executor holds against its own reading.
pub type OwnCheck = Check<fn(&Own<'_>) -> Outcome>;
