//! What an evaluation costs, and where it ends.
//!
//! One unit is about one step of the interpreter, or sixteen bytes that are read or made. Whatever takes time or memory
//! is charged before it is done, so that the number of units bounds both.

use std::fmt::{self, Display, Write as _};

use kube_cel::cel::{
    Value,
    objects::{Key, OptionalValue},
};

/// The most that one expression may cost, in units: tens of milliseconds and a few megabytes at the very worst. An
/// ordinary rule costs between 10 and 1,000.
pub const EXPRESSION_UNITS: u64 = 50_000;

/// The most that all Policies of one decision may cost together, in units.
pub const JUDGEMENT_UNITS: u64 = 200_000;

/// Longest text in bytes that is parsed as a number, date, version, address, URL or pattern.
pub(super) const MAX_PARSED: usize = 2048;

/// A map, and the key of each of its entries. The library makes maps anew where it shares lists: a hash table, and a
/// hash of each key.
const MAP: u64 = 4;
const ENTRY: u64 = 2;

/// Longest text of ours about a failure, in bytes: errors of the library print the values that they are about.
const MAX_ERROR: usize = 256;

/// Why an evaluation ended without a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It costs more than it may.
    Spent,
    /// It has no value: an unknown key, an operator without a meaning for the operands, …
    Failed(String),
}

impl Stop {
    /// A failure, with at most 256 bytes of its text.
    pub(super) fn failed(error: impl Display) -> Stop {
        Stop::Failed(clip(error, MAX_ERROR))
    }
}

/// Counts units down.
#[derive(Debug)]
pub struct Meter {
    bound: u64,
    left: u64,
}

impl Meter {
    /// A meter that stops after `bound` units.
    pub fn new(bound: u64) -> Meter {
        Meter { bound, left: bound }
    }

    /// Units that were spent. What went over the bound was not done, and counts as the bound.
    pub fn spent(&self) -> u64 {
        self.bound - self.left
    }

    /// Units that are left.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Takes what `part` has spent, which was not given more than was left.
    pub fn take(&mut self, part: &Meter) {
        self.left = self.left.saturating_sub(part.spent());
    }

    /// Takes `units`, or ends the evaluation. What was too much once stays too much: nothing is charged after that.
    ///
    /// # Errors
    ///
    /// When fewer are left.
    pub fn charge(&mut self, units: u64) -> Result<(), Stop> {
        match self.left.checked_sub(units) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.left = 0;
                Err(Stop::Spent)
            }
        }
    }

    /// Takes what it costs to read `bytes`.
    ///
    /// # Errors
    ///
    /// When fewer are left.
    pub fn charge_bytes(&mut self, bytes: usize) -> Result<(), Stop> {
        self.charge(units(bytes))
    }

    /// Takes what it costs to read all of `value`, and returns it. Values share their parts, so that a small number of
    /// steps can make one that is huge when it is copied or printed: the walk itself ends when the units do.
    pub(super) fn weigh(&mut self, value: &Value) -> Result<u64, Stop> {
        let before = self.left;
        self.walk(value)?;
        Ok(before - self.left)
    }

    fn walk(&mut self, value: &Value) -> Result<(), Stop> {
        match value {
            Value::String(text) => self.charge(1 + units(text.len())),
            Value::Bytes(bytes) => self.charge(1 + units(bytes.len())),
            Value::List(items) => {
                self.charge(1)?;
                items.iter().try_for_each(|item| self.walk(item))
            }
            Value::Map(map) => {
                self.charge(MAP)?;
                map.map.iter().try_for_each(|(key, value)| {
                    self.charge(match key {
                        Key::String(text) => ENTRY + units(text.len()),
                        Key::Int(_) | Key::Uint(_) | Key::Bool(_) => ENTRY,
                    })?;
                    self.walk(value)
                })
            }
            Value::Opaque(opaque) => match opaque.downcast_ref::<OptionalValue>() {
                Some(optional) => {
                    self.charge(1)?;
                    optional.value().map_or(Ok(()), |value| self.walk(value))
                }
                // A version, an address, a URL or a quantity: never longer than the text that it was parsed from.
                None => self.charge(1 + units(MAX_PARSED)),
            },
            Value::Function(..)
            | Value::Int(_)
            | Value::UInt(_)
            | Value::Float(_)
            | Value::Bool(_)
            | Value::Duration(_)
            | Value::Timestamp(_)
            | Value::Null => self.charge(1),
        }
    }
}

/// What it costs to read or make `bytes`.
pub(super) fn units(bytes: usize) -> u64 {
    (bytes / 16) as u64
}

/// The first `bytes` of what `value` prints, with an ellipsis where it was cut. Printing ends there too.
pub(crate) fn clip(value: impl Display, bytes: usize) -> String {
    struct Clip {
        text: String,
        bytes: usize,
        cut: bool,
    }
    impl fmt::Write for Clip {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let room = self.bytes - self.text.len();
            if text.len() <= room {
                self.text.push_str(text);
                return Ok(());
            }
            self.text.push_str(&text[..text.floor_char_boundary(room)]);
            self.cut = true;
            Err(fmt::Error)
        }
    }
    let mut clip = Clip { text: String::new(), bytes, cut: false };
    if write!(clip, "{value}").is_err() && clip.cut {
        clip.text.push('…');
    }
    clip.text
}
