//! What the status of a `ModelChain` says: put together from what the process that asks the models knows of it.

use std::time::Duration;

use super::changes;
use super::spec::ValidChain;
use super::validate::{Checked, Fault, Finding};
use crate::api::v1alpha1::{Condition, ModelChainStatus, Time, UpstreamChange, UpstreamState, UpstreamStatus};
use crate::core::{conditions, money::NanoDollars, redact::clip, rules};

/// An upstream without a success for so many intervals of the probe is not known any more.
const STALE: u32 = 3;
/// Findings that a condition lists; the rest is counted.
const LISTED: usize = 8;
/// Bytes of a model's name in a sentence.
const MAX_NAME: usize = 64;
/// Bytes of a condition's message.
const MAX_MESSAGE: usize = 900;

/// What is known of a chain at some time.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// `metadata.generation` of the object that was checked.
    pub generation: i64,
    /// The chain, or why it is not used.
    pub checked: Result<Checked, Vec<Finding>>,
    /// Keys that are not mounted, or cannot be read: each with the field that names it. An upstream whose key is missing is
    /// `Quarantined` in `upstreams`.
    pub missing: Vec<Finding>,
    /// State of each upstream, in the order of the chain; empty for a chain that is not used.
    pub upstreams: Vec<UpstreamStatus>,
    /// What was spent today (UTC), without probes.
    pub spent_today: NanoDollars,
    /// What changed lately about its upstreams.
    pub changes: Vec<UpstreamChange>,
}

/// The status for `snapshot`. `before` is the stored one, whose conditions go on.
pub fn of(snapshot: &Snapshot, before: Option<&ModelChainStatus>, now: Time) -> ModelChainStatus {
    let Snapshot { generation, checked, missing, upstreams, spent_today, changes } = snapshot;
    let probe = checked.as_ref().ok().and_then(|checked| checked.chain.probe.as_ref());
    let stale = probe.and_then(|probe| probe.interval.checked_mul(STALE));
    let upstreams: Vec<UpstreamStatus> = upstreams.iter().map(|upstream| aged(upstream, stale, now)).collect();
    let askable = upstreams.iter().filter(|upstream| may_be_asked(upstream)).count();
    let answering = upstreams.iter().find(|upstream| may_be_asked(upstream)).map(|upstream| upstream.rung.as_str());
    let latest = upstreams.iter().filter(|upstream| !upstream.last_error.is_empty());
    let latest = latest.max_by_key(|upstream| upstream.last_error_at);
    let mut list = before.map(|status| status.conditions.clone()).unwrap_or_default();
    ready(&mut list, checked, missing, askable, *generation, now);
    warned(&mut list, checked, missing, &upstreams, *generation, now);
    ModelChainStatus {
        observed_generation: *generation,
        available: match upstreams.len() {
            0 => String::new(),
            all => format!("{askable}/{all}"),
        },
        answering: answering.unwrap_or(rules::NAME).to_owned(),
        spent_today: spent_today.to_string(),
        last_error: latest.map(|upstream| format!("{}: {}", upstream.name, upstream.last_error)).unwrap_or_default(),
        upstreams,
        changes: changes::merged(before.map(|status| status.changes.as_slice()).unwrap_or_default(), changes),
        conditions: list,
    }
}

/// An upstream that answered long ago may be gone: nothing is known of it.
fn aged(upstream: &UpstreamStatus, stale: Option<Duration>, now: Time) -> UpstreamStatus {
    let old = match (stale, upstream.last_success_at) {
        (Some(stale), Some(at)) => Duration::try_from(now.duration_since(at)).is_ok_and(|age| age > stale),
        (Some(_), None) => true,
        (None, _) => false,
    };
    let state = match upstream.state {
        UpstreamState::Available if old => UpstreamState::Unknown,
        state => state,
    };
    UpstreamStatus { state, ..upstream.clone() }
}

fn may_be_asked(upstream: &UpstreamStatus) -> bool {
    match upstream.state {
        UpstreamState::Unknown | UpstreamState::Available | UpstreamState::HalfOpen => true,
        UpstreamState::CoolingDown | UpstreamState::Open | UpstreamState::Quarantined => false,
    }
}

