//! What people are told of the upstreams of a chain.

use std::time::Duration;

use super::super::breaker::Stands;
use super::super::moment::Moment;
use super::{Fleet, Member};
use crate::api::v1alpha1::{Time, UpstreamState, UpstreamStatus};
use crate::core::redact::clip;

/// The interval of probes that decides what is stale where there are none.
const USUAL_INTERVAL: Duration = Duration::from_secs(90);

impl Fleet {
    /// Upstreams that may be asked now, and all.
    pub fn available(&self, now: Moment) -> (usize, usize) {
        let askable = |member: &&Member| self.standing_of(member, None, now).may_be_asked();
        (self.members.iter().filter(askable).count(), self.members.len())
    }

    /// Name of the first rung of which an upstream may be asked now.
    pub fn answering(&self, now: Moment) -> Option<&str> {
        let askable = |member: &&Member| self.standing_of(member, None, now).may_be_asked();
        let rung = self.members.iter().find(askable).map(|member| member.rung)?;
        self.rungs.get(rung).map(String::as_str)
    }

    /// The latest failure of any upstream, as `upstream: class`.
    pub fn last_error(&self) -> Option<String> {
        let failed = self.members.iter().filter_map(|member| member.last_error.map(|(class, at)| (at, class, member)));
        failed.max_by_key(|(at, ..)| *at).map(|(_, class, member)| format!("{}: {}", member.name, class.as_str()))
    }

    /// The state of each upstream, in the order of the chain. `time` is the time of day at `now`; `interval` that of the
    /// probes. What was spent is for the caller to add.
    pub fn snapshot(&self, interval: Option<Duration>, now: Moment, time: Time) -> Vec<UpstreamStatus> {
        let stale = interval.unwrap_or(USUAL_INTERVAL).saturating_mul(3);
        self.members.iter().map(|member| self.status(member, interval, stale, now, time)).collect()
    }

    fn status(
        &self,
        member: &Member,
        interval: Option<Duration>,
        stale: Duration,
        now: Moment,
        time: Time,
    ) -> UpstreamStatus {
        let fresh = member.last_success.is_some_and(|at| now.since(at) < stale);
        let (state, next_try) = match (member.quarantine, self.cooling(member, now), member.breaker.stands(now)) {
            (Some(quarantine), ..) => (UpstreamState::Quarantined, interval.map(|_| quarantine.probe_at)),
            (None, Some(until), Stands::Open { until: shut }) => (UpstreamState::Open, Some(until.max(shut))),
            (None, Some(until), _) => (UpstreamState::CoolingDown, Some(until)),
            (None, None, Stands::Open { until }) => (UpstreamState::Open, Some(until)),
            (None, None, Stands::HalfOpen) => (UpstreamState::HalfOpen, None),
            (None, None, Stands::Closed) if fresh => (UpstreamState::Available, None),
            (None, None, Stands::Closed) => (UpstreamState::Unknown, None),
        };
        UpstreamStatus {
            rung: self.rungs.get(member.rung).cloned().unwrap_or_default(),
            name: member.upstream.name.clone(),
            state,
            last_error: member.last_error.map(|(class, _)| class.as_str().to_owned()).unwrap_or_default(),
            last_error_at: member.last_error.and_then(|(_, at)| of_day(at, now, time)),
            success_percent: member.health.success_percent(),
            latency_milliseconds: member.health.median().and_then(|took| i64::try_from(took.as_millis()).ok()),
            spent_nano_dollars: 0,
            next_try_at: next_try.and_then(|at| of_day(at, now, time)),
            served_model: member.swapped.as_ref().map(|it| clip(&it.served, 128)).unwrap_or_default(),
            last_success_at: member.last_success.and_then(|at| of_day(at, now, time)),
        }
    }
}

/// The time of day of a moment.
fn of_day(at: Moment, now: Moment, time: Time) -> Option<Time> {
    // Whole milliseconds: a status is no place for more.
    let moved = if at >= now { time.checked_add(now.until(at)) } else { time.checked_sub(now.since(at)) };
    Time::from_millisecond(moved.ok()?.as_millisecond()).ok()
}
