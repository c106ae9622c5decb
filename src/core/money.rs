//! Money in whole billionths of a US dollar. Costs are rounded up, sums never wrap.

use crate::api::v1alpha1::{ModelApi, ModelPrices};

/// Billionths of a US dollar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NanoDollars(pub u64);

/// Prices in millionths of a US dollar per million tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prices {
    /// Tokens of the prompt.
    pub input: u64,
    /// Tokens of the answer, reasoning included.
    pub output: u64,
    /// Tokens of the prompt that are written to the provider's cache.
    pub cache_write: u64,
    /// Tokens of the prompt that are read from the provider's cache.
    pub cache_read: u64,
}

/// Tokens of one call, normalised: `input` excludes what the cache wrote and read, `output` includes reasoning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt that no cache had.
    pub input: u64,
    /// Tokens of the prompt that were written to the provider's cache.
    pub cache_write: u64,
    /// Tokens of the prompt that were read from the provider's cache.
    pub cache_read: u64,
    /// Tokens of the answer, reasoning included.
    pub output: u64,
    /// Those of `output` that were reasoning.
    pub reasoning: u64,
}

impl Usage {
    /// All tokens.
    pub fn total(&self) -> u64 {
        let Usage { input, cache_write, cache_read, output, reasoning: _ } = *self;
        input.saturating_add(cache_write).saturating_add(cache_read).saturating_add(output)
    }
}

impl NanoDollars {
    /// A decimal number of US dollars with at most six decimals, such as `3.00`; `None` when it is not one.
    pub fn parse(dollars: &str) -> Option<NanoDollars> {
        micro(dollars).and_then(|micro| micro.checked_mul(1000)).map(NanoDollars)
    }
}

impl std::ops::Add for NanoDollars {
    type Output = NanoDollars;

    fn add(self, more: NanoDollars) -> NanoDollars {
        NanoDollars(self.0.saturating_add(more.0))
    }
}

impl std::ops::Sub for NanoDollars {
    type Output = NanoDollars;

    fn sub(self, less: NanoDollars) -> NanoDollars {
        NanoDollars(self.0.saturating_sub(less.0))
    }
}

impl std::iter::Sum for NanoDollars {
    fn sum<I: Iterator<Item = NanoDollars>>(each: I) -> NanoDollars {
        each.fold(NanoDollars(0), |sum, one| sum + one)
    }
}

impl std::fmt::Display for NanoDollars {
    /// As people read it: `$0.42`, and `$0.000015` below a cent.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (whole, rest) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        if whole == 0 && rest > 0 && rest < 10_000_000 {
            return write!(f, "$0.{:06}", rest.div_ceil(1000));
        }
        write!(f, "${whole}.{:02}", rest / 10_000_000)
    }
}

impl Prices {
    /// What a `ModelChain` says of a server with this API; `None` when an amount is not a decimal number with at most six
    /// decimals. Where no price of what the cache writes is named, it is that of the prompt, and a quarter more where our
    /// requests ask for the cache: that is what Anthropic bills for it.
    pub fn parse(prices: &ModelPrices, api: ModelApi) -> Option<Prices> {
        let ModelPrices { input, output, cache_write, cache_read } = prices;
        let input = micro(input)?;
        let usual_write = match api {
            ModelApi::AnthropicMessages => input.saturating_add(input.div_ceil(4)),
            ModelApi::OpenAiChat | ModelApi::OpenAiResponses | ModelApi::BedrockConverse => input,
        };
        let or = |price: &Option<String>, usual: u64| price.as_deref().map_or(Some(usual), micro);
        Some(Prices {
            input,
            output: micro(output)?,
            cache_write: or(cache_write, usual_write)?,
            cache_read: or(cache_read, input)?,
        })
    }

    /// What a call cost, rounded up.
    pub fn cost(&self, usage: Usage) -> NanoDollars {
        let Usage { input, cache_write, cache_read, output, reasoning: _ } = usage;
        let parts = [
            (input, self.input),
            (cache_write, self.cache_write),
            (cache_read, self.cache_read),
            (output, self.output),
        ];
        // Millionths of a dollar per million tokens are billionths of a dollar per thousand tokens.
        let sum: u128 = parts.iter().map(|(tokens, price)| u128::from(*tokens) * u128::from(*price)).sum();
        NanoDollars(sum.div_ceil(1000).try_into().unwrap_or(u64::MAX))
    }

