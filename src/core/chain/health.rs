//! How well an upstream does: the last 100 calls, and a share of the calls that decays with their success, so that traffic
//! leaves an upstream that fails and comes back when its failures are long ago. Between equals the faster gets more.

use std::{collections::VecDeque, time::Duration};

use super::moment::Moment;

/// Calls that are remembered.
pub const CALLS: usize = 100;
/// The least share of its weight that an upstream keeps while its breaker is closed: so that it is seen to recover.
const LEAST: f64 = 0.01;
/// What the latest call counts among all.
const LATEST: f64 = 0.3;
/// The time after which a failure counts half.
const HALF_LIFE: f64 = 60.0;
/// How much slower an upstream can be made to look.
const SLOWEST: f64 = 0.1;
/// A call that takes longer than this, and than it usually takes three times over, is overdue.
const OVERDUE: f64 = 3.0;
/// What each overdue call leaves of the share.
const IF_OVERDUE: f64 = 0.3;
/// Calls under way that are looked at.
const MAX_UNDER_WAY: usize = 64;

/// The last calls of one upstream.
#[derive(Clone, Debug)]
pub struct Health {
    /// Of each call its time to a whole answer; `None`: it failed.
    calls: VecDeque<Option<Duration>>,
    succeeded: usize,
    /// Success of the calls, the later the more it counts, 0 to 1.
    recent: f64,
    /// Time to a whole answer in seconds, the later the more it counts.
    latency: Option<f64>,
    /// When the last call ended.
    ended: Moment,
    /// Calls under way: when each began, and when it is over at the latest.
    under_way: Vec<(Moment, Moment)>,
}

impl Default for Health {
    fn default() -> Health {
        Health {
            calls: VecDeque::new(),
            succeeded: 0,
            recent: 1.0,
            latency: None,
            ended: Moment::default(),
            under_way: vec![],
        }
    }
}

impl Health {
    /// A call begins that is over after `limit`, whether somebody says so or not.
    pub fn begin(&mut self, limit: Duration, now: Moment) {
        self.under_way.retain(|(_, over)| now < *over);
        if self.under_way.len() < MAX_UNDER_WAY {
            self.under_way.push((now, now.after(limit)));
        }
    }

    /// The call that began then is over.
    pub fn end(&mut self, began: Moment) {
        if let Some(at) = self.under_way.iter().position(|(call, _)| *call == began) {
            self.under_way.swap_remove(at);
        }
    }

    /// A call ended: with an answer after that time, or without one.
    pub fn record(&mut self, answered_after: Option<Duration>, now: Moment) {
        // Failures that are long ago have faded; what is left of them is what the next call adds to.
        self.recent = self.recent_at(now) * (1.0 - LATEST) + if answered_after.is_some() { LATEST } else { 0.0 };
        self.ended = self.ended.max(now);
        if let Some(took) = answered_after {
            let took = took.as_secs_f64();
            self.latency = Some(self.latency.map_or(took, |before| before * (1.0 - LATEST) + took * LATEST));
            self.succeeded += 1;
        }
        self.calls.push_back(answered_after);
        if self.calls.len() > CALLS && self.calls.pop_front().flatten().is_some() {
            self.succeeded -= 1;
        }
    }

    /// The share of its declared weight that it gets, 0.01 to 1.
    pub fn share(&self, now: Moment) -> f64 {
        let fading = self.fading(now);
        let faded = |success: f64| 1.0 - (1.0 - success) * fading;
        let share = faded(self.recent).powi(2) * faded(self.success().unwrap_or(1.0));
        (share * self.patience(now)).clamp(LEAST, 1.0)
    }

    /// Less with each call that is overdue: so that traffic leaves an upstream that hangs before its calls time out.
    fn patience(&self, now: Moment) -> f64 {
        let usual = self.latency.map_or(OVERDUE, |latency| (latency * 3.0).max(OVERDUE));
        let overdue = |call: &&(Moment, Moment)| now.since(call.0).as_secs_f64() > usual && now < call.1;
        let count = self.under_way.iter().filter(overdue).count();
        IF_OVERDUE.powi(i32::try_from(count).unwrap_or(i32::MAX))
    }

    fn recent_at(&self, now: Moment) -> f64 {
        1.0 - (1.0 - self.recent) * self.fading(now)
    }

    /// What the failures up to the last call still count, 0 to 1.
    fn fading(&self, now: Moment) -> f64 {
        (-now.since(self.ended).as_secs_f64() / HALF_LIFE).exp2()
    }

    #[allow(clippy::cast_precision_loss)]
    fn success(&self) -> Option<f64> {
        (!self.calls.is_empty()).then(|| self.succeeded as f64 / self.calls.len() as f64)
    }

    /// Successes among the last 100 calls in whole percent, rounded down; `None` without a call.
    pub fn success_percent(&self) -> Option<i32> {
        let percent = (self.succeeded * 100).checked_div(self.calls.len())?;
        i32::try_from(percent).ok()
    }

