//! `kubectl argosy`: a file for each verb. `connect` finds the clusters as kubectl does.

mod adopt;
mod ask;
mod clusters;
mod connect;
mod drained;
mod explain;
mod join;
mod leave;
mod member;
mod ownership;
mod sharing;
mod suspend;
mod workflows;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::connect::ControlArgs;

/// Argo Workflows over many clusters: which clusters there are, and what runs where.
///
/// The current context is the control cluster's, where workflows are created; --context and --kubeconfig choose another,
/// as with kubectl.
#[derive(Debug, Parser)]
#[command(name = "kubectl-argosy", bin_name = "kubectl argosy", version, max_term_width = 110, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    control: ControlArgs,
    #[command(subcommand)]
    verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  # Let the workflows of namespace science run in the cluster of context paris
  kubectl argosy join paris --member-context paris --namespaces science --labels region=eu

  # Which clusters there are, what is free there, and what runs
  kubectl argosy clusters

  # Where this workflow would run, and why
  kubectl argosy explain -n science -f train.yaml";

#[derive(Debug, Subcommand)]
enum Verb {
    Join(join::JoinArgs),
    Leave(leave::LeaveArgs),
    Adopt(adopt::AdoptArgs),
    Drained(drained::DrainedArgs),
    #[command(visible_alias = "cluster")]
    Clusters(clusters::ClustersArgs),
    Explain(explain::ExplainArgs),
    Suspend(suspend::SuspendArgs),
    Resume(suspend::ResumeArgs),
}

/// Runs what the command line asks for.
pub async fn main() -> ExitCode {
    let Cli { control, verb } = Cli::parse();
    let done = match verb {
        Verb::Join(args) => join::run(args, &control).await,
        Verb::Leave(args) => leave::run(args, &control).await,
        Verb::Drained(args) => drained::run(args, &control).await,
        Verb::Adopt(args) => adopt::run(args, &control).await,
        Verb::Clusters(args) => clusters::run(args, &control).await,
        Verb::Explain(args) => explain::run(args, &control).await,
        Verb::Suspend(args) => suspend::suspend(args, &control).await,
        Verb::Resume(args) => suspend::resume(args, &control).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Writes to standard output. A reader that has gone (`| head`) is no error.
fn print(text: &str) -> anyhow::Result<()> {
    use std::io::{ErrorKind, Write};
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
