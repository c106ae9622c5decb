//! Chains for tests.

use std::collections::BTreeMap;
use std::time::Duration;

use super::spec::{BreakerTerms, Caps, Timers, Upstream, ValidChain, ValidRung};
use crate::api::v1alpha1::{Mode, ModelApi, ModelCredentials, StructuredOutput, TargetClass};
use crate::core::money::NanoDollars;

/// A direct upstream with a quota and credentials of its own.
pub fn upstream(name: &str, weight: u32) -> Upstream {
    Upstream {
        name: name.into(),
        url: format!("https://{name}.example"),
        api: ModelApi::OpenAiChat,
        model: "model".into(),
        served_as: vec![],
        class: TargetClass::Direct,
        weight,
        credentials: Some(ModelCredentials {
            secret: name.into(),
            key: "token".into(),
            secret_key: None,
            session_key: None,
        }),
        region: None,
        structured_output: StructuredOutput::Native,
        stream: true,
        prices: None,
        quota_scope: name.into(),
        timers: Timers {
            connect: Duration::from_secs(2),
            response_head: Duration::from_secs(30),
            first_event: Duration::from_secs(30),
            first_content: Duration::from_secs(30),
            idle: Duration::from_secs(10),
        },
        extra_failover_statuses: vec![],
    }
}

/// A chain of rungs with these upstreams.
pub fn chain(rungs: Vec<Vec<Upstream>>) -> ValidChain {
    let rung = |(index, upstreams)| ValidRung {
        name: format!("rung-{index}"),
        model: "model".into(),
        ceiling: Mode::Suggest,
        on_ungrounded: None,
        max_output_tokens: 1000,
        upstreams,
    };
    ValidChain {
        name: "default".into(),
        generation: 1,
        rungs: rungs.into_iter().enumerate().map(rung).collect(),
        deadline: Duration::from_secs(60),
        caps: Caps {
            per_incident: NanoDollars(1),
            per_namespace_per_day: NanoDollars(1),
            per_day: NanoDollars(1),
            requests_per_minute: 1,
        },
        probe: None,
        breaker: BreakerTerms { failures: 5, tenant_failures: 3, tenants: BTreeMap::new() },
        reviewer: None,
    }
}
