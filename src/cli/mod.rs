//! The command line: one file per subcommand.

mod answer;
mod asking;
mod audit;
mod breaker;
mod crd;
mod diagnose;
mod disarm;
mod eval;
mod facts;
mod files;
mod lint;
mod policy;
mod role;
mod timeline;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::api::v1alpha1::ApprovalAnswer;
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
    /// Approves the exact write that an incident waits for, in your name.
    Approve(answer::Args),
    /// Denies the exact write that an incident waits for, in your name: that ends it.
    Deny(answer::Args),
    /// Writes the custom resource definitions.
    Crd(crd::Args),
    /// Runs the controller, which receives alerts, decides and grants writes.
    Controller(role::Args),
    /// Runs the investigator, which gathers facts and diagnoses.
    Investigator(role::Args),
    /// Runs the executor, which makes the granted writes.
    Executor(role::Args),
    /// Removes Backstop's labels from every workload of the given namespaces.
    Disarm(disarm::Args),
    /// Verifies the hash chain of an audit log.
    Audit(audit::Args),
    /// Shows the cascade breakers, and resets them in your name.
    Breaker(breaker::Args),
    /// Runs one diagnosis from files, without a cluster, and prints each attempt.
    Diagnose(diagnose::Args),
    /// Exports what Investigations saw.
    Facts(facts::Args),
    /// Checks Policies, Runbooks and ModelChains in files, without a cluster.
    Lint(lint::Args),
    /// Checks the models of a chain.
    Models(diagnose::ModelsArgs),
    /// Shows what Policies say.
    Policy(policy::Args),
    /// Shows what happened in an incident, and with --follow what happens.
    Timeline(timeline::Args),
}

/// Runs the program; the exit code says whether it succeeded.
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
        Command::Approve(args) => answer::run(args, ApprovalAnswer::Approve).await,
        Command::Deny(args) => answer::run(args, ApprovalAnswer::Deny).await,
        Command::Crd(args) => crd::run(args),
        Command::Controller(args) => controller::main(role::start(args).await?).await,
        Command::Investigator(args) => investigator::main(role::start(args).await?).await,
        Command::Executor(args) => executor::main(role::start(args).await?).await,
        Command::Disarm(args) => disarm::run(args).await,
        Command::Audit(args) => audit::run(&args),
        Command::Breaker(args) => breaker::run(args).await,
        Command::Diagnose(args) => diagnose::run(args).await,
        Command::Facts(args) => facts::run(args).await,
        Command::Lint(args) => lint::run(&args),
        Command::Models(args) => diagnose::models(args).await,
        Command::Policy(args) => policy::run(args).await,
        Command::Timeline(args) => timeline::run(args).await,
    }
}