/// `Ready`: the chain is valid, and one of its upstreams may be asked.
fn ready(
    list: &mut Vec<Condition>,
    checked: &Result<Checked, Vec<Finding>>,
    missing: &[Finding],
    askable: usize,
    generation: i64,
    now: Time,
) {
    let (holds, reason, message) = match checked {
        Err(findings) => {
            let reason = findings.first().map_or("Invalid", |first| first.fault.as_str());
            (false, reason, format!("the rules answer alone: {}", sentences(findings)))
        }
        Ok(_) if askable > 0 => (true, "InUse", String::new()),
        Ok(_) if !missing.is_empty() => {
            (false, "SecretMissing", format!("the rules answer alone: {}", sentences(missing)))
        }
        Ok(_) => (false, "NoUpstream", "no upstream may be asked now; the rules answer alone".to_owned()),
    };
    conditions::set(list, "Ready", holds, reason, &message, generation, now);
}

/// `Warned`: something about it is probably not meant.
fn warned(
    list: &mut Vec<Condition>,
    checked: &Result<Checked, Vec<Finding>>,
    missing: &[Finding],
    upstreams: &[UpstreamStatus],
    generation: i64,
    now: Time,
) {
    let warnings = checked.as_ref().map(|checked| checked.warnings.as_slice()).unwrap_or_default();
    let swapped = checked.as_ref().map(|checked| swapped(&checked.chain, upstreams)).unwrap_or_default();
    let all: Vec<Finding> = missing.iter().chain(&swapped).chain(warnings).cloned().collect();
    let reason = match (missing, swapped.as_slice(), warnings) {
        ([_, ..], ..) => "SecretMissing",
        (_, [_, ..], _) => "ModelSwapped",
        (.., [_, ..]) => "LookAtThis",
        ([], [], []) => "NothingToSay",
    };
    conditions::set(list, "Warned", !all.is_empty(), reason, &sentences(&all), generation, now);
}

/// The upstreams that answer as another model than they are asked for.
fn swapped(chain: &ValidChain, upstreams: &[UpstreamStatus]) -> Vec<Finding> {
    let mut found = Vec::new();
    for (rung_index, rung) in chain.rungs.iter().enumerate() {
        for (index, upstream) in rung.upstreams.iter().enumerate() {
            let told = upstreams.iter().find(|told| told.name == upstream.name && !told.served_model.is_empty());
            found.extend(told.map(|told| Finding {
                field: format!("spec.rungs[{rung_index}].upstreams[{index}].model"),
                fault: Fault::Unknown,
                message: format!(
                    "{} is asked for, and {} answers: its answers lead to suggestions at most; if it is the same model, list the \
                     name in servedAs",
                    clip(&upstream.model, MAX_NAME),
                    clip(&told.served_model, MAX_NAME)
                ),
            }));
        }
    }
    found
}

