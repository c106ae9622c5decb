//! Reads a log from its first line to its last, and says whether it is whole.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader},
    path::Path,
};

use serde_json::Value;

use super::{GENESIS, files, line::Tip};

/// What a whole log holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Files that were read.
    pub files: usize,
    /// Lines in all.
    pub lines: u64,
    /// Number of the first line that is there; later than 1 once the oldest files were removed.
    pub first: u64,
    /// Number of the last line.
    pub last: u64,
    /// The last file ends in the middle of a line: it is being written, or that was interrupted.
    pub unfinished: bool,
    /// Hash of the last line. Kept elsewhere, it shows later whether the end was cut off or everything was written anew.
    pub hash: String,
}

/// Verifies the log in `dir`: every line has the right hash, and follows from the one before. It cannot know of lines
/// that were removed at the end, nor of whole files at the beginning.
///
/// # Errors
/// A sentence that names the file and the line.
pub fn verify(dir: &Path) -> io::Result<Verified> {
    let paths = files::list(dir)?;
    let (files, hash) = (paths.len(), GENESIS.into());
    let mut verified = Verified { files, lines: 0, first: 0, last: 0, unfinished: false, hash };
    let mut previous: Option<Tip> = None;
    for path in &paths {
        let mut reader = BufReader::new(File::open(path)?);
        for index in 1_u64.. {
            let mut line = Vec::new();
            reader.read_until(b'\n', &mut line)?;
            if line.is_empty() {
                break;
            }
            let wrong = |what: &str| io::Error::other(format!("{}:{index}: {what}", path.display()));
            if line.pop() != Some(b'\n') {
                verified.unfinished = Some(path) == paths.last();
                if verified.unfinished {
                    break;
                }
                return Err(wrong("the line is not whole"));
            }
            let tip = Tip::after(&line).ok_or_else(|| wrong("the line is not whole, or was changed"))?;
            let fields: Value = serde_json::from_slice(&line)?;
            let (number, before) = (tip.next - 1, fields["prev"].as_str());
            let follows = match &previous {
                Some(previous) => number == previous.next && before == Some(&previous.hash),
                None => number != 1 || before == Some(GENESIS),
            };
            if !follows {
                return Err(wrong("the line does not follow from the one before: lines are missing or were put in"));
            }
            verified.first = if previous.is_none() { number } else { verified.first };
            verified.lines += 1;
            (verified.last, verified.hash) = (number, tip.hash.clone());
            previous = Some(tip);
        }
    }
    Ok(verified)
}
