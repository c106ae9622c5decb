//! `backstop audit`: is an audit log whole?

use std::path::PathBuf;

use anyhow::Context as _;

use crate::audit;

/// Arguments of `backstop audit`.
#[derive(clap::Args)]
pub struct Args {
    /// Folder with the files of the log, or a copy of it.
    dir: PathBuf,
}

/// Verifies the log, and prints what it holds.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let audit::Verified { files, lines, first, last, unfinished, hash } =
        audit::verify(&args.dir).with_context(|| format!("the log in {} is not whole", args.dir.display()))?;
    anyhow::ensure!(files > 0, "there is no audit log in {}", args.dir.display());
    println!("whole: {lines} lines in {files} files, numbers {first} to {last}, the last with SHA-256 {hash}");
    if first > 1 {
        println!("lines 1 to {} are not there: the oldest files are removed when the log is at its bound", first - 1);
    }
    if unfinished {
        println!("the last line is not finished: it is being written, or that was interrupted");
    }
    Ok(())
}