/// The findings in one text for people.
fn sentences(findings: &[Finding]) -> String {
    let listed: Vec<String> = findings.iter().take(LISTED).map(Finding::to_string).collect();
    let more = findings.len().saturating_sub(LISTED);
    let rest = if more > 0 { format!("; and {more} more") } else { String::new() };
    clip(&(listed.join("; ") + &rest), MAX_MESSAGE)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::v1alpha1::{ModelChain, UpstreamState::*};
    use crate::core::chain::validate;

    fn at(second: i64) -> Time {
        Time::from_second(second).unwrap()
    }

    fn checked(url: &str) -> Result<Checked, Vec<Finding>> {
        let prices = json!({"input": "0", "output": "0"});
        let upstream = json!({"name": "own", "url": url, "api": "OpenAiChat", "prices": prices});
        let spec = json!({"rungs": [{"name": "big", "model": "big-1", "upstreams": [upstream]}]});
        validate::of(&ModelChain::new("default", serde_json::from_value(spec).unwrap()))
    }

    fn upstream(rung: &str, name: &str, state: UpstreamState) -> UpstreamStatus {
        let last_success_at = Some(at(1000));
        UpstreamStatus { rung: rung.into(), name: name.into(), state, last_success_at, ..UpstreamStatus::default() }
    }

    fn snapshot(upstreams: Vec<UpstreamStatus>) -> Snapshot {
        let checked = checked("http://vllm:8000/v1");
        Snapshot {
            generation: 2,
            checked,
            missing: vec![],
            upstreams,
            spent_today: NanoDollars(420_000_000),
            changes: vec![],
        }
    }

    fn condition<'a>(status: &'a ModelChainStatus, name: &str) -> (&'a str, &'a str, &'a str) {
        let found = status.conditions.iter().find(|condition| condition.type_ == name).unwrap();
        (&found.status, &found.reason, &found.message)
    }

    #[test]
    fn the_columns_say_what_answers_now_and_what_failed_last() {
        let failed = |second, class: &str, upstream| UpstreamStatus {
            last_error: class.into(),
            last_error_at: Some(at(second)),
            ..upstream
        };
        let status = of(
            &snapshot(vec![
                failed(900, "Upstream", upstream("big", "a", Open)),
                failed(950, "RateLimited", upstream("big", "b", CoolingDown)),
                upstream("small", "c", Quarantined),
                upstream("last", "d", Available),
            ]),
            None,
            at(1001),
        );
        let ModelChainStatus { observed_generation, available, answering, spent_today, last_error, .. } = &status;
        assert_eq!(*observed_generation, 2);
        assert_eq!([available, answering, spent_today, last_error], ["1/4", "last", "$0.42", "b: RateLimited"]);
        assert_eq!(condition(&status, "Ready"), ("True", "InUse", ""));
        assert_eq!(condition(&status, "Warned").0, "False");
    }

    #[test]
    fn where_no_upstream_may_be_asked_the_rules_answer_and_it_is_not_ready() {
        for state in [Open, CoolingDown, Quarantined] {
            let status = of(&snapshot(vec![upstream("big", "own", state)]), None, at(1001));
            assert_eq!((status.answering.as_str(), condition(&status, "Ready").1), ("rules", "NoUpstream"));
        }
        for state in [Unknown, HalfOpen, Available] {
            let status = of(&snapshot(vec![upstream("big", "own", state)]), None, at(1001));
            assert_eq!((status.answering.as_str(), condition(&status, "Ready").0), ("big", "True"));
        }
    }

    #[test]
    fn a_success_of_long_ago_says_nothing() {
        let state = |now| of(&snapshot(vec![upstream("big", "own", Available)]), None, at(now)).upstreams[0].state;
        assert_eq!((state(1270), state(1271)), (Available, Unknown));
        let status = of(&snapshot(vec![upstream("big", "own", Open)]), None, at(9000));
        assert_eq!(status.upstreams[0].state, Open, "what is known to be closed stays so");
    }

    #[test]
    fn a_chain_that_is_not_valid_says_which_field_and_why() {
        let snapshot = Snapshot { checked: checked("http://example.com/v1"), ..snapshot(vec![]) };
        let status = of(&snapshot, None, at(1001));
        let (holds, reason, message) = condition(&status, "Ready");
        assert_eq!((holds, reason), ("False", "Unsupported"));
        assert!(message.contains("spec.rungs[0].upstreams[0].url: plain http"), "{message}");
        assert_eq!((status.answering.as_str(), status.available.as_str()), ("rules", ""));
    }

    #[test]
    fn a_missing_secret_is_named_by_the_field_that_names_it() {
        let missing = Finding {
            field: "spec.rungs[0].upstreams[0].credentials.secret".into(),
            fault: Fault::Unknown,
            message: "Secret keys is not mounted; add it to the chart's value models.secrets".into(),
        };
        let with = |state| Snapshot {
            missing: vec![missing.clone()],
            ..snapshot(vec![upstream("big", "own", Quarantined), upstream("big", "other", state)])
        };
        let status = of(&with(Available), None, at(1001));
        assert_eq!((condition(&status, "Ready").0, condition(&status, "Warned").1), ("True", "SecretMissing"));
        let status = of(&with(Quarantined), None, at(1001));
        let (holds, reason, message) = condition(&status, "Ready");
        assert_eq!((holds, reason), ("False", "SecretMissing"));
        assert!(message.contains("credentials.secret: Secret keys is not mounted"), "{message}");
    }

    #[test]
    fn another_model_than_was_asked_for_is_a_warning_that_names_both() {
        let swapped = UpstreamStatus { served_model: "small-1".into(), ..upstream("big", "own", Available) };
        let status = of(&snapshot(vec![swapped]), None, at(1001));
        assert_eq!(condition(&status, "Ready").0, "True");
        let (holds, reason, message) = condition(&status, "Warned");
        assert_eq!((holds, reason), ("True", "ModelSwapped"));
        assert!(
            message.contains("spec.rungs[0].upstreams[0].model: big-1 is asked for, and small-1 answers"),
            "{message}"
        );
    }

    #[test]
    fn many_findings_fit_into_a_condition() {
        let one = Finding { field: "spec.x".repeat(20), fault: Fault::Invalid, message: "y".repeat(200) };
        let snapshot = Snapshot { checked: Err(vec![one; 100]), ..snapshot(vec![]) };
        let status = of(&snapshot, None, at(1001));
        let message = condition(&status, "Ready").2;
        assert!(message.len() <= 1000, "{}", message.len());
    }

    #[test]
    fn a_condition_keeps_the_time_since_when_it_holds() {
        let first = of(&snapshot(vec![upstream("big", "own", Available)]), None, at(1001));
        let again = of(&snapshot(vec![upstream("big", "own", Available)]), Some(&first), at(1100));
        assert_eq!(first, again);
    }
}