    /// The most that one attempt can cost: every byte of the prompt a token of the dearest kind, and a whole answer.
    /// A byte is the only hard bound of a token.
    pub fn at_most(&self, prompt_bytes: u64, max_output_tokens: u64) -> NanoDollars {
        let dearest = Prices { input: self.input.max(self.cache_write).max(self.cache_read), ..*self };
        dearest.cost(Usage { input: prompt_bytes, output: max_output_tokens, ..Usage::default() })
    }
}

/// A decimal number with at most six digits before and after its point, in millionths.
fn micro(decimal: &str) -> Option<u64> {
    let (whole, part) = decimal.split_once('.').unwrap_or((decimal, "0"));
    let digits = |text: &str| !text.is_empty() && text.len() <= 6 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) {
        return None;
    }
    let part: u64 = format!("{part:0<6}").parse().ok()?;
    Some(whole.parse::<u64>().ok()? * 1_000_000 + part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_exact_and_costs_are_rounded_up() {
        let prices = Prices::parse(
            &ModelPrices {
                input: "3".into(),
                output: "15.00".into(),
                cache_write: Some("3.75".into()),
                cache_read: Some("0.3".into()),
            },
            ModelApi::AnthropicMessages,
        )
        .unwrap();
        let usage = Usage { input: 1000, cache_write: 100, cache_read: 10, output: 1, reasoning: 1 };
        // 3 µ$ and 15 µ$ a token: 3000 + 375 + 3 + 15 µ$.
        assert_eq!(prices.cost(usage), NanoDollars(3_393_000));
        let tiny = Prices { input: 1, ..Prices::default() };
        assert_eq!(tiny.cost(Usage { input: 1, ..Usage::default() }), NanoDollars(1), "never rounded to nothing");
        assert_eq!(
            Prices { input: u64::MAX, ..prices }.cost(Usage { input: u64::MAX, ..usage }),
            NanoDollars(u64::MAX)
        );
    }

    #[test]
    fn what_the_cache_writes_costs_a_quarter_more_where_requests_ask_for_it_and_no_price_is_named() {
        let said = ModelPrices { input: "3".into(), output: "15".into(), cache_write: None, cache_read: None };
        let write = |api| Prices::parse(&said, api).unwrap().cost(Usage { cache_write: 1000, ..Usage::default() });
        assert_eq!(write(ModelApi::AnthropicMessages), NanoDollars(3_750_000));
        for api in [ModelApi::OpenAiChat, ModelApi::OpenAiResponses, ModelApi::BedrockConverse] {
            assert_eq!(write(api), NanoDollars(3_000_000), "{api:?}");
        }
        let named = ModelPrices { cache_write: Some("3".into()), ..said };
        assert_eq!(Prices::parse(&named, ModelApi::AnthropicMessages).unwrap().cache_write, 3_000_000);
        let prices = Prices::parse(&ModelPrices { cache_write: None, ..named }, ModelApi::AnthropicMessages).unwrap();
        assert_eq!(prices.at_most(1000, 0), NanoDollars(3_750_000), "so much is reserved, too");
    }

    #[test]
    fn what_is_no_decimal_number_is_no_amount() {
        for bad in ["", ".", "1.", ".5", "-1", "1e3", "NaN", "1.0000001", "1234567", "1.2.3", " 1", "１"] {
            assert_eq!(NanoDollars::parse(bad), None, "{bad:?}");
        }
        assert_eq!(NanoDollars::parse("0.000001"), Some(NanoDollars(1000)));
        assert_eq!(NanoDollars::parse("999999.999999"), Some(NanoDollars(999_999_999_999_000)));
    }

    #[test]
    fn the_reserve_covers_every_split_of_the_prompt_over_the_caches() {
        let prices = Prices { input: 3, output: 5, cache_write: 4, cache_read: 1 };
        for (input, cache_write, cache_read) in [(100, 0, 0), (0, 100, 0), (0, 0, 100), (20, 50, 30)] {
            let usage = Usage { input, cache_write, cache_read, output: 10, reasoning: 10 };
            assert!(prices.cost(usage) <= prices.at_most(100, 10));
        }
    }

    #[test]
    fn amounts_read_as_people_write_them() {
        let read = |nano| NanoDollars(nano).to_string();
        assert_eq!([read(0), read(420_000_000), read(12_345_000_000)], ["$0.00", "$0.42", "$12.34"]);
        assert_eq!(read(15_000), "$0.000015");
    }
}
