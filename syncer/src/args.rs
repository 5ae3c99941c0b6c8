//! The command line.

use std::time::Duration;

use argosy_runtime::admin::AdminArgs;
use argosy_runtime::client::ClientArgs;
use argosy_runtime::telemetry::LogArgs;
use clap::Parser;

/// Argosy's syncer: delivers routed workflows to their clusters and brings their status back.
///
/// It works on every WorkloadCluster whose Lease it holds; several replicas share the clusters among themselves.
#[derive(Debug, Parser)]
#[command(name = "argosy-syncer", version)]
pub struct Args {
    /// Namespace of the kubeconfig Secrets and the Leases
    #[arg(long, env = "POD_NAMESPACE", default_value = "argosy")]
    pub namespace: String,
    /// Who this process is among the holders of Leases: unique, and the same after a restart
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub identity: String,
    /// Identity of the control cluster on the copies [default: the UID of its kube-system namespace]
    #[arg(long, value_name = "ID")]
    pub control_id: Option<String>,
    /// How long copies of templates, ConfigMaps and Secrets stay in a cluster where no workflow uses them any more
    #[arg(long, default_value = "5m", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub keep_unused: Duration,
    #[command(flatten)]
    pub client: ClientArgs,
    #[command(flatten)]
    pub admin: AdminArgs,
    #[command(flatten)]
    pub logs: LogArgs,
}
