//! The synthetic probe: one cheap question to each upstream that nobody asked lately, paid from a budget of its own. Only
//! the process that leads probes.

use std::{sync::LazyLock, time::Duration};

use futures::future::join_all;
use serde_json::{Value, json};

use super::{ledger::Advance, live::Live, note, send::Reply, wire::Question};
use crate::core::{
    chain::{
        decision::decide,
        failure::Failure,
        fleet::{End, Id},
        spec::Upstream,
    },
    money::NanoDollars,
    spend::charge::{Bound, Outcome, charge},
};

/// Time for one probe.
const LIMIT: Duration = Duration::from_secs(30);
/// Tokens of its answer. Fewer than 16 are refused by some providers, and models that reason first need some.
const MAX_OUTPUT_TOKENS: u32 = 64;
/// Bytes that its request has at most, all of which count as tokens before it is sent.
const MAX_REQUEST: u64 = 4096;
/// The most that it can use.
const BOUND: Bound = Bound { input: MAX_REQUEST, output: MAX_OUTPUT_TOKENS as u64 };

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

async fn probe(of: &Live, id: Id, upstream: &Upstream, advance: &Advance) -> bool {
    let most = upstream.prices.as_ref().map_or(NanoDollars(0), |it| it.at_most(BOUND.input, BOUND.output));
    let hold = match advance.reserve(&upstream.name, most).await {
        Ok(hold) => hold,
        Err(no_money) => {
            tracing::debug!(upstream = upstream.name, %no_money, "not probed");
            return false;
        }
    };
    let Some((asked, told)) = of.with_fleet(|fleet, now| fleet.begin(id, None, LIMIT, now)) else {
        hold.settle(NanoDollars(0));
        return false;
    };
    of.tell(&told);
    let answer = of.sender().send(upstream, &question(), LIMIT).await;
    let (amount, prices) = (hold.amount(), upstream.prices.as_ref());
    let failed = match answer {
        Ok(Reply { usage, request_id, served_model, .. }) => {
            of.served(upstream, served_model.as_deref());
            hold.settle(charge(usage.map_or(Outcome::Unknown, Outcome::Used), amount, prices));
            let wrong = usage.filter(|usage| !BOUND.holds(usage));
            wrong.map(|usage| Failure::usage_implausible(Some(200), request_id, BOUND.cut(usage)))
        }
        Err(signal) => {
            // As an attempt of a diagnosis: what was refused at the door is free, a usage that is not whole is none.
            of.served(upstream, signal.served_model.as_deref());
            hold.settle(charge(note::outcome(&signal), amount, prices));
            Some(note::failure(&signal, BOUND))
        }
    };
    let told = match &failed {
        None => of.with_fleet(|fleet, now| fleet.end(asked, End::Answered, now)),
        Some(failure) => {
            let decision = decide(failure, &upstream.extra_failover_statuses, true);
            of.with_fleet(|fleet, now| fleet.end(asked, End::of_probe(failure, &decision), now))
        }
    };
    of.tell(&told);
    true
}
