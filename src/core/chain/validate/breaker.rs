//! When calls of an upstream that fails are stopped.

use std::collections::BTreeMap;

use super::finding::{Fault, Findings};
use super::{names, numbers};
use crate::api::v1alpha1::{ModelBreaker, TenantBreaker};
use crate::core::chain::spec::BreakerTerms;

/// Failures in a row that stop the calls of all, at most; those of one namespace are fewer.
const FAILURES: u32 = 50;
/// Namespaces with a number of their own.
const TENANTS: usize = 32;

/// The numbers, each within its bounds. One namespace alone must not stop an upstream for all, so its number is smaller.
pub(super) fn of(found: &mut Findings, said: &ModelBreaker) -> BreakerTerms {
    let ModelBreaker { failures, tenant_failures, tenants } = said;
    let failures = numbers::range(found, "spec.breaker.failures", *failures, 2, FAILURES);
    let of_tenant = |found: &mut Findings, field: &str, said: i32| {
        let own = numbers::range(found, field, said, 1, FAILURES - 1);
        if own >= failures {
            let message = format!(
                "{own} is not less than {failures}, the failures that stop an upstream for all: one namespace alone would"
            );
            found.refuse(field, Fault::OutOfRange, message);
        }
        own
    };
    let tenant_failures = of_tenant(found, "spec.breaker.tenantFailures", *tenant_failures);
    if tenants.len() > TENANTS {
        let message = format!("there are {}, and at most {TENANTS} may be", tenants.len());
        found.refuse("spec.breaker.tenants", Fault::OutOfRange, message);
    }
    let mut own = BTreeMap::new();
    for (index, TenantBreaker { namespace, failures }) in tenants.iter().enumerate() {
        let at = format!("spec.breaker.tenants[{index}]");
        names::label(found, &format!("{at}.namespace"), namespace);
        let failures = of_tenant(found, &format!("{at}.failures"), *failures);
        if own.insert(namespace.clone(), failures).is_some() {
            found.refuse(format!("{at}.namespace"), Fault::Duplicate, "the namespace is listed twice");
        }
    }
    BreakerTerms { failures, tenant_failures, tenants: own }
}
