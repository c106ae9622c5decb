//! A message that every receiver takes: cut to a size, the least needed first, and what was left out is said.

use serde::Serialize;

use super::channel::{Message, bounded};
use crate::api::v1alpha1::Verdict;

/// Runbooks' texts that are passed on.
const MAX_DOCS: usize = 12;
/// Bytes of one of them.
const MAX_DOC: usize = 2048;
/// Bytes of a fact in a message that is too large whole.
const SHORT: usize = 200;

/// `message` so that `written` of it has `max` bytes at most. `written` is what is sent, around the message.
pub(super) fn fit<T: Serialize>(message: &Message, max: usize, written: impl Fn(&Message) -> T) -> Message {
    let mut message = Message { omitted: vec![], ..message.clone() };
    docs(&mut message);
    let steps: [fn(&mut Message); 11] =
        [passed, uncited, runbooks, alerts, checks, attempts, short_changes, long_facts, facts, changes, names];
    for step in steps {
        if size(&written(&message)) <= max {
            return message;
        }
        step(&mut message);
    }
    // Whatever is left is prose: halve it until it fits.
    let mut prose = 1024;
    while size(&written(&message)) > max && prose > 8 {
        let Message {
            message: text,
            next_step,
            hypothesis,
            advice,
            objection,
            reason,
            cluster,
            inspect,
            runbook_docs,
            attempts,
            refused_answers,
            ..
        } = &mut message;
        for text in [text, next_step, hypothesis, advice, objection, reason, cluster, inspect] {
            *text = bounded(text, prose);
        }
        runbook_docs.clear();
        attempts.clear();
        refused_answers.clear();
        prose /= 2;
    }
    message
}

fn size(body: &impl Serialize) -> usize {
    serde_json::to_vec(body).map_or(usize::MAX, |text| text.len())
}

fn docs(message: &mut Message) {
    let all = std::mem::take(&mut message.runbook_docs);
    let left_out = all.len().saturating_sub(MAX_DOCS);
    message.runbook_docs =
        all.into_iter().take(MAX_DOCS).map(|(of, text)| (bounded(&of, 512), bounded(&text, MAX_DOC))).collect();
    omit(message, left_out, "texts of Runbooks");
}

/// A check that passed says all by its name.
fn passed(message: &mut Message) {
    for check in message.checks.iter_mut().filter(|check| check.verdict == Verdict::Passed) {
        check.message = String::new();
    }
}

fn uncited(message: &mut Message) {
    let keep = message.cited.min(message.facts.len());
    let left_out = message.facts.drain(keep..).count();
    omit(message, left_out, "facts that the diagnosis does not cite");
}

fn runbooks(message: &mut Message) {
    let left_out = std::mem::take(&mut message.runbook_docs).len();
    omit(message, left_out, "more texts of Runbooks");
}

fn long_facts(message: &mut Message) {
    message.facts.truncate(32);
    for fact in &mut message.facts {
        *fact = bounded(fact, SHORT);
    }
}

fn checks(message: &mut Message) {
    let before = message.checks.len();
    message.checks.retain(|check| matches!(check.verdict, Verdict::Refused | Verdict::Unknown));
    omit(message, before - message.checks.len(), "checks that passed or were not evaluated");
    message.checks.truncate(32);
    for check in &mut message.checks {
        check.message = bounded(&check.message, SHORT);
    }
}

fn attempts(message: &mut Message) {
    let left_out = message.attempts.len().saturating_sub(4);
    message.attempts.truncate(4);
    for text in message.attempts.iter_mut().chain(&mut message.refused_answers) {
        *text = bounded(text, SHORT);
    }
    omit(message, left_out, "attempts");
}

fn facts(message: &mut Message) {
    let left_out = std::mem::take(&mut message.facts).len();
    omit(message, left_out, "facts");
}

fn alerts(message: &mut Message) {
    let left_out = message.alerts.len().saturating_sub(8);
    message.alerts.truncate(8);
    for alert in &mut message.alerts {
        *alert = bounded(alert, SHORT);
    }
    omit(message, left_out, "names of alerts");
}

