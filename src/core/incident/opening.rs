//! The record of a Grant that is about to open: who allowed what, on whose word. Everything in it is bounded and
//! follows from what was decided, so that a repetition is the same record.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::api::v1alpha1::{Decision, FieldChange, Remediation, Verdict, Write};
use crate::core::{
    cel::{JUDGEMENT_UNITS, Meter},
    names,
    policy::{self, CompiledPolicy, InForce},
};

use super::{About, JudgementInputs, diagnosis::cut, remediation};

/// Names, changes and Approvals that are listed.
const MAX_LISTED: usize = 32;
/// Characters of a value.
const MAX_VALUE: usize = 512;

/// What `GrantOpening` says.
pub(super) fn details(
    about: About<'_>,
    remediation: &Remediation,
    epoch: i64,
    decision: Option<&Decision>,
    case: &JudgementInputs,
) -> Value {
    let spec = &remediation.spec;
    let kind = Some(spec.target.kind.as_str());
    let labels = case.workload.as_ref().ok().map(|workload| &workload.labels);
    let policies = policy::matching(&case.rules.policies, kind, labels).all();
    let approvals = case.books.approvals.iter().filter(|approval| approval.answers(&spec.digest));
    let approvals = approvals.map(|approval| {
        json!({
            "approver": approval.approver, "groups": approval.groups, "answer": approval.answer, "name": approval.name,
            "uid": approval.uid, "digest": approval.digest,
        })
    });
    let mut details = Map::new();
    for (key, value) in [
        ("remediation", json!(remediation::name_of(remediation))),
        ("epoch", json!(epoch)),
        ("digest", json!(spec.digest)),
        ("purpose", json!(spec.purpose)),
        ("follows", json!(spec.follows)),
        ("target", json!(spec.target)),
        ("action", json!(spec.action)),
        ("provenance", json!(spec.provenance)),
        ("change", change(&spec.write, decision)),
        ("verdicts", decision.map_or(Value::Null, verdicts)),
        ("mode", json!(policy::mode(case.rules.mode.as_deref(), &policies))),
        ("policies", policies.iter().take(MAX_LISTED).map(|policy| policy.name.as_str()).collect()),
        ("exceptions", exceptions(about, case, &policies)),
        ("runbooks", case.rules.runbooks.iter().take(MAX_LISTED).map(policy::runbook_name).collect()),
        ("approvals", approvals.take(MAX_LISTED).collect()),
        ("incidentUid", json!(about.incident.metadata.uid)),
        ("diagnoser", json!(decision.map(|decision| &decision.diagnoser))),
        ("reviewer", json!(review(case))),
    ] {
        details.insert(key.into(), value);
    }
    Value::Object(details)
}

/// The PolicyExceptions that lift something for the target, with their reasons.
fn exceptions(about: About<'_>, case: &JudgementInputs, policies: &[&CompiledPolicy]) -> Value {
    let Ok(workload) = &case.workload else { return json!([]) };
    let (all, system) = (&case.rules.exceptions, about.terms.system.as_str());
    let mut named = BTreeMap::new();
    let mut meter = Meter::new(JUDGEMENT_UNITS);
    let in_force = InForce::of(all, &workload.object, &workload.labels, system, about.now, &mut meter);
    for policy in policies {
        for exception in in_force.lift(policy).by() {
            named.insert(policy::exception_name(exception), cut(&exception.spec.reason, MAX_VALUE));
        }
    }
    named.into_iter().take(MAX_LISTED).map(|(name, reason)| json!({ "name": name, "reason": reason })).collect()
}

/// What a reviewer said: an objection that a person overruled is on the record.
fn review(case: &JudgementInputs) -> Option<Value> {
    let review = case.investigation.as_ref()?.status.as_ref()?.review.as_ref()?;
    Some(json!({ "rung": cut(&review.rung, 64), "objects": review.objects, "reason": cut(&review.reason, MAX_VALUE) }))
}

/// The exact change: digests of both values, and the fields that differ as redacted text.
fn change(write: &Write, decision: Option<&Decision>) -> Value {
    match write {
        Write::Field(field) => {
            let diff = decision.map(|decision| decision.diff.as_slice()).unwrap_or_default();
            let short = |change: &FieldChange| {
                let FieldChange { path, before, after } = change;
                json!({ "path": path, "before": cut(before, MAX_VALUE), "after": cut(after, MAX_VALUE) })
            };
            json!({
                "path": field.path, "beforeSha256": hash(&field.before), "afterSha256": hash(&field.after),
                "fields": diff.iter().take(MAX_LISTED).map(short).collect::<Vec<_>>(),
                "omitted": diff.len().saturating_sub(MAX_LISTED),
            })
        }
        Write::Evict(evict) => json!({ "evict": evict.pod }),
    }
}

fn hash(value: &Value) -> String {
    hex::encode(Sha256::digest(names::canonical(value)))
}

/// How many checks passed, and those that did not.
fn verdicts(decision: &Decision) -> Value {
    let passed = decision.checks.iter().filter(|check| check.verdict == Verdict::Passed).count();
    let others = decision.checks.iter().filter(|check| check.verdict != Verdict::Passed);
    json!({
        "outcome": decision.outcome, "reason": decision.reason, "passed": passed, "of": decision.checks.len(),
        "others": others.take(MAX_LISTED).map(|check| check.check.as_str()).collect::<Vec<_>>(),
    })
}
