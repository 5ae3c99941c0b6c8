//! The command line: `testbed demo | up | down | status | env | build`.
#![allow(clippy::print_stdout, reason = "this is what prints for the person at the terminal")]

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::argo::CrdFlavour;
use crate::layout::{CONTROL, DEFAULT_NAME, Layout, Nodes, State};
use crate::programs::{Needs, Programs};
use crate::progress::Progress;
use crate::testbed::{Options, Testbed, down, running};
use crate::{demo, links, player};

/// Several Kubernetes clusters with Argo Workflows and Argosy on this machine: `control`, where workflows are created,
/// and `cluster1`, `cluster2`, …, where they run.
///
/// The first `up` builds Kubernetes, etcd, Argo Workflows, Helm and (for artifacts) an S3 server from their sources (about
/// 15 minutes on 2 cores, kept in a cache); later ones take seconds.
#[derive(Parser)]
#[command(name = "testbed", max_term_width = 110, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  testbed demo                            bring everything up and watch workflows being placed
  testbed up                              two workload clusters, Argo Workflows and Argosy
  eval \"$(testbed env control)\"           then kubectl and argo talk to the control cluster
  testbed up --name mine --nodes played   a second testbed beside it, without root or containers
  testbed down";

#[derive(Subcommand)]
enum Command {
    /// Bring a testbed up, run the demonstration workflows, and report where each ran and why
    Demo(Wanted),
    /// Bring a testbed up; what runs already is left alone
    Up(Wanted),
    /// End a testbed with everything it started, also what a killed run left behind
    Down(Name),
    /// Show what runs, and where its logs are
    Status(Name),
    /// Print `export` lines for a shell: KUBECONFIG of one cluster, and PATH with kubectl, argo, helm
    Env {
        /// control, cluster1, cluster2, …
        #[arg(default_value = CONTROL)]
        cluster: String,
        #[command(flatten)]
        name: Name,
    },
    /// Build the programs only
    Build {
        /// For which kind of nodes; real ones need a few programs more
        #[arg(long, value_enum, default_value_t = Nodes::Real)]
        nodes: Nodes,
    },
    /// Play the kubelet of a cluster (started by `up --nodes played`)
    #[command(hide = true)]
    Play(player::Args),
    /// Forward connections, or fail to (started by `up --links`)
    #[command(hide = true)]
    Links(links::Args),
}

#[derive(Args)]
struct Name {
    /// Which testbed; those of different names run side by side
    #[arg(long, default_value = DEFAULT_NAME)]
    name: String,
}

#[derive(Args)]
struct Wanted {
    #[command(flatten)]
    name: Name,
    /// Nodes that run pods (root on Linux), or a player in their place (any user) [default: real, where possible]
    #[arg(long, value_enum)]
    nodes: Option<Nodes>,
    /// How many workload clusters [default: 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=30))]
    wecs: Option<u8>,
    /// Leave Argosy out: clusters with Argo Workflows only
    #[arg(long)]
    no_argosy: bool,
    /// Which of Argo's CRDs to install
    #[arg(long, value_enum, default_value_t)]
    crds: CrdFlavour,
    /// Run argo-server in the control cluster, too
    #[arg(long)]
    argo_server: bool,
    /// Give Argo a PostgreSQL: for its archive, and for all nodes of the workload clusters' workflows (played nodes only)
    #[arg(long)]
    database: bool,
    /// Give Argo in all clusters one S3 server for artifacts and archived logs
    #[arg(long)]
    artifacts: bool,
    /// Put proxies between Argosy's programs and the API servers, which tests tell to fail (played nodes only)
    #[arg(long)]
    links: bool,
}