fn short_changes(message: &mut Message) {
    for change in &mut message.changes {
        for text in [&mut change.path, &mut change.before, &mut change.after] {
            *text = bounded(text, SHORT);
        }
    }
}

fn changes(message: &mut Message) {
    let left_out = std::mem::take(&mut message.changes).len();
    let left_out = left_out + std::mem::take(&mut message.checks).len();
    omit(message, left_out, "changes and checks");
    let left_out = std::mem::take(&mut message.manifest_diff).lines().count();
    omit(message, left_out, "lines of the manifest's difference");
}

fn names(message: &mut Message) {
    let left_out = std::mem::take(&mut message.alerts).len();
    omit(message, left_out, "more names of alerts");
}

fn omit(message: &mut Message, count: usize, what: &str) {
    if count > 0 {
        message.omitted.push(format!("{count} {what}"));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::v1alpha1::{CheckVerdict, FieldChange};

    /// Everything at its longest, in characters that JSON writes with six bytes each.
    fn huge(text: &str) -> Message {
        let long = |bytes: usize| text.repeat(bytes / text.len());
        let check = |verdict| CheckVerdict { verdict, message: long(1024), ..CheckVerdict::default() };
        Message {
            facts: vec![long(4096); 200],
            cited: 16,
            checks: [Verdict::Passed, Verdict::Refused].map(check).into_iter().cycle().take(64).collect(),
            alerts: vec![long(1024); 100],
            runbook_docs: (0..300).map(|index| (format!("shop/{index}: meaning"), long(4096))).collect(),
            changes: vec![FieldChange { path: long(512), before: long(1024), after: long(1024) }; 16],
            message: long(2048),
            next_step: long(2048),
            hypothesis: long(1024),
            advice: long(1024),
            objection: long(1100),
            attempts: vec![long(512); 16],
            refused_answers: vec![long(1024); 8],
            reason: "OnlyOneRevision".into(),
            inspect: "kubectl -n shop get incident i1 -o yaml".into(),
            ..Message::default()
        }
    }

    #[test]
    fn what_is_cut_first_is_what_a_person_needs_least_and_it_is_said() {
        let message = Message {
            facts: (0..100).map(|index| format!("f{index}: {}", "x".repeat(1000))).collect(),
            cited: 3,
            ..huge("x")
        };
        let fitted = fit(&message, 64 << 10, Message::clone);
        assert_eq!(fitted.facts, message.facts[..3]);
        assert!(fitted.hypothesis == message.hypothesis && fitted.next_step == message.next_step);
        assert!(
            fitted.omitted.contains(&"97 facts that the diagnosis does not cite".to_owned()),
            "{:?}",
            fitted.omitted
        );
        assert!(fitted.checks.iter().any(|check| check.verdict == Verdict::Refused && !check.message.is_empty()));
        let small = Message { facts: vec!["f1: a".into()], ..Message::default() };
        assert_eq!(fit(&small, 64 << 10, Message::clone), small, "what fits is passed on whole");
    }

    #[test]
    fn a_hundred_runbooks_of_a_tenant_do_not_push_out_the_page() {
        let fitted =
            fit(&Message { facts: vec![], checks: vec![], alerts: vec![], ..huge("x") }, 1 << 20, Message::clone);
        assert_eq!(fitted.runbook_docs.len(), MAX_DOCS);
        assert!(fitted.runbook_docs.values().all(|text| text.len() <= MAX_DOC));
        assert!(fitted.omitted[0].contains("288 texts"), "{:?}", fitted.omitted);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

        #[test]
        fn whatever_is_in_it_the_body_keeps_its_size(text in "[\\x00-\\x1f\"a-zä]{1,4}", max in 6_usize..200) {
            let max = max << 10;
            let fitted = fit(&huge(&text), max, Message::clone);
            prop_assert!(size(&fitted) <= max, "{} of {max}", size(&fitted));
            prop_assert_eq!(fitted.reason, "OnlyOneRevision");
        }
    }
}
