//! `kubectl argosy drained`: whether anything is on its way that nobody would see to if Argosy went. The chart asks before
//! `helm uninstall`.

use anyhow::{Result, bail};
use clap::Args;

use crate::connect::ControlArgs;
use crate::print;
use crate::workflows::{listed, routed};

/// Fail while routed workflows are not completed
///
/// Of one cluster, or of all of them and those that wait for one. `helm uninstall` of the chart argosy asks this first, and
/// goes no further where it fails: nobody would bring their status back, and those that wait would wait for ever.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DrainedArgs {
    /// Name of the cluster [default: every cluster]
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  kubectl argosy drained && helm uninstall argosy -n argosy

  # Uninstall all the same; `kubectl argosy leave NAME --force` releases what is left in the clusters
  helm uninstall argosy -n argosy --no-hooks";

/// Runs the verb.
pub async fn run(args: DrainedArgs, control: &ControlArgs) -> Result<()> {
    let control = control.client().await?;
    let left = routed(&control, args.name.as_deref()).await?;
    let left: Vec<String> = left.into_iter().map(|workflow| workflow.name).collect();
    match listed(&left, "routed workflow is not completed", "routed workflows are not completed") {
        Some(left) => bail!(
            "{left}; wait for them, stop or delete them (`kubectl argosy clusters` counts them by cluster, and with \
             spec.cordoned a cluster gets no new ones)"
        ),
        None => print("no routed workflow is on its way\n"),
    }
}