/// Runs the command that the process was started with.
pub async fn main() -> ExitCode {
    match dispatch(Cli::parse().command).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("testbed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn dispatch(command: Command) -> Result<ExitCode> {
    let progress = Progress::new();
    match command {
        Command::Demo(wanted) => {
            let testbed = Testbed::up(&demo::with_artifacts(wanted.options())?, progress).await?;
            demo::run(&testbed).await?;
        }
        Command::Up(wanted) => next_steps(&Testbed::up(&wanted.options(), progress).await?)?,
        Command::Down(Name { name }) => {
            if !down(&Layout::of_this_checkout(&name)?, &progress).await? {
                println!("testbed {name:?} was not up");
            }
        }
        Command::Status(Name { name }) => return status(&Layout::of_this_checkout(&name)?).await,
        Command::Env { cluster, name } => env(&name.name, &cluster).await?,
        Command::Build { nodes } => {
            let layout = Layout::of_this_checkout(DEFAULT_NAME)?;
            // What the demonstration and the tests take on such nodes.
            let needs = Needs { nodes, artifacts: nodes == Nodes::Real };
            Programs::prepare(&layout, needs, &progress).await?;
            println!("programs are in {}", layout.bin().display());
        }
        Command::Play(args) => {
            tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
            player::run(args).await?;
        }
        Command::Links(args) => {
            tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
            links::run(args).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Wanted {
    fn options(&self) -> Options {
        Options {
            name: self.name.name.clone(),
            nodes: self.nodes,
            wecs: self.wecs,
            argosy: !self.no_argosy,
            crds: self.crds,
            argo_server: self.argo_server,
            database: self.database,
            artifacts: self.artifacts,
            links: self.links,
        }
    }
}

fn name_option(name: &str) -> String {
    if name == DEFAULT_NAME { String::new() } else { format!(" --name {name}") }
}

fn next_steps(testbed: &Testbed) -> Result<()> {
    let name = name_option(testbed.layout.name());
    let clusters: Vec<_> = testbed.clusters().map(|cluster| cluster.name.as_str()).collect();
    println!("\n{} with {} nodes are up: {}", count(clusters.len()), testbed.state.nodes, clusters.join(", "));
    println!("\n  eval \"$(target/release/testbed env{name} control)\"   # kubectl, argo and helm for this shell");
    println!("  kubectl get workflows -A");
    println!("  target/release/testbed status{name}                 # what runs, and where its logs are");
    println!("  target/release/testbed down{name}                   # when you are done");
    if let Some(url) = testbed.argo_server()? {
        println!("\nargo-server is at {url}; it takes tokens of the control cluster (`kubectl create token`)");
    }
    Ok(())
}

fn count(clusters: usize) -> String {
    if clusters == 1 { "1 cluster".to_owned() } else { format!("{clusters} clusters") }
}

async fn env(name: &str, cluster: &str) -> Result<()> {
    let testbed = Testbed::open(name, Progress::silent()).await?;
    let quote = |text: String| format!("'{}'", text.replace('\'', r"'\''"));
    let kubeconfig = testbed.cluster(cluster)?.kubeconfig.display().to_string();
    println!("export KUBECONFIG={}", quote(kubeconfig));
    println!("export PATH={}:\"$PATH\"", quote(testbed.layout.bin().display().to_string()));
    Ok(())
}

/// Says what runs; the exit code is 0 only if the testbed is up wholly and every API server answers.
async fn status(layout: &Layout) -> Result<ExitCode> {
    let running = running(layout);
    let Some(state) = State::load(layout)? else {
        let left: usize = running.values().map(Vec::len).sum();
        match left {
            0 => println!("testbed {:?} is not up", layout.name()),
            left => println!(
                "testbed {:?} is not up, but {left} of its processes are; `testbed down` ends them",
                layout.name()
            ),
        }
        return Ok(ExitCode::FAILURE);
    };
    let wholly = if state.complete { "" } else { " (not wholly: `testbed up` completes it)" };
    println!("testbed {:?} is up{wholly}: {} nodes, logs in {}", layout.name(), state.nodes, layout.logs().display());
    let mut fine = state.complete;
    for cluster in state.clusters() {
        let answer = health(layout, &cluster).await;
        fine &= answer.is_ok();
        let health = answer.map_or_else(|error| format!("API server: {error:#}"), |()| "API server ready".to_owned());
        let daemons = running.get(&cluster).cloned().unwrap_or_default().join(", ");
        println!(
            "\n{cluster}: {health}\n  daemons:    {daemons}\n  kubeconfig: {}",
            layout.kubeconfig(&cluster).display()
        );
    }
    for (shared, daemons) in running.iter().filter(|(name, _)| !state.clusters().contains(name)) {
        println!("\n{shared}: {}", daemons.join(", "));
    }
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn health(layout: &Layout, cluster: &str) -> Result<()> {
    let kubeconfig = kube::config::Kubeconfig::read_from(layout.kubeconfig(cluster))?;
    let client = crate::cluster::client(kubeconfig).await?;
    let asked = crate::cluster::control_plane::readyz(client);
    tokio::time::timeout(std::time::Duration::from_secs(5), asked).await?
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
