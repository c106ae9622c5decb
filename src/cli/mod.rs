//! The command line: one file per subcommand.

mod crd;
mod disarm;
mod role;
mod timeline;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::roles::{controller, executor, investigator};

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
    /// Runs the investigator: the mind.
    Investigator(role::Args),
    /// Runs the executor: the hands.
    Executor(role::Args),
    /// Disarms every workload of some namespaces.
    Disarm(disarm::Args),
    /// Tells what happened in an incident, or happens.
    Timeline(timeline::Args),
}

/// Runs the program and tells how it ended.
pub async fn run() -> ExitCode {
    // Two TLS providers may be linked; the choice must not depend on who builds a client first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match dispatch(Cli::parse().command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("backstop: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn dispatch(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Crd(args) => crd::run(args),
        Command::Controller(args) => controller::main(role::start(args).await?).await,
        Command::Investigator(args) => investigator::main(role::start(args).await?).await,
        Command::Executor(args) => executor::main(role::start(args).await?).await,
        Command::Disarm(args) => disarm::run(args).await,
        Command::Timeline(args) => timeline::run(args).await,
    }
}
