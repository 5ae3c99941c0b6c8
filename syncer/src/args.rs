//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use argosy_runtime::admin::AdminArgs;
use argosy_runtime::client::ClientArgs;
use argosy_runtime::telemetry::LogArgs;
use clap::Parser;

use crate::kubelet::KubeletArgs;

/// Argosy's syncer: delivers routed workflows to their clusters and brings their status back.
///
/// It works on every WorkloadCluster whose Lease it holds; several replicas share the clusters among themselves. With
/// --cluster it is a program inside of one cluster, which it serves alone.
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
    #[command(flatten)]
    pub kubelet: KubeletArgs,
    // Last, for its heading goes on.
    #[command(flatten)]
    pub inside: InsideArgs,
}

/// Of a syncer inside of the cluster that it serves.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Inside of a workload cluster")]
pub struct InsideArgs {
    /// Serve this WorkloadCluster alone, from inside (its spec.syncMode is Pull); --kubeconfig leads to the control cluster,
    /// where --namespace is Argosy's
    #[arg(long, value_name = "NAME", requires = "kubeconfig", conflicts_with = "kubelet_listen")]
    pub cluster: Option<String>,
    /// Kubeconfig of the workload cluster; without it: the pod's service account
    #[arg(long, value_name = "FILE", requires = "cluster")]
    pub member_kubeconfig: Option<PathBuf>,
    /// Secret in the workload cluster with the token for the control cluster, under key "token", which is renewed there
    #[arg(long, value_name = "NAMESPACE/NAME", requires = "cluster", value_parser = secret)]
    pub token_secret: Option<(String, String)>,
}

fn secret(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => Ok((namespace.into(), name.into())),
        _ => Err("expected NAMESPACE/NAME".to_owned()),
    }
}
