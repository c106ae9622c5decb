//! Amounts, counts and ranges.

use super::finding::{Fault, Findings};
use crate::core::money::NanoDollars;

/// `said`, which has to be from `least` to `most`; what is not is refused, and the nearest bound stands for it.
pub(super) fn range(found: &mut Findings, field: &str, said: i32, least: u32, most: u32) -> u32 {
    let value = u32::try_from(said).unwrap_or_default();
    if said < 0 || !(least..=most).contains(&value) {
        found.refuse(field, Fault::OutOfRange, format!("{said} is not from {least} to {most}"));
    }
    value.clamp(least, most)
}

/// A list of 1 to `most`.
pub(super) fn count(found: &mut Findings, field: &str, length: usize, most: usize) {
    match length {
        0 => found.refuse(field, Fault::Required, "there has to be at least one"),
        length if length > most => {
            found.refuse(field, Fault::OutOfRange, format!("there are {length}, and at most {most} may be"));
        }
        _ => {}
    }
}

/// A budget in US dollars; `default` where none is named.
pub(super) fn budget(found: &mut Findings, field: &str, said: Option<&str>, default: NanoDollars) -> NanoDollars {
    let Some(said) = said else { return default };
    match NanoDollars::parse(said) {
        Some(NanoDollars(0)) => {
            let message = "0 leaves nothing to ask with; to ask no model, name `rules` as modelChain in a Policy";
            found.refuse(field, Fault::OutOfRange, message);
            default
        }
        Some(amount) => amount,
        None => {
            found.refuse(field, Fault::Invalid, NO_AMOUNT);
            default
        }
    }
}

/// What is no amount.
pub(super) const NO_AMOUNT: &str =
    "it is no decimal number of US dollars with at most six digits before and after the point, such as \"3.00\"";
