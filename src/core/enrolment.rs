//! Which namespaces are enrolled, and how often each is looked at while nothing happens.
//!
//! What an enrolled namespace costs the API server is bounded for all of them together: the more there are, the more
//! seldom each is looked at. What happens in one is seen by a watch, at once, however many there are.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Namespaces that are never enrolled, whatever labels they have.
const NEVER: &[&str] = &["kube-system", "kube-public", "kube-node-lease"];

/// How namespaces are enrolled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enrolment {
    /// By name: in these the accounts have their rights.
    Named(BTreeSet<String>),
    /// By labels, all of which a namespace has to have.
    Labelled(BTreeMap<String, String>),
}

impl Default for Enrolment {
    /// Nothing is enrolled.
    fn default() -> Self {
        Enrolment::Named(BTreeSet::new())
    }
}

impl Enrolment {
    /// Whether a namespace with these labels is enrolled. `system` is the operator's own, which never is.
    pub fn holds(&self, namespace: &str, labels: &BTreeMap<String, String>, system: &str) -> bool {
        if namespace == system || NEVER.contains(&namespace) {
            return false;
        }
        match self {
            Enrolment::Named(names) => names.contains(namespace),
            Enrolment::Labelled(wanted) => {
                !wanted.is_empty() && wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
            }
        }
    }

    /// The label selector; `None` where namespaces are enrolled by name.
    pub fn selector(&self) -> Option<String> {
        match self {
            Enrolment::Named(_) => None,
            Enrolment::Labelled(wanted) => {
                let terms: Vec<String> = wanted.iter().map(|(key, value)| format!("{key}={value}")).collect();
                Some(terms.join(","))
            }
        }
    }
}

/// How often something is done in each enrolled namespace.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between two turns of one namespace at least.
    pub every: Duration,
    /// Requests of one turn at most.
    pub requests: u32,
    /// Requests a second at most, over all namespaces.
    pub share: f64,
}

/// Whether a namespace is there at all: one read.
pub const PRESENCE: Pace = Pace { every: Duration::from_secs(15), requests: 1, share: 0.8 };
/// The executor's self-test: of each kind of target one list and the dry-runs that have to be refused.
pub const SELF_TEST: Pace = Pace { every: Duration::from_secs(60), requests: 12, share: 0.8 };
/// The executor's look for labels that nothing accounts for.
pub const SWEEP: Pace = Pace { every: Duration::from_secs(60), requests: 5, share: 0.7 };
/// A watch that nothing happens on is begun anew when its time is over.
pub const WATCH: Pace = Pace { every: Duration::from_secs(290), requests: 1, share: f64::INFINITY };

/// Watches that the executor holds in each namespace while nothing is under way.
pub const IDLE_WATCHES: u32 = 1;

/// A second attempt after a self-test that failed: Helm installs the policies last.
const RETRY_MIN: Duration = Duration::from_secs(2);
/// The longest pause between two attempts while self-tests fail.
const RETRY_MAX: Duration = Duration::from_secs(60);

impl Pace {
    /// Between two turns of one namespace when there are so many.
    pub fn interval(&self, namespaces: usize) -> Duration {
        let all = f64::from(self.requests) * f64::from(u32::try_from(namespaces).unwrap_or(u32::MAX));
        self.every.max(Duration::try_from_secs_f64(all / self.share).unwrap_or(self.every))
    }

    /// The same, up to a tenth longer or shorter. `dice` is any number from 0 to 1: turns that began together drift
    /// apart.
    pub fn next(&self, namespaces: usize, dice: f64) -> Duration {
        self.interval(namespaces).mul_f64(0.9 + 0.2 * dice.clamp(0.0, 1.0))
    }
}

/// The pause after so many self-tests of a namespace failed in a row.
pub fn retry(failures: u32) -> Duration {
    RETRY_MIN.saturating_mul(1 << failures.saturating_sub(1).min(8)).min(RETRY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the executor asks the API server for while nothing happens, in requests a second.
    fn idle(namespaces: usize) -> f64 {
        let of = |pace: Pace, turns: u32| {
            let each = f64::from(pace.requests * turns) / pace.interval(namespaces).as_secs_f64();
            each * f64::from(u32::try_from(namespaces).unwrap())
        };
        of(PRESENCE, 1) + of(SELF_TEST, 1) + of(SWEEP, 1) + of(WATCH, IDLE_WATCHES)
    }

    #[test]
    fn five_hundred_idle_namespaces_cost_less_than_five_requests_a_second() {
        for namespaces in [0, 1, 2, 10, 50, 200, 500] {
            let rate = idle(namespaces);
            // The rest is for two Leases and a dozen watches over all namespaces.
            assert!(rate < 4.2, "{namespaces} namespaces cost {rate:.1} requests a second");
        }
    }

    #[test]
    fn a_few_namespaces_are_looked_at_as_often_as_one_and_each_of_many_within_hours() {
        assert_eq!(SELF_TEST.interval(1), Duration::from_secs(60));
        assert_eq!(PRESENCE.interval(5), Duration::from_secs(15));
        assert!(PRESENCE.interval(500) < Duration::from_secs(11 * 60));
        assert!(SELF_TEST.interval(500) < Duration::from_secs(3 * 3600));
        // Somewhere in the cluster the policies are tried every few seconds.
        assert!(SELF_TEST.interval(500) / 500 <= Duration::from_secs(15));
        assert_eq!(SELF_TEST.interval(0), Duration::from_secs(60));
    }

    #[test]
    fn turns_that_began_together_drift_apart_and_keep_their_pace() {
        let (early, late) = (SELF_TEST.next(10, 0.0), SELF_TEST.next(10, 1.0));
        assert!(early < SELF_TEST.interval(10) && late > SELF_TEST.interval(10));
        assert_eq!((early + late) / 2, SELF_TEST.interval(10));
        assert_eq!(SELF_TEST.next(10, 7.0), late);
    }

    #[test]
    fn self_tests_that_go_on_failing_are_tried_less_and_less_often() {
        let pauses: Vec<u64> = [1, 2, 3, 6, 100].map(|failures| retry(failures).as_secs()).into();
        assert_eq!(pauses, [2, 4, 8, 60, 60]);
    }

    #[test]
    fn a_namespace_is_enrolled_by_its_name_or_by_all_of_the_labels_and_those_of_the_system_never() {
        let labels = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>()
        };
        let named = Enrolment::Named(["shop", "system", "kube-system"].map(String::from).into());
        let labelled = Enrolment::Labelled(labels(&[("enrol", "true"), ("tier", "web")]));
        let full = labels(&[("enrol", "true"), ("tier", "web"), ("more", "x")]);
        for (enrolment, namespace, labels, enrolled) in [
            (&named, "shop", labels(&[]), true),
            (&named, "pay", full.clone(), false),
            (&labelled, "pay", full.clone(), true),
            (&labelled, "pay", labels(&[("enrol", "true")]), false),
            (&labelled, "pay", labels(&[("enrol", "false"), ("tier", "web")]), false),
            (&Enrolment::Labelled(BTreeMap::new()), "pay", full.clone(), false),
            (&Enrolment::default(), "pay", full.clone(), false),
        ] {
            assert_eq!(enrolment.holds(namespace, &labels, "system"), enrolled, "{enrolment:?} {namespace}");
            for never in ["system", "kube-system", "kube-public", "kube-node-lease"] {
                assert!(!enrolment.holds(never, &full, "system"), "{never}");
            }
        }
        assert_eq!(labelled.selector().as_deref(), Some("enrol=true,tier=web"));
        assert_eq!(named.selector(), None);
    }
}
