//! The synthetic probe: one cheap question to each upstream that nobody asked lately, paid from a budget of its own. Only
//! the process that leads probes.

use std::{sync::LazyLock, time::Duration};

use futures::future::join_all;
use serde_json::{Value, json};

use super::{ledger::Advance, live::Live, send::Reply, wire::Question};
use crate::{
    clock,
    core::{
        chain::{
            failure::{Failure, classify, decide},
            fleet::{End, Id},
            signal::{Sent, Signal},
            spec::Upstream,
        },
        money::NanoDollars,
        spend::charge::{Outcome, charge},
    },
};

/// Time for one probe.
const LIMIT: Duration = Duration::from_secs(30);
/// Tokens of its answer. Fewer than 16 are refused by some providers, and models that reason first need some.
const MAX_OUTPUT_TOKENS: u32 = 64;
/// Bytes that its request has at most, all of which count as tokens before it is sent.
const MAX_REQUEST: u64 = 4096;

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], "additionalProperties": false,
    })
});

/// The question.
pub fn question() -> Question<'static> {
    Question {
        system: "You are asked whether you can answer.",
        user: "Answer with ok = true.",
        schema: &SCHEMA,
        schema_name: "probe",
        max_output_tokens: MAX_OUTPUT_TOKENS,
    }
}

/// Probes those upstreams of the chain that are due, side by side. Returns how many were asked.
pub async fn due(live: &Live) -> usize {
    let Some(terms) = live.chain().probe else { return 0 };
    let due: Vec<(Id, Upstream)> = live.with_fleet(|fleet, now| {
        fleet.to_probe(terms.interval, now).into_iter().map(|(id, upstream)| (id, upstream.clone())).collect()
    });
    let advance = live.advance_for_probes();
    let asked = join_all(due.iter().map(|(id, upstream)| probe(live, *id, upstream, &advance))).await;
    asked.into_iter().filter(|asked| *asked).count()
}

async fn probe(live: &Live, id: Id, upstream: &Upstream, advance: &Advance) -> bool {
    let most = upstream.prices.as_ref().map_or(NanoDollars(0), |it| it.at_most(MAX_REQUEST, MAX_OUTPUT_TOKENS.into()));
    let hold = match advance.reserve(&upstream.name, most).await {
        Ok(hold) => hold,
        Err(no_money) => {
            tracing::debug!(upstream = upstream.name, %no_money, "not probed");
            return false;
        }
    };
    let Some((asked, told)) = live.with_fleet(|fleet, now| fleet.begin(id, None, LIMIT, now)) else {
        hold.settle(NanoDollars(0));
        return false;
    };
    live.tell(&told);
    let answer = live.sender().send(upstream, &question(), LIMIT).await;
    let (amount, prices) = (hold.amount(), upstream.prices.as_ref());
    let told = match answer {
        Ok(Reply { usage, .. }) => {
            hold.settle(charge(usage.map_or(Outcome::Unknown, Outcome::Used), amount, prices));
            live.with_fleet(|fleet, now| fleet.end(asked, End::Answered, now))
        }
        Err(signal) => {
            hold.settle(charge(outcome(&signal), amount, prices));
            let failure: Failure = classify(&signal, clock::now());
            let decision = decide(&failure, &upstream.extra_failover_statuses, true);
            live.with_fleet(|fleet, now| fleet.end(asked, End::Failed(&failure, &decision), now))
        }
    };
    live.tell(&told);
    true
}

fn outcome(signal: &Signal) -> Outcome {
    match (signal.sent, signal.usage) {
        (Sent::Nothing, _) => Outcome::NothingSent,
        (Sent::Maybe, Some(usage)) => Outcome::Used(usage),
        (Sent::Maybe, None) => Outcome::Unknown,
    }
}
