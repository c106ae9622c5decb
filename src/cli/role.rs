//! `backstop controller|investigator|executor`: starts one role.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::cluster;
use crate::roles::Process;
use crate::settings::Settings;
use crate::{tap, telemetry};

/// Arguments that every role takes.
#[derive(clap::Args)]
pub struct Args {
    /// Settings file; the chart renders it.
    #[arg(long, default_value = "/etc/backstop/config.yaml")]
    config: PathBuf,
    /// Address for intake (controller), health and metrics.
    #[arg(long, default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// Name of this pod: the holder of Leases.
    #[arg(long, env = "POD_NAME", default_value = "backstop")]
    pod_name: String,
    /// Namespace of this pod: the system namespace.
    #[arg(long, env = "POD_NAMESPACE", default_value = "backstop-system")]
    pod_namespace: String,
    /// Address of a test that may hold this process at its taps; see docs/testing.md.
    #[arg(long, env = tap::TAPS, hide = true, default_value = "")]
    taps: String,
}

/// Reads the settings, starts logging, connects.
pub async fn start(args: Args) -> anyhow::Result<Process> {
    let settings = Settings::read(&args.config)?;
    telemetry::init(settings.log_format, &settings.log_level)?;
    tap::listener_is(args.taps);
    let client = cluster::connect().await?;
    Ok(Process { client, settings, pod: args.pod_name, system: args.pod_namespace, listen: args.listen })
}