    /// Median time to a whole answer among the last 100 calls.
    pub fn median(&self) -> Option<Duration> {
        let mut times: Vec<Duration> = self.calls.iter().copied().flatten().collect();
        times.sort_unstable();
        times.get(times.len() / 2).copied()
    }

    /// Time to a whole answer of late.
    fn latency(&self) -> Option<f64> {
        self.latency
    }
}

/// One upstream that may be asked.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// What it is known by.
    pub index: usize,
    /// Its declared weight.
    pub weight: u32,
    /// How well it does.
    pub health: &'a Health,
}

/// The candidates in the order in which they are asked: drawn by their weights without putting back, those without a
/// weight last. `chance` is a random number from 0 to 1; one is enough for the whole order.
pub fn order(candidates: &[Candidate<'_>], chance: f64, now: Moment) -> Vec<usize> {
    let mut left: Vec<(usize, f64)> = candidates
        .iter()
        .filter(|candidate| candidate.weight > 0)
        .map(|candidate| (candidate.index, effective(candidate, candidates, now)))
        .collect();
    let mut order = Vec::with_capacity(candidates.len());
    let mut chance = if chance.is_finite() { chance.clamp(0.0, 1.0) } else { 0.0 };
    while !left.is_empty() {
        let total: f64 = left.iter().map(|(_, weight)| weight).sum();
        let drawn = chance * total;
        let mut below = 0.0;
        let mut at = left.len() - 1;
        for (position, (_, weight)) in left.iter().enumerate() {
            if drawn < below + weight {
                at = position;
                break;
            }
            below += weight;
        }
        let (index, weight) = left.remove(at);
        // What is left of the number, spread over 0 to 1 again, is as random as the number was.
        chance = if at == left.len() { (drawn - (total - weight)) / weight } else { (drawn - below) / weight };
        chance = chance.clamp(0.0, 1.0);
        order.push(index);
    }
    let mut reserve: Vec<&Candidate<'_>> = candidates.iter().filter(|candidate| candidate.weight == 0).collect();
    reserve.sort_by(|one, other| other.health.share(now).total_cmp(&one.health.share(now)));
    order.extend(reserve.iter().map(|candidate| candidate.index));
    order
}

/// The weight of a candidate among all: declared, by success, and by its time beside that of the fastest of its equals.
fn effective(candidate: &Candidate<'_>, all: &[Candidate<'_>], now: Moment) -> f64 {
    let equals = all.iter().filter(|other| other.weight == candidate.weight);
    let fastest = equals.filter_map(|other| other.health.latency()).min_by(f64::total_cmp);
    let pace = match (fastest, candidate.health.latency()) {
        (Some(fastest), Some(own)) if own > 0.0 => (fastest / own).clamp(SLOWEST, 1.0),
        // Not known: it gets the chance to become known.
        _ => 1.0,
    };
    f64::from(candidate.weight) * candidate.health.share(now) * pace
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Moment {
        Moment(Duration::from_millis(milliseconds))
    }

    fn candidates<'a>(healths: &'a [Health], weights: &[u32]) -> Vec<Candidate<'a>> {
        let each = healths.iter().zip(weights).enumerate();
        each.map(|(index, (health, weight))| Candidate { index, weight: *weight, health }).collect()
    }

    /// Numbers that cover 0 to 1 evenly.
    fn chances(count: u32) -> impl Iterator<Item = f64> {
        (0..count).map(move |number| (f64::from(number) + 0.5) / f64::from(count))
    }

    /// How often each candidate comes first, of 1000.
    fn firsts(healths: &[Health], weights: &[u32], now: Moment) -> Vec<usize> {
        let mut firsts = vec![0; healths.len()];
        for chance in chances(1000) {
            firsts[order(&candidates(healths, weights), chance, now)[0]] += 1;
        }
        firsts
    }

    #[test]
    fn healthy_upstreams_are_asked_by_their_weights_and_one_without_a_weight_last() {
        let healths = vec![Health::default(); 3];
        let firsts = firsts(&healths, &[300, 100, 0], at(0));
        assert!((749..=751).contains(&firsts[0]) && firsts[2] == 0, "{firsts:?}");
        for chance in chances(50) {
            let order = order(&candidates(&healths, &[300, 100, 0]), chance, at(0));
            assert_eq!(order.len(), 3);
            assert_eq!(order[2], 2, "no weight: only when no other is left");
        }
        assert_eq!(order(&candidates(&healths[..1], &[0]), 0.5, at(0)), [0], "no other is left");
    }

    #[test]
    fn one_chance_orders_all_of_them_and_the_second_place_is_as_random_as_the_first() {
        let healths = vec![Health::default(); 3];
        let mut seconds = [0; 3];
        for chance in chances(9000) {
            let order = order(&candidates(&healths, &[1, 1, 1]), chance, at(0));
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2]);
            seconds[order[1]] += 1;
        }
        assert!(seconds.iter().all(|count| (2900..=3100).contains(count)), "{seconds:?}");
    }

    #[test]
    fn chances_that_are_none_order_all_the_same() {
        let healths = vec![Health::default(); 3];
        for chance in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.0, 1.0, 2.0] {
            assert_eq!(order(&candidates(&healths, &[1, 2, 3]), chance, at(0)).len(), 3, "{chance}");
        }
        assert!(order(&[], 0.5, at(0)).is_empty());
    }

    #[test]
    fn traffic_leaves_an_upstream_that_fails_within_five_seconds() {
        // 100 good calls each, then one of the two fails; 4 calls a second in all.
        let mut healths = vec![Health::default(), Health::default()];
        for number in 0..200 {
            healths[number % 2].record(Some(Duration::from_millis(800)), at(number as u64 * 10));
        }
        let mut asked_late = 0;
        for (number, chance) in chances(40).enumerate() {
            // A fixed shuffle of the chances, so that they do not rise with time.
            let chance = (chance * 17.0).fract();
            let now = at(2000 + number as u64 * 250);
            let first = order(&candidates(&healths, &[100, 100]), chance, now)[0];
            asked_late += usize::from(first == 0 && number >= 20);
            healths[first].record((first == 1).then(|| Duration::from_millis(800)), now);
        }
        let firsts = firsts(&healths, &[100, 100], at(2000 + 40 * 250));
        assert!(asked_late <= 2, "{asked_late} of 20 calls after five seconds went to it");
        assert!(firsts[0] <= 100, "{firsts:?}");
    }

    #[test]
    fn traffic_leaves_an_upstream_that_hangs_before_its_calls_time_out() {
        let mut healths = vec![Health::default(), Health::default()];
        let mut asked_late = 0;
        for (number, chance) in chances(40).enumerate() {
            let chance = (chance * 17.0).fract();
            let now = at(number as u64 * 250);
            let first = order(&candidates(&healths, &[100, 100]), chance, now)[0];
            asked_late += usize::from(first == 0 && number >= 20);
            healths[first].begin(Duration::from_secs(30), now);
            if first == 1 {
                healths[first].end(now);
                healths[first].record(Some(Duration::from_millis(800)), now);
            }
        }
        assert!(asked_late <= 2, "{asked_late} of 20 calls after five seconds went to it");
        assert_eq!(firsts(&healths, &[1, 1], at(60_000)), [500, 500], "calls that nobody ended are forgotten");
        let mut slow = Health::default();
        slow.record(Some(Duration::from_secs(20)), at(0));
        slow.begin(Duration::from_secs(90), at(0));
        assert!(slow.share(at(50_000)) > 0.99, "it always takes its time");
        assert!(slow.share(at(61_000)) < 0.31);
    }

    #[test]
    fn traffic_comes_back_when_the_failures_are_long_ago() {
        let mut healths = vec![Health::default(), Health::default()];
        for number in 0..10 {
            healths[0].record(None, at(number * 100));
        }
        assert!(firsts(&healths, &[100, 100], at(1000))[0] <= 20);
        let later = firsts(&healths, &[100, 100], at(600_000))[0];
        assert!(later >= 450, "{later}");
    }

    #[test]
    fn between_equals_the_faster_gets_more_and_what_is_not_known_gets_a_chance() {
        let mut healths = vec![Health::default(), Health::default(), Health::default()];
        for number in 0..20 {
            healths[0].record(Some(Duration::from_millis(500)), at(number));
            healths[1].record(Some(Duration::from_millis(2000)), at(number));
        }
        let equals = firsts(&healths, &[100, 100, 100], at(20));
        assert!(equals[0] > 3 * equals[1] && equals[2] > 300, "{equals:?}");
        let declared = firsts(&healths, &[100, 900, 0], at(20));
        assert!(declared[1] > 890, "declared weights are no equals: {declared:?}");
    }

    #[test]
    fn the_last_100_calls_are_told_as_percent_and_median() {
        let mut health = Health::default();
        assert_eq!((health.success_percent(), health.median()), (None, None));
        for _ in 0..50 {
            health.record(None, at(0));
        }
        assert_eq!((health.success_percent(), health.median()), (Some(0), None));
        for number in 0..70 {
            health.record(Some(Duration::from_millis(number)), at(1));
        }
        assert_eq!(health.success_percent(), Some(70), "30 of the failures are still among the last 100");
        assert_eq!(health.median(), Some(Duration::from_millis(35)));
        for _ in 0..30 {
            health.record(Some(Duration::from_secs(1)), at(2));
        }
        assert_eq!(health.success_percent(), Some(100));
        assert!(health.share(at(1_000_000)) <= 1.0);
    }
}
