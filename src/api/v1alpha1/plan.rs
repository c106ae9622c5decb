use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Mode, ModelChainRef};

/// What will be done about an incident, written down before it begins.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Sources that the investigation will query. At most 32.
    #[schemars(length(max = 32), inner(length(max = 64)))]
    pub sources: Vec<String>,
    /// Names of the diagnosers in the order in which they are asked. At most 16; the last is always `rules`.
    #[schemars(length(max = 16), inner(length(max = 64)))]
    pub diagnosers: Vec<String>,
    /// The models among the diagnosers. Absent when no ModelChain was named and none is called `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_chain: Option<PlannedChain>,
    /// Names of the checks that a write has to pass, in order. At most 64.
    #[schemars(length(max = 64), inner(length(max = 64)))]
    pub gates: Vec<String>,
    /// The steps, each with the mode that it may be taken in. At most 16.
    #[schemars(length(max = 16))]
    pub steps: Vec<PlanStep>,
    /// The budgets that bound the incident. At most 16.
    #[schemars(length(max = 16))]
    pub budgets: Vec<PlanBudget>,
    /// The mode that results from the namespace's label and the matching Policies: the lowest of them.
    pub mode: Mode,
    /// Names of the Runbooks that match the alerts, as `namespace/name`. At most 32; where there are more, the last
    /// entry counts the others, which are asked too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 317)))]
    pub runbooks: Vec<String>,
    /// Names of the Policies that match the target, as `namespace/name`. At most 32; where there are more, the last
    /// entry counts the others, which are asked too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 317)))]
    pub policies: Vec<String>,
    /// Names of the Policies that may match the target, as `namespace/name`. At most 32. Whether their `objectSelector`
    /// matches is known once the target is read, before anything is decided. They can only lower `mode`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 317)))]
    pub possible_policies: Vec<String>,
}

/// The models of a plan, and how far their answers may go.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedChain {
    /// Name of the ModelChain in the system namespace; `rules` when a Policy or a Runbook asks for no model.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Its `metadata.generation`; 0 when it is not there.
    #[serde(default)]
    pub generation: i64,
    /// What chose it: `default`, or the Policy or Runbook that names it, such as `Policy shop/limits`. At most 330
    /// characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 330))]
    pub chosen_by: String,
    /// The highest mode in which an answer of a model may lead to an action when the rules do not confirm it, by the
    /// Policies that match.
    #[serde(default)]
    pub model_mode: Mode,
    /// Seconds that the models may take for one diagnosis, all rungs together; 0 when none is asked.
    #[serde(default)]
    pub deadline_seconds: i32,
    /// What the models may cost for this incident, in US dollars, such as `$1.00`; empty when none is asked.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 24))]
    pub per_incident: String,
    /// The rungs in their order. At most 8; none when no model is asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub rungs: Vec<PlannedRung>,
    /// Why no model is asked, at most 1024 characters; empty when models are.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub problem: String,
}

impl PlannedChain {
    /// The chain that an Investigation asks; `None` when no model is asked.
    pub fn asked(&self) -> Option<ModelChainRef> {
        (!self.rungs.is_empty()).then(|| ModelChainRef { name: self.name.clone(), generation: self.generation })
    }
}

/// One rung of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedRung {
    /// Name of the rung.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Its model.
    #[schemars(length(max = 128))]
    pub model: String,
    /// The highest mode in which its answers may lead to an action.
    #[serde(default)]
    pub ceiling: Mode,
    /// The rung that is asked once when its answer is not grounded. Absent: the rules decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub on_ungrounded: Option<String>,
}

/// One step of a plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanStep {
    /// Name of the step: `investigate`, `diagnose`, `decide`, the name of an action, `verify`, `undo` or `escalate`.
    #[schemars(length(max = 64))]
    pub name: String,
    /// The mode of the step: what may happen in it without a person.
    pub mode: Mode,
}

/// One budget of a plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanBudget {
    /// Name of the budget, such as `actions-per-incident` or `actions-per-hour-in-namespace`.
    #[schemars(length(max = 64))]
    pub name: String,
    /// Upper limit, as a number of actions or rounds.
    pub limit: i64,
}
