//! Which model answers: a swap is told when it begins, not with each answer.

use std::time::Duration;

use super::super::moment::Moment;
use super::super::spec::Upstream;
use super::{Fleet, Swapped, Transition, What, same_server};

/// How long the model that was asked for has to answer before another is over; and how long another name of one is not told
/// after the last. A server with two models behind one name would be told with each answer.
const QUIET: Duration = Duration::from_secs(300);

impl Fleet {
    /// An upstream answered, as `other` than the model that it was asked for, or as that one (`None`).
    pub fn served(&mut self, upstream: &Upstream, other: Option<&str>, now: Moment) -> Option<Transition> {
        let member = self.members.iter_mut().find(|member| same_server(&member.upstream, upstream))?;
        let what = match (other, &mut member.swapped) {
            (None, None) => return None,
            (None, Some(swapped)) if now.since(swapped.last) < QUIET => return None,
            (None, swapped @ Some(_)) => {
                *swapped = None;
                What::ModelRestored
            }
            (Some(other), Some(swapped)) if swapped.served == other || now.since(swapped.told) < QUIET => {
                swapped.last = now;
                return None;
            }
            (Some(other), swapped) => {
                *swapped = Some(Swapped { served: other.to_owned(), told: now, last: now });
                What::ModelSwapped { asked: upstream.model.clone(), served: other.to_owned() }
            }
        };
        Some(Transition { upstream: member.name.clone(), tenant: None, what })
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::breaker::Terms;
    use super::super::super::fixtures::{chain, upstream};
    use super::*;

    fn at(second: u64) -> Moment {
        Moment(Duration::from_secs(second))
    }

    #[test]
    fn another_model_is_told_once_and_so_is_its_end_however_often_they_alternate() {
        let mut fleet = Fleet::new(&chain(vec![vec![upstream("a", 1), upstream("b", 1)]]), Terms::default());
        let a = upstream("a", 1);
        let mut told = |other: Option<&str>, second| fleet.served(&a, other, at(second)).map(|it| it.what);
        let swapped = |served: &str| Some(What::ModelSwapped { asked: "model".into(), served: served.into() });
        assert_eq!(told(None, 0), None);
        assert_eq!(told(Some("small"), 1), swapped("small"));
        for second in 2..300 {
            assert_eq!(told((second % 2 == 0).then_some("small"), second), None, "{second}");
        }
        assert_eq!(told(Some("smaller"), 300), None, "not each name of many");
        assert_eq!(told(Some("smaller"), 301), swapped("smaller"));
        assert_eq!(told(None, 600), None);
        assert_eq!(told(None, 601), Some(What::ModelRestored));
        assert_eq!(told(None, 602), None);
        assert_eq!(fleet.served(&upstream("gone", 1), Some("small"), at(603)), None);
    }

    #[test]
    fn who_changed_the_chain_wants_to_see_it_anew() {
        let mut chain = chain(vec![vec![upstream("a", 1)]]);
        let mut fleet = Fleet::new(&chain, Terms::default());
        fleet.served(&upstream("a", 1), Some("small"), at(1));
        chain.generation = 2;
        fleet.follow(&chain);
        assert!(fleet.members.iter().all(|member| member.swapped.is_none()));
    }
}
