//! Percentiles, the table, and what fails: ratios and counts, never a time.

use std::time::{Duration, Instant};

/// Times of calls, of each round for itself.
pub struct Samples(Vec<Vec<Duration>>);

impl Samples {
    pub fn new(rounds: usize) -> Samples {
        Samples(vec![Vec::new(); rounds])
    }

    /// Waits for a call, and keeps how long it took.
    pub async fn take(&mut self, round: usize, call: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
        let began = Instant::now();
        call.await?;
        if let Some(samples) = self.0.get_mut(round) {
            samples.push(began.elapsed());
        }
        Ok(())
    }

    /// The percentile of each round, in microseconds.
    fn of_rounds(&self, percent: usize) -> Vec<f64> {
        let of_round = |samples: &Vec<Duration>| {
            let mut sorted = samples.clone();
            sorted.sort();
            let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
            sorted.get(at).map_or(0.0, |time| time.as_secs_f64() * 1e6)
        };
        self.0.iter().map(of_round).collect()
    }

    /// The median of the rounds' percentiles, in microseconds.
    pub fn percentile(&self, percent: usize) -> f64 {
        median(self.of_rounds(percent))
    }

    /// What a call takes more than one of `base`: the median of the rounds' differences, each of the same moments.
    fn beyond(&self, base: &Samples, percent: usize) -> f64 {
        median(self.of_rounds(percent).iter().zip(base.of_rounds(percent)).map(|(more, base)| more - base).collect())
    }

    /// How far the rounds' medians lie apart, as a share of the smallest.
    fn drift(&self) -> f64 {
        let medians = self.of_rounds(50);
        let (least, most) =
            medians.iter().fold((f64::MAX, 0.0_f64), |(least, most), it| (least.min(*it), most.max(*it)));
        most / least - 1.0
    }
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or_default()
}

/// One gateway of others.
pub struct Row {
    name: String,
    samples: Samples,
}

impl Row {
    pub fn new(name: &str, samples: Samples) -> Row {
        Row { name: name.to_owned(), samples }
    }
}

pub fn print(
    direct: &Samples,
    routed: &Samples,
    two: &Samples,
    failover: &Samples,
    gateways: &[Row],
    decisions: &[Duration],
) {
    let line = |name: &str, samples: &Samples, base: &Samples| {
        println!(
            "| {name} | {:.0} | {:.0} | {:+.0} | {:+.0} |",
            samples.percentile(50),
            samples.percentile(99),
            samples.beyond(base, 50),
            samples.beyond(base, 99)
        );
    };
    println!(
        "| one call after the other | p50 µs | p99 µs | beyond the bare client, p50 | p99 |\n|---|---|---|---|---|"
    );
    line("bare reqwest", direct, direct);
    line("router", routed, direct);
    gateways.iter().for_each(|row| line(&row.name, &row.samples, direct));
    line("bare reqwest: 503, then an answer", two, two);
    line("router: 503, then another upstream's answer", failover, two);
    let (middle, last) = (decisions.get(decisions.len() / 2), decisions.last());
    let micros = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1e6);
    println!(
        "one decision among 8 upstreams, begin to end: {:.2} µs, slowest stretch {:.2} µs",
        micros(middle),
        micros(last)
    );
}

/// Fails on what does not depend on how fast the machine is.
///
/// # Errors
///
/// A ratio or a count is not what it has to be.
pub fn judge(
    direct: &Samples,
    routed: &Samples,
    two: &Samples,
    failover: &Samples,
    gateways: &[Row],
    (hits, asked): (usize, usize),
) -> anyhow::Result<()> {
    let drift = direct.drift();
    if drift > 0.3 {
        println!(
            "unsteady: the bare client's median moved by {:.0} % between rounds; do not quote these times",
            drift * 100.0
        );
    }
    let ratio = routed.percentile(50) / direct.percentile(50);
    let two = two.percentile(50);
    let mut checks = vec![
        ("every call was made, and no other".to_owned(), hits == asked, format!("{hits} hits, {asked} calls")),
        (
            "the router takes less than twice as long as the bare client".to_owned(),
            ratio < 2.0,
            format!("{ratio:.2} times"),
        ),
        (
            "a failover takes less than twice as long as its two calls".to_owned(),
            failover.percentile(50) < 2.0 * two,
            format!("{:.2} times", failover.percentile(50) / two),
        ),
    ];
    let added = routed.beyond(direct, 50);
    for Row { name, samples } in gateways {
        let theirs = samples.beyond(direct, 50);
        checks.push((
            format!("the router adds less than {name}"),
            added < theirs,
            format!("{:.0} times less", theirs / added),
        ));
    }
    let mut failed = 0;
    for (what, ok, seen) in &checks {
        println!("{} {what}: {seen}", if *ok { "ok  " } else { "FAIL" });
        failed += usize::from(!ok);
    }
    println!("bench-router: {} checked, {failed} failed", checks.len());
    anyhow::ensure!(failed == 0, "{failed} failed");
    Ok(())
}
