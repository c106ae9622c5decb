//! A rung of a ModelChain: one model, asked through its upstreams.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::{
    chain::{Chain, Reviewer},
    ledger::Advance,
    live::{Called, Job, Live},
    log::Log,
    rung::{Asked, Budget, Rung, Why},
};
use crate::{
    api::v1alpha1::{Diagnosis, IncidentKey, Mode, Review},
    core::{
        answer::{self, parse, parse_review, review_schema},
        chain::{breaker::Tenant, spec::ValidChain},
        prompt,
        rules::FactBundle,
    },
};

/// The rungs of a ModelChain for one diagnosis of an incident, and its reviewer.
pub fn chain(live: &Arc<Live>, incident: IncidentKey) -> Chain {
    let chain = live.chain();
    let refused = live.admit(&incident.namespace).is_err().then_some(Why::TooManyRequests);
    let tenant: Tenant = incident.namespace.as_str().into();
    let advance = live.advance(incident);
    let rung = |index| ModelRung {
        live: live.clone(),
        chain: chain.clone(),
        index,
        tenant: tenant.clone(),
        advance: advance.clone(),
        refused,
    };
    let rungs = (0..chain.rungs.len()).map(|index| Box::new(rung(index)) as Box<dyn Rung>).collect();
    Chain::new(rungs, chain.reviewer.map(|index| Box::new(rung(index)) as Box<dyn Reviewer>))
}

struct ModelRung {
    live: Arc<Live>,
    /// As it was when the diagnosis began.
    chain: Arc<ValidChain>,
    index: usize,
    tenant: Tenant,
    advance: Advance,
    refused: Option<Why>,
}

impl ModelRung {
    fn name(&self) -> &str {
        self.chain.rungs.get(self.index).map(|rung| rung.name.as_str()).unwrap_or_default()
    }

    fn job<'a>(
        &'a self,
        prompt: &'a prompt::Prompt,
        schema: &'a serde_json::Value,
        schema_name: &'a str,
        log: &'a Log,
    ) -> Job<'a> {
        Job {
            chain: &self.chain,
            rung: self.index,
            tenant: Some(&self.tenant),
            advance: &self.advance,
            prompt,
            schema,
            schema_name,
            log,
        }
    }

    /// The chain may have changed since the diagnosis began: then this rung may be another one by now.
    fn unasked(&self) -> Option<Why> {
        let changed = !self.live.is_current(&self.chain);
        self.refused.or(changed.then_some(Why::NotConfigured))
    }
}

impl<T> Called<T> {
    fn into_asked(self, diagnosis: impl FnOnce(T) -> Diagnosis) -> Asked {
        let Called { answer, swapped, last } = self;
        Asked { swapped, last, ..Asked::free(answer.map(diagnosis)) }
    }
}

impl Rung for ModelRung {
    fn name(&self) -> &str {
        self.name()
    }

    fn ceiling(&self) -> Mode {
        self.chain.rungs.get(self.index).map_or(Mode::Observe, |rung| rung.ceiling)
    }

    fn may_be_asked(&self) -> bool {
        self.unasked().is_none() && self.live.may_be_asked(self.index, Some(&self.tenant))
    }

    fn ask<'a>(&'a self, case: FactBundle<'a>, budget: Budget, log: &'a Log) -> BoxFuture<'a, Asked> {
        Box::pin(async move {
            if let Some(why) = self.unasked() {
                return Asked::free(Err(why));
            }
            let prompt = prompt::diagnose(case);
            let job = self.job(&prompt, answer::schema(), answer::NAME, log);
            let called = self.live.ask(&job, budget, parse).await;
            called.into_asked(|answer| answer.diagnosis(case.target, case.facts))
        })
    }
}

impl Reviewer for ModelRung {
    fn name(&self) -> &str {
        self.name()
    }

    fn review<'a>(
        &'a self,
        case: FactBundle<'a>,
        diagnosis: &'a Diagnosis,
        budget: Budget,
        log: &'a Log,
    ) -> BoxFuture<'a, (Option<Review>, Asked)> {
        Box::pin(async move {
            if let Some(why) = self.unasked() {
                return (None, Asked::free(Err(why)));
            }
            let prompt = prompt::review(case, diagnosis);
            let job = self.job(&prompt, review_schema(), answer::REVIEW_NAME, log);
            let Called { answer, swapped: _, last } = self.live.ask(&job, budget, parse_review).await;
            let review = answer.as_ref().ok().map(|answer| answer.review(self.name()));
            (review, Asked { last, ..Asked::free(answer.map(|_| Diagnosis::default())) })
        })
    }
}
