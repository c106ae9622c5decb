//! Regular expressions. The library compiles a pattern with each call and allows ten megabytes for it; here a pattern
//! is small, and compiled once for as long as it is in use.

use std::sync::Arc;

use kube_cel::cel::Value;
use regex::{Regex, RegexBuilder};

use super::meter::{MAX_PARSED, Meter, Stop};

/// Programs of patterns, in bytes: the usual one, and the largest. Each with the units that compiling it takes.
const PROGRAMS: [(usize, u64); 2] = [(8 << 10, 250), (64 << 10, 2_500)];
/// Largest cache of a search, in bytes. A search that does not fit is slower, and no different.
const MAX_CACHE: usize = 128 << 10;
/// Deepest nesting of a pattern.
const MAX_NESTING: u32 = 32;
/// Units for each sixteen bytes that are searched, for each sixteen bytes of the pattern.
const SEARCH: u64 = 1;
/// Patterns that are kept compiled.
const KEPT: usize = 4;

/// What is asked of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Search {
    /// Is there a match?
    Matches,
    /// The first match, or an empty string.
    Find,
    /// All matches, or as many as the third argument says.
    FindAll,
}

/// The patterns that an evaluation used last.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    kept: Vec<(Arc<String>, Regex)>,
}

impl Patterns {
    /// Searches `text` for `pattern`.
    pub(super) fn search(
        &mut self,
        search: Search,
        text: &Arc<String>,
        pattern: &Arc<String>,
        limit: Option<&Value>,
        meter: &mut Meter,
    ) -> Result<Value, Stop> {
        meter.charge_bytes(pattern.len())?;
        let regex = self.compiled(pattern, meter)?;
        // A search that the cache does not hold takes a step for each byte and each state of the program.
        let (bytes, states) = (text.len() as u64, pattern.len() as u64);
        meter.charge(1 + SEARCH * (bytes / 16 + 1) * (states / 16 + 1))?;
        Ok(match search {
            Search::Matches => regex.is_match(text).into(),
            Search::Find => regex.find(text).map(|found| found.as_str()).unwrap_or_default().into(),
            Search::FindAll => {
                let most = match limit {
                    Some(Value::Int(most)) => usize::try_from(*most).unwrap_or(usize::MAX),
                    _ => usize::MAX,
                };
                let mut all: Vec<Value> = Vec::new();
                for found in regex.find_iter(text).take(most) {
                    // Each match is a new search over what may be all of the rest.
                    meter.charge(2 + (bytes - found.start() as u64) / 64)?;
                    all.push(found.as_str().into());
                }
                all.into()
            }
        })
    }

    fn compiled(&mut self, pattern: &Arc<String>, meter: &mut Meter) -> Result<&Regex, Stop> {
        if let Some(at) = self.kept.iter().position(|(kept, _)| kept == pattern) {
            return Ok(&self.kept[at].1);
        }
        if pattern.len() > MAX_PARSED {
            return Err(Stop::failed(format_args!("a pattern may have {MAX_PARSED} bytes")));
        }
        let regex = compile(pattern, meter)?;
        if self.kept.len() == KEPT {
            self.kept.remove(0);
        }
        self.kept.push((Arc::clone(pattern), regex));
        Ok(&self.kept[self.kept.len() - 1].1)
    }
}

fn compile(pattern: &str, meter: &mut Meter) -> Result<Regex, Stop> {
    for (program, units) in PROGRAMS {
        meter.charge(units)?;
        let builder =
            RegexBuilder::new(pattern).size_limit(program).dfa_size_limit(MAX_CACHE).nest_limit(MAX_NESTING).build();
        match builder {
            Ok(regex) => return Ok(regex),
            Err(regex::Error::CompiledTooBig(_)) => {}
            Err(error) => return Err(Stop::failed(error)),
        }
    }
    Err(Stop::failed("the pattern is too large; use fewer repetitions"))
}
