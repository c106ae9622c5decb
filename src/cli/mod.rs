//! The command line: one file per subcommand.

mod crd;
mod role;
mod timeline;
mod disarm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// An on-call SRE agent for Kubernetes that stays safe when the model is up but wrong.
#[derive(Parser)]
#[command(name = "backstop", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Writes the custom resource definitions.
    Crd(crd::Args),
    /// Runs the controller: the judge.
    Controller(role::Args),
    /// Disarms every workload of some namespaces.
    Disarm(disarm::Args),
    /// Tells what happened in an incident, or happens.
    Timeline(timeline::Args),
}

/// Runs the program and tells how it ended.
pub async fn run() -> ExitCode {
    // Two TLS providers may be linked; the choice must not depend on who builds a client first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let outcome = match Cli::parse().command {
        Command::Crd(args) => crd::run(args),
        Command::Controller(args) => controller(args).await,
        Command::Disarm(args) => disarm::run(args).await,
        Command::Timeline(args) => timeline::run(args).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("backstop: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn controller(args: role::Args) -> anyhow::Result<()> {
    crate::roles::controller::main(role::start(args).await?).await
}
