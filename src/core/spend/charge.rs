//! What an attempt is charged when it has ended.

use crate::core::money::{NanoDollars, Prices, Usage};

/// An upstream is believed up to so many times the most that a request can use: it may add words of its own to a prompt, or
/// count otherwise. What it says beyond that is a mistake, such as another unit.
const BELIEVED: u64 = 2;

/// The most that a request can use, in tokens: every byte of it one, and the longest answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Of the prompt.
    pub input: u64,
    /// Of the answer.
    pub output: u64,
}

impl Bound {
    /// Whether a usage can be that of such a request.
    pub fn holds(&self, usage: &Usage) -> bool {
        *usage == self.cut(*usage)
    }

    /// The usage, or the most of it that is believed.
    pub fn cut(&self, usage: Usage) -> Usage {
        let Usage { input, cache_write, cache_read, output, reasoning } = usage;
        let (mut prompt, answer) = (self.input.saturating_mul(BELIEVED), self.output.saturating_mul(BELIEVED));
        let mut of_prompt = |tokens: u64| {
            let taken = tokens.min(prompt);
            prompt -= taken;
            taken
        };
        let (input, cache_write, cache_read) = (of_prompt(input), of_prompt(cache_write), of_prompt(cache_read));
        let output = output.min(answer);
        Usage { input, cache_write, cache_read, output, reasoning: reasoning.min(output) }
    }
}

/// What is known of an attempt that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is proven that not a byte of the request was sent: it was not built, or no connection stood.
    NothingSent,
    /// The upstream's answer arrived whole and says what was used.
    Used(Usage),
    /// The upstream answered, whole, with this status and without a usage.
    Status(u16),
    /// Anything else: cancelled, timed out, broken off, or an answer that does not say what was used.
    Unknown,
}

/// The charge: what was used where the upstream says so, but no more than is believed, nothing where the request cannot have run, all that was reserved
/// otherwise.
pub fn charge(outcome: Outcome, reserved: NanoDollars, prices: Option<&Prices>) -> NanoDollars {
    match outcome {
        Outcome::NothingSent => NanoDollars(0),
        Outcome::Used(usage) => prices
            .map_or(NanoDollars(0), |prices| prices.cost(usage).min(NanoDollars(reserved.0.saturating_mul(BELIEVED)))),
        Outcome::Status(status) if turned_away(status) => NanoDollars(0),
        Outcome::Status(_) | Outcome::Unknown => reserved,
    }
}

/// Whether a request that was answered so did not run: it was refused at the door, which no provider bills. Not among
/// them: 408, 424 and 499, which are answered after the model began.
fn turned_away(status: u16) -> bool {
    matches!(status, 400..=407 | 409..=423 | 425..=431)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESERVED: NanoDollars = NanoDollars(1000);

    fn charged(outcome: Outcome) -> u64 {
        let prices = Prices { input: 1_000_000, output: 1_000_000, cache_write: 0, cache_read: 0 };
        charge(outcome, RESERVED, Some(&prices)).0
    }

    #[test]
    fn what_was_used_is_charged_even_if_it_is_somewhat_more_than_was_reserved() {
        assert_eq!(charged(Outcome::Used(Usage { output: 2, ..Usage::default() })), 2000);
        assert_eq!(charged(Outcome::Used(Usage { output: 1_000_000_000_000_000, ..Usage::default() })), 2000);
        assert_eq!(charged(Outcome::Used(Usage::default())), 0);
    }

    #[test]
    fn a_usage_that_cannot_be_is_known_as_one_and_cut() {
        let bound = Bound { input: 1000, output: 100 };
        let usage = |input, cache_read, output| Usage { input, cache_read, output, ..Usage::default() };
        for plausible in [usage(0, 0, 0), usage(1000, 0, 100), usage(1000, 1000, 200)] {
            assert!(bound.holds(&plausible), "{plausible:?}");
            assert_eq!(bound.cut(plausible), plausible);
        }
        for (wrong, cut) in [
            (usage(1_000_000_000_000_000, 0, 7), usage(2000, 0, 7)),
            (usage(1500, 501, 7), usage(1500, 500, 7)),
            (usage(7, 0, 201), usage(7, 0, 200)),
            (usage(u64::MAX, u64::MAX, u64::MAX), usage(2000, 0, 200)),
        ] {
            assert!(!bound.holds(&wrong), "{wrong:?}");
            assert_eq!(bound.cut(wrong), cut);
        }
    }

    #[test]
    fn only_what_cannot_have_run_is_free() {
        assert_eq!(charged(Outcome::NothingSent), 0);
        for status in [400, 401, 402, 403, 404, 413, 422, 429] {
            assert_eq!(charged(Outcome::Status(status)), 0, "{status}");
        }
        for status in [0, 200, 204, 302, 408, 424, 499, 500, 502, 503, 504, 529] {
            assert_eq!(charged(Outcome::Status(status)), RESERVED.0, "{status}");
        }
        assert_eq!(charged(Outcome::Unknown), RESERVED.0);
    }

    #[test]
    fn what_has_no_prices_costs_nothing() {
        assert_eq!(
            charge(Outcome::Used(Usage { output: 7, ..Usage::default() }), NanoDollars(0), None),
            NanoDollars(0)
        );
    }
}
