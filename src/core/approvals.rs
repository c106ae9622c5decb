//! Whether what people answered to one exact action is enough. Controller and executor ask it, each of what it read.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::v1alpha1::{ApprovalAnswer, ApprovalTerms};

/// Different terms that are asked at most: as many as a status holds.
pub const MAX_TERMS: usize = 32;

/// Approvals of one incident that are read at most. Where there are more, the rest may be a no.
pub const MAX_ANSWERS: usize = 100;

/// One person's answer to the action in question.
#[derive(Clone, Copy, Debug)]
pub struct Voice<'a> {
    /// Who.
    pub approver: &'a str,
    /// Groups of theirs that are to count.
    pub groups: &'a [String],
    /// What they said.
    pub answer: ApprovalAnswer,
}

/// What the answers come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may be done; the people who approved.
    Approved(String),
    /// It may not; who said no.
    Denied(String),
    /// Somebody's yes is missing; the sentence says whose.
    Missing(String),
}

/// The terms of several Policies, each once, and the stricter of two that ask the same people.
pub fn merged<'a>(terms: impl IntoIterator<Item = &'a ApprovalTerms>) -> Vec<ApprovalTerms> {
    let mut merged: Vec<ApprovalTerms> = vec![];
    let mut places: BTreeMap<BTreeSet<&String>, usize> = BTreeMap::new();
    for asked in terms {
        let groups: BTreeSet<&String> = asked.groups.iter().collect();
        if let Some(same) = places.get(&groups).and_then(|place| merged.get_mut(*place)) {
            same.required = same.required.max(asked.required);
            continue;
        }
        merged.push(ApprovalTerms { required: asked.required, groups: groups.iter().copied().cloned().collect() });
        places.insert(groups, merged.len() - 1);
    }
    merged
}

/// Why so many different terms cannot be met.
pub fn too_many(terms: usize) -> String {
    format!("the Policies ask {terms} different groups of people to approve, at most {MAX_TERMS}")
}

/// What `voices` come to. Each of `terms` has to be met on its own; without any, one yes is enough. A person who answered
/// several times counts once. More terms than [`MAX_TERMS`] cannot be met.
pub fn standing<'a>(voices: impl IntoIterator<Item = Voice<'a>>, terms: &[ApprovalTerms]) -> Standing {
    let voices: Vec<Voice<'a>> = voices.into_iter().collect();
    if let Some(no) = voices.iter().find(|voice| voice.answer == ApprovalAnswer::Deny) {
        return Standing::Denied(no.approver.to_owned());
    }
    if terms.len() > MAX_TERMS {
        return Standing::Missing(too_many(terms.len()));
    }
    // How many answers there are, and how many groups they name, people choose: each is looked at once.
    let mut people: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for Voice { approver, groups, answer: _ } in &voices {
        people.entry(approver).or_default().extend(groups.iter().map(String::as_str));
    }
    let anybody = [ApprovalTerms { required: 1, groups: vec![] }];
    let terms = if terms.is_empty() { &anybody } else { terms };
    let mut who = BTreeSet::new();
    let mut missing = vec![];
    for ApprovalTerms { required, groups } in terms {
        let counts = |of: &BTreeSet<&str>| groups.is_empty() || groups.iter().any(|group| of.contains(group.as_str()));
        let yes: BTreeSet<&str> = people.iter().filter(|(_, of)| counts(of)).map(|(approver, _)| *approver).collect();
        // Never fewer than one, whatever is stored.
        let required = usize::try_from(*required).unwrap_or(0).max(1);
        if yes.len() < required {
            let of = if groups.is_empty() { String::new() } else { format!(" of {}", groups.join(" or ")) };
            let people = if required == 1 { "person" } else { "people" };
            missing.push(format!("{} of {required} {people}{of}", yes.len()));
        }
        who.extend(yes);
    }
    if missing.is_empty() {
        return Standing::Approved(who.into_iter().collect::<Vec<_>>().join(", "));
    }
    Standing::Missing(format!("approved by {}", missing.join(", and ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(required: i32, groups: &[&str]) -> ApprovalTerms {
        ApprovalTerms { required, groups: groups.iter().map(ToString::to_string).collect() }
    }

    /// What these people come to, each with their group; one whose name begins with `!` says no.
    fn come_to(people: &[(&str, &str)], terms: &[ApprovalTerms]) -> Standing {
        let groups: Vec<[String; 1]> = people.iter().map(|(_, group)| [group.to_string()]).collect();
        let voices = people.iter().zip(&groups).map(|((name, _), groups)| Voice {
            approver: name.trim_start_matches('!'),
            groups,
            answer: if name.starts_with('!') { ApprovalAnswer::Deny } else { ApprovalAnswer::Approve },
        });
        standing(voices, terms)
    }

    fn approved(who: &str) -> Standing {
        Standing::Approved(who.into())
    }

    #[test]
    fn without_terms_one_yes_of_anybody_is_enough() {
        assert_eq!(come_to(&[("ann", "dev")], &[]), approved("ann"));
        assert_eq!(come_to(&[], &[]), Standing::Missing("approved by 0 of 1 person".into()));
    }

    #[test]
    fn two_people_are_two_people_and_not_one_twice() {
        let two = [terms(2, &[])];
        assert_eq!(come_to(&[("ann", ""), ("bob", "")], &two), approved("ann, bob"));
        let missing = Standing::Missing("approved by 1 of 2 people".into());
        assert_eq!(come_to(&[("ann", ""), ("ann", "other")], &two), missing);
    }

    #[test]
    fn only_who_is_in_one_of_the_groups_counts() {
        let of_groups = [terms(1, &["sre", "leads"])];
        assert_eq!(come_to(&[("ann", "leads")], &of_groups), approved("ann"));
        let missing = Standing::Missing("approved by 0 of 1 person of sre or leads".into());
        assert_eq!(come_to(&[("ann", "dev"), ("bob", "")], &of_groups), missing);
        assert_eq!(come_to(&[("ann", "SRE")], &of_groups), missing);
    }

    #[test]
    fn each_policy_is_met_on_its_own() {
        let both = [terms(2, &["sre"]), terms(1, &["owners"])];
        let sre = [("ann", "sre"), ("bob", "sre")];
        let missing = Standing::Missing("approved by 0 of 1 person of owners".into());
        assert_eq!(come_to(&sre, &both), missing);
        assert_eq!(come_to(&[sre.as_slice(), &[("eve", "owners")]].concat(), &both), approved("ann, bob, eve"));
    }

    #[test]
    fn one_no_ends_it_whoever_approves() {
        for terms in [vec![], vec![terms(1, &["sre"])]] {
            let standing = come_to(&[("ann", "sre"), ("!bob", "dev"), ("eve", "sre")], &terms);
            assert_eq!(standing, Standing::Denied("bob".into()));
        }
    }

    #[test]
    fn nobody_is_never_enough() {
        for required in [0, -3, i32::MIN] {
            assert!(matches!(come_to(&[], &[terms(required, &[])]), Standing::Missing(_)), "{required}");
        }
    }

    #[test]
    fn the_stricter_of_two_that_ask_the_same_people_is_asked() {
        let all = [terms(1, &["a", "b"]), terms(3, &["b", "a"]), terms(2, &[])];
        assert_eq!(merged(&all), [terms(3, &["a", "b"]), terms(2, &[])]);
    }
}
