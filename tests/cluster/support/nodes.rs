//! What only the machine below the cluster can do: kill a container's process, restart the API server.

use std::{
    fs,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::Place;

/// A running container.
#[derive(Clone, Debug)]
pub struct Container {
    /// Name of the node.
    pub node: String,
    /// Id as the container runtime knows it.
    pub id: String,
    /// Its processes on this machine, where they can be seen from here.
    pids: Vec<u32>,
}

/// The machinery that a cluster runs on.
#[derive(Clone, Debug)]
pub enum Nodes {
    /// The lab: containers are processes of this machine; the command is its own command line.
    Lab(Vec<String>),
    /// kind: nodes are containers of Docker, or of what stands in for it.
    Kind(String),
}

impl Nodes {
    /// By the value of `CLUSTER`.
    pub fn of(place: &Place) -> Result<Nodes> {
        match place.cluster.as_str() {
            "lab" => Ok(Nodes::Lab(place.lab.split_whitespace().map(str::to_string).collect())),
            "kind" if place.kind_provider.is_empty() => Ok(Nodes::Kind("docker".into())),
            "kind" => Ok(Nodes::Kind(place.kind_provider.clone())),
            other => bail!("CLUSTER={other}: the suite kills processes on nodes and works with lab or kind only"),
        }
    }

    /// Finds the processes of a container by its id.
    pub fn find(&self, node: &str, id: &str) -> Result<Container> {
        let id = id.rsplit('/').next().unwrap_or_default().to_string();
        ensure!(!id.is_empty(), "the container has no id yet");
        let mut pids = Vec::new();
        if let Nodes::Lab(_) = self {
            for entry in fs::read_dir("/proc")?.flatten() {
                let pid = entry.file_name().to_string_lossy().parse::<u32>();
                // A process that ended meanwhile is none of ours.
                let cgroup = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
                if let (Ok(pid), true) = (pid, cgroup.contains(&id)) {
                    pids.push(pid);
                }
            }
            ensure!(!pids.is_empty(), "no process on this machine belongs to container {id}");
        }
        Ok(Container { node: node.into(), id, pids })
    }

    /// Ends a container's processes without their knowledge.
    pub async fn kill(&self, container: &Container) -> Result<()> {
        let Container { node, id, pids } = container;
        match self {
            Nodes::Lab(_) => {
                let pids = pids.iter().map(u32::to_string).collect::<Vec<_>>();
                run(Command::new("kill").arg("-9").args(pids)).await.map(drop)
            }
            Nodes::Kind(docker) => {
                let kill = ["exec", node, "ctr", "-n", "k8s.io", "tasks", "kill", "-s", "9", id];
                run(Command::new(docker).args(kill)).await.map(drop)
            }
        }
    }

    /// Ends the API server and starts it again.
    pub async fn restart_api_server(&self) -> Result<()> {
        match self {
            Nodes::Lab(lab) => {
                run(Command::new(&lab[0]).args(&lab[1..]).args(["restart", "kube-apiserver"])).await.map(drop)
            }
            Nodes::Kind(docker) => {
                let role = "label=io.x-k8s.kind.role=control-plane";
                let nodes = run(Command::new(docker).args(["ps", "--filter", role, "--format", "{{.Names}}"])).await?;
                let node = nodes.lines().next().context("no control plane of kind is running")?;
                // The kubelet starts the static pod again.
                run(Command::new(docker).args(["exec", node, "pkill", "-x", "kube-apiserver"])).await.map(drop)
            }
        }
    }
}

/// Runs a command and turns a failure into its output.
pub async fn run(command: &mut Command) -> Result<String> {
    let mut command = std::mem::replace(command, Command::new(""));
    tokio::task::spawn_blocking(move || {
        let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {command:?}"))?;
        let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "{command:?} failed: {out}{error}");
        Ok(out.into_owned())
    })
    .await?
}
