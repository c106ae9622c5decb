//! Changes of upstreams on their way to people: the process that asks the models writes them to the status of the
//! `ModelChain`, and the controller, which may write Events and the audit log, tells each of them once.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;

use super::breaker::Cause;
use super::fleet::{Transition, What};
use crate::api::v1alpha1::{Time, UpstreamChange};
use crate::core::redact::clip;

/// Changes that a status holds: more than a chain has upstreams.
pub const KEPT: usize = 64;
/// Changes of one chain that are told within a minute.
pub const PER_MINUTE: usize = 20;
/// Chains of which is remembered what was told.
const REMEMBERED: usize = 256;
/// Bytes of a model's name in a sentence.
const MAX_NAME: usize = 64;
/// A process that starts tells what changed that long before: its predecessor may not have.
const BEFORE_START: SignedDuration = SignedDuration::from_mins(10);

/// What the status says of a transition.
pub fn record(transition: &Transition, at: Time) -> UpstreamChange {
    let Transition { upstream, tenant, what } = transition;
    UpstreamChange {
        // A status is no place for more than milliseconds.
        at: Time::from_millisecond(at.as_millisecond()).unwrap_or(at),
        upstream: upstream.to_string(),
        change: what.as_str().to_owned(),
        namespace: tenant.as_deref().unwrap_or_default().to_owned(),
        message: sentence(what),
    }
}

fn sentence(what: &What) -> String {
    match what {
        What::BreakerOpened { lasts, cause } => {
            let why = match cause {
                Cause::InARow(1) => "a call failed".to_owned(),
                Cause::InARow(calls) => format!("{calls} calls in a row failed"),
                Cause::Share { failed, of } => format!("{failed} of {of} calls failed"),
                Cause::Trial => "the trial failed".to_owned(),
            };
            format!("{why}: not asked for {}", seconds(*lasts))
        }
        What::BreakerHalfOpened => "one call tries whether it works again".to_owned(),
        What::BreakerClosed => "it works again".to_owned(),
        What::CoolingDown { lasts, class, quota } => {
            let whom =
                quota.as_ref().map(|quota| format!(", nor is anything else of quota {quota}")).unwrap_or_default();
            format!("{}: not asked for {}{whom}", class.as_str(), seconds(*lasts))
        }
        What::Quarantined { class } => {
            let until = "its credentials or the ModelChain change, or a probe is answered";
            format!("{}: not asked until {until}", class.as_str())
        }
        What::Released { probed: true } => "a probe was answered: it is asked again".to_owned(),
        What::ModelSwapped { asked, served } => format!(
            "asked for {}, answered by {}: its answers lead to suggestions at most; if it is the same model, list the name in \
             servedAs",
            clip(asked, MAX_NAME),
            clip(served, MAX_NAME)
        ),
        What::ModelRestored => "the model that it is asked for answers again".to_owned(),
        What::Released { probed: false } => "its credentials or the ModelChain changed: it is asked again".to_owned(),
    }
}

fn seconds(lasts: Duration) -> String {
    format!("{} s", lasts.as_secs().max(1))
}

/// Whether it is bad news.
pub fn is_warning(change: &UpstreamChange) -> bool {
    matches!(change.change.as_str(), "BreakerOpened" | "CoolingDown" | "Quarantined" | "ModelSwapped")
}

/// What a status holds after these changes: the newest of both, oldest first.
pub fn merged(stored: &[UpstreamChange], new: &[UpstreamChange]) -> Vec<UpstreamChange> {
    let mut all = stored.to_vec();
    all.extend(new.iter().filter(|change| !stored.contains(change)).cloned());
    all.sort_by_key(|change| change.at);
    all.split_off(all.len().saturating_sub(KEPT))
}

/// Which changes were told.
#[derive(Debug, Default)]
pub struct Told {
    chains: BTreeMap<String, Vec<UpstreamChange>>,
}

impl Told {
    /// The changes in the status of `chain` that nobody was told of yet. They count as told from now on.
    pub fn news(&mut self, chain: &str, changes: &[UpstreamChange], now: Time) -> Vec<UpstreamChange> {
        let before = self.chains.remove(chain);
        let is_new = |change: &&UpstreamChange| match &before {
            Some(before) => !before.contains(change),
            None => now.duration_since(change.at) <= BEFORE_START,
        };
        let news = changes.iter().filter(is_new).cloned().collect();
        if self.chains.len() >= REMEMBERED {
            self.chains.clear();
        }
        self.chains.insert(chain.to_owned(), changes.to_vec());
        news
    }
}

/// How many changes are told in a time: whoever may write a status, such as a stolen token of the process that asks the models,
/// could else push everything older out of the audit log.
#[derive(Debug, Default)]
pub struct Pace {
    chains: BTreeMap<String, Minute>,
}

#[derive(Debug)]
struct Minute {
    began: Time,
    told: usize,
    left_out: u64,
}

impl Pace {
    /// Whether one more change of `chain` is told; else it is counted as left out.
    pub fn admit(&mut self, chain: &str, now: Time) -> bool {
        let minute = self.minute(chain, now);
        let admitted = minute.told < PER_MINUTE;
        match admitted {
            true => minute.told += 1,
            false => minute.left_out = minute.left_out.saturating_add(1),
        }
        admitted
    }

    /// So many changes were not told although they were admitted, or that they were left out was not.
    pub fn leave_out(&mut self, chain: &str, count: u64, now: Time) {
        let minute = self.minute(chain, now);
        minute.left_out = minute.left_out.saturating_add(count);
    }

