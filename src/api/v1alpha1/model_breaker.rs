use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{LABEL, rules};

fn breaker_rules() -> serde_json::Value {
    rules([
        (
            "self.tenantFailures < self.failures".into(),
            "tenantFailures has to be less than failures: no namespace alone stops an upstream for all",
        ),
        (
            "!has(self.tenants) || self.tenants.all(t, t.failures < self.failures)".into(),
            "the failures of a namespace have to be less than failures: no namespace alone stops an upstream for all",
        ),
        (
            // `namespace` is a word of CEL itself.
            "!has(self.tenants) || \
             self.tenants.all(t, self.tenants.exists_one(u, u.__namespace__ == t.__namespace__))"
                .into(),
            "a namespace is listed twice",
        ),
    ])
}

/// When calls of an upstream that fails are stopped. What may be due to the question counts for the namespace that asked,
/// and stops only the calls of that one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = breaker_rules()))]
pub struct ModelBreaker {
    /// Failures in a row that stop all calls of an upstream, 2 to 50.
    #[serde(default = "default_failures")]
    #[schemars(range(min = 2, max = 50))]
    pub failures: i32,
    /// Failures in a row of calls of one namespace, that may be due to what it asks, that stop the calls of this namespace:
    /// 1 to 49, and less than `failures`. No namespace counts for more than that among the failures of all.
    #[serde(default = "default_tenant_failures")]
    #[schemars(range(min = 1, max = 49))]
    pub tenant_failures: i32,
    /// The same for single namespaces. At most 32, each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tenants: Vec<TenantBreaker>,
}

fn default_failures() -> i32 {
    5
}

fn default_tenant_failures() -> i32 {
    3
}

impl Default for ModelBreaker {
    fn default() -> ModelBreaker {
        ModelBreaker { failures: default_failures(), tenant_failures: default_tenant_failures(), tenants: Vec::new() }
    }
}

/// When the calls of one namespace are stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantBreaker {
    /// The namespace.
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL))]
    pub namespace: String,
    /// Failures in a row, 1 to 49, and less than `failures` of the chain.
    #[schemars(range(min = 1, max = 49))]
    pub failures: i32,
}
