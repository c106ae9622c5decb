//! The `backstop` program.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    backstop::cli::run().await
}