    /// How many changes of which chains were left out within a minute that is over. They count as told from now on.
    pub fn due(&mut self, now: Time) -> Vec<(String, u64)> {
        let mut due = Vec::new();
        self.chains.retain(|chain, minute| {
            let over = is_over(minute, now);
            if over && minute.left_out > 0 {
                due.push((chain.clone(), minute.left_out));
            }
            !over
        });
        due
    }

    fn minute(&mut self, chain: &str, now: Time) -> &mut Minute {
        let minute = self.chains.entry(chain.to_owned()).or_insert(Minute { began: now, told: 0, left_out: 0 });
        if is_over(minute, now) {
            // What was left out before is still to be told.
            *minute = Minute { began: now, told: 0, left_out: minute.left_out };
        }
        minute
    }
}

/// Also after a clock that was set back.
fn is_over(minute: &Minute, now: Time) -> bool {
    now.duration_since(minute.began).abs() >= SignedDuration::from_mins(1)
}

#[cfg(test)]
mod tests {
    use super::super::failure::Class;
    use super::*;

    fn at(second: i64) -> Time {
        Time::from_second(second).unwrap()
    }

    fn change(what: What, second: i64) -> UpstreamChange {
        record(&Transition { upstream: "a".into(), tenant: None, what }, at(second))
    }

    #[test]
    fn each_change_says_what_happened_and_until_when() {
        let cases = [
            (
                What::BreakerOpened { lasts: Duration::from_secs(5), cause: Cause::InARow(5) },
                "5 calls in a row failed: not asked for 5 s",
            ),
            (
                What::BreakerOpened { lasts: Duration::from_secs(300), cause: Cause::Share { failed: 6, of: 10 } },
                "6 of 10 calls failed: not asked for 300 s",
            ),
            (
                What::CoolingDown {
                    lasts: Duration::from_millis(20),
                    class: Class::RateLimited,
                    quota: Some("acme".into()),
                },
                "RateLimited: not asked for 1 s, nor is anything else of quota acme",
            ),
            (
                What::Quarantined { class: Class::CredentialsRefused },
                "CredentialsRefused: not asked until its credentials or the ModelChain change, or a probe is answered",
            ),
            (
                What::ModelSwapped { asked: "claude-opus".into(), served: "claude-haiku".into() },
                "asked for claude-opus, answered by claude-haiku: its answers lead to suggestions at most; if it is the same \
                 model, list the name in servedAs",
            ),
        ];
        for (what, sentence) in cases {
            let change = change(what, 1);
            assert_eq!(change.message, sentence);
            assert!(is_warning(&change));
        }
        assert!(!is_warning(&change(What::BreakerClosed, 1)));
        let long = change(What::ModelSwapped { asked: "a".repeat(256), served: "b".repeat(128) }, 1);
        assert!(long.message.len() <= 256, "{}", long.message);
    }

    #[test]
    fn a_tenants_change_names_its_namespace() {
        let what = What::BreakerHalfOpened;
        let change = record(&Transition { upstream: "a".into(), tenant: Some("shop".into()), what }, at(1));
        assert_eq!((change.namespace.as_str(), change.change.as_str()), ("shop", "BreakerHalfOpened"));
    }

    #[test]
    fn a_status_holds_the_newest_changes_once_whoever_wrote_them() {
        let old: Vec<UpstreamChange> = (0..60).map(|second| change(What::BreakerClosed, second)).collect();
        let new: Vec<UpstreamChange> = (50..70).map(|second| change(What::BreakerClosed, second)).collect();
        let merged = merged(&old, &new);
        assert_eq!(merged.len(), KEPT);
        assert!(merged.windows(2).all(|pair| pair[0].at < pair[1].at));
        assert_eq!(merged.last().unwrap().at, at(69));
    }

    #[test]
    fn a_change_is_told_once_and_a_new_process_tells_the_latest() {
        let first = change(What::BreakerHalfOpened, 1000);
        let both = [first.clone(), change(What::BreakerClosed, 1001)];
        let mut told = Told::default();
        assert_eq!(told.news("c", &both[..1], at(1000)), both[..1]);
        assert_eq!(told.news("c", &both[..1], at(1000)), []);
        assert_eq!(told.news("c", &both, at(1001)), both[1..]);
        let mut started = Told::default();
        assert_eq!(started.news("c", &both, at(1601)), both[1..], "601 s are too long ago");
    }

    #[test]
    fn a_chain_has_so_many_changes_a_minute_and_the_rest_is_counted_once() {
        let mut pace = Pace::default();
        let told = |pace: &mut Pace, chain: &str, wanted: usize, second| {
            (0..wanted).filter(|_| pace.admit(chain, at(second))).count()
        };
        assert_eq!(told(&mut pace, "c", 64, 1000), PER_MINUTE);
        assert_eq!(told(&mut pace, "c", 64, 1059), 0);
        assert_eq!(told(&mut pace, "other", 5, 1059), 5, "each chain has its own");
        assert_eq!(pace.due(at(1059)), []);
        assert_eq!(pace.due(at(1060)), [("c".to_owned(), 108)]);
        assert_eq!(pace.due(at(1200)), [], "once");
        assert_eq!(told(&mut pace, "c", 64, 1200), PER_MINUTE);
        assert_eq!(told(&mut pace, "c", 64, 1300), PER_MINUTE, "a new minute");
        assert_eq!(told(&mut pace, "other", 1, 1300), 1);
        assert_eq!(told(&mut pace, "other", 64, 100), PER_MINUTE, "the clock was set back");
        assert_eq!(pace.due(at(1360))[..1], [("c".to_owned(), 88)], "of both");
    }
}
