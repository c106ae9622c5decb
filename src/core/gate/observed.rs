//! A reading of a workload and an action on it: all that the evidence of an action may look at.

use crate::api::v1alpha1::{Action, ActionKind, KnownGood, Time};
use crate::core::actions::prediction::{Prediction, Refusal};
use crate::core::managers::Field;
use crate::core::reason::Reason;
use crate::core::workload::{Kind, Pod, Presence, Workload};

use super::outcome::{Effect, Outcome, pass, refuse};

/// Whether a person's word on the exact action goes before a disagreement about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Override {
    /// Nobody's word does.
    #[default]
    No,
    /// It would, and is not there yet; the sentence says how to give it.
    Asked(String),
    /// It is there; the text says who approved.
    Given(String),
}

impl Override {
    /// What a disagreement comes to.
    pub fn outcome(&self, reason: Reason, message: String) -> Outcome {
        match self {
            Override::No => refuse(reason, message),
            Override::Asked(how) => refuse(reason, format!("{message}; {how}")).with(Effect::AskApproval),
            Override::Given(who) => pass(format!("{message}; {who} approved exactly this action")),
        }
    }
}

/// A reading of a workload and an action on it. No alert, diagnosis, Policy or Ledger is in it: whoever can read the
/// workload can ask for the evidence.
pub struct Observed<'a> {
    /// The reading.
    pub workload: &'a Workload,
    /// The kind of action that is looked at.
    pub kind: ActionKind,
    /// Kinds of object that this action is for.
    pub targets: &'static [Kind],
    /// What it writes, in the words of the table of managers.
    pub writes: &'static [Field],
    /// The action: the proposed one, or the one that would be looked at first, so that people see what stands in its
    /// way; absent when there is none.
    pub action: Option<Action>,
    /// What exactly it would write.
    pub prediction: Result<Prediction, Refusal>,
    /// A Policy that matches the target lets the action be done to what Helm installed.
    pub allow_helm: bool,
    /// Revisions that were seen healthy; absent when the caller cannot read them.
    pub known_good: Option<&'a [KnownGood]>,
    /// Which objects that earlier templates name exist; absent when the caller cannot look.
    pub presence: Option<&'a [Presence]>,
    /// When the first alert began, by its sender's clock; absent when the caller does not know it.
    pub alert_started_at: Option<Time>,
    /// Whether a person's word goes before what the rules say of this reading.
    pub unconfirmed: Override,
    /// Whether a person's word goes before a doubt that is no evidence against the action: the controller asks for it, the
    /// executor does not.
    pub word: Override,
}

impl<'a> Observed<'a> {
    /// Pods that fail in a way that a pod template can cause.
    pub fn failing(&self) -> Vec<&'a Pod> {
        self.workload.failing_pods().collect()
    }

    /// The mark that says that this template of the workload was seen healthy.
    pub fn mark(&self, template_hash: &str) -> Option<&'a KnownGood> {
        let workload_uid = &self.workload.object.uid;
        let fits = |mark: &&KnownGood| mark.workload_uid == *workload_uid && mark.template_hash == template_hash;
        self.known_good.into_iter().flatten().find(fits)
    }
}
