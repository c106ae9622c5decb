//! API group `backstop.dev`, version `v1alpha1`.
//!
//! One file per kind, one for the facts of an Investigation, one each for plan and diagnosis of an Incident, and one for what
//! people write in CEL. Every list and string is bounded, because the API server
//! prices CEL rules by the largest object that the schema admits. Each `status`
//! has exactly one writer, named at its type; the API server's RBAC holds it to that.

mod alert;
mod approval;
mod common;
mod expressions;
mod facts;
mod grant;
mod incident;
mod incident_diagnosis;
mod investigation;
mod ledger;
mod model_breaker;
mod model_chain;
mod model_chain_status;
mod plan;
mod policy;
mod policy_exception;
mod remediation;
mod runbook;
mod selector;

pub use alert::*;
pub use approval::*;
pub use common::*;
pub use expressions::*;
pub use facts::*;
pub use grant::*;
pub use incident::*;
pub use incident_diagnosis::*;
pub use investigation::*;
pub use ledger::*;
pub use model_breaker::*;
pub use model_chain::*;
pub use model_chain_status::*;
pub use plan::*;
pub use policy::*;
pub use policy_exception::*;
pub use remediation::*;
pub use runbook::*;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

/// API group of every kind in this module.
pub const GROUP: &str = "backstop.dev";
/// The one served version.
pub const VERSION: &str = "v1alpha1";

/// Every custom resource definition, in the order in which they are written to `crds/`.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    vec![
        Alert::crd(),
        Incident::crd(),
        Investigation::crd(),
        Remediation::crd(),
        Grant::crd(),
        Ledger::crd(),
        Approval::crd(),
        Runbook::crd(),
        Policy::crd(),
        PolicyException::crd(),
        ModelChain::crd(),
    ]
}
